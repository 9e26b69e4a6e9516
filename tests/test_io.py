"""Import of mesh files, and VTU output."""

from __future__ import annotations

import itertools
import math
import struct
from pathlib import Path

import meshio
import numpy as np
import pytest

from femadj.errors import InvalidMeshError, MeshFileError, UnsupportedCellError
from femadj.io import ImportReport, abaqus, read_mesh, read_mesh_with_report, write_vtu
from femadj.mesh import Mesh
from femadj.mesh.reference import CELL_TYPES, INTEGRATED_CELLS, shape_functions

PLANE = ("triangle", "triangle6", "quad", "quad8", "quad9")
SOLID = ("tetra", "tetra10", "hexahedron", "hexahedron20", "hexahedron27", "wedge")
VOLUME = {"triangle": 0.5, "quad": 1.0, "tetra": 1 / 6, "hexahedron": 1.0, "wedge": 0.5}
RESHAPE = np.array([[2.0, 0.3, 0.1], [0.2, 1.5, 0.4], [0.1, -0.2, 1.2]])


def one_cell(name: str) -> np.ndarray:
    """Nodes of a distorted single cell, in meshio's order."""
    cell = CELL_TYPES[name]
    d = cell.dim
    return cell.nodes @ RESHAPE[:d, :d].T + np.arange(3.0, 3.0 + d)


def require_nodes_in_place(mesh: Mesh) -> None:
    """All nodes of straight-sided cells lie where the corners put them: the node order is right."""
    for block in mesh.blocks:
        cell = block.reference
        linear, _ = shape_functions(cell.shape, cell.nodes)
        x = mesh.points[block.nodes]
        expected = np.einsum("na,eai->eni", linear, x[:, : cell.n_corners])
        np.testing.assert_allclose(x, expected, atol=1e-9)


# ---------------------------------------------------------------------- round trips through meshio
@pytest.mark.parametrize("name", INTEGRATED_CELLS)
@pytest.mark.parametrize("suffix", [".vtu", ".vtk", ".msh", ".msh22", ".inp", ".bdf"])
def test_one_cell_round_trip(tmp_path: Path, name: str, suffix: str) -> None:
    if suffix == ".inp" and name in ("quad9", "hexahedron27"):
        pytest.skip("no such element in Abaqus")
    if suffix == ".bdf" and name == "hexahedron27":
        pytest.skip("no such element in Nastran")
    x = one_cell(name)
    points = np.pad(x, ((0, 0), (0, 3 - x.shape[1])))
    file = tmp_path / f"cell{suffix.replace('22', '')}"
    tags = {"gmsh:physical": [np.array([7])], "gmsh:geometrical": [np.array([1])]} if "msh" in suffix else {}
    data = meshio.Mesh(points, [(name, np.arange(len(x))[None])], cell_data=tags)
    formats = {".msh": "gmsh", ".msh22": "gmsh22"}
    meshio.write(file, data, file_format=formats.get(suffix))
    mesh, _ = read_mesh_with_report(file)  # meshio writes plane cells to .inp as shells, of which the reader warns
    assert mesh.blocks[0].type == name
    require_nodes_in_place(mesh)
    d = CELL_TYPES[name].dim
    expected = VOLUME[CELL_TYPES[name].shape] * np.linalg.det(RESHAPE[:d, :d])
    assert mesh.volume() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(mesh.points, x, atol=1e-9)
    assert (mesh.orientation == 1).all()


@pytest.mark.parametrize("version", [2.2, 4.1])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("name", INTEGRATED_CELLS)
def test_gmsh_meshes_of_every_cell(tmp_path: Path, name: str, binary: bool, version: float) -> None:
    gmsh_box(tmp_path / "box.msh", name, binary, version)
    mesh, report = read_mesh_with_report(tmp_path / "box.msh")
    assert [b.type for b in mesh.blocks] == [name]
    require_nodes_in_place(mesh)
    d = mesh.dim
    assert mesh.volume() == pytest.approx(6.0 if d == 2 else 24.0, rel=1e-12)
    assert (mesh.orientation == 1).all()
    assert len(mesh.cells_of("body")) == mesh.n_cells
    low = mesh.points[mesh.nodes_of("low")]
    assert (np.abs(low[:, 0]) < 1e-12).all()
    assert set(mesh.nodes_of("low")) == set(np.flatnonzero(np.abs(mesh.points[:, 0]) < 1e-12))
    assert len(mesh.node_groups["corner"]) == 1
    np.testing.assert_allclose(mesh.points[mesh.node_groups["corner"][0]], 0.0, atol=1e-12)
    if d == 3:
        assert "edge" in mesh.node_groups
    data = meshio.read(tmp_path / "box.msh")  # the same cells in the same places by another reader
    theirs = np.vstack([c.data for c in data.cells if c.type == name])
    ours = mesh.blocks[0].nodes
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(mesh.points[ours], data.points[theirs][..., :d], atol=1e-12)
    assert report.format == f"Gmsh {version} {'binary' if binary else 'ASCII'}"


def gmsh_box(path: Path, name: str, binary: bool, version: float) -> None:
    """A rectangle 2 x 3 or a box 2 x 3 x 4 of the cells asked for."""
    gmsh = pytest.importorskip("gmsh")
    shape = CELL_TYPES[name].shape
    gmsh.initialize(readConfigFiles=False, interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setNumber("Mesh.MshFileVersion", version)
        gmsh.option.setNumber("Mesh.Binary", int(binary))
        gmsh.option.setNumber("Mesh.SecondOrderIncomplete", int(name in ("quad8", "hexahedron20")))
        gmsh.option.setNumber("Mesh.MeshSizeMin", 1.0)
        gmsh.option.setNumber("Mesh.MeshSizeMax", 1.0)
        geo = gmsh.model.geo
        p = [geo.addPoint(x, y, 0) for x, y in ((0, 0), (2, 0), (2, 3), (0, 3))]
        lines = [geo.addLine(p[i], p[(i + 1) % 4]) for i in range(4)]
        face = geo.addPlaneSurface([geo.addCurveLoop(lines)])
        if shape in ("quad", "hexahedron"):
            geo.mesh.setTransfiniteSurface(face)
            geo.mesh.setRecombine(2, face)
        structured = shape in ("hexahedron", "wedge")
        if shape in ("tetra", "hexahedron", "wedge"):
            geo.extrude([(2, face)], 0, 0, 4, numElements=[4] if structured else [], recombine=structured)
        geo.synchronize()
        solid = shape in ("tetra", "hexahedron", "wedge")
        d = 3 if solid else 2
        at_zero = [
            tag for _, tag in gmsh.model.getEntities(d - 1) if abs(gmsh.model.getBoundingBox(d - 1, tag)[3]) < 1e-4
        ]
        gmsh.model.addPhysicalGroup(d - 1, at_zero, 5, name="low")
        gmsh.model.addPhysicalGroup(d, [tag for _, tag in gmsh.model.getEntities(d)], 5, name="body")
        gmsh.model.addPhysicalGroup(0, [p[0]], 5, name="corner")
        if solid:
            gmsh.model.addPhysicalGroup(1, [lines[0]], 5, name="edge")
        gmsh.model.mesh.generate(d)
        if name[-1].isdigit():
            gmsh.model.mesh.setOrder(2)
        gmsh.write(str(path))
    finally:
        gmsh.finalize()


# ---------------------------------------------------------------------- Gmsh
SQUARES_41 = """$MeshFormat
4.1 0 8
$EndMeshFormat
$PhysicalNames
{names}
$EndPhysicalNames
$Entities
0 2 2 0
1 0 0 0 0 1 0 {curve} 0
2 2 0 0 2 1 0 0 0
1 0 0 0 1 1 0 {first} 0
2 1 0 0 2 1 0 {second} 0
$EndEntities
$Nodes
1 7 10 70
2 1 0 7
10
20
30
40
50
60
70
0 0 {z}
1 0 {z}
2 0 {z}
0 1 {z}
1 1 {z}
2 1 {z2}
9 9 {z}
$EndNodes
$Elements
4 4 1 4
2 1 3 1
1 10 20 50 40
2 2 3 1
2 20 30 60 50
1 1 1 1
3 40 10
1 2 1 1
4 30 60
$EndElements
"""


def squares(
    path: Path,
    names: str = '3\n1 4 "left"\n2 4 "one"\n2 9 "both"',
    curve: str = "1 4",
    first: str = "2 4 9",
    second: str = "1 9",
    z: str = "0",
    z2: str | None = None,
) -> Path:
    """Two unit squares, with an orphan node, one named and one unnamed line."""
    path.write_text(SQUARES_41.format(names=names, curve=curve, first=first, second=second, z=z, z2=z2 or z))
    return path


def test_gmsh_groups_and_report(tmp_path: Path) -> None:
    mesh, report = read_mesh_with_report(squares(tmp_path / "a.msh"))
    assert isinstance(report, ImportReport)
    assert mesh.node_ids.tolist() == [10, 20, 30, 40, 50, 60]
    assert mesh.cell_groups["one"].tolist() == [0]
    assert mesh.cell_groups["both"].tolist() == [0, 1]  # one cell, two groups of dimension 2
    assert mesh.nodes_of("left").tolist() == [0, 3]  # the tag 4 names a curve and a surface
    assert any("1 nodes that belong to no cell" in d and "70" in d for d in report.dropped)
    assert any("1 line cells of lower dimension without a group" in d for d in report.dropped)
    assert report.renamed == ()
    text = str(report)
    for part in ("6 nodes", "2 quad", "facet group 'left': 1", "ids of the file", "dropped:", "x 0 .. 2"):
        assert part in text


def test_gmsh_same_names_are_kept_apart(tmp_path: Path) -> None:
    file = squares(tmp_path / "a.msh", names='3\n1 4 "a"\n2 4 "a"\n2 9 "a"')
    mesh, report = read_mesh_with_report(file)
    assert set(mesh.cell_groups) == {"a", "a_2"}
    assert set(mesh.facet_groups) == {"a"}
    assert len(report.renamed) == 1
    assert "a_2" in report.renamed[0]


def test_gmsh_unnamed_and_empty_groups(tmp_path: Path) -> None:
    mesh, report = read_mesh_with_report(squares(tmp_path / "a.msh", names='1\n0 3 "nothing"', curve="1 -4"))
    assert set(mesh.cell_groups) == {"4", "9"}
    assert set(mesh.facet_groups) == {"4"}  # the sign of a tag is the orientation
    assert any("'nothing'" in d for d in report.dropped)


def test_gmsh_only_some_entities_in_groups(tmp_path: Path) -> None:
    mesh = read_mesh(squares(tmp_path / "a.msh", second="0"))
    assert mesh.n_cells == 2
    assert mesh.cell_groups["both"].tolist() == [0]


def test_constant_z_is_plane(tmp_path: Path) -> None:
    mesh = read_mesh(squares(tmp_path / "a.msh", z="3.5"))
    assert mesh.dim == 2
    assert mesh.volume() == pytest.approx(2.0)


def test_varying_z_is_refused_naming_the_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidMeshError, match="only meshes of constant z") as caught:
        read_mesh(squares(tmp_path / "a.msh", z2="0.5"))
    assert "a.msh" in caught.value.__notes__[0]


def test_gmsh_22_lists_cells_once_per_group(tmp_path: Path) -> None:
    file = tmp_path / "a.msh"
    file.write_text(
        '$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$PhysicalNames\n2\n2 1 "one"\n2 2 "two parts"\n$EndPhysicalNames\n'
        "$Nodes\n4\n4 0 0 0\n3 1 0 0\n2 1 1 0\n9 0 1 0\n$EndNodes\n"
        "$Elements\n5\n1 15 2 3 1 9\n2 2 2 1 1 4 3 2\n3 2 2 1 1 4 2 9\n4 2 2 2 1 4 3 2\n5 1 3 7 1 0 9 4\n$EndElements\n"
    )
    mesh, report = read_mesh_with_report(file)
    assert mesh.n_cells == 2
    assert mesh.node_ids.tolist() == [4, 3, 2, 9]
    assert mesh.cell_groups["one"].tolist() == [0, 1]
    assert mesh.cell_groups["two parts"].tolist() == [0]
    assert mesh.node_groups["3"].tolist() == [3]
    assert mesh.nodes_of("7").tolist() == [0, 3]
    assert any("1 repetitions" in d for d in report.dropped)


def test_surface_off_the_body_is_dropped_and_reported(tmp_path: Path) -> None:
    file = tmp_path / "a.msh"
    file.write_text(
        "$MeshFormat\n2.2 0 8\n$EndMeshFormat\n"
        "$Nodes\n5\n1 0 0 0\n2 1 0 0\n3 0 1 0\n4 0 0 1\n5 5 5 5\n$EndNodes\n"
        "$Elements\n3\n1 4 2 1 1 1 2 3 4\n2 2 2 8 1 1 2 3\n3 2 2 8 1 2 3 5\n$EndElements\n"
    )
    mesh, report = read_mesh_with_report(file)
    assert len(mesh.facets("8")) == 1
    assert any("1 facets of group '8'" in d for d in report.dropped)


def test_binary_gmsh_of_either_byte_order(tmp_path: Path) -> None:
    for order in "<>":
        nodes = b"".join(struct.pack(f"{order}i3d", i, *x) for i, x in ((5, (0, 0, 0)), (6, (1, 0, 0)), (9, (0, 1, 0))))
        file = tmp_path / "a.msh"
        file.write_bytes(
            b"$MeshFormat\n2.2 1 8\n" + struct.pack(f"{order}i", 1) + b"\n$EndMeshFormat\n$Nodes\n3\n" + nodes
            + b"\n$EndNodes\n$Elements\n1\n" + struct.pack(f"{order}9i", 2, 1, 2, 1, 3, 1, 5, 6, 9)[: 9 * 4]
            + b"\n$EndElements\n"
        )  # fmt: skip
        mesh = read_mesh(file)
        assert mesh.node_ids.tolist() == [5, 6, 9]
        assert mesh.cell_groups["3"].tolist() == [0]


def test_periodic_gmsh_mesh(tmp_path: Path) -> None:
    file = squares(tmp_path / "a.msh")
    file.write_text(file.read_text() + "$Periodic\n1\n1 2 1\n0\n2\n30 10\n60 40\n$EndPeriodic\n")
    assert read_mesh(file).n_nodes == 6


# ---------------------------------------------------------------------- unsupported and damaged files
def test_pyramids_are_refused_with_number_and_place(tmp_path: Path) -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 1.0], [0.5, 0.5, -1.0]])
    cells = [("pyramid", np.array([[0, 1, 2, 3, 4], [3, 2, 1, 0, 5]]))]
    meshio.write(tmp_path / "a.vtu", meshio.Mesh(points, cells))
    with pytest.raises(
        UnsupportedCellError, match=r"2 cells of type 'pyramid' \(the first is element 0, at \(0.5, 0.5, 0.2\)"
    ):
        read_mesh(tmp_path / "a.vtu")
    meshio.write(tmp_path / "a.msh", meshio.Mesh(points, cells), file_format="gmsh", binary=False)
    with pytest.raises(UnsupportedCellError, match=r"2 cells of type 'pyramid' \(the first is element 1"):
        read_mesh(tmp_path / "a.msh")


def test_third_order_cells_are_refused(tmp_path: Path) -> None:
    file = squares(tmp_path / "a.msh")
    file.write_text(file.read_text().replace("2 1 3 1\n1 10 20 50 40", "2 1 37 1\n1 10 20 50 40"))
    with pytest.raises(UnsupportedCellError, match="type 37"):
        read_mesh(file)


@pytest.mark.parametrize("suffix", [".msh", ".inp", ".vtu", ".vtk", ".bdf", ".xyz"])
def test_missing_empty_and_garbage(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"bad{suffix}"
    with pytest.raises(MeshFileError, match="does not exist"):
        read_mesh(file)
    file.write_bytes(b"")
    with pytest.raises(MeshFileError, match="is empty"):
        read_mesh(file)
    for garbage in (b"the quick brown fox\njumps over\n", bytes(range(256)) * 4, b"$MeshFormat\n", b"*NODE\nfox\n"):
        file.write_bytes(garbage)
        with pytest.raises(MeshFileError, match=f"bad{suffix}"):
            read_mesh(file)


def test_folder_is_no_mesh(tmp_path: Path) -> None:
    with pytest.raises(MeshFileError, match="is a folder"):
        read_mesh(tmp_path)


def test_causes_are_chained_and_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.vtu").write_text("<VTKFile")
    with pytest.raises(MeshFileError) as caught:
        read_mesh(tmp_path / "a.vtu")
    assert caught.value.__cause__ is not None
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize(("binary", "version"), list(itertools.product([False, True], ["gmsh", "gmsh22"])))
def test_truncated_gmsh(tmp_path: Path, binary: bool, version: str) -> None:
    whole = tmp_path / "whole.msh"
    i, j = np.mgrid[:6, :6]
    points = np.stack([i.ravel(), j.ravel(), 0 * i.ravel()], axis=1).astype(float)
    a = (i[:-1, :-1] * 6 + j[:-1, :-1]).ravel()
    tags = {"gmsh:physical": [np.full(25, 1)], "gmsh:geometrical": [np.full(25, 1)]}
    grid = meshio.Mesh(points, [("quad", np.stack([a, a + 6, a + 7, a + 1], axis=1))], cell_data=tags)
    grid.write(whole, file_format=version, binary=binary)
    assert read_mesh(whole).n_cells == 25
    data = whole.read_bytes()
    cut = tmp_path / "cut.msh"
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
        cut.write_bytes(data[: int(share * len(data))])
        with pytest.raises(MeshFileError, match=r"cut\.msh"):
            read_mesh(cut)


@pytest.mark.parametrize("suffix", [".vtu", ".vtk"])
def test_truncated_other(tmp_path: Path, suffix: str) -> None:
    i, j = np.mgrid[:6, :6]
    points = np.stack([i.ravel(), j.ravel(), 0 * i.ravel()], axis=1).astype(float)
    a = (i[:-1, :-1] * 6 + j[:-1, :-1]).ravel()
    whole = tmp_path / f"whole{suffix}"
    meshio.Mesh(points, [("quad", np.stack([a, a + 6, a + 7, a + 1], axis=1))]).write(whole)
    data = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for share in (0.1, 0.5, 0.8):
        cut.write_bytes(data[: int(share * len(data))])
        with pytest.raises(MeshFileError, match="cut"):
            read_mesh(cut)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("4.1 0 8", "4.0 0 8", "version 4.0"),
        ("4.1 0 8", "1 0 8", "version 1"),
        ("1 10 20 50 40", "1 10 20 50 41", "nodes 41, which do not exist"),
        ("10\n20\n", "10\n10\n", "nodes 10 occur more than once"),
        ("4 4 1 4", "4 5 1 5", "4 elements instead of 5"),
        ("1 7 10 70", "1 8 10 70", "7 nodes instead of 8"),
        ("0 1 0\n1 1 0", "0 x 0\n1 1 0", "expected numbers"),
        ('1 4 "left"', '1 4 "left', "cannot read the line"),
        ('1 4 "left"', "1 x left", "cannot read the line"),
        ("$Nodes", "$Knots", "section .Nodes is missing"),
        ("2 1 3 1\n1 10 20 50 40", "2 1 3 9\n1 10 20 50 40", "."),
        ("$Entities", "$PartitionedEntities\n$EndPartitionedEntities\n$Entities", "partitioned"),
    ],
)
def test_damaged_gmsh(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = squares(tmp_path / "a.msh")
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises((MeshFileError, UnsupportedCellError), match=message):
        read_mesh(file)


def test_lines_alone_are_no_mesh(tmp_path: Path) -> None:
    meshio.Mesh(np.eye(3), [("line", np.array([[0, 1], [1, 2]]))]).write(tmp_path / "a.vtu")
    with pytest.raises(MeshFileError, match="no plane or solid cells"):
        read_mesh(tmp_path / "a.vtu")


# ---------------------------------------------------------------------- Abaqus
DECK = """*HEADING
 a deck with the habits of several preprocessors
** comment
*Node, nset=everything
 101, 0., 0., 0.
 102, 1.0E+0, 0., 0.
 103, 1.D0, 1., 0.
 104, 0., 1., 0.
*node
 201, , , 1.
 202, 1., , 1.
 203, 1., 1., 1.
 204, 0., 1., 1.

 999, 7., 7., 7.
*Element, type=c3d8r,
  elset=low
 11, 101, 102, 103, 104,
 201, 202, 203, 204
*NODE
 301, 0., 0., 2.
 302, 1., 0., 2.
 303, 1., 1., 2.
 304, 0., 1., 2.
*ELEMENT, TYPE=C3D8, ELSET=High
 12, 201, 202, 203, 204, 301, 302, 303, 304
*ELEMENT, TYPE=MASS, ELSET=POINT_MASS
 77, 999
*NSET, NSET=bottom, GENERATE
 101, 104, 1
*NSET, NSET=mixed
 bottom, 301,
*nset, nset="of high", elset=HIGH
*NSET, NSET=REFERENCE
 999
*ELSET, ELSET=pair
 low, high
*ELSET, ELSET=_top_S2, INTERNAL
 12
*SURFACE, TYPE=ELEMENT, NAME=top
 _top_S2, S2
*SURFACE, NAME=sides
 pair, S3
 12, S4
*SURFACE, NAME=skin
 pair,
*SURFACE, TYPE=NODE, NAME=spots
 bottom,
 304,
*SURFACE, NAME=wrong
 pair, S9
*MATERIAL, NAME=STEEL
*ELASTIC
 210000., 0.3
*STEP
*CLOAD
 bottom, 3, 1.
"""


def test_abaqus_deck(tmp_path: Path) -> None:
    file = tmp_path / "deck.inp"
    file.write_text(DECK)
    mesh, report = read_mesh_with_report(file)
    assert mesh.node_ids.tolist() == [101, 102, 103, 104, 201, 202, 203, 204, 301, 302, 303, 304]
    assert mesh.volume() == pytest.approx(2.0)
    assert mesh.cell_groups["low"].tolist() == [0]
    assert mesh.cell_groups["High"].tolist() == [1]
    assert mesh.cell_groups["pair"].tolist() == [0, 1]
    assert "_top_S2" not in mesh.cell_groups
    assert mesh.node_ids[mesh.node_groups["bottom"]].tolist() == [101, 102, 103, 104]
    assert mesh.node_ids[mesh.node_groups["mixed"]].tolist() == [101, 102, 103, 104, 301]
    assert mesh.node_ids[mesh.node_groups["of high"]].tolist() == [201, 202, 203, 204, 301, 302, 303, 304]
    assert mesh.node_ids[mesh.node_groups["spots"]].tolist() == [101, 102, 103, 104, 304]
    assert (mesh.points[mesh.nodes_of("top"), 2] == 2.0).all()
    assert len(mesh.facets("sides")) == 3
    assert len(mesh.facets("skin")) == 10  # the facet between the two cells is no skin
    assert "wrong" not in mesh.facet_groups
    assert "REFERENCE" not in mesh.node_groups
    dropped = "\n".join(report.dropped)
    for part in ("ids 999", "1 elements of type MASS", "internal sets", "'REFERENCE'", "'wrong': 'S9' is no face"):
        assert part in dropped
    assert "POINT_MASS" not in mesh.cell_groups


@pytest.mark.parametrize(
    ("abaqus_type", "name"),
    [("C3D4", "tetra"), ("C3D10M", "tetra10"), ("C3D8I", "hexahedron"), ("C3D20R", "hexahedron20"), ("C3D6", "wedge"),
     ("CPS3", "triangle"), ("CPE4R", "quad"), ("CPS6M", "triangle6"), ("CPE8R", "quad8"), ("DC3D10", "tetra10"),
     ("DC2D8", "quad8"), ("S4", "quad"), ("S8R5", "quad8"), ("STRI65", "triangle6"), ("CAX4", "quad")],
)  # fmt: skip
def test_abaqus_types_and_faces(tmp_path: Path, abaqus_type: str, name: str) -> None:
    cell = CELL_TYPES[name]
    x = one_cell(name)
    file = tmp_path / "cell.inp"
    lines = ["*NODE", *(f"{i + 5}, {', '.join(map(repr, p.tolist()))}" for i, p in enumerate(x))]
    nodes = [str(i + 5) for i in range(len(x))]
    lines += [f"*ELEMENT, TYPE={abaqus_type}, ELSET=E", ", ".join(["3", *nodes[:9]]) + ("," if nodes[9:] else "")]
    lines += [", ".join(nodes[9:])] if nodes[9:] else []
    for face in range(len(cell.facets)):
        lines += [f"*SURFACE, NAME=F{face + 1}", f"E, S{face + 1}"]
    file.write_text("\n".join(lines) + "\n")
    mesh, report = read_mesh_with_report(file)
    assert mesh.blocks[0].type == name
    assert bool(report.warnings) == abaqus_type.startswith(("S", "CAX"))
    found = set()
    for face, corners in enumerate(abaqus.FACES[cell.shape]):
        facets = mesh.facets(f"F{face + 1}")
        assert len(facets) == 1
        found.add(int(facets.local[0]))
        assert set(corners) <= set(mesh.facet_nodes(facets).tolist())
    assert found == set(range(len(cell.facets)))


def test_abaqus_faces_follow_the_manual() -> None:
    # one-based corner nodes as in the Abaqus element library: hexahedron, tetrahedron, wedge
    manual = {
        "hexahedron": ("1234", "5876", "1562", "2673", "3784", "4851"),
        "tetra": ("123", "142", "243", "341"),
        "wedge": ("123", "465", "1452", "2563", "3641"),
    }
    for shape, faces in manual.items():
        ours = [frozenset(n + 1 for n in face) for face in abaqus.FACES[shape]]
        assert ours == [frozenset(int(c) for c in face) for face in faces]


def test_abaqus_part_instance_and_assembly(tmp_path: Path) -> None:
    file = tmp_path / "part.inp"
    text = (
        "*Part, name=P\n*Node\n1, 0., 0.\n2, 1., 0.\n3, 1., 1.\n4, 0., 1.\n"
        "*Element, type=CPS4\n1, 1, 2, 3, 4\n*End Part\n"
        "*Assembly, name=A\n*Instance, name=P-1, part=P\n*End Instance\n"
        "*Nset, nset=corner, instance=P-1\n1,\n*Nset, nset=other\nP-1.3, P-1.4\n"
        "*Elset, elset=_right_S2, internal, instance=P-1\n1,\n*Surface, type=ELEMENT, name=right\n_right_S2, S2\n"
        "*End Assembly\n"
    )
    file.write_text(text)
    mesh = read_mesh(file)
    assert mesh.node_groups["corner"].tolist() == [0]
    assert mesh.node_groups["other"].tolist() == [2, 3]
    assert mesh.nodes_of("right").tolist() == [1, 2]
    file.write_text(text.replace("part=P\n", "part=P\n10., 0., 0.\n"))
    assert read_mesh(file).points[:, 0].tolist() == [10.0, 11.0, 11.0, 10.0]
    file.write_text(text.replace("*End Instance\n", "*End Instance\n*Instance, name=P-2, part=P\n*End Instance\n"))
    with pytest.raises(MeshFileError, match=r"a second \*INSTANCE"):
        read_mesh(file)


def test_abaqus_includes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "nodes.txt").write_text("1, 0., 0.\n2, 1., 0.\n3, 1., 1.\n")
    (tmp_path / "cells.inp").write_text("*ELEMENT, TYPE=CPS3, ELSET=ALL\n1, 1, 2, 3\n")
    main = tmp_path / "main.inp"
    main.write_text("*NODE, INPUT=sub/nodes.txt\n*INCLUDE, INPUT=cells.inp\n")
    assert read_mesh(main).cell_groups["ALL"].tolist() == [0]
    main.write_text("*NODE, INPUT=sub/nodes.txt\n*INCLUDE, INPUT=main.inp\n")
    with pytest.raises(MeshFileError, match="includes itself"):
        read_mesh(main)
    main.write_text("*INCLUDE, INPUT=none.inp\n")
    with pytest.raises(MeshFileError, match=r"none\.inp"):
        read_mesh(main)


TRIANGLE = "*NODE\n1, 0., 0.\n2, 1., 0.\n3, 1., 1.\n*ELEMENT, TYPE=CPS3, ELSET=ALL\n1, 1, 2, 3\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TRIANGLE.replace("1, 1, 2, 3", "1, 1, 2, 4"), "nodes 4, which do not exist"),
        (TRIANGLE.replace("1, 1, 2, 3", "1, 1, 2"), "not a multiple of 4"),
        (TRIANGLE.replace("3, 1., 1.", "2, 1., 1."), "nodes 2 occur more than once"),
        (TRIANGLE + "*ELEMENT, TYPE=CPS3\n1, 1, 3, 2\n", "elements 1 occur more than once"),
        (TRIANGLE + "*NGEN\n1, 3\n", "NGEN generates"),
        (TRIANGLE + "*NSET\n1\n", "needs the parameter NSET="),
        (TRIANGLE + "*NSET, NSET=A, GENERATE\n1\n", "first, last, increment"),
        (TRIANGLE + "*ELSET, ELSET=A\nB\n*ELSET, ELSET=B\nA\n", "contains itself"),
        (TRIANGLE.replace("*NODE", "*NODE, SYSTEM=C"), "cylindrical"),
        ("*NODE\n1, 0., 0.\n", "no plane or solid cells"),
        (TRIANGLE.replace("2, 1., 0.", "2, one, 0."), "expected numbers"),
    ],
)
def test_damaged_abaqus(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.inp"
    file.write_text(text)
    with pytest.raises(MeshFileError, match=message):
        read_mesh(file)


def test_abaqus_unsupported_types(tmp_path: Path) -> None:
    file = tmp_path / "a.inp"
    file.write_text(TRIANGLE.replace("CPS3", "COH2D4"))
    with pytest.raises(UnsupportedCellError, match="COH2D4"):
        read_mesh(file)
    file.write_text(TRIANGLE + "*NSET, NSET=N\n1, 55\n")
    _, report = read_mesh_with_report(file)
    assert any("55" in w and "line 7" in w for w in report.warnings)
    file.write_text(TRIANGLE + "*ELSET, ELSET=E\nGONE\n")
    with pytest.raises(MeshFileError, match=r"line 8: the set 'E' refers to the cell set 'GONE'"):
        read_mesh(file)


def test_collapsed_hexahedra_keep_their_facets(tmp_path: Path) -> None:
    file = tmp_path / "a.inp"
    file.write_text(
        "*NODE\n1, 0., 0., 0.\n2, 1., 0., 0.\n3, 0., 1., 0.\n4, 0., 0., 1.\n5, 1., 0., 1.\n6, 0., 1., 1.\n"
        "*ELEMENT, TYPE=C3D8, ELSET=E\n1, 1, 2, 3, 3, 4, 5, 6, 6\n*SURFACE, NAME=low\nE, S1"
    )
    mesh, report = read_mesh_with_report(file)
    assert len(mesh.facets("low")) == 1
    assert any("no end" in w for w in report.warnings)


def test_three_node_lines_with_the_middle_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "a.inp"
    nodes = "*NODE\n1, 0., 0.\n2, 1., 0.\n3, 0., 1.\n4, .5, 0.\n5, .5, .5\n6, 0., .5\n"
    for order in ("1, 4, 2", "1, 2, 4", "4, 1, 2"):
        file.write_text(
            f"{nodes}*ELEMENT, TYPE=CPS6\n1, 1, 2, 3, 4, 5, 6\n*ELEMENT, TYPE=T2D3, ELSET=edge\n2, {order}\n"
        )
        mesh = read_mesh(file)
        assert mesh.facet_nodes(mesh.facets("edge")).tolist() == [0, 1, 3]


# ---------------------------------------------------------------------- VTK, VTU, Nastran
def test_integer_data_become_groups(tmp_path: Path) -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0]], dtype=float)
    cells = [("quad", np.array([[0, 1, 2, 3]])), ("triangle", np.array([[1, 4, 2]])), ("line", np.array([[0, 1]]))]
    grid = meshio.Mesh(
        points,
        cells,
        cell_data={"material": [[3], [5], [9]], "stress": [[1.0], [2.0], [3.0]]},
        point_data={"fixed": np.array([1, -1, -1, 1, -1]), "T": np.linspace(0, 1, 5)},
    )
    for suffix in (".vtu", ".vtk"):
        grid.write(tmp_path / f"a{suffix}")
        mesh, report = read_mesh_with_report(tmp_path / f"a{suffix}")
        assert mesh.cell_groups["material:3"].tolist() == [0]
        assert mesh.cell_groups["material:5"].tolist() == [1]
        assert mesh.nodes_of("material:9").tolist() == [0, 1]
        assert mesh.node_groups["fixed:1"].tolist() == [0, 3]
        assert "fixed:-1" not in mesh.node_groups
        assert "zero-based" in report.node_ids
        assert any("'stress'" in d for d in report.dropped)


def test_numbering_arrays_are_no_groups(tmp_path: Path) -> None:
    n = 150
    points = np.array([[0.5 * (i // 2), i % 2, 0] for i in range(n + 2)], dtype=float)
    cells = np.array([[i, i + 1, i + 2] for i in range(n)])
    meshio.Mesh(points, [("triangle", cells)], cell_data={"id": [np.arange(n)]}).write(tmp_path / "a.vtu")
    mesh, report = read_mesh_with_report(tmp_path / "a.vtu")
    assert not mesh.cell_groups
    assert any("150 values" in d for d in report.dropped)
    assert set(mesh.orientation) == {-1.0, 1.0}


NASTRAN = (
    "BEGIN BULK\n"
    "GRID,10,,0.,0.,0.\nGRID,20,,1.,0.,0.\nGRID,30,,0.,1.,0.\nGRID,40,,0.,0.,1.\nGRID,99,,5.,5.,5.\n"
    "CTETRA,1,7,10,20,30,40\nCTRIA3,2,8,10,20,30\nENDDATA\n"
)


def test_nastran_properties_and_ids(tmp_path: Path) -> None:
    file = tmp_path / "a.bdf"
    file.write_text(NASTRAN)
    mesh, report = read_mesh_with_report(file)
    assert mesh.node_ids.tolist() == [10, 20, 30, 40]
    assert mesh.cell_groups["property:7"].tolist() == [0]
    assert mesh.nodes_of("property:8").tolist() == [0, 1, 2]
    assert any("99" in d or "1 nodes" in d for d in report.dropped)
    assert report.format == "Nastran"


# ---------------------------------------------------------------------- VTU output
def test_write_vtu(tmp_path: Path) -> None:
    points = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [2, 0]], dtype=float)
    mesh = Mesh(points, {"quad": [[0, 1, 2, 3]], "triangle": [[1, 4, 2]]})
    moved = points + 0.01
    vectors = np.arange(10.0).reshape(5, 2)
    file = write_vtu(
        tmp_path / "new" / "folder" / "a.vtu",
        mesh,
        points=moved,
        point_data={"u": vectors, "T": np.arange(5), "F": np.ones((5, 2, 2)), "s": np.ones((5, 1), np.float32)},
        cell_data={"quality": mesh.quality(), "on": np.array([True, False])},
    )
    data = meshio.read(file)
    np.testing.assert_array_equal(data.points[:, :2], moved)
    assert (data.points[:, 2] == 0).all()
    np.testing.assert_array_equal(data.point_data["u"], np.pad(vectors, ((0, 0), (0, 1))))
    assert data.point_data["F"].shape == (5, 9)
    assert data.point_data["s"].dtype == np.float64
    assert data.point_data["u"].dtype == np.float64
    assert [c.type for c in data.cells] == ["quad", "triangle"]
    assert [a.tolist() for a in data.cell_data["on"]] == [[1], [0]]
    assert sorted(p.name for p in file.parent.iterdir()) == ["a.vtu"]


@pytest.mark.parametrize("name", INTEGRATED_CELLS)
def test_vtu_keeps_every_cell_type(tmp_path: Path, name: str) -> None:
    x = one_cell(name)
    mesh = Mesh(x, {name: np.arange(len(x))[None]})
    again = read_mesh(write_vtu(tmp_path / "a.vtu", mesh))
    np.testing.assert_array_equal(again.points, mesh.points)
    np.testing.assert_array_equal(again.blocks[0].nodes, mesh.blocks[0].nodes)


@pytest.mark.parametrize(
    "values", [np.zeros(4), np.zeros((5, 0)), np.zeros((5, 2, 3)), np.zeros(5, complex), np.array(list("abcde"))]
)
def test_write_vtu_checks_fields(tmp_path: Path, values: np.ndarray) -> None:
    points = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [2, 0]], dtype=float)
    mesh = Mesh(points, {"quad": [[0, 1, 2, 3]], "triangle": [[1, 4, 2]]})
    with pytest.raises(InvalidMeshError, match="'f'"):
        write_vtu(tmp_path / "a.vtu", mesh, point_data={"f": values})
    with pytest.raises(InvalidMeshError, match="cell data 'c'"):
        write_vtu(tmp_path / "a.vtu", mesh, cell_data={"c": np.zeros(5)})
    with pytest.raises(InvalidMeshError, match="need a name"):
        write_vtu(tmp_path / "a.vtu", mesh, cell_data={"": np.zeros(2)})
    assert not list(tmp_path.iterdir())


def test_write_vtu_reports_system_errors(tmp_path: Path) -> None:
    x = one_cell("tetra")
    mesh = Mesh(x, {"tetra": [[0, 1, 2, 3]]})
    (tmp_path / "file").write_text("")
    with pytest.raises(MeshFileError, match="cannot be written"):
        write_vtu(tmp_path / "file" / "a.vtu", mesh)
    with pytest.raises(MeshFileError, match=r"must end in \.vtu"):
        write_vtu(tmp_path / "a.vtk", mesh)
    (tmp_path / "a.vtu").mkdir()
    with pytest.raises(MeshFileError, match="cannot be written"):
        write_vtu(tmp_path / "a.vtu", mesh)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.vtu", "file"]
    assert math.isfinite(mesh.volume())
