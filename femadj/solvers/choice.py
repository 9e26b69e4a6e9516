"""Which way to solve: by kind, dimension, size and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from femadj.errors import SolverUnavailableError
from femadj.solvers.aggregation import SmoothedAggregation
from femadj.solvers.base import Solver
from femadj.solvers.inverse import Rung
from femadj.solvers.live import LiveSolver, LiveSymbolic
from femadj.solvers.matrix import Structure
from femadj.solvers.preconditioner import Approximation

MULTIGRID_FROM = 15_000
"""Unknowns in three dimensions from which multigrid is tried first."""

FACTORS_LAST = 30_000
"""Unknowns in any dimension from which it is where the only factors are those of a slow solver."""

_FACTOR, _CYCLES = 25, 60  # iterations of a fresh float32 factor, and of fresh multigrid, above which they do not serve


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
    return SmoothedAggregation(structure)


ITERATED: Mapping[str, Callable[[Solver], LiveSolver]] = MappingProxyType(
    {"refined": refined, "lagged": lagged, "amg": multigrid}
)
"""Solvers that iterate; called with the one that makes factors in double precision."""


def chosen(structure: Structure, exact: Solver) -> LiveSolver:
    """What solves fastest on a structure; ``docs/performance.md`` has the measurements.

    Multigrid for positive definite matrices of many unknowns in three dimensions, of the fields with values at mesh
    nodes that it is made for, and in the plane where factors take long. Where it does not converge well, it is followed
    by a factor in single precision, then in double. Else a factor for every matrix: in the plane, and for few unknowns,
    it costs no more than some iterations. A GPU, which nobody gets without asking for it, factorises every matrix.
    """
    if exact.capabilities.device != "cpu":
        return LiveSolver(exact)
    dim, n = structure.unknowns.dim, structure.n
    least = MULTIGRID_FROM if dim == 3 else FACTORS_LAST
    if structure.kind != "spd" or dim is None or n < least or (dim != 3 and exact.name == "pardiso"):
        return LiveSolver(exact)
    return multigrid(exact)


class AutoSolver(LiveSolver):
    """Chooses for each structure, see :func:`chosen`."""

    def _analyse(self, structure: Structure, threads: int | None) -> LiveSymbolic:
        return LiveSymbolic(chosen(structure, self.exact), structure, threads)
