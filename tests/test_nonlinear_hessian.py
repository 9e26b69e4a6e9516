"""Second derivatives of nonlinear problems: against differences of gradients, symmetric, without a factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skfem.helpers import dot, grad

import femadj as fa
from tests.meshes import box_mesh

FORCE = (0.1, -0.2, 0.05)


def conduction(u: Any, v: Any, w: Any) -> Any:
    """Conductivity ``(1 + u^2) (2 + sin x)`` and a reaction."""
    return w.k * (1 + u**2) * (2 + np.sin(w.x[0])) * dot(grad(u), grad(v)) + u**3 * v


def problem_of(name: str) -> fa.NonlinearStatic:
    """A small problem on a distorted mesh away from the origin."""
    cell = "tetra" if name == "solid" else "quad"
    mesh = box_mesh(cell, distortion=0.15, origin=(3.0, -2.0, 1.0)[: 3 if cell == "tetra" else 2])
    held = [fa.Fixed("left")]
    if name == "conduction":
        physics = fa.NonlinearForm(conduction, lambda v, w: 3.0 * v * w.x[1], parameters={"k": 1.3})
        return fa.NonlinearStatic(mesh, physics, [fa.Fixed("left", None, lambda x: 0.1 * x[1])])
    if name == "follower":
        return fa.NonlinearStatic(
            mesh, fa.Hyperelastic(E=2.0, nu=0.3), held, [fa.Pressure("right", 0.2, follower=True)]
        )
    stored: Any = "St. Venant-Kirchhoff" if name == "plane" else "neo-Hooke"
    moved = fa.Fixed("right", "x", lambda x: 0.02 * x[1] ** 2)
    load = fa.Traction("top", FORCE[: mesh.dim])
    return fa.NonlinearStatic(mesh, fa.Hyperelastic(E=2.0, nu=0.3, stored=stored), [*held, moved], [load])


@pytest.mark.parametrize("name", ["plane", "solid", "follower", "conduction"])
def test_products_are_derivatives_of_gradients(name: str) -> None:
    problem = problem_of(name)
    solution, response = problem.solve(), fa.FieldNorm()
    points, rng = problem.mesh.points, np.random.default_rng(4)
    direction = {"points": rng.uniform(-1, 1, points.shape)}
    direction |= {key: 0.3 * np.asarray(problem.parameters.value(key)) for key in problem.parameters}
    before = problem.counts
    hessian = fa.hessian(solution, response)
    found = hessian @ direction
    other = {key: rng.uniform(-1, 1, array.shape) for key, array in found.items()}
    assert hessian.symmetry_error(direction, other) < 1e-10
    assert problem.counts == before

    def gradient(t: float) -> dict[str, np.ndarray]:
        values = {key: problem.parameters.value(key) + t * direction[key] for key in problem.parameters}
        there = problem.solve(points + t * direction["points"], values, start=solution)
        g = fa.value_and_gradient(there, response)[1]
        return {"points": g.points, **{key: np.asarray(g.parameters[key]) for key in problem.parameters}}

    h = 2e-4
    ends = [gradient(s * h) for s in (-2, -1, 1, 2)]
    for key, array in found.items():
        a, b, c, d = (end[key] for end in ends)
        difference = (a - 8 * b + 8 * c - d) / (12 * h)
        np.testing.assert_allclose(array, difference, rtol=0, atol=2e-8 * np.abs(difference).max())
