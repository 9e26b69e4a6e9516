"""What inexact solves leave in responses and gradients, estimated from the residuals of state and adjoint state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from femadj.algebra.implicit import adjoint_of
from femadj.base.arrays import FloatArray, inner
from femadj.base.display import at_node, measured, shown
from femadj.base.pickling import Picklable
from femadj.errors import ProblemError
from femadj.problems import AnySolution
from femadj.problems.solution import LinearStaticSolution
from femadj.progress import Phases
from femadj.responses.base import AnyResponse, partials_of


@dataclass(frozen=True, eq=False)
class SolveError(Picklable):
    """Errors that solves have left, estimated; what is left when they are subtracted is far smaller.

    Attributes
    ----------
    value : float
        Of the response: ``lam . (K u - f)``.
    points : (n_nodes, dim)
        Of its gradient by the node coordinates.
    """

    value: float
    points: FloatArray

    def __repr__(self) -> str:
        return shown(f"SolveError(value {self.value:.1e})", points=measured(self.points, at_node(self.points.shape)))


def solve_error(solution: AnySolution, response: AnyResponse) -> SolveError:
    """Estimate what the solves of a linear problem have left in the value and the gradient of a response.

    With the residuals ``r = f - K u`` and ``rho = dJ/du - K^T lam`` and the inverse ``M^-1`` that the solves had (a
    factor, or what iterations were preconditioned with): the gradient is evaluated again with ``u + M^-1 r`` and
    ``lam + M^-T rho``. That takes two applications of ``M^-1``, two contractions and an adjoint solve.

    Parameters
    ----------
    solution : Solution
        Of a ``LinearStatic``.
    response : Response

    Raises
    ------
    ProblemError
        For solutions of other problems.
    ResponseError
        When the response does not fit the problem.
    """
    if not isinstance(solution, LinearStaticSolution):
        given = type(solution).__name__
        raise ProblemError(f"errors of solves are estimated for solutions of LinearStatic, not for {given}")
    phases, implicit = Phases(solution.problem.progress), solution.implicit
    partials = partials_of(response, solution)
    seed = solution.seed(partials)
    weights = solution.weigh(seed, phases)
    lam = adjoint_of(weights, seed)
    better = implicit.corrected()
    there = solution.shifted(solution.at, better.state)
    moved = partials_of(response, there)
    found = there.seed(moved)
    solved = None
    if found.solves:
        assert found.state is not None
        solved = better.corrected_adjoint(lam, found.state)
    (gradient,) = solution.paired([partials], [seed], [weights], phases)
    (corrected,) = there.paired([moved], [found], [better.weighted(found, solved)], phases)
    value = inner(lam.reshape(implicit.left.shape), implicit.left)
    return SolveError(value, np.asarray(gradient.points - corrected.points))
