"""cuSOLVER on a CUDA device, for machines without cuDSS: Cholesky there, LU with pivots from the CPU."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any, Protocol

from femadj.base.arrays import FloatArray
from femadj.base.cuda import DeviceArrays, device_arrays
from femadj.errors import SolverError
from femadj.solvers.base import Solver, Symbolic
from femadj.solvers.checks import singular_system
from femadj.solvers.cusolver_cholesky import Cholesky, uploaded
from femadj.solvers.cusolver_library import Library, Session
from femadj.solvers.cusolver_refactor import Pivoting, Refactorisation, pivoting
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.ordering import arranged, by_metis
from femadj.solvers.statistics import (
    FORWARD_TOLERANCE,
    PIVOT_TOLERANCE,
    REFINEMENT_THRESHOLD,
    RESIDUAL_TOLERANCE,
    Capabilities,
    PivotReport,
)
from femadj.solvers.superlu import SuperLUSolver, SuperLUSymbolic

_THRESHOLD = 0.1
"""Size of a diagonal entry, beside the largest in its column, from which it is the pivot: pivots elsewhere multiply the
fill, which the device has to compute for every matrix."""


class CusolverSolver(Solver):
    """NVIDIA cuSOLVER, which NVIDIA has deprecated in favour of cuDSS: ``solver="cuda"`` where that is installed.

    Positive definite matrices have a Cholesky factor that is made and stays on the device. Of other matrices, the first
    on a structure is factorised by SuperLU on the CPU, whose pivots serve all that follow: these are factorised on the
    device. Where they do not serve, SuperLU is asked again. Orders of elimination are found on the CPU, right-hand
    sides and solutions are copied to and fro, and matrices that cannot be factorised are examined by SuperLU.
    The number of threads is ignored.

    Parameters
    ----------
    threads, residual_tolerance, refinement_threshold, pivot_tolerance, forward_tolerance
        See :class:`femadj.solvers.base.Solver`.
    library, arrays : optional
        In place of the installed libraries and CuPy's arrays.

    Raises
    ------
    SolverUnavailableError
        Without CuPy, a driver, a device, or the libraries.
    """

    name = "cusolver"
    capabilities = Capabilities(
        kinds=frozenset({"spd", "symmetric", "general"}),
        transpose=True,
        many_right_hand_sides=False,
        reuses_analysis=True,
        factors_per_analysis=None,
        values_in_place=False,
        inertia=False,
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
        library: Library | None = None,
        arrays: DeviceArrays | None = None,
    ) -> None:
        super().__init__(
            threads=threads,
            residual_tolerance=residual_tolerance,
            refinement_threshold=refinement_threshold,
            pivot_tolerance=pivot_tolerance,
            forward_tolerance=forward_tolerance,
        )
        arrays = device_arrays() if arrays is None else arrays
        self.session = Session(Library.found() if library is None else library, arrays)
        self.host = SuperLUSolver(
            residual_tolerance=residual_tolerance,
            refinement_threshold=refinement_threshold,
            pivot_tolerance=pivot_tolerance,
            forward_tolerance=forward_tolerance,
        )
        self.host.order = by_metis() or self.session.nested_dissection

    def __repr__(self) -> str:
        return (
            f"{super().__repr__()[:-1]}, cuSOLVER {self.session.api.version}: Cholesky factors on the device; LU "
            "factors there, too, but their pivots from the CPU; deprecated by NVIDIA, who recommend cuDSS>"
        )

    def _analyse(self, structure: Structure, threads: int | None) -> Symbolic:
        make = CholeskySymbolic if structure.kind == "spd" else RefactoringSymbolic
        return make(self, structure)


class Place(Protocol):
    """Where a factor is on the device."""

    def solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        """Solve for the rows of a (k, n) block; a new one like it."""
        ...

    def free(self) -> None:
        """Give the memory back."""
        ...


class CusolverSymbolic(Symbolic):
    """An analysed structure: its order of elimination, and places of factors that gave way to others."""

    def __init__(self, solver: CusolverSolver, structure: Structure, threshold: float | None = None) -> None:
        super().__init__(structure, solver.tolerances)
        self.session = solver.session
        self._host = SuperLUSymbolic(solver.host, structure, threshold)
        self.analyses = 1
        self._vacant: deque[Any] = deque()

    def leave(self, place: Place) -> None:
        """Take the place of a factor that is given up, for the next one."""
        if self._closed:
            place.free()
        else:
            self._vacant.append(place)

    def _vacated(self) -> Any:
        """A place that was left, None where there is none."""
        try:
            return self._vacant.pop()
        except IndexError:
            return None

    def _clear(self) -> None:
        while (place := self._vacated()) is not None:
            place.free()

    def _free(self) -> None:
        self._clear()
        self._host.close()


class CholeskySymbolic(CusolverSymbolic):
    """Of positive definite matrices."""

    def __init__(self, solver: CusolverSolver, structure: Structure) -> None:
        super().__init__(solver, structure)
        self._places = arranged(structure, self._host.order)
        with self.session.alone():
            self._rows = uploaded(self.session, self._places)
            self._vacant.append(Cholesky(self.session, self._rows, self._places))
        self._needed = self._vacant[0].needed_bytes

    @property
    def needed_bytes(self) -> int:
        """Memory on the device that a factor takes."""
        return int(self._needed)

    def _factor(self, matrix: Matrix) -> CusolverFactor:
        values = matrix.equilibrated(always=True)
        with self.session.alone():
            place = self._vacated() or Cholesky(self.session, self._rows, self._places)
            self.factorisations += 1
            try:
                pivots = place.factorise(values, self.tolerances.pivot)
            except BaseException:
                place.free()
                raise
        if pivots is None:
            place.free()
            self._host.factor_of(matrix).close()  # says what is wrong with the matrix
            raise singular_system([], f"a pivot is below {self.tolerances.pivot:.1e} of the diagonal")
        # Which equation a pivot belongs to is not told. Diagonal entries are one half to two: these are bounds.
        diagonal = values[self._structure.indptr[:-1]]
        report = PivotReport(
            factor_bytes=place.needed_bytes,
            peak_bytes=place.needed_bytes,
            perturbed=0,
            inertia=(len(pivots), 0),
            smallest_ratio=float(pivots.min() / diagonal.max()),
            largest_ratio=float(pivots.max() / diagonal.min()),
        )
        return CusolverFactor(self, place, matrix, report, matrix.rows)


class RefactoringSymbolic(CusolverSymbolic):
    """Of matrices whose pivots have to be chosen by their values.

    Attributes
    ----------
    pivotings : int
        Factorisations on the CPU so far, which chose pivots; those on the device are counted as everywhere.
    """

    def __init__(self, solver: CusolverSolver, structure: Structure) -> None:
        super().__init__(solver, structure, _THRESHOLD)
        self.pivotings = 0
        self._places = arranged(structure, None)
        self._pivoting: Pivoting | None = None
        with self.session.alone():
            self._rows = uploaded(self.session, self._places)

    @property
    def needed_bytes(self) -> int | None:
        """Memory on the device for a pair of factors, without work space; known once pivots are."""
        return None if self._pivoting is None else self._pivoting.nbytes

    def _factor(self, matrix: Matrix) -> CusolverFactor:
        if self._pivoting is not None:
            factor = self._refactorised(matrix, self._pivoting)
            if factor is not None:
                return factor
        self.pivotings += 1
        pivots = pivoting(self._places, *self._host.pivots(matrix))
        self._pivoting = pivots
        factor = self._refactorised(matrix, pivots)
        if factor is None:
            raise SolverError(
                "cusolverRf's factors are not those of the matrix, with pivots that serve SuperLU: use solver='superlu'"
            )
        return factor

    def _refactorised(self, matrix: Matrix, pivots: Pivoting) -> CusolverFactor | None:
        """A factor with these pivots, None where they do not serve."""
        values = matrix.equilibrated()
        with self.session.alone():
            place = self._vacated()
            while place is not None and place.pivoting is not pivots:  # left since others were chosen
                place.free()
                place = self._vacated()
            place = place or Refactorisation(self.session, self._rows, self._places, pivots)
            self.factorisations += 1
            try:
                regular = place.factorise(values)
            except BaseException:
                place.free()
                raise
        if not regular:
            place.free()
            return None
        report = PivotReport(fill_nnz=pivots.fill, factor_bytes=pivots.nbytes)
        factor = CusolverFactor(self, place, matrix, report)
        verdict = factor.examine()
        if verdict.verdict == "regular":
            return factor
        factor.close()
        if verdict.verdict == "singular":
            raise singular_system(verdict.unknowns)
        return None


class CusolverFactor(Factor):
    """A factor on the device."""

    def __init__(
        self,
        symbolic: CusolverSymbolic,
        place: Place,
        matrix: Matrix,
        report: PivotReport,
        scale: FloatArray | None = None,
    ) -> None:
        super().__init__(matrix, report, symbolic.tolerances)
        self._symbolic, self._place, self._scale = symbolic, place, scale
        self._finalizer = weakref.finalize(self, place.free)
        self._finalizer.atexit = False  # the library may be gone by then

    def _solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        with self._symbolic.session.alone():
            if self._closed:
                raise SolverError("this factor has been closed")
            if self._scale is None:
                return self._place.solve(block, transposed=transposed)
            x = self._place.solve(block * self._scale, transposed=transposed)
        x *= self._scale
        return x

    def give_way(self) -> None:
        """Close, and leave the place on the device to the next factor of the analysis."""
        with self._symbolic.session.lock:
            if not self._closed:
                self._closed = True
                if self._finalizer.detach():
                    self._symbolic.leave(self._place)

    def _free(self) -> None:
        with self._symbolic.session.lock:  # not while another thread solves
            self._finalizer()
