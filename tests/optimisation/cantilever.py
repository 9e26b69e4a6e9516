"""A cantilever of equal volume in a free-form box, whose first step tangles with every optimiser, and its optimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

import femadj as fa
from femadj.base.arrays import FloatArray
from tests.meshes import box_mesh

FAR = 20.0
"""Bounds of the control points, many times the height of the cantilever."""
SCALE = 10.0


@cache
def mesh() -> fa.Mesh:
    return box_mesh("quad", (4, 4), lengths=(2.0, 1.0), distortion=0.05, origin=(0.7, 0.7), seed=1)


def problem() -> fa.LinearStatic:
    return fa.LinearStatic(mesh(), fa.Elasticity(10.0, 0.3), [fa.Fixed("left")], [fa.Traction("right", (0.0, -1.0))])


def box(held: tuple[str, ...] = ("x+",), far: float = FAR) -> fa.FreeFormBox:
    """Height of the cantilever, symmetric; with the loaded end as it is, or not."""
    y = mesh().points[:, 1]
    middle = {"y": float(y.min() + y.max()) / 2}
    return fa.FreeFormBox(mesh(), (4, 2), components="y", held=held, symmetry=middle, bounds=(-far, far))


@cache
def volume() -> float:
    return float(fa.value_and_gradient(problem().solve(), fa.Volume())[0])


def cantilever(
    parametrisation: Any = None, objective: Any = None, constraints: Any = None, scale: float = SCALE, **options: Any
) -> fa.Reduced:
    """Least compliance at no more than the volume at the start."""
    limits = [fa.AtMost(fa.Volume(), volume())] if constraints is None else constraints
    return fa.Reduced(
        problem(), parametrisation or box(), objective or fa.Compliance(), limits,
        scales=scale, quality_limit=-10.0, **options,
    )  # fmt: skip


def compliance(q: FloatArray) -> tuple[float, float]:
    """Compliance and volume, without anything that optimises."""
    try:
        solution = problem_once().solve(box().forward(q))
    except fa.TangledMeshError:
        return 1e3, 1e3
    return tuple(float(fa.value_and_gradient(solution, r)[0]) for r in (fa.Compliance(), fa.Volume()))  # type: ignore[return-value]


@cache
def problem_once() -> fa.LinearStatic:
    return problem()


@cache
def least() -> float:
    """The least compliance, by a method that knows no gradients: the volume is linear in the variables."""
    unit, zero = np.eye(3), compliance(np.zeros(3))[1]
    slope = np.array([compliance(0.1 * e)[1] - zero for e in unit]) / 0.1
    free = np.linalg.svd(slope[None, :])[2][1:]  # directions of equal volume
    found = minimize(lambda t: compliance(t @ free)[0], np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-5})
    return float(found.fun)


@dataclass(frozen=True)
class Both(fa.Compliance):
    """Compliance and volume, weighed: least at a finite size."""

    weight: float = 1.0

    def partials(self, solution: Any) -> Any:
        work, size = super().partials(solution), fa.Volume().partials(solution)
        return fa.Evaluation(
            work.value + self.weight * size.value,
            state=work.state,
            points=self.weight * size.points,
            external_weight=work.external_weight,
        )


def require_least(found: fa.Optimum, run: fa.Reduced, *, tangles: bool = True) -> None:
    """The optimum, after a first step that tangles, with one factorisation for each design that has an answer."""
    assert found.converged, found
    records = run.history.records
    assert isinstance(records[1].failure, fa.TangledMeshError) or not tangles
    assert abs(found.values[0] / least() - 1) < 1e-4
    assert found.values[1] <= volume() * (1 + 1e-6)
    assert found.final.violation < 1e-6
    assert found.imbalance < 1e-3 or np.isnan(found.imbalance)
    assert found.designs == len(records) == run.counts.designs
    answered = sum(each.failure is None for each in records)
    assert run.counts.factorisations == answered == sum(each.factorisations for each in records)
    assert run.counts.gradients <= answered
    np.testing.assert_array_equal(found.points, run.parametrisation.forward(found.variables))
    np.testing.assert_allclose(found.values, compliance(found.variables), rtol=1e-9)


class WantedError(Exception):
    """Raised where an optimiser calls."""


def require_errors_come_out(minimise: Callable[[fa.Reduced], fa.Optimum], after: int = 4) -> None:
    """What is raised at some design comes out as it is, interrupts too, with all designs in the history."""
    for error in (WantedError("here"), KeyboardInterrupt(), MemoryError()):

        def raise_it(design: fa.Evaluated, error: BaseException = error) -> None:
            if design.number == after:
                raise error

        run = cantilever(on_design=raise_it)
        with pytest.raises(type(error)) as found:
            minimise(run)
        assert found.value is error
        assert len(run.history) == after + 1
