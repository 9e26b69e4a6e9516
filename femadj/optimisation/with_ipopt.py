"""Ipopt on a reduced problem, by way of cyipopt."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.base.optional import library
from femadj.errors import ProblemError
from femadj.optimisation.asking import Asked, positive
from femadj.optimisation.ending import End, outcome
from femadj.optimisation.optimum import Optimum
from femadj.optimisation.reduced import Reduced

SOLVED = (0, 1)
"""Ipopt's statuses of an optimum within its tolerances, or acceptable ones."""


def minimise_ipopt(
    reduced: Reduced,
    *,
    start: npt.ArrayLike | None = None,
    max_designs: int = 200,
    tolerance: float = 1e-8,
    **options: str | float | int,
) -> Optimum:
    """Minimise with Ipopt, which is told when a design has no answer and cuts its step.

    Second derivatives are approximated from gradients, or exact with ``hessian_approximation="exact"``: a product with
    each unit vector, ``2 n`` solves for each response, which pays with few variables and many iterations.

    Parameters
    ----------
    reduced : Reduced
    start : (n,), optional
        The optimiser's variables; those of the mesh as it is when left out. Ipopt moves it off the bounds.
    max_designs : int
        How many designs may be asked for; then the run ends without convergence.
    tolerance : float
        Of the optimality conditions, scaled.
    **options
        Further options, as Ipopt names them.

    Raises
    ------
    ProblemError
        For a start outside of the bounds, and options that Ipopt does not have.
    SecondOrderError
        Where exact second derivatives are asked for, and something does not have them.
    OptimiserError
        Where Ipopt reports success at a design without an answer.
    MissingExtraError
        When cyipopt is not installed.
    FemadjError
        That of a start without an answer.
    """
    cyipopt = library("cyipopt", "ipopt", "minimise_ipopt")
    accuracy = positive(tolerance, "tolerance")
    asked = Asked(reduced, start, max_designs)
    nlp = cyipopt.Problem(
        n=reduced.n,
        m=reduced.m,
        problem_obj=_Callbacks(asked, cyipopt.CyIpoptEvaluationError),
        lb=reduced.lower,
        ub=reduced.upper,
        cl=reduced.constraint_lower,
        cu=reduced.constraint_upper,
    )
    chosen = {
        "hessian_approximation": "limited-memory",
        "print_level": 0,
        "sb": "yes",
        "tol": accuracy,
        "max_iter": max_designs,
        **options,
    }
    for name, value in chosen.items():
        try:
            nlp.add_option(name, value)
        except TypeError as error:
            raise ProblemError(
                f"Ipopt takes no option {name}={value!r}; its documentation lists those it has"
            ) from error
    return outcome(asked, "Ipopt", lambda: _end(asked, nlp))


class _Callbacks:
    """What Ipopt asks for; of errors it is told that the design has no answer, and ``asked`` has kept them."""

    def __init__(self, asked: Asked, no_answer: type[Exception]) -> None:
        self._asked, self._no_answer = asked, no_answer
        self._lower = np.tril_indices(asked.reduced.n)

    def objective(self, z: FloatArray) -> float:
        """Value of the objective."""
        return float(self._told(self._asked.value, z))

    def gradient(self, z: FloatArray) -> FloatArray:
        """Its derivatives."""
        return self._told(self._asked.gradient, z)

    def constraints(self, z: FloatArray) -> FloatArray:
        """All constraints."""
        return self._told(self._asked.constraint_values, z)

    def jacobian(self, z: FloatArray) -> FloatArray:
        """Their derivatives, row by row."""
        return self._told(self._asked.jacobian, z).ravel()

    def hessian(self, z: FloatArray, multipliers: FloatArray, objective: float) -> FloatArray:
        """Lower triangle of the second derivatives of the Lagrange function; for ``hessian_approximation="exact"``."""
        return np.asarray(self._told(lambda z: self._asked.hessian(z, multipliers, objective), z)[self._lower])

    def intermediate(self, *_: Any) -> bool:
        """Whether to go on."""
        return self._asked.trouble is None

    def _told(self, question: Any, z: FloatArray) -> Any:
        try:
            if self._asked.at(z).failure is None:
                return question(z)
        except BaseException as error:
            raise self._no_answer(str(error)) from error
        raise self._no_answer(str(self._asked.at(z).failure))


def _end(asked: Asked, nlp: Any) -> End:
    z, told = nlp.solve(asked.start)
    message = told["status_msg"]
    words = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    return np.asarray(z), told["status"] in SOLVED, words
