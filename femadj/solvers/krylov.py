"""Iterations on the exact matrix, preconditioned: conjugate gradients and flexible GMRES."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, inner
from femadj.errors import ApproximationError
from femadj.kernels import rows
from femadj.solvers.team import Team

Operator = Callable[[FloatArray], FloatArray]
"""A linear map of blocks (n, k), one vector a column."""

_LAST_GAIN = 10.0  # the last step of conjugate gradients may have been this many tolerances long
_PATIENCE, _SLACK = 20, 100.0  # iterations before it is asked whether all will do; errors above those on the way
_FEW = 25_000  # unknowns below which a thread costs more than it brings
_RESTARTS = 3
_STAGNATION = 0.1


class Iterations(NamedTuple):
    """What iterations have found.

    Attributes
    ----------
    x : (n, k)
    counts : (k,) int
        Iterations of every column.
    errors : (k,)
        Estimated relative errors: in the energy norm (conjugate gradients), of the residual (GMRES).
    """

    x: FloatArray
    counts: npt.NDArray[np.int64]
    errors: FloatArray


class _Vectors:
    """Operations on blocks ``(n, k)``, in shares of rows."""

    def __init__(self, n: int, team: Team) -> None:
        chunks = -(-n // rows.CHUNK)
        self._team = team
        self._chunks = team.shares(np.arange(chunks + 1), -(-_FEW // rows.CHUNK))
        self._cuts = np.minimum(self._chunks * rows.CHUNK, n)

    def inner(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Inner products of the columns, (k,)."""
        sums = np.empty((self._chunks[-1], x.shape[1]))
        self._team(rows.inner, self._chunks, x, y, sums)
        return np.asarray(sums.sum(axis=0))

    def advance(self, x: FloatArray, r: FloatArray, p: FloatArray, q: FloatArray, length: FloatArray) -> None:
        """``x += length p`` and ``r -= length q``."""
        self._team(rows.advance, self._cuts, x, r, p, q, length)

    def redirect(self, p: FloatArray, z: FloatArray, weight: FloatArray) -> None:
        """``p = z + weight p``."""
        self._team(rows.redirect, self._cuts, p, z, weight)


def columns_inner(x: FloatArray, y: FloatArray) -> FloatArray:
    """Inner products of all columns of ``x`` (n, a) with those of ``y`` (n, b), (a, b)."""
    products = np.empty((x.shape[1], y.shape[1]))
    rows.gram(x, y, products)
    return products


def conjugate_gradients(
    product: Operator,
    precondition: Operator,
    b: FloatArray,
    start: FloatArray | None = None,
    *,
    tolerance: float,
    most: int,
    team: Team | None = None,
) -> Iterations:
    """Solve ``A x = b`` for symmetric positive definite A and all columns of ``b`` (n, k) at once.

    A column is done when ``sqrt(r . M^-1 r)``, the error in the energy norm as its preconditioner sees it, is below
    ``tolerance`` times the energy norm of x, and the last step was not much longer. The energy that steps gain is that
    of Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems (1952).

    Parameters
    ----------
    product, precondition : callable
        ``A p`` and ``M^-1 r`` for blocks.
    b : (n, k)
    start : (n, k), optional
        First guess, with residuals that are orthogonal to it (as a projection makes them); zero when left out.
    tolerance : float
    most : int
        Iterations that are allowed.
    team : Team, optional
        Threads of the vector operations; the calling one when left out.

    Raises
    ------
    ApproximationError
        When the matrix or the preconditioner shows that it is not positive definite, after too many iterations, and
        as soon as errors fall too slowly for those that are allowed.
    """
    vectors = _Vectors(len(b), Team(1) if team is None else team)
    x = np.zeros_like(b) if start is None else start.copy()
    r = b.copy() if start is None else b - product(x)
    z = precondition(r)
    p, rz = z.copy(), vectors.inner(r, z)
    energy = np.abs(vectors.inner(x, b)) if start is not None else np.zeros(b.shape[1])
    counts = np.zeros(b.shape[1], np.int64)
    gain = np.full(b.shape[1], np.inf if start is None else 0.0)
    for step in range(most + 1):
        if not (rz >= 0.0).all():
            raise ApproximationError("the preconditioner is not positive definite")
        total = np.where(energy > 0.0, energy, rz)
        error = np.sqrt(np.divide(rz, total, out=np.zeros_like(rz), where=total > 0.0))
        going = (rz > 0.0) & ((error > tolerance) | (gain > (_LAST_GAIN * tolerance) ** 2 * total))
        if not going.any():
            return Iterations(x, counts, error)
        if step == most or (step >= _PATIENCE and error.max() > _SLACK * tolerance ** (step / most)):
            break
        q = product(p)
        curvature = vectors.inner(p, q)
        if not (curvature[going] > 0.0).all():
            raise ApproximationError("the matrix is not positive definite along a direction")
        length = np.where(going, rz / np.where(going, curvature, 1.0), 0.0)
        with np.errstate(over="ignore"):
            gain = np.where(going, length * rz, gain)
        if not np.isfinite(gain[going]).all():
            raise ApproximationError("the matrix is singular along a direction, but for rounding")
        vectors.advance(x, r, p, q, length)
        energy += np.where(going, gain, 0.0)
        counts[going] += 1
        z = precondition(r)
        new = vectors.inner(r, z)
        vectors.redirect(p, z, np.where(going, new / np.where(going, rz, 1.0), 0.0))
        rz = np.where(going, new, rz)
    raise ApproximationError(
        f"{step} iterations leave an error of {error.max():.1e} in the energy norm, more than {most} may take"
    )


def gmres(
    product: Operator,
    precondition: Operator,
    b: FloatArray,
    *,
    tolerance: float,
    most: int,
) -> Iterations:
    """Solve ``A x = b`` for any regular A, column by column, by flexible GMRES (Saad 1993).

    Restarted where the true residual is above ``tolerance |b|``, for as long as restarts help; rounding may admit no
    more than that.

    Raises
    ------
    ApproximationError
        After too many iterations.
    """
    found = [_gmres(product, precondition, b[:, k], tolerance, most) for k in range(b.shape[1])]
    return Iterations(
        np.stack([x for x, _, _ in found], axis=1),
        np.array([count for _, count, _ in found], np.int64),
        np.array([error for _, _, error in found]),
    )


def _gmres(
    product: Operator, precondition: Operator, b: FloatArray, tolerance: float, most: int
) -> tuple[FloatArray, int, float]:
    size = np.sqrt(inner(b, b))
    x, r, count, before = np.zeros_like(b), b.copy(), 0, np.inf
    if size == 0.0:
        return x, 0, 0.0
    for _ in range(_RESTARTS):
        norm = np.sqrt(inner(r, r))
        if not norm > tolerance * size or norm > _STAGNATION * before:
            break
        if not np.isfinite(norm):
            raise ApproximationError("iterations break down: residuals are not finite")
        before = norm
        step, made = _cycle(product, precondition, r, norm, tolerance * size, most - count)
        count += made
        x += step
        r = b - product(np.ascontiguousarray(x[:, None]))[:, 0]
    error = float(np.sqrt(inner(r, r)) / size)
    if error > tolerance and count >= most:
        raise ApproximationError(f"{most} iterations leave a residual of {error:.1e}")
    return x, count, error


def _cycle(
    product: Operator, precondition: Operator, r: FloatArray, norm: float, wanted: float, most: int
) -> tuple[FloatArray, int]:
    """Correction of one cycle from a residual of this norm, and its iterations."""
    basis, directions, rest = [r / norm], [], [norm]
    rotations: list[tuple[float, float]] = []
    hessenberg = np.zeros((most + 1, max(most, 1)))
    for j in range(most):
        directions.append(precondition(np.ascontiguousarray(basis[j][:, None]))[:, 0])
        w = product(np.ascontiguousarray(directions[j][:, None]))[:, 0]
        for i, v in enumerate(basis):
            hessenberg[i, j] = inner(v, w)
            w -= hessenberg[i, j] * v
        length = np.sqrt(inner(w, w))
        column = hessenberg[:, j]
        for i, (c, s) in enumerate(rotations):
            column[i], column[i + 1] = c * column[i] + s * column[i + 1], c * column[i + 1] - s * column[i]
        size = np.hypot(column[j], length)
        if not 0.0 < size < np.inf:
            raise ApproximationError("iterations break down: the preconditioned matrix maps a vector to zero")
        c, s = column[j] / size, length / size
        rotations.append((c, s))
        column[j] = size
        rest[j:] = [c * rest[j], -s * rest[j]]
        if abs(rest[j + 1]) <= wanted or length == 0.0:
            break
        basis.append(w / length)
    made = len(directions)
    if not made:
        return np.zeros_like(r), 0
    weights = np.linalg.solve(np.triu(hessenberg[:made, :made]), np.array(rest[:made]))
    return np.asarray(sum(weight * d for weight, d in zip(weights, directions, strict=True))), made
