"""What ``verify`` catches and what it accepts: right and wrong gradients on meshes that are hard to difference.

Every combination of a problem and a fault runs with many seeds, each with a mesh, directions and a fault of its own,
and prints one line of JSON.

    python bench/verify_power.py --seeds 100

Fields:

    problem, fault            ``none``: the gradient is right
    seeds, passed             how many there were, and in how many ``verify`` said ok
    solves                    problems solved for one verification, on average
    resolution                largest uncertainty of a difference along a direction, relative to the gradient's products
    missed                    seeds that went wrong: a fault that was accepted, or a right gradient that was not
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import skfem

import femadj as fa

FloatArray = npt.NDArray[np.float64]
Spoil = Callable[[fa.Solution, fa.Partials, fa.Gradient], fa.Partials]
QUADRATIC: Mapping[str, tuple[str, int]] = MappingProxyType({"triangle": ("triangle6", 3), "quad": ("quad8", 4)})


@dataclass(frozen=True)
class Spoilt:
    """A response whose partial derivatives have been tampered with, by what its gradient would be."""

    response: Any
    spoil: Spoil

    def value(self, solution: fa.Solution) -> float:
        """Its value, which is right."""
        return float(self.response.value(solution))

    def partials(self, solution: fa.Solution) -> fa.Partials:
        """Value and wrong partial derivatives."""
        gradient = fa.value_and_gradient(solution, self.response)[1]
        return self.spoil(solution, self.response.partials(solution), gradient)


# ---------------------------------------------------------------------- problems
def grid(
    n: int, m: int, lengths: tuple[float, float], cell: str, rng: np.random.Generator, bend: float = 0.0
) -> fa.Mesh:
    """An ``n`` x ``m`` rectangle with nodes that have been moved by up to a tenth of a cell; edges may be bent."""
    ticks = np.meshgrid(np.arange(n + 1), np.arange(m + 1), indexing="ij")
    points = np.stack(ticks, axis=-1).reshape(-1, 2).astype(float)
    points += rng.uniform(-0.1, 0.1, points.shape)
    index = np.arange(len(points)).reshape(n + 1, m + 1)
    a, b, c, d = (p.ravel() for p in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    cells = np.stack([a, b, c, d], axis=1)
    if cell == "triangle":
        cells = np.concatenate([cells[:, :3], cells[:, [0, 2, 3]]])
    name, k = cell, cells.shape[1]
    if bend:
        name, k = QUADRATIC[cell]
        edges = np.sort(np.stack([cells, np.roll(cells, -1, axis=1)], axis=2).reshape(-1, 2), axis=1)
        pairs, where = np.unique(edges, axis=0, return_inverse=True)
        middles = points[pairs].mean(axis=1) + rng.uniform(-bend, bend, (len(pairs), 2))
        cells = np.hstack([cells, len(points) + where.reshape(-1, k)])
        points = np.vstack([points, middles])
    held = np.flatnonzero(np.isin(np.arange(len(points)), index[0]))
    points = points * np.array(lengths) / (n, m)
    return fa.Mesh(points, {name: cells}, node_groups={"held": held, "tip": index[-1, -1:]})


def sheet(rng: np.random.Generator) -> fa.Mesh:
    """One layer of bricks, 5 x 1 x 0.01."""
    ticks = np.meshgrid(np.arange(6), np.arange(2), np.arange(2), indexing="ij")
    points = np.stack(ticks, axis=-1).reshape(-1, 3).astype(float)
    points += rng.uniform(-0.1, 0.1, points.shape)
    i = np.arange(len(points)).reshape(6, 2, 2)
    corners = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
    cells = np.stack([i[a : a + 5, b, c] for a, b, c in corners], axis=1)
    groups = {"held": i[0].ravel(), "tip": i[-1, -1, -1:]}
    return fa.Mesh(points * (1, 1, 0.01), {"hexahedron": cells}, node_groups=groups)


def plate(rng: np.random.Generator, thickness: float) -> fa.Mesh:
    """One layer of quadratic bricks, 10 x 1, bent within its plane; its fibres tilt when a node moves along it."""
    ticks = (np.linspace(0, 10, 6), np.linspace(0, 1, 2), np.linspace(0, thickness, 2))
    full = fa.Mesh.from_skfem(skfem.MeshHex2.from_mesh(skfem.MeshHex.init_tensor(*ticks)))
    cells = full.blocks[0].nodes[:, :20]
    used, inverse = np.unique(cells, return_inverse=True)
    points = full.points[used] + rng.uniform(-0.02, 0.02, (len(used), 3)) * (1, 1, thickness)
    held = np.flatnonzero(full.points[used, 0] < 1e-9)
    far = np.flatnonzero((full.points[used] > np.array([10, 1, thickness]) - 1e-9).all(axis=1))
    groups = {"held": held, "tip": far}
    return fa.Mesh(points, {"hexahedron20": inverse.reshape(cells.shape)}, node_groups=groups)


def collapsed(rng: np.random.Generator) -> fa.Mesh:
    """Quadrilaterals, of which one names a node twice."""
    points = np.array([[0, 1], [1, 1], [3, 1], [0, 0], [1, 0], [3, 0], [4, 0.5]]) + rng.uniform(-0.1, 0.1, (7, 2))
    cells = [[0, 1, 4, 3], [1, 2, 5, 4], [2, 5, 6, 6]]
    return fa.Mesh(points, {"quad": cells}, node_groups={"held": [0, 3], "tip": [6]})


def solid(mesh: fa.Mesh, stiffness: float = 1.0) -> fa.LinearStatic:
    """An elastic body under its weight and a force."""
    force = np.array([0.3, -1.0, 0.2])[: mesh.dim]
    supports, loads = [fa.Fixed("held")], [fa.BodyForce(force), fa.PointLoad("tip", force)]
    return fa.LinearStatic(mesh, fa.Elasticity(E=stiffness, nu=0.3), supports, loads, threads=1)


def steel(mesh: fa.Mesh) -> fa.LinearStatic:
    """A millimetre of steel in metres and pascals, some metres off the origin."""
    mesh = mesh.with_points(mesh.points + np.array([3.0, -2.0]))
    physics = fa.Elasticity(E=2.1e11, nu=0.3, plane="stress", thickness=1e-3)
    loads = [fa.BodyForce((0.0, -7.7e4)), fa.PointLoad("tip", (0.0, 1e3))]
    return fa.LinearStatic(mesh, physics, [fa.Fixed("held")], loads, threads=1)


DULL = ("thin plate",)
"""Problems with values of so few digits that small faults cannot show: for right gradients alone."""

PROBLEMS: Mapping[str, Callable[[np.random.Generator], tuple[Any, Any]]] = MappingProxyType(
    {
        "triangles": lambda rng: (solid(grid(5, 4, (1.0, 1.0), "triangle", rng)), fa.FieldNorm()),
        "thin sheet": lambda rng: (solid(sheet(rng), 7e10), fa.Compliance()),
        "needles": lambda rng: (solid(grid(5, 4, (1.0, 1e-4), "triangle", rng)), fa.Compliance()),
        "curved cells": lambda rng: (solid(grid(3, 2, (1.5, 1.0), "quad", rng, bend=0.1)), fa.FieldNorm()),
        "curved triangles": lambda rng: (solid(grid(3, 2, (1.5, 1.0), "triangle", rng, bend=0.08)), fa.Compliance()),
        "collapsed cell": lambda rng: (solid(collapsed(rng)), fa.Compliance()),
        "thin plate": lambda rng: (solid(plate(rng, 0.035)), fa.FieldNorm()),
        "mixed units": lambda rng: (steel(grid(4, 3, (0.05, 0.02), "quad", rng)), fa.FieldNorm()),
    }
)


# ---------------------------------------------------------------------- faults
def missing_term(rng: np.random.Generator) -> Spoil:
    """A term that is 1e-5 of the gradient, at random nodes, is missing."""

    def spoil(solution: fa.Solution, partials: fa.Partials, gradient: fa.Gradient) -> fa.Partials:
        term = gradient.points * rng.uniform(-1, 1, gradient.points.shape)
        term *= 1e-5 * np.linalg.norm(gradient.points) / np.linalg.norm(term)
        return replace_points(partials, -term)

    return spoil


def one_node(rng: np.random.Generator) -> Spoil:
    """The part of one node, any but the tenth with the smallest, is off by 1e-3."""

    def spoil(solution: fa.Solution, partials: fa.Partials, gradient: fa.Gradient) -> fa.Partials:
        parts = np.linalg.norm(gradient.points, axis=1)
        node = rng.choice(np.flatnonzero(parts >= np.quantile(parts, 0.1)))
        change = np.zeros_like(gradient.points)
        change[node] = 1e-3 * gradient.points[node]
        return replace_points(partials, change)

    return spoil


def replace_points(partials: fa.Partials, change: FloatArray) -> fa.Partials:
    """Partial derivatives with another part by the points."""
    return replace(partials, points=change if partials.points is None else partials.points + change)


def ignored_parameter(rng: np.random.Generator) -> Spoil:
    """The derivative by one parameter is left at zero."""

    def spoil(solution: fa.Solution, partials: fa.Partials, gradient: fa.Gradient) -> fa.Partials:
        known = [name for name, slopes in gradient.parameters.items() if np.any(slopes)]
        name = known[rng.integers(len(known))]
        wrong = partials.parameters.get(name, 0.0) - gradient.parameters[name]
        return replace(partials, parameters={**partials.parameters, name: wrong})

    return spoil


FAULTS: Mapping[str, Callable[[np.random.Generator], Spoil] | None] = MappingProxyType(
    {"none": None, "missing term": missing_term, "one node": one_node, "ignored parameter": ignored_parameter}
)


def outcome_of(problem: str, fault: str, seed: int) -> fa.Verification:
    """Verify one gradient."""
    rng = np.random.default_rng(seed)
    made, response = PROBLEMS[problem](rng)
    faulty = FAULTS[fault]
    if faulty is not None:
        response = Spoilt(response, faulty(rng))
    return fa.verify(made, response, seed=seed, show=False, check=False)


def line_of(problem: str, fault: str, seeds: range) -> dict[str, Any]:
    """What came of many seeds."""
    outcomes = [outcome_of(problem, fault, seed) for seed in seeds]
    return {
        "problem": problem,
        "fault": fault,
        "seeds": len(seeds),
        "passed": sum(o.passed for o in outcomes),
        "solves": round(float(np.mean([o.solves for o in outcomes])), 1),
        "resolution": float(f"{max(t.resolution for o in outcomes for t in o.taylor):.1e}"),
        "missed": [s for s, o in zip(seeds, outcomes, strict=True) if o.passed is not (fault == "none")],
    }


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=list(FAULTS))
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    for problem in arguments.problems:
        for fault in arguments.faults if problem not in DULL else {"none"} & {*arguments.faults}:
            print(json.dumps(line_of(problem, fault, seeds)), flush=True)


if __name__ == "__main__":
    main()
