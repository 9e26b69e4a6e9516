"""Field map of any scikit-fem element: tables of its shape functions, transported as the cells move (Piola maps)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray, listing
from femadj.errors import TangledMeshError
from femadj.kernels.scatter import scatter_matrices, scatter_vectors
from femadj.space import nodal
from femadj.space.maps import PointTensor, Sides
from femadj.space.nodal import Frame
from femadj.space.parts import Part
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain

Int32Array = npt.NDArray[np.int32]
IntArray = npt.NDArray[np.int64]

CHUNK_VALUES = 1_000_000
"""Shape function values that are computed at a time."""


@dataclass(frozen=True, eq=False)
class ReferenceFunctions:
    """Shape functions of a part at the points of every variant of an entity.

    Attributes
    ----------
    values : (n_variants, n_points, n_functions, n)
        One number (H1) or ``dim`` of them.
    derivatives : (n_variants, n_points, n_functions, n)
        Gradient (H1), divergence (one number), or curl (one or three).
    signs : (n_cells, n_functions) or None
        Orientation of the functions on every cell of the mesh.
    """

    values: FloatArray
    derivatives: FloatArray
    signs: FloatArray | None


@dataclass(frozen=True, eq=False)
class Side:
    """Entities seen from the cells on one side of them, with the shape functions of an element space.

    Attributes
    ----------
    domain : Domain
        Geometry of the entities; its field is the rows of the unknowns of every cell.
    parts : tuple of Part
    functions : tuple of ReferenceFunctions
        One a part.
    """

    domain: Domain
    parts: tuple[Part, ...]
    functions: tuple[ReferenceFunctions, ...]

    def chunk(self, start: int, stop: int) -> Side:
        """The entities from ``start`` to ``stop``."""
        return replace(self, domain=self.domain.chunk(start, stop))

    def selected(self, keep: npt.NDArray[np.bool_]) -> Side:
        """The entities that are marked."""
        return replace(self, domain=self.domain.selected(keep))

    @property
    def rows(self) -> Int32Array:
        """Rows of the unknowns of every entity's cell, ``(m, k)``."""
        return self.domain.field[self.domain.cell]

    @property
    def n_slots(self) -> int:
        """Values and derivatives of all parts."""
        return self.parts[-1].slots.stop

    @property
    def n_functions(self) -> int:
        """Unknowns of a cell."""
        return sum(part.local.size for part in self.parts)

    def jacobian(self, points: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """Jacobian ``(m, nq or 1, dim, dim)``, its determinant ``(m, nq or 1)``, and the smallest by orientation."""
        domain = self.domain
        x = points[domain.nodes[domain.cell]].transpose(0, 2, 1)
        gradients = domain.geometry.gradients
        if domain.nodes.shape[1] == domain.dim + 1:  # the geometry of a straight simplex is constant
            gradients = gradients[:, :1]
        j = np.matmul(x[:, None], gradients[domain.local] if domain.is_facet else gradients)
        det = _determinant(j)
        low = float((det.real * domain.orientation[domain.cell][:, None]).min(initial=np.inf))
        return j, det, low

    def values(self, part: Part, u: FloatArray, points: FloatArray) -> FloatArray:
        """Values of a part of the unknown ``(n_dofs,)``, shape ``(m, nq, n)``; TangledMeshError where it has none."""
        local = u[self.rows]
        if part.kind == "H1":  # values do not depend on the geometry
            at = self.domain.local if self.domain.is_facet else slice(None)
            shape = self.functions[self.parts.index(part)].values[at][..., 0]
            return np.matmul(shape, local[:, part.local])
        table, low = self.functions_at(points)
        if not low > 0:
            cells = self.domain.tangled_cells(points)
            raise TangledMeshError(f"cells {listing(cells)} are flat or turned inside out at a node", cells.tolist())
        return np.einsum("eqsa,ea->eqs", table[:, :, part.value_slots], local)

    def functions_at(self, points: FloatArray) -> tuple[FloatArray, float]:
        """Values and derivatives of all shape functions, by slots.

        Returns
        -------
        table : (m, nq, n_slots, n_functions)
        low : float
            Smallest Jacobian determinant; where it is not positive the table means nothing and is empty.
        """
        j, det, low = self.jacobian(points)
        m, nq = len(self.domain), self.domain.geometry.n_points
        if not low > 0:
            return np.empty((0, nq, self.n_slots, self.n_functions)), low
        table = np.zeros((m, nq, self.n_slots, self.n_functions), dtype=points.dtype)
        inverse = _inverse(j, det)
        for part, functions in zip(self.parts, self.functions, strict=True):
            _fill(table, part, functions, self.domain, j, inverse, det)
        return table, low


def _determinant(j: FloatArray) -> FloatArray:
    """Determinants of ``(..., dim, dim)`` matrices."""
    if j.shape[-1] == 2:
        return np.asarray(j[..., 0, 0] * j[..., 1, 1] - j[..., 0, 1] * j[..., 1, 0])
    return np.asarray((j[..., 0, :] * np.cross(j[..., 1, :], j[..., 2, :])).sum(axis=-1))


def _inverse(j: FloatArray, det: FloatArray) -> FloatArray:
    """Inverses of ``(..., dim, dim)`` matrices with known determinants."""
    result = np.empty_like(j)
    if j.shape[-1] == 2:
        result[..., 0, 0], result[..., 1, 1] = j[..., 1, 1], j[..., 0, 0]
        result[..., 0, 1], result[..., 1, 0] = -j[..., 0, 1], -j[..., 1, 0]
    else:
        for k in range(3):
            result[..., k] = np.cross(j[..., (k + 1) % 3, :], j[..., (k + 2) % 3, :])
    return np.asarray(result / det[..., None, None])


def _fill(
    table: FloatArray,
    part: Part,
    functions: ReferenceFunctions,
    domain: Domain,
    j: FloatArray,
    inverse: FloatArray,
    det: FloatArray,
) -> None:
    """Fill the slots of one part."""
    at = domain.local if domain.is_facet else slice(None)
    value, derivative = functions.values[at], functions.derivatives[at]  # (1 or m, nq, n, .)
    dim = part.dim
    if part.kind == "H1":
        gradient = np.matmul(derivative, inverse)  # (m, nq, n, dim)
        for component in range(part.components):
            columns = part.local[:, component]
            slot = part.first + component * (1 + dim)
            table[:, :, slot, columns] = value[..., 0]
            for k in range(dim):
                table[:, :, slot + 1 + k, columns] = gradient[..., k]
        return
    columns = part.local[:, 0]
    sign = np.ones((1, len(columns))) if functions.signs is None else functions.signs[domain.cell]
    if part.kind == "H(div)":
        scale = sign[:, None] / np.where(det.real < 0, -det, det)[..., None]
        mapped = np.matmul(value, j.swapaxes(-1, -2)) * scale[..., None]
        mapped_derivative = derivative * scale[..., None]
    else:
        mapped = np.matmul(value, inverse) * sign[:, None, :, None]
        scale = sign[:, None] / det[..., None]
        turned = np.matmul(derivative, j.swapaxes(-1, -2)) if dim == 3 else derivative
        mapped_derivative = turned * scale[..., None]
    for k in range(dim):
        table[:, :, part.first + k, columns] = mapped[..., k]
    for k in range(mapped_derivative.shape[-1]):
        table[:, :, part.first + dim + k, columns] = mapped_derivative[..., k]


@dataclass(frozen=True, eq=False)
class ElementMap:
    """Unknowns of an element on a region.

    Attributes
    ----------
    sides : tuple of Side
        One; two where cells meet at interior facets.
    n_components : int
        Unknowns in a row.
    block : int
        Block of the pattern's positions that the entities belong to.
    positions : (m,) int64
        Which of them belongs to each entity.
    """

    sides: tuple[Side, ...]
    n_components: int
    block: int
    positions: IntArray

    @property
    def parts(self) -> tuple[Part, ...]:
        """The fields that the unknowns consist of."""
        return self.sides[0].parts

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The entities, seen from every side."""
        return tuple(side.domain for side in self.sides)

    @property
    def compiled(self) -> bool:
        """False: everything is done in NumPy."""
        return False

    @property
    def rows(self) -> Int32Array:
        """Rows of the unknowns of every entity's cells."""
        return np.hstack([side.rows for side in self.sides])

    def __len__(self) -> int:
        return len(self.positions)

    def selected(self, keep: npt.NDArray[np.bool_]) -> ElementMap:
        """On the entities that are marked."""
        sides = tuple(side.selected(keep) for side in self.sides)
        return replace(self, sides=sides, positions=self.positions[keep])

    def pieces(self) -> Iterator[ElementMap]:
        """Division into pieces whose shape functions fit into little memory."""
        side = self.sides[0]
        each = max(1, CHUNK_VALUES // (side.domain.geometry.n_points * side.n_slots * side.n_functions))
        for start in range(0, len(self), each):
            stop = min(start + each, len(self))
            sides = tuple(s.chunk(start, stop) for s in self.sides)
            yield replace(self, sides=sides, positions=self.positions[start:stop])

    def at(self, points: FloatArray) -> ElementFields:
        """Put at node coordinates."""
        found = [side.functions_at(points) for side in self.sides]
        return ElementFields(self, points, tuple(table for table, _ in found), min(low for _, low in found))

    def join(self, *fields: FloatArray) -> FloatArray:
        """All fields, one after the other."""
        return np.stack([field.reshape(-1) for field in fields])


@dataclass(frozen=True, eq=False)
class ElementFields:
    """Entities at node coordinates, with the shape functions there.

    Attributes
    ----------
    map : ElementMap
    points : (n_nodes, dim)
    tables : tuple of (m, nq, n_slots, n_functions)
        Shape functions of every side; empty where a Jacobian is not positive.
    low : float
        Smallest Jacobian determinant.
    """

    map: ElementMap
    points: FloatArray
    tables: tuple[FloatArray, ...]
    low: float

    @property
    def domain(self) -> Domain:
        """The entities, seen from the first side."""
        return self.map.sides[0].domain

    @property
    def nbytes(self) -> int:
        """Memory of the shape functions."""
        return sum(table.nbytes for table in self.tables)

    @cached_property
    def frame(self) -> Frame:
        """Geometry, seen from the first side."""
        return nodal.frame(self.domain, self.points)

    @cached_property
    def _unknowns(self) -> tuple[IntArray, ...]:
        """Flat numbers of the unknowns ``(m, n_functions)``, side by side."""
        nc = self.map.n_components
        rows = [side.rows.astype(np.int64) for side in self.map.sides]
        return tuple((nc * r[:, :, None] + np.arange(nc)).reshape(len(r), -1) for r in rows)

    def slots(self, joined: FloatArray, side: int = 0) -> list[FloatArray]:
        """Slots of every field."""
        table = self.tables[side]
        local = joined[:, self._unknowns[side]]
        return [np.moveaxis(np.matmul(table, u[:, None, :, None])[..., 0], -1, 0) for u in local]

    def scatter(self, force: FloatArray, y: FloatArray, side: int = 0) -> float:
        """Add ``int v^ : F``."""
        m, nq, n_slots, n = self.tables[side].shape
        rows = np.moveaxis(force * self.frame.measure, 0, -1).reshape(m, 1, nq * n_slots)
        vectors = np.matmul(rows, self.tables[side].reshape(m, nq * n_slots, n))[:, 0]
        target = y.reshape(-1)
        if not np.iscomplexobj(vectors):
            scatter_vectors(self.map.sides[side].rows, self.map.n_components, np.ascontiguousarray(vectors), target)
            return self.low
        sums = np.zeros((2, *target.shape))
        for numbers, into in zip((vectors.real, vectors.imag), sums, strict=True):
            scatter_vectors(self.map.sides[side].rows, self.map.n_components, np.ascontiguousarray(numbers), into)
        target[...] += sums[0] + 1j * sums[1]
        return self.low

    def matrices(self, tensors: Mapping[Sides, PointTensor]) -> FloatArray:
        """Matrices ``(m, n, n)`` of the entities, with the unknowns of all sides one after another."""
        n = self.map.sides[0].n_functions
        m, nq, n_slots, _ = self.tables[0].shape
        total = np.zeros((m, n * len(self.tables), n * len(self.tables)))
        for (trial, test), c in tensors.items():
            flux = np.matmul(c.dense(), self.tables[trial])
            flux *= self.frame.measure[:, :, None, None]
            by_test = self.tables[test].reshape(m, nq * n_slots, n).transpose(0, 2, 1)
            rows, columns = slice(n * test, n * test + n), slice(n * trial, n * trial + n)
            total[:, rows, columns] += np.matmul(by_test, flux.reshape(m, nq * n_slots, n))
        return total

    def assemble(self, matrices: FloatArray, entries: MatrixEntries) -> float:
        """Add to the entries of the pattern."""
        pattern, upper = entries.pattern, entries.pattern.csr.triangle == "upper"
        scatter_matrices(
            self.map.rows, self.map.n_components, np.ascontiguousarray(matrices), pattern.positions[self.map.block],
            self.map.positions, pattern.csr.indptr, upper, entries.data,
        )  # fmt: skip
        return self.low

    def velocity_gradient(self, velocity: FloatArray, side: int = 0) -> FloatArray:
        """Gradient of node velocities."""
        return nodal.interpolate(self.map.sides[side].domain.on_geometry, self.points, velocity)[1]

    def scatter_to_nodes(self, force: FloatArray, gradient: FloatArray, side: int = 0) -> None:
        """Add to node forces."""
        nodal.scatter(self.map.sides[side].domain.on_geometry, self.points, force, gradient)
