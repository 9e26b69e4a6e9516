"""Who runs in ``loop.py``: femadj as it chooses, femadj with a double factor a design, plain NumPy, torch-fem.

All of them solve the problem of ``common.problem`` on the same mesh and differentiate the integrals of |u|^2 over
``slabs``, groups of cells, by the coordinates of all nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from common import may_choose, problem

import femadj as fa
from femadj.progress import Phases

FloatArray = np.ndarray
Slabs = Sequence[np.ndarray]
"""Cells of every response."""


class Settings(NamedTuple):
    """How rivals run.

    Attributes
    ----------
    threads : int or None
        All cores when None.
    solver : str
        Of femadj, where it may choose.
    """

    threads: int | None
    solver: str


class Rival(Protocol):
    """A problem on one mesh, solved at one design after the other."""

    def solve(self, points: FloatArray) -> None:
        """The state at node coordinates ``(n_nodes, dim)``."""
        ...

    def differentiate(self) -> tuple[FloatArray, FloatArray]:
        """Values ``(n_responses,)`` and gradients ``(n_responses, n_nodes, dim)`` at the last design."""
        ...

    def told(self) -> Mapping[str, Any]:
        """What else is known of the last design, and of all so far: counts, iterations."""
        ...


class Ours:
    """femadj, as one writes a loop with it."""

    def __init__(self, mesh: fa.Mesh, slabs: Slabs, settings: Settings) -> None:
        if len(slabs) > 1:
            mesh = mesh.with_groups(cell_groups={f"slab {k}": cells for k, cells in enumerate(slabs)})
            self.responses = [fa.FieldNorm(f"slab {k}") for k in range(len(slabs))]
        else:
            self.responses = [fa.FieldNorm()]
        self.built = problem(mesh, settings.threads, Phases(), settings.solver)

    def solve(self, points: FloatArray) -> None:
        """Solve."""
        self.solution = self.built.solve(points)

    def differentiate(self) -> tuple[FloatArray, FloatArray]:
        """Adjoint."""
        values, gradients = fa.values_and_gradients(self.solution, self.responses)
        return np.array(values), np.array([gradient.points for gradient in gradients])

    def told(self) -> Mapping[str, Any]:
        """Counts of the problem, statistics of the factor."""
        statistics = asdict(self.solution.factor.statistics)
        numbers = {key: value for key, value in statistics.items() if isinstance(value, int | float | str)}
        return {"solver": self.built.solver_name, **asdict(self.built.counts), **numbers}


def factorised(mesh: fa.Mesh, slabs: Slabs, settings: Settings) -> Rival:
    """femadj with a factor in double precision for every design."""
    return Ours(mesh, slabs, settings._replace(solver=fa.available_solvers()[0]))


def plain(mesh: fa.Mesh, slabs: Slabs, settings: Settings) -> Rival:
    """The loop by hand."""
    from by_hand import ByHand

    return ByHand(mesh, slabs)


def torch_fem(mesh: fa.Mesh, slabs: Slabs, settings: Settings) -> Rival:
    """The loop with torch-fem."""
    from by_torch_fem import ByTorchFem

    return ByTorchFem(mesh, slabs, settings.threads)


class Entry(NamedTuple):
    """One rival.

    Attributes
    ----------
    make : callable
        From mesh, slabs and settings.
    what : str
        For tables.
    packages : tuple of str
        That have to be installed besides femadj's own.
    cells : tuple of str
        Cell types that it is written for; all when empty.
    chooses : bool
        Whether it chooses a solver by the size of a problem.
    """

    make: Callable[[fa.Mesh, Slabs, Settings], Rival]
    what: str
    packages: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    chooses: bool = False

    def warm_up(self, settings: Settings) -> tuple[str, ...]:
        """Solvers to warm up."""
        return may_choose(settings.solver) if self.chooses else (settings.solver,)

    def refusal(self, cell: str) -> str | None:
        """Why it does not run on a cell type, if so."""
        missing = [package for package in self.packages if find_spec(package) is None]
        if missing:
            return f"{', '.join(missing)} not installed"
        if self.cells and cell not in self.cells:
            return f"written for {', '.join(self.cells)}"
        return None


FACTORISED = "factorised"
"""The rival that all others are compared with."""

RIVALS: Mapping[str, Entry] = MappingProxyType(
    {
        "femadj": Entry(Ours, "femadj", chooses=True),
        FACTORISED: Entry(factorised, "femadj, a double factor each"),
        "plain": Entry(plain, "scikit-fem, pypardiso, NumPy", ("pypardiso",), ("tetra", "triangle")),
        "torch-fem": Entry(torch_fem, "torch-fem", ("torchfem",), ("tetra", "tetra10", "hexahedron", "triangle")),
    }
)
