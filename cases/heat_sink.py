"""Heat sink: a chip heats the base plate of copper, fins of aluminium carry the heat to a cold plate at their tips.

      25 25 25 25 25 25 25   tips held at 25 degrees Celsius
      |  |  |  |  |  |  |
      |  |  |  |  |  |  |    seven fins, 2 x 24 x 50 mm, 200 W/(m K)
     _|__|__|__|__|__|__|_
    |_____________________|  base plate 50 x 6 x 50 mm, 390 W/(m K)
      ^   ^   ^   ^   ^   ^
      100 W through the lower face

Units: mm, s, K and mW: conductivities in mW/(mm K) have the same numbers as in W/(m K). The heat is a resultant: it
does not grow with the face it enters through.
"""

from pathlib import Path

import femadj as fa
from femadj.case import Case, Quantity, Run, main
from femadj.report import View

MESH = Path(__file__).resolve().parent.parent / "meshes" / "heat_sink.inp"


def problem(run: Run) -> fa.LinearStatic:
    """The heat sink on its Abaqus mesh of hexahedra."""
    with run.progress("read mesh"):
        mesh = fa.read_mesh(MESH)
    return fa.LinearStatic(
        mesh,
        fa.Diffusion({"BASE_PLATE": 390.0, "FINS": 200.0}, density={"BASE_PLATE": 8.96e-9, "FINS": 2.7e-9}),
        supports=[fa.Fixed("tips", value=25.0)],
        loads=[fa.TotalForce("base", 100e3)],
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )


CASE = Case(
    "heat_sink",
    __doc__,
    problem,
    {
        "base temperature": Quantity(fa.Displacement("base"), "°C"),
        "half dissipation": Quantity(fa.StrainEnergy(), "mW K"),
        "mass": Quantity(fa.Mass(), "t"),
    },
    length_unit="mm",
    title="Heat sink",
    labels={"tips": "25 °C", "base": "100 W"},
    view=View(azimuth=35, elevation=25, up="y"),
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
