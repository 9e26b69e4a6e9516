"""Compiled kernels on cell geometry alone: Jacobian determinants at table points, and how far they stay positive."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from femadj.kernels.compile import compiled, read, write
from femadj.kernels.entity import gather, jacobian, scaled_determinant


@compiled(read("float64", 2), read("int32", 2), read("float64", 4), write("float64", 1), write("float64", 1))
def jacobian_range(  # type: ignore[no-untyped-def]
    points, nodes, gradients, smallest, largest
):  # pragma: no cover - compiled
    """Fill the smallest and largest scaled Jacobian determinant of every cell over the table points.

    ``gradients`` has shape ``(1, n_points, ng, dim)``. The determinant is divided by the product of the column lengths,
    so that it lies in [-1, 1]; a column of length zero gives zero.
    """
    n_cells, ng = nodes.shape
    dim = points.shape[1]
    X = np.empty((ng, dim))
    J = np.empty((dim, dim))
    first = np.int32(0)
    for e in range(n_cells):
        gather(points, nodes, e, X)
        low = 2.0
        high = -2.0
        for q in range(gradients.shape[1]):
            jacobian(ng, dim, X, gradients, first, q, J)
            value = scaled_determinant(dim, J)
            low = min(low, value)
            high = max(high, value)
        smallest[e] = low
        largest[e] = high


def scaled_jacobian_range(
    points: npt.NDArray[np.float64], nodes: npt.NDArray[np.int32], gradients: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Smallest and largest scaled Jacobian determinant of every cell.

    Parameters
    ----------
    points : (n_nodes, dim)
    nodes : (n_cells, k)
    gradients : (n_points, k, dim)
        Reference gradients of the shape functions where the determinant is wanted.

    Returns
    -------
    smallest, largest : (n_cells,)
    """
    smallest = np.empty(len(nodes))
    largest = np.empty(len(nodes))
    jacobian_range(points, nodes, gradients[None], smallest, largest)
    return smallest, largest


HALVINGS = 100
"""Of an interval with one root: it is then known to the last digit, however small."""


def rows_determinant(dim, A, B, C):  # type: ignore[no-untyped-def]
    """Determinant of the matrix with the first row of ``A``, the second of ``B`` and the third of ``C``."""
    if dim == 2:
        return A[0, 0] * B[1, 1] - A[0, 1] * B[1, 0]
    return (
        A[0, 0] * (B[1, 1] * C[2, 2] - B[1, 2] * C[2, 1])
        + A[0, 1] * (B[1, 2] * C[2, 0] - B[1, 0] * C[2, 2])
        + A[0, 2] * (B[1, 0] * C[2, 1] - B[1, 1] * C[2, 0])
    )


def determinant_polynomial(dim, J, V, c):  # type: ignore[no-untyped-def]
    """Fill the coefficients of ``det(J + t V)``, lowest first; the last is zero in two dimensions."""
    c[0] = rows_determinant(dim, J, J, J)
    c[1] = rows_determinant(dim, V, J, J) + rows_determinant(dim, J, V, J)
    c[2] = rows_determinant(dim, V, V, J)
    c[3] = 0.0
    if dim == 3:
        c[1] += rows_determinant(dim, J, J, V)
        c[2] += rows_determinant(dim, V, J, V) + rows_determinant(dim, J, V, V)
        c[3] = rows_determinant(dim, V, V, V)


def first_root(c):  # type: ignore[no-untyped-def]
    """Smallest root in (0, 1] of a cubic that is positive at 0; 1 where there is none."""
    a, b, d, e = c[0], c[1], c[2], c[3]
    # it lies between its coefficients in Bernstein's basis: where these are positive there is no root
    if min(a, a + b / 3, a + (2 * b + d) / 3, a + b + d + e) > 0:
        return 1.0
    # between its stationary points it is monotone
    one = two = 1.0
    root = d * d - 3 * e * b
    if root >= 0:
        q = -(d + np.copysign(np.sqrt(root), d))
        one = q / (3 * e) if e != 0 else 1.0
        two = b / q if q != 0 else 1.0
        one = one if 0 < one < 1 else 1.0
        two = two if 0 < two < 1 else 1.0
    low = 0.0
    for high in (min(one, two), max(one, two), 1.0):
        value = ((e * high + d) * high + b) * high + a
        size = ((abs(e) * high + abs(d)) * high + abs(b)) * high + abs(a)
        if value <= 1e-15 * size:
            break
        low = high
    for _ in range(HALVINGS if low < 1 else 0):
        middle = 0.5 * (low + high)
        if ((e * middle + d) * middle + b) * middle + a > 0:
            low = middle
        else:
            high = middle
    return low


@compiled(
    read("float64", 2), read("float64", 2), read("int32", 2), read("float64", 4), types.float64, types.float64
)  # fmt: skip
def step_limit(points, velocity, nodes, gradients, keep, most):  # type: ignore[no-untyped-def]
    """Smallest ``t`` in (0, most] at which some ``det(J + t V)`` is ``keep det(J)`` at a table point; else ``most``.

    ``gradients`` has shape ``(1, n_points, ng, dim)``; no ``det(J)`` may be zero.
    """
    n_cells, ng = nodes.shape
    dim = points.shape[1]
    X, Y = np.empty((ng, dim)), np.empty((ng, dim))
    J, V = np.empty((dim, dim)), np.empty((dim, dim))
    c = np.empty(4)
    first = np.int32(0)
    for e in range(n_cells):
        gather(points, nodes, e, X)
        gather(velocity, nodes, e, Y)
        for q in range(gradients.shape[1]):
            jacobian(ng, dim, X, gradients, first, q, J)
            jacobian(ng, dim, Y, gradients, first, q, V)
            determinant_polynomial(dim, J, V, c)
            factor = 1.0 / c[0]
            c[0] = 1.0 - keep
            for k in range(1, 4):
                factor *= most
                c[k] *= factor
            most *= first_root(c)
    return most
