"""An input file as a stream of keyword lines and blocks of data lines, those of included files among them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from femadj.errors import MeshFileError
from femadj.io.abaqus.keywords import PARAMETERS, parameters
from femadj.io.text import Inclusions, blocks_of

_STAR = re.compile(rb"^[ \t]*\*", re.MULTILINE)
_COMMENT = re.compile(rb"^[ \t]*\*\*[^\n]*", re.MULTILINE)
LONGEST = 4096
"""Characters of a keyword line with its continuations."""

_WORDS = re.compile(r'(?:[^,"]|"[^"]*"?)+')


@dataclass(frozen=True)
class Card:
    """A keyword line."""

    keyword: str
    params: Mapping[str, str]
    path: Path
    line: int

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.path}, line {self.line}"

    def need(self, name: str) -> str:
        """A parameter that must be there."""
        if not self.params.get(name):
            raise MeshFileError(f"{self.where}: *{self.keyword} needs the parameter {name}=")
        return self.params[name]


@dataclass(frozen=True)
class Data:
    """Data lines that follow each other, with the number of the first."""

    text: bytes
    path: Path
    line: int

    def rows(self) -> Iterator[tuple[str, str]]:
        """Every line that is not blank, and where it stands."""
        for number, line in enumerate(self.text.split(b"\n"), start=self.line):
            row = decoded(line).strip()
            if row:
                yield row, f"{self.path}, line {number}"


@dataclass
class Source:
    """Reads a file and those it includes.

    Attributes
    ----------
    ended : bool
        Whether the last line of the first file has an end.
    """

    path: Path
    ended: bool = True
    _files: Inclusions = field(init=False)

    def __post_init__(self) -> None:
        self._files = Inclusions(self.path)

    def __iter__(self) -> Iterator[Card | Data]:
        return self._file(self.path, str(self.path))

    def _file(self, path: Path, where: str) -> Iterator[Card | Data]:
        self._files.enter(path, where)
        open_card: list[tuple[str, int]] = []  # the beginning of a keyword line that may go on
        for piece in _pieces(path):
            if isinstance(piece, Data):
                rest = piece
                while open_card and rest.text.strip():
                    first, _, after = rest.text.partition(b"\n")
                    line = decoded(first).strip()
                    if line and not continues(open_card[0][0], line):
                        break
                    rest = Data(after, rest.path, rest.line + 1)
                    if line:
                        open_card[0] = (open_card[0][0] + line, open_card[0][1])
                        if len(open_card[0][0]) > LONGEST:
                            raise MeshFileError(f"{path}, line {open_card[0][1]}: a keyword line without an end")
                        if not line.endswith(","):
                            break
                if open_card and rest.text.strip():
                    yield from self._card(path, *open_card.pop())
                if rest.text.strip():
                    yield rest
                continue
            if open_card:
                yield from self._card(path, *open_card.pop())
            if piece[0].endswith(","):
                open_card.append(piece)
            else:
                yield from self._card(path, *piece)
        if open_card:
            yield from self._card(path, *open_card.pop())
        if path == self.path:
            self.ended = _ends_in_line_end(path)
        self._files.leave()

    def _card(self, path: Path, line: str, number: int) -> Iterator[Card | Data]:
        card = card_of(line, path, number)
        if card.keyword == "INCLUDE":
            name = card.need("INPUT")
            yield from self._file(self._files.find(path, name, card.where), card.where)
            return
        yield card
        if "INPUT" in card.params and card.keyword.replace(" ", "") in PARAMETERS:
            # the named file holds data lines; those below the keyword come after them
            other = self._files.find(path, card.params["INPUT"], card.where)
            for piece in self._file(other, card.where):
                if isinstance(piece, Card):
                    raise MeshFileError(f"{piece.where}: a keyword among the data of *{card.keyword} in {card.where}")
                yield piece


def _ends_in_line_end(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if not size:
            return True
        file.seek(size - 1)
        return file.read(1) in (b"\n", b"\r")


def _pieces(path: Path) -> Iterator[tuple[str, int] | Data]:
    """Keyword lines and the blocks of data between them; comments are left out."""
    line = 1
    first = True
    for whole in blocks_of(path):
        block = whole.removeprefix(b"\xef\xbb\xbf") if first else whole
        first = False
        if b"**" in block:
            block = _COMMENT.sub(b"", block)
        at = 0
        while at < len(block):
            star = _STAR.search(block, at)
            stop = star.start() if star else len(block)
            if stop > at:
                text = block[at:stop]
                yield Data(text, path, line)
                line += text.count(b"\n")
            if star is None:
                break
            end = block.find(b"\n", stop)
            end = len(block) if end < 0 else end
            yield decoded(block[stop:end].strip()), line
            line += 1
            at = end + 1


def decoded(data: bytes) -> str:
    """Text in UTF-8 or a western code page."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def continues(line: str, after: str) -> bool:
    """Whether a line continues a keyword line that ends with a comma: it then opens with a parameter.

    CalculiX knows no continued keyword lines, and decks for it end some with a comma; the data follow.
    """
    if after.startswith("*"):
        return False
    word = _WORDS.match(after)
    name = re.sub(r"\s", "", word[0].partition("=")[0]).upper() if word else ""
    if word and "=" in word[0]:
        return True
    known = PARAMETERS.get(card_of(line, Path(), 0, check=False).keyword.replace(" ", ""))
    if known is None:
        return not re.match(r"[\s\d.+-]", after)
    return any(k == name or (len(name) >= 3 and k.startswith(name)) for k in known)


def card_of(line: str, path: Path, number: int, *, check: bool = True) -> Card:
    """Read a keyword line.

    Raises
    ------
    MeshFileError
        For parameters of a keyword of the mesh that are not known.
    """
    words = _WORDS.findall(line[1:])
    keyword = " ".join(words[0].split()).upper() if words else ""
    params: dict[str, str] = {}
    where = f"{path}, line {number}"
    for word in words[1:]:
        key, _, value = word.partition("=")
        name = re.sub(r"\s", "", key).upper()
        if not name:
            continue
        if check and name in params and keyword.replace(" ", "") in PARAMETERS:
            raise MeshFileError(f"{where}: *{keyword} has the parameter {name} twice")
        params[name] = value.strip().strip('"')
    if check and keyword.replace(" ", "") in PARAMETERS:
        params = parameters(keyword, params, where)
    return Card(keyword, params, path, number)
