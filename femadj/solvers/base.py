"""What every sparse direct solver shares: the protocol, the checks of its input and the check of every solve.

A back end derives from :class:`Solver`, :class:`Symbolic` and :class:`Factor` and fills in the methods whose
names start with an underscore. Structure, values and right-hand sides are always handed over as host arrays;
nothing is global, so a back end on another device only has to move them.
"""

from __future__ import annotations

import sys
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self, get_args

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import whole_number
from femadj.base.arrays import FloatArray
from femadj.base.pickling import HoldsSolver
from femadj.errors import (
    IllConditionedError,
    IllConditionedWarning,
    IndefiniteSystemError,
    NonFiniteError,
    ResidualError,
    SingularSystemError,
    SolverError,
)
from femadj.solvers.condition import largest
from femadj.solvers.matrix import UNIT_ROUNDOFF, Judgement, Matrix, MatrixKind, Structure
from femadj.solvers.structure import CsrPattern

RESIDUAL_TOLERANCE = 1e-8
"""Largest componentwise backward error, ``|b - A x| / (|A| |x| + |b|)`` row by row, that a solve may return."""

REFINEMENT_THRESHOLD = 1e-13
"""Backward error above which a solve is refined until it no longer improves; a sound solve stays below it."""

PIVOT_TOLERANCE = 1e-12
"""Relative size below which a pivot of a positive definite matrix means that it is singular to working precision."""

FORWARD_TOLERANCE = 1e-2
"""Largest bound of the relative error that a solution may be returned with."""

FORWARD_WARNING = 1e-6
"""Bound of the relative error above which a solution is returned with a warning."""

NULL_TOLERANCE = 100.0
"""Size of ``A v`` beside ``|A| |v|`` in units of the rounding of the entries, below which ``v`` is a null vector."""

SMALL_PIVOT = 1e-4
"""Pivot ratio below which a matrix may be ill-conditioned, so that the condition is estimated. Those of matrices that
are not definite are spread by chance, the smallest of ``n`` like ``1 / n``: a tenth of that times ``100 / n`` for them.
"""

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

NAMED_EQUATIONS = 5
"""How many equations an error about non-finite numbers names."""


@dataclass(frozen=True)
class Capabilities:
    """What a solver can do, as data that callers can read before they ask.

    Attributes
    ----------
    kinds : frozenset of MatrixKind
        Matrix kinds that are accepted.
    transpose : bool
        ``factor.T.solve`` works on the same factor.
    many_right_hand_sides : bool
        A block of right-hand sides costs less than solving one by one.
    reuses_analysis : bool
        The ordering is computed once per structure and not once per factorisation.
    factors_per_analysis : int or None
        How many factors can be alive on one analysis; a further one costs a new analysis. None: no limit.
    values_in_place : bool
        The solver keeps reading the array of values it was given; False: it works on a copy of its own.
    inertia : bool
        The numbers of positive and negative eigenvalues are reported for symmetric matrices.
    device : "cpu" or "cuda"
        Where the factor lives.
    """

    kinds: frozenset[MatrixKind]
    transpose: bool
    many_right_hand_sides: bool
    reuses_analysis: bool
    factors_per_analysis: int | None
    values_in_place: bool
    inertia: bool
    device: Literal["cpu", "cuda"]


@dataclass(frozen=True)
class FactorStatistics:
    """What is known about a factor; None where the solver does not tell.

    Attributes
    ----------
    n, nnz : int
        Number of equations and of stored matrix entries.
    fill_nnz : int or None
        Number of stored entries of the factor (one triangle or both, as the solver keeps it).
    factor_bytes : int or None
        Memory held by the factor and the analysis it stands on [bytes].
    peak_bytes : int or None
        Largest memory needed while analysing and factorising [bytes].
    perturbed_pivots : int or None
        Pivots that were too small and have been replaced.
    inertia : (int, int) or None
        Numbers of positive and negative eigenvalues; meaningful where no pivot was perturbed.
    smallest_pivot_ratio, largest_pivot_ratio : float or None
        For ``"spd"`` each pivot is compared with its own diagonal entry before elimination, which does not
        depend on the scaling of the matrix. For the other kinds the smallest pivot is compared with the
        largest.
    solves : int
        Right-hand sides solved so far, transposed ones included.
    refinements : int
        Right-hand sides for which iterative refinement was tried.
    extra_solves : int
        Right-hand sides solved beyond those, to refine and to estimate errors.
    relative_residual : float or None
        Largest componentwise backward error of the last solve (Arioli, Demmel and Duff 1989).
    condition : float or None
        Skeel's condition number ``max |A^-1| |A|`` of the equilibrated matrix; None where nothing asked for it.
    forward_error : float or None
        Bound of the relative error of the last solve in the scale of each unknown: the condition times backward error
        and rounding of the entries. None where no sign of a large condition asked for it.
    """

    n: int
    nnz: int
    fill_nnz: int | None = None
    factor_bytes: int | None = None
    peak_bytes: int | None = None
    perturbed_pivots: int | None = None
    inertia: tuple[int, int] | None = None
    smallest_pivot_ratio: float | None = None
    largest_pivot_ratio: float | None = None
    solves: int = 0
    refinements: int = 0
    extra_solves: int = 0
    relative_residual: float | None = None
    condition: float | None = None
    forward_error: float | None = None


class Tolerances(NamedTuple):
    """Limits of the checks, see the constants above."""

    residual: float = RESIDUAL_TOLERANCE
    refinement: float = REFINEMENT_THRESHOLD
    pivot: float = PIVOT_TOLERANCE
    forward: float = FORWARD_TOLERANCE


class PivotReport(NamedTuple):
    """What a factorisation tells about itself; the solver's part of :class:`FactorStatistics`.

    ``replacement`` is the size of the pivots that stand for those that were too small, relative to the matrix.
    """

    fill_nnz: int | None = None
    factor_bytes: int | None = None
    peak_bytes: int | None = None
    perturbed: int | None = None
    replacement: float = 0.0
    inertia: tuple[int, int] | None = None
    smallest_ratio: float | None = None
    largest_ratio: float | None = None

    def doubtful(self, structure: Structure) -> bool:
        """Whether pivots were replaced, or are small or unknown."""
        least = SMALL_PIVOT if structure.kind == "spd" else min(SMALL_PIVOT, 0.1 * SMALL_PIVOT * 100 / structure.n)
        return bool(self.perturbed) or self.smallest_ratio is None or not self.smallest_ratio >= least


class Verdict(NamedTuple):
    """Verdict on a factor whose pivots raise doubts, see :meth:`Factor.examine`; unknowns of a null vector."""

    verdict: Literal["regular", "inaccurate", "singular"]
    unknowns: npt.NDArray[np.int64]


def _largest(judged: list[Judgement], what: str) -> float:
    """Largest of a number in all judgements, NaN if there is one."""
    return float(np.max([getattr(each, what) for each in judged]))


def _row_norms(block: FloatArray) -> FloatArray:
    """Maximum norm of every row of a (k, n) block, NaN where a row has one; allocates nothing of size n."""
    return np.maximum(block.max(axis=1), -block.min(axis=1))


# ------------------------------------------------------------------------------------------------- protocol


class Solver(ABC):
    """A sparse direct solver.

    Parameters
    ----------
    threads : int, optional
        Threads for the analyses, factorisations and solves; by default what the library would use.
    residual_tolerance : float
        Largest backward error that a solve may return, see :data:`RESIDUAL_TOLERANCE`.
    refinement_threshold : float
        Backward error above which a solve is refined, see :data:`REFINEMENT_THRESHOLD`.
    pivot_tolerance : float
        Relative pivot size that counts as singular, see :data:`PIVOT_TOLERANCE`.
    forward_tolerance : float
        Largest bound of the relative error that a solution may have, see :data:`FORWARD_TOLERANCE`.
    """

    name: str
    capabilities: Capabilities

    def __init__(
        self,
        *,
        threads: int | None = None,
        residual_tolerance: float = RESIDUAL_TOLERANCE,
        refinement_threshold: float = REFINEMENT_THRESHOLD,
        pivot_tolerance: float = PIVOT_TOLERANCE,
        forward_tolerance: float = FORWARD_TOLERANCE,
    ) -> None:
        _check_threads(threads)
        self.threads = threads
        self.tolerances = Tolerances(residual_tolerance, refinement_threshold, pivot_tolerance, forward_tolerance)

    def analyse(
        self,
        pattern: CsrPattern,
        kind: MatrixKind,
        *,
        threads: int | None = None,
        name_of: Callable[[int], str] = "unknown {}".format,
    ) -> Symbolic:
        """Order and analyse a structure, once for all matrices on it.

        Parameters
        ----------
        pattern : CsrPattern
            Triangle ``"upper"`` for ``"spd"`` and ``"symmetric"``, ``"full"`` for ``"general"``.
        kind : MatrixKind
            What the matrices on this structure are.
        threads : int, optional
            Overrides the solver's own number of threads; fixed for everything that follows on this structure.
        name_of : callable, optional
            What messages call an unknown, given its number.

        Raises
        ------
        SolverError
            If the kind is not supported or the pattern is not a valid one for it.
        SingularSystemError
            If a row or a column is empty.
        """
        if kind not in get_args(MatrixKind):
            raise SolverError(f"unknown matrix kind {kind!r}; there are {', '.join(get_args(MatrixKind))}")
        if kind not in self.capabilities.kinds:
            raise SolverError(f"{self.name} does not solve {kind!r} matrices")
        _check_threads(threads)
        return self._analyse(Structure(pattern, kind, name_of), self.threads if threads is None else threads)

    @abstractmethod
    def _analyse(self, structure: Structure, threads: int | None) -> Symbolic:
        """Analyse a checked structure."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} on {self.capabilities.device}>"


def _check_threads(threads: int | None) -> None:
    if threads is not None:
        whole_number(threads, 1, "the number of threads", SolverError)


class Symbolic(ABC):
    """An analysed structure: makes a factor from every new set of values.

    Attributes
    ----------
    factorisations : int
        Numeric factorisations made so far.
    analyses : int
        Symbolic analyses made so far; stays 1 unless the solver had to analyse again.
    """

    def __init__(self, structure: Structure, tolerances: Tolerances) -> None:
        self._structure = structure
        self.tolerances = tolerances
        self.factorisations = 0
        self.analyses = 0
        self._closed = False

    @property
    def pattern(self) -> CsrPattern:
        """Structure of the matrices."""
        return self._structure.pattern

    @property
    def kind(self) -> MatrixKind:
        """Kind of the matrices."""
        return self._structure.kind

    def factor(self, values: FloatArray, *, rounding: float = UNIT_ROUNDOFF) -> Factor:
        """Factorise the matrix with these values.

        Parameters
        ----------
        values : (nnz,) float64
            In the order of the pattern. Referenced by the factor, for the residuals of its solves: do not
            write to the array while the factor is in use.
        rounding : float
            Relative error of the values, which bounds of the error of solutions account for.

        Raises
        ------
        SolverError
            On wrong shape or type, after :meth:`close`, or if the solver fails.
        NonFiniteError
            If a value is not finite.
        SingularSystemError
            If the matrix is singular to working precision.
        IndefiniteSystemError
            If the kind is ``"spd"`` and the matrix is not.
        """
        if self._closed:
            raise SolverError("this analysis has been closed")
        structure = self._structure
        values = _as_float_array(values, "values")
        if values.shape != (len(structure.indices),):
            raise SolverError(f"expected {len(structure.indices)} values, got shape {values.shape}")
        values = np.ascontiguousarray(values)
        # Extremes are NaN or infinite if any entry is; they allocate nothing.
        if not (np.isfinite(values.min()) and np.isfinite(values.max())):
            entries = np.flatnonzero(~np.isfinite(values))
            concerned = structure.rows()[entries]
            if structure.upper:
                concerned = np.concatenate([concerned, structure.indices[entries]])
            raise _non_finite("the matrix", np.unique(concerned))
        matrix = Matrix(structure, values, rounding)
        rows, columns = matrix.sums
        if not np.isfinite(rows).all():
            raise _non_finite("the sum of absolute values", np.flatnonzero(~np.isfinite(rows)))
        for sums, what in ((rows, "row"), (columns, "column")):
            if not sums.all():
                k = int(np.argmin(sums))
                raise SingularSystemError(f"{what} {k} of the matrix is zero: the matrix is singular", k)
        if structure.kind == "spd":
            diagonal = values[structure.indptr[:-1]]
            if diagonal.min() <= 0.0:
                k = int(np.argmax(diagonal <= 0.0))
                raise IndefiniteSystemError(
                    f"the matrix is not positive definite: diagonal entry {k} is {diagonal[k]:.3g}", k
                )
        return self._factor(matrix)

    @abstractmethod
    def _factor(self, matrix: Matrix) -> Factor:
        """Factorise a checked matrix: its :meth:`~Matrix.equilibrated` values."""

    def close(self) -> None:
        """Give up the analysis. Factors that are alive keep what they need and stay usable."""
        if not self._closed:
            self._closed = True
            self._free()

    @abstractmethod
    def _free(self) -> None:
        """Drop the native resources, called once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Factor(HoldsSolver, ABC):
    """A factorised matrix. Owns its native memory, which is freed by :meth:`close` or when it is dropped."""

    def __init__(self, matrix: Matrix, report: PivotReport, tolerances: Tolerances) -> None:
        self._matrix = matrix
        self._report = report
        self.tolerances = tolerances
        self._closed = False
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

    def close(self) -> None:
        """Free the native memory now. Solves raise SolverError from here on."""
        if not self._closed:
            self._closed = True
            self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---------------------------------------------------------------------------- what a back end provides

    @abstractmethod
    def _solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        """Solve with the matrix that was factorised, the equilibrated one, for a C-contiguous (k, n) block.

        One right-hand side per row; returns a new block like it.
        """

    @abstractmethod
    def _free(self) -> None:
        """Free the native memory, called once."""

    # ------------------------------------------------------------------------------------- shared behaviour

    def _checked_solve(self, b: FloatArray, *, transposed: bool, bound: bool = True) -> FloatArray:
        if self._closed:
            raise SolverError("this factor has been closed")
        n = self._matrix.structure.n
        b = _as_float_array(b, "right-hand sides")
        if b.ndim not in (1, 2) or b.shape[0] != n:
            raise SolverError(f"expected right-hand sides of shape ({n},) or ({n}, k), got {b.shape}")
        if b.size == 0:
            return np.empty_like(b)
        block = np.ascontiguousarray(b[None, :] if b.ndim == 1 else b.T)
        norms = _row_norms(block)
        if not np.isfinite(norms).all():
            raise _non_finite("the right-hand side", np.flatnonzero(~np.isfinite(block).all(axis=0)))

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
                f"{self._matrix.structure.name_of(where)}, because rounding is amplified: the condition number is "
                f"{condition:.1e}"
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
        current = Matrix(self._matrix.structure, self._matrix.values, self._matrix.rounding)
        if not np.array_equal(current.sums[0], self._matrix.sums[0]):
            return ResidualError(
                "the values of the matrix were changed after it had been factorised", relative_residual
            )
        verdict = self.examine()
        if verdict.verdict == "singular":
            return singular_system(verdict.unknowns)
        return ResidualError(
            f"the solve failed: backward error {relative_residual:.1e} > {self.tolerances.residual:.1e}",
            relative_residual,
        )

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


def _level_of_caller() -> int:
    """Of the first function outside this package, for a warning from the function that asks."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


def _as_float_array(array: FloatArray, what: str) -> FloatArray:
    if not isinstance(array, np.ndarray) or array.dtype != np.float64:
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise SolverError(f"{what} must be a float64 array, got {found}")
    return array


def _non_finite(where: str, equations: npt.NDArray[np.integer]) -> NonFiniteError:
    named = [int(e) for e in equations[:NAMED_EQUATIONS]]
    more = f" and {len(equations) - len(named)} more" if len(equations) > len(named) else ""
    return NonFiniteError(
        f"{where} has NaN or infinite entries in equation(s) {', '.join(map(str, named))}{more}", named
    )


def singular_system(unknowns: Sequence[int] | npt.NDArray[np.integer], reason: str = "") -> SingularSystemError:
    """SingularSystemError with the usual hint for finite element systems; unknowns of a null vector, largest first."""
    named = [int(number) for number in unknowns[:NAMED_EQUATIONS]]
    where = ""
    if len(unknowns) == 1:
        where = f" at equation {named[0]}"
    elif named:
        more = f" and {len(unknowns) - len(named)} more" if len(unknowns) > len(named) else ""
        where = f": unknowns {', '.join(map(str, named))}{more} are free to move together"
    return SingularSystemError(
        f"the matrix is singular to working precision{where}{reason and f' ({reason})'}; are supports missing, are "
        "constraints given twice, or are parts of the mesh not connected?",
        named[0] if named else None,
        named,
    )
