"""Matrices whose products a CUDA device computes, so that checks of solves take no sweep over entries on the host."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.cuda import DeviceArrays
from femadj.solvers.matrix import Matrix, Structure

SOURCE = """
extern "C" __global__ void residual(
    int n, const int* start, const int* columns, const int* slots, const double* values,
    const double* b, const double* x, double* into)
{
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= n) return;
    double total = 0.0, size = 0.0;
    for (int k = start[row] + threadIdx.x % 32; k < start[row + 1]; k += 32) {
        double product = values[slots[k]] * x[columns[k]];
        total += product;
        size += fabs(product);
    }
    for (int step = 16; step > 0; step /= 2) {
        total += __shfl_down_sync(0xffffffff, total, step);
        size += __shfl_down_sync(0xffffffff, size, step);
    }
    if (threadIdx.x % 32 == 0) {
        into[row] = b[row] - total;
        into[n + row] = size;
    }
}
"""
"""``b - A x`` and ``|A| |x|``: a warp a row, sums in a fixed order, so that bits repeat."""

NAME = "residual"

_THREADS, _WARP = 128, 32
_SAMPLED = 1024  # entries that are compared with what they were when they were uploaded


class Gather(NamedTuple):
    """Rows of a product as a device gathers them: where they start, columns and slots of their entries."""

    start: Any
    columns: Any
    slots: Any


class Products:
    """Products with all matrices on one structure."""

    def __init__(self, arrays: DeviceArrays, structure: Structure) -> None:
        self.arrays, self.structure = arrays, structure
        self._kernel = arrays.kernel(SOURCE, NAME)

    @cached_property
    def _plain(self) -> Gather:
        structure = self.structure
        if structure.upper:
            whole, slots = structure.whole
            return self._uploaded(whole.indptr, whole.indices, slots)
        return self._uploaded(structure.indptr, structure.indices, np.arange(len(structure.indices)))

    @cached_property
    def _transposed(self) -> Gather:
        structure = self.structure
        slots = np.argsort(structure.indices, kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(structure.indices, minlength=structure.n))])
        return self._uploaded(start, structure.rows()[slots], slots)

    def _uploaded(self, *parts: Any) -> Gather:
        return Gather(*(self.arrays.upload(part.astype(np.int32)) for part in parts))

    def residual(self, values: Any, b: FloatArray, x: FloatArray, *, transposed: bool) -> FloatArray:
        """``b - A x`` and ``|A| |x|``, (2, n), for values on the device and vectors of the host."""
        arrays, n = self.arrays, self.structure.n
        gather = self._transposed if transposed and not self.structure.upper else self._plain
        into = arrays.empty((2, n), np.float64)
        blocks = -(-n * _WARP // _THREADS)
        vectors = arrays.upload(b), arrays.upload(x)
        self._kernel(blocks, _THREADS, np.int32(n), *gather, values, *vectors, into)
        return arrays.download(into)


class DeviceMatrix(Matrix):
    """A matrix with a copy of its values on a device, that solvers there share.

    Attributes
    ----------
    on_device : array on the device
        The values, as they are.
    """

    def __init__(
        self,
        products: Products,
        structure: Structure,
        values: FloatArray,
        rounding: float,
        modes: Callable[[], FloatArray | None] | None = None,
    ) -> None:
        self._products = products
        self.on_device = products.arrays.upload(values)
        self._every = max(1, len(values) // _SAMPLED)
        self._sample = values[:: self._every].copy()
        super().__init__(structure, values, rounding, modes)

    def changed(self) -> bool:
        return not np.array_equal(self.values, self._products.arrays.download(self.on_device))

    def residual(self, b: FloatArray, x: FloatArray, *, transposed: bool, precise: bool = False) -> FloatArray:
        # Values that callers have written to since are not those on the device: the host tells the difference.
        if precise or not np.array_equal(self.values[:: self._every], self._sample):
            return super().residual(b, x, transposed=transposed, precise=precise)
        return self._products.residual(self.on_device, b, x, transposed=transposed)
