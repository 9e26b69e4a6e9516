"""A static problem as a parametric system: theta are the node coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.mesh import Mesh
from femadj.problems.fem import Assembled, System
from femadj.solvers.base import MatrixKind
from femadj.solvers.structure import CsrPattern


@dataclass(frozen=True, eq=False)
class StaticSystem:
    """``A(X) x = b(X)`` of a discrete system: free rows ``K_FF u_F = f_F - K_FD g``, supported rows ``D u_D = D g``.

    ``D`` is the diagonal of ``K`` at the supports.

    Attributes
    ----------
    mesh : Mesh
    system : System
    kind : MatrixKind
    """

    mesh: Mesh
    system: System
    kind: MatrixKind

    @property
    def pattern(self) -> CsrPattern:
        """Structure of the matrix."""
        return self.system.pattern.csr

    @property
    def prefers_adjoint(self) -> bool:
        """False: both products with the derivatives are exact and cheap."""
        return False

    def assemble(self, theta: FloatArray) -> Assembled:
        """Matrix and right-hand side; InvalidMeshError or TangledMeshError for unusable coordinates."""
        if theta is not self.mesh.points:
            self.mesh.require_untangled(theta)
        return self.system.assemble(theta)

    def pullback(self, theta: FloatArray, x: FloatArray, lam: FloatArray) -> FloatArray:
        """``lam^T (db/dX - dA/dX x)`` for ``lam`` (k, n), shape ``(k, n_nodes, dim)``."""
        system = self.system
        u, fixed = x.reshape(system.space.shape), system.constraints.fixed
        prescribed = system.constraints.prescribed(theta)
        diagonal = self._held_diagonal(theta) if prescribed.moves else None
        result = np.empty((len(lam), *theta.shape))
        for number, row in enumerate(lam):
            field = row.reshape(system.space.shape)
            free = np.where(fixed, 0.0, field)
            result[number] = system.contract(theta, u, free, free)
            if diagonal is not None:
                held = diagonal * field
                held -= system.stiffness_times_at_supports(theta, free, transpose=True)
                result[number] += prescribed.pull_back(np.where(fixed, held, 0.0))
        return result

    def pushforward(self, theta: FloatArray, directions: FloatArray, x: FloatArray) -> FloatArray:
        """``db - dA x`` along node velocities ``(k, n_nodes, dim)``, shape (k, n)."""
        system = self.system
        u, fixed = x.reshape(system.space.shape), system.constraints.fixed
        prescribed = system.constraints.prescribed(theta)
        diagonal = self._held_diagonal(theta) if prescribed.moves else None
        result = np.empty((len(directions), x.size))
        for number, velocity in enumerate(directions):
            rate = np.where(fixed, 0.0, -system.tangent(theta, np.ascontiguousarray(velocity), u))
            if diagonal is not None:
                change = np.where(fixed, prescribed.push_forward(velocity), 0.0)
                rate -= np.where(fixed, 0.0, system.stiffness_times(theta, change))
                rate += diagonal * change
            result[number] = rate.ravel()
        return result

    def _held_diagonal(self, points: FloatArray) -> FloatArray:
        """The matrix entries on the diagonal of supported unknowns, zero elsewhere."""
        system = self.system
        diagonal = np.zeros(system.space.shape)
        diagonal[system.constraints.fixed] = system.assemble(points).values[system.fixed_diagonal]
        return diagonal
