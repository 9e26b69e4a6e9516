"""What design variables are: maps to node coordinates with both products of their derivatives, composed by ``>>``.

A *parametrisation* maps variables ``q`` (n,) to node coordinates, a *motion* node coordinates to node coordinates.
Both say how far nodes move from an *origin*, the coordinates that the movement starts from: those of the mesh when left
out. Put at an input and an origin they are ``Placed``, which owns what has been computed there and knows the products
of its derivatives by both.

With ``A`` for a parametrisation and ``M`` for a motion, at the origin ``S``:

    A >> M:   X = M(A(q, S), S)                                    A + B:   X = B(p, A(q, S)),   variables (q, p)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import real_array
from femadj.base.arrays import FloatArray
from femadj.errors import ParametrisationError, SecondOrderError
from femadj.mesh import checked_points

Pulled = tuple[FloatArray, FloatArray | None]
"""Derivatives by the input and by the origin; None by one that was left out, which does not move."""


class Placed(ABC):
    """A parametrisation or a motion at its input and origin: everything that was computed there, once.

    One of one's own defines ``points``, ``pull`` and ``push``, and ``bend`` where it has second derivatives.

    Attributes
    ----------
    points : (n_nodes, dim)
        Where the nodes are.
    """

    points: FloatArray

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input: ``(n,)`` variables, or ``(n_nodes, dim)``."""

    @abstractmethod
    def pull(self, gradient: FloatArray) -> Pulled:
        """Derivatives by the input and by the origin, for a derivative by the points."""

    @abstractmethod
    def push(self, direction: FloatArray, origin: FloatArray | None) -> FloatArray:
        """Velocities of the nodes for those of the input and of the origin (None: it rests)."""

    def bend(self, gradient: FloatArray, direction: FloatArray, origin: FloatArray | None) -> Pulled:
        """Rates of ``pull(gradient)`` along velocities of the input and of the origin, for a fixed gradient."""
        raise SecondOrderError(f"{type(self).__name__} does not tell its second derivatives: it has no method bend")

    # ------------------------------------------------------------------ the same, checked
    def pullback(self, gradient: npt.ArrayLike) -> FloatArray:
        """Derivative by the input, for a derivative by the points, ``Gradient.points`` ``(n_nodes, dim)``."""
        return self.pull(finite_array(gradient, self.points.shape, "the node gradient"))[0]

    def pushforward(self, direction: npt.ArrayLike) -> FloatArray:
        """Velocities of the nodes ``(n_nodes, dim)``, for those of the input."""
        return self.push(finite_array(direction, self.input_shape, "the direction"), None)

    def curvature(self, gradient: npt.ArrayLike, direction: npt.ArrayLike) -> FloatArray:
        """Rate of ``pullback(gradient)`` along a direction of the input, for a fixed gradient; zero for linear maps.

        Raises
        ------
        SecondOrderError
            Where the map does not tell its second derivatives.
        """
        g = finite_array(gradient, self.points.shape, "the node gradient")
        return self.bend(g, finite_array(direction, self.input_shape, "the direction"), None)[0]


class Parametrisation(ABC):
    """Design variables ``q`` (n,), and the node coordinates ``(n_nodes, dim)`` that they stand for.

    Attributes
    ----------
    points : (n_nodes, dim)
        Coordinates of the mesh that it was made for.
    n : int
        Number of variables.
    linear : bool
        Whether points are linear in the variables, up to a constant; False where nothing is said.
    shifts : bool
        Whether another origin shifts the points and changes nothing else.
    """

    points: FloatArray
    linear: bool = False
    shifts: bool = False

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of variables."""

    @abstractmethod
    def place(self, q: FloatArray, origin: FloatArray | None) -> Placed:
        """``at`` for variables and an origin that have been checked."""

    @property
    def start(self) -> FloatArray:
        """The variables of the mesh that it was made for."""
        return np.zeros(self.n)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Smallest and largest values of the variables, infinite where there is no limit."""
        return np.full(self.n, -np.inf), np.full(self.n, np.inf)

    @property
    def names(self) -> tuple[str, ...]:
        """What each variable is."""
        return tuple(f"q{number}" for number in range(self.n))

    def at(self, q: npt.ArrayLike, origin: npt.ArrayLike | None = None) -> Placed:
        """Put at variables: one solve of a motion at most, whatever is asked of the result.

        Parameters
        ----------
        q : (n,)
        origin : (n_nodes, dim), optional
            Where the movement starts; the coordinates of the mesh when left out.

        Raises
        ------
        ParametrisationError
            For variables that are not finite or of the wrong number.
        """
        variables = finite_array(q, (self.n,), "design variables")
        return self.place(variables, None if origin is None else checked_points(origin, self.points.shape))

    def forward(self, q: npt.ArrayLike) -> FloatArray:
        """Node coordinates of the variables; see ``at`` for more than one question at the same variables."""
        return self.at(q).points

    def pullback(self, q: npt.ArrayLike, gradient: npt.ArrayLike) -> FloatArray:
        """Derivative by the variables, for a derivative by the node coordinates."""
        return self.at(q).pullback(gradient)

    def pushforward(self, q: npt.ArrayLike, direction: npt.ArrayLike) -> FloatArray:
        """Velocities of the nodes for those of the variables."""
        return self.at(q).pushforward(direction)

    def __rshift__(self, motion: Motion) -> Chained:
        return Chained(self, motion) if isinstance(motion, Motion) else NotImplemented

    def __add__(self, other: Parametrisation) -> Successive:
        return Successive(self, other) if isinstance(other, Parametrisation) else NotImplemented


class Motion(ABC):
    """Node coordinates for node coordinates: what nodes do when they, or some of them, are told where to go.

    Attributes
    ----------
    points : (n_nodes, dim)
        Coordinates of the mesh that it was made for.
    linear : bool
        Whether it is linear in the coordinates that it is given, up to a constant.
    shifts : bool
        Whether another origin shifts the points and changes nothing else.
    """

    points: FloatArray
    linear: bool = False
    shifts: bool = False

    @abstractmethod
    def place(self, points: FloatArray, origin: FloatArray | None) -> Placed:
        """``at_points`` for coordinates that have been checked."""

    def at_points(self, points: npt.ArrayLike, origin: npt.ArrayLike | None = None) -> Placed:
        """Put at node coordinates ``(n_nodes, dim)`` that nodes are told to go to, from an origin."""
        shape = self.points.shape
        return self.place(checked_points(points, shape), None if origin is None else checked_points(origin, shape))

    def __rshift__(self, other: Motion) -> ChainedMotion:
        return ChainedMotion(self, other) if isinstance(other, Motion) else NotImplemented


# ---------------------------------------------------------------------- one after the other
@dataclass(frozen=True, eq=False)
class PlacedChain(Placed):
    """A map whose points a motion is given; both have the same origin."""

    first: Placed
    then: Placed

    @property
    def points(self) -> FloatArray:  # type: ignore[override]
        """Where the nodes are."""
        return self.then.points

    @property
    def input_shape(self) -> tuple[int, ...]:
        """That of the first."""
        return self.first.input_shape

    def pull(self, gradient: FloatArray) -> Pulled:
        """Derivatives by the input and by the origin."""
        between, by_then = self.then.pull(gradient)
        by_input, by_first = self.first.pull(between)
        return by_input, _sum(by_then, by_first)

    def push(self, direction: FloatArray, origin: FloatArray | None) -> FloatArray:
        """Velocities of the nodes."""
        return self.then.push(self.first.push(direction, origin), origin)

    def bend(self, gradient: FloatArray, direction: FloatArray, origin: FloatArray | None) -> Pulled:
        """Rates of both derivatives: of those of the motion, pulled back, and of the pullback itself."""
        between, by_then = self.then.bend(gradient, self.first.push(direction, origin), origin)
        pulled = self.first.pull(between)
        bent = self.first.bend(self.then.pull(gradient)[0], direction, origin)
        return pulled[0] + bent[0], _sum(by_then, _sum(pulled[1], bent[1]))


@dataclass(frozen=True, eq=False)
class Chained(Parametrisation):
    """``first >> motion``: the motion is given the points of the parametrisation."""

    first: Parametrisation
    motion: Motion

    def __post_init__(self) -> None:
        require_same_mesh(self.first, self.motion)

    @property
    def points(self) -> FloatArray:  # type: ignore[override]
        """Coordinates of the mesh."""
        return self.first.points

    @property
    def n(self) -> int:
        """Number of variables."""
        return self.first.n

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Whether both are."""
        return self.first.linear and self.motion.linear

    @property
    def shifts(self) -> bool:  # type: ignore[override]
        """Whether both do."""
        return self.first.shifts and self.motion.shifts

    @property
    def start(self) -> FloatArray:
        """The variables of the mesh."""
        return self.first.start

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Those of the parametrisation."""
        return self.first.bounds

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the parametrisation."""
        return self.first.names

    def place(self, q: FloatArray, origin: FloatArray | None) -> Placed:
        """Put at variables."""
        first = self.first.place(q, origin)
        return PlacedChain(first, self.motion.place(first.points, origin))


@dataclass(frozen=True, eq=False)
class ChainedMotion(Motion):
    """``first >> then``: the second motion is given the points of the first."""

    first: Motion
    then: Motion

    def __post_init__(self) -> None:
        require_same_mesh(self.first, self.then)

    @property
    def points(self) -> FloatArray:  # type: ignore[override]
        """Coordinates of the mesh."""
        return self.first.points

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Whether both are."""
        return self.first.linear and self.then.linear

    @property
    def shifts(self) -> bool:  # type: ignore[override]
        """Whether both do."""
        return self.first.shifts and self.then.shifts

    def place(self, points: FloatArray, origin: FloatArray | None) -> Placed:
        """Put at node coordinates."""
        first = self.first.place(points, origin)
        return PlacedChain(first, self.then.place(first.points, origin))


@dataclass(frozen=True, eq=False)
class PlacedSuccession(Placed):
    """A map whose points are the origin of another one."""

    first: Placed
    then: Placed

    @property
    def points(self) -> FloatArray:  # type: ignore[override]
        """Where the nodes are."""
        return self.then.points

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Variables of both, one after the other."""
        return (self.first.input_shape[0] + self.then.input_shape[0],)

    def _split(self, direction: FloatArray) -> tuple[FloatArray, FloatArray]:
        n = self.first.input_shape[0]
        return direction[:n], direction[n:]

    def _of_then(self, pulled: Pulled) -> tuple[FloatArray, FloatArray]:
        if pulled[1] is None:
            raise ParametrisationError(f"{type(self.then).__name__} does not tell its derivative by the origin")
        return pulled[0], pulled[1]

    def pull(self, gradient: FloatArray) -> Pulled:
        """Derivatives by the variables and by the origin."""
        by_then, between = self._of_then(self.then.pull(gradient))
        by_first, by_origin = self.first.pull(between)
        return np.concatenate([by_first, by_then]), by_origin

    def push(self, direction: FloatArray, origin: FloatArray | None) -> FloatArray:
        """Velocities of the nodes."""
        first, then = self._split(direction)
        return self.then.push(then, self.first.push(first, origin))

    def bend(self, gradient: FloatArray, direction: FloatArray, origin: FloatArray | None) -> Pulled:
        """Rates of both derivatives."""
        first, then = self._split(direction)
        by_then, between = self._of_then(self.then.bend(gradient, then, self.first.push(first, origin)))
        pulled = self.first.pull(between)
        bent = self.first.bend(self._of_then(self.then.pull(gradient))[1], first, origin)
        return np.concatenate([pulled[0] + bent[0], by_then]), _sum(pulled[1], bent[1])


@dataclass(frozen=True, eq=False)
class Successive(Parametrisation):
    """``first + then``: movements one after the other, the second from where the first one ends.

    The variables are those of the first, then those of the second.
    """

    first: Parametrisation
    then: Parametrisation

    def __post_init__(self) -> None:
        require_same_mesh(self.first, self.then)

    @property
    def points(self) -> FloatArray:  # type: ignore[override]
        """Coordinates of the mesh."""
        return self.first.points

    @property
    def n(self) -> int:
        """Number of variables."""
        return self.first.n + self.then.n

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Whether both are, and the matrix of the second does not depend on where it starts."""
        return self.first.linear and self.then.linear and self.then.shifts

    @property
    def shifts(self) -> bool:  # type: ignore[override]
        """Whether both do."""
        return self.first.shifts and self.then.shifts

    @property
    def start(self) -> FloatArray:
        """The variables of the mesh."""
        return np.concatenate([self.first.start, self.then.start])

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Those of both."""
        (low, high), (then_low, then_high) = self.first.bounds, self.then.bounds
        return np.concatenate([low, then_low]), np.concatenate([high, then_high])

    @property
    def names(self) -> tuple[str, ...]:
        """Those of both, numbered as 1 and 2."""
        pairs = ((self.first, 1), (self.then, 2))
        return tuple(f"{number}: {name}" for each, number in pairs for name in each.names)

    def place(self, q: FloatArray, origin: FloatArray | None) -> Placed:
        """Put at variables."""
        first = self.first.place(q[: self.first.n], origin)
        return PlacedSuccession(first, self.then.place(q[self.first.n :], first.points))


# ---------------------------------------------------------------------- checks
def _sum(one: FloatArray | None, other: FloatArray | None) -> FloatArray | None:
    return None if one is None or other is None else one + other


def require_same_mesh(first: Any, then: Any) -> None:
    """ParametrisationError where two maps were made for different meshes."""
    if first.points.shape != then.points.shape or not np.array_equal(first.points, then.points):
        raise ParametrisationError(
            f"{type(first).__name__} and {type(then).__name__} were made for different meshes: "
            f"{len(first.points)} and {len(then.points)} nodes, or other coordinates; make both with the same mesh"
        )


def finite_array(value: Any, shape: tuple[int, ...], what: str) -> FloatArray:
    """A finite float64 array of some shape; ParametrisationError for anything else."""
    array = real_array(value, what, ParametrisationError, f"an array of shape {shape}")
    if array.shape != shape:
        raise ParametrisationError(f"{what} must have shape {shape}, not {array.shape}")
    if not np.isfinite(array).all():
        bad = ", ".join(map(str, np.argwhere(~np.isfinite(array))[:4].tolist()))
        raise ParametrisationError(f"{what} must be finite; NaN or infinite at {bad}")
    return array
