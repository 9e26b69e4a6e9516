"""A small problem that is optimised in tests, on a distorted mesh away from the origin, with all nodes moving."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import femadj as fa
from femadj.base.arrays import FloatArray
from tests.meshes import box_mesh

N = 4

LIMIT = 1.02


@cache
def mesh() -> fa.Mesh:
    return box_mesh("quad", (4, 3), distortion=0.1, origin=(3.0, -2.0), seed=3)


def plate(**options: Any) -> fa.LinearStatic:
    loads = [fa.Traction("right", (0.3, -1.0)), fa.Pressure("top", 0.2)]
    return fa.LinearStatic(mesh(), fa.Elasticity(20.0, 0.3), [fa.Fixed("left")], loads, **options)


def directions(size: float = 0.05) -> FloatArray:
    return np.random.default_rng(5).uniform(-size, size, (*mesh().points.shape, N))


class Bent(fa.Placed):
    """``X = S + B q + C (q, q) / 2``."""

    def __init__(self, points: FloatArray, first: FloatArray, second: FloatArray) -> None:
        self.points, self.first, self.second = points, first, second

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (N,)

    def pull(self, gradient: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.tensordot(gradient, self.first, 2), gradient

    def push(self, direction: FloatArray, origin: FloatArray | None) -> FloatArray:
        return self.first @ direction if origin is None else origin + self.first @ direction

    def bend(
        self, gradient: FloatArray, direction: FloatArray, origin: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        return np.tensordot(gradient, self.second @ direction, 2), np.zeros_like(gradient)


class Curved(fa.Parametrisation):
    """All nodes move, along parabolas."""

    linear = False
    shifts = True

    def __init__(self) -> None:
        self.points, self.B = mesh().points, directions()
        C = np.random.default_rng(6).uniform(-0.008, 0.008, (*self.points.shape, N, N))
        self.C = C + C.swapaxes(2, 3)

    @property
    def n(self) -> int:
        return N

    def place(self, q: FloatArray, origin: FloatArray | None) -> Bent:
        start = self.points if origin is None else origin
        return Bent(start + self.B @ q + self.C @ q @ q / 2, self.B + self.C @ q, self.C)


def straight() -> fa.Directions:
    return fa.Directions(mesh(), directions(), bounds=(-1.5, 1.5))


def descend(run: fa.Reduced, steps: int = 5) -> FloatArray:
    """Steepest descent that begins with a step that tangles, and halves it until the value falls; its last design."""
    z, value, step = run.start, run.value(run.start), 1e3
    for _ in range(steps):
        slope = run.gradient(z)
        while not run.value(z - step * slope) < value:
            step /= 4
        z, step = z - step * slope, 2 * step
        value = run.value(z)
    return z


def responses() -> tuple[Any, list[fa.Constraint]]:
    return fa.Compliance(), [fa.AtMost(fa.Volume(), LIMIT), fa.AtLeast(fa.Displacement("opposite", "y"), -0.5)]


def reduced(parametrisation: Any = None, **options: Any) -> fa.Reduced:
    """Compliance under a limit of the area and of a displacement."""
    limits = [fa.AtMost(fa.Volume(), LIMIT, name="area"), fa.AtLeast(fa.Displacement("opposite", "y"), -0.5)]
    problem = plate(solver=options.pop("solver", "auto"))
    return fa.Reduced(problem, parametrisation or straight(), fa.Compliance(), limits, **options)
