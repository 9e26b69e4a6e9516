"""Factors in double precision as preconditioners: exact for their own matrix, near enough for those close to it."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import SolverError
from femadj.solvers.base import Symbolic
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import Matrix


class Exact:
    """Makes them by the analysis of any direct solver, whose verdicts on matrices stand."""

    def __init__(self, symbolic: Symbolic) -> None:
        self.symbolic = symbolic

    def make(self, matrix: Matrix) -> ExactFactor:
        """A factor of this matrix.

        Raises
        ------
        SingularSystemError, IndefiniteSystemError, SolverMemoryError, SolverError
            As :meth:`Symbolic.factor`.
        """
        start = perf_counter()
        factor = self.symbolic.factor_of(matrix)
        return ExactFactor(factor, perf_counter() - start)

    def close(self) -> None:
        """Give up the analysis."""
        self.symbolic.close()


class ExactFactor:
    """The plain solves of a factor, without its checks.

    Attributes
    ----------
    factor : Factor
        What is applied; its own solves are checked.
    seconds : float
        Time that making it took.
    nbytes : int
        Memory of the factor, 0 where the solver does not tell.
    """

    name = "float64 factor"

    def __init__(self, factor: Factor, seconds: float) -> None:
        self.factor = factor
        self.seconds = seconds
        self.nbytes = factor.statistics.factor_bytes or 0

    def apply(self, r: FloatArray, *, transposed: bool) -> FloatArray:
        """Solve for the columns of ``r`` (n, k)."""
        if self.factor.closed:
            raise SolverError("this factor has been closed")
        if r.size == 0:
            return np.empty_like(r)
        transposed = transposed and not self.factor.structure.upper
        return np.ascontiguousarray(self.factor._inverse(np.ascontiguousarray(r.T), transposed).T)

    def close(self) -> None:
        """Close the factor."""
        self.factor.close()

    def give_way(self) -> None:
        """Close the factor, and leave its memory to the next one of the analysis."""
        self.factor.give_way()
