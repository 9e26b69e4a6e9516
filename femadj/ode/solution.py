"""Ordinary differential equations observed at several times, with derivatives by all data."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from femadj.algebra.linear_system import as_theta
from femadj.algebra.responses import partials_of
from femadj.base.arguments import described, flag, one_of, real_array, whole_number
from femadj.base.arrays import FloatArray
from femadj.base.calls import as_array
from femadj.base.display import measured, shown
from femadj.errors import OdeError
from femadj.ode.adaptive import Control, Trajectory, integrate, replay
from femadj.ode.continuous import backsolve, interpolate
from femadj.ode.discrete import ByData, pullback, pushforward
from femadj.ode.right_hand_side import RightHandSide
from femadj.ode.runge_kutta import Steps

Adjoint = Literal["discrete", "interpolate", "backsolve"]

_ADJOINTS: Mapping[str, Callable[[Trajectory, FloatArray], ByData]] = MappingProxyType(
    {"discrete": pullback, "interpolate": interpolate, "backsolve": backsolve}
)

BACK_TOLERANCE = 1e3
"""How far from where it came from a state integrated backwards may come, in units of the tolerance."""


@dataclass(frozen=True, eq=False)
class OdeGradient:
    """Derivatives of a scalar by all data of an ODE.

    Attributes
    ----------
    theta : float or array in the shape of theta
    y0 : (n,)
    times : (n_times,)
        By every observation time, the first (initial) and the last (final) included.
    adjoint : "discrete", "interpolate" or "backsolve"
    """

    theta: float | FloatArray
    y0: FloatArray
    times: FloatArray
    adjoint: Adjoint

    def __repr__(self) -> str:
        return shown(
            f"OdeGradient({self.adjoint})",
            theta=measured(np.asarray(self.theta)),
            y0=measured(self.y0),
            times=measured(self.times),
        )


@dataclass(frozen=True, eq=False)
class OdeSolution:
    """An ODE that has been integrated; it keeps all its steps, ``8 n`` numbers each.

    Attributes
    ----------
    trajectory : Trajectory
    adjoint : "discrete", "interpolate" or "backsolve"
        How ``pullback`` differentiates.
    check : bool
    checked : weak mapping of id to response
        Responses whose derivatives have been compared with differences at this solution.
    """

    trajectory: Trajectory
    adjoint: Adjoint
    check: bool
    checked: weakref.WeakValueDictionary[int, Any] = field(default_factory=weakref.WeakValueDictionary, repr=False)

    def __repr__(self) -> str:
        times = self.times
        return shown(
            f"OdeSolution({self.y.shape[1]} unknowns at {len(times)} times, {times[0]:.6g} to {times[-1]:.6g})",
            steps=repr(self.steps),
            y=measured(self.y),
        )

    @property
    def times(self) -> FloatArray:
        """Observation times, (n_times,)."""
        return self.trajectory.times

    @property
    def y(self) -> FloatArray:
        """States at these times, (n_times, n); the first is y0."""
        return self.trajectory.y

    @property
    def theta(self) -> FloatArray:
        """Where it has been integrated."""
        return self.trajectory.rhs.theta

    @property
    def steps(self) -> Steps:
        """The steps that were taken."""
        return self.trajectory.steps

    def interpolated(self, times: npt.ArrayLike) -> FloatArray:
        """States at other times between the first and the last, by the interpolant of order 4: ``(..., n)``."""
        wanted = real_array(times, "times", OdeError)
        if not ((wanted >= self.times[0]) & (wanted <= self.times[-1])).all():
            raise OdeError(f"times must lie between {self.times[0]:.6g} and {self.times[-1]:.6g}")
        states = [self.steps.interpolated(float(t)) for t in wanted.ravel()]
        return np.array(states).reshape(*wanted.shape, self.y.shape[1])

    def replayed(
        self, *, theta: npt.ArrayLike | None = None, y0: npt.ArrayLike | None = None, times: npt.ArrayLike | None = None
    ) -> FloatArray:
        """States ``(n_times, n)`` by the same steps for other data; what is left out stays.

        The lengths of steps are the same fractions of the intervals: this is the function of all data that
        ``adjoint="discrete"`` and ``pushforward`` differentiate, to rounding.
        """
        old, rhs = self.trajectory, self.trajectory.rhs
        at = rhs.theta if theta is None else as_array(theta, rhs.theta.shape, "theta", OdeError)
        start = old.y[0] if y0 is None else as_array(y0, (rhs.n,), "y0", OdeError)
        moved = old.times if times is None else _as_times(times)
        if moved.shape != old.times.shape:
            raise OdeError(f"times must have shape {old.times.shape}, not {moved.shape}")
        return replay(RightHandSide(rhs.function, rhs.vjp, at, rhs.n, rhs.columns), start, moved, old.steps)

    def pullback(self, cotangents: npt.ArrayLike) -> OdeGradient:
        """Derivatives of a scalar by all data, from its derivatives by the states.

        Parameters
        ----------
        cotangents : (n_times, n)
            ``dJ/dy`` at every observation time.

        Raises
        ------
        OdeError
            When the function gives other values than before or derivatives that are not finite; for
            ``adjoint="backsolve"``, when the state does not come back to where it came from.
        ComplexStepError
            When the function cannot be differentiated.
        VerificationError
            When its derivative disagrees with differences.
        """
        given = as_array(cotangents, self.y.shape, "cotangents (dJ/dy at every time)", OdeError)
        self._checked_slopes()
        found = _ADJOINTS[self.adjoint](self.trajectory, given)
        for what, part in zip(("theta", "y0", "times"), found, strict=True):
            if not np.isfinite(part).all():
                raise OdeError(f"the derivative by {what} is NaN or infinite: sensitivities have grown out of bounds")
        shape = self.theta.shape
        return OdeGradient(found.theta.reshape(shape) if shape else float(found.theta[0]), *found[1:], self.adjoint)

    def pushforward(
        self, *, theta: npt.ArrayLike | None = None, y0: npt.ArrayLike | None = None, times: npt.ArrayLike | None = None
    ) -> FloatArray:
        """``dy`` (n_times, n) along a direction of all data; what is left out does not move.

        Of the steps that were taken, whatever ``adjoint`` is: ``adjoint="discrete"`` is its transpose.
        """
        given = ((theta, self.theta.shape, "theta"), (y0, self.y[0].shape, "y0"), (times, self.times.shape, "times"))
        rates = [
            np.zeros(shape) if part is None else as_array(part, shape, f"the direction of {name}", OdeError)
            for part, shape, name in given
        ]
        self._checked_slopes()
        return pushforward(self.trajectory, ByData(rates[0].ravel(), rates[1], rates[2]))

    def value_and_gradient(self, response: Callable[[FloatArray, Any], Any]) -> tuple[float, OdeGradient]:
        """Value and gradient of a response ``J(y, theta)``, with ``y`` (n_times, n) read-only.

        It returns a number, and is then differentiated by guarded complex step, or a ``fa.ResponseEvaluation`` with its
        partial derivatives ``dx`` (by y) and ``dtheta``; errors as in ``LinearSystem.values_and_gradients`` and
        ``pullback``.
        """
        partials = partials_of(response, 0, self.y, self.theta, self.checked if self.check else None)
        through_y = self.pullback(partials.dx)
        direct = 0.0 if partials.dtheta is None else partials.dtheta
        total = through_y.theta + (direct if self.theta.ndim else float(direct))
        return partials.value, OdeGradient(total, through_y.y0, through_y.times, self.adjoint)

    def _checked_slopes(self) -> None:
        trajectory = self.trajectory
        if self.check:
            stages = trajectory.steps.stages(slice(None))
            trajectory.rhs.require_slopes(*stages, float(trajectory.times[-1] - trajectory.times[0]))


def odeint(
    f: Callable[[Any, Any, Any], Any],
    y0: npt.ArrayLike,
    times: npt.ArrayLike,
    theta: npt.ArrayLike,
    *,
    rtol: float = 1e-6,
    atol: npt.ArrayLike = 1e-9,
    adjoint: Adjoint = "discrete",
    vjp: Callable[[Any, Any, Any, Any], Any] | None = None,
    vectorised: bool = False,
    max_steps: int = 100_000,
    check: bool = True,
) -> OdeSolution:
    """Integrate ``y' = f(t, y, theta)`` and observe it at several times.

    Adaptive explicit Runge-Kutta steps of order 5 (Dormand and Prince) that end at every observation; all of them are
    kept for the derivatives, ``8 n`` numbers a step.

    Parameters
    ----------
    f : callable
        ``f(t, y, theta)``: the rate (n,) of ``y`` (n,).
    y0 : (n,)
    times : (n_times,)
        Ascending: the first is the time of y0, the last the final time. Put times at which f jumps among them.
    theta : float or array of any shape
        What f depends on beside t and y.
    rtol, atol : float, and float or (n,)
        The estimated error of a step stays below ``atol + rtol |y|``, in the mean over the unknowns.
    adjoint : "discrete", "interpolate" or "backsolve"
        ``"discrete"``: derivatives of the steps taken, to rounding. The other two are derivatives of the exact
        solution, up to the tolerance: the adjoint equation along the interpolated steps, or with the state integrated
        backwards beside it, which is refused where it does not come back.
    vjp : callable, optional
        ``vjp(t, y, theta, a)`` returns ``a.df/dt``, ``a.df/dy`` and ``a.df/dtheta`` (None for zero). Left out, f is
        differentiated by guarded complex step: ``1 + n + theta.size`` evaluations at every stage.
    vectorised : bool
        Whether f takes many points as columns, ``t`` (m,) and ``y`` (n, m), and returns (n, m): the stages of many
        steps are then differentiated at once.
    max_steps : int
        Steps that may be tried.
    check : bool
        Compare the derivatives of f with differences at three stages, once for every gradient, and with ``"backsolve"``
        the way back with the way there.

    Returns
    -------
    OdeSolution

    Raises
    ------
    OdeError
        For arguments of the wrong kind, and when f fails, returns another shape, integers or numbers that are not
        finite, or when it takes too many steps.
    """
    for name, function in (("f", f), ("vjp", vjp)):
        if not callable(function) and not (name == "vjp" and function is None):
            raise OdeError(f"{name} must be a function, not {type(function).__name__}")
    one_of(adjoint, _ADJOINTS, "adjoint", OdeError)
    flag(vectorised, "vectorised", OdeError)
    flag(check, "check", OdeError)
    start = real_array(y0, "y0", OdeError)
    if start.ndim != 1 or not start.size or not np.isfinite(start).all():
        raise OdeError(f"y0 must be an array (n,) of finite numbers, not {described(y0)}")
    rhs = RightHandSide(f, vjp, as_theta(theta, OdeError), len(start), bool(vectorised))
    control = _as_control(rtol, atol, max_steps, len(start), BACK_TOLERANCE if check else float("inf"))
    trajectory = integrate(rhs, start, _as_times(times), control)
    for array in (trajectory.times, trajectory.y):
        array.setflags(write=False)
    return OdeSolution(trajectory, adjoint, bool(check))


def _as_control(rtol: Any, atol: Any, max_steps: Any, n: int, way_back: float) -> Control:
    whole_number(max_steps, 1, "max_steps", OdeError)
    absolute, relative = real_array(atol, "atol", OdeError), real_array(rtol, "rtol", OdeError)
    if relative.shape != () or not 1e-13 <= relative < 1:
        raise OdeError(f"rtol must be a number between 1e-13 and 1, not {described(rtol)}")
    if absolute.shape not in {(), (n,)} or not (np.isfinite(absolute) & (absolute > 0)).all():
        raise OdeError(f"atol must be a positive number, or one for each of {n} unknowns, not {described(atol)}")
    return Control(float(relative), absolute, int(max_steps), way_back)


def _as_times(times: npt.ArrayLike) -> FloatArray:
    array = real_array(times, "times", OdeError)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
        raise OdeError(f"times must be two or more finite numbers, the first that of y0, not {described(times)}")
    back = np.flatnonzero(np.diff(array) <= 0)
    if back.size:
        i = int(back[0])
        raise OdeError(
            f"times must ascend: times[{i + 1}] = {array[i + 1]:.9g} is not after times[{i}] = {array[i]:.9g}. To "
            "integrate backwards, put -t for t and -f for f"
        )
    return array
