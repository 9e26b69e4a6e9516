"""Runs of Ipopt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import femadj as fa
from tests.optimisation.cantilever import Both, cantilever, require_errors_come_out, require_least, volume

cyipopt = pytest.importorskip("cyipopt", reason="cyipopt is not installed: pip install 'femadj[ipopt]'")


@pytest.mark.parametrize("limit", [fa.AtMost, fa.Equal])
def test_the_optimum_after_a_first_step_that_tangles(limit: Any) -> None:
    run = cantilever(constraints=[limit(fa.Volume(), volume())])
    require_least(fa.minimise_ipopt(run), run)


def test_variables_without_bounds() -> None:
    run = cantilever(bounds=(-np.inf, np.inf), scale=1.0)
    require_least(fa.minimise_ipopt(run), run, tangles=False)


def test_exact_second_derivatives_take_fewer_designs_and_no_factorisation() -> None:
    run, other = cantilever(), cantilever()
    found = fa.minimise_ipopt(run, hessian_approximation="exact")
    require_least(found, run, tangles=False)  # Newton's first step does not
    assert 2 * found.designs < fa.minimise_ipopt(other).designs

    class WithoutSecond(fa.Compliance):
        """Tells no partial derivatives in motion."""

        def partials(self, solution: Any) -> Any:
            if np.iscomplexobj(solution.u):
                raise fa.SecondOrderError("none here")
            return super().partials(solution)

    with pytest.raises(fa.SecondOrderError):
        fa.minimise_ipopt(cantilever(objective=WithoutSecond()), hessian_approximation="exact")


def test_a_run_without_constraints() -> None:
    run = cantilever(objective=Both(10.0), constraints=())
    found = fa.minimise_ipopt(run)
    assert found.converged
    assert found.imbalance < 1e-5


def test_errors_and_interrupts_come_out() -> None:
    require_errors_come_out(fa.minimise_ipopt)


def test_errors_of_derivatives_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for question in ("gradient", "jacobian"):  # cyipopt prints those of a Jacobian and goes on
        run = cantilever()
        answer = getattr(fa.Reduced, question)
        asked: list[Any] = []

        def fails(self: Any, z: Any, answer: Any = answer, asked: list[Any] = asked) -> Any:
            asked.append(z)
            if len(asked) > 4:
                raise RuntimeError("no derivatives")
            return answer(self, z)

        with monkeypatch.context() as patch:
            patch.setattr(fa.Reduced, question, fails)
            with pytest.raises(RuntimeError, match="no derivatives"):
                fa.minimise_ipopt(run)


def test_a_run_ends_after_as_many_designs_as_it_may() -> None:
    run = cantilever()
    found = fa.minimise_ipopt(run, max_designs=8)
    assert not found.converged
    assert "stopped after 8 designs" in found.message
    assert found.designs == len(run.history) == 8


def test_what_ipopt_says_is_not_taken_on_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lying(cyipopt.Problem):  # type: ignore[misc]
        def solve(self, x: Any) -> Any:
            return np.array([0.0, 0.5, -0.5]), {"status": 0, "status_msg": b"all is well"}

    monkeypatch.setattr(cyipopt, "Problem", Lying)
    with pytest.raises(fa.OptimiserError, match=r"Ipopt reports success \(all is well\) at design 1"):
        fa.minimise_ipopt(cantilever())


def test_options_of_ipopt() -> None:
    found = fa.minimise_ipopt(cantilever(), max_iter=2)
    assert not found.converged
    assert "iterations" in found.message.lower()
    with pytest.raises(fa.ProblemError, match="Ipopt takes no option nonsense=1"):
        fa.minimise_ipopt(cantilever(), nonsense=1)
