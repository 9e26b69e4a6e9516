"""Which way to solve: by kind, dimension, size and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from femadj.errors import SolverUnavailableError
from femadj.solvers.base import Solver
from femadj.solvers.live import LiveSolver, LiveSymbolic, Rung
from femadj.solvers.matrix import Structure

_FACTOR, _CYCLES = 25, 80  # iterations of a fresh float32 factor, and of fresh multigrid, above which they do not serve


def refined(exact: Solver) -> LiveSolver:
    """A factor in single precision for every matrix, and iterations in double precision.

    Raises
    ------
    SolverUnavailableError
        Where the solver has none.
    """
    rungs = in_single_precision(exact)
    if not rungs:
        raise SolverUnavailableError(
            f"solver 'refined' needs factors in single precision, which {exact.name!r} has not"
        )
    return LiveSolver(exact, rungs, name="refined")


def lagged(exact: Solver) -> LiveSolver:
    """A factor that serves design after design, in single precision where the solver has such."""
    return LiveSolver(exact, in_single_precision(exact), lag=True, name="lagged")


def in_single_precision(exact: Solver) -> list[Rung]:
    """The factors in single precision of a solver, where it has them."""
    return [] if exact.in_single_precision is None else [Rung(exact.in_single_precision, _FACTOR)]


ITERATED: Mapping[str, Callable[[Solver], LiveSolver]] = MappingProxyType({"refined": refined, "lagged": lagged})
"""Solvers that iterate; called with the one that makes factors in double precision."""


class AutoSolver(LiveSolver):
    """Chooses for each structure."""

    def __init__(self, exact: Solver) -> None:
        super().__init__(exact)

    def _analyse(self, structure: Structure, threads: int | None) -> LiveSymbolic:
        return LiveSymbolic(LiveSolver(self.exact), structure, threads)
