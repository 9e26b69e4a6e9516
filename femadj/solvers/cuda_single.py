"""Factors of cuDSS in single precision: preconditioners in half the memory of the device."""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

from femadj.base.arrays import FloatArray
from femadj.errors import SolverError
from femadj.solvers.cudss_pool import Pool
from femadj.solvers.cudss_system import Context, Options, Pattern, System
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.single import applied, none_because, rounded


class CudaSinglePrecision:
    """Makes float32 factors of the matrices on one structure, which is analysed once: an ``Approximation``.

    Attributes
    ----------
    analyses, factorisations : int
        Made so far. Matrices that are not definite may take a further analysis, which sees their values.

    Raises
    ------
    SolverMemoryError
        Where the analysis does not fit.
    """

    def __init__(self, context: Context, structure: Structure, options: Options) -> None:
        self._pattern = Pattern(context, structure)
        self._lock = threading.Lock()
        self._closed = False
        self.analyses = self.factorisations = 0
        self._pool = self._pool_for(options, None)
        self.needed_bytes = self._pool.needed_bytes

    def make(self, matrix: Matrix) -> CudaSinglePrecisionFactor:
        """A float32 factor of this matrix.

        Raises
        ------
        ApproximationError
            Where entries or pivots do not allow for one.
        SolverMemoryError
            Where it does not fit.
        """
        start = perf_counter()
        with self._lock:
            if self._closed:
                raise SolverError("this analysis has been closed")
            rows, columns, entries = rounded(matrix)
            largest = max(float(entries.max()), -float(entries.min()))
            values = self._pattern.context.arrays.upload(entries)
            system = self._factorised(values, largest)
            options = self._pool.options
            if options.kind != "spd" and system.replaced() and not options.matched:
                self._pool.close()
                self._pool = self._pool_for(replace(options, matched=True), values)
                system = self._factorised(values, largest)
            replaced = system.replaced()
            if replaced:
                self._pool.give_back(system)
                raise none_because(f"{replaced} pivot(s) are too small for it")
        return CudaSinglePrecisionFactor(self._pool, system, (rows, columns), start)

    def close(self) -> None:
        """Give up the analysis; factors that are alive keep what they need."""
        with self._lock:
            self._closed = True
            self._pool.close()

    def _pool_for(self, options: Options, values: Any) -> Pool:
        self.analyses += 1
        return Pool(self._pattern, options, values=values)

    def _factorised(self, values: Any, largest: float) -> System:
        system = self._pool.take(values)
        self.factorisations += 1
        if self._pool.factorise(system, values, largest):
            self._pool.give_back(system)
            raise none_because("a pivot is zero or negative")
        return system


class CudaSinglePrecisionFactor:
    """A factor in single precision, applied to vectors in double precision: a ``Preconditioner``."""

    name = "float32 factor on the GPU"

    def __init__(self, pool: Pool, system: System, scales: tuple[FloatArray, FloatArray], start: float) -> None:
        self.nbytes = system.memory.kept
        self.seconds = perf_counter() - start
        self._system, self._number, self._scales = system, system.number, scales
        # Holds the pool, so that this factor outlives the analysis it came from.
        self._finalizer = weakref.finalize(self, pool.give_back, system)
        self._finalizer.atexit = False

    def apply(self, r: FloatArray, *, transposed: bool) -> FloatArray:
        """Solve for the columns of ``r`` (n, k), each scaled to a largest entry of one on its way."""
        if not self._finalizer.alive:
            raise SolverError("this factor has been closed")
        solve = partial(self._system.solve, self._number, transposed=transposed)
        return applied(solve, self._scales[::-1] if transposed else self._scales, r)

    def close(self) -> None:
        """Free the factor. What is left to do with it raises SolverError."""
        self._finalizer()

    def give_way(self) -> None:
        """Close, and leave the memory to the next factor on the same structure."""
        self.close()
