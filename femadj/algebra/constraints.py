"""Constraints: unknowns that follow others, as an affine map ``u = T(d) q + g(d)`` applied to an assembled matrix.

The reduced system is ``T^T K T q = T^T (f - K g)``. Equations keep their numbers: a constrained unknown keeps its row,
whose only entry is on the diagonal, so that a matrix fits the same pattern with and without constraints and errors of a
solver name unknowns of the mesh. The entries that condensing takes out are kept as two small blocks; products with them
are the forces of constraints (reactions), the lifting of prescribed values, and the derivative by these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from femadj.base.arrays import FloatArray
from femadj.solvers.structure import CsrPattern

IntArray = npt.NDArray[np.int64]
Diagonal = Literal["kept", "zero"]
"""What stands on the diagonal of constrained rows: the entry of the matrix itself (one where it is not positive), so
that pivots are compared with numbers of the right size; or zero, for mass matrices, so that no mode appears."""


@dataclass(frozen=True, eq=False)
class Condensed:
    """A matrix with its constraints applied.

    Attributes
    ----------
    values : (nnz,)
        On the pattern; constrained rows and columns have a diagonal entry alone.
    diagonal : (n_constrained,)
        The entries on the diagonal of constrained rows.
    taken_rows : Block
        Rows of the matrix that were taken out, complete, ``(n_constrained, n)``.
    taken_columns : Block or None
        Columns that were taken out, complete, ``(n, n_constrained)``; None where they are the rows, transposed.
    """

    values: FloatArray
    diagonal: FloatArray
    taken_rows: Block
    taken_columns: Block | None

    @cached_property
    def rows(self) -> csr_array:
        """Rows of the matrix that were taken out, complete, ``(n_constrained, n)``."""
        return self.taken_rows.matrix()

    @cached_property
    def columns(self) -> csr_array:
        """Columns that were taken out, complete, ``(n, n_constrained)``."""
        return csr_array(self.rows.T) if self.taken_columns is None else self.taken_columns.matrix()

    def by_columns(self, x: FloatArray) -> FloatArray:
        """Products ``(k, n_constrained)`` of the rows of ``x`` ``(k, n)`` with the columns that were taken out."""
        return self.taken_rows.times(x) if self.taken_columns is None else (self.columns.T @ x.T).T

    def absolute(self) -> Condensed:
        """The matrix of the absolute values."""
        rows, columns = self.taken_rows, self.taken_columns
        return Condensed(
            np.abs(self.values),
            np.abs(self.diagonal),
            rows._replace(values=np.abs(rows.values)),
            None if columns is None else columns._replace(values=np.abs(columns.values)),
        )

    def times(
        self, pattern: CsrPattern, constraints: AffineMap, x: FloatArray, *, transpose: bool = False
    ) -> FloatArray:
        """``K x`` (``K^T x``) with the matrix before constraints were applied; ``x`` is ``(..., n)``."""
        fixed = np.flatnonzero(constraints.constrained)
        block = x.reshape(-1, x.shape[-1])
        held, free = block[:, fixed], np.where(constraints.constrained, 0.0, block)
        y = np.zeros(block.shape, np.result_type(self.values, x))
        if held.any():
            y += ((self.rows.T if transpose else self.columns) @ held.T).T
        if free.any():
            y[:, fixed] += self.by_columns(free) if transpose else self.taken_rows.times(free)
            matrix = csr_array((self.values, pattern.indices, pattern.indptr), shape=(pattern.n, pattern.n), copy=False)
            for k, row in enumerate(free):
                y[k] += (matrix.T if transpose else matrix) @ row
                if pattern.triangle == "upper":
                    y[k] += (matrix if transpose else matrix.T) @ row
                    y[k] -= self.values[pattern.indptr[:-1]] * row  # counted by both triangles
        return y.reshape(x.shape)


class AffineMap(Protocol):
    """Constraints ``u = T q + g`` on a fixed pattern; ``q`` and residuals have the size of ``u``."""

    @property
    def constrained(self) -> npt.NDArray[np.bool_]:
        """(n,) marks of the unknowns that are not free."""
        ...

    def condense(self, values: FloatArray, diagonal: Diagonal = "kept") -> Condensed:
        """Apply the constraints to a matrix ``(nnz,)``."""
        ...

    def combined(self, parts: Sequence[tuple[float, Condensed]], diagonal: Diagonal = "kept") -> Condensed:
        """Weighted sum of matrices that the constraints have been applied to; the weight first."""
        ...

    def expand(self, q: FloatArray) -> FloatArray:
        """``T q``."""
        ...

    def restrict(self, r: FloatArray) -> FloatArray:
        """``T^T r``."""
        ...


@dataclass(frozen=True, eq=False)
class Selection:
    """Fixed unknowns: ``T`` selects the free ones.

    Attributes
    ----------
    constrained : (n,) bool
    unknowns : (n_constrained,) int64
        Their numbers, ascending.
    pattern : CsrPattern
    """

    constrained: npt.NDArray[np.bool_]
    unknowns: IntArray
    pattern: CsrPattern
    _diagonal: IntArray
    _taken: IntArray
    _rows: _Places
    _columns: _Places | None

    @classmethod
    def of(cls, pattern: CsrPattern, constrained: npt.NDArray[np.bool_]) -> Selection:
        """Find the entries of constrained rows and columns in a pattern."""
        fixed = constrained.ravel()
        unknowns = np.flatnonzero(fixed)
        lengths = np.diff(pattern.indptr)
        by_row = np.repeat(fixed, lengths)
        by_column = fixed[pattern.indices]
        taken = np.flatnonzero(by_row | by_column)
        row = np.searchsorted(pattern.indptr, taken, side="right") - 1
        column = pattern.indices[taken].astype(np.int64)
        in_row, in_column = by_row[taken], by_column[taken]
        number = np.full(pattern.n, -1, dtype=np.int64)
        number[unknowns] = np.arange(len(unknowns))
        n, m = pattern.n, len(unknowns)
        if pattern.triangle == "upper":
            other = in_column & (row != column)  # the same entry in the other triangle
            rows = _Places.of(
                np.concatenate([number[row[in_row]], number[column[other]]]),
                np.concatenate([column[in_row], row[other]]),
                np.concatenate([taken[in_row], taken[other]]),
                (m, n),
            )
            columns = None
        else:
            rows = _Places.of(number[row[in_row]], column[in_row], taken[in_row], (m, n))
            columns = _Places.of(row[in_column], number[column[in_column]], taken[in_column], (n, m))
        if not np.diff(rows.indptr).all():
            raise ValueError("the pattern has constrained rows without an entry on the diagonal")
        return cls(fixed, unknowns, pattern, pattern.diagonal(unknowns), taken, rows, columns)

    def condense(self, values: FloatArray, diagonal: Diagonal = "kept") -> Condensed:
        """Apply the constraints to a matrix: ``values`` ``(nnz,)`` is changed, and handed back."""
        rows = self._rows.taken_from(values)
        columns = None if self._columns is None else self._columns.taken_from(values)
        kept = _on_diagonal(values[self._diagonal], diagonal)
        values[self._taken] = 0.0
        values[self._diagonal] = kept
        return Condensed(values, kept, rows, columns)

    def combined(self, parts: Sequence[tuple[float, Condensed]], diagonal: Diagonal = "kept") -> Condensed:
        """Weighted sum of matrices that the constraints have been applied to; the weight first."""
        values, rows, columns = _weighted(parts)
        kept = _on_diagonal(rows.matrix()[:, self.unknowns].diagonal(), diagonal)
        values[self._diagonal] = kept
        return Condensed(values, kept, rows, columns)

    def expand(self, q: FloatArray) -> FloatArray:
        """``T q``: zero at constrained unknowns; ``q`` is ``(..., n)``."""
        return np.where(self.constrained, 0.0, q)

    def restrict(self, r: FloatArray) -> FloatArray:
        """``T^T r``: zero at constrained unknowns; ``r`` is ``(..., n)``."""
        return np.where(self.constrained, 0.0, r)


class Block(NamedTuple):
    """A sparse block of a matrix, by rows."""

    values: FloatArray
    indices: npt.NDArray[np.int32]
    indptr: IntArray
    shape: tuple[int, int]

    def matrix(self) -> csr_array:
        """The same as SciPy has it."""
        return csr_array((self.values, self.indices, self.indptr), shape=self.shape)

    def times(self, x: FloatArray) -> FloatArray:
        """Products ``(k, m)`` with the rows of ``x`` ``(k, n)``; every row of the block has an entry."""
        if not len(self.values):
            return np.zeros((len(x), self.shape[0]))
        sums: FloatArray = np.add.reduceat(x[:, self.indices] * self.values, self.indptr[:-1], axis=1)
        return sums


class _Places(NamedTuple):
    """Where the entries of a block stand in the values of a matrix."""

    slots: IntArray
    indices: npt.NDArray[np.int32]
    indptr: IntArray
    shape: tuple[int, int]

    @classmethod
    def of(cls, row: IntArray, column: IntArray, slots: IntArray, shape: tuple[int, int]) -> _Places:
        order = np.lexsort((column, row))
        indptr = np.zeros(shape[0] + 1, dtype=np.int64)
        np.cumsum(np.bincount(row, minlength=shape[0]), out=indptr[1:])
        return cls(slots[order], column[order].astype(np.int32), indptr, shape)

    def taken_from(self, values: FloatArray) -> Block:
        return Block(values[self.slots], self.indices, self.indptr, self.shape)


def _on_diagonal(own: FloatArray, diagonal: Diagonal) -> FloatArray:
    """What stands on the diagonal of constrained rows, given the entries of the matrix itself."""
    return np.where(own > 0, own, 1.0) if diagonal == "kept" else np.zeros(len(own))


def _weighted(parts: Sequence[tuple[float, Condensed]]) -> tuple[FloatArray, Block, Block | None]:
    """Weighted sums of values, rows and columns; equal patterns have blocks of equal structure."""

    def total(arrays: Sequence[FloatArray]) -> FloatArray:
        result = np.zeros(arrays[0].shape)
        for (weight, _), array in zip(parts, arrays, strict=True):
            result += weight * array
        return result

    rows = [matrix.taken_rows for _, matrix in parts]
    columns = [matrix.taken_columns for _, matrix in parts if matrix.taken_columns is not None]
    return (
        total([matrix.values for _, matrix in parts]),
        rows[0]._replace(values=total([block.values for block in rows])),
        columns[0]._replace(values=total([block.values for block in columns])) if columns else None,
    )


@dataclass(frozen=True, eq=False)
class Unconstrained:
    """No constraints: ``T`` is the identity, all unknowns are free.

    Attributes
    ----------
    n : int
        Number of unknowns.
    """

    n: int

    @property
    def constrained(self) -> npt.NDArray[np.bool_]:
        """No unknown is constrained."""
        return np.zeros(self.n, dtype=bool)

    def condense(self, values: FloatArray, diagonal: Diagonal = "kept") -> Condensed:
        """The matrix as it is."""
        nothing = Block(np.zeros(0), np.zeros(0, np.int32), np.zeros(1, np.int64), (0, self.n))
        return Condensed(values, np.zeros(0), nothing, None)

    def combined(self, parts: Sequence[tuple[float, Condensed]], diagonal: Diagonal = "kept") -> Condensed:
        """Weighted sum of matrices; the weight first."""
        values, rows, columns = _weighted(parts)
        return Condensed(values, parts[0][1].diagonal, rows, columns)

    def expand(self, q: FloatArray) -> FloatArray:
        """``q`` itself."""
        return q

    def restrict(self, r: FloatArray) -> FloatArray:
        """``r`` itself."""
        return r
