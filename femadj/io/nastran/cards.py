"""Nastran bulk data as cards: free, small and large fields, tabs, continuations in any order, included files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from femadj.errors import MeshFileError
from femadj.io.text import EXACT, Inclusions, text_lines

_BEGIN = re.compile(r"\s*BEGIN\s*(?:BULK|SUPER|AUXMODEL|ARBMODEL|$)", re.IGNORECASE)
_INCLUDE = re.compile(r"\s*INCLUDE(?=[\s'\"=])[\s=]*", re.IGNORECASE)
_CASE_SET = re.compile(r"\s*SET\s+\d+\s*=", re.IGNORECASE)
_REAL = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eEdD]([+-]?\d{1,4})|([+-]\d{1,4}))?")
_PLAIN = re.compile(r"[+-]?\d*\.?\d+(?:[eE][+-]?\d{1,2})?", re.ASCII)
_SMALL = tuple(slice(i, i + 8) for i in range(8, 72, 8))
_LARGE = tuple(slice(i, i + 16) for i in range(8, 72, 16))

LINES_OF_NAME = 20
"""Lines over which the name of an included file may go."""

DATA_LINES = 5_000
"""Lines of one card; sets may be long, but not without end."""


@dataclass(slots=True)
class Card:
    """A card with its continuations.

    Attributes
    ----------
    name : str
        In capitals, without the star of large fields.
    data : list of str
        Fields after the name.
    """

    name: str
    data: list[str]
    path: Path
    line: int
    out: str = ""

    @property
    def where(self) -> str:
        """File, line and name, for messages."""
        return f"{self.path}, line {self.line}, {self.name}"

    def text(self, at: int) -> str:
        """A field; empty where the card is shorter."""
        return self.data[at] if at < len(self.data) else ""

    def integer(self, at: int, default: int | None = None) -> int:
        """A field that must be a whole number.

        Raises
        ------
        MeshFileError
            For anything else, and for an empty field without a default.
        """
        word = self.text(at)
        if word.isdecimal() and word.isascii() and len(word) < 16:
            return int(word)
        if not word and default is not None:
            return default
        return integer(word, f"{self.where}, field {at + 2}")

    def real(self, at: int) -> float:
        """A field that must be a number; zero where it is empty."""
        word = self.text(at)
        if not word:
            return 0.0
        if len(word) < 10 and _PLAIN.fullmatch(word):
            return float(word)
        return real(word, f"{self.where}, field {at + 2}")


def integer(word: str, where: str) -> int:
    """A whole number."""
    bare = word[1:] if word[:1] in ("+", "-") else word
    if not (bare.isdecimal() and bare.isascii()):
        raise MeshFileError(f"{where}: {word[:40]!r} is no whole number" if word else f"{where}: it is empty")
    if len(bare) > 16 or int(bare) >= EXACT:
        raise MeshFileError(f"{where}: {word[:20]!r} ({len(bare)} digits) is too large")
    return int(word)


def real(word: str, where: str) -> float:
    """A number in any of Nastran's ways: ``1.5``, ``1.5E-3``, ``1.5D-3``, ``1.5-3``."""
    match = _REAL.fullmatch(word)
    if match is None:
        raise MeshFileError(f"{where}: {word[:40]!r} is no number")
    value = float(f"{match[1]}e{match[2] or match[3] or 0}")
    if abs(value) > 1e150:  # squares of it would be infinite
        raise MeshFileError(f"{where}: {word[:40]!r} is too large")
    return value


@dataclass
class Deck:
    """The cards of a file and of those it includes.

    Attributes
    ----------
    wanted : frozenset of str
        Names of the cards that are kept.
    others : dict of name to (number, first place)
        Cards that are not.
    """

    path: Path
    wanted: frozenset[str]
    cards: list[Card] = field(default_factory=list)
    others: dict[str, tuple[int, str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    _orphans: dict[str, Card] = field(default_factory=dict)
    _open: Card | None = None
    _elsewhere: set[str] = field(default_factory=set)

    def read(self) -> None:
        """Read the file.

        Raises
        ------
        MeshFileError
            For lines that are no bulk data, lost continuations, and included files that are missing or loop.
        """
        large = False
        for text, path, number in self._bulk():
            name, data, out, large = _split(text, large, path, number, self.wanted)
            if name and name[0] not in "+*":
                self._start(name.rstrip("*_ ").upper(), data, out, path, number)
            else:
                self._continue(name.lstrip("+*").strip(), data, out, path, number)
        self._attach()

    def _start(self, name: str, data: list[str], out: str, path: Path, number: int) -> None:
        card = self._open = Card(name, data, path, number, out)
        if name in self.wanted:
            self.cards.append(card)
            return
        if name.startswith(("=", "*(")):
            raise MeshFileError(
                f"{path}, line {number}: replicated cards (=) are not supported; let the preprocessor write them out"
            )
        count, first = self.others.get(name, (0, f"{path}, line {number}"))
        if count or len(self.others) < 1000:
            self.others[name] = (count + 1, first)
        if out:
            self._elsewhere.add(out)

    def _continue(self, marker: str, data: list[str], out: str, path: Path, number: int) -> None:
        card = self._open
        if marker and (card is None or (card.out and card.out != marker)):  # it belongs to a card elsewhere
            if marker in self._orphans:
                raise MeshFileError(f"{path}, line {number}: a second continuation marked {marker!r}")
            self._open = self._orphans[marker] = Card("+" + marker, data, path, number, out)
            return
        if card is None:
            raise MeshFileError(f"{path}, line {number}: a continuation of no card")
        if card.name in self.wanted or card.name.startswith("+"):
            card.data += data
            if len(card.data) > 8 * DATA_LINES:
                raise MeshFileError(f"{card.where}: a card of more than {DATA_LINES} lines")
        elif out:
            self._elsewhere.add(out)
        card.out = out

    def _attach(self) -> None:
        """Give continuations that stood elsewhere to the cards whose marks they bear."""
        if not self._orphans:
            return
        for card in self.cards:
            while card.out and card.out in self._orphans:
                more = self._orphans.pop(card.out)
                card.data += more.data
                card.out = more.out
        while True:  # those of cards that are not wanted
            found = [m for m in self._elsewhere if m in self._orphans]
            if not found:
                break
            self._elsewhere = {self._orphans.pop(m).out for m in found}
        if self._orphans:
            marker, card = next(iter(self._orphans.items()))
            raise MeshFileError(f"{card.path}, line {card.line}: a continuation marked {marker!r} of no card")

    def _bulk(self) -> Iterator[tuple[str, Path, int]]:
        """Lines of the bulk data section that are neither blank nor comments."""
        files = Inclusions(self.path)
        waiting = any(_BEGIN.match(line) for line in text_lines(self.path))
        begun = 0
        ended = ""
        case_sets = 0
        for text, path, number in _lines(self.path, files, str(self.path)):
            if ended:
                self.warnings.append(f"{path}, line {number}: what follows ENDDATA is not read")
                break
            if text[0] in "Bb \t" and _BEGIN.match(text):
                if begun or "SUPER" in text.upper():
                    raise MeshFileError(
                        f"{path}, line {number}: several sections of bulk data (superelements, auxiliary models) are "
                        "not supported"
                    )
                begun, waiting = number, False
                continue
            if waiting:
                case_sets += bool(_CASE_SET.match(text))
                continue
            if text[0] in "Ee \t" and text[:8].strip().upper() == "ENDDATA":
                ended = f"{path}, line {number}"
                continue
            yield text, path, number
        if not ended:
            self.warnings.append(f"{self.path}: there is no ENDDATA; make sure that the file is complete")
        if case_sets:
            self.remarks.append(
                f"{case_sets} SETs of the case control section are not read: they number nodes or elements, depending "
                "on who uses them"
            )


def _lines(path: Path, files: Inclusions, where: str) -> Iterator[tuple[str, Path, int]]:
    """Lines of a file and of those it includes, without comments."""
    files.enter(path, where)
    rows = iter(enumerate(text_lines(path), start=1))
    for number, row in rows:
        text = (row.split("$", 1)[0] if "$" in row else row).rstrip()
        if not text:
            continue
        match = _INCLUDE.match(text) if text[0] in "Ii \t" else None
        if match is None:
            yield text, path, number
            continue
        name = text[match.end() :].strip()
        here = f"{path}, line {number}, INCLUDE"
        quote = name[:1] if name[:1] in ("'", '"') else ""
        lines = 1
        while quote and name.count(quote) < 2:
            _, more = next(rows, (0, None))
            lines += 1
            if more is None or lines > LINES_OF_NAME:
                raise MeshFileError(f"{here}: the name of the file has no closing {quote}")
            name += more.strip()
        name = name.split(quote)[1] if quote else name
        yield from _lines(files.find(path, name, here), files, here)
    files.leave()


def _split(
    text: str, was_large: bool, path: Path, number: int, wanted: frozenset[str]
) -> tuple[str, list[str], str, bool]:
    """Name, fields and mark of the continuation of a line, and whether its fields are large."""
    if "," in text:
        words = [w.strip() for w in text.split(",")]
        name = words[0]
        large = name.endswith("*") or name.startswith("*")
        count = 4 if large else 8
        data, rest = words[1 : count + 1], words[count + 1 :]
        out = rest[0] if rest else ""
        if (any(rest[1:]) or _REAL.fullmatch(out)) and name.rstrip("*").upper() in wanted:
            raise MeshFileError(f"{path}, line {number}, {name}: more than {count} fields in a line")
    else:
        if "\t" in text:
            text = text.expandtabs(8)
        name = text[:8].strip()
        large = name.endswith("*") or name.startswith("*")
        if was_large and not name and text.strip():
            raise MeshFileError(
                f"{path}, line {number}: a line that continues one with large fields must begin with a star"
            )
        count = 4 if large else 8
        data = [text[place].strip() for place in (_LARGE if large else _SMALL)]
        out = text[72:80].strip()
    if len(data) < count:
        data += [""] * (count - len(data))
    return name, data, out.lstrip("+*").strip(), large
