"""What optimisers are told of a design."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.pickling import HoldsSolver
from femadj.errors import FemadjError
from femadj.optimisation.history import Record


@dataclass(frozen=True, eq=False)
class Evaluated(HoldsSolver):
    """Responses at a design; what takes a further solve is computed when it is first read.

    Attributes
    ----------
    z : (n,)
        The optimiser's variables.
    record : Record
        What the history keeps.
    """

    z: FloatArray
    record: Record
    _gradients: Callable[[], FloatArray] = field(repr=False)
    _points: Callable[[], FloatArray] = field(repr=False)

    @property
    def number(self) -> int:
        """Designs are counted from 0, in the order in which they were first asked for."""
        return self.record.number

    @property
    def values(self) -> FloatArray:
        """Of the objective and the constraints, as the responses give them, ``(1 + m,)``; infinite after a failure."""
        return np.array(self.record.values)

    @property
    def failure(self) -> FemadjError | None:
        """Why the design has no values: a tangled mesh, a singular system, iterations that do not converge; or None."""
        return self.record.failure

    @property
    def quality(self) -> float:
        """Smallest scaled Jacobian of all cells; NaN where there is no mesh."""
        return self.record.quality

    @property
    def gradients(self) -> FloatArray:
        """Derivatives of ``values`` by the optimiser's variables, ``(1 + m, n)``: one block of transposed solves.

        They come from the solution of the last design that was solved, or from the folder of the run; a design that
        was left behind without its gradients is solved once more. Of a design without values this raises its failure.
        """
        if self.failure is not None:
            raise copy(self.failure)
        return self._gradients()

    @property
    def points(self) -> FloatArray:
        """Node coordinates ``(n_nodes, dim)``."""
        return self._points()
