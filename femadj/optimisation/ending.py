"""How a run of an optimiser ends: what becomes of errors, and whether what it calls an optimum is one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import OptimiserError
from femadj.optimisation.asking import Asked, EnoughDesignsError
from femadj.optimisation.balance import imbalance
from femadj.optimisation.evaluation import Evaluated
from femadj.optimisation.optimum import FoundDesign, Optimum
from femadj.optimisation.ranking import FEASIBLE
from femadj.optimisation.reduced import Reduced

End = tuple[FloatArray | None, bool, str]
"""Where an optimiser ended (None: it does not tell), whether it calls that an optimum, and its message."""

BALANCED = 0.01
"""Imbalance that a run with failures may have where it is called converged."""

SMALL = 1e-3
"""Objectives are compared with their value, or with this part of that at the start where it is larger."""


def outcome(asked: Asked, optimiser: str, optimise: Callable[[], End]) -> Optimum:
    """Let an optimiser run, and say what became of it.

    Raises
    ------
    OptimiserError
        Where it reports success at a design without an answer.
    BaseException
        What was raised where it called, interrupts too; all designs until then are in the history.
    """
    reduced = asked.reduced
    try:
        z, converged, message = optimise()
    except BaseException:
        if asked.trouble is None:
            raise
    if isinstance(asked.trouble, EnoughDesignsError):
        z, converged, message = None, False, str(asked.trouble)
    elif asked.trouble is not None:
        raise asked.trouble
    best = reduced.best
    assert best is not None  # the start has an answer
    final = best if z is None else reduced.evaluate(z)
    if final.failure is not None:
        if converged:
            raise OptimiserError(
                f"{optimiser} reports success ({message}) at design {final.number}, which has no answer: "
                f"{final.failure}. The best design of the run is number {best.number}: reduced.best"
            ) from final.failure
        final = best
    found = _found(reduced, final)
    left = _left(asked, final)
    if converged and found.violation > FEASIBLE:
        converged, message = False, f"{message}; but a constraint is missed by {found.violation:.2g} of its scale"
    if converged and left > BALANCED and any(each.failure is not None for each in reduced.history.records):
        converged = False
        message += (
            f"; but neither limits nor bounds hold back the objective, which would change by {left:.0%} over the way "
            "from the start, only designs without an answer next to it do: the problem may want a limit, such as one "
            "of the smallest thickness"
        )
    of_best = found if best.number == final.number else _found(reduced, best)
    return Optimum(optimiser, bool(converged), message, asked.designs, left, reduced.names, found, of_best)


def _left(asked: Asked, final: Evaluated) -> float:
    """What is left of the gradient, over the way from the start; NaN where gradients would take a further solve."""
    reduced = asked.reduced
    if reduced.history.slopes(final.number) is None and final.number < len(reduced.history) - 1:
        return np.nan
    here, before = abs(reduced.value(final.z)), abs(reduced.value(asked.start))
    way = float(np.linalg.norm(final.z - asked.start))
    return imbalance(reduced, final.z) * way / max(here, SMALL * before, np.finfo(float).tiny)


def _found(reduced: Reduced, design: Evaluated) -> FoundDesign:
    pairs = zip(reduced.constraints, design.values[1:].tolist(), strict=True)
    missed = max((constraint.violation(value) for constraint, value in pairs), default=0.0)
    return FoundDesign(design.number, reduced.variables(design.z), design.points, design.values, missed)
