"""Smoothed aggregation: an algebraic multigrid cycle in single precision as an approximate inverse.

The cycle is symmetric (the same Chebyshev steps before and after the correction from the level below), and every row
adds up its entries in one order, so that its results do not depend on the number of threads or of columns.
"""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import ApproximationError, SolverMemoryError
from femadj.kernels import coarsening, multigrid
from femadj.solvers.coarsening import Blocks, Hierarchy, Level, SingleArray, coarsened, take_buffers
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.rows import BlockRows
from femadj.solvers.team import Team

STEPS = 2
"""Chebyshev steps before and after each correction."""

RANGE = 10.0
"""Ratio of the eigenvalues of ``D^-1 A`` that they are made for."""

WIDTHS = (1, 8, 16)
"""Numbers of columns that one pass over a matrix may take."""


class SmoothedAggregation:
    """Makes multigrid cycles for symmetric positive definite matrices on a structure; nothing is kept between them."""

    def __init__(self, structure: Structure) -> None:
        _ = structure.layout
        take_buffers()

    def make(self, matrix: Matrix) -> AggregationCycle:
        """The cycle for a matrix.

        Raises
        ------
        ApproximationError
            Where the matrix is not symmetric, a diagonal entry is not positive, modes do not fit, or levels do not
            become small enough.
        SolverMemoryError
            Where it does not fit.
        """
        start = perf_counter()
        structure = matrix.structure
        if structure.kind != "spd":
            raise ApproximationError(
                f"smoothed aggregation takes positive definite matrices, not {structure.kind!r} ones"
            )
        diagonal = matrix.values[structure.indptr[:-1]]
        if not (diagonal > 0.0).all():
            k = int(np.argmax(~(diagonal > 0.0)))
            name = structure.unknowns.name_of(k)
            raise ApproximationError(f"the diagonal entry of {name} is {diagonal[k]:.3g}, which is not positive")
        scale = np.ldexp(1.0, -np.rint(0.5 * np.log2(diagonal)).astype(np.int64))
        try:
            rows = matrix.blocks
            modes = _modes(matrix, rows.blocks.shape[1]) / (scale / scale.max())[:, None]
            hierarchy = coarsened(_finest(rows, scale), modes, rows.team)
            without = np.empty(len(scale), np.uint8)
            rows.team(coarsening.alone, rows.cuts, rows.blocks.shape[1], rows.start, rows.columns, rows.blocks, without)
        except MemoryError as error:
            raise SolverMemoryError(
                f"the levels of smoothed aggregation of {structure.n} unknowns do not fit into memory: close or drop "
                "factors and solutions that are no longer used, or use a coarser mesh"
            ) from error
        alone = np.flatnonzero(without)
        return AggregationCycle(hierarchy, scale, alone, diagonal[alone], rows.team, perf_counter() - start)

    def close(self) -> None:
        """Nothing is kept."""


class AggregationCycle:
    """A multigrid cycle for one matrix; an approximate inverse that is symmetric and positive definite.

    Parameters
    ----------
    hierarchy : Hierarchy
        Of the matrix with the factors ``scale`` of its rows and columns.
    scale : (n,)
        Powers of two.
    alone : (m,) int64
        Unknowns with a diagonal entry alone (supports), for which the inverse is exact.
    entries : (m,)
        These entries.
    team : Team
    seconds : float
        Time of the set-up.
    """

    name = "smoothed aggregation"

    def __init__(
        self,
        hierarchy: Hierarchy,
        scale: FloatArray,
        alone: npt.NDArray[np.int64],
        entries: FloatArray,
        team: Team,
        seconds: float,
    ) -> None:
        self.hierarchy: Hierarchy | None = hierarchy
        self.sizes, self.complexity = hierarchy.sizes, hierarchy.complexity
        self._scale, self._alone, self._entries, self._team = scale, alone, entries, team
        self._cycled = scale.copy()
        self._cycled[alone] = 0.0
        self.seconds = seconds
        self._spaces: dict[int, list[list[_Space]]] = {width: [] for width in WIDTHS}

    @property
    def nbytes(self) -> int:
        """Memory of the levels and of vectors that are kept for the next call."""
        vectors = sum(space.nbytes for kept in self._spaces.values() for spaces in kept for space in spaces)
        own = self._scale.nbytes + self._cycled.nbytes + self._alone.nbytes + self._entries.nbytes
        return own + vectors + (0 if self.hierarchy is None else self.hierarchy.nbytes)

    def __repr__(self) -> str:
        sizes = " > ".join(map(str, self.sizes))
        return f"<{self.name}: unknowns {sizes}, complexity {self.complexity:.2f}, set up in {self.seconds:.3g} s>"

    def apply(self, r: FloatArray, *, transposed: bool = False) -> FloatArray:
        """Approximate ``A^-1 r`` for ``r`` (n, k), one vector a column.

        Raises
        ------
        ApproximationError
            After :meth:`close`.
        """
        hierarchy = self.hierarchy
        if hierarchy is None:
            raise ApproximationError("this cycle has been closed")
        k = r.shape[1]
        size = np.zeros(k)
        multigrid.largest(r, self._cycled, size)
        factor = np.ldexp(1.0, -np.frexp(size)[1])  # powers of two: scaling rounds nothing
        z = np.empty_like(r)
        cuts = hierarchy.matrices[0].cuts * hierarchy.matrices[0].shape[0]
        first = 0
        while first < k:
            width = next((w for w in WIDTHS if w >= k - first), WIDTHS[-1])
            try:
                spaces = self._spaces[width].pop()
            except IndexError:  # the first call, or another thread has them
                spaces = _spaces(hierarchy, width)
            self._team(multigrid.spread, cuts, r, self._cycled, factor, first, width, spaces[0].b)
            x = self._cycle(hierarchy, spaces, width, 0)
            self._team(multigrid.gather, cuts, x, self._scale, factor, first, width, z)
            self._spaces[width].append(spaces)
            first += width
        z[self._alone] = r[self._alone] / self._entries[:, None]
        return z

    def _cycle(self, hierarchy: Hierarchy, spaces: list[_Space], width: int, number: int) -> SingleArray:
        """Approximate solution on a level for the right-hand side in its space."""
        space = spaces[number]
        if number == len(hierarchy.levels):
            coarsest = hierarchy.coarsest
            space.x[:] = 0.0
            self._team(
                multigrid.subtract(*coarsest.shape, width), coarsest.cuts, *coarsest.matrix, space.b, space.x, space.x
            )
            return space.x
        level = hierarchy.levels[number]
        matrix, below = level.matrix, spaces[number + 1]
        subtract = multigrid.subtract(*matrix.shape, width)
        steps = _chebyshev(level.largest)
        x, other = space.x, space.other
        divide = multigrid.divide(*matrix.shape, width)
        self._team(divide, matrix.cuts, level.inverse, steps[0][1], space.b, x)
        x, other = self._smooth(level, space, width, steps[1:], x, other, x)
        self._team(subtract, matrix.cuts, *matrix.matrix, x, space.b, space.step)
        below.b[:] = 0.0
        down, up = level.down, level.up
        self._team(multigrid.subtract(*down.shape, width), down.cuts, *down.matrix, space.step, below.b, below.b)
        correction = self._cycle(hierarchy, spaces, width, number + 1)
        self._team(multigrid.subtract(*up.shape, width), up.cuts, *up.matrix, correction, x, x)
        return self._smooth(level, space, width, steps, x, other, x)[0]

    def _smooth(
        self,
        level: Level,
        space: _Space,
        width: int,
        steps: list[tuple[np.float32, np.float32]],
        x: SingleArray,
        other: SingleArray,
        step: SingleArray,
    ) -> tuple[SingleArray, SingleArray]:
        """Chebyshev steps; the new ``x``, and an array that is free."""
        matrix = level.matrix
        kernel = multigrid.smooth(*matrix.shape, width)
        for alpha, beta in steps:
            vectors = (x, space.b, step, space.step, other)
            self._team(kernel, matrix.cuts, *matrix.matrix, level.inverse, alpha, beta, *vectors)
            x, other, step = other, x, space.step
        return x, other

    def close(self) -> None:
        """Free the levels."""
        self.hierarchy = None
        for kept in self._spaces.values():
            kept.clear()

    def give_way(self) -> None:
        """Free the levels; the next ones have memory of their own."""
        self.close()


class _Space(NamedTuple):
    """Vectors of a level: right-hand side, solution and the next one, last step; flat, some columns each."""

    b: SingleArray
    x: SingleArray
    other: SingleArray
    step: SingleArray

    @property
    def nbytes(self) -> int:
        """Memory."""
        return sum(array.nbytes for array in self)


def _spaces(hierarchy: Hierarchy, width: int) -> list[_Space]:
    """Vectors of all levels."""
    return [_Space(*(np.zeros(size * width, np.float32) for _ in range(4))) for size in hierarchy.sizes]


def _chebyshev(largest: float) -> list[tuple[np.float32, np.float32]]:
    """Factors of the last step and of ``D^-1 r`` in each step.

    Saad, Iterative methods for sparse linear systems (2003), algorithm 12.1.
    """
    middle, half = 0.5 * (largest + largest / RANGE), 0.5 * (largest - largest / RANGE)
    ratio = half / middle
    steps = [(0.0, 1.0 / middle)]
    for _ in range(STEPS - 1):
        following = 1.0 / (2.0 * middle / half - ratio)
        steps.append((following * ratio, 2.0 * following / half))
        ratio = following
    return [(np.float32(a), np.float32(b)) for a, b in steps]


def _modes(matrix: Matrix, components: int) -> FloatArray:
    """What interpolation reproduces, (n, m): the modes of the matrix, or constants."""
    n = matrix.structure.n
    modes = None if matrix.modes is None else matrix.modes()
    if modes is None:
        return np.tile(np.eye(components), (n // components, 1))
    if modes.ndim != 2 or len(modes) != n or not modes.shape[1]:
        raise ApproximationError(f"modes of {n} unknowns are an array ({n}, m), not one of shape {modes.shape}")
    if not np.isfinite(modes).all():
        raise ApproximationError("modes must be finite")
    return modes


def _finest(rows: BlockRows, scale: FloatArray) -> Blocks:
    """The matrix with diagonal entries of about one, in float32."""
    b = rows.blocks.shape[1]
    values = np.empty(rows.blocks.size, np.float32)
    rows.team(coarsening.scaled, rows.cuts, b, rows.start, rows.columns, rows.blocks, scale, values)
    return Blocks.of(rows.start, rows.columns, values, (b, b), rows.team)
