"""Runs of SciPy's optimisers, and what all adaptors share: endings, errors, refusals."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize

import femadj as fa
from femadj.optimisation.asking import Asked
from femadj.optimisation.balance import imbalance
from tests.optimisation.cantilever import (
    FAR,
    SCALE,
    Both,
    box,
    cantilever,
    least,
    require_errors_come_out,
    require_least,
    volume,
)

METHODS = ("SLSQP", "trust-constr")
LONG = 30.0
"""Size of variables with which the first step of L-BFGS-B tangles."""


def tangled() -> np.ndarray[Any, Any]:
    return np.array([0.0, 0.5, -0.5])


# ---------------------------------------------------------------------- optima
@pytest.mark.parametrize("method", METHODS)
def test_the_optimum_after_a_first_step_that_tangles(method: Any) -> None:
    run = cantilever()
    require_least(fa.minimise_scipy(run, method), run)


@pytest.mark.parametrize("method", METHODS)
def test_variables_without_bounds(method: Any) -> None:
    run = cantilever(bounds=(-np.inf, np.inf), scale=1.0)
    require_least(fa.minimise_scipy(run, method), run, tangles=False)


def test_the_optimum_with_an_equality_and_with_two_limits() -> None:
    for limit in (fa.Equal(fa.Volume(), volume()), fa.Between(fa.Volume(), 0.5 * volume(), volume())):
        run = cantilever(constraints=[limit])
        require_least(fa.minimise_scipy(run), run)
    run = cantilever(objective=fa.Volume(), constraints=[fa.AtMost(fa.Compliance(), least())])
    found = fa.minimise_scipy(run)  # the same design from the other side
    assert found.converged
    np.testing.assert_allclose(found.values, [volume(), least()], rtol=1e-5)


def test_lbfgsb_cuts_its_step_at_a_tangled_design() -> None:
    run = cantilever(objective=Both(10.0), constraints=(), scale=LONG)
    found = fa.minimise_scipy(run, "L-BFGS-B", tolerance=1e-12)
    failed = [each.number for each in run.history.records if each.failure is not None]
    assert failed
    assert failed[0] == 1
    assert found.converged
    assert found.imbalance < 1e-4
    assert run.counts.factorisations == len(run.history) - len(failed)
    z = run.evaluate(found.variables / LONG).z
    for k in range(3):  # a minimum
        for step in (-1e-4, 1e-4):
            assert run.value(z + step * np.eye(3)[k]) > run.value(z)


def test_units_of_the_objective_do_not_matter() -> None:
    ends = []
    for size in (1.0, 1e-9, 1e9):
        run = cantilever()
        loads = [fa.Traction("right", (0.0, -np.sqrt(size)))]
        problem = fa.LinearStatic(run.problem.mesh, fa.Elasticity(10.0, 0.3), [fa.Fixed("left")], loads)
        run = fa.Reduced(problem, box(), fa.Compliance(), run.constraints, scales=SCALE, quality_limit=-10.0)
        ends.append(fa.minimise_scipy(run).values[0] / size)
    np.testing.assert_allclose(ends, least(), rtol=1e-6)


def test_the_balance_of_an_optimum_and_of_other_designs() -> None:
    run = cantilever(scale=1.0)
    optimum = fa.minimise_scipy(run).variables
    g, a = run.gradient(optimum), run.jacobian(optimum)[0]
    size = np.linalg.norm(g)
    assert imbalance(run, optimum) < 1e-4 * size
    start = run.start  # on the limit of the volume
    g, a = run.gradient(start), run.jacobian(start)[0]
    expected = g - min(g @ a / (a @ a), 0.0) * a
    assert abs(imbalance(run, start) - np.linalg.norm(expected)) < 1e-6 * size
    inside = np.full(3, -0.1)  # no limit near, all variables free
    assert imbalance(run, inside) == pytest.approx(np.linalg.norm(run.gradient(inside)))
    pressed = fa.Reduced(run.problem, run.parametrisation, fa.Compliance(), bounds=(-0.1, 0.1), quality_limit=-10.0)
    assert imbalance(pressed, np.full(3, 0.1)) == 0.0  # all would be larger
    assert imbalance(pressed, np.full(3, -0.1)) == pytest.approx(np.linalg.norm(run.gradient(inside)))


# ---------------------------------------------------------------------- nothing is lost
@pytest.mark.parametrize("method", METHODS)
def test_errors_and_interrupts_come_out(method: Any) -> None:
    require_errors_come_out(lambda run: fa.minimise_scipy(run, method))


def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    def interrupt(design: fa.Evaluated) -> None:
        if design.number == 5:
            raise KeyboardInterrupt

    straight = fa.minimise_scipy(cantilever())
    with cantilever(folder=tmp_path / "run", on_design=interrupt) as run, pytest.raises(KeyboardInterrupt):
        fa.minimise_scipy(run)
    same = cantilever()
    with fa.Reduced.resume(
        tmp_path / "run", same.problem, same.parametrisation, fa.Compliance(), same.constraints,
        scales=SCALE, quality_limit=-10.0,
    ) as run:  # fmt: skip
        found = fa.minimise_scipy(run)
        assert run.counts.solves == found.designs - 6
    np.testing.assert_array_equal(found.variables, straight.variables)
    assert found.designs == straight.designs


def test_a_run_ends_after_as_many_designs_as_it_may() -> None:
    run = cantilever()
    found = fa.minimise_scipy(run, max_designs=6)
    assert not found.converged
    assert "stopped after 6 designs" in found.message
    assert found.designs == len(run.history) == 6
    assert found.final is found.best
    assert run.best is not None
    assert found.best.number == run.best.number
    assert found.best.violation <= 1e-6


def test_the_outcome_shows_itself_and_travels() -> None:
    found = fa.minimise_scipy(cantilever())
    text = repr(found)
    assert "SciPy SLSQP, converged" in text
    assert "Compliance 2.2" in text
    back = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(back.points, found.points)
    assert back.message == found.message


# ---------------------------------------------------------------------- what is refused
def fake(z: Any, success: bool = True) -> Any:
    return lambda *_, **__: optimize.OptimizeResult(x=np.array(z), success=success, message="all is well")


@pytest.mark.parametrize("z", [tangled(), np.full(3, np.nan)])
def test_success_at_a_design_without_an_answer_is_refused(z: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimize, "minimize", fake(z))
    with pytest.raises(fa.OptimiserError, match=r"reports success \(all is well\) at design 1, which has no answer"):
        fa.minimise_scipy(cantilever())
    monkeypatch.setattr(optimize, "minimize", fake(z, success=False))
    found = fa.minimise_scipy(cantilever())  # not called an optimum: the best design
    assert not found.converged
    assert found.final.number == 0


def test_success_outside_of_the_limits_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimize, "minimize", fake([0.01, 0.01, 0.01]))
    found = fa.minimise_scipy(cantilever())
    assert not found.converged
    assert "but a constraint is missed by" in found.message
    assert found.final.number == 1
    assert found.best.number == 0


def test_success_next_to_tangled_designs_is_none() -> None:
    run = cantilever(box(held=(), far=0.6), scale=1.0)  # a load on an end that may vanish
    found = fa.minimise_scipy(run)
    assert not found.converged
    assert "only designs without an answer next to it do" in found.message
    assert found.imbalance > 0.05


def test_a_start_without_an_answer_raises_its_failure() -> None:
    with pytest.raises(fa.TangledMeshError):
        fa.minimise_scipy(cantilever(), start=tangled())


def test_what_does_not_fit_is_refused() -> None:
    run = cantilever()
    for arguments, words in (
        ({"method": "L-BFGS-B"}, "knows bounds only, no constraints: take SLSQP"),
        ({"method": "BFGS"}, "method must be 'SLSQP', 'trust-constr' or 'L-BFGS-B'"),
        ({"start": np.full(3, FAR)}, r"outside the bounds: variables \[0, 1, 2\]"),
        ({"start": np.zeros(2)}, r"of shape \(3,\), not \(2,\)"),
        ({"start": "left"}, "start must be"),
        ({"max_designs": 0}, "max_designs must be a positive whole number"),
        ({"tolerance": "x"}, "tolerance must be a positive number"),
    ):
        with pytest.raises(fa.ProblemError, match=words):
            fa.minimise_scipy(run, **arguments)  # type: ignore[arg-type]
    with pytest.raises(fa.ProblemError, match="must be a Reduced problem"):
        fa.minimise_scipy(run.problem)
    assert len(run.history) <= 1


@pytest.mark.parametrize(
    ("library", "extra", "adaptor"),
    [
        ("nlopt", "nlopt", fa.minimise_nlopt),
        ("cyipopt", "ipopt", fa.minimise_ipopt),
        ("openmdao.api", "openmdao", fa.openmdao_component),
        ("jax", "jax", fa.jax_function),
        ("torch", "torch", fa.torch_function),
    ],
)
def test_a_library_that_is_missing_is_named(
    library: str, extra: str, adaptor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(fa.MissingExtraError, match=rf"pip install 'femadj\[{extra}\]'"):
        adaptor(cantilever())


def test_answers_at_a_design_without_one() -> None:
    run = cantilever()
    asked = Asked(run, None, 10)
    limits = asked.constraint_values(run.start)
    assert asked.value(tangled()) == np.inf
    np.testing.assert_array_equal(asked.constraint_values(tangled()), limits)
    assert not asked.gradient(tangled()).any()
    assert not asked.jacobian(tangled()).any()
    value, slope = asked.wall(tangled())
    part = min(0.3, run.largest_step(run.start, tangled()))
    here, fall = asked.value(run.start), asked.gradient(run.start) @ tangled()
    t = np.array([0.0, 1.0])  # the parabola of both values and both slopes is one
    curve = (slope @ tangled() - -abs(fall)) / 2
    np.testing.assert_allclose(here - abs(fall) * t + curve * t**2, [here, value])
    assert abs(fall) / (2 * curve) == pytest.approx(part)
