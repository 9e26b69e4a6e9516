"""cuSOLVER's sparse functions and cuSPARSE's triangular solves, called by ctypes.

CuPy wraps neither the Cholesky factor that stays on the device (NVIDIA, cusolverSp_LOWLEVEL_PREVIEW.h) nor the
refactorisation (cusolverRf.h). NVIDIA has deprecated both in favour of cuDSS; cuSOLVER 11.7 of CUDA 12 and 12.4 of CUDA
13 have every function below.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import byref, c_double, c_int, c_int64, c_size_t, c_void_p
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from femadj.base.cuda import DeviceArrays
from femadj.errors import SolverError, SolverMemoryError, SolverUnavailableError
from femadj.solvers.matrix import Structure

_P, _I = c_void_p, c_int  # a handle or an address, or where to write one number; an enumeration or a 32-bit number
_CSR = (_P, _I, _I, _P, _P, _P)  # handle, n, nnz, description, rows, columns
_CSR_VALUES = (_P, _I, _I, _P, _P, _P, _P)  # the same with values before rows
_HOST_CSR = (_I, _P, _P, _P)  # nnz, rows, columns, values
_SPSM = (_P, _I, _I, _P, _P, _P, _P, _I, _I, _P)

SIGNATURES: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "cusolverSpCreate": (_P,),
        "cusolverSpDestroy": (_P,),
        "cusolverSpXcsrmetisndHost": (*_CSR, _P, _P),
        "cusolverSpCreateCsrcholInfo": (_P,),
        "cusolverSpDestroyCsrcholInfo": (_P,),
        "cusolverSpXcsrcholAnalysis": (*_CSR, _P),
        "cusolverSpDcsrcholBufferInfo": (*_CSR_VALUES, _P, _P, _P),
        "cusolverSpDcsrcholFactor": (*_CSR_VALUES, _P, _P),
        "cusolverSpDcsrcholZeroPivot": (_P, _P, c_double, _P),
        "cusolverSpDcsrcholDiag": (_P, _P, _P),
        "cusolverSpDcsrcholSolve": (_P, _I, _P, _P, _P, _P),
        "cusolverRfCreate": (_P,),
        "cusolverRfDestroy": (_P,),
        "cusolverRfSetMatrixFormat": (_P, _I, _I),
        "cusolverRfSetResetValuesFastMode": (_P, _I),
        "cusolverRfSetupHost": (_I, *_HOST_CSR, *_HOST_CSR, *_HOST_CSR, _P, _P, _P),
        "cusolverRfAnalyze": (_P,),
        "cusolverRfResetValues": (_I, *_HOST_CSR, _P, _P, _P),
        "cusolverRfRefactor": (_P,),
        "cusolverRfAccessBundledFactorsDevice": (_P, _P, _P, _P, _P),
        "cusolverRfSolve": (_P, _P, _P, _I, _P, _I, _P, _I),
        "cusparseCreate": (_P,),
        "cusparseDestroy": (_P,),
        "cusparseCreateMatDescr": (_P,),
        "cusparseDestroyMatDescr": (_P,),
        "cusparseCreateCsr": (_P, c_int64, c_int64, c_int64, _P, _P, _P, _I, _I, _I, _I),
        "cusparseSpMatSetAttribute": (_P, _I, _P, c_size_t),
        "cusparseDestroySpMat": (_P,),
        "cusparseCreateDnMat": (_P, c_int64, c_int64, c_int64, _P, _I, _I),
        "cusparseDestroyDnMat": (_P,),
        "cusparseSpSM_createDescr": (_P,),
        "cusparseSpSM_destroyDescr": (_P,),
        "cusparseSpSM_bufferSize": (*_SPSM, _P),
        "cusparseSpSM_analysis": (*_SPSM, _P),
        "cusparseSpSM_solve": _SPSM,
    }
)
"""Every function that is called, with the C types of its arguments; all return a status."""

ADVICE = "Drop solutions that keep factors, use a coarser mesh, or a solver of the CPU"
"""What to do where the memory of the device does not do."""

_DEFAULT_STREAMS = (0, 1)  # none, and the legacy default stream by name
_NO_MEMORY = 2
_SOLVER_ZERO_PIVOT = 10
_STATUS = (
    "success",
    "not initialised",
    "out of memory on the device",
    "invalid value",
    "not for this device",
    "memory could not be read",
    "execution failed",
    "internal error",
    "matrix type not supported",
)  # 0 to 8 are those of both libraries


class ZeroPivotError(SolverError):
    """A pivot is zero; callers turn it into what users see."""


class Library:
    """The functions with their statuses turned into errors.

    Attributes
    ----------
    version : str
        Of cuSOLVER.

    Raises
    ------
    SolverUnavailableError
        If a function is missing.
    """

    def __init__(self, solver: Any, sparse: Any) -> None:
        number = c_int()
        solver.cusolverGetVersion(byref(number))
        self.version = f"{number.value // 1000}.{number.value // 100 % 10}.{number.value % 100}"
        self._functions = {
            name: getattr(sparse if name.startswith("cusparse") else solver, name, None) for name in SIGNATURES
        }
        missing = [name for name, function in self._functions.items() if function is None]
        if missing:
            raise SolverUnavailableError(
                f"cuSOLVER {self.version}, or its cuSPARSE, has no {', '.join(missing)}, which solver 'cusolver' calls "
                "and NVIDIA has deprecated: use cuDSS instead, solver='cuda'"
            )

    @classmethod
    def found(cls) -> Library:
        """The libraries that are installed with CUDA or from wheels."""
        try:
            from cuda import pathfinder

            paths = [pathfinder.load_nvidia_dynamic_lib(name).abs_path for name in ("cusolver", "cusparse")]
        except ImportError as error:
            raise SolverUnavailableError(
                f"solver 'cusolver' finds its libraries by cuda-pathfinder, which cannot be imported ({error}): "
                "pip install 'femadj[gpu13]', or 'femadj[gpu12]' for a driver of CUDA 12"
            ) from error
        except RuntimeError as error:
            raise SolverUnavailableError(
                f"cuSOLVER and cuSPARSE were not found ({error}): pip install nvidia-cusolver nvidia-cusparse, or "
                "nvidia-cusolver-cu12 nvidia-cusparse-cu12 for a driver of CUDA 12"
            ) from error
        return cls(*(ctypes.CDLL(path) for path in paths))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function; numbers are converted to its C types.

        Raises
        ------
        ZeroPivotError, SolverMemoryError, SolverError
            For its status.
        """
        function, kinds = self._functions[name], SIGNATURES[name]
        if function is None or len(kinds) != len(arguments):
            raise SolverError(f"{name} takes {len(kinds)} arguments, got {len(arguments)}")
        status = function(
            *(kind(a) if isinstance(a, int | float) else a for kind, a in zip(kinds, arguments, strict=True))
        )
        if status == 0:
            return
        message = f"{name} failed: {_STATUS[status] if 0 < status < len(_STATUS) else 'unknown error'} ({status})"
        if status == _SOLVER_ZERO_PIVOT and name.startswith("cusolver"):
            raise ZeroPivotError(message)
        if status == _NO_MEMORY:
            raise SolverMemoryError(f"{message}. {ADVICE}")
        raise SolverError(message)

    def make(self, name: str, *arguments: Any) -> int:
        """Call a function that writes a handle, which is its first argument; the others follow."""
        handle = c_void_p()
        self.call(name, byref(handle), *arguments)
        return handle.value or 0

    def owned(self, owner: object, destroy: str, handle: int) -> weakref.finalize[..., Any]:
        """Destroy a handle when its owner goes, or the result is called."""
        finalizer = weakref.finalize(owner, self.call, destroy, handle)
        finalizer.atexit = False  # the library may be gone by then
        return finalizer


class Session:
    """The library and the device arrays with the handles of one solver.

    Attributes
    ----------
    library : Library
    arrays : DeviceArrays
    solver, sparse, description : int
        Handles of cuSOLVER and cuSPARSE, and what describes a general matrix counted from zero.
    lock : RLock
        Held while the device works.
    """

    def __init__(self, library: Library, arrays: DeviceArrays) -> None:
        self.api = library
        self.arrays = arrays
        self.lock = threading.RLock()
        self.solver = library.make("cusolverSpCreate")
        library.owned(self, "cusolverSpDestroy", self.solver)
        self.sparse = library.make("cusparseCreate")
        library.owned(self, "cusparseDestroy", self.sparse)
        self.description = library.make("cusparseCreateMatDescr")
        library.owned(self, "cusparseDestroyMatDescr", self.description)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One thread at a time, on the default stream.

        Raises
        ------
        SolverMemoryError
            Where arrays do not fit.
        SolverError
            On another stream: cusolverRf can only use the default one.
        """
        with self.lock:
            if self.arrays.stream() not in _DEFAULT_STREAMS:
                raise SolverError("solver 'cusolver' works on the default CUDA stream only: call it outside of others")
            try:
                yield
            except SolverMemoryError:
                raise
            except MemoryError as error:
                raise SolverMemoryError(f"arrays do not fit on the device ({error}). {ADVICE}") from error

    def nested_dissection(self, structure: Structure) -> npt.NDArray[np.integer]:
        """Equations in the order in which cuSOLVER's METIS, which runs on the CPU, eliminates them, (n,)."""
        n = structure.n
        ones = np.ones(len(structure.indices), np.bool_)
        graph = sp.csr_array((ones, structure.indices, structure.indptr), shape=(n, n))
        graph = sp.csr_array(graph + graph.T)
        order = np.arange(n, dtype=np.int32)
        if graph.nnz > np.count_nonzero(graph.diagonal()):  # METIS wants edges
            graph.sort_indices()
            rows, columns = graph.indptr.astype(np.int32), graph.indices.astype(np.int32)
            with self.lock:
                self.api.call(
                    "cusolverSpXcsrmetisndHost",
                    self.solver,
                    n,
                    len(columns),
                    self.description,
                    rows.ctypes.data,
                    columns.ctypes.data,
                    0,
                    order.ctypes.data,
                )
        return order
