"""Responses of eigenvalues and eigenvectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from femadj.base.arguments import real_array, sequence_of
from femadj.base.arrays import FloatArray
from femadj.errors import ResponseError
from femadj.problems.modes import ModePartials, Modes
from femadj.responses.base import CompleteResponse, Response, partials_in_motion, partials_of


@dataclass(frozen=True)
class Eigenvalue(CompleteResponse):
    """An eigenvalue: of vibrations the square of the angular frequency, of buckling the factor of the loads.

    It has a derivative where it is simple.

    Parameters
    ----------
    number : int
        Its number, from 0, in ascending order.
    """

    number: int = 0

    def partials(self, solution: Any) -> ModePartials:
        """Value and partial derivatives."""
        modes = _modes(self, solution)
        slopes = np.zeros(len(modes.values))
        number = modes.require_number(self.number, repr(self))
        slopes[number] = 1.0
        return ModePartials(modes.values[number].item(), values=slopes)


@dataclass(frozen=True)
class Frequency(CompleteResponse):
    """A frequency of vibration, ``sqrt(lam) / (2 pi)`` [Hz, in units consistent with seconds].

    It has a derivative where it is simple and not zero.

    Parameters
    ----------
    number : int
        Its number, from 0, in ascending order.
    """

    number: int = 0

    def value(self, solution: Any) -> float:
        """Its value, zero for a rigid motion."""
        number = _modes(self, solution).require_number(self.number, repr(self))
        return float(self._frequencies(solution)[number])

    def partials(self, solution: Any) -> ModePartials:
        """Value and partial derivatives."""
        modes = _modes(self, solution)
        number = modes.require_number(self.number, repr(self))
        frequency, found = self._frequencies(solution)[number], modes.values[number]
        if not found > 1e-7 * abs(found - solution.problem.shift):
            raise ResponseError(
                f"{self!r} is zero (a rigid motion, or an eigenvalue that is not positive) and has no derivative there"
            )
        slopes = np.zeros_like(modes.values)
        slopes[number] = frequency / (2 * found)
        return ModePartials(frequency.item(), values=slopes)

    def _frequencies(self, solution: Any) -> FloatArray:
        found: FloatArray | None = getattr(solution, "frequencies", None)
        if found is None:
            raise ResponseError(f"{self!r} is a response of Modal: {type(solution).__name__} has no frequencies")
        return found


@dataclass(frozen=True)
class MeanEigenvalue(CompleteResponse):
    """The mean of some eigenvalues.

    It has a derivative where all or none of those that coincide are among them.

    Parameters
    ----------
    numbers : range or sequence of int
    """

    numbers: Sequence[int]

    def partials(self, solution: Any) -> ModePartials:
        """Value and partial derivatives."""
        modes, numbers = _numbered(self, solution, self.numbers)
        slopes = np.zeros(len(modes.values))
        slopes[numbers] = 1 / len(numbers)
        return ModePartials(np.mean(modes.values[numbers]).item(), values=slopes)


@dataclass(frozen=True)
class KSEigenvalue(CompleteResponse):
    """A smooth bound of some eigenvalues, ``-log(sum exp(-rho lam_i)) / rho`` (Kreisselmeier and Steinhauser 1979).

    Below the smallest one by ``log(k) / rho`` at most for ``k`` eigenvalues; with a negative ``rho`` above the largest.
    It has a derivative wherever all or none of those that coincide are among them.

    Parameters
    ----------
    numbers : range or sequence of int
    rho : float
        [1/eigenvalue]
    """

    numbers: Sequence[int]
    rho: float

    def partials(self, solution: Any) -> ModePartials:
        """Value and partial derivatives."""
        rho = real_array(self.rho, "rho", ResponseError, "a number")
        if rho.shape != () or not np.isfinite(rho) or rho == 0:
            raise ResponseError(f"{self!r}: rho must be a finite number other than zero")
        modes, numbers = _numbered(self, solution, self.numbers)
        values = modes.values[numbers]
        nearest = values.min() if rho > 0 else values.max()
        weights = np.exp(-rho * (values - nearest))
        slopes = np.zeros_like(modes.values)
        slopes[numbers] = weights / weights.sum()
        return ModePartials((nearest - np.log(weights.sum()) / rho).item(), values=slopes)


@dataclass(frozen=True)
class ModeShape(CompleteResponse):
    """A response of a field, of an eigenvector in the place of the field.

    ``Displacement``, ``FieldNorm``, ``Functional``, or one of your own that reads ``solution.u``. The eigenvector is
    normalised and has a sign as the problem says; functions that do not depend on the sign are safer.

    Parameters
    ----------
    number : int
        Of the mode, from 0; its eigenvalue must be simple.
    response : Response
    """

    number: int
    response: Response

    def partials(self, solution: Any) -> ModePartials:
        """Value and partial derivatives."""
        modes = _modes(self, solution)
        number = modes.require_number(self.number, repr(self))
        mode: Any = modes.mode(number)
        found = (partials_in_motion if np.iscomplexobj(mode.u) else partials_of)(self.response, mode)
        if any(part is not None for part in (found.internal_weight, found.external_weight, found.adjoint)):
            raise ResponseError(f"{self!r}: {found.name} contains forces, and a mode has none")
        vectors = {} if found.state is None else {number: found.state}
        return ModePartials(found.value, points=found.points, parameters=found.parameters, vectors=vectors)


def _modes(response: Any, solution: Any) -> Modes:
    """The solution, where it is one of modes; ResponseError where not."""
    if not callable(getattr(solution, "require_number", None)):
        raise ResponseError(
            f"{response!r} is a response of modes, those of Modal or Buckling, and {type(solution).__name__} has none"
        )
    modes: Modes = solution
    return modes


def _numbered(response: Any, solution: Any, numbers: Any) -> tuple[Modes, list[int]]:
    """The solution and the numbers of some modes, each once."""
    modes = _modes(response, solution)
    given = sequence_of(numbers, f"{response!r}: numbers", ResponseError, ": write range(3) or [0, 1]")
    found = [modes.require_number(number, repr(response)) for number in given]
    if not found or len(set(found)) != len(found):
        raise ResponseError(f"{response!r}: numbers must be those of some modes, each once")
    return modes, found
