"""A hot fin is left to the air: how warm is it after a time, and how long does it take to cool?

     ________________________________________
    |#  aluminium, 40 x 3 mm, plane           |   film of air on the faces and the tip
    |#________________________________________|
     base: 80 K above the air, falling to zero within some 20 s

``c T' - div(K grad T) = 0`` with ``n . K grad T = -film T`` on the surface; SDIRK2, from the steady state at 80 K. The
derivative by the final time is the rate at which it cools; Newton's method on it finds when the tip reaches 20 K.
Units: mm, s, K, mJ, mW.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from skfem.helpers import dot, grad

import femadj as fa
from femadj.case import Case, Outcome, Quantity, Run, main
from femadj.report import Panel, curves

LENGTH, HEIGHT, HOT, LEFT, FINAL, STEPS = 40.0, 3.0, 80.0, 20.0, 24.0, 24
PARAMETERS = {"K": 200.0, "c": 2.43, "film": 0.1}  # mW/(mm K), mJ/(mm³ K), mW/(mm² K)


def fin() -> fa.Mesh:
    """A regular rectangle with the facet groups ``base``, ``tip`` and ``surface``."""
    x, y = np.meshgrid(np.linspace(0, LENGTH, 41), np.linspace(0, HEIGHT, 4), indexing="ij")
    index = np.arange(x.size).reshape(x.shape)
    cells = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], axis=-1).reshape(-1, 4)
    mesh = fa.Mesh(np.stack([x.ravel(), y.ravel()], axis=1), {"quad": cells})
    return mesh.with_groups(
        facet_groups={
            "base": lambda x: x[0] < 1e-9,
            "tip": lambda x: x[0] > LENGTH * (1 - 1e-9),
            "surface": lambda x: (x[0] > LENGTH * (1 - 1e-9)) | (x[1] < 1e-9) | (x[1] > HEIGHT * (1 - 1e-9)),
        }
    )


def steady(x):
    """Temperature along a slender fin with films on its faces and its tip, at the start."""
    m = np.sqrt(2 * PARAMETERS["film"] / (PARAMETERS["K"] * HEIGHT))
    tip = PARAMETERS["film"] / (m * PARAMETERS["K"])

    def shape(s):
        return np.cosh(m * s) + tip * np.sinh(m * s)

    return HOT * shape(LENGTH - x[0]) / shape(LENGTH)


def falling(t):
    """Temperature of the base, as a part of that at the start."""
    return np.exp(-((t / 10) ** 2))


def falling_rate(t):
    """Its derivative."""
    return -t / 50 * falling(t)


def problem(run: Run) -> fa.Transient:
    """The fin."""
    form = fa.Form(
        [
            lambda T, v, w: w.K * dot(grad(T), grad(v)),
            fa.Integral(lambda T, v, w: w.film * T * v, "surface", name="film"),
            fa.Integral(lambda T, v, w: w.c * T * v, rate=1, name="capacity"),
        ],
        parameters=PARAMETERS,
    )
    return fa.Transient(
        fin(),
        form,
        supports=[fa.WithHistory(fa.Fixed("base", value=HOT), (falling, falling_rate))],
        scheme=fa.SDIRK2(),
        times=fa.Times(FINAL, STEPS),
        initial=steady,
        solver=run.solver,
        threads=run.threads,
        progress=run.progress,
    )


TIP = fa.Displacement("tip")


def figures(solution: fa.HistorySolution) -> Mapping[str, float]:
    """Derivatives, and the time at which the tip has cooled down, by Newton's method on the final time."""
    value, gradient = fa.value_and_gradient(solution, fa.AtTime(TIP))
    found = {
        "rate at the end [K/s]": float(fa.values_in_time(solution, TIP, [FINAL], of="rate")[0]),
        "derivative by the final time [K/s]": float(gradient.parameters["final_time"]),
    }
    for name, given in PARAMETERS.items():
        found[f"change for 1 % more {name} [K]"] = 0.01 * given * float(gradient.parameters[name])
    time, problem = FINAL, solution.problem.rebuilt(solution.points)
    for _ in range(6):
        time -= (value - LEFT) / float(gradient.parameters["final_time"])
        value, gradient = fa.value_and_gradient(problem.solve(times=fa.Times(time, STEPS)), fa.AtTime(TIP))
    return {**found, f"time to {LEFT:g} K [s]": time, "tip temperature then [K]": value}


def over_time(solution: fa.HistorySolution, outcomes: Mapping[str, Outcome], folder: Path) -> Sequence[Path]:
    """Temperatures over time."""
    grid = solution.times.grid
    base, tip = (fa.values_in_time(solution, fa.Displacement(group)) for group in ("base", "tip"))
    file = curves(
        folder / "cooling_fin_curves.png",
        [
            Panel(grid, {"base": base, "tip": tip}, "above the air [K]"),
            Panel(grid[1:], {"tip": fa.values_in_time(solution, TIP, grid[1:], of="rate")}, "rate of the tip [K/s]"),
        ],
        "A cooling fin",
        "Temperatures above the air over time, and the rate of the tip; at its end it is the derivative by the final "
        "time, but for the error of the scheme.",
        "time [s]",
    )
    return [file]


CASE = Case(
    "cooling_fin",
    __doc__,
    problem,
    {
        "tip temperature": Quantity(fa.AtTime(TIP), "K"),
        "heat left": Quantity(fa.AtTime(fa.Functional(lambda w: w.c * w.u)), "mJ/mm"),
        "mean square of the tip": Quantity(fa.TimeIntegral(fa.Displacement("tip", reduce="squared_norm")), "K² s"),
    },
    length_unit="mm",
    title="Cooling fin",
    labels={"base": "falls to zero", "tip": "air"},
    lines=("temperature at the end", lambda solution: solution.u[:, 0]),
    figures=figures,
    pictures=over_time,
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
