"""Eigenvalue problems ``K x = lam M x`` of symmetric sparse matrices, on one factor of ``K - shift M``.

Lanczos iterations (ARPACK) run on ``G = (K - shift M)^-1 M``, whose eigenvalues are ``mu = 1 / (lam - shift)``
(Ericsson and Ruhe 1980). What they find is completed by iterations that are kept orthogonal to it, until the next
eigenvalue lies clearly beyond the last one that was asked for: no copy of a repeated eigenvalue is missed, and no
cluster is cut. A step of subspace iteration with a Rayleigh-Ritz projection ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.sparse import csr_array
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from femadj.base.arrays import FloatArray, inner
from femadj.base.blas import combination, one_thread, products
from femadj.errors import EigenvalueError
from femadj.solvers.factor import Factor
from femadj.solvers.structure import CsrPattern

GAP = 1e-7
"""Distance of neighbouring eigenvalues, relative to their size, up to which they count as one cluster."""

EXTRA = 4
"""Eigenpairs computed beyond those that are asked for."""

MOST = 100
"""Eigenpairs that may be added to complete those that are asked for."""

TOLERANCE = 1e-7
"""Relative change of an eigenvector by a last step of inverse iteration, above which it is refused."""

_NOTHING = 1e-13  # eigenvalues mu, beside the largest, that are zero
_LANCZOS, _ROUGH_LANCZOS = 20, 10  # vectors of an iteration, at least
_ROUGH = 1e-2  # relative error of eigenvalues when it is only seen whether one is missing


class Symmetric:
    """A symmetric matrix on a pattern, of which products alone are wanted."""

    def __init__(self, pattern: CsrPattern, values: FloatArray) -> None:
        self._matrix = csr_array((values, pattern.indices, pattern.indptr), shape=(pattern.n, pattern.n), copy=False)
        self._pattern = pattern
        self.diagonal = values[pattern.diagonal(np.arange(pattern.n))]
        self._upper = pattern.triangle == "upper"

    @property
    def rows(self) -> npt.NDArray[np.bool_]:
        """Marks of the rows with an entry other than zero."""
        at = np.flatnonzero(self._matrix.data)
        used = np.zeros(self._pattern.n, dtype=bool)
        used[self._pattern.rows[at]] = True
        if self._upper:
            used[self._pattern.indices[at]] = True
        return used

    def __matmul__(self, x: FloatArray) -> FloatArray:
        """Product with a vector ``(n,)`` or with columns ``(n, k)``."""
        y = self._matrix @ x
        if self._upper:
            y += self._matrix.T @ x
            y -= (self.diagonal * x.T).T  # counted by both triangles
        return np.asarray(y)


@dataclass(frozen=True, eq=False)
class Pencil:
    """``K x = lam M x`` with constraints applied: K has a diagonal entry alone at constrained unknowns, M nothing.

    Attributes
    ----------
    stiffness, mass : Symmetric
        K and M.
    factor : Factor
        Of ``K - shift M``.
    shift : float
    free : (n,) bool
        Marks of the unknowns that are not constrained.
    positive : "mass" or "stiffness"
        Which of the two is positive (semi)definite, for certain, and measures vectors. With ``"stiffness"`` the shift
        is zero and positive eigenvalues alone are looked for.
    """

    stiffness: Symmetric
    mass: Symmetric
    factor: Factor
    shift: float
    free: npt.NDArray[np.bool_]
    positive: Literal["mass", "stiffness"] = "mass"

    @property
    def n(self) -> int:
        """Number of unknowns, constrained ones included."""
        return len(self.free)

    @cached_property
    def room(self) -> int:
        """How many eigenpairs can be computed: fewer than unknowns with a mass, ARPACK wants one vector more."""
        return int((self.free & self.mass.rows).sum()) - 1

    @property
    def measure(self) -> Symmetric:
        """The matrix that vectors are measured by."""
        return self.mass if self.positive == "mass" else self.stiffness

    def inverse(self, x: FloatArray) -> FloatArray:
        """``(K - shift M)^-1 x`` for ``(n,)`` or ``(n, k)``."""
        return self.factor.solve(np.ascontiguousarray(x, dtype=float))

    @cached_property
    def start(self) -> FloatArray:
        """A vector without the symmetries of any body, the same in every run."""
        return np.where(self.free, np.random.default_rng(0).standard_normal(self.n), 0.0)

    def measured(self, x: FloatArray) -> FloatArray:
        """Product with the positive matrix; EigenvalueError where that turns out not to be positive."""
        y = self.measure @ x
        self.require_positive(inner(x, y), -1e-12 * float(self.measure.diagonal.max()) * inner(x, x))
        return y

    def require_positive(self, square: float, least: float = 0.0) -> None:
        """EigenvalueError for the square of a vector in the measure that shows that it is none."""
        if square < least:
            raise EigenvalueError(
                f"the {self.positive} is not positive: x^T M x is {square:.3g} for a vector x. Is a density, or the "
                "coefficient of a form with a rate, negative somewhere?"
            )


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues with eigenvectors, ``x_i^T M x_j = delta_ij``, ascending.

    Attributes
    ----------
    pencil : Pencil
    values : (k,)
    vectors : (k, n)
        Of either sign the one whose product with ``pencil.start`` is positive.
    chosen : (count,) int64
        Those that were asked for, with all of the last one's cluster. The others serve the solution of systems with
        ``K - lam M``.
    residual : float
        Largest relative change of a chosen vector by a step of inverse iteration.
    """

    pencil: Pencil
    values: FloatArray
    vectors: FloatArray
    chosen: npt.NDArray[np.int64]
    residual: float

    @cached_property
    def clusters(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the chosen ones, those together that coincide."""
        values = self.values[self.chosen]
        ends = np.flatnonzero(np.diff(values) > GAP * size_of(values, self.pencil.shift)[1:]) + 1
        return tuple(tuple(int(i) for i in group) for group in np.split(np.arange(len(values)), ends))


def size_of(values: FloatArray, shift: float) -> FloatArray:
    """What differences of eigenvalues are compared with; those of rigid motions are zero."""
    return np.maximum(np.abs(values), np.abs(values - shift))


def eigenpairs(pencil: Pencil, count: int) -> Eigenpairs:
    """The ``count`` eigenvalues nearest to the shift (the smallest positive ones where the stiffness measures).

    Raises
    ------
    EigenvalueError
        When there are not so many, when they do not converge, and for a mass that is not positive.
    """
    if count > pencil.room:
        raise EigenvalueError(
            f"count is {count}, but with {pencil.room + 1} free unknowns that have a mass there are at most "
            f"{max(pencil.room, 0)} eigenvalues that can be computed"
        )
    pencil.require_positive(float(pencil.measure.diagonal.min()))
    values, vectors, residuals = _projected(pencil, _lanczos(pencil, min(count + EXTRA, pencil.room)))
    for _ in range(MOST):
        further = _further(pencil, count, values, vectors)
        if further is None:
            break
        values, vectors, residuals = _projected(pencil, np.concatenate([vectors.T, further], axis=1))
    else:
        raise EigenvalueError(
            f"more than {MOST} eigenvalues coincide with those asked for, or were missed at first: does the body "
            "consist of equal parts that are not connected? Solve for one of them"
        )
    if len(values) < count:
        sign = "" if pencil.positive == "mass" else "positive "
        raise EigenvalueError(
            f"count is {count}, but there are only {len(values)} finite {sign}eigenvalues"
            + ("" if sign == "" else ": the load stabilises the body (does it have the wrong sign?)")
        )
    distances = np.abs(values - pencil.shift)
    last = float(np.sort(distances)[count - 1])
    chosen = np.flatnonzero(distances <= last + GAP * max(last, abs(pencil.shift)))
    worst = float(residuals[chosen].max())
    if not worst <= TOLERANCE:
        raise EigenvalueError(
            f"eigenvectors are known to {worst:.1g} of their size only, which is not enough for derivatives: the "
            "matrices are too ill-conditioned, or the shift is too far from the eigenvalues"
        )
    return Eigenpairs(pencil, values, vectors, chosen, worst)


def _further(pencil: Pencil, count: int, values: FloatArray, vectors: FloatArray) -> FloatArray | None:
    """An eigenvector ``(n, 1)`` apart from the known ones that belongs to those asked for or their last cluster.

    Whether there is one is seen roughly first.
    """
    if len(values) >= pencil.room:
        return None
    distances = np.sort(np.abs(values - pencil.shift))
    for tolerance in (_ROUGH, 0.0):
        found = _lanczos(pencil, 1, vectors, 1 / distances.min(initial=np.inf), tolerance)
        if not found.shape[1]:
            return None
        if len(values) < count:
            continue
        ((value,), _, _) = _projected(pencil, found)
        last = float(distances[count - 1])
        if abs(value - pencil.shift) * (1 - 2 * tolerance) > last + 2 * GAP * max(last, abs(pencil.shift)):
            return None
    return found


def _lanczos(
    pencil: Pencil, k: int, known: FloatArray | None = None, largest: float = 0.0, tolerance: float = 0.0
) -> FloatArray:
    """``k`` vectors ``(n, k)``, or fewer, of the eigenvalues nearest to the shift, apart from known ones ``(m, n)``.

    What is zero beside the largest ``mu`` of the known ones is left out.
    """
    n, m = pencil.n, 0 if known is None else len(known)
    left = pencil.room + 1 - m  # an iteration that fills the space apart from the known ones ends in noise
    ncv = min(max(2 * k + 1, _ROUGH_LANCZOS if tolerance else _LANCZOS), left - bool(m))
    if ncv <= k:
        return np.zeros((n, 0))
    dual = None if known is None else np.ascontiguousarray((pencil.mass @ known.T).T)

    def apart(x: FloatArray, *, transposed: bool = False) -> FloatArray:
        if known is None or dual is None:
            return x
        left, right = (known, dual) if transposed else (dual, known)
        return x - combination(products(left, x), right)

    def operator(product: object) -> LinearOperator:
        return LinearOperator((n, n), matvec=product, dtype=float)

    inverse = operator(lambda x: apart(pencil.inverse(x)))
    start = apart(pencil.start)
    try:
        if pencil.positive == "mass":
            mass = operator(pencil.measured)
            stiffness = operator(lambda x: pencil.stiffness @ x)
            with one_thread():
                values, x = eigsh(
                    stiffness, k, mass, sigma=pencil.shift, OPinv=inverse, v0=start, ncv=ncv, tol=tolerance
                )
            mu = 1 / (values - pencil.shift)
        else:
            mass = operator(lambda x: apart(pencil.mass @ x, transposed=True))  # ARPACK takes it for K G x
            stiffness = operator(pencil.measured)
            with one_thread():
                mu, x = eigsh(mass, k, stiffness, Minv=inverse, which="LA", v0=start, ncv=ncv, tol=tolerance)
    except ArpackError as error:
        raise EigenvalueError(
            f"the eigenvalues nearest to {pencil.shift:g} have not been found ({error}): ask for fewer, or choose a "
            "shift that is nearer to those wanted"
        ) from error
    kept = np.isfinite(mu) & (np.abs(mu) > _NOTHING * np.abs(mu).max(initial=largest))
    if pencil.positive == "stiffness":
        kept &= mu > 0
    return np.column_stack([apart(column) for column in x[:, kept].T]) if kept.any() else np.zeros((n, 0))


def _projected(pencil: Pencil, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Values, vectors ``(k, n)`` and their changes after a step of subspace iteration from columns ``(n, k)``."""
    if not x.shape[1]:
        return np.zeros(0), np.zeros((0, pencil.n)), np.zeros(0)
    loads = pencil.mass @ x
    y = pencil.inverse(loads)
    above, below = y.T @ loads, y.T @ (pencil.mass @ y)
    try:
        distances, mixed = scipy.linalg.eigh((above + above.T) / 2, (below + below.T) / 2)
    except np.linalg.LinAlgError as error:
        raise EigenvalueError(
            "the eigenvectors found do not depend on each other as they should: the problem is defective, or its mass "
            "is not positive"
        ) from error
    vectors, before = y @ mixed, x @ mixed
    change = vectors * distances - before
    residuals = np.linalg.norm(change, axis=0) / np.linalg.norm(before, axis=0)
    vectors *= np.where(pencil.start @ vectors < 0, -1.0, 1.0)
    return pencil.shift + distances, np.ascontiguousarray(vectors.T), residuals
