"""Integrals as terms of a residual: a law, on a field map, over a region.

With the flux ``P`` and its tangent ``C = dP/du^`` at a point, the residual is ``r = int v^ : P`` and

    (dr/du) du = int v^ : C du^            v^T dr/du = int (C^T v^) : u^
    d(v^T r)   = int (v^ : P) d(dx) + d(v^) : P + (C^T v^) : d(u^) + v^ : dP   along node velocities,

where ``d(v^)`` and ``d(u^)`` are the transport of the fields with the mesh and ``dP`` is what the law reads besides
them. All of it is written once here, for every law and field map. Only where a linear law meets a nodal field map are
compiled passes taken instead; that is decided in ``IntegralAt.compiled`` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.base.design import Cotangent, Design
from femadj.errors import FormError
from femadj.forms.integrand import strict_complex
from femadj.forms.law import Law, parameters_read
from femadj.forms.pointwise import (
    Quadrature,
    add_measure,
    add_parameter_slopes,
    evaluated,
    reads_geometry,
    seeds_along,
)
from femadj.forms.probing import asymmetric, notable
from femadj.forms.sampling import Picked
from femadj.forms.slotted import add_carried, carried
from femadj.forms.term import Budget, Kept
from femadj.space import nodal
from femadj.space.maps import FieldMap, FieldsAt, IntArray, NodalMap, PointTensor, Sides, chosen_of, numbered
from femadj.space.nodal import Force, Tensor, rate_of_measure
from femadj.space.parameters import Parameters
from femadj.space.parts import Part
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain

SYMMETRY = 1e-11
"""Largest distance of an entry from its transpose that counts as symmetric, relative to its row and column."""

T = TypeVar("T")
Product = Literal["flux", "jvp", "vjp"]


@dataclass(frozen=True, eq=False)
class IntegralTerm:
    """A law on a field map.

    Attributes
    ----------
    fields : FieldMap
        Unknowns on the region.
    laws : mapping of sides to Law
        For every choice of sides of the arguments (trial, then test); one law but at interior facets.
    symmetric : bool
        Whether the derivative by the unknowns is symmetric.
    rate : int
        Order of the time derivative that it acts on.
    """

    fields: FieldMap
    laws: Mapping[Sides, Law]
    symmetric: bool = False
    rate: int = 0

    @classmethod
    def of(cls, fields: FieldMap, law: Law, *, symmetric: bool = False, rate: int = 0) -> IntegralTerm:
        """A law where all fields are taken from one side."""
        return cls(fields, {(0,) * law.arity: law}, symmetric, rate)

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Where it integrates."""
        return self.fields.domains

    @property
    def domain(self) -> Domain:
        """Where it integrates, seen from the first side."""
        return self.fields.domains[0]

    @property
    def law(self) -> Law:
        """The first of its laws."""
        return next(iter(self.laws.values()))

    @cached_property
    def reads(self) -> frozenset[str]:
        """What its laws read besides the fields."""
        return frozenset[str]().union(*(law.reads for law in self.laws.values()))

    @cached_property
    def parameter_names(self) -> frozenset[str]:
        """Parameters that it reads."""
        return parameters_read(self.reads)

    @property
    def linear(self) -> bool:
        """Whether the tangent does not depend on the field; of an external term: whether the force does not."""
        return all(law.linear for law in self.laws.values())

    def runs_on(self, parameters: Parameters) -> str:
        """Where assembly, products and derivatives by the nodes run, in words, and why on the host."""
        law, refusal = self.law, self.domain.engine.refusal(self.domain)
        if not self.fields.compiled:
            refusal = "unknowns that are not values at the mesh nodes"
        elif not law.linear:
            refusal = "a law that is nonlinear in the field is evaluated at quadrature points by NumPy"
        elif law.arity == 1:
            refusal = "linear forms"
        elif law.varies(parameters):
            refusal = "its integrand is evaluated at quadrature points by NumPy"
        what = f"{self.law.name} over {len(self.fields)} {'facets' if self.domain.is_facet else 'cells'}"
        return f"{what}: host ({refusal})" if refusal else f"{what}: {self.domain.engine.name}"

    def prepare(self) -> None:
        """Compile the kernels; those of field maps other than nodal are few, and compiled by the first use."""
        if not isinstance(self.fields, NodalMap):
            return
        nc = self.fields.part.components
        lo, hi = self.law.slots
        if self.law.arity == 2:
            nodal.prepare_bilinear(self.domain, nc, lo, hi, symmetric=self.symmetric)
        else:
            nodal.prepare_linear(self.domain, nc, lo, hi, varies="x" in self.reads)

    def at(self, points: FloatArray, parameters: Parameters, budget: Budget | None = None) -> IntegralAt:
        """Put the term at a design."""
        if np.iscomplexobj(points):
            return self.in_motion(points, parameters, budget)
        laws = {sides: law.at_design() for sides, law in self.laws.items()}
        same = all(law is self.laws[sides] for sides, law in laws.items())
        return IntegralAt(self if same else replace(self, laws=laws), points, parameters, Kept(budget or Budget()))

    def in_motion(self, points: FloatArray, parameters: Parameters, budget: Budget | None = None) -> IntegralAt:
        """Put the term at a design that carries a complex step: products of complex fields carry their rates."""
        laws = {sides: law.in_motion() for sides, law in self.laws.items()}
        return IntegralAt(replace(self, laws=laws), points, parameters, Kept(budget or Budget()))


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some entities at a design.

    Attributes
    ----------
    fields : FieldsAt
    term : IntegralTerm
    parameters : Parameters
    keep : callable
        See ``Kept``; keys are those of the piece.
    start : int
        Number of its first entity.
    """

    fields: FieldsAt
    term: IntegralTerm
    points: FloatArray
    parameters: Parameters
    keep: Callable[[Any, Callable[[], Any]], Any]
    start: int = 0

    def quadrature(self, sides: Sides) -> Quadrature:
        """What the laws of some sides may read."""
        return Quadrature(
            self.fields.domain, self.points, self.parameters, sides=self.term.laws[sides].idx,
            known_frame=lambda: self.fields.frame, start=self.start,
        )  # fmt: skip

    def kept(self, sides: Sides) -> Callable[[str, Callable[[], Any]], Any]:
        """What the law of some sides keeps."""
        return lambda name, compute: self.keep((sides, name), compute)

    def tangent(self, at: Quadrature, sides: Sides, u: FloatArray | None) -> PointTensor:
        """``dP/du^``; of an external force the force itself."""
        return self.term.laws[sides].tangent(at, self.kept(sides), u)

    def flux(self, at: Quadrature, sides: Sides, u: FloatArray, tangent: PointTensor | None = None) -> FloatArray:
        """``P``."""
        return self.term.laws[sides].flux(at, self.kept(sides), u, tangent)

    def slots(self, joined: FloatArray) -> list[list[FloatArray]]:
        """Slots of fields: by side, then by field."""
        return [self.fields.slots(joined, side) for side in range(len(self.term.domains))]


@dataclass(frozen=True, eq=False)
class IntegralAt:
    """An integral at a design.

    Attributes
    ----------
    term : IntegralTerm
    points : (n_nodes, dim)
    parameters : Parameters
    kept : Kept
        Coefficients, and shape functions of other field maps than the nodal one.
    """

    term: IntegralTerm
    points: FloatArray
    parameters: Parameters
    kept: Kept

    # ------------------------------------------------------------------ pieces
    @cached_property
    def compiled(self) -> Law | None:
        """The law, where compiled passes exist for it: a linear one on a nodal field map."""
        law = self.term.law
        return law if self.term.fields.compiled and law.linear else None

    @property
    def _parts(self) -> tuple[Part, ...]:
        return self.term.fields.parts

    @property
    def _whole(self) -> bool:
        """Whether compiled passes take all entities at once: where coefficients do not vary from piece to piece."""
        return self.compiled is not None and not self.compiled.varies(self.parameters)

    def _each(self, evaluate: Callable[[_Piece], T], *, whole: bool = False) -> Iterator[tuple[FieldsAt, T | None]]:
        """Evaluate something on every piece, in threads; None comes where cells are tangled.

        ``whole``: on all entities at once.
        """
        fields = self.term.fields

        def put(piece: tuple[int, FieldMap]) -> tuple[FieldsAt, T | None]:
            start, here = piece
            at = here.at(self.points) if fields.compiled else self.kept((start, "at"), lambda: here.at(self.points))
            if not at.low > 0:
                return at, None
            kept = partial(self._kept_by_piece, -1 if whole else start)
            return at, evaluate(_Piece(at, self.term, self.points, self.parameters, kept, start))

        pieces = [(0, fields)] if whole else numbered(fields.pieces())
        for _, found in evaluated(pieces, put, 1 if whole else len(self.term.domain.parts)):
            yield found
        self._require_sound()

    def _require_sound(self) -> None:
        """Look at the points that a pass has noted."""
        for sides, law in self.term.laws.items():
            if law.noted is not None and law.noted.is_new:
                with strict_complex():
                    law.require_sound(self._noted_points(sides)[1])
                law.noted.mark_seen()

    def _noted_points(self, sides: Sides) -> tuple[_Piece, Picked]:
        """The entities with points that the law of some sides has noted, and these points."""
        noted = self.term.laws[sides].noted
        assert noted is not None
        if noted.is_empty:
            for _ in self._each(lambda piece: piece.tangent(piece.quadrature(sides), sides, None), whole=self._whole):
                pass
        if sides not in self._few:
            few, entity = chosen_of(self.term.fields, noted.entity)
            here = _Piece(few.at(self.points), self.term, self.points, self.parameters, lambda _, compute: compute())
            self._few[sides] = here, entity
        piece, entity = self._few[sides]
        at = piece.quadrature(sides)
        return piece, Picked.of(at, entity * at.shape[1] + noted.point)

    @property
    def _geometry(self) -> set[str]:
        """What laws read that changes as nodes move; of fields whose gradients are read also the names."""
        reads = {name for name in self.term.reads if name in {"x", "n", "h"} or name.endswith(".grad")}
        return {part for name in reads for part in (name, name.partition(".")[0])}

    @cached_property
    def _few(self) -> dict[Sides, tuple[_Piece, IntArray]]:
        return {}

    def _require_derivatives(self, wanted: Collection[str], u: FloatArray, v: FloatArray | None = None) -> None:
        """FormError where laws that read some of what is wanted have changed since the term was put at the design, or
        where ``v^ : P`` has no derivative by it."""
        joined = self.term.fields.join(u, u if v is None else v)
        for sides, law in self.term.laws.items():
            if law.noted is None or not law.reads.intersection(wanted):
                continue
            with strict_complex():
                piece, picked = self._noted_points(sides)
                law.require_unchanged(picked)
                if v is not None:
                    slots = piece.slots(joined)
                    at_u, at_v = picked.pick(slots[sides[0]][0]), picked.pick(slots[sides[-1]][1])
                    law.require_derivative(picked, at_u, at_v, wanted)

    def _kept_by_piece(self, start: int, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        return self.kept((start, *key), compute)

    def _kernel_pieces(self, *, slopes: bool = False) -> Iterator[tuple[Domain, Any]]:
        """Domains with the data of compiled passes."""
        law = self.compiled
        assert law is not None
        nc = self._parts[0].components
        (sides,) = self.term.laws

        def data(piece: _Piece) -> Tensor | Force:
            return law.kernel_data(piece.quadrature(sides), piece.kept(sides), nc, slopes=slopes)

        for at, found in self._each(data, whole=self._whole):
            yield at.domain, found

    # ------------------------------------------------------------------ at a fixed design
    def residual(self, u: FloatArray, into: FloatArray) -> float:
        """Add ``r(u)``; returns the smallest Jacobian determinant met."""
        if self.compiled is None:
            return self._product("flux", u, None, into)
        worst = np.inf
        for domain, data in self._kernel_pieces():
            if self.term.law.arity == 2:
                nodal.apply(domain, self.points, data, u, into)
            else:
                worst = min(worst, nodal.load(domain, self.points, data, into))
        return float(worst)

    def jacobian(self, u: FloatArray, into: MatrixEntries) -> float:
        """Add ``dr/du``; returns the smallest Jacobian determinant met."""
        if self.term.law.arity == 1:
            return float(np.inf)
        worst = np.inf
        if self.compiled is not None:
            for domain, data in self._kernel_pieces():
                worst = min(worst, nodal.assemble(domain, self.points, data, into))
            return float(worst)
        for at, found in self.matrices(None if self.term.law.linear else u):
            if found is None:
                worst = min(worst, at.low)
                continue
            if self.term.symmetric and not self.term.fields.compiled and asymmetric(found, SYMMETRY):
                raise FormError(
                    f"form {self.term.law.name!r} is symmetric in u and v where it was sampled, but not here; tell "
                    "Form(..., symmetric=False)"
                )
            worst = min(worst, at.assemble(found, into))
        return float(worst)

    def matrices(self, u: FloatArray | None = None) -> Iterator[tuple[FieldsAt, Any]]:
        """What ``FieldsAt.assemble`` takes, piece by piece; ``u`` may be left out where the law is linear."""
        joined = None if u is None else self.term.fields.join(u)

        def matrices(piece: _Piece) -> Any:
            slots = None if joined is None else piece.slots(joined)
            return piece.fields.matrices(
                {
                    sides: piece.tangent(piece.quadrature(sides), sides, None if slots is None else slots[sides[0]][0])
                    for sides in self.term.laws
                }
            )

        return self._each(matrices, whole=self._whole)

    def jvp(self, u: FloatArray, du: FloatArray, into: FloatArray) -> None:
        """Add ``(dr/du) du``."""
        self._linear_product("jvp", u, du, into)

    def vjp(self, u: FloatArray, v: FloatArray, into: FloatArray) -> None:
        """Add ``(dr/du)^T v``."""
        self._linear_product("vjp", u, v, into)

    def _linear_product(self, product: Product, u: FloatArray, x: FloatArray, into: FloatArray) -> None:
        if self.term.law.arity == 1:
            return
        if self.compiled is None:
            self._product(product, u, x, into)
            return
        for domain, data in self._kernel_pieces():
            nodal.apply(domain, self.points, data if product == "jvp" else data.transposed, x, into)

    def _product(self, product: Product, u: FloatArray, x: FloatArray | None, into: FloatArray) -> float:
        joined = self.term.fields.join(u, u if x is None else x)

        def force(piece: _Piece) -> dict[int, FloatArray]:
            slots, result = piece.slots(joined), _Sums()
            for sides in self.term.laws:
                at, trial, test = piece.quadrature(sides), sides[0], sides[-1]
                if product == "flux":
                    result.add(test, piece.flux(at, sides, slots[trial][0]))
                    continue
                if product == "vjp":
                    law, at_v = piece.term.laws[sides], slots[test][1]
                    result.add(trial, law.pulled(at, piece.kept(sides), slots[trial][0], at_v))
                    continue
                pushed = piece.term.laws[sides].pushed(at, piece.kept(sides), slots[trial][0], slots[trial][1])
                result.add(test, pushed)
            return result.sums

        worst = np.inf
        for at, found in self._each(force):
            worst = min(worst, at.low)
            for side, here in (found or {}).items():
                worst = min(worst, at.scatter(here, into, side))
        return float(worst)

    def require_linear_at(self, u: FloatArray) -> None:
        """FormError where the term is said to be linear and is not at a field; looks at a few entities.

        Where it is nonlinear in u, it must be linear in v, and differentiable.
        """
        fields = self.term.fields
        law = self.term.law
        if len(fields) == 0 or (law.linear and law.noted is None):
            return
        few = fields.selected(notable(fields.rows, u.reshape(-1, fields.n_components)))
        here = _Piece(few.at(self.points), self.term, self.points, self.parameters, lambda _, compute: compute())
        with strict_complex():
            slots = here.slots(fields.join(u))
            for sides, law in self.term.laws.items():
                law.require_linear_at(here.quadrature(sides), slots[sides[0]][0])

    # ------------------------------------------------------------------ derivatives by the design
    def pullback(self, u: FloatArray, v: FloatArray, into: Cotangent, scale: float = 1.0) -> None:
        """Add ``scale * v^T dr/dd`` at fixed fields, for the points and parameters that ``into`` holds."""
        wanted = self.term.parameter_names & set(into.parameters)
        law, points = self.compiled, into.points
        if points is not None and law is not None and law.complete(self.parameters):
            self._compiled_pullback(u, v, points, scale)
            points = None
        if wanted and self.term.law.constant_in_regions(self.parameters):
            self._by_moments(u, v, {name: into.parameters[name] for name in wanted}, scale)
            wanted = frozenset()
        if points is not None or wanted:
            self._composed_pullback(u, v, points, {name: into.parameters[name] for name in wanted}, scale)

    def _compiled_pullback(self, u: FloatArray, v: FloatArray, points: FloatArray, scale: float) -> None:
        for domain, data in self._kernel_pieces(slopes=True):
            if self.term.law.arity == 2:
                nodal.contract(domain, self.points, data, u, v, points, scale)
            else:
                nodal.load_contract(domain, self.points, data, v, points, scale)

    def _composed_pullback(
        self, u: FloatArray, v: FloatArray, points: FloatArray | None, into: Mapping[str, FloatArray], scale: float
    ) -> None:
        """In one pass that evaluates everything at the points."""
        self._require_derivatives({*into, *(() if points is None else self._geometry)}, u, v)
        joined = self.term.fields.join(u, v)

        def slopes(piece: _Piece) -> tuple[dict[int, FloatArray], list[tuple[Quadrature, Mapping[str, FloatArray]]]]:
            slots, forces, found = piece.slots(joined), _Sums(), []
            for sides, law in self.term.laws.items():
                at, trial, test = piece.quadrature(sides), sides[0], sides[-1]
                at_u, at_v = slots[trial][0], slots[test][1]
                if points is not None:
                    self._add_node_forces(piece, at, sides, at_u, at_v, forces)
                if into:
                    found.append((at, law.by_parameters(at, at_u, at_v, into)))
            return forces.sums, found

        for at, result in self._each(slopes):
            forces, found = result or ({}, [])
            for side, force in forces.items():
                assert points is not None
                at.scatter_to_nodes(force if scale == 1.0 else scale * force, points, side)
            for quadrature, by_name in found:
                add_parameter_slopes(quadrature, by_name, into, scale)

    def _add_node_forces(
        self, piece: _Piece, at: Quadrature, sides: Sides, u: FloatArray, v: FloatArray, forces: _Sums
    ) -> None:
        """What the points of a piece contribute to the node gradient: measure, law, transport of both fields."""
        law, dim = self.term.laws[sides], at.domain.dim
        flux, by_u = law.duals(at, piece.kept(sides), u, v)
        explicit = law.explicit(at, piece.kept(sides), u, v)
        force = np.zeros((dim, 1 + dim, *at.shape), dtype=at.dtype) if explicit is None else explicit
        add_measure(force, _paired(flux, v), at.frame.normal_or_none)
        forces.add(0, force)
        add_carried(forces.at(sides[-1], force.shape, force.dtype), self._parts, v, flux)
        if by_u is not None:
            add_carried(forces.at(sides[0], force.shape, force.dtype), self._parts, u, by_u)

    def _by_moments(self, u: FloatArray, v: FloatArray, into: Mapping[str, FloatArray], scale: float) -> None:
        """Derivatives by parameters of coefficients that do not vary within regions: ``dC/dm`` times ``v^ (x) u^``."""
        self._require_derivatives(into, u, v)
        for sides, moments in self._moments(u, v).items():
            law = self.term.laws[sides]
            at = Quadrature(self.term.domain, self.points, self.parameters, sides=law.idx)
            law.pull_constants(at, self.kept, moments, into, scale)

    def _moments(self, u: FloatArray, v: FloatArray) -> dict[Sides, FloatArray]:
        """Integrals over the regions of each law: of ``v^ (x) u^``, or of what its coefficients multiply."""
        law = self.compiled
        if law is not None and law.arity == 2 and not np.iscomplexobj(self.points):
            (sides,) = self.term.laws
            domain, nc = self.term.domain, u.shape[1]
            stride = domain.dim + 1
            lo, hi = law.moment_slots(domain.dim)
            region, n_regions = law.regions(domain)
            full = np.zeros((n_regions, nc, stride, nc, stride))
            full[:, :, lo:hi, :, lo:hi] = nodal.moments(domain, self.points, region, n_regions, lo, hi, u, v)
            return {sides: full.reshape(n_regions, nc * stride, nc * stride)}
        joined = self.term.fields.join(u, v)

        def sums(piece: _Piece) -> dict[Sides, tuple[FloatArray, npt.NDArray[np.int32], int]]:
            slots, result = piece.slots(joined), {}
            for sides in self.term.laws:
                law = self.term.laws[sides]
                at, at_u, at_v = piece.quadrature(sides), slots[sides[0]][0], slots[sides[-1]][1]
                if law.arity == 2 and law.linear:
                    by_entity = np.einsum("aeq,beq->eab", at_v * at.frame.measure, at_u)
                else:
                    by_entity = (law.paired(at, piece.kept(sides), at_u, at_v) * at.frame.measure).sum(axis=-1).T
                result[sides] = (by_entity, *law.regions(at.domain))
            return result

        total: dict[Sides, FloatArray] = {}
        for _, found in self._each(sums):
            for sides, (by_entity, region, n_regions) in (found or {}).items():
                target = total.setdefault(sides, np.zeros((n_regions, *by_entity.shape[1:]), by_entity.dtype))
                np.add.at(target, region, by_entity)
        return total

    def pushforward(self, u: FloatArray, direction: Design, into: FloatArray) -> None:
        """Add ``(dr/dd) direction`` at a fixed field, along node velocities and rates of parameters."""
        velocity, law = direction.points, self.compiled
        rates = {n: rate for n, rate in direction.parameters.items() if n in self.term.parameter_names and rate.any()}
        if velocity is not None and law is not None:
            for domain, data in self._kernel_pieces(slopes=True):
                if self.term.law.arity == 2:
                    nodal.tangent(domain, self.points, data, velocity, u, into)
                else:
                    nodal.load_tangent(domain, self.points, data, velocity, into)
        if rates:
            rates = self._push_constants(u, rates, into)
        transport = velocity is not None and law is None
        moved = velocity is not None and not (law is not None and law.complete(self.parameters))
        explicit = moved and (transport or reads_geometry(self.term.reads, self.parameters))
        if transport or explicit or rates:
            self._composed_pushforward(u, velocity if moved else None, rates, into, transport=transport)

    def _push_constants(
        self, u: FloatArray, rates: Mapping[str, FloatArray], into: FloatArray
    ) -> dict[str, FloatArray]:
        """Add rates along parameters of coefficients that are laws themselves; returns the rates that are left."""
        moved = {sides: law.along(self.parameters, rates) for sides, law in self.term.laws.items()}
        if any(law is None for law in moved.values()):
            return dict(rates)
        laws = {sides: law for sides, law in moved.items() if law is not None}
        replace(self.term, laws=laws).at(self.points, self.parameters).residual(u, into)
        return {}

    def _composed_pushforward(
        self, u: FloatArray, velocity: FloatArray | None, rates: Mapping[str, FloatArray], into: FloatArray, *,
        transport: bool,
    ) -> None:  # fmt: skip
        self._require_derivatives({*rates, *(() if velocity is None else self._geometry)}, u)
        joined = self.term.fields.join(u)

        def force(piece: _Piece) -> dict[int, FloatArray]:
            slots, result = piece.slots(joined), _Sums()
            gradient = {} if velocity is None else {
                side: piece.fields.velocity_gradient(velocity, side) for side in range(len(self.term.domains))
            }  # fmt: skip
            for sides, law in self.term.laws.items():
                at, at_u = piece.quadrature(sides), slots[sides[0]][0]
                if transport:
                    result.add(sides[-1], self._transport(piece, at, sides, at_u, gradient))
                seeds = seeds_along(at, law.reads, velocity, gradient.get(0), rates)
                if seeds:
                    result.add(sides[-1], law.rate(at, piece.kept(sides), at_u, seeds))
            return result.sums

        for at, found in self._each(force):
            for side, here in (found or {}).items():
                at.scatter(here, into, side)

    def _transport(
        self, piece: _Piece, at: Quadrature, sides: Sides, u: FloatArray, w: Mapping[int, FloatArray]
    ) -> FloatArray:
        """Rate of the flux through the transport of both fields and the measure."""
        trial, test = sides[0], sides[-1]
        tangent = piece.tangent(at, sides, u)
        flux = piece.flux(at, sides, u, tangent)
        change = carried(self._parts, flux, w[test], adjoint=True)
        change += flux * rate_of_measure(w[0], at.frame.normal_or_none)
        if self.term.laws[sides].arity == 2:
            change += tangent.times(carried(self._parts, u, w[trial]))
        return change


class _Sums:
    """Arrays by side that are added to."""

    def __init__(self) -> None:
        self.sums: dict[int, FloatArray] = {}

    def add(self, side: int, array: FloatArray) -> None:
        """Add an array, which is then owned."""
        if side in self.sums:
            self.sums[side] += array
        else:
            self.sums[side] = array

    def at(self, side: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> FloatArray:
        """The sum of a side."""
        return self.sums.setdefault(side, np.zeros(shape, dtype))


def _paired(a: FloatArray, b: FloatArray) -> FloatArray:
    """Sum over the slots of the products."""
    result = a[0] * b[0]
    for one, other in zip(a[1:], b[1:], strict=True):
        result += one * other
    return result
