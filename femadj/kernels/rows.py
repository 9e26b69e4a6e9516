"""Compiled products of sparse matrices by rows of blocks, both triangles, and the vector operations beside them.

Every row sums its entries in the order they are stored in: the same digits for any number of threads. The last two
arguments of products are the rows that a call works on.
"""

from __future__ import annotations

import numpy as np
from numba import types

from femadj.kernels.compile import compiled, read, write
from femadj.kernels.lanes import added, blocked, nothing, put

_RANGE = (types.int64, types.int64)


@compiled(read("int64", 1), read("int32", 1), write("int64", 1), write("int32", 1), write("int32", 1))
def whole(start, columns, count, full, position):  # type: ignore[no-untyped-def]
    """Both triangles of an upper one: columns of each row, ascending, and where an entry lies in its upper row.

    ``count`` (n,) are the first places of the rows in ``full`` and ``position``; on return, those behind their last.
    """
    for i in range(start.shape[0] - 1):
        for k in range(start[i], start[i + 1]):
            j = columns[k]
            full[count[i]] = j
            position[count[i]] = k - start[i]
            count[i] += 1
            if j != i:
                full[count[j]] = i
                position[count[j]] = k - start[i]
                count[j] += 1


@compiled(
    read("int64", 1),
    read("int32", 1),
    read("int32", 1),
    read("int64", 1),
    read("float64", 1),
    write("float64", 3),
    *_RANGE,
)
def spread(start, columns, position, indptr, values, blocks, begin, end):  # type: ignore[no-untyped-def]
    """Blocks (nnz, b, b) of both triangles from the entries of the upper one, whose rows start at ``indptr``."""
    b = blocks.shape[1]
    for i in range(begin, end):
        for k in range(start[i], start[i + 1]):
            j = np.int64(columns[k])
            owner = min(i, j)
            m = position[k]
            for c in range(b):
                row = owner * b + c
                first = indptr[row] - c
                for d in range(c if m == 0 else 0, b):
                    value = values[first + m * b + d]
                    if j < i:
                        blocks[k, d, c] = value
                    else:
                        blocks[k, c, d] = value
                        if m == 0:
                            blocks[k, d, c] = value


@compiled(read("int64", 1), read("int64", 1), read("float64", 1), write("float64", 3), *_RANGE)
def gather(start, indptr, values, blocks, begin, end):  # type: ignore[no-untyped-def]
    """Blocks (nnz, b, b) from the entries of both triangles, whose rows start at ``indptr``."""
    b = blocks.shape[1]
    for i in range(begin, end):
        for k in range(start[i], start[i + 1]):
            for c in range(b):
                first = indptr[i * b + c] + (k - start[i]) * b
                for d in range(b):
                    blocks[k, c, d] = values[first + d]


@blocked(
    read("int64", 1),
    read("int32", 1),
    read("float64", 1),
    read("float64", 1),
    types.int64,
    types.int64,
    write("float64", 1),
    *_RANGE,
    wide=True,
)
def times(start, columns, blocks, x, stride, first, y, begin, end):  # type: ignore[no-untyped-def]
    """``Y = A X`` for columns from ``first`` on, of ``stride`` in all; each has the digits that it has alone."""
    for i in range(begin, end):
        lanes = nothing()
        for k in range(start[i], start[i + 1]):
            lanes = added(blocks, k, x, np.int64(columns[k]), stride, first, lanes)
        put(y, i, stride, first, lanes)


@compiled(read("int64", 1), read("int32", 1), read("float64", 3), read("float64", 2), write("float64", 2))
def transposed_times(start, columns, blocks, x, y):  # type: ignore[no-untyped-def]
    """Add ``A^T X`` to ``Y``."""
    b = blocks.shape[1]
    width = x.shape[1]
    for i in range(start.shape[0] - 1):
        for k in range(start[i], start[i + 1]):
            j = b * np.int64(columns[k])
            for c in range(b):
                for d in range(b):
                    value = blocks[k, c, d]
                    for m in range(width):
                        y[j + d, m] += value * x[i * b + c, m]


CHUNK = 4096
"""Rows whose products are summed on their own: sums are the same for any number of threads."""


@compiled(read("float64", 2), read("float64", 2), write("float64", 2), *_RANGE, fast=True)
def inner(x, y, sums, begin, end):  # type: ignore[no-untyped-def]
    """Inner products of the columns of two blocks over each chunk of rows, (n_chunks, k)."""
    width = x.shape[1]
    for chunk in range(begin, end):
        last = min((chunk + 1) * CHUNK, x.shape[0])
        if width == 1:
            total = 0.0
            for i in range(chunk * CHUNK, last):
                total += x[i, 0] * y[i, 0]
            sums[chunk, 0] = total
        else:
            for m in range(width):
                sums[chunk, m] = 0.0
            for i in range(chunk * CHUNK, last):
                for m in range(width):
                    sums[chunk, m] += x[i, m] * y[i, m]


@compiled(
    write("float64", 2), write("float64", 2), read("float64", 2), read("float64", 2), read("float64", 1), *_RANGE,
    fast=True,
)  # fmt: skip
def advance(x, r, p, q, length, begin, end):  # type: ignore[no-untyped-def]
    """``x += length p`` and ``r -= length q``, column by column."""
    if x.shape[1] == 1:
        step = length[0]
        for i in range(begin, end):
            x[i, 0] += step * p[i, 0]
            r[i, 0] -= step * q[i, 0]
    else:
        for i in range(begin, end):
            for m in range(x.shape[1]):
                x[i, m] += length[m] * p[i, m]
                r[i, m] -= length[m] * q[i, m]


@compiled(write("float64", 2), read("float64", 2), read("float64", 1), *_RANGE, fast=True)
def redirect(p, z, weight, begin, end):  # type: ignore[no-untyped-def]
    """``p = z + weight p``, column by column."""
    if p.shape[1] == 1:
        factor = weight[0]
        for i in range(begin, end):
            p[i, 0] = z[i, 0] + factor * p[i, 0]
    else:
        for i in range(begin, end):
            for m in range(p.shape[1]):
                p[i, m] = z[i, m] + weight[m] * p[i, m]


@compiled(read("float64", 2), read("float64", 2), write("float64", 2))
def gram(x, y, into):  # type: ignore[no-untyped-def]
    """Inner products of all columns of two blocks."""
    into[:] = 0.0
    for i in range(x.shape[0]):
        for a in range(x.shape[1]):
            for b in range(y.shape[1]):
                into[a, b] += x[i, a] * y[i, b]
