"""Supports: prescribed values at nodes, which stay attached to their nodes when the nodes move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from femadj.errors import SupportError
from femadj.fields import FieldLike, evaluate
from femadj.mesh import Mesh
from femadj.physics import Physics

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fixed:
    """Prescribed values at the nodes of a group.

    Parameters
    ----------
    group : str
        A node, facet or cell group; all its nodes are held.
    components : str, int or sequence, optional
        Which components: ``"x"``, ``"xz"``, ``0``, ``(0, 2)``; all when left out.
    value : number, array or function of x
        One value for all those components, one a component, one a node and component ``(n_group_nodes, n)``, or a
        function of ``x`` (see ``femadj.fields``) that is differentiated as the nodes move.
    """

    group: str
    components: str | int | Sequence[int | str] | None = None
    value: FieldLike = 0.0

    def component_indices(self, names: tuple[str, ...]) -> npt.NDArray[np.int64]:
        """Resolve the components; SupportError when one does not exist."""
        if self.components is None:
            return np.arange(len(names))
        given: list[int | str] = (
            list(self.components) if isinstance(self.components, (str, Sequence, np.ndarray)) else [self.components]
        )
        if not given:
            raise SupportError(f"Fixed({self.group!r}): components is empty")
        indices = []
        for c in given:
            if isinstance(c, str) and c in names:
                indices.append(names.index(c))
            elif isinstance(c, (int, np.integer)) and not isinstance(c, bool) and 0 <= c < len(names):
                indices.append(int(c))
            else:
                raise SupportError(
                    f"Fixed({self.group!r}): there is no component {c!r}; there are {', '.join(names)} "
                    f"(or 0..{len(names) - 1})"
                )
        if len(set(indices)) != len(indices):
            raise SupportError(f"Fixed({self.group!r}): components {given} repeat one")
        return np.array(indices, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Prescribed:
    """Prescribed values at given points.

    Attributes
    ----------
    values : (n_nodes, nc)
        Zero where nothing is prescribed.
    derivative : (n_nodes, nc, dim) or None
        By the coordinates of the node itself; None when no value depends on position.
    """

    values: FloatArray
    derivative: FloatArray | None

    @property
    def homogeneous(self) -> bool:
        """Whether every prescribed value is zero."""
        return not self.values.any()

    @property
    def moves(self) -> bool:
        """Whether some value depends on position."""
        return self.derivative is not None

    def pull_back(self, weights: FloatArray) -> FloatArray:
        """``weights^T dg/dX`` for weights in the shape of the values, shape ``(n_nodes, dim)``."""
        if self.derivative is None:
            raise ValueError("the prescribed values do not depend on position")
        return np.asarray(np.einsum("ai,aij->aj", weights, self.derivative))

    def push_forward(self, velocity: FloatArray) -> FloatArray:
        """``(dg/dX) velocity``, in the shape of the values."""
        if self.derivative is None:
            return np.zeros_like(self.values)
        return np.asarray(np.einsum("aij,aj->ai", self.derivative, velocity))


@dataclass(frozen=True, eq=False)
class Constraints:
    """Supports resolved on a mesh.

    Attributes
    ----------
    fixed : (n_nodes, nc) bool
    """

    mesh: Mesh
    names: tuple[str, ...]
    supports: tuple[Fixed, ...]
    fixed: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, mesh: Mesh, physics: Physics, supports: Sequence[Fixed]) -> Constraints:
        """Resolve groups and components; SupportError when the body can still move."""
        names = physics.components(mesh.dim)
        fixed = np.zeros((mesh.n_nodes, len(names)), dtype=bool)
        for support in supports:
            nodes = mesh.nodes_of(support.group)
            fixed[np.ix_(nodes, support.component_indices(names))] = True
        constraints = cls(mesh, names, tuple(supports), fixed)
        constraints._require_statically_determined(physics)
        return constraints

    def prescribed(self, points: FloatArray) -> Prescribed:
        """Prescribed values and their derivatives at the given node coordinates.

        Raises
        ------
        SupportError
            Where two supports prescribe different values for the same unknown.
        """
        shape = self.fixed.shape
        values = np.zeros(shape)
        derivative = np.zeros((*shape, self.mesh.dim))
        source = np.full(shape, -1, dtype=np.int64)
        moving = False
        for number, support in enumerate(self.supports):
            nodes = self.mesh.nodes_of(support.group)
            components = support.component_indices(self.names)
            new, slope = _values(support, points[nodes], len(components))
            at = np.ix_(nodes, components)
            held = source[at] >= 0
            scale = np.maximum(np.abs(values[at]), np.abs(new))
            clash = held & (np.abs(values[at] - new) > 1e-12 * scale)
            if slope is not None or moving:
                step = np.zeros_like(derivative[at]) if slope is None else slope
                size = np.maximum(np.abs(derivative[at]), np.abs(step)).max(axis=2)
                clash |= held & (np.abs(derivative[at] - step).max(axis=2) > 1e-9 * size)
                derivative[at] = step
                moving = True
            if clash.any():
                row, column = np.argwhere(clash)[0]
                other = self.supports[int(source[at][row, column])]
                raise SupportError(
                    f"supports on {other.group!r} and {support.group!r} contradict each other at node "
                    f"{int(self.mesh.node_ids[nodes[row]])}, component {self.names[components[column]]}: "
                    f"{values[at][row, column]:g} and {new[row, column]:g} (or their dependence on position)"
                )
            values[at] = new
            source[at] = number
        return Prescribed(values, derivative if moving else None)

    def _require_statically_determined(self, physics: Physics) -> None:
        """Raise when some connected part of the mesh keeps a motion without energy."""
        count, part = _connected_parts(self.mesh)
        held = np.asarray(self.fixed.any(axis=1))
        for inside in np.split(np.argsort(part, kind="stable"), np.cumsum(np.bincount(part))[:-1]):
            nodes = inside[held[inside]]
            where = (
                ""
                if count == 1
                else f" of the part with node {int(self.mesh.node_ids[inside[0]])} ({len(inside)} nodes, one of "
                f"{count} parts that are not connected)"
            )
            sample = nodes if len(nodes) else inside[:1]
            modes = physics.null_modes(self.mesh.points[sample])
            if not modes.names:
                continue
            if len(nodes) == 0:
                raise SupportError(f"nothing{where or ' of the mesh'} is supported: free are {', '.join(modes.names)}")
            rows = modes.fields.transpose(1, 2, 0)[self.fixed[nodes]]
            # the triangular factor has the same null space and is at most as large as the modes are many
            _, sizes, directions = np.linalg.svd(np.linalg.qr(rows, mode="r"), full_matrices=True)
            sizes = np.append(sizes, np.zeros(len(modes.names) - len(sizes)))
            free = directions[sizes <= 1e-9 * max(sizes.max(initial=0.0), 1e-300)]
            if len(free):
                named = [n for n, weight in zip(modes.names, np.abs(free).max(axis=0), strict=True) if weight > 0.1]
                raise SupportError(
                    f"the supports leave {len(free)} rigid motion(s){where} free: {', '.join(named)} (rotations about "
                    "the centre of the supported nodes). Add a Fixed(...) that stops them"
                )


def _connected_parts(mesh: Mesh) -> tuple[int, npt.NDArray[np.int32]]:
    rows, columns = [], []
    for block in mesh.blocks:
        first = np.repeat(block.nodes[:, 0], block.nodes.shape[1] - 1)
        rows.append(first)
        columns.append(block.nodes[:, 1:].ravel())
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(row), dtype=np.int8), (row, column)), shape=(mesh.n_nodes, mesh.n_nodes))
    count, part = connected_components(graph.tocsr(), directed=False)
    return int(count), part


def _values(support: Fixed, x: FloatArray, n: int) -> tuple[FloatArray, FloatArray | None]:
    what = f"value of Fixed({support.group!r})"
    if callable(support.value):
        return evaluate(support.value, x, n, what, SupportError)
    try:
        array = np.asarray(support.value, dtype=float)
    except (TypeError, ValueError):
        raise SupportError(f"{what} must be a number, an array or a function of x, not {support.value!r}") from None
    if not np.isfinite(array).all():
        raise SupportError(f"{what} must be finite")
    if array.ndim == 0 or array.shape == (n,) or array.shape == (len(x), n):
        return np.broadcast_to(array, (len(x), n)), None
    if n == 1 and array.shape == (len(x),):
        return array[:, None], None
    raise SupportError(f"{what} must be a number or have shape {(n,)} or {(len(x), n)}, not {array.shape}")


def unknown_name(mesh: Mesh, names: tuple[str, ...], equation: int) -> str:
    """Say which node and component an equation number stands for."""
    node, component = divmod(equation, len(names))
    text = ", ".join(f"{c:.6g}" for c in mesh.points[node])
    return f"node {int(mesh.node_ids[node])} at ({text}), component {names[component]}"
