"""MKL PARDISO, driven phase by phase through the library that pypardiso finds.

The wrapper class of pypardiso hashes or copies the matrix on every solve and cannot keep two factors; here
the phases are called directly on the arrays that callers hand over.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import IndefiniteSystemError, SolverError, SolverMemoryError, SolverUnavailableError
from femadj.solvers.base import Solver, Symbolic
from femadj.solvers.checks import singular_system
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import Matrix, MatrixKind, Structure
from femadj.solvers.statistics import (
    FORWARD_TOLERANCE,
    PIVOT_TOLERANCE,
    REFINEMENT_THRESHOLD,
    RESIDUAL_TOLERANCE,
    Capabilities,
    PivotReport,
)

FACTORS_PER_ANALYSIS = 8
"""Factors that can share one analysis; a place takes memory only while a factor is in it."""

WITHOUT_MKL = "FEMADJ_WITHOUT_MKL"
"""Environment variable that hides PARDISO, to see what happens where there is no MKL: any value but 0."""

_ANALYSE, _FACTORISE, _SOLVE, _RELEASE_FACTOR, _RELEASE_ALL = 11, 22, 33, 0, -1

_NO_MEMORY = (-2, -9)
_NOT_FACTORISABLE = -4
_NEEDS_WIDE_INDICES = -8
_MESSAGES = {
    -1: "inconsistent input",
    -2: "not enough memory",
    -3: "reordering failed",
    -4: "zero pivot",
    -5: "unclassified internal error",
    -6: "reordering failed",
    -7: "singular diagonal matrix",
    -8: "32-bit integer overflow",
    -9: "not enough memory for the out-of-core mode",
    -10: "the files of the out-of-core mode cannot be opened",
    -11: "the files of the out-of-core mode cannot be read or written",
    -12: "the 64-bit interface is not available in this library",
    -13: "interrupted",
    -15: "internal error",
}

# Positions in the parameter array `iparm`, counted from zero.
_CUSTOM, _ORDERING, _PERMUTATION, _REFINEMENTS, _PERTURBATION, _SCALING = 0, 1, 4, 7, 9, 10
_TRANSPOSED, _MATCHING, _PERTURBED, _PEAK_ANALYSIS, _KEPT_ANALYSIS, _KEPT_FACTOR = 11, 12, 13, 14, 15, 16
_FILL, _PIVOTING, _POSITIVE, _NEGATIVE, _FAILED_EQUATION, _ZERO_BASED, _KEEP_DIAGONAL = (
    17,
    20,
    21,
    22,
    29,
    34,
    55,
)

_NESTED_DISSECTION = 2
_BUNCH_KAUFMAN = 1
_TRANSPOSE_WITHOUT_CONJUGATION = 2
_MATRIX_TYPE: dict[MatrixKind, int] = {"spd": 2, "symmetric": -2, "general": 11}
_PERTURBATION_EXPONENT: dict[MatrixKind, int] = {"spd": 8, "symmetric": 8, "general": 13}
_REFINEMENTS_IF_PERTURBED = 2

IndexWidth = Literal["auto", 32, 64]


class _Library:
    """The four entry points of MKL that are needed, with their argument types."""

    def __init__(self) -> None:
        pointer = ctypes.c_void_p
        if os.environ.get(WITHOUT_MKL, "0") not in ("", "0"):
            raise SolverUnavailableError(f"solver 'pardiso' is hidden by {WITHOUT_MKL}={os.environ[WITHOUT_MKL]}")
        try:
            # Imported here: the search for the library takes a while and may fail, and other solvers do
            # without it.
            import pypardiso

            # A handle of our own on the same library: argument types are set per handle, and pypardiso sets
            # its own.
            library = ctypes.CDLL(pypardiso.ps.libmkl._name)
            self.pardiso, self.pardiso_64 = library.pardiso, library.pardiso_64
            self.getdiag = library.pardiso_getdiag
            self.set_threads, self.max_threads = library.MKL_Set_Num_Threads_Local, library.MKL_Get_Max_Threads
        except (ImportError, OSError, AttributeError) as error:
            raise SolverUnavailableError(
                f"solver 'pardiso' needs pypardiso and Intel MKL 2022.2.1 or newer: pip install pypardiso ({error})"
            ) from error
        for function in (self.pardiso, self.pardiso_64):
            function.restype, function.argtypes = None, [pointer] * 16
        self.getdiag.restype, self.getdiag.argtypes = None, [pointer] * 5
        self.set_threads.restype, self.set_threads.argtypes = ctypes.c_int, [ctypes.c_int]
        self.max_threads.restype, self.max_threads.argtypes = ctypes.c_int, []


@dataclass(frozen=True)
class _Options:
    """How a structure is analysed; all handles of a :class:`PardisoSymbolic` differ in nothing else."""

    kind: MatrixKind
    threads: int
    wide: bool
    """64-bit integers."""
    matched: bool = False
    """Permute large entries to the diagonal and scale, as the values at the analysis want it."""

    def more_careful(self) -> _Options | None:
        """What to try next where a factor is not accurate, at a higher price; None where nothing is left.

        Matching and scaling; then, for symmetric matrices, pivots that need not be symmetric.
        """
        if not self.matched:
            return replace(self, matched=True)
        return replace(self, kind="general") if self.kind == "symmetric" else None


class _PardisoFailureError(SolverError):
    """A non-zero error code of PARDISO, translated or passed on by the callers below."""

    def __init__(self, code: int, phase: int, equation: int, needed_bytes: int = 0) -> None:
        super().__init__(f"PARDISO failed in phase {phase}: {_MESSAGES.get(code, 'unknown error')} ({code})")
        self.code = code
        self.equation = equation
        self.needed_bytes = needed_bytes

    def out_of_memory(self) -> SolverMemoryError:
        """The same as the error that callers see."""
        needed = f": about {self.needed_bytes / 1e9:.2g} GB are needed" if self.needed_bytes else ""
        return SolverMemoryError(
            f"{self}{needed}. Close or drop factors and solutions that are no longer used, use a coarser mesh, or "
            "make more memory available; the next factorisation starts afresh",
            self.needed_bytes or None,
        )


class _Native:
    """One PARDISO handle: its arrays and the raw call. Not locked, not freed by itself."""

    def __init__(self, library: _Library, structure: Structure, options: _Options) -> None:
        self.mkl = library
        self.options = options
        self.n = structure.n
        self.integer: type[np.int32 | np.int64] = np.int64 if options.wide else np.int32
        self._function = library.pardiso_64 if options.wide else library.pardiso
        self._indptr = np.ascontiguousarray(structure.indptr, self.integer)
        self._indices = np.ascontiguousarray(structure.indices, self.integer)
        self._handle = np.zeros(64, np.int64)
        self._unused = np.zeros(1)
        # The elimination order, to name the equation of a small pivot. Rows and columns are not swapped only
        # for spd.
        self.order: npt.NDArray[np.integer] = np.zeros(self.n if options.kind == "spd" else 1, self.integer)
        self.iparm = np.zeros(64, self.integer)
        self.iparm[_CUSTOM] = 1
        self.iparm[_ORDERING] = _NESTED_DISSECTION
        self.iparm[_PERMUTATION] = 2 if options.kind == "spd" else 0
        self.iparm[_PERTURBATION] = _PERTURBATION_EXPONENT[options.kind]
        self.iparm[_SCALING] = self.iparm[_MATCHING] = int(options.matched)
        self.iparm[_FILL] = -1
        self.iparm[_PIVOTING] = _BUNCH_KAUFMAN
        self.iparm[_ZERO_BASED] = 1
        self.iparm[_KEEP_DIAGONAL] = int(self.has_diagonal)

    @property
    def has_diagonal(self) -> bool:
        """Whether pivots can be read: the routine has no 64-bit variant and crashes on such a handle."""
        return not self.options.wide

    def call(
        self,
        phase: int,
        slot: int = 1,
        values: FloatArray | None = None,
        b: FloatArray | None = None,
        x: FloatArray | None = None,
    ) -> None:
        """Run a phase on a factor's place (from 1); raise _PardisoFailureError on an error code."""
        right_hand_sides = 1 if b is None else len(b)
        mtype = _MATRIX_TYPE[self.options.kind]
        scalars = np.array([FACTORS_PER_ANALYSIS, slot, mtype, phase, self.n, right_hand_sides, 0, 0], self.integer)
        base, step = scalars.ctypes.data, scalars.itemsize
        maximum, number, matrix_type, phase_, n, columns, quiet, error = (base + i * step for i in range(8))
        a, rhs, solution = ((self._unused if array is None else array).ctypes.data for array in (values, b, x))
        # Factorising with other threads than analysing gives wrong numbers without a word: the number is
        # pinned, and only for this (Python) thread.
        previous = self.mkl.set_threads(self.options.threads)
        try:
            self._function(
                self._handle.ctypes.data,
                maximum,
                number,
                matrix_type,
                phase_,
                n,
                a,
                self._indptr.ctypes.data,
                self._indices.ctypes.data,
                self.order.ctypes.data,
                columns,
                self.iparm.ctypes.data,
                quiet,
                rhs,
                solution,
                error,
            )
        finally:
            self.mkl.set_threads(previous)
        if scalars[7]:
            equation = int(self.iparm[_FAILED_EQUATION]) - 1
            raise _PardisoFailureError(int(scalars[7]), phase, equation, self.needed_bytes())

    def needed_bytes(self) -> int:
        """Memory for analysis and factor as far as PARDISO knows, 0 where it does not."""
        peak, kept, factor = (int(self.iparm[k]) for k in (_PEAK_ANALYSIS, _KEPT_ANALYSIS, _KEPT_FACTOR))
        return 1024 * max(peak, kept + factor, 0)

    def pivots(self, slot: int) -> tuple[FloatArray, FloatArray]:
        """Pivots and the diagonal before elimination, both in elimination order, each (n,)."""
        pivots, diagonal = np.empty(self.n), np.empty(self.n)
        scalars = np.array([slot, 0], np.int32)
        base = scalars.ctypes.data
        self.mkl.getdiag(
            self._handle.ctypes.data,
            pivots.ctypes.data,
            diagonal.ctypes.data,
            base,
            base + scalars.itemsize,
        )
        if scalars[1]:
            raise SolverError(f"PARDISO did not return the pivots ({int(scalars[1])})")
        return pivots, diagonal


class _Outcome(NamedTuple):
    """What a successful factorisation left behind."""

    report: PivotReport
    smallest_equation: int | None


class _Handle:
    """A PARDISO handle with its analysis and places for several factors; safe to share between threads.

    Freed when nobody holds it any more: the analysis while it makes factors from it, and each of these
    factors.
    """

    def __init__(
        self, library: _Library, structure: Structure, options: _Options, values: FloatArray | None = None
    ) -> None:
        self.options = options
        self._native = _Native(library, structure, options)
        self._lock = threading.Lock()
        self._vacant = deque(range(1, FACTORS_PER_ANALYSIS + 1))
        self._retired: deque[int] = deque()
        self._alive: set[int] = set()
        # Not at exit: the operating system takes the memory back, and the library may be gone by then.
        finalizer = weakref.finalize(self, self._native.call, _RELEASE_ALL)
        finalizer.atexit = False
        self._native.call(_ANALYSE, values=values)
        iparm = self._native.iparm
        self._fill = int(iparm[_FILL])
        self._peak_analysis, self._kept_analysis = int(iparm[_PEAK_ANALYSIS]), int(iparm[_KEPT_ANALYSIS])

    def reserve(self) -> int | None:
        """Take a place for a factor; None if all are taken."""
        self._release_retired()
        try:
            return self._vacant.popleft()
        except IndexError:
            return None

    def retire(self, slot: int) -> None:
        """Give up the factor in this place; called by finalizers, at any moment and in any thread."""
        self._retired.append(slot)
        self._release_retired()

    def _release_retired(self) -> None:
        # A finalizer may run in the middle of a call on this very handle and must not wait for it: whoever
        # holds the lock looks here again when done.
        while self._retired and self._lock.acquire(blocking=False):
            try:
                while self._retired:
                    slot = self._retired.popleft()
                    self._alive.discard(slot)
                    self._native.call(_RELEASE_FACTOR, slot)
                    self._vacant.append(slot)
            finally:
                self._lock.release()

    def factorise(self, slot: int, values: FloatArray) -> _Outcome:
        """Factorise into a reserved place."""
        try:
            with self._lock:
                self._native.call(_FACTORISE, slot, values)
                self._alive.add(slot)
                return self._outcome(slot)
        finally:
            self._release_retired()

    def _outcome(self, slot: int) -> _Outcome:
        native, kind = self._native, self.options.kind
        iparm = native.iparm
        perturbed = int(iparm[_PERTURBED])
        kept = (self._kept_analysis + int(iparm[_KEPT_FACTOR])) * 1024
        report = PivotReport(
            fill_nnz=self._fill if self._fill > 0 else None,
            factor_bytes=kept,
            peak_bytes=max(kept, self._peak_analysis * 1024),
            perturbed=perturbed,
            replacement=10.0 ** -_PERTURBATION_EXPONENT[kind],
        )
        if kind == "symmetric":
            report = report._replace(inertia=(int(iparm[_POSITIVE]), int(iparm[_NEGATIVE])))
        elif kind == "spd":
            report = report._replace(inertia=(native.n, 0))
        if not native.has_diagonal:
            return _Outcome(report, None)
        pivots, diagonal = native.pivots(slot)
        if kind == "spd":
            pivots /= diagonal
            smallest = int(np.argmin(pivots))
            report = report._replace(smallest_ratio=float(pivots[smallest]), largest_ratio=float(pivots.max()))
            return _Outcome(report, int(native.order[smallest]))
        np.abs(pivots, out=pivots)
        largest = float(pivots.max())
        ratio = float(pivots.min()) / largest if 0.0 < largest < np.inf else float("nan")
        report = report._replace(smallest_ratio=ratio, largest_ratio=1.0)
        # Replaced or small pivots are usual in saddle point systems: a doubt, not a verdict.
        return _Outcome(report, None)

    def solve(self, slot: int, values: FloatArray, block: FloatArray, *, transposed: bool, refine: int) -> FloatArray:
        """Solve with the factor in this place for the rows of a (k, n) block."""
        x = np.empty_like(block)
        try:
            with self._lock:
                if slot not in self._alive:
                    raise SolverError("this factor has been closed")
                self._native.iparm[_TRANSPOSED] = _TRANSPOSE_WITHOUT_CONJUGATION if transposed else 0
                self._native.iparm[_REFINEMENTS] = refine
                self._native.call(_SOLVE, slot, values, block, x)
        finally:
            self._release_retired()
        return x


class PardisoSolver(Solver):
    """Intel MKL PARDISO.

    Parameters
    ----------
    threads : int, optional
        Threads for every phase; by default what MKL would use at the time of the analysis.
    residual_tolerance, refinement_threshold, pivot_tolerance, forward_tolerance : float
        See :class:`femadj.solvers.base.Solver`.
    index_width : "auto", 32 or 64
        Integers of the library. ``"auto"`` starts with 32 bits and changes to 64 where the factor needs them.

    Raises
    ------
    SolverUnavailableError
        If pypardiso or MKL cannot be loaded, or are hidden by :data:`WITHOUT_MKL`.
    """

    name = "pardiso"
    capabilities = Capabilities(
        kinds=frozenset({"spd", "symmetric", "general"}),
        transpose=True,
        many_right_hand_sides=True,
        reuses_analysis=True,
        factors_per_analysis=FACTORS_PER_ANALYSIS,
        values_in_place=False,
        inertia=True,
        device="cpu",
    )

    def __init__(
        self,
        *,
        threads: int | None = None,
        residual_tolerance: float = RESIDUAL_TOLERANCE,
        refinement_threshold: float = REFINEMENT_THRESHOLD,
        pivot_tolerance: float = PIVOT_TOLERANCE,
        forward_tolerance: float = FORWARD_TOLERANCE,
        index_width: IndexWidth = "auto",
    ) -> None:
        super().__init__(
            threads=threads,
            residual_tolerance=residual_tolerance,
            refinement_threshold=refinement_threshold,
            pivot_tolerance=pivot_tolerance,
            forward_tolerance=forward_tolerance,
        )
        if index_width not in ("auto", 32, 64):
            raise SolverError(f"index_width must be 'auto', 32 or 64, got {index_width!r}")
        self.index_width: IndexWidth = index_width
        self._library = _Library()

    def _analyse(self, structure: Structure, threads: int | None) -> PardisoSymbolic:
        return PardisoSymbolic(self, self._library, structure, threads or self._library.max_threads())


class PardisoSymbolic(Symbolic):
    """An analysed structure. Up to :data:`FACTORS_PER_ANALYSIS` factors share one analysis."""

    def __init__(self, solver: PardisoSolver, library: _Library, structure: Structure, threads: int) -> None:
        super().__init__(structure, solver.tolerances)
        self._library = library
        self._may_widen = solver.index_width == "auto"
        wide = solver.index_width == 64 or (self._may_widen and len(structure.indices) > np.iinfo(np.int32).max)
        self._lock = threading.Lock()
        self._options = _Options(structure.kind, threads, wide)
        # Handles on which new factors may be made. One that is given up here lives on with its factors.
        self._handles: list[_Handle] = []
        self._add_handle(self._options, None)

    @property
    def threads(self) -> int:
        """Threads used for every phase on this structure."""
        return self._options.threads

    @property
    def index_width(self) -> int:
        """Bits of the integers in use, 32 or 64."""
        return 64 if self._options.wide else 32

    def _add_handle(self, options: _Options, values: FloatArray | None) -> _Handle:
        """Analyse with these options, and with values :meth:`_arranged` for them; all further handles have the same."""
        structure = self._structure if options.kind == self.kind else self._structure.whole[0]
        try:
            handle = _Handle(self._library, structure, options, values)
        except _PardisoFailureError as failure:
            if failure.code == _NEEDS_WIDE_INDICES and self._may_widen and not options.wide:
                return self._add_handle(_widened(options), values)
            if failure.code in _NO_MEMORY:
                raise failure.out_of_memory() from failure
            raise
        if options != self._options:
            self._handles.clear()
        self._options = options
        self._handles.append(handle)
        self.analyses += 1
        return handle

    def _reserve(self, values: FloatArray) -> tuple[_Handle, int]:
        """A handle with a vacant place, and the place."""
        for handle in self._handles:
            slot = handle.reserve()
            if slot is not None:
                return handle, slot
        handle = self._add_handle(self._options, values if self._options.matched else None)
        slot = handle.reserve()
        if slot is None:  # cannot happen: nobody else knows the handle yet
            raise SolverError("a new PARDISO handle has no room for a factor")
        return handle, slot

    def _arranged(self, values: FloatArray, options: _Options) -> FloatArray:
        """Values on the structure that is analysed with these options."""
        return values if options.kind == self.kind else values[self._structure.whole[1]]

    def _factor(self, matrix: Matrix) -> PardisoFactor:
        values = matrix.equilibrated()
        with self._lock:
            try:
                return self._make_factor(matrix, values)
            except _PardisoFailureError as failure:
                if failure.code == _NEEDS_WIDE_INDICES and self._may_widen and not self._options.wide:
                    self._add_handle(_widened(self._options), self._arranged(values, self._options))
                    return self._make_factor(matrix, values)
                if failure.code in _NO_MEMORY:
                    self._handles.clear()  # a handle that ran out of memory never works again
                    raise failure.out_of_memory() from failure
                raise

    def _make_factor(self, matrix: Matrix, values: FloatArray) -> PardisoFactor:
        """Factorise, and look closer where pivots raise doubts.

        The plain elimination order may not suit these values: then they are analysed with their help, once; new values
        are tried on that analysis first.
        """
        factor, outcome = self._factorise(matrix, values)
        smallest = outcome.report.smallest_ratio
        if self.kind == "spd" and smallest is not None:
            if not smallest >= self.tolerances.pivot:
                unknowns = factor.examine().unknowns
                factor.close()
                equation = [outcome.smallest_equation or 0]
                raise singular_system(unknowns if len(unknowns) else equation, f"pivot ratio {smallest:.1e}")
            return factor
        stale, options = True, self._options
        while outcome.report.doubtful(self._structure):
            verdict = factor.examine()
            if verdict.verdict == "singular":
                factor.close()
                raise singular_system(verdict.unknowns)
            careful = options if options.matched and stale else options.more_careful()
            if self.kind == "spd" or careful is None or verdict.verdict == "regular":
                break
            factor.close()
            self._handles.clear()
            stale, options = False, careful
            self._add_handle(options, self._arranged(values, options))
            factor, outcome = self._factorise(matrix, values)
        return factor

    def _factorise(self, matrix: Matrix, values: FloatArray) -> tuple[PardisoFactor, _Outcome]:
        values = self._arranged(values, self._options)
        handle, slot = self._reserve(values)
        self.factorisations += 1
        try:
            outcome = handle.factorise(slot, values)
        except _PardisoFailureError as failure:
            handle.retire(slot)
            if failure.code != _NOT_FACTORISABLE:
                raise
            if self.kind == "spd":
                raise self._not_positive_definite(matrix, failure.equation) from None
            raise singular_system([failure.equation], "zero pivot") from failure
        except BaseException:
            handle.retire(slot)
            raise
        return PardisoFactor(self, handle, slot, matrix, values, outcome.report), outcome

    def _not_positive_definite(self, matrix: Matrix, equation: int) -> SolverError:
        """Tell a negative pivot from one negative by rounding only, by a symmetric factorisation."""
        # Scaled to a diagonal near one, because the size below which PARDISO replaces pivots is an absolute one.
        values = matrix.equilibrated(always=True)
        options = _Options("symmetric", self._options.threads, self._options.wide)
        handle = _Handle(self._library, self._structure, options)
        outcome = handle.factorise(1, values)
        inertia, perturbed = outcome.report.inertia, outcome.report.perturbed
        if inertia is not None and perturbed is not None and inertia[1] <= perturbed:
            return singular_system([equation], f"{perturbed} pivot(s) vanish, none is negative")
        return IndefiniteSystemError(
            f"the matrix is not positive definite: the pivot of equation {equation} is negative", equation
        )

    def _free(self) -> None:
        with self._lock:
            self._handles.clear()


def _widened(options: _Options) -> _Options:
    return replace(options, wide=True)


class PardisoFactor(Factor):
    """A factor in one of the places of a PARDISO handle."""

    def __init__(
        self,
        symbolic: PardisoSymbolic,
        handle: _Handle,
        slot: int,
        matrix: Matrix,
        values: FloatArray,
        report: PivotReport,
    ) -> None:
        super().__init__(matrix, report, symbolic.tolerances)
        self._handle = handle
        # PARDISO reads the values where it refines by itself, which it does after replacing pivots: a scaled copy is
        # kept then, else any array of their length will do.
        self._values = values if report.perturbed or len(values) != len(matrix.values) else matrix.values
        self._slot = slot
        # Holds the handle, so that this factor outlives the analysis it came from.
        self._finalizer = weakref.finalize(self, handle.retire, slot)
        self._finalizer.atexit = False

    def _solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        refine = _REFINEMENTS_IF_PERTURBED if self._report.perturbed else 0
        return self._handle.solve(self._slot, self._values, block, transposed=transposed, refine=refine)

    def _free(self) -> None:
        self._finalizer()
