"""Prescribed data: what is accepted, what the derivative is, and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from femadj.base.fields import constant_components, evaluate
from femadj.errors import FemadjError, LoadError, SupportError

X2 = np.random.default_rng(0).uniform(1, 3, (7, 2))
X3 = np.random.default_rng(1).uniform(-2, 2, (5, 3))


# ---------------------------------------------------------------------- constants
def test_constants() -> None:
    assert constant_components(2, 1, "value", LoadError).tolist() == [2.0]
    assert constant_components([2], 1, "value", LoadError).tolist() == [2.0]
    assert constant_components((1, 2, 3), 3, "value", LoadError).tolist() == [1.0, 2.0, 3.0]
    assert constant_components(np.float32(0.5), 1, "value", LoadError).dtype == np.float64


@pytest.mark.parametrize(
    ("value", "n", "message"),
    [
        (1.0, 3, r"3 component\(s\)"),
        ([1, 2], 3, r"3 component\(s\)"),
        ([[1, 2, 3]], 3, r"3 component\(s\)"),
        ([1, 2], 1, r"1 component\(s\)"),
        ([], 1, r"1 component\(s\)"),
        ("north", 1, "must be a number"),
        (None, 2, r"must be a number|component\(s\)|finite"),
        ({}, 2, "must be a number"),
        (1 + 2j, 1, "must be a number"),
        ([1, [2, 3]], 2, "must be a number"),
        (np.nan, 1, "finite"),
        ([0, np.inf], 2, "finite"),
    ],
)
def test_bad_constants(value: Any, n: int, message: str) -> None:
    with pytest.raises(SupportError, match=message) as caught:
        constant_components(value, n, "value of Fixed('clamp')", SupportError)
    assert "value of Fixed('clamp')" in str(caught.value)


# ---------------------------------------------------------------------- functions
def test_value_and_derivative_are_exact() -> None:
    x, y, z = X3.T
    values, slope = evaluate(
        lambda x: [np.sin(x[0] * x[1]) + x[2] ** 3, np.exp(x[1]) / (3 + x[0])], X3, 2, "f", LoadError
    )
    assert values.shape == (5, 2)
    assert slope.shape == (5, 2, 3)
    expected = np.stack([np.sin(x * y) + z**3, np.exp(y) / (3 + x)], axis=1)
    assert values == pytest.approx(expected, rel=1e-15)
    c, zero = np.cos(x * y), np.zeros(5)
    first = np.stack([y * c, x * c, 3 * z**2], axis=1)
    second = np.stack([-np.exp(y) / (3 + x) ** 2, np.exp(y) / (3 + x), zero], axis=1)
    assert slope == pytest.approx(np.stack([first, second], axis=1), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.stack([x[0] ** 2, np.full(x.shape[1], 3.0)]),
        lambda x: [x[0] ** 2, 3.0],
        lambda x: (x[0] ** 2, 3),
        lambda x: [x[0] * x[0], np.array(3)],
        lambda x: np.vstack([x[0] ** 2, 0 * x[1] + 3]),
    ],
    ids=["array", "list with a number", "tuple with an integer", "list with an array of no dimension", "stacked"],
)
def test_ways_to_return_components(function: Any) -> None:
    values, slope = evaluate(function, X2, 2, "f", LoadError)
    assert values == pytest.approx(np.stack([X2[:, 0] ** 2, np.full(7, 3.0)], axis=1), rel=1e-15)
    expected = np.zeros((7, 2, 2))
    expected[:, 0, 0] = 2 * X2[:, 0]
    assert slope == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    "function",
    [lambda x: x[1] ** 2, lambda x: [x[1] ** 2], lambda x: (x[1] ** 2)[None], lambda x: np.square(x[1:])],
    ids=["flat", "list", "row", "slice"],
)
def test_ways_to_return_a_scalar(function: Any) -> None:
    values, slope = evaluate(function, X2, 1, "f", LoadError)
    assert values == pytest.approx(X2[:, 1:] ** 2, rel=1e-15)
    assert slope[:, 0] == pytest.approx(np.stack([np.zeros(7), 2 * X2[:, 1]], axis=1), rel=1e-14)


@pytest.mark.parametrize("n_points", [1, 2, 3, 4])
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("form", ["array", "list", "column"])
def test_functions_that_return_constants(n_points: int, n_components: int, form: str) -> None:
    """Whatever the number of points: a function that works on one mesh works on the next."""
    constant = np.arange(1.0, n_components + 1)
    result = {"array": constant, "list": constant.tolist(), "column": constant[:, None]}[form]
    if n_components == 1 and form == "array":
        result = constant[0]
    values, slope = evaluate(lambda _: result, X3[:n_points], n_components, "f", LoadError)
    assert values.tolist() == [constant.tolist()] * n_points
    assert not slope.any()


def test_jumps_and_kinks_keep_the_slope_of_their_own_side() -> None:
    """Piecewise data are fine, even where a point lies next to the joint."""
    joint = X2[3, 0] + 1e-9
    values, slope = evaluate(lambda x: np.where(x[0].real > joint, 5 * x[0], 2.0), X2, 1, "f", LoadError)
    right = X2[:, 0] > joint
    assert values[:, 0] == pytest.approx(np.where(right, 5 * X2[:, 0], 2.0))
    assert slope[:, 0, 0] == pytest.approx(np.where(right, 5.0, 0.0))


def test_input_is_not_changed_and_small_coordinates_work() -> None:
    for scale in (1e-9, 1e-3, 1.0, 1e6):
        x = scale * X2
        before = x.copy()
        values, slope = evaluate(lambda x, s=scale: np.sin(x[0] / s), x, 1, "f", LoadError)
        assert np.array_equal(x, before)
        assert values[:, 0] == pytest.approx(np.sin(X2[:, 0]))
        assert slope[:, 0, 0] * scale == pytest.approx(np.cos(X2[:, 0]), rel=1e-12)


def test_points_on_a_line_and_at_the_origin() -> None:
    values, slope = evaluate(lambda x: x[0] ** 2 + 1, np.zeros((3, 2)), 1, "f", LoadError)
    assert values.tolist() == [[1.0]] * 3
    assert slope == pytest.approx(np.zeros((3, 1, 2)), abs=1e-20)


# ---------------------------------------------------------------------- refused
NOT_ANALYTIC = {
    "abs": lambda x: np.abs(x[0] - 2),
    "norm": lambda x: np.linalg.norm(x, axis=0),
    "hypot of real parts": lambda x: np.hypot(x[0].real, x[1].real),
    "real part": lambda x: x[0].real ** 2,
    "conjugate": lambda x: x[0] * np.conj(x[0]),
    "sign": lambda x: x[0] * np.sign(x[0] - x[0].real.mean()).real * x[1].real,
    "imaginary": lambda x: 1j * x[0],
    "one component of two points": lambda x: x[0] + np.abs(x[1]),
}


@pytest.mark.parametrize("function", NOT_ANALYTIC.values(), ids=NOT_ANALYTIC)
def test_functions_that_are_not_analytic(function: Any) -> None:
    with pytest.raises(LoadError, match=r"analytic") as caught:
        evaluate(function, X2, 1, "value of Traction('pad')", LoadError)
    assert "value of Traction('pad')" in str(caught.value)


def test_cast_to_float_is_found() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        with pytest.raises(LoadError, match="analytic"):
            evaluate(lambda x: np.asarray(x[0]).astype(float) ** 2, X2, 1, "f", LoadError)


@pytest.mark.parametrize("slope", [1.0, 0.1, 0.01])
def test_small_part_that_is_not_analytic_on_a_large_constant(slope: float) -> None:
    """A temperature in kelvin: the part that varies is small, and its derivative must still be right."""
    with pytest.raises(LoadError, match="analytic"):
        evaluate(lambda x: 293.15 + slope * np.abs(x[0]), X2, 1, "f", LoadError)


def test_part_that_is_not_analytic_beside_a_steep_one() -> None:
    """What one point's derivative may miss must not depend on how steep the function is elsewhere."""
    x = np.array([[0.5, 0.5], [1.0, 0.5], [1.5, 0.5], [9.0, 0.5]])
    with pytest.raises(LoadError, match="analytic"):
        evaluate(lambda x: np.exp(x[0]) + 0.1 * np.abs(x[1] - 0.2), x, 1, "f", LoadError)


@pytest.mark.parametrize(
    ("function", "n", "message"),
    [
        (lambda x: x, 1, "shape"),
        (lambda x: x[0], 2, "shape"),
        (lambda x: x.T, 2, "shape"),
        (lambda x: [x[0], x[1], x[0]], 2, "shape"),
        (lambda x: np.ones(4), 1, "shape"),
        (lambda x: 3.0, 2, "shape"),
        (lambda x: None, 1, "failed|shape|finite|NaN"),
        (lambda x: "warm", 1, "failed"),
        (lambda x: x[5], 1, "failed"),
        (lambda x: x @ x, 1, "failed"),
        (lambda x: 1 // 0, 1, "failed"),
        (lambda: 1.0, 1, "failed"),
        (lambda x: [x[0], np.ones(3)], 2, "failed"),
        (lambda x: x[0] * np.nan, 1, "NaN or infinite"),
        (lambda x: np.where(x[0].real > 2, np.inf, 0 * x[0]), 1, "NaN or infinite"),
    ],
)
def test_bad_functions(function: Any, n: int, message: str) -> None:
    with pytest.raises(SupportError, match=message) as caught:
        evaluate(function, X2, n, "value of Fixed('clamp')", SupportError)
    assert "value of Fixed('clamp')" in str(caught.value)
    assert isinstance(caught.value, FemadjError)


def test_other_errors_of_the_function_come_through() -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("no such table")

    with pytest.raises((RuntimeError, LoadError), match="no such table"):
        evaluate(broken, X2, 1, "f", LoadError)
