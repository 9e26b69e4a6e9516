"""Probing: the pointwise coefficients of a form, found by evaluating it on unit values and unit gradients.

A form that is linear in its arguments is ``v^ : C : u^`` (or ``v^ : F``) at every quadrature point. Its entries are
usually few functions times constants, ``C(x) = sum_p c_p(x) B_p`` (one for ``k(x) grad u . grad v``): a sample of
points tells which entries ``c_p`` suffice and what the constants are. Whether that holds everywhere is checked at
every point and every design by one more evaluation; where it does not, all entries are evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg

from femadj.base.arrays import FloatArray
from femadj.base.complex_step import derivative, real_part, seed
from femadj.errors import FormError
from femadj.forms.integrand import Field, GuardedField, Integrand, strict_complex
from femadj.forms.pointwise import Quadrature, Slots, as_field
from femadj.space.parameters import Parameters
from femadj.space.region import Domain

SAMPLED_ENTITIES = 16
"""Cells or facets on which a form is tried before it is used."""

REPRODUCTION = 1e-10
"""Largest relative distance between a form and its coefficients."""

_RANK = 1e-11


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


@dataclass(frozen=True, eq=False)
class Probe:
    """How the coefficients of a form are obtained.

    Attributes
    ----------
    integrand : Integrand
    components : tuple of int
        Of the parts of the unknown.
    dim : int
    arity : int
        1: linear form, 2: bilinear form.
    lo, hi : int
        Slots used.
    pivots : (r, arity) int
        Entries that are evaluated, as numbers among all ``(component, slot)`` pairs: test, then trial function.
    basis : (r, *(n,) * arity)
        What an evaluated entry contributes to the entries that are used.
    weights : tuple of arrays
        Arguments of the check, for all ``(component, slot)`` pairs.
    reads : frozenset of str
        What the form reads.
    symmetric, definite : bool
        Whether ``C`` is symmetric, and whether it has no negative eigenvalue, at the sampled points.
    """

    integrand: Integrand
    components: tuple[int, ...]
    dim: int
    arity: int
    lo: int
    hi: int
    pivots: npt.NDArray[np.int64]
    basis: FloatArray
    weights: tuple[FloatArray, ...]
    reads: frozenset[str]
    symmetric: bool
    definite: bool

    @property
    def n_components(self) -> int:
        """Components of all parts."""
        return sum(self.components)

    @property
    def n_slots(self) -> int:
        """Slots used."""
        return self.hi - self.lo

    def varies_within(self, parameters: Parameters) -> bool:
        """Whether the coefficients vary within an entity."""
        return any(
            name not in parameters or parameters.entries[name].kind == "nodal" for name in _names(self.reads)
        )  # fmt: skip

    def varies(self, parameters: Parameters) -> bool:
        """Whether the coefficients vary from point to point."""
        return any(name not in parameters or parameters.entries[name].kind != "constant" for name in _names(self.reads))

    def coefficients(self, quadrature: Quadrature) -> Coefficients:
        """Coefficient functions and what they multiply.

        Raises
        ------
        FormError
            When the form turns out not to be linear, or not symmetric where it is elsewhere.
        """
        values = self._entries(quadrature, self.pivots)
        expected = quadrature.evaluate_real(self.integrand, self._arguments(quadrature, self.weights))
        factors = self.basis
        for weight in reversed(self.weights):
            factors = factors @ weight[self.kept]
        found = np.tensordot(factors, values, axes=1)
        size = np.abs(factors) @ np.abs(values).max(axis=(1, 2), initial=0.0)
        bound = REPRODUCTION * max(float(size), float(np.abs(expected).max(initial=0.0)))
        if (np.abs(found - expected) <= bound).all():
            return Coefficients(values, self.basis, self.lo, self.hi)
        n = self.n_all
        everything, basis = all_entries(n, self.arity)
        values = self._entries(quadrature, everything)
        found = np.tensordot(_outer(self.weights), values, axes=1)
        if not (np.abs(found - expected) <= 10 * bound).all():
            raise FormError(f"form {self.integrand.name!r} {self._not_linear(quadrature)}")
        if self.symmetric:
            table = values.reshape(n, n, -1)
            if np.abs(table - table.transpose(1, 0, 2)).max(initial=0.0) > 1e-12 * np.abs(table).max(initial=0.0):
                raise FormError(
                    f"form {self.integrand.name!r} is symmetric in u and v where it was sampled, but not here; tell "
                    "Form(..., symmetric=False)"
                )
        return Coefficients(values, basis, 0, n // self.n_components)

    def tensor_slope(self, quadrature: Quadrature, seeds: Mapping[str, Any]) -> FloatArray:
        """Derivative of the coefficients at a single point along complex steps of what is read, all slots."""
        everything, _ = all_entries(self.n_all, self.arity)
        slopes = np.empty(len(everything))
        for number, entry in enumerate(everything):
            slopes[number] = derivative(quadrature.evaluate(self.integrand, self._unit(quadrature, entry), seeds))[0, 0]
        return slopes.reshape((self.n_components, self.dim + 1) * self.arity)

    def _entries(self, quadrature: Quadrature, entries: npt.NDArray[np.int64]) -> FloatArray:
        values = np.empty((len(entries), *quadrature.shape))
        for number, entry in enumerate(entries):
            values[number] = quadrature.evaluate_real(self.integrand, self._unit(quadrature, entry))
        return values

    def _unit(self, quadrature: Quadrature, entry: npt.NDArray[np.int64]) -> list[Any]:
        """Arguments that are one in a single pair each."""
        return self._arguments(quadrature, tuple(np.eye(self.n_all)[index] for index in entry))

    def _arguments(self, quadrature: Quadrature, weights: Sequence[FloatArray]) -> list[Any]:
        """Constant fields; forms take the trial functions first."""
        fields: list[Any] = []
        for weight in reversed(weights):
            full = weight.reshape(self.n_components, self.dim + 1)
            fields += constant_fields(full, self.components, quadrature.shape)
        return fields

    @property
    def n_all(self) -> int:
        """Number of ``(component, slot)`` pairs, used or not."""
        return self.n_components * (self.dim + 1)

    @property
    def kept(self) -> npt.NDArray[np.int64]:
        """Numbers of the ``(component, slot)`` pairs that are used, among all of them."""
        return np.flatnonzero(_marks(self.n_components, self.dim, self.lo, self.hi))

    def _not_linear(self, quadrature: Quadrature) -> str:
        names = ("v",) if self.arity == 1 else ("v", "u")
        rng = np.random.default_rng(2)
        n = self.n_all
        base = [rng.uniform(-1, 1, n) for _ in range(self.arity)]
        reference = quadrature.evaluate_real(self.integrand, self._arguments(quadrature, base))
        for position, name in enumerate(names):
            scaled = [2 * w if p == position else w for p, w in enumerate(base)]
            twice = quadrature.evaluate_real(self.integrand, self._arguments(quadrature, scaled))
            if np.abs(twice - 2 * reference).max() > 1e-9 * np.abs(reference).max():
                what = "a bilinear form must be linear in both" if self.arity == 2 else "terms without v belong nowhere"
                return f"is not linear in {name} ({what})"
        return "is not linear in its arguments"

    def describe(self, parameters: Parameters) -> str:
        """What the probing found, in words."""
        slots = {(0, 1): "values", (1, self.dim + 1): "gradients", (0, self.dim + 1): "values and gradients"}
        used = slots[self.lo, self.hi]
        reads = ", ".join(sorted(self.reads)) or "nothing"
        if not self.varies(parameters):
            how = "constant coefficients, evaluated once" + (" for each set of parameters" if self.reads else "")
        else:
            n = len(self.pivots)
            where = "at every quadrature point" if self.varies_within(parameters) else "once in every cell"
            how = f"{n} independent coefficient{'s' if n != 1 else ''}, evaluated {where} of every design"
        return f"{used}; reads {reads}; {how}"


def _names(reads: frozenset[str]) -> set[str]:
    return {name.split(".")[0] for name in reads}


def real_values(values: npt.NDArray[Any]) -> FloatArray:
    """Values without a complex step."""
    return real_part(values) if np.iscomplexobj(values) else np.asarray(values, dtype=float)


def _outer(weights: Sequence[FloatArray]) -> FloatArray:
    result = np.ones(1)
    for weight in weights:
        result = np.outer(result, weight).ravel()
    return result


def constant_fields(full: FloatArray, components: Sequence[int], shape: tuple[int, ...]) -> list[Field]:
    """Fields that are the same at every point, from ``(component, slot)`` weights."""
    fields, start = [], 0
    for nc in components:
        part = full[start : start + nc]
        start += nc
        value = np.broadcast_to(part[:, 0, None, None], (nc, *shape))
        gradient = np.broadcast_to(part[:, 1:, None, None], (nc, part.shape[1] - 1, *shape))
        fields.append(as_field(value, gradient))
    return fields


def all_entries(n: int, arity: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Every entry of a tensor ``(n,) * arity``, and the basis in which each stands for itself."""
    return np.argwhere(np.ones((n,) * arity, dtype=bool)), np.eye(n**arity).reshape(-1, *(n,) * arity)


def sampled(n: int) -> npt.NDArray[np.bool_]:
    """Marks of a few of ``n`` entities."""
    keep = np.zeros(n, dtype=bool)
    keep[np.random.default_rng(0).choice(n, min(n, SAMPLED_ENTITIES), replace=False)] = True
    return keep


def sample_of(domain: Domain) -> Domain:
    """A few entities, spread over the domain."""
    return domain.selected(sampled(len(domain)))


def placeholder(parameters: Parameters) -> Parameters:
    """Random values for parameters that have none yet, to try a form with."""
    rng = np.random.default_rng(4)
    missing = {n: rng.uniform(0.5, 1.5, e.shape) for n, e in parameters.entries.items() if e.values is None}
    return parameters.updated(missing)


def probe(
    integrand: Integrand,
    domain: Domain,
    points: FloatArray,
    parameters: Parameters,
    components: Sequence[int],
    arity: int,
) -> Probe:
    """Find out what a form is made of, on a sample of the entities of a domain.

    Raises
    ------
    FormError
        When the form raises, returns the wrong shape or NaN, is not linear in its arguments, or has a derivative by
        what it reads that disagrees with differences.
    """
    parameters = placeholder(parameters)
    dim = domain.dim
    n = sum(components) * (dim + 1)
    sample = sample_of(domain)
    quadrature = Quadrature(sample, points, parameters)
    everything, basis = all_entries(n, arity)
    rng = np.random.default_rng(1)
    with strict_complex():
        whole = Probe(
            integrand, tuple(components), dim, arity, 0, dim + 1, everything, basis,
            tuple(rng.uniform(-1, 1, n) for _ in range(arity)), frozenset(), False, False,
        )  # fmt: skip
        values = whole.coefficients(quadrature).values
        _require_local(whole, quadrature, values, components, arity)
        reads = frozenset(quadrature.reads)
        require_differentiable(quadrature, integrand, random_arguments(quadrature, components, arity), set(reads))
        table = values.reshape(len(everything), -1)
        definite = arity == 2 and _is_definite(table.T.reshape(-1, n, n))
        if any(name in reads for name in parameters):
            table = np.hstack([table, _generic(whole, sample, points, parameters)])
    symmetric = False
    if arity == 2:
        tensors = table.T.reshape(-1, n, n)
        gap = np.abs(tensors - tensors.transpose(0, 2, 1)).max(initial=0.0)
        symmetric = bool(gap <= 1e-13 * np.abs(tensors).max(initial=0.0))
    largest = np.abs(table).max(axis=1, initial=0.0).reshape((n,) * arity)
    lo, hi = _slots(largest, sum(components), dim, arity)
    rows = np.flatnonzero(_marks(sum(components), dim, lo, hi))
    position = np.arange(n**arity).reshape((n,) * arity)[np.ix_(*([rows] * arity))].ravel()
    pivots, factors = independent(table[position])
    weights = []
    for axis in range(arity):
        size = largest.max(axis=tuple(a for a in range(arity) if a != axis)) if arity > 1 else largest
        balanced = 1.0 / np.sqrt(np.where(size > 0, size, float(size.max(initial=0.0)) or 1.0))
        weights.append(balanced * rng.uniform(0.5, 1.5, n) * rng.choice([-1.0, 1.0], n))
    return Probe(
        integrand,
        tuple(components),
        dim,
        arity,
        lo,
        hi,
        everything[position[pivots]].reshape(-1, arity),
        factors.reshape(-1, *(len(rows),) * arity),
        tuple(weights),
        reads,
        symmetric,
        symmetric and definite,
    )


def _marks(n_components: int, dim: int, lo: int, hi: int) -> npt.NDArray[np.bool_]:
    """Which ``(component, slot)`` pairs lie in a range of slots."""
    kept = np.zeros((n_components, dim + 1), dtype=bool)
    kept[:, lo:hi] = True
    return kept.ravel()


def _is_definite(tensors: FloatArray) -> bool:
    """Whether no tensor has a negative eigenvalue."""
    low = np.linalg.eigvalsh(0.5 * (tensors + tensors.transpose(0, 2, 1))).min(initial=0.0)
    return bool(low >= -1e-12 * np.abs(tensors).max(initial=0.0))


def generic_parameters(parameters: Parameters) -> Parameters:
    """Other values near those of the parameters, none of them zero."""
    rng = np.random.default_rng(5)
    moved = {}
    for name in parameters:
        values = parameters.value(name)
        scale = float(np.abs(values).max(initial=0.0)) or 1.0
        moved[name] = np.where(values == 0, scale, values) * rng.uniform(0.7, 1.3, values.shape)
    return parameters.updated(moved)


def _generic(whole: Probe, sample: Domain, points: FloatArray, parameters: Parameters) -> FloatArray:
    """All entries at other values of the parameters: a zero among the declared ones must not hide a term."""
    quadrature = Quadrature(sample, points, generic_parameters(parameters))
    try:
        return whole.coefficients(quadrature).values.reshape(len(whole.pivots), -1)
    except FormError:
        # not defined there, which is no fault: terms that show up later are still found, entry by entry
        return np.zeros((len(whole.pivots), 0))


def _slots(largest: FloatArray, n_components: int, dim: int, arity: int) -> tuple[int, int]:
    """The smallest range of slots, of those the kernels know, with all entries that do not vanish."""
    used = largest.reshape((n_components, dim + 1) * arity)
    value = derivatives = False
    for axis in range(arity):
        by_slot = used.max(axis=tuple(a for a in range(2 * arity) if a != 2 * axis + 1))
        value |= bool(by_slot[0] > 0)
        derivatives |= bool(by_slot[1:].max() > 0)
    if derivatives:
        return (0 if value else 1), dim + 1
    return 0, 1


def independent(table: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Rows of a table that span the others, and the combinations: ``table = factors.T @ table[pivots]``."""
    scale = np.abs(table).max(axis=1, initial=0.0)
    used = np.flatnonzero(scale > 0)
    if len(used) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros((0, len(table)))
    normal = table[used] / scale[used, None]
    r, order = scipy.linalg.qr(normal.T, mode="r", pivoting=True)
    size = np.abs(np.diag(r))
    rank = int((size > _RANK * size[0]).sum())
    pivots = used[order[:rank]]
    combine = scipy.linalg.solve_triangular(r[:rank, :rank], r[:rank])
    combine[np.abs(combine) < 1e-14] = 0.0
    factors = np.zeros((rank, len(table)))
    factors[:, used[order]] = combine * scale[used[order]] / scale[pivots][:, None]
    return pivots, _tidy(factors)


def _tidy(factors: FloatArray) -> FloatArray:
    """Replace factors within rounding of a ratio of equal or opposite entries by that ratio."""
    near = np.abs(np.abs(factors) - 1.0) < 1e-12
    return np.where(near, np.sign(factors), factors)


def random_arguments(quadrature: Quadrature, components: Sequence[int], arity: int) -> list[Slots]:
    """Arguments that vary from point to point: trial functions first."""
    rng = np.random.default_rng(3)
    dim = quadrature.domain.dim
    return [
        Slots(rng.uniform(-1, 1, (nc, *quadrature.shape)), rng.uniform(-1, 1, (nc, dim, *quadrature.shape)))
        for _ in range(arity)
        for nc in components
    ]


def _require_local(
    whole: Probe, quadrature: Quadrature, values: FloatArray, components: Sequence[int], arity: int
) -> None:
    """The coefficients must reproduce the form for arguments that vary from point to point."""
    arguments = random_arguments(quadrature, components, arity)
    found = quadrature.evaluate_real(whole.integrand, [a.field for a in arguments])
    hats = [np.concatenate([a.value[:, None], a.gradient], axis=1) for a in arguments]
    parts = len(components)
    flat = [
        np.concatenate(hats[k * parts : (k + 1) * parts]).reshape(-1, *quadrature.shape) for k in range(arity)
    ]  # trial, test
    n = flat[0].shape[0]
    entries = values.reshape((n,) * arity + quadrature.shape)
    if arity == 1:
        expected = (entries * flat[0]).sum(axis=0)
    else:
        expected = np.einsum("abmq,amq,bmq->mq", entries, flat[1], flat[0])
    scale = np.abs(entries).max(initial=0.0) * n
    if np.abs(found - expected).max() > REPRODUCTION * max(scale, float(np.abs(found).max())):
        reason = whole._not_linear(quadrature)
        raise FormError(f"form {whole.integrand.name!r} {reason}")


def require_differentiable(
    quadrature: Quadrature,
    integrand: Integrand,
    arguments: Sequence[Slots],
    reads: set[str],
    by_arguments: bool = False,
) -> None:
    """Compare the derivative by everything that a form reads, along a complex step, with differences.

    Raises
    ------
    FormError
        Where they disagree: the form is not differentiable, or drops the complex step in a way that the guarded
        arrays cannot see (``np.array`` of entries followed by ``abs``, for instance).
    """
    fields: list[Any] = [a.field for a in arguments]
    rng = np.random.default_rng(6)
    at = quadrature.frame

    def compare(what: str, value: FloatArray, gradient: FloatArray | None, place: str | int) -> None:
        for part in ("value", "gradient"):
            array = value if part == "value" else gradient
            if array is None or (part == "gradient" and isinstance(place, str) and f"{place}.grad" not in reads):
                continue
            direction = rng.uniform(-1, 1, array.shape)

            def evaluate(step: Any, part: str = part, array: FloatArray = array, d: FloatArray = direction) -> Any:
                moved = seed(array, d) if step is None else array + step * d
                if part == "value":
                    kind = GuardedField if step is None else Field
                    inserted = kind(moved, gradient) if np.ndim(moved) >= 2 else moved
                else:
                    inserted = Field(value, moved)
                if isinstance(place, int):
                    args = [*fields[:place], inserted, *fields[place + 1 :]]
                    return quadrature.evaluate(integrand, args)
                return quadrature.evaluate(integrand, fields, {place: inserted})

            suffix = "" if part == "value" else " (gradient)"
            compare_with_differences(integrand, f"{what}{suffix}", array, evaluate)

    if "x" in reads:
        compare("w.x", at.x, None, "x")
    if "n" in reads:
        compare("w.n", at.normal, None, "n")
    if "h" in reads:
        compare("w.h", at.size, None, "h")
    for name, entry in quadrature.parameters.entries.items():
        if name not in reads:
            continue
        if entry.kind == "nodal":
            value, gradient = quadrature.nodal(name)
            scalar = len(value) == 1
            compare(f"parameter {name!r}", value[0] if scalar else value, gradient[0] if scalar else gradient, name)
        else:
            compare(f"parameter {name!r}", np.asarray(quadrature.environment()[name], dtype=float), None, name)
    if by_arguments:
        for number, argument in enumerate(arguments):
            scalar = len(argument.value) == 1
            value = argument.value[0] if scalar else argument.value
            gradient = argument.gradient[0] if scalar else argument.gradient
            compare("the state", value, gradient, number)


def compare_with_differences(integrand: Integrand, what: str, array: FloatArray, evaluate: Any) -> None:
    """Compare ``evaluate(None)``, which carries a complex step, with differences of ``evaluate(step)``.

    ``array`` is what ``evaluate`` moves; FormError where the derivatives disagree.
    """
    exact = derivative(evaluate(None))
    base = real_values(evaluate(0.0))
    size = float(np.abs(array).max(initial=0.0)) or 1.0
    agrees = np.zeros(base.shape, dtype=bool)
    magnitude = float(np.abs(base).max(initial=0.0))
    for fraction in (1e-4, 1e-5, 1e-6, 1e-3):
        h = fraction * size
        try:
            after, before = real_values(evaluate(h)), real_values(evaluate(-h))
            twice_after, twice_before = real_values(evaluate(2 * h)), real_values(evaluate(-2 * h))
        except FormError:
            continue  # a step out of the domain of the function; the next is shorter
        bound = 1e-5 * (np.abs(exact) + 1e-2 * np.abs(exact).max(initial=0.0)) + 1e-13 * magnitude / h
        for quotient in (
            (after - before) / (2 * h),
            (4 * after - twice_after - 3 * base) / (2 * h),  # to one side of a kink
            (3 * base - 4 * before + twice_before) / (2 * h),
        ):
            agrees |= np.abs(quotient - exact) <= bound
        if agrees.all():
            return
    raise FormError(
        f"form {integrand.name!r}: its derivative by {what} disagrees with differences. Write it with smooth "
        "operations on the arguments themselves (no abs or norm of arrays put together by np.array, no random "
        "numbers, no state kept between calls)"
    )
