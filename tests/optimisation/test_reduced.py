"""Reduced problems: counts, derivatives through the parametrisation, designs without an answer, steps, limits."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

import femadj as fa
from femadj.optimisation.failures import packed, unpacked
from tests.optimisation.problems import LIMIT, Curved, N, directions, mesh, plate, reduced, straight

Z = np.random.default_rng(1).uniform(-0.4, 0.4, N)
P = np.random.default_rng(2).uniform(-1, 1, N)
STENCIL = ((1, 45.0), (2, -9.0), (3, 1.0))
"""Of a difference of sixth order, over 60 steps."""
SCALES = np.array([0.5, 1.0, 2.0, 4.0])


# ---------------------------------------------------------------------- one solve a design
QUESTIONS: tuple[Callable[[fa.Reduced, Any], Any], ...] = (
    fa.Reduced.value,
    fa.Reduced.gradient,
    fa.Reduced.constraint_values,
    fa.Reduced.jacobian,
    lambda r, z: r.evaluate(z).points,
    lambda r, z: r.hessian_product(z, P),
    lambda r, z: r.largest_step(z, P),
)


@pytest.mark.parametrize("seed", range(4))
def test_one_solve_a_design_in_whichever_order(seed: int) -> None:
    run = reduced(quality_limit=0.0)
    rng = np.random.default_rng(seed)
    designs = [0.1 * Z, 0.2 * Z, 0.3 * Z]
    for number, z in enumerate(designs, start=1):
        for question in rng.permutation(len(QUESTIONS)).tolist() * 2:
            QUESTIONS[question](run, z)
        counts = run.counts
        assert (counts.designs, counts.solves, counts.gradients, counts.analyses) == (number, number, number, 1)
        assert counts.factorisations == number
    run.value(designs[0])  # what has been there is answered from the history, with its gradients
    run.jacobian(designs[1])
    assert run.counts.solves == 3
    assert [record.factorisations for record in run.history.records] == [1, 1, 1]


def test_gradients_come_in_one_block() -> None:
    run = reduced()
    solution = run.problem.solve()
    blocks: list[int] = []
    pull = type(solution).pullback

    def counted(self: Any, partials: Any) -> Any:
        blocks.append(len(partials))
        return pull(self, partials)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(solution), "pullback", counted)
        run.value(Z)
        assert blocks == []  # not before they are asked for
        run.gradient(Z)
        run.jacobian(Z)
    assert blocks == [3]


def test_designs_left_behind_are_solved_again_for_their_gradients() -> None:
    run = reduced()
    first = run.evaluate(Z)
    run.evaluate(0.5 * Z)
    slopes = first.gradients
    assert (run.counts.solves, run.counts.designs) == (3, 2)
    again = reduced()
    np.testing.assert_allclose(slopes, again.evaluate(Z).gradients, rtol=1e-12, atol=1e-14)
    two = reduced(solutions=2)
    first = two.evaluate(Z)
    two.evaluate(0.5 * Z)
    np.testing.assert_allclose(first.gradients, slopes, rtol=1e-9, atol=1e-12)
    assert two.counts.solves == 2


def test_scipy_asks_in_its_own_order() -> None:
    """Value, gradient and constraints come separately; every design is solved and factorised once."""
    run = reduced(bounds=(-0.5, 0.5))
    upper, lower = run.constraint_upper[0], run.constraint_lower[1]
    first = {"fun": lambda z: upper - run.constraint_values(z)[0], "jac": lambda z: -run.jacobian(z)[0]}
    second = {"fun": lambda z: run.constraint_values(z)[1] - lower, "jac": lambda z: run.jacobian(z)[1]}
    limits = [{"type": "ineq", **each} for each in (first, second)]
    found = minimize(
        run.value, run.start, jac=run.gradient, method="SLSQP", bounds=list(zip(run.lower, run.upper, strict=True)),
        constraints=limits, options={"ftol": 1e-10},
    )  # fmt: skip
    assert found.success
    counts = run.counts
    assert counts.designs == counts.solves == counts.factorisations == len(run.history)
    best = run.best
    assert best is not None
    assert best.values[0] <= run.history[0].values[0]
    assert best.values[1] <= LIMIT * (1 + 1e-6)
    np.testing.assert_allclose(best.values[0], found.fun, rtol=1e-8)
    np.testing.assert_allclose(run.variables(best.z), found.x, atol=1e-5)
    assert run.improving[-1] == best.number
    merits = [run.history[number].values[0] for number in run.improving]
    assert merits == sorted(merits, reverse=True)  # here all designs are within the limits


# ---------------------------------------------------------------------- derivatives
@pytest.mark.parametrize("make", [straight, Curved], ids=["linear", "curved"])
def test_first_derivatives(make: Callable[[], fa.Parametrisation]) -> None:
    """Remainders of second order, and differences of sixth order."""
    run = reduced(make(), scales=SCALES, quality_limit=0.0)
    value, slope = run.value(Z), run.gradient(Z) @ P
    limits, slopes = run.constraint_values(Z), run.jacobian(Z) @ P

    def remainders(h: float) -> np.ndarray:
        z = Z + h * P
        return np.abs([run.value(z) - value - h * slope, *(run.constraint_values(z) - limits - h * slopes)])

    orders = np.log2(remainders(1e-3) / remainders(5e-4))
    np.testing.assert_allclose(orders, 2.0, atol=0.05)
    h = 2e-3
    stencil = [(w, s) for k, w in STENCIL for s in (k, -k)]
    signed = [(w * np.sign(s), Z + s * h * P) for w, s in stencil]
    by_value = sum(w * run.value(z) for w, z in signed) / (60 * h)
    by_limits = sum(w * run.constraint_values(z) for w, z in signed) / (60 * h)
    assert abs(by_value - slope) <= 1e-10 * abs(slope)
    assert np.abs(by_limits - slopes).max() <= 1e-10 * np.abs(slopes).max()


@pytest.mark.parametrize("make", [straight, Curved], ids=["linear", "curved"])
def test_products_of_second_derivatives(make: Callable[[], fa.Parametrisation]) -> None:
    """Of the Lagrangian as optimisers see it, against remainders and differences; symmetric; one check."""
    run = reduced(make(), scales=SCALES, quality_limit=0.0)
    multipliers = np.array([0.7, -1.3])

    def slope(z: np.ndarray) -> np.ndarray:
        return 2.0 * run.gradient(z) + multipliers @ run.jacobian(z)

    product = run.hessian_product(Z, P, multipliers, objective=2.0)
    before = run.counts.factorisations
    other = run.hessian_product(Z, SCALES, multipliers, objective=2.0)
    assert run.counts.factorisations == before
    assert abs(SCALES @ product - P @ other) <= 1e-10 * np.abs(product).max()
    alone = run.hessian_product(Z, P)
    here = slope(Z)

    def remainder(h: float) -> float:
        return float(np.linalg.norm(slope(Z + h * P) - here - h * product))

    assert abs(np.log2(remainder(1e-3) / remainder(5e-4)) - 2.0) < 0.05
    h = 2e-3
    sums = [w * np.sign(s) * slope(Z + s * h * P) for k, w in STENCIL for s in (k, -k)]
    assert np.abs(np.sum(sums, axis=0) / (60 * h) - product).max() <= 1e-9 * np.abs(product).max()
    sums = [w * np.sign(s) * run.gradient(Z + s * h * P) for k, w in STENCIL for s in (k, -k)]
    plain = np.sum(sums, axis=0) / (60 * h)
    assert np.abs(plain - alone).max() <= 1e-9 * np.abs(alone).max()


def test_scaled_variables_are_the_same_design() -> None:
    plain, scaled = reduced(), reduced(scales=SCALES)
    assert plain.evaluate(Z).values.tolist() == scaled.evaluate(Z / SCALES).values.tolist()
    np.testing.assert_allclose(scaled.gradient(Z / SCALES), SCALES * plain.gradient(Z), rtol=1e-12)
    np.testing.assert_allclose(scaled.variables(Z / SCALES), Z, rtol=1e-15)
    np.testing.assert_array_equal(scaled.upper, 1.5 / SCALES)
    np.testing.assert_array_equal(scaled.start, np.zeros(N))
    np.testing.assert_array_equal(reduced(bounds=(-1, [1, 2, 3, 4])).upper, [1, 2, 3, 4])


def test_chains_modes_and_histories() -> None:
    """Anything that is solved at points: the same values and gradients as by hand."""
    part = mesh()
    heat = fa.LinearStatic(part, fa.Diffusion(), [fa.Fixed("left")], [fa.Source(1.0)])
    body = fa.LinearStatic(part, fa.Elasticity(1.0, 0.3), [fa.Fixed("left")], [fa.ThermalStrain(1e-3, name="heat")])
    modal = fa.Modal(part, fa.Elasticity(2.0, 0.3, density=1.5), [fa.Fixed("left")], count=2)
    flow = fa.Transient(
        part, fa.Diffusion(1.0, density=2.0), [fa.Fixed("left")], [fa.Source(1.0)], scheme=fa.SDIRK2(),
        times=fa.Times(1.0, 2),
    )  # fmt: skip
    cases: list[tuple[Any, Any]] = [
        (fa.Chain({"heat": heat, "body": body}), fa.OnStage("heat", fa.FieldNorm())),
        (modal, fa.Maximised(fa.Eigenvalue(0), scale=3.0)),
        (flow, fa.FieldNorm()),
    ]
    for problem, objective in cases:
        run = fa.Reduced(problem, straight(), objective)
        response = objective.response if isinstance(objective, fa.Maximised) else objective
        value, gradient = fa.value_and_gradient(problem.solve(mesh().points + directions() @ Z), response)
        factor = -1 / 3 if objective is not response and problem is modal else 1.0
        np.testing.assert_allclose(run.value(Z), factor * value, rtol=1e-10)
        slopes = np.tensordot(gradient.points, directions(), 2)
        np.testing.assert_allclose(run.gradient(Z), factor * slopes, rtol=1e-8, atol=1e-12)
        assert run.evaluate(Z).values.tolist() == [run.history[0].values[0]]
        assert run.constraint_values(Z).shape == (0,)
        assert run.jacobian(Z).shape == (0, N)
    with pytest.raises(fa.SecondOrderError, match="HistorySolution does not tell"):
        run.hessian_product(Z, P)


# ---------------------------------------------------------------------- designs without an answer
FAR = np.full(N, 40.0)


@pytest.mark.parametrize("z", [FAR, np.full(N, np.nan), np.full(N, np.inf)], ids=["tangled", "nan", "inf"])
def test_a_failed_design_is_data(z: np.ndarray) -> None:
    run = reduced()
    run.value(run.start)
    found = run.evaluate(z)
    assert isinstance(found.failure, fa.TangledMeshError)
    assert run.value(z) == np.inf
    assert run.gradient(z).tolist() == [0.0] * N
    assert run.constraint_values(z).tolist() == [np.inf, -np.inf]  # at most, at least: both missed
    assert run.jacobian(z).tolist() == [[0.0] * N] * 2
    for question in (lambda: found.gradients, lambda: run.hessian_product(z, P)):
        with pytest.raises(fa.TangledMeshError):
            question()
    assert run.counts.designs == 2
    assert run.counts.factorisations == 1
    best = run.best
    assert best is not None
    assert best.number == 0
    assert np.isfinite(run.value(Z))  # and the run goes on


class Failing:
    """The problem, but at some designs it fails as problems do."""

    def __init__(self, error: fa.FemadjError) -> None:
        self._inner, self._error = plate(), error

    mesh = property(lambda self: self._inner.mesh)
    counts = property(lambda self: self._inner.counts)

    def solve(self, points: Any) -> Any:
        if not np.array_equal(points, self.mesh.points):
            raise self._error
        return self._inner.solve(points)


@pytest.mark.parametrize(
    "error",
    [
        fa.SingularSystemError("singular", 3, [1, 2]),
        fa.IndefiniteSystemError("indefinite", 5),
        fa.ConvergenceError("lost", 0.5, np.ones(3)),
        fa.ResidualError("rough", 1e-3),
        fa.EigenvalueError("none"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failures_of_every_kind_and_on_paper(error: fa.FemadjError) -> None:
    run = fa.Reduced(Failing(error), straight(), fa.Compliance())
    assert np.isfinite(run.value(run.start))
    assert run.value(Z) == np.inf
    assert run.evaluate(Z).failure is error
    assert error.__traceback__ is None  # which would keep the solution alive
    again = unpacked(packed(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    for name, told in vars(error).items():
        assert getattr(again, name) == (None if isinstance(told, np.ndarray) else told)


def test_a_design_without_volume() -> None:
    """A plate that shrinks to a line; on the way there is an answer."""
    low = np.zeros((*mesh().points.shape, 1))
    low[:, 0, 0] = mesh().points[:, 0].min() - mesh().points[:, 0]
    run = fa.Reduced(plate(), fa.Directions(mesh(), low), fa.Compliance(), quality_limit=0.0)
    assert run.evaluate([1.0]).failure is not None
    assert np.isfinite(run.value([0.5]))


def test_other_errors_end_the_run() -> None:
    """What is wrong with the problem, and not with a design, is not swallowed."""
    run = fa.Reduced(Failing(fa.SolverUnavailableError("gone")), straight(), fa.Compliance())
    with pytest.raises(fa.SolverUnavailableError):
        run.value(Z)
    assert len(run.history) == 0
    stop = reduced(on_design=lambda found: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stop.value(Z)
    assert len(stop.history) == 1  # after it has been kept


# ---------------------------------------------------------------------- steps and quality
def test_the_largest_step_is_exact_for_linear_parametrisations() -> None:
    run = reduced(scales=SCALES, quality_limit=-1.0)
    step = run.largest_step(Z, P, keep=0.0, most=100.0)
    assert step < 100.0
    assert run.evaluate(Z + 0.999 * step * P).failure is None
    assert isinstance(run.evaluate(Z + 1.001 * step * P).failure, fa.TangledMeshError)
    assert run.largest_step(Z, P, keep=0.0, most=0.5 * step) == 0.5 * step


def test_the_largest_step_along_a_curved_way_is_safe() -> None:
    run = reduced(Curved(), quality_limit=-1.0)
    whole = run.largest_step(Z, P, most=1e-3)
    assert whole == 1e-3
    step = run.largest_step(Z, P, most=100.0)
    assert 0.0 < step < 100.0
    assert run.evaluate(Z + step * P).failure is None
    before, after = run.evaluate(Z).points, run.evaluate(Z + step * P).points
    assert fa.largest_step(mesh(), before, after - before, most=1.0) == 1.0


def test_quality_warns_once_for_each_fall() -> None:
    run = reduced(quality_limit=0.5)
    step = run.largest_step(run.start, P, keep=0.05, most=100.0)
    with pytest.warns(fa.QualityWarning, match=r"design 0: the smallest scaled Jacobian.* below the limit 0.5"):
        run.value(step * P)
    run.value(0.99 * step * P)  # still low: no other warning, which would be an error
    run.value(run.start)
    with pytest.warns(fa.QualityWarning, match="design 3"):
        run.value(0.98 * step * P)
    assert run.history[0].quality < 0.5 < run.history[2].quality


def test_progress_has_a_line_for_each_design() -> None:
    told: list[str] = []

    def watch(name: str) -> Any:
        told.append(name)
        return nullcontext()

    seen: list[int] = []
    run = reduced(progress=watch, on_design=lambda found: seen.append(found.number))
    for z in (run.start, Z, run.start, 0.1 * Z):
        run.value(z)
    assert told[0] == "design 0"
    assert len(told) == 3
    assert all(name.startswith(f"design {k} (best so far: ") for k, name in enumerate(told[1:], start=1))
    assert seen == [0, 1, 2]


# ---------------------------------------------------------------------- limits
def test_limits_and_scales() -> None:
    volume = fa.Volume()
    assert (fa.AtMost(volume, -4.0).size, fa.AtMost(volume, 0.0).size, fa.Equal(volume, 2.0, scale=5).size) == (4, 1, 5)
    both = fa.Between(volume, 1.0, 4.0, name="area")
    assert (both.lower, both.upper, both.size, both.name) == (1.0, 4.0, 4.0, "area")
    assert [both.violation(v) for v in (0.5, 2.0, 6.0)] == [0.125, 0.0, 0.5]
    assert fa.AtLeast(volume, 1.0).name == "Volume"
    run = fa.Reduced(plate(), straight(), fa.Compliance(), [both, fa.Equal(volume, 2.0)])
    assert run.constraint_lower.tolist() == [0.25, 1.0]
    assert run.constraint_upper.tolist() == [1.0, 1.0]
    np.testing.assert_allclose(run.constraint_values(Z), run.evaluate(Z).values[1:] / [4.0, 2.0], rtol=1e-15)
    assert run.names == ("Compliance", "area", "Volume")


def test_the_best_design_is_within_the_limits() -> None:
    """Before there is one, it is the one that misses least."""
    run = fa.Reduced(plate(), straight(), fa.Compliance(), [fa.AtMost(fa.Volume(), 0.99)])
    assert run.best is None
    values = {}
    for t in (0.0, 0.2, -0.2, 0.4, -0.1):
        values[t] = run.evaluate(t * P).values
    least = min(values, key=lambda t: max(values[t][1] - 0.99, 0.0))
    within = [t for t in values if values[t][1] <= 0.99]
    expected = min(within, key=lambda t: values[t][0]) if within else least
    best = run.best
    assert best is not None
    assert best.z.tolist() == (expected * P + 0.0).tolist()


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: fa.Reduced(mesh(), straight(), fa.Compliance()), fa.ProblemError, "problem must be"),
    (lambda: fa.Reduced(plate(), directions(), fa.Compliance()), fa.ParametrisationError, "must be one"),
    (lambda: fa.Reduced(plate(), straight(), [fa.Compliance()]), fa.ProblemError, "objective must be a response"),
    (lambda: fa.Reduced(plate(), straight(), fa.Compliance), fa.ProblemError, "objective must be a response"),
    (lambda: fa.Reduced(plate(), straight(), fa.Volume(), [fa.Volume()]), fa.ProblemError, "AtMost"),
    (lambda: fa.Reduced(plate(), straight(), fa.Volume(), fa.Volume()), fa.ProblemError, "must be a list"),
    (lambda: reduced(scales=0.0), fa.ProblemError, "scales must be positive"),
    (lambda: reduced(scales=np.ones(3)), fa.ProblemError, r"shape \(4,\)"),
    (lambda: reduced(bounds=(1.0, -1.0)), fa.ProblemError, "lower <= upper"),
    (lambda: reduced(bounds=1.0), fa.ProblemError, r"\(lower, upper\)"),
    (lambda: reduced(solutions=0), fa.ProblemError, "solutions"),
    (lambda: reduced(quality_limit="low"), fa.ProblemError, "quality_limit"),
    (lambda: reduced(on_design=3), fa.ProblemError, "on_design"),
    (lambda: reduced().value(np.ones(3)), fa.ProblemError, "variables must have shape"),
    (lambda: reduced().design(0), fa.ProblemError, "no design 0"),
    (lambda: reduced().plot(), fa.ProblemError, "no folder"),
    (lambda: fa.AtMost(fa.Volume(), np.inf), fa.ProblemError, "finite limit"),
    (lambda: fa.Between(fa.Volume(), 2.0, 1.0), fa.ProblemError, "lower <= upper"),
    (lambda: fa.AtMost(fa.Volume(), 1.0, scale=-1.0), fa.ProblemError, "scale must be positive"),
    (lambda: fa.Maximised(fa.Volume(), scale=-1.0), fa.ProblemError, "scale must be positive"),
    (lambda: fa.Objective(fa.Volume(), scale=0.0), fa.ProblemError, "not zero"),
    (lambda: pickle.dumps(reduced()), fa.ProblemError, "Reduced cannot be pickled"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_does_not_fit_is_refused(number: int) -> None:
    attempt, error, words = BAD[number]
    with pytest.raises(error, match=words):
        attempt()


def test_another_mesh_is_refused() -> None:
    moved = mesh().with_points(mesh().points + 1e-3)
    problem = plate().rebuilt(moved.points)
    with pytest.raises(fa.ParametrisationError, match="different meshes"):
        fa.Reduced(problem, straight(), fa.Compliance())
