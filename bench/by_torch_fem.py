"""The loop with torch-fem 0.14: its own defaults, and derivatives by autograd.

The model is built once, which sorts out the topology, and gets new coordinates at every design. What torch-fem chooses
for this many unknowns is CG with smoothed aggregation on rigid-body (or constant) modes to a residual of 1e-10; the
adjoint solves reuse the hierarchy of the primal one. Load and response are integrated with femadj's quadrature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torchfem import PlanarHeat, Solid
from torchfem.materials import IsotropicConductivity2D, IsotropicElasticity3D

import femadj as fa
from femadj.mesh.reference import quadrature

torch.set_default_dtype(torch.float64)

CENTRED = ("quad", "hexahedron")
"""Shapes whose reference coordinates run from -1 to 1 there, and from 0 to 1 here."""


class ByTorchFem:
    """The problem on one mesh; see ``rivals.Rival``."""

    def __init__(self, mesh: fa.Mesh, slabs: Sequence[np.ndarray], threads: int | None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        block = mesh.blocks[0]
        nodes, cells = torch.tensor(mesh.points), torch.tensor(block.nodes.astype(np.int64))
        if mesh.dim == 3:
            self.model, fixed = Solid(nodes, cells, IsotropicElasticity3D(E=1.0, nu=0.3)), "left"
            self.load = torch.tensor([0.0, 0.0, -1.0])
        else:
            self.model, fixed = PlanarHeat(nodes, cells, IsotropicConductivity2D(kappa=1.0)), "boundary"
            self.load = torch.tensor([1.0])
        held = torch.zeros(mesh.n_nodes, len(self.load), dtype=torch.bool)
        held[torch.tensor(np.asarray(mesh.nodes_of(fixed), dtype=np.int64))] = True
        self.model.constraints = held
        self.slabs = [torch.tensor(np.asarray(slab, dtype=np.int64)) for slab in slabs]
        kind = block.reference
        points, weights = quadrature(kind.shape, kind.mass_order)
        if kind.shape in CENTRED:
            points, weights = 2 * points - 1, weights * 2**mesh.dim
        self.at, self.weights = torch.tensor(points), torch.tensor(weights)
        self.affine = kind.n_nodes == mesh.dim + 1

    def solve(self, points: np.ndarray) -> None:
        """Solve, with the graph for the way back."""
        model = self.model
        self.points = torch.tensor(points, requires_grad=True)
        model.nodes = self.points
        corners = self.points[model.elements]
        slopes = model.etype.B(self.at[:1] if self.affine else self.at)
        measure = torch.linalg.det(torch.einsum("qia,eaj->qeij", slopes, corners))
        self.measure = self.weights[:, None] * measure  # (n_points, n_cells)
        self.shape = model.etype.N(self.at)
        shares = torch.einsum("qa,qe,k->eak", self.shape, self.measure, self.load)
        loads = torch.zeros(model.n_nod, len(self.load))
        loads = loads.index_add(0, model.elements.ravel(), shares.flatten(0, 1))
        if len(self.load) == 1:
            model.heat_flux = loads
        else:
            model.forces = loads
        self.u = model.solve(differentiable_parameters=self.points)[0]

    def differentiate(self) -> tuple[np.ndarray, np.ndarray]:
        """Autograd, one response after the other."""
        at_points = torch.einsum("qa,eak->qek", self.shape, self.u[self.model.elements])
        by_cell = torch.einsum("qe,qek,qek->e", self.measure, at_points, at_points)
        values, gradients = [], []
        for slab in self.slabs:
            value = by_cell[slab].sum()
            (gradient,) = torch.autograd.grad(value, self.points, retain_graph=slab is not self.slabs[-1])
            values.append(value.item())
            gradients.append(gradient.numpy())
        return np.array(values), np.array(gradients)

    def told(self) -> Mapping[str, Any]:
        """Nothing: it tells its iterations in a printed report alone."""
        return {"solver": "CG, pyamg"}
