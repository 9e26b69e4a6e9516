"""Physics as pointwise coefficients, built in or found by probing a user's forms."""

from femadj.physics.advection_diffusion import AdvectionDiffusion
from femadj.physics.base import BoundPhysics, Coefficient, CoefficientPhysics, NullModes, Physics
from femadj.physics.diffusion import Diffusion
from femadj.physics.elasticity import Elasticity
from femadj.physics.form import Form, Integral, IntegralLike, integrals_of
from femadj.physics.hyperelastic import Hyperelastic
from femadj.physics.nonlinear_form import NonlinearForm

__all__ = [
    "AdvectionDiffusion",
    "BoundPhysics",
    "Coefficient",
    "CoefficientPhysics",
    "Diffusion",
    "Elasticity",
    "Form",
    "Hyperelastic",
    "Integral",
    "IntegralLike",
    "NonlinearForm",
    "NullModes",
    "Physics",
    "integrals_of",
]
