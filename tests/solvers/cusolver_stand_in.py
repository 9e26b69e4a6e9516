"""Stands in for cuSOLVER and cuSPARSE, and for arrays on a device, in memory of the host.

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

from femadj.base.cuda import DeviceMemory
from femadj.solvers.cusolver_library import SIGNATURES

OK, NOT_INITIALISED, NO_MEMORY, INVALID, ZERO_PIVOT = 0, 1, 2, 3, 10


class DeviceBlock:
    """An array on the device: nothing on the host may look into it but its shape and type."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise AssertionError("an array on the device was used as one on the host")


class HostMemory:
    """Device arrays on the host, whose addresses the library knows from those of arrays on the host."""

    def __init__(self, free: int = 2**33) -> None:
        self.free = free
        self.current_stream = 0
        self.alive: dict[int, int] = {}

    def _made(self, array: np.ndarray) -> DeviceBlock:
        block = DeviceBlock(array)
        self.alive[array.ctypes.data] = max(array.nbytes, 1)
        return block

    def upload(self, a: np.ndarray) -> DeviceBlock:
        assert type(a) is np.ndarray
        return self._made(np.array(a, order="C"))

    def write(self, target: DeviceBlock, a: np.ndarray) -> None:
        assert (target.shape, target.dtype) == (a.shape, a.dtype)
        target._array[...] = a

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceBlock:
        if int(np.prod(shape)) * np.dtype(dtype).itemsize > self.free:
            raise MemoryError("out of memory")
        array = np.zeros(shape, dtype)
        array.view(np.uint8)[...] = 0xFF  # NaN
        return self._made(array)

    def download(self, a: DeviceBlock) -> np.ndarray:
        assert isinstance(a, DeviceBlock)
        return a._array.copy()

    def pointer(self, a: DeviceBlock) -> int:
        return int(a._array.ctypes.data)

    def holds(self, a: Any) -> bool:
        return isinstance(a, DeviceBlock)

    def stream(self) -> int:
        return self.current_stream

    def release(self) -> None:
        pass

    def memory(self) -> DeviceMemory:
        return DeviceMemory(self.free, 2**33)


def _read(address: ctypes.c_void_p, dtype: Any, count: int) -> np.ndarray:
    """What is at an address, (count,); not a copy."""
    kind = np.ctypeslib.as_ctypes_type(dtype)
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(kind)), (count,))


def _write(out: Any, value: int) -> None:
    out._obj.value = value


def _csr(n: Any, nnz: Any, rows: Any, columns: Any, values: Any = None) -> sp.csr_array:
    """A copy of compressed rows, which must be sorted."""
    indptr, indices = _read(rows, np.int32, n.value + 1).copy(), _read(columns, np.int32, nnz.value).copy()
    assert (indptr[0], indptr[-1]) == (0, nnz.value)
    data = np.ones(nnz.value) if values is None else _read(values, np.float64, nnz.value).copy()
    matrix = sp.csr_array((data, indices, indptr), shape=(n.value, n.value))
    assert matrix.has_canonical_format
    return matrix


def _eliminated(matrix: sp.csr_array) -> tuple[sp.csr_array, sp.csr_array] | None:
    """L and U with the pivots on the diagonal, in the order given; None where one is zero."""
    try:
        lu = spla.splu(sp.csc_array(matrix), permc_spec="NATURAL", diag_pivot_thresh=0.0)
    except RuntimeError:
        return None
    if not np.array_equal(lu.perm_r, lu.perm_c):
        return None
    place = lu.perm_c
    return sp.csr_array(lu.L.tocsr()[place][:, place]), sp.csr_array(lu.U.tocsr()[place][:, place])


class StandIn:
    """Both libraries: attributes are functions that take what ctypes would hand over.

    Attributes
    ----------
    calls : list of str
        Names of the functions called so far.
    objects : dict
        What handles stand for.
    """

    version = 12401

    def __init__(self, memory: HostMemory, missing: tuple[str, ...] = ()) -> None:
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

    def _on_device(self, *addresses: Any) -> None:
        for address in addresses:
            inside = (
                start <= address.value < start + size
                for start, size in itertools.chain(self.memory.alive.items(), self._own_memory())
            )
            assert any(inside), "an address that is not on the device"

    def _own_memory(self) -> list[tuple[int, int]]:
        bundles = [each["bundle"] for each in self.objects.values() if each.get("bundle") is not None]
        return [(a.ctypes.data, a.nbytes) for bundle in bundles for a in bundle]

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
        graph = _csr(n, nnz, rows, columns)
        assert (graph != graph.T).nnz == 0
        _read(out, np.int32, n.value)[:] = np.arange(n.value)[::-1]

    # ----------------------------------------------------------------------------------------- Cholesky

    def _cusolverSpCreateCsrcholInfo(self, out: Any) -> None:
        self._new(out, "cholesky", analysed=False, sized=False, pivots=None)

    def _cusolverSpDestroyCsrcholInfo(self, info: Any) -> None:
        self._drop(info, "cholesky")

    def _cusolverSpXcsrcholAnalysis(self, h, n, nnz, d, rows, columns, info) -> None:
        self._of(h, "solver"), self._of(d, "description"), self._on_device(rows, columns)
        self._of(info, "cholesky").update(analysed=True, pattern=_csr(n, nnz, rows, columns))

    def _cusolverSpDcsrcholBufferInfo(self, h, n, nnz, d, values, rows, columns, info, internal, workspace) -> int:
        found = self._of(info, "cholesky")
        if not found["analysed"]:
            return INVALID
        found["sized"] = True
        _write(internal, 100 * nnz.value)
        _write(workspace, 8 * n.value)
        return OK

    def _cusolverSpDcsrcholFactor(self, h, n, nnz, d, values, rows, columns, info, buffer) -> int:
        self._of(h, "solver"), self._of(d, "description"), self._on_device(values, rows, columns, buffer)
        found = self._of(info, "cholesky")
        if not found["sized"]:
            return INVALID
        matrix = _csr(n, nnz, rows, columns, values)
        assert abs(matrix - matrix.T).max() == 0.0
        assert np.array_equal(matrix.indices, found["pattern"].indices)
        found["lu"] = _eliminated(matrix) and spla.splu(
            sp.csc_array(matrix), diag_pivot_thresh=0.0, permc_spec="NATURAL", options={"SymmetricMode": True}
        )
        found["pivots"] = np.zeros(n.value) if found["lu"] is None else found["lu"].U.diagonal()
        return OK

    def _cusolverSpDcsrcholZeroPivot(self, h, info, tolerance, out) -> int:
        pivots = self._of(info, "cholesky")["pivots"]
        if pivots is None:
            return INVALID
        bad = np.flatnonzero(np.sqrt(np.maximum(pivots, 0.0)) <= tolerance.value)
        _write(out, int(bad[0]) + 1 if len(bad) else -1)  # counted from one: seen on a device of CUDA 13
        return OK

    def _cusolverSpDcsrcholDiag(self, h, info, out) -> None:
        self._on_device(out)
        pivots = self._of(info, "cholesky")["pivots"]
        _read(out, np.float64, len(pivots))[:] = np.sqrt(pivots)

    def _cusolverSpDcsrcholSolve(self, h, n, b, x, info, buffer) -> int:
        self._on_device(b, x, buffer)
        lu = self._of(info, "cholesky").get("lu")
        if lu is None:
            return INVALID
        _read(x, np.float64, n.value)[:] = lu.solve(_read(b, np.float64, n.value).copy())
        return OK

    # ---------------------------------------------------------------------------------- refactorisation

    def _cusolverRfCreate(self, out: Any) -> None:
        self._new(out, "rf", format=(0, 0), analysed=False, values=None, bundle=None, factorised=False)

    def _cusolverRfDestroy(self, handle: Any) -> None:
        self._drop(handle, "rf")

    def _cusolverRfSetMatrixFormat(self, handle, layout, diagonal) -> None:
        self._of(handle, "rf")["format"] = layout.value, diagonal.value

    def _cusolverRfSetResetValuesFastMode(self, handle, mode) -> None:
        self._of(handle, "rf")["fast"] = mode.value

    def _cusolverRfSetupHost(self, n, nnz, rows, columns, values, *rest) -> None:
        lower, upper, (p, q, handle) = rest[:4], rest[4:8], rest[8:]
        found = self._of(handle, "rf")
        assert found["format"] == (0, 2)  # rows; the unit diagonal of L is not stored
        matrix = _csr(n, nnz, rows, columns, values)
        L, U = _csr(n, *lower), _csr(n, *upper)
        assert (sp.tril(L, -1).nnz, sp.triu(U).nnz) == (L.nnz, U.nnz)
        assert U.diagonal().all()
        P, Q = (_read(a, np.int32, n.value).copy() for a in (p, q))
        permuted = matrix[P][:, Q]
        away = abs(permuted - (L + sp.eye_array(n.value)) @ U)
        away.setdiag(0.0)  # of pivots that are where the matrix has no entry
        assert away.max() <= 1e-9 * abs(permuted).max() + (0.0 if permuted.diagonal().all() else 1.0)
        found.update(matrix=matrix, P=P, Q=Q, L=L, U=U)

    def _cusolverRfAnalyze(self, handle) -> int:
        found = self._of(handle, "rf")
        if "matrix" not in found:
            return INVALID
        bundle = sp.csr_array(found["L"] + found["U"])
        bundle.sort_indices()
        bundle.data[:] = np.nan
        found["analysed"] = True
        found["bundle"] = bundle.indptr.astype(np.int32), bundle.indices.astype(np.int32), bundle.data
        return OK

    def _cusolverRfResetValues(self, n, nnz, rows, columns, values, p, q, handle) -> int:
        self._on_device(rows, columns, values, p, q)
        found = self._of(handle, "rf")
        if not found["analysed"]:
            return INVALID
        matrix = _csr(n, nnz, rows, columns, values)
        assert np.array_equal(matrix.indices, found["matrix"].indices)
        for address, name in ((p, "P"), (q, "Q")):
            assert np.array_equal(_read(address, np.int32, n.value), found[name])
        found["values"], found["factorised"] = matrix, False
        return OK

    def _cusolverRfRefactor(self, handle) -> int:
        found = self._of(handle, "rf")
        if found["values"] is None:
            return INVALID
        factors = _eliminated(found["values"][found["P"]][:, found["Q"]])
        if factors is None:
            return ZERO_PIVOT
        L, U = factors
        indptr, indices, data = found["bundle"]
        n = len(indptr) - 1
        where = np.repeat(np.arange(n), np.diff(indptr)) * n + indices
        computed = sp.coo_array(sp.csr_array(sp.tril(L, -1) + U))
        places = computed.coords[0].astype(np.int64) * n + computed.coords[1]
        at = np.searchsorted(where, places)
        assert np.array_equal(where[np.minimum(at, len(where) - 1)], places), "fill that was not told at set-up"
        data[:] = 0.0
        data[at] = computed.data
        found["factorised"] = True
        return OK

    def _cusolverRfAccessBundledFactorsDevice(self, handle, nnz, indptr, indices, values) -> int:
        found = self._of(handle, "rf")
        if not found["factorised"]:
            return INVALID
        _write(nnz, len(found["bundle"][1]))
        for out, array in zip((indptr, indices, values), found["bundle"], strict=True):
            _write(out, array.ctypes.data)
        return OK

    def _cusolverRfSolve(self, handle, p, q, count, scratch, ld, x, ldx) -> int:
        self._on_device(p, q, scratch, x)
        found = self._of(handle, "rf")
        if not found["factorised"] or count.value != 1:
            return INVALID
        n = len(found["P"])
        assert ld.value == ldx.value == n
        indptr, indices, data = found["bundle"]
        both = sp.csr_array((data, indices, indptr), shape=(n, n))
        X = _read(x, np.float64, n)
        y = spla.spsolve_triangular(sp.csr_array(sp.tril(both, -1) + sp.eye_array(n)), X[found["P"]], lower=True)
        z = np.empty(n)
        z[found["Q"]] = spla.spsolve_triangular(sp.csr_array(sp.triu(both)), y, lower=False)
        X[:] = z
        return OK

    # ------------------------------------------------------------------------------------------- cuSPARSE

    def _cusparseCreateCsr(self, out, m, n, nnz, rows, columns, values, *kinds) -> None:
        self._on_device(rows, columns, values)
        assert [m.value, *(k.value for k in kinds)] == [n.value, 2, 2, 0, 1]
        self._new(out, "csr", arguments=(n, nnz, rows, columns, values), attributes={})

    def _cusparseSpMatSetAttribute(self, matrix, attribute, value, size) -> None:
        assert size.value == ctypes.sizeof(value._obj) == 4
        self._of(matrix, "csr")["attributes"][attribute.value] = value._obj.value

    def _cusparseDestroySpMat(self, matrix) -> None:
        self._drop(matrix, "csr")

    def _cusparseCreateDnMat(self, out, n, k, ld, values, kind, layout) -> None:
        self._on_device(values)
        assert (kind.value, layout.value, ld.value) == (1, 1, n.value)  # columns of doubles
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
        self._on_device(buffer)
        if not found["sized"]:
            return INVALID
        csr = self._of(arguments[4], "csr")
        upper, unit = csr["attributes"][0], csr["attributes"][1]
        matrix = _csr(*csr["arguments"])  # values are those of now
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
        B, X = (
            _read(each["values"], np.float64, each["n"] * each["k"]).reshape(each["k"], each["n"]) for each in (b, x)
        )
        X[:] = spla.spsolve_triangular(found["matrix"], B.T.copy(), lower=found["lower"]).T
        return OK
