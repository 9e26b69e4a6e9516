"""Compiled kernels of a multigrid cycle on block sparse matrices in float32, written with :mod:`femadj.kernels.lanes`.

Each works on rows ``begin`` to ``end`` and writes these alone, so that any division of the rows among threads gives the
same bits. ``start``, ``columns``, ``values`` are a matrix by rows of blocks; vectors are flat.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy as np
from numba import types

from femadj.kernels.compile import Kernel, compile_once, compiled, read, write
from femadj.kernels.lanes import combined, lanes_of, load, product, solved, store

_MATRIX = (read("int64", 1), read("int32", 1), read("float32", 1))
_IN, _OUT = read("float32", 1), write("float32", 1)
_ROWS = (types.int64, types.int64)


def _blocked(*arguments: Any) -> Callable[[Callable[..., Any]], Callable[[int, int, int], Kernel]]:
    """Decorator: from a body, a factory of kernels for blocks of rows times columns, and columns at once."""

    def decorate(body: Callable[..., Any]) -> Callable[[int, int, int], Kernel]:
        @cache
        def factory(rows: int, columns: int, width: int) -> Kernel:
            name = f"{body.__name__}_{rows}_{columns}_{width}"
            return compile_once(body, arguments, name, lanes_of(rows, columns, width))

        return wraps(body)(factory)

    return decorate


@_blocked(*_MATRIX, _IN, _IN, _OUT, *_ROWS)
def subtract(start, columns, values, x, b, into, begin, end):  # type: ignore[no-untyped-def]
    """``into = b - A x``; ``b`` may be ``into``."""
    for i in range(begin, end):
        lanes = load(b, i)
        for k in range(start[i], start[i + 1]):
            lanes = product(values, k, x, np.int64(columns[k]), lanes)
        store(into, i, lanes)


@_blocked(_IN, types.float32, _IN, _OUT, *_ROWS)
def divide(inverse, scale, b, into, begin, end):  # type: ignore[no-untyped-def]
    """``into = scale D^-1 b``."""
    for i in range(begin, end):
        lanes = solved(inverse, i, load(b, i))
        store(into, i, combined(scale, lanes, np.float32(0.0), lanes))


@_blocked(*_MATRIX, _IN, types.float32, types.float32, _IN, _IN, _IN, _OUT, _OUT, *_ROWS)
def smooth(  # type: ignore[no-untyped-def]
    start, columns, values, inverse, alpha, beta, x, b, step, new_step, new_x, begin, end
):
    """One step of a Chebyshev iteration: ``new_step = alpha step + beta D^-1 (b - A x)``, ``new_x = x + new_step``.

    ``new_step`` may be ``step``, ``new_x`` must not be ``x``.
    """
    one = np.float32(1.0)
    for i in range(begin, end):
        lanes = load(b, i)
        for k in range(start[i], start[i + 1]):
            lanes = product(values, k, x, np.int64(columns[k]), lanes)
        lanes = combined(alpha, load(step, i), beta, solved(inverse, i, lanes))
        store(new_step, i, lanes)
        store(new_x, i, combined(one, load(x, i), one, lanes))
