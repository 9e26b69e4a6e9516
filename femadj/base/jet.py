"""Second derivatives of plain NumPy functions, to rounding: dual numbers over complex steps.

``a + eps b`` with ``eps^2 = 0``, where ``a`` and ``b`` carry complex steps themselves: along the argument
``(x + i h d) + eps e`` the coefficient of ``eps`` of a result is ``f'(x) e + i h f''(x)(d, e)`` (J. A. Fike and J. J.
Alonso, AIAA paper 2011-886, on numbers of this kind). Every rule below is that of a first derivative; what has no rule
raises ``ComplexStepError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base import complex_step
from femadj.base.arrays import FloatArray
from femadj.base.complex_step import Guarded, plain
from femadj.errors import ComplexStepError

AnyArray = npt.NDArray[Any]

_LOG2, _LOG10 = float(np.log(2)), float(np.log(10))

_SLOPES: Mapping[Any, Callable[[Any], Any]] = MappingProxyType(
    {
        np.exp: np.exp,
        np.exp2: lambda x: _LOG2 * np.exp2(x),
        np.expm1: np.exp,
        np.log: lambda x: 1 / x,
        np.log2: lambda x: 1 / (_LOG2 * x),
        np.log10: lambda x: 1 / (_LOG10 * x),
        np.log1p: lambda x: 1 / (1 + x),
        np.sin: np.cos,
        np.cos: lambda x: -np.sin(x),
        np.tan: lambda x: 1 + np.tan(x) ** 2,
        np.arcsin: lambda x: 1 / np.sqrt(1 - x * x),
        np.arccos: lambda x: -1 / np.sqrt(1 - x * x),
        np.arctan: lambda x: 1 / (1 + x * x),
        np.sinh: np.cosh,
        np.cosh: np.sinh,
        np.tanh: lambda x: 1 - np.tanh(x) ** 2,
        np.arcsinh: lambda x: 1 / np.sqrt(1 + x * x),
        np.arccosh: lambda x: 1 / np.sqrt(x * x - 1),
        np.arctanh: lambda x: 1 / (1 - x * x),
        np.sqrt: lambda x: 0.5 / np.sqrt(x),
        np.cbrt: lambda x: 1 / (3 * np.cbrt(x) ** 2),
        np.square: lambda x: 2 * x,
        np.reciprocal: lambda x: -1 / (x * x),
        np.negative: lambda x: -1.0,
        np.positive: lambda x: 1.0,
        np.conjugate: lambda x: 1.0,
        np.absolute: lambda x: np.where(x < 0, -1.0, 1.0),
        np.fabs: lambda x: np.where(x < 0, -1.0, 1.0),
        np.deg2rad: lambda x: np.pi / 180,
        np.rad2deg: lambda x: 180 / np.pi,
    }
)
"""First derivatives of functions of one number."""

_BILINEAR = frozenset({np.dot, np.tensordot, np.inner, np.outer, np.cross, np.kron})
_LINEAR = frozenset(
    {
        np.sum, np.trace, np.transpose, np.moveaxis, np.swapaxes, np.reshape, np.squeeze, np.expand_dims, np.take,
        np.diagonal, np.broadcast_to, np.cumsum, np.flip, np.roll, np.ravel, np.mean, np.diff, np.tile, np.repeat,
        np.rollaxis, np.diag, np.copy, np.triu, np.tril, np.atleast_1d, np.atleast_2d,
    }
)  # fmt: skip
_ADDED = frozenset({"initial", "prepend", "append", "out"})
"""Arguments of linear functions that make them affine, or worse."""
_LISTS = frozenset({np.stack, np.concatenate, np.vstack, np.hstack})
_LIKE = frozenset({np.zeros_like, np.ones_like, np.full_like, np.empty_like})
_OF_VALUES = frozenset({np.shape, np.ndim, np.size, np.any, np.all, np.argmax, np.argmin, np.iscomplexobj})


class Jet(np.lib.mixins.NDArrayOperatorsMixin):
    """``value + eps slope``, two guarded complex arrays of one shape.

    Parameters
    ----------
    value, slope : array
        The slope is broadcast to the shape of the value.
    """

    __array_priority__ = 20.0

    def __init__(self, value: Any, slope: Any) -> None:
        self.jet_value: Guarded = _guarded(value)
        found = _guarded(slope)
        self.jet_slope: Guarded = found if found.shape == self.shape else _guarded(np.broadcast_to(found, self.shape))

    # ------------------------------------------------------------------ what arrays have
    @property
    def shape(self) -> tuple[int, ...]:
        """Of both."""
        return self.jet_value.shape

    @property
    def ndim(self) -> int:
        """Of both."""
        return self.jet_value.ndim

    @property
    def size(self) -> int:
        """Of both."""
        return self.jet_value.size

    @property
    def T(self) -> Jet:
        """Transposed."""
        return self._both(np.transpose)

    def __len__(self) -> int:
        return len(self.jet_value)

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, key: Any) -> Jet:
        key = _index(key)
        return Jet(plain(self.jet_value)[key], plain(self.jet_slope)[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        key = _index(key)
        plain(self.jet_value)[key] = plain(_value(value))
        if not self.jet_slope.flags.writeable:
            self.jet_slope = _guarded(plain(self.jet_slope).copy())
        plain(self.jet_slope)[key] = plain(_slope(value))

    def __float__(self) -> float:
        raise ComplexStepError("float(...) of an argument drops its derivative")

    __int__ = __complex__ = __float__

    @property
    def real(self) -> Any:
        """Taking the real part would lose the derivative."""
        raise ComplexStepError("the real part of an argument was taken: that drops its derivative")

    imag = real

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Sum over axes."""
        return self._both(np.sum, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Mean over axes."""
        return self._both(np.mean, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Any:
        """In another shape."""
        return self._both(np.reshape, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        """With axes in another order."""
        return self._both(np.transpose, (axes[0] if len(axes) == 1 else axes) if axes else None)

    def swapaxes(self, one: int, other: int) -> Any:
        """With two axes exchanged."""
        return self._both(np.swapaxes, one, other)

    def ravel(self) -> Any:
        """As a vector."""
        return self._both(np.ravel)

    def copy(self) -> Any:
        """A copy."""
        return self._both(np.copy)

    def conj(self) -> Jet:
        """Real numbers are their own conjugates."""
        return self

    conjugate = conj

    def _both(self, function: Any, *args: Any, **kwargs: Any) -> Jet:
        """A linear function of both."""
        return Jet(function(plain(self.jet_value), *args, **kwargs), function(plain(self.jet_slope), *args, **kwargs))

    # ------------------------------------------------------------------ rules
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        """Apply the rule of a ufunc."""
        if method == "reduce" and ufunc is np.add and out is None and kwargs.keys() <= {"axis", "keepdims"}:
            return self._both(np.sum, **{"axis": 0, **kwargs})
        if method != "__call__" or out is not None or kwargs:
            raise _no_rule(ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}")
        values = [_value(x) for x in inputs]
        if ufunc in complex_step.OF_REAL_PARTS:
            return ufunc(*values)
        if ufunc in _SLOPES:
            (x,) = values
            return Jet(ufunc(x), _times(_SLOPES[ufunc](x), _slope(inputs[0])))
        if len(inputs) != 2:
            raise _no_rule(ufunc.__name__)
        return _of_two(ufunc, *values, *(_slope(x) for x in inputs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Apply the rule of an array function."""
        if func in _LINEAR and isinstance(args[0], Jet) and not kwargs.keys() & _ADDED and len(args) < 4:
            return args[0]._both(func, *args[1:], **kwargs)
        if func in _LISTS:
            items, others = list(args[0]), args[1:]
            values = [plain(_value(x)) for x in items]
            slopes = [np.broadcast_to(plain(_slope(x)), np.shape(_value(x))) for x in items]
            return Jet(func(values, *others, **kwargs), func(slopes, *others, **kwargs))
        if func is np.einsum:
            spec, operands = args[0], args[1:]
            return _multilinear(lambda *each: np.einsum(spec, *each, **kwargs), operands)
        if func in _BILINEAR:
            return _multilinear(lambda a, b: func(a, b, *args[2:], **kwargs), args[:2])
        if func in _LIKE:
            value = func(plain(_value(args[0])), *args[1:], **kwargs)
            return Jet(value, np.zeros_like(value))
        if func in _OF_VALUES:
            return func(_value(args[0]), *args[1:], **kwargs)
        if func in _FUNCTIONS:
            return _FUNCTIONS[func](*args, **kwargs)
        raise _no_rule(func.__name__)


def _no_rule(name: str) -> ComplexStepError:
    return ComplexStepError(f"np.{name} has no rule for second derivatives; write it with smooth operations")


def _of_two(ufunc: Any, a: Any, b: Any, da: Any, db: Any) -> Jet:
    """The rule of a function of two numbers."""
    if ufunc in (np.maximum, np.fmax, np.minimum, np.fmin):
        first = a >= b if ufunc in (np.maximum, np.fmax) else a <= b
        return Jet(np.where(first, a, b), np.where(first, da, db))
    if ufunc is np.matmul:
        full_a, full_b = np.broadcast_to(plain(da), np.shape(a)), np.broadcast_to(plain(db), np.shape(b))
        return Jet(ufunc(a, b), ufunc(full_a, plain(b)) + ufunc(plain(a), full_b))
    value = ufunc(a, b)
    if ufunc in (np.add, np.subtract):
        return Jet(value, ufunc(da, db))
    if ufunc is np.multiply:
        return Jet(value, da * b + a * db)
    if ufunc is np.true_divide:
        return Jet(value, (da - value * db) / b)
    if ufunc in (np.power, np.float_power):
        return Jet(value, _times(_by_base(a, b), da) + _by_exponent(value, a, db))
    if ufunc is np.hypot:
        return Jet(value, _times(a / value, da) + _times(b / value, db))
    if ufunc is np.arctan2:
        return Jet(value, (b * da - a * db) / (a * a + b * b))
    raise _no_rule(ufunc.__name__)


def _times(factor: Any, slope: Any) -> Any:
    """A derivative times a slope: nothing where nothing changes, though the derivative be infinite there."""
    return np.where(plain(slope) == 0, 0.0, plain(factor * slope))


def _by_base(base: Any, exponent: Any) -> Any:
    """``e b^(e - 1)``, zero where the exponent is."""
    constant = plain(exponent) == 0
    return 0.0 if np.all(constant) else exponent * np.power(base, np.where(constant, 1.0, exponent) - 1.0)


def _by_exponent(value: Any, base: Any, rate: Any) -> Any:
    return value * np.log(base) * rate if np.any(plain(rate)) else 0.0


def _multilinear(function: Callable[..., Any], operands: Any) -> Jet:
    """A product, by its rule."""
    values = [plain(_value(x)) for x in operands]
    slope: Any = 0.0
    for number, operand in enumerate(operands):
        if isinstance(operand, Jet):
            slope = slope + function(*values[:number], plain(operand.jet_slope), *values[number + 1 :])
    return Jet(function(*values), slope)


def _where(condition: Any, *branches: Any) -> Jet:
    chosen = values_of(condition)
    return Jet(*(np.where(chosen, *(plain(part(x)) for x in branches)) for part in (_value, _slope)))


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord not in (None, 2, "fro") or (ord == 2 and axis is None and np.ndim(x) > 1):
        raise ComplexStepError(f"np.linalg.norm with ord={ord!r} has no rule for second derivatives")
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


def _inverse(x: Jet) -> Jet:
    inverse = np.linalg.inv(plain(x.jet_value))
    return Jet(inverse, -inverse @ plain(x.jet_slope) @ inverse)


def _determinant(x: Jet) -> Jet:
    value, det = plain(x.jet_value), np.linalg.det(plain(x.jet_value))
    return Jet(det, det * np.einsum("...ij,...ji->...", np.linalg.inv(value), plain(x.jet_slope)))


def _clip(x: Any, a_min: Any = None, a_max: Any = None) -> Any:
    low = x if a_min is None else np.maximum(x, a_min)
    return low if a_max is None else np.minimum(low, a_max)


_FUNCTIONS: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {np.where: _where, np.linalg.norm: _norm, np.linalg.inv: _inverse, np.linalg.det: _determinant, np.clip: _clip}
)


def _guarded(array: Any) -> Guarded:
    return np.asarray(plain(array), dtype=complex).view(Guarded)


def _value(x: Any) -> Any:
    return x.jet_value if isinstance(x, Jet) else x


def _slope(x: Any) -> Any:
    return x.jet_slope if isinstance(x, Jet) else 0.0


def _index(key: Any) -> Any:
    """What an array is indexed with, without derivatives: they do not matter to where entries stand."""
    return plain(key)


# ---------------------------------------------------------------------- for arguments that may carry a step already
def seed(value: npt.ArrayLike, direction: npt.ArrayLike) -> Any:
    """A step along a direction: complex for real numbers, dual for complex ones, which carry a step already."""
    if np.iscomplexobj(value):
        return Jet(value, direction)
    return complex_step.seed(value, direction)


def derivative(result: Any, *, moving: bool) -> AnyArray:
    """What a result carries along a step; ``moving``: arguments were complex before, and so is the derivative."""
    result = gathered(result) if moving else result
    if isinstance(result, Jet):
        return np.asarray(plain(result.jet_slope))
    if moving:
        return np.zeros(np.shape(result), dtype=complex)
    return complex_step.derivative(result)


def gathered(result: Any) -> Any:
    """An array of objects, as ``np.array([...])`` makes it of jets, as one jet; anything else as it is."""
    if isinstance(result, (list, tuple)) and _has_jets(result):
        shape = np.broadcast_shapes(*(np.shape(x) for x in result))
        return np.stack([np.broadcast_to(x, shape) for x in result])
    if isinstance(result, np.ndarray) and result.dtype == object and _has_jets(result.flat):
        found = [_value(x) for x in result.flat], [_slope(x) for x in result.flat]
        value, slope = (np.array([complex(np.asarray(plain(x))) for x in part]) for part in found)
        return Jet(value.reshape(result.shape), slope.reshape(result.shape))
    return result


def _has_jets(items: Any) -> bool:
    return any(isinstance(x, Jet) for x in items)


def values_of(x: Any) -> FloatArray:
    """Real numbers without the steps that they carry, to be compared."""
    return np.asarray(plain(_value(x))).real
