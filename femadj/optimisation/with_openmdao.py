"""A reduced problem as a component of OpenMDAO."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np

from femadj.base.arguments import one_of
from femadj.base.arrays import FloatArray
from femadj.base.optional import library
from femadj.errors import ProblemError
from femadj.optimisation.reduced import Reduced
from femadj.optimisation.told import require_reduced, slopes_at, values_at


def openmdao_component(
    reduced: Reduced, *, input_name: str = "variables", failed: Literal["AnalysisError", "infinite"] = "AnalysisError"
) -> Any:
    """An ``ExplicitComponent`` whose outputs are objective and constraints, with exact partial derivatives.

    Its input are the variables of the parametrisation, ``(n,)``; outputs are the responses as they are, under their
    names in ``reduced`` (``_`` for what OpenMDAO has no names with). The driver is told of bounds, limits and scales.

    Parameters
    ----------
    reduced : Reduced
    input_name : str
    failed : {"AnalysisError", "infinite"}
        What the driver is told of a design without an answer (tangled, singular, not converged). pyOptSparse's
        optimisers take an ``AnalysisError`` and cut their step; ``ScipyOptimizeDriver`` ends with it: with
        ``"infinite"`` the objective is infinite and constraints stay as they were, so that line searches cut the step.

    Raises
    ------
    MissingExtraError
        When OpenMDAO is not installed.
    ProblemError
        For responses with the same name.
    """
    require_reduced(reduced)
    one_of(failed, ("AnalysisError", "infinite"), "failed", ProblemError)
    om = library("openmdao.api", "openmdao", "openmdao_component")
    names = [re.sub(r"\W+", "_", name).strip("_") for name in reduced.names]
    if len({*names, input_name}) <= len(names):
        raise ProblemError(f"outputs need names of their own, not {names}: give name= to objective and constraints")

    class ReducedComponent(om.ExplicitComponent):  # type: ignore[name-defined]
        """Responses of a finite element model."""

        def setup(self) -> None:
            """Input, outputs and what depends on what."""
            self._told: FloatArray | None = None
            self.add_input(input_name, reduced.variables(reduced.start))
            for name in names:
                self.add_output(name)
            self.declare_partials("*", "*")

        def compute(self, inputs: Any, outputs: Any) -> None:
            """Solve where the variables are."""
            values = values_at(reduced, inputs[input_name])
            if not np.isfinite(values).all():
                failure = reduced.evaluate(inputs[input_name] / reduced.scales).failure
                if failed == "AnalysisError" or self._told is None:
                    raise om.AnalysisError(str(failure)) from failure
                values = np.array([np.inf * np.sign(reduced.objective.scale), *self._told[1:]])
            else:
                self._told = values
            for name, value in zip(names, values, strict=True):
                outputs[name] = value

        def compute_partials(self, inputs: Any, partials: Any) -> None:
            """Derivatives on the factor of the solution; zero for a design without an answer."""
            slopes = slopes_at(reduced, inputs[input_name])
            for name, row in zip(names, np.where(np.isfinite(slopes), slopes, 0.0), strict=True):
                partials[name, input_name] = row

    return ReducedComponent()
