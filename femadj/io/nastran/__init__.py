"""Nastran bulk data (MSC, NX, OptiStruct): grid points, coordinate systems, elements, properties and sets.

Read here and not by meshio, which reads 27 of 65 public decks and loses cards of others in silence, nor by pyNastran:
its version 1.4 asks for NumPy below 2 and for matplotlib, and unpacks to 24 MB, of which a dozen cards are needed here.
The cards are those of the quick reference guides; what is no card of the mesh is named in the report.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import MeshFileError, UnsupportedCellError
from femadj.io.nastran.cards import Card, Deck
from femadj.io.nastran.elements import SHAPES, cell_of, is_point_element, may_be_element
from femadj.io.nastran.sets import SETS, kind_of, members, told
from femadj.io.nastran.systems import SYSTEMS, positions
from femadj.io.raw import Budget, IdTable, IntArray, RawBlock, RawGroup, RawMesh

WANTED = frozenset({"GRID", "GRDSET", *SYSTEMS, *SHAPES, *SETS})

_SIGN = re.compile(rb"^[ \t]*(?:BEGIN[ \t]+BULK|GRID[ \t,*])", re.MULTILINE | re.IGNORECASE)

__all__ = ["is_bulk", "read"]


def is_bulk(path: Path) -> bool:
    """Whether a file whose suffix does not tell holds bulk data."""
    with path.open("rb") as file:
        return bool(_SIGN.search(file.read(1 << 20)))


def read(path: Path) -> RawMesh:
    """Read Nastran bulk data.

    Raises
    ------
    MeshFileError
        For cards of the mesh that are damaged or not understood, with file, line and card.
    UnsupportedCellError
        For elements that are not known.
    """
    deck = Deck(path, WANTED)
    deck.read()
    dropped = _other_cards(deck)
    by_name: dict[str, list[Card]] = {}
    for card in deck.cards:
        by_name.setdefault(card.name, []).append(card)
    if not by_name.get("GRID"):
        raise MeshFileError(
            f"{path} is no Nastran file with a mesh: it has no GRID in its bulk data (after BEGIN BULK)"
        )
    node_ids, points, table = _grid(by_name, path)
    blocks, properties = _elements(deck, table, path)
    groups = _property_groups(properties)
    all_ids = [np.empty(0, np.int64), *(b.ids for b in blocks if b.ids is not None)]
    elements = IdTable(np.concatenate(all_ids), "elements", path)
    budget = Budget(len(table) + len(elements))
    for name in SETS:
        for card in by_name.get(name, []):
            group = _set_group(card, table, elements, blocks, groups, deck.warnings)
            if group is None:
                dropped.append(f"{card.where} {card.text(0)}: a set of {card.text(1) or 'nothing'}, which is no group")
            else:
                budget.spend(len(group.nodes) + sum(len(r) for r in group.cells.values()), card.where)
                groups.append(group)
    return RawMesh(
        format="Nastran",
        points=points,
        blocks=blocks,
        groups=groups,
        node_ids=node_ids,
        dropped=tuple(dropped),
        warnings=tuple(deck.warnings),
        remarks=tuple(deck.remarks),
    )


def _other_cards(deck: Deck) -> list[str]:
    """What there is to say of the cards that are not read."""
    dropped, plain = [], []
    for name, (count, first) in deck.others.items():
        if is_point_element(name):
            dropped.append(f"{first}: {count} {name} elements: they are no cells")
        elif may_be_element(name):
            raise UnsupportedCellError(
                f"{first}: {count} cards {name} are not known and may be elements; supported are: {', '.join(SHAPES)}"
            )
        else:
            plain.append(f"{name[:16]} ({count})")
    if plain:
        deck.remarks.append(f"cards that are no mesh: {', '.join(plain[:60])}{', ...' if len(plain) > 60 else ''}")
    return dropped


def _grid(by_name: dict[str, list[Card]], path: Path) -> tuple[IntArray, FloatArray, IdTable]:
    grids = by_name["GRID"]
    defaults = by_name.get("GRDSET", [])
    if len(defaults) > 1:
        raise MeshFileError(f"{defaults[1].where}: a second GRDSET")
    usual = defaults[0].integer(1, 0) if defaults else 0
    ids = np.array([c.integer(0) for c in grids], dtype=np.int64)
    local = np.array([c.integer(1, usual) for c in grids], dtype=np.int64)
    x = np.array([(c.real(2), c.real(3), c.real(4)) for c in grids], dtype=np.float64).reshape(-1, 3)
    if ids.min() <= 0:
        raise MeshFileError(f"{grids[int(ids.argmin())].where}: the id {ids.min()} is not positive")
    once = _without_repetitions(ids, local, x)
    ids, local, x = ids[once], local[once], x[once]
    table = IdTable(ids, "grid points", path)
    if not local.any():
        return ids, x, table
    systems = [c for name in SYSTEMS for c in by_name.get(name, [])]
    return ids, positions(systems, table, local, x, path), table


def _without_repetitions(ids: IntArray, local: IntArray, x: FloatArray) -> IntArray:
    """Rows without those that say again what an earlier one says, which is allowed."""
    order = np.argsort(ids, kind="stable")
    before, after = order[:-1], order[1:]
    again = (ids[before] == ids[after]) & (local[before] == local[after]) & (x[before] == x[after]).all(axis=1)
    return np.delete(np.arange(len(ids)), after[again])


def _elements(deck: Deck, table: IdTable, path: Path) -> tuple[list[RawBlock], list[IntArray]]:
    """Blocks by type, and the property of each cell."""
    found: dict[str, tuple[list[int], list[int], list[list[int]]]] = {}
    for card in deck.cards:
        if card.name not in SHAPES:
            continue
        cell, nodes = cell_of(card)
        ids, properties, rows = found.setdefault(cell, ([], [], []))
        number = card.integer(0)
        ids.append(number)
        properties.append(-1 if card.name == "CONROD" else card.integer(1, number))
        rows.append(nodes)
    blocks, pids = [], []
    for cell, (ids, properties, rows) in found.items():
        connected = table.rows(np.array(rows, dtype=np.int64), f"{path}: {cell} elements")
        blocks.append(RawBlock(cell, connected, np.array(ids, dtype=np.int64)))
        pids.append(np.array(properties, dtype=np.int64))
    return blocks, pids


def _property_groups(properties: Sequence[IntArray]) -> list[RawGroup]:
    members_of: dict[int, dict[int, IntArray]] = {}
    for i, pids in enumerate(properties):
        order = np.argsort(pids, kind="stable")
        values, starts = np.unique(pids[order], return_index=True)
        for value, rows in zip(values.tolist(), np.split(order, starts[1:]), strict=True):
            if value >= 0:
                members_of.setdefault(value, {})[i] = rows
    return [RawGroup(f"property:{v}", f"elements of property {v}", cells=members_of[v]) for v in sorted(members_of)]


def _set_group(
    card: Card,
    nodes: IdTable,
    elements: IdTable,
    blocks: Sequence[RawBlock],
    groups: Sequence[RawGroup],
    warnings: list[str],
) -> RawGroup | None:
    kind, words = kind_of(card)
    name, where = f"set:{card.integer(0)}", f"{card.where} {card.text(0)}"
    if kind == "node":
        rows, lost = members(words, nodes, where)
        if lost:
            warnings.append(told(where, lost, "grid points"))
        return RawGroup(name, card.name, nodes=rows)
    if kind == "cell":
        rows, lost = members(words, elements, where)
        if lost:
            warnings.append(told(where, lost, "elements"))
        starts = np.cumsum([0, *(len(b.nodes) for b in blocks)])
        block = np.searchsorted(starts, rows, side="right") - 1
        return RawGroup(name, card.name, cells={int(i): rows[block == i] - starts[i] for i in np.unique(block)})
    if kind == "property":
        known = [g for g in groups if g.name.startswith("property:")]
        ids = IdTable(
            np.array([int(g.name.partition(":")[2]) for g in known], dtype=np.int64), "properties", Path(card.path)
        )
        rows, lost = members(words, ids, where)
        if lost:
            warnings.append(told(where, lost, "properties"))
        cells: dict[int, IntArray] = {}
        for row in rows.tolist():
            for i, of_block in known[row].cells.items():
                cells[i] = np.concatenate([cells[i], of_block]) if i in cells else of_block
        return RawGroup(name, card.name, cells=cells)
    return None
