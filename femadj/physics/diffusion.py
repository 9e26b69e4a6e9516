"""Diffusion: heat conduction, the Poisson equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import real_array
from femadj.base.arrays import FloatArray
from femadj.errors import MaterialError
from femadj.forms.law import TensorLaw
from femadj.mesh import Mesh
from femadj.physics.base import BY_CELL, Body, CoefficientPhysics, NullModes, for_each, positive
from femadj.physics.material import Regional, isotropic_conductivity, item_shape, of_gradients, tensor_conductivity


@dataclass(frozen=True)
class Diffusion(Body, CoefficientPhysics):
    """Steady diffusion of a scalar, ``int grad v . (k grad u)``.

    Parameters
    ----------
    conductivity : number, (dim, dim) array, mapping of cell group to either, or CellField of numbers
        ``k[i, j]``; a tensor needs a positive definite symmetric part. A tensor that is not symmetric makes the
        system general (its adjoint is the transposed system). It is a parameter of the problem; where it is declared
        symmetric, the symmetric part of other values counts.
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

    @property
    def constants(self) -> Mapping[str, Regional]:
        """Constants of the material by name, without the thickness."""
        return {"conductivity": alike(self.conductivity), **super().constants}

    def law(self, mesh: Mesh) -> TensorLaw:
        """The law of the material, a function of its conductivity."""
        dim = mesh.dim
        shape = item_shape(self.constants["conductivity"])
        given = self.constants["conductivity"]
        values: list[Any] = list(given.values()) if isinstance(given, Mapping) else [given]
        symmetric = not shape or all(np.array_equal(k, np.transpose(k)) for k in values)

        def tensors(k: npt.NDArray[Any]) -> npt.NDArray[Any]:
            full = tensor_conductivity(k, dim) if shape else isotropic_conductivity(k, dim)
            if symmetric:
                full = 0.5 * (full + full.swapaxes(1, 2))
            return of_gradients(full[:, None, :, None, :], dim)

        return TensorLaw(self.scaled(mesh, tensors, ["conductivity"]), 1, dim + 1, symmetric, name="diffusion")

    def null_modes(self, points: FloatArray) -> NullModes:
        """The constant."""
        return NullModes(("constant value",), np.ones((1, len(points), 1)))


def alike(value: Regional) -> Regional:
    """Conductivities of groups as tensors where one of them is."""
    if not isinstance(value, Mapping):
        return value
    sizes = {np.shape(entry)[0] for entry in value.values() if np.ndim(entry)}
    if not sizes:
        return value
    identity = np.eye(max(sizes))
    return {group: np.asarray(entry) if np.ndim(entry) else entry * identity for group, entry in value.items()}


def checked_conductivity(value: Any, what: str) -> FloatArray:
    """A positive number or a tensor with a positive definite symmetric part; MaterialError when it is neither."""
    k = real_array(value, what, MaterialError, f"a number, a tensor{BY_CELL}")
    if k.ndim == 0:
        positive(value, what)
        return k
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not np.isfinite(k).all():
        raise MaterialError(f"{what} must be a finite number, a square tensor{BY_CELL}, not of shape {k.shape}")
    if np.linalg.eigvalsh(0.5 * (k + k.T)).min() <= 1e-14 * np.abs(k).max():
        raise MaterialError(f"{what} is not positive definite")
    return k
