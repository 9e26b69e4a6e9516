"""Square plate with a small round hole, pulled along x: a quarter of it, in plane stress.

      ______________________
     |                      | -->
     |  40 x 40 x 2 mm      | -->   100 MPa, kept as a resultant of 4000 N on the quarter
    |)  hole of radius 1    | -->
     |______________________| -->

The lower and left edges are planes of symmetry. Kirsch's solution for an infinite plate has three times the applied
stress at the hole. Units: mm, N, MPa, tonne.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

import femadj as fa
from femadj.case import Case, Quantity, Run, main

MESH = Path(__file__).resolve().parent.parent / "meshes" / "plate_with_hole.msh"
E, NU, THICKNESS, STRESS, SIDE = 210e3, 0.3, 2.0, 100.0, 20.0


def problem(run: Run) -> fa.LinearStatic:
    """The quarter plate on its mesh of quadratic quadrilaterals and triangles."""
    with run.progress("read mesh"):
        mesh = fa.read_mesh(MESH)
    return fa.LinearStatic(
        mesh,
        fa.Elasticity(E=E, nu=NU, density=7.85e-9, plane="stress", thickness=THICKNESS),
        supports=[fa.Fixed("left", "x"), fa.Fixed("bottom", "y")],
        loads=[fa.TotalForce("right", (STRESS * SIDE * THICKNESS, 0.0))],
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )


def stress_concentration(solution: fa.Solution) -> Mapping[str, float]:
    """Hoop stress at the top of the hole over the applied stress.

    The hole is free of load, so that the hoop stress is E times the hoop strain, and that is the change of ``u_x``
    along the edge of the quadratic cell there, which runs along x.
    """
    x = solution.points
    hole = solution.problem.mesh.nodes_of("hole")
    corner, middle, end = hole[np.argsort(x[hole, 0])[:3]]
    slope = [-3.0, 4.0, -1.0]
    strain = slope @ solution.u[[corner, middle, end], 0] / (slope @ x[[corner, middle, end], 0])
    return {"stress concentration (Kirsch: 3)": float(E * strain / STRESS)}


CASE = Case(
    "plate_with_hole",
    __doc__,
    problem,
    {
        "compliance": Quantity(fa.Compliance(), "N mm"),
        "elongation": Quantity(fa.Displacement("right", "x"), "mm"),
        "mass": Quantity(fa.Mass(), "t"),
    },
    length_unit="mm",
    title="Plate with a hole",
    labels={"left": "symmetry", "bottom": "symmetry", "right": "100 MPa"},
    figures=stress_concentration,
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
