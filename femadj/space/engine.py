"""Where compiled passes over a domain run: on the host, or on a device that holds what it needs of the domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from femadj.space.pattern import MatrixEntries

AnyArray = npt.NDArray[Any]


class Passes(Protocol):
    """Passes over one domain somewhere else than on the host, for real numbers; as in ``femadj.space.nodal``.

    Arrays are those of the host.
    """

    def assemble(self, points: AnyArray, c: Any, entries: MatrixEntries) -> float:
        """Add the matrix to the entries of the pattern; returns the smallest Jacobian determinant."""
        ...

    def apply(self, points: AnyArray, c: Any, x: AnyArray, y: AnyArray) -> None:
        """Add ``K x`` to ``y``."""
        ...

    def contract(self, points: AnyArray, c: Any, u: AnyArray, v: AnyArray, gradient: AnyArray, scale: float) -> None:
        """Add ``scale * d/dX (v^T K u)`` at fixed u and v to ``gradient``."""
        ...

    def tangent(self, points: AnyArray, c: Any, velocity: AnyArray, u: AnyArray, y: AnyArray) -> None:
        """Add ``(dK/dX velocity) u`` to ``y``."""
        ...


class Engine(Protocol):
    """What gives the domains of a discretisation their passes."""

    @property
    def name(self) -> str:
        """Where that is, in words."""
        ...

    def refusal(self, domain: Any) -> str:
        """Why passes over a domain run on the host, in words; empty where they do not."""
        ...

    def passes(self, domain: Any) -> Passes:
        """Passes over a domain that is not refused."""
        ...


@dataclass(frozen=True)
class Host:
    """All passes on the host; ``why``: because of what, in words."""

    why: str = "the solver runs on the host"

    @property
    def name(self) -> str:
        """The host."""
        return "host"

    def refusal(self, domain: Any) -> str:
        """The same for all domains."""
        return self.why

    def passes(self, domain: Any) -> Passes:
        """There are none."""
        raise NotImplementedError(self.why)


HOST = Host()
