"""Problems over time: closed forms, exact gradients by everything, counts, what is observed, and bad input."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skfem.helpers import dot, grad

import femadj as fa
from tests.meshes import box_mesh

FloatArray = npt.NDArray[np.float64]
MESH = box_mesh("quad", (3, 2), distortion=0.12, origin=(3.0, -2.0))
STEEL = fa.Elasticity(E=2.0, nu=0.3, density=1.7)
COPPER = fa.Diffusion(1.3, density=0.8)
WAVE = (np.sin, np.cos, lambda t: -np.sin(t))
STEPS = 6


def moving(x: Any) -> Any:
    return [0.1 * x[1], 0.05 * x[0] * x[1]]


def start(x: Any) -> Any:
    return np.sin(x[0]) * x[1]


def warmth(u: Any, v: Any, w: Any) -> Any:
    return (1.0 + w.x[0] ** 2 / 9) * u * v


def leak(u: Any, v: Any, w: Any) -> Any:
    return w.k * dot(grad(u), grad(v)) + u.grad[0] * v


def drag(u: Any, v: Any, w: Any) -> Any:
    return w.c * dot(u, v) * (1 + 0.1 * w.x[0])


def tugged(t: Any) -> Any:
    return np.cos(2 * t)


def beam(mesh: fa.Mesh = MESH, scheme: Any = None, tug: Any = tugged, **options: Any) -> fa.Transient:
    """A body with supports that move in time and in space, loads with and without histories, and damping."""
    settings: dict[str, Any] = {"damping": (0.2, 0.01), "times": fa.Times(0.9, STEPS), **options}
    return fa.Transient(
        mesh,
        STEEL,
        [fa.WithHistory(fa.Fixed("left", value=moving), WAVE)],
        [
            fa.WithHistory(fa.Traction("right", (0.0, 1.0)), tug),
            fa.Pressure("top", 0.3),
            fa.WithHistory(fa.BodyForce(lambda x: [x[1], -x[0]]), np.exp),
        ],
        scheme=scheme or fa.GeneralisedAlpha(0.6),
        **settings,
    )


def damped(mesh: fa.Mesh, scheme: Any) -> fa.Transient:
    """Forms of stiffness and damping, and inertia by a form."""
    form = fa.Form(
        [
            lambda u, v, w: w.k * np.einsum("ij...,ij...->...", u.grad, v.grad),
            fa.Integral(drag, rate=1),
            fa.Integral(drag, "right", rate=1),
            fa.Integral(lambda u, v, w: w.rho * dot(u, v), rate=2),
        ],
        element="vector",
        parameters={"k": 2.0, "c": 0.4, "rho": 1.1},
    )
    load = fa.WithHistory(fa.PointLoad("opposite", (0.0, 1.0)), np.cos)
    return fa.Transient(
        mesh,
        form,
        [fa.Fixed("left", value=0.1)],
        [load],
        scheme=scheme,
        damping=(0.1, 0.02),
        times=fa.Times(0.9, STEPS),
    )


def fin(mesh: fa.Mesh, scheme: Any) -> fa.Transient:
    """Heat, with prescribed temperatures that change in time and in space, and an initial one of position."""
    return fa.Transient(
        mesh,
        COPPER,
        [
            fa.WithHistory(fa.Fixed("left", value=lambda x: x[1] ** 2), (np.cos, lambda t: -np.sin(t))),
            fa.WithHistory(fa.Fixed("opposite", value=lambda x: x[0]), (np.exp, np.exp)),
            fa.Fixed("inside", value=lambda x: x[1] / 3),
        ],
        [fa.WithHistory(fa.Source(lambda x: x[0]), np.sin), fa.Flux("right", 0.4)],
        scheme=scheme,
        times=fa.Times(0.5, STEPS),
    )


def carried(mesh: fa.Mesh, scheme: Any) -> fa.Transient:
    """Unsymmetric, with a capacity of position, an initial field of position and a support that stays."""
    form = fa.Form([leak, fa.Integral(warmth, rate=1)], lambda v, w: w.k * v, parameters={"k": 0.7})
    supports = [fa.Fixed("left", value=start)]
    return fa.Transient(mesh, form, supports, scheme=scheme, times=fa.Times(0.5, STEPS), initial=start)


TIP = fa.Displacement("right", reduce="squared_norm")
OWN = fa.Functional(lambda w: w.a * w.u**2 * w.x[0], parameters={"a": 1.5})
OWN_VECTOR = fa.Functional(lambda w: w.a * (w.u[0] ** 2 + w.u[1]) * w.x[0], parameters={"a": 1.5})


def responses(order: int) -> list[Any]:
    """Observed at the end, on and off the grid, and over time; of the field and its derivatives."""
    found: list[Any] = [
        fa.AtTime(fa.FieldNorm()),
        TIP,
        fa.AtTime(OWN if order == 1 else OWN_VECTOR, 0.31),
        fa.TimeIntegral(fa.FieldNorm()),
        fa.TimeIntegral(TIP, 0.05, 0.42),
        fa.AtTime(fa.FieldNorm(), of="rate"),
        fa.AtTime(fa.FieldNorm(), 0.27, of="rate"),
        fa.AtTime(fa.Volume()),
    ]
    if order == 2:
        found += [fa.AtTime(fa.FieldNorm(), of="acceleration"), fa.TimeIntegral(TIP, of="acceleration")]
    return found


PROBLEMS: dict[str, tuple[Callable[..., fa.Transient], Any]] = {
    "generalised alpha": (beam, fa.GeneralisedAlpha(0.6)),
    "trapezoidal, forms": (damped, fa.Newmark()),
    "Euler": (fin, fa.ImplicitEuler()),
    "midpoint": (fin, fa.Midpoint()),
    "SDIRK2": (fin, fa.SDIRK2()),
    "SDIRK3, unsymmetric": (carried, fa.SDIRK3()),
    "BDF2": (fin, fa.BDF2()),
}


@cache
def solved(name: str) -> tuple[fa.Transient, fa.HistorySolution, FloatArray, tuple[fa.TransientGradient, ...]]:
    """A problem with the gradients of its responses."""
    make, scheme = PROBLEMS[name]
    problem = make(MESH, scheme)
    solution = problem.solve()
    values, gradients = fa.values_and_gradients(solution, responses(scheme.order))
    return problem, solution, values, gradients


def rates(problem: fa.Transient, seed: int = 5) -> tuple[FloatArray, dict[str, FloatArray]]:
    """A random direction of all nodes and of all parameters."""
    rng = np.random.default_rng(seed)
    sizes = {name: 0.5 * np.abs(problem.parameters.value(name)).max() + 0.2 for name in problem.parameters}
    sizes["final_time"] = 0.02  # observations stay between the same steps
    shapes = {name: problem.parameters.value(name).shape for name in problem.parameters}
    along = {name: size * rng.uniform(0.3, 1.0, shapes[name]) for name, size in sizes.items()}
    return 0.05 * rng.uniform(-1, 1, MESH.points.shape), along


def moved(problem: fa.Transient, h: float, points: FloatArray, along: dict[str, FloatArray]) -> fa.HistorySolution:
    """The solution of a problem built anew further along a direction."""
    values = {name: problem.parameters.value(name) + h * rate for name, rate in along.items()}
    return problem.rebuilt(MESH.points + h * points).solve(parameters=values)


def difference(problem: fa.Transient, points: FloatArray, along: dict[str, FloatArray], h: float = 0.008) -> FloatArray:
    """Sixth-order differences of all responses."""
    watched = responses(problem.scheme.order)

    def values(step: float) -> FloatArray:
        solution = moved(problem, step, points, along)
        return np.array([each.value(solution) for each in watched])

    ends = [values(s * k * h) for k in (1, 2, 3) for s in (1, -1)]
    return (45 * (ends[0] - ends[1]) - 9 * (ends[2] - ends[3]) + ends[4] - ends[5]) / (60 * h)


def products(gradients: Any, points: FloatArray, along: dict[str, FloatArray]) -> FloatArray:
    """Derivatives along a direction."""
    return np.array(
        [(g.points * points).sum() + sum((g.parameters[n] * r).sum() for n, r in along.items()) for g in gradients]
    )


# ------------------------------------------------------------------ gradients
@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_by_nodes_and_by_everything_else_agree_with_differences(name: str) -> None:
    problem, _, values, gradients = solved(name)
    points, along = rates(problem)
    exact, found = products(gradients, points, along), difference(problem, points, along)
    assert np.abs((exact - found) / np.maximum(np.abs(exact), 1e-3 * np.abs(values))).max() < 2e-8


@pytest.mark.parametrize("parameter", ["", "density", "final_time", "damping", "initial_u", "initial_v"])
def test_gradients_by_nodes_and_by_each_parameter_alone(parameter: str) -> None:
    problem, _, values, gradients = solved("generalised alpha")
    points, along = rates(problem)
    direction = (0 * points, {parameter: along[parameter]}) if parameter else (points, {})
    exact, found = products(gradients, *direction), difference(problem, *direction)
    assert np.abs((exact - found) / np.maximum(np.abs(exact), 1e-3 * np.abs(values))).max() < 2e-8


@pytest.mark.parametrize("name", ["generalised alpha", "SDIRK3, unsymmetric"])
def test_taylor_remainders_are_of_second_order(name: str) -> None:
    problem, _, values, gradients = solved(name)
    points, along = rates(problem, 6)
    along.pop("final_time")  # its part is as good as linear
    watched, slopes = responses(problem.scheme.order), products(gradients, points, along)
    remainders = [
        np.abs([each.value(at) for each in watched] - values - h * slopes)
        for h, at in ((h, moved(problem, h, points, along)) for h in (0.02, 0.01))
    ]
    orders = np.log2(remainders[0] / remainders[1])
    assert np.abs(orders - 2).max() < 0.05


@pytest.mark.parametrize("name", PROBLEMS)
def test_tangents_and_gradients_agree(name: str) -> None:
    """The rate of a response along random directions: forwards by ``pushforward``, backwards by ``pullback``."""
    problem, solution, _, gradients = solved(name)
    directions = [fa.Design(*rates(problem, 7))]
    moment = solution.moment()
    explicit = fa.FieldNorm().partials(moment)
    for direction, du in zip(directions, solution.pushforward(directions), strict=True):
        assert direction.points is not None
        along = (explicit.state * du).sum() + (explicit.points * direction.points).sum()
        along += sum((slope * direction.parameters[n]).sum() for n, slope in explicit.parameters.items())
        assert along == pytest.approx(products(gradients[:1], direction.points, direction.parameters)[0], rel=1e-11)


def test_gradient_by_the_history_of_a_load() -> None:
    """The history plus a bump is the history with other values."""
    _, _, _, gradients = solved("generalised alpha")

    def value(h: float) -> float:
        bumped = beam(tug=lambda t: np.cos(2 * t) + h * np.sin(5 * t)).solve()
        return float(responses(2)[0].value(bumped))

    slope = gradients[0].histories[0]
    exact = slope.values @ np.sin(5 * slope.times)
    assert exact == pytest.approx((value(1e-3) - value(-1e-3)) / 2e-3, rel=1e-8)
    assert len(gradients[0].histories) == 2


def test_verify_of_a_transient_problem() -> None:
    problem = fa.Transient(
        MESH,
        COPPER,
        [fa.Fixed("left")],
        [fa.Source(1.0)],
        scheme=fa.ImplicitEuler(),
        times=fa.Times(0.3, 2),
        initial=0.5,
    )
    assert fa.verify(problem, fa.AtTime(TIP, 0.2), components=1, show=False).passed


# ------------------------------------------------------------------ counts
@pytest.mark.parametrize("name", PROBLEMS)
def test_two_factorisations_for_a_run_and_all_its_gradients(name: str) -> None:
    problem, _, _, gradients = solved(name)
    _ = [g.parameters[n] for g in gradients for n in g.parameters]
    assert problem.counts == fa.Counts(1, 3 if name == "BDF2" else 2)  # that one starts with another matrix
    assert {g.adjoint_solves for g in gradients} == {STEPS * len(problem.scheme.abscissae) + 1}


def test_one_solve_a_step_forwards_and_backwards() -> None:
    problem = beam(times=fa.Times(0.9, 11))
    solution = problem.solve()
    step = solution.factor
    assert step.statistics.solves == 11
    fa.value_and_gradient(solution, fa.AtTime(fa.FieldNorm(), 0.4))
    assert step.statistics.solves == 22
    assert problem.counts.factorisations == 2


# ------------------------------------------------------------------ closed forms
def test_a_bar_swings_in_its_first_mode() -> None:
    """``u = sin(pi x / 2) cos(w t)``: frequency and amplitude, with the period error of the scheme and of the mesh."""
    n, length = 32, 1.0
    bar = box_mesh("quad", (n, 1), lengths=(length, 1.0 / n))
    physics = fa.Form(
        [
            lambda u, v, w: 4.0 * u.grad[0] * v.grad[0] + u.grad[1] * v.grad[1],
            fa.Integral(lambda u, v, w: u * v, rate=2),
        ]
    )
    w, steps = np.pi, 64  # sqrt(4) pi / 2
    problem = fa.Transient(bar, physics, [fa.Fixed("left")], scheme=fa.Newmark(), times=fa.Times(2 * np.pi / w, steps),
                           initial=(lambda x: np.sin(np.pi * x[0] / 2), None))  # fmt: skip
    solution = problem.solve()
    found = fa.values_in_time(solution, fa.Displacement("right"))
    dt = solution.times.step
    discrete = 2 / dt * np.arctan(w * (1 + (np.pi / 2 / n) ** 2 / 24) * dt / 2)  # consistent mass raises the frequency
    np.testing.assert_allclose(found, np.cos(discrete * solution.times.grid), rtol=0, atol=2e-6)
    assert np.abs(found).max() == pytest.approx(1.0, abs=1e-12)


def test_the_trapezoidal_rule_keeps_the_energy() -> None:
    rng = np.random.default_rng(0)
    start_u, start_v = rng.standard_normal((2, MESH.n_nodes, 2))
    start_u[MESH.nodes_of("left")] = start_v[MESH.nodes_of("left")] = 0.0
    problem = fa.Transient(MESH, STEEL, [fa.Fixed("left")], scheme=fa.Newmark(), initial=(start_u, start_v))
    solution = problem.solve(times=fa.Times(20.0, 200))
    motion = solution.motion
    energies = []
    for y in solution.snapshots.states.values():
        u, v = y[0], y[1]
        stiff, inert = motion.products((u, None, None)), motion.products((None, None, v))
        energies.append(0.5 * (u @ stiff + v @ inert))
    assert len(energies) == 201
    np.testing.assert_allclose(energies, energies[0], rtol=2e-12)


def test_a_uniform_body_follows_its_support_and_a_free_one_falls() -> None:
    """Heat in, capacity times temperature; a body without supports under its weight."""
    heated = fa.Transient(MESH, COPPER, (), [fa.Source(0.4)], scheme=fa.SDIRK2(), times=fa.Times(2.0, 3), initial=1.0)
    np.testing.assert_allclose(heated.solve().u, 1.0 + 0.5 * 2.0, rtol=1e-13)
    falling = fa.Transient(
        MESH, STEEL, (), [fa.Gravity((0.0, -9.0))], times=fa.Times(2.0, 5), initial=(None, (1.0, 0.0))
    )
    np.testing.assert_allclose(falling.solve().u, np.tile([2.0, -18.0], (MESH.n_nodes, 1)), rtol=1e-12, atol=1e-12)


def test_a_body_that_its_support_carries_along_stays_rigid() -> None:
    """``u = t^2 / 2`` everywhere, held up against inertia and damping; of first order ``u = t``."""
    carrier = fa.WithHistory(fa.Fixed("left", "x", value=1.0), (lambda t: t**2 / 2, lambda t: t, np.ones_like))
    push = [fa.BodyForce((1.7, 0.0)), fa.WithHistory(fa.BodyForce((1.7 * 0.3, 0.0)), lambda t: t)]
    body = fa.Transient(MESH, STEEL, [carrier, fa.Fixed("left", "y")], push, damping=(0.3, 0.1), times=fa.Times(3.0, 4))
    solution = body.solve()
    for time in (0.0, 1.1, 3.0):
        for of, exact in enumerate((time**2 / 2, time, 1.0)):
            expected = np.tile([exact, 0.0], (MESH.n_nodes, 1))
            np.testing.assert_allclose(solution.moment(time, of).u, expected, rtol=0, atol=1e-12)
    warmed = fa.WithHistory(fa.Fixed("left", value=1.0), (lambda t: t, np.ones_like))
    heated = fa.Transient(MESH, COPPER, [warmed], [fa.Source(0.8)], scheme=fa.SDIRK2(), times=fa.Times(3.0, 4))
    np.testing.assert_allclose(heated.solve().u, 3.0, rtol=1e-12)


def test_supports_are_followed_exactly_at_all_times() -> None:
    _, solution, _, _ = solved("generalised alpha")
    held = MESH.nodes_of("left")
    g = np.array(moving(MESH.points[held].T)).T
    for of, history in enumerate(WAVE):
        for time in (0.0, 0.31, 0.9):
            np.testing.assert_allclose(solution.moment(time, of).u[held], history(time) * g, rtol=0, atol=1e-15)


# ------------------------------------------------------------------ observations
def test_readings_between_steps_are_of_fourth_order_and_meet_the_steps() -> None:
    _, solution, _, _ = solved("generalised alpha")
    grid = solution.times.grid
    values = fa.values_in_time(solution, fa.Displacement("right", "y"))
    free = np.array(
        [y[0].reshape(-1, 2)[MESH.nodes_of("right"), 1].mean() for _, y in sorted(solution.snapshots.states.items())]
    )
    np.testing.assert_allclose(values, free, rtol=1e-14, atol=1e-16)
    fine = beam(times=fa.Times(0.9, 40 * STEPS)).solve()
    coarse = beam(times=fa.Times(0.9, 20 * STEPS)).solve()
    middle = grid[:-1] + 0.4 * np.diff(grid)
    a, b = (fa.values_in_time(s, fa.Displacement("right", "y"), middle) for s in (coarse, fine))
    assert np.abs(a - b).max() < 2e-4 * np.abs(values).max()


def test_integral_over_time_is_the_trapezoidal_rule() -> None:
    _, solution, values, _ = solved("SDIRK2")
    norms = fa.values_in_time(solution, fa.FieldNorm())
    assert values[3] == pytest.approx(np.trapezoid(norms, solution.times.grid), rel=1e-14)


def test_a_static_response_is_one_at_the_final_time() -> None:
    _, solution, values, gradients = solved("generalised alpha")
    value, gradient = fa.value_and_gradient(solution, fa.FieldNorm())
    assert value == values[0]
    np.testing.assert_allclose(gradient.points, gradients[0].points, rtol=0, atol=1e-13 * np.abs(gradient.points).max())
    assert "HistorySolution(24 unknowns, 6 steps" in repr(solution)
    assert "adjoint solves: 7" in repr(gradient)
    assert fa.values_and_gradients(solution, [])[1] == ()


def test_the_initial_acceleration_satisfies_the_equations() -> None:
    _, solution, _, _ = solved("generalised alpha")
    motion, y = solution.motion, solution.snapshots.states[0]
    residual = motion.forces(tuple(y)) - motion.load(0)
    assert np.abs(residual).max() < 1e-13 * np.abs(motion.load(0)).max()


# ------------------------------------------------------------------ bad input
def heat(**options: Any) -> fa.Transient:
    settings: dict[str, Any] = {"scheme": fa.SDIRK2(), "times": fa.Times(1.0, 3), **options}
    supports = settings.pop("supports", [fa.Fixed("left", value=1.0)])
    return fa.Transient(MESH, settings.pop("physics", COPPER), supports, settings.pop("loads", ()), **settings)


def gradient(response: Any) -> Any:
    return fa.value_and_gradient(solved("SDIRK2")[1], response)


def wave(history: Any, condition: Any = None) -> fa.WithHistory:
    return fa.WithHistory(condition or fa.Fixed("left", value=1.0), history)


def raises(t: Any) -> Any:
    raise ZeroDivisionError("never")


SUPPORT = fa.Fixed("left", value=1.0)


class Blind(fa.TimeResponse):
    def observations(self, times: Any) -> Any:
        return []


def changed() -> Any:
    factor = [1.0]
    solution = heat(loads=[wave(lambda t: factor[0] * t, fa.Source(1.0))]).solve()
    _, found = fa.value_and_gradient(solution, fa.FieldNorm())
    factor[0] = 2.0
    return found.parameters["final_time"]


BAD: dict[str, tuple[Callable[[], Any], type[fa.FemadjError], str]] = {
    "initial array against supports": (
        lambda: heat(initial=np.zeros(MESH.n_nodes)), fa.ProblemError, "contradicts the supports at node 0",
    ),
    "initial function against supports": (lambda: heat(initial=lambda x: x[0]), fa.ProblemError, "1 is prescribed"),
    "initial rate against supports": (
        lambda: beam(initial=(None, np.zeros((12, 2)))), fa.ProblemError, "initial_v contradicts the supports",
    ),
    "initial values given later": (
        lambda: heat().solve(initial=np.zeros((12, 1))), fa.ProblemError, "contradicts the supports",
    ),
    "initial shape": (lambda: heat(initial=np.zeros((5, 3))), fa.ProblemError, r"\(12, 1\), not \(5, 3\)"),
    "initial NaN": (lambda: heat(initial=np.full(12, np.nan)), fa.ProblemError, "finite"),
    "initial of second order": (lambda: beam(initial=(None,)), fa.ProblemError, "a pair"),
    "initial no pair": (lambda: beam(initial=1.0), fa.ProblemError, r"write initial=\(u0, v0\)"),
    "time zero": (lambda: fa.Times(0.0, 3), fa.ProblemError, "positive"),
    "time backwards": (lambda: fa.Times(-1.0, 3), fa.ProblemError, "positive"),
    "no steps": (lambda: fa.Times(1.0, 0), fa.ProblemError, "number of steps"),
    "no times": (lambda: heat(times=None).solve(), fa.ProblemError, "say which times"),
    "times of another kind": (lambda: heat(times=(1.0, 3)), fa.ProblemError, r"Times\(final, steps\)"),
    "negative final time": (lambda: heat().solve(parameters={"final_time": -1.0}), fa.ProblemError, "positive"),
    "observed too late": (lambda: gradient(fa.AtTime(fa.FieldNorm(), 0.6)), fa.ResponseError, "from 0 to 0.5"),
    "observed too early": (lambda: gradient(fa.AtTime(fa.FieldNorm(), -0.1)), fa.ResponseError, "outside"),
    "observed at NaN": (lambda: gradient(fa.AtTime(fa.FieldNorm(), np.nan)), fa.ResponseError, "finite"),
    "ends before it starts": (
        lambda: gradient(fa.TimeIntegral(fa.FieldNorm(), 0.4, 0.1)), fa.ResponseError, "before it starts",
    ),
    "times out of order": (
        lambda: fa.values_in_time(solved("SDIRK2")[1], fa.FieldNorm(), [0.2, 0.1]), fa.ResponseError, "ascend",
    ),
    "acceleration of first order": (
        lambda: gradient(fa.AtTime(fa.FieldNorm(), of="acceleration")), fa.ResponseError, "order 2",
    ),
    "observed quantity": (
        lambda: gradient(fa.AtTime(fa.FieldNorm(), of="speed")), fa.ResponseError, "'rate'",
    ),
    "forces": (lambda: gradient(fa.AtTime(fa.Compliance())), fa.ResponseError, "not on forces"),
    "reaction": (lambda: gradient(fa.Reaction("left")), fa.ResponseError, "not on forces"),
    "stage": (lambda: gradient(fa.OnStage("heat", fa.FieldNorm())), fa.ResponseError, "chain"),
    "static solution": (
        lambda: fa.AtTime(fa.FieldNorm()).value(fa.LinearStatic(MESH, COPPER, [fa.Fixed("left")]).solve()),
        fa.ResponseError, "observes a history",
    ),
    "history raises": (lambda: heat(supports=[wave((raises, np.cos))]).solve(), fa.SupportError, "ZeroDivisionError"),
    "history NaN": (
        lambda: heat(loads=[wave(lambda t: t / 0 * 0, fa.Source(1.0))]).solve(), fa.LoadError, "NaN or infinite",
    ),
    "history shape": (
        lambda: heat(loads=[wave(lambda t: t[:1] * np.ones((2, 1)), fa.Source(1.0))]).solve(), fa.LoadError, "shape",
    ),
    "history mixes times": (
        lambda: heat(loads=[wave(lambda t: t / t.max(), fa.Source(1.0))]).solve(), fa.LoadError, "mixes points",
    ),
    "history is no function": (lambda: wave(3.0), fa.ProblemError, "a function of the time"),
    "wrong derivative": (
        lambda: heat(supports=[wave((np.sin, np.sin))]).solve(), fa.SupportError, "derivative 1 is not the derivative",
    ),
    "derivative missing": (
        lambda: beam(scheme=fa.Newmark()) and fa.Transient(
            MESH, STEEL, [wave(np.sin, fa.Fixed("left", value=1.0))], times=fa.Times(1.0, 2)
        ).solve(), fa.SupportError, r"derivative of order 2 is needed",
    ),
    "no inertia": (
        lambda: heat(physics=fa.Form([warmth, fa.Integral(warmth, "low", rate=1)])).solve(), fa.ProblemError,
        "unknowns have no inertia, the first is node",
    ),
    "name of the problem's own": (
        lambda: heat(physics=fa.Form([warmth, fa.Integral(warmth, rate=1)], parameters={"final_time": 1.0})),
        fa.ParameterError, "cannot have the name 'final_time'",
    ),
    "observe a static response": (lambda: heat().solve(observe=[fa.FieldNorm()]), fa.ProblemError, "observe takes"),
    "observe one": (lambda: heat().solve(observe=fa.AtTime(TIP)), fa.ProblemError, r"observe=\[response\]"),
    "a history that has changed": (
        changed, fa.LoadError, "other values than when the problem was solved",
    ),
    "no observations": (lambda: gradient(Blind()), fa.ResponseError, "at least one"),
    "direction": (lambda: solved("SDIRK2")[1].pushforward([3.0]), fa.ProblemError, "a list of Design"),
    "rates of the direction": (
        lambda: solved("SDIRK2")[1].pushforward([fa.Design(None, {"final_time": np.ones(2)})]),
        fa.ParameterError, "'final_time'",
    ),
    "parameter of the direction": (
        lambda: solved("SDIRK2")[1].pushforward([fa.Design(None, {"damping": np.ones(2)})]),
        fa.ParameterError, "'damping'",
    ),
    "one support, two histories": (
        lambda: heat(supports=[wave((np.sin, np.cos), SUPPORT), wave((np.cos, np.sin), SUPPORT)]),
        fa.SupportError, "different histories",
    ),
    "two histories": (
        lambda: heat(supports=[wave((np.sin, np.cos)), wave((np.cos, np.sin), fa.Fixed("bottom", value=1.0))]),
        fa.SupportError, "different histories",
    ),
    "no density": (lambda: heat(physics=fa.Diffusion(1.0)), fa.MaterialError, "density"),
    "rate too high": (
        lambda: heat(physics=fa.Form([warmth, fa.Integral(warmth, rate=2)])), fa.ProblemError, "of order 1 in time",
    ),
    "damping of first order": (lambda: heat(damping=(0.1, 0.0)), fa.ProblemError, "second order"),
    "damping negative": (lambda: beam(damping=(-0.1, 0.0)), fa.ProblemError, "zero or positive"),
    "damping of one": (lambda: beam(damping=0.1), fa.ProblemError, "two numbers"),
    "scheme class": (lambda: heat(scheme=fa.SDIRK2), fa.ProblemError, "must be a scheme"),
    "load with a history in statics": (
        lambda: fa.LinearStatic(MESH, COPPER, [fa.Fixed("left")], [wave(np.sin, fa.Source(1.0))]),
        fa.LoadError, "which is none",
    ),
    "a kink at a step": (
        lambda: fa.value_and_gradient(
            heat(loads=[wave(lambda t: np.maximum(t - 1.0, 0.0), fa.Source(1.0))], scheme=fa.ImplicitEuler()).solve(),
            fa.FieldNorm(),
        )[1].parameters["final_time"],
        fa.LoadError, "kink",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_words(name: str) -> None:
    make, error, words = BAD[name]
    with pytest.raises(error, match=words):
        make()
