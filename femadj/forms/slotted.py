"""Slots: the values and derivatives that describe fields of any element at a point.

A part of the unknown has the slots ``f, grad f`` (H1, component by component), ``f, div f`` (H(div)) or ``f, curl f``
(H(curl)). When the mesh moves with ``W = grad V`` they are transported, at fixed unknowns, as

    H1       d(grad f) = -(grad f) W
    H(div)   d(f) = W f - (tr W) f,   d(div f) = -(tr W) div f
    H(curl)  d(f) = -W^T f,           d(curl f) = W curl f - (tr W) curl f   (-(tr W) curl f in the plane)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.base.jet import seed
from femadj.forms.integrand import Field, field_with
from femadj.forms.pointwise import Slots, add_transport, unit
from femadj.space.parts import Part


def field_of(part: Part, slots: Any) -> Any:
    """A part as forms see it, from its slots ``(n_slots, m, nq)``, with or without a complex step."""
    dim = part.dim
    if part.kind == "H1":
        table = slots.reshape(part.components, 1 + dim, *slots.shape[1:])
        if part.vector:
            return field_with(table[:, 0], table[:, 1:])
        return field_with(table[0, 0], table[0, 1:])
    if part.kind == "H(div)":
        return field_with(slots[:dim], div=slots[dim])
    return field_with(slots[:dim], curl=slots[dim:] if dim == 3 else slots[dim])


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
        here, label = slots[part.slots], "the state" if len(parts) == 1 else f"the state {part.name!r}"
        if part.kind == "H1":
            table = here.reshape(part.components, 1 + part.dim, *here.shape[1:])
            arguments.append(Slots(table[:, 0], table[:, 1:], on_read, label))
        else:
            arguments.append(PartSlots(here, np.empty(0), label=label, part=part))
    return arguments


def slots_read(part: Part, *, gradient: bool) -> range:
    """Slots of an argument that derivatives are taken by, as ``argument_slopes`` counts them."""
    return range(1 + part.dim if gradient and part.kind == "H1" else 1)


def dual_of(parts: Sequence[Part], slopes: Sequence[FloatArray]) -> FloatArray:
    """Derivatives by all slots ``(n_slots, m, nq)``, from those by the arguments (``argument_slopes``)."""
    dual = np.zeros((parts[-1].slots.stop, *slopes[0].shape[2:]), dtype=slopes[0].dtype)
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
    """Add to ``force`` ``(dim, dim + 1, m, nq)`` what fields contribute that are transported.

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


def nodal_parts(components: Sequence[int], dim: int) -> tuple[Part, ...]:
    """Fields with values at the mesh nodes as parts: H1, with the slots ``f, grad f`` of every component."""
    parts: list[Part] = []
    for number, nc in enumerate(components):
        first = parts[-1].slots.stop if parts else 0
        nothing = np.zeros((0, nc), dtype=np.int64)
        parts.append(Part(f"u{number}", "H1", None, nc > 1, nc, nothing, dim, first))
    return tuple(parts)
