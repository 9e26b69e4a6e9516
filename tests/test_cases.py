"""Case scripts: run as a user would, against pinned numbers."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import meshio
import numpy as np
import pytest

import femadj as fa
from femadj import design_case
from femadj.case import Case, Quantity, Run, main, run_case
from femadj.progress import Phases
from tests.meshes import box_mesh

ROOT = Path(__file__).resolve().parent.parent
CASES = (
    "bracket", "plate_with_hole", "cantilever", "heat_sink", "own_pde", "advection_diffusion", "thermoelastic",
    "stokes_drag", "buckling_column", "transient_beam", "cooling_fin",
)  # fmt: skip
STAGES: Mapping[str, int] = {"thermoelastic": 2}
FACTORS: Mapping[str, int] = {"transient_beam": 2, "cooling_fin": 2}
"""Factorisations where they are more than stages: of the steps, and of the inertia."""

SMALL: Mapping[str, list[str]] = {
    "cantilever": ["--size", "16", "4", "4"],
    "transient_beam": ["--size", "20", "2", "--steps", "80", "--memory", "100 KiB"],
}

# value of every response and norm of its node gradient
PINNED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "bracket": {
        "compliance": (56.7938752, 0.9154179),
        "tip displacement": (-0.0945644272, 0.001438667),
        "mass": (0.000556296688, 2.088125e-06),
    },
    "plate_with_hole": {
        "compliance": (38.3212322, 0.8530835),
        "elongation": (0.00958455351, 0.00024724),
        "mass": (6.26766925e-06, 1.397913e-07),
    },
    "cantilever": {
        "compliance": (1232.99225, 8.485621),
        "tip displacement": (-0.121882134, 0.0008355115),
        "mass": (0.0314, 7.624445e-05),
    },
    "heat_sink": {
        "base temperature": (42.9758414, 0.2633846),
        "half dissipation": (899494.896, 13173.31),
        "mass": (0.00017976, 1.392332e-06),
    },
    "own_pde": {
        "heat from the tube": (2982.36422, 70.44615),
        "8-mean of the temperature": (30.1782016, 0.6827509),
        "heat to the air": (2982.36422, 70.44615),
    },
    "advection_diffusion": {
        "heat at the outlet": (427.267672, 98.66238),
        "hot streak at the outlet": (14.5828185, 4.454831),
    },
    "thermoelastic": {
        "fin stress": (9.98323305, 0.421305),
        "lift of the base": (-0.00678745635, 0.0001148682),
        "base temperature": (42.9758414, 0.2633846),
    },
    "transient_beam": {
        "deflection": (-0.455546573, 0.2026311),
        "mean square of the field": (190.079663, 16.73067),
    },
    "cooling_fin": {
        "tip temperature": (10.2651206, 1.497464),
        "heat left": (1955.38723, 432.3679),
        "mean square of the tip": (192015.527, 6563.027),
    },
    "stokes_drag": {
        "drag": (0.317493197, 0.02906321),
        "drag by stress": (0.317539639, 0.08175732),
        "power lost": (8.21289109, 0.4664262),
    },
    "buckling_column": {
        "load factor": (186.150881, 1.905429),
        "second load factor": (1636.8732, 16.49658),
        "volume": (1200000.0, 3405.714),
    },
}


def script(name: str) -> ModuleType:
    """Import a case script as a module."""
    spec = importlib.util.spec_from_file_location(f"case_{name}", ROOT / "cases" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a case script in a process of its own."""
    command = [sys.executable, "-W", "error", str(ROOT / "cases" / f"{name}.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a run."""
    data: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return data


def factors_of(name: str) -> int:
    """How many factorisations a case takes."""
    return FACTORS.get(name, STAGES.get(name, 1))


def assert_numbers(name: str, folder: Path) -> None:
    """What a case has written is what is pinned."""
    data = summary_of(folder)
    assert list(data["responses"]) == list(PINNED[name])
    for response, (value, norm) in PINNED[name].items():
        assert data["responses"][response]["value"] == pytest.approx(value, rel=1e-6)
        assert data["responses"][response]["gradient norm"] == pytest.approx(norm, rel=1e-5)
    assert data["counts"] == {"analyses": STAGES.get(name, 1), "factorisations": factors_of(name)}
    assert (folder / f"{name}.vtu").is_file()


@pytest.mark.parametrize("name", [name for name in CASES if name != "bracket"])  # that one is run below
def test_case_gives_its_numbers(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case: Case = script(name).CASE
    assert main(case, ["--out", str(tmp_path), "--no-picture", *SMALL.get(name, [])]) == 0
    assert_numbers(name, tmp_path)
    out = capsys.readouterr().out
    assert name in out
    assert f"{factors_of(name)} factorisation" in out
    assert "no picture: --no-picture" in out


def test_plate_reaches_kirsch() -> None:
    """Three times the applied stress at the hole, but for the finite width and the mesh."""
    module = script("plate_with_hole")
    arguments = module.CASE.parser().parse_args([])
    problem = module.problem(Run(arguments, "auto", None, Phases()))
    (factor,) = module.stress_concentration(problem.solve()).values()
    assert factor == pytest.approx(3.0, abs=0.03)


def solved(name: str, *arguments: str) -> tuple[ModuleType, fa.Solution]:
    """A case script and the solution of its problem."""
    module = script(name)
    parsed = module.CASE.parser().parse_args(list(arguments))
    return module, module.problem(Run(parsed, "auto", None, Phases())).solve()


def test_curves_of_a_history_are_drawn(tmp_path: Path) -> None:
    """The fin cools at the rate that the final time says, and Newton's method finds when it is at 20 K."""
    pytest.importorskip("matplotlib")
    module = script("cooling_fin")
    result = run_case(module.CASE, module.CASE.parser().parse_args(["--out", str(tmp_path)]))
    assert [p.name for p in result.files] == [
        "cooling_fin.vtu", "cooling_fin.png", "cooling_fin_curves.png", "summary.json",
    ]  # fmt: skip
    assert (tmp_path / "cooling_fin_curves.png").stat().st_size > 20_000
    figures = summary_of(tmp_path)["figures"]
    assert figures["tip temperature then [K]"] == pytest.approx(20.0, rel=1e-9)
    assert figures["derivative by the final time [K/s]"] == pytest.approx(figures["rate at the end [K/s]"], rel=2e-3)


def test_rotation_system_agrees_with_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("rotation_system").main(["--out", str(tmp_path)]) == 0
    data = summary_of(tmp_path)
    assert data["theta"] == 0.3
    pinned = {
        "x_0": (1.5463769024482854, 1.6151527715898721),
        "x_0 x_1 + theta": (2.79763493991191, 1.2174369511488938),
        "|x|": (3.7416573867739413, 0.0),
    }
    assert list(data["responses"]) == list(pinned)
    for response, (value, gradient) in pinned.items():
        found = data["responses"][response]
        assert found["value"] == pytest.approx(value, rel=1e-14)
        assert found["gradient"] == pytest.approx(gradient, rel=1e-13, abs=1e-14)
        assert found["by hand"] == pytest.approx(gradient, rel=1e-13, abs=1e-14)
        assert found["solves"] == 1
    assert data["counts"] == {"analyses": 1, "factorisations": 1}
    assert "1 factorisation" in capsys.readouterr().out


def test_neural_ode_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = script("neural_ode")
    assert module.main(["--out", str(tmp_path), "--iterations", "6", "--no-picture"]) == 0
    data = summary_of(tmp_path)
    assert data["gradient against differences"] < 1e-8
    assert data["weights"] == 40
    fit = module.Fit(module.observations(0), 8)
    start, _ = fit(np.zeros(40), 25)
    assert data["loss"] < 0.1 * start
    assert "gradient against differences" in capsys.readouterr().out


def test_curse_of_unrolling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Several times the derivative for the fastest step, nothing to speak of for the shorter one; implicit as x is."""
    pytest.importorskip("matplotlib")
    assert script("curse_of_unrolling").main(["--out", str(tmp_path), "--iterations", "240"]) == 0
    fastest, shorter = summary_of(tmp_path)["steps"].values()
    assert fastest["largest unrolled error"] == pytest.approx(11.02, abs=0.01)
    assert (fastest["at iteration"], fastest["below one again at"]) == (45, 227)
    assert shorter["largest unrolled error"] < 1.1
    for row in (fastest, shorter):
        assert row["implicit error / error of x, at most"] == pytest.approx(1.0, abs=1e-9)
    assert (tmp_path / "curse_of_unrolling.png").stat().st_size > 20_000
    assert "step 1 / L" in capsys.readouterr().out


def test_fin_keeps_its_balances() -> None:
    """All heat goes to the air; it is linear in the films and the conductivity together, and in the tube."""
    module, solution = solved("own_pde")
    heat = module.HEAT.evaluate(solution).value
    figures = module.figures(solution)
    assert figures["heat to the air / heat from the tube"] == pytest.approx(1.0, rel=1e-12)
    percent = {name: 100 * figures[f"heat for 1 % more {name} [mW]"] for name in module.PARAMETERS}
    assert percent["T_tube"] == pytest.approx(heat, rel=1e-12)
    assert percent["K"] + percent["h_air"] + percent["h_tube"] == pytest.approx(heat, rel=1e-12)


def test_channel_follows_leveque() -> None:
    """The layer is thin: the velocity in it is nearly linear, a little less."""
    module, solution = solved("advection_diffusion")
    assert module.figures(solution)["heat / Lévêque's solution"] == pytest.approx(0.99, abs=0.01)


def test_creeping_flow_balances_forces_and_power() -> None:
    module, solution = solved("stokes_drag")
    figures = module.figures(solution)
    assert figures["power lost / given"] == pytest.approx(1.0, abs=1e-4)
    pressure, at = solution.part("p")
    thrust = pressure[at[:, 0] < 1e-9].mean() * module.HEIGHT
    friction = fa.Functional(fa.Integral(lambda w: -module.stress(w, 0), "walls"))
    forces = [response.evaluate(solution).value for response in (module.DRAG, module.BY_STRESS, friction)]
    assert forces[0] == pytest.approx(forces[1], rel=2e-4)
    assert forces[0] + forces[2] == pytest.approx(thrust, rel=1e-3)
    lift = fa.Reaction("cylinder", "u.y").evaluate(solution).value
    assert abs(lift) < 1e-3 * forces[0]  # creeping flow is reversible


def test_column_follows_euler() -> None:
    module, solution = solved("buckling_column")
    figures = module.euler(solution)
    assert figures["load factor"] == pytest.approx(figures["load factor of Euler"], rel=3e-3)
    assert figures["by the length [1/mm]"] == pytest.approx(figures["by the length, Euler [1/mm]"], rel=6e-3)


def test_a_case_draws_its_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    module = script("buckling_column")
    monkeypatch.setattr(module, "CELLS", (10, 2))
    assert main(module.CASE, ["--out", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.glob("*.png")} == {"buckling_column.png", "mode_0.png", "mode_1.png"}


def test_modal_bracket_on_a_coarse_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script as it is, on a bar in the place of the bracket."""
    beam = box_mesh("tetra10", (6, 1, 1), lengths=(90.0, 10.0, 20.0))
    clamped = beam.with_groups(facet_groups={"clamp": lambda x: x[0] < 1e-9})
    monkeypatch.setattr("femadj.read_mesh", lambda path: clamped)
    assert main(script("modal_bracket").CASE, ["--out", str(tmp_path), "--no-picture"]) == 0
    data = summary_of(tmp_path)
    assert {"mode 0", "mode 1", "d(first frequency)/dX"} <= set(meshio.read(tmp_path / "modal_bracket.vtu").point_data)
    closed = 1.875104**2 / (2 * np.pi * 90**2) * np.sqrt(210e3 / 7.85e-9 * 10**2 / 12)
    assert data["responses"]["first frequency"]["value"] == pytest.approx(closed, rel=0.03)
    assert data["counts"] == {"analyses": 1, "factorisations": 1}


def test_bracket_from_another_folder(tmp_path: Path) -> None:
    """As a user runs it: its numbers, and all files, the picture included, in results/ where the command is given."""
    pytest.importorskip("matplotlib")
    done = run("bracket", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "results" / "bracket"
    assert {p.name for p in out.iterdir()} == {"bracket.vtu", "bracket.png", "summary.json"}
    assert_numbers("bracket", out)
    assert "wrote results" in done.stdout
    assert "factorise ..." in done.stderr
    fields = meshio.read(out / "bracket.vtu").point_data
    assert {"displacement", "d(compliance)/dX", "d(compliance)/dn per area", "d(mass)/dX"} <= set(fields)
    assert (out / "bracket.png").stat().st_size > 50_000


def test_cantilever_verifies(tmp_path: Path) -> None:
    done = run("cantilever", "--size", "3", "1", "1", "--cells", "tetra", "--no-picture", "--out", str(tmp_path),
               "--solver", "superlu", "--threads", "1", "--verify", "tip displacement")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Taylor rate, all nodes" in done.stdout
    assert "WRONG" not in done.stdout
    assert summary_of(tmp_path)["solver"] == "superlu"


@pytest.mark.parametrize("name", CASES)
def test_help_describes_the_problem(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = script(name)
    with pytest.raises(SystemExit) as stop:
        main(module.CASE, ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert module.__doc__.strip().splitlines()[0] in text
    for option in ("--out", "--verify", "--solver", "--threads", "--no-picture"):
        assert option in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "1", "1"], "--size"),
        (["--size", "0", "1", "1"], "positive"),
        (["--threads", "0"], "at least 1"),
        (["--threads", "many"], "--threads"),
        (["--solver", "magic"], "magic"),
        (["--verify", "beauty"], "beauty"),
        (["--cells", "wedge"], "wedge"),
        (["--colour", "blue"], "--colour"),
    ],
)
def test_wrong_arguments_end_with_status_two(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = script("cantilever").CASE
    try:
        status: object = main(case, ["--out", str(tmp_path), *arguments])
    except SystemExit as stop:  # argparse's own way
        status = stop.code
    assert status == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_results_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    case = script("cantilever").CASE
    assert main(case, ["--size", "2", "1", "1", "--out", str(tmp_path / "file" / "deeper")]) == 2
    assert "cannot be written" in capsys.readouterr().err.splitlines()[-1]


def test_other_errors_are_not_hidden(tmp_path: Path) -> None:
    def problem(run: Run) -> fa.LinearStatic:
        raise ZeroDivisionError("a mistake in the script")

    case = Case("broken", "Broken.", problem, {"compliance": Quantity(fa.Compliance())})
    with pytest.raises(ZeroDivisionError):
        main(case, ["--out", str(tmp_path)])


def test_without_matplotlib_everything_but_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    case = script("cantilever").CASE
    assert main(case, ["--size", "2", "1", "1", "--out", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"cantilever.vtu", "summary.json"}
    out = capsys.readouterr().out
    assert "no picture: a picture needs matplotlib" in out
    assert "femadj[plot]" in out


def test_cantilever_bends_like_a_beam() -> None:
    """Tip force and own weight against beam theory, on a fine enough mesh of hexahedra."""
    module = script("cantilever")
    length, width, height = module.LENGTH
    arguments = module.CASE.parser().parse_args(["--size", "32", "4", "8"])
    solution = module.problem(Run(arguments, "auto", None, Phases())).solve()
    value, _ = fa.value_and_gradient(solution, fa.Displacement("end", "z"))
    bending = 210e3 * width * height**3 / 12
    shear = 5 / 6 * 210e3 / 2.6 * width * height
    weight = 7.85e-9 * 9810.0 * width * height
    expected = 10e3 * (length**3 / (3 * bending) + length / shear)
    expected += weight * (length**4 / (8 * bending) + length**2 / (2 * shear))
    assert -value == pytest.approx(expected, rel=0.04)  # the root is held against contraction too
    assert np.abs(solution.u[:, 1]).max() < 0.1 * abs(value)


def test_arch_ends_at_its_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Gradients below the limit; the message and the path of what is borne; a wrong number of cells in words."""
    module = script("hyperelastic_arch")
    assert module.main(["--cells", "8", "--load", "0.02", "--out", str(tmp_path), "--no-picture"]) == 0
    data = summary_of(tmp_path)
    for response, value, norm in (
        ("depth of the crown", 2.139646804974182, 0.8184011499459646),
        ("work of the load", 0.040653289294509454, 0.015549621848976652),
    ):
        assert data["responses"][response]["value"] == pytest.approx(value, rel=1e-6)
        assert data["responses"][response]["gradient norm"] == pytest.approx(norm, rel=1e-5)
    assert data["counts"] == {"analyses": 1, "factorisations": data["figures"]["iterations"]}
    assert "the whole load is borne" in capsys.readouterr().out
    limit, path, words = module.borne(6, 0.04)
    assert "no equilibrium beyond 0." in words
    assert "(a limit point, buckling)" in words
    assert path[-1].level == pytest.approx(limit / 0.04)
    assert limit == pytest.approx(max(module.pressed(module.arch(6), [5.5, 6.0, 6.5])), rel=5e-3)
    assert module.main(["--cells", "3", "--out", str(tmp_path)]) == 2
    assert "even number" in capsys.readouterr().err


DESIGN_CASES = ("optimise_bracket", "optimise_fin")


def fin_run(folder: Path, designs: int, *arguments: str) -> Mapping[str, Any]:
    """The fin by SLSQP, and what its summary says."""
    line = ["--out", str(folder), "--only", "SLSQP", "--designs", str(designs), "--solver", "superlu", *arguments]
    assert design_case.main(script("optimise_fin").CASE, line) == 0
    found: Mapping[str, Any] = summary_of(folder)["optimisers"]["SLSQP"]
    return found


def test_fin_is_cut_to_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Less area for as much heat, one solve and one factorisation a design, and all files."""
    pytest.importorskip("matplotlib")
    found = fin_run(tmp_path, 10)
    assert found["after"]["area"] < 0.99 * found["before"]["area"]
    assert found["violation"] <= 1e-3
    assert found["worst quality"] > 0.5
    assert found["solved in this process"] == found["factorisations"] == found["designs"] == 10
    assert {p.name for p in tmp_path.iterdir()} == {"slsqp", "before.png", "after_slsqp.png", "summary.json"}
    kept = {p.name for p in (tmp_path / "slsqp").iterdir()}
    assert {"history.jsonl", "designs.bin", "history.png", "shapes.pvd"} <= kept
    out = capsys.readouterr().out
    for word in ("minimal", ">= 2982", "before", "SLSQP", "factorisations", "seconds"):
        assert word in out


def test_killed_case_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed by the system before its fourth design, a run takes nothing twice and ends where one that was not ends."""
    whole = fin_run(tmp_path / "whole", 6, "--no-picture")
    code = (
        "import os, runpy, sys, femadj as fa\n"
        "first = fa.Reduced.evaluate\n"
        "def dying(self, z):\n"
        "    if len(self.history) == 3 and self.history.find(z + 0.0) is None: os.kill(os.getpid(), 9)\n"
        "    return first(self, z)\n"
        "fa.Reduced.evaluate = dying\n"
        "sys.argv[:] = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", code, str(ROOT / "cases" / "optimise_fin.py"), "--out", str(folder),
               "--only", "SLSQP", "--designs", "6", "--solver", "superlu"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -9, done.stderr
    resumed = fin_run(folder, 6, "--no-picture", "--resume")
    assert resumed["after"] == pytest.approx(whole["after"], rel=1e-9)  # the filter's factor rounds in its own way
    assert resumed["shown design"] == whole["shown design"]
    assert resumed["solved in this process"] == 3
    capsys.readouterr()
    assert design_case.main(script("optimise_fin").CASE, ["--out", str(folder), "--only", "SLSQP"]) == 2
    assert "--resume" in capsys.readouterr().err


def test_optimiser_that_is_not_installed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "nlopt", None)
    case = script("optimise_fin").CASE
    assert design_case.main(case, ["--out", str(tmp_path), "--designs", "1", "--no-picture"]) == 0
    assert "MMA left out: " in (told := capsys.readouterr().out)
    assert "femadj[nlopt]" in told
    assert list(summary_of(tmp_path)["optimisers"]) == ["SLSQP"]
    assert design_case.main(case, ["--out", str(tmp_path / "b"), "--only", "MMA", "--no-picture"]) == 2
    assert "femadj[nlopt]" in capsys.readouterr().err


def test_bracket_keeps_what_it_promises() -> None:
    """Symmetry, the plane of the pad, the round bore and the wall plate, with all variables at work."""
    module = script("optimise_bracket")
    bracket = module.problem(Run(argparse.Namespace(), "auto", None, Phases()))
    mesh, parametrisation = bracket.mesh, module.parametrisation(bracket)
    covered = np.unique(np.concatenate([mesh.nodes_of(group) for group in mesh.facet_groups]))
    assert np.array_equal(covered, np.unique(mesh.facet_nodes(mesh.boundary())))
    q = np.random.default_rng(3).uniform(-3.0, 3.0, parametrisation.n)
    moved = parametrisation.forward(q) - mesh.points
    assert np.abs(moved).max() > 1.0
    for group, axes in (("clamp", [0, 1, 2]), ("bolts", [0, 1, 2]), ("bore", [0, 2]), ("pad", [1]), ("top", [1])):
        assert np.abs(moved[np.ix_(mesh.nodes_of(group), axes)]).max() < 1e-12
    assert mesh.quality(mesh.points + moved).min() > 0.1


@pytest.mark.parametrize("name", DESIGN_CASES)
def test_help_of_an_optimisation(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = script(name)
    with pytest.raises(SystemExit) as stop:
        design_case.main(module.CASE, ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert module.__doc__.strip().splitlines()[0] in text
    for option in ("--out", "--designs", "--resume", "--only", "--solver", "--no-picture"):
        assert option in text
