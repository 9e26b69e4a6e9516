"""Series of any order of ``A(theta) x = b(theta)`` along a direction, on the one factor of a solution."""

from __future__ import annotations

from functools import cache
from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

import femadj as fa
from femadj.algebra.callables import CallableSystem
from femadj.algebra.taylor import coefficients

FloatArray = npt.NDArray[np.float64]

N = 30
RNG = np.random.default_rng(5)
TERMS = [
    sp.csr_array(sp.random_array((N, N), density=0.1, rng=RNG, data_sampler=RNG.standard_normal)) for _ in range(3)
]
START = sp.csr_array(sp.eye_array(N) * 8.0)
LOADS = RNG.uniform(-1, 1, (3, N))
THETA = np.array([[0.7, -0.4], [1.2, 0.3]])
DIRECTION = np.array([[0.5, 1.0], [-0.7, 0.2]])
WEIGHT = RNG.uniform(-1, 1, N)


def factors(t: Any) -> list[Any]:
    return [np.exp(t[0, 0]), t[0, 1] * t[1, 0] ** 2, 1 / (2 + np.sin(t[1, 1]))]


def slopes(t: Any) -> list[Any]:
    zero = 0 * t[0, 0]
    return [
        [np.exp(t[0, 0]), zero, zero, zero],
        [zero, t[1, 0] ** 2, 2 * t[0, 1] * t[1, 0], zero],
        [zero, zero, zero, -np.cos(t[1, 1]) / (2 + np.sin(t[1, 1])) ** 2],
    ]


def matrix(t: Any) -> sp.csr_array:
    return sp.csr_array(sum((term * f for term, f in zip(TERMS, factors(t), strict=True)), START))


def rhs(t: Any) -> Any:
    return LOADS[0] + np.sin(t[0, 0]) * LOADS[1] + t[1, 1] ** 3 * LOADS[2]


def contraction(t: Any, x: Any, lam: Any) -> Any:
    products = [(lam * (term @ x)).sum() for term in TERMS]
    of_matrix = [sum(p * row[i] for p, row in zip(products, slopes(t), strict=True)) for i in range(4)]
    of_rhs = [np.cos(t[0, 0]) * (lam * LOADS[1]).sum(), 0.0, 0.0, 3 * t[1, 1] ** 2 * (lam * LOADS[2]).sum()]
    return np.reshape([a - b for a, b in zip(of_matrix, of_rhs, strict=True)], (2, 2))


def response(x: Any, t: Any) -> fa.ResponseEvaluation:
    own = np.stack([np.stack([(x**2).sum(), 0 * t[0, 1]]), np.stack([0 * t[0, 1], 2 * t[1, 1]])])
    return fa.ResponseEvaluation(
        (WEIGHT * x).sum() + t[0, 0] * (x**2).sum() + t[1, 1] ** 2, WEIGHT + 2 * t[0, 0] * x, own
    )


@cache
def solved() -> fa.LinearSolution:
    return fa.LinearSystem(matrix, rhs, contraction=contraction).solve(THETA)


def test_coefficients_of_a_geometric_series() -> None:
    """``1 / (a + t)``: the pole at -a makes the circle small."""
    for a in (3.0, 0.02):
        found = coefficients(lambda t, a=a: np.array(1 / (a + t)), 12, 1.0, "f")
        assert found == pytest.approx([(-1) ** k / a ** (k + 1) for k in range(13)], rel=1e-9)


def test_rotation_by_hand() -> None:
    """``x = A^T b`` for a rotation: all derivatives are sines and cosines; theta a single number."""
    b = np.array([1.0, 2.0])
    system = fa.LinearSystem(lambda t: np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]), b)
    series = system.solve(0.3).taylor(1.0, 12)
    for k, found in enumerate(series.x):
        c, s = np.cos(0.3 + k * np.pi / 2), np.sin(0.3 + k * np.pi / 2)
        assert factorial(k) * found == pytest.approx([c * b[0] + s * b[1], -s * b[0] + c * b[1]], rel=1e-9)
    values = series.response(lambda x, t: x[0] ** 2 + x[1] ** 2 + t**3)  # 5 + t^3
    assert values[:5] == pytest.approx([5.027, 0.27, 0.9, 1.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("order", [1, 3, 6])
def test_remainders_fall_with_the_order(order: int) -> None:
    solution = solved()
    series = solution.taylor(DIRECTION, order)
    errors = [np.abs(series.at(t) - solution.system.solve(THETA + t * DIRECTION).x).max() for t in (0.08, 0.04)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.25)
    assert np.abs(series.x[1] - solution.tangent(DIRECTION)).max() < 1e-13


def test_one_factor_for_all_orders() -> None:
    system = fa.LinearSystem(matrix, rhs, contraction=contraction)
    solution = system.solve(THETA)
    before = solution.factor.statistics.solves
    series = solution.taylor(DIRECTION, 8)
    assert solution.factor.statistics.solves == before + 8 + 1  # and that of the check of the first
    series.gradient(response)
    assert solution.factor.statistics.solves == before + 9 + 9
    assert system.counts == fa.Counts(1, 1)


def test_series_of_response_and_gradient_belong_together() -> None:
    """``d . g_(k-1) = k J_k``, and the first is the gradient."""
    solution = solved()
    series = solution.taylor(DIRECTION, 8)
    values, gradients = series.response(response), series.gradient(response)
    value, gradient = solution.system.value_and_gradient(solution, response)
    assert values[0] == pytest.approx(value, rel=1e-13)
    assert np.abs(gradients[0] - gradient.theta).max() < 1e-12 * np.abs(gradient.theta).max()
    for k in range(1, 9):
        along = (DIRECTION * gradients[k - 1]).sum()
        assert along == pytest.approx(k * values[k], rel=1e-9, abs=1e-10 * np.abs(values).max())


def test_second_order_against_differences_of_gradients() -> None:
    series, system, h = solved().taylor(DIRECTION, 2), solved().system, 1e-3
    g = [system.value_and_gradient(THETA + k * h * DIRECTION, response)[1].theta for k in (-2, -1, 0, 1, 2)]
    first, second = (8 * (g[3] - g[1]) - (g[4] - g[0])) / (12 * h), (16 * (g[3] + g[1]) - 30 * g[2] - g[4] - g[0]) / 12
    found = series.gradient(response)
    assert np.abs(found[1] - first).max() < 1e-9 * np.abs(first).max()
    assert np.abs(2 * found[2] - second / h**2).max() < 1e-7 * np.abs(second / h**2).max()


# ---------------------------------------------------------------------- refused
@pytest.mark.parametrize(
    "entry",
    [
        abs,
        lambda t: t + 0.1 * np.real(t),
        lambda t: 2 + np.linalg.norm([t]),
        lambda t: 2 + np.abs(t - 1.0),  # on a kink
        float,
    ],
)
def test_functions_that_are_not_analytic(entry: Any) -> None:
    solution = fa.LinearSystem(
        lambda t: np.array([[entry(t)]]), [1.0], derivatives=lambda t: [([[1.0]], None)], check=False
    )
    with pytest.raises(fa.ComplexStepError, match="analytic NumPy operations"):
        solution.solve(1.0).taylor(1.0, 3)


def test_functions_that_mean_something_else_at_complex_theta() -> None:
    def entry(t: Any) -> Any:
        return t * t if isinstance(t, complex) else t

    system = fa.LinearSystem(lambda t: np.array([[entry(t)]]), [1.0], derivatives=lambda t: [([[1.0]], None)])
    with pytest.raises(fa.VerificationError, match="something else at complex theta"):
        system.solve(1.5).taylor(1.0, 3)


def test_what_else_is_refused() -> None:
    solution = solved()
    for order in (0, 21, 2.5, None):
        with pytest.raises(fa.LinearSystemError, match="order"):
            solution.taylor(DIRECTION, order)  # type: ignore[arg-type]
    with pytest.raises(fa.LinearSystemError, match="not zero"):
        solution.taylor(0 * DIRECTION, 2)
    with pytest.raises(fa.LinearSystemError, match="direction"):
        solution.taylor([1.0], 2)
    series = solution.taylor(DIRECTION, 2)
    with pytest.raises(fa.LinearSystemError, match="ResponseEvaluation"):
        series.gradient(lambda x, t: x[0])
    with pytest.raises(fa.ComplexStepError, match="the response is no analytic"):
        series.response(lambda x, t: np.abs(x).sum())
    with pytest.raises(fa.LinearSystemError, match="must be numbers"):
        series.response(lambda x, t: x)
    bare = fa.LinearSystem(matrix, rhs).solve(THETA).taylor(DIRECTION, 2)
    with pytest.raises(fa.LinearSystemError, match="contraction="):
        bare.gradient(response)
    other = fa.LinearSystem.of(CallableSystem(matrix, rhs, None, None, "general", False))
    with pytest.raises(fa.LinearSystemError, match="as functions"):
        other.solve(THETA).taylor(DIRECTION, 2)
    assert repr(series) == "Taylor(order 2, 30 unknowns)"
