"""Bilinear and linear integrals on a domain: pointwise coefficients bound to the compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.kernels import integrals as kernels
from femadj.space.parameters import Parameters
from femadj.space.region import Domain

Int32Array = npt.NDArray[np.int32]


class MatrixTerm(Protocol):
    """One contribution to the matrix."""

    @property
    def domain(self) -> Domain:
        """Where it integrates."""
        ...

    @property
    def symmetric(self) -> bool:
        """Whether it is symmetric in u and v."""
        ...

    @property
    def parameter_names(self) -> frozenset[str]:
        """Parameters that it reads."""
        ...

    def with_parameters(self, parameters: Parameters) -> Self:
        """The same term with other values of the parameters."""
        ...

    def prepare(self) -> None:
        """Compile the kernels."""

    def transposed(self) -> Self:
        """The term with the roles of u and v exchanged."""
        ...

    def touching(self, nodes: npt.NDArray[np.bool_]) -> Self:
        """The term on the entities whose cell has a marked node."""
        ...

    def assemble(
        self,
        points: FloatArray,
        position: npt.NDArray[np.uint16],
        indptr: npt.NDArray[np.int64],
        upper: bool,
        fixed: npt.NDArray[np.bool_],
        prescribed: FloatArray | None,
        data: FloatArray,
        load: FloatArray,
    ) -> float:
        """Add to the CSR values, see ``kernels.integrals.assemble``; returns the smallest Jacobian determinant."""
        ...

    def apply(self, points: FloatArray, x: FloatArray, y: FloatArray) -> None:
        """Add ``K x`` to ``y``; both ``(n_nodes, nc)``."""

    def contract(
        self, points: FloatArray, u: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0
    ) -> None:
        """Add ``scale * d/dX (v^T K u)`` at fixed u and v to ``gradient`` ``(n_nodes, dim)``."""

    def parameter_gradient(
        self, points: FloatArray, u: FloatArray, v: FloatArray, into: Mapping[str, FloatArray], scale: float = 1.0
    ) -> None:
        """Add ``scale * d/dm (v^T K u)`` at fixed u and v to the arrays of the parameters."""

    def tangent(self, points: FloatArray, velocity: FloatArray, u: FloatArray, y: FloatArray) -> None:
        """Add ``(dK/dX velocity) u`` to ``y``."""


class LoadTerm(Protocol):
    """One contribution to the nodal forces."""

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Where it integrates."""
        ...

    @property
    def parameter_names(self) -> frozenset[str]:
        """Parameters that it reads."""
        ...

    def with_parameters(self, parameters: Parameters) -> Self:
        """The same term with other values of the parameters."""
        ...

    def prepare(self) -> None:
        """Compile the kernels."""

    def add(self, points: FloatArray, f: FloatArray) -> float:
        """Add the nodal forces to ``f`` ``(n_nodes, nc)``; return the smallest Jacobian determinant met."""
        ...

    def contract(self, points: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0) -> float:
        """Add ``scale * v^T (df/dX)`` to ``gradient`` ``(n_nodes, dim)``; return ``scale * v^T f``."""
        ...

    def parameter_gradient(
        self, points: FloatArray, v: FloatArray, into: Mapping[str, FloatArray], scale: float = 1.0
    ) -> None:
        """Add ``scale * v^T (df/dm)`` to the arrays of the parameters."""

    def tangent(self, points: FloatArray, velocity: FloatArray, y: FloatArray) -> None:
        """Add ``(df/dX) velocity`` to ``y`` ``(n_nodes, nc)``."""


class _WithoutParameters:
    """What terms say that read no parameters."""

    @property
    def parameter_names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def with_parameters(self, parameters: Parameters) -> Self:
        """Itself."""
        return self


class MatrixTermWithoutParameters(_WithoutParameters):
    """What matrix terms say that read no parameters."""

    def parameter_gradient(
        self, points: FloatArray, u: FloatArray, v: FloatArray, into: Mapping[str, FloatArray], scale: float = 1.0
    ) -> None:
        """Nothing."""


class LoadTermWithoutParameters(_WithoutParameters):
    """What load terms say that read no parameters."""

    def parameter_gradient(
        self, points: FloatArray, v: FloatArray, into: Mapping[str, FloatArray], scale: float = 1.0
    ) -> None:
        """Nothing."""


@dataclass(frozen=True, eq=False)
class BilinearIntegral(MatrixTermWithoutParameters):
    """``int v^ : C : u^`` over a domain.

    Attributes
    ----------
    domain : Domain
    coefficient : (n_regions, 1 or n_points, nc, ns, nc, ns)
        ``C[i, s, k, t]``; slots ``s`` count from ``lo``: 0 the value, 1.. the derivatives.
    region : (n_entities,) int32
        Which coefficient each entity has.
    lo, hi : int
        Range of slots.
    symmetric : bool
        Whether ``C[i, s, k, t] = C[k, t, i, s]``.
    """

    domain: Domain
    coefficient: FloatArray
    region: Int32Array
    lo: int
    hi: int
    symmetric: bool

    @property
    def n_components(self) -> int:
        """Components of the field."""
        return self.coefficient.shape[2]

    def _sizes(self, *, symmetric: bool = False) -> kernels.Sizes:
        return self.domain.sizes(self.n_components, self.lo, self.hi, symmetric=symmetric)

    def prepare(self) -> None:
        """Compile (or load from disk) the kernels of assembly, application and contraction."""
        kernels.assemble(self._sizes(symmetric=self.symmetric), self.domain.specialised)
        kernels.apply(self._sizes(), self.domain.specialised)
        kernels.contract(self._sizes(), self.domain.specialised)

    def assemble(
        self,
        points: FloatArray,
        position: npt.NDArray[np.uint16],
        indptr: npt.NDArray[np.int64],
        upper: bool,
        fixed: npt.NDArray[np.bool_],
        prescribed: FloatArray | None,
        data: FloatArray,
        load: FloatArray,
    ) -> float:
        """Add to the CSR values; see ``kernels.integrals.assemble``. Returns the smallest Jacobian determinant."""
        kernel = kernels.assemble(self._sizes(symmetric=self.symmetric), self.domain.specialised)
        lift = prescribed is not None
        values = prescribed if prescribed is not None else np.zeros(0)
        d = self.domain
        worst = d.run(
            lambda part, items: kernel(
                *d.arguments(points, items), self.coefficient, self.region, position, indptr, upper, d.owner, part,
                fixed, values, lift, data, load,
            )
        )  # fmt: skip
        return float(min(worst))

    def transposed(self) -> BilinearIntegral:
        """The integral with the roles of u and v exchanged."""
        if self.symmetric:
            return self
        return replace(self, coefficient=np.ascontiguousarray(self.coefficient.transpose(0, 1, 4, 5, 2, 3)))

    def touching(self, nodes: npt.NDArray[np.bool_]) -> BilinearIntegral:
        """The integral over the entities whose cell has a marked field node."""
        return replace(self, domain=self.domain.touching(nodes))

    def apply(self, points: FloatArray, x: FloatArray, y: FloatArray) -> None:
        """Add ``K x`` to ``y``; both ``(n_nodes, nc)``."""
        kernel = kernels.apply(self._sizes(), self.domain.specialised)
        d = self.domain
        d.run(
            lambda part, items: kernel(*d.arguments(points, items), self.coefficient, self.region, d.owner, part, x, y)
        )

    def contract(
        self, points: FloatArray, u: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0
    ) -> None:
        """Add ``scale * d/dX (v^T K u)`` at fixed u and v to ``gradient`` ``(n_nodes, dim)``."""
        kernel = kernels.contract(self._sizes(), self.domain.specialised)
        d = self.domain
        d.run(
            lambda part, items: kernel(
                *d.arguments(points, items), self.coefficient, self.region, d.owner, part, u, v, scale, gradient
            )
        )

    def tangent(self, points: FloatArray, velocity: FloatArray, u: FloatArray, y: FloatArray) -> None:
        """Add ``(dK/dX velocity) u`` to ``y``."""
        kernel = kernels.tangent(self._sizes(), self.domain.specialised)
        d = self.domain
        d.run(
            lambda part, items: kernel(
                *d.arguments(points, items), self.coefficient, self.region, d.owner, part, velocity, u, y
            )
        )


@dataclass(frozen=True, eq=False)
class LinearCoefficients:
    """Pointwise data of a linear integral.

    Attributes
    ----------
    force : (n_regions, 1 or n_points, nc, ns)
    pressure : (n_regions, 1 or n_points)
        Multiplies the outward normal (facets of a field with as many components as dimensions).
    constant : (n_regions,)
        Must not depend on position.
    region : (n_entities,) int32
    force_x : (n_regions, n_points, nc, ns, dim) or None
    pressure_x : (n_regions, n_points, dim) or None
        Derivatives by position, where the data depend on it.
    """

    force: FloatArray
    pressure: FloatArray
    constant: FloatArray
    region: Int32Array
    force_x: FloatArray | None = None
    pressure_x: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class LinearIntegral(LoadTermWithoutParameters):
    """``int v^ : (F + p n) + c`` over a domain.

    Attributes
    ----------
    domain : Domain
    coefficients : callable
        Maps node coordinates ``(n_nodes, dim)`` to ``LinearCoefficients``.
    n_components, lo, hi : int
        Field components and range of slots (``lo == hi``: only the constant).
    varies : bool
        Whether the coefficients depend on position.
    """

    domain: Domain
    coefficients: Callable[[FloatArray], LinearCoefficients]
    n_components: int
    lo: int
    hi: int
    varies: bool = False

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Where it integrates, as a load term says it."""
        return (self.domain,)

    def _sizes(self, *, varies: bool = False) -> kernels.Sizes:
        return self.domain.sizes(self.n_components, self.lo, self.hi, varies=varies)

    def prepare(self) -> None:
        """Compile (or load from disk) the kernels of the load and its contraction."""
        kernels.load(self._sizes(), self.domain.specialised)
        kernels.load_contract(self._sizes(varies=self.varies), self.domain.specialised)

    def add(self, points: FloatArray, f: FloatArray) -> float:
        """Add the load vector to ``f`` ``(n_nodes, nc)``; returns the smallest Jacobian determinant."""
        kernel = kernels.load(self._sizes(), self.domain.specialised)
        d = self.domain
        c = self.coefficients(points)
        worst = d.run(
            lambda part, items: kernel(*d.arguments(points, items), c.force, c.pressure, c.region, d.owner, part, f)
        )
        return float(min(worst))

    def contract(self, points: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0) -> float:
        """Add ``scale * d/dX`` of the integral at fixed v to ``gradient``; returns ``scale`` times the integral."""
        kernel = kernels.load_contract(self._sizes(varies=self.varies), self.domain.specialised)
        d = self.domain
        c = self.coefficients(points)
        force_x, pressure_x = self._derivatives(c)
        value = np.zeros(len(d))
        d.run(
            lambda part, items: kernel(
                *d.arguments(points, items), c.force, c.pressure, c.constant, force_x, pressure_x, c.region, d.owner,
                part, v, scale, value, gradient,
            )
        )  # fmt: skip
        return float(value.sum())

    def tangent(self, points: FloatArray, velocity: FloatArray, y: FloatArray) -> None:
        """Add the derivative of the load vector along a node velocity to ``y``."""
        kernel = kernels.load_tangent(self._sizes(varies=self.varies), self.domain.specialised)
        d = self.domain
        c = self.coefficients(points)
        force_x, pressure_x = self._derivatives(c)
        d.run(
            lambda part, items: kernel(
                *d.arguments(points, items), c.force, c.pressure, force_x, pressure_x, c.region, d.owner, part,
                velocity, y,
            )
        )  # fmt: skip

    def _derivatives(self, c: LinearCoefficients) -> tuple[FloatArray, FloatArray]:
        nc, ns, dim = self.n_components, self.hi - self.lo, self.domain.dim
        nothing = np.zeros((0, 0, nc, ns, dim)), np.zeros((0, 0, dim))
        if not self.varies:
            return nothing
        if c.force_x is None or c.pressure_x is None:
            raise TypeError("coefficients that vary with position must give their derivatives")
        if c.constant.any():
            raise TypeError("a constant part next to coefficients that vary with position is not supported")
        return c.force_x, c.pressure_x
