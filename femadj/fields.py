"""Prescribed data as numbers, arrays or functions of position, with their exact derivative by position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.errors import FemadjError

FloatArray = npt.NDArray[np.float64]
FieldLike = float | npt.ArrayLike | Callable[[Any], Any]
"""A number, an array of components, or a function of ``x`` with shape ``(dim, n)`` that returns components
``(n_components, n)`` (or ``(n,)`` for a scalar). Functions must be analytic in ``x``: they are differentiated by
complex step, J. N. Lyness and C. B. Moler, SIAM J. Numer. Anal. 4 (1967)."""

STEP = 1e-30
"""Complex step: no subtraction takes place, so it need not be moderate."""


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


def evaluate(
    function: Callable[[Any], Any], x: FloatArray, n_components: int, what: str, error: type[FemadjError]
) -> tuple[FloatArray, FloatArray]:
    """Evaluate a function of position and its derivative.

    Parameters
    ----------
    function : callable of ``(dim, n)``
    x : (n, dim)
    n_components : int
    what : str
        Name for messages.
    error : type
        Error to raise: wrong shape, not finite, not analytic (the complex step disagrees with a difference).

    Returns
    -------
    values : (n, n_components)
    derivatives : (n, n_components, dim)
    """
    n, dim = x.shape
    xt = np.ascontiguousarray(x.T)
    values = _call(function, xt, n_components, what, error).real.copy()
    if not np.isfinite(values).all():
        raise error(f"{what} is NaN or infinite at x = {x[~np.isfinite(values).all(axis=1)][0].tolist()}")
    derivatives = np.empty((n, n_components, dim))
    size = float(np.abs(xt).max(initial=0.0)) + float(np.ptp(xt, axis=1).max(initial=0.0)) + 1e-300
    h = 6e-6 * size
    for j in range(dim):
        z = xt.astype(complex)
        z[j] += 1j * STEP
        derivatives[:, :, j] = _call(function, z, n_components, what, error).imag / STEP
        step = np.zeros_like(xt)
        step[j] = h
        after = _call(function, xt + step, n_components, what, error).real
        before = _call(function, xt - step, n_components, what, error).real
        exact = derivatives[:, :, j]
        # next to a kink one of the three differences still agrees with the derivative on the point's own side
        differences = np.stack([(after - before) / 2, after - values, values - before]) / h
        wrong = np.abs(differences - exact).max(axis=2).min(axis=0)
        scale = np.abs(exact).max(initial=0.0) + np.abs(values).max(initial=0.0) / size
        bad = np.flatnonzero(~(wrong <= 1e-3 * scale))
        if len(bad):
            raise error(
                f"{what}: the complex-step derivative by x[{j}] disagrees with differences, first at x = "
                f"{x[bad[0]].tolist()}. Write the function with analytic NumPy operations of x (no abs, norm, "
                "sign, real, casts to float)"
            )
    return values, derivatives


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
    if n_components == 1 and result.shape in {(n,), ()}:
        result = np.broadcast_to(result, (n,))[None]
    elif result.shape == (n_components,) != (n,) or result.shape == (n_components, 1):
        result = np.broadcast_to(result.reshape(n_components, 1), (n_components, n))
    if result.shape != (n_components, n):
        raise error(f"{what}: the function of x must return shape {(n_components, n)}, not {result.shape}")
    return result.T
