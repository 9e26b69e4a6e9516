"""Tests that need a GPU: marked ``gpu``, skipped with the reason where there is none.

With ``FEMADJ_REQUIRE_GPU=1`` they fail instead, so that a machine with a GPU cannot pass by skipping them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from femadj.base.cuda import device_arrays
from femadj.errors import SolverUnavailableError
from femadj.solvers import SOLVERS

REQUIRE = "FEMADJ_REQUIRE_GPU"

gpu = pytest.mark.gpu


@cache
def missing() -> str | None:
    """Why there is no GPU to test on; None where there is one."""
    try:
        device_arrays()
    except SolverUnavailableError as reason:
        return str(reason)
    return None


def skip(reason: str) -> None:
    """Skip a test, or fail where a GPU is required."""
    if os.environ.get(REQUIRE, "0") not in ("", "0"):
        pytest.fail(f"{REQUIRE} is set: {reason}", pytrace=False)
    pytest.skip(reason)


def require_gpu() -> None:
    """Skip, or fail, where there is no GPU."""
    reason = missing()
    if reason is not None:
        skip(reason)


def marked(names: Iterable[str]) -> list[Any]:
    """Names of solvers as parameters, those on a GPU with the marker."""
    on_gpu = {name for name, make in SOLVERS.items() if make.capabilities.device != "cpu"}
    return [pytest.param(name, marks=gpu) if name in on_gpu else name for name in names]
