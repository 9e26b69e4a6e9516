"""Systems of one structure that are analysed alike, to be used again by factor after factor."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.solvers.cudss import CudssError, Status, out_of_memory
from femadj.solvers.cudss_system import Options, Pattern, System


class Pool:
    """Makes systems, and keeps the one that was given back last, with its memory, for the next factor.

    The order of elimination, the dear part of the analysis, is found once: further systems get it.

    Parameters
    ----------
    pattern : Pattern
    options : Options
    order : (n,) int32, optional
        Where it is known already.
    values : array on the device, optional
        Of a matrix that large pivots are looked for in.

    Attributes
    ----------
    ordered : int
        How many orders were found.
    needed_bytes : int
        Memory of the device that an analysis and a factor take, as it is estimated.

    Raises
    ------
    SolverMemoryError
        Where the analysis does not fit.
    """

    def __init__(
        self, pattern: Pattern, options: Options, order: npt.NDArray[np.int32] | None = None, values: Any = None
    ) -> None:
        self.pattern, self.options = pattern, options
        self.ordered = int(order is None)
        self.order = order
        self._open = True
        first = self._new(values)
        self.order, self.needed_bytes = first.order, first.memory.peak
        self._vacant: System | None = first

    def take(self, values: Any) -> System:
        """A system without a factor in use, for these values on the device."""
        system, self._vacant = self._vacant, None
        if system is not None:
            return system
        # With large pivots, the order is that of a matrix whose columns were moved: each system finds its own.
        self.ordered += int(self.options.matched)
        return self._new(values if self.options.matched else None)

    def give_back(self, system: System) -> None:
        """Leave a system to the next factor; called by finalizers, too."""
        if self._open and self._vacant is None:
            self._vacant = system

    def forget(self) -> None:
        """Free the vacant system."""
        self._vacant = None

    def close(self) -> None:
        """Free the vacant system for good; those in use are freed with their factors."""
        self._open, self._vacant = False, None

    def factorise(self, system: System, values: Any, size: float, *, afresh: bool = False) -> int:
        """As :meth:`System.factorise`; SolverMemoryError before it where the factor will not fit."""
        arrays = self.pattern.context.arrays
        if not system.allocated:
            arrays.release()  # to cuDSS, which allocates by itself
            free, needed = arrays.memory().free, system.memory.peak
            if needed > free:
                raise out_of_memory("the device has too little memory for the factor", needed, free)
        try:
            return system.factorise(values, size, afresh=afresh)
        except CudssError as error:
            raise self._explained(error, system.memory.peak) from error

    def _new(self, values: Any) -> System:
        try:
            return System(self.pattern, self.options, None if self.options.matched else self.order, values)
        except CudssError as error:
            raise self._explained(error, None) from error

    def _explained(self, error: CudssError, needed: int | None) -> Exception:
        if error.status != Status.ALLOC_FAILED:
            return error
        return error.out_of_memory(needed, self.pattern.context.arrays.memory().free)
