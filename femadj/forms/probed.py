"""Forms as terms: a user's function is probed on a field map and becomes a law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import FormError
from femadj.forms.integral import IntegralTerm
from femadj.forms.integrand import Integrand
from femadj.forms.law import FormLaw
from femadj.forms.pointwise import Quadrature
from femadj.forms.probing import Probe, generic_parameters, placeholder, probe, sample_of, sampled
from femadj.forms.slotted import probe_slots, probing_quadrature
from femadj.space.maps import FieldMap, NodalMap, Sides
from femadj.space.parameters import Parameters


def form_term(
    integrand: Integrand, fields: FieldMap, points: FloatArray, parameters: Parameters, arity: int
) -> IntegralTerm:
    """Probe a form and bind it to a field map.

    Parameters
    ----------
    integrand : Integrand
    fields : FieldMap
    points : (n_nodes, dim)
        Where it is probed.
    parameters : Parameters
    arity : int
        1: linear form, 2: bilinear form.

    Raises
    ------
    FormError
        For what is wrong with the form.
    """
    parts = fields.parts
    several, laws = len(fields.domains) > 1, {}
    for sides, found in _probes(integrand, fields, points, parameters, arity).items():
        law = FormLaw(found.integrand, parts, arity, found.reads, found, found.symmetric)
        at = Quadrature(fields.domains[0], points, parameters, sides=sides if several else None)
        laws[sides] = law.remembered(at)
    if fields.compiled:
        (law,) = laws.values()
        return IntegralTerm(fields, laws, law.symmetric)
    term = IntegralTerm(fields, laws)
    return replace(term, symmetric=_is_symmetric(term, points, parameters)) if arity == 2 else term


def as_general(term: IntegralTerm) -> IntegralTerm:
    """The same form, taken to be unsymmetric in u and v whatever probing found."""
    laws = {
        sides: replace(law, symmetric=False, probe=replace(law.probe, symmetric=False))
        for sides, law in term.laws.items()
        if isinstance(law, FormLaw)
    }
    return replace(term, laws=laws, symmetric=False)


def probe_of(term: IntegralTerm) -> Probe:
    """What probing the form of a term has found."""
    law = term.law
    if not isinstance(law, FormLaw):
        raise TypeError(f"{law.name} is no form")
    return law.probe


def _probes(
    integrand: Integrand, fields: FieldMap, points: FloatArray, parameters: Parameters, arity: int
) -> Mapping[Sides, Probe]:
    """For every choice of sides of the arguments."""
    if isinstance(fields, NodalMap):
        components = (fields.part.components,)
        return {(0,) * arity: probe(integrand, fields.domain, points, parameters, components, arity)}
    n_sides = len(fields.domains)
    domain, found = sample_of(fields.domains[0]), {}
    for sides in np.ndindex(*(n_sides,) * arity):
        quadrature = Quadrature(domain, points, parameters, sides=sides if n_sides > 1 else None)
        found[sides] = probe_slots(integrand, probing_quadrature(quadrature), fields.parts, arity)
    return found


def _is_symmetric(term: IntegralTerm, points: FloatArray, parameters: Parameters) -> bool:
    """Whether the matrices of a sample of entities are, also at other values of the parameters."""
    fields = term.fields.selected(sampled(len(term.fields)))
    sample, filled = replace(term, fields=fields), placeholder(parameters)

    def at(values: Parameters) -> bool:
        return all(
            found is None or here.are_symmetric(found, 0.1) for here, found in sample.at(points, values).matrices()
        )

    if not at(filled) or not term.parameter_names:
        return at(filled)
    try:
        return at(generic_parameters(filled))
    except FormError:
        return True  # not defined for such parameters; every assembly looks at it again
