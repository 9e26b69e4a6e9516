"""Groups from arrays of a file: integers of cells and nodes, and those in which scikit-fem keeps its groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import skfem
from skfem.io.meshio import HEX_MAPPING

from femadj.io.raw import IntArray, RawBlock, RawGroup
from femadj.mesh.reference import CELL_TYPES

MANY = 100
"""An integer array with more values than this numbers things rather than groups them."""

_REFERENCE = {
    "triangle": skfem.MeshTri1, "quad": skfem.MeshQuad1, "tetra": skfem.MeshTet1, "hexahedron": skfem.MeshHex1,
    "wedge": skfem.MeshWedge1,
}  # fmt: skip


def by_value(name: str, values: IntArray, what: str, dropped: list[str]) -> list[tuple[int, IntArray]]:
    """Values of an array that make groups, and where each stands; minus one stands for none.

    Zero stands for none too in ``gmsh:physical``.
    """
    if not len(values):
        return []
    low, high = int(values.min()), int(values.max())
    nothing = (-1, 0) if name == "gmsh:physical" else (-1,)
    if low == high:
        return [] if low in nothing else [(low, np.arange(len(values)))]
    if high - low < 2**15:
        values = (values - low).astype(np.int16)  # sorted by counting
        low_value = low
    else:
        low_value = 0
    order = np.argsort(values, kind="stable")
    found = values[order]
    starts = np.flatnonzero(np.concatenate([[True], found[1:] != found[:-1]]))
    if len(starts) > MANY:
        dropped.append(f"{what} {name!r}: its {len(starts)} values number things rather than group them")
        return []
    rows = np.split(order, starts[1:])
    pairs = [(int(found[s]) + low_value, r) for s, r in zip(starts.tolist(), rows, strict=True)]
    return [(value, r) for value, r in pairs if value not in nothing]


def cell_groups(
    name: str, per_block: Sequence[npt.NDArray[np.generic]], blocks: Sequence[RawBlock], dropped: list[str]
) -> list[RawGroup]:
    """Groups ``name:value`` of an array with one integer per cell, given by block."""
    values = [np.asarray(a) for a in per_block]
    if any(v.dtype.kind not in "iu" or (v.ndim > 1 and v.size != len(v)) for v in values):
        dropped.append(f"cell data {name!r}: not one integer per cell")
        return []
    if len(values) != len(blocks) or any(len(v) != len(b.nodes) for v, b in zip(values, blocks, strict=True)):
        dropped.append(f"cell data {name!r}: some cells have none")
        return []
    flat = [_signed(v.ravel()) for v in values]
    if name.startswith(("skfem:s:", "skfem:b:")):
        return _of_skfem(name, flat, blocks, dropped)
    starts = np.cumsum([0, *(len(v) for v in flat)])
    groups = []
    every = flat[0] if len(flat) == 1 else np.concatenate([np.empty(0, np.int64), *flat])
    for value, rows in by_value(name, every, "cell data", dropped):
        cuts = np.searchsorted(rows, starts)
        cells = {i: rows[cuts[i] : cuts[i + 1]] - starts[i] for i in range(len(flat)) if cuts[i + 1] > cuts[i]}
        groups.append(RawGroup(f"{name}:{value}", f"cell data {name!r} of {value}", cells=cells))
    return groups


def point_groups(name: str, values: npt.NDArray[np.generic], n_points: int, dropped: list[str]) -> list[RawGroup]:
    """Groups ``name:value`` of an array with one integer per node."""
    if values.dtype.kind not in "iu" or (values.ndim > 1 and values.size != len(values)):
        dropped.append(f"point data {name!r}: not one integer per node")
        return []
    if len(values) != n_points:
        dropped.append(f"point data {name!r}: some nodes have none")
        return []
    found = by_value(name, _signed(values.ravel()), "point data", dropped)
    return [RawGroup(f"{name}:{v}", f"point data {name!r} of {v}", nodes=rows) for v, rows in found]


def _signed(values: npt.NDArray[np.generic]) -> IntArray:
    """Integers with a sign; what does not fit stands for a number of its own all the same."""
    return values.astype(np.int64)


def _of_skfem(name: str, values: Sequence[IntArray], blocks: Sequence[RawBlock], dropped: list[str]) -> list[RawGroup]:
    """A subdomain (cells that are not zero) or boundary (a bit for each facet of a cell) that scikit-fem wrote."""
    own = name[8:]
    if name.startswith("skfem:s:"):
        cells = {i: np.flatnonzero(v) for i, v in enumerate(values)}
        return [RawGroup(own, "subdomain of scikit-fem", cells={i: r for i, r in cells.items() if len(r)})]
    facets = []
    for block, bits in zip(blocks, values, strict=True):
        if not bits.any():
            continue
        shape = CELL_TYPES[block.type].shape if block.type in CELL_TYPES else block.type
        if shape not in _REFERENCE:
            dropped.append(f"cell data {name!r}: scikit-fem's facets of {block.type} cells are not known")
            return []
        for k, corners in enumerate(_REFERENCE[shape].elem.refdom.facets):
            place = [HEX_MAPPING[:8].index(c) for c in corners] if shape == "hexahedron" else corners
            rows = np.flatnonzero(bits & (1 << k))
            if len(rows):
                # facets of scikit-fem's wedges are padded with a corner twice
                facets.append(block.nodes[rows][:, list(dict.fromkeys(place))])
    return [RawGroup(own, "boundary of scikit-fem", facets=tuple(facets))]
