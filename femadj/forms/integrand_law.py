"""Laws that users write, as functions ``form(u, v, w)``: linear ones, probed into coefficients, and nonlinear ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from femadj.base import jet
from femadj.base.arrays import FloatArray
from femadj.base.complex_step import derivative, seed
from femadj.forms.integrand import Integrand
from femadj.forms.law import Keep, Law
from femadj.forms.noted import Noted
from femadj.forms.pointwise import Quadrature, argument_slopes, explicit_force, parameter_slopes, reads_geometry
from femadj.forms.probing import Probe
from femadj.forms.sampling import Picked
from femadj.forms.slotted import arguments_of, dual_of, fields_of, slots_read
from femadj.space.maps import PointTensor
from femadj.space.parameters import Parameters
from femadj.space.parts import Part


@dataclass(frozen=True, eq=False)
class IntegrandLaw(Law):
    """What laws share that are functions ``form(u, v, w)`` or ``form(v, w)``, linear in v.

    Attributes
    ----------
    integrand : Integrand
    parts : tuple of Part
        Of the unknown.
    arity : int
    read : frozenset of str
        What it reads besides the fields.
    """

    integrand: Integrand
    parts: tuple[Part, ...]
    arity: int
    read: frozenset[str]

    @property
    def reads(self) -> frozenset[str]:
        """What it reads besides the fields."""
        return self.read

    @property
    def name(self) -> str:
        """Of the function."""
        return self.integrand.name

    def arguments(self, u: FloatArray, v: FloatArray) -> list[Any]:
        """Trial functions, then test functions."""
        of_v = arguments_of(self.parts, v)
        return of_v if self.arity == 1 else [*arguments_of(self.parts, u), *of_v]

    def unit_fields(self, slot: int, shape: tuple[int, ...]) -> list[Any]:
        """Test functions that are one in a single slot."""
        n = self.parts[-1].slots.stop
        return fields_of(self.parts, np.broadcast_to(np.eye(n)[slot][:, None, None], (n, *shape)))

    def in_motion(self) -> MovingLaw:
        """The form itself, evaluated wherever something is asked for."""
        return MovingLaw(self.integrand, self.parts, self.arity, self.read, self.idx)

    def explicit(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> FloatArray | None:
        """Through ``x``, ``n``, ``h`` and gradients of parameters."""
        if not reads_geometry(self.reads, at.parameters):
            return None
        return explicit_force(at, self.integrand, self.arguments(u, v), set(self.reads))

    def rate(self, at: Quadrature, keep: Keep, u: FloatArray, seeds: Mapping[str, Any]) -> FloatArray:
        """One evaluation for each test slot."""
        n = self.parts[-1].slots.stop
        known = [] if self.arity == 1 else fields_of(self.parts, u)
        result = np.empty((n, *at.shape))
        for slot in range(n):
            arguments = [*known, *self.unit_fields(slot, at.shape)]
            result[slot] = derivative(at.evaluate(self.integrand, arguments, seeds))
        return result

    def by_parameters(
        self, at: Quadrature, u: FloatArray, v: FloatArray, wanted: Collection[str]
    ) -> Mapping[str, FloatArray]:
        """One evaluation for each component of a parameter."""
        read = {name for name in self.reads if name.split(".")[0] in wanted}
        return parameter_slopes(at, self.integrand, self.arguments(u, v), read)


@dataclass(frozen=True, eq=False)
class FormLaw(IntegrandLaw):
    """A form that is linear in all arguments, probed into coefficients.

    Attributes
    ----------
    probe : Probe
    symmetric : bool
        Whether coefficients are symmetric in u and v.
    noted : Noted
        Points to be looked at, of one design.
    """

    probe: Probe
    symmetric: bool
    noted: Noted = field(default_factory=Noted)
    linear = True

    @property
    def idx(self) -> tuple[int, ...] | None:
        """What probing has told the form."""
        return self.probe.sides

    def at_design(self) -> Self:
        """With nothing noted yet."""
        return replace(self, noted=Noted())

    def require_sound(self, at: Picked) -> None:
        """At the points that were noted."""
        self.probe.require_sound(at, self.noted)

    def require_unchanged(self, at: Picked) -> None:
        """Coefficients at the points that were noted."""
        self.probe.require_unchanged(at, self.noted)

    def require_derivative(self, at: Picked, u: FloatArray, v: FloatArray, wanted: Collection[str]) -> None:
        """On both sides of the points that were noted."""
        arguments = self.arguments(u, v) if self.varies(at.parameters) else self.probe.arguments(at.shape)
        self.probe.require_derivative(at, arguments, wanted)

    def require_linear_at(self, at: Quadrature, u: FloatArray) -> None:
        """Compare the form at a field with its coefficients."""
        if self.arity == 2:
            self.probe.require_linear_at(at, arguments_of(self.parts, u))

    def varies(self, parameters: Parameters) -> bool:
        """Whether coefficients differ from point to point."""
        return self.probe.varies(parameters)

    def complete(self, parameters: Parameters) -> bool:
        """Whether nothing that it reads depends on the geometry."""
        return not reads_geometry(self.reads, parameters)

    def coefficients(self, at: Quadrature, keep: Keep) -> PointTensor:
        """By evaluating the form."""
        tensor: PointTensor = keep("coefficients", lambda: self._evaluated(at))
        return tensor

    def _evaluated(self, at: Quadrature) -> PointTensor:
        probe, m = self.probe, len(at.domain)
        varies = probe.varies(at.parameters)
        domain = at.domain if varies else at.domain.chunk(0, min(1, m))
        one_point = not probe.varies_within(at.parameters)
        here = at if varies and not one_point else replace(at, domain=domain, one_point=one_point, known_frame=None)
        values, basis, lo, hi = probe.coefficients(here, self.noted)
        n, dim = self.parts[-1].slots.stop, at.domain.dim
        if basis.shape[1] != n:  # slots that are not used have been left out
            full = np.zeros((len(basis), *(n,) * self.arity))
            nc = n // (dim + 1)
            used = (slice(None), slice(lo, hi)) * self.arity
            full.reshape(len(basis), *(nc, dim + 1) * self.arity)[:, *used] = basis.reshape(
                len(basis), *(nc, hi - lo) * self.arity
            )
            basis = full
        region = np.arange(m, dtype=np.int32) if varies else at.domain.one_region
        return PointTensor(values, basis, region, lo, hi, self.symmetric)

    @property
    def slots(self) -> tuple[int, int]:
        """Range of slots that probing found."""
        return self.probe.lo, self.probe.hi

    def pull_constants(
        self, at: Quadrature, keep: Keep, moments: FloatArray, into: Mapping[str, FloatArray], scale: float
    ) -> None:
        """From a single point."""
        for name in set(into) & self.reads:
            target = into[name]
            for index in np.ndindex(*target.shape):
                slope = self._slope(at, {name: parameter_seed(at, name, index, target.shape)})
                target[index] += scale * float((slope * moments[0]).sum())

    def _slope(self, at: Quadrature, seeds: Mapping[str, Any]) -> FloatArray:
        """Derivative ``(n, n)`` or ``(n,)`` of coefficients that do not vary, along complex steps of parameters."""
        n = self.parts[-1].slots.stop
        here = replace(at, domain=at.domain.chunk(0, 1), one_point=True, known_frame=None)
        return self.probe.tensor_slope(here, seeds).reshape((n,) * self.arity)

    def rate(self, at: Quadrature, keep: Keep, u: FloatArray, seeds: Mapping[str, Any]) -> FloatArray:
        """One evaluation for each test slot; from a single point where coefficients do not vary."""
        if self.varies(at.parameters):
            return super().rate(at, keep, u, seeds)
        slope = self._slope(at, seeds)
        if self.arity == 2:
            return np.einsum("st,teq->seq", slope, u)
        return np.broadcast_to(slope[:, None, None], (len(slope), *at.shape)).copy()


@dataclass(frozen=True, eq=False)
class FluxLaw(IntegrandLaw):
    """A form ``form(u, v, w)`` that may be nonlinear in u: flux by unit test functions, tangent by complex step."""

    linear = False

    @property
    def slots(self) -> tuple[int, int]:
        """All."""
        return 0, self.parts[0].dim + 1

    def flux(self, at: Quadrature, keep: Keep, u: FloatArray, tangent: PointTensor | None = None) -> FloatArray:
        """One evaluation for each test slot."""
        known = fields_of(self.parts, u)
        return np.array(
            [
                at.evaluate_real(self.integrand, [*known, *self.unit_fields(slot, at.shape)])
                for slot in range(len(u))
            ]
        )  # fmt: skip

    def tangent(self, at: Quadrature, keep: Keep, u: FloatArray | None) -> PointTensor:
        """One evaluation for each pair of slots."""
        if u is None:
            raise ValueError("the tangent of a nonlinear law depends on the field")
        n, (m, nq) = len(u), at.shape
        values = np.empty((n, n, m, nq))
        arguments = arguments_of(self.parts, u)
        for test in range(n):
            of_v = np.broadcast_to(np.eye(n)[test][:, None, None], (n, m, nq))
            both = [*arguments, *arguments_of(self.parts, of_v)]
            slopes = [
                argument_slopes(at, self.integrand, both, number, slots_read(part, gradient=True))
                for number, part in enumerate(self.parts)
            ]
            values[test] = dual_of(self.parts, slopes)
        basis = np.eye(n * n).reshape(n * n, n, n)
        region = np.arange(m, dtype=np.int32)
        return PointTensor(values.reshape(n * n, m, nq), basis, region, 0, at.domain.dim + 1)


@dataclass(frozen=True, eq=False)
class MovingLaw(IntegrandLaw):
    """A form at points that carry a complex step: its derivatives, and through the step their rates.

    Attributes
    ----------
    sides : tuple of int or None
        ``w.idx`` on facets between two cells.
    """

    sides: tuple[int, ...] | None
    linear = False

    @property
    def idx(self) -> tuple[int, ...] | None:
        """What the form is told."""
        return self.sides

    @property
    def slots(self) -> tuple[int, int]:
        """All."""
        return 0, self.parts[0].dim + 1

    def flux(self, at: Quadrature, keep: Keep, u: FloatArray, tangent: PointTensor | None = None) -> FloatArray:
        """One evaluation for each test slot."""
        known = [] if self.arity == 1 else fields_of(self.parts, u)
        result: npt.NDArray[Any] = np.empty((self.parts[-1].slots.stop, *at.shape), dtype=at.dtype)
        for slot in range(len(result)):
            result[slot] = at.evaluate_real(self.integrand, [*known, *self.unit_fields(slot, at.shape)])
        return result

    def pushed(self, at: Quadrature, keep: Keep, u: FloatArray, du: FloatArray) -> FloatArray:
        """One evaluation for each test slot."""
        moved = fields_of(self.parts, jet.seed(np.asarray(u, dtype=complex), du))
        result: npt.NDArray[Any] = np.empty(u.shape, dtype=at.dtype)
        for slot in range(len(result)):
            result[slot] = at.slope(self.integrand, [*moved, *self.unit_fields(slot, at.shape)])
        return result

    def pulled(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> FloatArray:
        """One evaluation for each trial slot."""
        arguments = self.arguments(u, v)
        slopes = [
            argument_slopes(at, self.integrand, arguments, number, slots_read(part, gradient=True))
            for number, part in enumerate(self.parts)
        ]
        return dual_of(self.parts, slopes)

    def duals(self, at: Quadrature, keep: Keep, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        """Both."""
        return self.flux(at, keep, u), self.pulled(at, keep, u, v) if self.arity == 2 else None


def parameter_seed(at: Quadrature, name: str, index: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Complex step of one component of a constant parameter."""
    value = np.asarray(at.environment()[name], dtype=float)
    direction = np.zeros(value.shape)
    direction[(*index, *(0,) * (value.ndim - len(shape)))] = 1.0
    return seed(value, direction)
