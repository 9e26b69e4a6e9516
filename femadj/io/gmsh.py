"""Gmsh 2 and 4.1, ASCII and binary.

Read here and not by meshio, which drops node and element ids, keeps one of several physical groups of the same name,
and refuses 4.1 files in which only some entities belong to a physical group. The format is described in the Gmsh
reference manual, chapter "Gmsh file formats".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import MeshFileError, UnsupportedCellError
from femadj.io.arrays import cell_groups
from femadj.io.raw import Budget, IdTable, IntArray, RawBlock, RawGroup, RawMesh
from femadj.io.text import numbers, whole

# Gmsh's number of an element type: (meshio's name, number of nodes)
ELEMENTS: Mapping[int, tuple[str, int]] = MappingProxyType(
    {
        1: ("line", 2), 2: ("triangle", 3), 3: ("quad", 4), 4: ("tetra", 4), 5: ("hexahedron", 8), 6: ("wedge", 6),
        7: ("pyramid", 5), 8: ("line3", 3), 9: ("triangle6", 6), 10: ("quad9", 9), 11: ("tetra10", 10),
        12: ("hexahedron27", 27), 13: ("wedge18", 18), 14: ("pyramid14", 14), 15: ("vertex", 1), 16: ("quad8", 8),
        17: ("hexahedron20", 20), 18: ("wedge15", 15), 19: ("pyramid13", 13), 21: ("triangle10", 10),
        26: ("line4", 4), 29: ("tetra20", 20), 36: ("quad16", 16), 90: ("wedge40", 40), 92: ("hexahedron64", 64),
    }
)  # fmt: skip

_SHAPES: Mapping[int, str] = MappingProxyType(
    {
        20: "triangle9", 22: "triangle12", 23: "triangle15", 24: "triangle15", 25: "triangle21", 27: "line5",
        28: "line6", 30: "tetra35", 31: "tetra56", 32: "tetra22", 33: "tetra28", 37: "quad25", 38: "quad36",
        93: "hexahedron125", 98: "hexahedron1000", 106: "wedge90", 118: "pyramid30",
    }
)  # fmt: skip

# position in Gmsh's node order of each node in meshio's, where they differ
ORDER: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "tetra10": (0, 1, 2, 3, 4, 5, 6, 7, 9, 8),
        "hexahedron20": (0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 9, 16, 18, 19, 17, 10, 12, 14, 15),
        "hexahedron27": (
            0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 9, 16, 18, 19, 17, 10, 12, 14, 15, 22, 23, 21, 24, 20, 25, 26,
        ),
    }
)  # fmt: skip

ENTITY = ("point", "curve", "surface", "volume")


class _Ascii:
    """Numbers of an ASCII section, taken one run after the other."""

    def __init__(self, text: bytes, where: str, first_line: int) -> None:
        self._values = numbers(text, np.float64, where, first_line)
        self._where = where
        self._at = 0

    def doubles(self, count: int) -> FloatArray:
        end = self._at + count
        if count < 0 or end > len(self._values):
            raise MeshFileError(f"{self._where}: ends too early; the file is truncated or damaged")
        values = self._values[self._at : end]
        self._at = end
        return values

    def ints(self, count: int) -> IntArray:
        return whole(self.doubles(count), "the number", self._where)

    sizes = ints

    @property
    def left(self) -> int:
        """Numbers that nobody took."""
        return len(self._values) - self._at

    def rest(self) -> IntArray:
        """Everything from here to the end of the section as integers, without moving on."""
        return whole(self._values[self._at :], "the number", self._where)

    def skip_ints(self, count: int) -> None:
        self._at += count


class _Binary:
    """Numbers of a binary section, taken one run after the other."""

    def __init__(self, data: bytes, start: int, order: str, size: int, where: str) -> None:
        self._data = data
        self.at = start
        self._order = order
        self._size = size
        self._where = where

    def take(self, dtype: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
        kind = np.dtype(dtype).newbyteorder(self._order)  # type: ignore[arg-type]
        end = self.at + kind.itemsize * count
        if count < 0 or end > len(self._data):
            raise MeshFileError(f"{self._where}: ends too early; the file is truncated or damaged")
        values = np.frombuffer(self._data, kind, count, self.at)
        self.at = end
        return values

    def doubles(self, count: int) -> FloatArray:
        return self.take("f8", count).astype(np.float64)

    def ints(self, count: int) -> IntArray:
        return self.take("i4", count).astype(np.int64)

    def sizes(self, count: int) -> IntArray:
        return self.take(f"u{self._size}", count).astype(np.int64)

    def rest(self) -> IntArray:
        """Everything from here to the end of the file as 32-bit integers, without moving on."""
        kind = np.dtype("i4").newbyteorder(self._order)  # type: ignore[arg-type]
        return np.frombuffer(self._data, kind, (len(self._data) - self.at) // 4, self.at).astype(np.int64)

    def skip_ints(self, count: int) -> None:
        self.at += 4 * count


_Numbers = _Ascii | _Binary


@dataclass(frozen=True)
class _File:
    """Contents and header of a file."""

    path: Path
    data: bytes
    version: str
    binary: bool
    size: int
    order: str

    def where(self, name: str) -> str:
        return f"{self.path}, section ${name}"

    def start(self, name: str) -> int | None:
        """Where the contents of a section start."""
        begin = re.compile(rb"^\$" + name.encode() + rb"[ \t\r]*\n", re.MULTILINE)
        match = begin.search(self.data)
        if match is None:
            return None
        end = self.data.find(b"$End" + name.encode(), match.end())
        if end >= 0 and begin.search(self.data, end):
            raise MeshFileError(f"{self.where(name)}: there are two of it; the file is damaged")
        return match.end()

    def end(self, name: str, start: int) -> int:
        """Where its contents end."""
        at = self.data.find(b"$End" + name.encode(), start)
        if at < 0:
            raise MeshFileError(f"{self.where(name)}: $End{name} is missing; the file is truncated")
        return at

    def text(self, name: str) -> str:
        """Contents of a section that is text in binary files too; empty without the section."""
        start = self.start(name)
        return "" if start is None else self.data[start : self.end(name, start)].decode("utf-8", "replace")

    def reader(self, name: str) -> _Numbers | None:
        """Reader of a section that is all numbers (or all binary)."""
        start = self.start(name)
        if start is None:
            return None
        if self.binary:
            return _Binary(self.data, start, self.order, self.size, self.where(name))
        return self._ascii(name, start, start)

    def _ascii(self, name: str, start: int, at: int) -> _Ascii:
        line = 1 + self.data.count(b"\n", 0, at)
        return _Ascii(self.data[at : self.end(name, start)], self.where(name), line)

    def counted(self, name: str) -> tuple[int, _Numbers]:
        """Count on the first line of a version 2 section, and the reader of what follows."""
        start = self.start(name)
        if start is None:
            raise MeshFileError(f"{self.path}: the section ${name} is missing; the file is truncated")
        line_end = self.data.find(b"\n", start)
        line = self.data[start : max(line_end, start)]
        if not line.strip().isdigit() or len(line.strip()) > 15:
            raise MeshFileError(f"{self.where(name)}: the first line must be a number")
        if self.binary:
            return int(line), _Binary(self.data, line_end + 1, self.order, self.size, self.where(name))
        return int(line), self._ascii(name, start, line_end + 1)

    def check_end(self, name: str, reader: _Numbers) -> None:
        """Make sure that a section ends where its counts say."""
        if isinstance(reader, _Ascii):
            if reader.left:
                raise MeshFileError(
                    f"{self.where(name)}: {reader.left} numbers more than its counts say; the file is damaged"
                )
        elif not self.data[reader.at : reader.at + 64].lstrip().startswith(b"$End" + name.encode()):
            raise MeshFileError(f"{self.where(name)}: $End{name} is not where it should be; the file is damaged")


@dataclass(frozen=True, eq=False)
class _Elements:
    """Elements of one type that follow each other: ids, node ids and physical tags.

    ``tags`` is either one tuple for all elements or an array with one tag per element (zero: none).
    """

    dim: int
    type: str
    ids: IntArray
    nodes: IntArray
    tags: tuple[int, ...] | IntArray


def is_fluent(path: Path) -> bool:
    """Whether a ``.msh`` file is one of ANSYS Fluent, which has the same extension."""
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"(")


def read(path: Path) -> RawMesh:
    """Read a Gmsh file.

    Raises
    ------
    MeshFileError
        For a truncated or damaged file, and for versions other than 2 and 4.1.
    """
    file = _open(path)
    names = _physical_names(file)
    if file.version.startswith("2"):
        node_ids, points = _nodes_2(file)
        elements = _elements_2(file)
    else:
        node_ids, points = _nodes_4(file)
        elements = _elements_4(file, _entities_4(file))
    table = IdTable(node_ids, "nodes", path)
    blocks = []
    for part in elements:
        rows = table.rows(part.nodes, f"{path}: {part.type} elements")
        if part.type in ORDER:
            rows = rows[:, list(ORDER[part.type])]
        blocks.append(RawBlock(part.type, rows, part.ids))
    groups, without = _groups(elements, names, path)
    dropped = [*without]
    groups += _element_data(file, blocks, dropped)
    kind = "binary" if file.binary else "ASCII"
    return RawMesh(
        format=f"Gmsh {file.version} {kind}",
        points=points,
        blocks=blocks,
        groups=groups,
        node_ids=node_ids,
        dropped=tuple(dropped),
        merge_repeated=file.version.startswith("2"),
    )


def _open(path: Path) -> _File:
    data = path.read_bytes()
    match = re.search(rb"^\$MeshFormat\s*\n\s*(\S+)\s+(\d)\s+(\d{1,3})[ \t\r]*\n", data, re.MULTILINE)
    if match is None:
        raise MeshFileError(
            f"{path} is no Gmsh file of version 2 or 4.1 (no $MeshFormat); write one with Gmsh: gmsh FILE -save "
            "-format msh41"
        )
    version, binary, size = match[1].decode("latin-1"), match[2] == b"1", int(match[3])
    if not (version.startswith("2") or version == "4.1"):
        raise MeshFileError(
            f"{path} has version {version[:20]} of Gmsh's format; convert it to 4.1: gmsh FILE -save -format msh41"
        )
    if size not in (4, 8):
        raise MeshFileError(f"{path}: a data size of {size} bytes is not possible")
    order = "<"
    if binary:
        one = data[match.end() : match.end() + 4]
        if one not in (b"\1\0\0\0", b"\0\0\0\1"):
            raise MeshFileError(f"{path}: the byte order of the binary file cannot be told; it is damaged")
        order = "<" if one[0] else ">"
    file = _File(path, data, version, binary, size, order)
    if b"$PartitionedEntities" in data:
        raise MeshFileError(f"{path} is a partitioned mesh; save it without partitions")
    return file


def _physical_names(file: _File) -> dict[tuple[int, int], str]:
    lines = [line for line in file.text("PhysicalNames").splitlines() if line.strip()]
    names: dict[tuple[int, int], str] = {}
    for line in lines[1:]:
        match = re.match(r'\s*(\d{1,9})\s+(-?\d{1,15})\s+(?:"(.*)"|([^"]*\S))\s*$', line)
        if match is None:
            raise MeshFileError(f"{file.where('PhysicalNames')}: cannot read the line {line[:80]!r}")
        key = int(match[1]), abs(int(match[2]))
        name = match[3] if match[3] is not None else match[4]
        if names.setdefault(key, name) != name:
            raise MeshFileError(
                f"{file.where('PhysicalNames')}: the group {key[1]} of dimension {key[0]} has two names, "
                f"{names[key]!r} and {name!r}"
            )
    if lines and lines[0].strip() != str(len(lines) - 1):
        raise MeshFileError(
            f"{file.where('PhysicalNames')}: {len(lines) - 1} names instead of {lines[0].strip()[:20]}; it is damaged"
        )
    return names


# ---------------------------------------------------------------------- version 2
def _nodes_2(file: _File) -> tuple[IntArray, FloatArray]:
    count, reader = file.counted("Nodes")
    if isinstance(reader, _Binary):
        table = reader.take(np.dtype([("id", "i4"), ("x", "f8", (3,))]), count)
        ids, points = table["id"].astype(np.int64), table["x"].astype(np.float64)
    else:
        values = reader.doubles(4 * count).reshape(count, 4)
        ids, points = whole(values[:, 0], "the node id", file.where("Nodes")), values[:, 1:].copy()
    file.check_end("Nodes", reader)
    return ids, points


def _elements_2(file: _File) -> list[_Elements]:
    count, reader = file.counted("Elements")
    parts = []
    found = 0
    binary = isinstance(reader, _Binary)
    values = reader.rest()
    at = 0
    while found < count:
        if at + 3 > len(values):
            raise MeshFileError(f"{file.where('Elements')}: {found} elements of {count}; the file is truncated")
        # ASCII: id, type, number of tags, tags, nodes; binary: type, n, number of tags, then n times id, tags, nodes
        number, n_tags = int(values[at if binary else at + 1]), int(values[at + 2])
        name, n_nodes = _element(number, file)
        if n_tags < 0:
            raise MeshFileError(f"{file.where('Elements')}: an element with {n_tags} tags; the file is damaged")
        header = 3
        if binary and values[at + 1] == 1:  # Gmsh itself writes a header for every element
            width = 3 + 1 + n_tags + n_nodes
            n = _run_length(values, at, width, count - found, (0, 1, 2))
        elif binary:
            at += 3
            header, width = 0, 1 + n_tags + n_nodes
            n = min(int(values[at - 2]), count - found, (len(values) - at) // width)
        else:
            width = 3 + n_tags + n_nodes
            n = _run_length(values, at, width, count - found, (1, 2))
        if n <= 0:
            raise MeshFileError(f"{file.where('Elements')}: {found} elements of {count}; the file is truncated")
        rows = values[at : at + n * width].reshape(n, width)
        first = header + binary  # of the tags; the id stands before them, or opens the line
        parts.append(
            _part_2(name, rows[:, header if binary else 0], rows[:, first : first + n_tags], rows[:, first + n_tags :])
        )
        at += n * width
        found += n
    reader.skip_ints(at)
    file.check_end("Elements", reader)
    return _by_type(parts)


def _by_type(parts: list[_Elements]) -> list[_Elements]:
    """One part per type, however often they alternate in the file."""
    found: dict[str, list[_Elements]] = {}
    for part in parts:
        found.setdefault(part.type, []).append(part)
    return [
        _Elements(
            of_type[0].dim,
            name,
            np.concatenate([p.ids for p in of_type]),
            np.concatenate([p.nodes for p in of_type]),
            np.concatenate([np.asarray(p.tags) for p in of_type]),
        )
        for name, of_type in found.items()
    ]


def _run_length(values: IntArray, at: int, width: int, limit: int, columns: tuple[int, ...]) -> int:
    """Elements from ``at`` on that agree with the first in these columns; looked for in growing steps."""
    limit = min(limit, (len(values) - at) // width)
    done, step = 0, 64
    while done < limit:
        n = min(step, limit - done)
        rows = values[at + done * width : at + (done + n) * width].reshape(n, width)
        other = np.flatnonzero(np.any([rows[:, c] != values[at + c] for c in columns], axis=0))
        if len(other):
            return done + int(other[0])
        done += n
        step *= 2
    return limit


def _part_2(name: str, ids: IntArray, tags: IntArray, nodes: IntArray) -> _Elements:
    physical = np.abs(tags[:, 0]) if tags.shape[1] else np.zeros(len(ids), dtype=np.int64)
    return _Elements(_dim(name), name, ids.copy(), nodes.copy(), physical)


# ---------------------------------------------------------------------- version 4.1
def _entities_4(file: _File) -> dict[tuple[int, int], tuple[int, ...]]:
    reader = file.reader("Entities")
    if reader is None:
        return {}
    physical = {}
    for dim, count in enumerate(reader.sizes(4).tolist()):
        for _ in range(count):
            tag = int(reader.ints(1)[0])
            reader.doubles(3 if dim == 0 else 6)
            tags = reader.ints(int(reader.sizes(1)[0]))
            physical[dim, tag] = tuple(np.abs(tags).tolist())
            if dim:
                reader.ints(int(reader.sizes(1)[0]))
    file.check_end("Entities", reader)
    return physical


def _nodes_4(file: _File) -> tuple[IntArray, FloatArray]:
    reader = file.reader("Nodes")
    if reader is None:
        raise MeshFileError(f"{file.path}: the section $Nodes is missing; the file is truncated")
    n_blocks, total, _, _ = reader.sizes(4).tolist()
    ids, points = [np.empty(0, np.int64)], [np.empty((0, 3))]
    for _ in range(n_blocks):
        dim, _, parametric = reader.ints(3).tolist()
        count = int(reader.sizes(1)[0])
        if dim not in range(4) or count < 0:
            raise MeshFileError(f"{file.where('Nodes')}: a block of {count} nodes of dimension {dim}; it is damaged")
        ids.append(reader.sizes(count))
        width = 3 + (dim if parametric else 0)
        points.append(reader.doubles(width * count).reshape(count, width)[:, :3])
    file.check_end("Nodes", reader)
    all_ids = np.concatenate(ids)
    if len(all_ids) != total:
        raise MeshFileError(f"{file.where('Nodes')}: {len(all_ids)} nodes instead of {total}; the file is damaged")
    return all_ids, np.vstack(points)


def _elements_4(file: _File, physical: Mapping[tuple[int, int], tuple[int, ...]]) -> list[_Elements]:
    reader = file.reader("Elements")
    if reader is None:
        raise MeshFileError(f"{file.path}: the section $Elements is missing; the file is truncated")
    n_blocks, total, _, _ = reader.sizes(4).tolist()
    parts = []
    for _ in range(n_blocks):
        dim, tag, number = reader.ints(3).tolist()
        count = int(reader.sizes(1)[0])
        name, n_nodes = _element(number, file)
        if dim != _dim(name) or count < 0:
            raise MeshFileError(
                f"{file.where('Elements')}: a block of {count} {name} elements of dimension {dim}; it is damaged"
            )
        rows = reader.sizes(count * (1 + n_nodes)).reshape(count, 1 + n_nodes)
        parts.append(_Elements(dim, name, rows[:, 0].copy(), rows[:, 1:].copy(), physical.get((dim, tag), ())))
    file.check_end("Elements", reader)
    found = sum(len(p.ids) for p in parts)
    if found != total:
        raise MeshFileError(f"{file.where('Elements')}: {found} elements instead of {total}; the file is damaged")
    return parts


# ---------------------------------------------------------------------- both
def _element(number: int, file: _File) -> tuple[str, int]:
    if number not in ELEMENTS:
        name = _SHAPES.get(number, "unknown")
        raise UnsupportedCellError(
            f"{file.where('Elements')}: elements of Gmsh's type {number} ({name}) are not supported; mesh with order 1 "
            "or 2"
        )
    return ELEMENTS[number]


def _dim(name: str) -> int:
    shapes = {"vertex": 0, "line": 1, "triangle": 2, "quad": 2}
    return next((d for shape, d in shapes.items() if name.startswith(shape)), 3)


def _groups(
    elements: list[_Elements], names: Mapping[tuple[int, int], str], path: Path
) -> tuple[list[RawGroup], tuple[str, ...]]:
    """Physical groups, in order of dimension and tag."""
    budget = Budget(sum(len(p.ids) for p in elements))
    members: dict[tuple[int, int], dict[int, IntArray]] = {}
    for i, part in enumerate(elements):
        if isinstance(part.tags, tuple):
            for tag in part.tags:
                budget.spend(len(part.ids), f"{path}, physical group {tag}")
                members.setdefault((part.dim, tag), {})[i] = np.arange(len(part.ids))
        else:
            order = np.argsort(part.tags, kind="stable")
            values, starts = np.unique(part.tags[order], return_index=True)
            for tag, rows in zip(values.tolist(), np.split(order, starts[1:]), strict=True):
                if tag > 0:
                    members.setdefault((part.dim, tag), {})[i] = rows
    groups = [
        RawGroup(names.get(key, str(key[1])), f"physical {ENTITY[key[0]]} {key[1]}", members[key])
        for key in sorted(members, key=lambda k: (-k[0], k[1]))
    ]
    dropped = tuple(
        f"group {name!r} (physical {ENTITY[key[0]] if key[0] < 4 else 'entity'} {key[1]}): it has no elements"
        for key, name in names.items()
        if key not in members
    )
    return groups, dropped


# ---------------------------------------------------------------------- data of elements
_DATA = re.compile(rb"^\$(ElementData|NodeData|ElementNodeData)[ \t\r]*\n", re.MULTILINE)


def _element_data(file: _File, blocks: list[RawBlock], dropped: list[str]) -> list[RawGroup]:
    """Groups that scikit-fem keeps in data of elements; other data are results, and are left out."""
    groups: list[RawGroup] = []
    tables: list[IdTable] = []
    for match in _DATA.finditer(file.data):
        what = match[1].decode()
        title = re.compile(rb'\s*\d+\s*\n\s*"([^"\n]*)"').match(file.data, match.end())
        name = title[1].decode("utf-8", "replace") if title else ""
        if what != "ElementData" or not name.startswith(("skfem:s:", "skfem:b:")):
            dropped.append(f"${what} {name!r}: results, not a group")
            continue
        found = _values_of_elements(file, match.end())
        if found is None:
            raise MeshFileError(f"{file.where('ElementData')} {name!r}: it ends too early or is damaged")
        ids, numbers_ = found
        values = []
        tables = tables or [IdTable(np.asarray(b.ids), "elements", file.path) for b in blocks]
        for block, table in zip(blocks, tables, strict=True):
            own = np.zeros(len(block.nodes), dtype=np.int64)
            if len(block.nodes):
                rows = table.find(ids)
                own[rows[rows >= 0]] = whole(numbers_[rows >= 0], "the value", f"{file.where('ElementData')} {name!r}")
            values.append(own)
        groups += cell_groups(name, values, blocks, dropped)
    return groups


def _values_of_elements(file: _File, start: int) -> tuple[IntArray, FloatArray] | None:
    """Ids and values of a section with one value per element; None where it is damaged."""
    at = start
    rows: list[str] = []
    for _ in range(3):  # strings, real numbers, integers: their number, and each on its line
        number = _lines(file.data, at, 1)
        if number is None or not number[0][0].isdigit() or len(number[0][0]) > 3:
            return None
        found = _lines(file.data, number[1], int(number[0][0]))
        if found is None:
            return None
        rows, at = found
    counts = rows  # step, components, entries
    if len(counts) < 3 or not all(c.isdigit() and len(c) < 12 for c in counts[:3]) or int(counts[1]) != 1:
        return None
    count = int(counts[2])
    if file.binary:
        kind = np.dtype([("id", file.order + "i4"), ("value", file.order + "f8")])
        if at + count * kind.itemsize > len(file.data):
            return None
        table = np.frombuffer(file.data, kind, count, at)
        return table["id"].astype(np.int64), table["value"].astype(np.float64)
    text = file.data[at : file.end("ElementData", at)]
    text = re.sub(rb"np\.\w+\(([^()\s]*)\)", rb"\1", text)  # as meshio 5.3 writes them with NumPy 2
    values = numbers(text, np.float64, file.where("ElementData"))
    if len(values) != 2 * count:
        return None
    return whole(values[::2], "the element id", file.where("ElementData")), values[1::2]


def _lines(data: bytes, at: int, count: int) -> tuple[list[str], int] | None:
    """The next lines, and where they end."""
    rows = []
    for _ in range(count):
        end = data.find(b"\n", at)
        if end < 0:
            return None
        rows.append(data[at:end].decode("latin-1").strip())
        at = end + 1
    return rows, at
