"""The boundary of a mesh as fine triangles or polylines that follow curved facets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.mesh import Mesh
from femadj.mesh.reference import cell_type, shape_functions
from femadj.report.facets import Facets, area_vectors

IntArray = npt.NDArray[np.int64]

SUBDIVISION = 4
"""Pieces into which an edge of a quadratic facet is cut."""

PIECES = 12
"""Pieces of an edge of a plane cell, whose colour changes from piece to piece."""

INSIDE, EDGE, FEATURE = 0, 1, 2
"""What a side of a triangle is: inside a facet, on the edge of a facet, on a sharp edge of the body."""


@dataclass(frozen=True, eq=False)
class Triangles:
    """Boundary of a solid.

    Attributes
    ----------
    corners : (n_triangles, 3, 3)
        Coordinates of the corners of every triangle.
    values : (n_triangles, 3)
        Nodal field at the corners.
    normals : (n_triangles, 3, 3)
        Outward unit normals of the curved facet at the corners.
    sides : (n_triangles, 3) int64
        ``INSIDE``, ``EDGE`` or ``FEATURE`` for the side opposite to each corner.
    """

    corners: FloatArray
    values: FloatArray
    normals: FloatArray
    sides: IntArray


@dataclass(frozen=True, eq=False)
class Split:
    """A reference facet cut into triangles.

    Attributes
    ----------
    points : (n_points, 2)
        In the reference facet.
    triangles : (n_triangles, 3) int64
    edge : (n_triangles, 3) int64
        Edge of the facet that the side opposite to each corner lies on, or -1.
    """

    points: FloatArray
    triangles: IntArray
    edge: IntArray


@lru_cache(maxsize=16)
def split_facet(name: str) -> Split:
    """Cut the reference facet of a cell type; straight facets of linear cells are cut as little as possible."""
    cell = cell_type(name)
    n = 1 if cell.n_nodes == cell.n_corners and cell.shape == "triangle" else SUBDIVISION
    if cell.n_nodes == cell.n_corners and cell.shape == "quad":
        n = 2  # four nodes need not lie in a plane
    ticks = np.arange(n + 1) / n
    triangles: list[tuple[int, int, int]] = []
    if cell.shape == "triangle":
        at: dict[tuple[int, int], int] = {}
        points: list[tuple[float, float]] = []
        for j in range(n + 1):
            for i in range(n + 1 - j):
                at[i, j] = len(points)
                points.append((ticks[i], ticks[j]))
        for j in range(n):
            for i in range(n - j):
                triangles.append((at[i, j], at[i + 1, j], at[i, j + 1]))
                if i + j < n - 1:
                    triangles.append((at[i + 1, j], at[i + 1, j + 1], at[i, j + 1]))
    else:
        points = [(a, b) for b in ticks for a in ticks]
        for j in range(n):
            for i in range(n):
                a, b = j * (n + 1) + i, (j + 1) * (n + 1) + i
                triangles += [(a, a + 1, b + 1), (a, b + 1, b)]
    xi = np.array(points)
    tri = np.array(triangles, dtype=np.int64)
    on = np.zeros((len(xi), len(cell.edges)), dtype=bool)
    for number, (a, b) in enumerate(cell.edges):
        p, d = cell.nodes[a], cell.nodes[b] - cell.nodes[a]
        on[:, number] = np.abs((xi[:, 0] - p[0]) * d[1] - (xi[:, 1] - p[1]) * d[0]) < 1e-9
    edge = np.full(tri.shape, -1, dtype=np.int64)
    for k in range(3):
        both = on[tri[:, (k + 1) % 3]] & on[tri[:, (k + 2) % 3]]
        edge[:, k] = np.where(both.any(axis=1), both.argmax(axis=1), -1)
    return Split(xi, tri, edge)


def boundary_triangles(facets: list[Facets], densities: list[FloatArray], points: FloatArray) -> Triangles:
    """Triangles of the boundary of a solid.

    Parameters
    ----------
    facets : list of Facets
    densities : list of (n, k) arrays
        A field at the nodes of each facet.
    points : (n_nodes, 3)
    """
    parts = []
    for block, values in zip(facets, densities, strict=True):
        split = split_facet(block.type)
        phi, _ = shape_functions(block.type, split.points)
        x = np.einsum("pa,fai->fpi", phi, points[block.nodes])
        normals = area_vectors(block.type, block.nodes, block.sign, points, split.points)
        normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-300)
        field = values @ phi.T
        kind = np.column_stack([np.where(block.sharp, FEATURE, EDGE), np.full(len(block.nodes), INSIDE)])
        tri, sides = split.triangles, kind[:, split.edge]
        arrays = [x[:, tri], field[:, tri], normals[:, tri], sides]
        reverse = block.sign < 0
        for array in arrays:  # two corners change places, so that the triangle runs the other way round
            array[reverse] = array[reverse][:, :, [0, 2, 1]]
        parts.append(arrays)
    joined = [np.concatenate([p[k].reshape(-1, *p[k].shape[2:]) for p in parts]) for k in range(4)]
    return Triangles(*joined)


@dataclass(frozen=True, eq=False)
class Curves:
    """Edges of a plane mesh as polylines.

    Attributes
    ----------
    points : (n_edges, n_pieces + 1, 2)
    values : (n_edges, n_pieces + 1)
    ends : (n_edges, 2) int64
        Node at the start and at the end of each.
    """

    points: FloatArray
    values: FloatArray
    ends: IntArray


def boundary_curves(facets: list[Facets], densities: list[FloatArray], points: FloatArray) -> Curves:
    """Boundary edges of a plane mesh, the body on their left, with a field at the nodes of each."""
    edges = []
    for block, values in zip(facets, densities, strict=True):
        order = np.arange(block.nodes.shape[1])
        turned = order.copy()
        turned[:2] = 1, 0
        columns = np.where(block.sign[:, None] > 0, order, turned)
        rows = np.arange(len(block.nodes))[:, None]
        edges.append((block.type, block.nodes[rows, columns], values[rows, columns]))
    return _curves(edges, points)


def cell_edges(mesh: Mesh, points: FloatArray) -> Curves:
    """All edges of the cells of a plane mesh, each once; values zero."""
    found: dict[str, list[npt.NDArray[np.int32]]] = {}
    for block in mesh.blocks:
        cell = block.reference
        for facet, kind in zip(cell.facets, cell.facet_types, strict=True):
            found.setdefault(kind, []).append(block.nodes[:, list(facet)])
    unique = []
    for kind, parts in found.items():
        nodes = np.vstack(parts)
        _, first = np.unique(np.sort(nodes[:, :2], axis=1), axis=0, return_index=True)
        unique.append((kind, nodes[first], np.zeros(nodes[first].shape)))
    return _curves(unique, points)


def _curves(blocks: list[tuple[str, npt.NDArray[np.int32], FloatArray]], points: FloatArray) -> Curves:
    xi = np.linspace(0, 1, PIECES + 1)[:, None]
    x, v, ends = [], [], []
    for name, nodes, values in blocks:
        phi, _ = shape_functions(name, xi)
        x.append(np.einsum("pa,fai->fpi", phi, points[nodes]))
        v.append(values @ phi.T)
        ends.append(nodes[:, :2].astype(np.int64))
    return Curves(np.concatenate(x), np.concatenate(v), np.concatenate(ends))
