"""The one door for users' functions: how they are called, what may come back, and how derivatives are checked.

Functions that are differentiated get guarded complex arrays (``femadj.base.complex_step``). What is handed in is a copy
or read-only, so that a function that changes it in place cannot change what others see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base import jet
from femadj.base.arguments import real_array
from femadj.base.arrays import FloatArray
from femadj.base.complex_step import Guarded, derivative, seed, steps_kept
from femadj.base.differences import compare
from femadj.errors import ComplexStepError, FemadjError, LinearSystemError

FieldLike = float | npt.ArrayLike | Callable[[Any], Any]
"""A number, an array of components, or a function of ``x`` with shape ``(dim, n)`` that returns components
``(n_components, n)`` (or ``(n,)`` for a scalar), whose value at a point depends on that point alone. Functions are
differentiated by guarded complex step."""

MOST_POINTS = 512
"""Points at which a function of position is compared with differences and with itself, at most."""

_BINS = 24

ONE_POINT = (
    "its value at a point must depend on that point alone. Reduce over components only (axis=0), take norms of a "
    "response by power= of a Functional, and make a number that is computed from many points a parameter, or a constant"
)
"""What to write instead of a function that mixes points."""


# ---------------------------------------------------------------------- random numbers that are the same every time
def samples(*key: int) -> np.random.Generator:
    """Random numbers that depend on a key alone."""
    return np.random.default_rng([abs(int(k)) for k in key])


def key_of(array: FloatArray) -> int:
    """A key that changes with the numbers of an array."""
    total = np.float64(np.sum(array)) if array.size else np.float64(0)
    return int(total.view(np.uint64))


def chosen(values: FloatArray, number: int, key: int = 0) -> npt.NDArray[np.int64]:
    """Some of the places of an array, ascending: of every size of value one, and others at random.

    Parameters
    ----------
    values : (n,)
    number : int
        How many at most, beside one for every size of value.
    key : int
        Another key, other places.
    """
    n = len(values)
    if n <= number + _BINS:
        return np.arange(n)
    low, high = float(values.min()), float(values.max())
    found = samples(n, key, key_of(values)).integers(0, n, number)
    if high > low and np.isfinite(high - low):
        bins = np.full(_BINS, -1, dtype=np.int64)
        bins[((values - low) * ((_BINS - 1) / (high - low))).astype(np.int64)] = np.arange(n)
        found = np.concatenate([found, bins[bins >= 0]])
    return np.unique(found)


def parts_of(places: npt.NDArray[np.int64], key: int = 0) -> list[npt.NDArray[np.int64]]:
    """Parts of some places to evaluate a function on alone: single ones, where no other can have a say, and a half."""
    mixed = samples(len(places), key).permutation(places)
    singles = [mixed[k : k + 1] for k in range(min(3, len(mixed)))]
    return singles if len(mixed) < 4 else [*singles, np.sort(mixed[: len(mixed) // 2])]


# ---------------------------------------------------------------------- calling
def invoke(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a user's function: this line is the only one that does.

    Storing a complex step in an array of real numbers is an error, and so is single precision, in which JAX computes
    unless it is told otherwise; what is NaN or infinite is found in the result.
    """
    with steps_kept(), np.errstate(all="ignore"):
        result = function(*arguments)
    for part in result if isinstance(result, (list, tuple)) else (result,):
        kind = str(getattr(part, "dtype", ""))
        if kind == "complex64" or (kind == "float32" and type(part).__module__.startswith("jax")):
            raise ComplexStepError(
                f"a function computes in single precision ({kind}): JAX does so unless told by "
                "jax.config.update('jax_enable_x64', True); a Functional(..., differentiation='jax') needs no telling"
            )
    return result


def called(
    function: Any, name: str, *arguments: Any, advice: str = "", error: type[FemadjError] = LinearSystemError
) -> Any:
    """Call a user's function; with ``advice`` (on what to do when it fails) its arguments carry complex steps.

    What is no function stands for its own result.

    Raises
    ------
    ComplexStepError
        When it fails on complex steps.
    FemadjError
        Of type ``error`` when it fails otherwise. Errors of femadj pass as they are.
    """
    if not callable(function):
        return function
    try:
        return invoke(function, *arguments)
    except FemadjError as known:
        if not advice or not isinstance(known, ComplexStepError):
            known.add_note(f"raised inside {name}")
            raise
        raise ComplexStepError(f"{name} cannot be differentiated by complex step: {known}. {advice}") from known
    except Exception as cause:
        said = describe_failure(cause)
        if advice:
            raise ComplexStepError(f"{name} cannot be differentiated by complex step: {said}. {advice}") from cause
        raise error(f"{name} failed with {said}") from cause


def describe_failure(cause: Exception) -> str:
    """What a user's function raised, in words, and what to do about it where that is known."""
    said = f"{type(cause).__name__}: {cause}"
    if isinstance(cause, ValueError) and "read-only" in str(cause):
        said += " (it changes its arguments in place: write x = x - 1 in place of x -= 1)"
    if "jax" in said.lower():
        said += (
            " (functions are called with NumPy arrays that carry complex steps, without jax.jit or jax.grad around "
            "them; JAX differentiates a Functional(..., differentiation='jax'))"
        )
    return said


def as_argument(theta: FloatArray) -> float | FloatArray:
    """Theta as the user's functions see it: a float, or a read-only array."""
    return float(theta) if theta.ndim == 0 else read_only(theta)


def read_only(array: FloatArray) -> FloatArray:
    """A view that cannot be written to."""
    view = array.view()
    view.setflags(write=False)
    return view


# ---------------------------------------------------------------------- what comes back
def as_array(raw: Any, shape: tuple[int, ...], name: str, error: type[FemadjError]) -> FloatArray:
    """A user's real numbers as a finite float64 array of the given shape, or ``error``."""
    try:
        array = np.asarray(raw)
    except (TypeError, ValueError) as cause:
        raise error(f"{name} must be an array of shape {shape}, not {type(raw).__name__}") from cause
    if array.dtype.kind not in "fiub" or array.shape != shape:
        raise error(f"{name} must be real numbers of shape {shape}, not {array.dtype} of shape {array.shape}")
    if not np.isfinite(array).all():
        raise error(f"{name} has NaN or infinite entries, first at flat index {int(np.argmin(np.isfinite(array)))}")
    return array.astype(np.float64)


def constant_components(value: Any, n_components: int, what: str, error: type[FemadjError]) -> FloatArray:
    """Constant components as an array of shape ``(n_components,)``; a single number stands for a scalar only."""
    array = real_array(value, what, error, f"a number, {n_components} components or a function of x")
    if array.ndim == 0 and n_components == 1:
        array = array[None]
    if array.shape != (n_components,):
        raise error(f"{what} must have {n_components} component(s), not shape {array.shape}")
    if not np.isfinite(array).all():
        raise error(f"{what} must be finite, not {value!r}")
    return array


def differs(alone: FloatArray, together: FloatArray) -> npt.NDArray[np.bool_]:
    """Where values at some points differ from those at the same points among others, beyond rounding."""
    size = np.maximum(np.abs(alone), np.abs(together))
    noise = 1e-15 * float(size.max(initial=0.0))
    return np.asarray(np.abs(alone - together) > 1e-9 * size + noise)


# ---------------------------------------------------------------------- functions of position
@dataclass(frozen=True, eq=False)
class PositionValues:
    """A function of position at some points.

    Attributes
    ----------
    values : (n, n_components)
    derivatives : (n, n_components, dim)
        At a kink or a jump, those of one side.
    kink : str
        Where a point lies on a kink or a jump, so that there is no derivative: what to say when it is asked for.
    """

    values: FloatArray
    derivatives: FloatArray
    kink: str


def values_at(
    function: Callable[[Any], Any], x: FloatArray, n_components: int, what: str, error: type[FemadjError]
) -> FloatArray:
    """Evaluate a function of position, without its derivative.

    Parameters
    ----------
    function : callable of ``(dim, n)``
    x : (n, dim)
    n_components : int
    what : str
        Name for messages.
    error : type
        Error to raise: when the function fails, for a wrong shape, NaN, and a value at a point that depends on other
        points or changes from call to call.

    Returns
    -------
    values : (n, n_components)
        Complex where ``x`` is: coordinates that move, of points where the function has been evaluated before.
    """
    at = _OnPoints(function, n_components, what, error)
    xt = np.ascontiguousarray(x.T)
    if np.iscomplexobj(x):
        return np.ascontiguousarray(at(xt.view(Guarded)).T)
    values = at.real(xt)
    if not np.isfinite(values).all():
        raise error(f"{what} is NaN or infinite at x = {x[~np.isfinite(values).all(axis=0)][0].tolist()}")
    key = key_of(xt)
    at.require_local(xt, values, _some(values, key), key)
    return values.T.copy()


def slopes_at(
    function: Callable[[Any], Any], x: FloatArray, values: FloatArray, what: str, error: type[FemadjError]
) -> tuple[FloatArray, str]:
    """Derivative of a function of position where its values ``(n, n_components)`` are known; errors as ``values_at``, a
    derivative that differences do not confirm, and other values than those known.

    Returns
    -------
    derivatives : (n, n_components, dim)
    kink : str
        What to say when the derivative is asked for where the function has none; empty where it has.
    """
    at = _OnPoints(function, values.shape[1], what, error)
    xt = np.ascontiguousarray(x.T)
    if np.iscomplexobj(x):
        moved = [jet.derivative(at(jet.seed(xt, unit[:, None])), moving=True) for unit in np.eye(len(xt))]
        return np.ascontiguousarray(np.moveaxis(np.stack(moved, axis=-1), 0, 1)), ""
    some = _some(values.T, key_of(xt))
    if differs(at.real(xt[:, some]), values.T[:, some]).any():
        raise error(
            f"{what}: the function of x gives other values than when the problem was put at this design: something "
            "that it refers to has been changed since. Solve again after a change"
        )
    derivatives = np.stack([derivative(at(seed(xt, unit[:, None]))) for unit in np.eye(len(xt))], axis=-1)
    if not np.isfinite(derivatives).all():
        bad = ~np.isfinite(derivatives).all(axis=(0, 2))
        raise error(f"{what}: its derivative is NaN or infinite at x = {x[bad][0].tolist()}")
    kink = at.require_derivative(xt[:, some], derivatives[:, some], np.ptp(xt, axis=1))
    return np.ascontiguousarray(np.moveaxis(derivatives, 0, 1)), kink


def _some(values: FloatArray, key: int) -> npt.NDArray[np.int64]:
    """Points that are looked at."""
    return chosen(np.abs(values).sum(axis=0), MOST_POINTS - _BINS, key)


def evaluate(
    function: Callable[[Any], Any], x: FloatArray, n_components: int, what: str, error: type[FemadjError]
) -> PositionValues:
    """Values and derivative of a function of position; errors as ``values_at``, and a derivative that differences do
    not confirm."""
    values = values_at(function, x, n_components, what, error)
    derivatives, kink = slopes_at(function, x, values, what, error)
    return PositionValues(values, derivatives, kink)


@dataclass(frozen=True, eq=False)
class _OnPoints:
    """A user's function of position, called with checks; results have the shape ``(n_components, n)``."""

    function: Callable[[Any], Any]
    n_components: int
    what: str
    error: type[FemadjError]

    def __call__(self, x: Any) -> Any:
        n, shape = x.shape[1], x.shape
        try:
            raw = invoke(self.function, x.copy())
            if isinstance(x, jet.Jet):
                raw = jet.gathered(raw)
            if isinstance(raw, jet.Jet):
                return jet.Jet(*(self._shaped(np.asarray(part), n) for part in (raw.jet_value, raw.jet_slope)))
            if isinstance(raw, (list, tuple)):
                raw = np.array([np.broadcast_to(np.asarray(part), (n,)) for part in raw])
            result = np.asarray(raw).view(np.ndarray)
        except FemadjError as known:
            raise self.error(f"{self.what}: {known}. Write the function with NumPy operations on x") from known
        except Exception as cause:
            said = describe_failure(cause)
            raise self.error(f"{self.what}: the function of x failed on an array of shape {shape}: {said}") from cause
        if result.dtype.kind not in "fiubc":
            kind = type(raw).__name__
            raise self.error(f"{self.what}: the function of x failed to return numbers, it returned {kind}")
        return self._shaped(result, n)

    def _shaped(self, result: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
        nc = self.n_components
        if nc == 1 and result.shape in {(n,), (1,), ()}:
            result = np.broadcast_to(result, (n,))[None]
        elif result.shape == (nc, 1) or (nc > 1 and result.shape == (nc,)):
            result = np.broadcast_to(result.reshape(nc, 1), (nc, n))
        if result.shape != (nc, n):
            raise self.error(f"{self.what}: the function of x must return shape {(nc, n)}, not {result.shape}")
        return result

    def real(self, x: FloatArray) -> FloatArray:
        """Values at real points."""
        result = self(x)
        if result.dtype.kind == "c":
            raise self.error(f"{self.what}: the function of x returns complex numbers; it must be real")
        return result.astype(np.float64)

    def require_local(self, x: FloatArray, values: FloatArray, some: npt.NDArray[np.int64], key: int) -> None:
        """The value at a point must not depend on other points, and be the same in every call."""
        if not any(differs(self.real(x[:, few]), values[:, few]).any() for few in parts_of(some, key)):
            return
        if differs(self.real(x), values).any():
            raise self.error(
                f"{self.what}: the function of x returns other values for the same points (random numbers, or state "
                "kept between calls)"
            )
        raise self.error(f"{self.what}: the function of x mixes points; {ONE_POINT}")

    def require_derivative(self, x: FloatArray, derivatives: FloatArray, extent: FloatArray) -> str:
        """Compare with differences along every axis; returns what to say of points on a kink, or nothing."""
        size = float(extent.max(initial=0.0)) or float(np.abs(x).max(initial=0.0)) or 1.0
        kink = ""
        for j, unit in enumerate(np.eye(len(x))):

            def moved(step: float, unit: FloatArray = unit) -> FloatArray:
                return self.real(x + step * unit[:, None])

            found = compare(moved, derivatives[:, :, j], size)
            if not found.acceptable.all():
                point = int(np.flatnonzero(~found.acceptable.all(axis=0))[0])
                raise self.error(
                    f"{self.what}: its derivative by x[{j}] disagrees with differences at x = {x[:, point].tolist()}. "
                    "Write the function with NumPy operations on x itself (no abs or norm of arrays put together by "
                    "np.array), and without equality of coordinates (x[0] == 1.0), which holds no longer when nodes "
                    "move: name a group"
                )
            if found.one_sided.any() and not kink:
                point = int(np.flatnonzero(found.one_sided.any(axis=0))[0])
                kink = (
                    f"{self.what} has no derivative by x[{j}] at x = {x[:, point].tolist()}: there is a kink or a jump "
                    "exactly there. Move the kink off the point, or smooth it"
                )
        return kink
