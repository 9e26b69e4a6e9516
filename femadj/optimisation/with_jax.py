"""A reduced problem as a function of JAX."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from femadj.base.optional import library
from femadj.errors import ProblemError
from femadj.optimisation.reduced import Reduced
from femadj.optimisation.told import require_reduced, slopes_at, values_at


def jax_function(reduced: Reduced) -> Callable[[Any], Any]:
    """Objective and constraints of a reduced problem as a function of JAX, for ``jit``, ``grad`` and ``vmap``.

    The function takes the variables of the parametrisation, ``(n,)`` in double precision, and gives the responses as
    they are, ``(1 + m,)``. Reverse derivatives are exact (``custom_vjp``); forward and second derivatives are refused
    by JAX. ``vmap`` solves one design after the other.

    A design without an answer (tangled, singular, not converged) has infinite values, and derivatives that are not a
    number: take a smaller step from the last point. Other errors, and interrupts, come out as they are; out of ``jit``
    in JAX's words, with their text.

    Parameters
    ----------
    reduced : Reduced

    Raises
    ------
    MissingExtraError
        When JAX is not installed.
    ProblemError
        When the function is called in single precision, or with another number of variables.
    """
    require_reduced(reduced)
    jax = library("jax", "jax", "jax_function")
    values = jax.ShapeDtypeStruct((1 + reduced.m,), np.float64)
    slopes = jax.ShapeDtypeStruct((1 + reduced.m, reduced.n), np.float64)

    def ask(question: Callable[[Any], Any], shapes: Any, variables: Any) -> Any:
        if variables.dtype != np.float64 or variables.shape != (reduced.n,):
            raise ProblemError(
                f"variables must be an array ({reduced.n},) in double precision, not {variables.dtype} of shape "
                f"{variables.shape}; JAX has it after jax.config.update('jax_enable_x64', True)"
            )
        return jax.pure_callback(question, shapes, variables, vmap_method="sequential")

    trouble: list[BaseException] = []

    def solve(variables: Any, differentiate: bool) -> Any:
        try:
            q = np.asarray(variables)
            found = values_at(reduced, q)
            return (found, slopes_at(reduced, q)) if differentiate else found
        except BaseException as error:
            trouble.append(error)
            raise

    @jax.custom_vjp
    def responses(variables: Any) -> Any:
        return ask(partial(solve, differentiate=False), values, variables)

    responses.defvjp(
        lambda variables: ask(partial(solve, differentiate=True), (values, slopes), variables),
        lambda kept, cotangent: (cotangent @ kept,),
    )

    def call(variables: Any) -> Any:
        trouble.clear()
        try:
            return responses(jax.numpy.asarray(variables))
        except Exception as error:  # JAX's own, which has only the text
            raise trouble[0] if trouble else error from None

    return call
