"""Energies as weak forms: the same as the formulas of the built-in materials, and clear errors."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import skfem

import femadj as fa
from tests.meshes import box_mesh


@pytest.fixture(scope="module")
def xp() -> ModuleType:
    """``jax.numpy``."""
    pytest.importorskip("jax", reason="JAX is not installed: pip install 'femadj[jax]'")
    import jax.numpy as jnp

    return jnp


def mesh_of(cell: str = "quad") -> fa.Mesh:
    return box_mesh(cell, (2, 1), distortion=0.12, origin=(3.0, -2.0), seed=3)


def static(physics: Any, mesh: fa.Mesh, value: Any = None, **options: Any) -> fa.NonlinearStatic:
    loads = [fa.BodyForce((0.05, -0.12)), fa.Pressure("top", 0.1, follower=True)]
    return fa.NonlinearStatic(mesh, physics, [fa.Fixed("left")], loads, **options)


def test_an_energy_gives_what_the_formula_gives(xp: ModuleType) -> None:
    """Neo-Hooke: state, gradients by nodes and constants, and forward derivatives."""

    def density(u: Any, w: Any) -> Any:
        F = u.grad + xp.eye(2)[:, :, None, None]
        J = F[0, 0] * F[1, 1] - F[0, 1] * F[1, 0]
        return w.mu / 2 * ((F * F).sum(axis=(0, 1)) - 2) - w.mu * xp.log(J) + w.lame / 2 * xp.log(J) ** 2

    mesh = mesh_of()
    lame = fa.CellField(np.linspace(1, 2, mesh.n_cells))
    energy = fa.NonlinearForm.energy(
        fa.Integral(density, order=mesh.blocks[0].reference.stiffness_order), element="vector",
        parameters={"mu": 1.0, "lame": lame},
    )  # fmt: skip
    problems = [static(energy, mesh), static(fa.Hyperelastic(lame=lame, mu=1.0), mesh)]
    ours, formula = (problem.solve() for problem in problems)
    assert ours.u == pytest.approx(formula.u, rel=1e-11)
    (a, mine), (b, known) = (fa.value_and_gradient(s, fa.FieldNorm()) for s in (ours, formula))
    assert a == pytest.approx(b, rel=1e-11)
    assert mine.points == pytest.approx(known.points, abs=1e-11)
    for name in ("mu", "lame"):
        assert mine.parameters[name] == pytest.approx(known.parameters[name], abs=1e-11)
    direction = fa.Design(np.ones_like(mesh.points) * mesh.points[:, :1], {"mu": np.array(0.3)})
    (one,), (other,) = (s.pushforward([direction]) for s in (ours, formula))
    assert one == pytest.approx(other, abs=1e-11)
    assert "a Hessian by JAX" in energy.explain(mesh)


def test_energies_of_fields_position_and_other_elements(xp: ModuleType) -> None:
    """Against the weak form written by hand, on an element of its own and over a boundary."""

    def density(u: Any, w: Any) -> Any:
        return (1 + w.t * w.x[0] ** 2) * (u.grad**2).sum(axis=0) / 2 + (1 + w.t.grad[0] ** 2) * u**4 / 4

    def form(u: Any, v: Any, w: Any) -> Any:
        return (1 + w.t * w.x[0] ** 2) * (u.grad * v.grad).sum(axis=0) + (1 + w.t.grad[0] ** 2) * u**3 * v

    mesh = mesh_of("triangle")
    t = fa.NodalField(np.linspace(1, 2, mesh.n_nodes))
    options: Any = {"element": skfem.ElementTriP2(), "parameters": {"t": t}}

    def boundary(u: Any, w: Any) -> Any:
        return w.n[0] ** 2 * u**2 * w.h

    def boundary_form(u: Any, v: Any, w: Any) -> Any:
        return 2 * w.n[0] ** 2 * u * v * w.h

    def source(v: Any, w: Any) -> Any:
        return w.x[1] * v

    energy = fa.NonlinearForm.energy([density, fa.Integral(boundary, "top")], source, **options)
    weak = fa.NonlinearForm([form, fa.Integral(boundary_form, "top")], source, **options)
    mine, known = (fa.NonlinearStatic(mesh, p, [fa.Fixed("left", None, 0.3)]).solve() for p in (energy, weak))
    assert mine.u == pytest.approx(known.u, abs=1e-12)
    response = fa.Functional(lambda w: w.u**3)
    (_, a), (_, b) = (fa.value_and_gradient(s, response) for s in (mine, known))
    assert a.points == pytest.approx(b.points, abs=1e-11)
    assert a.parameters["t"] == pytest.approx(b.parameters["t"], abs=1e-11)


def test_energies_that_cannot_be_trusted_are_refused(xp: ModuleType) -> None:
    import jax

    def build(density: Any) -> fa.NonlinearSolution:
        physics = fa.NonlinearForm.energy(density)
        return fa.NonlinearStatic(mesh_of(), physics, [fa.Fixed("left")], [fa.Source(1.0)]).solve()

    def square(u: Any) -> Any:
        return (u.grad**2).sum(axis=0)

    with pytest.raises(fa.FormError, match="NumPy"):
        build(lambda u, w: np.sin(u) + square(u))
    with pytest.raises(fa.FormError, match="disagrees with differences"):
        build(lambda u, w: jax.lax.stop_gradient(u**2) + square(u))
    with pytest.raises(fa.FormError, match="mixes points"):
        build(lambda u, w: square(u) * (1 + xp.max(u.value)))
    with pytest.raises(fa.FormError, match="NaN"):
        build(lambda u, w: xp.log(-1 - square(u)))
    stiffness = [1.0]
    problem = fa.NonlinearStatic(
        mesh_of(), fa.NonlinearForm.energy(lambda u, w: stiffness[0] * square(u)), [fa.Fixed("left")], [fa.Source(1.0)]
    )
    before = problem.solve().u
    stiffness[0] = 2.0
    assert problem.solve().u == pytest.approx(before / 2, rel=1e-12)  # compiled anew


def test_without_jax_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(fa.MissingExtraError, match=r"femadj\[jax\]"):
        fa.NonlinearStatic(mesh_of(), fa.NonlinearForm.energy(lambda u, w: u**2), [fa.Fixed("left")])
