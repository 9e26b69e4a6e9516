"""What smoothed aggregation costs: set-up, iterations, one cycle for one and for ten columns, memory.

    python bench/multigrid.py --cases box20 box28
    python bench/multigrid.py --cases hex20 --flat 5
    python bench/multigrid.py --cases box20 --jump 1e4
    python bench/multigrid.py --cases box20 --nu 0.49

The cases are those of ``design_iteration.py``; only the matrix is assembled, nothing is factorised. Every case runs in
a process of its own and prints one line of JSON. Kernels are compiled before anything is timed. Fields:

    unknowns, levels, complexity     unknowns of the matrix and of each level; entries of all levels, relative to it
    setup, setup_cpu                 seconds of a set-up, and those of all processors
    iterations, solve, solve_cpu     of conjugate gradients to 1e-12 in the energy norm for a load on all nodes; null
                                     for more than 200 iterations
    cycle, cycle_10                  seconds, of all processors, of a cycle for one column, and for ten at once
    product, product_10              the same of a product with the matrix in double precision
    cycle_mb, matrix_mb, peak_mb     memory of the cycle, of the matrix by rows of blocks, and of the whole process
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple, NoReturn

import numpy as np

import femadj as fa
from femadj.errors import ApproximationError
from femadj.progress import Phases
from femadj.solvers import Solver, Symbolic
from femadj.solvers.aggregation import SmoothedAggregation
from femadj.solvers.krylov import conjugate_gradients
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.statistics import Capabilities, Tolerances

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import at_least_one, case_name, mesh_of, peak_bytes, problem, warm_up_of

CASES = ("box12", "box20", "box28", "hex20", "sq512")


class HandedOverError(Exception):
    """The matrix that a problem hands to its solver."""

    def __init__(self, matrix: Matrix) -> None:
        super().__init__()
        self.matrix = matrix


class Receiver(Solver):
    """Takes a matrix and goes no further."""

    name = "receiver"
    capabilities = Capabilities(frozenset({"spd"}), True, True, True, None, True, False, "cpu")

    def _analyse(self, structure: Structure, threads: int | None) -> Symbolic:
        return ReceiverSymbolic(structure, Tolerances())


class ReceiverSymbolic(Symbolic):
    """Of a receiver."""

    def _factor(self, matrix: Matrix) -> NoReturn:
        raise HandedOverError(matrix)

    def _free(self) -> None:
        pass


class Trouble(NamedTuple):
    """What makes it hard, in three dimensions: flat cells, a chequerboard of moduli, Poisson's ratio."""

    flat: float
    jump: float
    nu: float

    def problem(self, mesh: fa.Mesh, solver: Solver) -> fa.LinearStatic:
        """The problem of the other benchmarks with that."""
        if mesh.dim == 2:
            return problem(mesh, None, Phases(), solver)
        groups = {
            "hard": lambda x: np.floor(3.0 * x).sum(axis=0) % 2 == 0,
            "soft": lambda x: np.floor(3.0 * x).sum(axis=0) % 2 == 1,
        }
        mesh = mesh.with_groups(cell_groups=groups).with_points(mesh.points / [1.0, 1.0, self.flat])
        physics = fa.Elasticity(E={"hard": self.jump, "soft": 1.0}, nu=self.nu)
        return fa.LinearStatic(mesh, physics, [fa.Fixed("left")], [], solver=solver)


def matrix_of(mesh: fa.Mesh, trouble: Trouble, threads: int | None) -> Matrix:
    """The matrix of the problem on a mesh."""
    try:
        trouble.problem(mesh, Receiver(threads=threads)).solve()
    except HandedOverError as handed_over:
        return handed_over.matrix
    raise AssertionError("the problem was solved without its solver")


def timed(function: Callable[[], Any], repeat: int) -> tuple[Any, float, float]:
    """What a function returns, and the least seconds that it takes, by the clock and of all processors."""
    seconds, cpu = [], []
    for _ in range(repeat):
        start, start_cpu = perf_counter(), process_time()
        result = function()
        seconds.append(perf_counter() - start)
        cpu.append(process_time() - start_cpu)
    return result, min(seconds), min(cpu)


def measure(name: str, trouble: Trouble, repeat: int, threads: int | None) -> dict[str, Any]:
    """Run one case."""
    matrix = matrix_of(warm_up_of(name), trouble, threads)
    for columns in (1, 10):
        SmoothedAggregation(matrix.structure).make(matrix).apply(
            np.ones((matrix.structure.n, columns)), transposed=False
        )
        matrix.blocks.times(np.ones((matrix.structure.n, columns)))
    matrix = matrix_of(mesh_of(name), trouble, threads)
    times = matrix.blocks.times
    cycle, setup, setup_cpu = timed(lambda: SmoothedAggregation(matrix.structure).make(matrix), repeat)
    components = matrix.structure.unknowns.components
    load = np.zeros((matrix.structure.n, 1))
    load[components - 1 :: components] = -1.0  # on the last component, as good as a body force

    def solve() -> int | None:
        try:
            found = conjugate_gradients(
                times, lambda r: cycle.apply(r, transposed=False), load, tolerance=1e-12, most=200
            )
        except ApproximationError:
            return None
        return int(found.counts[0])

    iterations, seconds, cpu = timed(solve, repeat)
    ten = np.random.default_rng(0).standard_normal((len(load), 10))
    one = ten[:, :1].copy()
    costs = {
        "cycle": timed(lambda: cycle.apply(one, transposed=False), 5 * repeat)[2],
        "cycle_10": timed(lambda: cycle.apply(ten, transposed=False), 5 * repeat)[2],
        "product": timed(lambda: times(one), 5 * repeat)[2],
        "product_10": timed(lambda: times(ten), 5 * repeat)[2],
    }
    return {
        "case": name,
        "unknowns": matrix.structure.n,
        "levels": cycle.sizes,
        "complexity": round(cycle.complexity, 2),
        "setup": round(setup, 3),
        "setup_cpu": round(setup_cpu, 3),
        "iterations": iterations,
        "solve": round(seconds, 3),
        "solve_cpu": round(cpu, 3),
        **{key: round(value, 4) for key, value in costs.items()},
        "cycle_mb": round(cycle.nbytes / 1e6, 1),
        "matrix_mb": round(sum(array.nbytes for array in matrix.blocks[:3]) / 1e6, 1),
        "peak_mb": round(peak_bytes() / 1e6, 1),
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=case_name, default=CASES, metavar="CASE")
    parser.add_argument(
        "--repeat", type=at_least_one, default=3, metavar="K", help="times everything is run (default: 3)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: all cores)")
    parser.add_argument("--flat", type=float, default=1.0, help="how much lower than wide cells are (default: 1)")
    parser.add_argument("--jump", type=float, default=1.0, help="ratio of moduli in a chequerboard (default: 1)")
    parser.add_argument("--nu", type=float, default=0.3, help="Poisson's ratio (default: 0.3)")
    parser.add_argument("--here", action="store_true", help="run in this process, one case after the other")
    options = parser.parse_args()
    for name in options.cases:
        if options.here:
            print(
                json.dumps(
                    measure(name, Trouble(options.flat, options.jump, options.nu), options.repeat, options.threads)
                ),
                flush=True,
            )
            continue
        command = [sys.executable, __file__, "--here", "--cases", name, "--repeat", str(options.repeat)]
        command += ["--flat", str(options.flat), "--jump", str(options.jump), "--nu", str(options.nu)]
        if options.threads is not None:
            command += ["--threads", str(options.threads)]
        status = subprocess.run(command, check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
