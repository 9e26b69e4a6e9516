"""Structures and matrices as the solvers see them: checked once, equilibrated, and multiplied with to check solves."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import SingularSystemError, SolverError
from femadj.kernels import sparse
from femadj.solvers.rows import BlockLayout, BlockRows, both_triangles
from femadj.solvers.structure import CsrPattern
from femadj.solvers.unknowns import PLAIN, Unknowns

MatrixKind = Literal["spd", "symmetric", "general"]
"""``"spd"``: symmetric positive definite. ``"symmetric"``: may be indefinite. ``"general"``: neither."""


class Structure:
    """A checked sparsity pattern, shared by all matrices on it.

    Parameters
    ----------
    pattern : CsrPattern
        Structure of a square matrix.
    kind : MatrixKind
        Decides which triangle must be stored: ``"upper"`` for ``"spd"`` and ``"symmetric"``, ``"full"`` for
        ``"general"``.
    unknowns : Unknowns, optional
        What is known of the unknowns.
    threads : int, optional
        For products by rows of blocks; all cores when left out.

    Raises
    ------
    SolverError
        If the arrays do not describe such a structure: wrong triangle, unsorted or repeated columns, missing
        diagonal of an upper triangle, indices out of range.
    SingularSystemError
        If a row or column has no entry at all.
    """

    def __init__(
        self, pattern: CsrPattern, kind: MatrixKind, unknowns: Unknowns = PLAIN, threads: int | None = None
    ) -> None:
        triangle = "full" if kind == "general" else "upper"
        if pattern.triangle != triangle:
            raise SolverError(
                f"a {kind!r} matrix is handed over as its {triangle!r} triangle, got {pattern.triangle!r}"
            )
        indptr, indices = pattern.indptr, pattern.indices
        _check_compressed_rows(indptr, indices, upper=triangle == "upper")
        self.pattern = pattern
        self.kind: MatrixKind = kind
        self.unknowns = unknowns
        self.threads = threads
        self.n = pattern.n
        self.upper = triangle == "upper"
        self.indptr = np.ascontiguousarray(indptr, np.int64)
        self.indices = np.ascontiguousarray(indices, np.int32)

    def rows(self) -> npt.NDArray[np.integer]:
        """Row of every stored entry, (nnz,)."""
        return self.pattern.rows

    @cached_property
    def layout(self) -> BlockLayout:
        """The structure by rows of blocks, both triangles."""
        return BlockLayout(self.pattern, self.unknowns.components, self.threads)

    @cached_property
    def whole(self) -> tuple[Structure, npt.NDArray[np.int64]]:
        """The structure of a symmetric matrix with both triangles, and the slot in the upper one of each entry."""
        indptr, columns, position = both_triangles(self.indptr, self.indices)
        pattern = CsrPattern(indptr, columns, "full")
        return Structure(pattern, "general"), self.indptr[np.minimum(pattern.rows, columns)] + position


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


UNIT_ROUNDOFF = 2.0**-53
"""Relative error of rounding to double precision."""

BALANCED = 64.0
"""Largest ratio of two scales of rows (or columns) up to which a matrix is left as it is."""

_SWEEPS, _EVEN, _LONGEST, _FAR = 60, 1.5, 16.0, 300.0


class Size(NamedTuple):
    """What the size of unknowns and of equations is measured by, for solves with a matrix or its transpose.

    Attributes
    ----------
    unknowns : (n,)
        Scale of every unknown: the norm of ``x`` is the largest ``|x_i| / unknowns_i``.
    equations : (n,)
        ``|A| unknowns``, the scale of every equation.
    """

    unknowns: FloatArray
    equations: FloatArray


class Judgement(NamedTuple):
    """What is known about one solution, see :func:`femadj.kernels.sparse.judge`."""

    backward_error: float
    disturbance: float
    load: float
    action: float


class Matrix:
    """Values on a structure, with its scales and the products that checks need. The values are referenced, not copied.

    The scales are powers of two, so that scaling rounds nothing. They make the sums of absolute values of all rows and
    columns nearly one (Ruiz, A scaling algorithm to equilibrate both rows and columns norms in matrices, 2001, with
    sums for norms; one vector for both sides of symmetric matrices). Matrices that are even already keep their scale.
    Positive definite ones need it for measuring alone and have the square roots of their diagonal.

    Attributes
    ----------
    values : (nnz,) float64
    rounding : float
        Relative error of the values.
    modes : callable or None
        ``modes()``: fields ``(n, n_modes)``, zero at supports, that the matrix maps to zero away from them (rigid
        motions, constants), which multigrid methods interpolate exactly. None where they are not known.
    rows, columns : (n,) float64
        Factors of the equilibrated matrix ``rows_i a_ij columns_j``.
    scaled : bool
        Whether solvers are handed the equilibrated matrix; else the values as they are.
    sums : (n,), (n,)
        Sums of absolute values of rows and columns.
    """

    def __init__(
        self,
        structure: Structure,
        values: FloatArray,
        rounding: float,
        modes: Callable[[], FloatArray | None] | None = None,
    ) -> None:
        self.structure = structure
        self.values = values
        self.rounding = rounding
        self.modes = modes
        ones = np.ones(structure.n)
        by_row = self.absolute(ones)
        self.sums = by_row, by_row if structure.upper else self.absolute(ones, transposed=True)
        self.rows = self.columns = ones
        self.scaled = False
        if structure.kind == "spd":
            diagonal = values[structure.indptr[:-1]]
            self.rows = self.columns = _power_of_two(-0.5 * np.log(np.where(diagonal > 0.0, diagonal, 1.0)))
        elif all(s.min() > 0.0 and s.max() < np.inf for s in self.sums):
            self.rows, self.columns = self._equilibrating()
            self.scaled = any(s.max() > BALANCED * s.min() for s in (self.rows, self.columns))
        self._sizes: dict[bool, Size] = {}

    @cached_property
    def blocks(self) -> BlockRows:
        """The matrix by rows of blocks, both triangles; kept until :meth:`forget`."""
        return self.structure.layout.filled(self.values)

    def forget(self) -> None:
        """Give up the blocks; they are filled again where they are needed."""
        self.__dict__.pop("blocks", None)

    def _equilibrating(self) -> tuple[FloatArray, FloatArray]:
        """Scales of rows and columns.

        Where sweeps go on in one direction, as they do for saddle points with a small first block, they take longer
        and longer steps.
        """
        n, upper = self.structure.n, self.structure.upper
        sums, logs, last, length = self.sums, np.zeros((2, n)), np.zeros((2, n)), 1.0
        for _ in range(_SWEEPS):
            if all(s.max() <= _EVEN * s.min() for s in sums) or np.abs(logs).max() > _FAR:
                break
            step = -0.5 * np.log(np.array(sums))
            ahead = (step * last).sum() > 0.9 * np.sqrt((step**2).sum() * (last**2).sum()) > 0.0
            length, last = min(2.0 * length, _LONGEST) if ahead else 1.0, step
            logs += length * step
            rows, columns = np.exp(logs)
            by_row = rows * self.absolute(columns)
            sums = by_row, by_row if upper else columns * self.absolute(rows, transposed=True)
        rows = _power_of_two(logs[0])
        return rows, rows if upper else _power_of_two(logs[1])

    def equilibrated(self, *, always: bool = False) -> FloatArray:
        """Entries as solvers are handed them, (nnz,): the values themselves where they are even, or a scaled copy."""
        if not self.scaled and not always:
            return self.values
        values = np.empty_like(self.values)
        sparse.scale(self.structure.indptr, self.structure.indices, self.values, self.rows, self.columns, values)
        return values

    def absolute(self, x: FloatArray, *, transposed: bool = False) -> FloatArray:
        """Product ``|A| x`` or ``|A|^T x`` for ``x`` (n,) without negative entries."""
        return self.residual(np.zeros_like(x), x, transposed=transposed)[1]

    def changed(self) -> bool:
        """Whether callers have written to the values since."""
        return not np.array_equal(self.absolute(np.ones(self.structure.n)), self.sums[0])

    def residual(self, b: FloatArray, x: FloatArray, *, transposed: bool, precise: bool = False) -> FloatArray:
        """``b - A x`` and ``|A| |x|`` (of ``A^T``) for vectors of shape (n,): a (2, n) array.

        ``precise``: in twice the working precision, and what the first row lacks of it in the second.
        """
        structure = self.structure
        into = np.zeros((2, structure.n))
        into[0] = b
        product = sparse.subtract_twice_as_precise if precise else sparse.subtract
        upper = structure.upper
        product(structure.indptr, structure.indices, self.values, upper, transposed and not upper, x, into)
        return into

    def size(self, *, transposed: bool) -> Size:
        """Scales of unknowns and equations."""
        if transposed not in self._sizes:
            unknowns = self.rows if transposed else self.columns
            self._sizes[transposed] = Size(unknowns, self.absolute(unknowns, transposed=transposed))
        return self._sizes[transposed]

    def judged(self, b: FloatArray, x: FloatArray, *, transposed: bool) -> Judgement:
        """Backward error of a solution, componentwise; NaN if it is not finite."""
        size = self.size(transposed=transposed)
        norm = float((np.abs(x) / size.unknowns).max())
        if not np.isfinite(norm):
            return Judgement(*[float("nan")] * 4)
        residual = self.residual(b, x, transposed=transposed)
        threshold = 1000 * self.structure.n * 2 * UNIT_ROUNDOFF
        return Judgement(*sparse.judge(residual, b, size.equations, norm, threshold, self.rounding))

    def disturbance(self, b: FloatArray, x: FloatArray, *, transposed: bool) -> FloatArray:
        """``|b - A x| + rounding (|A| |x| + |b|)``, (n,), relative to the norm of ``x``."""
        off, product = self.residual(b, x, transposed=transposed)
        norm = (np.abs(x) / self.size(transposed=transposed).unknowns).max()
        total: FloatArray = np.abs(off) + self.rounding * (product + np.abs(b))
        return total / norm if norm > 0.0 else np.zeros_like(total)

    def relative_size(self, image: FloatArray, v: FloatArray) -> float:
        """``|A v| / (|A| |v|)`` for ``image = A v``, of the equilibrated matrix in Euclidean norms.

        For the norm of A stands that of Frobenius over the square root of n, which is not larger.
        """
        structure, entries = self.structure, self.equilibrated(always=True)
        squares = float((entries**2).sum())
        if structure.upper:
            squares = 2 * squares - float((entries[structure.indptr[:-1]] ** 2).sum())
        scaled, unknowns = self.rows * image, v / self.columns
        return float(np.sqrt((scaled**2).sum() / (unknowns**2).sum() / (squares / structure.n)))


def _power_of_two(logarithm: FloatArray) -> FloatArray:
    """The nearest power of two for a natural logarithm."""
    return np.ldexp(1.0, np.rint(logarithm / np.log(2.0)).astype(np.int64))
