"""Everything that solutions and gradients of a problem will need, compiled or loaded beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import described, flag, notified, sequence_of
from femadj.errors import ComplexStepError, FormError, ProblemError, ResponseError
from femadj.problems import AnyGradient, AnySolution, Partials, Solution
from femadj.progress import Phases, Progress
from femadj.responses.base import AnyResponse, CompleteResponse
from femadj.sensitivity.adjoint import values_and_gradients


def warm_up(
    problem: Any,
    responses: Sequence[AnyResponse] = (),
    *,
    parameters: Mapping[str, npt.ArrayLike] | None = None,
    solve: bool = False,
    progress: Progress | None = None,
) -> Mapping[str, float]:
    """Compile or load the kernels of a problem, and of responses, so that the next value and gradient take no longer
    than the thousandth.

    A ``LinearStatic`` is gone through with a state that solves nothing, without a factorisation; every other problem is
    solved once.

    Parameters
    ----------
    problem : LinearStatic, NonlinearStatic, Modal, Buckling, Transient or Chain
    responses : sequence of responses
        What will be asked for. Without any, the kernels are those of the problem and of an adjoint state.
    parameters : mapping of name to values, optional
        Values that differ from the declared ones, or that have not been declared.
    solve : bool
        Solve a ``LinearStatic``, too: for responses that have no value at any other state.
    progress : Progress, optional
        Notified of every phase; the problem's own when left out.

    Returns
    -------
    mapping of phase to seconds
        ``"rehearse"`` (or ``"solve"``), ``"gradients"``, ``"parameters"``.

    Raises
    ------
    ProblemError
        For what is no problem, and where a response fails at a state that solves nothing.
    FemadjError
        As in ``solve`` and ``values_and_gradients``.
    """
    if not callable(getattr(problem, "rebuilt", None)) or isinstance(problem, type):
        raise ProblemError(f"warm_up takes a problem on a mesh, not {described(problem)}")
    wanted = sequence_of(responses, "responses", ResponseError, ": write [response]")
    flag(solve, "solve", ProblemError)
    notified(progress, ProblemError)
    rehearse = None if solve else getattr(problem, "rehearse", None)
    phases = Phases(problem.progress if progress is None else progress)
    with phases("solve" if rehearse is None else "rehearse"):
        solution = problem.solve(parameters=parameters) if rehearse is None else rehearse(parameters)
    with phases("gradients"):
        gradients = _gradients(solution, wanted, rehearsed=rehearse is not None)
    with phases("parameters"):
        for gradient in gradients:
            for each in getattr(gradient, "stages", {"": gradient}).values():
                dict(each.parameters)
    return phases.seconds


def _gradients(solution: AnySolution, responses: Sequence[AnyResponse], *, rehearsed: bool) -> Sequence[AnyGradient]:
    """Of the responses; without any, of one that wants an adjoint state, where solutions have such."""
    if not responses and callable(getattr(solution, "solve_adjoint", None)):
        responses = [_AnyState()]
    try:
        return values_and_gradients(solution, responses)[1]
    except (ResponseError, FormError, ComplexStepError) as error:
        if not rehearsed:
            raise
        raise ProblemError(
            f"a response fails at the state that warm_up makes without solving anything: {error}. If it is right at "
            "solutions, say warm_up(..., solve=True)"
        ) from error


class _AnyState(CompleteResponse):
    """A response whose adjoint state has to be solved for."""

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        return Partials(0.0, state=np.ones_like(solution.u))
