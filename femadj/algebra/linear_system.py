"""Parametric sparse systems ``A(theta) x = b(theta)``: one factorisation for each theta, gradients of any responses."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from femadj.algebra.analysis import Analysis, Counts
from femadj.algebra.callables import CallableSystem, MatrixAndRhs, MatrixLike, described
from femadj.algebra.implicit import Implicit
from femadj.algebra.plain import THETA, ParametricSystem, PlainResidual
from femadj.algebra.residual import AtDesign, Residual, State, Weights
from femadj.algebra.responses import Partials, Response, ResponseEvaluation, partials_of
from femadj.algebra.taylor import ADVICE, HIGHEST, Analytic, Line, Taylor
from femadj.base.arguments import flag, notified, one_of, real_array, sequence_of, whole_number
from femadj.base.arrays import FloatArray, not_numbers
from femadj.base.calls import as_array
from femadj.base.design import Cotangent, Design
from femadj.base.display import measured, shown
from femadj.base.pickling import HoldsSolver
from femadj.errors import FemadjError, LinearSystemError, ResponseError, VerificationError
from femadj.progress import Phases, Progress
from femadj.solvers import linear_solver
from femadj.solvers.base import Solver
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import MatrixKind
from femadj.solvers.structure import CsrPattern
from femadj.solvers.unknowns import PLAIN, Unknowns

Mode = Literal["auto", "adjoint", "tangent"]

POINTS = "points"
"""The variable of a system whose theta are node coordinates."""

_BLOCK_ENTRIES = 2**24

_SAME = 1e-7
"""How far, relative to the largest, the first order of a series may be from the derivative."""


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

    def __repr__(self) -> str:
        return shown(
            f"SystemGradient({self.mode}, solves: {self.solves}, factorisations: {self.factorisations})",
            theta=measured(np.asarray(self.theta)),
            rhs="" if self.rhs is None else measured(self.rhs),
        )

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


class LinearSystem(HoldsSolver):
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
    keep_factor : bool
        Whether every solution keeps the factor of its own matrix. Otherwise the system has one factor, that of the last
        solution or an earlier one, and former solutions iterate with it on their own matrix.
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
        keep_factor: bool = False,
        check: bool = True,
        progress: Progress | None = None,
    ) -> None:
        flag(check, "check", LinearSystemError)
        notified(progress, LinearSystemError)
        system = CallableSystem(matrix, rhs, contraction, derivatives, kind, check)
        self._analytic: Analytic | None = system
        self._begin(
            PlainResidual(system),
            THETA,
            linear_solver(solver, threads=threads, keep_factor=keep_factor),
            check,
            progress,
        )

    @classmethod
    def of(
        cls,
        system: ParametricSystem,
        *,
        solver: str | Solver = "auto",
        threads: int | None = None,
        keep_factor: bool = False,
        check: bool = True,
        progress: Progress | None = None,
    ) -> LinearSystem:
        """Solve and differentiate an object that assembles itself and knows its own derivatives.

        A pattern that is known already is analysed here. ``check`` concerns responses alone.
        """
        return cls.over(
            PlainResidual(system),
            THETA,
            linear_solver(solver, threads=threads, keep_factor=keep_factor),
            check=check,
            progress=progress,
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
        unknowns: Unknowns = PLAIN,
    ) -> LinearSystem:
        """A residual that is linear in its state, seen as ``A(theta) x = b(theta)``.

        ``theta`` is one part of its design: the node coordinates for the variable ``"points"``, else the parameter of
        that name. ``unknowns`` says what is known of the unknowns.
        """
        system = cls.__new__(cls)
        system._analytic = None
        system._begin(residual, variable, solver, check, progress, unknowns)
        return system

    def _begin(
        self,
        residual: Residual,
        variable: str,
        solver: Solver,
        check: bool,
        progress: Progress | None,
        unknowns: Unknowns = PLAIN,
    ) -> None:
        self._residual = residual
        self._variable = variable
        self._progress = progress
        self._check = check
        self._analysis = Analysis(solver, residual.kind, unknowns)
        phases = Phases(progress)
        if residual.structure is not None:
            self._analysis.prepare(residual.structure, phases)
        self._seconds = phases.seconds

    def prepare(self, n_modes: int) -> None:
        """Compile the kernels of the way that was chosen to solve; see ``Symbolic.prepare``."""
        self._analysis.prepare_kernels(n_modes)

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
        return self._analysis.counts

    @property
    def solver_name(self) -> str:
        """Name of the sparse direct solver in use."""
        return self._analysis.solver_name

    @property
    def needed_bytes(self) -> int | None:
        """Memory that a factor in double precision takes, before there is one; None where the solver does not tell.

        Where another way was chosen, the structure is analysed for it at the first call.
        """
        return self._analysis.needed_bytes

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds of building the system, by phase."""
        return self._seconds

    def __repr__(self) -> str:
        size = "not assembled yet" if self._analysis.n is None else f"{self._analysis.n} unknowns"
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
        point = as_theta(theta)
        phases = Phases(self._progress)
        with phases("assemble"):
            at = self._residual.at(self.design(point))
            at.jacobian(State(at.lifting))
        return self.solve_at(at, phases)

    def solve_at(self, at: AtDesign, phases: Phases | None = None) -> LinearSolution:
        """Factorise and solve what has been put at a design; ``phases`` measures and shows the phases."""
        phases = Phases(self._progress) if phases is None else phases
        values = at.jacobian(State(at.lifting)).values
        factor = self._analysis.factor(at.structure, values, phases, rounding=self._residual.rounding, modes=at.modes)
        with phases("solve"):
            implicit = Implicit.linear(at, factor)
        return LinearSolution(self, implicit, self.theta_of(at.design), implicit.state.u[0], phases.seconds)

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
        one_of(mode, get_args(Mode), "mode", LinearSystemError)
        sequence_of(responses, "responses", ResponseError, ": write [function of (x, theta)]")
        if isinstance(at, LinearSolution):
            if at.system is not self:
                raise LinearSystemError("the solution belongs to another LinearSystem: call the methods of that one")
            solution, factorisations = at, 0
        else:
            solution, factorisations = self.solve(at), 1
        phases = Phases(self._progress)
        with phases("evaluate responses"):
            evaluations = [
                partials_of(response, number, solution.x, solution.theta, solution.checked if self._check else None)
                for number, response in enumerate(responses)
            ]
        wanted = [number for number, e in enumerate(evaluations) if e.depends]
        fewer = solution.theta.size < len(wanted) and not self._residual.prefers_adjoint
        differentiate = _tangent if mode == "tangent" or (mode == "auto" and fewer) else _adjoint
        gradients = differentiate(solution, evaluations, wanted, phases)
        return (
            np.array([e.value for e in evaluations]),
            tuple(replace(gradient, factorisations=factorisations) for gradient in gradients),
        )


@dataclass(frozen=True, eq=False)
class LinearSolution(HoldsSolver):
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
    checked : weak mapping of id to response
        Responses whose derivatives have been compared with differences at this solution.
    """

    system: LinearSystem
    implicit: Implicit
    theta: FloatArray
    x: FloatArray
    seconds: Mapping[str, float]
    checked: weakref.WeakValueDictionary[int, Any] = field(default_factory=weakref.WeakValueDictionary, repr=False)

    def __repr__(self) -> str:
        return shown(
            f"LinearSolution({len(self.x)} unknowns, solver {self.system.solver_name})",
            theta=measured(self.theta),
            x=measured(self.x),
            factor=repr(self.factor),
        )

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

    def taylor(self, direction: npt.ArrayLike, order: int) -> Taylor:
        """The solution as a power series along a direction in the shape of theta, up to an order of at most 20.

        One solve an order on the same factor. For systems of functions alone, which are evaluated at some hundreds of
        complex theta and must be analytic there.

        Raises
        ------
        ComplexStepError
            When a function is not analytic.
        VerificationError
            When the first coefficients are not the derivatives of ``pushforward``.
        LinearSystemError
            For a direction of zeros or of another shape, an order out of range, and a system that is no function.
        """
        along = as_array(direction, self.theta.shape, "direction", LinearSystemError)
        whole_number(order, 1, "order", LinearSystemError)
        if order > HIGHEST or not along.any():
            raise LinearSystemError(f"a series needs an order of at most {HIGHEST} and a direction that is not zero")
        analytic = self.system._analytic
        if analytic is None:
            raise LinearSystemError("a series of any order needs matrix(theta) and rhs(theta) as functions")
        series = Taylor.of(self, Line(analytic, self.theta, along), order)
        known = self.tangent(along)
        if np.abs(series.x[1] - known).max() > _SAME * np.abs(known).max():
            raise VerificationError(
                "matrix(theta) or rhs(theta) mean something else at complex theta: the first order of the series is "
                f"not the derivative along the direction. {ADVICE}"
            )
        return series

    def _solved(self, rhs: npt.ArrayLike, *, transposed: bool) -> FloatArray:
        block = real_array(rhs, "the right-hand side", LinearSystemError, "an array of real numbers")
        n = len(self.x)
        if block.ndim not in (1, 2) or block.shape[-1] != n:
            raise LinearSystemError(f"the right-hand side must have shape ({n},) or (k, {n}), not {block.shape}")
        factor = self.factor.T if transposed else self.factor
        return np.ascontiguousarray(factor.solve(np.ascontiguousarray(block).T).T)


# ---------------------------------------------------------------------- the two modes
def _adjoint(
    solution: LinearSolution, evaluations: Sequence[Partials], wanted: Sequence[int], phases: Phases
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
    solution: LinearSolution, evaluations: Sequence[Partials], wanted: Sequence[int], phases: Phases
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


def _total(theta: FloatArray, through_x: FloatArray, partials: Partials) -> float | FloatArray:
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
        held[:, constraints.constrained] -= condensed.by_columns(free)
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
def as_theta(theta: npt.ArrayLike, error: type[FemadjError] = LinearSystemError) -> FloatArray:
    """A private copy of theta."""
    try:
        array = np.array(theta)
    except (TypeError, ValueError) as cause:
        raise error(f"theta must be a number or an array of numbers: {not_numbers(cause)}") from cause
    if array.dtype.kind not in "fiu" or array.size == 0:
        raise error(
            f"theta must be a number or an array of real numbers, not {type(theta).__name__} with {array.dtype} "
            f"entries of shape {array.shape}"
        )
    point = array.astype(np.float64)
    if not np.isfinite(point).all():
        raise error(f"theta has NaN or infinite entries: {described(point)}")
    point.setflags(write=False)
    return point


__all__ = [
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
