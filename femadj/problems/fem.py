"""The discrete system K(X) u = f(X): assembly into a fixed pattern, and its products with node velocities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, listing
from femadj.conditions.supports import Constraints, Prescribed
from femadj.errors import TangledMeshError
from femadj.physics import BoundPhysics
from femadj.space.discretisation import Discretisation
from femadj.space.integrals import LoadTerm, MatrixTerm
from femadj.space.parameters import Parameters
from femadj.space.pattern import Pattern


@dataclass(frozen=True, eq=False)
class Assembled:
    """The system at given points, supports eliminated.

    Attributes
    ----------
    values : (nnz,)
        Matrix entries on the pattern; supported rows and columns keep their diagonal alone.
    rhs : (n_dofs,)
    load : (n_nodes, nc)
        Nodal forces before elimination.
    prescribed : Prescribed
    """

    values: FloatArray
    rhs: FloatArray
    load: FloatArray
    prescribed: Prescribed


@dataclass(frozen=True, eq=False)
class System:
    """Stiffness, loads and supports on a discretisation.

    All methods take node coordinates ``points`` ``(n_nodes, dim)`` that the caller has checked to be finite and of the
    right shape, and fields ``(n_nodes, nc)``.
    """

    space: Discretisation
    pattern: Pattern
    stiffness: tuple[MatrixTerm, ...]
    boundary_stiffness: tuple[MatrixTerm, ...]
    loads: tuple[LoadTerm, ...]
    constraints: Constraints
    symmetric: bool
    fixed_diagonal: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls, space: Discretisation, physics: BoundPhysics, loads: Sequence[LoadTerm], constraints: Constraints
    ) -> System:
        """Put together the terms of a physics, of loads and of supports."""
        held = np.asarray(constraints.fixed.any(axis=1))
        near = tuple(term.touching(held) for term in physics.stiffness)
        pattern = space.pattern(symmetric=physics.symmetric)
        diagonal = pattern.csr.diagonal(np.flatnonzero(constraints.fixed))
        return cls(
            space, pattern, physics.stiffness, near, (*physics.loads, *loads), constraints, physics.symmetric, diagonal
        )

    def with_parameters(self, parameters: Parameters) -> System:
        """The same system with other values of the parameters."""
        return replace(
            self,
            stiffness=tuple(term.with_parameters(parameters) for term in self.stiffness),
            boundary_stiffness=tuple(term.with_parameters(parameters) for term in self.boundary_stiffness),
            loads=tuple(term.with_parameters(parameters) for term in self.loads),
        )

    def prepare(self) -> None:
        """Compile the kernels, or load them from disk when an earlier run has compiled them."""
        for matrix_term in self.stiffness:
            matrix_term.prepare()
        for term in self.loads:
            term.prepare()

    def assemble(self, points: FloatArray) -> Assembled:
        """Assemble matrix and right-hand side, straight into the arrays the solver takes.

        Raises
        ------
        TangledMeshError
            When a Jacobian is not positive at some quadrature point.
        """
        csr = self.pattern.csr
        prescribed = self.constraints.prescribed(points)
        fixed = self.constraints.fixed.ravel()
        values = np.zeros(csr.nnz)
        load = np.zeros(self.space.shape)
        worst = min([term.add(points, load) for term in self.loads], default=np.inf)
        rhs = load.ravel().copy()
        lifted = None if prescribed.homogeneous else prescribed.values.ravel()
        for integral in self.stiffness:
            position = self.pattern.positions[integral.domain.block]
            low = integral.assemble(points, position, csr.indptr, csr.triangle == "upper", fixed, lifted, values, rhs)
            worst = min(worst, low)
        if not worst > 0:
            self._raise_tangled(points)
        kept = values[self.fixed_diagonal]
        values[self.fixed_diagonal] = np.where(kept > 0, kept, 1.0)
        rhs[fixed] = values[self.fixed_diagonal] * prescribed.values.ravel()[fixed]
        return Assembled(values, rhs, load, prescribed)

    def _raise_tangled(self, points: FloatArray) -> None:
        domains = [d for k in self.stiffness for d in getattr(k, "domains", (k.domain,))]
        domains += [d for term in self.loads for d in term.domains]
        cells = np.unique(np.concatenate([d.tangled_cells(points) for d in domains]))
        raise TangledMeshError(
            f"cells {listing(cells)} are flat or turned inside out at a quadrature point", cells.tolist()
        )

    def stiffness_times(self, points: FloatArray, x: FloatArray, *, transpose: bool = False) -> FloatArray:
        """``K x`` (or ``K^T x``), supports not eliminated."""
        y = np.zeros_like(x)
        for integral in self.stiffness:
            (integral.transposed() if transpose else integral).apply(points, x, y)
        return y

    def stiffness_times_at_supports(self, points: FloatArray, x: FloatArray, *, transpose: bool = False) -> FloatArray:
        """Rows of ``K x`` (or ``K^T x``) that belong to supported unknowns, zero elsewhere; visits their cells only."""
        y = np.zeros_like(x)
        for integral in self.boundary_stiffness:
            (integral.transposed() if transpose else integral).apply(points, x, y)
        return np.where(self.constraints.fixed, y, 0.0)

    def contract(
        self,
        points: FloatArray,
        u: FloatArray,
        stiffness_weight: FloatArray,
        load_weight: FloatArray,
    ) -> FloatArray:
        """``load_weight^T df/dX - stiffness_weight^T (dK/dX u)`` at fixed fields, shape ``(n_nodes, dim)``.

        With both weights equal to an adjoint it is ``-lam^T dR/dX`` of the residual ``R = K u - f``.
        """
        gradient = np.zeros_like(points)
        for integral in self.stiffness:
            integral.contract(points, u, stiffness_weight, gradient, -1.0)
        for term in self.loads:
            term.contract(points, load_weight, gradient)
        return gradient

    def parameter_gradient(
        self,
        points: FloatArray,
        u: FloatArray,
        stiffness_weight: FloatArray,
        load_weight: FloatArray,
        into: Mapping[str, FloatArray],
    ) -> None:
        """Add ``load_weight^T df/dm - stiffness_weight^T (dK/dm) u`` to the array of every parameter ``m``."""
        for integral in self.stiffness:
            integral.parameter_gradient(points, u, stiffness_weight, into, -1.0)
        for term in self.loads:
            term.parameter_gradient(points, load_weight, into)

    def tangent(self, points: FloatArray, velocity: FloatArray, u: FloatArray) -> FloatArray:
        """``(dK/dX velocity) u - (df/dX) velocity``, shape ``(n_nodes, nc)``."""
        y = np.zeros_like(u)
        for term in self.loads:
            term.tangent(points, velocity, y)
        np.negative(y, out=y)
        for integral in self.stiffness:
            integral.tangent(points, velocity, u, y)
        return y
