"""Hyperelastic bodies: first Piola-Kirchhoff stress and its derivative, as functions of Lamé's constants by region.

With ``F = I + grad u``, ``J = det F``, ``G = F^-T`` and ``E = (F^T F - I) / 2`` the stress of both materials is linear
in the two constants, ``P = lame B0(F) + mu B1(F)``:

    neo-Hooke                  psi = mu/2 (tr(F^T F) - 3) - mu ln J + lame/2 (ln J)^2,   B0 = ln J G,    B1 = F - G
    St. Venant-Kirchhoff       psi = lame/2 (tr E)^2 + mu E : E,                         B0 = tr E F,    B1 = 2 F E

(J. Bonet and R. Wood, Nonlinear Continuum Mechanics for Finite Element Analysis, 2008, sections 6.4 and 6.5). In plane
strain the third stretch is one, which leaves the formulas in the plane as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from femadj.base.arrays import FloatArray, listing
from femadj.errors import FormError
from femadj.forms.law import Keep, RegionalLaw
from femadj.forms.pointwise import Quadrature
from femadj.forms.regional import RegionalTensor
from femadj.space.maps import PointTensor
from femadj.space.parameters import Parameters

Stored = Literal["neo-Hooke", "St. Venant-Kirchhoff"]


class Deformation(NamedTuple):
    """Displacement gradients ``H`` with what laws are made of, to all digits where they are small.

    Attributes
    ----------
    H, F, cofactor : (dim, dim, ...)
        ``F = I + H`` and its cofactors ``J F^-T``.
    growth : (...)
        ``J - 1``.
    change : (dim, dim, ...)
        Cofactors less the identity.
    """

    H: FloatArray
    F: FloatArray
    cofactor: FloatArray
    growth: FloatArray
    change: FloatArray

    @property
    def J(self) -> FloatArray:
        """``det F``."""
        return 1.0 + self.growth

    @classmethod
    def of(cls, gradient: FloatArray) -> Deformation:
        """From displacement gradients, by the invariants of ``H``."""
        dim = len(gradient)
        identity = np.eye(dim).reshape(dim, dim, *(1,) * (gradient.ndim - 2))
        trace = np.einsum("ii...->...", gradient)
        change = trace * identity - gradient.swapaxes(0, 1)
        if dim == 2:
            growth = trace + gradient[0, 0] * gradient[1, 1] - gradient[0, 1] * gradient[1, 0]
        else:
            own = _cofactors(gradient)
            growth = trace + np.einsum("ii...->...", own) + (gradient[0] * own[0]).sum(axis=0)
            change += own
        return cls(gradient, gradient + identity, change + identity, growth, change)


def _cofactors(H: FloatArray) -> FloatArray:
    return np.array([_cross(H[1], H[2]), _cross(H[2], H[0]), _cross(H[0], H[1])])


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


# ------------------------------------------------------------------ the two materials: what lame and mu multiply
def _neo_hooke(at: Deformation) -> tuple[FloatArray, FloatArray]:
    spherical = at.growth * _spread(np.eye(len(at.F)), at)
    return np.log1p(at.growth) / at.J * at.cofactor, at.H + (spherical - at.change) / at.J


def _neo_hooke_slope(at: Deformation) -> tuple[FloatArray, FloatArray]:
    G, d = at.cofactor / at.J, np.eye(len(at.F))
    swapped = np.einsum("kj...,il...->ijkl...", G, G)
    by_lame = np.einsum("ij...,kl...->ijkl...", G, G) - np.log1p(at.growth) * swapped
    return by_lame, swapped + _spread(np.einsum("ik,jl->ijkl", d, d), at)


def _kirchhoff(at: Deformation) -> tuple[FloatArray, FloatArray]:
    E = _green(at)
    return np.einsum("ii...->...", E) * at.F, 2 * np.einsum("ik...,kj...->ij...", at.F, E)


def _kirchhoff_slope(at: Deformation) -> tuple[FloatArray, FloatArray]:
    F, E, d = at.F, _green(at), np.eye(len(at.F))
    trace = np.einsum("ii...->...", E)
    by_lame = np.einsum("ij...,kl...->ijkl...", F, F) + trace * _spread(np.einsum("ik,jl->ijkl", d, d), at)
    left = np.einsum("im...,km...->ik...", F, F)
    by_mu = np.einsum("il...,kj...->ijkl...", F, F) + np.einsum("ik...,jl->ijkl...", left, d)
    return by_lame, by_mu + 2 * np.einsum("ik,lj...->ijkl...", d, E)


def _green(at: Deformation) -> FloatArray:
    return 0.5 * (at.H + at.H.swapaxes(0, 1) + np.einsum("ki...,kj...->ij...", at.H, at.H))


def _spread(tensor: FloatArray, at: Deformation) -> FloatArray:
    return tensor.reshape(*tensor.shape, *(1,) * at.growth.ndim)


Parts = Callable[[Deformation], tuple[FloatArray, FloatArray]]
STORED: dict[str, tuple[Parts, Parts]] = {
    "neo-Hooke": (_neo_hooke, _neo_hooke_slope),
    "St. Venant-Kirchhoff": (_kirchhoff, _kirchhoff_slope),
}


@dataclass(frozen=True, eq=False)
class HyperelasticLaw(RegionalLaw):
    """The stress of a hyperelastic body; FormError where it is turned inside out.

    Attributes
    ----------
    tensor : RegionalTensor
        ``(n_regions, 2)``: Lamé's constants ``lame`` and ``mu``.
    stored : str
        Which material.
    dim : int
    """

    tensor: RegionalTensor
    stored: Stored
    dim: int
    arity: int = 2
    linear = False

    @property
    def name(self) -> str:
        """Of the material."""
        return self.stored

    @property
    def slots(self) -> tuple[int, int]:
        """Gradients."""
        return 1, self.dim + 1

    @property
    def reads(self) -> frozenset[str]:
        """The constants."""
        return frozenset(self.tensor.names)

    def constant_in_regions(self, parameters: Parameters) -> bool:
        """The stress is linear in constants of regions."""
        return True

    def _deformed(self, at: Quadrature, u: FloatArray) -> Deformation:
        dim = self.dim
        deformed = Deformation.of(u.reshape(dim, dim + 1, *at.shape)[:, 1:])
        inside_out = ~(deformed.J.real > 0).all(axis=-1)
        if inside_out.any():
            cells = at.domain.global_cells[inside_out]
            raise FormError(f"{self.stored}: the deformed cells {listing(cells)} are turned inside out")
        return deformed

    def _combined(self, at: Quadrature, keep: Keep, parts: tuple[FloatArray, FloatArray]) -> FloatArray:
        """``lame parts[0] + mu parts[1]`` with the constants of every entity."""
        constants = self._tensors(at, keep)[self.regions(at.domain)[0]].T[:, :, None]
        return constants[0] * parts[0] + constants[1] * parts[1]

    def flux(self, at: Quadrature, keep: Keep, u: FloatArray, tangent: PointTensor | None = None) -> FloatArray:
        """The stress, in the slots of gradients."""
        with np.errstate(over="ignore", invalid="ignore"):
            stress = self._combined(at, keep, STORED[self.stored][0](self._deformed(at, u)))
        if not np.isfinite(stress).all():
            raise FormError(f"{self.stored}: the stress is too large for a floating-point number")
        return self._in_slots(stress, at)

    def _in_slots(self, stress: FloatArray, at: Quadrature) -> FloatArray:
        result = np.zeros((self.dim, self.dim + 1, *at.shape), dtype=stress.dtype)
        result[:, 1:] = stress
        return result.reshape(-1, *at.shape)

    def tangent(self, at: Quadrature, keep: Keep, u: FloatArray | None) -> PointTensor:
        """Derivative of the stress by the gradient."""
        if u is None:
            raise ValueError("the tangent of a nonlinear law depends on the field")
        dim, m = self.dim, len(at.domain)
        moduli = self._combined(at, keep, STORED[self.stored][1](self._deformed(at, u)))
        rows = np.arange(dim * (dim + 1)).reshape(dim, dim + 1)[:, 1:].ravel()
        basis = np.zeros((len(rows), len(rows), dim * (dim + 1), dim * (dim + 1)))
        for a, row in enumerate(rows):
            basis[a, np.arange(len(rows)), row, rows] = 1.0
        values = np.ascontiguousarray(moduli.reshape(len(rows) ** 2, *at.shape))
        return PointTensor(
            values, basis.reshape(-1, *basis.shape[2:]), np.arange(m, dtype=np.int32), 1, dim + 1, symmetric=True
        )

    def paired(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> FloatArray:
        """``v^ : B0`` and ``v^ : B1``, which the constants multiply."""
        both = STORED[self.stored][0](self._deformed(at, u))
        return np.array([(v * self._in_slots(part, at)).sum(axis=0) for part in both])
