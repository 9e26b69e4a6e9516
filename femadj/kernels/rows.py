"""Compiled products of sparse matrices by rows of blocks, both triangles, and the vector operations beside them.

Every row sums its entries in the order they are stored in: the same digits for any number of threads. The last two
arguments of products are the rows that a call works on.
"""

from __future__ import annotations

import numpy as np
from numba import types

from femadj.kernels.compile import compiled, read, write

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


@compiled(read("int64", 1), read("int32", 1), read("float64", 3), read("float64", 1), write("float64", 1), *_RANGE)
def times_vector(start, columns, blocks, x, y, begin, end):  # type: ignore[no-untyped-def]
    """``y = A x`` for one vector."""
    b = blocks.shape[1]
    for i in range(begin, end):
        if b == 1:
            first = 0.0
            for k in range(start[i], start[i + 1]):
                first += blocks[k, 0, 0] * x[columns[k]]
            y[i] = first
        elif b == 2:
            first = second = 0.0
            for k in range(start[i], start[i + 1]):
                j = 2 * np.int64(columns[k])
                first += blocks[k, 0, 0] * x[j] + blocks[k, 0, 1] * x[j + 1]
                second += blocks[k, 1, 0] * x[j] + blocks[k, 1, 1] * x[j + 1]
            y[2 * i] = first
            y[2 * i + 1] = second
        elif b == 3:
            first = second = third = 0.0
            for k in range(start[i], start[i + 1]):
                j = 3 * np.int64(columns[k])
                u = x[j]
                v = x[j + 1]
                w = x[j + 2]
                first += blocks[k, 0, 0] * u + blocks[k, 0, 1] * v + blocks[k, 0, 2] * w
                second += blocks[k, 1, 0] * u + blocks[k, 1, 1] * v + blocks[k, 1, 2] * w
                third += blocks[k, 2, 0] * u + blocks[k, 2, 1] * v + blocks[k, 2, 2] * w
            y[3 * i] = first
            y[3 * i + 1] = second
            y[3 * i + 2] = third
        else:
            for c in range(b):
                total = 0.0
                for k in range(start[i], start[i + 1]):
                    j = b * np.int64(columns[k])
                    for d in range(b):
                        total += blocks[k, c, d] * x[j + d]
                y[i * b + c] = total


@compiled(read("int64", 1), read("int32", 1), read("float64", 3), read("float64", 2), write("float64", 2), *_RANGE)
def times_four(start, columns, blocks, x, y, begin, end):  # type: ignore[no-untyped-def]
    """``Y = A X`` for four vectors, one a column; each has the digits that it has alone."""
    b = blocks.shape[1]
    for i in range(begin, end):
        for c in range(b):
            s0 = s1 = s2 = s3 = 0.0
            for k in range(start[i], start[i + 1]):
                j = b * np.int64(columns[k])
                if b == 3:
                    u, v, w = blocks[k, c, 0], blocks[k, c, 1], blocks[k, c, 2]
                    s0 += u * x[j, 0] + v * x[j + 1, 0] + w * x[j + 2, 0]
                    s1 += u * x[j, 1] + v * x[j + 1, 1] + w * x[j + 2, 1]
                    s2 += u * x[j, 2] + v * x[j + 1, 2] + w * x[j + 2, 2]
                    s3 += u * x[j, 3] + v * x[j + 1, 3] + w * x[j + 2, 3]
                elif b == 2:
                    u, v = blocks[k, c, 0], blocks[k, c, 1]
                    s0 += u * x[j, 0] + v * x[j + 1, 0]
                    s1 += u * x[j, 1] + v * x[j + 1, 1]
                    s2 += u * x[j, 2] + v * x[j + 1, 2]
                    s3 += u * x[j, 3] + v * x[j + 1, 3]
                else:
                    for d in range(b):
                        u = blocks[k, c, d]
                        s0 += u * x[j + d, 0]
                        s1 += u * x[j + d, 1]
                        s2 += u * x[j + d, 2]
                        s3 += u * x[j + d, 3]
            y[i * b + c, 0] = s0
            y[i * b + c, 1] = s1
            y[i * b + c, 2] = s2
            y[i * b + c, 3] = s3


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


@compiled(read("float64", 2), read("float64", 2), write("float64", 1))
def inner(x, y, totals):  # type: ignore[no-untyped-def]
    """Inner products of the columns of two blocks."""
    width = x.shape[1]
    for m in range(width):
        totals[m] = 0.0
    for i in range(x.shape[0]):
        for m in range(width):
            totals[m] += x[i, m] * y[i, m]


@compiled(write("float64", 2), write("float64", 2), read("float64", 2), read("float64", 2), read("float64", 1))
def advance(x, r, p, q, length):  # type: ignore[no-untyped-def]
    """``x += length p`` and ``r -= length q``, column by column."""
    for i in range(x.shape[0]):
        for m in range(x.shape[1]):
            x[i, m] += length[m] * p[i, m]
            r[i, m] -= length[m] * q[i, m]


@compiled(write("float64", 2), read("float64", 2), read("float64", 1))
def redirect(p, z, weight):  # type: ignore[no-untyped-def]
    """``p = z + weight p``, column by column."""
    for i in range(p.shape[0]):
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
