"""Cell types by meshio's names, also those that cannot be integrated, and node orders of several programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from femadj.mesh.reference import CELL_TYPES

_SHAPES: tuple[tuple[str, int], ...] = (
    ("vertex", 0), ("polyvertex", 0), ("line", 1), ("polyline", 1), ("triangle", 2), ("quad", 2), ("polygon", 2),
    ("tetra", 3), ("hexahedron", 3), ("wedge", 3), ("pyramid", 3), ("polyhedron", 3),
    ("triangle_strip", 2), ("polygon_quadratic", 2), ("curve_parametric", 1),
)  # fmt: skip

_LAGRANGE: Mapping[str, int] = MappingProxyType(
    {"CURVE": 1, "TRIANGLE": 2, "QUADRILATERAL": 2, "TETRAHEDRON": 3, "HEXAHEDRON": 3, "WEDGE": 3, "PYRAMID": 3}
)

EDGES_LAST = (*range(12), 16, 17, 18, 19, 12, 13, 14, 15)
"""Place in the file of every node of a ``hexahedron20``, where the file lists the upright edges before those of the
top (Nastran, Exodus)."""

WEDGE_EDGES_LAST = (*range(9), 12, 13, 14, 9, 10, 11)
"""The same for ``wedge15``."""


def dimension(name: str) -> int:
    """Dimension of a cell type, supported or not; those of unknown shape count as solids, so that none is lost."""
    if name in CELL_TYPES:
        return CELL_TYPES[name].dim
    shape = re.sub(r"\d+$", "", name)
    for known, dim in _SHAPES:
        if shape == known:
            return dim
    last = name.rpartition("_")[2].rstrip("0123456789").upper()
    return _LAGRANGE.get(last, 3)


def n_corners(name: str) -> int:
    """Corners of lines, triangles and quadrilaterals of any order; one for anything else."""
    for shape, count in (("line", 2), ("triangle", 3), ("quad", 4)):
        if name.startswith(shape):
            return count
    return 1
