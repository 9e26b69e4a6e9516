"""Cells of VTK by number, in meshio's names and order of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from femadj.errors import MeshFileError
from femadj.io.raw import IntArray, RawBlock

# number: (name, nodes; 0 for any number)
TYPES: Mapping[int, tuple[str, int]] = MappingProxyType(
    {
        0: ("empty", 0), 1: ("vertex", 1), 2: ("polyvertex", 0), 3: ("line", 2), 4: ("polyline", 0),
        5: ("triangle", 3), 6: ("triangle_strip", 0), 7: ("polygon", 0), 8: ("pixel", 4), 9: ("quad", 4),
        10: ("tetra", 4), 11: ("voxel", 8), 12: ("hexahedron", 8), 13: ("wedge", 6), 14: ("pyramid", 5),
        15: ("pentagonal_prism", 10), 16: ("hexagonal_prism", 12), 21: ("line3", 3), 22: ("triangle6", 6),
        23: ("quad8", 8), 24: ("tetra10", 10), 25: ("hexahedron20", 20), 26: ("wedge15", 15), 27: ("pyramid13", 13),
        28: ("quad9", 9), 29: ("hexahedron27", 27), 30: ("quad6", 6), 31: ("wedge12", 12), 32: ("wedge18", 18),
        33: ("hexahedron24", 24), 34: ("triangle7", 7), 35: ("line4", 4), 36: ("polygon_quadratic", 0),
        37: ("pyramid19", 19), 41: ("convex_point_set", 0), 42: ("polyhedron", 0),
        51: ("curve_parametric", 0), 60: ("VTK_HIGHER_ORDER_CURVE", 0), 61: ("VTK_HIGHER_ORDER_TRIANGLE", 0),
        62: ("VTK_HIGHER_ORDER_QUADRILATERAL", 0), 64: ("VTK_HIGHER_ORDER_TETRAHEDRON", 0),
        65: ("VTK_HIGHER_ORDER_WEDGE", 0), 66: ("VTK_HIGHER_ORDER_PYRAMID", 0), 67: ("VTK_HIGHER_ORDER_HEXAHEDRON", 0),
        68: ("VTK_LAGRANGE_CURVE", 0), 69: ("VTK_LAGRANGE_TRIANGLE", 0), 70: ("VTK_LAGRANGE_QUADRILATERAL", 0),
        71: ("VTK_LAGRANGE_TETRAHEDRON", 0), 72: ("VTK_LAGRANGE_HEXAHEDRON", 0), 73: ("VTK_LAGRANGE_WEDGE", 0),
        74: ("VTK_LAGRANGE_PYRAMID", 0), 75: ("VTK_BEZIER_CURVE", 0), 76: ("VTK_BEZIER_TRIANGLE", 0),
        77: ("VTK_BEZIER_QUADRILATERAL", 0), 78: ("VTK_BEZIER_TETRAHEDRON", 0), 79: ("VTK_BEZIER_HEXAHEDRON", 0),
        80: ("VTK_BEZIER_WEDGE", 0), 81: ("VTK_BEZIER_PYRAMID", 0),
    }
)  # fmt: skip

# cells of a general type that are those of a common one: (number, nodes) -> name
_COMMON: Mapping[tuple[int, int], str] = MappingProxyType(
    {
        (2, 1): "vertex", (4, 2): "line", (7, 3): "triangle", (7, 4): "quad", (6, 3): "triangle",
        (68, 2): "line", (68, 3): "line3", (69, 3): "triangle", (69, 6): "triangle6", (70, 4): "quad", (70, 9): "quad9",
        (71, 4): "tetra", (71, 10): "tetra10", (72, 8): "hexahedron", (73, 6): "wedge", (74, 5): "pyramid",
    }
)  # fmt: skip

# nodes of pixels and voxels run along the axes, not around; wedges are seen from the other side
_ORDERS: Mapping[str, tuple[str, tuple[int, ...]]] = MappingProxyType(
    {
        "pixel": ("quad", (0, 1, 3, 2)),
        "voxel": ("hexahedron", (0, 1, 3, 2, 4, 5, 7, 6)),
        "wedge": ("wedge", (0, 2, 1, 3, 5, 4)),
    }
)


def blocks_of(
    connectivity: IntArray, ends: IntArray, types: IntArray, n_points: int, path: Path
) -> tuple[list[RawBlock], list[IntArray]]:
    """Blocks by type in order of first appearance, and the numbers of their cells in the file.

    Parameters
    ----------
    connectivity : (n,) int
        Nodes of all cells.
    ends : (n_cells,) int
        Where the nodes of each cell end.
    types : (n_cells,) int
    n_points : int
    path : Path
        For messages.

    Raises
    ------
    MeshFileError
        For nodes that do not exist, and cells that do not have the nodes of their type.
    """
    uniform = _uniform(connectivity, ends, types)
    sizes = np.full(1, uniform) if uniform else np.diff(ends, prepend=0)
    if len(ends) != len(types) or (len(ends) and (sizes.min() < 0 or ends[-1] != len(connectivity))):
        raise MeshFileError(
            f"{path}: {len(types)} types and {len(ends)} offsets up to {ends[-1] if len(ends) else 0} do not fit "
            f"{len(connectivity)} nodes of cells; the file is damaged"
        )
    if len(connectivity) and (connectivity.min() < 0 or connectivity.max() >= n_points):
        bad = connectivity[(connectivity < 0) | (connectivity >= n_points)][0]
        cell = int(np.searchsorted(ends, np.flatnonzero(connectivity == bad)[0], side="right"))
        raise MeshFileError(f"{path}: cell {cell} refers to node {bad}, and there are {n_points}; the file is damaged")
    if uniform:
        name, order = _named(int(types[0]), int(sizes[0]), 0, path)
        nodes = connectivity.reshape(len(types), -1)
        return [RawBlock(name, nodes if order is None else nodes[:, order], np.arange(len(types)))], [
            np.arange(len(types))
        ]
    keys = types.astype(np.int64) * (1 << 32) + sizes
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) > 1000:
        raise MeshFileError(f"{path}: cells of {len(first)} kinds; the file is damaged")
    blocks, cells = [], []
    for k in np.argsort(first).tolist():
        rows = np.flatnonzero(group.ravel() == k)
        size = int(sizes[rows[0]])
        if not size:
            continue
        name, order = _named(int(types[rows[0]]), size, int(rows[0]), path)
        nodes = connectivity[(ends[rows] - size)[:, None] + (np.arange(size) if order is None else order)]
        blocks.append(RawBlock(name, nodes, rows))
        cells.append(rows)
    return blocks, cells


def _uniform(connectivity: IntArray, ends: IntArray, types: IntArray) -> int:
    """Nodes of every cell, where all cells are of one type and size; else zero."""
    if not len(types) or len(types) != len(ends) or len(connectivity) % len(types):
        return 0
    size = len(connectivity) // len(types)
    same = ends[0] == size and ends[-1] == len(connectivity) and (ends[1:] - ends[:-1] == size).all()
    return size if same and (types == types[0]).all() else 0


def _named(number: int, size: int, cell: int, path: Path) -> tuple[str, npt.NDArray[np.int64] | None]:
    """Name of cells of a type and number of nodes, and the order of their nodes where it is another."""
    if (number, size) in _COMMON:
        return _COMMON[number, size], None
    name, count = TYPES.get(number, (f"VTK type {number}", 0))
    if count and count != size:
        raise MeshFileError(f"{path}: cell {cell} of type {name} (VTK {number}) has {size} nodes, not {count}")
    if name in _ORDERS:
        name, order = _ORDERS[name]
        return name, np.array(order)
    return (name if count else f"{name}{size}"), None
