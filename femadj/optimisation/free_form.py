"""Free-form deformation: nodes in a box follow the control points of a lattice, with Bernstein polynomials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from femadj.base.arguments import whole_number
from femadj.base.arrays import FloatArray, frozen
from femadj.errors import ParametrisationError, choices
from femadj.mesh import Mesh, require_mesh
from femadj.optimisation.choice import (
    AXES,
    Groups,
    chosen_axes,
    chosen_components,
    mirrored,
    planes_of,
    selection,
)
from femadj.optimisation.linear import Bounds, LinearMap
from femadj.optimisation.parametrisation import finite_array

ON_THE_FACE = 1e-12
"""How far outside of the box, in units of its edge, a node counts as lying on its face."""


class FreeFormBox(LinearMap):
    """Movements of the control points of a lattice over a box; nodes inside follow, others stay where they are.

    With local coordinates ``s`` in [0, 1] of the mesh as it is, a node moves by ``sum_ijk B_i(s_1) B_j(s_2) B_k(s_3)``
    times the movements of the control points, with Bernstein polynomials of degree one less than the number of control
    points along each axis (T. W. Sederberg, S. R. Parry, "Free-form deformation of solid geometric models", SIGGRAPH
    1986).

    Parameters
    ----------
    mesh : Mesh
    lattice : sequence of int
        Number of control points along each axis, two at least.
    box : pair of (dim,) arrays, optional
        Lowest and highest corner, axes as those of the coordinates; the box around the whole mesh when left out.
    components : str or sequence, optional
        Components in which control points move, ``"x"``, ``"xz"``; all when left out.
    movable : (*lattice) or (*lattice, dim) bool array, optional
        Control points, or components of them, that move; all when left out.
    held : sequence of faces, optional
        Faces of the box, ``"x-"``, ``"x+"``, ``"y-"``, ..., whose control points are held, so that the movement goes on
        without a jump into what lies beyond. When left out, those across which the mesh goes on.
    layers : int
        How many layers of control points are held at these faces: with 2 slopes are continuous as well, with 3
        curvatures.
    fixed : group names or Fixed, optional
        Nodes, or components of them, that stay where they are, such as ``Fixed("top", "y")`` for a surface that stays
        in its plane. Their neighbours move all the same.
    symmetry : mapping of axis to number, optional
        Planes of symmetry: ``{"x": 0.0}``. The lattice must be symmetric about them, and ``fixed`` should be.
    bounds : pair of numbers or arrays, optional
        Smallest and largest movement of the control points.

    Attributes
    ----------
    controls : (*lattice, dim)
        Where the control points are without movement.

    Raises
    ------
    ParametrisationError
        For a box without nodes or volume, a lattice or a mask of the wrong shape, or when nothing can move.
    """

    def __init__(
        self,
        mesh: Mesh,
        lattice: Sequence[int],
        *,
        box: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        components: str | Sequence[str] | None = None,
        movable: npt.ArrayLike | None = None,
        held: Sequence[str] | None = None,
        layers: int = 1,
        fixed: Groups = (),
        symmetry: Mapping[str, float] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        require_mesh(mesh)
        sizes = _sizes(lattice, mesh.dim)
        low, high = _corners(mesh, box)
        s = (mesh.points - low) / (high - low)
        inside = np.asarray(((s >= -ON_THE_FACE) & (s <= 1 + ON_THE_FACE)).all(axis=1))
        if not inside.any():
            raise ParametrisationError(f"the box from {low.tolist()} to {high.tolist()} holds no node of the mesh")
        grids = [np.linspace(low[d], high[d], sizes[d]) for d in range(mesh.dim)]
        self.controls = frozen(np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1))
        free = _movable(movable, sizes, mesh.dim) & chosen_axes(components, mesh.dim)
        _hold_faces(free, faces_across(mesh, s, inside) if held is None else held, layers)
        places = self.controls.reshape(-1, mesh.dim)
        together = mirrored(
            places, planes_of(symmetry, mesh.dim), "the control points", float(np.ptp(mesh.points, axis=0).max())
        )
        chosen, first = selection(free.reshape(-1, mesh.dim), together)
        if not len(first):
            raise ParametrisationError(
                f"no control point can move: the lattice {sizes} has no component that is neither held at a face, nor "
                "masked, nor normal to a plane of symmetry; give more control points or held=()"
            )
        weights = bernstein_weights(s, inside, sizes)
        names = [_name(f, sizes, mesh.dim) for f in first]
        super().__init__(mesh, chosen, weights, chosen_components(mesh, fixed, "fixed"), bounds, names)

    def moved_controls(self, q: npt.ArrayLike) -> FloatArray:
        """Where the control points are at some variables, ``(*lattice, dim)``."""
        variables = finite_array(q, (self.n,), "design variables")
        return np.asarray(self.controls + (self._chosen @ variables).reshape(self.controls.shape))


def bernstein_weights(s: FloatArray, inside: npt.NDArray[np.bool_], sizes: Sequence[int]) -> csr_array:
    """Weights ``(n_nodes, n_control_points)`` of the control points, the last axis fastest; none outside of the box."""
    local = np.clip(s[inside], 0.0, 1.0)

    def along(axis: int) -> FloatArray:
        t, degree = local[:, axis, None], sizes[axis] - 1
        k = np.arange(degree + 1)
        return np.array([comb(degree, i) for i in k]) * t**k * (1 - t) ** (degree - k)

    def times(one: FloatArray, other: FloatArray) -> FloatArray:
        return (one[:, :, None] * other[:, None, :]).reshape(len(one), -1)

    values = reduce(times, [along(axis) for axis in range(len(sizes))])
    starts = np.concatenate([[0], np.cumsum(np.where(inside, values.shape[1], 0))])
    columns = np.tile(np.arange(values.shape[1]), len(values))
    return csr_array((values.ravel(), columns, starts), shape=(len(s), values.shape[1]))


def faces_across(mesh: Mesh, s: FloatArray, inside: npt.NDArray[np.bool_]) -> list[str]:
    """Faces of the box beyond which cells with a node in the box have others."""
    faces = []
    for axis in range(mesh.dim):
        for sign, beyond in (("-", s[:, axis] < -ON_THE_FACE), ("+", s[:, axis] > 1 + ON_THE_FACE)):
            if any((inside[b.nodes].any(axis=1) & beyond[b.nodes].any(axis=1)).any() for b in mesh.blocks):
                faces.append(f"{AXES[axis]}{sign}")
    return faces


def _hold_faces(free: npt.NDArray[np.bool_], faces: Any, layers: int) -> None:
    """Hold the outermost layers of control points at faces."""
    whole_number(layers, 1, "layers", ParametrisationError)
    known = [f"{axis}{sign}" for axis in AXES[: free.shape[-1]] for sign in "-+"]
    for face in [faces] if isinstance(faces, str) else faces:
        if face not in known:
            raise ParametrisationError(f"held: there is no face {face!r} of the box, but {choices(face, known)}")
        across = np.moveaxis(free, AXES.index(face[0]), 0)
        across[slice(None, layers) if face[1] == "-" else slice(-layers, None)] = False


def _sizes(lattice: Any, dim: int) -> tuple[int, ...]:
    if not isinstance(lattice, Sequence) or len(lattice) != dim:
        raise ParametrisationError(
            f"lattice must be {dim} numbers of control points, one along each axis, not {lattice}"
        )
    for size in lattice:
        whole_number(size, 2, "lattice: the number of control points along an axis", ParametrisationError)
    return tuple(map(int, lattice))


def _corners(mesh: Mesh, box: Any) -> tuple[FloatArray, FloatArray]:
    if box is None:
        return mesh.points.min(axis=0), mesh.points.max(axis=0)
    if not isinstance(box, Sequence) or len(box) != 2:
        raise ParametrisationError("box must be a pair of its lowest and its highest corner")
    low, high = (finite_array(each, (mesh.dim,), "a corner of the box") for each in box)
    if not (high > low).all():
        raise ParametrisationError(f"the box from {low.tolist()} to {high.tolist()} has no volume")
    return low, high


def _movable(movable: Any, sizes: tuple[int, ...], dim: int) -> npt.NDArray[np.bool_]:
    if movable is None:
        return np.ones((*sizes, dim), dtype=bool)
    mask = np.asarray(movable)
    if mask.dtype != bool or mask.shape not in (sizes, (*sizes, dim)):
        raise ParametrisationError(
            f"movable must be truth values of shape {sizes} or {(*sizes, dim)}, not {mask.dtype} of {mask.shape}"
        )
    return np.broadcast_to(mask if mask.ndim > dim else mask[..., None], (*sizes, dim)).copy()


def _name(component: int, sizes: tuple[int, ...], dim: int) -> str:
    place = ", ".join(str(int(i)) for i in np.unravel_index(component // dim, sizes))
    return f"control point ({place}) {AXES[component % dim]}"
