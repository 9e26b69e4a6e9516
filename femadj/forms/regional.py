"""Tensors that are constant in regions, and functions of named constants.

Since ``int v^ : C : u^`` is linear in ``C``, the derivative of a response by a constant is the derivative by the tensor
(the integrals of ``v^ (x) u^`` over each region) contracted with ``dC/dm``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base import jet
from femadj.base.arrays import FloatArray
from femadj.base.complex_step import STEP, plain
from femadj.space.parameters import Parameters

IntArray = npt.NDArray[np.int64]
TensorFunction = Callable[..., npt.NDArray[Any]]
"""Values of the constants by region, each ``(n_regions, *item_shape)``, to tensors ``(n_regions, ...)``; for real and
complex values, each region on its own."""


@dataclass(frozen=True, eq=False)
class RegionalTensor:
    """A tensor that is a function of named constants, constant in regions.

    Attributes
    ----------
    function : callable
        See ``TensorFunction``; takes the constants in the order of ``names``.
    names : tuple of str
        Parameters that it is a function of.
    item_shapes : tuple of shapes
        Of one value of each of them.
    region : (n_cells,) int32
        Region of every cell.
    chosen : tuple of (n_regions,) int64
        For each parameter, which of its values a region has.
    n_regions : int
    """

    function: TensorFunction
    names: tuple[str, ...]
    item_shapes: tuple[tuple[int, ...], ...]
    region: npt.NDArray[np.int32]
    chosen: tuple[IntArray, ...]
    n_regions: int

    @classmethod
    def constant(cls, values: FloatArray, region: npt.NDArray[np.int32]) -> RegionalTensor:
        """Tensors ``(n_regions, ...)`` that depend on no parameter."""
        return cls(lambda: values, (), (), region, (), len(values))

    def mapped(self, function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> RegionalTensor:
        """What a function, linear and for complex numbers too, makes of the tensors ``(n_regions, ...)``."""
        own = self.function
        return replace(self, function=lambda *values: function(own(*values)))

    def along(self, parameters: Parameters, rates: Mapping[str, FloatArray]) -> RegionalTensor:
        """The rate along rates of the parameters, as a constant."""
        return RegionalTensor.constant(self.pushforward(parameters, rates), self.region)

    def at(self, parameters: Parameters) -> FloatArray:
        """The tensors of all regions, ``(n_regions, ...)``; complex where parameters are, which then move."""
        found = self.function(*self._values(parameters))
        return np.ascontiguousarray(found, dtype=np.result_type(found, np.float64))

    def pushforward(self, parameters: Parameters, rates: Mapping[str, FloatArray]) -> FloatArray:
        """Rate of the tensors ``(n_regions, ...)`` along rates of the parameters; those left out do not change.

        Complex where parameters are.
        """
        moved: list[Any] = []
        moving = any(np.iscomplexobj(value) for value in self._values(parameters))
        for name, shape, chosen, value in self._each(parameters):
            rate = rates.get(name)
            step = np.zeros_like(value) if rate is None else rate.reshape(-1, *shape)[chosen]
            moved.append(plain(jet.seed(value, step)) if moving else value + 1j * STEP * step)
        if moving:
            return jet.derivative(self.function(*moved), moving=True)
        return np.ascontiguousarray(np.imag(self.function(*moved)) / STEP)

    def pullback(
        self, parameters: Parameters, by_tensor: FloatArray, into: Mapping[str, FloatArray], scale: float = 1.0
    ) -> None:
        """Add ``scale * by_tensor : dC/dm`` to the arrays of the parameters that ``into`` holds.

        ``by_tensor`` ``(n_regions, ...)`` is the derivative of a scalar by the tensors.
        """
        weights = by_tensor.reshape(self.n_regions, -1)
        values = self._values(parameters)
        for number, (name, shape, chosen, value) in enumerate(self._each(parameters)):
            if name not in into:
                continue
            target = into[name].reshape(-1, *shape)  # a view: parameters are contiguous
            for item in np.ndindex(*shape):
                direction = np.zeros(value.shape)
                direction[(slice(None), *item)] = 1.0
                moved: list[Any] = list(values)
                moved[number] = plain(jet.seed(value, direction))
                found = self.function(*moved)
                slope = jet.derivative(found, moving=np.iscomplexobj(value)).reshape(self.n_regions, -1)
                np.add.at(target, (chosen, *item), scale * (slope * weights).sum(axis=1))

    def _each(self, parameters: Parameters) -> list[tuple[str, tuple[int, ...], IntArray, FloatArray]]:
        return list(zip(self.names, self.item_shapes, self.chosen, self._values(parameters), strict=True))

    def _values(self, parameters: Parameters) -> list[FloatArray]:
        """Values of the constants by region."""
        return [
            parameters.value(name).reshape(-1, *shape)[chosen]
            for name, shape, chosen in zip(self.names, self.item_shapes, self.chosen, strict=True)
        ]
