"""What a factorisation costs where there is no MKL: SuperLU by minimum degree, by METIS, and in single precision.

The matrices are those of ``design_iteration.py``. Seconds are those of the processor; all run in one thread.
Every way prints one line of JSON:

    python bench/without_mkl.py --cases box12 box20 sq512

    analysis      order and structure, once for each topology
    factor        one factorisation with its checks
    solve         one right-hand side
    fill          stored entries of the factor
    mb            memory of the factor as the solver counts it

PARDISO, where it is there, keeps one triangle of its factor, SuperLU both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from time import process_time
from typing import Any

import numpy as np
from common import MOVE, case_name, kind_and_size, mesh_of, problem

import femadj as fa
from femadj.algebra.residual import State
from femadj.base.design import Design
from femadj.progress import Phases
from femadj.solvers import SuperLUSolver
from femadj.solvers.base import Solver
from femadj.solvers.matrix import UNIT_ROUNDOFF, Matrix, Structure
from femadj.solvers.superlu_single import SinglePrecisionSuperLU


def solvers() -> Iterator[tuple[str, Solver]]:
    """Ways to factorise in double precision, by name."""
    if "pardiso" in fa.available_solvers():
        yield "PARDISO, one thread", fa.get_solver("pardiso", threads=1)
    by_metis, by_degree = SuperLUSolver(), SuperLUSolver()
    by_degree.order = None
    yield "SuperLU, minimum degree", by_degree
    if by_metis.order is not None:
        yield "SuperLU, METIS", by_metis


def measure(name: str) -> Iterator[dict[str, Any]]:
    """All ways on the matrix of one case."""
    _, n = kind_and_size(name)
    mesh = mesh_of(name)
    built = problem(mesh, 1, Phases())
    moved = mesh.points + np.random.default_rng(1).uniform(-MOVE, MOVE, mesh.points.shape) / n
    at = built.residual.at(Design(points=moved))
    pattern, values, unknowns = at.structure, at.jacobian(State(at.lifting)).values, built._unknowns
    b = np.ones((pattern.n, 1))
    for way, solver in solvers():
        start = process_time()
        symbolic = solver.analyse(pattern, "spd", unknowns=unknowns)
        analysed = process_time()
        factor = symbolic.factor(values)
        factorised = process_time()
        factor.solve(b)
        solved = process_time()
        found = factor.statistics
        yield line(name, way, start, analysed, factorised, solved, found.fill_nnz, found.factor_bytes)
        factor.close()
    structure = Structure(pattern, "spd", unknowns)
    start = process_time()
    single = SinglePrecisionSuperLU(structure)
    analysed = process_time()
    preconditioner = single.make(Matrix(structure, values, UNIT_ROUNDOFF))
    factorised = process_time()
    preconditioner.apply(b, transposed=False)
    solved = process_time()
    yield line(name, "the same, single precision", start, analysed, factorised, solved, None, preconditioner.nbytes)


def line(name: str, way: str, start: float, analysed: float, factorised: float, solved: float,
         fill: int | None, nbytes: int | None) -> dict[str, Any]:  # fmt: skip
    """One line of the table."""
    return {
        "case": name,
        "way": way,
        "analysis": round(analysed - start, 3),
        "factor": round(factorised - analysed, 3),
        "solve": round(solved - factorised, 3),
        "fill": fill,
        "mb": None if nbytes is None else round(nbytes / 1e6),
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=case_name, default=("box12", "box20", "sq512"), metavar="CASE",
                        help="boxN or sqN; box12 box20 sq512 when left out")  # fmt: skip
    cases = parser.parse_args().cases
    for _ in measure("box4"):
        pass  # compiles kernels
    for name in cases:
        for found in measure(name):
            print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
