"""Systems ``r(x, theta) = 0`` that users solve themselves, by whatever iteration: derivatives of the solution.

By the implicit-function theorem, at the state that was found and on one factor of ``dr/dx`` there: how it was found
does not matter, nothing is unrolled. A state that is not quite a solution has a residual, and a gradient there an
error that two further solves on the same factor estimate, with Newton's correction ``dx = -(dr/dx)^-1 r``:

    J(x*) ~ J - lam . r,    G(x*) ~ G(x + dx, lam + dlam),    (dr/dx)^T dlam = dJ/dx - (dr/dx)^T lam   at x + dx.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from femadj.algebra.analysis import Analysis, Counts
from femadj.algebra.functions import JACOBIAN, Functions, FunctionsAtDesign, real_vector, require_solved
from femadj.algebra.growing import GrowingPattern
from femadj.algebra.implicit import Implicit, Seed
from femadj.algebra.linear_system import as_theta
from femadj.algebra.plain import THETA
from femadj.algebra.residual import State, Weights
from femadj.algebra.responses import Partials, Response, partials_of
from femadj.base.arguments import described, flag, notified, one_of, real_array, sequence_of
from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import as_array
from femadj.base.design import Cotangent, Design
from femadj.base.display import measured, shown
from femadj.base.pickling import HoldsSolver
from femadj.errors import LinearSystemError, ResponseError
from femadj.progress import Phases, Progress
from femadj.solvers import MatrixKind, Solver, get_solver


class ImplicitSystem(HoldsSolver):
    """``r(x, theta) = 0``, solved by the user, and derivatives of responses ``J(x, theta)``.

    One factorisation for each solution, which serves the check of the solution, all gradients and their errors.

    Parameters
    ----------
    residual : callable
        ``residual(x, theta)``: (n,) array. A fixed point ``x = g(x, theta)`` has the residual ``x - g(x, theta)``.
    solve : callable
        ``solve(theta)``: x (n,), by whatever iteration; it is not differentiated.
    jacobian : callable, optional
        ``jacobian(x, theta)``: ``dr/dx``, a scipy.sparse matrix or (n, n) array, both triangles. Left out, the residual
        is differentiated by guarded complex step, one evaluation for each unknown, up to 1 000.
    contraction : callable, optional
        ``contraction(x, theta, lam)``: ``lam^T dr/dtheta`` in the shape of theta, for any x and lam (n,). Left out, one
        complex step for each entry of theta.
    kind : "general", "symmetric" or "spd"
        What ``dr/dx`` is at every solution.
    tolerance : float
        Largest error of x, relative to its largest entry and by Newton's correction, that a solution may have.
    solver, threads, progress
        As in ``LinearSystem``.
    check : bool
        Compare derivatives with differences of the residual at every solution, along random directions, and those of
        responses.

    Raises
    ------
    LinearSystemError, SolverError
        For arguments that are of the wrong kind.
    """

    def __init__(
        self,
        residual: Callable[[Any, Any], Any],
        solve: Callable[[Any], Any],
        *,
        jacobian: Callable[[Any, Any], Any] | None = None,
        contraction: Callable[[Any, Any, Any], Any] | None = None,
        kind: MatrixKind = "general",
        tolerance: float = 1e-6,
        solver: str | Solver = "auto",
        threads: int | None = None,
        check: bool = True,
        progress: Progress | None = None,
    ) -> None:
        given = {"residual": residual, "solve": solve, "jacobian": jacobian, "contraction": contraction}
        for name, function in given.items():
            if not callable(function) and (function is not None or name in ("residual", "solve")):
                raise LinearSystemError(f"{name} must be a function, not {type(function).__name__}")
        one_of(kind, get_args(MatrixKind), "kind", LinearSystemError)
        flag(check, "check", LinearSystemError)
        notified(progress, LinearSystemError)
        allowed = real_array(tolerance, "tolerance", LinearSystemError, "a positive number")
        if allowed.shape != () or not allowed > 0:
            raise LinearSystemError(f"tolerance must be a positive number, not {described(tolerance)}")
        entries = GrowingPattern(kind, JACOBIAN)
        self._functions = Functions(residual, solve, jacobian, contraction, kind, entries, bool(check))
        self._tolerance = float(allowed)
        self._analysis = Analysis(get_solver(solver, threads=threads), kind)
        self._progress = progress

    @property
    def residual(self) -> Functions:
        """What is solved, with its derivatives."""
        return self._functions

    @property
    def counts(self) -> Counts:
        """Analyses and factorisations so far."""
        return self._analysis.counts

    def __repr__(self) -> str:
        size = "not solved yet" if self._analysis.n is None else f"{self._analysis.n} unknowns"
        return f"ImplicitSystem({size}, {self._functions.kind}, {self.counts})"

    def solve(self, theta: npt.ArrayLike) -> ImplicitSolution:
        """Solve at theta by the user's solver, and factorise ``dr/dx`` there.

        Raises
        ------
        ConvergenceError
            When the solver returns NaN, or a state whose error exceeds the tolerance.
        LinearSystemError
            When theta is no array of finite numbers, or when a function fails or returns something unusable.
        ComplexStepError
            When a derivative is not given and the residual cannot be differentiated.
        VerificationError
            When a derivative disagrees with differences: it is wrong, or x lies on a kink of the residual.
        SingularSystemError and other SolverErrors
            When ``dr/dx`` is singular, so that the solution has no derivative.
        """
        point = as_theta(theta)
        phases = Phases(self._progress)
        with phases("solve"):
            at = self._functions.at(Design(parameters={THETA: point}))
        return self._solution(at, phases)

    def at(self, theta: npt.ArrayLike, x: npt.ArrayLike) -> ImplicitSolution:
        """The same for a state that has been found already; ``solve`` is not called."""
        point, state = as_theta(theta), real_vector(x, "x")
        phases = Phases(self._progress)
        with phases("linearise"):
            at = self._functions.linearised(point, as_array(state, state.shape, "x", LinearSystemError))
        return self._solution(at, phases)

    def _solution(self, at: FunctionsAtDesign, phases: Phases) -> ImplicitSolution:
        state = State(at.lifting)
        r = at.residual(state)[0]
        factor = self._analysis.factor(at.structure, at.values, phases, rounding=self._functions.rounding)
        correction = -factor.solve(r) if r.any() else np.zeros_like(r)
        require_solved(at.x, correction, r, self._tolerance)
        return ImplicitSolution(self, Implicit(at, state, factor), r, correction, phases.seconds)

    def value_and_gradient(
        self, at: npt.ArrayLike | ImplicitSolution, response: Response
    ) -> tuple[float, ImplicitGradient]:
        """Value and gradient of one response; see ``values_and_gradients``."""
        values, gradients = self.values_and_gradients(at, [response])
        return float(values[0]), gradients[0]

    def values_and_gradients(
        self, at: npt.ArrayLike | ImplicitSolution, responses: Sequence[Response]
    ) -> tuple[FloatArray, tuple[ImplicitGradient, ...]]:
        """Values and gradients of several responses: one adjoint solve each, on the factor of the solution.

        Parameters
        ----------
        at : float, array or ImplicitSolution
            Theta, or the solution there.
        responses : sequence of callables
            As in ``LinearSystem.values_and_gradients``: ``J(x, theta)``, a number or a ``ResponseEvaluation``.

        Raises
        ------
        As ``solve``, and ResponseError, ComplexStepError and VerificationError for responses.
        """
        sequence_of(responses, "responses", ResponseError, ": write [function of (x, theta)]")
        solution = at if isinstance(at, ImplicitSolution) else self.solve(at)
        if solution.system is not self:
            raise LinearSystemError("the solution belongs to another ImplicitSystem: call the methods of that one")

        def partials(x: FloatArray, checked: Any) -> list[Partials]:
            return [partials_of(response, k, x, solution.theta, checked) for k, response in enumerate(responses)]

        checked = solution.checked if self._functions.check else None
        here = partials(solution.x, checked)
        return np.array([p.value for p in here]), solution.gradients(here, lambda x: partials(x, None))


@dataclass(frozen=True, eq=False)
class ImplicitSolution(HoldsSolver):
    """A system solved at one theta.

    Attributes
    ----------
    system : ImplicitSystem
    implicit : Implicit
        The residual at theta, its state and the factor of ``dr/dx``.
    residual : (n,)
        ``r(x, theta)``: zero at a solution.
    correction : (n,)
        Newton's correction ``-(dr/dx)^-1 r``: about how far x is from the solution.
    seconds : mapping of phase to seconds
    checked : weak mapping of id to response
        Responses whose derivatives have been compared with differences at this solution.
    """

    system: ImplicitSystem
    implicit: Implicit
    residual: FloatArray
    correction: FloatArray
    seconds: Mapping[str, float]
    checked: weakref.WeakValueDictionary[int, Any] = field(default_factory=weakref.WeakValueDictionary, repr=False)

    def __repr__(self) -> str:
        return shown(
            f"ImplicitSolution({len(self.x)} unknowns)",
            theta=measured(self.theta),
            x=measured(self.x),
            residual=measured(self.residual),
            correction=measured(self.correction),
        )

    @property
    def x(self) -> FloatArray:
        """The unknowns, (n,)."""
        return self.implicit.state.u[0]

    @property
    def theta(self) -> FloatArray:
        """Where it has been solved."""
        return self.implicit.at.design.parameters[THETA]

    def pullback(self, cotangent: npt.ArrayLike) -> ImplicitGradient:
        """Gradient of a scalar from its derivative ``dJ/dx`` (n,), which its error takes to be the same at any x."""
        given = as_array(cotangent, self.x.shape, "the cotangent (dJ/dx)", LinearSystemError)
        partials = [Partials(0.0, given, None)]
        return self.gradients(partials, lambda x: partials)[0]

    def pushforward(self, direction: npt.ArrayLike) -> FloatArray:
        """``dx/dtheta`` along a direction in the shape of theta: one solve; shape (n,)."""
        along = as_array(direction, self.theta.shape, "the direction", LinearSystemError)
        return self.implicit.pushforward([Design(parameters={THETA: along})])[0, 0]

    def gradients(
        self, partials: Sequence[Partials], elsewhere: Callable[[FloatArray], Sequence[Partials]]
    ) -> tuple[ImplicitGradient, ...]:
        """Gradients of several responses, solved as one block, from their partial derivatives here and at another x."""
        phases = Phases()
        seeds = [Seed(p.dx[None]) if p.depends else Seed() for p in partials]
        weights = self.implicit.weights(seeds, phases)
        totals = self._totals(self.implicit.state, weights, partials)

        def improved(k: int) -> FloatArray:
            x = self.x + self.correction
            state, lam, there = State(x[None]), weights[k].internal, elsewhere(x)[k]
            lam = lam + self.implicit.adjoint(there.dx - self.implicit.at.vjp(state, lam))
            return self._totals(state, [Weights(lam, lam)], [there])[0]

        return tuple(
            ImplicitGradient(
                total if total.ndim else float(total), weight.internal[0], inner(weight.internal[0], self.residual),
                lambda k=k: improved(k),  # type: ignore[misc]
            )
            for k, (total, weight) in enumerate(zip(totals, weights, strict=True))
        )  # fmt: skip

    def _totals(self, state: State, weights: Sequence[Weights], partials: Sequence[Partials]) -> list[FloatArray]:
        into = [Cotangent(parameters={THETA: np.zeros(self.theta.shape)}) for _ in weights]
        if any(p.depends for p in partials):
            self.implicit.at.pullback(state, weights, into)
        found = [cotangent.parameters[THETA] for cotangent in into]
        return [a if p.dtheta is None else a + p.dtheta for a, p in zip(found, partials, strict=True)]


@dataclass(frozen=True, eq=False)
class ImplicitGradient:
    """Total derivatives of a response ``J(x(theta), theta)``, and their errors because x is not quite a solution.

    Attributes
    ----------
    theta : float or array in the shape of theta
        ``dJ/dtheta``.
    adjoint : (n,)
        ``lam`` with ``(dr/dx)^T lam = dJ/dx``.
    value_error : float
        Estimate of ``J(x) - J(x*)``, where x* is the exact solution: ``lam . r``.
    """

    theta: float | FloatArray
    adjoint: FloatArray
    value_error: float
    _improved: Callable[[], FloatArray] = field(repr=False)

    def __repr__(self) -> str:
        return shown(
            f"ImplicitGradient(value error: {self.value_error:.1e})",
            theta=measured(np.asarray(self.theta)),
            adjoint=measured(self.adjoint),
        )

    @property
    def error(self) -> float | FloatArray:
        """Estimate of ``theta`` less the exact gradient, in the shape of theta; computed when it is read.

        One adjoint solve on the same factor, the partial derivatives of the response and ``dr/dx`` at ``x + dx``.
        """
        found = np.asarray(self.theta - self._improved())
        return found if found.ndim else float(found)
