"""Forms that are nonlinear in u as terms: tried on a sample of entities, and bound.

A form need not be defined for all fields (a logarithm, the root of a negative number): states of several sizes are
tried until one of them has a value. What a sample tells is looked at again at every solution
(``FluxLaw.require_linear_at``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.calls import samples
from femadj.errors import FormError
from femadj.forms.integral import IntegralTerm
from femadj.forms.integrand import Integrand, Reads, strict_complex
from femadj.forms.integrand_law import FluxLaw
from femadj.forms.pointwise import Quadrature
from femadj.forms.probing import generic_parameters, probing_quadrature, sampled
from femadj.space.maps import FieldMap
from femadj.space.parameters import Parameters
from femadj.space.parts import Part

_STATES = ((0.0, 1.0), (0.0, 0.1), (0.0, 1e-3), (1.0, 0.1), (300.0, 1.0), (0.0, 0.0))
"""Values about which states are tried, and how far they are from there; gradients are as far from zero."""


class Tried(NamedTuple):
    """What trying has found: what the form reads, and the end of the slots used (1: values alone)."""

    reads: Reads
    hi: int


def flux_law(integrand: Integrand, parts: tuple[Part, ...]) -> FluxLaw:
    """The law of a form ``form(u, v, w)`` of which nothing is known yet."""
    return FluxLaw(integrand, parts, 2, frozenset())


def nonlinear_term(law: FluxLaw, fields: FieldMap, points: FloatArray, parameters: Parameters) -> IntegralTerm:
    """Try a law and bind it to a field map; symmetric where its tangent is on the sample.

    Raises
    ------
    FormError
        For forms that raise, return a wrong shape, mix points, are not linear in v, have a derivative that disagrees
        with differences, or no value at any of the states that are tried.
    """
    few = fields.selected(sampled(len(fields)))
    quadrature = probing_quadrature(Quadrature(few.domains[0], points, parameters))
    with strict_complex():
        law, u = _with_value(law, few, quadrature)
        law.require_linear_at(quadrature, u)
        symmetric = law.has_symmetric_tangent(quadrature, u)
        if symmetric and any(name in law.read for name in parameters):
            try:
                others = Quadrature(few.domains[0], points, generic_parameters(quadrature.parameters))
                symmetric = law.has_symmetric_tangent(others, u)
            except FormError:
                pass  # not defined for such parameters; every tangent is looked at again
    return IntegralTerm.of(fields, replace(law, symmetric=symmetric), symmetric=symmetric)


def flux_law_of(term: IntegralTerm) -> FluxLaw:
    """The law of a term that a form has been bound to."""
    law = term.law
    assert isinstance(law, FluxLaw)
    return law


def tried(term: IntegralTerm) -> Tried:
    """What a term reads and uses."""
    law = flux_law_of(term)
    gradient = "state.grad" in law.read or law.parts[0].kind != "H1"
    return Tried(Reads(law.read), 2 if gradient else 1)


def _with_value(law: FluxLaw, few: FieldMap, quadrature: Quadrature) -> tuple[FluxLaw, FloatArray]:
    """The law with what it reads, and slots of a state at which it has a value."""
    n = few.parts[-1].slots.stop
    values = np.zeros((n, 1, 1))
    for part in few.parts:
        values[part.value_slots] = 1.0
    failure: FormError | None = None
    for centre, size in _STATES:
        u = centre * values + size * samples(1, 7).uniform(-1, 1, (n, *quadrature.shape))
        try:
            return law.reading(quadrature, u), u
        except FormError as error:
            failure = failure or error
    assert failure is not None
    raise failure
