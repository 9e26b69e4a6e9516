"""How cost grows with size: seconds of every phase of one design, and peak memory, from 1,000 unknowns to 2 million.

    python bench/scale.py --json scale.json --plot scale.png
    python bench/scale.py --kinds box --to 300000 --solver pardiso
    python bench/scale.py --read scale.json --plot scale.png

``sqN`` is the Poisson equation in the plane, ``boxN`` elasticity in space; see ``design_iteration.py``. Sizes go up to
2.1 million unknowns in the plane and 1 million in space, or to ``--to``. Every size has a process of its own, in which
a small problem comes first. Before a size is run, its peak memory is extrapolated from those of the two sizes before
(growing by a power of the unknowns); where that is more than what is available, or femadj refuses because a factor
would not fit, the run stops and says so.

Columns, in seconds unless they say otherwise:

    bind, analysis            once for each topology; the second is what the first matrix takes beyond later ones, a
                              factor or preconditioner that serves those, too, included
    assembly, factor, solve   primal solve of a second design (median of --repeat designs, like what follows);
                              ``factor`` is whatever is made of the values of the matrix: a factor, a preconditioner
    evaluate, adjoint, contraction     gradient of the same design
    design, cpu               solution and gradient as seen from outside; seconds of all cores together
    iterations                of both solves; 0 where they are those of a factor
    peak                      largest memory of the process, less that of the interpreter and its libraries [MB]; the
                              small problem, with what it compiles and loads, takes the first hundred
    power                     by which power of the unknowns ``design`` has grown since the size before
    load                      load of the machine, itself included
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import (
    KINDS,
    MOVE,
    analysis_seconds,
    at_least_one,
    case_name,
    iterate,
    kind_and_size,
    load_of_machine,
    logarithmic,
    markdown,
    may_choose,
    mesh_of,
    peak_bytes,
    problem,
    seconds_shown,
    told,
    warm_up_of,
)

import femadj as fa
from femadj.base.memory import available_bytes
from femadj.progress import Phases
from femadj.report.drawing import blank_figure, save_figure, write_words

SIZES: Mapping[str, Sequence[int]] = {
    "sq": (31, 63, 128, 256, 512, 1024, 1448),
    "box": (4, 6, 9, 13, 20, 28, 36, 43),
}
PHASES: Mapping[str, str] = {
    "bind": "#9aa5b1",
    "analysis": "#50647c",
    "assembly": "#c58a1b",
    "factor": "#c0392b",
    "solve": "#1f5fa8",
    "evaluate": "#7fb069",
    "adjoint": "#8e5fa8",
    "contraction": "#3b7f4c",
}
SPARE = 0.9
"""The part of the available memory that a size may take."""

Runs = Sequence[Mapping[str, Any]]


def unknowns_of(name: str) -> int:
    """Unknowns of a case, without making its mesh."""
    kind, n = kind_and_size(name)
    return (n + 1) ** 2 if kind == "sq" else 3 * (4 * n + 1) * (n + 1) ** 2


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one size in this process."""
    _, n = kind_and_size(name)
    clock, base, load = Phases(), peak_bytes(), load_of_machine()
    small = warm_up_of(name)
    for solver in may_choose(options.solver):
        iterate(problem(small, options.threads, clock, solver), clock, None)
    mesh = mesh_of(name)
    start = perf_counter()
    built = problem(mesh, options.threads, clock, options.solver)
    first = iterate(built, clock, None)
    first_call = perf_counter() - start
    rng = np.random.default_rng(1)
    runs = [
        iterate(built, clock, mesh.points + rng.uniform(-MOVE, MOVE, mesh.points.shape) / n)
        for _ in range(options.repeat)
    ]
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    return {
        "case": name,
        "unknowns": built.n_unknowns,
        "cells": mesh.n_cells,
        "solver": built.solver_name,
        "asked": options.solver,
        "factorisations": built.counts.factorisations,
        "bind": round(built.seconds["bind"], 5),
        "analysis": round(analysis_seconds(built, first, median), 5),
        **{key: round(median[key], 5) for key in PHASES if key in median},
        "design": round(median["second_design"], 5),
        "cpu": round(median["cpu"], 5),
        "iterations": median["iterations"],
        "first": round(first_call, 5),
        "peak_mb": round((peak_bytes() - base) / 1e6, 1),
        "factor_mb": round(median["factor_bytes"] / 1e6, 1),
        "load": load,
    }


def power(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> float:
    """By which power of the unknowns a quantity has grown."""
    if min(before[key], after[key]) <= 0:
        return 1.0
    return math.log(after[key] / before[key]) / math.log(after["unknowns"] / before["unknowns"])


def expected_mb(done: Runs, unknowns: int) -> float | None:
    """Peak memory of the next size, from those of the last two; None where there are fewer."""
    if len(done) < 2:
        return None
    grown = max(1.0, power(done[-2], done[-1], "peak_mb"))
    return float(done[-1]["peak_mb"] * (unknowns / done[-1]["unknowns"]) ** grown)


def run_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every size, each in a process of its own."""
    runs: list[dict[str, Any]] = []
    for kind in options.kinds:
        done: list[dict[str, Any]] = []
        for n in SIZES[kind]:
            name = f"{kind}{n}"
            unknowns = unknowns_of(name)
            if options.to is not None and unknowns > options.to:
                break
            needed = expected_mb(done, unknowns)
            there = available_bytes() if options.memory is None else 1e9 * options.memory
            if needed is not None and there is not None and 1e6 * needed > SPARE * there:
                print(
                    f"{kind}: stopped before {name}, {unknowns} unknowns: it would take some {needed:.0f} MB, and "
                    f"{there / 1e6:.0f} MB are available; take --to {done[-1]['unknowns']}, or another --solver",
                    file=sys.stderr,
                    flush=True,
                )
                break
            run = attempt(name, options) if options.here else one_run(name, options)
            if "refused" in run:
                print(f"{kind}: stopped at {name}, {unknowns} unknowns: {run['refused']}", file=sys.stderr, flush=True)
                break
            print(json.dumps(run), file=sys.stderr, flush=True)
            done.append(run)
        runs += done
    return runs


def attempt(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One size in this process; what femadj says where memory does not suffice."""
    try:
        return measure(name, options)
    except fa.SolverMemoryError as error:
        return {"case": name, "refused": str(error)}


def one_run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One size in a process of its own."""
    command = [sys.executable, __file__, "--child", name, "--solver", options.solver, "--repeat", str(options.repeat)]
    if options.threads is not None:
        command += ["--threads", str(options.threads)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: the run ended with {done.returncode}")
    run: dict[str, Any] = json.loads(done.stdout)
    return run


def kind_of(run: Mapping[str, Any]) -> str:
    """Kind of mesh of a run."""
    return kind_and_size(run["case"])[0]


def table(runs: Runs) -> str:
    """The table."""
    head = ["case", "unknowns", "solver", *PHASES, "design", "cpu", "iterations", "power", "peak [MB]", "load"]
    rows = []
    for before, run in zip([None, *runs], runs, strict=False):
        same = before is not None and kind_of(before) == kind_of(run)
        rows.append(
            [
                run["case"],
                f"{run['unknowns']:,}",
                run["solver"],
                *(seconds_shown(run[phase]) for phase in (*PHASES, "design", "cpu")),
                f"{run['iterations']:.0f}",
                f"{power(before, run, 'design'):.2f}" if before is not None and same else "-",
                f"{run['peak_mb']:.0f}",
                f"{run['load']:.1f}",
            ]
        )
    return markdown(head, rows)


def plot(runs: Runs, path: Path) -> None:
    """Phases over size, log-log, and peak memory; a column for each kind."""
    kinds = [kind for kind in SIZES if any(kind_of(run) == kind for run in runs)]
    figure = blank_figure(width=1.5 + 5.2 * len(kinds), height=8.6)
    write_words(
        figure,
        "One design, by size",
        f"Value and gradient of one response, solver {runs[0]['asked']}; dashed: once for each topology",
    )
    axes = figure.subplots(2, len(kinds), squeeze=False, sharex="col", sharey="row", height_ratios=(3, 1))
    for (upper, lower), kind in zip(axes.T, kinds, strict=True):
        of_kind = [run for run in runs if kind_of(run) == kind]
        x = [run["unknowns"] for run in of_kind]
        for phase, colour in PHASES.items():
            once = phase in ("bind", "analysis")
            shown = [run[phase] or math.nan for run in of_kind]
            upper.plot(x, shown, ".--" if once else ".-", color=colour, label=phase, linewidth=1.3)
        upper.plot(x, [run["design"] for run in of_kind], "-", color="#202020", label="design", linewidth=2.2)
        scale = of_kind[-1]["design"] / x[-1]
        upper.plot(x, [scale * size for size in x], ":", color="#808080", label="in proportion", linewidth=1)
        lower.plot(x, [max(run["peak_mb"], 0.1) for run in of_kind], ".-", color="#202020", linewidth=1.6)
        upper.set_title(KINDS[kind].what, fontsize=10)
        for axis in (upper, lower):
            logarithmic(axis, "x", (1, 3))
            logarithmic(axis, "y", (1,) if axis is upper else (1, 3))
            axis.grid(True, which="major", color="#e0e0e0", linewidth=0.7)
        lower.set_xlabel("unknowns")
    axes[0, 0].legend(fontsize=8)
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("peak memory [MB]")
    figure.subplots_adjust(left=0.09, right=0.98, top=0.87, bottom=0.07, hspace=0.08, wspace=0.1)
    save_figure(figure, path)


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--kinds", nargs="+", choices=SIZES, default=list(SIZES))
    result.add_argument("--to", type=at_least_one, metavar="N", help="largest number of unknowns")
    result.add_argument("--solver", default="auto", help="of femadj (default: auto)")
    result.add_argument("--memory", type=float, metavar="GB", help="what may be taken (default: what is available)")
    result.add_argument("--repeat", type=at_least_one, default=3, metavar="K", help="designs (default: 3)")
    result.add_argument("--threads", type=at_least_one, metavar="N", help="threads (default: all cores)")
    result.add_argument("--here", action="store_true", help="run in this process; memory then means little")
    result.add_argument("--read", type=Path, metavar="JSON", help="show what was measured before")
    result.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    result.add_argument("--plot", type=Path, metavar="PNG", help="draw it")
    result.add_argument("--child", type=case_name, help=argparse.SUPPRESS)
    return result


def main() -> int:
    """Run, write, show."""
    options = parser().parse_args()
    if options.child:
        print(json.dumps(attempt(options.child, options)))
        return 0
    told(json.loads(options.read.read_text()) if options.read else run_all(options), options, table, plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
