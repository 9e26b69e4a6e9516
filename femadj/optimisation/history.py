"""The designs of a run, one after the other; kept in memory, or in a folder that any interruption leaves readable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import FemadjError

KEPT = 1 << 28
"""Bytes of gradients that are kept in memory, of the last designs; those of others are in the folder, or nowhere."""


@dataclass(frozen=True, eq=False)
class Record:
    """What was found at one design.

    Attributes
    ----------
    number : int
        Designs are counted from 0, in the order in which they were first asked for.
    values : tuple of float
        Of objective and constraints, as they are; infinite where the design failed.
    failure : FemadjError or None
        Why there are none.
    step : float
        Euclidean distance in the optimiser's variables from the design before.
    quality : float
        Smallest scaled Jacobian of all cells; NaN where there is no mesh.
    factorisations, iterations : int
        Of the problem, for the values: factorisations, and iterations of the solver or of Newton's method.
    seconds : float
        For the values.
    differentiated : bool
        Whether gradients have been asked for.
    """

    number: int
    values: tuple[float, ...]
    failure: FemadjError | None
    step: float
    quality: float
    factorisations: int
    iterations: int
    seconds: float
    differentiated: bool = False


class Storage(Protocol):
    """Where records, variables and gradients are kept."""

    def add(self, record: Record, z: FloatArray) -> None:
        """Keep a design."""
        ...

    def add_slopes(self, number: int, slopes: FloatArray) -> None:
        """Keep gradients of a design."""
        ...

    def variables(self, number: int) -> FloatArray:
        """Variables of a design, bit by bit."""
        ...

    def slopes(self, number: int) -> FloatArray | None:
        """Gradients of a design, bit by bit; None where they are not kept."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


class Memory:
    """All variables, and gradients of the last few designs."""

    def __init__(self) -> None:
        self._variables: list[FloatArray] = []
        self._slopes: dict[int, FloatArray] = {}

    def add(self, record: Record, z: FloatArray) -> None:
        """Keep a design."""
        self._variables.append(z)

    def add_slopes(self, number: int, slopes: FloatArray) -> None:
        """Keep gradients of a design, in place of the oldest."""
        self._slopes[number] = slopes
        while len(self._slopes) > 1 and sum(each.nbytes for each in self._slopes.values()) > KEPT:
            del self._slopes[next(iter(self._slopes))]

    def variables(self, number: int) -> FloatArray:
        """Variables of a design."""
        return self._variables[number]

    def slopes(self, number: int) -> FloatArray | None:
        """Gradients of one of the last designs."""
        return self._slopes.get(number)

    def close(self) -> None:
        """There is nothing to let go of."""


class History:
    """The designs of a run, found again by their variables.

    ``history.records`` are all designs; ``history.variables(number)`` what the optimiser's variables were.

    Parameters
    ----------
    storage : Storage
    records : list of Record
        Of an earlier run.
    known : mapping of str to int
        The designs of an earlier run, by ``key_of`` their variables.
    """

    def __init__(
        self, storage: Storage, records: list[Record] | None = None, known: Mapping[str, int] | None = None
    ) -> None:
        self._storage = storage
        self._records = [] if records is None else records
        self._known = {} if known is None else dict(known)

    @property
    def records(self) -> tuple[Record, ...]:
        """All designs, in the order in which they were first asked for."""
        return tuple(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> Record:
        return self._records[number]

    def __repr__(self) -> str:
        failed = sum(record.failure is not None for record in self._records)
        return f"History({len(self)} designs, {failed} of them without an answer)"

    def find(self, z: FloatArray) -> Record | None:
        """The design with these very variables, bit by bit; None for a new one."""
        number = self._known.get(key_of(z))
        return None if number is None else self._records[number]

    def variables(self, number: int) -> FloatArray:
        """The optimiser's variables of a design."""
        return self._storage.variables(number)

    def slopes(self, number: int) -> FloatArray | None:
        """Gradients of all responses by the optimiser's variables, ``(1 + m, n)``; None where they are not kept."""
        return self._storage.slopes(number)

    def add(self, record: Record, z: FloatArray) -> None:
        """Keep a new design; with a folder it is on the disk when this returns."""
        self._storage.add(record, z)
        self._known[key_of(z)] = record.number
        self._records.append(record)

    def add_slopes(self, number: int, slopes: FloatArray) -> None:
        """Keep the gradients of a design."""
        self._storage.add_slopes(number, slopes)
        self._records[number] = replace(self._records[number], differentiated=True)

    def close(self) -> None:
        """Let go of files."""
        self._storage.close()


def key_of(z: FloatArray) -> str:
    """A short name of variables, different for any other bits."""
    return blake2b(z.tobytes(), digest_size=16).hexdigest()


def plain(number: float) -> float | None:
    """A number as JSON can hold it."""
    return float(number) if np.isfinite(number) else None


def number_of(given: Any, otherwise: float) -> float:
    """A number that JSON held."""
    return otherwise if given is None else float(given)
