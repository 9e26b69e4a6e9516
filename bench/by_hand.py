"""The loop as one writes it with scikit-fem, pypardiso and NumPy: linear triangles or tetrahedra.

scikit-fem assembles, PARDISO factorises the upper triangle as that of a positive definite matrix, and the adjoint is
back-substitution on the same factor. On linear simplices all derivatives are known in closed form: with shape function
gradients ``G_a``, the node ``a`` of a cell of volume ``V`` receives ``V T G_a``, where ::

    T = (j + f . l - s(l) : grad u) I + (grad u)^T s(l) + (grad l)^T s(u)

``u`` is the state, ``l`` the adjoint, ``s`` the stress (or flux), ``f`` the load, and ``j`` the mean of the integrand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import skfem
from pypardiso import PyPardisoSolver
from skfem.models.elasticity import lame_parameters, linear_elasticity
from skfem.models.poisson import laplace

import femadj as fa

POSITIVE_DEFINITE = 2
"""PARDISO's number for such matrices."""


class ByHand:
    """The problem on one mesh; see ``rivals.Rival``."""

    def __init__(self, mesh: fa.Mesh, slabs: Sequence[np.ndarray]) -> None:
        self.cells, self.slabs = mesh.blocks[0].nodes.astype(np.int64), slabs
        n_cells, corners = self.cells.shape
        self.dim = mesh.dim
        points, cells = np.ascontiguousarray(mesh.points.T), np.ascontiguousarray(self.cells.T)
        if mesh.dim == 3:
            self.skfem, element = skfem.MeshTet(points, cells), skfem.ElementVector(skfem.ElementTetP1())
            self.lame, self.mu = lame_parameters(1.0, 0.3)
            self.form, self.force, fixed = linear_elasticity(self.lame, self.mu), np.array([0.0, 0.0, -1.0]), "left"
        else:
            self.skfem, element = skfem.MeshTri(points, cells), skfem.ElementTriP1()
            self.form, self.force, fixed = laplace, np.array([1.0]), "boundary"
        self.element, self.components = element, len(self.force)
        held = np.zeros((mesh.n_nodes, self.components), dtype=bool)
        held[mesh.nodes_of(fixed)] = True
        self.free = np.flatnonzero(~held.ravel())
        gather = (np.ones(self.cells.size), (self.cells.ravel(), np.arange(self.cells.size)))
        self.to_nodes = sp.csr_matrix(gather, shape=(mesh.n_nodes, n_cells * corners))
        self.factor = PyPardisoSolver(mtype=POSITIVE_DEFINITE)

    def solve(self, points: np.ndarray) -> None:
        """Assemble, factorise, solve."""
        mesh = replace(self.skfem, doflocs=np.ascontiguousarray(points.T))
        stiffness = skfem.asm(self.form, skfem.Basis(mesh, self.element, intorder=1))
        self.matrix = sp.triu(stiffness[self.free][:, self.free], format="csr")
        corners = points[self.cells]
        edges = corners[:, 1:] - corners[:, :1]
        inverse = np.linalg.inv(edges)  # (n_cells, dim, dim), columns are gradients
        first = -inverse.sum(axis=2, keepdims=True)
        self.slopes = np.concatenate([first, inverse], axis=2).transpose(0, 2, 1)  # (n_cells, dim + 1, dim)
        self.volumes = np.abs(np.linalg.det(edges)) / (6 if self.dim == 3 else 2)
        shares = np.broadcast_to((self.volumes / (self.dim + 1))[:, None, None] * self.force, self._shape)
        self.factor.factorize(self.matrix)
        self.u = self._solved(self._assembled(shares).ravel()[:, None])[0]

    def differentiate(self) -> tuple[np.ndarray, np.ndarray]:
        """Adjoint of all responses at once, contraction of one after the other."""
        scale = 1 / ((self.dim + 1) * (self.dim + 2))
        u = self.u[self.cells]
        sums = u.sum(axis=1)
        integrand = scale * (np.einsum("ep,ep->e", sums, sums) + np.einsum("eap,eap->e", u, u))
        mass_u = (2 * scale * self.volumes)[:, None, None] * (u + sums[:, None])
        weights = np.zeros((len(self.slabs), len(self.cells)))
        for weight, slab in zip(weights, self.slabs, strict=True):
            weight[slab] = 1.0
        right = [self._assembled(weight[:, None, None] * mass_u).ravel() for weight in weights]
        adjoints = self._solved(np.stack(right, axis=1))
        values = weights @ (self.volumes * integrand)
        gradients = [self._contracted(u, *pair) for pair in zip(adjoints, weights * integrand, strict=True)]
        return values, np.array(gradients)

    def told(self) -> Mapping[str, Any]:
        """Which solver it is."""
        return {"solver": "pypardiso"}

    @property
    def _shape(self) -> tuple[int, int, int]:
        return (*self.cells.shape, self.components)

    def _assembled(self, shares: np.ndarray) -> np.ndarray:
        """Sums over the cells at a node: ``(n_nodes, k)`` from ``(n_cells, corners, k)``."""
        return self.to_nodes @ shares.reshape(self.cells.size, -1)

    def _solved(self, right: np.ndarray) -> np.ndarray:
        """Fields ``(m, n_nodes, components)`` of right-hand sides ``(n_unknowns, m)``."""
        fields = np.zeros((right.shape[1], right.shape[0]))
        fields[:, self.free] = self.factor.solve(self.matrix, right[self.free]).T
        return fields.reshape(right.shape[1], -1, self.components)

    def _stress(self, gradient: np.ndarray) -> np.ndarray:
        if self.components == 1:
            return gradient
        trace = np.einsum("epp->e", gradient)
        return self.mu * (gradient + gradient.transpose(0, 2, 1)) + (self.lame * trace)[:, None, None] * np.eye(3)

    def _contracted(self, u: np.ndarray, adjoint: np.ndarray, integrand: np.ndarray) -> np.ndarray:
        """The gradient of one response, ``(n_nodes, dim)``; see the head of the module."""
        adjoint = adjoint[self.cells]
        of_u, of_adjoint = (np.einsum("eap,eak->epk", field, self.slopes) for field in (u, adjoint))
        stress = self._stress(of_adjoint)
        work = integrand + adjoint.mean(axis=1) @ self.force - np.einsum("epk,epk->e", stress, of_u)
        tensor = np.einsum("epk,epm->ekm", of_u, stress) + np.einsum("epk,epm->ekm", of_adjoint, self._stress(of_u))
        tensor += work[:, None, None] * np.eye(self.dim)
        return self._assembled(np.einsum("e,ekm,eam->eak", self.volumes, tensor, self.slopes))
