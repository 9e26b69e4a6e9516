"""Advection and diffusion: its matrix against scikit-fem, its gradients, its adjoint and its boundary layers.

All nodes move, on bent meshes of both cell orientations away from the origin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skfem
from skfem.helpers import dot, grad

import femadj as fa
from femadj.algebra.implicit import Implicit
from tests.meshes import box_mesh, dim_of
from tests.products import Products
from tests.test_forms import compare, fields_for, kind_of, multiplied, skfem_basis, skfem_dofs
from tests.test_gradients import SOLVERS, Weighted, assert_exact, assert_second_order, mesh_of, supports_of

FloatArray = npt.NDArray[np.float64]

CELLS = ("triangle", "triangle6", "quad", "tetra", "hexahedron")
ORDER = 5


# ---------------------------------------------------------------------- what is combined
def swirl(x: Any) -> list[Any]:
    """A velocity that depends on the place."""
    return [1.0 + np.sin(x[1]), 0.5 * x[0] - 0.8, np.cos(x[0] + x[1])][: len(x)]


def wave(x: Any) -> Any:
    return 1.0 + np.sin(x[0] + 2 * x[1])


def velocity_of(kind: str, mesh: fa.Mesh) -> Any:
    rng = np.random.default_rng(1)
    if kind == "constant":
        return np.array([0.9, -0.6, 0.4])[: mesh.dim]
    if kind == "NodalField":
        return fa.NodalField(rng.uniform(-1, 1, (mesh.n_nodes, mesh.dim)))
    if kind == "CellField":
        return fa.CellField(rng.uniform(-1, 1, (mesh.n_cells, mesh.dim)))
    return swirl


def conductivity_of(kind: str, dim: int) -> Any:
    root = np.random.default_rng(2).uniform(-1, 1, (dim, dim))
    skew = np.triu(root, 1)
    tensor = root @ root.T + 0.3 * np.eye(dim) + 0.2 * (skew - skew.T)
    return {"number": 0.3, "tensor": tensor, "groups": {"low": 0.2, "high": tensor}}[kind]


VELOCITIES = ("constant", "NodalField", "CellField", "function of x")
CONDUCTIVITIES = ("number", "tensor", "groups")


def problem_of(
    mesh: fa.Mesh, physics: fa.AdvectionDiffusion, supports: str = "moving", **options: Any
) -> fa.LinearStatic:
    return fa.LinearStatic(mesh, physics, supports_of(supports, mesh, 1), threads=1, **options)


def responses_of(velocity: str) -> dict[str, fa.Response]:
    found: dict[str, fa.Response] = {
        "own": Weighted(),
        "norm": fa.FieldNorm(),
        "strain energy": fa.StrainEnergy(),
        "flux": fa.Functional(fa.Integral(lambda w: w.x[1] * dot(grad(w.u), w.n), "right")),
    }
    if velocity != "function of x":
        found["transport"] = fa.Functional(fa.Integral(lambda w: w.u**2 * dot(w.velocity, w.n), "right"))
    return found


# ---------------------------------------------------------------------- the matrix
def expected_system(
    mesh: fa.Mesh, conductivity: Any, velocity: Any, supg: bool, source: Any, thickness: float
) -> tuple[FloatArray, FloatArray]:
    """Matrix and load by scikit-fem; the stabilisation by the cell Peclet number ``a = |b| h / (2 k)``."""
    dim = mesh.dim
    basis = skfem_basis(mesh, 1, ORDER)
    dofs = skfem_dofs(mesh, basis, 1)
    groups = conductivity if isinstance(conductivity, dict) else {None: conductivity}
    k = np.zeros((dim, dim, mesh.n_cells, 1))
    for group, value in groups.items():
        cells = np.arange(mesh.n_cells) if group is None else mesh.cells_of(group)
        k[:, :, cells, 0] = (np.eye(dim) * value if np.ndim(value) == 0 else value)[:, :, None]
    if callable(velocity):
        b = np.array(velocity(np.asarray(basis.global_coordinates())))
    else:
        b = np.array(fields_for(mesh, basis, {"b": velocity})["b"])
    size = np.abs(basis.mapping.detDF(basis.X)) ** (1 / dim)
    speed = np.sqrt((b**2).sum(axis=0))
    mean = np.einsum("iick->ck", k) / dim
    tau = size / (2 * speed) / np.sqrt(1 + (3 * 2 * mean / (speed * size)) ** 2)

    @skfem.BilinearForm
    def matrix(u: Any, v: Any, w: Any) -> Any:
        galerkin = v * dot(b, grad(u)) + np.einsum("i...,ij...,j...", grad(v), k * np.ones_like(size), grad(u))
        return thickness * (galerkin + (tau * dot(b, grad(v)) * dot(b, grad(u)) if supg else 0))

    @skfem.LinearForm
    def load(v: Any, w: Any) -> Any:
        s = source(w.x) if callable(source) else source
        return thickness * s * (v + (tau * dot(b, grad(v)) if supg else 0))

    K = matrix.assemble(basis).toarray()[np.ix_(dofs, dofs)]
    return K, np.asarray(load.assemble(basis))[dofs]


@pytest.mark.parametrize("supg", [False, True])
@pytest.mark.parametrize("velocity", VELOCITIES)
@pytest.mark.parametrize("cell", CELLS)
def test_matrix_is_that_of_scikit_fem(cell: str, velocity: str, supg: bool) -> None:
    mesh = mesh_of(cell)
    dim = mesh.dim
    for number, kind in enumerate(CONDUCTIVITIES):
        thickness = 1.0 if dim == 3 else 0.4 + number
        conductivity, b = conductivity_of(kind, dim), velocity_of(velocity, mesh)
        source = (wave, 1.3, wave)[number]
        physics = fa.AdvectionDiffusion(conductivity, b, supg=supg, source=source, thickness=thickness)
        problem = problem_of(mesh, physics, quadrature_order=ORDER)
        K, f = expected_system(mesh, conductivity, b, supg, source, thickness)
        assert np.abs(K - K.T).max() > 1e-3 * np.abs(K).max()
        assert np.abs(multiplied(problem, mesh.points) - K).max() <= 1e-12 * np.abs(K).max(), kind
        assert np.abs(problem.solve().load.ravel() - f).max() <= 1e-12 * np.abs(f).max(), kind
        assert kind_of(problem) == "general"
        assert (problem.physics.thickness_in(dim) == thickness) or dim == 3


def test_without_source_there_is_no_load() -> None:
    mesh = mesh_of("quad")
    for supg in (False, True):
        solution = problem_of(mesh, fa.AdvectionDiffusion(0.3, [1.0, 2.0], supg=supg)).solve()
        assert not solution.load.any()
        assert solution.u.any()


@pytest.mark.parametrize("cell", ["triangle", "quad", "tetra"])
def test_a_linear_field_is_exact_whatever_is_stabilised(cell: str) -> None:
    """The residual of a linear field vanishes at the points where the source is stabilised too."""
    mesh = mesh_of(cell)
    slope = np.array([0.7, -0.4, 0.2])[: mesh.dim]
    exact = mesh.points @ slope
    held = [fa.Fixed("boundary", value=lambda x: slope @ x)]
    interior = box_mesh(cell, distortion=0.12, seed=2)
    for body in (mesh, interior):
        exact = body.points @ slope
        for supg in (False, True):
            physics = fa.AdvectionDiffusion(
                0.02, swirl, supg=supg, source=lambda x: sum(c * b for c, b in zip(slope, swirl(x), strict=True))
            )
            u = fa.LinearStatic(body, physics, held, threads=1).solve().u[:, 0]
            assert np.abs(u - exact).max() <= 1e-11 * np.abs(exact).max()
    assert len(interior.node_groups["inside"]) > 0
    # a load that is not stabilised is another problem
    constant = np.array([0.9, -0.6, 0.4])[: mesh.dim]
    loads = [fa.Source(float(slope @ constant))]
    for supg, far in ((False, False), (True, True)):
        u = fa.LinearStatic(interior, fa.AdvectionDiffusion(0.02, constant, supg=supg), held, loads).solve().u[:, 0]
        assert (np.abs(u - exact).max() > 1e-3 * np.abs(exact).max()) == far


# ---------------------------------------------------------------------- gradients
@pytest.mark.parametrize("velocity", VELOCITIES)
@pytest.mark.parametrize(
    ("cell", "supg"), [("triangle6", False), ("tetra", False), *((cell, True) for cell in (*CELLS, "quad+triangle"))]
)
def test_gradient_by_nodes(cell: str, velocity: str, supg: bool) -> None:
    mesh = mesh_of(cell)
    number = VELOCITIES.index(velocity) + CELLS.index(cell) if cell in CELLS else 2
    conductivity = conductivity_of(CONDUCTIVITIES[number % 3], mesh.dim)
    physics = fa.AdvectionDiffusion(conductivity, velocity_of(velocity, mesh), supg=supg, source=wave)
    problem = problem_of(mesh, physics)
    assert_exact(problem, responses_of(velocity))
    assert_second_order(problem, responses_of(velocity))


def test_verify_agrees() -> None:
    mesh = mesh_of("quad")
    physics = fa.AdvectionDiffusion(0.1, velocity_of("NodalField", mesh), supg=True, source=1.0)
    assert fa.verify(problem_of(mesh, physics), Weighted(), components=0, show=False).passed


@pytest.mark.parametrize("velocity", ["constant", "NodalField", "CellField", "zero"])
@pytest.mark.parametrize(("cell", "supg"), [("quad", False), ("quad", True), ("tetra", True)])
def test_gradient_by_velocity_and_conductivity(cell: str, velocity: str, supg: bool) -> None:
    mesh = mesh_of(cell)
    b = np.zeros(mesh.dim) if velocity == "zero" else velocity_of(velocity, mesh)
    problem = problem_of(mesh, fa.AdvectionDiffusion(0.3, b, supg=supg, source=wave))
    responses = responses_of(velocity)
    at_rest, gradients = fa.values_and_gradients(problem.solve(), list(responses.values()))
    assert set(problem.parameters) == {"conductivity", "velocity", *({"thickness"} if mesh.dim == 2 else ())}
    for name in problem.parameters:
        given = problem.parameters.value(name)
        step = (0.2 if name != "velocity" else 1.0) * np.random.default_rng(4).uniform(-1, 1, given.shape)

        def values(t: float, name: str = name, given: FloatArray = given, step: FloatArray = step) -> FloatArray:
            solution = problem.solve(parameters={name: given + t * step})
            return np.array([r.evaluate(solution).value for r in responses.values()])

        assert all(g.parameters[name].shape == given.shape for g in gradients)
        compare([g.parameters[name] * step for g in gradients], values, at_rest, list(responses))


def test_what_is_a_parameter() -> None:
    mesh = mesh_of("quad")
    for kind in CONDUCTIVITIES:
        for velocity in VELOCITIES if kind == "number" else ("constant", "function of x"):
            problem = problem_of(mesh, fa.AdvectionDiffusion(conductivity_of(kind, 2), velocity_of(velocity, mesh)))
            expected = {"conductivity", "thickness"} | ({"velocity"} if velocity != "function of x" else set())
            assert set(problem.parameters) == expected
            _, gradient = fa.value_and_gradient(problem.solve(), Weighted())
            assert set(gradient.parameters) == expected


# ---------------------------------------------------------------------- the adjoint
def dense(solution: fa.Solution) -> FloatArray:
    """The matrix that was factorised."""
    csr = solution.at.structure
    assert csr.triangle == "full"
    A = np.zeros((csr.n, csr.n))
    A[np.repeat(np.arange(csr.n), np.diff(csr.indptr)), csr.indices] = solution.at.condensed.values
    return A


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("cell", ["triangle6", "hexahedron"])
def test_adjoint_is_the_transposed_solve_on_the_same_factor(cell: str, solver: str) -> None:
    mesh = mesh_of(cell)
    physics = fa.AdvectionDiffusion(0.05, velocity_of("NodalField", mesh), supg=True)
    problem = problem_of(mesh, physics, solver=solver)
    solution = problem.solve()
    A, system, x = dense(solution), Products(problem), mesh.points
    n = len(A)
    rng = np.random.default_rng(6)
    v, g = rng.uniform(-1, 1, (2, n))
    lam = solution.factor.T.solve(g)
    assert abs(lam @ (A @ v) - g @ v) <= 1e-12 * np.abs(lam) @ np.abs(A) @ np.abs(v)
    assert np.abs(A.T @ lam - g).max() <= 1e-12 * np.abs(g).max()
    assert np.abs(A @ solution.factor.solve(g) - g).max() <= 1e-12 * np.abs(g).max()
    assert np.abs(A @ lam - g).max() > 1e-2  # another system altogether

    # the matrix before supports are eliminated
    one, other = (rng.uniform(-1, 1, (n, 1)) for _ in range(2))
    forward = (one * system.stiffness_times(x, other)).sum()
    backward = (other * system.stiffness_times(x, one, transpose=True)).sum()
    untransposed = (other * system.stiffness_times(x, one)).sum()
    assert forward == pytest.approx(backward, rel=1e-12)
    assert forward != pytest.approx(untransposed, rel=1e-3)

    # the state of the gradient, by hand
    response = Weighted()
    _, gradient = fa.value_and_gradient(solution, response)
    free = ~problem.residual.supports.fixed.ravel()
    state = response.evaluate(solution).state
    assert state is not None
    by_hand = np.zeros(n)
    by_hand[free] = np.linalg.solve(A[np.ix_(free, free)].T, state.ravel()[free])
    assert np.abs(gradient.loads.ravel() - by_hand).max() <= 1e-11 * np.abs(by_hand).max()
    K = multiplied(problem, x)
    held = np.where(free, 0.0, state.ravel() - K.T @ by_hand)
    assert np.abs(gradient.supports.ravel() - held).max() <= 1e-11 * np.abs(held).max()
    assert gradient.adjoint_solves == 1
    assert problem.counts == fa.Counts(1, 1)


def test_an_adjoint_without_transpose_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = mesh_of("quad")
    problem = problem_of(mesh, fa.AdvectionDiffusion(0.2, [0.8, 0.5], supg=True))
    responses: dict[str, fa.Response] = {"own": Weighted()}
    assert_exact(problem, responses)

    def untransposed(implicit: Implicit, rhs: FloatArray) -> FloatArray:
        constraints = implicit.at.constraints
        return constraints.expand(implicit.factor.solve(constraints.restrict(rhs).T).T)

    monkeypatch.setattr(Implicit, "adjoint", untransposed)
    with pytest.raises(AssertionError, match="largest term"):
        assert_exact(problem, responses)


# ---------------------------------------------------------------------- boundary layers
def layer(x: FloatArray, speed: float, k: float) -> FloatArray:
    """``b u' = k u''`` with ``u(0) = 0`` and ``u(1) = 1``."""
    decay = np.exp(-speed / k)
    profile: FloatArray = (np.exp(speed * (x - 1) / k) - decay) / (1 - decay)
    return profile


def channel(cell: str, n: int, k: float, speed: float, supg: bool) -> fa.Solution:
    """A layer on a regular mesh, along x."""
    dim = dim_of(cell)
    mesh = box_mesh(cell, (n, *[1] * (dim - 1)), lengths=(1.0, *[1 / n] * (dim - 1)))
    physics = fa.AdvectionDiffusion(k, speed * np.eye(dim)[0], supg=supg)
    return fa.LinearStatic(mesh, physics, [fa.Fixed("left"), fa.Fixed("right", value=1.0)], threads=1).solve()


@pytest.mark.parametrize("cell", ["quad", "triangle", "hexahedron"])
def test_boundary_layer_converges(cell: str) -> None:
    k, speed = 0.1, 1.5
    for supg in (False, True):
        errors = []
        for n in (20, 40, 80):
            solution = channel(cell, n, k, speed, supg)
            errors.append(np.abs(solution.u[:, 0] - layer(solution.points[:, 0], speed, k)).max())
        rate = np.log2(errors[1] / errors[2])
        if supg and cell != "triangle":  # along the flow this stabilisation makes nodes exact to fourth order
            assert rate == pytest.approx(4.0, abs=0.1), errors
        else:
            assert rate > 1.95, (supg, errors)
        assert errors[2] < errors[1] < errors[0]
        assert errors[2] < 2e-3


@pytest.mark.parametrize("cell", ["quad", "triangle", "hexahedron"])
def test_stabilised_layers_stay_within_bounds_where_others_oscillate(cell: str) -> None:
    k, speed, n = 1e-3, 1.0, 20  # a cell Peclet number of 25
    plain, stable = (channel(cell, n, k, speed, supg) for supg in (False, True))
    assert plain.u.min() < -0.5
    assert stable.u.min() > (-0.2 if cell == "triangle" else -0.05)  # triangles in one row are not alike
    assert stable.u.max() <= 1 + 1e-12
    outside = stable.points[:, 0] < 1 - 2.5 / n  # of the layer
    exact = layer(stable.points[:, 0], speed, k)
    assert np.abs(stable.u[outside, 0] - exact[outside]).max() < 0.05
    assert np.abs(plain.u[outside, 0] - exact[outside]).max() > 0.5


# ---------------------------------------------------------------------- other values of the parameters
@pytest.mark.parametrize("supg", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_velocity_of_zero_is_a_velocity(solver: str, supg: bool) -> None:
    """The matrix of zero velocity is symmetric; the problem is of the general kind all the same."""
    mesh = mesh_of("quad")
    b = np.array([0.9, -0.6])
    shapes: dict[str, tuple[Any, Any]] = {
        "constant": (np.zeros(2), b),
        "nodal": (fa.NodalField(np.zeros((mesh.n_nodes, 2))), np.tile(b, (mesh.n_nodes, 1))),
        "cell": (fa.CellField(np.zeros((mesh.n_cells, 2))), np.tile(b, (mesh.n_cells, 1))),
    }
    expected = problem_of(mesh, fa.AdvectionDiffusion(0.3, b, supg=supg), solver=solver).solve()
    for zero, moving in shapes.values():
        problem = problem_of(mesh, fa.AdvectionDiffusion(0.3, zero, supg=supg), solver=solver)
        assert kind_of(problem) == "general"
        still = problem.solve()
        A = dense(still)
        assert np.abs(A - A.T).max() <= 1e-14 * np.abs(A).max()
        diffusion = fa.LinearStatic(mesh, fa.Diffusion(0.3), problem.supports, threads=1).solve()
        assert np.abs(still.u - diffusion.u).max() <= 1e-12 * np.abs(diffusion.u).max()
        solution = problem.solve(parameters={"velocity": moving})
        A = dense(solution)
        assert np.abs(A - A.T).max() > 0.1 * np.abs(A).max()
        assert np.abs(solution.u - expected.u).max() <= 1e-12 * np.abs(expected.u).max()
        one, other = (fa.value_and_gradient(s, Weighted())[1].points for s in (solution, expected))
        assert np.abs(one - other).max() <= 1e-11 * np.abs(other).max()
        assert problem.counts == fa.Counts(1, 2)


def test_density_serves_the_mass() -> None:
    mesh = mesh_of("quad")
    physics = fa.AdvectionDiffusion(0.3, [1.0, 0.0], density={"low": 2.0, "high": 3.0}, thickness=0.4)
    volumes = mesh.cell_volumes()
    expected = 0.4 * (2 * volumes[mesh.cells_of("low")].sum() + 3 * volumes[mesh.cells_of("high")].sum())
    assert fa.Mass().evaluate(problem_of(mesh, physics).solve()).value == pytest.approx(expected, rel=1e-13)
    with pytest.raises(fa.ResponseError, match=r"no density: AdvectionDiffusion\(..., density="):
        fa.Mass().evaluate(problem_of(mesh, fa.AdvectionDiffusion(0.3, [1.0, 0.0])).solve())


def test_description() -> None:
    mesh = mesh_of("quad")
    physics = fa.AdvectionDiffusion({"low": 0.2, "high": 0.4}, [1.0, 0.0], supg=True, source=1.0)
    assert repr(physics) == "AdvectionDiffusion({'low': 0.2, 'high': 0.4}, array([1., 0.]), supg=True)"
    lines = physics.explain(mesh).splitlines()
    assert [line.split(" over ")[0] for line in lines] == [
        "bilinear form 'advection-diffusion'", "bilinear form 'advection-diffusion'",
        "linear form 'source'", "linear form 'source'",
    ]  # fmt: skip
    assert ["(low," in line or "(high," in line for line in lines] == [True] * 4


# ---------------------------------------------------------------------- what is refused
def test_materials_that_are_refused() -> None:
    fit = [1.0, 0.0]
    indefinite = np.array([[1.0, 3.0], [3.0, 1.0]])
    bad: list[Any] = [-1.0, 0.0, np.nan, np.inf, "water", indefinite, np.ones(2), {"low": -1.0}, np.ones((2, 3))]
    for conductivity in bad:
        with pytest.raises(fa.MaterialError, match="conductivity"):
            fa.AdvectionDiffusion(conductivity, fit)
    vectors: list[Any] = [[np.nan, 0.0], [np.inf, 0.0], 1.0, [[1.0, 0.0]], "fast", None, [1.0, "x"]]
    for velocity in vectors:
        with pytest.raises(fa.MaterialError, match="velocity must be a"):
            fa.AdvectionDiffusion(1.0, velocity)
    for options in ({"thickness": 0.0}, {"thickness": np.nan}, {"density": -1.0}, {"source": np.nan}, {"source": "s"}):
        with pytest.raises(fa.MaterialError, match=next(iter(options))):
            fa.AdvectionDiffusion(1.0, fit, **options)


def test_materials_that_do_not_fit_the_mesh() -> None:
    mesh, solid = mesh_of("quad"), mesh_of("tetra")
    n, m = mesh.n_nodes, mesh.n_cells
    three: list[Any] = [
        [1.0, 0.0, 0.0], [1.0], fa.NodalField(np.ones((n, 3))), fa.CellField(np.ones((m, 3))),
        fa.NodalField(np.ones(n)), fa.CellField(np.ones(m)), fa.NodalField(components=3),
    ]  # fmt: skip
    for velocity in three:
        with pytest.raises(fa.MaterialError, match="velocity must have 2 components on this mesh"):
            problem_of(mesh, fa.AdvectionDiffusion(1.0, velocity))
    with pytest.raises(fa.MaterialError, match="velocity must have 3 components"):
        problem_of(solid, fa.AdvectionDiffusion(1.0, [1.0, 0.0]))
    for velocity in (fa.NodalField(np.ones((n + 1, 2))), fa.CellField(np.full((m, 2), np.nan))):
        with pytest.raises(fa.ParameterError, match="'velocity' must"):
            problem_of(mesh, fa.AdvectionDiffusion(1.0, velocity))
    with pytest.raises(fa.MaterialError, match=r"conductivity must be a number or \(2, 2\), not \(3, 3\)"):
        problem_of(mesh, fa.AdvectionDiffusion(np.eye(3), [1.0, 0.0]))
    with pytest.raises(fa.MaterialError, match="conductivity"):
        problem_of(mesh, fa.AdvectionDiffusion({"low": 1.0}, [1.0, 0.0]))
    with pytest.raises(fa.MaterialError, match="thickness belongs to plane"):
        problem_of(solid, fa.AdvectionDiffusion(1.0, [1.0, 0.0, 0.0], thickness=0.3))
    later = problem_of(mesh, fa.AdvectionDiffusion(1.0, fa.NodalField(components=2)))
    with pytest.raises(fa.ParameterError, match="'velocity' has no values yet"):
        later.solve()


def test_velocity_functions_may_be_written_in_many_ways() -> None:
    mesh = mesh_of("quad")
    turning = np.array([[0.0, 1.0], [-1.0, 0.0]])
    ways: list[Any] = [
        lambda x: (x[1], -x[0]), lambda x: [x[1], -x[0]], lambda x: np.stack([x[1], -x[0]]), lambda x: turning @ x
    ]  # fmt: skip
    found = [problem_of(mesh, fa.AdvectionDiffusion(0.3, f, supg=True, source=1.0)).solve().u for f in ways]
    for u in found[1:]:
        assert np.abs(u - found[0]).max() <= 1e-13 * np.abs(u).max()
    constant = problem_of(mesh, fa.AdvectionDiffusion(0.3, [0.7, 0.0], supg=True)).solve()
    function = problem_of(mesh, fa.AdvectionDiffusion(0.3, lambda x: (0.7, 0.0 * x[0]), supg=True)).solve()
    assert np.abs(constant.u - function.u).max() <= 1e-13 * np.abs(constant.u).max()
    one, other = (fa.value_and_gradient(s, Weighted())[1].points for s in (constant, function))
    assert np.abs(one - other).max() <= 1e-12 * np.abs(one).max()


def test_velocity_functions_that_are_refused() -> None:
    mesh = mesh_of("quad")
    bad: dict[str, tuple[Any, str]] = {
        "three components": (lambda x: [x[0], x[1], 0 * x[0]], "must return 2 components, not 3"),
        "one component": (lambda x: [x[0]], "must return 2 components, not 1"),
        "NaN": (lambda x: [np.nan * x[0], x[1]], "NaN"),
        "raises": (lambda x: [x[0], x[7]], "index 7"),
    }
    for function, message in bad.values():
        for supg in (False, True):
            with pytest.raises(fa.FemadjError, match=message):
                problem_of(mesh, fa.AdvectionDiffusion(1.0, function, supg=supg))
