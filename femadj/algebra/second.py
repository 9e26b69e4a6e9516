"""Second derivatives of responses of a solved residual, along a direction: first derivatives of moving arguments.

With the gradient ``G(d, u, lam) = pJ/pd - lam^T pR/pd + mu^T dg/dd`` of ``femadj.algebra.implicit``, along ``V``

    R_u du = -R_d V,    R_u^T dlam = d(J_u) - d(R_u)^T lam,    H V = dG(V, du, dlam),

where ``d`` is the rate along the direction, through the design and the state. Each of these rates is the imaginary part
of the first-order product at ``d + i h V``, ``u + i h du``, ``lam + i h dlam``: no formula is differentiated twice, and
both solves take the factor that the state was found with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from femadj.algebra.implicit import Implicit, Seed, weights_of
from femadj.algebra.residual import AtDesign, MovingAtDesign, State, Weights
from femadj.base.arrays import FloatArray
from femadj.base.complex_step import STEP
from femadj.base.design import Design
from femadj.errors import SecondOrderError


class Moving(Protocol):
    """Solved equations that move along a direction of the design."""

    @property
    def at(self) -> AtDesign:
        """The residual at the complex design."""
        ...

    @property
    def state(self) -> State:
        """What solves them, with its rates."""
        ...

    def weights(self, seed: Seed, lam: FloatArray) -> Weights:
        """Weights of the gradient of a response with the adjoint state ``lam``, with their rates."""
        ...

    def near(self, t: float) -> State:
        """What solves them, carried to ``t`` along the direction by its rates."""
        ...

    def left(self, at: AtDesign, state: State) -> FloatArray:
        """What is left of the equations at a real design and state, ``(n_cases, n)``."""
        ...

    def adjoint_left(self, at: AtDesign, state: State, seed: Seed, lam: FloatArray) -> FloatArray:
        """What is left of those for the adjoint state, constraints not applied; ``seed.state`` is not None."""
        ...


@dataclass(frozen=True, eq=False)
class Motion:
    """A solved residual that moves along a direction of the design.

    Attributes
    ----------
    implicit : Implicit
        The residual, solved.
    at : AtDesign
        The residual at the complex design.
    state : State
        ``u + i STEP du``.
    """

    implicit: Implicit
    at: AtDesign
    state: State

    @classmethod
    def along(cls, implicit: Implicit, direction: Design) -> Motion:
        """One solve for ``du``; SecondOrderError for a residual that has no second derivatives."""
        at = in_motion(implicit.at, direction)
        (du,) = implicit.pushforward([direction])
        return cls(implicit, at, State(stepped(implicit.state.u, du)))

    def weights(self, seed: Seed, lam: FloatArray) -> Weights:
        """``lam + i STEP dlam`` of a response with the adjoint state ``lam``, as weights of the gradient.

        ``seed`` has its partial derivatives in motion. One transposed solve, or none where the adjoint state is known.
        """
        if seed.state is None:
            return weights_of(seed, stepped(lam, 0.0), None)
        left = self.adjoint_left(self.at, self.state, seed, lam)
        expand = self.at.constraints.expand
        rates = self.implicit.adjoint(rate(left)) if seed.adjoint is None else rate(expand(seed.adjoint))
        columns = self.implicit.tangent.columns
        fixed = self.at.constraints.constrained
        prescribed = np.zeros(left.shape, dtype=complex)
        prescribed[:, fixed] = left[:, fixed] - 1j * STEP * (columns.T @ rates.T).T
        return weights_of(seed, stepped(lam, rates), prescribed)

    def near(self, t: float) -> State:
        """``u + t du``."""
        return State(carried(self.state.u, t))

    def left(self, at: AtDesign, state: State) -> FloatArray:
        """The residual at unknowns that are free."""
        return at.constraints.restrict(at.residual(state))

    def adjoint_left(self, at: AtDesign, state: State, seed: Seed, lam: FloatArray) -> FloatArray:
        """``J_u - R_u^T lam``."""
        return np.asarray(seed.state) - at.vjp(state, lam)


def in_motion(at: AtDesign, direction: Design) -> AtDesign:
    """A residual at the complex design; SecondOrderError for one that has no second derivatives."""
    if not callable(getattr(at, "in_motion", None)):
        raise SecondOrderError(f"{type(at).__name__} does not tell its second derivatives")
    return cast(MovingAtDesign, at).in_motion(direction)


def stepped(numbers: FloatArray, rates: FloatArray | float) -> FloatArray:
    """Numbers that carry rates along a complex step."""
    moved: FloatArray = numbers + 1j * STEP * rates  # type: ignore[assignment]
    return moved


def rate(numbers: FloatArray) -> FloatArray:
    """What complex numbers carry along the step."""
    return np.asarray(numbers.imag / STEP, order="C") if np.iscomplexobj(numbers) else np.zeros(numbers.shape)


def carried(numbers: FloatArray, t: float) -> FloatArray:
    """Numbers at ``t``, as the rates that they carry have it."""
    return np.asarray(numbers.real + t * rate(numbers))
