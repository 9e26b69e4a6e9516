"""Mesh files in, result files out."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from femadj.base.arguments import path_of
from femadj.errors import MeshFileError
from femadj.io import abaqus, exodus, gmsh, nastran, other, vtk
from femadj.io.raw import RawMesh, build
from femadj.io.report import GroupRecord, ImportReport, MeshFileWarning
from femadj.io.vtu import write_vtu
from femadj.mesh import Mesh

__all__ = ["GroupRecord", "ImportReport", "MeshFileWarning", "read_mesh", "read_mesh_with_report", "write_vtu"]


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read a mesh file with its named groups and node ids.

    Gmsh (``.msh``, versions 2 and 4.1, ASCII and binary), Abaqus and CalculiX (``.inp``), VTK and VTU, Nastran bulk
    data (``.bdf``, ``.nas``, ``.fem``, ``.dat``), Exodus II (``.e``, ``.exo``), and through meshio MED, Medit, XDMF and
    others. The extension names the format. What a file says and the reader does not understand is reported with file,
    line and card, and raises where it could change geometry, cells or groups.

    Cells of the highest dimension make the mesh, one block per type. Named sets become groups:

    ========  =============================================  ==============================  ===================
    format    cell groups                                    facet groups                    node groups
    ========  =============================================  ==============================  ===================
    Gmsh      physical volumes (plane: surfaces)             physical surfaces (curves)      those of lower dim.
    Abaqus    ``*ELSET``                                     ``*SURFACE``                    ``*NSET``
    VTK, VTU  ``name:value`` of integer cell data            the same on facet cells         integer point data
    Nastran   ``property:PID``, ``set:SID``                  the same on facet elements      ``set:SID``
    Exodus    element blocks                                 side sets                       node sets
    MED       groups of cells                                groups of facet cells           groups of nodes
    ========  =============================================  ==============================  ===================

    What a reader has to warn of is issued as ``MeshFileWarning``. Nodes keep their order; nodes that belong to no cell
    are dropped. See ``read_mesh_with_report`` for what was renamed or dropped.

    Parameters
    ----------
    path : path

    Returns
    -------
    Mesh
        Coordinates in the unit of the file.

    Raises
    ------
    MeshFileError
        For a file that is missing, empty, truncated, damaged or in an unknown format.
    UnsupportedCellError
        For cells that cannot be integrated (pyramids, cells of third order, ...).
    InvalidMeshError, TangledMeshError
        For a mesh that is none: curved surfaces, duplicated cells, cells without volume.
    """
    mesh, report = read_mesh_with_report(path)
    for text in report.warnings:
        warnings.warn(text, MeshFileWarning, stacklevel=2)
    return mesh


def read_mesh_with_report(path: str | os.PathLike[str]) -> tuple[Mesh, ImportReport]:
    """Read a mesh file as ``read_mesh`` does, and report on it.

    Returns
    -------
    mesh : Mesh
    report : ImportReport
        Groups, renamed and dropped items, warnings; ``print(report)`` shows it.

    Raises
    ------
    MeshFileError, UnsupportedCellError, InvalidMeshError, TangledMeshError
        As ``read_mesh``.
    """
    file = path_of(path, "path", MeshFileError)
    try:
        if not file.exists():
            raise MeshFileError(f"{file} does not exist")
        if file.is_dir():
            raise MeshFileError(f"{file} is a folder, not a mesh file")
        if file.stat().st_size == 0:
            raise MeshFileError(f"{file} is empty")
        raw = _read(file)
    except MeshFileError:
        raise
    except OSError as error:
        raise MeshFileError(f"{file} cannot be read: {error.strerror or error}") from error
    return build(raw, file)


def _read(file: Path) -> RawMesh:
    suffix = file.suffix.lower()
    if suffix == ".inp":
        return abaqus.read(file)
    if suffix in (".bdf", ".nas", ".fem") or (suffix in (".dat", ".txt", "") and nastran.is_bulk(file)):
        return nastran.read(file)
    if suffix == ".vtu":
        return vtk.read_vtu(file)
    if suffix == ".vtk" and not vtk.is_structured(file):
        return vtk.read_legacy(file)
    if suffix == ".msh" and not gmsh.is_fluent(file):
        return gmsh.read(file)
    if suffix in (".e", ".exo", ".ex2", ".exii", ".g", ".gen"):
        return exodus.read(file)
    return other.read(file)
