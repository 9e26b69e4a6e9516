"""Abaqus input files (CalculiX reads the same): nodes, elements, sets and surfaces.

Read here and not by meshio, which drops ids and surfaces, keeps only the last *NODE block, knows few plane elements
and wants upper-case types. Keywords after the Abaqus keyword reference; what is no mesh (materials, steps) is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, listing
from femadj.errors import MeshFileError, UnsupportedCellError
from femadj.io.raw import IdTable, IntArray, RawBlock, RawGroup, RawMesh, dimension, numbers
from femadj.mesh.reference import CELL_TYPES, INTEGRATED_CELLS
from femadj.mesh.topology import CellBlock, facet_keys

# element families: (pattern of the type, {number of nodes in the name: meshio's name})
_PLANE: Mapping[str, str] = MappingProxyType({"3": "triangle", "4": "quad", "6": "triangle6", "8": "quad8"})
_FAMILIES: tuple[tuple[str, Mapping[str, str]], ...] = (
    (
        r"(?:C3D|DC3D|AC3D|DCC3D)(\d+)[A-Z]*",
        {"4": "tetra", "5": "pyramid", "6": "wedge", "8": "hexahedron", "10": "tetra10", "15": "wedge15",
         "20": "hexahedron20", "27": "hexahedron27"},
    ),
    (r"(?:CPS|CPE|CPEG|DC2D|AC2D|CAX|DCAX|CGAX|ACAX)(\d+)[A-Z]*", _PLANE),
    (r"(?:S|DS|M3D|SFM3D|R3D|STRI)(3|4|6|8|9|65)[A-Z]*5?", {**_PLANE, "9": "quad9", "65": "triangle6"}),
    (r"(?:T2D|T3D|DC1D|R2D|B2|B3)(\d)[A-Z]*", {"1": "line", "2": "line", "3": "line3"}),
)  # fmt: skip
_POINT_ELEMENTS = r"(?:MASS|HEATCAP|ROTARYI|SPRING|DASHPOT|CONN|JOINT|DCOUP|GAP|ITT|ITS|IT2D).*"

# corner nodes (zero-based) of the faces S1, S2, ...
FACES: Mapping[str, tuple[tuple[int, ...], ...]] = MappingProxyType(
    {
        "triangle": ((0, 1), (1, 2), (2, 0)),
        "quad": ((0, 1), (1, 2), (2, 3), (3, 0)),
        "tetra": ((0, 1, 2), (0, 3, 1), (1, 3, 2), (2, 3, 0)),
        "wedge": ((0, 1, 2), (3, 5, 4), (0, 3, 4, 1), (1, 4, 5, 2), (2, 5, 3, 0)),
        "hexahedron": ((0, 1, 2, 3), (4, 7, 6, 5), (0, 4, 5, 1), (1, 5, 6, 2), (2, 6, 7, 3), (3, 7, 4, 0)),
    }
)

_GENERATORS = ("NGEN", "NFILL", "NCOPY", "NMAP", "ELGEN", "ELCOPY")


def element_type(name: str) -> str | None:
    """meshio's name of an Abaqus element type; None for those that are no cells (masses, springs, ...).

    Raises
    ------
    KeyError
        For element types without a counterpart.
    """
    upper = name.upper()
    if re.fullmatch(_POINT_ELEMENTS, upper):
        return None
    beam = re.fullmatch(r"B(?:21|22|23|31|32|33)[A-Z]*", upper)
    if beam:
        return "line3" if upper[2] == "2" else "line"
    for pattern, known in _FAMILIES:
        match = re.fullmatch(pattern, upper)
        if match and match[1] in known:
            return known[match[1]]
    raise KeyError(name)


@dataclass(frozen=True)
class _Card:
    """A keyword with its parameters and data lines."""

    keyword: str
    params: Mapping[str, str]
    lines: tuple[str, ...]
    where: str

    def need(self, name: str) -> str:
        if not self.params.get(name):
            raise MeshFileError(f"{self.where}: *{self.keyword} needs the parameter {name}=")
        return self.params[name]


@dataclass
class _Set:
    """A set as collected: its ids, and the names of sets it refers to."""

    name: str
    ids: list[IntArray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    elsets: list[str] = field(default_factory=list)
    internal: bool = False


@dataclass
class _Surface:
    name: str
    kind: str
    items: list[tuple[str, str]]
    problem: str = ""


@dataclass
class _Deck:
    """What the file has said so far."""

    path: Path
    node_ids: list[IntArray] = field(default_factory=list)
    points: list[FloatArray] = field(default_factory=list)
    blocks: list[tuple[str, str, IntArray, IntArray]] = field(default_factory=list)
    sets: dict[str, dict[str, _Set]] = field(default_factory=lambda: {"node": {}, "cell": {}})
    surfaces: dict[str, _Surface] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    parts: int = 0
    instances: int = 0

    def set(self, kind: str, name: str) -> _Set:
        return self.sets[kind].setdefault(name.upper(), _Set(name))


def read(path: Path) -> RawMesh:
    """Read an Abaqus input file.

    Raises
    ------
    MeshFileError
        For a file without nodes, with undefined nodes, incomplete elements, several or moved instances, or node and
        element generation.
    UnsupportedCellError
        For element types that are no plane or solid cells.
    """
    deck = _Deck(path)
    for card in _cards(path, ()):
        _take(deck, card)
    if not _text(path).endswith("\n"):
        # the format has no end mark, so this is all there is to see of a file cut off between two numbers
        deck.warnings.append("the last line of the file has no end; make sure that the file is complete")
    if not deck.node_ids:
        raise MeshFileError(f"{path} is no Abaqus input file with a mesh: it has no *NODE")
    widths = {p.shape[1] for p in deck.points}
    points = np.vstack([np.pad(p, ((0, 0), (0, max(widths) - p.shape[1]))) for p in deck.points])
    node_ids = np.concatenate(deck.node_ids)
    nodes = IdTable(node_ids, "nodes")
    blocks = []
    for name, cell_type, ids, table in deck.blocks:
        rows = nodes.rows(table, f"{path}: {name} elements")
        if cell_type == "line3":
            rows = _middle_last(points, rows)
        blocks.append(RawBlock(cell_type, rows, ids))
    elements = _Elements(blocks)
    groups = _set_groups(deck, nodes, elements) + _surface_groups(deck, nodes, elements, len(points))
    return RawMesh(
        format="Abaqus",
        points=points,
        blocks=blocks,
        groups=groups,
        node_ids=node_ids,
        dropped=tuple(deck.dropped),
        warnings=tuple(deck.warnings),
    )


# ---------------------------------------------------------------------- cards
def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # comments in a western code page; the data are ASCII


def _included(base: Path, name: str, where: str) -> Path:
    path = base.parent / name
    if not path.is_file():
        raise MeshFileError(f"{where}: the file {name!r} that it includes does not exist next to {base}")
    return path


def _cards(path: Path, trail: tuple[Path, ...]) -> Iterator[_Card]:
    """Keyword cards of a file and of those it includes."""
    if path.resolve() in trail:
        raise MeshFileError(f"{path} includes itself")
    trail = (*trail, path.resolve())
    lines = _text(path).splitlines()
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        number = at + 1
        at += 1
        if not line.startswith("*") or line.startswith("**"):
            continue
        while line.endswith(",") and at < len(lines) and not lines[at].lstrip().startswith("*"):
            line += lines[at].strip()
            at += 1
        start = at
        while at < len(lines) and (not lines[at].lstrip().startswith("*") or lines[at].lstrip().startswith("**")):
            at += 1
        data = tuple(s for s in (x.strip() for x in lines[start:at]) if s and not s.startswith("**"))
        card = _card(line, data, f"{path}, line {number}")
        if card.keyword == "INCLUDE":
            yield from _cards(_included(path, card.need("INPUT"), card.where), trail)
        elif "INPUT" in card.params and card.keyword in ("NODE", "ELEMENT", "NSET", "ELSET"):
            more = _text(_included(path, card.need("INPUT"), card.where)).splitlines()
            extra = tuple(s for s in (x.strip() for x in more) if s and not s.startswith("*"))
            yield _Card(card.keyword, card.params, card.lines + extra, card.where)
        else:
            yield card


def _card(line: str, data: tuple[str, ...], where: str) -> _Card:
    words = re.findall(r'(?:[^,"]|"[^"]*")+', line[1:])
    params = {}
    for word in words[1:]:
        key, _, value = word.partition("=")
        params["".join(key.split()).upper()] = value.strip().strip('"')
    return _Card(" ".join(words[0].split()).upper() if words else "", params, data, where)


def _take(deck: _Deck, card: _Card) -> None:
    """Note what a card says about the mesh."""
    if card.keyword == "NODE":
        _take_nodes(deck, card)
    elif card.keyword == "ELEMENT":
        _take_elements(deck, card)
    elif card.keyword in ("NSET", "ELSET"):
        _take_set(deck, card)
    elif card.keyword == "SURFACE":
        _take_surface(deck, card)
    elif card.keyword in _GENERATORS:
        raise MeshFileError(
            f"{card.where}: *{card.keyword} generates nodes or elements, which is not supported; "
            "let the preprocessor write them out"
        )
    elif card.keyword in ("PART", "INSTANCE"):
        deck.parts += card.keyword == "PART"
        deck.instances += card.keyword == "INSTANCE"
        if deck.parts > 1 or deck.instances > 1:
            raise MeshFileError(
                f"{card.where}: a second *{card.keyword}; assemblies of several are not supported: write a flat "
                "input file (without parts and assemblies)"
            )
        if card.keyword == "INSTANCE" and card.lines:
            raise MeshFileError(
                f"{card.where}: the instance is translated or rotated, which is not supported: write a flat input "
                "file (without parts and assemblies)"
            )
    elif card.keyword in ("SYSTEM", "TRANSFORM"):
        if card.keyword == "SYSTEM" and card.lines:
            raise MeshFileError(f"{card.where}: nodes in a local *SYSTEM are not supported")
        deck.warnings.append(f"*{card.keyword} is ignored: components count in the global directions")


def _take_nodes(deck: _Deck, card: _Card) -> None:
    if card.params.get("SYSTEM", "R").upper() != "R":
        raise MeshFileError(f"{card.where}: cylindrical and spherical node coordinates are not supported")
    lines = [re.sub(r"(?<=[\d.])[dD](?=[+-]?\d)", "E", s) if "d" in s or "D" in s else s for s in card.lines]
    commas = {s.count(",") for s in lines}
    if not lines:
        return
    if commas in ({2}, {3}) and not any(re.search(r",\s*(?:,|$)", s) for s in lines):
        width = commas.pop() + 1
        values = numbers(" ".join(lines).replace(",", " "), np.float64, card.where)
        if len(values) != width * len(lines):
            raise MeshFileError(f"{card.where}: {len(lines)} nodes with {len(values)} numbers instead of {width} each")
        table = values.reshape(len(lines), width)
    else:  # coordinates left out are zero; what follows the third is a normal
        table = np.zeros((len(lines), 4))
        for i, line in enumerate(lines):
            fields = [s.strip() or "0" for s in line.split(",")][:4]
            values = numbers(" ".join(fields), np.float64, card.where)
            if len(values) != len(fields):
                raise MeshFileError(f"{card.where}: cannot read the node {line!r}")
            table[i, : len(values)] = values
    ids = table[:, 0].astype(np.int64)
    deck.node_ids.append(ids)
    deck.points.append(table[:, 1:])
    if card.params.get("NSET"):
        deck.set("node", card.params["NSET"]).ids.append(ids)


def _take_elements(deck: _Deck, card: _Card) -> None:
    name = card.need("TYPE").upper()
    values = numbers(" ".join(card.lines).replace(",", " "), np.int64, card.where)
    try:
        cell_type = element_type(name)
    except KeyError:
        raise UnsupportedCellError(
            f"{card.where}: {len(card.lines)} lines of elements of type {name} (the first is element "
            f"{values[0] if len(values) else '?'}) are not supported; supported are plane and solid elements such as "
            "CPS3, CPE4, CPS6, CPE8, C3D4, C3D6, C3D8, C3D10, C3D20 and their variants"
        ) from None
    if cell_type is None:
        deck.dropped.append(f"{len(card.lines)} elements of type {name}: they are no cells")
        return
    n_nodes = _n_nodes(cell_type)
    if len(values) % (1 + n_nodes):
        raise MeshFileError(
            f"{card.where}: {len(values)} numbers are not a multiple of {1 + n_nodes}, the id and nodes of a {name} "
            "element; the file is truncated or damaged"
        )
    rows = values.reshape(-1, 1 + n_nodes)
    if re.match(r"(?:CAX|DCAX|CGAX|ACAX)", name):
        deck.warnings.append(f"axisymmetric elements of type {name} are read as plane cells")
    elif dimension(cell_type) == 2 and not re.match(r"(?:CPS|CPE|DC2D|AC2D)", name):
        deck.warnings.append(f"elements of type {name} are read as plane cells, or as facets of solid cells")
    deck.blocks.append((name, cell_type, rows[:, 0].copy(), rows[:, 1:].copy()))
    if card.params.get("ELSET"):
        deck.set("cell", card.params["ELSET"]).ids.append(rows[:, 0].copy())


def _n_nodes(cell_type: str) -> int:
    others = {"pyramid": 5, "wedge15": 15}
    return others[cell_type] if cell_type in others else CELL_TYPES[cell_type].n_nodes


def _take_set(deck: _Deck, card: _Card) -> None:
    kind = "node" if card.keyword == "NSET" else "cell"
    target = deck.set(kind, card.need(card.keyword))
    target.internal |= "INTERNAL" in card.params
    if kind == "node" and card.params.get("ELSET"):
        target.elsets.append(card.params["ELSET"])
    if "GENERATE" in card.params:
        for line in card.lines:
            values = numbers(line.replace(",", " "), np.int64, card.where)
            if len(values) not in (2, 3) or (len(values) == 3 and values[2] <= 0):
                raise MeshFileError(f"{card.where}: GENERATE needs lines of first, last, increment, not {line!r}")
            step = int(values[2]) if len(values) == 3 else 1
            target.ids.append(np.arange(values[0], values[1] + 1, step, dtype=np.int64))
        return
    plain = []
    for line in card.lines:
        for word in (w.strip().strip('"') for w in line.split(",")):
            if _number(word) is not None:
                plain.append(_number(word))
            elif word:
                target.names.append(word)
    if plain:
        target.ids.append(np.array(plain, dtype=np.int64))


def _number(word: str) -> int | None:
    """The id in ``12`` or ``Instance-1.12``; None for a name."""
    last = word.rpartition(".")[2]
    return int(last) if last.isdecimal() else None


def _take_surface(deck: _Deck, card: _Card) -> None:
    name = card.need("NAME")
    kind = card.params.get("TYPE", "ELEMENT").upper() or "ELEMENT"
    items = []
    for line in card.lines:
        words = [w.strip().strip('"') for w in line.split(",")]
        items.append((words[0], words[1].upper() if len(words) > 1 else ""))
    problem = ""
    if kind not in ("ELEMENT", "NODE"):
        problem = f"surfaces of TYPE={kind} are not supported"
    elif "COMBINE" in card.params:
        problem = "combined surfaces are not supported"
    known = deck.surfaces.setdefault(name.upper(), _Surface(name, kind, [], problem))
    known.items.extend(items)


# ---------------------------------------------------------------------- groups
class _Elements:
    """Where the elements of the file are: block and row by id."""

    def __init__(self, blocks: list[RawBlock]) -> None:
        ids = [b.ids for b in blocks if b.ids is not None]
        self.blocks = blocks
        self._table = IdTable(np.concatenate(ids) if ids else np.empty(0, np.int64), "elements")
        self._starts = np.cumsum([0, *(len(i) for i in ids)])

    def split(self, ids: IntArray) -> tuple[dict[int, IntArray], int]:
        """Rows by block of those ids that exist, and the number of those that do not."""
        at = self._table.find(ids)
        there = np.unique(at[at >= 0])
        block = np.searchsorted(self._starts, there, side="right") - 1
        return {int(i): there[block == i] - self._starts[i] for i in np.unique(block)}, int((at < 0).sum())


def _lookup(deck: _Deck, kind: str, name: str) -> _Set | None:
    """A set by its name, given with or without that of its instance."""
    known = deck.sets[kind]
    upper = name.upper()
    return known.get(upper) or known.get(upper.rpartition(".")[2])


def _resolve(
    deck: _Deck, kind: str, name: str, elements: _Elements, nodes: IntArray, trail: tuple[str, ...]
) -> IntArray:
    """All ids of a set, with those of the sets it refers to."""
    found = _lookup(deck, kind, name)
    if found is None:
        user = f"the set {trail[-1]!r}" if trail else "a surface"
        deck.warnings.append(f"{user} refers to the {kind} set {name!r}, which does not exist")
        return np.empty(0, np.int64)
    if found.name.upper() in (t.upper() for t in trail):
        raise MeshFileError(f"{deck.path}: the {kind} set {found.name!r} contains itself")
    trail = (*trail, found.name)
    parts = [np.empty(0, np.int64), *found.ids]
    parts += [_resolve(deck, kind, other, elements, nodes, trail) for other in found.names]
    for other in found.elsets:
        cells, _ = elements.split(_resolve(deck, "cell", other, elements, nodes, ()))
        parts += [nodes[elements.blocks[i].nodes[rows].ravel()] for i, rows in cells.items()]
    return np.unique(np.concatenate(parts))


def _set_groups(deck: _Deck, nodes: IdTable, elements: _Elements) -> list[RawGroup]:
    node_ids = np.concatenate(deck.node_ids)
    groups = []
    hidden = [s.name for known in deck.sets.values() for s in known.values() if s.internal]
    if hidden:
        deck.dropped.append(f"{len(hidden)} internal sets, which serve surfaces and constraints: {', '.join(hidden)}")
    for found in deck.sets["node"].values():
        if found.internal:
            continue
        ids = _resolve(deck, "node", found.name, elements, node_ids, ())
        rows = nodes.find(ids)
        _missing(deck, "nodes", found.name, ids[rows < 0])
        groups.append(RawGroup(found.name, "*NSET", nodes=rows[rows >= 0]))
    for found in deck.sets["cell"].values():
        if found.internal:
            continue
        ids = _resolve(deck, "cell", found.name, elements, node_ids, ())
        cells, missing = elements.split(ids)
        if missing:
            deck.warnings.append(f"the set {found.name!r} holds {missing} elements that do not exist or are no cells")
        groups.append(RawGroup(found.name, "*ELSET", cells=cells))
    return groups


def _missing(deck: _Deck, kind: str, name: str, ids: IntArray) -> None:
    if len(ids):
        deck.warnings.append(f"the set {name!r} holds {kind} {listing(ids)}, which do not exist")


def _surface_groups(deck: _Deck, nodes: IdTable, elements: _Elements, n_points: int) -> list[RawGroup]:
    groups = []
    node_ids = np.concatenate(deck.node_ids)
    for surface in deck.surfaces.values():
        facets: list[IntArray] = []
        rows = np.empty(0, np.int64)
        problem = surface.problem
        for token, label in [] if problem else surface.items:
            number = _number(token)
            kind = "cell" if surface.kind == "ELEMENT" else "node"
            ids = (
                np.array([number], dtype=np.int64)
                if number is not None
                else _resolve(deck, kind, token, elements, node_ids, ())
            )
            if surface.kind == "NODE":
                found = nodes.find(ids)
                _missing(deck, "nodes", surface.name, ids[found < 0])
                rows = np.append(rows, found[found >= 0])
                continue
            cells, missing = elements.split(ids)
            if missing:
                deck.warnings.append(f"the surface {surface.name!r} refers to {missing} elements that do not exist")
            if not label:
                facets += _free_facets(elements.blocks, cells, n_points)
                continue
            for i, members in cells.items():
                chosen = _labelled(elements.blocks[i], members, label)
                if chosen is None:
                    problem = f"{label!r} is no face of {elements.blocks[i].type} cells"
                else:
                    facets.append(chosen)
        if problem:
            # an incomplete surface would carry an incomplete load
            deck.dropped.append(f"the surface {surface.name!r}: {problem}")
            continue
        origin = f"*SURFACE, TYPE={surface.kind}"
        groups.append(RawGroup(surface.name, origin, nodes=np.unique(rows), facets=tuple(f for f in facets if len(f))))
    return groups


def _labelled(block: RawBlock, rows: IntArray, label: str) -> IntArray | None:
    """Corner nodes of the faces with a label (S1, S2, ...; SPOS and SNEG of shells); None where there are none."""
    shape = CELL_TYPES[block.type].shape if block.type in CELL_TYPES else block.type
    if label in ("SPOS", "SNEG") and shape in ("triangle", "quad"):
        return block.nodes[rows][:, : 3 if shape == "triangle" else 4]
    match = re.fullmatch(r"[SE](\d)", label)
    faces = FACES.get(shape, ())
    if match is None or not 1 <= int(match[1]) <= len(faces):
        return None
    return block.nodes[rows][:, list(faces[int(match[1]) - 1])]


def _free_facets(blocks: list[RawBlock], cells: Mapping[int, IntArray], n_points: int) -> list[IntArray]:
    """Facets of the given cells that no other cell shares (a surface given by sets alone)."""
    dim = max((dimension(blocks[i].type) for i in cells), default=0)
    usable = [i for i, b in enumerate(blocks) if b.type in INTEGRATED_CELLS and dimension(b.type) == dim]
    if not usable:
        return []
    keys, cell, _ = facet_keys([CellBlock(blocks[i].type, blocks[i].nodes.astype(np.int32)) for i in usable])
    order = np.lexsort(keys.T[::-1])
    same = (keys[order][1:] == keys[order][:-1]).all(axis=1)
    single = np.ones(len(keys), dtype=bool)
    single[order[1:][same]] = False
    single[order[:-1][same]] = False
    chosen: npt.NDArray[np.bool_] = np.zeros(sum(len(blocks[i].nodes) for i in usable), dtype=bool)
    start = 0
    for i in usable:
        if i in cells:
            chosen[start + cells[i]] = True
        start += len(blocks[i].nodes)
    found = keys[single & chosen[cell]]
    count = (found >= 0).sum(axis=1)
    return [found[count == k][:, 4 - k :] for k in (2, 3, 4) if (count == k).any()]


def _middle_last(points: FloatArray, rows: IntArray) -> IntArray:
    """Order lines of three nodes ends first; trusses and beams of different programs differ in that.

    The middle node is the one opposite the longest of the three distances.
    """
    x = points[rows]
    opposite = np.stack([np.linalg.norm(x[:, (k + 1) % 3] - x[:, (k + 2) % 3], axis=1) for k in range(3)], axis=1)
    middle = opposite.argmax(axis=1)
    order = np.array([(1, 2, 0), (0, 2, 1), (0, 1, 2)])[middle]
    return np.take_along_axis(rows, order, axis=1)
