"""Parametric sparse systems ``A(theta) x = b(theta)``: one factorisation for each theta, gradients of any responses."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from femadj.algebra.implicit import Implicit
from femadj.algebra.plain import (
    THETA,
    CallableSystem,
    MatrixAndRhs,
    MatrixLike,
    ParametricSystem,
    PlainResidual,
    described,
    random_like,
    require_derivative,
)
from femadj.algebra.residual import AtDesign, Residual, State, Weights
from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import as_argument, as_array, called, key_of, samples
from femadj.base.complex_step import derivative, seed
from femadj.base.design import Cotangent, Design
from femadj.errors import LinearSystemError, ResponseError
from femadj.progress import Phases, Progress
from femadj.solvers import get_solver
from femadj.solvers.base import Factor, MatrixKind, Solver, Symbolic
from femadj.solvers.structure import CsrPattern

Mode = Literal["auto", "adjoint", "tangent"]

MOST_EVALUATIONS = 4000
"""Evaluations of a response that its derivative by complex step may take."""

POINTS = "points"
"""The variable of a system whose theta are node coordinates."""

_BRANCHES = 8
_BLOCK_ENTRIES = 2**24


@dataclass(frozen=True)
class Counts:
    """How often the expensive things were done.

    Attributes
    ----------
    analyses : int
        Symbolic analyses.
    factorisations : int
        Numeric factorisations.
    """

    analyses: int
    factorisations: int


@dataclass(frozen=True, eq=False)
class ResponseEvaluation:
    """Value and partial derivatives of a response ``J(x, theta)``. What is ``None`` is zero.

    Attributes
    ----------
    value : float
    dx : (n,) or None
        By the unknowns, at fixed theta.
    dtheta : array in the shape of theta, or None
        By theta, at fixed unknowns.
    """

    value: float
    dx: npt.ArrayLike | None = None
    dtheta: npt.ArrayLike | None = None


Response = Callable[[FloatArray, Any], Any]
"""``J(x, theta)``: returns a number, and is then differentiated by complex step, or a ``ResponseEvaluation``."""


@dataclass(frozen=True, eq=False)
class SystemGradient:
    """Total derivatives of a response ``J(x(theta), theta)``.

    Attributes
    ----------
    theta : float or array in the shape of theta
        ``dJ/dtheta``.
    rhs : (n,) or None
        ``dJ/db``: the adjoint state ``lam``. None in tangent mode, which has no adjoint state.
    mode : "adjoint" or "tangent"
    solves : int
        Right-hand sides solved beyond ``A x = b``. Adjoint: 1, or 0 for a response that does not depend on ``x``.
        Tangent: one for each entry of theta, which all responses of the call share.
    factorisations : int
        Factorisations of the call: 1 when it was given theta, 0 when it was given a solution.
    x : (n,)
        The unknowns.
    pattern : CsrPattern
        Structure of the matrix.
    """

    theta: float | FloatArray
    rhs: FloatArray | None
    mode: Literal["adjoint", "tangent"]
    solves: int
    factorisations: int
    x: FloatArray
    pattern: CsrPattern

    @property
    def matrix(self) -> sp.csr_array | None:
        """``dJ/dA_ij = -lam_i x_j`` at every nonzero of A, both triangles, (n, n); None in tangent mode.

        Built at every access. ``(gradient.matrix * dA).sum()`` is the change of J for a change ``dA`` on the pattern.
        """
        if self.rhs is None:
            return None
        n, pattern = self.pattern.n, self.pattern
        rows, columns = pattern.rows, pattern.indices
        if pattern.triangle == "full":
            values = -self.rhs[rows] * self.x[columns]
            return sp.csr_array((values, columns.copy(), pattern.indptr.copy()), shape=(n, n))
        lower = rows != columns
        both = np.concatenate([rows, columns[lower]]), np.concatenate([columns, rows[lower]])
        return sp.csr_array(sp.coo_array((-self.rhs[both[0]] * self.x[both[1]], both), shape=(n, n)))


class LinearSystem:
    """``A(theta) x = b(theta)`` with sparse A, and derivatives of responses ``J(x, theta)``.

    The structure of A is analysed once, and again only when A has an entry where it had none before. Every theta
    takes one factorisation, which serves the solve and all adjoint or tangent solves. Derivatives of A and b are given
    in one of three ways: as a contraction, as matrices, or not at all: then both functions are differentiated by
    guarded complex step, one evaluation for each entry of theta.

    Parameters
    ----------
    matrix : callable
        ``matrix(theta)``: scipy.sparse matrix or (n, n) array, both triangles. Its zeros may differ from call to call.
        A matrix instead of a function is a constant.
    rhs : callable
        ``rhs(theta)``: (n,) array. An array instead of a function is a constant.
    contraction : callable, optional
        ``contraction(theta, x, lam)``: ``lam^T (dA/dtheta x - db/dtheta)``, in the shape of theta, for any ``x`` and
        ``lam`` (n,).
    derivatives : callable, optional
        ``derivatives(theta)``: list of pairs ``(dA_i, db_i)``, one for each entry of theta in C order, or a mapping
        from flat index to pair. ``None`` for one of the two, and a missing index, mean zero. Where given next to a
        contraction, it serves the tangent.
    kind : "general", "symmetric" or "spd"
        What A is at every theta; ``"spd"`` takes half the time and memory of ``"general"``.
    solver : str or Solver
        ``"auto"``, a name of ``available_solvers()``, or a solver object.
    threads : int, optional
        Threads of the solver.
    check : bool
        Compare derivatives with differences of the functions they belong to, along a random direction: those of A and
        b at the first gradient at every theta (6 evaluations of each, more near kinks), those of each response at every
        solution at which it is used.
    progress : Progress, optional
        Notified of every phase.

    Raises
    ------
    LinearSystemError, SolverError
        For arguments that are of the wrong kind.
    """

    def __init__(
        self,
        matrix: MatrixLike,
        rhs: MatrixLike,
        *,
        contraction: Callable[[Any, FloatArray, FloatArray], Any] | None = None,
        derivatives: MatrixLike | None = None,
        kind: MatrixKind = "general",
        solver: str | Solver = "auto",
        threads: int | None = None,
        check: bool = True,
        progress: Progress | None = None,
    ) -> None:
        system = CallableSystem(matrix, rhs, contraction, derivatives, kind, check)
        self._begin(PlainResidual(system), THETA, get_solver(solver, threads=threads), check, progress)

    @classmethod
    def of(
        cls,
        system: ParametricSystem,
        *,
        solver: str | Solver = "auto",
        threads: int | None = None,
        check: bool = True,
        progress: Progress | None = None,
    ) -> LinearSystem:
        """Solve and differentiate an object that assembles itself and knows its own derivatives.

        A pattern that is known already is analysed here. ``check`` concerns responses alone.
        """
        return cls.over(
            PlainResidual(system), THETA, get_solver(solver, threads=threads), check=check, progress=progress
        )

    @classmethod
    def over(
        cls,
        residual: Residual,
        variable: str,
        solver: Solver,
        *,
        check: bool = True,
        progress: Progress | None = None,
    ) -> LinearSystem:
        """A residual that is linear in its state, seen as ``A(theta) x = b(theta)``.

        ``theta`` is one part of its design: the node coordinates for the variable ``"points"``, else the parameter of
        that name.
        """
        system = cls.__new__(cls)
        system._begin(residual, variable, solver, check, progress)
        return system

    def _begin(self, residual: Residual, variable: str, solver: Solver, check: bool, progress: Progress | None) -> None:
        self._residual = residual
        self._variable = variable
        self._solver = solver
        self._progress = progress
        self._check = check
        self._symbolic: Symbolic | None = None
        self._before = Counts(0, 0)
        phases = Phases(progress)
        if residual.structure is not None:
            self._analysed(residual.structure, phases)
        self._seconds = phases.seconds

    def design(self, theta: FloatArray) -> Design:
        """The design, or direction, that a theta stands for."""
        return Design(points=theta) if self._variable == POINTS else Design(parameters={self._variable: theta})

    def theta_of(self, at: Design | Cotangent) -> FloatArray:
        """The part of a design, or of a cotangent, that theta is."""
        found = at.points if self._variable == POINTS else at.parameters[self._variable]
        assert found is not None
        return found

    # ------------------------------------------------------------------ what it consists of
    @property
    def residual(self) -> Residual:
        """What is solved: it knows matrix, right-hand side and their derivatives."""
        return self._residual

    @property
    def parametric(self) -> Residual:
        """The same, by its earlier name."""
        return self._residual

    @property
    def counts(self) -> Counts:
        """Analyses and factorisations so far."""
        if self._symbolic is None:
            return self._before
        return Counts(
            self._before.analyses + self._symbolic.analyses,
            self._before.factorisations + self._symbolic.factorisations,
        )

    @property
    def solver_name(self) -> str:
        """Name of the sparse direct solver in use."""
        return self._solver.name

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds of building the system, by phase."""
        return self._seconds

    def __repr__(self) -> str:
        size = "not assembled yet" if self._symbolic is None else f"{self._symbolic.pattern.n} unknowns"
        return f"LinearSystem({size}, {self._residual.kind}, solver {self.solver_name}, {self.counts})"

    # ------------------------------------------------------------------ solving
    def solve(self, theta: npt.ArrayLike) -> LinearSolution:
        """Assemble, factorise and solve at theta.

        Parameters
        ----------
        theta : float or array of any shape

        Returns
        -------
        LinearSolution
            Owns the factor; adjoint and tangent solves reuse it.

        Raises
        ------
        LinearSystemError
            When theta is no array of finite numbers, or when a function fails or returns something unusable.
        SingularSystemError, IndefiniteSystemError, IllConditionedError, ResidualError, NonFiniteError
            When the system has no trustworthy solution.
        """
        point = _as_theta(theta)
        phases = Phases(self._progress)
        with phases("assemble"):
            at = self._residual.at(self.design(point))
            at.jacobian(State(at.lifting))
        return self.solve_at(at, phases)

    def solve_at(self, at: AtDesign, phases: Phases | None = None) -> LinearSolution:
        """Factorise and solve what has been put at a design; ``phases`` measures and shows the phases."""
        phases = Phases(self._progress) if phases is None else phases
        symbolic = self._analysed(at.structure, phases)
        with phases("factorise"):
            factor = symbolic.factor(at.jacobian(State(at.lifting)).values, rounding=self._residual.rounding)
        with phases("solve"):
            implicit = Implicit.linear(at, factor)
        return LinearSolution(self, implicit, self.theta_of(at.design), implicit.state.u[0], phases.seconds)

    def _analysed(self, pattern: CsrPattern, phases: Phases) -> Symbolic:
        if self._symbolic is None or self._symbolic.pattern is not pattern:
            with phases("analyse"):
                symbolic = self._solver.analyse(pattern, self._residual.kind)
            if self._symbolic is not None:
                self._before = self.counts
                self._symbolic.close()
            self._symbolic = symbolic
        return self._symbolic

    # ------------------------------------------------------------------ gradients
    def value_and_gradient(
        self, at: npt.ArrayLike | LinearSolution, response: Response, *, mode: Mode = "auto"
    ) -> tuple[float, SystemGradient]:
        """Value and gradient of one response; see ``values_and_gradients``."""
        values, gradients = self.values_and_gradients(at, [response], mode=mode)
        return float(values[0]), gradients[0]

    def values_and_gradients(
        self, at: npt.ArrayLike | LinearSolution, responses: Sequence[Response], *, mode: Mode = "auto"
    ) -> tuple[FloatArray, tuple[SystemGradient, ...]]:
        """Values and gradients of several responses, for one factorisation (or none, when given a solution).

        Parameters
        ----------
        at : float, array or LinearSolution
            Theta, or the solution there.
        responses : sequence of callables
            ``J(x, theta)``, with ``x`` (n,) and ``theta`` read-only. It returns a number, and is then differentiated
            by guarded complex step (with few unknowns, or with few that it depends on), or a ``ResponseEvaluation``.
        mode : "auto", "adjoint" or "tangent"
            Adjoint: one solve for each response. Tangent: one solve for each entry of theta, shared by all responses.
            Auto: the tangent when theta has fewer entries than there are responses that depend on ``x`` (and when the
            system has no contraction without derivatives, and no preference of its own); otherwise the adjoint.

        Returns
        -------
        values : (n_responses,)
        gradients : tuple of SystemGradient

        Raises
        ------
        LinearSystemError
            As in ``solve``, and for an unknown mode.
        ResponseError
            When a response fails, returns something unusable, or takes too many evaluations to differentiate.
        ComplexStepError
            When a function without derivatives cannot be differentiated by complex step.
        VerificationError
            When a derivative disagrees with differences.
        """
        if mode not in get_args(Mode):
            raise LinearSystemError(f"mode must be 'auto', 'adjoint' or 'tangent', not {mode!r}")
        if not isinstance(responses, Sequence):
            raise ResponseError(f"responses must be a list of functions of (x, theta), not {type(responses).__name__}")
        if isinstance(at, LinearSolution):
            if at.system is not self:
                raise LinearSystemError("the solution belongs to another LinearSystem: call the methods of that one")
            solution, factorisations = at, 0
        else:
            solution, factorisations = self.solve(at), 1
        phases = Phases(self._progress)
        with phases("evaluate responses"):
            evaluations = [self._evaluated(response, number, solution) for number, response in enumerate(responses)]
        wanted = [number for number, e in enumerate(evaluations) if e.depends]
        fewer = solution.theta.size < len(wanted) and not self._residual.prefers_adjoint
        differentiate = _tangent if mode == "tangent" or (mode == "auto" and fewer) else _adjoint
        gradients = differentiate(solution, evaluations, wanted, phases)
        return (
            np.array([e.value for e in evaluations]),
            tuple(replace(gradient, factorisations=factorisations) for gradient in gradients),
        )

    def _evaluated(self, response: Response, number: int, solution: LinearSolution) -> _Partials:
        """Value and partial derivatives of a response, checked."""
        name = f"response {number} ({getattr(response, '__name__', type(response).__name__)})"
        if not callable(response):
            raise ResponseError(f"{name} must be a function of (x, theta)")
        x, theta = solution.x, solution.theta
        raw = called(response, name, x, as_argument(theta), error=ResponseError)
        value = _value(raw, name)
        if isinstance(raw, ResponseEvaluation):
            dx = np.zeros(x.shape) if raw.dx is None else as_array(raw.dx, x.shape, f"dx of {name}", ResponseError)
            dtheta = (
                None if raw.dtheta is None else as_array(raw.dtheta, theta.shape, f"dtheta of {name}", ResponseError)
            )
            advice = "Correct dx and dtheta of its ResponseEvaluation; what is None is zero"
        else:
            advice = (
                "Write it with NumPy operations on x and theta, or return fa.ResponseEvaluation(value, dx, dtheta) "
                "with its partial derivatives"
            )

            def slope(*arguments: Any) -> float:
                result = np.asarray(derivative(called(response, name, *arguments, advice=advice)))
                if result.shape != ():
                    raise ResponseError(f"{name} must return one number, not an array of shape {result.shape}")
                return float(result)

            plain = as_argument(theta)
            dx = _gradient(lambda d: slope(seed(x, d), plain), x.shape, f"{name} by x")
            dtheta = _gradient(lambda d: slope(x, seed(theta, d)), theta.shape, f"{name} by theta")
        partials = _Partials(value, dx, dtheta)
        checked = solution.checked
        if self._check and not _holds(checked, response):
            _check_partials(response, name, advice, x, theta, partials)
            if type(response).__weakrefoffset__:  # remembered without being kept alive, where that is possible
                key = id(response)
                checked[key] = weakref.ref(response, lambda reference: _forget(checked, key, reference))
        return partials


@dataclass(frozen=True, eq=False)
class LinearSolution:
    """A system solved at one theta.

    Where unknowns are prescribed (finite elements), the system is ``K_FF x_F = f_F - K_FD g``, ``D x_D = D g`` with the
    diagonal ``D`` of the matrix.

    Attributes
    ----------
    system : LinearSystem
    implicit : Implicit
        The residual at theta, its state and the factorised matrix.
    theta : array in the shape of theta
    x : (n,)
        The unknowns.
    seconds : mapping of phase to seconds
    checked : dict
        Responses whose derivatives have been compared with differences at this solution.
    """

    system: LinearSystem
    implicit: Implicit
    theta: FloatArray
    x: FloatArray
    seconds: Mapping[str, float]
    checked: dict[int, weakref.ref[Any]] = field(default_factory=dict, repr=False)

    @property
    def factor(self) -> Factor:
        """The factorised matrix."""
        return self.implicit.factor

    @property
    def pattern(self) -> CsrPattern:
        """Structure of the matrix."""
        return self.implicit.at.structure

    @property
    def assembled(self) -> MatrixAndRhs:
        """Matrix entries on the pattern, and right-hand side."""
        at = self.implicit.at
        start, condensed = State(at.lifting), at.jacobian(self.implicit.state)
        rhs = at.constraints.restrict(-at.residual(start))[0]
        constrained = at.constraints.constrained
        rhs[constrained] = condensed.diagonal * start.u[0][constrained]
        return MatrixAndRhs(condensed.values, rhs)

    def solve(self, rhs: npt.ArrayLike) -> FloatArray:
        """Solve ``A y = rhs`` on the same factor, for ``rhs`` (n,) or one right-hand side a row, (k, n)."""
        return self._solved(rhs, transposed=False)

    def solve_adjoint(self, rhs: npt.ArrayLike) -> FloatArray:
        """Solve ``A^T lam = rhs`` on the same factor, for ``rhs`` (n,) or one right-hand side a row, (k, n)."""
        return self._solved(rhs, transposed=True)

    def pullback(self, lam: npt.ArrayLike) -> float | FloatArray:
        """``lam^T (db/dtheta - dA/dtheta x)`` for ``lam`` (n,), in the shape of theta; no solve."""
        weights = as_array(lam, self.x.shape, "lam", LinearSystemError)
        return _like(self.theta, _pullback(self, weights[None])[0])

    def pushforward(self, direction: npt.ArrayLike) -> FloatArray:
        """``db - dA x`` along a direction in the shape of theta, (n,); no solve."""
        along = as_array(direction, self.theta.shape, "direction", LinearSystemError)
        return _pushforward(self, along[None])[0]

    def tangent(self, direction: npt.ArrayLike) -> FloatArray:
        """``dx/dtheta`` along a direction in the shape of theta: one solve; shape (n,)."""
        return self.factor.solve(self.pushforward(direction))

    def _solved(self, rhs: npt.ArrayLike, *, transposed: bool) -> FloatArray:
        try:
            block = np.asarray(rhs, dtype=np.float64)
        except (TypeError, ValueError) as cause:
            raise LinearSystemError(f"the right-hand side must be an array of real numbers: {cause}") from cause
        n = len(self.x)
        if block.ndim not in (1, 2) or block.shape[-1] != n:
            raise LinearSystemError(f"the right-hand side must have shape ({n},) or (k, {n}), not {block.shape}")
        factor = self.factor.T if transposed else self.factor
        return np.ascontiguousarray(factor.solve(np.ascontiguousarray(block).T).T)


# ---------------------------------------------------------------------- the two modes
@dataclass(frozen=True, eq=False)
class _Partials:
    value: float
    dx: FloatArray
    dtheta: FloatArray | None

    @property
    def depends(self) -> bool:
        """Whether the response depends on the unknowns."""
        return bool(self.dx.any())


def _adjoint(
    solution: LinearSolution, evaluations: Sequence[_Partials], wanted: Sequence[int], phases: Phases
) -> list[SystemGradient]:
    """``A^T lam = dJ/dx`` as one block, and one contraction."""
    x, theta = solution.x, solution.theta
    adjoints, total = np.zeros((len(evaluations), len(x))), np.zeros((len(evaluations), *theta.shape))
    if wanted:
        with phases("solve adjoint"):
            adjoints[wanted] = solution.solve_adjoint(np.stack([evaluations[k].dx for k in wanted]))
        with phases("contract"):
            total[wanted] = _pullback(solution, adjoints[wanted])
    return [
        SystemGradient(_total(theta, through_x, e), lam, "adjoint", int(e.depends), 0, x, solution.pattern)
        for e, lam, through_x in zip(evaluations, adjoints, total, strict=True)
    ]


def _tangent(
    solution: LinearSolution, evaluations: Sequence[_Partials], wanted: Sequence[int], phases: Phases
) -> list[SystemGradient]:
    """``A dx/dtheta_i = db_i - dA_i x`` for all i, in blocks of bounded size."""
    x, theta = solution.x, solution.theta
    total = np.zeros((len(evaluations), theta.size))
    width = max(1, _BLOCK_ENTRIES // len(x))
    for start in range(0, theta.size if wanted else 0, width):
        numbers = np.arange(start, min(start + width, theta.size))
        directions = np.zeros((len(numbers), theta.size))
        directions[np.arange(len(numbers)), numbers] = 1.0
        with phases("contract"):
            rates = _pushforward(solution, directions.reshape(-1, *theta.shape))
        with phases("solve tangent"):
            rates_of_x = solution.solve(rates)
        for k in wanted:
            total[k, numbers] = (rates_of_x * evaluations[k].dx).sum(axis=1)
    solves = theta.size if wanted else 0
    return [
        SystemGradient(
            _total(theta, through_x.reshape(theta.shape), e), None, "tangent", solves, 0, x, solution.pattern
        )
        for e, through_x in zip(evaluations, total, strict=True)
    ]


def _total(theta: FloatArray, through_x: FloatArray, partials: _Partials) -> float | FloatArray:
    return _like(theta, through_x if partials.dtheta is None else through_x + partials.dtheta)


def _like(theta: FloatArray, gradient: FloatArray) -> float | FloatArray:
    return float(gradient) if theta.ndim == 0 else gradient


def _pullback(solution: LinearSolution, lam: FloatArray) -> FloatArray:
    """``lam^T (db - dA x)`` for every row of ``lam``, supports as rows of the system."""
    implicit, system = solution.implicit, solution.system
    at, constraints = implicit.at, implicit.at.constraints
    free = constraints.restrict(lam)
    weights = [Weights(row[None], row[None]) for row in free]
    if constraints.constrained.any():
        condensed = at.jacobian(implicit.state)
        held = np.zeros_like(lam)
        held[:, constraints.constrained] = condensed.diagonal * lam[:, constraints.constrained]
        held[:, constraints.constrained] -= (condensed.columns.T @ free.T).T
        weights = [Weights(w.internal, w.external, row[None]) for w, row in zip(weights, held, strict=True)]
    into = [_zeros(system, solution.theta) for _ in lam]
    at.pullback(implicit.state, weights, into)
    return np.stack([system.theta_of(cotangent) for cotangent in into])


def _zeros(system: LinearSystem, theta: FloatArray) -> Cotangent:
    wanted = system.design(np.zeros_like(theta))
    return Cotangent(wanted.points, wanted.parameters)


def _pushforward(solution: LinearSolution, directions: FloatArray) -> FloatArray:
    """``db - dA x`` along every direction, supports as rows of the system."""
    at, state = solution.implicit.at, solution.implicit.state
    rates, moved = at.pushforward(state, [solution.system.design(direction) for direction in directions])
    if moved.any():
        rates = rates + at.jvp(state, moved)
    result = at.constraints.restrict(-rates[:, 0])
    constrained = at.constraints.constrained
    result[:, constrained] = at.jacobian(state).diagonal * moved[:, 0, constrained]
    return result


# ---------------------------------------------------------------------- theta and responses
def _as_theta(theta: npt.ArrayLike) -> FloatArray:
    """A private copy of theta."""
    try:
        array = np.array(theta)
    except (TypeError, ValueError) as cause:
        raise LinearSystemError(f"theta must be a number or an array of numbers: {cause}") from cause
    if array.dtype.kind not in "fiu" or array.size == 0:
        raise LinearSystemError(
            f"theta must be a number or an array of real numbers, not {type(theta).__name__} with {array.dtype} "
            f"entries of shape {array.shape}"
        )
    point = array.astype(np.float64)
    if not np.isfinite(point).all():
        raise LinearSystemError(f"theta has NaN or infinite entries: {described(point)}")
    point.setflags(write=False)
    return point


def _value(raw: Any, name: str) -> float:
    value = np.asarray(raw.value if isinstance(raw, ResponseEvaluation) else raw)
    if value.shape != () or value.dtype.kind not in "fiu":
        raise ResponseError(
            f"{name} must return a real number or fa.ResponseEvaluation(value, dx, dtheta), not "
            f"{type(raw).__name__} with {value.dtype} entries of shape {value.shape}"
        )
    if not np.isfinite(value):
        raise ResponseError(f"{name} is {value}")
    return float(value)


def _gradient(slope: Callable[[FloatArray], float], shape: tuple[int, ...], name: str) -> FloatArray:
    """Gradient of a function from derivatives along directions.

    A block of variables along which, with random weights, the derivative is exactly zero has no part in the function;
    any other is divided further. That takes little more than one evaluation a variable where the function depends on
    all, and few where it depends on few.
    """
    size = int(np.prod(shape, dtype=int))
    gradient = np.zeros(size)
    weights = samples(size).uniform(0.5, 1.0, size)
    blocks, evaluations = [(0, size)], 0
    while blocks:
        evaluations += len(blocks)
        if evaluations > MOST_EVALUATIONS:
            raise ResponseError(
                f"{name}: the derivative by complex step would take more than {MOST_EVALUATIONS} evaluations, because "
                f"the response depends on too many of the {size} variables. Return fa.ResponseEvaluation(value, dx, "
                "dtheta) with its partial derivatives"
            )
        finer: list[tuple[int, int]] = []
        for start, stop in blocks:
            single = stop - start == 1
            direction = np.zeros(size)
            direction[start:stop] = 1.0 if single else weights[start:stop]
            along = slope(direction.reshape(shape))
            if single:
                gradient[start] = along
            elif along != 0.0:
                cuts = np.unique(np.linspace(start, stop, _BRANCHES + 1).astype(int))
                finer += list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
        blocks = finer
    return as_array(gradient.reshape(shape), shape, f"the derivative of {name} by complex step", ResponseError)


def _check_partials(
    response: Response, name: str, advice: str, x: FloatArray, theta: FloatArray, partials: _Partials
) -> None:
    """Compare the partial derivatives of a response with differences along a random direction of x and of theta."""
    rng = samples(key_of(x), key_of(theta))
    by_x, by_theta = random_like(x, rng), random_like(theta, rng)
    dtheta = np.zeros(theta.shape) if partials.dtheta is None else partials.dtheta

    def at(x: FloatArray, theta: FloatArray) -> FloatArray:
        return np.array([_value(called(response, name, x, as_argument(theta), error=ResponseError), name)])

    def check(at: Callable[[float], FloatArray], slopes: FloatArray, direction: FloatArray, what: str) -> None:
        size = abs(partials.value) + inner(np.abs(slopes), np.abs(direction))
        exact = np.array([inner(slopes, direction)])
        require_derivative(at, exact, np.array([size]), f"the derivative of {name} by {what}", advice)

    check(lambda t: at(x + t * by_x, theta), partials.dx, by_x, "x")
    check(lambda t: at(x, theta + t * by_theta), dtheta, by_theta, "theta")


def _holds(checked: Mapping[int, weakref.ref[Any]], response: Response) -> bool:
    reference = checked.get(id(response))
    return reference is not None and reference() is response


def _forget(checked: dict[int, weakref.ref[Any]], key: int, reference: weakref.ref[Any]) -> None:
    """Drop a response that no longer exists, unless another has taken its place."""
    if checked.get(key) is reference:
        del checked[key]


__all__ = [
    "MOST_EVALUATIONS",
    "POINTS",
    "Counts",
    "LinearSolution",
    "LinearSystem",
    "Mode",
    "ParametricSystem",
    "Response",
    "ResponseEvaluation",
    "SystemGradient",
]
