"""What is asked of a solution for second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, Self

from femadj.algebra.implicit import Seed
from femadj.algebra.residual import State, Weights
from femadj.algebra.second import Moving
from femadj.base.arrays import FloatArray
from femadj.base.design import Design
from femadj.problems.fem import FemAtDesign
from femadj.problems.gradient import Partials
from femadj.progress import Phases


class Linked(NamedTuple):
    """Solutions of which each may read the states of earlier ones, as parameters of their names.

    Attributes
    ----------
    stages : mapping of name to Movable
        In the order of solution.
    links : mapping of name to names
        For every stage, those that it reads.
    prefixes : mapping of name to str
        What goes before the names of parameters of a stage; stages with the same prefix share parameters.
    """

    stages: Mapping[str, Movable]
    links: Mapping[str, tuple[str, ...]]
    prefixes: Mapping[str, str]


class Movable(Protocol):
    """A solution that moves along directions of the design, and with it the first derivatives of responses."""

    @property
    def at(self) -> FemAtDesign:
        """The residual at the design."""
        ...

    @property
    def points(self) -> FloatArray:
        """Node coordinates."""
        ...

    @property
    def state(self) -> State:
        """What solves the problem."""
        ...

    def seed(self, partials: Partials) -> Seed:
        """Partial derivatives of a response, flat; they may be complex."""
        ...

    def weigh(self, seed: Seed, phases: Phases) -> Weights:
        """What derivatives of the residual at the state are paired with, for a response."""
        ...

    def moving(self, direction: Design, partials: Partials) -> Moving:
        """Itself along a direction, as far as it matters for a response with these partial derivatives.

        SecondOrderError for what has no second derivatives.
        """
        ...

    def shifted(self, at: FemAtDesign, state: Any) -> Self:
        """The same with another design and state, for what looks at these alone: responses."""
        ...

    def require_twice(self, partials: Partials, evaluate: Callable[[Any], Partials]) -> None:
        """An error for a response that has no second derivatives here.

        ``partials`` are its partial derivatives, ``evaluate`` finds them for solutions of complex numbers.
        """
        ...
