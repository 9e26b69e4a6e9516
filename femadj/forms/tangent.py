"""How integrands change along a node velocity through what surrounds the fields: x, n, h, gradients of parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.complex_step import derivative, seed
from femadj.forms.integrand import Field, strict_complex
from femadj.forms.pointwise import Quadrature, Slots, interpolate
from femadj.forms.probing import Probe, constant_fields


def surroundings_seeds(quadrature: Quadrature, reads: frozenset[str], velocity: FloatArray) -> dict[str, Any]:
    """Complex steps of everything that surrounds the fields, along a node velocity ``(n_nodes, dim)``."""
    domain, at = quadrature.domain, quadrature.frame
    dim = domain.dim
    v, w = interpolate(domain.on_geometry, quadrature.points, velocity)
    seeds: dict[str, Any] = {}
    if "x" in reads:
        seeds["x"] = seed(at.x, v)
    n = at.normal if domain.is_facet else None
    rate = np.einsum("jjeq->eq", w)
    if n is not None:
        pulled = np.einsum("ieq,ijeq->jeq", n, w)
        stretch = np.einsum("jeq,jeq->eq", pulled, n)
        rate = rate - stretch
        if "n" in reads:
            seeds["n"] = seed(n, n * stretch - pulled)
    if "h" in reads:
        seeds["h"] = seed(at.size, at.size * rate / (dim - 1 if domain.is_facet else dim))
    for name in quadrature.parameters:
        if f"{name}.grad" in reads:
            value, gradient = quadrature.nodal(name)
            step = -np.einsum("ikeq,kjeq->ijeq", gradient, w)
            moved = seed(gradient, step)
            scalar = len(value) == 1
            seeds[name] = Field(value[0] if scalar else value, moved[0] if scalar else moved)
    return seeds


def surroundings_rate(
    quadrature: Quadrature, probe: Probe, velocity: FloatArray, fixed: Slots | None, *, trial: bool
) -> FloatArray:
    """Rate of the coefficients of the load ``C : u^`` (bilinear) or ``F`` (linear), shape ``(nc, dim + 1, m, nq)``.

    ``fixed`` is the argument that is known, the trial function if ``trial``, else the test function.
    """
    seeds = surroundings_seeds(quadrature, probe.reads, velocity)
    nc, ns = probe.n_components, probe.dim + 1
    force = np.empty((nc, ns, *quadrature.shape))
    with strict_complex():
        for i in range(nc):
            for s in range(ns):
                full = np.zeros((nc, probe.dim + 1))
                full[i, s] = 1.0
                free = constant_fields(full, probe.components, quadrature.shape)
                known = [] if fixed is None else [fixed.field]
                arguments = [*known, *free] if trial else [*free, *known]
                force[i, s] = derivative(quadrature.evaluate(probe.integrand, arguments, seeds))
    return force
