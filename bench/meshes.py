"""Meshes of the benchmarks: perturbed boxes and squares, numbered as published figures are.

The interior nodes are moved by up to 12 % (15 % in the plane) of the cell size, with a fixed seed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import femadj as fa

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BOX = (4.0, 1.0, 1.0)
KUHN = ((1, 3), (1, 5), (2, 3), (2, 6), (4, 5), (4, 6))
"""Each of the six tetrahedra of a box cell runs from corner 0 over these two to corner 7."""

TETRA_EDGES = ((0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3))
"""Corners beside the further nodes of a quadratic tetrahedron."""


def _lattice(n: int) -> tuple[FloatArray, list[IntArray]]:
    """Points of a 4 x 1 x 1 box of ``4n x n x n`` cells, and the eight corners of every cell, x first."""
    shape = (4 * n, n, n)
    ticks = [np.linspace(0, length, k + 1) for length, k in zip(BOX, shape, strict=True)]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    index = np.arange(len(points)).reshape([k + 1 for k in shape])
    corners = [index[i : shape[0] + i, j : n + j, k : n + k].ravel() for k in (0, 1) for j in (0, 1) for i in (0, 1)]
    inside, size = np.all((points > 1e-9) & (points < np.array(BOX) - 1e-9), axis=1), np.array(BOX) / shape
    points[inside] += np.random.default_rng(0).uniform(-0.12, 0.12, (inside.sum(), 3)) * size
    return points, corners


def _held(points: FloatArray, kind: str, cells: IntArray) -> fa.Mesh:
    return fa.Mesh(points, {kind: cells}, node_groups={"left": points[:, 0] < 1e-9})


def box(n: int) -> fa.Mesh:
    """A 4 x 1 x 1 box of ``4n x n x n`` cells, six tetrahedra each; node group ``left`` (x = 0)."""
    points, corners = _lattice(n)
    cells = np.vstack([np.stack([corners[0], corners[a], corners[b], corners[7]], axis=1) for a, b in KUHN])
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    inverted = np.linalg.det(edges) < 0
    cells[inverted] = cells[inverted][:, [0, 2, 1, 3]]
    return _held(points, "tetra", cells)


def quadratic_box(n: int) -> fa.Mesh:
    """The tetrahedra of ``box`` with a node at the middle of every edge."""
    linear = box(n)
    corners = linear.blocks[0].nodes.astype(np.int64)
    pairs = np.sort(corners[:, TETRA_EDGES], axis=2)
    edges, middle = np.unique(pairs @ [linear.n_nodes, 1], return_inverse=True)
    ends = linear.points[edges // linear.n_nodes], linear.points[edges % linear.n_nodes]
    cells = np.hstack([corners, linear.n_nodes + middle.reshape(len(corners), -1)])
    return _held(np.vstack([linear.points, (ends[0] + ends[1]) / 2]), "tetra10", cells)


def hexahedra(n: int) -> fa.Mesh:
    """The same box, of ``4n x n x n`` hexahedra."""
    points, corners = _lattice(n)
    return _held(points, "hexahedron", np.stack([corners[i] for i in (0, 1, 3, 2, 4, 5, 7, 6)], axis=1))


def square(n: int) -> fa.Mesh:
    """The unit square of ``n x n`` cells, two triangles each; node group ``boundary``."""
    ticks = np.linspace(0, 1, n + 1)
    points = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    index = np.arange(len(points)).reshape(n + 1, n + 1)
    a, b = index[:-1, :-1].ravel(), index[1:, :-1].ravel()
    c, d = index[1:, 1:].ravel(), index[:-1, 1:].ravel()
    cells = np.vstack([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    inside = np.all((points > 1e-9) & (points < 1 - 1e-9), axis=1)
    points[inside] += np.random.default_rng(0).uniform(-0.15, 0.15, (inside.sum(), 2)) / n
    return fa.Mesh(points, {"triangle": cells}, node_groups={"boundary": ~inside})
