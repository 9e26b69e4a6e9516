"""Responses as functions of design variables: what is solved for one design, and all derivatives from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import ProblemError
from femadj.optimisation.parametrisation import Placed
from femadj.problems import AnyGradient, AnySolution
from femadj.problems.gradient import Partials
from femadj.responses.base import AnyResponse, partials_of
from femadj.sensitivity.hessian import Hessian, hessian


@dataclass(eq=False)
class Solved:
    """A solved design: values of the responses, and derivatives by the variables, on the factor of the solution.

    Attributes
    ----------
    placed : Placed
        The mesh at the variables.
    solution : Solution
    responses : tuple of responses
    partials : tuple of Partials
        Of the responses, at the solution.
    """

    placed: Placed
    solution: AnySolution
    responses: tuple[AnyResponse, ...]
    partials: tuple[Partials, ...]
    _hessians: dict[int, Hessian] = field(default_factory=dict)

    @classmethod
    def at(cls, problem: Any, placed: Placed, responses: Sequence[AnyResponse]) -> Solved:
        """Solve the problem where the mesh is, and evaluate the responses."""
        solution = problem.solve(placed.points)
        return cls(placed, solution, tuple(responses), tuple(partials_of(each, solution) for each in responses))

    @property
    def values(self) -> FloatArray:
        """Of the responses."""
        return np.array([each.value for each in self.partials])

    @property
    def iterations(self) -> int:
        """Of the solver, or of Newton's method, over all stages."""
        return sum(_iterations(each) for each in self.solution.stages.values())

    def gradients(self) -> tuple[AnyGradient, ...]:
        """Total derivatives of all responses: one block of transposed solves."""
        return self.solution.pullback(self.partials)

    def slopes(self) -> FloatArray:
        """Derivatives of all responses by the variables, ``(n_responses, n)``."""
        return np.stack([self.placed.pullback(each.points) for each in self.gradients()])

    def curved(self, weights: FloatArray, direction: FloatArray, checked: set[int]) -> FloatArray:
        """Product of the second derivatives of ``sum weights J`` by the variables with a direction ``(n,)``.

        Along the variables the nodes move by ``V = X' p`` and the gradient ``G`` by the nodes changes by ``H V``:
        ``X'^T H V`` and what the curvature of the parametrisation makes of ``G``. Responses that are not among the
        ``checked`` ones are compared with differences, and then they are.
        """
        motion = self.placed.pushforward(direction)
        slope, bent = np.zeros_like(motion), np.zeros_like(motion)
        for number in np.flatnonzero(weights):
            of_response = self._hessian(int(number), checked)
            slope += weights[number] * of_response.gradient["points"]
            bent += weights[number] * (of_response @ motion)
            checked.add(int(number))
        return self.placed.pullback(bent) + self.placed.curvature(slope, direction)

    def _hessian(self, number: int, checked: set[int]) -> Hessian:
        if number not in self._hessians:
            solution: Any = self.solution
            self._hessians[number] = hessian(solution, self.responses[number], check=number not in checked)
        return self._hessians[number]


def _iterations(solution: Any) -> int:
    own = getattr(solution, "iterations", None)
    if own is not None:
        return int(own)
    try:
        return int(solution.factor.statistics.iterations)
    except ProblemError:  # a nonlinear history has a factor for every step, and keeps none
        return 0
