"""What PARDISO's phases cost in double and single precision, and with options that femadj leaves alone.

The matrices are those of ``design_iteration.py``, with a unit diagonal. ``two-level`` is another algorithm of the
factorisation (iparm[23]), ``blocks`` compresses unknowns of a node that share a row structure (iparm[36]), after which
the pivots that femadj judges matrices by cannot be read. Variants take turns.

    python bench/factorisation.py --cases box20 --rounds 3

prints one line of JSON for each case and variant: seconds of the processor and, in ``wall``, of the clock (least of all
rounds) for the analysis, the first factorisation, a later one in the same place, and solves for one and ten right-hand
sides; the memory foretold by the analysis, and that of analysis and factor; the largest error of a known solution.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
from common import at_least_one, case_name, mesh_of, problem

from femadj.kernels import sparse
from femadj.progress import Phases
from femadj.solvers import mkl
from femadj.solvers.matrix import Matrix
from femadj.solvers.rehearsal import RehearsalSolver

COLUMNS = 10
KEEP_DIAGONAL, TWO_LEVEL, BLOCKS = 55, 23, 36


class Variant(NamedTuple):
    """A precision, and entries of the parameter array that differ from femadj's."""

    single: bool
    parameters: dict[int, int]


VARIANTS = {
    f"{name}{suffix}": Variant(single, parameters)
    for name, single in (("float64", False), ("float32", True))
    for suffix, parameters in (
        ("", {}),
        (", two-level", {KEEP_DIAGONAL: 0, TWO_LEVEL: 1}),
        (", blocks", {KEEP_DIAGONAL: 0, BLOCKS: -80}),
    )
}


class Clock:
    """Seconds of steps, of the processor and of the wall clock; the least of all rounds."""

    def __init__(self) -> None:
        self.processor: dict[str, float] = {}
        self.wall: dict[str, float] = {}

    def __call__(self, name: str, step: Callable[[], None]) -> None:
        start, started = process_time(), perf_counter()
        step()
        for record, seconds in ((self.processor, process_time() - start), (self.wall, perf_counter() - started)):
            record[name] = min(record.get(name, np.inf), seconds)


def scaled_matrix(name: str) -> Matrix:
    """The matrix of a case, with a unit diagonal."""
    matrix = problem(mesh_of(name), None, Phases(), RehearsalSolver()).solve().factor._matrix  # nothing is factorised
    structure = matrix.structure
    scale = 1.0 / np.sqrt(matrix.values[structure.indptr[:-1]])
    values = np.empty_like(matrix.values)
    sparse.scale(structure.indptr, structure.indices, matrix.values, scale, scale, values)
    return Matrix(structure, values, matrix.rounding)


def run(matrix: Matrix, variant: Variant, threads: int, known: np.ndarray, clock: Clock) -> dict[str, float]:
    """One round: analyse, factorise twice, solve."""
    native = mkl.Native(mkl.Library(), matrix.structure, mkl.Options("spd", threads, False, single=variant.single))
    for position, value in variant.parameters.items():
        native.iparm[position] = value
    values = matrix.values.astype(native.number)
    zero = np.zeros(matrix.structure.n)
    loads = np.array([-matrix.residual(zero, x, transposed=False)[0] for x in known]).astype(native.number)
    x = np.empty_like(loads)
    clock("analysis", lambda: native.call(mkl.ANALYSE))
    foretold = native.needed_bytes()
    clock("first factor", lambda: native.call(mkl.FACTORISE, 1, values))
    clock("factor", lambda: native.call(mkl.FACTORISE, 1, values))
    clock("solve", lambda: native.call(mkl.SOLVE, 1, values, loads[:1], x[:1]))
    clock(f"solve {COLUMNS}", lambda: native.call(mkl.SOLVE, 1, values, loads, x))
    kept = 1024 * int(native.iparm[mkl.KEPT_ANALYSIS]), 1024 * int(native.iparm[mkl.KEPT_FACTOR])
    native.call(mkl.RELEASE_ALL)
    return {
        "foretold_mb": foretold / 1e6,
        "analysis_mb": kept[0] / 1e6,
        "factor_mb": kept[1] / 1e6,
        "error": float(np.abs(x - known).max()),
    }


def measure(name: str, wanted: list[str], rounds: int, threads: int) -> None:
    """Print the lines of one case."""
    matrix = scaled_matrix(name)
    known = np.random.default_rng(0).uniform(-1, 1, (COLUMNS, matrix.structure.n))
    clocks = {variant: Clock() for variant in wanted}
    found: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for variant, clock in clocks.items():
            found[variant] = run(matrix, VARIANTS[variant], threads, known, clock)
    for variant, clock in clocks.items():
        line: dict[str, Any] = {"case": name, "unknowns": matrix.structure.n, "variant": variant, "threads": threads}
        line |= {step: round(seconds, 4) for step, seconds in clock.processor.items()}
        line["wall"] = {step: round(seconds, 4) for step, seconds in clock.wall.items()}
        line |= {key: float(f"{value:.4g}") for key, value in found[variant].items()}
        print(json.dumps(line), flush=True)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=case_name, default=["box20"], metavar="CASE")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT",
                        help=", ".join(map(repr, VARIANTS)))  # fmt: skip
    parser.add_argument("--rounds", type=at_least_one, default=3, metavar="K", help="turns of each (default: 3)")
    parser.add_argument("--threads", type=at_least_one, default=2, metavar="N", help="default: 2")
    options = parser.parse_args()
    for name in options.cases:
        measure(name, options.variants, options.rounds, options.threads)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
