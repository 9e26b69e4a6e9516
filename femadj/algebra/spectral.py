"""Derivatives of eigenvalues and eigenvectors of ``K x = lam M x``, ``x^T M x = 1``.

    dlam_i = x_i^T (dK - lam_i dM) x_i,
    s^T dx_i = - z^T (dK - lam_i dM) x_i - (x_i^T s) x_i^T dM x_i / 2,
    (K - lam_i M) z = s - M x_i (x_i^T s),   x_i^T M z = 0

(Nelson 1976, in adjoint form). Where eigenvalues coincide, functions that treat them alike have a derivative, and the
members have one-sided ones along a direction: the eigenvalues of ``X^T (dK - lam dM) X`` (Lancaster 1964). The singular
systems need no factor of their own: of ``z`` the known eigenvectors carry their parts, and the rest solves
``(1 - (lam_i - shift) G) z = (K - shift M)^-1 r`` with ``G = (K - shift M)^-1 M``, which is positive definite there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from femadj.algebra.eigen import Eigenpairs, Pencil, Symmetric, size_of
from femadj.algebra.implicit import Seed, weights_of
from femadj.algebra.residual import AtDesign, State, Weights
from femadj.base.arrays import FloatArray, inner
from femadj.base.blas import combination, products
from femadj.base.design import Design
from femadj.errors import EigenvalueError

ACCURACY = 1e-9
"""Relative residual of the systems for derivatives of eigenvectors, above which they are refused."""

_AIM = 1e-13  # the residual that is tried for
_ROUNDS, _STEPS = 6, 300
_ALIKE = 1e-9  # slopes that differ by less are alike, and by what a smooth function makes of distinct eigenvalues:
_STEEP = 1e3


@dataclass(frozen=True, eq=False)
class ModeSeed:
    """Partial derivatives of a response by eigenvalues ``(k,)`` and eigenvectors ``(k, n)``; None is zero."""

    values: FloatArray | None = None
    vectors: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class EigenState(State):
    """``k`` eigenvectors with the accelerations ``-lam x``, and once more as accelerations alone: ``2 k`` cases.

    The residual vanishes for the first ``k``; of the others it is ``M x``.

    Attributes
    ----------
    values : (k,)
        The eigenvalues.
    """

    values: FloatArray = field(kw_only=True)

    @classmethod
    def of(cls, values: FloatArray, vectors: FloatArray) -> EigenState:
        """From eigenvalues and eigenvectors ``(k, n)``."""
        u = np.concatenate([vectors, np.zeros_like(vectors)])
        return cls(u, (np.zeros_like(u), np.concatenate([-values[:, None] * vectors, vectors])), values=values)

    @property
    def vectors(self) -> FloatArray:
        """The eigenvectors, ``(k, n)``."""
        return self.u[: len(self.values)]


def vibrating(values: FloatArray, vectors: FloatArray) -> State:
    """Vectors with the accelerations ``-lam x``."""
    return State(vectors, (np.zeros_like(vectors), -values[:, None] * vectors))


@dataclass(frozen=True, eq=False)
class Spectral:
    """An eigenproblem solved at a design.

    Attributes
    ----------
    at : AtDesign
        The residual ``K x + M x''``: with ``x'' = -lam x`` it vanishes.
    pairs : Eigenpairs
    """

    at: AtDesign
    pairs: Eigenpairs

    @property
    def values(self) -> FloatArray:
        """Those that were asked for."""
        return self.pairs.values[self.pairs.chosen]

    @property
    def vectors(self) -> FloatArray:
        """Their eigenvectors, ``(k, n)``."""
        return self.pairs.vectors[self.pairs.chosen]

    @property
    def state(self) -> EigenState:
        """All eigenpairs."""
        return EigenState.of(self.values, self.vectors)

    def shifted(self, at: AtDesign, state: EigenState) -> Spectral:
        """The same with another design, eigenvalues and eigenvectors, for what looks at these alone."""
        chosen = np.arange(len(state.values))
        return Spectral(at, replace(self.pairs, values=state.values, vectors=state.vectors, chosen=chosen))

    def seed(self, given: ModeSeed) -> Seed:
        """The same by what the residual has at ``state``; of complex numbers, too.

        An eigenvalue contains internal forces, ``x^T dK x - lam x^T dM x``, and so does an eigenvector by slopes ``s``
        through its normalisation, ``-(x^T s) x^T dM x / 2``.
        """
        if given.values is None and given.vectors is None:
            return Seed()
        x, s = self.vectors, given.vectors
        internal = np.zeros_like(x) if given.values is None else given.values[:, None] * x
        if s is None:
            return Seed(internal=np.concatenate([internal, np.zeros_like(x)]))
        normal = -0.5 * (x * s).sum(axis=1)[:, None] * x
        return Seed(state=np.concatenate([s, np.zeros_like(x)]), internal=np.concatenate([internal, normal]))

    def weights(self, seed: Seed) -> Weights:
        """What derivatives of the residual at ``state`` are paired with: one system for each eigenvector that matters.

        Raises
        ------
        EigenvalueError
            For eigenvectors of eigenvalues that coincide.
        """
        lam = np.zeros((2 * len(self.values), self.pairs.pencil.n))
        for i in turning(seed):
            self.require_simple(i)
            lam[i] = self.bordered(i, self.at.constraints.restrict(np.asarray(seed.state)[i]))
        return weights_of(seed, lam, None)

    def pushforward(self, directions: Sequence[Design]) -> FloatArray:
        """Derivatives of all values along directions, ``(n_directions, k)``; in a cluster ascending, one-sided."""
        x, result = self.vectors, []
        rates, _ = self.at.pushforward(vibrating(self.values, x), directions)
        for along in rates:
            found = np.empty(len(x))
            for cluster in self.pairs.clusters:
                inside = list(cluster)
                matrix = x[inside] @ along[inside].T
                found[inside] = np.linalg.eigvalsh((matrix + matrix.T) / 2)
            result.append(found)
        return np.array(result).reshape(len(directions), len(x))

    def require_alike(self, slopes: FloatArray) -> None:
        """EigenvalueError for slopes of a function that does not treat coinciding eigenvalues alike."""
        for cluster in self.pairs.clusters:
            inside = slopes[list(cluster)]
            if np.ptp(inside) > self.tolerance(cluster) * np.abs(inside).max():
                raise EigenvalueError(
                    f"eigenvalues {self.shown(cluster)}, but the response depends on them "
                    f"differently (slopes {_shown(inside)}): only functions that treat them alike have a derivative, "
                    "such as their mean; along a direction, pushforward gives the one-sided derivatives of each"
                )

    def shown(self, cluster: Sequence[int]) -> str:
        """Which eigenvalues coincide."""
        return f"{_listed(cluster)} coincide ({_shown(self.values[list(cluster)])})"

    def tolerance(self, cluster: Sequence[int]) -> float:
        """What a function that treats them alike may make of eigenvalues that differ as these do, relative."""
        return _ALIKE + _STEEP * self.spread(cluster)

    def spread(self, cluster: Sequence[int]) -> float:
        """Largest distance of eigenvalues that coincide, relative to their size."""
        values = self.values[list(cluster)]
        return float(np.ptp(values) / size_of(values, self.pairs.pencil.shift).max())

    def _cluster(self, i: int) -> tuple[int, ...]:
        return next(cluster for cluster in self.pairs.clusters if i in cluster)

    def require_simple(self, i: int) -> None:
        """EigenvalueError for an eigenvector whose eigenvalue coincides with others."""
        cluster = self._cluster(i)
        if len(cluster) > 1:
            raise EigenvalueError(
                f"eigenvalues {self.shown(cluster)}: their eigenvectors "
                f"turn into each other as the design changes, so that a function of eigenvector {i} has no derivative"
            )

    def bordered(self, i: int, s: FloatArray) -> FloatArray:
        """``(K - lam_i M) z = s - M X X^T s`` with ``X^T M z = 0``, ``X`` being all that ``lam_i`` coincides with."""
        pairs, number = self.pairs, int(self.pairs.chosen[i])
        known, lam = pairs.vectors, float(pairs.values[number])
        dual = np.ascontiguousarray((pairs.pencil.mass @ known.T).T)
        parts = known @ s
        others = np.delete(np.arange(len(known)), pairs.chosen[list(self._cluster(i))])
        z = known[others].T @ (parts[others] / (pairs.values[others] - lam))
        return z + _complement(pairs.pencil, lam, s - parts @ dual, known, dual)


def turning(seed: Seed) -> list[int]:
    """Numbers of the eigenvectors that a function depends on."""
    return [] if seed.state is None else np.flatnonzero(seed.state.any(axis=1)).tolist()


def _complement(pencil: Pencil, lam: float, r: FloatArray, known: FloatArray, dual: FloatArray) -> FloatArray:
    """Solve ``(K - lam M) z = r`` orthogonal to known eigenvectors ``(m, n)`` (``dual``: M times them).

    Conjugate gradients on ``1 - (lam - shift) G`` in the measure of the pencil, in which that is symmetric; a few
    rounds, each for the residual of the one before.
    """
    theta = lam - pencil.shift

    def apart(x: FloatArray) -> FloatArray:
        return x - combination(products(dual, x), known)

    def moved(x: FloatArray) -> FloatArray:
        return theta * apart(pencil.inverse(pencil.mass @ x))

    def square(x: FloatArray) -> float:
        return max(inner(x, pencil.measure @ x), 0.0)

    load = apart(pencil.inverse(r))
    z = kept = np.zeros_like(r)
    best, size = np.inf, square(load)
    for _ in range(_ROUNDS):
        residual = load - z + moved(z)
        now = square(residual)
        if not now < best:
            break
        best, kept, size = now, z, max(square(z), size)
        if now <= _AIM**2 * size:
            break
        z = z + _conjugate_gradients(lambda x: x - moved(x), square, pencil.measure, residual)
        if pencil.positive == "mass":
            z = load + moved(z)  # gives what the mass does not see
    if not best <= ACCURACY**2 * size:
        raise EigenvalueError(
            f"the derivative of the eigenvector of {lam:.6g} is known to {(best / size) ** 0.5:.1g} only: eigenvalues "
            "that have not been computed lie close to it; ask for more of them"
        )
    return kept


def _conjugate_gradients(
    operator: Callable[[FloatArray], FloatArray],
    square: Callable[[FloatArray], float],
    measure: Symmetric,
    residual: FloatArray,
) -> FloatArray:
    """A correction with the residual made 1e-8 of what it was."""
    z, r = np.zeros_like(residual), residual
    p, now = r, square(r)
    end = 1e-16 * now
    for _ in range(_STEPS):
        if now <= end:
            break
        q = operator(p)
        alpha = now / inner(measure @ p, q)
        z, r = z + alpha * p, r - alpha * q
        before, now = now, square(r)
        p = r + (now / before) * p
    return z


def _listed(cluster: Sequence[int]) -> str:
    return f"{', '.join(map(str, cluster[:-1]))} and {cluster[-1]}"


def _shown(values: FloatArray) -> str:
    return ", ".join(f"{value:.9g}" for value in values)
