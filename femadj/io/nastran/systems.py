"""Coordinate systems of Nastran: rectangular, cylindrical, spherical, by points or by grid points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import MeshFileError
from femadj.io.nastran.cards import Card
from femadj.io.raw import IdTable, IntArray

SYSTEMS = ("CORD1R", "CORD1C", "CORD1S", "CORD2R", "CORD2C", "CORD2S")


@dataclass(frozen=True, eq=False)
class _System:
    kind: str
    origin: FloatArray
    axes: FloatArray

    def basic(self, x: FloatArray) -> FloatArray:
        """Points given in the system, in the basic one."""
        if self.kind == "R":
            local = x
        elif self.kind == "C":
            angle = np.deg2rad(x[:, 1])
            local = np.stack([x[:, 0] * np.cos(angle), x[:, 0] * np.sin(angle), x[:, 2]], axis=1)
        else:
            theta, phi = np.deg2rad(x[:, 1]), np.deg2rad(x[:, 2])
            local = x[:, :1] * np.stack(
                [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1
            )
        return self.origin + local @ self.axes


def _system(kind: str, a: FloatArray, b: FloatArray, c: FloatArray, where: str) -> _System:
    """Origin a, b on the z axis, c in the half plane of positive x."""
    z = b - a
    y = np.cross(z, c - a)
    length, turn = np.linalg.norm(z), np.linalg.norm(y)
    if not (length > 0 and turn > 1e-12 * length * np.linalg.norm(c - a)):
        raise MeshFileError(f"{where}: the three points of the coordinate system lie on a line")
    z, y = z / length, y / turn
    return _System(kind, a, np.stack([np.cross(y, z), y, z]))


def positions(cards: Sequence[Card], table: IdTable, local: IntArray, x: FloatArray, path: Path) -> FloatArray:
    """Positions of all grid points in the basic system.

    Parameters
    ----------
    cards : sequence of Card
        Those that define coordinate systems.
    table : IdTable
        Of the grid points.
    local : (n,) int
        Coordinate system in which each is given; 0 for the basic one.
    x : (n, 3)
    path : Path
        For messages.

    Raises
    ------
    MeshFileError
        For systems that are not defined, or by way of each other.
    """
    result = x.copy()
    known = local == 0
    used = {int(i) for i in np.unique(local)}
    found: dict[int, _System] = {}
    waiting = _definitions(cards)
    users: dict[int, IntArray] = {i: np.flatnonzero(local == i) for i in used if i}
    resting: dict[int, list[int]] = {}  # systems that rest on a system
    for number, (card, at) in waiting.items():
        for base in _bases(card, at, table, local):
            resting.setdefault(base, []).append(number)
    queue = list(waiting)
    while queue:
        number = queue.pop()
        if number not in waiting:
            continue
        system = _try(*waiting[number], found, table, result, known)
        if system is None:
            continue
        found[number] = system
        del waiting[number]
        if number in users:
            rows = users.pop(number)
            result[rows] = system.basic(x[rows])
            known[rows] = True
        queue += resting.get(number, [])
    if users:
        number, rows = next(iter(users.items()))
        if number in waiting:
            card = waiting[number][0]
            raise MeshFileError(
                f"{card.where}: the coordinate system {number} rests on systems or grid points that are not defined, "
                "or on itself"
            )
        raise MeshFileError(
            f"{path}: {len(rows)} grid points are given in the coordinate system {number}, which "
            f"is not defined (known are {', '.join(SYSTEMS)})"
        )
    return result


def _definitions(cards: Sequence[Card]) -> dict[int, tuple[Card, int]]:
    """Card and first field of every system."""
    result: dict[int, tuple[Card, int]] = {}
    for card in cards:
        starts = [0] if card.name[4] == "2" else [s for s in (0, 4) if card.text(s)]
        for start in starts:
            number = card.integer(start)
            if number in result or number <= 0:
                raise MeshFileError(f"{card.where}: the coordinate system {number} is defined twice, or not positive")
            result[number] = card, start
    return result


def _bases(card: Card, at: int, table: IdTable, local: IntArray) -> list[int]:
    """Systems that a system rests on, by way of its grid points too."""
    if card.name[4] == "2":
        return [card.integer(1, 0)]
    rows = table.find(np.array([card.integer(at + k) for k in (1, 2, 3)]))
    return [int(i) for i in np.unique(local[rows[rows >= 0]])]


def _try(
    card: Card, at: int, found: dict[int, _System], table: IdTable, x: FloatArray, known: IntArray
) -> _System | None:
    """The system that a card defines, where what it rests on is known."""
    kind = card.name[5]
    if card.name[4] == "1":
        rows = table.find(np.array([card.integer(at + k) for k in (1, 2, 3)]))
        if rows.min() < 0 or not known[rows].all():
            return None
        points = x[rows]
    else:
        base = card.integer(1, 0)
        if base and base not in found:
            return None
        points = np.array([card.real(k) for k in range(2, 11)]).reshape(3, 3)
        if base:
            points = found[base].basic(points)
    return _system(kind, points[0], points[1], points[2], card.where)
