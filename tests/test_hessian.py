"""Second derivatives: products with Hessians against sixth-order differences of gradients, closed forms, counts.

All nodes move, boundary and supports included, on bent meshes away from the origin, and all parameters change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skfem
from scipy.optimize import minimize
from skfem.helpers import ddot, div, dot, grad, jump

import femadj as fa
from femadj.algebra import implicit, second
from femadj.algebra.residual import Weights
from femadj.conditions.loads import NodalForces
from tests.meshes import box_mesh, dim_of

FloatArray = npt.NDArray[np.float64]

ORIGIN = (3.0, -2.0, 5.0)
FORCE = (0.3, -1.0, 0.5)
STENCIL = ((1, 45.0), (2, -9.0), (3, 1.0))
"""Of a sixth-order difference, over 60 steps."""


class Mixed:
    """``sum u^2/2 + u^3/3 + x y u_0 + sin X``, written by hand."""

    def evaluate(self, solution: fa.Solution) -> fa.Evaluation:
        u, x = solution.u, solution.points
        state, points = u + u**2, np.cos(x)
        state[:, 0] += x[:, 0] * x[:, 1]
        points[:, 0] += x[:, 1] * u[:, 0]
        points[:, 1] += x[:, 0] * u[:, 0]
        value = (u**2 / 2 + u**3 / 3).sum() + (x[:, 0] * x[:, 1] * u[:, 0]).sum() + np.sin(x).sum()
        return fa.Evaluation(value, state=state, points=points)


def wave(x: Any) -> Any:
    return 1.0 + np.sin(x[0] + 2 * x[1]) + 0.3 * x[-1] ** 2


@cache
def mesh_of(cell: str) -> fa.Mesh:
    dim = dim_of(cell)
    return box_mesh(cell, (2, 2, 1)[:dim], distortion=0.12, origin=ORIGIN[:dim], seed=3)


@cache
def elastic(cell: str) -> fa.LinearStatic:
    """Every kind of load, supports that move, two materials."""
    mesh = mesh_of(cell)
    force = FORCE[: mesh.dim]
    return fa.LinearStatic(
        mesh,
        fa.Elasticity({"low": 2.0, "high": 5.0}, {"low": 0.1, "high": 0.4}, density=1.3),
        [fa.Fixed("left"), fa.Fixed("right", "x", lambda x: 0.1 * x[1] + 0.05 * x[0] ** 2)],
        [
            fa.Traction("top", force),
            fa.Pressure("bottom", 0.7),
            fa.Pressure("top", lambda x: x[0] ** 2),
            fa.BodyForce(lambda x: [np.sin(x[1]), x[0] ** 2, x[0] * x[1]][: len(x)]),
            fa.Gravity(force),
            fa.TotalForce("top", force),
            fa.PointLoad("opposite", force),
        ],
    )


@cache
def carried(cell: str) -> fa.LinearStatic:
    """An unsymmetric system."""
    mesh = mesh_of(cell)
    return fa.LinearStatic(
        mesh,
        fa.AdvectionDiffusion(0.7, (3.0, 1.0, 2.0)[: mesh.dim], supg=True),
        [fa.Fixed("left", None, lambda x: x[1] - 0.3 * x[0] ** 2)],
        [fa.Source(wave), fa.Flux("top", 1.0)],
    )


# ---------------------------------------------------------------------- against differences
def values_of(problem: fa.LinearStatic | fa.Chain, names: Sequence[str]) -> dict[str, FloatArray]:
    entries = problem.parameters.entries
    return {name: np.asarray(entries[name].values) for name in names}


def direction_of(
    problem: fa.LinearStatic | fa.Chain, names: Sequence[str], rng: np.random.Generator
) -> dict[str, FloatArray]:
    """A random direction of the points and of some parameters."""
    along = {"points": 0.3 * rng.uniform(-1, 1, problem.mesh.points.shape)}
    for name, values in values_of(problem, names).items():
        along[name] = 0.3 * np.abs(values).max() * rng.uniform(-1, 1, values.shape)
    return along


def differences(
    problem: fa.LinearStatic | fa.Chain, responses: Sequence[Any], along: dict[str, FloatArray], step: float
) -> list[dict[str, FloatArray]]:
    """Rates of the gradients of responses along a direction, from problems that are solved anew."""
    names = [name for name in along if name != "points"]
    start = values_of(problem, names)
    total = [{name: np.zeros(np.shape(rate)) for name, rate in along.items()} for _ in responses]
    for k, weight in STENCIL:
        for sign in (1, -1):
            t = sign * k * step
            moved = {name: start[name] + t * along[name] for name in names}
            solution = problem.solve(problem.mesh.points + t * along["points"], moved)
            _, gradients = fa.values_and_gradients(solution, responses)
            for sums, gradient in zip(total, gradients, strict=True):
                sums["points"] += sign * weight / (60 * step) * gradient.points
                for name in names:
                    sums[name] += sign * weight / (60 * step) * gradient.parameters[name]
    return total


def check(
    problem: fa.LinearStatic | fa.Chain, responses: Sequence[Any], names: Sequence[str], step: float = 2e-3,
    symmetry: float = 1e-12,
) -> None:  # fmt: skip
    """Products of all responses: equal to differences, symmetric, without a factorisation."""
    solution, along = problem.solve(), direction_of(problem, names, np.random.default_rng(5))
    before = problem.counts.factorisations
    hessians = [fa.hessian(solution, response) for response in responses]
    products = [hessian @ along for hessian in hessians]
    errors = [hessian.symmetry_error() for hessian in hessians]
    assert problem.counts.factorisations == before
    _, gradients = fa.values_and_gradients(solution, responses)
    for response, hessian, product, error, gradient, difference in zip(
        responses, hessians, products, errors, gradients, differences(problem, responses, along, step), strict=True
    ):
        assert error <= symmetry, response
        np.testing.assert_allclose(hessian.gradient["points"], gradient.points, rtol=1e-12, atol=1e-12)
        assert list(product) == list(along)
        for name, found in product.items():
            scale = np.abs(difference[name]).max()
            np.testing.assert_allclose(found, difference[name], rtol=0, atol=1e-9 * max(scale, 1e-3), err_msg=name)


CELLS = ("quad", "triangle6", "tetra", "hexahedron")


@pytest.mark.parametrize("cell", CELLS)
def test_elasticity(cell: str) -> None:
    responses = [fa.Compliance(), fa.FieldNorm("high"), Mixed()]
    if cell == "quad":
        responses += [
            fa.StrainEnergy(), fa.Displacement("top", "y"), fa.Displacement("top", reduce="squared_norm"), fa.Volume(),
            fa.Mass(), fa.Reaction("left", "x"),
        ]  # fmt: skip
    check(elastic(cell), responses, ("E", "nu", "density"))


@pytest.mark.parametrize("cell", CELLS)
def test_advection_and_diffusion(cell: str) -> None:
    check(carried(cell), [fa.Compliance(), Mixed()], ("conductivity", "velocity"))


def test_self_adjoint_compliance_takes_one_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = mesh_of("quad")
    problem = fa.LinearStatic(mesh, fa.Elasticity(2.0, 0.3), [fa.Fixed("left")], [fa.Traction("top", (0.3, -1.0))])
    check(problem, [fa.Compliance()], ("E", "nu", "thickness"))
    solved = []
    original = implicit._solved
    monkeypatch.setattr(implicit, "_solved", lambda factor, rhs: (solved.append(len(rhs)), original(factor, rhs))[1])
    solution = problem.solve()
    for response, expected in ((fa.Compliance(), 1), (fa.FieldNorm(), 2), (fa.Volume(), 1)):
        hessian = fa.hessian(solution, response, check=False)
        solved.clear()
        hessian @ mesh.points
        assert sum(solved) == expected, response


def test_a_prescribed_value_that_is_zero_and_moves_is_no_reason_to_know_the_adjoint() -> None:
    mesh = box_mesh("quad", (2, 2), origin=ORIGIN[:2])
    supports = [fa.Fixed("left", value=lambda x: [x[0] - ORIGIN[0], 0 * x[1]])]
    problem = fa.LinearStatic(mesh, fa.Elasticity(2.0, 0.3), supports, [fa.Traction("top", (0.3, -1.0))])
    assert problem.solve().prescribed.homogeneous
    check(problem, [fa.Compliance()], ("E",))


def test_materials_and_thermal_strain() -> None:
    mesh = mesh_of("quad")
    stiffness = np.eye(6) + 0.1 * np.ones((6, 6))
    temperature = fa.NodalField(mesh.points[:, 0] ** 2)
    cells = np.linspace(1.0, 2.0, mesh.n_cells)
    plane = fa.Elasticity(stiffness=stiffness, plane="stress", thickness=0.4)
    anisotropic = fa.LinearStatic(
        mesh, plane, [fa.Fixed("left")], [fa.ThermalStrain(0.1, temperature, 1.0), fa.Traction("top", (0.3, -1.0))]
    )
    check(anisotropic, [fa.Displacement("right", "x")], ("stiffness", "temperature", "thickness"))
    by_cell = fa.LinearStatic(
        mesh, fa.Elasticity(fa.CellField(cells), 0.2), [fa.Fixed("left")],
        [fa.ThermalStrain({"low": 0.1, "high": 0.3}, fa.CellField(cells), 1.0)],
    )  # fmt: skip
    check(by_cell, [fa.FieldNorm()], ("E", "nu", "temperature"))


def test_functionals() -> None:
    mesh = mesh_of("quad")
    field = fa.NodalField(mesh.points[:, 0] + 0.1 * mesh.points[:, 1] ** 2)
    responses = [
        fa.Functional(lambda w: np.exp(0.1 * w.u) * w.x[0] + dot(w.u.grad, w.u.grad) ** 1.5 * np.sqrt(1 + w.h)),
        fa.Functional(fa.Integral(lambda w: w.u**2 * w.n[0] * np.abs(w.x[1]) + 90, "top"), mean=True, power=2.0),
        fa.Functional(
            lambda w: (w.u**2 + w.c) ** 4 * w.p**2 + np.where(w.u > 2, w.u, 2.0) * w.p.grad[0] * w.conductivity,
            power=0.25, parameters={"c": 2.0, "p": field},
        ),
    ]  # fmt: skip
    check(carried("quad"), responses, ("conductivity", "velocity"))


def stokes(u: Any, p: Any, v: Any, q: Any, w: Any) -> Any:
    return ddot(grad(u), grad(v)) * w.mu * (1 + 0.1 * w.x[0] ** 2) - p * div(v) - q * div(u)


def darcy(s: Any, p: Any, v: Any, q: Any, w: Any) -> Any:
    return dot(s, v) / w.k - p * div(v) - q * div(s)


def penalty(u: Any, v: Any, w: Any) -> Any:
    """Symmetric interior penalty."""
    of_u, of_v = jump(w, u, v)
    return 10 * of_u * of_v / w.h - 0.5 * of_v * dot(u.grad, w.n) - 0.5 * of_u * dot(v.grad, w.n)


def test_forms_of_any_element() -> None:
    mesh = mesh_of("triangle")
    taylor_hood = skfem.ElementVector(skfem.ElementTriP2()) * skfem.ElementTriP1()
    flow = fa.Form(
        stokes, lambda v, q, w: v[0] * w.x[1] + v[1] * np.sin(w.x[0]), element=taylor_hood, names=("u", "p"),
        parameters={"mu": 1.3},
    )  # fmt: skip
    walls = [fa.Fixed(side, "u", overrides=True) for side in ("bottom", "top")]
    channel = fa.LinearStatic(mesh, flow, [fa.Fixed("left", "u", lambda x: [x[1] ** 2, 0 * x[0]]), *walls])
    check(channel, [fa.Functional(lambda w: dot(w.u, w.u) * w.p**2 + w.u.grad[0, 1] ** 2 * w.x[0])], ("mu",))
    porous = fa.Form(
        darcy, lambda v, q, w: -q * np.sin(w.x[0]), element=skfem.ElementTriRT0() * skfem.ElementTriP0(),
        names=("s", "p"), parameters={"k": fa.CellField(np.linspace(1, 2, mesh.n_cells))},
    )  # fmt: skip
    filtered = fa.LinearStatic(mesh, porous, [fa.Fixed("left", "s")])
    check(filtered, [fa.Functional(lambda w: dot(w.s, w.s) * w.x[0] + w.p**3)], ("k",))
    broken = fa.Form(
        [lambda u, v, w: w.c * dot(u.grad, v.grad) + u * v, fa.Integral(penalty, over="interior facets")],
        lambda v, w: v * w.x[0], element=skfem.ElementTriDG(skfem.ElementTriP1()), parameters={"c": 1.2},
    )  # fmt: skip
    check(fa.LinearStatic(mesh, broken), [fa.Functional(lambda w: w.u**3)], ("c",), symmetry=1e-11)


def test_chains() -> None:
    mesh = mesh_of("quad")
    heat = fa.LinearStatic(mesh, fa.Diffusion(1.3), [fa.Fixed("left", None, lambda x: x[1] ** 2)], [fa.Source(2.0)])
    body = fa.LinearStatic(
        mesh, fa.Elasticity(2.0, 0.3), [fa.Fixed("left")],
        [fa.ThermalStrain(0.1, name="heat"), fa.Traction("top", (0.1, 0.2))],
    )  # fmt: skip
    both = fa.Functional(lambda w: w.u[0] ** 2 * w.heat**2 + w.heat.grad[0] ** 2 * w.u[1])
    chain = fa.Chain({"heat": heat, "body": body})
    responses = [fa.Compliance(), fa.OnStage("heat", fa.FieldNorm()), both]
    check(chain, responses, ("heat.conductivity", "body.E", "body.nu"))


def test_any_number_of_threads() -> None:
    mesh = mesh_of("tetra")
    along = {"points": mesh.points, "conductivity": np.array(0.3)}
    results = []
    for threads in (1, 2):
        physics = fa.AdvectionDiffusion(0.7, (3.0, 1.0, 2.0))
        problem = fa.LinearStatic(mesh, physics, [fa.Fixed("left")], [fa.Source(wave)], threads=threads)
        results.append(fa.hessian(problem.solve(), fa.Functional(lambda w: w.u**3 * w.x[0])) @ along)
    for name, one in results[0].items():
        np.testing.assert_allclose(results[1][name], one, rtol=1e-12, atol=1e-12 * np.abs(one).max())


# ---------------------------------------------------------------------- closed forms and orders
def test_closed_forms() -> None:
    mesh = box_mesh("quad", (3, 2), lengths=(2.0, 1.0), distortion=0.1, flat=True)
    x = mesh.points
    slab = fa.LinearStatic(mesh, fa.Diffusion(1.7), [fa.Fixed("left")], [fa.Flux("right", 0.6)])
    hessian = fa.hessian(slab.solve(), fa.Compliance())
    assert hessian.value == pytest.approx(0.6**2 * 2.0 / 1.7)  # flux^2 length height / conductivity
    longer, higher = x * (1.0, 0.0), x * (0.0, 1.0)
    stretched = hessian @ longer
    assert np.vdot(longer, stretched) == pytest.approx(0.0, abs=1e-12)  # linear in the length
    assert np.vdot(higher, stretched) == pytest.approx(hessian.value)  # and in the height
    curvature = hessian @ {"points": 0 * x, "conductivity": 1.0}
    assert curvature["conductivity"] == pytest.approx(2 * hessian.value / 1.7**2)
    assert np.vdot(longer, curvature["points"]) == pytest.approx(-hessian.value / 1.7)
    rates = np.array([[0.3, -0.7], [0.2, 0.5]])
    moved = x @ rates.T
    area = fa.hessian(slab.solve(), fa.Volume()) @ moved
    assert np.vdot(moved, area) == pytest.approx(2 * np.linalg.det(rates) * 2.0)  # det(I + t A) times the area


@pytest.mark.parametrize("response", [fa.Compliance(), fa.FieldNorm()], ids=lambda r: type(r).__name__)
def test_taylor_remainder_of_third_order(response: Any) -> None:
    problem = elastic("quad")
    mesh, along = problem.mesh, direction_of(problem, ("E", "nu"), np.random.default_rng(7))
    hessian = fa.hessian(problem.solve(), response)
    product, gradient = hessian @ along, hessian.gradient
    first, second_ = (sum(float((along[n] * rate[n]).sum()) for n in along) for rate in (gradient, product))
    steps = 0.1 / 2.0 ** np.arange(4)
    remainders = []
    for t in steps:
        moved = {name: np.asarray(problem.parameters.value(name)) + t * along[name] for name in ("E", "nu")}
        value = response.value(problem.solve(mesh.points + t * along["points"], moved))
        remainders.append(abs(value - hessian.value - t * first - 0.5 * t**2 * second_))
    order = np.polyfit(np.log(steps[1:]), np.log(remainders[1:]), 1)[0]
    assert order == pytest.approx(3.0, abs=0.1)


def test_operators_and_shapes_of_directions() -> None:
    problem = elastic("quad")
    hessian = fa.hessian(problem.solve(), fa.FieldNorm())
    rng = np.random.default_rng(0)
    velocity, rates = rng.uniform(-1, 1, problem.mesh.points.shape), rng.uniform(-1, 1, 2)
    product = hessian @ velocity
    design = hessian @ fa.Design(velocity, {"E": rates})
    assert design.points.shape == product.shape
    operator = hessian.as_operator(["points", "E"])
    assert operator.dtype == np.float64
    found = operator @ np.concatenate([velocity.ravel(), rates])
    np.testing.assert_allclose(found, np.concatenate([design.points.ravel(), design.parameters["E"]]), rtol=1e-13)
    np.testing.assert_allclose(hessian.as_operator() @ velocity.ravel(), product.ravel(), rtol=1e-13)
    assert hessian.symmetry_error(velocity, {"points": velocity[::-1], "E": rates}) < 1e-13
    assert "products: 6" in repr(hessian)
    assert (hessian @ np.zeros_like(velocity) == 0).all()


def test_newton_takes_few_factorisations() -> None:
    mesh = box_mesh("quad", (6, 3), distortion=0.05)
    x = mesh.points
    problem = fa.LinearStatic(mesh, fa.Elasticity(10.0, 0.3), [fa.Fixed("left")], [fa.Traction("right", (0.3, -1.0))])
    modes = np.stack([np.outer(x[:, 1] * np.sin(np.pi * k * x[:, 0]), (0.0, 1.0)) for k in (0.5, 1.0, 1.5)])

    @cache
    def at(amplitudes: bytes) -> fa.Hessian:
        solution = problem.solve(x + np.tensordot(np.frombuffer(amplitudes), modes, 1))
        return fa.hessian(solution, fa.Compliance(), check=False)

    found = minimize(
        lambda q: at(q.tobytes()).value + 2 * q @ q,
        np.zeros(3),
        jac=lambda q: np.tensordot(modes, at(q.tobytes()).gradient["points"], 2) + 4 * q,
        hessp=lambda q, p: np.tensordot(modes, at(q.tobytes()) @ np.tensordot(p, modes, 1), 2) + 4 * p,
        method="trust-ncg",
        options={"gtol": 1e-7},
    )
    assert found.success
    assert np.abs(found.jac).max() < 1e-7
    assert problem.counts.factorisations <= 8


# ---------------------------------------------------------------------- what is refused
class Cast(Mixed):
    def evaluate(self, solution: fa.Solution) -> fa.Evaluation:
        found = super().evaluate(solution)
        return fa.Evaluation(float(found.value), state=found.state, points=found.points)


class Stripped(Mixed):
    """Loses rates where nobody looks: ``np.abs`` of an array whose guard has been taken off."""

    def evaluate(self, solution: fa.Solution) -> fa.Evaluation:
        u = np.asarray(solution.u)
        return fa.Evaluation((np.abs(u) ** 3).sum() / 3, state=np.abs(u) * np.abs(u))


def test_responses_that_drop_rates_are_refused() -> None:
    solution, velocity = carried("quad").solve(), mesh_of("quad").points
    with pytest.raises(fa.SecondOrderError, match=r"Cast has to be evaluated on complex numbers.*float"):
        fa.hessian(solution, Cast()) @ velocity
    with pytest.raises(fa.SecondOrderError, match=r"adjoint state is .* away from a difference"):
        fa.hessian(solution, Stripped()) @ velocity
    fa.hessian(solution, Stripped(), check=False) @ velocity


@pytest.mark.parametrize("what", ["state", "adjoint", "product"])
def test_the_check_sees_what_is_wrong(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    solution, velocity = elastic("quad").solve(), np.random.default_rng(2).uniform(-1, 1, mesh_of("quad").points.shape)
    if what == "state":
        monkeypatch.setattr(implicit.Implicit, "pushforward", _scaled(implicit.Implicit.pushforward))
    elif what == "adjoint":
        monkeypatch.setattr(implicit.Implicit, "adjoint", _scaled(implicit.Implicit.adjoint))
    else:
        monkeypatch.setattr(second, "stepped", lambda numbers, rates: numbers + 1.001j * second.STEP * rates)
    hessian = fa.hessian(solution, fa.FieldNorm(), check=False)
    assert np.isfinite(hessian @ velocity).all()
    with pytest.raises(fa.SecondOrderError, match="away from a difference"):
        fa.hessian(solution, fa.FieldNorm()) @ velocity


def _scaled(function: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
    return lambda *arguments: 1.001 * function(*arguments)


class Silent(NodalForces):
    """A term of one's own that does not tell second derivatives."""

    in_motion = None  # type: ignore[assignment]


class Quiet:
    def bind(self, space: Any, physics: Any) -> list[NodalForces]:
        return [Silent(np.ones(space.shape))]


def test_terms_without_second_derivatives_are_refused() -> None:
    mesh = mesh_of("quad")
    problem = fa.LinearStatic(mesh, fa.Diffusion(1.0), [fa.Fixed("left")], [Quiet()])
    hessian = fa.hessian(problem.solve(), fa.Compliance())
    assert hessian.gradient["points"].shape == mesh.points.shape
    with pytest.raises(fa.SecondOrderError, match=r"Silent does not tell its second derivatives.*in_motion"):
        hessian @ mesh.points


def test_functions_without_a_second_rule_are_refused() -> None:
    mesh = mesh_of("quad")
    problem = fa.LinearStatic(
        mesh, fa.Diffusion(1.0), [fa.Fixed("left")], [fa.Source(lambda x: np.multiply.reduce(np.stack([x[0], x[1]])))]
    )
    solution = problem.solve()
    fa.value_and_gradient(solution, fa.Compliance())
    with pytest.raises(fa.LoadError, match=r"multiply.reduce has no rule for second derivatives"):
        fa.hessian(solution, fa.Compliance()) @ mesh.points


@pytest.mark.parametrize(
    ("direction", "error", "words"),
    [
        ("x", fa.ProblemError, "node velocities must be real numbers"),
        (np.ones(3), fa.ProblemError, r"of shape \(9, 2\)"),
        ({"E": [1.0]}, fa.ProblemError, "rates of 'E'"),
        ({"F": 1.0}, fa.UnknownParameterError, "there is no parameter 'F'"),
        ({}, fa.ProblemError, "neither points nor parameters"),
        (fa.Design(), fa.ProblemError, "neither points nor parameters"),
        (np.full((9, 2), np.nan), fa.ProblemError, "NaN"),
    ],
)
def test_directions_that_are_none(direction: Any, error: type[Exception], words: str) -> None:
    hessian = fa.hessian(elastic("quad").solve(), fa.Compliance())
    with pytest.raises(error, match=words):
        hessian @ direction


def test_arguments_that_are_none() -> None:
    solution = elastic("quad").solve()
    with pytest.raises(fa.ProblemError, match="solve it first"):
        fa.hessian(elastic("quad"), fa.Compliance())  # type: ignore[arg-type]
    with pytest.raises(fa.ProblemError, match="check must be"):
        fa.hessian(solution, fa.Compliance(), check=1)  # type: ignore[arg-type]
    with pytest.raises(fa.ResponseError, match="is no response"):
        fa.hessian(solution, "J")  # type: ignore[arg-type]
    with pytest.raises(fa.UnknownParameterError, match="'F'"):
        fa.hessian(solution, fa.Compliance()).as_operator(["F"])


def test_residuals_that_do_not_move_are_refused() -> None:
    system = fa.LinearSystem(lambda theta: np.eye(2) * theta, lambda theta: np.ones(2))
    with pytest.raises(fa.SecondOrderError, match="PlainAtDesign does not tell its second derivatives"):
        second.Motion.along(system.solve(2.0).implicit, fa.Design(None, {"theta": np.array(1.0)}))
    assert isinstance(implicit.weights_of(implicit.Seed(), np.zeros((1, 2)), None), Weights)
