"""Integration with steps whose length follows the estimated error, ending at every observation time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import OdeError
from femadj.ode.right_hand_side import F, RightHandSide, point
from femadj.ode.runge_kutta import ORDER, STAGES, B, Steps, attempt

_SHORTEST, _LONGEST, _SAFETY = 0.2, 5.0, 0.9


@dataclass(frozen=True, eq=False)
class Control:
    """How long steps may be.

    Attributes
    ----------
    rtol : float
    atol : float or (n,)
        The estimated error of a step stays below ``atol + rtol |y|``, in the mean over the unknowns.
    max_steps : int
        Steps that may be tried.
    way_back : float
        How far from where it came from a state integrated backwards may come, in units of the tolerance.
    """

    rtol: float
    atol: FloatArray
    max_steps: int
    way_back: float

    def size(self, v: FloatArray, y: FloatArray) -> float:
        """Mean size of a vector in units of the tolerance at y; infinite for what is not finite."""
        if not (np.isfinite(v).all() and np.isfinite(y).all()):
            return float("inf")
        with np.errstate(over="ignore"):
            return float(np.sqrt(np.mean((v / (self.atol + self.rtol * np.abs(y))) ** 2)))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What has been integrated.

    Attributes
    ----------
    rhs : RightHandSide
    times : (n_times,)
    y : (n_times, n)
    steps : Steps
    control : Control
    """

    rhs: RightHandSide
    times: FloatArray
    y: FloatArray
    steps: Steps
    control: Control


class _Taken(NamedTuple):
    """One step, as in ``Steps``."""

    interval: int
    start: float
    fraction: float
    t: float
    h: float
    y: FloatArray
    k: FloatArray


def _steps(taken: list[_Taken], rejected: int) -> Steps:
    interval, start, fraction, t, h, y, k = (np.array(part) for part in zip(*taken, strict=True))
    for array in (interval, start, fraction, t, h, y, k):
        array.setflags(write=False)
    return Steps(interval, start, fraction, t, h, y, k, rejected)


def integrate(rhs: RightHandSide, y0: FloatArray, times: FloatArray, control: Control) -> Trajectory:
    """Take steps from the first to the last of the times.

    Raises
    ------
    OdeError
        When the function is not finite, more steps are needed than allowed, or steps become too short for the digits
        of t.
    """
    taken: list[_Taken] = []
    rejected, states, y = 0, [y0], y0
    rate = rhs(times[:1], y[None])[0]
    if not np.isfinite(rate).all():
        raise OdeError(f"{F} is NaN or infinite at the initial state, {point(times[0], y)}")
    rhs.require_same(rhs(times[:1], y[None])[0], rate, np.abs(rate).max())
    h = _first(rhs, times, y, rate, control)
    for interval, begin in enumerate(times[:-1].tolist()):
        length = float(times[interval + 1]) - begin
        done = 0.0
        while done < 1.0:
            t, left = begin + done * length, (1.0 - done) * length
            _require_progress(len(taken) + rejected, t, h, y, control)
            # the last two steps of an interval share what is left, so that none is tiny
            now = left if h >= left else min(h, 0.5 * left)
            tried = attempt(rhs, t, y, now, rate)
            error = control.size(tried.error, np.maximum(np.abs(y), np.abs(tried.y)))
            if error > 1.0:
                rejected += 1
                h = now * max(_SHORTEST, _SAFETY * error ** (-1 / ORDER))
                continue
            last = now >= left
            fraction = 1.0 - done if last else now / length
            taken.append(_Taken(interval, done, fraction, t, now, y, tried.k))
            longer = now * (min(_LONGEST, _SAFETY * error ** (-1 / ORDER)) if error > 0 else _LONGEST)
            h = max(longer, h) if now < h else longer  # cut by an observation: not by the error
            done, y, rate = (1.0 if last else done + fraction), tried.y, tried.k[STAGES]
        states.append(y)
    return Trajectory(rhs, times, np.stack(states), _steps(taken, rejected), control)


def replay(rhs: RightHandSide, y0: FloatArray, times: FloatArray, steps: Steps) -> FloatArray:
    """States at all times by the same steps, as fractions of the intervals, whatever their error is now."""
    states, y = [y0], y0
    for m in range(len(steps)):
        i = steps.interval[m]
        if m and i != steps.interval[m - 1]:
            states.append(y)
        length = times[i + 1] - times[i]
        t, h = float(times[i] + steps.start[m] * length), float(steps.fraction[m] * length)
        k = attempt(rhs, t, y, h, rhs(np.array([t]), y[None])[0]).k
        with np.errstate(all="ignore"):  # looked at below
            y = y + h * (B @ k[:STAGES])
    found = np.stack([*states, y])
    if not np.isfinite(found).all():
        raise OdeError("the same steps lead to NaN or infinity at this y0, times or theta: integrate anew there")
    return found


def _require_progress(tried: int, t: float, h: float, y: FloatArray, control: Control) -> None:
    """An error where no further step may or can be taken."""
    if h <= 8 * np.spacing(abs(t)):
        raise OdeError(
            f"steps have become too short at {point(t, y)} ({h:.1e}, after {tried} steps): the solution grows without "
            f"bound there, {F} is NaN or infinite near by or jumps, or rtol and atol ask for more digits than there "
            "are. Check f there; end before a singularity; put times of jumps among the observation times"
        )
    if tried >= control.max_steps:
        raise OdeError(
            f"{tried} steps have come to {point(t, y)} only, where steps have length {h:.1e}: the ODE is stiff (steps "
            "of explicit methods are limited by its fastest decay), or the tolerance is tight. Allow more by "
            "max_steps=, or solve stiff systems by an implicit method"
        )


def _first(rhs: RightHandSide, times: FloatArray, y: FloatArray, rate: FloatArray, control: Control) -> float:
    """Length of the first step (E. Hairer, S. P. Norsett, G. Wanner, Solving ODEs I, II.4)."""
    span = float(times[-1] - times[0])
    size, speed = control.size(y, y), control.size(rate, y)
    h = min(span, 0.01 * size / speed if min(size, speed) > 1e-5 else 1e-6 * span) or 1e-15 * span
    with np.errstate(all="ignore"):
        ahead = rhs(times[:1] + h, (y + h * rate)[None])[0]
        bend = control.size(ahead - rate, y) / h
    largest = max(speed, bend)
    longer = (0.01 / largest) ** (1 / ORDER) if np.isfinite(largest) and largest > 1e-15 else h
    return float(min(span, 100 * h, max(longer, 1e-3 * h)))
