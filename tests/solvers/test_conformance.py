"""The conformance suite over every solver, and the registry."""

from __future__ import annotations

import sys

import pytest

from femadj.errors import SolverError, SolverUnavailableError
from femadj.solvers import ITERATED, SOLVERS, Solver, available_solvers, get_solver
from femadj.solvers.mkl import WITHOUT_MKL
from tests.gpu import marked, skip
from tests.solvers.conformance import SolverConformance


@pytest.fixture(params=marked([*SOLVERS, *ITERATED]))
def solver(request: pytest.FixtureRequest) -> Solver:
    try:
        return get_solver(request.param)
    except SolverUnavailableError as why:
        if request.node.get_closest_marker("gpu") is not None:
            skip(str(why))
        pytest.skip(str(why))


class TestConformance(SolverConformance):
    pass


def test_registry() -> None:
    assert set(available_solvers()) <= set(SOLVERS)
    assert "superlu" in available_solvers()
    assert get_solver().name == available_solvers()[0]
    ready = get_solver("superlu", threads=2)
    assert ready.threads == 2
    assert get_solver(ready) is ready
    assert "superlu" in repr(ready)
    with pytest.raises(SolverError, match="'superlu'"):
        get_solver("mumps")
    with pytest.raises(SolverError, match="threads"):
        get_solver(ready, threads=1)
    with pytest.raises(SolverError, match="positive"):
        get_solver("superlu", threads=0)


def test_without_pypardiso(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WITHOUT_MKL, raising=False)
    monkeypatch.setitem(sys.modules, "pypardiso", None)
    assert [name for name in available_solvers() if SOLVERS[name].capabilities.device == "cpu"] == ["superlu"]
    assert get_solver().name == "superlu"
    with pytest.raises(SolverUnavailableError, match="pypardiso"):
        get_solver("pardiso")


def test_without_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WITHOUT_MKL, "1")
    assert "pardiso" not in available_solvers()
    assert get_solver().name == available_solvers()[0]
    with pytest.raises(SolverUnavailableError, match="hidden by FEMADJ_WITHOUT_MKL=1"):
        get_solver("pardiso")
