"""Text of mesh files: lines, numbers, and files that include others, bounded by what is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import MeshFileError

IntArray = npt.NDArray[np.int64]

BLOCK = 1 << 20
"""Bytes that are looked at together."""

INCLUSIONS = 10
"""How often a file may be included: more is a loop or a mistake, and each costs the time of reading it."""

EXACT = 2.0**53
"""Whole numbers from here on are not all represented."""

_EXPONENT = bytes.maketrans(b"dD", b"ee")
_COMMA = bytes.maketrans(b",", b" ")


def numbers(text: bytes | str, dtype: type, where: str, first_line: int | None = None) -> npt.NDArray[Any]:
    """Read white-space separated numbers.

    Warning filters are left alone, so that files may be read in threads. With the number of the first line, messages
    name the one that is wrong.

    Raises
    ------
    MeshFileError
        For anything that is not a number, or no integer of 64 bits; ``where`` opens the message.
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    if not data.strip():
        return np.empty(0, dtype=dtype)
    kind = "integers" if dtype is np.int64 else "numbers"
    try:
        values: npt.NDArray[Any] = np.fromstring(data, dtype=dtype, sep=" ")
    except (DeprecationWarning, ValueError) as error:  # the one of older, the other of newer versions of NumPy
        raise MeshFileError(f"{where}{_bad_word(data, first_line)}: expected {kind}, found something else") from error
    starts, lengths = _words(data)
    if len(values) != len(starts):
        raise MeshFileError(f"{where}{_bad_word(data, first_line)}: expected {kind}, found something else")
    if dtype is np.int64 and lengths.max(initial=0) > 18:
        raise MeshFileError(f"{where}: an integer of {lengths.max()} characters is too large")
    return values


def _bad_word(data: bytes, first_line: int | None) -> str:
    """Where the first word stands that is no number."""
    if first_line is None:
        return ""
    for number, line in enumerate(data.split(b"\n"), start=first_line):
        if not all(_NUMBER.fullmatch(word) for word in line.split()):
            return f", line {number}"
    return ""


def _words(data: bytes) -> tuple[IntArray, IntArray]:
    """Where the words of a text start, and how long they are."""
    blank = np.frombuffer(data, np.uint8) <= 32
    edges = np.diff(np.concatenate([[True], blank, [True]]).view(np.int8))
    starts = np.flatnonzero(edges == -1)
    return starts, np.flatnonzero(edges == 1) - starts


def whole(values: FloatArray, what: str, where: str) -> IntArray:
    """Integers that were read as floating-point numbers.

    Raises
    ------
    MeshFileError
        Naming the first that is no whole number.
    """
    with np.errstate(invalid="ignore"):
        bad = ~((values == np.rint(values)) & (np.abs(values) < EXACT))
    if bad.any():
        raise MeshFileError(f"{where}: {what} {values[bad][0]:.10g} is no whole number")
    return values.astype(np.int64)


class Fields(NamedTuple):
    """Numbers in fields that commas part.

    Attributes
    ----------
    values : (n,) float64
        Zero where a field is empty.
    filled : (n,) bool, or None when all are.
    counts : (n_lines,)
        Fields of each line up to its last number; blank lines have none.
    """

    values: FloatArray
    filled: npt.NDArray[np.bool_] | None
    counts: IntArray


def fields(data: bytes, first_line: int, path: Path) -> Fields:
    """Read lines of numbers parted by commas.

    Raises
    ------
    MeshFileError
        Naming file and line of a field that is no number.
    """
    if not data.endswith(b"\n"):
        data += b"\n"
    raw = np.frombuffer(data, np.uint8)
    end = raw == 10
    separator = end | (raw == 44)
    blank = separator | (raw <= 32)
    start = ~blank
    start[1:] &= blank[:-1]
    at = np.flatnonzero(start)
    number = np.cumsum(separator)
    field_of = number[at]  # separators before a word: the number of its field
    text = data.translate(_EXPONENT).translate(_COMMA)
    try:
        values = np.fromstring(text, np.float64, sep=" ") if len(at) else np.empty(0)
    except (DeprecationWarning, ValueError):
        values = np.empty(0)
    if len(values) != len(at) or np.any(field_of[1:] == field_of[:-1]):
        raise _bad_field(data, first_line, path)
    last = number[end]  # number of fields up to the end of each line
    n_fields = int(last[-1])
    held = np.searchsorted(field_of, last)  # words up to the end of each line
    starts = np.concatenate([[0], last[:-1]])
    words = np.diff(np.concatenate([[0], held]))
    used = field_of[np.maximum(held - 1, 0)] + 1 - starts if len(at) else np.zeros(len(last), np.int64)
    counts = np.where(words > 0, used, 0).astype(np.int64)
    if np.array_equal(counts, words):  # nothing left out within a line
        return Fields(values, None, counts)
    full = np.zeros(n_fields)
    full[field_of] = values
    filled = np.zeros(n_fields, dtype=bool)
    filled[field_of] = True
    inside = np.arange(n_fields) - np.repeat(starts, last - starts) < np.repeat(counts, last - starts)
    return Fields(full[inside], filled[inside], counts)


_NUMBER = re.compile(
    rb"\s*(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?|[+-]?(?:inf|nan)(?:inity)?)?\s*", re.IGNORECASE
)


def _bad_field(data: bytes, first_line: int, path: Path) -> MeshFileError:
    for number, line in enumerate(data.split(b"\n"), start=first_line):
        for word in line.split(b","):
            if not _NUMBER.fullmatch(word):
                shown = word.strip()[:40].decode("latin-1")
                return MeshFileError(f"{path}, line {number}: expected numbers, found {shown!r}")
    return MeshFileError(f"{path}, line {first_line}: expected numbers, found something else")


def blocks_of(path: Path) -> Iterator[bytes]:
    """A file in blocks that end where lines do; lines end with LF, CR LF or CR, and nothing else."""
    rest = b""
    with path.open("rb") as file:
        while data := file.read(BLOCK):
            data = rest + data
            cut = data.rfind(b"\n") + 1
            if not cut:
                cut = data.rfind(b"\r", 0, len(data) - 1) + 1  # a CR at the very end may be half of CR LF
            rest = data[cut:]
            if cut:
                yield _unix(data[:cut])
            elif len(rest) > 16 * BLOCK:
                raise MeshFileError(f"{path}: a line of {len(rest)} bytes; this is no text file")
    if rest:
        yield _unix(rest)


def _unix(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def text_lines(path: Path) -> list[str]:
    """Lines of a text file, in UTF-8 or a western code page."""
    data = _unix(path.read_bytes())
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # comments in a western code page; the data are ASCII
    lines = text.split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


@dataclass
class Inclusions:
    """The files that one file includes, and how often."""

    root: Path
    _trail: list[Path] = field(default_factory=list)
    _counts: dict[Path, int] = field(default_factory=dict)

    def enter(self, path: Path, where: str) -> None:
        """Begin to read a file.

        Raises
        ------
        MeshFileError
            For a file that includes itself, directly or not, and one that is included again and again.
        """
        real = path.resolve()
        if real in self._trail:
            raise MeshFileError(f"{where}: {path} includes itself")
        if len(self._trail) > 50:
            raise MeshFileError(f"{where}: files that include each other more than 50 deep")
        self._counts[real] = self._counts.get(real, 0) + 1
        if self._counts[real] > INCLUSIONS:
            raise MeshFileError(f"{where}: {path} is included more than {INCLUSIONS} times")
        self._trail.append(real)

    def leave(self) -> None:
        """End with the file that was entered last."""
        self._trail.pop()

    def find(self, base: Path, name: str, where: str) -> Path:
        """The file that a name in file ``base`` means: next to it, or next to the first file.

        Raises
        ------
        MeshFileError
            Without such a file.
        """
        clean = name.strip().replace("\\", "/")
        try:
            for folder in (base.parent, self.root.parent):
                path = folder / clean
                if clean and path.is_file():
                    return path
        except (OSError, ValueError):  # a name that no file can have
            pass
        raise MeshFileError(f"{where}: the file {name[:200]!r} that it includes does not exist next to {base}")
