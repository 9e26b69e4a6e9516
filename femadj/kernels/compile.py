"""Compilation of kernels for fixed argument types, when they are first used.

Inputs are read-only arrays, outputs writable, all C-contiguous: each kernel is compiled once and not for every
combination of flags that an argument may have. A plain array that is writable fits a read-only input; within a
NamedTuple types must agree exactly, so that those arrays must be read-only (``read_only``).

A *body* is a plain function that takes scratch space and its sizes last and begins with ``s = fixed(s)``. It is
compiled in two ways: for sizes that it takes at run time, one kernel for all, and for its very sizes, which the
compiler unrolls. What bodies call (the functions of their own module and of ``femadj.kernels.entity``) is compiled into
them. Nothing of it allocates: arrays of one entity are carved from the scratch space, where the compiler knows that
they do not overlap.

Compiled kernels are kept on disk. The name that one is kept under contains its sizes and a checksum of those sources of
this folder that it is compiled from, so that it is compiled anew after any of them has changed. What is kept is an
extra: without a place to write, on a full disk or beside damaged files everything runs, after one warning, with kernels
compiled anew.
"""

from __future__ import annotations

import hashlib
import logging
import math
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial, wraps
from importlib import import_module
from pathlib import Path
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, typeof, types
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
from numba.core.datamodel.models import OpaqueModel
from numba.core.serialize import dumps
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, register_model
from numba.np.arrayobj import populate_array

from femadj.errors import KernelCacheWarning

Kernel = Callable[..., Any]

FOLDER = Path(__file__).resolve().parent

_IMPORTED = re.compile(rb"^from femadj\.kernels(?:\.(\w+) import| import ([^\n]+))", re.MULTILINE)

# Sums may be re-ordered and contracted at compile time; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_OPTIONS: Mapping[str, Any] = MappingProxyType({"error_model": "numpy", "nogil": True})
_WITHIN: Mapping[str, Any] = MappingProxyType(
    {"error_model": "numpy", "fastmath": _FAST, "forceinline": True, "no_cpython_wrapper": True, "_nrt": False}
)


class Sizes(NamedTuple):
    """Compile-time sizes of a kernel: what its loops run over, and what it may leave out.

    Attributes
    ----------
    geometry_nodes, field_nodes : int
        Nodes of a cell, of its geometry and of the field.
    dim, components, points : int
        Space dimension, components of the field, quadrature points.
    lo, hi : int
        Slots of generalised gradients.
    facet, isoparametric, symmetric, varies : bool
        Entities are facets; field and geometry have the same shape functions; the coefficient is symmetric;
        coefficients depend on position.
    complex_numbers : bool
        Coordinates, fields and coefficients are complex.
    """

    geometry_nodes: int
    field_nodes: int
    dim: int
    components: int
    points: int
    lo: int
    hi: int
    facet: bool
    isoparametric: bool
    symmetric: bool = False
    varies: bool = False
    complex_numbers: bool = False

    @property
    def dtype(self) -> str:
        """Of coordinates, fields and coefficients."""
        return "complex128" if self.complex_numbers else "float64"

    @property
    def of_one_node(self) -> Sizes:
        """Of one shape function of the field alone, whose gradient differs from point to point where any does."""
        return self._replace(geometry_nodes=max(self.geometry_nodes, self.field_nodes), field_nodes=1)

    @property
    def scratch(self) -> int:
        """Numbers that a kernel needs to work on one entity (a little more than any of them takes)."""
        nodes = self.geometry_nodes + self.field_nodes
        dim, nc, ns = self.dim, self.components, self.hi - self.lo
        field = nc * (self.field_nodes + ns + nc * ns)
        return 5 * nodes * dim + 4 * field + nodes * ns + 4 * dim * dim + (self.field_nodes * nc) ** 2 + 16


SIZES = types.NamedTuple((types.int64,) * 7 + (types.boolean,) * 5, Sizes)
"""Type of sizes that a kernel takes at run time."""


def read(dtype: str, ndim: int) -> Any:
    """Type of an input array."""
    return types.Array(getattr(types, dtype), ndim, "C", readonly=True)


def write(dtype: str, ndim: int) -> Any:
    """Type of an array that the kernel writes."""
    return types.Array(getattr(types, dtype), ndim, "C")


def record(kind: Any, *members: Any) -> Any:
    """Type of a NamedTuple."""
    return types.NamedTuple(members, kind)


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A read-only view, as members of NamedTuples must be."""
    view = array.view()
    view.flags.writeable = False
    return view


@cache
def checksum(module: str, folder: Path = FOLDER) -> str:
    """Of the sources in this folder that the kernels of a module are compiled from: its own, and what it imports."""
    sources: dict[str, bytes] = {}
    pending = ["compile", "entity", module.rpartition(".")[2]]
    while pending:
        name = pending.pop()
        path = folder / f"{name}.py"
        if name not in sources and path.exists():
            sources[name] = path.read_bytes()
            for one, several in _IMPORTED.findall(sources[name]):
                pending += re.findall(r"\w+", (one or several).decode())
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(name.encode())
        digest.update(sources[name])
    return digest.hexdigest()[:16]


def bind(module: ModuleType, compiler: Callable[[Any], Any], **instead: Any) -> dict[str, Any]:
    """The functions of a module compiled by ``compiler``, calling one another; ``instead`` replaces other names."""
    scope = {**vars(module), **instead}
    for name, function in vars(module).items():
        if isinstance(function, FunctionType) and function.__module__ == module.__name__ and name not in instead:
            scope[name] = compiler(
                FunctionType(function.__code__, scope, name, function.__defaults__, function.__closure__)
            )
    return scope


# ------------------------------------------------------------------ constant sizes
class FixedSizes(types.Opaque):
    """Type of sizes that are constants: functions are compiled anew for each."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        super().__init__(f"FixedSizes({', '.join(str(int(n)) for n in sizes)})")


register_model(FixedSizes)(OpaqueModel)


@infer_getattr
class _FixedSizesMembers(AttributeTemplate):
    key = FixedSizes

    def generic_resolve(self, kind: Any, name: str) -> Any:  # type: ignore[override]
        return typeof(getattr(kind.sizes, name))


@lower_getattr_generic(FixedSizes)
def _fixed_member(context: Any, builder: Any, kind: FixedSizes, _: Any, name: str) -> Any:
    value = getattr(kind.sizes, name)
    return context.get_constant(typeof(value), value)


def fixed(s: Sizes) -> Sizes:
    """What a body begins with: constants in kernels of their very sizes; ask ``option`` for the last two."""
    return s


def option(s: Sizes) -> Sizes:
    """Where a body finds ``symmetric`` and ``varies``, which few of the functions it calls must be compiled for."""
    return s


def _constant(sizes: Sizes) -> Any:
    @intrinsic
    def constant(_, s):  # type: ignore[no-untyped-def]
        def value(context, *_):  # type: ignore[no-untyped-def]
            return context.get_dummy_value()

        return FixedSizes(sizes)(s), value

    return constant


# ------------------------------------------------------------------ scratch space
def carve(buffer, offset, shape):  # type: ignore[no-untyped-def]
    """A C-contiguous array of some shape that lies in a buffer."""
    return buffer[offset : offset + math.prod(shape)].reshape(shape)


@intrinsic
def _carve(_, buffer, offset, shape):  # type: ignore[no-untyped-def]
    """Carve without checks, of constant shape where the compiler knows it."""
    kind = types.Array(buffer.dtype, len(shape), "C")

    def lower(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        values, offset, shape = arguments
        base = context.make_array(buffer)(context, builder, values)
        itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(buffer.dtype)))
        lengths = cgutils.unpack_tuple(builder, shape)
        strides = [itemsize]
        for length in lengths[:0:-1]:
            strides.insert(0, builder.mul(strides[0], length))
        result = context.make_array(kind)(context, builder)
        data = builder.gep(base.data, [offset])
        populate_array(result, data, lengths, strides, itemsize, meminfo=None)
        return result._getvalue()

    return kind(buffer, offset, shape), lower


# ------------------------------------------------------------------ what is kept on disk
class _Kept(CompileResultCacheImpl):
    """Compiled code with a checksum and the processor that it is for, so that no other is ever run."""

    def reduce(self, result: Any) -> Any:
        code = dumps(super().reduce(result))
        return result.target_context.codegen().magic_tuple(), hashlib.sha256(code).digest(), code

    def rebuild(self, target_context: Any, kept: Any) -> Any:
        processor, digest, code = kept
        if processor != target_context.codegen().magic_tuple() or digest != hashlib.sha256(code).digest():
            raise ValueError("the checksum is wrong")
        return super().rebuild(target_context, pickle.loads(code))


class _Cache(FunctionCache):
    """Kernels on disk: what cannot be read is compiled and written anew, what cannot be written is not kept."""

    _impl_class = _Kept

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        found = None
        try:
            found = super().load_overload(signature, target_context)
        except Exception as cause:  # a damaged pickle may raise anything
            _warn(f"kernels in {self.cache_path} cannot be read ({_words(cause)}) and are compiled anew")
            self._write(self.flush)
        if found is None:
            _say_once(self.cache_path)
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        self._write(super().save_overload, signature, data)

    def _write(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as cause:
            _warn(f"kernels cannot be kept in {self.cache_path} ({_words(cause)}); the next run compiles them anew")


def _cache_of(function: FunctionType) -> FunctionCache | NullCache:
    """Where a kernel is kept; nowhere, with a warning, when there is no place."""
    try:
        return _Cache(function)
    except (OSError, RuntimeError):  # numba's words for no place are a RuntimeError
        _say_once("memory only")
        _warn(
            f"kernels cannot be kept: neither {FOLDER / '__pycache__'} nor the user's cache folder can be written to, "
            "so that every run compiles them anew. Set NUMBA_CACHE_DIR to a folder that can be"
        )
        return NullCache()


def _words(cause: Exception) -> str:
    """The same for all kernels of a folder, so that one warning is enough."""
    return getattr(cause, "strerror", None) or type(cause).__name__


@cache
def _warn(text: str) -> None:
    warnings.warn(text, KernelCacheWarning, stacklevel=2)


@cache
def _say_once(place: str) -> None:
    """One line of words before a wait that has no other sign."""
    logging.getLogger("femadj").warning(
        "femadj compiles kernels for this machine, one to three seconds each and 10 to 30 for a new kind of problem, "
        "to be kept in %s",
        place,
    )


# ------------------------------------------------------------------ compilation
def _compile_within(function: Any) -> Any:
    """Compile a function into its callers: those of whole entities as source, the others once for all callers."""
    if function.__name__.startswith("element_"):
        return njit(inline="always")(function)
    return njit(**_WITHIN)(function)


@cache
def _scope(module: str) -> Mapping[str, Any]:
    """What the bodies of a module call: the functions of that module and of ``entity``, compiled into them."""
    within = _compile_within
    entity = import_module("femadj.kernels.entity")
    if module != entity.__name__:
        return bind(sys.modules[module], within, **_scope(entity.__name__), carve=_carve)
    functions = bind(entity, within)
    return {name: functions[name] for name, value in vars(entity).items() if isinstance(value, FunctionType)}


def _compile(body: Any, signature: Any, name: str, scope: Mapping[str, Any], **options: Any) -> Kernel:
    """Compile a body and keep it on disk."""
    clone = FunctionType(body.__code__, {**_scope(body.__module__), **scope}, name)
    clone.__qualname__ = f"{name}_{checksum(body.__module__)}"
    clone.__module__ = body.__module__
    kernel: Any = njit(**_OPTIONS, **options)(clone)
    kernel._cache = _cache_of(clone)
    kernel.compile(signature)
    kernel.disable_compile()
    return kernel


def compile_once(body: Any, arguments: Any, name: str, scope: Mapping[str, Any], *, fast: bool = False) -> Kernel:
    """Compile a function for these argument types, with others in place of some names that it uses.

    ``fast``: its sums may be reordered, so that they are done in vectors.
    """
    return _compile(body, arguments, name, scope, **({"fastmath": _FAST} if fast else {}))


def compiled(*arguments: Any, fast: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: compile a function without sizes for these argument types when it is first called.

    ``fast`` as in :func:`compile_once`.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @cache
        def kernel() -> Kernel:
            return compile_once(function, arguments, function.__name__, {}, fast=fast)

        @wraps(function)
        def call(*values: Any) -> Any:
            return kernel()(*values)

        return call

    return decorate


def specialise(
    signature: Callable[[str], Any],
) -> Callable[[Callable[..., Any]], Callable[..., Kernel]]:
    """Decorator: from a body, a factory of kernels, by sizes: ``factory(sizes, specialised=True)``.

    ``signature`` gives the types of the body's arguments, less the sizes, for the type of its numbers. Equal sizes give
    the same kernel; a kernel that is not specialised is the same for all sizes with one type of numbers.
    """

    def decorate(body: Callable[..., Any]) -> Callable[..., Kernel]:
        name = body.__name__

        def compile_for(dtype: str, label: str, sizes: Sizes | None = None) -> Kernel:
            s = signature(dtype)
            full = s.return_type(*s.args, write(dtype, 1), SIZES)
            scope = {"fixed": njit(**_WITHIN)(fixed), "option": njit(**_WITHIN)(option)}
            if sizes is not None:
                core = sizes._replace(symmetric=False, varies=False)
                scope = {"fixed": _constant(core), "option": _constant(sizes)}
            return _compile(body, full, f"{name}_{label}", scope, fastmath=_FAST, _nrt=False)

        for_any_sizes = cache(compile_for)

        @cache
        def factory(sizes: Sizes, specialised: bool = True) -> Kernel:
            if not specialised:
                return partial(_complete, for_any_sizes(sizes.dtype, sizes.dtype), sizes)
            label = "_".join(str(int(n)) for n in sizes)
            return partial(_complete, compile_for(sizes.dtype, label, sizes), sizes)

        return wraps(body)(factory)

    return decorate


def _complete(kernel: Kernel, sizes: Sizes, *arguments: Any) -> Any:
    """Call a kernel with scratch space of its own."""
    return kernel(*arguments, np.empty(sizes.scratch, sizes.dtype), sizes)
