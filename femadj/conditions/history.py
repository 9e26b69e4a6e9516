"""Loads and prescribed values that change in time: a condition times a scalar function of the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.calls import slopes_at, values_at
from femadj.base.differences import compare
from femadj.conditions.loads import Load
from femadj.conditions.supports import Fixed
from femadj.errors import FemadjError, LoadError, ProblemError, SupportError

HistoryLike = Callable[[Any], Any] | Sequence[Callable[[Any], Any]]
"""A function of an array of times ``(n,)``, or such a function and its derivatives, as many as are known."""

_LOOKED_AT = 7


@dataclass(frozen=True, eq=False)
class WithHistory:
    """A load or a support of a ``Transient`` times a function of the time.

    Parameters
    ----------
    condition : load or Fixed
    history : function of the time, or a sequence of it and its derivatives
        Called with an array of times ``(n,)``, whose values it must not mix; what is not given of its derivatives is
        found by guarded complex step, one order beyond those given. A load needs the function alone. A support that
        prescribes values other than zero needs as many derivatives as the equations have: ``(z, z')`` in a problem of
        first order, ``(z, z', z'')`` in one of second order.
    """

    condition: Load | Fixed
    history: HistoryLike

    def __post_init__(self) -> None:
        given = self.history if isinstance(self.history, Sequence) else (self.history,)
        if not given or not all(callable(each) and not isinstance(each, type) for each in given):
            raise ProblemError(
                f"the history of {type(self.condition).__name__} must be a function of the time, or a function and its "
                f"derivatives (z, z', ...), not {self.history!r}"
            )

    @property
    def course(self) -> Course:
        """The history, with checks."""
        given = self.history if isinstance(self.history, Sequence) else (self.history,)
        error = SupportError if isinstance(self.condition, Fixed) else LoadError
        group = getattr(self.condition, "group", None)
        name = type(self.condition).__name__ + ("" if group is None else f"({group!r})")
        return Course(tuple(given), f"history of {name}", error)


@dataclass(frozen=True, eq=False)
class Course:
    """A scalar function of the time.

    Attributes
    ----------
    functions : tuple of callable
        The function and its derivatives, as far as they are given; none at all for the constant 1.
    what : str
        For messages.
    error : type
        Raised for a function that fails, returns something unusable, or has another derivative than the one given.
    """

    functions: tuple[Callable[[Any], Any], ...] = ()
    what: str = "history"
    error: type[FemadjError] = LoadError

    @property
    def constant(self) -> bool:
        """Whether it is 1 at all times."""
        return not self.functions

    def at(self, times: FloatArray, order: int = 0) -> FloatArray:
        """The function, or a derivative of it, at times ``(n,)``."""
        known = len(self.functions)
        if self.constant:
            return np.full(len(times), float(order == 0))
        if order < known:
            return self._values(order, times)
        if order > known:
            raise self.error(
                f"{self.what}: its derivative of order {order} is needed: give the function together with its first "
                f"{order - 1} derivative(s), WithHistory(..., (z, z', ...))"
            )
        values = self._values(order - 1, times)
        function = self._of_time(order - 1)
        slopes, kink = slopes_at(function, times[:, None], values[:, None], self._named(order - 1), self.error)
        if kink:
            raise self.error(kink)
        return slopes[:, 0, 0]

    def check(self, final: float) -> None:
        """Compare the derivatives that are given with differences of the functions before them."""
        times = final * np.linspace(0.05, 0.95, _LOOKED_AT)
        for order in range(1, len(self.functions)):

            def moved(step: float, order: int = order) -> FloatArray:
                return self._values(order - 1, times + step)

            found = compare(moved, self._values(order, times), final)
            if not found.acceptable.all():
                where = times[int(np.argmin(found.acceptable))]
                raise self.error(
                    f"{self._named(order)} is not the derivative of the function before it: differences at t = "
                    f"{where:.6g} disagree"
                )

    def _values(self, order: int, times: FloatArray) -> FloatArray:
        return values_at(self._of_time(order), times[:, None], 1, self._named(order), self.error)[:, 0]

    def _of_time(self, order: int) -> Callable[[Any], Any]:
        function = self.functions[order]
        return lambda x: function(x[0])

    def _named(self, order: int) -> str:
        return self.what if order == 0 else f"{self.what}, derivative {order}"


def split(conditions: Sequence[Any]) -> tuple[list[Any], list[Course]]:
    """Conditions without their histories, and the histories."""
    plain = [each.condition if isinstance(each, WithHistory) else each for each in conditions]
    courses = [each.course if isinstance(each, WithHistory) else Course() for each in conditions]
    return plain, courses
