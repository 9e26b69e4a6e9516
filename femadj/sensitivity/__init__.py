"""Gradients of responses, and the comparison with differences that proves them."""

from femadj.sensitivity.adjoint import value_and_gradient, values_and_gradients
from femadj.sensitivity.solve_error import SolveError, solve_error
from femadj.sensitivity.verify import Verification, verify
from femadj.sensitivity.warming import warm_up

__all__ = [
    "SolveError",
    "Verification",
    "solve_error",
    "value_and_gradient",
    "values_and_gradients",
    "verify",
    "warm_up",
]
