"""What a loop over designs costs: a smooth bump grows step by step, value and gradient at every step, and rivals.

    python bench/loop.py --cases box20 sq512 --json loop.json --plot loop.png
    python bench/loop.py --read loop.json --plot loop.png

The cases are those of ``design_iteration.py``. All nodes move along one direction, by a bell around the middle of the
top that ends at ``--bump`` of the part's longest side. The response is the integral of |u|^2, or those over
``--responses`` slabs along x, all differentiated at once. Every run has a process of its own, in which a small problem
comes first, so that compiling and loading is not measured; with ``--repeat`` the rivals take turns, and medians are
shown.

    femadj        as it chooses itself (or with --solver)
    factorised    femadj, a factor in double precision at every design; what the others are compared with
    plain         scikit-fem, pypardiso and NumPy by hand (linear triangles and tetrahedra; ``by_hand.py``)
    torch-fem     torch-fem with its defaults, where it is installed (``by_torch_fem.py``)

Columns of the table, in seconds unless they say otherwise:

    first                     building the problem, solution and gradient of the first design
    second                    solution + gradient of the second design: a new design on a known topology
    designs                   how many there were; fewer than --designs where --seconds ended the run
    mean, cpu                 the whole loop, building included, by design; seconds of all cores together
    x factorised              mean over that of ``factorised``
    peak                      largest memory of the process, less that of the interpreter and its libraries [MB]
    factorisations, iterations    of the whole loop, where told
    value, gradient           largest difference from ``factorised`` over the designs, relative to the largest value or
                              component (gradients with ``--check``: first, second and last design)
    load                      mean load of the machine, itself included

On busy cores threads that wait for each other spin, those of torch and MKL most of all: take ``--threads 1`` and look
at ``cpu`` there. The JSON has seconds of every design, all values and what solvers tell about themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from common import (
    KINDS,
    at_least_one,
    case_name,
    kind_and_size,
    load_of_machine,
    logarithmic,
    markdown,
    mesh_of,
    peak_bytes,
    seconds_shown,
    told,
    warm_up_of,
)
from rivals import FACTORISED, RIVALS, Settings

import femadj as fa
from femadj.report.drawing import blank_figure, save_figure, write_words

CASES = ("box20", "box28", "p2box12", "hex22", "sq512")
COLOURS: Mapping[str, str] = {"femadj": "#1f5fa8", FACTORISED: "#50647c", "plain": "#c58a1b", "torch-fem": "#c0392b"}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What libraries take the number of threads from that are not told otherwise."""

Runs = Sequence[Mapping[str, Any]]


# ---------------------------------------------------------------------- one run
def designs(points: np.ndarray, count: int, bump: float) -> list[np.ndarray]:
    """Node coordinates of all designs."""
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    dim = len(size)
    top = np.full(dim, 0.5)
    top[-1] = 1.0
    bell = np.exp(-4.0 * (((points - low) / size - top) ** 2).sum(axis=1))
    direction = np.array([0.36, 0.48, 0.8])[-dim:]
    move = bump * size.max() * bell[:, None] * direction / np.linalg.norm(direction)
    return [points + step / count * move for step in range(1, count + 1)]


def slabs_of(mesh: fa.Mesh, count: int) -> list[np.ndarray]:
    """Cells in each of ``count`` slabs along x."""
    x = mesh.cell_centres()[:, 0]
    place = (x - mesh.points[:, 0].min()) / np.ptp(mesh.points[:, 0])
    number = np.minimum((count * place).astype(int), count - 1)
    return [np.flatnonzero(number == k) for k in range(count)]


def looked_at(count: int) -> list[int]:
    """Designs whose gradients are compared."""
    return sorted({0, min(1, count - 1), count - 1})


def measure(case: str, name: str, options: argparse.Namespace, gradients_to: Path | None) -> dict[str, Any]:
    """Run the loop of one rival in this process."""
    make, count = RIVALS[name].make, options.designs
    tiny, small, mesh = mesh_of(f"{kind_and_size(case)[0]}2"), warm_up_of(case), mesh_of(case)
    settings = Settings(options.threads, options.solver)
    make(tiny, slabs_of(tiny, 1), settings)  # loads its libraries
    base, load = peak_bytes(), [load_of_machine()]
    for solver in RIVALS[name].warm_up(settings):
        warm = make(small, slabs_of(small, options.responses), settings._replace(solver=solver))
        for points in designs(small.points, 2, options.bump):
            warm.solve(points)
            warm.differentiate()
        del warm
    seconds, values, kept, iterations, told = [], [], {}, [], {}
    cpu = process_time()
    start = perf_counter()
    rival = make(mesh, slabs_of(mesh, options.responses), settings)
    built = perf_counter() - start
    for number, points in enumerate(designs(mesh.points, count, options.bump)):
        start = perf_counter()
        rival.solve(points)
        solved = perf_counter()
        value, gradient = rival.differentiate()
        seconds.append([solved - start, perf_counter() - solved])
        values.append(value.tolist())
        told = dict(rival.told())
        iterations.append(told.pop("iterations", None))
        if gradients_to is not None and number in looked_at(count):
            kept[str(number)] = gradient
        if number and options.seconds is not None and sum(map(sum, seconds)) > options.seconds:
            break
    cpu = process_time() - cpu
    peak = peak_bytes() - base
    load.append(load_of_machine())
    if gradients_to is not None:
        np.savez(gradients_to, **kept)
    return {
        "case": case,
        "rival": name,
        "unknowns": mesh.n_nodes * (3 if mesh.dim == 3 else 1),
        "cells": mesh.n_cells,
        "responses": options.responses,
        "designs": count,
        "bump": options.bump,
        "built": round(built, 4),
        "seconds": [[round(part, 4) for part in pair] for pair in seconds],
        "cpu": round(cpu, 3),
        "peak_mb": round(peak / 1e6, 1),
        "values": values,
        "iterations": iterations,
        "told": told,
        "load": load,
    }


# ---------------------------------------------------------------------- all runs
def run_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every rival on every case, in turn."""
    runs: list[dict[str, Any]] = []
    for case in options.cases:
        cell = mesh_of(f"{kind_and_size(case)[0]}2").blocks[0].type
        entered = []
        for name in options.rivals:
            refusal = RIVALS[name].refusal(cell)
            if refusal is None:
                entered.append(name)
            else:
                print(f"{case}: without {name}: {refusal}", file=sys.stderr, flush=True)
        for turn in range(options.repeat):
            order = entered[turn % len(entered) :] + entered[: turn % len(entered)]
            with tempfile.TemporaryDirectory() as folder:
                files = {name: Path(folder) / f"{name}.npz" if options.check else None for name in order}
                found = []
                for name in order:
                    found.append(one_run(case, name, options, files[name]))
                    spent = [sum(pair) for pair in found[-1]["seconds"]]
                    said = f"{case}, {name}: {len(spent)} designs, {statistics.median(spent):.3g} s each"
                    print(said, file=sys.stderr, flush=True)
                compare(found, files)
            runs += found
    return runs


def one_run(case: str, name: str, options: argparse.Namespace, gradients_to: Path | None) -> dict[str, Any]:
    """One run, in a process of its own or in this one."""
    if options.here:
        return measure(case, name, options, gradients_to)
    command = [sys.executable, __file__, "--child", "--cases", case, "--rivals", name]
    for key in ("designs", "bump", "responses", "solver", "threads", "seconds"):
        value = getattr(options, key)
        command += [] if value is None else [f"--{key}", str(value)]
    if gradients_to is not None:
        command += ["--gradients-to", str(gradients_to)]
    limits = {} if options.threads is None else dict.fromkeys(THREADS, str(options.threads))
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, env={**os.environ, **limits})
    if done.returncode:
        raise SystemExit(f"{case}, {name}: the run ended with {done.returncode}")
    run: dict[str, Any] = json.loads(done.stdout)
    return run


def compare(runs: list[dict[str, Any]], files: Mapping[str, Path | None]) -> None:
    """Write down how far values and gradients are from those of a double factor at every design."""
    (reference,) = [run for run in runs if run["rival"] == FACTORISED] or [None]
    for run in runs:
        run["value_error"] = run["gradient_error"] = None
        if reference is None or run is reference:
            continue
        both = min(len(run["values"]), len(reference["values"]))
        run["value_error"] = largest_error(np.array(run["values"][:both]), np.array(reference["values"][:both]))
        if (mine := files[run["rival"]]) is not None:
            with np.load(mine) as these, np.load(files[FACTORISED]) as those:
                run["gradient_error"] = max(largest_error(these[key], those[key]) for key in those if key in these)


def largest_error(found: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference in any row, relative to the largest component of that row."""
    found, exact = found.reshape(len(exact), -1), exact.reshape(len(exact), -1)
    return float((np.abs(found - exact).max(axis=1) / np.abs(exact).max(axis=1)).max())


# ---------------------------------------------------------------------- what is shown
def median_of(runs: Runs) -> dict[str, Any]:
    """Medians of the runs of one rival on one case."""

    def middle(value: Any) -> float:
        return statistics.median(value(run) for run in runs)

    second, done = min(1, len(runs[0]["seconds"]) - 1), min(len(run["seconds"]) for run in runs)
    errors = {key: [run[key] for run in runs if run[key] is not None] for key in ("value_error", "gradient_error")}
    iterations = [sum(n or 0 for n in run["iterations"]) for run in runs if set(run["iterations"]) != {None}]
    return {
        "first": middle(lambda run: run["built"] + sum(run["seconds"][0])),
        "primal": middle(lambda run: run["seconds"][second][0]),
        "gradient": middle(lambda run: run["seconds"][second][1]),
        "mean": middle(lambda run: (run["built"] + sum(map(sum, run["seconds"]))) / len(run["seconds"])),
        "cpu": middle(lambda run: run["cpu"] / len(run["seconds"])),
        "peak": middle(lambda run: run["peak_mb"]),
        "done": done,
        "load": statistics.mean(statistics.mean(run["load"]) for run in runs),
        "factorisations": runs[0]["told"].get("factorisations"),
        "iterations": statistics.median(iterations) if iterations else None,
        "solver": runs[0]["told"].get("solver"),
        **{key: max(found) if found else None for key, found in errors.items()},
        "by design": np.median([[sum(pair) for pair in run["seconds"][:done]] for run in runs], axis=0),
    }


def by_case(runs: Runs) -> dict[str, dict[str, dict[str, Any]]]:
    """Medians by case and rival."""
    groups: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for run in runs:
        groups.setdefault(run["case"], {}).setdefault(run["rival"], []).append(run)
    return {case: {rival: median_of(found) for rival, found in rivals.items()} for case, rivals in groups.items()}


def table(runs: Runs) -> str:
    """The table."""
    head = [
        "case", "rival", "solver", "designs", "first", "second", "mean", "cpu", "x factorised", "peak [MB]",
        "factorisations", "iterations", "value", "gradient", "load",
    ]  # fmt: skip
    rows = []
    for case, rivals in by_case(runs).items():
        for name in (name for name in RIVALS if name in rivals):
            m, base = rivals[name], rivals.get(FACTORISED)
            rows.append(
                [
                    case,
                    name,
                    m["solver"],
                    m["done"],
                    seconds_shown(m["first"]),
                    f"{seconds_shown(m['primal'])} + {seconds_shown(m['gradient'])}",
                    seconds_shown(m["mean"]),
                    seconds_shown(m["cpu"]),
                    "-" if base is None else f"{m['mean'] / base['mean']:.2f}",
                    f"{m['peak']:.0f}",
                    *("-" if m[key] is None else f"{m[key]:.0f}" for key in ("factorisations", "iterations")),
                    *("-" if m[key] is None else f"{m[key]:.0e}" for key in ("value_error", "gradient_error")),
                    f"{m['load']:.1f}",
                ]
            )
    return markdown(head, rows)


def plot(runs: Runs, path: Path) -> None:
    """Seconds of every design, for every rival; one panel a case."""
    cases = by_case(runs)
    columns = min(len(cases), 3)
    rows = -(-len(cases) // columns)
    figure = blank_figure(width=max(8.5, 1.0 + 4.4 * columns), height=1.2 + 3.4 * rows)
    first = runs[0]
    write_words(
        figure,
        "Value and gradient, design by design",
        f"A bump that grows to {first['bump']:.0%} of the part in {first['designs']} steps; "
        f"{first['responses']} response{'s'[: first['responses'] > 1]}; the first includes building the problem",
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (case, rivals) in zip(axes, cases.items(), strict=False):
        unknowns = next(run["unknowns"] for run in runs if run["case"] == case)
        for name in (name for name in RIVALS if name in rivals):
            m = rivals[name]
            spent = m["by design"].copy()
            spent[0] = m["first"]
            number = range(1, len(spent) + 1)
            axis.plot(number, spent, ".-", color=COLOURS[name], label=RIVALS[name].what, linewidth=1.2)
        logarithmic(axis, "y")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(f"{case}: {KINDS[kind_and_size(case)[0]].what}, {unknowns:,} unknowns", fontsize=9)
        axis.set_xlabel("design")
        axis.grid(True, which="both", color="#e4e4e4", linewidth=0.6)
    for axis in axes[len(cases) :]:
        axis.set_visible(False)
    for axis in axes[::columns]:
        axis.set_ylabel("seconds")
    axes[0].legend(fontsize=8)
    width, height = figure.get_size_inches()
    figure.subplots_adjust(left=0.75 / width, right=0.985, top=1 - 1.25 / height, bottom=0.5 / height, hspace=0.4)
    save_figure(figure, path)


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--cases", nargs="+", type=case_name, default=CASES, metavar="CASE", help=" ".join(CASES))
    result.add_argument("--rivals", nargs="+", choices=RIVALS, default=list(RIVALS))
    result.add_argument("--designs", type=at_least_one, default=30, metavar="N")
    result.add_argument("--bump", type=float, default=0.05, metavar="PART", help="of the longest side (default: 0.05)")
    result.add_argument("--responses", type=at_least_one, default=1, metavar="N", help="at once (default: 1)")
    result.add_argument("--repeat", type=at_least_one, default=1, metavar="K", help="runs of everything, in turn")
    result.add_argument("--solver", default="auto", help="of the rival femadj (default: auto)")
    result.add_argument("--threads", type=at_least_one, metavar="N", help="threads (default: all cores)")
    result.add_argument(
        "--seconds", type=float, metavar="S", help="a run ends with the design that exceeds this, but has two"
    )
    result.add_argument("--check", action="store_true", help="compare gradients, too")
    result.add_argument("--here", action="store_true", help="run in this process; memory then means little")
    result.add_argument("--read", type=Path, metavar="JSON", help="show what was measured before")
    result.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    result.add_argument("--plot", type=Path, metavar="PNG", help="draw it")
    result.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    result.add_argument("--gradients-to", type=Path, help=argparse.SUPPRESS)
    return result


def main() -> int:
    """Run, write, show."""
    options = parser().parse_args()
    if options.child:
        print(json.dumps(measure(options.cases[0], options.rivals[0], options, options.gradients_to)))
        return 0
    told(json.loads(options.read.read_text()) if options.read else run_all(options), options, table, plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
