"""cuDSS on one device: its context, and systems that are analysed, factorised and solved there."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_double, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from femadj.base.cuda import DeviceArrays
from femadj.errors import SolverError, SolverUnavailableError
from femadj.solvers import cudss
from femadj.solvers.cudss import Config, CudssError, Data, Library, Matching, Phase
from femadj.solvers.matrix import MatrixKind, Structure

Numbers = npt.NDArray[np.floating[Any]]
Number = TypeVar("Number", bound=np.floating[Any])

REPLACEMENT = {"float32": 1e-5, "float64": 1e-13}
"""Pivots of matrices that are not definite are replaced below this, relative to the largest entry."""

_ESTIMATES = 16
_PERMANENT, _PEAK = 0, 1
_Natives = list[tuple[str, tuple[Any, ...]]]


class Memory(NamedTuple):
    """Memory of the device that a system takes, as cuDSS estimates it [bytes]: while it factorises, and after."""

    peak: int
    kept: int


@dataclass(frozen=True)
class Options:
    """How a system is analysed and factorised."""

    kind: MatrixKind
    threads: int | None = None
    """Of the host, for the ordering; None: as many as there are."""
    deterministic: bool = False
    matched: bool = False
    """Permute large entries to the diagonal and scale, as the values at the analysis want it."""
    single: bool = False

    @property
    def number(self) -> np.dtype[Any]:
        """Type of values and vectors."""
        return np.dtype(np.float32 if self.single else np.float64)

    def more_careful(self) -> Options | None:
        """What to try next where a factor is not accurate, at a higher price; None where nothing is left."""
        if not self.matched:
            return replace(self, matched=True)
        return replace(self, kind="general") if self.kind == "symmetric" else None


class Context:
    """What all systems on a device share: the library's handle, and a lock. Freed when nobody holds it any more.

    Attributes
    ----------
    threaded : bool
        Whether orders are found by several threads of the host.

    Raises
    ------
    SolverUnavailableError
        If the library does not work on this device.
    """

    def __init__(self, library: Library, arrays: DeviceArrays) -> None:
        self.api, self.arrays = library, arrays
        self._lock = threading.Lock()
        self._retired: deque[_Natives] = deque()
        self.handle = c_void_p()
        finalizer = weakref.finalize(self, _end, library, self.handle, self._retired)
        finalizer.atexit = False  # the driver may be gone by then, and takes all memory back
        try:
            library.call("cudssCreate", byref(self.handle))
            layer = library.threading_layer
            self.threaded = layer is not None and library.answers("cudssSetThreadingLayer", self.handle, layer.encode())
        except CudssError as error:
            raise SolverUnavailableError(f"cuDSS does not work on this device: {error}") from error

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work on the device: one thread at a time, on the current stream."""
        try:
            with self._lock:
                self.api.call("cudssSetStream", self.handle, c_void_p(self.arrays.stream()))
                yield
        finally:
            self._destroy_retired()

    def retire(self, natives: _Natives) -> None:
        """Destroy objects of the library; called by finalizers, at any moment and in any thread."""
        self._retired.append(natives)
        self._destroy_retired()

    def _destroy_retired(self) -> None:
        # Whoever holds the lock looks here again when done, so that finalizers in the middle of a call need not wait.
        while self._retired and self._lock.acquire(blocking=False):
            try:
                _destroy(self.api, self._retired)
            finally:
                self._lock.release()


def _destroy(library: Library, retired: deque[_Natives]) -> None:
    while retired:
        for name, arguments in reversed(retired.popleft()):
            if arguments[-1]:  # one that could not be made is null
                library.call(name, *arguments)


def _end(library: Library, handle: c_void_p, retired: deque[_Natives]) -> None:
    _destroy(library, retired)
    if handle:
        library.call("cudssDestroy", handle)


class Pattern:
    """A sparsity structure on the device, shared by systems.

    Raises
    ------
    SolverError
        If it has more entries than 32-bit integers can count.
    """

    def __init__(self, context: Context, structure: Structure) -> None:
        self.n, self.nnz, self.upper = structure.n, len(structure.indices), structure.upper
        if self.nnz > np.iinfo(np.int32).max:
            raise SolverError(
                f"the matrix has {self.nnz} stored entries, and cuDSS counts them by 32-bit integers, up to "
                f"{np.iinfo(np.int32).max}: use a coarser mesh, or a solver on the CPU"
            )
        self.context = context
        self.indptr = context.arrays.upload(structure.indptr.astype(np.int32))
        self.indices = context.arrays.upload(structure.indices)


class System:
    """One native object: the analysis of a structure, and at most one factor on it.

    Freed when nobody holds it any more.

    Attributes
    ----------
    factorised : bool
        Whether there is a factor.
    allocated : bool
        Whether it has the memory that factors take.
    number : int
        Of the factor: how many have been asked for.
    memory : Memory
        What it takes, or is estimated to take.
    order : (n,) int32 or None
        Equation at every place of the order of elimination; None where large pivots were looked for.

    Parameters
    ----------
    pattern : Pattern
    options : Options
    order : (n,) int32, optional
        Order of elimination, of another system with this structure; by default cuDSS finds one.
    values : array on the device, optional
        Of a matrix that large pivots are looked for in.
    """

    def __init__(
        self, pattern: Pattern, options: Options, order: npt.NDArray[np.int32] | None = None, values: Any = None
    ) -> None:
        self.pattern, self.options = pattern, options
        self.factorised = self.allocated = False
        self.number = 0
        context = self._context = pattern.context
        natives: _Natives = []
        finalizer = weakref.finalize(self, context.retire, natives)
        finalizer.atexit = False
        call, number = context.api.call, options.number
        n, arrays = pattern.n, context.arrays
        with context.working():
            self._config = _made(natives, "cudssConfigDestroy")
            call("cudssConfigCreate", byref(self._config))
            self._set(Config.MATCHING, Matching.LARGEST_PRODUCT if options.matched else Matching.NONE)
            self._set(Config.REFINEMENTS, 0)
            self._set(Config.DETERMINISTIC, int(options.deterministic))
            if options.threads and context.threaded:
                self._set(Config.HOST_THREADS, options.threads)
            self._data = _made(natives, "cudssDataDestroy", context.handle)
            call("cudssDataCreate", context.handle, byref(self._data))
            self._values = arrays.upload(np.ones(pattern.nnz, number)) if values is None else values
            self._vectors = arrays.upload(np.zeros((2, n), number))  # their shape is that of solves to come
            self._matrix = _made(natives, "cudssMatrixDestroy")
            p = arrays.pointer
            call(
                "cudssMatrixCreateCsr", byref(self._matrix), n, n, pattern.nnz,
                p(pattern.indptr), None, p(pattern.indices), p(self._values),
                cudss.INT32, cudss.INT32, cudss.NUMBER[number.name], cudss.MATRIX_TYPE[options.kind],
                cudss.UPPER if pattern.upper else cudss.FULL, cudss.ZERO_BASED,
            )  # fmt: skip
            self._x, self._b = (
                self._dense(natives, 1, p(self._vectors) + row * n * number.itemsize) for row in range(2)
            )
            if order is not None:
                order = np.ascontiguousarray(order, np.int32)
                where, size = c_void_p(order.ctypes.data), order.nbytes
                call("cudssDataSet", context.handle, self._data, Data.USER_ORDER, where, size)
            self._execute(Phase.ANALYSE, self._x, self._b)
            self.memory = self._estimated()
            self.order = order
            if order is None and not options.matched:
                self.order = np.empty(n, np.int32)
                self._read(Data.ORDER, c_void_p(self.order.ctypes.data), self.order.nbytes)

    def factorise(self, values: Any, size: float, *, afresh: bool = False) -> int:
        """Factorise; the number of the first pivot that is not positive, in the order of elimination from one, or 0.

        Parameters
        ----------
        values : array on the device
            Kept until the next ones come.
        size : float
            Of entries, which pivots that are too small are compared with.
        afresh : bool
            Without what the factor before is good for.
        """
        context, options = self._context, self.options
        with context.working():
            again, self.factorised = self.factorised and not afresh, False
            self.number += 1
            if self.number > 1:  # the indicator of errors stays as it is until it is reset
                none = c_int(0)
                context.api.call(
                    "cudssDataSet", context.handle, self._data, Data.INFO, byref(none), ctypes.sizeof(none)
                )
            context.api.call("cudssMatrixSetValues", self._matrix, context.arrays.pointer(values))
            self._values = values
            # An absolute size. Definite matrices need no replaced pivots, and those of different units get none.
            epsilon = 0.0 if options.kind == "spd" else REPLACEMENT[options.number.name] * size
            where = byref(c_double(epsilon))
            context.api.call("cudssConfigSet", self._config, Config.PIVOT_EPSILON, where, ctypes.sizeof(c_double))
            self._execute(Phase.FACTORISE_AGAIN if again else Phase.FACTORISE, self._x, self._b)
            info = self._integers(Data.INFO)[0]
            self.allocated, self.factorised = True, not info
            self.memory = self._estimated()
        return info

    def solve(
        self, number: int, block: npt.NDArray[Number], *, transposed: bool, refinements: int = 0
    ) -> npt.NDArray[Number]:
        """Solve with the factor of this number for the rows of a C-contiguous (k, n) block; a new one like it.

        ``refinements``: steps of iterative refinement, none in deterministic mode, which does not allow for them.
        """
        context, dtype = self._context, self.options.number
        arrays, step = context.arrays, self.pattern.n * dtype.itemsize
        count = len(block)
        with context.working():
            if not self.factorised or number != self.number:
                raise SolverError("this factor has been closed")
            b, x = arrays.upload(block), arrays.empty(block.shape, dtype)
            self._set(Config.REFINEMENTS, 0 if self.options.deterministic else refinements)
            self._set(Config.SOLVE_MODE, int(transposed and self.options.kind == "general"))
            # Only solves for one right-hand side repeat their bits.
            size = 1 if self.options.deterministic else count
            for first in range(0, count, size):
                natives: _Natives = []
                try:
                    dense = [self._dense(natives, size, arrays.pointer(a) + first * step) for a in (x, b)]
                    self._execute(Phase.SOLVE, *dense)
                finally:
                    _destroy(context.api, deque([natives]))
            return arrays.download(x)

    def fill(self) -> int:
        """Stored entries of the factor."""
        value = c_int64()
        with self._context.working():
            self._read(Data.FILL, byref(value), ctypes.sizeof(value))
        return value.value

    def replaced(self) -> int:
        """Pivots that were too small and have been replaced."""
        with self._context.working():
            return self._integers(Data.REPLACED_PIVOTS)[0]

    def inertia(self) -> tuple[int, int] | None:
        """Numbers of positive and negative pivots of a symmetric matrix; None where they do not account for all."""
        with self._context.working():
            positive, negative = self._integers(Data.INERTIA, 2)
        return (positive, negative) if positive + negative == self.pattern.n else None

    def diagonal(self) -> Numbers | None:
        """Diagonal of the factor, (n,) in the order of the matrix; None where the library does not tell."""
        values, written = np.full(self.pattern.n, np.nan, self.options.number), c_size_t()
        context = self._context
        with context.working():
            told = context.api.answers(
                "cudssDataGet", context.handle, self._data, Data.DIAGONAL, c_void_p(values.ctypes.data), values.nbytes,
                byref(written),
            )  # fmt: skip
        return values if told and written.value == values.nbytes else None

    # ------------------------------------------------------------------------------------- calls, under the lock
    def _dense(self, natives: _Natives, k: int, address: int) -> c_void_p:
        """Vectors at an address: the rows of a C-contiguous (k, n) array are the columns of what the library sees."""
        matrix = _made(natives, "cudssMatrixDestroy")
        n, number = self.pattern.n, cudss.NUMBER[self.options.number.name]
        self._context.api.call(
            "cudssMatrixCreateDn", byref(matrix), n, k, n, c_void_p(address), number, cudss.COLUMN_MAJOR
        )
        return matrix

    def _execute(self, phase: Phase, x: c_void_p, b: c_void_p) -> None:
        context = self._context
        context.api.call("cudssExecute", context.handle, phase, self._config, self._data, self._matrix, x, b)

    def _set(self, name: Config, value: int) -> None:
        number = c_int(value)
        self._context.api.call("cudssConfigSet", self._config, name, byref(number), ctypes.sizeof(number))

    def _read(self, name: Data, into: Any, size: int) -> int:
        context, written = self._context, c_size_t()
        context.api.call("cudssDataGet", context.handle, self._data, name, into, size, byref(written))
        return written.value

    def _integers(self, name: Data, count: int = 1) -> list[int]:
        values = (c_int * count)()
        self._read(name, byref(values), ctypes.sizeof(values))
        return list(values)

    def _estimated(self) -> Memory:
        values = (c_int64 * _ESTIMATES)()
        self._read(Data.MEMORY, byref(values), ctypes.sizeof(values))
        return Memory(int(values[_PEAK]), int(values[_PERMANENT]))


def _made(natives: _Natives, destroy: str, *before: c_void_p) -> c_void_p:
    """Room for a handle that the library fills in, registered for its destruction."""
    handle = c_void_p()
    natives.append((destroy, (*before, handle)))
    return handle
