"""Ordinary differential equations: their solution, and derivatives by theta, initial state and all times."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import RK45, solve_ivp

import femadj as fa
from femadj.ode import RightHandSide, runge_kutta

FloatArray = npt.NDArray[np.float64]


def volterra(t: Any, y: Any, p: Any) -> Any:
    """Lotka and Volterra, with a force in time."""
    return np.stack([p[0] * y[0] - p[1] * y[0] * y[1] + 0.1 * np.sin(t), p[2] * y[0] * y[1] - p[3] * y[1]])


def net(t: Any, y: Any, p: Any) -> Any:
    """A network of one hidden layer; theta is a matrix."""
    hidden = np.tanh(p[:, :2] @ y + p[:, 2:3].reshape((-1,) + (1,) * (y.ndim - 1)))
    return p[:, 3:].T @ hidden - 0.3 * y


def decay(t: Any, y: Any, p: Any) -> Any:
    """Its past cannot be recovered from its end."""
    return np.stack([-p[0] * (y[0] - np.cos(t)), p[1] * y[0] - 2 * y[1]])


RNG = np.random.default_rng(2)
CASES: dict[str, tuple[Callable[..., Any], list[float], list[float], Any]] = {
    "volterra": (volterra, [8.0, 5.0], [0.3, 2.0, 5.0, 9.0], np.array([1.1, 0.4, 0.1, 0.4])),
    "net": (net, [1.0, -0.5], [0.0, 1.0, 2.5, 4.0], 0.8 * RNG.normal(size=(3, 5))),
    "decay": (decay, [2.0, 0.0], [0.0, 0.2, 0.5, 2.0], np.array([20.0, 1.0])),
}
NOISE = np.random.default_rng(3)
WEIGHT = RNG.uniform(-1, 1, (4, 2))


@cache
def solved(name: str, rtol: float = 1e-4, adjoint: Any = "discrete", vectorised: bool = True) -> fa.OdeSolution:
    f, y0, times, theta = CASES[name]
    return fa.odeint(f, y0, times, theta, rtol=rtol, atol=rtol / 100, adjoint=adjoint, vectorised=vectorised)


def value(y: FloatArray) -> float:
    return float((WEIGHT * y).sum() + 0.5 * (y**2).sum())


def gradient(solution: fa.OdeSolution) -> fa.OdeGradient:
    return solution.pullback(WEIGHT + solution.y)


def joined(g: fa.OdeGradient) -> FloatArray:
    return np.concatenate([np.ravel(g.theta), g.y0, g.times])


def off(g: fa.OdeGradient, name: str) -> float:
    """Relative error against the gradient of the exact solution, part by part."""
    exact = gradient(solved(name, 1e-10))
    pairs = ((g.theta, exact.theta), (g.y0, exact.y0), (g.times, exact.times))
    return max(float(np.abs(np.asarray(a) - b).max() / np.abs(b).max()) for a, b in pairs)


# ---------------------------------------------------------------------- the solution
def test_tableau_is_that_of_dormand_and_prince() -> None:
    for ours, theirs in ((runge_kutta.C, RK45.C), (runge_kutta.A, RK45.A), (runge_kutta.B, RK45.B)):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(runge_kutta.E, -RK45.E)
    assert np.array_equal(runge_kutta.P, RK45.P)


def test_steps_are_of_order_five_and_their_error_of_order_five() -> None:
    """Single steps of ``y' = y cos t``, whose solution is ``exp(sin t)``: local errors fall like h^6 and h^5."""
    rhs = RightHandSide(lambda t, y, theta: y * np.cos(t), None, np.ones(()), 1, False)

    def tried(t: float, h: float) -> runge_kutta.Tried:
        y = np.exp(np.sin([t]))
        return runge_kutta.attempt(rhs, t, y, h, y * np.cos(t))

    errors = [abs(tried(0.4, h).y[0] - np.exp(np.sin(0.4 + h))) for h in (0.1, 0.05)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(6.0, abs=0.1)
    estimates = [abs(tried(1.0, h).error[0]) for h in (0.1, 0.05)]
    assert np.log2(estimates[0] / estimates[1]) == pytest.approx(5.0, abs=0.1)


def test_steps_of_a_run_are_of_order_five() -> None:
    """A tolerance that takes one step an interval: errors at the end fall like h^5."""
    errors = []
    for n in (16, 32):
        times = np.linspace(0.0, 2.0, n + 1)
        solution = fa.odeint(lambda t, y, p: y * np.cos(t), [1.0], times, 1.0, rtol=0.5, atol=10.0)
        assert len(solution.steps) == n
        errors.append(abs(solution.y[-1, 0] - np.exp(np.sin(2.0))))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(5.0, abs=0.2)


def test_volterra_against_an_independent_integrator() -> None:
    f, y0, times, theta = CASES["volterra"]
    solution = fa.odeint(f, y0, times, theta, rtol=1e-11, atol=1e-12)
    expected = solve_ivp(f, (times[0], times[-1]), y0, "DOP853", times, args=(theta,), rtol=1e-13, atol=1e-13).y.T
    assert np.abs(solution.y - expected).max() < 1e-9
    assert np.array_equal(solution.y[0], y0)
    between = np.linspace(0.3, 9.0, 7)
    dense = solve_ivp(f, (times[0], times[-1]), y0, "DOP853", between, args=(theta,), rtol=1e-13, atol=1e-13).y.T
    assert np.abs(solution.interpolated(between) - dense).max() < 1e-7
    assert solution.interpolated(1.0).shape == (2,)


def test_tolerance_is_kept() -> None:
    errors = [np.abs(solved("volterra", rtol).y - solved("volterra", 1e-12).y).max() for rtol in (1e-3, 1e-5, 1e-7)]
    assert all(error < 100 * rtol for error, rtol in zip(errors, (1e-3, 1e-5, 1e-7), strict=True))
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_steps_are_recorded() -> None:
    steps = solved("volterra").steps
    times = solved("volterra").times
    begins, ends = steps.t, steps.t + steps.h
    assert np.allclose(begins[1:], ends[:-1], rtol=1e-15)
    for i in range(3):
        mine = steps.interval == i
        assert steps.fraction[mine].sum() == pytest.approx(1.0, abs=1e-14)
        assert ends[mine][-1] == pytest.approx(times[i + 1], rel=1e-15)
    assert not steps.y.flags.writeable
    assert np.abs(solved("volterra").replayed() - solved("volterra").y).max() < 1e-13


# ---------------------------------------------------------------------- derivatives of the steps
@pytest.mark.parametrize("what", ["theta", "y0", "times"])
@pytest.mark.parametrize("name", CASES)
def test_discrete_adjoint_against_differences_of_the_same_steps(name: str, what: str) -> None:
    solution = solved(name)
    g = np.asarray(getattr(gradient(solution), what))
    at = {"theta": solution.theta, "y0": solution.y[0], "times": solution.times}[what]
    direction = np.random.default_rng(5).uniform(-1, 1, at.shape)

    def along(h: float) -> float:
        return value(solution.replayed(**{what: at + h * direction}))

    exact = float((g * direction).sum())
    errors = []
    for h in (1e-2, 4e-3, 1e-3):
        j = [along(k * h) for k in (-3, -2, -1, 1, 2, 3)]
        errors.append(abs((45 * (j[3] - j[2]) - 9 * (j[4] - j[1]) + (j[5] - j[0])) / (60 * h) - exact))
    assert min(errors) < 2e-10 * abs(exact)
    remainders = [abs(along(h) - along(0.0) - h * exact) for h in (2e-4, 1e-4)]
    assert np.log2(remainders[0] / remainders[1]) == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("name", CASES)
def test_every_time_has_its_derivative(name: str) -> None:
    """One by one, the first and the last included."""
    solution, h = solved(name), 1e-5
    g = gradient(solution)
    for i, unit in enumerate(np.eye(4)):
        j = [value(solution.replayed(times=solution.times + k * h * unit)) for k in (-2, -1, 1, 2)]
        difference = (8 * (j[2] - j[1]) - (j[3] - j[0])) / (12 * h)
        assert g.times[i] == pytest.approx(difference, rel=1e-6, abs=1e-8 * np.abs(g.times).max())


@pytest.mark.parametrize("name", CASES)
def test_pullback_is_the_transpose_of_pushforward(name: str) -> None:
    solution, rng = solved(name), np.random.default_rng(6)
    data = {"theta": solution.theta, "y0": solution.y[0], "times": solution.times}
    directions = {key: rng.uniform(-1, 1, at.shape) for key, at in data.items()}
    a = rng.uniform(-1, 1, solution.y.shape)
    g = solution.pullback(a)
    forward = (a * solution.pushforward(**directions)).sum()
    backward = sum((np.asarray(getattr(g, key)) * direction).sum() for key, direction in directions.items())
    assert forward == pytest.approx(backward, rel=1e-12)
    h = 1e-4
    moved = [
        solution.replayed(**{key: at + k * h * directions[key] for key, at in data.items()}) for k in (-2, -1, 1, 2)
    ]
    difference = (8 * (moved[2] - moved[1]) - (moved[3] - moved[0])) / (12 * h)
    assert np.abs(solution.pushforward(**directions) - difference).max() < 1e-8 * np.abs(difference).max()


def test_each_step_is_transposed() -> None:
    """The dot-product test of a single step, with all it depends on moving."""
    solution, rng = solved("volterra"), np.random.default_rng(7)
    steps, rhs = solution.steps, solution.trajectory.rhs
    for m in range(len(steps)):
        slopes = rhs.slopes(*steps.stages(slice(m, m + 1)))
        rate = runge_kutta.Before(rng.normal(), rng.normal(), rng.normal(size=2), rng.normal(size=4))
        a = rng.normal(size=2)
        before = runge_kutta.back(steps.h[m], steps.k[m], slopes, 0, a)
        forward = a @ runge_kutta.along(steps.h[m], steps.k[m], slopes, 0, rate)
        backward = before.t * rate.t + before.h * rate.h + before.y @ rate.y + before.theta @ rate.theta
        assert forward == pytest.approx(backward, rel=1e-12)


def test_every_observation_adds_its_own() -> None:
    """Cotangents at one time alone add up to those at all; at the first time they are those of y0."""
    solution = solved("volterra")
    parts = []
    for i in range(4):
        only = np.zeros_like(solution.y)
        only[i] = WEIGHT[i]
        parts.append(joined(solution.pullback(only)))
    whole = joined(solution.pullback(WEIGHT))
    assert np.abs(sum(parts) - whole).max() < 1e-12 * np.abs(whole).max()
    assert np.array_equal(parts[0], np.concatenate([np.zeros(4), WEIGHT[0], np.zeros(4)]))
    assert not parts[1][-2:].any()  # later times do not matter for what was observed before


def test_derivatives_do_not_depend_on_how_f_is_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    f, y0, times, theta = CASES["volterra"]
    expected = joined(gradient(solved("volterra")))
    single = solved("volterra", vectorised=False)
    calls = []

    def vjp(t: Any, y: Any, p: Any, a: Any) -> Any:
        calls.append(t)
        by_y = [a[0] * (p[0] - p[1] * y[1]) + a[1] * p[2] * y[1], -a[0] * p[1] * y[0] + a[1] * (p[2] * y[0] - p[3])]
        by_theta = [a[0] * y[0], -a[0] * y[0] * y[1], a[1] * y[0] * y[1], -a[1] * y[1]]
        return 0.1 * np.cos(t) * a[0], np.array(by_y), by_theta

    given = fa.odeint(f, y0, times, theta, rtol=1e-4, atol=1e-6, vjp=vjp, check=False)
    for solution in (single, given):
        assert np.abs(joined(gradient(solution)) - expected).max() < 1e-12 * np.abs(expected).max()
    assert len(calls) == 6 * len(given.steps)  # once a stage
    monkeypatch.setattr("femadj.ode.discrete._BLOCK_ENTRIES", 6 * 2 * 7 * 5)  # blocks of five steps
    assert len(single.steps) % 5
    for solution in (solved("volterra"), single):
        assert np.array_equal(joined(gradient(solution)), joined(gradient(single)))
    wanted = solved("volterra").pushforward(theta=theta)
    assert np.abs(given.pushforward(theta=theta) - wanted).max() < 1e-13 * np.abs(wanted).max()


def test_columns_are_differentiated_at_once() -> None:
    counted: list[tuple[int, ...]] = []

    def f(t: Any, y: Any, p: Any) -> Any:
        counted.append(y.shape)
        return volterra(t, y, p)

    solution = fa.odeint(f, [8.0, 5.0], [0.0, 4.0], CASES["volterra"][3], vectorised=True, check=False)
    forward = len(counted)
    assert (
        forward == 6 * (len(solution.steps) + solution.steps.rejected) + 3
    )  # two at y0, whether they are the same, one for the first length
    solution.pullback(np.ones((2, 2)))
    assert counted[forward:] == [(2, 6 * len(solution.steps))] * (1 + 2 + 4)


def test_responses_and_a_single_number_as_theta() -> None:
    """``y' = -theta y``: ``y(T) = y0 exp(-theta T)``, so that all derivatives are known."""
    solution = fa.odeint(lambda t, y, k: -k * y, [3.0], [0.0, 0.5, 2.0], 0.7, rtol=1e-11, atol=1e-13)
    found, g = solution.value_and_gradient(lambda y, k: y[2, 0] ** 2 + k * y[1, 0])
    half, end = 3 * np.exp(-0.35), 3 * np.exp(-1.4)
    assert found == pytest.approx(end**2 + 0.7 * half, rel=1e-10)
    assert isinstance(g.theta, float)
    assert g.theta == pytest.approx(-2 * 2.0 * end**2 + half - 0.7 * 0.5 * half, rel=1e-9)
    assert g.y0 == pytest.approx([(2 * end**2 + 0.7 * half) / 3], rel=1e-9)
    at_half, at_end = -0.7 * 0.7 * half, -0.7 * 2 * end**2
    assert g.times == pytest.approx([-at_half - at_end, at_half, at_end], rel=1e-8)
    with pytest.raises(fa.VerificationError, match="response 0"):
        solution.value_and_gradient(lambda y, k: fa.ResponseEvaluation(y[2, 0] ** 2, dx=2 * y))


# ---------------------------------------------------------------------- derivatives of the exact solution
@pytest.mark.parametrize("adjoint", ["discrete", "interpolate"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_come_to_that_of_the_exact_solution(name: str, adjoint: Any) -> None:
    found = [off(gradient(solved(name, rtol, adjoint)), name) for rtol in (1e-4, 1e-7)]
    assert found[1] < 1e-5
    assert found[1] < 0.05 * found[0]


@pytest.mark.parametrize("what", ["theta", "y0", "times"])
def test_gradient_against_differences_of_an_independent_integrator(what: str) -> None:
    f, start, observed, at = CASES["volterra"]
    solution = fa.odeint(f, start, observed, at, rtol=1e-10, atol=[1e-11, 1e-12], vectorised=True)
    g = np.asarray(getattr(gradient(solution), what))
    direction = np.random.default_rng(8).uniform(-1, 1, g.shape)

    def exact(h: float) -> float:
        data = {"theta": np.array(at), "y0": np.array(start), "times": np.array(observed)}
        data[what] = data[what] + h * direction
        span, rest = (data["times"][0], data["times"][-1]), {"rtol": 1e-13, "atol": 1e-13, "args": (data["theta"],)}
        return value(solve_ivp(f, span, data["y0"], "DOP853", data["times"], **rest).y.T)

    h = 2e-3
    difference = (8 * (exact(h) - exact(-h)) - (exact(2 * h) - exact(-2 * h))) / (12 * h)
    assert (g * direction).sum() == pytest.approx(difference, rel=1e-7)


def test_backsolve_where_the_way_back_is_sound() -> None:
    assert off(gradient(solved("volterra", 1e-6, "backsolve")), "volterra") < 1e-3


def test_backsolve_is_refused_where_the_past_is_forgotten() -> None:
    f, y0, times, theta = CASES["decay"]
    with pytest.raises(fa.OdeError, match="does not come back") as caught:
        gradient(solved("decay", 1e-4, "backsolve"))
    assert "adjoint='discrete'" in str(caught.value)
    unchecked = fa.odeint(f, y0, times, theta, rtol=1e-4, atol=1e-6, adjoint="backsolve", vectorised=True, check=False)
    assert off(gradient(unchecked), "decay") > 1e6  # what the check is for
    assert off(gradient(solved("decay", 1e-6)), "decay") < 1e-4
    explodes = fa.odeint(
        lambda t, y, p: -p * y**3, [2.0], [0.0, 5.0], 1e3, rtol=1e-3, adjoint="backsolve", vectorised=True, check=False
    )
    with pytest.raises(fa.OdeError, match="could not be integrated from t = 5 back to 0"):
        explodes.pullback([[0.0], [1.0]])


def test_adjoints_do_not_depend_on_the_unit_of_the_response() -> None:
    solution = solved("volterra", 1e-4, "interpolate")
    whole, small = solution.pullback(WEIGHT), solution.pullback(2.0**-40 * WEIGHT)
    assert np.array_equal(joined(whole), 2.0**40 * joined(small))
    assert not joined(solution.pullback(0 * WEIGHT)).any()


# ---------------------------------------------------------------------- bad input
GOOD = {"y0": [1.0, 2.0], "times": [0.0, 1.0], "theta": 1.0}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"times": [0.0, 1.0, 0.5]}, r"times must ascend: times\[2\] = 0.5 is not after times\[1\] = 1"),
        ({"times": [0.0, 0.0]}, "ascend"),
        ({"times": [0.0]}, "two or more"),
        ({"times": [0.0, np.nan]}, "two or more finite"),
        ({"y0": 1.0}, "y0 must be"),
        ({"y0": [1.0, np.inf]}, "y0 must be"),
        ({"theta": "a"}, "theta must be"),
        ({"theta": np.nan}, "NaN"),
        ({"rtol": 0.0}, "rtol"),
        ({"atol": [1.0, 2.0, 3.0]}, "atol"),
        ({"atol": -1.0}, "atol"),
        ({"adjoint": "continuous"}, "'discrete', 'interpolate' or 'backsolve'"),
        ({"max_steps": 0}, "max_steps"),
        ({"vjp": 3}, "vjp must be a function"),
        ({"f": 3}, "f must be a function"),
        ({"f": lambda t, y, p: 1 / 0}, "ZeroDivisionError"),
        ({"f": lambda t, y, p: y * np.nan}, r"NaN or infinite at the initial state, t = 0, y = \[1.0, 2.0\]"),
        ({"f": lambda t, y, p: y[0]}, r"in the shape of y, \(2,\)"),
        ({"f": lambda t, y, p: None}, "NoneType"),
        ({"f": lambda t, y, p: [y, 1.0]}, r"shape \(2,\)"),
        ({"f": lambda t, y, p: np.array([1, 2])}, "int64 in place of floating-point numbers"),
        ({"f": lambda t, y, p: y * 1j}, "complex"),
        ({"f": lambda t, y, p: NOISE.random() * y}, "random numbers"),
        ({"f": lambda t, y, p: y.__iadd__(1.0)}, "in place"),
        ({"f": lambda t, y, p: np.sqrt(0.7 - t) * y}, "too short at t = 0.7"),
        ({"f": lambda t, y, p: y**2}, "grows without bound"),
        ({"f": lambda t, y, p: -1e8 * y, "max_steps": 300}, "300 steps .* stiff"),
        ({"f": lambda t, y, p: -1e300 * y, "max_steps": 300}, "steps"),
        ({"f": lambda t, y, p: y, "vectorised": True, "y0": [1.0, 2.0, 3.0], "atol": [1.0, 2.0]}, "atol"),
    ],
)
def test_what_cannot_be_integrated(changed: dict[str, Any], said: str) -> None:
    arguments = {"f": lambda t, y, p: -p * y, **GOOD, **changed}
    with pytest.raises(fa.OdeError, match=said):
        fa.odeint(**arguments)


@pytest.mark.parametrize(
    ("f", "options", "error", "said"),
    [
        (lambda t, y, p: np.abs(y - 1.0), {}, fa.VerificationError, "kink"),
        (lambda t, y, p: float(p) * y, {}, fa.ComplexStepError, "float"),
        (lambda t, y, p: -p * y, {"vjp": lambda t, y, p, a: (0.0, -p * a, a @ y)}, fa.VerificationError, "by theta"),
        (
            lambda t, y, p: -p * y * t,
            {"vjp": lambda t, y, p, a: (0, -p * t * a, -t * a @ y)},
            fa.VerificationError,
            "by t",
        ),
        (lambda t, y, p: -p * y, {"vjp": lambda t, y, p, a: (None, a)}, fa.OdeError, "three arrays"),
        (lambda t, y, p: -p * y, {"vjp": lambda t, y, p, a: (None, a[:1], 1.0)}, fa.OdeError, r"a.df/dy of"),
        (lambda t, y, p: -p * y, {"vjp": lambda t, y, p, a: 1 / 0}, fa.OdeError, "ZeroDivisionError"),
        (lambda t, y, p: -p * y / (1 + y.sum()), {"vectorised": True}, fa.OdeError, "mixes columns|other values"),
        (lambda t, y, p: np.stack([-1.0 * p, np.sqrt(p - 1.0)]), {}, fa.OdeError, "NaN or infinite"),
    ],
)
def test_what_cannot_be_differentiated(f: Any, options: Any, error: Any, said: str) -> None:
    solution = fa.odeint(f, [1.0, 2.0], [0.0, 1.0], 1.0, **options)
    with pytest.raises(error, match=said):
        solution.pullback(np.ones((2, 2)))


def test_a_function_that_changes_after_the_steps() -> None:
    factor = [1.0]
    solution = fa.odeint(lambda t, y, p: -p * factor[0] * y, [1.0], [0.0, 1.0], 1.0, check=False)
    solution.pullback([[0.0], [1.0]])
    factor[0] = 1.001
    with pytest.raises(fa.OdeError, match="changed since"):
        solution.pullback([[0.0], [1.0]])


@pytest.mark.parametrize("vectorised", [True, False])
def test_rounding_near_a_state_of_rest_is_no_change(vectorised: bool) -> None:
    """Where large terms cancel, sums over one and over many points differ in all digits that are left."""
    rng = np.random.default_rng(0)
    p, rest = -np.diag(rng.uniform(1, 3, 6)) + 0.2 * rng.normal(size=(6, 6)), 1e6 * rng.uniform(1, 2, 6)
    load = np.array(p @ rest)
    solution = fa.odeint(
        lambda t, y, p: p @ y - load.reshape((6,) + (1,) * (y.ndim - 1)), 1.1 * rest, [0.0, 30.0], p,
        rtol=1e-9, vectorised=vectorised,
    )  # fmt: skip
    assert np.abs(solution.steps.k[-1]).max() < 1e-6 * np.abs(load).max()
    weights = rng.uniform(-1, 1, 6)
    found = solution.pullback([np.zeros(6), weights])  # of the state of rest, y = p^-1 load
    assert np.abs(found.theta + np.outer(np.linalg.solve(p.T, weights), rest)).max() < 1e-4 * np.abs(found.theta).max()
    load[0] *= 1 + 1e-9
    with pytest.raises(fa.OdeError, match="changed since"):
        solution.pullback([np.zeros(6), weights])


def test_wrong_cotangents_and_directions() -> None:
    solution = solved("volterra")
    for wrong in (WEIGHT[:3], WEIGHT * np.nan, WEIGHT * 1j, "a", None):
        with pytest.raises(fa.OdeError, match="cotangents"):
            solution.pullback(wrong)  # type: ignore[arg-type]
    with pytest.raises(fa.OdeError, match="direction of theta"):
        solution.pushforward(theta=[1.0])
    with pytest.raises(fa.OdeError, match="times must have shape"):
        solution.replayed(times=[0.0, 1.0])
    with pytest.raises(fa.OdeError, match=r"between 0\.3 and 9"):
        solution.interpolated(10.0)
    with pytest.raises(fa.OdeError, match="NaN or infinity"):
        fa.odeint(lambda t, y, p: p * y**3, [0.1], [0.0, 1.0], 1.0).replayed(y0=[1e80])


def test_results_show_themselves() -> None:
    assert "2 unknowns at 4 times, 0.3 to 9" in repr(solved("volterra"))
    assert "rejected" in repr(solved("volterra").steps)
    assert repr(gradient(solved("volterra"))).startswith("OdeGradient(discrete)")
