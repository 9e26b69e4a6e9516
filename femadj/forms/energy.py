"""Energies as weak forms, by JAX: the flux is the gradient of a density by the slots of u, the tangent its Hessian.

The weak form itself is the first variation ``d/dt psi(u + t v)``, an integrand like any other on NumPy arrays, which
gives all further derivatives. This module needs JAX and is imported by ``energy_law`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.calls import samples
from femadj.base.differences import compare
from femadj.errors import FormError
from femadj.forms.automatic import CHECKED, Automatic, JaxField, Leaves, _double, _insert, _no_leaves
from femadj.forms.integrand import Integrand
from femadj.forms.integrand_law import FluxLaw
from femadj.forms.law import Keep
from femadj.forms.pointwise import Quadrature
from femadj.space.maps import PointTensor
from femadj.space.parts import Part


class Energy(Automatic):
    """An energy density ``psi(u, w)``, written with ``jax.numpy``.

    Parameters
    ----------
    density : Integrand
    parts : sequence of Part
        Of the unknown.

    Attributes
    ----------
    variation : Automatic
        ``d/dt psi(u + t v, w)``, as a function of u, v and w.
    """

    def __init__(self, density: Integrand, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self.variation = Automatic(Integrand(partial(_varied, density.function), density.name))
        super().__init__(density)

    def _compile(self) -> None:
        super()._compile()
        self.variation._compile()

        def over_points(function: Callable[..., Any]) -> Any:
            def swept(where: str, u: Any, leaves: Leaves) -> Any:
                return jax.vmap(partial(function, partial(self._of_slots, where)), in_axes=-1, out_axes=-1)(u, leaves)

            return jax.jit(swept, static_argnums=0)

        self._values = over_points(lambda psi, u, leaves: psi(u, leaves))
        self._slopes = over_points(lambda psi, u, leaves: jax.grad(psi)(u, leaves))
        self._curvatures = over_points(lambda psi, u, leaves: jax.jacfwd(jax.grad(psi))(u, leaves))

    def _of_slots(self, where: str, u: Any, leaves: Leaves) -> Any:
        """The density at one point, as a function of all slots ``(n,)``."""
        return self._at_point(where, _with_slots(leaves, self.parts, u))[0]

    def at(self, what: str, quadrature: Quadrature, u: FloatArray, read: frozenset[str]) -> FloatArray:
        """``"values"``, ``"slopes"`` or ``"curvatures"`` of the density, ``(..., m, nq)``.

        Raises
        ------
        FormError
            Where they are NaN or infinite.
        """
        found = self._swept_values(what, quadrature, u, self._read_leaves(quadrature, read))
        values = found.reshape(*found.shape[:-1], *quadrature.shape)
        finite = np.isfinite(values).all(axis=tuple(range(values.ndim - 2)))
        if not finite.all():
            entity, point = np.argwhere(~finite)[0]
            raise FormError(
                f"the {what} of energy {self.integrand.name!r} are NaN or infinite, first at entity {int(entity)}, "
                f"quadrature point {int(point)}"
            )
        return values

    def _swept_values(self, what: str, quadrature: Quadrature, u: FloatArray, leaves: Leaves) -> FloatArray:
        with _double():
            found = getattr(self, f"_{what}")(quadrature.environment().where, u.reshape(len(u), -1), leaves)
        return np.asarray(found)

    def _read_leaves(self, quadrature: Quadrature, read: frozenset[str]) -> Leaves:
        w, leaves = quadrature.environment(), _no_leaves()
        for name in read & set(w.names):
            _insert(leaves, name, w.peek(name), quadrature.shape, gradient=f"{name}.grad" in read)
        return leaves

    def refresh(self, quadrature: Quadrature, u: FloatArray, read: frozenset[str]) -> None:
        """Compile anew where the function has changed since; FormError where it mixes points.

        Near a state and not at it: at rest all energies are zero.
        """
        rng = samples(len(u), *quadrature.shape)
        near = u + 0.05 * (float(np.abs(u).max(initial=0.0)) or 1.0) * rng.uniform(-1, 1, u.shape)
        leaves = self._read_leaves(quadrature, read)
        values = self._swept_values("values", quadrature, near, leaves)
        known = np.flatnonzero(np.isfinite(values))
        places = rng.choice(known, min(len(known), CHECKED), replace=False)
        whole = jax.tree_util.tree_map(np.asarray, _with_slots(leaves, self.parts, near.reshape(len(u), -1)))
        if len(places) and self._outdated(quadrature.environment().where, whole, values, places):
            self._compile()


def _with_slots(leaves: Leaves, parts: Sequence[Part], u: Any) -> Leaves:
    """Leaves with the arguments that slots ``(n,)`` or ``(n, points)`` are, under their numbers."""
    result = {kind: dict(entries) for kind, entries in leaves.items()}
    for number, part in enumerate(parts):
        here, name, dim = u[part.slots], str(number), part.dim
        if part.kind == "H1":
            table = here.reshape(part.components, 1 + dim, *here.shape[1:])
            result["values"][name] = table[:, 0] if part.vector else table[0, 0]
            result["gradients"][name] = table[:, 1:] if part.vector else table[0, 1:]
            continue
        result["values"][name] = here[:dim]
        kind = "div" if part.kind == "H(div)" else "curl"
        result[kind][name] = here[dim] if kind == "div" or dim == 2 else here[dim:]
    return result


def _varied(density: Callable[..., Any], *arguments: Any) -> Any:
    """``d/dt density(u + t v, w)``."""
    *both, w = arguments
    n = len(both) // 2

    def plain(fields: Sequence[Any]) -> list[JaxField]:
        return [JaxField(f.value, f.grad, div=f.div, curl=f.curl) for f in fields]

    return jax.jvp(lambda *u: jnp.asarray(density(*u, w)), tuple(plain(both[:n])), tuple(plain(both[n:])))[1]


@dataclass(frozen=True, eq=False)
class EnergyLaw(FluxLaw):
    """The law of an energy: symmetric, and linear in v, by construction."""

    energy: Energy | None = None
    seen: list[bool] = field(default_factory=list)

    @classmethod
    def of(cls, density: Integrand, parts: tuple[Part, ...]) -> EnergyLaw:
        """The law of a density."""
        energy = Energy(density, parts)
        return cls(energy.variation.integrand, parts, 2, frozenset(), symmetric=True, energy=energy)

    @property
    def cost(self) -> str:
        """What a tangent takes, in words."""
        return "a Hessian by JAX for a tangent"

    @property
    def _energy(self) -> Energy:
        assert self.energy is not None
        return self.energy

    def at_design(self) -> Self:
        """With nothing looked at yet."""
        return replace(self, seen=[])

    def _fresh(self, at: Quadrature, u: FloatArray) -> Energy:
        if not self.seen:
            self._energy.refresh(at, u, self.read)
            self.seen.append(True)
        return self._energy

    def flux(self, at: Quadrature, keep: Keep, u: FloatArray, tangent: PointTensor | None = None) -> FloatArray:
        """Gradient of the density by the slots of u."""
        return self._fresh(at, u).at("slopes", at, u, self.read)

    def tangent(self, at: Quadrature, keep: Keep, u: FloatArray | None) -> PointTensor:
        """Hessian of the density."""
        if u is None:
            raise ValueError("the tangent of a nonlinear law depends on the field")
        n, (m, nq) = len(u), at.shape
        values = self._fresh(at, u).at("curvatures", at, u, self.read).reshape(n * n, m, nq)
        region = np.arange(m, dtype=np.int32)
        return PointTensor(values, np.eye(n * n).reshape(-1, n, n), region, 0, at.domain.dim + 1, symmetric=True)

    def has_symmetric_tangent(self, at: Quadrature, u: FloatArray) -> bool:
        """It is a Hessian."""
        return True

    def require_linear_at(self, at: Quadrature, u: FloatArray) -> None:
        """FormError where the flux is not the slope of the density that differences give."""
        energy = self._fresh(at, u)
        rng = samples(len(u), *at.shape)
        size = np.maximum(np.abs(u), 1e-4 * float(np.abs(u).max(initial=0.0)) or 1.0)
        d = size * rng.uniform(-1, 1, u.shape)
        exact = (energy.at("slopes", at, u, self.read) * d).sum(axis=0)
        if not compare(lambda t: energy.at("values", at, u + t * d, self.read), exact).right.all():
            raise FormError(
                f"energy {self.name!r}: its derivative by the state disagrees with differences: it has a kink or a "
                "jump there, or hides something from JAX"
            )
