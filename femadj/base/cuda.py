"""Arrays on a CUDA device, as solvers and kernels there take them, made by CuPy."""

from __future__ import annotations

import ctypes
import importlib.util
import math
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from femadj.errors import SolverMemoryError, SolverUnavailableError

HostArray = npt.NDArray[Any]


class DeviceMemory(NamedTuple):
    """Of the whole device [bytes]."""

    free: int
    total: int


class DeviceArrays(Protocol):
    """Where arrays on a device come from. They are C-contiguous, and callers read nothing but their shape and type;
    tests stand in for it with arrays on the host that refuse everything else.
    """

    def upload(self, a: HostArray) -> Any:
        """A copy on the device."""
        ...

    def write(self, target: Any, a: HostArray) -> None:
        """Overwrite an array on the device with one of its shape and type."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """An array on the device, not filled."""
        ...

    def download(self, a: Any) -> HostArray:
        """A copy on the host; waits for what is going on."""
        ...

    def page_locked(self, n: int) -> HostArray:
        """Room for so many real numbers on the host, which the device writes to at its full speed."""
        ...

    def read(self, a: Any, first: int, into: HostArray) -> None:
        """Copy entries of a flat array from ``first`` on, as many as fit, to the host; waits for what is going on."""
        ...

    def pointer(self, a: Any) -> int:
        """Address of the first entry."""
        ...

    def holds(self, a: Any) -> bool:
        """Whether something is an array on the device."""
        ...

    def stream(self) -> int:
        """The stream that work is queued on."""
        ...

    def kernel(self, source: str, name: str) -> Callable[..., None]:
        """A function of CUDA C, compiled at its first call: ``launch(blocks, threads, *arguments)`` queues it.

        Arguments are arrays on the device, and numbers of NumPy of the types that it takes.
        """
        ...

    def release(self) -> None:
        """Give blocks that are kept for later arrays back to the device, for libraries that allocate by themselves."""
        ...

    def memory(self) -> DeviceMemory:
        """What the device has, and has left."""
        ...


class CuPyArrays:
    """Arrays on the current device, by CuPy; use :func:`device_arrays`.

    Raises
    ------
    SolverUnavailableError
        Without CuPy, a driver, or a device.
    SolverMemoryError
        From its methods, where the device has no memory left.
    """

    def __init__(self) -> None:
        _require_driver()
        try:
            import cupy
        except ImportError as error:
            raise SolverUnavailableError(
                f"CUDA needs CuPy, which cannot be imported ({error}): pip install 'femadj[gpu13]', or 'femadj[gpu12]' "
                "for a driver of CUDA 12"
            ) from error
        try:
            cupy.cuda.runtime.getDevice()
            cupy.zeros(1)
        except Exception as error:  # those of the driver, of the runtime, and of libraries that it loads
            raise SolverUnavailableError(
                f"there is no CUDA device that CuPy can use ({type(error).__name__}: {error}): nvidia-smi says whether "
                "the driver sees one"
            ) from error
        self._cupy = cupy

    def upload(self, a: HostArray) -> Any:
        return self._room(a.nbytes, lambda: self._cupy.asarray(a, order="C"))

    def write(self, target: Any, a: HostArray) -> None:
        target.set(np.ascontiguousarray(a, dtype=target.dtype))

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        return self._room(math.prod(shape) * np.dtype(dtype).itemsize, lambda: self._cupy.empty(shape, dtype))

    def _room(self, n_bytes: int, make: Callable[[], Any]) -> Any:
        """SolverMemoryError where the device has no memory left for so many bytes."""
        try:
            return make()
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            free = self.memory().free / 1e9
            raise SolverMemoryError(
                f"the device has no memory left for {n_bytes / 1e9:.3g} GB ({free:.3g} GB are free): "
                "solver='pardiso' works in that of the host",
                n_bytes,
            ) from error

    def download(self, a: Any) -> HostArray:
        result: HostArray = self._cupy.asnumpy(a)
        return result

    def page_locked(self, n: int) -> HostArray:
        from cupyx import empty_pinned

        result: HostArray = empty_pinned(n, np.float64)
        return result

    def read(self, a: Any, first: int, into: HostArray) -> None:
        a[first : first + len(into)].get(out=into)

    def pointer(self, a: Any) -> int:
        return int(a.data.ptr)

    def holds(self, a: Any) -> bool:
        return isinstance(a, self._cupy.ndarray)

    def stream(self) -> int:
        return int(self._cupy.cuda.get_current_stream().ptr)

    def kernel(self, source: str, name: str) -> Callable[..., None]:
        compiled = self._cupy.RawKernel(source, name)

        def launch(blocks: int, threads: int, *arguments: Any) -> None:
            compiled((blocks,), (threads,), arguments)

        return launch

    def release(self) -> None:
        self._cupy.get_default_memory_pool().free_all_blocks()

    def memory(self) -> DeviceMemory:
        return DeviceMemory(*(int(n) for n in self._cupy.cuda.runtime.memGetInfo()))


def _require_driver() -> None:
    """Look for CuPy and a driver before CuPy is imported, which takes a second."""
    if importlib.util.find_spec("cupy") is None:
        return  # the import says what is missing
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError as error:
        raise SolverUnavailableError(f"there is no NVIDIA driver: {error}") from error


@cache
def device_arrays() -> CuPyArrays:
    """Those of this process; errors as :class:`CuPyArrays`."""
    return CuPyArrays()


def on_host(value: Any) -> Any:
    """A copy on the host of an array on a CUDA device, CuPy's or another library's; anything else as it is."""
    return device_arrays().download(value) if hasattr(value, "__cuda_array_interface__") else value
