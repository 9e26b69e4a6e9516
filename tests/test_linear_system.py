"""Parametric linear systems: every route to a derivative, both modes, against hand calculation and differences."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

from femadj.algebra.callables import MatrixAndRhs
from femadj.algebra.linear_system import (
    Counts,
    LinearSolution,
    LinearSystem,
    Mode,
    ResponseEvaluation,
    SystemGradient,
)
from femadj.algebra.responses import MOST_EVALUATIONS
from femadj.errors import (
    ComplexStepError,
    IndefiniteSystemError,
    LinearSystemError,
    NonFiniteError,
    ResponseError,
    SingularSystemError,
    SolverError,
    TangledMeshError,
    VerificationError,
)
from femadj.solvers import available_solvers
from femadj.solvers.structure import CsrPattern

FloatArray = npt.NDArray[np.float64]
KINDS = ("general", "symmetric", "spd")
ROUTES = ("complex step", "derivatives", "mapping", "contraction", "both")
MODES: tuple[Mode, ...] = ("adjoint", "tangent")
N = 200
THETA = np.array([[0.7, -1.3, 0.4], [1.1, 0.2, -0.6]])


# ---------------------------------------------------------------------- what is differentiated
def rotation(t: Any) -> Any:
    """Rotation about the third axis."""
    c, s = np.cos(t), np.sin(t)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


B = np.array([1.0, 2.0, 3.0])


@dataclass(frozen=True)
class Family:
    """``A = C_0 + sum_k f_k C_k`` and ``b = c_0 + sum_k g_k c_k``, functions of six parameters, and derivatives."""

    kind: Any
    C: tuple[sp.csr_array, ...]
    c: FloatArray

    def f(self, theta: Any) -> list[Any]:
        t = theta.ravel()
        return [np.exp(t[0]), t[1] ** 2, np.exp(t[2] * t[3]), 1 / (2 + np.sin(t[4])), np.sqrt(2 + t[5] * t[0])]

    def df(self, theta: FloatArray) -> FloatArray:
        t = theta.ravel()
        slopes = np.zeros((5, 6))
        slopes[0, 0] = np.exp(t[0])
        slopes[1, 1] = 2 * t[1]
        slopes[2, 2:4] = np.exp(t[2] * t[3]) * t[3:1:-1]
        slopes[3, 4] = -np.cos(t[4]) / (2 + np.sin(t[4])) ** 2
        slopes[4, [0, 5]] = t[[5, 0]] / (2 * np.sqrt(2 + t[5] * t[0]))
        return slopes

    def matrix(self, theta: Any) -> sp.csr_array:
        result = self.C[0]
        for factor, term in zip(self.f(theta), self.C[1:], strict=True):
            result = result + term * factor
        return result

    def rhs(self, theta: Any) -> Any:
        t = theta.ravel()
        return self.c[0] + np.sin(t[0]) * self.c[1] + t[5] ** 3 * self.c[2]

    def derivatives(self, theta: FloatArray) -> list[tuple[sp.csr_array, FloatArray]]:
        t = theta.ravel()
        dc = np.zeros((6, N))
        dc[0], dc[5] = np.cos(t[0]) * self.c[1], 3 * t[5] ** 2 * self.c[2]
        slopes = self.df(theta)
        return [
            (sp.csr_array(sum(term * s for s, term in zip(slopes[:, i], self.C[1:], strict=True))), dc[i])
            for i in range(6)
        ]

    def contraction(self, theta: FloatArray, x: FloatArray, lam: FloatArray) -> FloatArray:
        rates = [lam @ (dA @ x) - lam @ db for dA, db in self.derivatives(theta)]
        return np.array(rates).reshape(theta.shape)

    def system(self, route: str = "complex step", **options: Any) -> LinearSystem[MatrixAndRhs]:
        given: dict[str, Any] = {
            "complex step": {},
            "derivatives": {"derivatives": self.derivatives},
            "mapping": {"derivatives": lambda t: dict(enumerate(self.derivatives(t)))},
            "contraction": {"contraction": self.contraction},
            "both": {"contraction": self.contraction, "derivatives": self.derivatives},
        }[route]
        return LinearSystem(self.matrix, self.rhs, kind=self.kind, **given, **options)


def family(kind: str) -> Family:
    """A reproducible family; general ones are far from symmetric, symmetric ones indefinite."""
    rng = np.random.default_rng(7)
    terms = []
    for number in range(6):
        term = sp.csr_array(sp.random_array((N, N), density=0.01, rng=rng, data_sampler=rng.standard_normal))
        if kind == "symmetric":
            term = term + term.T
        if kind == "spd":
            term = term @ term.T
        if number == 0:
            indefinite = np.where(np.arange(N) % 3 == 0, -40.0, 40.0)
            term = term + sp.diags_array(indefinite if kind == "symmetric" else np.full(N, 12.0))
        terms.append(sp.csr_array(term))
    return Family(kind, tuple(terms), rng.standard_normal((3, N)))


def smooth(x: Any, theta: Any) -> Any:
    """A response that depends on every unknown and parameter."""
    return np.sum(x**3) + np.exp(x[3]) * theta[0, 1] + np.sum(theta**2) * x[N - 1]


def local(x: Any, theta: Any) -> Any:
    """A response of two unknowns."""
    return x[5] * np.sin(x[17])


RESPONSES = (smooth, local)


def relative(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Largest distance, relative to the largest entry."""
    return float(np.abs(np.subtract(a, b)).max() / np.abs(b).max())


def central(function: Callable[[float], float]) -> float:
    """Best of fourth-order differences at 0."""
    h = 1e-3
    return (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)


# ---------------------------------------------------------------------- by hand
@pytest.mark.parametrize("solver", available_solvers())
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("angle", [0.0, 0.3, -2.0, math.pi / 2])
def test_rotation_by_hand(angle: float, mode: Mode, solver: str) -> None:
    system = LinearSystem(rotation, B, solver=solver)
    c, s = math.cos(angle), math.sin(angle)
    x = np.array([c * B[0] + s * B[1], -s * B[0] + c * B[1], B[2]])
    responses = [lambda x, t: x[0], lambda x, t: x[0] * x[1] + t, lambda x, t: x @ x]
    values, gradients = system.values_and_gradients(angle, responses, mode=mode)
    assert np.abs(system.solve(angle).x - x).max() < 2e-15
    assert np.abs(values - [x[0], x[0] * x[1] + angle, B @ B]).max() < 1e-14
    by_hand = [x[1], x[1] ** 2 - x[0] ** 2 + 1.0, 0.0]
    for gradient, expected in zip(gradients, by_hand, strict=True):
        assert isinstance(gradient.theta, float)
        assert abs(gradient.theta - expected) < 1e-14
    if mode == "adjoint":
        lam = rotation(angle) @ np.array([1.0, 0.0, 0.0])
        assert np.abs(gradients[0].rhs - lam).max() < 1e-15
        stored = rotation(angle) != 0
        assert np.abs(gradients[0].matrix.toarray() + np.outer(lam, x) * stored).max() < 1e-14
    else:
        assert gradients[0].rhs is None
        assert gradients[0].matrix is None


# ---------------------------------------------------------------------- routes and modes
@pytest.mark.parametrize("kind", KINDS)
def test_routes_and_modes_agree(kind: str) -> None:
    given = family(kind)
    reference: list[SystemGradient] = []
    for route in ROUTES:
        system = given.system(route)
        solution = system.solve(THETA)
        for mode in MODES:
            _, gradients = system.values_and_gradients(solution, RESPONSES, mode=mode)
            assert [g.mode for g in gradients] == [mode, mode]
            reference = reference or list(gradients)
            for gradient, expected in zip(gradients, reference, strict=True):
                assert isinstance(gradient.theta, np.ndarray)
                assert gradient.theta.shape == THETA.shape
                assert relative(gradient.theta, expected.theta) < 1e-12
        assert system.counts == Counts(1, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("route", ROUTES)
def test_gradient_against_differences(kind: str, route: str) -> None:
    given = family(kind)
    system = given.system(route)
    values, gradients = system.values_and_gradients(THETA, RESPONSES, mode="adjoint")

    def value(response: Any, theta: FloatArray) -> float:
        x = np.linalg.solve(given.matrix(theta).toarray(), given.rhs(theta))
        return float(response(x, theta))

    for response, computed, gradient in zip(RESPONSES, values, gradients, strict=True):
        assert abs(computed - value(response, THETA)) < 1e-12 * max(1.0, abs(computed))
        differences = np.zeros(THETA.shape)
        for index in np.ndindex(*THETA.shape):
            step = np.zeros(THETA.shape)
            step[index] = 1.0
            differences[index] = central(lambda t, step=step, response=response: value(response, THETA + t * step))
        assert relative(gradient.theta, differences) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_taylor_rate(kind: str, mode: Mode) -> None:
    system = family(kind).system()
    direction = np.random.default_rng(1).uniform(-1, 1, THETA.shape)
    value, gradient = system.value_and_gradient(THETA, smooth, mode=mode)
    steps = 1e-2 * 0.5 ** np.arange(5)
    remainders = []
    for step in steps:
        theta = THETA + step * direction
        moved = smooth(system.solve(theta).x, theta)
        remainders.append(abs(moved - value - step * np.sum(gradient.theta * direction)))
    rates = np.diff(np.log(remainders)) / np.diff(np.log(steps))
    assert abs(rates[-2:].mean() - 2.0) < 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("route", ROUTES)
def test_pullback_is_the_transpose_of_pushforward(kind: str, route: str) -> None:
    system = family(kind).system(route)
    rng = np.random.default_rng(2)
    x, lam, directions = rng.standard_normal(N), rng.standard_normal((2, N)), rng.standard_normal((3, 2, 3))
    plain = system.residual.system  # type: ignore[attr-defined]
    forward = plain.pushforward(THETA, directions, x)
    back = plain.pullback(THETA, x, lam)
    assert forward.shape == (3, N)
    assert back.shape == (2, 2, 3)
    products = np.einsum("kij,lij->kl", directions, back)
    assert relative(forward @ lam.T, products) < 1e-12


def test_an_adjoint_without_transpose_would_be_wrong() -> None:
    given = family("general")
    system = given.system()
    solution = system.solve(THETA)
    _, gradient = system.value_and_gradient(solution, local)
    weights = np.zeros(N)
    weights[[5, 17]] = np.sin(solution.x[17]), solution.x[5] * np.cos(solution.x[17])
    assert relative(solution.pullback(solution.solve_adjoint(weights)), gradient.theta) < 1e-12
    assert relative(solution.pullback(solution.solve(weights)), gradient.theta) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_cotangents_of_matrix_and_rhs(kind: str) -> None:
    given = family(kind)
    A, b = given.matrix(THETA).toarray(), given.rhs(THETA)
    _, gradient = given.system().value_and_gradient(THETA, smooth)
    assert gradient.rhs is not None
    cotangent = gradient.matrix
    assert cotangent is not None
    assert ((cotangent != 0).toarray() <= (A != 0)).all()
    assert cotangent.nnz == np.count_nonzero(A)
    rows, columns = sp.coo_array(cotangent).coords
    rng = np.random.default_rng(3)
    scale = np.abs(cotangent.data).max()
    for k in rng.choice(cotangent.nnz, 6, replace=False):
        change = np.zeros_like(A)
        change[rows[k], columns[k]] += 1.0
        if kind != "general":
            change[columns[k], rows[k]] += 1.0
        slope = central(lambda t, change=change: float(smooth(np.linalg.solve(A + t * change, b), THETA)))
        assert abs((cotangent * change).sum() - slope) < 1e-8 * scale
    for k in rng.choice(N, 4, replace=False):
        change = np.zeros(N)
        change[k] = 1.0
        slope = central(lambda t, change=change: float(smooth(np.linalg.solve(A, b + t * change), THETA)))
        assert abs(gradient.rhs[k] - slope) < 1e-8 * np.abs(gradient.rhs).max()


@pytest.mark.parametrize("kind", KINDS)
def test_cotangents_carry_the_gradient(kind: str) -> None:
    given = family(kind)
    _, gradient = given.system().value_and_gradient(THETA, local)
    assert gradient.rhs is not None
    chained = [(gradient.matrix * dA).sum() + gradient.rhs @ db for dA, db in given.derivatives(THETA)]
    assert relative(np.reshape(chained, THETA.shape), gradient.theta) < 1e-12


def test_solution_solves_blocks_and_differentiates_the_unknowns() -> None:
    given = family("general")
    system = given.system("derivatives")
    solution = system.solve(THETA)
    assert isinstance(solution, LinearSolution)
    A = given.matrix(THETA)
    block = np.random.default_rng(4).standard_normal((3, N))
    assert np.abs(A.T @ solution.solve_adjoint(block).T - block.T).max() < 1e-12
    assert np.abs(A @ solution.solve(block[0]) - block[0]).max() < 1e-12
    direction = np.ones(THETA.shape)
    step = 1e-5
    difference = (system.solve(THETA + step).x - system.solve(THETA - step).x) / (2 * step)
    assert relative(solution.tangent(direction), difference) < 1e-8
    assert list(solution.seconds) == ["assemble", "analyse", "factorise", "solve"]
    with pytest.raises(ValueError, match="read-only"):
        solution.x[0] = 1.0


# ---------------------------------------------------------------------- counts
def test_one_factorisation_for_any_number_of_responses() -> None:
    system = family("general").system()
    responses = [lambda x, t, k=k: x[k] ** 2 for k in range(9)]
    _, gradients = system.values_and_gradients(THETA, responses, mode="adjoint")
    assert [(g.solves, g.factorisations) for g in gradients] == [(1, 1)] * 9
    assert system.counts == Counts(analyses=1, factorisations=1)
    solution = system.solve(THETA)
    assert system.counts == Counts(1, 2)
    _, gradients = system.values_and_gradients(solution, responses, mode="adjoint")
    assert [g.factorisations for g in gradients] == [0] * 9
    assert solution.factor.statistics.solves == 1 + 9
    _, gradients = system.values_and_gradients(solution, responses, mode="tangent")
    assert [g.solves for g in gradients] == [6] * 9
    assert solution.factor.statistics.solves == 1 + 9 + 6
    for angle in (0.1, 0.2):
        system.solve(THETA + angle)
    assert system.counts == Counts(1, 4)


def test_auto_counts_parameters_and_responses() -> None:
    system = family("general").system()
    solution = system.solve(THETA)
    unknowns = [lambda x, t, k=k: x[k] for k in range(7)]
    constant = lambda x, t: t[0, 0] * t[1, 1]  # noqa: E731
    for count, mode in ((6, "adjoint"), (7, "tangent")):
        _, gradients = system.values_and_gradients(solution, [*unknowns[:count], constant])
        assert {g.mode for g in gradients} == {mode}
    _, gradients = system.values_and_gradients(solution, [*unknowns[:2], constant])
    assert [g.solves for g in gradients] == [1, 1, 0]
    assert gradients[2].rhs is not None
    assert not gradients[2].rhs.any()
    before = solution.factor.statistics.solves
    for mode in MODES:
        values, gradients = system.values_and_gradients(solution, [constant], mode=mode)
        assert gradients[0].solves == 0
        expected = np.zeros(THETA.shape)
        expected[0, 0], expected[1, 1] = THETA[1, 1], THETA[0, 0]
        assert np.array_equal(gradients[0].theta, expected)
    assert solution.factor.statistics.solves == before
    values, gradients = system.values_and_gradients(solution, [])
    assert values.shape == (0,)
    assert gradients == ()


def test_auto_keeps_to_a_contraction() -> None:
    responses = [lambda x, t, k=k: x[k] for k in range(7)]
    for route, mode in (("contraction", "adjoint"), ("both", "tangent")):
        _, gradients = family("general").system(route).values_and_gradients(THETA, responses)
        assert {g.mode for g in gradients} == {mode}


def test_tangent_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    system = family("general").system()
    _, whole = system.value_and_gradient(THETA, smooth, mode="tangent")
    monkeypatch.setattr("femadj.algebra.linear_system._BLOCK_ENTRIES", 4 * N)
    _, parts = system.value_and_gradient(THETA, smooth, mode="tangent")
    assert parts.solves == 6
    assert relative(parts.theta, whole.theta) < 1e-13


# ---------------------------------------------------------------------- structure
def test_structure_grows_and_is_analysed_again() -> None:
    def matrix(t: Any) -> Any:
        return sp.csr_array(rotation(t))

    system = LinearSystem(matrix, B)
    flat = system.solve(0.0)
    assert system.counts == Counts(1, 1)
    assert flat.pattern.nnz == 3
    turned = system.solve(0.3)
    assert system.counts == Counts(2, 2)
    assert turned.pattern.nnz == 5
    again = system.solve(0.0)  # the zeros stay in the structure
    assert system.counts == Counts(2, 3)
    assert again.pattern is turned.pattern
    assert np.array_equal(flat.solve_adjoint(B), again.solve_adjoint(B))
    _, gradient = system.value_and_gradient(flat, lambda x, t: x[0])  # dA has entries where A has none
    assert gradient.theta == B[1]


@pytest.mark.parametrize("kind", ["symmetric", "spd"])
def test_structure_of_a_symmetric_matrix(kind: Any) -> None:
    def matrix(t: Any) -> Any:
        diagonal = np.array([4.0, 5.0, 6.0]) if kind == "spd" else np.array([4.0, 0.0, -6.0])
        full = np.diag(diagonal) + t * np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        full[1, 2] = full[2, 1] = 1.0
        return full

    system = LinearSystem(matrix, B, kind=kind)
    for t, entries, analyses in ((0.0, 4, 1), (0.5, 5, 2), (0.0, 5, 2)):
        solution = system.solve(t)
        assert (solution.pattern.nnz, system.counts.analyses) == (entries, analyses)
        assert np.abs(matrix(t) @ solution.x - B).max() < 1e-14
    for mode in MODES:
        _, gradient = system.value_and_gradient(0.5, lambda x, t: x[0], mode=mode)
        A, dA = matrix(0.5), np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        assert abs(gradient.theta + np.linalg.solve(A, dA @ np.linalg.solve(A, B))[0]) < 1e-14


def test_repeated_entries_are_added_and_the_callers_matrix_is_left_alone() -> None:
    kept = sp.coo_array((np.array([1.0, 1.0, 3.0]), ([0, 0, 1], [0, 0, 1])), shape=(2, 2))
    system = LinearSystem(lambda t: kept, lambda t: np.array([2, 3]))
    solution = system.solve(1)
    assert np.array_equal(solution.x, [1.0, 1.0])
    kept.data[:] = 7.0
    assert np.array_equal(solution.solve(np.array([2.0, 3.0])), [1.0, 1.0])
    assert kept.nnz == 3


# ---------------------------------------------------------------------- theta, constants, responses
@pytest.mark.parametrize("theta", [2.0, 2, np.float64(2.0), np.array(2.0), [2.0], [[2.0]], np.full((1, 1, 1), 2)])
def test_shapes_of_theta(theta: Any) -> None:
    seen = []

    def matrix(t: Any) -> Any:
        if not np.iscomplexobj(t):
            seen.append(t)
        return sp.eye_array(3).tocsr() * (t if np.ndim(t) == 0 else t.ravel()[0])

    value, gradient = LinearSystem(matrix, B).value_and_gradient(theta, lambda x, t: x[1] * np.sum(t))
    assert value == 2.0
    assert np.shape(gradient.theta) == np.shape(theta)
    assert np.ravel(gradient.theta)[0] == 0.0
    assert all(isinstance(t, float) for t in seen) == (np.ndim(theta) == 0)


def test_callers_theta_is_copied_and_kept_from_writing() -> None:
    theta = np.array([2.0, 3.0])
    solution = LinearSystem(np.diag, np.ones(2)).solve(theta)
    theta[:] = 9.0
    assert np.array_equal(solution.theta, [2.0, 3.0])

    def writes(t: Any) -> Any:
        t[0] = 1.0
        return np.diag(t)

    with pytest.raises(LinearSystemError, match=r"matrix\(theta\) failed with ValueError.*read-only"):
        LinearSystem(writes, np.ones(2)).solve([1.0, 2.0])


@pytest.mark.parametrize("mode", MODES)
def test_constants_and_missing_derivatives(mode: Mode) -> None:
    A = np.array([[2.0, 1.0], [0.0, 4.0]])
    rates = {1: (None, np.array([0.0, 1.0]))}
    for system in (
        LinearSystem(A, lambda t: np.array([1.0, t[1]])),
        LinearSystem(sp.csr_array(A), lambda t: np.array([1.0, t[1]]), derivatives=lambda t: rates),
        LinearSystem(A, lambda t: np.array([1.0, t[1]]), derivatives=[None, (None, np.array([0.0, 1.0]))]),
    ):
        _, gradient = system.value_and_gradient([5.0, 1.0], lambda x, t: x[1], mode=mode)
        assert np.array_equal(gradient.theta, [0.0, 0.25])


def test_response_with_partial_derivatives() -> None:
    system = family("general").system()
    solution = system.solve(THETA)
    calls = []

    def given(x: FloatArray, theta: FloatArray) -> ResponseEvaluation:
        calls.append(1)
        return ResponseEvaluation(float(x @ x) + theta[0, 0], dx=2 * x, dtheta=[[1, 0, 0], [0, 0, 0]])

    _, expected = system.value_and_gradient(solution, lambda x, t: x @ x + t[0, 0])
    _, gradient = system.value_and_gradient(solution, given)
    assert relative(gradient.theta, expected.theta) < 1e-13
    first = len(calls)
    assert first > 1  # compared with differences
    system.value_and_gradient(solution, given)
    assert len(calls) == first + 1


def test_responses_are_forgotten_with_their_callers() -> None:
    solution = LinearSystem(rotation, B).solve(0.3)
    for k in range(5):
        solution.system.value_and_gradient(solution, lambda x, t, k=k: x[0] ** k + x[1])
    gc.collect()
    assert len(solution.checked) == 0


def test_responses_of_many_unknowns() -> None:
    n = 20_000
    system = LinearSystem(sp.eye_array(n).tocsr(), lambda t: np.arange(1.0, n + 1) * t)
    calls = []

    def few(x: Any, t: Any) -> Any:
        calls.append(1)
        return x[17] * np.sqrt(x[12_345])

    value, gradient = system.value_and_gradient(1.0, few)
    assert gradient.rhs is not None
    assert np.array_equal(np.flatnonzero(gradient.rhs), [17, 12_345])
    assert abs(gradient.theta - 1.5 * value) < 1e-12 * value
    assert len(calls) < 120
    with pytest.raises(ResponseError, match=r"<lambda>.*more than 4000 evaluations.*ResponseEvaluation"):
        system.value_and_gradient(1.0, lambda x, t: np.sum(x**2))
    _, gradient = system.value_and_gradient(1.0, lambda x, t: ResponseEvaluation(np.sum(x**2), dx=2 * x))
    assert abs(gradient.theta - 2 * np.sum(np.arange(1.0, n + 1) ** 2)) < 1e-12 * gradient.theta
    assert MOST_EVALUATIONS == 4000


def test_real_meaning_of_operations_that_are_not_analytic() -> None:
    system = LinearSystem(rotation, B)
    solution = system.solve(2.5)
    x = solution.x
    assert x[1] < 0
    responses: list[Any] = [
        lambda x, t: np.abs(x[1]),
        lambda x, t: np.linalg.norm(x[:2] - [1.0, 0.0]),
        lambda x, t: np.max(x[:2]),
    ]
    _, gradients = system.values_and_gradients(solution, responses)
    distance = np.linalg.norm(x[:2] - [1.0, 0.0])
    expected = [x[0], ((x[0] - 1) * x[1] - x[1] * x[0]) / distance, x[1] if x[0] > x[1] else -x[0]]
    assert np.abs([g.theta for g in gradients] - np.array(expected)).max() < 1e-14


# ---------------------------------------------------------------------- an object of one's own
class Spring:
    """Two springs in a row with stiffnesses theta, upper triangle, known derivatives."""

    kind = "spd"
    prefers_adjoint = True

    def __init__(self) -> None:
        self.pattern = CsrPattern(np.array([0, 2, 3]), np.array([0, 1, 1], dtype=np.int32), "upper")

    def assemble(self, theta: FloatArray) -> MatrixAndRhs:
        a, b = theta
        return MatrixAndRhs(np.array([a + b, -b, b]), np.array([0.0, 1.0]))

    def pullback(self, theta: FloatArray, x: FloatArray, lam: FloatArray) -> FloatArray:
        return -np.stack([lam[:, 0] * x[0], (lam[:, 1] - lam[:, 0]) * (x[1] - x[0])], axis=1)

    def pushforward(self, theta: FloatArray, directions: FloatArray, x: FloatArray) -> FloatArray:
        stretch = directions[:, 1] * (x[1] - x[0])
        return -np.stack([directions[:, 0] * x[0] - stretch, stretch], axis=1)


def test_object_that_assembles_itself() -> None:
    system = LinearSystem.of(Spring(), threads=1)
    assert system.counts == Counts(1, 0)
    for mode in MODES:
        value, gradient = system.value_and_gradient([2.0, 4.0], lambda x, t: x[1], mode=mode)
        assert abs(value - 0.75) < 1e-15
        assert np.abs(gradient.theta - [-1 / 4, -1 / 16]).max() < 1e-15
    _, gradients = system.values_and_gradients([2.0, 4.0], [lambda x, t, k=k: x[1] ** k for k in (1, 2, 3)])
    assert {g.mode for g in gradients} == {"adjoint"}
    assert gradients[0].matrix is not None
    assert np.abs(gradients[0].matrix.toarray() + np.outer(gradients[0].rhs, gradients[0].x)).max() < 1e-16
    assert system.counts == Counts(1, 3)
    assert "2 unknowns, spd" in repr(system)


def test_object_with_products_of_the_wrong_shape() -> None:
    class Wrong(Spring):
        def pullback(self, theta: FloatArray, x: FloatArray, lam: FloatArray) -> FloatArray:
            return np.zeros((len(lam), 3))

    with pytest.raises(LinearSystemError, match=r"pullback\) must be real numbers of shape \(1, 2\)"):
        LinearSystem.of(Wrong()).value_and_gradient([2.0, 4.0], lambda x, t: x[1])


# ---------------------------------------------------------------------- errors
DIAGONAL = sp.csr_array(np.diag([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        ("a", "theta must be a number"),
        ([[1.0], [1.0, 2.0]], "theta must be a number"),
        (1j, "real numbers"),
        ([], "real numbers"),
        (None, "real numbers"),
        ([1.0, np.nan], r"NaN or infinite entries: theta = \[1.0, nan\]"),
    ],
)
def test_bad_theta(theta: Any, message: str) -> None:
    with pytest.raises(LinearSystemError, match=message):
        LinearSystem(DIAGONAL, B).solve(theta)


@pytest.mark.parametrize(
    ("matrix", "rhs", "error", "message"),
    [
        (lambda t: np.ones((3, 2)), B, LinearSystemError, r"matrix\(theta\) must be square, not of shape \(3, 2\)"),
        (lambda t: np.zeros((0, 0)), B, LinearSystemError, "must be square"),
        (lambda t: np.ones(3), B, LinearSystemError, "sparse matrix or a two-dimensional array"),
        (lambda t: None, B, LinearSystemError, "sparse matrix or a two-dimensional array"),
        (lambda t: "A", B, LinearSystemError, "sparse matrix or a two-dimensional array"),
        (lambda t: DIAGONAL * 1j, B, LinearSystemError, r"matrix\(theta\) is complex"),
        (DIAGONAL, lambda t: np.ones(2), LinearSystemError, r"rhs\(theta\) has 2 entries, matrix\(theta\) has 3 rows"),
        (DIAGONAL, lambda t: np.ones((3, 1)), LinearSystemError, r"rhs\(theta\) must be an array of shape \(n,\)"),
        (DIAGONAL, lambda t: DIAGONAL, LinearSystemError, r"rhs\(theta\) must be an array of shape"),
        (DIAGONAL, lambda t: 1j * B, LinearSystemError, r"rhs\(theta\) is complex"),
        (DIAGONAL, lambda t: 1 / 0, LinearSystemError, r"rhs\(theta\) failed with ZeroDivisionError"),
        (lambda t: {}["E"], B, LinearSystemError, r"matrix\(theta\) failed with KeyError: 'E'"),
        (DIAGONAL * np.nan, B, NonFiniteError, r"matrix\(theta\) has NaN .* row 0 at theta = 1.0"),
        (DIAGONAL, lambda t: np.array([0, 1, np.inf]), NonFiniteError, r"rhs\(theta\) has NaN .* row 2"),
        (np.diag([1.0, 0.0, 1.0]), B, SingularSystemError, "equation 1 has no entry"),
        (np.ones((3, 3)), B, SingularSystemError, "singular"),
    ],
)
def test_bad_system(matrix: Any, rhs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LinearSystem(matrix, rhs).solve(1.0)


def test_cause_is_kept_and_errors_of_femadj_pass() -> None:
    def divides(t: float) -> float:
        return 1 / 0

    with pytest.raises(LinearSystemError) as caught:
        LinearSystem(divides, B).solve(1.0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def tangles(t: float) -> Any:
        raise TangledMeshError("flat cell", [3])

    with pytest.raises(TangledMeshError) as passed:
        LinearSystem(DIAGONAL, tangles).solve(1.0)
    assert passed.value.__notes__ == ["raised inside rhs(theta)"]


def test_kind_that_does_not_hold() -> None:
    skew = np.array([[2.0, 1.0], [0.5, 2.0]])
    with pytest.raises(LinearSystemError, match=r"entry \(0, 1\) is 1, entry \(1, 0\) is 0.5"):
        LinearSystem(skew, np.ones(2), kind="spd").solve(1.0)
    with pytest.raises(IndefiniteSystemError):
        LinearSystem(np.diag([1.0, -1.0]), np.ones(2), kind="spd").solve(1.0)
    with pytest.raises(LinearSystemError, match="unknown matrix kind 'lower'; there are spd"):
        LinearSystem(skew, np.ones(2), kind="lower")  # type: ignore[arg-type]
    with pytest.raises(SolverError, match="no solver 'none'"):
        LinearSystem(skew, np.ones(2), solver="none")


def test_number_of_equations_that_changes() -> None:
    system = LinearSystem(lambda t: np.eye(round(t)), lambda t: np.ones(round(t)))
    system.solve(3.0)
    with pytest.raises(LinearSystemError, match="number of equations changed from 3 to 4"):
        system.solve(4.0)


@pytest.mark.parametrize(
    ("derivatives", "message"),
    [
        (lambda t: [(None, None)], r"list of 2 pairs .*, not 1 items"),
        (lambda t: None, "list of 2 pairs .*, not NoneType"),
        (lambda t: {2: None}, "has the key 2; keys are flat indices of theta, 0 to 1"),
        (lambda t: [DIAGONAL, DIAGONAL], r"derivatives\(theta\)\[0\] must be a pair"),
        (lambda t: [None, (np.eye(2), None)], r"derivatives\(theta\)\[1\] has 2 rows, the system has 3"),
        (lambda t: [None, (None, np.ones((3, 1)))], r"db of derivatives\(theta\)\[1\] must be an array of shape"),
        (lambda t: t.missing, "derivatives.theta. failed with AttributeError"),
    ],
)
def test_bad_derivatives(derivatives: Any, message: str) -> None:
    system = LinearSystem(lambda t: DIAGONAL * t[0], B, derivatives=derivatives)
    with pytest.raises(LinearSystemError, match=message):
        system.value_and_gradient([1.0, 2.0], lambda x, t: x[0])


def test_bad_contraction() -> None:
    with pytest.raises(LinearSystemError, match="contraction must be a function"):
        LinearSystem(DIAGONAL, B, contraction=3)  # type: ignore[arg-type]
    for contraction, message in (
        (lambda t, x, lam: np.zeros(3), r"must be real numbers of shape \(2,\), not float64 of shape \(3,\)"),
        (lambda t, x, lam: np.full(2, np.nan), "NaN or infinite entries, first at flat index 0"),
        (lambda t, x, lam: lam @ t, "failed with ValueError"),
    ):
        system = LinearSystem(lambda t: DIAGONAL * t[0], B, contraction=contraction)
        with pytest.raises(LinearSystemError, match=message):
            system.value_and_gradient([1.0, 2.0], lambda x, t: x[0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("what", ["matrix", "rhs"])
def test_wrong_derivatives_are_refused(what: str, mode: Mode) -> None:
    given = family("general")

    def wrong(theta: FloatArray) -> list[Any]:
        pairs = given.derivatives(theta)
        dA, db = pairs[5]
        pairs[5] = (dA * (1 + 1e-3), db) if what == "matrix" else (dA, -db)
        return pairs

    system = LinearSystem(given.matrix, given.rhs, derivatives=wrong)
    with pytest.raises(VerificationError, match=rf"{what}\(theta\) by derivatives\(theta\) is wrong.*check=False"):
        system.value_and_gradient(THETA, smooth, mode=mode)
    LinearSystem(given.matrix, given.rhs, derivatives=wrong, check=False).value_and_gradient(THETA, smooth, mode=mode)


@pytest.mark.parametrize("theta", [[0.0, 0.0], [0.0, 2e11], [1e-17, 0.3]])
def test_wrong_derivatives_at_zero_are_refused(theta: list[float]) -> None:
    """A parameter that is zero, or noise, moves as well."""
    system = LinearSystem(lambda t: np.diag([1.0 + np.sin(t[0]), 2.0]), np.ones(2), derivatives=[None, None])
    with pytest.raises(VerificationError, match="gives 0 in row 0"):
        system.value_and_gradient(theta, smooth_rotation)


@pytest.mark.parametrize("factor", [-1.0, 1.001])
def test_wrong_contraction_is_refused(factor: float) -> None:
    given = family("general")
    system = LinearSystem(given.matrix, given.rhs, contraction=lambda *a: factor * given.contraction(*a))
    for _ in range(2):  # refused again, not once
        with pytest.raises(VerificationError, match=r"contraction\(theta, x, lam\) is wrong"):
            system.value_and_gradient(THETA, smooth)


def test_derivatives_are_compared_once_at_every_theta() -> None:
    calls = []

    def matrix(t: Any) -> Any:
        calls.append(1)
        return rotation(t)

    def contraction(t: float, x: FloatArray, lam: FloatArray) -> float:
        c, s = np.cos(t), np.sin(t)
        return float(lam @ (np.array([[-s, -c, 0.0], [c, -s, 0.0], [0.0, 0.0, 0.0]]) @ x))

    for given, each in (({"contraction": contraction}, 1), ({}, 2)):
        calls.clear()
        system = LinearSystem(matrix, B, **given)
        system.value_and_gradient(0.3, smooth_rotation)
        assert each < len(calls) <= each + 15
        calls.clear()
        solutions = [system.solve(angle) for angle in (0.4, 0.5)]
        for solution in solutions:
            system.value_and_gradient(solution, smooth_rotation)
        assert 2 * each < len(calls) <= 2 * each + 16
        calls.clear()
        system.value_and_gradient(solutions[1], smooth_rotation)
        assert len(calls) == each - 1
        calls.clear()
        LinearSystem(matrix, B, **given, check=False).value_and_gradient(0.3, smooth_rotation)
        assert len(calls) == each


def smooth_rotation(x: Any, t: Any) -> Any:
    return x[0] * x[1]


def stores_in_real_array(t: Any) -> Any:
    full = np.eye(3)
    full[0, 0] = t**2
    return full


def strips(t: Any) -> Any:
    return np.diag([1.0, 2.0, np.asarray(t).view(np.ndarray).real ** 2])


@pytest.mark.parametrize(
    ("matrix", "error", "message"),
    [
        (lambda t: np.eye(3) * math.cos(t), ComplexStepError, r"matrix\(theta\) cannot be differentiated.*np.cos, not"),
        (lambda t: np.eye(3) * t.real, ComplexStepError, "real part"),
        (stores_in_real_array, ComplexStepError, "np.result_type"),
        (strips, VerificationError, r"matrix\(theta\) by complex step is wrong: .* gives 0 in row 2, differences give"),
        (lambda t: np.diag(np.abs(np.array([t - 1.0, 1.0, 1.0]))), VerificationError, "row 0"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_functions_that_complex_steps_cannot_differentiate(
    matrix: Any, error: type[Exception], message: str, mode: Mode
) -> None:
    system = LinearSystem(matrix, B)
    with pytest.raises(error, match=message):
        system.value_and_gradient(0.3, smooth_rotation, mode=mode)


def test_complex_warnings_are_errors_even_where_they_are_ignored() -> None:
    def matrix(t: Any) -> Any:
        full = np.eye(3)
        full[:, 0] = np.array([t**2, 0, 0])
        return full

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ComplexStepError, match="ComplexWarning"):
            LinearSystem(matrix, B, check=False).value_and_gradient(0.3, smooth_rotation)


@pytest.mark.parametrize(
    ("response", "error", "message"),
    [
        (3.0, ResponseError, r"response 0 \(float\) must be a function of \(x, theta\)"),
        (lambda x, t: x, ResponseError, "must return a real number"),
        (lambda x, t: "1", ResponseError, "must return a real number"),
        (lambda x, t: None, ResponseError, "must return a real number"),
        (lambda x, t: 1j * x[0], ResponseError, "must return a real number"),
        (lambda x, t: np.inf * x[0], ResponseError, "is inf"),
        (lambda x, t: x[7], ResponseError, "failed with IndexError"),
        (lambda x: x[0], ResponseError, "failed with TypeError"),
        (lambda x, t: math.exp(x[0]), ComplexStepError, r"response 0 \(<lambda>\) cannot .*ResponseEvaluation"),
        (lambda x, t: np.exp(np.asarray(x).view(np.ndarray).real[0]), VerificationError, "by x is wrong"),
        (lambda x, t: ResponseEvaluation(x[0], dx=x[:2]), ResponseError, r"dx of response 0 .* shape \(3,\)"),
        (lambda x, t: ResponseEvaluation(x[0], dx=x, dtheta=x), ResponseError, r"dtheta of response 0 .* shape \(\)"),
        (lambda x, t: ResponseEvaluation(x[0], dx=x * np.nan), ResponseError, "dx of .* NaN"),
        (lambda x, t: ResponseEvaluation(x, dx=x), ResponseError, "must return a real number"),
        (lambda x, t: ResponseEvaluation(x @ x, dx=x), VerificationError, "by x is wrong"),
        (lambda x, t: ResponseEvaluation(x[0], dx=None), VerificationError, "by x is wrong: .* gives 0, differences"),
        (lambda x, t: ResponseEvaluation(t * x[0], dx=[t, 0, 0]), VerificationError, "by theta is wrong"),
    ],
)
def test_bad_responses(response: Any, error: type[Exception], message: str) -> None:
    system = LinearSystem(rotation, B)
    with pytest.raises(error, match=message):
        system.value_and_gradient(0.3, response)


def test_other_misuse() -> None:
    system, other = LinearSystem(rotation, B), LinearSystem(rotation, B)
    with pytest.raises(LinearSystemError, match="mode must be 'auto', 'adjoint' or 'tangent', not 'reverse'"):
        system.value_and_gradient(0.3, smooth_rotation, mode="reverse")  # type: ignore[arg-type]
    with pytest.raises(ResponseError, match="responses must be a list"):
        system.values_and_gradients(0.3, smooth_rotation)  # type: ignore[arg-type]
    solution = other.solve(0.3)
    with pytest.raises(LinearSystemError, match="belongs to another LinearSystem"):
        system.value_and_gradient(solution, smooth_rotation)
    with pytest.raises(LinearSystemError, match=r"must have shape \(3,\) or \(k, 3\), not \(2,\)"):
        solution.solve_adjoint([1.0, 2.0])
    with pytest.raises(LinearSystemError, match=r"lam must be real numbers of shape \(3,\)"):
        solution.pullback([1.0, 2.0])
    with pytest.raises(LinearSystemError, match=r"direction must be real numbers of shape \(\)"):
        solution.tangent([1.0])
    assert "not assembled yet, general" in repr(LinearSystem(rotation, B))


def test_progress_is_told() -> None:
    told: list[str] = []

    class Told:
        def __init__(self, name: str) -> None:
            told.append(name)

        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None: ...

    LinearSystem(rotation, B, progress=Told).value_and_gradient(0.3, smooth_rotation)
    assert told == ["assemble", "analyse", "factorise", "solve", "evaluate responses", "solve adjoint", "contract"]
