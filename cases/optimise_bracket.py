"""The bracket of ``bracket.py`` made lighter: least mass that is stiff enough, by two optimisers side by side.

The lower face and the sides of the arm follow a lattice of control points; the pad stays in its plane, the bore round,
everything keeps its symmetry, and the wall plate stays as it is. All other faces may slide within their planes, and the
inside follows, as an elastic body does. Compliance and displacement of the end of the arm stay what they are, or less.
Units: mm, N, MPa, tonne.
"""

from pathlib import Path

import numpy as np

import femadj as fa
from femadj.case import Run
from femadj.design_case import DesignCase, main
from femadj.report import View

MESH = Path(__file__).resolve().parent.parent / "meshes" / "bracket.msh"
NEAR = 1e-6
KEPT = [
    "clamp", "bolts", fa.Fixed("bore", "xz"), fa.Fixed("bottom", "y"), fa.Fixed("top", "y"), fa.Fixed("pad", "y"),
    fa.Fixed("sides", "z"), fa.Fixed("end", "x"), fa.Fixed("fillet", "xy"), fa.Fixed("plate", "x"),
    fa.Fixed("plate top", "y"),
]  # fmt: skip
"""Components that go where they are told; the others, of faces that slide and of inner nodes, follow."""


def round_hole(across, along, centre, radius):
    """Facets on the wall of a hole, by the centres of their corners, which lie within it."""
    return np.abs(np.hypot(across - centre[0], along - centre[1]) - radius) < 0.4


def problem(run: Run) -> fa.LinearStatic:
    """The bracket, with names for all its faces."""
    with run.progress("read mesh"):
        mesh = fa.read_mesh(MESH)
    groups = {
        "bottom": lambda x: x[1] < NEAR,
        "top": lambda x: (abs(x[1] - 10) < NEAR) & (x[0] > 16 - NEAR),
        "sides": lambda x: (x[2] < NEAR) | (x[2] > 50 - NEAR),
        "end": lambda x: x[0] > 90 - NEAR,
        "plate": lambda x: (abs(x[0] - 8) < NEAR) & (x[1] > 18 - NEAR),
        "plate top": lambda x: x[1] > 80 - NEAR,
        "bore": lambda x: round_hole(x[0], x[2], (58.0, 25.0), 5.0),
        "bolts": lambda x: np.any([round_hole(x[1], abs(x[2] - 25), (y, 12.0), 4.5) for y in (36.0, 66.0)], axis=0),
    }
    return fa.LinearStatic(
        mesh.with_groups(facet_groups=groups),
        fa.Elasticity(E=210e3, nu=0.3, density=7.85e-9),
        supports=[fa.Fixed("clamp")],
        loads=[fa.TotalForce("pad", (0.0, -600.0, 0.0))],
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )


def parametrisation(bracket: fa.LinearStatic) -> fa.Parametrisation:
    """Six control points along the arm, two across its thickness, three across its width."""
    movable = np.zeros((6, 2, 3, 3), dtype=bool)
    movable[:, 0, :, 1] = True  # of the lower face, up and down
    movable[:, :, :, 2] = True  # of the sides, in and out; in the middle symmetry holds them
    arm = fa.FreeFormBox(
        bracket.mesh, (6, 2, 3), box=((8, 0, 0), (90, 10, 50)), movable=movable, held=["x-"], layers=2,
        symmetry={"z": 25.0}, fixed=["clamp", fa.Fixed("bore", "xz"), fa.Fixed("pad", "y")], bounds=(-6.0, 5.0),
    )  # fmt: skip
    return arm >> fa.ElasticMotion(bracket.mesh, KEPT, stiffening=0.0)


CASE = DesignCase(
    "optimise_bracket",
    __doc__,
    problem,
    parametrisation,
    fa.Objective(fa.Mass(), "mass"),
    (
        fa.AtMost(fa.Compliance(), 56.8, name="compliance"),
        fa.AtLeast(fa.Displacement("end", "y"), -0.1101, name="displacement of the end"),
    ),
    ("t", "N mm", "mm"),
    {
        "MMA": lambda reduced, designs: fa.minimise_nlopt(reduced, "MMA", max_designs=designs),
        "SLSQP": lambda reduced, designs: fa.minimise_scipy(reduced, "SLSQP", max_designs=designs),
    },
    designs=6,
    scales=30.0,
    length_unit="mm",
    title="L-bracket",
    labels={"clamp": "fixed", "pad": "600 N down"},
    view=View(azimuth=38, elevation=-20, up="y"),
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
