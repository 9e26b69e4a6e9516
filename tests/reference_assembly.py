"""Dense, slow and independent integrals of one domain, for real and complex node coordinates.

Everything is written from the formulas: shape functions and quadrature points come from ``femadj.reference``, but
Jacobians, measures, normals and integrands are formed here, one entity at a time. A facet is measured by its own
tangents, with the shape functions of the facet's cell type, and not through the Jacobian of its cell as the kernels
do. All operations are analytic in the node coordinates, so that a complex step differentiates them exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import femadj as fa
from femadj.mesh.reference import CELL_TYPES, cell_type, quadrature, shape_functions
from femadj.space.region import Domain

FloatArray = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]

STEP = 1e-30


class Rule(NamedTuple):
    """Tables of one integration entity of the reference cell.

    ``facet_nodes``, ``tangents``: local geometry nodes of the facet and the reference gradients of its own shape
    functions; ``None`` for cells.
    """

    weights: FloatArray
    geometry: FloatArray
    geometry_slopes: FloatArray
    field: FloatArray
    field_slopes: FloatArray
    facet_nodes: tuple[int, ...] | None
    tangents: FloatArray | None


class At(NamedTuple):
    """An entity at its quadrature points; leading axes are those of the coordinates.

    ``x (..., q, dim)``; ``measure (..., q)``, weights included; ``normal (..., q, dim)`` or None; ``h (..., q, nf, 1 +
    dim)``, value and derivatives of the shape functions of the field.
    """

    x: AnyArray
    measure: AnyArray
    normal: AnyArray | None
    h: AnyArray


@dataclass(frozen=True)
class LinearData:
    """Integrand ``v^ : (F + p n) + c`` of a linear form.

    ``force(item, x)`` returns ``(..., q, nc, ns)``, ``pressure(item, x)`` returns ``(..., q)``, ``constant(item)`` a
    number.
    """

    force: Callable[[int, AnyArray], AnyArray]
    pressure: Callable[[int, AnyArray], AnyArray] | None = None
    constant: Callable[[int], float] = field(default=lambda _: 0.0)


class Reference:
    """Integrals over a domain.

    Parameters
    ----------
    domain : Domain
        Gives the nodes of the entities and the orientation of the cells; its tables are not used.
    geometry, shape : str
        Cell types of geometry and field.
    order : int or None
        Degree of the quadrature; None for the default of a facet.
    """

    def __init__(self, domain: Domain, geometry: str, shape: str, order: int | None) -> None:
        self.domain = domain
        self.rules = [
            self._rule(geometry, shape, order, number if domain.is_facet else None)
            for number in range(len(CELL_TYPES[geometry].facets) if domain.is_facet else 1)
        ]

    @staticmethod
    def _rule(geometry: str, shape: str, order: int | None, facet: int | None) -> Rule:
        cell = cell_type(geometry)
        if facet is None:
            assert order is not None
            xi, weights = quadrature(cell.shape, order)
            return Rule(weights, *shape_functions(geometry, xi), *shape_functions(shape, xi), None, None)
        kind = cell_type(cell.facet_types[facet])
        eta, weights = quadrature(kind.shape, kind.mass_order if order is None else order)
        corners = cell.nodes[list(cell.facets[facet][: kind.n_corners])]
        xi = shape_functions(kind.shape, eta)[0] @ corners
        _, tangents = shape_functions(kind.name, eta)
        return Rule(
            weights, *shape_functions(geometry, xi), *shape_functions(shape, xi), cell.facets[facet], tangents
        )  # fmt: skip

    def at(self, item: int, X: AnyArray) -> At:
        """Evaluate one entity for the coordinates ``(..., ng, dim)`` of its geometry nodes."""
        e = self.domain.cell[item]
        rule = self.rules[self.domain.local[item]]
        sign = self.domain.orientation[e]
        J = np.einsum("...ai,qaj->...qij", X, rule.geometry_slopes)
        slopes = np.einsum("qak,...qkj->...qaj", rule.field_slopes, np.linalg.inv(J))
        values = np.broadcast_to(rule.field, slopes.shape[:-1])[..., None]
        h = np.concatenate([values, slopes], axis=-1)
        x = np.einsum("qa,...ai->...qi", rule.geometry, X)
        if rule.tangents is None:
            return At(x, np.linalg.det(J) * sign * rule.weights, None, h)
        t = np.einsum("...ai,qaj->...qij", X[..., list(rule.facet_nodes or ()), :], rule.tangents)
        if X.shape[-1] == 2:
            area = np.stack([t[..., 1, 0], -t[..., 0, 0]], axis=-1)
        else:
            area = np.cross(t[..., :, 0], t[..., :, 1])
        area = sign * area
        length = np.sqrt((area * area).sum(axis=-1))  # not the norm, which is not analytic
        return At(x, length * rule.weights, area / length[..., None], h)

    def items(self) -> Iterator[tuple[int, AnyArray, AnyArray]]:
        """Entities with their geometry and field nodes."""
        for item, e in enumerate(self.domain.cell):
            yield item, self.domain.nodes[e], self.domain.field[e]

    # ------------------------------------------------------------------ bilinear forms
    def matrix(self, X: AnyArray, C: FloatArray, region: AnyArray, lo: int, hi: int) -> AnyArray:
        """``K[a, i, b, k]`` of ``int v^ : C : u^``."""
        nc, n = C.shape[2], len(X)
        K = np.zeros((n, nc, n, nc), dtype=X.dtype)
        for item, nodes, places in self.items():
            at = self.at(item, X[nodes])
            c = _by_point(C[region[item]], len(at.measure))
            h = at.h[..., lo:hi]
            right = np.einsum("q,qiskt,qbt->qisbk", at.measure, c, h, optimize=True)
            Ke = np.einsum("qas,qisbk->aibk", h, right, optimize=True)
            for a, row in enumerate(places):
                for b, column in enumerate(places):
                    K[row, :, column, :] += Ke[a, :, b, :]
        return K

    def form(self, C: FloatArray, region: AnyArray, lo: int, hi: int, u: AnyArray, v: AnyArray) -> _Local:
        """``v^T K u`` of one entity as a function of its coordinates."""

        def value(item: int, X: AnyArray, places: AnyArray) -> AnyArray:
            at = self.at(item, X)
            h = at.h[..., lo:hi]
            c = _by_point(C[region[item]], at.measure.shape[-1])
            uh = np.einsum("...qbt,bk->...qkt", h, u[places])
            vh = np.einsum("...qas,ai->...qis", h, v[places])
            Cu = np.einsum("qiskt,...qkt->...qis", c, uh)
            return np.einsum("...q,...qis,...qis->...", at.measure, vh, Cu)

        return value

    # ------------------------------------------------------------------ linear forms
    def vector(self, X: AnyArray, data: LinearData, nc: int, lo: int, hi: int) -> AnyArray:
        """Nodal forces ``f[a, i]``."""
        f = np.zeros((len(X), nc), dtype=X.dtype)
        for item, nodes, places in self.items():
            at = self.at(item, X[nodes])
            F = self._integrand(item, at, data, nc, lo)
            fe = np.einsum("q,qas,qis->ai", at.measure, at.h[..., lo:hi], F)
            for a, node in enumerate(places):
                f[node] += fe[a]
        return f

    def functional(self, data: LinearData, nc: int, lo: int, hi: int, v: AnyArray) -> _Local:
        """``int v^ : (F + p n) + c`` of one entity as a function of its coordinates."""

        def value(item: int, X: AnyArray, places: AnyArray) -> AnyArray:
            at = self.at(item, X)
            F = self._integrand(item, at, data, nc, lo)
            vh = np.einsum("...qas,ai->...qis", at.h[..., lo:hi], v[places])
            return ((F * vh).sum(axis=(-1, -2)) * at.measure).sum(axis=-1) + data.constant(item) * at.measure.sum(
                axis=-1
            )

        return value

    @staticmethod
    def _integrand(item: int, at: At, data: LinearData, nc: int, lo: int) -> AnyArray:
        F = np.array(np.broadcast_to(data.force(item, at.x), (*at.measure.shape, nc, data.force(item, at.x).shape[-1])))
        if data.pressure is not None and at.normal is not None and lo == 0:
            F = F.astype(np.result_type(F, at.normal))
            F[..., 0] += data.pressure(item, at.x)[..., None] * at.normal
        return F

    # ------------------------------------------------------------------ sums and derivatives
    def total(self, X: AnyArray, value: _Local) -> AnyArray:
        """Sum over the entities."""
        return sum((value(item, X[nodes], places) for item, nodes, places in self.items()), np.zeros(()))

    def gradient(self, X: FloatArray, value: _Local) -> FloatArray:
        """Derivative of the sum by every node coordinate: one complex step each."""
        G = np.zeros_like(X)
        for item, nodes, places in self.items():
            ng, dim = len(nodes), X.shape[1]
            steps = np.eye(ng * dim).reshape(ng * dim, ng, dim)
            batch = X[nodes] + 1j * STEP * steps
            np.add.at(G, nodes, value(item, batch, places).imag.reshape(ng, dim) / STEP)
        return G


_Local = Callable[[int, AnyArray, AnyArray], AnyArray]


def _by_point(C: FloatArray, n_points: int) -> FloatArray:
    """Coefficient at every point of an entity, which may have fewer points than the table has room for."""
    return np.broadcast_to(C, (n_points, *C.shape[1:])) if len(C) == 1 else C[:n_points]


def along(function: Callable[[AnyArray], AnyArray], X: FloatArray, V: FloatArray) -> FloatArray:
    """Derivative of ``function`` along ``V``."""
    derivative: FloatArray = function(X + 1j * STEP * V).imag / STEP
    return derivative


def turned(mesh: fa.Mesh) -> fa.Mesh:
    """The same mesh with every other cell numbered the other way round, so that its Jacobian is negative."""
    blocks = []
    for block in mesh.blocks:
        reference = block.reference.nodes
        mirrored = reference[:, [1, 0, *range(2, reference.shape[1])]]
        order = [int(np.flatnonzero(np.abs(reference - m).max(axis=1) < 1e-12)[0]) for m in mirrored]
        nodes = block.nodes.copy()
        nodes[1::2] = nodes[1::2][:, order]
        blocks.append((block.type, nodes))
    return fa.Mesh(
        mesh.points,
        blocks,
        node_groups=mesh.node_groups,
        facet_groups={name: [n for _, n in mesh.facet_cells(set_)] for name, set_ in mesh.facet_groups.items()},
        cell_groups=mesh.cell_groups,
        node_ids=mesh.node_ids,
    )
