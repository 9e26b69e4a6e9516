"""Conditions on the unknowns: supports and loads."""

from femadj.conditions.loads import BodyForce, Flux, Gravity, Load, PointLoad, Pressure, Source, TotalForce, Traction
from femadj.conditions.supports import Fixed
from femadj.conditions.thermal import ThermalStrain

__all__ = [
    "BodyForce",
    "Fixed",
    "Flux",
    "Gravity",
    "Load",
    "PointLoad",
    "Pressure",
    "Source",
    "ThermalStrain",
    "TotalForce",
    "Traction",
]
