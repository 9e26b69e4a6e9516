"""The geometric stiffness of a stressed body: what its stress does to small movements that are added."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.complex_step import derivative
from femadj.forms.law import Keep, Law
from femadj.forms.pointwise import Quadrature, add_transport
from femadj.forms.regional import RegionalTensor
from femadj.space.maps import PointTensor
from femadj.space.nodal import interpolate
from femadj.space.parameters import Parameters


@dataclass(frozen=True, eq=False)
class GeometricLaw(Law):
    """``-v_i,j sigma_jk u_i,k`` with the symmetric part ``sigma`` of ``C : grad w``.

    Attributes
    ----------
    tensor : RegionalTensor
        ``C``, ``(n_regions, n, n)`` over all slots, symmetric.
    displacement : str
        The nodal parameter that is ``w``.
    dim : int
    moving : tuple of (RegionalTensor, (n_nodes, dim) array or None)
        Where it is not empty: the stress is the sum of their products, ``w`` for None, in the place of ``C : grad w``.
    """

    tensor: RegionalTensor
    displacement: str
    dim: int
    moving: tuple[tuple[RegionalTensor, FloatArray | None], ...] = ()
    arity = 2
    name = "geometric stiffness"

    @property
    def slots(self) -> tuple[int, int]:
        """Derivatives alone."""
        return 1, self.dim + 1

    @property
    def reads(self) -> frozenset[str]:
        """The displacement, its gradient, and the constants of the material."""
        return frozenset((self.displacement, f"{self.displacement}.grad", *self.tensor.names))

    def varies(self, parameters: Parameters) -> bool:
        """The stress differs from point to point."""
        return True

    def complete(self, parameters: Parameters) -> bool:
        """The gradient of the displacement is transported as nodes move."""
        return False

    def in_motion(self) -> GeometricLaw:
        """Itself: all of it is analytic."""
        return self

    def _contracted(self, at: Quadrature, tensor: FloatArray, gradient: FloatArray) -> FloatArray:
        """``C : F`` at the points, ``(dim, dim, m, nq)``, for tensors of regions ``(n_regions, n, n)``."""
        dim = self.dim
        full = tensor.reshape(-1, dim, dim + 1, dim, dim + 1)[:, :, 1:, :, 1:]
        here = full[self.tensor.region[at.domain.global_cells]]
        return np.asarray(np.einsum("eijkl,kleq->ijeq", here, gradient))

    def _stress(self, at: Quadrature) -> FloatArray:
        own = at.nodal(self.displacement)[1]
        stress = np.zeros_like(own)
        for tensor, field in self.moving or ((self.tensor, None),):
            gradient = own if field is None else interpolate(at.domain.on_geometry, at.points, field)[1]
            stress += self._contracted(at, tensor.at(at.parameters), gradient)
        return _symmetric(stress)

    def coefficients(self, at: Quadrature, keep: Keep) -> PointTensor:
        """The stress, once for each component of the field."""
        tensor: PointTensor = keep("coefficients", lambda: self._evaluated(at))
        return tensor

    def _evaluated(self, at: Quadrature) -> PointTensor:
        dim, stress = self.dim, self._stress(at)
        pairs = [(j, k) for j in range(dim) for k in range(j, dim)]
        basis = np.zeros((len(pairs), dim, dim + 1, dim, dim + 1))
        for number, (j, k) in enumerate(pairs):
            for i in range(dim):
                basis[number, i, 1 + j, i, 1 + k] = basis[number, i, 1 + k, i, 1 + j] = -1.0
        n = dim * (dim + 1)
        values = np.ascontiguousarray([stress[j, k] for j, k in pairs])
        own = np.arange(len(at.domain), dtype=np.int32)
        return PointTensor(values, basis.reshape(-1, n, n), own, 1, dim + 1, symmetric=True)

    def _pair(self, u: FloatArray, v: FloatArray) -> FloatArray:
        """``-v_i,j u_i,k``, symmetric in ``j`` and ``k``: what the stress multiplies."""
        du, dv = (field.reshape(self.dim, self.dim + 1, *field.shape[1:])[:, 1:] for field in (u, v))
        return -_symmetric(np.einsum("ijeq,ikeq->jkeq", dv, du))

    def explicit(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> FloatArray:
        """Through the gradient of the displacement."""
        by_gradient = self._contracted(at, self.tensor.at(at.parameters), self._pair(u, v))
        force = np.zeros((self.dim, 1 + self.dim, *at.shape), by_gradient.dtype)
        add_transport(force, at.nodal(self.displacement)[1], by_gradient)
        return force

    def rate(self, at: Quadrature, keep: Keep, u: FloatArray, seeds: Mapping[str, Any]) -> FloatArray:
        """Along steps of the gradient of the displacement; along parameters see ``along``."""
        step = derivative(seeds[self.displacement].grad)
        stress = _symmetric(self._contracted(at, self.tensor.at(at.parameters), step))
        table = u.reshape(self.dim, self.dim + 1, *u.shape[1:])
        result = np.zeros_like(table)
        result[:, 1:] = -np.einsum("jkeq,ikeq->ijeq", stress, table[:, 1:])
        return result.reshape(u.shape)

    def along(self, parameters: Parameters, rates: Mapping[str, FloatArray]) -> Law:
        """By the product rule."""
        moving: list[tuple[RegionalTensor, FloatArray | None]] = []
        if self.displacement in rates:
            moving.append((self.tensor, np.ascontiguousarray(rates[self.displacement])))
        if set(self.tensor.names) & set(rates):
            moving.append((self.tensor.along(parameters, rates), None))
        return replace(self, moving=tuple(moving))

    def by_parameters(
        self, at: Quadrature, u: FloatArray, v: FloatArray, wanted: Collection[str]
    ) -> Mapping[str, FloatArray]:
        """By the displacement through its gradient; by constants of the material through the stress."""
        pair, result = self._pair(u, v), {}
        if self.displacement in wanted:
            contracted = self._contracted(at, self.tensor.at(at.parameters), pair)
            slopes = np.zeros((self.dim, self.dim + 1, *at.shape), contracted.dtype)
            slopes[:, 1:] = contracted
            result[self.displacement] = slopes
        gradient = at.nodal(self.displacement)[1]
        for name in set(self.tensor.names) & set(wanted):
            entry = at.parameters.entries[name]
            slopes = np.empty((*entry.item_shape, *at.shape), pair.dtype)
            for index in np.ndindex(*entry.item_shape):
                direction = np.zeros(entry.shape)
                direction[index if entry.kind == "constant" else (slice(None), *index)] = 1.0
                rate = self.tensor.pushforward(at.parameters, {name: direction})
                slopes[index] = np.einsum("jkeq,jkeq->eq", self._contracted(at, rate, gradient), pair)
            result[name] = slopes
        return result


def _symmetric(tensor: FloatArray) -> FloatArray:
    """The symmetric part at the points, ``(dim, dim, m, nq)``."""
    return np.asarray(0.5 * (tensor + tensor.swapaxes(0, 1)))
