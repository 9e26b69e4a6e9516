"""Which design is the best one so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from femadj.optimisation.constraint import Constraint, Objective
from femadj.optimisation.history import Record

FEASIBLE = 1e-6
"""By how much a constraint may be missed, in its scale, by a design that counts as within all limits."""


class Ranking:
    """Designs by their objective where they are within all limits, before that by how much they miss one.

    Attributes
    ----------
    improving : list of int
        Numbers of the designs that were better than all before them.
    """

    def __init__(self, objective: Objective, constraints: Sequence[Constraint]) -> None:
        self._objective, self._constraints = objective, constraints
        self._least = (np.inf, np.inf)
        self.improving: list[int] = []

    def note(self, record: Record) -> None:
        """Look at the next design."""
        if record.failure is not None:
            return
        missed = [each.violation(value) for each, value in zip(self._constraints, record.values[1:], strict=True)]
        worst = max(missed, default=0.0)
        merit = worst if worst > FEASIBLE else 0.0, record.values[0] / self._objective.scale
        if merit < self._least:
            self.improving.append(record.number)
            self._least = merit
