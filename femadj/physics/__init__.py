"""Physics as pointwise coefficients."""

from femadj.physics.base import Coefficient, NullModes, Physics
from femadj.physics.diffusion import Diffusion
from femadj.physics.elasticity import Elasticity

__all__ = ["Coefficient", "Diffusion", "Elasticity", "NullModes", "Physics"]
