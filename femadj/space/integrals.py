"""Bilinear and linear integrals on a domain: pointwise coefficients bound to the compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.space import nodal
from femadj.space.nodal import Force, Tensor
from femadj.space.parameters import Parameters
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain

Int32Array = npt.NDArray[np.int32]


class MatrixTerm(Protocol):
    """One contribution to the matrix."""

    @property
    def domains(self) -> tuple[Domain, ...]:
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

    def assemble(self, points: FloatArray, entries: MatrixEntries) -> float:
        """Add to the entries of the matrix; returns the smallest Jacobian determinant."""
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
    tensor : Tensor
        Coefficients and slots.
    """

    domain: Domain
    tensor: Tensor

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Where it integrates."""
        return (self.domain,)

    @property
    def symmetric(self) -> bool:
        """Whether it is symmetric in u and v."""
        return self.tensor.symmetric

    @property
    def n_components(self) -> int:
        """Components of the field."""
        return self.tensor.n_components

    def prepare(self) -> None:
        """Compile (or load from disk) the kernels of assembly, application and contraction."""
        c = self.tensor
        nodal.prepare_bilinear(self.domain, c.n_components, c.lo, c.hi, symmetric=c.symmetric)

    def assemble(self, points: FloatArray, entries: MatrixEntries) -> float:
        """Add to the entries of the matrix; returns the smallest Jacobian determinant."""
        return nodal.assemble(self.domain, points, self.tensor, entries)

    def transposed(self) -> BilinearIntegral:
        """The integral with the roles of u and v exchanged."""
        return self if self.symmetric else replace(self, tensor=self.tensor.transposed)

    def apply(self, points: FloatArray, x: FloatArray, y: FloatArray) -> None:
        """Add ``K x`` to ``y``; both ``(n_nodes, nc)``."""
        nodal.apply(self.domain, points, self.tensor, x, y)

    def contract(
        self, points: FloatArray, u: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0
    ) -> None:
        """Add ``scale * d/dX (v^T K u)`` at fixed u and v to ``gradient`` ``(n_nodes, dim)``."""
        nodal.contract(self.domain, points, self.tensor, u, v, gradient, scale)

    def tangent(self, points: FloatArray, velocity: FloatArray, u: FloatArray, y: FloatArray) -> None:
        """Add ``(dK/dX velocity) u`` to ``y``."""
        nodal.tangent(self.domain, points, self.tensor, velocity, u, y)


@dataclass(frozen=True, eq=False)
class LinearIntegral(LoadTermWithoutParameters):
    """``int v^ : (F + p n) + c`` over a domain.

    Attributes
    ----------
    domain : Domain
    force : callable
        Maps node coordinates ``(n_nodes, dim)`` to the coefficients, a ``Force``.
    n_components, lo, hi : int
        Field components and range of slots (``lo == hi``: only the constant).
    varies : bool
        Whether the coefficients depend on position.
    """

    domain: Domain
    force: Callable[[FloatArray], Force]
    n_components: int
    lo: int
    hi: int
    varies: bool = False

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Where it integrates, as a load term says it."""
        return (self.domain,)

    def prepare(self) -> None:
        """Compile (or load from disk) the kernels of the load and its contraction."""
        nodal.prepare_linear(self.domain, self.n_components, self.lo, self.hi, varies=self.varies)

    def add(self, points: FloatArray, f: FloatArray) -> float:
        """Add the load vector to ``f`` ``(n_nodes, nc)``; returns the smallest Jacobian determinant."""
        return nodal.load(self.domain, points, self.force(points), f)

    def contract(self, points: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0) -> float:
        """Add ``scale * d/dX`` of the integral at fixed v to ``gradient``; returns ``scale`` times the integral."""
        return nodal.load_contract(self.domain, points, self._checked(points), v, gradient, scale)

    def tangent(self, points: FloatArray, velocity: FloatArray, y: FloatArray) -> None:
        """Add the derivative of the load vector along a node velocity to ``y``."""
        nodal.load_tangent(self.domain, points, self._checked(points), velocity, y)

    def _checked(self, points: FloatArray) -> Force:
        """The coefficients, with their derivatives where they vary."""
        c = self.force(points)
        if self.varies and (c.force_x is None or c.pressure_x is None):
            raise TypeError("coefficients that vary with position must give their derivatives")
        if self.varies and c.constant.any():
            raise TypeError("a constant part next to coefficients that vary with position is not supported")
        return c
