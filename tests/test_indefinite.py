"""Symmetric systems that are not positive definite: waves of a given frequency, above the first resonance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
from skfem.helpers import ddot, dot, grad, sym_grad, trace

import femadj as fa
from tests.meshes import box_mesh, dim_of
from tests.products import Products
from tests.test_forms import compare, kind_of, multiplied
from tests.test_gradients import SOLVERS, Weighted, assert_exact, assert_second_order, mesh_of, supports_of

FloatArray = npt.NDArray[np.float64]

CELLS = ("quad", "triangle6", "tetra")


# ---------------------------------------------------------------------- what is combined
def stiff(u: Any, v: Any, w: Any) -> Any:
    return dot(grad(u), grad(v))


def inert(u: Any, v: Any, w: Any) -> Any:
    return -w.squared * u * v


def helmholtz(squared: Any, **options: Any) -> fa.Form:
    """``-div grad u - squared u = 1 + x``."""
    return fa.Form([stiff, inert], lambda v, w: (1 + w.x[0]) * v, parameters={"squared": squared}, **options)


def vibration(squared: float, **options: Any) -> fa.Form:
    """Elastic waves in a body."""

    def elastic(u: Any, v: Any, w: Any) -> Any:
        strain = sym_grad(u)
        return 1.2 * ddot(strain, sym_grad(v)) + 0.8 * trace(strain) * trace(grad(v)) - w.squared * dot(u, v)

    return fa.Form(elastic, lambda v, w: v[0], element="vector", parameters={"squared": squared}, **options)


def problem_of(mesh: fa.Mesh, form: fa.Form, supports: str = "moving", **options: Any) -> fa.LinearStatic:
    nc = len(form.components(mesh.dim))
    return fa.LinearStatic(mesh, form, supports_of(supports, mesh, nc), threads=1, **options)


def between_resonances(mesh: fa.Mesh, number: int, form: Any = helmholtz) -> float:
    """Halfway between two squared eigenfrequencies of the supported body; ``number`` of them lie below."""
    still = problem_of(mesh, form(0.0))
    free = ~still.residual.supports.fixed.ravel()
    K = multiplied(still, mesh.points)
    mass = K - multiplied(problem_of(mesh, form(1.0)), mesh.points)
    found = scipy.linalg.eigh(K[np.ix_(free, free)], mass[np.ix_(free, free)], eigvals_only=True)
    return float(found[number - 1] + found[number]) / 2


def inertia_of(solution: fa.Solution) -> tuple[int, int]:
    """Numbers of positive and negative eigenvalues among the free unknowns."""
    free = ~solution.at.problem.supports.fixed.ravel()
    n, nc = solution.u.shape
    columns = [Products(solution).stiffness_times(solution.points, e.reshape(n, nc)).ravel() for e in np.eye(n * nc)]
    found = np.linalg.eigvalsh(np.array(columns)[np.ix_(free, free)])
    return int((found > 0).sum()), int((found < 0).sum())


RESPONSES: dict[str, fa.Response] = {
    "own": Weighted(),
    "norm": fa.FieldNorm(),
    "compliance": fa.Compliance(),
    "energy": fa.StrainEnergy(),
    "fourth power": fa.Functional(lambda w: (w.u**2 if w.u.ndim < 3 else dot(w.u, w.u)) ** 2),
}


# ---------------------------------------------------------------------- gradients
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("below", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_gradient_above_resonances(cell: str, below: int, solver: str) -> None:
    mesh = mesh_of(cell)
    problem = problem_of(mesh, helmholtz(between_resonances(mesh, below)), solver=solver)
    assert kind_of(problem) == "symmetric"
    solution = problem.solve()
    assert inertia_of(solution)[1] == below
    reported = solution.factor.statistics.inertia
    if reported is not None:  # supported unknowns keep a positive entry on the diagonal
        assert reported == (solution.u.size - below, below)
    assert_exact(problem, RESPONSES)
    assert_second_order(problem, RESPONSES)
    assert solution.factor.T is solution.factor


@pytest.mark.parametrize("solver", SOLVERS)
def test_elastic_waves(solver: str) -> None:
    mesh = mesh_of("quad")
    for below in (1, 3):
        problem = problem_of(mesh, vibration(between_resonances(mesh, below, vibration)), solver=solver)
        assert kind_of(problem) == "symmetric"
        assert inertia_of(problem.solve())[1] == below
        assert_exact(problem, RESPONSES)


@pytest.mark.parametrize("squared", [5.0, 300.0, 3000.0])
@pytest.mark.parametrize("solver", SOLVERS)
def test_negative_diagonals_at_supports(solver: str, squared: float) -> None:
    """Whatever the matrix has there, supported unknowns take the prescribed values, and their gradients are right."""
    mesh = mesh_of("quad")
    problem = problem_of(mesh, helmholtz(squared), solver=solver)
    solution = problem.solve()
    fixed = problem.residual.supports.fixed
    diagonal = np.diag(multiplied(problem, mesh.points)).reshape(fixed.shape)[fixed]
    assert (diagonal < 0).any() == (squared > 5.0)
    assert np.abs(solution.u - solution.prescribed.values)[fixed].max() <= 1e-14
    assert_exact(problem, RESPONSES)
    _, gradient = fa.value_and_gradient(solution, Weighted())
    nodes = np.flatnonzero(fixed[:, 0])
    given = solution.u[nodes]
    step = np.random.default_rng(0).uniform(-1, 1, given.shape)
    held = mesh.with_groups(node_groups={"held": nodes})

    def value(t: float) -> float:
        supports = [fa.Fixed("held", value=given + t * step)]
        return Weighted().evaluate(fa.LinearStatic(held, helmholtz(squared), supports, solver=solver).solve()).value

    expected = (value(1.0) - value(-1.0)) / 2  # exact, for a quadratic response
    assert (gradient.supports[nodes] * step).sum() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["number", "NodalField", "CellField"])
def test_gradient_by_the_wave_number(kind: str) -> None:
    mesh = mesh_of("triangle6")
    middle = between_resonances(mesh, 1)
    rng = np.random.default_rng(1)
    given: Any = {
        "number": np.array(middle),
        "NodalField": middle * rng.uniform(0.9, 1.1, mesh.n_nodes),
        "CellField": middle * rng.uniform(0.9, 1.1, mesh.n_cells),
    }[kind]
    problem = problem_of(mesh, helmholtz(given if kind == "number" else getattr(fa, kind)(given)))
    assert inertia_of(problem.solve())[1] == 1
    at_rest, gradients = fa.values_and_gradients(problem.solve(), list(RESPONSES.values()))
    step = rng.uniform(-1, 1, given.shape)

    def values(t: float) -> FloatArray:
        solution = problem.solve(parameters={"squared": given + t * step})
        return np.array([r.evaluate(solution).value for r in RESPONSES.values()])

    compare([g.parameters["squared"] * step for g in gradients], values, at_rest, list(RESPONSES))
    assert_exact(problem, RESPONSES)


def test_verify_agrees() -> None:
    mesh = mesh_of("quad")
    problem = problem_of(mesh, helmholtz(between_resonances(mesh, 1)))
    assert fa.verify(problem, RESPONSES["fourth power"], components=0, show=False).passed


@pytest.mark.skipif(len(SOLVERS) < 2, reason="needs two solvers")
def test_solvers_agree() -> None:
    mesh = mesh_of("tetra")
    squared = between_resonances(mesh, 1)
    found = [
        fa.values_and_gradients(problem_of(mesh, helmholtz(squared), solver=s).solve(), list(RESPONSES.values()))
        for s in SOLVERS
    ]
    for values, gradients in found[1:]:
        assert values == pytest.approx(found[0][0], rel=1e-10)
        for one, other in zip(gradients, found[0][1], strict=True):
            assert np.abs(one.points - other.points).max() <= 1e-9 * np.abs(other.points).max()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("cell", ["quad", "triangle", "hexahedron"])
def test_standing_wave_converges(cell: str, solver: str) -> None:
    """``u'' + k^2 u = 0`` with ``u(0) = 0`` and ``u(1) = 1``: ``sin(k x) / sin(k)``; two resonances lie below."""
    dim, k = dim_of(cell), 7.5
    errors = []
    for n in (16, 32):
        mesh = box_mesh(cell, (n, *[1] * (dim - 1)), lengths=(1.0, *[1 / n] * (dim - 1)))
        form = fa.Form([stiff, inert], parameters={"squared": k**2})
        supports = [fa.Fixed("left"), fa.Fixed("right", value=1.0)]
        solution = fa.LinearStatic(mesh, form, supports, threads=1, solver=solver).solve()
        assert inertia_of(solution)[1] == 2
        errors.append(np.abs(solution.u[:, 0] - np.sin(k * solution.points[:, 0]) / np.sin(k)).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.25), errors
    assert errors[1] < 0.05


# ---------------------------------------------------------------------- definite or not
def test_what_is_found_out() -> None:
    mesh = mesh_of("quad")
    rng = np.random.default_rng(0)
    positive = rng.uniform(0.5, 1.5, mesh.n_nodes)
    mixed = positive.copy()
    mixed[0] = -1.0
    cases: list[tuple[Any, str]] = [
        (-3.0, "spd"), (0.0, "spd"), (3.0, "symmetric"), (60.0, "symmetric"),
        (fa.NodalField(-positive), "spd"), (fa.NodalField(positive), "symmetric"), (fa.NodalField(-mixed), "symmetric"),
        (fa.CellField(-positive[: mesh.n_cells]), "spd"), (fa.CellField(-mixed[: mesh.n_cells]), "symmetric"),
    ]  # fmt: skip
    for squared, kind in cases:
        assert kind_of(problem_of(mesh, helmholtz(squared))) == kind, squared
        assert kind_of(problem_of(mesh, helmholtz(squared, definite=False))) == "symmetric"
        assert kind_of(problem_of(mesh, helmholtz(squared, definite=True))) == "spd"
        assert kind_of(problem_of(mesh, helmholtz(squared, symmetric=False))) == "general"
    assert kind_of(problem_of(mesh, vibration(0.0))) == "spd"
    assert kind_of(problem_of(mesh, vibration(3.0))) == "symmetric"


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_is_said_changes_nothing_but_the_solver(solver: str) -> None:
    mesh = mesh_of("triangle6")
    below_all = 0.3 * between_resonances(mesh, 1)
    for squared, options in (
        (below_all, [{}, {"definite": True}, {"definite": False}, {"symmetric": False}]),
        (between_resonances(mesh, 1), [{}, {"definite": False}, {"symmetric": False}]),
        (-2.0, [{}, {"definite": False}]),
    ):
        found = []
        for chosen in options:
            problem = problem_of(mesh, helmholtz(squared, **chosen), solver=solver)
            found.append((problem.solve().u, fa.value_and_gradient(problem.solve(), Weighted())[1].points))
        for u, gradient in found[1:]:
            assert np.abs(u - found[0][0]).max() <= 1e-11 * np.abs(u).max()
            assert np.abs(gradient - found[0][1]).max() <= 1e-10 * np.abs(gradient).max()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("number", [1, 2, 100])
def test_definite_wrongly_said(number: int, solver: str) -> None:
    mesh = mesh_of("quad")
    squared = between_resonances(mesh, number) if number < 100 else 3000.0  # with and without a negative diagonal
    problem = problem_of(mesh, helmholtz(squared, definite=True), solver=solver)
    with pytest.raises(fa.IndefiniteSystemError, match=r"not positive definite.* node \d+ at .*component u") as info:
        problem.solve()
    assert info.value.equation is not None
    assert not problem.residual.supports.fixed.ravel()[info.value.equation]
    again = problem.solve(parameters={"squared": 0.1})  # the problem stays usable
    assert inertia_of(again)[1] == 0


@pytest.mark.parametrize("solver", SOLVERS)
def test_parameters_that_make_a_definite_matrix_indefinite(solver: str) -> None:
    """What is found out holds at the declared values; a problem that is to leave them says ``definite=False``."""
    mesh = mesh_of("quad")
    squared = between_resonances(mesh, 1)
    problem = problem_of(mesh, helmholtz(-1.0), solver=solver)
    assert kind_of(problem) == "spd"
    with pytest.raises(fa.IndefiniteSystemError, match="not positive definite"):
        problem.solve(parameters={"squared": squared})
    said = problem_of(mesh, helmholtz(-1.0, definite=False), solver=solver)
    expected = problem_of(mesh, helmholtz(squared), solver=solver).solve()
    solution = said.solve(parameters={"squared": squared})
    assert np.abs(solution.u - expected.u).max() <= 1e-12 * np.abs(expected.u).max()
    one, other = (fa.value_and_gradient(s, Weighted())[1].points for s in (solution, expected))
    assert np.abs(one - other).max() <= 1e-11 * np.abs(other).max()


@pytest.mark.parametrize("solver", SOLVERS)
def test_resonance_is_refused(solver: str) -> None:
    mesh = mesh_of("quad")
    lengths = box_mesh("quad", (6, 4), lengths=(1.0, 0.7))
    for body in (mesh, lengths):
        still = fa.LinearStatic(body, helmholtz(0.0), [fa.Fixed("left")], threads=1)
        free = ~still.residual.supports.fixed.ravel()
        K = multiplied(still, body.points)
        mass = K - multiplied(fa.LinearStatic(body, helmholtz(1.0), [fa.Fixed("left")], threads=1), body.points)
        found = scipy.linalg.eigh(K[np.ix_(free, free)], mass[np.ix_(free, free)], eigvals_only=True)
        problem = fa.LinearStatic(body, helmholtz(1.0, definite=False), [fa.Fixed("left")], solver=solver, threads=1)
        with pytest.raises((fa.SingularSystemError, fa.ResidualError)):
            problem.solve(parameters={"squared": found[1]})
        assert np.isfinite(problem.solve(parameters={"squared": 1.01 * found[1]}).u).all()
