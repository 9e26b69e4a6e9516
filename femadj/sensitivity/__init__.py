"""Gradients of responses, and the comparison with differences that proves them."""

from femadj.sensitivity.adjoint import ChainGradient, Gradient, response_value, value_and_gradient, values_and_gradients
from femadj.sensitivity.verify import Verification, verify

__all__ = [
    "ChainGradient",
    "Gradient",
    "Verification",
    "response_value",
    "value_and_gradient",
    "values_and_gradients",
    "verify",
]
