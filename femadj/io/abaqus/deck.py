"""What an input file says about its mesh, by scope: the model (or assembly), and the part."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import MeshFileError, UnsupportedCellError
from femadj.io.abaqus.cards import Card, Data
from femadj.io.abaqus.elements import element_type, is_axisymmetric, is_shell, n_nodes
from femadj.io.abaqus.keywords import PARAMETERS, keyword_problem
from femadj.io.cells import dimension
from femadj.io.text import EXACT, Fields, IntArray, fields, whole

_WIDE = ("CROP", "TRIM", "COMBINE", "DEFINITION", "FILLETRADIUS", "MAXRATIO")


@dataclass
class Elements:
    """The elements below one keyword line."""

    type: str
    cell: str
    where: str
    ids: list[IntArray] = field(default_factory=list)
    nodes: list[IntArray] = field(default_factory=list)


@dataclass
class Members:
    """A set as collected: ids, ranges (first, last, step), and names of sets that it refers to."""

    name: str
    kind: str
    where: str
    ids: list[IntArray] = field(default_factory=list)
    ranges: list[tuple[int, int, int]] = field(default_factory=list)
    names: list[tuple[str, str]] = field(default_factory=list)
    elsets: list[tuple[str, str]] = field(default_factory=list)
    internal: bool = False


@dataclass
class Surface:
    """A surface as collected: items of element or set, and face."""

    name: str
    kind: str
    where: str
    items: list[tuple[str, str, str]] = field(default_factory=list)
    problem: str = ""
    internal: bool = False


@dataclass
class Scope:
    """The names of a part, or of the model around it; sets of one name in two scopes are two sets."""

    name: str
    node_ids: list[IntArray] = field(default_factory=list)
    points: list[FloatArray] = field(default_factory=list)
    elements: list[Elements] = field(default_factory=list)
    sets: dict[tuple[str, str], Members] = field(default_factory=dict)
    surfaces: dict[tuple[str, str], Surface] = field(default_factory=dict)

    def set(self, kind: str, name: str, where: str) -> Members:
        """The set of a name, new where there is none."""
        return self.sets.setdefault((kind, name.upper()), Members(name, kind, where))


@dataclass
class Deck:
    """Takes the cards of a file in their order."""

    path: Path
    model: Scope = field(default_factory=lambda: Scope(""))
    part: Scope | None = None
    instance: str = ""
    motion: tuple[FloatArray, ...] = ()
    dropped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _here: Scope = field(init=False)
    _reader: _Reader | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    _parts: int = 0
    _instances: int = 0

    def __post_init__(self) -> None:
        self._here = self.model

    def take(self, piece: Card | Data) -> None:
        """Note what the next piece of the file says."""
        if isinstance(piece, Data):
            if self._reader is not None:
                self._reader.feed(piece)
            return
        self.finish()
        readers = {"NODE": _Nodes, "ELEMENT": _Cells, "NSET": _Set, "ELSET": _Set, "SURFACE": _Faces}
        bare = piece.keyword.replace(" ", "")
        if bare in readers and not piece.keyword.count(" "):
            self._reader = readers[bare](self, self._here, piece)
        elif bare in PARAMETERS:
            self._structure(piece, bare)
        else:
            problem, changes = keyword_problem(piece.keyword)
            if changes:
                raise MeshFileError(f"{piece.where}: {problem}")
            if problem:
                self.warnings.append(f"{piece.where}: {problem}")
            self.skipped[piece.keyword] = self.skipped.get(piece.keyword, 0) + 1

    def finish(self) -> None:
        """End the card that is open."""
        if self._reader is not None:
            self._reader.end()
        self._reader = None

    def _structure(self, card: Card, keyword: str) -> None:
        if keyword == "PART":
            if self.model.node_ids or self.model.sets:
                raise MeshFileError(f"{card.where}: nodes or sets before *PART are not supported: write a flat file")
            self._parts += 1
            self._here = self.part = Scope(card.need("NAME"))
        elif keyword == "INSTANCE":
            self._instances += 1
            self.instance = card.params.get("NAME", "")
            if self.part is None:
                self.part = Scope(card.params.get("PART", ""))
            self._here = self.part
            self._reader = _Motion(self, self.part, card)
        elif keyword in ("ENDPART", "ENDINSTANCE"):
            self._here = self.model
        elif keyword == "SYSTEM":
            self._reader = _Unmoved(self, self._here, card)
        elif keyword == "TRANSFORM":
            self.warnings.append(f"{card.where}: *TRANSFORM is ignored: components count in the global directions")
        if self._parts > 1 or self._instances > 1:
            raise MeshFileError(
                f"{card.where}: a second *{card.keyword}; assemblies of several are not supported: write a flat "
                "input file (without parts and assemblies)"
            )

    def scopes(self) -> tuple[Scope, ...]:
        """The model and the part."""
        return (self.model,) if self.part is None else (self.model, self.part)

    @property
    def mesh(self) -> Scope:
        """The scope that holds nodes and elements."""
        return self.model if self.part is None else self.part


class _Reader:
    """Takes the data lines of one keyword."""

    def __init__(self, deck: Deck, scope: Scope, card: Card) -> None:
        self.deck, self.scope, self.card = deck, scope, card

    def feed(self, data: Data) -> None:
        """Take lines."""
        raise NotImplementedError

    def end(self) -> None:
        """No more lines."""


class _Unmoved(_Reader):
    """A coordinate system, whose data lines would move nodes."""

    def feed(self, data: Data) -> None:
        for row, where in data.rows():
            if any(w.strip().strip("+-0.") for w in row.split(",")):
                raise MeshFileError(
                    f"{where}: nodes in a local *SYSTEM are not supported: write a flat input file (without parts and "
                    "assemblies)"
                )


class _Motion(_Reader):
    """An instance, whose data lines move it: a translation, then a rotation about an axis through two points."""

    def __init__(self, deck: Deck, scope: Scope, card: Card) -> None:
        super().__init__(deck, scope, card)
        self.lines: list[FloatArray] = []

    def feed(self, data: Data) -> None:
        for row, where in data.rows():
            size = 3 if not self.lines else 7
            try:
                numbers = [float(word) if word.strip() else 0.0 for word in row.rstrip(", ").split(",")]
            except ValueError:
                numbers = [np.nan]
            if len(self.lines) == 2 or len(numbers) > size or not np.isfinite(numbers).all():
                raise MeshFileError(
                    f"{where}: an instance is moved by a line with a translation (3 numbers) and one with two points "
                    f"of an axis and an angle (7 numbers), not by {row[:60]!r}"
                )
            self.lines.append(np.pad(numbers, (0, size - len(numbers))))
            if size == 7 and numbers[6:] and not np.any(self.lines[1][3:6] - self.lines[1][:3]):
                raise MeshFileError(f"{where}: the two points of the axis of rotation are the same")

    def end(self) -> None:
        self.deck.motion = tuple(self.lines)


def moved(points: FloatArray, motion: tuple[FloatArray, ...]) -> FloatArray:
    """Points of an instance: translated, then rotated by an angle in degrees (Rodrigues' formula)."""
    if not any(line.any() for line in motion):
        return points
    x = np.pad(points, ((0, 0), (0, 3 - points.shape[1]))) + motion[0]
    if len(motion) == 2 and motion[1][6]:
        origin, tip, angle = motion[1][:3], motion[1][3:6], np.radians(motion[1][6])
        k = (tip - origin) / np.linalg.norm(tip - origin)
        r = x - origin
        turned = r * np.cos(angle) + np.cross(k, r) * np.sin(angle) + np.outer(r @ k, k) * (1 - np.cos(angle))
        x = origin + turned
    return np.ascontiguousarray(x)


class _Nodes(_Reader):
    def __init__(self, deck: Deck, scope: Scope, card: Card) -> None:
        super().__init__(deck, scope, card)
        if card.params.get("SYSTEM", "R").upper() not in ("R", ""):
            raise MeshFileError(f"{card.where}: cylindrical and spherical node coordinates are not supported")

    def feed(self, data: Data) -> None:
        found = fields(data.text, data.line, data.path)
        ends = np.cumsum(found.counts)
        starts = (ends - found.counts)[found.counts > 0]
        counts = found.counts[found.counts > 0]
        if not len(starts):
            return
        where = _place(data, found.counts)
        if found.filled is not None and not found.filled[starts].all():
            raise MeshFileError(f"{where}: a node without an id")
        ids = whole(found.values[starts], "the node id", where)
        if len(counts) * int(counts[0]) == len(found.values) and (counts == counts[0]).all() and counts[0] in (3, 4):
            points = found.values.reshape(len(counts), -1)[:, 1:]
        else:  # coordinates left out are zero; what follows the third is a normal
            points = np.zeros((len(counts), 3))
            for k in range(1, 4):
                held = counts > k
                points[held, k - 1] = found.values[starts[held] + k]
        self.scope.node_ids.append(ids)
        self.scope.points.append(points)
        if self.card.params.get("NSET") and (self.deck.part is None or self.scope is not self.deck.model):
            self.scope.set("node", self.card.params["NSET"], self.card.where).ids.append(ids)


def _place(data: Data, counts: IntArray) -> str:
    """File and lines of a block of data."""
    last = data.line + len(counts) - 1
    return f"{data.path}, line {data.line}" if last == data.line else f"{data.path}, lines {data.line} to {last}"


class _Cells(_Reader):
    def __init__(self, deck: Deck, scope: Scope, card: Card) -> None:
        super().__init__(deck, scope, card)
        self.name = card.need("TYPE").upper()
        self.lines = 0
        self.kept = Fields(np.empty(0), None, np.empty(0, np.int64))
        try:
            cell = element_type(self.name)
        except KeyError:
            cell = None
            self.unknown = True
        else:
            self.unknown = False
        if cell is not None and dimension(cell) > 1:
            if is_axisymmetric(self.name):
                deck.warnings.append(f"{card.where}: axisymmetric elements of type {self.name} are read as plane cells")
            elif dimension(cell) == 2 and is_shell(self.name):
                deck.warnings.append(
                    f"{card.where}: elements of type {self.name} are read as plane cells, or as facets of solid cells"
                )
        self.found = None if cell is None else Elements(self.name, cell, card.where)
        if self.found is not None:
            scope.elements.append(self.found)

    def feed(self, data: Data) -> None:
        if self.unknown:
            first = next((row for row, _ in data.rows()), "?").partition(",")[0]
            raise UnsupportedCellError(
                f"{self.card.where}: elements of type {self.name} (the first is element {first}) are not supported; "
                "supported are plane and solid elements such as CPS3, CPE4, CPS6, CPE8, C3D4, C3D6, C3D8, C3D10, "
                "C3D20 and their variants"
            )
        if self.found is None:
            self.lines += sum(1 for line in data.text.split(b"\n") if line.strip())
            return
        found = fields(data.text, data.line, data.path)
        where = _place(data, found.counts)
        if found.filled is not None and not found.filled.all():
            raise MeshFileError(f"{where}: an empty field among the nodes of a {self.name} element")
        width = 1 + n_nodes(self.found.cell)
        values = np.concatenate([self.kept.values, found.values])
        ends = np.cumsum(found.counts) + len(self.kept.values)
        wanted = np.arange(width, len(values) + 1, width)
        at = np.searchsorted(ends, wanted)
        wrong = np.flatnonzero(ends[np.minimum(at, len(ends) - 1)] != wanted) if len(ends) else np.arange(len(wanted))
        if len(wrong):
            line = data.line + int(at[wrong[0]])
            element = values[wrong[0] * width]
            raise MeshFileError(
                f"{data.path}, line {line}: element {element:.10g} of type {self.name} ends within a line: its id and "
                f"nodes must be {width} numbers, in lines of their own"
            )
        n = len(wanted)
        if n:
            table = whole(values[: n * width], "the id", where).reshape(n, width)
            self.found.ids.append(table[:, 0].copy())
            small = table[:, 1:].max() < 2**31 and table[:, 1:].min() >= -(2**31)
            self.found.nodes.append(table[:, 1:].astype(np.int32 if small else np.int64))
            if self.card.params.get("ELSET"):
                self.scope.set("cell", self.card.params["ELSET"], self.card.where).ids.append(self.found.ids[-1])
        self.kept = Fields(values[n * width :], None, np.empty(0, np.int64))

    def end(self) -> None:
        if self.found is None and not self.unknown:
            self.deck.dropped.append(f"{self.card.where}: {self.lines} elements of type {self.name}: they are no cells")
        if len(self.kept.values):
            width = 1 + n_nodes(self.found.cell) if self.found else 0
            raise MeshFileError(
                f"{self.card.where}: the last element of type {self.name} ({self.kept.values[0]:.10g}) has "
                f"{len(self.kept.values)} numbers instead of {width}, its id and nodes: "
                "their number is not a multiple of "
                f"{width}; the file is truncated or damaged"
            )


class _Set(_Reader):
    def __init__(self, deck: Deck, scope: Scope, card: Card) -> None:
        super().__init__(deck, scope, card)
        self.kind = "node" if card.keyword == "NSET" else "cell"
        self.target = scope.set(self.kind, card.need(card.keyword), card.where)
        self.target.internal |= "INTERNAL" in card.params
        # ids given with instance= are those of the part, ids without are those of the model
        self.prefix = ""
        if card.params.get("INSTANCE") and scope is deck.model:
            named = card.params["INSTANCE"]
            if deck.part is None or named.upper() != deck.instance.upper():
                raise MeshFileError(f"{card.where}: there is no instance {named!r}")
            self.prefix = deck.instance
        if self.kind == "node" and card.params.get("ELSET"):
            self.target.elsets.append((self._full(card.params["ELSET"]), card.where))

    def _full(self, name: str) -> str:
        return f"{self.prefix}.{name}" if self.prefix else name

    def feed(self, data: Data) -> None:
        if "GENERATE" in self.card.params:
            for row, where in data.rows():
                self._range(row, where)
            return
        plain: list[int] = []
        for row, where in data.rows():
            for word in _words(row):
                if word.isdecimal() and word.isascii():
                    plain.append(checked_id(word, where))
                elif word:
                    require_name(word, where)
                    self.target.names.append((self._full(word), where))
        self._add(plain)

    def _add(self, plain: list[int]) -> None:
        if plain and self._of_model:
            self.deck.warnings.append(
                f"{self.card.where}: *{self.card.keyword} {self.target.name!r} holds {len(plain)} {self.kind}s of the "
                "assembly itself (reference points), which belong to no cell and are left out"
            )
        elif plain:
            self.target.ids.append(np.array(plain, dtype=np.int64))

    @property
    def _of_model(self) -> bool:
        """Whether plain ids are those of the model beside a part, which has no cells."""
        return not self.prefix and self.scope is self.deck.model and self.deck.part is not None

    def _range(self, row: str, where: str) -> None:
        words = [w.strip() for w in row.rstrip(", ").split(",")]
        if not all(w.isdecimal() and w.isascii() for w in words) or len(words) not in (2, 3):
            raise MeshFileError(f"{where}: GENERATE needs lines of first, last, increment, not {row[:60]!r}")
        first, last, step = (*(checked_id(w, where) for w in words), 1)[:3]
        if step <= 0 or last < first:
            raise MeshFileError(f"{where}: GENERATE needs lines of first, last, increment, not {row[:60]!r}")
        if self._of_model:
            self._add([first])
        else:
            self.target.ranges.append((first, last, step))


def _words(row: str) -> list[str]:
    """Fields of a line of ids and names; names in quotation marks may hold commas."""
    if '"' not in row:
        return [w.strip() for w in row.split(",")]
    return [w.strip().strip('"') for w in re.findall(r'((?:[^,"]|"[^"]*"?)*)(?:,|$)', row)]


def checked_id(word: str, where: str) -> int:
    """An id in decimal digits."""
    if len(word) > 16 or int(word) >= EXACT:
        raise MeshFileError(f"{where}: the id {word[:20]} ({len(word)} digits) is too large")
    return int(word)


def require_name(word: str, where: str) -> None:
    """Refuse what is neither an id nor a name: numbers with a sign, a point or an exponent."""
    if re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?", word, re.ASCII):
        raise MeshFileError(f"{where}: {word[:40]!r} is neither a whole number nor the name of a set")


class _Faces(_Reader):
    def __init__(self, deck: Deck, scope: Scope, card: Card) -> None:
        super().__init__(deck, scope, card)
        name = card.need("NAME")
        kind = card.params.get("TYPE", "ELEMENT").upper() or "ELEMENT"
        self.target = scope.surfaces.setdefault((kind, name.upper()), Surface(name, kind, card.where))
        self.target.internal |= "INTERNAL" in card.params
        if kind not in ("ELEMENT", "NODE"):
            self.target.problem = f"surfaces of TYPE={kind} are not supported"
        wide = [p for p in _WIDE if p in card.params]
        if wide:
            self.target.problem = f"surfaces with {wide[0]} are not supported"
            if wide == ["COMBINE"]:
                self.target.problem = "combined surfaces are not supported"

    def feed(self, data: Data) -> None:
        for row, where in data.rows():
            words = _words(row)
            if not words[0]:
                self.target.problem = "it is all free faces of the body (an empty name), which is not supported"
                continue
            if any(words[2:]):
                self.target.problem = f"{where}: a line of more than an element or set and its face"
            self.target.items.append((words[0], words[1].upper() if len(words) > 1 else "", where))
