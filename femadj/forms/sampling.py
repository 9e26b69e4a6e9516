"""Integrands at a few chosen points: whether a value depends on its own point alone, derivatives against differences.

What a sample of a mesh tells can be otherwise elsewhere and later, where a mask is set or a branch is taken. So every
evaluation over a region is looked at anew at a few of its points: of every size of value, and others at random.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.base.calls import ONE_POINT, chosen, differs, key_of, parts_of, samples
from femadj.base.complex_step import derivative, real_part, seed
from femadj.base.differences import Comparison, compare
from femadj.errors import FormError
from femadj.forms.integrand import Field, GuardedField, Integrand
from femadj.forms.pointwise import Frame, Quadrature, Slots, as_field

IntArray = npt.NDArray[np.int64]

POINTS = 48
"""Points of a region that are looked at, beside one for every size of value."""


def _nowhere() -> IntArray:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Picked(Quadrature):
    """Some quadrature points of a region, one to an entity: arrays have the shape ``(k, 1)``.

    Attributes
    ----------
    whole : Quadrature
        Where they are taken from.
    entity, point : (k,) int64
        Which they are.
    """

    whole: Quadrature | None = None
    entity: IntArray = field(default_factory=_nowhere)
    point: IntArray = field(default_factory=_nowhere)

    @classmethod
    def of(cls, whole: Quadrature, places: IntArray) -> Picked:
        """Points by their numbers, entity by entity; what is read there counts as read in the whole."""
        entity, point = np.divmod(places, whole.shape[1])
        return cls(
            whole.domain, whole.points, whole.parameters, whole.one_point, whole.reads, whole.sides,
            whole=whole, entity=entity, point=point,
        )  # fmt: skip

    @property
    def whole_entity(self) -> IntArray:
        """Numbers of the entities within the region."""
        return self.entity + self._from.start

    def part(self, numbers: IntArray) -> Picked:
        """Some of the points, by their numbers among these."""
        return replace(self, entity=self.entity[numbers], point=self.point[numbers])

    @property
    def _from(self) -> Quadrature:
        assert self.whole is not None
        return self.whole

    @property
    def shape(self) -> tuple[int, int]:
        """``(k, 1)``."""
        return len(self.entity), 1

    def pick(self, array: Any) -> FloatArray:
        """Values at the points, ``(..., k, 1)``, from values ``(..., m or 1, nq or 1)``."""
        raw = np.asarray(array).view(np.ndarray)
        whole = np.broadcast_to(raw, (*raw.shape[:-2], *self._from.shape))
        return whole[..., self.entity, self.point][..., None]

    def slots(self, argument: Slots) -> Slots:
        """An argument at the points."""
        gradient = argument.gradient if argument.gradient.size == 0 else self.pick(argument.gradient)
        return replace(argument, value=self.pick(argument.value), gradient=gradient)

    @cached_property
    def frame(self) -> Frame:
        """Geometry at the points."""
        at = self._from.frame
        return Frame(*(a if a.shape[-2] == 0 else self.pick(a) for a in (at.x, at.measure, at.normal, at.size)))

    def nodal(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Value and gradient of a nodal parameter at the points."""
        value, gradient = self._from.nodal(name)
        return self.pick(value), self.pick(gradient)

    @cached_property
    def _sources(self) -> dict[str, Callable[[], Any]]:
        return {name: self._source(name, read) for name, read in self._from._sources.items()}

    def _source(self, name: str, read: Callable[[], Any]) -> Callable[[], Any]:
        entry = self.parameters.entries.get(name)
        if name == "idx" or (entry is not None and entry.kind == "constant"):
            return read
        if entry is None or entry.kind == "cell":
            return lambda: Field(self.pick(read()))

        def picked() -> Any:
            value, gradient = self.nodal(name)
            return as_field(value, gradient, lambda: read().grad)

        return picked


def picked_of(quadrature: Quadrature, values: FloatArray, number: int = POINTS) -> Picked:
    """Choose points by the values ``(m, nq)`` there."""
    return Picked.of(quadrature, chosen(values.ravel(), number, key_of(values)))


# ---------------------------------------------------------------------- one point alone
def pick_points(
    quadrature: Quadrature, integrand: Integrand, arguments: Sequence[Slots], values: FloatArray, number: int = POINTS
) -> Picked:
    """Choose points, and require that the integrand there does not depend on other points; FormError where it does.

    Parameters
    ----------
    values : (m, nq)
        The integrand on the whole region.
    """
    picked = picked_of(quadrature, values, number)
    require_local(picked, integrand, [picked.slots(a) for a in arguments], picked.pick(values)[:, 0])
    return picked


def require_local(picked: Picked, integrand: Integrand, arguments: Sequence[Slots], values: FloatArray) -> None:
    """Require that an integrand does not depend on other points.

    Parameters
    ----------
    arguments : sequence of Slots
        At the points.
    values : (k,)
        The integrand there, found together with the other points of the region.

    Raises
    ------
    FormError
        When values at single points, or at a part of them, differ.
    """
    for part in parts_of(np.arange(len(values)), key_of(values)):
        alone = picked.part(part)
        fields = [replace(a, value=_of(a.value, part), gradient=_of(a.gradient, part)).field for a in arguments]
        found = alone.evaluate_real(integrand, fields)[:, 0]
        if not differs(found, values[part]).any():
            continue
        if differs(found, alone.evaluate_real(integrand, fields)[:, 0]).any():
            raise FormError(
                f"form {integrand.name!r} returns other values for the same arguments (random numbers, or state kept "
                "between calls)"
            )
        raise FormError(f"form {integrand.name!r} mixes points; {ONE_POINT}")


def _of(array: FloatArray, part: IntArray) -> FloatArray:
    """A part of the points of an array ``(..., k, 1)``."""
    return array[..., part, :] if array.size else array


# ---------------------------------------------------------------------- derivatives
@dataclass(frozen=True, eq=False)
class _Quantity:
    """Something that an integrand depends on, and a direction in which it is moved.

    Attributes
    ----------
    label : str
        For messages.
    place : str or int
        Name in ``w``, or number of the argument.
    make : callable
        What the integrand gets for moved arrays.
    arrays, directions : tuple of array
    """

    label: str
    place: str | int
    make: Callable[..., Any]
    arrays: tuple[FloatArray, ...]
    directions: tuple[FloatArray, ...]

    def moved(self, step: float | None) -> Any:
        """Moved by a step; carrying a complex step for None."""
        pairs = zip(self.arrays, self.directions, strict=True)
        return self.make(*(seed(a, d) if step is None else a + step * d for a, d in pairs))


def _size(array: FloatArray) -> FloatArray:
    """Size of every entry; entries near zero get a small part of the largest."""
    size = np.abs(array)
    return np.maximum(size, 1e-4 * float(size.max(initial=0.0)) or 1.0)


def _field(value: Any, gradient: Any = None) -> Any:
    make = GuardedField if np.iscomplexobj(value) else Field
    return make(value, gradient)


def _quantities(
    quadrature: Quadrature, arguments: Sequence[Slots], reads: Collection[str], by_arguments: bool
) -> Iterable[_Quantity]:
    """Everything that an integrand reads, with random directions."""
    at = None if {"x", "n", "h"}.isdisjoint(reads) else quadrature.frame
    rng = samples(*quadrature.shape, 0 if at is None else key_of(at.measure))

    def quantity(label: str, place: str | int, make: Callable[..., Any], *arrays: FloatArray) -> _Quantity:
        directions = tuple(rng.uniform(-1, 1, a.shape) * _size(a) for a in arrays)
        return _Quantity(label, place, make, arrays, directions)

    if at is not None:
        extent = float(np.ptp(at.x, axis=(1, 2)).max(initial=0.0)) or float(np.abs(at.x).max(initial=0.0)) or 1.0
        for name, array, size in (("x", at.x, extent), ("n", at.normal, 1.0), ("h", at.size, at.size)):
            if name in reads:
                yield _Quantity(f"w.{name}", name, _field, (array,), (rng.uniform(-1, 1, array.shape) * size,))
    for name, entry in quadrature.parameters.entries.items():
        if name not in reads:
            continue
        label = f"parameter {name!r}"
        if entry.kind == "nodal":
            value, gradient = quadrature.nodal(name)
            arrays = (value, gradient) if len(value) > 1 else (value[0], gradient[0])
            yield quantity(label, name, _field, *arrays)
        else:
            value = np.asarray(quadrature.environment().peek(name), dtype=float).view(np.ndarray)
            yield quantity(label, name, _field if value.ndim >= 2 else lambda v: v, value)
    for number, argument in enumerate(arguments if by_arguments else ()):
        part = getattr(argument, "part", None)
        label = argument.label
        if part is not None:
            yield quantity(label, number, argument.moved, argument.value)  # type: ignore[attr-defined]
        elif len(argument.value) == 1:
            yield quantity(label, number, _field, argument.value[0], argument.gradient[0])
        else:
            yield quantity(label, number, _field, argument.value, argument.gradient)


def require_differentiable(
    quadrature: Quadrature,
    integrand: Integrand,
    arguments: Sequence[Slots],
    reads: Collection[str],
    *,
    by_arguments: bool = False,
    both_sides: bool = False,
) -> None:
    """Compare the derivative by what an integrand reads, along complex steps, with differences.

    Parameters
    ----------
    quadrature : Quadrature
        A few points.
    reads : collection of str
        What is moved of what it reads.
    by_arguments : bool
        Whether the arguments are moved as well.
    both_sides : bool
        Whether a point exactly on a kink or a jump is an error: where the derivative itself is asked for.

    Raises
    ------
    FormError
        Where they disagree: the form is not differentiable, or drops the complex step in a way that the guarded
        arrays cannot see (``np.array`` of entries followed by ``abs``, for instance).
    """
    moving = list(_quantities(quadrature, arguments, reads, by_arguments))
    fields: list[Any] = [a.field for a in arguments]
    if not moving:
        return
    # everything at once: a derivative that is missing shows, whichever it is
    _, found = _compared(quadrature, integrand, fields, moving)
    if (found.right if both_sides else found.acceptable).all():
        return
    for quantity in moving:
        exact, found = _compared(quadrature, integrand, fields, [quantity])
        if not found.acceptable.all():
            place = tuple(np.argwhere(~found.acceptable)[0])
            raise FormError(
                f"form {integrand.name!r}: its derivative by {quantity.label} disagrees with differences "
                f"({exact[place]:.6g} against {found.difference[place]:.6g}). Write it with smooth operations on the "
                "arguments themselves (no abs or norm of arrays put together by np.array, no equality of coordinates "
                "such as w.x[0] == 1.0, no random numbers, no state kept between calls)"
            )
        if both_sides and not found.right.all():
            raise FormError(
                f"form {integrand.name!r} has no derivative by {quantity.label} here: there is a kink or a jump "
                "exactly at a point where it is evaluated. Move the kink off that value, or smooth it"
            )


def _compared(
    quadrature: Quadrature, integrand: Integrand, fields: Sequence[Any], moving: Sequence[_Quantity]
) -> tuple[FloatArray, Comparison]:
    """Derivatives along the directions of some quantities together, and how they compare with differences."""

    def evaluate(step: float | None) -> Any:
        arguments, seeds = list(fields), {}
        for quantity in moving:
            if isinstance(quantity.place, int):
                arguments[quantity.place] = quantity.moved(step)
            else:
                seeds[quantity.place] = quantity.moved(step)
        return quadrature.evaluate(integrand, arguments, seeds)

    exact = derivative(evaluate(None))
    return exact, compare(lambda step: real_values(evaluate(step)), exact)


def real_values(values: npt.NDArray[Any]) -> FloatArray:
    """Values without a complex step."""
    return real_part(values) if np.iscomplexobj(values) else np.asarray(values, dtype=float)
