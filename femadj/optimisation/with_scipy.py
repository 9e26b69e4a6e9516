"""SciPy's optimisers on a reduced problem."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize

from femadj.base.arguments import one_of
from femadj.base.arrays import FloatArray
from femadj.errors import ProblemError
from femadj.optimisation.asking import Asked, positive, require_none
from femadj.optimisation.ending import End, outcome
from femadj.optimisation.optimum import Optimum
from femadj.optimisation.reduced import Reduced

ScipyMethod = Literal["SLSQP", "trust-constr", "L-BFGS-B"]


_FINER = 10.0
"""Constraints are handed to trust-constr in tenths of their scale: it begins with a slack of one to each limit, and
goes there first, whatever the objective says; by the whole scale that would leave no volume or no stiffness."""


class _Curvature(optimize.BFGS):
    """BFGS that leaves out pairs with a design that has no derivatives."""

    def update(self, delta_x: FloatArray, delta_grad: FloatArray) -> None:
        """Learn from a step."""
        if np.isfinite(delta_grad).all() and delta_grad.any():
            super().update(delta_x, delta_grad)


def minimise_scipy(
    reduced: Reduced,
    method: ScipyMethod = "SLSQP",
    *,
    start: npt.ArrayLike | None = None,
    max_designs: int = 200,
    tolerance: float = 1e-8,
    **options: Any,
) -> Optimum:
    """Minimise with SciPy.

    A design without an answer (tangled, singular, not converged) is infinitely bad: SLSQP and trust-constr cut their
    step. L-BFGS-B, whose line search takes finite numbers only, is told of a parabola with its minimum at a step that
    does not tangle (``Reduced.largest_step``).

    Parameters
    ----------
    reduced : Reduced
    method : {"SLSQP", "trust-constr", "L-BFGS-B"}
        L-BFGS-B knows bounds only.
    start : (n,), optional
        The optimiser's variables; those of the mesh as it is when left out.
    max_designs : int
        How many designs may be asked for; then the run ends without convergence.
    tolerance : float
        Of the objective and the constraints in their scales; for trust-constr of the gradient of the Lagrangian.
    **options
        Further options of the method, as SciPy names them, such as ``maxiter``, which is ten times ``max_designs``.

    Raises
    ------
    ProblemError
        For constraints given to L-BFGS-B, and a start outside of the bounds.
    OptimiserError
        Where SciPy reports success at a design without an answer.
    FemadjError
        That of a start without an answer.
    """
    one_of(method, ("SLSQP", "trust-constr", "L-BFGS-B"), "method", ProblemError)
    accuracy = positive(tolerance, "tolerance")
    asked = Asked(reduced, start, max_designs)
    optimise = {"SLSQP": _slsqp, "trust-constr": _trust_constr, "L-BFGS-B": _lbfgsb}[method]
    return outcome(
        asked, f"SciPy {method}", lambda: optimise(asked, accuracy, {"maxiter": 10 * max_designs, **options})
    )


def _slsqp(asked: Asked, tolerance: float, options: dict[str, Any]) -> End:
    constraints = [
        {
            "type": kind,
            "fun": lambda z, c=c: c.of(asked.constraint_values(z)),
            "jac": lambda z, c=c: c.slopes(asked.jacobian(z)),
        }
        for kind, c in (("eq", asked.equalities), ("ineq", asked.inequalities))
        if len(c.rows)
    ]
    return _end(asked, asked.value, asked.gradient, "SLSQP", {"ftol": tolerance, **options}, constraints=constraints)


def _trust_constr(asked: Asked, tolerance: float, options: dict[str, Any]) -> End:
    def known(derivatives: FloatArray, z: FloatArray) -> FloatArray:
        return derivatives if asked.at(z).failure is None else np.full_like(derivatives, np.nan)

    lower, upper = _FINER * asked.reduced.constraint_lower, _FINER * asked.reduced.constraint_upper
    constraint = optimize.NonlinearConstraint(
        lambda z: _FINER * asked.constraint_values(z),
        lower,
        upper,
        lambda z: known(_FINER * asked.jacobian(z), z),
        _Curvature(),
    )
    low, high = asked.reduced.lower, asked.reduced.upper
    inside = (asked.start > low) & (asked.start < high) & np.isfinite(low) & np.isfinite(high)
    return _end(
        asked,
        asked.value,
        lambda z: known(asked.gradient(z), z),
        "trust-constr",
        {"gtol": tolerance, "xtol": tolerance, **options},
        hess=_Curvature(),
        constraints=[constraint] if len(lower) else [],
        keep_feasible=inside,
    )


def _lbfgsb(asked: Asked, tolerance: float, options: dict[str, Any]) -> End:
    for constraints in (asked.equalities, asked.inequalities):
        require_none(constraints, "L-BFGS-B knows bounds only, no constraints: take SLSQP or trust-constr")
    limits = {"ftol": tolerance, "gtol": tolerance, "maxfun": options["maxiter"], **options}
    return _end(asked, lambda z: asked.wall(z)[0], lambda z: asked.wall(z)[1], "L-BFGS-B", limits)


def _end(
    asked: Asked,
    value: Any,
    gradient: Any,
    method: str,
    options: dict[str, Any],
    keep_feasible: Any = False,
    **more: Any,
) -> End:
    bounds = optimize.Bounds(asked.reduced.lower, asked.reduced.upper, keep_feasible)
    found = optimize.minimize(value, asked.start, jac=gradient, method=method, bounds=bounds, options=options, **more)
    return found.x, bool(found.success), str(found.message)
