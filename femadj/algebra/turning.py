"""Second derivatives of functions of eigenvalues and eigenvectors, along a direction of the design.

``G = sum_i f_i x_i^T (dK - lam_i dM) x_i`` is the gradient of ``f(lam)`` with the slopes ``f_i``, and ``H V`` its rate
along ``V``, which is written ``'``:

    lam_i' = x_i^T r_i,    r_i = (K' - lam_i M') x_i,
    (K - lam_i M) x_i' = -(r_i - lam_i' M x_i),    x_i^T M x_i' = - x_i^T M' x_i / 2.

The singular system is that of derivatives of eigenvectors (``femadj.algebra.spectral``). Where eigenvalues coincide,
the direction chooses the members: those in which ``X^T r`` is diagonal (Lancaster 1964). With these each eigenvalue has
its own rate, and so have the slopes. Into each other members turn at a rate that nothing tells here, but which goes
into ``G'`` times ``f_i - f_j`` only, and that is zero; ``x_j^T M x_i' = - x_j^T M' x_i / 2`` keeps them normalised.

By a simple eigenvector with the slopes ``s``, the adjoint state ``z`` of ``femadj.algebra.spectral`` moves as well: its
equations are differentiated by complex numbers, and the same singular system gives its rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from femadj.algebra.eigen import size_of
from femadj.algebra.implicit import Seed, weights_of
from femadj.algebra.residual import AtDesign, State, Weights
from femadj.algebra.second import carried, in_motion, rate, stepped
from femadj.algebra.spectral import EigenState, Spectral, turning, vibrating
from femadj.base.arrays import FloatArray
from femadj.base.design import Design
from femadj.errors import EigenvalueError

EXACTLY = 1e-9
"""Distance of eigenvalues, relative to their size, up to which second derivatives take them for one."""


@dataclass(frozen=True, eq=False)
class Turning:
    """Eigenpairs that move along a direction of the design.

    Attributes
    ----------
    spectral : Spectral
        The eigenproblem, solved.
    at : AtDesign
        The residual at the complex design.
    state : EigenState
        ``lam + i STEP lam'`` of all eigenvalues, ``x + i STEP x'`` of eigenvectors.
    numbers : list of int
        Of the eigenvectors that carry their rates; the others do not matter.
    """

    spectral: Spectral
    at: AtDesign
    state: EigenState
    numbers: list[int]

    @classmethod
    def along(cls, spectral: Spectral, direction: Design, numbers: list[int]) -> Turning:
        """One singular system for each of the eigenvectors that matter, on the factor of the problem."""
        at = in_motion(spectral.at, direction)
        x, r, slopes = _parted(spectral, direction)
        moved = np.zeros_like(x)
        if numbers:
            masses, _ = spectral.at.pushforward(_accelerated(x[numbers]), [direction])
            members = {i: list(cluster) for cluster in spectral.pairs.clusters for i in cluster}
            for i, mass in zip(numbers, masses[0], strict=True):
                inside = x[members[i]]
                moved[i] = spectral.bordered(i, spectral.at.constraints.restrict(-r[i])) - (inside @ mass) @ inside / 2
        state = EigenState.of(stepped(spectral.values, slopes), stepped(x, moved))
        return cls(spectral, at, state, numbers)

    def weights(self, seed: Seed, lam: FloatArray) -> Weights:
        """``z + i STEP z'`` as weights: one singular system for each eigenvector that the response depends on."""
        rates = np.zeros_like(lam)
        if seed.state is not None:
            left = rate(self.adjoint_left(self.at, self.state, seed, lam))
            for i in turning(seed):
                x = self.spectral.vectors[i]
                rates[i] = self.spectral.bordered(i, left[i]) + float(x @ left[i]) / self._sizes[i] * x
        return weights_of(seed, stepped(lam, rates), None)

    def near(self, t: float) -> EigenState:
        """Eigenvalues and eigenvectors carried by their rates."""
        return EigenState.of(carried(self.state.values, t), carried(self.state.vectors, t))

    @property
    def _sizes(self) -> FloatArray:
        """What is taken of ``M x x^T M`` to make ``K - lam M`` regular."""
        return size_of(self.spectral.values, self.spectral.pairs.pencil.shift)

    def left(self, at: AtDesign, state: State) -> FloatArray:
        """``K x - lam M x`` at free unknowns, and ``x^T M x - 1`` along ``M x``, of the vectors that carry rates."""
        residual, left = at.residual(state), np.zeros_like(state.u)
        equations, masses = np.split(residual, 2)
        normal = (state.u[: len(masses)] * masses).sum(axis=1) - 1
        whole = equations + (self._sizes * normal)[:, None] * masses
        left[self.numbers] = at.constraints.restrict(whole)[self.numbers]
        return left

    def adjoint_left(self, at: AtDesign, state: State, seed: Seed, lam: FloatArray) -> FloatArray:
        """``s - M x x^T s - (K - lam M) z``, and ``x^T M z`` along ``M x``; nothing at constrained unknowns."""
        some, left, s = turning(seed), np.zeros(lam.shape, state.u.dtype), np.asarray(seed.state)
        values = cast(EigenState, state).values[some]
        x, z, s = state.u[some], lam[some].astype(state.u.dtype), s[some]
        masses = at.residual(_accelerated(x))
        along = (x * s).sum(axis=1) + self._sizes[some] * (z * masses).sum(axis=1)
        left[some] = s - along[:, None] * masses - at.residual(vibrating(values, z))
        return at.constraints.restrict(left)


def _accelerated(x: FloatArray) -> State:
    """Vectors as accelerations alone."""
    nothing = np.zeros_like(x)
    return State(nothing, (nothing, x))


def _parted(spectral: Spectral, direction: Design) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The members of clusters that a direction chooses, ``r`` of all vectors ``(k, n)``, and rates of eigenvalues."""
    rates, _ = spectral.at.pushforward(vibrating(spectral.values, spectral.vectors), [direction])
    x, r = spectral.vectors, rates[0]
    slopes = np.zeros(len(x))
    for cluster in spectral.pairs.clusters:
        inside = list(cluster)
        matrix = x[inside] @ r[inside].T
        slopes[inside], mixed = np.linalg.eigh((matrix + matrix.T) / 2)
        if len(inside) > 1:
            x[inside], r[inside] = mixed.T @ x[inside], mixed.T @ r[inside]
    return x, r, slopes


def require_alike(spectral: Spectral, slopes: FloatArray, curved: Callable[[FloatArray], FloatArray]) -> None:
    """EigenvalueError for a function without second derivatives where eigenvalues coincide.

    Its slopes have to be alike, and to change alike: rates of coinciding eigenvalues that change places make rates of
    slopes change places.

    Parameters
    ----------
    spectral : Spectral
    slopes : (k,)
    curved : function
        From rates of the eigenvalues to those of the slopes, ``(k,)`` both.
    """
    spectral.require_alike(slopes)
    rates = np.random.default_rng(0).uniform(1, 2, slopes.shape) * np.abs(spectral.values).max()
    found = curved(rates)
    for cluster in spectral.pairs.clusters:
        inside = list(cluster)
        if len(inside) == 1 or not (slopes[inside].any() or found[inside].any()):
            continue
        if spectral.spread(cluster) > EXACTLY:
            raise EigenvalueError(
                f"eigenvalues {spectral.shown(cluster)} to {spectral.spread(cluster):.1g} of their size: too little to "
                "tell them apart, and too much to take them for one in second derivatives"
            )
        first, second, *rest = inside
        for order in ([second, first, *rest], [second, *rest, first]):  # out of these all others can be made
            other = rates.copy()
            other[inside] = rates[order]
            gap = float(np.abs(curved(other)[inside] - found[order]).max())
            if gap > spectral.tolerance(cluster) * np.abs(found).max():
                raise EigenvalueError(
                    f"eigenvalues {spectral.shown(cluster)}, but the slopes of the response by them do not change "
                    "alike: only functions that treat them alike have second derivatives"
                )
