"""A field at one time of a history, as static responses see a solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from femadj.algebra.stepping import Scheme
from femadj.base.arrays import FloatArray
from femadj.base.display import measured, shown
from femadj.errors import ResponseError
from femadj.problems.fem import FemAtDesign
from femadj.problems.solution import StaticProblem
from femadj.space.parameters import Parameters

_STATIC = frozenset({"load", "prescribed", "implicit", "factor", "linear", "reactions", "internal_forces"})


class TransientProblem(StaticProblem, Protocol):
    """What a history tells of the problem that it solves."""

    @property
    def scheme(self) -> Scheme:
        """How steps are taken."""
        ...

    @property
    def parameters(self) -> Parameters:
        """All parameters by which gradients are."""
        ...

    @property
    def histories(self) -> tuple[int, ...]:
        """Groups of the loads that have a history of their own, in their order."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Moment:
    """A field at one time of a history, as static responses see a solution.

    Attributes
    ----------
    problem : Transient
    at : FemAtDesign
    time : float
    u : (n_nodes, nc)
        The field, its rate or its acceleration.
    """

    problem: TransientProblem
    at: FemAtDesign
    time: float
    u: FloatArray

    @property
    def points(self) -> FloatArray:
        """Node coordinates."""
        return self.at.points

    @property
    def parameters(self) -> Parameters:
        """Parameters of physics and loads with their values here."""
        return self.at.parameters

    def __repr__(self) -> str:
        return shown(f"Moment(time {self.time:g})", u=measured(self.u))

    def stage(self, name: str | None) -> Moment:
        """Itself; ResponseError for the name of a stage."""
        return unstaged(self, name)

    def __getattr__(self, name: str) -> Any:
        if name in _STATIC:
            raise ResponseError(
                f"a history has no {name!r} for responses to read: they may depend on the field at a time and on the "
                "design (Displacement, FieldNorm, Functional, Volume, Mass), not on forces"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def unstaged(here: Any, name: str | None) -> Any:
    """Itself; ResponseError for the name of a stage."""
    if name is not None:
        raise ResponseError(f"the response of stage {name!r} is one of a chain, and the solution is a history")
    return here
