"""Everything else that meshio reads: VTK, VTU, Nastran, MED, ..."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import meshio
import numpy as np

from femadj.errors import MeshFileError
from femadj.io.raw import IntArray, RawBlock, RawGroup, RawMesh

MANY = 100
"""An integer array with more values than this numbers things rather than groups them."""


def read(path: Path) -> RawMesh:
    """Read a file through meshio.

    Raises
    ------
    MeshFileError
        Whatever meshio stumbles over, as its cause; and for Nastran files that meshio reads wrongly.
    """
    nastran = path.suffix.lower() in (".bdf", ".fem", ".nas")
    if nastran:
        _check_nastran(path)
    data, said = _meshio(path)
    warned: list[str] = list(said)
    blocks = []
    for block in data.cells:
        nodes = np.asarray(block.data) if not block.type.startswith("polyhedron") else np.zeros((len(block), 1))
        if nodes.size and (nodes.min() < 0 or nodes.max() >= len(data.points)):
            raise MeshFileError(f"{path}: {block.type} cells refer to nodes that do not exist; the file is damaged")
        blocks.append(RawBlock(block.type, nodes.astype(np.int64)))
    groups: list[RawGroup] = []
    dropped: list[str] = []
    for name, per_block in data.cell_sets.items():
        if name.startswith("gmsh:"):
            continue
        cells = {i: np.asarray(rows, np.int64) for i, rows in enumerate(per_block) if rows is not None}
        groups.append(RawGroup(name, "cell set", cells={i: r for i, r in cells.items() if len(r)}))
    for name, rows in data.point_sets.items():
        groups.append(RawGroup(name, "point set", nodes=np.asarray(rows, np.int64)))
    for name, arrays in data.cell_data.items():
        label = "property" if nastran else name
        groups += _cell_array(label, arrays, blocks, dropped)
    for name, values in data.point_data.items():
        if not nastran:
            groups += _point_array(name, np.asarray(values), dropped)
    node_ids = None
    if nastran:
        node_ids = np.asarray(data.points_id, dtype=np.int64)
        if len(np.unique(node_ids)) != len(data.points):
            raise MeshFileError(f"{path}: grid points with the same id")
        if np.any(np.asarray(data.point_data.get("nastran:ref", 0)) != 0):
            raise MeshFileError(f"{path}: grid points in local coordinate systems (CP) are not supported")
    return RawMesh(
        format="Nastran" if nastran else path.suffix.lstrip(".").upper(),
        points=np.asarray(data.points, dtype=np.float64),
        blocks=blocks,
        groups=groups,
        node_ids=node_ids,
        dropped=tuple(dropped),
        warnings=tuple(warned),
    )


def _meshio(path: Path) -> tuple[Any, list[str]]:
    """meshio's mesh, and the lines it printed or warned of."""
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        try:
            data = meshio.read(path)
        except (Exception, SystemExit) as error:  # meshio leaves by any exception, and by sys.exit
            said = " ".join(printed.getvalue().split())
            reason = said or f"{type(error).__name__}: {error}".rstrip(": ")
            raise MeshFileError(f"{path} cannot be read: {reason}") from error
    said_lines = [re.sub(r"^(Warning|Info):\s*", "", line) for line in printed.getvalue().splitlines() if line.strip()]
    return data, [*said_lines, *(str(w.message) for w in caught)]


def _cell_array(name: str, arrays: list[Any], blocks: list[RawBlock], dropped: list[str]) -> list[RawGroup]:
    """Groups ``name:value`` of an array of integers."""
    values = [np.asarray(a) for a in arrays]
    if any(v.dtype.kind not in "iu" or (v.ndim > 1 and v.size != len(v)) for v in values):
        dropped.append(f"cell data {name!r}: not one integer per cell")
        return []
    if len(values) != len(blocks) or any(len(v) != len(b.nodes) for v, b in zip(values, blocks, strict=True)):
        dropped.append(f"cell data {name!r}: some cells have none")
        return []
    flat = [v.ravel().astype(np.int64) for v in values]
    found = _values(name, np.concatenate(flat) if flat else np.empty(0, np.int64), "cell data", dropped)
    groups = []
    for value in found:
        cells = {i: np.flatnonzero(v == value) for i, v in enumerate(flat)}
        origin = f"cell data {name!r} of {value}"
        groups.append(RawGroup(f"{name}:{value}", origin, cells={i: r for i, r in cells.items() if len(r)}))
    return groups


def _point_array(name: str, values: Any, dropped: list[str]) -> list[RawGroup]:
    if values.dtype.kind not in "iu" or (values.ndim > 1 and values.size != len(values)):
        dropped.append(f"point data {name!r}: not one integer per node")
        return []
    flat: IntArray = values.ravel().astype(np.int64)
    return [
        RawGroup(f"{name}:{value}", f"point data {name!r} of {value}", nodes=np.flatnonzero(flat == value))
        for value in _values(name, flat, "point data", dropped)
    ]


def _values(name: str, values: IntArray, what: str, dropped: list[str]) -> list[int]:
    """The values that make groups; minus one (and zero as a physical group of Gmsh) stands for none."""
    found = np.unique(values)
    if len(found) > MANY:
        dropped.append(f"{what} {name!r}: its {len(found)} values number things rather than group them")
        return []
    nothing = (-1, 0) if name == "gmsh:physical" else (-1,)
    return [int(v) for v in found if v not in nothing]


def _check_nastran(path: Path) -> None:
    """Refuse what meshio 5.3 skips in silence: elements in the long field format."""
    text = path.read_bytes().decode("latin-1")
    long = re.findall(r"^(C(?:TETRA|HEXA|PENTA|PYRAM?|TRIA[0-9R]+|QUAD[0-9R]+))\s*\*", text, re.MULTILINE)
    if long:
        raise MeshFileError(
            f"{path}: {len(long)} elements in the long field format ({long[0]}*) are not supported; "
            "write elements in the short or free format"
        )
