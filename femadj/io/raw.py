"""The common ground of all readers: cells and groups as the file has them, and their way into a mesh."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import meshio
import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, listing
from femadj.errors import FemadjError, MeshFileError, UnsupportedCellError
from femadj.io.report import GroupRecord, ImportReport
from femadj.mesh import Mesh
from femadj.mesh.reference import CELL_TYPES, INTEGRATED_CELLS
from femadj.mesh.topology import CellBlock, facet_keys, match_rows, padded_key

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RawBlock:
    """Cells of one type, of any dimension, supported or not.

    Attributes
    ----------
    type : str
        meshio's name.
    nodes : (n, k) int64
        Rows of the points, in meshio's node order.
    ids : (n,) int64 or None
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
    dropped, warnings : tuple of str
        What the reader left out and had to say.
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


def numbers(text: str | bytes, dtype: type, where: str) -> npt.NDArray[Any]:
    """Read white-space separated numbers.

    Raises
    ------
    MeshFileError
        For anything that is not a number; ``where`` opens the message.
    """
    if not text.strip():
        return np.empty(0, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=dtype, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            kind = "integers" if dtype is np.int64 else "numbers"
            raise MeshFileError(f"{where}: expected {kind}, found something else") from error


class IdTable:
    """Rows of the ids that a file gives its nodes or elements.

    Raises
    ------
    MeshFileError
        Where an id occurs twice.
    """

    def __init__(self, ids: IntArray, where: str) -> None:
        self._where = where
        self._order = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]
        twice = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        if len(twice):
            raise MeshFileError(f"{where} {listing(np.unique(self._sorted[twice]))} occur more than once")

    def find(self, ids: npt.ArrayLike) -> IntArray:
        """Rows of the ids, -1 for those that do not exist."""
        wanted = np.asarray(ids, dtype=np.int64)
        if len(self._sorted) == 0:
            return np.full(wanted.shape, -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return np.where(self._sorted[at] == wanted, self._order[at], -1).astype(np.int64)

    def rows(self, ids: npt.ArrayLike, user: str) -> IntArray:
        """Rows of ids that must exist.

        Raises
        ------
        MeshFileError
            Naming those that do not, and ``user``, which refers to them.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        rows = self.find(wanted)
        missing = np.unique(wanted[rows < 0])
        if len(missing):
            raise MeshFileError(f"{user} refer to {self._where} {listing(missing)}, which do not exist")
        return rows


def dimension(cell_type: str) -> int:
    """Dimension of a cell type, supported or not."""
    if cell_type in CELL_TYPES:
        return CELL_TYPES[cell_type].dim
    return int(meshio.CellBlock(cell_type, np.empty((0, 1), dtype=np.int64)).dim)


def corners(block: RawBlock) -> IntArray:
    """Corner nodes of lines, triangles and quadrilaterals of any order."""
    for shape, count in (("line", 2), ("triangle", 3), ("quad", 4)):
        if block.type.startswith(shape):
            return block.nodes[:, :count]
    return block.nodes[:, :1]


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
    # random keys of the nodes: their sums find equal cells in one sort
    keys = np.random.default_rng(0).integers(0, 2**63, len(raw.points), dtype=np.uint64)
    blocks, ids, repeated, offset = [], {}, 0, 0
    for cell_type in types:
        members = [i for i, b in enumerate(raw.blocks) if b.type == cell_type]
        nodes = np.vstack([raw.blocks[i].nodes for i in members])
        new = np.arange(len(nodes))
        if raw.merge_repeated:
            # the order of nodes counts: only cells written twice alike are one and the same
            places = 2 * np.arange(nodes.shape[1], dtype=np.uint64) + np.uint64(1)
            sums = (keys[nodes] * places).sum(axis=1, dtype=np.uint64)
            _, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
            kept = np.sort(first)
            new = np.searchsorted(kept, first[inverse.ravel()])
            repeated += len(nodes) - len(kept)
            nodes = nodes[kept]
        starts = np.cumsum([0, *(len(raw.blocks[i].nodes) for i in members)])
        for number, i in enumerate(members):
            ids[i] = new[starts[number] : starts[number + 1]] + offset
        offset += len(nodes)
        blocks.append(CellBlock(cell_type, np.ascontiguousarray(nodes, dtype=np.int32)))
    return _Solids(blocks, ids, repeated)


def _require_supported(raw: RawMesh, dims: Sequence[int], dim: int, path: Path) -> None:
    found: dict[str, list[int]] = {}
    for i, block in enumerate(raw.blocks):
        if dims[i] == dim and len(block.nodes) and block.type not in INTEGRATED_CELLS:
            found.setdefault(block.type, []).append(i)
    if not found:
        return
    parts = []
    for cell_type, members in found.items():
        count = sum(len(raw.blocks[i].nodes) for i in members)
        first = raw.blocks[members[0]]
        centre = raw.points[first.nodes[0]].mean(axis=0)
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

    def add(self, kind: str, name: str, origin: str, value: Any) -> None:
        known = self.groups[kind]
        new, number = name, 1
        while new in known:
            number += 1
            new = f"{name}_{number}"
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
    _require_supported(raw, dims, dim, path)
    solids = _merged(raw, dims, dim)
    dropped = list(raw.dropped)
    if solids.repeated:
        dropped.append(f"{solids.repeated} repetitions of cells that belong to several groups")

    used = np.zeros(len(raw.points), dtype=bool)
    for block in solids.blocks:
        used[block.nodes.ravel()] = True
    new = np.cumsum(used) - 1
    if not used.all():
        orphans = np.flatnonzero(~used)
        ids = orphans if raw.node_ids is None else raw.node_ids[orphans]
        dropped.append(f"{len(orphans)} nodes that belong to no cell of the mesh (ids {listing(ids)})")

    groups = _collect(raw, dims, dim, solids, used, new, dropped)
    node_ids = np.arange(len(raw.points)) if raw.node_ids is None else raw.node_ids
    try:
        mesh = Mesh(
            raw.points[used],
            [(b.type, new[b.nodes]) for b in solids.blocks],
            node_groups=groups.groups["node"],
            facet_groups=groups.groups["facet"],
            cell_groups=groups.groups["cell"],
            node_ids=node_ids[used],
        )
    except FemadjError as error:
        error.add_note(f"while importing {path}")
        raise
    return mesh, _report(raw, path, mesh, groups, dropped)


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
    outline: IntArray | None = None
    for group in raw.groups:
        cells, facets, nodes = [], list(group.facets), [group.nodes]
        for i, rows in group.cells.items():
            if dims[i] < dim:
                grouped[i][rows] = True
            if len(rows) == 0:
                continue
            if dims[i] == dim:
                cells.append(solids.ids[i][rows])
            elif dims[i] == dim - 1:
                facets.append(corners(raw.blocks[i])[rows])
            else:
                nodes.append(raw.blocks[i].nodes[rows].ravel())
        label = f"group {group.name!r} ({group.origin})"
        if cells:
            result.add("cell", group.name, group.origin, np.unique(np.concatenate(cells)))
        if facets:
            if outline is None:
                outline = _outline(solids.blocks, raw, dims, dim)
            on = [match_rows(outline, padded_key(f))[0] >= 0 for f in facets]
            lost = sum(int((~o).sum()) for o in on)
            if lost:
                dropped.append(f"{lost} facets of {label} that belong to no cell of the mesh")
            kept = [new[f[o]] for f, o in zip(facets, on, strict=True) if o.any()]
            if kept:
                result.add("facet", group.name, group.origin, kept)
        rows = np.unique(np.concatenate(nodes))
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


def _outline(blocks: Sequence[CellBlock], raw: RawMesh, dims: Sequence[int], dim: int) -> IntArray:
    """Keys of all facets of the cells whose corners occur in the facet groups of the file."""
    marked = np.zeros(len(raw.points), dtype=bool)
    for group in raw.groups:
        for facets in group.facets:
            marked[facets.ravel()] = True
        for i, rows in group.cells.items():
            if dims[i] == dim - 1:
                marked[corners(raw.blocks[i])[rows].ravel()] = True
    return facet_keys(blocks, marked)[0]


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
        warnings=(*raw.warnings, *groups.shared_names()),
    )
