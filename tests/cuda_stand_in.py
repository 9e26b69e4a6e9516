"""Kernels of a CUDA device in plain Python: thread after thread, on arrays that are no device's."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.kernels import device, entity
from femadj.kernels.compile import Sizes
from tests.host_arrays import DeviceArray, HostArrays


class CountedArrays(HostArrays):
    """Counts what is moved, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads: list[int] = []
        self.downloads: list[int] = []

    def upload(self, a: npt.NDArray[Any]) -> DeviceArray:
        self.uploads.append(a.nbytes)
        return super().upload(a)

    def download(self, a: DeviceArray) -> npt.NDArray[Any]:
        self.downloads.append(a._content.nbytes)
        return super().download(a)

    def page_locked(self, n: int) -> npt.NDArray[Any]:
        return np.full(n, np.nan)

    def read(self, a: DeviceArray, first: int, into: npt.NDArray[Any]) -> None:
        part = a._content[first : first + len(into)]
        assert a._content.ndim == 1
        assert part.shape == into.shape
        self.downloads.append(part.nbytes)
        into[...] = part


class _Cuda:
    """What kernels ask of ``numba.cuda``. Scratch space is filled with NaN."""

    def __init__(self) -> None:
        self.thread = self.block = self.threads = 0
        self.local = self.shared = SimpleNamespace(array=lambda shape, dtype: np.full(shape, np.nan))

    def grid(self, n_dims: int) -> int:
        assert n_dims == 1
        return self.block * self.threads + self.thread

    @property
    def threadIdx(self) -> Any:
        return SimpleNamespace(x=self.thread)


class PlainLaunch:
    """In place of ``femadj.kernels.device.Launch``; ``monkeypatch`` gives that module its ``cuda``."""

    def __init__(self, monkeypatch: Any) -> None:
        self.started: list[str] = []
        self._cuda = _Cuda()
        monkeypatch.setattr(device, "cuda", self._cuda)

    def __call__(self, s: Sizes, name: str, n: int, *arguments: Any) -> None:
        kernel, cuda = _bodies(s)[name], self._cuda
        self.started.append(name)
        given = [content(argument) for argument in arguments]
        cuda.threads = kernel.threads
        for thread in range(-(-n * kernel.lanes // kernel.threads) * kernel.threads):
            cuda.block, cuda.thread = divmod(thread, kernel.threads)
            kernel.body(*given)


def content(value: Any) -> Any:
    """Arguments of a kernel as plain Python takes them; an array of the host among them is an error."""
    if isinstance(value, DeviceArray):
        return value._content
    if isinstance(value, tuple):
        return type(value)(*map(content, value))
    assert value is None or isinstance(value, int | float), f"{type(value).__name__} is not on the device"
    return value


@cache
def _bodies(s: Sizes) -> dict[str, device.Kernel]:
    return device.bodies(s, lambda function: function, SimpleNamespace(**vars(entity)))
