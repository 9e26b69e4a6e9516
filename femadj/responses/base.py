"""What a response is: a scalar of the state and the node coordinates, with its partial derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from femadj.base.arrays import FloatArray
from femadj.problems import Solution


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Value and partial derivatives of a response at a solution. What is ``None`` is zero.

    A response of one's own needs ``value``, ``state`` and ``points`` only; the other fields save work where a response
    is made of the problem's own matrix and loads.

    Attributes
    ----------
    value : float
    state : (n_nodes, nc) or None
        ``dJ/du`` at fixed coordinates.
    points : (n_nodes, dim) or None
        ``dJ/dX`` at a fixed state, without the contributions of the two weights.
    load_weight : (n_nodes, nc) or None
        ``dJ/df``, for responses that contain the load vector: adds ``load_weight^T df/dX``.
    stiffness_weight : (n_nodes, nc) or None
        For responses that contain the stiffness: adds ``stiffness_weight^T (dK/dX) u``.
    parameters : mapping of name to array, or None
        ``dJ/dm`` by the parameters of the problem, at a fixed state, and by those of the response's own.
    adjoint : (n_nodes, nc) or None
        The adjoint state where it is known without a solve (self-adjoint responses).
    """

    value: float
    state: FloatArray | None = None
    points: FloatArray | None = None
    load_weight: FloatArray | None = None
    stiffness_weight: FloatArray | None = None
    adjoint: FloatArray | None = None
    parameters: Mapping[str, FloatArray] | None = None


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


class Response(Protocol):
    """A scalar response ``J(u, X)``; implement this to bring your own."""

    def evaluate(self, solution: Solution) -> Evaluation:
        """Value and partial derivatives; ResponseError when the response does not fit the problem."""
        ...
