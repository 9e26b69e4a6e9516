"""One live inverse for each structure: a factor or another preconditioner that serves design after design.

What is live is renewed for every design (``lag=False``), or only when that pays: the time of iterations beyond those
that it took when it was fresh is booked, and once it exceeds the time that making another took, the next design gets
one (rent or buy: never more than twice the time of the best schedule). Solves of any design run on what is live: with
its own factor directly, else by iterations on its own matrix, preconditioned. So the age of a factor and its precision
show in the time and never in the answer: every solve is judged by its backward error, and what does not converge is
repeated with a fresh preconditioner, in the end with a factor in double precision. Only such a factor may call a matrix
singular or indefinite.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from femadj.base.arrays import FloatArray
from femadj.errors import ApproximationError, SolverError
from femadj.solvers.base import Solver, Symbolic
from femadj.solvers.exact import Exact
from femadj.solvers.factor import Factor
from femadj.solvers.krylov import Iterations, conjugate_gradients, gmres
from femadj.solvers.matrix import Judgement, Matrix, Structure
from femadj.solvers.preconditioner import Approximation, Preconditioner
from femadj.solvers.recent import Recent, projected
from femadj.solvers.rows import BlockRows
from femadj.solvers.statistics import FactorStatistics, PivotReport
from femadj.solvers.structure import CsrPattern

TOLERANCE = 2e-13
"""Relative error of iterated solves of positive definite matrices, in the energy norm."""

RESIDUAL = 1e-14
"""Relative residual of iterated solves of other matrices, in the scale of their rows."""

REFINEMENT = 1e-11
"""Backward error above which an iterated solve is refined."""

SOUND = 1e8
"""Condition number above which only a factor in double precision is trusted."""

_SIDE = 6  # of the grid of nodes that is solved for kernels to be compiled
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


class LiveSolver(Solver):
    """Keeps one live inverse for each structure.

    Parameters
    ----------
    exact : Solver
        Makes factors in double precision: the last resort, and the only one where there are no rungs.
    rungs : sequence of Rung
        What is tried before, in this order.
    lag : bool
        Whether a preconditioner serves the designs that follow.
    name : str
    tolerance : float
        Relative error of iterated solves, see :data:`TOLERANCE`.
    """

    def __init__(
        self,
        exact: Solver,
        rungs: Sequence[Rung] = (),
        *,
        lag: bool = False,
        name: str = "",
        tolerance: float = TOLERANCE,
    ) -> None:
        super().__init__(threads=exact.threads)
        self.tolerances = exact.tolerances
        self.exact = exact
        self.rungs = tuple(rungs)
        self.lag = lag
        self.tolerance = tolerance
        self.name = name or exact.name
        known = exact.capabilities
        direct = not rungs and not lag
        self.capabilities = replace(known, factors_per_analysis=None, inertia=known.inertia and direct, lags=bool(lag))

    def _analyse(self, structure: Structure, threads: int | None) -> LiveSymbolic:
        return LiveSymbolic(self, structure, threads)


class LiveSymbolic(Symbolic):
    """A structure with its live inverse."""

    def __init__(self, solver: LiveSolver, structure: Structure, threads: int | None) -> None:
        super().__init__(structure, solver.tolerances)
        self.name = solver.name
        self._solver = solver
        self._live = LiveInverse(solver, structure, threads)

    @property
    def factorisations(self) -> int:  # type: ignore[override]
        """Factors and other preconditioners made so far."""
        return self._live.made

    @property
    def analyses(self) -> int:  # type: ignore[override]
        """Structures analysed, at least one."""
        return self._live.analyses

    def prepare(self, n_modes: int) -> None:
        """Solve a small system with as many components, by every way on the ladder, for one load and for two."""
        structure, b = self._structure, self._structure.unknowns.components
        line = sp.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(_SIDE, _SIDE))
        graph = sp.kron(sp.kron(line, line), line)
        blocks = sp.csr_array(sp.kron(graph, np.eye(b) + 0.1))
        stored = sp.csr_array(sp.triu(blocks)) if structure.upper else blocks
        stored.sort_indices()
        indptr, indices = stored.indptr.astype(np.int64), stored.indices.astype(np.int32)
        pattern = CsrPattern(indptr, indices, structure.pattern.triangle)
        modes = np.random.default_rng(0).standard_normal((len(indptr) - 1, n_modes))
        for rung in self._solver.rungs:
            solver = LiveSolver(self._solver.exact, [rung], lag=True)
            with solver.analyse(pattern, structure.kind, unknowns=structure.unknowns) as symbolic:
                for values in (stored.data, stored.data * (1.0 + 1e-3 * np.sin(np.arange(len(indices))))):
                    factor = symbolic.factor(np.ascontiguousarray(values), modes=lambda: modes)
                    for columns in (1, 2):
                        factor.solve(np.ones((len(indptr) - 1, columns)))

    @property
    def needed_bytes(self) -> int | None:
        """Memory that a factor in double precision would take; analyses the structure for it at the first call."""
        return self._live.exactly.symbolic.needed_bytes

    def _factor(self, matrix: Matrix) -> LiveFactor:
        self._live.begin(matrix)
        return LiveFactor(self._live, matrix)

    def _free(self) -> None:
        del self._live


class LiveInverse:
    """What is live on a structure; shared by the analysis and the factors of all its designs."""

    def __init__(self, solver: LiveSolver, structure: Structure, threads: int | None) -> None:
        self.lock = threading.RLock()
        self.lag = solver.lag
        self.made = 0
        limits, self.tolerance = solver.tolerances, solver.tolerance
        self.tolerances = limits._replace(
            refinement=REFINEMENT * solver.tolerance / TOLERANCE,
            residual=max(limits.residual, 1e4 * solver.tolerance),
        )
        self._structure, self._threads = structure, threads
        self._exact = solver.exact
        self._rungs = list(solver.rungs)
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


class LiveFactor(Factor):
    """The matrix of one design, solved with by what is live."""

    def __init__(self, live: LiveInverse, matrix: Matrix) -> None:
        # That the condition is moderate has been looked at: nothing is doubtful.
        super().__init__(matrix, PivotReport(smallest_ratio=1.0), live.tolerances)
        self._live: LiveInverse | None = live
        self._exact = live.exact_of(matrix)
        self._iterations = 0
        self._error: float | None = None  # that iterations estimate

    def _checked_solve(self, b: FloatArray, *, transposed: bool, bound: bool = True) -> FloatArray:
        live = self._live
        if self._closed or live is None:
            raise SolverError("this factor has been closed")
        with live.lock:
            if live.exact_of(self._matrix) is None:
                try:
                    return super()._checked_solve(b, transposed=transposed, bound=bound)
                except ApproximationError:
                    live.renew(self._matrix, exactly=True)
            factor = live.exact_of(self._matrix)
            if factor is None:
                raise AssertionError("renewed exactly")
            self._exact = factor
            return factor._checked_solve(b, transposed=transposed, bound=bound)

    def _inverse(self, block: FloatArray, transposed: bool) -> FloatArray:
        live = self._live
        if live is None:
            raise SolverError("this factor has been closed")
        with live.lock:
            found = live.solve(self._matrix, np.ascontiguousarray(block.T), transposed=transposed)
            self._iterations += int(found.counts.sum())
            self._error = float(found.errors.max(initial=0.0))
            return np.ascontiguousarray(found.x.T)

    def approximate(self, b: FloatArray, *, transposed: bool = False) -> FloatArray:
        """What the live preconditioner makes of ``b`` (k, n), without iterations."""
        live = self._live
        if live is None:
            raise SolverError("this factor has been closed")
        with live.lock:
            return live.approximate(self._matrix, b, transposed=transposed and not self.structure.upper)

    def _solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        raise NotImplementedError  # of the equilibrated matrix, which preconditioners scale back from themselves

    def _suspicious(self, judged: list[Judgement], transposed: bool) -> bool:
        """Not where a looser tolerance says that errors of solves are accepted."""
        live = self._live
        return live is not None and live.tolerance <= TOLERANCE and super()._suspicious(judged, transposed)

    def _failure(self, relative_residual: float) -> SolverError:
        changed = super()._changed(relative_residual)
        return changed or ApproximationError(f"backward error {relative_residual:.1e}")

    @property
    def statistics(self) -> FactorStatistics:
        """Those of the factor in double precision where this design has had one, else of the iterations."""
        own, exact, live = super().statistics, self._exact, self._live
        own = replace(own, smallest_pivot_ratio=None)
        if exact is not None:
            known = exact.statistics
            own = replace(
                known,
                solves=known.solves + own.solves,
                refinements=known.refinements + own.refinements,
                extra_solves=known.extra_solves + own.extra_solves,
            )
        if live is None or live.exact_of(self._matrix) is not None:
            return own
        name, age, nbytes = live.told(self._matrix)
        error = own.forward_error if own.forward_error is not None else self._error
        return replace(
            own, preconditioner=name, age=age, factor_bytes=nbytes, iterations=self._iterations, forward_error=error
        )

    def _free(self) -> None:
        live, self._live = self._live, None
        if live is not None and not live.lag and live.exact_of(self._matrix) is not None:
            live.drop()
