"""Responses of the geometry alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.conditions.loads import measure
from femadj.errors import MaterialError, ResponseError
from femadj.problems import Solution
from femadj.responses.base import Evaluation


@dataclass(frozen=True)
class Volume:
    """Volume of the body, or area times thickness of a plane one.

    Parameters
    ----------
    group : str, optional
        Cell group; the whole mesh when left out.
    """

    group: str | None = None

    def evaluate(self, solution: Solution) -> Evaluation:
        """Value and partial derivatives."""
        return _integral(solution, self.group, None)


@dataclass(frozen=True)
class Mass:
    """Density times volume.

    Parameters
    ----------
    group : str, optional
        Cell group; the whole mesh when left out.
    """

    group: str | None = None

    def evaluate(self, solution: Solution) -> Evaluation:
        """Value and partial derivatives."""
        problem = solution.problem
        try:
            density = problem.physics.density_of(problem.mesh)
        except MaterialError as cause:
            raise ResponseError(f"Mass: {cause}") from cause
        return _integral(solution, self.group, density)


def _integral(solution: Solution, group: str | None, weight: FloatArray | None) -> Evaluation:
    problem = solution.problem
    factor = problem.physics.thickness_in(problem.mesh.dim)
    gradient = np.zeros_like(solution.points)
    nothing = np.zeros((problem.mesh.n_nodes, 1))
    value = sum(
        measure(domain, weight).contract(solution.points, nothing, gradient, factor)
        for domain in solution.system.space.cells("mass", group)
    )
    return Evaluation(value=float(value), points=gradient)
