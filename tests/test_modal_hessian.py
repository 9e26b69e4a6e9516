"""Second derivatives of eigenvalues: against differences of gradients, closed forms, clusters, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import skfem
from skfem.helpers import dot, grad

import femadj as fa
from femadj.algebra import turning
from femadj.algebra.spectral import Spectral
from tests.meshes import box_mesh, dim_of

Problem = fa.Modal | fa.Buckling

STENCIL = ((1, 8.0), (2, -1.0))
"""Of a fourth-order difference, over 12 steps."""

RESPONSES: tuple[Any, ...] = (
    fa.Eigenvalue(0),
    fa.Frequency(1),
    fa.MeanEigenvalue([0, 2]),
    fa.KSEigenvalue([0, 1, 2], rho=0.3),
)


class Shaped:
    """An eigenvalue times a function of two eigenvectors and of the nodes, with a slope that is zero here."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def evaluate(self, solution: Any) -> fa.ModePartials:
        lam, x, (first, _, last) = solution.values[1], solution.points, solution.vectors
        gap = last[2] - self.target
        one = (first**2).sum() * x[0, 0]
        slopes, by_first, by_last = (np.zeros_like(each) for each in (solution.values, first, first))
        slopes[1], by_first[...], by_last[2] = one, 2 * lam * x[0, 0] * first, 2 * gap
        points = np.zeros_like(x)
        points[0, 0] = lam * (first**2).sum()
        return fa.ModePartials(
            lam * one + (gap**2).sum(), points=points, values=slopes, vectors={0: by_first, 2: by_last}
        )


SHAPES: tuple[Any, ...] = (
    fa.ModeShape(0, fa.Displacement("right", "y", reduce="squared_norm")),
    fa.ModeShape(2, fa.FieldNorm("low")),
    fa.ModeShape(1, fa.Functional(lambda w: np.exp(w.u[0]) * w.u.grad[1, 1] ** 2 + w.x[0] * w.u[1])),
)


@cache
def modal(name: str) -> fa.Modal:
    """A small problem on a distorted mesh away from the origin."""
    if name == "square":  # two pairs of eigenvalues that coincide, of which the first is complete
        return fa.Modal(box_mesh("quad", (5, 5)), fa.Diffusion(density=1.0), [fa.Fixed("boundary")], count=3)
    cell = {"solid": "tetra", "form": "triangle"}.get(name, "quad")
    dim = dim_of(cell)
    mesh = box_mesh(cell, (2, 2, 1)[:dim], distortion=0.12, origin=(3.0, -2.0, 1.0)[:dim])
    if name == "form":
        mass = fa.Integral(lambda u, v, w: w.m * (1 + w.x[0] ** 2) * u * v, rate=2)
        form = fa.Form([lambda u, v, w: 2 * dot(grad(u), grad(v)), mass], element=skfem.ElementTriP2(),
                       parameters={"m": 1.3})  # fmt: skip
        return fa.Modal(mesh, form, [fa.Fixed("left")], count=3)
    material = fa.Elasticity(E=10.0, nu=0.3, density=1.3)
    if name == "floating":
        return fa.Modal(mesh, material, count=5, shift=-20.0)
    return fa.Modal(mesh, material, [fa.Fixed("left")], count=3)


@cache
def buckling(cell: str) -> fa.Buckling:
    """Pushed by loads and by supports that move; constants by cell group."""
    dim = dim_of(cell)
    counts, sizes, origin = (3, 1, 1)[:dim], (3.0, 0.8, 0.6)[:dim], (3.0, -2.0, 1.0)[:dim]
    mesh = box_mesh(cell, counts, lengths=sizes, distortion=0.1, origin=origin)
    push = fa.Fixed("right", "x", value=lambda x: -0.3 - 0.02 * x[1] ** 2)
    loads = [fa.BodyForce((0.5, -2.0, 1.0)[:dim]), fa.Pressure("top", lambda x: 0.5 + 0.1 * x[0])]
    material = fa.Elasticity(E={"low": 10.0, "high": 8.0}, nu=0.3)
    return fa.Buckling(fa.LinearStatic(mesh, material, [fa.Fixed("left"), push], loads), count=2)


def direction_of(problem: Problem, seed: int) -> dict[str, Any]:
    """A random direction of all nodes and of all parameters."""
    rng = np.random.default_rng(seed)
    along = {"points": 0.1 * rng.uniform(-1, 1, problem.mesh.points.shape)}
    for name in problem.parameters:
        values = problem.parameters.value(name)
        along[name] = 0.2 * rng.uniform(-1, 1, values.shape) * values
    return along


def moved(problem: Problem, along: dict[str, Any], t: float) -> Any:
    """The modes of a design further along a direction."""
    values = {name: problem.parameters.value(name) + t * along[name] for name in problem.parameters}
    return problem.solve(problem.mesh.points + t * along["points"], values)


def check(problem: Problem, responses: Sequence[Any], step: float = 5e-4) -> None:
    """Products of all responses: equal to differences of gradients, symmetric, without a factorisation."""
    solution, along, other = problem.solve(), direction_of(problem, 5), direction_of(problem, 6)
    before = problem.counts
    hessians = [fa.hessian(solution, response) for response in responses]
    products = [hessian @ along for hessian in hessians]
    for response, hessian, product in zip(responses, hessians, products, strict=True):
        across = hessian @ other
        terms = [np.vdot(other[name], product[name]) for name in along]
        terms += [-np.vdot(along[name], across[name]) for name in along]
        assert abs(sum(terms)) < 1e-12 * np.abs(terms).sum(), response
    assert problem.counts == before
    sums = [dict.fromkeys(along, 0.0) for _ in responses]
    for k, weight in STENCIL:
        for sign in (1, -1):
            _, gradients = fa.values_and_gradients(moved(problem, along, sign * k * step), responses)
            for total, gradient in zip(sums, gradients, strict=True):
                for name in along:
                    slope = gradient.points if name == "points" else gradient.parameters[name]
                    total[name] = total[name] + sign * weight / (12 * step) * slope
    for response, hessian, product, total in zip(responses, hessians, products, sums, strict=True):
        for name, found in product.items():
            size = max(np.abs(total[name]).max(), abs(hessian.value))  # modes do not depend on the thickness
            np.testing.assert_allclose(found, total[name], rtol=0, atol=2e-9 * size, err_msg=f"{response} {name}")


# ------------------------------------------------------------------ exactness
@pytest.mark.parametrize("name", ["plane", "solid", "form"])
def test_products_are_derivatives_of_gradients(name: str) -> None:
    problem = modal(name)
    if name == "form":
        shapes: tuple[Any, ...] = (fa.ModeShape(1, fa.Functional(lambda w: w.x[0] * w.u**4)),)
    else:
        shapes = (*SHAPES, Shaped(problem.solve().vectors[2][2]))
    check(problem, (*RESPONSES, *shapes))


@pytest.mark.parametrize("cell", ["quad", "tetra"])
def test_buckling(cell: str) -> None:
    """Through the stress: the rates of the static solution and of its adjoint state, with names that both share."""
    problem = buckling(cell)
    solution = problem.solve()
    shape = fa.ModeShape(0, fa.FieldNorm("low"))
    hessian, (_, gradient) = fa.hessian(solution, shape), fa.value_and_gradient(solution, shape)
    np.testing.assert_allclose(hessian.gradient["points"], gradient.points, rtol=0, atol=1e-13)
    assert set(hessian.gradient) == {"points", *problem.parameters}
    check(problem, [fa.KSEigenvalue([0, 1], rho=0.3), shape])


def test_factors_of_a_load() -> None:
    """Under given forces the factor goes with the thickness and with the material, so that its second rates vanish."""
    mesh = box_mesh("quad", (3, 1), lengths=(3.0, 0.8), distortion=0.1, origin=(3.0, -2.0))
    static = fa.LinearStatic(mesh, fa.Elasticity(E=5.0, nu=0.3), [fa.Fixed("left")], [fa.TotalForce("right", (-1, 0))])
    hessian = fa.hessian(fa.Buckling(static).solve(), fa.Eigenvalue(0))
    by_both = hessian @ {"E": 1.0, "thickness": 0.0, "points": np.zeros_like(mesh.points)}
    assert abs(by_both["E"]) < 1e-12 * hessian.value
    assert by_both["thickness"] == pytest.approx(hessian.value / 5.0, rel=1e-11)
    np.testing.assert_allclose(by_both["points"], hessian.gradient["points"] / 5, rtol=0, atol=1e-12 * hessian.value)


def test_a_floating_body() -> None:
    problem = modal("floating")
    assert problem.solve().clusters[0] == (0, 1, 2)
    check(problem, [fa.Frequency(3), fa.KSEigenvalue([3, 4], rho=0.1), fa.ModeShape(3, fa.FieldNorm("low"))], step=2e-4)


def test_sizes_and_constants() -> None:
    """``lam ~ E / (rho L^2)`` on any mesh."""
    solution = modal("plane").solve()
    hessian = fa.hessian(solution, fa.Eigenvalue(1))
    lam, E, rho = hessian.value, 10.0, 1.3
    x = solution.points
    by_size = hessian @ {"points": x, "E": 0.0, "density": 0.0}
    assert np.vdot(x, by_size["points"]) == pytest.approx(6 * lam, rel=1e-11)
    assert by_size["E"] == pytest.approx(-2 * lam / E, rel=1e-11)
    assert by_size["density"] == pytest.approx(2 * lam / rho, rel=1e-11)
    np.testing.assert_allclose(by_size["points"], -3 * hessian.gradient["points"], rtol=0, atol=1e-10 * lam)
    by_density = hessian @ {"density": 1.0, "E": 0.0}
    assert by_density["density"] == pytest.approx(2 * lam / rho**2, rel=1e-11)
    assert by_density["E"] == pytest.approx(-lam / (E * rho), rel=1e-11)
    shift = hessian @ np.ones_like(x)
    assert np.abs(shift).max() < 1e-11 * np.abs(by_size["points"]).max()


@pytest.mark.parametrize("response", [fa.Eigenvalue(2), fa.Frequency(0)])
def test_taylor_remainder_of_third_order(response: Any) -> None:
    problem = modal("plane")
    along = direction_of(problem, 8)
    hessian = fa.hessian(problem.solve(), response)
    product = hessian @ along
    slope, bend = (sum(float(np.vdot(along[k], g[k])) for k in along) for g in (hessian.gradient, product))
    steps = (0.2, 0.05)
    first, second = (
        abs(response.value(moved(problem, along, t)) - hessian.value - t * slope - t**2 * bend / 2) for t in steps
    )
    assert np.log(first / second) / np.log(4) == pytest.approx(3, abs=0.1)


# ------------------------------------------------------------------ clusters
class Symmetric:
    """``a^2 + b^2 + a b c`` of a pair a, b and another eigenvalue c."""

    def evaluate(self, solution: Any) -> fa.ModePartials:
        c, a, b = solution.values
        slopes = np.zeros_like(solution.values)
        slopes[0], slopes[1], slopes[2] = a * b, 2 * a + b * c, 2 * b + a * c
        return fa.ModePartials(a**2 + b**2 + a * b * c, values=slopes)


class Bent:
    """A function of one of a pair, without a slope where they coincide."""

    def __init__(self, here: float) -> None:
        self.here = here

    def evaluate(self, solution: Any) -> fa.ModePartials:
        slopes = np.zeros_like(solution.values)
        slopes[1] = 2 * (solution.values[1] - self.here)
        return fa.ModePartials((solution.values[1] - self.here) ** 2, values=slopes)


def test_functions_that_treat_a_pair_alike() -> None:
    """Each direction parts the pair in its own way."""
    problem = modal("square")
    assert problem.solve().clusters == ((0,), (1, 2))
    check(problem, [fa.Eigenvalue(0), fa.MeanEigenvalue([1, 2]), fa.KSEigenvalue(range(3), rho=0.05), Symmetric()])


def test_functions_that_do_not_are_refused() -> None:
    solution = modal("square").solve()
    for response in (fa.Eigenvalue(1), fa.MeanEigenvalue([0, 1])):
        with pytest.raises(fa.EigenvalueError, match=r"1 and 2 coincide .*slopes"):
            fa.hessian(solution, response)
    bent = Bent(float(solution.values[1]))
    assert not fa.value_and_gradient(solution, bent)[1].points.any()
    with pytest.raises(fa.EigenvalueError, match="slopes of the response by them do not change alike"):
        fa.hessian(solution, bent)


def test_eigenvalues_that_nearly_coincide_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    solution = modal("square").solve()
    monkeypatch.setattr(turning, "EXACTLY", 0.0)
    fa.hessian(solution, fa.Eigenvalue(0))
    with pytest.raises(fa.EigenvalueError, match="too little to tell them apart"):
        fa.hessian(solution, fa.MeanEigenvalue([1, 2]))


def test_close_neighbours_bend_an_eigenvalue() -> None:
    """By the inverse of their distance: it is as if they repelled each other."""
    problem, bends = modal("square"), []
    along = direction_of(problem, 5)
    for stretch in (1e-3, 1e-5):
        solution = problem.solve(problem.mesh.points * [1 + stretch, 1.0])
        assert len(solution.clusters) == 3
        hessian = fa.hessian(solution, fa.Eigenvalue(1))
        bends.append(np.vdot(along["points"], hessian @ along["points"]))
        x = solution.points
        assert np.vdot(x, hessian @ x) == pytest.approx(6 * hessian.value, rel=1e-8)
    assert bends[0] < 0
    assert bends[1] / bends[0] == pytest.approx(100, rel=0.1)


# ------------------------------------------------------------------ what is checked and refused
@pytest.mark.parametrize("wrong", ["turned", "longer", "adjoint"])
def test_the_check_sees_what_is_wrong(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    solution, bordered = modal("plane").solve(), Spectral.bordered

    calls = 0

    def spoilt(self: Spectral, i: int, s: Any) -> Any:
        nonlocal calls
        calls += 1
        found = bordered(self, i, s)
        if wrong == "adjoint":
            return found + 0.01 * self.vectors[i] if calls == 2 else found
        return found + 0.01 * self.vectors[i] if wrong == "longer" else 1.01 * found

    hessian = fa.hessian(solution, fa.ModeShape(0, fa.FieldNorm()))
    monkeypatch.setattr(Spectral, "bordered", spoilt)
    with pytest.raises(fa.SecondOrderError, match="the adjoint state is" if wrong == "adjoint" else "the state is"):
        hessian @ direction_of(modal("plane"), 5)


def test_what_has_no_second_derivatives() -> None:
    solution = modal("plane").solve()
    with pytest.raises(fa.EigenvalueError, match="eigenvector 1 has no derivative"):
        fa.hessian(modal("square").solve(), fa.ModeShape(1, fa.FieldNorm()))
    with pytest.raises(fa.ResponseError, match="rigid motion"):
        fa.hessian(modal("floating").solve(), fa.Frequency(0))

    class Dropped:
        def evaluate(self, solution: Any) -> fa.ModePartials:
            return fa.ModePartials(float(solution.values[0]) ** 2, values=np.array([2 * solution.values[0], 0.0, 0.0]))

    with pytest.raises(fa.SecondOrderError, match="Dropped has to be evaluated on complex numbers"):
        fa.hessian(solution, Dropped())
