"""Named phases of long work: measured always, shown to whoever wants to watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from types import MappingProxyType

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

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure the block as phase ``name``; times of the same name add up."""
        start = perf_counter()
        try:
            if self._progress is None:
                yield
            else:
                with self._progress(name):
                    yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + perf_counter() - start

    @property
    def seconds(self) -> Mapping[str, float]:
        """Phase names and seconds, in the order in which they began."""
        return MappingProxyType(dict(self._seconds))
