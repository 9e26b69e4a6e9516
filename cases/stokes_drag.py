"""Drag of a cylinder in a channel with creeping flow: Stokes' equations on Taylor-Hood elements.

      ____________________________________   no slip
      -->                                 |
      -->     _                           |   channel 60 x 20 mm, a slice of 1 mm
      -->    (_)  diameter 5 mm           |
      -->_________________________________|   leaves straight, without pressure

Glycerine, 1 Pa s = 1e-3 mN s/mm², flows in with a parabola of 10 mm/s in the mean. Velocities are quadratic, pressures
linear, on triangles that are curved at the cylinder. The drag is the sum of the nodal forces that hold the velocities
on the cylinder. The integral of the stress differs from it by 1.5e-4 only, but its gradient is coarse: that of the
nodal forces vanishes where the flow divides, as it should. Units: mm, s, mN, kPa, uW.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from skfem import ElementTriP1, ElementTriP2, ElementVector
from skfem.helpers import ddot, div, sym_grad

import femadj as fa
from femadj.case import Case, Quantity, Run, main

MESH = Path(__file__).resolve().parent.parent / "meshes" / "cylinder_in_channel.msh"
HEIGHT, SPEED = 20.0, 10.0
VISCOSITY = 1e-3


def stokes(u, p, v, q, w):
    """Balance of momentum and of mass."""
    return 2 * w.mu * ddot(sym_grad(u), sym_grad(v)) - p * div(v) - q * div(u)


def inflow(x):
    """A parabola with the given mean."""
    return 6 * SPEED * x[1] * (HEIGHT - x[1]) / HEIGHT**2, 0 * x[0]


def problem(run: Run) -> fa.LinearStatic:
    """The flow."""
    with run.progress("read mesh"):
        mesh = fa.read_mesh(MESH)
    element = ElementVector(ElementTriP2()) * ElementTriP1()
    return fa.LinearStatic(
        mesh,
        fa.Form(stokes, element=element, names=("u", "p"), parameters={"mu": VISCOSITY}),
        supports=[
            fa.Fixed("inlet", "u", value=inflow),
            fa.Fixed("walls", "u", overrides=True),
            fa.Fixed("cylinder", "u"),
            fa.Fixed("outlet", "u.y"),
        ],
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )


def stress(w, i):
    """Component i of the stress vector on the boundary of the fluid."""
    strain = sym_grad(w.u)
    return 2 * w.mu * (strain[i, 0] * w.n[0] + strain[i, 1] * w.n[1]) - w.p * w.n[i]


def power(w):
    """What the surroundings do on the fluid."""
    return stress(w, 0) * w.u[0] + stress(w, 1) * w.u[1]


DRAG = fa.Reaction("cylinder", "u.x", factor=-1.0)
BY_STRESS = fa.Functional(fa.Integral(lambda w: -stress(w, 0), "cylinder"))
LOSS = fa.Functional(lambda w: 2 * w.mu * ddot(sym_grad(w.u), sym_grad(w.u)))
DRIVE = fa.Functional([fa.Integral(power, "inlet"), fa.Integral(power, "outlet")])


def figures(solution: fa.Solution) -> Mapping[str, float]:
    """Drag as a number, and what viscosity takes over what the surroundings give."""
    drag, loss, drive = (response.evaluate(solution).value for response in (DRAG, LOSS, DRIVE))
    return {"drag / (viscosity x mean speed)": drag / (VISCOSITY * SPEED), "power lost / given": loss / drive}


CASE = Case(
    "stokes_drag",
    __doc__,
    problem,
    {
        "drag": Quantity(DRAG, "mN"),
        "drag by stress": Quantity(BY_STRESS, "mN"),
        "power lost": Quantity(LOSS, "uW"),
    },
    length_unit="mm",
    title="Cylinder in creeping flow",
    labels={"inlet": "inlet", "outlet": "outlet"},
    figures=figures,
    lines=("speed", lambda solution: np.linalg.norm(solution.nodal("u"), axis=1)),
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
