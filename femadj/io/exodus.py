"""Exodus II files (Cubit, Sierra, MOOSE): element blocks, node sets and side sets.

Read here and not by meshio, which drops side sets and asks for netCDF4 even where the file is of the classic format,
which SciPy reads. Numbers of sides and the order of nodes after the Exodus II manual.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import netcdf_file

from femadj.errors import MeshFileError
from femadj.io.cells import EDGES_LAST, WEDGE_EDGES_LAST, dimension
from femadj.io.raw import IntArray, RawBlock, RawGroup, RawMesh
from femadj.mesh.reference import CELL_TYPES

_HEX27 = (*EDGES_LAST, 23, 24, 25, 26, 21, 22, 20)
_SHAPES: tuple[tuple[tuple[str, ...], Mapping[int, str]], ...] = (
    (("TET",), {4: "tetra", 10: "tetra10"}),
    (("HEX",), {8: "hexahedron", 20: "hexahedron20", 27: "hexahedron27"}),
    (("WED",), {6: "wedge", 15: "wedge15", 18: "wedge18"}),
    (("PYR",), {5: "pyramid", 13: "pyramid13", 14: "pyramid14"}),
    (("TRI",), {3: "triangle", 6: "triangle6", 7: "triangle7"}),
    (("QUA", "SHE"), {3: "triangle", 4: "quad", 6: "triangle6", 8: "quad8", 9: "quad9"}),
    (("BAR", "BEA", "TRU", "EDG", "LIN"), {2: "line", 3: "line3"}),
    (("SPH", "CIR", "POI", "NOD"), {1: "vertex"}),
)
_ORDER: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"hexahedron20": EDGES_LAST, "hexahedron27": _HEX27, "wedge15": WEDGE_EDGES_LAST}
)

SIDES: Mapping[str, tuple[tuple[int, ...], ...]] = MappingProxyType(
    {
        "triangle": ((0, 1), (1, 2), (2, 0)),
        "quad": ((0, 1), (1, 2), (2, 3), (3, 0)),
        "tetra": ((0, 1, 3), (1, 2, 3), (0, 3, 2), (0, 2, 1)),
        "hexahedron": ((0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (0, 4, 7, 3), (0, 3, 2, 1), (4, 5, 6, 7)),
        "wedge": ((0, 1, 4, 3), (1, 2, 5, 4), (0, 3, 5, 2), (0, 2, 1), (3, 4, 5)),
    }
)
"""Corners (zero-based) of the sides 1, 2, ..."""


def read(path: Path) -> RawMesh:
    """Read an Exodus II file.

    Raises
    ------
    MeshFileError
        For a damaged file, and for files of NetCDF 4 where the library for them is missing.
    """
    try:
        file = _open(path)
        return _mesh(file, path)
    except MeshFileError:
        raise
    except (MemoryError, OSError):
        raise
    except Exception as error:  # the libraries stumble over damaged files in many ways
        raise MeshFileError(f"{path} cannot be read as Exodus II: {type(error).__name__}: {error}") from error


@dataclass
class _File:
    """Dimensions, arrays and their attributes."""

    sizes: dict[str, int]
    arrays: Any
    path: Path

    def get(self, name: str) -> npt.NDArray[Any] | None:
        """An array; None where there is none."""
        if name not in self.arrays:
            return None
        return np.asarray(np.ma.filled(self.arrays[name][:]))

    def integers(self, name: str) -> IntArray | None:
        """An array of integers."""
        found = self.get(name)
        if found is not None and found.dtype.kind not in "iu":
            raise MeshFileError(f"{self.path}: {name} are no integers; the file is damaged")
        return None if found is None else found.astype(np.int64)

    def names(self, name: str, ids: str, kind: str, count: int) -> list[str]:
        """Names of blocks or sets, or their numbers where they have none."""
        numbers = self.integers(ids)
        if numbers is None or len(numbers) != count:
            numbers = np.arange(1, count + 1)
        found = self.get(name)
        rows = [b""] * count if found is None or len(found) != count else [bytes(r.tobytes()) for r in found]
        given = [r.split(b"\0", 1)[0].decode("utf-8", "replace").strip() for r in rows]
        return [own or f"{kind}:{number}" for own, number in zip(given, numbers.tolist(), strict=True)]

    def text(self, array: str, attribute: str) -> str:
        """A text that belongs to an array."""
        found = getattr(self.arrays[array], attribute, "")
        return found.decode("latin-1") if isinstance(found, bytes) else str(found)


def _open(path: Path) -> _File:
    with path.open("rb") as stream:
        head = stream.read(8)
    if head[:3] == b"CDF" and head[3:4] in (b"\1", b"\2"):
        # from memory: a file object makes room for whatever length a damaged file claims
        with netcdf_file(io.BytesIO(path.read_bytes()), "r", mmap=False) as data:
            return _File({k: int(v or 0) for k, v in data.dimensions.items()}, dict(data.variables), path)
    if head[:3] != b"CDF" and head[:4] != b"\x89HDF":
        raise MeshFileError(f"{path} is no Exodus II file: it is no NetCDF file")
    try:
        netcdf = importlib.import_module("netCDF4")
    except ImportError as error:
        raise MeshFileError(
            f"{path} is a NetCDF 4 file, which needs the library netCDF4 (pip install netCDF4); or write it in the "
            "classic format (NetCDF 3)"
        ) from error
    with netcdf.Dataset(path) as data:
        arrays = {}
        for name, variable in data.variables.items():
            variable.set_auto_mask(False)
            arrays[name] = _Loaded(variable[:], getattr(variable, "elem_type", ""))
        return _File({k: len(v) for k, v in data.dimensions.items()}, arrays, path)


@dataclass
class _Loaded:
    values: Any
    elem_type: str

    def __getitem__(self, key: Any) -> Any:
        return self.values[key]


def _mesh(file: _File, path: Path) -> RawMesh:
    if "num_nodes" not in file.sizes or "num_el_blk" not in file.sizes:
        raise MeshFileError(f"{path} is no Exodus II file with a mesh: it has no nodes or no element blocks")
    points = _points(file)
    n_blocks = file.sizes["num_el_blk"]
    if n_blocks > len(file.arrays):
        raise MeshFileError(f"{path}: {n_blocks} element blocks are not there; the file is damaged")
    names = file.names("eb_names", "eb_prop1", "block", n_blocks)
    element_ids = file.integers("elem_num_map")
    blocks: list[RawBlock] = []
    groups: list[RawGroup] = []
    start = 0
    for k, name in enumerate(names, start=1):
        nodes = file.integers(f"connect{k}")
        if nodes is None or not nodes.size:
            continue
        cell = _cell(file.text(f"connect{k}", "elem_type"), nodes.shape[-1])
        if nodes.ndim != 2 or nodes.min() < 1 or nodes.max() > len(points):
            raise MeshFileError(f"{path}: the block {name!r} refers to nodes that do not exist; the file is damaged")
        ids = np.arange(start, start + len(nodes)) + 1
        start += len(nodes)
        order = list(_ORDER.get(cell, range(nodes.shape[1])))
        own = ids if element_ids is None or start > len(element_ids) else element_ids[ids - 1]
        blocks.append(RawBlock(cell, nodes[:, order] - 1, own))
        groups.append(RawGroup(name, "element block", cells={len(blocks) - 1: np.arange(len(nodes))}))
    dropped: list[str] = []
    groups += _node_sets(file, len(points), path)
    groups += _side_sets(file, blocks, dropped, path)
    node_ids = file.integers("node_num_map")
    return RawMesh(
        format="Exodus II",
        points=points,
        blocks=blocks,
        groups=groups,
        node_ids=node_ids if node_ids is not None and len(node_ids) == len(points) else np.arange(1, len(points) + 1),
        dropped=tuple(dropped),
    )


def _points(file: _File) -> npt.NDArray[np.float64]:
    together = file.get("coord")
    if together is not None:
        return np.ascontiguousarray(together.T, dtype=np.float64)
    columns = [c for c in (file.get(f"coord{axis}") for axis in "xyz") if c is not None]
    dim = file.sizes.get("num_dim", 3)
    if len(columns) < dim or dim not in (2, 3) or len({len(c) for c in columns}) != 1:
        raise MeshFileError(f"{file.path}: its coordinates are not all there; the file is damaged")
    return np.stack([c.astype(np.float64) for c in columns[:dim]], axis=1)


def _cell(kind: str, size: int) -> str:
    """meshio's name of an element type with a number of nodes."""
    upper = kind.strip("\0 ").upper()
    for beginnings, known in _SHAPES:
        if upper.startswith(beginnings):
            base = next(iter(known.values()))
            return known.get(size, f"{base}{size}")
    return f"{upper.lower() or 'unknown'}_{size}"


def _node_sets(file: _File, n_points: int, path: Path) -> list[RawGroup]:
    count = min(file.sizes.get("num_node_sets", 0), len(file.arrays))
    groups = []
    for k, name in enumerate(file.names("ns_names", "ns_prop1", "nodeset", count), start=1):
        nodes = file.integers(f"node_ns{k}")
        if nodes is None:
            continue
        if len(nodes) and (nodes.min() < 1 or nodes.max() > n_points):
            raise MeshFileError(f"{path}: the node set {name!r} refers to nodes that do not exist; it is damaged")
        groups.append(RawGroup(name, "node set", nodes=nodes - 1))
    return groups


def _side_sets(file: _File, blocks: list[RawBlock], dropped: list[str], path: Path) -> list[RawGroup]:
    count = min(file.sizes.get("num_side_sets", 0), len(file.arrays))
    starts = np.cumsum([0, *(len(b.nodes) for b in blocks)])
    dim = max((dimension(b.type) for b in blocks), default=0)
    groups = []
    for k, name in enumerate(file.names("ss_names", "ss_prop1", "sideset", count), start=1):
        elements, sides = file.integers(f"elem_ss{k}"), file.integers(f"side_ss{k}")
        if elements is None or sides is None:
            continue
        if len(elements) != len(sides) or (len(elements) and (elements.min() < 1 or elements.max() > starts[-1])):
            raise MeshFileError(f"{path}: the side set {name!r} refers to elements that do not exist; it is damaged")
        block = np.searchsorted(starts, elements - 1, side="right") - 1
        facets = []
        problem = ""
        for i in np.unique(block).tolist():
            chosen = block == i
            found = _facets(blocks[i], elements[chosen] - 1 - starts[i], sides[chosen], dim)
            if found is None:
                problem = f"sides {np.unique(sides[chosen]).tolist()} of {blocks[i].type} elements are not known"
            else:
                facets += found
        if problem:
            dropped.append(f"the side set {name!r}: {problem}")
        else:
            groups.append(RawGroup(name, "side set", facets=tuple(facets)))
    return groups


def _facets(block: RawBlock, rows: IntArray, sides: IntArray, dim: int) -> list[IntArray] | None:
    """Corners of sides of elements of a block; None for sides that are no facets."""
    shape = CELL_TYPES[block.type].shape if block.type in CELL_TYPES else block.type
    if dim == 3 and shape in ("triangle", "quad"):  # a shell on a solid: sides 1 and 2 are its faces
        return [block.nodes[rows][:, : 3 if shape == "triangle" else 4]] if (sides <= 2).all() else None
    known = SIDES.get(shape, ())
    if not known or sides.min() < 1 or sides.max() > len(known):
        return None
    return [block.nodes[rows[sides == s]][:, list(known[s - 1])] for s in np.unique(sides).tolist()]
