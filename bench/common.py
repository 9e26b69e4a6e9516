"""What the benchmarks share: cases and their problems, one design phase by phase, memory, load, tables."""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import femadj as fa
from femadj.progress import Phases
from femadj.solvers import ITERATED, Solver
from meshes import box, hexahedra, quadratic_box, square


class Kind(NamedTuple):
    """Meshes of one sort.

    Attributes
    ----------
    make : callable
        From the number of divisions to the mesh.
    warm_up : int
        Divisions large enough for the kernels that are compiled for their very sizes.
    what : str
        For tables.
    """

    make: Callable[[int], fa.Mesh]
    warm_up: int
    what: str


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "box": Kind(box, 8, "elasticity on tetrahedra"),
        "p2box": Kind(quadratic_box, 4, "elasticity on quadratic tetrahedra"),
        "hex": Kind(hexahedra, 6, "elasticity on hexahedra"),
        "sq": Kind(square, 64, "Poisson equation on triangles"),
    }
)

MOVE = 0.02
"""How far the nodes of the next design are from the last, as a part of the cell size."""


def kind_and_size(name: str) -> tuple[str, int]:
    """Split ``box12`` into ``box`` and 12."""
    match = re.fullmatch(rf"({'|'.join(KINDS)})([1-9][0-9]*)", name)
    if match is None:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(f'{kind}<N>' for kind in KINDS)}")
    return match[1], int(match[2])


def case_name(text: str) -> str:
    """Check a case name."""
    kind_and_size(text)
    return text


def at_least_one(text: str) -> int:
    """A number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number


def mesh_of(name: str) -> fa.Mesh:
    """Mesh of a case."""
    kind, n = kind_and_size(name)
    return KINDS[kind].make(n)


def warm_up_of(name: str) -> fa.Mesh:
    """Mesh of the same kind, and no larger, for everything that is compiled or loaded at its first use."""
    kind, n = kind_and_size(name)
    return KINDS[kind].make(min(n, KINDS[kind].warm_up))


def problem(mesh: fa.Mesh, threads: int | None, clock: Phases, solver: str | Solver | None = None) -> fa.LinearStatic:
    """The problem on one of the meshes; without a solver, each matrix has a factor by the best one that works here."""
    physics: fa.Elasticity | fa.Diffusion
    if mesh.dim == 3:
        physics, support, load = fa.Elasticity(E=1.0, nu=0.3), fa.Fixed("left"), fa.BodyForce((0.0, 0.0, -1.0))
    else:
        physics, support, load = fa.Diffusion(1.0), fa.Fixed("boundary"), fa.Source(1.0)
    chosen = fa.available_solvers()[0] if solver is None else solver
    return fa.LinearStatic(mesh, physics, [support], [load], solver=chosen, threads=threads, progress=clock)


def may_choose(solver: str) -> tuple[str, ...]:
    """Solvers that are to be warmed up, because large problems may take other ones than small problems."""
    return ("auto", *ITERATED) if solver == "auto" else (solver,)


def iterate(built: fa.LinearStatic, clock: Phases, points: np.ndarray | None) -> dict[str, float]:
    """Seconds of the phases of one design."""
    before = clock.seconds
    start, cpu = perf_counter(), process_time()
    solution = built.solve(points)
    primal = perf_counter()
    fa.value_and_gradient(solution, fa.FieldNorm())
    done, cpu = perf_counter(), process_time() - cpu
    spent = {name: value - before.get(name, 0.0) for name, value in clock.seconds.items()}
    known = solution.factor.statistics
    solution.factor.close()
    return {
        "assembly": spent["assemble"],
        "factor": spent["factorise"],
        "solve": spent["solve"],
        "evaluate": spent["evaluate responses"],
        "adjoint": spent["solve adjoint"],
        "contraction": spent["contract"],
        "primal": primal - start,
        "gradient": done - primal,
        "second_design": done - start,
        "cpu": cpu,
        "factor_bytes": float(known.factor_bytes or 0),
        "iterations": float(known.iterations),
    }


def analysis_seconds(built: fa.LinearStatic, first: Mapping[str, float], later: Mapping[str, float]) -> float:
    """What the first matrix takes beyond later ones: the analysis, and a factor that serves the later ones, too."""
    return built.seconds["analyse"] + max(0.0, first["factor"] - later["factor"])


def peak_bytes() -> int:
    """Largest memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def load_of_machine() -> float:
    """Processes that ran or waited for a core in the last minute, this one among them."""
    return round(os.getloadavg()[0], 2)


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table for people and for documentation."""
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def seconds_shown(value: float | None) -> str:
    """Seconds with the digits that mean something."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def logarithmic(axes: Any, name: str, steps: Sequence[int] = (1, 2, 5)) -> None:
    """Make the ``x`` or ``y`` axis of a figure's axes logarithmic, with numbers as one writes them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(**{f"{name}scale": "log"})
    axis = getattr(axes, f"{name}axis")
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def told(
    runs: list[dict[str, Any]],
    options: argparse.Namespace,
    table: Callable[[list[dict[str, Any]]], str],
    plot: Callable[[list[dict[str, Any]], Path], None],
) -> None:
    """Write, print and draw runs, as ``--json`` and ``--plot`` say."""
    if options.json:
        options.json.write_text("[\n" + ",\n".join(json.dumps(run) for run in runs) + "\n]\n")
    print(table(runs))
    if options.plot:
        plot(runs, options.plot)
