"""What a run is of, so that it is not taken up with something else: digests of all that goes in, and words for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.display import one_line
from femadj.errors import RunError
from femadj.mesh import Mesh
from femadj.optimisation.parametrisation import Parametrisation

SETTINGS = frozenset({"solver", "threads", "keep_factor", "progress"})
"""What changes no more than rounding."""

LIBRARIES = frozenset({"femadj", "numpy", "scipy", "skfem", "builtins", "abc", "typing"})
"""Packages whose code is not that of a user."""

AGREE = 1e-6
"""Of numbers that tell a parametrisation: that of a motion is solved for."""

Known = dict[int, tuple[Any, bytes]]


def parts_of(problem: Any, responses: Mapping[str, Any]) -> dict[str, list[str]]:
    """Digest and words of each part of a problem, and of the responses by name."""
    parts = {"problem": type(problem).__name__, **_arguments(problem)}
    parts |= {f"response {name!r}": response for name, response in responses.items()}
    return {name: [digest(value), _words(value)] for name, value in parts.items()}


def probe(parametrisation: Parametrisation, z: FloatArray, scales: FloatArray) -> list[float]:
    """Numbers that another parametrisation, or another scale, would not have: places and velocities of nodes."""
    rng = np.random.default_rng(0)
    placed = parametrisation.at(z * scales)
    motion = placed.pushforward(scales * rng.uniform(-1, 1, len(z)))
    weights = rng.uniform(0.5, 1.0, motion.shape)
    return [float(f((weights * array).ravel())) for array in (placed.points, motion) for f in (np.sum, np.linalg.norm)]


def require_same(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """RunError that names what differs between a run and what it is to be gone on with."""
    before, after = then["parts"], now["parts"]
    different = [
        _difference(name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name, [None])[0] != after.get(name, [None])[0]
    ]
    if then["n"] != now["n"]:
        different.append(f"{then['n']} design variables then, {now['n']} now")
    else:
        old, new = np.array(then["probe"]), np.array(now["probe"])
        size = np.repeat(np.abs(old[1::2]), 2)  # of a sum, the norm of its terms
        if not (np.abs(new - old) <= AGREE * size).all():
            different.append("the parametrisation, or scales, moves the nodes in another way")
    if different:
        raise RunError(
            f"the run is one of something else, and its values are not those of what is given here: "
            f"{'; '.join(different)}. Resume it with what it was begun with, or begin anew in another folder"
        )


def _difference(name: str, before: list[str] | None, after: list[str] | None) -> str:
    if before is None or after is None:
        return f"{name} is {'new' if before is None else 'missing'}"
    if before[1] == after[1]:
        return f"{name} has other numbers or functions ({after[1]})"
    return f"{name} was {before[1]} and is {after[1]}"


def _arguments(problem: Any) -> dict[str, Any]:
    """What a problem was built from; all that one holds which does not tell."""
    given = getattr(problem, "arguments", None)
    if not isinstance(given, Mapping):
        given = {"mesh": problem.mesh, "attributes": vars(problem)}
    return {name: value for name, value in given.items() if name not in SETTINGS}


def _words(value: Any) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", one_line(value, 160))


# ---------------------------------------------------------------------- digests
def digest(value: Any) -> str:
    """A short name of all that a value consists of: arrays, fields of objects, code and surroundings of functions.

    Of functions and of classes of a user's own the code counts, of functions also numbers and functions of their module
    that they look up. Equal in every process of one version of Python.
    """
    return _told(value, (), {}).hex()


def _told(value: Any, inside: tuple[int, ...], known: Known) -> bytes:
    """Digest of a value inside of others; ``known`` holds what has been told, so that nothing is told twice."""
    if id(value) in known:
        return known[id(value)][1]
    if id(value) in inside:
        return b"a circle"
    told = blake2b(f"{type(value).__module__}.{type(value).__qualname__} ".encode(), digest_size=16)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        told.update(repr(value).encode())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        told.update(f"{value.dtype.str}{value.shape} ".encode())
        told.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, (type, ModuleType, BuiltinFunctionType, np.ufunc)):
        told.update(f"{getattr(value, '__module__', '')}.{value.__name__}".encode())
    else:
        for part in _consists_of(value):
            told.update(_told(part, (*inside, id(value)), known))
    known[id(value)] = value, told.digest()  # the value itself too, so that its id stays its own
    return told.digest()


def _consists_of(value: Any) -> list[Any]:
    """What another value of the same type may differ in."""
    if isinstance(value, Mapping):
        return [part for name in sorted(value, key=str) for part in (name, value[name])]
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, (set, frozenset)):
        return sorted(map(digest, value))
    if isinstance(value, np.ndarray):
        return list(value.tolist())
    if isinstance(value, Mesh):
        groups = [value.node_groups, value.facet_groups, value.cell_groups]
        return [value.points, *((block.type, block.nodes) for block in value.blocks), *groups]
    if isinstance(value, FunctionType):
        around = [cell.cell_contents for cell in value.__closure__ or ()]
        used = {name: value.__globals__[name] for name in _names(value.__code__) if name in value.__globals__}
        told = {name: each for name, each in used.items() if _of_the_user(each, value.__module__)}
        return [value.__code__, value.__defaults__, value.__kwdefaults__, around, told]
    if isinstance(value, CodeType):
        return [value.co_code, value.co_names, value.co_varnames, value.co_consts]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(getattr(value, "arguments", None), Mapping):
        return [_arguments(value)]
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        return [*_methods(type(value)), *(part for name in fields for part in (name, getattr(value, name)))]
    return [*_methods(type(value)), vars(value)] if hasattr(value, "__dict__") else [_words(value)]


def _methods(kind: type) -> list[Any]:
    """Functions of a class of the user's own: what its objects compute may have been changed."""
    own = [each for each in kind.__mro__ if each.__module__.partition(".")[0] not in LIBRARIES]
    return [part for each in own for part in vars(each).values() if isinstance(part, FunctionType)]


def _of_the_user(value: Any, module: str) -> bool:
    """Numbers that a function looks up, and functions beside it that it calls."""
    beside = isinstance(value, FunctionType) and value.__module__ == module
    return beside or isinstance(value, (int, float, str, np.ndarray))


def _names(code: CodeType) -> set[str]:
    """Names that a function and those defined in it look up outside."""
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*map(_names, inner))
