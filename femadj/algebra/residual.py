"""What a problem is: a residual ``R(u; d) = 0`` that can be put at a design.

What is put at a design is frozen, owns what it computes there, and knows the residual and all products of its
derivatives. Nothing here knows a mesh: finite elements and systems of plain functions are two kinds of residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from femadj.algebra.constraints import AffineMap, Condensed
from femadj.base.arrays import FloatArray
from femadj.base.design import Cotangent, Design
from femadj.solvers.matrix import MatrixKind
from femadj.solvers.structure import CsrPattern


@dataclass(frozen=True, eq=False)
class State:
    """Unknowns of all load cases, with their time derivatives.

    Attributes
    ----------
    u : (n_cases, n)
    rates : tuple of (n_cases, n)
        ``du/dt``, ``d2u/dt2``, ... where the residual reads them.
    time : float
    """

    u: FloatArray
    rates: tuple[FloatArray, ...] = ()
    time: float = 0.0

    def derivative(self, order: int) -> FloatArray | None:
        """The state itself (0) or a time derivative of it; None, which is zero, where it has not been given."""
        if order == 0:
            return self.u
        return self.rates[order - 1] if order <= len(self.rates) else None


class Weights(NamedTuple):
    """What derivatives of a residual are paired with, for one response; each ``(n_cases, n)``.

    Attributes
    ----------
    internal, external : arrays
        Weights of the two halves of the residual: of the internal forces (``K u``) and of the external ones (``f``).
        An adjoint state weighs both.
    prescribed : array or None
        Derivative by the prescribed values.
    """

    internal: FloatArray
    external: FloatArray
    prescribed: FloatArray | None = None


class AtDesign(Protocol):
    """A residual at a design. States, weights and residuals are flat arrays ``(n_cases, n)``."""

    @property
    def design(self) -> Design:
        """Where it is."""
        ...

    @property
    def structure(self) -> CsrPattern:
        """Structure of the matrix."""
        ...

    @property
    def constraints(self) -> AffineMap:
        """Unknowns that are not free."""
        ...

    @property
    def lifting(self) -> FloatArray:
        """A state that satisfies the constraints, zero at free unknowns, ``(n_cases, n)``."""
        ...

    def modes(self) -> FloatArray | None:
        """Fields ``(n, n_modes)`` that the matrix maps to zero away from constraints, zero there; None: not known."""
        ...

    def residual(self, state: State) -> FloatArray:
        """``R``, constraints not applied."""
        ...

    def jacobian(self, state: State) -> Condensed:
        """``dR/du``, constraints applied."""
        ...

    def jvp(self, state: State, du: FloatArray) -> FloatArray:
        """``(dR/du) du``, constraints not applied; ``du`` is ``(..., n)``."""
        ...

    def vjp(self, state: State, lam: FloatArray) -> FloatArray:
        """``(dR/du)^T lam``, constraints not applied; ``lam`` is ``(..., n)``."""
        ...

    def pullback(self, state: State, weights: Sequence[Weights], into: Sequence[Cotangent]) -> None:
        """Add ``external^T dF - internal^T dR_internal + prescribed^T dg`` by the design at a fixed state.

        One entry of ``weights`` and of ``into`` for each response; what ``into`` does not hold is not computed.
        """
        ...

    def pushforward(self, state: State, directions: Sequence[Design]) -> tuple[FloatArray, FloatArray]:
        """Rates along directions, of ``R`` at a fixed state and of the lifting: ``(n_directions, n_cases, n)`` each."""
        ...


class MovingAtDesign(AtDesign, Protocol):
    """A residual at a design that also knows its second derivatives."""

    def in_motion(self, direction: Design) -> AtDesign:
        """The same at the complex design ``d + i STEP direction``.

        Its ``residual``, ``jvp``, ``vjp`` and ``pullback``, of states and weights that may be complex, carry their
        rates in the imaginary part; nothing else is asked for. ``SecondOrderError`` where something has no second
        derivatives.
        """
        ...


class Residual(Protocol):
    """A problem, once for a topology."""

    @property
    def kind(self) -> MatrixKind:
        """What the matrix is."""
        ...

    @property
    def structure(self) -> CsrPattern | None:
        """Structure of the matrix; None where it is known at a design only. A new object: a new structure."""
        ...

    @property
    def prefers_adjoint(self) -> bool:
        """Whether derivatives along directions are expensive or uncertain."""
        ...

    @property
    def rounding(self) -> float:
        """Relative error of the entries of the matrix."""
        ...

    def at(self, design: Design) -> AtDesign:
        """Put it at a design."""
        ...
