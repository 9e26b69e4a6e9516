"""Lumped normals and areas of the boundary."""

from __future__ import annotations

import numpy as np
import pytest

from femadj.errors import InvalidMeshError
from femadj.mesh import Mesh
from femadj.mesh.normals import boundary_normals
from femadj.mesh.reference import CELL_TYPES, INTEGRATED_CELLS


def box(name: str, n: int = 3) -> Mesh:
    """Unit square or cube of ``n`` divisions per side, of any cell type."""
    cell = CELL_TYPES[name]
    d = cell.dim
    offsets = np.stack(np.meshgrid(*[np.arange(n)] * d, indexing="ij"), axis=-1).reshape(-1, d)
    if cell.shape in ("quad", "hexahedron"):
        pieces = [cell.nodes]
    elif cell.shape == "wedge":
        pieces = [cell.nodes, cell.nodes * [-1, -1, 1] + [1, 1, 0]]
    else:  # Kuhn's subdivision: one simplex per order of the axes
        from itertools import permutations

        pieces = []
        for order in permutations(range(d)):
            path = np.vstack([np.zeros(d), np.cumsum(np.eye(d)[list(order)], axis=0)])
            pieces.append(path[0] + cell.nodes @ (path[1:] - path[0]))
    x = np.concatenate([(piece[None] + offsets[:, None]) / n for piece in pieces])
    points, nodes = np.unique(x.reshape(-1, d).round(12), axis=0, return_inverse=True)
    return Mesh(points, {name: nodes.reshape(-1, cell.n_nodes)})


@pytest.mark.parametrize("name", INTEGRATED_CELLS)
def test_box(name: str) -> None:
    mesh = box(name)
    d = mesh.dim
    assert mesh.volume() == pytest.approx(1.0, rel=1e-12)
    vectors, areas = result = boundary_normals(mesh)
    assert vectors.shape == (mesh.n_nodes, d)
    assert areas.shape == (mesh.n_nodes,)
    assert areas.sum() == pytest.approx(2 * d, rel=1e-12)
    np.testing.assert_allclose(vectors.sum(axis=0), 0.0, atol=1e-12)
    on = np.abs(mesh.points[:, :, None] - np.array([0.0, 1.0])) < 1e-9  # node, axis, side
    count = on.sum(axis=(1, 2))
    assert (areas[count == 0] == 0).all()
    assert (areas[count > 0] > 0).all()
    outward = on[:, :, 1].astype(float) - on[:, :, 0]
    faces = count == 1
    assert faces.any()
    np.testing.assert_allclose(result.normals[faces], outward[faces], atol=1e-12)
    np.testing.assert_allclose(vectors[faces], outward[faces] * areas[faces, None], atol=1e-12)
    assert (result.normals[count == 0] == 0).all()
    # at edges and corners every normal points to the outside of each face it belongs to
    assert (result.normals * outward)[outward != 0].min() > 0.1


@pytest.mark.parametrize("name", ["triangle6", "quad8", "quad9", "tetra10", "hexahedron20", "hexahedron27"])
def test_sphere(name: str) -> None:
    mesh = box(name, 5)
    d = mesh.dim
    x = 2 * mesh.points - 1
    # a cube blown up to a ball: the maximum norm becomes the Euclidean one
    length = np.linalg.norm(x, axis=1, keepdims=True)
    ball = np.divide(x * np.abs(x).max(axis=1, keepdims=True), length, out=np.zeros_like(x), where=length > 0)
    blend = 0.5 * x + 0.5 * ball  # half way, so that cells at the cube's edges stay untangled
    rounded = mesh.with_points(mesh.points).with_points(3.0 + 0.5 * blend)
    _, areas = boundary_normals(rounded)
    np.testing.assert_allclose(areas.sum(), facet_area(rounded), rtol=1e-12)
    assert (areas >= 0).all()
    full = boundary_normals(mesh, 3.0 + ball).normals
    surface = np.abs(x).max(axis=1) > 1 - 1e-9
    radial = ball[surface] / np.linalg.norm(ball[surface], axis=1, keepdims=True)
    assert (full[surface] * radial).sum(axis=1).min() > np.cos(0.06)
    total = boundary_normals(mesh, 3.0 + ball).areas.sum()
    assert total == pytest.approx(2 * np.pi if d == 2 else 4 * np.pi, rel=2e-3)


def facet_area(mesh: Mesh) -> float:
    """Area of the boundary facet by facet, with lines and surfaces parametrised on their own."""
    from femadj.mesh.reference import quadrature, shape_functions

    total = 0.0
    for kind, nodes in mesh.facet_cells(mesh.boundary()):
        points, weights = quadrature(CELL_TYPES[kind].shape, CELL_TYPES[kind].mass_order)
        _, gradients = shape_functions(kind, points)
        tangents = np.einsum("qak,eai->eqki", gradients, mesh.points[nodes])
        gram = np.einsum("eqki,eqli->eqkl", tangents, tangents)
        total += float((np.sqrt(np.linalg.det(gram)) @ weights).sum())
    return total


def test_numbering_of_the_cells_does_not_matter() -> None:
    mesh = box("tetra10", 2)
    flip = [0, 2, 1, 3, 6, 5, 4, 7, 9, 8]
    nodes = mesh.blocks[0].nodes.copy()
    nodes[::2] = nodes[::2][:, flip]
    other = Mesh(mesh.points, {"tetra10": nodes})
    assert set(other.orientation) == {-1.0, 1.0}
    for ours, theirs in zip(boundary_normals(mesh), boundary_normals(other), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-14)


def test_mixed_cells() -> None:
    points = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [2, 0]], dtype=float)
    mesh = Mesh(points, {"quad": [[0, 1, 2, 3]], "triangle": [[1, 4, 2]]})
    vectors, areas = boundary_normals(mesh)
    assert areas.sum() == pytest.approx(4 + np.sqrt(2), rel=1e-14)
    np.testing.assert_allclose(vectors.sum(axis=0), 0.0, atol=1e-14)


def test_points_must_fit() -> None:
    with pytest.raises(InvalidMeshError, match="have shape"):
        boundary_normals(box("quad", 1), np.zeros((3, 2)))
