"""Pressure on the deformed surface of a body, as an integral over the undeformed one.

By Nanson's formula ``n da = cof(F) N dA``, with the normal ``N`` of the undeformed surface: the force ``p cof(F) N``
turns with the body and grows with its surface. It is a function of the displacement's gradient along the surface alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.complex_step import derivative
from femadj.forms.hyperelastic_law import Deformation
from femadj.forms.law import Keep, LoadLaw
from femadj.forms.pointwise import Quadrature, add_normal
from femadj.space.maps import PointTensor
from femadj.space.parameters import Parameters


@dataclass(frozen=True, eq=False)
class FollowerLaw(LoadLaw):
    """``v . p cof(F) N`` with the pressure of a ``LoadLaw``; its tangent is not symmetric."""

    arity: int = 2
    linear = False

    @property
    def slots(self) -> tuple[int, int]:
        """Values of the test function, gradients of the field."""
        return 0, self.n_components + 1

    def constant_in_regions(self, parameters: Parameters) -> bool:
        """The force is linear in constants of regions."""
        return True

    def _turned(self, at: Quadrature, u: FloatArray, normal: FloatArray) -> FloatArray:
        """``cof(F) N``, ``(dim, m, nq)``."""
        deformed = Deformation.of(self._table(at, u)[:, 1:])
        return np.einsum("ijeq,jeq->ieq", deformed.cofactor, normal)

    def _table(self, at: Quadrature, u: FloatArray) -> FloatArray:
        dim = at.domain.dim
        return u.reshape(dim, dim + 1, *at.shape)

    def _pressure(self, at: Quadrature, keep: Keep, *, slopes: bool = False) -> tuple[FloatArray, FloatArray | None]:
        """The pressure at the points and its derivatives ``(m, nq, dim)``."""
        data = self._data(at, keep, slopes=slopes and self.position is not None)
        pressure = np.broadcast_to(data.pressure[data.region], at.shape)
        return pressure, data.pressure_x

    def _in_values(self, at: Quadrature, force: FloatArray) -> FloatArray:
        result = np.zeros((at.domain.dim, at.domain.dim + 1, *at.shape), dtype=force.dtype)
        result[:, 0] = force
        return result.reshape(-1, *at.shape)

    def flux(self, at: Quadrature, keep: Keep, u: FloatArray, tangent: PointTensor | None = None) -> FloatArray:
        """The force, in the slots of values."""
        pressure, _ = self._pressure(at, keep)
        return self._in_values(at, pressure * self._turned(at, u, at.frame.normal))

    def tangent(self, at: Quadrature, keep: Keep, u: FloatArray | None) -> PointTensor:
        """Derivative of the force by the gradient."""
        if u is None:
            raise ValueError("the tangent of a nonlinear law depends on the field")
        dim, m = at.domain.dim, len(at.domain)
        slope = np.einsum("ijkleq,jeq->ikleq", _cofactor_slopes(self._table(at, u)[:, 1:]), at.frame.normal)
        values = (self._pressure(at, keep)[0] * slope).reshape(dim**3, *at.shape)
        rows = np.arange(dim * (dim + 1)).reshape(dim, dim + 1)
        basis = np.zeros((dim, dim, dim, rows.size, rows.size))
        for i, k, j in np.ndindex(dim, dim, dim):
            basis[i, k, j, rows[i, 0], rows[k, 1 + j]] = 1.0
        region = np.arange(m, dtype=np.int32)
        return PointTensor(values, basis.reshape(-1, rows.size, rows.size), region, 0, dim + 1)

    def paired(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> FloatArray:
        """``v . cof(F) N`` times the function of position, which the pressure multiplies."""
        along = (self._table(at, v)[:, 0] * self._turned(at, u, at.frame.normal)).sum(axis=0)
        if self.position is not None:
            along = along * self._position(at, keep, slopes=False)[0][..., 0]
        result = np.zeros((self.n_components + 1, *at.shape), dtype=along.dtype)
        result[-1] = along
        return result

    def explicit(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> FloatArray | None:
        """Through position and normal."""
        dim, value = at.domain.dim, self._table(at, v)[:, 0]
        pressure, by_x = self._pressure(at, keep, slopes=True)
        pulled = np.einsum("ijeq,ieq->jeq", Deformation.of(self._table(at, u)[:, 1:]).cofactor, value)
        along = pressure * pulled
        force = np.zeros((dim, 1 + dim, *at.shape), dtype=along.dtype)
        add_normal(force, at.frame.normal, along)
        if by_x is not None:
            force[:, 0] = np.moveaxis(by_x, -1, 0) * (pulled * at.frame.normal).sum(axis=0)
        return force

    def rate(self, at: Quadrature, keep: Keep, u: FloatArray, seeds: Mapping[str, Any]) -> FloatArray:
        """Along steps of position and normal; along parameters see ``along``."""
        pressure, by_x = self._pressure(at, keep, slopes=True)
        force = np.zeros((at.domain.dim, *at.shape))
        if "n" in seeds:
            force += pressure * self._turned(at, u, derivative(seeds["n"]))
        if by_x is not None and "x" in seeds:
            moved = np.einsum("eqj,jeq->eq", by_x, derivative(seeds["x"]))
            force += moved * self._turned(at, u, at.frame.normal)
        return self._in_values(at, force)


def _cofactor_slopes(gradient: FloatArray) -> FloatArray:
    """``d cof(F)_ij / dF_kl``, ``(dim, dim, dim, dim, ...)``; cofactors have degree ``dim - 1`` in F."""
    dim = len(gradient)
    result = np.zeros((dim, dim, dim, dim, *gradient.shape[2:]), dtype=gradient.dtype)
    for k, j in np.ndindex(dim, dim):
        unit = np.zeros((dim, dim, *(1,) * (gradient.ndim - 2)))
        unit[k, j] = 1.0
        ahead, behind = (Deformation.of(gradient + sign * unit).cofactor for sign in (0.5, -0.5))
        result[:, :, k, j] = ahead - behind  # exact, but for rounding: no more than quadratic
    return result
