"""Linear elasticity of solids and of plane bodies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import one_of, real_array
from femadj.base.arrays import FloatArray
from femadj.errors import MaterialError
from femadj.forms.law import TensorLaw
from femadj.mesh import Mesh
from femadj.physics.base import (
    Body,
    CoefficientPhysics,
    NullModes,
    checked_nu,
    for_each,
    positive,
    rigid_motions,
)
from femadj.physics.material import (
    VOIGT,
    Regional,
    anisotropic_stiffness,
    isotropic_stiffness,
    of_gradients,
    plane_voigt,
)


@dataclass(frozen=True)
class Elasticity(Body, CoefficientPhysics):
    """Small-strain linear elasticity, ``int eps(v) : C : eps(u)``.

    Parameters
    ----------
    E, nu : number, mapping of cell group to number, or CellField
        Young's modulus [force/length^2] and Poisson's ratio of an isotropic material. They are parameters of the
        problem, as are ``stiffness``, ``density`` and (of a plane body) ``thickness``: ``solve`` takes other values,
        and ``Gradient.parameters`` has the derivatives. Values by group are one array, in the order of the mapping; of
        other values of a stiffness the symmetric part counts.
    stiffness : (6, 6) or (3, 3) array, or mapping of cell group to such arrays
        Full anisotropic stiffness instead of ``E`` and ``nu``, in Voigt order xx, yy, zz, yz, xz, xy (plane: xx, yy,
        xy) for engineering shear strains. A (6, 6) stiffness serves plane problems too.
    density : number or mapping, optional
        Mass per volume, for ``Gravity`` and ``Mass``.
    plane : "strain" or "stress"
        What a two-dimensional mesh means.
    thickness : float
        Of a plane body; forces are then totals, not per thickness. 1 leaves forces per unit thickness.

    Raises
    ------
    MaterialError
        ``E <= 0``, ``nu`` outside (-1, 0.5), a stiffness that is not symmetric positive definite.
    """

    E: Regional | None = None
    nu: Regional | None = None
    density: Regional | None = None
    stiffness: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None
    plane: Literal["strain", "stress"] = "strain"
    thickness: float = 1.0

    def __post_init__(self) -> None:
        if self.stiffness is not None:
            if self.E is not None or self.nu is not None:
                raise MaterialError("give either E and nu or stiffness, not both")
            for_each(self.stiffness, _checked_stiffness, "stiffness")
        else:
            if self.E is None or self.nu is None:
                raise MaterialError("give E and nu, or stiffness")
            for_each(self.E, positive, "E")
            for_each(self.nu, checked_nu, "nu")
        if self.density is not None:
            for_each(self.density, positive, "density")
        one_of(self.plane, ("strain", "stress"), "plane", MaterialError)
        positive(self.thickness, "thickness")

    @property
    def quantity(self) -> Literal["displacement"]:
        """The unknown is a displacement."""
        return "displacement"

    def components(self, dim: int) -> tuple[str, ...]:
        """Names of the displacement components."""
        return ("x", "y", "z")[:dim]

    @property
    def constants(self) -> Mapping[str, Regional]:
        """Constants of the material by name, without the thickness."""
        given: dict[str, Any] = {"E": self.E, "nu": self.nu, "stiffness": self.stiffness, "density": self.density}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def _names(self) -> tuple[str, ...]:
        return ("E", "nu") if self.stiffness is None else ("stiffness",)

    def _stiffness(self, *values: npt.NDArray[Any], dim: int) -> npt.NDArray[Any]:
        """Elasticity tensors of regions."""
        if self.stiffness is not None:
            return anisotropic_stiffness(values[0], dim, self.plane)
        return isotropic_stiffness(values[0], values[1], dim, self.plane)

    def law(self, mesh: Mesh) -> TensorLaw:
        """The law of the material, a function of its constants."""
        dim = mesh.dim
        tensor = self.scaled(mesh, partial(self._stiffness, dim=dim), self._names)
        return TensorLaw(tensor.mapped(partial(of_gradients, dim=dim)), 1, dim + 1, symmetric=True, name="elasticity")

    def held_stress(self, *values: Any, dim: int) -> Any:
        """Stress that a body takes on which is held against a unit of isotropic expansion, ``(n, dim, dim)``.

        ``C : I`` with the stiffness of the solid, with the sign of a tension; in plane strain the expansion across the
        plane is held too, in plane stress it is free. ``values`` are the constants ``E, nu`` or ``stiffness`` of ``n``
        regions.
        """
        if self.stiffness is None:
            E, nu = values
            held = 1 - nu if dim == 2 and self.plane == "stress" else 1 - 2 * nu
            return (E / held)[:, None, None] * np.eye(dim)
        (matrix,) = values
        return _held_stress(0.5 * (matrix + matrix.swapaxes(1, 2)), dim, self.plane)

    def null_modes(self, points: FloatArray) -> NullModes:
        """Translations and infinitesimal rotations."""
        return rigid_motions(points)


def _checked_stiffness(value: Any, what: str) -> FloatArray:
    matrix = real_array(value, what, MaterialError, "a (6, 6) or (3, 3) array")
    if matrix.shape not in {(6, 6), (3, 3)} or not np.isfinite(matrix).all():
        raise MaterialError(f"{what} must be a finite (6, 6) or (3, 3) array, not of shape {matrix.shape}")
    scale = np.abs(matrix).max()
    if np.abs(matrix - matrix.T).max() > 1e-10 * scale:
        raise MaterialError(f"{what} is not symmetric")
    if np.linalg.eigvalsh(matrix).min() <= 1e-14 * scale:
        raise MaterialError(f"{what} is not positive definite: its smallest eigenvalue is not above zero")
    return 0.5 * (matrix + matrix.T)


def _held_stress(matrix: npt.NDArray[Any], dim: int, plane: str) -> npt.NDArray[Any]:
    """Stress of bodies that are held against a unit of isotropic expansion, from ``(n, k, k)`` Voigt matrices."""
    if dim == 3 or plane == "stress":
        voigt = plane_voigt(matrix, dim, plane)
        stress = voigt[:, :, :dim].sum(axis=2)
    elif matrix.shape[1:] == (6, 6):
        stress = matrix[:, np.array([0, 1, 5]), :3].sum(axis=2)
    else:
        raise MaterialError(
            "thermal expansion in plane strain acts across the plane too and needs the (6, 6) stiffness"
        )
    result = np.zeros_like(matrix, shape=(len(matrix), dim, dim))
    for number, (i, j) in enumerate(VOIGT[dim]):
        result[:, i, j] = result[:, j, i] = stress[:, number]
    return result
