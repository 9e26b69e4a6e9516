"""Parts of an unknown: fields, and the numbers that describe each of them at a point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Kind = Literal["H1", "H(div)", "H(curl)"]


@dataclass(frozen=True, eq=False)
class Part:
    """One field of the unknown.

    Attributes
    ----------
    name : str
    kind : "H1", "H(div)" or "H(curl)"
    element : skfem.Element or None
        Scalar element of the components of an H1 field; the element itself otherwise. None where the shape functions
        are those of the mesh.
    vector : bool
        Whether an H1 field has components.
    components : int
        Unknowns at a place: components of an H1 field, else 1.
    local : (n_functions, components) int64
        Which unknowns of a cell the shape functions belong to.
    dim : int
    first : int
        First slot of the field among the values and derivatives of all parts.
    """

    name: str
    kind: Kind
    element: Any
    vector: bool
    components: int
    local: IntArray
    dim: int
    first: int

    @property
    def n_slots(self) -> int:
        """Numbers that describe the field at a point: values and derivatives."""
        if self.kind == "H1":
            return self.components * (1 + self.dim)
        if self.kind == "H(div)":
            return self.dim + 1
        return self.dim + (3 if self.dim == 3 else 1)

    @property
    def slots(self) -> slice:
        """Its slots."""
        return slice(self.first, self.first + self.n_slots)

    @property
    def value_slots(self) -> IntArray:
        """Slots of its values."""
        if self.kind == "H1":
            return self.first + np.arange(self.components) * (1 + self.dim)
        return self.first + np.arange(self.dim)

    @property
    def component_names(self) -> tuple[str, ...]:
        """Names of its components."""
        if not self.vector:
            return ()
        return ("x", "y", "z")[: self.dim] if self.components == self.dim else tuple(map(str, range(self.components)))


def nodal_part(name: str, components: int, dim: int) -> Part:
    """A field with values at the nodes of the mesh."""
    return Part(name, "H1", None, components > 1, components, np.zeros((0, components), dtype=np.int64), dim, 0)
