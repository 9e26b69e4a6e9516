"""Newton's method for residuals whose loads can be applied in part: load steps, line search, errors that keep the path.

Steps are judged by the correction that follows, not by the residual: no scaling of the equations misleads it, and the
residual of a thin body must rise while it turns. It is the error-oriented view of P. Deuflhard, Newton Methods for
Nonlinear Problems (2004), section 3.3, with the new tangent in place of the old one, whose corrections are much too
long where a body turns. Corrections of thin bodies grow, too, before they fall; once a step has been shortened they
must fall. A load step must end near what the tangents at its beginning or its end predict: twice as far at most, which
is what it takes to reach a limit of the loads (a fold, where the state goes with their square root). What is farther
away is another branch; so may be a state whose tangent has other negative eigenvalues, unless no shorter load step
avoids them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NoReturn, Protocol

import numpy as np

from femadj.algebra.constraints import AffineMap, Condensed
from femadj.algebra.residual import AtDesign
from femadj.base.arguments import described, flag, whole_number
from femadj.base.arrays import FloatArray, inner
from femadj.errors import (
    ConvergenceError,
    FormError,
    IllConditionedError,
    IndefiniteSystemError,
    NonFiniteError,
    ProblemError,
    ResidualError,
    SingularSystemError,
)
from femadj.progress import Phases
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import UNIT_ROUNDOFF
from femadj.solvers.structure import CsrPattern

SMALLEST_STEP = 2.0**-12
"""Load step below which the search for an equilibrium is given up."""

_USELESS = (SingularSystemError, IndefiniteSystemError, IllConditionedError, ResidualError, NonFiniteError)
_SHORTEST = 2.0**-6  # part of a Newton step that is still tried
_LONGER = 100.0  # times the shortest correction so far that one after a whole step may be long
_FARTHER = 2.1  # times the predicted change of the state that a load step may end at
_FLOOR = 32 * UNIT_ROUNDOFF  # of |K| |u|: what rounding leaves of a residual
_STAGNANT = 1e-8  # residual below which one that no longer falls is rounding inside of a form
_QUICK = 6  # iterations up to which the next load step may be longer


@dataclass(frozen=True)
class Newton:
    """How a nonlinear problem is solved.

    Parameters
    ----------
    tolerance : float
        Norm of the residual at free unknowns, relative to that of the loads or reactions. The error of gradients is
        proportional to it. Where rounding does not let the residual fall so far, what is left is accepted.
    max_iterations : int
        Factorisations for a load step.
    line_search : bool
        Whether a step is shortened that leads to a longer correction, or to a tangent that is of no use. Steps to
        states without a residual (a cell inside out, a form that is NaN) are shortened anyway.
    load_steps : int or "auto"
        Steps in which loads and prescribed values are applied; "auto" begins with a single one. Steps that fail are
        halved, and grow again where iterations are few.

    Raises
    ------
    ProblemError
        For settings out of range.
    """

    tolerance: float = 1e-12
    max_iterations: int = 20
    line_search: bool = True
    load_steps: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        value: Any = self.tolerance
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise ProblemError(f"tolerance must be a number between 0 and 1, not {described(value)}")
        whole_number(self.max_iterations, 1, "max_iterations", ProblemError)
        flag(self.line_search, "line_search", ProblemError)
        if self.load_steps != "auto":
            whole_number(self.load_steps, 1, "load_steps, if not 'auto',", ProblemError)


class Forces(NamedTuple):
    """The two halves of a residual, ``(n,)``: ``R = internal - external``."""

    internal: FloatArray
    external: FloatArray


class Balance(Protocol):
    """What Newton's method is applied to: forces that are to be in balance, for states ``(n,)``.

    Loads and prescribed values can be applied in part, up to a level of 1.
    """

    @property
    def structure(self) -> CsrPattern:
        """Structure of the tangent."""
        ...

    @property
    def constraints(self) -> AffineMap:
        """Unknowns that are not free."""
        ...

    @property
    def lifting(self) -> FloatArray:
        """A state that satisfies the constraints, zero at free unknowns, ``(1, n)``."""
        ...

    def forces(self, u: FloatArray, level: float) -> Forces:
        """Internal forces, and the part of the external ones; FormError where there are none at a state."""
        ...

    def tangent(self, u: FloatArray, level: float) -> Condensed:
        """Derivative of the residual, constraints applied."""
        ...


class Incremental(Balance, AtDesign, Protocol):
    """A residual at a design, of one load case, whose loads can be applied in part."""


@dataclass(frozen=True, eq=False)
class LoadStep:
    """An equilibrium on the way.

    Attributes
    ----------
    level : float
        Part of the loads and prescribed values, 0 to 1.
    u : array
        The state; flat, or in the shape of the unknowns.
    residuals : tuple of float
        Before the first iteration and after each, at free unknowns, relative to the loads or reactions.
    negative : int or None
        Negative eigenvalues of the last tangent, where the solver tells: more than before where the path has passed a
        limit or a bifurcation.
    """

    level: float
    u: FloatArray
    residuals: tuple[float, ...]
    negative: int | None = None

    @property
    def iterations(self) -> int:
        """Factorisations that it took."""
        return len(self.residuals) - 1


class Equilibrium(NamedTuple):
    """What Newton's method has found.

    Attributes
    ----------
    u : (n,)
    factor : Factor
        Of the tangent of the last iteration.
    residual : (n,)
        What is left of it at free unknowns; zero at constrained ones.
    error : float or None
        Bound of the relative error that rounding may have left in the state; None where nothing asked for it.
    iterations : int
        Factorisations, those of load steps that failed included.
    path : tuple of LoadStep
        The last one is the solution.
    """

    u: FloatArray
    factor: Factor
    residual: FloatArray
    error: float | None
    iterations: int
    path: tuple[LoadStep, ...]


class _FailedError(Exception):
    """A load step that did not converge; ``early`` where the state that it began at is the reason."""

    def __init__(self, reason: str, early: bool = False) -> None:
        super().__init__(reason)
        self.early = early


def equilibrium(
    at: Incremental,
    newton: Newton,
    factorise: Callable[[FloatArray], Factor],
    phases: Phases,
    start: FloatArray | None = None,
) -> Equilibrium:
    """Solve a residual at a design.

    Parameters
    ----------
    at : Incremental
    newton : Newton
    factorise : callable
        Factor of the values of a matrix.
    phases : Phases
    start : (n,), optional
        A state near by, from which the whole loads are applied at once; from rest when left out.

    Raises
    ------
    ConvergenceError
        Where there is no equilibrium to be found; it keeps the last one that was.
    FormError, SolverError
        Where residual or tangent are of no use at the very beginning.
    """
    search = _Search(at, newton, factorise, phases)
    if start is not None:
        try:
            return search.result([search.equilibrium(start, 1.0)])
        except _FailedError as failure:
            search.give_up(failure, 1.0, [], "from the state given as start; leave start out to apply loads in steps")
    most = 1.0 if newton.load_steps == "auto" else 1.0 / newton.load_steps
    u, level, step, path = np.zeros(at.lifting.shape[1]), 0.0, most, list[LoadStep]()
    while level < 1.0:
        target = 1.0 if level + step > 1.0 - 0.5 * SMALLEST_STEP else level + step
        try:
            found = search.equilibrium(u, target)
            if search.jumps(u, level, found):
                raise _FailedError("the state there is on another branch, far from what the tangents predict")
            if found.negative != search.negative and target - level >= 2 * SMALLEST_STEP:
                raise _FailedError("the tangent has other negative eigenvalues there")
        except _FailedError as failure:
            step = (target - level) / 2
            if failure.early or step < SMALLEST_STEP:
                search.give_up(failure, target, path, "")
            continue
        path.append(found)
        u, level = found.u, target
        step = min(2 * step, most) if found.iterations <= _QUICK else step
    return search.result(path)


def balanced(
    at: Balance, newton: Newton, factorise: Callable[[FloatArray], Factor], phases: Phases, start: FloatArray
) -> LoadStep:
    """Bring forces into balance from a state near by, with the whole loads.

    Raises
    ------
    ConvergenceError
        That says why there is no balance to be found, and nothing else.
    """
    search = _Search(at, newton, factorise, phases)
    try:
        return search.equilibrium(start, 1.0)
    except _FailedError as failure:
        raise ConvergenceError(f"{failure}{search.undefined}") from failure.__cause__
    except FormError as error:
        raise ConvergenceError(f"there is no residual at the state that iterations begin at ({error})") from error


class _Search:
    """Newton's method for the load steps of one solve."""

    def __init__(self, at: Balance, newton: Newton, factorise: Callable[[FloatArray], Factor], phases: Phases) -> None:
        self.at, self.newton, self.factorise, self.phases = at, newton, factorise, phases
        self.iterations = 0
        self.predicted = 0.0  # length of the first correction of a load step
        self.negative: int | None = None  # negative eigenvalues of the tangent where it begins
        self.undefined = ""  # what was wrong at a state without a residual, since the last equilibrium
        self.last: tuple[_Linearised, FloatArray] | None = None

    def result(self, path: list[LoadStep]) -> Equilibrium:
        """What the last load step has found."""
        assert self.last is not None
        (tangent, residual), u = self.last, path[-1].u
        left = self.at.constraints.restrict(residual)
        return Equilibrium(u, tangent.factor, left, tangent.error(u), self.iterations, tuple(path))

    def jumps(self, u: FloatArray, level: float, found: LoadStep) -> bool:
        """Whether a load step has ended on another branch than it began on."""
        length = _norm(found.u - u)
        if length <= _FARTHER * self.predicted:
            return False
        assert self.last is not None
        (tangent, _), at = self.last, self.at
        held = np.where(at.constraints.constrained, at.lifting[0], 0.0)
        step = (found.level - level) * tangent.correction(-at.forces(found.u, 1.0).external, held)
        return length > _FARTHER * _norm(step)

    def give_up(self, failure: _FailedError, target: float, path: list[LoadStep], where: str) -> NoReturn:
        """Raise the error that says what happened, and keeps the last equilibrium."""
        cause = failure.__cause__
        if failure.early and not path and isinstance(cause, _USELESS):
            raise cause
        level, u = (path[-1].level, path[-1].u) if path else (0.0, None)
        found = where or (
            f"beyond {level:.6g} of the loads, up to which there is one (error.u, error.path)" if path else
            "for any part of the loads"
        )  # fmt: skip
        raise ConvergenceError(
            f"Newton's method finds no equilibrium {found}; the last attempt, at {target:.6g}, ended: "
            f"{failure}{self.undefined}. "
            "If loads have a limit there (a limit point, buckling), apply less of them or prescribe displacements "
            "instead; else look at material, supports and mesh, or allow for more: Newton(max_iterations=...)",
            level, u, path,
        ) from cause  # fmt: skip

    def equilibrium(self, u: FloatArray, level: float) -> LoadStep:
        """Iterate from a state; at least once, so that there is a factor."""
        here = self._tried(u, level)
        reference = here.size or here.norm or 1.0
        history = [here.norm / reference]
        taken: _Taken | None = None
        shortest = np.inf
        for _ in range(self.newton.max_iterations):
            try:
                tangent = self._linearised(here.u, level, early=taken is None)
                step = self._correction(tangent, here, level)
                if taken is not None and _norm(step) > (_LONGER if taken.part == 1.0 else 1.0) * shortest:
                    raise _FailedError("corrections grow instead of falling")
            except _FailedError as failure:
                if taken is None or not self.newton.line_search:
                    raise
                taken, here = self._taken(taken.begin, taken.step, taken.part / 2, level, failure)
                history.append(here.norm / (here.size or reference))
                continue
            if taken is None:
                self.predicted, self.negative = _norm(step), tangent.negative
            shortest = min(shortest, _norm(step))
            before = here.norm
            taken, here = self._taken(here, step, 1.0, level)
            history.append(here.norm / (here.size or reference))
            if taken.part == 1.0 and self._converged(here, before, tangent, reference):
                self.last, self.undefined = (tangent, here.residual), ""
                return LoadStep(level, here.u, tuple(history), tangent.negative)
        raise _FailedError(
            f"the residual is still {history[-1]:.1e} of the loads after {self.newton.max_iterations} iterations"
        )

    def _tried(self, u: FloatArray, level: float) -> _Iterate:
        with self.phases("assemble"):
            return _Iterate.of(self.at, u, self.at.forces(u, level))

    def _linearised(self, u: FloatArray, level: float, early: bool) -> _Linearised:
        with self.phases("assemble"):
            condensed = self.at.tangent(u, level)
        self.iterations += 1
        try:
            with self.phases("factorise"):
                return _Linearised(self.at, condensed, self.factorise(condensed.values))
        except _USELESS as error:
            raise _FailedError(f"the tangent cannot be solved with ({error})", early) from error

    def _correction(self, tangent: _Linearised, here: _Iterate, level: float) -> FloatArray:
        held = np.where(self.at.constraints.constrained, level * self.at.lifting[0] - here.u, 0.0)
        try:
            with self.phases("solve"):
                return tangent.correction(here.residual, held)
        except _USELESS as error:
            raise _FailedError(f"the tangent cannot be solved with ({error})") from error

    def _taken(
        self, begin: _Iterate, step: FloatArray, part: float, level: float, failure: _FailedError | None = None
    ) -> tuple[_Taken, _Iterate]:
        """Take a part of a step, or a shorter one where there is no residual; ``failure``: why it is not the whole."""
        while part >= _SHORTEST:
            u = begin.u + part * step
            if part == 1.0:
                u = np.where(self.at.constraints.constrained, level * self.at.lifting[0], u)
            try:
                return _Taken(begin, step, part), self._tried(u, level)
            except FormError as error:
                self.undefined = f"; there is no residual at some of the states that were tried ({error})"
                failure = _FailedError("steps are too short")
                part /= 2
        assert failure is not None
        raise failure

    def _small(self, here: _Iterate, reference: float) -> bool:
        return here.norm <= self.newton.tolerance * (here.size or reference)

    def _converged(self, here: _Iterate, before: float, tangent: _Linearised, reference: float) -> bool:
        """Whether the residual is small, or falls no further because of rounding."""
        if self._small(here, reference):
            return True
        stagnant = here.norm > 0.9 * before and here.norm <= _STAGNANT * (here.size or reference)
        return stagnant or (here.norm > 0.1 * before and tangent.rounds_off(here))


class _Iterate(NamedTuple):
    """A state with its residual, the norm of that at free unknowns, and that of loads or reactions."""

    u: FloatArray
    residual: FloatArray
    norm: float
    size: float

    @classmethod
    def of(cls, at: Balance, u: FloatArray, forces: Forces) -> _Iterate:
        residual = forces.internal - forces.external
        norm = _norm(at.constraints.restrict(residual))
        reactions = _norm(residual[at.constraints.constrained])
        return cls(u, residual, norm, max(_norm(forces.external), reactions))


class _Taken(NamedTuple):
    """A part of a Newton step, and where it began."""

    begin: _Iterate
    step: FloatArray
    part: float


class _Linearised(NamedTuple):
    """A tangent with its factor."""

    at: Balance
    condensed: Condensed
    factor: Factor

    @property
    def negative(self) -> int | None:
        """Number of negative eigenvalues, where the solver tells."""
        inertia = self.factor.statistics.inertia
        return None if inertia is None else inertia[1]

    def correction(self, residual: FloatArray, held: FloatArray) -> FloatArray:
        """Newton's correction; what supports still have to move goes with it, by the tangent and not ahead of it."""
        constraints = self.at.constraints
        rhs = -residual if not held.any() else -residual - self._times(self.condensed, held)
        return held + constraints.expand(self.factor.correct(constraints.restrict(rhs)))

    def error(self, u: FloatArray) -> float | None:
        """Bound of the relative error that rounding may have left in a state, where the factor is a sign of one."""
        constraints = self.at.constraints
        self.factor.solve(constraints.restrict(self._times(self.condensed, constraints.restrict(u))))
        return self.factor.statistics.forward_error

    def rounds_off(self, here: _Iterate) -> bool:
        """Whether the residual is no larger than what rounding the state makes of it, from ``|K| |u|``."""
        return here.norm <= _FLOOR * _norm(self._times(self.condensed.absolute(), np.abs(here.u)))

    def _times(self, k: Condensed, x: FloatArray) -> FloatArray:
        return k.times(self.at.structure, self.at.constraints, x)


def _norm(x: FloatArray) -> float:
    return inner(x, x) ** 0.5
