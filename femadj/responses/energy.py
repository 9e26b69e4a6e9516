"""Responses made of the problem's own matrix and loads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from femadj.base.arrays import inner
from femadj.problems import Partials, Solution
from femadj.responses.base import CompleteResponse


@dataclass(frozen=True)
class Compliance(CompleteResponse):
    """Work of the loads, ``f^T u`` [energy].

    Self-adjoint, hence without an adjoint solve, for symmetric systems with all prescribed values zero.
    """

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        known = solution.at.symmetric and solution.prescribed.homogeneous
        return Partials(
            value=inner(solution.load, solution.u),
            state=solution.load,
            external_weight=solution.u,
            adjoint=solution.u if known else None,
        )


@dataclass(frozen=True)
class StrainEnergy(CompleteResponse):
    """``u^T K u / 2`` [energy]; for diffusion half the dissipation.

    Self-adjoint, hence without an adjoint solve, for symmetric systems with all prescribed values zero, and for those
    without loads.
    """

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        u = solution.u
        internal = solution.internal_forces()
        adjoint = None
        if solution.at.symmetric:
            state = internal
            if solution.prescribed.homogeneous:
                adjoint = u
            elif not solution.load.any():
                adjoint = np.zeros_like(u)
        else:
            transposed = solution.at.vjp(solution.implicit.state, solution.implicit.state.u)
            state = 0.5 * (internal + transposed.reshape(u.shape))
        return Partials(
            value=0.5 * inner(u, internal),
            state=state,
            internal_weight=0.5 * u,
            adjoint=adjoint,
        )
