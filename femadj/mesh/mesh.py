"""The mesh: frozen node coordinates, cell blocks and named groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import skfem

from femadj.base.arguments import mapping_of
from femadj.base.arrays import FloatArray, array_of, frozen, listing
from femadj.base.calls import called
from femadj.base.display import one_line
from femadj.base.pickling import Picklable
from femadj.errors import FemadjError, InvalidMeshError, TangledMeshError, UnknownGroupError, UnsupportedCellError
from femadj.kernels.geometry import scaled_jacobian_range
from femadj.mesh import skfem_bridge
from femadj.mesh.reference import INTEGRATED_CELLS, cell_table, cell_type, corner_edges, watched_gradients
from femadj.mesh.topology import (
    CellBlock,
    FacetSet,
    IntArray,
    distinct,
    facet_corners,
    facet_keys,
    facets_by_place,
    match_rows,
    matched_facets,
    overlapping_cells,
    padded_key,
    reversed_facets,
)

Selector = Callable[[FloatArray], npt.NDArray[np.bool_]]

PLANE = 1e-6
"""Plane cells whose third coordinate differs by less than this, in units of their size, lie in one plane."""

IDEAL = {"triangle": np.sqrt(3) / 2, "tetra": np.sqrt(0.5), "wedge": np.sqrt(3) / 2}
"""Determinants of the unit tangents at corners of ideal cells, where they are not 1."""

DEGENERATE = 1e-10
"""A scaled Jacobian determinant below this counts as a cell without volume."""


def checked_points(points: npt.ArrayLike, shape: tuple[int, int] | None = None) -> FloatArray:
    """Validate node coordinates: real numbers, two or three finite columns, the expected shape.

    Raises
    ------
    InvalidMeshError
        With the nodes concerned.
    """
    array = array_of(points, "points")
    if array.dtype.kind not in "fiu":
        raise InvalidMeshError(f"points must be real numbers, not of dtype {array.dtype}")
    turned = ": they are transposed, write points.T" if array.ndim == 2 and array.shape[0] in (2, 3) else ""
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        raise InvalidMeshError(f"points must have shape (n_nodes, 2) or (n_nodes, 3), not {array.shape}{turned}")
    if shape is not None and array.shape != shape:
        turned = turned if array.shape == shape[::-1] else ""
        raise InvalidMeshError(f"points have shape {array.shape}, but the mesh has {shape}{turned}")
    array = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        raise InvalidMeshError(f"NaN or infinite coordinates at nodes {listing(bad)}")
    return array


def _checked_blocks(
    cells: Mapping[str, npt.ArrayLike] | Sequence[CellBlock | tuple[str, npt.ArrayLike]], n_nodes: int
) -> tuple[CellBlock, ...]:
    pairs: list[tuple[str, npt.ArrayLike]] = []
    given = list(cells.items()) if isinstance(cells, Mapping) else cells
    for item in given if isinstance(given, Sequence) and not isinstance(given, str) else [given]:
        pair = (item.type, item.nodes) if isinstance(item, CellBlock) else item
        if not isinstance(pair, Sequence) or len(pair) != 2 or not isinstance(pair[0], str):
            raise InvalidMeshError(
                "cells must be {'type': array, ...} or a list of pairs (type, array), with types such as 'triangle'; "
                f"not {type(item).__name__}"
            )
        pairs.append((pair[0], pair[1]))
    blocks = []
    for name, nodes in pairs:
        reference = cell_type(name)
        if name not in INTEGRATED_CELLS:
            raise UnsupportedCellError(f"a mesh cannot consist of {name!r} cells; put them into facet_groups")
        array = array_of(nodes, f"{name} cells")
        if array.dtype.kind not in "iu":
            raise InvalidMeshError(f"{name} cells must be integer node indices, not of dtype {array.dtype}")
        if array.ndim != 2 or array.shape[1] != reference.n_nodes:
            turned = ": transposed?" if array.ndim == 2 and len(array) == reference.n_nodes else ""
            raise InvalidMeshError(
                f"{name} cells must have shape (n_cells, {reference.n_nodes}), not {array.shape}{turned}"
            )
        if len(array) == 0:
            continue
        if array.min() < 0 or array.max() >= n_nodes:
            bad = np.flatnonzero(((array < 0) | (array >= n_nodes)).any(axis=1))
            raise InvalidMeshError(
                f"{name} cells {listing(bad)} refer to nodes outside 0..{n_nodes - 1} (indices start at zero)"
            )
        blocks.append(CellBlock(name, frozen(np.ascontiguousarray(array, dtype=np.int32))))
    if not blocks:
        raise InvalidMeshError("the mesh has no cells")
    dims = {b.reference.dim for b in blocks}
    if len(dims) > 1:
        raise InvalidMeshError("the mesh mixes plane and solid cells; lower-dimensional cells belong in facet_groups")
    return tuple(blocks)


def _planar(points: FloatArray, dim: int) -> FloatArray:
    """Drop the third coordinate of a plane mesh, which is constant but for rounding."""
    if points.shape[1] == dim:
        return points
    if points.shape[1] < dim:
        raise InvalidMeshError(f"solid cells need three coordinates, the points have {points.shape[1]}")
    z = points[:, 2]
    extent = float(np.ptp(points[:, :2], axis=0).max(initial=0.0))
    if np.ptp(z) > PLANE * extent:
        raise InvalidMeshError(f"plane cells with z between {z.min():g} and {z.max():g}: {_surface_advice(points)}")
    return np.ascontiguousarray(points[:, :2])


def _surface_advice(points: FloatArray) -> str:
    """What a mesh of plane cells in space is, and what to do."""
    extents = np.ptp(points, axis=0)
    size = float(extents.max())
    only = "only meshes of constant z are plane"
    for axis, name, kept in ((0, "x", "y-z"), (1, "y", "x-z")):
        if extents[axis] <= PLANE * size:
            columns = "[1, 2]" if axis == 0 else "[0, 2]"
            return (
                f"{only}; these cells lie in the {kept} plane (constant {name}): turn the mesh into the x-y plane, in "
                f"the preprocessor or by points[:, {columns}]"
            )
    _, _, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    if np.ptp(points @ axes[2]) <= PLANE * size:
        normal = ", ".join(f"{c:.3g}" for c in axes[2])
        return f"{only}; these cells lie in a plane with the normal ({normal}): turn the mesh into the x-y plane"
    if extents[2] <= 1e-3 * size:
        return (
            f"{only}, up to rounding of {PLANE:g} of their size; here z differs by {extents[2] / size:.1e} of it: "
            "round the coordinates or set them to one value if the body is plane; curved surfaces are not supported"
        )
    return (
        f"{only}, and curved surfaces (shells, membranes) are not supported. If a solid is meant, the mesh holds its "
        "surface only, and its volume cells are missing: mesh the volume and save it too (in Gmsh put the volume into "
        "a physical group, or set Mesh.SaveAll=1)"
    )


def _check_duplicates(blocks: Sequence[CellBlock], cell_ids: IntArray | None) -> None:
    """Raise when two cells have the same nodes; a sum of random node keys finds candidates in one sort."""
    n_nodes = 1 + max(int(b.nodes.max()) for b in blocks)
    keys = np.random.default_rng(0).integers(0, 2**63, n_nodes, dtype=np.uint64)
    parts = []
    for block in blocks:
        sums = keys[block.nodes[:, 0]]
        for column in block.nodes.T[1:]:
            sums += keys[column]
        parts.append(sums)
    sums = np.concatenate(parts) if len(parts) > 1 else parts[0]
    in_order = np.sort(sums)
    if not (in_order[1:] == in_order[:-1]).any():
        return
    order = np.argsort(sums, kind="stable")
    same = np.flatnonzero(sums[order][1:] == sums[order][:-1])
    first, second = order[same], order[same + 1]
    raise InvalidMeshError(f"{_named(second, cell_ids)} duplicate {_named(first, cell_ids)}: remove one of each pair")


def _named(cells: npt.ArrayLike, cell_ids: IntArray | None) -> str:
    """Cells in a message: by the ids that their file gives them, else by their numbers in the mesh."""
    numbers = np.asarray(cells, dtype=np.int64)
    return f"cells {listing(numbers)}" if cell_ids is None else f"elements {listing(cell_ids[numbers])} of the file"


def _checked_ids(cell_ids: npt.ArrayLike, n_cells: int) -> IntArray:
    ids = array_of(cell_ids, "cell_ids")
    if ids.shape != (n_cells,) or ids.dtype.kind not in "iu":
        raise InvalidMeshError(f"cell_ids must be {n_cells} integers, not shape {ids.shape} of {ids.dtype}")
    return frozen(ids.astype(np.int64, copy=False))


def _index_groups(groups: Mapping[str, npt.ArrayLike] | None, kind: str, size: int) -> dict[str, IntArray]:
    result: dict[str, IntArray] = {}
    for name, value in mapping_of(groups, f"{kind}_groups", InvalidMeshError).items():
        array = array_of(value, f"{kind} group {name!r}")
        if array.dtype == bool and array.shape == (size,):
            array = np.flatnonzero(array)
        if array.size and (array.ndim != 1 or array.dtype.kind not in "iu"):
            raise InvalidMeshError(
                f"{kind} group {name!r} must be a one-dimensional array of integer ids, "
                f"not shape {array.shape} of {array.dtype}"
            )
        if array.size and (array.min() < 0 or array.max() >= size):
            raise InvalidMeshError(f"{kind} group {name!r} refers to {kind}s outside 0..{size - 1}")
        result[name] = frozen(distinct(array))
    return result


def _node_orders(groups: Mapping[str, npt.ArrayLike], sorted_groups: Mapping[str, IntArray]) -> dict[str, IntArray]:
    """For groups of node ids that were not given in ascending order: where every node stands among them."""
    result: dict[str, IntArray] = {}
    for name, value in groups.items():
        given = np.asarray(value)
        if given.dtype != bool and not np.array_equal(given, sorted_groups[name]):
            first = np.unique(given, return_index=True)[1]
            result[name] = frozen(np.argsort(np.argsort(first)).astype(np.int64))
    return result


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Mesh(Picklable):
    """A frozen mesh of plane or solid cells, of one or several types.

    Parameters
    ----------
    points : (n_nodes, dim) array
        Node coordinates. A constant third coordinate of a plane mesh is dropped.
    cells : mapping or sequence
        ``{"tetra": (n, 4) array, ...}`` or a list of ``(type, array)`` pairs: meshio's names and node order,
        zero-based node indices. Cells count through the blocks in order (global cell ids).
    node_groups : mapping of name to node ids
    facet_groups : mapping of name to facet nodes
        An array ``(n_facets, k)`` of node indices (corners, or corners and mid-side nodes) or a list of such arrays.
    cell_groups : mapping of name to global cell ids
    node_ids : (n_nodes,) array, optional
        The ids that the input file gives its nodes; zero-based indices when left out.
    cell_ids : (n_cells,) array, optional
        The ids that the input file gives its cells, by which messages name them; None when left out.

    Raises
    ------
    InvalidMeshError, UnsupportedCellError, TangledMeshError
        What is wrong and where: coordinates, indices, orphan nodes, duplicated, tangled or flat cells.

    Notes
    -----
    Cells may be numbered in either orientation; each keeps the sign its Jacobian has in the mesh it was made from, and
    a change of that sign at any quadrature point is reported as tangling.
    """

    points: FloatArray
    blocks: tuple[CellBlock, ...]
    node_groups: Mapping[str, IntArray]
    facet_groups: Mapping[str, FacetSet]
    cell_groups: Mapping[str, IntArray]
    node_ids: IntArray
    orientation: npt.NDArray[np.float64] = field(repr=False)
    node_order: Mapping[str, IntArray] = field(repr=False)
    cell_ids: IntArray | None = field(repr=False)

    def __init__(
        self,
        points: npt.ArrayLike,
        cells: Mapping[str, npt.ArrayLike] | Sequence[CellBlock | tuple[str, npt.ArrayLike]],
        node_groups: Mapping[str, npt.ArrayLike] | None = None,
        facet_groups: Mapping[str, Any] | None = None,
        cell_groups: Mapping[str, npt.ArrayLike] | None = None,
        node_ids: npt.ArrayLike | None = None,
        cell_ids: npt.ArrayLike | None = None,
    ) -> None:
        x = checked_points(points)
        n_nodes = len(x)
        blocks = _checked_blocks(cells, n_nodes)
        dim = blocks[0].reference.dim
        x = _planar(x, dim)
        used = np.zeros(n_nodes, dtype=bool)
        for block in blocks:
            used[block.nodes.ravel()] = True
        if not used.all():
            raise InvalidMeshError(
                f"orphan nodes {listing(np.flatnonzero(~used))} belong to no cell: remove them "
                "(read_mesh does so when it imports a file)"
            )
        n_cells = sum(len(b) for b in blocks)
        numbers = None if cell_ids is None else _checked_ids(cell_ids, n_cells)
        _check_duplicates(blocks, numbers)
        ids = np.arange(n_nodes) if node_ids is None else array_of(node_ids, "node_ids")
        if ids.shape != (n_nodes,) or ids.dtype.kind not in "iu":
            raise InvalidMeshError(f"node_ids must be {n_nodes} integers, not shape {ids.shape} of {ids.dtype}")
        if len(distinct(ids)) != n_nodes:
            raise InvalidMeshError("node_ids repeat some id")
        named = mapping_of(facet_groups, "facet_groups", InvalidMeshError)
        corners = {n: facet_corners(n, v, dim, n_nodes) for n, v in named.items()}
        facets = matched_facets(corners, blocks, n_nodes) if corners else {}
        nodes = _index_groups(node_groups, "node", n_nodes)
        self._set(
            points=frozen(x),
            blocks=blocks,
            node_groups=MappingProxyType(nodes),
            node_order=MappingProxyType(_node_orders(node_groups or {}, nodes)),
            facet_groups=MappingProxyType(facets),
            cell_groups=MappingProxyType(_index_groups(cell_groups, "cell", n_cells)),
            node_ids=frozen(ids.astype(np.int64, copy=False)),
            orientation=frozen(_orientation(x, blocks, numbers)),
            cell_ids=numbers,
        )

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _copy(self, **changes: Any) -> Mesh:
        """A mesh that shares everything but the changes, none of which is checked again."""
        new = object.__new__(Mesh)
        names = (
            "points", "blocks", "node_groups", "facet_groups", "cell_groups", "node_ids", "orientation", "node_order",
            "cell_ids",
        )  # fmt: skip
        new._set(**{name: changes.get(name, getattr(self, name)) for name in names})
        return new

    # ------------------------------------------------------------------ sizes
    @property
    def dim(self) -> int:
        """Space dimension, 2 or 3."""
        return self.points.shape[1]

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.points)

    @property
    def n_cells(self) -> int:
        """Number of cells over all blocks."""
        return sum(len(b) for b in self.blocks)

    @property
    def block_offsets(self) -> tuple[int, ...]:
        """Global id of the first cell of each block, and the number of cells at the end."""
        return tuple(accumulate((len(b) for b in self.blocks), initial=0))

    def __repr__(self) -> str:
        cells = ", ".join(f"{len(b)} {b.type}" for b in self.blocks)
        groups = "; ".join(
            one_line(f"{kind} groups {', '.join(names)}")
            for kind, names in (
                ("node", self.node_groups),
                ("facet", self.facet_groups),
                ("cell", self.cell_groups),
            )
            if names
        )
        return f"Mesh({self.n_nodes} nodes, {cells}{'; ' + groups if groups else ''})"

    # ------------------------------------------------------------------ groups
    def _require_group(self, name: str, *kinds: str) -> None:
        """UnknownGroupError where no group of these kinds has that name."""
        groups = {"node": self.node_groups, "facet": self.facet_groups, "cell": self.cell_groups}
        having = [kind for kind in groups if isinstance(name, str) and name in groups[kind]]
        if not set(having) & set(kinds):
            known = dict.fromkeys(each for kind in kinds for each in groups[kind])
            raise UnknownGroupError(name, "node, facet or cell" if len(kinds) > 1 else kinds[0], known, having)

    def facets(self, name: str) -> FacetSet:
        """Facets of a facet group that must exist and hold something."""
        self._require_group(name, "facet")
        if len(self.facet_groups[name]) == 0:
            raise InvalidMeshError(f"facet group {name!r} is empty")
        return self.facet_groups[name]

    def cells_of(self, name: str) -> IntArray:
        """Global cell ids of a cell group that must exist and hold something."""
        self._require_group(name, "cell")
        if len(self.cell_groups[name]) == 0:
            raise InvalidMeshError(f"cell group {name!r} is empty")
        return self.cell_groups[name]

    def nodes_of(self, name: str) -> IntArray:
        """Node indices of a group: a node group, else the nodes of a facet group, else those of a cell group."""
        self._require_group(name, "node", "facet", "cell")
        if name in self.node_groups:
            nodes = self.node_groups[name]
        elif name in self.facet_groups:
            nodes = self.facet_nodes(self.facet_groups[name])
        else:
            nodes = self._nodes_of_cells(self.cell_groups[name])
        if len(nodes) == 0:
            raise InvalidMeshError(f"group {name!r} is empty")
        return nodes

    def _nodes_of_cells(self, cells: IntArray) -> IntArray:
        parts = []
        for start, block in zip(self.block_offsets, self.blocks, strict=False):
            inside = cells[(cells >= start) & (cells < start + len(block))] - start
            parts.append(block.nodes[inside].ravel())
        return np.unique(np.concatenate(parts)).astype(np.int64)

    def facet_nodes(self, facets: FacetSet) -> IntArray:
        """Sorted node indices of all nodes on a set of facets."""
        parts = [nodes.ravel() for _, nodes in self.facet_cells(facets)]
        return np.unique(np.concatenate(parts)).astype(np.int64) if parts else np.empty(0, np.int64)

    def facet_cells(self, facets: FacetSet) -> list[tuple[str, npt.NDArray[np.int32]]]:
        """Node lists of facets by facet cell type, as ``[(type, (n, k) nodes), ...]``, corners running outwards."""
        found: dict[str, list[npt.NDArray[np.int32]]] = {}
        for place in facets_by_place(self.blocks, facets.cells, facets.local):
            nodes = place.nodes
            flipped = self.orientation[facets.cells[place.at]] < 0
            nodes[flipped] = reversed_facets(place.type, nodes[flipped])
            found.setdefault(place.type, []).append(nodes)
        return [(name, np.vstack(parts)) for name, parts in found.items()]

    def boundary(self) -> FacetSet:
        """All facets that belong to exactly one cell."""
        keys, cells, local = facet_keys(self.blocks)
        order = np.lexsort(keys.T[::-1])
        keys = keys[order]
        same = (keys[1:] == keys[:-1]).all(axis=1)
        single = np.ones(len(keys), dtype=bool)
        single[1:] &= ~same
        single[:-1] &= ~same
        at = np.sort(order[single])
        return FacetSet(frozen(cells[at]), frozen(local[at]), frozen(np.zeros(len(at), dtype=bool)))

    def with_groups(
        self,
        node_groups: Mapping[str, npt.ArrayLike | Selector] | None = None,
        facet_groups: Mapping[str, Any | Selector] | None = None,
        cell_groups: Mapping[str, npt.ArrayLike | Selector] | None = None,
    ) -> Mesh:
        """Return a mesh with further named groups (a name that exists is replaced).

        A group may also be a function of ``x``, shape ``(dim, n)``, that returns which nodes, boundary facets (by the
        mean of their corners) or cells (likewise) belong to it.
        """
        of_nodes, of_facets, of_cells = (
            mapping_of(groups, what, InvalidMeshError)
            for groups, what in (
                (node_groups, "node_groups"), (facet_groups, "facet_groups"), (cell_groups, "cell_groups"),
            )
        )  # fmt: skip
        nodes = {n: _selected(v, self.points, n) for n, v in of_nodes.items()}
        cells = {n: _selected(v, self.cell_centres(), n) for n, v in of_cells.items()}
        given = {n: v for n, v in of_facets.items() if not callable(v)}
        chosen = {n: v for n, v in of_facets.items() if callable(v)}
        corners = {n: facet_corners(n, v, self.dim, self.n_nodes) for n, v in given.items()}
        facets = matched_facets(corners, self.blocks, self.n_nodes) if corners else {}
        if chosen:
            boundary = self.boundary()
            centres = self._facet_centres(boundary)
            for name, selector in chosen.items():
                mask = array_of(_selected(selector, centres, name), f"facet group {name!r}")
                if mask.shape != (len(boundary),) or mask.dtype != bool:
                    raise InvalidMeshError(
                        f"facet group {name!r}: the function of x must return {len(boundary)} truth values, not "
                        f"shape {mask.shape} of {mask.dtype}"
                    )
                facets[name] = FacetSet(
                    frozen(boundary.cells[mask]), frozen(boundary.local[mask]), frozen(boundary.interior[mask])
                )
        new_nodes = _index_groups(nodes, "node", self.n_nodes)
        kept = {name: order for name, order in self.node_order.items() if name not in new_nodes}
        return self._copy(
            node_groups=MappingProxyType({**self.node_groups, **new_nodes}),
            node_order=MappingProxyType({**kept, **_node_orders(nodes, new_nodes)}),
            facet_groups=MappingProxyType({**self.facet_groups, **facets}),
            cell_groups=MappingProxyType({**self.cell_groups, **_index_groups(cells, "cell", self.n_cells)}),
        )

    def cell_centres(self) -> FloatArray:
        """Mean of the corner coordinates of every cell, shape ``(n_cells, dim)``."""
        return np.vstack([self.points[b.nodes[:, : b.reference.n_corners]].mean(axis=1) for b in self.blocks])

    def _facet_centres(self, facets: FacetSet) -> FloatArray:
        centres = np.empty((len(facets), self.dim))
        for place in facets_by_place(self.blocks, facets.cells, facets.local):
            centres[place.at] = self.points[place.corners].mean(axis=1)
        return centres

    # ------------------------------------------------------------------ geometry
    def with_points(self, points: npt.ArrayLike) -> Mesh:
        """Return the same topology on other node coordinates.

        Raises
        ------
        InvalidMeshError
            For a wrong shape or non-finite coordinates.
        TangledMeshError
            Where a cell is flat or turned inside out compared with this mesh.
        """
        x = checked_points(points, self.points.shape)
        self.require_untangled(x)
        return self._copy(points=frozen(x))

    def tangled_cells(self, points: npt.ArrayLike | None = None) -> IntArray:
        """Global ids of cells whose Jacobian is not positive (in their own orientation) at some quadrature point."""
        x = self.points if points is None else checked_points(points, self.points.shape)
        found = []
        for (low, high), sign, first in zip(
            _jacobian_ranges(x, self.blocks), self._orientation_by_block(), self.block_offsets[:-1], strict=True
        ):
            smallest = np.where(sign > 0, low, -high)
            if not smallest.min() > DEGENERATE:
                found.append(first + np.flatnonzero(~(smallest > DEGENERATE)))
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def require_untangled(self, points: npt.ArrayLike | None = None) -> None:
        """Raise TangledMeshError when any cell is tangled."""
        cells = self.tangled_cells(points)
        if len(cells):
            raise TangledMeshError(
                f"{_named(cells, self.cell_ids)} are flat or turned inside out at a quadrature point: take a "
                "smaller step or smooth the mesh",
                cells.tolist(),
            )

    def _orientation_by_block(self) -> list[FloatArray]:
        at = self.block_offsets
        return [self.orientation[at[i] : at[i + 1]] for i in range(len(self.blocks))]

    def cell_volumes(self, points: npt.ArrayLike | None = None) -> FloatArray:
        """Volume (3-D) or area (2-D) of every cell, by quadrature of the mass order; shape ``(n_cells,)``."""
        x = self.points if points is None else checked_points(points, self.points.shape)
        parts = []
        for block, sign in zip(self.blocks, self._orientation_by_block(), strict=True):
            table = cell_table(block.type, block.reference.mass_order)
            volume = np.zeros(len(block))
            for q in range(table.n_points):
                jacobian = np.einsum("eai,aj->eij", x[block.nodes], table.gradients[0, q])
                volume += np.linalg.det(jacobian) * table.weights[0, q]
            parts.append(volume * sign)
        return np.concatenate(parts)

    def volume(self) -> float:
        """Total volume (3-D) or area (2-D)."""
        return float(self.cell_volumes().sum())

    def quality(self, points: npt.ArrayLike | None = None) -> FloatArray:
        """Scaled Jacobian of every cell: 1 for the ideal cell, 0 or less for a degenerate or inverted corner.

        The smallest value over the corners of the determinant of the unit tangents of the edges that meet there,
        divided by its value in the ideal (equilateral or right-angled) cell; shape ``(n_cells,)``. Definition after
        P. Knupp, "Algebraic mesh quality metrics", SIAM J. Sci. Comput. 23 (2001).
        """
        x = self.points if points is None else checked_points(points, self.points.shape)
        parts = []
        for block, sign in zip(self.blocks, self._orientation_by_block(), strict=True):
            low, high = scaled_jacobian_range(x, block.nodes, corner_edges(block.type))
            parts.append(np.where(sign > 0, low, -high) / IDEAL.get(block.reference.shape, 1.0))
        return np.concatenate(parts)

    # ------------------------------------------------------------------ scikit-fem
    @classmethod
    def from_skfem(cls, mesh: skfem.Mesh) -> Mesh:
        """Build from a scikit-fem mesh; its boundaries become facet groups, its subdomains cell groups.

        Quadratic scikit-fem meshes keep their order of nodes (``mesh.doflocs``).
        """
        if not isinstance(mesh, skfem.Mesh):
            raise InvalidMeshError(f"from_skfem takes a mesh of scikit-fem, not {type(mesh).__name__}")
        name, nodes = skfem_bridge.cells_of(mesh)
        facets = {n: mesh.facets[:, f].T for n, f in (mesh.boundaries or {}).items()}
        return cls(mesh.doflocs.T, {name: nodes}, facet_groups=facets, cell_groups=mesh.subdomains or {})

    def to_skfem(self) -> skfem.Mesh:
        """Return the scikit-fem mesh of a mesh with a single cell block, with its facet and cell groups.

        Raises
        ------
        UnsupportedCellError
            For several blocks and for serendipity cells, for which scikit-fem has no mesh.
        """
        mesh, vertex = skfem_bridge.mesh_of(self.points, self.blocks)
        facets = {}
        for name, group in self.facet_groups.items():
            corners = [nodes[:, : cell_type(kind).n_corners] for kind, nodes in self.facet_cells(group)]
            wanted = np.vstack([np.empty((0, 4), np.int64), *(padded_key(vertex[c]) for c in corners)])
            index, _ = match_rows(padded_key(mesh.facets.T), wanted)
            facets[name] = np.sort(index)
        return mesh.with_boundaries(facets).with_subdomains({n: np.array(v) for n, v in self.cell_groups.items()})


def require_mesh(mesh: Any, error: type[FemadjError] = InvalidMeshError) -> None:
    """``error`` for what is no Mesh, with how to make one of it."""
    if isinstance(mesh, Mesh):
        return
    advice = "read_mesh(path) reads a file, Mesh(points, {'triangle': cells}) takes arrays"
    if isinstance(mesh, skfem.Mesh):
        advice = "write Mesh.from_skfem(mesh)"
    elif hasattr(mesh, "cells_dict"):
        advice = "write Mesh(mesh.points, mesh.cells_dict), or read the file with read_mesh, which keeps its groups"
    kind = "" if type(mesh).__name__ != "Mesh" else f"{type(mesh).__module__}."
    raise error(f"mesh must be a Mesh, not {kind}{type(mesh).__name__}: {advice}")


def _selected(group: Any, x: FloatArray, name: str) -> Any:
    """A group as given, or what a function of x answers."""
    return called(group, f"the function of x of group {name!r}", x.T, error=InvalidMeshError)


def _jacobian_ranges(points: FloatArray, blocks: Sequence[CellBlock]) -> list[tuple[FloatArray, FloatArray]]:
    """Scaled Jacobian ranges over the quadrature points of both default orders, block by block."""
    ranges = []
    for block in blocks:
        ranges.append(scaled_jacobian_range(points, block.nodes, watched_gradients(block.type)))
    return ranges


def _orientation(points: FloatArray, blocks: Sequence[CellBlock], cell_ids: IntArray | None) -> FloatArray:
    """Sign of the Jacobian of every cell; raises where it vanishes or changes inside a cell."""
    ranges = _jacobian_ranges(points, blocks)
    good = [(low > DEGENERATE) | (high < -DEGENERATE) for low, high in ranges]
    if not all(g.all() for g in good):
        bad = np.flatnonzero(~np.concatenate(good))
        raise TangledMeshError(
            f"{_named(bad, cell_ids)} have no volume or are tangled (their Jacobian vanishes or changes sign between "
            "quadrature points): repair the mesh, or check the order of their nodes",
            bad.tolist(),
        )
    sign = np.concatenate([np.copysign(1.0, low) for low, _ in ranges])
    pairs = overlapping_cells(blocks, sign)
    if len(pairs):
        raise TangledMeshError(
            f"{_named(pairs[:, 0], cell_ids)} lie on the same side of a facet as {_named(pairs[:, 1], cell_ids)}, "
            "with which they share it: one of each pair is folded over, or lies over the other",
            np.unique(pairs).tolist(),
        )
    return sign
