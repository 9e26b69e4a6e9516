"""What a solver may know of the unknowns of a system beyond their number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Unknowns:
    """What the unknowns of a system are.

    Attributes
    ----------
    name_of : callable
        What messages call an unknown, given its number.
    components : int
        Unknowns at a node: unknown ``node * components + component``. One where there are no nodes.
    dim : int or None
        Dimension of the mesh at whose nodes they are; None where there is none, and for other unknowns.
    """

    name_of: Callable[[int], str] = "unknown {}".format
    components: int = 1
    dim: int | None = None


PLAIN = Unknowns()
"""Of a system that is nothing but a matrix."""
