"""Designs that have no answer: which errors say so, and how a run keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np

from femadj import errors
from femadj.base.arrays import FloatArray
from femadj.errors import (
    ApproximationError,
    ConvergenceError,
    EigenvalueError,
    FemadjError,
    IllConditionedError,
    IndefiniteSystemError,
    NonFiniteError,
    ProblemError,
    ResidualError,
    SingularSystemError,
    TangledMeshError,
)

FAILURES = (
    TangledMeshError,
    SingularSystemError,
    IndefiniteSystemError,
    IllConditionedError,
    ResidualError,
    NonFiniteError,
    ApproximationError,
    ConvergenceError,
    EigenvalueError,
)
"""Errors that say something of a design. All others say something of the problem, and end the run."""

_KEPT = 20


def require_finite(z: FloatArray) -> None:
    """TangledMeshError for variables that are no numbers, as optimisers ask for once they have lost their way."""
    if not np.isfinite(z).all():
        raise TangledMeshError("the optimiser asks for a design whose variables are not finite numbers", ())


def forgetful(failure: FemadjError) -> FemadjError:
    """The error without the way it came, which would keep the solution alive."""
    failure.__cause__ = failure.__context__ = None
    return failure.with_traceback(None)


def packed(failure: FemadjError) -> dict[str, Any]:
    """An error as JSON can hold it: its kind, its words, and what it tells in numbers."""
    told = {name: _plain(value) for name, value in vars(failure).items() if not name.startswith("_")}
    return {"kind": type(failure).__name__, "message": str(failure), "told": told}


def unpacked(kept: dict[str, Any]) -> FemadjError:
    """The same error again; what it told in arrays is None."""
    kind = getattr(errors, str(kept["kind"]), None)
    if not (isinstance(kind, type) and issubclass(kind, FemadjError)):
        kind = ProblemError
    told = {name: tuple(value) if isinstance(value, list) else value for name, value in kept["told"].items()}
    return errors.again(kind, (kept["message"],), told)


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [each for each in value[:_KEPT] if isinstance(each, (int, float, str))]
    finite = not isinstance(value, float) or np.isfinite(value)
    return value if isinstance(value, (int, float, str)) and finite else None
