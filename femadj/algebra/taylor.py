"""Derivatives of any order along a direction for ``A(theta) x = b(theta)``, on the one factor of a solution.

Along ``theta + t d`` everything is a power series in t. With ``A(t) = sum A_k t^k`` and ``b(t)`` likewise,

    A_0 x_k = b_k - sum_(j=1..k) A_j x_(k-j),        A_0^T lam_k = s_k - sum_(j=1..k) A_j^T lam_(k-j),

so that every further order takes one more solve with the factor of ``A_0``, and one transposed solve for the gradient.
Coefficients of users' functions are those of their values on a circle in the complex plane (Cauchy's formula, by FFT:
J. N. Lyness and C. B. Moler, SIAM J. Numer. Anal. 4 (1967)): no differences. The functions have to be analytic; that
their negative and highest frequencies vanish and their mean is the value at the centre tells whether they are, and
whether the circle is small enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from femadj.base.arrays import FloatArray
from femadj.base.calls import called
from femadj.errors import ComplexStepError, LinearSystemError

ComplexArray = npt.NDArray[np.complex128]

POINTS = 64
"""Points on a circle."""

HIGHEST = 20
"""Largest order: each loses a little more than one binary digit."""

_VANISHED = 1e-12
"""Size of what has to vanish, beside the largest coefficient."""

_LOUD = 10.0
"""How much larger high orders may be on the circle than the first ones."""

_LARGE, _SMALLER = 8.0, 18
"""Size of the first circle beside that of theta, and how often it is halved."""

ADVICE = (
    "Series of any order evaluate functions at complex numbers: write them with analytic NumPy operations (no abs, "
    "max, norms, conj or real), move theta away from kinks and poles, and let them return what they get, complex"
)


class Analytic(Protocol):
    """Matrix, right-hand side and contraction at complex theta."""

    def matrix_at(self, theta: Any) -> sp.csr_array:
        """``A``."""
        ...

    def rhs_at(self, theta: Any) -> ComplexArray:
        """``b``."""
        ...

    def contraction_at(self, theta: Any, x: ComplexArray, lam: ComplexArray) -> ComplexArray:
        """``lam^T (dA/dtheta x - db/dtheta)``."""
        ...


class Solved(Protocol):
    """A system solved at theta, on a factor that is kept."""

    @property
    def x(self) -> FloatArray:
        """The unknowns."""
        ...

    def solve(self, rhs: FloatArray) -> FloatArray:
        """``A^-1 rhs``."""
        ...

    def solve_adjoint(self, rhs: FloatArray) -> FloatArray:
        """``A^-T rhs``."""
        ...


def coefficients(function: Callable[[complex], ComplexArray], order: int, radius: float, what: str) -> FloatArray:
    """Taylor coefficients of a function at 0, ``(order + 1, ...)``.

    Parameters
    ----------
    function : callable of a complex number, returns an array of a fixed shape
    order : int
    radius : float
        Of the first circle; it is halved until the coefficients die away.
    what : str
        For the message.

    Raises
    ------
    ComplexStepError
        When they do not: the function is not analytic.
    """
    turns = np.exp(2j * np.pi * np.arange(POINTS) / POINTS)
    centre = np.asarray(function(0j))
    best: FloatArray | None = None
    for radius_now in radius * 0.5 ** np.arange(_SMALLER):
        found = np.fft.fft([function(complex(t)) for t in radius_now * turns], axis=0) / POINTS
        size = np.abs(found).reshape(POINTS, -1).max(axis=1, initial=0.0)
        parts = found[POINTS // 2 :], found[0] - centre, found[: order + 1].imag
        high = max(float(np.abs(part).max(initial=0.0)) for part in parts)
        if np.isfinite(size).all() and high <= _VANISHED * size.max():
            powers = radius_now ** np.arange(order + 1.0)
            best = np.asarray(found[: order + 1].real / powers.reshape(-1, *[1] * centre.ndim))
            if size.max() <= _LOUD * size[:3].max():  # else low orders drown in the rounding of high ones
                break
    if best is not None:
        return best
    raise ComplexStepError(f"{what} is no analytic function of a step along the direction. {ADVICE}")


@dataclass(frozen=True, eq=False)
class Line:
    """A system along ``theta + t direction``, for complex t.

    Attributes
    ----------
    system : Analytic
    theta, direction : arrays of one shape
    """

    system: Analytic
    theta: FloatArray
    direction: FloatArray

    def at(self, t: complex) -> Any:
        """``theta + t direction`` as users' functions see it: a complex number, or an array."""
        moved = self.theta + t * self.direction
        return moved if self.theta.ndim else complex(moved)

    @property
    def radius(self) -> float:
        """Of the first circle; the largest one on which coefficients die away loses the fewest digits."""
        return _LARGE * (float(np.abs(self.theta).max()) or 1.0) / float(np.abs(self.direction).max())


@dataclass(frozen=True, eq=False)
class Taylor:
    """A solution as a power series in t along ``theta + t direction``.

    Attributes
    ----------
    x : (order + 1, n)
        Coefficients of ``x(t) = sum x_k t^k``; the k-th derivative is ``k! x_k``.
    line : Line
    solution : Solved
    matrices : sequence of sparse arrays
        Coefficients of A.
    """

    x: FloatArray
    line: Line
    solution: Solved
    matrices: Sequence[sp.csr_array]

    @classmethod
    def of(cls, solution: Solved, line: Line, order: int) -> Taylor:
        """Coefficients up to an order; one solve each."""
        matrices = _matrices(lambda t: line.system.matrix_at(line.at(t)), order, line.radius)
        rhs = coefficients(lambda t: line.system.rhs_at(line.at(t)), order, line.radius, "rhs(theta)")
        x = [solution.x]
        for k in range(1, order + 1):
            x.append(solution.solve(rhs[k] - sum(matrices[j] @ x[k - j] for j in range(1, k + 1))))
        return cls(np.stack(x), line, solution, matrices)

    def __repr__(self) -> str:
        return f"Taylor(order {self.order}, {self.x.shape[1]} unknowns)"

    @property
    def order(self) -> int:
        """Highest power."""
        return len(self.x) - 1

    def at(self, t: complex) -> npt.NDArray[Any]:
        """``sum x_k t^k``, (n,)."""
        return np.asarray(np.polynomial.polynomial.polyval(t, self.x))

    def response(self, response: Callable[[Any, Any], Any]) -> FloatArray:
        """Coefficients of ``J(x(t), theta(t))``, (order + 1,); the k-th derivative is ``k!`` times the k-th.

        Raises
        ------
        ComplexStepError
            When J is not analytic.
        LinearSystemError
            When it fails or returns no number.
        """

        def value(t: complex) -> ComplexArray:
            raw = self._called(response, t)
            return as_complex(getattr(raw, "value", raw), (), "the response")

        return coefficients(value, self.order, self.line.radius, "the response")

    def gradient(self, response: Callable[[Any, Any], Any]) -> FloatArray:
        """Coefficients of the gradient ``dJ/dtheta`` along the line, ``(order + 1, *theta.shape)``.

        One transposed solve for each order. It needs ``contraction=`` of the system, and a response that returns a
        ``fa.ResponseEvaluation``, both for complex arguments; errors as in ``response``.
        """
        line, shape, n = self.line, self.line.theta.shape, self.x.shape[1]

        def partial(t: complex, name: str, shape: tuple[int, ...]) -> ComplexArray:
            raw = self._called(response, t)
            if not hasattr(raw, name):
                raise LinearSystemError("the series of a gradient needs a response that returns a ResponseEvaluation")
            part = getattr(raw, name)
            return np.zeros(shape, complex) if part is None else as_complex(part, shape, f"{name} of the response")

        seeds = coefficients(lambda t: partial(t, "dx", (n,)), self.order, line.radius, "dx of the response")
        lam: list[FloatArray] = []
        for k, seed in enumerate(seeds):
            known = sum(self.matrices[j].T @ lam[k - j] for j in range(1, k + 1))
            lam.append(self.solution.solve_adjoint(seed - known))
        adjoint = np.stack(lam)

        def total(t: complex) -> ComplexArray:
            weights = np.asarray(np.polynomial.polynomial.polyval(t, adjoint))
            return partial(t, "dtheta", shape) - line.system.contraction_at(line.at(t), self.at(t), weights)

        return coefficients(total, self.order, line.radius, "the gradient")

    def _called(self, response: Callable[[Any, Any], Any], t: complex) -> Any:
        return called(response, "the response", self.at(t), self.line.at(t), advice=ADVICE)


def as_complex(raw: Any, shape: tuple[int, ...], what: str) -> ComplexArray:
    """A user's numbers, real or complex, of the given shape."""
    array = np.asarray(raw)
    if array.dtype.kind not in "fiuc" or array.shape != shape:
        raise LinearSystemError(f"{what} must be numbers of shape {shape}, not {array.dtype} of shape {array.shape}")
    return array.astype(np.complex128)


def _matrices(matrix: Callable[[complex], sp.csr_array], order: int, radius: float) -> list[sp.csr_array]:
    """Coefficients of a matrix, on all entries that it has anywhere on the circle."""
    pattern = sum(abs(matrix(radius * turn)) for turn in (1.0, 1j, -0.9 + 0.1j)).tocsr()
    pattern.sum_duplicates()
    n = pattern.shape[0]
    rows = np.repeat(np.arange(n), np.diff(pattern.indptr))
    keys = rows * n + pattern.indices

    def entries(t: complex) -> ComplexArray:
        at = matrix(t)
        found = np.zeros(len(keys), complex)
        own = np.repeat(np.arange(n), np.diff(at.indptr)) * n + at.indices
        slots = np.minimum(np.searchsorted(keys, own), len(keys) - 1)
        if not np.array_equal(keys[slots], own):
            raise LinearSystemError("matrix(theta) has other entries at every theta: return its zeros explicitly")
        found[slots] = at.data
        return found

    values = coefficients(entries, order, radius, "matrix(theta)")
    return [sp.csr_array((v, pattern.indices, pattern.indptr), shape=(n, n)) for v in values]
