"""Residuals ``r(x, theta)`` of plain functions, with the user's own solver: called and differentiated with checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from femadj.algebra.callables import described, random_like, real_matrix, require_derivative, unit
from femadj.algebra.constraints import Condensed, Unconstrained
from femadj.algebra.growing import GrowingPattern, require_size
from femadj.algebra.plain import THETA
from femadj.algebra.residual import State, Weights
from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import as_argument, as_array, called, key_of, read_only, samples
from femadj.base.complex_step import derivative, seed
from femadj.base.design import Cotangent, Design
from femadj.errors import ConvergenceError, LinearSystemError
from femadj.solvers import UNIT_ROUNDOFF, MatrixKind
from femadj.solvers.structure import CsrPattern

MOST_UNKNOWNS = 1000
"""Unknowns up to which the Jacobian of a residual is found by complex steps, one evaluation each."""

RESIDUAL, SOLVE, JACOBIAN, CONTRACTION = (
    "residual(x, theta)", "solve(theta)", "jacobian(x, theta)", "contraction(x, theta, lam)",
)  # fmt: skip

_ADVICE = (
    "Write it with NumPy operations on x and theta (np.cos, not math.cos; arrays with dtype=np.result_type(x, theta, "
    "float)), or give jacobian= for the derivative by x and contraction= for that by theta"
)


@dataclass(frozen=True, eq=False)
class Functions:
    """A residual of plain functions.

    Attributes
    ----------
    residual, solve : callable
    jacobian, contraction : callable or None
    kind : MatrixKind
    entries : GrowingPattern
        Of the Jacobian.
    check : bool
    """

    residual: Callable[[Any, Any], Any]
    solve: Callable[[Any], Any]
    jacobian: Callable[[Any, Any], Any] | None
    contraction: Callable[[Any, Any, Any], Any] | None
    kind: MatrixKind
    entries: GrowingPattern
    check: bool

    @property
    def structure(self) -> CsrPattern | None:
        """Structure of the Jacobian that was evaluated last."""
        return self.entries.pattern

    @property
    def prefers_adjoint(self) -> bool:
        """With a contraction, derivatives along directions would rely on complex steps, which were not asked for."""
        return self.contraction is not None

    @property
    def rounding(self) -> float:
        """Entries are taken as they are given: rounded once."""
        return UNIT_ROUNDOFF

    def at(self, design: Design) -> FunctionsAtDesign:
        """Solve at theta, by the user's solver, and linearise there."""
        theta = design.parameters[THETA]
        raw = called(self.solve, SOLVE, as_argument(theta))
        x = real_vector(raw, SOLVE)
        if not np.isfinite(x).all():
            raise ConvergenceError(
                f"{SOLVE} returns NaN or infinite entries, first x[{int(np.argmin(np.isfinite(x)))}], at "
                f"{described(theta)}: it has not converged"
            )
        return self.linearised(theta, x)

    def linearised(self, theta: FloatArray, x: FloatArray) -> FunctionsAtDesign:
        """Linearise at a state that has been found already."""
        matrix = self.jacobian_at(theta, x)
        if self.check:
            _require_slopes(self, theta, x, matrix)
        values = self.entries.values(matrix)
        pattern = self.entries.pattern
        assert pattern is not None
        return FunctionsAtDesign(self, Design(parameters={THETA: theta}), pattern, read_only(x.copy()), values)

    # ------------------------------------------------------------------ evaluation
    def residual_at(self, theta: FloatArray, x: FloatArray) -> FloatArray:
        """``r``, finite and of the size of x."""
        raw = called(self.residual, RESIDUAL, read_only(x), as_argument(theta))
        return as_array(raw, x.shape, RESIDUAL, LinearSystemError)

    def rate(self, theta: FloatArray, x: FloatArray, dtheta: FloatArray | None, dx: FloatArray | None) -> FloatArray:
        """``dr`` along a direction of theta and x, by complex step; None does not move."""
        moved = read_only(x) if dx is None else seed(x, dx)
        at = as_argument(theta) if dtheta is None else seed(theta, dtheta)
        found = derivative(called(self.residual, RESIDUAL, moved, at, advice=_ADVICE))
        return as_array(found, x.shape, f"the derivative of {RESIDUAL}", LinearSystemError)

    def jacobian_at(self, theta: FloatArray, x: FloatArray) -> sp.csr_array:
        """``dr/dx``, the user's or by complex steps."""
        n = len(x)
        if self.jacobian is not None:
            matrix = real_matrix(called(self.jacobian, JACOBIAN, read_only(x), as_argument(theta)), JACOBIAN)
            require_size(matrix.shape[0], n)
            as_array(matrix.data, matrix.data.shape, JACOBIAN, LinearSystemError)
            return matrix
        if n > MOST_UNKNOWNS:
            raise LinearSystemError(
                f"the Jacobian of {n} unknowns by complex steps would take as many evaluations and a full matrix: give "
                "jacobian=, a function of (x, theta) that returns a sparse matrix"
            )
        columns = [self.rate(theta, x, None, direction) for direction in np.eye(n)]
        return sp.csr_array(np.stack(columns, axis=1))

    def by_theta(self, theta: FloatArray, x: FloatArray, lam: FloatArray) -> FloatArray:
        """``lam^T dr/dtheta`` for every row of lam: ``(k, *theta.shape)``."""
        if self.contraction is not None:
            arguments = read_only(x), as_argument(theta)
            raws = [called(self.contraction, CONTRACTION, *arguments, read_only(row)) for row in lam]
            return np.stack([as_array(raw, theta.shape, CONTRACTION, LinearSystemError) for raw in raws])
        found = np.empty((len(lam), theta.size))
        for number in range(theta.size):
            found[:, number] = (lam * self.rate(theta, x, unit(theta, number), None)).sum(axis=1)
        return found.reshape(len(lam), *theta.shape)


@dataclass(frozen=True, eq=False)
class FunctionsAtDesign:
    """``r(x, theta)`` at one theta, linearised at the state that the user's solver has found.

    Attributes
    ----------
    functions : Functions
    design : Design
    structure : CsrPattern
    x : (n,)
    values : (nnz,)
        The Jacobian there.
    """

    functions: Functions
    design: Design
    structure: CsrPattern
    x: FloatArray
    values: FloatArray

    @property
    def theta(self) -> FloatArray:
        """Where it is."""
        return self.design.parameters[THETA]

    @property
    def constraints(self) -> Unconstrained:
        """All unknowns are free."""
        return Unconstrained(self.structure.n)

    @property
    def lifting(self) -> FloatArray:
        """The state that was found: all unknowns are free."""
        return self.x[None]

    def modes(self) -> None:
        """None are known."""

    def residual(self, state: State) -> FloatArray:
        """``r``."""
        return self.functions.residual_at(self.theta, state.u[0])[None]

    def jacobian(self, state: State) -> Condensed:
        """``dr/dx``; at another state than that found it is evaluated anew, on a structure of its own."""
        return self.constraints.condense(self._at(state.u[0]).values)

    def jvp(self, state: State, du: FloatArray) -> FloatArray:
        """``(dr/dx) du``."""
        at = self._at(state.u[0])
        return self.constraints.condense(at.values).times(at.structure, self.constraints, du)

    def vjp(self, state: State, lam: FloatArray) -> FloatArray:
        """``(dr/dx)^T lam``."""
        at = self._at(state.u[0])
        return self.constraints.condense(at.values).times(at.structure, self.constraints, lam, transpose=True)

    def pullback(self, state: State, weights: Sequence[Weights], into: Sequence[Cotangent]) -> None:
        """Add ``-lam^T dr/dtheta``; internal and external weights must be the same adjoint state."""
        lam = np.concatenate([weight.internal for weight in weights])
        for row, cotangent in zip(self.functions.by_theta(self.theta, state.u[0], lam), into, strict=True):
            cotangent.parameters[THETA][...] -= row

    def pushforward(self, state: State, directions: Sequence[Design]) -> tuple[FloatArray, FloatArray]:
        """``dr`` along directions of theta; nothing is prescribed."""
        x = state.u[0]
        rates = [self.functions.rate(self.theta, x, along.parameters[THETA], None) for along in directions]
        return np.stack(rates)[:, None], np.zeros((len(rates), 1, len(x)))

    def _at(self, x: FloatArray) -> FunctionsAtDesign:
        if np.array_equal(x, self.x):
            return self
        functions = self.functions
        entries = GrowingPattern(functions.kind, JACOBIAN)
        values = entries.values(functions.jacobian_at(self.theta, x))
        assert entries.pattern is not None
        return FunctionsAtDesign(functions, self.design, entries.pattern, x, values)


def real_vector(raw: Any, name: str) -> FloatArray:
    """A user's unknowns as a float64 array (n,), finite or not."""
    try:
        array = np.asarray(raw)
    except (TypeError, ValueError) as cause:
        raise LinearSystemError(f"{name} must return an array (n,), not {type(raw).__name__} ({cause})") from cause
    if array.dtype.kind not in "fiu" or array.ndim != 1 or not array.size:
        raise LinearSystemError(
            f"{name} must return the unknowns, real numbers of shape (n,), not {type(raw).__name__} with {array.dtype} "
            f"entries of shape {array.shape}"
        )
    return array.astype(np.float64)


def _require_slopes(functions: Functions, theta: FloatArray, x: FloatArray, matrix: sp.csr_array) -> None:
    """Compare the derivatives by x and theta with differences, along random directions."""
    rng = samples(key_of(x), key_of(theta))
    dx, dtheta, lam = random_like(x, rng), random_like(theta, rng), rng.uniform(-1, 1, len(x))
    sizes = abs(matrix) @ np.abs(x) + np.abs(functions.residual_at(theta, x))  # of the terms that cancel in r
    origin, advice = ("complex steps", _ADVICE) if functions.jacobian is None else (JACOBIAN, "Correct it: dr_i/dx_j")
    require_derivative(
        lambda t: functions.residual_at(theta, x + t * dx), matrix @ dx, sizes,
        f"the derivative of {RESIDUAL} by x, from {origin},", advice,
    )  # fmt: skip
    if functions.contraction is None:
        require_derivative(
            lambda t: functions.residual_at(theta + t * dtheta, x), functions.rate(theta, x, dtheta, None), sizes,
            f"the derivative of {RESIDUAL} by theta, from complex steps,", _ADVICE,
        )  # fmt: skip
    else:
        require_derivative(
            lambda t: np.array([inner(lam, functions.residual_at(theta + t * dtheta, x))]),
            np.array([inner(functions.by_theta(theta, x, lam[None])[0], dtheta)]),
            np.array([inner(np.abs(lam), sizes)]), CONTRACTION, "It must be lam^T dr/dtheta for any x and lam",
        )  # fmt: skip


def require_solved(x: FloatArray, correction: FloatArray, residual: FloatArray, tolerance: float) -> None:
    """An error where Newton's correction of a state says that it is further from a solution than the tolerance."""
    size, off = float(np.abs(x).max()), float(np.abs(correction).max())
    if not off <= tolerance * size:
        worst, row = int(np.abs(correction).argmax()), int(np.abs(residual).argmax())
        raise ConvergenceError(
            f"x is no solution of {RESIDUAL} = 0: x[{worst}] = {x[worst]:.6g} is off by about {off:.1e} (by Newton's "
            f"correction; the largest residual is {residual[row]:.1e}, in row {row}), more than tolerance = "
            f"{tolerance:g} of the largest entry of x. Let the solver "
            "iterate further, or allow more by tolerance=: gradients come with an estimate of their error"
        )
