"""The fixed sparsity structure that solvers are handed, and the maps from element entries into it."""

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
