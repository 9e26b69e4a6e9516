"""How far solutions can be trusted: estimates of ``|A^-1| v`` from a few solves with a factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from femadj.base.arrays import FloatArray

STEPS = 2
"""Rows of the inverse that an estimate looks at; it takes at most ``1 + 2 STEPS`` solves."""

Inverse = Callable[[FloatArray, bool], FloatArray]
"""Solves ``A x = b`` for ``b`` (n,), or with the transposed matrix when the second argument is true."""


class Estimate(NamedTuple):
    """Largest entry of ``|A^-1| v``, and a vector of that size.

    Attributes
    ----------
    size : float
        A lower bound that is rarely off by more than a factor of three; infinite where a solve broke down.
    vector : (n,)
        ``A^-1 (v s)`` for signs ``s`` that make it large: nearly a null vector where ``size`` is large.
    """

    size: float
    vector: FloatArray


def largest(inverse: Inverse, v: FloatArray, scale: FloatArray, *, transposed: bool = False) -> Estimate:
    """Estimate the largest entry of ``|A^-1| v / scale``, for ``v`` (n,) without negative entries.

    Hager, Condition estimates (1984), and Higham, FORTRAN codes for estimating the one-norm of a real or complex matrix
    (1988), started from random numbers: a regular pattern could be orthogonal to what is looked for.
    """
    n = len(v)
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 1.0, n)
    size, vector, seen = 0.0, np.zeros(n), -1
    for step in range(STEPS + 1):
        trial = inverse(v * signs, transposed)
        scaled = np.abs(trial) / scale
        top = int(np.argmax(scaled))  # the first NaN, if there is one
        if not np.isfinite(scaled[top]):
            return Estimate(np.inf, trial)
        if scaled[top] > size or step == 0:
            size, vector = max(size, float(scaled[top])), trial
        if top == seen or step == STEPS:
            break
        seen = top
        unit = np.zeros(n)
        unit[top] = 1.0 / scale[top]
        row = inverse(unit, not transposed)
        total = float((v * np.abs(row)).sum())
        if not np.isfinite(total):
            return Estimate(np.inf, trial)
        size = max(size, total)
        signs = np.where(row < 0.0, -1.0, 1.0)
    return Estimate(size, vector)
