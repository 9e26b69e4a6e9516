"""Which way to solve: by kind, dimension, size and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from femadj.solvers.base import Solver
from femadj.solvers.live import LiveSolver, LiveSymbolic, Rung
from femadj.solvers.matrix import Structure
from femadj.solvers.single import SinglePrecision

_FACTOR, _CYCLES = 25, 80  # iterations of a fresh float32 factor, and of fresh multigrid, above which they do not serve


def refined(exact: Solver) -> LiveSolver:
    """A factor in single precision for every matrix, and iterations in double precision."""
    return LiveSolver(exact, [Rung(SinglePrecision, _FACTOR)], name="refined")


def lagged(exact: Solver) -> LiveSolver:
    """A factor in single precision that serves design after design."""
    return LiveSolver(exact, [Rung(SinglePrecision, _FACTOR)], lag=True, name="lagged")


ITERATED: Mapping[str, Callable[[Solver], LiveSolver]] = MappingProxyType({"refined": refined, "lagged": lagged})
"""Solvers that iterate; called with the one that makes factors in double precision."""


class AutoSolver(LiveSolver):
    """Chooses for each structure."""

    def __init__(self, exact: Solver) -> None:
        super().__init__(exact)

    def _analyse(self, structure: Structure, threads: int | None) -> LiveSymbolic:
        return LiveSymbolic(LiveSolver(self.exact), structure, threads)
