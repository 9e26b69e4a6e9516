"""A design on a GPU beside the processor: assembly, factorisation, solves, contraction, value and gradient.

    python bench/gpu.py --json bench/records/gpu.json --plot gpu.png
    python bench/gpu.py --read bench/records/gpu.json --plot gpu.png

The cases are those of ``design_iteration.py``. ``--solvers`` are compared on each, the first of them is what the
others are measured by: ``pardiso`` factorises in double precision on all cores, ``auto`` is what femadj takes on the
processor by itself, ``cuda`` is cuDSS with element kernels on the device. What is not there is left out, with a line
that says why. Everything is compiled and loaded on a smaller mesh of the same kind before it is timed; then come a
first design and ``--designs`` new ones, of which the medians are told, in one process.

    analyse                        ordering and analysis, once a topology
    assembly, factor, solve, adjoint, contraction, design     seconds of a new design; the last is value and gradient
    x                              time of the design over that with the first solver
    gradient, value                largest difference from the first solver's, of the largest component
    device                         memory that the device has less than before [MB]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    MOVE,
    analysis_seconds,
    at_least_one,
    case_name,
    iterate,
    kind_and_size,
    load_of_machine,
    logarithmic,
    markdown,
    mesh_of,
    problem,
    seconds_shown,
    told,
    warm_up_of,
)

import femadj as fa
from femadj.base.cuda import device_arrays
from femadj.doctor.machine import machine
from femadj.progress import Phases
from femadj.report.drawing import blank_figure, save_figure, write_words

CASES = ("box12", "box20", "box28", "box36", "hex22", "p2box12", "sq512", "sq1024")
SOLVERS = ("pardiso", "auto", "cuda")
COLOURS: Mapping[str, str] = {"pardiso": "#50647c", "auto": "#1f5fa8", "cuda": "#5a9a2f", "cusolver": "#c58a1b"}
SHOWN = ("assembly", "factor", "solve", "adjoint", "contraction", "second_design")


def used_bytes() -> int | None:
    """Memory of the device that is taken; None without a device."""
    try:
        memory = device_arrays().memory()
    except fa.SolverUnavailableError:
        return None
    return memory.total - memory.free


def measure(case: str, solver: str, designs: int, threads: int | None) -> tuple[dict[str, Any], float, np.ndarray]:
    """Times of one solver on one case; value and gradient of the last design."""
    clock = Phases()
    iterate(problem(warm_up_of(case), threads, clock, solver), clock, None)
    mesh, (_, n), before = mesh_of(case), kind_and_size(case), used_bytes()
    built = problem(mesh, threads, clock, solver)
    first = iterate(built, clock, None)
    rng = np.random.default_rng(1)
    places = [mesh.points + rng.uniform(-MOVE, MOVE, mesh.points.shape) / n for _ in range(designs)]
    runs = [iterate(built, clock, points) for points in places]
    taken = used_bytes()
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    value, gradient = fa.value_and_gradient(built.solve(places[-1]), fa.FieldNorm())
    return (
        {
            "case": case,
            "solver": solver,
            "chosen": built.solver_name,
            "unknowns": built.n_unknowns,
            "cells": mesh.n_cells,
            "designs": designs,
            "bind": built.seconds["bind"],
            "analyse": analysis_seconds(built, first, median),
            **{key: median[key] for key in (*SHOWN, "primal", "gradient", "factor_bytes", "iterations")},
            "device_mb": None if taken is None or before is None else round((taken - before) / 1e6, 1),
            "load": load_of_machine(),
        },
        float(value),
        np.asarray(gradient.points),
    )


def compared(case: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All solvers on a case, each with its distance from the first."""
    runs: list[dict[str, Any]] = []
    right: tuple[float, np.ndarray] | None = None
    for solver in options.solvers:
        try:
            run, value, gradient = measure(case, solver, options.designs, options.threads)
        except (fa.SolverUnavailableError, fa.SolverMemoryError) as error:
            print(f"{case}: {solver} is left out: {error}", flush=True)
            continue
        right = right or (value, gradient)
        run["value_error"] = abs(value - right[0]) / abs(right[0])
        run["gradient_error"] = float(np.abs(gradient - right[1]).max() / np.abs(right[1]).max())
        runs.append(run)
        print(f"{case}: {solver} {seconds_shown(run['second_design'])} s a design", flush=True)
    return runs


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown."""
    first = {run["case"]: run["second_design"] for run in reversed(runs)}
    rows = []
    for run in runs:
        seconds = [seconds_shown(run[key]) for key in ("analyse", *SHOWN)]
        ratio = f"{run['second_design'] / first[run['case']]:.2f}"
        errors = [f"{run[key]:.0e}" for key in ("gradient_error", "value_error")]
        device = "-" if run["device_mb"] is None else f"{run['device_mb']:,.0f}"
        name = run["solver"] if run["chosen"] == run["solver"] else f"{run['solver']} ({run['chosen']})"
        rows.append([run["case"], f"{run['unknowns']:,}", name, *seconds, ratio, *errors, device])
    head = ["case", "unknowns", "solver", "analyse", *SHOWN[:-1], "design", "x", "gradient", "value", "device"]
    return markdown(head, rows)


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    """Seconds of a design over the number of unknowns, by kind of mesh."""
    kinds = list(dict.fromkeys(kind_and_size(run["case"])[0] for run in runs))
    width = 4.2 * len(kinds) + 0.5
    figure = blank_figure(width, 4.4)
    for number, kind in enumerate(kinds):
        axes = figure.add_axes(((0.9 + 4.2 * number) / width, 0.13, 3.5 / width, 0.68))
        here = [run for run in runs if kind_and_size(run["case"])[0] == kind]
        for solver in dict.fromkeys(run["solver"] for run in here):
            line = sorted((run["unknowns"], run["second_design"]) for run in here if run["solver"] == solver)
            axes.plot(*zip(*line, strict=True), "o-", color=COLOURS.get(solver), label=solver)
        for name in "xy":
            logarithmic(axes, name)
        axes.set(xlabel="unknowns", title=kind)
        if number == 0:
            axes.set_ylabel("seconds of value and gradient")
            axes.legend(frameon=False)
    write_words(figure, "Value and gradient of a new design", "")
    save_figure(figure, path)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=case_name, default=CASES, metavar="CASE", help="see above")
    parser.add_argument("--solvers", nargs="+", default=SOLVERS, help=f"default: {' '.join(SOLVERS)}")
    parser.add_argument("--designs", type=at_least_one, default=3, metavar="K", help="new designs (default: 3)")
    parser.add_argument("--threads", type=at_least_one, metavar="N", help="threads (default: all cores)")
    parser.add_argument("--json", type=Path, help="where the record goes")
    parser.add_argument("--read", type=Path, nargs="+", metavar="JSON", help="show records instead of running")
    parser.add_argument("--plot", type=Path, help="where a picture goes")
    options = parser.parse_args()
    if options.read:
        runs = [run for path in options.read for run in json.loads(path.read_text())]
    else:
        known: Sequence[Any] = [{"machine": machine()}]
        runs = [*known]
        for case in options.cases:
            runs += compared(case, options)
            if options.json:  # what is done is kept, whatever comes after
                options.json.write_text("[\n" + ",\n".join(json.dumps(run) for run in runs) + "\n]\n")
    told(runs, options, lambda found: table(measured(found)), lambda found, path: plot(measured(found), path))
    return 0


def measured(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the entries that say on which machine."""
    return [run for run in runs if "case" in run]


if __name__ == "__main__":
    raise SystemExit(main())
