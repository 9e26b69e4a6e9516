"""Values of a function along a line through a point: their limit of differences, their order, and their rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import FemadjError

STEPS = tuple(0.2 * 4.0**-k for k in range(13))
"""Steps to both sides, as fractions of the largest move. The last are for responses that bend within a small part of
the cells, as those of a thin plate do when its fibres tilt."""

TINY_STEP = 1e-8
"""Too small for anything but rounding."""

NOISE = 8.0
"""Times the rounding of a value that a difference may be off."""

_LEAST_NOISE = 4e-16
_CHANGE = 4.0
_CLEAR = 100.0
"""How far above rounding a remainder must be to show an order."""

_JUMP = 1000.0
_WINDOW = 3
_SETTLED = 0.05
"""How much the orders between the smallest steps may differ from each other, and from a whole number."""


@dataclass(frozen=True)
class Rounding:
    """What values do at steps too small for anything but rounding, and whether they jump at the point.

    Attributes
    ----------
    noise : float
        Standard deviation of the values to each side of the point.
    jump : float
        Largest distance of the value at the point from their means.
    """

    noise: float = 0.0
    jump: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the value at the point is what it tends to from both sides."""
        return self.jump <= _JUMP * self.noise


def rounding(value_at: Callable[[float], float], base: float, slope: float, tiny: float, count: int) -> Rounding:
    """Look at ``count`` multiples of a tiny step to each side, less what the slope says.

    A slope that is wrong by a part adds 1e-8 of that part to the noise, which hides nothing of it. Each side has its
    own mean, so that a jump is not taken for noise. Compare J. Moré and S. Wild, "Estimating computational noise", SIAM
    J. Sci. Comput. 33 (2011), who take higher differences.
    """
    t = tiny * np.arange(1, count + 1)
    sides = np.array([[value_at(step) - base - step * slope for step in side] for side in (t, -t)])
    noise = (sides.var(axis=1).mean() * count / (count - 1)) ** 0.5
    return Rounding(max(float(noise), _LEAST_NOISE * abs(base)), float(np.abs(sides.mean(axis=1)).max()))


@dataclass(frozen=True)
class Samples:
    """Values at steps to both sides of a point.

    Attributes
    ----------
    steps : tuple of float
        Falling.
    even, odd : tuple of float
        ``(f(h) + f(-h)) / 2 - f(0)`` and ``(f(h) - f(-h)) / (2 h)``.
    trouble : str
        Why the last of the steps that are left out could not be taken.
    """

    steps: tuple[float, ...] = ()
    even: tuple[float, ...] = ()
    odd: tuple[float, ...] = ()
    trouble: str = ""

    def difference(self, noise: float) -> tuple[float, float]:
        """Limit of the central differences at step zero, and how far it may be off, by its own steps and by rounding.

        Extrapolated in ``h^2``; of all entries of the table the one with the smallest uncertainty: the larger change to
        the two entries it is made of, after C. Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", Adv. Eng.
        Softw. 4 (1982), rounding with the weights of the values, and what differences of smaller steps have moved away
        from it, where they should have come closer with the square of the step. Infinite below two steps.
        """
        best, doubt = self.odd[-1] if self.odd else 0.0, np.inf
        h, odd = np.array(self.steps), np.array(self.odd)
        table = np.column_stack([odd, np.diag(1 / h)])  # values, then the weights of the values they are made of
        row: list[FloatArray] = []
        for k in range(len(h)):
            last, row = row, [table[k]]
            for j in range(1, k + 1):
                entry = row[-1] + (row[-1] - last[j - 1]) / ((h[k - j] / h[k]) ** 2 - 1)
                change = max(abs(entry[0] - row[-1][0]), abs(entry[0] - last[j - 1][0]))
                row.append(entry)
                away = np.abs(odd[k:] - entry[0])
                away -= 4 * away[0] * (h[k:] / h[k]) ** 2 + NOISE * noise / h[k:]
                uncertainty = float(_CHANGE * change + max(away.max(), 0) + NOISE * noise * np.linalg.norm(entry[1:]))
                if uncertainty < doubt:
                    best, doubt = float(entry[0]), uncertainty
        return best, doubt

    def remainders(self, slope: float) -> tuple[float, ...]:
        """``|f(h) - f(0) - h slope|``, the mean of both sides: the larger one of its even and its odd part."""
        return tuple(
            max(abs(even), h * abs(odd - slope)) for h, even, odd in zip(self.steps, self.even, self.odd, strict=True)
        )


def sampled(
    value_at: Callable[[float], float], base: float, steps: Sequence[float], enough: Callable[[Samples], bool]
) -> Samples:
    """Take steps until there are enough of them; those at which there is no value are left out."""
    found = Samples()
    for h in steps:
        try:
            after, before = value_at(h), value_at(-h)
        except FemadjError as error:  # too far for the mesh or a parameter; the next step is shorter
            found = Samples(found.steps, found.even, found.odd, str(error))
            continue
        even, odd = (after - base + (before - base)) / 2, (after - before) / (2 * h)
        found = Samples((*found.steps, h), (*found.even, even), (*found.odd, odd), found.trouble)
        if enough(found):
            break
    return found


def clear(steps: Sequence[float], remainders: Sequence[float], noise: float) -> list[tuple[float, float]]:
    """Steps and remainders that rounding cannot have made."""
    return [(h, r) for h, r in zip(steps, remainders, strict=True) if r > _CLEAR * noise]


def order(seen: Sequence[tuple[float, float]]) -> float | None:
    """Order of clear remainders, of the smallest steps; None where they are too few or not settled to a whole one."""
    if len(seen) < _WINDOW:
        return None
    h, r = np.log(seen[-_WINDOW:]).T
    orders = np.diff(r) / np.diff(h)
    rate = float(np.polyfit(h, r, 1)[0])
    return rate if max(np.ptp(orders), abs(rate - round(rate))) <= _SETTLED else None
