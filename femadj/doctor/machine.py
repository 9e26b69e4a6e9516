"""What a machine has: versions, cores, memory, devices."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from femadj.base.cores import available_threads
from femadj.base.cuda import device_arrays
from femadj.errors import SolverUnavailableError

PACKAGES = (
    "femadj", "numpy", "scipy", "scikit-fem", "meshio", "numba", "pypardiso", "mkl", "pymetis", "cupy-cuda12x",
    "cupy-cuda13x", "numba-cuda", "nvidia-cudss-cu12", "nvidia-cudss-cu13", "nvidia-cusolver-cu12", "nvidia-cusolver",
)  # fmt: skip
"""Distributions whose versions are told."""


def machine() -> Mapping[str, Any]:
    """Versions of libraries, processor and devices, for a record."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": available_threads(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "cuda": cuda(),
    }


def cuda() -> Mapping[str, Any]:
    """The current device with its driver and libraries, or why there is none."""
    try:
        arrays = device_arrays()
    except SolverUnavailableError as error:
        return {"missing": str(error)}
    import cupy

    runtime = cupy.cuda.runtime
    known = runtime.getDeviceProperties(runtime.getDevice())
    memory = arrays.memory()
    return {
        "device": known["name"].decode(),
        "compute capability": f"{known['major']}.{known['minor']}",
        "devices": runtime.getDeviceCount(),
        "memory": memory.total,
        "free": memory.free,
        "driver": _dotted(runtime.driverGetVersion()),
        "runtime": _dotted(runtime.runtimeGetVersion()),
    }


def _dotted(number: int) -> str:
    """``13000`` is 13.0."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        module = name.replace("-", "_")
        found = sys.modules.get(module) or (importlib.util.find_spec(module) and importlib.import_module(module))
        return getattr(found, "__version__", None) if name == "femadj" else None


def _processor() -> str:
    """Name of the processor, where the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
