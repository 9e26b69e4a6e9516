"""Finite element problems as parametric systems; solving with other parameters; supports that override others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skfem.helpers import dot, grad

import femadj as fa
from tests.meshes import box_mesh
from tests.products import Products
from tests.reference_assembly import turned
from tests.test_gradients import (
    SOLVERS,
    TOLERANCE,
    Weighted,
    assert_exact,
    differences,
    direction_of,
    mesh_of,
    supports_of,
)
from tests.test_gradients import problem_of as elastic_or_scalar

FloatArray = npt.NDArray[np.float64]


# ---------------------------------------------------------------------- what is combined
def wave(x: Any) -> Any:
    return 1.0 + np.sin(x[0] + 2 * x[1])


def helmholtz(squared: float) -> fa.Form:
    return fa.Form(
        lambda u, v, w: dot(grad(u), grad(v)) - w.squared * u * v, lambda v, w: v, parameters={"squared": squared}
    )


def problem_from(mesh: fa.Mesh, physics: Any, supports: str = "moving", **options: Any) -> fa.LinearStatic:
    nc = len(physics.components(mesh.dim))
    return fa.LinearStatic(mesh, physics, supports_of(supports, mesh, nc), threads=1, **options)


@cache
def problem_of(name: str) -> fa.LinearStatic:
    """Problems of every kind of matrix; prescribed values are functions of x, constants, or both."""
    if name == "advection":
        mesh = mesh_of("triangle6")
        flow = fa.NodalField(np.random.default_rng(0).uniform(0.5, 1.5, (mesh.n_nodes, 2)))
        return problem_from(mesh, fa.AdvectionDiffusion(0.2, flow, supg=True, source=wave))
    if name == "Helmholtz":
        return problem_from(mesh_of("quad"), helmholtz(90.0))
    cell, physics, supports = {
        "plane stress": ("quad8", "plane stress", "moving"),
        "two solids": ("tetra", "two solids", "some components moving"),
        "nonsymmetric": ("wedge", "nonsymmetric", "moving"),
        "values": ("triangle", "anisotropic", "values"),
        "zero": ("quad", "nonsymmetric", "zero"),
    }[name]
    return elastic_or_scalar(mesh_of(cell), physics, None, supports)


KINDS = {
    "plane stress": "spd", "two solids": "spd", "nonsymmetric": "general", "values": "spd", "zero": "general",
    "advection": "general", "Helmholtz": "symmetric",
}  # fmt: skip


def with_partials(problem: fa.LinearStatic, response: Weighted) -> Callable[..., fa.ResponseEvaluation]:
    """The response as a function of the unknowns and the nodes."""

    def evaluate(x: FloatArray, theta: FloatArray) -> fa.ResponseEvaluation:
        here: Any = SimpleNamespace(u=x.reshape(problem.residual.space.shape), points=theta)
        found = response.evaluate(here)
        assert found.state is not None
        return fa.ResponseEvaluation(found.value, found.state.ravel(), found.points)

    return evaluate


def without_partials(problem: fa.LinearStatic, response: Weighted) -> Callable[..., Any]:
    """The same, to be differentiated by complex step."""
    n, nc = problem.residual.space.shape

    def evaluate(x: Any, theta: Any) -> Any:
        u = x.reshape(n, nc)
        sine = np.sin(np.sum(theta * np.array(response.k)[: theta.shape[1]], axis=1))
        linear = np.sum(u * np.array(response.c)[:nc], axis=1)
        return (sine * (u**2).sum(axis=1) + (theta**2).sum(axis=1) * linear).sum() / n

    return evaluate


def dense(solution: fa.LinearSolution[Any]) -> FloatArray:
    """The matrix that was factorised."""
    csr = solution.pattern
    A = np.zeros((csr.n, csr.n))
    rows = np.repeat(np.arange(csr.n), np.diff(csr.indptr))
    A[rows, csr.indices] = solution.assembled.values
    if csr.triangle == "upper":
        A[csr.indices, rows] = solution.assembled.values
    return A


# ---------------------------------------------------------------------- modes
@pytest.mark.parametrize("name", KINDS)
def test_tangent_adjoint_and_femadj_agree(name: str) -> None:
    problem = problem_of(name)
    system = problem.linear_system
    assert system.residual.kind == KINDS[name]
    points = problem.mesh.points + 0.03 * direction_of(problem.mesh, 2)
    solution = problem.solve(points)
    responses = [Weighted(), Weighted(k=(0.4, -0.3, 0.2), c=(1.0, 0.5, -0.2))]
    values, gradients = fa.values_and_gradients(solution, responses)
    functions = [with_partials(problem, responses[0]), without_partials(problem, responses[1])]
    found = {
        "adjoint": system.values_and_gradients(solution.linear, functions, mode="adjoint"),
        "tangent": system.values_and_gradients(solution.linear, functions, mode="tangent"),
        "at the nodes": system.values_and_gradients(points, functions),
    }
    for label, (here, theirs) in found.items():
        assert here == pytest.approx(values, rel=1e-13), label
        for one, other in zip(theirs, gradients, strict=True):
            assert np.abs(one.theta - other.points).max() <= 1e-12 * np.abs(other.points).max(), label
            assert one.x is (solution.linear.x if label != "at the nodes" else one.x)
    state = np.where(problem.residual.supports.fixed, 0.0, gradients[0].loads)
    adjoint = found["adjoint"][1][0]
    assert adjoint.rhs is not None
    free = ~problem.residual.supports.fixed.ravel()
    assert np.abs(adjoint.rhs - state.ravel())[free].max() <= 1e-12 * np.abs(state).max()
    assert found["tangent"][1][0].rhs is None
    assert found["tangent"][1][0].matrix is None


@pytest.mark.parametrize("name", KINDS)
def test_derivatives_by_prescribed_values_are_those_by_the_right_hand_side(name: str) -> None:
    """``b_F = f_F - K_FD g`` and ``b_D = D g``."""
    problem = problem_of(name)
    solution = problem.solve()
    _, gradient = fa.value_and_gradient(solution, Weighted())
    _, other = problem.linear_system.value_and_gradient(solution.linear, with_partials(problem, Weighted()))
    assert other.rhs is not None
    fixed = problem.residual.supports.fixed
    lam = other.rhs.reshape(fixed.shape)
    pulled = Products(problem).stiffness_times(solution.points, np.where(fixed, 0.0, lam), transpose=True)
    diagonal = np.diag(dense(solution.linear)).reshape(fixed.shape)
    expected = np.where(fixed, diagonal * lam - pulled, 0.0)
    assert np.abs(expected).max() > 0
    assert np.abs(gradient.supports - expected).max() <= 1e-12 * np.abs(expected).max()


# ---------------------------------------------------------------------- products
@pytest.mark.parametrize("name", KINDS)
def test_pullback_is_the_transpose_of_pushforward(name: str) -> None:
    problem = problem_of(name)
    linear = problem.solve().linear
    theta = problem.mesh.points
    rng = np.random.default_rng(3)
    lam = rng.uniform(-1, 1, (3, len(linear.x)))
    V = rng.uniform(-1, 1, (2, *theta.shape))
    forward = np.stack([linear.pushforward(each) for each in V])
    backward = np.stack([np.asarray(linear.pullback(row)) for row in lam])
    products = np.einsum("vn,ln->lv", forward, lam)
    assert np.abs(products - np.einsum("lad,vad->lv", backward, V)).max() <= 1e-12 * np.abs(products).max()
    assert linear.tangent(V[0]) == pytest.approx(linear.solve(forward[0]), rel=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_pushforward_against_differences(name: str) -> None:
    """``d(b - A x)`` at fixed x, and the tangent of the solution."""
    problem = problem_of(name)
    system, theta = problem.linear_system, problem.mesh.points
    linear = problem.solve().linear
    V = direction_of(problem.mesh, 5)

    def residual(t: float) -> FloatArray:
        moved = system.solve(theta + t * V)
        found: FloatArray = moved.assembled.rhs - dense(moved) @ linear.x
        return found

    exact = linear.pushforward(V)
    assert np.abs(differences(residual, 2e-3) - exact).max() <= TOLERANCE * np.abs(exact).max()
    fixed = problem.residual.supports.fixed.ravel()
    assert exact[fixed].any() == problem.solve().prescribed.moves
    tangent = linear.tangent(V)
    difference = differences(lambda t: problem.solve(theta + t * V).u.ravel(), 2e-3)
    assert np.abs(difference - tangent).max() <= TOLERANCE * np.abs(tangent).max()


@pytest.mark.parametrize("name", ["plane stress", "advection", "Helmholtz", "zero"])
def test_cotangents_of_matrix_and_rhs(name: str) -> None:
    problem = problem_of(name)
    linear = problem.solve().linear
    function = with_partials(problem, Weighted())
    _, gradient = problem.linear_system.value_and_gradient(linear, function)
    A, b, theta = dense(linear), linear.assembled.rhs, linear.theta
    rng = np.random.default_rng(4)
    dA = rng.uniform(-1, 1, A.shape) * (A != 0) * np.abs(A).max()
    if KINDS[name] != "general":
        dA += dA.T
    db = rng.uniform(-1, 1, b.shape) * np.abs(b).max()

    def value(A: FloatArray, b: FloatArray) -> FloatArray:
        return np.array(function(np.linalg.solve(A, b), theta).value)

    assert gradient.matrix is not None
    assert gradient.rhs is not None
    assert gradient.matrix.nnz == (linear.pattern.nnz if KINDS[name] == "general" else 2 * linear.pattern.nnz - len(b))
    by_matrix = gradient.matrix.multiply(dA).sum()
    by_rhs = gradient.rhs @ db
    scales = np.abs(gradient.matrix.multiply(dA)).max(), np.abs(gradient.rhs * db).max()
    errors = [
        min(abs(differences(at, h) - exact) for h in (1e-3, 1e-4, 1e-5))
        for at, exact in ((lambda t: value(A + t * dA, b), by_matrix), (lambda t: value(A, b + t * db), by_rhs))
    ]
    assert errors[0] <= TOLERANCE * scales[0]
    assert errors[1] <= TOLERANCE * scales[1]


# ---------------------------------------------------------------------- what it costs, and what it is
@pytest.mark.parametrize("solver", SOLVERS)
def test_counts(solver: str) -> None:
    mesh = mesh_of("quad")
    problem = problem_from(mesh, fa.AdvectionDiffusion(0.2, [1.0, 0.4]), solver=solver)
    system = problem.linear_system
    assert system is problem.linear_system
    assert problem.counts == system.counts == fa.Counts(1, 0)
    solution = problem.solve()
    functions = [with_partials(problem, Weighted()), with_partials(problem, Weighted(k=(0.1, 0.2, 0.3)))]
    for mode, solves in (("adjoint", 1), ("tangent", mesh.points.size), ("auto", 1)):
        before = solution.factor.statistics.solves
        _, gradients = system.values_and_gradients(solution.linear, functions, mode=mode)  # type: ignore[arg-type]
        assert [g.solves for g in gradients] == [solves] * 2
        assert [g.factorisations for g in gradients] == [0, 0]
        assert solution.factor.statistics.solves - before == (mesh.points.size if mode == "tangent" else 2)
    assert problem.counts == fa.Counts(1, 1)
    _, gradients = system.values_and_gradients(mesh.points + 0.01, functions)
    assert [g.factorisations for g in gradients] == [1, 1]
    assert problem.counts == fa.Counts(1, 2)


def test_it_is_the_system_of_the_problem() -> None:
    problem = problem_of("plane stress")
    points = problem.mesh.points + 0.05 * direction_of(problem.mesh)
    one, other = problem.solve(points), problem.linear_system.solve(points)
    assert np.array_equal(one.u.ravel(), other.x)
    assert np.array_equal(one.load, problem.residual.at(fa.Design(points)).load)
    assert np.array_equal(dense(one.linear), dense(other))
    assert one.factor is one.linear.factor
    tangled = points.copy()
    tangled[:, 0] *= -1.0
    with pytest.raises(fa.TangledMeshError):
        problem.linear_system.solve(tangled)
    elsewhere = problem_of("values").linear_system
    with pytest.raises(fa.LinearSystemError, match="belongs to another LinearSystem"):
        elsewhere.value_and_gradient(one.linear, with_partials(problem, Weighted()))


def test_a_solution_at_other_parameters_has_its_own_derivatives() -> None:
    mesh = mesh_of("quad")
    problem = problem_from(mesh, helmholtz(-1.0))
    solution = problem.solve(parameters={"squared": -30.0})
    _, expected = fa.value_and_gradient(solution, Weighted())
    system = problem.linear_system
    assert solution.linear.system is system  # parameters are part of the design, not of the system
    _, gradient = system.value_and_gradient(solution.linear, with_partials(problem, Weighted()))
    assert np.abs(gradient.theta - expected.points).max() <= 1e-12 * np.abs(expected.points).max()
    _, declared = system.value_and_gradient(problem.solve().linear, with_partials(problem, Weighted()))
    assert np.abs(gradient.theta - declared.theta).max() > 1e-3 * np.abs(declared.theta).max()
    assert problem.counts == system.counts == fa.Counts(1, 2)


# ---------------------------------------------------------------------- other values of the parameters
def reads_everything(mesh: fa.Mesh) -> fa.Form:
    rng = np.random.default_rng(0)
    return fa.Form(
        lambda u, v, w: w.k * w.each * dot(grad(u), grad(v)) + dot(w.b, grad(u)) * v,
        lambda v, w: (w.source + w.each) * v,
        parameters={
            "k": 2.0,
            "b": np.array([0.3, -0.2]),
            "each": fa.CellField(rng.uniform(1, 2, mesh.n_cells)),
            "source": fa.NodalField(rng.uniform(-1, 1, mesh.n_nodes)),
        },
    )


def test_solutions_keep_their_own_parameters() -> None:
    mesh = mesh_of("quad")
    problem = problem_from(mesh, reads_everything(mesh))
    responses: list[fa.Response] = [
        Weighted(),
        fa.StrainEnergy(),
        fa.Functional(lambda w: w.k**2 * w.u**2 + w.source * w.u),
    ]
    older = problem.solve(parameters={"k": 3.0, "source": np.ones(mesh.n_nodes)})
    before = fa.values_and_gradients(older, responses)
    newer = problem.solve(parameters={"k": 0.7, "b": [0.9, 0.1]})
    after = fa.values_and_gradients(older, responses)
    assert np.array_equal(before[0], after[0])
    for one, other in zip(before[1], after[1], strict=True):
        np.testing.assert_allclose(other.points, one.points, rtol=1e-10, atol=1e-12 * np.abs(one.points).max())
        for name in problem.parameters:
            np.testing.assert_allclose(other.parameters[name], one.parameters[name], rtol=1e-10, atol=1e-12)
    assert older.parameters.value("k") == 3.0
    assert newer.parameters.value("k") == 0.7
    assert problem.parameters.value("k") == 2.0
    assert np.array_equal(newer.parameters.value("source"), problem.parameters.value("source"))
    # and they are what a problem with these parameters has
    declared = fa.Form(
        list(reads_everything(mesh)._bilinear),
        list(reads_everything(mesh)._linear),
        parameters={**reads_everything(mesh).parameters, "k": 3.0, "source": fa.NodalField(np.ones(mesh.n_nodes))},
    )
    values, gradients = fa.values_and_gradients(problem_from(mesh, declared).solve(), responses)
    assert values == pytest.approx(before[0], rel=1e-12)
    for one, other in zip(gradients, before[1], strict=True):
        assert np.abs(one.points - other.points).max() <= 1e-11 * np.abs(one.points).max()


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_analysis_serves_all_parameters(solver: str) -> None:
    mesh = mesh_of("quad")
    problem = problem_from(mesh, reads_everything(mesh), solver=solver)
    for number, k in enumerate((1.0, 2.0, 3.0), start=1):
        problem.solve(mesh.points + 0.01 * k, {"k": k})
        assert problem.counts == fa.Counts(1, number)


def test_values_are_copied() -> None:
    mesh = mesh_of("quad")
    problem = problem_from(mesh, reads_everything(mesh))
    source = np.ones(mesh.n_nodes)
    solution = problem.solve(parameters={"source": source})
    before = fa.value_and_gradient(solution, fa.Functional(lambda w: w.source * w.u))[0]
    source[:] = 7.0
    assert fa.value_and_gradient(solution, fa.Functional(lambda w: w.source * w.u))[0] == before
    with pytest.raises(ValueError, match="read-only"):
        solution.parameters.value("source")[0] = 1.0
    column = problem.solve(parameters={"source": np.ones((mesh.n_nodes, 1))})
    assert np.array_equal(column.u, solution.u)


def test_parameters_that_are_refused() -> None:
    mesh = mesh_of("quad")
    n, m = mesh.n_nodes, mesh.n_cells
    problem = problem_from(mesh, reads_everything(mesh))
    with pytest.raises(fa.ParameterError, match=r"no parameter 'c'; the problem has: 'k', 'b', 'each', 'source'$"):
        problem.solve(parameters={"c": 1.0})
    wrong: dict[str, tuple[Any, str]] = {
        "k": ([1.0, 2.0], r"'k' \(constant\) has shape \(\), not \(2,\)"),
        "b": (1.0, r"'b' \(constant\) has shape \(2,\), not \(\)"),
        "each": (np.ones(m + 1), rf"'each' \(cell\) has shape \({m},\), not \({m + 1},\)"),
        "source": (np.ones((n, 2)), rf"'source' \(nodal\) has shape \({n},\), not \({n}, 2\)"),
    }
    for name, (value, message) in wrong.items():
        with pytest.raises(fa.ParameterError, match=message):
            problem.solve(parameters={name: value})
    infinite: dict[str, Any] = {"k": np.nan, "b": [1.0, np.inf], "source": np.full(n, np.nan)}
    for name, value in infinite.items():
        with pytest.raises(fa.ParameterError, match=f"'{name}' must be finite"):
            problem.solve(parameters={name: value})
    numbers: list[Any] = ["two", [1.0, "x"], fa.NodalField(np.ones(n))]
    for value in numbers:
        with pytest.raises(fa.ParameterError, match="'k' must be numbers"):
            problem.solve(parameters={"k": value})
    assert problem.counts == fa.Counts(1, 0)
    plain = problem_from(mesh, fa.Diffusion(1.0))
    with pytest.raises(fa.ParameterError, match="the problem has: 'conductivity'"):
        plain.solve(parameters={"k": 1.0})
    assert np.array_equal(plain.solve(parameters={}).u, plain.solve().u)


# ---------------------------------------------------------------------- supports that override others
def profile(x: Any) -> Any:
    return 1.0 + 0.3 * np.sin(2 * x[1])


@cache
def channel(cell: str) -> fa.Mesh:
    return turned(
        box_mesh(
            cell,
            (3, 2, 2)[: 2 if cell != "tetra" else 3],
            distortion=0.12,
            origin=(3.0, -2.0, 5.0)[: 2 if cell != "tetra" else 3],
        )
    )


def inlet_and_walls(mesh: fa.Mesh, nc: int, *, overrides: bool = True) -> list[fa.Fixed]:
    walls = [fa.Fixed(side, overrides=overrides) for side in ("bottom", "top")]
    return [fa.Fixed("left", value=lambda x: [profile(x) * (1 + i) for i in range(nc)]), *walls]


PHYSICS: dict[str, Any] = {
    "scalar": fa.AdvectionDiffusion(0.3, lambda x: [1 + x[1] ** 2, 0 * x[0], x[0]][: len(x)], supg=True),
    "vector": fa.Elasticity(2.0, 0.3),
}


@pytest.mark.parametrize("physics", PHYSICS)
@pytest.mark.parametrize("cell", ["quad", "triangle6", "tetra"])
def test_walls_prevail_over_an_inlet(cell: str, physics: str) -> None:
    mesh = channel(cell)
    material = PHYSICS[physics]
    nc = len(material.components(mesh.dim))
    supports = inlet_and_walls(mesh, nc)
    shared = np.intersect1d(mesh.nodes_of("left"), np.union1d(mesh.nodes_of("bottom"), mesh.nodes_of("top")))
    inlet = np.setdiff1d(mesh.nodes_of("left"), shared)
    assert len(shared) >= 2
    assert len(inlet) >= 1
    base = None
    for order in (supports, supports[::-1], [supports[1], supports[0], supports[2]]):
        problem = fa.LinearStatic(mesh, material, order, threads=1)
        solution = problem.solve()
        assert not solution.u[shared].any()
        expected = profile(mesh.points[inlet].T)[:, None] * (1 + np.arange(nc))
        assert np.abs(solution.u[inlet] - expected).max() <= 1e-14
        base = solution.u if base is None else base
        assert np.array_equal(solution.u, base)
        assert_exact(problem, {"own": Weighted(), "energy": fa.StrainEnergy()})
    _, gradient = fa.value_and_gradient(solution, Weighted())
    assert solution.prescribed.derivative is not None
    assert not solution.prescribed.derivative[shared].any()
    assert solution.prescribed.derivative[inlet].any()
    assert gradient.supports[shared].any()
    with pytest.raises(fa.SupportError, match=r"'left' and 'bottom' contradict .*overrides=True"):
        fa.LinearStatic(mesh, material, inlet_and_walls(mesh, nc, overrides=False), threads=1).solve()


def test_verify_with_supports_that_override() -> None:
    mesh = channel("quad")
    problem = fa.LinearStatic(mesh, PHYSICS["scalar"], inlet_and_walls(mesh, 1), threads=1)
    assert fa.verify(problem, Weighted(), components=1, show=False).passed


def test_values_that_move_prevail_over_values_that_do_not() -> None:
    """The derivative at shared nodes is that of the support that prevails, whichever of them depends on the place."""
    mesh = channel("quad")
    shared = np.intersect1d(mesh.nodes_of("left"), mesh.nodes_of("bottom"))
    for first, second in ((0.7, profile), (profile, 0.7), (profile, lambda x: x[0] ** 2)):
        supports = [fa.Fixed("left", value=first), fa.Fixed("bottom", value=second, overrides=True)]
        problem = fa.LinearStatic(mesh, fa.Diffusion(1.0), supports, threads=1)
        solution = problem.solve()
        expected = second(mesh.points[shared].T) if callable(second) else second
        assert solution.u[shared, 0] == pytest.approx(expected, rel=1e-14)
        assert_exact(problem, {"own": Weighted()})


def test_only_the_components_of_the_override_prevail() -> None:
    mesh = channel("quad")
    shared = np.intersect1d(mesh.nodes_of("left"), mesh.nodes_of("bottom"))
    supports = [
        fa.Fixed("bottom", "y", 0.25, overrides=True),
        fa.Fixed("left", value=lambda x: [profile(x), 2.0 * x[0]]),
    ]
    problem = fa.LinearStatic(mesh, fa.Elasticity(2.0, 0.3), supports, threads=1)
    u = problem.solve().u
    assert u[shared, 1] == pytest.approx(0.25, rel=1e-14)
    assert u[shared, 0] == pytest.approx(profile(mesh.points[shared].T), rel=1e-14)
    assert_exact(problem, {"own": Weighted()})


def test_supports_that_override_may_not_contradict_each_other() -> None:
    mesh = channel("quad")
    left = fa.Fixed("left", value=profile)

    def solve(*supports: fa.Fixed) -> FloatArray:
        return fa.LinearStatic(mesh, fa.Diffusion(1.0), supports, threads=1).solve().u

    corner = np.intersect1d(mesh.nodes_of("right"), mesh.nodes_of("bottom"))
    one = fa.Fixed("bottom", value=0.5, overrides=True)
    agreeing = solve(left, one, fa.Fixed("right", value=0.5, overrides=True))
    assert agreeing[corner] == pytest.approx(0.5, rel=1e-14)
    for other in (0.6, lambda x: 0.5 + 0 * x[0] + (x[0] - mesh.points[corner[0], 0])):
        with pytest.raises(fa.SupportError, match="'bottom' and 'right' contradict each other"):
            solve(left, one, fa.Fixed("right", value=other, overrides=True))
    with pytest.raises(fa.SupportError, match="'left' and 'corner' contradict each other"):
        solve(left, fa.Fixed("corner", value=3.0), fa.Fixed("right", overrides=True))  # where none of them overrides
    three = solve(left, fa.Fixed("corner", value=profile), fa.Fixed("bottom", value=0.5, overrides=True))
    assert three[mesh.nodes_of("bottom")] == pytest.approx(0.5, rel=1e-14)
