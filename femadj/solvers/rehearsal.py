"""A solver that does not solve: it lets a problem be gone through, responses and gradients included, for its kernels.

Solutions are right-hand sides divided by diagonal entries. They mean nothing, and nothing of them is checked.
"""

from __future__ import annotations

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.solvers.base import Solver, Symbolic
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.statistics import Capabilities, PivotReport


class RehearsalSolver(Solver):
    """Nothing is analysed or factorised, and nothing is solved."""

    name = "rehearsal"
    capabilities = Capabilities(
        kinds=frozenset({"spd", "symmetric", "general"}),
        transpose=True,
        many_right_hand_sides=True,
        reuses_analysis=True,
        factors_per_analysis=None,
        values_in_place=False,
        inertia=False,
        device="cpu",
    )

    def _analyse(self, structure: Structure, threads: int | None) -> RehearsalSymbolic:
        return RehearsalSymbolic(structure, self.tolerances)


class RehearsalSymbolic(Symbolic):
    """A structure as it is."""

    def _factor(self, matrix: Matrix) -> RehearsalFactor:
        return RehearsalFactor(matrix, PivotReport(), self.tolerances)

    def _free(self) -> None:
        """Nothing is held."""


class RehearsalFactor(Factor):
    """The diagonal of a matrix."""

    def _checked_solve(self, b: FloatArray, *, transposed: bool, bound: bool = True) -> FloatArray:
        pattern, values = self.structure.pattern, self._matrix.values
        rows, divisor = pattern.rows, np.ones(pattern.n)
        stored = (rows == pattern.indices) & (values != 0.0)  # what is not counts as one
        divisor[rows[stored]] = values[stored]
        return np.asarray((b.T / divisor).T)

    def _solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        return self._checked_solve(block.T, transposed=transposed).T

    def _free(self) -> None:
        """Nothing is held."""
