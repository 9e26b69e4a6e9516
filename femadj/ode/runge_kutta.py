"""Runge-Kutta steps of order 5 with an embedded error of order 4: forward, backward and along directions.

The pair of J. R. Dormand and P. J. Prince, J. Comput. Appl. Math. 6 (1980); its interpolant of order 4 is L. F.
Shampine's, Math. Comp. 46 (1986). A step from ``(t, y)`` of length ``h`` is

    k_s = f(t + c_s h, y + h sum_j a_sj k_j, theta),    y' = y + h sum_s b_s k_s,

and its transpose runs through the stages backwards: with the cotangent ``a`` of ``y'`` and ``kbar_s = h b_s a`` to
begin with, ``g_s = f_y^T kbar_s`` is added to the cotangent of ``y``, and ``h a_sj g_s`` to ``kbar_j`` of the stages
before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from femadj.base.arrays import FloatArray, IntArray
from femadj.ode.right_hand_side import RightHandSide, Slopes

ORDER = 5
STAGES = 6

C = np.array([0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1])
A = np.array(
    [
        [0, 0, 0, 0, 0],
        [1 / 5, 0, 0, 0, 0],
        [3 / 40, 9 / 40, 0, 0, 0],
        [44 / 45, -56 / 15, 32 / 9, 0, 0],
        [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0],
        [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    ]
)
B = np.array([35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84])
E = np.array([71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40])
"""Weights of the error: of order 5 less order 4, the last one for the derivative at the end of the step."""

P = np.array(
    [
        [1, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432],
        [0, 0, 0, 0],
        [0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799],
        [0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072],
        [0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632],
        [0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844],
        [0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423],
    ]
)
"""Weights of the stages in the interpolant, by powers 1 to 4 of the fraction of the step."""


class Tried(NamedTuple):
    """A step that has been tried: ``k (7, n)`` with the derivative at the end, the state there, and its error (n,)."""

    k: FloatArray
    y: FloatArray
    error: FloatArray


def attempt(rhs: RightHandSide, t: float, y: FloatArray, h: float, first: FloatArray) -> Tried:
    """One step; ``first`` is ``f(t, y)``."""
    k = np.empty((STAGES + 1, len(y)))
    k[0] = first
    with np.errstate(all="ignore"):  # NaN and infinity are seen in the error
        for s in range(1, STAGES):
            k[s] = rhs(np.array([t + C[s] * h]), (y + h * (A[s, :s] @ k[:s]))[None])[0]
        new = y + h * (B @ k[:STAGES])
        k[STAGES] = rhs(np.array([t + h]), new[None])[0]
        return Tried(k, new, h * (E @ k))


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps that were taken, as fractions of the intervals between observations; ``m`` in all.

    Everything is kept, ``8 n`` numbers a step, so that nothing is integrated again for a derivative.

    Attributes
    ----------
    interval : (m,) int
        A step lies between ``times[interval]`` and ``times[interval + 1]``.
    start, fraction : (m,)
        Where it begins and how long it is, as fractions of its interval.
    t, h : (m,)
        The same in time.
    y : (m, n)
        State at its beginning.
    k : (m, 7, n)
        ``f`` at its stages, and at its end.
    rejected : int
        Steps that were tried and found too long.
    """

    interval: IntArray
    start: FloatArray
    fraction: FloatArray
    t: FloatArray
    h: FloatArray
    y: FloatArray
    k: FloatArray
    rejected: int

    def __len__(self) -> int:
        return len(self.t)

    def __repr__(self) -> str:
        return f"Steps({len(self)} taken, {self.rejected} rejected)"

    def stages(self, some: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Time ``(m 6,)``, state and ``f`` ``(m 6, n)`` of all stages of some steps."""
        h, k = self.h[some], self.k[some, :STAGES]
        t = self.t[some, None] + h[:, None] * C
        inner = np.einsum("sj,mjn->msn", np.pad(A, ((0, 0), (0, 1))), k)
        y = self.y[some, None] + h[:, None, None] * inner
        return t.ravel(), y.reshape(-1, y.shape[-1]), k.reshape(-1, y.shape[-1])

    def interpolated(self, t: float) -> FloatArray:
        """The state at a time between the first and the last, by a polynomial of order 4 on each step."""
        m = int(np.clip(np.searchsorted(self.t, t, side="right") - 1, 0, len(self) - 1))
        x = (t - self.t[m]) / self.h[m]
        powers = np.array([x, x**2, x**3, x**4])
        return np.asarray(self.y[m] + self.h[m] * ((P @ powers) @ self.k[m]))


class Before(NamedTuple):
    """Cotangents of what a step depends on."""

    t: float
    h: float
    y: FloatArray
    theta: FloatArray


def back(h: float, k: FloatArray, slopes: Slopes, first: int, a: FloatArray) -> Before:
    """The transpose of a step: ``a`` (n,) is the cotangent of its end, ``first`` the number of its first stage."""
    kbar = h * B[:, None] * a
    by_h, by_t, by_y, by_theta = float((B @ k[:STAGES]) @ a), 0.0, a.copy(), None
    for s in reversed(range(STAGES)):
        of_t, of_y, of_theta = slopes.back(first + s, kbar[s])
        by_y += of_y
        by_theta = of_theta if by_theta is None else by_theta + of_theta
        by_t += of_t
        by_h += C[s] * of_t + float((A[s, :s] @ k[:s]) @ of_y)
        kbar[:s] += h * A[s, :s, None] * of_y
    assert by_theta is not None
    return Before(by_t, by_h, by_y, by_theta)


def along(h: float, k: FloatArray, slopes: Slopes, first: int, rate: Before) -> FloatArray:
    """Rate of the end of a step, (n,), for rates of what it depends on."""
    dk = np.zeros((STAGES, len(rate.y)))
    for s in range(STAGES):
        dy = rate.y + rate.h * (A[s, :s] @ k[:s]) + h * (A[s, :s] @ dk[:s])
        dk[s] = slopes.along(first + s, rate.t + C[s] * rate.h, dy, rate.theta)
    return np.asarray(rate.y + rate.h * (B @ k[:STAGES]) + h * (B @ dk))
