"""Comparison of derivatives with differences, entry by entry: the one that all users' functions go through.

Differences are taken to both sides of a point, since a function may have a kink or a jump near by or at the point
itself. Every entry is judged by its own size and its own changes, so that small numbers beside large ones count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import FemadjError

STEPS = (1e-4, 1e-3, 1e-5)
"""Steps, as fractions of what is moved. The first is enough for nearly all functions."""

SHORT_STEPS = (1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
"""Steps that tell a kink near by from one at the point: rounding is large in them, so that they count where one side is
known to be right."""

TOLERANCE = 2e-6
"""How far a derivative may be from a difference, relative to either."""

ROUNDING = 5e-14
"""Rounding error of a user's function, relative to its value."""

STEEP = 1e-3
"""How far, relative to either, where the function bends within the step."""

LOST = 1e-15
"""Rounding error that may come from numbers inside of a function, relative to its largest value of all."""

GRAIN = 1e-5
"""The same, relative to its value at a point, where differences of third order show it."""

SMALLEST = 1e-290
"""What is smaller may have lost its digits to the limits of floating point."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What the comparison of derivatives with differences has found, entry by entry.

    Attributes
    ----------
    right : array of bool
        Whether the derivative agrees with differences to both sides.
    one_sided : array of bool
        Whether it agrees with differences to one side alone: there is a kink or a jump at the point.
    difference : array
        The last central difference.
    """

    right: npt.NDArray[np.bool_]
    one_sided: npt.NDArray[np.bool_]
    difference: FloatArray

    @property
    def acceptable(self) -> npt.NDArray[np.bool_]:
        """Whether the derivative is right, or that of one side of a kink."""
        return self.right | self.one_sided


def compare(
    function: Callable[[float], FloatArray], exact: FloatArray, size: float = 1.0, magnitude: FloatArray | float = 0.0
) -> Comparison:
    """Compare derivatives at 0 with differences of second order to either side.

    Parameters
    ----------
    function : callable of a real step, returns an array
        Of any shape. Steps at which it raises a FemadjError (outside of its domain) are left out.
    exact : array
        Derivatives, in the shape of what the function returns.
    size : float
        Size of what is moved: steps are fractions of it.
    magnitude : array or float
        Size of the terms that the function adds up, where that is known and more than its value.
    """
    base = function(0.0)
    forward = np.zeros(exact.shape, dtype=bool)
    backward = np.zeros(exact.shape, dtype=bool)
    change = np.zeros(exact.shape)
    central = np.full(exact.shape, np.nan)
    for fraction in (*STEPS, *SHORT_STEPS):
        h = fraction * size
        try:
            before2, before, after, after2 = (function(k * h) for k in (-2, -1, 1, 2))
        except FemadjError:
            continue
        known = (forward | backward) if fraction in SHORT_STEPS else np.ones(exact.shape, dtype=bool)
        with np.errstate(all="ignore"):
            largest = np.maximum.reduce([np.abs(a) for a in (base, before2, before, after, after2)])
            # digits that the function has lost inside, as in 1 + tanh(-20): by how rough it is, and where it is flat
            lost = LOST * float(largest.max(initial=0.0))
            rough = np.abs((after2 - before2) - 2 * (after - before))
            noise = (
                np.maximum(ROUNDING * np.maximum(largest, magnitude), 4 * np.minimum(rough, lost + GRAIN * largest)) / h
            )
            noise = noise + SMALLEST
            flat = (after2 == base) & (before2 == base) & (after == base) & (before == base)
            noise = np.where(flat & (np.abs(exact) * h <= lost), lost / h, noise)
            central = (after - before) / (2 * h)
            if fraction in STEPS:
                change = np.fmax(change, np.maximum(np.abs(after - base), np.abs(base - before)) / h)
            for side, quotient in (
                (forward, (4 * after - after2 - 3 * base) / (2 * h)),
                (backward, (3 * base - 4 * before + before2) / (2 * h)),
            ):
                scale = np.maximum(np.abs(exact), np.abs(quotient))
                bend = np.minimum(rough / h, STEEP * scale)  # what a difference misses where a function is steep
                near = np.abs(quotient - exact) <= TOLERANCE * np.maximum(scale, change) + noise + bend
                clear = (noise <= 1e-2 * scale) | (quotient == exact) | (fraction in STEPS)
                np.logical_or(side, near & ((known & clear) | (noise <= TOLERANCE * scale)), out=side)
        if (forward & backward).all():
            break
    return Comparison(forward & backward, forward ^ backward, central)
