"""The smallest adjoint: three equations ``A(theta) x = b``, A a rotation about the third axis by theta.

By hand: ``x = A^T b``, so ``dx_0 = x_1 dtheta`` and ``dx_1 = -x_0 dtheta``. For a response J(x) with ``c = dJ/dx``, the
adjoint state is ``lam = A^-T c = A c``, and ``dJ/dtheta = -lam . (dA/dtheta x)``. The library is given A and b alone.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.table import Table

import femadj as fa
from femadj.report import results_console, write_summary

B = np.array([1.0, 2.0, 3.0])
RESPONSES = {
    "x_0": lambda x, theta: x[0],
    "x_0 x_1 + theta": lambda x, theta: x[0] * x[1] + theta,
    "|x|": lambda x, theta: np.linalg.norm(x),
}


def rotation(theta):
    """A(theta)."""
    c, s = np.cos(theta), np.sin(theta)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def by_hand(theta: float) -> list[float]:
    """Gradients of the three responses by the adjoint recipe, on paper."""
    c, s = np.cos(theta), np.sin(theta)
    x0, x1 = c * B[0] + s * B[1], -s * B[0] + c * B[1]
    rate = np.array([-s * x0 - c * x1, c * x0 - s * x1, 0.0])  # dA/dtheta x
    partials = np.array([[1.0, 0.0, 0.0], [x1, x0, 0.0], [x0, x1, B[2]] / np.linalg.norm(B)])  # dJ/dx
    explicit = (0.0, 1.0, 0.0)  # dJ/dtheta at fixed x
    return [float(e - (rotation(theta) @ p) @ rate) for e, p in zip(explicit, partials, strict=True)]


def main(argv: list[str] | None = None) -> int:
    """Print both gradients and their difference; 0 when they agree to rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theta", type=float, default=0.3, help="angle in radians (default: 0.3)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write summary.json there")
    arguments = parser.parse_args(argv)
    try:
        system = fa.LinearSystem(rotation, B)
        values, gradients = system.values_and_gradients(arguments.theta, list(RESPONSES.values()), mode="adjoint")
        table = Table(title=f"theta = {arguments.theta:g}, {system.counts.factorisations} factorisation")
        for column in ("response", "value", "by hand", "femadj", "difference", "solves"):
            table.add_column(column, justify="left" if column == "response" else "right")
        rows = {}
        for name, value, hand, gradient in zip(RESPONSES, values, by_hand(arguments.theta), gradients, strict=True):
            rows[name] = {"value": float(value), "by hand": hand, "gradient": gradient.theta, "solves": gradient.solves}
            numbers = f"{value:.9f}", f"{hand:.9f}", f"{gradient.theta:.9f}", f"{gradient.theta - hand:.1e}"
            table.add_row(name, *numbers, str(gradient.solves))
        results_console().print(table)
        if arguments.out is not None:
            counts = {"analyses": system.counts.analyses, "factorisations": system.counts.factorisations}
            data = {"name": "rotation_system", "theta": arguments.theta, "responses": rows, "counts": counts}
            print(f"wrote {write_summary(arguments.out / 'summary.json', data)}")
    except fa.FemadjError as error:
        print(f"rotation_system: {error}", file=sys.stderr)
        return 2
    return int(max(abs(row["gradient"] - row["by hand"]) for row in rows.values()) > 1e-12)


if __name__ == "__main__":
    raise SystemExit(main())
