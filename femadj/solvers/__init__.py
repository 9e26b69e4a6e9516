"""Sparse direct solvers behind one protocol: analyse once per structure, factorise once per design."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from femadj.base.arguments import described
from femadj.errors import SolverError, SolverUnavailableError, choices
from femadj.solvers.base import Solver, Symbolic
from femadj.solvers.choice import ITERATED, AutoSolver
from femadj.solvers.cuda import CudaSolver
from femadj.solvers.cusolver import CusolverSolver
from femadj.solvers.factor import Factor, TransposedFactor
from femadj.solvers.live import LiveSolver
from femadj.solvers.matrix import UNIT_ROUNDOFF, MatrixKind
from femadj.solvers.pardiso import PardisoSolver
from femadj.solvers.preference import Preference, preferred, set_preferred
from femadj.solvers.statistics import (
    FORWARD_TOLERANCE,
    FORWARD_WARNING,
    PIVOT_TOLERANCE,
    REFINEMENT_THRESHOLD,
    RESIDUAL_TOLERANCE,
    Capabilities,
    FactorStatistics,
)
from femadj.solvers.superlu import SuperLUSolver

SOLVERS: Mapping[str, Callable[..., Solver]] = MappingProxyType(
    {"pardiso": PardisoSolver, "superlu": SuperLUSolver, "cuda": CudaSolver, "cusolver": CusolverSolver}
)
"""Every solver that femadj knows, called with ``threads``: those on the CPU, best first, one of which always works, and
those on a GPU, which are taken only where they are asked for.

Making one raises SolverUnavailableError if a library is missing."""


def available_solvers() -> tuple[str, ...]:
    """Names of the solvers that work here, in the order of :data:`SOLVERS`."""
    names = []
    for name, make in SOLVERS.items():
        try:
            make()
        except SolverUnavailableError:
            continue
        names.append(name)
    return tuple(names)


def get_solver(name: str | Solver = "auto", *, threads: int | None = None) -> Solver:
    """Solver by name.

    Parameters
    ----------
    name : str or Solver
        One of :data:`SOLVERS` or :data:`ITERATED`, or ``"auto"`` for the best of :data:`SOLVERS` on the CPU that works
        here, or the one that is preferred, see :func:`prefer`. A solver is returned as it is.
    threads : int, optional
        Threads for a solver made by name; by default what its library would use.

    Raises
    ------
    SolverError
        If there is no solver of that name, or if ``threads`` is given together with a ready solver.
    SolverUnavailableError
        If the solver was asked for by name, or preferred, and does not work here.
    """
    if isinstance(name, Solver):
        if threads is not None:
            raise SolverError("threads belong to the solver: give them when it is made")
        return name
    if not isinstance(name, str):
        raise SolverError(f"solver must be a Solver or the name of one, not {described(name)}")
    if name == "auto":
        preference = preferred()
        if preference is not None:
            return _preferred(preference, threads)
        for make in SOLVERS.values():
            try:
                return make(threads=threads)
            except SolverUnavailableError:
                continue
    if name in ITERATED:
        return ITERATED[name](get_solver(threads=threads))
    if name not in SOLVERS:
        known = choices(name, ("auto", *SOLVERS, *ITERATED))
        raise SolverError(f"there is no solver {name!r}; known are {known}")
    return SOLVERS[name](threads=threads)


def prefer(name: str | None) -> None:
    """Choose what ``solver="auto"`` means from now on in this process, whatever asks for it.

    Problems that exist keep the solver they have.

    Parameters
    ----------
    name : str or None
        One of :data:`SOLVERS`, for example ``"cuda"`` for factors on the GPU; ``"auto"`` for the best on the CPU; None
        for what the environment variable ``FEMADJ_SOLVER`` says, and else the best on the CPU.

    Raises
    ------
    SolverError
        If there is no solver of that name.
    SolverUnavailableError
        If it does not work here; nothing changes then.
    """
    if name is not None and not isinstance(name, str):
        raise SolverError(f"what is preferred must be the name of a solver or None, not {described(name)}")
    by = f"femadj.prefer({name!r})"
    if name is not None and name != "auto":
        _preferred(Preference(name, by), None)
    set_preferred(name, by)


def _preferred(preference: Preference, threads: int | None) -> Solver:
    name, by = preference
    if name not in SOLVERS:
        raise SolverError(
            f"there is no solver {name!r}, which is preferred by {by}; known are {choices(name, ('auto', *SOLVERS))}"
        )
    try:
        return SOLVERS[name](threads=threads)
    except SolverUnavailableError as error:
        raise SolverUnavailableError(
            f"solver {name!r}, which is preferred by {by}, does not work here: {error}"
        ) from error


def linear_solver(name: str | Solver = "auto", *, threads: int | None = None, keep_factor: bool = False) -> Solver:
    """Solver for linear problems, design after design; arguments and errors as in :func:`get_solver`.

    ``"auto"`` chooses for each structure. Solvers have one live factor for a structure; with ``keep_factor`` every
    matrix has one of its own.
    """
    if isinstance(name, str) and name == "auto" and not keep_factor:
        return AutoSolver(get_solver(threads=threads))
    solver = get_solver(name, threads=threads)
    if not isinstance(solver, LiveSolver):
        return solver if keep_factor else LiveSolver(solver)
    if keep_factor:
        raise SolverError(f"{solver!r} does not factorise every matrix, so that there is no factor to keep")
    return solver


__all__ = [
    "FORWARD_TOLERANCE",
    "FORWARD_WARNING",
    "ITERATED",
    "PIVOT_TOLERANCE",
    "REFINEMENT_THRESHOLD",
    "RESIDUAL_TOLERANCE",
    "SOLVERS",
    "UNIT_ROUNDOFF",
    "AutoSolver",
    "Capabilities",
    "CudaSolver",
    "CusolverSolver",
    "Factor",
    "FactorStatistics",
    "LiveSolver",
    "MatrixKind",
    "PardisoSolver",
    "Solver",
    "SuperLUSolver",
    "Symbolic",
    "TransposedFactor",
    "available_solvers",
    "get_solver",
    "linear_solver",
    "prefer",
]
