"""What can be pickled, and what says why it cannot."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn, Self

import numpy as np

from femadj.errors import ProblemError


class Picklable:
    """A frozen dataclass that can be pickled and copied; what is read-only comes back read-only."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: _packed(value) for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _unpacked(value))


class HoldsSolver:
    """What holds a solver's memory, which another process or a copy cannot have."""

    def __reduce__(self) -> NoReturn:
        raise ProblemError(
            f"{type(self).__name__} cannot be pickled or deep-copied: it holds a solver's memory. Pickle the mesh, "
            "problems on it, the arrays and the gradients, which can be, and solve anew where it is needed"
        )


class MadeAnew:
    """What is pickled as the arguments that it was made from, and made from them again: a solver's memory stays behind.

    Who watches progress stays behind as well.
    """

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was made from, by the names of the arguments."""
        raise NotImplementedError

    def __reduce__(self) -> Any:
        for name, value in self.arguments.items():
            _require_pickled(value, f"{type(self).__name__} cannot be pickled: its argument {name!r}")
        return _made, (type(self), dict(self.arguments))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(**deepcopy(dict(self.arguments), memo))


class SolvedAnew:
    """A solution that is pickled as its problem and its design, and solved again where it arrives: its factor stays."""

    def __reduce__(self) -> Any:
        return _solved, self._again()

    def _again(self) -> tuple[Any, Any, Mapping[str, Any], Mapping[str, Any]]:
        """Problem, node coordinates, values of parameters, and further arguments of ``problem.solve``."""
        raise NotImplementedError


def _made(kind: Any, arguments: Mapping[str, Any]) -> Any:
    return kind(**arguments)


def _solved(problem: Any, points: Any, parameters: Mapping[str, Any], further: Mapping[str, Any]) -> Any:
    return problem.solve(points, parameters, **further)


def _require_pickled(value: Any, what: str) -> None:
    """ProblemError in words for what cannot be pickled; meshes and problems can be, or tell themselves."""
    if isinstance(value, (Picklable, MadeAnew)):
        return
    if isinstance(value, (tuple, list, Mapping)):
        for each in value.values() if isinstance(value, Mapping) else value:
            _require_pickled(each, what)
        return
    try:
        pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError, ProblemError) as cause:
        raise ProblemError(
            f"{what} holds {type(value).__name__}, which cannot be sent elsewhere ({cause}). Functions are sent by "
            "their names: write them with def at the top of a module, not as lambda or inside of another function"
        ) from cause


@dataclass(frozen=True)
class _ReadOnly:
    value: Any


def _packed(value: Any) -> Any:
    if isinstance(value, MappingProxyType):
        return _ReadOnly({name: _packed(each) for name, each in value.items()})
    return _ReadOnly(value) if isinstance(value, np.ndarray) and not value.flags.writeable else value


def _unpacked(value: Any) -> Any:
    if not isinstance(value, _ReadOnly):
        return value
    if isinstance(value.value, np.ndarray):
        value.value.setflags(write=False)
        return value.value
    return MappingProxyType({name: _unpacked(each) for name, each in value.value.items()})
