"""Values and derivatives of an integrand at quadrature points: what every way of differentiation yields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from femadj.base.arrays import FloatArray
from femadj.forms.integrand import Integrand
from femadj.forms.pointwise import Quadrature, Slots


@dataclass(frozen=True, eq=False)
class PointSlopes:
    """An integrand and its derivatives at ``m * nq`` quadrature points.

    Attributes
    ----------
    value : (m, nq)
    arguments : tuple of (nc, n_slots, m, nq)
        By the slots of every argument, as ``argument_slopes`` gives them.
    explicit : (dim, dim + 1, m, nq)
        Through ``x``, ``n``, ``h`` and gradients of parameters, as ``explicit_force`` gives it.
    parameters : dict of name to array
        As ``parameter_slopes`` gives them.
    """

    value: FloatArray
    arguments: tuple[FloatArray, ...]
    explicit: FloatArray
    parameters: dict[str, FloatArray]


class Differentiable(Protocol):
    """An integrand together with the way it is differentiated."""

    @property
    def integrand(self) -> Integrand:
        """The integrand on NumPy arrays; it returns derivatives for arguments that carry a complex step."""

    @property
    def checks_itself(self) -> bool:
        """Whether ``slopes`` compares derivatives with differences, because other points than those asked for are
        expensive."""
        ...

    def slopes(
        self, quadrature: Quadrature, arguments: Sequence[Slots], slots: Sequence[range], reads: set[str]
    ) -> PointSlopes:
        """Value and derivatives: by some slots of every argument, and by all else that is read.

        Raises
        ------
        FormError
            When the function raises, returns something of another shape, or NaN, or a derivative is NaN.
        """
