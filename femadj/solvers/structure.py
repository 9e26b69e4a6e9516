"""The sparsity structure that solvers are handed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class CsrPattern:
    """Compressed sparse row structure of a square matrix, columns sorted within every row.

    Attributes
    ----------
    indptr : (n + 1,) int64
    indices : (nnz,) int32
    triangle : "upper" or "full"
        ``"upper"``: only entries with column >= row are stored (diagonal first in its row) and stand for a
        symmetric matrix. ``"full"``: all entries are stored.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    triangle: Literal["upper", "full"]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return len(self.indices)

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        """Row of every stored entry, (nnz,); built at every access."""
        return np.repeat(np.arange(self.n, dtype=np.int32), np.diff(self.indptr))

    def diagonal(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Slots of the diagonal entries of the given rows."""
        start = self.indptr[rows]
        if self.triangle == "upper":
            return start
        lengths = self.indptr[rows + 1] - start
        slots = np.repeat(start - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        return slots[self.indices[slots] == np.repeat(rows, lengths)]
