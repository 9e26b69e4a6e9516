"""Forms on fields of any element: probed by slots, the values and derivatives that describe the fields at a point.

A part of the unknown has the slots ``f, grad f`` (H1, component by component), ``f, div f`` (H(div)) or ``f, curl f``
(H(curl)). When the mesh moves with ``W = grad V`` they are carried along, at fixed unknowns, as

    H1       d(grad f) = -(grad f) W
    H(div)   d(f) = W f - (tr W) f,   d(div f) = -(tr W) div f
    H(curl)  d(f) = -W^T f,           d(curl f) = W curl f - (tr W) curl f   (-(tr W) curl f in the plane)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.base.complex_step import Guarded, seed
from femadj.errors import FormError
from femadj.forms.integrand import Field, GuardedField, Integrand, strict_complex
from femadj.forms.pointwise import Quadrature, Slots, add_transport, unit
from femadj.forms.probing import (
    Probe,
    all_entries,
    generic_parameters,
    independent,
    placeholder,
    require_differentiable,
)
from femadj.space.parameters import Parameters
from femadj.space.parts import Part


def field_of(part: Part, slots: Any) -> Any:
    """A part as forms see it, from its slots ``(n_slots, m, nq)``, with or without a complex step."""
    dim = part.dim
    make: Any = GuardedField if isinstance(slots, Guarded) else Field
    if part.kind == "H1":
        table = slots.reshape(part.components, 1 + dim, *slots.shape[1:])
        if part.vector:
            return make(table[:, 0], table[:, 1:])
        return make(table[0, 0], table[0, 1:])
    if part.kind == "H(div)":
        return make(slots[:dim], div=slots[dim])
    return make(slots[:dim], curl=slots[dim:] if dim == 3 else slots[dim])


def fields_of(parts: Sequence[Part], slots: FloatArray) -> list[Field]:
    """All parts, from all slots."""
    return [field_of(part, slots[part.slots]) for part in parts]


@dataclass(frozen=True, eq=False)
class PartSlots(Slots):
    """An argument that is a part of an element: ``value`` holds its slots ``(n_slots, m, nq)``."""

    part: Part | None = None

    @property
    def field(self) -> Field:
        """As forms see it."""
        field: Field = self.moved(self.value)
        return field

    def seeded(self, component: int, slot: int) -> Any:
        """With a complex step in slot ``component`` (``slot`` is always 0)."""
        return self.moved(seed(self.value, unit(self.value.shape, (component,))))

    def moved(self, slots: Any) -> Any:
        """The field that other slots make, with or without a complex step."""
        assert self.part is not None
        return field_of(self.part, slots)


def arguments_of(parts: Sequence[Part], slots: FloatArray, on_read: Callable[[], None] | None = None) -> list[Slots]:
    """All parts as arguments, from all slots ``(n_slots, m, nq)``; ``on_read`` is called when a gradient is read."""
    arguments: list[Slots] = []
    for part in parts:
        here = slots[part.slots]
        if part.kind == "H1":
            table = here.reshape(part.components, 1 + part.dim, *here.shape[1:])
            arguments.append(Slots(table[:, 0], table[:, 1:], on_read))
        else:
            arguments.append(PartSlots(here, np.empty(0), part=part))
    return arguments


def slots_read(part: Part, *, gradient: bool) -> range:
    """Slots of an argument that derivatives are taken by, as ``argument_slopes`` counts them."""
    return range(1 + part.dim if gradient and part.kind == "H1" else 1)


def dual_of(parts: Sequence[Part], slopes: Sequence[FloatArray]) -> FloatArray:
    """Derivatives by all slots ``(n_slots, m, nq)``, from those by the arguments (``argument_slopes``)."""
    dual = np.zeros((parts[-1].slots.stop, *slopes[0].shape[2:]))
    for part, by in zip(parts, slopes, strict=True):
        here = dual[part.slots]
        if part.kind == "H1":
            here.reshape(part.components, 1 + part.dim, *here.shape[1:])[:, : by.shape[1]] = by
        else:
            here[...] = by[:, 0]
    return dual


# ------------------------------------------------------------------ how fields are transported
def carried(parts: Sequence[Part], slots: FloatArray, w: FloatArray, *, adjoint: bool = False) -> FloatArray:
    """Rate of the slots ``(n_slots, m, nq)`` under ``W`` ``(dim, dim, m, nq)``, or what its transpose gives."""
    result = np.zeros_like(slots)
    rate = np.einsum("jjeq->eq", w)
    for part in parts:
        dim, first = part.dim, part.first
        here = slots[part.slots]
        value, rest = slice(first, first + dim), slice(first + dim, first + part.n_slots)
        if part.kind == "H1":
            gradient = here.reshape(part.components, 1 + dim, *here.shape[1:])[:, 1:]
            change = -np.einsum("ijeq,kjeq->ikeq" if adjoint else "ikeq,kjeq->ijeq", gradient, w)
            for i in range(part.components):
                start = first + i * (1 + dim) + 1
                result[start : start + dim] = change[i]
        elif part.kind == "H(div)":
            result[value] = _times(w, here[:dim], transpose=adjoint) - rate * here[:dim]
            result[rest] = -rate * here[dim:]
        else:
            result[value] = -_times(w, here[:dim], transpose=not adjoint)
            result[rest] = -rate * here[dim:]
            if dim == 3:
                result[rest] += _times(w, here[dim:], transpose=adjoint)
    return result


def _times(w: FloatArray, f: FloatArray, *, transpose: bool) -> FloatArray:
    return np.asarray(np.einsum("jieq,jeq->ieq" if transpose else "ijeq,jeq->ieq", w, f))


def add_carried(force: FloatArray, parts: Sequence[Part], slots: FloatArray, dual: FloatArray) -> None:
    """Add to ``force`` ``(dim, dim + 1, m, nq)`` what fields contribute that are carried along.

    ``dual`` holds the derivatives of the integrand by the slots; ``force[k, 1 + j]`` multiplies ``dV_k/dx_j``.
    """
    for part in parts:
        dim = part.dim
        here, by = slots[part.slots], dual[part.slots]
        if part.kind == "H1":
            split = (part.components, 1 + dim, *here.shape[1:])
            add_transport(force, here.reshape(split)[:, 1:], by.reshape(split)[:, 1:])
            continue
        if part.kind == "H(div)":
            force[:, 1:] += np.einsum("keq,jeq->kjeq", by[:dim], here[:dim])
            spread = (by * here).sum(axis=0)
        else:
            force[:, 1:] -= np.einsum("keq,jeq->kjeq", here[:dim], by[:dim])
            spread = (by[dim:] * here[dim:]).sum(axis=0)
            if dim == 3:
                force[:, 1:] += np.einsum("keq,jeq->kjeq", by[dim:], here[dim:])
        for k in range(dim):
            force[k, 1 + k] -= spread


# ------------------------------------------------------------------ probing
@dataclass(frozen=True)
class SlotProbe(Probe):
    """How the coefficients ``C[test slot, trial slot]`` (or ``F[test slot]``) of a form are obtained.

    Attributes
    ----------
    parts : tuple of Part
    """

    parts: tuple[Part, ...] = ()

    def _arguments(self, quadrature: Quadrature, weights: Sequence[FloatArray]) -> list[Any]:
        """Constant fields; forms take the trial functions first."""
        fields: list[Any] = []
        for weight in reversed(weights):
            slots = np.broadcast_to(weight[:, None, None], (len(weight), *quadrature.shape))
            fields += fields_of(self.parts, slots)
        return fields

    def unit_arguments(self, slot: int, shape: tuple[int, int]) -> list[Any]:
        """Fields that are one in a single slot."""
        return fields_of(self.parts, np.broadcast_to(np.eye(self.n_slots)[slot][:, None, None], (self.n_slots, *shape)))

    @property
    def n_components(self) -> int:
        """One: slots are not divided by components."""
        return 1

    @property
    def n_all(self) -> int:
        """All slots are used."""
        return self.hi

    @property
    def kept(self) -> npt.NDArray[np.int64]:
        """All slots are used."""
        return np.arange(self.hi)

    def describe(self, parameters: Parameters) -> str:
        """What the probing found, in words."""
        reads = ", ".join(sorted(self.reads)) or "nothing"
        if not self.varies(parameters):
            return f"reads {reads}; constant coefficients, evaluated once in every pass"
        n = len(self.pivots)
        where = "at every quadrature point" if self.varies_within(parameters) else "once in every cell"
        return f"reads {reads}; {n} independent coefficient{'s' if n != 1 else ''}, evaluated {where}"


def probe_slots(integrand: Integrand, quadrature: Quadrature, parts: tuple[Part, ...], arity: int) -> SlotProbe:
    """Find out what a form on the parts of an element is made of, at the quadrature points of a sample.

    Raises
    ------
    FormError
        When the form raises, returns the wrong shape or NaN, is not linear in its arguments, or has a derivative by
        what it reads that disagrees with differences.
    """
    n = parts[-1].slots.stop
    rng = np.random.default_rng(1)
    entries, basis = all_entries(n, arity)
    weights = tuple(rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 1.5, n) for _ in range(arity))
    components = tuple(part.components for part in parts)
    dim = parts[0].dim
    whole = SlotProbe(
        integrand, components, dim, arity, 0, n, entries, basis, weights, frozenset(), False, False, parts
    )  # fmt: skip
    generic = replace(quadrature, parameters=generic_parameters(quadrature.parameters))
    with strict_complex():
        values = whole.coefficients(quadrature).values
        slots = [rng.uniform(-1, 1, (n, *quadrature.shape)) for _ in range(arity)]
        arguments = [a for each in slots for a in arguments_of(parts, each)]
        _require_pointwise(whole, quadrature, values, slots, arguments)
        reads = frozenset(quadrature.reads - {"idx"})
        require_differentiable(quadrature, integrand, arguments, set(reads))
        table = values.reshape(len(entries), -1)
        if any(name in reads for name in quadrature.parameters):
            table = np.hstack([table, _entries_or_none(whole, generic)])
    pivots, factors = independent(table)
    largest = np.abs(table).max(axis=1, initial=0.0).reshape((n,) * arity)
    balanced = []
    for axis, weight in enumerate(weights):
        size = largest.max(axis=tuple(a for a in range(arity) if a != axis))
        balanced.append(weight / np.sqrt(np.where(size > 0, size, float(size.max(initial=0.0)) or 1.0)))
    places = np.array(np.unravel_index(pivots, (n,) * arity)).T.reshape(-1, arity)
    return SlotProbe(
        integrand, components, dim, arity, 0, n, places, factors.reshape(-1, *(n,) * arity), tuple(balanced), reads,
        False, False, parts,
    )  # fmt: skip


def _entries_or_none(whole: SlotProbe, generic: Quadrature) -> FloatArray:
    """All entries at other values of the parameters, or none where the form is not defined for them.

    A zero among the declared values must not hide a term. Terms that show up later all the same are found entry by
    entry.
    """
    try:
        return whole.coefficients(generic).values.reshape(len(whole.pivots), -1)
    except FormError:
        return np.zeros((len(whole.pivots), 0))


def _require_pointwise(
    whole: SlotProbe, quadrature: Quadrature, values: FloatArray, slots: list[FloatArray], arguments: list[Slots]
) -> None:
    """The coefficients must reproduce the form for arguments that vary from point to point."""
    found = quadrature.evaluate_real(whole.integrand, [a.field for a in arguments])
    n = len(slots[0])
    tensors = values.reshape((n,) * whole.arity + quadrature.shape)
    if whole.arity == 1:
        expected = (tensors * slots[0]).sum(axis=0)
    else:
        expected = np.einsum("abeq,aeq,beq->eq", tensors, slots[1], slots[0])
    scale = max(float(np.abs(tensors).max(initial=0.0)) * n, float(np.abs(found).max()))
    if np.abs(found - expected).max() > 1e-10 * scale:
        raise FormError(
            f"form {whole.integrand.name!r} is not linear in its arguments, or mixes values of different quadrature "
            "points"
        )


def probing_quadrature(quadrature: Quadrature) -> Quadrature:
    """The same, with random values for parameters that have none yet."""
    return Quadrature(
        quadrature.domain, quadrature.points, placeholder(quadrature.parameters), sides=quadrature.sides
    )  # fmt: skip
