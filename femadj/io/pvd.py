"""Series of VTU files for ParaView: a PVD file that names them, each at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from femadj.base.arguments import path_of
from femadj.errors import MeshFileError
from femadj.io.atomic import complete_file


def write_pvd(path: str | os.PathLike[str], files: Mapping[float, Path]) -> Path:
    """Write a PVD file, whole or not at all.

    Parameters
    ----------
    path : path
        Must end in ``.pvd``.
    files : mapping of time to path
        VTU files, in the folder of the PVD file or below it.

    Raises
    ------
    MeshFileError
        Where the file cannot be written.
    """
    target = path_of(path, "path", MeshFileError)
    if target.suffix.lower() != ".pvd":
        raise MeshFileError(f"{target}: the name of a PVD file must end in .pvd")
    sets = [
        f'    <DataSet timestep="{time:g}" part="0" file={quoteattr(file.relative_to(target.parent).as_posix())}/>'
        for time, file in files.items()
    ]
    lines = ['<?xml version="1.0"?>', '<VTKFile type="Collection" version="0.1">', "  <Collection>", *sets]
    with complete_file(target) as partial:
        partial.write_text("\n".join([*lines, "  </Collection>", "</VTKFile>", ""]), encoding="utf-8")
    return target
