"""Equations without a mesh: residuals, constraints, the adjoint, and systems of plain functions."""

from femadj.algebra.constraints import AffineMap, Condensed, Selection, Unconstrained
from femadj.algebra.implicit import Implicit, Seed
from femadj.algebra.residual import AtDesign, Residual, State, Weights

__all__ = [
    "AffineMap",
    "AtDesign",
    "Condensed",
    "Implicit",
    "Residual",
    "Seed",
    "Selection",
    "State",
    "Unconstrained",
    "Weights",
]
