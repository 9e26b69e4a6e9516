"""Where integrals live: the cells and facets of a mesh with their tables, numbering and division among threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from femadj.errors import ProblemError
from femadj.kernels.geometry import scaled_jacobian_range
from femadj.kernels.integrals import Sizes
from femadj.kernels.topology import bisect
from femadj.mesh import Mesh
from femadj.reference import Table, cell_table, facet_table
from femadj.sparsity import Pattern
from femadj.topology import FacetSet

FloatArray = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]

SERIAL_CELLS = 20_000
"""Meshes with fewer cells than this are integrated by one thread: starting more costs as much as it saves."""


SPECIALISED_ENTITIES = 5_000
"""Domains with at least this many entities get kernels compiled for their sizes; below, compiling costs more."""


@dataclass(frozen=True, eq=False)
class Domain:
    """Entities (cells, or facets of cells) of one cell block, with everything a kernel needs but coefficients.

    Attributes
    ----------
    block : int
        Block of the mesh.
    nodes, field : (n_block_cells, k) int32
        Geometry and field nodes of the cells of the block.
    cell, local : (n_entities,) int32
        Cell within the block and local facet of every entity.
    orientation : (n_block_cells,)
    geometry, shape : Table
        Shape functions of the geometry and of the field at the same quadrature points.
    owner : (n_nodes,) int32
        Thread that owns each node's row.
    parts : tuple of int32 arrays
        The entities with a node owned by each thread, ascending.
    first_cell : int
        Global id of the block's first cell.
    specialised : bool
        Whether kernels are compiled for the sizes of this domain.
    """

    block: int
    nodes: Int32Array
    field: Int32Array
    cell: Int32Array
    local: Int32Array
    orientation: FloatArray
    geometry: Table
    shape: Table
    owner: Int32Array
    parts: tuple[Int32Array, ...]
    first_cell: int
    specialised: bool

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def dim(self) -> int:
        """Space dimension."""
        return self.geometry.gradients.shape[3]

    @property
    def is_facet(self) -> bool:
        """Whether the entities are facets."""
        return self.geometry.is_facet

    @property
    def one_region(self) -> Int32Array:
        """Region numbers of entities that all share one coefficient."""
        return np.zeros(len(self), dtype=np.int32)

    @property
    def global_cells(self) -> npt.NDArray[np.int64]:
        """Global cell id of every entity."""
        return self.cell.astype(np.int64) + self.first_cell

    def sizes(self, components: int, lo: int, hi: int, *, symmetric: bool = False, varies: bool = False) -> Sizes:
        """Compile-time sizes of a kernel on this domain; slots are none, the value, the derivatives, or both."""
        if (lo, hi) not in {(0, 0), (0, 1), (1, self.dim + 1), (0, self.dim + 1)}:
            raise ValueError(f"slots {lo}..{hi} are not possible in {self.dim} dimensions")
        return Sizes(
            geometry_nodes=self.nodes.shape[1],
            field_nodes=self.field.shape[1],
            dim=self.dim,
            components=components,
            points=self.geometry.n_points,
            lo=lo,
            hi=hi,
            facet=self.is_facet,
            isoparametric=self.shape is self.geometry,
            symmetric=symmetric,
            varies=varies,
        )

    def arguments(self, points: FloatArray, items: Int32Array) -> tuple[Any, ...]:
        """The leading arguments common to all kernels."""
        return (
            points,
            self.nodes,
            self.field,
            items,
            self.cell,
            self.local,
            self.orientation,
            self.geometry.values,
            self.geometry.gradients,
            self.shape.values,
            self.shape.gradients,
            self.geometry.weights,
            self.geometry.normals,
        )

    def quadrature_points(self, points: FloatArray) -> FloatArray:
        """Coordinates of the quadrature points, shape ``(n_entities, n_points, dim)``."""
        x = points[self.nodes[self.cell]]
        return np.matmul(self.geometry.values[self.local], x)

    def tangled_cells(self, points: FloatArray) -> npt.NDArray[np.int64]:
        """Global ids of cells whose Jacobian is not positive at some quadrature point of this domain."""
        found = []
        for local in np.unique(self.local):
            cells = self.cell[self.local == local]
            low, high = scaled_jacobian_range(points, self.nodes[cells], self.geometry.gradients[local])
            sign = self.orientation[cells]
            found.append(cells[~(np.minimum(low * sign, high * sign) > 0)])
        return np.unique(np.concatenate(found)).astype(np.int64) + self.first_cell

    def run(self, call: Callable[[int, Int32Array], Any]) -> list[Any]:
        """Call ``call(part, items)`` for every part, in as many threads as there are parts."""
        if len(self.parts) == 1:
            return [call(0, self.parts[0])]
        with ThreadPoolExecutor(len(self.parts)) as pool:
            return list(pool.map(call, range(len(self.parts)), self.parts))

    def chunk(self, start: int, stop: int) -> Domain:
        """The entities from ``start`` to ``stop``."""
        parts = []
        for items in self.parts:
            low, high = np.searchsorted(items, (start, stop))
            parts.append(items[low:high] - np.int32(start))
        return replace(self, cell=self.cell[start:stop], local=self.local[start:stop], parts=tuple(parts))

    def selected(self, keep: npt.NDArray[np.bool_]) -> Domain:
        """The entities that are marked."""
        number = (np.cumsum(keep) - 1).astype(np.int32)
        parts = tuple(number[items[keep[items]]] for items in self.parts)
        return replace(self, cell=self.cell[keep], local=self.local[keep], parts=parts)

    def with_nodes(self, nodes: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Marks of the entities whose cell has a marked field node."""
        return np.asarray(nodes[self.field[self.cell]].any(axis=1))

    @property
    def on_geometry(self) -> Domain:
        """The same entities with the geometry's own shape functions as field."""
        return replace(self, field=self.nodes, shape=self.geometry)

    def touching(self, nodes: npt.NDArray[np.bool_]) -> Domain:
        """The same domain restricted to entities whose cell has a marked field node."""
        keep = self.with_nodes(nodes)
        return replace(self, parts=tuple(items[keep[items]] for items in self.parts))


def _parts(nodes: Int32Array, owner: Int32Array, n_parts: int) -> tuple[Int32Array, ...]:
    """For every part the rows of ``nodes`` that have a node in it, ascending."""
    if n_parts == 1:
        return (np.arange(len(nodes), dtype=np.int32),)
    return tuple(np.flatnonzero((owner[nodes] == part).any(axis=1)).astype(np.int32) for part in range(n_parts))


@dataclass(frozen=True, eq=False)
class Discretisation:
    """A mesh whose cells carry an isoparametric field.

    Attributes
    ----------
    mesh : Mesh
    n_components : int
        Components of the field; unknowns are numbered ``node * n_components + component``.
    owner : (n_nodes,) int32
        Division of the nodes among threads.
    n_parts : int
        Number of threads of the element kernels.
    block_parts : tuple of tuple of int32 arrays
        For every block, the cells with a node owned by each thread.
    name : str
        Name of the field.
    stiffness_order : int, optional
        Degree of the quadrature of products of gradients; that of the cell type when left out.
    """

    mesh: Mesh
    n_components: int
    owner: Int32Array
    n_parts: int
    block_parts: tuple[tuple[Int32Array, ...], ...]
    name: str = field(default="u", kw_only=True)
    stiffness_order: int | None = field(default=None, kw_only=True)

    @staticmethod
    def of(mesh: Mesh, n_components: int, threads: int | None = None, name: str = "u") -> Discretisation:
        """Discretise a mesh; ``threads`` defaults to all cores for large meshes and to one for small ones."""
        if threads is None:
            threads = (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) or 1
            threads = threads if mesh.n_cells >= SERIAL_CELLS else 1
        n_parts = max(1, min(threads, mesh.n_nodes))
        owner = bisect(mesh.points, n_parts)
        parts = tuple(_parts(block.nodes, owner, n_parts) for block in mesh.blocks)
        return Discretisation(mesh, n_components, owner, n_parts, parts, name=name)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of arrays of unknowns."""
        return self.mesh.n_nodes, self.n_components

    @property
    def n_dofs(self) -> int:
        """Number of unknowns, prescribed ones included."""
        rows, columns = self.shape
        return rows * columns

    @property
    def nodal(self) -> bool:
        """Whether the unknowns are values at the nodes of the mesh, ``(n_nodes, nc)``."""
        return True

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the fields that the unknowns consist of."""
        return (self.name,)

    def part(self, name: str, u: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Unknowns of a part, ``(n, nc)``, and where they live, ``(n, dim)``."""
        self._require_part(name)
        return u, points

    def nodal_values(self, name: str, u: FloatArray, points: FloatArray) -> FloatArray:
        """Values of a part at the nodes of the mesh, ``(n_nodes, nc)``."""
        self._require_part(name)
        return u

    def _require_part(self, name: str) -> None:
        if name not in self.part_names:
            raise ProblemError(f"there is no part {name!r}; the unknown consists of: {', '.join(self.part_names)}")

    def pattern(self, *, symmetric: bool) -> Pattern:
        """Sparsity pattern of an operator on the field."""
        return Pattern.from_cells(
            [b.nodes for b in self.mesh.blocks], self.mesh.n_nodes, self.n_components, symmetric=symmetric
        )

    def cells(
        self,
        rule: Literal["stiffness", "mass"],
        group: str | None = None,
        order: int | None = None,
    ) -> list[Domain]:
        """Domains of the cells of a group (all cells when ``None``), one a block.

        ``rule`` picks the default quadrature degree of the cell type, for products of gradients or of values;
        ``order`` overrides it.
        """
        chosen = None if group is None else self.mesh.cells_of(group)
        domains = []
        for number, block in enumerate(self.mesh.blocks):
            start = self.mesh.block_offsets[number]
            if chosen is None:
                cell = np.arange(len(block), dtype=np.int32)
            else:
                inside = chosen[(chosen >= start) & (chosen < start + len(block))]
                cell = (inside - start).astype(np.int32)
            if len(cell) == 0:
                continue
            reference = block.reference
            default = reference.mass_order
            if rule == "stiffness":
                default = reference.stiffness_order if self.stiffness_order is None else self.stiffness_order
            table = cell_table(block.type, default if order is None else order)
            domains.append(self._domain(number, cell, np.zeros(len(cell), dtype=np.int32), table))
        return domains

    def facets(self, facets: FacetSet, order: int | None = None) -> list[Domain]:
        """Domains of a set of facets, one a block."""
        domains = []
        for number, block in enumerate(self.mesh.blocks):
            start = self.mesh.block_offsets[number]
            inside = (facets.cells >= start) & (facets.cells < start + len(block))
            if not inside.any():
                continue
            cell = (facets.cells[inside] - start).astype(np.int32)
            local = facets.local[inside].astype(np.int32)
            domains.append(self._domain(number, cell, local, facet_table(block.type, order)))
        return domains

    def _domain(self, number: int, cell: Int32Array, local: Int32Array, table: Table) -> Domain:
        nodes = self.mesh.blocks[number].nodes
        start, stop = self.mesh.block_offsets[number : number + 2]
        whole = len(cell) == len(nodes) and not table.is_facet
        parts = self.block_parts[number] if whole else _parts(nodes[cell], self.owner, self.n_parts)
        return Domain(
            block=number,
            nodes=nodes,
            field=nodes,
            cell=cell,
            local=local,
            orientation=self.mesh.orientation[start:stop],
            geometry=table,
            shape=table,
            owner=self.owner,
            parts=parts,
            first_cell=start,
            specialised=len(cell) >= SPECIALISED_ENTITIES,
        )
