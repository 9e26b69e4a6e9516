"""The discrete residual ``R(u; X, m) = K(X, m) u - f(X, m)`` of terms on a mesh, with supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from femadj.algebra.constraints import Condensed, Selection
from femadj.algebra.residual import State, Weights
from femadj.base.arrays import FloatArray, listing
from femadj.base.design import Cotangent, Design
from femadj.conditions.supports import Prescribed, Supports
from femadj.errors import TangledMeshError
from femadj.forms.term import Budget, Term, TermAt
from femadj.physics import BoundPhysics
from femadj.solvers.base import UNIT_ROUNDOFF, MatrixKind
from femadj.solvers.structure import CsrPattern
from femadj.space.discretisation import Discretisation
from femadj.space.parameters import Parameters
from femadj.space.pattern import MatrixEntries, Pattern

ROUNDING = 16 * UNIT_ROUNDOFF
"""Relative error of assembled entries, beside the terms that they are sums of."""


@dataclass(frozen=True, eq=False)
class FemResidual:
    """Internal terms, external terms (loads) and supports on a discretisation: a problem, once for a topology.

    Attributes
    ----------
    space : Discretisation
    pattern : Pattern
    internal, external : tuple of terms
        ``R`` is the sum of the internal ones less that of the external ones.
    supports : Supports
    constraints : Selection
        The supports as equations.
    parameters : Parameters
        Declared parameters with their values.
    kind : MatrixKind
    """

    space: Discretisation
    pattern: Pattern
    internal: tuple[Term, ...]
    external: tuple[Term, ...]
    supports: Supports
    constraints: Selection
    parameters: Parameters
    kind: MatrixKind

    @classmethod
    def of(
        cls,
        space: Discretisation,
        physics: BoundPhysics,
        loads: Sequence[Term],
        supports: Supports,
        parameters: Parameters,
    ) -> FemResidual:
        """Put together the terms of a physics, of loads and of supports."""
        kind: MatrixKind = "general" if not physics.symmetric else "spd" if physics.definite else "symmetric"
        pattern = space.pattern(symmetric=physics.symmetric)
        constraints = Selection.of(pattern.csr, supports.fixed)
        external = (*physics.external, *loads)
        return cls(space, pattern, physics.internal, external, supports, constraints, parameters, kind)

    @property
    def symmetric(self) -> bool:
        """Whether the matrix is symmetric."""
        return self.kind != "general"

    @property
    def is_linear(self) -> bool:
        """Whether the residual is linear in the unknowns."""
        return all(term.linear for term in self.internal) and not self.follows

    @property
    def follows(self) -> bool:
        """Whether some loads follow the unknowns."""
        return not all(term.linear for term in self.external)

    @property
    def structure(self) -> CsrPattern:
        """Structure of the matrix."""
        return self.pattern.csr

    @property
    def prefers_adjoint(self) -> bool:
        """False: both products with the derivatives are exact and cheap."""
        return False

    @property
    def rounding(self) -> float:
        """Entries are sums over cells and quadrature points."""
        return ROUNDING

    def prepare(self) -> None:
        """Compile the kernels, or load them from disk when an earlier run has compiled them."""
        for term in (*self.internal, *self.external):
            term.prepare()

    def at(self, design: Design) -> FemAtDesign:
        """Put the problem at a design; points that are None are those of the mesh.

        Raises
        ------
        InvalidMeshError, TangledMeshError
            For unusable coordinates.
        ParameterError
            For unknown names and values that do not fit.
        """
        mesh = self.space.mesh
        points = mesh.points if design.points is None else design.points
        if points is not mesh.points:
            mesh.require_untangled(points)
        parameters = self.parameters.updated(design.parameters)
        values = {name: entry.values for name, entry in parameters.entries.items() if entry.values is not None}
        return FemAtDesign(self, Design(points, values), points, parameters)


@dataclass(frozen=True, eq=False)
class FemAtDesign:
    """A problem put at a design. What is computed there is computed when it is first needed, and kept.

    States and residuals are flat, ``(n_cases, n)``; fields have the shape of the unknowns, ``(n_nodes, nc)``.

    Attributes
    ----------
    problem : FemResidual
    design : Design
        Node coordinates and the values of all parameters that have one.
    points : (n_nodes, dim)
    parameters : Parameters
    """

    problem: FemResidual
    design: Design
    points: FloatArray
    parameters: Parameters

    @property
    def space(self) -> Discretisation:
        """The unknowns."""
        return self.problem.space

    @property
    def symmetric(self) -> bool:
        """Whether the matrix is symmetric."""
        return self.problem.symmetric

    @property
    def structure(self) -> CsrPattern:
        """Structure of the matrix."""
        return self.problem.structure

    @property
    def constraints(self) -> Selection:
        """The supports as equations."""
        return self.problem.constraints

    @cached_property
    def _terms(self) -> tuple[tuple[TermAt, ...], tuple[TermAt, ...]]:
        """Internal and external terms; what they keep shares one budget."""
        budget, problem = Budget(), self.problem
        put = [
            tuple(term.at(self.points, self.parameters, budget) for term in terms)
            for terms in (problem.internal, problem.external)
        ]
        return put[0], put[1]

    # ------------------------------------------------------------------ what is computed once
    @cached_property
    def prescribed(self) -> Prescribed:
        """Values of the supports."""
        return self.problem.supports.prescribed(self.points)

    @cached_property
    def load(self) -> FloatArray:
        """Nodal forces of the external terms, read-only."""
        load, nothing = np.zeros(self.space.shape), np.zeros(self.space.shape)
        _, external = self._terms
        self._require_untangled(min([term.residual(nothing, load) for term in external], default=np.inf))
        load.setflags(write=False)
        return load

    @cached_property
    def condensed(self) -> Condensed:
        """The matrix, with the supports applied."""
        entries = MatrixEntries(self.problem.pattern, np.zeros(self.structure.nnz))
        internal, _ = self._terms
        nothing = np.zeros(self.space.shape)
        self._require_untangled(min(term.jacobian(nothing, entries) for term in internal))
        return self.constraints.condense(entries.data)

    def assemble(self) -> None:
        """Compute loads and matrix now; TangledMeshError when a Jacobian is not positive at a quadrature point."""
        _ = self.load, self.condensed

    def _require_untangled(self, low: float) -> None:
        if low > 0:
            return
        domains = [d for term in (*self.problem.internal, *self.problem.external) for d in term.domains]
        cells = np.unique(np.concatenate([d.tangled_cells(self.points) for d in domains]))
        raise TangledMeshError(
            f"cells {listing(cells)} are flat or turned inside out at a quadrature point", cells.tolist()
        )

    def require_linear_at(self, u: FloatArray) -> None:
        """Look at a few points whether the forms are linear in u at a solution ``(n_nodes, nc)``; FormError if not."""
        internal, _ = self._terms
        for term in internal:
            term.require_linear_at(u)

    @property
    def lifting(self) -> FloatArray:
        """A state with the prescribed values, zero elsewhere, ``(n_cases, n)``."""
        return self.prescribed.values.reshape(1, -1)

    def reactions(self, state: State) -> FloatArray:
        """``K u - f`` at unknowns with supports, zero at the others, ``(n_cases, n)``."""
        fixed, forces = self.constraints.unknowns, np.zeros(state.u.shape)
        forces[:, fixed] = (self.condensed.rows @ state.u.T).T - self.load.ravel()[fixed]
        return forces

    # ------------------------------------------------------------------ the residual and its products
    def residual(self, state: State) -> FloatArray:
        """``K u - f``, supports not applied, ``(n_cases, n)``."""
        return self.jvp(state, state.u) - self.load.ravel()

    def jacobian(self, state: State) -> Condensed:
        """``dR/du``, with the supports applied."""
        return self.condensed

    def jvp(self, state: State, du: FloatArray) -> FloatArray:
        """``K du`` ``(..., n)``, supports not applied."""
        return self.condensed.times(self.structure, self.constraints, du)

    def vjp(self, state: State, lam: FloatArray) -> FloatArray:
        """``K^T lam`` ``(..., n)``, supports not applied."""
        return self.condensed.times(self.structure, self.constraints, lam, transpose=True)

    def pullback(self, state: State, weights: Sequence[Weights], into: Sequence[Cotangent]) -> None:
        """Add ``external^T df - internal^T dK u + prescribed^T dg`` at a fixed state, one row for each response."""
        shape, (internal, external) = self.space.shape, self._terms
        for weight, cotangent in zip(weights, into, strict=True):
            for case, u in enumerate(state.u):
                field = u.reshape(shape)
                for term in internal:
                    term.pullback(field, weight.internal[case].reshape(shape), cotangent, -1.0)
                for term in external:
                    term.pullback(field, weight.external[case].reshape(shape), cotangent)
                if weight.prescribed is not None and cotangent.points is not None and self.prescribed.moves:
                    cotangent.points[...] += self.prescribed.pullback(weight.prescribed[case].reshape(shape))

    def pushforward(self, state: State, directions: Sequence[Design]) -> tuple[FloatArray, FloatArray]:
        """Rates of the residual at a fixed state and of the prescribed values, each ``(n_directions, n_cases, n)``."""
        rates = np.zeros((len(directions), *state.u.shape))
        moved = np.zeros_like(rates)
        for number, direction in enumerate(directions):
            if direction.points is not None:
                moved[number] = self.prescribed.pushforward(np.ascontiguousarray(direction.points)).ravel()
            for case, u in enumerate(state.u):
                rates[number, case] = self._rate(u.reshape(self.space.shape), direction).ravel()
        return rates, moved

    def _rate(self, u: FloatArray, direction: Design) -> FloatArray:
        points = None if direction.points is None else np.ascontiguousarray(direction.points)
        direction, y = Design(points, direction.parameters), np.zeros_like(u)
        internal, external = self._terms
        for term in external:
            term.pushforward(u, direction, y)
        np.negative(y, out=y)
        for term in internal:
            term.pushforward(u, direction, y)
        return y

    def zeros(self) -> Mapping[str, FloatArray]:
        """Zeros in the shape of every parameter."""
        return self.parameters.zeros()
