"""Partial derivatives of responses, and the total derivatives that solutions make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from femadj.base.arguments import sequence_of
from femadj.base.arrays import FloatArray
from femadj.base.display import at_node, measured, shown
from femadj.base.pickling import Picklable
from femadj.errors import ResponseError, UnknownParameterError


def _none() -> Mapping[str, FloatArray]:
    return MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Partials(Picklable):
    """Value and partial derivatives of a response at a solution. What is ``None`` is zero.

    A user-defined response needs ``value``, ``state`` and ``points`` only; the other fields save work where a response
    is made of the problem's own internal and external forces.

    Attributes
    ----------
    value : float
    state : (n_nodes, nc) or None
        ``dJ/du`` at a fixed design.
    points : (n_nodes, dim) or None
        ``dJ/dX`` at a fixed state, without the contributions of the two weights.
    parameters : mapping of name to array
        ``dJ/dm`` by the parameters of the problem, at a fixed state, and by those of the response's own.
    internal_weight : (n_nodes, nc) or None
        For responses that contain the internal forces (``K u``): adds ``internal_weight^T (dK u)``.
    external_weight : (n_nodes, nc) or None
        ``dJ/df``, for responses that contain the external forces (the loads): adds ``external_weight^T df``.
    adjoint : (n_nodes, nc) or None
        The adjoint state where it is known without a solve (self-adjoint responses).
    stage : str or None
        The stage of a chain that it belongs to; None for a single problem.
    name : str
        Of the response, for messages.
    """

    value: float
    state: FloatArray | None = None
    points: FloatArray | None = None
    parameters: Mapping[str, FloatArray] = field(default_factory=_none)
    internal_weight: FloatArray | None = None
    external_weight: FloatArray | None = None
    adjoint: FloatArray | None = None
    stage: str | None = None
    name: str = "response"

    def __post_init__(self) -> None:
        if self.parameters is None:
            object.__setattr__(self, "parameters", _none())

    def named(self, name: str, stage: str | None) -> Partials:
        """The same as those of a response of some name and stage."""
        return Partials(
            self.value, self.state, self.points, self.parameters, self.internal_weight, self.external_weight,
            self.adjoint, stage, name,
        )  # fmt: skip


def all_partials(given: Any) -> tuple[Partials, ...]:
    """A list of partial derivatives; ResponseError for anything else."""
    for each in sequence_of(given, "partials", ResponseError):
        if not isinstance(each, Partials):
            raise ResponseError(f"partials must be a list of Partials, not of {type(each).__name__}")
    return tuple(given)


class OnDemand(Mapping[str, FloatArray]):
    """Named arrays of which each is computed when it is first read.

    Parameters
    ----------
    sources : mapping of name to function
        How to compute each.
    """

    def __init__(self, sources: Mapping[str, Callable[[], FloatArray]]) -> None:
        self._sources = sources
        self._known: dict[str, FloatArray] = {}

    def __getitem__(self, name: str) -> FloatArray:
        if name not in self._sources:
            raise UnknownParameterError(name, self._sources)
        if name not in self._known:
            self._known[name] = self._sources[name]()
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __reduce__(self) -> Any:
        return _known, (dict(self),)

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self._sources))}}}"


def _known(arrays: Mapping[str, FloatArray]) -> OnDemand:
    """Arrays that have been computed."""
    return OnDemand({name: partial(arrays.__getitem__, name) for name in arrays})


@dataclass(frozen=True, eq=False)
class Gradient(Picklable):
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
    adjoint_solves : int
        1 when an adjoint system was solved for this response, 0 when its adjoint state was known.
    parameters : mapping of name to array
        ``dJ/dm`` by every parameter of the problem and of the response, in the shape of its values. Those by parameters
        of the problem take a pass over the mesh each, and are computed when they are first read.
    forward_error : float or None
        Bound of the relative errors of the fields that the derivatives are made of, solution and adjoint states, where
        a sign of a large condition asked for it; of iterated solves their estimate in the energy norm, else None.
    value_error : float or None
        Of solutions found by iterations, Newton's or a solver's: estimate of the error of the response itself,
        ``lam . R`` with what these left of the residual. Less this, the response is right to the square of that.
    """

    points: FloatArray
    loads: FloatArray
    supports: FloatArray
    adjoint_solves: int
    parameters: Mapping[str, FloatArray] = field(default_factory=_none)
    forward_error: float | None = None
    value_error: float | None = None

    def __repr__(self) -> str:
        return shown(
            f"Gradient({_count(self)})",
            points=measured(self.points, at_node(self.points.shape)),
            loads=measured(self.loads),
            supports=measured(self.supports),
            parameters=", ".join(self.parameters),
        )


@dataclass(frozen=True, eq=False)
class ChainGradient(Picklable):
    """Total derivatives of a response of a chain.

    Attributes
    ----------
    points : (n_nodes, dim)
        ``dJ/dX``, through all stages.
    parameters : mapping of ``"stage.name"`` to array
        ``dJ/dm`` by the parameters of all stages, those that a stage feeds excepted; computed when first read.
    stages : mapping of name to Gradient
        What each stage that matters contributes, with its adjoint state; by the fields that feed it, too.
    adjoint_solves : int
        Adjoint systems solved for this response.
    """

    points: FloatArray
    parameters: Mapping[str, FloatArray]
    stages: Mapping[str, Gradient]
    adjoint_solves: int

    def __repr__(self) -> str:
        return shown(
            f"ChainGradient({_count(self)})",
            points=measured(self.points, at_node(self.points.shape)),
            parameters=", ".join(self.parameters),
            stages=", ".join(self.stages),
        )


class Metric(Protocol):
    """What measures movements of nodes: an inner product of them, such as that of a filter."""

    def riesz(self, gradient: FloatArray) -> FloatArray:
        """The movement ``(n_nodes, dim)`` whose inner product with any other is that of a node gradient with it."""
        ...


def _count(gradient: Gradient | ChainGradient) -> str:
    return f"{len(gradient.points)} nodes, adjoint solves: {gradient.adjoint_solves}"


@dataclass(frozen=True, eq=False)
class HistorySlope(Picklable):
    """Derivative of a response by the history of a load.

    Attributes
    ----------
    times : (n,)
        Where the history has been evaluated.
    values : (n,)
        Derivatives by its values there.
    """

    times: FloatArray
    values: FloatArray


@dataclass(frozen=True, eq=False)
class TransientGradient(Picklable):
    """Total derivatives of a response of a history.

    Attributes
    ----------
    points : (n_nodes, dim)
        By the node coordinates.
    parameters : mapping of name to array
        By every parameter of the problem and of the response; among them ``final_time``, ``damping`` (second order) and
        the initial values ``initial_u`` and ``initial_v`` (unless functions of position). Those of materials, loads and
        responses take one further sweep back for all of them together, when the first of them is read.
    initial : tuple of (n_nodes, nc)
        By the initial values of the field and, in second order, of its rate; zero at supports.
    histories : tuple of HistorySlope
        By the histories of those loads that have one, in the order of the loads.
    adjoint_solves : int
        Right-hand sides solved for this response.
    """

    points: FloatArray
    parameters: Mapping[str, FloatArray]
    initial: tuple[FloatArray, ...]
    histories: tuple[HistorySlope, ...]
    adjoint_solves: int

    def __repr__(self) -> str:
        return shown(
            f"TransientGradient({len(self.points)} nodes, adjoint solves: {self.adjoint_solves})",
            points=measured(self.points, at_node(self.points.shape)),
            parameters=", ".join(self.parameters),
        )
