"""Runs are never lost: killed at any moment they are taken up again, and end at the same design."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pytest

import femadj as fa
from femadj.optimisation import run_folder
from femadj.optimisation.identity import digest
from tests.optimisation.problems import Curved, N, descend, directions, mesh, plate, responses, straight

ROOT = Path(__file__).parents[2]


def begin(folder: Path | None = None, **options: Any) -> fa.Reduced:
    """A run with a solver that repeats its results bit by bit."""
    return fa.Reduced(plate(solver="superlu"), straight(), *responses(), folder=folder, quality_limit=-1, **options)


def resume(folder: Path, **options: Any) -> fa.Reduced:
    return fa.Reduced.resume(folder, plate(solver="superlu"), straight(), *responses(), quality_limit=-1, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, int]:
    """A run from beginning to end: its folder, last design and number of designs."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    with begin(folder) as run:
        last = descend(run)
        assert any(record.failure is not None for record in run.history.records)
        return folder, last, len(run.history)


def writes(folder: Path) -> list[tuple[str, int]]:
    """Files and numbers of bytes, in the order in which they were written after the first line."""
    order = []
    for line in (folder / "history.jsonl").read_bytes().splitlines(keepends=True)[1:]:
        order += [("designs.bin", json.loads(line)["bytes"]), ("history.jsonl", len(line))]
    return order


def killed_copy(folder: Path, copy: Path, byte: int) -> None:
    """The run as it was when so many bytes had been written after its first line."""
    shutil.copytree(folder, copy)
    first = len((folder / "history.jsonl").read_bytes().splitlines(keepends=True)[0])
    ends = {"designs.bin": 0, "history.jsonl": first}
    for name, size in writes(folder):
        part = min(size, byte)
        ends[name] += part
        byte -= part
    for name, end in ends.items():
        os.truncate(copy / name, end)


def told(folder: Path, *ignored: str) -> list[dict[str, Any]]:
    """All lines, but for their times."""
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("seconds", *ignored)} for line in lines]


# ---------------------------------------------------------------------- kill
def test_killed_at_any_byte_it_ends_at_the_same_design(
    whole: tuple[Path, np.ndarray, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, last, designs = whole
    order, everything = writes(folder), told(folder)[1:]
    total = sum(size for _, size in order)
    asked = {line["gradients"] for line in everything if "gradients" in line}
    between = np.cumsum([0, *(a + b for (_, a), (_, b) in zip(order[::2], order[1::2], strict=True))])
    for k, byte in enumerate([0, total, *np.random.default_rng(4).integers(1, total, 10).tolist()]):
        copy = tmp_path / f"run {k}"
        killed_copy(folder, copy, byte)
        kept = everything[: int(np.searchsorted(between, byte, side="right")) - 1]
        known = {line["design"] for line in kept if "design" in line}
        differentiated = {line["gradients"] for line in kept if "gradients" in line}
        caplog.clear()
        with resume(copy) as run:
            assert ["interrupted while it wrote" in text for text in caplog.messages] == [True] * (byte not in between)
            assert len(run.history) == len(known)
            assert descend(run).tobytes() == last.tobytes()
            assert len(run.history) == designs
            again = (known & asked) - differentiated  # values are there, gradients are not: solved once more
            assert run.counts.solves == designs - len(known) + len(again)
            assert run.counts.gradients == len(asked - differentiated)
        assert told(copy, "safe") == told(folder, "safe")
        assert (copy / "designs.bin").read_bytes() == (folder / "designs.bin").read_bytes()


SCRIPT = """
import sys, time
from pathlib import Path
from tests.optimisation.problems import descend
from tests.optimisation.test_history import begin
descend(begin(Path(sys.argv[1]), on_design=lambda found: time.sleep(0.1)))
"""


def test_a_process_that_is_killed(whole: tuple[Path, np.ndarray, int], tmp_path: Path) -> None:
    """While it lives, its folder is taken; killed by the system at some design, the run goes on in another process."""
    _, last, designs = whole
    folder = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], env=environment, cwd=ROOT) as process:
        lines = folder / "history.jsonl"
        while not lines.exists() or lines.read_bytes().count(b"\n") < 6:
            assert process.poll() is None
            time.sleep(0.02)
        with pytest.raises(fa.RunError, match=f"process {process.pid} is at work on this run"):
            resume(folder)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with resume(folder) as run:
        known = len(run.history)
        assert 0 < known < designs
        assert descend(run).tobytes() == last.tobytes()
        assert run.counts.solves < designs


def test_power_that_fails(
    whole: tuple[Path, np.ndarray, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Lines may reach the disk before their numbers; what was not safe is not believed where these are not there."""
    folder, last, designs = whole
    order, lines = writes(folder), told(folder)[1:]
    safe = max(line["safe"] for line in lines)
    assert 0 < safe < len(lines) - 5
    for lost in range(1, len(lines) - safe + 1, 3):
        copy = tmp_path / f"run {lost}"
        shutil.copytree(folder, copy)
        size = (copy / "designs.bin").stat().st_size
        os.truncate(copy / "designs.bin", size - sum(size for _, size in order[-2 * lost :: 2]))
        os.truncate(copy / "designs.bin", size)  # its length is there, its contents are zero
        caplog.clear()
        with resume(copy) as run:
            assert "interrupted" in caplog.text
            assert len(run.history) == sum("design" in line for line in lines[:-lost])
            assert descend(run).tobytes() == last.tobytes()
            assert len(run.history) == designs
        assert told(copy, "safe") == told(folder, "safe")


def test_what_is_recorded_is_not_solved(whole: tuple[Path, np.ndarray, int], tmp_path: Path) -> None:
    folder, last, designs = whole
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    fresh = begin()
    descend(fresh)
    with resume(copy) as run:
        assert descend(run).tobytes() == last.tobytes()
        counts = run.counts
        assert (counts.designs, counts.solves, counts.gradients, counts.factorisations) == (designs, 0, 0, 0)
        for mine, theirs in zip(run.history.records, fresh.history.records, strict=True):
            assert mine.values == theirs.values
            assert type(mine.failure) is type(theirs.failure)
            assert str(mine.failure) == str(theirs.failure)
            assert (mine.quality, mine.step, mine.differentiated) == (
                theirs.quality,
                theirs.step,
                theirs.differentiated,
            )
        assert run.improving == fresh.improving
        best, other = run.best, fresh.best
        assert best is not None
        assert other is not None
        assert best.gradients.tobytes() == other.gradients.tobytes()
        np.testing.assert_array_equal(best.points, other.points)
        failed = next(record for record in run.history.records if record.failure is not None)
        assert isinstance(failed.failure, fa.TangledMeshError)
        assert failed.failure.cells
    assert (copy / "history.jsonl").read_bytes() == (folder / "history.jsonl").read_bytes()


def test_lines_are_json_that_anyone_can_read(whole: tuple[Path, np.ndarray, int]) -> None:
    folder, _, designs = whole

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    text = (folder / "history.jsonl").read_text().splitlines()
    header, *lines = [json.loads(line, parse_constant=refuse) for line in text]
    assert header["responses"] == ["Compliance", "Volume", "Displacement"]
    assert [line["design"] for line in lines if "design" in line] == list(range(designs))
    numbers = np.fromfile(folder / "designs.bin")
    with begin() as run:
        for line in lines:
            if "gradients" in line and line["gradients"] == 0:
                found = numbers[line["at"] // 8 :][: line["bytes"] // 8].reshape(line["shape"])
                np.testing.assert_array_equal(found, run.evaluate(run.start).gradients)


# ---------------------------------------------------------------------- refusals
def bump(x: Any) -> Any:
    return [0.1 * x[1], -0.2 + 0 * x[0]]


def calls_bump(x: Any) -> Any:
    return bump(x)


def loaded(E: float = 20.0, load: Any = bump, points: Any = None) -> fa.LinearStatic:
    base = mesh() if points is None else mesh().with_points(points)
    return fa.LinearStatic(base, fa.Elasticity(E, 0.3), [fa.Fixed("left")], [fa.BodyForce(load)])


def nonlinear() -> fa.NonlinearStatic:
    return fa.NonlinearStatic(mesh(), fa.Elasticity(20.0, 0.3), [fa.Fixed("left")], [fa.BodyForce(bump)])


OTHERS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "physics": (lambda: {"problem": loaded(21.0)}, r"physics was Elasticity\(.*20.*21"),
    "function": (lambda: {"problem": loaded(load=lambda x: [x[1], -0.3 + 0 * x[0]])}, "loads was .*bump.* is .*lambda"),
    "problem": (lambda: {"problem": nonlinear()}, "problem was LinearStatic and is Nonl"),
    "response": (lambda: {"limits": [fa.AtMost(fa.FieldNorm(), 2.0)]}, r"response '1 \(Volume\)' is missing"),
    "fewer": (lambda: {"limits": []}, r"response '1 \(Volume\)' is missing"),
    "group": (lambda: {"limits": [fa.AtMost(fa.Volume("low"), 2.0)]}, r"was Volume\(group=None\) and is Vol"),
    "scales": (lambda: {"scales": 2.0}, "parametrisation, or scales"),
    "directions": (lambda: {"parametrisation": fa.Directions(mesh(), directions(0.06))}, "parametrisation, or scales"),
    "number": (lambda: {"parametrisation": fa.Directions(mesh(), directions()[..., :3])}, "4 design variables then, 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with fa.Reduced(loaded(), straight(), fa.Compliance(), [fa.AtMost(fa.Volume(), 2.0)], folder=folder) as run:
        value = run.value(run.start)
    make, words = OTHERS[name]
    given = make()
    problem, parametrisation = given.pop("problem", loaded()), given.pop("parametrisation", straight())
    limits = given.pop("limits", [fa.AtMost(fa.Volume(), 2.0)])
    with pytest.raises(fa.RunError, match=f"(?s)one of something else.*{words}"):
        fa.Reduced.resume(folder, problem, parametrisation, fa.Compliance(), limits, **given)
    # what is only another limit, bound, or solver is no other run
    alike = fa.LinearStatic(**{**loaded().arguments, "solver": "superlu", "threads": 1})
    options = {"bounds": (-0.1, 0.1), "quality_limit": 0.0}
    lower = [fa.AtMost(fa.Volume(), 1.5, name="area")]
    with fa.Reduced.resume(folder, alike, straight(), fa.Compliance(), lower, **options) as again:  # type: ignore[arg-type]
        assert again.value(again.start) == value
        assert again.counts.solves == 0


def test_another_mesh_is_named(tmp_path: Path) -> None:
    with fa.Reduced(loaded(), straight(), fa.Compliance(), folder=tmp_path / "run") as run:
        run.value(run.start)
    moved = loaded(points=mesh().points + 1e-9)
    with pytest.raises(fa.RunError, match=r"mesh has other numbers or functions \(Mesh\(20 nodes"):
        fa.Reduced.resume(tmp_path / "run", moved, fa.Directions(moved.mesh, directions()), fa.Compliance())


def test_digests_are_those_of_contents() -> None:
    assert digest(loaded()) == digest(loaded())
    assert digest(mesh()) == digest(mesh().with_points(mesh().points))
    alike = [lambda x: 2 * x, lambda x: 2 * x, lambda y: 3 * y]
    assert digest(alike[0].__code__) == digest(alike[1].__code__) != digest(alike[2].__code__)

    def scaled(factor: float) -> Any:
        return lambda x: factor * x

    assert digest(scaled(2.0)) == digest(scaled(2.0)) != digest(scaled(3.0))

    def response(factor: float, name: str = "evaluate") -> Any:
        return type("Own", (), {name: scaled(factor)})()

    assert digest(response(2.0)) == digest(response(2.0)) != digest(response(3.0))
    assert digest(calls_bump) != digest(bump)
    before = digest(calls_bump)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "bump", lambda x: [x[0], x[1]])
        assert digest(calls_bump) != before  # what it calls has changed
    assert digest(calls_bump) == before
    assert digest([1, 2]) != digest([2, 1])
    assert digest({"a": 1, "b": {2, 3}}) == digest({"b": {3, 2}, "a": 1})
    assert digest(np.arange(3)) != digest(np.arange(3.0))
    assert digest(Curved()) == digest(Curved()) != digest(straight())


def test_folders_that_cannot_be_used(tmp_path: Path, whole: tuple[Path, np.ndarray, int]) -> None:
    with pytest.raises(fa.RunError, match=r"holds no run.*begin one"):
        resume(tmp_path / "nothing")
    with begin(tmp_path / "run") as run:
        run.value(run.start)
        for attempt in (resume, begin):
            with pytest.raises(fa.RunError, match=f"process {os.getpid()} is at work"):
                attempt(tmp_path / "run")
    with pytest.raises(fa.RunError, match=r"holds a run already.*Reduced\.resume"):
        begin(tmp_path / "run")
    with pytest.raises(fa.RunError, match="has been closed"):
        run.value(run.start + 0.1)
    (tmp_path / "file").write_text("")
    with pytest.raises(fa.RunError, match="cannot be used"):
        begin(tmp_path / "file")
    open_run = resume(tmp_path / "run")
    del open_run  # lets go by itself
    resume(tmp_path / "run").close()


@pytest.mark.parametrize("damage", ["line", "numbers", "short", "version", "empty"])
def test_damage_that_no_interruption_makes_is_told(
    damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of what was on the disk, nothing can be missing."""
    copy = tmp_path / "run"
    monkeypatch.setattr(run_folder, "SECONDS", 0.0)
    with begin(copy) as run:
        descend(run, 2)
    lines, numbers = copy / "history.jsonl", copy / "designs.bin"
    data = lines.read_bytes()
    if damage == "line":
        lines.write_bytes(data.replace(b'"design": 1,', b'"design": 1;', 1))
        words = "line [0-9]+ cannot be read"
    elif damage == "numbers":
        line = next(each for each in told(copy) if "gradients" in each)
        kept = bytearray(numbers.read_bytes())
        kept[line["at"]] ^= 1
        numbers.write_bytes(kept)
        words = "not those that were written"
    elif damage == "short":
        os.truncate(numbers, numbers.stat().st_size // 2)
        words = "ends before the numbers"
    elif damage == "version":
        lines.write_bytes(data.replace(b'"format": 1', b'"format": 0', 1))
        words = "another version"
    else:
        lines.write_bytes(b"")
        words = "no first line"
    with pytest.raises(fa.RunError, match=words):
        descend(resume(copy))


def test_a_full_disk_leaves_the_run_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path / "run")
    run.value(run.start)
    calls: list[int] = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:  # the numbers are there, the line may be not
            raise OSError(28, "No space left on device")

    before = (tmp_path / "run" / "history.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(run_folder.os, "fsync", full)
        patch.setattr(run_folder, "SECONDS", 0.0)
        with pytest.raises(fa.RunError, match="the run cannot be written: No space left"):
            run.value(run.start + 0.1)
    assert (tmp_path / "run" / "history.jsonl").read_bytes() == before
    assert len(run.history) == 1
    value = run.value(run.start + 0.1)
    run.close()
    with resume(tmp_path / "run") as again:
        assert again.value(again.start + 0.1) == value
        assert again.counts.solves == 0


# ---------------------------------------------------------------------- pictures and shapes
def test_picture(whole: tuple[Path, np.ndarray, int], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    copy = tmp_path / "run"
    shutil.copytree(whole[0], copy)
    with resume(copy) as run:
        assert run.plot() == copy / "history.png"
        assert (copy / "history.png").stat().st_size > 20_000
        assert run.counts.solves == 0
    empty = begin()
    assert empty.plot(tmp_path / "empty.png").exists()


def test_shapes(whole: tuple[Path, np.ndarray, int], tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(whole[0], copy)
    with resume(copy) as run:
        series = run.write_shapes()
        assert series == copy / "shapes.pvd"
        sets = ET.parse(series).getroot().findall("Collection/DataSet")
        assert [int(each.attrib["timestep"]) for each in sets] == list(run.improving)
        for each, number in zip(sets, run.improving, strict=True):
            grid = meshio.read(copy / each.attrib["file"])
            points = run.design(number).points
            np.testing.assert_array_equal(grid.points[:, :2], points)
            np.testing.assert_array_equal(grid.point_data["movement"][:, :2], points - mesh().points)
            quality = np.concatenate(grid.cell_data["quality"])
            assert quality.min() == pytest.approx(run.history[number].quality)
        assert run.counts.solves == 0
        metric = fa.HelmholtzFilter(mesh(), 0.2)
        best = run.improving[-1]
        solved = run.write_shapes(tmp_path / "solved.pvd", [0, best], solve=True, metric=metric)
        assert run.counts.solves == 2
        names = [each.attrib["file"] for each in ET.parse(solved).getroot().findall("Collection/DataSet")]
        assert names == ["solved/design_00000.vtu", f"solved/design_{best:05d}.vtu"]
        grid = meshio.read(tmp_path / names[1])
        solution = run.problem.solve(run.design(best).points)
        gradient = fa.value_and_gradient(solution, fa.Volume())[1]
        np.testing.assert_allclose(grid.point_data["displacement"][:, :2], solution.u, atol=1e-12)
        np.testing.assert_allclose(grid.point_data["d(Volume)/dX"][:, :2], gradient.points, atol=1e-12)
        riesz = grid.point_data["d(Volume)/dX riesz"][:, :2]
        np.testing.assert_allclose(riesz, metric.riesz(gradient), atol=1e-10)
        answered = [r.number for r in run.history.records if r.failure is None]
        for designs, numbers in (("all", answered), (3, [n for n in answered if n % 3 == 0])):
            sets = ET.parse(run.write_shapes(tmp_path / "some.pvd", designs)).getroot().findall("Collection/DataSet")
            assert [int(each.attrib["timestep"]) for each in sets] == numbers
        for bad in ("best", [len(run.history)], 0, 1.5):
            with pytest.raises(fa.ProblemError):
                run.write_shapes(tmp_path / "bad.pvd", bad)  # type: ignore[arg-type]
        with pytest.raises(fa.MeshFileError, match=r"\.pvd"):
            run.write_shapes(tmp_path / "bad.vtu")
    assert N == 4
