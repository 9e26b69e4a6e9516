"""A beam struck at its end: tip displacement over time, and what it depends on.

     |#________________________________
     |#  steel, 400 x 40 mm, plane     |  |  traction on the end, a half sine of 2 ms, then nothing
     |#________________________________|  v
       x = 0                      x = 400

Generalised-alpha with a little Rayleigh damping. The response is the tip displacement at the end of the time, for which
every moment of the load matters: the second picture shows the motion, and by how much a load at a time would have moved
the tip at the end (the derivative by the history of the load, per length of a step). States that do not fit into
``--memory`` are stepped to again on the way back. Units: mm, s, N, MPa, tonne.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import femadj as fa
from femadj.case import Case, Outcome, Quantity, Run, main
from femadj.report import Panel, curves

LENGTH, HEIGHT, STRIKE, FINAL = 400.0, 40.0, 2e-3, 12e-3


def plate(nx: int, ny: int) -> fa.Mesh:
    """A regular rectangle with the facet groups ``root`` and ``end``."""
    x, y = np.meshgrid(np.linspace(0, LENGTH, nx + 1), np.linspace(0, HEIGHT, ny + 1), indexing="ij")
    index = np.arange(x.size).reshape(x.shape)
    cells = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], axis=-1).reshape(-1, 4)
    mesh = fa.Mesh(np.stack([x.ravel(), y.ravel()], axis=1), {"quad": cells})
    return mesh.with_groups(facet_groups={"root": lambda x: x[0] < 1e-9, "end": lambda x: x[0] > LENGTH * (1 - 1e-9)})


def arguments(parser: argparse.ArgumentParser) -> None:
    """Size, steps and memory."""
    parser.add_argument("--size", nargs=2, type=int, default=(40, 4), metavar=("NX", "NY"),
                        help="cells along each direction (default: 40 4)")  # fmt: skip
    parser.add_argument("--steps", type=int, default=240, help="steps of time (default: %(default)s)")
    parser.add_argument("--memory", default="400 KiB", help="budget of the states that are kept (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where a run that is killed goes on when it is started again")


def problem(run: Run) -> fa.Transient:
    """The beam."""
    if min(run.arguments.size) < 1:
        raise fa.InvalidMeshError(f"--size needs two positive numbers, not {run.arguments.size}")
    with run.progress("make mesh"):
        mesh = plate(*run.arguments.size)
    strike = fa.Traction("end", (0.0, -1.0))
    return fa.Transient(
        mesh,
        fa.Elasticity(E=210e3, nu=0.3, density=7.85e-9, plane="stress", thickness=10.0),
        supports=[fa.Fixed("root")],
        loads=[fa.WithHistory(strike, lambda t: np.where(t < STRIKE, np.sin(np.pi * t / STRIKE), 0.0))],
        scheme=fa.GeneralisedAlpha(0.8),
        damping=(20.0, 1e-6),
        times=fa.Times(FINAL, run.arguments.steps),
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )


def solve(problem: fa.Transient, arguments: argparse.Namespace) -> fa.HistorySolution:
    """Within the memory, and with a folder to go on from."""
    return problem.solve(memory=arguments.memory, folder=arguments.folder)


TIP = fa.Displacement("end", "y")


def figures(solution: fa.HistorySolution) -> Mapping[str, float]:
    """The slowest bending mode, by beam theory, and derivatives of the tip displacement at the end."""
    _, gradient = fa.value_and_gradient(solution, fa.AtTime(TIP))
    speed = fa.values_in_time(solution, TIP, [FINAL], of="rate")[0]
    frequency = 1.8751**2 / (2 * np.pi) * np.sqrt(210e3 * HEIGHT**2 / 12 / 7.85e-9) / LENGTH**2
    return {
        "first frequency of a slender beam [Hz]": float(frequency),
        "tip velocity at the end [mm/s]": float(speed),
        "derivative by the final time [mm/s]": float(gradient.parameters["final_time"]),
        "change for 1 % more E [mm]": 0.01 * 210e3 * float(np.sum(gradient.parameters["E"])),
        "change for 1 % more damping by the mass [mm]": 0.01 * 20.0 * float(gradient.parameters["damping"][0]),
    }


def over_time(solution: fa.HistorySolution, outcomes: Mapping[str, Outcome], folder: Path) -> Sequence[Path]:
    """The motion of the tip, and what loads at a time do to the tip at the end."""
    slope = outcomes["deflection"].gradient.histories[0]
    tip = fa.values_in_time(solution, TIP)
    times, dt = 1e3 * solution.times.grid, solution.times.step
    file = curves(
        folder / "transient_beam_curves.png",
        [
            Panel(times, {"tip displacement": tip}, "tip [mm]", {"observed": (float(times[-1]), float(tip[-1]))}),
            Panel(1e3 * slope.times[1:], {"influence": 1e-3 * slope.values[1:] / dt}, "influence [mm/(MPa ms)]"),
        ],
        "A struck beam",
        "Above: displacement of the end. Below: how much a traction of 1 MPa during 1 ms, at that time, would add to "
        f"it at the last time. {solution.snapshots.schedule}.",
        "time [ms]",
    )
    return [file]


CASE = Case(
    "transient_beam",
    __doc__,
    problem,
    {
        "deflection": Quantity(fa.AtTime(TIP), "mm"),
        "mean square of the field": Quantity(fa.TimeIntegral(fa.FieldNorm()), "mm⁵ s"),
    },
    length_unit="mm",
    title="Struck beam",
    labels={"root": "fixed", "end": "struck"},
    arguments=arguments,
    figures=figures,
    solve=solve,
    pictures=over_time,
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
