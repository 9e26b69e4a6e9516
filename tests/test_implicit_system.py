"""Systems that users solve themselves: derivatives of the solution, and the errors that come from inexact solves."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
from scipy.optimize import fsolve

import femadj as fa
from femadj.algebra import functions
from femadj.algebra.residual import AtDesign, State

FloatArray = npt.NDArray[np.float64]

N = 12
_RNG = np.random.default_rng(3)
MIX = _RNG.uniform(-1, 1, (N, N)) / N
PULL = _RNG.uniform(-1, 1, (2, N))
THETA = np.array([[0.7, -0.4], [1.2, 0.3]])
WEIGHT = _RNG.uniform(-1, 1, N)


def g(x: Any, p: Any) -> Any:
    """A contraction whose fixed point depends on every entry of theta."""
    return p[0, 0] * np.tanh(MIX @ x) + p[0, 1] * PULL[0] + np.sin(p[1, 0] * PULL[1] + p[1, 1] * x / 4)


def residual(x: Any, p: Any) -> Any:
    return x - g(x, p)


def iterated(p: Any, count: int = 200) -> FloatArray:
    x = np.zeros(N)
    for _ in range(count):
        x = g(x, p)
    return x


def jacobian(x: Any, p: Any) -> sp.csr_array:
    slope = np.cos(p[1, 0] * PULL[1] + p[1, 1] * x / 4) * p[1, 1] / 4
    return sp.csr_array(np.eye(N) - p[0, 0] * (1 - np.tanh(MIX @ x) ** 2)[:, None] * MIX - np.diag(slope))


def contraction(x: Any, p: Any, lam: Any) -> Any:
    inner = np.cos(p[1, 0] * PULL[1] + p[1, 1] * x / 4)
    rows = [[np.tanh(MIX @ x), PULL[0]], [inner * PULL[1], inner * x / 4]]
    return [[-lam @ row for row in two] for two in rows]


def response(x: Any, p: Any) -> Any:
    return (WEIGHT * x).sum() + 0.5 * (x**2).sum() * p[0, 0]


GIVEN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "jacobian": {"jacobian": jacobian},
    "contraction": {"contraction": contraction},
    "both": {"jacobian": jacobian, "contraction": contraction},
}


@cache
def solved(given: str = "nothing") -> fa.ImplicitSolution:
    return fa.ImplicitSystem(residual, iterated, **GIVEN[given]).solve(THETA)


def along(direction: FloatArray, h: float) -> float:
    p = THETA + h * direction
    return float(response(iterated(p), p))


# ---------------------------------------------------------------------- gradients
@pytest.mark.parametrize("given", GIVEN)
def test_gradient_against_differences_of_solves(given: str) -> None:
    solution = solved(given)
    value, gradient = solution.system.value_and_gradient(solution, response)
    assert value == along(THETA, 0.0)
    assert np.shape(gradient.theta) == THETA.shape
    direction, h = np.random.default_rng(4).uniform(-1, 1, THETA.shape), 1e-2
    j = [along(direction, k * h) for k in (-3, -2, -1, 1, 2, 3)]
    difference = (45 * (j[3] - j[2]) - 9 * (j[4] - j[1]) + (j[5] - j[0])) / (60 * h)
    exact = (gradient.theta * direction).sum()
    assert exact == pytest.approx(difference, rel=1e-10)
    remainders = [abs(along(direction, h) - along(direction, 0.0) - h * exact) for h in (2e-3, 1e-3)]
    assert np.log2(remainders[0] / remainders[1]) == pytest.approx(2.0, abs=0.05)
    assert solution.system.counts == fa.Counts(1, 1)


def test_pushforward_and_pullback_are_transposes() -> None:
    solution, rng = solved(), np.random.default_rng(5)
    direction, a = rng.uniform(-1, 1, THETA.shape), rng.uniform(-1, 1, N)
    dx = solution.pushforward(direction)
    assert a @ dx == pytest.approx((solution.pullback(a).theta * direction).sum(), rel=1e-12)
    h = 1e-3
    x = [iterated(THETA + k * h * direction) for k in (-2, -1, 1, 2)]
    assert np.abs(dx - (8 * (x[2] - x[1]) - (x[3] - x[0])) / (12 * h)).max() < 1e-10


def test_several_responses_on_one_factor() -> None:
    system = fa.ImplicitSystem(residual, iterated, contraction=contraction, jacobian=jacobian)
    solution = system.solve(THETA)
    before = solution.implicit.factor.statistics.solves
    values, gradients = system.values_and_gradients(
        solution, [response, lambda x, p: p[0, 1] ** 2, lambda x, p: fa.ResponseEvaluation(x[3], dx=np.eye(N)[3])]
    )
    assert solution.implicit.factor.statistics.solves == before + 2  # the second does not depend on x
    assert system.counts == fa.Counts(1, 1)
    assert values[2] == solution.x[3]
    assert np.array_equal(gradients[1].theta, [[0.0, 2 * THETA[0, 1]], [0.0, 0.0]])
    assert np.allclose(gradients[2].theta, solution.pullback(np.eye(N)[3]).theta, rtol=1e-14)
    assert np.array_equal(gradients[0].theta, system.value_and_gradient(THETA, response)[1].theta)
    assert system.counts == fa.Counts(1, 2)


def test_the_square_root() -> None:
    """``x^2 = theta`` by Newton's method, theta a single number: ``dx = 1 / (2 x)``."""

    def newton(t: float) -> FloatArray:
        x = np.ones(1)
        for _ in range(8):
            x = (x + t / x) / 2
        return x

    value, gradient = fa.ImplicitSystem(lambda x, t: x**2 - t, newton).value_and_gradient(2.0, lambda x, t: x[0] * t)
    assert value == pytest.approx(2 * np.sqrt(2), rel=1e-14)
    assert isinstance(gradient.theta, float)
    assert gradient.theta == pytest.approx(1.5 * np.sqrt(2), rel=1e-13)
    assert isinstance(gradient.error, float)


def test_a_large_sparse_system() -> None:
    """A rod with radiation, 5 000 unknowns, solved by Newton's method on SciPy's factors."""
    n = 5000
    stencil = sp.csr_array(sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)))

    def r(x: Any, t: Any) -> Any:
        return stencil @ x + 1e-4 * t[0] * x**4 - 1e-4 * t[1]

    def slope(x: Any, t: Any) -> sp.csr_array:
        return sp.csr_array(stencil + sp.diags_array(4e-4 * t[0] * x**3))

    def solve(t: Any) -> FloatArray:
        x = np.ones(n)
        for _ in range(30):
            x = x - sp.linalg.spsolve(sp.csc_array(slope(x, t)), r(x, t))
        return x

    # far from the ends a x^4 = b: x = (b / a)^(1/4)
    system = fa.ImplicitSystem(r, solve, jacobian=slope, kind="spd")
    value, gradient = system.value_and_gradient([2.0, 3.0], lambda x, t: x[n // 2])
    assert value == pytest.approx(1.5**0.25, rel=1e-9)
    assert gradient.theta == pytest.approx([-value / 8, value / 12], rel=1e-7)
    with pytest.raises(fa.LinearSystemError, match=r"5000 unknowns .* give jacobian="):
        fa.ImplicitSystem(r, lambda t: np.ones(n)).solve([2.0, 3.0])


def test_it_keeps_the_protocol_of_residuals() -> None:
    at: AtDesign = solved().implicit.at
    state = State(at.lifting)
    assert np.array_equal(at.residual(state)[0], solved().residual)
    rng = np.random.default_rng(6)
    for x in (state, State(rng.uniform(-1, 1, (1, N)))):  # where it was linearised, and elsewhere
        du, lam = rng.uniform(-1, 1, (2, 3, N))
        assert np.abs(at.jvp(x, du) - du @ jacobian(x.u[0], THETA).T).max() < 1e-13
        assert np.abs(at.vjp(x, lam) - lam @ jacobian(x.u[0], THETA)).max() < 1e-13


# ---------------------------------------------------------------------- errors of inexact solves
@pytest.mark.parametrize("count", [3, 5, 9])
def test_errors_are_estimated(count: int) -> None:
    """After few iterations: value and gradient are off, and say by how much, to first order."""
    system = fa.ImplicitSystem(residual, lambda p: iterated(p, count), tolerance=1.0)
    solution = system.solve(THETA)
    value, gradient = system.value_and_gradient(solution, response)
    exact = solved()
    best_value, best = exact.system.value_and_gradient(exact, response)
    off = np.asarray(gradient.theta) - np.asarray(best.theta)
    left = np.asarray(gradient.error) - off
    assert np.abs(off).max() > 1e-9
    assert np.abs(left).max() < 0.05 * np.abs(off).max()
    assert abs(gradient.value_error - (value - best_value)) < 0.05 * abs(value - best_value)
    assert np.abs(solution.correction - (exact.x - solution.x)).max() < 0.05 * np.abs(solution.correction).max()
    assert system.counts == fa.Counts(1, 1)


def test_errors_fall_with_the_square_when_they_are_taken_off() -> None:
    off, left = [], []
    best = np.asarray(solved().system.value_and_gradient(solved(), response)[1].theta)
    for size in (1e-2, 1e-3):
        system = fa.ImplicitSystem(residual, lambda p, s=size: iterated(p) + s * PULL[1], tolerance=1.0)
        gradient = system.value_and_gradient(THETA, response)[1]
        off.append(np.abs(gradient.theta - best).max())
        left.append(np.abs(gradient.theta - np.asarray(gradient.error) - best).max())
    assert np.log10(off[0] / off[1]) == pytest.approx(1.0, abs=0.05)
    assert np.log10(left[0] / left[1]) == pytest.approx(2.0, abs=0.1)


def test_a_solution_that_was_found_elsewhere() -> None:
    system = fa.ImplicitSystem(residual, lambda p: 1 / 0)
    found = system.at(THETA, fsolve(residual, np.zeros(N), (THETA,), xtol=1e-13))
    assert np.allclose(found.pullback(WEIGHT).theta, solved().pullback(WEIGHT).theta, rtol=1e-9)
    assert np.abs(np.asarray(found.pullback(WEIGHT).error)).max() < 1e-10


# ---------------------------------------------------------------------- refused
def fixed(x: Any) -> Callable[[Any], Any]:
    return lambda p: x


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        ((residual, lambda p: iterated(p, 3)), {}, fa.ConvergenceError, r"no solution .* off by about .*e-06"),
        ((residual, fixed(np.full(N, np.nan))), {}, fa.ConvergenceError, "has not converged"),
        ((residual, lambda p: 1 / 0), {}, fa.LinearSystemError, "ZeroDivisionError"),
        ((residual, fixed(None)), {}, fa.LinearSystemError, "NoneType"),
        ((residual, fixed(np.ones((N, 1)))), {}, fa.LinearSystemError, r"shape \(n,\)"),
        ((lambda x, p: x[:3], iterated), {}, fa.LinearSystemError, r"shape \(12,\)"),
        ((lambda x, p: x * np.nan, iterated), {}, fa.LinearSystemError, "NaN"),
        ((lambda x, p: np.array([float(v) for v in x]), fixed(np.zeros(2))), {}, fa.ComplexStepError, "float"),
        # on a kink: the solution has derivatives to both sides that differ
        ((lambda x, p: x + np.maximum(x, 0.0) - 0.0 * p[0, 0], fixed(np.zeros(2))), {}, fa.VerificationError, "kink"),
        ((residual, iterated), {"tolerance": -1}, fa.LinearSystemError, "tolerance"),
        # a double root has no derivative
        ((lambda x, p: x**2 - 0.0 * p[0, 0], fixed(np.zeros(2))), {}, fa.SingularSystemError, "singular"),
        ((residual, iterated), {"jacobian": lambda x, p: 1.01 * jacobian(x, p)}, fa.VerificationError, "by x"),
        ((residual, iterated), {"jacobian": lambda x, p: np.eye(3)}, fa.LinearSystemError, "from 12 to 3"),
        ((residual, iterated), {"jacobian": lambda x, p: np.nan * np.eye(N)}, fa.LinearSystemError, "NaN"),
        ((residual, iterated), {"contraction": lambda x, p, lam: np.ones((2, 2))}, fa.VerificationError, "contraction"),
        ((residual, iterated), {"contraction": lambda x, p, lam: lam}, fa.LinearSystemError, r"shape \(2, 2\)"),
        ((residual, iterated), {"kind": "spd"}, fa.LinearSystemError, "jacobian.* not symmetric"),
        ((residual, iterated), {"kind": "round"}, fa.LinearSystemError, "kind must be"),
        ((residual, 3), {}, fa.LinearSystemError, "solve must be a function"),
        ((residual, iterated), {"jacobian": 3}, fa.LinearSystemError, "jacobian must be a function"),
    ],
)  # fmt: skip
def test_what_is_refused(arguments: Any, options: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        fa.ImplicitSystem(*arguments, **options).solve(THETA)


def test_a_kink_elsewhere_does_no_harm() -> None:
    """``|x| = theta``, solved on either branch."""
    for sign in (1.0, -1.0):
        system = fa.ImplicitSystem(lambda x, t: np.abs(x) - t, lambda t, s=sign: np.array([s * t]))
        assert system.value_and_gradient(0.7, lambda x, t: x[0])[1].theta == pytest.approx(sign, rel=1e-14)


def test_limits_and_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(fa.LinearSystemError, match="another ImplicitSystem"):
        fa.ImplicitSystem(residual, iterated).values_and_gradients(solved(), [response])
    with pytest.raises(fa.LinearSystemError, match="cotangent"):
        solved().pullback(np.ones(3))
    with pytest.raises(fa.LinearSystemError, match="direction"):
        solved().pushforward(np.ones(3))
    with pytest.raises(fa.ResponseError, match="response 0"):
        solved().system.value_and_gradient(solved(), lambda x, p: "x")
    monkeypatch.setattr(functions, "MOST_UNKNOWNS", N - 1)
    with pytest.raises(fa.LinearSystemError, match="give jacobian="):
        fa.ImplicitSystem(residual, iterated).solve(THETA)
    assert "12 unknowns" in repr(solved())
    assert "not solved yet" in repr(fa.ImplicitSystem(residual, iterated))
    assert "value error" in repr(solved().pullback(WEIGHT))
