"""Which nodes and components may move, and which of them move together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from femadj.base.arguments import mapping_of, real_array
from femadj.base.arrays import FloatArray, IntArray
from femadj.conditions.supports import Fixed
from femadj.errors import ParametrisationError, choices
from femadj.mesh import Mesh

AXES = "xyz"

ALIKE = 1e-6
"""Mirror images are found within this, in units of the size of the mesh."""

Groups = str | Fixed | Sequence[str | Fixed]
"""Groups of nodes: by name, or ``Fixed(name, components)`` for some components alone."""


def chosen_components(mesh: Mesh, groups: Groups, what: str) -> npt.NDArray[np.bool_]:
    """Components of nodes that groups name, ``(n_nodes, dim)``.

    Raises
    ------
    UnknownGroupError, SupportError
        For groups and components that there are not.
    ParametrisationError
        For a ``Fixed`` with a value: these are movements that are held.
    """
    chosen = np.zeros(mesh.points.shape, dtype=bool)
    names = tuple(AXES[: mesh.dim])
    for each in [groups] if isinstance(groups, (str, Fixed)) else list(groups):
        group = each if isinstance(each, Fixed) else Fixed(each)
        if callable(group.value) or np.any(group.value):
            raise ParametrisationError(f"{what}: Fixed({group.group!r}) has a value; here it chooses components alone")
        chosen[np.ix_(mesh.nodes_of(group.group), group.component_indices(names))] = True
    return chosen


def chosen_axes(components: str | Sequence[str] | None, dim: int) -> npt.NDArray[np.bool_]:
    """Which axes ``"x"``, ``"xz"`` or a sequence of such names choose, all when left out; ``(dim,)``."""
    names = AXES[:dim] if components is None else components
    if not isinstance(names, Sequence) or not names or any(name not in set(AXES[:dim]) for name in names):
        raise ParametrisationError(f"components must be some of {', '.join(AXES[:dim])}, not {components!r}")
    return np.array([axis in names for axis in AXES[:dim]])


class Mirrored(NamedTuple):
    """What moves together.

    Attributes
    ----------
    image : (n,)
        For each place the number of the one that stands for it and its mirror images.
    side : (n, dim)
        What its movement is times that of the other: -1 across a plane, 0 for the normal component on it.
    """

    image: IntArray
    side: FloatArray


def planes_of(symmetry: Mapping[str, float] | None, dim: int) -> dict[int, float]:
    """Planes of symmetry by axis: ``{"x": 0.0}`` is the plane x = 0."""
    planes = {}
    for axis, place in mapping_of(symmetry, "symmetry", ParametrisationError).items():
        if axis not in set(AXES[:dim]):
            raise ParametrisationError(
                f"symmetry has planes by their normal axis, such as {{'x': 0.0}}; there is no axis {axis!r} but "
                f"{choices(axis, AXES[:dim])}"
            )
        value = real_array(place, f"symmetry: the place of the plane {axis} = ...", ParametrisationError, "a number")
        if value.ndim or not np.isfinite(value):
            raise ParametrisationError(f"symmetry: the place of the plane {axis} = ... must be a finite number")
        planes[AXES.index(axis)] = float(value)
    return planes


def mirrored(places: FloatArray, planes: Mapping[int, float], what: str, size: float) -> Mirrored:
    """Mirror images of places ``(n, dim)`` in a body of some size.

    Raises
    ------
    ParametrisationError
        For places that have none.
    """
    side = np.ones(places.shape)
    if not planes:
        return Mirrored(np.arange(len(places)), side)
    tolerance, tree, folded = ALIKE * size, KDTree(places), places.copy()
    for axis, place in planes.items():
        across = places.copy()
        across[:, axis] = 2 * place - across[:, axis]
        distance, _ = tree.query(across)
        alone = np.flatnonzero(distance > tolerance)
        if len(alone):
            where = ", ".join(f"{c:.6g}" for c in places[alone[0]])
            raise ParametrisationError(
                f"{what} are not symmetric about {AXES[axis]} = {place:g}: {len(alone)} have no mirror image, the "
                f"first at ({where})"
            )
        offset = places[:, axis] - place
        side[:, axis] = np.where(np.abs(offset) <= tolerance, 0.0, np.sign(offset))
        folded[:, axis] = place + np.abs(offset)
    return Mirrored(np.asarray(tree.query(folded)[1], dtype=np.int64), side)


def selection(free: npt.NDArray[np.bool_], together: Mirrored) -> tuple[csr_array, IntArray]:
    """The matrix from variables to movements of all components, flattened, and the component of each variable.

    Parameters
    ----------
    free : (n, dim) bool
        What may move; mirror images of what may not are held, too.
    together : Mirrored

    Returns
    -------
    matrix : (n * dim, n_variables)
    first : (n_variables,)
        Flat number of the component that each variable is the movement of.
    """
    dim = free.shape[1]
    leader = (together.image[:, None] * dim + np.arange(dim)).ravel()
    side = together.side.ravel()
    held = np.zeros(free.size, dtype=bool)
    held[leader[~free.ravel() | (side == 0)]] = True
    moves = ~held[leader]
    first, column = np.unique(leader[moves], return_inverse=True)
    rows = np.flatnonzero(moves)
    return csr_array((side[rows], (rows, column)), shape=(free.size, len(first))), first


def limits(bounds: Any, n: int) -> tuple[FloatArray, FloatArray]:
    """Bounds as two arrays ``(n,)``; ParametrisationError for what is no pair of them."""
    if bounds is None:
        return np.full(n, -np.inf), np.full(n, np.inf)
    if not isinstance(bounds, Sequence) or len(bounds) != 2:
        raise ParametrisationError("bounds must be a pair (lower, upper) of numbers or of arrays")
    low, high = (real_array(each, "bounds", ParametrisationError) for each in bounds)
    for each in (low, high):
        if each.shape not in ((), (n,)) or np.isnan(each).any():
            raise ParametrisationError(f"bounds must be numbers or arrays of shape {(n,)}, not of shape {each.shape}")
    low, high = np.broadcast_to(low, n).copy(), np.broadcast_to(high, n).copy()
    if (low > 0).any() or (high < 0).any():
        raise ParametrisationError("bounds must have the mesh as it is, all variables zero, between them")
    return low, high
