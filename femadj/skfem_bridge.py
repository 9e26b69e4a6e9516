"""Meshes of scikit-fem and ours: node orders and numberings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import skfem

from femadj.errors import UnsupportedCellError
from femadj.reference import skfem_node_order
from femadj.topology import CellBlock

FloatArray = npt.NDArray[np.float64]
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


def mesh_of(points: FloatArray, blocks: Sequence[CellBlock]) -> tuple[skfem.Mesh, IntArray]:
    """scikit-fem mesh of a single block, and the scikit-fem vertex of every node (-1 for nodes on edges and inside)."""
    held = [b.type for b in blocks]
    found = [entry for entry in _MESHES if [entry[0]] == held]
    if not found:
        known = ", ".join(name for name, *_ in _MESHES)
        raise UnsupportedCellError(f"scikit-fem meshes hold one block of {known}; this mesh has: {', '.join(held)}")
    name, mesh_type, linear_type = found[0]
    block = blocks[0]
    n_corners = block.reference.n_corners
    t = np.empty_like(block.nodes)
    t[:, skfem_node_order(name)] = block.nodes
    x = np.array(points.T, order="C")
    # scikit-fem numbers vertices first, then edges, facets and interiors
    corners, local = np.unique(t[:, :n_corners], return_inverse=True)
    linear = linear_type(
        np.ascontiguousarray(x[:, corners]), np.ascontiguousarray(local.reshape(-1, n_corners).T), sort_t=False
    )
    vertex = np.full(len(points), -1, dtype=np.int64)
    vertex[corners] = np.arange(len(corners))
    if mesh_type is linear_type:
        return linear, vertex
    mesh = mesh_type.from_mesh(linear)
    doflocs = mesh.doflocs.copy()
    doflocs[:, np.asarray(mesh.dofs.element_dofs)] = x[:, t.T]
    return replace(mesh, doflocs=doflocs), vertex
