"""Approximate inverses, which iterations on the exact matrix are preconditioned with."""

from __future__ import annotations

from typing import Protocol

from femadj.base.arrays import FloatArray
from femadj.solvers.matrix import Matrix


class Preconditioner(Protocol):
    """An approximate inverse of one matrix, of matrices near by therefore, too.

    Attributes
    ----------
    name : str
        What it is, for messages and statistics.
    seconds : float
        Time that making it took.
    nbytes : int
        Memory that it holds.
    """

    @property
    def name(self) -> str: ...

    @property
    def seconds(self) -> float: ...

    @property
    def nbytes(self) -> int: ...

    def apply(self, r: FloatArray, *, transposed: bool) -> FloatArray:
        """Approximate ``A^-1 r`` (``A^-T r``) for ``r`` (n, k), one vector a column, C-contiguous; a new array like it.

        Linear, symmetric and positive definite where ``A`` is. The same bits for any number of columns and threads;
        those of a factor differ by rounding in its precision.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...

    def give_way(self) -> None:
        """Close for the next one of the same approximation, to which memory may be left."""
        ...


class Approximation(Protocol):
    """Makes preconditioners for the matrices on one structure."""

    def make(self, matrix: Matrix) -> Preconditioner:
        """An approximate inverse of this matrix, as its values are (not equilibrated).

        Raises
        ------
        ApproximationError
            Where the matrix has none of this kind; that is no verdict on the matrix.
        SolverMemoryError
            Where it does not fit.
        """
        ...

    def close(self) -> None:
        """Free what is kept for the structure."""
        ...
