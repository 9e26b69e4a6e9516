"""Meshes of scikit-fem and ours: node orders and numberings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import skfem

from femadj.base.arrays import FloatArray
from femadj.errors import UnsupportedCellError
from femadj.mesh.reference import skfem_element, skfem_node_order
from femadj.mesh.topology import CellBlock

IntArray = npt.NDArray[np.int64]

_MESHES: tuple[tuple[str, Any, Any], ...] = (
    ("triangle", skfem.MeshTri1, skfem.MeshTri1),
    ("triangle6", skfem.MeshTri2, skfem.MeshTri1),
    ("quad", skfem.MeshQuad1, skfem.MeshQuad1),
    ("quad9", skfem.MeshQuad2, skfem.MeshQuad1),
    ("tetra", skfem.MeshTet1, skfem.MeshTet1),
    ("tetra10", skfem.MeshTet2, skfem.MeshTet1),
    ("hexahedron", skfem.MeshHex1, skfem.MeshHex1),
    ("hexahedron27", skfem.MeshHex2, skfem.MeshHex1),
    ("wedge", skfem.MeshWedge1, skfem.MeshWedge1),
)


def cells_of(mesh: skfem.Mesh) -> tuple[str, IntArray]:
    """Cell type and node lists, in meshio's order, of a scikit-fem mesh."""
    for name, mesh_type, _ in _MESHES:
        if type(mesh) is mesh_type:
            nodes = np.asarray(mesh.dofs.element_dofs).T[:, skfem_node_order(name)]
            return name, nodes.astype(np.int64)
    raise UnsupportedCellError(f"scikit-fem's {type(mesh).__name__} has no counterpart in femadj")


@dataclass(frozen=True, eq=False)
class SkfemCells:
    """A mesh of one block as scikit-fem sees it.

    Attributes
    ----------
    mesh : skfem.Mesh
        With our cells in our order.
    vertex : (n_nodes,) int64
        scikit-fem's vertex of every node, -1 for nodes on edges and inside.
    nodes : (n_cells, k) int32
        Our nodes of scikit-fem's cells, in meshio's order of the cell type.
    parity : (n_cells,)
        -1 where the corners of a cell were reordered by an odd permutation, else 1.
    """

    mesh: skfem.Mesh
    vertex: IntArray
    nodes: npt.NDArray[np.int32]
    parity: FloatArray


def mesh_of(points: FloatArray, blocks: Sequence[CellBlock]) -> tuple[skfem.Mesh, IntArray]:
    """scikit-fem mesh of a single block, and the scikit-fem vertex of every node (-1 for nodes on edges and inside)."""
    cells = skfem_cells(points, blocks)
    return cells.mesh, cells.vertex


def skfem_cells(points: FloatArray, blocks: Sequence[CellBlock], *, ascending: bool = False) -> SkfemCells:
    """scikit-fem mesh of a single block.

    Parameters
    ----------
    ascending : bool
        Number the corners of every triangle and tetrahedron in ascending order: elements with several unknowns on an
        edge or facet rely on it. Other cells are left as they are.

    Raises
    ------
    UnsupportedCellError
        For several blocks, and for cells that scikit-fem has no mesh of.
    """
    held = [b.type for b in blocks]
    found = [entry for entry in _MESHES if [entry[0]] == held]
    if not found:
        known = ", ".join(name for name, *_ in _MESHES)
        raise UnsupportedCellError(f"scikit-fem meshes hold one block of {known}; this mesh has: {', '.join(held)}")
    name, mesh_type, linear_type = found[0]
    block = blocks[0]
    n_corners = block.reference.n_corners
    order = skfem_node_order(name)
    t = np.empty_like(block.nodes)
    t[:, order] = block.nodes
    parity = np.ones(len(t))
    if ascending and block.reference.shape in ("triangle", "tetra"):
        t, parity = _ascending(name, t, n_corners)
    x = np.array(points.T, order="C")
    # scikit-fem numbers vertices first, then edges, facets and interiors
    corners, local = np.unique(t[:, :n_corners], return_inverse=True)
    linear = linear_type(
        np.ascontiguousarray(x[:, corners]), np.ascontiguousarray(local.reshape(-1, n_corners).T), sort_t=False
    )
    vertex = np.full(len(points), -1, dtype=np.int64)
    vertex[corners] = np.arange(len(corners))
    nodes = np.ascontiguousarray(t[:, order])
    if mesh_type is linear_type:
        return SkfemCells(linear, vertex, nodes, parity)
    mesh = mesh_type.from_mesh(linear)
    doflocs = mesh.doflocs.copy()
    doflocs[:, np.asarray(mesh.dofs.element_dofs)] = x[:, t.T]
    return SkfemCells(replace(mesh, doflocs=doflocs), vertex, nodes, parity)


def _ascending(name: str, t: npt.NDArray[np.int32], n_corners: int) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """Cells, in scikit-fem's order of nodes, with ascending corners, and the parity of what was done to each."""
    inner = np.asarray(skfem_element(name).doflocs)
    weights = np.column_stack([1.0 - inner.sum(axis=1), inner])
    order = np.argsort(t[:, :n_corners], axis=1)
    result = np.empty_like(t)
    parity = np.empty(len(t))
    for permutation in permutations(range(n_corners)):
        rows = (order == permutation).all(axis=1)
        before = np.zeros_like(weights)
        before[:, permutation] = weights
        match = np.abs(before[:, None] - weights[None]).max(axis=2).argmin(axis=1)
        result[rows] = t[np.ix_(rows, match)]
        parity[rows] = np.linalg.det(np.eye(n_corners)[list(permutation)])
    return result, parity
