"""How far the nodes of a mesh can move: by the sizes of their own cells."""

from __future__ import annotations

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.mesh import Mesh
from femadj.mesh.reference import cell_table


def local_sizes(mesh: Mesh) -> FloatArray:
    """Extent of the cells at every node where they are flattest, shape ``(n_nodes,)``.

    The edge of a cube, about the height of a slender cell; half of that where cells are quadratic. A cell with the mean
    Jacobian ``J`` is an ellipsoid ``|J^-1 V| <= 1``, a node has the mean of these quadratic forms over its cells, and
    this is the shortest semi-axis. An edge of length zero, of a collapsed cell, does not count. It holds for all
    directions, since a response may bend within it along the others too: the fibres of a plate tilt when one end of
    them moves along the plate.
    """
    n, dim = mesh.points.shape
    total, cells = np.zeros((dim, dim, n)), np.zeros(n)
    for block in mesh.blocks:
        cell = block.reference
        table = cell_table(block.type, cell.stiffness_order)
        gradients = np.einsum("q,qaj->aj", table.weights[0], table.gradients[0]) / table.weights.sum()
        inverse = np.linalg.inv(np.einsum("eai,aj->eij", mesh.points[block.nodes], gradients))
        inverse *= 2.0 if cell.n_nodes > cell.n_corners else 1.0
        forms = np.einsum("eki,ekj->ije", inverse, inverse)
        nodes = block.nodes.ravel()
        cells += np.bincount(nodes, minlength=n)
        for i, j in np.ndindex(dim, dim):
            total[i, j] += np.bincount(nodes, np.repeat(forms[i, j], block.nodes.shape[1]), n)
    largest: FloatArray = np.linalg.eigvalsh((total / cells).transpose(2, 0, 1))[:, -1].astype(float)
    return largest**-0.5
