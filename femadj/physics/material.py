"""Materials as functions of named constants: pointwise tensors by region, and their exact derivatives.

A constant is one number (or tensor) for the whole mesh, one for each cell group, or one for each cell; all three are
parameters of the problem. A tensor ``C(m)`` is a function of some constants, evaluated for all regions at once: cells
with the same values share a region (see ``femadj.forms.regional``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, listing
from femadj.base.jet import values_of
from femadj.errors import MaterialError
from femadj.forms.regional import RegionalTensor, TensorFunction
from femadj.mesh import Mesh
from femadj.space.parameters import CellField, GroupValues, ParameterLike

IntArray = npt.NDArray[np.int64]
Regional = float | npt.ArrayLike | CellField | Mapping[str, Any]
"""A material constant: one value, a value for each cell group by name (together they cover every cell once), or a
``CellField`` with a value for each cell."""


def parameter_of(value: Regional) -> ParameterLike:
    """A constant as a parameter: one given by groups has a leading axis, in the order of the mapping."""
    if isinstance(value, Mapping):
        return GroupValues([np.asarray(entry, dtype=float) for entry in value.values()])
    return value


def item_shape(value: Regional) -> tuple[int, ...]:
    """Shape of one value of a constant."""
    if isinstance(value, CellField):
        return ()
    return np.shape(next(iter(value.values()))) if isinstance(value, Mapping) else np.shape(value)


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


def regional_tensor(
    mesh: Mesh,
    function: TensorFunction,
    constants: Mapping[str, Regional],
    item_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> RegionalTensor:
    """A tensor as a function of constants; regions are the distinct combinations of their values.

    Parameters
    ----------
    mesh : Mesh
    function : callable
        See ``femadj.forms.regional.TensorFunction``.
    constants : mapping of parameter name to values
    item_shapes : mapping of parameter name to shape, optional
        Of one value, where it is not a number.
    """
    indices = [value_of_cell(mesh, value, name) for name, value in constants.items()]
    code = np.zeros(mesh.n_cells, dtype=np.int64)  # which combination a cell has
    for value, index in zip(constants.values(), indices, strict=True):
        if isinstance(value, CellField):
            code = index  # no two cells share a region
            break
        if isinstance(value, Mapping):
            code = code * len(value) + index
    first, region = _distinct(code)
    shapes = tuple((item_shapes or {}).get(name, ()) for name in constants)
    return RegionalTensor(
        function, tuple(constants), shapes, region, tuple(index[first] for index in indices), len(first)
    )


def _distinct(code: IntArray) -> tuple[IntArray, npt.NDArray[np.int32]]:
    """Where each code stands first, and which of these every cell has; without a sort where there is one code only."""
    if not code.any():
        return np.zeros(1, dtype=np.int64), np.zeros(len(code), dtype=np.int32)
    _, first, region = np.unique(code, return_index=True, return_inverse=True)
    return first, region.astype(np.int32)


# ------------------------------------------------------------------ checks of values
def checked_values(check: Callable[[FloatArray, str], None], name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values of a constant by region, real or complex, checked."""
    check(values_of(values), name)
    return values


def require_positive(values: FloatArray, name: str) -> None:
    """MaterialError where a value is not positive."""
    if not (values > 0).all():
        raise MaterialError(f"{name} must be positive, not {values[~(values > 0)][0]:g}")


def require_poisson(values: FloatArray, name: str) -> None:
    """MaterialError where Poisson's ratio is not possible."""
    wrong = ~((values > -1) & (values < 0.5))
    if wrong.any():
        raise MaterialError(f"{name} must lie between -1 and 0.5 (both excluded), not {values[wrong][0]:g}")


def require_definite(matrices: FloatArray, name: str) -> None:
    """MaterialError where the symmetric part of a matrix is not positive definite."""
    low = np.linalg.eigvalsh(0.5 * (matrices + matrices.swapaxes(1, 2)))[:, 0]
    if not (low > 1e-14 * np.abs(matrices).max(axis=(1, 2))).all():
        raise MaterialError(f"{name} is not positive definite")


# ------------------------------------------------------------------ tensors
VOIGT: Mapping[int, tuple[tuple[int, int], ...]] = {
    3: ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)),
    2: ((0, 0), (1, 1), (0, 1)),
}


def isotropic_stiffness(E: npt.NDArray[Any], nu: npt.NDArray[Any], dim: int, plane: str) -> npt.NDArray[Any]:
    """Elasticity tensors ``(n, dim, dim, dim, dim)`` of isotropic materials, ``E`` and ``nu`` ``(n,)``."""
    require_positive(values_of(E), "E")
    require_poisson(values_of(nu), "nu")
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
    require_definite(values_of(matrix), "stiffness")
    voigt = plane_voigt(0.5 * (matrix + matrix.swapaxes(1, 2)), dim, plane)
    number = np.zeros((dim, dim), dtype=np.int64)
    for a, (i, j) in enumerate(VOIGT[dim]):
        number[i, j] = number[j, i] = a
    return voigt[:, number[:, :, None, None], number]


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
    plane_stress: npt.NDArray[Any] = np.linalg.inv(compliance[:, kept[:, None], kept])
    return plane_stress


def isotropic_conductivity(k: npt.NDArray[Any], dim: int) -> npt.NDArray[Any]:
    """Conductivity tensors ``(n, dim, dim)`` from numbers ``(n,)``."""
    require_positive(values_of(k), "conductivity")
    return k[:, None, None] * np.eye(dim)


def tensor_conductivity(k: npt.NDArray[Any], dim: int) -> npt.NDArray[Any]:
    """Conductivity tensors ``(n, dim, dim)``, checked."""
    if k.shape[1:] != (dim, dim):
        raise MaterialError(f"conductivity must be a number or {(dim, dim)}, not {k.shape[1:]}")
    require_definite(values_of(k), "conductivity")
    return k


def of_gradients(tensors: npt.NDArray[Any], dim: int) -> npt.NDArray[Any]:
    """Tensors ``(n, nc, dim, nc, dim)`` between gradients, as tensors between all slots ``(n, N, N)``."""
    n, nc = tensors.shape[:2]
    full = np.zeros_like(tensors, shape=(n, nc, dim + 1, nc, dim + 1))
    full[:, :, 1:, :, 1:] = tensors
    return full.reshape(n, nc * (dim + 1), nc * (dim + 1))
