"""What adaptors and optimisers take beside solving, as a part of it, in one process.

    python bench/adaptors.py --case sq100 --designs 20

A cantilever of equal volume in a free-form box, quadrilaterals in the plane (``sq100``: 10 201 nodes). Of each
optimiser that is installed one line of JSON: designs, seconds for a design (solution and gradients), and the part of it
that goes by outside of that: adaptor and optimiser together, and of these what the adaptor takes. JAX, PyTorch and
OpenMDAO are called with their derivatives at as many designs; that of JAX includes what it compiles.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import skfem

import femadj as fa
from femadj.optimisation.asking import Asked
from femadj.optimisation.designs import Designs

LOWER, UPPER = -0.3, 0.3
"""Bounds of the control points, in heights of the cantilever."""


class Watch:
    """Seconds within some methods, not counting those that they call each other with."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    @contextmanager
    def within(self, owner: type, names: tuple[str, ...]) -> Iterator[None]:
        """Watch methods of a class."""
        kept = {name: getattr(owner, name) for name in names}
        for name, method in kept.items():
            setattr(owner, name, self._watched(method))
        try:
            yield
        finally:
            for name, method in kept.items():
                setattr(owner, name, method)

    def _watched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._depth += 1
            start = perf_counter()
            try:
                return method(*arguments)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += perf_counter() - start

        return call


def cantilever(n: int) -> fa.Reduced:
    """The problem on ``n x n`` cells."""
    line = np.linspace(0, 1, n + 1)
    sides = {"left": lambda x: x[0] < 1e-9, "right": lambda x: x[0] > 2 - 1e-9}
    mesh = fa.Mesh.from_skfem(skfem.MeshQuad.init_tensor(2 * line, line)).with_groups(facet_groups=sides)
    loads = [fa.Traction("right", (0.0, -1.0))]
    problem = fa.LinearStatic(mesh, fa.Elasticity(10.0, 0.3), [fa.Fixed("left")], loads)
    box = fa.FreeFormBox(mesh, (5, 3), components="y", held=("x+",), bounds=(LOWER, UPPER))
    return fa.Reduced(problem, box, fa.Compliance(), [fa.AtMost(fa.Volume(), 2.0)])


def optimisers(designs: int) -> dict[str, Callable[[fa.Reduced], Any]]:
    """Whatever can be run here, by its name."""
    chosen: dict[str, Callable[[fa.Reduced], Any]] = {
        "SciPy SLSQP": lambda run: fa.minimise_scipy(run, max_designs=designs),
        "SciPy trust-constr": lambda run: fa.minimise_scipy(run, "trust-constr", max_designs=designs),
        "NLopt MMA": lambda run: fa.minimise_nlopt(run, max_designs=designs),
        "NLopt CCSAQ": lambda run: fa.minimise_nlopt(run, "CCSAQ", max_designs=designs),
        "NLopt SLSQP": lambda run: fa.minimise_nlopt(run, "SLSQP", max_designs=designs),
        "Ipopt": lambda run: fa.minimise_ipopt(run, max_designs=designs),
        "OpenMDAO": lambda run: _openmdao(run, designs),
        "JAX": lambda run: _jax(run, designs),
        "PyTorch": lambda run: _torch(run, designs),
    }
    return chosen


def _variables(run: fa.Reduced, designs: int) -> Iterator[Any]:
    rng = np.random.default_rng(1)
    for _ in range(designs):
        yield rng.uniform(-0.1, 0.1, run.n)


def _openmdao(run: fa.Reduced, designs: int) -> None:
    component = fa.openmdao_component(run)
    import openmdao.api as om

    problem = om.Problem(reports=False)
    problem.model.add_subsystem("shape", component, promotes=["*"])
    problem.setup()
    for q in _variables(run, designs):
        problem.set_val("variables", q)
        problem.run_model()
        problem.compute_totals(of=["Compliance", "Volume"], wrt=["variables"])


def _jax(run: fa.Reduced, designs: int) -> None:
    f = fa.jax_function(run)
    import jax

    jax.config.update("jax_enable_x64", True)
    gradient = jax.jit(jax.value_and_grad(lambda q: f(q).sum()))
    gradient(np.zeros(run.n))
    for q in _variables(run, designs):
        jax.block_until_ready(gradient(q))


def _torch(run: fa.Reduced, designs: int) -> None:
    f = fa.torch_function(run)
    import torch

    for q in _variables(run, designs):
        f(torch.tensor(q, requires_grad=True)).sum().backward()


def measure(name: str, optimise: Callable[[fa.Reduced], Any], n: int) -> dict[str, Any] | None:
    """Run one optimiser; None where it is not installed."""
    try:
        optimise(cantilever(4))  # what is imported and compiled once
    except fa.MissingExtraError:
        return None
    run, solving, adaptor = cantilever(n), Watch(), Watch()
    run.gradient(run.start)  # kernels, analysis
    asked = ("at", "value", "gradient", "constraint_values", "jacobian", "wall")
    before = len(run.history)
    start = perf_counter()
    with solving.within(Designs, ("new", "slopes")), adaptor.within(Asked, asked):
        optimise(run)
    seconds, designs = perf_counter() - start, len(run.history) - before
    beside = seconds - solving.seconds
    line: dict[str, Any] = {
        "optimiser": name,
        "nodes": run.problem.mesh.n_nodes,
        "designs": designs,
        "seconds for a design": round(solving.seconds / designs, 4),
        "beside/design": round(beside / solving.seconds, 4),
    }
    if adaptor.seconds:
        line["adaptor/design"] = round((adaptor.seconds - solving.seconds) / solving.seconds, 4)
    return line


def main() -> int:
    """Measure what is installed and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="sq100", help="sq and the number of cells along an edge")
    parser.add_argument("--designs", type=int, default=20)
    arguments = parser.parse_args()
    n = int(arguments.case.removeprefix("sq"))
    for name, optimise in optimisers(arguments.designs).items():
        line = measure(name, optimise, n)
        print(json.dumps(line) if line else f"{name} is not installed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
