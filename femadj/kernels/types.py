"""Array types of kernel signatures: inputs are read-only (frozen arrays fit), outputs writable; all C-contiguous.

Explicit signatures compile each kernel once, when it is made, rather than whenever an argument type is met first.
"""

from __future__ import annotations

from typing import Any

from numba import types


def read(dtype: str, ndim: int) -> Any:
    """Type of an input array."""
    return types.Array(getattr(types, dtype), ndim, "C", readonly=True)


def write(dtype: str, ndim: int) -> Any:
    """Type of an array that the kernel writes."""
    return types.Array(getattr(types, dtype), ndim, "C")
