"""Integrands at quadrature points, and the way from their pointwise derivatives back to nodes and parameters.

With a velocity field ``V`` of the mesh nodes, at fixed reference points,

    d(x) = V,   d(grad f) = -(grad f)(grad V),   d(dx) = (div V) dx,   d(n) = n (n . (grad V) n) - (grad V)^T n,
    d(ds) = (div V - n . (grad V) n) ds,   d(h) = h tr(m grad V) / k,   m = I on cells, I - n n on facets

(``k`` the dimension of the entity), so that an integrand ``phi(f, grad f, x, n, h)`` has the node gradient
``G_a = int S grad N_a + b N_a`` with ``b`` its derivative by ``x`` and ``S`` collected from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.calls import read_only
from femadj.base.complex_step import Guarded, derivative, seed
from femadj.errors import FormError
from femadj.forms.integrand import AnyArray, Environment, Field, GuardedField, Integrand, SidesRead, strict_complex
from femadj.kernels import integrals as kernels
from femadj.space.parameters import Parameters
from femadj.space.region import Domain

T = TypeVar("T")

CHUNK_POINTS = 131_072
"""Quadrature points that are evaluated at a time: enough for the interpreter not to count, few enough for the cache."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Geometry at the quadrature points of ``m`` entities.

    Attributes
    ----------
    x : (dim, m, nq)
    measure : (m, nq)
        Volume or area element times quadrature weight.
    normal : (dim, m, nq)
        Unit outward normal; empty on cells.
    size : (m, nq)
        ``|det J|^(1/k)`` of the cell or facet.
    """

    x: FloatArray
    measure: FloatArray
    normal: FloatArray
    size: FloatArray


def frame(domain: Domain, points: FloatArray) -> Frame:
    """Geometry at the quadrature points of a domain."""
    m, nq, dim = len(domain), domain.geometry.n_points, domain.dim
    result = Frame(
        np.empty((dim, m, nq)),
        np.empty((m, nq)),
        np.empty((dim, m if domain.is_facet else 0, nq)),
        np.empty((m, nq)),
    )
    items = np.arange(m, dtype=np.int32)
    kernel = kernels.frame(domain.sizes(1, 0, 1))
    kernel(*domain.arguments(points, items), result.x, result.measure, result.normal, result.size)
    return result


def interpolate(
    domain: Domain, points: FloatArray, u: FloatArray, lo: int = 0, hi: int | None = None
) -> tuple[FloatArray, FloatArray]:
    """Values ``(nc, m, nq)`` and gradients ``(nc, dim, m, nq)`` of a field ``(n_nodes, nc)``, by slots."""
    m, nq, dim, nc = len(domain), domain.geometry.n_points, domain.dim, u.shape[1]
    top = dim + 1 if hi is None else hi
    value = np.empty((nc, m if lo == 0 else 0, nq))
    gradient = np.empty((nc, dim, m if top > 1 else 0, nq))
    items = np.arange(m, dtype=np.int32)
    kernel = kernels.interpolate(domain.sizes(nc, lo, top))
    kernel(*domain.arguments(points, items), np.ascontiguousarray(u), value, gradient)
    return value, gradient


def scatter(domain: Domain, points: FloatArray, force: FloatArray, y: FloatArray, lo: int = 0) -> None:
    """Add ``int v^ : F`` to ``y`` ``(n_nodes, nc)``; ``F`` has shape ``(nc, ns, m, nq)`` and slots from ``lo``."""
    nc, ns, m, nq = force.shape
    kernel = kernels.load(domain.sizes(nc, lo, lo + ns), domain.specialised)
    values = np.ascontiguousarray(force.transpose(2, 3, 0, 1))
    pressure = np.zeros((m, nq)) if domain.is_facet else np.zeros((0, 0))
    region = np.arange(m, dtype=np.int32)
    domain.run(
        lambda part, items: kernel(
            *domain.arguments(points, items), values, pressure, region, domain.owner, part, y
        )
    )  # fmt: skip


def chunks(domain: Domain, n_points: int | None = None) -> Iterator[Domain]:
    """The domain in pieces of about ``CHUNK_POINTS`` quadrature points."""
    each = max(1, CHUNK_POINTS // (n_points or domain.geometry.n_points))
    if len(domain) <= each:
        yield domain
        return
    for start in range(0, len(domain), each):
        yield domain.chunk(start, min(start + each, len(domain)))


def evaluated(
    domain: Domain, evaluate: Callable[[Domain], T], n_points: int | None = None
) -> Iterator[tuple[Domain, T]]:
    """Evaluate something on every chunk, in as many threads as the domain has parts; results come in order."""
    threads = len(domain.parts)
    with strict_complex():
        pieces = list(chunks(domain, n_points))
        if threads == 1 or len(pieces) == 1:
            for piece in pieces:
                yield piece, evaluate(piece)
            return
        with ThreadPoolExecutor(threads) as pool:
            batch = 2 * threads
            waiting = [pool.submit(evaluate, piece) for piece in pieces[:batch]]
            for number, piece in enumerate(pieces):
                result = waiting[number].result()
                waiting[number] = None  # type: ignore[call-overload]
                if number + batch < len(pieces):
                    waiting.append(pool.submit(evaluate, pieces[number + batch]))
                yield piece, result


def as_field(value: AnyArray, gradient: Any, on_read: Callable[[], None] | None = None) -> Field:
    """A field as forms see it: one component is a scalar."""
    if value.shape[0] == 1:
        if callable(gradient):
            return Field(value[0], lambda: gradient()[0], on_read)
        return Field(value[0], None if gradient is None else gradient[0], on_read)
    return Field(value, gradient, on_read)


@dataclass(frozen=True, eq=False)
class Quadrature:
    """Quadrature points of a domain, and everything that integrands may read there.

    Attributes
    ----------
    domain : Domain
    points : (n_nodes, dim)
        Node coordinates.
    parameters : Parameters
    one_point : bool
        Whether one point stands for every entity, for integrands that read nothing that varies within one.
    reads : set of str
        What has been read so far; ``"name.grad"`` for gradients of fields.
    sides : tuple of int, optional
        Facets between two cells: the side that each argument (trial, then test) is taken from.
    """

    domain: Domain
    points: FloatArray
    parameters: Parameters
    one_point: bool = False
    reads: set[str] = field(default_factory=set)
    sides: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(m, nq)``."""
        return len(self.domain), 1 if self.one_point else self.domain.geometry.n_points

    @cached_property
    def frame(self) -> Frame:
        """Geometry."""
        return frame(self.domain, self.points)

    @cached_property
    def _sources(self) -> dict[str, Callable[[], Any]]:
        sources: dict[str, Callable[[], Any]] = {}
        if not self.one_point:
            sources |= {"x": lambda: Field(self.frame.x), "h": lambda: Field(self.frame.size)}
            if self.domain.is_facet:
                sources["n"] = lambda: Field(self.frame.normal)
        if self.sides is not None:
            sources["idx"] = lambda: SidesRead(self.sides or (), self.reads)
        for name in self.parameters:
            sources[name] = self._parameter_source(name)
        return sources

    def _parameter_source(self, name: str) -> Callable[[], Any]:
        entry = self.parameters.entries[name]

        def read() -> Any:
            if entry.kind == "nodal":
                value, gradient = self.nodal(name)
                on_read = self._two_gradients(name) if self.sides else lambda: self.reads.add(f"{name}.grad")
                return as_field(value, gradient, on_read)
            values = self.parameters.value(name)
            if entry.kind == "cell" and self.sides:
                raise FormError(
                    f"it reads w.{name}, which has two values on a facet between two cells: declare it as a NodalField"
                )
            if entry.kind == "cell":
                here = values[self.domain.global_cells]
                return Field(np.moveaxis(here, 0, -1)[..., None])
            return float(values) if values.ndim == 0 else read_only(values[..., None, None])

        return read

    def _two_gradients(self, name: str) -> Callable[[], None]:
        def refuse() -> None:
            raise FormError(f"it reads w.{name}.grad, which has two values on a facet between two cells")

        return refuse

    @cached_property
    def _nodal(self) -> dict[str, tuple[FloatArray, FloatArray]]:
        return {}

    def nodal(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Value and gradient of a nodal parameter."""
        if name not in self._nodal:
            values = self.parameters.value(name)
            table = values[:, None] if values.ndim == 1 else values
            self._nodal[name] = interpolate(self.domain.on_geometry, self.points, table)
        return self._nodal[name]

    def environment(self, seeds: Mapping[str, Any] | None = None) -> Environment:
        """The argument ``w`` of an integrand, with some entries replaced."""
        place = "facets" if self.domain.is_facet else "cells"
        if self.one_point:
            place = "one point of a cell (the form read nothing that varies where it was tried)"
        if self.sides is not None:
            place = "interior facets"
        return Environment(self._sources, seeds or {}, place)

    def evaluate(
        self, integrand: Integrand, arguments: Sequence[Any], seeds: Mapping[str, Any] | None = None
    ) -> AnyArray:
        """Values of an integrand, ``(m, nq)``."""
        w = self.environment(seeds)
        values = integrand(arguments, w, self.shape)
        self.reads.update(w.reads)
        return values

    def evaluate_real(self, integrand: Integrand, arguments: Sequence[Any]) -> FloatArray:
        """Values of an integrand without complex steps; FormError where they are complex all the same."""
        values = self.evaluate(integrand, arguments)
        if np.iscomplexobj(values):
            if np.abs(values.imag).max(initial=0.0) > 0:
                raise FormError(f"form {integrand.name!r} returns complex numbers; forms and functionals must be real")
            return np.ascontiguousarray(values.real)
        return np.asarray(values, dtype=float)


def unit(shape: tuple[int, ...], index: tuple[int, ...]) -> AnyArray:
    """Seed direction: one in one component, zero in the others."""
    direction = np.zeros((*shape[:-2], 1, 1))
    direction[index] = 1.0
    return direction


def seeded_field(value: Any, gradient: Any, value_step: Any = None, gradient_step: Any = None) -> Any:
    """A field with complex steps in its value or its gradient."""
    grad = gradient if gradient_step is None or gradient is None else seed(gradient, gradient_step)
    if value_step is None:
        return Field(value, grad)
    return GuardedField(seed(value, value_step), grad)


@dataclass(frozen=True, eq=False)
class Slots:
    """An argument of an integrand at the quadrature points.

    Attributes
    ----------
    value : (nc, m, nq)
    gradient : (nc, dim, m, nq)
    on_read : callable, optional
        Told when an integrand reads the gradient.
    """

    value: FloatArray
    gradient: FloatArray
    on_read: Callable[[], None] | None = None

    @property
    def field(self) -> Field:
        """As forms see it."""
        return as_field(self.value, self.gradient, self.on_read)

    def seeded(self, component: int, slot: int) -> Any:
        """With a complex step in the value (slot 0) or in a derivative."""
        scalar = self.value.shape[0] == 1
        value, gradient = (self.value[0], self.gradient[0]) if scalar else (self.value, self.gradient)
        lead = () if scalar else (component,)
        if slot == 0:
            return seeded_field(value, gradient, value_step=np.ones((1, 1)) if scalar else unit(value.shape, lead))
        return seeded_field(value, gradient, gradient_step=unit(gradient.shape, (*lead, slot - 1)))


def argument_slopes(
    quadrature: Quadrature, integrand: Integrand, arguments: Sequence[Slots], number: int, slots: range
) -> FloatArray:
    """Derivatives of an integrand by the slots of one argument, shape ``(nc, n_slots, m, nq)``."""
    here = arguments[number]
    nc = here.value.shape[0] or here.gradient.shape[0]
    result = np.empty((nc, len(slots), *quadrature.shape))
    fields = [a.field for a in arguments]
    for i in range(nc):
        for k, slot in enumerate(slots):
            fields[number] = here.seeded(i, slot)
            result[i, k] = derivative(quadrature.evaluate(integrand, fields))
    return result


def surroundings_force(
    quadrature: Quadrature, integrand: Integrand, arguments: Sequence[Slots], reads: set[str]
) -> FloatArray:
    """What an integrand contributes to the node gradient through ``x``, ``n``, ``h`` and gradients of parameters.

    Returns
    -------
    (dim, dim + 1, m, nq)
        ``F[j, 0]`` multiplies ``N_a``, ``F[j, 1 + k]`` multiplies ``dN_a/dx_k``.
    """
    dim = quadrature.domain.dim
    fields = [a.field for a in arguments]
    force = np.zeros((dim, dim + 1, *quadrature.shape))
    at = quadrature.frame

    def slope(**seeds: Guarded) -> FloatArray:
        return derivative(quadrature.evaluate(integrand, fields, seeds))

    if "x" in reads:
        for j in range(dim):
            force[j, 0] = slope(x=seed(at.x, unit(at.x.shape, (j,))))
    if "n" in reads:
        n = at.normal
        by_n = np.array([slope(n=seed(n, unit(n.shape, (j,)))) for j in range(dim)])
        add_normal(force, n, by_n)
    if "h" in reads:
        add_size(force, at, slope(h=seed(at.size, 1.0)))
    for name in quadrature.parameters:
        if f"{name}.grad" in reads:
            _, gradient = quadrature.nodal(name)
            by_gradient = _nodal_slopes(quadrature, integrand, fields, name, range(1, dim + 1))
            add_transport(force, gradient, by_gradient)
    return force


def add_measure(force: FloatArray, phi: FloatArray, normal: FloatArray | None) -> None:
    """Add ``phi`` times the derivative of the measure: the identity, less ``n n`` on facets."""
    dim = force.shape[0]
    for j in range(dim):
        force[j, 1 + j] += phi
        if normal is not None:
            for k in range(dim):
                force[j, 1 + k] -= phi * normal[j] * normal[k]


def add_normal(force: FloatArray, normal: FloatArray, by_normal: FloatArray) -> None:
    """Add what an integrand contributes through the normal, from its derivatives ``(dim, m, nq)`` by it."""
    dim = force.shape[0]
    along = (by_normal * normal).sum(axis=0)
    for j in range(dim):
        for k in range(dim):
            force[j, 1 + k] += normal[j] * (along * normal[k] - by_normal[k])


def add_size(force: FloatArray, at: Frame, by_size: FloatArray) -> None:
    """Add what an integrand contributes through the mesh size, from its derivative ``(m, nq)`` by it."""
    dim = force.shape[0]
    on_facets = at.normal.shape[1] > 0
    add_measure(force, by_size * at.size / (dim - 1 if on_facets else dim), at.normal if on_facets else None)


def add_transport(force: FloatArray, gradient: FloatArray, by_gradient: FloatArray) -> None:
    """Add what a field contributes whose gradient is carried along: ``-f_i,j (d phi / d f_i,k)``."""
    force[:, 1:] -= np.einsum("ijeq,ikeq->jkeq", gradient, by_gradient)


def _nodal_slopes(
    quadrature: Quadrature, integrand: Integrand, fields: Sequence[Any], name: str, slots: range
) -> FloatArray:
    """Derivatives by the slots of a nodal parameter, shape ``(nc, n_slots, m, nq)``."""
    slots_of = Slots(*quadrature.nodal(name))
    nc = slots_of.value.shape[0]
    result = np.empty((nc, len(slots), *quadrature.shape))
    for i in range(nc):
        for k, slot in enumerate(slots):
            result[i, k] = derivative(quadrature.evaluate(integrand, fields, {name: slots_of.seeded(i, slot)}))
    return result


def reads_geometry(reads: Collection[str], parameters: Parameters) -> bool:
    """Whether an integrand that reads this changes, at fixed fields, when nodes move."""
    return bool({"x", "n", "h"}.intersection(reads)) or any(f"{name}.grad" in reads for name in parameters)


def parameter_slopes(
    quadrature: Quadrature,
    integrand: Integrand,
    arguments: Sequence[Slots],
    reads: set[str],
) -> dict[str, FloatArray]:
    """Derivatives of an integrand by the values of the parameters that it reads, at the quadrature points.

    Returns
    -------
    dict
        ``(*shape, m, nq)`` for constants and cell fields (``shape`` that of the value at a point), and
        ``(nc, n_slots, m, nq)`` for nodal fields.
    """
    fields = [a.field for a in arguments]
    result = {}
    for name, entry in quadrature.parameters.entries.items():
        if name not in reads:
            continue
        if entry.kind == "nodal":
            top = quadrature.domain.dim + 1 if f"{name}.grad" in reads else 1
            result[name] = _nodal_slopes(quadrature, integrand, fields, name, range(top))
            continue
        value = quadrature.environment()[name]
        shape = entry.item_shape
        slopes = np.empty((*shape, *quadrature.shape))
        for index in np.ndindex(*shape):
            if shape:
                direction = np.zeros((*shape, 1, 1))
                direction[index] = 1.0
            else:
                direction = np.ones(()) if entry.kind == "constant" else np.ones((1, 1))
            step = seed(np.asarray(value), direction)
            seeds = {name: step if entry.kind == "constant" else GuardedField(step)}
            slopes[index] = derivative(quadrature.evaluate(integrand, fields, seeds))
        result[name] = slopes
    return result


def add_parameter_slopes(
    quadrature: Quadrature, slopes: Mapping[str, FloatArray], into: Mapping[str, FloatArray], scale: float
) -> None:
    """Integrate pointwise derivatives and add them to the gradients by the parameters."""
    measure = quadrature.frame.measure
    for name, slope in slopes.items():
        entry = quadrature.parameters.entries[name]
        target = into[name]
        if entry.kind == "nodal":
            table = target[:, None] if target.ndim == 1 else target
            scatter(quadrature.domain.on_geometry, quadrature.points, scale * slope, table)
        elif entry.kind == "cell":
            sums = np.moveaxis((slope * measure).sum(axis=-1), -1, 0)
            np.add.at(target, quadrature.domain.global_cells, scale * sums)
        else:
            target += scale * (slope * measure).sum(axis=(-2, -1))
