"""Derivatives of the steps that were taken: discretise, then differentiate.

A step is a fraction of the interval between two observations, ``t = t_i + alpha L``, ``h = beta L``, ``L =
t_(i+1) - t_i``. Fractions are held, so that the times are variables like all others:

    d/dt_i = (1 - alpha) d/dt - beta d/dh,    d/dt_(i+1) = alpha d/dt + beta d/dh.

Backwards the cotangent of the state jumps by ``dJ/dy_i`` at every observation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.ode.adaptive import Trajectory
from femadj.ode.right_hand_side import RightHandSide, Slopes
from femadj.ode.runge_kutta import STAGES, Before, Steps, along, back

_BLOCK_ENTRIES = 2**21


class ByData(NamedTuple):
    """Derivatives of a scalar by all data, or rates of these; theta is flat."""

    theta: FloatArray
    y0: FloatArray
    times: FloatArray


def pullback(trajectory: Trajectory, cotangents: FloatArray) -> ByData:
    """Exact derivatives of the states at all times as the steps give them; ``cotangents`` is ``(n_times, n)``."""
    rhs, times, steps = trajectory.rhs, trajectory.times, trajectory.steps
    a, by_theta, by_times = cotangents[-1], np.zeros(rhs.theta.size), np.zeros(len(times))
    observed = len(times) - 1
    for m, slopes, first in _linearised(rhs, steps, reverse=True):
        i = int(steps.interval[m])
        if i + 1 < observed:
            observed = i + 1
            a = a + cotangents[observed]
        before = back(steps.h[m], steps.k[m], slopes, first, a)
        a = before.y
        by_theta += before.theta
        by_times[i] += (1 - steps.start[m]) * before.t - steps.fraction[m] * before.h
        by_times[i + 1] += steps.start[m] * before.t + steps.fraction[m] * before.h
    return ByData(by_theta, a + cotangents[0], by_times)


def pushforward(trajectory: Trajectory, rates: ByData) -> FloatArray:
    """Rates of the states at all times, ``(n_times, n)``, for rates of all data."""
    rhs, steps = trajectory.rhs, trajectory.steps
    dy, states = rates.y0, [rates.y0]
    for m, slopes, first in _linearised(rhs, steps, reverse=False):
        i = int(steps.interval[m])
        if i >= len(states):
            states.append(dy)
        dt = (1 - steps.start[m]) * rates.times[i] + steps.start[m] * rates.times[i + 1]
        dh = steps.fraction[m] * (rates.times[i + 1] - rates.times[i])
        dy = along(steps.h[m], steps.k[m], slopes, first, Before(float(dt), float(dh), dy, rates.theta))
    return np.stack([*states, dy])


def _linearised(rhs: RightHandSide, steps: Steps, *, reverse: bool) -> Iterator[tuple[int, Slopes, int]]:
    """Number, derivatives of f and number of the first stage of every step; f is differentiated in blocks of steps."""
    width = max(1, _BLOCK_ENTRIES // (STAGES * rhs.n * (rhs.n + rhs.theta.size + 1)))
    starts = range(0, len(steps), width)
    for start in reversed(starts) if reverse else starts:
        numbers = range(start, min(start + width, len(steps)))
        slopes = rhs.slopes(*steps.stages(slice(numbers.start, numbers.stop)))
        for m in reversed(numbers) if reverse else numbers:
            yield m, slopes, (m - start) * STAGES
