"""The boundary of a mesh as fine triangles or polylines that follow curved cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from femadj.mesh import Mesh
from femadj.reference import cell_type, shape_functions

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SUBDIVISION = 4
"""Pieces into which an edge of a quadratic facet is cut."""

INSIDE, EDGE, FEATURE = 0, 1, 2
"""What a side of a triangle is: inside a facet, on the edge of a facet, on a sharp edge of the body."""

SHARP = 0.82
"""Cosine of the angle between facet normals below which their common edge counts as sharp (35 degrees)."""


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
        at = {}
        points = []
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


def boundary_triangles(mesh: Mesh, points: FloatArray, values: FloatArray) -> Triangles:
    """Triangles of the boundary of a solid mesh.

    Parameters
    ----------
    mesh : Mesh
        Three-dimensional.
    points : (n_nodes, 3)
    values : (n_nodes,)
    """
    blocks = mesh.facet_cells(mesh.boundary())
    sharp = _sharp_edges(blocks, points)
    parts = []
    offset = 0
    for name, nodes in blocks:
        split = split_facet(name)
        phi, dphi = shape_functions(name, split.points)
        x = np.einsum("pa,fai->fpi", phi, points[nodes])
        tangents = np.einsum("pad,fai->fpid", dphi, points[nodes])
        normals = np.cross(tangents[..., 0], tangents[..., 1])
        normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-300)
        field = values[nodes] @ phi.T
        n_edges = len(cell_type(name).edges)
        kind = np.column_stack([np.where(sharp[offset : offset + len(nodes), :n_edges], FEATURE, EDGE),
                                np.full(len(nodes), INSIDE)])  # fmt: skip
        tri = split.triangles
        parts.append((x[:, tri], field[:, tri], normals[:, tri], kind[:, split.edge]))
        offset += len(nodes)
    joined = [np.concatenate([p[k].reshape(-1, *p[k].shape[2:]) for p in parts]) for k in range(4)]
    return Triangles(*joined)


def _sharp_edges(blocks: list[tuple[str, npt.NDArray[np.int32]]], points: FloatArray) -> npt.NDArray[np.bool_]:
    """Which edges of every facet ``(n_facets, 4)`` are sharp, by the angle of the two facets at their midpoint."""
    keys, normals, owners = [], [], []
    offset = 0
    for name, nodes in blocks:
        cell = cell_type(name)
        for number, (a, b) in enumerate(cell.edges):
            _, dphi = shape_functions(name, cell.nodes[[a, b]].mean(axis=0)[None])
            tangents = np.einsum("ad,fai->fid", dphi[0], points[nodes])
            normal = np.cross(tangents[..., 0], tangents[..., 1])
            normals.append(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300))
            keys.append(np.sort(nodes[:, [a, b]], axis=1))
            owners.append(np.column_stack([np.arange(len(nodes)) + offset, np.full(len(nodes), number)]))
        offset += len(nodes)
    key, normal, owner = np.concatenate(keys), np.concatenate(normals), np.concatenate(owners)
    order = np.lexsort(key.T)
    key, normal, owner = key[order], normal[order], owner[order]
    same = (key[1:] == key[:-1]).all(axis=1)
    bent = same & ((normal[1:] * normal[:-1]).sum(axis=1) < SHARP)
    sharp = np.zeros((offset, 4), dtype=bool)
    for at in (np.flatnonzero(bent), np.flatnonzero(bent) + 1):
        sharp[owner[at, 0], owner[at, 1]] = True
    return sharp


@dataclass(frozen=True, eq=False)
class Curves:
    """Polylines of edges of a plane mesh.

    Attributes
    ----------
    points : (n_edges, n_pieces + 1, 2)
    values : (n_edges, n_pieces + 1)
    """

    points: FloatArray
    values: FloatArray


def boundary_curves(mesh: Mesh, points: FloatArray, values: FloatArray) -> Curves:
    """Boundary edges of a plane mesh as polylines, ``points (n_nodes, 2)`` and ``values (n_nodes,)``."""
    return _curves(mesh.facet_cells(mesh.boundary()), points, values)


def cell_edges(mesh: Mesh, points: FloatArray) -> Curves:
    """All edges of the cells of a plane mesh as polylines, each once."""
    found: dict[str, list[npt.NDArray[np.int32]]] = {}
    for block in mesh.blocks:
        cell = block.reference
        for facet, kind in zip(cell.facets, cell.facet_types, strict=True):
            found.setdefault(kind, []).append(block.nodes[:, list(facet)])
    unique = []
    for kind, parts in found.items():
        nodes = np.vstack(parts)
        _, first = np.unique(np.sort(nodes[:, :2], axis=1), axis=0, return_index=True)
        unique.append((kind, nodes[first]))
    return _curves(unique, points, np.zeros(len(points)))


def _curves(blocks: list[tuple[str, npt.NDArray[np.int32]]], points: FloatArray, values: FloatArray) -> Curves:
    xi = np.linspace(0, 1, SUBDIVISION + 1)[:, None]
    x, v = [], []
    for name, nodes in blocks:
        phi, _ = shape_functions(name, xi)
        x.append(np.einsum("pa,fai->fpi", phi, points[nodes]))
        v.append(values[nodes] @ phi.T)
    return Curves(np.concatenate(x), np.concatenate(v))
