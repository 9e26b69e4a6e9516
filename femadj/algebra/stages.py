"""Stages of linear equations in time: one matrix for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from femadj.algebra.stepping import Change, LinearEquations, StepMatrix
from femadj.base.arrays import FloatArray
from femadj.solvers.factor import Factor


@dataclass(frozen=True, eq=False)
class LinearStages:
    """``(sum_r weights[r] A_r) x = F(t) - sum_r A_r fields[r]``.

    Attributes
    ----------
    equations : LinearEquations
    matrix : StepMatrix
    """

    equations: LinearEquations
    matrix: StepMatrix

    @classmethod
    def of(cls, equations: LinearEquations, weights: tuple[float, ...]) -> LinearStages:
        """Factorise the matrix."""
        return cls(equations, equations.matrix(weights))

    @property
    def factor(self) -> Factor:
        """The factorised matrix."""
        return self.matrix.factor

    def solve(self, number: int, fields: tuple[FloatArray | None, ...], near: FloatArray) -> FloatArray:
        """``x`` of a stage."""
        return self.matrix.solve(self.equations.load(number) - self.equations.forces(fields))

    def forward(
        self, number: int, fields: tuple[FloatArray, ...], moved: tuple[FloatArray | None, ...], change: Change
    ) -> FloatArray:
        """The rate of ``x``."""
        return self.matrix.solve(change(number, fields) - self.equations.forces(moved))

    def adjoint(
        self, number: int, fields: tuple[FloatArray, ...], bar: FloatArray
    ) -> tuple[FloatArray, tuple[FloatArray, ...]]:
        """The adjoint state, and its products with the transposed matrices."""
        lam = self.matrix.adjoint(bar)
        return lam, self.equations.transposed(lam)
