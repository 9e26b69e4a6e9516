"""The implicit-function theorem: derivatives of a solved residual ``R(u; d) = 0`` along its solution, once for all.

For a response ``J(u; d)`` with the adjoint state of ``(T^T R_u T)^T lam = T^T dJ/du``,

    dJ/dd = pJ/pd - lam^T pR/pd + mu^T dg/dd,    mu = dJ/du - R_u^T lam   at constrained unknowns,

and along a direction ``R_u du = -dR/dd dd``. Both run on the factor that the solution was found with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from femadj.algebra.constraints import Condensed
from femadj.algebra.residual import AtDesign, State, Weights
from femadj.base.arrays import FloatArray
from femadj.base.design import Cotangent, Design
from femadj.progress import Phases
from femadj.solvers.factor import Factor, TransposedFactor
from femadj.solvers.matrix import UNIT_ROUNDOFF
from femadj.solvers.nearby import NearbyFactor


@dataclass(frozen=True, eq=False)
class Seed:
    """Partial derivatives of a response by what a residual has at a solution; each ``(n_cases, n)``, None is zero.

    Attributes
    ----------
    state : array or None
        ``dJ/du``, all dependence included.
    internal, external : array or None
        Where the response contains the internal or external forces themselves: adds ``internal^T d(K u)`` and
        ``external^T df`` at a fixed state.
    adjoint : array or None
        The adjoint state where it is known without a solve.
    """

    state: FloatArray | None = None
    internal: FloatArray | None = None
    external: FloatArray | None = None
    adjoint: FloatArray | None = None

    @property
    def solves(self) -> int:
        """Adjoint systems that have to be solved."""
        return int(self.state is not None and self.adjoint is None)

    @property
    def depends(self) -> bool:
        """Whether the residual matters for the response at all."""
        return any(part is not None for part in (self.state, self.internal, self.external, self.adjoint))


@dataclass(frozen=True, eq=False)
class Implicit:
    """A residual solved at a design.

    Attributes
    ----------
    at : AtDesign
    state : State
    factor : Factor
        Of the matrix at the solution, constraints applied.
    error : float or None
        Bound of the relative error of the state; None where no sign of a large condition asked for it.
    """

    at: AtDesign
    state: State
    factor: Factor
    error: float | None = None

    @classmethod
    def linear(cls, at: AtDesign, factor: Factor) -> Implicit:
        """Solve a residual that is linear in the state, all load cases as one block."""
        start = State(at.lifting)
        rhs = at.constraints.restrict(-at.residual(start))
        q = _solved(factor, rhs)
        error = factor.statistics.forward_error
        return cls(at, State(_frozen(start.u + at.constraints.expand(q))), factor, error)

    @cached_property
    def tangent(self) -> Condensed:
        """``R_u`` at the state."""
        return self.at.jacobian(self.state)

    @property
    def solver(self) -> Factor | NearbyFactor:
        """What solves with the tangent."""
        return self.factor

    @cached_property
    def left(self) -> FloatArray:
        """What iterations have left of the residual at free unknowns, ``(n_cases, n)``."""
        return self.at.constraints.restrict(self.at.residual(self.state))

    def corrected(self) -> Implicit:
        """The state less what the factor, or another preconditioner, makes of the residual that is left."""
        step = self.at.constraints.expand(self.factor.approximate(np.ascontiguousarray(self.left)))
        return replace(self, state=State(_frozen(self.state.u - step)))

    def corrected_adjoint(self, lam: FloatArray, rhs: FloatArray) -> FloatArray:
        """An adjoint state ``(n_cases, n)`` for this right-hand side, from one that is near by, corrected like that."""
        constraints = self.at.constraints
        left = constraints.restrict(rhs - self.at.vjp(self.state, lam))
        return lam + constraints.expand(self.factor.approximate(np.ascontiguousarray(left), transposed=True))

    def adjoint(self, rhs: FloatArray) -> FloatArray:
        """``T lam`` with ``(T^T R_u T)^T lam = T^T rhs``, for ``rhs`` ``(k, n)``."""
        constraints = self.at.constraints
        return constraints.expand(_solved(self.solver.T, constraints.restrict(rhs)))

    def weights(self, seeds: Sequence[Seed], phases: Phases) -> list[Weights]:
        """Adjoint states of all responses, solved as one block, and what they make of the weights."""
        shape = self.state.u.shape
        wanted = [number for number, seed in enumerate(seeds) if seed.solves]
        with phases("solve adjoint"):
            found = {}
            if wanted:
                block = self.adjoint(np.concatenate([_given(seeds[number].state, shape) for number in wanted]))
                found = dict(zip(wanted, block.reshape(len(wanted), *shape), strict=True))
        return [self.weighted(seed, found.get(number)) for number, seed in enumerate(seeds)]

    def weighted(self, seed: Seed, solved: FloatArray | None) -> Weights:
        """What derivatives of the residual are paired with, for an adjoint state that has been solved for."""
        constraints = self.at.constraints
        known = seed.adjoint if solved is None else solved
        lam = np.zeros(self.state.u.shape) if known is None else constraints.expand(known)
        prescribed = None
        if seed.state is not None:
            reaction = self.tangent.by_columns(lam)
            prescribed = np.zeros_like(lam)
            prescribed[:, constraints.constrained] = seed.state[:, constraints.constrained] - reaction
        return weights_of(seed, lam, prescribed)

    def pullback(self, weights: Sequence[Weights], into: Sequence[Cotangent], phases: Phases) -> None:
        """Add the derivatives by the design, without those of the responses themselves."""
        with phases("contract"):
            self.at.pullback(self.state, weights, into)

    def pushforward(self, directions: Sequence[Design]) -> FloatArray:
        """``du`` along directions, one solve each: ``(n_directions, n_cases, n)``."""
        rates, moved = self.at.pushforward(self.state, directions)
        if moved.any():
            rates = rates + self.at.jvp(self.state, moved)
        constraints = self.at.constraints
        rhs = constraints.restrict(-rates).reshape(-1, rates.shape[-1])
        return moved + constraints.expand(_solved(self.solver, rhs)).reshape(rates.shape)


def weights_of(seed: Seed, lam: FloatArray, prescribed: FloatArray | None) -> Weights:
    """Weights of the gradient, from an adjoint state."""
    return Weights(
        lam if seed.internal is None else lam - seed.internal,
        lam if seed.external is None else lam + seed.external,
        prescribed,
    )


def adjoint_of(weights: Weights, seed: Seed) -> FloatArray:
    """The adjoint state that weights have been made of."""
    return weights.internal if seed.internal is None else weights.internal + seed.internal


@dataclass(frozen=True, eq=False)
class Iterated(Implicit):
    """A residual whose state was found by iterations.

    The factor is that of the last iteration, whose state was another one: with it alone, derivatives would have the
    square root of the accuracy of the state. Solves are refined with the tangent at the state itself; no further
    factorisation is needed.
    """

    @cached_property
    def solver(self) -> NearbyFactor:
        """Refinement with the tangent at the state."""
        return NearbyFactor.of(self.factor, self.tangent.values, 16 * UNIT_ROUNDOFF)


def _solved(factor: Factor | TransposedFactor | NearbyFactor, rhs: FloatArray) -> FloatArray:
    """Solve for the rows of ``(k, n)``; a single one goes as a vector."""
    if len(rhs) == 1:
        return factor.solve(rhs[0])[None]
    return np.ascontiguousarray(factor.solve(rhs.T).T)


def _given(array: FloatArray | None, shape: tuple[int, ...]) -> FloatArray:
    return np.zeros(shape) if array is None else array


def _frozen(array: FloatArray) -> FloatArray:
    array.setflags(write=False)
    return array
