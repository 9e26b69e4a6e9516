"""Constraints on an assembled matrix, and the implicit-function theorem on a residual without a mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

import femadj as fa
from femadj.algebra import Condensed, Implicit, Seed, Selection, State, Unconstrained, Weights
from femadj.progress import Phases
from femadj.solvers.structure import CsrPattern

FloatArray = npt.NDArray[np.float64]
N = 30
CASES = 3
FIXED = np.isin(np.arange(N), [0, 3, 4, 17, 29])


def pattern_of(symmetric: bool) -> tuple[CsrPattern, npt.NDArray[np.bool_]]:
    """A random symmetric structure with a full diagonal."""
    mask = np.random.default_rng(1).random((N, N)) < 0.15
    mask |= mask.T | np.eye(N, dtype=bool)
    stored = sp.csr_array(np.triu(mask) if symmetric else mask)
    stored.sort_indices()
    triangle = "upper" if symmetric else "full"
    return CsrPattern(stored.indptr.astype(np.int64), stored.indices.astype(np.int32), triangle), mask  # type: ignore[arg-type]


def dense(pattern: CsrPattern, values: FloatArray) -> FloatArray:
    matrix = sp.csr_array((values, pattern.indices, pattern.indptr), shape=(N, N)).toarray()
    return matrix + np.triu(matrix, 1).T if pattern.triangle == "upper" else matrix


def values_on(pattern: CsrPattern, matrix: FloatArray) -> FloatArray:
    return matrix[np.repeat(np.arange(N), np.diff(pattern.indptr)), pattern.indices]


def matrix_of(symmetric: bool, seed: int) -> tuple[CsrPattern, FloatArray]:
    pattern, mask = pattern_of(symmetric)
    matrix = np.random.default_rng(seed).uniform(-1, 1, (N, N)) * mask
    if symmetric:
        matrix = matrix + matrix.T
    return pattern, matrix + 6 * np.eye(N)


# ---------------------------------------------------------------------- constraints
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("diagonal", ["kept", "zero"])
def test_condensing(symmetric: bool, diagonal: str) -> None:
    pattern, matrix = matrix_of(symmetric, 2)
    matrix[3, 3] = -2.0  # a diagonal that cannot be kept
    constraints = Selection.of(pattern, FIXED)
    condensed = constraints.condense(values_on(pattern, matrix), diagonal)  # type: ignore[arg-type]
    expected = matrix.copy()
    expected[FIXED] = 0.0
    expected[:, FIXED] = 0.0
    own = np.diag(matrix)[FIXED]
    kept = np.where(own > 0, own, 1.0) if diagonal == "kept" else np.zeros(FIXED.sum())
    expected[FIXED, FIXED] = kept
    assert np.array_equal(dense(pattern, condensed.values), expected)
    assert np.array_equal(condensed.diagonal, kept)
    assert np.array_equal(condensed.rows.toarray(), matrix[FIXED])
    assert np.array_equal(condensed.columns.toarray(), matrix[:, FIXED])
    assert np.array_equal(constraints.unknowns, np.flatnonzero(FIXED))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shape", [(N,), (4, N), (2, 3, N)])
def test_products_with_what_was_taken_out_are_those_of_the_whole_matrix(
    symmetric: bool, shape: tuple[int, ...]
) -> None:
    pattern, matrix = matrix_of(symmetric, 3)
    for constraints in (Selection.of(pattern, FIXED), Selection.of(pattern, FIXED & False), Unconstrained(N)):
        condensed = constraints.condense(values_on(pattern, matrix))
        x = np.random.default_rng(4).uniform(-1, 1, shape)
        for transpose, whole in ((False, matrix), (True, matrix.T)):
            found = condensed.times(pattern, constraints, x, transpose=transpose)
            assert np.abs(found - np.einsum("ij,...j->...i", whole, x)).max() < 1e-13
        lifting = np.where(FIXED, x, 0.0)
        assert np.abs(condensed.times(pattern, constraints, lifting) - lifting @ matrix.T).max() < 1e-14


# ---------------------------------------------------------------------- a residual without a mesh
@dataclass(frozen=True, eq=False)
class Family:
    """``K(m) u - f_case(m)`` with fixed unknowns ``g_case(m)``; the design is the parameter ``m`` alone."""

    symmetric: bool

    def at(self, design: fa.Design) -> AtFamily:
        return AtFamily(self, design)

    def matrix(self, m: FloatArray) -> FloatArray:
        _, start = matrix_of(self.symmetric, 5)
        _, one = matrix_of(self.symmetric, 6)
        _, two = matrix_of(self.symmetric, 7)
        return start + np.sin(m[0]) * one + m[0] * m[1] * two

    def load(self, m: FloatArray) -> FloatArray:
        table = np.random.default_rng(8).uniform(-1, 1, (2, CASES, N))
        return table[0] * np.cos(m[1]) + table[1] * m[0] ** 2

    def given(self, m: FloatArray) -> FloatArray:
        table = np.random.default_rng(9).uniform(-1, 1, (2, CASES, N))
        return np.where(FIXED, table[0] + m[1] ** 3 * table[1], 0.0)


@dataclass(frozen=True, eq=False)
class AtFamily:
    """The family at one ``m``; its derivatives by complex step."""

    family: Family
    design: fa.Design

    @property
    def m(self) -> FloatArray:
        return self.design.parameters["m"]

    @property
    def structure(self) -> CsrPattern:
        return pattern_of(self.family.symmetric)[0]

    @property
    def constraints(self) -> Selection:
        return Selection.of(self.structure, FIXED)

    @property
    def lifting(self) -> FloatArray:
        return self.family.given(self.m)

    def residual(self, state: State) -> FloatArray:
        return self.jvp(state, state.u) - self.family.load(self.m)

    def jacobian(self, state: State) -> Condensed:
        return self.constraints.condense(values_on(self.structure, self.family.matrix(self.m)))

    def jvp(self, state: State, du: FloatArray) -> FloatArray:
        return self.jacobian(state).times(self.structure, self.constraints, du)

    def vjp(self, state: State, lam: FloatArray) -> FloatArray:
        return self.jacobian(state).times(self.structure, self.constraints, lam, transpose=True)

    def pullback(self, state: State, weights: Sequence[Weights], into: Sequence[fa.Cotangent]) -> None:
        for weight, cotangent in zip(weights, into, strict=True):
            for k, direction in enumerate(np.eye(2)):
                dK, df, dg = self._rates(direction)
                slope = (weight.external * df).sum() - (weight.internal * (state.u @ dK.T)).sum()
                cotangent.parameters["m"][k] += slope
                if weight.prescribed is not None:
                    cotangent.parameters["m"][k] += (weight.prescribed * dg).sum()

    def pushforward(self, state: State, directions: Sequence[fa.Design]) -> tuple[FloatArray, FloatArray]:
        rates = [self._rates(direction.parameters["m"]) for direction in directions]
        return np.stack([state.u @ dK.T - df for dK, df, _ in rates]), np.stack([dg for *_, dg in rates])

    def _rates(self, direction: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        def slope(function: Callable[[FloatArray], FloatArray]) -> FloatArray:
            h = 1e-30
            with np.errstate(all="ignore"):
                return np.asarray(function(self.m + 1j * h * direction)).imag / h

        return slope(self.family.matrix), slope(self.family.load), slope(self._given)

    def _given(self, m: FloatArray) -> FloatArray:
        table = np.random.default_rng(9).uniform(-1, 1, (2, CASES, N))
        return FIXED * (table[0] + m[1] ** 3 * table[1])


M = np.array([0.7, -0.4])


def solved(symmetric: bool, m: FloatArray = M) -> Implicit:
    at = Family(symmetric).at(fa.Design(parameters={"m": m}))
    analysis = fa.get_solver("auto", threads=1).analyse(at.structure, "symmetric" if symmetric else "general")
    return Implicit.linear(at, analysis.factor(at.jacobian(State(at.lifting)).values))


def response(symmetric: bool, m: FloatArray = M) -> float:
    """Nonlinear in all load cases, and with internal and external forces of its own."""
    implicit = solved(symmetric, m)
    u, family = implicit.state.u, Family(symmetric)
    own = (TABLE[0] * np.sin(u)).sum() + (TABLE[1] * (u @ family.matrix(m).T)).sum()
    return float(own + (TABLE[2] * family.load(m)).sum() + m[0] * m[1])


TABLE = np.random.default_rng(10).uniform(-1, 1, (3, CASES, N))


def seed_of(implicit: Implicit) -> Seed:
    u = implicit.state.u
    state = TABLE[0] * np.cos(u) + implicit.at.vjp(implicit.state, TABLE[1])
    return Seed(state, internal=TABLE[1], external=TABLE[2])


@pytest.mark.parametrize("symmetric", [True, False])
def test_all_load_cases_are_solved_on_one_factor(symmetric: bool) -> None:
    implicit = solved(symmetric)
    family = Family(symmetric)
    K, f, g = family.matrix(M), family.load(M), family.given(M)
    assert implicit.state.u.shape == (CASES, N)
    assert implicit.factor.statistics.solves == CASES
    for u, load, given in zip(implicit.state.u, f, g, strict=True):
        assert np.array_equal(u[FIXED], given[FIXED])
        assert np.abs((K @ u - load)[~FIXED]).max() < 1e-12
    assert np.abs(implicit.at.residual(implicit.state)[:, ~FIXED]).max() < 1e-12


@pytest.mark.parametrize("symmetric", [True, False])
def test_pullback_and_pushforward_against_differences(symmetric: bool) -> None:
    implicit = solved(symmetric)
    weights = implicit.weights([seed_of(implicit), Seed()], Phases())
    into = [fa.Cotangent(parameters={"m": np.zeros(2)}) for _ in range(2)]
    implicit.pullback(weights, into, Phases())
    gradient = into[0].parameters["m"] + M[::-1]  # by m itself: m0 m1
    assert not into[1].parameters["m"].any()
    assert implicit.factor.statistics.solves == 2 * CASES  # the response that needs no adjoint took none
    h = 1e-3
    for k, direction in enumerate(np.eye(2)):
        at = [response(symmetric, M + j * h * direction) for j in (-2, -1, 1, 2)]
        difference = (8 * (at[2] - at[1]) - (at[3] - at[0])) / (12 * h)
        assert gradient[k] == pytest.approx(difference, rel=1e-9)
        (du,) = implicit.pushforward([fa.Design(parameters={"m": direction})])
        states = [solved(symmetric, M + j * h * direction).state.u for j in (-2, -1, 1, 2)]
        expected = (8 * (states[2] - states[1]) - (states[3] - states[0])) / (12 * h)
        assert np.abs(du - expected).max() < 1e-9 * np.abs(du).max()


@pytest.mark.parametrize("symmetric", [True, False])
def test_pullback_is_the_transpose_of_pushforward(symmetric: bool) -> None:
    implicit = solved(symmetric)
    s = np.random.default_rng(11).uniform(-1, 1, (CASES, N))
    into = fa.Cotangent(parameters={"m": np.zeros(2)})
    implicit.pullback(implicit.weights([Seed(s)], Phases()), [into], Phases())
    direction = np.array([0.3, -0.8])
    (du,) = implicit.pushforward([fa.Design(parameters={"m": direction})])
    assert (s * du).sum() == pytest.approx(into.parameters["m"] @ direction, rel=1e-12)


def test_a_cotangent_holds_what_is_wanted() -> None:
    design = fa.Design(np.ones((4, 2)), {"a": np.ones(3), "b": np.ones(())})
    everything = fa.Cotangent.zeros(design)
    assert everything.points is not None
    assert everything.points.shape == (4, 2)
    assert set(everything.parameters) == {"a", "b"}
    assert set(fa.Cotangent.zeros(design, ["b"]).parameters) == {"b"}
    assert fa.Cotangent.zeros(fa.Design(parameters=design.parameters)).points is None
    assert everything.restricted(["a"]).parameters["a"] is everything.parameters["a"]
