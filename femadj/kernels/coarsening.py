"""Compiled kernels of multigrid set-ups: aggregates, block products, smoothed interpolation.

Matrices are ``start``, ``columns``, ``values`` by rows of blocks; values are flat, in float32 (each sum is taken in
float64). Those with ``begin`` and ``end`` work on the rows between alone.
"""

from __future__ import annotations

import numpy as np
from numba import types

from femadj.kernels.compile import compiled, read, write
from femadj.kernels.lanes import blocked, load, product, store

_PATTERN = (read("int64", 1), read("int32", 1))
_MATRIX = (*_PATTERN, read("float32", 1))
_ROWS = (types.int64, types.int64)


@compiled(types.int64, *_PATTERN, read("float64", 3), read("float64", 1), write("float32", 1), *_ROWS, fast=True)
def scaled(size, start, columns, blocks, scale, values, begin, end):  # type: ignore[no-untyped-def]
    """Blocks ``size`` square times the factors of their rows and columns."""
    for i in range(begin, end):
        for k in range(start[i], start[i + 1]):
            j = np.int64(columns[k])
            for r in range(size):
                for c in range(size):
                    values[(k * size + r) * size + c] = blocks[k, r, c] * scale[i * size + r] * scale[j * size + c]


@compiled(types.int64, *_PATTERN, read("float64", 3), write("uint8", 1), *_ROWS, fast=True)
def alone(size, start, columns, blocks, into, begin, end):  # type: ignore[no-untyped-def]
    """Which unknowns have no entry other than the diagonal one."""
    for i in range(begin, end):
        for r in range(size):
            into[i * size + r] = 1
        for k in range(start[i], start[i + 1]):
            for r in range(size):
                for c in range(size):
                    if blocks[k, r, c] != 0.0 and (r != c or columns[k] != i):
                        into[i * size + r] = 0


@compiled(types.int64, *_PATTERN, read("float32", 1), types.float64, write("float32", 1), *_ROWS, fast=True)
def inverted(size, start, columns, values, least, inverse, begin, end):  # type: ignore[no-untyped-def]
    """Inverses of the diagonal blocks, by sweeps; zero for unknowns whose pivot is below ``least`` times its entry."""
    D = np.empty((size, size))
    for i in range(begin, end):
        for k in range(start[i], start[i + 1]):
            if columns[k] == i:
                for r in range(size):
                    for c in range(size):
                        D[r, c] = values[(k * size + r) * size + c]
        for p in range(size):
            pivot = D[p, p]
            entry = 0.0
            for k in range(start[i], start[i + 1]):
                if columns[k] == i:
                    entry = np.float64(values[(k * size + p) * size + p])
            if pivot > least * entry:
                for r in range(size):
                    if r != p:
                        ratio = D[r, p] / pivot
                        for c in range(size):
                            if c != p:
                                D[r, c] -= ratio * D[p, c]
                        D[r, p] = ratio
                for c in range(size):
                    if c != p:
                        D[p, c] /= pivot
                D[p, p] = -1.0 / pivot
            else:
                for c in range(size):
                    D[p, c] = 0.0
                    D[c, p] = 0.0
        for r in range(size):
            for c in range(size):
                inverse[(i * size + r) * size + c] = -0.5 * (D[r, c] + D[c, r])


@compiled(types.int64, *_MATRIX, write("float64", 1), *_ROWS, fast=True)
def norms(size, start, columns, values, norm, begin, end):  # type: ignore[no-untyped-def]
    """Sums of the squares of the entries of every block."""
    for k in range(start[begin], start[end]):
        total = 0.0
        for m in range(k * size * size, (k + 1) * size * size):
            total += np.float64(values[m]) * np.float64(values[m])
        norm[k] = total


@compiled(*_PATTERN, write("float64", 1), read("float64", 1), types.float64)
def weaken(start, columns, norm, diagonal, least):  # type: ignore[no-untyped-def]
    """Set the squared norms to zero of blocks that are smaller than ``least`` of the diagonal ones, and of these."""
    for i in range(start.shape[0] - 1):
        for k in range(start[i], start[i + 1]):
            j = columns[k]
            if j == i or norm[k] < least * least * np.sqrt(diagonal[i] * diagonal[j]):
                norm[k] = 0.0


@compiled(*_PATTERN, read("float64", 1), write("int32", 1))
def aggregate(start, columns, coupling, number):  # type: ignore[no-untyped-def]
    """Number the aggregates of nodes with couplings that are not zero; -1 for nodes without any; returns how many.

    Vanek, Mandel and Brezina (1996), algorithm 5.1: whole neighbourhoods first, then nodes between them join the one
    that they are coupled to most, then what is left.
    """
    n = start.shape[0] - 1
    count = 0
    for i in range(n):
        number[i] = -1
    for i in range(n):
        free = number[i] == -1
        some = False
        for k in range(start[i], start[i + 1]):
            if coupling[k] > 0.0:
                some = True
                free = free and number[columns[k]] == -1
        if free and some:
            number[i] = count
            for k in range(start[i], start[i + 1]):
                if coupling[k] > 0.0:
                    number[columns[k]] = count
            count += 1
    for i in range(n):
        if number[i] == -1:
            most = 0.0
            for k in range(start[i], start[i + 1]):
                other = number[columns[k]]
                if coupling[k] > most and other >= 0:
                    most = coupling[k]
                    number[i] = -2 - other
    for i in range(n):
        if number[i] < -1:
            number[i] = -2 - number[i]
    for i in range(n):
        if number[i] == -1:
            for k in range(start[i], start[i + 1]):
                if coupling[k] > 0.0 and number[columns[k]] in (-1, count):
                    number[i] = count
                    number[columns[k]] = count
            if number[i] == count:
                count += 1
    return count


@compiled(
    types.int64,
    types.int64,
    *_PATTERN,
    read("float64", 2),
    types.float64,
    write("float32", 1),
    write("float64", 2),
    *_ROWS,
    fast=True,
)
def fitted(size, n_modes, start, nodes, modes, least, tentative, coarse, begin, end):  # type: ignore[no-untyped-def]
    """Orthonormal bases of the modes (n * size, n_modes) on every aggregate, and the modes in these bases.

    Gram and Schmidt's method, twice; a mode that is left with less than ``least`` of its size on an aggregate is no
    part of its basis: the column is zero.
    """
    longest = 0
    for i in range(begin, end):
        longest = max(longest, start[i + 1] - start[i])
    q = np.empty((n_modes, longest * size))
    for i in range(begin, end):
        length = (start[i + 1] - start[i]) * size
        for k in range(length):
            node = np.int64(nodes[start[i] + k // size])
            for c in range(n_modes):
                q[c, k] = modes[node * size + k % size, c]
        for c in range(n_modes):
            before = 0.0
            for k in range(length):
                before += q[c, k] * q[c, k]
            for d in range(n_modes):
                coarse[i * n_modes + d, c] = 0.0
            for _ in range(2):
                for d in range(c):
                    t = 0.0
                    for k in range(length):
                        t += q[d, k] * q[c, k]
                    for k in range(length):
                        q[c, k] -= t * q[d, k]
                    coarse[i * n_modes + d, c] += t
            after = 0.0
            for k in range(length):
                after += q[c, k] * q[c, k]
            norm = np.sqrt(after) if after > least * least * before else 0.0
            coarse[i * n_modes + c, c] = norm
            for k in range(length):
                q[c, k] = q[c, k] / norm if norm > 0.0 else 0.0
        for k in range(length):
            node = np.int64(nodes[start[i] + k // size])
            for c in range(n_modes):
                tentative[(node * size + k % size) * n_modes + c] = q[c, k]


@compiled(*_PATTERN, *_PATTERN, types.int64, write("int64", 1), *_ROWS)
def product_lengths(  # type: ignore[no-untyped-def]
    start, columns, start2, columns2, n_columns, lengths, begin, end
):
    """Lengths of the rows of a product."""
    mark = np.full(n_columns, -1, np.int32)
    for i in range(begin, end):
        count = 0
        for k in range(start[i], start[i + 1]):
            for p in range(start2[columns[k]], start2[columns[k] + 1]):
                j = columns2[p]
                if mark[j] != i:
                    mark[j] = i
                    count += 1
        lengths[i] = count


@blocked(*_MATRIX, *_MATRIX, types.int64, read("int64", 1), write("int32", 1), write("float32", 1), *_ROWS, wide=True)
def subtract_product(  # type: ignore[no-untyped-def]
    start, columns, values, start2, columns2, values2, n_columns, into_start, into_columns, into, begin, end
):
    """Rows of the negative product of two matrices; a block of the second one has as many columns as lanes."""
    mark = np.full(n_columns, -1, np.int64)
    longest = 0
    for i in range(begin, end):
        longest = max(longest, into_start[i + 1] - into_start[i])
    size = into.shape[0] // max(into_columns.shape[0], 1)
    total = np.empty(longest * size)
    for i in range(begin, end):
        first = into_start[i]
        count = 0
        for k in range(start[i], start[i + 1]):
            row = columns[k]
            for p in range(start2[row], start2[row + 1]):
                j = columns2[p]
                if mark[j] < first:
                    mark[j] = first + count
                    into_columns[first + count] = j
                    for m in range(count * size, (count + 1) * size):
                        total[m] = 0.0
                    count += 1
                at = mark[j] - first
                store(total, at, product(values, k, values2, p, load(total, at)))
        for q in range(count):
            store(into, first + q, load(total, q))


@compiled(
    types.int64,
    types.int64,
    *_PATTERN,
    write("float32", 1),
    read("float32", 1),
    types.float64,
    read("int32", 1),
    read("float32", 1),
    *_ROWS,
    fast=True,
)
def smoothed(  # type: ignore[no-untyped-def]
    size, n_modes, start, columns, values, inverse, weight, aggregate, tentative, begin, end
):
    """In place of the product ``-A T``: ``weight D^-1 A T - T``, the smoothed interpolation with the other sign.

    ``tentative`` is the one block in each row of ``T``, in column ``aggregate`` (-1 for none).
    """
    row = np.empty(size * n_modes)
    for i in range(begin, end):
        for k in range(start[i], start[i + 1]):
            own = columns[k] == aggregate[i]
            for r in range(size):
                for c in range(n_modes):
                    t = 0.0
                    for s in range(size):
                        a = np.float64(inverse[(i * size + r) * size + s])
                        t += a * np.float64(values[(k * size + s) * n_modes + c])
                    if own:
                        t += np.float64(tentative[(i * size + r) * n_modes + c]) / weight
                    row[r * n_modes + c] = -weight * t
            for m in range(size * n_modes):
                values[k * size * n_modes + m] = row[m]


@compiled(types.int64, types.int64, *_MATRIX, write("int64", 1), write("int32", 1), write("float32", 1), fast=True)
def transposed(  # type: ignore[no-untyped-def]
    size, n_columns, start, columns, values, into_start, into_columns, into
):
    """The transposed of a matrix of blocks ``size`` times ``n_columns``; ``into_start`` must be zero."""
    for k in range(start[start.shape[0] - 1]):
        into_start[columns[k] + 1] += 1
    for j in range(into_start.shape[0] - 1):
        into_start[j + 1] += into_start[j]
    for i in range(start.shape[0] - 1):
        for k in range(start[i], start[i + 1]):
            at = into_start[columns[k]]
            into_start[columns[k]] = at + 1
            into_columns[at] = i
            for r in range(size):
                for c in range(n_columns):
                    into[(at * n_columns + c) * size + r] = values[(k * size + r) * n_columns + c]
    for j in range(into_start.shape[0] - 1, 0, -1):
        into_start[j] = into_start[j - 1]
    into_start[0] = 0
