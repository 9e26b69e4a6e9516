"""Parametrisations that are linear in their variables: nodes themselves, and directions of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, issparse

from femadj.base.arrays import FloatArray, IntArray, array_of, frozen, listing
from femadj.base.display import shown
from femadj.base.pickling import Picklable
from femadj.errors import ParametrisationError
from femadj.mesh import Mesh, require_mesh
from femadj.optimisation.choice import (
    AXES,
    Groups,
    chosen_axes,
    chosen_components,
    limits,
    mirrored,
    planes_of,
    selection,
)
from femadj.optimisation.parametrisation import Parametrisation, Placed, Pulled, finite_array

Bounds = tuple[npt.ArrayLike, npt.ArrayLike]
"""Smallest and largest values of variables."""


@dataclass(frozen=True, eq=False)
class PlacedLinear(Placed):
    """A linear parametrisation at its variables."""

    of: LinearMap
    points: FloatArray
    moved: bool

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The variables."""
        return (self.of.n,)

    def pull(self, gradient: FloatArray) -> Pulled:
        """Derivatives by the variables and by the origin, which shifts the points."""
        return self.of.transposed(gradient), gradient if self.moved else None

    def push(self, direction: FloatArray, origin: FloatArray | None) -> FloatArray:
        """Velocities of the nodes."""
        velocity = self.of.movement(direction)
        return velocity if origin is None else velocity + origin

    def bend(self, gradient: FloatArray, direction: FloatArray, origin: FloatArray | None) -> Pulled:
        """Zero."""
        return np.zeros(self.of.n), np.zeros_like(gradient) if self.moved else None


class LinearMap(Picklable, Parametrisation):
    """``X = S + W (T q)``: variables choose movements of carriers, and nodes follow these with weights.

    Parameters
    ----------
    mesh : Mesh
    chosen : (n_carriers * dim, n) sparse
        Movements of the carriers for the variables, ``T``.
    weights : (n_nodes, n_carriers) sparse, optional
        ``W``, the same for each component; carriers are the nodes when left out.
    held : (n_nodes, dim) bool, optional
        Components of nodes that do not move.
    bounds : pair, optional
    names : sequence of str
        Of the variables.
    """

    linear = True
    shifts = True

    def __init__(
        self,
        mesh: Mesh,
        chosen: csr_array,
        weights: csr_array | None,
        held: npt.NDArray[np.bool_] | None,
        bounds: Bounds | None,
        names: Sequence[str],
    ) -> None:
        self.points = mesh.points
        self._chosen, self._weights = csr_array(chosen), weights
        self._moves = None if held is None or not held.any() else ~held
        self._bounds, self._names = limits(bounds, self._chosen.shape[1]), tuple(names)

    def __repr__(self) -> str:
        return shown(f"{type(self).__name__}({self.n} variables of {len(self.points)} nodes)")

    @property
    def n(self) -> int:
        """Number of variables."""
        return int(self._chosen.shape[1])

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Smallest and largest values of the variables."""
        return self._bounds[0].copy(), self._bounds[1].copy()

    @property
    def names(self) -> tuple[str, ...]:
        """What each variable is."""
        return self._names

    def place(self, q: FloatArray, origin: FloatArray | None) -> Placed:
        """Put at variables."""
        start = self.points if origin is None else origin
        return PlacedLinear(self, frozen(start + self.movement(q)), origin is not None)

    def movement(self, q: FloatArray) -> FloatArray:
        """Movements of the nodes ``(n_nodes, dim)``."""
        carried = (self._chosen @ q).reshape(-1, self.points.shape[1])
        moved = carried if self._weights is None else self._weights @ carried
        return np.asarray(moved if self._moves is None else moved * self._moves)

    def transposed(self, gradient: FloatArray) -> FloatArray:
        """Derivative by the variables."""
        felt = gradient if self._moves is None else gradient * self._moves
        return np.asarray(self._chosen.T @ (felt if self._weights is None else self._weights.T @ felt).ravel())


class FreeNodes(LinearMap):
    """Movements of nodes, component by component, from where the mesh has them.

    Parameters
    ----------
    mesh : Mesh
    nodes : group name, sequence of group names, or node numbers
        Which nodes are free; all other nodes stay where they are.
    components : str or sequence, optional
        Which of their components: ``"x"``, ``"xz"``; all when left out.
    fixed : group names or Fixed, optional
        What stays all the same: ``"left"``, or ``Fixed("top", "y")`` where a surface stays in its plane.
    symmetry : mapping of axis to number, optional
        Planes of symmetry: ``{"x": 0.0}``. A node and its mirror images share variables.
    bounds : pair of numbers or arrays, optional
        Smallest and largest movement.

    Raises
    ------
    UnknownGroupError, SupportError
        For groups and components that there are not.
    ParametrisationError
        Where nothing is free, or a free node has no mirror image among the free nodes.
    """

    def __init__(
        self,
        mesh: Mesh,
        nodes: str | Sequence[str] | npt.ArrayLike,
        components: str | Sequence[str] | None = None,
        *,
        fixed: Groups = (),
        symmetry: Mapping[str, float] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        require_mesh(mesh)
        numbers = _nodes_of(mesh, nodes)
        free = np.broadcast_to(chosen_axes(components, mesh.dim), (len(numbers), mesh.dim)).copy()
        free &= ~chosen_components(mesh, fixed, "fixed")[numbers]
        together = mirrored(
            mesh.points[numbers],
            planes_of(symmetry, mesh.dim),
            "the free nodes",
            float(np.ptp(mesh.points, axis=0).max()),
        )
        matrix, first = selection(free, together)
        if not len(first):
            raise ParametrisationError("no component of any node is free: they are fixed, or normal to their plane")
        rows, columns = matrix.nonzero()
        place = numbers[rows // mesh.dim] * mesh.dim + rows % mesh.dim
        chosen = csr_array((matrix.data, (place, columns)), shape=(mesh.points.size, len(first)))
        names = [f"node {mesh.node_ids[numbers[f // mesh.dim]]} {AXES[f % mesh.dim]}" for f in first]
        super().__init__(mesh, chosen, None, None, bounds, names)


def _nodes_of(mesh: Mesh, nodes: Any) -> IntArray:
    """Sorted numbers of the nodes of groups, or of those given by their numbers."""
    groups = [nodes] if isinstance(nodes, str) else nodes
    if isinstance(groups, Sequence) and len(groups) and all(isinstance(each, str) for each in groups):
        return np.unique(np.concatenate([mesh.nodes_of(each) for each in groups]))
    array = array_of(nodes, "nodes")
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise ParametrisationError("nodes must be names of groups or a list of node numbers")
    outside = array[(array < 0) | (array >= mesh.n_nodes)]
    if len(outside):
        raise ParametrisationError(f"there are no nodes {listing(outside)}: numbers run from 0 to {mesh.n_nodes - 1}")
    return np.unique(array).astype(np.int64)


class Directions(LinearMap):
    """Directions of one's own: ``X = S + sum_k q_k V_k`` with given movements of the nodes.

    Parameters
    ----------
    mesh : Mesh
    directions : mapping of name to (n_nodes, dim), (n_nodes, dim, n) array, or (n_nodes * dim, n) matrix
        Velocities of the nodes, one field for each variable; a matrix, which may be sparse, has the component ``c`` of
        node ``a`` in row ``a * dim + c``.
    fixed : group names or Fixed, optional
        Components of nodes that stay where they are, whatever the directions say.
    bounds : pair of numbers or arrays, optional
        Smallest and largest values of the variables.

    Raises
    ------
    ParametrisationError
        For directions of the wrong shape, or that are not finite, or move nothing.
    """

    def __init__(
        self,
        mesh: Mesh,
        directions: Mapping[str, npt.ArrayLike] | npt.ArrayLike | csr_array,
        *,
        fixed: Groups = (),
        bounds: Bounds | None = None,
    ) -> None:
        require_mesh(mesh)
        held = chosen_components(mesh, fixed, "fixed")
        matrix, names = _matrix_of(mesh, directions)
        moving = np.abs(matrix).multiply(~held.reshape(-1, 1)).tocsr().max(axis=0).toarray().ravel() > 0
        if not len(moving) or not moving.all():
            still = listing(np.flatnonzero(~moving))
            raise ParametrisationError(f"directions {still} move no node" if len(moving) else "there are no directions")
        super().__init__(mesh, matrix, None, held, bounds, names or [f"direction {k}" for k in range(matrix.shape[1])])


def _matrix_of(mesh: Mesh, directions: Any) -> tuple[csr_array, list[str]]:
    """Directions as a matrix ``(n_nodes * dim, n)``, and their names where they have some."""
    size, names = mesh.points.size, []
    if issparse(directions):
        matrix = csr_array(directions, dtype=np.float64)
        finite_array(matrix.data, matrix.data.shape, "directions")
    elif isinstance(directions, Mapping):
        names = list(map(str, directions))
        fields = [finite_array(each, mesh.points.shape, f"direction {name!r}") for name, each in directions.items()]
        matrix = csr_array(np.array(fields).reshape(len(fields), size).T)
    else:
        shape = np.shape(directions)
        wanted = (size,) if len(shape) == 2 else mesh.points.shape
        matrix = csr_array(finite_array(directions, (*wanted, *shape[-1:]), "directions").reshape(size, -1))
    if matrix.shape[0] != size:
        raise ParametrisationError(
            f"a matrix of directions must have {size} rows, one for each component of each node, not {matrix.shape[0]}"
        )
    return matrix, names
