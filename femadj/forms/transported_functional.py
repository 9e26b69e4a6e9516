"""Functionals of unknowns of any element: values and derivatives, over cells and boundary facets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.complex_step import Guarded, seed
from femadj.element_space import ElementSpace, Part, Side, pieces
from femadj.errors import TangledMeshError
from femadj.forms.differentiation import ComplexStep
from femadj.forms.integrand import GuardedField, Integrand, strict_complex
from femadj.forms.pointwise import Quadrature, Slots, add_measure, add_parameter_slopes, scatter, unit
from femadj.forms.probing import compare_with_differences, require_differentiable, sample_of
from femadj.forms.slotted import PartSlots, add_carried, field_of
from femadj.forms.transported import Place, ShapeFunctions
from femadj.parameters import Parameters
from femadj.topology import listing

FloatArray = npt.NDArray[np.float64]


class StateSlots(PartSlots):
    """A part of the state as an argument whose every slot can be stepped."""

    def seeded(self, component: int, slot: int) -> Any:
        """With a complex step in slot ``component`` (``slot`` is always 0)."""
        return self.moved(seed(self.value, unit(self.value.shape, (component,))))

    def moved(self, slots: Any) -> Any:
        """The field that other slots make, complex or not."""
        assert self.part is not None
        return _guarded_field(self.part, slots) if isinstance(slots, Guarded) else field_of(self.part, slots)


def _guarded_field(part: Part, slots: Guarded) -> GuardedField:
    dim = part.dim
    if part.kind == "H1":
        table = slots.reshape(part.components, 1 + dim, *slots.shape[1:])
        if part.vector:
            return GuardedField(table[:, 0], table[:, 1:])
        return GuardedField(table[0, 0], table[0, 1:])
    field = GuardedField(slots[:dim])
    if part.kind == "H(div)":
        field.div = slots[dim]
    else:
        field.curl = slots[dim:] if dim == 3 else slots[dim]
    return field


def integrate_transported(
    integrand: Integrand,
    place: Place,
    space: ElementSpace,
    points: FloatArray,
    u: FloatArray,
    parameters: Parameters,
    state: FloatArray,
    nodes: FloatArray,
    by_parameters: Mapping[str, FloatArray],
) -> float:
    """Integrate a function of the parts of the state; add its derivatives by state, nodes and parameters.

    Raises
    ------
    FormError
        When the function cannot be evaluated or differentiated.
    """
    (side,) = place.sides
    way = ComplexStep(integrand)
    with strict_complex():
        keep = np.zeros(len(side.domain), dtype=bool)
        chosen = sample_of(side.domain).cell  # a few entities
        keep[np.isin(side.domain.cell, chosen)] = True
        reads = _tried(integrand, side.selected(keep), space, points, u, parameters)
        total = 0.0
        for start, stop in pieces(side):
            here = side.chunk(start, stop)
            shapes = _shapes(here, space, points)
            slots = shapes.at(u)
            arguments = _arguments(here, slots)
            quadrature = Quadrature(here.domain, points, parameters)
            found = way.slopes(quadrature, arguments, [range(1)] * len(arguments), reads)
            dual = np.concatenate([by[:, 0] for by in found.arguments])
            force = found.surroundings
            add_measure(force, found.value, quadrature.frame.normal if here.domain.is_facet else None)
            add_carried(force, here.parts, slots, dual)
            total += float((found.value * quadrature.frame.measure).sum())
            shapes.scatter(dual * quadrature.frame.measure, state)
            scatter(here.domain.on_geometry, points, force, nodes)
            add_parameter_slopes(quadrature, found.parameters, by_parameters, 1.0)
    return total


def _arguments(side: Side, slots: FloatArray) -> list[Slots]:
    return [StateSlots(slots[part.slots], np.empty(0), part=part) for part in side.parts]


def _shapes(side: Side, space: ElementSpace, points: FloatArray) -> ShapeFunctions:
    shapes, low = ShapeFunctions.at_points(side, space.n_components, points)
    if not low > 0:
        cells = side.domain.tangled_cells(points)
        raise TangledMeshError(
            f"cells {listing(cells)} are flat or turned inside out at a quadrature point", cells.tolist()
        )
    return shapes


def _tried(
    integrand: Integrand, side: Side, space: ElementSpace, points: FloatArray, u: FloatArray, parameters: Parameters
) -> set[str]:
    """Evaluate on a sample, compare all derivatives with differences, and tell what is read."""
    quadrature = Quadrature(side.domain, points, parameters)
    arguments = _arguments(side, _shapes(side, space, points).at(u))
    fields = [argument.field for argument in arguments]
    quadrature.evaluate(integrand, fields)
    reads = set(quadrature.reads)
    require_differentiable(quadrature, integrand, arguments, reads)
    rng = np.random.default_rng(6)
    for number, argument in enumerate(arguments):
        assert isinstance(argument, StateSlots)
        direction = rng.uniform(-1, 1, argument.value.shape)

        def evaluate(step: Any, n: int = number, a: StateSlots = argument, d: FloatArray = direction) -> Any:
            moved = seed(a.value, d) if step is None else a.value + step * d
            return quadrature.evaluate(integrand, [*fields[:n], a.moved(moved), *fields[n + 1 :]])

        assert argument.part is not None
        compare_with_differences(integrand, f"the state {argument.part.name!r}", argument.value, evaluate)
    return reads
