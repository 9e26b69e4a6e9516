"""Factors of MKL PARDISO in single precision: preconditioners in half the memory and half the time."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import ApproximationError, SolverError
from femadj.kernels import sparse
from femadj.solvers.handle import Handle, Outcome, Place, analysed
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.mkl import (
    NEEDS_WIDE_INDICES,
    NO_MEMORY,
    NOT_FACTORISABLE,
    Library,
    Numbers,
    Options,
    PardisoFailureError,
)
from femadj.solvers.statistics import PivotReport

_SMALL_PIVOT = 1e-6  # ratio below which pivots of indefinite matrices are looked for elsewhere


class SinglePrecision:
    """Makes float32 factors of the matrices on one structure, which is analysed once.

    Several may be alive, each takes its own memory; one that has given way leaves it to the next.

    Attributes
    ----------
    needed_bytes : int
        Memory that the analysis and one factor take, estimated before there is one.
    analyses, factorisations : int
        Made so far. Matrices that are not definite may take a further analysis, which sees their values.

    Raises
    ------
    SolverUnavailableError
        Where MKL cannot be loaded.
    SolverMemoryError
        Where the analysis does not fit.
    """

    def __init__(self, structure: Structure, threads: int | None = None) -> None:
        self._library = Library()
        self._structure = structure
        self._lock = threading.Lock()
        self._closed = False
        self._handle: Handle | None = None
        self.analyses = self.factorisations = 0
        wide = len(structure.indices) > np.iinfo(np.int32).max
        self._options = Options(structure.kind, threads or self._library.max_threads(), wide, single=True)
        self.needed_bytes = self._analysed(None).needed_bytes

    def make(self, matrix: Matrix) -> SinglePrecisionFactor:
        """A float32 factor of this matrix.

        Raises
        ------
        ApproximationError
            Where entries or pivots do not allow for one.
        SolverMemoryError
            Where it does not fit; the next one starts with a new analysis.
        """
        start = perf_counter()
        with self._lock:
            if self._closed:
                raise SolverError("this analysis has been closed")
            rows, columns, values = rounded(matrix)
            try:
                handle, place, outcome = self._best(values)
            except PardisoFailureError as failure:
                if failure.code == NOT_FACTORISABLE:
                    where = f" of equation {failure.equation}" if failure.equation >= 0 else ""
                    raise none_because(f"the pivot{where} is zero or negative") from failure
                if failure.code in NO_MEMORY:
                    self._handle = None  # a handle that ran out of memory never works again
                    raise failure.out_of_memory() from failure
                raise
        return SinglePrecisionFactor(handle, place, (rows, columns), outcome.report, perf_counter() - start)

    def close(self) -> None:
        """Give up the analysis; factors that are alive keep what they need."""
        with self._lock:
            self._closed, self._handle = True, None

    def _analysed(self, values: Numbers | None) -> Handle:
        self._handle = analysed(self._library, self._structure, self._options, values)
        self._options = self._handle.options
        self.analyses += 1
        return self._handle

    def _best(self, values: Numbers) -> tuple[Handle, Place, Outcome]:
        """Factorise without replaced pivots, after which PARDISO refines by a rule of its own: that is not linear.

        Where there are some, or small ones for the first time, the matrix is analysed with the help of these values.
        """
        handle, place, outcome = self._factorised(values)
        report, matched = outcome.report, self._options.matched
        small = report.smallest_ratio is not None and report.smallest_ratio < _SMALL_PIVOT
        if self._structure.kind != "spd" and (report.perturbed or (small and not matched)):
            handle.retire(place)
            self._options = replace(self._options, matched=True)
            self._analysed(values)
            handle, place, outcome = self._factorised(values)
        if np.isnan(outcome.report.smallest_ratio or 0.0) and self._structure.kind == "spd":
            handle.retire(place)
            raise none_because("pivots are not finite")
        if outcome.report.perturbed:
            handle.retire(place)
            raise none_because(f"{outcome.report.perturbed} pivot(s) are too small for it")
        return handle, place, outcome

    def _factorised(self, values: Numbers) -> tuple[Handle, Place, Outcome]:
        help_of = values if self._options.matched else None
        handle = self._handle or self._analysed(help_of)
        place = handle.reserve()
        if place is None:
            handle = self._analysed(help_of)
            place = handle.reserve()
        if place is None:  # cannot happen: nobody else knows the handle yet
            raise SolverError("a new PARDISO handle has no room for a factor")
        self.factorisations += 1
        try:
            return handle, place, handle.factorise(place, values)
        except PardisoFailureError as failure:
            handle.retire(place)
            if failure.code != NEEDS_WIDE_INDICES or self._options.wide:
                raise
        except BaseException:
            handle.retire(place)
            raise
        self._options = self._options.widened()
        self._analysed(help_of)
        return self._factorised(values)


class SinglePrecisionFactor:
    """A factor in single precision, applied to vectors in double precision.

    Attributes
    ----------
    seconds : float
        Time that making it took.
    nbytes : int
        Memory of factor and analysis.
    smallest_pivot_ratio : float or None
        Smallest pivot relative to the diagonal of a positive definite matrix, to the largest pivot of others; None with
        64-bit integers. A small one is a doubt about the matrix, on which a factor in double precision has to give the
        verdict; one that is not small proves nothing: rounding makes it as large as 1e-3 in large singular ones.
    """

    name = "float32 factor"

    def __init__(
        self, handle: Handle, place: Place, scales: tuple[FloatArray, FloatArray], report: PivotReport, seconds: float
    ) -> None:
        self._handle = handle
        self._place = place
        self._scales = scales
        self.seconds = seconds
        self.nbytes = report.factor_bytes or 0
        self.smallest_pivot_ratio = report.smallest_ratio
        # Holds the handle, so that this factor outlives the analysis it came from.
        self._finalizer = weakref.finalize(self, handle.retire, place)
        self._finalizer.atexit = False

    def apply(self, r: FloatArray, *, transposed: bool) -> FloatArray:
        """Solve for the columns of ``r`` (n, k), each scaled to a largest entry of one on its way."""
        solve = partial(self._handle.solve, self._place, None, transposed=transposed)
        return applied(solve, self._scales[::-1] if transposed else self._scales, r)

    def close(self) -> None:
        """Free the factor. What is left to do with it raises SolverError."""
        self._finalizer()

    def give_way(self) -> None:
        """Close, and leave the memory to the next factor on the same structure."""
        if self._finalizer.detach():
            self._handle.give_way(self._place)


def applied(solve: Callable[[Numbers], Numbers], scales: tuple[FloatArray, FloatArray], r: FloatArray) -> FloatArray:
    """Solve in single precision for the columns of ``r`` (n, k), each scaled to a largest entry of one on its way.

    ``scales``: factors of the equations before, and of the unknowns after that.
    """
    if r.size == 0:
        return np.empty_like(r)
    before, after = scales
    block = np.multiply(r.T, before, order="C")
    sizes = np.abs(block).max(axis=1)
    sizes[sizes == 0.0] = 1.0
    block /= sizes[:, None]
    x = solve(block.astype(np.float32))
    out = np.multiply(x.T, sizes, order="C")
    out *= after[:, None]
    return out


def rounded(matrix: Matrix) -> tuple[FloatArray, FloatArray, Numbers]:
    """Scales of rows and columns, and the scaled entries in single precision.

    Positive definite matrices get a unit diagonal, others even sums of rows and columns, and the largest entry is about
    one: neither units nor jumps of coefficients leave the range of the numbers.
    """
    structure, values = matrix.structure, matrix.values
    if structure.kind == "spd":
        diagonal = values[structure.indptr[:-1]]
        if not diagonal.min() > 0.0:
            equation = int(np.argmin(diagonal > 0.0))
            raise none_because(f"diagonal entry {equation} is not positive")
        rows = columns = 1.0 / np.sqrt(diagonal)
        scaled = np.empty_like(values)
        sparse.scale(structure.indptr, structure.indices, values, rows, columns, scaled)
    else:
        rows, columns, scaled = matrix.rows, matrix.columns, matrix.equilibrated(always=True)
    largest = max(float(scaled.max()), -float(scaled.min()))
    if not 0.0 < largest < np.inf:
        raise none_because(f"the largest of the scaled entries is {largest}")
    unit = float(np.ldexp(1.0, -round(np.log2(largest))))
    return rows * unit, columns, (scaled * unit).astype(np.float32)


def none_because(reason: str) -> ApproximationError:
    """The error for a matrix without such a factor."""
    return ApproximationError(f"there is no factor in single precision: {reason}")
