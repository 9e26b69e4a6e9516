"""Threads that stay, for products that are repeated many times."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.cores import available_threads


class Team:
    """Threads that work on shares of rows; they start at the first call and end with their owner.

    Parameters
    ----------
    threads : int or None
        How many, the calling one included; all cores for None.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = available_threads() if threads is None else threads
        self._pool = ThreadPoolExecutor(self.threads - 1, "femadj") if self.threads > 1 else None

    def shares(self, start: npt.NDArray[np.integer], least: int = 1) -> npt.NDArray[np.int64]:
        """Rows ``start`` (n + 1,) cut into shares of about equal numbers of entries, at most one for each thread.

        ``least``: entries below which a share is not worth a thread.
        """
        wanted = np.linspace(0, start[-1], max(1, min(self.threads, int(start[-1]) // max(least, 1))) + 1)
        cuts = np.searchsorted(start, wanted).astype(np.int64)
        cuts[0], cuts[-1] = 0, len(start) - 1
        return cuts

    def __call__(self, kernel: Callable[..., Any], cuts: npt.NDArray[np.int64], *arguments: Any) -> None:
        """``kernel(*arguments, begin, end)`` for every share between two cuts, the first in the calling thread."""
        shares = [(int(begin), int(end)) for begin, end in pairwise(cuts) if end > begin]
        if not shares:
            return
        others = [] if self._pool is None else [self._pool.submit(kernel, *arguments, *each) for each in shares[1:]]
        for each in shares[:1] if others else shares:
            kernel(*arguments, *each)
        for other in others:
            other.result()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
