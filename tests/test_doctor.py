"""``femadj doctor``: it passes what works, and finds what does not."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from femadj import command
from femadj.doctor.checks import Examination, within
from femadj.doctor.problems import bodies, check_gradients, physics_of, same_passes
from femadj.doctor.systems import SMALL, check_solver, solves
from femadj.errors import SolverUnavailableError
from femadj.solvers import SOLVERS, available_solvers
from femadj.solvers.superlu import SuperLUFactor, SuperLUSolver
from femadj.space.engine import HOST


def failed(examination: Examination) -> list[str]:
    return [check.name for check in examination.checks if check.outcome == "failed"]


def test_a_sound_solver_passes() -> None:
    examination = Examination()
    check_solver(examination, "superlu", SuperLUSolver())
    check_gradients(examination, ["superlu"])
    assert failed(examination) == []
    assert examination.counts["passed"] == len(examination.checks) >= 17


def test_a_library_that_does_not_transpose_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SuperLUFactor._solve
    monkeypatch.setattr(
        SuperLUFactor, "_solve", lambda self, block, *, transposed: plain(self, block, transposed=False)
    )
    examination = Examination()
    check_solver(examination, "superlu", SuperLUSolver())
    assert "transposed solve" in failed(examination)
    assert "three equations" in failed(examination)
    assert "positive definite" not in failed(examination)


def test_a_wrong_solve_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SuperLUFactor, "_checked_solve", lambda self, b, *, transposed, bound=True: 1.001 * b)
    examination = Examination()
    examination.check("superlu", "three equations", partial(solves, SuperLUSolver(), SMALL, "general"))
    assert failed(examination) == ["three equations"]
    assert "error" in examination.checks[0].detail


def test_not_a_number_is_not_within_a_limit() -> None:
    with pytest.raises(AssertionError, match="nan"):
        within(np.nan, 1.0, "error")


def test_kernels_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, physics = bodies()["triangle"], physics_of(2)["advection"]
    assert same_passes(mesh, physics, HOST) == "assembly 0.0e+00, product 0.0e+00, contraction 0.0e+00"
    calls = iter((0.0, 0.0, 1e-9))
    monkeypatch.setattr("femadj.doctor.problems.passes", lambda *_: {"assembly": np.ones(3) + next(calls)})
    with pytest.raises(AssertionError, match="did not repeat its bits"):
        same_passes(mesh, physics, HOST)
    calls = iter((1e-9, 0.0, 1e-9))
    with pytest.raises(AssertionError, match=r"assembly 1\.0e-09 > 1e-12"):
        same_passes(mesh, physics, HOST)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**_: object) -> SuperLUSolver:
        raise SolverUnavailableError("its library is not there")

    monkeypatch.setattr("femadj.doctor.examine.SOLVERS", {"superlu": SuperLUSolver, "elsewhere": missing})
    monkeypatch.setattr("femadj.solvers.SOLVERS", {"superlu": SuperLUSolver, "elsewhere": missing})
    record = tmp_path / "record.json"
    assert command.main(["doctor", "--sizes", "4", "--json", str(record)]) == 0
    said = capsys.readouterr().out
    assert "not checked  solver elsewhere: is here  its library is not there" in said
    found = json.loads(record.read_text())
    assert {check["outcome"] for check in found["checks"]} == {"passed", "not checked"}
    assert found["seconds"][0]["solver"] == "superlu"
    assert found["machine"]["packages"]["numpy"] == np.__version__


def test_what_is_required_must_be_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    absent = [name for name in SOLVERS if name not in available_solvers()]
    if not absent:
        pytest.skip("every solver is here")
    monkeypatch.setattr("femadj.doctor.examine.SOLVERS", {"superlu": SuperLUSolver, absent[0]: SOLVERS[absent[0]]})
    assert command.main(["doctor", "--sizes", "--require", absent[0]]) == 1
    assert f"FAILED  solver {absent[0]}" in capsys.readouterr().out
