"""Responses of the geometry alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import MaterialError, ResponseError
from femadj.problems import Partials, Solution
from femadj.responses.base import CompleteResponse
from femadj.space.geometry import total


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
        return _integral(solution, self.group, None)


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
            density = problem.physics.density_of(problem.mesh)
        except MaterialError as cause:
            raise ResponseError(f"Mass: {cause}") from cause
        return _integral(solution, self.group, density)


def _integral(solution: Solution, group: str | None, weight: FloatArray | None) -> Partials:
    problem = solution.problem
    factor = problem.physics.thickness_in(problem.mesh.dim)
    gradient = np.zeros_like(solution.points)
    domains = solution.at.space.cells("mass", group)
    value = total(domains, solution.points, weight, gradient, factor)
    return Partials(value=float(value), points=gradient)
