"""Solves with a matrix by the factor of one that is close to it."""

from __future__ import annotations

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import ConvergenceError
from femadj.solvers.factor import Factor, TransposedFactor
from femadj.solvers.matrix import Matrix
from femadj.solvers.statistics import REFINEMENT_THRESHOLD, RESIDUAL_TOLERANCE

_STEPS = 60
_CONTRACTION = 0.9


class NearbyFactor:
    """Solves with a matrix by refinement with the factor of another one on the same structure.

    The error falls by the relative distance of the two with every step. Every right-hand side is judged by its backward
    error with the matrix itself: refined down to that of a solve on a factor of its own, or refused.

    Parameters
    ----------
    factor : Factor or TransposedFactor
        Of a matrix near by.
    matrix : Matrix
        The matrix itself, on the same structure.
    transposed : bool
        Whether solves are those with the transposed matrices.
    """

    def __init__(self, factor: Factor | TransposedFactor, matrix: Matrix, *, transposed: bool = False) -> None:
        self._factor = factor
        self._matrix = matrix
        self._transposed = transposed

    @classmethod
    def of(cls, factor: Factor, values: FloatArray, rounding: float) -> NearbyFactor:
        """By a factor; the entries of the matrix ``(nnz,)`` have a relative error."""
        return cls(factor, Matrix(factor.structure, values, rounding))

    @property
    def T(self) -> NearbyFactor:
        """The same with the transposed matrix."""
        return NearbyFactor(self._factor.T, self._matrix, transposed=not self._transposed)

    def solve(self, b: FloatArray) -> FloatArray:
        """Solve for ``b`` ``(n,)`` or ``(n, k)``, one right-hand side a column.

        Raises
        ------
        ConvergenceError
            Where refinement does not converge: the two matrices are too far apart.
        SolverError
            As ``Factor.solve``.
        """
        if b.ndim == 1:
            return self._refined(b, self._factor.solve(b))
        block = self._factor.solve(b)
        return np.stack([self._refined(row, x) for row, x in zip(b.T, block.T, strict=True)], axis=1)

    def _refined(self, b: FloatArray, x: FloatArray) -> FloatArray:
        factor, transposed = self._factor, self._transposed
        b = np.ascontiguousarray(b)
        error = self._matrix.judged(b, x, transposed=transposed).backward_error
        for _ in range(_STEPS):
            if error <= 0.01 * REFINEMENT_THRESHOLD:
                break
            better = x + factor.correct(self._matrix.residual(b, x, transposed=transposed)[0])
            after = self._matrix.judged(b, better, transposed=transposed).backward_error
            if not after < _CONTRACTION * error:
                break
            x, error = better, after
        if not error <= RESIDUAL_TOLERANCE:
            raise ConvergenceError(
                f"the factor of the last iteration does not serve for the tangent at the solution: refinement leaves a "
                f"backward error of {error:.1e}. The iterations ended too far from the solution; give Newton(...) a "
                "smaller tolerance"
            )
        return x
