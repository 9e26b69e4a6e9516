"""Factors in double precision as preconditioners of matrices near by."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.solvers.base import Symbolic
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import Matrix


class ExactFactor:
    """A preconditioner that is the inverse of the matrix it was made of.

    Attributes
    ----------
    factor : Factor
    seconds : float
    """

    name = "factor"

    def __init__(self, factor: Factor, seconds: float) -> None:
        self.factor = factor
        self.seconds = seconds

    @property
    def nbytes(self) -> int:
        """Of the factor; 0 where the solver does not tell."""
        return self.factor.statistics.factor_bytes or 0

    def apply(self, r: FloatArray, *, transposed: bool) -> FloatArray:
        """One solve, unchecked."""
        x = self.factor._inverse(np.ascontiguousarray(r.T), transposed)
        return np.ascontiguousarray(x.T)

    def close(self) -> None:
        """Free the factor."""
        self.factor.close()


class Exact:
    """Factorises in double precision; what it finds singular or indefinite is so.

    Parameters
    ----------
    symbolic : Symbolic
        The structure, analysed.
    """

    def __init__(self, symbolic: Symbolic) -> None:
        self.symbolic = symbolic

    def make(self, matrix: Matrix) -> ExactFactor:
        """Factorise; the errors are those of ``Symbolic.factor``."""
        start = perf_counter()
        factor = self.symbolic._factor(matrix)
        return ExactFactor(factor, perf_counter() - start)

    def close(self) -> None:
        """Give up the analysis."""
        self.symbolic.close()
