"""Exodus, MED, formats that nobody reads, flat and curved surfaces, threads."""

from __future__ import annotations

import contextlib
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import meshio
import numpy as np
import pytest
from scipy.io import netcdf_file

from femadj.errors import FemadjError, InvalidMeshError, MeshFileError, UnsupportedCellError
from femadj.io import exodus, read_mesh, read_mesh_with_report
from femadj.mesh import Mesh
from femadj.mesh.reference import CELL_TYPES
from tests.io.samples import samples


# ---------------------------------------------------------------------- Exodus
def test_blocks_and_sets_of_exodus(tmp_path: Path) -> None:
    samples(tmp_path)
    mesh, report = read_mesh_with_report(tmp_path / "a.e")
    assert report.format == "Exodus II"
    assert mesh.volume() == pytest.approx(2.0)
    assert mesh.cell_groups["block:1"].tolist() == [0, 1]
    assert mesh.points[mesh.node_groups["nodeset:1"], 0].tolist() == [0.0] * 4
    sides = mesh.facets("shell")
    assert len(sides) == 2
    assert set(mesh.facet_nodes(sides).tolist()) == {
        0,
        1,
        2,
        3,
        8,
        9,
        10,
        11,
    }  # z = 0 of the first, x = 2 of the second


def one_cell(path: Path, name: str, kind: str, order: list[int], sides: int) -> None:
    """An Exodus file with one cell and a side set for each of its sides."""
    cell = CELL_TYPES[name]
    with netcdf_file(path, "w") as file:
        sizes = {"num_dim": cell.dim, "num_nodes": cell.n_nodes, "num_el_blk": 1, "one": 1, "wide": cell.n_nodes,
                 "num_side_sets": sides}  # fmt: skip
        for key, size in sizes.items():
            file.createDimension(key, size)
        for axis, column in zip("xyz", cell.nodes.T, strict=False):
            file.createVariable(f"coord{axis}", "f8", ("num_nodes",))[:] = column
        cells = file.createVariable("connect1", "i4", ("one", "wide"))
        cells.elem_type = kind
        cells[:] = np.array([order]) + 1
        for side in range(1, sides + 1):
            file.createVariable(f"elem_ss{side}", "i4", ("one",))[:] = [1]
            file.createVariable(f"side_ss{side}", "i4", ("one",))[:] = [side]


@pytest.mark.parametrize(
    ("name", "kind", "sides"),
    [
        ("tetra", "TETRA4", ("124", "234", "134", "123")),
        ("tetra10", "tet10", ("124", "234", "134", "123")),
        ("hexahedron", "HEX", ("1256", "2367", "3478", "1458", "1234", "5678")),
        ("hexahedron20", "HEX20", ("1256", "2367", "3478", "1458", "1234", "5678")),
        ("wedge", "WEDGE6", ("1245", "2356", "1346", "123", "456")),
        ("quad", "SHELL4", ("12", "23", "34", "14")),
        ("triangle6", "TRI6", ("12", "23", "13")),
    ],
)
def test_sides_of_exodus_follow_the_manual(tmp_path: Path, name: str, kind: str, sides: tuple[str, ...]) -> None:
    cell = CELL_TYPES[name]
    order = list(range(cell.n_nodes))
    if name == "hexahedron20":
        order = [*range(12), 16, 17, 18, 19, 12, 13, 14, 15]
    one_cell(tmp_path / "a.exo", name, kind, order, len(sides))
    mesh, _ = read_mesh_with_report(tmp_path / "a.exo")
    assert mesh.blocks[0].type == name
    assert mesh.blocks[0].nodes[0].tolist() == list(range(cell.n_nodes))
    for number, corners in enumerate(sides, start=1):
        nodes = set(mesh.facet_nodes(mesh.facets(f"sideset:{number}")).tolist())
        assert {int(c) - 1 for c in corners} == {n for n in nodes if n < cell.n_corners}
    assert set(exodus.SIDES) == {"tetra", "hexahedron", "wedge", "quad", "triangle"}


def test_exodus_in_words(tmp_path: Path) -> None:
    one_cell(tmp_path / "a.e", "quad", "QUAD", [0, 1, 2, 3], 5)
    _, report = read_mesh_with_report(tmp_path / "a.e")
    assert any("sideset:5" in d and "sides [5]" in d for d in report.dropped)
    one_cell(tmp_path / "a.e", "quad", "QUAD", [0, 1, 2, 4], 1)
    with pytest.raises(MeshFileError, match="refers to nodes that do not exist"):
        read_mesh(tmp_path / "a.e")
    (tmp_path / "a.e").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(MeshFileError, match=r"netCDF4|cannot be read"):
        read_mesh(tmp_path / "a.e")
    (tmp_path / "a.e").write_text("exodus")
    with pytest.raises(MeshFileError, match="no NetCDF file"):
        read_mesh(tmp_path / "a.e")


def test_lengths_that_exodus_only_claims(tmp_path: Path) -> None:
    samples(tmp_path)
    data = (tmp_path / "a.e").read_bytes()
    at = data.index(b"coordx") + 8
    for place in range(at, at + 60, 4):  # dimensions, type, size and place of the first array
        for claim in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0"):
            (tmp_path / "b.e").write_bytes(data[:place] + claim + data[place + 4 :])
            with contextlib.suppress(FemadjError):
                read_mesh_with_report(tmp_path / "b.e")


def test_exodus_as_netcdf_4(tmp_path: Path) -> None:
    """The same file in the newer format, which takes another library."""
    netcdf = pytest.importorskip("netCDF4")
    samples(tmp_path)
    with netcdf_file(tmp_path / "a.e", "r", mmap=False) as old, netcdf.Dataset(tmp_path / "b.e", "w") as new:
        for name, size in old.dimensions.items():
            new.createDimension(name, size)
        for name, array in old.variables.items():
            copy = new.createVariable(name, array.data.dtype.newbyteorder("="), array.dimensions)
            copy.setncatts({key: value for key, value in vars(array).items() if key == "elem_type"})
            copy[:] = array[:]
    assert (tmp_path / "b.e").read_bytes()[1:4] == b"HDF"
    first, second = read_mesh(tmp_path / "a.e"), read_mesh(tmp_path / "b.e")
    assert repr(first) == repr(second)
    np.testing.assert_array_equal(first.points, second.points)
    for name in first.facet_groups:
        assert first.facet_nodes(first.facets(name)).tolist() == second.facet_nodes(second.facets(name)).tolist()


# ---------------------------------------------------------------------- MED and others
def test_groups_of_med(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    points = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (2, 0), (2, 1)], dtype=float)
    cells = [("quad", np.array([[0, 1, 2, 3], [1, 4, 5, 2]])), ("line", np.array([[3, 0], [4, 5]]))]
    grid = meshio.Mesh(
        points,
        cells,
        point_data={"point_tags": np.array([1, 0, 0, 2, 0, 0])},
        cell_data={"cell_tags": [np.array([-4, -5]), np.array([-6, 0])]},
    )
    grid.point_tags = {1: ["spots"], 2: ["spots", "one"]}
    grid.cell_tags = {-4: ["left", "both"], -5: ["both"], -6: ["clamp"]}
    grid.write(tmp_path / "a.med")
    mesh, _ = read_mesh_with_report(tmp_path / "a.med")
    assert {n: g.tolist() for n, g in mesh.cell_groups.items()} == {"left": [0], "both": [0, 1]}
    assert mesh.node_groups["spots"].tolist() == [0, 3]
    assert mesh.node_groups["one"].tolist() == [3]
    assert mesh.facet_nodes(mesh.facets("clamp")).tolist() == [0, 3]


def test_medit_and_su2(tmp_path: Path) -> None:
    points = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=float)
    grid = meshio.Mesh(points, [("quad", [[0, 1, 2, 3]])], cell_data={"medit:ref": [np.array([3])]})
    grid.write(tmp_path / "a.mesh")
    mesh, report = read_mesh_with_report(tmp_path / "a.mesh")
    assert mesh.cell_groups["medit:ref:3"].tolist() == [0]
    assert report.format == "MESH"
    (tmp_path / "a.su2").write_text("NDIME= two\n")
    with pytest.raises(MeshFileError, match="su2 by meshio"):
        read_mesh(tmp_path / "a.su2")


@pytest.mark.parametrize(
    ("suffix", "words"),
    [(".step", "mesh it first"), (".cdb", "Ansys"), (".unv", "gmsh FILE.unv"), (".pvtu", "ParaView"), (".xyz", "most")],
)
def test_unknown_suffixes_list_what_is_read(tmp_path: Path, suffix: str, words: str) -> None:
    (tmp_path / f"a{suffix}").write_text("something")
    with pytest.raises(MeshFileError, match=words) as caught:
        read_mesh(tmp_path / f"a{suffix}")
    for known in (".msh (Gmsh)", ".inp", ".bdf", ".vtu", ".e, .exo", ".med"):
        assert known in str(caught.value)


@pytest.mark.parametrize(("topology", "count", "name"), [("Wedge_15", 15, "wedge15"), ("Pyramid", 5, "pyramid")])
def test_cells_that_only_the_format_knows(tmp_path: Path, topology: str, count: int, name: str) -> None:
    pytest.importorskip("h5py", reason="meshio reads XDMF with h5py, which is not installed")
    points = " ".join(f"{c:.3f}" for c in np.random.default_rng(0).random(3 * count))
    (tmp_path / "a.xdmf").write_text(
        '<Xdmf Version="3.0"><Domain><Grid Name="Grid"><Geometry GeometryType="XYZ"><DataItem DataType="Float" '
        f'Dimensions="{count} 3" Format="XML" Precision="8">{points}</DataItem></Geometry>'
        f'<Topology TopologyType="{topology}" NumberOfElements="1"><DataItem DataType="Int" Dimensions="1 {count}" '
        f'Format="XML" Precision="8">{" ".join(map(str, range(count)))}</DataItem></Topology></Grid></Domain></Xdmf>'
    )
    with pytest.raises(UnsupportedCellError, match=f"'{name}'"):
        read_mesh(tmp_path / "a.xdmf")


# ---------------------------------------------------------------------- flat and curved surfaces
SHEET = np.array([(0, 0), (40, 0), (40, 30), (0, 30)], dtype=float)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_noise_across_a_plane(size: float) -> None:
    for noise in (0.0, 1e-13, 1e-9, 4e-7):
        z = 40 * noise * np.array([1.0, -1.0, 1.0, -1.0]) / 2
        mesh = Mesh(size * np.column_stack([SHEET, 7 + z]), {"quad": [[0, 1, 2, 3]]})
        assert mesh.dim == 2
        assert mesh.volume() == pytest.approx(1200 * size**2)
    with pytest.raises(InvalidMeshError, match="round the coordinates"):
        Mesh(size * np.column_stack([SHEET, 40 * 1e-5 * np.arange(4)]), {"quad": [[0, 1, 2, 3]]})


def test_surfaces_in_space_say_what_they_are() -> None:
    zero, x, y = np.zeros(4), SHEET[:, 0], SHEET[:, 1]
    for points, words in (
        (np.column_stack([zero, x, y]), r"y-z plane .*constant x.*points\[:, \[1, 2\]\]"),
        (np.column_stack([x, zero + 3, y]), r"x-z plane .*constant y"),
        (np.column_stack([x, y, y]), "in a plane with the normal"),
        (np.array([(0, 0, 0), (1, 0, 0.2), (1, 1, 0), (0, 1, 0.3)]), "volume cells are missing"),
    ):
        with pytest.raises(InvalidMeshError, match=words):
            Mesh(points, {"quad": [[0, 1, 2, 3]]})


# ---------------------------------------------------------------------- threads
def test_threads_leave_streams_and_filters_alone(tmp_path: Path) -> None:
    files = []
    for suffix, found in samples(tmp_path).items():
        files.append(tmp_path / f"t{suffix}")
        files[-1].write_bytes(found[0])
    streams, filters = (sys.stdout, sys.stderr), list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        cells = list(pool.map(lambda f: read_mesh_with_report(f)[0].n_cells, files * 20))
    assert cells == cells[: len(files)] * 20
    assert (sys.stdout, sys.stderr) == streams
    assert list(warnings.filters) == filters


def test_what_meshio_would_skip_is_refused_or_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = samples(tmp_path)[".su2"][0].decode()
    capfd.readouterr()  # what meshio says as it writes
    file = tmp_path / "b.su2"
    file.write_text(text.replace("\n10 ", "\n10 x ", 1))
    with pytest.raises(MeshFileError, match=r"b\.su2"):
        read_mesh_with_report(file)
    file.write_text(text + "what is this\n")
    with pytest.raises(MeshFileError, match="could not parse line what is this"):
        read_mesh_with_report(file)
    file.write_text(text + "NMARK= 2\nMARKER_TAG= wall\nMARKER_ELEMS= 1\n5 0 1 2\n")
    _, report = read_mesh_with_report(file)
    assert any("Surface tag wall will be replaced" in w for w in report.warnings)
    assert any("expected 2 markers" in w for w in report.warnings)
    assert "".join(capfd.readouterr()) == ""


def test_formats_of_which_damaged_files_hang_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.msh"
    file.write_text('(0 "Fluent")\n(2 3)\n')
    with pytest.raises(MeshFileError, match=r"a mesh of Fluent.*CGNS"):
        read_mesh_with_report(file)
