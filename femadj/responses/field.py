"""Responses of the field at nodes and over the body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from femadj.base.arguments import one_of
from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import as_array
from femadj.base.design import Cotangent
from femadj.errors import ResponseError
from femadj.forms.integral import IntegralTerm
from femadj.forms.law import TensorLaw
from femadj.problems import Partials, Solution
from femadj.problems.gradient import OnDemand
from femadj.responses.base import CompleteResponse


@dataclass(frozen=True)
class Displacement(CompleteResponse):
    """Nodal values of the field over a group: displacement, or temperature of a diffusion problem.

    Parameters
    ----------
    group : str
        Node group, or the nodes of a facet or cell group.
    direction : str or (nc,), optional
        Component name (``"x"``) or a vector, used as given; needed for the sum and mean of a vector field. With the
        squared norm and no direction all components count.
    reduce : "mean", "sum" or "squared_norm"
        Mean or sum over the nodes of ``d . u``, or the sum of ``(d . u)^2`` (of ``|u|^2`` without a direction).
    """

    group: str
    direction: str | Sequence[float] | None = None
    reduce: Literal["mean", "sum", "squared_norm"] = "mean"

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        one_of(self.reduce, ("mean", "sum", "squared_norm"), "reduce", ResponseError)
        problem = solution.problem
        if not solution.at.space.nodal:
            raise ResponseError(
                f"Displacement({self.group!r}) needs unknowns that are values at the mesh nodes, which those of "
                f"{problem.physics!r} are not"
            )
        nodes = problem.mesh.nodes_of(self.group)
        names = problem.physics.components(problem.mesh.dim)
        state = np.zeros_like(solution.u)
        if self.direction is None and self.reduce == "squared_norm":
            values = solution.u[nodes]
            state[nodes] = 2 * values
            return Partials(inner(values, values), state=state)
        direction = self._vector(names)
        values = solution.u[nodes] @ direction
        if self.reduce == "squared_norm":
            state[nodes] = 2 * values[:, None] * direction
            return Partials(inner(values, values), state=state)
        weight = 1.0 / len(nodes) if self.reduce == "mean" else 1.0
        state[nodes] = weight * direction
        return Partials(weight * values.sum().item(), state=state)

    def _vector(self, names: tuple[str, ...]) -> FloatArray:
        if self.direction is None:
            if len(names) == 1:
                return np.ones(1)
            raise ResponseError(f"Displacement({self.group!r}): give a direction, one of {names} or a vector")
        if isinstance(self.direction, str):
            one_of(self.direction, names, f"Displacement({self.group!r}): direction", ResponseError)
            return np.eye(len(names))[names.index(self.direction)]
        what = f"Displacement({self.group!r}): direction, one of {names} or a vector,"
        vector = as_array(self.direction, (len(names),), what, ResponseError)
        if not vector.any():
            raise ResponseError(f"{what} must not be zero")
        return vector


@dataclass(frozen=True)
class FieldNorm(CompleteResponse):
    """``int |u|^2 dx`` over the body (times the thickness of a plane one).

    Parameters
    ----------
    group : str, optional
        Cell group; the whole mesh when left out.
    """

    group: str | None = None

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        problem, u, space = solution.problem, np.asarray(solution.u), solution.at.space
        space.require_nodal()
        nc, dim = space.n_components, problem.mesh.dim
        n = nc * (dim + 1)
        of_values = np.zeros(n)
        of_values[:: dim + 1] = 1.0
        law = TensorLaw(problem.physics.scaled(problem.mesh, lambda: np.diag(of_values)[None]), 0, 1, symmetric=True)
        masses = [
            IntegralTerm.of(fields, law, symmetric=True).at(solution.at.points, solution.parameters)
            for fields in space.maps("cells", self.group)
        ]
        mass_u, into = np.zeros_like(u), Cotangent(np.zeros_like(solution.at.points))
        for mass in masses:
            mass.residual(u, mass_u)
            mass.pullback(u, u, into)

        def by(name: str) -> FloatArray:
            slope = np.zeros(solution.parameters.entries[name].shape, dtype=u.dtype)
            for mass in masses:
                mass.pullback(u, u, Cotangent(None, {name: slope}))
            return slope

        slopes = OnDemand({name: partial(by, name) for name in law.reads})
        return Partials(inner(u, mass_u), state=2 * mass_u, points=into.points, parameters=slopes)
