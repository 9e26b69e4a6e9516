"""Seconds of one design: assembly, factorisation, solves and contraction, by solver and size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
import skfem

from femadj.conditions import BodyForce, Fixed
from femadj.errors import SolverMemoryError
from femadj.mesh import Mesh
from femadj.physics import Elasticity
from femadj.problems import LinearStatic
from femadj.progress import Phases
from femadj.responses import FieldNorm
from femadj.sensitivity.adjoint import value_and_gradient

SIZES = (8, 14, 20)
"""Cells along the sides of the cubes."""

DESIGNS = 3
"""New designs that are timed; the fastest counts."""


class Timing(NamedTuple):
    """Seconds of a solver on a cube of tetrahedra under elasticity.

    Attributes
    ----------
    solver : str
    unknowns : int
    analyse, assemble, factorise, solve, adjoint, contract : float
        Of the phases; the first once a topology.
    design : float
        Value and gradient of a new design on the known topology.
    """

    solver: str
    unknowns: int
    analyse: float
    assemble: float
    factorise: float
    solve: float
    adjoint: float
    contract: float
    design: float


def cube(n: int) -> Mesh:
    """A unit cube of ``6 n^3`` tetrahedra, held at the left."""
    axis = np.linspace(0.0, 1.0, n + 1)
    mesh = Mesh.from_skfem(skfem.MeshTet.init_tensor(axis, axis, axis))
    return mesh.with_groups(facet_groups={"left": lambda x: x[0] < 1e-9})


def timings(solvers: Sequence[str], sizes: Sequence[int]) -> Iterator[Timing]:
    """One at a time; sizes that do not fit into the memory of a solver are left out."""
    for n in sizes:
        mesh = cube(n)
        for solver in solvers:
            try:
                yield timed(mesh, solver)
            except SolverMemoryError:
                continue


def timed(mesh: Mesh, solver: str) -> Timing:
    """The fastest of some designs, after one that is not counted."""
    clock = Phases(None)
    built = LinearStatic(
        mesh, Elasticity(E=1.0, nu=0.3), [Fixed("left")], [BodyForce((0.0, 0.0, -1.0))], solver=solver, progress=clock
    )
    rng, runs = np.random.default_rng(0), []
    for _ in range(1 + DESIGNS):
        points = mesh.points + 1e-3 / len(mesh.points) ** (1.0 / 3.0) * rng.uniform(-1.0, 1.0, mesh.points.shape)
        before, start = dict(clock.seconds), perf_counter()
        solution = built.solve(points)
        value_and_gradient(solution, FieldNorm())
        total = perf_counter() - start
        spent = {name: clock.seconds[name] - before.get(name, 0.0) for name in clock.seconds}
        runs.append((total, spent))
    total, spent = min(runs[1:], key=lambda run: run[0])
    phases = [spent.get(name, 0.0) for name in ("assemble", "factorise", "solve", "solve adjoint", "contract")]
    return Timing._make((solver, built.n_unknowns, built.seconds["analyse"], *phases, total))
