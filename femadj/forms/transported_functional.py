"""Functionals of unknowns of any element: values and derivatives, over cells and boundary facets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from femadj.base.arrays import FloatArray, listing
from femadj.errors import TangledMeshError
from femadj.forms.differentiation import ComplexStep
from femadj.forms.integrand import Integrand, strict_complex
from femadj.forms.pointwise import Quadrature, add_measure, add_parameter_slopes, scatter
from femadj.forms.probing import sampled
from femadj.forms.slotted import add_carried, arguments_of
from femadj.forms.transported import Place, ShapeFunctions
from femadj.space.element import ElementSpace, Side, pieces
from femadj.space.parameters import Parameters


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
        reads = _tried(integrand, side.selected(sampled(len(side.domain))), space, points, u, parameters)
        total = 0.0
        for start, stop in pieces(side):
            here = side.chunk(start, stop)
            shapes = _shapes(here, space, points)
            slots = shapes.at(u)
            arguments = arguments_of(here.parts, slots)
            quadrature = Quadrature(here.domain, points, parameters)
            found = way.slopes(quadrature, arguments, [range(1)] * len(arguments), reads)
            if not quadrature.reads <= reads:  # a branch that was not met before
                reads |= quadrature.reads
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
    """Evaluate on a sample, and tell what is read."""
    quadrature = Quadrature(side.domain, points, parameters)
    arguments = arguments_of(side.parts, _shapes(side, space, points).at(u))
    quadrature.evaluate(integrand, [argument.field for argument in arguments])
    return set(quadrature.reads)
