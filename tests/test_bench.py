"""The benchmark runs and reports what it says, on tiny meshes."""

from __future__ import annotations

import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "bench" / "design_iteration.py"

pytest.importorskip("resource")  # memory is read in the way of POSIX systems


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark in a process of its own."""
    command = [sys.executable, "-W", "error", str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


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


def test_help_and_wrong_arguments() -> None:
    assert "peak/(factor+csr)" in run("--help").stdout
    for arguments in (("--cases", "ball7"), ("--cases", "box0"), ("--repeat", "0")):
        done = run(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_meshes_are_those_of_published_figures() -> None:
    """Sizes, unit volume per length and the fixed perturbation of the first inner node."""
    spec = importlib.util.spec_from_file_location("bench_meshes", ROOT / "bench" / "meshes.py")
    assert spec is not None
    assert spec.loader is not None
    meshes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(meshes)
    box, square = meshes.box(3), meshes.square(16)
    assert (box.n_nodes, box.n_cells, box.volume()) == (208, 648, pytest.approx(4.0))
    assert (square.n_nodes, square.n_cells, square.volume()) == (289, 512, pytest.approx(1.0))
    assert len(box.nodes_of("left")) == 16
    assert len(square.nodes_of("boundary")) == 64
    move = np.random.default_rng(0).uniform(-0.12, 0.12, 3)
    np.testing.assert_allclose(box.points[21], (np.ones(3) + move) / 3, rtol=1e-12)


def test_the_way_back_through_time_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ROOT / "bench" / "transient.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--box", "1", "--steps", "12", "--states", "2"])
    monkeypatch.syspath_prepend(str(script.parent))
    runpy.run_path(str(script), run_name="__main__")
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


def test_products_of_hessians_are_measured() -> None:
    script = ROOT / "bench" / "hessian_product.py"
    command = [sys.executable, "-W", "error", str(script), "--cases", "sq16", "--repeat", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["factorisations"] == 0
    assert line["unknowns"] == 17 * 17
    assert line["product"] > 0
    assert line["product/factorisation"] == pytest.approx(line["product"] / line["factorisation"], rel=0.2)
