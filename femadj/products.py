"""Inner products of fields."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def inner(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Sum of the products of all entries.

    Without BLAS: pairwise summation gives the same digits whatever the number of threads, and the threads of NumPy's
    BLAS, which go on spinning for some 30 ms after a product of long vectors, do not get in the way of the solver.
    """
    return float((a * b).sum())
