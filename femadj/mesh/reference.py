"""Reference cells: node positions, facets, shape functions and quadrature tables.

Cell types carry meshio's names and meshio's (VTK's) node order. Shape functions and quadrature rules are those of
scikit-fem; its node order is permuted once, here, by comparing reference positions, so that meshes keep the order
of the file they came from. Two rules are composed here because scikit-fem 12 has none that fits: the centroid rule
of a triangle, and triangle x line for the wedge (its own wedge rule integrates the constant one to 1/4, not 1/2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import skfem
from skfem.quadrature import get_quadrature

from femadj.base.arrays import FloatArray, frozen
from femadj.errors import ProblemError, UnsupportedCellError, choices


@dataclass(frozen=True, eq=False)
class CellType:
    """One reference cell.

    Attributes
    ----------
    name : str
        meshio's name.
    shape : str
        The linear cell of the same shape (``"triangle"`` for ``"triangle6"``).
    dim : int
        Dimension of the reference cell.
    nodes : (n_nodes, dim)
        Reference positions in meshio's order.
    n_corners : int
        The first ``n_corners`` nodes are the corners.
    facets : tuple of tuple of int
        Local nodes of each facet, in meshio's order of ``facet_types``; corners run so that the normal points out.
    facet_types : tuple of str
        Cell type of each facet.
    edges : tuple of (int, int)
        Corner pairs.
    stiffness_order, mass_order : int
        Default degrees of quadrature for products of gradients, and for products of values.
    """

    name: str
    shape: str
    dim: int
    nodes: FloatArray
    n_corners: int
    facets: tuple[tuple[int, ...], ...]
    facet_types: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    stiffness_order: int
    mass_order: int

    @property
    def n_nodes(self) -> int:
        """Number of nodes of the cell."""
        return len(self.nodes)


@dataclass(frozen=True, eq=False)
class Table:
    """Shape functions at quadrature points, for every local integration entity of a cell type.

    A table of cells has one entity, a table of facets has one per local facet. Facets of different shape (wedge)
    are padded with points of weight zero.

    Attributes
    ----------
    values : (n_entities, n_points, n_nodes)
    gradients : (n_entities, n_points, n_nodes, dim)
        With respect to the reference coordinates.
    weights : (n_entities, n_points)
    normals : (n_entities, dim)
        Area vector of the facet in the reference cell, pointing out; zero for cells.
    """

    values: FloatArray
    gradients: FloatArray
    weights: FloatArray
    normals: FloatArray

    @property
    def n_points(self) -> int:
        """Quadrature points per entity."""
        return self.weights.shape[1]

    @property
    def is_facet(self) -> bool:
        """Whether the entities are facets."""
        return bool(self.normals.any())


_CORNERS: Mapping[str, tuple[tuple[float, ...], ...]] = MappingProxyType(
    {
        "line": ((0,), (1,)),
        "triangle": ((0, 0), (1, 0), (0, 1)),
        "quad": ((0, 0), (1, 0), (1, 1), (0, 1)),
        "tetra": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        "hexahedron": (
            (0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1),
        ),
        "wedge": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1)),
    }
)  # fmt: skip

# corners of each facet; seen from outside they run anticlockwise, so that their area vector points out
_FACETS: Mapping[str, tuple[tuple[int, ...], ...]] = MappingProxyType(
    {
        "line": ((0,), (1,)),
        "triangle": ((0, 1), (1, 2), (2, 0)),
        "quad": ((0, 1), (1, 2), (2, 3), (3, 0)),
        "tetra": ((0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)),
        "hexahedron": ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)),
        "wedge": ((0, 2, 1), (3, 4, 5), (0, 1, 4, 3), (1, 2, 5, 4), (2, 0, 3, 5)),
    }
)

# corner pairs, in the order of meshio's (VTK's) mid-edge nodes
_EDGES: Mapping[str, tuple[tuple[int, int], ...]] = MappingProxyType(
    {
        "line": ((0, 1),),
        "triangle": ((0, 1), (1, 2), (2, 0)),
        "quad": ((0, 1), (1, 2), (2, 3), (3, 0)),
        "tetra": ((0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)),
        "hexahedron": (
            (0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7),
        ),
        "wedge": ((0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3), (0, 3), (1, 4), (2, 5)),
    }
)  # fmt: skip

# name: (shape, mid-edge nodes?, corner sets whose centroids are the further nodes, scikit-fem element,
#        quadrature degree for gradients, quadrature degree for values)
_HEX_CENTRES = (
    (0, 4, 7, 3), (1, 2, 6, 5), (0, 1, 5, 4), (3, 7, 6, 2), (0, 3, 2, 1), (4, 5, 6, 7), tuple(range(8)),
)  # fmt: skip
_DEFINITIONS: Mapping[str, tuple[str, bool, tuple[tuple[int, ...], ...], type, int, int]] = MappingProxyType(
    {
        "line": ("line", False, (), skfem.ElementLineP1, 1, 3),
        "line3": ("line", True, (), skfem.ElementLineP2, 3, 5),
        "triangle": ("triangle", False, (), skfem.ElementTriP1, 1, 2),
        "triangle6": ("triangle", True, (), skfem.ElementTriP2, 2, 4),
        "quad": ("quad", False, (), skfem.ElementQuad1, 3, 3),
        "quad8": ("quad", True, (), skfem.ElementQuadS2, 5, 5),
        "quad9": ("quad", True, ((0, 1, 2, 3),), skfem.ElementQuad2, 5, 5),
        "tetra": ("tetra", False, (), skfem.ElementTetP1, 1, 2),
        "tetra10": ("tetra", True, (), skfem.ElementTetP2, 2, 5),
        "hexahedron": ("hexahedron", False, (), skfem.ElementHex1, 3, 3),
        "hexahedron20": ("hexahedron", True, (), skfem.ElementHexS2, 5, 5),
        "hexahedron27": ("hexahedron", True, _HEX_CENTRES, skfem.ElementHex2, 5, 5),
        "wedge": ("wedge", False, (), skfem.ElementWedge1, 2, 2),
    }
)
_FACET_TYPE: Mapping[tuple[int, int], str] = MappingProxyType(
    {(2, 2): "line", (2, 3): "line3", (3, 3): "triangle", (3, 6): "triangle6", (4, 4): "quad", (4, 8): "quad8",
     (4, 9): "quad9"}
)  # fmt: skip


def _reference_nodes(name: str) -> FloatArray:
    shape, mid_edges, centres, *_ = _DEFINITIONS[name]
    corners = np.array(_CORNERS[shape], dtype=float)
    parts = [corners]
    if mid_edges:
        parts.append(np.array([corners[list(edge)].mean(axis=0) for edge in _EDGES[shape]]))
    if centres:
        parts.append(np.array([corners[list(set_)].mean(axis=0) for set_ in centres]))
    return np.vstack(parts)


def _local_facets(name: str, nodes: FloatArray) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...]]:
    """Complete the corner lists of the facets with their mid-edge and centre nodes, in meshio's order."""
    shape, mid_edges, _, *_ = _DEFINITIONS[name]
    if shape == "line":
        return _FACETS[shape], ("vertex", "vertex")
    facets, types = [], []
    for corners in _FACETS[shape]:
        wanted = [nodes[c] for c in corners]
        if mid_edges:
            ring = corners if len(corners) == 2 else (*corners, corners[0])
            wanted += [0.5 * (nodes[a] + nodes[b]) for a, b in pairwise(ring)]
            wanted.append(np.mean([nodes[c] for c in corners], axis=0))
        found: list[int] = []
        for position in wanted:
            match = np.flatnonzero(np.abs(nodes - position).max(axis=1) < 1e-12)
            found += [int(i) for i in match if i not in found]
        facets.append(tuple(found))
        types.append(_FACET_TYPE[len(corners), len(found)])
    return tuple(facets), tuple(types)


def _make(name: str) -> CellType:
    shape, _, _, _, stiffness_order, mass_order = _DEFINITIONS[name]
    nodes = _reference_nodes(name)
    nodes.setflags(write=False)
    facets, facet_types = _local_facets(name, nodes)
    return CellType(
        name=name,
        shape=shape,
        dim=nodes.shape[1],
        nodes=nodes,
        n_corners=len(_CORNERS[shape]),
        facets=facets,
        facet_types=facet_types,
        edges=_EDGES[shape],
        stiffness_order=stiffness_order,
        mass_order=mass_order,
    )


CELL_TYPES: Mapping[str, CellType] = MappingProxyType({name: _make(name) for name in _DEFINITIONS})
"""Every cell type that femadj knows, by meshio's name (lines only as facets of plane cells)."""

INTEGRATED_CELLS: tuple[str, ...] = tuple(n for n, c in CELL_TYPES.items() if c.dim > 1)
"""Names of the cell types a mesh may consist of."""


def cell_type(name: str) -> CellType:
    """Return the cell type of a meshio name.

    Raises
    ------
    UnsupportedCellError
        For any name not in ``CELL_TYPES``.
    """
    try:
        return CELL_TYPES[name]
    except KeyError:
        raise UnsupportedCellError(
            f"cells of type {name!r} are not supported; supported are: {choices(name, INTEGRATED_CELLS)}"
        ) from None


def skfem_element(name: str) -> skfem.Element:
    """The scikit-fem element whose shape functions the cell type uses."""
    element: skfem.Element = _DEFINITIONS[cell_type(name).name][3]()
    return element


def skfem_node_order(name: str) -> npt.NDArray[np.int64]:
    """Permutation ``p`` with scikit-fem's node ``p[a]`` at meshio's node ``a``."""
    target = cell_type(name).nodes
    distance = np.abs(target[:, None, :] - np.asarray(skfem_element(name).doflocs)[None]).max(axis=2)
    order = distance.argmin(axis=1)
    if distance[np.arange(len(order)), order].max() > 1e-12 or len(set(order.tolist())) != len(order):
        raise UnsupportedCellError(f"scikit-fem's {name} element does not have its nodes where meshio has them")
    return order


def shape_functions(name: str, points: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Shape functions and their reference gradients at reference points.

    Parameters
    ----------
    name : str
        Cell type.
    points : (n_points, dim)

    Returns
    -------
    values : (n_points, n_nodes)
    gradients : (n_points, n_nodes, dim)
    """
    x = np.ascontiguousarray(np.asarray(points, dtype=float).T)
    element = skfem_element(name)
    order = skfem_node_order(name)
    dim, n_points = x.shape
    values = np.empty((n_points, len(order)))
    gradients = np.empty((n_points, len(order), dim))
    for a, source in enumerate(order):
        phi, dphi = element.lbasis(x, int(source))
        values[:, a] = phi
        gradients[:, a, :] = np.asarray(dphi).T
    return values, gradients


HIGHEST_DEGREE: Mapping[str, int] = MappingProxyType(
    {"line": 99, "triangle": 19, "quad": 99, "tetra": 8, "hexahedron": 99, "wedge": 19}
)
"""Of the quadrature rules that there are, by shape: scikit-fem's tables, and 50 Gauss points along a line."""


def quadrature(shape: str, order: int) -> tuple[FloatArray, FloatArray]:
    """Quadrature rule on a reference shape, exact for polynomials of degree ``order``.

    Returns
    -------
    points : (n_points, dim)
    weights : (n_points,)

    Raises
    ------
    ProblemError
        For a degree beyond the tables.
    """
    if order > HIGHEST_DEGREE[shape]:
        raise ProblemError(
            f"there is no quadrature rule of degree {order} for cells of shape {shape!r}: the highest is "
            f"{HIGHEST_DEGREE[shape]}"
        )
    if shape == "triangle" and order <= 1:
        return np.full((1, 2), 1 / 3), np.array([0.5])
    if shape == "wedge":
        triangle, w_triangle = quadrature("triangle", order)
        line, w_line = quadrature("line", order)
        points = np.hstack([np.repeat(triangle, len(line), axis=0), np.tile(line, (len(triangle), 1))])
        return points, np.outer(w_triangle, w_line).ravel()
    # scikit-fem's tetrahedron rules of degree 5 and more are exact to one degree less than asked for
    asked = order + 1 if shape == "tetra" and order >= 5 else max(order, 1)
    points, weights = get_quadrature(skfem_element(shape).refdom, asked)
    return np.ascontiguousarray(points.T), np.ascontiguousarray(weights)


def cell_table(name: str, order: int) -> Table:
    """Table of the shape functions of ``name`` at the quadrature points of its cell.

    Tables of the same order share their points whenever the cells have the same shape.
    """
    return Table(*_cell_arrays(name, order))


@cache
def _cell_arrays(name: str, order: int) -> tuple[FloatArray, ...]:
    """What a cell's table holds; read-only, since all tables of a type and an order share it."""
    points, weights = quadrature(cell_type(name).shape, order)
    values, gradients = shape_functions(name, points)
    return tuple(map(frozen, (values[None], gradients[None], weights[None], np.zeros((1, cell_type(name).dim)))))


@cache
def watched_gradients(name: str) -> FloatArray:
    """Reference gradients ``(n_points, n_nodes, dim)`` of a cell type at the points of both default orders.

    There Jacobians are looked at when it is asked whether cells are tangled.
    """
    cell = cell_type(name)
    # the Jacobian of a straight simplex is constant: one point tells
    orders = {0} if name in ("triangle", "tetra") else {cell.stiffness_order, cell.mass_order}
    return frozen(np.concatenate([cell_table(name, order).gradients[0] for order in orders]))


@cache
def corner_edges(name: str) -> FloatArray:
    """Derivatives ``(n_corners, n_nodes, dim)`` of the shape functions along the edges that meet at each corner.

    The edges of a corner are in such an order that they are right-handed.
    """
    cell = cell_type(name)
    _, gradients = shape_functions(name, cell.nodes[: cell.n_corners])
    along = []
    for corner in range(cell.n_corners):
        ends = [b if a == corner else a for a, b in cell.edges if corner in (a, b)]
        steps = (cell.nodes[ends] - cell.nodes[corner]).T
        if np.linalg.det(steps) < 0:
            steps = steps[:, ::-1] if cell.dim == 2 else steps[:, [1, 0, 2]]
        along.append(gradients[corner] @ steps)
    return frozen(np.array(along))


def facet_table(name: str, order: int | None = None) -> Table:
    """Table of the shape functions of cell type ``name`` at the quadrature points of each of its facets.

    ``order`` defaults to the mass order of the facet's own cell type.
    """
    return Table(*_facet_arrays(name, order))


@cache
def _facet_arrays(name: str, order: int | None) -> tuple[FloatArray, ...]:
    """What a facet's table holds; read-only, since all tables of a type and an order share it."""
    cell = cell_type(name)
    rules = []
    for facet, facet_type in zip(cell.facets, cell.facet_types, strict=True):
        kind = cell_type(facet_type)
        eta, weights = quadrature(kind.shape, kind.mass_order if order is None else order)
        corners = cell.nodes[list(facet[: kind.n_corners])]
        phi, dphi = shape_functions(kind.shape, eta)
        tangents = np.einsum("ad,ak->dk", corners, dphi[0])
        normal = np.array([tangents[1, 0], -tangents[0, 0]]) if cell.dim == 2 else np.cross(*tangents.T)
        rules.append((phi @ corners, weights, normal))
    n_points = max(len(w) for _, w, _ in rules)
    n_facets = len(rules)
    values = np.empty((n_facets, n_points, cell.n_nodes))
    gradients = np.empty((n_facets, n_points, cell.n_nodes, cell.dim))
    weights = np.zeros((n_facets, n_points))
    normals = np.empty((n_facets, cell.dim))
    for f, (xi, w, normal) in enumerate(rules):
        padded = np.vstack([xi, np.repeat(xi[-1:], n_points - len(xi), axis=0)])
        values[f], gradients[f] = shape_functions(name, padded)
        weights[f, : len(w)] = w
        normals[f] = normal
    return tuple(map(frozen, (values, gradients, weights, normals)))
