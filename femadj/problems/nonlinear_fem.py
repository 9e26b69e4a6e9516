"""The discrete residual ``R(u; X, m) = r(u; X, m) - f(u; X, m)`` of terms that are nonlinear in the unknowns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from femadj.algebra.constraints import Condensed
from femadj.algebra.newton import Forces
from femadj.algebra.residual import State
from femadj.base.arrays import FloatArray
from femadj.base.design import Design
from femadj.errors import ProblemError
from femadj.forms.term import TermAt
from femadj.problems.fem import FemAtDesign, FemResidual
from femadj.space.pattern import MatrixEntries


@dataclass(frozen=True, eq=False)
class NonlinearResidual(FemResidual):
    """Internal and external terms, some of them nonlinear, and supports: a problem, once for a topology."""

    def at(self, design: Design) -> NonlinearAtDesign:
        """Put the problem at a design; errors as those of a linear one."""
        put = super().at(design)
        return NonlinearAtDesign(self, put.design, put.points, put.parameters)


@dataclass(frozen=True, eq=False)
class NonlinearAtDesign(FemAtDesign):
    """A nonlinear problem put at a design: an ``Incremental`` residual.

    Its matrix belongs to a state and is not kept here. ``load`` is that of the forces which do not follow the state.
    """

    @property
    def condensed(self) -> Condensed:
        """There is no matrix without a state."""
        raise ProblemError("the matrix of a nonlinear problem depends on the state: at.jacobian(state)")

    def assemble(self) -> None:
        """Compute the dead loads now; TangledMeshError when a Jacobian is not positive at a quadrature point."""
        _ = self.load

    @cached_property
    def _external(self) -> tuple[tuple[TermAt, ...], tuple[TermAt, ...]]:
        """External terms that are the same at all states, and those that follow it."""
        pairs = list(zip(self.problem.external, self._terms[1], strict=True))
        dead, following = ([at for term, at in pairs if term.linear is dead] for dead in (True, False))
        return tuple(dead), tuple(following)

    @cached_property
    def load(self) -> FloatArray:
        """Nodal forces of the loads that do not follow the state, read-only."""
        load = self._sum(self._external[0], lambda term, into: term.residual(np.zeros_like(into), into))
        load.setflags(write=False)
        return load

    def _sum(self, terms: Sequence[TermAt], add: Callable[[TermAt, FloatArray], float | None]) -> FloatArray:
        """What terms add to nodal forces, in the shape of the unknowns."""
        into = np.zeros(self.space.shape)
        found = [add(term, into) for term in terms]
        self._require_untangled(min((low for low in found if low is not None), default=np.inf))
        return into

    # ------------------------------------------------------------------ a part of the loads
    def forces(self, u: FloatArray, level: float) -> Forces:
        """Internal forces, and a part of the external ones, ``(n,)`` each."""
        field = u.reshape(self.space.shape)
        internal = self._sum(self._terms[0], lambda term, into: term.residual(field, into))
        external = level * (self.load + self.following(field))
        return Forces(internal.ravel(), external.ravel())

    def following(self, field: FloatArray) -> FloatArray:
        """Nodal forces of the loads that follow the state, in the shape of the unknowns."""
        return self._sum(self._external[1], lambda term, into: term.residual(field, into))

    def tangent(self, u: FloatArray, level: float) -> Condensed:
        """Derivative of internal less a part of the external forces, supports applied."""
        field = u.reshape(self.space.shape)
        values = self._matrix(self._terms[0], field)
        if self.problem.follows and level:
            values -= level * self._matrix(self._external[1], field)
        return self.constraints.condense(values)

    def _matrix(self, terms: Sequence[TermAt], field: FloatArray) -> FloatArray:
        entries = MatrixEntries(self.problem.pattern, np.zeros(self.structure.nnz))
        self._require_untangled(min((term.jacobian(field, entries) for term in terms), default=np.inf))
        return entries.data

    # ------------------------------------------------------------------ the residual and its products
    def residual(self, state: State) -> FloatArray:
        """``r - f``, supports not applied, ``(n_cases, n)``."""
        found = [self.forces(u, 1.0) for u in state.u]
        return np.array([forces.internal - forces.external for forces in found])

    def reactions(self, state: State) -> FloatArray:
        """``r - f`` at unknowns with supports, zero at the others, ``(n_cases, n)``."""
        return np.where(self.constraints.constrained, self.residual(state), 0.0)

    def jacobian(self, state: State) -> Condensed:
        """``dR/du``, with the supports applied."""
        (u,) = state.u
        return self.tangent(u, 1.0)

    def jvp(self, state: State, du: FloatArray, rate: int = 0) -> FloatArray:
        """``(dR/du) du`` ``(..., n)``, supports not applied."""
        return self._product(state, du, lambda term, u, x, into: term.jvp(u, x, into))

    def vjp(self, state: State, lam: FloatArray, rate: int = 0) -> FloatArray:
        """``(dR/du)^T lam`` ``(..., n)``, supports not applied."""
        return self._product(state, lam, lambda term, u, x, into: term.vjp(u, x, into))

    def _product(
        self, state: State, x: FloatArray, add: Callable[[TermAt, FloatArray, FloatArray, FloatArray], None]
    ) -> FloatArray:
        (u,) = state.u.reshape(-1, *self.space.shape)
        result = np.empty((x.size // u.size, u.size))
        for row, along in zip(result, x.reshape(-1, *self.space.shape), strict=True):
            internal, external = (
                self._sum(terms, lambda term, into, along=along: add(term, u, along, into))  # type: ignore[misc]
                for terms in (self._terms[0], self._external[1])
            )
            row[...] = (internal - external).ravel()
        return result.reshape(x.shape)
