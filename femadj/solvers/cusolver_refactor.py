"""LU factors whose pivots were chosen on the CPU, computed anew on a CUDA device for every matrix, by cusolverRf."""

from __future__ import annotations

from ctypes import byref, c_double, c_int, c_size_t, c_void_p
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from femadj.base.arrays import FloatArray
from femadj.errors import SolverError
from femadj.solvers.cusolver_cholesky import Rows
from femadj.solvers.cusolver_library import Session, ZeroPivotError
from femadj.solvers.ordering import Arrangement

_COMPRESSED_ROWS, _UNIT_LOWER, _FAST = 0, 0, 1  # of cusolverRf
_INDEX_32, _FLOAT_64, _COLUMN_MAJOR = 2, 1, 1  # of cuSPARSE
_FILL_MODE, _DIAGONAL_TYPE = 0, 1
_LOWER, _UPPER, _UNIT, _NOT_UNIT = 0, 1, 1, 0
_PLAIN, _TRANSPOSED = 0, 1
_DOUBLE = 8  # bytes
_BYTES_PER_ENTRY = 12  # a double and a 32-bit index
_DOMINANCE = 1e-6


class Pivoting(NamedTuple):
    """Where the pivots of all matrices on a structure are, and which entries their factors have.

    Attributes
    ----------
    rows, columns : (n,) int32
        Row and column of every pivot, in the order of elimination: ``A[rows][:, columns] = L U``.
    values : (nnz,)
        A matrix on the structure with these factors.
    lower, upper : csr_array
        Its factors, the lower one with its unit diagonal, without which it might be empty.
    """

    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    values: FloatArray
    lower: sp.csr_array
    upper: sp.csr_array

    @property
    def fill(self) -> int:
        """Entries of both factors, without the unit diagonal."""
        return int(self.lower.nnz + self.upper.nnz - len(self.rows))

    @property
    def nbytes(self) -> int:
        """Memory of both factors, beside which the library has work space that it does not tell."""
        return _BYTES_PER_ENTRY * self.fill


def pivoting(places: Arrangement, rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]) -> Pivoting:
    """Fill of the factors with these pivots, whatever the values are.

    It cannot be read off the factors of one matrix, where entries may cancel: it is that of an M-matrix on the
    structure, whose elimination adds up numbers of one sign.
    """
    n = len(rows)
    of_row, of_column = np.empty(n, np.int64), np.empty(n, np.int64)
    of_row[rows] = of_column[columns] = np.arange(n)
    i, j = of_row[np.repeat(np.arange(n), np.diff(places.indptr))], of_column[places.indices]
    off = i != j
    size = np.maximum(np.maximum(np.bincount(i[off], minlength=n), np.bincount(j[off], minlength=n)), 1)
    diagonal = size * (1.0 + _DOMINANCE)
    values = np.where(off, -1.0, diagonal[i])
    every = np.arange(n)  # of pivots, some of which may be where the matrix has no entry
    entries = (
        np.concatenate([values[off], diagonal]),
        (np.concatenate([i[off], every]), np.concatenate([j[off], every])),
    )
    factors = spla.splu(sp.csc_array(entries, shape=(n, n)), permc_spec="NATURAL", diag_pivot_thresh=0.0)
    if not np.array_equal(factors.perm_r, factors.perm_c):
        raise SolverError("SuperLU did not keep the pivots of a matrix with dominant ones")
    order = np.argsort(factors.perm_c)
    lower, upper = sp.csr_array(factors.L), sp.csr_array(factors.U)
    for factor in (lower, upper):
        factor.sort_indices()
    return Pivoting(rows[order].astype(np.int32), columns[order].astype(np.int32), values, lower, upper)


class Refactorisation:
    """The place of one pair of factors on the device: matrices on the structure are factorised in it in turn.

    Attributes
    ----------
    pivoting : Pivoting
    """

    def __init__(self, session: Session, rows: Rows, places: Arrangement, pivots: Pivoting) -> None:
        self.pivoting = pivots
        self._session, self._rows, self._places = session, rows, places
        library, arrays = session.api, session.arrays
        self._handle = library.make("cusolverRfCreate")
        self._destroy = library.owned(self, "cusolverRfDestroy", self._handle)
        library.call("cusolverRfSetMatrixFormat", self._handle, _COMPRESSED_ROWS, _UNIT_LOWER)
        library.call("cusolverRfSetResetValuesFastMode", self._handle, _FAST)
        host: list[npt.NDArray[Any]] = [places.indptr, places.indices, pivots.values]
        for factor in (pivots.lower, pivots.upper):
            host += [*(a.astype(np.int32, copy=False) for a in (factor.indptr, factor.indices)), factor.data]
        of_matrix, of_lower, of_upper = (
            (len(host[k + 1]), *(array.ctypes.data for array in host[k : k + 3])) for k in (0, 3, 6)
        )
        arrays.release()
        permutations = pivots.rows.ctypes.data, pivots.columns.ctypes.data
        library.call("cusolverRfSetupHost", rows.n, *of_matrix, *of_lower, *of_upper, *permutations, self._handle)
        library.call("cusolverRfAnalyze", self._handle)
        self._permutations = arrays.upload(pivots.rows), arrays.upload(pivots.columns)
        self._values = arrays.empty((rows.nnz,), np.float64)
        self._scratch = arrays.empty((rows.n,), np.float64)
        self._triangles: Triangles | None = None

    def factorise(self, values: FloatArray) -> bool:
        """Factorise the matrix with these values of the structure; False where one of the pivots is zero."""
        arrays, library, rows = self._session.arrays, self._session.api, self._rows
        pointer = arrays.pointer
        self._drop_triangles()  # of the matrix before
        arrays.write(self._values, values[self._places.slots])
        matrix = pointer(rows.indptr), pointer(rows.indices), pointer(self._values)
        permutations = (pointer(p) for p in self._permutations)
        library.call("cusolverRfResetValues", rows.n, rows.nnz, *matrix, *permutations, self._handle)
        try:
            library.call("cusolverRfRefactor", self._handle)
        except ZeroPivotError:
            return False
        return True

    def solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        """Solve for the rows of a (k, n) block: one after the other, the transposed matrix for all of them at once."""
        return self._solve_transposed(block) if transposed else self._solve_plain(block)

    def _solve_plain(self, block: FloatArray) -> FloatArray:
        arrays, n = self._session.arrays, self._rows.n
        x = arrays.upload(block)
        permutations = [arrays.pointer(p) for p in self._permutations]
        for k in range(len(block)):
            self._session.api.call(
                "cusolverRfSolve",
                self._handle,
                *permutations,
                1,
                arrays.pointer(self._scratch),
                n,
                arrays.pointer(x) + k * n * _DOUBLE,
                n,
            )
        return arrays.download(x)

    def _solve_transposed(self, block: FloatArray) -> FloatArray:
        """``A^T x = b``: ``U^T y = b[columns]``, ``L^T z = y``, ``x[rows] = z``."""
        if self._triangles is None or self._triangles.count != len(block):
            self._drop_triangles()
            self._triangles = Triangles(self._session, self._rows.n, self._handle, len(block))
        result = np.empty_like(block)
        pivots = self.pivoting
        result[:, pivots.rows] = self._triangles.solve_transposed(np.ascontiguousarray(block[:, pivots.columns]))
        return result

    def _drop_triangles(self) -> None:
        if self._triangles is not None:
            self._triangles.free()
            self._triangles = None

    def free(self) -> None:
        """Give the memory back."""
        self._drop_triangles()
        self._destroy()
        self._values = self._scratch = None


class Triangles:
    """The factors that a handle of cusolverRf holds, as cuSPARSE solves with the transposed ones.

    cusolverRf keeps both in one matrix, L without its unit diagonal and U. cuSPARSE analyses them for the values that
    they have and for a number of right-hand sides.

    Attributes
    ----------
    count : int
        Right-hand sides that are solved for at once.
    """

    def __init__(self, session: Session, n: int, handle: int, count: int) -> None:
        self.count = count
        self._session, self._n = session, n
        library, arrays = session.api, session.arrays
        nnz, indptr, indices, values = c_int(), c_void_p(), c_void_p(), c_void_p()
        library.call(
            "cusolverRfAccessBundledFactorsDevice", handle, byref(nnz), byref(indptr), byref(indices), byref(values)
        )
        self._handles: list[Any] = []
        self._one = c_double(1.0)
        self._blocks = [arrays.empty((count, n), np.float64) for _ in range(3)]
        self._dense = [
            self._own("cusparseCreateDnMat", "cusparseDestroyDnMat", n, count, n, pointer, _FLOAT_64, _COLUMN_MAJOR)
            for pointer in (arrays.pointer(block) for block in self._blocks)
        ]
        of_factors = indptr.value or 0, indices.value or 0, values.value or 0
        kinds = _INDEX_32, _INDEX_32, 0, _FLOAT_64
        self._buffers: list[Any] = []
        self._steps = []
        for k, shape in enumerate(((_UPPER, _NOT_UNIT), (_LOWER, _UNIT))):
            matrix = self._own("cusparseCreateCsr", "cusparseDestroySpMat", n, n, nnz.value, *of_factors, *kinds)
            for attribute, value in zip((_FILL_MODE, _DIAGONAL_TYPE), shape, strict=True):
                library.call("cusparseSpMatSetAttribute", matrix, attribute, byref(c_int(value)), 4)
            description = self._own("cusparseSpSM_createDescr", "cusparseSpSM_destroyDescr")
            operands = matrix, self._dense[k], self._dense[k + 1], _FLOAT_64, 0, description
            step = (session.sparse, _TRANSPOSED, _PLAIN, byref(self._one), *operands)
            size = c_size_t()
            library.call("cusparseSpSM_bufferSize", *step, byref(size))
            self._buffers.append(arrays.empty((max(size.value, 1),), np.uint8))
            library.call("cusparseSpSM_analysis", *step, arrays.pointer(self._buffers[-1]))
            self._steps.append(step)

    def _own(self, create: str, destroy: str, *arguments: int) -> int:
        handle = self._session.api.make(create, *arguments)
        self._handles.append(self._session.api.owned(self, destroy, handle))
        return handle

    def solve_transposed(self, block: FloatArray) -> FloatArray:
        """``U^T y = b``, ``L^T z = y`` for the rows of a (count, n) block."""
        arrays = self._session.arrays
        arrays.write(self._blocks[0], block)
        for step in self._steps:
            self._session.api.call("cusparseSpSM_solve", *step)
        return arrays.download(self._blocks[2])

    def free(self) -> None:
        """Give the memory back."""
        for destroy in reversed(self._handles):
            destroy()
        self._blocks, self._buffers, self._steps = [], [], []
