"""Gradients of responses by the adjoint method: any number of responses on one factorisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from femadj.base.arguments import sequence_of
from femadj.base.arrays import FloatArray
from femadj.errors import ResponseError
from femadj.problems import (
    AnyGradient,
    AnySolution,
    ChainGradient,
    ChainSolution,
    Gradient,
    HistorySolution,
    Modes,
    Solution,
    TransientGradient,
    require_solution,
)
from femadj.progress import Phases
from femadj.responses.base import AnyResponse, partials_of


@overload
def value_and_gradient(solution: Solution | Modes, response: AnyResponse) -> tuple[float, Gradient]: ...
@overload
def value_and_gradient(solution: ChainSolution, response: AnyResponse) -> tuple[float, ChainGradient]: ...
@overload
def value_and_gradient(solution: HistorySolution, response: AnyResponse) -> tuple[float, TransientGradient]: ...
@overload
def value_and_gradient(solution: AnySolution, response: AnyResponse) -> tuple[float, AnyGradient]: ...


def value_and_gradient(solution: AnySolution, response: AnyResponse) -> tuple[float, AnyGradient]:
    """Value of a response and its gradient, for one transposed solve on the solution's factor (or none).

    Parameters
    ----------
    solution : Solution, ChainSolution, ModalSolution or BucklingSolution
    response : Response, or OnStage for a chain
        A bare response of a chain is one of its last stage.

    Returns
    -------
    value : float
    gradient : Gradient or ChainGradient

    Raises
    ------
    ResponseError
        When the response does not fit the problem or returns something unusable.
    """
    require_solution(solution, "value_and_gradient")
    values, gradients = values_and_gradients(solution, [response])
    return float(values[0]), gradients[0]


@overload
def values_and_gradients(
    solution: Solution | Modes, responses: Sequence[AnyResponse]
) -> tuple[FloatArray, tuple[Gradient, ...]]: ...
@overload
def values_and_gradients(
    solution: ChainSolution, responses: Sequence[AnyResponse]
) -> tuple[FloatArray, tuple[ChainGradient, ...]]: ...
@overload
def values_and_gradients(
    solution: HistorySolution, responses: Sequence[AnyResponse]
) -> tuple[FloatArray, tuple[TransientGradient, ...]]: ...
@overload
def values_and_gradients(
    solution: AnySolution, responses: Sequence[AnyResponse]
) -> tuple[FloatArray, tuple[Gradient, ...] | tuple[ChainGradient, ...] | tuple[TransientGradient, ...]]: ...


def values_and_gradients(
    solution: AnySolution, responses: Sequence[AnyResponse]
) -> tuple[FloatArray, tuple[Gradient, ...] | tuple[ChainGradient, ...] | tuple[TransientGradient, ...]]:
    """Values and gradients of several responses; their adjoint systems are solved as one block.

    Returns
    -------
    values : (n_responses,)
    gradients : tuple of Gradient, or of ChainGradient
    """
    require_solution(solution, "values_and_gradients")
    responses = sequence_of(responses, "responses", ResponseError, ": write [response], or value_and_gradient for one")
    with Phases(solution.problem.progress)("evaluate responses"):
        partials = [partials_of(response, solution) for response in responses]
    return np.array([each.value for each in partials]), solution.pullback(partials)
