"""Residuals with time derivatives: matrices by rate, their sums with supports applied, products with derivatives."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from skfem.helpers import ddot, dot, grad

import femadj as fa
from femadj.algebra.residual import State, Weights
from femadj.base.design import Cotangent, Design
from femadj.physics.inertia import inertia_terms
from femadj.problems.fem import FemAtDesign, FemResidual
from tests.meshes import box_mesh

RNG = np.random.default_rng(8)
MATERIAL = fa.Elasticity(E=2.0, nu=0.3, density=1.7)
LEFT = "left"


@cache
def dynamic(cell: str) -> FemResidual:
    """Stiffness and mass of a supported, loaded body."""
    mesh = box_mesh(cell)
    static = fa.LinearStatic(mesh, MATERIAL, [fa.Fixed(LEFT)], [fa.Gravity((0.3, -1.0, 0.2)[: mesh.dim])])
    found = static.residual
    inertia = inertia_terms(found.space, MATERIAL, 2)
    return FemResidual(
        found.space, found.pattern, (*found.internal, *inertia), found.external, found.supports, found.constraints,
        found.parameters, found.kind, found.null_modes,
    )  # fmt: skip


def placed(cell: str) -> FemAtDesign:
    """At the coordinates of the mesh."""
    residual = dynamic(cell)
    return residual.at(Design(residual.space.mesh.points))


def state_of(at: FemAtDesign) -> State:
    """Some state with two rates, the first of which meets no term."""
    u, v, a = np.random.default_rng(1).standard_normal((3, 1, at.space.n_dofs))
    return State(u, (v, a))


@pytest.mark.parametrize("cell", ["quad", "tetra"])
def test_mass_of_a_uniform_acceleration_is_the_total_mass(cell: str) -> None:
    at = placed(cell)
    ones = np.ones((1, at.space.n_dofs))
    force = at.jvp(State(ones), ones, 2)
    volume = fa.Volume().value(fa.LinearStatic(at.space.mesh, MATERIAL, [fa.Fixed(LEFT)]).solve())
    assert force.sum() == pytest.approx(at.space.mesh.dim * 1.7 * volume, rel=1e-13)


@pytest.mark.parametrize("cell", ["quad", "tetra"])
def test_a_weighted_sum_is_the_matrix_assembled_at_once(cell: str) -> None:
    at = placed(cell)
    sum_ = at.combined((0.7, 0.0, 2.5))
    x = RNG.standard_normal(at.space.n_dofs)
    free = np.where(at.constraints.constrained, 0.0, x)
    expected = 0.7 * at.jvp(State(x[None]), free) + 2.5 * at.jvp(State(x[None]), free, 2)
    found = sum_.times(at.structure, at.constraints, free)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    assert (sum_.diagonal > 0).all()
    fixed = at.constraints.unknowns
    assert not at.combined((0.0, 0.0, 1.0), "zero").values[at.structure.diagonal(fixed)].any()


@pytest.mark.parametrize("cell", ["quad", "tetra"])
def test_products_with_derivatives_agree_with_differences(cell: str) -> None:
    residual, at = dynamic(cell), placed(cell)
    state, points = state_of(at), at.points
    rng = np.random.default_rng(2)
    velocity = rng.uniform(-1, 1, points.shape)
    lam = rng.standard_normal(state.u.shape)
    rates, _ = at.pushforward(state, [Design(velocity)])
    h = 1e-4
    ends = [residual.at(Design(points + s * h * velocity)).residual(state) for s in (-2, -1, 1, 2)]
    difference = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
    np.testing.assert_allclose(rates[0], difference, rtol=0, atol=1e-9 * np.abs(difference).max())
    into = Cotangent.zeros(Design(points, {"density": at.design.parameters["density"]}))
    at.pullback(state, [Weights(lam, lam)], [into])
    assert into.points is not None
    assert -np.vdot(into.points, velocity) == pytest.approx(np.vdot(lam, rates), rel=1e-12)
    heavier = [residual.at(Design(points, {"density": np.array(1.7 + s * h)})).residual(state) for s in (-1, 1)]
    slope = np.vdot(lam, heavier[1] - heavier[0]) / (2 * h)
    assert -into.parameters["density"] == pytest.approx(slope, rel=1e-9)


def test_a_form_with_a_rate_is_refused_where_there_is_no_time() -> None:
    mesh = box_mesh("quad")
    form = fa.Form(
        [lambda u, v, w: ddot(grad(u), grad(v)), fa.Integral(lambda u, v, w: 1.7 * dot(u, v), rate=2)],
        element="vector",
    )  # fmt: skip
    with pytest.raises(fa.ProblemError, match="time derivative"):
        fa.LinearStatic(mesh, form, [fa.Fixed(LEFT)])
    with pytest.raises(fa.FormError, match="0, 1 or 2"):
        fa.Integral(lambda u, v, w: u * v, rate=3)
    with pytest.raises(fa.FormError, match="bilinear forms have a rate"):
        fa.Form(lambda u, v, w: u * v, fa.Integral(lambda v, w: v, rate=1))
