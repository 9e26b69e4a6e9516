"""MKL PARDISO in double precision: analyses, factors, and what to try where pivots raise doubts."""

from __future__ import annotations

import threading
import weakref
from typing import Literal

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import IndefiniteSystemError, SolverError
from femadj.solvers.base import Solver, Symbolic
from femadj.solvers.checks import singular_system
from femadj.solvers.factor import Factor
from femadj.solvers.handle import Handle, Outcome, Place, analysed
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.mkl import (
    FACTORS_PER_ANALYSIS,
    NEEDS_WIDE_INDICES,
    NO_MEMORY,
    NOT_FACTORISABLE,
    Library,
    Options,
    PardisoFailureError,
)
from femadj.solvers.single import SinglePrecision
from femadj.solvers.statistics import (
    FORWARD_TOLERANCE,
    PIVOT_TOLERANCE,
    REFINEMENT_THRESHOLD,
    RESIDUAL_TOLERANCE,
    Capabilities,
    PivotReport,
)

IndexWidth = Literal["auto", 32, 64]

_REFINEMENTS_IF_PERTURBED = 2


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
        If pypardiso or MKL cannot be loaded, or are hidden by :data:`~femadj.solvers.mkl.WITHOUT_MKL`.
    """

    name = "pardiso"
    in_single_precision = SinglePrecision
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
        self._library = Library()

    def _analyse(self, structure: Structure, threads: int | None) -> PardisoSymbolic:
        return PardisoSymbolic(self, self._library, structure, threads or self._library.max_threads())


class PardisoSymbolic(Symbolic):
    """An analysed structure. Up to :data:`FACTORS_PER_ANALYSIS` factors share one analysis."""

    def __init__(self, solver: PardisoSolver, library: Library, structure: Structure, threads: int) -> None:
        super().__init__(structure, solver.tolerances)
        self._library = library
        self._may_widen = solver.index_width == "auto"
        wide = solver.index_width == 64 or (self._may_widen and len(structure.indices) > np.iinfo(np.int32).max)
        self._lock = threading.Lock()
        self._options = Options(structure.kind, threads, wide)
        # Handles on which new factors may be made. One that is given up here lives on with its factors.
        self._handles: list[Handle] = []
        self._needed_bytes = self._add_handle(self._options, None).needed_bytes

    @property
    def threads(self) -> int:
        """Threads used for every phase on this structure."""
        return self._options.threads

    @property
    def index_width(self) -> int:
        """Bits of the integers in use, 32 or 64."""
        return 64 if self._options.wide else 32

    @property
    def needed_bytes(self) -> int:
        return self._needed_bytes

    def _add_handle(self, options: Options, values: FloatArray | None) -> Handle:
        """Analyse with these options, and with values :meth:`_arranged` for them; all further handles have the same."""
        structure = self._structure if options.kind == self.kind else self._structure.whole[0]
        handle = analysed(self._library, structure, options, values, may_widen=self._may_widen)
        if handle.options != self._options:
            self._handles.clear()
        self._options = handle.options
        self._handles.append(handle)
        self.analyses += 1
        return handle

    def _reserve(self, values: FloatArray) -> tuple[Handle, Place]:
        """A handle with a vacant place, and the place."""
        for handle in self._handles:
            place = handle.reserve()
            if place is not None:
                return handle, place
        handle = self._add_handle(self._options, values if self._options.matched else None)
        place = handle.reserve()
        if place is None:  # cannot happen: nobody else knows the handle yet
            raise SolverError("a new PARDISO handle has no room for a factor")
        return handle, place

    def _arranged(self, values: FloatArray, options: Options) -> FloatArray:
        """Values on the structure that is analysed with these options."""
        return values if options.kind == self.kind else values[self._structure.whole[1]]

    def _factor(self, matrix: Matrix) -> PardisoFactor:
        values = matrix.equilibrated()
        with self._lock:
            try:
                return self._make_factor(matrix, values)
            except PardisoFailureError as failure:
                if failure.code == NEEDS_WIDE_INDICES and self._may_widen and not self._options.wide:
                    self._add_handle(self._options.widened(), self._arranged(values, self._options))
                    return self._make_factor(matrix, values)
                if failure.code in NO_MEMORY:
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

    def _factorise(self, matrix: Matrix, values: FloatArray) -> tuple[PardisoFactor, Outcome]:
        values = self._arranged(values, self._options)
        handle, place = self._reserve(values)
        self.factorisations += 1
        try:
            outcome = handle.factorise(place, values)
        except PardisoFailureError as failure:
            handle.retire(place)
            if failure.code != NOT_FACTORISABLE:
                raise
            if self.kind == "spd":
                raise self._not_positive_definite(matrix, failure.equation) from None
            raise singular_system([failure.equation], "zero pivot") from failure
        except BaseException:
            handle.retire(place)
            raise
        return PardisoFactor(self, handle, place, matrix, values, outcome.report), outcome

    def _not_positive_definite(self, matrix: Matrix, equation: int) -> SolverError:
        """Tell a negative pivot from one negative by rounding only, by a symmetric factorisation."""
        # Scaled to a diagonal near one, because the size below which PARDISO replaces pivots is an absolute one.
        values = matrix.equilibrated(always=True)
        options = Options("symmetric", self._options.threads, self._options.wide)
        handle = Handle(self._library, self._structure, options)
        outcome = handle.factorise(Place(1, 0), values)
        inertia, perturbed = outcome.report.inertia, outcome.report.perturbed
        if inertia is not None and perturbed is not None and inertia[1] <= perturbed:
            return singular_system([equation], f"{perturbed} pivot(s) vanish, none is negative")
        return IndefiniteSystemError(
            f"the matrix is not positive definite: the pivot of equation {equation} is negative", equation
        )

    def _free(self) -> None:
        with self._lock:
            self._handles.clear()


class PardisoFactor(Factor):
    """A factor in one of the places of a PARDISO handle."""

    def __init__(
        self,
        symbolic: PardisoSymbolic,
        handle: Handle,
        place: Place,
        matrix: Matrix,
        values: FloatArray,
        report: PivotReport,
    ) -> None:
        super().__init__(matrix, report, symbolic.tolerances)
        self._handle = handle
        # PARDISO reads the values where it refines by itself, which it does after replacing pivots: a scaled copy is
        # kept then, else any array of their length will do.
        self._values = values if report.perturbed or len(values) != len(matrix.values) else matrix.values
        self._place = place
        # Holds the handle, so that this factor outlives the analysis it came from.
        self._finalizer = weakref.finalize(self, handle.retire, place)
        self._finalizer.atexit = False

    def _solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        refine = _REFINEMENTS_IF_PERTURBED if self._report.perturbed else 0
        return self._handle.solve(self._place, self._values, block, transposed=transposed, refine=refine)

    def give_way(self) -> None:
        """Close, and leave the memory to the next factor of the analysis: that spares the time to ask for it."""
        if not self._closed:
            self._closed = True
            if self._finalizer.detach():
                self._handle.give_way(self._place)

    def _free(self) -> None:
        self._finalizer()
