"""The function of ordinary differential equations ``y' = f(t, y, theta)``: called with checks, and its derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from femadj.algebra.callables import random_like, require_derivative, unit
from femadj.base.arrays import FloatArray
from femadj.base.calls import as_argument, as_array, called, key_of, read_only, samples
from femadj.base.complex_step import derivative, real_part, seed
from femadj.errors import OdeError

F = "f(t, y, theta)"
VJP = "vjp(t, y, theta, a)"

_ADVICE = (
    "Write it with NumPy operations on t, y and theta (np.sin, not math.sin; results by np.stack or np.concatenate), "
    f"or give vjp= (a function {VJP} that returns a.df/dt, a.df/dy, a.df/dtheta)"
)

_ROUNDING = 1e-12
"""How far sums may differ between calls on one and on many points, relative to the terms."""

_LOOKED_AT = 3
"""Points at which derivatives are compared with differences."""


class Slopes(Protocol):
    """Products with the derivatives of f at some points; theta is flat."""

    def back(self, i: int, a: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """``a^T df/dt``, ``a^T df/dy`` (n,) and ``a^T df/dtheta`` (p,) at point i."""
        ...

    def along(self, i: int, dt: float, dy: FloatArray, dtheta: FloatArray) -> FloatArray:
        """``df`` along a direction at point i, (n,)."""
        ...

    def terms(self, i: int, y: FloatArray, theta: FloatArray) -> FloatArray:
        """Size of the terms that f adds up at point i, which its rounding is proportional to, (n,)."""
        ...


@dataclass(frozen=True, eq=False)
class RightHandSide:
    """``f(t, y, theta)`` at one theta.

    Attributes
    ----------
    function : callable
    vjp : callable or None
        ``vjp(t, y, theta, a)`` returns ``a.df/dt``, ``a.df/dy`` and ``a.df/dtheta``, None for what is zero.
    theta : array of any shape
    n : int
        Number of unknowns.
    columns : bool
        Whether the function takes many points at once, as columns: ``t (m,)``, ``y (n, m)``.
    """

    function: Callable[..., Any]
    vjp: Callable[..., Any] | None
    theta: FloatArray
    n: int
    columns: bool

    def __call__(self, t: FloatArray, y: FloatArray) -> FloatArray:
        """``f`` at points ``t (m,)``, ``y (m, n)``: shape (m, n). NaN and infinity are left to whoever asks.

        Raises
        ------
        OdeError
            When the function fails, or returns another shape or anything but real numbers.
        """
        result = self._evaluated(read_only(t), read_only(y), as_argument(self.theta), "")
        if result.dtype.kind == "c":
            raise OdeError(f"{F} returns complex numbers; ODEs are real: split them into real and imaginary parts")
        if result.dtype.kind != "f":
            raise OdeError(
                f"{F} returns {result.dtype} in place of floating-point numbers: an array made of whole numbers loses "
                "fractions and derivatives. Write 1.0 for 1, np.zeros(n) for np.zeros(n, int), or dtype=float"
            )
        return result.astype(np.float64)

    def slopes(self, t: FloatArray, y: FloatArray, values: FloatArray) -> Slopes:
        """Derivatives at points where ``f`` is known.

        Raises
        ------
        OdeError
            When the function gives other values than those known, or derivatives that are not finite.
        ComplexStepError
            When it cannot be differentiated.
        """
        if self.vjp is not None:
            return _Given(self, t, y)
        t, y = read_only(t), read_only(y)
        plain, theta = as_argument(self.theta), self.theta
        m, p = len(t), theta.size
        by_t, by_y, by_theta = np.empty((m, self.n)), np.empty((m, self.n, self.n)), np.empty((m, self.n, p))
        moved = self._evaluated(seed(t, np.ones(m)), y, plain, _ADVICE)
        by_t[:] = derivative(moved)
        for j, direction in enumerate(np.eye(self.n)):
            by_y[:, :, j] = derivative(self._evaluated(t, seed(y, direction), plain, _ADVICE))
        for j in range(p):
            by_theta[:, :, j] = derivative(self._evaluated(t, y, seed(theta, unit(theta, j)), _ADVICE))
        for what, slope in (("t", by_t), ("y", by_y), ("theta", by_theta)):
            wrong = ~np.isfinite(slope.reshape(m, -1)).all(axis=1)
            if wrong.any():
                i = int(np.argmax(wrong))
                raise OdeError(f"the derivative of {F} by {what} is NaN or infinite at {point(t[i], y[i])}")
        terms = np.einsum("mij,mj->mi", np.abs(by_y), np.abs(y)) + np.abs(by_theta) @ np.abs(theta.ravel())
        self.require_same(real_part(moved), values, terms)
        return _Known(by_t, by_y, by_theta)

    def require_same(self, found: FloatArray, known: FloatArray, terms: npt.ArrayLike) -> None:
        """Values must be those that the steps were taken with, to the rounding of the terms that f adds up."""
        if _differs(found, known, terms).any():
            raise OdeError(
                f"{F} gives other values for the same arguments than before: it has random numbers or a state of its "
                "own, or something that it refers to has been changed since. Integrate again after a change"
            )

    def require_slopes(self, t: FloatArray, y: FloatArray, values: FloatArray, duration: float) -> None:
        """Compare derivatives with differences at a few of the points, and a function of columns with single calls.

        Raises
        ------
        VerificationError
            When a derivative disagrees, or does not exist.
        OdeError
            When the value at a point depends on other points.
        """
        rng = samples(key_of(y))
        few = np.sort(rng.choice(len(t), min(_LOOKED_AT, len(t)), replace=False))
        slopes = self.slopes(t[few], y[few], values[few])
        sizes = [slopes.terms(i, y[at], self.theta.ravel()) for i, at in enumerate(few)]
        self.require_same(self(t[few], y[few]), values[few], sizes)
        advice = _ADVICE if self.vjp is None else f"Correct {VJP}: a.df/dt, a.df/dy and a.df/dtheta, in this order"
        for i, at in enumerate(few):
            alone = self(t[at : at + 1], y[at : at + 1])[0]
            if self.columns and _differs(alone, values[at], sizes[i]).any():
                raise OdeError(f"{F} mixes columns: with vectorised=True, column i belongs to t[i] and y[:, i] alone")
            dy, dtheta = random_like(y[at], rng), random_like(self.theta, rng)
            for what, direction in (
                ("t", (duration, np.zeros(self.n), np.zeros(self.theta.shape))),
                ("y", (0.0, dy, np.zeros(self.theta.shape))),
                ("theta", (0.0, np.zeros(self.n), dtheta)),
            ):
                exact = slopes.along(i, direction[0], direction[1], direction[2].ravel())
                require_derivative(
                    self._line(t[at], y[at], direction), exact, np.abs(alone) + sizes[i],
                    f"the derivative of {F} by {what} at {point(t[at], y[at])}", advice,
                )  # fmt: skip

    def _line(
        self, t: float, y: FloatArray, direction: tuple[float, FloatArray, FloatArray]
    ) -> Callable[[float], FloatArray]:
        """``f`` along a line; an error where it is not finite, so that the difference is not taken there."""
        dt, dy, dtheta = direction

        def value(step: float) -> FloatArray:
            moved = RightHandSide(self.function, None, self.theta + step * dtheta, self.n, self.columns)
            return as_array(moved(np.array([t + step * dt]), (y + step * dy)[None])[0], (self.n,), F, OdeError)

        return value

    def _evaluated(self, t: Any, y: Any, theta: Any, advice: str) -> npt.NDArray[Any]:
        """``f`` at points, real or with complex steps: shape (m, n)."""
        m = len(t)
        if self.columns:
            return _array(called(self.function, F, t, y.T, theta, advice=advice, error=OdeError), (self.n, m)).T
        single = t if np.iscomplexobj(t) else t.tolist()
        raws = [called(self.function, F, single[i], y[i], theta, advice=advice, error=OdeError) for i in range(m)]
        return np.stack([_array(raw, (self.n,)) for raw in raws])


@dataclass(frozen=True, eq=False)
class _Known:
    """Derivatives as arrays: ``(m, n)``, ``(m, n, n)``, ``(m, n, p)``."""

    by_t: FloatArray
    by_y: FloatArray
    by_theta: FloatArray

    def back(self, i: int, a: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        return float(a @ self.by_t[i]), a @ self.by_y[i], a @ self.by_theta[i]

    def along(self, i: int, dt: float, dy: FloatArray, dtheta: FloatArray) -> FloatArray:
        return self.by_t[i] * dt + self.by_y[i] @ dy + self.by_theta[i] @ dtheta

    def terms(self, i: int, y: FloatArray, theta: FloatArray) -> FloatArray:
        return np.abs(self.by_y[i]) @ np.abs(y) + np.abs(self.by_theta[i]) @ np.abs(theta)


@dataclass(frozen=True, eq=False)
class _Given:
    """The user's products; those along directions take one call for each unknown."""

    rhs: RightHandSide
    t: FloatArray
    y: FloatArray

    def back(self, i: int, a: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        rhs = self.rhs
        raw = called(
            rhs.vjp, VJP, float(self.t[i]), read_only(self.y[i]), as_argument(rhs.theta), read_only(a), error=OdeError
        )
        if not isinstance(raw, (tuple, list)) or len(raw) != 3:
            raise OdeError(f"{VJP} must return three arrays, a.df/dt, a.df/dy, a.df/dtheta, not {type(raw).__name__}")
        shapes = ((), (rhs.n,), rhs.theta.shape)
        by_t, by_y, by_theta = (
            np.zeros(shape) if part is None else as_array(part, shape, f"a.df/d{name} of {VJP}", OdeError)
            for part, shape, name in zip(raw, shapes, ("t", "y", "theta"), strict=True)
        )
        return float(by_t), by_y, by_theta.ravel()

    def along(self, i: int, dt: float, dy: FloatArray, dtheta: FloatArray) -> FloatArray:
        return self._rows(i).along(0, dt, dy, dtheta)

    def terms(self, i: int, y: FloatArray, theta: FloatArray) -> FloatArray:
        return self._rows(i).terms(0, y, theta)

    def _rows(self, i: int) -> _Known:
        by_t, by_y, by_theta = zip(*(self.back(i, row) for row in np.eye(self.rhs.n)), strict=True)
        return _Known(np.array([by_t]), np.array([by_y]), np.array([by_theta]))


def _differs(found: FloatArray, known: FloatArray, terms: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Where values differ beyond the rounding of the terms that they are sums of."""
    return np.asarray(np.abs(found - known) > 1e-9 * np.abs(known) + _ROUNDING * np.asarray(terms))


def _array(raw: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """What f returned, as an array of the given shape; a list may hold a number for what is the same at all points."""
    try:
        if isinstance(raw, (list, tuple)):
            raw = np.array([np.broadcast_to(np.asarray(part), shape[1:]) for part in raw])
        result = np.asarray(raw).view(np.ndarray)
    except (TypeError, ValueError) as cause:
        raise OdeError(f"{F} must return an array of shape {shape}, not {type(raw).__name__} ({cause})") from cause
    if result.dtype.kind not in "fiubc" or result.shape != shape:
        raise OdeError(
            f"{F} must return numbers in the shape of y, {shape}, not {type(raw).__name__} with {result.dtype} entries "
            f"of shape {result.shape}"
        )
    return result


def point(t: float, y: FloatArray) -> str:
    """A point in a message."""
    return f"t = {float(t):.9g}, y = {y.tolist()}" if y.size <= 8 else f"t = {float(t):.9g}"
