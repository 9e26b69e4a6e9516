"""Probing: the pointwise coefficients of a form, found by evaluating it on unit values and unit derivatives.

A form that is linear in its arguments is ``v^ : C : u^`` (or ``v^ : F``) at every quadrature point, between the slots
of test and trial functions (see ``femadj.forms.slotted``). Its entries are usually few functions times constants,
``C(x) = sum_p c_p(x) B_p`` (one for ``k(x) grad u . grad v``): a sample of points tells which entries ``c_p`` suffice
and what the constants are. Whether that holds everywhere is checked at every point and every design by one more
evaluation; where it does not, all entries are evaluated. Sizes are compared locally, slot by slot: a coefficient of 1
counts beside one of 1e12.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.base.calls import differs, key_of, samples
from femadj.base.complex_step import derivative
from femadj.errors import FormError
from femadj.forms.integrand import Field, Integrand, Reads
from femadj.forms.noted import Note, Noted
from femadj.forms.pointwise import Quadrature, Slots
from femadj.forms.sampling import Picked, pick_points, picked_of, require_differentiable, require_local
from femadj.forms.slotted import arguments_of, fields_of, nodal_parts
from femadj.forms.tensors import all_entries, asymmetric, contracted, indefinite, independent, spread
from femadj.space.parameters import Parameters
from femadj.space.parts import Part
from femadj.space.region import Domain

SAMPLED_ENTITIES = 16
"""Cells or facets on which a form is tried before it is used."""

REPRODUCTION = 1e-10
"""Largest distance between a form and its coefficients at a point, relative to the terms that are added there."""

CONTRAST = 1e4
"""From this ratio of coefficients at different points on, the check is weighted point by point."""

_SCALES = (2.0**10, -(2.0**10), 2.0**30, -(2.0**30), 2.0**-10, 2.0**-30)
_SEED = 1
"""Of the random arguments."""


class Coefficients(NamedTuple):
    """Coefficients of a form on some entities.

    Attributes
    ----------
    values : (r, m, nq)
    basis : (r, *(n,) * arity)
        What each value multiplies.
    lo, hi : int
        Slots that the basis has.
    """

    values: FloatArray
    basis: FloatArray
    lo: int
    hi: int


class Grid(NamedTuple):
    """How the slots of an argument are divided, and which are used.

    Attributes
    ----------
    components, slots : int
        Components and the slots of each (fields at the mesh nodes), or ``1, n`` where slots are not divided.
    lo, hi : int
        Slots used, of every component.
    """

    components: int
    slots: int
    lo: int
    hi: int

    @property
    def kept(self) -> npt.NDArray[np.int64]:
        """Numbers of the slots that are used, among all of them."""
        kept = np.zeros((self.components, self.slots), dtype=bool)
        kept[:, self.lo : self.hi] = True
        return np.flatnonzero(kept)


class Weights(NamedTuple):
    """Arguments of the check, ``(n_all,)`` each: random, and these divided by roots of the sizes of coefficients."""

    generic: tuple[FloatArray, ...]
    balanced: tuple[FloatArray, ...]


@dataclass(frozen=True, eq=False)
class Probe:
    """How the coefficients of a form are obtained.

    Attributes
    ----------
    integrand : Integrand
    parts : tuple of Part
        Fields that the arguments consist of.
    grid : Grid
        How the slots are divided, and which are used.
    arity : int
        1: linear form, 2: bilinear form.
    pivots : (r, arity) int
        Entries that are evaluated, as numbers of slots: test, then trial function.
    basis : (r, *(n,) * arity)
        What an evaluated entry contributes to the entries that are used.
    weights : Weights
        Arguments of the check.
    reads : Reads
        What the form reads.
    symmetric, definite : bool
        Whether ``C`` is symmetric, and whether it has no negative eigenvalue, at the sampled points.
    sides : tuple of int or None
        On facets between two cells, ``w.idx``.
    """

    integrand: Integrand
    parts: tuple[Part, ...]
    grid: Grid
    arity: int
    pivots: npt.NDArray[np.int64]
    basis: FloatArray
    weights: Weights
    reads: Reads
    symmetric: bool
    definite: bool
    sides: tuple[int, ...] | None = None

    # ------------------------------------------------------------------ sizes
    @property
    def lo(self) -> int:
        """First slot used, of every component."""
        return self.grid.lo

    @property
    def hi(self) -> int:
        """End of the slots used."""
        return self.grid.hi

    @property
    def components(self) -> tuple[int, ...]:
        """Components of the parts."""
        return tuple(part.components for part in self.parts)

    @property
    def dim(self) -> int:
        """Space dimension."""
        return self.parts[0].dim

    @property
    def n_components(self) -> int:
        """Components of all parts; 1 where slots are not divided by components."""
        return self.grid.components

    @property
    def n_slots(self) -> int:
        """Slots used, of every component."""
        return self.hi - self.lo

    @property
    def n_all(self) -> int:
        """Number of slots of an argument, used or not."""
        return self.grid.components * self.grid.slots

    @property
    def kept(self) -> npt.NDArray[np.int64]:
        """Numbers of the slots that are used, among all of them."""
        return self.grid.kept

    def varies_within(self, parameters: Parameters) -> bool:
        """Whether the coefficients vary within an entity."""
        return any(name not in parameters or parameters.entries[name].kind == "nodal" for name in self.reads.names)

    def varies(self, parameters: Parameters) -> bool:
        """Whether the coefficients vary from point to point."""
        return any(name not in parameters or parameters.entries[name].kind != "constant" for name in self.reads.names)

    # ------------------------------------------------------------------ coefficients
    def coefficients(self, quadrature: Quadrature, noted: Noted) -> Coefficients:
        """Coefficient functions and what they multiply; some points are noted, to be looked at later.

        Raises
        ------
        FormError
            When the form turns out not to be linear, not symmetric where it is elsewhere, to read what it did not read
            where it was tried, or to have changed since the design was put here.
        """
        known = noted.of(quadrature.start)
        everything = known is not None and known.everything
        values, basis = self._evaluated(quadrature, everything)
        if known is not None:
            self._require_same(_flat(values)[:, known.places], known.values)
        else:
            weights = self._weights_for(values)
            expected = quadrature.evaluate_real(self.integrand, self._fields(weights, quadrature.shape))
            self.require_known_reads(quadrature.reads)
            note = self._note(quadrature, values, basis, weights, expected, everything)
            if note is None:
                everything = True
                values, basis = self._evaluated(quadrature, everything)
                note = self._note(quadrature, values, basis, weights, expected, everything)
            if note is None:
                picked = picked_of(quadrature, expected)
                local = [picked.slots(a) for a in self._slots(weights, quadrature.shape)]
                require_local(picked, self.integrand, local, picked.pick(expected)[:, 0])
                raise FormError(f"form {self.integrand.name!r} {self._not_linear(quadrature)}")
            if everything and self.symmetric and asymmetric(values.reshape(self.n_all, self.n_all, -1).T):
                raise FormError(
                    f"form {self.integrand.name!r} is symmetric in u and v where it was sampled, but not here; tell "
                    "Form(..., symmetric=False)"
                )
            noted.add(quadrature.start, note)
        lo, hi = (0, self.grid.slots) if everything else (self.lo, self.hi)
        return Coefficients(values, basis, lo, hi)

    def _evaluated(self, quadrature: Quadrature, everything: bool) -> tuple[FloatArray, FloatArray]:
        """Coefficients of the pivots or of all entries, and what they multiply."""
        entries, basis = all_entries(self.n_all, self.arity) if everything else (self.pivots, self.basis)
        return self._entries(quadrature, entries), basis

    def _note(
        self,
        quadrature: Quadrature,
        values: FloatArray,
        basis: FloatArray,
        weights: tuple[FloatArray, ...],
        expected: FloatArray,
        everything: bool,
    ) -> Note | None:
        """Some points to look at; None where the coefficients do not stand for the form."""
        found, size = contracted(values, basis, self._kept(weights, basis))
        bound = (10 if everything else 1) * REPRODUCTION * (size + np.abs(expected))
        if not (np.abs(found - expected) <= bound).all():
            return None
        picked = picked_of(quadrature, expected)
        places = picked.entity * quadrature.shape[1] + picked.point
        here = _flat(values)[:, places]
        rng = samples(_SEED, len(values), key_of(values))
        whole = [weight[:, None, None] * rng.uniform(0.5, 2.0, (1, *picked.shape)) for weight in self.weights.balanced]
        alone = picked.evaluate_real(self.integrand, self._fields(whole, picked.shape))
        found, size = contracted(here[..., None], basis, self._kept(whole, basis))
        if not (np.abs(found - alone) <= 10 * REPRODUCTION * (size + np.abs(alone))).all():
            return None
        of_places = tuple(picked.pick(spread(weight, quadrature.shape)) for weight in weights)
        return Note(
            places, picked.whole_entity, picked.point, here, of_places, picked.pick(expected), everything
        )  # fmt: skip

    def _kept(self, weights: Sequence[FloatArray], basis: FloatArray) -> list[FloatArray]:
        """Weights of the slots that a basis has."""
        return [weight[self.kept] if basis.shape[-1] < self.n_all else weight for weight in weights]

    def tensor_slope(self, quadrature: Quadrature, seeds: Mapping[str, Any]) -> FloatArray:
        """Derivative of the coefficients at a single point along complex steps of what is read, all slots."""
        everything, _ = all_entries(self.n_all, self.arity)
        slopes = np.empty(len(everything))
        for number, entry in enumerate(everything):
            slopes[number] = derivative(quadrature.evaluate(self.integrand, self._unit(quadrature, entry), seeds))[0, 0]
        return slopes.reshape((self.grid.components, self.grid.slots) * self.arity)

    def _entries(self, quadrature: Quadrature, entries: npt.NDArray[np.int64]) -> FloatArray:
        values = np.empty((len(entries), *quadrature.shape))
        for number, entry in enumerate(entries):
            values[number] = quadrature.evaluate_real(self.integrand, self._unit(quadrature, entry))
        return values

    def _unit(self, quadrature: Quadrature, entry: npt.NDArray[np.int64]) -> list[Field]:
        """Arguments that are one in a single slot each."""
        return self._fields(tuple(np.eye(self.n_all)[index] for index in entry), quadrature.shape)

    def unit_arguments(self, slot: int, shape: tuple[int, int]) -> list[Field]:
        """One argument that is one in a single slot, as the fields of its parts."""
        return fields_of(self.parts, spread(np.eye(self.n_all)[slot], shape))

    def _slots(self, weights: Sequence[FloatArray], shape: tuple[int, int]) -> list[Slots]:
        """Arguments from weights ``(n_all,)`` or ``(n_all, m, nq)``; forms take the trial functions first."""
        return [slots for weight in reversed(weights) for slots in arguments_of(self.parts, spread(weight, shape))]

    def _fields(self, weights: Sequence[FloatArray], shape: tuple[int, int]) -> list[Field]:
        return [slots.field for slots in self._slots(weights, shape)]

    def arguments(self, shape: tuple[int, int]) -> list[Slots]:
        """Arguments in which all slots count, the same at all points."""
        return self._slots(self.weights.balanced, shape)

    def _weights_for(self, values: FloatArray) -> tuple[FloatArray, ...]:
        """Weights that make all coefficients count: point by point where they differ much between points."""
        reach = np.abs(values).max(axis=0, initial=0.0)
        largest = float(reach.max(initial=0.0))
        if largest == 0 or float(np.where(reach > 0, reach, largest).min()) * CONTRAST > largest:
            return self.weights.balanced
        weights = []
        for axis, generic in enumerate(self.weights.generic):
            others = tuple(a + 1 for a in range(self.arity) if a != axis)
            of_slot = np.abs(self.basis).max(axis=others) if others else np.abs(self.basis)
            size = np.zeros((self.n_all, *reach.shape))
            size[self.kept] = (of_slot.T[..., None, None] * np.abs(values)).max(axis=1)
            here = size.max(axis=0)
            size = np.where(size > 0, size, np.where(here > 0, here, largest))
            weights.append(generic[:, None, None] / np.sqrt(size))
        return tuple(weights)

    # ------------------------------------------------------------------ looking at what is evaluated
    def require_known_reads(self, reads: Collection[str]) -> None:
        """FormError where the form reads what it did not read where it was tried."""
        unknown = sorted(name for name in set(reads) - self.reads if not name.startswith("idx"))
        if unknown:
            said = " and ".join(f"w.{name}" for name in unknown)
            raise FormError(
                f"form {self.integrand.name!r} reads {said} here, which it did not read where it was tried when the "
                "problem was built: what is read must not depend on values. Read it before any `if`, and choose by "
                "np.where"
            )

    def require_sound(self, picked: Picked, noted: Noted) -> None:
        """FormError where the form mixes points, or has a derivative that differences do not confirm; ``picked`` are
        the points that were noted."""
        arguments = self._slots(noted.weights, picked.shape)
        require_local(picked, self.integrand, arguments, noted.expected[:, 0])
        self.require_known_reads(picked.reads)
        require_differentiable(picked, self.integrand, self.arguments(picked.shape), self.reads)

    def require_derivative(self, picked: Picked, arguments: Sequence[Slots], wanted: Collection[str]) -> None:
        """FormError where a derivative does not exist at some of the points, on kinks and jumps."""
        require_differentiable(picked, self.integrand, arguments, wanted, both_sides=True)

    def require_unchanged(self, picked: Picked, noted: Noted) -> None:
        """FormError where the form gives other coefficients than those that were noted."""
        rows = np.asarray(np.ravel_multi_index(tuple(self.pivots.T), (self.n_all,) * self.arity), dtype=np.int64)
        self._require_same(_flat(self._entries(picked, self.pivots)), noted.values_of(rows))

    def _require_same(self, values: FloatArray, known: FloatArray) -> None:
        if differs(values, known).any():
            raise FormError(
                f"form {self.integrand.name!r} gives other values than when the problem was put at this design: "
                "something that it refers to has been changed since. Solve again after a change, or declare what "
                "changes in parameters="
            )

    def require_linear_at(self, quadrature: Quadrature, trial: Sequence[Slots]) -> None:
        """Require that a bilinear form is linear in u at a field, not only where it was tried.

        Parameters
        ----------
        quadrature : Quadrature
            A few entities.
        trial : sequence of Slots
            The field there.

        Raises
        ------
        FormError
            When it is not.
        """
        test = self._slots(self.weights.balanced[:1], quadrature.shape)
        found = quadrature.evaluate_real(self.integrand, [a.field for a in (*trial, *test)])
        slots = np.concatenate([_slots_of(a) for a in trial])
        expected, size = np.zeros(found.shape), np.zeros(found.shape)
        for number, amount in enumerate(slots):
            unit = self.unit_arguments(number, quadrature.shape)
            entry = quadrature.evaluate_real(self.integrand, [*unit, *(a.field for a in test)])
            expected += amount * entry
            size += np.abs(amount * entry)
        if (np.abs(found - expected) > 1e-9 * size + 1e-9 * np.abs(found)).any():
            raise FormError(
                f"form {self.integrand.name!r} is not linear in u at the solution, though it was for the numbers with "
                "which it was tried: a Form is linear, and so must its bilinear forms be for all u (no "
                "maximum, clip or where of u). What is nonlinear in u is a NonlinearForm, for NonlinearStatic"
            )

    def _not_linear(self, quadrature: Quadrature) -> str:
        names = ("v",) if self.arity == 1 else ("v", "u")
        rng = samples(_SEED, 2)
        base = [rng.uniform(-1, 1, self.n_all) for _ in range(self.arity)]
        reference = quadrature.evaluate_real(self.integrand, self._fields(base, quadrature.shape))
        for position, name in enumerate(names):
            for factor in (2.0, *_SCALES):
                scaled = [factor * w if p == position else w for p, w in enumerate(base)]
                found = quadrature.evaluate_real(self.integrand, self._fields(scaled, quadrature.shape))
                if (np.abs(found - factor * reference) > 1e-9 * np.abs(factor) * np.abs(reference).max()).any():
                    return f"is not linear in {name} ({_HINT[self.arity]})"
        return "is not linear in its arguments"

    def describe(self, parameters: Parameters) -> str:
        """What the probing found, in words."""
        used = ""
        if self.parts[0].element is None:
            slots = {(0, 1): "values", (1, self.dim + 1): "gradients", (0, self.dim + 1): "values and gradients"}
            used = f"{slots[self.lo, self.hi]}; "
        if not self.varies(parameters):
            how = "constant coefficients, evaluated once at every design"
        else:
            n = len(self.pivots)
            where = "at every quadrature point" if self.varies_within(parameters) else "once in every cell"
            how = f"{n} independent coefficient{'s' if n != 1 else ''}, evaluated {where} of every design"
        return f"{used}reads {self.reads}; {how}"


_HINT = {
    1: "terms without v belong nowhere",
    2: "a bilinear form must be linear in both, at all sizes of u and v; what is nonlinear in u is a NonlinearForm",
}


def _flat(values: FloatArray) -> FloatArray:
    """Values ``(r, m, nq)`` at points in one row."""
    return values.reshape(len(values), -1) if len(values) else values.reshape(0, int(np.prod(values.shape[1:])))


def _slots_of(argument: Slots) -> FloatArray:
    """Slots ``(n, m, nq)`` of an argument."""
    if argument.gradient.size == 0:
        return argument.value
    table = np.concatenate([argument.value[:, None], argument.gradient], axis=1)
    return table.reshape(-1, *table.shape[2:])


# ---------------------------------------------------------------------- samples
def sampled(n: int) -> npt.NDArray[np.bool_]:
    """Marks of a few of ``n`` entities."""
    keep = np.zeros(n, dtype=bool)
    keep[samples(n).choice(n, min(n, SAMPLED_ENTITIES), replace=False)] = True
    return keep


def sample_of(domain: Domain) -> Domain:
    """A few entities, spread over the domain."""
    return domain.selected(sampled(len(domain)))


def notable(nodes: npt.NDArray[Any], u: FloatArray) -> npt.NDArray[np.bool_]:
    """Marks of a few entities: those with extreme values of a field ``(n, nc)`` at their nodes, and some others.

    They are equally many for all fields, so that functions that JAX compiles for every shape are compiled once.

    Parameters
    ----------
    nodes : (m, k)
        Rows of the field that belong to every entity.
    """
    keep = sampled(len(nodes))
    here, mark = np.zeros(len(u), dtype=bool), np.zeros(len(u), dtype=bool)
    here[nodes] = True
    for component in u.T:
        mark[np.where(here, component, -np.inf).argmax()] = mark[np.where(here, component, np.inf).argmin()] = True
    extreme = np.flatnonzero(mark[nodes].any(axis=1))
    keep[extreme[:: max(1, len(extreme) // SAMPLED_ENTITIES)]] = True
    keep[np.flatnonzero(~keep)[: 3 * SAMPLED_ENTITIES - int(keep.sum())]] = True
    return keep


def placeholder(parameters: Parameters) -> Parameters:
    """Random values for parameters that have none yet, to try a form with."""
    rng = samples(_SEED, 4)
    missing = {n: rng.uniform(0.5, 1.5, e.shape) for n, e in parameters.entries.items() if e.values is None}
    return parameters.updated(missing)


def generic_parameters(parameters: Parameters) -> Parameters:
    """Other values near those of the parameters, none of them zero."""
    rng = samples(_SEED, 5)
    moved = {}
    for name in parameters:
        values = parameters.value(name)
        scale = float(np.abs(values).max(initial=0.0)) or 1.0
        moved[name] = np.where(values == 0, scale, values) * rng.uniform(0.7, 1.3, values.shape)
    return parameters.updated(moved)


def probing_quadrature(quadrature: Quadrature) -> Quadrature:
    """The same, with random values for parameters that have none yet."""
    return Quadrature(
        quadrature.domain, quadrature.points, placeholder(quadrature.parameters), sides=quadrature.sides
    )  # fmt: skip


# ---------------------------------------------------------------------- finding out
def probe(
    integrand: Integrand,
    domain: Domain,
    points: FloatArray,
    parameters: Parameters,
    components: Sequence[int],
    arity: int,
) -> Probe:
    """Find out what a form on fields with values at the mesh nodes is made of, on a sample of a domain.

    Raises
    ------
    FormError
        When the form raises, returns the wrong shape or NaN, mixes points, is not linear in its arguments, or has a
        derivative by what it reads that disagrees with differences.
    """
    quadrature = Quadrature(sample_of(domain), points, placeholder(parameters))
    parts = nodal_parts(components, domain.dim)
    return _probed(integrand, quadrature, parts, Grid(sum(components), domain.dim + 1, 0, domain.dim + 1), arity)


def probe_slots(integrand: Integrand, quadrature: Quadrature, parts: tuple[Part, ...], arity: int) -> Probe:
    """Find out what a form on the parts of an element is made of, at the points of a sample; errors as ``probe``."""
    n = parts[-1].slots.stop
    return _probed(integrand, quadrature, parts, Grid(1, n, 0, n), arity)


def _probed(integrand: Integrand, quadrature: Quadrature, parts: tuple[Part, ...], grid: Grid, arity: int) -> Probe:
    n = grid.components * grid.slots
    rng = samples(_SEED)
    everything, basis = all_entries(n, arity)
    generic = tuple(rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 1.5, n) for _ in range(arity))
    whole = Probe(
        integrand, parts, grid, arity, everything, basis, Weights(generic, generic), Reads(), False, False,
        quadrature.sides,
    )  # fmt: skip
    arguments = whole._slots([rng.uniform(-1, 1, (n, *quadrature.shape)) for _ in range(arity)], quadrature.shape)
    found = quadrature.evaluate_real(integrand, [a.field for a in arguments])
    picked = pick_points(quadrature, integrand, arguments, found, found.size)
    values = whole._entries(quadrature, everything)
    _require_linear(whole, quadrature, values, arguments, found)
    reads = Reads(name for name in quadrature.reads if not name.startswith("idx"))
    require_differentiable(picked, integrand, [picked.slots(a) for a in arguments], reads)
    nodal = parts[0].element is None
    table = values.reshape(len(everything), -1)
    definite = arity == 2 and nodal and not indefinite(table.T.reshape(-1, n, n))
    if any(name in reads for name in quadrature.parameters):
        table = np.hstack([table, _at_other_parameters(whole, quadrature)])
    symmetric = arity == 2 and not asymmetric(table.T.reshape(-1, n, n))
    largest = np.abs(table).max(axis=1, initial=0.0).reshape((n,) * arity)
    if nodal:
        grid = _grid_used(largest, grid, arity)
    rows = grid.kept
    position = np.arange(n**arity).reshape((n,) * arity)[np.ix_(*([rows] * arity))].ravel()
    pivots, factors = independent(table[position])
    balanced = []
    for axis, weight in enumerate(generic):
        size = largest.max(axis=tuple(a for a in range(arity) if a != axis)) if arity > 1 else largest
        balanced.append(weight / np.sqrt(np.where(size > 0, size, float(size.max(initial=0.0)) or 1.0)))
    return replace(
        whole,
        grid=grid,
        pivots=everything[position[pivots]].reshape(-1, arity),
        basis=factors.reshape(-1, *(len(rows),) * arity),
        weights=Weights(generic, tuple(balanced)),
        reads=reads,
        symmetric=symmetric,
        definite=symmetric and definite,
    )


def _require_linear(
    whole: Probe, quadrature: Quadrature, values: FloatArray, arguments: Sequence[Slots], found: FloatArray
) -> None:
    """The coefficients must reproduce the form for arguments that vary from point to point, at all sizes."""
    each = len(whole.parts)
    slots = [
        np.concatenate([_slots_of(a) for a in arguments[k * each : (k + 1) * each]])
        for k in reversed(range(whole.arity))
    ]
    _, basis = all_entries(whole.n_all, whole.arity)
    expected, size = contracted(values, basis, slots)
    if (np.abs(found - expected) > REPRODUCTION * (size + np.abs(found))).any():
        raise FormError(f"form {whole.integrand.name!r} {whole._not_linear(quadrature)}")
    for position in range(whole.arity):
        for factor in _SCALES:
            scaled = [factor * s if p == position else s for p, s in enumerate(slots)]
            try:
                there = quadrature.evaluate_real(whole.integrand, whole._fields(scaled, quadrature.shape))
            except FormError:
                continue  # numbers that are too large for it
            if (np.abs(there - factor * found) > 1e-9 * abs(factor) * size).any():
                name = "vu"[position]
                raise FormError(f"form {whole.integrand.name!r} is not linear in {name} ({_HINT[whole.arity]})")


def _at_other_parameters(whole: Probe, quadrature: Quadrature) -> FloatArray:
    """All entries at other values of the parameters, or none where the form is not defined for them.

    A zero among the declared values must not hide a term. Terms that show up later all the same are found entry by
    entry.
    """
    try:
        values = whole._entries(replace(quadrature, parameters=generic_parameters(quadrature.parameters)), whole.pivots)
    except FormError:
        return np.zeros((len(whole.pivots), 0))
    return values.reshape(len(whole.pivots), -1)


def _grid_used(largest: FloatArray, grid: Grid, arity: int) -> Grid:
    """The smallest range of slots, of those the kernels know, with all entries that do not vanish."""
    used = largest.reshape((grid.components, grid.slots) * arity)
    value = derivatives = False
    for axis in range(arity):
        by_slot = used.max(axis=tuple(a for a in range(2 * arity) if a != 2 * axis + 1))
        value |= bool(by_slot[0] > 0)
        derivatives |= bool(by_slot[1:].max() > 0)
    if derivatives:
        return grid._replace(lo=0 if value else 1)
    return grid._replace(hi=1)
