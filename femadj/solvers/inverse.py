"""The live inverse of a structure: what preconditions, for which matrix it was made, and when another is due."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import NamedTuple

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import ApproximationError, SolverError
from femadj.solvers.base import Solver
from femadj.solvers.exact import Exact
from femadj.solvers.factor import Factor
from femadj.solvers.krylov import Iterations, conjugate_gradients, gmres
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.preconditioner import Approximation, Preconditioner
from femadj.solvers.recent import Recent, projected
from femadj.solvers.rows import BlockRows
from femadj.solvers.statistics import Tolerances

TOLERANCE = 2e-13
"""Relative error of iterated solves of positive definite matrices, in the energy norm."""

RESIDUAL = 1e-14
"""Relative residual of iterated solves of other matrices, in the scale of their rows."""

REFINEMENT = 1e-11
"""Backward error above which an iterated solve is refined."""

SOUND = 1e8
"""Condition number above which only a factor in double precision is trusted."""

_STALE = 60  # iterations with a preconditioner of another design
_ROUGH = 1e-2  # accuracy of the solve that tells the condition, in the same norms


class Rung(NamedTuple):
    """One way to precondition.

    Attributes
    ----------
    of : callable
        ``of(structure, threads)``: the approximation on a structure.
    most : int
        Iterations with a fresh preconditioner above which the next way is taken.
    """

    of: Callable[[Structure, int | None], Approximation]
    most: int


class LiveInverse:
    """What is live on a structure; shared by the analysis and the factors of all its designs."""

    def __init__(
        self,
        structure: Structure,
        threads: int | None,
        exact: Solver,
        rungs: Sequence[Rung],
        *,
        lag: bool,
        tolerance: float,
        limits: Tolerances,
    ) -> None:
        self.lock = threading.RLock()
        self.lag = lag
        self.made = 0
        self.tolerance = tolerance
        self.tolerances = limits._replace(
            refinement=REFINEMENT * tolerance / TOLERANCE,
            residual=max(limits.residual, 1e4 * tolerance),
        )
        self._structure, self._threads = structure, threads
        self._exact = exact
        self._rungs = list(rungs)
        self._approximation: Approximation | None = None
        self._exactly: Exact | None = None
        self._current: Preconditioner | None = None
        self._factor: Factor | None = None
        self._of: Callable[[], Matrix | None] = lambda: None
        self._age, self._debt, self._least = 0, 0.0, 0
        self._recent = Recent()
        self._soft: FloatArray | None = None
        self._filled: Callable[[], Matrix | None] = lambda: None
        self._analyse()

    # ------------------------------------------------------------------ what is live
    @property
    def analyses(self) -> int:
        """Structures analysed."""
        return max(1, 0 if self._exactly is None else self._exactly.symbolic.analyses)

    def begin(self, matrix: Matrix) -> None:
        """A new design: its matrix gets a fresh preconditioner where that is due."""
        with self.lock:
            self._recent.begin()
            due = self._current is None or not self.lag or self._debt > self._current.seconds
            if due:
                self.renew(matrix)
                return
            self._age += 1
            try:
                self._require_sound(matrix)
            except ApproximationError:
                self.renew(matrix)

    def renew(self, matrix: Matrix, *, exactly: bool = False) -> None:
        """Replace what is live by one of this matrix, with a factor in double precision where asked for."""
        if self._current is not None and not exactly:
            self._current.give_way()
        self.drop()
        if exactly:
            self._next_rung(len(self._rungs))
        while True:
            try:
                self._make(matrix)
                if self._factor is None:
                    self._require_sound(matrix)
                return
            except ApproximationError:
                self.drop()
                self._next_rung(1)

    def _make(self, matrix: Matrix) -> None:
        approximation = self._analyse()
        if approximation is not None:
            self._current = approximation.make(matrix)
        else:
            exact = self.exactly.make(matrix)
            self._current, self._factor = exact, exact.factor
        self._of = weakref.ref(matrix)
        self.made += 1
        self._age, self._debt, self._least = 0, 0.0, 0

    def _analyse(self) -> Approximation | None:
        """The structure as the way that is tried next wants it; None where that is a factor in double precision."""
        if not self._rungs:
            _ = self.exactly
            return None
        if self._approximation is None:
            self._approximation = self._rungs[0].of(self._structure, self._threads)
        return self._approximation

    @property
    def exactly(self) -> Exact:
        """The structure as analysed for factors in double precision."""
        if self._exactly is None:
            self._exactly = Exact(self._exact._analyse(self._structure, self._threads))
        return self._exactly

    def _next_rung(self, steps: int) -> None:
        if steps and self._approximation is not None:
            self._approximation.close()
            self._approximation = None
        del self._rungs[:steps]

    def drop(self) -> None:
        """Free what is live."""
        if self._current is not None:
            self._current.close()
        self._current, self._factor, self._of = None, None, lambda: None

    def exact_of(self, matrix: Matrix) -> Factor | None:
        """The factor in double precision of this very matrix, where that is what is live."""
        return self._factor if self._of() is matrix else None

    def told(self, matrix: Matrix) -> tuple[str | None, int, int]:
        """Name of the preconditioner, its age and its memory for statistics."""
        if self._current is None:
            return None, 0, 0
        return self._current.name, 0 if self._of() is matrix else max(self._age, 1), self._current.nbytes

    # ------------------------------------------------------------------ solves
    def solve(self, matrix: Matrix, b: FloatArray, *, transposed: bool) -> Iterations:
        """Solve for the columns of ``b`` (n, k) by iterations.

        Raises
        ------
        ApproximationError
            Where not even a fresh preconditioner of the last kind serves.
        """
        while True:
            if self._current is None:
                self.renew(matrix)
            fresh = self._of() is matrix
            start = perf_counter()
            try:
                found = self._iterate(matrix, b, transposed)
            except ApproximationError:
                if fresh and not self._rungs:
                    raise
                if fresh:
                    self._next_rung(1)
                self.renew(matrix)
                continue
            self._book(int(found.counts.max(initial=0)), perf_counter() - start, fresh)
            if not transposed:
                self._recent.add(found.x)
            return found

    def approximate(self, matrix: Matrix, b: FloatArray, *, transposed: bool) -> FloatArray:
        """``M^-1 b`` for the rows of ``b`` (k, n)."""
        if self._current is None:
            self.renew(matrix)
        assert self._current is not None
        return np.ascontiguousarray(self._current.apply(np.ascontiguousarray(b.T), transposed=transposed).T)

    def _book(self, iterations: int, seconds: float, fresh: bool) -> None:
        """Book the time of iterations beyond those with a fresh preconditioner."""
        if fresh:
            self._least = max(self._least, iterations)
        elif iterations > self._least:
            self._debt += seconds * (iterations - self._least) / iterations

    def _iterate(
        self,
        matrix: Matrix,
        b: FloatArray,
        transposed: bool,
        tolerance: float | None = None,
        guess: FloatArray | None = None,
    ) -> Iterations:
        structure, current = self._structure, self._current
        if current is None:
            raise SolverError("there is no preconditioner")
        fresh, most = self._of() is matrix, _STALE
        if fresh:
            most = self._rungs[0].most if self._rungs else 2 * _STALE
        elif self._least:
            most = max(most, 2 * self._least)
        blocks = self._blocks(matrix)
        if structure.kind == "spd":
            start = self._recent.guess(blocks.times, b) if guess is None else guess
            return conjugate_gradients(
                blocks.times,
                partial(current.apply, transposed=False),
                b,
                start,
                tolerance=tolerance or self.tolerance,
                most=most,
                team=blocks.team,
            )
        other = transposed and not structure.upper
        scales = (matrix.columns, matrix.rows) if other else (matrix.rows, matrix.columns)
        rows, columns = scales[0][:, None], scales[1][:, None]
        found = gmres(
            lambda p: rows * blocks.times(columns * p, transposed=other),
            lambda r: current.apply(r / rows, transposed=other) / columns,
            rows * b,
            tolerance=tolerance or self.tolerance * RESIDUAL / TOLERANCE,
            most=most,
        )
        return found._replace(x=columns * found.x)

    def _blocks(self, matrix: Matrix) -> BlockRows:
        """Of one matrix at a time: those of the one before are given up."""
        before = self._filled()
        if before is not matrix:
            if before is not None:
                before.forget()
            self._filled = weakref.ref(matrix)
        return matrix.blocks

    def _require_sound(self, matrix: Matrix) -> None:
        """Look for signs of a large condition by a rough solve for random loads.

        It would see a null vector anywhere. The size that it finds is a lower bound of the condition; random signs
        miss a factor of the square root of the number of unknowns at most, on average.
        """
        size, n = matrix.size(transposed=False), self._structure.n
        load = np.ascontiguousarray((np.random.default_rng(0).choice([-1.0, 1.0], n) * size.equations)[:, None])
        before = np.zeros((0, n)) if self._soft is None else self._soft
        guess = projected(self._blocks(matrix).times, before, load)
        found = self._iterate(matrix, load, False, _ROUGH, guess)
        self._soft = np.ascontiguousarray(found.x.T)
        largest = float(np.abs(found.x[:, 0] / size.unknowns).max()) * np.sqrt(n)
        if not largest <= SOUND:
            raise ApproximationError(f"the condition may be as large as {largest:.1e}")
