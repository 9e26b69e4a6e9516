"""Random systems with scales over twelve decades, solved and judged against solutions in higher precision.

    python -m tests.solvers.random_systems --count 1000

prints what became of them, and ends with an error if one was solved wrong, refused though regular, or accepted though
singular. Regular: a condition number below 1e12 after scaling. Wrong: the error, in the scale of every unknown, exceeds
1e-8 and the bound that the solver states. Between regular and singular either answer is right.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from femadj.errors import IllConditionedWarning, SolverError
from femadj.solvers import MatrixKind, Solver, get_solver
from tests.solvers.conformance import handed_over

FloatArray = npt.NDArray[np.float64]
FAMILIES = ("symmetric", "general", "saddle point", "spd", "spectrum")
REGULAR = 1e12
SINGULAR = 1e15
ERROR = 1e-8


class System(NamedTuple):
    """A matrix with its scales: ``matrix / (rows columns^T)`` has entries of one size."""

    name: str
    kind: MatrixKind
    matrix: FloatArray
    rows: FloatArray
    columns: FloatArray
    condition: float


class Outcome(NamedTuple):
    """What became of a system; errors and bounds of all solves."""

    verdict: Literal["right", "wrong", "refused", "regular refused", "singular accepted"]
    said: str
    errors: tuple[float, ...]
    bounds: tuple[float | None, ...]


# ------------------------------------------------------------------------------------------------ systems
def sparse_normal(rng: np.random.Generator, rows: int, columns: int, per_row: float) -> FloatArray:
    return rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < per_row / columns)


def base(rng: np.random.Generator, family: str, n: int) -> FloatArray:
    """A matrix without scales."""
    everyone = np.arange(n)
    if family == "symmetric":  # many small or missing diagonal entries
        matrix = sparse_normal(rng, n, n, 4)
        matrix[everyone, rng.permutation(n)] += 1.0
        return matrix + matrix.T + np.diag(rng.choice([0.0, 1e-15, 1e-7, 1.0], n))
    if family == "general":
        matrix = sparse_normal(rng, n, n, 4)
        matrix[everyone, rng.permutation(n)] += rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 2.0, n)
        return matrix
    if family == "saddle point":
        m = max(1, n // 4)
        k = n - m
        stiffness, constraints = sparse_normal(rng, k, k, 3), sparse_normal(rng, m, k, 3)
        constraints[np.arange(m), rng.permutation(k)[:m]] += 1.0
        stiffness = stiffness @ stiffness.T + 0.1 * np.eye(k)
        return np.block([[stiffness, constraints.T], [constraints, np.zeros((m, m))]])
    if family == "spd":
        matrix = sparse_normal(rng, n, n, 4)
        return matrix @ matrix.T + 10.0 ** rng.uniform(-10, 0) * np.eye(n)
    decades = rng.uniform(2, 12)
    eigenvalues = rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(-decades, 0, n)
    vectors = np.linalg.qr(rng.normal(size=(n, n)))[0]
    return (vectors * eigenvalues) @ vectors.T


def made_singular(rng: np.random.Generator, matrix: FloatArray, kind: MatrixKind) -> FloatArray:
    """One row a multiple of another; of symmetric matrices the column, too."""
    i, j = rng.choice(len(matrix), 2, replace=False)
    factor = rng.choice([1.0, 2.0, -0.5])
    matrix = matrix.copy()
    matrix[i] = factor * matrix[j]
    if kind != "general":
        matrix[:, i] = factor * matrix[:, j]
        matrix[i, i] = factor**2 * matrix[j, j]
    return matrix


def random_system(seed: int) -> System:
    """System of a number."""
    rng = np.random.default_rng([seed, 2026])
    family = FAMILIES[seed % len(FAMILIES)]
    n = int(rng.integers(5, 100))
    kinds: dict[str, MatrixKind] = {"general": "general", "spd": "spd"}
    kind = kinds.get(family, "symmetric")
    if family == "saddle point" and rng.random() < 0.4:
        kind = "general"
    matrix = base(rng, family, n)
    if rng.random() < 0.25:
        matrix = made_singular(rng, matrix, kind)
    rows = 10.0 ** rng.uniform(-6, 6, n)
    columns = 10.0 ** rng.uniform(-6, 6, n) if kind == "general" else rows
    if rng.random() < 0.7:  # without rounding, so that singular ones stay singular to the last digit
        rows, columns = (2.0 ** np.rint(np.log2(scale)) for scale in (rows, columns))
    matrix = matrix * rows[:, None] * columns
    if kind != "general":
        matrix = np.triu(matrix) + np.triu(matrix, 1).T
    by_row, by_column, condition = even(matrix)
    return System(f"{seed} ({family}, {kind}, n = {n})", kind, matrix, by_row, by_column, condition)


def even(matrix: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Scales that make row and column sums nearly equal, and the condition number of what is left."""
    rows, columns = np.ones(len(matrix)), np.ones(len(matrix))
    for _ in range(30):
        size = np.abs(matrix) / rows[:, None] / columns
        if not (size.any(axis=1).all() and size.any(axis=0).all()):
            return rows, columns, np.inf
        rows, columns = rows * np.sqrt(size.sum(axis=1)), columns * np.sqrt(size.sum(axis=0))
    rows, columns = (2.0 ** np.rint(np.log2(scale)) for scale in (rows, columns))  # dividing by them rounds nothing
    values = np.linalg.svd(matrix / rows[:, None] / columns, compute_uv=False)
    return rows, columns, float(values[0] / values[-1]) if values[-1] > 0.0 else np.inf


# ----------------------------------------------------------------------------------- higher precision
def split_product(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Products and their rounding errors (Dekker 1971)."""
    product = a * b
    parts = []
    for factor in (a, b):
        scaled = 134217729.0 * factor
        high = scaled - (scaled - factor)
        parts.append((high, factor - high))
    (a_high, a_low), (b_high, b_low) = parts
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def exact_solution(matrix: FloatArray, b: FloatArray) -> FloatArray:
    """Solution of the system as it stands, by refinement with exactly rounded residuals; scaled matrices only."""
    inverse = np.linalg.inv(matrix)
    high, low = np.zeros(len(b)), np.zeros(len(b))
    for _ in range(100):
        parts = [part for x in (high, low) for part in split_product(matrix, x)]
        terms = np.concatenate([b[:, None], *(-part for part in parts)], axis=1)
        correction = inverse @ np.array([math.fsum(row) for row in terms])
        previous = high
        high = previous + (low + correction)
        low = (low + correction) - (high - previous)
        if np.abs(correction).max() <= 1e-18 * np.abs(high).max():
            return high
    raise AssertionError("the reference does not converge")


# --------------------------------------------------------------------------------------------- verdicts
def judge(solver: Solver, system: System) -> Outcome:
    """Solve with the matrix and its transpose, and compare."""
    pattern, values = handed_over(sp.csr_array(system.matrix), system.kind)
    rng = np.random.default_rng(len(values))
    errors, bounds = [], []
    try:
        factor = solver.analyse(pattern, system.kind).factor(values)
        for side, matrix, rows, columns in (
            (factor, system.matrix, system.rows, system.columns),
            (factor.T, system.matrix.T, system.columns, system.rows),
        ):
            b = matrix @ (rng.normal(size=len(matrix)) / columns)
            x = side.solve(b)
            if system.condition < REGULAR:
                right = exact_solution(matrix / rows[:, None] / columns, b / rows)
                errors.append(float(np.abs(x * columns - right).max() / np.abs(right).max()))
                bounds.append(side.statistics.forward_error)
    except SolverError as error:
        return Outcome("regular refused" if system.condition < REGULAR else "refused", str(error), (), ())
    if system.condition > SINGULAR:
        return Outcome("singular accepted", "", (), ())
    wrong = any(error > ERROR and (bound is None or error > bound) for error, bound in zip(errors, bounds, strict=True))
    return Outcome("wrong" if wrong else "right", "", tuple(errors), tuple(bounds))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="how many systems (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (default: 0)")
    parser.add_argument("--solvers", nargs="+", default=["pardiso", "superlu"])
    options = parser.parse_args(arguments)
    failed = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        for name in options.solvers:
            solver = get_solver(name, threads=1)
            tally: Counter[str] = Counter()
            worst = 0.0
            for seed in range(options.first, options.first + options.count):
                system = random_system(seed)
                outcome = judge(solver, system)
                tally[outcome.verdict] += 1
                worst = max(worst, *outcome.errors, 0.0)
                if outcome.verdict in ("wrong", "regular refused", "singular accepted"):
                    failed += 1
                    print(f"{system.name}, condition {system.condition:.1e}: {outcome}")
            print(f"{name}: {dict(tally)}, largest error of a regular system {worst:.1e}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
