"""Runs of NLopt's optimisers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import femadj as fa
from tests.optimisation.cantilever import cantilever, require_errors_come_out, require_least, volume

nlopt = pytest.importorskip("nlopt", reason="NLopt is not installed: pip install 'femadj[nlopt]'")

ALGORITHMS = ("MMA", "CCSAQ", "SLSQP")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_optimum_after_a_first_step_that_tangles(algorithm: Any) -> None:
    run = cantilever()
    require_least(fa.minimise_nlopt(run, algorithm), run)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_variables_without_bounds(algorithm: Any) -> None:
    run = cantilever(bounds=(-np.inf, np.inf), scale=1.0)
    require_least(fa.minimise_nlopt(run, algorithm), run, tangles=False)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_errors_and_interrupts_come_out(algorithm: Any) -> None:
    require_errors_come_out(lambda run: fa.minimise_nlopt(run, algorithm))


def test_equalities_and_two_limits() -> None:
    equal = [fa.Equal(fa.Volume(), volume())]
    for algorithm in ("MMA", "CCSAQ"):
        with pytest.raises(fa.ProblemError, match=f"{algorithm} knows no equality constraints: take SLSQP"):
            fa.minimise_nlopt(cantilever(constraints=equal), algorithm)  # type: ignore[arg-type]
    run = cantilever(constraints=equal)
    require_least(fa.minimise_nlopt(run, "SLSQP"), run)
    run = cantilever(constraints=[fa.Between(fa.Volume(), 0.5 * volume(), volume())])
    require_least(fa.minimise_nlopt(run, "CCSAQ"), run)


def test_a_run_ends_after_as_many_designs_as_it_may() -> None:
    run = cantilever()
    found = fa.minimise_nlopt(run, max_designs=8)
    assert not found.converged
    assert "stopped after 8 designs" in found.message
    assert found.designs == len(run.history) == 8


def test_what_nlopt_says_is_not_taken_on_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    tangled = np.array([0.0, 0.5, -0.5])
    monkeypatch.setattr(nlopt.opt, "optimize", lambda *_: tangled)
    with pytest.raises(fa.OptimiserError, match="reports success"):
        fa.minimise_nlopt(cantilever())

    def limited(*_: Any) -> None:
        raise nlopt.RoundoffLimited

    monkeypatch.setattr(nlopt.opt, "optimize", limited)
    found = fa.minimise_nlopt(cantilever())
    assert not found.converged
    assert found.message.startswith("rounding")
    assert found.final is found.best


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(fa.ProblemError, match="algorithm must be 'MMA', 'CCSAQ' or 'SLSQP', not 'COBYLA'"):
        fa.minimise_nlopt(cantilever(), "COBYLA")  # type: ignore[arg-type]
    with pytest.raises(fa.ProblemError, match="tolerance must be a positive number"):
        fa.minimise_nlopt(cantilever(), tolerance=-1.0)
