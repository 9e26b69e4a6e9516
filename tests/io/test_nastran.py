"""Nastran bulk data in the dialects of programs and people."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest

from femadj.errors import MeshFileError, UnsupportedCellError
from femadj.io import ImportReport, nastran, read_mesh_with_report
from femadj.mesh import Mesh
from femadj.mesh.reference import CELL_TYPES

PRISM = [(0, 0, 0), (3, 0, 0), (3, 2, 0), (0, 2, 0), (0, 0, 0.5), (3, 0, 0.5), (3, 2, 0.5), (0, 2, 0.5)]


def small(name: str, *words: object) -> str:
    """A card with small fields; continuation lines have marks."""
    texts = [f"{w:>8}" for w in words]
    lines = ["".join(texts[i : i + 8]) for i in range(0, len(texts), 8)]
    return f"{name:8}" + "+\n+       ".join(lines) + "\n"


GRIDS = "".join(small("GRID", i, "", *(f"{c:.2f}" for c in p)) for i, p in enumerate(PRISM, start=1))
FREE = "".join(f"GRID,{i},,{x:.1f},{y:.1f},{z:.1f}\n" for i, (x, y, z) in enumerate(PRISM, start=1))
BRICK = small("CHEXA", 1, 9, 1, 2, 3, 4, 5, 6, 7, 8)


def read(
    folder: Path, bulk: str, head: str = "SOL 101\nCEND\nBEGIN BULK\n", tail: str = "ENDDATA\n"
) -> tuple[Mesh, ImportReport]:
    """Read bulk data."""
    file = folder / "deck.bdf"
    file.write_text(head + bulk + tail)
    return read_mesh_with_report(file)


@pytest.mark.parametrize(
    "bulk",
    [
        GRIDS + BRICK,
        (GRIDS + BRICK).lower(),
        FREE + "CHEXA,1,9,1,2,3,4,5,6,+A\n+A,7,8\n",
        FREE + "CHEXA,1,9,1,2,3,4,5,6\n,7,8\n",
        FREE.replace("\n", "  $ a corner, of eight\n") + BRICK,
        GRIDS + BRICK.replace("+", " "),
        GRIDS + "\n".join(line.rstrip() for line in BRICK.replace("+", " ").splitlines()) + "\n",
        GRIDS + BRICK.replace("6+\n+  ", "6+B1\n+B1"),
        GRIDS + "CHEXA\t1\t9\t1\t2\t3\t4\t5\t6\n\t7\t8\n",
        GRIDS + "CHEXA*                 1               9               1               2\n"
        "*                      3               4               5               6\n"
        "*                      7               8\n",
        FREE.replace("GRID,", "GRID*,").replace(",0.0\n", "\n*,0.0\n").replace(",0.5\n", "\n*,.5\n") + BRICK,
        FREE.replace("3.0", "+.3+1").replace("0.5", "5.-1").replace("2.0", "2.D0") + BRICK,
        FREE.replace(",0.0", ",") + BRICK,
        BRICK.splitlines()[1].replace("+       ", "+Z9     ") + "\n" + GRIDS + BRICK.splitlines()[0][:-1] + "+Z9\n",
        small("GRDSET", "", 0) + GRIDS + "$ nothing\n\n" + BRICK,
        GRIDS + GRIDS.splitlines()[2] + "\n" + BRICK,
    ],
)
def test_a_brick_in_many_hands(tmp_path: Path, bulk: str) -> None:
    mesh, report = read(tmp_path, bulk)
    assert mesh.volume() == pytest.approx(3.0)
    assert mesh.cell_groups["property:9"].tolist() == [0]
    assert mesh.node_ids.tolist() == list(range(1, 9))
    assert report.warnings == ()


@pytest.mark.parametrize(("head", "tail"), [("", "ENDDATA\n"), ("begin bulk\n", "enddata"), ("BEGIN  BULK\n", "")])
def test_beginnings_and_ends(tmp_path: Path, head: str, tail: str) -> None:
    mesh, report = read(tmp_path, GRIDS + BRICK, head, tail)
    assert mesh.volume() == pytest.approx(3.0)
    assert bool(report.warnings) is (tail == "")
    (tmp_path / "deck.bdf").rename(tmp_path / "deck.dat")
    assert read_mesh_with_report(tmp_path / "deck.dat")[0].n_cells == 1


def test_skins_springs_and_sets(tmp_path: Path) -> None:
    bulk = (
        GRIDS + BRICK + small("CQUAD4", 2, 4, 1, 2, 6, 5, "30.", "0.1") + small("CTRIA3", 3, 5, 1, 2, 3, 0)
        + small("CELAS2", 9, "1.+6", 1, 1) + small("CBAR", 10, 6, 1, 2, "1.", "0.", "0.")
        + "SET1,40,1,THRU,4,EXCEPT,2\n"
        + "SET3,41,ELEM,2,THRU,500\nSET3,42,PROP,9\nSET1,43,1,400\nPSOLID,9,1\nMAT1,1,7.+4,,.3\n"
    )  # fmt: skip
    mesh, report = read(tmp_path, bulk, "SET 1 = 1 THRU 4\nCEND\nBEGIN BULK\n")
    assert len(mesh.facets("property:4")) == 1
    assert "property:6" in mesh.node_groups
    assert mesh.node_groups["set:40"].tolist() == [0, 2, 3]
    assert "set:41" in mesh.facet_groups
    assert mesh.cell_groups["set:42"].tolist() == [0]
    assert any("CELAS2" in d and "line" in d for d in report.dropped)
    assert any("1 of its grid points do not exist" in w for w in report.warnings)
    assert any("PSOLID (1), MAT1 (1)" in r for r in report.remarks)
    assert any("case control" in r for r in report.remarks)


@pytest.mark.parametrize("name", ["tetra", "tetra10", "hexahedron", "hexahedron20", "wedge", "triangle6", "quad8"])
def test_node_order(tmp_path: Path, name: str) -> None:
    cell = CELL_TYPES[name]
    x = np.pad(cell.nodes * 2.0, ((0, 0), (0, 3 - cell.dim)))
    order = list(range(cell.n_nodes))
    if name == "hexahedron20":  # the guides: upright edges before those of the top
        order = [*range(12), 16, 17, 18, 19, 12, 13, 14, 15]
    card = {"tetra": "CTETRA", "hexahedron": "CHEXA", "wedge": "CPENTA", "triangle": "CTRIA6", "quad": "CQUAD8"}
    grids = "".join(small("GRID", i + 1, "", *(f"{c:.1f}" for c in p)) for i, p in enumerate(x.tolist()))
    mesh, _ = read(tmp_path, grids + small(card[cell.shape], 1, 1, *(k + 1 for k in order)))
    assert mesh.blocks[0].type == name
    assert mesh.blocks[0].nodes[0].tolist() == list(range(cell.n_nodes))


def test_coordinate_systems(tmp_path: Path) -> None:
    # a cylinder around x, standing at (1, 0, 0); a sphere system in it; one by grid points
    systems = (
        "CORD2C,5,0,1.,0.,0.,2.,0.,0.\n,1.,1.,0.\n"
        "CORD2S,6,5,0.,0.,0.,0.,0.,1.\n,1.,0.,0.\n"
        "CORD1R,7,11,12,13,8,11,12,14\n"
    )
    grids = (
        "GRDSET,,5\nGRID,1,,2.,90.,3.\nGRID,2,0,0.,0.,0.\nGRID,3,6,2.,90.,0.\nGRID,4,7,1.,2.,3.\n"
        "GRID,11,0,1.,1.,1.\nGRID,12,0,1.,1.,2.\nGRID,13,0,2.,1.,1.\nGRID,14,0,1.,2.,1.\nGRID,15,8,1.,0.,0.\n"
    )
    mesh, _ = read(tmp_path, systems + grids + "CTETRA,1,1,2,1,3,4\nCTETRA,2,1,11,12,13,14\nCTETRA,3,1,15,12,13,2\n")
    where = dict(zip(mesh.node_ids.tolist(), mesh.points.tolist(), strict=True))
    # the axis of 5 is x, its first direction y, so that 90 degrees point to z
    np.testing.assert_allclose(where[1], (1 + 3, 0, 2), atol=1e-12)
    np.testing.assert_allclose(where[3], (1, 2, 0), atol=1e-12)
    np.testing.assert_allclose(where[4], (1 + 1, 1 + 2, 1 + 3), atol=1e-12)
    np.testing.assert_allclose(where[15], (1, 2, 1), atol=1e-12)
    assert math.isfinite(mesh.volume())


def test_included_files(tmp_path: Path) -> None:
    (tmp_path / "the parts").mkdir()
    (tmp_path / "the parts" / "brick.inc").write_text(BRICK)
    (tmp_path / "grid.inc").write_text(GRIDS)
    for name in ("'the parts/brick.inc'", "'the parts/\n  brick.inc'", '"the parts/brick.inc"'):
        mesh, _ = read(tmp_path, f"include grid.inc\nINCLUDE {name}\n")
        assert mesh.volume() == pytest.approx(3.0)
    with pytest.raises(MeshFileError, match=r"line 4, INCLUDE: .*'gone\.inc'"):
        read(tmp_path, "INCLUDE 'gone.inc'\n")
    with pytest.raises(MeshFileError, match="no closing"):
        read(tmp_path, "INCLUDE 'gone.inc\n" + GRIDS)
    with pytest.raises(MeshFileError, match="includes itself"):
        read(tmp_path, "INCLUDE 'deck.bdf'\n")


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("GRID,3,,", "GRID,3,77,", MeshFileError, "coordinate system 77, which is not defined"),
        ("GRID,3,,3.0", "GRID,3,,3.x", MeshFileError, "line 6, GRID, field 4: '3.x' is no number"),
        ("GRID,3,,3.0", "GRID,3,,1.+999", MeshFileError, "too large"),
        ("GRID,3,", "GRID,3.5,", MeshFileError, "line 6, GRID, field 2: '3.5' is no whole number"),
        ("GRID,3,", "=,*1,=,*1.,==\nGRID,3,", MeshFileError, "line 6: replicated cards"),
        ("GRID,3,", "GRID,2,", MeshFileError, "grid points 2 occur more than once"),
        ("7,8", "7,80", MeshFileError, "grid points 80, which do not exist"),
        ("7,8", "7", MeshFileError, "line 12, CHEXA 1: one of its 8 corners is missing"),
        ("7,8", "7,8,9", UnsupportedCellError, "1 mid-side nodes"),
        ("CHEXA,1", "CHEXX,1", UnsupportedCellError, "line 12: 1 cards CHEXX"),
        ("CHEXA,1", "CQUADX4,1", UnsupportedCellError, "CQUADX4"),
        (",5,6\n,7,8", ",5,6,7,8", MeshFileError, "line 12, CHEXA: more than 8 fields"),
        ("CHEXA,1,9,1,2,3,4,5,6\n,7,8", "CPYRAM,1,9,1,2,3,4,5", UnsupportedCellError, "pyramid"),
        ("GRID,1,", "+Q,5\nGRID,1,", MeshFileError, "continuation"),
        ("GRID,1,", "CORD2R,5,5,0.,0.,0.,0.,0.,1.\n,1.,0.,0.\nGRID,1,5", MeshFileError, "on itself|are given in"),
        ("GRID,1,", "CORD2R,5,0,0.,0.,0.,0.,0.,1.\n,0.,0.,2.\nGRID,1,5", MeshFileError, "lie on a line"),
        ("GRID,1,", "BEGIN SUPER=2\nGRID,1,", MeshFileError, "superelements"),
        ("GRID,1,", "SET1,4,9,THRU,2\nGRID,1,", MeshFileError, "9 THRU 2"),
        ("GRID,1,", "GRID*                  90\n              0.\nGRID,1,", MeshFileError, "must begin with a star"),
    ],
)
def test_damaged_decks(tmp_path: Path, old: str, new: str, error: type[Exception], message: str) -> None:
    deck = FREE + "CHEXA,1,9,1,2,3,4,5,6\n,7,8\n"
    assert old in deck
    with pytest.raises(error, match=message) as caught:
        read(tmp_path, deck.replace(old, new, 1))
    assert "deck.bdf" in str(caught.value)


def test_strange_decks_end(tmp_path: Path) -> None:
    start = time.perf_counter()
    for text in ("GRID,1,,0.,0.,0.\nENDDATA\nBEGIN BULK", "BEGIN BULK\nBEGIN BULK\n", "BEGIN BULK", "ENDDATA"):
        (tmp_path / "a.bdf").write_text(text)
        with pytest.raises(MeshFileError, match=r"a\.bdf"):
            read_mesh_with_report(tmp_path / "a.bdf")
    for k in range(20):
        (tmp_path / f"i{k}.bdf").write_text(f"INCLUDE 'i{k + 1}.bdf'\n" * 3)
    (tmp_path / "i20.bdf").write_text(GRIDS)
    with pytest.raises(MeshFileError, match="more than 10 times"):
        read_mesh_with_report(tmp_path / "i0.bdf")
    _, report = read(tmp_path, GRIDS + BRICK + "SET1,1,1,THRU,400000000\n")
    assert any(g.name == "set:1" and g.size == 8 for g in report.groups)
    assert time.perf_counter() - start < 5.0
    assert nastran.is_bulk(tmp_path / "a.bdf") is False
