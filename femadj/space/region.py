"""Regions of a mesh: cells, or facets of cells, of one block with what the kernels need of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.kernels.compile import Sizes, read_only
from femadj.kernels.entity import Geometry, Share, Tables
from femadj.kernels.geometry import scaled_jacobian_range
from femadj.mesh.reference import Table
from femadj.space.engine import HOST, Engine, Host, Passes

Int32Array = npt.NDArray[np.int32]
AnyArray = npt.NDArray[Any]
S = TypeVar("S")
T = TypeVar("T")

SPECIALISED_ENTITIES = 1_500
"""Domains with at least this many entities get kernels compiled for their sizes, which are two to six times as fast;
below, a pass takes a fraction of a millisecond either way."""

PIECE = Host("coefficients are evaluated piece by piece")
"""Pieces of a domain, which there are many of, have their passes on the host."""

FEW_NODES, MORE = 4, 3
"""Of cells with more nodes it takes so many times as many: compiling takes longer for them."""


def is_large(n: int, n_nodes: int) -> bool:
    """Whether kernels are compiled for the sizes of a region of so many entities, of cells with so many nodes."""
    return n >= SPECIALISED_ENTITIES * (1 if n_nodes <= FEW_NODES else MORE)


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
    engine : Engine
        Where passes run that need not run on the host.
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
    engine: Engine = HOST

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
    def global_cells(self) -> Int32Array:
        """Global cell id of every entity."""
        return self.cell if self.first_cell == 0 else self.cell + np.int32(self.first_cell)

    def sizes(
        self,
        components: int,
        lo: int,
        hi: int,
        *,
        symmetric: bool = False,
        varies: bool = False,
        dtype: npt.DTypeLike = np.float64,
    ) -> Sizes:
        """Compile-time sizes of a kernel on this domain; slots are none, the value, the derivatives, or both."""
        key = (components, lo, hi, symmetric, varies, np.dtype(dtype).kind == "c")
        if key not in self._sizes:
            self._sizes[key] = self._new_sizes(*key)
        return self._sizes[key]

    @cached_property
    def _sizes(self) -> dict[tuple[int, int, int, bool, bool, bool], Sizes]:
        return {}

    def _new_sizes(
        self, components: int, lo: int, hi: int, symmetric: bool, varies: bool, complex_numbers: bool
    ) -> Sizes:
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
            complex_numbers=complex_numbers,
        )

    def at(self, points: AnyArray) -> Geometry:
        """The entities, as kernels take them, at node coordinates ``(n_nodes, dim)``."""
        return self._geometry._replace(points=read_only(points))

    @cached_property
    def _geometry(self) -> Geometry:
        arrays = (self.nodes, self.field, self.cell, self.local, self.orientation)
        return Geometry(np.zeros((0, self.dim)), *(read_only(a) for a in arrays))

    @cached_property
    def tables(self) -> Tables:
        """Shape functions, as kernels take them."""
        g, f = self.geometry, self.shape
        arrays = (g.values, g.gradients, f.values, f.gradients, g.weights, g.normals)
        return Tables(*(read_only(a) for a in arrays))

    @cached_property
    def shares(self) -> tuple[Share, ...]:
        """What each thread does, as kernels take it."""
        return tuple(Share(read_only(items), read_only(self.owner), part) for part, items in enumerate(self.parts))

    @cached_property
    def elsewhere(self) -> Passes | None:
        """Passes that do not run on the host; None where all of them do."""
        return None if self.engine.refusal(self) else self.engine.passes(self)

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

    def run(self, call: Callable[[Share], T]) -> list[T]:
        """Call ``call(share)`` for every part, in as many threads as there are parts."""
        return in_threads(call, self.shares)

    def chunk(self, start: int, stop: int) -> Domain:
        """The entities from ``start`` to ``stop``."""
        parts = []
        for items in self.parts:
            low, high = np.searchsorted(items, np.array((start, stop), dtype=items.dtype))  # else all is converted
            parts.append(items[low:high] - np.int32(start))
        cell, local = self.cell[start:stop], self.local[start:stop]
        return replace(self, cell=cell, local=local, parts=tuple(parts), engine=PIECE)

    def selected(self, keep: npt.NDArray[np.bool_]) -> Domain:
        """The entities that are marked."""
        kept = np.flatnonzero(keep)
        parts = tuple(np.searchsorted(kept, items[keep[items]]).astype(np.int32) for items in self.parts)
        return replace(self, cell=self.cell[kept], local=self.local[kept], parts=parts, engine=PIECE)

    @property
    def on_geometry(self) -> Domain:
        """The same entities with the geometry's own shape functions as field."""
        return replace(self, field=self.nodes, shape=self.geometry)


def entity_parts(nodes: Int32Array, owner: Int32Array, n_parts: int) -> tuple[Int32Array, ...]:
    """For every part the rows of ``nodes`` that have a node in it, ascending."""
    if n_parts == 1:
        return (np.arange(len(nodes), dtype=np.int32),)
    return tuple(np.flatnonzero((owner[nodes] == part).any(axis=1)).astype(np.int32) for part in range(n_parts))


def in_threads(call: Callable[[S], T], shares: Sequence[S]) -> list[T]:
    """Results of ``call`` for every share, each in a thread of its own; the first in the one that asks."""
    if len(shares) == 1:
        return [call(shares[0])]
    with ThreadPoolExecutor(len(shares) - 1) as pool:
        others = [pool.submit(call, share) for share in shares[1:]]
        first = call(shares[0])
        return [first, *(other.result() for other in others)]
