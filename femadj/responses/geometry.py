"""Responses of the geometry alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import MaterialError, ResponseError
from femadj.forms.regional import RegionalTensor
from femadj.problems import Partials, Solution
from femadj.problems.gradient import OnDemand
from femadj.responses.base import CompleteResponse
from femadj.space.nodal import frame, total


@dataclass(frozen=True)
class Volume(CompleteResponse):
    """Volume of the body, or area times thickness of a plane one.

    Parameters
    ----------
    group : str, optional
        Cell group; the whole mesh when left out.
    """

    group: str | None = None

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        physics, mesh = solution.problem.physics, solution.problem.mesh
        return _integral(solution, self.group, physics.scaled(mesh, lambda: np.ones(1)))


@dataclass(frozen=True)
class Mass(CompleteResponse):
    """Density times volume.

    Parameters
    ----------
    group : str, optional
        Cell group; the whole mesh when left out.
    """

    group: str | None = None

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        problem = solution.problem
        try:
            mass = problem.physics.mass(problem.mesh)
        except MaterialError as cause:
            raise ResponseError(f"Mass: {cause}") from cause
        return _integral(solution, self.group, mass)


def _integral(solution: Solution, group: str | None, tensor: RegionalTensor) -> Partials:
    """The integral of a number for each region, with all its derivatives."""
    points, parameters = solution.at.points, solution.parameters
    domains = solution.at.space.bodies(group)
    gradient = np.zeros_like(points)
    value = total(domains, points, tensor.at(parameters)[tensor.region], gradient)

    def by(name: str) -> FloatArray:
        slope = np.zeros(parameters.entries[name].shape, dtype=points.dtype)
        volumes = np.zeros(tensor.n_regions, dtype=points.dtype)
        for domain in domains:
            np.add.at(volumes, tensor.region[domain.global_cells], frame(domain, points).measure.sum(axis=1))
        tensor.pullback(parameters, volumes, {name: slope})
        return slope

    slopes = OnDemand({name: partial(by, name) for name in tensor.names})
    return Partials(value, points=gradient, parameters=slopes)
