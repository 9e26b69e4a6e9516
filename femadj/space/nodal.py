"""Compiled passes over a region, for fields with values at the mesh nodes: one function for each kernel.

``u^`` is the generalised gradient of a field (value in slot 0, derivatives behind it), see ``femadj.kernels.entity``.
Every function adds to the array it is given and takes node coordinates ``points`` ``(n_nodes, dim)``. All of them work
in the numbers of that array: where it is complex, coordinates, fields and coefficients may be complex too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.kernels import entity, passes
from femadj.kernels.compile import Sizes, read_only
from femadj.space.engine import Passes
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain, in_threads

AnyArray = npt.NDArray[Any]
Int32Array = npt.NDArray[np.int32]

SPECIALISED_CELLS = 100_000
"""Blocks with at least this many cells get kernels at quadrature points, and those of complex numbers, compiled for
their sizes: interpolation takes a second to compile, and is then three times as fast."""


class Tensor(NamedTuple):
    """Pointwise coefficients of a bilinear form.

    Attributes
    ----------
    coefficient : (n_regions, 1 or n_points, nc, ns, nc, ns)
        ``C[i, s, k, t]`` of ``int v^ : C : u^``; slots ``s`` count from ``lo``.
    region : (n_entities,) int32
        Which coefficient each entity has.
    lo, hi : int
        Range of slots.
    symmetric : bool
        Whether ``C[i, s, k, t] = C[k, t, i, s]``.
    """

    coefficient: FloatArray
    region: Int32Array
    lo: int
    hi: int
    symmetric: bool

    @property
    def n_components(self) -> int:
        """Components of the field."""
        return self.coefficient.shape[2]

    @property
    def transposed(self) -> Tensor:
        """With the roles of u and v exchanged."""
        if self.symmetric:
            return self
        return self._replace(coefficient=np.ascontiguousarray(self.coefficient.transpose(0, 1, 4, 5, 2, 3)))


class Force(NamedTuple):
    """Pointwise coefficients of a linear form ``int v^ : (F + p n) + c``.

    Attributes
    ----------
    force : (n_regions, 1 or n_points, nc, ns)
    pressure : (n_regions, 1 or n_points)
        Multiplies the outward normal (facets of a field with as many components as dimensions).
    constant : (n_regions,)
        Must not depend on position.
    region : (n_entities,) int32
    lo, hi : int
        Range of slots (``lo == hi``: only the constant).
    force_x : (n_regions, n_points, nc, ns, dim) or None
    pressure_x : (n_regions, n_points, dim) or None
        Derivatives by position, where the data depend on it.
    """

    force: FloatArray
    pressure: FloatArray
    constant: FloatArray
    region: Int32Array
    lo: int
    hi: int
    force_x: FloatArray | None = None
    pressure_x: FloatArray | None = None

    @property
    def n_components(self) -> int:
        """Components of the field."""
        return self.force.shape[2]


# ------------------------------------------------------------------ bilinear forms
def prepare_bilinear(domain: Domain, components: int, lo: int, hi: int, *, symmetric: bool) -> None:
    """Compile (or load from disk) the kernels of assembly and contraction, where they run on the host."""
    if not domain.engine.refusal(domain):
        return
    passes.assemble(domain.sizes(components, lo, hi, symmetric=symmetric), domain.specialised)
    passes.contract(domain.sizes(components, lo, hi), domain.specialised)


def assemble(domain: Domain, points: AnyArray, c: Tensor, entries: MatrixEntries) -> float:
    """Add the matrix to the entries of the pattern; returns the smallest Jacobian determinant."""
    data = entries.data
    if (there := _elsewhere(domain, data)) is not None:
        return there.assemble(points, c, entries)
    sizes = domain.sizes(c.n_components, c.lo, c.hi, symmetric=c.symmetric, dtype=data.dtype)
    kernel = passes.assemble(sizes, _specialised(domain, sizes))
    geometry, tensor = domain.at(_numbers(points, sizes)), _tensor(c, sizes)
    csr = entries.pattern.csr
    position = read_only(entries.pattern.positions[domain.block])
    where = entity.MatrixEntries(position, read_only(csr.indptr), csr.triangle == "upper")
    return min(domain.run(lambda share: float(kernel(geometry, domain.tables, tensor, share, where, data))))


def apply(domain: Domain, points: AnyArray, c: Tensor, x: AnyArray, y: AnyArray) -> None:
    """Add ``K x`` to ``y``; both ``(n_nodes, nc)``."""
    if (there := _elsewhere(domain, y)) is not None:
        return there.apply(points, c, x, y)
    sizes = domain.sizes(c.n_components, c.lo, c.hi, dtype=y.dtype)
    kernel = passes.apply(sizes, _specialised(domain, sizes))
    geometry, tensor, x = domain.at(_numbers(points, sizes)), _tensor(c, sizes), _numbers(x, sizes)
    domain.run(lambda share: kernel(geometry, domain.tables, tensor, share, x, y))


def contract(
    domain: Domain, points: AnyArray, c: Tensor, u: AnyArray, v: AnyArray, gradient: AnyArray, scale: float
) -> None:
    """Add ``scale * d/dX (v^T K u)`` at fixed u and v to ``gradient`` ``(n_nodes, dim)``."""
    if (there := _elsewhere(domain, gradient)) is not None:
        return there.contract(points, c, u, v, gradient, scale)
    sizes = domain.sizes(c.n_components, c.lo, c.hi, dtype=gradient.dtype)
    kernel = passes.contract(sizes, _specialised(domain, sizes))
    geometry, tensor = domain.at(_numbers(points, sizes)), _tensor(c, sizes)
    u, v = _numbers(u, sizes), _numbers(v, sizes)
    domain.run(lambda share: kernel(geometry, domain.tables, tensor, share, u, v, scale, gradient))


def tangent(domain: Domain, points: AnyArray, c: Tensor, velocity: AnyArray, u: AnyArray, y: AnyArray) -> None:
    """Add ``(dK/dX velocity) u`` to ``y``."""
    if (there := _elsewhere(domain, y)) is not None:
        return there.tangent(points, c, velocity, u, y)
    sizes = domain.sizes(c.n_components, c.lo, c.hi, dtype=y.dtype)
    kernel = passes.tangent(sizes, _specialised(domain, sizes))
    geometry, tensor = domain.at(_numbers(points, sizes)), _tensor(c, sizes)
    velocity, u = _numbers(velocity, sizes), _numbers(u, sizes)
    domain.run(lambda share: kernel(geometry, domain.tables, tensor, share, velocity, u, y))


def moments(
    domain: Domain,
    points: AnyArray,
    region: Int32Array,
    n_regions: int,
    lo: int,
    hi: int,
    u: AnyArray,
    v: AnyArray,
) -> AnyArray:
    """Derivative of ``v^T K u`` by coefficients that are constant in regions: ``int v^ (x) u^`` over each.

    Parameters
    ----------
    region : (n_entities,) int32
        Below ``n_regions``; for moments of every entity, its number.
    lo, hi : int
        Range of slots.
    u, v : (n_nodes, nc)

    Returns
    -------
    (n_regions, nc, ns, nc, ns)
        The same bit by bit for any number of threads.
    """
    sizes = domain.sizes(u.shape[1], lo, hi, dtype=np.result_type(points, u, v))
    kernel = passes.moments(sizes, _specialised(domain, sizes))
    geometry, u, v = domain.at(_numbers(points, sizes)), _numbers(u, sizes), _numbers(v, sizes)
    runs = Runs.of(region, n_regions)
    nc, ns = sizes.components, hi - lo
    sums = np.zeros((len(runs), nc, ns, nc, ns), sizes.dtype)

    def add(share: slice) -> None:
        start = runs.start[share.start : share.stop + 1]
        kernel(geometry, domain.tables, runs.items, start, u, v, sums[share])

    in_threads(add, runs.shares(len(domain.parts)))
    return runs.by_region(sums)


# ------------------------------------------------------------------ linear forms
def prepare_linear(domain: Domain, components: int, lo: int, hi: int, *, varies: bool) -> None:
    """Compile (or load from disk) the kernels of the load and its contraction."""
    passes.load(domain.sizes(components, lo, hi), domain.specialised)
    passes.load_contract(domain.sizes(components, lo, hi, varies=varies), domain.specialised)


def load(domain: Domain, points: AnyArray, c: Force, f: AnyArray) -> float:
    """Add the nodal forces to ``f`` ``(n_nodes, nc)``; returns the smallest Jacobian determinant."""
    sizes = domain.sizes(c.n_components, c.lo, c.hi, dtype=f.dtype)
    kernel = passes.load(sizes, _specialised(domain, sizes))
    geometry, force = domain.at(_numbers(points, sizes)), _force(domain, c, sizes)
    return min(domain.run(lambda share: float(kernel(geometry, domain.tables, force, share, f))))


def load_contract(domain: Domain, points: AnyArray, c: Force, v: AnyArray, gradient: AnyArray, scale: float) -> Any:
    """Add ``scale * d/dX`` of the integral at fixed v to ``gradient``; returns ``scale`` times the integral."""
    sizes = domain.sizes(c.n_components, c.lo, c.hi, varies=c.force_x is not None, dtype=gradient.dtype)
    kernel = passes.load_contract(sizes, _specialised(domain, sizes))
    geometry, force, v = domain.at(_numbers(points, sizes)), _force(domain, c, sizes), _numbers(v, sizes)
    value = np.zeros(len(domain), sizes.dtype)
    domain.run(lambda share: kernel(geometry, domain.tables, force, share, v, scale, value, gradient))
    return value.sum().item()


def load_tangent(domain: Domain, points: AnyArray, c: Force, velocity: AnyArray, y: AnyArray) -> None:
    """Add the derivative of the nodal forces along a node velocity to ``y``."""
    sizes = domain.sizes(c.n_components, c.lo, c.hi, varies=c.force_x is not None, dtype=y.dtype)
    kernel = passes.load_tangent(sizes, _specialised(domain, sizes))
    geometry, force = domain.at(_numbers(points, sizes)), _force(domain, c, sizes)
    velocity = _numbers(velocity, sizes)
    domain.run(lambda share: kernel(geometry, domain.tables, force, share, velocity, y))


class LoadMoments(NamedTuple):
    """Derivatives of a linear form by coefficients that are constant in regions.

    Attributes
    ----------
    force : (n_regions, nc, ns)
        ``int v^``, by ``F``.
    pressure : (n_regions,)
        ``int v . n``, by ``p``; zero where a pressure does not count.
    constant : (n_regions,)
        The measure, by ``c``.
    """

    force: AnyArray
    pressure: AnyArray
    constant: AnyArray


def load_moments(
    domain: Domain, points: AnyArray, region: Int32Array, n_regions: int, lo: int, hi: int, v: AnyArray
) -> LoadMoments:
    """Derivatives of ``int v^ : (F + p n) + c`` by coefficients that are constant in regions, see ``moments``."""
    sizes = domain.sizes(v.shape[1], lo, hi, dtype=np.result_type(points, v))
    kernel = passes.load_moments(sizes, _specialised(domain, sizes))
    geometry, v = domain.at(_numbers(points, sizes)), _numbers(v, sizes)
    runs = Runs.of(region, n_regions)
    sums = LoadMoments(
        np.zeros((len(runs), sizes.components, hi - lo), sizes.dtype),
        np.zeros(len(runs), sizes.dtype),
        np.zeros(len(runs), sizes.dtype),
    )

    def add(share: slice) -> None:
        start = runs.start[share.start : share.stop + 1]
        kernel(geometry, domain.tables, runs.items, start, v, *(a[share] for a in sums))

    in_threads(add, runs.shares(len(domain.parts)))
    return LoadMoments(*(runs.by_region(a) for a in sums))


# ------------------------------------------------------------------ quadrature points
class Frame(NamedTuple):
    """Geometry at the quadrature points of ``m`` entities.

    Attributes
    ----------
    x : (dim, m, nq)
    measure : (m, nq)
        Volume or area element times quadrature weight.
    normal : (dim, m, nq)
        Unit outward normal; empty on cells.
    size : (m, nq)
        ``|det J|^(1/k)`` of the cell or facet of dimension ``k``.
    """

    x: FloatArray
    measure: FloatArray
    normal: FloatArray
    size: FloatArray

    @property
    def normal_or_none(self) -> FloatArray | None:
        """The normal on facets."""
        return self.normal if self.normal.shape[1] else None


def frame(domain: Domain, points: AnyArray) -> Frame:
    """Geometry at the quadrature points of a domain; complex points are a step along a velocity, and so is the frame.

    With ``W = grad V``: ``d(dx) = (tr W) dx`` (less ``n . W n`` on facets), ``d(n) = n (n . W n) - W^T n``.
    """
    if np.iscomplexobj(points):
        at = frame(domain, np.ascontiguousarray(points.real))
        v, w = interpolate(domain.on_geometry, np.ascontiguousarray(points.real), np.ascontiguousarray(points.imag))
        n, rate = at.normal, rate_of_measure(w, at.normal_or_none)
        turned = n
        if at.normal_or_none is not None:
            pulled = np.einsum("ieq,ijeq->jeq", n, w)
            turned = n * (pulled * n).sum(axis=0) - pulled
        order = domain.dim - 1 if domain.is_facet else domain.dim
        moved = at.x + 1j * v, at.measure * (1 + 1j * rate), n + 1j * turned, at.size * (1 + 1j * rate / order)
        return Frame._make(moved)
    m, nq, dim = len(domain), domain.geometry.n_points, domain.dim
    result = Frame(
        np.empty((dim, m, nq)),
        np.empty((m, nq)),
        np.empty((dim, m if domain.is_facet else 0, nq)),
        np.empty((m, nq)),
    )
    passes.frame(domain.sizes(1, 0, 1), _specialised_at_points(domain))(domain.at(points), domain.tables, *result)
    return result


def interpolate(
    domain: Domain, points: AnyArray, u: AnyArray, lo: int = 0, hi: int | None = None
) -> tuple[AnyArray, AnyArray]:
    """Values ``(nc, m, nq)`` and gradients ``(nc, dim, m, nq)`` of a field ``(n_nodes, nc)``, by slots."""
    m, nq, dim, nc = len(domain), domain.geometry.n_points, domain.dim, u.shape[1]
    top = dim + 1 if hi is None else hi
    if np.iscomplexobj(points):  # a step along a velocity, with which gradients are transported
        X, V = np.ascontiguousarray(points.real), np.ascontiguousarray(points.imag)
        value, gradient = interpolate(domain, X, np.hstack([u.real, u.imag]), lo, hi)
        carried = np.zeros(gradient[:nc].shape)
        if top > 1:
            carried = np.einsum("ikeq,kjeq->ijeq", gradient[:nc], interpolate(domain.on_geometry, X, V, 1, top)[1])
        return value[:nc] + 1j * value[nc:], gradient[:nc] + 1j * (gradient[nc:] - carried)
    sizes = domain.sizes(nc, lo, top, dtype=np.result_type(points, u))
    value = np.empty((nc, m if lo == 0 else 0, nq), sizes.dtype)
    gradient = np.empty((nc, dim, m if top > 1 else 0, nq), sizes.dtype)
    kernel = passes.interpolate(sizes, _specialised_at_points(domain))
    kernel(domain.at(_numbers(points, sizes)), domain.tables, _numbers(u, sizes), value, gradient)
    return value, gradient


def rate_of_measure(w: FloatArray, normal: FloatArray | None) -> FloatArray:
    """Relative rate of the measure under ``W = grad V``: ``div V`` on cells, ``div V - n . W n`` on facets."""
    rate: FloatArray = np.einsum("jjeq->eq", w)
    return rate if normal is None else rate - np.einsum("ieq,ijeq,jeq->eq", normal, w, normal)


def scatter(domain: Domain, points: FloatArray, force: FloatArray, y: FloatArray) -> float:
    """Add ``int v^ : F`` to ``y`` ``(n_nodes, nc)``; returns the smallest Jacobian determinant.

    ``F`` has shape ``(nc, 1 + dim, m, nq)``, or ``(nc, 1, m, nq)`` where gradients do not count.
    """
    _, ns, m, nq = force.shape
    values = np.ascontiguousarray(force.transpose(2, 3, 0, 1))
    region = np.arange(m, dtype=np.int32)
    return load(domain, points, Force(values, np.zeros((m, nq)), np.zeros(m), region, 0, ns), y)


def total(
    domains: Sequence[Domain],
    points: FloatArray,
    weight: FloatArray | None = None,
    gradient: FloatArray | None = None,
    scale: float = 1.0,
) -> float:
    """Volume or area of domains, or the integral of a constant for each global cell.

    Parameters
    ----------
    domains : sequence of Domain
    points : (n_nodes, dim)
    weight : (n_cells,), optional
    gradient : (n_nodes, dim), optional
        ``scale`` times the derivative by the points is added here.
    scale : float

    Returns
    -------
    float
        ``scale`` times the integral.
    """
    into = np.zeros_like(points) if gradient is None else gradient
    nothing = np.zeros((len(points), 1))
    value = 0.0
    for domain in domains:
        constants, region = np.ones(1), domain.one_region
        if weight is not None:
            constants, inverse = np.unique(weight, return_inverse=True)
            region = inverse.astype(np.int32)[domain.global_cells]
        n = len(constants)
        constant = Force(np.zeros((n, 1, 1, 0)), np.zeros((n, 1)), constants, region, 0, 0)
        value += load_contract(domain, points, constant, nothing, into, scale)
    return value


def _elsewhere(domain: Domain, into: AnyArray) -> Passes | None:
    """Passes that do not run on the host; those of complex numbers do."""
    return None if into.dtype.kind == "c" else domain.elsewhere


def _specialised(domain: Domain, sizes: Sizes) -> bool:
    """Whether kernels are compiled for the sizes of a domain; those of complex numbers, which take several seconds each
    to compile, for large ones alone."""
    return _specialised_at_points(domain) if sizes.complex_numbers else domain.specialised


def _specialised_at_points(domain: Domain) -> bool:
    """Whether kernels at quadrature points are compiled for the sizes of a domain."""
    return domain.specialised and len(domain.nodes) >= SPECIALISED_CELLS


# ------------------------------------------------------------------ arguments of kernels
def _numbers(values: AnyArray, sizes: Sizes) -> AnyArray:
    """In the numbers of a kernel, contiguous."""
    return np.ascontiguousarray(values, sizes.dtype)


def _tensor(c: Tensor, sizes: Sizes) -> entity.Tensor:
    return entity.Tensor(read_only(_numbers(c.coefficient, sizes)), read_only(c.region))


def _force(domain: Domain, c: Force, sizes: Sizes) -> entity.Force:
    force_x, pressure_x = c.force_x, c.pressure_x
    if force_x is None or pressure_x is None:
        force_x = np.zeros((0, 0, c.n_components, c.hi - c.lo, domain.dim))
        pressure_x = np.zeros((0, 0, domain.dim))
    numbers = (read_only(_numbers(a, sizes)) for a in (c.force, c.pressure, c.constant, force_x, pressure_x))
    return entity.Force._make((*numbers, read_only(c.region)))


RUN = 1024
"""Entities that are added up in a row before their sum is added to that of their region."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Entities in runs of one region each, of at most ``RUN`` entities, whatever the number of threads.

    Attributes
    ----------
    items : (n_entities,) int32
        Entities, by region, ascending within each.
    start : (n_runs + 1,)
        Where each run begins.
    region : (n_runs,)
    n_regions : int
    """

    items: Int32Array
    start: npt.NDArray[np.int64]
    region: npt.NDArray[np.int64]
    n_regions: int

    @classmethod
    def of(cls, region: Int32Array, n_regions: int) -> Runs:
        """Divide entities by their regions."""
        counts = np.bincount(region, minlength=n_regions)
        if len(counts) > n_regions:
            raise ValueError(f"there is an entity of region {len(counts) - 1}, and only {n_regions} regions")
        pieces = -(-counts // RUN)
        number = np.repeat(np.arange(n_regions), pieces)
        within = np.arange(len(number)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        first = (np.cumsum(counts) - counts)[number] + within * RUN
        items = np.argsort(region, kind="stable").astype(np.int32)
        return cls(items, np.append(first, len(region)).astype(np.int64), number, n_regions)

    def __len__(self) -> int:
        return len(self.region)

    def shares(self, n: int) -> list[slice]:
        """The runs divided among ``n`` threads."""
        ends = np.linspace(0, len(self), n + 1).astype(int)
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    def by_region(self, sums: AnyArray) -> AnyArray:
        """Sums of the runs of every region, in their order."""
        total = np.zeros((self.n_regions, *sums.shape[1:]), sums.dtype)
        np.add.at(total, self.region, sums)
        return total
