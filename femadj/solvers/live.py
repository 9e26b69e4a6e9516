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

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from femadj.base.arrays import FloatArray
from femadj.errors import ApproximationError, SolverError
from femadj.solvers.base import MatrixMaker, Solver, Symbolic
from femadj.solvers.factor import Factor
from femadj.solvers.inverse import TOLERANCE, LiveInverse, Rung
from femadj.solvers.matrix import Judgement, Matrix, Structure
from femadj.solvers.statistics import FactorStatistics, PivotReport
from femadj.solvers.structure import CsrPattern

_SIDE = 6  # of the grid of nodes that is solved for kernels to be compiled


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

    def matrices(self, structure: Structure) -> MatrixMaker:
        return self.exact.matrices(structure)


class LiveSymbolic(Symbolic):
    """A structure with its live inverse."""

    def __init__(self, solver: LiveSolver, structure: Structure, threads: int | None) -> None:
        super().__init__(structure, solver.tolerances, solver.matrices(structure))
        self.name = solver.name
        self._solver = solver
        self._live = LiveInverse(
            structure,
            threads,
            solver.exact,
            solver.rungs,
            lag=solver.lag,
            tolerance=solver.tolerance,
            limits=solver.tolerances,
        )

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
