"""The optimisation loop: parametrisations of node coordinates, and how far they can go."""

from femadj.optimisation.free_form import FreeFormBox
from femadj.optimisation.linear import Directions, FreeNodes
from femadj.optimisation.parametrisation import Motion, Parametrisation, Placed
from femadj.optimisation.solved import ElasticMotion, HelmholtzFilter
from femadj.optimisation.step import largest_step

__all__ = [
    "Directions",
    "ElasticMotion",
    "FreeFormBox",
    "FreeNodes",
    "HelmholtzFilter",
    "Motion",
    "Parametrisation",
    "Placed",
    "largest_step",
]
