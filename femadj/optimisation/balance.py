"""Whether limits and bounds hold back what the objective asks for, as they do at an optimum."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from femadj.base.arrays import FloatArray
from femadj.optimisation.reduced import Reduced

NEAR = 1e-4
"""How near to a limit, in its scale, or to a bound, in parts of the range, a design counts as lying on it."""


def imbalance(reduced: Reduced, z: FloatArray) -> float:
    """Norm of what is left of the objective's gradient when the limits that ``z`` lies on push back all they can.

    ``min |g - J^T mu|`` over multipliers ``mu`` of the right signs, without components that push against a bound: zero
    where the conditions of Karush, Kuhn and Tucker hold.
    """
    gradient, jacobian, values = reduced.gradient(z), reduced.jacobian(z), reduced.constraint_values(z)
    low, high = values - reduced.constraint_lower < NEAR, reduced.constraint_upper - values < NEAR
    sizes = np.linalg.norm(jacobian, axis=1)
    active = (low | high) & (sizes > 0)
    rows = jacobian[active] / sizes[active, None]
    signs = [(None if up else 0.0, None if down else 0.0) for down, up in zip(low[active], high[active], strict=True)]
    span = reduced.upper - reduced.lower
    margin = NEAR * np.where(np.isfinite(span), span, 1.0)
    at_lower, at_upper = z - reduced.lower <= margin, reduced.upper - z <= margin

    def left(multipliers: FloatArray) -> FloatArray:
        rest = gradient - multipliers @ rows
        rest[at_lower] = np.minimum(rest[at_lower], 0.0)
        rest[at_upper] = np.maximum(rest[at_upper], 0.0)
        return rest

    scale = float(np.linalg.norm(gradient))
    if not len(rows) or scale == 0.0:
        return float(np.linalg.norm(left(np.zeros(len(rows)))))

    def half_square(multipliers: FloatArray) -> tuple[float, FloatArray]:
        rest = left(scale * multipliers) / scale
        return 0.5 * float(rest @ rest), -rows @ rest

    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}
    found = minimize(half_square, np.zeros(len(rows)), jac=True, method="L-BFGS-B", bounds=signs, options=options)
    return float(np.linalg.norm(left(scale * found.x)))
