"""A factorised matrix whose solves are checked: backward errors of all, bounds of the forward error where they matter.

A back end derives from :class:`Factor` and fills in the methods whose names start with an underscore.
"""

from __future__ import annotations

import sys
import threading
import warnings
from abc import abstractmethod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.base.pickling import HoldsSolver
from femadj.errors import IllConditionedError, IllConditionedWarning, ResidualError, SolverError
from femadj.solvers.checks import as_float_array, non_finite, singular_system
from femadj.solvers.closing import Closing
from femadj.solvers.condition import largest
from femadj.solvers.matrix import UNIT_ROUNDOFF, Judgement, Matrix, Structure
from femadj.solvers.statistics import FORWARD_WARNING, SMALL_PIVOT, FactorStatistics, PivotReport, Tolerances, Verdict

NULL_TOLERANCE = 100.0
"""Size of ``A v`` beside ``|A| |v|`` in units of the rounding of the entries, below which ``v`` is a null vector."""

SMALL_SYSTEM = 1000
"""Number of equations up to which the condition is estimated always: pivots do not tell all, and it costs little."""

CANCELLATION = 1e7
"""Size of ``|A| |x|`` beside ``|b|`` above which the condition is estimated, too."""

_PACKAGE = str(Path(__file__).resolve().parents[1])
_EPS = 2 * UNIT_ROUNDOFF
_STEPS, _FEW_STEPS = 10, 3
_PRECISE = 1e-7  # bound of the forward error above which residuals are worth twice the working precision
_RECOVERED = 0.1  # relative error with which a sound factor recovers the vector that its inverse enlarges most
_HIDDEN = 1e-2  # condition times size of replaced pivots above which they may hide that a matrix is singular
_ROUGH = 1e-10  # backward error of refined solves above which a factor is not that of the matrix


class Factor(HoldsSolver, Closing):
    """A factorised matrix. Owns its native memory, which is freed by :meth:`close` or when it is dropped.

    Solves raise SolverError once it is closed.
    """

    def __init__(self, matrix: Matrix, report: PivotReport, tolerances: Tolerances) -> None:
        self._matrix = matrix
        self._report = report
        self.tolerances = tolerances
        self._counting = threading.Lock()
        self._solves = self._refinements = self._extra = 0
        self._relative_residual: float | None = None
        self._forward_error: float | None = None
        self._conditions: dict[bool, float] = {}

    # ------------------------------------------------------------------------------------ what callers use

    def solve(self, b: FloatArray) -> FloatArray:
        """Solve ``A x = b``, check the backward error of every right-hand side, and the forward error where it matters.

        Parameters
        ----------
        b : (n,) or (n, k) float64
            One right-hand side, or one per column, in any memory order.

        Returns
        -------
        x : same shape as ``b``
            A block is returned in column-major order.

        Raises
        ------
        SolverError
            On wrong shape or type, or after :meth:`close`.
        NonFiniteError
            If a right-hand side is not finite.
        ResidualError, SingularSystemError
            If the answer is wrong even after iterative refinement.
        IllConditionedError
            If the error may be larger than the forward tolerance.

        Warns
        -----
        IllConditionedWarning
            If the error may be larger than :data:`FORWARD_WARNING`.
        """
        return self._checked_solve(b, transposed=False)

    def correct(self, b: FloatArray) -> FloatArray:
        """Solve ``A x = b`` for a correction of an iteration that judges itself: without bounds of forward errors."""
        return self._checked_solve(b, transposed=False, bound=False)

    def approximate(self, b: FloatArray, *, transposed: bool = False) -> FloatArray:
        """What the factor makes of ``b`` (k, n), a right-hand side a row: unchecked, and without iterations."""
        return self._again(b, transposed and not self._matrix.structure.upper)

    @property
    def T(self) -> Factor | TransposedFactor:
        """View on this factor that solves with the transposed matrix; symmetric: the factor itself."""
        return self if self._matrix.structure.upper else TransposedFactor(self)

    @property
    def structure(self) -> Structure:
        """Structure of the matrix."""
        return self._matrix.structure

    @property
    def statistics(self) -> FactorStatistics:
        """Fill, memory, pivots and solves up to now; still readable after :meth:`close`."""
        report = self._report
        with self._counting:
            return FactorStatistics(
                n=self._matrix.structure.n,
                nnz=len(self._matrix.structure.indices),
                fill_nnz=report.fill_nnz,
                factor_bytes=report.factor_bytes,
                peak_bytes=report.peak_bytes,
                perturbed_pivots=report.perturbed,
                inertia=report.inertia,
                smallest_pivot_ratio=report.smallest_ratio,
                largest_pivot_ratio=report.largest_ratio,
                solves=self._solves,
                refinements=self._refinements,
                extra_solves=self._extra,
                relative_residual=self._relative_residual,
                condition=max(self._conditions.values(), default=None),
                forward_error=self._forward_error,
            )

    def __repr__(self) -> str:
        found = self.statistics
        state = "closed, " if self._closed else ""
        return f"{type(self).__name__}({state}{found.n} equations, {found.nnz} entries, solves: {found.solves})"

    @property
    def closed(self) -> bool:
        """True once the native memory has been given back."""
        return self._closed

    def give_way(self) -> None:
        """Close for the next factor on the same analysis, to which native memory may be left."""
        self.close()

    # ---------------------------------------------------------------------------- what a back end provides

    @abstractmethod
    def _solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        """Solve with the matrix that was factorised, the equilibrated one, for a C-contiguous (k, n) block.

        One right-hand side per row; returns a new block like it.
        """

    # ------------------------------------------------------------------------------------- shared behaviour

    def _checked_solve(self, b: FloatArray, *, transposed: bool, bound: bool = True) -> FloatArray:
        if self._closed:
            raise SolverError("this factor has been closed")
        n = self._matrix.structure.n
        b = as_float_array(b, "right-hand sides")
        if b.ndim not in (1, 2) or b.shape[0] != n:
            raise SolverError(f"expected right-hand sides of shape ({n},) or ({n}, k), got {b.shape}")
        if b.size == 0:
            return np.empty_like(b)
        block = np.ascontiguousarray(b[None, :] if b.ndim == 1 else b.T)
        norms = _row_norms(block)
        if not np.isfinite(norms).all():
            raise non_finite("the right-hand side", np.flatnonzero(~np.isfinite(block).all(axis=0)))

        x = self._inverse(block, transposed)
        judged = self._judged(block, x, transposed)
        # NaN, which some libraries return without an error code, is not improved by refinement and fails below.
        rough = np.flatnonzero([each.backward_error > self.tolerances.refinement for each in judged])
        self._refine(block, x, judged, rough, transposed)
        worst = _largest(judged, "backward_error")  # NaN if there is one
        with self._counting:
            self._solves += len(block)
            self._refinements += len(rough)
            self._relative_residual = worst
            self._forward_error = None
        if not worst <= self.tolerances.residual:
            raise self._failure(worst)
        if bound and self._suspicious(judged, transposed):
            self._bound(block, x, judged, transposed)
        return x[0] if b.ndim == 1 else x.T

    def _inverse(self, block: FloatArray, transposed: bool) -> FloatArray:
        """Solve for the rows of a block, nothing checked."""
        matrix = self._matrix
        if not matrix.scaled:
            return self._solve(block, transposed=transposed)
        before, after = (matrix.columns, matrix.rows) if transposed else (matrix.rows, matrix.columns)
        x = self._solve(block * before, transposed=transposed)
        x *= after
        return x

    def _again(self, block: FloatArray, transposed: bool) -> FloatArray:
        """The same for what callers did not ask for, which is counted."""
        with self._counting:
            self._extra += len(block)
        return self._inverse(block, transposed)

    def _judged(self, block: FloatArray, x: FloatArray, transposed: bool) -> list[Judgement]:
        """Backward errors, row by row; NaN where ``x`` is not finite."""
        return [self._matrix.judged(b, row, transposed=transposed) for b, row in zip(block, x, strict=True)]

    def _refine(
        self,
        block: FloatArray,
        x: FloatArray,
        judged: list[Judgement],
        rows: npt.NDArray[np.integer],
        transposed: bool,
        steps: int = _STEPS,
    ) -> None:
        """Refine rows until their backward errors no longer halve, and keep what improves; updates all arguments."""
        for _ in range(steps):
            if not len(rows):
                return
            residuals = [self._matrix.residual(block[j], x[j], transposed=transposed)[0] for j in rows]
            refined = x[rows] + self._again(np.array(residuals), transposed)
            going = []
            for j, row, new in zip(rows, refined, self._judged(block[rows], refined, transposed), strict=True):
                old = judged[j].backward_error
                if new.backward_error < old:
                    x[j], judged[j] = row, new
                    if _EPS < new.backward_error < 0.5 * old:
                        going.append(j)
            rows = np.array(going, np.int64)

    def _suspicious(self, judged: list[Judgement], transposed: bool) -> bool:
        """Whether a cheap sign asks for a bound of the forward error: pivots, cancellation, backward errors."""
        structure, known = self._matrix.structure, self._conditions
        key = transposed and not structure.upper
        return (
            key in known
            or structure.n <= SMALL_SYSTEM
            or (max(known.values()) > 1.0 / SMALL_PIVOT if known else self._report.doubtful(structure))
            or any(each.action > CANCELLATION * each.load for each in judged)
            or _largest(judged, "backward_error") > self.tolerances.refinement
        )

    def _condition(self, transposed: bool) -> float:
        """Skeel's condition number, estimated once; the transposed matrix has one of its own."""
        key = transposed and not self._matrix.structure.upper
        if key not in self._conditions:
            size = self._matrix.size(transposed=transposed)
            estimate = largest(self._solved, size.equations, size.unknowns, transposed=transposed)
            self._conditions[key] = estimate.size
        return self._conditions[key]

    def _solved(self, b: FloatArray, transposed: bool) -> FloatArray:
        """One solve for an estimate, refined a little where it is rough."""
        block = b[None]
        x = self._again(block, transposed)
        judged = self._judged(block, x, transposed)
        rough = np.flatnonzero([each.backward_error > _ROUGH for each in judged])
        self._refine(block, x, judged, rough, transposed, _FEW_STEPS)
        return x[0]

    def _bound(self, block: FloatArray, x: FloatArray, judged: list[Judgement], transposed: bool) -> None:
        """Bound the forward errors of a block; refine with precise residuals where they are not small.

        ``|x - x'| <= |A^-1| (|b - A x'| + rounding (|A| |x'| + |b|))``: first with the condition number, which is
        estimated once, then, where that does not do, with an estimate of the very product.
        """
        condition = self._condition(transposed)
        if condition * _largest(judged, "disturbance") > _PRECISE:
            self._sharpen(block, x, transposed)
            judged[:] = self._judged(block, x, transposed)
        error, where = condition * _largest(judged, "disturbance"), None
        if error > FORWARD_WARNING:
            size = self._matrix.size(transposed=transposed)
            v = np.zeros(block.shape[1])
            for b, row in zip(block, x, strict=True):
                np.maximum(v, self._matrix.disturbance(b, row, transposed=transposed), out=v)
            estimate = largest(self._solved, v, size.unknowns, transposed=transposed)
            error, where = min(error, estimate.size), int(np.argmax(np.abs(estimate.vector) / size.unknowns))
        with self._counting:
            self._relative_residual, self._forward_error = _largest(judged, "backward_error"), error
        if where is not None and not error <= FORWARD_WARNING:
            message = (
                f"the solution may be wrong by {error:.1e} of its size, most of all in "
                f"{self._matrix.structure.unknowns.name_of(where)}, because rounding is amplified: "
                f"the condition number is {condition:.1e}"
            )
            if not error <= self.tolerances.forward:
                advice = (
                    "Bring coefficients closer together, or give the solver a larger forward_tolerance to accept it"
                )
                raise IllConditionedError(f"{message}. {advice}", error, where)
            warnings.warn(message, IllConditionedWarning, stacklevel=_level_of_caller())

    def _sharpen(self, block: FloatArray, x: FloatArray, transposed: bool) -> None:
        """Refine with residuals in twice the working precision until corrections no longer halve; updates ``x``.

        The error that is left is that of rounding ``x``, as long as the condition times the error of the factor is
        below one (Demmel and others, Error bounds from extra-precise iterative refinement, 2006).
        """
        unknowns = self._matrix.size(transposed=transposed).unknowns
        rows, last = np.arange(len(block)), np.full(len(block), np.inf)
        for _ in range(_STEPS):
            residuals = [
                self._matrix.residual(block[j], x[j], transposed=transposed, precise=True).sum(axis=0) for j in rows
            ]
            corrections = self._again(np.array(residuals), transposed)
            sizes = _row_norms(corrections / unknowns) / np.maximum(
                _row_norms(x[rows] / unknowns), np.finfo(float).tiny
            )
            better = sizes < 0.5 * last[rows]
            x[rows[better]] += corrections[better]
            last[rows] = sizes
            rows = rows[better & (sizes > _EPS)]
            if not len(rows):
                return

    def _failure(self, relative_residual: float) -> SolverError:
        """The error that explains a failed check of a backward error."""
        changed = self._changed(relative_residual)
        if changed is not None:
            return changed
        verdict = self.examine()
        if verdict.verdict == "singular":
            return singular_system(verdict.unknowns)
        return ResidualError(
            f"the solve failed: backward error {relative_residual:.1e} > {self.tolerances.residual:.1e}",
            relative_residual,
        )

    def _changed(self, relative_residual: float) -> ResidualError | None:
        """The error for values that callers have written to since."""
        if not self._matrix.changed():
            return None
        return ResidualError("the values of the matrix were changed after it had been factorised", relative_residual)

    def examine(self) -> Verdict:
        """Look for a null vector of the matrix, to tell harmless small or replaced pivots from a singular matrix.

        The condition estimate leads to the vector ``v`` that the inverse enlarges most. How small ``A v`` is bounds the
        distance to the next singular matrix; that is no guess. If the factor recovers ``v`` from ``A v``, which is the
        hardest thing to ask of it, it is that of a regular matrix. Else replaced pivots stand in the way, whose part in
        ``v`` is taken out by refining ``A v = 0`` across ``v``.
        """
        matrix, accurate = self._matrix, True

        def inverse(b: FloatArray, transposed: bool) -> FloatArray:
            nonlocal accurate
            x = self._solved(b, transposed)
            accurate = accurate and matrix.judged(b, x, transposed=transposed).backward_error <= _ROUGH
            return x

        unknowns, equations = matrix.size(transposed=False)
        estimate = largest(inverse, equations, unknowns)
        self._conditions[False] = estimate.size
        # Whatever replaced pivots hide makes the inverse at least as large as this.
        accurate = accurate and not (self._report.perturbed and estimate.size * self._report.replacement > _HIDDEN)
        v, recovered = estimate.vector, True
        for step in range(_FEW_STEPS):
            norm = np.abs(v / unknowns).max()
            if not 0.0 < norm < np.inf:
                recovered = False
                break
            v = v / norm
            image = matrix.residual(np.zeros_like(v), v, transposed=False)[0]
            if matrix.relative_size(image, v) < NULL_TOLERANCE * matrix.rounding:
                size = np.abs(v / unknowns)
                order = np.argsort(-size, kind="stable")
                return Verdict("singular", order[: int((size >= 0.5).sum())])
            y = -self._again(image[None], False)[0]
            recovered = step == 0 and bool(np.abs((v - y) / unknowns).max() <= _RECOVERED)
            if recovered:
                break
            along = (y / unknowns**2 * v).sum() / ((v / unknowns) ** 2).sum()
            v = v - (y - along * v)
        return Verdict("regular" if accurate and recovered else "inaccurate", np.zeros(0, np.int64))


class TransposedFactor:
    """View on a factor whose solves are those with the transposed matrix; owns nothing."""

    def __init__(self, factor: Factor) -> None:
        self._factor = factor

    def solve(self, b: FloatArray) -> FloatArray:
        """Solve ``A^T x = b``; arguments, result and errors as in :meth:`Factor.solve`."""
        return self._factor._checked_solve(b, transposed=True)

    def correct(self, b: FloatArray) -> FloatArray:
        """Solve ``A^T x = b`` for a correction, as :meth:`Factor.correct`."""
        return self._factor._checked_solve(b, transposed=True, bound=False)

    @property
    def T(self) -> Factor:
        """The factor that this is a view of."""
        return self._factor

    @property
    def statistics(self) -> FactorStatistics:
        """Statistics of the underlying factor."""
        return self._factor.statistics

    @property
    def closed(self) -> bool:
        """True once the underlying factor has been closed."""
        return self._factor.closed


def _largest(judged: list[Judgement], what: str) -> float:
    """Largest of a number in all judgements, NaN if there is one."""
    return float(np.max([getattr(each, what) for each in judged]))


def _row_norms(block: FloatArray) -> FloatArray:
    """Maximum norm of every row of a (k, n) block, NaN where a row has one; allocates nothing of size n."""
    return np.maximum(block.max(axis=1), -block.min(axis=1))


def _level_of_caller() -> int:
    """Of the first function outside this package, for a warning from the function that asks."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
