"""What scripts that optimise share: the command line, one run for each optimiser, its files, and a table of all.

Every optimiser has a folder of its own below that of the results. Whatever ends a run, ``--resume`` takes it up again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy.typing as npt
from rich import box
from rich.table import Table

from femadj.case import BAD_INPUT, Run
from femadj.errors import FemadjError, MissingExtraError, RunError
from femadj.optimisation import Parametrisation
from femadj.optimisation.constraint import Constraint, Objective
from femadj.optimisation.evaluation import Evaluated
from femadj.optimisation.optimum import Optimum
from femadj.optimisation.reduced import Reduced, RunCounts
from femadj.optimisation.run_folder import LINES
from femadj.progress import Phases
from femadj.report import Caption, ProgressDisplay, View, picture, results_console, write_summary
from femadj.sensitivity.adjoint import values_and_gradients
from femadj.solvers import ITERATED, SOLVERS

MISSED = 1e-3
"""By how much the design that is shown may miss a limit, in its scale: few on the way are within all of them."""

Optimise = Callable[[Reduced, int], Optimum]
"""An optimiser, and how many designs it may ask for."""


@dataclass(frozen=True)
class DesignCase:
    """A runnable optimisation.

    Attributes
    ----------
    name, description : str
        As of ``femadj.case.Case``.
    problem : callable of Run
        Builds the problem.
    parametrisation : callable of the problem
    objective : Objective
    constraints : tuple of Constraint
        The first one is pictured.
    units : tuple of str
        Of the objective and the constraints.
    optimisers : mapping of name to Optimise
        Each has a run of its own.
    designs : int
        How many designs a run may ask for, when the command line does not say.
    scales : float
        Size of the variables.
    length_unit, title : str
    labels : mapping of group name to text, optional
    view : View, optional
    lines : name and callable of the solution, optional
        For the pictures, as of ``femadj.case.Case``.
    """

    name: str
    description: str | None
    problem: Callable[[Run], Any]
    parametrisation: Callable[[Any], Parametrisation]
    objective: Objective
    constraints: tuple[Constraint, ...]
    units: tuple[str, ...]
    optimisers: Mapping[str, Optimise]
    designs: int
    scales: float = 1.0
    length_unit: str = "unit"
    title: str = ""
    labels: Mapping[str, str] | None = None
    view: View | None = None
    lines: tuple[str, Callable[[Any], npt.ArrayLike]] | None = None

    def parser(self) -> argparse.ArgumentParser:
        """The command line."""
        parser = argparse.ArgumentParser(
            prog=self.name, description=self.description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add = parser.add_argument
        add("--out", type=Path, default=Path("results") / self.name, metavar="DIR",
            help="folder of the runs and their files (default: %(default)s)")  # fmt: skip
        add("--designs", type=_positive, default=self.designs, metavar="N",
            help="designs that each optimiser may ask for (default: %(default)s)")  # fmt: skip
        add("--resume", action="store_true",
            help="take up the runs in that folder, however they ended; with more --designs they go on")  # fmt: skip
        add("--only", choices=list(self.optimisers), metavar="OPTIMISER",
            help=f"one of the optimisers ({', '.join(self.optimisers)}) alone")  # fmt: skip
        add("--solver", default="auto", choices=["auto", *SOLVERS, *ITERATED], help="solver (default: %(default)s)")
        add("--threads", type=_positive, metavar="N", help="threads to use (default: all cores)")
        add("--no-picture", action="store_true", help="draw nothing")
        return parser


@dataclass(frozen=True, eq=False)
class DesignRun:
    """What became of the run of one optimiser.

    Attributes
    ----------
    reduced : Reduced
    optimum : Optimum
    counts : RunCounts
    seconds : float
        Both of this process, until the optimiser ended.
    """

    reduced: Reduced
    optimum: Optimum
    counts: RunCounts
    seconds: float

    def violation(self, number: int) -> float:
        """By how much a design misses a limit at most, in the scale of each."""
        pairs = zip(self.reduced.constraints, self.reduced.history[number].values[1:], strict=True)
        return max((constraint.violation(value) for constraint, value in pairs), default=0.0)

    @property
    def after(self) -> Evaluated:
        """The design that is shown: the least objective of those that miss no limit by more than ``MISSED``."""
        answered = [r for r in self.reduced.history.records if r.failure is None]
        within = [r for r in answered if self.violation(r.number) <= MISSED]
        scale = self.reduced.objective.scale
        least = min(within, key=lambda r: r.values[0] / scale).number if within else self.optimum.best.number
        return self.reduced.design(least)


def main(case: DesignCase, argv: Sequence[str] | None = None) -> int:
    """Run an optimisation from the command line: 0, or 2 when femadj reports an error, then written in words."""
    arguments = case.parser().parse_args(argv)
    try:
        run_designs(case, arguments)
    except FemadjError as error:
        print(f"{case.name}: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


def run_designs(case: DesignCase, arguments: argparse.Namespace) -> Mapping[str, DesignRun]:
    """Let each optimiser run; write histories, shapes, pictures and ``summary.json``; print a table.

    An optimiser that is not installed is left out, with its reason printed.

    Raises
    ------
    FemadjError
        Whatever is wrong with the problem or the folder; MissingExtraError when no optimiser is installed.
    """
    console, runs = results_console(), {}
    missing: MissingExtraError | None = None
    for name, optimise in case.optimisers.items():
        if arguments.only not in (None, name):
            continue
        try:
            runs[name] = _run(case, arguments, name, optimise)
        except MissingExtraError as error:
            missing = error
            console.print(f"{name} left out: {error}", markup=False, soft_wrap=True)
    if not runs and missing is not None:
        raise missing
    console.print(_table(case, runs))
    files = [run.reduced.write_shapes() for run in runs.values()]
    try:
        files += [] if arguments.no_picture else _pictures(case, arguments, runs)
    except MissingExtraError as error:
        console.print(f"no picture: {error}", markup=False, soft_wrap=True)
    files.append(write_summary(arguments.out / "summary.json", _summary(case, runs)))
    for file in files:
        console.print(f"wrote {file}", markup=False, soft_wrap=True)
    return runs


def _run(case: DesignCase, arguments: argparse.Namespace, name: str, optimise: Optimise) -> DesignRun:
    began, phases = time.perf_counter(), Phases(ProgressDisplay())
    problem = case.problem(Run(arguments, arguments.solver, arguments.threads, phases))
    parametrisation, folder = case.parametrisation(problem), arguments.out / name.lower()
    parts = problem, parametrisation, case.objective, case.constraints
    if arguments.resume and (folder / LINES).is_file():
        reduced = Reduced.resume(folder, *parts, scales=case.scales)
    elif (folder / LINES).is_file():
        raise RunError(f"{folder} holds a run already: take it up with --resume, or give another folder with --out")
    else:
        reduced = Reduced(*parts, folder=folder, scales=case.scales)
    try:
        optimum = optimise(reduced, arguments.designs)
    except BaseException:
        reduced.close()
        raise
    return DesignRun(reduced, optimum, reduced.counts, time.perf_counter() - began)


# ---------------------------------------------------------------------- what is told
def _effort(run: DesignRun) -> dict[str, float]:
    return {
        "designs": run.optimum.designs,
        "solved in this process": run.counts.solves,
        "factorisations": run.counts.factorisations,
        "seconds": run.seconds,
    }


def _table(case: DesignCase, runs: Mapping[str, DesignRun]) -> Table:
    table = Table(title=case.name, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("")
    for column in ("unit", "limit", "before", *runs):
        table.add_column(column, justify="left" if column == "unit" else "right")
    first = next(iter(runs.values()))
    before = first.reduced.design(0).values
    limits = ["minimal" if case.objective.scale > 0 else "maximal", *map(_limit, case.constraints)]
    for k, quantity in enumerate(first.reduced.names):
        after = [f"{run.after.values[k]:.6g}" for run in runs.values()]
        table.add_row(quantity, case.units[k], limits[k], f"{before[k]:.6g}", *after)
    quality = [f"{run.after.quality:.3f}" for run in runs.values()]
    table.add_row("mesh quality", "", "", f"{first.reduced.design(0).quality:.3f}", *quality)
    table.add_row("limits missed by", "", "", "", *(f"{r.violation(r.after.number):.1g}" for r in runs.values()))
    table.add_section()
    for effort in _effort(first):
        table.add_row(effort, "", "", "", *(f"{_effort(run)[effort]:.3g}" for run in runs.values()))
    table.add_row("shown design", "", "", "", *(f"{run.after.number}" for run in runs.values()))
    table.add_row("converged", "", "", "", *("yes" if r.optimum.converged else "no" for r in runs.values()))
    return table


def _limit(constraint: Constraint) -> str:
    if constraint.lower == constraint.upper:
        return f"= {constraint.lower:.6g}"
    parts = (f">= {constraint.lower:.6g}", f"<= {constraint.upper:.6g}")
    limits = (constraint.lower, constraint.upper)
    return " ".join(part for part, limit in zip(parts, limits, strict=True) if isfinite(limit))


def _summary(case: DesignCase, runs: Mapping[str, DesignRun]) -> dict[str, Any]:
    found = {}
    for name, run in runs.items():
        after, start = run.after, run.reduced.design(0)
        found[name] = {
            "before": dict(zip(run.reduced.names, start.values.tolist(), strict=True)),
            "after": dict(zip(run.reduced.names, after.values.tolist(), strict=True)),
            "shown design": after.number,
            "violation": run.violation(after.number),
            "worst quality": after.quality,
            "converged": run.optimum.converged,
            "message": run.optimum.message,
            **_effort(run),
        }
    return {"name": case.name, "units": list(case.units), "optimisers": found}


def _pictures(case: DesignCase, arguments: argparse.Namespace, runs: Mapping[str, DesignRun]) -> list[Path]:
    """The history of each run, and the body before and after."""
    first, files = next(iter(runs.values())), []
    files.append(_picture(case, first, arguments.out / "before.png", 0, "before"))
    for name, run in runs.items():
        files.append(run.reduced.plot())
        path = arguments.out / f"after_{name.lower()}.png"
        files.append(_picture(case, run, path, run.after.number, f"after {name}"))
    return files


def _picture(case: DesignCase, run: DesignRun, path: Path, number: int, when: str) -> Path:
    solution = run.reduced.problem.solve(run.reduced.design(number).points)
    _, (gradient,) = values_and_gradients(solution, [case.constraints[0].response])
    what, lines = ("", None) if case.lines is None else (case.lines[0], case.lines[1](solution))
    title, shown = f"{case.title or case.name} {when}", case.constraints[0].name
    caption = Caption(shown, case.units[1], case.length_unit, title, case.labels, what)
    return picture(path, solution, gradient, caption, view=case.view, field=lines)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number
