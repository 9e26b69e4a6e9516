"""What ``"auto"`` means in this process where something is preferred to the best solver on the CPU."""

from __future__ import annotations

import os
from typing import NamedTuple

VARIABLE = "FEMADJ_SOLVER"
"""Environment variable with the name of the preferred solver; :func:`set_preferred` goes before it."""


class Preference(NamedTuple):
    """A name, and who asked for it."""

    name: str
    by: str


_asked: list[Preference] = []  # none or one, for the whole process: threads that are started later see it, too


def preferred() -> Preference | None:
    """The preference in force; None where the best solver on the CPU is to be taken."""
    by_environment = Preference(os.environ.get(VARIABLE, ""), f"the environment variable {VARIABLE}")
    found = _asked[0] if _asked else by_environment
    return found if found.name not in ("", "auto") else None


def set_preferred(name: str | None, by: str) -> None:
    """Prefer a solver; ``"auto"``: the best on the CPU, whatever the environment says; None: what that says."""
    _asked[:] = [] if name is None else [Preference(name, by)]
