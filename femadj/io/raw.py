"""The common ground of all readers: cells and groups as the file has them, and their way into a mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, listing
from femadj.errors import FemadjError, MeshFileError, UnsupportedCellError
from femadj.io.cells import dimension, n_corners
from femadj.io.report import GroupRecord, ImportReport
from femadj.mesh import Mesh
from femadj.mesh.reference import INTEGRATED_CELLS
from femadj.mesh.topology import CellBlock, distinct, facet_keys, match_rows, padded_key

IntArray = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class RawBlock:
    """Cells of one type, of any dimension, supported or not.

    Attributes
    ----------
    type : str
        meshio's name.
    nodes : (n, k) integers
        Rows of the points, in meshio's node order.
    ids : (n,) integers or None
        Ids of the cells in the file, where it has any.
    """

    type: str
    nodes: IntArray
    ids: IntArray | None = None


@dataclass(frozen=True, eq=False)
class RawGroup:
    """A named set of the file.

    Attributes
    ----------
    name : str
    origin : str
        What it is in the file, for the report.
    cells : mapping of int to (m,) int64
        Rows within the blocks, by number of the block.
    nodes : (m,) int64
        Rows of the points.
    facets : tuple of (m, k) int64
        Corner nodes (rows of the points) of facets.
    """

    name: str
    origin: str
    cells: Mapping[int, IntArray] = field(default_factory=dict)
    nodes: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    facets: tuple[IntArray, ...] = ()


@dataclass(frozen=True, eq=False)
class RawMesh:
    """A mesh file as read.

    Attributes
    ----------
    format : str
    points : (n, 2) or (n, 3) float64
    blocks : sequence of RawBlock
    groups : sequence of RawGroup
    node_ids : (n,) int64 or None
    dropped, warnings, remarks : tuple of str
        What the reader left out, what may be wrong, and what else it had to say.
    merge_repeated : bool
        Whether the format lists a cell once for each group it belongs to.
    """

    format: str
    points: FloatArray
    blocks: Sequence[RawBlock]
    groups: Sequence[RawGroup]
    node_ids: IntArray | None
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    merge_repeated: bool = False
    remarks: tuple[str, ...] = ()


class IdTable:
    """Rows of the ids that a file gives its nodes or elements.

    Raises
    ------
    MeshFileError
        Where an id occurs twice.
    """

    def __init__(self, ids: IntArray, what: str, path: Path) -> None:
        self._what = what
        self._size = len(ids)
        ascending = bool((ids[1:] > ids[:-1]).all())
        self._order = None if ascending else np.argsort(ids, kind="stable")
        self._sorted = ids if self._order is None else ids[self._order]
        twice = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        if len(twice):
            raise MeshFileError(f"{path}: {what} {listing(distinct(self._sorted[twice]))} occur more than once")
        self._first = int(self._sorted[0]) if len(ids) else 0
        span = int(self._sorted[-1]) - self._first + 1 if len(ids) else 0
        self._direct: npt.NDArray[np.int32] | None = None
        if span <= 4 * len(ids) + 1000 and len(ids) < 2**31:  # few gaps: rows by id
            self._direct = np.full(span + 1, -1, dtype=np.int32)
            self._direct[self._sorted - self._first] = np.arange(len(ids)) if self._order is None else self._order

    def __len__(self) -> int:
        return self._size

    def find(self, ids: npt.ArrayLike) -> IntArray:
        """Rows of the ids, -1 for those that do not exist."""
        wanted = np.asarray(ids)
        if self._size == 0:
            return np.full(wanted.shape, -1, dtype=np.int64)
        if self._direct is not None:
            last = len(self._direct) - 1  # nothing has this place
            at = wanted - np.int64(self._first)
            at = np.where((at < 0) | (at > last), last, at)
            return self._direct[at]
        at = np.minimum(np.searchsorted(self._sorted, wanted), self._size - 1)
        rows = at if self._order is None else self._order[at]
        return np.where(self._sorted[at] == wanted, rows, -1).astype(np.int64)

    def between(self, first: int, last: int, step: int) -> tuple[IntArray, int]:
        """Rows of the ids ``first, first + step, ...`` up to ``last`` that exist, and how many do not."""
        low, high = np.searchsorted(self._sorted, [first, last + 1])
        chosen = np.arange(low, high)
        if step > 1:
            chosen = chosen[(self._sorted[low:high] - first) % step == 0]
        rows = chosen if self._order is None else self._order[chosen]
        return rows.astype(np.int64), (last - first) // step + 1 - len(rows)

    def rows(self, ids: npt.NDArray[Any], user: str) -> IntArray:
        """Rows of ids that must exist, a block at a time.

        Raises
        ------
        MeshFileError
            Naming those that do not, and ``user``, which refers to them.
        """
        result = np.empty(ids.shape, dtype=np.int32 if self._size < 2**31 else np.int64)
        for start in range(0, len(ids), 1 << 16):
            part = ids[start : start + (1 << 16)]
            rows = self.find(part)
            if rows.size and rows.min() < 0:
                missing = distinct(part[rows < 0])
                raise MeshFileError(f"{user} refer to {self._what} {listing(missing)}, which do not exist")
            result[start : start + (1 << 16)] = rows
        return result


class Budget:
    """Members that all groups of a file may have together: ten million, and twenty times the size of its mesh.

    A line of some bytes can ask for a group of everything, so that the groups of a small file could fill any memory.
    """

    def __init__(self, size: int) -> None:
        self._left = 10_000_000 + 20 * size

    def spend(self, count: int, where: str) -> None:
        """Take so many members.

        Raises
        ------
        MeshFileError
            When there are too many.
        """
        self._left -= count
        if self._left < 0:
            raise MeshFileError(
                f"{where}: the groups of the file, up to here, have many times as many members as its mesh has nodes "
                "and elements; this is not read"
            )


def corners(block: RawBlock) -> IntArray:
    """Corner nodes of lines, triangles and quadrilaterals of any order."""
    return block.nodes[:, : n_corners(block.type)]


@dataclass(frozen=True, eq=False)
class _Solids:
    """The cells of the highest dimension, merged by type.

    ``ids[i]`` are the global cell ids of raw block ``i``.
    """

    blocks: list[CellBlock]
    ids: dict[int, IntArray]
    repeated: int


def _merged(raw: RawMesh, dims: Sequence[int], dim: int) -> _Solids:
    """One block per cell type, in order of first appearance; repeated cells once where the format repeats them."""
    types = list(dict.fromkeys(b.type for b, d in zip(raw.blocks, dims, strict=True) if d == dim and len(b.nodes)))
    keys = np.empty(0, np.uint64)
    if raw.merge_repeated:  # random keys of the nodes: their sums find equal cells in one sort
        keys = np.random.default_rng(0).integers(0, 2**63, len(raw.points), dtype=np.uint64)
    blocks, ids, repeated, offset = [], {}, 0, 0
    for cell_type in types:
        members = [i for i, b in enumerate(raw.blocks) if b.type == cell_type]
        nodes = raw.blocks[members[0]].nodes
        if len(members) > 1:
            nodes = np.vstack([raw.blocks[i].nodes for i in members])
        new: IntArray = np.arange(offset, offset + len(nodes), dtype=np.int32)
        if raw.merge_repeated:
            # the order of nodes counts: only cells written twice alike are one and the same
            places = 2 * np.arange(nodes.shape[1], dtype=np.uint64) + np.uint64(1)
            sums = (keys[nodes] * places).sum(axis=1, dtype=np.uint64)
            _, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
            kept = np.sort(first)
            new = np.searchsorted(kept, first[inverse.ravel()]) + offset
            repeated += len(nodes) - len(kept)
            nodes = nodes[kept]
        starts = np.cumsum([0, *(len(raw.blocks[i].nodes) for i in members)])
        for number, i in enumerate(members):
            ids[i] = new[starts[number] : starts[number + 1]]
        offset += len(nodes)
        blocks.append(CellBlock(cell_type, _read_only(np.ascontiguousarray(nodes, dtype=np.int32))))
    return _Solids(blocks, ids, repeated)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array of this package's own making, which the mesh then need not copy."""
    array.setflags(write=False)
    return array


def require_supported(points: FloatArray, blocks: Sequence[RawBlock], path: Path) -> None:
    """Refuse files whose cells of the highest dimension cannot all be integrated.

    Raises
    ------
    UnsupportedCellError
        With type, number and place.
    """
    dims = [dimension(b.type) for b in blocks]
    dim = max((d for b, d in zip(blocks, dims, strict=True) if len(b.nodes)), default=0)
    found: dict[str, list[int]] = {}
    for i, block in enumerate(blocks):
        if dims[i] == dim and dim > 1 and len(block.nodes) and block.type not in INTEGRATED_CELLS:
            found.setdefault(block.type, []).append(i)
    if not found:
        return
    parts = []
    for cell_type, members in found.items():
        count = sum(len(blocks[i].nodes) for i in members)
        first = blocks[members[0]]
        centre = points[first.nodes[0]].mean(axis=0)
        name = "" if first.ids is None else f" is element {first.ids[0]},"
        where = ", ".join(f"{x:.6g}" for x in centre)
        parts.append(f"{count} cells of type {cell_type!r} (the first{name} at ({where}))")
    raise UnsupportedCellError(
        f"{path}: {'; '.join(parts)} are not supported; supported are: {', '.join(INTEGRATED_CELLS)}"
    )


class _Groups:
    """Collects the groups under distinct names."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, Any]] = {"node": {}, "facet": {}, "cell": {}}
        self.origins: dict[tuple[str, str], str] = {}
        self.renamed: list[str] = []
        self._numbers: dict[tuple[str, str], int] = {}

    def add(self, kind: str, name: str, origin: str, value: Any) -> None:
        known = self.groups[kind]
        new, number = name, self._numbers.get((kind, name), 1)
        while new in known:
            number += 1
            new = f"{name}_{number}"
        self._numbers[kind, name] = number
        if new != name:
            self.renamed.append(
                f"{kind} group {name!r} ({origin}) is now {new!r}: {self.origins[kind, name]} has the name already"
            )
        known[new] = value
        self.origins[kind, new] = origin

    def shared_names(self) -> list[str]:
        """Remarks on names that node groups share with other groups."""
        return [
            f"the name {name!r} is that of a node group and of a {kind} group; where nodes are asked for, "
            "the node group is taken"
            for name in self.groups["node"]
            for kind in ("facet", "cell")
            if name in self.groups[kind]
        ]


def build(raw: RawMesh, path: Path) -> tuple[Mesh, ImportReport]:
    """Turn a file as read into a mesh and its report.

    Raises
    ------
    MeshFileError
        Without any plane or solid cell.
    UnsupportedCellError
        For cells that cannot be integrated: type, number and place.
    InvalidMeshError, TangledMeshError
        From the mesh; a note names the file.
    """
    dims = [dimension(b.type) for b in raw.blocks]
    dim = max((d for b, d in zip(raw.blocks, dims, strict=True) if len(b.nodes)), default=0)
    if dim < 2:
        raise MeshFileError(
            f"{path} holds no plane or solid cells"
            + (": only lines and points" if raw.blocks else "")
            + (f", and {len(raw.points)} nodes" if len(raw.points) else "")
        )
    require_supported(raw.points, raw.blocks, path)
    solids = _merged(raw, dims, dim)
    dropped = list(raw.dropped)
    if solids.repeated:
        dropped.append(f"{solids.repeated} repetitions of cells that belong to several groups")

    used = np.zeros(len(raw.points), dtype=bool)
    for block in solids.blocks:
        used[block.nodes.ravel()] = True
    new = np.cumsum(used, dtype=np.int32) - np.int32(1)
    if not used.all():
        orphans = np.flatnonzero(~used)
        ids = orphans if raw.node_ids is None else raw.node_ids[orphans]
        dropped.append(f"{len(orphans)} nodes that belong to no cell of the mesh (ids {listing(ids)})")

    groups = _collect(raw, dims, dim, solids, used, new, dropped)
    every = bool(used.all())
    node_ids = np.arange(len(raw.points)) if raw.node_ids is None else raw.node_ids
    node_ids = node_ids if every else node_ids[used]
    if raw.points.flags.owndata:
        _read_only(raw.points)
    try:
        mesh = Mesh(
            raw.points if every else _read_only(raw.points[used]),
            [(b.type, b.nodes if every else _read_only(new[b.nodes])) for b in solids.blocks],
            node_groups=groups.groups["node"],
            facet_groups=groups.groups["facet"],
            cell_groups=groups.groups["cell"],
            node_ids=_read_only(node_ids) if node_ids.flags.owndata else node_ids,
            cell_ids=_cell_ids(raw, solids),
        )
    except FemadjError as error:
        error.add_note(f"while importing {path}")
        raise
    return mesh, _report(raw, path, mesh, groups, dropped)


def _cell_ids(raw: RawMesh, solids: _Solids) -> IntArray | None:
    """Ids that the file gives the cells of the mesh; None where it gives none."""
    count = sum(len(b) for b in solids.blocks)
    members = [raw.blocks[i] for i in solids.ids]
    if any(b.ids is None for b in members):
        return None
    if len(members) == 1 and not solids.repeated:
        result = np.asarray(members[0].ids, dtype=np.int64)
    else:
        result = np.empty(count, dtype=np.int64)
        for block, cells in zip(members, solids.ids.values(), strict=True):
            result[cells[::-1]] = np.asarray(block.ids)[::-1]  # of repetitions the first
    if count and result[0] == 0 and result[-1] == count - 1 and (result[1:] > result[:-1]).all():
        return None  # the numbers that the mesh gives them anyway
    return _read_only(result) if result.flags.owndata else result


def _collect(
    raw: RawMesh,
    dims: Sequence[int],
    dim: int,
    solids: _Solids,
    used: npt.NDArray[np.bool_],
    new: IntArray,
    dropped: list[str],
) -> _Groups:
    """Sort the groups of the file into node, facet and cell groups of the mesh."""
    result = _Groups()
    grouped = {i: np.zeros(len(b.nodes), dtype=bool) for i, b in enumerate(raw.blocks) if dims[i] < dim}
    sides = _sides(raw, dims, dim, solids)
    for group, (facets, on) in zip(raw.groups, sides, strict=True):
        cells, nodes = [], [group.nodes]
        for i, rows in group.cells.items():
            if dims[i] < dim:
                grouped[i][rows] = True
            if len(rows) == 0:
                continue
            if dims[i] == dim:
                cells.append(solids.ids[i][rows])
            elif dims[i] < dim - 1:
                nodes.append(raw.blocks[i].nodes[rows].ravel())
        label = f"group {group.name!r} ({group.origin})"
        if cells:
            result.add("cell", group.name, group.origin, distinct(np.concatenate(cells)))
        if facets:
            lost = sum(int((~o).sum()) for o in on)
            if lost:
                dropped.append(f"{lost} facets of {label} that belong to no cell of the mesh")
            kept = [new[f[o]] for f, o in zip(facets, on, strict=True) if o.any()]
            if kept:
                result.add("facet", group.name, group.origin, kept)
        rows = distinct(np.concatenate(nodes))
        if len(rows):
            inside = rows[used[rows]]
            if len(inside) < len(rows):
                dropped.append(f"{len(rows) - len(inside)} nodes of {label} that belong to no cell of the mesh")
            if len(inside):
                result.add("node", group.name, group.origin, new[inside])
        if not cells and not facets and not len(rows):
            dropped.append(f"{label}: it is empty")
    lost_cells: dict[str, int] = {}
    for i, mask in grouped.items():
        lost_cells[raw.blocks[i].type] = lost_cells.get(raw.blocks[i].type, 0) + int((~mask).sum())
    dropped += [f"{n} {name} cells of lower dimension without a group" for name, n in lost_cells.items() if n]
    return result


def _sides(
    raw: RawMesh, dims: Sequence[int], dim: int, solids: _Solids
) -> list[tuple[list[IntArray], list[npt.NDArray[np.bool_]]]]:
    """Facets of every group, by their corners, and which of them belong to a cell of the mesh."""
    facets = [
        [*g.facets, *(corners(raw.blocks[i])[rows] for i, rows in g.cells.items() if dims[i] == dim - 1 and len(rows))]
        for g in raw.groups
    ]
    every = [f for of_group in facets for f in of_group]
    if not every:
        return [([], []) for _ in facets]
    marked = np.zeros(len(raw.points), dtype=bool)
    for found in every:
        marked[found.ravel()] = True
    outline = facet_keys(solids.blocks, marked)[0]
    on = match_rows(outline, np.vstack([padded_key(f) for f in every]))[0] >= 0
    masks = iter(np.split(on, np.cumsum([len(f) for f in every])[:-1]))
    return [(of_group, [next(masks) for _ in of_group]) for of_group in facets]


def _report(raw: RawMesh, path: Path, mesh: Mesh, groups: _Groups, dropped: Sequence[str]) -> ImportReport:
    sizes = {
        "node": {n: len(v) for n, v in mesh.node_groups.items()},
        "facet": {n: len(v) for n, v in mesh.facet_groups.items()},
        "cell": {n: len(v) for n, v in mesh.cell_groups.items()},
    }
    records = tuple(
        GroupRecord(name, kind, size, groups.origins[kind, name])
        for kind, known in sizes.items()
        for name, size in known.items()
    )
    low, high = mesh.points.min(axis=0), mesh.points.max(axis=0)
    return ImportReport(
        path=path,
        format=raw.format,
        dim=mesh.dim,
        n_nodes=mesh.n_nodes,
        n_cells=MappingProxyType({b.type: len(b) for b in mesh.blocks}),
        extent=tuple((float(a), float(b)) for a, b in zip(low, high, strict=True)),
        groups=records,
        renamed=tuple(groups.renamed),
        dropped=tuple(dropped),
        node_ids="zero-based positions in the file (it has no ids)" if raw.node_ids is None else "ids of the file",
        warnings=raw.warnings,
        remarks=(*raw.remarks, *groups.shared_names()),
    )
