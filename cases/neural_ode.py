"""A neural ODE: a small network learns the motion of a damped pendulum from noisy observations of it.

The rate of the state is a network of one hidden layer in plain NumPy, ``y' = W2 tanh(W1 y + b1) + b2``. Its weights are
fitted to all observations by L-BFGS-B, with the gradient of the loss through the integrator: the exact derivative of
the very steps that were taken, for all weights at once. Longer and longer parts of the observations are fitted, because
a network that knows nothing yet goes astray over a long time.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.table import Table
from scipy.integrate import solve_ivp
from scipy.optimize import minimize

import femadj as fa
from femadj.report import blank_figure, results_console, save_figure, write_summary

TIMES = np.linspace(0.0, 6.0, 25)
START = np.array([1.6, 0.0])
NOISE = 0.03
PARTS = (5, 12, len(TIMES))
"""How many of the observations are fitted, one after the other."""


def pendulum(t, y):
    """What is observed: angle and angular velocity of a damped pendulum."""
    return np.array([y[1], -2.0 * np.sin(y[0]) - 0.25 * y[1]])


def network(t, y, theta):
    """The rate of states in columns, ``y`` (2, m); theta (hidden, 5 + ...) holds W1, b1 and W2 transposed."""
    hidden = np.tanh(theta[:, :2] @ y + theta[:, 2:3])
    return theta[:, 3:].T @ hidden


def motion(times):
    """States of the pendulum, (n_times, 2)."""
    return solve_ivp(pendulum, (times[0], times[-1]), START, t_eval=times, rtol=1e-9, atol=1e-9).y.T


def observations(seed: int):
    """States at all times, with noise but for the first."""
    noise = NOISE * np.random.default_rng(seed).normal(size=(len(TIMES), 2))
    return motion(TIMES) + noise * (TIMES[:, None] > 0)


class Fit:
    """Mean square of the misfit of the first observations, with its gradient; keeps the losses of all evaluations."""

    def __init__(self, data, hidden: int) -> None:
        self.data, self.shape, self.losses, self.steps = data, (hidden, 5), [], 0

    def integrated(self, theta, count: int, **options) -> fa.OdeSolution:
        """The network's own motion."""
        return fa.odeint(
            network, START, TIMES[:count], theta.reshape(self.shape), rtol=1e-5, atol=1e-7, vectorised=True, **options
        )

    def __call__(self, theta, count: int):
        """Loss and gradient, as SciPy wants them."""
        solution = self.integrated(theta, count, check=not self.losses)
        misfit = solution.y - self.data[:count]
        loss = float((misfit**2).mean())
        self.losses.append(loss)
        self.steps += len(solution.steps)
        gradient = solution.pullback(2 * misfit / misfit.size)
        return loss, gradient.theta.ravel()


def fitted(fit: Fit, theta, iterations: int):
    """Weights after all parts, and the number of evaluations after each."""
    ends = []
    for count in PARTS:
        found = minimize(fit, theta, (count,), "L-BFGS-B", jac=True, options={"maxiter": iterations})
        theta = found.x
        ends.append(len(fit.losses))
    return theta, ends


def gradient_error(fit: Fit, theta) -> float:
    """The gradient of the loss along a random direction, compared with differences of the same steps."""
    solution = fit.integrated(theta, len(TIMES))
    misfit = solution.y - fit.data
    direction = np.random.default_rng(1).normal(size=fit.shape)

    def loss(h: float) -> float:
        moved = solution.replayed(theta=solution.theta + h * direction)
        return float(((moved - fit.data) ** 2).mean())

    h = 1e-4
    difference = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    exact = float((solution.pullback(2 * misfit / misfit.size).theta * direction).sum())
    return abs(exact - difference) / abs(difference)


def draw(path: Path, fit: Fit, theta, start, ends) -> Path:
    """The motion, what was seen of it, and the networks before and after; and the loss."""
    figure = blank_figure(11.5, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1.0))
    after = np.linspace(TIMES[0], 1.5 * TIMES[-1], 181)
    longer = fa.odeint(network, START, after, theta.reshape(fit.shape), vectorised=True)
    before = fa.odeint(network, START, after[after <= 2.0], start.reshape(fit.shape), vectorised=True)
    for k, (name, colour) in enumerate((("angle", "C0"), ("angular velocity", "C1"))):
        left.plot(after, motion(after)[:, k], color=colour, alpha=0.35, linewidth=4, label=f"{name} of the pendulum")
        left.plot(longer.times, longer.y[:, k], color=colour, linewidth=1.4, label="fitted network")
        left.plot(before.times, before.y[:, k], color=colour, linewidth=1, linestyle=":", label="before the fit")
        left.plot(TIMES, fit.data[:, k], "o", color=colour, markersize=3.5, markerfacecolor="white", label="observed")
    left.axvspan(TIMES[-1], after[-1], color="0.93")
    left.text(TIMES[-1] + 0.1, -1.9, "never seen", color="0.4")
    left.set_ylim(-2.0, 2.9)
    left.set_xlabel("time [s]")
    left.set_ylabel("angle [rad], angular velocity [rad/s]")
    left.legend(fontsize=7.5, ncols=2, loc="upper right")
    right.semilogy(fit.losses, color="C2", linewidth=1)
    right.axhline(NOISE**2, color="0.5", linestyle="--", linewidth=1)
    right.text(0, 0.8 * NOISE**2, "noise", color="0.4", va="top")
    for count, end in zip(PARTS, ends, strict=True):
        right.axvline(end, color="0.85", linewidth=1, zorder=0)
        right.text(end, 0.98, f"{count} obs. ", ha="right", va="top", fontsize=8, transform=right.get_xaxis_transform())
    right.set_xlabel("evaluation of loss and gradient")
    right.set_ylabel("mean square misfit")
    figure.tight_layout()
    return save_figure(figure, path)


def main(argv: list[str] | None = None) -> int:
    """Fit, print what came out, write picture and summary; 0 when the gradient agrees with differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=8, help="units of the hidden layer (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=30, help="of L-BFGS-B for each part (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of noise and first weights (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("results/neural_ode"), metavar="DIR", help="folder of the files"
    )
    parser.add_argument("--no-picture", action="store_true", help="do not draw the fit")
    arguments = parser.parse_args(argv)
    fit = Fit(observations(arguments.seed), arguments.hidden)
    start = 0.5 * np.random.default_rng(arguments.seed).normal(size=fit.shape).ravel()
    try:
        theta, ends = fitted(fit, start, arguments.iterations)
        error = gradient_error(fit, theta)
        off = float(np.abs(fit.integrated(theta, len(TIMES)).y - motion(TIMES)).max())
        rows = {
            "weights": theta.size,
            "evaluations of loss and gradient": len(fit.losses),
            "steps integrated and differentiated": fit.steps,
            "loss": fit.losses[-1],
            "square of the noise": NOISE**2,
            "largest distance from the pendulum": off,
            "gradient against differences": error,
        }
        table = Table(title="neural_ode", show_header=False)
        for name, value in rows.items():
            table.add_row(name, f"{value:.3g}" if isinstance(value, float) else str(value))
        console = results_console()
        console.print(table)
        files = [write_summary(arguments.out / "summary.json", {"name": "neural_ode", **rows})]
        if not arguments.no_picture:
            files.append(draw(arguments.out / "neural_ode.png", fit, theta, start, ends))
        for file in files:
            console.print(f"wrote {file}", markup=False, soft_wrap=True)
    except fa.FemadjError as problem:
        print(f"neural_ode: {problem}", file=sys.stderr)
        return 2
    return int(error > 1e-6)


if __name__ == "__main__":
    raise SystemExit(main())
