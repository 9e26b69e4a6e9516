"""Points of a region that are looked at once for a design, when all of the region has been evaluated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Note:
    """Some points of a piece of the region, and what a form was found to be there.

    Attributes
    ----------
    places : (k,) int64
        The points, entity by entity of the piece.
    entity, point : (k,) int64
        The same, by the entity of the region.
    values : (r, k)
        Coefficients.
    weights : tuple of (n, k, 1)
        Arguments: test, then trial function.
    expected : (k, 1)
        The form with these arguments.
    everything : bool
        Whether all entries are coefficients, or those that suffice.
    """

    places: IntArray
    entity: IntArray
    point: IntArray
    values: FloatArray
    weights: tuple[FloatArray, ...]
    expected: FloatArray
    everything: bool


class Noted:
    """Notes of all pieces at a design, by the first entity of each; pieces may be noted in any thread."""

    def __init__(self) -> None:
        self._notes: dict[int, Note] = {}
        self._seen = 0

    def of(self, start: int) -> Note | None:
        """The note of a piece, if there is one."""
        return self._notes.get(start)

    def add(self, start: int, note: Note) -> None:
        """Note a piece."""
        self._notes[start] = note

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been noted."""
        return not self._notes

    @property
    def is_new(self) -> bool:
        """Whether something has been noted since it was last looked at."""
        return len(self._notes) > self._seen

    def mark_seen(self) -> None:
        """Say that all of it has been looked at."""
        self._seen = len(self._notes)

    @property
    def _all(self) -> list[Note]:
        return [self._notes[start] for start in sorted(self._notes)]

    @property
    def entity(self) -> IntArray:
        """Entities of the points, ascending."""
        return np.concatenate([note.entity for note in self._all])

    @property
    def point(self) -> IntArray:
        """Quadrature points of the entities."""
        return np.concatenate([note.point for note in self._all])

    @property
    def expected(self) -> FloatArray:
        """The form, ``(k, 1)``."""
        return np.concatenate([note.expected for note in self._all])

    @property
    def weights(self) -> tuple[FloatArray, ...]:
        """Arguments, ``(n, k, 1)`` each."""
        return tuple(np.concatenate(parts, axis=1) for parts in zip(*(n.weights for n in self._all), strict=True))

    def values_of(self, rows: IntArray) -> FloatArray:
        """Coefficients ``(r, k)`` of entries that suffice, whose numbers among all entries are ``rows``."""
        return np.concatenate([n.values[rows] if n.everything else n.values for n in self._all], axis=1)
