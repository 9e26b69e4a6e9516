"""VTU files: all pieces, in every encoding that VTK writes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from femadj.errors import MeshFileError
from femadj.io.raw import RawMesh
from femadj.io.text import numbers, whole
from femadj.io.vtk.assemble import Piece, joined, raw_mesh
from femadj.io.vtk.encoding import COMPRESSORS, TYPES, Encoding, values

AnyArray = npt.NDArray[Any]


def read_vtu(path: Path) -> RawMesh:
    """Read a VTU file.

    Raises
    ------
    MeshFileError
        For a damaged file, another kind of grid, and encodings that are not known.
    """
    data = path.read_bytes()
    file = _open(path, data)
    kind = file.root.get("type", "")
    if file.root.tag != "VTKFile" or kind != "UnstructuredGrid":
        raise MeshFileError(
            f"{path} holds {kind or file.root.tag!r}, not an UnstructuredGrid; open it in ParaView and save it as .vtu "
            "(parallel files: by Merge Blocks; other grids: by Append Datasets or Clean to Grid)"
        )
    grid = file.root.find("UnstructuredGrid")
    found = [] if grid is None else grid.findall("Piece")
    dropped: list[str] = []
    warnings: list[str] = []
    pieces = [_piece(file, element, f"{path}, piece {k}", dropped) for k, element in enumerate(found)]
    pieces = [p for p in pieces if len(p.points) or len(p.types)]
    if not pieces:
        raise MeshFileError(f"{path} holds no plane or solid cells: it has no piece with points")
    return raw_mesh(joined(pieces, dropped, warnings), path, "VTU", list(dict.fromkeys(dropped)), warnings)


@dataclass
class _File:
    """The XML of a file, and the data appended to it."""

    path: Path
    root: Any
    encoding: Encoding
    appended: memoryview = field(default_factory=lambda: memoryview(b""))
    appended_base64: bool = False
    decoded: dict[int, bytes] = field(default_factory=dict)


def _base64(file: _File, offset: int, where: str) -> bytes:
    return file.encoding.base64(bytes(file.appended[offset:]), where)


_APPENDED = re.compile(rb"<AppendedData\b([^>]*)>\s*_")


def _open(path: Path, data: bytes) -> _File:
    match = _APPENDED.search(data)
    text, appended = data, memoryview(b"")
    if match:
        end = data.rfind(b"</AppendedData>")
        appended = memoryview(data)[match.end() : end if end > match.end() else len(data)]
        text = data[: match.start()] + b"</VTKFile>"
    if b"<!DOCTYPE" in text[:4096] or b"<!ENTITY" in text:
        raise MeshFileError(f"{path}: a VTU file has no document type or entities")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise MeshFileError(f"{path} cannot be read: it is no complete XML ({error})") from error
    order = {"LittleEndian": "<", "BigEndian": ">"}.get(root.get("byte_order", "LittleEndian"))
    header = {"UInt32": "u4", "UInt64": "u8"}.get(root.get("header_type", "UInt32"))
    compressor = COMPRESSORS.get(root.get("compressor", ""))
    for name, found in (("byte_order", order), ("header_type", header), ("compressor", compressor)):
        if found is None:
            raise MeshFileError(f"{path}: the {name} {root.get(name)!r} is not known")
    encoding = Encoding(order or "<", header or "u4", compressor or "")
    return _File(path, root, encoding, appended, bool(match) and b"base64" in match[1] if match else False)


def _count(element: Any, name: str, where: str) -> int:
    text = element.get(name, "")
    if not (text.isdecimal() and text.isascii() and len(text) < 16):
        raise MeshFileError(f"{where}: {name}={text[:40]!r} is no number")
    return int(text)


def _piece(file: _File, element: Any, where: str, dropped: list[str]) -> Piece:
    n_points, n_cells = _count(element, "NumberOfPoints", where), _count(element, "NumberOfCells", where)
    points = element.find("Points/DataArray")
    if points is None and n_points:
        raise MeshFileError(f"{where}: it has no Points; the file is damaged")
    x = np.empty((0, 3)) if points is None else _array(file, points, f"{where}, Points", 3, n_points)
    if len(x) != n_points or x.ndim != 2 or x.shape[1] != 3:
        raise MeshFileError(f"{where}: coordinates of shape {x.shape} instead of {n_points} points; it is damaged")
    cells = {a.get("Name"): a for a in element.findall("Cells/DataArray")}
    arrays = []
    for name in ("connectivity", "offsets", "types"):
        if name not in cells:
            if n_cells:
                raise MeshFileError(f"{where}: the array {name!r} of its cells is missing; the file is damaged")
            arrays.append(np.empty(0, np.int64))
            continue
        found = _array(file, cells[name], f"{where}, {name}", 1, None if name == "connectivity" else n_cells)
        arrays.append(_integers(found.ravel(), f"{where}, {name}"))
    connectivity, ends, types = arrays
    if len(ends) != n_cells or len(types) != n_cells:
        raise MeshFileError(f"{where}: {len(ends)} offsets and {len(types)} types of {n_cells} cells; it is damaged")
    if len(ends) and (ends[0] < 0 or (ends[1:] < ends[:-1]).any() or ends[-1] != len(connectivity)):
        raise MeshFileError(f"{where}: offsets that do not fit {len(connectivity)} nodes of cells; it is damaged")
    if len(connectivity) and (connectivity.min() < 0 or connectivity.max() >= n_points):
        raise MeshFileError(f"{where}: its cells refer to nodes that do not exist; the file is damaged")
    return Piece(
        np.ascontiguousarray(x, dtype=np.float64),
        connectivity,
        ends,
        types,
        _data(file, element, "PointData", n_points, where, dropped),
        _data(file, element, "CellData", n_cells, where, dropped),
    )


def _integers(found: AnyArray, where: str) -> AnyArray:
    if found.dtype.kind == "u":
        return found.astype(np.int64)
    return found if found.dtype.kind == "i" else whole(found.astype(np.float64), "the number", where)


def _data(file: _File, piece: Any, name: str, size: int, where: str, dropped: list[str]) -> dict[str, AnyArray]:
    """Integer arrays of cells or nodes; others cannot be groups and are not even decoded."""
    what = "point data" if name == "PointData" else "cell data"
    entity = "node" if name == "PointData" else "cell"
    result = {}
    for element in piece.findall(f"{name}/DataArray") + piece.findall(f"{name}/Array"):
        own = element.get("Name", "")
        kind = TYPES.get(element.get("type", ""), "")
        if kind[:1] not in ("i", "u") or element.get("NumberOfComponents", "1") not in ("0", "1", ""):
            dropped.append(f"{what} {own!r}: not one integer per {entity}")
            continue
        found = _array(file, element, f"{where}, {what} {own!r}", 1, size).ravel()
        if len(found) != size:
            raise MeshFileError(f"{where}: {len(found)} values of {what} {own!r} instead of {size}; it is damaged")
        result[own] = found
    return result


def _array(file: _File, element: Any, where: str, width: int, rows: int | None) -> AnyArray:
    """Values of an array, with as many components as it says."""
    kind = element.get("type", "")
    if kind not in TYPES:
        raise MeshFileError(f"{where}: numbers of type {kind!r} are not known")
    form = element.get("format", "ascii")
    if rows == 0 and not (element.text or "").strip():
        found: AnyArray = np.empty(0, TYPES[kind])
    elif form == "ascii":
        integer = TYPES[kind][0] in "iu"
        found = numbers((element.text or "").encode("utf-8", "replace"), np.int64 if integer else np.float64, where)
    elif form == "binary":
        text = "".join((element.text or "").split()) if (element.text or "").strip() else ""
        found = values(file.encoding.base64(text.encode("utf-8", "replace"), where), kind, file.encoding.order, where)
    elif form == "appended":
        offset = _count(element, "offset", where)
        if offset >= len(file.appended):
            raise MeshFileError(f"{where}: its data at {offset} are not there; the file is truncated or damaged")
        part = file.appended[offset:]
        if offset not in file.decoded:  # arrays may share their data
            plain = file.encoding.raw(part, where) if not file.appended_base64 else _base64(file, offset, where)
            file.decoded[offset] = plain
        found = values(file.decoded[offset], kind, file.encoding.order, where)
    else:
        raise MeshFileError(f"{where}: the format {form!r} is not known")
    given = element.get("NumberOfComponents", str(width))
    components = int(given) if given.isdecimal() and given.isascii() and 0 < len(given) < 4 and int(given) else 1
    if len(found) % components:
        raise MeshFileError(f"{where}: {len(found)} values of {components} components; the file is damaged")
    return found.reshape(-1, components)
