"""Sparse factorisation on a GPU by NVIDIA cuDSS: analyses, factors, and what to try where pivots raise doubts."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cache, partial
from typing import Any

from femadj.base.cuda import CuPyArrays, DeviceArrays, device_arrays
from femadj.errors import IndefiniteSystemError, SolverError
from femadj.solvers import cudss
from femadj.solvers.base import MatrixMaker, Solver, Symbolic
from femadj.solvers.checks import singular_system
from femadj.solvers.cuda_factor import CudaFactor, arranged, factorised
from femadj.solvers.cuda_single import CudaSinglePrecision
from femadj.solvers.cudss import Library
from femadj.solvers.cudss_check import Findings, checked
from femadj.solvers.cudss_pool import Pool
from femadj.solvers.cudss_system import Context, Options, Pattern
from femadj.solvers.device_matrix import DeviceMatrix, Products
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.preconditioner import Approximation
from femadj.solvers.statistics import (
    FORWARD_TOLERANCE,
    PIVOT_TOLERANCE,
    REFINEMENT_THRESHOLD,
    RESIDUAL_TOLERANCE,
    Capabilities,
)


class CudaSolver(Solver):
    """NVIDIA cuDSS, 1.0 or newer, on the current CUDA device.

    Matrices are factorised and solved with on the device; values and right-hand sides come from the host, and solutions
    go back there.

    Parameters
    ----------
    threads : int, optional
        Threads of the host for finding an order of elimination.
    residual_tolerance, refinement_threshold, pivot_tolerance, forward_tolerance : float
        See :class:`femadj.solvers.base.Solver`.
    deterministic : bool
        The same bits for the same matrix on the same kind of device; right-hand sides are solved one by one then.
    library : str or Library, optional
        Path of the library, by default what :func:`femadj.solvers.cudss.installed` finds.
    arrays : DeviceArrays, optional
        Where arrays on the device come from, by default CuPy.

    Raises
    ------
    SolverUnavailableError
        Without CuPy, a driver, a device, or the library.
    """

    name = "cuda"
    capabilities = Capabilities(
        kinds=frozenset({"spd", "symmetric", "general"}),
        transpose=True,
        many_right_hand_sides=True,
        reuses_analysis=True,
        factors_per_analysis=None,
        values_in_place=False,
        inertia=True,
        device="cuda",
    )

    def __init__(
        self,
        *,
        threads: int | None = None,
        residual_tolerance: float = RESIDUAL_TOLERANCE,
        refinement_threshold: float = REFINEMENT_THRESHOLD,
        pivot_tolerance: float = PIVOT_TOLERANCE,
        forward_tolerance: float = FORWARD_TOLERANCE,
        deterministic: bool = False,
        library: Library | str | None = None,
        arrays: DeviceArrays | None = None,
    ) -> None:
        super().__init__(
            threads=threads,
            residual_tolerance=residual_tolerance,
            refinement_threshold=refinement_threshold,
            pivot_tolerance=pivot_tolerance,
            forward_tolerance=forward_tolerance,
        )
        self.deterministic = deterministic
        self.arrays = device_arrays() if arrays is None else arrays
        self.api = library if isinstance(library, Library) else cudss.installed(library)
        # Solvers on what was found share its context: it is checked once in a process.
        shared = arrays is None and not isinstance(library, Library)
        self._make = (
            partial(_shared, self.api, device_arrays()) if shared else partial(_on_device, self.api, self.arrays)
        )
        self._lock = threading.Lock()
        self._ready: tuple[Context, Findings] | None = None

    def ready(self) -> tuple[Context, Findings]:
        """The library's context on the device and what it was found to do there; made, and checked, once.

        Raises
        ------
        SolverUnavailableError
            If the library does not work there, or solves small systems wrongly.
        """
        with self._lock:
            if self._ready is None:
                self._ready = self._make()
            return self._ready

    @property
    def version(self) -> str:
        """Version of the library."""
        return ".".join(map(str, self.api.version))

    def _analyse(self, structure: Structure, threads: int | None) -> CudaSymbolic:
        return CudaSymbolic(self, structure, threads)

    def matrices(self, structure: Structure) -> MatrixMaker:
        return partial(DeviceMatrix, Products(self.arrays, structure))

    def in_single_precision(self, structure: Structure, threads: int | None) -> Approximation:
        """Its factors in single precision."""
        options = Options(structure.kind, threads or self.threads, self.deterministic, single=True)
        return CudaSinglePrecision(self.ready()[0], structure, options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} by cuDSS {self.version}>"


def _on_device(library: Library, arrays: DeviceArrays) -> tuple[Context, Findings]:
    context = Context(library, arrays)
    return context, checked(context)


@cache
def _shared(library: Library, arrays: CuPyArrays) -> tuple[Context, Findings]:
    return _on_device(library, arrays)


class CudaSymbolic(Symbolic):
    """An analysed structure. All its factors share one order of elimination.

    One that is closed or dropped leaves its memory on the device to the next, until the analysis is closed.
    """

    def __init__(self, solver: CudaSolver, structure: Structure, threads: int | None) -> None:
        super().__init__(structure, solver.tolerances, solver.matrices(structure))
        self._context, self._findings = solver.ready()
        self._lock = threading.Lock()
        kind = self._findings.definite if structure.kind == "spd" else structure.kind
        self._pool = self._pool_for(Options(kind, threads, solver.deterministic))
        self._needed_bytes = self._pool.needed_bytes
        self._ordered_before = 0

    @property
    def analyses(self) -> int:  # type: ignore[override]
        """Orders of elimination found so far."""
        return self._ordered_before + self._pool.ordered

    @property
    def needed_bytes(self) -> int:
        return self._needed_bytes

    def _pool_for(self, options: Options, values: Any = None) -> Pool:
        structure = self._structure.whole[0] if self._both(options) else self._structure
        return Pool(Pattern(self._context, structure), options, values=values)

    def _both(self, options: Options) -> bool:
        """Whether both triangles of a symmetric matrix are wanted."""
        return options.kind == "general" and self._structure.upper

    def _factorised(self, matrix: Matrix, *, afresh: bool = False, shifted: bool = False) -> CudaFactor:
        """A factor whose pivots have not been looked at; arguments as for :func:`factorised`."""
        self.factorisations += 1
        return factorised(self._pool, matrix, self.tolerances, self._findings, afresh=afresh, shifted=shifted)

    def _factor(self, matrix: Matrix) -> CudaFactor:
        with self._lock:
            return self._definite(matrix) if self.kind == "spd" else self._any(matrix)

    def _definite(self, matrix: Matrix) -> CudaFactor:
        """A factor of a positive definite matrix, or the error that tells what it is instead."""
        factor = self._factorised(matrix)
        ratio, inertia = factor.report.smallest_ratio, factor.report.inertia
        negative = (ratio is not None and not ratio > 0.0) or (inertia is not None and inertia[1] > 0)
        if factor.broken or negative:
            factor.close()
            self._pool.forget()  # memory for another look
            raise self._refused(matrix, factor.equation) or singular_system([factor.equation or 0], "zero pivot")
        verdict = factor.examine() if ratio is None else None  # the library tells no pivots
        if verdict is not None and verdict.verdict != "regular":
            singular = verdict.verdict == "singular"
            refused = singular_system(verdict.unknowns) if singular else self._refused(matrix, None)
            if refused is not None:
                factor.close()
                raise refused
        if ratio is not None and ratio < self.tolerances.pivot:
            unknowns = factor.examine().unknowns
            factor.close()
            raise singular_system(unknowns if len(unknowns) else [factor.equation or 0], f"pivot ratio {ratio:.1e}")
        return factor

    def _refused(self, matrix: Matrix, equation: int | None) -> SolverError | None:
        """The error for a matrix that is not positive definite: singular, or with a negative pivot, by its inertia.

        None if it is positive definite all the same.
        """
        structure = Structure(self.pattern, "symmetric", self._structure.unknowns, self._structure.threads)
        pool = Pool(Pattern(self._context, structure), replace(self._pool.options, kind="symmetric"), self._pool.order)
        other = Matrix(structure, matrix.values, matrix.rounding)
        # Shifted by more than rounding, which makes pivots negative that vanish.
        with factorised(pool, other, self.tolerances, self._findings, shifted=True) as factor:
            verdict = None if factor.broken else factor.examine()
            inertia = factor.report.inertia
        pool.close()
        if verdict is not None and verdict.verdict == "singular":
            return singular_system(verdict.unknowns)
        if inertia is not None and not inertia[1]:
            return None
        where = "a pivot" if equation is None else f"the pivot of equation {equation}"
        return IndefiniteSystemError(f"the matrix is not positive definite: {where} is not positive", equation)

    def _any(self, matrix: Matrix) -> CudaFactor:
        """A factor of another matrix; one that is doubtful is looked at, and made with more care where that helps.

        First afresh: what a factor takes over from the one before it may not suit these values. Then with large entries
        on the diagonal, by a further analysis, which new values are tried on first. Where not even that gives numbers,
        shifted, to see whether the matrix is singular.
        """
        factor = self._factorised(matrix)
        stale, options, shifted, verdict = True, self._pool.options, False, None
        while factor.broken or factor.report.doubtful(self._structure):
            verdict = None if factor.broken else factor.examine()
            if verdict is not None and verdict.verdict != "inaccurate":
                break
            careful = options if options.matched and stale else options.more_careful()
            if not factor.again and careful is None and (shifted or not factor.useless()):
                break
            again = factor.again
            factor.close()
            if again:
                factor = self._factorised(matrix, afresh=True)
            elif careful is not None:
                stale, options = False, careful
                self._start_over(options, matrix)
                factor = self._factorised(matrix)
            else:
                shifted = True
                factor = self._factorised(matrix, afresh=True, shifted=True)
        if factor.broken or (verdict is not None and verdict.verdict == "singular"):
            factor.close()
            raise singular_system(verdict.unknowns if verdict is not None else [], "" if verdict else "zero pivot")
        return factor

    def _start_over(self, options: Options, matrix: Matrix) -> None:
        """Analyse with these options, and with the help of a matrix; factors that are alive keep their systems."""
        self._pool.close()
        self._ordered_before += self._pool.ordered
        values = arranged(matrix, both=self._both(options))
        self._pool = self._pool_for(options, self._context.arrays.upload(values))

    def _free(self) -> None:
        with self._lock:
            self._pool.close()
