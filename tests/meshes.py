"""Small structured meshes of boxes, of every cell type and of conforming mixtures, straight or distorted.

Nodes are points of the half-step lattice of the box: every corner of a cell is an even lattice point, every mid-side
node an odd one. Sides and groups are found on the lattice, so that they stay right however the nodes are moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
import numpy.typing as npt

import femadj as fa
from femadj.mesh.reference import CELL_TYPES, shape_functions

FloatArray = npt.NDArray[np.float64]

PLANE_CELLS = ("triangle", "triangle6", "quad", "quad8", "quad9")
SOLID_CELLS = ("tetra", "tetra10", "hexahedron", "hexahedron20", "hexahedron27", "wedge")
CELLS = (*PLANE_CELLS, *SOLID_CELLS)
"""Every supported cell type."""

MIXTURES = ("quad+triangle", "quad8+triangle6", "quad9+triangle6", "hexahedron+wedge")
"""Conforming mixtures: the first type fills the half with small x, the second the other one."""

MESHES = (*CELLS, *MIXTURES)

SIDES = {
    2: {"left": (0, 0), "right": (0, 1), "bottom": (1, 0), "top": (1, 1)},
    3: {"left": (0, 0), "right": (0, 1), "front": (1, 0), "back": (1, 1), "bottom": (2, 0), "top": (2, 1)},
}
"""Axis and end of every side: ``left`` is x = 0, ``front`` y = 0; ``bottom`` is y = 0 in the plane, z = 0 in space."""


def dim_of(cell: str) -> int:
    """Dimension of a cell type or mixture."""
    return CELL_TYPES[cell.split("+", maxsplit=1)[0]].dim


def is_quadratic(cell: str) -> bool:
    """Whether the cells have mid-side nodes."""
    kind = CELL_TYPES[cell.split("+", maxsplit=1)[0]]
    return kind.n_nodes > kind.n_corners


def default_counts(cell: str) -> tuple[int, ...]:
    """Box counts that leave at least one node of every cell type inside."""
    return (4, 3) if dim_of(cell) == 2 else (2, 2, 2)


def _simplices(dim: int) -> list[FloatArray]:
    """Corners of the simplices of Kuhn's division of the unit cube: conforming from cube to cube."""
    result = []
    for path in permutations(range(dim)):
        corners = np.vstack([np.zeros(dim), np.cumsum(np.eye(dim)[list(path)], axis=0)])
        if np.linalg.det(corners[1:] - corners[0]) < 0:
            corners[[1, 2]] = corners[[2, 1]]
        result.append(corners)
    return result


def _pieces(shape: str) -> list[FloatArray]:
    """Corners of the cells that a unit square or cube is divided into."""
    if shape in ("triangle", "tetra"):
        return _simplices(2 if shape == "triangle" else 3)
    if shape == "wedge":
        return [np.vstack([np.c_[t, np.zeros(3)], np.c_[t, np.ones(3)]]) for t in _simplices(2)]
    kind = CELL_TYPES[shape]
    return [kind.nodes[: kind.n_corners]]


def _lattice_cells(cell: str, boxes: FloatArray) -> npt.NDArray[np.int64]:
    """Lattice coordinates of the nodes of the cells in every box, shape ``(n_cells, k, dim)``."""
    kind = CELL_TYPES[cell]
    weights, _ = shape_functions(kind.shape, kind.nodes)
    local = np.array([weights @ corners for corners in _pieces(kind.shape)])
    lattice = 2 * (boxes[:, None, None, :] + local)
    return np.rint(lattice).astype(np.int64).reshape(-1, kind.n_nodes, kind.dim)


def box_mesh(
    cell: str,
    counts: Sequence[int] | None = None,
    *,
    lengths: Sequence[float] | None = None,
    distortion: float = 0.0,
    curved: bool = True,
    flat: bool = False,
    origin: Sequence[float] | None = None,
    seed: int = 0,
    linear_map: npt.ArrayLike | None = None,
) -> fa.Mesh:
    """Mesh of a box.

    Parameters
    ----------
    cell : str
        A name of ``CELLS``, or two joined by ``+``.
    counts : sequence of int, optional
        Divisions by axis.
    lengths : sequence of float, optional
        Lengths of the box; one by axis when left out.
    distortion : float
        Random move of every corner node, boundary included, as a part of the division; 0.15 is safe for all types.
    curved : bool
        Whether mid-side and centre nodes move on by up to a quarter of that, which bends the cells; otherwise they
        stay at the middle of their corners.
    flat : bool
        Whether nodes on the sides, and on the plane between the two halves, only slide within them.
    origin : sequence of float, optional
        Added last.
    seed : int
        Of the random moves.
    linear_map : (dim, dim) array, optional
        Applied to the distorted box about its corner, before ``origin`` is added.

    Returns
    -------
    Mesh
        Facet groups: the sides by name (``SIDES``), ``boundary`` (all sides) and, where the first count is even,
        ``middle`` (facets between the two halves). Node groups: ``corner`` (at the lattice's zero), ``opposite``,
        ``inside``. Cell groups: ``low`` and ``high`` halves by x.
    """
    names = cell.split("+")
    dim = dim_of(cell)
    n = np.array(default_counts(cell) if counts is None else counts)
    boxes = np.array(list(product(*(range(k) for k in n))), dtype=float)
    low = boxes[:, 0] < n[0] / 2
    filled = [boxes] if len(names) == 1 else [boxes[low], boxes[~low]]
    lattice = [_lattice_cells(name, b) for name, b in zip(names, filled, strict=True)]

    nodes, index = np.unique(np.vstack([c.reshape(-1, dim) for c in lattice]), axis=0, return_inverse=True)
    ends = np.cumsum([c.shape[0] * c.shape[1] for c in lattice])[:-1]
    cells = [part.reshape(c.shape[:2]) for part, c in zip(np.split(index.ravel(), ends), lattice, strict=True)]

    rng = np.random.default_rng(seed)
    spacing = (np.ones(dim) if lengths is None else np.asarray(lengths, dtype=float)) / n
    moves = distortion * spacing * rng.uniform(-1, 1, nodes.shape)
    if flat:
        held = (nodes == 0) | (nodes == 2 * n)
        held[:, 0] |= nodes[:, 0] == n[0]
        moves[held] = 0.0
    points = nodes * spacing / 2 + moves
    for name, connectivity in zip(names, cells, strict=True):
        kind = CELL_TYPES[name]
        weights, _ = shape_functions(kind.shape, kind.nodes[kind.n_corners :])
        middle = connectivity[:, kind.n_corners :]
        points[middle] = np.einsum("ac,ecd->ead", weights, points[connectivity[:, : kind.n_corners]])
        if curved:
            points[middle] += 0.25 * moves[middle]
    if linear_map is not None:
        points = points @ np.asarray(linear_map, dtype=float).T
    points += np.zeros(dim) if origin is None else np.asarray(origin, dtype=float)

    facets: dict[str, list[npt.NDArray[np.int64]]] = {}
    for name, connectivity in zip(names, cells, strict=True):
        for facet in CELL_TYPES[name].facets:
            rows = connectivity[:, list(facet)]
            for side, (axis, end) in SIDES[dim].items():
                at = (nodes[rows, axis] == 2 * n[axis] * end).all(axis=1)
                if at.any():
                    facets.setdefault(side, []).append(rows[at])
                    facets.setdefault("boundary", []).append(rows[at])
            at = (nodes[rows, 0] == n[0]).all(axis=1)
            if n[0] % 2 == 0 and at.any():
                facets.setdefault("middle", []).append(rows[at])

    centre = np.concatenate([nodes[c, 0].mean(axis=1) for c in cells])
    return fa.Mesh(
        points,
        list(zip(names, cells, strict=True)),
        node_groups={
            "corner": np.flatnonzero((nodes == 0).all(axis=1)),
            "opposite": np.flatnonzero((nodes == 2 * n).all(axis=1)),
            "inside": np.flatnonzero(((nodes > 0) & (nodes < 2 * n)).all(axis=1)),
        },
        facet_groups=facets,
        cell_groups={"low": np.flatnonzero(centre < n[0]), "high": np.flatnonzero(centre >= n[0])},
    )


def rotation(dim: int, angle: float = 0.7) -> FloatArray:
    """A proper rotation that mixes all axes."""
    c, s = np.cos(angle), np.sin(angle)
    if dim == 2:
        return np.array([[c, -s], [s, c]])
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    about_x = np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])
    return about_z @ about_x
