"""Compiled passes over a region, for fields with values at the mesh nodes: one function for each kernel.

``u^`` is the generalised gradient of a field (value in slot 0, derivatives behind it), see ``femadj.kernels``. Every
function adds to the array it is given and takes node coordinates ``points`` ``(n_nodes, dim)``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.kernels import integrals as kernels
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain

Int32Array = npt.NDArray[np.int32]


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
    """Compile (or load from disk) the kernels of assembly, application and contraction."""
    kernels.assemble(domain.sizes(components, lo, hi, symmetric=symmetric), domain.specialised)
    kernels.apply(domain.sizes(components, lo, hi), domain.specialised)
    kernels.contract(domain.sizes(components, lo, hi), domain.specialised)


def assemble(domain: Domain, points: FloatArray, c: Tensor, entries: MatrixEntries) -> float:
    """Add the matrix to the entries of the pattern; returns the smallest Jacobian determinant."""
    kernel = kernels.assemble(domain.sizes(c.n_components, c.lo, c.hi, symmetric=c.symmetric), domain.specialised)
    position, csr = entries.pattern.positions[domain.block], entries.pattern.csr
    worst = domain.run(
        lambda part, items: kernel(
            *domain.arguments(points, items), c.coefficient, c.region, position, csr.indptr, csr.triangle == "upper",
            domain.owner, part, entries.data,
        )
    )  # fmt: skip
    return float(min(worst))


def apply(domain: Domain, points: FloatArray, c: Tensor, x: FloatArray, y: FloatArray) -> None:
    """Add ``K x`` to ``y``; both ``(n_nodes, nc)``."""
    kernel = kernels.apply(domain.sizes(c.n_components, c.lo, c.hi), domain.specialised)
    domain.run(
        lambda part, items: kernel(
            *domain.arguments(points, items), c.coefficient, c.region, domain.owner, part, x, y
        )
    )  # fmt: skip


def contract(
    domain: Domain, points: FloatArray, c: Tensor, u: FloatArray, v: FloatArray, gradient: FloatArray, scale: float
) -> None:
    """Add ``scale * d/dX (v^T K u)`` at fixed u and v to ``gradient`` ``(n_nodes, dim)``."""
    kernel = kernels.contract(domain.sizes(c.n_components, c.lo, c.hi), domain.specialised)
    domain.run(
        lambda part, items: kernel(
            *domain.arguments(points, items), c.coefficient, c.region, domain.owner, part, u, v, scale, gradient
        )
    )


def tangent(domain: Domain, points: FloatArray, c: Tensor, velocity: FloatArray, u: FloatArray, y: FloatArray) -> None:
    """Add ``(dK/dX velocity) u`` to ``y``."""
    kernel = kernels.tangent(domain.sizes(c.n_components, c.lo, c.hi), domain.specialised)
    domain.run(
        lambda part, items: kernel(
            *domain.arguments(points, items), c.coefficient, c.region, domain.owner, part, velocity, u, y
        )
    )


# ------------------------------------------------------------------ linear forms
def prepare_linear(domain: Domain, components: int, lo: int, hi: int, *, varies: bool) -> None:
    """Compile (or load from disk) the kernels of the load and its contraction."""
    kernels.load(domain.sizes(components, lo, hi), domain.specialised)
    kernels.load_contract(domain.sizes(components, lo, hi, varies=varies), domain.specialised)


def load(domain: Domain, points: FloatArray, c: Force, f: FloatArray) -> float:
    """Add the nodal forces to ``f`` ``(n_nodes, nc)``; returns the smallest Jacobian determinant."""
    kernel = kernels.load(domain.sizes(c.n_components, c.lo, c.hi), domain.specialised)
    worst = domain.run(
        lambda part, items: kernel(
            *domain.arguments(points, items), c.force, c.pressure, c.region, domain.owner, part, f
        )
    )  # fmt: skip
    return float(min(worst))


def load_contract(
    domain: Domain, points: FloatArray, c: Force, v: FloatArray, gradient: FloatArray, scale: float
) -> float:
    """Add ``scale * d/dX`` of the integral at fixed v to ``gradient``; returns ``scale`` times the integral."""
    kernel = kernels.load_contract(
        domain.sizes(c.n_components, c.lo, c.hi, varies=c.force_x is not None), domain.specialised
    )
    force_x, pressure_x = _derivatives(domain, c)
    value = np.zeros(len(domain))
    domain.run(
        lambda part, items: kernel(
            *domain.arguments(points, items), c.force, c.pressure, c.constant, force_x, pressure_x, c.region,
            domain.owner, part, v, scale, value, gradient,
        )
    )  # fmt: skip
    return float(value.sum())


def load_tangent(domain: Domain, points: FloatArray, c: Force, velocity: FloatArray, y: FloatArray) -> None:
    """Add the derivative of the nodal forces along a node velocity to ``y``."""
    kernel = kernels.load_tangent(
        domain.sizes(c.n_components, c.lo, c.hi, varies=c.force_x is not None), domain.specialised
    )
    force_x, pressure_x = _derivatives(domain, c)
    domain.run(
        lambda part, items: kernel(
            *domain.arguments(points, items), c.force, c.pressure, force_x, pressure_x, c.region, domain.owner, part,
            velocity, y,
        )
    )  # fmt: skip


def _derivatives(domain: Domain, c: Force) -> tuple[FloatArray, FloatArray]:
    if c.force_x is not None and c.pressure_x is not None:
        return c.force_x, c.pressure_x
    return np.zeros((0, 0, c.n_components, c.hi - c.lo, domain.dim)), np.zeros((0, 0, domain.dim))
