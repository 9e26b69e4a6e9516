"""What every sparse direct solver shares: the protocol, the checks of its input and the check of every solve.

A back end derives from :class:`Solver`, :class:`Symbolic` and :class:`Factor` and fills in the methods whose
names start with an underscore. Structure, values and right-hand sides are always handed over as host arrays;
nothing is global, so a back end on another device only has to move them.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple, Self, get_args

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import whole_number
from femadj.base.arrays import FloatArray
from femadj.base.pickling import HoldsSolver
from femadj.errors import (
    IndefiniteSystemError,
    NonFiniteError,
    ResidualError,
    SingularSystemError,
    SolverError,
)
from femadj.solvers.matrix import Matrix, MatrixKind, Structure
from femadj.solvers.structure import CsrPattern

RESIDUAL_TOLERANCE = 1e-8
"""Largest backward error ``|b - A x| / (|A| |x| + |b|)`` (maximum norms) that a solve may return."""

REFINEMENT_THRESHOLD = 1e-13
"""Backward error above which a step of iterative refinement is tried; a sound solve stays below it."""

PIVOT_TOLERANCE = 1e-12
"""Relative size below which a pivot means that the matrix is singular to working precision."""

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
        Right-hand sides for which a step of iterative refinement was tried.
    relative_residual : float or None
        Largest backward error of the last solve.
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
    relative_residual: float | None = None


class Tolerances(NamedTuple):
    """Limits of the checks, see the constants above."""

    residual: float = RESIDUAL_TOLERANCE
    refinement: float = REFINEMENT_THRESHOLD
    pivot: float = PIVOT_TOLERANCE


class PivotReport(NamedTuple):
    """What a factorisation tells about itself; the solver's part of :class:`FactorStatistics`."""

    fill_nnz: int | None = None
    factor_bytes: int | None = None
    peak_bytes: int | None = None
    perturbed: int | None = None
    inertia: tuple[int, int] | None = None
    smallest_ratio: float | None = None
    largest_ratio: float | None = None


class Verdict(NamedTuple):
    """Verdict on a factor whose pivots raise doubts, see :meth:`Factor._doubted`."""

    verdict: Literal["regular", "inaccurate", "singular"]
    equation: int | None = None


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
        Backward error above which a solve is refined once, see :data:`REFINEMENT_THRESHOLD`.
    pivot_tolerance : float
        Relative pivot size that counts as singular, see :data:`PIVOT_TOLERANCE`.
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
    ) -> None:
        _check_threads(threads)
        self.threads = threads
        self.tolerances = Tolerances(residual_tolerance, refinement_threshold, pivot_tolerance)

    def analyse(self, pattern: CsrPattern, kind: MatrixKind, *, threads: int | None = None) -> Symbolic:
        """Order and analyse a structure, once for all matrices on it.

        Parameters
        ----------
        pattern : CsrPattern
            Triangle ``"upper"`` for ``"spd"`` and ``"symmetric"``, ``"full"`` for ``"general"``.
        kind : MatrixKind
            What the matrices on this structure are.
        threads : int, optional
            Overrides the solver's own number of threads; fixed for everything that follows on this structure.

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
        return self._analyse(Structure(pattern, kind), self.threads if threads is None else threads)

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

    def factor(self, values: FloatArray) -> Factor:
        """Factorise the matrix with these values.

        Parameters
        ----------
        values : (nnz,) float64
            In the order of the pattern. Referenced by the factor, for the residuals of its solves: do not
            write to the array while the factor is in use.

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
        matrix = Matrix(structure, values)
        rows, columns = matrix.sums()
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
        """Factorise a checked matrix."""

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
        self._solves = 0
        self._refinements = 0
        self._relative_residual: float | None = None

    # ------------------------------------------------------------------------------------ what callers use

    def solve(self, b: FloatArray) -> FloatArray:
        """Solve ``A x = b`` and check the residual.

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
            If the answer is wrong even after one step of iterative refinement.
        """
        return self._checked_solve(b, transposed=False)

    @property
    def T(self) -> Factor | TransposedFactor:
        """View on this factor that solves with the transposed matrix; symmetric: the factor itself."""
        return self if self._matrix.structure.upper else TransposedFactor(self)

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
                relative_residual=self._relative_residual,
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
        """Solve for a C-contiguous (k, n) block, one right-hand side per row; returns a new block like it."""

    @abstractmethod
    def _free(self) -> None:
        """Free the native memory, called once."""

    # ------------------------------------------------------------------------------------- shared behaviour

    def _checked_solve(self, b: FloatArray, *, transposed: bool) -> FloatArray:
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

        x = self._solve(block, transposed=transposed)
        errors = self._backward_errors(block, norms, x, transposed)
        # NaN, which some libraries return without an error code, is not improved by refinement and fails
        # below.
        rough = np.flatnonzero(errors > self.tolerances.refinement)
        if len(rough):
            self._refine(block, norms, x, errors, rough, transposed)
        worst = float(errors.max())  # NaN if there is one
        with self._counting:
            self._solves += len(block)
            self._refinements += len(rough)
            self._relative_residual = worst
        if not worst <= self.tolerances.residual:
            raise self._failure(worst)
        return x[0] if b.ndim == 1 else x.T

    def _refine(
        self,
        block: FloatArray,
        norms: FloatArray,
        x: FloatArray,
        errors: FloatArray,
        rough: npt.NDArray[np.integer],
        transposed: bool,
    ) -> None:
        """Refine some rows once and keep what improves; updates ``x`` and ``errors``."""
        residuals = np.empty((len(rough), block.shape[1]))
        for row, j in zip(residuals, rough, strict=True):
            np.subtract(block[j], self._matrix.apply(x[j], transposed=transposed), out=row)
        refined = x[rough] + self._solve(residuals, transposed=transposed)
        refined_errors = self._backward_errors(block[rough], norms[rough], refined, transposed)
        better = refined_errors < errors[rough]
        x[rough[better]] = refined[better]
        errors[rough[better]] = refined_errors[better]

    def _backward_errors(self, block: FloatArray, norms: FloatArray, x: FloatArray, transposed: bool) -> FloatArray:
        """Backward error ``|b - A x| / (|A| |x| + |b|)`` of every row, shape (k,); NaN if x is not finite."""
        sizes = _row_norms(x)
        residuals = np.full(len(block), np.nan)
        for j in np.flatnonzero(np.isfinite(sizes)):
            r = self._matrix.apply(x[j], transposed=transposed)
            r -= block[j]
            residuals[j] = max(r.max(), -r.min())
        scale = self._matrix.norm(transposed=transposed) * sizes + norms
        return np.divide(residuals, scale, out=np.where(residuals == 0.0, 0.0, np.nan), where=scale > 0.0)

    def _failure(self, relative_residual: float) -> SolverError:
        """The error that explains a failed residual check."""
        current = Matrix(self._matrix.structure, self._matrix.values)
        if current.norm() != self._matrix.norm():
            return ResidualError(
                "the values of the matrix were changed after it had been factorised", relative_residual
            )
        smallest = self._report.smallest_ratio
        if smallest is not None and smallest < self.tolerances.pivot:
            return SingularSystemError(
                f"the solve failed (backward error {relative_residual:.1e}) and the smallest pivot is only "
                f"{smallest:.1e} of its reference: the matrix is singular to working precision"
            )
        return ResidualError(
            f"the solve failed: backward error {relative_residual:.1e} > {self.tolerances.residual:.1e}",
            relative_residual,
        )

    def _doubted(self) -> Verdict:
        """Recover a known solution, to tell harmless small or replaced pivots from a singular matrix.

        If the known vector is not recovered, the difference is close to a null vector of a singular matrix,
        which is verified by one product. The matrix is scaled for that, so that large contrasts are not
        mistaken for singularity.
        """
        matrix = self._matrix
        known = np.random.default_rng(0).uniform(0.5, 1.0, matrix.structure.n)
        b = matrix.apply(known)[None, :]
        difference = known - self._solve(b, transposed=False)[0]
        if not np.isfinite(difference).all():
            return Verdict("inaccurate")
        if np.abs(difference).max() <= self.tolerances.residual:
            return Verdict("regular")
        rows = matrix.sums()[0]
        absolute = matrix.absolute()
        columns = absolute.apply(1.0 / rows, transposed=True)
        scaled = columns * np.abs(difference)
        norm = (absolute.apply(1.0 / columns) / rows).max()
        distance = (np.abs(matrix.apply(difference)) / rows).max() / (norm * scaled.max())
        if distance < self.tolerances.pivot:
            return Verdict("singular", int(np.argmax(scaled)))
        x = known - difference
        error = self._backward_errors(b, _row_norms(b), x[None, :], transposed=False)[0]
        return Verdict("regular" if error <= self.tolerances.residual else "inaccurate")


class TransposedFactor:
    """View on a factor whose solves are those with the transposed matrix; owns nothing."""

    def __init__(self, factor: Factor) -> None:
        self._factor = factor

    def solve(self, b: FloatArray) -> FloatArray:
        """Solve ``A^T x = b``; arguments, result and errors as in :meth:`Factor.solve`."""
        return self._factor._checked_solve(b, transposed=True)

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


def singular_system(equation: int | None, reason: str) -> SingularSystemError:
    """SingularSystemError with the usual hint for finite element systems."""
    where = "" if equation is None else f" at equation {equation}"
    return SingularSystemError(
        f"the matrix is singular to working precision{where} ({reason}); are supports missing, or are "
        f"parts of the mesh not connected?",
        equation,
    )
