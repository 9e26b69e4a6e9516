"""Responses of a history: static responses observed at times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from femadj.base.arguments import one_of, real_array
from femadj.base.arrays import FloatArray
from femadj.errors import ResponseError
from femadj.problems import HistorySolution, Partials
from femadj.problems.times import Observation, TimePartials, Times
from femadj.responses.base import Response, partials_of, value_of

Quantity = Literal["field", "rate", "acceleration"]
_ORDERS: dict[str, int] = {"field": 0, "rate": 1, "acceleration": 2}


def observation(
    response: Response,
    time: float,
    of: Quantity = "field",
    *,
    time_rate: float = 0.0,
    weight: float = 1.0,
    weight_rate: float = 0.0,
) -> Observation:
    """A static response at one time; the rates are those by the final time."""
    one_of(of, _ORDERS, "of", ResponseError)
    of_response: Any = response
    return Observation(
        float(time), time_rate, weight, weight_rate, _ORDERS[of], partial(value_of, of_response),
        partial(partials_of, of_response),
    )  # fmt: skip


class TimeResponse:
    """A weighted sum of static responses at times: all it has to write is ``observations``."""

    def observations(self, times: Times) -> Sequence[Observation]:
        """What is observed, of a history with these times."""
        raise NotImplementedError

    def value(self, solution: Any) -> float:
        """Its value; ResponseError where a time lies outside of the history."""
        return self.partials(solution).value

    def partials(self, solution: Any) -> Partials:
        """Its value; the partial derivatives are asked for on the way back through the steps."""
        times = getattr(solution, "times", None)
        if not isinstance(times, Times):
            raise ResponseError(f"{type(self).__name__} observes a history, the solution of a Transient")
        found = tuple(self.observations(times))
        if not found or not all(isinstance(each, Observation) for each in found):
            raise ResponseError(
                f"{type(self).__name__}.observations must return a list of observation(response, time), at least one"
            )
        values = solution.collected(found, self)
        total = sum(each.weight * float(value) for each, value in zip(found, values, strict=True))
        return TimePartials(float(total), observations=found)


@dataclass(frozen=True)
class AtTime(TimeResponse):
    """A static response at a time.

    Between two steps fields are read by Hermite's cubic through their values and rates, in first order the rate and in
    second order the acceleration linearly.

    Parameters
    ----------
    response : Response
        Of the field and the design: ``Displacement``, ``FieldNorm``, ``Functional``, ``Volume``, ``Mass``, your own.
    time : float, optional
        The final time when left out, with which it moves; a number stays where it is when the final time changes.
    of : "field", "rate" or "acceleration"
        What takes the place of the field in the response.
    """

    response: Response
    time: float | None = None
    of: Quantity = "field"

    def observations(self, times: Times) -> Sequence[Observation]:
        """The one time."""
        if self.time is None:
            return [observation(self.response, float(times.final), self.of, time_rate=1.0)]
        return [observation(self.response, _number(self.time, "time"), self.of)]


@dataclass(frozen=True)
class TimeIntegral(TimeResponse):
    """The integral of a static response over time, by the trapezoidal rule with as many parts as there are steps.

    Parameters
    ----------
    response : Response
        As for ``AtTime``.
    start, end : float, optional
        Where it begins and ends: at time zero and the final time, with which it moves, when left out.
    of : "field", "rate" or "acceleration"
    """

    response: Response
    start: float = 0.0
    end: float | None = None
    of: Quantity = "field"

    def observations(self, times: Times) -> Sequence[Observation]:
        """The ends of all parts."""
        start = _number(self.start, "start")
        end = float(times.final) if self.end is None else _number(self.end, "end")
        if not start < end:
            raise ResponseError(f"{self!r} ends at {end:g}, before it starts at {start:g}")
        moves = float(self.end is None)
        parts = np.linspace(0.0, 1.0, times.steps + 1)
        weights = np.full(len(parts), 1.0 / times.steps)
        weights[[0, -1]] /= 2
        return [
            observation(
                self.response, start + (end - start) * part, self.of, time_rate=moves * part,
                weight=(end - start) * weight, weight_rate=moves * weight,
            )
            for part, weight in zip(parts, weights, strict=True)
        ]  # fmt: skip


def values_in_time(
    solution: HistorySolution, response: Response, times: Any = None, of: Quantity = "field"
) -> FloatArray:
    """Values of a static response at times, of a history; between all steps when left out.

    States are not kept for it.

    Parameters
    ----------
    solution : HistorySolution
    response : Response
    times : (n,), optional
    of : "field", "rate" or "acceleration"

    Returns
    -------
    values : (n,)
    """
    if not isinstance(getattr(solution, "times", None), Times):
        raise ResponseError(
            f"values_in_time takes a history, the solution of a Transient, not {type(solution).__name__}"
        )
    chosen = solution.times.grid if times is None else real_array(times, "times", ResponseError, "an array of times")
    if chosen.ndim != 1 or not np.isfinite(chosen).all():
        raise ResponseError(f"times must be finite and have shape (n,), not {chosen.shape}")
    if (np.diff(chosen) <= 0).any():
        raise ResponseError("times must ascend")
    return solution.collected([observation(response, time, of) for time in chosen])


def _number(value: Any, what: str) -> float:
    number = real_array(value, what, ResponseError, "a number")
    if number.shape != () or not np.isfinite(number):
        raise ResponseError(f"{what} must be one finite number, not {value!r}")
    return float(number)
