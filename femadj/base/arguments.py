"""Arguments that users give: what they must be, and what to write when they are something else."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import FemadjError, meant


def mapping_of(value: Any, what: str, error: type[FemadjError]) -> Mapping[str, Any]:
    """A mapping from names, empty for None; ``error`` for anything else."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise error(f"{what} must be a mapping of names, {{'name': ...}}, not {type(value).__name__}")
    for name in value:
        if not isinstance(name, str):
            raise error(f"{what}: names must be strings, not {name!r}")
    return value


def sequence_of(value: Any, what: str, error: type[FemadjError], advice: str = "") -> tuple[Any, ...]:
    """A list or tuple; ``error`` for anything else, with ``advice``."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise error(f"{what} must be a list, not {type(value).__name__}{advice}")
    return tuple(value)


def real_array(value: Any, what: str, error: type[FemadjError], wanted: str = "real numbers") -> FloatArray:
    """A float64 copy of an array of real numbers of any shape; ``error`` for anything else."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiubO":
            raise TypeError(array.dtype)
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise error(f"{what} must be {wanted}, not {described(value)}") from None


def described(value: Any) -> str:
    """A value in a message: itself where it is short, else what it is."""
    text = repr(value)
    if len(text) < 60:
        return text
    return f"{type(value).__name__} of shape {value.shape}" if hasattr(value, "shape") else type(value).__name__


def flag(value: Any, what: str, error: type[FemadjError]) -> None:
    """``error`` for what is neither True nor False."""
    if not isinstance(value, (bool, np.bool_)):
        raise error(f"{what} must be True or False, not {described(value)}")


def path_of(value: Any, what: str, error: type[FemadjError]) -> Path:
    """A path; ``error`` for what is none."""
    try:
        return Path(value)
    except TypeError:
        raise error(f"{what} must be a path, not {type(value).__name__}") from None


def one_of(value: Any, known: Collection[str], what: str, error: type[FemadjError]) -> None:
    """``error`` for what is not one of some words."""
    if not isinstance(value, str) or value not in known:
        *others, last = map(repr, known)
        raise error(f"{what} must be {', '.join(others)} or {last}, not {described(value)}{meant(value, known)}")


def notified(progress: Any, error: type[FemadjError]) -> None:
    """``error`` for what cannot be notified of phases."""
    if progress is not None and not callable(progress):
        raise error(f"progress must be a function of the name of a phase, not {described(progress)}")


def whole_number(value: Any, least: int, what: str, error: type[FemadjError]) -> None:
    """``error`` for what is no whole number of at least some size."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        wanted = "a positive whole number" if least == 1 else f"a whole number of at least {least}"
        raise error(f"{what} must be {wanted}, not {described(value)}")
