"""The designs of a run: each solved when it is first asked for, kept, and found again by its variables."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.optimisation.failures import FAILURES, forgetful, require_finite
from femadj.optimisation.history import History, Record, key_of
from femadj.optimisation.model import Solved
from femadj.optimisation.parametrisation import Parametrisation, Placed
from femadj.responses.base import AnyResponse


@dataclass(eq=False)
class Designs:
    """Responses at design variables ``z``, with the parametrisation at ``scales * z``.

    Attributes
    ----------
    problem, parametrisation, responses
    scales : (n,)
    most : int
        How many of the last solutions are kept.
    history : History
    solves, gradients : int
        Solves of the problem, and blocks of gradients, so far.
    """

    problem: Any
    parametrisation: Parametrisation
    responses: tuple[AnyResponse, ...]
    scales: FloatArray
    most: int
    history: History
    solves: int = 0
    gradients: int = 0
    _solved: dict[str, Solved] = field(default_factory=dict)

    def new(self, z: FloatArray, shown: AbstractContextManager[object]) -> Record:
        """Solve at variables that have not been asked for, and keep what is found."""
        start, before = perf_counter(), self.effort()[1]
        record = Record(len(self.history), (np.inf,) * len(self.responses), None, self._step(z), np.nan, 0, 0, 0.0)
        try:
            with shown:
                require_finite(z)
                placed = self.parametrisation.at(self.scales * z)
                record = replace(record, quality=float(self.problem.mesh.quality(placed.points).min()))
                solved = self._solve(key_of(z), placed)
            record = replace(record, values=tuple(solved.values.tolist()), iterations=solved.iterations)
        except FAILURES as failure:
            record = replace(record, failure=forgetful(failure))
        spent = self.effort()[1] - before
        record = replace(record, factorisations=spent, seconds=perf_counter() - start)
        self.history.add(record, z)
        return record

    def slopes(self, z: FloatArray, number: int) -> FloatArray:
        """Derivatives of all responses by ``z`` at a design of the history."""
        found = self.history.slopes(number)
        if found is None:
            found = self.solved(z).slopes() * self.scales
            found.setflags(write=False)
            self.gradients += 1
            self.history.add_slopes(number, found)
        return found

    def placed(self, z: FloatArray) -> Placed:
        """The mesh at variables: of a design that is solved, or placed again."""
        solved = self._solved.get(key_of(z))
        return self.parametrisation.at(self.scales * z) if solved is None else solved.placed

    def points(self, z: FloatArray) -> FloatArray:
        """Node coordinates at variables."""
        return self.placed(z).points

    def solved(self, z: FloatArray) -> Solved:
        """The solution at variables: one of the last, or solved again."""
        key = key_of(z)
        if key not in self._solved:
            return self._solve(key, self.parametrisation.at(self.scales * z))
        self._solved[key] = self._solved.pop(key)  # the youngest
        return self._solved[key]

    def _solve(self, key: str, placed: Placed) -> Solved:
        while len(self._solved) >= self.most:  # before there is one more
            del self._solved[next(iter(self._solved))]
        self.solves += 1
        self._solved[key] = Solved.at(self.problem, placed, self.responses)
        return self._solved[key]

    def _step(self, z: FloatArray) -> float:
        last = len(self.history) - 1
        return float(np.linalg.norm(z - self.history.variables(last))) if last >= 0 else 0.0

    def effort(self) -> tuple[int, int]:
        """Analyses and factorisations of the problem so far; zero where it does not count."""
        counts = getattr(self.problem, "counts", None)
        return (0, 0) if counts is None else (counts.analyses, counts.factorisations)
