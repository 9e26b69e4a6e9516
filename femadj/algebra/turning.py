"""Second derivatives of functions of eigenvalues, along a direction of the design.

``G = sum_i f_i x_i^T (dK - lam_i dM) x_i`` is the gradient of ``f(lam)`` with the slopes ``f_i``, and ``H V`` its rate
along ``V``, which is written ``'``:

    lam_i' = x_i^T r_i,    r_i = (K' - lam_i M') x_i,
    (K - lam_i M) x_i' = -(r_i - lam_i' M x_i),    x_i^T M x_i' = - x_i^T M' x_i / 2.

The singular system is that of derivatives of eigenvectors (``femadj.algebra.spectral``). Where eigenvalues coincide,
the direction chooses the members: those in which ``X^T r`` is diagonal (Lancaster 1964). With these each eigenvalue has
its own rate, and so have the slopes. Into each other members turn at a rate that nothing tells here, but which goes
into ``G'`` times ``f_i - f_j`` only, and that is zero; ``x_j^T M x_i' = - x_j^T M' x_i / 2`` keeps them normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from femadj.algebra.eigen import size_of
from femadj.algebra.implicit import Seed, weights_of
from femadj.algebra.residual import AtDesign, State, Weights
from femadj.algebra.second import carried, in_motion, stepped
from femadj.algebra.spectral import EigenState, Spectral
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
    turning : tuple of int
        Numbers of the eigenvectors that carry their rates; the others do not matter.
    """

    spectral: Spectral
    at: AtDesign
    state: EigenState
    turning: tuple[int, ...]

    @classmethod
    def along(cls, spectral: Spectral, direction: Design, lam: FloatArray | None) -> Turning:
        """One singular system for every eigenvector that ``lam`` weighs, solved on the factor of the problem."""
        at = in_motion(spectral.at, direction)
        x, r, slopes = _parted(spectral, direction)
        moved = np.zeros_like(x)
        turning = () if lam is None else tuple(np.flatnonzero(lam.any(axis=1)).tolist())
        if turning:
            some = x[list(turning)]
            nothing = np.zeros_like(some)
            masses, _ = spectral.at.pushforward(State(nothing, (nothing, some)), [direction])
            members = {i: list(cluster) for cluster in spectral.pairs.clusters for i in cluster}
            for i, mass in zip(turning, masses[0], strict=True):
                inside = x[members[i]]
                moved[i] = spectral.bordered(i, spectral.at.constraints.restrict(-r[i])) - (inside @ mass) @ inside / 2
        state = EigenState.of(stepped(spectral.values, slopes), stepped(x, moved))
        return cls(spectral, at, state, turning)

    def weights(self, seed: Seed, lam: FloatArray) -> Weights:
        """Weights of the gradient of a function of eigenvalues, whose seed knows them."""
        return weights_of(seed, np.zeros_like(self.state.u) if seed.adjoint is None else seed.adjoint, None)

    def near(self, t: float) -> EigenState:
        """Eigenvalues and eigenvectors carried by their rates."""
        return EigenState.of(carried(self.state.values, t), carried(self.state.u, t))

    def left(self, at: AtDesign, state: State) -> FloatArray:
        """``K x - lam M x`` at free unknowns, and ``x^T M x - 1`` along ``M x``, of the vectors that carry rates."""
        some = list(self.turning)
        x, values = state.u, carried(self.state.values, 0.0)
        mass = at.residual(State(np.zeros_like(x), (np.zeros_like(x), x)))
        sizes = size_of(values, self.spectral.pairs.pencil.shift) * ((x * mass).sum(axis=1) - 1)
        result = at.residual(state) + sizes[:, None] * mass
        left = np.zeros_like(result)
        left[some] = at.constraints.restrict(result)[some]
        return left


def _parted(spectral: Spectral, direction: Design) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The members of clusters that a direction chooses, ``r`` of all vectors ``(k, n)``, and rates of eigenvalues."""
    rates, _ = spectral.at.pushforward(spectral.state, [direction])
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
