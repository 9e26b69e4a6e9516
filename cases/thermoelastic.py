"""Heat sink, thermoelastic: its base plate grows as it heats and bends the fins, whose tips a cold plate holds.

      25 25 25 25 25 25 25   tips held, and at 25 degrees Celsius
      |  |  |  |  |  |  |
      |  |  |  |  |  |  |    seven fins of aluminium, 2 x 24 x 50 mm
     _|__|__|__|__|__|__|_
    |_____________________|  base plate of copper, 50 x 6 x 50 mm
      ^   ^   ^   ^   ^   ^
      100 W through the lower face

Two problems in a chain: the temperature is a load of the solid, and gradients of what the solid does run back through
both. The fin stress is the 8-mean of von Mises' stress over the fins. Units: mm, N, MPa, s, K, mW.
"""

from pathlib import Path

from skfem.helpers import ddot, eye, sym_grad, trace

import femadj as fa
from femadj.case import Case, Quantity, Run, main
from femadj.report import View

MESH = Path(__file__).resolve().parent.parent / "meshes" / "heat_sink.inp"
CONDUCTIVITY = {"BASE_PLATE": 390.0, "FINS": 200.0}  # mW/(mm K), the same numbers as in W/(m K)
E = {"BASE_PLATE": 120e3, "FINS": 70e3}  # MPa
NU = {"BASE_PLATE": 0.34, "FINS": 0.33}
EXPANSION = {"BASE_PLATE": 17e-6, "FINS": 23e-6}  # 1/K
COLD = 25.0


def problem(run: Run) -> fa.Chain:
    """Heat, then the solid that it deforms."""
    with run.progress("read mesh"):
        mesh = fa.read_mesh(MESH)
    options = {"solver": run.solver, "threads": run.threads, "progress": run.progress}
    heat = fa.LinearStatic(
        mesh,
        fa.Diffusion(CONDUCTIVITY),
        supports=[fa.Fixed("tips", value=COLD)],
        loads=[fa.TotalForce("base", 100e3)],
        **options,
    )
    solid = fa.LinearStatic(
        mesh,
        fa.Elasticity(E=E, nu=NU),
        supports=[fa.Fixed("tips")],
        loads=[fa.ThermalStrain(EXPANSION, reference=COLD)],  # of the stage "temperature"
        **options,
    )
    return fa.Chain({"temperature": heat, "displacement": solid})


def von_mises_squared(w):
    """Square of von Mises' stress in the fins."""
    strain = sym_grad(w.u)
    shear = E["FINS"] / (2 * (1 + NU["FINS"]))
    deviator = 2 * shear * (strain - eye(trace(strain) / 3, 3))  # expansion has none
    return 1.5 * ddot(deviator, deviator)


VOLUME = 7 * 2 * 24 * 50  # of the fins
STRESS = fa.Functional(fa.Integral(lambda w: von_mises_squared(w) ** 4 / VOLUME, "FINS"), power=1 / 8)
CASE = Case(
    "thermoelastic",
    __doc__,
    problem,
    {
        "fin stress": Quantity(STRESS, "MPa"),
        "lift of the base": Quantity(fa.Displacement("base", "y"), "mm"),
        "base temperature": Quantity(fa.OnStage("temperature", fa.Displacement("base")), "°C"),
    },
    length_unit="mm",
    title="Heat sink",
    labels={"tips": "held, 25 °C", "base": "100 W"},
    view=View(azimuth=35, elevation=25, up="y"),
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
