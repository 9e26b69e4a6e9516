"""Backward sweeps over many steps with few states in memory: binomial checkpointing.

States that are not kept are stepped to again from the last one that is; where to keep them is the schedule of A.
Griewank and A. Walther, "Algorithm 799: Revolve", ACM Trans. Math. Softw. 26 (2000), which takes the fewest steps.
A step gives the same numbers whenever it is taken, if its solver does, so that gradients do not depend on what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import comb
from pathlib import Path

import numpy as np

from femadj.algebra.stepping import Stepper
from femadj.base.arrays import FloatArray
from femadj.errors import CheckpointError, FemadjError
from femadj.io.atomic import complete_file

_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}  # fmt: skip

BESIDE = 5
"""States in memory beside those that are kept: the last two, the one after the step that is reversed, and the two that
a step is taken between."""


def bytes_of(size: int | str, what: str, error: type[FemadjError]) -> int:
    """A size in bytes, of a number or a text such as ``"2 GiB"``."""
    number, unit = str(size).strip(), ""
    if isinstance(size, str):
        unit = number.lstrip("0123456789.").strip()
        number = number[: len(number) - len(unit)].strip()
    try:
        found = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        raise error(f"{what} must be a number of bytes or a text like '2 GiB', not {size!r}") from None
    if isinstance(size, bool) or not 0 < found < np.inf:
        raise error(f"{what} must be positive and finite, not {size!r}")
    return int(found)


def written(n_bytes: int) -> str:
    """A size for people."""
    unit = next(u for u in ("TiB", "GiB", "MiB", "KiB", "B") if n_bytes >= _UNITS[u] or u == "B")
    return f"{n_bytes / _UNITS[unit]:.4g} {unit}"


# ---------------------------------------------------------------------- the schedule
@dataclass(frozen=True)
class Schedule:
    """Where states are kept.

    Attributes
    ----------
    steps : int
    kept : int
        States that are kept at a time, the first one included, and the last two not.
    """

    steps: int
    kept: int

    @classmethod
    def within(cls, steps: int, state_bytes: int, budget: int | None) -> Schedule:
        """As many states as a budget of memory holds, beside those that are there in any case."""
        if budget is None:
            return cls(steps, steps)
        kept = min(steps, budget // state_bytes - BESIDE)
        if kept < 1:
            least = (BESIDE + 1) * state_bytes
            raise CheckpointError(
                f"memory={written(budget)} is too little: one state takes {written(state_bytes)}, and {BESIDE + 1} "
                f"must fit. Give at least {written(least)}"
            )
        return cls(steps, kept)

    @property
    def further(self) -> int:
        """Steps that a backward sweep takes again, beside those of the forward sweep."""
        return fewest(self.steps, self.kept) - (self.steps - 1)

    @property
    def complete(self) -> bool:
        """Whether all states are kept."""
        return self.kept >= self.steps

    def __str__(self) -> str:
        if self.complete:
            return f"all {self.steps} states in memory"
        return (
            f"{self.kept} of {self.steps} states in memory: {self.further / self.steps:.1f} further forward sweeps for "
            "the backward one"
        )


def _most(kept: int, times: int) -> int:
    """Steps that can be reversed with so many states kept when none is taken more often than so many times."""
    return comb(kept + times, kept) if kept >= 0 and times >= 0 else 0


def _times(steps: int, kept: int) -> int:
    """How often a step is taken at most."""
    times = 0
    while _most(kept, times) < steps:
        times += 1
    return times


def fewest(steps: int, kept: int) -> int:
    """Steps that are taken to reverse a stretch, the first pass over it included and the last step of it not."""
    times = _times(steps, kept)
    return times * steps - comb(kept + times, kept + 1)


def advance(steps: int, kept: int) -> int:
    """How far to go in a stretch before the next state is kept; the one at its start counts among ``kept``."""
    if kept == 1:
        return steps - 1
    times = _times(steps, kept)
    return max(1, min(_most(kept, times - 1), steps - _most(kept - 1, times - 1)))


# ---------------------------------------------------------------------- what is kept
@dataclass(frozen=True, eq=False)
class Folder:
    """Files of a run, which a later run of the same equations goes on from.

    Attributes
    ----------
    path : Path
    key : str
        Checksum of all that states depend on.
    """

    path: Path
    key: str

    def begin(self) -> None:
        """Take a folder that is empty or belongs to the same run; CheckpointError for another one's."""
        mark = self.path / "run.txt"
        if mark.is_file() and mark.read_text(encoding="utf-8").strip() == self.key:
            for unfinished in self.path.glob(".*.part*"):
                unfinished.unlink(missing_ok=True)
            return
        if self.path.exists() and any(not path.name.startswith(".") for path in self.path.iterdir()):
            raise CheckpointError(
                f"{self.path} holds something else than this run (another design, other parameters, loads, times or "
                "scheme): give another folder, or empty this one"
            )
        with complete_file(mark, CheckpointError) as partial:
            partial.write_text(self.key, encoding="utf-8")

    def write(self, name: str, **arrays: FloatArray) -> None:
        """Write arrays to a file that is complete or not there."""
        with complete_file(self.path / f"{name}.npz", CheckpointError) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def read(self, name: str) -> dict[str, FloatArray] | None:
        """Arrays of a file, None where there is none; CheckpointError for one that cannot be read."""
        path = self.path / f"{name}.npz"
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as data:
                return {key: np.asarray(data[key]) for key in data.files}
        except Exception as cause:  # whatever a damaged archive raises
            raise CheckpointError(f"{path} is damaged ({cause}): remove it, or the folder") from cause

    def numbers(self) -> list[int]:
        """Which states an earlier run has left, ascending."""
        return sorted(int(path.stem.removeprefix("state-")) for path in self.path.glob("state-*.npz"))

    def state(self, k: int) -> FloatArray:
        """A state that an earlier run has left."""
        found = self.read(_name(k))
        if found is None or "y" not in found:
            raise CheckpointError(f"{self.path / _name(k)}.npz holds no state: remove it")
        return found["y"]

    def remove(self, k: int) -> None:
        """Remove a state."""
        (self.path / f"{_name(k)}.npz").unlink(missing_ok=True)


def _name(k: int) -> str:
    return f"state-{k:08d}"


@dataclass(frozen=True, eq=False)
class Snapshots:
    """States that are kept, by the number of steps before them, in memory and in a folder if there is one.

    Attributes
    ----------
    schedule : Schedule
    folder : Folder or None
    states : dict
    """

    schedule: Schedule
    folder: Folder | None = None
    states: dict[int, FloatArray] = field(default_factory=dict)

    @classmethod
    def of(cls, schedule: Schedule, folder: Folder | None) -> Snapshots:
        """Those of an earlier run, where the folder has some; no more than are to be kept."""
        if folder is None:
            return cls(schedule)
        found = folder.numbers()
        last = [k for k in found if k == schedule.steps]
        last += [k for k in found if k == schedule.steps - 1 and 0 in found]
        inner = [k for k in found if k < schedule.steps - 1] if 0 in found else []
        chosen = inner if len(inner) <= schedule.kept else [*inner[:1], *inner[len(inner) - schedule.kept + 1 :]]
        for k in set(found) - {*chosen, *last}:
            folder.remove(k)
        return cls(schedule, folder, {k: folder.state(k) for k in (*chosen, *last)})

    @property
    def left(self) -> int:
        """How many more may be kept; the last two do not count."""
        return self.schedule.kept - sum(k < self.schedule.steps - 1 for k in self.states)

    def before(self, end: int) -> tuple[int, FloatArray]:
        """The last one before a number of steps."""
        k = max(k for k in self.states if k < end)
        return k, self.states[k]

    def keep(self, k: int, y: FloatArray) -> None:
        """Keep one."""
        if k in self.states:
            return
        if self.folder is not None:
            self.folder.write(_name(k), y=y)
        self.states[k] = y

    def drop(self, k: int) -> None:
        """Give one up that is not needed any more; the first and the last two stay, and all where all are kept."""
        if not 0 < k < self.schedule.steps - 1 or self.schedule.complete:
            return
        if self.states.pop(k, None) is not None and self.folder is not None:
            self.folder.remove(k)


# ---------------------------------------------------------------------- the sweeps
Visit = Callable[[int, FloatArray, FloatArray], None]
"""Called with the number of a step and the states before and after it."""


def march(stepper: Stepper, snapshots: Snapshots, visit: Visit = lambda k, y, new: None) -> None:
    """Go to the end, from the last state that is kept, and keep states for the way back, and the last two.

    ``visit`` is called for the steps that are taken.
    """
    steps = snapshots.schedule.steps
    if not snapshots.states:
        snapshots.keep(0, stepper.first())
    if steps in snapshots.states:
        return
    at, y = snapshots.before(steps)
    while at < steps:
        to = at + advance(steps - at, snapshots.left + 1) if steps - at > 1 else steps
        for k in range(at, to):
            new = stepper.step(y, k)
            visit(k, y, new)
            y = new
        if snapshots.left > 0 or to >= steps - 1:
            snapshots.keep(to, y)
        at = to


def pairs(stepper: Stepper, snapshots: Snapshots, wanted: set[int]) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """The states before and after some steps, in ascending order; what is not kept is stepped to again."""
    last = -1, np.zeros(0)
    for k in sorted(wanted):
        at, y = snapshots.before(k + 1)
        if at < last[0] <= k:
            at, y = last
        for number in range(at, k):
            y = stepper.step(y, number)
        new = snapshots.states[k + 1] if k + 1 in snapshots.states else stepper.step(y, k)
        last = k + 1, new
        yield k, y, new


def reverse(stepper: Stepper, snapshots: Snapshots, end: int, visit: Visit) -> None:
    """Call ``visit(k, y_k, y_(k+1))`` for ``k = end - 1 .. 0``.

    Where the way back has begun already and was cut off, ``end`` is where it goes on.
    """
    new = snapshots.states.get(end)
    for k in sorted(snapshots.states):
        if k > end:
            snapshots.drop(k)
    while end > 0:
        at, y = snapshots.before(end)
        while end - at > 1:
            to = at + advance(end - at, snapshots.left + 1)
            for k in range(at, to):
                y = stepper.step(y, k)
            at = to
            if snapshots.left > 0:
                snapshots.keep(at, y)
        visit(end - 1, y, stepper.step(y, end - 1) if new is None else new)
        new, end = y, end - 1
        snapshots.drop(end)
