"""Linear elasticity of solids and of plane bodies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import MaterialError
from femadj.mesh import Mesh
from femadj.physics.base import (
    Body,
    Coefficient,
    CoefficientPhysics,
    NullModes,
    Regional,
    by_cell,
    combine,
    finite,
    for_each,
    positive,
)

_VOIGT = {3: ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)), 2: ((0, 0), (1, 1), (0, 1))}


@dataclass(frozen=True)
class Elasticity(Body, CoefficientPhysics):
    """Small-strain linear elasticity, ``int eps(v) : C : eps(u)``.

    Parameters
    ----------
    E, nu : number, or mapping of cell group to number
        Young's modulus [force/length^2] and Poisson's ratio of an isotropic material.
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
            for_each(self.nu, _checked_nu, "nu")
        if self.density is not None:
            for_each(self.density, positive, "density")
        if self.plane not in ("strain", "stress"):
            raise MaterialError(f"plane must be 'strain' or 'stress', not {self.plane!r}")
        positive(self.thickness, "thickness")

    @property
    def quantity(self) -> Literal["displacement"]:
        """The unknown is a displacement."""
        return "displacement"

    def components(self, dim: int) -> tuple[str, ...]:
        """Names of the displacement components."""
        return ("x", "y", "z")[:dim]

    def coefficient(self, mesh: Mesh) -> Coefficient:
        """Elasticity tensors of the regions."""
        dim = mesh.dim
        if self.stiffness is not None:
            matrices, region = by_cell(mesh, self.stiffness, "stiffness")
            checked = [_checked_stiffness(m, "stiffness") for m in matrices]
            tensors = [_tensor(_plane_voigt(m, dim, self.plane), dim) for m in checked]
            return Coefficient(np.array(tensors), region.astype(np.int32), 1, dim + 1)
        assert self.E is not None
        assert self.nu is not None
        moduli, of_E = by_cell(mesh, self.E, "E")
        ratios, of_nu = by_cell(mesh, self.nu, "nu")
        pairs, region32 = combine([of_E, of_nu], [len(moduli), len(ratios)])
        tensors = [_isotropic(float(moduli[i]), float(ratios[j]), dim, self.plane) for i, j in pairs]
        return Coefficient(np.array(tensors), region32, 1, dim + 1)

    def thermal_stress(self, mesh: Mesh, expansion: Regional) -> tuple[FloatArray, npt.NDArray[np.int32]]:
        """Stress that a fully held body takes on for each degree of warming, with the sign of a tension.

        ``C : alpha I`` with the stiffness of the solid; in plane strain the expansion across the plane is held too, in
        plane stress it is free.

        Parameters
        ----------
        mesh : Mesh
        expansion : number, or mapping of cell group to number
            Coefficient of thermal expansion [1/temperature].

        Returns
        -------
        stress : (n_regions, dim, dim)
            [force/length^2/temperature]
        region : (n_cells,) int32
        """
        alphas, of_alpha = by_cell(mesh, expansion, "expansion")
        for_each(expansion, finite, "expansion")
        dim = mesh.dim
        if self.stiffness is not None:
            matrices, of_matrix = by_cell(mesh, self.stiffness, "stiffness")
            unit = [_held_stress(_checked_stiffness(m, "stiffness"), dim, self.plane) for m in matrices]
            pairs, region = combine([of_matrix, of_alpha], [len(matrices), len(alphas)])
            return np.array([float(alphas[j]) * unit[i] for i, j in pairs]), region
        assert self.E is not None
        assert self.nu is not None
        moduli, of_E = by_cell(mesh, self.E, "E")
        ratios, of_nu = by_cell(mesh, self.nu, "nu")
        triples, region = combine([of_E, of_nu, of_alpha], [len(moduli), len(ratios), len(alphas)])
        stress = []
        for i, j, k in triples:
            E, nu, alpha = float(moduli[i]), float(ratios[j]), float(alphas[k])
            held = 1 - nu if dim == 2 and self.plane == "stress" else 1 - 2 * nu
            stress.append(E * alpha / held * np.eye(dim))
        return np.array(stress), region

    def null_modes(self, points: FloatArray) -> NullModes:
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


def _checked_nu(value: Any, what: str) -> float:
    number = finite(value, what)
    if not -1.0 < number < 0.5:
        raise MaterialError(f"{what} must lie between -1 and 0.5 (both excluded), not {number:g}")
    return number


def _checked_stiffness(value: Any, what: str) -> FloatArray:
    try:
        matrix = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise MaterialError(f"{what} must be a (6, 6) or (3, 3) array, not {value!r}") from None
    if matrix.shape not in {(6, 6), (3, 3)} or not np.isfinite(matrix).all():
        raise MaterialError(f"{what} must be a finite (6, 6) or (3, 3) array, not of shape {matrix.shape}")
    scale = np.abs(matrix).max()
    if np.abs(matrix - matrix.T).max() > 1e-10 * scale:
        raise MaterialError(f"{what} is not symmetric")
    if np.linalg.eigvalsh(matrix).min() <= 1e-14 * scale:
        raise MaterialError(f"{what} is not positive definite: its smallest eigenvalue is not above zero")
    return 0.5 * (matrix + matrix.T)


def _held_stress(matrix: FloatArray, dim: int, plane: str) -> FloatArray:
    """Stress of a body that is held against a unit of isotropic expansion."""
    if dim == 3 or plane == "stress":
        voigt = _plane_voigt(matrix, dim, plane)
        stress = voigt @ np.array([1.0] * dim + [0.0] * (len(voigt) - dim))
    elif matrix.shape == (6, 6):
        stress = (matrix @ np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]))[[0, 1, 5]]
    else:
        raise MaterialError(
            "thermal expansion in plane strain acts across the plane too and needs the (6, 6) stiffness"
        )
    result = np.zeros((dim, dim))
    for value, (i, j) in zip(stress, _VOIGT[dim], strict=True):
        result[i, j] = result[j, i] = value
    return result


def _plane_voigt(matrix: FloatArray, dim: int, plane: str) -> FloatArray:
    if dim == 3:
        if matrix.shape != (6, 6):
            raise MaterialError("a solid needs a (6, 6) stiffness")
        return matrix
    if matrix.shape == (3, 3):
        return matrix
    kept = [0, 1, 5]
    if plane == "strain":
        return matrix[np.ix_(kept, kept)]
    compliance = np.linalg.inv(matrix)
    return np.linalg.inv(compliance[np.ix_(kept, kept)])


def _tensor(voigt: FloatArray, dim: int) -> FloatArray:
    tensor = np.zeros((dim, dim, dim, dim))
    for a, (i, j) in enumerate(_VOIGT[dim]):
        for b, (k, m) in enumerate(_VOIGT[dim]):
            for p, q in {(i, j), (j, i)}:
                for r, s in {(k, m), (m, k)}:
                    tensor[p, q, r, s] = voigt[a, b]
    return tensor


def _isotropic(E: float, nu: float, dim: int, plane: str) -> FloatArray:
    mu = E / (2 * (1 + nu))
    lame = E * nu / ((1 + nu) * (1 - 2 * nu))
    if dim == 2 and plane == "stress":
        lame = 2 * lame * mu / (lame + 2 * mu)
    d = np.eye(dim)
    return np.asarray(
        lame * np.einsum("ij,kl->ijkl", d, d) + mu * (np.einsum("ik,jl->ijkl", d, d) + np.einsum("il,jk->ijkl", d, d))
    )
