"""How often a design calls users' functions: no more than values, one check, and derivatives ask for.

Counted are calls at all points; what is looked at besides are some dozens of points, whatever the size of the mesh.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import skfem
from skfem.helpers import dot, grad

import femadj as fa

MESH = fa.Mesh.from_skfem(skfem.MeshTri().refined(4)).with_groups(facet_groups={"left": lambda x: x[0] < 1e-9})


def designs(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [MESH.points + rng.uniform(-0.01, 0.01, MESH.points.shape) for _ in range(n)]


def test_a_form_is_evaluated_once_for_each_coefficient_and_each_coordinate() -> None:
    calls: Counter[str] = Counter()

    def reaction(u: Any, v: Any, w: Any) -> Any:
        of_mesh = np.shape(w.x)[-2] == MESH.n_cells
        calls["all" if of_mesh else "few"] += 1
        return (1 + w.x[0] ** 2) * dot(grad(u), grad(v)) + np.exp(-w.x[1]) * u * v

    problem = fa.LinearStatic(MESH, fa.Form(reaction), [fa.Fixed("left")], [fa.Source(1.0)])
    few = []
    for points in designs(2):
        calls.clear()
        solution = problem.solve(points)
        assert calls["all"] == 2 + 1  # its two coefficients, and once to see that there is no third
        fa.value_and_gradient(solution, fa.FieldNorm())
        assert calls["all"] == 3 + MESH.dim  # the coefficients were kept; derivatives by both coordinates
        fa.values_and_gradients(solution, [fa.Compliance(), fa.FieldNorm()])
        assert calls["all"] == 3 + 3 * MESH.dim  # for each adjoint state
        few.append(calls["few"])
    assert few[0] == few[1] < 60


def test_a_constant_form_is_evaluated_at_few_points() -> None:
    sizes = []

    def poisson(u: Any, v: Any, w: Any) -> Any:
        sizes.append(np.size(grad(u)[0]))
        return dot(grad(u), grad(v))

    problem = fa.LinearStatic(MESH, fa.Form(poisson), [fa.Fixed("left")], [fa.Source(1.0)])
    sizes.clear()
    fa.value_and_gradient(problem.solve(designs(1)[0]), fa.FieldNorm())
    assert max(sizes) < MESH.n_cells / 2
    assert len(sizes) < 30


def test_jax_compiles_once_for_all_designs() -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'femadj[jax]'")
    import jax.numpy as jnp

    traced, called = [], []

    def density(w: Any) -> Any:
        (traced if isinstance(w.x[0], jax.core.Tracer) else called).append("functional")
        return w.u**2 * jnp.exp(w.x[0])

    def stored(u: Any, w: Any) -> Any:
        (traced if isinstance(w.x[0], jax.core.Tracer) else called).append("energy")
        return 0.5 * (1 + w.x[0] ** 2) * (u.grad[0] ** 2 + u.grad[1] ** 2) + u**4

    response = fa.Functional(density, differentiation="jax")
    problem = fa.NonlinearStatic(MESH, fa.NonlinearForm.energy(stored), [fa.Fixed("left")], [fa.Source(1.0)])
    first, *others = designs(4)
    fa.value_and_gradient(problem.solve(first), response)
    known = Counter(traced)
    assert known["functional"] > 0 < known["energy"]
    for points in others:
        fa.value_and_gradient(problem.solve(points), response)
    assert Counter(traced) == known
