"""Loads: forces and sources, each exactly differentiable by the mesh nodes.

A load is bound once to a discretisation, which yields terms; a term adds its nodal forces ``f(X)`` and knows the
products ``v^T (df/dX)`` and ``(df/dX) V``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import FieldLike, constant_components, evaluate
from femadj.errors import LoadError, MaterialError
from femadj.physics import Physics
from femadj.space.discretisation import Discretisation
from femadj.space.integrals import LinearIntegral, LoadTerm, LoadTermWithoutParameters
from femadj.space.nodal import Force
from femadj.space.region import Domain


class Load(Protocol):
    """A load that can be bound to a discretisation."""

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[LoadTerm]:
        """Resolve groups and check that the load fits; LoadError or UnknownGroupError when not."""
        ...


@dataclass(frozen=True, eq=False)
class NodalForces(LoadTermWithoutParameters):
    """Forces that do not depend on the nodes: dead point loads."""

    forces: FloatArray

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Nothing is integrated."""
        return ()

    def prepare(self) -> None:
        """Nothing to compile."""

    def add(self, points: FloatArray, f: FloatArray) -> float:
        """Add the forces."""
        f += self.forces
        return np.inf

    def contract(self, points: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0) -> float:
        """No dependence on the nodes."""
        return scale * inner(v, self.forces)

    def tangent(self, points: FloatArray, velocity: FloatArray, y: FloatArray) -> None:
        """No dependence on the nodes."""


@dataclass(frozen=True, eq=False)
class SpreadForce(LoadTermWithoutParameters):
    """A fixed total spread evenly over facets: ``f = F s / A`` with ``s = int N ds`` and ``A = int ds``."""

    total: FloatArray
    parts: tuple[LinearIntegral, ...]
    area: tuple[LinearIntegral, ...]

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The loaded facets."""
        return tuple(integral.domain for integral in self.parts)

    def prepare(self) -> None:
        """Compile the kernels."""
        for integral in (*self.parts, *self.area):
            integral.prepare()

    def _area(self, points: FloatArray, gradient: FloatArray | None = None, scale: float = 1.0) -> float:
        scratch = np.zeros_like(points) if gradient is None else gradient
        nothing = np.zeros((len(points), 1))
        return sum(integral.contract(points, nothing, scratch, scale) for integral in self.area)

    def add(self, points: FloatArray, f: FloatArray) -> float:
        """Add the forces."""
        whole = np.zeros_like(f)
        worst = min(integral.add(points, whole) for integral in self.parts)
        f += whole / self._area(points)
        return worst

    def contract(self, points: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0) -> float:
        """``d(v.F s / A) = v.F ds / A - (v.F s / A^2) dA``."""
        area = self._area(points)
        value = sum(integral.contract(points, v, gradient, scale / area) for integral in self.parts)
        self._area(points, gradient, -value / area)
        return value

    def tangent(self, points: FloatArray, velocity: FloatArray, y: FloatArray) -> None:
        """``F ds / A - F s dA / A^2``."""
        area_gradient = np.zeros_like(points)
        area = self._area(points, area_gradient)
        whole, change = np.zeros_like(y), np.zeros_like(y)
        for integral in self.parts:
            integral.add(points, whole)
            integral.tangent(points, velocity, change)
        y += change / area - whole * (inner(area_gradient, velocity) / area**2)


# ------------------------------------------------------------------ loads over volumes
@dataclass(frozen=True)
class BodyForce:
    """Force per current volume.

    Parameters
    ----------
    value : (dim,) or function of x
        [force/length^3]; a function (see ``femadj.base.calls``) is fixed in space, not carried by the cells.
    group : str, optional
        Cell group; the whole mesh when left out.
    """

    value: FieldLike
    group: str | None = None

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[LoadTerm]:
        """Bind to a displacement field."""
        _require(physics, "displacement", "BodyForce")
        return _volume(space, physics, self.value, self.group, "BodyForce")


@dataclass(frozen=True)
class Source:
    """Source per current volume of a scalar field, positive when it feeds the body.

    Parameters
    ----------
    value : number or function of x
        [power/length^3] in heat conduction.
    group : str, optional
        Cell group; the whole mesh when left out.
    """

    value: FieldLike
    group: str | None = None

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[LoadTerm]:
        """Bind to a scalar field."""
        _require(physics, "scalar", "Source")
        return _volume(space, physics, self.value, self.group, "Source")


@dataclass(frozen=True)
class Gravity:
    """Weight: the material's density times an acceleration.

    Parameters
    ----------
    acceleration : (dim,)
        [length/time^2], for instance ``(0, 0, -9810)`` in mm, t, s, N units.
    group : str, optional
        Cell group; the whole mesh when left out.
    """

    acceleration: npt.ArrayLike
    group: str | None = None

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[LoadTerm]:
        """Bind to a displacement field whose material has a density."""
        _require(physics, "displacement", "Gravity")
        g = constant_components(self.acceleration, space.n_components, "acceleration of Gravity", LoadError)
        try:
            density, region = np.unique(physics.density_of(space.mesh), return_inverse=True)
        except MaterialError as cause:
            raise LoadError(f"Gravity: {cause}") from cause
        force = physics.thickness_in(space.mesh.dim) * density[:, None, None, None] * g[:, None]
        return [
            _constant_integral(domain, force, region.astype(np.int32)[domain.global_cells])
            for domain in space.cells("mass", self.group)
        ]


# ------------------------------------------------------------------ loads over facets
@dataclass(frozen=True)
class Traction:
    """Force per current area in a fixed direction.

    Parameters
    ----------
    group : str
        Facet group.
    value : (dim,) or function of x
        [force/length^2].
    """

    group: str
    value: FieldLike

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[LoadTerm]:
        """Bind to a displacement field."""
        _require(physics, "displacement", "Traction")
        return _surface(space, physics, self.value, self.group, "Traction")


@dataclass(frozen=True)
class Flux:
    """Inflow per current area into the body, positive when it feeds the body.

    Parameters
    ----------
    group : str
        Facet group.
    value : number or function of x
        [power/length^2] in heat conduction.
    """

    group: str
    value: FieldLike

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[LoadTerm]:
        """Bind to a scalar field."""
        _require(physics, "scalar", "Flux")
        return _surface(space, physics, self.value, self.group, "Flux")


@dataclass(frozen=True)
class Pressure:
    """Pressure: force per current area along the current inward normal (positive pushes on the body).

    Parameters
    ----------
    group : str
        Facet group on the boundary.
    value : number or function of x
        [force/length^2].
    """

    group: str
    value: FieldLike

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[LoadTerm]:
        """Bind to a displacement field."""
        _require(physics, "displacement", "Pressure")
        facets = space.mesh.facets(self.group)
        if facets.interior.any():
            raise LoadError(
                f"Pressure({self.group!r}): {int(facets.interior.sum())} facets lie between two cells and have no "
                "outward normal; use Traction there"
            )
        thickness = physics.thickness_in(space.mesh.dim)
        nc, dim = space.n_components, space.mesh.dim
        return [
            _pressure_integral(domain, self.value, thickness, nc, dim, f"value of Pressure({self.group!r})")
            for domain in space.facets(facets)
        ]


@dataclass(frozen=True)
class PointLoad:
    """Dead force on *each* node of a group.

    Parameters
    ----------
    group : str
        Node group (or the nodes of a facet or cell group).
    force : (nc,) or number
        [force] on each node; a scalar field takes a number (power).
    """

    group: str
    force: npt.ArrayLike

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[LoadTerm]:
        """Bind to any field."""
        force = constant_components(self.force, space.n_components, f"force of PointLoad({self.group!r})", LoadError)
        forces = np.zeros((space.mesh.n_nodes, space.n_components))
        forces[space.mesh.nodes_of(self.group)] = force
        return [NodalForces(forces)]


@dataclass(frozen=True)
class TotalForce:
    """Dead force of given resultant, spread over a group.

    Over a facet group it acts as the uniform traction ``force / area`` with the current area, over a node group in
    equal shares. The resultant does not change when the nodes move.

    Parameters
    ----------
    group : str
        Facet group, else node group.
    force : (nc,) or number
        [force] in all; a scalar field takes a number (power).
    """

    group: str
    force: npt.ArrayLike

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[LoadTerm]:
        """Bind to any field."""
        mesh, nc = space.mesh, space.n_components
        force = constant_components(self.force, nc, f"force of TotalForce({self.group!r})", LoadError)
        if self.group not in mesh.facet_groups:
            nodes = mesh.nodes_of(self.group)
            forces = np.zeros((mesh.n_nodes, nc))
            forces[nodes] = force / len(nodes)
            return [NodalForces(forces)]
        domains = space.facets(mesh.facets(self.group))
        parts = tuple(_constant_integral(d, force[None, None, :, None], d.one_region) for d in domains)
        return [SpreadForce(force, parts, tuple(measure(d) for d in domains))]


# ------------------------------------------------------------------ building blocks
def measure(domain: Domain, weight: FloatArray | None = None) -> LinearIntegral:
    """The integral of one, or of a constant for each global cell, over a domain."""
    if weight is None:
        constants, region = np.ones(1), domain.one_region
    else:
        constants, inverse = np.unique(weight, return_inverse=True)
        region = inverse.astype(np.int32)[domain.global_cells]
    n = len(constants)
    coefficients = Force(np.zeros((n, 1, 1, 0)), np.zeros((n, 1)), constants, region, 0, 0)
    return LinearIntegral(domain, lambda _: coefficients, 1, 0, 0)


def _require(physics: Physics, quantity: str, load: str) -> None:
    if physics.quantity != quantity:
        instead = "Source, Flux, PointLoad" if physics.quantity == "scalar" else "BodyForce, Traction, Pressure"
        raise LoadError(
            f"{load} loads a {quantity} field, but {type(physics).__name__} solves for a {physics.quantity} "
            f"field; use {instead}"
        )


def _constant_integral(domain: Domain, force: FloatArray, region: npt.NDArray[np.int32]) -> LinearIntegral:
    n = len(force)
    coefficients = Force(np.ascontiguousarray(force), np.zeros((n, 1)), np.zeros(n), region, 0, 1)
    return LinearIntegral(domain, lambda _: coefficients, force.shape[2], 0, 1)


def _volume(space: Discretisation, physics: Physics, value: Any, group: str | None, load: str) -> list[LinearIntegral]:
    what = f"value of {load}" + (f" on {group!r}" if group else "")
    return [
        _value_integral(domain, value, physics.thickness_in(space.mesh.dim), space.n_components, what)
        for domain in space.cells("mass", group)
    ]


def _surface(space: Discretisation, physics: Physics, value: Any, group: str, load: str) -> list[LinearIntegral]:
    what = f"value of {load}({group!r})"
    return [
        _value_integral(domain, value, physics.thickness_in(space.mesh.dim), space.n_components, what)
        for domain in space.facets(space.mesh.facets(group))
    ]


def _value_integral(domain: Domain, value: Any, factor: float, nc: int, what: str) -> LinearIntegral:
    """``int v . value`` with a constant or a function of position."""
    if not callable(value):
        force = factor * constant_components(value, nc, what, LoadError)
        return _constant_integral(domain, force[None, None, :, None], domain.one_region)

    def coefficients(points: FloatArray) -> Force:
        v, slope = _at_quadrature_points(domain, points, value, nc, what)
        m, nq = v.shape[:2]
        return Force(
            np.ascontiguousarray(factor * v[..., None]),
            np.zeros((m, nq)),
            np.zeros(m),
            np.arange(m, dtype=np.int32),
            0,
            1,
            np.ascontiguousarray(factor * slope[:, :, :, None, :]),
            np.zeros((m, nq, domain.dim)),
        )

    return LinearIntegral(domain, coefficients, nc, 0, 1, varies=True)


def _pressure_integral(domain: Domain, value: Any, factor: float, nc: int, dim: int, what: str) -> LinearIntegral:
    """``int -p n . v``."""
    if not callable(value):
        p = -factor * constant_components(value, 1, what, LoadError)
        constant = Force(np.zeros((1, 1, nc, 1)), p[None], np.zeros(1), domain.one_region, 0, 1)
        return LinearIntegral(domain, lambda _: constant, nc, 0, 1)

    def coefficients(points: FloatArray) -> Force:
        v, slope = _at_quadrature_points(domain, points, value, 1, what)
        m, nq = v.shape[:2]
        return Force(
            np.zeros((m, nq, nc, 1)),
            np.ascontiguousarray(-factor * v[:, :, 0]),
            np.zeros(m),
            np.arange(m, dtype=np.int32),
            0,
            1,
            np.zeros((m, nq, nc, 1, dim)),
            np.ascontiguousarray(-factor * slope[:, :, 0]),
        )

    return LinearIntegral(domain, coefficients, nc, 0, 1, varies=True)


def _at_quadrature_points(
    domain: Domain, points: FloatArray, function: Any, nc: int, what: str
) -> tuple[FloatArray, FloatArray]:
    x = domain.quadrature_points(points)
    m, nq, dim = x.shape
    found = evaluate(function, x.reshape(-1, dim), nc, what, LoadError)
    if found.kink:
        raise LoadError(found.kink)
    return found.values.reshape(m, nq, nc), found.derivatives.reshape(m, nq, nc, dim)
