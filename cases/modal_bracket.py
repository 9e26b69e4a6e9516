"""Vibrations of the L-bracket of bracket.py: its lowest two frequencies, and what its shape does to them.

Units: mm, N, MPa, tonne; frequencies in Hz. One factorisation serves the modes and all gradients.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import femadj as fa
from femadj.case import Case, Outcome, Quantity, Run, main
from femadj.report import View, deformed_picture

MESH = Path(__file__).resolve().parent.parent / "meshes" / "bracket.msh"
VIEW = View(azimuth=38, elevation=26, up="y")


def problem(run: Run) -> fa.Modal:
    """The bracket on its mesh of quadratic tetrahedra, bolted to the wall."""
    with run.progress("read mesh"):
        mesh = fa.read_mesh(MESH)
    return fa.Modal(
        mesh,
        fa.Elasticity(E=210e3, nu=0.3, density=7.85e-9),
        supports=[fa.Fixed("clamp")],
        count=2,
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )


def shapes(solution: fa.ModalSolution, outcomes: Mapping[str, Outcome], folder: Path) -> Sequence[Path]:
    """Both modes."""
    return [
        deformed_picture(
            folder / f"mode_{number}.png",
            solution.problem.mesh,
            solution.points,
            solution.mode(number).u,
            f"L-bracket: mode {number} at {solution.frequencies[number]:.0f} Hz",
            "The movement is exaggerated; a mode has no size of its own.",
            length_unit="mm",
            view=VIEW,
        )
        for number in (0, 1)
    ]


CASE = Case(
    "modal_bracket",
    __doc__,
    problem,
    {
        "first frequency": Quantity(fa.Frequency(0), "Hz"),
        "second frequency": Quantity(fa.Frequency(1), "Hz"),
        "mean of both eigenvalues": Quantity(fa.MeanEigenvalue(range(2)), "1/s²"),
        "mass": Quantity(fa.Mass(), "t"),
    },
    length_unit="mm",
    title="L-bracket",
    labels={"clamp": "fixed"},
    view=VIEW,
    pictures=shapes,
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
