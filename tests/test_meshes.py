"""The meshes that ship with the package."""

from __future__ import annotations

from pathlib import Path

import meshio
import numpy as np
import pytest

from femadj.io import ImportReport, read_mesh_with_report
from femadj.mesh import Mesh
from femadj.mesh.normals import boundary_normals
from femadj.mesh.reference import shape_functions

MESHES = Path(__file__).resolve().parent.parent / "meshes"


def facet_area(mesh: Mesh, name: str) -> float:
    """Area of a flat facet group, through its own mesh."""
    from femadj.mesh.reference import CELL_TYPES, quadrature

    total = 0.0
    for kind, nodes in mesh.facet_cells(mesh.facets(name)):
        points, weights = quadrature(CELL_TYPES[kind].shape, CELL_TYPES[kind].mass_order)
        _, gradients = shape_functions(kind, points)
        tangents = np.einsum("qak,eai->eqki", gradients, mesh.points[nodes])
        total += float((np.sqrt(np.linalg.det(np.einsum("eqki,eqli->eqkl", tangents, tangents))) @ weights).sum())
    return total


def clean(report: ImportReport) -> bool:
    """Nothing lost, but for internal sets."""
    return not report.renamed and not report.warnings and all("internal sets" in d for d in report.dropped)


def test_every_file_is_documented() -> None:
    text = (MESHES / "README.md").read_text(encoding="utf-8")
    files = [p for p in MESHES.iterdir() if p.suffix in (".msh", ".inp")]
    assert len(files) == 4
    for file in files:
        assert f"`{file.name}`" in text
        assert file.stat().st_size < 4e6


def test_bracket() -> None:
    mesh, report = read_mesh_with_report(MESHES / "bracket.msh")
    assert clean(report)
    assert report.format == "Gmsh 4.1 ASCII"
    assert [b.type for b in mesh.blocks] == ["tetra10"]
    assert 20_000 <= mesh.n_nodes <= 26_000
    assert set(mesh.facet_groups) == {"clamp", "pad", "fillet", "holes"}
    assert set(mesh.cell_groups) == {"steel"}
    profile = 8 * 80 + 82 * 10 + 8**2 * (1 - np.pi / 4)
    volume = 50 * profile - 4 * 8 * np.pi * 4.5**2 - 10 * np.pi * 5**2
    assert mesh.volume() == pytest.approx(volume, rel=1e-5)  # straight edges would miss by 1e-3
    assert mesh.quality().min() > 0.15
    assert np.median(mesh.quality()) > 0.6
    assert facet_area(mesh, "clamp") == pytest.approx(80 * 50 - 4 * np.pi * 4.5**2, rel=3e-5)
    assert facet_area(mesh, "pad") == pytest.approx(16 * 50, rel=1e-9)
    assert facet_area(mesh, "fillet") == pytest.approx(8 * np.pi / 2 * 50, rel=1e-4)
    assert facet_area(mesh, "holes") == pytest.approx(4 * 8 * np.pi * 9 + 10 * np.pi * 10, rel=1e-4)
    assert not any(mesh.facet_groups[name].interior.any() for name in mesh.facet_groups)
    fillet = mesh.points[mesh.nodes_of("fillet")]
    np.testing.assert_allclose(np.hypot(fillet[:, 0] - 16, fillet[:, 1] - 18), 8.0, rtol=1e-6)


def test_all_curved_tetrahedra_of_the_bracket_are_valid() -> None:
    mesh, _ = read_mesh_with_report(MESHES / "bracket.msh")
    # the Jacobian of a tetra10 is a cubic: a fine lattice finds what quadrature points may miss
    n = 6
    lattice = np.array([(i, j, k) for i in range(n + 1) for j in range(n + 1 - i) for k in range(n + 1 - i - j)]) / n
    _, gradients = shape_functions("tetra10", lattice)
    x = mesh.points[mesh.blocks[0].nodes]
    smallest = np.full(mesh.n_cells, np.inf)
    largest = np.zeros(mesh.n_cells)
    for gradient in gradients:
        det = np.linalg.det(np.einsum("ai,eaj->eij", gradient, x)) * mesh.orientation
        smallest, largest = np.minimum(smallest, det), np.maximum(largest, det)
    assert (smallest / largest).min() > 0.1


def test_plate_with_hole() -> None:
    mesh, report = read_mesh_with_report(MESHES / "plate_with_hole.msh")
    assert clean(report)
    assert report.format == "Gmsh 2.2 ASCII"
    assert {b.type for b in mesh.blocks} == {"quad8", "triangle6"}
    assert set(mesh.facet_groups) == {"left", "bottom", "right", "top", "hole"}
    assert mesh.volume() == pytest.approx(400 - np.pi / 4, rel=1e-8)
    assert mesh.quality().min() > 0.65
    for name, length in (("left", 19.0), ("bottom", 19.0), ("right", 20.0), ("top", 20.0), ("hole", np.pi / 2)):
        assert facet_area(mesh, name) == pytest.approx(length, rel=1e-7)
    assert len(mesh.cells_of("ring")) + len(mesh.cells_of("plate")) == mesh.n_cells
    # conforming: the boundary is that of the plate alone
    assert boundary_normals(mesh).areas.sum() == pytest.approx(78 + np.pi / 2, rel=1e-8)
    np.testing.assert_allclose(np.linalg.norm(mesh.points[mesh.nodes_of("hole")], axis=1), 1.0, rtol=1e-10)


def test_heat_sink() -> None:
    mesh, report = read_mesh_with_report(MESHES / "heat_sink.inp")
    assert clean(report)
    assert [b.type for b in mesh.blocks] == ["hexahedron"]
    data = meshio.read(MESHES / "heat_sink.inp")  # another reader sees the same mesh
    np.testing.assert_array_equal(mesh.points, data.points)
    np.testing.assert_array_equal(mesh.blocks[0].nodes, np.vstack([c.data for c in data.cells]))
    assert 8_000 <= mesh.n_nodes <= 15_000
    assert mesh.node_ids[0] == 1001
    assert 20001 in mesh.node_ids
    assert mesh.node_ids[mesh.nodes_of("SENSOR")].tolist() == [1001]
    assert set(mesh.facet_groups) == {"base", "tips", "fins"}
    assert set(mesh.cell_groups) == {"BASE_PLATE", "FINS", "ALL"}
    volumes = mesh.cell_volumes()
    assert volumes[mesh.cells_of("BASE_PLATE")].sum() == pytest.approx(50 * 6 * 50)
    assert volumes[mesh.cells_of("FINS")].sum() == pytest.approx(7 * 2 * 24 * 50)
    assert mesh.quality().min() == pytest.approx(1.0)
    assert facet_area(mesh, "base") == pytest.approx(50 * 50)
    assert facet_area(mesh, "tips") == pytest.approx(7 * 2 * 50)
    assert facet_area(mesh, "fins") == pytest.approx(14 * 24 * 50)
    assert (mesh.points[mesh.nodes_of("base"), 1] == 0).all()
    assert (mesh.points[mesh.nodes_of("tips"), 1] == 30).all()
    assert not mesh.facets("fins").interior.any()


def test_cylinder_in_channel() -> None:
    mesh, report = read_mesh_with_report(MESHES / "cylinder_in_channel.msh")
    assert clean(report)
    assert report.format == "Gmsh 4.1 ASCII"
    assert [b.type for b in mesh.blocks] == ["triangle6"]
    assert 2_000 <= mesh.n_nodes <= 4_000
    assert set(mesh.facet_groups) == {"inlet", "outlet", "walls", "cylinder"}
    assert set(mesh.cell_groups) == {"fluid"}
    assert mesh.volume() == pytest.approx(1200 - 6.25 * np.pi, rel=1e-7)
    assert mesh.quality().min() > 0.6
    for name, length in (("inlet", 20.0), ("outlet", 20.0), ("walls", 120.0), ("cylinder", 5 * np.pi)):
        assert facet_area(mesh, name) == pytest.approx(length, rel=1e-6)
    assert boundary_normals(mesh).areas.sum() == pytest.approx(160 + 5 * np.pi, rel=1e-6)
    radius = np.linalg.norm(mesh.points[mesh.nodes_of("cylinder")] - (20.0, 9.5), axis=1)
    np.testing.assert_allclose(radius, 2.5, rtol=1e-12)
