"""The geometric stiffness of an elastic body, from the stress of a displacement that is a nodal parameter."""

from __future__ import annotations

from typing import Any

from femadj.errors import ProblemError
from femadj.forms.geometric import GeometricLaw
from femadj.forms.integral import IntegralTerm
from femadj.forms.law import TensorLaw
from femadj.physics.base import Physics
from femadj.space.discretisation import Discretisation


def geometric_terms(space: Discretisation, physics: Physics, displacement: str) -> list[IntegralTerm]:
    """``-int v_i,j sigma_jk u_i,k`` with the stress of a displacement, block by block, in the place of a mass.

    ``displacement`` is the name of a nodal parameter; ProblemError for a physics without stress.
    """
    law: Any = getattr(physics, "law", None)
    if physics.quantity != "displacement" or not callable(law):
        raise ProblemError(f"buckling needs the stress of an elastic material, which {type(physics).__name__} has not")
    elastic: TensorLaw = law(space.mesh)
    geometric = GeometricLaw(elastic.tensor, displacement, space.mesh.dim)
    maps = space.maps("cells", order=space.stiffness_order, gradients=True)
    return [IntegralTerm.of(fields, geometric, symmetric=True, rate=2) for fields in maps]
