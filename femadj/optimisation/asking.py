"""A reduced problem as optimisers ask for it: what they are told of designs without an answer, and how runs end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import real_array, whole_number
from femadj.base.arrays import FloatArray, IntArray
from femadj.errors import MissingExtraError, OptimiserError, ProblemError, TangledMeshError
from femadj.optimisation.balance import imbalance
from femadj.optimisation.evaluation import Evaluated
from femadj.optimisation.history import key_of
from femadj.optimisation.optimum import FoundDesign, Optimum
from femadj.optimisation.ranking import FEASIBLE
from femadj.optimisation.reduced import Reduced

End = tuple[FloatArray | None, bool, str]
"""Where an optimiser ended (None: it does not tell), whether it calls that an optimum, and its message."""


BALANCED = 0.05
"""Part of the gradient that may be left without balance where a run with failures is called converged."""

_STUCK = "{:.0%} of its gradient is held back by no limit and no bound, only by designs without an answer next to it"


class EnoughDesignsError(Exception):
    """A run has asked for as many designs as it may."""


@dataclass(frozen=True, eq=False)
class OneSided:
    """Constraints ``signs * (c[rows] - limits)`` that must be zero, or not negative."""

    rows: IntArray
    signs: FloatArray
    limits: FloatArray

    def of(self, values: FloatArray) -> FloatArray:
        """Their values."""
        return self.signs * (values[self.rows] - self.limits)

    def slopes(self, jacobian: FloatArray) -> FloatArray:
        """Their derivatives."""
        return self.signs[:, None] * jacobian[self.rows]


class Asked:
    """A reduced problem during one run of an optimiser.

    A design without an answer never ends a run: its objective is infinite and its derivatives are zero, so that every
    line search cuts its step. Constraints are told as of the last design that has an answer: merit functions multiply
    them by multipliers that may be zero, and ``0 * inf`` is no number. An objective without a scale is told in units of
    its size at the start, as tolerances are meant for numbers of the order of one.

    Parameters
    ----------
    reduced : Reduced
    start : (n,), optional
        The optimiser's variables; ``reduced.start`` when left out.
    max_designs : int
        How many designs may be asked for.

    Attributes
    ----------
    trouble : BaseException or None
        The first error that came up where the optimiser called, to be raised again outside: libraries lose them.

    Raises
    ------
    FemadjError
        That of a start without an answer, which no optimiser gets away from.
    """

    def __init__(self, reduced: Reduced, start: npt.ArrayLike | None, max_designs: int) -> None:
        if not isinstance(reduced, Reduced):
            raise ProblemError(f"reduced must be a Reduced problem, not {type(reduced).__name__}")
        whole_number(max_designs, 1, "max_designs", ProblemError)
        self.reduced = reduced
        self.start = reduced.start if start is None else _checked(start, reduced)
        self.trouble: BaseException | None = None
        self._most, self._seen = max_designs, set[str]()
        outside = np.flatnonzero((self.start < reduced.lower) | (self.start > reduced.upper))
        if len(outside):
            raise ProblemError(f"the start is outside the bounds: variables {outside[:10].tolist()}")
        self._answered = first = self.at(self.start)
        if first.failure is not None:
            raise first.failure
        size = abs(reduced.value(self.start))
        self._unit = size if abs(reduced.objective.scale) == 1.0 and size > 0 else 1.0
        self._slope = float(np.linalg.norm(reduced.gradient(self.start)))

    # ------------------------------------------------------------------ what optimisers are told
    def at(self, z: FloatArray) -> Evaluated:
        """A design; what is raised is kept in ``trouble``."""
        try:
            if self.trouble is not None:
                raise self.trouble
            key = key_of(np.asarray(z, dtype=np.float64) + 0.0)
            if key not in self._seen and len(self._seen) >= self._most:
                raise EnoughDesignsError(f"stopped after {self._most} designs, as many as max_designs allows")
            found = self.reduced.evaluate(z)
            self._seen.add(key)
        except BaseException as error:
            self.trouble = error
            raise
        if found.failure is None:
            self._answered = found
        return found

    def value(self, z: FloatArray) -> float:
        """The objective, infinite for a design without an answer."""
        return self.reduced.value(self.at(z).z) / self._unit

    def gradient(self, z: FloatArray) -> FloatArray:
        """Its derivatives, zero for a design without an answer."""
        return self._kept(self.reduced.gradient, self.at(z)) / self._unit

    def constraint_values(self, z: FloatArray) -> FloatArray:
        """All constraints; for a design without an answer those of the last one that has one."""
        self.at(z)
        return self.reduced.constraint_values(self._answered.z)

    def jacobian(self, z: FloatArray) -> FloatArray:
        """Their derivatives, zero for a design without an answer."""
        return self._kept(self.reduced.jacobian, self.at(z))

    def _kept(self, derivatives: Callable[[FloatArray], FloatArray], found: Evaluated) -> FloatArray:
        try:
            return derivatives(found.z)
        except BaseException as error:
            self.trouble = error
            raise

    def wall(self, z: FloatArray) -> tuple[float, FloatArray]:
        """A finite answer for line searches that interpolate: value and gradient of the objective.

        At a design without an answer those of a parabola along the line from the last one that has one, with its value
        and slope there, and with its minimum where the mesh is still sound, or after a tenth of the way: there goes the
        next step.
        """
        found = self.at(z)
        if found.failure is None:
            return self.value(z), self.gradient(z)
        base = self._answered.z
        value, gradient, step = self.value(base), self.gradient(base), found.z - base
        part = 0.1
        if isinstance(found.failure, TangledMeshError) and np.isfinite(step).all():
            part = min(0.3, self.reduced.largest_step(base, step))
        fall = max(abs(float(gradient @ step)), np.finfo(float).eps * abs(value))
        return value + (0.5 / part - 1) * fall, (1 / part - 1) * fall / float(step @ step) * step

    # ------------------------------------------------------------------ constraints of one side
    @property
    def equalities(self) -> OneSided:
        """Constraints with equal limits."""
        rows = np.flatnonzero(self.reduced.constraint_lower == self.reduced.constraint_upper)
        return OneSided(rows, np.ones(len(rows)), self.reduced.constraint_lower[rows])

    @property
    def inequalities(self) -> OneSided:
        """One for each limit of the other constraints that is finite."""
        lower, upper = self.reduced.constraint_lower, self.reduced.constraint_upper
        below, above = (np.flatnonzero(np.isfinite(limit) & (lower < upper)) for limit in (lower, upper))
        signs = np.repeat([1.0, -1.0], [len(below), len(above)])
        return OneSided(np.concatenate([below, above]), signs, np.concatenate([lower[below], upper[above]]))

    # ------------------------------------------------------------------ how it ends
    def outcome(self, optimiser: str, optimise: Callable[[], End]) -> Optimum:
        """Let an optimiser run, and say what became of it.

        Raises
        ------
        OptimiserError
            Where it reports success at a design without an answer.
        BaseException
            What was raised where it called, interrupts too; all designs until then are in the history.
        """
        try:
            z, converged, message = optimise()
        except BaseException:
            if self.trouble is None:
                raise
        if self.trouble is not None and not isinstance(self.trouble, EnoughDesignsError):
            raise self.trouble
        if self.trouble is not None:
            z, converged, message = None, False, str(self.trouble)
        best = self.reduced.best
        assert best is not None  # the start has an answer
        final = best if z is None else self.reduced.evaluate(z)
        if final.failure is not None:
            if converged:
                raise OptimiserError(
                    f"{optimiser} reports success ({message}) at design {final.number}, which has no answer: "
                    f"{final.failure}. The best design of the run is number {best.number}: reduced.best"
                ) from final.failure
            final = best
        found = self._found(final)
        if converged and found.violation > FEASIBLE:
            converged, message = False, f"{message}; but a constraint is missed by {found.violation:.2g} of its scale"
        left = self._left(final)
        if converged and left > BALANCED and any(record.failure for record in self.reduced.history.records):
            converged, message = False, f"{message}; but the objective still falls there: {_STUCK.format(left)}"
        of_best = found if best.number == final.number else self._found(best)
        return Optimum(optimiser, bool(converged), message, len(self._seen), left, self.reduced.names, found, of_best)

    def _left(self, final: Evaluated) -> float:
        """Part of the gradient that nothing balances; NaN where gradients would take a further solve."""
        if not self._slope or self.reduced.history.slopes(final.number) is None:
            return np.nan
        norm = float(np.linalg.norm(self.reduced.gradient(final.z)))
        return imbalance(self.reduced, final.z) / max(self._slope, norm)

    def _found(self, design: Evaluated) -> FoundDesign:
        pairs = zip(self.reduced.constraints, design.values[1:].tolist(), strict=True)
        missed = max((constraint.violation(value) for constraint, value in pairs), default=0.0)
        variables = self.reduced.variables(design.z)
        return FoundDesign(design.number, variables, design.points, design.values, missed)


def _checked(start: npt.ArrayLike, reduced: Reduced) -> FloatArray:
    array = real_array(start, "start", ProblemError, f"an array of shape ({reduced.n},)")
    if array.shape != (reduced.n,) or not np.isfinite(array).all():
        raise ProblemError(f"start must be finite and of shape ({reduced.n},), not {array.shape}")
    return array


def library(name: str, extra: str, purpose: str) -> Any:
    """An optional library; MissingExtraError where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(name, extra, purpose) from error


def require_none(constraints: OneSided, what: str) -> None:
    """ProblemError where an algorithm is given constraints that it does not know."""
    if len(constraints.rows):
        raise ProblemError(what)
