"""A PDE of one's own: a fin of carbon fibre on a hot tube, cooled by air that flows along it.

      ____________________________________
     |                                    |   fin 60 x 20 mm, 0.5 mm thick, insulated edges
     |       _                            |   fibres along x: 300 W/(m K) along, 30 across
     |      (_)  tube of diameter 5       |   air along x: its film is thinnest where it arrives
     |____________________________________|
      -->  air

For the temperature T above that of the air: ``-div(t K grad T) + 2 h(x) T = 0`` with the film coefficient on both faces
``h = h_air / sqrt(1 + x/L)``, and ``t n . K grad T = t h_tube (T_tube - T)`` on the wall of the tube. The 8-mean of the
temperature leans to its peak. Units: mm, s, K, mW.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from skfem.helpers import dot, grad, mul

import femadj as fa
from femadj.case import Case, Quantity, Run, main

MESH = Path(__file__).resolve().parent.parent / "meshes" / "cylinder_in_channel.msh"
PARAMETERS = {
    "K": np.diag([300.0, 30.0]),  # mW/(mm K), the same numbers as in W/(m K)
    "h_air": 0.08,  # mW/(mm² K), 80 W/(m² K)
    "h_tube": 20.0,
    "T_tube": 60.0,  # K above the air
}
THICKNESS, LENGTH, AREA = 0.5, 10.0, 60 * 20 - np.pi * 2.5**2


def to_air(T, w):
    """Heat that both faces give to the air, per area."""
    return 2 * w.h_air / np.sqrt(1 + w.x[0] / LENGTH) * T


def from_tube(T, w):
    """Heat that comes from the tube, per length of its wall."""
    return THICKNESS * w.h_tube * (w.T_tube - T)


def fin(T, v, w):
    """Conduction, and the film on the faces."""
    return THICKNESS * dot(mul(w.K, grad(T)), grad(v)) + to_air(T, w) * v


def problem(run: Run) -> fa.LinearStatic:
    """The fin, on the mesh of a rectangle with a round hole."""
    with run.progress("read mesh"):
        mesh = fa.read_mesh(MESH)
    film = fa.Integral(lambda T, v, w: THICKNESS * w.h_tube * T * v, "cylinder", name="film on the tube")
    heat = fa.Integral(lambda v, w: from_tube(0.0, w) * v, "cylinder", name="heat from the tube")
    return fa.LinearStatic(
        mesh,
        fa.Form([fin, film], heat, parameters=PARAMETERS),
        supports=[],  # the films hold the temperature
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )


HEAT = fa.Functional(fa.Integral(lambda w: from_tube(w.u, w), "cylinder"))
TO_AIR = fa.Functional(lambda w: to_air(w.u, w))
PEAK = fa.Functional(lambda w: w.u**8 / AREA, power=1 / 8)


def figures(solution: fa.Solution) -> Mapping[str, float]:
    """The balance of heat, and what one percent more of every parameter changes."""
    (heat, lost), (gradient, _) = fa.values_and_gradients(solution, [HEAT, TO_AIR])
    found = {"heat to the air / heat from the tube": float(lost / heat)}
    for name, value in PARAMETERS.items():
        found[f"heat for 1 % more {name} [mW]"] = float(np.sum(value * gradient.parameters[name])) / 100
    return found


CASE = Case(
    "own_pde",
    __doc__,
    problem,
    {
        "heat from the tube": Quantity(HEAT, "mW"),
        "8-mean of the temperature": Quantity(PEAK, "K"),
        "heat to the air": Quantity(TO_AIR, "mW"),
    },
    length_unit="mm",
    title="Fin on a tube",
    labels={"cylinder": "tube", "inlet": "air"},
    lines=("temperature", lambda solution: solution.u[:, 0]),
    figures=figures,
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
