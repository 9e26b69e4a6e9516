"""Arrays: types, checks, read-only copies, and sums that do not depend on threads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.errors import InvalidMeshError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SHOWN = 8
"""How many ids an error message lists."""


def listing(ids: Iterable[int]) -> str:
    """Write the first few ids of a list, and how many there are in all."""
    values = [int(i) for i in ids]
    text = ", ".join(str(v) for v in values[:SHOWN])
    return text if len(values) <= SHOWN else f"{text}, ... ({len(values)} in all)"


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array read-only: a copy where it, or what it is a view of, could still be written to."""
    if array.flags.writeable or array.base is not None:
        array = array.copy()
        array.setflags(write=False)
    return array


def not_numbers(cause: Exception) -> str:
    """Why NumPy makes no array of something, and what to do when it is one that JAX traces."""
    if "traced array" not in str(cause):
        return str(cause)
    return (
        "JAX cannot trace through femadj: call it with numbers, outside jax.jit and jax.grad, and hand value and "
        "gradient to JAX by jax.custom_vjp"
    )


def array_of(value: Any, what: str) -> npt.NDArray[Any]:
    """Any array-like as an array.

    Raises
    ------
    InvalidMeshError
        For rows of different lengths, and for what is no array at all.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as cause:
        raise InvalidMeshError(f"{what}: no array of numbers: {not_numbers(cause)}") from cause
    if array.dtype == object:
        raise InvalidMeshError(f"{what}: must be an array of numbers, not of dtype object ({type(value).__name__})")
    return array


def inner(a: FloatArray, b: FloatArray) -> float:
    """Sum of the products of all entries.

    Without BLAS: pairwise summation gives the same digits whatever the number of threads, and the threads of NumPy's
    BLAS, which go on spinning for some 30 ms after a product of long vectors, do not get in the way of the solver.
    """
    total: float = (a * b).sum().item()  # complex where one of the arrays is
    return total
