"""Responses made of the problem's own matrix and loads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from femadj.base.arrays import inner
from femadj.errors import ResponseError
from femadj.problems import Partials, Solution
from femadj.responses.base import CompleteResponse


@dataclass(frozen=True)
class Compliance(CompleteResponse):
    """Work of the loads, ``f^T u`` [energy]; of a nonlinear problem that of its dead loads.

    Self-adjoint, hence without an adjoint solve, for linear symmetric systems with all prescribed values zero.
    """

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives; ResponseError where loads follow the state."""
        residual = solution.at.problem
        if residual.follows:
            raise ResponseError(
                "Compliance is the work of dead loads, but some of these follow the displacement, and their work "
                "depends on the way there. Take Displacement, or a Functional"
            )
        known = residual.is_linear and solution.at.symmetric and solution.prescribed.homogeneous
        return Partials(
            value=inner(solution.load, solution.u),
            state=solution.load,
            external_weight=solution.u,
            adjoint=solution.u if known else None,
        )


@dataclass(frozen=True)
class StrainEnergy(CompleteResponse):
    """``u^T K u / 2`` [energy] of a linear problem; for diffusion half the dissipation.

    Self-adjoint, hence without an adjoint solve, for symmetric systems with all prescribed values zero, and for those
    without loads.
    """

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives; ResponseError for nonlinear problems, whose energy is another integral."""
        if not solution.at.problem.is_linear:
            raise ResponseError(
                "StrainEnergy is u^T K u / 2 of a linear problem. Write the energy of a nonlinear one as "
                "Functional(density), a function of w.u.grad"
            )
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
