"""What is minimised or maximised, and what is held within limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from femadj.base.arguments import described, real_array
from femadj.base.arrays import FloatArray
from femadj.errors import ProblemError
from femadj.responses import OnStage
from femadj.responses.base import AnyResponse


@dataclass(frozen=True)
class Objective:
    """A response to be minimised.

    Attributes
    ----------
    response : Response, or OnStage for a chain
    name : str
        For pictures and messages; that of the response when left out.
    scale : float
        Optimisers are handed ``J / scale``; a negative one has it maximised.
    """

    response: AnyResponse
    name: str = ""
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require_response(self.response, "the objective")
        object.__setattr__(self, "name", _name(self.name, self.response))
        scale = _number(self.scale, "scale")
        if scale == 0 or not np.isfinite(scale):
            raise ProblemError(f"scale must be finite and not zero, not {self.scale!r}")
        object.__setattr__(self, "scale", scale)


class Maximised(Objective):
    """A response to be maximised: what optimisers minimise is ``-J / scale``.

    Parameters
    ----------
    response : Response, or OnStage for a chain
    name : str, optional
    scale : float
        Positive.
    """

    def __init__(self, response: AnyResponse, *, name: str = "", scale: float = 1.0) -> None:
        if not _number(scale, "scale") > 0:
            raise ProblemError(f"scale must be positive, not {scale!r}: it is maximised as it is")
        super().__init__(response, name, -float(scale))


@dataclass(frozen=True)
class Constraint:
    """A response between two limits: ``lower <= g <= upper``; see ``AtMost``, ``AtLeast``, ``Equal`` and ``Between``.

    Optimisers are handed ``g / scale`` between ``lower / scale`` and ``upper / scale``.

    Attributes
    ----------
    response : Response, or OnStage for a chain
    lower, upper : float
        ``-inf`` and ``inf`` where there is none.
    name : str
        For pictures and messages; that of the response when left out.
    scale : float
        Positive. The larger size of the finite limits when left out, 1 where that is zero.
    """

    response: AnyResponse
    lower: float
    upper: float
    name: str = ""
    scale: float | None = None

    def __post_init__(self) -> None:
        _require_response(self.response, "the response of a constraint")
        lower, upper = _number(self.lower, "lower"), _number(self.upper, "upper")
        if np.isnan([lower, upper]).any() or not lower <= upper or lower == np.inf or upper == -np.inf:
            raise ProblemError(f"a constraint needs lower <= upper, not {self.lower!r} and {self.upper!r}")
        limits = [abs(limit) for limit in (lower, upper) if np.isfinite(limit)]
        if not limits:
            raise ProblemError("a constraint needs a finite limit")
        scale = max(limits) or 1.0 if self.scale is None else _number(self.scale, "scale")
        if not 0 < scale < np.inf:
            raise ProblemError(f"scale must be positive and finite, not {self.scale!r}")
        for field, value in (("lower", lower), ("upper", upper), ("scale", scale)):
            object.__setattr__(self, field, value)
        object.__setattr__(self, "name", _name(self.name, self.response))

    @property
    def size(self) -> float:
        """The scale, a number."""
        assert self.scale is not None
        return self.scale

    def violation(self, value: float) -> float:
        """By how much a value is outside the limits, in the scale; zero inside."""
        return max(self.lower - value, value - self.upper, 0.0) / self.size


class AtMost(Constraint):
    """``g <= limit``."""

    def __init__(self, response: AnyResponse, limit: float, *, name: str = "", scale: float | None = None) -> None:
        super().__init__(response, -np.inf, limit, name, scale)


class AtLeast(Constraint):
    """``g >= limit``."""

    def __init__(self, response: AnyResponse, limit: float, *, name: str = "", scale: float | None = None) -> None:
        super().__init__(response, limit, np.inf, name, scale)


class Equal(Constraint):
    """``g = value``."""

    def __init__(self, response: AnyResponse, value: float, *, name: str = "", scale: float | None = None) -> None:
        super().__init__(response, value, value, name, scale)


class Between(Constraint):
    """``lower <= g <= upper``."""

    def __init__(
        self, response: AnyResponse, lower: float, upper: float, *, name: str = "", scale: float | None = None
    ) -> None:
        super().__init__(response, lower, upper, name, scale)


def objective_of(given: Any) -> Objective:
    """An objective as given; a response is minimised. ProblemError for what is neither."""
    return given if isinstance(given, Objective) else Objective(given)


def constraints_of(given: Any) -> tuple[Constraint, ...]:
    """Constraints as given, one alone too; ProblemError for what is none."""
    several = (given,) if isinstance(given, Constraint) else given
    if not isinstance(several, (list, tuple)):
        raise ProblemError(f"constraints must be a list of constraints, not {described(given)}")
    for each in several:
        if not isinstance(each, Constraint):
            raise ProblemError(f"constraints holds {described(each)}, which is none: write AtMost(response, limit)")
    return tuple(several)


def limits_of(constraints: tuple[Constraint, ...]) -> tuple[FloatArray, FloatArray]:
    """Lower and upper limits as optimisers are handed them, each in the scale of its constraint."""
    lower = np.array([each.lower / each.size for each in constraints])
    return lower, np.array([each.upper / each.size for each in constraints])


def _require_response(given: Any, what: str) -> None:
    plain = given.response if isinstance(given, OnStage) else given
    methods = [getattr(plain, name, None) for name in ("partials", "evaluate")]
    if isinstance(plain, type) or not any(map(callable, methods)):
        raise ProblemError(f"{what} must be a response, such as Compliance() or Volume(), not {described(given)}")


def _name(given: str, response: AnyResponse) -> str:
    if not isinstance(given, str):
        raise ProblemError(f"a name must be a text, not {described(given)}")
    if given:
        return given
    if isinstance(response, OnStage):
        return f"{response.stage}.{type(response.response).__name__}"
    return type(response).__name__


def _number(given: Any, what: str) -> float:
    found = real_array(given, what, ProblemError, "a number")
    if found.shape != ():
        raise ProblemError(f"{what} must be a number, not {described(given)}")
    return float(found)
