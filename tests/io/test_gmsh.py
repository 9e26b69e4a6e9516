"""Gmsh files: names, leftovers, numbers, and groups that scikit-fem keeps in them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skfem

from femadj.errors import MeshFileError, UnsupportedCellError
from femadj.io import read_mesh_with_report
from tests.io.samples import MSH2, MSH4

SOLIDS: dict[str, Any] = {
    "triangle": skfem.MeshTri().refined(2),
    "triangle6": skfem.MeshTri2().refined(1),
    "quad": skfem.MeshQuad().refined(2),
    "quad9": skfem.MeshQuad2().refined(1),
    "tetra": skfem.MeshTet().refined(1),
    "tetra10": skfem.MeshTet2().refined(1),
    "hexahedron": skfem.MeshHex().refined(1),
    "hexahedron27": skfem.MeshHex2().refined(1),
}


@pytest.mark.parametrize("name", SOLIDS)
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".msh", {}),
        (".msh", {"file_format": "gmsh", "binary": False}),
        (".msh", {"file_format": "gmsh22", "binary": True}),
        (".vtu", {}),
        (".vtk", {}),
    ],
)
def test_groups_of_scikit_fem(tmp_path: Path, name: str, suffix: str, options: dict[str, Any]) -> None:
    theirs = SOLIDS[name].with_boundaries({"west": lambda x: x[0] < 1e-9, "top": lambda x: x[1] > 1 - 1e-9})
    theirs = theirs.with_subdomains({"half": lambda x: x[0] < 0.5})
    theirs.save(tmp_path / f"a{suffix}", **options)
    mesh, _ = read_mesh_with_report(tmp_path / f"a{suffix}")
    assert set(mesh.facet_groups) == {"west", "top"}
    for group, axis, value in (("west", 0, 0.0), ("top", 1, 1.0)):
        assert len(mesh.facets(group)) == len(theirs.boundaries[group])
        assert (np.abs(mesh.points[mesh.facet_nodes(mesh.facets(group)), axis] - value) < 1e-12).all()
    assert (mesh.cell_centres()[mesh.cell_groups["half"], 0] < 0.5).all()
    assert len(mesh.cell_groups["half"]) == len(theirs.subdomains["half"])


def test_names_without_quotes(tmp_path: Path) -> None:
    file = tmp_path / "a.msh"
    for name in ("body", '"the body"', "the body", '"a ""b"""'):
        file.write_text(MSH4.replace("3 1 body", f"3 1 {name}"))
        assert list(read_mesh_with_report(file)[0].cell_groups) == [name[1:-1] if name[0] == '"' else name]


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (MSH2, "2.0 1.0 1.0\n", "2.0 1.0 1.0\n13 0 0 0\n", "Nodes: 4 numbers more than its counts say"),
        (MSH2, "3 3 2 2 1 1 2 3 4\n", "3 3 2 2 1 1 2 3 4\n4 3 2 2 1 5 6 7 8\n", "Elements: 9 numbers more"),
        (MSH2, "\n3 1.0 1.0 0.0", "\n3.5 1.0 1.0 0.0", "the node id 3.5 is no whole number"),
        (MSH2, "3 3 2 2 1 1 2 3 4\n", "3 3 2 2 1 1 2 3 4.5\n", "4.5 is no whole number"),
        (MSH2, "\n3 1.0 1.0 0.0", "\n3 1.0 l.0 0.0", "line 13: expected numbers"),
        (MSH2, '2\n3 1 "body"', '3\n3 1 "body"', "2 names instead of 3"),
        (MSH2, '2 2 "low"', '3 1 "low"', "two names, 'body' and 'low'"),
        (MSH2, "$Elements", "$Nodes\n0\n$EndNodes\n$Elements", "there are two of it"),
        (MSH4, "\n5\n6\n", "\n5\n6.25\n", "6.25 is no whole number"),
        (MSH4, "3 1 0 12", "7 1 0 12", "dimension 7"),
        (MSH4, "2 1 3 1", "1 1 3 1", "1 quad elements of dimension 1"),
        (MSH4, "3 1 2 3 4\n", "3 1 2 3 4\n4 5 6 7 8\n", "Elements: 5 numbers more"),
        (MSH4, "0 0 1 1", "0 0 1 1000000000", "ends too early"),
        (MSH2, "1 4\n2 0\n", "1 4\n", "ends too early or is damaged"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, text: str, old: str, new: str, message: str) -> None:
    assert old in text
    (tmp_path / "a.msh").write_text(text.replace(old, new, 1))
    with pytest.raises(MeshFileError, match=message) as caught:
        read_mesh_with_report(tmp_path / "a.msh")
    assert "a.msh" in str(caught.value)


@pytest.mark.parametrize(
    ("number", "nodes", "name"), [(18, 15, "wedge15"), (19, 13, "pyramid13"), (92, 64, "hexahedron64")]
)
def test_cells_that_are_known_and_not_supported(tmp_path: Path, number: int, nodes: int, name: str) -> None:
    points = "".join(f"{i} {i % 3} {i % 4} {i % 5}\n" for i in range(1, nodes + 1))
    (tmp_path / "a.msh").write_text(
        f"$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$Nodes\n{nodes}\n{points}$EndNodes\n$Elements\n1\n"
        f"77 {number} 2 1 1 {' '.join(map(str, range(1, nodes + 1)))}\n$EndElements\n"
    )
    with pytest.raises(UnsupportedCellError, match=f"'{name}' .the first is element 77"):
        read_mesh_with_report(tmp_path / "a.msh")


def test_results_are_named_as_left_out(tmp_path: Path) -> None:
    data = '$NodeData\n1\n"T"\n1\n0.0\n3\n0\n1\n1\n1 4.0\n$EndNodeData\n'
    (tmp_path / "a.msh").write_text(MSH4 + data)
    _, report = read_mesh_with_report(tmp_path / "a.msh")
    assert any("NodeData 'T'" in d for d in report.dropped)


def test_many_groups_are_matched_together(tmp_path: Path) -> None:
    n = 6000
    nodes = "".join(f"{i + 1} {i // 2} {i % 2} 0\n" for i in range(n))
    pairs = "".join(
        f"{2 * k + 1} 3 2 1 1 {2 * k + 1} {2 * k + 3} {2 * k + 4} {2 * k + 2}\n"
        f"{2 * k + 2} 1 2 {k + 1} 1 {2 * k + 1} {2 * k + 2}\n"
        for k in range(n // 2 - 1)
    )
    (tmp_path / "a.msh").write_text(
        f"$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$Nodes\n{n}\n{nodes}$EndNodes\n"
        f"$Elements\n{n - 2}\n{pairs}$EndElements\n"
    )
    start = time.process_time()
    mesh, _ = read_mesh_with_report(tmp_path / "a.msh")
    assert time.process_time() - start < 3.0  # a search for each group would take ten
    assert len(mesh.facet_groups) == n // 2 - 1
    assert mesh.facet_nodes(mesh.facets("7")).tolist() == [12, 13]
