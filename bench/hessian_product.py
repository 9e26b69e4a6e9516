"""What a product with a Hessian costs, relative to a factorisation, in one process.

    python bench/hessian_product.py --cases box20 sq512

The cases are those of ``design_iteration.py``, the response is the integral of |u|^2 and the direction moves all nodes.
For every case one line of JSON: seconds of a factorisation and of a product, each the median of ``--repeat``, their
ratio, and seconds of the first product, which compiles kernels of complex numbers where they are not on disk and
compares itself with differences. Factorisations that products made are counted, and are none.
"""

from __future__ import annotations

import argparse
import json
import statistics
from time import perf_counter
from typing import Any

import numpy as np
from common import MOVE, case_name, kind_and_size, mesh_of, problem

import femadj as fa
from femadj.progress import Phases


def measure(name: str, repeat: int) -> dict[str, Any]:
    """Run one case."""
    _, n = kind_and_size(name)
    mesh = mesh_of(name)
    phases, rng = Phases(), np.random.default_rng(1)
    built = problem(mesh, None, phases)
    factorisations, products = [], []
    for design in range(repeat + 1):
        before = phases.seconds.get("factorise", 0.0)
        solution = built.solve(mesh.points + rng.uniform(-MOVE, MOVE, mesh.points.shape) / n)
        if design:
            factorisations.append(phases.seconds["factorise"] - before)
    hessian, counted = fa.hessian(solution, fa.FieldNorm()), built.counts.factorisations
    for product in range(repeat + 1):
        direction = rng.uniform(-1.0, 1.0, mesh.points.shape) / n
        start = perf_counter()
        hessian @ direction
        seconds = perf_counter() - start
        if product:
            products.append(seconds)
        else:
            first = seconds
    factorisation, product_seconds = statistics.median(factorisations), statistics.median(products)
    return {
        "case": name,
        "unknowns": built.n_unknowns,
        "factorisation": round(factorisation, 4),
        "product": round(product_seconds, 4),
        "product/factorisation": round(product_seconds / factorisation, 3),
        "first product": round(first, 3),
        "factorisations": built.counts.factorisations - counted,
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=case_name, default=("box20",), metavar="CASE")
    parser.add_argument("--repeat", type=int, default=3, metavar="K", help="designs and products after the first")
    options = parser.parse_args()
    for name in options.cases:
        print(json.dumps(measure(name, options.repeat)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
