"""Compilation of kernels for fixed argument types, when they are first used.

Inputs are read-only arrays (frozen ones fit, and so do writable ones), outputs writable, all C-contiguous: each kernel
is compiled once and not for every combination of flags that an argument may have.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from numba import njit, types


def read(dtype: str, ndim: int) -> Any:
    """Type of an input array."""
    return types.Array(getattr(types, dtype), ndim, "C", readonly=True)


def write(dtype: str, ndim: int) -> Any:
    """Type of an array that the kernel writes."""
    return types.Array(getattr(types, dtype), ndim, "C")


def compiled(*arguments: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: compile a function for these argument types when it is first called, not when it is imported."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @cache
        def kernel() -> Callable[..., Any]:
            result: Callable[..., Any] = njit(arguments, cache=True, nogil=True, error_model="numpy")(function)
            return result

        @wraps(function)
        def call(*values: Any) -> Any:
            return kernel()(*values)

        return call

    return decorate
