"""Forms on the unknowns of any element, over cells, facets and pairs of cells at interior facets.

A form is linear in its arguments, so that at a quadrature point it is a matrix of coefficients between the slots of the
trial and of the test functions (see ``femadj.forms.slotted``), found by evaluating the form itself on unit slots. With
the shape functions of the element, carried along as the mesh moves, these make the matrices of the cells and their
exact derivatives. What surrounds the fields (``x``, ``n``, ``h``, parameters) is differentiated by guarded complex
step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.base.complex_step import derivative
from femadj.errors import FormError
from femadj.forms.integrand import Integrand, strict_complex
from femadj.forms.pointwise import (
    Quadrature,
    Slots,
    add_measure,
    add_parameter_slopes,
    interpolate,
    reads_geometry,
    scatter,
)
from femadj.forms.probing import (
    Probe,
    generic_parameters,
    notable,
    placeholder,
    probe_slots,
    probing_quadrature,
    sample_of,
    sampled,
)
from femadj.forms.slotted import add_carried, arguments_of, carried, fields_of
from femadj.forms.tangent import surroundings_seeds
from femadj.forms.tensors import asymmetric
from femadj.kernels.scatter import scatter_matrices, scatter_vectors
from femadj.space.element import ElementSpace, Part, Side, pieces
from femadj.space.parameters import Parameters
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain

IntArray = npt.NDArray[np.int64]
Idx = tuple[int, ...]

_SYMMETRY = 1e-11
"""Largest distance of an entry from its transpose that counts as symmetric, relative to its row and column."""


@dataclass(frozen=True, eq=False)
class ShapeFunctions:
    """Shape functions of some entities on one side, at given node coordinates.

    Attributes
    ----------
    side : Side
    table : (m, nq, n_slots, n_functions)
    unknowns : (m, n_functions) int64
        Flat numbers.
    n_components : int
        Unknowns in a row.
    """

    side: Side
    table: FloatArray
    unknowns: IntArray
    n_components: int

    @classmethod
    def at_points(cls, side: Side, n_components: int, points: FloatArray) -> tuple[ShapeFunctions, float]:
        """Those of a side, and the smallest Jacobian determinant; where that is not positive they are empty."""
        table, low = side.functions_at(points)
        rows = side.rows.astype(np.int64)
        unknowns = (n_components * rows[:, :, None] + np.arange(n_components)).reshape(len(rows), -1)
        return cls(side, table, unknowns, n_components), low

    def at(self, u: FloatArray) -> FloatArray:
        """Slots ``(n_slots, m, nq)`` of a field of unknowns."""
        local = u.reshape(-1)[self.unknowns]
        return np.moveaxis(np.matmul(self.table, local[:, None, :, None])[..., 0], -1, 0)

    def scatter(self, force: FloatArray, y: FloatArray) -> None:
        """Add ``int v^ : F`` of every shape function to ``y``; ``F`` ``(n_slots, m, nq)`` holds the measure."""
        m, nq, n_slots, n = self.table.shape
        rows = np.moveaxis(force, 0, -1).reshape(m, 1, nq * n_slots)
        vectors = np.matmul(rows, self.table.reshape(m, nq * n_slots, n))[:, 0]
        scatter_vectors(self.side.rows, self.n_components, np.ascontiguousarray(vectors), y.reshape(-1))


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some entities at given node coordinates.

    Attributes
    ----------
    fields : tuple of ShapeFunctions
        One a side.
    at : (m,) int64
        Which entities they are.
    low : float
        Smallest Jacobian determinant; nothing else is known where it is not positive.
    """

    fields: tuple[ShapeFunctions, ...]
    at: IntArray
    low: float

    @property
    def domain(self) -> Domain:
        """The entities, with geometry and normals of the first side."""
        return self.fields[0].side.domain


@dataclass(frozen=True, eq=False)
class _Transported:
    """What bilinear and linear forms share.

    Attributes
    ----------
    sides : tuple of Side
        One; two where cells meet at interior facets.
    probes : mapping of sides to Probe
        For every choice of sides of the arguments (trial, test) what probing the form has found.
    n_components : int
        Unknowns in a row.
    positions : (m,) int64
        Which entry of the pattern's positions belongs to each entity.
    parameters : Parameters
    """

    sides: tuple[Side, ...]
    probes: Mapping[Idx, Probe]
    n_components: int
    positions: IntArray
    parameters: Parameters

    @property
    def domain(self) -> Domain:
        """Where it integrates; at interior facets seen from the first side."""
        return self.sides[0].domain

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Where it integrates, side by side."""
        return tuple(side.domain for side in self.sides)

    @property
    def reads(self) -> frozenset[str]:
        """What the form reads."""
        return frozenset().union(*(probe.reads for probe in self.probes.values()))

    @property
    def parameter_names(self) -> frozenset[str]:
        """Parameters that it reads."""
        return frozenset(name for name in self.parameters if name in self.reads)

    def with_parameters(self, parameters: Parameters) -> Self:
        """The same form with other values of the parameters."""
        probes = {idx: probe.at_design() for idx, probe in self.probes.items()}
        return replace(self, parameters=parameters, probes=probes)

    def prepare(self) -> None:
        """Kernels are compiled by the first use: they are few and small."""

    @property
    def _parts(self) -> tuple[Part, ...]:
        return self.sides[0].parts

    @property
    def _depends_on_geometry(self) -> bool:
        return reads_geometry(self.reads, self.parameters)

    def _pieces(self, points: FloatArray) -> Iterator[_Piece]:
        for start, stop in pieces(self.sides[0]):
            found = [ShapeFunctions.at_points(s.chunk(start, stop), self.n_components, points) for s in self.sides]
            yield _Piece(tuple(f for f, _ in found), np.arange(start, stop), min(low for _, low in found))

    def _quadrature(self, piece: _Piece, points: FloatArray, idx: Idx) -> Quadrature:
        return Quadrature(piece.domain, points, self.parameters, sides=self.probes[idx].sides)

    def _coefficient(self, quadrature: Quadrature, idx: Idx) -> FloatArray:
        """``(m or 1, nq or 1, n_slots, ...)``, test slots first."""
        probe = self.probes[idx]
        one_point = not probe.varies_within(self.parameters)
        domain = quadrature.domain if probe.varies(self.parameters) else quadrature.domain.chunk(0, 1)
        values, basis, *_ = probe.coefficients(replace(quadrature, domain=domain, one_point=one_point))
        return np.tensordot(values, basis, axes=(0, 0))

    def _add_surroundings(
        self, force: FloatArray, quadrature: Quadrature, probe: Probe, arguments: list[Slots]
    ) -> None:
        if reads_geometry(probe.reads, self.parameters):
            force += probe.surroundings_force(quadrature, arguments)

    def _measured(self, quadrature: Quadrature, phi: FloatArray) -> FloatArray:
        """Force ``(dim, dim + 1, m, nq)`` of the change of the measure."""
        force = np.zeros((quadrature.domain.dim, quadrature.domain.dim + 1, *quadrature.shape))
        add_measure(force, phi, quadrature.frame.normal if quadrature.domain.is_facet else None)
        return force

    def _by_parameters(
        self,
        points: FloatArray,
        arguments: Callable[[_Piece, Idx], FloatArray],
        into: Mapping[str, FloatArray],
        scale: float,
    ) -> None:
        names = {name for name in into if name in self.parameter_names}
        if not names:
            return
        wanted = (names | {f"{name}.grad" for name in names}) & self.reads
        with strict_complex():
            for piece in self._pieces(points):
                for idx, probe in self.probes.items():
                    quadrature = self._quadrature(piece, points, idx)
                    slots = self._arguments(arguments(piece, idx))
                    slopes = probe.parameter_slopes(quadrature, slots, wanted & probe.reads)
                    add_parameter_slopes(quadrature, slopes, into, scale)

    def _arguments(self, slots: FloatArray) -> list[Slots]:
        """Arguments from slots ``(arity, n_slots, m, nq)``."""
        return [argument for each in slots for argument in arguments_of(self._parts, each)]


@dataclass(frozen=True, eq=False)
class TransportedBilinear(_Transported):
    """A bilinear form on the unknowns of an element.

    Attributes
    ----------
    symmetric : bool
        Whether the matrices of the entities are symmetric; FormError where they turn out not to be.
    swapped : bool
        Whether the roles of u and v are exchanged.
    """

    symmetric: bool = False
    swapped: bool = False

    def transposed(self) -> Self:
        """The form with the roles of u and v exchanged."""
        return self if self.symmetric else replace(self, swapped=not self.swapped)

    def matrices(self, points: FloatArray) -> Iterator[tuple[_Piece, FloatArray]]:
        """Matrices of the entities, piece by piece: ``(m, n, n)`` with the unknowns of all sides one after another."""
        for piece in self._pieces(points):
            if not piece.low > 0:
                yield piece, np.empty((0, 0, 0))
                continue
            with strict_complex():
                matrices = self._matrices(piece, points)
            yield piece, matrices

    def _matrices(self, piece: _Piece, points: FloatArray) -> FloatArray:
        n = self.sides[0].n_functions
        m, nq, n_slots, _ = piece.fields[0].table.shape
        total = np.zeros((m, n * len(self.sides), n * len(self.sides)))
        for idx in self.probes:
            trial, test = piece.fields[idx[0]], piece.fields[idx[-1]]
            quadrature = self._quadrature(piece, points, idx)
            flux = np.matmul(self._coefficient(quadrature, idx), trial.table)
            flux *= quadrature.frame.measure[:, :, None, None]
            rows = slice(n * idx[-1], n * idx[-1] + n)
            columns = slice(n * idx[0], n * idx[0] + n)
            by_test = test.table.reshape(m, nq * n_slots, n).transpose(0, 2, 1)
            total[:, rows, columns] += np.matmul(by_test, flux.reshape(m, nq * n_slots, n))
        return total.transpose(0, 2, 1) if self.swapped else total

    def assemble(self, points: FloatArray, entries: MatrixEntries) -> float:
        """Add to the entries of the matrix; returns the smallest Jacobian determinant."""
        worst = np.inf
        csr, position = entries.pattern.csr, entries.pattern.positions[self.domain.block]
        for piece, matrices in self.matrices(points):
            worst = min(worst, piece.low)
            if not piece.low > 0:
                continue
            if self.symmetric:
                self._require_symmetric(matrices)
            rows = np.hstack([fields.side.rows for fields in piece.fields])
            scatter_matrices(
                rows, self.n_components, np.ascontiguousarray(matrices), position, self.positions[piece.at], csr.indptr,
                csr.triangle == "upper", entries.data,
            )  # fmt: skip
        return float(worst)

    def _require_symmetric(self, matrices: FloatArray) -> None:
        if asymmetric(matrices, _SYMMETRY):
            name = next(iter(self.probes.values())).integrand.name
            raise FormError(
                f"form {name!r} is symmetric in u and v where it was sampled, but not here; tell "
                "Form(..., symmetric=False)"
            )

    def apply(self, points: FloatArray, x: FloatArray, y: FloatArray) -> None:
        """Add ``K x`` to ``y``."""
        with strict_complex():
            for piece in self._pieces(points):
                for idx in self.probes:
                    trial, test = piece.fields[idx[0]], piece.fields[idx[-1]]
                    quadrature = self._quadrature(piece, points, idx)
                    c = self._coefficient(quadrature, idx)
                    known, out = (test, trial) if self.swapped else (trial, test)
                    force = _times(c, known.at(x), transpose=self.swapped) * quadrature.frame.measure
                    out.scatter(force, y)

    def contract(
        self, points: FloatArray, u: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0
    ) -> None:
        """Add ``scale * d/dX (v^T K u)`` at fixed u and v to ``gradient``."""
        u, v = (v, u) if self.swapped else (u, v)
        with strict_complex():
            for piece in self._pieces(points):
                forces: dict[int, FloatArray] = {}
                for idx, probe in self.probes.items():
                    quadrature = self._quadrature(piece, points, idx)
                    at_u, at_v = piece.fields[idx[0]].at(u), piece.fields[idx[-1]].at(v)
                    c = self._coefficient(quadrature, idx)
                    by_v = _times(c, at_u)
                    by_u = _times(c, at_v, transpose=True)
                    force = self._measured(quadrature, (by_v * at_v).sum(axis=0))
                    arguments = self._arguments(np.stack([at_u, at_v]))
                    self._add_surroundings(force, quadrature, probe, arguments)
                    forces[0] = forces.get(0, 0.0) + force
                    for side, slots, dual in ((idx[0], at_u, by_u), (idx[-1], at_v, by_v)):
                        moved = forces.setdefault(side, np.zeros_like(force))
                        add_carried(moved, self._parts, slots, dual)
                for side, force in forces.items():
                    scatter(piece.fields[side].side.domain.on_geometry, points, scale * force, gradient)

    def require_linear_at(self, points: FloatArray, u: FloatArray) -> None:
        """FormError where the form is not linear in u at a field, at a few entities."""
        if len(self.domain) == 0 or self.swapped:
            return
        keep = notable(np.hstack([side.rows for side in self.sides]), u.reshape(-1, self.n_components))
        for idx, probe in self.probes.items():
            trial, _ = ShapeFunctions.at_points(self.sides[idx[0]].selected(keep), self.n_components, points)
            quadrature = Quadrature(self.domain.selected(keep), points, self.parameters, sides=probe.sides)
            probe.require_linear_at(quadrature, arguments_of(self._parts, trial.at(u)))

    def parameter_gradient(
        self, points: FloatArray, u: FloatArray, v: FloatArray, into: Mapping[str, FloatArray], scale: float = 1.0
    ) -> None:
        """Add ``scale * d/dm (v^T K u)`` at fixed u and v to the arrays of the parameters."""
        u, v = (v, u) if self.swapped else (u, v)
        self._by_parameters(
            points,
            lambda piece, idx: np.stack([piece.fields[idx[0]].at(u), piece.fields[idx[-1]].at(v)]),
            into,
            scale,
        )

    def tangent(self, points: FloatArray, velocity: FloatArray, u: FloatArray, y: FloatArray) -> None:
        """Add ``(dK/dX velocity) u`` to ``y``."""
        with strict_complex():
            for piece in self._pieces(points):
                for idx, probe in self.probes.items():
                    known, out = idx[0], idx[-1]
                    if self.swapped:
                        known, out = out, known
                    quadrature = self._quadrature(piece, points, idx)
                    at_u = piece.fields[known].at(u)
                    c = self._coefficient(quadrature, idx)
                    w = {side: _velocity_gradient(piece.fields[side], points, velocity) for side in {0, known, out}}
                    force = _times(c, at_u, transpose=self.swapped)
                    change = _times(c, carried(self._parts, at_u, w[known]), transpose=self.swapped)
                    change += carried(self._parts, force, w[out], adjoint=True)
                    change += force * _rate_of_measure(quadrature, w[0])
                    if self._depends_on_geometry:
                        change += _rate_of_coefficient(quadrature, probe, velocity, at_u, trial=not self.swapped)
                    piece.fields[out].scatter(change * quadrature.frame.measure, y)


@dataclass(frozen=True, eq=False)
class TransportedLinear(_Transported):
    """A linear form on the unknowns of an element."""

    def add(self, points: FloatArray, f: FloatArray) -> float:
        """Add the load vector; returns the smallest Jacobian determinant."""
        worst = np.inf
        with strict_complex():
            for piece in self._pieces(points):
                worst = min(worst, piece.low)
                if not piece.low > 0:
                    continue
                for idx in self.probes:
                    quadrature = self._quadrature(piece, points, idx)
                    force = self._force(quadrature, idx) * quadrature.frame.measure
                    piece.fields[idx[0]].scatter(force, f)
        return float(worst)

    def _force(self, quadrature: Quadrature, idx: Idx) -> FloatArray:
        """``F`` ``(n_slots, m, nq)``."""
        c = np.moveaxis(self._coefficient(quadrature, idx), -1, 0)
        return np.broadcast_to(c, (c.shape[0], *quadrature.shape))

    def contract(self, points: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0) -> float:
        """Add ``scale * v^T (df/dX)`` to ``gradient``; returns ``scale * v^T f``."""
        value = 0.0
        with strict_complex():
            for piece in self._pieces(points):
                forces: dict[int, FloatArray] = {}
                for idx, probe in self.probes.items():
                    quadrature = self._quadrature(piece, points, idx)
                    at_v = piece.fields[idx[0]].at(v)
                    by_v = self._force(quadrature, idx)
                    phi = (by_v * at_v).sum(axis=0)
                    value += float((phi * quadrature.frame.measure).sum())
                    force = self._measured(quadrature, phi)
                    self._add_surroundings(force, quadrature, probe, self._arguments(at_v[None]))
                    forces[0] = forces.get(0, 0.0) + force
                    add_carried(forces.setdefault(idx[0], np.zeros_like(force)), self._parts, at_v, by_v)
                for side, force in forces.items():
                    scatter(piece.fields[side].side.domain.on_geometry, points, scale * force, gradient)
        return scale * value

    def parameter_gradient(
        self, points: FloatArray, v: FloatArray, into: Mapping[str, FloatArray], scale: float = 1.0
    ) -> None:
        """Add ``scale * v^T (df/dm)`` to the arrays of the parameters."""
        self._by_parameters(points, lambda piece, idx: piece.fields[idx[0]].at(v)[None], into, scale)

    def tangent(self, points: FloatArray, velocity: FloatArray, y: FloatArray) -> None:
        """Add ``(df/dX) velocity`` to ``y``."""
        with strict_complex():
            for piece in self._pieces(points):
                for idx, probe in self.probes.items():
                    quadrature = self._quadrature(piece, points, idx)
                    force = self._force(quadrature, idx)
                    w = {side: _velocity_gradient(piece.fields[side], points, velocity) for side in {0, idx[0]}}
                    change = carried(self._parts, force, w[idx[0]], adjoint=True)
                    change += force * _rate_of_measure(quadrature, w[0])
                    if self._depends_on_geometry:
                        change += _rate_of_coefficient(quadrature, probe, velocity, None, trial=False)
                    piece.fields[idx[0]].scatter(change * quadrature.frame.measure, y)


def _times(c: FloatArray, slots: FloatArray, *, transpose: bool = False) -> FloatArray:
    """``C[s, t] u[t]`` at every point (``C^T`` with ``transpose``): ``(n_slots, m, nq)``."""
    matrix = c.swapaxes(-1, -2) if transpose else c
    return np.moveaxis(np.matmul(matrix, np.moveaxis(slots, 0, -1)[..., None])[..., 0], -1, 0)


def _velocity_gradient(fields: ShapeFunctions, points: FloatArray, velocity: FloatArray) -> FloatArray:
    """``dV_i/dx_j`` ``(dim, dim, m, nq)`` on one side."""
    return interpolate(fields.side.domain.on_geometry, points, velocity)[1]


def _rate_of_measure(quadrature: Quadrature, w: FloatArray) -> FloatArray:
    """``div V`` on cells, ``div V - n . (grad V) n`` on facets."""
    rate: FloatArray = np.einsum("jjeq->eq", w)
    if quadrature.domain.is_facet:
        n = quadrature.frame.normal
        rate = rate - np.einsum("ieq,ijeq,jeq->eq", n, w, n)
    return rate


def _rate_of_coefficient(
    quadrature: Quadrature, probe: Probe, velocity: FloatArray, fixed: FloatArray | None, *, trial: bool
) -> FloatArray:
    """Rate of ``C u^`` (``trial``), ``C^T v^`` or ``F`` through what surrounds the fields, ``(n_slots, m, nq)``."""
    seeds = surroundings_seeds(quadrature, probe.reads, velocity)
    known = [] if fixed is None else fields_of(probe.parts, fixed)
    change = np.empty((probe.n_slots, *quadrature.shape))
    for slot in range(probe.n_slots):
        free = probe.unit_arguments(slot, quadrature.shape)
        arguments = [*known, *free] if trial else [*free, *known]
        change[slot] = derivative(quadrature.evaluate(probe.integrand, arguments, seeds))
    return change


# ------------------------------------------------------------------ making them
@dataclass(frozen=True, eq=False)
class Place:
    """Where a form is integrated on an element space.

    Attributes
    ----------
    sides : tuple of Side
    positions : (m,) int64
    seen : "pairs", "each" or None
        At facets between two cells: whether a bilinear form is called for all pairs of sides, or for each side with
        itself; None: for all pairs, FormError for forms that do not tell the sides of u and v apart.
    """

    sides: tuple[Side, ...]
    positions: IntArray
    seen: Literal["pairs", "each"] | None = None


def over_cells(space: ElementSpace, group: str | None, order: int | None) -> Place:
    """Cells of a group, or all."""
    side = space.cell_side(group, order)
    return Place((side,), side.domain.cell.astype(np.int64))


def over_facets(space: ElementSpace, group: str | None, order: int | None) -> Place:
    """Facets of a group, or the whole boundary."""
    facets = space.mesh.boundary() if group is None else space.mesh.facets(group)
    side = space.facet_side(facets, order)
    return Place((side,), side.domain.cell.astype(np.int64))


def over_interior_facets(space: ElementSpace, group: str | None, order: int | None) -> Place:
    """Facets between two cells: of a facet group, of a cell group, or all; ``space.interior`` must hold them."""
    facets = space.interior_facets(group)
    return Place(space.interior_sides(facets, order), np.searchsorted(space.interior, facets))


def _probed(
    integrand: Integrand, place: Place, points: FloatArray, parameters: Parameters, arity: int
) -> dict[Idx, Probe]:
    """Probe a form for every choice of sides of its arguments."""
    n_sides = len(place.sides)
    domain = sample_of(place.sides[0].domain)
    probes = {}
    read: set[str] = set()
    for idx in np.ndindex(*(n_sides,) * arity) if n_sides > 1 else [(0,) * arity]:
        if place.seen == "each" and len(set(idx)) > 1:
            continue
        sides = None if n_sides == 1 else idx[:1] if place.seen == "each" else idx
        quadrature = probing_quadrature(Quadrature(domain, points, parameters, sides=sides))
        probes[idx] = probe_slots(integrand, quadrature, place.sides[0].parts, arity)
        read |= quadrature.reads
    if n_sides > 1 and arity == 2 and place.seen is None and "idx[1]" not in read:
        raise FormError(
            f"form {integrand.name!r} over interior facets does not tell the side of u from that of v (w.idx[1] is not "
            "read), so that it can mean two operators: Integral(..., sides='each') calls it for each side with itself, "
            "as scikit-fem's asm(form, [side0, side1]) does, Integral(..., sides='pairs') for all four pairs of sides, "
            "as asm(form, [side0, side1], [side0, side1]); or write it with jump(w, u, v)"
        )
    return probes


def transported_bilinear(
    integrand: Integrand, place: Place, space: ElementSpace, parameters: Parameters
) -> TransportedBilinear:
    """Probe a bilinear form and bind it to a place; FormError for what is wrong with it."""
    probes = _probed(integrand, place, space.mesh.points, parameters, 2)
    term = TransportedBilinear(place.sides, probes, space.n_components, place.positions, parameters)
    keep = sampled(len(term.domain))
    sides = tuple(side.selected(keep) for side in place.sides)
    filled = placeholder(parameters)
    sample = replace(term, sides=sides, positions=place.positions[keep], parameters=filled)
    symmetric = _is_symmetric(sample, space.mesh.points)
    if len(place.sides) == 1:
        symmetric &= all(probe.symmetric for probe in probes.values())
    if symmetric and term.parameter_names:
        moved = sample.with_parameters(generic_parameters(filled))
        try:
            symmetric = _is_symmetric(moved, space.mesh.points)
        except FormError:
            symmetric = True  # not defined for such parameters; every assembly looks at it again
    # from here on it is the matrices that are looked at
    general = {idx: replace(probe, symmetric=False) for idx, probe in probes.items()}
    return replace(term, symmetric=symmetric, probes=general)


def _is_symmetric(term: TransportedBilinear, points: FloatArray) -> bool:
    return not any(asymmetric(matrices, 0.1 * _SYMMETRY) for _, matrices in term.matrices(points))


def transported_linear(
    integrand: Integrand, place: Place, space: ElementSpace, parameters: Parameters
) -> TransportedLinear:
    """Probe a linear form and bind it to a place; FormError for what is wrong with it."""
    probes = _probed(integrand, place, space.mesh.points, parameters, 1)
    return TransportedLinear(place.sides, probes, space.n_components, place.positions, parameters)
