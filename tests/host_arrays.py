"""Arrays of a device that is none: host memory behind addresses that mean nothing to the host."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from femadj.base.cuda import DeviceMemory

_FIRST, _ALIGNMENT = 0x7000_0000_0000_0000, 512


class DeviceArray:
    """What callers of ``DeviceArrays`` get: shape and type, and nothing that the host could work with."""

    def __init__(self, content: npt.NDArray[Any], address: int) -> None:
        self._content, self._address = content, address
        self.shape, self.dtype = content.shape, content.dtype

    def _refuse(self, *arguments: Any, **options: Any) -> NoReturn:
        raise TypeError("the host has touched an array on the device")

    __array__ = __len__ = __iter__ = __getitem__ = __setitem__ = __bool__ = __float__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __eq__ = __lt__ = __gt__ = _refuse
    __array_ufunc__ = __array_function__ = _refuse
    __hash__ = object.__hash__


class HostArrays:
    """In place of CuPy. Addresses lead nowhere: what reads them without asking :meth:`at` crashes.

    Attributes
    ----------
    free, total : int
        What :meth:`memory` tells; ``free`` is before what is alive.
    kernels : dict
        By name: functions of NumPy that do what the kernels of that name do, from their arguments.
    launched : Counter
        Kernels by name.
    """

    def __init__(self, free: int = 2**36, kernels: dict[str, Callable[..., None]] | None = None) -> None:
        self.free = self.total = free
        self.kernels, self.launched = kernels or {}, Counter[str]()
        self.released = 0
        self._next = _FIRST
        self._alive: weakref.WeakValueDictionary[int, DeviceArray] = weakref.WeakValueDictionary()

    def _new(self, content: npt.NDArray[Any]) -> DeviceArray:
        array = DeviceArray(content, self._next)
        self._alive[self._next] = array
        self._next += _ALIGNMENT * (2 + content.nbytes // _ALIGNMENT)  # never used again, with a gap
        return array

    @property
    def bytes_alive(self) -> int:
        return sum(array._content.nbytes for array in list(self._alive.values()))

    # --------------------------------------------------------------------------------- the protocol
    def upload(self, a: npt.NDArray[Any]) -> DeviceArray:
        assert isinstance(a, np.ndarray), f"{type(a).__name__} is not on the host"
        return self._new(np.array(a, order="C"))

    def write(self, target: DeviceArray, a: npt.NDArray[Any]) -> None:
        assert isinstance(a, np.ndarray)
        assert (a.shape, a.dtype) == (target.shape, target.dtype)
        target._content[...] = a

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
        return self._new(np.full(shape, np.nan).astype(dtype) if np.dtype(dtype).kind == "f" else np.ones(shape, dtype))

    def download(self, a: DeviceArray) -> npt.NDArray[Any]:
        assert isinstance(a, DeviceArray), f"{type(a).__name__} is not on the device"
        return a._content.copy()

    def pointer(self, a: DeviceArray) -> int:
        assert isinstance(a, DeviceArray), f"{type(a).__name__} is not on the device"
        return a._address

    def holds(self, a: Any) -> bool:
        return isinstance(a, DeviceArray)

    def stream(self) -> int:
        return 0x5EA

    def kernel(self, source: str, name: str) -> Callable[..., None]:
        assert f" {name}(" in source

        def launch(blocks: int, threads: int, *arguments: Any) -> None:
            assert blocks > 0
            assert 0 < threads <= 1024
            for each in arguments:
                assert isinstance(each, (DeviceArray, np.number)), f"{type(each).__name__} is not for a device"
            self.launched[name] += 1
            self.kernels[name](*(each._content if isinstance(each, DeviceArray) else each for each in arguments))

        return launch

    def release(self) -> None:
        self.released += 1

    def memory(self) -> DeviceMemory:
        return DeviceMemory(self.free - self.bytes_alive, self.total)

    # ------------------------------------------------------------------- for what stands in for libraries
    def at(self, address: int | None, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The numbers at an address, to read and to write; AssertionError unless all of them are on the device."""
        assert address is not None, "a null pointer"
        for start, array in list(self._alive.items()):
            if start <= address < start + max(array._content.nbytes, 1):
                assert array.dtype == np.dtype(dtype), f"{array.dtype} at an address of {np.dtype(dtype)}"
                first, odd = divmod(address - start, array.dtype.itemsize)
                assert not odd
                assert first + count <= array._content.size, "beyond the end of an array"
                return array._content.reshape(-1)[first : first + count]
        raise AssertionError(f"{address:#x} is not on the device, or has been freed")
