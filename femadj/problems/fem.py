"""The discrete residual ``R(u; X, m) = K(X, m) u + C u' + M u'' - f(X, m)`` of terms on a mesh, with supports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np

from femadj.algebra.constraints import Condensed, Diagonal, Selection
from femadj.algebra.residual import State, Weights
from femadj.base.arrays import FloatArray, listing
from femadj.base.complex_step import STEP
from femadj.base.design import Cotangent, Design
from femadj.conditions.supports import Prescribed, Supports
from femadj.errors import SecondOrderError, TangledMeshError
from femadj.forms.term import Budget, MovingTerm, Term, TermAt
from femadj.physics import BoundPhysics
from femadj.physics.base import NullModes
from femadj.solvers.matrix import UNIT_ROUNDOFF, MatrixKind
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
    null_modes : callable
        ``null_modes(points)``: what the internal terms leave undetermined without supports.
    """

    space: Discretisation
    pattern: Pattern
    internal: tuple[Term, ...]
    external: tuple[Term, ...]
    supports: Supports
    constraints: Selection
    parameters: Parameters
    kind: MatrixKind
    null_modes: Callable[[FloatArray], NullModes]

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
        modes = physics.null_modes
        return cls(space, pattern, physics.internal, external, supports, constraints, parameters, kind, modes)

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
        return FemAtDesign(self, Design(points, parameters.known), points, parameters)


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

    @property
    def _internal(self) -> Iterator[tuple[int, TermAt]]:
        """Internal terms, each with the order of the time derivative that it acts on."""
        return zip((term.rate for term in self.problem.internal), self._terms[0], strict=True)

    # ------------------------------------------------------------------ what is computed once
    @cached_property
    def prescribed(self) -> Prescribed:
        """Values of the supports."""
        return self.problem.supports.prescribed(self.points)

    @cached_property
    def load(self) -> FloatArray:
        """Nodal forces of the external terms, read-only."""
        load, nothing = np.zeros(self.space.shape, dtype=self.points.dtype), np.zeros(self.space.shape)
        _, external = self._terms
        self._require_untangled(min([term.residual(nothing, load) for term in external], default=np.inf))
        load.setflags(write=False)
        return load

    @property
    def condensed(self) -> Condensed:
        """The stiffness, with the supports applied."""
        return self.operator(0)

    @cached_property
    def _operators(self) -> dict[int, Condensed]:
        return {}

    def operator(self, rate: int) -> Condensed:
        """The matrix of a time derivative (0 stiffness, 1 damping, 2 mass), with the supports applied.

        The diagonal of supported rows keeps its size in the stiffness, and is zero in the others.
        """
        if rate not in self._operators:
            entries = MatrixEntries(self.problem.pattern, np.zeros(self.structure.nnz))
            nothing = np.zeros(self.space.shape)
            lows = [term.jacobian(nothing, entries) for order, term in self._internal if order == rate]
            self._require_untangled(min(lows, default=np.inf))
            self._operators[rate] = self.constraints.condense(entries.data, "zero" if rate else "kept")
        return self._operators[rate]

    def combined(self, weights: Sequence[float], diagonal: Diagonal = "kept") -> Condensed:
        """Sum of the matrices of all time derivatives, times weights by their order; supports applied."""
        return self.constraints.combined(
            [(weight, self.operator(rate)) for rate, weight in enumerate(weights) if weight], diagonal
        )

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

    def modes(self) -> FloatArray | None:
        """Fields ``(n, n_modes)`` that the matrix maps to zero away from supports, zero there.

        Constants where the physics does not tell; None for unknowns that are no values at mesh nodes.
        """
        if not self.space.nodal:
            return None
        fields, nc = self.problem.null_modes(self.points).fields, self.space.n_components
        if not len(fields):
            fields = np.tile(np.eye(nc)[:, None], (1, len(self.points), 1))
        return np.ascontiguousarray(self.constraints.restrict(fields.reshape(len(fields), -1)).T)

    # ------------------------------------------------------------------ the residual and its products
    def residual(self, state: State) -> FloatArray:
        """``K u + C u' + M u'' - f``, supports not applied, ``(n_cases, n)``."""
        result = self.jvp(state, state.u)
        for rate, derivative in enumerate(state.rates, start=1):
            result += self.jvp(state, derivative, rate)
        return result - self.load.ravel()

    def jacobian(self, state: State) -> Condensed:
        """``dR/du``, with the supports applied."""
        return self.condensed

    def jvp(self, state: State, du: FloatArray, rate: int = 0) -> FloatArray:
        """``K du`` ``(..., n)``, supports not applied; with a rate, the matrix of that time derivative."""
        return self.operator(rate).times(self.structure, self.constraints, du)

    def vjp(self, state: State, lam: FloatArray, rate: int = 0) -> FloatArray:
        """``K^T lam`` ``(..., n)``, supports not applied; with a rate, the matrix of that time derivative."""
        return self.operator(rate).times(self.structure, self.constraints, lam, transpose=True)

    def pullback(self, state: State, weights: Sequence[Weights], into: Sequence[Cotangent]) -> None:
        """Add ``external^T df - internal^T dK u + prescribed^T dg`` at a fixed state, one row for each response.

        Time derivatives of the state are paired with their matrices: ``- internal^T (dK u + dC u' + dM u'')``.
        """
        shape, external = self.space.shape, self._terms[1]
        for weight, cotangent in zip(weights, into, strict=True):
            for case in range(len(state.u)):
                for rate, term in self._internal if weight.internal[case].any() else ():
                    if (field := state.derivative(rate)) is not None:
                        by = weight.internal[case].reshape(shape)
                        term.pullback(field[case].reshape(shape), by, cotangent, -1.0)
                for term in external:
                    term.pullback(state.u[case].reshape(shape), weight.external[case].reshape(shape), cotangent)
                if weight.prescribed is not None and cotangent.points is not None and self.prescribed.moves:
                    cotangent.points[...] += self.prescribed.pullback(weight.prescribed[case].reshape(shape))

    def pushforward(self, state: State, directions: Sequence[Design]) -> tuple[FloatArray, FloatArray]:
        """Rates of the residual at a fixed state and of the prescribed values, each ``(n_directions, n_cases, n)``."""
        rates = np.zeros((len(directions), *state.u.shape))
        moved = np.zeros_like(rates)
        for number, direction in enumerate(directions):
            if direction.points is not None:
                moved[number] = self.prescribed.pushforward(np.ascontiguousarray(direction.points)).ravel()
            for case in range(len(state.u)):
                rates[number, case] = self._rate(state, case, direction).ravel()
        return rates, moved

    def _rate(self, state: State, case: int, direction: Design) -> FloatArray:
        points = None if direction.points is None else np.ascontiguousarray(direction.points)
        direction, y = Design(points, direction.parameters), np.zeros(self.space.shape)
        for term in self._terms[1]:
            term.pushforward(state.u[case].reshape(y.shape), direction, y)
        np.negative(y, out=y)
        for rate, term in self._internal:
            if (field := state.derivative(rate)) is not None:
                term.pushforward(field[case].reshape(y.shape), direction, y)
        return y

    def zeros(self) -> Mapping[str, FloatArray]:
        """Zeros in the shape of every parameter."""
        return self.parameters.zeros()

    def shifted(self, direction: Design, t: float) -> FemAtDesign:
        """The problem at the design ``d + t direction``."""
        points = self.points if direction.points is None else self.points + t * direction.points
        moved = {name: self.parameters.value(name) + t * rate for name, rate in direction.parameters.items()}
        return self.problem.at(Design(points, {**self.design.parameters, **moved}))

    def in_motion(self, direction: Design) -> FemInMotion:
        """The problem at the complex design ``d + i STEP direction``: what is computed there carries its rate.

        Raises
        ------
        SecondOrderError
            For terms that do not tell their second derivatives.
        """
        for term in (*self.problem.internal, *self.problem.external):
            if not callable(getattr(term, "in_motion", None)):
                raise SecondOrderError(
                    f"{type(term).__name__} does not tell its second derivatives: give the term a method "
                    "in_motion(points, parameters, budget) (femadj.forms.term.MovingTerm), or write it as a form"
                )
        velocity = np.zeros_like(self.points) if direction.points is None else direction.points
        points: Any = np.ascontiguousarray(self.points + 1j * STEP * velocity)
        parameters = self.parameters.in_motion(direction.parameters)
        values = {name: entry.values for name, entry in parameters.entries.items() if entry.values is not None}
        return FemInMotion(self.problem, Design(points, values), points, parameters)


@dataclass(frozen=True, eq=False)
class FemInMotion(FemAtDesign):
    """A problem at a design that carries a complex step, and so does all that it is asked for; no matrix is made."""

    @cached_property
    def _terms(self) -> tuple[tuple[TermAt, ...], tuple[TermAt, ...]]:
        budget, problem = Budget(), self.problem
        put: list[tuple[TermAt, ...]] = [
            tuple(cast(MovingTerm, term).in_motion(self.points, self.parameters, budget) for term in terms)
            for terms in (problem.internal, problem.external)
        ]
        return put[0], put[1]

    def reactions(self, state: State) -> FloatArray:
        """``K u - f`` at unknowns with supports."""
        return np.where(self.constraints.constrained, self.residual(state), 0.0)

    def residual(self, state: State) -> FloatArray:
        """``R``, by one pass over the mesh; external terms may follow the state."""
        result = np.zeros(state.u.shape, dtype=complex)
        for case, y in enumerate(result.reshape(-1, *self.space.shape)):
            for term in self._terms[1]:
                term.residual(state.u[case].reshape(y.shape), y)
            np.negative(y, out=y)
            for rate, term in self._internal:
                if (field := state.derivative(rate)) is not None:
                    term.residual(field[case].reshape(y.shape), y)
        return result

    def jvp(self, state: State, du: FloatArray, rate: int = 0) -> FloatArray:
        """``(dR/du) du`` ``(n_cases, n)``, or by a time derivative, by one pass over the mesh."""
        return self._product("jvp", state, du, rate)

    def vjp(self, state: State, lam: FloatArray, rate: int = 0) -> FloatArray:
        """``(dR/du)^T lam`` ``(n_cases, n)``, or by a time derivative, by one pass over the mesh."""
        return self._product("vjp", state, lam, rate)

    def _product(self, name: Literal["jvp", "vjp"], state: State, x: FloatArray, rate: int) -> FloatArray:
        shape, result = self.space.shape, np.zeros(state.u.shape, dtype=complex)
        fields = state.derivative(rate)
        for case, (given, flat) in enumerate(zip(x, result, strict=True)):
            field, y = np.zeros(shape) if fields is None else fields[case].reshape(shape), flat.reshape(shape)
            for term in self._terms[1] if rate == 0 else ():
                getattr(term, name)(field, given.reshape(shape), y)
            np.negative(y, out=y)
            for order, term in self._internal:
                if order == rate:
                    getattr(term, name)(field, given.reshape(shape), y)
        return result
