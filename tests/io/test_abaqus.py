"""Abaqus decks: what is not understood is said or refused, with file and line."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from femadj.errors import MeshFileError, TangledMeshError, UnsupportedCellError
from femadj.io import ImportReport, MeshFileWarning, read_mesh, read_mesh_with_report
from femadj.mesh import Mesh

PLATE = (
    "*NODE\n10, 0., 0.\n20, 2., 0.\n30, 4., 0.\n40, 0., 3.\n50, 2., 3.\n60, 4., 3.\n"
    "*ELEMENT, TYPE=CPS4, ELSET=plate\n7, 10, 20, 50, 40\n9, 20, 30, 60, 50\n"
)


def read(folder: Path, text: str | bytes, name: str = "deck.inp") -> tuple[Mesh, ImportReport]:
    """Read a deck."""
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_mesh_with_report(file)


def ids(mesh: Mesh, group: str) -> list[int]:
    """Ids of the nodes of a group."""
    return mesh.node_ids[mesh.node_groups[group]].tolist()


# ---------------------------------------------------------------------- scopes
ASSEMBLY = (
    "*Part, name=Beam\n*Node\n1, 0., 0.\n2, 5., 0.\n3, 5., 1.\n4, 0., 1.\n*Element, type=CPE4\n1, 1, 2, 3, 4\n"
    "*Nset, nset=Ends, generate\n1, 4, 1\n*Elset, elset=Whole\n1\n*Surface, name=Face\nWhole, S1\n*Nset, nset=Own\n2\n"
    "*End Part\n**\n*Assembly, name=A\n*Instance, name=Beam.1, part=Beam\n*End Instance\n"
    "*Node, nset=Point\n1, 50., 50.\n*Nset, nset=Ref\n1\n*Nset, nset=Ends, instance=Beam.1\n2, 3\n"
    "*Nset, nset=More\nBeam.1.4, Beam.1.Own, Ends\n*Elset, elset=Whole, instance=Beam.1\n1\n"
    "*Surface, name=Face\nBeam.1.Whole, S3\n*Nset, nset=ByElset, instance=Beam.1, elset=Whole\n*End Assembly\n"
)


def test_sets_of_part_and_assembly_are_two(tmp_path: Path) -> None:
    mesh, report = read(tmp_path, ASSEMBLY)
    assert mesh.n_nodes == 4
    assert ids(mesh, "Ends") == [2, 3]
    assert ids(mesh, "Beam.1.Ends") == [1, 2, 3, 4]
    assert ids(mesh, "More") == [2, 3, 4]
    assert ids(mesh, "ByElset") == [1, 2, 3, 4]
    assert mesh.points[mesh.nodes_of("Face"), 1].tolist() == [1.0, 1.0]
    assert mesh.points[mesh.facet_nodes(mesh.facets("Beam.1.Face")), 1].tolist() == [0.0, 0.0]
    assert "Own" in mesh.node_groups
    assert "Ref" not in mesh.node_groups
    assert any("reference points 1" in d for d in report.dropped)
    assert any("'Ref'" in w and "line 24" in w for w in report.warnings)


def test_cells_beside_a_part_and_strange_instances_are_refused(tmp_path: Path) -> None:
    beside = "*Node\n5, 1., 1.\n6, 2., 1.\n7, 1., 2.\n*Element, type=CPS3\n8, 5, 6, 7\n*End Assembly"
    with pytest.raises(MeshFileError, match="of the assembly beside those of the part"):
        read(tmp_path, ASSEMBLY.replace("*Node, nset=Point\n1, 50., 50.\n", "").replace("*End Assembly", beside))
    with pytest.raises(MeshFileError, match=r"line 26: there is no instance 'Beam\.2'"):
        read(tmp_path, ASSEMBLY.replace("nset=Ends, instance=Beam.1", "nset=Ends, instance=Beam.2"))
    with pytest.raises(MeshFileError, match="has no parameter 'LIBRARY'"):
        read(tmp_path, ASSEMBLY.replace("part=Beam", "part=Beam, library=old"))


def test_an_instance_may_be_moved(tmp_path: Path) -> None:
    plain, _ = read(tmp_path, ASSEMBLY)
    for lines, expected in (
        ("2., -1.\n", plain.points + np.array([2.0, -1.0])),
        (
            "2., -1., 0.\n2., -1., 0., 2., -1., 1., 90.\n",
            plain.points @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + np.array([2.0, -1.0]),
        ),
    ):
        mesh, _ = read(tmp_path, ASSEMBLY.replace("part=Beam\n", "part=Beam\n" + lines))
        np.testing.assert_allclose(mesh.points, expected, rtol=0, atol=1e-14)
        assert ids(mesh, "Ends") == [2, 3]
    for lines, said in (
        ("2., a\n", "line 21: an instance is moved by"),
        ("0., 0.\n1., 1., 1., 1., 1., 1., 30.\n", "line 22: the two points of the axis"),
        ("0., 0.\n1., 1., 0., 1., 1., 1., 30.\n1.\n", "line 23: an instance is moved by"),
    ):
        with pytest.raises(MeshFileError, match=said):
            read(tmp_path, ASSEMBLY.replace("part=Beam\n", "part=Beam\n" + lines))


# ---------------------------------------------------------------------- keyword lines
@pytest.mark.parametrize(
    ("card", "size"),
    [
        ("*NSET, NSET=g,\n10, 20, 30\n40\n", 4),
        ("*NSET, NSET=g, \n10,\n", 1),
        ("*NSET,\nNSET=g,\n** remark\nGENERATE\n10, 50, 20\n", 3),
        ("*nset,nset=g,gen\n10, 60, 10\n", 6),
        ("*NSET, NSET=some\n10, 60\n*NSET, NSET=g,\nsome, 20\n", 3),
        ("*NSET, NSET=g, UNSORTED\n60, 10,\n", 2),
    ],
)
def test_lines_that_end_with_a_comma(tmp_path: Path, card: str, size: int) -> None:
    mesh, report = read(tmp_path, PLATE + card)
    assert len(mesh.node_groups["g"]) == size
    assert report.warnings == ()


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("*NSET, NSET=g, GENARATE\n10, 60, 10\n", "line 11: .*'GENARATE'.*did you mean GENERATE"),
        ("*ELSET, ELSET=g, GENERATED\n7, 9\n", "'GENERATED'"),
        ("*SURFACE, NAME=g, TPYE=NODE\n10,\n", "'TPYE'"),
        ("*ELEMENT, TYPE=CPS3, OFFSET=5\n20, 10, 20, 50\n", "'OFFSET'"),
        ("*NODE, SYSTEM=R, NSTE=g\n70, 0., 0.\n", "'NSTE'"),
        ("*NSET, NSET=g, NSET=h\n10\n", "NSET twice"),
        ("*ELMENT, TYPE=CPS3\n20, 10, 20, 50\n", "ELMENT is no keyword; did you mean .ELEMENT"),
        ("*SURFCE, NAME=g\n7, S1\n", "line 11: .SURFCE is no keyword"),
        ("*ELSETS, ELSET=g\n7\n", "did you mean"),
        ("*IMPERFECTION, FILE=old, STEP=1\n1, 0.1\n", "moves nodes"),
        ("*NSET, NSET=g\n10, 4.5\n", "line 12: '4.5' is neither"),
        ("*NSET, NSET=g\n-10\n", "line 12: '-10' is neither"),
        ("*NSET, NSET=g, GENERATE\n10, 60.5\n", "line 12: GENERATE needs"),
        ("*NSET, NSET=g, GENERATE\n60, 10\n", "line 12: GENERATE needs"),
        ("*NODE\n70.5, 1., 1.\n", "line 12: the node id 70.5 is no whole number"),
        ("*ELEMENT, TYPE=CPS3\n20.25, 10, 20, 50\n", "line 12: the id 20.25"),
        ("*ELEMENT, TYPE=CPS3\n20, 10, 20, 50, 60\n21, 10, 20\n", "line 12: element 20 .* ends within a line"),
        ("*ELEMENT, TYPE=CPS3\n20, 10, , 50\n", "line 12: an empty field"),
        ("*ELEMENT, TYPE=CPS3\n20, 10, 20 50\n", "line 12: expected numbers, found '20 50'"),
        ("*NODE\n70, 1., 1.\n71, 1., l.\n", "line 13: expected numbers, found 'l.'"),
        ("*ELSET, ELSET=a\nb\n*ELSET, ELSET=b\nc\n*ELSET, ELSET=c\na\n", "contains itself"),
        ("*NSET, NSET=a\nplate.9\n", "'plate.9', which does not exist"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, card: str, message: str) -> None:
    with pytest.raises(MeshFileError, match=message) as caught:
        read(tmp_path, PLATE + card)
    assert "deck.inp" in str(caught.value)


def test_common_keywords_are_no_mesh(tmp_path: Path) -> None:
    names = (
        "Preprint, Heading, Solid Section, Shell Section, Material, Elastic, Density, Expansion, Boundary, Step, "
        "Static, Frequency, Buckle, Dynamic, Cload, Dload, Dsload, Amplitude, Equation, MPC, Tie, "
        "Coupling, Kinematic, Contact Pair, Surface Interaction, Surface Behavior, Friction, Output, Node Output, "
        "Element Output, Contact Output, Node File, El File, Node Print, El Print, Restart, Initial Conditions, "
        "Temperature, Orientation, Distribution, Distribution Table, Section Controls, Time Points, Film, "
        "Radiate, Physical Constants, No Analysis, End Step, Beam Section, Spring, Mass, Rigid Body, Nodal Thickness"
    )
    _, report = read(tmp_path, PLATE + "".join(f"*{n}\n" for n in names.split(", ")))
    assert report.warnings == ()
    _, report = read(tmp_path, PLATE + "*STEP\n*MODEL CHANGE, REMOVE\nplate\n")
    assert any("line 12: *MODEL CHANGE takes elements out" in w for w in report.warnings)


def test_unknown_keywords_are_told(tmp_path: Path) -> None:
    _, report = read(tmp_path, PLATE + "*WONDERFUL THING, A=1\n1, 2\n*MATERIAL, NAME=m\n*ELASTIC\n1., 0.\n")
    assert any("line 11" in w and "WONDERFUL THING" in w for w in report.warnings)
    assert any("*MATERIAL, *ELASTIC" in r for r in report.remarks)


@pytest.mark.parametrize("mark", [b"\x85", b"\x0b", b"\x0c", b"\x1c", b"\x1e", "\u2028".encode(), "\x85".encode()])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_only_cr_and_lf_end_lines(tmp_path: Path, mark: bytes, end: bytes) -> None:
    deck = (PLATE.encode() + b"*NSET, NSET=g\n10\n** was" + mark + b"20\n** and" + mark + b"*NSET, NSET=h\n").replace(
        b"\n", end
    )
    mesh, _ = read(tmp_path, deck)
    assert ids(mesh, "g") == [10]
    assert list(mesh.node_groups) == ["g"]


def test_data_lines_of_included_files(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "nodes.txt").write_text("20, 2., 0.\n30, 4., 0.\n** nothing\n40, 0., 3.\n")
    (tmp_path / "members.txt").write_text("20, 30\n")
    deck = PLATE.replace("20, 2., 0.\n30, 4., 0.\n40, 0., 3.\n", "*INCLUDE, INPUT=more/nodes.txt\n")
    mesh, _ = read(tmp_path, deck + "*NSET, NSET=g\n10\n*INCLUDE, INPUT=members.txt\n60\n")
    assert mesh.volume() == pytest.approx(12.0)
    assert ids(mesh, "g") == [10, 20, 30, 60]


# ---------------------------------------------------------------------- names
def test_names_with_points_and_surfaces_of_one_name(tmp_path: Path) -> None:
    cards = (
        "*NSET, NSET=hole.20\n10, 60\n*NSET, NSET=g\nhole.20, 30\n*NSET, NSET=INF\n40\n*NSET, NSET=h\nINF\n"
        "*SURFACE, TYPE=NODE, NAME=edge\n10,\n40,\n*SURFACE, TYPE=ELEMENT, NAME=edge\nplate, S3\n"
    )
    mesh, _ = read(tmp_path, PLATE + cards)
    assert ids(mesh, "hole.20") == [10, 60]
    assert ids(mesh, "g") == [10, 30, 60]
    assert ids(mesh, "h") == [40]
    assert ids(mesh, "edge") == [10, 40]
    assert len(mesh.facets("edge")) == 2


def test_quoted_names(tmp_path: Path) -> None:
    mesh, _ = read(
        tmp_path, PLATE + '*NSET, NSET="a, b"\n10\n*NSET, NSET=c\n"a, b", 20\n*SURFACE, NAME=s, TYPE=NODE\n"a, b",\n'
    )
    assert ids(mesh, "a, b") == [10]
    assert ids(mesh, "c") == [10, 20]
    assert ids(mesh, "s") == [10]


def test_incomplete_surfaces_are_left_out_with_the_reason(tmp_path: Path) -> None:
    _, report = read(tmp_path, PLATE + "*SURFACE, NAME=s\nplate, S1\nnone, S2\n*SURFACE, NAME=t\n7, S1, 3\n")
    assert any("line 13: the cell set 'none' does not exist" in d for d in report.dropped)
    assert any("'t'" in d for d in report.dropped)


def test_bad_elements_are_named_as_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(TangledMeshError, match="elements 9 of the file") as caught:
        read(tmp_path, PLATE.replace("9, 20, 30, 60, 50", "9, 20, 30, 50, 60"))
    assert caught.value.cells == (1,)
    assert "deck.inp" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="elements 12 of the file duplicate elements 9 of the file"):
        read(tmp_path, PLATE + "*ELEMENT, TYPE=CPS4\n12, 20, 30, 60, 50\n")
    mesh, _ = read(tmp_path, PLATE)
    assert mesh.cell_ids is not None
    flat = mesh.points * np.array([1.0, 0.0])
    with pytest.raises(TangledMeshError, match="elements 7, 9 of the file"):
        mesh.with_points(flat)


def test_fifteen_nodes_of_a_wedge(tmp_path: Path) -> None:
    nodes = "".join(f"{i}, {i % 4}., {i % 3}., {i % 5}.\n" for i in range(1, 16))
    wide = f"1, {', '.join(map(str, range(1, 16)))}"
    with pytest.raises(UnsupportedCellError, match=r"1 cells of type 'wedge15' \(the first is element 1"):
        read(tmp_path, f"*NODE\n{nodes}*ELEMENT, TYPE=C3D15, ELSET=E\n{wide}\n*SURFACE, NAME=s\nE, S1\nE,\n")


def test_warnings_reach_the_user(tmp_path: Path) -> None:
    file = tmp_path / "ring.inp"
    file.write_text(PLATE.replace("CPS4", "CAX4"))
    with pytest.warns(MeshFileWarning, match="line 8: axisymmetric"):
        read_mesh(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "axisymmetric" in str(read_mesh_with_report(file)[1])


# ---------------------------------------------------------------------- bounds
def test_time_and_memory_are_bounded(tmp_path: Path) -> None:
    start = time.perf_counter()
    mesh, report = read(tmp_path, PLATE + "*NSET, NSET=g, GENERATE\n1, 400000000, 1\n20, 900000000000, 10\n")
    assert len(mesh.node_groups["g"]) == 6
    assert any("do not exist" in w for w in report.warnings)
    chain = "".join(f"*NSET, NSET=n{k}\nn{k + 1}, n{(k + 2) % 3000}\n" for k in range(2998))
    mesh, _ = read(tmp_path, PLATE + chain + "*NSET, NSET=n2998\n10\n*NSET, NSET=n2999\n20\n")
    assert ids(mesh, "n0") == [10, 20]
    for k in range(30):
        (tmp_path / f"f{k}.inp").write_text(f"*INCLUDE, INPUT=f{k + 1}.inp\n" * 2)
    (tmp_path / "f30.inp").write_text(PLATE)
    with pytest.raises(MeshFileError, match="is included more than"):
        read_mesh(tmp_path / "f0.inp")
    (tmp_path / "f30.inp").write_text("*INCLUDE, INPUT=f3.inp\n")
    with pytest.raises(MeshFileError, match="includes itself"):
        read_mesh(tmp_path / "f0.inp")
    with pytest.raises(MeshFileError, match="too large"):
        read(tmp_path, PLATE + "*NSET, NSET=g\n" + "7" * 6000 + "\n")
    assert time.perf_counter() - start < 10.0


def test_groups_larger_than_any_use_are_refused(tmp_path: Path) -> None:
    n = 3000
    nodes = "".join(f"{i + 1}, {i // 2}., {i % 2}.\n" for i in range(n))
    cells = "".join(f"{k + 1}, {2 * k + 1}, {2 * k + 3}, {2 * k + 4}, {2 * k + 2}\n" for k in range(n // 2 - 1))
    sets = "".join(f"*NSET, NSET=s{k}, GENERATE\n1, {n}\n" for k in range(5000))
    with pytest.raises(MeshFileError, match="many times as many members"):
        read(tmp_path, f"*NODE\n{nodes}*ELEMENT, TYPE=CPS4\n{cells}{sets}")
