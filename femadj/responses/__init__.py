"""Responses: scalars of the solution with their partial derivatives."""

from femadj.responses.base import Evaluation, OnStage, Response
from femadj.responses.energy import Compliance, StrainEnergy
from femadj.responses.field import Displacement, FieldNorm
from femadj.responses.functional import Functional
from femadj.responses.geometry import Mass, Volume
from femadj.responses.modes import Eigenvalue, Frequency, KSEigenvalue, MeanEigenvalue, ModeShape
from femadj.responses.reaction import Reaction
from femadj.responses.time import AtTime, TimeIntegral, TimeResponse, observation, values_in_time

__all__ = [
    "AtTime",
    "Compliance",
    "Displacement",
    "Eigenvalue",
    "Evaluation",
    "FieldNorm",
    "Frequency",
    "Functional",
    "KSEigenvalue",
    "Mass",
    "MeanEigenvalue",
    "ModeShape",
    "OnStage",
    "Reaction",
    "Response",
    "StrainEnergy",
    "TimeIntegral",
    "TimeResponse",
    "Volume",
    "observation",
    "values_in_time",
]
