"""Fields with values at the mesh nodes, and the regions that they are integrated over."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.cores import available_threads
from femadj.errors import FormError, ProblemError, meant
from femadj.kernels.graph import bisect
from femadj.mesh import Mesh
from femadj.mesh.reference import Table, cell_table, facet_table
from femadj.mesh.topology import FacetSet
from femadj.space.engine import HOST, Engine
from femadj.space.maps import FieldMap, NodalMap, Over
from femadj.space.parts import Part, nodal_part
from femadj.space.pattern import Pattern
from femadj.space.region import Domain, Int32Array, entity_parts, is_large

SERIAL_CELLS = 20_000
"""Meshes with fewer cells than this are integrated by one thread: starting more costs as much as it saves."""


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
    engine : Engine
        Where compiled passes run that need not run on the host.
    """

    mesh: Mesh
    n_components: int
    owner: Int32Array
    n_parts: int
    block_parts: tuple[tuple[Int32Array, ...], ...]
    name: str = field(default="u", kw_only=True)
    stiffness_order: int | None = field(default=None, kw_only=True)
    engine: Engine = field(default=HOST, kw_only=True)

    @staticmethod
    def of(mesh: Mesh, n_components: int, threads: int | None = None, name: str = "u") -> Discretisation:
        """Discretise a mesh; ``threads`` defaults to all cores for large meshes and to one for small ones."""
        if threads is None:
            threads = available_threads()
            threads = threads if mesh.n_cells >= SERIAL_CELLS else 1
        n_parts = max(1, min(threads, mesh.n_nodes))
        owner = bisect(mesh.points, n_parts)
        parts = tuple(entity_parts(block.nodes, owner, n_parts) for block in mesh.blocks)
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

    def require_nodal(self) -> None:
        """ProblemError where unknowns are not values at the mesh nodes; here they are."""

    @property
    def field_parts(self) -> tuple[Part, ...]:
        """The fields that the unknowns consist of."""
        return (nodal_part(self.name, self.n_components, self.mesh.dim),)

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the fields that the unknowns consist of."""
        return tuple(part.name for part in self.field_parts)

    def part(self, name: str, u: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Unknowns of a part, ``(n, nc)``, and where they live, ``(n, dim)``."""
        self._require_part(name)
        return u, points

    def nodal_values(self, name: str, u: FloatArray, points: FloatArray) -> FloatArray:
        """Values of a part at the nodes of the mesh, ``(n_nodes, nc)``."""
        self._require_part(name)
        return u

    def _require_part(self, name: str) -> None:
        if not isinstance(name, str) or name not in self.part_names:
            parts = f"{', '.join(self.part_names)}{meant(name, self.part_names)}"
            raise ProblemError(f"there is no part {name!r}; the unknown consists of: {parts}")

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

    def bodies(self, group: str | None = None) -> list[Domain]:
        """Cells of a group for integrals of the geometry alone, whatever the unknowns are."""
        return Discretisation.cells(self, "mass", group)

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

    def maps(
        self, over: Over, group: str | None = None, order: int | None = None, *, gradients: bool = False
    ) -> list[FieldMap]:
        """Field maps on a region: cells of a cell group, facets of a facet group, or facets between two cells.

        Parameters
        ----------
        over : "cells", "facets" or "interior facets"
        group : str, optional
            All cells, the whole boundary, or all facets between two cells, when left out.
        order : int, optional
            Degree of the quadrature; when left out that of the cell type for products of values or, with
            ``gradients``, of gradients.

        Returns
        -------
        list of FieldMap
            One for each block that has entities of the region.
        """
        if over == "interior facets":
            raise FormError("only bilinear and linear forms of a Form are integrated over interior facets")
        key = (over, group, order, gradients)
        if not (isinstance(group, str | None) and isinstance(order, int | None)):
            return self._new_maps(*key)  # which says what is wrong
        if key not in self._maps:
            self._maps[key] = self._new_maps(*key)
        return list(self._maps[key])

    @cached_property
    def _maps(self) -> dict[tuple[Over, str | None, int | None, bool], list[NodalMap]]:
        return {}

    def _new_maps(self, over: Over, group: str | None, order: int | None, gradients: bool) -> list[NodalMap]:
        if over == "cells":
            domains = self.cells("stiffness" if gradients else "mass", group, order)
        else:
            facets = self.mesh.boundary() if group is None else self.mesh.facets(group)
            domains = self.facets(facets, order)
        (part,) = self.field_parts
        return [NodalMap(domain, part) for domain in domains]

    def _domain(self, number: int, cell: Int32Array, local: Int32Array, table: Table) -> Domain:
        nodes = self.mesh.blocks[number].nodes
        start, stop = self.mesh.block_offsets[number : number + 2]
        whole = len(cell) == len(nodes) and not table.is_facet
        parts = self.block_parts[number] if whole else entity_parts(nodes[cell], self.owner, self.n_parts)
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
            specialised=is_large(len(cell), nodes.shape[1]),
            engine=self.engine,
        )
