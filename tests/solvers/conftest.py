"""What tests of native solvers share."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

import pytest


@pytest.fixture
def mkl() -> ctypes.CDLL:
    import pypardiso

    library = ctypes.CDLL(pypardiso.ps.libmkl._name)
    library.MKL_Mem_Stat.restype = ctypes.c_int64
    return library


@pytest.fixture
def allocated(mkl: ctypes.CDLL) -> Callable[[], int]:
    """Bytes that MKL holds now."""

    def measure() -> int:
        gc.collect()
        mkl.MKL_Free_Buffers()
        return int(mkl.MKL_Mem_Stat(ctypes.byref(ctypes.c_int())))

    return measure
