"""What a physics is: pointwise coefficients of its bilinear form, and the names of its unknowns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import described, real_array
from femadj.base.arrays import FloatArray
from femadj.base.jet import values_of
from femadj.errors import MaterialError
from femadj.forms.integral import IntegralTerm
from femadj.forms.law import TensorLaw
from femadj.forms.regional import RegionalTensor, TensorFunction
from femadj.forms.term import Term
from femadj.mesh import Mesh
from femadj.physics.material import (
    Regional,
    checked_values,
    item_shape,
    parameter_of,
    regional_tensor,
    require_positive,
    value_of_cell,
)
from femadj.space.discretisation import Discretisation
from femadj.space.parameters import CellField, ParameterLike, Parameters


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
        tensor = RegionalTensor.constant(full.reshape(n_regions, n, n), self.region)
        return TensorLaw(tensor, self.lo, self.hi, self.symmetric)


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
    null_modes : callable
        ``null_modes(points)``: fields that it leaves undetermined where there are no supports.
    """

    internal: tuple[Term, ...]
    external: tuple[Term, ...]
    symmetric: bool
    definite: bool
    null_modes: Callable[[FloatArray], NullModes]


class Physics(Protocol):
    """A physics on a mesh, linear in the unknowns or not.

    A physics is its terms; assembly and derivatives need nothing else from it.
    """

    @property
    def parameters(self) -> Mapping[str, ParameterLike]:
        """Declared parameters by name."""
        ...

    def parameters_on(self, mesh: Mesh) -> Mapping[str, ParameterLike]:
        """All parameters on a mesh, by name; those of a plane body may be more."""
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

    def scaled(self, mesh: Mesh, function: TensorFunction, names: Sequence[str] = ()) -> RegionalTensor:
        """A tensor by region as a function of named constants, times the factor of all integrals."""
        ...

    def mass(self, mesh: Mesh) -> RegionalTensor:
        """Mass density by region, times the factor of all integrals; MaterialError when the physics has none."""
        ...

    def null_modes(self, points: FloatArray) -> NullModes:
        """Fields without energy."""
        ...


class Body:
    """Thickness and density of a body, next to what its physics is.

    Attributes
    ----------
    thickness : float
        Of a plane body: a factor of all integrals, and the parameter ``"thickness"``.
    density : number, mapping of cell group to number, CellField, or None
        Mass per volume, the parameter ``"density"``.
    """

    thickness: float
    density: Regional | None

    @property
    def constants(self) -> Mapping[str, Regional]:
        """Constants of the material by name, without the thickness."""
        return {} if self.density is None else {"density": self.density}

    @property
    def parameters(self) -> Mapping[str, ParameterLike]:
        """The constants as parameters."""
        return {name: parameter_of(value) for name, value in self.constants.items()}

    def parameters_on(self, mesh: Mesh) -> Mapping[str, ParameterLike]:
        """The constants as parameters; of a plane body the thickness too."""
        return {**self.parameters, **self._thickness_on(mesh)}

    def _thickness_on(self, mesh: Mesh) -> dict[str, float]:
        return {"thickness": self.thickness} if self.thickness_in(mesh.dim) and mesh.dim == 2 else {}

    def thickness_in(self, dim: int) -> float:
        """The thickness of a plane body; a solid has none."""
        if dim == 3 and self.thickness != 1.0:
            raise MaterialError("thickness belongs to plane (two-dimensional) meshes only")
        return float(self.thickness)

    def scaled(self, mesh: Mesh, function: TensorFunction, names: Sequence[str] = ()) -> RegionalTensor:
        """A tensor as a function of some constants, times the thickness of a plane body."""
        given = {name: self.constants[name] for name in names}
        shapes = {name: item_shape(value) for name, value in given.items()}
        thickness = self._thickness_on(mesh)
        if not thickness:
            if not given:
                return RegionalTensor.constant(np.asarray(function()), np.zeros(mesh.n_cells, dtype=np.int32))
            return regional_tensor(mesh, function, given, shapes)

        def times_thickness(*values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            *constants, factor = values
            require_positive(values_of(factor), "thickness")
            result = function(*constants)
            return result * factor.reshape(-1, *(1,) * (result.ndim - 1))

        return regional_tensor(mesh, times_thickness, {**given, **thickness}, shapes)

    def mass(self, mesh: Mesh) -> RegionalTensor:
        """Mass density by region, times the thickness of a plane body; MaterialError when there is none."""
        if self.density is None:
            raise MaterialError(f"the material has no density: {type(self).__name__}(..., density=...)")
        return self.scaled(mesh, partial(checked_values, require_positive, "density"), ["density"])

    def density_of(self, mesh: Mesh) -> FloatArray:
        """Mass density of every cell."""
        if self.density is None:
            raise MaterialError(f"the material has no density: {type(self).__name__}(..., density=...)")
        values = Parameters.of(mesh, {"density": parameter_of(self.density)}, "material").value("density")
        return np.asarray(values.reshape(-1)[value_of_cell(mesh, self.density, "density")])


class Unscaled:
    """What a physics says whose factor of integrals and whose density are no parameters."""

    @property
    def parameters(self) -> Mapping[str, ParameterLike]:
        """None."""
        return {}

    def thickness_in(self, dim: int) -> float:
        """Factor of all integrals."""
        raise NotImplementedError

    def density_of(self, mesh: Mesh) -> FloatArray:
        """Mass density of every cell."""
        raise NotImplementedError

    def parameters_on(self, mesh: Mesh) -> Mapping[str, ParameterLike]:
        """The same on every mesh."""
        return self.parameters

    def scaled(self, mesh: Mesh, function: TensorFunction, names: Sequence[str] = ()) -> RegionalTensor:
        """A constant tensor ``(1, ...)``, times the factor of all integrals."""
        values = self.thickness_in(mesh.dim) * np.asarray(function(), dtype=float)
        return RegionalTensor.constant(values, np.zeros(mesh.n_cells, dtype=np.int32))

    def mass(self, mesh: Mesh) -> RegionalTensor:
        """Mass density by region, times the factor of all integrals; MaterialError when there is none."""
        density, region = np.unique(self.density_of(mesh), return_inverse=True)
        return RegionalTensor.constant(self.thickness_in(mesh.dim) * density, region.astype(np.int32))


class CoefficientPhysics(Unscaled):
    """A physics that is one bilinear form over all cells, with coefficients that are constant in regions."""

    def coefficient(self, mesh: Mesh) -> Coefficient:
        """Coefficients of the bilinear form, without the thickness."""
        raise NotImplementedError

    def components(self, dim: int) -> tuple[str, ...]:
        """Names of the components of the unknown."""
        raise NotImplementedError

    def null_modes(self, points: FloatArray) -> NullModes:
        """Fields without energy."""
        raise NotImplementedError

    def law(self, mesh: Mesh) -> TensorLaw:
        """The law of the bilinear form."""
        return self.coefficient(mesh).law(mesh.dim, self.thickness_in(mesh.dim))

    def discretise(self, mesh: Mesh, threads: int | None) -> Discretisation:
        """An isoparametric field."""
        return Discretisation.of(mesh, len(self.components(mesh.dim)), threads)

    def bind(self, space: Discretisation, parameters: Parameters, order: int | None) -> BoundPhysics:
        """The bilinear form, block by block."""
        law = self.law(space.mesh)
        law.tensor.at(parameters)  # a material that does not fit the mesh is refused before anything is solved
        terms = [
            IntegralTerm.of(fields, law, symmetric=law.symmetric)
            for fields in space.maps("cells", order=order, gradients=True)
        ]
        return BoundPhysics(tuple(terms), (), law.symmetric, law.symmetric, self.null_modes)


BY_CELL = ", a mapping of cell group to numbers, or CellField(values) with one for each cell"
"""What else a material constant may be."""


def positive(value: Any, what: str) -> float:
    """A positive finite number."""
    number = finite(value, what)
    if number <= 0:
        raise MaterialError(f"{what} must be positive, not {number:g}")
    return number


def finite(value: Any, what: str) -> float:
    """A finite number."""
    try:
        number = None if np.ndim(value) else float(value)
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise MaterialError(f"{what} must be a number{BY_CELL}, not {described(value)}")
    if not np.isfinite(number):
        raise MaterialError(f"{what} must be finite, not {number}")
    return number


def for_each(value: Regional | None, check: Callable[[Any, str], Any], what: str) -> None:
    """Check every value of a regional constant."""
    if isinstance(value, CellField):
        for entry in np.unique(real_array(value.values, what, MaterialError)) if value.values is not None else ():
            check(entry, what)
    elif isinstance(value, Mapping):
        if not value:
            raise MaterialError(f"{what} is an empty mapping; give a value for every cell group")
        for group, entry in value.items():
            check(entry, f"{what} of {group!r}")
    else:
        check(value, what)


def checked_nu(value: Any, what: str) -> float:
    """A possible Poisson's ratio."""
    number = finite(value, what)
    if not -1.0 < number < 0.5:
        raise MaterialError(f"{what} must lie between -1 and 0.5 (both excluded), not {number:g}")
    return number


def rigid_motions(points: FloatArray) -> NullModes:
    """Translations and infinitesimal rotations."""
    n, dim = points.shape
    names = [f"translation along {c}" for c in "xyz"[:dim]]
    fields = [np.tile(np.eye(dim)[i], (n, 1)) for i in range(dim)]
    x = points - points.mean(axis=0)
    size = float(np.abs(x).max(initial=0.0)) or 1.0
    for i, j, axis in ((0, 1, "z"),) if dim == 2 else ((1, 2, "x"), (2, 0, "y"), (0, 1, "z")):
        rotation = np.zeros((n, dim))
        rotation[:, i] = -x[:, j] / size
        rotation[:, j] = x[:, i] / size
        names.append(f"rotation about {axis}")
        fields.append(rotation)
    return NullModes(tuple(names), np.array(fields))
