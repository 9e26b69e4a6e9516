"""The inertia of a body: mass in a displacement field, capacity in a scalar one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from femadj.forms.integral import IntegralTerm
from femadj.forms.law import TensorLaw
from femadj.physics.base import Physics
from femadj.space.discretisation import Discretisation


def inertia_terms(space: Discretisation, physics: Physics, rate: int) -> list[IntegralTerm]:
    """``int rho v . u`` with the density of the material, block by block.

    ``rate`` is the order of the time derivative that it multiplies; MaterialError when the physics has no density.
    """
    nc, stride = space.n_components, space.mesh.dim + 1
    unit = np.zeros((nc, stride, nc, stride))
    unit[np.arange(nc), 0, np.arange(nc), 0] = 1.0

    def tensor(density: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return density[:, None, None] * unit.reshape(nc * stride, nc * stride)

    law = TensorLaw(physics.mass(space.mesh).mapped(tensor), 0, 1, symmetric=True, name="inertia")
    return [IntegralTerm.of(fields, law, symmetric=True, rate=rate) for fields in space.maps("cells")]
