"""Compiled products of sparse matrices stored by rows, as a whole or as the upper triangle of a symmetric one.

Entries are taken in the order they are stored in, by one thread: the same digits for any number of threads.
"""

from __future__ import annotations

from numba import types

from femadj.kernels.compile import compiled, read, write

_PATTERN = (read("int64", 1), read("int32", 1))
_SPLITTER = 134217729.0  # 2^27 + 1


@compiled(*_PATTERN, read("float64", 1), types.boolean, types.boolean, read("float64", 1), write("float64", 2))
def subtract(start, columns, values, upper, transposed, x, into):  # type: ignore[no-untyped-def]
    """Subtract ``A x`` (``A^T x``) from ``into[0]`` and add ``|A| |x|`` to ``into[1]``."""
    for i in range(start.shape[0] - 1):
        own = x[i]
        total = 0.0
        size = 0.0
        for k in range(start[i], start[i + 1]):
            j = columns[k]
            if not transposed:
                product = values[k] * x[j]
                total += product
                size += abs(product)
            if transposed or (upper and i != j):
                product = values[k] * own
                into[0, j] -= product
                into[1, j] += abs(product)
        into[0, i] -= total
        into[1, i] += size


@compiled(*_PATTERN, read("float64", 1), types.boolean, types.boolean, read("float64", 1), write("float64", 2))
def subtract_twice_as_precise(  # type: ignore[no-untyped-def]
    start, columns, values, upper, transposed, x, into
):
    """Subtract ``A x`` (``A^T x``) from ``into[0] + into[1]`` in twice the working precision.

    Products and sums with their rounding errors after Ogita, Rump and Oishi, Accurate sum and dot product (2005).
    """
    for i in range(start.shape[0] - 1):
        for k in range(start[i], start[i + 1]):
            j = columns[k]
            a = values[k]
            scaled = _SPLITTER * a
            a_high = scaled - (scaled - a)
            a_low = a - a_high
            for mirrored in range(2):
                row = j if mirrored else i
                other = i if mirrored else j
                wanted = (transposed or (upper and i != j)) if mirrored else not transposed
                if not wanted:
                    continue
                b = x[other]
                scaled = _SPLITTER * b
                b_high = scaled - (scaled - b)
                b_low = b - b_high
                product = a * b
                error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
                before = into[0, row]
                after = before - product
                taken = after - before
                into[0, row] = after
                into[1, row] += (before - (after - taken)) + (-product - taken) - error


@compiled(*_PATTERN, read("float64", 1), read("float64", 1), read("float64", 1), write("float64", 1))
def scale(start, columns, values, rows, by_column, into):  # type: ignore[no-untyped-def]
    """Entries times the factors of their row and of their column."""
    for i in range(start.shape[0] - 1):
        for k in range(start[i], start[i + 1]):
            into[k] = values[k] * rows[i] * by_column[columns[k]]


@compiled(read("float64", 2), read("float64", 1), read("float64", 1), types.float64, types.float64, types.float64)
def judge(residual, b, weights, size, threshold, rounding):  # type: ignore[no-untyped-def]
    """Backward error and what a bound of the forward error is made of.

    Parameters
    ----------
    residual : (2, n)
        ``b - A x`` and ``|A| |x|``.
    b : (n,)
    weights : (n,)
        Sums of absolute values of the rows, all of them positive.
    size : float
        Norm of ``x``.
    threshold : float
        Relative size below which a denominator counts as zero.
    rounding : float
        Relative error of the entries of A and of b.

    Returns
    -------
    error : float
        ``omega_1 + omega_2`` of Arioli, Demmel and Duff, Solving sparse linear systems with sparse backward error
        (1989).
    disturbance : float
        Largest ``(|b - A x| + rounding (|A| |x| + |b|)) / (weights size)``.
    load, action : float
        Largest ``|b| / weights`` and ``(|A| |x|) / weights``.
    """
    first = 0.0
    second = 0.0
    disturbance = 0.0
    load = 0.0
    action = 0.0
    for i in range(b.shape[0]):
        off = abs(residual[0, i])
        full = weights[i] * size
        own = abs(b[i])
        product = residual[1, i]
        if product + own > threshold * (full + own):
            first = max(first, off / (product + own))
        elif off > 0.0:
            second = max(second, off / (product + full))
        if full > 0.0:
            disturbance = max(disturbance, (off + rounding * (product + own)) / full)
        load = max(load, own / weights[i])
        action = max(action, product / weights[i])
    return first + second, disturbance, load, action
