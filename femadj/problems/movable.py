"""What is asked of a solution for second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

from femadj.algebra.implicit import Seed
from femadj.algebra.residual import State, Weights
from femadj.algebra.second import Moving
from femadj.base.arrays import FloatArray
from femadj.base.design import Design
from femadj.problems.fem import FemAtDesign
from femadj.problems.gradient import Partials
from femadj.problems.solution import StaticProblem
from femadj.progress import Phases
from femadj.space.parameters import Parameters


class Movable(Protocol):
    """A solution that moves along directions of the design, and with it the first derivatives of responses."""

    @property
    def problem(self) -> StaticProblem:
        """What has been solved."""
        ...

    @property
    def at(self) -> FemAtDesign:
        """The residual at the design."""
        ...

    @property
    def points(self) -> FloatArray:
        """Node coordinates."""
        ...

    @property
    def parameters(self) -> Parameters:
        """Parameters with their values."""
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
