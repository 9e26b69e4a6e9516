"""Compiled kernels on cell geometry alone: Jacobian determinants at table points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from femadj.kernels.compile import compiled, read, write


@compiled(read("float64", 2), read("int32", 2), read("float64", 3), write("float64", 1), write("float64", 1))
def jacobian_range(  # type: ignore[no-untyped-def]
    points, nodes, gradients, smallest, largest
):  # pragma: no cover - compiled
    """Fill the smallest and largest scaled Jacobian determinant of every cell over the table points.

    The determinant is divided by the product of the column lengths, so that it lies in [-1, 1]; a column of length
    zero gives zero.
    """
    n_cells, n_nodes = nodes.shape
    n_points = gradients.shape[0]
    dim = points.shape[1]
    J = np.empty((3, 3))
    for e in range(n_cells):
        low = 2.0
        high = -2.0
        for q in range(n_points):
            for i in range(dim):
                for j in range(dim):
                    s = 0.0
                    for a in range(n_nodes):
                        s += points[nodes[e, a], i] * gradients[q, a, j]
                    J[i, j] = s
            scale = 1.0
            for j in range(dim):
                s = 0.0
                for i in range(dim):
                    s += J[i, j] * J[i, j]
                scale *= np.sqrt(s)
            if dim == 2:
                det = J[0, 0] * J[1, 1] - J[0, 1] * J[1, 0]
            else:
                det = (
                    J[0, 0] * (J[1, 1] * J[2, 2] - J[1, 2] * J[2, 1])
                    - J[0, 1] * (J[1, 0] * J[2, 2] - J[1, 2] * J[2, 0])
                    + J[0, 2] * (J[1, 0] * J[2, 1] - J[1, 1] * J[2, 0])
                )
            value = det / scale if scale > 0.0 else 0.0
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
    jacobian_range(points, nodes, gradients, smallest, largest)
    return smallest, largest
