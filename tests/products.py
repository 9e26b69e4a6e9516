"""The products of a problem at node coordinates, one by one: what tests compare with independent references."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import femadj as fa
from femadj.algebra.linear_system import POINTS, LinearSystem
from femadj.algebra.residual import State, Weights
from femadj.problems.fem import FemAtDesign, FemResidual

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Assembled:
    """Matrix with supports applied, right-hand side, nodal forces."""

    values: FloatArray
    rhs: FloatArray
    load: FloatArray


class Products:
    """Of a problem, a residual, or a solution (at its own parameters)."""

    def __init__(self, of: Any) -> None:
        self.parameters: dict[str, FloatArray] = {}
        if hasattr(of, "at") and hasattr(of, "linear"):
            self.residual: FemResidual = of.at.problem
            self.parameters = dict(of.at.design.parameters)
        else:
            self.residual = getattr(of, "residual", of)

    @property
    def pattern(self) -> Any:
        return self.residual.pattern

    @property
    def space(self) -> Any:
        return self.residual.space

    @property
    def fixed(self) -> npt.NDArray[np.bool_]:
        return self.residual.supports.fixed

    def at(self, points: FloatArray) -> FemAtDesign:
        return self.residual.at(fa.Design(points, self.parameters))

    def assemble(self, points: FloatArray) -> Assembled:
        at = self.at(points)
        condensed, start = at.condensed, State(at.lifting)
        constrained = at.constraints.constrained
        rhs = at.constraints.restrict(-at.residual(start))[0]
        rhs[constrained] = condensed.diagonal * start.u[0][constrained]
        return Assembled(condensed.values, rhs, at.load)

    def stiffness_times(self, points: FloatArray, x: FloatArray, *, transpose: bool = False) -> FloatArray:
        """``K x`` or ``K^T x``, supports not applied."""
        at, flat = self.at(points), x.reshape(1, -1)
        return (at.vjp if transpose else at.jvp)(State(flat), flat).reshape(x.shape)

    def contract(
        self, points: FloatArray, u: FloatArray, stiffness_weight: FloatArray, load_weight: FloatArray
    ) -> FloatArray:
        """``load_weight^T df/dX - stiffness_weight^T (dK/dX u)``."""
        into = fa.Cotangent(np.zeros_like(points))
        weights = Weights(stiffness_weight.reshape(1, -1), load_weight.reshape(1, -1))
        self.at(points).pullback(State(u.reshape(1, -1)), [weights], [into])
        assert into.points is not None
        return into.points

    def tangent(self, points: FloatArray, velocity: FloatArray, u: FloatArray) -> FloatArray:
        """``(dK/dX velocity) u - (df/dX) velocity``."""
        rates, _ = self.at(points).pushforward(State(u.reshape(1, -1)), [fa.Design(velocity)])
        return rates.reshape(u.shape)


def linear_of(problem: Any) -> LinearSystem:
    """A linear system of its own over the residual of a problem."""
    return LinearSystem.over(problem.residual, POINTS, fa.get_solver("auto", threads=1))
