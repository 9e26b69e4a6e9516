"""Responses ``J(x, theta)`` that users write as functions: values, derivatives, and checks of these."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.algebra.callables import random_like, require_derivative
from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import as_argument, as_array, called, key_of, samples
from femadj.base.complex_step import derivative, seed
from femadj.errors import ResponseError

MOST_EVALUATIONS = 4000
"""Evaluations of a response that its derivative by complex step may take."""

_BRANCHES = 8


@dataclass(frozen=True, eq=False)
class ResponseEvaluation:
    """Value and partial derivatives of a response ``J(x, theta)``. What is ``None`` is zero.

    Attributes
    ----------
    value : float
    dx : (n,) or None
        By the unknowns, at fixed theta.
    dtheta : array in the shape of theta, or None
        By theta, at fixed unknowns.
    """

    value: float
    dx: npt.ArrayLike | None = None
    dtheta: npt.ArrayLike | None = None


Response = Callable[[FloatArray, Any], Any]
"""``J(x, theta)``: returns a number, and is then differentiated by complex step, or a ``ResponseEvaluation``."""


@dataclass(frozen=True, eq=False)
class Partials:
    """Value and partial derivatives of a response; ``dtheta`` None is zero."""

    value: float
    dx: FloatArray
    dtheta: FloatArray | None

    @property
    def depends(self) -> bool:
        """Whether the response depends on the unknowns."""
        return bool(self.dx.any())


def partials_of(
    response: Response, number: int, x: FloatArray, theta: FloatArray, checked: MutableMapping[int, Any] | None
) -> Partials:
    """Value and partial derivatives of a user's response.

    Parameters
    ----------
    number : int
        For messages.
    x : (n,)
    theta : array
    checked : mapping or None
        Responses, by their ``id``, whose derivatives have been compared with differences here; None: do not compare.

    Raises
    ------
    ResponseError, ComplexStepError, VerificationError
        As in ``LinearSystem.values_and_gradients``.
    """
    name = f"response {number} ({getattr(response, '__name__', type(response).__name__)})"
    if not callable(response):
        raise ResponseError(f"{name} must be a function of (x, theta)")
    raw = called(response, name, x, as_argument(theta), error=ResponseError)
    value = _value(raw, name)
    if isinstance(raw, ResponseEvaluation):
        dx = np.zeros(x.shape) if raw.dx is None else as_array(raw.dx, x.shape, f"dx of {name}", ResponseError)
        dtheta = None if raw.dtheta is None else as_array(raw.dtheta, theta.shape, f"dtheta of {name}", ResponseError)
        advice = "Correct dx and dtheta of its ResponseEvaluation; what is None is zero"
    else:
        advice = (
            "Write it with NumPy operations on x and theta, or return fa.ResponseEvaluation(value, dx, dtheta) "
            "with its partial derivatives"
        )

        def slope(*arguments: Any) -> float:
            result = np.asarray(derivative(called(response, name, *arguments, advice=advice)))
            if result.shape != ():
                raise ResponseError(f"{name} must return one number, not an array of shape {result.shape}")
            return float(result)

        plain = as_argument(theta)
        dx = _gradient(lambda d: slope(seed(x, d), plain), x.shape, f"{name} by x")
        dtheta = _gradient(lambda d: slope(x, seed(theta, d)), theta.shape, f"{name} by theta")
    partials = Partials(value, dx, dtheta)
    if checked is not None and checked.get(id(response)) is not response:
        _check_partials(response, name, advice, x, theta, partials)
        if type(response).__weakrefoffset__:  # remembered without being kept alive, where that is possible
            checked[id(response)] = response
    return partials


def _value(raw: Any, name: str) -> float:
    try:
        value = np.asarray(raw.value if isinstance(raw, ResponseEvaluation) else raw)
    except ValueError as cause:
        raise ResponseError(f"{name} must return a real number, not {type(raw).__name__} ({cause})") from cause
    if value.shape != () or value.dtype.kind not in "fiu":
        raise ResponseError(
            f"{name} must return a real number or fa.ResponseEvaluation(value, dx, dtheta), not "
            f"{type(raw).__name__} with {value.dtype} entries of shape {value.shape}"
        )
    if not np.isfinite(value):
        raise ResponseError(f"{name} is {value}")
    return float(value)


def _gradient(slope: Callable[[FloatArray], float], shape: tuple[int, ...], name: str) -> FloatArray:
    """Gradient of a function from derivatives along directions.

    A block of variables along which, with random weights, the derivative is exactly zero has no part in the function;
    any other is divided further. That takes little more than one evaluation a variable where the function depends on
    all, and few where it depends on few.
    """
    size = int(np.prod(shape, dtype=int))
    gradient = np.zeros(size)
    weights = samples(size).uniform(0.5, 1.0, size)
    blocks, evaluations = [(0, size)], 0
    while blocks:
        evaluations += len(blocks)
        if evaluations > MOST_EVALUATIONS:
            raise ResponseError(
                f"{name}: the derivative by complex step would take more than {MOST_EVALUATIONS} evaluations, because "
                f"the response depends on too many of the {size} variables. Return fa.ResponseEvaluation(value, dx, "
                "dtheta) with its partial derivatives"
            )
        finer: list[tuple[int, int]] = []
        for start, stop in blocks:
            single = stop - start == 1
            direction = np.zeros(size)
            direction[start:stop] = 1.0 if single else weights[start:stop]
            along = slope(direction.reshape(shape))
            if single:
                gradient[start] = along
            elif along != 0.0:
                cuts = np.unique(np.linspace(start, stop, _BRANCHES + 1).astype(int))
                finer += list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
        blocks = finer
    return as_array(gradient.reshape(shape), shape, f"the derivative of {name} by complex step", ResponseError)


def _check_partials(
    response: Response, name: str, advice: str, x: FloatArray, theta: FloatArray, partials: Partials
) -> None:
    """Compare the partial derivatives of a response with differences along a random direction of x and of theta."""
    rng = samples(key_of(x), key_of(theta))
    by_x, by_theta = random_like(x, rng), random_like(theta, rng)
    dtheta = np.zeros(theta.shape) if partials.dtheta is None else partials.dtheta

    def at(x: FloatArray, theta: FloatArray) -> FloatArray:
        return np.array([_value(called(response, name, x, as_argument(theta), error=ResponseError), name)])

    def check(at: Callable[[float], FloatArray], slopes: FloatArray, direction: FloatArray, what: str) -> None:
        size = abs(partials.value) + inner(np.abs(slopes), np.abs(direction))
        exact = np.array([inner(slopes, direction)])
        require_derivative(at, exact, np.array([size]), f"the derivative of {name} by {what}", advice)

    check(lambda t: at(x + t * by_x, theta), partials.dx, by_x, "x")
    check(lambda t: at(x, theta + t * by_theta), dtheta, by_theta, "theta")
