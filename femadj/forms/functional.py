"""Integrals of any function of the state: values and derivatives, on any field map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from femadj.base.arrays import FloatArray, listing
from femadj.errors import TangledMeshError
from femadj.forms.differentiation import Differentiable
from femadj.forms.integrand import strict_complex
from femadj.forms.pointwise import Quadrature, Slots, add_measure, add_parameter_slopes, evaluated
from femadj.forms.probing import sampled
from femadj.forms.sampling import Picked, pick_points, picked_of, require_differentiable, require_local
from femadj.forms.slotted import add_carried, arguments_of, dual_of, slots_read
from femadj.space.maps import FieldMap, FieldsAt, IntArray, chosen_of, numbered
from femadj.space.parameters import Parameters

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class PointFunctional:
    """``int f`` of a function of the parts of the state, on a field map, at a design and a state.

    Attributes
    ----------
    way : Differentiable
        The function, which takes the parts as arguments.
    fields : FieldMap
    points : (n_nodes, dim)
    parameters : Parameters
    u : array
        Unknowns.
    """

    way: Differentiable
    fields: FieldMap
    points: FloatArray
    parameters: Parameters
    u: FloatArray

    def value(self) -> float:
        """Its value, without derivatives; FormError where the function has none."""

        def value(joined: FloatArray, start: int, piece: FieldMap) -> float:
            at, quadrature, _, arguments = self._put(piece, joined)
            found = quadrature.evaluate_real(self.way.integrand, [a.field for a in arguments])
            return float((found * at.frame.measure).sum())

        return float(sum(self._each(value)))

    def reads(self) -> frozenset[str]:
        """What the function reads, found out on a sample; ``"state.grad"``: gradients of the state."""
        with strict_complex():
            _, quadrature, _, arguments = self._sample()
            quadrature.evaluate(self.way.integrand, [a.field for a in arguments])
        if not quadrature.moving:
            return frozenset(quadrature.reads)
        nodal = (name for name, entry in self.parameters.entries.items() if entry.kind == "nodal")
        return frozenset((*quadrature.reads, "state.grad", *(f"{name}.grad" for name in nodal)))

    def _try(self, reads: Set[str]) -> None:
        """FormError where the function mixes points of a sample or (where nobody else looks) has a wrong derivative."""
        integrand = self.way.integrand
        with strict_complex():
            _, quadrature, _, arguments = self._sample()
            if self.way.checks_itself:
                require_differentiable(quadrature, integrand, arguments, reads, by_arguments=True)
            else:
                pick_points(
                    quadrature, integrand, arguments, quadrature.evaluate_real(integrand, [a.field for a in arguments])
                )

    def _look(self, entity: IntArray, point: IntArray, values: FloatArray, reads: Set[str]) -> None:
        """FormError where the function mixes points, or has no derivative that differences confirm, at some points."""
        few, number = chosen_of(self.fields, entity)
        with strict_complex():
            _, quadrature, _, arguments = self._put(few, self.fields.join(self.u))
            picked = Picked.of(quadrature, number * quadrature.shape[1] + point)
            local = [picked.slots(argument) for argument in arguments]
            require_local(picked, self.way.integrand, local, values)
            require_differentiable(picked, self.way.integrand, local, reads, by_arguments=True, both_sides=True)

    def add_partials(
        self,
        state: FloatArray,
        nodes: FloatArray,
        by_parameters: Mapping[str, FloatArray],
        allow: Callable[[Set[str]], None] = lambda _: None,
    ) -> float:
        """Add the derivatives by the unknowns, the points and parameters; returns the value.

        ``allow`` is called with what the function reads, and raises where that has no meaning.
        """
        moving = np.iscomplexobj(self.points)  # then it has been looked at before
        reads = self.reads()
        if not moving:
            allow(reads)
            self._try(reads)
        parts = self.fields.parts

        def slopes(joined: FloatArray, start: int, piece: FieldMap) -> tuple[Any, ...]:
            at, quadrature, slots, arguments = self._put(piece, joined, start)
            read = set(reads)
            while True:
                ranges = [slots_read(part, gradient="state.grad" in read) for part in parts]
                found = self.way.slopes(quadrature, arguments, ranges, read)
                if quadrature.reads <= read:
                    break
                read |= quadrature.reads  # a branch that the sample has not met
                if not moving:
                    allow(read)
            dual, force = dual_of(parts, found.arguments), found.explicit
            add_measure(force, found.value, at.frame.normal_or_none)
            add_carried(force, parts, slots, dual)
            value = (found.value * at.frame.measure).sum().item()
            picked = picked_of(quadrature, found.value.real)
            looked = picked.whole_entity, picked.point, picked.pick(found.value)[:, 0]
            return at, quadrature, value, dual, force, found.parameters, looked, read

        total, looked, every = 0.0, [], set(reads)
        for at, quadrature, value, dual, force, found, points, read in self._each(slopes):
            total += value
            looked.append(points)
            every |= read
            at.scatter(dual, state)
            at.scatter_to_nodes(force, nodes)
            add_parameter_slopes(quadrature, found, by_parameters, 1.0)
        if looked and not moving and not self.way.checks_itself:
            entity, point, values = map(np.concatenate, zip(*looked, strict=True))
            self._look(entity, point, values, every)
        return total

    def _each(self, evaluate: Callable[[FloatArray, int, FieldMap], T]) -> Iterator[T]:
        """Evaluate something on every piece, in threads."""
        joined, threads = self.fields.join(self.u), len(self.fields.domains[0].parts)
        for _, found in evaluated(numbered(self.fields.pieces()), lambda piece: evaluate(joined, *piece), threads):
            yield found

    def _sample(self) -> tuple[FieldsAt, Quadrature, FloatArray, list[Slots]]:
        """A few entities, with the state there."""
        return self._put(self.fields.selected(sampled(len(self.fields))), self.fields.join(self.u))

    def _put(
        self, piece: FieldMap, joined: FloatArray, start: int = 0
    ) -> tuple[FieldsAt, Quadrature, FloatArray, list[Slots]]:
        """A piece at the points, with the state there."""
        at = piece.at(self.points)
        if not at.low > 0:
            cells = at.domain.tangled_cells(self.points)
            raise TangledMeshError(
                f"cells {listing(cells)} are flat or turned inside out at a quadrature point", cells.tolist()
            )
        quadrature = Quadrature(at.domain, self.points, self.parameters, known_frame=lambda: at.frame, start=start)
        (slots,) = at.slots(joined)
        arguments = arguments_of(self.fields.parts, slots, lambda: quadrature.reads.add("state.grad"))
        return at, quadrature, slots, arguments
