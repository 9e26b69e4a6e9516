"""What holds native memory: closed once, by hand or at the end of a ``with``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """Calls ``_free`` at the first :meth:`close`."""

    _closed = False

    def close(self) -> None:
        """Free the native memory now."""
        if not self._closed:
            self._closed = True
            self._free()

    @abstractmethod
    def _free(self) -> None:
        """Drop the native resources, called once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
