"""A PARDISO handle that several factors share: one analysis, places for factors, a lock."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.memory import available_bytes
from femadj.errors import SolverError, SolverMemoryError
from femadj.solvers import mkl
from femadj.solvers.matrix import Structure
from femadj.solvers.mkl import FACTORS_PER_ANALYSIS, Library, Native, Number, Numbers, Options, PardisoFailureError
from femadj.solvers.statistics import PivotReport

_CERTAIN = 2**28  # bytes that are there without asking


class Outcome(NamedTuple):
    """What a successful factorisation left behind."""

    report: PivotReport
    smallest_equation: int | None


class Place(NamedTuple):
    """Where a factor is. Slots are used again, numbers are not."""

    slot: int
    number: int


class Handle:
    """A PARDISO handle with its analysis and places for several factors; safe to share between threads.

    Freed when nobody holds it any more: the analysis while it makes factors from it, and each of these
    factors.

    Attributes
    ----------
    options : Options
    needed_bytes : int
        Memory that the analysis and one factor will take, or that analysing took where that is more, as PARDISO
        estimates it.
    """

    def __init__(self, library: Library, structure: Structure, options: Options, values: Numbers | None = None) -> None:
        self.options = options
        self._native = Native(library, structure, options)
        self._lock = threading.Lock()
        self._vacant = deque(range(1, FACTORS_PER_ANALYSIS + 1))
        self._numbers = count()
        self._retired: deque[Place] = deque()
        self._alive: set[Place] = set()
        self._left: set[int] = set()  # slots with the memory of a factor that gave way
        # Not at exit: the operating system takes the memory back, and the library may be gone by then.
        finalizer = weakref.finalize(self, self._native.call, mkl.RELEASE_ALL)
        finalizer.atexit = False
        self._native.call(mkl.ANALYSE, values=values)
        self.needed_bytes = self._native.needed_bytes()
        iparm = self._native.iparm
        self._fill = int(iparm[mkl.FILL])
        self._peak_analysis, self._kept_analysis = int(iparm[mkl.PEAK_ANALYSIS]), int(iparm[mkl.KEPT_ANALYSIS])

    def reserve(self) -> Place | None:
        """Take a place for a factor; None if all are taken."""
        self._release_retired()
        try:
            return Place(self._vacant.popleft(), next(self._numbers))
        except IndexError:
            return None

    def retire(self, place: Place) -> None:
        """Give up the factor in this place; called by finalizers, at any moment and in any thread."""
        self._retired.append(place)
        self._release_retired()

    def give_way(self, place: Place) -> None:
        """Give up the factor and leave its memory to the next one, which spares the time to ask for it."""
        with self._lock:
            self._alive.discard(place)
            self._left.add(place.slot)
            self._vacant.appendleft(place.slot)
        self._release_retired()

    def _release_retired(self) -> None:
        # A finalizer may run in the middle of a call on this very handle and must not wait for it: whoever
        # holds the lock looks here again when done.
        while self._retired and self._lock.acquire(blocking=False):
            try:
                while self._retired:
                    place = self._retired.popleft()
                    self._alive.discard(place)
                    self._left.discard(place.slot)
                    self._native.call(mkl.RELEASE_FACTOR, place.slot)
                    self._vacant.append(place.slot)
            finally:
                self._lock.release()

    def factorise(self, place: Place, values: Numbers) -> Outcome:
        """Factorise into a reserved place; SolverMemoryError before that where it will not fit."""
        if place.slot not in self._left:
            self._require_memory()
        try:
            with self._lock:
                self._native.call(mkl.FACTORISE, place.slot, values)
                self._alive.add(place)
                return self._outcome(place.slot)
        finally:
            self._release_retired()

    def _require_memory(self) -> None:
        """Operating systems promise more memory than there is, and end processes that take it."""
        needed = self.needed_bytes - 1024 * self._kept_analysis
        available = available_bytes() if needed > _CERTAIN else None
        if available is not None and needed > available:
            precision = "single" if self.options.single else "double"
            raise SolverMemoryError(
                f"a factor in {precision} precision takes about {needed / 1e9:.2g} GB, and there are "
                f"{available / 1e9:.2g} GB. Drop solutions that keep factors, use a coarser mesh or, where it serves, "
                "solver='amg', or make more memory available",
                needed,
            )

    def _outcome(self, slot: int) -> Outcome:
        native, kind = self._native, self.options.kind
        iparm = native.iparm
        perturbed = int(iparm[mkl.PERTURBED])
        kept = (self._kept_analysis + int(iparm[mkl.KEPT_FACTOR])) * 1024
        report = PivotReport(
            fill_nnz=self._fill if self._fill > 0 else None,
            factor_bytes=kept,
            peak_bytes=max(kept, self._peak_analysis * 1024),
            perturbed=perturbed,
            replacement=10.0**-self.options.replacement,
        )
        if kind == "symmetric":
            report = report._replace(inertia=(int(iparm[mkl.POSITIVE]), int(iparm[mkl.NEGATIVE])))
        elif kind == "spd":
            report = report._replace(inertia=(native.n, 0))
        if not native.has_diagonal:
            return Outcome(report, None)
        pivots, diagonal = native.pivots(slot)
        if kind == "spd":
            pivots /= diagonal
            smallest = int(np.argmin(pivots))
            report = report._replace(smallest_ratio=float(pivots[smallest]), largest_ratio=float(pivots.max()))
            return Outcome(report, int(native.order[smallest]))
        np.abs(pivots, out=pivots)
        largest = float(pivots.max())
        ratio = float(pivots.min()) / largest if 0.0 < largest < np.inf else float("nan")
        report = report._replace(smallest_ratio=ratio, largest_ratio=1.0)
        # Replaced or small pivots are usual in saddle point systems: a doubt, not a verdict.
        return Outcome(report, None)

    def solve(
        self, place: Place, values: Numbers | None, block: npt.NDArray[Number], *, transposed: bool, refine: int = 0
    ) -> npt.NDArray[Number]:
        """Solve with the factor in this place for the rows of a (k, n) block.

        The values are read where PARDISO refines, which it does by itself after replacing pivots.
        """
        x = np.empty_like(block)
        try:
            with self._lock:
                if place not in self._alive:
                    raise SolverError("this factor has been closed")
                self._native.iparm[mkl.TRANSPOSED] = mkl.TRANSPOSE_WITHOUT_CONJUGATION if transposed else 0
                self._native.iparm[mkl.REFINEMENTS] = refine
                self._native.call(mkl.SOLVE, place.slot, values, block, x)
        finally:
            self._release_retired()
        return x


def analysed(
    library: Library, structure: Structure, options: Options, values: Numbers | None = None, *, may_widen: bool = True
) -> Handle:
    """A handle with the analysis of a structure, with 64-bit integers where 32 do not do.

    Raises
    ------
    SolverMemoryError
        Where it does not fit.
    """
    try:
        return Handle(library, structure, options, values)
    except PardisoFailureError as failure:
        if failure.code == mkl.NEEDS_WIDE_INDICES and may_widen and not options.wide:
            return analysed(library, structure, options.widened(), values)
        if failure.code in mkl.NO_MEMORY:
            raise failure.out_of_memory() from failure
        raise
