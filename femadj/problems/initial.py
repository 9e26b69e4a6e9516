"""Initial values: of free unknowns; those of supported ones are what the supports say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from femadj.base.arguments import real_array, sequence_of
from femadj.base.arrays import FloatArray
from femadj.base.calls import constant_components, evaluate
from femadj.errors import ProblemError
from femadj.space.discretisation import Discretisation

NAMES = ("initial_u", "initial_v")
"""Names of the initial values of the unknowns and of their rates, as parameters."""


@dataclass(frozen=True, eq=False)
class InitialField:
    """Initial values of the unknowns, or of their rates.

    Attributes
    ----------
    name : str
    values : array in the shape of the unknowns, or None
    function : callable or None
        Of position, in place of values; it moves with the nodes.
    everywhere : bool
        Whether the values at supported unknowns are meant, too.
    """

    name: str
    values: FloatArray | None
    function: Callable[[Any], Any] | None = None
    everywhere: bool = False

    @classmethod
    def of(cls, given: Any, space: Discretisation, name: str) -> InitialField:
        """Values as given: None (zero), components, an array of values of all unknowns, or a function of position."""
        what = f"{name} (initial values)"
        if callable(given):
            space.require_nodal()
            return cls(name, None, given, True)
        if given is None:
            return cls(name, np.zeros(space.shape))
        array = real_array(given, what, ProblemError, "a number, an array or a function of x")
        if array.shape == space.shape[:1] and space.shape[1] == 1:
            array = array[:, None]
        if array.shape != space.shape:
            if array.size > space.n_components:
                raise ProblemError(f"{what} must have the shape of the unknowns, {space.shape}, not {array.shape}")
            space.require_nodal()
            components = constant_components(given, space.n_components, what, ProblemError)
            return cls(name, np.broadcast_to(components, space.shape).copy())
        if not np.isfinite(array).all():
            raise ProblemError(f"{what} must be finite")
        return cls(name, array, None, True)

    def at(self, points: FloatArray, components: int) -> tuple[FloatArray, FloatArray | None]:
        """Values, and their derivatives by position where they have some, ``(n, nc, dim)``."""
        if self.function is None:
            assert self.values is not None
            return self.values, None
        found = evaluate(self.function, points, components, f"{self.name} (initial values)", ProblemError)
        if found.kink:
            raise ProblemError(found.kink)
        return found.values, found.derivatives


def initial_fields(given: Any, space: Discretisation, order: int) -> tuple[InitialField, ...]:
    """Initial values as given: of first order ``u0`` alone, of second order the pair ``(u0, v0)``."""
    parts: tuple[Any, ...] = (given,)
    if order == 2 and given is None:
        parts = (None, None)
    elif order == 2:
        parts = sequence_of(given, "initial values", ProblemError, ": write initial=(u0, v0), None for what is zero")
        if len(parts) != order:
            raise ProblemError(f"initial values of second order are a pair (u0, v0), not {len(parts)} of them")
    return tuple(InitialField.of(each, space, name) for each, name in zip(parts, NAMES, strict=False))
