"""SuperLU through SciPy: slower than the other solvers, and always there.

It takes a half to a fifth of the time on a nested dissection by METIS, where pymetis is installed. SuperLU's own
options stay as SciPy has them: blocks wider than these are written beyond the end of an array of its statistics.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from types import ModuleType
from typing import Any

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
from femadj.solvers.ordering import arranged, metis, nested_dissection
from femadj.solvers.statistics import (
    FORWARD_TOLERANCE,
    PIVOT_TOLERANCE,
    REFINEMENT_THRESHOLD,
    RESIDUAL_TOLERANCE,
    Capabilities,
    PivotReport,
)

_EXACTLY_SINGULAR = "singular"  # in the message of SuperLU's RuntimeError, which has no type of its own
_AS_IT_IS, _BY_COLUMNS = "NATURAL", "COLAMD"
_ORDERING: dict[MatrixKind, str] = {"spd": "MMD_AT_PLUS_A", "symmetric": "MMD_AT_PLUS_A", "general": _BY_COLUMNS}
_PIVOT_THRESHOLD: dict[MatrixKind, float] = {"spd": 0.0, "symmetric": 0.1, "general": 1.0}
_HEAVY, _MOST = 0.5, 2 / 3  # size of a diagonal entry that is likely to be the pivot; part of them that is to be heavy
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
        self.metis = metis()
        self.capabilities = replace(self.capabilities, reuses_analysis=self.metis is not None)

    def __repr__(self) -> str:
        order = "minimum degree: with pymetis, METIS orders better" if self.metis is None else "METIS"
        return f"{super().__repr__()[:-1]}, ordered by {order}>"

    def _analyse(self, structure: Structure, threads: int | None) -> SuperLUSymbolic:
        return SuperLUSymbolic(self, structure)


class Elimination:
    """A structure as SuperLU wants it: compressed columns of the whole matrix, in the order of elimination.

    Attributes
    ----------
    order : (n,) or None
        Equation at every place; None where the equations stay where they are.
    """

    def __init__(self, structure: Structure, pymetis: ModuleType | None) -> None:
        self.structure = structure
        # The rows of A are the columns of its transpose: that is what is factorised, without a conversion.
        self._places = arranged(structure, None if pymetis is None else nested_dissection(pymetis, structure))
        self.order = self._places.order

    def factors(self, values: npt.NDArray[np.floating]) -> spla.SuperLU | None:
        """The factors in the precision of the values, or None where a pivot and all that could replace it are zero."""
        kind, n, places = self.structure.kind, self.structure.n, self._places
        columns = sp.csc_array((values[places.slots], places.indices, places.indptr), shape=(n, n), copy=False)
        try:
            return spla.splu(
                columns,
                permc_spec=self._permutation(columns.data),
                diag_pivot_thresh=_PIVOT_THRESHOLD[kind],
                options={"SymmetricMode": kind == "spd"},
            )
        except MemoryError as error:
            raise SolverMemoryError(
                f"SuperLU ran out of memory with {n} equations. Close or drop factors and solutions that are no longer "
                "used, use a coarser mesh, or what fills less: pip install pypardiso where there is MKL, else pymetis"
            ) from error
        except (RuntimeError, ValueError, SystemError) as error:
            if _EXACTLY_SINGULAR not in str(error):
                raise SolverError(f"SuperLU failed: {error}") from error
            return None

    def _permutation(self, values: npt.NDArray[np.floating]) -> str:
        """How SuperLU is to permute the columns.

        An order for pivots on the diagonal serves those of a general matrix only where most of them are found there.
        """
        places, kind = self._places, self.structure.kind
        if places.order is None:
            return _ORDERING[kind]
        if kind != "general":
            return _AS_IT_IS
        n, sizes = self.structure.n, np.abs(values)
        rows = np.repeat(np.arange(n), np.diff(places.indptr))
        on, diagonal = places.indices == rows, np.zeros(n)
        diagonal[rows[on]] = sizes[on]
        heavy = diagonal >= _HEAVY * np.maximum.reduceat(sizes, places.indptr[:-1])
        return _AS_IT_IS if heavy.mean() >= _MOST else _BY_COLUMNS

    def pivots(self, lu: spla.SuperLU) -> tuple[FloatArray, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Pivots, and the equations they belong to, (n,) in the order of elimination; equations that changed places."""
        order = np.empty(self.structure.n, np.intp)
        order[lu.perm_c] = np.arange(self.structure.n) if self.order is None else self.order
        lower, upper = lu.L, lu.U  # copies of all, which the object keeps for who asks again: it keeps them empty
        pivots = upper.diagonal()
        for copy in (lower, upper):
            copy.data, copy.indices = copy.data[:0].copy(), copy.indices[:0].copy()
        return pivots, order, order[lu.perm_c[lu.perm_r != lu.perm_c]]

    def solve(self, lu: spla.SuperLU, block: npt.NDArray[Any], trans: str) -> npt.NDArray[Any]:
        """Solve for the rows of a C-contiguous (k, n) block; a new one like it."""
        if self.order is None:
            return np.ascontiguousarray(lu.solve(block.T, trans).T)
        x = np.empty_like(block)
        x[:, self.order] = lu.solve(block[:, self.order].T, trans).T
        return x


class SuperLUSymbolic(Symbolic):
    """An analysed structure: its order of elimination."""

    def __init__(self, solver: SuperLUSolver, structure: Structure) -> None:
        super().__init__(structure, solver.tolerances)
        self.analyses = 1
        self._counting = threading.Lock()
        self._elimination = Elimination(structure, solver.metis)

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

    def _free(self) -> None:
        self._lu = None
