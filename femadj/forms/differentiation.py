"""Derivatives of an integrand at quadrature points by everything that it reads, in one of two ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from femadj.base.arguments import one_of
from femadj.errors import FormError, MissingExtraError
from femadj.forms.integrand import Integrand
from femadj.forms.integrand_law import FluxLaw
from femadj.forms.pointwise import Quadrature, Slots, argument_slopes, explicit_force, parameter_slopes
from femadj.forms.slopes import Differentiable, PointSlopes
from femadj.space.parts import Part

Differentiation = Literal["complex step", "jax"]


@dataclass(frozen=True, eq=False)
class ComplexStep:
    """One evaluation for every derivative, on NumPy arrays that carry a complex step."""

    integrand: Integrand
    checks_itself = False

    def slopes(
        self, quadrature: Quadrature, arguments: Sequence[Slots], slots: Sequence[range], reads: set[str]
    ) -> PointSlopes:
        """Value and derivatives."""
        value = quadrature.evaluate_real(self.integrand, [a.field for a in arguments])
        reads = reads | quadrature.reads
        by_arguments = [
            argument_slopes(quadrature, self.integrand, arguments, number, here) for number, here in enumerate(slots)
        ]
        force = explicit_force(quadrature, self.integrand, arguments, reads)
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
    one_of(way, get_args(Differentiation), f"form {integrand.name!r}: differentiation", FormError)
    if way == "complex step":
        return ComplexStep(integrand)
    _require_jax("differentiation='jax'")
    from femadj.forms.automatic import Automatic

    return Automatic(integrand)


def energy_law(density: Integrand, parts: tuple[Part, ...]) -> FluxLaw:
    """The law of an energy density; MissingExtraError where JAX is not installed."""
    _require_jax("an energy")
    from femadj.forms.energy import EnergyLaw

    return EnergyLaw.of(density, parts)


def _require_jax(purpose: str) -> None:
    try:
        import jax  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("JAX", "jax", purpose) from error
