"""Outward normals and areas of the boundary, lumped to its nodes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, listing
from femadj.errors import InvalidMeshError
from femadj.mesh import Mesh, checked_points
from femadj.mesh.reference import facet_table
from femadj.mesh.topology import facets_by_place


class BoundaryNormals(NamedTuple):
    """Area vectors and areas of the boundary nodes.

    Attributes
    ----------
    area_vectors : (n_nodes, dim)
        Outward normal times area, lumped; zero inside. Shorter than ``areas`` where the boundary bends.
    areas : (n_nodes,)
        Lumped area (length in 2-D), never negative; zero inside. They add up to that of the boundary.
    """

    area_vectors: FloatArray
    areas: FloatArray

    @property
    def normals(self) -> FloatArray:
        """Outward unit normals, shape ``(n_nodes, dim)``; zero inside and where opposite sides cancel."""
        length = np.linalg.norm(self.area_vectors, axis=1, keepdims=True)
        # a sum that cancels to rounding has no direction
        clear = length > 1e-12 * self.areas[:, None]
        return np.divide(self.area_vectors, length, out=np.zeros_like(self.area_vectors), where=clear)


def boundary_normals(mesh: Mesh, points: npt.ArrayLike | None = None) -> BoundaryNormals:
    """Outward area vectors and areas of all boundary nodes.

    Facets are integrated as they are, curved or straight. Node ``a`` of a facet gets the share

        w_a = int N_a^2 ds / sum_b int N_b^2 ds

    of its area, and the area vector ``(int ds) int N_a^2 n ds / sum_b int N_b^2 ds``: the scaled diagonal of the mass
    matrix (E. Hinton, T. Rock, O. C. Zienkiewicz, "A note on mass lumping and related processes in the finite element
    method", Earthquake Eng. Struct. Dyn. 4 (1976)). ``int N_a ds`` would not do, since it vanishes at the corners of
    quadratic triangles and is negative at those of eight-node quadrilaterals. On linear facets, where it is positive,
    it is used itself, so that the area vectors of a closed boundary add up to zero.

    Parameters
    ----------
    mesh : Mesh
    points : (n_nodes, dim) array, optional
        Other node coordinates than those of the mesh.

    Returns
    -------
    BoundaryNormals
        ``area_vectors (n_nodes, dim)``, ``areas (n_nodes,)`` and the unit ``normals``.

    Raises
    ------
    InvalidMeshError
        For points that do not fit the mesh.
    """
    x = mesh.points if points is None else checked_points(points, mesh.points.shape)
    vectors = np.zeros((mesh.n_nodes, mesh.dim))
    areas = np.zeros(mesh.n_nodes)
    boundary = mesh.boundary()
    tables = {block.type: facet_table(block.type) for block in mesh.blocks}
    for place in facets_by_place(mesh.blocks, boundary.cells, boundary.local):
        cell, number, table = place.block.reference, place.number, tables[place.block.type]
        linear = cell.n_nodes == cell.n_corners
        jacobian = np.einsum("qai,eaj->eqji", table.gradients[number], x[place.block.nodes[place.rows]])
        # Nanson: n ds = cof(J) N dS; the sign of det J undoes a reversed numbering of the cell
        vector = np.einsum("eqji,i->eqj", _cofactor(jacobian), table.normals[number])
        sign = mesh.orientation[boundary.cells[place.at]]
        vector *= sign[:, None, None] * table.weights[number][:, None]
        area = np.linalg.norm(vector, axis=2)
        if not area.any(axis=1).all():
            flat = boundary.cells[place.at][~area.any(axis=1)]
            raise InvalidMeshError(f"facets of cells {listing(flat)} have no area at these points")
        values = table.values[number][:, list(cell.facets[number])]
        weights = values if linear else values**2
        nodal_vector = np.einsum("qa,eqj->eaj", weights, vector)
        nodal_area = np.einsum("qa,eq->ea", weights, area)
        scale = area.sum(axis=1) / nodal_area.sum(axis=1)
        np.add.at(vectors, place.nodes, nodal_vector * scale[:, None, None])
        np.add.at(areas, place.nodes, nodal_area * scale[:, None])
    return BoundaryNormals(vectors, areas)


def _cofactor(J: FloatArray) -> FloatArray:
    """Cofactor matrices of ``(..., d, d)`` matrices; defined for singular ones too."""
    if J.shape[-1] == 2:
        return np.stack(
            [np.stack([J[..., 1, 1], -J[..., 1, 0]], axis=-1), np.stack([-J[..., 0, 1], J[..., 0, 0]], axis=-1)],
            axis=-2,
        )
    return np.stack(
        [
            np.cross(J[..., 1, :], J[..., 2, :]),
            np.cross(J[..., 2, :], J[..., 0, :]),
            np.cross(J[..., 0, :], J[..., 1, :]),
        ],
        axis=-2,
    )
