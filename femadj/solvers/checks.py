"""Checks of what solvers are handed, and the words for what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import NonFiniteError, SingularSystemError, SolverError

NAMED_EQUATIONS = 5
"""How many equations an error about non-finite numbers names."""


def as_float_array(array: FloatArray, what: str) -> FloatArray:
    if not isinstance(array, np.ndarray) or array.dtype != np.float64:
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise SolverError(f"{what} must be a float64 array, got {found}")
    return array


def non_finite(where: str, equations: npt.NDArray[np.integer]) -> NonFiniteError:
    named = [int(e) for e in equations[:NAMED_EQUATIONS]]
    more = f" and {len(equations) - len(named)} more" if len(equations) > len(named) else ""
    return NonFiniteError(
        f"{where} has NaN or infinite entries in equation(s) {', '.join(map(str, named))}{more}", named
    )


def singular_system(unknowns: Sequence[int] | npt.NDArray[np.integer], reason: str = "") -> SingularSystemError:
    """SingularSystemError with the usual hint for finite element systems; unknowns of a null vector, largest first."""
    named = [int(number) for number in unknowns[:NAMED_EQUATIONS]]
    where = ""
    if len(unknowns) == 1:
        where = f" at equation {named[0]}"
    elif named:
        more = f" and {len(unknowns) - len(named)} more" if len(unknowns) > len(named) else ""
        where = f": unknowns {', '.join(map(str, named))}{more} are free to move together"
    return SingularSystemError(
        f"the matrix is singular to working precision{where}{reason and f' ({reason})'}; are supports missing, are "
        "constraints given twice, or are parts of the mesh not connected?",
        named[0] if named else None,
        named,
    )
