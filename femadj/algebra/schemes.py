"""One-step schemes for ``M u'' + C u' + K u = F(t)`` and ``M u' + K u = F(t)``, each with its discrete adjoint.

A scheme solves stages of one kind (``algebra.stepping.Stages``). Those of linear equations have one matrix, factorised
once for a run; where ``K u`` is nonlinear, every stage is solved by iterations and has a tangent of its own. The
adjoint runs the same operations backwards, with one transposed solve for every stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from femadj.algebra.stepping import Accumulator, Change, Equations, SchemeStepper, Stages, along
from femadj.base.arguments import real_array
from femadj.base.arrays import FloatArray
from femadj.errors import ProblemError


class Initialised:
    """What schemes have in common: the highest derivative at the start satisfies the equations."""

    equations: Equations

    @cached_property
    def _inertia(self) -> Stages:
        order = self.equations.order
        return self.equations.stages((0.0,) * order + (1.0,))

    def _start(self, rows: int) -> FloatArray:
        given = self.equations.initial
        y = np.zeros((rows, given.shape[1]))
        y[: len(given)] = given
        y[len(given)] = self._inertia.solve(0, (*given, None), given[0])
        return y

    def forward_first(self, y: FloatArray, initial: FloatArray, change: Change) -> FloatArray:
        """The rate of the state at the start along a direction."""
        order, dy = self.equations.order, np.zeros_like(y)
        dy[:order] = initial
        dy[order] = self._inertia.forward(0, tuple(y[: order + 1]), (*initial, None), change)
        return dy

    def back_first(self, y: FloatArray, bar: FloatArray, into: Accumulator) -> None:
        """Add what depends on the state at the start."""
        order = self.equations.order
        fields = tuple(y[: order + 1])
        lam, products = self._inertia.adjoint(0, fields, bar[order])
        self.equations.collect(0, fields, lam, products, into)
        for r in range(order):
            into.initial[r] += bar[r] - products[r]


# ---------------------------------------------------------------------- second order in time
@dataclass(frozen=True)
class _Alpha:
    """Coefficients of generalised-alpha: where inertia (``m``) and the other forces (``f``) are balanced."""

    m: float
    f: float
    beta: float
    gamma: float


class _SecondOrder:
    """Schemes that balance forces within a step and integrate the acceleration after Newmark."""

    order = 2
    rows = 3
    carried = 3

    @property
    def alpha(self) -> _Alpha:
        """The coefficients."""
        raise NotImplementedError

    @property
    def abscissae(self) -> tuple[float, ...]:
        """Where in a step the forces are balanced."""
        return (1.0 - self.alpha.f,)

    @property
    def means(self) -> tuple[tuple[float, float], ...]:
        """Forces and inertia are balanced with means over the step."""
        m, f = self.alpha.m, self.alpha.f
        return (f, 1 - f), (f, 1 - f), (m, 1 - m)

    def stepper(self, equations: Equations, dt: float) -> SchemeStepper:
        """The scheme on equations, with a step length."""
        return _AlphaStepper(equations, dt, self.alpha)


@dataclass(frozen=True)
class GeneralisedAlpha(_SecondOrder):
    """Second order, unconditionally stable, with damping of what the steps do not resolve.

    J. Chung and G. M. Hulbert, J. Appl. Mech. 60 (1993).

    Parameters
    ----------
    rho : float
        What is left of an unresolved oscillation after a step, from 0 (nothing) to 1 (all of it).
    """

    rho: float = 0.8

    def __post_init__(self) -> None:
        _between(self.rho, 0.0, 1.0, "rho of GeneralisedAlpha")

    @property
    def alpha(self) -> _Alpha:
        """The coefficients."""
        m, f = (2 * self.rho - 1) / (self.rho + 1), self.rho / (self.rho + 1)
        return _Alpha(m, f, 0.25 * (1 - m + f) ** 2, 0.5 - m + f)


@dataclass(frozen=True)
class Newmark(_SecondOrder):
    """Newmark's scheme (J. Eng. Mech. Div. 85 (1959)); left as it is, the trapezoidal rule, which keeps the energy.

    Parameters
    ----------
    beta, gamma : float
        ``2 beta >= gamma >= 1/2``, as unconditional stability asks for; second order with ``gamma = 1/2``.
    """

    beta: float = 0.25
    gamma: float = 0.5

    def __post_init__(self) -> None:
        _between(self.gamma, 0.5, np.inf, "gamma of Newmark")
        _between(self.beta, self.gamma / 2, np.inf, "beta of Newmark, for stability with any step,")

    @property
    def alpha(self) -> _Alpha:
        """The coefficients."""
        return _Alpha(0.0, 0.0, self.beta, self.gamma)


@dataclass(frozen=True, eq=False)
class _AlphaStepper(Initialised):
    """States are ``u, v, a``. With ``u~ = u + dt v + dt^2 (1/2 - beta) a`` and ``v~ = v + dt (1 - gamma) a``,

    ``M a_m + C v_f + K u_f = F``,  ``u' = u~ + dt^2 beta a'``,  ``v' = v~ + dt gamma a'``,

    where ``x_m = (1 - m) x' + m x`` and ``x_f = (1 - f) x' + f x``.
    """

    equations: Equations
    dt: float
    c: _Alpha

    @cached_property
    def stages(self) -> Stages:
        """What is solved in the steps."""
        c, dt = self.c, self.dt
        return self.equations.stages(((1 - c.f) * c.beta * dt**2, (1 - c.f) * c.gamma * dt, 1 - c.m))

    def first(self) -> FloatArray:
        """The state at the start."""
        return self._start(3)

    def step(self, y: FloatArray, k: int) -> FloatArray:
        """The state after step ``k``."""
        c, dt, (u, v, a) = self.c, self.dt, y
        ahead = u + dt * v + dt**2 * (0.5 - c.beta) * a
        fast = v + dt * (1 - c.gamma) * a
        balanced = ((1 - c.f) * ahead + c.f * u, (1 - c.f) * fast + c.f * v, c.m * a if c.m else None)
        new = self.stages.solve(1 + k, balanced, u)
        return np.stack([ahead + dt**2 * c.beta * new, fast + dt * c.gamma * new, new])

    def _balanced(self, y: FloatArray, new: FloatArray) -> tuple[FloatArray, ...]:
        """The fields of a step that forces are balanced with."""
        mean = (1 - self.c.f) * new + self.c.f * y
        return mean[0], mean[1], (1 - self.c.m) * new[2] + self.c.m * y[2]

    def back(self, y: FloatArray, new: FloatArray, k: int, bar: FloatArray, into: Accumulator) -> FloatArray:
        """The cotangent of ``y``."""
        c, dt = self.c, self.dt
        fields = self._balanced(y, new)
        lam, products = self.stages.adjoint(1 + k, fields, bar[2] + dt**2 * c.beta * bar[0] + dt * c.gamma * bar[1])
        of_u, of_v, of_a = products
        ahead, fast = bar[0] - (1 - c.f) * of_u, bar[1] - (1 - c.f) * of_v
        self.equations.collect(1 + k, fields, lam, products, into)
        into.step[:] += along(ahead, y[1] + 2 * dt * (0.5 - c.beta) * y[2]) + along(fast, (1 - c.gamma) * y[2])
        into.step[:] += along(2 * dt * c.beta * ahead + c.gamma * fast, new[2])
        slow = dt**2 * (0.5 - c.beta) * ahead + dt * (1 - c.gamma) * fast - c.m * of_a
        return np.stack([ahead - c.f * of_u, fast + dt * ahead - c.f * of_v, slow])

    def forward(self, y: FloatArray, new: FloatArray, k: int, dy: FloatArray, dt: float, change: Change) -> FloatArray:
        """The rate of ``new``."""
        c, h, (u, v, a) = self.c, self.dt, dy
        ahead = u + h * v + h**2 * (0.5 - c.beta) * a + dt * (y[1] + 2 * h * (0.5 - c.beta) * y[2])
        fast = v + h * (1 - c.gamma) * a + dt * (1 - c.gamma) * y[2]
        ahead, fast = ahead + 2 * dt * h * c.beta * new[2], fast + dt * c.gamma * new[2]
        moved = ((1 - c.f) * ahead + c.f * u, (1 - c.f) * fast + c.f * v, c.m * a)
        highest = self.stages.forward(1 + k, self._balanced(y, new), moved, change)
        return np.stack([ahead + h**2 * c.beta * highest, fast + h * c.gamma * highest, highest])


# ---------------------------------------------------------------------- first order in time
class _RungeKutta:
    """Singly diagonal implicit Runge-Kutta schemes: all stages share one matrix ``M + gamma dt K``."""

    order = 1
    carried = 2
    means = None

    @property
    def tableau(self) -> tuple[tuple[float, ...], ...]:
        """The rows of coefficients below and on the diagonal."""
        raise NotImplementedError

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the stages in the step; the last row where schemes end at their last stage."""
        return self.tableau[-1]

    @property
    def abscissae(self) -> tuple[float, ...]:
        """Where in a step the stages are."""
        return tuple(sum(row) for row in self.tableau)

    @property
    def rows(self) -> int:
        """The unknowns, their rate at the end of the step, and the rates of the other stages."""
        return 1 + len(self.tableau)

    def stepper(self, equations: Equations, dt: float) -> SchemeStepper:
        """The scheme on equations, with a step length."""
        return _StageStepper(equations, dt, self)


@dataclass(frozen=True)
class ImplicitEuler(_RungeKutta):
    """First order; damps whatever the steps do not resolve."""

    tableau = ((1.0,),)


@dataclass(frozen=True)
class Midpoint(_RungeKutta):
    """The implicit midpoint rule: second order; does not damp what the steps do not resolve, whose sign alternates.

    Without loads in time that is the rule of Crank and Nicolson. Rates at the ends of steps continue those in the
    middle.
    """

    tableau = ((0.5,),)
    weights = (1.0,)


_G2 = 1 - 0.5**0.5
_G3 = 0.43586652150845899942
"""Root of ``x^3 - 3 x^2 + 3 x / 2 - 1 / 6``."""


@dataclass(frozen=True)
class SDIRK2(_RungeKutta):
    """Two stages, second order; damps whatever the steps do not resolve.

    R. Alexander, SIAM J. Numer. Anal. 14 (1977).
    """

    tableau = ((_G2,), (1 - _G2, _G2))


@dataclass(frozen=True)
class SDIRK3(_RungeKutta):
    """Three stages, third order; damps whatever the steps do not resolve (R. Alexander, 1977)."""

    tableau = (
        (_G3,),
        ((1 - _G3) / 2, _G3),
        (-(6 * _G3**2 - 16 * _G3 + 1) / 4, (6 * _G3**2 - 20 * _G3 + 5) / 4, _G3),
    )


@dataclass(frozen=True, eq=False)
class _StageStepper(Initialised):
    """``(M + gamma dt K) k_i = F(t_i) - K (u + dt sum_(j<i) a_ij k_j)``, ``u' = u + dt sum_i b_i k_i``.

    States are ``u``, its rate ``v`` at the end of the step, and ``k_1 .. k_(s-1)``. The rate is the last stage where
    that is at the end, and continues the stage in the middle otherwise: ``v' = 2 k - v``.
    """

    equations: Equations
    dt: float
    scheme: _RungeKutta

    @property
    def _at_end(self) -> bool:
        return abs(self.scheme.abscissae[-1] - 1.0) < 1e-12

    @cached_property
    def stages(self) -> Stages:
        """What is solved in the steps."""
        return self.equations.stages((self.scheme.tableau[0][0] * self.dt, 1.0))

    def first(self) -> FloatArray:
        """The state at the start."""
        return self._start(self.scheme.rows)

    def step(self, y: FloatArray, k: int) -> FloatArray:
        """The state after step ``k``."""
        a, dt, s = self.scheme.tableau, self.dt, len(self.scheme.tableau)
        new = np.zeros_like(y)
        stages: list[FloatArray] = []
        for i in range(s):
            here = y[0] + dt * _sum(a[i][:i], stages)
            stages.append(self.stages.solve(1 + k * s + i, (here, None), here))
        new[0] = y[0] + dt * _sum(self.scheme.weights, stages)
        new[1] = stages[-1] if self._at_end else 2 * stages[-1] - y[1]
        for row, stage in zip(new[2:], stages[:-1], strict=True):
            row[...] = stage
        return new

    def back(self, y: FloatArray, new: FloatArray, k: int, bar: FloatArray, into: Accumulator) -> FloatArray:
        """The cotangent of ``y``."""
        a, b, dt, s = self.scheme.tableau, self.scheme.weights, self.dt, len(self.scheme.tableau)
        stages = [*new[2:], new[1] if self._at_end else 0.5 * (new[1] + y[1])]
        bars = [dt * b[i] * bar[0] for i in range(s)]
        bars[-1] = bars[-1] + (1.0 if self._at_end else 2.0) * bar[1]
        before = np.stack([bar[0], np.zeros_like(bar[1]) if self._at_end else -bar[1]])
        into.step[:] += along(bar[0], _sum(b, stages))
        for i in reversed(range(s)):
            moved = _sum(a[i], stages[: i + 1])
            fields = (y[0] + dt * moved, stages[i])
            lam, products = self.stages.adjoint(1 + k * s + i, fields, bars[i])
            self.equations.collect(1 + k * s + i, fields, lam, products, into)
            into.step[:] -= along(products[0], moved)
            before[0] -= products[0]
            for j in range(i):
                bars[j] = bars[j] - dt * a[i][j] * products[0]
        return before

    def forward(self, y: FloatArray, new: FloatArray, k: int, dy: FloatArray, dt: float, change: Change) -> FloatArray:
        """The rate of ``new``."""
        a, b, h, s = self.scheme.tableau, self.scheme.weights, self.dt, len(self.scheme.tableau)
        stages = [*new[2:], new[1] if self._at_end else 0.5 * (new[1] + y[1])]
        rates: list[FloatArray] = []
        for i in range(s):
            moved = _sum(a[i], stages[: i + 1])
            here = dy[0] + dt * moved + h * _sum(a[i][:i], rates)
            rates.append(self.stages.forward(1 + k * s + i, (y[0] + h * moved, stages[i]), (here, None), change))
        u = dy[0] + dt * _sum(b, stages) + h * _sum(b, rates)
        return np.stack([u, rates[-1] if self._at_end else 2 * rates[-1] - dy[1], *rates[:-1]])


@dataclass(frozen=True)
class BDF2:
    """The backward differentiation formula of second order, after a first step of implicit Euler.

    One solve a step; damps whatever the steps do not resolve. The first step has a matrix of its own, which takes one
    further factorisation.
    """

    order = 1
    rows = 3
    carried = 3
    abscissae = (1.0,)
    means = None

    def stepper(self, equations: Equations, dt: float) -> SchemeStepper:
        """The scheme on equations, with a step length."""
        return _DifferenceStepper(equations, dt)


@dataclass(frozen=True, eq=False)
class _DifferenceStepper(Initialised):
    """``M v' + K u' = F(t')`` with ``dt v' = w_0 u' + w_1 u + w_2 p``; states are ``u, v`` and ``p``, the ``u`` before.

    At the first step ``w = (1, -1, 0)``, then ``(3/2, -2, 1/2)``.
    """

    equations: Equations
    dt: float

    @cached_property
    def stages(self) -> Stages:
        """What is solved in the steps, but the first one."""
        return self.equations.stages((self.dt, 1.5))

    @cached_property
    def _euler(self) -> Stages:
        return self.equations.stages((self.dt, 1.0))

    def _of(self, k: int) -> tuple[Stages, tuple[float, float, float]]:
        return (self.stages, (1.5, -2.0, 0.5)) if k else (self._euler, (1.0, -1.0, 0.0))

    def first(self) -> FloatArray:
        """The state at the start."""
        return self._start(3)

    def step(self, y: FloatArray, k: int) -> FloatArray:
        """The state after step ``k``."""
        stages, (w, w_u, w_p) = self._of(k)
        before = w_u * y[0] + w_p * y[2]
        u = self.dt * stages.solve(1 + k, (None, before / self.dt), y[0])
        return np.stack([u, (w * u + before) / self.dt, y[0]])

    def back(self, y: FloatArray, new: FloatArray, k: int, bar: FloatArray, into: Accumulator) -> FloatArray:
        """The cotangent of ``y``."""
        (stages, (w, w_u, w_p)), dt = self._of(k), self.dt
        lam, products = stages.adjoint(1 + k, (new[0], new[1]), dt * bar[0] + w * bar[1])
        self.equations.collect(1 + k, (new[0], new[1]), lam, products, into)
        slow = (bar[1] - products[1]) / dt
        into.step[:] -= along(slow, new[1])
        return np.stack([bar[2] + w_u * slow, np.zeros_like(slow), w_p * slow])

    def forward(self, y: FloatArray, new: FloatArray, k: int, dy: FloatArray, dt: float, change: Change) -> FloatArray:
        """The rate of ``new``."""
        stages, (w, w_u, w_p) = self._of(k)
        rate = (w_u * dy[0] + w_p * dy[2] - dt * new[1]) / self.dt
        u = self.dt * stages.forward(1 + k, (new[0], new[1]), (None, rate), change)
        return np.stack([u, rate + w / self.dt * u, dy[0]])


def _sum(weights: tuple[float, ...], arrays: list[FloatArray]) -> FloatArray:
    """Weighted sum; zero without arrays."""
    total = np.zeros_like(arrays[0]) if arrays else np.zeros(())
    for weight, array in zip(weights, arrays, strict=True):
        total = total + weight * array
    return total


def _between(value: float, low: float, high: float, what: str) -> None:
    """ProblemError for what is no number of a range."""
    number = real_array(value, what, ProblemError, "a number")
    if number.shape != () or not low <= number <= high or not np.isfinite(number):
        above = f"at least {low:g}" if high == np.inf else f"from {low:g} to {high:g}"
        raise ProblemError(f"{what} must be {above}, not {value!r}")
