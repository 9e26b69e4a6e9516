"""NVIDIA cuDSS through ctypes: where its library is, its numbers by name, its statuses as errors."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

from femadj.errors import SolverError, SolverMemoryError, SolverUnavailableError

LIBRARY = "FEMADJ_CUDSS"
"""Environment variable with the path of the library, where it is not that of an installed wheel."""

OLDEST = (1, 0)
"""Older libraries accept a transposed solve and solve untransposed."""

_ADVICE = "pip install 'femadj[gpu13]', or 'femadj[gpu12]' for a driver of CUDA 12"
_NEEDED = ("nvrtc", "cublas")
_THREADING_LAYER = "libcudss_mtlayer_gomp.so"


class Config(IntEnum):
    """Settings (``cudssConfigParam_t``) that are used."""

    MATCHING = 3
    SOLVE_MODE = 4
    REFINEMENTS = 5
    PIVOT_TYPE = 7
    PIVOT_EPSILON = 9
    HOST_THREADS = 14
    DETERMINISTIC = 24


class Data(IntEnum):
    """What is read and set of analyses and factors (``cudssDataParam_t``)."""

    INFO = 0
    FILL = 1
    REPLACED_PIVOTS = 2
    INERTIA = 3
    ORDER = 4
    DIAGONAL = 8
    USER_ORDER = 9
    MEMORY = 13


class Phase(IntEnum):
    """Phases (``cudssPhase_t``)."""

    ANALYSE = 3
    FACTORISE = 4
    FACTORISE_AGAIN = 8
    SOLVE = 1008


class Matching(IntEnum):
    """Permutations of columns that bring large entries to the diagonal (``cudssMatchingAlg_t``)."""

    NONE = 0
    LARGEST_PRODUCT = 5


class Status(IntEnum):
    """Answers (``cudssStatus_t``)."""

    SUCCESS = 0
    NOT_INITIALIZED = 1
    ALLOC_FAILED = 2
    INVALID_VALUE = 3
    NOT_SUPPORTED = 4
    EXECUTION_FAILED = 5
    INTERNAL_ERROR = 6
    REFINEMENT_FAILED = 7


MATRIX_TYPE = {"general": 0, "symmetric": 1, "spd": 3}
FULL, UPPER = 0, 2
ZERO_BASED, COLUMN_MAJOR = 0, 0
INT32 = 10
NUMBER = {"float32": 0, "float64": 1}
"""Types of CUDA (``cudaDataType_t``)."""

_POINTER = c_void_p
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudssGetProperty": (c_int, _POINTER),
    "cudssCreate": (_POINTER,),
    "cudssDestroy": (_POINTER,),
    "cudssSetStream": (_POINTER, _POINTER),
    "cudssSetThreadingLayer": (_POINTER, c_char_p),
    "cudssConfigCreate": (_POINTER,),
    "cudssConfigSet": (_POINTER, c_int, _POINTER, c_size_t),
    "cudssConfigGet": (_POINTER, c_int, _POINTER, c_size_t, _POINTER),
    "cudssConfigDestroy": (_POINTER,),
    "cudssDataCreate": (_POINTER, _POINTER),
    "cudssDataSet": (_POINTER, _POINTER, c_int, _POINTER, c_size_t),
    "cudssDataGet": (_POINTER, _POINTER, c_int, _POINTER, c_size_t, _POINTER),
    "cudssDataDestroy": (_POINTER, _POINTER),
    "cudssMatrixCreateCsr": (_POINTER, *[c_int64] * 3, *[_POINTER] * 4, *[c_int] * 6),
    "cudssMatrixCreateDn": (_POINTER, *[c_int64] * 3, _POINTER, c_int, c_int),
    "cudssMatrixSetValues": (_POINTER, _POINTER),
    "cudssMatrixDestroy": (_POINTER,),
    "cudssExecute": (_POINTER, c_int, *[_POINTER] * 5),
}
"""Argument types of the functions that are called; all return a status."""


class CudssError(SolverError):
    """A status of cuDSS that is no success, translated or passed on by the callers.

    Attributes
    ----------
    status : int
    """

    def __init__(self, call: str, status: int) -> None:
        known = Status(status).name.lower().replace("_", " ") if status in set(Status) else "unknown status"
        super().__init__(f"cuDSS failed in {call}: {known} ({status})")
        self.status = status

    def out_of_memory(self, needed: int | None, free: int) -> SolverMemoryError:
        """The same as the error that callers see."""
        return out_of_memory(str(self), needed, free)


def out_of_memory(what: str, needed: int | None, free: int) -> SolverMemoryError:
    """SolverMemoryError with figures [bytes] and advice."""
    figures = f"about {needed / 1e9:.3g} GB are needed, " if needed else ""
    return SolverMemoryError(
        f"{what}: {figures}{free / 1e9:.3g} GB of the device are free. Close or drop factors and solutions that are no "
        "longer used, end other programs on the device, use a coarser mesh, solver='refined' with factors in single "
        "precision, or a solver on the CPU",
        needed,
    )


class Library:
    """The functions of cuDSS; :meth:`call` raises CudssError where one fails.

    Attributes
    ----------
    version : (int, int, int)
    path : str
        Where it was found.
    threading_layer : str or None
        Library beside it by which the ordering takes several threads of the host; None where there is none that works.

    Parameters
    ----------
    native : ctypes.CDLL, or what stands in for it in tests

    Raises
    ------
    SolverUnavailableError
        If it is no cuDSS, or one older than :data:`OLDEST`.
    """

    def __init__(self, native: Any, path: str = "") -> None:
        self.path = path
        self._functions: dict[str, Any] = {}
        for name, types in SIGNATURES.items():
            try:
                function = getattr(native, name)
            except AttributeError as error:
                raise SolverUnavailableError(f"{path or native} is no cuDSS that femadj can call: {error}") from error
            if isinstance(native, ctypes.CDLL):
                function.argtypes, function.restype = types, c_int
            self._functions[name] = function
        parts = [c_int() for _ in range(3)]
        for which, part in enumerate(parts):
            self.call("cudssGetProperty", which, ctypes.byref(part))
        self.version = (parts[0].value, parts[1].value, parts[2].value)
        if self.version[:2] < OLDEST:
            raise SolverUnavailableError(
                f"cuDSS {'.'.join(map(str, self.version))}{path and f' at {path}'} is too old: before "
                f"{'.'.join(map(str, OLDEST))} it accepts transposed solves and solves untransposed; {_ADVICE}"
            )
        self.threading_layer = _beside(path)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function by its C name."""
        status = self._functions[name](*arguments)
        if status:
            raise CudssError(name, status)

    def answers(self, name: str, *arguments: Any) -> bool:
        """The same for what the library need not support: whether it does."""
        status: int = self._functions[name](*arguments)
        if status in (Status.NOT_SUPPORTED, Status.INVALID_VALUE, Status.INTERNAL_ERROR):
            return False
        if status:
            raise CudssError(name, status)
        return True


def installed(path: str | None = None) -> Library:
    """The library at a path, at that of :data:`LIBRARY`, or that of an installed wheel; loaded once.

    Raises
    ------
    SolverUnavailableError
        If there is none, or it cannot be loaded or used.
    """
    return _loaded(path or os.environ.get(LIBRARY) or _found())


@cache
def _loaded(path: str) -> Library:
    _load_needed()
    try:
        native = ctypes.CDLL(path)
    except OSError as error:
        raise SolverUnavailableError(f"cuDSS cannot be loaded ({error}); {_ADVICE}") from error
    return Library(native, path)


def _load_needed() -> None:
    """Load what cuDSS needs from NVIDIA's other wheels, for a library that does not lie beside them."""
    try:
        from cuda import pathfinder
    except ImportError:
        return
    for name in _NEEDED:
        try:
            pathfinder.load_nvidia_dynamic_lib(name)
        except RuntimeError:  # loading the library itself says what is missing
            continue


@cache
def _found() -> str:
    """Path of the library of a wheel; by cuda-pathfinder, which loads what the library needs, too, or beside it."""
    reason = "cuda-pathfinder is not installed"
    try:
        from cuda import pathfinder
    except ImportError:
        pass
    else:
        try:
            path: str | None = pathfinder.load_nvidia_dynamic_lib("cudss").abs_path
        except RuntimeError as error:  # of which its own errors are
            path, reason = None, str(error).splitlines()[0]
        if path:
            return path
    for folder in _wheels():
        for pattern in ("*/lib/libcudss.so.[0-9]*", "*/bin/**/cudss64_*.dll"):
            for file in sorted(folder.glob(pattern), reverse=True):
                return str(file)
    raise SolverUnavailableError(f"cuDSS was not found ({reason}): {_ADVICE}, or name its library in {LIBRARY}")


def _wheels() -> list[Path]:
    """Folders of the namespace package that NVIDIA's wheels share."""
    spec = importlib.util.find_spec("nvidia")
    return [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []


def _beside(path: str) -> str | None:
    """The threading layer in the folder of the library, where it can be loaded: it needs OpenMP of GCC."""
    for file in sorted(Path(path).parent.glob(f"{_THREADING_LAYER}*"), reverse=True) if path else ():
        try:
            ctypes.CDLL(str(file))
        except OSError:
            continue
        return str(file)
    return None
