"""Guarded complex step: derivatives of plain NumPy functions, to rounding, or an error.

``f(x + i h d)`` has the derivative of ``f`` along ``d`` in its imaginary part, for any tiny ``h``, as long as ``f``
consists of analytic operations (J. N. Lyness and C. B. Moler, SIAM J. Numer. Anal. 4 (1967)). ``abs``, ``maximum``,
comparisons or a norm are not analytic and a bare complex step is silently wrong there. Arrays made by ``seed`` give
such operations the meaning they have for real numbers, and raise ``ComplexStepError`` on operations that they do not
know. NumPy lets functions strip the guard (``np.array([a, b])``): derivatives of users' functions are compared with
differences as well (``femadj.base.differences``). A complex number that is stored in an array of real ones is an error
inside ``steps_kept``.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import ComplexStepError

STEP = 1e-30
"""No subtraction takes place, so the step need not be moderate."""

_ANALYTIC = frozenset(
    {
        np.add, np.subtract, np.multiply, np.true_divide, np.square, np.reciprocal, np.negative, np.positive, np.exp,
        np.exp2, np.expm1, np.sin, np.cos, np.tan, np.arctan, np.sinh, np.cosh, np.tanh, np.arcsinh, np.matmul,
    }
)  # fmt: skip
OF_REAL_PARTS = frozenset(
    {
        np.greater, np.less, np.greater_equal, np.less_equal, np.equal, np.not_equal, np.isfinite, np.isnan, np.isinf,
        np.sign, np.floor, np.ceil, np.rint, np.trunc, np.signbit, np.heaviside, np.logical_and, np.logical_or,
        np.logical_not,
    }
)  # fmt: skip
"""Ufuncs that look at the real part alone: no step goes through them."""
_LINEAR_FUNCTIONS = frozenset(
    {
        np.einsum, np.sum, np.stack, np.concatenate, np.vstack, np.hstack, np.moveaxis, np.swapaxes, np.transpose,
        np.trace, np.dot, np.tensordot, np.cross, np.mean, np.broadcast_to, np.expand_dims, np.squeeze, np.reshape,
        np.zeros_like, np.ones_like, np.empty_like, np.full_like, np.prod, np.outer, np.take, np.copy, np.atleast_1d,
        np.atleast_2d, np.cumsum, np.cumprod, np.diagonal, np.roll, np.tile, np.repeat, np.rollaxis, np.ravel, np.flip,
        np.inner, np.kron, np.diag, np.split, np.broadcast_arrays, np.average, np.linalg.det, np.linalg.inv,
        np.linalg.solve, np.diff, np.take_along_axis, np.append, np.block, np.triu, np.tril,
    }
)  # fmt: skip
_OF_SHAPES = frozenset(
    {np.shape, np.ndim, np.size, np.iscomplexobj, np.isrealobj, np.may_share_memory, np.result_type, np.can_cast}
)


def _re(a: Any) -> Any:
    return np.asarray(a).real


def plain(a: Any) -> Any:
    """Without the guard, in lists too."""
    if isinstance(a, (list, tuple)):
        return type(a)(plain(x) for x in a)
    return a.view(np.ndarray) if isinstance(a, np.ndarray) else a


def _guard(result: Any) -> Any:
    if isinstance(result, (list, tuple)):
        return type(result)(_guard(x) for x in result)
    return np.asarray(result).view(Guarded) if np.iscomplexobj(result) else result


def _arctan2(y: Any, x: Any) -> Any:
    ry, rx = _re(y), _re(x)
    slope = (rx * np.imag(y) - ry * np.imag(x)) / (rx * rx + ry * ry)
    return np.arctan2(ry, rx) + 1j * slope


def _cbrt(x: Any) -> Any:
    root = np.cbrt(_re(x))
    return root + 1j * np.imag(x) / (3 * root**2)


def _by_slope(function: Any, slope: Callable[[Any], Any]) -> Callable[..., Any]:
    """A real function of a real argument, undefined where the real one is; ``slope`` is its derivative."""

    def apply(x: Any) -> Any:
        re, step = _re(x), np.imag(x)
        with np.errstate(all="ignore"):
            return function(re) + 1j * np.where(step == 0, 0.0, slope(re) * step)

    return apply


def _power(base: Any, exponent: Any) -> Any:
    """Powers of real numbers. NumPy's complex powers go through logarithms and lose a tiny step at large exponents."""
    b, e = np.asarray(base), np.asarray(exponent)
    value = np.power(b.real, e.real)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.zeros(value.shape)
        if np.iscomplexobj(b):
            by_base = e.real * np.power(b.real, e.real - 1.0) * b.imag
            slope = np.where((b.imag == 0) | (e.real == 0), 0.0, by_base)
        if np.iscomplexobj(e):
            slope = slope + np.where(e.imag == 0, 0.0, value * np.log(b.real) * e.imag)
    return value + 1j * slope


_REAL_MEANING: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {
        np.absolute: lambda x: np.where(_re(x) < 0, -x, x),
        np.fabs: lambda x: np.where(_re(x) < 0, -x, x),
        np.conjugate: lambda x: x,
        np.maximum: lambda a, b: np.where(_re(a) >= _re(b), a, b),
        np.fmax: lambda a, b: np.where(_re(a) >= _re(b), a, b),
        np.minimum: lambda a, b: np.where(_re(a) <= _re(b), a, b),
        np.fmin: lambda a, b: np.where(_re(a) <= _re(b), a, b),
        np.hypot: lambda a, b: np.sqrt(a * a + b * b),
        np.cbrt: _cbrt,
        np.arctan2: _arctan2,
        np.power: _power,
        np.float_power: _power,
        np.sqrt: _by_slope(np.sqrt, lambda x: 0.5 / np.sqrt(x)),
        np.log: _by_slope(np.log, lambda x: 1 / x),
        np.log2: _by_slope(np.log2, lambda x: 1 / (x * np.log(2))),
        np.log10: _by_slope(np.log10, lambda x: 1 / (x * np.log(10))),
        np.log1p: _by_slope(np.log1p, lambda x: 1 / (1 + x)),
        np.arcsin: _by_slope(np.arcsin, lambda x: 1 / np.sqrt(1 - x * x)),
        np.arccos: _by_slope(np.arccos, lambda x: -1 / np.sqrt(1 - x * x)),
        np.arccosh: _by_slope(np.arccosh, lambda x: 1 / np.sqrt(x * x - 1)),
        np.arctanh: _by_slope(np.arctanh, lambda x: 1 / (1 - x * x)),
        np.deg2rad: lambda x: x * (np.pi / 180),
        np.rad2deg: lambda x: x * (180 / np.pi),
    }
)


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord not in (None, 2, "fro") or (ord == 2 and axis is None and np.ndim(x) > 1):
        raise ComplexStepError(f"np.linalg.norm with ord={ord!r} has no rule for complex steps")
    return np.sqrt((plain(x) ** 2).sum(axis=axis, keepdims=keepdims))


def _where(condition: Any, *branches: Any) -> Any:
    return np.where(plain(condition), *plain(branches))


def _clip(a: Any, a_min: Any = None, a_max: Any = None) -> Any:
    low = a if a_min is None else np.maximum(a, a_min)
    return low if a_max is None else np.minimum(low, a_max)


def _extreme(last: bool) -> Callable[..., Any]:
    """Maximum or minimum along an axis: the entry where the real part has it."""

    def take(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        x = plain(a)
        if axis is None:
            x, axis = x.ravel(), 0
        if not isinstance(axis, int):
            raise ComplexStepError("max and min over several axes have no rule for complex steps; take one at a time")
        index = np.expand_dims((np.argmax if last else np.argmin)(x.real, axis=axis), axis)
        found = np.take_along_axis(x, index, axis)
        return found if keepdims else np.squeeze(found, axis)

    return take


_FUNCTIONS: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {
        np.linalg.norm: _norm,
        np.where: _where,
        np.clip: _clip,
        np.vdot: lambda a, b: (np.ravel(plain(a)) * np.ravel(plain(b))).sum(),
        np.max: _extreme(last=True),
        np.min: _extreme(last=False),
        np.amax: _extreme(last=True),
        np.amin: _extreme(last=False),
    }
)


class Guarded(np.ndarray[Any, Any]):
    """A complex array whose operations mean what they mean for real numbers, or raise ``ComplexStepError``."""

    __array_priority__ = 1.0  # below that of SciPy's sparse matrices, above that of arrays

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        """Apply the rule of a ufunc."""
        if any(hasattr(x, "__array_ufunc__") and not isinstance(x, (np.ndarray, np.generic)) for x in inputs):
            return NotImplemented  # another kind of number, with rules of its own
        arguments = [plain(x) for x in inputs]
        if out is not None:
            kwargs["out"] = tuple(plain(o) for o in out)
        if method in ("reduce", "accumulate", "reduceat") and ufunc in (np.add, np.multiply):
            return _guard(getattr(ufunc, method)(*arguments, **kwargs))
        if method == "reduce" and ufunc in (np.maximum, np.minimum):
            return _guard(
                _extreme(ufunc is np.maximum)(arguments[0], kwargs.get("axis"), kwargs.get("keepdims", False))
            )
        if method == "reduce" and ufunc in (np.logical_and, np.logical_or):
            return getattr(ufunc, method)(*[_re(a) for a in arguments], **kwargs)
        # "_ones_like" is what NumPy before 2 makes of x**0
        if method == "__call__" and (ufunc in _ANALYTIC or ufunc.__name__ == "_ones_like"):
            return _guard(ufunc(*arguments, **kwargs))
        if method == "__call__" and ufunc in OF_REAL_PARTS:
            return ufunc(*[_re(a) for a in arguments], **kwargs)
        if method == "__call__" and ufunc in _REAL_MEANING and not kwargs.keys() - {"out"}:
            result = _guard(_REAL_MEANING[ufunc](*arguments))
            if out is None:
                return result
            out[0][...] = result
            return out[0]
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        raise ComplexStepError(f"np.{name} has no rule for complex steps; write it with smooth operations")

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Apply the rule of an array function."""
        if not all(issubclass(kind, np.ndarray) for kind in types):
            return NotImplemented
        if func in _FUNCTIONS:
            return _guard(_FUNCTIONS[func](*args, **kwargs))
        if func in _LINEAR_FUNCTIONS:
            return _guard(func(*plain(args), **{k: plain(v) for k, v in kwargs.items()}))
        if func in _OF_SHAPES:
            return func(*plain(args), **kwargs)
        if func in (np.any, np.all, np.argmax, np.argmin, np.argsort, np.searchsorted, np.nonzero):
            return func(*[_re(a) if isinstance(a, np.ndarray) else a for a in args], **kwargs)
        raise ComplexStepError(f"np.{func.__name__} has no rule for complex steps; write it with smooth operations")

    def __getitem__(self, key: Any) -> Any:
        """Entries stay guarded, single ones too."""
        return _guard(plain(self)[plain(key)])

    @property  # type: ignore[misc, unused-ignore]
    def real(self) -> Any:
        """Taking the real part would lose the derivative."""
        raise ComplexStepError("the real part of an argument was taken: that drops its derivative")

    @property  # type: ignore[misc, unused-ignore]
    def imag(self) -> Any:
        """The imaginary part carries the derivative."""
        raise ComplexStepError("the imaginary part of an argument was taken: arguments are real numbers")

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """Only to complex types."""
        if not np.issubdtype(np.dtype(dtype), np.complexfloating):
            raise ComplexStepError(f"an argument was cast to {np.dtype(dtype).name}: that drops its derivative")
        return _guard(plain(self).astype(dtype, *args, **kwargs))

    def conj(self) -> Any:
        """Real numbers are their own conjugates."""
        return self

    conjugate = conj

    def trace(self, offset: Any = 0, axis1: Any = 0, axis2: Any = 1, dtype: Any = None, out: Any = None) -> Any:
        """Stays guarded."""
        return _guard(np.trace(plain(self), offset, axis1, axis2))

    def __float__(self) -> float:
        raise ComplexStepError("float(...) of an argument drops its derivative")

    def __int__(self) -> int:
        raise ComplexStepError("int(...) of an argument drops its derivative")

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:  # type: ignore[override]
        """Entry with the largest real part."""
        return _guard(_extreme(last=True)(self, axis, keepdims))

    def min(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:  # type: ignore[override]
        """Entry with the smallest real part."""
        return _guard(_extreme(last=False)(self, axis, keepdims))

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> Any:  # type: ignore[override]
        """Between two bounds, by the real part."""
        return _guard(_clip(self, min, max))


class _Steps(threading.local):
    """How many differentiated calls of users' functions are under way in this thread."""

    depth = 0


_steps = _Steps()


class _KeepingSteps(type):
    """Makes a category of warnings out of the thread that asks: the complex warning, where steps must be kept."""

    def __subclasscheck__(cls, category: type) -> bool:
        return _steps.depth > 0 and issubclass(category, np.exceptions.ComplexWarning)


class _DroppedStep(Warning, metaclass=_KeepingSteps):
    """Stands for ``ComplexWarning`` in threads that differentiate, and for nothing in the others."""


@contextmanager
def steps_kept() -> Iterator[None]:
    """Make it an error that a complex number is stored in an array of real ones: it would lose its derivative.

    For this thread alone. The filter that it needs is the same for all threads and is never taken away; what it
    matches depends on the thread.
    """
    if not warnings.filters or warnings.filters[0][2] is not _DroppedStep:
        warnings.filterwarnings("error", category=_DroppedStep)
    _steps.depth += 1
    try:
        yield
    finally:
        _steps.depth -= 1


def guarded(numbers: FloatArray) -> FloatArray:
    """Complex numbers that carry steps, guarded; real ones as they are."""
    return numbers.view(Guarded) if np.iscomplexobj(numbers) else numbers


def seed(value: npt.ArrayLike, direction: npt.ArrayLike) -> Guarded:
    """``value + i STEP direction``, guarded.

    Parameters
    ----------
    value, direction : array
        Of shapes that broadcast against each other.
    """
    raw = np.asarray(value, dtype=float) + 1j * STEP * np.asarray(direction, dtype=float)
    return np.asarray(raw).view(Guarded)


def derivative(result: Any) -> FloatArray:
    """The derivative that a result carries; zero for a real one."""
    raw = np.asarray(plain(result))
    return raw.imag / STEP if np.iscomplexobj(raw) else np.zeros(raw.shape)


def real_part(result: Any) -> FloatArray:
    """The value of a result."""
    return np.asarray(plain(result)).real.astype(float)
