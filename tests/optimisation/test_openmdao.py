"""A reduced problem as a component of OpenMDAO."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import femadj as fa
from tests.optimisation.cantilever import FAR, SCALE, cantilever, least, volume

om = pytest.importorskip("openmdao.api", reason="OpenMDAO is not installed: pip install 'femadj[openmdao]'")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMDAO writes folders where it runs."""
    monkeypatch.chdir(tmp_path)


def model(run: fa.Reduced, **options: Any) -> Any:
    problem = om.Problem(reports=False)
    problem.model.add_subsystem("shape", fa.openmdao_component(run, **options), promotes=["*"])
    problem.model.add_design_var("variables", lower=-FAR, upper=FAR, ref=SCALE)
    problem.model.add_objective("Compliance")
    problem.model.add_constraint("Volume", upper=volume(), ref=volume())
    problem.driver = om.ScipyOptimizeDriver(optimizer="SLSQP", tol=1e-9, disp=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of OpenMDAO's own
        problem.setup()
    return problem


def test_the_optimum_after_a_first_step_that_tangles() -> None:
    run = cantilever()
    problem = model(run, failed="infinite")
    assert problem.run_driver().success is not False
    records = run.history.records
    assert isinstance(records[1].failure, fa.TangledMeshError)
    assert abs(problem.get_val("Compliance")[0] / least() - 1) < 1e-3
    assert problem.get_val("Volume")[0] <= volume() * (1 + 1e-6)
    assert run.counts.factorisations == sum(each.failure is None for each in records)


def test_partial_derivatives() -> None:
    run = cantilever()
    problem = model(run)
    problem.set_val("variables", [0.05, 0.1, -0.1])
    problem.run_model()
    found = problem.check_partials(out_stream=None, method="fd", form="central", step=1e-5)
    for name in ("Compliance", "Volume"):
        told = found["shape"][name, "variables"]
        np.testing.assert_allclose(told["J_fwd"], told["J_fd"], rtol=1e-7, atol=1e-8)
    np.testing.assert_array_equal(found["shape"]["Volume", "variables"]["J_fwd"][0], run.evaluate(
        np.array([0.05, 0.1, -0.1]) / SCALE).gradients[1] / SCALE)  # fmt: skip


def test_a_tangled_design_is_an_analysis_error() -> None:
    problem = model(cantilever())
    problem.run_model()
    problem.set_val("variables", [0.0, 5.0, -5.0])
    with pytest.raises(om.AnalysisError, match="flat or turned inside out"):
        problem.run_model()
    infinite = model(cantilever(), failed="infinite")
    infinite.run_model()
    before = infinite.get_val("Volume").copy()
    infinite.set_val("variables", [0.0, 5.0, -5.0])
    infinite.run_model()
    assert infinite.get_val("Compliance")[0] == np.inf
    np.testing.assert_array_equal(infinite.get_val("Volume"), before)
    totals = infinite.compute_totals()
    assert not any(each.any() for each in totals.values())


def test_other_errors_and_interrupts_come_out() -> None:
    for error in (RuntimeError("here"), KeyboardInterrupt()):

        def raise_it(design: fa.Evaluated, error: BaseException = error) -> None:
            if design.number == 3:
                raise error

        run = cantilever(on_design=raise_it)
        with pytest.raises(type(error)):
            model(run, failed="infinite").run_driver()
        assert len(run.history) == 4


def test_names_and_refusals() -> None:
    two = [fa.AtMost(fa.Volume(), volume(), name="size (all)"), fa.AtMost(fa.Volume("low"), volume())]
    component = fa.openmdao_component(cantilever(constraints=two), input_name="q")
    problem = om.Problem(reports=False)
    problem.model.add_subsystem("shape", component, promotes=["*"])
    problem.setup()
    problem.run_model()
    assert problem.get_val("size_all")[0] == pytest.approx(volume())
    assert problem.get_val("q").shape == (3,)
    clash = [fa.AtMost(fa.Volume(), volume(), name="size ."), fa.AtMost(fa.Volume(), volume(), name="size")]
    with pytest.raises(fa.ProblemError, match="names of their own"):
        fa.openmdao_component(cantilever(constraints=clash))
    with pytest.raises(fa.ProblemError, match="failed must be 'AnalysisError' or 'infinite'"):
        fa.openmdao_component(cantilever(), failed="never")  # type: ignore[arg-type]
    with pytest.raises(fa.ProblemError, match="must be a Reduced problem"):
        fa.openmdao_component(None)  # type: ignore[arg-type]
