"""Binomial checkpointing: fewest steps, the same bits, and runs that go on where they were killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import femadj as fa
from femadj.algebra.checkpoint import Folder, Schedule, Snapshots, advance, bytes_of, fewest, march, pairs, reverse
from femadj.errors import CheckpointError
from tests.meshes import box_mesh
from tests.test_transient import MESH, PROBLEMS, STEEL, responses

ROOT = Path(__file__).resolve().parent.parent


class Interrupted(BaseException):
    """Stands for a kill."""


class Counter:
    """States count the steps before them."""

    def __init__(self, stop: int = -1) -> None:
        self.taken, self.stop = 0, stop

    def first(self) -> Any:
        return np.zeros(1)

    def step(self, y: Any, k: int) -> Any:
        assert y[0] == k
        if self.taken == self.stop:
            raise Interrupted
        self.taken += 1
        return y + 1

    def back(self, *arguments: Any) -> Any:
        raise NotImplementedError

    back_first = back


class Widest(dict[int, Any]):
    """Remembers how many entries it had."""

    most = 0

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.most = max(self.most, len(self))


# ------------------------------------------------------------------ the schedule
@cache
def cost(steps: int, kept: int) -> int:
    """Fewest steps to reverse a stretch, by trying every place for the next state."""
    if steps <= 1:
        return 0
    if kept == 1:
        return steps * (steps - 1) // 2
    return min(k + cost(steps - k, kept - 1) + cost(k, kept) for k in range(1, steps))


def test_the_schedule_is_as_good_as_any() -> None:
    for kept in range(1, 7):
        for steps in range(1, 60):
            assert fewest(steps, kept) == cost(steps, kept)
            if steps > 1 and kept > 1:
                k = advance(steps, kept)
                assert k + cost(steps - k, kept - 1) + cost(k, kept) == cost(steps, kept)


@pytest.mark.parametrize("steps", [1, 2, 7, 53, 200])
@pytest.mark.parametrize("kept", [1, 2, 3, 10, 60, 200])
def test_every_step_is_reversed_once_with_as_few_steps_as_promised(steps: int, kept: int) -> None:
    schedule, stepper, seen = Schedule(steps, min(kept, steps)), Counter(), []
    snapshots = Snapshots(schedule, None, Widest())
    march(stepper, snapshots)
    assert stepper.taken == steps

    def visit(k: int, y: Any, new: Any) -> None:
        assert (y[0], new[0]) == (k, k + 1)
        seen.append(k)

    reverse(stepper, snapshots, steps, visit)
    assert seen == list(range(steps))[::-1]
    assert stepper.taken == steps + schedule.further
    assert snapshots.states.most <= schedule.kept + 2  # type: ignore[attr-defined]
    seen.clear()
    reverse(stepper, snapshots, steps, visit)  # a second time, from what has been left
    assert len(seen) == steps


def test_states_are_read_again_in_one_sweep() -> None:
    stepper, snapshots = Counter(), Snapshots(Schedule(20, 3))
    march(stepper, snapshots)
    before = stepper.taken
    found = [(k, y[0], new[0]) for k, y, new in pairs(stepper, snapshots, {4, 5, 11, 19})]
    assert found == [(k, k, k + 1) for k in (4, 5, 11, 19)]
    assert stepper.taken - before <= 20


def test_costs_are_said_in_words() -> None:
    assert str(Schedule(40, 10)) == "10 of 40 states in memory: 0.7 further forward sweeps for the backward one"
    assert str(Schedule(40, 40)) == "all 40 states in memory"
    assert Schedule.within(40, 1000, 15_000) == Schedule(40, 10)
    assert Schedule.within(40, 1000, None) == Schedule(40, 40)
    with pytest.raises(CheckpointError, match=r"one state takes 1000 B, and 6 must fit. Give at least 5.859 KiB"):
        Schedule.within(40, 1000, 3_900)


@pytest.mark.parametrize(("text", "size"), [("2 GiB", 2**31), ("1.5kB", 1500), (77, 77), ("3", 3), ("4 MB", 4_000_000)])
def test_sizes(text: Any, size: int) -> None:
    assert bytes_of(text, "memory", CheckpointError) == size


@pytest.mark.parametrize("text", ["much", "2 GiBs", "", 0, -1, np.nan, np.inf, "1e3 B", True, None])
def test_sizes_that_are_none(text: Any) -> None:
    with pytest.raises(CheckpointError, match="memory must be"):
        bytes_of(text, "memory", CheckpointError)


# ------------------------------------------------------------------ cut off, and on again
def note(seen: list[int], k: int, y: Any, new: Any) -> None:
    seen.append(k)


@pytest.mark.parametrize("kept", [2, 9])
def test_a_run_goes_on_wherever_it_was_cut_off(kept: int, tmp_path: Path) -> None:
    """Cut off after every number of steps; it never starts anew once the first state is kept."""
    schedule = Schedule(9, kept)
    total = 9 + schedule.further
    for stop in range(total):
        folder = Folder(tmp_path / f"{stop}", "key")
        seen: list[int] = []
        for stepper in (Counter(stop), Counter()):
            folder.begin()
            snapshots, end = Snapshots.of(schedule, folder), (9 if not seen else seen[-1])
            with suppress(Interrupted):
                march(stepper, snapshots)
                reverse(stepper, snapshots, end, partial(note, seen))
        assert seen == list(range(9))[::-1]
        assert stepper.taken < total or stop < advance(9, kept)
        assert {p.name for p in folder.path.iterdir()} >= {"run.txt", "state-00000000.npz", "state-00000009.npz"}


def test_folders_of_others_and_damaged_files(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "a", "key")
    folder.begin()
    (folder.path / ".x.part.npz").write_bytes(b"half")
    folder.begin()
    assert not list(folder.path.glob(".*"))
    with pytest.raises(CheckpointError, match="something else than this run"):
        Folder(folder.path, "another").begin()
    (folder.path / "state-00000000.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="is damaged"):
        Snapshots.of(Schedule(3, 3), folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        Folder(tmp_path / "file" / "deeper", "key").begin()


# ------------------------------------------------------------------ problems
def gradients_of(solution: fa.HistorySolution) -> list[Any]:
    """All gradients of two responses."""
    _, found = fa.values_and_gradients(solution, [responses(2)[0], responses(2)[3]])
    return [g.points for g in found] + [np.asarray(g.parameters[name]) for g in found for name in g.parameters]


@pytest.mark.parametrize("name", ["generalised alpha", "SDIRK2"])
def test_gradients_are_the_same_bit_by_bit_whatever_is_kept(name: str) -> None:
    make, scheme = PROBLEMS[name]
    problem, times = make(MESH, scheme), fa.Times(0.5, 12)
    state = 8 * scheme.rows * problem.n_unknowns
    stored = gradients_of(problem.solve(times=times))
    for kept in (1, 5):
        solution = problem.solve(times=times, memory=(kept + 5) * state)
        assert solution.snapshots.schedule == Schedule(12, kept)
        for a, b in zip(stored, gradients_of(solution), strict=True):
            np.testing.assert_array_equal(a, b)


def test_bits_are_the_same_in_problems_large_enough_for_threads() -> None:
    mesh = box_mesh("quad", (40, 40))
    tug = fa.WithHistory(fa.Traction("right", (0.0, 1.0)), np.cos)
    problem = fa.Transient(mesh, STEEL, [fa.Fixed("left")], [tug], times=fa.Times(0.5, 10))
    stored, response = problem.solve(), fa.AtTime(fa.FieldNorm(), 0.42)
    lean = problem.solve(memory=8 * 8 * 3 * problem.n_unknowns)
    a, b = (fa.value_and_gradient(each, response)[1] for each in (stored, lean))
    np.testing.assert_array_equal(a.points, b.points)


def test_values_that_are_watched_need_no_further_sweep() -> None:
    make, scheme = PROBLEMS["generalised alpha"]
    problem = make(MESH, scheme)
    watched = [fa.AtTime(fa.FieldNorm(), 0.31), fa.TimeIntegral(fa.FieldNorm())]
    expected = fa.values_and_gradients(problem.solve(), watched)[0]
    solution = problem.solve(memory=7 * 8 * 3 * problem.n_unknowns, observe=watched)
    solves = solution.factor.statistics.solves
    assert [each.value(solution) for each in watched] == list(expected)
    assert solution.factor.statistics.solves == solves
    assert fa.AtTime(fa.FieldNorm(), 0.31).value(solution) == expected[0]  # another one reads the states
    assert solution.factor.statistics.solves > solves


def test_the_cost_is_logged_and_named_beforehand(caplog: pytest.LogCaptureFixture) -> None:
    make, scheme = PROBLEMS["SDIRK2"]
    problem = make(MESH, scheme)
    with caplog.at_level("INFO", logger="femadj"):
        solution = problem.solve(memory=7 * 8 * scheme.rows * problem.n_unknowns)
    words = "2 of 6 states in memory: 0.5 further forward sweeps"
    assert words in caplog.text
    assert words in repr(solution)
    assert any(words in phase for phase in solution.seconds)


def test_what_does_not_fit_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, scheme = PROBLEMS["SDIRK2"]
    problem = make(MESH, scheme)
    with pytest.raises(CheckpointError, match=r"7 states take 1.969 KiB, and disk='1 kB' is 1000 B"):
        problem.solve(folder=tmp_path / "run", disk="1 kB")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5))
        with pytest.raises(CheckpointError, match=r"free in .* are 5 B"):
            problem.solve(folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    problem.solve(folder=tmp_path / "run", disk="1 MB")
    with pytest.raises(CheckpointError, match="something else than this run"):
        problem.solve(MESH.points + 1.0, folder=tmp_path / "run")


RUN = """
import sys
sys.path.insert(0, {root!r})
from tests.test_checkpoint import gradients_of, long_run
gradients_of(long_run(sys.argv[1]))
"""


def long_run(folder: str | Path | None) -> fa.HistorySolution:
    """A run of many steps."""
    make, scheme = PROBLEMS["generalised alpha"]
    problem = make(MESH, scheme)
    return problem.solve(times=fa.Times(0.9, 30), folder=folder, memory=13 * 8 * 3 * problem.n_unknowns)


@pytest.mark.skipif(sys.platform == "win32", reason="kills in the way of POSIX systems")
def test_a_killed_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """Killed at a random moment, of the way there or of the way back, another one each time that this runs."""
    rng = np.random.default_rng()
    mark = str(rng.choice(["run.txt", "state-00000009.npz", "back-points-*.npz", "back-parameters-*.npz"]))
    command = [sys.executable, "-c", RUN.format(root=str(ROOT)), str(tmp_path / "run")]
    run = subprocess.Popen(command, env={**os.environ})
    expected = gradients_of(long_run(None))
    end = time.monotonic() + 120
    while not list((tmp_path / "run").glob(mark)) and run.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.05))
    run.kill()
    run.wait()
    assert (tmp_path / "run" / "run.txt").exists()
    for a, b in zip(expected, gradients_of(long_run(tmp_path / "run")), strict=True):
        np.testing.assert_array_equal(a, b)
