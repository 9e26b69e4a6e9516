"""Diffusion: heat conduction, the Poisson equation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import MaterialError
from femadj.mesh import Mesh
from femadj.physics.base import Body, Coefficient, CoefficientPhysics, NullModes, Regional, by_cell, for_each, positive


@dataclass(frozen=True)
class Diffusion(Body, CoefficientPhysics):
    """Steady diffusion of a scalar, ``int grad v . (k grad u)``.

    Parameters
    ----------
    conductivity : number, (dim, dim) array, or mapping of cell group to either
        ``k[i, j]``; a tensor needs a positive definite symmetric part. A tensor that is not symmetric makes the
        system general (its adjoint is the transposed system).
    thickness : float
        Of a plane body.
    density : number or mapping, optional
        Mass per volume, for the response ``Mass``.

    Raises
    ------
    MaterialError
        A conductivity that is not positive (definite) or of the wrong shape.
    """

    conductivity: Regional = 1.0
    thickness: float = 1.0
    density: Regional | None = None

    def __post_init__(self) -> None:
        for_each(self.conductivity, checked_conductivity, "conductivity")
        if self.density is not None:
            for_each(self.density, positive, "density")
        positive(self.thickness, "thickness")

    @property
    def quantity(self) -> Literal["scalar"]:
        """The unknown is a scalar."""
        return "scalar"

    def components(self, dim: int) -> tuple[str, ...]:
        """The one component."""
        return ("u",)

    def coefficient(self, mesh: Mesh) -> Coefficient:
        """Conductivity tensors of the regions."""
        values, region = by_cell(mesh, self.conductivity, "conductivity")
        tensors = np.empty((len(values), 1, mesh.dim, 1, mesh.dim))
        for number, value in enumerate(values):
            k = checked_conductivity(value, "conductivity")
            if k.ndim == 0:
                k = k * np.eye(mesh.dim)
            if k.shape != (mesh.dim, mesh.dim):
                raise MaterialError(f"conductivity must be a number or {(mesh.dim, mesh.dim)}, not {k.shape}")
            tensors[number, 0, :, 0, :] = k
        return Coefficient(tensors, region.astype(np.int32), 1, mesh.dim + 1)

    def null_modes(self, points: FloatArray) -> NullModes:
        """The constant."""
        return NullModes(("constant value",), np.ones((1, len(points), 1)))


def checked_conductivity(value: Any, what: str) -> FloatArray:
    """A positive number or a tensor with a positive definite symmetric part; MaterialError when it is neither."""
    try:
        k = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise MaterialError(f"{what} must be a number or a tensor, not {value!r}") from None
    if k.ndim == 0:
        positive(value, what)
        return k
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not np.isfinite(k).all():
        raise MaterialError(f"{what} must be a finite number or square tensor, not of shape {k.shape}")
    if np.linalg.eigvalsh(0.5 * (k + k.T)).min() <= 1e-14 * np.abs(k).max():
        raise MaterialError(f"{what} is not positive definite")
    return k
