"""Geometry at quadrature points, fields there and back: passes over a region for fields with values at the nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.space import nodal
from femadj.space.nodal import Force
from femadj.space.region import Domain


@dataclass(frozen=True, eq=False)
class Frame:
    """Geometry at the quadrature points of ``m`` entities.

    Attributes
    ----------
    x : (dim, m, nq)
    measure : (m, nq)
        Volume or area element times quadrature weight.
    normal : (dim, m, nq)
        Unit outward normal; empty on cells.
    size : (m, nq)
        ``|det J|^(1/k)`` of the cell or facet.
    """

    x: FloatArray
    measure: FloatArray
    normal: FloatArray
    size: FloatArray

    @property
    def normal_or_none(self) -> FloatArray | None:
        """The normal on facets."""
        return self.normal if self.normal.shape[1] else None


def frame(domain: Domain, points: FloatArray) -> Frame:
    """Geometry at the quadrature points of a domain."""
    return Frame(*nodal.frame(domain, points))


def interpolate(domain: Domain, points: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values ``(nc, m, nq)`` and gradients ``(nc, dim, m, nq)`` of a field ``(n_nodes, nc)``."""
    return nodal.interpolate(domain, points, u)


def scatter(domain: Domain, points: FloatArray, force: FloatArray, y: FloatArray) -> float:
    """Add ``int v^ : F`` to ``y`` ``(n_nodes, nc)``; returns the smallest Jacobian determinant.

    ``F`` has shape ``(nc, 1 + dim, m, nq)``, or ``(nc, 1, m, nq)`` where gradients do not count.
    """
    _, ns, m, nq = force.shape
    values = np.ascontiguousarray(force.transpose(2, 3, 0, 1))
    region = np.arange(m, dtype=np.int32)
    return nodal.load(domain, points, Force(values, np.zeros((m, nq)), np.zeros(m), region, 0, ns), y)


def total(
    domains: Sequence[Domain],
    points: FloatArray,
    weight: FloatArray | None = None,
    gradient: FloatArray | None = None,
    scale: float = 1.0,
) -> float:
    """Volume or area of domains, or the integral of a constant for each global cell.

    Parameters
    ----------
    domains : sequence of Domain
    points : (n_nodes, dim)
    weight : (n_cells,), optional
    gradient : (n_nodes, dim), optional
        ``scale`` times the derivative by the points is added here.
    scale : float

    Returns
    -------
    float
        ``scale`` times the integral.
    """
    into = np.zeros_like(points) if gradient is None else gradient
    nothing = np.zeros((len(points), 1))
    value = 0.0
    for domain in domains:
        constants, region = np.ones(1), domain.one_region
        if weight is not None:
            constants, inverse = np.unique(weight, return_inverse=True)
            region = inverse.astype(np.int32)[domain.global_cells]
        n = len(constants)
        constant = Force(np.zeros((n, 1, 1, 0)), np.zeros((n, 1)), constants, region, 0, 0)
        value += nodal.load_contract(domain, points, constant, nothing, into, scale)
    return value
