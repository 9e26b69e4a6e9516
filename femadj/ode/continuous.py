"""The adjoint equation integrated by SciPy: differentiate, then discretise.

Between observations ``a' = -f_y^T a``, at each of them ``a(t_i-) = a(t_i+) + dJ/dy_i``, and

    dJ/dtheta = int f_theta^T a dt,    dJ/dy_0 = a(t_0-),    dJ/dt_i = dJ/dy_i . f(t_i, y_i),

with ``dJ/dt_0 = -a(t_0+) . f(t_0, y_0)``

(L. S. Pontryagin; R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud, NeurIPS 2018). The state along the way is
that of the interpolated steps, or it is integrated backwards beside ``a``: that needs no storage, and goes wrong where
the ODE forgets its past. Both are derivatives of the exact solution up to the tolerance, and of no computed one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.integrate import solve_ivp

from femadj.base.arrays import FloatArray
from femadj.errors import OdeError
from femadj.ode.adaptive import Trajectory
from femadj.ode.discrete import ByData
from femadj.ode.right_hand_side import RightHandSide, point
from femadj.ode.runge_kutta import STAGES

_BELOW = 1e-2
"""Absolute tolerance of adjoint states beside the relative one; cotangents are scaled to one."""

_USE_DISCRETE = "Use adjoint='discrete', which differentiates the steps that were taken"


def interpolate(trajectory: Trajectory, cotangents: FloatArray) -> ByData:
    """The adjoint along the interpolated steps."""
    rhs, steps, rtol = trajectory.rhs, trajectory.steps, trajectory.control.rtol

    def interval(i: int, a: FloatArray) -> tuple[FloatArray, FloatArray]:
        def rate(t: float, z: FloatArray) -> FloatArray:
            y = steps.interpolated(t)
            return -np.concatenate(_products(rhs, t, y, rhs(np.array([t]), y[None]), z[: rhs.n]))

        z = _back(trajectory, i, rate, np.append(a, np.zeros(rhs.theta.size)), np.array(_BELOW * rtol))
        return z[: rhs.n], z[rhs.n :]

    return _over_intervals(trajectory, cotangents, interval)


def backsolve(trajectory: Trajectory, cotangents: FloatArray) -> ByData:
    """The adjoint beside the state, which is integrated backwards from every observation to the one before.

    Raises
    ------
    OdeError
        When the state does not come back to where it came from.
    """
    rhs, control, n = trajectory.rhs, trajectory.control, trajectory.rhs.n
    atol = np.full(2 * n + rhs.theta.size, _BELOW * control.rtol)
    atol[:n] = control.atol

    def interval(i: int, a: FloatArray) -> tuple[FloatArray, FloatArray]:
        def rate(t: float, z: FloatArray) -> FloatArray:
            f = rhs(np.array([t]), z[None, :n])
            if not np.isfinite(f).all():
                raise OdeError(f"f is NaN or infinite on the way back, at {point(t, z[:n])}. {_USE_DISCRETE}")
            by_y, by_theta = _products(rhs, t, z[:n], f, z[n : 2 * n])
            return np.concatenate([f[0], -by_y, -by_theta])

        z = _back(trajectory, i, rate, np.concatenate([trajectory.y[i + 1], a, np.zeros(rhs.theta.size)]), atol)
        _require_return(trajectory, i, z[:n])
        return z[n : 2 * n], z[2 * n :]

    return _over_intervals(trajectory, cotangents, interval)


def _over_intervals(
    trajectory: Trajectory,
    cotangents: FloatArray,
    interval: Callable[[int, FloatArray], tuple[FloatArray, FloatArray]],
) -> ByData:
    """Jumps at the observations, and the derivatives by their times; J is scaled to cotangents of size one."""
    steps, last = trajectory.steps, len(trajectory.times) - 1
    largest = float(np.abs(cotangents).max()) or 1.0
    jumps = cotangents / largest
    begin = np.searchsorted(steps.interval, np.arange(last))
    f = np.concatenate([steps.k[begin, 0], steps.k[-1:, STAGES]])
    by_times = (jumps * f).sum(axis=1)
    a, by_theta = jumps[last], np.zeros(trajectory.rhs.theta.size)
    for i in reversed(range(last)):
        arrived, part = interval(i, a)
        by_theta += part
        if i == 0:
            by_times[0] = -arrived @ f[0]
        a = arrived + jumps[i]
    return ByData(largest * by_theta, largest * a, largest * by_times)


def _products(
    rhs: RightHandSide, t: float, y: FloatArray, f: FloatArray, a: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """``f_y^T a`` and ``f_theta^T a``."""
    return rhs.slopes(np.array([t]), y[None], f).back(0, a)[1:]


def _back(
    trajectory: Trajectory, i: int, rate: Callable[[float, FloatArray], FloatArray], z: FloatArray, atol: FloatArray
) -> FloatArray:
    """Integrate backwards over an interval."""
    times = trajectory.times
    with np.errstate(all="ignore"):
        found = solve_ivp(rate, (times[i + 1], times[i]), z, method="RK45", rtol=trajectory.control.rtol, atol=atol)
    if not found.success or not np.isfinite(found.y[:, -1]).all():
        raise OdeError(
            f"the adjoint equation could not be integrated from t = {times[i + 1]:.6g} back to {times[i]:.6g}: "
            f"{found.message} {_USE_DISCRETE}"
        )
    return np.asarray(found.y[:, -1])


def _require_return(trajectory: Trajectory, i: int, y: FloatArray) -> None:
    """The state on the way back must be that on the way there."""
    times, there, control = trajectory.times, trajectory.y[i], trajectory.control
    off = control.size(y - there, there)
    if off > control.way_back:
        raise OdeError(
            f"integrated backwards from t = {times[i + 1]:.6g} to {times[i]:.6g}, the state does not come back to "
            f"where it came from: it is off by {float(np.abs(y - there).max()):.1e}, {off:.1e} times the tolerance. "
            f"The ODE forgets its past, and the gradient would be wrong. {_USE_DISCRETE}"
        )
