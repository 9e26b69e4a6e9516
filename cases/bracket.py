"""L-bracket of steel, bolted to a wall, with a force on the end of its arm.

          |#|
          |#|  wall plate 8 x 80 x 50, its back face held
          |#|                      600 N, spread over the end of the arm
          |#|                     vvvvv
          |##\\____________________________
          |#____________________(  )______|   arm 90 x 10 x 50

Units: mm, N, MPa, tonne. The resultant of the load stays what it is when its surface changes.
"""

from pathlib import Path

import femadj as fa
from femadj.case import Case, Quantity, Run, main
from femadj.report import View

MESH = Path(__file__).resolve().parent.parent / "meshes" / "bracket.msh"


def problem(run: Run) -> fa.LinearStatic:
    """The bracket on its mesh of quadratic tetrahedra."""
    with run.progress("read mesh"):
        mesh = fa.read_mesh(MESH)
    return fa.LinearStatic(
        mesh,
        fa.Elasticity(E=210e3, nu=0.3, density=7.85e-9),
        supports=[fa.Fixed("clamp")],
        loads=[fa.TotalForce("pad", (0.0, -600.0, 0.0))],
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )


CASE = Case(
    "bracket",
    __doc__,
    problem,
    {
        "compliance": Quantity(fa.Compliance(), "N mm"),
        "tip displacement": Quantity(fa.Displacement("pad", "y"), "mm"),
        "mass": Quantity(fa.Mass(), "t"),
    },
    length_unit="mm",
    title="L-bracket",
    labels={"clamp": "fixed", "pad": "600 N down"},
    view=View(azimuth=38, elevation=26, up="y"),
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
