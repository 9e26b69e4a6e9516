"""A column clamped at its foot, whose head carries a dead load: at which load does it buckle, and who is to blame?

          |                     Euler: P = pi^2 E I / (4 L^2)
          v P = 1 kN            steel strip 1000 x 60 x 20 mm, in plane stress
         | |
         | |  The load factor is the safety against buckling. Its gradient by the nodes contains the change of the
         | |  stress, for one more adjoint solve on the same factor.
       ==| |==

Units: mm, N, MPa.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import skfem

import femadj as fa
from femadj.case import Case, Outcome, Quantity, Run, main
from femadj.report import deformed_picture

LENGTH, WIDTH, THICKNESS, E, LOAD = 1000.0, 60.0, 20.0, 210e3, 1000.0
CELLS = (40, 3)


def problem(run: Run) -> fa.Buckling:
    """A structured mesh of quadrilaterals with nine nodes, lying on its side: x is the axis of the column."""
    lines = (np.linspace(0, size, n + 1) for size, n in zip((LENGTH, WIDTH), CELLS, strict=True))
    mesh = fa.Mesh.from_skfem(skfem.MeshQuad2.from_mesh(skfem.MeshQuad.init_tensor(*lines))).with_groups(
        facet_groups={"foot": lambda x: x[0] < 1e-6, "head": lambda x: x[0] > LENGTH - 1e-6}
    )
    static = fa.LinearStatic(
        mesh,
        fa.Elasticity(E=E, nu=0.3, plane="stress", thickness=THICKNESS),
        supports=[fa.Fixed("foot")],
        loads=[fa.TotalForce("head", (-LOAD, 0.0))],
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )
    return fa.Buckling(static, count=2)


def euler(solution: fa.BucklingSolution) -> Mapping[str, float]:
    """The closed form beside the first load factor, and the derivatives of both by the length of the column."""
    closed = np.pi**2 * E * THICKNESS * WIDTH**3 / 12 / (4 * LENGTH**2) / LOAD
    _, gradient = fa.value_and_gradient(solution, fa.Eigenvalue())
    longer = solution.points * [1 / LENGTH, 0.0]
    return {
        "load factor": float(solution.load_factors[0]),
        "load factor of Euler": float(closed),
        "by the length [1/mm]": float(np.vdot(gradient.points, longer)),
        "by the length, Euler [1/mm]": float(-2 * closed / LENGTH),
    }


def shapes(solution: fa.BucklingSolution, outcomes: Mapping[str, Outcome], folder: Path) -> Sequence[Path]:
    """The first two modes."""
    return [
        deformed_picture(
            folder / f"mode_{number}.png",
            solution.problem.mesh,
            solution.points,
            solution.mode(number).u,
            f"Column: buckling mode {number} at {solution.load_factors[number]:.4g} times the load",
            "The column lies on its side, its foot to the left. The movement is exaggerated.",
            length_unit="mm",
        )
        for number in (0, 1)
    ]


CASE = Case(
    "buckling_column",
    __doc__,
    problem,
    {
        "load factor": Quantity(fa.Eigenvalue(0)),
        "second load factor": Quantity(fa.Eigenvalue(1)),
        "volume": Quantity(fa.Volume(), "mm³"),
    },
    length_unit="mm",
    title="Column",
    labels={"foot": "fixed", "head": "1 kN"},
    figures=euler,
    pictures=shapes,
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
