"""Which way to solve: by kind, dimension, size and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from femadj.solvers.base import Solver
from femadj.solvers.live import LiveSolver, LiveSymbolic
from femadj.solvers.matrix import Structure


def lagged(exact: Solver) -> LiveSolver:
    """A factor that serves design after design."""
    return LiveSolver(exact, lag=True, name="lagged")


ITERATED: Mapping[str, Callable[[Solver], LiveSolver]] = MappingProxyType({"lagged": lagged})
"""Solvers that iterate; called with the one that makes factors in double precision."""


class AutoSolver(LiveSolver):
    """Chooses for each structure."""

    def __init__(self, exact: Solver) -> None:
        super().__init__(exact)

    def _analyse(self, structure: Structure, threads: int | None) -> LiveSymbolic:
        return LiveSymbolic(LiveSolver(self.exact), structure, threads)
