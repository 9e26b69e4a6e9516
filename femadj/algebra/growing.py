"""Matrices of users on a structure that grows: their zeros may differ from call to call."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from femadj.base.arrays import FloatArray
from femadj.errors import LinearSystemError
from femadj.solvers import MatrixKind
from femadj.solvers.structure import CsrPattern

SYMMETRY_TOLERANCE = 1e-12
"""Largest ``|A_ij - A_ji|`` of a symmetric matrix, relative to the largest entries of the two rows and columns."""


class GrowingPattern:
    """All entries that were nonzero in any of a user's matrices so far.

    Parameters
    ----------
    kind : MatrixKind
        What the matrices are said to be; the upper triangle is kept of symmetric ones.
    name : str
        What they are called in messages.
    """

    def __init__(self, kind: MatrixKind, name: str) -> None:
        self._kind: MatrixKind = kind
        self._name = name
        self._pattern: CsrPattern | None = None
        self._keys = np.empty(0, dtype=np.int64)

    @property
    def pattern(self) -> CsrPattern | None:
        """The structure: a new object where it has grown; None before the first matrix."""
        return self._pattern

    def values(self, matrix: sp.csr_array) -> FloatArray:
        """Values of a sorted matrix in the order of the pattern, which is made or grown where it has to be.

        Raises
        ------
        LinearSystemError
            For a matrix of another size than before, and for one that is not as symmetric as was said.
        """
        n = matrix.shape[0]
        if self._pattern is not None:
            require_size(n, self._pattern.n)
        rows = rows_of(matrix)
        keys, values = rows * n + matrix.indices, matrix.data
        if self._kind != "general":
            _require_symmetric(matrix, self._kind, self._name)
            upper = matrix.indices >= rows
            keys, values = keys[upper], values[upper]
        if self._pattern is None:
            diagonal = np.arange(n, dtype=np.int64) * (n + 1)
            self._set_pattern(keys if self._kind == "general" else np.union1d(keys, diagonal), n)
        if np.array_equal(keys, self._keys):
            return values
        slots = np.searchsorted(self._keys, keys)
        if not np.array_equal(self._keys[np.minimum(slots, len(self._keys) - 1)], keys):
            self._set_pattern(np.union1d(self._keys, keys), n)
            slots = np.searchsorted(self._keys, keys)
        result = np.zeros(len(self._keys))
        result[slots] = values
        return result

    def _set_pattern(self, keys: npt.NDArray[np.int64], n: int) -> None:
        indptr = np.searchsorted(keys, np.arange(n + 1, dtype=np.int64) * n).astype(np.int64)
        self._keys = keys
        self._pattern = CsrPattern(indptr, (keys % n).astype(np.int32), "full" if self._kind == "general" else "upper")


def require_size(found: int, n: int) -> None:
    """The number of equations must not change."""
    if found != n:
        raise LinearSystemError(f"the number of equations changed from {n} to {found} between calls")


def rows_of(matrix: sp.csr_array) -> npt.NDArray[np.int64]:
    """Row of every stored entry."""
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))


def _require_symmetric(matrix: sp.csr_array, kind: MatrixKind, name: str) -> None:
    """Compare with the transpose; every difference is judged by the sizes of the two rows and columns it lies in."""
    difference = sp.coo_array(matrix - matrix.T)
    if not difference.nnz:
        return
    magnitude = abs(matrix)
    size = np.maximum(magnitude.max(axis=0).toarray().ravel(), magnitude.max(axis=1).toarray().ravel())
    rows, columns = difference.coords
    excess = np.abs(difference.data) - SYMMETRY_TOLERANCE * np.sqrt(size[rows]) * np.sqrt(size[columns])
    worst = int(np.argmax(excess))
    if excess[worst] > 0:
        i, j = int(rows[worst]), int(columns[worst])
        raise LinearSystemError(
            f"{name} is not symmetric, as kind={kind!r} says: entry ({i}, {j}) is {matrix[i, j]:.9g}, entry "
            f"({j}, {i}) is {matrix[j, i]:.9g}. Return both triangles, or use kind='general'"
        )
