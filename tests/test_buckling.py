"""Linear buckling: Euler's column and its derivatives, exact gradients through the stress, input that is refused."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

import femadj as fa
from femadj.physics import Coefficient, CoefficientPhysics, NullModes
from tests.meshes import box_mesh, dim_of
from tests.test_modal import slope_of

LEFT = fa.Fixed("left")


@cache
def body(cell: str) -> fa.Buckling:
    """A clamped, distorted body off the origin, pushed and drawn; constants by cell group."""
    plane = "quad" in cell
    counts, sizes, origin = (
        ((4, 2), (3.0, 0.7), (3.0, -2.0)) if plane else ((4, 2, 1), (3.0, 0.8, 0.6), (3.0, -2.0, 1.0))
    )
    mesh = box_mesh(cell, counts, lengths=sizes, distortion=0.1, origin=origin)
    material = fa.Elasticity(E={"low": 10.0, "high": 8.0}, nu=0.3)
    push = fa.Fixed("right", "x", value=lambda x: -0.3 - 0.02 * x[1] ** 2)
    loads = [fa.BodyForce((0.5, -2.0, 1.0)[: mesh.dim]), fa.Pressure("top", lambda x: 0.5 + 0.1 * x[0])]
    return fa.Buckling(fa.LinearStatic(mesh, material, [LEFT, push], loads), count=3)


def column(length: float, height: float, E: float) -> fa.Buckling:
    """Clamped at one end, pushed by a unit force at the other."""
    mesh = box_mesh("quad8", (12, 1), lengths=(length, height))
    material = fa.Elasticity(E=E, nu=0.0, plane="stress")
    return fa.Buckling(fa.LinearStatic(mesh, material, [LEFT], [fa.TotalForce("right", (-1.0, 0.0))]))


def test_euler_column_by_length_and_height() -> None:
    """``pi^2 E I / (4 L^2)``."""
    length, height, E = 20.0, 1.0, 1e3
    problem = column(length, height, E)
    solution = problem.solve()
    closed = np.pi**2 * E * height**3 / 12 / (4 * length**2)
    assert solution.load_factors == pytest.approx([closed], rel=3e-3)
    value, gradient = fa.value_and_gradient(solution, fa.Eigenvalue())
    x = solution.points
    for axis, power, size in ((0, -2, length), (1, 3, height)):
        slope = np.vdot(gradient.points, x * np.eye(2)[axis] / size)
        assert slope == pytest.approx(power * closed / size, rel=6e-3)
    assert gradient.parameters["E"] == pytest.approx(value / E, rel=1e-9)
    assert gradient.parameters["thickness"] == pytest.approx(value, rel=1e-9)
    assert np.vdot(gradient.loads, solution.static.load) == pytest.approx(-value, rel=1e-9)
    assert problem.counts.factorisations == 1
    assert problem.counts.analyses == 1


def test_the_size_does_not_matter_under_tractions_nor_does_the_place() -> None:
    mesh = box_mesh("quad8", (4, 2), distortion=0.12, origin=(3.0, -1.0))
    static = fa.LinearStatic(mesh, fa.Elasticity(E=5.0, nu=0.3), [LEFT], [fa.Traction("right", (-1.0, 0.2))])
    value, gradient = fa.value_and_gradient(fa.Buckling(static).solve(), fa.Eigenvalue())
    size = np.abs(gradient.points * mesh.points).sum()
    assert size > value
    assert abs(np.vdot(gradient.points, mesh.points)) < 1e-12 * size
    assert np.abs(gradient.points.sum(axis=0)).max() < 1e-12 * size


def test_prescribed_displacements_scale_the_stress() -> None:
    mesh = box_mesh("quad", (4, 2), distortion=0.1)
    push = fa.Fixed("right", "x", value=-0.1)
    solution = fa.Buckling(fa.LinearStatic(mesh, fa.Elasticity(E=5.0, nu=0.3), [LEFT, push])).solve()
    value, gradient = fa.value_and_gradient(solution, fa.Eigenvalue())
    assert np.vdot(gradient.supports, solution.static.prescribed.values) == pytest.approx(-value, rel=1e-10)
    assert abs(gradient.parameters["E"]) < 1e-10 * value


RESPONSES: tuple[Any, ...] = (
    fa.Eigenvalue(0),
    fa.KSEigenvalue(range(3), rho=0.3),
    fa.ModeShape(0, fa.Displacement("top", "y", reduce="squared_norm")),
    fa.ModeShape(1, fa.Functional(lambda w: np.exp(w.u[0]) * w.u.grad[1, 1] ** 2 + w.x[0] * w.u[1] ** 2)),
    fa.Volume(),
)


@pytest.mark.parametrize("cell", ["quad8", "tetra"])
def test_gradients_of_all_responses(cell: str) -> None:
    """All nodes and parameters moving together: sixth-order differences, and Taylor remainders of second order."""
    problem = body(cell)
    solution = problem.solve()
    before = problem.counts.factorisations
    values, gradients = fa.values_and_gradients(solution, RESPONSES)
    rng = np.random.default_rng(4)
    velocity = 0.1 * rng.uniform(-1, 1, solution.points.shape)
    rates = {"E": np.array([0.5, -0.3]), "nu": np.array(0.03)}
    slopes = [
        np.vdot(g.points, velocity) + sum(np.vdot(g.parameters[n], r) for n, r in rates.items()) for g in gradients
    ]
    assert problem.counts.factorisations == before
    assert [g.adjoint_solves for g in gradients] == [1, 1, 2, 2, 0]

    def at(t: float) -> fa.BucklingSolution:
        moved = {name: problem.parameters.value(name) + t * rate for name, rate in rates.items()}
        return problem.solve(problem.mesh.points + t * velocity, moved)

    h = 2e-3
    ends = [at(k * h) for k in (-3, -2, -1, 1, 2, 3)]
    far = [at(t) for t in (1e-3, 2.5e-4)]
    for response, value, slope in zip(RESPONSES, values, slopes, strict=True):
        difference = slope_of([response.value(each) for each in ends], h)
        assert difference == pytest.approx(slope, rel=2e-8, abs=1e-9 * abs(value)), response
        first, second = (abs(response.value(e) - value - t * slope) for e, t in zip(far, (1e-3, 2.5e-4), strict=True))
        assert np.log(first / second) / np.log(4) == pytest.approx(2, abs=0.05), response
    assert problem.counts.factorisations == before + 8  # one for each design
    (along,) = solution.pushforward([fa.Design(velocity, rates)])
    assert along[0] == pytest.approx(float(slopes[0]), rel=1e-10)


STIFFNESS = np.array([[5.0, 1.5, 0.3], [1.5, 4.0, 0.2], [0.3, 0.2, 1.6]])


@pytest.mark.parametrize(
    ("cell", "material", "name"),
    [
        ("quad8+triangle6", fa.Elasticity(stiffness=STIFFNESS, plane="stress", thickness=0.7), "stiffness"),
        ("hexahedron+wedge", fa.Elasticity(E=fa.CellField(np.linspace(3.0, 5.0, 12)), nu=0.3), "E"),
    ],
)
def test_mixed_cells_and_all_kinds_of_constants(cell: str, material: fa.Elasticity, name: str) -> None:
    """Tensors and fields of cells as parameters, on meshes of two blocks."""
    mesh = box_mesh(
        cell, lengths=(3.0, 0.9, 0.7)[: dim_of(cell)], distortion=0.1, origin=(1.0, 2.0, 3.0)[: dim_of(cell)]
    )
    push = fa.Traction("right", (-0.3, 0.02, 0.01)[: mesh.dim])
    problem = fa.Buckling(fa.LinearStatic(mesh, material, [LEFT], [push]), count=2)
    solution = problem.solve()
    value = problem.parameters.value(name)
    rng = np.random.default_rng(2)
    velocity, rate = 0.1 * rng.uniform(-1, 1, mesh.points.shape), 0.3 * rng.uniform(-1, 1, value.shape)
    rate = rate + rate.T if name == "stiffness" else rate
    h = 2e-3
    ends = [problem.solve(mesh.points + k * h * velocity, {name: value + k * h * rate}) for k in (-3, -2, -1, 1, 2, 3)]
    (along,) = solution.pushforward([fa.Design(velocity, {name: rate})])
    for number in (0, 1):
        _, gradient = fa.value_and_gradient(solution, fa.Eigenvalue(number))
        slope = np.vdot(gradient.points, velocity) + np.vdot(gradient.parameters[name], rate)
        assert slope == pytest.approx(slope_of([e.values[number] for e in ends], h), rel=1e-8)
        assert along[number] == pytest.approx(float(slope), rel=1e-10)


def test_modes_are_what_they_say() -> None:
    solution = body("quad8").solve()
    flat = solution.vectors.reshape(3, -1)
    geometric = solution.at.jvp(solution.static.implicit.state, flat, 2)
    stiffness = solution.static.at.jvp(solution.static.implicit.state, flat)
    free = ~solution.at.constraints.constrained
    np.testing.assert_allclose(flat @ geometric.T, np.eye(3), rtol=0, atol=1e-11)
    residual = (stiffness - solution.load_factors[:, None] * geometric)[:, free]
    assert np.abs(residual).max() < 1e-12 * np.abs(stiffness).max()
    assert "BucklingSolution(3 modes of" in repr(solution)
    assert "Buckling(count 3) of LinearStatic(" in repr(solution.problem)


def test_results_hold_all_modes(tmp_path: Any) -> None:
    solution = body("quad8").solve()
    _, gradient = fa.value_and_gradient(solution, fa.Eigenvalue())
    text = fa.write_results(tmp_path / "modes.vtu", solution, {"load factor": gradient}).read_bytes()
    for name in (b"mode 0", b"mode 2", b"d(load factor)/dX"):
        assert name in text


def test_verify_takes_buckling() -> None:
    mesh = box_mesh("quad", (1, 1), distortion=0.1)
    static = fa.LinearStatic(mesh, fa.Elasticity(E=5.0, nu=0.3), [LEFT], [fa.Traction("right", (-1.0, 0.2))])
    assert fa.verify(fa.Buckling(static), fa.Eigenvalue(), components=0, show=False).passed


def test_a_square_column_buckles_in_two_directions() -> None:
    """Both factors coincide: their mean has a gradient, and along a direction they part."""
    mesh = box_mesh("hexahedron", (4, 1, 1), lengths=(6.0, 1.0, 1.0))
    static = fa.LinearStatic(mesh, fa.Elasticity(E=5.0, nu=0.2), [LEFT], [fa.Traction("right", (-1.0, 0.0, 0.0))])
    problem = fa.Buckling(static, count=2)
    solution = problem.solve()
    assert solution.clusters == ((0, 1),)
    with pytest.raises(fa.EigenvalueError, match="0 and 1 coincide"):
        fa.value_and_gradient(solution, fa.Eigenvalue(0))
    velocity = np.random.default_rng(3).uniform(-0.05, 0.05, mesh.points.shape)
    _, gradient = fa.value_and_gradient(solution, fa.MeanEigenvalue([0, 1]))
    h = 2e-3
    ends = [problem.solve(mesh.points + k * h * velocity) for k in (-3, -2, -1, 1, 2, 3)]
    assert np.vdot(gradient.points, velocity) == pytest.approx(slope_of([e.values.mean() for e in ends], h), rel=1e-8)
    (along,) = solution.pushforward([fa.Design(velocity)])
    one_sided = (problem.solve(mesh.points + 1e-5 * velocity).values - solution.values) / 1e-5
    np.testing.assert_allclose(along, one_sided, rtol=1e-3)
    assert along[1] - along[0] > 0.1 * np.abs(along).max()


@dataclass(frozen=True)
class Membrane(CoefficientPhysics):
    """``int grad v : k grad u`` of a displacement, whose stress ``k grad u`` is not symmetric."""

    k: float
    quantity = "displacement"

    def components(self, dim: int) -> tuple[str, ...]:
        return ("x", "y", "z")[:dim]

    def thickness_in(self, dim: int) -> float:
        return 1.0

    def coefficient(self, mesh: fa.Mesh) -> Coefficient:
        identity = np.eye(mesh.dim)
        C = self.k * np.einsum("ik,jl->ijkl", identity, identity)[None]
        return Coefficient(C, np.zeros(mesh.n_cells, dtype=np.int32), 1, mesh.dim + 1)

    def null_modes(self, points: Any) -> NullModes:
        fields = np.stack([np.tile(row, (len(points), 1)) for row in np.eye(points.shape[1])])
        return NullModes(("translation along x", "translation along y", "translation along z")[: len(fields)], fields)


def test_a_physics_of_ones_own() -> None:
    mesh = box_mesh("quad", (4, 2), distortion=0.1, origin=(2.0, 1.0))
    static = fa.LinearStatic(mesh, Membrane(3.0), [LEFT], [fa.Traction("right", (-1.0, 0.4))])
    problem = fa.Buckling(static, count=3)
    velocity = np.random.default_rng(0).uniform(-0.1, 0.1, mesh.points.shape)
    solution = problem.solve()
    response = fa.MeanEigenvalue(range(len(solution.values)))
    _, gradient = fa.value_and_gradient(solution, response)
    h = 2e-3
    ends = [response.value(problem.solve(mesh.points + k * h * velocity)) for k in (-3, -2, -1, 1, 2, 3)]
    assert np.vdot(gradient.points, velocity) == pytest.approx(slope_of(ends, h), rel=1e-8)
    (along,) = solution.pushforward([fa.Design(velocity)])
    assert along.mean() == pytest.approx(float(np.vdot(gradient.points, velocity)), rel=1e-10)


# ------------------------------------------------------------------ input that is refused
def test_what_does_not_buckle_is_refused() -> None:
    mesh = box_mesh("quad", (2, 1))
    elastic = fa.Elasticity(E=1.0, nu=0.0)
    pulled = fa.LinearStatic(mesh, elastic, [LEFT], [fa.Traction("right", (1.0, 0.0))])
    with pytest.raises(fa.EigenvalueError, match="does it have the wrong sign"):
        fa.Buckling(pulled, count=7).solve()
    with pytest.raises(fa.EigenvalueError, match="no stress"):
        fa.Buckling(fa.LinearStatic(mesh, elastic, [LEFT])).solve()
    with pytest.raises(fa.EigenvalueError, match="8 free unknowns"):
        fa.Buckling(pulled, count=8).solve()
    warm = fa.LinearStatic(mesh, elastic, [LEFT], [fa.ThermalStrain(1e-3, 1.0)])
    with pytest.raises(fa.ProblemError, match="stress of its own"):
        fa.Buckling(warm)
    heat = fa.LinearStatic(mesh, fa.Diffusion(), [LEFT])
    form = fa.LinearStatic(mesh, fa.Form(lambda u, v, w: u * v), [LEFT])
    for problem in (heat, form):
        with pytest.raises(fa.ProblemError, match="stress of an elastic material"):
            fa.Buckling(problem)
    named = fa.LinearStatic(mesh, elastic, [LEFT], [fa.ThermalStrain(1e-3, 1.0, name="prestress")])
    with pytest.raises(fa.ProblemError, match="'prestress' is the name"):
        fa.Buckling(named)
    for wrong in (None, mesh, pulled.solve()):
        with pytest.raises(fa.ProblemError, match="takes a LinearStatic"):
            fa.Buckling(wrong)  # type: ignore[arg-type]
    with pytest.raises(fa.ProblemError, match="count"):
        fa.Buckling(pulled, 0)
    solution = body("quad8").solve()
    with pytest.raises(fa.ResponseError, match="has no frequencies"):
        fa.value_and_gradient(solution, fa.Frequency(0))
