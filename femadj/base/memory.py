"""How much memory is left for this process."""

from __future__ import annotations

import os
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 2**60


def available_bytes() -> int | None:
    """Memory that can still be taken, of the machine and of a control group that limits it; None: not known."""
    found = [each for each in (_of_machine(), _of_group()) if each is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    """Linux tells what is available, others their free pages or nothing."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _of_group() -> int | None:
    for limit, used, freed in (("memory.max", "memory.current", "inactive_file"), ("memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes", "total_inactive_file")):  # fmt: skip
        try:
            most, taken = int((_GROUP / limit).read_text()), int((_GROUP / used).read_text())
            statistics = (_GROUP / limit).with_name("memory.stat").read_text().split()
        except (OSError, ValueError):
            continue
        cached = int(statistics[statistics.index(freed) + 1]) if freed in statistics else 0
        return most - taken + cached if most < _UNLIMITED else None
    return None
