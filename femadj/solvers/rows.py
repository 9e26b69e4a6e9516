"""A matrix by rows of blocks with both triangles, for products in threads and for multigrid set-ups."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.kernels import rows
from femadj.solvers.structure import CsrPattern
from femadj.solvers.team import Team

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

_FEW = 250_000  # numbers below which a thread costs more than it brings
_WIDTHS = (8, 4, 2, 1)  # columns that a pass over the matrix takes


class BlockRows(NamedTuple):
    """A matrix.

    Attributes
    ----------
    start : (n_nodes + 1,) int64
        Where the blocks of every row of blocks start.
    columns : (nnz,) int32
        Column of each block, ascending within a row.
    blocks : (nnz, b, b) float64
    team : Team
        Who multiplies.
    cuts : (shares + 1,) int64
        Rows of blocks by share.
    """

    start: Int64Array
    columns: Int32Array
    blocks: FloatArray
    team: Team
    cuts: Int64Array

    @property
    def n(self) -> int:
        """Number of unknowns."""
        return (len(self.start) - 1) * self.blocks.shape[1]

    def times(self, x: FloatArray, *, transposed: bool = False) -> FloatArray:
        """``A x`` or ``A^T x`` for ``x`` (n, k), one vector a column, C-contiguous."""
        y = np.zeros(x.shape)
        if transposed:
            rows.transposed_times(self.start, self.columns, self.blocks, x, y)
            return y
        b, k, first = self.blocks.shape[1], x.shape[1], 0
        while first < k:
            width = next(w for w in _WIDTHS if w <= k - first)
            arguments = self.start, self.columns, self.blocks.ravel(), x.ravel(), k, first, y.ravel()
            self.team(rows.times(b, b, width), self.cuts, *arguments)
            first += width
        return y


class BlockLayout:
    """Where the entries of a pattern lie in rows of blocks; once for a structure.

    Parameters
    ----------
    pattern : CsrPattern
    components : int
        Unknowns of a block. Where the pattern does not consist of full blocks of that size, blocks of one are taken.
    threads : int or None
    """

    def __init__(self, pattern: CsrPattern, components: int, threads: int | None) -> None:
        self.pattern = pattern
        self.components = components if _consists_of_blocks(pattern, components) else 1
        self.team = Team(threads)
        b, upper = self.components, pattern.triangle == "upper"
        first = pattern.indptr[:-1:b]
        lengths = (pattern.indptr[1::b] - first) // b  # of the first row of each node
        start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        row = np.repeat(np.arange(len(lengths)), lengths)
        columns = pattern.indices[first[row] + b * (np.arange(start[-1]) - start[row])] // np.int32(b)
        self._position: Int32Array | None = None
        if upper:
            start, columns, self._position = both_triangles(start, np.ascontiguousarray(columns, np.int32))
        self.start, self.columns = start, np.ascontiguousarray(columns, np.int32)
        self.cuts = self.team.shares(start, -(-_FEW // self.components**2))
        self._indptr = np.ascontiguousarray(pattern.indptr, np.int64)

    def filled(self, values: FloatArray) -> BlockRows:
        """The matrix with these entries on the pattern."""
        b = self.components
        blocks = np.empty((len(self.columns), b, b))
        if self._position is None:
            self.team(rows.gather, self.cuts, self.start, self._indptr, values, blocks)
        else:
            where = (self.start, self.columns, self._position, self._indptr)
            self.team(rows.spread, self.cuts, *where, values, blocks)
        return BlockRows(self.start, self.columns, blocks, self.team, self.cuts)


def both_triangles(start: Int64Array, columns: Int32Array) -> tuple[Int64Array, Int32Array, Int32Array]:
    """Rows of a symmetric matrix from those of its upper triangle: starts, columns, and each place in its upper row."""
    n = len(start) - 1
    below = np.bincount(columns, minlength=n) - 1  # the diagonal is stored once
    whole = np.concatenate([[0], np.cumsum(np.diff(start) + below)]).astype(np.int64)
    full, position = np.empty(whole[-1], np.int32), np.empty(whole[-1], np.int32)
    rows.whole(start, columns, whole[:-1].copy(), full, position)
    return whole, full, position


def _consists_of_blocks(pattern: CsrPattern, b: int) -> bool:
    """Whether all rows of a node have the same columns, which come in full blocks."""
    if b == 1 or pattern.n % b:
        return b == 1
    lengths = np.diff(pattern.indptr).reshape(-1, b)
    missing = np.arange(b) if pattern.triangle == "upper" else np.zeros(b, np.int64)
    if (lengths[:, :1] % b).any() or (lengths != lengths[:, :1] - missing).any():
        return False
    first = pattern.indptr[:-1:b]
    columns = pattern.indices
    for c in range(b):
        # row c of a node: the columns of its first row, less those left of the diagonal
        start, length = pattern.indptr[c:-1:b], lengths[:, c]
        skip = missing[c]
        total = int(length.sum())
        own = np.repeat(start - np.cumsum(length) + length, length) + np.arange(total)
        other = np.repeat(first + skip - np.cumsum(length) + length, length) + np.arange(total)
        if (columns[own] != columns[other]).any():
            return False
        if c == 0 and (columns[own].reshape(-1, b) != columns[own][::b, None] + np.arange(b)).any():
            return False
    return not (columns[first] % b).any()
