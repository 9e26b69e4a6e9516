"""Abaqus input files (CalculiX reads the same): nodes, elements, sets and surfaces.

Read here and not by meshio, which drops ids and surfaces, keeps only the last *NODE block, knows few plane elements
and wants upper-case types. Keywords after the Abaqus keyword reference; what is no mesh (materials, steps) is skipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import MeshFileError
from femadj.io.abaqus.cards import Source
from femadj.io.abaqus.deck import Deck, moved
from femadj.io.abaqus.elements import FACES, element_type
from femadj.io.abaqus.groups import Sets, Surfaces, reference_points
from femadj.io.raw import IdTable, IntArray, RawBlock, RawMesh, require_supported

__all__ = ["FACES", "element_type", "read"]


def read(path: Path) -> RawMesh:
    """Read an Abaqus input file.

    Raises
    ------
    MeshFileError
        For a file without nodes, with undefined nodes, incomplete elements, several instances, node and
        element generation, and for keywords, parameters and names that are not understood.
    UnsupportedCellError
        For element types that are no plane or solid cells.
    """
    deck = Deck(path)
    source = Source(path)
    for piece in source:
        deck.take(piece)
    deck.finish()
    if not source.ended:
        # the format has no end mark, so this is all there is to see of a file cut off between two numbers
        deck.warnings.append(f"{path}: the last line of the file has no end; make sure that the file is complete")
    mesh = deck.mesh
    if not mesh.node_ids and deck.model.node_ids:
        raise MeshFileError(f"{path}: the part {mesh.name!r} has no nodes, the model around it has: write a flat file")
    if not mesh.node_ids:
        raise MeshFileError(f"{path} is no Abaqus input file with a mesh: it has no *NODE")
    if mesh is not deck.model:
        reference_points(deck, deck.model)
    node_ids, points = _nodes(deck)
    nodes = IdTable(node_ids, "nodes", path)
    blocks = []
    for found in mesh.elements:
        if not found.ids:
            continue
        for k, part in enumerate(found.nodes):  # ids by rows, a block of lines at a time
            found.nodes[k] = nodes.rows(part, f"{found.where}: {found.type} elements")
        rows = np.concatenate(found.nodes)
        found.nodes.clear()
        if found.cell == "line3":
            rows = _middle_last(points, rows)
        blocks.append(RawBlock(found.cell, rows, np.concatenate(found.ids)))
    require_supported(points, blocks, path)
    all_ids = [np.empty(0, np.int64), *(b.ids for b in blocks if b.ids is not None)]
    elements = IdTable(np.concatenate(all_ids), "elements", path)
    sets = Sets(deck, nodes, blocks, elements)
    groups = sets.groups() + Surfaces(sets, len(points)).groups()
    skipped = f"keywords that are no mesh: {', '.join('*' + k for k in deck.skipped)}"
    return RawMesh(
        format="Abaqus",
        points=points,
        blocks=blocks,
        groups=groups,
        node_ids=node_ids,
        dropped=tuple(deck.dropped),
        warnings=tuple(deck.warnings),
        remarks=(skipped,) if deck.skipped else (),
    )


def _nodes(deck: Deck) -> tuple[IntArray, FloatArray]:
    scope = deck.mesh
    width = max(p.shape[1] for p in scope.points)
    points = np.vstack(
        [p if p.shape[1] == width else np.pad(p, ((0, 0), (0, width - p.shape[1]))) for p in scope.points]
    )
    scope.points.clear()
    return np.concatenate(scope.node_ids), moved(points, deck.motion)


def _middle_last(points: FloatArray, rows: IntArray) -> IntArray:
    """Order lines of three nodes ends first; trusses and beams of different programs differ in that.

    The middle node is the one opposite the longest of the three distances.
    """
    x = points[rows]
    opposite = np.stack([np.linalg.norm(x[:, (k + 1) % 3] - x[:, (k + 2) % 3], axis=1) for k in range(3)], axis=1)
    middle = opposite.argmax(axis=1)
    order = np.array([(1, 2, 0), (0, 2, 1), (0, 1, 2)])[middle]
    return np.take_along_axis(rows, order, axis=1)
