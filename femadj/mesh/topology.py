"""Cell blocks and facets: what a mesh is made of, below the mesh itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import array_of, frozen
from femadj.base.pickling import Picklable
from femadj.errors import InvalidMeshError
from femadj.mesh.reference import CellType, cell_type

IntArray = npt.NDArray[np.int64]


def distinct(ids: npt.NDArray[Any]) -> IntArray:
    """Ids in ascending order, each once; a sort is faster here than the hashing of ``numpy.unique``."""
    flat = ids.ravel()
    if len(flat) < 2:
        return flat.astype(np.int64)
    if not (flat[1:] > flat[:-1]).all():
        flat = np.sort(flat)
        flat = flat[np.concatenate([[True], flat[1:] != flat[:-1]])]
    return flat.astype(np.int64)


@dataclass(frozen=True, eq=False)
class CellBlock(Picklable):
    """Cells of one type.

    Attributes
    ----------
    type : str
        meshio's cell type name.
    nodes : (n_cells, n_nodes_per_cell) int32
        Node indices in meshio's order.
    """

    type: str
    nodes: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def reference(self) -> CellType:
        """The reference cell."""
        return cell_type(self.type)


@dataclass(frozen=True, eq=False)
class FacetSet(Picklable):
    """Facets as (cell, local facet) pairs.

    Attributes
    ----------
    cells : (n_facets,) int64
        Global cell ids; where two cells share a facet, the one with the lower id.
    local : (n_facets,) int64
        Local facet numbers in the reference cell.
    interior : (n_facets,) bool
        Whether another cell of the mesh shares the facet.
    """

    cells: IntArray
    local: IntArray
    interior: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.cells)


# node order of a facet seen from its other side
_REVERSED: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "line": (1, 0),
        "line3": (1, 0, 2),
        "triangle": (0, 2, 1),
        "triangle6": (0, 2, 1, 5, 4, 3),
        "quad": (0, 3, 2, 1),
        "quad8": (0, 3, 2, 1, 7, 6, 5, 4),
        "quad9": (0, 3, 2, 1, 7, 6, 5, 4, 8),
    }
)


def reversed_facets(name: str, nodes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Facets with their corners running the other way."""
    return nodes[:, list(_REVERSED[name])]


class FacetPlaces(NamedTuple):
    """Facets that stand at the same place of cells of the same block.

    Attributes
    ----------
    block : CellBlock
    number : int
        Local facet number in the reference cell.
    at : (n,) int64
        Positions of the facets in the list they come from.
    rows : (n,) int64
        Their cells, counted within the block.
    """

    block: CellBlock
    number: int
    at: IntArray
    rows: IntArray

    @property
    def type(self) -> str:
        """Cell type of the facets."""
        return self.block.reference.facet_types[self.number]

    @property
    def nodes(self) -> npt.NDArray[np.int32]:
        """Nodes of the facets, in the order of the reference cell."""
        return self.block.nodes[self.rows][:, list(self.block.reference.facets[self.number])]

    @property
    def corners(self) -> npt.NDArray[np.int32]:
        """Corner nodes of the facets."""
        return self.nodes[:, : cell_type(self.type).n_corners]


def facets_by_place(blocks: Sequence[CellBlock], cells: IntArray, local: IntArray) -> Iterator[FacetPlaces]:
    """Sort facets, given as global cells and local facets, by block and local facet; empty places are left out."""
    start = 0
    for block in blocks:
        inside = (cells >= start) & (cells < start + len(block))
        for number in range(len(block.reference.facets)):
            at = np.flatnonzero(inside & (local == number))
            if len(at):
                yield FacetPlaces(block, number, at, cells[at] - start)
        start += len(block)


def overlapping_cells(blocks: Sequence[CellBlock], orientation: npt.NDArray[np.float64]) -> IntArray:
    """Pairs of cells that lie on the same side of the facet they share, shape ``(n, 2)``.

    Cells may be numbered in either orientation, so a negative Jacobian alone does not tell a cell that is folded over.
    Two cells on opposite sides of a facet see its corners run in opposite directions once each is turned by the sign of
    its Jacobian.
    """
    # a facet that two cells see alike is there twice: one sort of sums of random numbers finds candidates
    numbers = np.random.default_rng(0).integers(0, 2**63, 1 + max(int(b.nodes.max()) for b in blocks), dtype=np.uint64)
    sums, cells, corners, start = [], [], [], 0
    for block in blocks:
        columns = np.ascontiguousarray(block.nodes.T)
        of_node = [numbers[column] for column in columns[: cell_type(block.type).n_corners]]
        turned = orientation[start : start + len(block)] < 0
        for number, facet in enumerate(block.reference.facets):
            local = list(facet[: cell_type(block.reference.facet_types[number]).n_corners])
            total = sum((of_node[k] for k in local[1:]), start=of_node[local[0]])
            sums.append(np.where(_ascends(columns[local]) ^ turned, total, ~total))
            cells.append(np.arange(start, start + len(block)))
            corners.append(columns[local].T)
        start += len(block)
    each = np.concatenate(sums)
    in_order = np.sort(each)
    if not (in_order[1:] == in_order[:-1]).any():  # sorting alone is several times as fast as finding the order
        return np.empty((0, 2), dtype=np.int64)
    order, cell = np.argsort(each), np.concatenate(cells)
    alike = np.flatnonzero(each[order][1:] == each[order][:-1])
    keys = np.vstack([padded_key(of_facet) for of_facet in corners])
    pairs = np.column_stack([order[alike], order[alike + 1]])
    pairs = pairs[(keys[pairs[:, 0]] == keys[pairs[:, 1]]).all(axis=1)]
    return np.sort(cell[pairs], axis=1)


def _ascends(corners: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Whether corners ``(k, n)`` of facets, from the smallest on, run towards the smaller of its two neighbours."""
    if len(corners) == 2:
        return np.asarray(corners[0] < corners[1])
    if len(corners) == 3:
        a, b, c = corners
        return np.asarray((a < b) ^ (b < c) ^ (c < a) ^ True)  # two of the three hold, or one
    a, b, c, d = corners
    even = np.minimum(a, c) < np.minimum(b, d)
    return np.asarray((a < c) ^ (b < d) ^ even)


def match_rows(table: IntArray, wanted: IntArray) -> tuple[IntArray, IntArray]:
    """Find rows in a table of rows.

    Returns
    -------
    index : (n_wanted,)
        First row of the table equal to the wanted one, -1 where there is none.
    count : (n_wanted,)
        How many rows of the table are equal to it.
    """
    both = np.vstack([table, wanted])
    order = np.lexsort(both.T[::-1])
    new = np.ones(len(both), dtype=bool)
    new[1:] = (both[order][1:] != both[order][:-1]).any(axis=1)
    kind = np.empty(len(both), dtype=np.int64)
    kind[order] = np.cumsum(new) - 1
    n_kinds = int(new.sum())
    first = np.full(n_kinds, -1, dtype=np.int64)
    of_table = kind[: len(table)]
    first[of_table[::-1]] = np.arange(len(table))[::-1]
    count = np.bincount(of_table, minlength=n_kinds)
    of_wanted = kind[len(table) :]
    return first[of_wanted], count[of_wanted]


def matched_facets(
    corners: Mapping[str, list[IntArray]], blocks: Sequence[CellBlock], n_nodes: int
) -> dict[str, FacetSet]:
    """Find the cell and local facet of every facet of several groups, given by corner nodes.

    Raises
    ------
    InvalidMeshError
        For a facet that belongs to no cell.
    """
    marked = np.zeros(n_nodes, dtype=bool)
    for arrays in corners.values():
        for array in arrays:
            marked[array.ravel()] = True
    keys, cells, local = facet_keys(blocks, marked)
    order = np.argsort(cells, kind="stable")
    keys, cells, local = keys[order], cells[order], local[order]
    result = {}
    by_name = [np.vstack([np.empty((0, 4), np.int64), *(padded_key(a) for a in arrays)]) for arrays in corners.values()]
    cuts = np.cumsum([len(wanted) for wanted in by_name])[:-1]
    found = [np.split(values, cuts) for values in match_rows(keys, np.vstack(by_name))]  # all groups in one search
    for name, wanted, index, count in zip(corners, by_name, *found, strict=True):
        if (index < 0).any():
            nodes = [int(n) for n in wanted[np.flatnonzero(index < 0)[0]] if n >= 0]
            raise InvalidMeshError(f"facet group {name!r}: the facet with corner nodes {nodes} belongs to no cell")
        of_mesh, unique = np.unique(index, return_index=True)
        result[name] = FacetSet(frozen(cells[of_mesh]), frozen(local[of_mesh]), frozen(count[unique] > 1))
    return result


def padded_key(corners: npt.NDArray[np.integer]) -> IntArray:
    """Sorted corner nodes of facets, padded in front with -1 to four columns (a repeated corner counts once)."""
    key = np.full((len(corners), 4), -1, dtype=np.int64)
    key[:, 4 - corners.shape[1] :] = np.sort(corners, axis=1)
    repeated = key[:, 1:] == key[:, :-1]
    key[:, 1:][repeated] = -1
    return np.sort(key, axis=1) if repeated.any() else key


def facet_keys(
    blocks: Sequence[CellBlock], marked: npt.NDArray[np.bool_] | None = None
) -> tuple[IntArray, IntArray, IntArray]:
    """Sorted corner nodes, cell and local number of the facets of all cells (those with all corners marked).

    Returns
    -------
    keys : (n, 4) int64
        Sorted corner nodes, padded in front with -1.
    cells, local : (n,) int64
    """
    keys, cells, local = [np.empty((0, 4), np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    offset = 0
    for block in blocks:
        for number, facet in enumerate(block.reference.facets):
            kind = cell_type(block.reference.facet_types[number])
            corners = block.nodes[:, list(facet[: kind.n_corners])]
            at = np.arange(len(block)) if marked is None else np.flatnonzero(marked[corners].all(axis=1))
            keys.append(padded_key(corners[at]))
            cells.append(at + offset)
            local.append(np.full(len(at), number, dtype=np.int64))
        offset += len(block)
    return np.vstack(keys), np.concatenate(cells), np.concatenate(local)


def facet_corners(name: str, value: Any, dim: int, n_nodes: int) -> list[npt.NDArray[np.int64]]:
    """Normalise a facet group (one array of facet nodes, or a list of them) to arrays of corner nodes."""
    is_list = isinstance(value, (list, tuple)) and len(value) > 0 and array_of(value[0], name).ndim == 2
    arrays = [array_of(v, f"facet group {name!r}") for v in (value if is_list else [value])]
    corner_counts = {2: 2, 3: 2} if dim == 2 else {3: 3, 6: 3, 4: 4, 8: 4, 9: 4}
    result = []
    for array in arrays:
        if array.size == 0:
            continue
        if array.ndim != 2 or array.dtype.kind not in "iu" or array.shape[1] not in corner_counts:
            allowed = ", ".join(str(k) for k in corner_counts)
            raise InvalidMeshError(
                f"facet group {name!r} must be an integer array (n_facets, k) of facet nodes with k one of "
                f"{allowed}, not shape {array.shape} of {array.dtype}"
            )
        if array.min() < 0 or array.max() >= n_nodes:
            raise InvalidMeshError(f"facet group {name!r} refers to nodes outside 0..{n_nodes - 1}")
        result.append(array[:, : corner_counts[array.shape[1]]].astype(np.int64))
    return result
