"""Named phases of long work: measured always, shown to whoever wants to watch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from time import perf_counter
from types import MappingProxyType, TracebackType

Progress = Callable[[str], AbstractContextManager[object]]
"""Called with the name of a phase when it begins; the context it returns is left when the phase ends."""


class Phases:
    """Seconds spent in each named phase.

    Parameters
    ----------
    progress : Progress, optional
        Notified of every phase.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self._seconds: dict[str, float] = {}

    def __call__(self, name: str) -> AbstractContextManager[None]:
        """Measure the block as phase ``name``; times of the same name add up."""
        return _Phase(self._seconds, name, None if self._progress is None else self._progress(name))

    @property
    def seconds(self) -> Mapping[str, float]:
        """Phase names and seconds, in the order in which they began."""
        return MappingProxyType(dict(self._seconds))


class _Phase(AbstractContextManager[None]):
    """One phase, entered once."""

    def __init__(self, seconds: dict[str, float], name: str, shown: AbstractContextManager[object] | None) -> None:
        self._seconds, self._name, self._shown, self._start = seconds, name, shown, perf_counter()

    def __enter__(self) -> None:
        if self._shown is not None:
            self._shown.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return None if self._shown is None else self._shown.__exit__(kind, error, trace)
        finally:
            self._seconds[self._name] = self._seconds.get(self._name, 0.0) + perf_counter() - self._start
