"""What can be pickled, and what says why it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

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
            f"{type(self).__name__} cannot be pickled or deep-copied: it holds a solver's memory. Pickle the mesh, the "
            "arrays and the gradients, which can be, and build and solve the problem anew where it is needed"
        )


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
