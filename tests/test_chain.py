"""Chains of problems, and the thermal strain that joins the usual two of them.

All nodes move, supports included, on bent meshes of both cell orientations away from the origin, and the first stage
has prescribed values that depend on the place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skfem.helpers import ddot, div, dot, grad

import femadj as fa
from femadj.responses.base import value_of
from tests.meshes import box_mesh
from tests.products import Products
from tests.reference_assembly import turned
from tests.test_gradients import (
    ORIGIN,
    SOLVERS,
    STEPS,
    TOLERANCE,
    Weighted,
    differences,
    direction_of,
    mesh_of,
    supports_of,
)
from tests.test_gradients import assert_exact as exact_by_nodes
from tests.test_gradients import assert_second_order as second_order

FloatArray = npt.NDArray[np.float64]

CELLS = ("triangle6", "quad", "tetra", "hexahedron")


# ---------------------------------------------------------------------- what is combined
def wave(x: Any) -> Any:
    return 1.5 + np.sin(x[0] + 2 * x[1])


def static(mesh: fa.Mesh, physics: Any, supports: str, loads: Sequence[Any] = (), **options: Any) -> fa.LinearStatic:
    nc = len(physics.components(mesh.dim))
    return fa.LinearStatic(mesh, physics, supports_of(supports, mesh, nc), loads, threads=1, **options)


def conduction_to_stress(mesh: fa.Mesh, solver: str = "auto") -> fa.Chain:
    heat = static(mesh, fa.Diffusion({"low": 1.0, "high": 2.5}), "moving", [fa.Flux("top", wave)], solver=solver)
    expansion = fa.ThermalStrain({"low": 0.3, "high": 0.5}, reference=0.2, name="heat")
    body = static(
        mesh, fa.Elasticity(3.0, 0.3), "some components moving", [expansion, fa.Traction("top", [0.1] * mesh.dim)],
        solver=solver,
    )  # fmt: skip
    return fa.Chain({"heat": heat, "body": body})


def transport_to_stress(mesh: fa.Mesh, solver: str = "auto") -> fa.Chain:
    dim = mesh.dim
    velocity = fa.NodalField(np.random.default_rng(1).uniform(0.5, 1.5, (mesh.n_nodes, dim)))
    heat = static(mesh, fa.AdvectionDiffusion(0.3, velocity, supg=True, source=wave), "moving", solver=solver)
    loads = [fa.ThermalStrain(0.4, name="heat"), fa.ThermalStrain(0.2, 0.7, reference=0.1, name="moisture")]
    elastic = fa.Elasticity(2.0, 0.25, plane="stress", thickness=0.4 if dim == 2 else 1.0)
    return fa.Chain({"heat": heat, "body": static(mesh, elastic, "moving", loads, solver=solver)})


def form_to_form(mesh: fa.Mesh, solver: str = "auto") -> fa.Chain:
    """The second form reads the value and the gradient of the first solution, in the matrix and in the load."""
    first = fa.Form(
        lambda u, v, w: w.k * dot(grad(u), grad(v)) + u * v,
        lambda v, w: w.x[1] * v,
        parameters={"k": fa.CellField(np.random.default_rng(2).uniform(1, 2, mesh.n_cells))},
    )
    second = fa.Form(
        lambda u, v, w: (
            (w.a + w.first**2 + dot(grad(w.first), grad(w.first))) * dot(grad(u), grad(v))
            + w.b * dot(grad(w.first), grad(u)) * v
        ),
        [lambda v, w: w.first * v + w.a * dot(grad(w.first), grad(v)), fa.Integral(lambda v, w: w.first**2 * v, "top")],
        parameters={"first": fa.NodalField(), "a": 1.2, "b": 0.3},
    )
    return fa.Chain(
        {"first": static(mesh, first, "moving", solver=solver), "second": static(mesh, second, "moving", solver=solver)}
    )


def one_to_two(mesh: fa.Mesh, solver: str = "auto") -> fa.Chain:
    """The first of three feeds both others, and the second the third."""
    potential = static(mesh, fa.Diffusion(1.3), "moving", [fa.Source(wave)], solver=solver)
    heating = fa.Form(
        lambda u, v, w: w.k * dot(grad(u), grad(v)) - 0.2 * dot(grad(w.potential), grad(u)) * v,
        lambda v, w: dot(grad(w.potential), grad(w.potential)) * v,  # the heat of a current
        parameters={"potential": fa.NodalField(), "k": 0.8},
    )
    loads = [fa.ThermalStrain(0.3, name="heat"), fa.ThermalStrain(-0.2, reference=0.5, name="potential")]
    body = static(mesh, fa.Elasticity(2.0, 0.3), "some components moving", loads, solver=solver)
    return fa.Chain({"potential": potential, "heat": static(mesh, heating, "moving", solver=solver), "body": body})


def vector_to_scalar(mesh: fa.Mesh, solver: str = "auto") -> fa.Chain:
    """A displacement that a conductivity depends on, by its divergence, and that carries what is conducted."""
    body = static(mesh, fa.Elasticity(2.0, 0.3), "moving", [fa.Pressure("top", wave)], solver=solver)
    transport = fa.Form(
        lambda u, v, w: (
            (1 + 0.3 * div(w.body) ** 2 + ddot(grad(w.body), grad(w.body))) * dot(grad(u), grad(v))
            + 0.5 * dot(w.body, grad(u)) * v
        ),
        lambda v, w: (w.c + w.body[0] * w.body[1]) * v,
        parameters={"body": fa.NodalField(components=mesh.dim), "c": 0.6},
    )
    return fa.Chain({"body": body, "heat": static(mesh, transport, "moving", solver=solver)})


CHAINS: dict[str, Callable[..., fa.Chain]] = {
    "conduction to stress": conduction_to_stress,
    "transport to stress": transport_to_stress,
    "form to form": form_to_form,
    "one to two": one_to_two,
    "vector to scalar": vector_to_scalar,
}


@cache
def chain_of(cell: str, name: str) -> fa.Chain:
    return CHAINS[name](mesh_of(cell))


def responses_of(chain: fa.Chain) -> dict[str, fa.Response | fa.OnStage]:
    """Responses of the last stage, with and without what feeds it, and of every other one."""
    fed = chain.links[list(chain.stages)[-1]][-1]
    vector = chain.stages[fed].residual.space.n_components > 1

    def square(u: Any) -> Any:
        return u**2 if u.ndim < 3 else dot(u, u)

    def slope(w: Any) -> Any:
        g = grad(w[fed])
        return ddot(g, g) if vector else dot(g, g)

    found: dict[str, fa.Response | fa.OnStage] = {
        "own": Weighted(),
        "compliance": fa.Compliance(),
        "strain energy": fa.StrainEnergy(),
        "field norm": fa.FieldNorm(),
        "reads what it is fed": fa.Functional(lambda w: square(w.u) * slope(w) + w.x[0] * slope(w)),
    }
    for name in list(chain.stages)[:-1]:
        found[f"own of {name}"] = fa.OnStage(name, Weighted())
    return found


# ---------------------------------------------------------------------- gradients
def assert_exact(
    chain: fa.Chain, responses: dict[str, fa.Response | fa.OnStage], *, seed: int = 0, order: bool = True
) -> None:
    """Compare derivatives along a direction of all nodes with differences, and find Taylor remainders of order 2."""
    x = chain.mesh.points
    at_rest, gradients = fa.values_and_gradients(chain.solve(), list(responses.values()))

    def values(t: float, velocity: FloatArray) -> FloatArray:
        solution = chain.solve(x + t * velocity)
        return np.array([value_of(r, solution) for r in responses.values()])

    velocity = direction_of(chain.mesh, seed)
    compare([g.points * velocity for g in gradients], lambda t: values(t, velocity), at_rest, list(responses))
    rates = np.full(len(responses), np.nan)
    for attempt in range(5 if order else 0):  # the second derivative along one direction may happen to be small
        velocity = direction_of(chain.mesh, 100 * attempt + seed)
        slopes = np.array([(g.points * velocity).sum() for g in gradients])
        rest = np.array([np.abs(values(h, velocity) - at_rest - h * slopes) for h in STEPS[2:]])
        assert (rest > 1e-11 * np.abs(at_rest)).all()
        rate = np.log(rest[0] / rest[1]) / np.log(4.0)
        better = ~(np.abs(rates - 2.0) < np.abs(rate - 2.0))
        rates[better] = rate[better]
        if (np.abs(rates - 2.0) <= 0.05).all():
            return
    assert not order, dict(zip(responses, rates, strict=True))


def compare(
    terms: list[FloatArray], values: Callable[[float], FloatArray], at_rest: FloatArray, names: list[str]
) -> None:
    """Sums of the terms against five-point differences of the values."""
    exact = np.array([t.sum() for t in terms])
    scale = np.array([np.abs(t).max() for t in terms])
    error = np.full(len(terms), np.inf)
    allowed = TOLERANCE * scale + 1e-11 * np.abs(at_rest)
    for h in (4e-3, 1e-3):
        error = np.minimum(error, np.abs(differences(values, h) - exact))
        if (error <= allowed).all():
            return
    wrong = {n: (e, d, s) for n, e, d, s, a in zip(names, exact, error, scale, allowed, strict=True) if not d <= a}
    assert not wrong, wrong


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("cell", CELLS)
def test_gradient_by_nodes(cell: str, name: str) -> None:
    chain = chain_of(cell, name)
    assert_exact(chain, responses_of(chain))


@pytest.mark.parametrize(("response", "components"), [("reads what it is fed", 1), ("own of heat", 0)])
def test_verify_rebuilds_the_whole_chain(response: str, components: int) -> None:
    chain = chain_of("quad", "conduction to stress")
    outcome = fa.verify(chain, responses_of(chain)[response], components=components, show=False)
    assert outcome.passed
    assert len(outcome.taylor) == 3
    assert len(outcome.components) == components


def test_verify_notices_when_what_feeds_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = chain_of("quad", "conduction to stress")
    collected = fa.ChainSolution._collected

    def last_alone(self: fa.ChainSolution, parts: Any) -> fa.ChainGradient:
        return collected(self, {"body": parts["body"]})

    monkeypatch.setattr(fa.ChainSolution, "_collected", last_alone)
    with pytest.raises(fa.VerificationError):
        fa.verify(chain, Weighted(), components=0, show=False)


EXPECTED_PARAMETERS = {
    "conduction to stress": set(),
    "transport to stress": {"heat.conductivity", "heat.velocity", "body.moisture"},
    "form to form": {"first.k", "second.a", "second.b"},
    "one to two": {"heat.k"},
    "vector to scalar": {"heat.c"},
}
MATERIALS = ("E", "nu", "conductivity", "thickness")


def expected_parameters(chain: fa.Chain, name: str) -> set[str]:
    """Those that forms and loads declare, and the constants of materials."""
    constants = {
        f"{stage}.{constant}" for stage, problem in chain.stages.items()
        for constant in problem.physics.parameters_on(chain.mesh) if constant in MATERIALS
    }  # fmt: skip
    return EXPECTED_PARAMETERS[name] | constants


@pytest.mark.parametrize("name", EXPECTED_PARAMETERS)
@pytest.mark.parametrize("cell", ["triangle6", "hexahedron"])
def test_gradient_by_parameters(cell: str, name: str) -> None:
    chain = chain_of(cell, name)
    responses = responses_of(chain)
    at_rest, gradients = fa.values_and_gradients(chain.solve(), list(responses.values()))
    rng = np.random.default_rng(4)
    for g in gradients:
        assert set(g.parameters) == expected_parameters(chain, name)
    for full in sorted(expected_parameters(chain, name)):
        stage, parameter = full.split(".")
        given = chain.stages[stage].parameters.value(parameter)
        step = rng.uniform(-1, 1, given.shape) * (0.1 * np.abs(given) if parameter in MATERIALS else 1.0)

        def values(t: float, full: str = full, given: FloatArray = given, step: FloatArray = step) -> FloatArray:
            solution = chain.solve(parameters={full: given + t * step})
            return np.array([value_of(r, solution) for r in responses.values()])

        terms = [g.parameters[full] * step for g in gradients]
        assert all(g.parameters[full].shape == given.shape for g in gradients)
        assert np.abs(terms[0]).max() > 0 or parameter in MATERIALS  # a uniform E does not bend a heated body
        compare(terms, values, at_rest, list(responses))


@pytest.mark.parametrize("name", CHAINS)
def test_gradient_by_parameters_of_later_stages_is_zero_for_earlier_responses(name: str) -> None:
    chain = chain_of("quad", name)
    first = next(iter(chain.stages))
    _, gradient = fa.value_and_gradient(chain.solve(), fa.OnStage(first, Weighted()))
    assert set(gradient.stages) == {first}
    assert set(gradient.parameters) == expected_parameters(chain, name)
    for full, slope in gradient.parameters.items():
        stage, parameter = full.split(".")
        assert slope.shape == chain.stages[stage].parameters.value(parameter).shape
        assert slope.any() == (stage == first)


def test_a_response_may_have_parameters_of_its_own() -> None:
    chain = chain_of("quad", "form to form")
    target = np.random.default_rng(3).uniform(-1, 1, chain.mesh.n_nodes)

    def response(target: FloatArray) -> fa.Functional:
        return fa.Functional(lambda w: (w.u - w.target) ** 2 * w.first, parameters={"target": fa.NodalField(target)})

    solution = chain.solve()
    _, gradient = fa.value_and_gradient(solution, response(target))
    assert set(gradient.parameters) == EXPECTED_PARAMETERS["form to form"] | {"second.target"}
    step = np.random.default_rng(5).uniform(-1, 1, target.shape)
    expected = (value_of(response(target + step), solution) - value_of(response(target - step), solution)) / 2
    assert (gradient.parameters["second.target"] * step).sum() == pytest.approx(expected, rel=1e-10)


# ---------------------------------------------------------------------- what it costs
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["one to two", "transport to stress"])
def test_one_analysis_one_factorisation_and_one_adjoint_solve_of_every_stage(name: str, solver: str) -> None:
    chain = CHAINS[name](mesh_of("quad"), solver=solver)
    n = len(chain.stages)
    assert chain.counts == fa.Counts(n, 0)
    x, velocity = chain.mesh.points, direction_of(chain.mesh)
    last = list(chain.stages)[-1]
    for design in range(1, 4):
        solution = chain.solve(x + 0.01 * design * velocity)
        values, gradients = fa.values_and_gradients(solution, [Weighted(), Weighted(k=(0.3, 0.2, 0.1))])
        assert np.isfinite(values).all()
        for gradient in gradients:
            assert gradient.adjoint_solves == n
            assert {s: g.adjoint_solves for s, g in gradient.stages.items()} == dict.fromkeys(chain.stages, 1)
        for stage in solution.stages.values():
            assert stage.factor.statistics.solves == 1 + 2
            assert stage.problem.counts == fa.Counts(1, design)
        assert chain.counts == fa.Counts(n, n * design)
    earlier = list(chain.stages)[:-1]
    counted: dict[Any, dict[str, int]] = {fa.Volume(): {last: 0}, fa.OnStage(earlier[0], Weighted()): {earlier[0]: 1}}
    if name == "one to two":
        counted[fa.OnStage("heat", Weighted())] = {"potential": 1, "heat": 1}
    for response, expected in counted.items():
        _, gradient = fa.value_and_gradient(solution, response)
        by_stage = {s: g.adjoint_solves for s, g in gradient.stages.items()}
        assert {s: k for s, k in by_stage.items() if s in expected} == expected
        assert gradient.adjoint_solves == sum(by_stage.values())
    assert chain.counts == fa.Counts(n, n * 3)


def test_self_adjoint_responses_take_no_solve_in_their_own_stage() -> None:
    mesh = mesh_of("quad")
    heat = static(mesh, fa.Diffusion(1.0), "moving")
    body = static(mesh, fa.Elasticity(2.0, 0.3), "zero", [fa.ThermalStrain(0.3, name="heat")])
    chain = fa.Chain({"heat": heat, "body": body})
    _, gradient = fa.value_and_gradient(chain.solve(), fa.Compliance())
    assert {s: g.adjoint_solves for s, g in gradient.stages.items()} == {"body": 0, "heat": 1}
    assert gradient.adjoint_solves == 1
    assert_exact(chain, {"compliance": fa.Compliance()})


# ---------------------------------------------------------------------- what must not matter
@pytest.mark.parametrize("name", CHAINS)
def test_together_equals_one_by_one(name: str) -> None:
    chain = chain_of("quad", name)
    solution = chain.solve()
    responses = responses_of(chain)
    shuffled = [list(responses.values())[i] for i in np.random.default_rng(0).permutation(len(responses))]
    values, gradients = fa.values_and_gradients(solution, shuffled)
    for response, value, gradient in zip(shuffled, values, gradients, strict=True):
        alone, expected = fa.value_and_gradient(solution, response)
        assert value == alone
        assert np.abs(gradient.points - expected.points).max() <= 1e-13 * np.abs(expected.points).max()
        assert gradient.adjoint_solves == expected.adjoint_solves
        assert set(gradient.parameters) == set(expected.parameters)
        assert set(gradient.stages) == set(expected.stages)
        for full, slope in gradient.parameters.items():
            assert slope == pytest.approx(expected.parameters[full], rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("name", CHAINS)
def test_equals_the_same_by_hand(name: str) -> None:
    """Solutions by ``solve(parameters=...)``; gradients by seeding every stage with what later ones hand back."""
    chain = chain_of("triangle6", name)
    x = chain.mesh.points + 0.02 * direction_of(chain.mesh, 9)
    solution = chain.solve(x)
    by_hand: dict[str, fa.Solution] = {}
    for stage, problem in chain.stages.items():
        fed = {s: np.squeeze(by_hand[s].u) for s in chain.links[stage]}
        by_hand[stage] = problem.solve(x, parameters=fed)
        assert np.array_equal(by_hand[stage].u, solution[stage].u)
        assert np.array_equal(solution.stages[stage].points, x)
    assert solution.last is solution[list(chain.stages)[-1]]

    class Seeded:
        """A response whose derivative by the state is given."""

        def __init__(self, seed: FloatArray) -> None:
            self.seed = seed

        def evaluate(self, solution: fa.Solution) -> fa.Evaluation:
            return fa.Evaluation(0.0, state=self.seed)

    reading: Any = responses_of(chain)["reads what it is fed"]
    for response in (Weighted(), reading, fa.Compliance()):
        value, gradient = fa.value_and_gradient(solution, response)
        seeds: dict[str, FloatArray] = {}
        total = np.zeros_like(x)
        for stage in reversed(list(chain.stages)):
            here: fa.Response = Seeded(seeds[stage]) if stage in seeds else response
            own, part = fa.value_and_gradient(by_hand[stage], here)
            assert own == (0.0 if stage in seeds else value)
            total += part.points
            for source in chain.links[stage]:
                slope = part.parameters[source].reshape(by_hand[source].u.shape)
                seeds[source] = seeds.get(source, 0.0) + slope
            for parameter, by_parameter in part.parameters.items():
                if parameter not in chain.links[stage]:
                    assert gradient.parameters[f"{stage}.{parameter}"] == pytest.approx(by_parameter, rel=1e-12)
        assert np.abs(gradient.points - total).max() <= 1e-13 * np.abs(total).max()
        assert set(seeds) == set(list(chain.stages)[:-1])
        assert all(seed.any() for seed in seeds.values())


def test_solutions_keep_their_own_parameters() -> None:
    chain = chain_of("quad", "transport to stress")
    first = chain.solve(parameters={"heat.conductivity": 0.5})
    before = fa.value_and_gradient(first, Weighted())
    other = chain.solve(parameters={"heat.conductivity": 0.9, "body.moisture": 1.4})
    after = fa.value_and_gradient(first, Weighted())
    assert before[0] == after[0]
    np.testing.assert_allclose(after[1].points, before[1].points, rtol=1e-11, atol=1e-13)
    for full, slope in before[1].parameters.items():
        np.testing.assert_allclose(after[1].parameters[full], slope, rtol=1e-11, atol=1e-13)
    assert value_of(Weighted(), other) != before[0]
    assert np.array_equal(chain.solve().last.u, chain.solve(parameters={}).last.u)


def test_links_and_names() -> None:
    chain = chain_of("quad", "one to two")
    assert dict(chain.links) == {"potential": (), "heat": ("potential",), "body": ("potential", "heat")}
    assert list(chain.stages) == ["potential", "heat", "body"]
    assert chain.progress is None
    assert repr(chain).startswith("Chain(potential: LinearStatic(")
    moved = chain.mesh.points + 1.0
    rebuilt = chain.rebuilt(moved)
    assert np.array_equal(rebuilt.mesh.points, moved)
    assert rebuilt.counts == fa.Counts(3, 0)


# ---------------------------------------------------------------------- what is refused
def heat_and_body(name: str = "heat", **options: Any) -> tuple[fa.LinearStatic, fa.LinearStatic]:
    mesh = mesh_of("quad")
    body = static(mesh, fa.Elasticity(2.0, 0.3), "zero", [fa.ThermalStrain(0.3, name=name, **options)])
    return static(mesh, fa.AdvectionDiffusion(1.0, [0.3, 0.2]), "moving"), body


def test_stages_that_are_none() -> None:
    heat, body = heat_and_body()
    bad: list[Any] = [{"heat": heat}, {}, [heat, body], (("heat", heat), ("body", body)), None]
    for stages in bad:
        with pytest.raises(fa.ProblemError, match="at least two names to problems"):
            fa.Chain(stages)
    wrong: Any
    for wrong in (fa.Diffusion(1.0), heat.solve(), None, fa.Chain({"heat": heat, "body": body})):
        with pytest.raises(fa.ProblemError, match=f"stage 'body' must be a LinearStatic or .*{type(wrong).__name__}"):
            fa.Chain({"heat": heat, "body": wrong})
    for name in ("my heat", "1", "a.b", 3):
        with pytest.raises(fa.ProblemError, match="name of a Python variable"):
            fa.Chain({name: heat, "body": body})  # type: ignore[dict-item]


def test_stages_on_different_meshes() -> None:
    heat, body = heat_and_body()
    moved = body.rebuilt(body.mesh.points + 0.01)
    other = static(mesh_of("triangle6"), fa.Elasticity(2.0, 0.3), "zero", [fa.ThermalStrain(0.3, name="heat")])
    for wrong in (moved, other):
        with pytest.raises(fa.ProblemError, match="stage 'body' has another mesh than stage 'heat'"):
            fa.Chain({"heat": heat, "body": wrong})
    again = body.rebuilt(body.mesh.points)  # another object, the same nodes
    assert fa.Chain({"heat": heat, "body": again}).links["body"] == ("heat",)


def test_a_stage_that_feeds_nothing() -> None:
    heat, body = heat_and_body("temperature")
    with pytest.raises(fa.ProblemError, match="stage 'heat' feeds nothing: no later stage has a nodal parameter"):
        fa.Chain({"heat": heat, "body": body})
    assert fa.Chain({"temperature": heat, "body": body}).links["body"] == ("temperature",)
    heat, body = heat_and_body()
    with pytest.raises(fa.ProblemError, match="stage 'body' feeds nothing"):
        fa.Chain({"body": body, "heat": heat})  # in the wrong order


def test_fields_of_the_wrong_shape() -> None:
    heat, body = heat_and_body()
    mesh = heat.mesh
    n, m = mesh.n_nodes, mesh.n_cells
    flow = static(mesh, fa.Elasticity(1.0, 0.2), "zero")
    bad = {
        "nodal with shape": (flow, body, rf"stage 'heat' yields a nodal field of shape \({n}, 2\), .* \({n},\)"),
        "components": (flow, body, r"declare it as NodalField\(components=2\)"),
        "cell": (heat, heat_and_body(temperature=fa.CellField(np.ones(m)))[1], rf"is cell with shape \({m},\)"),
        "constant": (heat, heat_and_body(temperature=1.0)[1], r"is constant with shape \(\); declare it as NodalField"),
    }
    for first, second, message in bad.values():
        with pytest.raises(fa.ProblemError, match=message):
            fa.Chain({"heat": first, "body": second})
    reads = fa.Form(
        lambda u, v, w: (1 + w.heat[0] ** 2) * dot(grad(u), grad(v)), parameters={"heat": fa.NodalField(components=2)}
    )
    with pytest.raises(fa.ProblemError, match=r"declare it as NodalField\(components=1\)"):
        fa.Chain({"heat": heat, "second": static(mesh, reads, "moving")})
    vector = fa.Form(lambda u, v, w: (1 + w.heat[0] ** 2) * dot(grad(u), grad(v)), parameters={"heat": np.ones(n)})
    with pytest.raises(fa.ProblemError, match=rf"is constant with shape \({n},\)"):  # as many numbers, of no node
        fa.Chain({"heat": heat, "second": static(mesh, vector, "moving")})


def test_parameters_that_cannot_be_given() -> None:
    heat, body = heat_and_body()
    chain = fa.Chain({"heat": heat, "body": body})
    with pytest.raises(fa.ParameterError, match=r"parameter 'body\.heat' is the solution of stage 'heat'"):
        chain.solve(parameters={"body.heat": np.zeros(chain.mesh.n_nodes)})
    for name in ("conductivity", "nothing.velocity", "heat.", "", ".velocity"):
        with pytest.raises(fa.ParameterError, match=r"there is no parameter .*'heat\.conductivity', 'heat\.velocity'"):
            chain.solve(parameters={name: 1.0})
    with pytest.raises(fa.ParameterError, match="there is no parameter 'speed'; the problem has: 'conductivity'"):
        chain.solve(parameters={"heat.speed": 1.0})
    with pytest.raises(fa.ParameterError, match=r"parameter 'velocity' \(constant\) has shape \(2,\), not \(3,\)"):
        chain.solve(parameters={"heat.velocity": [1.0, 2.0, 3.0]})
    bare = fa.Chain({"heat": static(heat.mesh, fa.Diffusion(1.0), "moving"), "body": body})
    with pytest.raises(fa.ParameterError, match=r"the chain has: 'heat\.conductivity'"):
        bare.solve(parameters={"x": 1.0})


def test_responses_on_stages_that_do_not_exist() -> None:
    heat, body = heat_and_body()
    chain = fa.Chain({"heat": heat, "body": body})
    solution = chain.solve()
    for function in (fa.value_and_gradient, lambda s, r: value_of(r, s)):
        with pytest.raises(fa.ResponseError, match="the chain has no stage 'flow'; it has: 'heat', 'body'"):
            function(solution, fa.OnStage("flow", fa.Volume()))
        with pytest.raises(
            fa.ResponseError, match="of stage 'heat' is one of a chain, and the solution is that of a single"
        ):
            function(solution["heat"], fa.OnStage("heat", fa.Volume()))
    with pytest.raises(fa.ResponseError, match="no response"):
        fa.value_and_gradient(solution, fa.OnStage("heat", 3.0))  # type: ignore[arg-type]


# ---------------------------------------------------------------------- thermal strain
ALPHA, WARMER, REFERENCE = 0.3, 0.4, 0.9
THERMAL_CELLS = ("triangle", "triangle6", "quad", "quad8", "tetra", "tetra10", "hexahedron", "wedge", "quad+triangle")


def isotropic_stiffness(E: float, nu: float) -> FloatArray:
    lame, mu = E * nu / ((1 + nu) * (1 - 2 * nu)), E / (2 * (1 + nu))
    stiffness = np.diag([2 * mu] * 3 + [mu] * 3)
    stiffness[:3, :3] += lame
    return stiffness


def some_stiffness() -> FloatArray:
    root = np.random.default_rng(0).uniform(-1, 1, (6, 6))
    stiffness: FloatArray = root @ root.T + 3 * np.eye(6)
    return stiffness


def materials_of(dim: int) -> dict[str, tuple[fa.Elasticity, float]]:
    """Materials, each with its free expansion in units of ``alpha (T - T0)``."""
    isotropic = isotropic_stiffness(2.0, 0.3)
    if dim == 3:
        return {
            "isotropic": (fa.Elasticity(2.0, 0.3), 1.0),
            "anisotropic": (fa.Elasticity(stiffness=some_stiffness()), 1.0),
            "two solids": (fa.Elasticity({"low": 2.0, "high": 5.0}, 0.2), 1.0),
        }
    stress: dict[str, Any] = {"plane": "stress", "thickness": 0.4}
    return {
        "plane strain": (fa.Elasticity(2.0, 0.3, thickness=2.5), 1.3),
        "plane stress": (fa.Elasticity(2.0, 0.3, **stress), 1.0),
        "plane strain (6, 6)": (fa.Elasticity(stiffness=isotropic), 1.3),
        "plane stress (6, 6)": (fa.Elasticity(stiffness=some_stiffness(), **stress), 1.0),
        "plane stress (3, 3)": (fa.Elasticity(stiffness=some_stiffness()[:3, :3], **stress), 1.0),
    }


def temperatures_of(mesh: fa.Mesh) -> dict[str, Any]:
    """The same temperature everywhere, in every way."""
    value = REFERENCE + WARMER
    return {
        "number": value,
        "array": np.full(mesh.n_nodes, value),
        "NodalField": fa.NodalField(np.full(mesh.n_nodes, value)),
        "CellField": fa.CellField(np.full(mesh.n_cells, value)),
    }


def expansion(temperature: Any, alpha: Any = ALPHA, reference: float = REFERENCE) -> fa.ThermalStrain:
    return fa.ThermalStrain(alpha, temperature, reference)


def straight(cell: str) -> fa.Mesh:
    """Cells of any shape in a box with flat sides."""
    dim = 2 if cell in ("triangle", "triangle6", "quad", "quad8", "quad+triangle") else 3
    counts = (4, 3) if dim == 2 else (2, 2, 2)
    mesh = box_mesh(cell, counts, lengths=LENGTHS[:dim], distortion=0.12, flat=True, origin=ORIGIN[:dim], seed=2)
    return turned(mesh)


LENGTHS = (1.6, 0.7, 1.1)


@pytest.mark.parametrize("cell", THERMAL_CELLS)
def test_free_expansion_is_free_of_stress(cell: str) -> None:
    mesh = mesh_of(cell)
    for label, (material, factor) in materials_of(mesh.dim).items():
        for kind, temperature in temperatures_of(mesh).items():
            exact = factor * ALPHA * WARMER * mesh.points
            supports = [fa.Fixed("left", value=exact[mesh.nodes_of("left")])]
            problem = fa.LinearStatic(mesh, material, supports, [expansion(temperature)])
            solution = problem.solve()
            assert np.abs(solution.u - exact).max() <= 1e-12 * np.abs(exact).max(), (label, kind)
            # the stress of the displacement is that of the load, at every node
            stress = Products(solution).stiffness_times(solution.points, solution.u) - solution.load
            assert np.abs(stress).max() <= 1e-12 * np.abs(solution.load).max(), (label, kind)
            assert np.abs(solution.reactions()).max() <= 1e-12 * np.abs(solution.load).max(), (label, kind)


@pytest.mark.parametrize("cell", ["triangle6", "tetra10"])
def test_temperature_that_is_linear_bends_without_stress(cell: str) -> None:
    """``T - T0 = x`` without stress: ``u = alpha (x^2 - y^2 - z^2, 2 x y, 2 x z) / 2``, as quadratic cells have it."""
    dim = 2 if cell == "triangle6" else 3
    mesh = turned(box_mesh(cell, (2, 2, 1)[:dim], distortion=0.12, curved=False, origin=ORIGIN[:dim], seed=3))

    def bent(x: Any) -> Any:
        return [0.5 * ALPHA * (x[0] ** 2 - (x[1:] ** 2).sum(axis=0)), *(ALPHA * x[0] * x[i] for i in range(1, dim))]

    material = fa.Elasticity(2.0, 0.3, plane="stress")
    temperature = mesh.points[:, 0] + REFERENCE
    solution = fa.LinearStatic(mesh, material, [fa.Fixed("left", value=bent)], [expansion(temperature)]).solve()
    exact = np.stack(bent(mesh.points.T), axis=1)
    assert np.abs(solution.u - exact).max() <= 1e-11 * np.abs(exact).max()
    assert np.abs(solution.reactions()).max() <= 1e-11 * np.abs(solution.load).max()


@pytest.mark.parametrize("cell", THERMAL_CELLS)
def test_reactions_of_a_body_that_is_held(cell: str) -> None:
    mesh = straight(cell)
    dim = mesh.dim
    E, nu = 2.0, 0.3
    sides = ("left", "right", "bottom", "top") if dim == 2 else ("left", "right", "front", "back", "bottom", "top")
    held = {"strain": 1 - 2 * nu, "stress": 1 - nu} if dim == 2 else {"strain": 1 - 2 * nu}
    for plane, denominator in held.items():
        thickness = 0.4 if dim == 2 else 1.0
        material = fa.Elasticity(E, nu, plane=plane, thickness=thickness)  # type: ignore[arg-type]
        for temperature in temperatures_of(mesh).values():
            order = 3 if cell == "tetra10" else None  # its own rule leaves forces at nodes of curved cells
            supports, loads = [fa.Fixed("boundary")], [expansion(temperature)]
            problem = fa.LinearStatic(mesh, material, supports, loads, threads=1, quadrature_order=order)
            solution = problem.solve()
            assert np.abs(solution.u).max() <= 1e-13
            for number, side in enumerate(sides):
                axis = number // 2
                area = thickness * np.prod(np.delete(LENGTHS[:dim], axis))
                pushes = (1 if number % 2 == 0 else -1) * E * ALPHA * WARMER / denominator * area
                force = solution.reactions()[mesh.nodes_of(side), axis].sum()
                assert force == pytest.approx(pushes, rel=1e-12)


@pytest.mark.parametrize("plane", ["strain", "stress", "solid"])
def test_two_materials_between_walls(plane: str) -> None:
    mesh = straight("hexahedron" if plane == "solid" else "quad+triangle")
    dim = mesh.dim
    E, nu, alpha = {"low": 2.0, "high": 5.0}, {"low": 0.3, "high": 0.15}, {"low": 0.2, "high": -0.1}
    thickness = 1.0 if dim == 3 else 0.4
    material = fa.Elasticity(E, nu, plane="stress" if plane == "stress" else "strain", thickness=thickness)
    sides = {"left": 0, "right": 0, "bottom": 1, "top": 1} if dim == 2 else {
        "left": 0, "right": 0, "front": 1, "back": 1, "bottom": 2, "top": 2,
    }  # fmt: skip
    rollers = [fa.Fixed(side, axis) for side, axis in sides.items()]
    temperature = REFERENCE + WARMER
    solution = fa.LinearStatic(mesh, material, rollers, [expansion(temperature, alpha)]).solve()

    def moduli(half: str) -> tuple[float, float]:
        """Stress across the joint for a unit of strain, and for the warming when held."""
        e, n = E[half], nu[half]
        if plane == "stress":
            return e / (1 - n**2), e * alpha[half] * WARMER / (1 - n)
        return e * (1 - n) / ((1 + n) * (1 - 2 * n)), e * alpha[half] * WARMER / (1 - 2 * n)

    (m1, b1), (m2, b2) = moduli("low"), moduli("high")
    strain = (b1 - b2) / (m1 + m2)  # of the low half; the other half has as much, negative
    x = mesh.points[:, 0] - mesh.points[:, 0].min()
    exact = np.zeros_like(solution.u)
    exact[:, 0] = strain * np.minimum(x, LENGTHS[0] - x)
    assert np.abs(solution.u - exact).max() <= 1e-12 * np.abs(exact).max()
    force = (m1 * strain - b1) * np.prod(LENGTHS[1:dim]) * thickness
    for side, sign in (("right", 1.0), ("left", -1.0)):
        assert solution.reactions()[mesh.nodes_of(side), 0].sum() == pytest.approx(sign * force, rel=1e-11)


@pytest.mark.parametrize("cell", ["quad8", "tetra"])
def test_isotropic_stiffness_is_that_of_E_and_nu(cell: str) -> None:
    mesh = mesh_of(cell)
    full = isotropic_stiffness(2.0, 0.3)
    in_plane = 2.0 / (1 - 0.09) * np.array([[1, 0.3, 0], [0.3, 1, 0], [0, 0, 0.35]])
    temperature = np.random.default_rng(1).uniform(-1, 1, mesh.n_nodes)
    for plane, stiffnesses in (("strain", [full]), ("stress", [full] if mesh.dim == 3 else [full, in_plane])):
        options: dict[str, Any] = {"plane": plane}
        one = static(mesh, fa.Elasticity(2.0, 0.3, **options), "moving", [expansion(temperature)]).solve()
        for stiffness in stiffnesses:
            material = fa.Elasticity(stiffness={"low": stiffness, "high": stiffness}, **options)
            other = static(mesh, material, "moving", [expansion(temperature)]).solve()
            assert np.abs(one.load - other.load).max() <= 1e-13 * np.abs(one.load).max()
            assert np.abs(one.u - other.u).max() <= 1e-12 * np.abs(one.u).max()


@pytest.mark.parametrize("cell", ["triangle6", "hexahedron", "quad+triangle"])
def test_cells_and_groups_of_different_warming(cell: str) -> None:
    mesh = mesh_of(cell)
    E = {"low": 2.0, "high": 3.0}
    warm = np.empty(mesh.n_cells)
    warm[mesh.cells_of("low")], warm[mesh.cells_of("high")] = 0.3, -0.7
    by_cells = expansion(fa.CellField(REFERENCE + warm), 2.0)
    by_groups = expansion(REFERENCE + 1.0, {"low": 0.6, "high": -1.4})
    one, other = (static(mesh, fa.Elasticity(E, 0.3), "moving", [load]).solve() for load in (by_cells, by_groups))
    assert np.abs(one.load - other.load).max() <= 1e-13 * np.abs(one.load).max()
    assert np.abs(one.u - other.u).max() <= 1e-12 * np.abs(one.u).max()


def test_thickness_multiplies_the_load() -> None:
    mesh = mesh_of("quad8")
    temperature = np.random.default_rng(1).uniform(-1, 1, mesh.n_nodes)
    thin, thick = (
        static(mesh, fa.Elasticity(2.0, 0.3, thickness=t), "moving", [expansion(temperature)]).solve()
        for t in (1.0, 2.5)
    )
    assert np.abs(thick.load - 2.5 * thin.load).max() <= 1e-14 * np.abs(thick.load).max()
    assert np.abs(thick.u - thin.u).max() <= 1e-12 * np.abs(thin.u).max()
    with pytest.raises(fa.MaterialError, match="thickness belongs to plane"):
        static(mesh_of("tetra"), fa.Elasticity(2.0, 0.3, thickness=2.5), "moving", [expansion(1.0)])


@pytest.mark.parametrize("kind", ["number", "array", "CellField"])
@pytest.mark.parametrize("cell", ["quad8", "tetra", "wedge"])
def test_gradients_by_nodes_and_by_temperature(cell: str, kind: str) -> None:
    mesh = mesh_of(cell)
    rng = np.random.default_rng(7)
    given: Any = {
        "number": 1.4, "array": rng.uniform(-1, 1, mesh.n_nodes), "CellField": rng.uniform(-1, 1, mesh.n_cells)
    }[kind]  # fmt: skip
    load = expansion(fa.CellField(given) if kind == "CellField" else given)
    physics = fa.Elasticity(stiffness={"low": some_stiffness(), "high": isotropic_stiffness(2.0, 0.3)})
    problem = static(mesh, physics, "some components moving", [load])
    responses: dict[str, fa.Response] = {"own": Weighted(), "compliance": fa.Compliance(), "norm": fa.FieldNorm()}
    exact_by_nodes(problem, responses)
    second_order(problem, responses)
    at_rest, gradients = fa.values_and_gradients(problem.solve(), list(responses.values()))
    step = rng.uniform(-1, 1, np.shape(given))

    def values(t: float) -> FloatArray:
        solution = problem.solve(parameters={"temperature": given + t * step})
        return np.array([value_of(r, solution) for r in responses.values()])

    terms = [g.parameters["temperature"] * step for g in gradients]
    assert all(np.abs(term).max() > 0 for term in terms)
    compare(terms, values, at_rest, list(responses))


def test_strains_of_one_temperature_add_up() -> None:
    mesh = mesh_of("quad")
    temperature = np.random.default_rng(1).uniform(-1, 1, mesh.n_nodes)
    material = fa.Elasticity(2.0, 0.3)
    one = static(mesh, material, "zero", [expansion(temperature, 0.5)]).solve()
    two = static(mesh, material, "zero", [expansion(temperature, 0.2), expansion(temperature, 0.3)]).solve()
    assert np.abs(one.u - two.u).max() <= 1e-13 * np.abs(one.u).max()
    with pytest.raises(fa.ParameterError, match="'temperature' is declared twice"):
        static(mesh, material, "zero", [expansion(temperature), expansion(temperature + 1)])


def test_loads_that_are_refused() -> None:
    mesh = mesh_of("quad")
    form = fa.Form(lambda u, v, w: ddot(grad(u), grad(v)), element="vector")
    for physics in (fa.Diffusion(1.0), fa.AdvectionDiffusion(1.0, [1.0, 0.0]), form):
        with pytest.raises(fa.LoadError, match=f"loads an elastic body .Elasticity., not {type(physics).__name__}"):
            static(mesh, physics, "zero", [expansion(1.0)])
    with pytest.raises(fa.LoadError, match=r"in plane strain acts across the plane too and needs the \(6, 6\)"):
        static(mesh, fa.Elasticity(stiffness=some_stiffness()[:3, :3]), "zero", [expansion(1.0)])
    material = fa.Elasticity(2.0, 0.3)
    bad: dict[str, fa.ThermalStrain] = {
        "expansion": fa.ThermalStrain(np.nan, 1.0),
        "reference": fa.ThermalStrain(0.1, 1.0, reference=np.inf),
        "low": fa.ThermalStrain({"low": 0.1}, 1.0),
        "must be a scalar": fa.ThermalStrain(0.1, fa.NodalField(np.ones((mesh.n_nodes, 2)))),
    }
    for message, load in bad.items():
        with pytest.raises(fa.LoadError, match=message):
            static(mesh, material, "zero", [load])
    unfit: list[Any] = [np.ones(mesh.n_nodes + 1), fa.CellField(np.ones(mesh.n_cells - 1)), np.nan, "hot"]
    for temperature in unfit:
        with pytest.raises(fa.ParameterError, match="'temperature' must"):
            static(mesh, material, "zero", [expansion(temperature)])
    with pytest.raises(fa.ParameterError, match="'x' cannot name a parameter"):
        static(mesh, material, "zero", [fa.ThermalStrain(0.1, 1.0, name="x")])


def test_a_temperature_that_is_missing() -> None:
    problem = static(mesh_of("quad"), fa.Elasticity(2.0, 0.3), "zero", [fa.ThermalStrain(0.3)])
    with pytest.raises(fa.ParameterError, match="parameter 'temperature' has no values yet"):
        problem.solve()
    assert problem.solve(parameters={"temperature": np.ones(problem.mesh.n_nodes)}).u.any()
