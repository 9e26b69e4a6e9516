"""How far nodes can move along a direction before a cell tangles: exact, without trying."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import real_array, sequence_of, whole_number
from femadj.base.arrays import FloatArray
from femadj.errors import ParametrisationError
from femadj.mesh import Mesh, checked_points, require_mesh
from femadj.mesh.reference import cell_table, watched_gradients
from femadj.optimisation.parametrisation import finite_array

HALVINGS = 60
"""Of an interval with one root: it is then known to the last digit."""


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
        at, speed = x[block.nodes], v[block.nodes]
        for gradients in np.concatenate([watched_gradients(block.type), *further]):
            jacobians = (np.einsum("eai,aj->ije", each, gradients) for each in (at, speed))
            largest *= _first_root(_polynomials(*jacobians), float(part), largest)
    return largest


def _polynomials(jacobian: FloatArray, speed: FloatArray) -> FloatArray:
    """Coefficients ``(dim + 1, n)`` of ``det(J + t V)``, lowest first, for ``J`` and ``V`` ``(dim, dim, n)``."""
    if len(jacobian) == 2:
        (a, b), (p, q) = jacobian, speed
        return np.array([_cross(a, b), _cross(p, b) + _cross(a, q), _cross(p, q)])
    (a, b, c), (p, q, r) = jacobian, speed
    bc, qr, mixed = _vector(b, c), _vector(q, r), _vector(q, c) + _vector(b, r)
    pairs = [[(a, bc)], [(p, bc), (a, mixed)], [(p, mixed), (a, qr)], [(p, qr)]]
    return np.array([sum((one * other).sum(axis=0) for one, other in each) for each in pairs])


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(a[0] * b[1] - a[1] * b[0])


def _vector(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _first_root(polynomials: FloatArray, keep: float, most: float) -> float:
    """Smallest root of all ``p(t) - keep p(0)`` in (0, most] in units of ``most``; 1 where there is none."""
    degree = len(polynomials) - 1
    c = np.zeros((4, polynomials.shape[1]))
    c[: degree + 1] = polynomials / polynomials[0] * most ** np.arange(degree + 1)[:, None]
    c[0] -= keep
    # a polynomial lies between its coefficients in Bernstein's basis: where these are positive there is no root
    bernstein = [c[0], c[0] + c[1] / 3, c[0] + (2 * c[1] + c[2]) / 3, c.sum(axis=0)]
    c = c[:, np.min(bernstein, axis=0) <= 0]
    if not c.shape[1]:
        return 1.0
    # between its stationary points it is monotone: the first of them, or the end, where it is not positive any more
    ends = np.vstack([np.zeros(c.shape[1]), _stationary(c), np.ones(c.shape[1])])
    negative = _value(c, ends) <= 4 * np.finfo(float).eps * _value(np.abs(c), ends)
    negative[0] = False
    columns = np.flatnonzero(negative.any(axis=0))
    c, first = c[:, columns], negative[:, columns].argmax(axis=0)
    low, high = ends[first - 1, columns], ends[first, columns]
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        positive = _value(c, middle) > 0
        low, high = np.where(positive, middle, low), np.where(positive, high, middle)
    return float(low.min(initial=1.0))


def _stationary(c: FloatArray) -> FloatArray:
    """Roots of the derivative in (0, 1) in ascending order, ``(2, n)``; 1 where there is none."""
    half, product = c[2], 3 * c[3] * c[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        q = -(half + np.copysign(np.sqrt(half**2 - product), half))
        roots = np.array([q / (3 * c[3]), c[1] / q])
    return np.sort(np.where((roots > 0) & (roots < 1), roots, 1.0), axis=0)


def _value(c: FloatArray, t: FloatArray) -> FloatArray:
    return np.asarray(((c[3] * t + c[2]) * t + c[1]) * t + c[0])
