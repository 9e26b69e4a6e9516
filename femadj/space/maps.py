"""Field maps: how unknowns become values and derivatives at quadrature points, and how forces there go back.

There are two: compiled passes for fields with values at the mesh nodes (here), and tables of shape functions for any
other element (``femadj.space.element_map``). What happens at a point (``femadj.forms.law``) does not know which of the
two it works with: both describe a field at a point by the same numbers, the slots of its parts
(``femadj.space.parts``), in arrays ``(n_slots, m, nq)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.space import nodal
from femadj.space.nodal import Force, Frame, Tensor
from femadj.space.parts import Part
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain

Over = Literal["cells", "facets", "interior facets"]
IntArray = npt.NDArray[np.int64]
Sides = tuple[int, ...]
"""The side that each argument (trial, then test) of a form is taken from: zeros, but at interior facets."""

CHUNK_POINTS = 32_768
"""Quadrature points that are evaluated at a time: arrays of that length stay in the cache of a core, and calling the
interpreter does not count."""


@dataclass(frozen=True, eq=False)
class PointTensor:
    """A tensor over slots at quadrature points, ``C = sum_p values_p basis_p``: few functions times constants.

    Attributes
    ----------
    values : (r, k, 1 or nq)
    basis : (r, n) or (r, n, n)
        Test slots, then trial slots.
    region : (m,) int32
        Which of the ``k`` each entity has.
    lo, hi : int
        Range that all slots (0 the value, 1.. the derivatives) lie in, for nodal fields.
    symmetric : bool
    """

    values: FloatArray
    basis: FloatArray
    region: npt.NDArray[np.int32]
    lo: int
    hi: int
    symmetric: bool = False

    @property
    def nbytes(self) -> int:
        """Memory of the values."""
        return self.values.nbytes

    @cached_property
    def functions(self) -> FloatArray:
        """Values at the entities: ``(r, 1 or m, 1 or nq)``."""
        k, m = self.values.shape[1], len(self.region)
        own = k == 1 or (k == m and np.array_equal(self.region, np.arange(m)))
        return self.values if own else self.values[:, self.region]

    def dense(self) -> FloatArray:
        """``(1 or m, 1 or nq, n, n)``, or ``(1 or m, 1 or nq, n)``."""
        return np.tensordot(self.functions, self.basis, axes=(0, 0))

    def force(self, shape: tuple[int, ...]) -> FloatArray:
        """A tensor of one index, ``(n, m, nq)``."""
        result = np.zeros((self.basis.shape[1], *shape), dtype=self.values.dtype)
        for value, row in zip(self.functions, self.basis, strict=True):
            for slot in np.flatnonzero(row):
                result[slot] += row[slot] * value
        return result

    def times(self, slots: FloatArray, *, transpose: bool = False) -> FloatArray:
        """``C`` (or its transpose) times a field ``(n, m, nq)``."""
        result = np.zeros(slots.shape, dtype=np.result_type(slots, self.values))
        for value, matrix in zip(self.functions, self.basis, strict=True):
            rows = matrix.T if transpose else matrix
            for slot in np.flatnonzero(rows.any(axis=1)):
                first, *others = np.flatnonzero(rows[slot])
                term = rows[slot, first] * slots[first]
                for other in others:
                    term += rows[slot, other] * slots[other]
                term *= value
                result[slot] += term
        return result

    def kernel_tensor(self, n_components: int) -> Tensor:
        """As the compiled passes of nodal fields want it."""
        return Tensor(self._expanded(n_components, 2), self.region, self.lo, self.hi, self.symmetric)

    def kernel_force(self, n_components: int) -> Force:
        """A tensor of one index, as the compiled passes of nodal fields want it."""
        force = self._expanded(n_components, 1)
        k, nq = force.shape[:2]
        return Force(force, np.zeros((k, nq)), np.zeros(k), self.region, self.lo, self.hi)

    def _expanded(self, n_components: int, arity: int) -> FloatArray:
        r, k, nq = self.values.shape
        used: tuple[slice, ...] = (slice(None), slice(self.lo, self.hi)) * arity
        n_slots = self.basis.shape[1] // n_components
        basis = self.basis.reshape(r, *(n_components, n_slots) * arity)[:, *used]
        flat = self.values.reshape(r, k * nq).T @ basis.reshape(r, math.prod(basis.shape[1:]))
        return np.ascontiguousarray(flat).reshape(k, nq, *basis.shape[1:])


class FieldsAt(Protocol):
    """Some entities at node coordinates, with the fields on them. Sides other than 0 exist at interior facets."""

    @property
    def low(self) -> float:
        """Smallest Jacobian determinant where it is known (inf where not); no fields where it is not positive."""
        ...

    @property
    def domain(self) -> Domain:
        """The entities, seen from the first side."""
        ...

    @property
    def frame(self) -> Frame:
        """Their geometry, seen from the first side."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory that is worth keeping for the next pass; 0 where nothing expensive is held."""
        ...

    def slots(self, joined: FloatArray, side: int = 0) -> list[FloatArray]:
        """Slots ``(n_slots, m, nq)`` of every field of ``FieldMap.join``."""
        ...

    def scatter(self, force: FloatArray, y: FloatArray, side: int = 0) -> float:
        """Add ``int v^ : F`` of ``F`` ``(n_slots, m, nq)``; returns the smallest Jacobian determinant."""
        ...

    def matrices(self, tensors: Mapping[Sides, PointTensor]) -> Any:
        """What ``assemble`` takes of ``int v^ : C : u^``: a tensor (compiled), or matrices ``(m, n, n)`` of entities.

        May be called in any thread.
        """
        ...

    def assemble(self, matrices: Any, entries: MatrixEntries) -> float:
        """Add to the entries of the pattern; returns the smallest Jacobian determinant."""
        ...

    def velocity_gradient(self, velocity: FloatArray, side: int = 0) -> FloatArray:
        """``dV_i/dx_j`` ``(dim, dim, m, nq)`` of node velocities."""
        ...

    def scatter_to_nodes(self, force: FloatArray, gradient: FloatArray, side: int = 0) -> None:
        """Add ``int F_j0 N_a + F_jk dN_a/dx_k`` of ``F`` ``(dim, 1 + dim, m, nq)`` to ``(n_nodes, dim)``."""
        ...


class FieldMap(Protocol):
    """Unknowns on a region."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The fields that the unknowns consist of."""
        ...

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The entities, seen from every side."""
        ...

    @property
    def compiled(self) -> bool:
        """Whether tensors and forces have compiled passes of their own (then it is a ``NodalMap``)."""
        ...

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        """Rows ``(m, k)`` of the unknowns, with ``n_components`` in each, that belong to every entity."""
        ...

    @property
    def n_components(self) -> int:
        """Unknowns in a row."""
        ...

    def __len__(self) -> int:
        """Number of entities."""
        ...

    def selected(self, keep: npt.NDArray[np.bool_]) -> Self:
        """On the entities that are marked."""
        ...

    def pieces(self) -> Iterator[Self]:
        """Division into pieces that are evaluated at a time."""
        ...

    def at(self, points: FloatArray) -> FieldsAt:
        """Put at node coordinates."""
        ...

    def join(self, *fields: FloatArray) -> FloatArray:
        """Arrays of unknowns, as one that ``FieldsAt.slots`` takes."""
        ...


def numbered(pieces: Iterator[FieldMap]) -> Iterator[tuple[int, FieldMap]]:
    """Pieces with the numbers of their first entities."""
    start = 0
    for piece in pieces:
        yield start, piece
        start += len(piece)


def chosen_of(fields: FieldMap, entity: IntArray) -> tuple[FieldMap, IntArray]:
    """The entities with some numbers, which may repeat, and where among these each is."""
    keep = np.zeros(len(fields), dtype=bool)
    keep[entity] = True
    return fields.selected(keep), np.unique(entity, return_inverse=True)[1]


@dataclass(frozen=True, eq=False)
class NodalMap:
    """A field with values at the mesh nodes, on a region of one block.

    Attributes
    ----------
    domain : Domain
    part : Part
    """

    domain: Domain
    part: Part

    @property
    def parts(self) -> tuple[Part, ...]:
        """The one part."""
        return (self.part,)

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The one domain."""
        return (self.domain,)

    @property
    def compiled(self) -> bool:
        """True."""
        return True

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        """Nodes of every entity's cell."""
        return self.domain.field[self.domain.cell]

    @property
    def n_components(self) -> int:
        """Components of the field."""
        return self.part.components

    def __len__(self) -> int:
        return len(self.domain)

    def selected(self, keep: npt.NDArray[np.bool_]) -> NodalMap:
        """On the entities that are marked."""
        return replace(self, domain=self.domain.selected(keep))

    def pieces(self) -> Iterator[NodalMap]:
        """Division into pieces of about ``CHUNK_POINTS`` quadrature points."""
        each = max(1, CHUNK_POINTS // self.domain.geometry.n_points)
        if len(self) <= each:
            yield self
            return
        for start in range(0, len(self), each):
            yield replace(self, domain=self.domain.chunk(start, min(start + each, len(self))))

    def at(self, points: FloatArray) -> NodalFields:
        """Put at node coordinates."""
        return NodalFields(self.domain, self.part, points)

    def join(self, *fields: FloatArray) -> FloatArray:
        """All fields side by side, so that one pass interpolates them."""
        return np.ascontiguousarray(np.hstack(fields))


@dataclass(frozen=True, eq=False)
class NodalFields:
    """Entities at node coordinates, with fields that have values at the nodes."""

    domain: Domain
    part: Part
    points: FloatArray

    @property
    def low(self) -> float:
        """Not known before something is integrated."""
        return np.inf

    @property
    def nbytes(self) -> int:
        """Nothing is held that is expensive."""
        return 0

    @cached_property
    def frame(self) -> Frame:
        """Geometry."""
        return nodal.frame(self.domain, self.points)

    def slots(self, joined: FloatArray, side: int = 0) -> list[FloatArray]:
        """Slots of every field."""
        value, gradient = nodal.interpolate(self.domain, self.points, joined)
        nc = self.part.components
        return [
            np.concatenate([value[i : i + nc, None], gradient[i : i + nc]], axis=1).reshape(-1, *value.shape[1:])
            for i in range(0, len(value), nc)
        ]

    def scatter(self, force: FloatArray, y: FloatArray, side: int = 0) -> float:
        """Add ``int v^ : F``."""
        nc = self.part.components
        return nodal.scatter(self.domain, self.points, force.reshape(nc, -1, *force.shape[1:]), y)

    def matrices(self, tensors: Mapping[Sides, PointTensor]) -> Tensor:
        """The tensor; the compiled pass does the rest."""
        (tensor,) = tensors.values()
        return tensor.kernel_tensor(self.part.components)

    def assemble(self, matrices: Tensor, entries: MatrixEntries) -> float:
        """Add to the entries of the pattern."""
        return nodal.assemble(self.domain, self.points, matrices, entries)

    def velocity_gradient(self, velocity: FloatArray, side: int = 0) -> FloatArray:
        """Gradient of node velocities."""
        return nodal.interpolate(self.domain.on_geometry, self.points, velocity)[1]

    def scatter_to_nodes(self, force: FloatArray, gradient: FloatArray, side: int = 0) -> None:
        """Add to node forces."""
        nodal.scatter(self.domain.on_geometry, self.points, force, gradient)
