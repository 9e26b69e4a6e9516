"""Vibration modes: closed forms, exact gradients by nodes and parameters, clusters, input that is refused."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import skfem
from skfem.helpers import ddot, dot, grad, sym_grad

import femadj as fa
from femadj.algebra.residual import State
from tests.meshes import box_mesh, dim_of

LEFT = fa.Fixed("left")
MATERIAL = fa.Elasticity(E=10.0, nu=0.3, density=1.3)
SQUARE = box_mesh("quad", (6, 6))
HELD = [fa.Fixed("boundary")]


@cache
def body(cell: str) -> fa.Modal:
    """A clamped, distorted body off the origin."""
    mesh = box_mesh(
        cell, (4, 3) if "quad" in cell else (2, 2, 2), distortion=0.12, origin=(3.0, -2.0, 1.0)[: dim_of(cell)]
    )
    return fa.Modal(mesh, MATERIAL, [LEFT], count=3)


@cache
def solved(cell: str) -> fa.ModalSolution:
    """Its modes."""
    return body(cell).solve()


@cache
def membrane() -> fa.ModalSolution:
    """A square membrane: eigenvalues 1 and 2 coincide."""
    return fa.Modal(SQUARE, fa.Diffusion(density=1.0), HELD, count=3).solve()


def slope_of(along: Sequence[float], h: float) -> float:
    """Central difference of sixth order from values at -3 to 3 steps without the middle."""
    a, b, c, d, e, f = along
    return ((f - a) - 9 * (e - b) + 45 * (d - c)) / (60 * h)


def moved(problem: fa.Modal, velocity: Any, t: float, rates: Any = None) -> fa.ModalSolution:
    """The modes of a design further along a direction."""
    values = {name: problem.parameters.value(name) + t * rate for name, rate in (rates or {}).items()}
    return problem.solve(problem.mesh.points + t * velocity, values)


# ------------------------------------------------------------------ closed forms
def test_square_membrane() -> None:
    """``2 pi^2``, and ``5 pi^2`` twice; the area gives what the side does."""
    mesh = box_mesh("quad9", (8, 8))
    solution = fa.Modal(mesh, fa.Diffusion(conductivity=3.0, density=2.0), HELD, count=3).solve()
    np.testing.assert_allclose(solution.values, 1.5 * np.pi**2 * np.array([2, 5, 5]), rtol=5e-4)
    assert solution.clusters == ((0,), (1, 2))
    value, gradient = fa.value_and_gradient(solution, fa.Eigenvalue(0))
    stretch = mesh.points * [1.0, 0.0]
    assert np.vdot(gradient.points, stretch) == pytest.approx(-value, rel=1e-4)  # half of it is (pi / a)^2


def test_bar_and_its_length() -> None:
    """``(pi / 2 L)^2 E / rho``."""
    length, E, rho = 2.0, 7.0, 1.3
    mesh = box_mesh("quad8", (8, 1), lengths=(length, 0.3))
    across = [fa.Fixed("low", "y"), fa.Fixed("high", "y")]
    material = fa.Elasticity(E=E, nu=0.0, density=rho, plane="stress", thickness=0.7)
    solution = fa.Modal(mesh, material, [LEFT, *across], count=2).solve()
    value, gradient = fa.value_and_gradient(solution, fa.Frequency(0))
    assert value == pytest.approx(np.sqrt(E / rho) / (4 * length), rel=2e-6)
    stretch = mesh.points * [1 / length, 0.0]
    assert np.vdot(gradient.points, stretch) == pytest.approx(-value / length, rel=1e-5)
    assert gradient.parameters["E"] == pytest.approx(value / (2 * E), rel=1e-10)
    assert gradient.parameters["density"] == pytest.approx(-value / (2 * rho), rel=1e-10)
    assert abs(gradient.parameters["thickness"]) < 1e-12


def test_beam_by_length_and_height() -> None:
    """Cantilever: ``1.8751^4 E I / (rho A L^4)``."""
    length, height, E, rho = 10.0, 0.25, 2e3, 0.8
    mesh = box_mesh("quad8", (12, 1), lengths=(length, height))
    solution = fa.Modal(mesh, fa.Elasticity(E=E, nu=0.0, density=rho, plane="stress"), [LEFT], count=2).solve()
    value, gradient = fa.value_and_gradient(solution, fa.Eigenvalue(0))
    closed = 1.875104068711961**4 * E * height**2 / 12 / (rho * length**4)
    assert value == pytest.approx(closed, rel=2e-3)
    assert solution.values[1] / value == pytest.approx((4.694091132974175 / 1.875104068711961) ** 4, rel=5e-3)
    for axis, power, size in ((0, -4, length), (1, 2, height)):
        velocity = mesh.points * np.eye(2)[axis] / size
        assert np.vdot(gradient.points, velocity) == pytest.approx(power * closed / size, rel=5e-3)


@pytest.mark.parametrize("cell", ["quad8", "tetra"])
def test_rigid_motions_change_nothing_and_sizes_count_twice(cell: str) -> None:
    """``lam ~ 1 / L^2`` on any mesh."""
    solution = solved(cell)
    value, gradient = fa.value_and_gradient(solution, fa.Eigenvalue(1))
    x = solution.points
    size = np.abs(gradient.points).sum() * np.abs(x).max()
    assert np.abs(gradient.points.sum(axis=0)).max() < 1e-13 * size
    turn = np.zeros_like(x)
    turn[:, 0], turn[:, 1] = -x[:, 1], x[:, 0]
    assert abs(np.vdot(gradient.points, turn)) < 1e-13 * size
    assert np.vdot(gradient.points, x) == pytest.approx(-2 * value, rel=1e-10)


# ------------------------------------------------------------------ exactness
RESPONSES: tuple[Any, ...] = (
    fa.Eigenvalue(0),
    fa.Frequency(2),
    fa.MeanEigenvalue(range(3)),
    fa.KSEigenvalue([0, 1, 2], rho=0.1),
    fa.KSEigenvalue((0, 2), rho=-0.3),
    fa.ModeShape(0, fa.Displacement("right", "y", reduce="squared_norm")),
    fa.ModeShape(1, fa.FieldNorm("low")),
    fa.ModeShape(2, fa.Functional(lambda w: np.exp(w.u[0]) * w.u.grad[1, 1] ** 2 + w.x[0] * w.u[1])),
)


@pytest.mark.parametrize("cell", ["quad8", "tetra"])
def test_gradients_of_all_responses(cell: str) -> None:
    """All nodes and parameters moving together: sixth-order differences, and Taylor remainders of second order."""
    problem, solution = body(cell), solved(cell)
    before = problem.counts.factorisations
    values, gradients = fa.values_and_gradients(solution, RESPONSES)
    rng = np.random.default_rng(4)
    velocity = rng.uniform(-1, 1, solution.points.shape)
    rates = {"E": 2.0, "nu": 0.1, "density": -0.5} | ({"thickness": 0.4} if dim_of(cell) == 2 else {})
    slopes = [
        np.vdot(g.points, velocity) + sum(rate * float(g.parameters[name]) for name, rate in rates.items())
        for g in gradients
    ]
    assert problem.counts.factorisations == before  # none for gradients
    assert [g.adjoint_solves for g in gradients] == [0, 0, 0, 0, 0, 1, 1, 1]
    h = 2e-3
    ends = [moved(problem, velocity, k * h, rates) for k in (-3, -2, -1, 1, 2, 3)]
    assert problem.counts.factorisations == before + 6  # one for each design
    far = [moved(problem, velocity, t, rates) for t in (1e-3, 2.5e-4)]
    for response, value, slope in zip(RESPONSES, values, slopes, strict=True):
        at = [response.value(each) for each in ends]
        assert slope_of(at, h) == pytest.approx(slope, rel=2e-8, abs=1e-9 * abs(value)), response
        first, second = (
            abs(response.value(each) - value - t * slope) for each, t in zip(far, (1e-3, 2.5e-4), strict=True)
        )
        assert np.log(first / second) / np.log(4) == pytest.approx(2, abs=0.05), response


def test_verify_takes_modes() -> None:
    plate = fa.Modal(box_mesh("quad", (2, 2), distortion=0.1), fa.Diffusion(density=1.0), [LEFT], count=2)
    found = fa.verify(plate, fa.ModeShape(0, fa.FieldNorm("low")), components=0, show=False)
    assert found.passed
    assert found.left_out == ()


def test_pushforward_and_pullback_agree() -> None:
    solution = solved("quad8")
    rng = np.random.default_rng(1)
    direction = fa.Design(rng.uniform(-1, 1, solution.points.shape), {"E": np.array(0.3)})
    (along,) = solution.pushforward([direction])
    for number, slope in enumerate(along):
        _, gradient = fa.value_and_gradient(solution, fa.Eigenvalue(number))
        other = np.vdot(gradient.points, direction.points) + 0.3 * gradient.parameters["E"]
        assert slope == pytest.approx(float(other), rel=1e-11)


def test_modes_are_what_they_say() -> None:
    problem, solution = body("quad8"), solved("quad8")
    again = problem.solve()
    np.testing.assert_array_equal(again.vectors, solution.vectors)  # with the same signs
    flat = solution.vectors.reshape(3, -1)
    mass, stiffness = (solution.at.jvp(State(flat), flat, rate) for rate in (2, 0))
    free = ~solution.at.constraints.constrained
    np.testing.assert_allclose(flat @ mass.T, np.eye(3), rtol=0, atol=1e-12)
    residual = (stiffness - solution.values[:, None] * mass)[:, free]
    assert np.abs(residual).max() < 1e-12 * np.abs(stiffness).max()
    assert not flat[:, ~free].any()
    assert solution.frequencies.tolist() == pytest.approx((np.sqrt(solution.values) / (2 * np.pi)).tolist())
    assert "3 modes of" in repr(solution)
    assert "count 3, shift 0" in repr(problem)


# ------------------------------------------------------------------ clusters
def test_a_member_of_a_cluster_has_no_gradient() -> None:
    solution = membrane()
    fewer = fa.Modal(SQUARE, fa.Diffusion(density=1.0), HELD, count=2).solve()
    assert len(fewer.values) == 3  # the last cluster is complete
    assert solution.clusters == ((0,), (1, 2))
    for response in (fa.Eigenvalue(1), fa.Frequency(2), fa.MeanEigenvalue([0, 1])):
        with pytest.raises(fa.EigenvalueError, match=r"1 and 2 coincide \(5.*slopes"):
            fa.value_and_gradient(solution, response)
    with pytest.raises(fa.EigenvalueError, match="eigenvector 1 has no derivative"):
        fa.value_and_gradient(solution, fa.ModeShape(1, fa.FieldNorm("low")))


def test_symmetric_functions_of_a_cluster_and_its_members_along_a_direction() -> None:
    solution = membrane()
    problem: Any = solution.problem
    velocity = np.random.default_rng(2).uniform(-0.1, 0.1, solution.points.shape)
    h = 1e-3
    ends = [moved(problem, velocity, k * h) for k in (-3, -2, -1, 1, 2, 3)]
    for response in (fa.MeanEigenvalue([1, 2]), fa.KSEigenvalue(range(3), rho=0.05)):
        _, gradient = fa.value_and_gradient(solution, response)
        difference = slope_of([response.value(each) for each in ends], h)
        assert np.vdot(gradient.points, velocity) == pytest.approx(difference, rel=1e-8)
    (along,) = solution.pushforward([fa.Design(velocity)])
    h = 1e-5
    one_sided = (moved(problem, velocity, h).values - solution.values) / h
    np.testing.assert_allclose(along, one_sided, rtol=1e-3)
    assert along[2] - along[1] > 0.1 * abs(along[1])


def test_no_copy_of_a_threefold_eigenvalue_is_missed() -> None:
    mesh = box_mesh("hexahedron", (4, 4, 4))
    solution = fa.Modal(mesh, fa.Diffusion(density=1.0), HELD, count=2).solve()
    assert solution.clusters == ((0,), (1, 2, 3))


# ------------------------------------------------------------------ shifts
def test_a_floating_body() -> None:
    mesh = box_mesh("quad8", (3, 2), distortion=0.1, origin=(3.0, 1.0))
    with pytest.raises(fa.SupportError, match="shift=-"):
        fa.Modal(mesh, MATERIAL, count=2)
    problem = fa.Modal(mesh, MATERIAL, count=4, shift=-20.0)
    solution = problem.solve()
    assert solution.clusters[0] == (0, 1, 2)
    assert np.abs(solution.values[:3]).max() < 1e-10
    with pytest.raises(fa.ResponseError, match="rigid motion"):
        fa.value_and_gradient(solution, fa.Frequency(1))
    velocity = np.random.default_rng(0).uniform(-0.3, 0.3, mesh.points.shape)
    _, gradient = fa.value_and_gradient(solution, fa.ModeShape(3, fa.FieldNorm("low")))
    h = 1e-3
    ends = [fa.ModeShape(3, fa.FieldNorm("low")).value(moved(problem, velocity, k * h)) for k in (-3, -2, -1, 1, 2, 3)]
    assert np.vdot(gradient.points, velocity) == pytest.approx(slope_of(ends, h), rel=1e-8)


def test_a_shift_between_eigenvalues_and_on_one() -> None:
    mesh = body("quad8").mesh
    all_values = fa.Modal(mesh, MATERIAL, [LEFT], count=6).solve().values
    between = fa.Modal(mesh, MATERIAL, [LEFT], count=2, shift=0.5 * (all_values[2] + all_values[3])).solve()
    np.testing.assert_allclose(between.values, all_values[2:4], rtol=1e-12)
    _, gradient = fa.value_and_gradient(between, fa.ModeShape(1, fa.FieldNorm("low")))
    _, other = fa.value_and_gradient(
        fa.Modal(mesh, MATERIAL, [LEFT], count=4).solve(), fa.ModeShape(3, fa.FieldNorm("low"))
    )
    np.testing.assert_allclose(gradient.points, other.points, rtol=0, atol=1e-11 * np.abs(other.points).max())
    floating = scalar(lambda u, v, w: u * v)
    with pytest.raises(fa.SingularSystemError, match="give a negative shift"):
        fa.Modal(mesh, floating, count=1).solve()
    assert abs(fa.Modal(mesh, floating, count=1, shift=-1.0).solve().values[0]) < 1e-12
    with pytest.raises(fa.SingularSystemError, match="may be an eigenvalue"):
        fa.Modal(mesh, MATERIAL, [LEFT], count=1, shift=all_values[1]).solve()


# ------------------------------------------------------------------ forms
def test_the_mass_of_a_form_is_that_of_the_material() -> None:
    mesh = body("quad8").mesh
    lam, mu = 10.0 * 0.3 / (1.3 * 0.4), 10.0 / 2.6

    def stiffness(u: Any, v: Any, w: Any) -> Any:
        return lam * (u.grad[0, 0] + u.grad[1, 1]) * (v.grad[0, 0] + v.grad[1, 1]) + 2 * mu * ddot(
            sym_grad(u), sym_grad(v)
        )

    form = fa.Form([stiffness, fa.Integral(lambda u, v, w: w.rho * dot(u, v), rate=2)], element="vector",
                   parameters={"rho": 1.3})  # fmt: skip
    solution = fa.Modal(mesh, form, [LEFT], count=3).solve()
    np.testing.assert_allclose(solution.values, solved("quad8").values, rtol=1e-12)
    _, gradient = fa.value_and_gradient(solution, fa.Frequency(0))
    _, other = fa.value_and_gradient(solved("quad8"), fa.Frequency(0))
    np.testing.assert_allclose(gradient.points, other.points, rtol=0, atol=1e-11 * np.abs(other.points).max())
    assert gradient.parameters["rho"] == pytest.approx(float(other.parameters["density"]), rel=1e-11)


def test_modes_of_another_element() -> None:
    """Quadratic shape functions on straight cells, whose unknowns are not values at the mesh nodes; a mass of x."""
    mesh = box_mesh("triangle", (3, 2), distortion=0.1, origin=(2.0, 1.0))
    mass = fa.Integral(lambda u, v, w: (1 + w.x[0] ** 2) * u * v, rate=2)
    form = fa.Form([lambda u, v, w: 2 * dot(grad(u), grad(v)), mass], element=skfem.ElementTriP2())
    problem = fa.Modal(mesh, form, [LEFT], count=2)
    solution = problem.solve()
    velocity = np.random.default_rng(0).uniform(-0.2, 0.2, mesh.points.shape)
    h = 2e-3
    ends = [moved(problem, velocity, k * h) for k in (-3, -2, -1, 1, 2, 3)]
    for response in (fa.Eigenvalue(1), fa.ModeShape(0, fa.Functional(lambda w: w.u**4))):
        _, gradient = fa.value_and_gradient(solution, response)
        difference = slope_of([response.value(each) for each in ends], h)
        assert np.vdot(gradient.points, velocity) == pytest.approx(difference, rel=1e-8)


def test_overlaps_follow_modes_that_change_places() -> None:
    """A membrane that is wide, then high: the modes with a node line across the one and the other axis swap."""
    problem: Any = membrane().problem
    wide, high = (problem.solve(problem.mesh.points * stretch) for stretch in ([1.1, 1.0], [1.0, 1.1]))
    overlap = wide.overlap(high) / np.linalg.norm(wide.overlap(high), axis=1, keepdims=True)
    np.testing.assert_allclose(overlap, [[1, 0, 0], [0, 0, 1], [0, 1, 0]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(wide.overlap(wide), np.eye(3), rtol=0, atol=1e-12)
    with pytest.raises(fa.ProblemError, match="modes of the same unknowns"):
        wide.overlap(solved("tetra"))


# ------------------------------------------------------------------ input that is refused
def scalar(mass: Any, **options: Any) -> fa.Form:
    """Diffusion with a mass of its own."""
    return fa.Form([lambda u, v, w: dot(grad(u), grad(v)), fa.Integral(mass, rate=2)], **options)


def test_what_has_no_modes_is_refused() -> None:
    tiny = box_mesh("quad", (2, 1))
    light, damped = fa.Elasticity(E=1.0, nu=0.3), fa.Integral(lambda u, v, w: u * v, rate=1)
    laplace = lambda u, v, w: dot(grad(u), grad(v))  # noqa: E731
    for physics, message in (
        (light, "no density"),
        (fa.Form(laplace), "rate=2"),
        (fa.Form([laplace, damped]), "undamped"),
        (fa.Form(laplace, lambda v, w: v), "no loads"),
        (fa.AdvectionDiffusion(1.0, (1.0, 0.0), density=1.0), "symmetric"),
    ):
        with pytest.raises(fa.ProblemError, match=message):
            fa.Modal(tiny, physics, [LEFT], count=1)
    with pytest.raises(fa.SupportError, match="hold still"):
        fa.Modal(tiny, MATERIAL, [fa.Fixed("left", value=0.1)], count=1)
    with pytest.raises(fa.EigenvalueError, match="8 free unknowns"):
        fa.Modal(tiny, MATERIAL, [LEFT], count=8).solve()
    assert len(fa.Modal(tiny, MATERIAL, [LEFT], count=7).solve().values) == 7
    with pytest.raises(fa.EigenvalueError, match="not positive"):
        fa.Modal(tiny, scalar(lambda u, v, w: (w.x[0] - 0.7) * u * v), [LEFT], count=1).solve()
    at_the_end = fa.Form([laplace, fa.Integral(lambda u, v, w: u * v, "right", rate=2)])
    with pytest.raises(fa.EigenvalueError, match="3, but with 2 free unknowns that have a mass"):
        fa.Modal(tiny, at_the_end, [LEFT], count=3).solve()
    assert fa.Modal(tiny, at_the_end, [LEFT], count=1).solve().values[0] == pytest.approx(1.0)  # k / (m L)


def test_responses_and_solutions_that_do_not_fit_are_refused() -> None:
    solution = solved("quad8")
    static = fa.LinearStatic(box_mesh("quad", (2, 1)), MATERIAL, [LEFT]).solve()
    for response in (
        fa.Compliance(),
        fa.StrainEnergy(),
        fa.FieldNorm(),
        fa.Displacement("right", "x"),
        fa.Reaction("left", "x"),
    ):
        with pytest.raises(fa.ResponseError, match=r"several fields|neither loads"):
            fa.value_and_gradient(solution, response)
        with pytest.raises(fa.ResponseError, match="response of modes"):
            fa.value_and_gradient(static, fa.ModeShape(0, response))
    for force in (fa.Compliance(), fa.StrainEnergy(), fa.Reaction("left", "x")):
        with pytest.raises(fa.ResponseError, match="neither loads nor reactions"):
            fa.value_and_gradient(solution, fa.ModeShape(0, force))
    for response in (fa.Eigenvalue(3), fa.Eigenvalue(-1), fa.MeanEigenvalue([0, 9])):
        with pytest.raises(fa.ResponseError, match="numbers 0 to 2"):
            fa.value_and_gradient(solution, response)
    for response in (fa.MeanEigenvalue([]), fa.MeanEigenvalue([0, 0]), fa.KSEigenvalue([0], rho=0.0)):
        with pytest.raises(fa.ResponseError):
            fa.value_and_gradient(solution, response)
    _, gradient = fa.value_and_gradient(solution, fa.Mass())
    assert gradient.parameters["density"] == pytest.approx(fa.Volume().value(solution))
