"""The benchmark runs and reports what it says, on tiny meshes."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import femadj as fa
from femadj.solvers import available_solvers

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "bench" / "design_iteration.py"

pytest.importorskip("resource")  # memory is read in the way of POSIX systems


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark in a process of its own."""
    command = [sys.executable, "-W", "error", str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run one of the scripts in this process, and have its names."""

    def call(name: str, *arguments: object) -> dict[str, Any]:
        path = ROOT / "bench" / name
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        monkeypatch.syspath_prepend(str(path.parent))
        names = runpy.run_path(str(path))
        assert not names["main"]()
        return names

    return call


def test_one_line_of_json_for_every_case() -> None:
    done = run("--cases", "box3", "sq16", "--repeat", "2", "--threads", "1")
    assert done.returncode == 0, done.stderr
    box, square = (json.loads(line) for line in done.stdout.splitlines())
    assert (box["case"], box["unknowns"], box["cells"]) == ("box3", 3 * 13 * 4 * 4, 24 * 27)
    assert (square["case"], square["unknowns"], square["cells"]) == ("sq16", 17 * 17, 512)
    for line in (box, square):
        assert line["analyses"] == 1
        assert line["factorisations"] == 3
        for key in (
            "analysis", "assembly", "factor", "solve", "evaluate", "adjoint", "contraction", "primal", "gradient",
            "first_call", "second_design", "peak_mb", "factor_mb", "csr_mb",
        ):  # fmt: skip
            assert line[key] >= 0
        assert list(line["ratios"]) == [
            "gradient/(assembly+factor)", "assembly/factor", "gradient/primal", "primal/(factor+solve)",
            "peak/(factor+csr)",
        ]  # fmt: skip
        assert line["second_design"] == pytest.approx(line["primal"] + line["gradient"], rel=0.5, abs=2e-3)


def test_help_and_wrong_arguments(script: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        script("design_iteration.py", "--help")
    assert "peak/(factor+csr)" in capsys.readouterr().out
    wrong = [("--cases", "ball7"), ("--cases", "box0"), ("--repeat", "0")]
    for name in ("design_iteration.py", "loop.py", "scale.py"):
        for arguments in wrong if name != "scale.py" else wrong[2:]:
            with pytest.raises(SystemExit, match="2"):
                script(name, *arguments)
            assert "error: " in capsys.readouterr().err


def test_meshes_are_those_of_published_figures() -> None:
    """Sizes, unit volume per length and the fixed perturbation of the first inner node."""
    spec = importlib.util.spec_from_file_location("bench_meshes", ROOT / "bench" / "meshes.py")
    assert spec is not None
    assert spec.loader is not None
    meshes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(meshes)
    box, square, quadratic, hexahedra = meshes.box(3), meshes.square(16), meshes.quadratic_box(2), meshes.hexahedra(2)
    assert (quadratic.n_nodes, quadratic.n_cells, quadratic.volume()) == (17 * 5 * 5, 192, pytest.approx(4.0))
    assert (hexahedra.n_nodes, hexahedra.n_cells, hexahedra.volume()) == (9 * 3 * 3, 32, pytest.approx(4.0))
    assert (len(quadratic.nodes_of("left")), len(hexahedra.nodes_of("left"))) == (25, 9)
    assert (box.n_nodes, box.n_cells, box.volume()) == (208, 648, pytest.approx(4.0))
    assert (square.n_nodes, square.n_cells, square.volume()) == (289, 512, pytest.approx(1.0))
    assert len(box.nodes_of("left")) == 16
    assert len(square.nodes_of("boundary")) == 64
    move = np.random.default_rng(0).uniform(-0.12, 0.12, 3)
    np.testing.assert_allclose(box.points[21], (np.ones(3) + move) / 3, rtol=1e-12)


def test_the_way_back_through_time_is_measured(
    script: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    script("transient.py", "--box", 1, "--steps", 12, "--states", 2)
    some, every = map(json.loads, capsys.readouterr().out.splitlines())
    assert some["unknowns"] == every["unknowns"] == 3 * 5 * 2 * 2
    assert (some["kept"], every["kept"]) == (4, 13)  # the last two besides
    assert some["equal"]
    assert some["promise"] > every["promise"] == every["ratio"] > 0


def test_checks_of_solves_are_measured() -> None:
    script = ROOT / "bench" / "solve_checks.py"
    command = [sys.executable, "-W", "error", str(script), "--cases", "box3", "sq32", "--repeat", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for line in map(json.loads, done.stdout.splitlines()):
        assert 0 < line["part of design"] <= line["part of factorisation"]  # both are rounded
        assert line["seconds"] > 0
        assert line["further solves"] <= (5 if line["case"] == "box3" else 0)  # few equations are looked at closely


def test_designs_of_small_problems_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ROOT / "bench" / "small_design.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--n", "4", "--designs", "5", "--profile", "cumulative"])
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(script), run_name="__main__")
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["problem"], line["response"]) for line in lines] == [
        ("poisson", "norm"), ("poisson", "compliance"), ("elasticity", "norm"), ("elasticity", "compliance"),
    ]  # fmt: skip
    for line in lines:
        assert (line["nodes"], line["cells"], line["designs"]) == (25, 32, 5)
        assert line["design"] >= max(line["primal"], line["gradient"]) > 0
        assert line["processor"] > 0
        assert line["further_solves"] <= 5  # few equations: the condition is estimated
    assert err.count("value_and_gradient") >= 4


def test_products_of_hessians_are_measured(
    script: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    script("hessian_product.py", "--cases", "sq16", "--repeat", 1)
    line = json.loads(capsys.readouterr().out)
    assert line["factorisations"] == 0
    assert line["unknowns"] == 17 * 17
    assert line["product"] > 0
    assert line["product/factorisation"] == pytest.approx(line["product"] / line["factorisation"], rel=0.2)


def test_adaptors_are_measured(script: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    script("adaptors.py", "--case", "sq4", "--designs", 3)
    said = capsys.readouterr().out.splitlines()
    lines = [json.loads(line) for line in said if line.startswith("{")]
    assert [line["optimiser"] for line in lines[:2]] == ["SciPy SLSQP", "SciPy trust-constr"]
    assert len(said) == 9  # the others too, or that they are not installed
    for line in lines:
        assert line["nodes"] == 25
        assert 2 <= line["designs"] <= 4
        assert line["seconds for a design"] > 0
        assert line["beside/design"] > 0


PNG = b"\x89PNG"


def test_loops_of_rivals_agree(
    tmp_path: Path, script: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The way by hand has its derivatives in closed form; it meets ours on both kinds of cells, for every response."""
    written, picture = tmp_path / "loop.json", tmp_path / "loop.png"
    small = ("--designs", 3, "--threads", 1, "--check")
    script(
        "loop.py", "--here", "--cases", "box2", "sq8", "--responses", 2, *small, "--json", written, "--plot", picture
    )
    said = capsys.readouterr()
    installed = importlib.util.find_spec("torchfem") is not None
    assert ("box2: without torch-fem: torchfem not installed" in said.err) is not installed
    runs = json.loads(written.read_text())
    assert [run["rival"] for run in runs] == 2 * ["femadj", "factorised", "plain", *["torch-fem"] * installed]
    for run in runs:
        assert len(run["seconds"]) == len(run["values"]) == 3
        assert len(run["values"][0]) == 2
        if run["rival"] != "factorised":
            assert 0 <= run["value_error"] < 1e-10
            assert 0 <= run["gradient_error"] < 1e-10
    moved = np.array([run["values"] for run in runs if run["case"] == "box2"])
    assert (np.abs(np.diff(moved, axis=1)) > 1e-3 * moved[:, 1:]).all()
    assert picture.read_bytes().startswith(PNG)
    script("loop.py", "--read", written)
    again = capsys.readouterr().out
    assert again == said.out
    assert again.count("\n") == 2 + len(runs)


def test_a_run_of_the_loop_has_a_process_of_its_own(
    tmp_path: Path, script: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "loop.json"
    few = ("--designs", 4, "--seconds", "1e-9", "--threads", 1)
    script("loop.py", "--cases", "sq6", "--rivals", "factorised", *few, "--json", written)
    (run,) = json.loads(written.read_text())
    assert run["told"]["factorisations"] == len(run["seconds"]) == 2 < run["designs"] == 4
    assert run["cpu"] > 0
    assert run["peak_mb"] >= 0  # nothing is seen of so few unknowns
    assert run["value_error"] is None
    assert "| sq6 | factorised |" in capsys.readouterr().out


def test_scale_goes_as_far_as_memory(
    tmp_path: Path, script: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    written, picture = tmp_path / "scale.json", tmp_path / "scale.png"
    names = script("scale.py", "--to", 1300, "--here", "--repeat", 1, "--json", written, "--plot", picture)
    square, box = json.loads(written.read_text())
    assert (square["case"], square["unknowns"], box["case"], box["unknowns"]) == ("sq31", 32**2, "box4", 3 * 17 * 25)
    for run in (square, box):
        assert run["unknowns"] == names["unknowns_of"](run["case"])
        phases = [run[phase] for phase in names["PHASES"]]
        assert min(phases) >= 0
        assert sum(phases[2:]) <= 1.01 * run["design"] + 1e-3
    assert picture.read_bytes().startswith(PNG)
    done = [{"unknowns": 1000, "peak_mb": 10.0}, {"unknowns": 4000, "peak_mb": 80.0}]
    assert names["expected_mb"](done, 16000) == pytest.approx(640)  # power 3/2
    assert names["expected_mb"](done[:1], 16000) is None
    capsys.readouterr()
    script("scale.py", "--kinds", "sq", "--to", 17000, "--here", "--repeat", 1, "--memory", "1e-9")
    said = capsys.readouterr()
    if json.loads(said.err.splitlines()[1])["peak_mb"] > 0:  # in one process with other tests, nothing may be seen
        assert "stopped before sq128, 16641 unknowns" in said.err


def test_without_mkl() -> None:
    script = ROOT / "bench" / "without_mkl.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), "--cases", "box3"], capture_output=True, text=True, timeout=300,
        check=False, env={**os.environ, "FEMADJ_WITHOUT_MKL": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    ways = [line["way"] for line in lines]
    assert ways[0] == "SuperLU, minimum degree"
    assert ways[-1] == "the same, single precision"
    assert {line["case"] for line in lines} == {"box3"}
    assert all(line["mb"] >= 0 and line["factor"] >= 0.0 and line["solve"] >= 0.0 for line in lines)


@pytest.mark.skipif("pardiso" not in available_solvers(), reason="pypardiso or MKL is missing")
def test_factorisations(script: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """Single precision takes less memory, and has the digits that it has."""
    variants = ["float64", "float32", "float32, blocks"]
    script("factorisation.py", "--cases", "box3", "--rounds", 1, "--threads", 1, "--variants", *variants)
    double, single, blocks = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [found["variant"] for found in (double, single, blocks)] == variants
    assert double["unknowns"] == 3 * 13 * 4 * 4
    assert double["error"] < 1e-10
    for found in (single, blocks):
        assert 1e-8 < found["error"] < 1e-3
        assert found["factor_mb"] < double["factor_mb"]
    assert {"analysis", "factor", "solve", "solve 10", "wall", "foretold_mb"} <= set(double)


def test_scale_stops_where_factors_do_not_fit(
    script: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **named: object) -> fa.LinearStatic:
        raise fa.SolverMemoryError("a factor of 9 TB")

    monkeypatch.setattr(fa, "LinearStatic", refused)
    script("scale.py", "--kinds", "box", "--here")
    assert capsys.readouterr().err == "box: stopped at box4, 1275 unknowns: a factor of 9 TB\n"


def test_multigrid(script: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    script("multigrid.py", "--here", "--cases", "box4", "--repeat", 1, "--threads", 1, "--flat", 2)
    line = json.loads(capsys.readouterr().out)
    assert (line["case"], line["unknowns"]) == ("box4", 3 * 17 * 5 * 5)
    assert line["levels"][0] == line["unknowns"]
    assert 5 < line["iterations"] < 40
    for key in ("setup", "solve", "cycle", "cycle_10", "product", "product_10", "cycle_mb", "matrix_mb", "peak_mb"):
        assert line[key] >= 0


def test_gpu_table_says_what_is_missing(script: Callable[..., dict[str, Any]], tmp_path: Path, capsys: Any) -> None:
    record, picture = tmp_path / "gpu.json", tmp_path / "gpu.png"
    script("gpu.py", "--cases", "box2", "--solvers", "superlu", "--designs", 1, "--json", record, "--plot", picture)
    head, run = json.loads(record.read_text())
    assert head["machine"]["packages"]["numpy"] == np.__version__
    assert (run["case"], run["solver"], run["gradient_error"]) == ("box2", "superlu", 0.0)
    assert 0.0 < run["factor"] < run["second_design"]
    assert picture.stat().st_size > 10_000
    assert "| box2 | 243 | superlu |" in capsys.readouterr().out
