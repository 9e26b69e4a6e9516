"""Prescribed data: what is accepted, what the derivative is, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import femadj as fa
from femadj.base.arrays import FloatArray
from femadj.base.calls import MOST_POINTS, constant_components
from femadj.base.calls import evaluate as evaluate_at
from femadj.errors import FemadjError, LoadError, SupportError


def evaluate(
    function: Any, x: FloatArray, n_components: int, what: str, error: type[FemadjError]
) -> tuple[FloatArray, FloatArray]:
    found = evaluate_at(function, x, n_components, what, error)
    return found.values, found.derivatives


X2 = np.random.default_rng(0).uniform(1, 3, (7, 2))
X3 = np.random.default_rng(1).uniform(-2, 2, (5, 3))


# ---------------------------------------------------------------------- constants
def test_constants() -> None:
    assert constant_components(2, 1, "value", LoadError).tolist() == [2.0]
    assert constant_components([2], 1, "value", LoadError).tolist() == [2.0]
    assert constant_components((1, 2, 3), 3, "value", LoadError).tolist() == [1.0, 2.0, 3.0]
    assert constant_components(np.float32(0.5), 1, "value", LoadError).dtype == np.float64


@pytest.mark.parametrize(
    ("value", "n", "message"),
    [
        (1.0, 3, r"3 component\(s\)"),
        ([1, 2], 3, r"3 component\(s\)"),
        ([[1, 2, 3]], 3, r"3 component\(s\)"),
        ([1, 2], 1, r"1 component\(s\)"),
        ([], 1, r"1 component\(s\)"),
        ("north", 1, "must be a number"),
        (None, 2, r"must be a number|component\(s\)|finite"),
        ({}, 2, "must be a number"),
        (1 + 2j, 1, "must be a number"),
        ([1, [2, 3]], 2, "must be a number"),
        (np.nan, 1, "finite"),
        ([0, np.inf], 2, "finite"),
    ],
)
def test_bad_constants(value: Any, n: int, message: str) -> None:
    with pytest.raises(SupportError, match=message) as caught:
        constant_components(value, n, "value of Fixed('clamp')", SupportError)
    assert "value of Fixed('clamp')" in str(caught.value)


# ---------------------------------------------------------------------- functions
def test_value_and_derivative_are_exact() -> None:
    x, y, z = X3.T
    values, slope = evaluate(
        lambda x: [np.sin(x[0] * x[1]) + x[2] ** 3, np.exp(x[1]) / (3 + x[0])], X3, 2, "f", LoadError
    )
    assert values.shape == (5, 2)
    assert slope.shape == (5, 2, 3)
    expected = np.stack([np.sin(x * y) + z**3, np.exp(y) / (3 + x)], axis=1)
    assert values == pytest.approx(expected, rel=1e-15)
    c, zero = np.cos(x * y), np.zeros(5)
    first = np.stack([y * c, x * c, 3 * z**2], axis=1)
    second = np.stack([-np.exp(y) / (3 + x) ** 2, np.exp(y) / (3 + x), zero], axis=1)
    assert slope == pytest.approx(np.stack([first, second], axis=1), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.stack([x[0] ** 2, np.full(x.shape[1], 3.0)]),
        lambda x: [x[0] ** 2, 3.0],
        lambda x: (x[0] ** 2, 3),
        lambda x: [x[0] * x[0], np.array(3)],
        lambda x: np.vstack([x[0] ** 2, 0 * x[1] + 3]),
    ],
    ids=["array", "list with a number", "tuple with an integer", "list with an array of no dimension", "stacked"],
)
def test_ways_to_return_components(function: Any) -> None:
    values, slope = evaluate(function, X2, 2, "f", LoadError)
    assert values == pytest.approx(np.stack([X2[:, 0] ** 2, np.full(7, 3.0)], axis=1), rel=1e-15)
    expected = np.zeros((7, 2, 2))
    expected[:, 0, 0] = 2 * X2[:, 0]
    assert slope == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    "function",
    [lambda x: x[1] ** 2, lambda x: [x[1] ** 2], lambda x: (x[1] ** 2)[None], lambda x: np.square(x[1:])],
    ids=["flat", "list", "row", "slice"],
)
def test_ways_to_return_a_scalar(function: Any) -> None:
    values, slope = evaluate(function, X2, 1, "f", LoadError)
    assert values == pytest.approx(X2[:, 1:] ** 2, rel=1e-15)
    assert slope[:, 0] == pytest.approx(np.stack([np.zeros(7), 2 * X2[:, 1]], axis=1), rel=1e-14)


@pytest.mark.parametrize("n_points", [1, 2, 3, 4])
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("form", ["array", "list", "column"])
def test_functions_that_return_constants(n_points: int, n_components: int, form: str) -> None:
    """Whatever the number of points: a function that works on one mesh works on the next."""
    constant = np.arange(1.0, n_components + 1)
    result = {"array": constant, "list": constant.tolist(), "column": constant[:, None]}[form]
    if n_components == 1 and form == "array":
        result = constant[0]
    values, slope = evaluate(lambda _: result, X3[:n_points], n_components, "f", LoadError)
    assert values.tolist() == [constant.tolist()] * n_points
    assert not slope.any()


def test_jumps_and_kinks_keep_the_slope_of_their_own_side() -> None:
    """Piecewise data are fine, even where a point lies next to the joint."""
    joint = X2[3, 0] + 1e-9
    values, slope = evaluate(lambda x: np.where(x[0] > joint, 5 * x[0], 2.0), X2, 1, "f", LoadError)
    right = X2[:, 0] > joint
    assert values[:, 0] == pytest.approx(np.where(right, 5 * X2[:, 0], 2.0))
    assert slope[:, 0, 0] == pytest.approx(np.where(right, 5.0, 0.0))


def test_input_is_not_changed_and_small_coordinates_work() -> None:
    for scale in (1e-9, 1e-3, 1.0, 1e6):
        x = scale * X2
        before = x.copy()
        values, slope = evaluate(lambda x, s=scale: np.sin(x[0] / s), x, 1, "f", LoadError)
        assert np.array_equal(x, before)
        assert values[:, 0] == pytest.approx(np.sin(X2[:, 0]))
        assert slope[:, 0, 0] * scale == pytest.approx(np.cos(X2[:, 0]), rel=1e-12)


def test_points_on_a_line_and_at_the_origin() -> None:
    values, slope = evaluate(lambda x: x[0] ** 2 + 1, np.zeros((3, 2)), 1, "f", LoadError)
    assert values.tolist() == [[1.0]] * 3
    assert slope == pytest.approx(np.zeros((3, 1, 2)), abs=1e-20)


# ---------------------------------------------------------------------- refused
def stripped(part: Any) -> Any:
    """An array that NumPy puts together without the guard: what follows loses the complex step."""
    return np.array([part, part])


WITHOUT_A_DERIVATIVE: dict[str, tuple[Any, str]] = {
    "abs of an array": (lambda x: np.abs(stripped(x[0] - 2))[0], "disagrees with differences"),
    "norm of an array": (lambda x: np.linalg.norm(np.array([x[0], x[1]]), axis=0), "disagrees with differences"),
    "hypot of real parts": (lambda x: np.hypot(x[0].real, x[1].real), "real part .* drops its derivative"),
    "real part": (lambda x: x[0].real ** 2, "real part .* drops its derivative"),
    "cast": (lambda x: x[0].astype(float) ** 2, "cast to float64"),
    "cast of an array": (lambda x: stripped(x[0]).astype(float)[0] ** 2, "discards the imaginary part|disagrees"),
    "real array": (lambda x: np.array([float(a) for a in x[0]]), "drops its derivative"),
    "table": (lambda x: np.interp(x[0], [0.0, 4.0], [1.0, 3.0]), "np.interp has no rule"),
    "imaginary": (lambda x: 1j * x[0], "complex numbers"),
    "one component of two": (lambda x: x[0] + np.abs(stripped(x[1] - 2))[0], r"x\[1\] disagrees"),
    "equality": (lambda x: 1.0 * (x[0] == X2[4, 0]), "equality of coordinates"),
}


@pytest.mark.parametrize("name", WITHOUT_A_DERIVATIVE)
def test_functions_without_a_derivative(name: str) -> None:
    function, message = WITHOUT_A_DERIVATIVE[name]
    with pytest.raises(LoadError, match=message) as caught:
        evaluate(function, X2, 1, "value of Traction('pad')", LoadError)
    assert "value of Traction('pad')" in str(caught.value)


def test_what_is_not_analytic_means_what_it_means_for_real_numbers() -> None:
    x, y = X2.T
    values, slope = evaluate(lambda x: [abs(x[0] - 2), np.linalg.norm(x, axis=0)], X2, 2, "f", LoadError)
    assert values == pytest.approx(np.stack([abs(x - 2), np.hypot(x, y)], axis=1), rel=1e-15)
    assert slope[:, 0] == pytest.approx(np.stack([np.sign(x - 2), 0 * x], axis=1))
    assert slope[:, 1] == pytest.approx(X2 / np.hypot(x, y)[:, None], rel=1e-14)
    _, steep = evaluate(lambda x: (x[0] - 4.0) ** 101, X2, 1, "f", LoadError)
    assert steep[:, 0, 0] == pytest.approx(101 * (x - 4.0) ** 100, rel=1e-13)


@pytest.mark.parametrize("slope", [1.0, 0.1, 0.01, 1e-3])
def test_small_part_without_a_derivative_on_a_large_constant(slope: float) -> None:
    """A temperature in kelvin: the part that varies is small, and its derivative must still be right."""
    with pytest.raises(LoadError, match="disagrees"):
        evaluate(lambda x: 293.15 + slope * np.abs(stripped(x[0]))[0], X2, 1, "f", LoadError)


def test_part_without_a_derivative_beside_a_steep_one() -> None:
    """What one point's derivative may miss must not depend on how steep the function is elsewhere."""
    x = np.array([[0.5, 0.5], [1.0, 0.5], [1.5, 0.5], [9.0, 0.5]])
    with pytest.raises(LoadError, match="disagrees"):
        evaluate(lambda x: np.exp(x[0]) + 0.1 * np.abs(stripped(x[1] - 0.2))[0], x, 1, "f", LoadError)
    with pytest.raises(LoadError, match="disagrees"):
        evaluate(lambda x: np.where(x[0] > 5, 1e12 * x[1], np.abs(stripped(x[1]))[0]), x, 1, "f", LoadError)


def test_part_without_a_derivative_where_few_of_many_points_are() -> None:
    x = np.random.default_rng(3).uniform(0, 1, (40 * MOST_POINTS, 2))
    spot = 0.04  # two of a thousand points
    with pytest.raises(LoadError, match="disagrees"):
        evaluate(
            lambda x: 1.0 + np.where((x[0] < spot) & (x[1] < spot), 9 + np.abs(stripped(x[0]))[0], x[1]),
            x, 1, "f", LoadError,
        )  # fmt: skip


# ---------------------------------------------------------------------- points that see each other
MIXING: dict[str, Any] = {
    "largest": lambda x: x[1].max() - x[1],
    "smallest": lambda x: x[0] - np.min(x[0]),
    "mean": lambda x: (x[0] - x[0].mean()) ** 2,
    "norm without axis": lambda x: x[0] / np.linalg.norm(x),
    "sum": lambda x: x[0] / x.sum(),
    "cumulative sum": lambda x: np.cumsum(x[0]),
    "next point": lambda x: np.roll(x[0], 1),
    "number of points": lambda x: x[0] / x.shape[1],
    "table by number": lambda x: x[0] + np.linspace(0, 1, x.shape[1]),
    "order": lambda x: x[0][x[0].argsort()],
}


@pytest.mark.parametrize("n", [2, 5, 3 * MOST_POINTS])
@pytest.mark.parametrize("name", MIXING)
def test_functions_that_mix_points(name: str, n: int) -> None:
    x = np.sort(np.random.default_rng(n).uniform(1, 3, (n, 2)), axis=0)[::-1]
    with pytest.raises(SupportError, match=r"'rim'.*mixes points.*axis=0") as caught:
        evaluate(MIXING[name], x, 1, "value of Fixed('rim')", SupportError)
    assert "parameter" in str(caught.value)


def test_random_functions_are_named() -> None:
    with pytest.raises(LoadError, match="other values for the same points"):
        evaluate(lambda x: x[0] * np.random.default_rng().uniform(), X2, 1, "f", LoadError)


# ---------------------------------------------------------------------- kinks at a point, steps, changes in place
def test_kinks_and_jumps_exactly_at_a_point_have_no_derivative() -> None:
    at = X2[2, 0]
    functions: list[Any] = [
        lambda x: abs(x[0] - at), lambda x: np.maximum(x[0], at), lambda x: 1.0 * (x[0] >= at),
        lambda x: np.where(x[0] > at, 3 * x[1], x[1]), lambda x: x[1] + 1e-4 * abs(x[0] - at),
    ]  # fmt: skip
    for function in functions:
        found = evaluate_at(function, X2, 1, "value of Flux('rim')", LoadError)
        assert f"{at}" in found.kink
        assert "value of Flux('rim') has no derivative by x[0]" in found.kink
        aside = evaluate_at(function, X2 + 1e-5, 1, "f", LoadError)
        assert aside.kink == ""


def supported(value: Any) -> fa.LinearStatic:
    n = 4
    line = np.linspace(0.0, 1.0, n + 1)
    grid = np.array([[x, y] for y in line for x in line])
    cells = [[i + j * (n + 1), i + 1 + j * (n + 1), i + 1 + (j + 1) * (n + 1), i + (j + 1) * (n + 1)]
             for j in range(n) for i in range(n)]  # fmt: skip
    mesh = fa.Mesh(grid, {"quad": cells}).with_groups(facet_groups={"left": lambda x: x[0] == 0})
    return fa.LinearStatic(mesh, fa.Diffusion(1.0), [fa.Fixed("left", value=value)], [fa.Source(1.0)], threads=1)


def test_a_step_at_a_node_can_be_solved_and_not_be_differentiated() -> None:
    solution = supported(lambda x: np.where(x[1] >= 0.5, 2.0, 1.0)).solve()
    assert set(solution.prescribed.values[solution.problem.mesh.nodes_of("left"), 0]) == {1.0, 2.0}
    with pytest.raises(SupportError, match=r"Fixed\('left'\) has no derivative by x\[1\].*exactly there"):
        fa.value_and_gradient(solution, fa.FieldNorm())
    between = supported(lambda x: np.where(x[1] >= 0.6, 2.0, 1.0)).solve()
    assert np.isfinite(fa.value_and_gradient(between, fa.FieldNorm())[1].points).all()


def test_functions_may_change_the_array_they_get() -> None:
    def shifted(x: Any) -> Any:
        x -= 0.25
        x *= 2
        return x[1] ** 2

    one, other = supported(shifted).solve(), supported(lambda x: (2 * (x[1] - 0.25)) ** 2).solve()
    for a, b in zip(*(fa.value_and_gradient(s, fa.FieldNorm()) for s in (one, other)), strict=True):
        assert np.asarray(getattr(a, "points", a)) == pytest.approx(np.asarray(getattr(b, "points", b)), rel=1e-13)


def test_prescribed_values_are_read_only() -> None:
    prescribed = supported(lambda x: x[1]).solve().prescribed
    assert prescribed.derivative is not None
    for array in (prescribed.values, prescribed.derivative):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_values_of_nodes_follow_the_group_as_given() -> None:
    points, cells = [[0, 0], [2, 0], [2, 1], [0, 1]], {"quad": [[0, 1, 2, 3]]}
    for group, values in (
        ([3, 0, 2], [30.0, 0.0, 20.0]),
        ([0, 2, 3], [0.0, 20.0, 30.0]),
        ([2, 3, 0], [20.0, 30.0, 0.0]),
    ):
        mesh = fa.Mesh(points, cells, node_groups={"g": group})
        for each in (mesh, mesh.with_points(2 * mesh.points), mesh.with_groups(node_groups={"other": [1]})):
            for value in (values, np.array(values)[:, None]):
                problem = fa.LinearStatic(each, fa.Diffusion(1.0), [fa.Fixed("g", value=value)], threads=1)
                assert problem.solve().u[[0, 2, 3], 0].tolist() == [0.0, 20.0, 30.0]
    mesh = fa.Mesh(points, cells, node_groups={"g": [3, 0, 2]}).with_groups(node_groups={"g": [0, 2, 3]})
    problem = fa.LinearStatic(mesh, fa.Diffusion(1.0), [fa.Fixed("g", value=[0.0, 20.0, 30.0])], threads=1)
    assert problem.solve().u[[0, 2, 3], 0].tolist() == [0.0, 20.0, 30.0]


@pytest.mark.parametrize(
    ("function", "n", "message"),
    [
        (lambda x: x, 1, "shape"),
        (lambda x: x[0], 2, "shape"),
        (lambda x: x.T, 2, "shape"),
        (lambda x: [x[0], x[1], x[0]], 2, "shape"),
        (lambda x: np.ones(4), 1, "shape"),
        (lambda x: 3.0, 2, "shape"),
        (lambda x: None, 1, "failed|shape|finite|NaN"),
        (lambda x: "warm", 1, "failed"),
        (lambda x: x[5], 1, "failed"),
        (lambda x: x @ x, 1, "failed"),
        (lambda x: 1 // 0, 1, "failed"),
        (lambda: 1.0, 1, "failed"),
        (lambda x: [x[0], np.ones(3)], 2, "failed"),
        (lambda x: x[0] * np.nan, 1, "NaN or infinite"),
        (lambda x: np.where(x[0] > 2, np.inf, 0 * x[0]), 1, "NaN or infinite"),
    ],
)
def test_bad_functions(function: Any, n: int, message: str) -> None:
    with pytest.raises(SupportError, match=message) as caught:
        evaluate(function, X2, n, "value of Fixed('clamp')", SupportError)
    assert "value of Fixed('clamp')" in str(caught.value)
    assert isinstance(caught.value, FemadjError)


def test_other_errors_of_the_function_come_through() -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("no such table")

    with pytest.raises((RuntimeError, LoadError), match="no such table"):
        evaluate(broken, X2, 1, "f", LoadError)
