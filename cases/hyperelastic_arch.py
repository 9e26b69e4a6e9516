"""Shallow arch of rubber, pressed down at its crown until it snaps: nonlinear statics up to the limit of the load.

                    | F
                 ___v___
            _.--'       '--._          span 200 mm, rise 14 mm, 5 mm thick, clamped at both ends;
      |#.--'                 '--.#|    neo-Hooke, E = 6 MPa, nu = 0.45, plane strain, 1 mm deep
      |#                         #|

The load is applied in steps, shorter ones where Newton's method needs them. Beyond the limit there is no equilibrium
near by: the search ends there, says so, and keeps the last one it has found. The path is drawn beside that of the same
arch under a prescribed displacement, which goes on past the limit. Gradients are those at a part of the limit,
``--part``.
Units: mm, N, MPa.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import femadj as fa
from femadj.case import BAD_INPUT, Case, Quantity, Run, run_case

SPAN, RISE, THICKNESS = 200.0, 14.0, 5.0
CROWN = fa.Displacement("crown", (0.0, -1.0))


def arch(cells: int) -> fa.Mesh:
    """An arc of quadrilaterals with eight nodes, with the groups ``left``, ``right``, ``crown``."""
    along, across = np.meshgrid(np.arange(2 * cells + 1), np.arange(5), indexing="ij")
    radius = (SPAN**2 / 4 + RISE**2) / (2 * RISE)
    angle = np.arcsin(SPAN / 2 / radius) * (2 * along / along.max() - 1)
    distance = radius + THICKNESS * (across / 4 - 0.5)
    points = np.stack([distance * np.sin(angle), distance * np.cos(angle) - radius + RISE], axis=-1).reshape(-1, 2)
    index = np.arange(len(points)).reshape(along.shape)
    corner = index[:-2:2, :-2:2].ravel()
    step = index[1, 0] - index[0, 0]
    local = np.array([0, 2 * step, 2 * step + 2, 2, step, 2 * step + 1, step + 2, 1])
    used, cells_of = np.unique(corner[:, None] + local, return_inverse=True)
    mesh = fa.Mesh(points[used], {"quad8": cells_of.reshape(-1, 8)})
    end = angle.max()
    return mesh.with_groups(
        facet_groups={
            "left": lambda x: np.arctan2(x[0], x[1] + radius - RISE) < -end * (1 - 1e-9),
            "right": lambda x: np.arctan2(x[0], x[1] + radius - RISE) > end * (1 - 1e-9),
        },
        node_groups={"crown": lambda x: (abs(x[0]) < 1e-9) & (x[1] > RISE + 0.49 * THICKNESS)},
    )


def problem_of(
    mesh: fa.Mesh, loads: Sequence[Any], supports: Sequence[fa.Fixed] = (), **options: Any
) -> fa.NonlinearStatic:
    """The arch under some loads."""
    return fa.NonlinearStatic(
        mesh, fa.Hyperelastic(E=6.0, nu=0.45), [fa.Fixed("left"), fa.Fixed("right"), *supports], loads, **options
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Fineness and load."""
    parser.add_argument("--cells", type=int, default=20, metavar="N", help="cells along the arch (default: 20)")
    parser.add_argument("--load", type=float, default=0.04, metavar="F", help="load at the crown [N] (default: 0.04)")
    parser.add_argument(
        "--part", type=float, default=0.95, metavar="P",
        help="part of the limit, or of the load, at which gradients are taken (default: 0.95)",
    )  # fmt: skip


def problem(run: Run) -> fa.NonlinearStatic:
    """The arch under a part of the load that it bears."""
    if run.arguments.cells < 2 or run.arguments.cells % 2:
        raise fa.InvalidMeshError(f"--cells needs an even number, not {run.arguments.cells}")
    limit, _, words = borne(run.arguments.cells, run.arguments.load)
    print(words)
    load = fa.PointLoad("crown", (0.0, -run.arguments.part * limit))
    return problem_of(arch(run.arguments.cells), [load], solver=run.solver, threads=run.threads, progress=run.progress)


@cache
def borne(cells: int, load: float) -> tuple[float, Sequence[fa.LoadStep], str]:
    """The load that the arch bears, the equilibria on the way, and why there are no more."""
    whole = problem_of(arch(cells), [fa.PointLoad("crown", (0.0, -load))], newton=fa.Newton(load_steps=10))
    try:
        return load, whole.solve().path, "the whole load is borne"
    except fa.ConvergenceError as error:
        return load * error.level, error.path, str(error)


def pressed(mesh: fa.Mesh, depths: Sequence[float]) -> list[float]:
    """The force that holds the crown at each depth, one equilibrium after the other."""
    forces, solution = [], None
    for depth in depths:
        held = problem_of(mesh, [], [fa.Fixed("crown", "y", -depth)])
        solution = held.solve(start=solution)
        forces.append(-fa.Reaction("crown", "y").value(solution))
    return forces


def draw_path(file: Path, given: argparse.Namespace) -> None:
    """Draw load over depth, found by loads and by displacements."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mesh = arch(given.cells)
    crown = mesh.nodes_of("crown")[0]
    limit, path, _ = borne(given.cells, given.load)
    depths = np.linspace(0.0, 1.75 * RISE, 36)[1:]
    forces = pressed(mesh, depths)
    figure = Figure(figsize=(8.5, 5.5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0.0, *depths], [0.0, *forces], color="#9a9a9a", label="prescribed displacement of the crown")
    found = [(0.0, 0.0)] + [(-step.u[crown, 1], step.level * given.load) for step in path]
    axes.plot(*zip(*found, strict=True), "o-", color="#b2182b", label="load steps of Newton's method")
    axes.axhline(limit, color="#b2182b", lw=0.7, ls="--")
    axes.annotate(f"limit of the load: {limit:.4g} N", (0.55 * RISE, limit), xytext=(0, 6), textcoords="offset points")
    axes.set_xlabel("depth of the crown [mm]")
    axes.set_ylabel("force [N]")
    axes.set_title("Shallow arch of rubber", loc="left", fontweight="bold")
    axes.legend(frameon=False, loc="upper center")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130, facecolor="white")


def figures(solution: Any) -> dict[str, float]:
    """How far the arch has come, and what it took."""
    depth, gradient = fa.value_and_gradient(solution, CROWN)
    return {
        "depth of the crown / rise": depth / RISE,
        "depth for 1 % more stiffness [mm]": 0.01 * 6.0 * float(gradient.parameters["E"]),
        "estimated error of the depth [mm]": abs(gradient.value_error or 0.0),
        "load steps": float(len(solution.path)),
        "iterations": float(solution.iterations),
    }


CASE = Case(
    "hyperelastic_arch",
    __doc__,
    problem,
    {
        "depth of the crown": Quantity(CROWN, "mm"),
        "work of the load": Quantity(fa.Compliance(), "N mm"),
        "area": Quantity(fa.Volume(), "mm2"),
    },
    length_unit="mm",
    title="Shallow arch of rubber",
    labels={"left": "clamped", "right": "clamped", "crown": "load"},
    arguments=arguments,
    figures=figures,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the case, and follow the path to the limit."""
    given = CASE.parser().parse_args(argv)
    try:
        run_case(CASE, given)
        if not given.no_picture:
            file = given.out / "path.png"
            draw_path(file, given)
            print(f"wrote {file}")
    except ImportError:
        print("no picture of the path: it needs matplotlib")
    except fa.FemadjError as error:
        print(f"{CASE.name}: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
