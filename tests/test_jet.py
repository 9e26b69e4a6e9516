"""Dual numbers over complex steps: every rule against differences of exact first derivatives, and what has no rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import femadj as fa
from femadj.base import complex_step, jet
from femadj.base.complex_step import STEP

FloatArray = npt.NDArray[np.float64]

X = np.linspace(0.31, 0.83, 6)
D = np.array([1.0, -0.4, 0.7, 0.2, -1.1, 0.9])
E = np.array([0.3, 1.0, -0.8, 0.5, 0.6, -0.2])
"""Where, and along what: distinct, so that entries that are mixed up show."""


def second(f: Callable[[Any], Any]) -> tuple[FloatArray, FloatArray]:
    """Derivative along E, and the second one along D and E."""
    moving = complex_step.plain(complex_step.seed(X, D))
    with np.errstate(all="ignore"):  # as users' functions are called
        found = jet.derivative(f(jet.seed(moving, E)), moving=True)
    return found.real, found.imag / STEP


def first(f: Callable[[Any], Any], x: FloatArray) -> FloatArray:
    found = f(complex_step.seed(x, E))
    return complex_step.derivative(np.array(found) if isinstance(found, list) else found)


def matrices(x: Any) -> Any:
    rows = [np.stack([1 + x, x**2]), np.stack([np.sin(x), 2 + x])]
    return np.moveaxis(np.stack(rows), -1, 0)


def assigned(x: Any) -> Any:
    result = np.zeros_like(x)
    result[1:] = x[1:] ** 2
    result[0] = 1.0
    return result * x


UNARY = (
    np.exp, np.exp2, np.expm1, np.log, np.log2, np.log10, np.log1p, np.sin, np.cos, np.tan, np.arcsin, np.arccos,
    np.arctan, np.sinh, np.cosh, np.tanh, np.arcsinh, np.arctanh, np.sqrt, np.cbrt, np.square, np.reciprocal,
    np.negative, np.positive, np.conjugate, np.deg2rad, np.rad2deg,
)  # fmt: skip

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    **{u.__name__: lambda x, u=u: u(x) * np.cos(x) for u in UNARY},
    "arccosh": lambda x: np.arccosh(2 + x),
    "absolute": lambda x: np.abs(x - 0.5) ** 3 + np.fabs(x - 0.4) * x,
    "power": lambda x: x**3 + x**-1.5 + 2.0**x + x ** (1 + x) + x**0 * x,
    "divide": lambda x: (1 + x) / (2 - x * x) - 1 / x,
    "extremes": lambda x: np.maximum(x, 0.5) ** 2 + np.minimum(x * x, 0.3 * x) + np.clip(x, 0.4, 0.7) * x,
    "two arguments": lambda x: np.hypot(x, 1 + x) + np.arctan2(x, 2.0) * x,
    "roots of zero": lambda x: np.sqrt(0 * x[2] * np.ones(6)) * x + np.hypot(0.0 * x, 0.0) + (0.0 * x) ** 1.5,
    "jumps": lambda x: np.where(x - x[2], 1.0, 2.0) * x**2,
    "where": lambda x: np.where(x > 0.5, np.log(x), x**1.5) * np.sign(x),
    "norm": lambda x: np.linalg.norm(np.stack([x, 2 * x**2]), axis=0),
    "einsum": lambda x: np.einsum("i,i->i", x, np.tan(x)) * np.einsum("i,i", x, x),
    "matmul": lambda x: x @ np.ones((6, 6)) * x + np.dot(x, x) + np.outer(x, x)[0] + np.cross(x[:3], x[3:])[0],
    "det": lambda x: np.linalg.det(matrices(x)),
    "inv": lambda x: np.linalg.inv(matrices(x)).sum(axis=(1, 2)),
    "lists": lambda x: [x[0] * x[1], 3.0, x[2] ** 2],
    "array of expressions": lambda x: np.array([x[0] * x[1], x[5] ** 2]),
    "shapes": lambda x: np.concatenate([x.reshape(2, 3).T.ravel() ** 2, x[::-1], np.full(2, 1.0)]),
    "sums": lambda x: x.sum() * x + np.mean(x**2) + np.trace(x.reshape(2, 3)[:, :2]) * x[:1],
    "assignment": assigned,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rules(name: str) -> None:
    f, h = FUNCTIONS[name], 1e-3
    slope, curvature = second(f)
    np.testing.assert_allclose(slope, first(f, X), rtol=1e-13, atol=1e-14)
    at = {k: first(f, X + k * h * D) for k in (-3, -2, -1, 1, 2, 3)}
    exact = (45 * (at[1] - at[-1]) - 9 * (at[2] - at[-2]) + (at[3] - at[-3])) / (60 * h)
    np.testing.assert_allclose(curvature, exact, rtol=1e-8, atol=1e-9 * max(1.0, np.abs(exact).max()))


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: float(x[0]), "float"),
        (lambda x: x.real, "real part"),
        (np.sort, "np.sort has no rule"),
        (np.multiply.reduce, "multiply.reduce has no rule"),
        (lambda x: np.floor_divide(x, 2.0), "np.floor_divide has no rule"),
        (lambda x: np.linalg.norm(x, ord=1), "ord=1"),
        (lambda x: np.sum(x, initial=1.0), "np.sum has no rule"),
        (lambda x: np.diff(x, prepend=0.0), "np.diff has no rule"),
    ],
)
def test_operations_without_a_rule_raise(f: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(fa.ComplexStepError, match=words):
        second(f)


@pytest.mark.parametrize("f", [lambda x: np.array(x, dtype=float), lambda x: np.zeros(6).__setitem__(0, x[0])])
def test_a_jet_does_not_become_a_number(f: Callable[[Any], Any]) -> None:
    with pytest.raises((fa.ComplexStepError, TypeError, ValueError)):
        second(f)


def test_what_does_not_depend_has_no_derivative() -> None:
    slope, curvature = second(lambda x: complex_step.seed(np.ones(3), np.ones(3)))
    assert not slope.any()
    assert not curvature.any()
