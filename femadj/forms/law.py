"""Laws: what happens at a point, whatever the unknowns and the region are.

A law gives the flux ``P``, the numbers that multiply the slots of the test function in a residual ``r = int v^ : P``,
and its derivatives: by the slots of the field (the tangent ``C = dP/du^``), by what else it reads (``x``, ``n``, ``h``,
gradients of parameters), and by the values of parameters. Arrays at points are ``(n_slots, m, nq)``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.base.complex_step import derivative
from femadj.errors import SecondOrderError
from femadj.forms.noted import Noted
from femadj.forms.pointwise import Quadrature, add_normal
from femadj.forms.regional import RegionalTensor
from femadj.forms.sampling import Picked
from femadj.space.maps import PointTensor
from femadj.space.nodal import Force, Tensor
from femadj.space.parameters import RESERVED, Parameters
from femadj.space.region import Domain

Keep = Callable[[str, Callable[[], Any]], Any]
"""``keep(name, compute)`` is what ``compute`` gives, from an earlier call at the same design where it was kept."""


class Law:
    """What happens at a point. What is not overridden: a linear law that depends on nothing but the field.

    Attributes
    ----------
    arity : int
        1: an external force, which ignores the field; 2: an internal one.
    linear : bool
        Whether the tangent does not depend on the field.
    noted : Noted or None
        Points to be looked at when a pass is over; None where there is nothing to look at.
    """

    arity: int
    linear = True
    noted: Noted | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return type(self).__name__

    @property
    def reads(self) -> frozenset[str]:
        """What it reads besides the fields."""
        return frozenset()

    @property
    def idx(self) -> tuple[int, ...] | None:
        """``w.idx`` on facets between two cells."""
        return None

    @property
    def slots(self) -> tuple[int, int]:
        """Range that all slots (0 the value, 1.. the derivatives) lie in, for nodal fields."""
        raise NotImplementedError

    def at_design(self) -> Self:
        """The same, to be put at a design."""
        return self

    def in_motion(self) -> Law:
        """The same, to be put at a design that carries a complex step; SecondOrderError where it has no such thing."""
        raise SecondOrderError(f"the law {self.name!r} does not tell its second derivatives")

    # ------------------------------------------------------------------ values
    def coefficients(self, at: Quadrature, keep: Keep) -> PointTensor:
        """Of a linear law: the tangent ``C``, or the flux of an external force."""
        raise NotImplementedError

    def tangent(self, at: Quadrature, keep: Keep, u: FloatArray | None) -> PointTensor:
        """``dP/du^``; of an external force the force itself. ``u`` may be left out where the law is linear."""
        return self.coefficients(at, keep)

    def flux(self, at: Quadrature, keep: Keep, u: FloatArray, tangent: PointTensor | None = None) -> FloatArray:
        """``P``, shape ``(n_slots, m, nq)``; ``tangent`` where it is known."""
        c = self.coefficients(at, keep) if tangent is None else tangent
        return c.times(u) if self.arity == 2 else c.force(at.shape)

    def pushed(self, at: Quadrature, keep: Keep, u: FloatArray, du: FloatArray) -> FloatArray:
        """``C : du^``, the change of ``P`` with the slots of the field, shape ``(n_slots, m, nq)``."""
        return self.tangent(at, keep, u).times(du)

    def pulled(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> FloatArray:
        """``v^ : C``, the derivative of ``v^ : P`` by the slots of the field, shape ``(n_slots, m, nq)``."""
        return self.tangent(at, keep, u).times(v, transpose=True)

    def duals(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        """Derivatives of ``v^ : P`` by the slots of both: ``P``, and ``v^ : C`` (None for an external force)."""
        tangent = self.tangent(at, keep, u)
        flux = self.flux(at, keep, u, tangent)
        return flux, tangent.times(v, transpose=True) if self.arity == 2 else None

    def varies(self, parameters: Parameters) -> bool:
        """Whether coefficients have to be evaluated piece by piece."""
        return False

    def kernel_data(self, at: Quadrature, keep: Keep, n_components: int, *, slopes: bool) -> Tensor | Force:
        """Coefficients for compiled passes; ``slopes``: with their derivatives by position, where they have some."""
        c = self.coefficients(at, keep)
        return c.kernel_tensor(n_components) if self.arity == 2 else c.kernel_force(n_components)

    # ------------------------------------------------------------------ derivatives by the design
    def complete(self, parameters: Parameters) -> bool:
        """Whether the compiled passes know how the law depends on the geometry."""
        return True

    def explicit(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> FloatArray | None:
        """Node forces ``(dim, 1 + dim, m, nq)`` of ``v^ : P`` by what it reads at fixed fields; None for none."""
        return None

    def rate(self, at: Quadrature, keep: Keep, u: FloatArray, seeds: Mapping[str, Any]) -> FloatArray:
        """Rate of the flux ``(n_slots, m, nq)`` along complex steps of what it reads (``seeds_along``)."""
        return np.zeros(u.shape)

    def by_parameters(
        self, at: Quadrature, u: FloatArray, v: FloatArray, wanted: Collection[str]
    ) -> Mapping[str, FloatArray]:
        """Derivatives of ``v^ : P`` by parameters at the points, as ``parameter_slopes`` gives them."""
        return {}

    def regions(self, domain: Domain) -> tuple[npt.NDArray[np.int32], int]:
        """Regions with coefficients of their own, where these do not vary within: of every entity, and how many."""
        return domain.one_region, 1

    def moment_slots(self, dim: int) -> tuple[int, int]:
        """Range of slots outside of which moments do not matter to ``pull_constants``."""
        return 0, dim + 1

    def constant_in_regions(self, parameters: Parameters) -> bool:
        """Whether derivatives by parameters are those of coefficients that are constant in regions."""
        return self.linear and not self.varies(parameters)

    def paired(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> FloatArray:
        """What coefficients multiply at the points, ``(k, m, nq)``; not asked of linear internal laws."""
        return v

    def pull_constants(
        self, at: Quadrature, keep: Keep, moments: FloatArray, into: Mapping[str, FloatArray], scale: float
    ) -> None:
        """Add derivatives by parameters of coefficients that do not vary within regions.

        ``moments`` ``(n_regions, n, n)`` (``v^ (x) u^``) or ``(n_regions, k)`` (``paired``) are integrals over regions.
        """
        raise NotImplementedError

    def along(self, parameters: Parameters, rates: Mapping[str, FloatArray]) -> Law | None:
        """The rate of the law along rates of parameters, as a law, where there is one; else ``rate`` gives it."""
        return None

    # ------------------------------------------------------------------ checks
    def require_sound(self, at: Picked) -> None:
        """FormError where values at the noted points depend on others, or have a wrong derivative."""

    def require_unchanged(self, at: Picked) -> None:
        """FormError where the law is another one at the noted points than when they were noted."""

    def require_derivative(self, at: Picked, u: FloatArray, v: FloatArray, wanted: Collection[str]) -> None:
        """FormError where ``v^ : P`` has no derivative by what is wanted of what it reads at the noted points."""

    def require_linear_at(self, at: Quadrature, u: FloatArray) -> None:
        """FormError where a law that is said to be linear is not at a field; a nonlinear one must be so in v."""


# ------------------------------------------------------------------ tensors and forces of regions
class RegionalLaw(Law):
    """What laws share whose coefficients are constant in regions and functions of parameters."""

    tensor: RegionalTensor

    def in_motion(self) -> Self:
        """Itself: its tensors are functions for complex numbers, too."""
        return self

    def regions(self, domain: Domain) -> tuple[npt.NDArray[np.int32], int]:
        """Those of the tensor."""
        if self.tensor.n_regions == 1:
            return domain.one_region, 1
        return self.tensor.region[domain.global_cells], self.tensor.n_regions

    def pull_constants(
        self, at: Quadrature, keep: Keep, moments: FloatArray, into: Mapping[str, FloatArray], scale: float
    ) -> None:
        """By the chain rule through the tensors of the regions."""
        self.tensor.pullback(at.parameters, moments, into, scale)

    def along(self, parameters: Parameters, rates: Mapping[str, FloatArray]) -> Self:
        """The same law with the rate of the tensor."""
        return replace(self, tensor=self.tensor.along(parameters, rates))  # type: ignore[type-var]

    def _tensors(self, at: Quadrature, keep: Keep) -> FloatArray:
        tensors: FloatArray = keep("tensors", lambda: self.tensor.at(at.parameters))
        return tensors


@dataclass(frozen=True, eq=False)
class TensorLaw(RegionalLaw):
    """``P = C : u^`` with a tensor for every region.

    Attributes
    ----------
    tensor : RegionalTensor
        ``(n_regions, n, n)``: test slots, then trial slots.
    lo, hi : int
        Range that the slots lie in.
    symmetric : bool
    """

    tensor: RegionalTensor
    lo: int
    hi: int
    symmetric: bool
    arity: int = 2
    name: str = "tensor"

    @property
    def slots(self) -> tuple[int, int]:
        """Range of slots."""
        return self.lo, self.hi

    @property
    def reads(self) -> frozenset[str]:
        """The constants."""
        return frozenset(self.tensor.names)

    def coefficients(self, at: Quadrature, keep: Keep) -> PointTensor:
        """The tensors."""
        tensors, (region, n) = self._tensors(at, keep), self.regions(at.domain)
        entries = tensors.shape[1] ** 2
        if n <= entries:
            return PointTensor(np.eye(n)[:, :, None], tensors, region, self.lo, self.hi, self.symmetric)
        basis = np.eye(entries).reshape(-1, *tensors.shape[1:])
        values = np.ascontiguousarray(tensors.reshape(n, entries).T)[:, :, None]
        return PointTensor(values, basis, region, self.lo, self.hi, self.symmetric)

    def kernel_data(self, at: Quadrature, keep: Keep, n_components: int, *, slopes: bool) -> Tensor | Force:
        """The tensors by region."""
        stride, (region, n) = at.domain.dim + 1, self.regions(at.domain)
        full = self._tensors(at, keep).reshape(n, 1, n_components, stride, n_components, stride)
        used = full[:, :, :, self.lo : self.hi, :, self.lo : self.hi]
        return Tensor(np.ascontiguousarray(used), region, self.lo, self.hi, self.symmetric)

    def moment_slots(self, dim: int) -> tuple[int, int]:
        """Those of the tensor."""
        return self.lo, self.hi


@dataclass(frozen=True, eq=False)
class LoadLaw(RegionalLaw):
    """A given force ``v . (F + p n)``, a constant for every region, times a function of position.

    Attributes
    ----------
    tensor : RegionalTensor
        ``(n_regions, nc + 1)``: the components ``F``, and the pressure ``p`` along the outward normal (on facets of a
        field with as many components as dimensions).
    pressure : bool
        Whether there is a pressure.
    position : PositionData, optional
        Function of position that multiplies: ``nc`` components, or the pressure.
    """

    tensor: RegionalTensor
    n_components: int
    pressure: bool
    position: PositionData | None = None
    name: str = "load"
    arity: int = 1

    @property
    def slots(self) -> tuple[int, int]:
        """Values alone."""
        return 0, 1

    @property
    def reads(self) -> frozenset[str]:
        """Position, normal and constants, where they matter."""
        geometry = (name for name, read in (("x", self.position is not None), ("n", self.pressure)) if read)
        return frozenset((*geometry, *self.tensor.names))

    def moment_slots(self, dim: int) -> tuple[int, int]:
        """Values alone."""
        return 0, 1

    def _position(self, at: Quadrature, keep: Keep, *, slopes: bool) -> tuple[FloatArray, FloatArray | None]:
        """The function at the points, ``(m, nq, count)``, and its derivatives ``(m, nq, count, dim)``."""
        data = self.position
        assert data is not None
        x = at.domain.quadrature_points(at.points).reshape(-1, at.domain.dim)
        value = keep("value", lambda: data.values(x))
        slope = keep("slope", lambda: data.slopes(x, value)) if slopes else None
        m, nq = at.shape
        return value.reshape(m, nq, -1), None if slope is None else slope.reshape(m, nq, -1, at.domain.dim)

    def _data(self, at: Quadrature, keep: Keep, *, slopes: bool) -> Force:
        """The force of every entity's region, or at every point."""
        given, (region, n), nc = self._tensors(at, keep), self.regions(at.domain), self.n_components
        force, pressure = np.ascontiguousarray(given[:, None, :nc, None]), np.ascontiguousarray(given[:, None, nc])
        if self.position is None:
            return Force(force, pressure, np.zeros(n), region, 0, 1)
        value, slope = self._position(at, keep, slopes=slopes)
        m, nq, dim = *at.shape, at.domain.dim
        of_points = np.arange(m, dtype=np.int32)
        if self.pressure:
            factor = pressure[region]  # (m, 1)
            p_x = None if slope is None else factor[..., None] * slope[:, :, 0]
            f_x = None if slope is None else np.zeros((m, nq, nc, 1, dim))
            zeros = np.zeros((m, nq, nc, 1))
            return Force(zeros, factor * value[..., 0], np.zeros(m), of_points, 0, 1, f_x, p_x)
        factors = force[region][..., 0]  # (m, 1, nc)
        f_x = None if slope is None else (factors[..., None] * slope)[:, :, :, None]
        p_x = None if slope is None else np.zeros((m, nq, dim))
        return Force((factors * value)[..., None], np.zeros((m, nq)), np.zeros(m), of_points, 0, 1, f_x, p_x)

    def kernel_data(self, at: Quadrature, keep: Keep, n_components: int, *, slopes: bool) -> Tensor | Force:
        """The force, with its derivatives by position."""
        return self._data(at, keep, slopes=slopes)

    def coefficients(self, at: Quadrature, keep: Keep) -> PointTensor:
        """``F + p n`` at the points."""
        data, (m, nq), nc = self._data(at, keep, slopes=False), at.shape, self.n_components
        force = np.moveaxis(data.force[data.region][..., 0], -1, 0)
        if self.pressure:
            force = force + data.pressure[data.region] * at.frame.normal
        stride = at.domain.dim + 1
        region = np.arange(m, dtype=np.int32)
        values = np.ascontiguousarray(np.broadcast_to(force, (nc, m, nq)))
        return PointTensor(values, np.eye(nc * stride)[::stride], region, 0, 1)

    def paired(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> FloatArray:
        """``v``, and ``v . n``, times the function of position."""
        value = v[:: at.domain.dim + 1]
        result: npt.NDArray[Any] = np.zeros((self.n_components + 1, *at.shape), dtype=at.dtype)
        result[:-1] = value
        if self.pressure:
            result[-1] = (value * at.frame.normal).sum(axis=0)
        if self.position is not None:
            function = np.moveaxis(self._position(at, keep, slopes=False)[0], -1, 0)
            result[-1 if self.pressure else slice(0, -1)] *= function[0] if self.pressure else function
        return result

    def explicit(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> FloatArray | None:
        """Through position and normal."""
        data, dim = self._data(at, keep, slopes=self.position is not None), at.domain.dim
        value = v[:: dim + 1]
        force: npt.NDArray[Any] = np.zeros((dim, 1 + dim, *at.shape), dtype=at.dtype)
        if self.pressure:
            add_normal(force, at.frame.normal, data.pressure[data.region] * value)
        if data.force_x is not None and data.pressure_x is not None:
            force[:, 0] += np.einsum("eqij,ieq->jeq", data.force_x[:, :, :, 0], value)
            if self.pressure:
                force[:, 0] += np.moveaxis(data.pressure_x, -1, 0) * (value * at.frame.normal).sum(axis=0)
        return force

    def rate(self, at: Quadrature, keep: Keep, u: FloatArray, seeds: Mapping[str, Any]) -> FloatArray:
        """Along steps of position and normal; along parameters see ``along``."""
        data, dim = self._data(at, keep, slopes=self.position is not None), at.domain.dim
        result = np.zeros((self.n_components * (dim + 1), *at.shape))
        value = result[:: dim + 1]
        if self.pressure and "n" in seeds:
            value += data.pressure[data.region] * derivative(seeds["n"])
        if data.force_x is not None and data.pressure_x is not None and "x" in seeds:
            step = derivative(seeds["x"])
            value += np.einsum("eqij,jeq->ieq", data.force_x[:, :, :, 0], step)
            if self.pressure:
                value += np.einsum("eqj,jeq->eq", data.pressure_x, step) * at.frame.normal
        return result


@dataclass(frozen=True, eq=False)
class PositionData:
    """A function of position with its derivative.

    Attributes
    ----------
    values : callable
        ``(n, dim)`` coordinates to ``(n, components)`` values.
    slopes : callable
        Coordinates and values to ``(n, components, dim)`` derivatives.
    """

    values: Callable[[FloatArray], FloatArray]
    slopes: Callable[[FloatArray, FloatArray], FloatArray]


def parameters_read(reads: Collection[str]) -> frozenset[str]:
    """Names of parameters among what is read."""
    return frozenset(name.split(".")[0] for name in reads) - set(RESERVED)
