"""Loads: forces and sources, each exactly differentiable by the mesh nodes.

A load is bound once to a discretisation, which yields external terms: see ``femadj.forms.term``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import flag
from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import FieldLike, constant_components, slopes_at, values_at
from femadj.base.design import Cotangent, Design
from femadj.errors import LoadError, MaterialError
from femadj.forms.follower_law import FollowerLaw
from femadj.forms.integral import IntegralAt, IntegralTerm
from femadj.forms.law import LoadLaw, PositionData
from femadj.forms.regional import RegionalTensor
from femadj.forms.term import Budget, Term
from femadj.physics import Physics
from femadj.space.discretisation import Discretisation
from femadj.space.maps import FieldMap
from femadj.space.nodal import total
from femadj.space.parameters import Parameters
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain


class Load(Protocol):
    """A load that can be bound to a discretisation."""

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[Term]:
        """Resolve groups and check that the load fits; LoadError or UnknownGroupError when not."""
        ...


class _External:
    """What external terms have in common at a design: they do not depend on the field."""

    def jacobian(self, u: FloatArray, into: MatrixEntries) -> float:
        """No dependence on the field."""
        return np.inf

    def jvp(self, u: FloatArray, du: FloatArray, into: FloatArray) -> None:
        """No dependence on the field."""

    def vjp(self, u: FloatArray, v: FloatArray, into: FloatArray) -> None:
        """No dependence on the field."""

    def require_linear_at(self, u: FloatArray) -> None:
        """No dependence on the field."""


@dataclass(frozen=True, eq=False)
class NodalForces(_External):
    """Forces that do not depend on the nodes: dead point loads. A term, at a design the same as anywhere else.

    Attributes
    ----------
    forces : (n_nodes, nc)
    """

    forces: FloatArray
    rate: int = 0
    symmetric: bool = True
    domains: tuple[Domain, ...] = ()
    parameter_names: frozenset[str] = frozenset()
    linear: bool = True

    def prepare(self) -> None:
        """Nothing to compile."""

    def at(self, points: FloatArray, parameters: Parameters, budget: Budget | None = None) -> NodalForces:
        """The same everywhere."""
        return self

    in_motion = at

    def residual(self, u: FloatArray, into: FloatArray) -> float:
        """Add the forces."""
        into += self.forces
        return np.inf

    def pullback(self, u: FloatArray, v: FloatArray, into: Cotangent, scale: float = 1.0) -> None:
        """No dependence on the design."""

    def pushforward(self, u: FloatArray, direction: Design, into: FloatArray) -> None:
        """No dependence on the design."""


@dataclass(frozen=True, eq=False)
class SpreadForce:
    """A fixed total spread evenly over facets: ``f = F s / A`` with ``s = int N ds`` and ``A = int ds``.

    Attributes
    ----------
    parts : tuple of IntegralTerm
        Whose sum is ``F s``.
    """

    parts: tuple[IntegralTerm, ...]
    rate: int = 0
    symmetric: bool = True
    parameter_names: frozenset[str] = frozenset()
    linear: bool = True

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The loaded facets."""
        return tuple(domain for part in self.parts for domain in part.domains)

    def prepare(self) -> None:
        """Compile the kernels."""
        for part in self.parts:
            part.prepare()

    def at(self, points: FloatArray, parameters: Parameters, budget: Budget | None = None) -> SpreadForceAt:
        """Put at a design."""
        parts = tuple(part.at(points, parameters, budget) for part in self.parts)
        return SpreadForceAt(parts, self.domains, points, total(self.domains, points))

    in_motion = at


@dataclass(frozen=True, eq=False)
class SpreadForceAt(_External):
    """A spread force at a design; ``area`` is that of its facets there."""

    parts: tuple[IntegralAt, ...]
    domains: tuple[Domain, ...]
    points: FloatArray
    area: float

    def residual(self, u: FloatArray, into: FloatArray) -> float:
        """Add the forces."""
        whole = np.zeros_like(into)
        worst = min(part.residual(u, whole) for part in self.parts)
        into += whole / self.area
        return worst

    def pullback(self, u: FloatArray, v: FloatArray, into: Cotangent, scale: float = 1.0) -> None:
        """``d(v.F s / A) = v.F ds / A - (v.F s / A^2) dA``."""
        if into.points is None:
            return
        force = np.zeros(v.shape, dtype=self.points.dtype)
        self.residual(u, force)
        for part in self.parts:
            part.pullback(u, v / self.area, into, scale)
        by_points = np.zeros_like(self.points)
        total(self.domains, self.points, gradient=by_points)
        into.points[...] -= scale * inner(v, force) / self.area * by_points

    def pushforward(self, u: FloatArray, direction: Design, into: FloatArray) -> None:
        """``F ds / A - F s dA / A^2``."""
        if direction.points is None:
            return
        by_points = np.zeros_like(self.points)
        total(self.domains, self.points, gradient=by_points)
        force, change = np.zeros_like(into), np.zeros_like(into)
        self.residual(u, force)
        for part in self.parts:
            part.pushforward(u, direction, change)
        into += (change - force * inner(by_points, direction.points)) / self.area


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

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[Term]:
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

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[Term]:
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

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[Term]:
        """Bind to a displacement field whose material has a density."""
        _require(physics, "displacement", "Gravity")
        g = constant_components(self.acceleration, space.n_components, "acceleration of Gravity", LoadError)
        try:
            mass = physics.mass(space.mesh)
        except MaterialError as cause:
            raise LoadError(f"Gravity: {cause}") from cause
        along = np.append(g, 0.0)
        law = LoadLaw(mass.mapped(lambda density: density[:, None] * along), len(g), pressure=False, name="Gravity")
        return [IntegralTerm.of(fields, law) for fields in space.maps("cells", self.group)]


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

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[Term]:
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

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[Term]:
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
    follower : bool
        Whether area and normal are those of the surface as the displacement deforms it, for a ``NonlinearStatic``; the
        tangent is then not symmetric. A function of x stays one of the undeformed place. False: those of the mesh.
    """

    group: str
    value: FieldLike
    follower: bool = False

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[Term]:
        """Bind to a displacement field."""
        _require(physics, "displacement", "Pressure")
        facets = space.mesh.facets(self.group)
        if facets.interior.any():
            raise LoadError(
                f"Pressure({self.group!r}): {int(facets.interior.sum())} facets lie between two cells and have no "
                "outward normal; use Traction there"
            )
        flag(self.follower, f"follower of Pressure({self.group!r})", LoadError)
        what = f"value of Pressure({self.group!r})"
        maps = space.maps("facets", self.group)
        return _value_terms(
            space,
            physics,
            self.value,
            maps,
            what,
            FollowerLaw if self.follower else LoadLaw,
            along_normal=True,
        )


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

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[Term]:
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

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[Term]:
        """Bind to any field."""
        mesh, nc = space.mesh, space.n_components
        force = constant_components(self.force, nc, f"force of TotalForce({self.group!r})", LoadError)
        nodes = mesh.nodes_of(self.group)
        if self.group not in mesh.facet_groups:
            forces = np.zeros((mesh.n_nodes, nc))
            forces[nodes] = force / len(nodes)
            return [NodalForces(forces)]
        whole = RegionalTensor.constant(np.append(force, 0.0)[None], np.zeros(mesh.n_cells, dtype=np.int32))
        law = LoadLaw(whole, nc, pressure=False, name="TotalForce")
        return [SpreadForce(tuple(IntegralTerm.of(fields, law) for fields in space.maps("facets", self.group)))]


# ------------------------------------------------------------------ building blocks
def _require(physics: Physics, quantity: str, load: str) -> None:
    if physics.quantity != quantity:
        instead = "Source, Flux, PointLoad" if physics.quantity == "scalar" else "BodyForce, Traction, Pressure"
        raise LoadError(
            f"{load} loads a {quantity} field, but {type(physics).__name__} solves for a {physics.quantity} "
            f"field; use {instead}"
        )


def _volume(space: Discretisation, physics: Physics, value: Any, group: str | None, load: str) -> list[IntegralTerm]:
    what = f"value of {load}" + ("" if group is None else f" on {group!r}")
    return _value_terms(space, physics, value, space.maps("cells", group), what)


def _surface(space: Discretisation, physics: Physics, value: Any, group: str, load: str) -> list[IntegralTerm]:
    space.mesh.facets(group)  # raises for no group, which would be all facets
    return _value_terms(space, physics, value, space.maps("facets", group), f"value of {load}({group!r})")


def _value_terms(
    space: Discretisation,
    physics: Physics,
    value: Any,
    maps: Sequence[FieldMap],
    what: str,
    kind: type[LoadLaw] = LoadLaw,
    *,
    along_normal: bool = False,
) -> list[IntegralTerm]:
    """``int v . value``, or ``int -value n . v`` along the normal, of a constant or a function of position."""
    nc, given, position = space.n_components, np.ones(space.n_components + 1), None
    given[slice(0, nc) if along_normal else -1] = 0.0
    count = 1 if along_normal else nc
    if callable(value):

        def slopes(x: FloatArray, values: FloatArray) -> FloatArray:
            found, kink = slopes_at(value, x, values, what, LoadError)
            if kink:
                raise LoadError(kink)
            return found

        position = PositionData(lambda x: values_at(value, x, count, what, LoadError), slopes)
    else:
        given[slice(nc, None) if along_normal else slice(0, nc)] = constant_components(value, count, what, LoadError)
    if along_normal:
        given = -given
    tensor = physics.scaled(space.mesh, lambda: given[None])
    law = kind(tensor, nc, along_normal, position, what)
    return [IntegralTerm.of(fields, law) for fields in maps]
