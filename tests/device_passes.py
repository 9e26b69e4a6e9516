"""Passes over cells on a device, a stand-in or a simulator of one, against those of the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

import femadj as fa
from femadj.space import nodal
from femadj.space.device import CudaEngine
from femadj.space.discretisation import Discretisation
from femadj.space.nodal import Tensor
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain
from tests.meshes import box_mesh, dim_of
from tests.reference_assembly import turned

FloatArray = npt.NDArray[np.float64]

FORMS = ("elasticity", "diffusion", "advection", "reaction", "system")
"""Elasticity; gradients of a scalar; both slots, not symmetric; values, coefficients of their own at every point; two
components with both slots, not symmetric, with coefficients at the points of two regions."""

PASSES = ("assemble", "apply", "contract", "tangent")


def simulated_mesh(cell: str) -> fa.Mesh:
    """Two boxes' worth of bent cells of both orientations; one box of those with many nodes."""
    many = cell in {"hexahedron20", "hexahedron27"}
    return turned(box_mesh(cell, (1 if many else 2, 1, 1)[: dim_of(cell)], distortion=0.12, seed=1))


def order_of(cell: str) -> int | None:
    """Quadrature degree that plain Python takes on: of cells with many nodes a low one."""
    return 3 if cell in {"hexahedron20", "hexahedron27"} else None


def coefficient(form: str, dim: int, n: int, n_points: int) -> Tensor:
    """Random coefficients for ``n`` entities."""
    rng = np.random.default_rng(5)
    components = {"elasticity": dim, "system": 2}.get(form, 1)
    lo, hi = {"elasticity": (1, dim + 1), "diffusion": (1, dim + 1), "reaction": (0, 1)}.get(form, (0, dim + 1))
    symmetric = form in {"elasticity", "diffusion", "reaction"}
    n_regions, points = {"reaction": (n, n_points), "system": (2, n_points)}.get(form, (3, 1))
    c = rng.standard_normal((n_regions, points, *2 * (components, hi - lo)))
    if symmetric:
        c = c + c.transpose(0, 1, 4, 5, 2, 3)
    region = np.arange(n) if n_regions == n else rng.integers(0, n_regions, n)
    return Tensor(c, region.astype(np.int32), lo, hi, symmetric)


class Sample:
    """Passes over one domain, each of random fields, adding to what is there."""

    def __init__(self, mesh: fa.Mesh, form: str, order: int | None = None, group: str | None = None) -> None:
        nc = {"elasticity": mesh.dim, "system": 2}.get(form, 1)
        self.space = Discretisation.of(mesh, nc, 1)
        (self.domain,) = self.space.cells("stiffness", group, order)
        self.c = coefficient(form, mesh.dim, len(self.domain), self.domain.geometry.n_points)
        self.pattern = self.space.pattern(symmetric=self.c.symmetric)
        self.points = mesh.points
        rng = np.random.default_rng(6)
        self.u, self.v = rng.standard_normal((2, mesh.n_nodes, nc))
        self.velocity = rng.standard_normal(mesh.points.shape)

    def on(self, engine: CudaEngine) -> Domain:
        """The domain with its passes elsewhere."""
        return replace(self.domain, engine=engine)

    def passes(self, domain: Domain) -> dict[str, Any]:
        """Results of all passes, and the smallest determinant."""
        entries = MatrixEntries(self.pattern, np.ones(self.pattern.csr.nnz))
        y, rate, gradient = np.ones(self.u.shape), np.ones(self.u.shape), np.ones(self.points.shape)
        low = nodal.assemble(domain, self.points, self.c, entries)
        nodal.apply(domain, self.points, self.c, self.u, y)
        nodal.contract(domain, self.points, self.c, self.u, self.v, gradient, -1.5)
        nodal.tangent(domain, self.points, self.c, self.velocity, self.u, rate)
        found = dict(zip(PASSES, (entries.data, y, gradient, rate), strict=True))
        return {**found, "low": np.array(low)}

    def errors(self, engine: CudaEngine) -> dict[str, float]:
        """Errors relative to the largest entry, by pass; AssertionError unless a repetition has the same bits."""
        there = self.on(engine)
        assert there.elsewhere is not None
        first, again, host = self.passes(there), self.passes(there), self.passes(self.domain)
        for name, value in first.items():
            assert np.array_equal(value, again[name]), f"{name} is not repeatable"
            assert np.abs(host[name]).max() > 0
        return {name: float(np.abs(first[name] - host[name]).max() / np.abs(host[name]).max()) for name in first}
