"""Compiled kernels of multigrid set-ups: strong neighbours, block products, smoothed interpolation.

Matrices are ``start``, ``columns``, ``values`` by rows of blocks; values are flat, in float32 (each sum is taken in
float64). All but ``transposed`` work on the rows from ``begin`` to ``end`` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy as np
from numba import types

from femadj.kernels.compile import Kernel, compile_once, compiled, read, write

_PATTERN = (read("int64", 1), read("int32", 1))
_MATRIX = (*_PATTERN, read("float32", 1))
_ROWS = (types.int64, types.int64)

A = B = C = 1
"""Sizes of blocks, constants of each kernel."""


def _sized(*arguments: Any) -> Callable[[Callable[..., Any]], Callable[..., Kernel]]:
    """Decorator: from a body, a factory of kernels for sizes ``A``, ``B``, ``C`` of blocks."""

    def decorate(body: Callable[..., Any]) -> Callable[..., Kernel]:
        @cache
        def factory(*sizes: int) -> Kernel:
            name = "_".join([body.__name__, *map(str, sizes)])
            return compile_once(body, arguments, name, dict(zip("ABC", sizes, strict=False)), fast=True)

        return wraps(body)(factory)

    return decorate


@_sized(*_PATTERN, read("float64", 3), read("float64", 1), write("float32", 1), *_ROWS)
def scaled(start, columns, blocks, scale, values, begin, end):  # type: ignore[no-untyped-def]
    """Blocks ``A`` square times the factors of their rows and columns."""
    for i in range(begin, end):
        for k in range(start[i], start[i + 1]):
            j = np.int64(columns[k])
            for r in range(A):
                for c in range(A):
                    values[(k * A + r) * A + c] = blocks[k, r, c] * scale[i * A + r] * scale[j * A + c]


@_sized(*_PATTERN, read("float64", 3), write("uint8", 1), *_ROWS)
def alone(start, columns, blocks, into, begin, end):  # type: ignore[no-untyped-def]
    """Which unknowns have no entry other than the diagonal one."""
    for i in range(begin, end):
        for r in range(A):
            into[i * A + r] = 1
        for k in range(start[i], start[i + 1]):
            for r in range(A):
                for c in range(A):
                    if blocks[k, r, c] != 0.0 and (r != c or columns[k] != i):
                        into[i * A + r] = 0


@_sized(*_PATTERN, read("float32", 1), types.float64, write("float32", 1), *_ROWS)
def inverted(start, columns, values, least, inverse, begin, end):  # type: ignore[no-untyped-def]
    """Inverses of the diagonal blocks, by sweeps; zero for unknowns whose pivot is below ``least`` times its entry."""
    D = np.empty((A, A))
    for i in range(begin, end):
        for k in range(start[i], start[i + 1]):
            if columns[k] == i:
                for r in range(A):
                    for c in range(A):
                        D[r, c] = values[(k * A + r) * A + c]
        for p in range(A):
            pivot = D[p, p]
            entry = 0.0
            for k in range(start[i], start[i + 1]):
                if columns[k] == i:
                    entry = np.float64(values[(k * A + p) * A + p])
            if pivot > least * entry:
                for r in range(A):
                    if r != p:
                        ratio = D[r, p] / pivot
                        for c in range(A):
                            if c != p:
                                D[r, c] -= ratio * D[p, c]
                        D[r, p] = ratio
                for c in range(A):
                    if c != p:
                        D[p, c] /= pivot
                D[p, p] = -1.0 / pivot
            else:
                for c in range(A):
                    D[p, c] = 0.0
                    D[c, p] = 0.0
        for r in range(A):
            for c in range(A):
                inverse[(i * A + r) * A + c] = -0.5 * (D[r, c] + D[c, r])


@_sized(*_MATRIX, write("float64", 1), *_ROWS)
def norms(start, columns, values, norm, begin, end):  # type: ignore[no-untyped-def]
    """Sums of the squares of the entries of every block."""
    for k in range(start[begin], start[end]):
        total = 0.0
        for m in range(k * A * A, (k + 1) * A * A):
            total += np.float64(values[m]) * np.float64(values[m])
        norm[k] = total


@compiled(*_PATTERN, read("float64", 1), read("float64", 1), types.float64, write("int32", 1), write("int32", 1))
def strong(start, columns, norm, diagonal, least, strong_start, strong_columns):  # type: ignore[no-untyped-def]
    """Neighbours whose block is at least ``least`` of the diagonal blocks: a graph without loops.

    ``norm`` and ``diagonal`` are squared norms.
    """
    count = 0
    for i in range(start.shape[0] - 1):
        strong_start[i] = count
        for k in range(start[i], start[i + 1]):
            j = columns[k]
            if j != i and norm[k] > 0.0 and norm[k] >= least * least * np.sqrt(diagonal[i] * diagonal[j]):
                strong_columns[count] = j
                count += 1
    strong_start[start.shape[0] - 1] = count


@compiled(*_PATTERN, *_PATTERN, types.int64, write("int64", 1), *_ROWS)
def product_lengths(  # type: ignore[no-untyped-def]
    start, columns, other_start, other_columns, n_columns, lengths, begin, end
):
    """Lengths of the rows of a product."""
    mark = np.full(n_columns, -1, np.int32)
    for i in range(begin, end):
        count = 0
        for k in range(start[i], start[i + 1]):
            for p in range(other_start[columns[k]], other_start[columns[k] + 1]):
                j = other_columns[p]
                if mark[j] != i:
                    mark[j] = i
                    count += 1
        lengths[i] = count


@_sized(*_MATRIX, *_MATRIX, types.int64, read("int64", 1), write("int32", 1), write("float32", 1), *_ROWS)
def product(  # type: ignore[no-untyped-def]
    start,
    columns,
    values,
    other_start,
    other_columns,
    other_values,
    n_columns,
    into_start,
    into_columns,
    into,
    begin,
    end,
):
    """Rows of the product of a matrix of blocks ``A`` times ``B`` and one of blocks ``B`` times ``C``."""
    mark = np.full(n_columns, -1, np.int64)
    longest = 0
    for i in range(begin, end):
        longest = max(longest, into_start[i + 1] - into_start[i])
    total = np.empty((longest, A * C))
    for i in range(begin, end):
        first = into_start[i]
        count = 0
        for k in range(start[i], start[i + 1]):
            row = columns[k]
            for p in range(other_start[row], other_start[row + 1]):
                j = other_columns[p]
                if mark[j] < first:
                    mark[j] = first + count
                    into_columns[first + count] = j
                    for m in range(A * C):
                        total[count, m] = 0.0
                    count += 1
                at = mark[j] - first
                for r in range(A):
                    for s in range(B):
                        a = np.float64(values[(k * A + r) * B + s])
                        for c in range(C):
                            total[at, r * C + c] += a * np.float64(other_values[(p * B + s) * C + c])
        for q in range(count):
            for m in range(A * C):
                into[(first + q) * A * C + m] = total[q, m]


@_sized(*_PATTERN, write("float32", 1), read("float32", 1), types.float64, read("int32", 1), read("float64", 3), *_ROWS)
def smoothed(  # type: ignore[no-untyped-def]
    start, columns, values, inverse, weight, aggregate, tentative, begin, end
):
    """In place of the product ``A T``: ``weight D^-1 A T - T``, less than the smoothed interpolation by its sign.

    ``tentative`` (n, A, B) is the one block in each row of ``T``, in column ``aggregate`` (-1 for none).
    """
    row = np.empty(A * B)
    for i in range(begin, end):
        for k in range(start[i], start[i + 1]):
            own = columns[k] == aggregate[i]
            for r in range(A):
                for c in range(B):
                    t = 0.0
                    for s in range(A):
                        t += np.float64(inverse[(i * A + r) * A + s]) * np.float64(values[(k * A + s) * B + c])
                    row[r * B + c] = weight * t - (tentative[i, r, c] if own else 0.0)
            for m in range(A * B):
                values[k * A * B + m] = row[m]


@_sized(*_MATRIX, write("int64", 1), write("int32", 1), write("float32", 1))
def transposed(  # type: ignore[no-untyped-def]
    start, columns, values, into_start, into_columns, into
):
    """The transposed matrix, of blocks ``B`` times ``A``; ``into_start`` must be zero."""
    for k in range(start[start.shape[0] - 1]):
        into_start[columns[k] + 1] += 1
    for j in range(into_start.shape[0] - 1):
        into_start[j + 1] += into_start[j]
    for i in range(start.shape[0] - 1):
        for k in range(start[i], start[i + 1]):
            at = into_start[columns[k]]
            into_start[columns[k]] = at + 1
            into_columns[at] = i
            for r in range(A):
                for c in range(B):
                    into[(at * B + c) * A + r] = values[(k * A + r) * B + c]
    for j in range(into_start.shape[0] - 1, 0, -1):
        into_start[j] = into_start[j - 1]
    into_start[0] = 0
