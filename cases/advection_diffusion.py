"""Water in a flat channel with a heated strip in its lower wall: what carries the heat to the outlet.

      ________________________________________________
      -->                                                outlet
     20 °C   parabola, 5 mm/s in the mean            -->
      -->________######################________________
       x = 0    6  strip of 80 °C    14           x = 24

Channel 24 x 4 mm, a slice of 1 mm, the rest of its walls insulated. The velocity is a function of position: it stays
where it is when nodes move. The hot streak is the 8-mean of the temperature over the outlet, above the 20 degrees.
``--size NX NY`` sets the number of quadrilaterals along and across. Units: mm, s, K, mW.
"""

import argparse
from collections.abc import Mapping
from math import gamma

import numpy as np

import femadj as fa
from femadj.case import Case, Quantity, Run, main

LENGTH, HEIGHT, STRIP = 24.0, 4.0, (6.0, 14.0)
SPEED, CONDUCTIVITY, CAPACITY = 5.0, 0.6, 4.18  # mm/s, mW/(mm K), mJ/(mm³ K)
COLD, HOT = 20.0, 80.0


def flow(x):
    """Poiseuille's profile times the heat capacity: heat carried per area, time and degree."""
    return CAPACITY * SPEED * 6 * x[1] * (HEIGHT - x[1]) / HEIGHT**2, 0 * x[0]


def channel(nx: int, ny: int) -> fa.Mesh:
    """Quadrilaterals, finer towards the walls, with the facet groups ``inlet``, ``outlet`` and ``strip``."""
    across = HEIGHT * (1 - np.cos(np.pi * np.linspace(0, 1, ny + 1))) / 2
    points = np.stack(np.meshgrid(np.linspace(0, LENGTH, nx + 1), across, indexing="ij"), axis=-1).reshape(-1, 2)
    index = np.arange(len(points)).reshape(nx + 1, ny + 1)
    corners = [index[i : nx + i, j : ny + j].ravel() for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
    mesh = fa.Mesh(points, {"quad": np.stack(corners, axis=1)})
    return mesh.with_groups(
        facet_groups={
            "inlet": lambda x: x[0] < 1e-9,
            "outlet": lambda x: x[0] > LENGTH - 1e-9,
            "strip": lambda x: (x[1] < 1e-9) & (x[0] > STRIP[0]) & (x[0] < STRIP[1]),
        }
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Number of cells."""
    parser.add_argument("--size", nargs=2, type=int, default=(120, 32), metavar=("NX", "NY"),
                        help="cells along and across (default: 120 32)")  # fmt: skip


def problem(run: Run) -> fa.LinearStatic:
    """The channel."""
    if min(run.arguments.size) < 4:
        raise fa.InvalidMeshError(f"--size needs two numbers from 4 on, not {run.arguments.size}")
    with run.progress("make mesh"):
        mesh = channel(*run.arguments.size)
    return fa.LinearStatic(
        mesh,
        fa.AdvectionDiffusion(CONDUCTIVITY, flow, supg=True),
        supports=[fa.Fixed("inlet", value=COLD), fa.Fixed("strip", value=HOT)],
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )


def carried(w):
    """Heat that the flow carries out, above that of the cold water."""
    b = flow(w.x)
    return (b[0] * w.n[0] + b[1] * w.n[1]) * (w.u - COLD)


OUTLET = fa.Functional(fa.Integral(carried, "outlet"))
STREAK = fa.Functional(fa.Integral(lambda w: (w.u - COLD) ** 8 / HEIGHT, "outlet"), power=1 / 8)


def figures(solution: fa.Solution) -> Mapping[str, float]:
    """What the water would have after mixing; the heat against Lévêque's solution for a thin heated layer."""
    heat = OUTLET.evaluate(solution).value
    shear, diffusivity = 6 * SPEED / HEIGHT, CONDUCTIVITY / CAPACITY
    layer = (shear / (9 * diffusivity)) ** (1 / 3) / gamma(4 / 3)
    expected = CONDUCTIVITY * (HOT - COLD) * layer * 1.5 * (STRIP[1] - STRIP[0]) ** (2 / 3)
    return {
        "mixed temperature at the outlet [°C]": COLD + heat / (CAPACITY * SPEED * HEIGHT),
        "heat / Lévêque's solution": heat / expected,
    }


CASE = Case(
    "advection_diffusion",
    __doc__,
    problem,
    {
        "heat at the outlet": Quantity(OUTLET, "mW"),
        "hot streak at the outlet": Quantity(STREAK, "K"),
    },
    length_unit="mm",
    title="Heated channel",
    labels={"inlet": "20 °C", "strip": "80 °C", "outlet": "outlet"},
    lines=("temperature", lambda solution: solution.u[:, 0]),
    arguments=arguments,
    figures=figures,
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
