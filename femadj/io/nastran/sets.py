"""Sets of grid points and elements in bulk data: SET1, SET3, and SET of OptiStruct."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from femadj.errors import MeshFileError
from femadj.io.nastran.cards import Card, integer
from femadj.io.raw import IdTable, IntArray

SETS = ("SET1", "SET3", "SET")

_NODES = ("GRID", "POINT", "NODE")
_CELLS = ("ELEM", "ELEMENT")
_PROPERTIES = ("PROP",)


def kind_of(card: Card) -> tuple[str, list[str]]:
    """What a set numbers (``"node"``, ``"cell"``, ``"property"``, or empty for anything else), and its list."""
    if card.name == "SET1":
        return "node", card.data[1:]
    what = card.text(1).upper()
    kind = "node" if what in _NODES else "cell" if what in _CELLS else "property" if what in _PROPERTIES else ""
    if card.name == "SET3":
        return kind, card.data[2:]
    return (kind if card.text(2).upper() in ("LIST", "") else ""), card.data[8:]


def members(words: Sequence[str], table: IdTable, where: str) -> tuple[IntArray, int]:
    """Rows of a list with ranges ``1 THRU 9 BY 2 EXCEPT 5``, and how many of its ids do not exist."""
    given = [w.upper() for w in words if w]
    chosen = np.zeros(len(table), dtype=bool)
    lost, at, last = 0, 0, 0
    spent = 0
    while at < len(given):
        if given[at] == "SKIN":
            at += 1
            continue
        if given[at] == "ALL":
            return np.arange(len(table)), 0
        if given[at] == "EXCEPT":
            at += 1
            while at < len(given) and given[at] not in ("THRU", "EXCEPT"):
                value = integer(given[at], where)
                if value > last:
                    break
                row = int(table.find(np.array([value]))[0])
                if row >= 0:
                    chosen[row] = False
                at += 1
            continue
        first, step = integer(given[at], where), 1
        last = first
        at += 1
        if at < len(given) and given[at] == "THRU":
            if at + 1 >= len(given):
                raise MeshFileError(f"{where}: THRU without an end")
            last = integer(given[at + 1], where)
            at += 2
            if at + 1 < len(given) and given[at] == "BY":
                step = integer(given[at + 1], where)
                at += 2
            if step <= 0 or last < first:
                raise MeshFileError(f"{where}: the range {first} THRU {last} BY {step} is none")
        rows, gone = table.between(first, last, step)
        spent += len(rows)
        if spent > 10_000_000 + 20 * len(table):
            raise MeshFileError(f"{where}: its ranges overlap many times")
        chosen[rows] = True
        lost += gone if last == first else 0  # a range takes what there is
    return np.flatnonzero(chosen), lost


def told(where: str, lost: int, what: str) -> str:
    """What to say about ids that do not exist."""
    return f"{where}: {lost} of its {what} do not exist"
