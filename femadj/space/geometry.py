"""Geometry at quadrature points, fields there and back: passes over a region for fields with values at the nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.space import nodal
from femadj.space.nodal import Force, Frame, frame, interpolate, scatter
from femadj.space.region import Domain

__all__ = ["Frame", "frame", "interpolate", "scatter", "total"]


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
