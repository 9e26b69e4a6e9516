"""What one design iteration costs: new node coordinates, same problem, value and gradient of one response.

``boxN`` is linear elasticity on 24 N^3 tetrahedra (E = 1, nu = 0.3, held at x = 0, body force along -z), ``p2boxN`` the
same on as many quadratic ones, ``hexN`` on 4 N^3 hexahedra, ``sqN`` the Poisson equation on 2 N^2 triangles (source 1,
zero on the boundary); the response is the integral of |u|^2. Every case runs in a process of its own and prints one
line of JSON. Kernels are compiled before anything is timed. Every design has a factor in double precision, which is
the measure of everything else; ``loop.py`` shows what femadj does in a loop when it may choose.

    python bench/design_iteration.py --cases box12 box20 sq512

Fields, in seconds unless they say otherwise:

    bind, analysis            once for each topology; the second is what the first factor takes beyond later ones
    assembly, factor, solve   primal solve of the second design (median of --repeat designs, like what follows)
    evaluate, adjoint, contraction     gradient of the second design
    first_call                problem, solution and gradient of the first design
    second_design             solution and gradient of the second design, as seen from outside
    peak_mb                   largest memory of the process, less that of the interpreter and its libraries
    factor_mb, csr_mb         the factor as the solver counts it; values, columns and row starts of the matrix
    ratios                    gradient/(assembly+factor), assembly/factor, gradient/primal, primal/(factor+solve),
                              peak/(factor+csr)
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from time import perf_counter
from typing import Any

import numpy as np
from common import MOVE, analysis_seconds, case_name, iterate, kind_and_size, mesh_of, peak_bytes, problem, warm_up_of

from femadj.progress import Phases

CASES = ("box12", "box20", "box28", "sq256", "sq512", "sq1024")


def measure(name: str, repeat: int, threads: int | None) -> dict[str, Any]:
    """Run one case in this process."""
    _, n = kind_and_size(name)
    clock = Phases()
    base = peak_bytes()
    iterate(problem(warm_up_of(name), threads, clock), clock, None)
    mesh = mesh_of(name)
    start = perf_counter()
    built = problem(mesh, threads, clock)
    first = iterate(built, clock, None)
    first_call = perf_counter() - start
    rng = np.random.default_rng(1)
    runs = []
    for _ in range(repeat):
        points = mesh.points + rng.uniform(-MOVE, MOVE, mesh.points.shape) / n
        runs.append(iterate(built, clock, points))
    peak = peak_bytes() - base
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    csr = built.residual.pattern.csr
    csr_bytes = csr.indptr.nbytes + csr.indices.nbytes + 8 * csr.nnz
    factor_bytes = median.pop("factor_bytes")
    ratios = {
        "gradient/(assembly+factor)": median["gradient"] / (median["assembly"] + median["factor"]),
        "assembly/factor": median["assembly"] / median["factor"],
        "gradient/primal": median["gradient"] / median["primal"],
        "primal/(factor+solve)": median["primal"] / (median["factor"] + median["solve"]),
        "peak/(factor+csr)": peak / (factor_bytes + csr_bytes) if factor_bytes else None,
    }
    seconds = {
        "bind": built.seconds["bind"],
        "analysis": analysis_seconds(built, first, median),
        **{key: median[key] for key in ("assembly", "factor", "solve", "evaluate", "adjoint", "contraction")},
        "primal": median["primal"],
        "gradient": median["gradient"],
        "first_call": first_call,
        "second_design": median["second_design"],
    }
    return {
        "case": name,
        "unknowns": built.residual.space.n_dofs,
        "cells": mesh.n_cells,
        "solver": built.solver_name,
        "designs": repeat,
        "analyses": built.counts.analyses,
        "factorisations": built.counts.factorisations,
        **{key: round(value, 4) for key, value in seconds.items()},
        "peak_mb": round(peak / 1e6, 1),
        "factor_mb": round(factor_bytes / 1e6, 1),
        "csr_mb": round(csr_bytes / 1e6, 1),
        "ratios": {key: None if value is None else round(value, 3) for key, value in ratios.items()},
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=case_name, default=CASES, metavar="CASE",
                        help=f"boxN, p2boxN, hexN or sqN; {' '.join(CASES)} when left out")  # fmt: skip
    parser.add_argument("--repeat", type=int, default=3, metavar="K", help="designs after the first (default: 3)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: all cores)")
    parser.add_argument("--here", action="store_true", help="run in this process, one case after the other")
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    for name in options.cases:
        if options.here:
            print(json.dumps(measure(name, options.repeat, options.threads)), flush=True)
            continue
        command = [sys.executable, __file__, "--here", "--cases", name, "--repeat", str(options.repeat)]
        if options.threads is not None:
            command += ["--threads", str(options.threads)]
        status = subprocess.run(command, check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
