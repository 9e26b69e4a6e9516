"""SuperLU through SciPy: slower than the other solvers, and always there."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from femadj.errors import IndefiniteSystemError
from femadj.solvers.base import (
    Capabilities,
    Factor,
    FloatArray,
    Matrix,
    MatrixKind,
    PivotReport,
    Solver,
    Structure,
    Symbolic,
    singular_system,
)

_EXACTLY_SINGULAR = "singular"  # in the message of SuperLU's RuntimeError, which has no type of its own
_ORDERING: dict[MatrixKind, str] = {"spd": "MMD_AT_PLUS_A", "symmetric": "MMD_AT_PLUS_A", "general": "COLAMD"}
_PIVOT_THRESHOLD: dict[MatrixKind, float] = {"spd": 0.0, "symmetric": 0.1, "general": 1.0}
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
            self._indptr, self._indices, self._slots = _mirrored(structure)
        else:
            # The rows of A are the columns of its transpose: that is what is factorised, without a
            # conversion.
            self._indptr, self._indices = structure.indptr, structure.indices

    def _factor(self, matrix: Matrix) -> SuperLUFactor:
        kind, n = self.kind, self._structure.n
        data = matrix.values if self._slots is None else matrix.values[self._slots]
        columns = sp.csc_array((data, self._indices, self._indptr), shape=(n, n), copy=False)
        with self._counting:
            self.factorisations += 1
        try:
            lu = spla.splu(
                columns,
                permc_spec=_ORDERING[kind],
                diag_pivot_thresh=_PIVOT_THRESHOLD[kind],
                options={"SymmetricMode": kind == "spd"},
            )
        except RuntimeError as error:
            if _EXACTLY_SINGULAR not in str(error):
                raise
            raise singular_system(None, "zero pivot") from error
        report = PivotReport(fill_nnz=int(lu.nnz), factor_bytes=int(lu.nnz) * _BYTES_PER_ENTRY)
        if kind == "spd":
            report = self._check_positive_definite(lu, matrix, report)
        factor = SuperLUFactor(self, lu, matrix, report)
        if kind != "spd":
            # Reading the pivots would copy the whole factor; recovering a known solution costs one solve.
            probe = factor._doubted()
            if probe.verdict == "singular":
                raise singular_system(probe.equation, "an approximate null vector was found, largest there")
        return factor

    def _check_positive_definite(self, lu: spla.SuperLU, matrix: Matrix, report: PivotReport) -> PivotReport:
        """Compare the pivots with the diagonal before elimination: all must be positive, none tiny."""
        order = np.empty(self._structure.n, np.intp)  # equation eliminated at every step
        order[lu.perm_c] = np.arange(self._structure.n)
        diagonal = matrix.values[self._structure.indptr[:-1]][order]
        ratios = lu.U.diagonal() / diagonal
        negative = np.flatnonzero(ratios < -self.tolerances.pivot)
        swapped = np.flatnonzero(lu.perm_r != lu.perm_c)  # only where a diagonal pivot was exactly zero
        if len(negative) or len(swapped):
            equation = int(order[negative[0]]) if len(negative) else int(swapped[0])
            raise IndefiniteSystemError(
                f"the matrix is not positive definite: the pivot of equation {equation} is not positive",
                equation,
            )
        smallest = int(np.argmin(ratios))
        if ratios[smallest] < self.tolerances.pivot:
            raise singular_system(int(order[smallest]), f"pivot ratio {ratios[smallest]:.1e}")
        return report._replace(
            perturbed=0,
            inertia=(len(ratios), 0),
            smallest_ratio=float(ratios[smallest]),
            largest_ratio=float(ratios.max()),
        )

    def _free(self) -> None:
        self._slots = None


def _mirrored(
    structure: Structure,
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """Full structure of a symmetric matrix, and the slot in the upper triangle of each entry."""
    rows, columns = structure.rows(), structure.indices
    slots = np.arange(len(columns), dtype=columns.dtype)
    above = rows != columns
    row = np.concatenate([rows, columns[above]])
    column = np.concatenate([columns, rows[above]])
    slot = np.concatenate([slots, slots[above]])
    order = np.lexsort((column, row))
    indptr = np.zeros(structure.n + 1, columns.dtype)
    np.cumsum(np.bincount(row, minlength=structure.n), out=indptr[1:])
    return indptr, column[order], slot[order]


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
