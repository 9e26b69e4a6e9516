"""Compiled kernels of a multigrid cycle on block sparse matrices in float32, written with :mod:`femadj.kernels.lanes`.

Each works on rows ``begin`` to ``end`` and writes these alone, so that any division of the rows among threads gives the
same bits. ``start``, ``columns``, ``values`` are a matrix by rows of blocks; vectors are flat.
"""

from __future__ import annotations

import numpy as np
from numba import types

from femadj.kernels.compile import compiled, read, write
from femadj.kernels.lanes import blocked, combined, load, product, solved, store

_MATRIX = (read("int64", 1), read("int32", 1), read("float32", 1))
_IN, _OUT = read("float32", 1), write("float32", 1)
_ROWS = (types.int64, types.int64)
_SCALES = (read("float64", 1), read("float64", 1))


@blocked(*_MATRIX, _IN, _IN, _OUT, *_ROWS)
def subtract(start, columns, values, x, b, into, begin, end):  # type: ignore[no-untyped-def]
    """``into = b - A x``; ``b`` may be ``into``."""
    for i in range(begin, end):
        lanes = load(b, i)
        for k in range(start[i], start[i + 1]):
            lanes = product(values, k, x, np.int64(columns[k]), lanes)
        store(into, i, lanes)


@blocked(_IN, types.float32, _IN, _OUT, *_ROWS)
def divide(inverse, scale, b, into, begin, end):  # type: ignore[no-untyped-def]
    """``into = scale D^-1 b``."""
    for i in range(begin, end):
        lanes = solved(inverse, i, load(b, i))
        store(into, i, combined(scale, lanes, np.float32(0.0), lanes))


@blocked(*_MATRIX, _IN, types.float32, types.float32, _IN, _IN, _IN, _OUT, _OUT, *_ROWS)
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


@compiled(read("float64", 2), read("float64", 1), write("float64", 1))
def largest(r, scale, into):  # type: ignore[no-untyped-def]
    """Largest entry of every column of ``scale r``, at least what ``into`` holds; NaN counts as none."""
    for i in range(r.shape[0]):
        for m in range(r.shape[1]):
            into[m] = max(into[m], abs(scale[i] * r[i, m]))


@compiled(read("float64", 2), *_SCALES, types.int64, types.int64, write("float32", 1), *_ROWS)
def spread(r, scale, factor, first, width, into, begin, end):  # type: ignore[no-untyped-def]
    """Columns of ``scale r factor`` from ``first`` on, in float32; zero where there are fewer than ``width``."""
    k = min(width, r.shape[1] - first)
    for i in range(begin, end):
        for m in range(k):
            into[i * width + m] = r[i, first + m] * (scale[i] * factor[first + m])
        for m in range(k, width):
            into[i * width + m] = 0.0


@compiled(read("float32", 1), *_SCALES, types.int64, types.int64, write("float64", 2), *_ROWS)
def gather(x, scale, factor, first, width, into, begin, end):  # type: ignore[no-untyped-def]
    """Columns ``scale x / factor`` of the result from ``first`` on."""
    k = min(width, into.shape[1] - first)
    for i in range(begin, end):
        for m in range(k):
            into[i, first + m] = scale[i] * np.float64(x[i * width + m]) / factor[first + m]
