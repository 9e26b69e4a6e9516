"""Which way to solve: by kind, dimension, size and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from femadj.errors import SolverUnavailableError
from femadj.solvers.aggregation import SmoothedAggregation
from femadj.solvers.base import Solver
from femadj.solvers.live import LiveSolver, LiveSymbolic, Rung
from femadj.solvers.matrix import Structure
from femadj.solvers.preconditioner import Approximation

LAGGED_FROM = 20_000
"""Unknowns in three dimensions from which a factor serves several designs."""

MULTIGRID_FROM: Mapping[str, int] = MappingProxyType({"pardiso": 150_000})
"""Unknowns in three dimensions from which multigrid is tried first, by the solver that makes factors."""

MULTIGRID_FROM_ELSE = 10_000
"""The same for slower solvers."""

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


def multigrid(exact: Solver) -> LiveSolver:
    """Smoothed aggregation that serves design after design; where it does not, a factor."""
    return LiveSolver(exact, [Rung(_aggregated, _CYCLES), *in_single_precision(exact)], lag=True, name="amg")


def _aggregated(structure: Structure, threads: int | None) -> Approximation:
    return SmoothedAggregation()


ITERATED: Mapping[str, Callable[[Solver], LiveSolver]] = MappingProxyType(
    {"refined": refined, "lagged": lagged, "amg": multigrid}
)
"""Solvers that iterate; called with the one that makes factors in double precision."""


def chosen(structure: Structure, exact: Solver) -> LiveSolver:
    """What solves fastest on a structure; ``docs/performance.md`` has the measurements.

    In three dimensions, for positive definite matrices: a factor that serves design after design where there are many
    unknowns, multigrid where there are very many, and earlier where factors take long. Else a factor for every matrix:
    in the plane it costs no more than some iterations.
    """
    unknowns, n = structure.unknowns, structure.n
    if structure.kind != "spd" or unknowns.dim != 3:
        return LiveSolver(exact)
    if n >= MULTIGRID_FROM.get(exact.name, MULTIGRID_FROM_ELSE):
        return multigrid(exact)
    return lagged(exact) if n >= LAGGED_FROM else LiveSolver(exact)


class AutoSolver(LiveSolver):
    """Chooses for each structure, see :func:`chosen`."""

    def __init__(self, exact: Solver) -> None:
        super().__init__(exact)

    def _analyse(self, structure: Structure, threads: int | None) -> LiveSymbolic:
        return LiveSymbolic(chosen(structure, self.exact), structure, threads)
