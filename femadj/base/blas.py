"""Vector operations beside a sparse solver: without the threads of BLAS libraries, which go on spinning after each."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from femadj.base.arrays import FloatArray

_PREFIXES, _SUFFIXES = ("scipy_openblas", "openblas"), ("", "64_", "_64")


class _Threads(NamedTuple):
    """The switch of a BLAS library."""

    get: Any
    set: Any


@cache
def scipy_threads() -> _Threads | None:
    """How SciPy's BLAS is told its number of threads; None where it is not an OpenBLAS that can be found."""
    from scipy.linalg import _fblas

    try:
        library = ctypes.CDLL(_fblas.__file__)
    except OSError:
        return None
    for prefix in _PREFIXES:
        for suffix in _SUFFIXES:
            names = (f"{prefix}_get_num_threads{suffix}", f"{prefix}_set_num_threads{suffix}")
            if all(hasattr(library, name) for name in names):
                return _Threads(*(getattr(library, name) for name in names))
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """SciPy's vector operations in one thread, where its BLAS is an OpenBLAS; elsewhere as they are.

    The number belongs to the process: SciPy calls of other threads are slower meanwhile, and as right as before.
    """
    threads = scipy_threads()
    if threads is None:
        yield
        return
    before = int(threads.get())
    threads.set(1)
    try:
        yield
    finally:
        threads.set(before)


def products(rows: FloatArray, x: FloatArray) -> FloatArray:
    """``rows @ x`` of long rows ``(k, n)``, without BLAS."""
    return np.asarray(np.einsum("kn,n->k", rows, x))


def combination(weights: FloatArray, rows: FloatArray) -> FloatArray:
    """``weights @ rows`` of long rows ``(k, n)``, without BLAS."""
    return np.asarray(np.einsum("k,kn->n", weights, rows))
