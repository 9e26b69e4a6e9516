"""Schemes on small dense equations: their orders and stability, what they keep, and their adjoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import femadj as fa
from femadj.algebra.stages import LinearStages
from femadj.algebra.stepping import Scheme

FloatArray = npt.NDArray[np.float64]
FIRST = [fa.ImplicitEuler(), fa.Midpoint(), fa.SDIRK2(), fa.SDIRK3(), fa.BDF2()]
SECOND = [fa.Newmark(), fa.Newmark(0.3025, 0.6), fa.GeneralisedAlpha(0.0), fa.GeneralisedAlpha(0.6)]


@dataclass
class Inverse:
    """A dense matrix."""

    matrix: FloatArray

    def solve(self, rhs: FloatArray) -> FloatArray:
        return np.linalg.solve(self.matrix, rhs)

    def adjoint(self, rhs: FloatArray) -> FloatArray:
        return np.linalg.solve(self.matrix.T, rhs.T).T


@dataclass
class Dense:
    """Equations of dense matrices, the stiffness first, with loads by the number of their times."""

    matrices: list[FloatArray]
    initial: FloatArray
    loads: FloatArray
    collected: list[Any] = field(default_factory=list)

    @property
    def order(self) -> int:
        return len(self.matrices) - 1

    def stages(self, weights: tuple[float, ...]) -> LinearStages:
        return LinearStages.of(self, weights)

    def matrix(self, weights: tuple[float, ...]) -> Inverse:
        return Inverse(sum(w * a for w, a in zip(weights, self.matrices, strict=True)))

    def forces(self, fields: tuple[FloatArray | None, ...]) -> FloatArray:
        return sum(a @ x for a, x in zip(self.matrices, fields, strict=True) if x is not None)

    def transposed(self, lam: FloatArray) -> tuple[FloatArray, ...]:
        return tuple(lam @ a for a in self.matrices)

    def load(self, number: int) -> FloatArray:
        return self.loads[number]

    def collect(self, number: int, fields: Any, lam: FloatArray, products: Any, into: Any) -> None:
        into.loads[:, number] += lam
        for r, x in enumerate(fields):
            into.matrices[r] -= np.einsum("ki,j->kij", lam, x)


class Totals:
    """Gradients by everything."""

    def __init__(self, equations: Dense, responses: int = 1) -> None:
        n = equations.initial.shape[1]
        self.step = np.zeros(responses)
        self.initial = np.zeros((equations.order, responses, n))
        self.loads = np.zeros((responses, *equations.loads.shape))
        self.matrices = np.zeros((len(equations.matrices), responses, n, n))


def some(scheme: Scheme, steps: int, seed: int = 0, n: int = 3) -> Dense:
    """Random unsymmetric equations."""
    rng = np.random.default_rng(seed)
    matrices = [rng.standard_normal((n, n)) * 0.4 + (1 + r) * np.eye(n) for r in range(scheme.order + 1)]
    loads = rng.standard_normal((1 + steps * len(scheme.abscissae), n))
    return Dense(matrices, rng.standard_normal((scheme.order, n)), loads)


def run(equations: Dense, scheme: Scheme, dt: float, steps: int) -> list[FloatArray]:
    """All states."""
    stepper = scheme.stepper(equations, dt)
    states = [stepper.first()]
    for k in range(steps):
        states.append(stepper.step(states[-1], k))
    return states


def scalar(
    matrices: list[float], initial: list[float], load: Any, scheme: Scheme, final: float, steps: int
) -> FloatArray:
    """States of one unknown at the final time."""
    dt = final / steps
    times = np.concatenate([[0.0], ((np.arange(steps)[:, None] + np.array(scheme.abscissae)) * dt).ravel()])
    equations = Dense([np.array([[a]]) for a in matrices], np.array(initial)[:, None], load(times)[:, None])
    return run(equations, scheme, dt, steps)[-1][:, 0]


@pytest.mark.parametrize(("scheme", "order"), [*zip(FIRST, (1, 2, 2, 3, 2), strict=True)], ids=repr)
def test_order_of_schemes_on_a_decaying_mode_with_a_load_in_time(scheme: Scheme, order: int) -> None:
    """``2 u' + 3 u = 4 cos t``, by its closed form."""
    lam, a, b = 1.5, 2 * 1.5 / (1.5**2 + 1), 2 / (1.5**2 + 1)
    exact = (0.7 - a) * np.exp(-lam * 2.0) + a * np.cos(2.0) + b * np.sin(2.0)
    errors = [abs(scalar([3.0, 2.0], [0.7], lambda t: 4 * np.cos(t), scheme, 2.0, n)[0] - exact) for n in (40, 80)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.06)


@pytest.mark.parametrize("scheme", [fa.Newmark(), fa.GeneralisedAlpha(0.0), fa.GeneralisedAlpha(0.6)], ids=repr)
def test_second_order_on_a_damped_oscillation_with_a_load_in_time(scheme: Scheme) -> None:
    """The solution ``exp(-t/2) sin 3t`` with its own load."""

    def exact(t: Any) -> Any:
        return np.exp(-t / 2) * np.sin(3 * t)

    def load(t: FloatArray) -> FloatArray:
        s, c = np.exp(-t / 2) * np.sin(3 * t), np.exp(-t / 2) * np.cos(3 * t)
        return 2.0 * (-8.75 * s - 3 * c) + 0.4 * (-0.5 * s + 3 * c) + 5.0 * s

    errors = [abs(scalar([5.0, 0.4, 2.0], [0.0, 3.0], load, scheme, 2.0, n)[0] - exact(2.0)) for n in (320, 640)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.06)


def test_period_of_the_trapezoidal_rule_is_too_long_by_a_twelfth() -> None:
    """Relative error of the frequency ``(w dt)^2 / 12``; the amplitude is exact."""
    w, dt, n = 2.0, 0.05, 400
    equations = Dense([np.array([[w**2]]), np.zeros((1, 1)), np.eye(1)], np.array([[1.0], [0.0]]), np.zeros((n + 1, 1)))
    states = np.array(run(equations, fa.Newmark(), dt, n))[:, :, 0]
    phase = np.unwrap(np.arctan2(-states[:, 1] / w, states[:, 0]))
    frequency, x = phase[-1] / (w * n * dt), w * dt
    assert frequency == pytest.approx(2 * np.arctan(x / 2) / x, rel=1e-12)
    assert 1 - frequency == pytest.approx(x**2 / 12, rel=x**2 / 5)
    amplitude = np.hypot(states[:, 0], states[:, 1] / w)
    np.testing.assert_allclose(amplitude, 1.0, rtol=0, atol=3e-13)


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_generalised_alpha_leaves_so_much_of_what_is_not_resolved(rho: float) -> None:
    scheme, columns = fa.GeneralisedAlpha(rho), []
    equations = Dense([np.array([[1e16]]), np.zeros((1, 1)), np.eye(1)], np.zeros((2, 1)), np.zeros((2, 1)))
    stepper = scheme.stepper(equations, 1.0)
    for unit in np.eye(3):
        columns.append(stepper.step(unit[:, None] * np.array([[1.0], [1e8], [1e16]]), 0) / [[1.0], [1e8], [1e16]])
    radius = np.abs(np.linalg.eigvals(np.hstack(columns))).max()
    assert radius == pytest.approx(rho, abs=2e-5 if rho else 1e-4)


@pytest.mark.parametrize(("scheme", "left"), [*zip(FIRST, (0.0, 1.0, 0.0, 0.0, 0.0), strict=True)], ids=repr)
def test_what_is_left_of_a_stiff_mode(scheme: Scheme, left: float) -> None:
    found = scalar([1e12, 1.0], [1.0], np.zeros_like, scheme, 1.0, 1)[0]
    assert abs(found) == pytest.approx(left, abs=1e-6)


@pytest.mark.parametrize("scheme", [*FIRST, *SECOND], ids=repr)
def test_back_is_the_transpose_of_step(scheme: Scheme) -> None:
    """``bar . (d step) dy = (back bar) . dy``, for every part of the state, of two responses at once."""
    equations, rng = some(scheme, 1), np.random.default_rng(1)
    stepper, rows = scheme.stepper(equations, 0.3), scheme.carried
    y = stepper.first()
    dy = np.zeros_like(y)
    dy[:rows] = rng.standard_normal((rows, 3))
    new = stepper.step(y, 0)
    change = stepper.step(y + dy, 0) - new
    bar = rng.standard_normal((rows, 2, 3))
    found = stepper.back(y, new, 0, bar, Totals(equations, 2))
    for k in range(2):
        assert (found[:, k] * dy[:rows]).sum() == pytest.approx((bar[:, k] * change[:rows]).sum(), rel=1e-12)


@pytest.mark.parametrize("scheme", [*FIRST, *SECOND], ids=repr)
def test_gradients_of_a_run_by_everything_agree_with_differences(scheme: Scheme) -> None:
    """By the step, the initial values, the loads at all times and every entry of every matrix."""
    steps, dt, rng = 4, 0.3, np.random.default_rng(2)
    equations, rows = some(scheme, steps), scheme.order + 1
    weights = rng.standard_normal((steps + 1, rows, 3))

    def value(h: float, d: Dense, by_step: float) -> float:
        moved = Dense(
            [a + h * b for a, b in zip(equations.matrices, d.matrices, strict=True)],
            equations.initial + h * d.initial,
            equations.loads + h * d.loads,
        )
        states = run(moved, scheme, dt + h * by_step, steps)
        return float(sum((w * y[:rows]).sum() for w, y in zip(weights, states, strict=True)))

    states, stepper, into = run(equations, scheme, dt, steps), scheme.stepper(equations, dt), Totals(equations)
    bar = np.zeros((scheme.carried, 1, 3))
    for k in reversed(range(steps)):
        bar[:rows, 0] += weights[k + 1]
        bar = stepper.back(states[k], states[k + 1], k, bar, into)
    bar[:rows, 0] += weights[0]
    stepper.back_first(states[0], bar, into)
    direction, by_step = some(scheme, steps, 3), 0.7
    exact = into.step[0] * by_step + (into.initial[:, 0] * direction.initial).sum()
    exact += (into.loads[0] * direction.loads).sum()
    exact += sum((g[0] * b).sum() for g, b in zip(into.matrices, direction.matrices, strict=True))
    h = 2e-3
    ends = [value(k * h, direction, by_step) - value(-k * h, direction, by_step) for k in (1, 2, 3)]
    difference = (45 * ends[0] - 9 * ends[1] + ends[2]) / (60 * h)
    assert exact == pytest.approx(difference, rel=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fa.GeneralisedAlpha(1.1), "from 0 to 1"),
        (lambda: fa.GeneralisedAlpha(np.nan), "from 0 to 1"),
        (lambda: fa.GeneralisedAlpha("soft"), "a number"),
        (lambda: fa.Newmark(0.0), "at least 0.25"),
        (lambda: fa.Newmark(gamma=0.4), "at least 0.5"),
        (lambda: fa.Newmark(np.inf), "at least 0.25"),
    ],
)
def test_unstable_schemes_are_refused(make: Any, words: str) -> None:
    with pytest.raises(fa.ProblemError, match=words):
        make()
