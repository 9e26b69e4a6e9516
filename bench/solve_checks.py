"""What the checks of solves cost, in one process: scales, backward errors, further solves.

    python bench/solve_checks.py --cases box20 sq512

The cases are those of ``design_iteration.py``. For every case one line of JSON: seconds of the checks of one design
(value and gradient of one response), and what part of the factorisation and of the whole design they are; medians over
``--repeat`` designs.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from common import MOVE, case_name, kind_and_size, mesh_of, problem

import femadj as fa
from femadj.progress import Phases
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import Matrix

CHECKS: tuple[tuple[type, str], ...] = (
    (Matrix, "__init__"), (Factor, "_judged"), (Factor, "_bound"), (Factor, "_refine"),
)  # fmt: skip


class Clock:
    """Seconds in functions while it is started; calls within calls count once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.depth = 0

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time counted."""

        def call(*arguments: Any, **named: Any) -> Any:
            start, self.depth = perf_counter(), self.depth + 1
            try:
                return function(*arguments, **named)
            finally:
                self.depth -= 1
                self.seconds += 0.0 if self.depth else perf_counter() - start

        return call


def measure(name: str, repeat: int, clock: Clock) -> dict[str, Any]:
    """Run one case."""
    _, n = kind_and_size(name)
    mesh = mesh_of(name)
    phases = Phases()
    built = problem(mesh, None, phases)
    fa.value_and_gradient(built.solve(), fa.FieldNorm())
    rng = np.random.default_rng(1)
    runs = []
    for _ in range(repeat):
        points = mesh.points + rng.uniform(-MOVE, MOVE, mesh.points.shape) / n
        before, clock.seconds = phases.seconds["factorise"], 0.0
        start = perf_counter()
        solution = built.solve(points)
        fa.value_and_gradient(solution, fa.FieldNorm())
        whole, factorisation = perf_counter() - start, phases.seconds["factorise"] - before
        runs.append((clock.seconds, clock.seconds / factorisation, clock.seconds / whole))
        extra = solution.factor.statistics.extra_solves
        solution.factor.close()
    seconds, of_factorisation, of_design = (statistics.median(column) for column in zip(*runs, strict=True))
    return {
        "case": name,
        "seconds": round(seconds, 4),
        "part of factorisation": round(of_factorisation, 4),
        "part of design": round(of_design, 4),
        "further solves": extra,
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=case_name, default=("box20", "sq512"), metavar="CASE")
    parser.add_argument("--repeat", type=int, default=3, metavar="K", help="designs after the first (default: 3)")
    options = parser.parse_args()
    clock = Clock()
    for kind, name in CHECKS:
        setattr(kind, name, clock.wrapped(getattr(kind, name)))
    for name in options.cases:
        print(json.dumps(measure(name, options.repeat, clock)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
