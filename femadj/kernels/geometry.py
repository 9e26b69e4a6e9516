"""Compiled kernels on cell geometry alone: Jacobian determinants at table points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
