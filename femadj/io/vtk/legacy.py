"""VTK's legacy format, ASCII and binary, with arrays of every type."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.errors import MeshFileError
from femadj.io.raw import IntArray, RawMesh
from femadj.io.text import numbers, whole
from femadj.io.vtk.assemble import Piece, joined, raw_mesh

AnyArray = npt.NDArray[Any]

TYPES = {
    "unsigned_char": "u1", "char": "i1", "signed_char": "i1", "unsigned_short": "u2", "short": "i2",
    "unsigned_int": "u4", "int": "i4", "unsigned_long": "u8", "long": "i8", "unsigned_long_long": "u8",
    "long_long": "i8", "float": "f4", "double": "f8", "vtkidtype": "i4", "vtktypeint8": "i1", "vtktypeuint8": "u1",
    "vtktypeint16": "i2", "vtktypeuint16": "u2", "vtktypeint32": "i4", "vtktypeuint32": "u4", "vtktypeint64": "i8",
    "vtktypeuint64": "u8", "vtktypefloat32": "f4", "vtktypefloat64": "f8",
}  # fmt: skip
"""Bytes of the types; VTK writes its ids with four."""

_HEAD = re.compile(
    rb"\s*#\s*vtk\s+DataFile\s+Version\s+(\d+)\.(\d+)[^\n]*\n[^\n]*\n\s*(ASCII|BINARY)\b[^\n]*\n", re.IGNORECASE
)
_KEYWORD = re.compile(rb"^[ \t]*(?!(?:nan|inf|infinity)\b)[A-Za-z]", re.MULTILINE | re.IGNORECASE)

_WIDTHS = {"VECTORS": 3, "NORMALS": 3, "TENSORS": 9, "TENSORS6": 6}


def is_structured(path: Path) -> bool:
    """Whether a file holds a structured grid, whose cells are not listed."""
    with path.open("rb") as file:
        return bool(
            re.search(rb"^\s*DATASET\s+(?:STRUCTURED|RECTILINEAR)", file.read(4096), re.MULTILINE | re.IGNORECASE)
        )


def read_legacy(path: Path) -> RawMesh:
    """Read a legacy file with an unstructured grid.

    Raises
    ------
    MeshFileError
        For a damaged file, and other data sets.
    """
    data = path.read_bytes()
    if b"\r" in data[:512] and b"BINARY" not in data[:512]:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    head = _HEAD.match(data)
    if head is None:
        raise MeshFileError(f"{path} is no VTK file: it does not begin with '# vtk DataFile Version'")
    reader = _Reader(path, data, head.end(), head[3].upper() == b"BINARY")
    grid = _Grid()
    while (line := reader.words()) is not None:
        if not _section(grid, reader, line):
            break
    if grid.points is None or grid.types is None:
        missing = "POINTS" if grid.points is None else "CELL_TYPES"
        raise MeshFileError(f"{path}: the section {missing} is missing; the file is truncated or damaged")
    connectivity, ends = grid.connectivity, grid.ends
    if len(ends) != len(grid.types):
        raise MeshFileError(f"{path}: {len(ends)} cells and {len(grid.types)} types; the file is damaged")
    piece = Piece(grid.points, connectivity, ends, grid.types, grid.point_data, grid.cell_data)
    warnings: list[str] = grid.warnings
    piece = joined([piece], grid.dropped, warnings)
    return raw_mesh(piece, path, "VTK", grid.dropped, warnings)


@dataclass
class _Grid:
    points: AnyArray | None = None
    connectivity: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    ends: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    types: IntArray | None = None
    point_data: dict[str, AnyArray] = field(default_factory=dict)
    cell_data: dict[str, AnyArray] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    of_cells: bool = False
    size: int = 0


class _Reader:
    """Takes lines and arrays from a file, one after the other."""

    def __init__(self, path: Path, data: bytes, at: int, binary: bool) -> None:
        self.path, self.data, self.at, self.binary = path, data, at, binary
        self.where = str(path)

    def words(self) -> list[str] | None:
        """Words of the next line that is not blank; None at the end."""
        while self.at < len(self.data):
            end = self.data.find(b"\n", self.at)
            end = len(self.data) if end < 0 else end
            line = self.data[self.at : min(end, self.at + 4096)].decode("latin-1").split()
            self.at = end + 1
            if line:
                self.where = f"{self.path}, {line[0][:40]}"
                return line
        return None

    def count(self, line: list[str], at: int) -> int:
        """A word that must be a count."""
        word = line[at] if at < len(line) else ""
        if not (word.isdecimal() and word.isascii() and len(word) < 16):
            raise MeshFileError(f"{self.where}: {word[:40]!r} is no count; the file is damaged")
        return int(word)

    def array(self, count: int, kind: str) -> AnyArray:
        """The next numbers, of one of VTK's types."""
        name = kind.lower()
        if name == "bit":
            return self._bits(count)
        if name not in TYPES:
            raise MeshFileError(f"{self.where}: arrays of type {kind[:40]!r} are not known")
        if not self.binary:
            return self._ascii(count, TYPES[name][0] in "iu")
        size = int(TYPES[name][1])
        code = TYPES[name]
        if name in ("long", "unsigned_long") and not self._fits(count * 8) and self._fits(count * 4):
            code = code[0] + "4"  # as Windows has it
            size = 4
        if name == "vtkidtype" and not self._fits(count * 4) and self._fits(count * 8):
            code, size = "i8", 8
        end = self.at + count * size
        if end > len(self.data):
            raise MeshFileError(f"{self.where}: {count} numbers are not there; the file is truncated or damaged")
        start, self.at = self.at, end
        if code[1] == "8" and code[0] in "iu":
            halves = np.frombuffer(self.data, ">i4", 2 * count, start)
            if not halves[::2].any() and (count == 0 or halves[1::2].min() >= 0):  # they fit in 32 bits
                return halves[1::2].astype(np.int32)
        values = np.frombuffer(self.data, np.dtype(">" + code), count, start)
        return values.astype(values.dtype.newbyteorder("="))

    def _fits(self, size: int) -> bool:
        """Whether an array of so many bytes is followed by a line, or the end."""
        after = self.data[self.at + size : self.at + size + 64]
        end = self.at + size
        return end <= len(self.data) and bool(re.match(rb"\s*(?:$|\n\s*[A-Z]|[A-Z_]{3,}|[^\s]+ \d+ \d+ \w+)", after))

    def _bits(self, count: int) -> AnyArray:
        if not self.binary:
            return self._ascii(count, True)
        size = (count + 7) // 8
        if self.at + size > len(self.data):
            raise MeshFileError(f"{self.where}: {count} bits are not there; the file is truncated or damaged")
        bits = np.unpackbits(np.frombuffer(self.data, np.uint8, size, self.at))[:count]
        self.at += size
        return bits.astype(np.int64, copy=False)

    def _ascii(self, count: int, integer: bool) -> AnyArray:
        if not count:
            return np.empty(0, np.int64 if integer else np.float64)
        match = _KEYWORD.search(self.data, self.at)
        end = match.start() if match else len(self.data)
        values = numbers(self.data[self.at : end], np.float64, self.where)
        if len(values) != count:
            raise MeshFileError(
                f"{self.where}: {len(values)} numbers instead of {count}; the file is truncated or damaged"
            )
        self.at = end
        return whole(values, "the number", self.where) if integer else values

    def skip_metadata(self) -> None:
        """Go past a block of metadata, which a blank line ends."""
        end = re.compile(rb"\n[ \t]*\r?\n").search(self.data, max(self.at - 1, 0))
        self.at = end.end() if end else len(self.data)


def _section(grid: _Grid, reader: _Reader, line: list[str]) -> bool:
    """Read the section that a line opens; False at the end of what can be read."""
    word = line[0].upper()
    if word == "DATASET":
        kind = line[1].upper() if len(line) > 1 else ""
        if kind != "UNSTRUCTURED_GRID":
            raise MeshFileError(
                f"{reader.path} holds the data set {kind or 'without a name'}, not UNSTRUCTURED_GRID; open it in "
                "ParaView and save it as .vtu"
            )
    elif word == "POINTS":
        count = reader.count(line, 1)
        grid.points = (
            reader.array(3 * count, line[2] if len(line) > 2 else "").reshape(count, 3).astype(np.float64, copy=False)
        )
    elif word == "CELLS":
        _cells(grid, reader, line)
    elif word == "CELL_TYPES":
        grid.types = reader.array(reader.count(line, 1), "int").astype(np.int64, copy=False)
    elif word in ("CELL_DATA", "POINT_DATA"):
        grid.of_cells, grid.size = word == "CELL_DATA", reader.count(line, 1)
    elif word == "METADATA":
        reader.skip_metadata()
    else:
        return _attribute(grid, reader, line, word)
    return True


def _cells(grid: _Grid, reader: _Reader, line: list[str]) -> None:
    """Cells as offsets and nodes (version 5), or each with the number of its nodes before them."""
    first, second = reader.count(line, 1), reader.count(line, 2)
    start = reader.at
    head = reader.words() or []
    if head and head[0].upper() == "OFFSETS":
        offsets = reader.array(first, head[1] if len(head) > 1 else "").astype(np.int64, copy=False)
        head = reader.words() or []
        if not head or head[0].upper() != "CONNECTIVITY":
            raise MeshFileError(f"{reader.path}: CONNECTIVITY is missing; the file is truncated or damaged")
        found = reader.array(second, head[1] if len(head) > 1 else "")
        grid.connectivity = found if found.dtype.kind == "i" else found.astype(np.int64)
        if len(offsets) and (offsets[0] != 0 or offsets[-1] != second or (offsets[1:] < offsets[:-1]).any()):
            raise MeshFileError(f"{reader.path}, OFFSETS: they do not fit {second} nodes of cells; it is damaged")
        grid.ends = offsets[1:]
        return
    reader.at = start
    reader.where = f"{reader.path}, CELLS"
    values = reader.array(second, "int").astype(np.int64, copy=False)
    grid.connectivity, grid.ends = _counted(values, first, reader.where)


def _counted(values: IntArray, count: int, where: str) -> tuple[IntArray, IntArray]:
    """Nodes and their ends from a list in which their number stands before those of each cell."""
    damaged = MeshFileError(f"{where}: {len(values)} numbers are not those of {count} cells; the file is damaged")
    if not count:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if not len(values):
        raise damaged
    width = int(values[0]) + 1
    if width > 0 and width * count == len(values) and (values[::width] == width - 1).all():
        return values.reshape(count, width)[:, 1:].ravel(), np.arange(1, count + 1) * (width - 1)
    starts = np.empty(count, dtype=np.int64)
    at = 0
    sizes = values.tolist()
    for k in range(count):
        if at >= len(sizes) or sizes[at] < 0:
            raise damaged
        starts[k] = at
        at += sizes[at] + 1
    if at != len(sizes):
        raise damaged
    keep = np.ones(len(values), dtype=bool)
    keep[starts] = False
    return values[keep], np.cumsum(values[starts])


def _attribute(grid: _Grid, reader: _Reader, line: list[str], word: str) -> bool:
    """Read an array of cells or nodes."""
    name = line[1] if len(line) > 1 else ""
    if word == "SCALARS":
        width = reader.count(line, 3) if len(line) > 3 else 1
        at = reader.at
        if (reader.words() or [""])[0].upper() != "LOOKUP_TABLE":
            reader.at = at
        reader.where = f"{reader.path}, SCALARS {name}"
        _keep(grid, name, reader.array(grid.size * width, line[2] if len(line) > 2 else ""), width)
    elif word in _WIDTHS:
        reader.array(grid.size * _WIDTHS[word], line[2] if len(line) > 2 else "")
        _drop(grid, name)
    elif word in ("GLOBAL_IDS", "PEDIGREE_IDS", "EDGE_FLAGS"):
        reader.array(grid.size, line[2] if len(line) > 2 else "")
        _drop(grid, name)
    elif word == "TEXTURE_COORDINATES":
        reader.array(grid.size * reader.count(line, 2), line[3] if len(line) > 3 else "")
        _drop(grid, name)
    elif word == "COLOR_SCALARS":
        reader.array(grid.size * reader.count(line, 2), "unsigned_char" if reader.binary else "float")
        _drop(grid, name)
    elif word == "LOOKUP_TABLE":
        reader.array(4 * reader.count(line, 2), "unsigned_char" if reader.binary else "float")
    elif word == "FIELD":
        return _field(grid, reader, reader.count(line, 2))
    else:
        raise MeshFileError(f"{reader.path}: the section {line[0][:40]!r} is not known; the file may be damaged")
    return True


def _field(grid: _Grid, reader: _Reader, count: int) -> bool:
    for _ in range(count):
        head = reader.words()
        while head is not None and head[0].upper() == "METADATA":
            reader.skip_metadata()
            head = reader.words()
        if head is None or len(head) < 4:
            raise MeshFileError(f"{reader.where}: a field ends too early; the file is truncated or damaged")
        name, width, rows, kind = head[0], reader.count(head, 1), reader.count(head, 2), head[3]
        reader.where = f"{reader.path}, the field {name[:40]}"
        if kind.lower() == "string":
            if reader.binary:
                grid.warnings.append(f"{reader.where} holds text; what follows it is not read")
                return False
            for _ in range(min(width * rows, len(reader.data))):
                if reader.words() is None:
                    break
            _drop(grid, name)
            continue
        values = reader.array(width * rows, kind)
        if grid.size and rows == grid.size:
            _keep(grid, name, values, width)
        else:
            grid.dropped.append(f"field data {name!r}")
    return True


def _keep(grid: _Grid, name: str, values: AnyArray, width: int) -> None:
    if width != 1 or values.dtype.kind not in "iu":
        _drop(grid, name)
    elif grid.of_cells:
        grid.cell_data[name] = values
    else:
        grid.point_data[name] = values


def _drop(grid: _Grid, name: str) -> None:
    what, entity = ("cell data", "cell") if grid.of_cells else ("point data", "node")
    grid.dropped.append(f"{what} {name!r}: not one integer per {entity}")
