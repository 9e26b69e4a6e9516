"""A reduced problem as optimisers ask for it, and what they are told of designs without an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import described, real_array, whole_number
from femadj.base.arrays import FloatArray, IntArray
from femadj.errors import ProblemError, TangledMeshError
from femadj.optimisation.evaluation import Evaluated
from femadj.optimisation.history import key_of
from femadj.optimisation.reduced import Reduced


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

    @property
    def designs(self) -> int:
        """How many designs have been asked for."""
        return len(self._seen)

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

    def hessian(self, z: FloatArray, multipliers: FloatArray, objective: float) -> FloatArray:
        """Second derivatives ``(n, n)`` of the objective times a factor and the constraints times multipliers."""

        def columns(z: FloatArray) -> FloatArray:
            weight = objective / self._unit
            unit = np.eye(self.reduced.n)
            return np.array([self.reduced.hessian_product(z, e, multipliers, objective=weight) for e in unit])

        return self._kept(columns, self.at(z))

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


def _checked(start: npt.ArrayLike, reduced: Reduced) -> FloatArray:
    array = real_array(start, "start", ProblemError, f"an array of shape ({reduced.n},)")
    if array.shape != (reduced.n,) or not np.isfinite(array).all():
        raise ProblemError(f"start must be finite and of shape ({reduced.n},), not {array.shape}")
    return array


def positive(given: Any, what: str) -> float:
    """A positive number; ProblemError for anything else."""
    found = real_array(given, what, ProblemError, "a positive number")
    if found.shape != () or not 0 < found < np.inf:
        raise ProblemError(f"{what} must be a positive number, not {described(given)}")
    return float(found)


def require_none(constraints: OneSided, what: str) -> None:
    """ProblemError where an algorithm is given constraints that it does not know."""
    if len(constraints.rows):
        raise ProblemError(what)
