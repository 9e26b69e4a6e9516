"""Integrands at quadrature points, and the way from their pointwise derivatives back to nodes and parameters.

With a velocity field ``V`` of the mesh nodes, at fixed reference points,

    d(x) = V,   d(grad f) = -(grad f)(grad V),   d(dx) = (div V) dx,   d(n) = n (n . (grad V) n) - (grad V)^T n,
    d(ds) = (div V - n . (grad V) n) ds,   d(h) = h tr(m grad V) / k,   m = I on cells, I - n n on facets

(``k`` the dimension of the entity), so that an integrand ``phi(f, grad f, x, n, h)`` has the node gradient
``G_a = int S grad N_a + b N_a`` with ``b`` its derivative by ``x`` and ``S`` collected from the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from femadj.base import jet
from femadj.base.arrays import FloatArray
from femadj.base.calls import read_only
from femadj.base.jet import seed
from femadj.errors import FormError
from femadj.forms.integrand import (
    AnyArray,
    Environment,
    Field,
    Integrand,
    SidesRead,
    field_with,
    guarded,
    strict_complex,
)
from femadj.space.nodal import Frame, frame, interpolate, rate_of_measure, scatter
from femadj.space.parameters import Parameters
from femadj.space.region import Domain

P = TypeVar("P")
T = TypeVar("T")


def evaluated(pieces: Iterable[P], evaluate: Callable[[P], T], threads: int = 1) -> Iterator[tuple[P, T]]:
    """Evaluate something on every piece, in some threads; results come in the order of the pieces."""

    def strictly(piece: P) -> T:
        with strict_complex():  # is kept by every thread on its own
            return evaluate(piece)

    with strict_complex():
        if threads == 1:
            for piece in pieces:
                yield piece, evaluate(piece)
            return
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[tuple[P, Future[T]]] = deque()
            for piece in pieces:
                waiting.append((piece, pool.submit(strictly, piece)))
                if len(waiting) == 2 * threads:
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()


def as_field(value: AnyArray, gradient: Any, on_read: Callable[[], None] | None = None) -> Field:
    """A field as forms see it: one component is a scalar."""
    if np.iscomplexobj(value):  # it carries a step; what it is read for is known by then
        scalar = value.shape[0] == 1
        return field_with(value[0] if scalar else value, gradient[0] if scalar and gradient is not None else gradient)
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
        Node coordinates; complex ones carry a step, as may then all that is read, and derivatives carry its rate.
    parameters : Parameters
    one_point : bool
        Whether one point stands for every entity, for integrands that read nothing that varies within one.
    reads : set of str
        What has been read so far; ``"name.grad"`` for gradients of fields.
    sides : tuple of int, optional
        Facets between two cells: the side that each argument (trial, then test) is taken from.
    known_frame : callable, optional
        Gives the geometry where it may be known already.
    start : int
        Number of the first entity within the region that these are a part of.
    """

    domain: Domain
    points: FloatArray
    parameters: Parameters
    one_point: bool = False
    reads: set[str] = field(default_factory=set)
    sides: tuple[int, ...] | None = None
    known_frame: Callable[[], Frame] | None = None
    start: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """``(m, nq)``."""
        return len(self.domain), 1 if self.one_point else self.domain.geometry.n_points

    @cached_property
    def frame(self) -> Frame:
        """Geometry."""
        return frame(self.domain, self.points) if self.known_frame is None else self.known_frame()

    @cached_property
    def _sources(self) -> dict[str, Callable[[], Any]]:
        sources: dict[str, Callable[[], Any]] = {}
        if not self.one_point:
            sources |= {"x": lambda: field_with(self.frame.x), "h": lambda: field_with(self.frame.size)}
            if self.domain.is_facet:
                sources["n"] = lambda: field_with(self.frame.normal)
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
            if self.moving:
                values = values.astype(complex)
            if entry.kind == "cell" and self.sides:
                raise FormError(
                    f"it reads w.{name}, which has two values on a facet between two cells: declare it as a NodalField"
                )
            if entry.kind == "cell":
                here = values[self.domain.global_cells]
                return field_with(np.moveaxis(here, 0, -1)[..., None])
            if self.moving:
                return guarded(values if values.ndim == 0 else values[..., None, None])
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

    @property
    def moving(self) -> bool:
        """Whether the points carry a step already."""
        return np.iscomplexobj(self.points)

    @property
    def dtype(self) -> type:
        """Of values and derivatives."""
        return complex if self.moving else float

    def slope(self, integrand: Integrand, arguments: Sequence[Any], seeds: Mapping[str, Any] | None = None) -> AnyArray:
        """Derivative of an integrand along the steps of its arguments and seeds, ``(m, nq)``."""
        return jet.derivative(self.evaluate(integrand, arguments, seeds), moving=self.moving)

    def evaluate_real(self, integrand: Integrand, arguments: Sequence[Any]) -> FloatArray:
        """Values of an integrand without complex steps but those of the points; FormError for other complex numbers."""
        values = self.evaluate(integrand, arguments)
        if self.moving:
            return np.asarray(values)
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
    return field_with(value if value_step is None else seed(value, value_step), grad)


@dataclass(frozen=True, eq=False)
class Slots:
    """An argument of an integrand at the quadrature points.

    Attributes
    ----------
    value : (nc, m, nq)
    gradient : (nc, dim, m, nq)
    on_read : callable, optional
        Called when an integrand reads the gradient.
    label : str
        What it is, for messages.
    """

    value: FloatArray
    gradient: FloatArray
    on_read: Callable[[], None] | None = None
    label: str = "the state"

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
    result: AnyArray = np.empty((nc, len(slots), *quadrature.shape), dtype=quadrature.dtype)
    fields = [a.field for a in arguments]
    for i in range(nc):
        for k, slot in enumerate(slots):
            fields[number] = here.seeded(i, slot)
            result[i, k] = quadrature.slope(integrand, fields)
    return result


def explicit_force(
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
    force: AnyArray = np.zeros((dim, dim + 1, *quadrature.shape), dtype=quadrature.dtype)
    at = quadrature.frame

    def slope(**seeds: Any) -> AnyArray:
        return quadrature.slope(integrand, fields, seeds)

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
    """Add what a field contributes whose gradient is transported: ``-f_i,j (d phi / d f_i,k)``."""
    for j in range(force.shape[0]):
        for k in range(force.shape[0]):
            for f, by in zip(gradient, by_gradient, strict=True):
                force[j, 1 + k] -= f[j] * by[k]


def _nodal_slopes(
    quadrature: Quadrature, integrand: Integrand, fields: Sequence[Any], name: str, slots: range
) -> FloatArray:
    """Derivatives by the slots of a nodal parameter, shape ``(nc, n_slots, m, nq)``."""
    slots_of = Slots(*quadrature.nodal(name))
    nc = slots_of.value.shape[0]
    result: AnyArray = np.empty((nc, len(slots), *quadrature.shape), dtype=quadrature.dtype)
    for i in range(nc):
        for k, slot in enumerate(slots):
            result[i, k] = quadrature.slope(integrand, fields, {name: slots_of.seeded(i, slot)})
    return result


def seeds_along(
    quadrature: Quadrature,
    reads: Collection[str],
    velocity: FloatArray | None,
    w: FloatArray | None,
    rates: Mapping[str, FloatArray],
) -> dict[str, Any]:
    """Complex steps of everything but the arguments that an integrand reads, along a direction of the design.

    Parameters
    ----------
    quadrature : Quadrature
    reads : collection of str
    velocity : (n_nodes, dim), optional
        Of the nodes.
    w : (dim, dim, m, nq), optional
        Its gradient.
    rates : mapping of name to array
        Of parameters.
    """
    domain = quadrature.domain
    seeds: dict[str, Any] = {}
    if velocity is not None and w is not None and {"x", "n", "h"}.intersection(reads):
        at = quadrature.frame
        rate, n = rate_of_measure(w, at.normal_or_none), at.normal
        if "x" in reads:
            seeds["x"] = seed(at.x, interpolate(domain.on_geometry, quadrature.points, velocity)[0])
        if "n" in reads:
            pulled = np.einsum("ieq,ijeq->jeq", n, w)
            seeds["n"] = seed(n, n * np.einsum("jeq,jeq->eq", pulled, n) - pulled)
        if "h" in reads:
            seeds["h"] = seed(at.size, at.size * rate / (domain.dim - 1 if domain.is_facet else domain.dim))
    for name, entry in quadrature.parameters.entries.items():
        if name in reads and entry.kind != "nodal" and name in rates:
            value, rate = np.asarray(quadrature.environment()[name]), rates[name]
            if entry.kind == "cell":
                here = np.moveaxis(rate[domain.global_cells], 0, -1)[..., None]
                seeds[name] = field_with(seed(value, here))
            else:
                seeds[name] = seed(value, rate if rate.ndim == 0 else rate[..., None, None])
        elif name in reads and entry.kind == "nodal" and (name in rates or (w is not None and f"{name}.grad" in reads)):
            seeds[name] = _nodal_seed(quadrature, name, w, rates.get(name))
    return seeds


def _nodal_seed(quadrature: Quadrature, name: str, w: FloatArray | None, rate: FloatArray | None) -> Any:
    """Complex step of a nodal parameter: its gradient is transported, and its values may change."""
    value, gradient = quadrature.nodal(name)
    step = np.zeros_like(gradient) if w is None else -np.einsum("ikeq,kjeq->ijeq", gradient, w)
    scalar = len(value) == 1
    if rate is None:
        moved = seed(gradient, step)
        return field_with(value[0] if scalar else value, moved[0] if scalar else moved)
    table = rate[:, None] if rate.ndim == 1 else rate
    by_value, by_gradient = interpolate(quadrature.domain.on_geometry, quadrature.points, table)
    both = seed(value, by_value), seed(gradient, step + by_gradient)
    return field_with(*(part[0] for part in both)) if scalar else field_with(*both)


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
        slopes: AnyArray = np.empty((*shape, *quadrature.shape), dtype=quadrature.dtype)
        for index in np.ndindex(*shape):
            if shape:
                direction = np.zeros((*shape, 1, 1))
                direction[index] = 1.0
            else:
                direction = np.ones(()) if entry.kind == "constant" else np.ones((1, 1))
            step = seed(np.asarray(value), direction)
            seeds = {name: step if entry.kind == "constant" else field_with(step)}
            slopes[index] = quadrature.slope(integrand, fields, seeds)
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
