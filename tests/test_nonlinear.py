"""Nonlinear statics: gradients of every response against differences of solved problems, counts, and what is refused.

All nodes move, supports included, on bent meshes away from the origin; displacements are of the size of the cells.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skfem
from scipy.sparse import csr_array
from skfem.helpers import ddot, div, dot, grad, sym_grad

import femadj as fa
from femadj.solvers.nearby import NearbyFactor
from femadj.solvers.structure import CsrPattern
from tests.meshes import box_mesh, dim_of

FloatArray = npt.NDArray[np.float64]
ORIGIN = (3.0, -2.0, 5.0)


def mesh_of(cell: str) -> fa.Mesh:
    """A few distorted cells."""
    dim = dim_of(cell)
    return box_mesh(cell, (2, 1, 1)[:dim], distortion=0.12, origin=ORIGIN[:dim], seed=3)


# ---------------------------------------------------------------------- forms
def conduction(u: Any, v: Any, w: Any) -> Any:
    return w.k * (1 + u**2) * (2 + np.sin(w.x[0])) * dot(grad(u), grad(v)) + w.c * u**3 * v * w.h


def radiation(u: Any, v: Any, w: Any) -> Any:
    return w.film * (u**4 - 1.0) * v * (1 + 0.1 * w.n[1])


def source(v: Any, w: Any) -> Any:
    return (1 + w.x[0] ** 2) * v


def neo_hooke(u: Any, v: Any, w: Any) -> Any:
    """In the plane."""
    F = grad(u) + np.eye(2)[:, :, None, None]
    J = F[0, 0] * F[1, 1] - F[0, 1] * F[1, 0]
    G = np.stack([np.stack([F[1, 1], -F[1, 0]]), np.stack([-F[0, 1], F[0, 0]])]) / J
    return ddot(w.mu * (F - G) + w.lame * np.log(J) * G, grad(v))


def navier_stokes(u: Any, p: Any, v: Any, q: Any, w: Any) -> Any:
    inertia = np.einsum("j...,ij...->i...", u, grad(u))
    return w.nu * ddot(grad(u), grad(v)) + dot(inertia, v) - p * div(v) - q * div(u)


# ---------------------------------------------------------------------- what is combined
def hyperelastic(cell: str, stored: Any, loads: str, **options: Any) -> fa.NonlinearStatic:
    mesh = mesh_of(cell)
    dim = mesh.dim
    vector = np.array((0.05, -0.12, 0.04))[:dim]
    thickness = {"thickness": 0.7} if dim == 2 else {}
    material = fa.Hyperelastic({"low": 2.0, "high": 3.0}, 0.3, stored=stored, density=1.3, **thickness, **options)
    supports = [fa.Fixed("left"), fa.Fixed("right", "x", lambda x: 0.03 * (x[1] + 1) ** 2)]
    if loads == "dead":
        given = [fa.Gravity(vector), fa.Traction("top", lambda x: [0.1 * x[0] * a for a in vector])]
    else:
        pressed = fa.Pressure("bottom", lambda x: 0.2 + 0.02 * x[0] ** 2, follower=True)
        given = [pressed, fa.Pressure("top", 0.1, follower=True), fa.PointLoad("opposite", 0.1 * vector)]
    return fa.NonlinearStatic(mesh, material, supports, given)


def conducting(cell: str, element: Any = 1) -> fa.NonlinearStatic:
    mesh = mesh_of(cell)
    rng = np.random.default_rng(1)
    parameters = {
        "k": fa.NodalField(rng.uniform(1, 2, mesh.n_nodes)),
        "c": fa.CellField(rng.uniform(1, 2, mesh.n_cells)),
        "film": 0.3,
    }
    form = fa.NonlinearForm(
        [conduction, fa.Integral(radiation, "right")], [source], element=element, parameters=parameters
    )
    loads = [fa.Source(0.7)] if element == 1 else []
    return fa.NonlinearStatic(mesh, form, [fa.Fixed("left", None, lambda x: 0.2 * x[1])], loads)


def flow() -> fa.NonlinearStatic:
    """Steady Navier-Stokes with Taylor and Hood's element."""
    element = skfem.ElementVector(skfem.ElementTriP2()) * skfem.ElementTriP1()
    form = fa.NonlinearForm(
        navier_stokes, lambda v, q, w: v[0] * w.x[1], element=element, parameters={"nu": 0.05}, names=("u", "p")
    )
    inflow = fa.Fixed("boundary", "u", lambda x: [-(x[1] + 2) * (x[1] + 1), 0.3 * (x[0] - 3)])
    return fa.NonlinearStatic(mesh_of("triangle"), form, [inflow, fa.Fixed("corner", "p")])


PROBLEMS: dict[str, Callable[[], fa.NonlinearStatic]] = {
    "neo-Hooke, quad": lambda: hyperelastic("quad", "neo-Hooke", "dead"),
    "neo-Hooke, triangle6, definite": lambda: hyperelastic("triangle6", "neo-Hooke", "dead", definite=True),
    "neo-Hooke, tetra, follower": lambda: hyperelastic("tetra", "neo-Hooke", "follower"),
    "Kirchhoff, hexahedron": lambda: hyperelastic("hexahedron", "St. Venant-Kirchhoff", "dead"),
    "Kirchhoff, quad+triangle, follower": lambda: hyperelastic("quad+triangle", "St. Venant-Kirchhoff", "follower"),
    "conduction, tetra": lambda: conducting("tetra"),
    "conduction, P2 on triangles": lambda: conducting("triangle", skfem.ElementTriP2()),
    "Navier-Stokes": flow,
}


@cache
def problem_of(name: str) -> fa.NonlinearStatic:
    return PROBLEMS[name]()


@cache
def solution_of(name: str) -> fa.NonlinearSolution:
    return problem_of(name).solve()


def responses_of(problem: fa.NonlinearStatic) -> list[Any]:
    def square(w: Any) -> Any:
        return (dot(w.u, w.u) if w.u.ndim == 3 else w.u**2) * w.x[0]

    def slope(w: Any) -> Any:
        return (w.u.grad**2).sum(axis=tuple(range(w.u.grad.ndim - 2)))

    responses: list[Any] = [fa.Functional(square), fa.Functional(slope)]
    component = None if problem.physics.quantity == "scalar" else "x"
    if problem.residual.space.nodal:
        direction = None if component is None else np.arange(1.0, problem.mesh.dim + 1)
        responses += [fa.FieldNorm("high"), fa.Displacement("high", direction), fa.Reaction("left", component)]
        if not problem.residual.follows:
            responses.append(fa.Compliance())
    return responses


def directions_of(problem: fa.NonlinearStatic) -> list[fa.Design]:
    """Of all nodes, and of all parameters."""
    rng = np.random.default_rng(0)
    rates = {name: rng.uniform(-1, 1, zeros.shape) for name, zeros in problem.parameters.zeros().items()}
    return [fa.Design(rng.uniform(-1, 1, problem.mesh.points.shape)), fa.Design(None, rates)]


def along(solution: fa.NonlinearSolution, direction: fa.Design, t: float) -> fa.NonlinearSolution:
    """The solution on the same branch, a little further along a direction."""
    problem = solution.problem
    points = problem.mesh.points if direction.points is None else problem.mesh.points + t * direction.points
    moved = {name: problem.parameters.value(name) + t * rate for name, rate in direction.parameters.items()}
    return problem.solve(points, moved, start=solution)


@cache
def slopes_of(name: str) -> list[tuple[fa.Design, FloatArray, FloatArray]]:
    """For each direction, differences of sixth order of all responses and of the state."""
    found, h = [], 2e-3
    for direction in directions_of(problem_of(name)):
        values, states = np.zeros(len(responses_of(problem_of(name)))), np.zeros_like(solution_of(name).u)
        for k, weight in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60)):
            for sign in (1, -1):
                there = along(solution_of(name), direction, sign * k * h)
                values += sign * weight / h * np.array([r.value(there) for r in responses_of(problem_of(name))])
                states += sign * weight / h * there.u
        found.append((direction, values, states))
    return found


def product(gradient: fa.Gradient, direction: fa.Design) -> float:
    """``G . direction``."""
    total = 0.0 if direction.points is None else float((gradient.points * direction.points).sum())
    return total + sum(float((gradient.parameters[n] * rate).sum()) for n, rate in direction.parameters.items())


# ---------------------------------------------------------------------- derivatives
@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_against_differences(name: str) -> None:
    solution = solution_of(name)
    values, gradients = fa.values_and_gradients(solution, responses_of(problem_of(name)))
    assert np.abs(solution.u).max() > 0.05
    for direction, expected, _ in slopes_of(name):
        for gradient, value, slope in zip(gradients, values, expected, strict=True):
            assert product(gradient, direction) == pytest.approx(slope, rel=1e-8, abs=1e-9 * abs(value))


@pytest.mark.parametrize("name", PROBLEMS)
def test_forward_and_backward_are_transposed(name: str) -> None:
    """``w . du = G . direction`` to rounding, on the factor of the last iteration, and ``du`` against differences."""
    solution = solution_of(name)
    directions, _, states = zip(*slopes_of(name), strict=True)
    w = np.random.default_rng(5).uniform(-1, 1, solution.u.shape)
    (gradient,) = solution.pullback([fa.Partials(0.0, state=w)])
    for direction, du, expected in zip(directions, solution.pushforward(directions), states, strict=True):
        assert abs((w * du).sum() - product(gradient, direction)) <= 1e-12 * np.abs(w * du).sum()
        assert np.abs(expected - du).max() <= 1e-8 * np.abs(du).max()


def test_derivatives_by_prescribed_values_and_nodal_forces() -> None:
    mesh, material = mesh_of("quad8"), fa.Hyperelastic(2.0, 0.3)
    response = fa.FieldNorm()

    def solve(t: float, start: Any = None) -> fa.NonlinearSolution:
        supports = [fa.Fixed("left"), fa.Fixed("right", "x", 0.2 + t)]
        loads = [fa.PointLoad("opposite", (0.0, -0.1 + 2 * t)), fa.Pressure("bottom", 0.2, follower=True)]
        return fa.NonlinearStatic(mesh, material, supports, loads).solve(start=start)

    solution = solve(0.0)
    _, gradient = fa.value_and_gradient(solution, response)
    exact = gradient.supports[mesh.nodes_of("right"), 0].sum() + 2 * gradient.loads[mesh.nodes_of("opposite"), 1].sum()
    h = 2e-3
    weights = ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))
    values = {k: response.value(solve(k * h, solution)) for k in (-3, -2, -1, 1, 2, 3)}
    assert exact == pytest.approx(sum(c * (values[k] - values[-k]) for k, c in weights) / h, rel=1e-8)


def test_verify_takes_nonlinear_problems() -> None:
    """Order 2 of the Taylor remainders along nodes, and derivatives by E, nu and thickness."""
    checked = fa.verify(problem_of("Kirchhoff, hexahedron"), fa.FieldNorm(), components=0, show=False)
    rates = [test.rate for test in checked.taylor]
    assert any(rate is not None for rate in rates)
    assert all(rate is None or abs(rate - 2) < 0.05 for rate in rates)


# ---------------------------------------------------------------------- counts and convergence
@pytest.mark.parametrize("name", ["neo-Hooke, quad", "Kirchhoff, quad+triangle, follower"])
def test_one_factorisation_an_iteration_and_none_for_derivatives(name: str) -> None:
    problem = PROBLEMS[name]()
    solution = problem.solve()
    assert solution.iterations == sum(step.iterations for step in solution.path) > 3
    expected = fa.Counts(1, solution.iterations)
    assert problem.counts == expected
    fa.values_and_gradients(solution, responses_of(problem))
    solution.pushforward(directions_of(problem))
    solution.solve_adjoint(solution.u)
    assert problem.counts == expected
    again = solution.again()
    assert again.iterations == 1  # at the solution already: one iteration, for the factor
    assert again.u == pytest.approx(solution.u, rel=1e-12)


@pytest.mark.parametrize("name", ["neo-Hooke, quad", "neo-Hooke, tetra, follower", "conduction, tetra"])
def test_iterations_converge_quadratically(name: str) -> None:
    r = np.array(solution_of(name).residuals)
    r = r[(r < 0.1) & (r > 1e-13)]
    assert len(r) >= 2
    orders = np.log(r[1:]) / np.log(r[:-1])
    assert orders[-1] > 1.6
    assert (r[1:] < 30 * r[:-1] ** 2).all()


def test_errors_follow_the_residual() -> None:
    """The gradient's linearly, that of the corrected response with its square; the raw factor's with its root."""
    exact = solution_of("neo-Hooke, quad")
    response = fa.FieldNorm()
    value, gradient = fa.value_and_gradient(exact, response)
    rows = []
    for tolerance in (1e-1, 1e-3, 1e-8):
        problem = fa.NonlinearStatic(
            exact.problem.mesh, exact.problem.physics, exact.problem.supports, exact.problem.loads,
            newton=fa.Newton(tolerance=tolerance),
        )  # fmt: skip
        solution = problem.solve()
        J, found = fa.value_and_gradient(solution, response)
        assert found.value_error is not None
        stale = solution.factor.T.solve(np.where(solution.at.problem.supports.fixed, 0, 2 * solution.u).ravel())
        sharp = solution.solve_adjoint(2 * solution.u).ravel()
        best = exact.solve_adjoint(2 * exact.u).ravel()
        rows.append((
            solution.residuals[-1],
            np.abs(found.points - gradient.points).max() / np.abs(gradient.points).max(),
            abs(J - value) / value,
            abs(J - found.value_error - value) / value,
            *(np.abs(lam - best).max() / np.abs(best).max() for lam in (stale, sharp)),
        ))  # fmt: skip
    residual, error, plain, corrected, stale, sharp = np.array(rows).T
    assert (residual[1:] < 0.1 * residual[:-1]).all()
    assert (error < 10 * residual).all()
    assert (corrected < 10 * residual**2 + 1e-14).all()
    assert (corrected < 0.1 * plain).all()
    assert (stale[1:] > 5 * sharp[1:]).all()
    assert solution_of("neo-Hooke, quad").path[-1].residuals[-1] < 1e-12


def test_a_form_gives_what_the_built_in_material_gives() -> None:
    """Neo-Hooke as a weak form: state and gradients, symmetric as it is."""
    mesh = mesh_of("quad8")
    loads: Any = [fa.BodyForce((0.05, -0.12)), fa.Pressure("top", 0.1, follower=True)]
    weak = fa.NonlinearForm(
        fa.Integral(neo_hooke, order=mesh.blocks[0].reference.stiffness_order), element="vector",
        parameters={"lame": 1.5, "mu": 0.8},
    )  # fmt: skip
    assert "'neo_hooke' over cells (all, 9 points): symmetric tangent; reads lame, mu; 36" in weak.explain(mesh)
    solved = [
        fa.NonlinearStatic(mesh, physics, [fa.Fixed("left")], loads).solve()
        for physics in (weak, fa.Hyperelastic(lame=1.5, mu=0.8))
    ]
    mine, known = (fa.value_and_gradient(solution, fa.FieldNorm())[1] for solution in solved)
    assert solved[0].u == pytest.approx(solved[1].u, abs=1e-12)
    assert mine.points == pytest.approx(known.points, abs=1e-11)
    assert mine.parameters["lame"] == pytest.approx(known.parameters["lame"], abs=1e-11)


def test_a_definite_form_is_factorised_as_one() -> None:
    mesh = mesh_of("quad")

    def solve(**options: Any) -> fa.NonlinearSolution:
        form = fa.NonlinearForm(lambda u, v, w: dot(grad(u), grad(v)) + u**3 * v, [source], **options)
        return fa.NonlinearStatic(mesh, form, [fa.Fixed("left")]).solve()

    definite, indefinite, general = solve(definite=True), solve(), solve(symmetric=False)
    assert [s.at.problem.kind for s in (definite, indefinite, general)] == ["spd", "symmetric", "general"]
    for other in (indefinite, general):
        assert other.u == pytest.approx(definite.u, abs=1e-13)
        one, two = (fa.value_and_gradient(s, fa.FieldNorm())[1].points for s in (definite, other))
        assert one == pytest.approx(two, abs=1e-11)


def test_chains_take_nonlinear_stages() -> None:
    """Conduction that depends on temperature feeds a body whose stiffness depends on it, under large displacements."""
    mesh = mesh_of("quad")

    def softer(u: Any, v: Any, w: Any) -> Any:
        F = grad(u) + np.eye(2)[:, :, None, None]
        E = 0.5 * (np.einsum("ki...,kj...->ij...", F, F) - np.eye(2)[:, :, None, None])
        return 2 * ddot(np.einsum("ij...,jk...->ik...", F, E) / (1 + w.heat**2), grad(v))

    heat = fa.NonlinearForm(lambda u, v, w: w.k * (1 + u**2) * dot(grad(u), grad(v)), parameters={"k": 1.3})
    body = fa.NonlinearForm(softer, element="vector", parameters={"heat": fa.NodalField()})
    chain = fa.Chain({
        "heat": fa.NonlinearStatic(mesh, heat, [fa.Fixed("left")], [fa.Source(1.0)]),
        "body": fa.NonlinearStatic(mesh, body, [fa.Fixed("left")], [fa.BodyForce((0.0, -0.1))]),
    })  # fmt: skip
    gradient: Any = fa.value_and_gradient(chain.solve(), fa.FieldNorm())[1]
    rng = np.random.default_rng(2)
    V = rng.uniform(-1, 1, mesh.points.shape)

    def moved(t: float) -> float:
        solution = chain.solve(mesh.points + t * V, {"heat.k": 1.3 + t})
        return fa.FieldNorm().value(solution.last)

    h = 2e-3
    slope = sum(c * (moved(k * h) - moved(-k * h)) for k, c in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))) / h
    exact = (gradient.points * V).sum() + gradient.parameters["heat.k"]
    assert exact == pytest.approx(slope, rel=1e-9)
    assert chain.counts.factorisations > 6


def elastic(u: Any, v: Any, w: Any) -> Any:
    return w.nu * div(u) * div(v) + 2 * ddot(sym_grad(u), sym_grad(v)) * w.x[0]


@pytest.mark.parametrize(
    "physics", [fa.Elasticity(2.0, 0.3, thickness=0.4), fa.Form(elastic, element="vector", parameters={"nu": 0.3})]
)
def test_a_linear_problem_takes_one_iteration(physics: Any) -> None:
    given: Any = mesh_of("quad"), physics, [fa.Fixed("left", value=lambda x: x)], [fa.Pressure("top", 0.3)]
    linear, problem = fa.LinearStatic(*given).solve(), fa.NonlinearStatic(*given)
    solution = problem.solve()
    assert solution.iterations == 1
    assert solution.u == pytest.approx(linear.u, rel=1e-11)
    assert solution.reactions() == pytest.approx(linear.reactions(), abs=1e-11)
    for response in (fa.Compliance(), fa.StrainEnergy(), fa.Reaction("left", "y")):
        (a, one), (b, other) = (fa.value_and_gradient(s, response) for s in (linear, solution))
        assert a == pytest.approx(b, rel=1e-11)
        assert one.points == pytest.approx(other.points, abs=1e-10)
        assert one.supports == pytest.approx(other.supports, abs=1e-10)
        assert one.parameters["nu"] == pytest.approx(other.parameters["nu"], rel=1e-10)
        assert one.value_error is None


@pytest.mark.parametrize("name", ["neo-Hooke, triangle6, definite", "neo-Hooke, quad", "neo-Hooke, tetra, follower"])
def test_every_solver_finds_the_same(name: str) -> None:
    problem = problem_of(name)
    others = [
        fa.NonlinearStatic(problem.mesh, problem.physics, problem.supports, problem.loads, solver=solver).solve()
        for solver in fa.available_solvers()
    ]
    for other in others:
        assert other.u == pytest.approx(solution_of(name).u, abs=1e-11)


# ---------------------------------------------------------------------- what is refused
def test_responses_of_linear_problems_are_refused() -> None:
    with pytest.raises(fa.ResponseError, match="of a linear problem"):
        fa.value_and_gradient(solution_of("neo-Hooke, quad"), fa.StrainEnergy())
    with pytest.raises(fa.ResponseError, match="follow the displacement"):
        fa.value_and_gradient(solution_of("neo-Hooke, tetra, follower"), fa.Compliance())


@pytest.mark.parametrize("name", ["neo-Hooke, quad", "conduction, tetra"])
def test_linear_static_refuses_nonlinear_physics(name: str) -> None:
    problem = problem_of(name)
    with pytest.raises(fa.ProblemError, match="NonlinearStatic"):
        fa.LinearStatic(problem.mesh, problem.physics, problem.supports, problem.loads)
    with pytest.raises(fa.ProblemError, match="a load follows"):
        fa.LinearStatic(
            mesh_of("quad"), fa.Elasticity(1.0, 0.3), [fa.Fixed("left")], [fa.Pressure("top", 1.0, follower=True)]
        )


def laplace(u: Any, v: Any, w: Any) -> Any:
    return dot(grad(u), grad(v))


BAD_FORMS: dict[str, tuple[Callable[..., Any], str]] = {
    "square of v": (lambda u, v, w: u * v**2, "not linear in v"),
    "without v": (lambda u, v, w: u**2 + v, "not linear in v"),
    "absolute v": (lambda u, v, w: u * np.abs(v), "not linear in v"),
    "always NaN": (lambda u, v, w: np.log(-1 - u**2) * v, "NaN"),
    "raises": (lambda u, v, w: u.nothing * v, "failed"),
    "shape": (lambda u, v, w: grad(u) * v, "one number at every quadrature point"),
    "mixes points": (lambda u, v, w: u.max() * v, "mixes points"),
    "kills the step": (lambda u, v, w: np.array([float(a) for a in np.ravel(u)]).reshape(u.shape) * v, "float"),
    "unknown name": (lambda u, v, w: w.nothing * u * v, "nothing"),
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_bad_forms_are_refused_when_the_problem_is_built(name: str) -> None:
    form, words = BAD_FORMS[name]
    with pytest.raises(fa.FemadjError, match=words):
        fa.NonlinearStatic(mesh_of("quad"), fa.NonlinearForm(form), [fa.Fixed("left")])


def test_what_a_form_does_at_the_solution_counts() -> None:
    """It may be linear in v, symmetric, smooth where it was tried, and not there."""
    mesh = mesh_of("quad")

    def solve(form: Callable[..., Any], **options: Any) -> fa.NonlinearSolution:
        physics = fa.NonlinearForm([laplace, form], [lambda v, w: 900.0 * v], **options)
        return fa.NonlinearStatic(mesh, physics, [fa.Fixed("left")]).solve()

    with pytest.raises(fa.FormError, match="not linear in v"):
        solve(lambda u, v, w: np.where(u > 50, v**2, v))
    with pytest.raises(fa.FormError, match="symmetric=False"):
        solve(lambda u, v, w: np.where(u > 50, u - 50, 0.0) ** 2 * grad(u)[0] * v)
    assert solve(
        lambda u, v, w: 1e-4 * np.where(u > 50, u - 50, 0.0) ** 2 * grad(u)[0] * v, symmetric=False
    ).at.problem.kind == "general"  # fmt: skip
    with pytest.raises(fa.FormError, match="symmetric=True"):
        solve(lambda u, v, w: u * grad(u)[0] * v, symmetric=True)
    with pytest.raises(fa.FormError, match="definite=True"):
        solve(lambda u, v, w: u * grad(u)[0] * v, definite=True)
    with pytest.raises(fa.FormError, match="interior facets"):
        solve(fa.Integral(lambda u, v, w: u * v, over="interior facets"))
    with pytest.raises(fa.FormError, match="two of them"):
        solve(fa.Integral(lambda u, v, w: u**2 * w.n[0] * v, "middle"))


def test_forms_say_what_was_found() -> None:
    problem = problem_of("conduction, tetra")
    physics: Any = problem.physics
    assert repr(physics) == "NonlinearForm(conduction, radiation, source; element=1)"
    text = physics.explain(problem.mesh)
    assert "unsymmetric tangent; reads c, h, k, x; 16 evaluations" in text
    assert "'radiation' over facets (right" in text
    assert "NonlinearStatic(" in repr(problem)
    told = repr(solution_of("conduction, tetra"))
    assert told.startswith("NonlinearSolution(")
    assert "newton: 1 load step(s), " in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": "small"}, "tolerance"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"line_search": 1}, "line_search"),
        ({"load_steps": "many"}, "load_steps"),
        ({"load_steps": 0}, "load_steps"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(fa.ProblemError, match=words):
        fa.Newton(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"E": 1.0}, "E and nu, or lame and mu"),
        ({"E": 1.0, "nu": 0.3, "mu": 1.0}, "not E, nu, mu"),
        ({"E": -1.0, "nu": 0.3}, "positive"),
        ({"E": 1.0, "nu": 0.5}, "between -1 and 0.5"),
        ({"lame": -1.0, "mu": 1.0}, "bulk modulus"),
        ({"E": 1.0, "nu": 0.3, "stored": "Mooney"}, "stored"),
        ({"E": 1.0, "nu": 0.3, "definite": "yes"}, "definite"),
        ({"E": {"low": 1.0}, "nu": 0.3}, "not given for cells"),
    ],
)
def test_materials_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(fa.MaterialError, match=words):
        fa.NonlinearStatic(mesh_of("quad"), fa.Hyperelastic(**options), [fa.Fixed("left")])


def test_other_bad_input() -> None:
    problem = problem_of("neo-Hooke, quad")
    with pytest.raises(fa.ProblemError, match=r"Newton\(\.\.\.\)"):
        fa.NonlinearStatic(problem.mesh, problem.physics, problem.supports, newton=1e-8)  # type: ignore[arg-type]
    with pytest.raises(fa.ProblemError, match="start"):
        problem.solve(start=np.zeros(3))
    with pytest.raises(fa.TangledMeshError):
        problem.solve(problem.mesh.points * (-1, 1))
    with pytest.raises(fa.LoadError, match="follower"):
        fa.NonlinearStatic(problem.mesh, problem.physics, problem.supports, [fa.Pressure("top", 1.0, follower="yes")])  # type: ignore[arg-type]
    by_lame = fa.NonlinearStatic(problem.mesh, fa.Hyperelastic(lame=1.0, mu=1.0), [fa.Fixed("left")])
    with pytest.raises(fa.MaterialError, match="bulk modulus"):
        by_lame.solve(parameters={"lame": -2.0})


# ---------------------------------------------------------------------- factors of matrices near by
def test_a_factor_near_by_is_refined_or_refused() -> None:
    rng = np.random.default_rng(0)
    dense = rng.uniform(-1, 1, (30, 30)) + 20 * np.eye(30)
    matrix = csr_array(dense)
    pattern = CsrPattern(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), "full")
    factor = fa.get_solver("auto").analyse(pattern, "general").factor(matrix.data)
    other = dense + rng.uniform(-0.5, 0.5, dense.shape)
    b = rng.uniform(-1, 1, (30, 3))
    near = NearbyFactor.of(factor, other.ravel(), 2.0**-53)
    assert near.solve(b) == pytest.approx(np.linalg.solve(other, b), rel=1e-13)
    assert near.T.solve(b[:, 0]) == pytest.approx(np.linalg.solve(other.T, b[:, 0]), rel=1e-13)
    assert near.T.T.solve(b) == pytest.approx(near.solve(b), rel=1e-14)
    with pytest.raises(fa.ConvergenceError, match="smaller tolerance"):
        NearbyFactor.of(factor, 5 * other.ravel(), 2.0**-53).solve(b)
