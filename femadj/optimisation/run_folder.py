"""A run on the disk: lines of JSON that are only ever added to, beside one file of numbers, and one writer at a time.

``history.jsonl`` begins with a line that says what the run is of. Then there is a line for every design and for every
set of gradients, with the place of their numbers in ``designs.bin`` (float64, little endian: of a design its variables,
of gradients all rows). Numbers are on the disk before the line that tells of them. What an interruption
leaves behind is therefore at most numbers that no line tells of, and a last line that does not end: both are cut off
when the run is taken up again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
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


class RunFolder:
    """The files of a run, open for writing; made by ``new_run`` and ``earlier_run``."""

    def __init__(self, folder: Path, lock: BinaryIO, lines: list[dict[str, Any]], ends: tuple[int, int]) -> None:
        self._folder, self._lock = folder, lock
        self._designs = {int(line["design"]): line for line in lines if "design" in line}
        self._gradients = {int(line["gradients"]): line for line in lines if "gradients" in line}
        self._lines, self._numbers = (
            _opened(folder / name, end) for name, end in zip((LINES, NUMBERS), ends, strict=True)
        )

    # ------------------------------------------------------------------ writing
    def add(self, record: Record, z: FloatArray) -> None:
        """Keep a design: numbers first, then the line."""
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
            **self._kept(z),
        }
        self._tell(line)
        self._designs[record.number] = line

    def add_slopes(self, number: int, slopes: FloatArray) -> None:
        """Keep gradients: numbers first, then the line."""
        line = {"gradients": number, "shape": list(slopes.shape), **self._kept(slopes.ravel())}
        self._tell(line)
        self._gradients[number] = line

    def _kept(self, numbers: FloatArray) -> dict[str, int]:
        data = numbers.astype("<f8").tobytes()
        return {"at": _write(self._numbers, data), "bytes": len(data), "crc": crc32(data)}

    def _tell(self, line: Mapping[str, Any]) -> None:
        _write(self._lines, (json.dumps(line, allow_nan=False) + "\n").encode())

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
        self._numbers.seek(line["at"])
        data = self._numbers.read(line["bytes"])
        if len(data) != line["bytes"] or crc32(data) != line["crc"]:
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
    *whole, rest = (path / LINES).read_bytes().split(b"\n")
    if not whole:
        raise _damaged(path / LINES, "it has no first line")
    size = (path / NUMBERS).stat().st_size if (path / NUMBERS).is_file() else 0
    about = _line(whole[0], path, 1)
    if about.get("format") != FORMAT:
        raise RunError(f"{path / LINES} was written by another version of femadj: begin anew in another folder")
    lines: list[dict[str, Any]] = []
    end, numbers = len(whole[0]) + 1, 0
    for count, text in enumerate(whole[1:], start=2):
        line = _line(text, path, count)
        if line["at"] + line["bytes"] > size:
            raise _damaged(path / NUMBERS, f"it ends before the numbers that line {count} of {LINES} tells of")
        lines.append(line)
        end, numbers = end + len(text) + 1, line["at"] + line["bytes"]
    if rest or size > numbers:
        logging.getLogger("femadj").warning(
            "%s: the run was interrupted while it wrote; %d bytes that no whole line tells of are dropped, and what "
            "they were about is computed again",
            path,
            len(rest) + size - numbers,
        )
    return about, lines, (end, numbers)


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


def _write(file: BinaryIO, data: bytes) -> int:
    """Add to a file and wait for the disk; gives the place. RunError where it is full, with the file as it was."""
    _require_open(file)
    at = file.seek(0, os.SEEK_END)
    try:
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())
    except OSError as cause:
        with contextlib.suppress(OSError):
            file.truncate(at)
        raise RunError(f"{file.name} cannot be written: {cause.strerror or cause}") from cause
    return at


def _require_open(file: BinaryIO) -> None:
    if file.closed:
        raise RunError("this run has been closed: take it up again by Reduced.resume(folder, problem, ...)")
