"""SuperLU through SciPy: slower than the other solvers, and always there."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from femadj.base.arrays import FloatArray
from femadj.errors import IndefiniteSystemError, SingularSystemError, SolverError, SolverMemoryError
from femadj.solvers.base import Solver, Symbolic
from femadj.solvers.checks import singular_system
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import Matrix, MatrixKind, Structure
from femadj.solvers.statistics import Capabilities, PivotReport

_EXACTLY_SINGULAR = "singular"  # in the message of SuperLU's RuntimeError, which has no type of its own
_ORDERING: dict[MatrixKind, str] = {"spd": "MMD_AT_PLUS_A", "symmetric": "MMD_AT_PLUS_A", "general": "COLAMD"}
_PIVOT_THRESHOLD: dict[MatrixKind, float] = {"spd": 0.0, "symmetric": 0.1, "general": 1.0}
_AWAY = 1e-11  # relative distance of a matrix that has no zero pivot from one that has
_BYTES_PER_ENTRY = 12  # a double and a 32-bit index


class SuperLUSolver(Solver):
    """SciPy's SuperLU. Serial: the number of threads is ignored. Orders anew in every factorisation."""

    name = "superlu"
    capabilities = Capabilities(
        kinds=frozenset({"spd", "symmetric", "general"}),
        transpose=True,
        many_right_hand_sides=True,
        reuses_analysis=False,
        factors_per_analysis=None,
        values_in_place=False,
        inertia=False,
        device="cpu",
    )

    def _analyse(self, structure: Structure, threads: int | None) -> SuperLUSymbolic:
        return SuperLUSymbolic(self, structure)


class SuperLUSymbolic(Symbolic):
    """The structure as SuperLU wants it: compressed columns of the whole matrix."""

    def __init__(self, solver: SuperLUSolver, structure: Structure) -> None:
        super().__init__(structure, solver.tolerances)
        self.analyses = 1
        self._counting = threading.Lock()
        self._slots: npt.NDArray[np.integer] | None = None
        if structure.upper:
            structure, self._slots = structure.whole
        # The rows of A are the columns of its transpose: that is what is factorised, without a conversion.
        self._indptr, self._indices = structure.indptr.astype(np.intc), structure.indices

    def _factor(self, matrix: Matrix) -> SuperLUFactor:
        values = matrix.equilibrated()
        lu = self._eliminated(values)
        if lu is None:
            raise self._singular(matrix, values)
        report = PivotReport(fill_nnz=int(lu.nnz), factor_bytes=int(lu.nnz) * _BYTES_PER_ENTRY)
        factor = SuperLUFactor(self, lu, matrix, report)
        if self.kind == "spd":
            return SuperLUFactor(self, lu, matrix, self._checked_pivots(lu, factor, report))
        # Reading the pivots would copy the whole factor; a condition estimate costs a few solves.
        verdict = factor.examine()
        if verdict.verdict == "singular":
            raise singular_system(verdict.unknowns)
        return factor

    def _eliminated(self, values: FloatArray) -> spla.SuperLU | None:
        """The factors, or None where a pivot and all that could replace it are zero."""
        kind, n = self.kind, self._structure.n
        data = values if self._slots is None else values[self._slots]
        columns = sp.csc_array((data, self._indices, self._indptr), shape=(n, n), copy=False)
        with self._counting:
            self.factorisations += 1
        try:
            return spla.splu(
                columns,
                permc_spec=_ORDERING[kind],
                diag_pivot_thresh=_PIVOT_THRESHOLD[kind],
                options={"SymmetricMode": kind == "spd"},
            )
        except MemoryError as error:
            raise SolverMemoryError(
                f"SuperLU ran out of memory with {n} equations. Close or drop factors and solutions that are no longer "
                "used, use a coarser mesh, or a solver that fills less (pip install pypardiso)"
            ) from error
        except (RuntimeError, ValueError, SystemError) as error:
            if _EXACTLY_SINGULAR not in str(error):
                raise SolverError(f"SuperLU failed: {error}") from error
            return None

    def _singular(self, matrix: Matrix, values: FloatArray) -> SingularSystemError:
        """Name the unknowns of a null vector, by the factor of a matrix that is a little way off."""
        noise = np.random.default_rng(0).uniform(-_AWAY, _AWAY, len(values))
        lu = self._eliminated(values * (1.0 + noise))
        if lu is None:
            return singular_system([], "zero pivot")
        factor = SuperLUFactor(self, lu, matrix, PivotReport(perturbed=1, replacement=_AWAY))
        return singular_system(factor.examine().unknowns, "zero pivot")

    def _checked_pivots(self, lu: spla.SuperLU, factor: SuperLUFactor, report: PivotReport) -> PivotReport:
        """Compare the pivots with the diagonal before elimination: all must be positive, none tiny."""
        order = np.empty(self._structure.n, np.intp)  # equation eliminated at every step
        order[lu.perm_c] = np.arange(self._structure.n)
        diagonal = factor._matrix.values[self._structure.indptr[:-1]][order]
        ratios = lu.U.diagonal() / diagonal
        negative = np.flatnonzero(ratios < -self.tolerances.pivot)
        swapped = np.flatnonzero(lu.perm_r != lu.perm_c)  # only where a diagonal pivot was exactly zero
        smallest = int(np.argmin(ratios))
        doubtful = len(negative) or len(swapped) or ratios[smallest] < self.tolerances.pivot
        verdict = factor.examine() if doubtful else None
        if verdict is not None and verdict.verdict == "singular":
            raise singular_system(verdict.unknowns, f"pivot ratio {ratios[smallest]:.1e}")
        if len(negative) or len(swapped):
            equation = int(order[negative[0]]) if len(negative) else int(swapped[0])
            raise IndefiniteSystemError(
                f"the matrix is not positive definite: the pivot of equation {equation} is not positive",
                equation,
            )
        if doubtful:
            raise singular_system([int(order[smallest])], f"pivot ratio {ratios[smallest]:.1e}")
        return report._replace(
            perturbed=0,
            inertia=(len(ratios), 0),
            smallest_ratio=float(ratios[smallest]),
            largest_ratio=float(ratios.max()),
        )

    def _free(self) -> None:
        self._slots = None


class SuperLUFactor(Factor):
    """A factor held by SciPy; its memory goes with the object."""

    def __init__(self, symbolic: SuperLUSymbolic, lu: spla.SuperLU, matrix: Matrix, report: PivotReport) -> None:
        super().__init__(matrix, report, symbolic.tolerances)
        self._lu: spla.SuperLU | None = lu
        # Of a general matrix the transpose was factorised; of a symmetric one both are the same.
        self._holds_transpose = not matrix.structure.upper

    def _solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        if self._lu is None:
            raise AssertionError("callers check that the factor is open")
        trans = "T" if transposed != self._holds_transpose else "N"
        return np.ascontiguousarray(self._lu.solve(block.T, trans).T)

    def _free(self) -> None:
        self._lu = None
