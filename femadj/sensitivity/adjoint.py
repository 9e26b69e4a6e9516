"""Gradients by the adjoint method: any number of responses on one factorisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import overload

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import ResponseError
from femadj.problems import ChainSolution, Solution
from femadj.progress import Phases
from femadj.responses import Evaluation, OnStage, Response


@dataclass(frozen=True, eq=False)
class Gradient:
    """Total derivatives of a response.

    Attributes
    ----------
    points : (n_nodes, dim)
        ``dJ/dX`` by the node coordinates, in the input node order, [J]/[length]. Prescribed values and loads move with
        their nodes as the problem says.
    loads : (n_nodes, nc)
        ``dJ/df`` by the nodal forces: the adjoint state, plus ``u`` for the compliance, which contains the forces.
    supports : (n_nodes, nc)
        ``dJ/dg`` by the prescribed values, zero at free unknowns.
    parameters : mapping of name to array
        ``dJ/dm`` by every parameter of the problem and of the response, in the shape of its values.
    adjoint_solves : int
        1 when an adjoint system was solved for this response, 0 when its adjoint state was known.
    """

    points: FloatArray
    loads: FloatArray
    supports: FloatArray
    adjoint_solves: int
    parameters: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ChainGradient:
    """Total derivatives of a response of a chain.

    Attributes
    ----------
    points : (n_nodes, dim)
        ``dJ/dX``, through all stages.
    parameters : mapping of ``"stage.name"`` to array
        ``dJ/dm`` by the parameters of all stages, those that a stage feeds excepted.
    stages : mapping of name to Gradient
        What each stage that matters contributes, with its adjoint state; by the fields that feed it, too.
    adjoint_solves : int
        Adjoint systems solved for this response.
    """

    points: FloatArray
    parameters: Mapping[str, FloatArray]
    stages: Mapping[str, Gradient]
    adjoint_solves: int


@overload
def value_and_gradient(solution: Solution, response: Response) -> tuple[float, Gradient]: ...
@overload
def value_and_gradient(solution: ChainSolution, response: Response | OnStage) -> tuple[float, ChainGradient]: ...
@overload
def value_and_gradient(
    solution: Solution | ChainSolution, response: Response | OnStage
) -> tuple[float, Gradient | ChainGradient]: ...


def value_and_gradient(
    solution: Solution | ChainSolution, response: Response | OnStage
) -> tuple[float, Gradient | ChainGradient]:
    """Value of a response and its gradient, for one transposed solve on the solution's factor (or none).

    Parameters
    ----------
    solution : Solution or ChainSolution
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
    if isinstance(solution, ChainSolution):
        values, chained = values_and_gradients(solution, [response])
        return float(values[0]), chained[0]
    values, gradients = values_and_gradients(solution, [response])
    return float(values[0]), gradients[0]


@overload
def values_and_gradients(
    solution: Solution, responses: Sequence[Response | OnStage]
) -> tuple[FloatArray, tuple[Gradient, ...]]: ...
@overload
def values_and_gradients(
    solution: ChainSolution, responses: Sequence[Response | OnStage]
) -> tuple[FloatArray, tuple[ChainGradient, ...]]: ...
@overload
def values_and_gradients(
    solution: Solution | ChainSolution, responses: Sequence[Response | OnStage]
) -> tuple[FloatArray, tuple[Gradient, ...] | tuple[ChainGradient, ...]]: ...


def values_and_gradients(
    solution: Solution | ChainSolution, responses: Sequence[Response | OnStage]
) -> tuple[FloatArray, tuple[Gradient, ...] | tuple[ChainGradient, ...]]:
    """Values and gradients of several responses; their adjoint systems are solved as one block.

    Returns
    -------
    values : (n_responses,)
    gradients : tuple of Gradient, or of ChainGradient
    """
    phases = Phases(solution.problem.progress)
    if isinstance(solution, ChainSolution):
        return _through_chain(solution, responses, phases)
    with phases("evaluate responses"):
        evaluations = [_evaluated(_plain(response), solution) for response in responses]
    gradients = _gradients(solution, evaluations, phases)
    return np.array([e.value for e in evaluations]), tuple(gradients)


def response_value(solution: Solution | ChainSolution, response: Response | OnStage) -> float:
    """Value of a response alone."""
    if isinstance(solution, ChainSolution):
        stage, inner_response = _stage_of(solution, response)
        return response_value(solution.stages[stage], inner_response)
    return _evaluated(_plain(response), solution).value


def _plain(response: Response | OnStage) -> Response:
    if isinstance(response, OnStage):
        raise ResponseError(f"{response!r} is a response of a chain, and the solution is that of a single problem")
    return response


def _gradients(solution: Solution, evaluations: Sequence[Evaluation], phases: Phases) -> list[Gradient]:
    """Adjoint solves and contractions of evaluated responses."""
    with phases("solve adjoint"):
        adjoints, solved = _adjoints(solution, evaluations)
    with phases("contract"):
        return [
            _gradient(solution, evaluation, adjoint, int(number in solved))
            for number, (evaluation, adjoint) in enumerate(zip(evaluations, adjoints, strict=True))
        ]


def _stage_of(solution: ChainSolution, response: Response | OnStage) -> tuple[str, Response]:
    if not isinstance(response, OnStage):
        return list(solution.stages)[-1], response
    if response.stage not in solution.stages:
        known = ", ".join(map(repr, solution.stages))
        raise ResponseError(f"{response!r}: the chain has no stage {response.stage!r}; it has: {known}")
    return response.stage, response.response


def _through_chain(
    solution: ChainSolution, responses: Sequence[Response | OnStage], phases: Phases
) -> tuple[FloatArray, tuple[ChainGradient, ...]]:
    """Backwards through the stages: what feeds a stage gets the gradient by it as derivative by its state."""
    places = [_stage_of(solution, response) for response in responses]
    with phases("evaluate responses"):
        evaluations = [_evaluated(response, solution.stages[stage]) for stage, response in places]
    fed: list[dict[str, FloatArray]] = [{} for _ in responses]
    found: list[dict[str, Gradient]] = [{} for _ in responses]
    for stage in reversed(list(solution.stages)):
        here = solution.stages[stage]
        numbers, wanted = [], []
        for number, (own, _) in enumerate(places):
            seed = fed[number].get(stage)
            if own == stage:
                evaluation = evaluations[number]
            elif seed is not None:
                evaluation = Evaluation(0.0, state=seed)
            else:
                continue
            numbers.append(number)
            wanted.append(evaluation)
        if not wanted:
            continue
        for number, gradient in zip(numbers, _gradients(here, wanted, phases), strict=True):
            found[number][stage] = gradient
            for source in solution.problem.links[stage]:
                slope = gradient.parameters[source].reshape(solution.stages[source].u.shape)
                known = fed[number].get(source)
                fed[number][source] = slope if known is None else known + slope
    return np.array([e.value for e in evaluations]), tuple(_collected(solution, parts) for parts in found)


def _collected(solution: ChainSolution, parts: Mapping[str, Gradient]) -> ChainGradient:
    points = np.zeros_like(solution.points)
    parameters: dict[str, FloatArray] = {}
    for stage, problem in solution.problem.stages.items():
        links = solution.problem.links[stage]
        if stage in parts:
            points += parts[stage].points
            slopes = parts[stage].parameters
        else:
            slopes = problem.parameters.zeros()
        parameters |= {f"{stage}.{name}": slope for name, slope in slopes.items() if name not in links}
    return ChainGradient(
        points,
        MappingProxyType(parameters),
        MappingProxyType({stage: parts[stage] for stage in solution.stages if stage in parts}),
        sum(gradient.adjoint_solves for gradient in parts.values()),
    )


def _adjoints(solution: Solution, evaluations: Sequence[Evaluation]) -> tuple[list[FloatArray | None], frozenset[int]]:
    """Adjoint state of every response (None: zero), and which ones took a solve."""
    adjoints: list[FloatArray | None] = [e.adjoint for e in evaluations]
    wanted = [(number, e.state) for number, e in enumerate(evaluations) if e.adjoint is None and e.state is not None]
    if len(wanted) == 1:
        number, rhs = wanted[0]
        adjoints[number] = solution.solve_adjoint(rhs)
    elif wanted:
        block = solution.solve_adjoint(np.stack([rhs for _, rhs in wanted]))
        for (number, _), adjoint in zip(wanted, block, strict=True):
            adjoints[number] = np.ascontiguousarray(adjoint)
    return adjoints, frozenset(number for number, _ in wanted)


def _gradient(solution: Solution, evaluation: Evaluation, adjoint: FloatArray | None, adjoint_solves: int) -> Gradient:
    system = solution.system
    fixed = system.constraints.fixed
    lam = np.zeros_like(solution.u) if adjoint is None else np.where(fixed, 0.0, adjoint)
    load_weight = lam if evaluation.load_weight is None else lam + evaluation.load_weight
    stiffness_weight = lam if evaluation.stiffness_weight is None else lam - evaluation.stiffness_weight
    depends = adjoint is not None or evaluation.load_weight is not None or evaluation.stiffness_weight is not None
    if depends:
        points = system.contract(solution.points, solution.u, stiffness_weight, load_weight)
    else:
        points = np.zeros_like(solution.points)
    if evaluation.points is not None:
        points += evaluation.points
    supports = np.zeros_like(solution.u)
    if evaluation.state is not None:
        pulled = np.zeros_like(lam)
        if adjoint is not None:
            pulled = system.stiffness_times_at_supports(solution.points, lam, transpose=True)
        supports = np.where(fixed, evaluation.state - pulled, 0.0)
        if solution.prescribed.moves:
            points += solution.prescribed.pull_back(supports)
    parameters = solution.parameters.zeros()
    if parameters and depends:
        system.parameter_gradient(solution.points, solution.u, stiffness_weight, load_weight, parameters)
    for name, slope in (evaluation.parameters or {}).items():
        parameters[name] = parameters[name] + slope if name in parameters else slope
    return Gradient(points, load_weight, supports, adjoint_solves, MappingProxyType(parameters))


def _evaluated(response: Response, solution: Solution) -> Evaluation:
    """Evaluate a response and check what it returns."""
    name = type(response).__name__
    if isinstance(response, type) or not callable(getattr(response, "evaluate", None)):
        raise ResponseError(f"{response!r} is no response: it has no method evaluate(solution)")
    evaluation = response.evaluate(solution)
    if not isinstance(evaluation, Evaluation):
        raise ResponseError(f"{name}.evaluate must return an Evaluation, not {type(evaluation).__name__}")
    if not isinstance(evaluation.value, (float, int, np.floating)):
        raise ResponseError(f"{name}: the value must be a real number, not {evaluation.value!r}")
    if not np.isfinite(evaluation.value):
        raise ResponseError(f"{name} is {evaluation.value}")
    field, points = solution.u.shape, solution.points.shape
    for what, array, shape in (
        ("state", evaluation.state, field),
        ("points", evaluation.points, points),
        ("load_weight", evaluation.load_weight, field),
        ("stiffness_weight", evaluation.stiffness_weight, field),
        ("adjoint", evaluation.adjoint, field),
    ):
        if array is None:
            continue
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != np.float64:
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ResponseError(
                f"{name}: the partial derivative {what!r} must be a float64 array of shape {shape}, not {found}"
            )
        if not np.isfinite(array).all():
            raise ResponseError(f"{name}: the partial derivative {what!r} has NaN or infinite entries")
    if evaluation.adjoint is not None and evaluation.state is None:
        raise ResponseError(f"{name}: an adjoint state without the derivative 'state' that it belongs to")
    return evaluation
