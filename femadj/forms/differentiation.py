"""Derivatives of an integrand at quadrature points by everything that it reads, in one of two ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from femadj.base.arrays import FloatArray
from femadj.errors import FormError, MissingExtraError
from femadj.forms.integrand import Integrand
from femadj.forms.pointwise import Quadrature, Slots, argument_slopes, parameter_slopes, surroundings_force

Differentiation = Literal["complex step", "jax"]


@dataclass(frozen=True, eq=False)
class PointSlopes:
    """An integrand and its derivatives at ``m * nq`` quadrature points.

    Attributes
    ----------
    value : (m, nq)
    arguments : tuple of (nc, n_slots, m, nq)
        By the slots of every argument, as ``argument_slopes`` gives them.
    surroundings : (dim, dim + 1, m, nq)
        Through ``x``, ``n``, ``h`` and gradients of parameters, as ``surroundings_force`` gives it.
    parameters : dict of name to array
        As ``parameter_slopes`` gives them.
    """

    value: FloatArray
    arguments: tuple[FloatArray, ...]
    surroundings: FloatArray
    parameters: dict[str, FloatArray]


class Differentiable(Protocol):
    """An integrand together with the way it is differentiated."""

    @property
    def integrand(self) -> Integrand:
        """The integrand on NumPy arrays; it returns derivatives for arguments that carry a complex step."""

    def slopes(
        self, quadrature: Quadrature, arguments: Sequence[Slots], slots: Sequence[range], reads: set[str]
    ) -> PointSlopes:
        """Value and derivatives: by some slots of every argument, and by all else that is read.

        Raises
        ------
        FormError
            When the function raises, returns something of another shape, or NaN, or a derivative is NaN.
        """


@dataclass(frozen=True, eq=False)
class ComplexStep:
    """One evaluation for every derivative, on NumPy arrays that carry a complex step."""

    integrand: Integrand

    def slopes(
        self, quadrature: Quadrature, arguments: Sequence[Slots], slots: Sequence[range], reads: set[str]
    ) -> PointSlopes:
        """Value and derivatives."""
        value = quadrature.evaluate_real(self.integrand, [a.field for a in arguments])
        by_arguments = [
            argument_slopes(quadrature, self.integrand, arguments, number, here) for number, here in enumerate(slots)
        ]
        force = surroundings_force(quadrature, self.integrand, arguments, reads)
        return PointSlopes(
            value, tuple(by_arguments), force, parameter_slopes(quadrature, self.integrand, arguments, reads)
        )


def differentiable(integrand: Integrand, way: Differentiation) -> Differentiable:
    """An integrand together with the way it is differentiated.

    Raises
    ------
    MissingExtraError
        When JAX is asked for and not installed.
    """
    if way not in get_args(Differentiation):
        known = " or ".join(map(repr, get_args(Differentiation)))
        raise FormError(f"form {integrand.name!r}: differentiation must be {known}, not {way!r}")
    if way == "complex step":
        return ComplexStep(integrand)
    try:
        import jax  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("JAX", "jax", "differentiation='jax'") from error
    from femadj.forms.automatic import Automatic

    return Automatic(integrand)
