"""Cholesky factors on a CUDA device that stay there, by cusolverSp."""

from __future__ import annotations

import math
from ctypes import byref, c_int, c_size_t
from typing import Any, NamedTuple

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import SolverMemoryError
from femadj.solvers.cusolver_library import ADVICE, Session
from femadj.solvers.ordering import Arrangement

_DOUBLE = 8  # bytes


class Rows(NamedTuple):
    """Compressed rows of all matrices on a structure, both triangles, on the device: (n + 1,), (nnz,) int32."""

    n: int
    nnz: int
    indptr: Any
    indices: Any


def uploaded(session: Session, places: Arrangement) -> Rows:
    """A structure on the device."""
    arrays = session.arrays
    indptr, indices = arrays.upload(places.indptr), arrays.upload(places.indices)
    return Rows(len(places.indptr) - 1, len(places.indices), indptr, indices)


class Cholesky:
    """The place of one factor on the device, with its analysis: matrices on the structure are factorised in it in turn.

    Attributes
    ----------
    needed_bytes : int
        On the device for the factor, what solving with it takes, and the matrix.
    """

    def __init__(self, session: Session, rows: Rows, places: Arrangement) -> None:
        self._session, self._rows, self._places = session, rows, places
        library, arrays = session.api, session.arrays
        self._info = library.make("cusolverSpCreateCsrcholInfo")
        self._destroy = library.owned(self, "cusolverSpDestroyCsrcholInfo", self._info)
        pointer = arrays.pointer
        library.call(
            "cusolverSpXcsrcholAnalysis",
            session.solver,
            rows.n,
            rows.nnz,
            session.description,
            pointer(rows.indptr),
            pointer(rows.indices),
            self._info,
        )
        self._values = arrays.empty((rows.nnz,), np.float64)
        arrays.release()
        free = arrays.memory().free
        internal, workspace = c_size_t(), c_size_t()
        library.call("cusolverSpDcsrcholBufferInfo", *self._matrix(), self._info, byref(internal), byref(workspace))
        needed = internal.value + workspace.value
        self.needed_bytes = needed + rows.nnz * _DOUBLE
        if needed > free:
            self._destroy()
            raise SolverMemoryError(
                f"a Cholesky factor by cuSOLVER takes {needed / 1e9:.2g} GB on the device, and there are "
                f"{free / 1e9:.2g} GB. {ADVICE}",
                needed,
            )
        self._workspace = arrays.empty((max(workspace.value, 1),), np.uint8)

    def _matrix(self) -> tuple[int, ...]:
        session, rows, pointer = self._session, self._rows, self._session.arrays.pointer
        return (
            session.solver,
            rows.n,
            rows.nnz,
            session.description,
            pointer(self._values),
            pointer(rows.indptr),
            pointer(rows.indices),
        )

    def factorise(self, values: FloatArray, tolerance: float) -> FloatArray | None:
        """Factorise the matrix with these values of the structure; None where a pivot is not above the tolerance.

        Returns
        -------
        pivots : (n,)
            In the library's own order, which it does not tell.
        """
        arrays, library, solver = self._session.arrays, self._session.api, self._session.solver
        arrays.write(self._values, values[self._places.slots])
        arrays.release()
        library.call("cusolverSpDcsrcholFactor", *self._matrix(), self._info, arrays.pointer(self._workspace))
        position = c_int(-1)
        library.call("cusolverSpDcsrcholZeroPivot", solver, self._info, math.sqrt(tolerance), byref(position))
        if position.value >= 0:
            return None
        diagonal = arrays.empty((self._rows.n,), np.float64)
        library.call("cusolverSpDcsrcholDiag", solver, self._info, arrays.pointer(diagonal))
        pivots: FloatArray = arrays.download(diagonal) ** 2
        return pivots if pivots.min() >= tolerance else None  # NaN is not

    def solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        """Solve for the rows of a (k, n) block, one after the other, which is all that the library does."""
        del transposed  # of symmetric matrices
        arrays, order, n = self._session.arrays, self._places.order, self._rows.n
        b = arrays.upload(np.ascontiguousarray(block if order is None else block[:, order]))
        x = arrays.empty(block.shape, np.float64)
        for k in range(len(block)):
            step = k * n * _DOUBLE
            self._session.api.call(
                "cusolverSpDcsrcholSolve",
                self._session.solver,
                n,
                arrays.pointer(b) + step,
                arrays.pointer(x) + step,
                self._info,
                arrays.pointer(self._workspace),
            )
        found = arrays.download(x)
        if order is None:
            return found
        result = np.empty_like(block)
        result[:, order] = found
        return result

    def free(self) -> None:
        """Give the memory back."""
        self._destroy()
        self._values = self._workspace = None
