"""Integrands that users write the way scikit-fem's forms are written: functions of fields at quadrature points.

A field is an array ``(m, nq)`` (a scalar on ``m`` entities with ``nq`` quadrature points) or ``(n, m, nq)`` (a vector)
with its gradient in ``grad``; ``w`` holds coordinates ``x``, outward normals ``n`` (facets), mesh size ``h`` and
parameters by name. What an integrand reads is recorded, so that nothing is computed that it does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from skfem.assembly.form.form import Form as SkfemForm
from skfem.assembly.form.form import FormExtraParams
from skfem.element import DiscreteField

from femadj.base.arguments import described
from femadj.base.calls import describe_failure, invoke, read_only
from femadj.base.complex_step import Guarded, steps_kept
from femadj.base.jet import Jet, gathered
from femadj.errors import FemadjError, FormError, choices

AnyArray = npt.NDArray[Any]

_HIGHER = ("hess", "grad3", "grad4", "grad5", "grad6")


def _refuse(name: str) -> property:
    def read(_: Any) -> Any:
        raise FormError(
            f"the form reads {name!r}: second and higher derivatives are not supported, because the fields of the mesh "
            "have kinks between cells. Write the form in mixed variables, or with an interior penalty"
        )

    def write(_: Any, value: Any) -> None:
        if value is not None:
            raise TypeError(name)

    return property(read, write)


class Field(DiscreteField):
    """Value and gradient of a field at quadrature points, read-only.

    The gradient may be computed when it is first read.
    """

    _gradient: Any
    _on_read: Callable[[], None] | None

    def __new__(
        cls,
        value: Any,
        gradient: Any = None,
        on_read: Callable[[], None] | None = None,
        *,
        div: Any = None,
        curl: Any = None,
    ) -> Field:
        """``gradient`` is an array, or a function that computes it; ``div`` and ``curl`` of H(div) and H(curl)."""
        field: Any = np.asarray(value).view(cls)
        field.flags.writeable = False
        field._gradient = gradient
        field._on_read = on_read
        field.div, field.curl = div, curl
        return cast(Field, field)

    def __array_finalize__(self, obj: Any) -> None:
        self._gradient = getattr(obj, "_gradient", None)
        self._on_read = getattr(obj, "_on_read", None)
        self.div = None
        self.curl = None

    @property
    def grad(self) -> Any:
        """Derivatives, the last component index being that of the coordinate."""
        if self._on_read is not None:
            self._on_read()
        if callable(self._gradient):
            self._gradient = self._gradient()
        if type(self._gradient) is np.ndarray and self._gradient.flags.writeable:
            self._gradient = read_only(self._gradient)
        return self._gradient

    @grad.setter
    def grad(self, value: Any) -> None:
        self._gradient = value

    def peek_gradient(self) -> Any:
        """The gradient, without counting as read."""
        return self._gradient() if callable(self._gradient) else self._gradient

    def zeros(self) -> Field:
        """A field of zeros of the same shape."""
        return _zeros(self.shape, None if self._gradient is None else np.shape(self.peek_gradient()))


class GuardedField(Guarded):
    """A field whose value carries a complex step."""

    grad: Any
    div: Any
    curl: Any

    def __new__(cls, value: Any, gradient: Any = None, *, div: Any = None, curl: Any = None) -> GuardedField:
        """``gradient`` is an array; H(div) and H(curl) fields have ``div``, ``curl``."""
        field: Any = np.asarray(value).view(cls)
        field.grad, field.div, field.curl = gradient, div, curl
        return cast(GuardedField, field)

    def __array_finalize__(self, obj: Any) -> None:
        self.grad = getattr(obj, "grad", None)
        self.div = None
        self.curl = None

    def zeros(self) -> Field:
        """A field of zeros of the same shape."""
        return _zeros(self.shape, None if self.grad is None else np.shape(self.grad))


class JetField(Jet):
    """A field whose value carries a step for second derivatives."""

    def __init__(self, value: Jet, gradient: Any = None, *, div: Any = None, curl: Any = None) -> None:
        super().__init__(value.jet_value, value.jet_slope)
        self.grad, self.div, self.curl = gradient, div, curl

    def zeros(self) -> Field:
        """A field of zeros of the same shape."""
        return _zeros(self.shape, None if self.grad is None else np.shape(self.grad))


def field_with(value: Any, gradient: Any = None, *, div: Any = None, curl: Any = None) -> Any:
    """A field, of the numbers that its value has: real ones, complex ones that carry a step, or jets."""
    make: Any = JetField if isinstance(value, Jet) else GuardedField if np.iscomplexobj(value) else Field
    if make is GuardedField:
        gradient, div, curl = (guarded(part) for part in (gradient, div, curl))
    return make(value, gradient, div=div, curl=curl)


def guarded(part: Any) -> Any:
    """Complex arrays guarded, anything else as it is."""
    return part.view(Guarded) if type(part) is np.ndarray and np.iscomplexobj(part) else part


def _zeros(shape: tuple[int, ...], of_gradient: tuple[int, ...] | None) -> Field:
    """A field of zeros that may be written to."""
    field = Field(np.zeros(shape), None if of_gradient is None else np.zeros(of_gradient))
    field.flags.writeable = True
    return field


for _name in _HIGHER:
    for _kind in (Field, GuardedField, JetField):
        setattr(_kind, _name, _refuse(_name))


class _UnknownNameError(AttributeError):
    """A name that ``w`` does not hold; an AttributeError, so that ``hasattr`` works."""


class Environment(FormExtraParams):
    """The argument ``w`` of an integrand: computes what is read when it is first read, and remembers that it was.

    Parameters
    ----------
    sources : mapping of name to function
        How to compute what an integrand may read.
    seeds : mapping of name to array, optional
        Replacements that carry complex steps.
    where : str
        For messages: what kind of place is integrated over.
    """

    def __init__(self, sources: Mapping[str, Callable[[], Any]], seeds: Mapping[str, Any], where: str) -> None:
        super().__init__(seeds)
        self._sources = sources
        self._where = where
        self.reads: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys() and name not in self._sources:
            known = choices(name, self.names)
            raise FormError(f"it reads w[{name!r}], but over {self._where} there are only: {known}")
        self.reads.add(name)
        return self.peek(name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_sources":
            raise AttributeError(name)
        if name not in self.keys() and name not in self._sources:
            known = choices(name, self.names)
            raise _UnknownNameError(f"it reads w.{name}, but over {self._where} there are only: {known}")
        return self[name]

    def insert(self, name: str, value: Any) -> None:
        """Put in what the integrand is to find under a name."""
        super().__setitem__(name, value)

    @property
    def where(self) -> str:
        """What kind of place is integrated over."""
        return self._where

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be read."""
        return tuple(dict.fromkeys([*self.keys(), *self._sources]))

    def peek(self, name: str) -> Any:
        """What is found under a name, without counting as read."""
        if name not in self.keys():
            super().__setitem__(name, self._sources[name]())
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return name in self.keys() or name in self._sources

    def get(self, name: str, default: Any = None) -> Any:
        """As of a mapping."""
        if name not in self:
            return default
        return self[name]


@dataclass(frozen=True, eq=False)
class Integrand:
    """A user's function of fields and ``w``, called with checks.

    Attributes
    ----------
    function : callable
    name : str
        For messages.
    """

    function: Callable[..., Any]
    name: str

    @classmethod
    def of(cls, form: Any, name: str | None = None) -> Integrand:
        """Take a function or a scikit-fem form."""
        if isinstance(form, Integrand):
            return form
        function = form.form if isinstance(form, SkfemForm) else form
        if isinstance(function, type) or not callable(function):
            raise FormError(f"a form must be a function of fields and w, or a scikit-fem form, not {form!r}")
        if name is not None and not isinstance(name, str):
            raise FormError(f"name must be a text, not {described(name)}")
        given = name or getattr(function, "__name__", None) or type(function).__name__
        return cls(function, given)

    def __call__(self, arguments: Sequence[Any], w: Environment, shape: tuple[int, ...]) -> Any:
        """Values at the quadrature points, shape ``(m, nq)``, complex (or a jet) where an argument was seeded.

        Raises
        ------
        FormError
            When the function raises, returns something of another shape, or NaN.
        """
        try:
            result = invoke(self.function, *arguments, w)
        except (FormError, _UnknownNameError) as error:
            raise FormError(f"form {self.name!r}: {error}") from error
        except FemadjError as error:
            raise type(error)(f"form {self.name!r}: {error}") from error
        except Exception as error:
            raise FormError(f"form {self.name!r} failed: {describe_failure(error)}{_calls(error, w)}") from error
        result = gathered(result)
        if isinstance(result, Jet):
            parts = (self._checked(np.asarray(part), w, shape) for part in (result.jet_value, result.jet_slope))
            return Jet(*parts)
        return self._checked(result, w, shape)

    def _checked(self, result: Any, w: Environment, shape: tuple[int, ...]) -> AnyArray:
        values = result.view(np.ndarray) if isinstance(result, np.ndarray) else np.asarray(result)
        if values.dtype.kind not in "fiubc":
            raise FormError(f"form {self.name!r} must return an array of numbers, not {type(result).__name__}")
        if values.shape != shape:
            if values.ndim > len(shape) or any(
                n not in (1, m) for n, m in zip(values.shape[::-1], shape[::-1], strict=False)
            ):
                raise FormError(
                    f"form {self.name!r} must return one number at every quadrature point, shape {shape} here, not "
                    f"{values.shape}: are all indices contracted, and do all arrays belong to this mesh?"
                    f"{self._jump_without_sides(w)}"
                )
            values = np.broadcast_to(values, shape)
        if not np.isfinite(values).all():
            bad = np.argwhere(~np.isfinite(values))[0]
            raise FormError(
                f"form {self.name!r} is NaN or infinite (or its derivative is), first at entity {int(bad[0])}, "
                f"quadrature point {int(bad[1])}"
            )
        return values

    def _jump_without_sides(self, w: Environment) -> str:
        """What to say of a jump where fields have one side."""
        if "idx" in w or "jump" not in getattr(getattr(self.function, "__code__", None), "co_names", ()):
            return ""
        return (
            f" skfem.helpers.jump gives back a tuple over {w.where}, where fields have one side; Integral(..., "
            "over='interior facets') has two, which w.idx tells apart"
        )


def _calls(error: Exception, w: Environment) -> str:
    """How forms are called, for those that take other arguments."""
    if not isinstance(error, TypeError) or "positional argument" not in str(error):
        return ""
    sides = (
        "; over interior facets once for each pair of sides, with one u and one v, whose sides w.idx holds: write "
        "jumps as skfem.helpers.jump(w, u, v)"
    )
    return (
        ". A bilinear form is called as f(u, v, w), a linear one as f(v, w), a functional as f(w), with parts of the "
        f"element one after the other, f(u, p, v, q, w){sides if 'idx' in w else ''}"
    )


def strict_complex() -> AbstractContextManager[None]:
    """Context in which dropping an imaginary part is an error, in this thread; integrands are called in one anyway."""
    return steps_kept()


class Reads(frozenset[str]):
    """What an integrand reads: names of ``w``, and ``"name.grad"`` for the gradients of fields."""

    @property
    def names(self) -> frozenset[str]:
        """Names of ``w`` that are read, with or without their gradients."""
        return frozenset(entry.partition(".")[0] for entry in self)

    @property
    def geometry(self) -> frozenset[str]:
        """What is read of ``x``, ``n`` and ``h``."""
        return self & {"x", "n", "h"}

    def __str__(self) -> str:
        return ", ".join(sorted(self)) or "nothing"


class SidesRead(tuple[int, ...]):
    """``w.idx``: the sides of an interior facet that the arguments are taken from; tells which entries are read."""

    _reads: set[str]

    def __new__(cls, sides: tuple[int, ...], reads: set[str]) -> SidesRead:
        """``reads``: where entries that are read are noted, as ``"idx[0]"``."""
        result = super().__new__(cls, sides)
        result._reads = reads
        return result

    def _note(self, *numbers: int) -> None:
        self._reads.update(f"idx[{number}]" for number in numbers)

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self._note(*np.atleast_1d(np.arange(len(self))[key]).tolist())
        return found

    def __iter__(self) -> Iterator[int]:
        self._note(*range(len(self)))
        return super().__iter__()

    def __eq__(self, other: object) -> bool:
        self._note(*range(len(self)))
        return tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)
