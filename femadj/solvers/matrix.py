"""Structures and matrices as the solvers see them: checked once, and multiplied with for the checks of a solve."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from femadj.base.arrays import FloatArray
from femadj.errors import SingularSystemError, SolverError
from femadj.solvers.structure import CsrPattern

MatrixKind = Literal["spd", "symmetric", "general"]
"""``"spd"``: symmetric positive definite. ``"symmetric"``: may be indefinite. ``"general"``: neither."""


class Structure:
    """A checked sparsity pattern with index arrays of one integer type, shared by all matrices on it.

    Parameters
    ----------
    pattern : CsrPattern
        Structure of a square matrix.
    kind : MatrixKind
        Decides which triangle must be stored: ``"upper"`` for ``"spd"`` and ``"symmetric"``, ``"full"`` for
        ``"general"``.

    Raises
    ------
    SolverError
        If the arrays do not describe such a structure: wrong triangle, unsorted or repeated columns, missing
        diagonal of an upper triangle, indices out of range.
    SingularSystemError
        If a row or column has no entry at all.
    """

    def __init__(self, pattern: CsrPattern, kind: MatrixKind) -> None:
        triangle = "full" if kind == "general" else "upper"
        if pattern.triangle != triangle:
            raise SolverError(
                f"a {kind!r} matrix is handed over as its {triangle!r} triangle, got {pattern.triangle!r}"
            )
        indptr, indices = pattern.indptr, pattern.indices
        _check_compressed_rows(indptr, indices, upper=triangle == "upper")
        self.pattern = pattern
        self.kind: MatrixKind = kind
        self.n = pattern.n
        self.upper = triangle == "upper"
        # One integer type for both arrays lets SciPy use them without a copy of the (large) column indices.
        index_type = np.int32 if pattern.nnz <= np.iinfo(np.int32).max else np.int64
        self.indptr: npt.NDArray[np.integer] = np.ascontiguousarray(indptr, index_type)
        self.indices: npt.NDArray[np.integer] = np.ascontiguousarray(indices, index_type)

    def rows(self) -> npt.NDArray[np.integer]:
        """Row of every stored entry, (nnz,)."""
        return self.pattern.rows


def _check_compressed_rows(indptr: npt.NDArray[np.integer], indices: npt.NDArray[np.integer], *, upper: bool) -> None:
    """Raise SolverError or SingularSystemError unless this is a sorted CSR structure of a square matrix."""
    if indptr.ndim != 1 or indices.ndim != 1 or indptr.dtype.kind != "i" or indices.dtype.kind != "i":
        raise SolverError("indptr and indices must be one-dimensional arrays of signed integers")
    n, nnz = len(indptr) - 1, len(indices)
    if n < 1:
        raise SolverError("the system has no equations")
    if indptr[0] != 0 or indptr[-1] != nnz or (np.diff(indptr) < 0).any():
        raise SolverError(f"indptr must grow from 0 to the number of entries, {nnz}")
    if nnz and (int(indices.min()) < 0 or int(indices.max()) >= n):
        raise SolverError(f"column indices must lie between 0 and {n - 1}")
    ascending = indices[1:] > indices[:-1]
    starts = indptr[1:-1]
    ascending[starts[(starts > 0) & (starts < nnz)] - 1] = True  # a new row starts over
    if not ascending.all():
        # Some libraries crash on unsorted rows instead of reporting them.
        row = int(np.searchsorted(indptr, int(np.argmin(ascending)), side="right")) - 1
        raise SolverError(f"columns must be sorted and unique within every row; row {row} is not")
    empty = np.diff(indptr) == 0
    if empty.any():
        row = int(np.argmax(empty))
        raise SingularSystemError(f"equation {row} has no entry: the matrix is singular", row)
    if upper:
        misplaced = indices[indptr[:-1]] != np.arange(n)
        if misplaced.any():
            row = int(np.argmax(misplaced))
            raise SolverError(
                f"an upper triangle stores the diagonal first in every row, and nothing left of it; "
                f"row {row} starts with column {int(indices[indptr[row]])}"
            )
    else:
        missing = np.bincount(indices, minlength=n) == 0
        if missing.any():
            column = int(np.argmax(missing))
            raise SingularSystemError(f"unknown {column} has no entry: the matrix is singular", column)


class Matrix:
    """Values on a structure, with the products that the checks need. The values are referenced, not copied.

    Attributes
    ----------
    values : (nnz,) float64
    row_sums, column_sums : (n,) float64
        Sums of absolute values; their maxima are the norms of the matrix and of its transpose.
    """

    def __init__(self, structure: Structure, values: FloatArray, *, absolute: bool = False) -> None:
        self.structure = structure
        self.values = values
        n = structure.n
        data = np.abs(values) if absolute else values
        self._rows = sp.csr_array((data, structure.indices, structure.indptr), shape=(n, n), copy=False)
        self._columns = self._rows.T  # shares the arrays
        self._diagonal = data[structure.indptr[:-1]] if structure.upper else None
        self._sums: tuple[FloatArray, FloatArray] | None = None

    def apply(self, x: FloatArray, *, transposed: bool = False) -> FloatArray:
        """Product ``A x`` or ``A^T x`` with ``x`` of shape (n,)."""
        if self._diagonal is None:
            return (self._columns if transposed else self._rows) @ x
        y: FloatArray = self._rows @ x
        y += self._columns @ x
        y -= self._diagonal * x  # counted by both triangles
        return y

    def absolute(self) -> Matrix:
        """The matrix of absolute values, on a copy of the values."""
        return Matrix(self.structure, self.values, absolute=True)

    def sums(self) -> tuple[FloatArray, FloatArray]:
        """Row and column sums of absolute values, each (n,)."""
        if self._sums is None:
            absolute = self.absolute()
            ones = np.ones(self.structure.n)
            rows = absolute.apply(ones)
            self._sums = rows, rows if self.structure.upper else absolute.apply(ones, transposed=True)
        return self._sums

    def norm(self, *, transposed: bool = False) -> float:
        """Maximum norm of ``A`` or ``A^T``."""
        return float(self.sums()[int(transposed)].max())
