"""Prescribed data as numbers, arrays or functions of position, with their exact derivative by position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.base.complex_step import STEP
from femadj.errors import FemadjError

FieldLike = float | npt.ArrayLike | Callable[[Any], Any]
"""A number, an array of components, or a function of ``x`` with shape ``(dim, n)`` that returns components
``(n_components, n)`` (or ``(n,)`` for a scalar). Functions must be analytic in ``x``: they are differentiated by
complex step, J. N. Lyness and C. B. Moler, SIAM J. Numer. Anal. 4 (1967)."""


def constant_components(value: Any, n_components: int, what: str, error: type[FemadjError]) -> FloatArray:
    """Validate constant data; a single number stands for a scalar field only."""
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise error(f"{what} must be a number, {n_components} components or a function of x, not {value!r}") from None
    if array.ndim == 0 and n_components == 1:
        array = array[None]
    if array.shape != (n_components,):
        raise error(f"{what} must have {n_components} component(s), not shape {array.shape}")
    if not np.isfinite(array).all():
        raise error(f"{what} must be finite, not {value!r}")
    return array


def values_at(
    function: Callable[[Any], Any], x: FloatArray, n_components: int, what: str, error: type[FemadjError]
) -> FloatArray:
    """Evaluate a function of position, one call.

    Parameters
    ----------
    function : callable of ``(dim, n)``
    x : (n, dim)
    n_components : int
    what : str
        Name for messages.
    error : type
        Error to raise: wrong shape, not finite.

    Returns
    -------
    values : (n, n_components)
    """
    values = _call(function, np.ascontiguousarray(x.T), n_components, what, error).real.copy()
    if not np.isfinite(values).all():
        raise error(f"{what} is NaN or infinite at x = {x[~np.isfinite(values).all(axis=1)][0].tolist()}")
    return values


def slopes_at(
    function: Callable[[Any], Any], x: FloatArray, values: FloatArray, what: str, error: type[FemadjError]
) -> FloatArray:
    """Derivative of a function of position, where its values are known, ``(n, n_components, dim)``.

    ``error`` is raised where it is not analytic: the complex step disagrees with differences.
    """
    n, dim = x.shape
    xt = np.ascontiguousarray(x.T)
    derivatives = np.empty((n, values.shape[1], dim))
    size = float(np.ptp(xt, axis=1).max(initial=0.0)) or float(np.abs(xt).max(initial=0.0)) or 1.0
    for j in range(dim):
        z = xt.astype(complex)
        z[j] += 1j * STEP
        derivatives[:, :, j] = _call(function, z, values.shape[1], what, error).imag / STEP
    _require_analytic(function, xt, values, derivatives, size, what, error)
    return derivatives


def evaluate(
    function: Callable[[Any], Any], x: FloatArray, n_components: int, what: str, error: type[FemadjError]
) -> tuple[FloatArray, FloatArray]:
    """Values and derivatives of a function of position; see ``values_at`` and ``slopes_at``."""
    values = values_at(function, x, n_components, what, error)
    return values, slopes_at(function, x, values, what, error)


def _require_analytic(
    function: Callable[[Any], Any],
    xt: FloatArray,
    values: FloatArray,
    derivatives: FloatArray,
    size: float,
    what: str,
    error: type[FemadjError],
) -> None:
    """Compare the complex-step derivatives with differences, point by point and component by component.

    A central difference of step h errs by ``h^2/6`` times the third derivative, ``Im f(x + ih) / h`` by as much with
    the other sign: their mean is good to fourth order. A step in which the function bends or has a kink proves
    nothing; shorter steps, and differences to one side, are then asked as well.
    """
    magnitude = np.abs(values).max(initial=0.0)

    def at(step: complex, j: int) -> npt.NDArray[np.complex128]:
        z = xt.astype(type(step))
        z[j] += step
        return _call(function, z, values.shape[1], what, error)

    for j in range(len(xt)):
        exact = derivatives[:, :, j]
        agrees = np.zeros(values.shape, dtype=bool)
        for fraction in (1e-3, 1e-4, 1e-5):
            h = fraction * size
            after, before, aside = at(h, j).real, at(-h, j).real, at(1j * h, j).imag
            rounding = 1e-14 * magnitude / h
            mean = ((after - before) / 2 + aside) / (2 * h)
            agrees |= np.abs(mean - exact) <= 1e-7 * np.abs(exact) + rounding
            for one_sided in ((after - values) / h, (values - before) / h):
                agrees |= np.abs(one_sided - exact) <= 10 * fraction * np.abs(exact) + rounding
            if agrees.all():
                break
        else:
            point = int(np.flatnonzero(~agrees.all(axis=1))[0])
            raise error(
                f"{what}: the complex-step derivative by x[{j}] disagrees with differences, first at x = "
                f"{xt[:, point].tolist()}. Write the function with analytic NumPy operations of x (no abs, norm, "
                "sign, real, casts to float)"
            )


def _call(
    function: Callable[[Any], Any], x: npt.NDArray[Any], n_components: int, what: str, error: type[FemadjError]
) -> npt.NDArray[np.complex128]:
    n = x.shape[1]
    try:
        raw = function(x)
        parts = [np.asarray(r) for r in raw] if isinstance(raw, (list, tuple)) else np.asarray(raw)
        if isinstance(parts, list):
            parts = np.array([np.broadcast_to(p, (n,)) for p in parts])
        result = np.asarray(parts, dtype=complex)
    except (TypeError, ValueError, ArithmeticError, IndexError) as cause:
        raise error(f"{what}: the function of x failed on an array of shape {x.shape} ({x.dtype}): {cause}") from cause
    if n_components == 1 and result.shape in {(n,), (1,), ()}:
        result = np.broadcast_to(result, (n,))[None]
    elif result.shape == (n_components, 1) or (n_components > 1 and result.shape == (n_components,)):
        result = np.broadcast_to(result.reshape(n_components, 1), (n_components, n))
    if result.shape != (n_components, n):
        raise error(f"{what}: the function of x must return shape {(n_components, n)}, not {result.shape}")
    return result.T
