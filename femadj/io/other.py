"""Everything else, through meshio: MED, Medit, XDMF, SU2, ...; and what to do with formats that nobody reads."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from femadj.errors import MeshFileError, UnsupportedCellError
from femadj.io.arrays import cell_groups, point_groups
from femadj.io.raw import IntArray, RawBlock, RawGroup, RawMesh
from femadj.mesh.reference import INTEGRATED_CELLS

MODULES: Mapping[str, str] = MappingProxyType(
    {
        ".med": "med", ".mesh": "medit", ".meshb": "medit", ".xdmf": "xdmf", ".xmf": "xdmf", ".su2": "su2",
        ".vol": "netgen", ".ugrid": "ugrid", ".cgns": "cgns", ".h5m": "h5m", ".hmf": "hmf",
        ".avs": "avsucd", ".xml": "dolfin", ".vtk": "vtk", ".stl": "stl", ".ply": "ply", ".obj": "obj", ".off": "off",
    }
)  # fmt: skip
"""meshio's module for a suffix (``.vtk`` of structured grids). Fluent, TetGen, Tecplot, PERMAS, FLAC3D and Kratos are
left out: meshio does not return from damaged files of theirs."""

OWN = ".msh (Gmsh), .inp (Abaqus, CalculiX), .bdf, .nas, .fem, .dat (Nastran), .vtu, .vtk, .e, .exo (Exodus)"

_LIBRARIES = {"h5py": "h5py", "netCDF4": "netCDF4", "lxml": "lxml"}


def unknown_format(path: Path) -> MeshFileError:
    """The error for a suffix that no reader knows, with the way out."""
    rest = ", ".join(s for s in MODULES if s != ".vtk")
    hint = {
        ".cdb": "in Ansys Mechanical write a Nastran (.bdf) or Abaqus (.inp) file",
        ".k": "in LS-PrePost save as Nastran (.bdf)",
        ".key": "in LS-PrePost save as Nastran (.bdf)",
        ".unv": "convert it by gmsh FILE.unv -save -o FILE.msh",
        ".stp": "it is geometry, not a mesh: mesh it first, for example by gmsh FILE.step -3 -order 2 -o FILE.msh",
        ".step": "it is geometry, not a mesh: mesh it first, for example by gmsh FILE.step -3 -order 2 -o FILE.msh",
        ".iges": "it is geometry, not a mesh: mesh it first, for example by gmsh FILE.iges -3 -order 2 -o FILE.msh",
        ".geo": "it is geometry, not a mesh: mesh it first by gmsh FILE.geo -3 -o FILE.msh",
        ".pvtu": "open it in ParaView and save it as .vtu after Merge Blocks and Clean to Grid",
        ".vtm": "open it in ParaView and save it as .vtu after Merge Blocks and Clean to Grid",
        ".cas": "in Fluent export CGNS (.cgns)",
        ".msh": "this is a mesh of Fluent, not of Gmsh: in Fluent export CGNS (.cgns)",
        ".ele": "let TetGen write Medit (.mesh) by its switch -g",
        ".node": "let TetGen write Medit (.mesh) by its switch -g",
    }.get(path.suffix.lower(), "most preprocessors export Abaqus (.inp) or Nastran (.bdf), Gmsh saves .msh")
    return MeshFileError(
        f"{path}: the suffix {path.suffix or '(none)'!r} names no format that is read; these are: {OWN}; and through "
        f"meshio {rest}. What to do: {hint}"
    )


_notices: ContextVar[list[str] | None] = ContextVar("notices", default=None)
"""What meshio has had to say in the read that is under way in this thread."""


@contextmanager
def _heard(read_by_meshio: Callable[[str], Any]) -> Iterator[list[str]]:
    """Collect what meshio prints as warnings while it reads; other reads, and other threads, print as ever."""
    scope = read_by_meshio.__globals__
    original = scope.get("warn")
    if original is not None and not hasattr(original, "heard"):

        def warn(message: str, **kwargs: Any) -> None:
            notices = _notices.get()
            if notices is None:
                original(message, **kwargs)
            else:
                notices.append(" ".join(str(message).split()))

        warn.heard = True  # type: ignore[attr-defined]
        scope["warn"] = warn
    notices: list[str] = []
    token = _notices.set(notices)
    try:
        yield notices
    finally:
        _notices.reset(token)


def read(path: Path) -> RawMesh:
    """Read a file through meshio.

    Raises
    ------
    UnsupportedCellError
        For cells that meshio knows by name only.
    MeshFileError
        For unknown suffixes, for lines that meshio would skip, and for whatever it stumbles over, as its cause.
    """
    name = MODULES.get(path.suffix.lower())
    if name is None:
        raise unknown_format(path)
    try:
        # the module itself, not meshio.read: that prints the reason and leaves by sys.exit
        read_by_meshio = importlib.import_module(f"meshio.{name}").read
        with _heard(read_by_meshio) as notices:
            data = read_by_meshio(str(path))
        lost = [notice for notice in notices if "could not parse" in notice]
        if lost:
            raise MeshFileError(f"{path}: {lost[0]}")
        return replace(_mesh(data, path), warnings=tuple(f"{path}: {notice}" for notice in notices))
    except MeshFileError:
        raise
    except MemoryError as error:
        raise MeshFileError(
            f"{path} wants more memory than there is: {error}. It is damaged, or too large for this machine"
        ) from error
    except KeyError as error:  # of the cells that meshio has a name for, but no dimension
        name_of_cell = str(error.args[0]) if error.args else ""
        if re.fullmatch(r"(?:line|triangle|quad|tetra|pyramid|wedge|hexahedron)\d+", name_of_cell):
            raise UnsupportedCellError(
                f"{path}: cells of type {name_of_cell!r} are not supported; supported are: "
                f"{', '.join(INTEGRATED_CELLS)}"
            ) from error
        raise MeshFileError(f"{path} cannot be read as {name} by meshio: KeyError: {error}") from error
    except ImportError as error:
        library = _LIBRARIES.get(error.name or "", error.name)
        raise MeshFileError(f"{path} needs the library {library}: pip install {library}") from error
    except (Exception, SystemExit) as error:  # meshio leaves by any exception
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise MeshFileError(f"{path} cannot be read as {name} by meshio: {reason}") from error


def _mesh(data: Any, path: Path) -> RawMesh:
    if np.ndim(data.points) != 2 or data.points.shape[1] not in (2, 3):
        raise MeshFileError(f"{path}: its points have the shape {np.shape(data.points)}; the file is damaged")
    blocks = []
    for block in data.cells:
        nodes = np.asarray(block.data) if not block.type.startswith("polyhedron") else np.zeros((len(block), 1))
        if nodes.size and (nodes.min() < 0 or nodes.max() >= len(data.points)):
            raise MeshFileError(f"{path}: {block.type} cells refer to nodes that do not exist; the file is damaged")
        blocks.append(RawBlock(block.type, nodes.astype(np.int64)))
    groups: list[RawGroup] = []
    dropped: list[str] = []
    for name, per_block in data.cell_sets.items():
        cells = {i: np.asarray(rows, np.int64) for i, rows in enumerate(per_block) if rows is not None}
        groups.append(RawGroup(name, "cell set", cells={i: r for i, r in cells.items() if len(r)}))
    for name, rows in data.point_sets.items():
        groups.append(RawGroup(name, "point set", nodes=np.asarray(rows, np.int64)))
    families = {"cell_tags": getattr(data, "cell_tags", None), "point_tags": getattr(data, "point_tags", None)}
    for name, arrays in data.cell_data.items():
        known = families.get(name)
        if known is not None:
            groups += _families(known, [np.asarray(a) for a in arrays], "cells", dropped)
        else:
            groups += cell_groups(name, arrays, blocks, dropped)
    for name, values in data.point_data.items():
        known = families.get(name)
        if known is not None:
            groups += _families(known, [np.asarray(values)], "nodes", dropped)
        else:
            groups += point_groups(name, np.asarray(values), len(data.points), dropped)
    return RawMesh(
        format=path.suffix.lstrip(".").upper(),
        points=np.asarray(data.points, dtype=np.float64),
        blocks=blocks,
        groups=groups,
        node_ids=None,
        dropped=tuple(dropped),
    )


def _families(names: Mapping[int, list[str]], tags: list[IntArray], what: str, dropped: list[str]) -> list[RawGroup]:
    """Groups of a MED file: each family is of some groups, each group of some families."""
    of_group: dict[str, list[int]] = {}
    for family, groups in names.items():
        for name in groups:
            of_group.setdefault(name, []).append(int(family))
    unnamed = sorted({int(v) for t in tags for v in np.unique(t)} - {int(f) for f in names} - {0})
    if unnamed:
        dropped.append(f"families {unnamed[:8]} of {what}: they have no group")
    result = []
    for name, families in of_group.items():
        rows = {i: np.flatnonzero(np.isin(t, families)) for i, t in enumerate(tags)}
        held = {i: r for i, r in rows.items() if len(r)}
        if what == "cells":
            result.append(RawGroup(name, "MED group of cells", cells=held))
        else:
            result.append(RawGroup(name, "MED group of nodes", nodes=held.get(0, np.empty(0, np.int64))))
    return result
