"""MKL PARDISO, called phase by phase on the arrays of its callers, in double or single precision.

The wrapper class of pypardiso, which finds the library, hashes or copies the matrix on every solve and cannot keep two
factors.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import SolverError, SolverMemoryError, SolverUnavailableError
from femadj.solvers.matrix import MatrixKind, Structure

WITHOUT_MKL = "FEMADJ_WITHOUT_MKL"
"""Environment variable that hides PARDISO, to see what happens where there is no MKL: any value but 0."""

FACTORS_PER_ANALYSIS = 8
"""Factors that can share one analysis; a place takes memory only while a factor is in it."""

Numbers = npt.NDArray[np.floating[Any]]
"""Values and right-hand sides in the precision of a handle."""

Number = TypeVar("Number", bound=np.floating[Any])

ANALYSE, FACTORISE, SOLVE, RELEASE_FACTOR, RELEASE_ALL = 11, 22, 33, 0, -1

NO_MEMORY = (-2, -9)
NOT_FACTORISABLE = -4
NEEDS_WIDE_INDICES = -8
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
_CUSTOM, _ORDERING, _PERMUTATION, REFINEMENTS, _PERTURBATION, _SCALING = 0, 1, 4, 7, 9, 10
TRANSPOSED, _MATCHING, PERTURBED, PEAK_ANALYSIS, KEPT_ANALYSIS, KEPT_FACTOR = 11, 12, 13, 14, 15, 16
FILL, _PIVOTING, POSITIVE, NEGATIVE, _SINGLE, _FAILED_EQUATION, _ZERO_BASED, _KEEP_DIAGONAL = (
    17,
    20,
    21,
    22,
    27,
    29,
    34,
    55,
)

_NESTED_DISSECTION = 2
_BUNCH_KAUFMAN = 1
TRANSPOSE_WITHOUT_CONJUGATION = 2
_MATRIX_TYPE: dict[MatrixKind, int] = {"spd": 2, "symmetric": -2, "general": 11}
_PERTURBATION_EXPONENT: dict[MatrixKind, int] = {"spd": 8, "symmetric": 8, "general": 13}
_SINGLE_PERTURBATION_EXPONENT = 5


class Library:
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
class Options:
    """How a structure is analysed."""

    kind: MatrixKind
    threads: int
    wide: bool
    """64-bit integers."""
    matched: bool = False
    """Permute large entries to the diagonal and scale, as the values at the analysis want it."""
    single: bool = False
    """Factor in single precision; values and right-hand sides are handed over in it, too."""

    @property
    def replacement(self) -> int:
        """The power of ten that pivots are replaced below, relative to the norm of the matrix, with its sign turned."""
        return _SINGLE_PERTURBATION_EXPONENT if self.single else _PERTURBATION_EXPONENT[self.kind]

    def widened(self) -> Options:
        """The same with 64-bit integers."""
        return replace(self, wide=True)

    def more_careful(self) -> Options | None:
        """What to try next where a factor is not accurate, at a higher price; None where nothing is left.

        Matching and scaling; then, for symmetric matrices, pivots that need not be symmetric.
        """
        if not self.matched:
            return replace(self, matched=True)
        return replace(self, kind="general") if self.kind == "symmetric" else None


class PardisoFailureError(SolverError):
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


class Native:
    """One PARDISO handle: its arrays and the raw call. Not locked, not freed by itself."""

    def __init__(self, library: Library, structure: Structure, options: Options) -> None:
        self.mkl = library
        self.options = options
        self.n = structure.n
        self.integer: type[np.int32 | np.int64] = np.int64 if options.wide else np.int32
        self.number: type[np.float32 | np.float64] = np.float32 if options.single else np.float64
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
        self.iparm[_PERTURBATION] = options.replacement
        self.iparm[_SCALING] = self.iparm[_MATCHING] = int(options.matched)
        self.iparm[FILL] = -1
        self.iparm[_PIVOTING] = _BUNCH_KAUFMAN
        self.iparm[_ZERO_BASED] = 1
        self.iparm[_SINGLE] = int(options.single)
        self.iparm[_KEEP_DIAGONAL] = int(self.has_diagonal)

    @property
    def has_diagonal(self) -> bool:
        """Whether pivots can be read: the routine has no 64-bit variant and crashes on such a handle."""
        return not self.options.wide

    def call(
        self,
        phase: int,
        slot: int = 1,
        values: Numbers | None = None,
        b: Numbers | None = None,
        x: Numbers | None = None,
    ) -> None:
        """Run a phase on a factor's place (from 1); raise PardisoFailureError on an error code."""
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
            raise PardisoFailureError(int(scalars[7]), phase, equation, self.needed_bytes())

    def needed_bytes(self) -> int:
        """Memory for analysis and factor as far as PARDISO knows, 0 where it does not."""
        peak, kept, factor = (int(self.iparm[k]) for k in (PEAK_ANALYSIS, KEPT_ANALYSIS, KEPT_FACTOR))
        return 1024 * max(peak, kept + factor, 0)

    def pivots(self, slot: int) -> tuple[FloatArray, FloatArray]:
        """Pivots and the diagonal before elimination, both in elimination order, each (n,)."""
        pivots, diagonal = np.empty(self.n, self.number), np.empty(self.n, self.number)
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
        with np.errstate(invalid="ignore"):  # they are NaN where single precision is not enough
            return pivots.astype(np.float64), diagonal.astype(np.float64)
