"""Designs, what a problem is put at, and cotangents, what its derivatives are collected in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.pickling import Picklable


def _none() -> Mapping[str, FloatArray]:
    return MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Design(Picklable):
    """A point in the space of designs, or a direction in it.

    Attributes
    ----------
    points : (n_nodes, dim) or None
        Node coordinates (a direction: their velocities); None for equations without a mesh, and for directions along
        which no node moves.
    parameters : mapping of name to array
        Values of parameters (a direction: their rates); those left out keep the values they were declared with (a
        direction: do not change).
    """

    points: FloatArray | None = None
    parameters: Mapping[str, FloatArray] = field(default_factory=_none)

    def __post_init__(self) -> None:
        if self.parameters is None:
            object.__setattr__(self, "parameters", _none())


@dataclass(frozen=True, eq=False)
class Cotangent(Picklable):
    """Derivatives of a scalar by a design. It is only ever added to.

    Who asks says what is wanted by what it holds: nothing is computed for points that are None and for parameters that
    are missing.

    Attributes
    ----------
    points : (n_nodes, dim) or None
    parameters : mapping of name to array
        In the shape of the parameters.
    """

    points: FloatArray | None = None
    parameters: Mapping[str, FloatArray] = field(default_factory=_none)

    @classmethod
    def zeros(cls, like: Design, parameters: Collection[str] | None = None) -> Cotangent:
        """Zeros in the shape of a design; ``parameters`` says which are wanted, all of them when left out."""
        names = like.parameters if parameters is None else parameters
        points = None if like.points is None else np.zeros_like(like.points)
        return cls(points, {name: np.zeros_like(like.parameters[name]) for name in names})

    def restricted(self, names: Collection[str]) -> Cotangent:
        """The same arrays, without parameters other than these."""
        return Cotangent(self.points, {name: a for name, a in self.parameters.items() if name in names})
