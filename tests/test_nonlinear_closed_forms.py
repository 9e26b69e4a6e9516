"""Nonlinear statics against closed forms: patch tests, a scalar equation, the elastica, and limits of loads."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from skfem.helpers import ddot, dot, grad

import femadj as fa
from tests.meshes import box_mesh, dim_of, rotation

FloatArray = npt.NDArray[np.float64]
MATERIALS: tuple[Literal["neo-Hooke", "St. Venant-Kirchhoff"], ...] = ("neo-Hooke", "St. Venant-Kirchhoff")


# ---------------------------------------------------------------------- patch tests
@pytest.mark.parametrize("stored", MATERIALS)
@pytest.mark.parametrize("cell", ["quad8", "triangle", "wedge"])
def test_rotations_are_free_of_stress(cell: str, stored: Any) -> None:
    """The boundary is turned by 1.2 rad and moved: no forces, and the inside follows."""
    dim = dim_of(cell)
    mesh = box_mesh(cell, (2, 2, 2)[:dim], distortion=0.12, origin=(3.0, -2.0, 5.0)[:dim], seed=3)
    R = rotation(dim, 1.2)

    def turned(x: Any) -> Any:
        centred = [x[i] - 3.0 for i in range(dim)]
        return [sum(R[i, j] * centred[j] for j in range(dim)) - centred[i] + 0.3 for i in range(dim)]

    problem = fa.NonlinearStatic(mesh, fa.Hyperelastic(2.0, 0.3, stored=stored), [fa.Fixed("boundary", value=turned)])
    solution = problem.solve()
    exact = (mesh.points - 3.0) @ (R - np.eye(dim)).T + 0.3
    assert solution.u == pytest.approx(exact, abs=1e-12)
    assert np.abs(solution.reactions()).max() < 1e-12


@pytest.mark.parametrize("stored", MATERIALS)
def test_uniform_deformations_are_exact(stored: Any) -> None:
    """``u = H x`` on the boundary: the inside follows, and reactions balance ``P n`` of the formula."""
    mesh = box_mesh("quad", (3, 2), distortion=0.12, seed=3)
    H = np.array([[0.3, 0.4], [-0.1, -0.2]])
    material = fa.Hyperelastic(lame=1.5, mu=0.8, stored=stored)
    problem = fa.NonlinearStatic(
        mesh, material, [fa.Fixed("boundary", value=lambda x: [H[i, 0] * x[0] + H[i, 1] * x[1] for i in range(2)])]
    )
    solution = problem.solve()
    assert solution.u == pytest.approx(mesh.points @ H.T, abs=1e-12)
    F, J = np.eye(2) + H, np.linalg.det(np.eye(2) + H)
    E = (F.T @ F - np.eye(2)) / 2
    inverse = np.linalg.inv(F).T
    P = {
        "neo-Hooke": 0.8 * (F - inverse) + 1.5 * np.log(J) * inverse,
        "St. Venant-Kirchhoff": F @ (1.5 * np.trace(E) * np.eye(2) + 2 * 0.8 * E),
    }[stored]
    work = solution.reactions().T @ mesh.points  # sum of r (x) X is the integral of P
    assert work == pytest.approx(P * mesh.cell_volumes(mesh.points).sum(), rel=1e-11)


def test_prescribed_displacements_go_with_the_tangent() -> None:
    """A block is pressed to half its height in one step: put in ahead, the values would turn a row inside out."""
    mesh = box_mesh("quad", (4, 8), distortion=0.1, seed=1)
    supports = [fa.Fixed("bottom"), fa.Fixed("top", "y", -0.5)]
    solution = fa.NonlinearStatic(mesh, fa.Hyperelastic(1.0, 0.3), supports).solve()
    assert len(solution.path) == 1
    assert solution.u[mesh.nodes_of("top"), 1] == pytest.approx(-0.5, abs=0)


# ---------------------------------------------------------------------- a bar
@pytest.mark.parametrize("load", [1.0, -0.5])
def test_a_bar_follows_the_scalar_equation(load: float) -> None:
    """Neo-Hooke in plane strain under a dead traction ``t``: ``P_22 = 0``, ``P_11 = t`` with the stretches a, b."""
    lame, mu = 1.5, 0.8

    def across(a: float) -> float:
        return float(brentq(lambda b: mu * (b - 1 / b) + lame * np.log(a * b) / b, 0.05, 20, xtol=1e-15))

    def excess(a: float) -> float:
        b = across(a)
        return mu * (a - 1 / a) + lame * np.log(a * b) / a - load

    a = brentq(excess, 0.2, 20, xtol=1e-15)
    mesh = box_mesh("triangle6", (2, 2), lengths=(2.0, 1.0), distortion=0.1, flat=True, seed=2)
    supports = [fa.Fixed("left", "x"), fa.Fixed("bottom", "y")]
    problem = fa.NonlinearStatic(
        mesh, fa.Hyperelastic(lame=lame, mu=mu, thickness=0.4), supports, [fa.Traction("right", (load, 0.0))]
    )
    solution = problem.solve()
    assert solution.u[mesh.nodes_of("right"), 0] == pytest.approx(2 * (a - 1), rel=1e-11)
    assert solution.u[mesh.nodes_of("top"), 1] == pytest.approx(across(a) - 1, rel=1e-11)
    _, gradient = fa.value_and_gradient(solution, fa.Displacement("right", "x"))
    longer = np.zeros_like(mesh.points)
    longer[:, 0] = mesh.points[:, 0]
    assert (gradient.points * longer).sum() == pytest.approx(2 * (a - 1), rel=1e-9)  # proportional to its length
    assert gradient.parameters["thickness"] == pytest.approx(0.0, abs=1e-10)


# ---------------------------------------------------------------------- the elastica
HEIGHT, YOUNG = 0.02, 12.0 / 0.02**3  # EI = 1 for a length of 1


@cache
def cantilever() -> fa.Mesh:
    return box_mesh("quad8", (16, 1), lengths=(1.0, HEIGHT), curved=False)


def tip_of(load: Any, **options: Any) -> tuple[FloatArray, fa.NonlinearSolution]:
    mesh = cantilever()
    material = fa.Hyperelastic(YOUNG, 0.0, stored="St. Venant-Kirchhoff", **options)
    solution = fa.NonlinearStatic(mesh, material, [fa.Fixed("left")], [load]).solve()
    return solution.u[mesh.nodes_of("right")].mean(axis=0), solution


@pytest.mark.parametrize("force", [1.0, 10.0])
def test_a_dead_end_load_bends_a_beam_into_the_elastica(force: float) -> None:
    """``theta'' = -P cos theta``, clamped and free of moment at the end (Bisshopp and Drucker 1945)."""

    def shot(curvature: float) -> Any:
        return solve_ivp(
            lambda s, y: [y[1], -force * np.cos(y[0]), np.cos(y[0]), np.sin(y[0])], (0, 1), [0, curvature, 0, 0],
            rtol=1e-10, atol=1e-12,
        ).y[:, -1]  # fmt: skip

    end = shot(brentq(lambda c: shot(c)[1], 0.1, (2 * force) ** 0.5))
    tip, _ = tip_of(fa.TotalForce("right", (0.0, force)))
    assert tip == pytest.approx([end[2] - 1, end[3]], rel=5e-3)


def test_a_pressure_that_follows_bends_a_beam_without_end() -> None:
    """In axes that turn with the beam ``m' = -Q``, ``Q' = -q - N m``, ``N' = Q m``; the end is free of all three."""
    q = 8.0

    def rates(s: float, y: FloatArray) -> list[float]:
        theta, m, Q, N = y[:4]
        return [m, -Q, -q - N * m, Q * m, np.cos(theta), np.sin(theta)]

    y = solve_ivp(rates, (1, 0), [0.0, 0, 0, 0, 0, 0], rtol=1e-10, atol=1e-12).y[:, -1]
    c, s = np.cos(y[0]), np.sin(y[0])
    end = -np.array([c * y[4] + s * y[5], -s * y[4] + c * y[5]])
    tip, solution = tip_of(fa.Pressure("bottom", q, follower=True))
    assert abs(y[0]) > 1.0
    assert tip == pytest.approx([end[0] - 1, end[1]], rel=2e-2)
    dead, _ = tip_of(fa.Pressure("bottom", q))
    assert abs(dead[1] - tip[1]) > 0.05
    assert solution.at.problem.kind == "general"


# ---------------------------------------------------------------------- loads with a limit
@cache
def arch() -> fa.Mesh:
    """A shallow arch, clamped at both ends."""
    span, rise, thickness = 2.0, 0.12, 0.04
    mesh = box_mesh("quad8", (8, 1), lengths=(span, thickness), curved=False)
    points = mesh.points.copy()
    radius = (1 + rise**2) / (2 * rise)
    points[:, 1] += np.sqrt(radius**2 - (points[:, 0] - 1) ** 2) - (radius - rise)
    crown = {"crown": lambda x: (abs(x[0] - 1) < 1e-9) & (x[1] > rise + 0.99 * thickness)}
    return mesh.with_points(points).with_groups(node_groups=crown)


def arch_problem(loads: Any, supports: Any = (), **options: Any) -> fa.NonlinearStatic:
    material = fa.Hyperelastic(1.0, 0.3, stored="St. Venant-Kirchhoff", **options)
    return fa.NonlinearStatic(arch(), material, [fa.Fixed("left"), fa.Fixed("right"), *supports], loads)


@pytest.mark.parametrize("definite", [False, True])
def test_an_arch_ends_at_its_limit_with_the_last_equilibrium(definite: bool) -> None:
    """The limit is that of the same arch under a prescribed displacement, where the reaction is largest."""
    depths = np.linspace(0.04, 0.06, 5)
    pressed = [
        arch_problem([], [fa.Fixed("crown", "y", -depth)]).solve() for depth in depths
    ]  # fmt: skip
    forces = [-fa.Reaction("crown", "y").value(solution) for solution in pressed]
    a, b, c = np.polyfit(depths, forces, 2)
    limit = c - b**2 / (4 * a)
    problem = arch_problem([fa.PointLoad("crown", (0.0, -1.2 * limit))], definite=definite)
    with pytest.raises(fa.ConvergenceError, match="limit point") as caught:
        problem.solve()
    error = caught.value
    assert error.level == pytest.approx(1 / 1.2, rel=2e-3)
    assert "error.u" in str(error)
    assert f"{error.level:.6g}" in str(error)
    assert [step.level for step in error.path] == sorted(step.level for step in error.path)
    assert error.path[-1].u is not None
    assert (error.path[-1].u == error.u).all()
    below = arch_problem([fa.PointLoad("crown", (0.0, -1.2 * limit * error.level))]).solve(start=error.u)
    assert below.iterations <= 2  # it is an equilibrium
    assert 0.04 < -below.u[arch().nodes_of("crown")[0], 1] < -depths[0] + 0.1


def test_past_the_limit_equilibria_are_not_stable() -> None:
    """A prescribed displacement can hold the arch there; under dead loads the tangent has a negative eigenvalue."""
    held = arch_problem([], [fa.Fixed("crown", "y", -0.09)]).solve()
    force = fa.Reaction("crown", "y").value(held)
    loaded = arch_problem([fa.PointLoad("crown", (0.0, force))]).solve(start=held)
    assert loaded.u == pytest.approx(held.u, abs=1e-9)
    if loaded.path[-1].negative is not None:  # SuperLU does not tell
        assert loaded.path[-1].negative == held.path[-1].negative + 1
    exact = fa.value_and_gradient(loaded, fa.Displacement("crown", "y"))[1]
    assert np.isfinite(exact.points).all()
    with pytest.raises(fa.IndefiniteSystemError, match="not positive definite"):
        arch_problem([fa.PointLoad("crown", (0.0, force))], definite=True).solve(start=held)


def column(force: float, across: float) -> fa.NonlinearSolution:
    """The cantilever as a column under a part of Euler's load, with a small force across."""
    euler = np.pi**2 / 4
    loads = [fa.TotalForce("right", (-force * euler, across * euler))]
    material = fa.Hyperelastic(YOUNG, 0.0, stored="St. Venant-Kirchhoff")
    return fa.NonlinearStatic(cantilever(), material, [fa.Fixed("left")], loads).solve()


@pytest.mark.filterwarnings("ignore:the solution may be wrong:femadj.errors.IllConditionedWarning")
def test_a_column_that_is_pushed_aside_buckles_and_a_straight_one_passes_by() -> None:
    """Above Euler's load: a stable branch far to the side is followed to where the elastica is, or none is there."""
    straight = column(1.1, 0.0)
    if straight.path[-1].negative is None:
        pytest.skip("the solver does not tell how many eigenvalues are negative")
    assert straight.path[-1].negative == 1
    assert np.abs(straight.u[:, 1]).max() < 1e-9
    assert any(step.level == pytest.approx(1 / 1.1, abs=0.01) for step in straight.path)
    bent = column(1.1, 1e-3)
    assert bent.path[-1].negative == 0

    def shot(angle: float) -> Any:  # from the free end back: theta'' = -P sin(theta)
        rates = solve_ivp(
            lambda s, y: [y[1], -1.1 * np.pi**2 / 4 * np.sin(y[0]), np.sin(y[0])], (0, 1), [angle, 0, 0],
            rtol=1e-10, atol=1e-12,
        )  # fmt: skip
        return rates.y[:, -1]

    end = shot(brentq(lambda angle: shot(angle)[0], 0.3, 2.0))[2]
    tip = bent.u[cantilever().nodes_of("right"), 1].mean()
    assert tip == pytest.approx(end, rel=2e-2)


# ---------------------------------------------------------------------- where iterations need help
def slope(u: Any, v: Any, w: Any) -> Any:
    return 1e-3 * dot(grad(u), grad(v)) + np.arctan(u - 2.0) * v


def test_steps_are_shortened_where_corrections_grow() -> None:
    """Newton's method for the arc tangent diverges from far away, unless its steps are shortened."""
    mesh = box_mesh("quad", (2, 2))
    start = np.full((mesh.n_nodes, 1), 6.0)

    def problem(**options: Any) -> fa.NonlinearStatic:
        return fa.NonlinearStatic(mesh, fa.NonlinearForm(slope), newton=fa.Newton(max_iterations=40, **options))

    assert problem().solve(start=start).u == pytest.approx(2.0, rel=1e-12)
    with pytest.raises(fa.ConvergenceError, match="given as start"):
        problem(line_search=False).solve(start=start)


def test_states_without_a_residual_are_passed_by() -> None:
    """A material without a value beyond a temperature, which the first step of Newton's method oversteps."""
    mesh = box_mesh("quad", (3, 2), distortion=0.1)

    def conduction(u: Any, v: Any, w: Any) -> Any:
        return dot(grad(u), grad(v)) / (1 - u) ** 2 + 0 * np.sqrt(1 - u) * v

    problem = fa.NonlinearStatic(mesh, fa.NonlinearForm(conduction), [fa.Fixed("left")], [fa.Source(10.0)])
    solution = problem.solve()
    assert 0.5 < solution.u.max() < 1.0
    linear = fa.LinearStatic(mesh, fa.Diffusion(1.0), [fa.Fixed("left")], [fa.Source(10.0)]).solve()
    assert linear.u.max() > 1.0


def test_cells_that_would_turn_inside_out_are_named() -> None:
    mesh = box_mesh("quad", (2, 2))
    supports = [fa.Fixed("bottom"), fa.Fixed("top", "y", -1.5)]
    with pytest.raises(fa.ConvergenceError, match="turned inside out") as caught:
        fa.NonlinearStatic(mesh, fa.Hyperelastic(1.0, 0.3), supports, newton=fa.Newton(load_steps=4)).solve()
    assert 0.5 < caught.value.level < 0.67  # it is flat at two thirds
    assert caught.value.path[0].level <= 0.25


def test_load_steps_as_many_as_asked_for() -> None:
    mesh = box_mesh("quad", (2, 1))
    given: Any = (mesh, fa.Hyperelastic(1.0, 0.3), [fa.Fixed("left")], [fa.Traction("right", (0.0, 0.05))])
    steps = fa.NonlinearStatic(*given, newton=fa.Newton(load_steps=4)).solve()
    assert [step.level for step in steps.path] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert steps.u == pytest.approx(fa.NonlinearStatic(*given).solve().u, rel=1e-11)
    assert steps.path[-1].u == pytest.approx(steps.u, abs=0)


def test_a_singular_tangent_names_the_unknown() -> None:
    mesh = box_mesh("quad", (2, 2))
    free = fa.NonlinearForm(lambda u, v, w: (1 + u**2) * dot(grad(u), grad(v)), [lambda v, w: v])
    with pytest.raises(fa.SingularSystemError, match="component u"):
        fa.NonlinearStatic(mesh, free).solve()


def test_a_form_without_a_value_at_rest_says_so() -> None:
    """Where nothing can be tried from rest, a start helps."""
    mesh = box_mesh("quad", (2, 2))
    form = fa.NonlinearForm(lambda u, v, w: dot(grad(u), grad(v)) / u + np.log(u - 1) * v)
    problem = fa.NonlinearStatic(mesh, form)
    with pytest.raises(fa.FormError, match="NaN or infinite"):
        problem.solve()
    assert problem.solve(start=np.full((mesh.n_nodes, 1), 2.3)).u == pytest.approx(2.0, rel=1e-12)


# ---------------------------------------------------------------------- rounding
@pytest.mark.parametrize("stored", MATERIALS)
def test_small_loads_give_linear_elasticity(stored: Any) -> None:
    """All digits of displacements and gradients, where strains are as small as 1e-9."""
    mesh = box_mesh("triangle6", (2, 1), distortion=0.1)
    given: Any = [fa.Fixed("left")], [fa.Traction("right", (0.0, 1e-9))]
    solution = fa.NonlinearStatic(mesh, fa.Hyperelastic(1.0, 0.3, stored=stored), *given).solve()
    linear = fa.LinearStatic(mesh, fa.Elasticity(1.0, 0.3), *given).solve()
    assert solution.iterations <= 3
    assert solution.u == pytest.approx(linear.u, rel=1e-7)
    assert solution.residuals[-1] < 1e-12
    (_, mine), (_, known) = (fa.value_and_gradient(s, fa.FieldNorm()) for s in (solution, linear))
    assert np.abs(mine.points - known.points).max() < 1e-7 * np.abs(known.points).max()


def test_rounding_inside_of_a_form_ends_iterations() -> None:
    """``F = I + grad u`` has lost the digits of small strains: what is left of the residual is told."""
    mesh = box_mesh("quad", (2, 1))

    def kirchhoff(u: Any, v: Any, w: Any) -> Any:
        F = grad(u) + np.eye(2)[:, :, None, None]
        E = 0.5 * (np.einsum("ki...,kj...->ij...", F, F) - np.eye(2)[:, :, None, None])
        return ddot(np.einsum("ij...,jk...->ik...", F, E), grad(v))

    form = fa.NonlinearForm(kirchhoff, element="vector")
    solution = fa.NonlinearStatic(mesh, form, [fa.Fixed("left")], [fa.Traction("right", (0.0, 1e-6))]).solve()
    assert 1e-12 < solution.residuals[-1] < 1e-8
    _, gradient = fa.value_and_gradient(solution, fa.Displacement("right", "y"))
    assert gradient.value_error != 0.0


def test_a_law_that_is_stiff_at_rest_is_no_jump() -> None:
    """The tangent at rest predicts next to nothing, that at the end three times too much."""
    mesh = box_mesh("quad", (3, 2))

    def shear_thinning(u: Any, v: Any, w: Any) -> Any:
        return (1e-4 + dot(grad(u), grad(u))) ** (-1 / 3) * dot(grad(u), grad(v))

    problem = fa.NonlinearStatic(mesh, fa.NonlinearForm(shear_thinning), [fa.Fixed("left")], [fa.Flux("right", 1.0)])
    solution = problem.solve()
    assert solution.u[mesh.nodes_of("right")] == pytest.approx(1.0, rel=1e-3)  # |u'|^(1/3) = 1
    assert len(solution.path) < 8


def test_errors_of_the_machine_are_not_taken_for_those_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = arch_problem([fa.PointLoad("crown", (0.0, -1e-6))])

    def full(values: FloatArray) -> Any:
        raise fa.SolverMemoryError("no memory left")

    monkeypatch.setattr(problem, "_factor", full)
    with pytest.raises(fa.SolverMemoryError):
        problem.solve()
