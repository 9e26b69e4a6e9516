"""Boundary facets in smooth patches, and the density of a node gradient on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from femadj.base.arrays import FloatArray
from femadj.mesh import Mesh
from femadj.mesh.reference import CellType, cell_type, quadrature, shape_functions
from femadj.mesh.topology import facets_by_place

IntArray = npt.NDArray[np.int64]

SHARP = 0.82
"""Cosine of the angle between facet normals below which their common edge counts as sharp (35 degrees)."""


@dataclass(frozen=True, eq=False)
class Facets:
    """Boundary facets of one type.

    Attributes
    ----------
    type : str
    nodes : (n, k) int32
    sign : (n,)
        1 where the corners run so that the normal points out, else -1.
    sharp : (n, n_sides) bool
        Which sides (edges of a facet of a solid, ends of an edge of a plane body) are sharp.
    patch : (n,) int64
        Facets that are connected without crossing a sharp side.
    """

    type: str
    nodes: npt.NDArray[np.int32]
    sign: FloatArray
    sharp: npt.NDArray[np.bool_]
    patch: IntArray

    @property
    def reference(self) -> CellType:
        """The reference facet."""
        return cell_type(self.type)


def boundary_facets(mesh: Mesh, points: FloatArray) -> list[Facets]:
    """Boundary facets by type, cut into patches along sharp sides."""
    found: dict[str, list[tuple[npt.NDArray[np.int32], FloatArray]]] = {}
    boundary = mesh.boundary()
    for place in facets_by_place(mesh.blocks, boundary.cells, boundary.local):
        sign = mesh.orientation[boundary.cells[place.at]]
        found.setdefault(place.type, []).append((place.nodes, sign))
    blocks = [
        (name, np.vstack([nodes for nodes, _ in parts]), np.concatenate([sign for _, sign in parts]))
        for name, parts in found.items()
    ]
    keys, normals, owners = [], [], []
    offset = 0
    for name, nodes, sign in blocks:
        for number, (side, at) in enumerate(_sides(cell_type(name))):
            vector = area_vectors(name, nodes, sign, points, at[None])[:, 0]
            normals.append(vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-300))
            keys.append(np.sort(nodes[:, list(side)], axis=1))
            owners.append(np.column_stack([np.arange(len(nodes)) + offset, np.full(len(nodes), number)]))
        offset += len(nodes)
    key, normal, owner = np.concatenate(keys), np.concatenate(normals), np.concatenate(owners)
    order = np.lexsort(key.T)
    key, normal, owner = key[order], normal[order], owner[order]
    same = np.flatnonzero((key[1:] == key[:-1]).all(axis=1))
    bent = (normal[same + 1] * normal[same]).sum(axis=1) < SHARP
    sharp = np.zeros((offset, 4), dtype=bool)
    for at in (same[bent], same[bent] + 1):
        sharp[owner[at, 0], owner[at, 1]] = True
    smooth = same[~bent]
    links = coo_array((np.ones(len(smooth)), (owner[smooth, 0], owner[smooth + 1, 0])), shape=(offset, offset))
    patch = connected_components(links, directed=False)[1].astype(np.int64)
    result, offset = [], 0
    for name, nodes, sign in blocks:
        mine = slice(offset, offset + len(nodes))
        result.append(Facets(name, nodes, sign, sharp[mine, : len(_sides(cell_type(name)))], patch[mine]))
        offset += len(nodes)
    return result


def _sides(facet: CellType) -> list[tuple[tuple[int, ...], FloatArray]]:
    """Local nodes and reference midpoint of what a facet shares with its neighbours: its edges, or its ends."""
    if facet.dim == 1:
        return [((corner,), facet.nodes[corner]) for corner in (0, 1)]
    return [(edge, facet.nodes[list(edge)].mean(axis=0)) for edge in facet.edges]


def area_vectors(
    name: str, nodes: npt.NDArray[np.int32], sign: FloatArray, points: FloatArray, xi: FloatArray
) -> FloatArray:
    """Outward normal times area per reference area.

    Parameters
    ----------
    name : str
        Type of the facets.
    nodes, sign
        As in ``Facets``.
    points : (n_nodes, dim)
    xi : (n_points, dim - 1)
        In the reference facet.

    Returns
    -------
    (n_facets, n_points, dim) array
    """
    _, dphi = shape_functions(name, xi)
    tangents = np.einsum("pad,fai->fpid", dphi, points[nodes])
    if tangents.shape[2] == 2:
        vector = np.stack([tangents[..., 1, 0], -tangents[..., 0, 0]], axis=-1)
    else:
        vector = np.cross(tangents[..., 0], tangents[..., 1])
    oriented: FloatArray = vector * sign[:, None, None]
    return oriented


def outward(facets: list[Facets], points: FloatArray, field: FloatArray) -> list[FloatArray]:
    """Outward component of a vector field ``(n_nodes, dim)`` at the nodes of every facet, arrays ``(n, k)``."""
    result = []
    for block in facets:
        vectors = area_vectors(block.type, block.nodes, block.sign, points, block.reference.nodes)
        lengths = np.linalg.norm(vectors, axis=2)
        result.append((vectors * field[block.nodes]).sum(axis=2) / np.maximum(lengths, 1e-300))
    return result


def facet_densities(facets: list[Facets], points: FloatArray, gradient: FloatArray) -> list[FloatArray]:
    """Change of a response per outward movement and area, at the nodes of every facet.

    Like ``femadj.results.boundary_density``, but with one value a patch at the nodes of sharp edges: with the area
    vectors ``v_ap`` of node ``a`` on its patches ``p`` the densities ``g_ap`` that fit ``G_a = sum_p g_ap v_ap`` best.
    The value at a corner is then that of the face one looks at, and not a mean over the faces that meet there.

    Parameters
    ----------
    facets : list of Facets
    points, gradient : (n_nodes, dim)

    Returns
    -------
    list of (n, k) arrays
        For the nodes of each facet, in the order of ``facets``.
    """
    n_patches = 1 + max(int(block.patch.max()) for block in facets)
    pull = np.array(gradient, dtype=float)
    pairs, vectors = [], []
    moved = np.zeros(len(points), dtype=bool)
    for block in facets:
        cell = block.reference
        corners, weights = _corner_weights(cell)
        xi, w = quadrature(cell.shape, cell.mass_order)
        area = area_vectors(block.type, block.nodes, block.sign, points, xi)
        phi, _ = shape_functions(cell.shape, xi)
        vectors.append(np.einsum("q,qc,fqi->fci", w, phi, area).reshape(-1, points.shape[1]))
        pairs.append((block.nodes[:, :corners].astype(np.int64) * n_patches + block.patch[:, None]).ravel())
        for local in range(corners, cell.n_nodes):
            children, first = np.unique(block.nodes[:, local], return_index=True)
            new = ~moved[children]
            children, first = children[new], first[new]
            for corner in np.flatnonzero(weights[local]):
                np.add.at(pull, block.nodes[first, corner], weights[local, corner] * gradient[children])
            moved[children] = True
    pair, inverse = np.unique(np.concatenate(pairs), return_inverse=True)
    sums = np.zeros((len(pair), points.shape[1]))
    np.add.at(sums, inverse, np.concatenate(vectors))
    density = _fitted(pair // n_patches, sums, pull)
    result, offset = [], 0
    for block in facets:
        corners, weights = _corner_weights(block.reference)
        at = inverse[offset : offset + len(block.nodes) * corners].reshape(-1, corners)
        result.append(density[at] @ weights.T)
        offset += at.size
    return result


def _corner_weights(cell: CellType) -> tuple[int, FloatArray]:
    """Number of corners, and for each node its equal shares in the corners it lies between."""
    values, _ = shape_functions(cell.shape, cell.nodes)
    return cell.n_corners, values


def _fitted(node: IntArray, vectors: FloatArray, pull: FloatArray) -> FloatArray:
    """Least-squares densities of the (node, patch) pairs, which are sorted by node."""
    density = np.zeros(len(node))
    first = np.flatnonzero(np.append(True, node[1:] != node[:-1]))
    count = np.diff(np.append(first, len(node)))
    for size in np.unique(count):
        rows = first[count == size][:, None] + np.arange(size)
        # nearly parallel faces are not told apart: the fit of least norm gives them the same density
        inverse = np.linalg.pinv(vectors[rows], rcond=0.1)
        density[rows] = np.einsum("ni,nip->np", pull[node[rows[:, 0]]], inverse)
    return density
