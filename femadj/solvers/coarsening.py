"""Hierarchies of smoothed aggregation.

Vanek, Mandel and Brezina, Algebraic multigrid by smoothed aggregation for second and fourth order elliptic problems
(1996).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg as sla
import scipy.sparse as sp

from femadj.base.arrays import FloatArray
from femadj.base.blas import one_thread
from femadj.errors import ApproximationError
from femadj.kernels import coarsening, multigrid
from femadj.solvers.team import Team

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
SingleArray = npt.NDArray[np.float32]

STRONG = 0.05
"""Size of a coupling, relative to the diagonal, from which on nodes belong together."""

SMOOTHING = 1.6
"""Weight of the step that smooths the interpolation, times the largest eigenvalue."""

COARSEST = 200
"""Unknowns below which a level is solved by a dense inverse."""

LARGEST_DENSE = 2000
"""Unknowns up to which a level that does not coarsen is solved so."""

COMPLEXITY = 3.0
"""Most entries of all levels together, relative to the matrix."""

_LEAST_PIVOT, _LEAST_EIGENVALUE, _DEPENDENT = 1e-5, 1e-7, 1e-6
_SLOW, _MANY = 0.7, 12
_LANCZOS, _MARGIN = 10, 1.1
_FEW = 500_000  # numbers of a level below which a thread costs more than it brings


class Blocks(NamedTuple):
    """A matrix in float32 by rows of blocks.

    Attributes
    ----------
    start : (n + 1,) int64
    columns : (nnz,) int32
    values : (nnz * rows * columns,) float32
        Blocks one after another.
    shape : (int, int)
        Rows and columns of a block.
    cuts : (shares + 1,) int64
        Rows of blocks by share.
    """

    start: Int64Array
    columns: Int32Array
    values: SingleArray
    shape: tuple[int, int]
    cuts: Int64Array

    @classmethod
    def of(
        cls, start: Int64Array, columns: Int32Array, values: SingleArray, shape: tuple[int, int], team: Team
    ) -> Blocks:
        """Divided among a team, or not at all where that is not worth while."""
        return cls(start, columns, values, shape, team.shares(start, -(-_FEW // (shape[0] * shape[1]))))

    @property
    def n(self) -> int:
        """Rows of blocks."""
        return len(self.start) - 1

    @property
    def matrix(self) -> tuple[Int64Array, Int32Array, SingleArray]:
        """What kernels are handed."""
        return self[:3]

    @property
    def nbytes(self) -> int:
        """Memory."""
        return sum(array.nbytes for array in self.matrix)


class Level(NamedTuple):
    """A matrix, how it is smoothed, and the way to the next one.

    Attributes
    ----------
    matrix : Blocks
    inverse : (n * b * b,) float32
        Inverses of the diagonal blocks.
    largest : float
        Bound of the largest eigenvalue of ``D^-1 A``.
    down, up : Blocks
        ``-P^T`` and ``-P``.
    """

    matrix: Blocks
    inverse: SingleArray
    largest: float
    down: Blocks
    up: Blocks

    @property
    def nbytes(self) -> int:
        """Memory."""
        return self.matrix.nbytes + self.inverse.nbytes + self.down.nbytes + self.up.nbytes


class Hierarchy(NamedTuple):
    """Levels from the finest on, and the negative dense inverse of the coarsest matrix as blocks."""

    levels: tuple[Level, ...]
    coarsest: Blocks

    @property
    def matrices(self) -> tuple[Blocks, ...]:
        """Of all levels, of the last its inverse."""
        return (*(level.matrix for level in self.levels), self.coarsest)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Unknowns of each level."""
        return tuple(matrix.n * matrix.shape[0] for matrix in self.matrices)

    @property
    def complexity(self) -> float:
        """Entries of all levels, relative to the first."""
        entries = [len(matrix.values) for matrix in self.matrices]
        return sum(entries) / entries[0]

    @property
    def nbytes(self) -> int:
        """Memory."""
        return sum(level.nbytes for level in self.levels) + self.coarsest.nbytes


def coarsened(matrix: Blocks, modes: FloatArray, team: Team) -> Hierarchy:
    """Build the levels below a matrix whose diagonal entries are about one.

    Parameters
    ----------
    matrix : Blocks
    modes : (n, m)
        What interpolation reproduces.
    team : Team

    Raises
    ------
    ApproximationError
        Where it does not coarsen, or its levels become too dense.
    """
    levels: list[Level] = []
    entries = full = len(matrix.values)
    while matrix.n * matrix.shape[0] > COARSEST:
        if len(levels) == _MANY:
            raise ApproximationError(f"after {_MANY} levels there are still {matrix.n * matrix.shape[0]} unknowns")
        aggregate, count = _aggregates(matrix, team)
        if count * modes.shape[1] > _SLOW * matrix.n * matrix.shape[0] or not count:
            if matrix.n * matrix.shape[0] > LARGEST_DENSE:
                raise ApproximationError(
                    f"the matrix does not coarsen: {count} aggregates of {modes.shape[1]} modes for "
                    f"{matrix.n * matrix.shape[0]} unknowns, few of which are coupled strongly"
                )
            break
        inverse = _inverses(matrix, team)
        largest = _MARGIN * largest_eigenvalue(matrix, inverse, team)
        up, modes = _interpolation(matrix, inverse, SMOOTHING / largest, aggregate, count, modes, team)
        down = _transposed(up, count, team)
        coarse = _product(down, _product(matrix, up, count, team), count, team)
        levels.append(Level(matrix, inverse, largest, down, up))
        entries += len(coarse.values)
        if entries > COMPLEXITY * full:
            raise ApproximationError(f"the levels of its hierarchy have more than {COMPLEXITY:g} times its entries")
        matrix = coarse
    return Hierarchy(tuple(levels), _dense_inverse(matrix, team))


def _inverses(matrix: Blocks, team: Team) -> SingleArray:
    """Of the diagonal blocks."""
    b = matrix.shape[0]
    into = np.empty(matrix.n * b * b, np.float32)
    team(coarsening.inverted, matrix.cuts, b, *matrix.matrix, _LEAST_PIVOT, into)
    return into


def _aggregates(matrix: Blocks, team: Team) -> tuple[Int32Array, int]:
    """Aggregate of every node, -1 for none (nodes without strong neighbours), and how many there are."""
    coupling = np.empty(len(matrix.columns))
    team(coarsening.norms, matrix.cuts, matrix.shape[0], *matrix.matrix, coupling)
    coarsening.weaken(matrix.start, matrix.columns, coupling, _diagonal(matrix, coupling), STRONG)
    aggregate = np.empty(matrix.n, np.int32)
    return aggregate, coarsening.aggregate(matrix.start, matrix.columns, coupling, aggregate)


def _diagonal(matrix: Blocks, per_block: FloatArray) -> FloatArray:
    """The entries that belong to diagonal blocks, zero where there is none."""
    rows = np.repeat(np.arange(matrix.n, dtype=np.int32), np.diff(matrix.start))
    own = np.flatnonzero(rows == matrix.columns)
    diagonal = np.zeros(matrix.n)
    diagonal[matrix.columns[own]] = per_block[own]
    return diagonal


def largest_eigenvalue(matrix: Blocks, inverse: SingleArray, team: Team) -> float:
    """Of ``D^-1 A``, from below, by a few steps of Lanczos's method from a fixed vector."""
    b = matrix.shape[0]
    multiply, divide = multigrid.subtract(b, b, 1), multigrid.divide(b, b, 1)
    size = matrix.n * b
    residual = np.random.default_rng(0).uniform(-1.0, 1.0, size).astype(np.float32)
    last, zero, z = np.zeros(size, np.float32), np.zeros(size, np.float32), np.empty(size, np.float32)
    alpha: list[float] = []
    beta: list[float] = []
    for _ in range(_LANCZOS):
        team(divide, matrix.cuts, inverse, np.float32(1.0), residual, z)
        norm = float(np.sqrt(max(_inner(residual, z), 0.0)))
        if norm <= 1e-6 * sum(beta[:1]):
            break
        beta.append(norm)
        residual /= np.float32(norm)
        z /= np.float32(norm)
        image = np.empty(size, np.float32)
        team(multiply, matrix.cuts, *matrix.matrix, z, zero, image)
        np.negative(image, out=image)
        alpha.append(_inner(image, z))
        image -= np.float32(alpha[-1]) * residual
        image -= np.float32(norm if len(alpha) > 1 else 0.0) * last
        last, residual = residual, image
    if not alpha or not np.isfinite(alpha).all():
        raise ApproximationError("the largest eigenvalue of a level cannot be estimated")
    off = beta[1 : len(alpha)]
    return float(np.linalg.eigvalsh(np.diag(alpha) + np.diag(off, 1) + np.diag(off, -1))[-1])


def _inner(x: SingleArray, y: SingleArray) -> float:
    """Summed in pairs, which takes little from the precision of the numbers."""
    return float((x * y).sum())


def _interpolation(
    matrix: Blocks,
    inverse: SingleArray,
    weight: float,
    aggregate: Int32Array,
    count: int,
    modes: FloatArray,
    team: Team,
) -> tuple[Blocks, FloatArray]:
    """``-P``, and the modes on the aggregates."""
    b, m = matrix.shape[0], modes.shape[1]
    inside = aggregate >= 0
    nodes = np.argsort(aggregate, kind="stable")[matrix.n - np.count_nonzero(inside) :].astype(np.int32)
    members = np.concatenate([[0], np.cumsum(np.bincount(aggregate[inside], minlength=count))])
    tentative, coarse = np.zeros(matrix.n * b * m, np.float32), np.empty((count * m, m))
    team(coarsening.fitted, team.shares(members), b, m, members, nodes, modes, _DEPENDENT, tentative, coarse)
    start = np.concatenate([[0], np.cumsum(inside)])
    values = tentative.reshape(matrix.n, b * m)[inside].ravel()
    up = _product(matrix, Blocks.of(start, aggregate[inside], values, (b, m), team), count, team)
    where = (up.start, up.columns, up.values)
    team(coarsening.smoothed, matrix.cuts, b, m, *where, inverse, weight, aggregate, tentative)
    return up, coarse


def _product(a: Blocks, b: Blocks, n_columns: int, team: Team) -> Blocks:
    """``-A B`` for ``B`` with so many columns of blocks."""
    lengths = np.empty(a.n, np.int64)
    team(coarsening.product_lengths, a.cuts, a.start, a.columns, b.start, b.columns, n_columns, lengths)
    start = np.concatenate([[0], np.cumsum(lengths)])
    shape = a.shape[0], b.shape[1]
    columns, values = np.empty(start[-1], np.int32), np.empty(start[-1] * shape[0] * shape[1], np.float32)
    kernel = coarsening.subtract_product(*a.shape, b.shape[1])
    team(kernel, a.cuts, *a.matrix, *b.matrix, n_columns, start, columns, values)
    return Blocks.of(start, columns, values, shape, team)


def _transposed(a: Blocks, n_columns: int, team: Team) -> Blocks:
    start = np.zeros(n_columns + 1, np.int64)
    columns, values = np.empty_like(a.columns), np.empty_like(a.values)
    coarsening.transposed(*a.shape, *a.matrix, start, columns, values)
    return Blocks.of(start, columns, values, a.shape[::-1], team)


def take_buffers() -> None:
    """Have SciPy's BLAS take its memory now: an OpenBLAS that finds none later waits for it without end."""
    with one_thread():
        _, vectors = sla.eigh(np.eye(COARSEST))
        sla.blas.dgemm(1.0, vectors, vectors, trans_b=True)


def _dense_inverse(matrix: Blocks, team: Team) -> Blocks:
    """The negative inverse, zero along vectors that the matrix maps to nearly nothing (modes that depend on others)."""
    b, n = matrix.shape[0], matrix.n
    whole = sp.bsr_array((matrix.values.reshape(-1, b, b), matrix.columns, matrix.start), shape=(n * b, n * b))
    dense = whole.toarray().astype(float)
    if not np.isfinite(dense).all():
        raise ApproximationError("the matrix of the coarsest level is not finite")
    with one_thread():
        values, vectors = sla.eigh(0.5 * (dense + dense.T))
        if values[-1] <= 0.0:
            raise ApproximationError("the matrix of the coarsest level is not positive definite")
        roots = vectors[:, values > _LEAST_EIGENVALUE * values[-1]]
        if roots.shape[1] < np.count_nonzero(dense.diagonal()):  # dependent modes leave rows of zeros
            raise ApproximationError("the matrix of the coarsest level is nearly singular")
        roots /= np.sqrt(values[len(values) - roots.shape[1] :])
        inverse = sla.blas.dgemm(-1.0, roots, roots, trans_b=True)
    blocks = np.ascontiguousarray(inverse.reshape(n, b, n, b).swapaxes(1, 2), np.float32).ravel()
    start, columns = n * np.arange(n + 1), np.tile(np.arange(n, dtype=np.int32), n)
    return Blocks.of(start, columns, blocks, (b, b), team)
