"""Responses by the variables of the parametrisation, as libraries of differentiable functions take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import ProblemError
from femadj.optimisation.reduced import Reduced


def require_reduced(reduced: Any) -> None:
    """ProblemError for what is no reduced problem."""
    if not isinstance(reduced, Reduced):
        raise ProblemError(f"reduced must be a Reduced problem, not {type(reduced).__name__}")


def values_at(reduced: Reduced, variables: npt.ArrayLike) -> FloatArray:
    """Objective and constraints as the responses give them, ``(1 + m,)``; infinite for a design without an answer."""
    return reduced.evaluate(np.asarray(variables) / reduced.scales).values


def slopes_at(reduced: Reduced, variables: npt.ArrayLike) -> FloatArray:
    """Their derivatives by the variables, ``(1 + m, n)``; NaN for a design without an answer, which has none."""
    found = reduced.evaluate(np.asarray(variables) / reduced.scales)
    if found.failure is not None:
        return np.full((1 + reduced.m, reduced.n), np.nan)
    return found.gradients / reduced.scales
