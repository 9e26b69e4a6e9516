"""Optional libraries."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from femadj.errors import MissingExtraError


def library(name: str, extra: str, purpose: str) -> Any:
    """A library that an extra brings, imported when it is needed; MissingExtraError where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(name.partition(".")[0], extra, purpose) from error
