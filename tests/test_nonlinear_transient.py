"""Nonlinear problems over time: closed forms, exact gradients by everything, counts, and steps that are not found."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skfem.helpers import dot, grad

import femadj as fa
from femadj.base.design import Cotangent
from tests.meshes import box_mesh
from tests.test_transient import COPPER, MESH, WAVE, FloatArray, moving, products, start

RUBBER = fa.Hyperelastic(E=2.0, nu=0.3, density=1.7)
SQUARE = box_mesh("quad", (1, 1))
STEPS = 3


def conduction(u: Any, v: Any, w: Any) -> Any:
    return w.k * (1 + 0.3 * u**2) * dot(grad(u), grad(v)) + 0.2 * u**3 * v


def upwind(u: Any, v: Any, w: Any) -> Any:
    return w.k * dot(grad(u), grad(v)) + u * u.grad[0] * v


def capacity(u: Any, v: Any, w: Any) -> Any:
    return w.c * (1 + 0.1 * w.x[0]) * u * v


def product(u: Any, v: Any, w: Any) -> Any:
    return u * v


def wall(mesh: fa.Mesh, scheme: Any, form: Any = conduction, **options: Any) -> fa.Transient:
    """Conduction that grows with the temperature, and cooling; supports and loads that change in time and in space."""
    physics = fa.NonlinearForm(
        [form, fa.Integral(capacity, rate=1)],
        lambda v, w: w.k * v * w.x[0],
        parameters={"k": 0.7, "c": 0.9},
    )
    edge = fa.WithHistory(fa.Fixed("left", value=lambda x: 1 + x[1] ** 2), (np.cos, lambda t: -np.sin(t)))
    loads = [fa.WithHistory(fa.Flux("right", 0.4), np.exp)]
    settings: dict[str, Any] = {"times": fa.Times(0.5, STEPS), "initial": lambda x: 0.2 * start(x), **options}
    if settings["initial"] is not None:
        edge = fa.Fixed("left", value=settings["initial"])
    return fa.Transient(mesh, physics, [edge], loads, scheme=scheme, **settings)


def shaken(mesh: fa.Mesh, scheme: Any, **options: Any) -> fa.Transient:
    """A body of large displacements on a support that moves."""
    settings: dict[str, Any] = {"times": fa.Times(0.9, STEPS), "damping": (0.2, 0.0), **options}
    return fa.Transient(
        mesh,
        RUBBER,
        [fa.WithHistory(fa.Fixed("left", value=moving), WAVE)],
        [fa.WithHistory(fa.Traction("right", (0.0, 0.3)), np.cos), fa.Pressure("top", 0.1)],
        scheme=scheme,
        **settings,
    )


def driven(mesh: fa.Mesh, scheme: Any) -> fa.Transient:
    return wall(mesh, scheme, initial=None)


def carried(mesh: fa.Mesh, scheme: Any) -> fa.Transient:
    return wall(mesh, scheme, upwind)


TIP = fa.Displacement("right", reduce="squared_norm")
PROBLEMS: dict[str, tuple[Callable[..., fa.Transient], Any, int]] = {
    "Euler": (driven, fa.ImplicitEuler(), 1),
    "midpoint": (wall, fa.Midpoint(), 1),
    "SDIRK2, unsymmetric": (carried, fa.SDIRK2(), 2),
    "BDF2": (driven, fa.BDF2(), 1),
    "Newmark": (shaken, fa.Newmark(), 1),
    "generalised alpha": (shaken, fa.GeneralisedAlpha(0.6), 1),
}


def responses(order: int) -> list[Any]:
    found: list[Any] = [
        fa.AtTime(fa.FieldNorm()), TIP, fa.AtTime(fa.FieldNorm(), 0.31), fa.TimeIntegral(TIP, 0.05, 0.42),
        fa.AtTime(fa.FieldNorm(), 0.27, of="rate"),
    ]  # fmt: skip
    return found if order == 1 else [*found, fa.AtTime(fa.FieldNorm(), of="acceleration")]


@cache
def solved(name: str) -> tuple[fa.Transient, fa.HistorySolution, FloatArray, tuple[fa.TransientGradient, ...]]:
    """A problem with the gradients of its responses; each way back takes one factorisation a solve."""
    make, scheme, stages = PROBLEMS[name]
    problem = make(MESH, scheme)
    solution = problem.solve()
    before = problem.counts.factorisations
    values, gradients = fa.values_and_gradients(solution, responses(scheme.order))
    assert problem.counts.factorisations == before + stages * STEPS
    _ = [gradient.parameters[each] for gradient in gradients for each in problem.parameters]
    again = stages * STEPS - (
        name == "BDF2"
    )  # the first step of that one has stages of its own, whose tangent is there
    assert problem.counts == fa.Counts(1, before + stages * STEPS + again)
    return problem, solution, values, gradients


def rates(problem: fa.Transient, seed: int = 5) -> tuple[FloatArray, dict[str, FloatArray]]:
    """A random direction of all nodes and of all parameters."""
    rng, along = np.random.default_rng(seed), {}
    for name in problem.parameters:
        value = problem.parameters.value(name)
        along[name] = (0.3 * np.abs(value).max() + 0.1) * rng.uniform(0.3, 1.0, value.shape)
    along["final_time"] = np.array(0.02)  # observations stay between the same steps
    return 0.05 * rng.uniform(-1, 1, MESH.points.shape), along


def moved(problem: fa.Transient, h: float, points: FloatArray, along: dict[str, FloatArray]) -> FloatArray:
    """Values of responses of a problem built anew further along a direction."""
    values = {name: problem.parameters.value(name) + h * rate for name, rate in along.items()}
    solution = problem.rebuilt(MESH.points + h * points).solve(parameters=values)
    return np.array([each.value(solution) for each in responses(problem.scheme.order)])


def difference(problem: fa.Transient, points: FloatArray, along: dict[str, FloatArray], h: float = 0.003) -> FloatArray:
    """Fourth-order differences of all responses."""
    ends = [moved(problem, k * h, points, along) - moved(problem, -k * h, points, along) for k in (1, 2)]
    return (8 * ends[0] - ends[1]) / (12 * h)


# ------------------------------------------------------------------ gradients
@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_by_nodes_and_by_everything_else_agree_with_differences(name: str) -> None:
    problem, _, values, gradients = solved(name)
    points, along = rates(problem)
    exact, found = products(gradients, points, along), difference(problem, points, along)
    assert np.abs((exact - found) / np.maximum(np.abs(exact), 1e-3 * np.abs(values))).max() < 2e-8


ALONE = ["", "density", "damping", "final_time", "initial_v"]


@pytest.mark.parametrize("parameter", ALONE)
def test_gradients_by_nodes_and_by_each_parameter_alone(parameter: str) -> None:
    problem, _, values, gradients = solved("Newmark")
    points, along = rates(problem)
    direction = (0 * points, {parameter: along[parameter]}) if parameter else (points, {})
    exact, found = products(gradients, *direction), difference(problem, *direction)
    assert np.abs((exact - found) / np.maximum(np.abs(exact), 1e-3 * np.abs(values))).max() < 2e-8


@pytest.mark.parametrize("name", ["midpoint", "generalised alpha"])
def test_taylor_remainders_are_of_second_order(name: str) -> None:
    problem, _, values, gradients = solved(name)
    points, along = rates(problem, 6)
    along.pop("final_time")  # its part is as good as linear
    slopes = products(gradients, points, along)
    remainders = [np.abs(moved(problem, h, points, along) - values - h * slopes) for h in (0.004, 0.002)]
    assert np.abs(np.log2(remainders[0] / remainders[1]) - 2).max() < 0.05


@pytest.mark.parametrize("name", PROBLEMS)
def test_tangents_and_gradients_agree(name: str) -> None:
    """The rate of a response along random directions: forwards by ``pushforward``, backwards by ``pullback``."""
    problem, solution, _, gradients = solved(name)
    directions = [fa.Design(*rates(problem, seed)) for seed in (7, 8)]
    fresh = problem.solve()
    before = problem.counts.factorisations
    explicit, forward = fa.FieldNorm().partials(solution.moment()), fresh.pushforward(directions)
    assert problem.counts.factorisations == before + STEPS * PROBLEMS[name][2]  # directions share the tangents
    for direction, du in zip(directions, forward, strict=True):
        assert direction.points is not None
        along = (explicit.state * du).sum() + (explicit.points * direction.points).sum()
        along += sum((slope * direction.parameters[n]).sum() for n, slope in explicit.parameters.items())
        assert along == pytest.approx(products(gradients[:1], direction.points, direction.parameters)[0], rel=1e-11)


@pytest.mark.parametrize("name", PROBLEMS)
def test_back_is_the_transpose_of_the_tangent_of_a_step(name: str) -> None:
    _, solution, _, _ = solved(name)
    motion, stepper, rng = solution.motion, solution.stepper, np.random.default_rng(3)
    y, new = solution.snapshots.states[2], solution.snapshots.states[3]
    carried_rows = solution.problem.scheme.carried
    dy, bar = motion.at.constraints.restrict(rng.standard_normal((2, carried_rows, y.shape[1])))
    whole = np.zeros_like(y)
    whole[:carried_rows] = dy
    forward = stepper.forward(y, new, 2, whole, 0.0, lambda number, fields: np.zeros(y.shape[1]))
    back = stepper.back(y, new, 2, bar[:, None], motion.sums(1, [Cotangent(None, {})]))
    assert (forward[:carried_rows] * bar).sum() == pytest.approx((dy * back[:, 0]).sum(), rel=1e-12)
    h = 1e-6
    ahead, behind = (stepper.step(y + s * h * whole, 2)[:carried_rows] for s in (1, -1))
    scale = np.abs(forward[:carried_rows]).max(axis=1, keepdims=True)
    assert (np.abs((ahead - behind) / (2 * h) - forward[:carried_rows]) / scale).max() < 1e-6


# ------------------------------------------------------------------ states that are not kept
def same(name: str, **kept: Any) -> None:
    """Gradients of a run that keeps few states are those of one that keeps all, bit by bit."""
    problem, solution, values, gradients = solved(name)
    lean = problem.solve(memory=6 * solution.snapshots.states[0].nbytes, **kept)
    assert not lean.snapshots.schedule.complete
    found, others = fa.values_and_gradients(lean, responses(problem.scheme.order))
    np.testing.assert_array_equal(found, values)
    for a, b in zip(others, gradients, strict=True):
        np.testing.assert_array_equal(a.points, b.points)
        for parameter in problem.parameters:
            np.testing.assert_array_equal(a.parameters[parameter], b.parameters[parameter])


def test_gradients_are_the_same_bit_by_bit_whatever_is_kept() -> None:
    same("Euler")


def test_a_run_goes_on_from_its_folder_and_from_no_other(tmp_path: Path) -> None:
    for _ in range(2):
        same("generalised alpha", folder=tmp_path / "run")
    problem, _, _, _ = solved("generalised alpha")
    for other, newton in ((problem.rebuilt(MESH.points + 1e-6), None), (problem, fa.Newton(1e-10))):
        with pytest.raises(fa.CheckpointError, match="something else than this run"):
            other.solve(folder=tmp_path / "run", newton=newton)


def test_a_folder_tells_other_forms_from_its_own(tmp_path: Path) -> None:
    wall(MESH, fa.ImplicitEuler()).solve(folder=tmp_path / "run")
    with pytest.raises(fa.CheckpointError, match="something else than this run"):
        wall(MESH, fa.ImplicitEuler(), upwind).solve(folder=tmp_path / "run")


# ------------------------------------------------------------------ counts
def test_there_is_no_factor_of_all_steps() -> None:
    problem, solution, _, gradients = solved("SDIRK2, unsymmetric")
    assert {g.adjoint_solves for g in gradients} == {2 * STEPS + 1}
    with pytest.raises(fa.ProblemError, match="a tangent of its own"):
        _ = solution.factor
    assert "SDIRK2" in repr(solution)
    physics = problem.physics
    assert isinstance(physics, fa.NonlinearForm)
    assert "form 'capacity' of a time derivative: bilinear" in physics.explain(MESH)


def test_a_nonlinear_form_that_is_linear_takes_one_factorisation_a_step() -> None:
    """And gives what the linear problem does, by two factorisations."""
    form = lambda u, v, w: 1.3 * dot(grad(u), grad(v))  # noqa: E731
    rate = fa.Integral(lambda u, v, w: 0.8 * u * v, rate=1)
    supports, times = [fa.Fixed("left", value=lambda x: x[1] ** 2)], fa.Times(0.5, STEPS)
    runs = []
    for physics in (COPPER, fa.NonlinearForm([form, rate])):
        problem = fa.Transient(MESH, physics, supports, [fa.Source(1.0)], scheme=fa.Midpoint(), times=times)
        runs.append((problem, problem.solve()))
    assert [problem.counts.factorisations for problem, _ in runs] == [2, 1 + STEPS]
    np.testing.assert_allclose(runs[1][1].u, runs[0][1].u, rtol=1e-12, atol=1e-13)
    a, b = (fa.value_and_gradient(solution, fa.FieldNorm())[1] for _, solution in runs)
    np.testing.assert_allclose(b.points, a.points, rtol=0, atol=1e-12 * np.abs(a.points).max())


# ------------------------------------------------------------------ closed forms
@pytest.mark.parametrize(("scheme", "order"), [(fa.ImplicitEuler(), 1), (fa.Midpoint(), 2)], ids=repr)
def test_order_on_a_uniform_field_that_reacts(scheme: Any, order: int) -> None:
    """``u' + u^3 = 0``: ``u = u0 / sqrt(1 + 2 u0^2 t)``."""
    physics = fa.NonlinearForm([lambda u, v, w: u**3 * v, fa.Integral(product, rate=1)])
    problem = fa.Transient(SQUARE, physics, scheme=scheme, initial=1.0)
    errors = []
    for steps in (10, 20):
        u = problem.solve(times=fa.Times(1.0, steps)).u
        np.testing.assert_allclose(u, u[0, 0], rtol=1e-12)
        errors.append(abs(u[0, 0] - 3.0**-0.5))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_derivative_by_the_initial_value_of_a_uniform_field_that_reacts() -> None:
    """Of implicit Euler, ``u' + dt u'^3 = u``: the product of ``1 / (1 + 3 dt u'^2)``."""
    physics = fa.NonlinearForm([lambda u, v, w: u**3 * v, fa.Integral(product, rate=1)])
    problem = fa.Transient(SQUARE, physics, scheme=fa.ImplicitEuler(), initial=1.0, times=fa.Times(1.0, 5))
    solution = problem.solve()
    _, gradient = fa.value_and_gradient(solution, fa.Functional(lambda w: w.u, mean=True))
    fields = [y[0, 0] for k, y in solution.snapshots.states.items() if k > 0]
    assert len(fields) == 5
    exact = np.prod([1 / (1 + 3 * 0.2 * u**2) for u in fields])
    assert gradient.parameters["initial_u"].sum() == pytest.approx(exact, rel=1e-13)


def test_second_order_on_a_uniform_field_that_runs_away() -> None:
    """``u'' = 2 u^3`` with ``u = 1 / (2 - t)``."""
    physics = fa.NonlinearForm([lambda u, v, w: -2 * u**3 * v, fa.Integral(product, rate=2)])
    problem = fa.Transient(SQUARE, physics, scheme=fa.GeneralisedAlpha(0.6), initial=(0.5, 0.25))
    errors = [abs(problem.solve(times=fa.Times(1.0, steps)).u[0, 0] - 1.0) for steps in (10, 20)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.06)


def test_a_small_motion_is_that_of_the_linear_body() -> None:
    """Displacements of size h differ by their square."""

    def difference_of(h: float) -> float:
        ends = []
        for physics in (RUBBER, fa.Elasticity(E=2.0, nu=0.3, density=1.7)):
            load = fa.WithHistory(fa.Traction("right", (0.0, h)), np.cos)
            ends.append(fa.Transient(MESH, physics, [fa.Fixed("left")], [load], times=fa.Times(0.9, 4)).solve().u)
        return float(np.abs(ends[0] - ends[1]).max() / np.abs(ends[1]).max())

    assert difference_of(1e-3) == pytest.approx(1e-3, rel=1.0)
    assert difference_of(1e-3) / difference_of(5e-4) == pytest.approx(2.0, rel=0.02)


def test_a_body_falls_freely() -> None:
    """Loads and inertia cancel at the solution: nothing is left that a residual could be compared with."""
    stiff = fa.Hyperelastic(E=2e11, nu=0.3, density=7800.0)
    weight, times = fa.Gravity((0.0, -9.0)), fa.Times(2.0, 4)
    problem = fa.Transient(MESH, stiff, (), [weight], times=times, initial=(None, (1.0, 0.0)))
    np.testing.assert_allclose(problem.solve().u, np.tile([2.0, -18.0], (MESH.n_nodes, 1)), rtol=1e-11)


def test_what_is_steady_stays() -> None:
    """Nothing is left of the residual to be made smaller."""
    still = fa.NonlinearForm([lambda u, v, w: u**2 * dot(grad(u), grad(v)), fa.Integral(product, rate=1)])
    problem = fa.Transient(MESH, still, [fa.Fixed("left", value=300.0)], scheme=fa.Midpoint(), initial=300.0)
    np.testing.assert_allclose(problem.solve(times=fa.Times(1.0, 3)).u, 300.0, rtol=1e-14)


# ------------------------------------------------------------------ what is refused, and what is not found
def test_a_step_that_is_not_found_names_step_and_time_and_keeps_the_others(tmp_path: Path) -> None:
    squeeze = fa.WithHistory(fa.Traction("right", (-2.0, 0.0)), lambda t: (t / 2) ** 4)
    problem = fa.Transient(MESH, RUBBER, [fa.Fixed("left")], [squeeze], scheme=fa.Newmark(), times=fa.Times(4.0, 8))
    for _ in range(2):  # the second one goes on where the first one has ended
        with pytest.raises(fa.ConvergenceError, match=r"in step (\d) of 8, at time") as caught:
            problem.solve(folder=tmp_path / "run")
    error = caught.value
    done = round(8 * error.level)
    assert 0 < done < 8
    assert f"in step {done + 1} of 8, at time {0.5 * (done + 1):g}; it ended: " in str(error)
    assert [moment.time for moment in error.path] == [0.5 * k for k in range(done + 1)]
    np.testing.assert_array_equal(error.u, problem.solve(times=fa.Times(0.5 * done, done)).u)
    with pytest.raises(fa.ConvergenceError, match=r"step 1 of 3.* after 1 iterations") as caught:
        shaken(MESH, fa.Newmark()).solve(newton=fa.Newton(max_iterations=1))
    assert caught.value.level == 0.0


BAD: dict[str, tuple[Callable[[], Any], type[fa.FemadjError], str]] = {
    "follower": (
        lambda: fa.Transient(MESH, RUBBER, [fa.Fixed("left")], [fa.Pressure("top", 0.1, follower=True)]),
        fa.LoadError, "follows the displacement cannot be integrated",
    ),
    "follower, linear": (
        lambda: fa.Transient(MESH, fa.Elasticity(E=2.0, nu=0.3, density=1.0), [fa.Fixed("left")],
                             [fa.Pressure("top", 0.1, follower=True)]),
        fa.LoadError, "follows the displacement cannot be integrated",
    ),
    "damping by stiffness": (
        lambda: shaken(MESH, fa.Newmark(), damping=(0.1, 0.01)), fa.ProblemError, "c_K must be zero",
    ),
    "nonlinear capacity": (
        lambda: fa.Transient(
            MESH, fa.NonlinearForm([conduction, fa.Integral(lambda u, v, w: u**2 * v, rate=1)], parameters={"k": 1.0}),
            scheme=fa.ImplicitEuler(),
        ),
        fa.FormError, "linear in u",
    ),
    "no inertia": (
        lambda: fa.Transient(MESH, fa.NonlinearForm(conduction, parameters={"k": 1.0}), scheme=fa.ImplicitEuler()),
        fa.MaterialError, "inertia is a form with a rate",
    ),
    "no rate in statics": (
        lambda: fa.NonlinearStatic(MESH, fa.NonlinearForm([product, fa.Integral(product, rate=1)])),
        fa.ProblemError, "a form with a rate",
    ),
    "Newton of a linear problem": (
        lambda: fa.Transient(MESH, COPPER, scheme=fa.SDIRK2()).solve(times=fa.Times(1.0, 2), newton=fa.Newton()),
        fa.ProblemError, "for nonlinear problems",
    ),
    "no Newton": (
        lambda: shaken(MESH, fa.Newmark()).solve(newton=3), fa.ProblemError, r"newton must be Newton\(...\)",
    ),
    "damping by stiffness, given later": (
        lambda: shaken(MESH, fa.Newmark()).solve(parameters={"damping": (0.1, 0.01)}), fa.ParameterError, "damping",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    wrong, error, message = BAD[case]
    with pytest.raises(error, match=message):
        wrong()
