"""What a physics written as a form costs, next to the built-in one, design by design in the same process.

Pairs: ``elasticity`` on boxN; ``diffusion`` and ``advection`` (with SUPG, constant velocity) on sqN; the same mesh,
supports and source for both. ``reaction`` on sqN has no built-in twin: its conductivity and its Robin boundary depend
on position. Designs of the two alternate, so that both see the same machine. One line of JSON a case.

    python bench/own_forms.py --cases box20 sq512

Fields, medians over --repeat designs: ``assembly`` and ``contraction`` in seconds, own and built-in; ``ratios`` own /
built-in of the two and of their sum, and gradient / primal of the own form; ``calls`` of the user's functions in the
last design (0: the coefficients are constant and known).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from common import MOVE, case_name, iterate, kind_and_size, mesh_of, warm_up_of
from skfem.helpers import ddot, dot, grad, sym_grad, trace

import femadj as fa
from femadj.progress import Phases

CASES = ("box20", "sq512", "sq1024")
CONDUCTIVITY = 0.01
VELOCITY = (1.0, 0.4)


class Counted:
    """A form that counts how often it is called."""

    def __init__(self, form: Callable[..., Any]) -> None:
        self.form, self.calls, self.__name__ = form, 0, form.__name__

    def __call__(self, *arguments: Any) -> Any:
        """Call the form."""
        self.calls += 1
        return self.form(*arguments)


def elasticity(u: Any, v: Any, w: Any) -> Any:
    """Isotropic, E = 1, nu = 0.3."""
    mu, lame = 1 / 2.6, 0.3 / (1.3 * 0.4)
    return lame * trace(grad(u)) * trace(grad(v)) + 2 * mu * ddot(sym_grad(u), sym_grad(v))


def diffusion(u: Any, v: Any, w: Any) -> Any:
    """Poisson."""
    return dot(grad(u), grad(v))


def advection(u: Any, v: Any, w: Any) -> Any:
    """Transport with SUPG, as ``fa.AdvectionDiffusion`` has it."""
    transport, test = (VELOCITY[0] * f.grad[0] + VELOCITY[1] * f.grad[1] for f in (u, v))
    speed = VELOCITY[0] ** 2 + VELOCITY[1] ** 2
    tau = 1 / np.sqrt(4 * speed / w.h**2 + (12 * CONDUCTIVITY / w.h**2) ** 2)
    return v * transport + CONDUCTIVITY * dot(grad(u), grad(v)) + tau * test * transport


def reaction(u: Any, v: Any, w: Any) -> Any:
    """Conductivity that depends on position, and a reaction."""
    return (1 + w.x[0] ** 2) * dot(grad(u), grad(v)) + np.exp(-w.x[1]) * u * v


def robin(u: Any, v: Any, w: Any) -> Any:
    """Transfer at the boundary."""
    return (2 + w.x[0] * w.n[1]) * u * v


def pairs(mesh: fa.Mesh) -> Mapping[str, tuple[Any, Any, list[Counted]]]:
    """Own and built-in physics of every comparison."""
    if mesh.dim == 3:
        form = Counted(elasticity)
        return {"elasticity": (fa.Form(form, element="vector"), fa.Elasticity(E=1.0, nu=0.3), [form])}
    poisson, flow, varying, edge = Counted(diffusion), Counted(advection), Counted(reaction), Counted(robin)
    terms = [varying, fa.Integral(edge, over="facets")]
    return {
        "diffusion": (fa.Form(poisson), fa.Diffusion(1.0), [poisson]),
        "advection": (fa.Form(flow), fa.AdvectionDiffusion(CONDUCTIVITY, VELOCITY, supg=True), [flow]),
        "reaction": (fa.Form(terms), None, [varying, edge]),
    }


def problem(mesh: fa.Mesh, physics: Any, threads: int | None, clock: Phases) -> fa.LinearStatic:
    """The problem of ``design_iteration`` with another physics."""
    support = fa.Fixed("left") if mesh.dim == 3 else fa.Fixed("boundary")
    load = fa.BodyForce((0.0, 0.0, -1.0)) if mesh.dim == 3 else fa.Source(1.0)
    return fa.LinearStatic(mesh, physics, [support], [load], threads=threads, progress=clock)


def measure(name: str, repeat: int, threads: int | None) -> list[dict[str, Any]]:
    """Run all comparisons on one mesh."""
    _, n = kind_and_size(name)
    small = warm_up_of(name)
    for own, built_in, _ in pairs(small).values():
        for physics in (own, built_in):
            if physics is not None:
                clock = Phases()
                iterate(problem(small, physics, threads, clock), clock, None)
    mesh = mesh_of(name)
    rng = np.random.default_rng(1)
    designs = [mesh.points + rng.uniform(-MOVE, MOVE, mesh.points.shape) / n for _ in range(repeat)]
    results = []
    for title, (own, built_in, forms) in pairs(mesh).items():
        clocks = [Phases(), Phases()]
        built = [
            None if physics is None else problem(mesh, physics, threads, clock)
            for physics, clock in zip((own, built_in), clocks, strict=True)
        ]
        runs: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
        for number, points in enumerate(designs):
            for form in forms:
                form.calls = 0
            turn = list(zip(built, clocks, runs, strict=True))
            for each, clock, collected in turn if number % 2 else turn[::-1]:
                if each is not None:
                    collected.append(iterate(each, clock, points))
        median = [
            {key: statistics.median(run[key] for run in part) for key in part[0]} if part else None for part in runs
        ]
        mine, theirs = median
        assert mine is not None
        ratios: dict[str, float] = {"gradient/primal": mine["gradient"] / mine["primal"]}
        for key in ("assembly", "contraction"):
            if theirs is not None:
                ratios[f"{key} own/built-in"] = mine[key] / theirs[key]
        if theirs is not None:
            both = [m["assembly"] + m["contraction"] for m in (mine, theirs)]
            ratios["assembly+contraction own/built-in"] = both[0] / both[1]
        results.append(
            {
                "case": name,
                "physics": title,
                "unknowns": built[0].residual.space.n_dofs if built[0] is not None else 0,
                "assembly": [None if m is None else round(m["assembly"], 4) for m in median],
                "contraction": [None if m is None else round(m["contraction"], 4) for m in median],
                "primal": round(mine["primal"], 4),
                "gradient": round(mine["gradient"], 4),
                "calls": sum(form.calls for form in forms),
                "ratios": {key: round(value, 3) for key, value in ratios.items()},
            }
        )
    return results


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=case_name, default=CASES, metavar="CASE",
                        help=f"boxN or sqN; {' '.join(CASES)} when left out")  # fmt: skip
    parser.add_argument("--repeat", type=int, default=5, metavar="K", help="designs (default: 5)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: all cores)")
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    for name in options.cases:
        for line in measure(name, options.repeat, options.threads):
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
