"""Forms as terms: a user's function is probed on a field map and becomes a law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import FormError
from femadj.forms.integral import SYMMETRY, IntegralTerm
from femadj.forms.integrand import Integrand
from femadj.forms.integrand_law import FormLaw
from femadj.forms.pointwise import Quadrature
from femadj.forms.probing import (
    Probe,
    asymmetric,
    generic_parameters,
    placeholder,
    probe,
    probe_slots,
    probing_quadrature,
    sample_of,
    sampled,
)
from femadj.space.maps import FieldMap, NodalMap, Sides
from femadj.space.parameters import Parameters

Seen = Literal["pairs", "each"] | None


def form_term(
    integrand: Integrand,
    fields: FieldMap,
    points: FloatArray,
    parameters: Parameters,
    arity: int,
    seen: Seen = None,
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
    seen : "pairs", "each" or None
        At facets between two cells: whether a bilinear form is called for all pairs of sides, or for each side with
        itself; None: for all pairs, FormError for forms that do not tell the sides of u and v apart.

    Raises
    ------
    FormError
        For what is wrong with the form.
    """
    parts = fields.parts
    laws = {
        sides: FormLaw(found.integrand, parts, arity, found.reads, found, found.symmetric)
        for sides, found in _probes(integrand, fields, points, parameters, arity, seen).items()
    }
    if fields.compiled:
        (law,) = laws.values()
        return IntegralTerm(fields, laws, law.symmetric)
    term = IntegralTerm(fields, laws)
    if arity == 1:
        return term
    by_coefficients = len(fields.domains) > 1 or all(law.symmetric for law in laws.values())
    symmetric = by_coefficients and _is_symmetric(term, points, parameters)
    return replace(as_general(term), symmetric=symmetric)  # from here on it is the matrices that are looked at


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
    integrand: Integrand, fields: FieldMap, points: FloatArray, parameters: Parameters, arity: int, seen: Seen
) -> Mapping[Sides, Probe]:
    """For every choice of sides of the arguments."""
    if isinstance(fields, NodalMap):
        components = (fields.part.components,)
        return {(0,) * arity: probe(integrand, fields.domain, points, parameters, components, arity)}
    n_sides = len(fields.domains)
    domain, found = sample_of(fields.domains[0]), {}
    read: set[str] = set()
    for sides in np.ndindex(*(n_sides,) * arity):
        if seen == "each" and len(set(sides)) > 1:
            continue
        idx = None if n_sides == 1 else sides[:1] if seen == "each" else sides
        quadrature = probing_quadrature(Quadrature(domain, points, parameters, sides=idx))
        found[sides] = probe_slots(integrand, quadrature, fields.parts, arity)
        read |= quadrature.reads
    if n_sides > 1 and arity == 2 and seen is None and "idx[1]" not in read:
        raise FormError(
            f"form {integrand.name!r} over interior facets does not tell the side of u from that of v (w.idx[1] is not "
            "read), so that it can mean two operators: Integral(..., sides='each') calls it for each side with itself, "
            "as scikit-fem's asm(form, [side0, side1]) does, Integral(..., sides='pairs') for all four pairs of sides, "
            "as asm(form, [side0, side1], [side0, side1]); or write it with jump(w, u, v)"
        )
    return found


def _is_symmetric(term: IntegralTerm, points: FloatArray, parameters: Parameters) -> bool:
    """Whether the matrices of a sample of entities are, also at other values of the parameters."""
    fields = term.fields.selected(sampled(len(term.fields)))
    sample, filled = replace(term, fields=fields), placeholder(parameters)

    def at(values: Parameters) -> bool:
        found = [matrices for _, matrices in sample.at(points, values).matrices() if matrices is not None]
        return not any(asymmetric(matrices, 0.1 * SYMMETRY) for matrices in found)

    if not at(filled) or not term.parameter_names:
        return at(filled)
    try:
        return at(generic_parameters(filled))
    except FormError:
        return True  # not defined for such parameters; every assembly looks at it again
