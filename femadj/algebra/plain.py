"""Systems ``A(theta) x = b(theta)`` without a mesh: what one has to offer to be solved and differentiated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from femadj.algebra.constraints import Condensed, Unconstrained
from femadj.algebra.residual import State, Weights
from femadj.base.arrays import FloatArray
from femadj.base.calls import as_array
from femadj.base.design import Cotangent, Design
from femadj.errors import LinearSystemError
from femadj.solvers import UNIT_ROUNDOFF, MatrixKind
from femadj.solvers.structure import CsrPattern


class Assembled(Protocol):
    """Matrix and right-hand side at one theta."""

    @property
    def values(self) -> FloatArray:
        """Matrix entries on the pattern, (nnz,)."""
        ...

    @property
    def rhs(self) -> FloatArray:
        """Right-hand side, (n,)."""
        ...


class ParametricSystem(Protocol):
    """A system ``A(theta) x = b(theta)`` and the products with its derivatives by theta.

    ``theta`` is a float64 array of any shape (0-d for a single number) that must not be written to.
    """

    @property
    def kind(self) -> MatrixKind:
        """What the matrix is."""
        ...

    @property
    def pattern(self) -> CsrPattern | None:
        """Structure of the values assembled last; None where it is known only then. A new object: a new structure."""
        ...

    @property
    def prefers_adjoint(self) -> bool:
        """Whether ``mode="auto"`` must not pick the tangent, because ``pushforward`` is expensive or uncertain."""
        ...

    def assemble(self, theta: FloatArray) -> Assembled:
        """Matrix and right-hand side."""
        ...

    def pullback(self, theta: FloatArray, x: FloatArray, lam: FloatArray) -> FloatArray:
        """``lam^T (db/dtheta - dA/dtheta x)`` for ``lam`` (k, n): shape ``(k, *theta.shape)``."""
        ...

    def pushforward(self, theta: FloatArray, directions: FloatArray, x: FloatArray) -> FloatArray:
        """``db - dA x`` along ``directions`` ``(k, *theta.shape)``: shape (k, n)."""
        ...


THETA = "theta"
"""Name of the parameter that a system of plain functions depends on."""


@dataclass(frozen=True, eq=False)
class PlainResidual:
    """``R(x; theta) = A(theta) x - b(theta)`` without a mesh: the design is the one parameter ``theta``.

    Attributes
    ----------
    system : ParametricSystem
    """

    system: ParametricSystem

    @property
    def kind(self) -> MatrixKind:
        """What the matrix is."""
        return self.system.kind

    @property
    def structure(self) -> CsrPattern | None:
        """Structure of the matrix that was assembled last."""
        return self.system.pattern

    @property
    def prefers_adjoint(self) -> bool:
        """Whether the tangent is expensive or uncertain."""
        return self.system.prefers_adjoint

    @property
    def rounding(self) -> float:
        """Entries are taken as they are given: rounded once."""
        return UNIT_ROUNDOFF

    def at(self, design: Design) -> PlainAtDesign:
        """Assemble at theta."""
        theta = design.parameters[THETA]
        assembled = self.system.assemble(theta)
        pattern = self.system.pattern
        if pattern is None:
            raise LinearSystemError(f"{type(self.system).__name__} has no pattern after assemble(theta)")
        return PlainAtDesign(self.system, design, pattern, assembled)


@dataclass(frozen=True, eq=False)
class PlainAtDesign:
    """``A x - b`` at one theta.

    Attributes
    ----------
    system : ParametricSystem
    design : Design
    structure : CsrPattern
    assembled : Assembled
    """

    system: ParametricSystem
    design: Design
    structure: CsrPattern
    assembled: Assembled

    @property
    def constraints(self) -> Unconstrained:
        """All unknowns are free."""
        return Unconstrained(self.structure.n)

    @property
    def lifting(self) -> FloatArray:
        """Zero."""
        return np.zeros((1, self.structure.n))

    def modes(self) -> None:
        """None are known."""

    def residual(self, state: State) -> FloatArray:
        """``A x - b``."""
        return self.jvp(state, state.u) - self.assembled.rhs

    def jacobian(self, state: State) -> Condensed:
        """``A``."""
        return self.constraints.condense(self.assembled.values)

    def jvp(self, state: State, du: FloatArray) -> FloatArray:
        """``A du``."""
        return self.jacobian(state).times(self.structure, self.constraints, du)

    def vjp(self, state: State, lam: FloatArray) -> FloatArray:
        """``A^T lam``."""
        return self.jacobian(state).times(self.structure, self.constraints, lam, transpose=True)

    def pullback(self, state: State, weights: Sequence[Weights], into: Sequence[Cotangent]) -> None:
        """Add ``lam^T (db - dA x)``; internal and external weights must be the same adjoint state."""
        theta = self.design.parameters[THETA]
        lam = np.concatenate([weight.internal for weight in weights])
        raw = self.system.pullback(theta, state.u[0], lam)
        what = "the derivative of matrix and right-hand side (pullback)"
        for row, cotangent in zip(as_array(raw, (len(lam), *theta.shape), what, LinearSystemError), into, strict=True):
            cotangent.parameters[THETA][...] += row

    def pushforward(self, state: State, directions: Sequence[Design]) -> tuple[FloatArray, FloatArray]:
        """``dA x - db`` along directions of theta; nothing is prescribed."""
        theta, x = self.design.parameters[THETA], state.u[0]
        along = np.stack([direction.parameters[THETA] for direction in directions])
        raw = self.system.pushforward(theta, along, x)
        what = "the derivative of matrix and right-hand side (pushforward)"
        rates = as_array(raw, (len(along), len(x)), what, LinearSystemError)
        return -rates[:, None], np.zeros((len(along), 1, len(x)))
