"""NLopt's optimisers on a reduced problem."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import one_of
from femadj.base.arrays import FloatArray
from femadj.base.optional import library
from femadj.errors import ProblemError
from femadj.optimisation.asking import Asked, OneSided, positive, require_none
from femadj.optimisation.ending import End, outcome
from femadj.optimisation.optimum import Optimum
from femadj.optimisation.ranking import FEASIBLE
from femadj.optimisation.reduced import Reduced

NloptAlgorithm = Literal["MMA", "CCSAQ", "SLSQP"]

_MESSAGES = {
    3: "the objective changes by less than the tolerance",
    4: "the variables change by less than the tolerance",
}
"""Words for NLopt's results FTOL_REACHED and XTOL_REACHED."""


def minimise_nlopt(
    reduced: Reduced,
    algorithm: NloptAlgorithm = "MMA",
    *,
    start: npt.ArrayLike | None = None,
    max_designs: int = 200,
    tolerance: float = 1e-8,
) -> Optimum:
    """Minimise with NLopt: the method of moving asymptotes, its quadratic relative, or SLSQP.

    A design without an answer (tangled, singular, not converged) is infinitely bad: MMA and CCSAQ make their convex
    approximation ten times as steep and try again, SLSQP cuts its step.

    Parameters
    ----------
    reduced : Reduced
    algorithm : {"MMA", "CCSAQ", "SLSQP"}
        MMA and CCSAQ (K. Svanberg, SIAM Journal on Optimization 12, 2002) know no equality constraints.
    start : (n,), optional
        The optimiser's variables; those of the mesh as it is when left out.
    max_designs : int
        How many designs may be asked for; then the run ends without convergence.
    tolerance : float
        Relative, of the variables and of the objective, at which the run ends.

    Raises
    ------
    ProblemError
        For equality constraints given to MMA or CCSAQ, and a start outside of the bounds.
    OptimiserError
        Where NLopt reports success at a design without an answer.
    MissingExtraError
        When NLopt is not installed.
    FemadjError
        That of a start without an answer.
    """
    one_of(algorithm, ("MMA", "CCSAQ", "SLSQP"), "algorithm", ProblemError)
    nlopt = library("nlopt", "nlopt", "minimise_nlopt")
    accuracy = positive(tolerance, "tolerance")
    asked = Asked(reduced, start, max_designs)
    if algorithm != "SLSQP":
        require_none(asked.equalities, f"{algorithm} knows no equality constraints: take SLSQP, or Between two limits")
    opt = nlopt.opt(getattr(nlopt, f"LD_{algorithm}"), reduced.n)
    opt.set_lower_bounds(reduced.lower)
    opt.set_upper_bounds(reduced.upper)
    opt.set_xtol_rel(accuracy)
    opt.set_ftol_rel(accuracy)
    opt.set_min_objective(lambda z, slope: _objective(asked, opt, z, slope))
    for constraints, add in (
        (asked.equalities, opt.add_equality_mconstraint),
        (asked.inequalities, opt.add_inequality_mconstraint),
    ):
        if len(constraints.rows):
            add(_negative(asked, opt, constraints), np.full(len(constraints.rows), FEASIBLE / 100))
    return outcome(asked, f"NLopt {algorithm}", lambda: _end(asked, opt, nlopt))


def _objective(asked: Asked, opt: Any, z: FloatArray, slope: FloatArray) -> float:
    """Value and gradient; NLopt loses errors that are raised here, which ``asked`` has kept."""
    try:
        if slope.size:
            slope[:] = asked.gradient(z)
        return asked.value(z)
    except BaseException:
        slope[:] = 0.0
        opt.force_stop()
        return np.inf


def _negative(asked: Asked, opt: Any, constraints: OneSided) -> Any:
    """Constraints that must not be positive, in NLopt's form."""

    def call(result: FloatArray, z: FloatArray, slopes: FloatArray) -> None:
        try:
            if slopes.size:
                slopes[:] = -constraints.slopes(asked.jacobian(z))
            result[:] = -constraints.of(asked.constraint_values(z))
        except BaseException:
            result[:], slopes[:] = 0.0, 0.0
            opt.force_stop()

    return call


def _end(asked: Asked, opt: Any, nlopt: Any) -> End:
    try:
        z = opt.optimize(asked.start.copy())
    except nlopt.RoundoffLimited:
        return None, False, "rounding keeps it from going on"
    return z, True, _MESSAGES.get(opt.last_optimize_result(), "success")
