"""How far the nodes of a mesh can move: by the sizes of their own cells, along every direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.mesh import Mesh
from femadj.mesh.reference import cell_table

_FLATTEST = 1e-14
"""Square of the smallest ratio of the two extents of an ellipsoid: what is below has drowned in rounding."""


@dataclass(frozen=True, eq=False)
class Moves:
    """An ellipsoid at every node: the moves that are as large as its cells are along the same direction.

    A cell with the mean Jacobian ``J`` takes moves ``V`` with ``|J^-1 V| <= 1`` (half of that where it is quadratic); a
    node has the mean of these quadratic forms over its cells. The node of a thin sheet moves far along the sheet and
    little across it, a collapsed cell has no edge of length zero that would count.

    Attributes
    ----------
    axes : (n_nodes, dim, dim)
        Unit vectors of the axes, in columns.
    extents : (n_nodes, dim)
        Lengths of the semi-axes.
    """

    axes: FloatArray
    extents: FloatArray

    @classmethod
    def of(cls, mesh: Mesh) -> Moves:
        """The ellipsoids of a mesh at its own coordinates."""
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
        values, axes = np.linalg.eigh((total / cells).transpose(2, 0, 1))
        return cls(axes, np.maximum(values, _FLATTEST * values[:, -1:]) ** -0.5)

    def along(self, amounts: FloatArray) -> FloatArray:
        """Moves of the nodes, ``(n_nodes, dim)``, by amounts of each of their semi-axes."""
        return np.einsum("nik,nk->ni", self.axes, self.extents * amounts)

    def parts(self, gradient: FloatArray) -> FloatArray:
        """Products of a gradient with each of the semi-axes, without signs, ``(n_nodes, dim)``."""
        return np.abs(np.einsum("nik,ni->nk", self.axes, gradient)) * self.extents

    def reach(self, node: int, axis: int) -> float:
        """How far a node can move along a coordinate axis."""
        return float(np.linalg.norm(self.axes[node, axis] / self.extents[node])) ** -1


def local_sizes(mesh: Mesh) -> FloatArray:
    """Extent of the cells at every node where they are flattest, shape ``(n_nodes,)``.

    The edge (half of it in quadratic cells) of a cube, about the height of a slender cell.
    """
    return Moves.of(mesh).extents.min(axis=1)
