"""Result files for ParaView: VTU through meshio."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import numpy.typing as npt

from femadj.base.arguments import mapping_of, path_of
from femadj.errors import InvalidMeshError, MeshFileError
from femadj.io.atomic import complete_file
from femadj.mesh import Mesh, checked_points, require_mesh


def write_vtu(
    path: str | os.PathLike[str],
    mesh: Mesh,
    points: npt.ArrayLike | None = None,
    point_data: Mapping[str, npt.ArrayLike] | None = None,
    cell_data: Mapping[str, npt.ArrayLike] | None = None,
) -> Path:
    """Write a mesh with fields to a VTU file (binary, compressed, double precision).

    Missing folders are made. The file appears under its name only when it is complete.

    Parameters
    ----------
    path : path
        Must end in ``.vtu``.
    mesh : Mesh
    points : (n_nodes, dim) array, optional
        Other node coordinates than those of the mesh.
    point_data : mapping of name to array
        ``(n_nodes,)`` scalars, ``(n_nodes, k)`` vectors or ``(n_nodes, k, k)`` tensors. Plane vectors and tensors get
        a third component of zero.
    cell_data : mapping of name to array
        Likewise, with the cells counted through the blocks of the mesh.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InvalidMeshError
        For an array that does not fit the mesh.
    MeshFileError
        Where the file cannot be written.
    """
    target = path_of(path, "path", MeshFileError)
    if target.suffix.lower() != ".vtu":
        raise MeshFileError(f"{target}: the name of a VTU file must end in .vtu")
    require_mesh(mesh)
    x = mesh.points if points is None else checked_points(points, mesh.points.shape)
    of_nodes = mapping_of(point_data, "point_data", InvalidMeshError)
    of_cells = mapping_of(cell_data, "cell_data", InvalidMeshError)
    nodal = {n: _field(n, v, mesh.n_nodes, "node") for n, v in of_nodes.items()}
    cellwise = {n: _field(n, v, mesh.n_cells, "cell") for n, v in of_cells.items()}
    cuts = list(mesh.block_offsets[1:-1])
    grid = meshio.Mesh(
        np.pad(x, ((0, 0), (0, 3 - mesh.dim))),
        [(b.type, b.nodes) for b in mesh.blocks],
        point_data=nodal,
        cell_data={n: np.split(v, cuts) for n, v in cellwise.items()},
    )
    with complete_file(target) as partial:
        meshio.write(partial, grid, file_format="vtu", binary=True, compression="zlib")
    return target


def _field(name: str, values: npt.ArrayLike, size: int, entity: str) -> npt.NDArray[Any]:
    """Check a field and bring it to VTK's form."""
    array = np.asarray(values)
    if not name:
        raise InvalidMeshError(f"{entity} data need a name")
    if array.dtype.kind not in "fiub":
        raise InvalidMeshError(f"{entity} data {name!r} must be real numbers, not of dtype {array.dtype}")
    if array.ndim not in (1, 2, 3) or len(array) != size or 0 in array.shape:
        raise InvalidMeshError(
            f"{entity} data {name!r} must have shape ({size},), ({size}, k) or ({size}, k, k), not {array.shape}"
        )
    if array.ndim == 3 and array.shape[1:] not in ((2, 2), (3, 3)):
        raise InvalidMeshError(f"tensors in {entity} data {name!r} must be 2x2 or 3x3, not {array.shape[1:]}")
    array = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim > 1 and array.shape[1] == 2:
        array = np.pad(array, ((0, 0), *([(0, 1)] * (array.ndim - 1))))
    return np.ascontiguousarray(array.reshape(size, -1) if array.ndim == 3 else array)
