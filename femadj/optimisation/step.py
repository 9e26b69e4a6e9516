"""How far nodes can move along a direction before a cell tangles: exact, without trying."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import real_array, sequence_of, whole_number
from femadj.errors import ParametrisationError
from femadj.kernels.geometry import step_limit
from femadj.mesh import Mesh, checked_points, require_mesh
from femadj.mesh.reference import cell_table, watched_gradients
from femadj.optimisation.parametrisation import finite_array


def largest_step(
    mesh: Mesh,
    points: npt.ArrayLike,
    direction: npt.ArrayLike,
    *,
    keep: float = 0.1,
    most: float = 1.0,
    orders: Sequence[int] = (),
) -> float:
    """The largest ``t`` up to which ``points + t * direction`` leaves each Jacobian a part of what it is at the points.

    At a quadrature point ``det(J + t V)`` is a polynomial of t, of the degree of the dimension; the step ends at the
    first root of all ``det(J + t V) - keep det(J)``. The quadrature points are those at which a mesh is checked for
    tangled cells: of both default orders of each cell type, and of the ``orders`` given besides.

    Parameters
    ----------
    mesh : Mesh
    points, direction : (n_nodes, dim)
        Node coordinates, and how fast they move.
    keep : float
        Part of its Jacobian determinant that each quadrature point keeps, from 0 (up to tangling) to less than 1.
    most : float
        What is returned where no root is smaller.
    orders : sequence of int
        Further degrees of quadrature that a problem uses (``quadrature_order=``, ``Integral(order=)``).

    Raises
    ------
    TangledMeshError
        Where the mesh is tangled at the points themselves.
    ParametrisationError
        For arguments out of range.
    """
    require_mesh(mesh)
    x = checked_points(points, mesh.points.shape)
    v = finite_array(direction, mesh.points.shape, "the direction")
    part, limit = (real_array(each, name, ParametrisationError) for each, name in ((keep, "keep"), (most, "most")))
    if part.ndim or not 0 <= part < 1:
        raise ParametrisationError(f"keep must be a number from 0 to less than 1, not {keep!r}")
    if limit.ndim or not 0 < limit < np.inf:
        raise ParametrisationError(f"most must be a positive finite number, not {most!r}")
    for order in sequence_of(orders, "orders", ParametrisationError):
        whole_number(order, 0, "an order of quadrature", ParametrisationError)
    mesh.require_untangled(x)
    largest = float(limit)
    for block in mesh.blocks:
        further = [cell_table(block.type, order).gradients[0] for order in orders]
        gradients = np.concatenate([watched_gradients(block.type), *further])
        largest = step_limit(x, v, block.nodes, gradients[None], float(part), largest)
    return largest
