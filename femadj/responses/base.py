"""What a response is: a scalar of the state and the design, with its partial derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from femadj.base.arguments import mapping_of
from femadj.base.arrays import FloatArray
from femadj.errors import ComplexStepError, ResponseError, SecondOrderError
from femadj.problems import AnySolution, Partials, Solution


class Response(Protocol):
    """A scalar response ``J(u, X)``; implement this to bring your own.

    A class with a method ``evaluate(solution)`` that returns an ``Evaluation`` will do as well.
    """

    def value(self, solution: Solution) -> float:
        """Its value; ResponseError when the response does not fit the problem."""
        ...

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives; ResponseError when the response does not fit the problem."""
        ...


class CompleteResponse:
    """A response whose value comes with its partial derivatives: all it has to write is ``partials``."""

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        raise NotImplementedError

    def value(self, solution: Solution) -> float:
        """Its value."""
        return self.partials(solution).value

    def evaluate(self, solution: Solution) -> Partials:
        """Value and partial derivatives, under the name that user-defined responses may give to it."""
        return self.partials(solution)


class Evaluation(Partials):
    """Value and partial derivatives of a response that is written as one method ``evaluate``. None is zero.

    Parameters
    ----------
    value, state, points, adjoint, parameters
        See ``Partials``.
    load_weight, stiffness_weight : (n_nodes, nc), optional
        Earlier names of the external and the internal weight.
    internal_weight, external_weight, stage, name
        See ``Partials``.
    """

    def __init__(
        self,
        value: float,
        state: FloatArray | None = None,
        points: FloatArray | None = None,
        load_weight: FloatArray | None = None,
        stiffness_weight: FloatArray | None = None,
        adjoint: FloatArray | None = None,
        parameters: Mapping[str, FloatArray] | None = None,
        *,
        internal_weight: FloatArray | None = None,
        external_weight: FloatArray | None = None,
        stage: str | None = None,
        name: str = "response",
    ) -> None:
        super().__init__(
            value,
            state,
            points,
            MappingProxyType(dict(mapping_of(parameters, "parameters", ResponseError))),
            internal_weight if stiffness_weight is None else stiffness_weight,
            external_weight if load_weight is None else load_weight,
            adjoint,
            stage,
            name,
        )

    @property
    def load_weight(self) -> FloatArray | None:
        """The external weight."""
        return self.external_weight

    @property
    def stiffness_weight(self) -> FloatArray | None:
        """The internal weight."""
        return self.internal_weight


@dataclass(frozen=True)
class OnStage:
    """A response of one stage of a chain.

    Parameters
    ----------
    stage : str
    response : Response
    """

    stage: str
    response: Response


AnyResponse = Response | OnStage


def value_of(response: AnyResponse, solution: AnySolution) -> float:
    """Value of a response, checked; a bare response of a chain is one of its last stage."""
    stage, plain = _located(response)
    here: Any = solution.stage(stage)
    method: Any = getattr(plain, "value", None)
    if _is_method(plain, method):
        return _checked_value(plain, method(here))
    return partials_of(response, solution).value


def partials_of(response: AnyResponse, solution: AnySolution) -> Partials:
    """Value and partial derivatives of a response, checked; a bare response of a chain is one of its last stage."""
    stage, found = _evaluated(response, solution)
    plain = _located(response)[1]
    _checked_value(plain, found.value)
    return found.named(type(plain).__name__, stage)


def partials_in_motion(response: AnyResponse, solution: AnySolution) -> Partials:
    """Value and partial derivatives of a response at a solution of complex numbers, which carry their rates.

    Raises
    ------
    SecondOrderError
        For a response that drops them.
    """
    try:
        return _evaluated(response, solution)[1]
    except (ComplexStepError, np.exceptions.ComplexWarning) as cause:
        raise SecondOrderError(
            f"{type(_located(response)[1]).__name__} has to be evaluated on complex numbers that carry rates: {cause}. "
            "Leave out float(...) and conversions to real arrays, and make new arrays with np.zeros_like(solution.u)"
        ) from cause


def _evaluated(response: AnyResponse, solution: AnySolution) -> tuple[str | None, Partials]:
    stage, plain = _located(response)
    here: Any = solution.stage(stage)
    method: Any
    for name in ("partials", "evaluate"):
        method = getattr(plain, name, None)
        if _is_method(plain, method):
            break
    else:
        raise ResponseError(
            f"{plain!r} is no response: it has no methods value(solution) and partials(solution), nor "
            f"evaluate(solution){_advice(plain)}"
        )
    found = method(here)
    if not isinstance(found, Partials):
        raise ResponseError(
            f"{type(plain).__name__}.{name} must return Partials (or an Evaluation), not {type(found).__name__}"
        )
    return stage, found


def _located(response: AnyResponse) -> tuple[str | None, Response]:
    return (response.stage, response.response) if isinstance(response, OnStage) else (None, response)


def _advice(given: Any) -> str:
    """What to write instead of something that is no response."""
    if isinstance(given, type):
        return f": make one, {given.__name__}(...)"
    if isinstance(given, (list, tuple, Mapping)):
        return ": values_and_gradients takes a list of them"
    return ": an integral of a function of the state is Functional(function)" if callable(given) else ""


def _is_method(response: Any, method: Any) -> bool:
    return not isinstance(response, type) and callable(method)


def _checked_value(response: Response, value: Any) -> float:
    name = type(response).__name__
    if not isinstance(value, (float, int, np.floating)):
        raise ResponseError(f"{name}: the value must be a real number, not {value!r}")
    if not np.isfinite(value):
        raise ResponseError(f"{name} is {value}")
    return float(value)
