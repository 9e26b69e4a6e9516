"""The compiled passes over a region bound to known coefficients: what tests of kernels call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.space import nodal
from femadj.space.nodal import Force, Tensor
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BilinearIntegral:
    """``int v^ : C : u^`` over a domain."""

    domain: Domain
    tensor: Tensor

    @property
    def n_components(self) -> int:
        return self.tensor.n_components

    def assemble(self, points: FloatArray, entries: MatrixEntries) -> float:
        return nodal.assemble(self.domain, points, self.tensor, entries)

    def transposed(self) -> BilinearIntegral:
        return replace(self, tensor=self.tensor.transposed)

    def apply(self, points: FloatArray, x: FloatArray, y: FloatArray) -> None:
        nodal.apply(self.domain, points, self.tensor, x, y)

    def contract(
        self, points: FloatArray, u: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0
    ) -> None:
        nodal.contract(self.domain, points, self.tensor, u, v, gradient, scale)

    def tangent(self, points: FloatArray, velocity: FloatArray, u: FloatArray, y: FloatArray) -> None:
        nodal.tangent(self.domain, points, self.tensor, velocity, u, y)


@dataclass(frozen=True, eq=False)
class LinearIntegral:
    """``int v^ : (F + p n) + c`` over a domain."""

    domain: Domain
    force: Callable[[FloatArray], Force]
    n_components: int
    lo: int
    hi: int
    varies: bool = False

    def add(self, points: FloatArray, f: FloatArray) -> float:
        return nodal.load(self.domain, points, self.force(points), f)

    def contract(self, points: FloatArray, v: FloatArray, gradient: FloatArray, scale: float = 1.0) -> float:
        return nodal.load_contract(self.domain, points, self.force(points), v, gradient, scale)

    def tangent(self, points: FloatArray, velocity: FloatArray, y: Any) -> None:
        nodal.load_tangent(self.domain, points, self.force(points), velocity, y)
