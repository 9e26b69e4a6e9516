"""SuperLU in single precision, to precondition iterations in double precision with."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import numpy.typing as npt
import scipy.sparse.linalg as spla

from femadj.base.arrays import FloatArray
from femadj.errors import ApproximationError
from femadj.solvers.elimination import Elimination
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.ordering import by_metis

_BYTES_PER_ENTRY = 8  # a float and a 32-bit index


class SinglePrecisionSuperLU:
    """Factors in single precision of the matrices on one structure: an ``Approximation``.

    They take about six tenths of the time of those in double precision, and two thirds of the memory.
    """

    def __init__(self, structure: Structure, threads: int | None = None) -> None:
        self._elimination = Elimination(structure, by_metis())

    def make(self, matrix: Matrix) -> SinglePrecisionFactor:
        """Factorise the equilibrated matrix, whose entries fit single precision whatever the units are.

        Raises
        ------
        ApproximationError
            If a pivot is zero, or not positive though the matrix is said to be positive definite.
        SolverMemoryError
            If the factors do not fit.
        """
        start = perf_counter()
        lu = self._elimination.factors(matrix.equilibrated(always=True).astype(np.float32))
        if lu is None:
            raise ApproximationError("in single precision, a pivot is zero")
        if matrix.structure.kind == "spd":
            pivots, order, swapped = self._elimination.pivots(lu)
            if len(swapped) or not pivots.min() > 0.0:
                equation = int(swapped[0] if len(swapped) else order[np.argmin(pivots)])
                name = matrix.structure.unknowns.name_of(equation)
                raise ApproximationError(f"in single precision, the pivot of {name} is not positive")
        return SinglePrecisionFactor(self._elimination, lu, matrix, perf_counter() - start)

    def close(self) -> None:
        """Drop the order of elimination."""
        del self._elimination


class SinglePrecisionFactor:
    """Solves in single precision: a ``Preconditioner``."""

    name = "SuperLU in single precision"

    def __init__(self, elimination: Elimination, lu: spla.SuperLU, matrix: Matrix, seconds: float) -> None:
        self.seconds = seconds
        self.nbytes = int(lu.nnz) * _BYTES_PER_ENTRY
        self._elimination = elimination
        self._lu: spla.SuperLU | None = lu
        self._rows, self._columns = matrix.rows, matrix.columns
        self._holds_transpose = not matrix.structure.upper

    def apply(self, r: FloatArray, *, transposed: bool) -> FloatArray:
        """Approximate ``A^-1 r`` (``A^-T r``) for ``r`` (n, k), a column at a time: blocks are rounded otherwise."""
        if self._lu is None:
            raise ApproximationError("this preconditioner has been closed")
        before, after = (self._columns, self._rows) if transposed else (self._rows, self._columns)
        trans = "T" if transposed != self._holds_transpose else "N"
        x = np.empty_like(r)
        for column in range(r.shape[1]):
            scaled = before * r[:, column]
            size = _power_of_two_above(scaled)
            single: npt.NDArray[np.float32] = (scaled / size).astype(np.float32)[None]
            x[:, column] = self._elimination.solve(self._lu, single, trans)[0].astype(np.float64) * size * after
        return x

    def close(self) -> None:
        """Free the factors."""
        self._lu = None

    def give_way(self) -> None:
        """Free the factors; the next ones have memory of their own."""
        self.close()


def _power_of_two_above(vector: FloatArray) -> float:
    """What to divide by, so that no entry is too large for single precision; exact."""
    return float(np.ldexp(1.0, np.frexp(max(vector.max(), -vector.min()))[1]))
