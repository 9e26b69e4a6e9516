"""Result files, and the density of a gradient on the boundary."""

from __future__ import annotations

from pathlib import Path

import meshio
import numpy as np
import pytest

import femadj as fa
from femadj.report.facets import boundary_facets, facet_densities
from femadj.results import boundary_density, write_results
from tests.meshes import MESHES, box_mesh, dim_of, is_quadratic
from tests.reference_assembly import turned


def solution_of(cell: str, *, thermal: bool = False) -> fa.Solution:
    """A few cells under a body force or a source."""
    mesh = box_mesh(cell, distortion=0.1, flat=True, origin=(3.0, -2.0, 5.0)[: dim_of(cell)])
    if thermal:
        return fa.LinearStatic(mesh, fa.Diffusion(2.0), [fa.Fixed("left")], [fa.Source(1.0)]).solve()
    physics = fa.Elasticity(E=10.0, nu=0.3, density=2.0)
    return fa.LinearStatic(mesh, physics, [fa.Fixed("left")], [fa.BodyForce(np.ones(mesh.dim))]).solve()


# ---------------------------------------------------------------------- density
@pytest.mark.parametrize("cell", MESHES)
def test_volume_grows_by_one_per_area_and_movement(cell: str) -> None:
    """Exact at every node of every face, sharp edges and mid-side nodes included, in both cell orientations."""
    mesh = turned(box_mesh(cell, distortion=0.1, flat=True, origin=(3.0, -2.0, 5.0)[: dim_of(cell)]))
    solution = fa.LinearStatic(mesh, fa.Diffusion(), [fa.Fixed("left")]).solve()
    _, gradient = fa.value_and_gradient(solution, fa.Volume())
    facets = boundary_facets(mesh, mesh.points)
    for values in facet_densities(facets, mesh.points, gradient.points):
        np.testing.assert_allclose(values, 1.0, rtol=1e-9)
    assert len({patch for block in facets for patch in block.patch}) == 2 * mesh.dim

    nodal = boundary_density(mesh, gradient.points)
    on_sides = np.zeros(mesh.n_nodes, dtype=int)
    for side in ("left", "right", "bottom", "top", *(("front", "back") if mesh.dim == 3 else ())):
        on_sides[mesh.nodes_of(side)] += 1
    assert not nodal[on_sides == 0].any()
    # lumped areas of bent quadratic edges are not exact; at corners the normals of two or three faces are averaged
    tolerance = 0.02 if is_quadratic(cell) else 1e-9
    assert ((nodal[on_sides > 0] > 0.5) & (nodal[on_sides > 0] < 1 + tolerance)).all()


def test_density_is_one_inside_faces() -> None:
    """Away from sharp edges the nodal density is that of the face, on quadratic cells too."""
    mesh = box_mesh("tetra10", (3, 3, 3))
    solution = fa.LinearStatic(mesh, fa.Diffusion(), [fa.Fixed("left")]).solve()
    _, gradient = fa.value_and_gradient(solution, fa.Volume())
    x = mesh.points
    face = (x[:, 0] == 1.0) & (x[:, 1:] > 0.3).all(axis=1) & (x[:, 1:] < 0.7).all(axis=1)
    assert face.sum() == 9
    np.testing.assert_allclose(boundary_density(mesh, gradient.points)[face], 1.0, rtol=1e-12)


def test_density_checks_shapes() -> None:
    mesh = box_mesh("quad")
    with pytest.raises(fa.InvalidMeshError, match="shape"):
        boundary_density(mesh, np.zeros((3, 2)))
    with pytest.raises(fa.InvalidMeshError, match="shape"):
        boundary_density(mesh, np.zeros_like(mesh.points), np.zeros((3, 2)))


# ---------------------------------------------------------------------- files
def test_vtu_of_one_gradient(tmp_path: Path) -> None:
    solution = solution_of("triangle6")
    mesh = solution.problem.mesh
    points = mesh.points + 0.01
    solution = solution.problem.solve(points)
    _, gradient = fa.value_and_gradient(solution, fa.Compliance())
    path = write_results(tmp_path / "deep" / "r.vtu", solution, gradient, cell_data={"mine": np.arange(mesh.n_cells)})
    file = meshio.read(path)
    np.testing.assert_array_equal(file.points[:, :2], points)
    np.testing.assert_array_equal(file.point_data["displacement"][:, :2], solution.u)
    np.testing.assert_array_equal(file.point_data["dJ/dX"][:, :2], gradient.points)
    np.testing.assert_array_equal(file.point_data["dJ/dX"][:, 2], 0)
    density = boundary_density(mesh, gradient.points, points)
    np.testing.assert_array_equal(file.point_data["dJ/dn per area"], density)
    np.testing.assert_array_equal(file.point_data["node_id"], mesh.node_ids)
    cells = {name: np.concatenate(parts) for name, parts in file.cell_data.items()}
    assert set(cells) == {"volume", "quality", "in low", "in high", "mine"}
    assert cells["volume"].sum() == pytest.approx(mesh.volume())
    np.testing.assert_array_equal(np.flatnonzero(cells["in low"]), mesh.cells_of("low"))
    np.testing.assert_array_equal(cells["mine"], np.arange(mesh.n_cells))


def test_vtu_of_several_gradients_of_a_scalar_field(tmp_path: Path) -> None:
    solution = solution_of("hexahedron+wedge", thermal=True)
    responses = {"norm": fa.FieldNorm(), "volume": fa.Volume()}
    _, gradients = fa.values_and_gradients(solution, list(responses.values()))
    path = write_results(tmp_path / "r.vtu", solution, dict(zip(responses, gradients, strict=True)))
    data = meshio.read(path).point_data
    assert set(data) == {
        "field", "d(norm)/dX", "d(norm)/dn per area", "d(volume)/dX", "d(volume)/dn per area", "node_id",
    }  # fmt: skip
    np.testing.assert_array_equal(data["field"], solution.u[:, 0])
    np.testing.assert_array_equal(data["d(volume)/dX"], gradients[1].points)


def test_vtu_without_gradient_and_bad_input(tmp_path: Path) -> None:
    solution = solution_of("quad")
    assert set(meshio.read(write_results(tmp_path / "r.vtu", solution)).point_data) == {"displacement", "node_id"}
    with pytest.raises(fa.MeshFileError, match="vtu"):
        write_results(tmp_path / "r.vtk", solution)
    with pytest.raises(fa.InvalidMeshError, match="extra"):
        write_results(tmp_path / "r.vtu", solution, point_data={"extra": np.zeros(3)})
