"""Responses made of the problem's own matrix and loads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from femadj.base.arrays import inner
from femadj.problems import Solution
from femadj.responses.base import Evaluation


@dataclass(frozen=True)
class Compliance:
    """Work of the loads, ``f^T u`` [energy].

    Self-adjoint, hence without an adjoint solve, for symmetric systems with all prescribed values zero.
    """

    def evaluate(self, solution: Solution) -> Evaluation:
        """Value and partial derivatives."""
        known = solution.system.symmetric and solution.prescribed.homogeneous
        return Evaluation(
            value=inner(solution.load, solution.u),
            state=solution.load,
            load_weight=solution.u,
            adjoint=solution.u if known else None,
        )


@dataclass(frozen=True)
class StrainEnergy:
    """``u^T K u / 2`` [energy]; for diffusion half the dissipation.

    Self-adjoint, hence without an adjoint solve, for symmetric systems with all prescribed values zero, and for those
    without loads.
    """

    def evaluate(self, solution: Solution) -> Evaluation:
        """Value and partial derivatives."""
        system, u = solution.system, solution.u
        internal = solution.internal_forces()
        adjoint = None
        if system.symmetric:
            state = internal
            if solution.prescribed.homogeneous:
                adjoint = u
            elif not solution.load.any():
                adjoint = np.zeros_like(u)
        else:
            state = 0.5 * (internal + system.stiffness_times(solution.points, u, transpose=True))
        return Evaluation(
            value=0.5 * inner(u, internal),
            state=state,
            stiffness_weight=0.5 * u,
            adjoint=adjoint,
        )
