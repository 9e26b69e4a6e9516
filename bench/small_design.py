"""What a design of a small problem costs, where fixed costs count: value and gradient at new node coordinates, warm.

``poisson`` is the Poisson equation (source 1, zero on the boundary), ``elasticity`` plane strain (held at x = 0, body
force along -y), both on the square of ``bench/meshes.py`` with 2 N^2 triangles and (N + 1)^2 nodes. Every problem is
solved at --designs designs with every response (``norm`` is not self-adjoint, ``compliance`` is), after a tenth of them
has been solved to warm up. One line of JSON a problem and response.

    python bench/small_design.py --n 31
    python bench/small_design.py --n 31 --profile cumulative

Fields, milliseconds, medians over the designs: ``assemble``, ``factorise``, ``solve`` (primal phases), ``evaluate
responses``, ``solve adjoint``, ``contract`` (of the gradient), ``between`` (what is in no phase), ``primal``,
``gradient``, ``design`` (both), ``processor`` (of the process, all threads, in one design; on a machine that is shared
it tells more). ``further_solves`` beyond those asked for, of one design.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import sys
from collections.abc import Mapping
from time import perf_counter, process_time
from typing import Any

import numpy as np
from common import MOVE

import femadj as fa
from femadj.progress import Phases
from femadj.responses import Response
from meshes import square

RESPONSES: Mapping[str, Response] = {"norm": fa.FieldNorm(), "compliance": fa.Compliance()}
PRIMAL, GRADIENT = ("assemble", "factorise", "solve"), ("evaluate responses", "solve adjoint", "contract")


def problem(name: str, n: int, threads: int | None, clock: Phases) -> fa.LinearStatic:
    """One of the problems."""
    mesh = square(n)
    if name == "poisson":
        physics: fa.Diffusion | fa.Elasticity = fa.Diffusion(1.0)
        support, load = fa.Fixed("boundary"), fa.Source(1.0)
    else:
        mesh = mesh.with_groups(node_groups={"left": lambda x: x[0] < 1e-9})
        physics, support, load = fa.Elasticity(E=1.0, nu=0.3), fa.Fixed("left"), fa.BodyForce((0.0, -1.0))
    return fa.LinearStatic(mesh, physics, [support], [load], threads=threads, progress=clock)


def design(built: fa.LinearStatic, response: Response, points: np.ndarray, clock: Phases) -> dict[str, float]:
    """Milliseconds of one design."""
    before = clock.seconds
    busy, start = process_time(), perf_counter()
    solution = built.solve(points)
    primal = perf_counter()
    fa.value_and_gradient(solution, response)
    done, busy = perf_counter(), process_time() - busy
    spent = {name: clock.seconds[name] - before.get(name, 0.0) for name in (*PRIMAL, *GRADIENT)}
    spent["between"] = done - start - sum(spent.values())
    spent |= {"primal": primal - start, "gradient": done - primal, "design": done - start, "processor": busy}
    return {
        **{name: 1e3 * seconds for name, seconds in spent.items()},
        "further_solves": solution.factor.statistics.extra_solves,
    }


def measure(name: str, n: int, designs: int, threads: int | None, order: str | None) -> list[dict[str, Any]]:
    """All responses of one problem."""
    clock = Phases()
    built = problem(name, n, threads, clock)
    rng, results = np.random.default_rng(1), []
    for title, response in RESPONSES.items():
        places = [built.mesh.points + rng.uniform(-MOVE, MOVE, built.mesh.points.shape) / n for _ in range(designs)]
        for points in places[: 1 + designs // 10]:
            design(built, response, points, clock)
        runs = [design(built, response, points, clock) for points in places]
        if order is not None:
            with cProfile.Profile() as profile:
                for points in places:
                    design(built, response, points, clock)
            pstats.Stats(profile, stream=sys.stderr).sort_stats(order).print_stats(50)
        median = {key: round(statistics.median(run[key] for run in runs), 4) for key in runs[0]}
        results.append({
            "problem": name, "response": title, "nodes": built.mesh.n_nodes, "cells": built.mesh.n_cells,
            "solver": built.solver_name, "designs": designs, **median,
        })  # fmt: skip
    return results


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=("poisson", "elasticity"), default=("poisson", "elasticity"))
    parser.add_argument("--n", type=int, default=31, help="cells a side (default: 31, 1 024 nodes)")
    parser.add_argument("--designs", type=int, default=200, metavar="K", help="designs (default: 200)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: what femadj chooses)")
    parser.add_argument("--profile", metavar="ORDER", help="print a profile to standard error: cumulative or tottime")
    options = parser.parse_args()
    if options.n < 2 or options.designs < 1:
        parser.error("--n must be at least 2 and --designs at least 1")
    for name in options.problems:
        for line in measure(name, options.n, options.designs, options.threads, options.profile):
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
