"""Gradients of every response by every node, under every load and support, on every cell type.

All nodes move, boundary and supports included, on bent meshes of both cell orientations away from the origin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import femadj as fa
from femadj.algebra.implicit import Implicit
from femadj.sensitivity.verify import local_sizes
from tests.meshes import MESHES, box_mesh, dim_of
from tests.products import Products
from tests.reference_assembly import turned

FloatArray = npt.NDArray[np.float64]

TOLERANCE = 1e-7
ORIGIN = (3.0, -2.0, 5.0)
SOLVERS = fa.available_solvers()


# ---------------------------------------------------------------------- what is combined
@cache
def mesh_of(name: str) -> fa.Mesh:
    """A few distorted cells."""
    dim = dim_of(name)
    return turned(box_mesh(name, (2, 2, 1)[:dim], distortion=0.12, origin=ORIGIN[:dim], seed=3))


def physics_of(dim: int) -> dict[str, fa.Elasticity | fa.Diffusion]:
    """Every kind of material."""
    rng = np.random.default_rng(0)
    root = rng.uniform(-1, 1, (6, 6))
    stiffness = root @ root.T + 3 * np.eye(6)
    root = rng.uniform(-1, 1, (dim, dim))
    tensor = root @ root.T + np.eye(dim)
    skew = np.triu(rng.uniform(0.5, 1, (dim, dim)), 1)
    two = {"E": {"low": 2.0, "high": 5.0}, "nu": {"low": 0.1, "high": 0.4}, "density": {"low": 1.2, "high": 0.7}}
    solids: dict[str, fa.Elasticity | fa.Diffusion]
    if dim == 3:
        solids = {
            "solid": fa.Elasticity(3.0, 0.3, density=1.3),
            "anisotropic": fa.Elasticity(stiffness=stiffness, density=1.3),
            "two solids": fa.Elasticity(**two),
        }
    else:
        solids = {
            "plane strain": fa.Elasticity(3.0, 0.3, density=1.3),
            "plane stress": fa.Elasticity(3.0, 0.3, density=1.3, plane="stress", thickness=0.4),
            "anisotropic": fa.Elasticity(stiffness=stiffness, density=1.3, plane="stress"),
            "two solids": fa.Elasticity(**two, thickness=2.5),
        }
    return solids | {
        "scalar": fa.Diffusion(2.0, density=1.3),
        "tensor": fa.Diffusion(tensor, density=1.3),
        "nonsymmetric": fa.Diffusion(tensor + skew - skew.T, density={"low": 1.2, "high": 0.7}),
        "two conductors": fa.Diffusion({"low": 0.7, "high": tensor}, density=1.3),
    }


def loads_of(physics: fa.Elasticity | fa.Diffusion, dim: int) -> dict[str, fa.loads.Load]:
    """Every load that fits."""
    vector = np.array([0.7, -1.1, 0.4])[:dim]

    def wave(x: Any) -> Any:
        return 1.0 + np.sin(x[0] + 2 * x[1]) + 0.3 * x[dim - 1] ** 2

    def waves(x: Any) -> Any:
        return [np.cos((i + 1) * x[0] - x[dim - 1]) + 0.2 * x[1] ** 2 for i in range(dim)]

    if isinstance(physics, fa.Diffusion):
        return {
            "source": fa.Source(1.3),
            "source of x": fa.Source(wave),
            "source in a group": fa.Source(wave, "high"),
            "flux": fa.Flux("top", -0.8),
            "flux of x": fa.Flux("boundary", wave),
            "point load": fa.PointLoad("opposite", 0.9),
            "total force on facets": fa.TotalForce("right", 1.2),
            "total force on nodes": fa.TotalForce("high", 1.2),
        }
    return {
        "body force": fa.BodyForce(vector),
        "body force of x": fa.BodyForce(waves),
        "body force in a group": fa.BodyForce(waves, "high"),
        "gravity": fa.Gravity(vector),
        "gravity in a group": fa.Gravity(vector, "low"),
        "traction": fa.Traction("top", vector),
        "traction of x": fa.Traction("boundary", waves),
        "traction inside": fa.Traction("middle", waves),
        "pressure": fa.Pressure("right", 0.8),
        "pressure of x": fa.Pressure("boundary", wave),
        "point load": fa.PointLoad("opposite", vector),
        "total force on facets": fa.TotalForce("top", vector),
        "total force inside": fa.TotalForce("middle", vector),
        "total force on nodes": fa.TotalForce("high", vector),
    }


SUPPORTS = ("zero", "values", "node by node", "some components", "moving", "some components moving")


def supports_of(kind: str, mesh: fa.Mesh, nc: int) -> list[fa.Fixed]:
    """Supports of every kind."""
    dim = mesh.dim
    sides = ("left", "bottom") if dim == 2 else ("left", "front", "bottom")
    last = nc - 1

    def wave(x: Any) -> Any:
        return 0.1 * np.sin(2 * x[0] + x[1]) + 0.05 * x[dim - 1] ** 2

    if kind == "zero":
        return [fa.Fixed("left")]
    if kind == "values":
        return [fa.Fixed("left", value=np.array([0.3, -0.2, 0.1])[:nc]), fa.Fixed("opposite", last, -0.4)]
    if kind == "node by node":
        n = len(mesh.nodes_of("left"))
        return [fa.Fixed("left", value=np.random.default_rng(5).uniform(-0.3, 0.3, (n, nc)))]
    if kind == "moving":
        return [
            fa.Fixed("left", value=lambda x: [wave(x) * (1 - 0.4 * i) for i in range(nc)]),
            fa.Fixed("right", last, wave),
        ]
    moving = kind == "some components moving"
    if nc == 1:
        return [fa.Fixed("bottom", 0, wave if moving else 0.2)]
    # rollers
    return [fa.Fixed(side, i, wave if moving and i < 2 else 0.0) for i, side in enumerate(sides)]


@dataclass(frozen=True)
class Weighted:
    """A response of one's own: ``mean(sin(k.x) |u|^2 + |x|^2 c.u)`` over all nodes."""

    k: tuple[float, ...] = (1.0, 2.0, -0.7)
    c: tuple[float, ...] = (0.3, -0.5, 0.8)

    def evaluate(self, solution: fa.Solution) -> fa.Evaluation:
        u, x = solution.u, solution.points
        n = len(x)
        k, c = np.array(self.k)[: x.shape[1]], np.array(self.c)[: u.shape[1]]
        sine, cosine = np.sin(x @ k), np.cos(x @ k)
        square, distance = (u**2).sum(axis=1), (x**2).sum(axis=1)
        return fa.Evaluation(
            value=float((sine * square + distance * (u @ c)).sum() / n),
            state=(2 * sine[:, None] * u + distance[:, None] * c) / n,
            points=((cosine * square)[:, None] * k + 2 * x * (u @ c)[:, None]) / n,
        )


def responses_of(nc: int) -> dict[str, fa.Response]:
    """Every response."""
    direction = np.array([0.6, -0.3, 0.5])[:nc].tolist()
    name = "u" if nc == 1 else "y"
    return {
        "compliance": fa.Compliance(),
        "strain energy": fa.StrainEnergy(),
        "volume": fa.Volume(),
        "volume of a group": fa.Volume("high"),
        "mass": fa.Mass(),
        "mass of a group": fa.Mass("low"),
        "mean": fa.Displacement("right", name),
        "sum": fa.Displacement("top", direction, "sum"),
        "sum over supports": fa.Displacement("left", direction, "sum"),
        "squared norm": fa.Displacement("boundary", reduce="squared_norm"),
        "squared component": fa.Displacement("high", direction, "squared_norm"),
        "field norm": fa.FieldNorm(),
        "field norm of a group": fa.FieldNorm("low"),
        "own": Weighted(),
    }


def components_of(physics: fa.Elasticity | fa.Diffusion, mesh: fa.Mesh) -> int:
    return len(physics.components(mesh.dim))


def problem_of(
    mesh: fa.Mesh, physics: str, loads: Sequence[str] | None = None, supports: str = "zero", **options: Any
) -> fa.LinearStatic:
    """Assemble a combination from its names; ``None``: all loads."""
    material = physics_of(mesh.dim)[physics]
    available = loads_of(material, mesh.dim)
    return fa.LinearStatic(
        mesh,
        material,
        supports_of(supports, mesh, components_of(material, mesh)),
        [available[name] for name in (available if loads is None else loads)],
        threads=1,
        **options,
    )


def direction_of(mesh: fa.Mesh, seed: int = 0) -> FloatArray:
    """Random velocity of every node, up to the length of its shortest edge."""
    velocity: FloatArray = np.random.default_rng(seed).uniform(-1, 1, mesh.points.shape)
    return velocity * local_sizes(mesh)[:, None]


# ---------------------------------------------------------------------- differences
def differences(values: Callable[[float], FloatArray], h: float) -> FloatArray:
    """Five-point central difference."""
    return (8 * (values(h) - values(-h)) - (values(2 * h) - values(-2 * h))) / (12 * h)


def assert_exact(problem: fa.LinearStatic, responses: dict[str, fa.Response], seed: int = 0) -> None:
    """Compare directional derivatives of all responses with differences along one direction of all nodes."""
    x = problem.mesh.points
    velocity = direction_of(problem.mesh, seed)
    at_rest, gradients = fa.values_and_gradients(problem.solve(), list(responses.values()))

    def values(t: float) -> FloatArray:
        solution = problem.solve(x + t * velocity)
        return np.array([r.evaluate(solution).value for r in responses.values()])

    terms = [g.points * velocity for g in gradients]
    exact = np.array([t.sum() for t in terms])
    scale = np.array([np.abs(t).max() for t in terms])
    allowed = TOLERANCE * scale + 1e-11 * np.abs(at_rest)  # the latter for rounding where nothing depends on the nodes
    error = np.full(len(terms), np.inf)
    for h in (4e-3, 1e-3, 2.5e-4):
        error = np.minimum(error, np.abs(differences(values, h) - exact))
        if (error <= allowed).all():
            return
    wrong = {
        name: f"{e:.12g}, off by {d / s if s else np.inf:.2g} of the largest term"
        for name, e, d, s, a in zip(responses, exact, error, scale, allowed, strict=True)
        if not d <= a
    }
    assert not wrong, wrong


STEPS = tuple(2e-2 * 4.0**-k for k in range(4))


def assert_second_order(problem: fa.LinearStatic, responses: dict[str, fa.Response], seed: int = 0) -> None:
    """Taylor remainders of all responses along random directions of all nodes are of order 2 +- 0.05.

    The order is that between the two smallest steps above rounding. A response whose second derivative along a
    direction happens to be small is given another one; one whose remainders are all rounding is linear there.
    """
    x = problem.mesh.points
    values, gradients = fa.values_and_gradients(problem.solve(), list(responses.values()))
    rounding = 1e-11 * np.abs(values)
    left = np.ones(len(values), dtype=bool)
    rates = np.full(len(values), np.nan)
    for attempt in range(5):
        velocity = direction_of(problem.mesh, 100 * attempt + seed)
        slopes = np.array([(g.points * velocity).sum() for g in gradients])
        remainders = []
        for h in STEPS:
            solution = problem.solve(x + h * velocity)
            moved = np.array([r.evaluate(solution).value for r in responses.values()])
            remainders.append(np.abs(moved - values - h * slopes))
        for number in np.flatnonzero(left):
            r = np.array([each[number] for each in remainders])
            usable = np.flatnonzero(r > rounding[number] + 1e-13 * abs(slopes[number]))
            if len(usable) < 2:
                left[number] = False
                continue
            last = usable[-1]
            rates[number] = np.log(r[last - 1] / r[last]) / np.log(4.0)
            left[number] = abs(rates[number] - 2.0) > 0.05
        if not left.any():
            return
    assert not left.any(), {n: r for n, r, bad in zip(responses, rates, left, strict=True) if bad}


COMBINATIONS = [
    pytest.param(
        name,
        physics,
        load,
        SUPPORTS[number % len(SUPPORTS)],
        marks=[pytest.mark.slow] if number % 2 else [],
        id=f"{name}-{physics}-{load}",
    )
    for number, (name, physics, load) in enumerate(
        (name, physics, load)
        for name in MESHES
        for physics, material in physics_of(dim_of(name)).items()
        for load in loads_of(material, dim_of(name))
    )
]


@pytest.mark.parametrize(("name", "physics", "load", "supports"), COMBINATIONS)
def test_every_load_and_response(name: str, physics: str, load: str, supports: str) -> None:
    problem = problem_of(mesh_of(name), physics, [load], supports)
    responses = responses_of(components_of(problem.physics, problem.mesh))
    assert_exact(problem, responses)
    assert_second_order(problem, responses)


@pytest.mark.parametrize(
    ("name", "physics", "supports"),
    [
        pytest.param(name, physics, supports, marks=[pytest.mark.slow] if (first + second) % 2 else [])
        for first, (name, physics) in enumerate(
            (name, physics) for name in MESHES for physics in physics_of(dim_of(name))
        )
        for second, supports in enumerate(SUPPORTS)
    ],
)
def test_every_support_under_all_loads(name: str, physics: str, supports: str) -> None:
    problem = problem_of(mesh_of(name), physics, None, supports)
    assert_exact(problem, responses_of(components_of(problem.physics, problem.mesh)), seed=1)


@pytest.mark.parametrize("order", [2, 6])
def test_other_quadrature_of_the_stiffness(order: int) -> None:
    mesh = mesh_of("quad8")
    assert_exact(problem_of(mesh, "plane strain", quadrature_order=order), responses_of(2))


def test_supports_alone_load_the_body() -> None:
    for supports in ("values", "moving", "some components moving"):
        for physics in ("solid", "nonsymmetric"):
            problem = problem_of(mesh_of("tetra10"), physics, [], supports)
            assert_exact(problem, responses_of(components_of(problem.physics, problem.mesh)))


# ---------------------------------------------------------------------- Taylor remainders on rebuilt problems
def _taylor_cases() -> list[Any]:
    cases = []
    responses = list(responses_of(1))
    number = 0
    for name in MESHES:  # every mesh with all loads at once
        dim = dim_of(name)
        for physics in ("solid" if dim == 3 else "plane stress", "nonsymmetric"):
            response = ("own", "field norm", "compliance", "squared norm")[number % 4]
            cases.append((name, physics, None, SUPPORTS[number % len(SUPPORTS)], response))
            number += 1
    for physics in ("anisotropic", "tensor"):  # every load by itself, every support, every response
        for load in loads_of(physics_of(2)[physics], 2):
            name = ("triangle6", "quad", "wedge", "hexahedron", "quad8+triangle6")[number % 5]
            response = responses[number % len(responses)]
            supports = "moving" if response == "sum over supports" else SUPPORTS[number % len(SUPPORTS)]
            cases.append((name, physics, (load,), supports, response))
            number += 1
    return [
        pytest.param(
            *case,
            id=f"{case[0]}-{case[1]}-{'all' if case[2] is None else case[2][0]}-{case[3]}-{case[4]}",
            marks=[pytest.mark.slow] if place % 2 else [],
        )
        for place, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("name", "physics", "loads", "supports", "response"), _taylor_cases())
def test_taylor(name: str, physics: str, loads: tuple[str, ...] | None, supports: str, response: str) -> None:
    problem = problem_of(mesh_of(name), physics, loads, supports)
    chosen = responses_of(components_of(problem.physics, problem.mesh))[response]
    outcome = fa.verify(problem, chosen, components=2, show=False)
    assert outcome.passed
    assert outcome.components


def test_taylor_cases_cover_everything() -> None:
    values = [p.values for p in _taylor_cases()]
    assert {v[0] for v in values} == set(MESHES)
    assert {v[3] for v in values} == set(SUPPORTS)
    assert {v[4] for v in values} == set(responses_of(1))


# ---------------------------------------------------------------------- by loads and prescribed values
SAMPLE = [("quad8", "plane stress"), ("tetra", "two solids"), ("wedge", "nonsymmetric")]


@pytest.mark.parametrize("supports", ["zero", "moving", "some components"])
@pytest.mark.parametrize(("name", "physics"), SAMPLE)
def test_gradient_by_nodal_forces(name: str, physics: str, supports: str) -> None:
    base = problem_of(mesh_of(name), physics, None, supports)
    mesh, nc = base.mesh, components_of(base.physics, base.mesh)
    responses = list(responses_of(nc).values())
    _, gradients = fa.values_and_gradients(base.solve(), responses)
    rng = np.random.default_rng(2)
    held = np.flatnonzero(base.residual.supports.fixed.any(axis=1))
    for node in (*rng.choice(mesh.n_nodes, 3, replace=False), *rng.choice(held, 2, replace=False)):
        marked = mesh.with_groups(node_groups={"one": [node]})
        for i in range(nc):

            def values(t: float, marked: fa.Mesh = marked, i: int = i) -> FloatArray:
                extra = fa.PointLoad("one", t * np.eye(nc)[i])
                problem = fa.LinearStatic(marked, base.physics, base.supports, [*base.loads, extra], threads=1)
                solution = problem.solve()
                return np.array([r.evaluate(solution).value for r in responses])

            expected = (values(1.0) - values(-1.0)) / 2  # exact for quadratic responses
            actual = np.array([g.loads[node, i] for g in gradients])
            scale = np.array([np.abs(g.loads).max() for g in gradients])
            assert (np.abs(actual - expected) <= 1e-10 * scale + 1e-15).all(), (node, i)


@pytest.mark.parametrize("loads", [(), None])
@pytest.mark.parametrize(("name", "physics"), SAMPLE)
def test_gradient_by_prescribed_values(name: str, physics: str, loads: tuple[str, ...] | None) -> None:
    base = problem_of(mesh_of(name), physics, loads, "node by node")
    mesh, nc = base.mesh, components_of(base.physics, base.mesh)
    responses = list(responses_of(nc).values())
    _, gradients = fa.values_and_gradients(base.solve(), responses)
    nodes = mesh.nodes_of("left")
    given = np.asarray(base.supports[0].value)
    for row in (0, len(nodes) // 2, len(nodes) - 1):
        for i in range(nc):

            def values(t: float, row: int = row, i: int = i) -> FloatArray:
                value = given.copy()
                value[row, i] += t
                problem = fa.LinearStatic(mesh, base.physics, [fa.Fixed("left", value=value)], base.loads, threads=1)
                solution = problem.solve()
                return np.array([r.evaluate(solution).value for r in responses])

            expected = (values(1.0) - values(-1.0)) / 2
            actual = np.array([g.supports[nodes[row], i] for g in gradients])
            scale = np.array([np.abs(g.supports).max() for g in gradients])
            assert (np.abs(actual - expected) <= 1e-10 * scale + 1e-15).all(), (row, i)
    for g in gradients:
        assert not g.supports[~base.residual.supports.fixed].any()


# ---------------------------------------------------------------------- forward mode
@pytest.mark.parametrize("supports", SUPPORTS)
@pytest.mark.parametrize(
    ("name", "physics"), [*SAMPLE, ("hexahedron+wedge", "anisotropic"), ("quad9+triangle6", "nonsymmetric")]
)
def test_tangent_agrees_with_adjoint(name: str, physics: str, supports: str) -> None:
    problem = problem_of(mesh_of(name), physics, None, supports)
    solution, system = problem.solve(), Products(problem)
    x, u, fixed = solution.points, solution.u, problem.residual.supports.fixed
    velocity = direction_of(problem.mesh, 4)

    df, (_, external) = np.zeros_like(u), system.at(x)._terms
    for term in external:
        term.pushforward(u, fa.Design(velocity), df)
    dKu = system.tangent(x, velocity, u) + df
    du = np.zeros_like(u)
    if solution.prescribed.derivative is not None:
        du = np.where(fixed, np.einsum("aij,aj->ai", solution.prescribed.derivative, velocity), 0.0)
    rhs = np.where(fixed, 0.0, df - dKu - system.stiffness_times(x, du))
    du += solution.factor.solve(rhs.ravel()).reshape(u.shape)

    responses = responses_of(components_of(problem.physics, problem.mesh))
    _, gradients = fa.values_and_gradients(solution, list(responses.values()))
    for (label, response), gradient in zip(responses.items(), gradients, strict=True):
        e = response.evaluate(solution)
        forward = 0.0
        for partial, change in (
            (e.state, du),
            (e.points, velocity),
            (e.external_weight, df),
            (e.internal_weight, dKu),
        ):
            forward += 0.0 if partial is None else float(np.vdot(partial, change))
        scale = np.abs(gradient.points * velocity).sum()
        assert abs(forward - float(np.vdot(gradient.points, velocity))) <= 1e-11 * scale, label


# ---------------------------------------------------------------------- what it costs
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("physics", ["solid", "nonsymmetric"])
def test_one_factorisation_for_all_responses_and_one_analysis_for_all_designs(physics: str, solver: str) -> None:
    problem = problem_of(mesh_of("tetra"), physics, None, "moving", solver=solver)
    assert problem.counts.factorisations == 0
    responses = list(responses_of(components_of(problem.physics, problem.mesh)).values())
    x, velocity = problem.mesh.points, direction_of(problem.mesh)
    kept = []
    for number, keep in enumerate((True, False, False, True, True, False, False)):
        solution = problem.solve(x + 0.01 * number * velocity)
        _, gradients = fa.values_and_gradients(solution, responses)
        assert problem.counts.factorisations == number + 1
        state_responses = sum(g.adjoint_solves for g in gradients)
        assert solution.factor.statistics.solves == 1 + state_responses
        if keep:
            kept.append((solution, gradients))
        del solution
    assert problem.counts.factorisations == 7
    if solver == "pardiso":
        # three live solutions need three analyses at most; those that were dropped gave theirs back
        assert problem.counts.analyses <= 4
    for solution, gradients in kept:  # which still work
        for g, again in zip(gradients, fa.values_and_gradients(solution, responses)[1], strict=True):
            assert np.abs(again.points - g.points).max() <= 1e-10 * np.abs(g.points).max()


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_analysis_after_the_first_design(solver: str) -> None:
    problem = problem_of(mesh_of("tetra"), "solid", solver=solver)
    assert problem.counts == fa.Counts(analyses=problem.counts.analyses, factorisations=0)
    velocity = direction_of(problem.mesh)
    analyses = []
    for number in range(4):
        solution = problem.solve(problem.mesh.points + 0.01 * number * velocity)
        fa.value_and_gradient(solution, Weighted())
        analyses.append(problem.counts.analyses)
        del solution
    assert analyses == [analyses[0]] * 4
    assert analyses[0] == 1


@pytest.mark.parametrize("physics", ["solid", "two solids", "scalar", "tensor"])
def test_self_adjoint_responses_solve_nothing(physics: str) -> None:
    mesh = mesh_of("hexahedron")
    for load in loads_of(physics_of(3)[physics], 3):
        solution = problem_of(mesh, physics, [load]).solve()
        before = solution.factor.statistics.solves
        known = [fa.Compliance(), fa.StrainEnergy()]
        _, gradients = fa.values_and_gradients(solution, known)
        assert solution.factor.statistics.solves == before
        assert [g.adjoint_solves for g in gradients] == [0, 0]

        for response, gradient in zip(known, gradients, strict=True):
            forced = fa.value_and_gradient(solution, Forced(response))[1]
            assert forced.adjoint_solves == 1
            scale = np.abs(gradient.points).max()
            assert np.abs(forced.points - gradient.points).max() <= 1e-12 * scale
            assert np.abs(forced.loads - gradient.loads).max() <= 1e-12 * np.abs(gradient.loads).max()
            assert np.abs(forced.supports - gradient.supports).max() <= 1e-11 * np.abs(gradient.supports).max()
        assert solution.factor.statistics.solves == before + 2


def test_strain_energy_of_prescribed_values_alone_solves_nothing() -> None:
    for supports in ("values", "moving"):
        solution = problem_of(mesh_of("hexahedron"), "solid", [], supports).solve()
        before = solution.factor.statistics.solves
        gradient = fa.value_and_gradient(solution, fa.StrainEnergy())[1]
        assert gradient.adjoint_solves == 0
        assert solution.factor.statistics.solves == before
        forced = fa.value_and_gradient(solution, Forced(fa.StrainEnergy()))[1]
        assert np.abs(forced.points - gradient.points).max() <= 1e-12 * np.abs(gradient.points).max()


def test_self_adjointness_is_not_assumed_where_it_does_not_hold() -> None:
    mesh = mesh_of("quad")
    for physics, supports in (("plane strain", "values"), ("plane strain", "moving"), ("nonsymmetric", "zero")):
        solution = problem_of(mesh, physics, None, supports).solve()
        _, gradients = fa.values_and_gradients(solution, [fa.Compliance(), fa.StrainEnergy()])
        assert [g.adjoint_solves for g in gradients] == [1, 1]


def test_geometry_alone_solves_nothing() -> None:
    solution = problem_of(mesh_of("quad"), "plane strain").solve()
    before = solution.factor.statistics.solves
    _, gradients = fa.values_and_gradients(solution, [fa.Volume(), fa.Mass()])
    assert solution.factor.statistics.solves == before
    for g in gradients:
        assert g.adjoint_solves == 0
        assert not g.loads.any()
        assert not g.supports.any()


@dataclass(frozen=True)
class Forced:
    """A response whose adjoint is solved for even where it is known."""

    response: fa.Response

    def evaluate(self, solution: fa.Solution) -> fa.Evaluation:
        return replace(self.response.evaluate(solution), adjoint=None)


def test_block_of_responses_gives_what_each_gives_alone() -> None:
    solution = problem_of(mesh_of("wedge"), "nonsymmetric", None, "moving").solve()
    responses = list(responses_of(1).values())
    values, gradients = fa.values_and_gradients(solution, responses)
    for value, gradient, response in zip(values, gradients, responses, strict=True):
        alone_value, alone = fa.value_and_gradient(solution, response)
        assert alone_value == value
        assert np.abs(alone.points - gradient.points).max() <= 1e-12 * np.abs(gradient.points).max()


# ---------------------------------------------------------------------- the transposed system
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["triangle", "quad8", "tetra10", "hexahedron"])
def test_untransposed_adjoint_would_be_found_out(name: str, solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # one side alone is held: a constant skew part acts through free boundaries only
    problem = problem_of(mesh_of(name), "nonsymmetric", None, "some components moving", solver=solver)
    assert not problem.residual.symmetric
    responses: dict[str, fa.Response] = {"own": Weighted(), "field norm": fa.FieldNorm()}
    assert_exact(problem, responses)
    solution = problem.solve()
    right = fa.value_and_gradient(solution, Weighted())[1].points

    def untransposed(self: Implicit, rhs: FloatArray) -> FloatArray:
        constraints = self.at.constraints
        return constraints.expand(self.factor.solve(constraints.restrict(rhs).T).T)

    monkeypatch.setattr(Implicit, "adjoint", untransposed)
    wrong = fa.value_and_gradient(solution, Weighted())[1].points
    assert np.abs(wrong - right).max() > 1e-2 * np.abs(right).max()
    with pytest.raises(AssertionError, match="largest term"):
        assert_exact(problem, responses)


# ---------------------------------------------------------------------- what must not matter
@pytest.mark.skipif(len(SOLVERS) < 2, reason="needs two solvers")
@pytest.mark.parametrize(("name", "physics"), SAMPLE)
def test_solvers_agree(name: str, physics: str) -> None:
    results = []
    for solver in SOLVERS:
        problem = problem_of(mesh_of(name), physics, None, "moving", solver=solver)
        assert problem.solver_name == solver
        results.append(
            fa.values_and_gradients(problem.solve(), list(responses_of(problem.residual.space.n_components).values()))
        )
    values, gradients = results[0]
    for other_values, other in results[1:]:
        assert other_values == pytest.approx(values, rel=1e-11)
        for g, h in zip(gradients, other, strict=True):
            assert np.abs(g.points - h.points).max() <= 1e-11 * np.abs(g.points).max()


@pytest.mark.parametrize(("name", "physics"), [*SAMPLE, ("hexahedron+wedge", "solid")])
def test_threads_do_not_change_a_bit(name: str, physics: str) -> None:
    dim = dim_of(name)
    mesh = turned(box_mesh(name, (4, 3, 2)[:dim], distortion=0.1, origin=ORIGIN[:dim], seed=6))
    material = physics_of(dim)[physics]
    nc = components_of(material, mesh)
    rng = np.random.default_rng(0)
    u, lam, weight = rng.uniform(-1, 1, (3, mesh.n_nodes, nc))
    results = []
    for threads in (1, 2, 3, 2):
        problem = fa.LinearStatic(
            mesh, material, supports_of("moving", mesh, nc), list(loads_of(material, dim).values()), threads=threads
        )
        assert problem.residual.space.n_parts == threads
        assembled = Products(problem).assemble(mesh.points)
        contracted = Products(problem).contract(mesh.points, u, lam, weight)
        tangent = Products(problem).tangent(mesh.points, direction_of(mesh), u)
        results.append((assembled.values, assembled.rhs, assembled.load, contracted, tangent))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("solver", SOLVERS)
def test_repeated_runs_agree_bit_by_bit(solver: str) -> None:
    problem = problem_of(mesh_of("tetra10"), "solid", None, "moving", solver=solver)
    first = fa.value_and_gradient(problem.solve(), Weighted())
    again = fa.value_and_gradient(problem.solve(), Weighted())
    assert first[0] == again[0]
    assert np.array_equal(first[1].points, again[1].points)


@pytest.mark.parametrize(("name", "physics"), [*SAMPLE, ("quad8+triangle6", "plane strain")])
def test_solving_at_points_is_solving_the_rebuilt_problem(name: str, physics: str) -> None:
    problem = problem_of(mesh_of(name), physics, None, "moving")
    x = problem.mesh.points + 0.05 * direction_of(problem.mesh)
    fa.value_and_gradient(problem.solve(), Weighted())  # an earlier design leaves no trace
    here, there = problem.solve(x), problem.rebuilt(x).solve()
    assert np.array_equal(here.points, x)
    assert np.abs(here.u - there.u).max() <= 1e-13 * np.abs(there.u).max()
    for response in responses_of(here.u.shape[1]).values():
        a, b = fa.value_and_gradient(here, response), fa.value_and_gradient(there, response)
        assert a[0] == pytest.approx(b[0], rel=1e-12)
        assert np.abs(a[1].points - b[1].points).max() <= 1e-11 * np.abs(b[1].points).max()


def test_solution_keeps_its_own_points() -> None:
    problem = problem_of(mesh_of("quad"), "plane strain")
    x = problem.mesh.points.copy()
    solution = problem.solve(x)
    before = fa.value_and_gradient(solution, Weighted())
    x += 10.0
    after = fa.value_and_gradient(solution, Weighted())
    assert before[0] == after[0]
    assert np.array_equal(before[1].points, after[1].points)
    with pytest.raises(ValueError, match="read-only"):
        solution.u[0, 0] = 1.0


@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("physics", ["anisotropic", "nonsymmetric"])
def test_node_numbers_and_cell_order_do_not_matter(name: str, physics: str) -> None:
    mesh = mesh_of(name)
    rng = np.random.default_rng(8)
    new = rng.permutation(mesh.n_nodes)  # new number of every node
    points = np.empty_like(mesh.points)
    points[new] = mesh.points
    offsets = mesh.block_offsets
    order = [rng.permutation(len(b)) for b in mesh.blocks]
    number = np.empty(mesh.n_cells, dtype=np.int64)
    blocks = []
    for which in range(len(mesh.blocks))[::-1]:
        block, chosen = mesh.blocks[which], order[which]
        start = sum(len(b) for _, b in blocks)
        number[offsets[which] + chosen] = start + np.arange(len(block))
        blocks.append((block.type, new[block.nodes[chosen]]))
    renumbered = fa.Mesh(
        points,
        blocks,
        node_groups={n: new[g] for n, g in mesh.node_groups.items()},
        facet_groups={n: [new[f] for _, f in mesh.facet_cells(s)] for n, s in mesh.facet_groups.items()},
        cell_groups={n: number[g] for n, g in mesh.cell_groups.items()},
        node_ids=rng.permutation(1000)[: mesh.n_nodes],
    )
    base = problem_of(mesh, physics, None, "moving")
    other = problem_of(renumbered, physics, None, "moving")
    solution, again = base.solve(), other.solve()
    assert np.abs(again.u[new] - solution.u).max() <= 1e-12 * np.abs(solution.u).max()
    responses = list(responses_of(solution.u.shape[1]).values())
    values, gradients = fa.values_and_gradients(solution, responses)
    other_values, others = fa.values_and_gradients(again, responses)
    assert other_values == pytest.approx(values, rel=1e-11)
    for g, h in zip(gradients, others, strict=True):
        assert np.abs(h.points[new] - g.points).max() <= 1e-11 * np.abs(g.points).max()


@pytest.mark.parametrize("name", ["quad8", "wedge"])
def test_gradient_rows_are_those_of_the_input_points(name: str) -> None:
    problem = problem_of(mesh_of(name), "anisotropic", None, "moving")
    x = problem.mesh.points
    gradient = fa.value_and_gradient(problem.solve(), Weighted())[1].points
    assert gradient.shape == x.shape
    edge = local_sizes(problem.mesh)
    for node in np.random.default_rng(1).choice(len(x), 4, replace=False):
        for axis in range(x.shape[1]):

            def values(t: float, node: int = int(node), axis: int = axis) -> FloatArray:
                moved = x.copy()
                moved[node, axis] += t * edge[node]
                return np.array(Weighted().evaluate(problem.solve(moved)).value)

            difference = differences(values, 4e-3) / edge[node]
            assert abs(difference - gradient[node, axis]) <= TOLERANCE * np.abs(gradient).max()


# ---------------------------------------------------------------------- statics
@pytest.mark.parametrize("name", MESHES)
def test_translation_of_everything_changes_nothing(name: str) -> None:
    """With data that do not depend on position, the sum of the gradient over all nodes vanishes."""
    mesh = mesh_of(name)
    loads = ("body force", "gravity", "traction", "pressure", "point load", "total force on facets")
    for supports in ("zero", "values"):
        problem = problem_of(mesh, "anisotropic", loads, supports)
        responses = {k: r for k, r in responses_of(mesh.dim).items() if k != "own"}
        _, gradients = fa.values_and_gradients(problem.solve(), list(responses.values()))
        for g in gradients:
            assert np.abs(g.points.sum(axis=0)).max() <= 1e-11 * np.abs(g.points).sum() + 1e-300


@pytest.mark.parametrize("name", MESHES)
def test_dead_loads_keep_their_resultant(name: str) -> None:
    mesh = mesh_of(name)
    force = np.array([0.7, -1.1, 0.4])[: mesh.dim]
    for load in ("total force on facets", "total force inside", "total force on nodes"):
        problem = problem_of(mesh, "anisotropic", [load])
        for t in (0.0, 0.05):
            solution = problem.solve(mesh.points + t * direction_of(mesh))
            assert solution.load.sum(axis=0) == pytest.approx(force, rel=1e-12)
            assert solution.reactions().sum(axis=0) == pytest.approx(-force, rel=1e-9)


@pytest.mark.parametrize("physics", ["plane strain", "scalar"])
def test_thickness_multiplies_whatever_is_spread(physics: str) -> None:
    mesh = mesh_of("quad+triangle")
    thin = physics_of(2)[physics]
    thick = replace(thin, thickness=2.5)
    dead = {"point load", "total force on facets", "total force inside", "total force on nodes"}
    for name, load in loads_of(thin, 2).items():
        one, other = (fa.LinearStatic(mesh, p, [fa.Fixed("left")], [load]).solve() for p in (thin, thick))
        factor = 1.0 if name in dead else 2.5
        assert np.abs(one.load).max() > 0, name
        assert np.abs(other.load - factor * one.load).max() <= 1e-13 * np.abs(other.load).max(), name
        assert np.abs(other.u - factor / 2.5 * one.u).max() <= 1e-12 * np.abs(one.u).max(), name
        for response in (fa.Volume(), fa.Mass(), fa.FieldNorm()):
            ratio = 2.5 * ((factor / 2.5) ** 2 if isinstance(response, fa.FieldNorm) else 1.0)
            assert response.evaluate(other).value == pytest.approx(ratio * response.evaluate(one).value, rel=1e-12)


@pytest.mark.parametrize("name", MESHES)
def test_resultants_have_the_right_sign_and_size(name: str) -> None:
    mesh = mesh_of(name)
    dim = mesh.dim
    vector = np.array([0.7, -1.1, 0.4])[:dim]
    solid = fa.Elasticity(3.0, 0.3, density=1.3)

    def resultant(load: fa.loads.Load) -> FloatArray:
        total: FloatArray = fa.LinearStatic(mesh, solid, [fa.Fixed("left")], [load]).solve().load.sum(axis=0)
        return total

    volume = mesh.volume()
    assert resultant(fa.BodyForce(vector)) == pytest.approx(volume * vector, rel=1e-12)
    assert resultant(fa.BodyForce(lambda _: vector.tolist())) == pytest.approx(volume * vector, rel=1e-12)
    assert resultant(fa.Gravity(vector)) == pytest.approx(1.3 * volume * vector, rel=1e-12)
    halves = [resultant(fa.Gravity(vector, g)) for g in ("low", "high")]
    assert np.sum(halves, axis=0) == pytest.approx(1.3 * volume * vector, rel=1e-12)
    right, left = (resultant(fa.Pressure(side, 2.0)) for side in ("right", "left"))
    assert right[0] < 0 < left[0]  # it pushes
    assert np.abs(resultant(fa.Pressure("boundary", 2.0))).max() < 1e-12  # a closed surface feels nothing
    varying = resultant(fa.Pressure("boundary", lambda x: 2.0 + x[0]))  # buoyancy
    tolerance = 1e-3 if name in ("hexahedron20", "hexahedron27", "tetra10") else 1e-12  # curved facets in space
    assert varying == pytest.approx(np.eye(dim)[0] * -volume, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize(("name", "physics"), [("quad8", "plane stress"), ("wedge", "nonsymmetric")])
def test_values_of_responses(name: str, physics: str) -> None:
    solution = problem_of(mesh_of(name), physics, None, "moving").solve()
    mesh, u = solution.problem.mesh, solution.u
    n, nc = u.shape
    direction = np.array([0.6, -0.3, 0.5])[:nc]
    right, top, high, left = (mesh.nodes_of(g) for g in ("right", "top", "high", "left"))
    system = Products(solution.problem)
    K = np.array([system.stiffness_times(mesh.points, e.reshape(n, nc)).ravel() for e in np.eye(n * nc)]).T
    volumes = mesh.cell_volumes() * solution.problem.physics.thickness_in(mesh.dim)
    density = solution.problem.physics.density_of(mesh)
    low = mesh.cells_of("low")
    expected = {
        "compliance": np.vdot(solution.load, u),
        "strain energy": u.ravel() @ K @ u.ravel() / 2,
        "volume": volumes.sum(),
        "volume of a group": volumes[mesh.cells_of("high")].sum(),
        "mass": density @ volumes,
        "mass of a group": density[low] @ volumes[low],
        "mean": u[right, nc - 1 if nc < 3 else 1].mean(),
        "sum": (u[top] @ direction).sum(),
        "sum over supports": (u[left] @ direction).sum(),
        "squared norm": (u[mesh.nodes_of("boundary")] ** 2).sum(),
        "squared component": ((u[high] @ direction) ** 2).sum(),
    }
    responses = responses_of(nc)
    for label, value in expected.items():
        assert responses[label].evaluate(solution).value == pytest.approx(value, rel=1e-11), label
    for group, cells in ((None, slice(None)), ("low", low)):  # the norm of a constant field is its volume
        constant = replace(solution, linear=replace(solution.linear, x=np.full(u.size, 0.5)))
        assert fa.FieldNorm(group).evaluate(constant).value == pytest.approx(0.25 * nc * volumes[cells].sum())
