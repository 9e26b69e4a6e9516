"""Materials as functions of named constants: pointwise tensors by region, and their exact derivatives.

A constant is one number (or tensor) for the whole mesh, one for each cell group, or one for each cell; all three are
parameters of the problem. A tensor ``C(m)`` is a function of some constants, evaluated for all regions at once: cells
with the same values share a region. Since ``int v^ : C : u^`` is linear in ``C``, the derivative of a response by a
constant is the derivative by the tensor (the integrals of ``v^ (x) u^`` over each region) contracted with ``dC/dm``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, listing
from femadj.base.complex_step import STEP
from femadj.errors import MaterialError
from femadj.mesh import Mesh
from femadj.space.parameters import CellField, GroupValues, ParameterLike, Parameters

IntArray = npt.NDArray[np.int64]
Regional = float | npt.ArrayLike | CellField | Mapping[str, Any]
"""A material constant: one value, a value for each cell group by name (together they cover every cell once), or a
``CellField`` with a value for each cell."""


def parameter_of(value: Regional) -> ParameterLike:
    """A constant as a parameter: one given by groups has a leading axis, in the order of the mapping."""
    if isinstance(value, Mapping):
        return GroupValues([np.asarray(entry, dtype=float) for entry in value.values()])
    return value


def value_of_cell(mesh: Mesh, value: Regional, what: str) -> IntArray:
    """For every cell the number of its value in the parameter, flattened over groups or cells.

    Raises
    ------
    MaterialError
        When the groups leave cells out or share some.
    UnknownGroupError
        For a group that the mesh does not have.
    """
    if isinstance(value, CellField):
        return np.arange(mesh.n_cells)
    if not isinstance(value, Mapping):
        return np.zeros(mesh.n_cells, dtype=np.int64)
    index = np.full(mesh.n_cells, -1, dtype=np.int64)
    for number, group in enumerate(value):
        cells = mesh.cells_of(group)
        taken = cells[index[cells] >= 0]
        if len(taken):
            other = list(value)[int(index[taken[0]])]
            raise MaterialError(f"{what}: cell groups {other!r} and {group!r} share cells {listing(taken)}")
        index[cells] = number
    missing = np.flatnonzero(index < 0)
    if len(missing):
        raise MaterialError(f"{what} is not given for cells {listing(missing)} (groups given: {', '.join(value)})")
    return index


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
    """

    function: TensorFunction
    names: tuple[str, ...]
    item_shapes: tuple[tuple[int, ...], ...]
    region: npt.NDArray[np.int32]
    chosen: tuple[IntArray, ...]

    @classmethod
    def of(
        cls,
        mesh: Mesh,
        function: TensorFunction,
        constants: Mapping[str, Regional],
        item_shapes: Sequence[tuple[int, ...]] | None = None,
    ) -> RegionalTensor:
        """Number the regions: distinct combinations of the values of all constants."""
        indices = [value_of_cell(mesh, value, name) for name, value in constants.items()]
        combinations, region = np.unique(np.stack(indices, axis=1), axis=0, return_inverse=True)
        shapes = tuple(item_shapes) if item_shapes is not None else ((),) * len(constants)
        chosen = tuple(np.ascontiguousarray(column) for column in combinations.T)
        return cls(function, tuple(constants), shapes, region.ravel().astype(np.int32), chosen)

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.chosen[0])

    def at(self, parameters: Parameters) -> FloatArray:
        """The tensors of all regions, ``(n_regions, ...)``."""
        return np.ascontiguousarray(self.function(*self._values(parameters)))

    def pushforward(self, parameters: Parameters, rates: Mapping[str, FloatArray]) -> FloatArray:
        """Rate of the tensors ``(n_regions, ...)`` along rates of the parameters; those left out do not change."""
        moved = []
        for name, shape, chosen, value in self._each(parameters):
            rate = rates.get(name)
            step = 0.0 if rate is None else rate.reshape(-1, *shape)[chosen]
            moved.append(value + 1j * STEP * step)
        return np.ascontiguousarray(self.function(*moved).imag / STEP)

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
                moved: list[npt.NDArray[Any]] = list(values)
                seeded = value.astype(complex)
                seeded[(slice(None), *item)] += 1j * STEP
                moved[number] = seeded
                slope = self.function(*moved).imag.reshape(self.n_regions, -1) / STEP
                np.add.at(target, (chosen, *item), scale * (slope * weights).sum(axis=1))

    def _each(self, parameters: Parameters) -> list[tuple[str, tuple[int, ...], IntArray, FloatArray]]:
        return list(zip(self.names, self.item_shapes, self.chosen, self._values(parameters), strict=True))

    def _values(self, parameters: Parameters) -> list[FloatArray]:
        """Values of the constants by region."""
        return [
            parameters.value(name).reshape(-1, *shape)[chosen]
            for name, shape, chosen in zip(self.names, self.item_shapes, self.chosen, strict=True)
        ]


# ------------------------------------------------------------------ tensors
VOIGT: Mapping[int, tuple[tuple[int, int], ...]] = {
    3: ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)),
    2: ((0, 0), (1, 1), (0, 1)),
}


def isotropic_stiffness(E: npt.NDArray[Any], nu: npt.NDArray[Any], dim: int, plane: str) -> npt.NDArray[Any]:
    """Elasticity tensors ``(n, dim, dim, dim, dim)`` of isotropic materials, ``E`` and ``nu`` ``(n,)``."""
    mu = E / (2 * (1 + nu))
    lame = E * nu / ((1 + nu) * (1 - 2 * nu))
    if dim == 2 and plane == "stress":
        lame = 2 * lame * mu / (lame + 2 * mu)
    d = np.eye(dim)
    volumetric = np.einsum("ij,kl->ijkl", d, d)
    symmetric = np.einsum("ik,jl->ijkl", d, d) + np.einsum("il,jk->ijkl", d, d)
    return lame[:, None, None, None, None] * volumetric + mu[:, None, None, None, None] * symmetric


def anisotropic_stiffness(matrix: npt.NDArray[Any], dim: int, plane: str) -> npt.NDArray[Any]:
    """Elasticity tensors ``(n, dim, dim, dim, dim)`` from Voigt matrices ``(n, 6, 6)`` or, plane, ``(n, 3, 3)``.

    The symmetric part of a matrix counts, so that derivatives by its entries are symmetric too.
    """
    voigt = plane_voigt(0.5 * (matrix + matrix.swapaxes(1, 2)), dim, plane)
    tensor = np.zeros((len(matrix), dim, dim, dim, dim), dtype=voigt.dtype)
    for a, (i, j) in enumerate(VOIGT[dim]):
        for b, (k, m) in enumerate(VOIGT[dim]):
            for p, q in {(i, j), (j, i)}:
                for r, s in {(k, m), (m, k)}:
                    tensor[:, p, q, r, s] = voigt[:, a, b]
    return tensor


def plane_voigt(matrix: npt.NDArray[Any], dim: int, plane: str) -> npt.NDArray[Any]:
    """Voigt matrices of a body of this dimension; a (6, 6) one serves plane strain and plane stress too."""
    if dim == 3:
        if matrix.shape[1:] != (6, 6):
            raise MaterialError("a solid needs a (6, 6) stiffness")
        return matrix
    if matrix.shape[1:] == (3, 3):
        return matrix
    kept = np.array([0, 1, 5])
    if plane == "strain":
        return matrix[:, kept[:, None], kept]
    compliance = np.linalg.inv(matrix)
    return np.asarray(np.linalg.inv(compliance[:, kept[:, None], kept]))


def isotropic_conductivity(k: npt.NDArray[Any], dim: int) -> npt.NDArray[Any]:
    """Conductivity tensors ``(n, dim, dim)`` from numbers ``(n,)``."""
    return k[:, None, None] * np.eye(dim)
