"""VTU and legacy VTK: pieces, versions, encodings, types of cells and numbers."""

from __future__ import annotations

import base64
import lzma
import struct
import zlib
from pathlib import Path

import meshio
import numpy as np
import pytest

from femadj.errors import MeshFileError, UnsupportedCellError
from femadj.io import ImportReport, read_mesh_with_report
from femadj.mesh import Mesh

CUBE = np.array([(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)], dtype=float)  # in the order of a voxel
AROUND = [0, 1, 3, 2, 4, 5, 7, 6]


def array(name: str, kind: str, values: object, width: int = 1) -> str:
    """A data array as text."""
    text = " ".join(str(v) for v in np.asarray(values).ravel())
    return f'<DataArray type="{kind}" Name="{name}" NumberOfComponents="{width}" format="ascii">{text}</DataArray>'


def piece(points: np.ndarray, cells: list[list[int]], types: list[int], data: str = "") -> str:
    """A piece as text."""
    return (
        f'<Piece NumberOfPoints="{len(points)}" NumberOfCells="{len(cells)}">{data}'
        f"<Points>{array('p', 'Float64', points, 3)}</Points><Cells>"
        + array("connectivity", "Int64", [n for c in cells for n in c])
        + array("offsets", "Int64", np.cumsum([len(c) for c in cells]))
        + array("types", "UInt8", types)
        + "</Cells></Piece>"
    )


def vtu(folder: Path, pieces: str, head: str = 'version="1.0"') -> tuple[Mesh, ImportReport]:
    """Read a file of pieces."""
    file = folder / "a.vtu"
    file.write_text(
        f'<?xml version="1.0"?><VTKFile type="UnstructuredGrid" {head} byte_order="LittleEndian">'
        f"<UnstructuredGrid>{pieces}</UnstructuredGrid></VTKFile>"
    )
    return read_mesh_with_report(file)


def test_all_pieces_are_read(tmp_path: Path) -> None:
    shift = np.array([1.0, 0, 0])
    cut = CUBE[AROUND]
    pieces = [
        piece(cut + k * shift, [list(range(8))], [12], f"<CellData>{array('m', 'Int32', [k])}</CellData>")
        for k in range(3)
    ]
    mesh, report = vtu(tmp_path, "".join(pieces))
    assert (mesh.n_cells, mesh.n_nodes) == (3, 24)
    assert mesh.volume() == pytest.approx(3.0)
    assert [mesh.cell_groups[f"m:{k}"].tolist() for k in range(3)] == [[0], [1], [2]]
    assert any("8 nodes lie where others are" in w for w in report.warnings)
    empty = '<Piece NumberOfPoints="0" NumberOfCells="0"></Piece>'
    mesh, report = vtu(tmp_path, empty + pieces[0])
    assert mesh.n_cells == 1
    assert not report.warnings
    ghosts = f"<CellData>{array('vtkGhostType', 'UInt8', [0, 1])}</CellData>"
    two = piece(np.vstack([cut, cut + shift]), [list(range(8)), list(range(8, 16))], [12, 12], ghosts)
    mesh, report = vtu(tmp_path, two)
    assert mesh.volume() == pytest.approx(1.0)
    assert any("1 ghost cells" in d for d in report.dropped)


@pytest.mark.parametrize(
    ("types", "cells", "name", "volume"),
    [
        ([11], [list(range(8))], "hexahedron", 1.0),
        ([12], [AROUND], "hexahedron", 1.0),
        ([72], [AROUND], "hexahedron", 1.0),
        ([8], [[0, 1, 2, 3]], "quad", 1.0),
        ([70], [[0, 1, 3, 2]], "quad", 1.0),
        ([7], [[0, 1, 3, 2]], "quad", 1.0),
        ([7], [[0, 1, 3]], "triangle", 0.5),
        ([69], [[0, 1, 3]], "triangle", 0.5),
        ([71], [[0, 1, 2, 4]], "tetra", 1 / 6),
        ([13], [[0, 1, 2, 4, 5, 6]], "wedge", 0.5),
    ],
)
@pytest.mark.parametrize("version", ["0.1", "1.0", "2.0", "2.2", "9.9"])
def test_cells_and_versions(
    tmp_path: Path, types: list[int], cells: list[list[int]], name: str, volume: float, version: str
) -> None:
    mesh, _ = vtu(tmp_path, piece(CUBE, cells, types), f'version="{version}"')
    assert mesh.blocks[0].type == name
    assert mesh.volume() == pytest.approx(volume)


@pytest.mark.parametrize(
    ("number", "count"), [(14, 5), (26, 15), (27, 13), (42, 8), (73, 18), (72, 27), (41, 6), (99, 4)]
)
def test_other_cells_are_refused_by_name(tmp_path: Path, number: int, count: int) -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(UnsupportedCellError, match="1 cells of type"):
        vtu(tmp_path, piece(rng.random((count, 3)), [list(range(count))], [number]))


def encoded(data: bytes, order: str, header: str, compressor: str, raw: bool) -> bytes:
    """An array as VTK writes it."""
    code = order + {"UInt32": "I", "UInt64": "Q"}[header]
    if not compressor:
        body = struct.pack(code, len(data)) + data
        return body if raw else base64.b64encode(body)
    pack = zlib.compress if compressor == "vtkZLibDataCompressor" else lzma.compress
    size = 64
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    packed = [pack(b) for b in blocks]
    last = len(blocks[-1]) % size
    sizes = [len(blocks), size, last, *(len(p) for p in packed)]
    head = struct.pack(f"{order}{len(sizes)}{code[1]}", *sizes)
    return head + b"".join(packed) if raw else base64.b64encode(head) + base64.b64encode(b"".join(packed))


@pytest.mark.parametrize("place", ["binary", "raw", "base64"])
@pytest.mark.parametrize("compressor", ["", "vtkZLibDataCompressor", "vtkLZMADataCompressor"])
@pytest.mark.parametrize("header", ["UInt32", "UInt64"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_encodings(tmp_path: Path, place: str, compressor: str, header: str, order: str) -> None:
    data = (
        ("p", "Float32", 3, CUBE.astype(order + "f4")),
        ("connectivity", "Int32", 1, np.arange(8).astype(order + "i4")),
        ("offsets", "UInt64", 1, np.array([8], order + "u8")),
        ("types", "UInt8", 1, np.array([11], "u1")),
    )
    arrays, tail = [], b""
    for name, kind, width, values in data:
        code = encoded(values.tobytes(), order, header, compressor, place == "raw")
        start = f'<DataArray type="{kind}" Name="{name}" NumberOfComponents="{width}" format='
        if place == "binary":
            arrays.append(f'{start}"binary">\n  {code.decode()}\n</DataArray>')
        else:
            arrays.append(f'{start}"appended" offset="{len(tail)}"/>')
            tail += code
    end = b""
    if place != "binary":
        end = f'<AppendedData encoding="{place}">\n  _'.encode() + tail + b"\n</AppendedData>"
    file = tmp_path / "a.vtu"
    file.write_bytes(
        f'<VTKFile type="UnstructuredGrid" version="1.0" header_type="{header}" compressor="{compressor}" '
        f'byte_order="{"LittleEndian" if order == "<" else "BigEndian"}"><UnstructuredGrid>'
        f'<Piece NumberOfPoints="8" NumberOfCells="1"><Points>{arrays[0]}</Points><Cells>{"".join(arrays[1:])}</Cells>'
        f"</Piece></UnstructuredGrid>".encode()
        + end
        + b"</VTKFile>"
    )
    mesh, _ = read_mesh_with_report(file)
    assert mesh.volume() == pytest.approx(1.0)
    whole = file.read_bytes()
    if place != "binary":
        for cut in (1, len(tail) // 2):
            file.write_bytes(whole[: whole.rfind(b"\n</AppendedData>") - cut])
            with pytest.raises(MeshFileError, match=r"a\.vtu"):
                read_mesh_with_report(file)


def test_lz4_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def absent(name: str, package: str | None = None) -> object:
        if name.startswith("lz4"):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    text = base64.b64encode(struct.pack("<4I", 1, 192, 0, 5)) + base64.b64encode(b"12345")
    points = f'<DataArray type="Float64" NumberOfComponents="3" format="binary">{text.decode()}</DataArray>'
    grid = f'<Piece NumberOfPoints="8" NumberOfCells="0"><Points>{points}</Points></Piece>'
    with pytest.raises(MeshFileError, match="pip install lz4"):
        vtu(tmp_path, grid, 'version="1.0" compressor="vtkLZ4DataCompressor"')


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("UnstructuredGrid", "PolyData", "not an UnstructuredGrid"),
        ("LittleEndian", "MiddleEndian", "byte_order 'MiddleEndian'"),
        ('format="ascii"', 'format="telegraph"', "the format 'telegraph'"),
        ("Float64", "Float128", "'Float128'"),
        ('NumberOfPoints="8"', 'NumberOfPoints="9"', "instead of 9 points"),
        ('NumberOfPoints="8"', 'NumberOfPoints="many"', "NumberOfPoints='many'"),
        ('NumberOfCells="1"', 'NumberOfCells="2"', "1 offsets and 1 types of 2 cells"),
        (">8<", ">7<", "offsets that do not fit"),
        ("0 1 2 3 4 5 6 7", "0 1 2 3 4 5 6 8", "nodes that do not exist"),
        (">11<", ">10<", "cell 0 of type tetra .VTK 10. has 8 nodes"),
        ('Name="types"', 'Name="kinds"', "the array 'types' of its cells is missing"),
        ('<?xml version="1.0"?>', "<!DOCTYPE a [<!ENTITY b 'c'>]>", "document type"),
        ("</VTKFile>", "", "no complete XML"),
    ],
)
def test_damaged_vtu(tmp_path: Path, old: str, new: str, message: str) -> None:
    vtu(tmp_path, piece(CUBE, [list(range(8))], [11]))
    text = (tmp_path / "a.vtu").read_text()
    assert old in text
    (tmp_path / "a.vtu").write_text(text.replace(old, new) if old != "</VTKFile>" else text.replace(old, ""))
    with pytest.raises(MeshFileError, match=message):
        read_mesh_with_report(tmp_path / "a.vtu")


# ---------------------------------------------------------------------- legacy
def legacy(folder: Path, data: str, version: str = "5.1", cells: str | None = None) -> tuple[Mesh, ImportReport]:
    """Read a brick with data, as text."""
    if cells is None:
        cells = "CELLS 2 8\nOFFSETS vtktypeint64\n0 8\nCONNECTIVITY vtktypeint64\n0 1 3 2 4 5 7 6\n"
    points = "\n".join(" ".join(map(str, p)) for p in CUBE)
    file = folder / "a.vtk"
    file.write_text(
        f"# vtk DataFile Version {version}\na brick\nASCII\nDATASET UNSTRUCTURED_GRID\nPOINTS 8 float\n{points}\n"
        f"{cells}CELL_TYPES 1\n12\n{data}"
    )
    return read_mesh_with_report(file)


@pytest.mark.parametrize(
    "kind", ["int", "long", "vtkIdType", "unsigned_long", "vtktypeint64", "short", "unsigned_char"]
)
def test_integers_of_every_type(tmp_path: Path, kind: str) -> None:
    field = f"CELL_DATA 1\nFIELD data 2\nzone 1 1 {kind}\n6\nstress 3 1 double\n1 2 3\n"
    mesh, report = legacy(
        tmp_path, field + f"POINT_DATA 8\nSCALARS on {kind} 1\nLOOKUP_TABLE default\n1 0 1 0 1 0 1 0\n"
    )
    assert mesh.cell_groups["zone:6"].tolist() == [0]
    assert mesh.node_groups["on:1"].tolist() == [0, 2, 4, 6]
    assert any("'stress'" in d for d in report.dropped)
    code = {"int": ">i4", "short": ">i2", "unsigned_char": ">u1", "vtkIdType": ">i4"}.get(kind, ">i8")
    file = tmp_path / "b.vtk"
    file.write_bytes(
        b"# vtk DataFile Version 4.2\nbinary\nBINARY\nDATASET UNSTRUCTURED_GRID\nPOINTS 8 double\n"
        + CUBE.astype(">f8").tobytes() + b"\nCELLS 1 9\n" + np.array([8, *AROUND], ">i4").tobytes()
        + b"\nCELL_TYPES 1\n" + np.array([12], ">i4").tobytes() + b"\nCELL_DATA 1\nFIELD data 2\nzone 1 1 "
        + kind.encode() + b"\n" + np.array([6], code).tobytes() + b"\nMETADATA\nINFORMATION 0\n\nflag 1 1 int\n"
        + np.array([1], ">i4").tobytes() + b"\n"
    )  # fmt: skip
    mesh, _ = read_mesh_with_report(file)
    assert mesh.volume() == pytest.approx(1.0)
    assert set(mesh.cell_groups) == {"zone:6", "flag:1"}


def test_every_kind_of_attribute_is_gone_past(tmp_path: Path) -> None:
    data = (
        "METADATA\nINFORMATION 1\nNAME L2 LOCATION vtk\n\nPOINT_DATA 8\nVECTORS u float\n" + "1 2 3\n" * 8
        + "NORMALS n float\n" + "0 0 1\n" * 8 + "TENSORS t float\n" + "1 0 0 0 1 0 0 0 nan\n" * 8
        + "TEXTURE_COORDINATES x 2 float\n" + "0 1\n" * 8 + "CELL_DATA 1\nGLOBAL_IDS g vtkIdType\n5\n"
        + "COLOR_SCALARS c 3\n1 0 0.5\nLOOKUP_TABLE l 1\n0 0 0 1\nFIELD f 1\nwords 1 1 string\nsome%20text\n"
        + "SCALARS last int\nLOOKUP_TABLE default\n4\n"
    )  # fmt: skip
    mesh, report = legacy(tmp_path, data)
    assert mesh.cell_groups["last:4"].tolist() == [0]
    assert len(report.dropped) == 7


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("CELL_TYPES 1\n12", "CELL_TYPES 2\n12", "1 numbers instead of 2"),
        ("POINTS 8 float", "POINTS 400000000 float", "24 numbers instead of"),
        ("POINTS 8 float", "POINTS eight float", "'eight' is no count"),
        ("OFFSETS vtktypeint64\n0 8", "OFFSETS vtktypeint64\n0 7", "OFFSETS: they do not fit"),
        ("7 6\n", "7 8\n", "refers to node 8"),
        ("7 6\n", "7 6.5\n", "6.5 is no whole number"),
        ("\n12\n", "\n25\n", "hexahedron20 .VTK 25. has 8 nodes"),
        ("UNSTRUCTURED_GRID", "POLYDATA", "POLYDATA, not UNSTRUCTURED_GRID"),
        ("# vtk", "# vtl", "is no VTK file"),
        ("CELL_TYPES 1\n12\n", "", "CELL_TYPES is missing"),
        ("float\n", "quadruple\n", "'quadruple' are not known"),
    ],
)
def test_damaged_legacy_files(tmp_path: Path, old: str, new: str, message: str) -> None:
    legacy(tmp_path, "")
    text = (tmp_path / "a.vtk").read_text()
    assert old in text
    (tmp_path / "a.vtk").write_text(text.replace(old, new))
    with pytest.raises(MeshFileError, match=message):
        read_mesh_with_report(tmp_path / "a.vtk")


def test_mixed_cells_of_the_older_format(tmp_path: Path) -> None:
    points = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (2, 0, 0)], dtype=float)
    grid = meshio.Mesh(points, [("quad", [[0, 1, 2, 3]]), ("triangle", [[1, 4, 2]]), ("line", [[0, 1]])])
    for form in ("vtk42", "vtk51"):
        for binary in (True, False):
            meshio.write(tmp_path / "a.vtk", grid, file_format=form, binary=binary)
            mesh, _ = read_mesh_with_report(tmp_path / "a.vtk")
            assert [b.type for b in mesh.blocks] == ["quad", "triangle"]
            assert mesh.volume() == pytest.approx(1.5)


def test_structured_points_are_left_to_meshio(tmp_path: Path) -> None:
    (tmp_path / "a.vtk").write_text(
        "# vtk DataFile Version 3.0\nx\nASCII\nDATASET STRUCTURED_POINTS\nDIMENSIONS 3 2 2\n"
        "ORIGIN 0 0 0\nSPACING 1 1 1\n"
    )
    assert read_mesh_with_report(tmp_path / "a.vtk")[0].volume() == pytest.approx(2.0)
