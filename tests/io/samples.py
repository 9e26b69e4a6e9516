"""Small files of every format that has a reader of its own, for mutation."""

from __future__ import annotations

import struct
from pathlib import Path

import meshio
import numpy as np
from scipy.io import netcdf_file

CORNERS = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
POINTS = np.array([*CORNERS, (2, 0, 0), (2, 1, 0), (2, 0, 1), (2, 1, 1)], dtype=float)
BY_MESHIO = (".mesh", ".meshb", ".su2", ".vol", ".xml")
BRICKS = np.array([[0, 1, 2, 3, 4, 5, 6, 7], [1, 8, 9, 2, 5, 10, 11, 6]])

INP = (
    "*HEADING\ntwo bricks\n*NODE, NSET=all\n"
    + "".join(f"{i + 1}, {x}, {y}, {z}\n" for i, (x, y, z) in enumerate(POINTS.tolist()))
    + "*ELEMENT, TYPE=C3D8, ELSET=body\n"
    + "".join(f"{k + 1}, {', '.join(str(n + 1) for n in row)}\n" for k, row in enumerate(BRICKS.tolist()))
    + "*NSET, NSET=low, GENERATE\n1, 4, 1\n*NSET, NSET=both\nlow, 9\n*ELSET, ELSET=first\n1\n"
    "*SURFACE, NAME=bottom, TYPE=ELEMENT\nbody, S1\n*SURFACE, NAME=skin\nbody,\n"
    "*MATERIAL, NAME=steel\n*ELASTIC\n210000., 0.3\n"
)

PARTS = (
    "*PART, NAME=P\n*NODE\n1, 0., 0.\n2, 1., 0.\n3, 1., 1.\n4, 0., 1.\n*ELEMENT, TYPE=CPS4, ELSET=E\n1, 1, 2, 3, 4\n"
    "*NSET, NSET=s\n1, 2\n*END PART\n*ASSEMBLY, NAME=A\n*INSTANCE, NAME=P-1, PART=P\n*END INSTANCE\n*NODE\n1, 9., 9.\n"
    "*NSET, NSET=s, INSTANCE=P-1\n3, 4\n*ELSET, ELSET=_i, INTERNAL, INSTANCE=P-1\n1,\n*SURFACE, NAME=f\n_i, S2\n"
    "*END ASSEMBLY\n"
)

BDF = (
    "SOL 101\nCEND\nBEGIN BULK\nGRDSET,,5\nCORD2C,5,,0.,0.,0.,0.,0.,1.\n,1.,0.,0.\nCORD1R,6,1,2,3\n"
    + "".join(f"GRID    {i + 1:8d}       0{x:8.3f}{y:8.3f}{z:8.3f}\n" for i, (x, y, z) in enumerate(POINTS.tolist()))
    + "".join(
        f"CHEXA   {k + 1:8d}       3"
        + "".join(f"{n + 1:8d}" for n in row[:6])
        + f"+\n+       {row[6] + 1:8d}{row[7] + 1:8d}\n"
        for k, row in enumerate(BRICKS.tolist())
    )
    + "CQUAD4*               10               4               1               2\n"
    "*                      3               4\n"
    "SET1,7,1,THRU,4\nSET3,8,ELEM,1,2\nPSOLID,3,1\nCELAS2,50,1.+3,1,1\nENDDATA\n"
)

MSH2 = (
    '$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$PhysicalNames\n2\n3 1 "body"\n2 2 "low"\n$EndPhysicalNames\n$Nodes\n12\n'
    + "".join(f"{i + 1} {x} {y} {z}\n" for i, (x, y, z) in enumerate(POINTS.tolist()))
    + "$EndNodes\n$Elements\n3\n"
    + "".join(f"{k + 1} 5 2 1 1 {' '.join(str(n + 1) for n in row)}\n" for k, row in enumerate(BRICKS.tolist()))
    + "3 3 2 2 1 1 2 3 4\n$EndElements\n"
    '$ElementData\n1\n"skfem:b:end"\n1\n0.0\n3\n0\n1\n2\n1 4\n2 0\n$EndElementData\n'
)

MSH4 = (
    "$MeshFormat\n4.1 0 8\n$EndMeshFormat\n$PhysicalNames\n1\n3 1 body\n$EndPhysicalNames\n$Entities\n0 0 1 1\n"
    "1 0 0 0 2 1 0 1 2 0\n1 0 0 0 2 1 1 1 1 0\n$EndEntities\n$Nodes\n1 12 1 12\n3 1 0 12\n"
    + "".join(f"{i + 1}\n" for i in range(12))
    + "".join(f"{x} {y} {z}\n" for x, y, z in POINTS.tolist())
    + "$EndNodes\n$Elements\n2 3 1 3\n3 1 5 2\n"
    + "".join(f"{k + 1} {' '.join(str(n + 1) for n in row)}\n" for k, row in enumerate(BRICKS.tolist()))
    + "2 1 3 1\n3 1 2 3 4\n$EndElements\n"
)


def grid() -> meshio.Mesh:
    """Two bricks and a quadrilateral, with groups as arrays."""
    return meshio.Mesh(
        POINTS,
        [("hexahedron", BRICKS), ("quad", np.array([[0, 1, 2, 3]]))],
        cell_data={"mat": [np.array([1, 2]), np.array([3])], "skfem:s:half": [np.array([1, 0]), np.array([0])]},
        point_data={"fixed": np.arange(12) % 2, "T": np.linspace(0, 1, 12)},
    )


def appended() -> bytes:
    """A VTU file with raw appended data, of one brick."""
    points = np.array(CORNERS, dtype="<f8").tobytes()
    cells = np.arange(8, dtype="<i4").tobytes()
    parts = [points, cells, np.array([8], "<i4").tobytes(), bytes([12])]
    data, offsets = b"", []
    for part in parts:
        offsets.append(len(data))
        data += struct.pack("<I", len(part)) + part
    arrays = [
        f'<DataArray type="{kind}" Name="{name}" NumberOfComponents="{n}" format="appended" offset="{at}"/>'
        for (kind, name, n), at in zip(
            (("Float64", "p", 3), ("Int32", "connectivity", 1), ("Int32", "offsets", 1), ("UInt8", "types", 1)),
            offsets,
            strict=True,
        )
    ]
    head = (
        '<VTKFile type="UnstructuredGrid" version="1.0" byte_order="LittleEndian" header_type="UInt32">'
        '<UnstructuredGrid><Piece NumberOfPoints="8" NumberOfCells="1"><Points>' + arrays[0] + "</Points><Cells>"
        + "".join(arrays[1:]) + '</Cells></Piece></UnstructuredGrid><AppendedData encoding="raw">\n_'
    )  # fmt: skip
    return head.encode() + data + b"\n</AppendedData></VTKFile>\n"


def exodus(path: Path) -> None:
    """An Exodus II file of the classic format: two bricks, a node set and a side set."""
    with netcdf_file(path, "w") as file:
        sizes = {"num_dim": 3, "num_nodes": 12, "num_elem": 2, "num_el_blk": 1, "num_el_in_blk1": 2,
                 "num_nod_per_el1": 8, "num_node_sets": 1, "num_nod_ns1": 4, "num_side_sets": 1, "num_side_ss1": 2,
                 "len_name": 16}  # fmt: skip
        for name, size in sizes.items():
            file.createDimension(name, size)
        for axis, column in zip("xyz", POINTS.T, strict=True):
            file.createVariable(f"coord{axis}", "f8", ("num_nodes",))[:] = column
        cells = file.createVariable("connect1", "i4", ("num_el_in_blk1", "num_nod_per_el1"))
        cells.elem_type = "HEX8"
        cells[:] = BRICKS + 1
        file.createVariable("node_ns1", "i4", ("num_nod_ns1",))[:] = [1, 4, 5, 8]
        file.createVariable("elem_ss1", "i4", ("num_side_ss1",))[:] = [1, 2]
        file.createVariable("side_ss1", "i4", ("num_side_ss1",))[:] = [5, 2]
        names = file.createVariable("ss_names", "S1", ("num_side_sets", "len_name"))
        names[0] = np.frombuffer(b"shell".ljust(16, b"\0"), "S1")


def samples(folder: Path) -> dict[str, list[bytes]]:
    """Files by suffix."""
    result = {
        ".inp": [INP.encode(), PARTS.encode()],
        ".bdf": [BDF.encode()],
        ".msh": [MSH2.encode(), MSH4.encode()],
        ".vtu": [appended()],
        ".vtk": [],
        ".e": [],
    }
    for name, options in (("gmsh", {"binary": True}), ("gmsh22", {"binary": True})):
        tags = {f"gmsh:{k}": [np.array([1, 2])] for k in ("physical", "geometrical")}
        plain = meshio.Mesh(POINTS, [("hexahedron", BRICKS)], cell_data=tags)
        meshio.write(folder / "a.msh", plain, file_format=name, **options)
        result[".msh"].append((folder / "a.msh").read_bytes())
    for suffix, options in (
        (".vtu", {"binary": False}),
        (".vtu", {"binary": True}),
        (".vtu", {"compression": None}),
        (".vtk", {"binary": False}),
        (".vtk", {"binary": True, "file_format": "vtk42"}),
    ):
        meshio.write(folder / f"a{suffix}", grid(), **options)
        result[suffix].append((folder / f"a{suffix}").read_bytes())
    tets = meshio.Mesh(np.vstack([np.zeros(3), np.eye(3), np.ones(3)]), [("tetra", [[0, 1, 2, 3], [1, 2, 3, 4]])])
    for suffix in BY_MESHIO:
        meshio.write(folder / f"a{suffix}", tets)
        result[suffix] = [(folder / f"a{suffix}").read_bytes()]
    exodus(folder / "a.e")
    result[".e"].append((folder / "a.e").read_bytes())
    return result
