"""Forces that supports exert."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from femadj.base.arguments import real_array
from femadj.base.arrays import inner
from femadj.conditions.supports import Fixed, constrained_by
from femadj.errors import ResponseError, SupportError
from femadj.problems import Partials, Solution
from femadj.responses.base import CompleteResponse


@dataclass(frozen=True)
class Reaction(CompleteResponse):
    """Sum of the forces that the supports of a group exert on the body, along one component.

    The residual ``K u - f`` summed over the unknowns of a component: what holds them there. It converges faster than
    the integral of boundary stresses or fluxes, and balances loads exactly. In diffusion it is the heat that enters
    through a group with prescribed values, in a flow the force of a wall on the fluid (its drag is the opposite).
    Unknowns that several supports share, at corners, count in full. For shape gradients, too, take it rather than an
    integral of boundary stresses, whose discrete derivative is exact and yet a poor field.

    Parameters
    ----------
    group : str
        Its unknowns of that component must all be prescribed.
    component : str, optional
        ``"x"``, or ``"u.x"`` where the unknown has named parts; a scalar needs none.
    factor : float
        Multiplies the sum; -1 makes it the force on the support.
    """

    group: str
    component: str | None = None
    factor: float = 1.0

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        at = solution.at
        names = solution.problem.physics.components(solution.problem.mesh.dim)
        if self.component is None and len(names) > 1:
            raise ResponseError(f"{self!r}: say which component: {', '.join(names)}")
        factor = real_array(self.factor, "factor", ResponseError, "a number")
        if factor.shape != () or not np.isfinite(factor):
            raise ResponseError(f"{self!r}: factor must be one finite number")
        try:
            held = constrained_by(at.space, names, Fixed(self.group, self.component))
        except SupportError as cause:
            raise ResponseError(f"{self!r}: {cause}") from cause
        if any(each.unknowns.shape[1] != 1 for each in held):
            raise ResponseError(f"{self!r}: say which component: {', '.join(names)}")
        weight = np.zeros_like(solution.u)
        for each in held:
            weight.reshape(-1)[each.unknowns] = factor
        loose = int(((weight != 0) & ~at.problem.supports.fixed).sum())
        if loose:
            raise ResponseError(
                f"{self!r}: {loose} of its unknowns are not prescribed; there no support exerts a force. Name a group "
                "that a Fixed holds entirely in this component"
            )
        return Partials(
            value=inner(weight, solution.internal_forces() - solution.load),
            state=at.vjp(solution.implicit.state, weight.reshape(1, -1)).reshape(weight.shape),
            external_weight=-weight,
            internal_weight=weight,
        )
