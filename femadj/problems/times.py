"""Steps of time, what is observed of a history, and how a field is read between two steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from femadj.base.arguments import real_array, whole_number
from femadj.base.arrays import FloatArray
from femadj.errors import ProblemError, ResponseError
from femadj.problems.gradient import Partials


@dataclass(frozen=True)
class Times:
    """Equal steps from time zero to a final time, by which gradients are.

    Parameters
    ----------
    final : float
    steps : int
    """

    final: float
    steps: int

    def __post_init__(self) -> None:
        final = real_array(self.final, "the final time", ProblemError, "a number")
        if final.shape != () or not np.isfinite(final) or final <= 0:
            raise ProblemError(f"the final time must be positive and finite, not {self.final!r}: time starts at zero")
        whole_number(self.steps, 1, "the number of steps", ProblemError)

    @property
    def step(self) -> float:
        """Length of a step."""
        return float(self.final) / self.steps

    @property
    def grid(self) -> FloatArray:
        """The times between steps, ``(steps + 1,)``."""
        return np.linspace(0.0, float(self.final), self.steps + 1)

    def at(self, abscissae: tuple[float, ...]) -> FloatArray:
        """The start, then the times of all stages of all steps, ``(1 + steps n_stages,)``."""
        stages = (np.arange(self.steps)[:, None] + np.array(abscissae)) * self.step
        return np.concatenate([[0.0], stages.ravel()])


@dataclass(frozen=True, eq=False)
class Observation:
    """A static response of the field at one time, with a weight in a sum.

    Attributes
    ----------
    time : float
    time_rate : float
        Change of that time with the final one: 0 for a fixed time, ``time / T`` for a fraction of the whole.
    weight : float
    weight_rate : float
        Change of the weight with the final time.
    of : int
        What is observed: the field (0), its rate (1), its acceleration (2).
    value, partials : callable of Moment
        The response there.
    """

    time: float
    time_rate: float
    weight: float
    weight_rate: float
    of: int
    value: Callable[[Any], float]
    partials: Callable[[Any], Partials]


@dataclass(frozen=True, eq=False)
class TimePartials(Partials):
    """A response of a history: its value, and observations whose partial derivatives are asked for on the way back.

    Attributes
    ----------
    observations : tuple of Observation
    """

    observations: tuple[Observation, ...] = ()

    def named(self, name: str, stage: str | None) -> TimePartials:
        """The same as those of a response of some name."""
        return TimePartials(self.value, stage=stage, name=name, observations=self.observations)


class Reading(NamedTuple):
    """How a field is read in a step: weights of the rows of the states before and after it, ``(2, order + 1)``.

    Attributes
    ----------
    step : int
    weights : array
    by_final : array
        Derivatives of the weights by the final time.
    """

    step: int
    weights: FloatArray
    by_final: FloatArray


def reading(observation: Observation, times: Times, order: int) -> Reading:
    """Read an observation between two steps: cubic in the values and rates at both, of the highest derivative linear.

    The reading of the field and of a rate that has a rate itself is that of C. Hermite; it is differentiable where a
    time passes from one step to the next.
    """
    t, m, dt, final = observation.time, observation.of, times.step, float(times.final)
    if m > order:
        raise ResponseError(f"there is no time derivative of order {m} in equations of order {order}")
    if not -1e-12 * final <= t <= final * (1 + 1e-12):
        raise ResponseError(f"the time {t:.9g} of an observation is outside of the interval from 0 to {final:.9g}")
    step = int(np.clip(np.floor(t / dt), 0, times.steps - 1))
    s = t / dt - step
    rate = (observation.time_rate - t / final) / dt
    weights, by_final = np.zeros((2, order + 1)), np.zeros((2, order + 1))
    if m == order:
        weights[:, m] = 1 - s, s
        by_final[:, m] = -rate, rate
        return Reading(step, weights, by_final)
    values = np.array([1 - 3 * s**2 + 2 * s**3, 3 * s**2 - 2 * s**3])
    rates = np.array([s - 2 * s**2 + s**3, -(s**2) + s**3])
    weights[:, m], weights[:, m + 1] = values, dt * rates
    by_final[:, m] = np.array([-6 * s + 6 * s**2, 6 * s - 6 * s**2]) * rate
    by_final[:, m + 1] = dt * np.array([1 - 4 * s + 3 * s**2, -2 * s + 3 * s**2]) * rate + dt / final * rates
    return Reading(step, weights, by_final)
