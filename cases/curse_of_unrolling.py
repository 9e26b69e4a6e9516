"""The curse of unrolling: the derivative of a solution by that of the iteration that finds it, and by what it solves.

Gradient descent ``x <- x - h (A(theta) x - b)`` on the matrix of a rod, theta its conductivity. Two derivatives of x:

    unrolled    x' <- (I - h A) x' - h A' x      the iteration itself is differentiated
    implicit    A x' = -A' x_t                   the equation is, at the x_t that the iteration has come to

With the step ``2 / (L + l)``, the fastest one for x (``l``, ``L`` the extreme eigenvalues of A), the error of the
unrolled derivative grows to several times the derivative itself before it falls, and stays behind x from then on: every
iteration adds ``-h A' (x_t - x*)`` to it, and the stiff modes of the start keep their size, with alternating sign, for
as long as the slow ones take (D. Scieur, G. Gidel, Q. Bertrand, F. Pedregosa, NeurIPS 2022). It does not with the step
``1 / L``, which damps stiff modes at once, nor from a start without an error in them. The implicit derivative is as
good as ``x_t`` from the first iteration on. The closed form ``x = A^-1 b``, ``dx/dtheta = -x / theta`` is the truth.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from rich.table import Table

import femadj as fa
from femadj.report import blank_figure, results_console, save_figure, write_summary

THETA = 1.0
EVERY = 12
"""Iterations between two implicit derivatives."""


def conduction(n: int) -> sp.csr_array:
    """Conduction along a rod of n unknowns, held at both ends, for the conductivity one."""
    return sp.csr_array(sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)))


def errors(K: sp.csr_array, step: str, iterations: int) -> dict[str, np.ndarray]:
    """Relative errors of x and of both derivatives over the iterations of gradient descent."""
    low, high = (2 - 2 * np.cos(k * np.pi / (K.shape[0] + 1)) for k in (1, K.shape[0]))  # eigenvalues of the rod
    h = {"2 / (L + l)": 2 / (low + high), "1 / L": 1 / high}[step] / THETA
    rng = np.random.default_rng(0)
    b = rng.normal(size=K.shape[0])
    system = fa.ImplicitSystem(
        lambda x, theta: theta * (K @ x) - b,
        lambda theta: sp.linalg.spsolve(theta * sp.csc_array(K), b),
        jacobian=lambda x, theta: theta * K,
        contraction=lambda x, theta, lam: lam @ (K @ x),
        kind="spd",
        tolerance=np.inf,  # that x_t is no solution yet is the point
    )
    exact = system.solve(THETA).x
    slope = -exact / THETA
    rough = rng.normal(size=exact.size)
    x = exact + rough * np.linalg.norm(exact) / np.linalg.norm(rough)  # as far off as zero, in all modes alike
    dx = np.zeros_like(x)
    found: dict[str, list[float]] = {"x": [], "unrolled": [], "implicit": []}
    for t in range(iterations):
        found["x"].append(np.linalg.norm(x - exact) / np.linalg.norm(exact))
        found["unrolled"].append(np.linalg.norm(dx - slope) / np.linalg.norm(slope))
        if t % EVERY == 0:
            implicit = system.at(THETA, x).pushforward(1.0)
            found["implicit"].append(np.linalg.norm(implicit - slope) / np.linalg.norm(slope))
        x, dx = x - h * (THETA * (K @ x) - b), dx - h * (THETA * (K @ dx) + K @ x)
    return {name: np.array(values) for name, values in found.items()}


def draw(path: Path, runs: dict[str, dict[str, np.ndarray]]) -> Path:
    """The three errors over the iterations, one panel for each step."""
    figure = blank_figure(11.0, 4.4)
    panels = figure.subplots(1, len(runs), sharey=True)
    for axes, (step, run) in zip(panels, runs.items(), strict=True):
        axes.semilogy(run["x"], color="0.55", linewidth=1.2, label="$x_t$")
        axes.semilogy(run["unrolled"], color="C3", label="derivative, unrolled")
        axes.semilogy(np.arange(len(run["implicit"])) * EVERY, run["implicit"], "--", color="C0",
                      label="derivative, implicit at $x_t$")  # fmt: skip
        axes.axhline(1.0, color="0.8", linewidth=0.8, zorder=0)
        worst = int(run["unrolled"].argmax())
        if run["unrolled"][worst] > 2:
            axes.annotate(f"{run['unrolled'][worst]:.1f} times the derivative\nafter {worst} iterations",
                          (worst, run["unrolled"][worst]), (70, 12), textcoords="offset points", va="center",
                          fontsize=9, arrowprops={"arrowstyle": "->", "color": "C3"})  # fmt: skip
        axes.set_title(f"step {step}", fontsize=11)
        axes.set_xlabel("iteration of gradient descent")
        axes.legend(fontsize=9)
    panels[0].set_ylabel("relative error")
    panels[0].set_ylim(top=12 * max(run["unrolled"].max() for run in runs.values()))
    figure.tight_layout()
    return save_figure(figure, path)


def figures(run: dict[str, np.ndarray]) -> dict[str, float]:
    """What there is to say of a run."""
    unrolled, worst = run["unrolled"], int(run["unrolled"].argmax())
    below = np.flatnonzero(unrolled[worst:] < 1)
    implicit = run["implicit"] / run["x"][::EVERY]
    return {
        "largest unrolled error": float(unrolled[worst]),
        "at iteration": worst,
        "below one again at": int(worst + below[0]) if below.size else -1,
        "unrolled error / error of x, at the end": float(unrolled[-1] / run["x"][-1]),
        "implicit error / error of x, at most": float(implicit.max()),
    }


def main(argv: list[str] | None = None) -> int:
    """Iterate with both steps, print and draw the errors; 0 when the implicit derivative is as good as x throughout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=14, help="unknowns (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=600, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("results/curse_of_unrolling"), metavar="DIR",
                        help="folder of the files (default: %(default)s)")  # fmt: skip
    parser.add_argument("--no-picture", action="store_true", help="do not draw the errors")
    arguments = parser.parse_args(argv)
    if arguments.size < 2 or arguments.iterations < 1:
        parser.error("--size must be at least 2, and --iterations at least 1")
    try:
        K = conduction(arguments.size)
        runs = {step: errors(K, step, arguments.iterations) for step in ("2 / (L + l)", "1 / L")}
        rows = {step: figures(run) for step, run in runs.items()}
        table = Table(title=f"errors of dx/dtheta, {K.shape[0]} unknowns")
        for column in ("", *(f"step {step}" for step in rows)):
            table.add_column(column, justify="right" if column else "left")
        for name in rows["1 / L"]:
            table.add_row(name, *(f"{row[name]:.3g}" for row in rows.values()))
        console = results_console()
        console.print(table)
        files = [write_summary(arguments.out / "summary.json", {"name": "curse_of_unrolling", "steps": rows})]
        if not arguments.no_picture:
            files.append(draw(arguments.out / "curse_of_unrolling.png", runs))
        for file in files:
            console.print(f"wrote {file}", markup=False, soft_wrap=True)
    except fa.FemadjError as error:
        print(f"curse_of_unrolling: {error}", file=sys.stderr)
        return 2
    return int(max(row["implicit error / error of x, at most"] for row in rows.values()) > 1 + 1e-6)


if __name__ == "__main__":
    raise SystemExit(main())
