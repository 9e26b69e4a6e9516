"""Passes of device kernels in numba-cuda's simulator: ``NUMBA_ENABLE_CUDASIM=1 python -m tests.simulated``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import config

from femadj.kernels.device import Launch
from femadj.space.device import CudaEngine
from tests.device_passes import Sample, order_of, simulated_mesh
from tests.host_arrays import HostArrays


class PlainArrays(HostArrays):
    """Arrays of the host, which the simulator makes its own of."""

    def upload(self, a: Any) -> Any:
        return a.copy(order="C")

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return np.full(shape, np.nan, dtype)

    def download(self, a: Any) -> Any:
        return a.copy()

    def page_locked(self, n: int) -> Any:
        return np.empty(n)

    def read(self, a: Any, first: int, into: Any) -> None:
        into[...] = a[first : first + len(into)]


if __name__ == "__main__":
    assert config.ENABLE_CUDASIM
    engine = CudaEngine(lambda: (PlainArrays(), Launch(lambda: 0)), smallest=1)
    for cell, form in (("quad", "system"), ("tetra", "elasticity")):
        errors = Sample(simulated_mesh(cell), form, order_of(cell)).errors(engine)
        print(cell, form, errors)
        assert max(errors.values()) < 1e-12
