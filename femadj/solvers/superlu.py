"""SuperLU through SciPy: slower than the other solvers, and always there.

It fills less, and is faster, on a nested dissection by METIS, where pymetis is installed. SuperLU's own
options stay as SciPy has them: blocks wider than these are written beyond the end of an array of its statistics.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.sparse.linalg as spla

from femadj.base.arrays import FloatArray
from femadj.errors import IndefiniteSystemError, SingularSystemError, SolverError
from femadj.solvers.base import Solver, Symbolic
from femadj.solvers.checks import singular_system
from femadj.solvers.elimination import Elimination
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.ordering import by_metis
from femadj.solvers.statistics import (
    FORWARD_TOLERANCE,
    PIVOT_TOLERANCE,
    REFINEMENT_THRESHOLD,
    RESIDUAL_TOLERANCE,
    Capabilities,
    PivotReport,
)
from femadj.solvers.superlu_single import SinglePrecisionSuperLU

_AWAY = 1e-11  # relative distance of a matrix that has no zero pivot from one that has
_BYTES_PER_ENTRY = 12  # a double and a 32-bit index


class SuperLUSolver(Solver):
    """SciPy's SuperLU. Serial: the number of threads is ignored.

    Where pymetis is installed, METIS orders every structure once. Else SuperLU orders anew in every factorisation, by
    minimum degree, which fills more: ``pip install pymetis`` helps there.

    Parameters
    ----------
    threads, residual_tolerance, refinement_threshold, pivot_tolerance, forward_tolerance
        See :class:`femadj.solvers.base.Solver`.
    """

    name = "superlu"
    in_single_precision = SinglePrecisionSuperLU
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

    def __init__(
        self,
        *,
        threads: int | None = None,
        residual_tolerance: float = RESIDUAL_TOLERANCE,
        refinement_threshold: float = REFINEMENT_THRESHOLD,
        pivot_tolerance: float = PIVOT_TOLERANCE,
        forward_tolerance: float = FORWARD_TOLERANCE,
    ) -> None:
        super().__init__(
            threads=threads,
            residual_tolerance=residual_tolerance,
            refinement_threshold=refinement_threshold,
            pivot_tolerance=pivot_tolerance,
            forward_tolerance=forward_tolerance,
        )
        self.order = by_metis()
        self.capabilities = replace(self.capabilities, reuses_analysis=self.order is not None)

    def __repr__(self) -> str:
        order = "minimum degree: with pymetis, METIS orders better" if self.order is None else "METIS"
        return f"{super().__repr__()[:-1]}, ordered by {order}>"

    def _analyse(self, structure: Structure, threads: int | None) -> SuperLUSymbolic:
        return SuperLUSymbolic(self, structure)


class SuperLUSymbolic(Symbolic):
    """An analysed structure: its order of elimination."""

    def __init__(self, solver: SuperLUSolver, structure: Structure, threshold: float | None = None) -> None:
        super().__init__(structure, solver.tolerances)
        self.analyses = 1
        self._counting = threading.Lock()
        self._elimination = Elimination(structure, solver.order, threshold)

    @property
    def order(self) -> npt.NDArray[np.integer] | None:
        """Equation at every place of the order of elimination, (n,); None where SuperLU orders anew every time."""
        return self._elimination.order

    def pivots(self, matrix: Matrix) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
        """Row and column of every pivot of a matrix, in the order of elimination, (n,) each; errors as :meth:`factor`.

        The rows of what is factorised are the columns of the matrix.
        """
        with self._factor(matrix) as factor:
            rows, columns = factor.permutations()
        return (rows, columns) if self.order is None else (self.order[rows], self.order[columns])

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
        with self._counting:
            self.factorisations += 1
        return self._elimination.factors(values)

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
        pivots, order, swapped = self._elimination.pivots(lu)  # swapped only where a pivot was exactly zero
        ratios = pivots / factor._matrix.values[self._structure.indptr[:-1]][order]
        negative = np.flatnonzero(ratios < -self.tolerances.pivot)
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
        del self._elimination


class SuperLUFactor(Factor):
    """A factor held by SciPy; its memory goes with the object."""

    def __init__(self, symbolic: SuperLUSymbolic, lu: spla.SuperLU, matrix: Matrix, report: PivotReport) -> None:
        super().__init__(matrix, report, symbolic.tolerances)
        self._lu: spla.SuperLU | None = lu
        self._elimination = symbolic._elimination
        # Of a general matrix the transpose was factorised; of a symmetric one both are the same.
        self._holds_transpose = not matrix.structure.upper

    def _solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        if self._lu is None:
            raise AssertionError("callers check that the factor is open")
        trans = "T" if transposed != self._holds_transpose else "N"
        return self._elimination.solve(self._lu, block, trans)

    def permutations(self) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
        """Column and row of every pivot of what was factorised, (n,) each."""
        if self._lu is None:
            raise SolverError("this factor has been closed")
        return np.argsort(self._lu.perm_c), np.argsort(self._lu.perm_r)

    def _free(self) -> None:
        self._lu = None
