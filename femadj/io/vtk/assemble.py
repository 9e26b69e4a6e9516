"""A VTK grid as read, made into a mesh file's blocks and groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.io.arrays import cell_groups, point_groups
from femadj.io.raw import IntArray, RawGroup, RawMesh
from femadj.io.vtk.cells import blocks_of

AnyArray = npt.NDArray[Any]

_GHOST = "vtkGhostType"
_DUPLICATE = 1


@dataclass
class Piece:
    """One grid.

    ``ends`` are where the nodes of each cell end in ``connectivity``.
    """

    points: FloatArray
    connectivity: IntArray
    ends: IntArray
    types: IntArray
    point_data: dict[str, AnyArray] = field(default_factory=dict)
    cell_data: dict[str, AnyArray] = field(default_factory=dict)


def joined(pieces: Sequence[Piece], dropped: list[str], warnings: list[str]) -> Piece:
    """All pieces as one grid, without the cells that a piece borrows from its neighbours."""
    kept = [_without_ghosts(p, dropped) for p in pieces]
    if len(kept) == 1:
        return kept[0]
    n_points = np.cumsum([0, *(len(p.points) for p in kept)])
    n_nodes = np.cumsum([0, *(len(p.connectivity) for p in kept)])
    points = np.vstack([p.points for p in kept])
    together = len(points) - len(np.unique(points, axis=0))
    if together:
        warnings.append(
            f"the {len(kept)} pieces of the file do not share nodes: {together} nodes lie where others are, and the "
            "body is cut there; if it is one body, write it as one piece (in ParaView: Clean to Grid)"
        )
    return Piece(
        points,
        np.concatenate([p.connectivity + start for p, start in zip(kept, n_points, strict=False)]),
        np.concatenate([p.ends + start for p, start in zip(kept, n_nodes, strict=False)]),
        np.concatenate([p.types for p in kept]),
        _common([p.point_data for p in kept], "point data", dropped),
        _common([p.cell_data for p in kept], "cell data", dropped),
    )


def _common(data: Sequence[Mapping[str, AnyArray]], what: str, dropped: list[str]) -> dict[str, AnyArray]:
    result = {}
    for name in dict.fromkeys(n for d in data for n in d):
        arrays = [d[name] for d in data if name in d]
        if len(arrays) < len(data) or len({a.shape[1:] for a in arrays}) > 1 or len({a.dtype.kind for a in arrays}) > 1:
            dropped.append(f"{what} {name!r}: not alike in all pieces")
        else:
            result[name] = np.concatenate(arrays)
    return result


def _without_ghosts(piece: Piece, dropped: list[str]) -> Piece:
    ghost = piece.cell_data.pop(_GHOST, None)
    piece.point_data.pop(_GHOST, None)
    if ghost is None or ghost.dtype.kind not in "iu" or len(ghost) != len(piece.types):
        return piece
    keep = (ghost.ravel().astype(np.int64) & _DUPLICATE) == 0
    if keep.all():
        return piece
    dropped.append(f"{int((~keep).sum())} ghost cells, which other pieces hold")
    sizes = np.diff(piece.ends, prepend=0)
    return Piece(
        piece.points,
        piece.connectivity[np.repeat(keep, sizes)],
        np.cumsum(sizes[keep]),
        piece.types[keep],
        piece.point_data,
        {n: v[keep] for n, v in piece.cell_data.items() if len(v) == len(keep)},
    )


def raw_mesh(piece: Piece, path: Path, form: str, dropped: list[str], warnings: list[str]) -> RawMesh:
    """The blocks and groups of a grid."""
    blocks, cells = blocks_of(piece.connectivity, piece.ends, piece.types, len(piece.points), path)
    groups: list[RawGroup] = []
    for name, values in piece.cell_data.items():
        if len(values) != len(piece.types):
            dropped.append(f"cell data {name!r}: some cells have none")
        else:
            single = len(cells) == 1 and len(cells[0]) == len(values)
            parts = [values] if single else [values[rows] for rows in cells]
            groups += cell_groups(name, parts, blocks, dropped)
    for name, values in piece.point_data.items():
        groups += point_groups(name, values, len(piece.points), dropped)
    return RawMesh(
        format=form,
        points=piece.points,
        blocks=blocks,
        groups=groups,
        node_ids=None,
        dropped=tuple(dropped),
        warnings=tuple(warnings),
    )
