"""Forms bound to a domain: terms of the system that look like the built-in ones from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, inner
from femadj.base.complex_step import seed
from femadj.forms.integrand import strict_complex
from femadj.forms.pointwise import (
    Quadrature,
    Slots,
    add_parameter_slopes,
    chunks,
    evaluated,
    interpolate,
    reads_geometry,
    scatter,
)
from femadj.forms.probing import Probe, notable
from femadj.forms.tangent import surroundings_rate
from femadj.space import nodal
from femadj.space.integrals import BilinearIntegral, LinearIntegral
from femadj.space.nodal import Force, Tensor
from femadj.space.parameters import Parameters
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain


class _Bound(NamedTuple):
    """Coefficients ``(n_regions, 1 or nq, ...)`` with slots from ``lo`` to ``hi``, and the region of every entity."""

    values: FloatArray
    region: npt.NDArray[np.int32]
    lo: int
    hi: int


IntegralT = TypeVar("IntegralT", bound=BilinearIntegral | LinearIntegral)


@dataclass(frozen=True, eq=False)
class _FormTerm(Generic[IntegralT]):
    """What bilinear and linear forms on a domain share."""

    domain: Domain
    probe: Probe
    parameters: Parameters
    scale: float = 1.0

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Where it integrates."""
        return (self.domain,)

    @property
    def parameter_names(self) -> frozenset[str]:
        """Parameters that it reads."""
        return frozenset(name for name in self.parameters if name in self.probe.reads)

    def with_parameters(self, parameters: Parameters) -> Self:
        """The same form with other values of the parameters."""
        return replace(self, parameters=parameters, probe=self.probe.at_design())

    @property
    def _depends_on_geometry(self) -> bool:
        return reads_geometry(self.probe.reads, self.parameters)

    def _coefficients(self, domain: Domain, points: FloatArray, quadrature: Quadrature | None = None) -> _Bound:
        """Coefficients of the kernels on some entities; ``quadrature``: where it is known already."""
        probe = self.probe
        if not probe.varies(self.parameters):
            quadrature = Quadrature(domain.chunk(0, 1), points, self.parameters, one_point=True)
            with strict_complex():
                values, basis, lo, hi = probe.coefficients(quadrature)
            tensor = self.scale * np.tensordot(values[:, 0, 0], basis, axes=1)
            shape = (probe.n_components, hi - lo) * probe.arity
            return _Bound(tensor.reshape(1, 1, *shape), domain.one_region, lo, hi)
        one_point = not probe.varies_within(self.parameters)
        if quadrature is None or one_point:
            quadrature = Quadrature(domain, points, self.parameters, one_point=one_point)
        values, basis, lo, hi = probe.coefficients(quadrature)
        m, nq = quadrature.shape
        shape = (probe.n_components, hi - lo) * probe.arity
        flat = values.reshape(len(values), m * nq).T @ (self.scale * basis.reshape(len(basis), int(np.prod(shape))))
        return _Bound(flat.reshape(m, nq, *shape), np.arange(m, dtype=np.int32), lo, hi)

    def _parameter_gradient(
        self,
        points: FloatArray,
        arguments: Callable[[Domain], list[Slots]],
        work: Callable[[FloatArray], float],
        into: Mapping[str, FloatArray],
        scale: float,
    ) -> None:
        """Add derivatives by parameters; ``work(C)`` is the form at the fields with other constant coefficients."""
        names = {name for name in into if name in self.parameter_names}
        if not names or len(self.domain) == 0:
            return
        if not self.probe.varies(self.parameters):
            self._constant_parameter_gradient(points, names, work, into, scale * self.scale)
            return
        wanted = Parameters({name: entry for name, entry in self.parameters.entries.items() if name in names})
        reads = set(self.probe.reads)

        def slopes(piece: Domain) -> tuple[Quadrature, dict[str, FloatArray]]:
            quadrature = Quadrature(piece, points, self.parameters)
            return quadrature, self.probe.parameter_slopes(
                quadrature, arguments(piece), reads & _with_gradients(wanted)
            )

        for _, (quadrature, found) in evaluated(self.domain, slopes):
            add_parameter_slopes(quadrature, found, into, scale * self.scale)

    def _constant_parameter_gradient(
        self,
        points: FloatArray,
        names: set[str],
        work: Callable[[FloatArray], float],
        into: Mapping[str, FloatArray],
        scale: float,
    ) -> None:
        """Coefficients that are the same everywhere: the form itself, with their derivative in their place."""
        quadrature = Quadrature(self.domain.chunk(0, 1), points, self.parameters, one_point=True)
        self.probe.coefficients(quadrature)
        self.probe.require_derivative(quadrature, self.probe.arguments((1, 1)), names)
        for name in sorted(names):
            value = np.asarray(quadrature.environment()[name], dtype=float)
            target = into[name]
            for index in np.ndindex(*target.shape):
                direction = np.zeros(value.shape)
                direction[(*index, *(0,) * (value.ndim - len(index)))] = 1.0
                with strict_complex():
                    slope = self.probe.tensor_slope(quadrature, {name: seed(value, direction)})
                if slope.any():
                    target[index] += scale * work(slope)

    def _integral(self, domain: Domain, points: FloatArray, quadrature: Quadrature | None = None) -> IntegralT:
        """The form on some entities, with its coefficients there."""
        raise NotImplementedError

    def integrals(self, points: FloatArray) -> Iterator[IntegralT]:
        """The form as integrals with known coefficients, piece by piece."""
        if not self.probe.varies(self.parameters):
            yield self._integral(self.domain, points)
            return
        n_points = None if self.probe.varies_within(self.parameters) else 1
        for _, integral in evaluated(self.domain, lambda piece: self._integral(piece, points), n_points):
            yield integral

    def _to_contract(
        self, points: FloatArray, arguments: Callable[[Domain], list[Slots]], gradient: FloatArray, scale: float
    ) -> Iterator[IntegralT]:
        """The form as integrals; what enters through ``x``, ``n``, ``h`` and gradients of parameters is added here."""
        if not self._depends_on_geometry:
            yield from self.integrals(points)
            return

        def both(piece: Domain) -> tuple[IntegralT, FloatArray]:
            quadrature = Quadrature(piece, points, self.parameters)
            integral = self._integral(piece, points, quadrature)
            return integral, self.probe.surroundings_force(quadrature, arguments(piece))

        for piece, (integral, force) in evaluated(self.domain, both):
            yield integral
            scatter(piece.on_geometry, points, scale * self.scale * force, gradient)


def _with_gradients(parameters: Parameters) -> set[str]:
    return set(parameters) | {f"{name}.grad" for name in parameters}


@dataclass(frozen=True, eq=False)
class FormBilinear(_FormTerm[BilinearIntegral]):
    """A bilinear form on a domain; fields ``(n_nodes, nc)``.

    Attributes
    ----------
    swapped : bool
        Whether the roles of u and v are exchanged.
    """

    swapped: bool = False

    @property
    def symmetric(self) -> bool:
        """Whether it is symmetric in u and v."""
        return self.probe.symmetric

    def prepare(self) -> None:
        """Compile the kernels."""
        probe = self.probe
        nodal.prepare_bilinear(self.domain, probe.n_components, probe.lo, probe.hi, symmetric=probe.symmetric)

    def _integral(self, domain: Domain, points: FloatArray, quadrature: Quadrature | None = None) -> BilinearIntegral:
        values, region, lo, hi = self._coefficients(domain, points, quadrature)
        integral = BilinearIntegral(domain, Tensor(values, region, lo, hi, self.probe.symmetric))
        return integral.transposed() if self.swapped else integral

    def assemble(self, points: FloatArray, entries: MatrixEntries) -> float:
        """Add to the entries of the matrix; returns the smallest Jacobian determinant."""
        return min(integral.assemble(points, entries) for integral in self.integrals(points))

    def transposed(self) -> FormBilinear:
        """The form with the roles of u and v exchanged."""
        return self if self.symmetric else replace(self, swapped=not self.swapped)

    def apply(self, points: FloatArray, x: FloatArray, y: FloatArray) -> None:
        """Add ``K x`` to ``y``."""
        if len(self.domain) == 0:
            return
        for integral in self.integrals(points):
            integral.apply(points, x, y)

    def _arguments(self, points: FloatArray, u: FloatArray, v: FloatArray) -> Callable[[Domain], list[Slots]]:
        pair = (v, u) if self.swapped else (u, v)
        return lambda piece: [_slots(piece, points, field) for field in pair]

    def contract(
        self, points: FloatArray, u: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0
    ) -> None:
        """Add ``scale * d/dX (v^T K u)`` at fixed u and v to ``gradient``."""
        for integral in self._to_contract(points, self._arguments(points, u, v), gradient, scale):
            integral.contract(points, u, v, gradient, scale)

    def require_linear_at(self, points: FloatArray, u: FloatArray) -> None:
        """FormError where the form is not linear in u at a field, at a few entities."""
        if len(self.domain) == 0 or self.swapped:
            return
        few = self.domain.selected(notable(self.domain.field[self.domain.cell], u))
        self.probe.require_linear_at(Quadrature(few, points, self.parameters), [_slots(few, points, u)])

    def parameter_gradient(
        self, points: FloatArray, u: FloatArray, v: FloatArray, into: Mapping[str, FloatArray], scale: float = 1.0
    ) -> None:
        """Add ``scale * d/dm (v^T K u)`` at fixed u and v to the arrays of the parameters."""
        right, left = (v, u) if self.swapped else (u, v)

        def work(tensor: FloatArray) -> float:
            y = np.zeros_like(u)
            top = self.domain.dim + 1
            region = self.domain.one_region
            nodal.apply(self.domain, points, Tensor(tensor[None, None], region, 0, top, False), right, y)
            return inner(left, y)

        self._parameter_gradient(points, self._arguments(points, u, v), work, into, scale)

    def tangent(self, points: FloatArray, velocity: FloatArray, u: FloatArray, y: FloatArray) -> None:
        """Add ``(dK/dX velocity) u`` to ``y``."""
        for integral in self.integrals(points):
            integral.tangent(points, velocity, u, y)
        if not self._depends_on_geometry:
            return
        for piece in chunks(self.domain):
            quadrature = Quadrature(piece, points, self.parameters)
            fixed = _slots(piece, points, u)
            force = surroundings_rate(quadrature, self.probe, velocity, fixed, trial=not self.swapped)
            scatter(piece, points, self.scale * force, y)


@dataclass(frozen=True, eq=False)
class FormLinear(_FormTerm[LinearIntegral]):
    """A linear form on a domain."""

    def prepare(self) -> None:
        """Compile the kernels."""
        probe = self.probe
        nodal.prepare_linear(self.domain, probe.n_components, probe.lo, probe.hi, varies=False)

    def _integral(self, domain: Domain, points: FloatArray, quadrature: Quadrature | None = None) -> LinearIntegral:
        force, region, lo, hi = self._coefficients(domain, points, quadrature)
        n, nq = force.shape[:2]
        coefficients = Force(force, np.zeros((n, nq)), np.zeros(n), region, lo, hi)
        return LinearIntegral(domain, lambda _: coefficients, self.probe.n_components, lo, hi)

    def add(self, points: FloatArray, f: FloatArray) -> float:
        """Add the load vector; returns the smallest Jacobian determinant."""
        return min(integral.add(points, f) for integral in self.integrals(points))

    def _arguments(self, points: FloatArray, v: FloatArray) -> Callable[[Domain], list[Slots]]:
        return lambda piece: [_slots(piece, points, v)]

    def contract(self, points: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0) -> float:
        """Add ``scale * v^T (df/dX)`` to ``gradient``; returns ``scale * v^T f``."""
        pieces = self._to_contract(points, self._arguments(points, v), gradient, scale)
        return float(sum(integral.contract(points, v, gradient, scale) for integral in pieces))

    def parameter_gradient(
        self, points: FloatArray, v: FloatArray, into: Mapping[str, FloatArray], scale: float = 1.0
    ) -> None:
        """Add ``scale * v^T (df/dm)`` to the arrays of the parameters."""

        def work(tensor: FloatArray) -> float:
            y = np.zeros_like(v)
            top = self.domain.dim + 1
            data = Force(tensor[None, None], np.zeros((1, 1)), np.zeros(1), self.domain.one_region, 0, top)
            nodal.load(self.domain, points, data, y)
            return inner(v, y)

        self._parameter_gradient(points, self._arguments(points, v), work, into, scale)

    def tangent(self, points: FloatArray, velocity: FloatArray, y: FloatArray) -> None:
        """Add ``(df/dX) velocity`` to ``y``."""
        for integral in self.integrals(points):
            integral.tangent(points, velocity, y)
        if not self._depends_on_geometry:
            return
        for piece in chunks(self.domain):
            quadrature = Quadrature(piece, points, self.parameters)
            force = surroundings_rate(quadrature, self.probe, velocity, None, trial=False)
            scatter(piece, points, self.scale * force, y)


def _slots(domain: Domain, points: FloatArray, u: FloatArray) -> Slots:
    """A field at the quadrature points."""
    return Slots(*interpolate(domain, points, u))
