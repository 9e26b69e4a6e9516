"""Stands in for cuSOLVER and cuSPARSE, on arrays that stand in for those of a device.

It takes the C types of the functions, follows their layouts and the order in which they must be called, and answers
with the status that documentation gives for misuse. What it cannot stand for: the accuracy and the speed of the device.
"""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from femadj.solvers.cusolver_library import SIGNATURES
from tests.host_arrays import HostArrays

OK, NOT_INITIALISED, NO_MEMORY, INVALID, ZERO_PIVOT = 0, 1, 2, 3, 10


class DefaultStream(HostArrays):
    """Arrays on the stream that the solver works on."""

    current = 0

    def stream(self) -> int:
        return self.current


def _read(address: ctypes.c_void_p, dtype: Any, count: int) -> np.ndarray:
    """What is at an address of the host, (count,); not a copy."""
    kind = np.ctypeslib.as_ctypes_type(dtype)
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(kind)), (count,))


def _write(out: Any, value: int) -> None:
    out._obj.value = value


def _rows(n: int, indptr: np.ndarray, indices: np.ndarray, values: np.ndarray | None = None) -> sp.csr_array:
    """A copy of compressed rows, which must be sorted."""
    assert (indptr[0], indptr[-1]) == (0, len(indices))
    data = np.ones(len(indices)) if values is None else values.copy()
    matrix = sp.csr_array((data, indices.copy(), indptr.copy()), shape=(n, n))
    assert matrix.has_canonical_format
    return matrix


def _on_host(n: Any, nnz: Any, indptr: Any, indices: Any, values: Any = None) -> sp.csr_array:
    data = None if values is None else _read(values, np.float64, nnz.value)
    return _rows(n.value, _read(indptr, np.int32, n.value + 1), _read(indices, np.int32, nnz.value), data)


def _lu(matrix: sp.csr_array) -> spla.SuperLU | None:
    """SuperLU's factors with the pivots on the diagonal; None where one is zero."""
    options = {"permc_spec": "NATURAL", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    try:
        lu = spla.splu(sp.csc_array(matrix), **options)
    except RuntimeError:
        return None
    return lu if np.array_equal(lu.perm_r, lu.perm_c) else None


class StandIn:
    """Both libraries: attributes are functions that take what ctypes would hand over.

    Attributes
    ----------
    calls : list of str
        Names of the functions called so far.
    objects : dict
        What handles stand for.
    fail : dict
        Status of functions that are to fail.
    off : float
        What solutions by cusolverRf are multiplied by: one where the library is right.
    """

    version = 12401
    off = 1.0

    def __init__(self, memory: HostArrays, missing: tuple[str, ...] = ()) -> None:
        self.memory = memory
        self.calls: list[str] = []
        self.objects: dict[int, dict[str, Any]] = {}
        self.fail: dict[str, int] = {}
        self._numbers = itertools.count(0x1000)
        self._missing = missing

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in self._missing or f"_{name}" not in type(self).__dict__:
            raise AttributeError(name)
        function = type(self).__dict__[f"_{name}"]

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            for kind, argument in zip(SIGNATURES.get(name, ()), arguments, strict=name in SIGNATURES):
                assert isinstance(argument, kind) or (kind is ctypes.c_void_p and hasattr(argument, "_obj")), name
            if name in self.fail:
                return self.fail[name]
            return function(self, *arguments) or OK

        return call

    @property
    def kept(self) -> list[str]:
        """Kinds of all objects that have not been destroyed, sorted."""
        return sorted(each["kind"] for each in self.objects.values())

    def _new(self, out: Any, kind: str, **fields: Any) -> None:
        number = next(self._numbers)
        self.objects[number] = {"kind": kind, **fields}
        _write(out, number)

    def _of(self, handle: Any, kind: str) -> dict[str, Any]:
        found = self.objects[handle.value]
        assert found["kind"] == kind
        return found

    def _drop(self, handle: Any, kind: str) -> None:
        self._of(handle, kind)
        del self.objects[handle.value]

    def _at(self, address: Any, count: int, dtype: Any = np.float64) -> np.ndarray:
        return self.memory.at(address.value, count, dtype)

    def _csr(self, n: Any, nnz: Any, indptr: Any, indices: Any, values: Any = None) -> sp.csr_array:
        """A copy of compressed rows on the device."""
        data = None if values is None else self._at(values, nnz.value)
        of_rows, of_entries = self._at(indptr, n.value + 1, np.int32), self._at(indices, nnz.value, np.int32)
        return _rows(n.value, of_rows, of_entries, data)

    def _cusolverGetVersion(self, out: Any) -> None:
        _write(out, self.version)

    # ------------------------------------------------------------------------------------------ handles

    def _cusolverSpCreate(self, out: Any) -> None:
        self._new(out, "solver")

    def _cusolverSpDestroy(self, handle: Any) -> None:
        self._drop(handle, "solver")

    def _cusparseCreate(self, out: Any) -> None:
        self._new(out, "sparse")

    def _cusparseDestroy(self, handle: Any) -> None:
        self._drop(handle, "sparse")

    def _cusparseCreateMatDescr(self, out: Any) -> None:
        self._new(out, "description")

    def _cusparseDestroyMatDescr(self, handle: Any) -> None:
        self._drop(handle, "description")

    def _cusolverSpXcsrmetisndHost(self, h, n, nnz, d, rows, columns, options, out) -> None:
        self._of(h, "solver"), self._of(d, "description")
        assert not options.value
        graph = _on_host(n, nnz, rows, columns)
        assert (graph != graph.T).nnz == 0
        assert graph.nnz > n.value
        _read(out, np.int32, n.value)[:] = np.arange(n.value)[::-1]

    # ----------------------------------------------------------------------------------------- Cholesky

    def _cusolverSpCreateCsrcholInfo(self, out: Any) -> None:
        self._new(out, "cholesky", pattern=None, sized=False, lu=None, pivots=None)

    def _cusolverSpDestroyCsrcholInfo(self, info: Any) -> None:
        self._drop(info, "cholesky")

    def _cusolverSpXcsrcholAnalysis(self, h, n, nnz, d, rows, columns, info) -> None:
        self._of(h, "solver"), self._of(d, "description")
        self._of(info, "cholesky")["pattern"] = self._csr(n, nnz, rows, columns)

    def _cusolverSpDcsrcholBufferInfo(self, h, n, nnz, d, values, rows, columns, info, internal, workspace) -> int:
        found = self._of(info, "cholesky")
        if found["pattern"] is None:
            return INVALID
        found["sized"] = True
        _write(internal, 100 * nnz.value)
        _write(workspace, 8 * n.value)
        return OK

    def _cusolverSpDcsrcholFactor(self, h, n, nnz, d, values, rows, columns, info, buffer) -> int:
        self._of(h, "solver"), self._of(d, "description"), self._at(buffer, 8 * n.value, np.uint8)
        found = self._of(info, "cholesky")
        if not found["sized"]:
            return INVALID
        matrix = self._csr(n, nnz, rows, columns, values)
        assert abs(matrix - matrix.T).max() == 0.0  # both triangles
        assert np.array_equal(matrix.indices, found["pattern"].indices)
        found["lu"] = _lu(matrix)
        found["pivots"] = np.zeros(n.value) if found["lu"] is None else found["lu"].U.diagonal()
        return OK

    def _cusolverSpDcsrcholZeroPivot(self, h, info, tolerance, out) -> int:
        pivots = self._of(info, "cholesky")["pivots"]
        if pivots is None:
            return INVALID
        bad = np.flatnonzero(np.sqrt(np.maximum(pivots, 0.0)) <= tolerance.value)
        _write(out, int(bad[0]) + 1 if len(bad) else -1)  # the number of the pivot is not to be relied on
        return OK

    def _cusolverSpDcsrcholDiag(self, h, info, out) -> None:
        pivots = self._of(info, "cholesky")["pivots"]
        self._at(out, len(pivots))[:] = np.sqrt(pivots)

    def _cusolverSpDcsrcholSolve(self, h, n, b, x, info, buffer) -> int:
        self._at(buffer, 8 * n.value, np.uint8)
        lu = self._of(info, "cholesky")["lu"]
        if lu is None:
            return INVALID
        self._at(x, n.value)[:] = lu.solve(self._at(b, n.value).copy())
        return OK

    # ---------------------------------------------------------------------------------- refactorisation

    def _cusolverRfCreate(self, out: Any) -> None:
        self._new(out, "rf", format=None, matrix=None, bundle=None, permuted=None, lu=None)

    def _cusolverRfDestroy(self, handle: Any) -> None:
        self._drop(handle, "rf")

    def _cusolverRfSetMatrixFormat(self, handle, layout, diagonal) -> None:
        self._of(handle, "rf")["format"] = layout.value, diagonal.value

    def _cusolverRfSetResetValuesFastMode(self, handle, mode) -> None:
        assert mode.value == 1
        self._of(handle, "rf")

    def _cusolverRfSetupHost(self, n, nnz, rows, columns, values, *rest) -> None:
        lower, upper, (p, q, handle) = rest[:4], rest[4:8], rest[8:]
        found = self._of(handle, "rf")
        assert found["format"] == (0, 0)  # rows; the unit diagonal is that of L, and stored
        matrix, L, U = _on_host(n, nnz, rows, columns, values), _on_host(n, *lower), _on_host(n, *upper)
        assert (sp.tril(L).nnz, sp.triu(U).nnz) == (L.nnz, U.nnz)
        assert (L.diagonal() == 1.0).all()
        assert U.diagonal().all()
        P, Q = (_read(a, np.int32, n.value).copy() for a in (p, q))
        permuted = matrix[P][:, Q]
        away = sp.csr_array(permuted - L @ U)
        away.setdiag(np.where(permuted.diagonal() == 0.0, 0.0, away.diagonal()))  # pivots without an entry
        assert abs(away).max() <= 1e-9 * abs(permuted).max()
        found.update(matrix=matrix, P=P, Q=Q, M=sp.csr_array(sp.tril(L, -1) + U))

    def _cusolverRfAnalyze(self, handle) -> int:
        found = self._of(handle, "rf")
        if found["matrix"] is None:
            return INVALID
        both = found["M"]
        both.sort_indices()
        parts = both.indptr.astype(np.int32), both.indices.astype(np.int32), np.full(both.nnz, np.nan)
        found["bundle"] = [self.memory.upload(part) for part in parts]
        return OK

    def _cusolverRfResetValues(self, n, nnz, rows, columns, values, p, q, handle) -> int:
        found = self._of(handle, "rf")
        if found["bundle"] is None:
            return INVALID
        matrix = self._csr(n, nnz, rows, columns, values)
        assert np.array_equal(matrix.indices, found["matrix"].indices)
        P, Q = self._at(p, n.value, np.int32), self._at(q, n.value, np.int32)
        assert np.array_equal((P, Q), (found["P"], found["Q"]))
        found["permuted"], found["lu"] = matrix[P][:, Q], None
        return OK

    def _cusolverRfRefactor(self, handle) -> int:
        found = self._of(handle, "rf")
        if found["permuted"] is None:
            return INVALID
        lu = _lu(found["permuted"])
        if lu is None:
            return ZERO_PIVOT
        n, place = len(found["P"]), np.argsort(lu.perm_c)
        computed = [sp.coo_array(factor) for factor in (sp.tril(lu.L, -1), lu.U)]
        at = np.concatenate([place[each.coords[0]].astype(np.int64) * n + place[each.coords[1]] for each in computed])
        both = found["M"]
        told = np.repeat(np.arange(n), np.diff(both.indptr)) * n + both.indices
        slots = np.minimum(np.searchsorted(told, at), len(told) - 1)
        assert np.array_equal(told[slots], at), "fill that was not told at set-up"
        data = np.zeros(len(told))
        data[slots] = np.concatenate([each.data for each in computed])
        self.memory.write(found["bundle"][2], data)
        found["lu"] = lu
        return OK

    def _cusolverRfAccessBundledFactorsDevice(self, handle, nnz, indptr, indices, values) -> int:
        found = self._of(handle, "rf")
        if found["lu"] is None:
            return INVALID
        _write(nnz, found["M"].nnz)
        for out, array in zip((indptr, indices, values), found["bundle"], strict=True):
            _write(out, self.memory.pointer(array))
        return OK

    def _cusolverRfSolve(self, handle, p, q, count, scratch, ld, x, ldx) -> int:
        found = self._of(handle, "rf")
        if found["lu"] is None or count.value != 1:
            return INVALID
        n = len(found["P"])
        assert ld.value == ldx.value == n
        self._at(scratch, n)
        P, Q, X = self._at(p, n, np.int32), self._at(q, n, np.int32), self._at(x, n)
        X[Q] = self.off * found["lu"].solve(X[P])
        return OK

    # ------------------------------------------------------------------------------------------- cuSPARSE

    def _cusparseCreateCsr(self, out, m, n, nnz, rows, columns, values, *kinds) -> None:
        assert [m.value, *(k.value for k in kinds)] == [n.value, 2, 2, 0, 1]
        self._csr(n, nnz, rows, columns, values)
        self._new(out, "csr", arguments=(n, nnz, rows, columns, values), attributes={})

    def _cusparseSpMatSetAttribute(self, matrix, attribute, value, size) -> None:
        assert size.value == ctypes.sizeof(value._obj) == 4
        self._of(matrix, "csr")["attributes"][attribute.value] = value._obj.value

    def _cusparseDestroySpMat(self, matrix) -> None:
        self._drop(matrix, "csr")

    def _cusparseCreateDnMat(self, out, n, k, ld, values, kind, layout) -> None:
        assert (kind.value, layout.value, ld.value) == (1, 1, n.value)  # columns of doubles
        self._at(values, n.value * k.value)
        self._new(out, "dense", n=n.value, k=k.value, values=values)

    def _cusparseDestroyDnMat(self, dense) -> None:
        self._drop(dense, "dense")

    def _cusparseSpSM_createDescr(self, out) -> None:
        self._new(out, "step", sized=False, matrix=None)

    def _cusparseSpSM_destroyDescr(self, step) -> None:
        self._drop(step, "step")

    def _step(self, h, transposed, of_b, one, matrix, b, x, kind, algorithm, step) -> dict[str, Any]:
        self._of(h, "sparse"), self._of(b, "dense"), self._of(x, "dense")
        assert (transposed.value, of_b.value, kind.value, algorithm.value) == (1, 0, 1, 0)
        assert one._obj.value == 1.0
        return self._of(step, "step")

    def _cusparseSpSM_bufferSize(self, *arguments) -> None:
        self._step(*arguments[:-1])["sized"] = True
        _write(arguments[-1], 8)

    def _cusparseSpSM_analysis(self, *arguments) -> int:
        *arguments, buffer = arguments
        found = self._step(*arguments)
        if not found["sized"]:
            return INVALID
        self._at(buffer, 8, np.uint8)
        csr = self._of(arguments[4], "csr")
        upper, unit = csr["attributes"][0], csr["attributes"][1]
        matrix = self._csr(*csr["arguments"])  # values are those of now
        triangle = sp.triu(matrix) if upper else sp.tril(matrix)
        if unit:
            triangle = sp.tril(triangle, -1) + sp.eye_array(matrix.shape[0])
        found.update(matrix=sp.csr_array(triangle.T), lower=bool(upper), k=self._of(arguments[5], "dense")["k"])
        return OK

    def _cusparseSpSM_solve(self, *arguments) -> int:
        found = self._step(*arguments)
        b, x = (self._of(handle, "dense") for handle in arguments[5:7])
        if found["matrix"] is None or found["k"] != b["k"]:
            return INVALID
        B, X = (self._at(each["values"], each["n"] * each["k"]).reshape(each["k"], each["n"]) for each in (b, x))
        X[:] = spla.spsolve_triangular(found["matrix"], B.T.copy(), lower=found["lower"]).T
        return OK
