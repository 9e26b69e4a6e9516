"""What the way back through time costs: against the way there, with all states stored and with checkpoints.

Every row prints one line of JSON. Times are those of the processor, with one thread; their ratios are what counts.

    python bench/transient.py --steps 1000

Fields:

    memory                    budget of the states
    forward, backward         seconds of all steps, of all steps back (the gradient by all nodes, initial values, final
                              time, damping and the history of the load)
    ratio                     backward / forward
    promise                   backward of the stored run, and the further steps of the schedule: what ``ratio`` may be
    kept                      states in memory at most
    states_mb, budget_mb      what these take, and the budget
    grown_mb                  growth of the process's peak memory in the run and its gradient
    equal                     whether the gradient is that of the stored run, bit by bit
"""

from __future__ import annotations

import argparse
import json
import resource
from time import process_time

import numpy as np

import femadj as fa
import meshes


class Peak(dict[int, np.ndarray]):
    """States that count how many there were."""

    most = 0

    def __setitem__(self, key: int, value: np.ndarray) -> None:
        super().__setitem__(key, value)
        self.most = max(self.most, len(self))


def peak_mb() -> float:
    """Peak memory of the process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--box", type=int, default=10, help="divisions of the box (default: 10, 14 883 unknowns)")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--states", type=int, nargs="*", default=[40], help="states to keep; all of them come last")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    mesh = meshes.box(arguments.box)
    tug = fa.WithHistory(fa.BodyForce((0.0, 0.0, -1.0)), lambda t: np.sin(3 * t))
    problem = fa.Transient(
        mesh,
        fa.Elasticity(E=1e3, nu=0.3, density=1.0),
        [fa.Fixed("left")],
        [tug],
        damping=(0.1, 1e-4),
        threads=arguments.threads,
    )
    tip = fa.AtTime(fa.FieldNorm())
    fa.value_and_gradient(problem.solve(times=fa.Times(0.1, 2)), tip)  # kernels
    state = 8 * problem.scheme.rows * problem.n_unknowns
    rows, gradients = [], []
    for states in [*arguments.states, None]:
        memory = None if states is None else (states + 5) * state
        before, start = peak_mb(), process_time()
        solution = problem.solve(times=fa.Times(10.0, arguments.steps), memory=memory)
        forward = process_time() - start
        counted = Peak(solution.snapshots.states)
        counted.most = len(counted)
        object.__setattr__(solution.snapshots, "states", counted)
        start = process_time()
        (gradient,) = solution.pullback([tip.partials(solution)])
        backward = process_time() - start
        gradients.append(gradient.points)
        rows.append({
            "memory": "all" if memory is None else f"{memory / 2**20:.1f} MiB",
            "unknowns": problem.n_unknowns, "steps": arguments.steps,
            "forward": round(forward, 2), "backward": round(backward, 2), "ratio": round(backward / forward, 3),
            "further": solution.snapshots.schedule.further / arguments.steps, "kept": counted.most,
            "states_mb": round(counted.most * state / 2**20, 1), "grown_mb": round(peak_mb() - before, 1),
            "budget_mb": None if memory is None else round(memory / 2**20, 1),
        })  # fmt: skip
    for row, gradient in zip(rows, gradients, strict=True):
        row["promise"] = round(rows[-1]["ratio"] + row.pop("further"), 3)
        row["equal"] = bool(np.array_equal(gradient, gradients[-1]))
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
