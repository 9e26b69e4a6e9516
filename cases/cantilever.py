"""Cantilever of any fineness: a box of 400 x 100 x 100 mm, held at x = 0, pushed down at its free end.

     |#_______________________________
     |#                               |  |
     |#    steel, own weight as well  |  v  10 kN, spread over the end face
     |#_______________________________|
       x = 0                    x = 400

``--size NX NY NZ`` sets the number of hexahedra along each direction, ``--cells tetra`` cuts each into six tetrahedra.
Units: mm, N, MPa, tonne.
"""

import argparse

import numpy as np

import femadj as fa
from femadj.case import Case, Quantity, Run, main
from femadj.report import View

LENGTH = (400.0, 100.0, 100.0)
HEXAHEDRON = ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1))
SIX_TETRAHEDRA = ((0, 1, 2, 6), (0, 2, 3, 6), (0, 3, 7, 6), (0, 7, 4, 6), (0, 4, 5, 6), (0, 5, 1, 6))


def box(nx: int, ny: int, nz: int, cells: str) -> fa.Mesh:
    """A regular box with the facet groups ``root`` and ``end``."""
    ticks = [np.linspace(0, length, n + 1) for length, n in zip(LENGTH, (nx, ny, nz), strict=True)]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    index = np.arange(len(points)).reshape(nx + 1, ny + 1, nz + 1)
    corners = [index[i : nx + i, j : ny + j, k : nz + k].ravel() for i, j, k in HEXAHEDRON]
    nodes = np.stack(corners, axis=1)
    if cells == "tetra":
        nodes = nodes[:, SIX_TETRAHEDRA].reshape(-1, 4)
    mesh = fa.Mesh(points, {cells: nodes})
    return mesh.with_groups(
        facet_groups={"root": lambda x: x[0] < 1e-9, "end": lambda x: x[0] > LENGTH[0] * (1 - 1e-9)}
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Size and type of the cells."""
    parser.add_argument("--size", nargs=3, type=int, default=(48, 12, 12), metavar=("NX", "NY", "NZ"),
                        help="cells along each direction (default: 48 12 12)")  # fmt: skip
    parser.add_argument("--cells", choices=("hexahedron", "tetra"), default="hexahedron", help="type of the cells")


def problem(run: Run) -> fa.LinearStatic:
    """The cantilever."""
    if min(run.arguments.size) < 1:
        raise fa.InvalidMeshError(f"--size needs three positive numbers, not {run.arguments.size}")
    with run.progress("make mesh"):
        mesh = box(*run.arguments.size, run.arguments.cells)
    return fa.LinearStatic(
        mesh,
        fa.Elasticity(E=210e3, nu=0.3, density=7.85e-9),
        supports=[fa.Fixed("root")],
        loads=[fa.TotalForce("end", (0.0, 0.0, -10e3)), fa.Gravity((0.0, 0.0, -9810.0))],
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )


CASE = Case(
    "cantilever",
    __doc__,
    problem,
    {
        "compliance": Quantity(fa.Compliance(), "N mm"),
        "tip displacement": Quantity(fa.Displacement("end", "z"), "mm"),
        "mass": Quantity(fa.Mass(), "t"),
    },
    length_unit="mm",
    title="Cantilever",
    labels={"root": "fixed", "end": "10 kN down"},
    view=View(azimuth=-58, elevation=24),
    arguments=arguments,
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
