"""A run on the disk: lines of JSON that are only ever added to, beside one file of numbers, and one writer at a time.

``history.jsonl`` begins with a line that says what the run is of. Then there is a line for every design and for every
set of gradients, with the place of their numbers in ``designs.bin`` (float64, little endian: of a design its variables,
of gradients all rows). Numbers are written before the line that tells of them. What a kill leaves behind is therefore
at most numbers that no line tells of, and a last line that does not end. Once in a while both files are brought onto
the disk; each line says how many before it are there. What a loss of power leaves behind may also be later lines whose
numbers are missing, which their checksums tell. All these are cut off when the run is taken up again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np

from femadj.base.arguments import path_of
from femadj.base.arrays import FloatArray
from femadj.errors import RunError
from femadj.io.atomic import complete_file
from femadj.optimisation.failures import packed, unpacked
from femadj.optimisation.history import History, Record, key_of, number_of, plain

try:
    import fcntl
except ImportError:  # no such locks on this system: two processes are not told apart
    fcntl = None  # type: ignore[assignment]

LINES, NUMBERS, LOCK = "history.jsonl", "designs.bin", "lock"

FORMAT = 1

SECONDS = 1.0
"""How often files are brought onto the disk at most: it takes some milliseconds, which a design may not take."""


class RunFolder:
    """The files of a run, open for writing; made by ``new_run`` and ``earlier_run``."""

    def __init__(self, folder: Path, lock: BinaryIO, lines: list[dict[str, Any]], ends: tuple[int, int]) -> None:
        self._folder, self._lock = folder, lock
        self._designs = {int(line["design"]): line for line in lines if "design" in line}
        self._gradients = {int(line["gradients"]): line for line in lines if "gradients" in line}
        self._count, self._safe, self._waited = len(lines), 0, -np.inf
        self._lines, self._numbers = _opened(folder / LINES, ends[0]), _opened(folder / NUMBERS, ends[1])

    # ------------------------------------------------------------------ writing
    def add(self, record: Record, z: FloatArray) -> None:
        """Keep a design."""
        line = {
            "design": record.number,
            "values": [plain(value) for value in record.values],
            "failure": None if record.failure is None else packed(record.failure),
            "step": plain(record.step),
            "quality": plain(record.quality),
            "factorisations": record.factorisations,
            "iterations": record.iterations,
            "seconds": round(record.seconds, 6),
            "key": key_of(z),
        }
        with self._whole_or_not():
            whole = self._written(line, z)
            if monotonic() - self._waited >= SECONDS:
                self._wait()
        self._designs[record.number] = whole

    def add_slopes(self, number: int, slopes: FloatArray) -> None:
        """Keep gradients."""
        with self._whole_or_not():
            whole = self._written({"gradients": number, "shape": list(slopes.shape)}, slopes.ravel())
        self._gradients[number] = whole

    def _written(self, line: Mapping[str, Any], numbers: FloatArray) -> dict[str, Any]:
        data = numbers.astype("<f8").tobytes()
        at = self._numbers.seek(0, os.SEEK_END)
        whole = {**line, "safe": self._safe, "at": at, "bytes": len(data), "crc": crc32(data)}
        text = json.dumps(whole, allow_nan=False) + "\n"
        for file, part in ((self._numbers, data), (self._lines, text.encode())):
            left = memoryview(part)
            while left:
                left = left[file.write(left) :]
        self._count += 1
        return whole

    def _wait(self) -> None:
        """Until all that has been written is on the disk."""
        for file in (self._numbers, self._lines):
            os.fsync(file.fileno())
        self._safe, self._waited = self._count, monotonic()

    @contextlib.contextmanager
    def _whole_or_not(self) -> Iterator[None]:
        """RunError where the disk is full, with both files as they were."""
        _require_open(self._lines)
        ends, count = [(file, file.seek(0, os.SEEK_END)) for file in (self._numbers, self._lines)], self._count
        try:
            yield
        except OSError as cause:
            self._count = count
            with contextlib.suppress(OSError):
                for file, end in ends:
                    file.truncate(end)
            raise RunError(f"{self._folder}: the run cannot be written: {cause.strerror or cause}") from cause

    # ------------------------------------------------------------------ reading
    def variables(self, number: int) -> FloatArray:
        """Variables of a design."""
        return self._read(self._designs[number])

    def slopes(self, number: int) -> FloatArray | None:
        """Gradients of a design; None where they have not been asked for."""
        line = self._gradients.get(number)
        return None if line is None else self._read(line).reshape(line["shape"])

    def _read(self, line: Mapping[str, Any]) -> FloatArray:
        _require_open(self._numbers)
        data = _numbers(self._numbers, line)
        if data is None:
            raise _damaged(self._folder / NUMBERS, "numbers that a line tells of are not those that were written")
        array = np.frombuffer(data, "<f8").astype(np.float64)
        array.setflags(write=False)
        return array

    def records(self) -> list[Record]:
        """All designs that the lines tell of."""
        return [self._record(number) for number in range(len(self._designs))]

    def _record(self, number: int) -> Record:
        line = self._designs[number]
        return Record(
            number,
            tuple(number_of(value, np.inf) for value in line["values"]),
            None if line["failure"] is None else unpacked(line["failure"]),
            number_of(line["step"], np.nan),
            number_of(line["quality"], np.nan),
            int(line["factorisations"]),
            int(line["iterations"]),
            float(line["seconds"]),
            number in self._gradients,
        )

    @property
    def known(self) -> dict[str, int]:
        """Numbers of designs by the names of their variables."""
        return {line["key"]: number for number, line in self._designs.items()}

    def close(self) -> None:
        """Let go of the files, and of the folder."""
        for file in (self._lines, self._numbers, self._lock):
            file.close()


def new_run(folder: Any, about: Mapping[str, Any]) -> History:
    """Begin a run in a folder; RunError where there is one already."""
    path = path_of(folder, "folder", RunError)
    lock = _locked(path)
    try:
        if (path / LINES).exists():
            raise RunError(
                f"{path} holds a run already: go on with it by Reduced.resume(folder, problem, ...), or choose another "
                "folder"
            )
        (path / NUMBERS).write_bytes(b"")
        header = (json.dumps({"format": FORMAT, **about}, allow_nan=False) + "\n").encode()
        with complete_file(path / LINES, RunError) as partial:
            partial.write_bytes(header)
        return History(RunFolder(path, lock, [], (len(header), 0)))
    except BaseException:
        lock.close()
        raise


def earlier_run(folder: Any) -> tuple[History, Mapping[str, Any]]:
    """A run as it was left, and what its first line says that it is of.

    Raises
    ------
    RunError
        Where there is none, where another process is at work on it, and for files that are damaged before their end.
    """
    path = path_of(folder, "folder", RunError)
    if not (path / LINES).is_file():
        raise RunError(f"{path} holds no run: there is no {LINES} in it; begin one with Reduced(..., folder=...)")
    lock = _locked(path)
    try:
        about, lines, ends = _parsed(path)
        storage = RunFolder(path, lock, lines, ends)
        return History(storage, storage.records(), storage.known), about
    except BaseException:
        lock.close()
        raise


def _parsed(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], tuple[int, int]]:
    """First line, all others that are whole, and where both files end with them."""
    *whole, _ = (path / LINES).read_bytes().split(b"\n")
    if not whole:
        raise _damaged(path / LINES, "it has no first line")
    about, *lines = [_line(text, path, count) for count, text in enumerate(whole, start=1)]
    if about.get("format") != FORMAT:
        raise RunError(f"{path / LINES} was written by another version of femadj: begin anew in another folder")
    if not (path / NUMBERS).is_file():
        raise _damaged(path / NUMBERS, "it is not there")
    lines = _answered(path, lines)
    ends = sum(len(text) + 1 for text in whole[: 1 + len(lines)]), max((_end(line) for line in lines), default=0)
    surplus = (path / LINES).stat().st_size - ends[0] + (path / NUMBERS).stat().st_size - ends[1]
    if surplus:
        logging.getLogger("femadj").warning(
            "%s: the run was interrupted while it wrote; %d bytes that do not belong to a whole line are dropped, and "
            "what they were about is computed again",
            path,
            surplus,
        )
    return about, lines, ends


def _answered(path: Path, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines whose numbers are there; RunError where some have none that were on the disk."""
    last = max((int(line["safe"]) for line in lines), default=0)
    with (path / NUMBERS).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for count, line in enumerate(lines[:last], start=2):
            if _end(line) > size:
                raise _damaged(path / NUMBERS, f"it ends before the numbers that line {count} of {LINES} tells of")
        there = [_numbers(file, line) is not None for line in lines[last:]]
    return lines[: last + (there.index(False) if False in there else len(there))]


def _numbers(file: BinaryIO, line: Mapping[str, Any]) -> bytes | None:
    """What a line tells of; None where it is not what was written."""
    file.seek(line["at"])
    data = file.read(line["bytes"])
    return data if len(data) == line["bytes"] and crc32(data) == line["crc"] else None


def _end(line: Mapping[str, Any]) -> int:
    return int(line["at"]) + int(line["bytes"])


def _line(text: bytes, path: Path, count: int) -> dict[str, Any]:
    try:
        line = json.loads(text)
        if not isinstance(line, dict):
            raise ValueError("no object")
        return line
    except ValueError as cause:
        raise _damaged(path / LINES, f"line {count} cannot be read ({cause})") from cause


def _damaged(path: Path, what: str) -> RunError:
    return RunError(f"{path} is damaged, not merely cut off: {what}. Restore both files, or begin anew elsewhere")


def _locked(folder: Path) -> BinaryIO:
    """The lock of a folder, which the system opens again however a process ends; RunError where another one has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+b", buffering=0)
    except OSError as cause:
        raise RunError(f"{folder} cannot be used: {cause.strerror or cause}") from cause
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            file.seek(0)
            owner = file.read().decode(errors="replace").strip()
            file.close()
            raise RunError(
                f"{folder}: process {owner or '?'} is at work on this run; end it, or close() it there, or choose "
                "another folder"
            ) from cause
    file.truncate(0)
    file.write(str(os.getpid()).encode())
    return file


def _opened(path: Path, end: int) -> BinaryIO:
    """A file to read and to add to, cut off at its end."""
    try:
        file = path.open("r+b", buffering=0)
        file.truncate(end)
    except OSError as cause:
        raise RunError(f"{path} cannot be written: {cause.strerror or cause}") from cause
    return file


def _require_open(file: BinaryIO) -> None:
    if file.closed:
        raise RunError("this run has been closed: take it up again by Reduced.resume(folder, problem, ...)")
