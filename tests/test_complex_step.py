"""Guarded complex steps: every rule against differences, every refusal, and what stays guarded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from femadj.base import complex_step
from femadj.base.complex_step import Guarded, derivative, real_part, seed
from femadj.errors import ComplexStepError, FemadjError

FloatArray = npt.NDArray[np.float64]
Function = Callable[[Any], Any]

X = np.array([[0.3, -0.7, 0.55], [0.2, 0.8, -0.4]])
POSITIVE = np.abs(X) + 0.1
D = np.array([[0.9, -0.4, 0.6], [-0.8, 0.7, 0.5]])
MATRIX = np.array([[2.0, 0.3, -0.4], [0.1, 1.5, 0.2], [-0.3, 0.4, 1.8]])
A = np.random.default_rng(3).uniform(-1, 1, (3, 3))


def difference(function: Function, x: FloatArray, d: FloatArray) -> FloatArray:
    """Five-point central difference along a direction."""
    h = 3e-4
    at = [np.asarray(function(x + k * h * d), dtype=float) for k in (-2, -1, 1, 2)]
    return (at[0] - at[3] + 8 * (at[2] - at[1])) / (12 * h)


def assert_right(function: Function, x: FloatArray = X, d: FloatArray = D) -> None:
    """Value and derivative of a function, which must be guarded where it depends on its argument."""
    result = function(seed(x, d))
    assert np.array_equal(real_part(result).shape, np.shape(function(x)))
    assert np.abs(real_part(result) - function(x)).max() <= 1e-13 * max(1.0, np.abs(function(x)).max())
    expected = difference(function, x, d)
    assert np.abs(derivative(result) - expected).max() <= 1e-9 * max(1.0, np.abs(expected).max())
    if np.iscomplexobj(result):
        assert isinstance(result, Guarded)


# ---------------------------------------------------------------------- functions of several lines
def in_place(x: Any) -> Any:
    y = x.copy()
    y *= 2
    y += x**2
    y -= 1.0
    y /= 3.0
    return y


def unpack(x: Any) -> Any:
    a, b = x
    return a * b


def assigned(x: Any) -> Any:
    result = np.zeros_like(x)
    result[0] = x[1] ** 2
    result[1, 1:] = x[0, :2]
    return result


def sorted_copy(x: Any) -> Any:
    y = x.copy()
    y.sort(axis=0)
    return y


def filled(x: Any) -> Any:
    y = np.zeros(x.shape, dtype=x.dtype)
    y[...] = x
    return y**2


def put(x: Any) -> Any:
    y = np.zeros(x.shape)
    y[0] = x[0]
    return y


# ---------------------------------------------------------------------- ufuncs
ONE: dict[str, Function] = {
    "negative": lambda x: -x,
    "positive": lambda x: +x,
    "square": np.square,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "arcsin": np.arcsin,
    "arccos": np.arccos,
    "arctan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "arcsinh": np.arcsinh,
    "arctanh": np.arctanh,
    "reciprocal": np.reciprocal,
    "absolute": np.abs,
    "builtin abs": abs,
    "fabs": np.fabs,
    "conjugate": np.conjugate,
    "cbrt": np.cbrt,
    "deg2rad": np.deg2rad,
    "rad2deg": np.rad2deg,
    "radians": lambda x: np.radians(x) if not isinstance(x, Guarded) else np.deg2rad(x),
}
POSITIVE_ONLY: dict[str, Function] = {
    "sqrt": np.sqrt,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "arccosh": lambda x: np.arccosh(1.5 + x),
    "fractional power": lambda x: x**2.3,
    "negative fractional power": lambda x: x**-0.4,
    "power of itself": lambda x: x**x,
    "exponent": lambda x: 2.5**x,
    "array of exponents": lambda x: x ** np.array([0.5, 2.0, -1.3]),
    "float power": lambda x: np.float_power(x, 1.7),
}
CONSTANTS: dict[str, Function] = {
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "rint": np.rint,
    "trunc": np.trunc,
    "heaviside": lambda x: np.heaviside(x, 0.5),
    "greater": lambda x: x > 0.1,
    "less": lambda x: x < 0.1,
    "greater or equal": lambda x: x >= 0.1,
    "less or equal": lambda x: x <= 0.1,
    "equal": lambda x: x == 0.3,
    "not equal": lambda x: x != 0.3,
    "isfinite": np.isfinite,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "signbit": np.signbit,
    "logical and": lambda x: np.logical_and(x, x > 0),
    "logical or": lambda x: np.logical_or(x > 0, x),
    "logical not": np.logical_not,
    "any": lambda x: np.any(x > 0.5, axis=0),
    "all": lambda x: np.all(x, axis=0),
    "argmax": lambda x: np.argmax(x, axis=0),
    "argmin": lambda x: np.argmin(x, axis=0),
    "argsort": lambda x: np.argsort(x, axis=0),
    "count by reduce": lambda x: np.logical_and.reduce(x > -0.5, axis=0),
    "or by reduce": lambda x: np.logical_or.reduce(x, axis=0),
    "searchsorted": lambda x: np.searchsorted(np.array([-0.5, 0.0, 0.5]), x),
}
TWO: dict[str, Function] = {
    "add": lambda x: x + x[0],
    "subtract": lambda x: 1.0 - x,
    "multiply": lambda x: x * x[1],
    "divide": lambda x: x / (2 + x[0]),
    "divide numbers": lambda x: 3.0 / (2 + x),
    "integer power": lambda x: x**3,
    "negative integer power": lambda x: x**-2,
    "integral float power": lambda x: x**2.0,
    "array of integer powers": lambda x: x ** np.array([0, 1, 4]),
    "zero power": lambda x: x**0,
    "maximum": lambda x: np.maximum(x, 0.25),
    "maximum of two": lambda x: np.maximum(x[0], x[1]),
    "fmax": lambda x: np.fmax(x[0], x[1]),
    "minimum": lambda x: np.minimum(0.25, x),
    "fmin": lambda x: np.fmin(x[0], -x[1]),
    "hypot": lambda x: np.hypot(x[0], x[1]),
    "hypot with a number": lambda x: np.hypot(1.3, x),
    "arctan2": lambda x: np.arctan2(x[0], x[1]),
    "arctan2 of one": lambda x: np.arctan2(x, -0.7),
    "arctan2 over one": lambda x: np.arctan2(0.7, x),
    "matmul": lambda x: x @ A,
    "matmul from the left": lambda x: A @ x.T,
    "matmul of both": lambda x: x @ x.T,
    "in place": in_place,
    "out": lambda x: np.multiply(x, x, out=np.zeros(x.shape, dtype=x.dtype)),
}


@pytest.mark.parametrize("name", ONE)
def test_functions_of_one_argument(name: str) -> None:
    assert_right(ONE[name])


@pytest.mark.parametrize("name", POSITIVE_ONLY)
def test_functions_of_positive_numbers(name: str) -> None:
    assert_right(POSITIVE_ONLY[name], POSITIVE)


@pytest.mark.parametrize("name", TWO)
def test_functions_of_two_arguments(name: str) -> None:
    assert_right(TWO[name])


@pytest.mark.parametrize("name", CONSTANTS)
def test_functions_that_are_constant_almost_everywhere(name: str) -> None:
    function = CONSTANTS[name]
    result = function(seed(X, D))
    assert np.isrealobj(result)
    assert np.array_equal(result, function(X))
    assert not derivative(result).any()


def test_every_ufunc_has_a_rule_or_is_refused() -> None:
    """No ufunc of NumPy gives a derivative that differences do not confirm."""
    ufuncs = {n: f for n, f in vars(np).items() if isinstance(f, np.ufunc) and f.nout == 1 and f.signature is None}
    right, refused = set(), set()
    for name, ufunc in ufuncs.items():
        x = POSITIVE * 0.5 + (1.0 if name in ("arccosh", "acosh") else 0.0)

        def function(t: Any, ufunc: Any = ufunc) -> Any:
            return ufunc(*([t] * ufunc.nin)) if ufunc.nin == 1 else ufunc(t, np.full(X.shape, 0.37))

        try:
            with np.errstate(all="ignore"):
                result = function(seed(x, D))
        except FemadjError:
            refused.add(name)
            continue
        if np.asarray(function(x)).dtype.kind != "f":
            assert not derivative(result).any()
        else:
            assert_right(function, x)
        right.add(name)
    assert {"add", "sqrt", "maximum", "arctan2", "hypot", "sign"} <= right
    assert {"logaddexp", "fmod", "remainder", "floor_divide", "nextafter", "copysign", "spacing"} <= refused


# ---------------------------------------------------------------------- reductions, methods, functions
REDUCTIONS: dict[str, Function] = {
    "sum": lambda x: x.sum(axis=0),
    "sum of all": lambda x: x.sum(),
    "np.sum": lambda x: np.sum(x, axis=1, keepdims=True),
    "prod": lambda x: x.prod(axis=0),
    "np.prod": lambda x: np.prod(x, axis=1),
    "mean": lambda x: x.mean(axis=1),
    "np.mean": np.mean,
    "cumsum": lambda x: x.cumsum(axis=1),
    "np.cumprod": lambda x: np.cumprod(x, axis=1),
    "accumulate": lambda x: np.add.accumulate(x, axis=0),
    "multiply reduce": lambda x: np.multiply.reduce(x, axis=0),
    "reduceat": lambda x: np.add.reduceat(x, [0, 1], axis=1),
    "max": lambda x: x.max(axis=0),
    "max of all": lambda x: x.max(),
    "max kept": lambda x: x.max(axis=1, keepdims=True),
    "np.max": lambda x: np.max(x, axis=1),
    "min": lambda x: x.min(axis=0),
    "np.min": lambda x: np.min(x, axis=1, keepdims=True),
    "maximum reduce": lambda x: np.maximum.reduce(x, axis=1),
    "minimum reduce": lambda x: np.minimum.reduce(x, axis=0, keepdims=True),
    "clip": lambda x: x.clip(-0.5, 0.4),
    "np.clip": lambda x: np.clip(x, -0.5, 0.4),
    "clip from below": lambda x: np.clip(x, 0.0, None),
    "clip from above": lambda x: x.clip(max=0.25),
    "norm": np.linalg.norm,
    "norm over an axis": lambda x: np.linalg.norm(x, axis=0),
    "norm kept": lambda x: np.linalg.norm(x, 2, axis=1, keepdims=True),
    "frobenius": lambda x: np.linalg.norm(x, "fro"),
    "norm over two axes": lambda x: np.linalg.norm(x[None] * np.ones((2, 1, 1)), axis=(0, 1)),
    "where": lambda x: np.where(x > 0, x**2, -3 * x),
    "where of numbers": lambda x: np.where(x > 0, x, 0.0),
    "where of a real condition": lambda x: np.where(X > 0, x, 1.0),
    "conj": lambda x: x.conj() * x.conjugate(),
    "astype": lambda x: x.astype(complex) if isinstance(x, Guarded) else x,
    "trace": lambda x: (x[:, :2] * 2).trace(),
    "np.trace": lambda x: np.trace(x[:, :2]),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "einsum of a path": lambda x: np.einsum("ij,jk,lk->il", x, A, x, optimize=True),
    "tensordot": lambda x: np.tensordot(x, A, axes=1),
    "dot": lambda x: np.dot(x, A),
    "dot with two": lambda x: np.dot(x, x.T),
    "inner": lambda x: np.inner(x, x),
    "outer": lambda x: np.outer(x[0], x[1]),
    "vdot": lambda x: np.vdot(x, A[:2]),
    "vdot of itself": lambda x: np.vdot(x, x),
    "kron": lambda x: np.kron(x, np.eye(2)),
    "cross": lambda x: np.cross(x[0], x[1]),
    "stack": lambda x: np.stack([x, x**2]),
    "concatenate": lambda x: np.concatenate([x, np.ones((1, 3))]),
    "vstack": lambda x: np.vstack([x[0], np.zeros(3), x[1]]),
    "hstack": lambda x: np.hstack([x, X]),
    "append": lambda x: np.append(x, 1.0),
    "block": lambda x: np.block([[x, np.ones((2, 1))]]),
    "moveaxis": lambda x: np.moveaxis(x, 0, 1),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "transpose": np.transpose,
    "T": lambda x: x.T,
    "rollaxis": lambda x: np.rollaxis(x, 1),
    "reshape": lambda x: np.reshape(x, (3, 2)),
    "reshape method": lambda x: x.reshape(-1),
    "ravel": np.ravel,
    "flatten": lambda x: x.flatten(),
    "squeeze": lambda x: np.squeeze(x[None]),
    "expand": lambda x: np.expand_dims(x, 1),
    "broadcast": lambda x: np.broadcast_to(x, (2, 2, 3)),
    "broadcast arrays": lambda x: np.broadcast_arrays(x, np.ones((2, 1, 1)))[0],
    "take": lambda x: np.take(x, [2, 0], axis=1),
    "take along": lambda x: np.take_along_axis(x, np.array([[1, 0, 1]]), axis=0),
    "diagonal": np.diagonal,
    "diag": lambda x: np.diag(x[0]),
    "roll": lambda x: np.roll(x, 1, axis=1),
    "flip": lambda x: np.flip(x, 1),
    "tile": lambda x: np.tile(x, 2),
    "repeat": lambda x: np.repeat(x, 2, axis=0),
    "split": lambda x: np.split(x, 3, axis=1)[1],
    "diff": lambda x: np.diff(x, axis=1),
    "triu": lambda x: np.triu(x) + np.tril(x),
    "average": lambda x: np.average(x, axis=0, weights=[0.3, 0.7]),
    "copy": lambda x: np.copy(x) + x.copy(),
    "zeros like": lambda x: np.zeros_like(x) + x,
    "full like": lambda x: np.full_like(x, 2.0) * x + np.ones_like(x),
    "atleast": lambda x: np.atleast_2d(x[0]) + np.atleast_1d(x[0, 0]),
    "mask": lambda x: x[X > 0],
    "guarded mask": lambda x: x[x > 0],
    "rows": lambda x: x[1] * x[0, 2],
    "ellipsis": lambda x: x[..., None] ** 2,
    "fancy": lambda x: x[[0, 1, 1], [2, 0, 1]],
    "loop": lambda x: sum(row * row[0] for row in x),
    "unpacking": unpack,
    "assignment": assigned,
}
MATRICES: dict[str, Function] = {
    "det": np.linalg.det,
    "inv": np.linalg.inv,
    "solve": lambda m: np.linalg.solve(m, np.array([1.0, -2.0, 0.5])),
    "solve for itself": lambda m: np.linalg.solve(m + np.eye(3), m),
    "stacked": lambda m: np.linalg.inv(np.stack([m, 2 * m])),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_array_functions(name: str) -> None:
    assert_right(REDUCTIONS[name])


@pytest.mark.parametrize("name", MATRICES)
def test_linear_algebra(name: str) -> None:
    assert_right(MATRICES[name], MATRIX, A)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 4)])
def test_steps_in_arrays_of_every_shape(shape: tuple[int, ...]) -> None:
    x, d = np.random.default_rng(1).uniform(0.5, 1.5, (2, *shape))
    assert_right(lambda t: np.sin(t) * t**2.5 / (1 + abs(t)), np.asarray(x), np.asarray(d))


def test_steps_broadcast() -> None:
    step = seed(X, 1.0)
    assert step.shape == X.shape
    assert np.array_equal(derivative(step), np.ones(X.shape))
    wide = seed(2.0, D)
    assert wide.shape == D.shape
    assert np.array_equal(derivative(wide), D)
    assert np.array_equal(real_part(wide), np.full(D.shape, 2.0))


def test_derivatives_of_results_that_are_real() -> None:
    assert np.array_equal(derivative(X), np.zeros(X.shape))
    assert np.array_equal(derivative(3.0), np.zeros(()))
    assert np.array_equal(real_part(X), X)
    assert real_part(3).dtype == np.float64


def test_the_step_is_too_short_to_touch_the_value() -> None:
    x = np.linspace(0.1, 3.0, 50)
    result = np.exp(seed(x, 1.0)) * np.log(seed(x, 1.0))
    assert np.abs(real_part(result) - np.exp(x) * np.log(x)).max() <= 1e-15 * np.abs(real_part(result)).max()
    exact = np.exp(x) * (np.log(x) + 1 / x)
    assert np.abs(derivative(result) - exact).max() <= 4e-15 * np.abs(exact).max()
    assert np.array_equal(real_part(seed(x, 1.0) * 3.0 + 1.0), x * 3.0 + 1.0)


def test_scalars_stay_guarded() -> None:
    x = seed(X, D)
    for found in (x[0, 0], x.sum(), np.sum(x), x.max(), np.linalg.norm(x), next(iter(x[0])), x.ravel()[0], x[0].mean()):
        assert isinstance(found, Guarded), found
    for found in (x[0, 0] > 0, bool(x[0, 0] > 0), x.shape, len(x), x.ndim, np.shape(x), np.ndim(x), np.size(x)):
        assert not isinstance(found, Guarded)
    assert np.iscomplexobj(x)
    assert not np.isrealobj(x)
    assert isinstance(X * x, Guarded)
    assert isinstance(X @ x.T, Guarded)
    assert isinstance(2.0 * x[0, 0], Guarded)
    assert isinstance(np.float64(2.0) * x[0, 0], Guarded)


def test_no_shared_memory_between_steps_and_arguments() -> None:
    x, d = X.copy(), D.copy()
    step = seed(x, d)
    step *= 0
    assert np.array_equal(x, X)
    assert np.array_equal(d, D)


# ---------------------------------------------------------------------- kinks
KINKS: dict[str, tuple[Function, tuple[float, ...]]] = {
    "abs": (np.abs, (-1.0, 1.0)),
    "maximum": (lambda x: np.maximum(x, 0.0), (0.0, 1.0)),
    "minimum": (lambda x: np.minimum(0.0, x), (0.0, 1.0)),
    "clip": (lambda x: np.clip(x, 0.0, 1.0), (0.0, 1.0)),
    "where": (lambda x: np.where(x < 0, -2 * x, 3 * x), (-2.0, 3.0)),
    "sqrt of a square": (lambda x: np.sqrt(x**2 + 1e-30), (-1.0, 0.0, 1.0)),
}


@pytest.mark.parametrize("name", KINKS)
def test_at_a_kink_a_one_sided_derivative_is_given(name: str) -> None:
    function, slopes = KINKS[name]
    found = float(derivative(function(seed(np.zeros(1), np.ones(1))))[0])
    assert min(abs(found - s) for s in slopes) < 1e-12


def test_powers_at_zero() -> None:
    zero = seed(np.zeros(1), np.ones(1))
    assert derivative(zero**2)[0] == 0.0
    assert derivative(zero**1)[0] == 1.0
    assert derivative(zero**1.5)[0] == 0.0
    with np.errstate(all="ignore"):
        assert not np.isfinite(derivative(zero**-0.7)[0])
    still = seed(np.zeros(1), np.zeros(1))
    assert derivative(still**0.5)[0] == 0.0
    negative = seed(np.array([-2.0]), np.ones(1))
    assert derivative(negative**3)[0] == pytest.approx(12.0)
    with np.errstate(invalid="ignore"):
        assert np.isnan(real_part(negative**0.7)).all()


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (np.sqrt, -2.0),
        (lambda x: x**0.5, -2.0),
        (np.log, -2.0),
        (np.log2, -2.0),
        (np.log10, -2.0),
        (np.log1p, -2.0),
        (np.arcsin, 1.5),
        (np.arccos, 1.5),
        (np.arccosh, 0.5),
        (np.arctanh, 1.5),
        (np.sqrt, 0.0),
    ],
)
def test_outside_of_the_domain(function: Function, x: float) -> None:
    """A function that is not a real number there, or not differentiable, gives NaN or infinity."""
    with np.errstate(all="ignore"):
        result = function(seed(np.array([x]), np.ones(1)))
        assert not np.isfinite(real_part(result)).all() or not np.isfinite(derivative(result)).all()


# ---------------------------------------------------------------------- refusals
REFUSED: dict[str, Function] = {
    "real": lambda x: x.real,
    "np.real": np.real,
    "imag": lambda x: x.imag,
    "np.imag": np.imag,
    "float": lambda x: float(x[0, 0]),
    "int": lambda x: int(x[0, 0]),
    "math": lambda x: math.sqrt(x[0, 1]),
    "astype float": lambda x: x.astype(float),
    "astype float32": lambda x: x.astype("float32"),
    "astype int": lambda x: x.astype(np.int64),
    "norm of one": lambda x: np.linalg.norm(x, 1, axis=0),
    "norm of infinity": lambda x: np.linalg.norm(x, np.inf, axis=0),
    "spectral norm": lambda x: np.linalg.norm(x, 2),
    "nuclear norm": lambda x: np.linalg.norm(x, "nuc"),
    "max over two axes": lambda x: np.max(x, axis=(0, 1)),
    "mod": lambda x: x % 0.3,
    "floor division": lambda x: x // 0.3,
    "fmod": lambda x: np.fmod(x, 0.3),
    "copysign": lambda x: np.copysign(1.0, x),
    "logaddexp": lambda x: np.logaddexp(x, 1.0),
    "subtract reduce": lambda x: np.subtract.reduce(x, axis=0),
    "add outer": lambda x: np.add.outer(x, x),
    "sort": lambda x: np.sort(x, axis=0),
    "median": np.median,
    "percentile": lambda x: np.percentile(x, 30),
    "interp": lambda x: np.interp(x[0], [0.0, 1.0], [0.0, 2.0]),
    "eigh": lambda x: np.linalg.eigh(x[:, :2]),
    "eigvalsh": lambda x: np.linalg.eigvalsh(x[:, :2]),
    "svd": np.linalg.svd,
    "qr": np.linalg.qr,
    "pinv": np.linalg.pinv,
    "cholesky": lambda x: np.linalg.cholesky(x[:, :2]),
    "round": lambda x: np.round(x, 1),
    "angle": np.angle,
    "nan_to_num": np.nan_to_num,
    "real if close": np.real_if_close,
    "unique": np.unique,
    "histogram": np.histogram,
    "fft": np.fft.fft,
    "piecewise": lambda x: np.piecewise(x, [x < 0], [1.0, 2.0]),
    "select": lambda x: np.select([x < 0], [x], 0.0),
    "isclose": lambda x: np.isclose(x, 0.3),
    "allclose": lambda x: np.allclose(x, 0.3),
    "array equal": lambda x: np.array_equal(x, x),
    "std": np.std,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    with pytest.raises(ComplexStepError):
        REFUSED[name](seed(X, D))


def test_refusals_name_the_function() -> None:
    x = seed(X, D)
    functions: dict[str, Function] = {
        "np.sort": np.sort,
        "np.fmod": lambda x: np.fmod(x, 1.0),
        "np.subtract.reduce": np.subtract.reduce,
        "ord=1": lambda x: np.linalg.norm(x, 1),
        "float": lambda x: x.astype(float),
    }
    for name, function in functions.items():
        with pytest.raises(ComplexStepError, match=name):
            function(x)


METHODS: dict[str, Function] = {
    "round": lambda x: x.round(1),
    "std": lambda x: x.std(),
    "var": lambda x: x.var(axis=0),
    "sort": sorted_copy,
    "dot": lambda x: x.dot(A),
    "ptp": np.ptp,
    "argmax": lambda x: x.argmax(axis=0) * x[0],
    "argmin": lambda x: x[:, ::-1].argmin(axis=0) * x[0],
    "argsort": lambda x: x.argsort(axis=1) * x,
    "compress": lambda x: x.compress([True, False], axis=0),
    "take": lambda x: x.take([1], axis=0),
    "choose": lambda x: np.choose([0, 1, 1], list(x)),
    "any": lambda x: x.any() * x,
    "all": lambda x: x.all(axis=0) * x,
    "nonzero": lambda x: x[x.nonzero()],
    "diagonal": lambda x: x.diagonal(),
    "cumprod": lambda x: x.cumprod(axis=0),
    "repeat": lambda x: x.repeat(2, axis=0),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "filled": filled,
    "put in a real array": put,
    "guarded exponent": lambda x: 1.5 ** x[0],
    "bool": lambda x: x * bool(x[0, 0]),
    "format": lambda x: float(f"{x[0, 0]}"),
    "amax": lambda x: np.amax(x, axis=-1),
    "polyval": lambda x: np.polyval([1.0, -2.0, 0.5], x),
    "array": lambda x: np.array([x[0], x[1]]) ** 2,
    "asarray": lambda x: np.exp(np.asarray(x)),
    "list": lambda x: np.array(list(x)).sum(axis=0),
    "item": lambda x: x.item(0) ** 2,
}
ESCAPES: dict[str, Function] = {
    "abs of a view": lambda x: np.abs(x.view(np.ndarray)),
    "abs of asarray": lambda x: np.abs(np.asarray(x)),
    "abs of a list": lambda x: np.abs(np.array(list(x))),
    "abs of an item": lambda x: abs(x.item(1)),
    "abs of a list of numbers": lambda x: abs(x.tolist()[0][1]),
}
"""Ways out of the guard that NumPy leaves open: who uses complex steps compares with differences once."""


def is_right(function: Function) -> bool:
    found, expected = derivative(function(seed(X, D))), difference(function, X, D)
    return found.shape == expected.shape and bool(np.abs(found - expected).max() <= 1e-8)


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_right_or_refused(name: str) -> None:
    """Whatever else arrays can do is right, or an error."""
    try:
        right = is_right(METHODS[name])
    except (FemadjError, TypeError, ValueError, np.exceptions.ComplexWarning):
        return
    assert right


@pytest.mark.parametrize("name", ESCAPES)
def test_known_ways_out_of_the_guard(name: str) -> None:
    """These lose the derivative; forms and functionals are compared with differences because of them."""
    assert not is_right(ESCAPES[name])


@pytest.mark.filterwarnings("ignore")
def test_every_array_function_is_right_or_refused() -> None:
    """No function of NumPy that takes an array drops a derivative in silence."""
    wrong, tried = set(), set()
    functions = {
        name: function
        for module in (np, np.linalg)
        for name, function in vars(module).items()
        if not name.startswith(("_", "empty")) and hasattr(function, "__wrapped__")  # empty arrays hold anything
    }
    for name, function in functions.items():
        for arguments in ((), (0,), (A,)):
            for x, d in ((X, D), (MATRIX, A), (X[0], D[0])):

                def call(t: Any, function: Any = function, arguments: Any = arguments) -> Any:
                    return function(np.array(t) if type(t) is np.ndarray else t.copy(), *arguments)

                try:
                    at_rest = call(x)
                    expected = difference(call, x, d)
                except Exception:  # no function of this argument
                    continue
                if np.asarray(at_rest).dtype.kind != "f":
                    continue
                try:
                    found = derivative(call(seed(x, d)))
                except (ComplexStepError, TypeError, ValueError):
                    continue
                tried.add(name)
                size = max(1.0, np.abs(expected).max(initial=0.0))
                if found.shape != expected.shape or np.abs(found - expected).max(initial=0.0) > 1e-8 * size:
                    wrong.add(name)
    assert len(tried) > 40
    assert not wrong


def test_errors_are_those_of_the_package() -> None:
    assert issubclass(ComplexStepError, FemadjError)
    assert issubclass(ComplexStepError, TypeError)
    assert complex_step.STEP < 1e-20
