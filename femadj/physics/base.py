"""What a physics is: pointwise coefficients of its bilinear form, and the names of its unknowns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, listing
from femadj.errors import MaterialError
from femadj.forms.integral import IntegralTerm
from femadj.forms.law import TensorLaw
from femadj.forms.term import Term
from femadj.mesh import Mesh
from femadj.space.discretisation import Discretisation
from femadj.space.parameters import ParameterLike, Parameters

Regional = float | npt.ArrayLike | Mapping[str, Any]
"""A material constant: one value, or a value for each cell group by name (together they cover every cell once)."""


@dataclass(frozen=True, eq=False)
class Coefficient:
    """Pointwise coefficient of a bilinear form, constant in regions.

    Attributes
    ----------
    values : (n_regions, nc, ns, nc, ns)
        ``C[i, s, k, t]`` of ``int v^ : C : u^``.
    region : (n_cells,) int32
        Region of every cell of the mesh.
    lo, hi : int
        Slots used: 0 the value, 1.. the derivatives.
    """

    values: FloatArray
    region: npt.NDArray[np.int32]
    lo: int
    hi: int

    @property
    def symmetric(self) -> bool:
        """Whether the form is symmetric in u and v."""
        swapped = self.values.transpose(0, 3, 4, 1, 2)
        return bool(np.abs(self.values - swapped).max() <= 1e-14 * np.abs(self.values).max())

    def law(self, dim: int, factor: float = 1.0) -> TensorLaw:
        """The law of the bilinear form in ``dim`` dimensions, times a factor."""
        n_regions, nc = self.values.shape[:2]
        n = nc * (dim + 1)
        full = np.zeros((n_regions, nc, dim + 1, nc, dim + 1))
        full[:, :, self.lo : self.hi, :, self.lo : self.hi] = factor * self.values
        return TensorLaw(full.reshape(n_regions, n, n), self.region, self.lo, self.hi, self.symmetric)


@dataclass(frozen=True, eq=False)
class NullModes:
    """Fields that a physics without supports leaves undetermined.

    Attributes
    ----------
    names : tuple of str
    fields : (n_modes, n_nodes, nc)
    """

    names: tuple[str, ...]
    fields: FloatArray


@dataclass(frozen=True, eq=False)
class BoundPhysics:
    """A physics on a discretisation.

    Attributes
    ----------
    internal : tuple of Term
        Of the residual; their derivative by the unknowns is the matrix.
    external : tuple of Term
        Linear forms that belong to the physics; they are subtracted.
    symmetric : bool
        Whether the matrix is symmetric.
    definite : bool
        Whether it is positive definite once the body is supported.
    """

    internal: tuple[Term, ...]
    external: tuple[Term, ...]
    symmetric: bool
    definite: bool


class Physics(Protocol):
    """A linear physics on a mesh.

    A physics is its terms; assembly and derivatives need nothing else from it.
    """

    @property
    def parameters(self) -> Mapping[str, ParameterLike]:
        """Declared parameters by name."""
        ...

    def discretise(self, mesh: Mesh, threads: int | None) -> Discretisation:
        """The unknowns of the physics on a mesh."""
        ...

    def bind(self, space: Discretisation, parameters: Parameters, order: int | None) -> BoundPhysics:
        """Its terms on a discretisation; ``order`` overrides the degree of the quadrature."""
        ...

    @property
    def quantity(self) -> Literal["displacement", "scalar", "mixed"]:
        """What the unknown is, which decides the loads that fit."""
        ...

    def components(self, dim: int) -> tuple[str, ...]:
        """Names of the components of the unknown."""
        ...

    def thickness_in(self, dim: int) -> float:
        """Factor of all integrals: the thickness of a plane body, one for solids."""
        ...

    def density_of(self, mesh: Mesh) -> FloatArray:
        """Mass density of every cell, shape ``(n_cells,)``; MaterialError when the physics has none."""
        ...

    def null_modes(self, points: FloatArray) -> NullModes:
        """Fields without energy."""
        ...


class Body:
    """What materials say of themselves besides their forms.

    Attributes
    ----------
    thickness : float
        Of a plane body.
    density : number, mapping of cell group to number, or None
        Mass per volume.
    """

    thickness: float
    density: Regional | None

    def thickness_in(self, dim: int) -> float:
        """The thickness of a plane body; a solid has none."""
        if dim == 3 and self.thickness != 1.0:
            raise MaterialError("thickness belongs to plane (two-dimensional) meshes only")
        return float(self.thickness)

    def density_of(self, mesh: Mesh) -> FloatArray:
        """Mass density of every cell."""
        if self.density is None:
            raise MaterialError(f"the material has no density: {type(self).__name__}(..., density=...)")
        values, index = by_cell(mesh, self.density, "density")
        return np.array([float(v) for v in values])[index]


class CoefficientPhysics:
    """A physics that is one bilinear form over all cells, with coefficients that are constant in regions."""

    def coefficient(self, mesh: Mesh) -> Coefficient:
        """Coefficients of the bilinear form, without the thickness."""
        raise NotImplementedError

    def components(self, dim: int) -> tuple[str, ...]:
        """Names of the components of the unknown."""
        raise NotImplementedError

    def thickness_in(self, dim: int) -> float:
        """Factor of all integrals."""
        raise NotImplementedError

    @property
    def parameters(self) -> Mapping[str, ParameterLike]:
        """None."""
        return {}

    def discretise(self, mesh: Mesh, threads: int | None) -> Discretisation:
        """An isoparametric field."""
        return Discretisation.of(mesh, len(self.components(mesh.dim)), threads)

    def bind(self, space: Discretisation, parameters: Parameters, order: int | None) -> BoundPhysics:
        """The bilinear form, block by block."""
        law = self.coefficient(space.mesh).law(space.mesh.dim, self.thickness_in(space.mesh.dim))
        terms = [
            IntegralTerm.of(fields, law, symmetric=law.symmetric)
            for fields in space.maps("cells", order=order, gradients=True)
        ]
        return BoundPhysics(tuple(terms), (), law.symmetric, law.symmetric)


def by_cell(mesh: Mesh, value: Regional, what: str) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """Distinct values of a regional constant and, for every cell, which of them holds.

    Raises
    ------
    MaterialError
        When the groups leave cells out or share some.
    UnknownGroupError
        For a group that the mesh does not have.
    """
    if not isinstance(value, Mapping):
        return [value], np.zeros(mesh.n_cells, dtype=np.int64)
    index = np.full(mesh.n_cells, -1, dtype=np.int64)
    values = []
    for number, (group, entry) in enumerate(value.items()):
        cells = mesh.cells_of(group)
        taken = cells[index[cells] >= 0]
        if len(taken):
            other = list(value)[int(index[taken[0]])]
            raise MaterialError(f"{what}: cell groups {other!r} and {group!r} share cells {listing(taken)}")
        index[cells] = number
        values.append(entry)
    missing = np.flatnonzero(index < 0)
    if len(missing):
        raise MaterialError(f"{what} is not given for cells {listing(missing)} (groups given: {', '.join(value)})")
    return values, index


def combine(
    indices: list[npt.NDArray[np.int64]], counts: list[int]
) -> tuple[list[tuple[int, ...]], npt.NDArray[np.int32]]:
    """Distinct combinations of several constants, and the combination of every cell."""
    code = np.zeros_like(indices[0])
    for index, count in zip(indices, counts, strict=True):
        code = code * count + index
    unique, region = np.unique(code, return_inverse=True)
    combinations = []
    for value in unique.tolist():
        rest, parts = value, []
        for count in reversed(counts):
            rest, part = divmod(rest, count)
            parts.append(part)
        combinations.append(tuple(reversed(parts)))
    return combinations, region.astype(np.int32)


def positive(value: Any, what: str) -> float:
    """A positive finite number."""
    number = finite(value, what)
    if number <= 0:
        raise MaterialError(f"{what} must be positive, not {number:g}")
    return number


def finite(value: Any, what: str) -> float:
    """A finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise MaterialError(f"{what} must be a number, not {value!r}") from None
    if not np.isfinite(number):
        raise MaterialError(f"{what} must be finite, not {number}")
    return number


def for_each(value: Regional | None, check: Callable[[Any, str], Any], what: str) -> None:
    """Check every value of a regional constant."""
    if isinstance(value, Mapping):
        if not value:
            raise MaterialError(f"{what} is an empty mapping; give a value for every cell group")
        for group, entry in value.items():
            check(entry, f"{what} of {group!r}")
    else:
        check(value, what)
