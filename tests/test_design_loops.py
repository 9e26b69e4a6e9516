"""Loops over designs with one live factor, single precision or multigrid: the numbers of a factor for every design."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import femadj as fa
from femadj.solvers import LiveSolver, SuperLUSolver, get_solver, linear_solver
from tests.meshes import box_mesh, dim_of
from tests.solvers.test_live import NAMES

ORIGIN = (3.0, -2.0, 5.0)
PHYSICS: dict[str, fa.Elasticity | fa.Diffusion | None] = {
    "elasticity": fa.Elasticity(E=2.0e11, nu=0.3),
    "diffusion": fa.Diffusion(3.0),
    "advection": None,  # in the dimension of the mesh
}
RESPONSES = [fa.FieldNorm(), fa.Compliance()]


def problem(cell: str, physics: str, **settings: object) -> fa.LinearStatic:
    """Distorted, off the origin, loaded in the volume and on a face."""
    dim = dim_of(cell)
    counts = ((4, 3, 2) if dim == 3 else (7, 5))[:dim]
    mesh = box_mesh(cell, counts, distortion=0.15, origin=ORIGIN[:dim], seed=3)
    flux = np.array([1.0, -2.0, 0.5])[:dim]
    loads: list[object] = [fa.BodyForce(flux)] if physics == "elasticity" else [fa.Source(1.0)]
    body = PHYSICS[physics] or fa.AdvectionDiffusion(1.0, velocity=tuple(flux))
    return fa.LinearStatic(mesh, body, [fa.Fixed("left")], loads, **settings)  # type: ignore[arg-type]


def path(built: fa.LinearStatic, count: int = 4, step: float = 0.02) -> list[np.ndarray]:
    """All nodes move along a smooth way."""
    x = built.mesh.points
    way = np.sin(2.0 * (x - x.mean(axis=0)) + 0.3)
    return [x + k * step * way for k in range(count)]


MATRIX = [
    *[(cell, "elasticity", name) for cell in ("tetra", "hexahedron", "tetra10", "triangle") for name in NAMES],
    *[("tetra", physics, name) for physics in ("diffusion", "advection") for name in NAMES],
]


@pytest.mark.parametrize(("cell", "physics", "name"), MATRIX)
def test_gradients_are_those_of_a_factor_for_every_design(cell: str, physics: str, name: str) -> None:
    ours, exact = problem(cell, physics, solver=name), problem(cell, physics, keep_factor=True)
    responses = RESPONSES if physics != "advection" else RESPONSES[:1]
    before = None
    for points in path(ours):
        solution, wanted = ours.solve(points), exact.solve(points)
        values, gradients = fa.values_and_gradients(solution, responses)
        true_values, true_gradients = fa.values_and_gradients(wanted, responses)
        np.testing.assert_allclose(values, true_values, rtol=1e-10)
        for gradient, true in zip(gradients, true_gradients, strict=True):
            assert np.abs(gradient.points - true.points).max() <= 1e-9 * np.abs(true.points).max()
            for parameter, slope in true.parameters.items():
                limit = 1e-9 * np.abs(slope).max()
                np.testing.assert_allclose(gradient.parameters[parameter], slope, rtol=1e-9, atol=limit)
        before = before or (solution, values, gradients)
    assert ours.counts.factorisations <= 4
    assert exact.counts.factorisations == 4
    assert before is not None
    again, gradients = fa.values_and_gradients(before[0], responses)  # on what later designs have left
    np.testing.assert_allclose(again, before[1], rtol=0)
    for gradient, first in zip(gradients, before[2], strict=True):
        np.testing.assert_allclose(gradient.points, first.points, rtol=0, atol=1e-9 * np.abs(first.points).max())


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_and_verification(name: str) -> None:
    ours, exact = problem("tetra", "elasticity", solver=name), problem("tetra", "elasticity", keep_factor=True)
    points = path(ours)[1]
    ours.solve()
    direction = np.cos(points)
    products = [fa.hessian(built.solve(points), fa.Compliance()) @ direction for built in (ours, exact)]
    assert np.abs(products[0] - products[1]).max() <= 1e-8 * np.abs(products[1]).max()
    assert fa.verify(ours, fa.FieldNorm(), points=points, seed=1).passed


# ---------------------------------------------------------------------- what solves leave
@pytest.mark.parametrize("response", [fa.FieldNorm(), fa.Compliance()], ids=["norm", "compliance"])
@pytest.mark.parametrize("lag", [False, True])
def test_errors_of_solves_are_estimated(response: fa.FieldNorm | fa.Compliance, lag: bool) -> None:
    """From a loose tolerance: the estimate is the error but for the part that the preconditioner itself is wrong by."""
    exact = get_solver()
    rough = LiveSolver(exact, lag=True, tolerance=1e-4) if lag else LiveSolver(exact)
    ours, wanted = problem("tetra", "elasticity", solver=rough), problem("tetra", "elasticity", keep_factor=True)
    first, points = path(ours, 2, 0.01)
    ours.solve(first)
    solution = ours.solve(points)
    value, gradient = fa.value_and_gradient(solution, response)
    true_value, true = fa.value_and_gradient(wanted.solve(points), response)
    found = fa.solve_error(solution, response)
    assert "SolveError(value" in repr(found)
    if not lag:
        assert gradient.value_error is None
        assert np.abs(found.points).max() <= 1e-11 * np.abs(true.points).max()
        return
    assert solution.factor.statistics.age == 1
    error, size = np.abs(gradient.points - true.points).max(), np.abs(true.points).max()
    assert 1e-9 * size < error < 1e-3 * size
    left = np.abs(gradient.points - found.points - true.points).max()
    assert left <= 0.3 * error
    assert abs(value - found.value - true_value) <= max(0.2 * abs(value - true_value), 1e-12 * abs(true_value))
    assert gradient.value_error == pytest.approx(found.value, rel=0.1, abs=1e-12 * abs(true_value))


def test_errors_of_solves_of_other_problems_are_refused() -> None:
    body = fa.Elasticity(E=1.0, nu=0.3, density=1.0)
    modes = fa.Modal(box_mesh("tetra", (2, 1, 1)), body, [fa.Fixed("left")], count=1).solve()
    with pytest.raises(fa.ProblemError, match="LinearStatic"):
        fa.solve_error(modes, fa.Eigenvalue(1))


# ---------------------------------------------------------------------- choice
def test_choice_by_size_dimension_and_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    from femadj.solvers import choice

    exact = linear_solver().exact  # type: ignore[attr-defined]
    assert problem("tetra", "elasticity").solver_name == exact.name
    monkeypatch.setattr(choice, "MULTIGRID_FROM", 10)
    built = problem("tetra", "elasticity")
    assert built.solver_name == "amg"
    assert "amg" in repr(built)
    assert built.linear_system.needed_bytes is None or built.linear_system.needed_bytes > 0
    assert problem("tetra", "advection").solver_name == exact.name
    assert problem("triangle", "elasticity").solver_name == exact.name
    assert problem("tetra", "elasticity", keep_factor=True).solver_name == exact.name
    monkeypatch.setattr(choice, "FACTORS_LAST", 10)
    slow = choice.chosen(
        problem("triangle", "elasticity").linear_system._analysis._symbolic._structure, SuperLUSolver()
    )
    assert slow.name == "amg"


def slender(cell: str, length: float, height: float, nu: float = 0.3) -> fa.LinearStatic:
    counts = (40, 2, 2) if height == 1.0 else (8, 8, 1)
    mesh = box_mesh(cell, counts, lengths=(length, 1.0 if height == 1.0 else length, height))
    return fa.LinearStatic(
        mesh, fa.Elasticity(E=1.0, nu=nu), [fa.Fixed("left")], [fa.BodyForce((0.0, 0.0, -1.0))], solver="amg"
    )


@pytest.mark.parametrize(
    ("cell", "length", "height", "nu"),
    [("tetra", 200.0, 1.0, 0.3), ("hexahedron", 50.0, 0.5, 0.3), ("hexahedron", 4.0, 1.0, 0.4999)],
    ids=["beam", "plate", "incompressible"],
)
@pytest.mark.filterwarnings("ignore::femadj.errors.IllConditionedWarning")
def test_badly_conditioned_bodies_end_right(cell: str, length: float, height: float, nu: float) -> None:
    ours = slender(cell, length, height, nu)
    exact = fa.LinearStatic(ours.mesh, ours.physics, ours.supports, ours.loads, keep_factor=True)
    points = ours.mesh.points
    for x in (points, points * 1.001):
        value, gradient = fa.value_and_gradient(ours.solve(x), fa.Compliance())
        true_value, true = fa.value_and_gradient(exact.solve(x), fa.Compliance())
        assert value == pytest.approx(true_value, rel=1e-8)
        assert np.abs(gradient.points - true.points).max() <= 1e-7 * np.abs(true.points).max()


# ---------------------------------------------------------------------- memory
def test_a_loop_leaves_nothing_behind() -> None:
    """200 designs with value and gradient, natural as users write them."""
    built = problem("tetra", "elasticity", solver="lagged")
    way = path(built, 5)
    sizes = []
    for k in range(200):
        solution = built.solve(way[k % 5])
        fa.value_and_gradient(solution, fa.Compliance())
        if k in (20, 199):
            gc.collect()
            sizes.append(len(gc.get_objects()))
    assert sizes[1] - sizes[0] < 200


@pytest.mark.parametrize("name", NAMES)
def test_warming_up_goes_through_the_way_to_solve(name: str) -> None:
    built = problem("tetra", "elasticity", solver=name)
    fa.warm_up(built, RESPONSES)
    assert built.counts.factorisations == 0
