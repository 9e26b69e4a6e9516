"""The verification itself: it passes right gradients and finds deliberately wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest

import femadj as fa
from femadj.sensitivity.verify import RATE_TOLERANCE, TOLERANCE, ComponentTest, TaylorTest, local_sizes
from tests.meshes import box_mesh

FloatArray = npt.NDArray[np.float64]


def problem_of(cell: str = "triangle", counts: tuple[int, ...] = (4, 3)) -> fa.LinearStatic:
    """A body with interior nodes under several loads."""
    mesh = box_mesh(cell, counts, distortion=0.12, origin=(3.0, -2.0, 5.0)[: len(counts)], seed=3)
    force = np.array([0.3, -1.0, 0.2])[: mesh.dim]
    return fa.LinearStatic(
        mesh,
        fa.Elasticity(3.0, 0.3),
        [fa.Fixed("left", value=lambda x: [0.1 * np.sin(x[0] + x[1])] * mesh.dim)],
        [fa.BodyForce(force), fa.Pressure("top", 0.5)],
        solver=fa.available_solvers()[-1],
    )


@dataclass(frozen=True)
class Moment:
    """``sum(|x|^2 |u|^2)``, with parts by state and by points; ``spoil`` makes them wrong."""

    spoil: Callable[[fa.Solution, fa.Evaluation], fa.Evaluation] = field(default=lambda _, e: e)

    def evaluate(self, solution: fa.Solution) -> fa.Evaluation:
        u, x = solution.u, solution.points
        square, distance = (u**2).sum(axis=1), (x**2).sum(axis=1)
        right = fa.Evaluation(
            value=float(square @ distance), state=2 * distance[:, None] * u, points=2 * square[:, None] * x
        )
        return self.spoil(solution, right)


def interior(mesh: fa.Mesh) -> npt.NDArray[np.bool_]:
    """Nodes off the boundary."""
    inside = np.ones(mesh.n_nodes, dtype=bool)
    inside[mesh.nodes_of("boundary")] = False
    return inside


# ---------------------------------------------------------------------- right gradients
@pytest.mark.parametrize(("cell", "counts"), [("triangle", (4, 3)), ("quad8", (2, 2)), ("tetra", (2, 2, 2))])
def test_right_gradient_passes(cell: str, counts: tuple[int, ...]) -> None:
    problem = problem_of(cell, counts)
    outcome = fa.verify(problem, Moment(), show=False)
    assert outcome.passed
    outcome.raise_if_wrong()
    assert [t.name for t in outcome.taylor] == ["all nodes", "interior", "boundary"]
    for t in outcome.taylor:
        assert t.rate is not None
        assert abs(t.rate - 2) <= RATE_TOLERANCE
        assert len(t.steps) == len(t.remainders) >= 4
        assert list(t.steps) == sorted(t.steps, reverse=True)
        assert min(t.remainders) > t.noise > 0
    assert len(outcome.components) == 4
    gradient = fa.value_and_gradient(problem.solve(), Moment())[1].points
    assert outcome.largest == np.abs(gradient).max()
    assert outcome.components[0].gradient in (outcome.largest, -outcome.largest)
    for c in outcome.components:
        assert c.gradient == gradient[c.node, c.axis]
        assert abs(c.difference - c.gradient) <= TOLERANCE * outcome.largest


def test_problem_is_left_alone_and_rebuilt_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of()
    rebuilt = []
    original = fa.LinearStatic.rebuilt

    def counting(self: fa.LinearStatic, points: npt.ArrayLike) -> fa.LinearStatic:
        rebuilt.append(original(self, points))
        return rebuilt[-1]

    monkeypatch.setattr(fa.LinearStatic, "rebuilt", counting)
    outcome = fa.verify(problem, Moment(), show=False)
    assert len(rebuilt) == outcome.solves > 30
    assert problem.counts.factorisations == 1
    assert all(r.residual is not problem.residual and r.counts.factorisations == 1 for r in rebuilt)


def test_options() -> None:
    problem = problem_of()
    outcome = fa.verify(problem, Moment(), directions=2, components=0, seed=5, show=False)
    assert not outcome.components
    assert [t.name for t in outcome.taylor] == [
        f"{n} {i}" for n in ("all nodes", "interior", "boundary") for i in (1, 2)
    ]
    again = fa.verify(problem, Moment(), directions=2, components=0, seed=5, show=False)
    assert again == outcome
    assert fa.verify(problem, Moment(), directions=2, components=0, seed=6, show=False) != outcome
    many = fa.verify(problem, Moment(), directions=0, components=10**6, show=False)
    assert len(many.components) == problem.mesh.points.size
    assert {(c.node, c.axis) for c in many.components} == {(n, a) for n in range(problem.mesh.n_nodes) for a in (0, 1)}


def test_at_other_points() -> None:
    problem = problem_of()
    size = local_sizes(problem.mesh)
    x = problem.mesh.points + 0.1 * size[:, None] * np.random.default_rng(0).uniform(-1, 1, problem.mesh.points.shape)
    outcome = fa.verify(problem, Moment(), points=x, components=2, show=False)
    assert outcome.value == pytest.approx(Moment().evaluate(problem.solve(x)).value, rel=1e-12)
    gradient = fa.value_and_gradient(problem.solve(x), Moment())[1].points
    assert outcome.largest == pytest.approx(np.abs(gradient).max(), rel=1e-12)


def test_threads_and_solver_of_the_problem_are_kept() -> None:
    mesh = box_mesh("triangle", (3, 3), distortion=0.1)
    for options in ({"threads": 1}, {"threads": 2, "solver": "superlu"}, {"solver": fa.get_solver("superlu")}):
        problem = fa.LinearStatic(mesh, fa.Diffusion(), [fa.Fixed("left")], [fa.Source(1.0)], **options)
        assert fa.verify(problem, fa.FieldNorm(), components=2, show=False).passed


def test_progress_is_told() -> None:
    phases = []

    @contextmanager
    def watch(name: str) -> Iterator[None]:
        phases.append(name)
        yield

    problem = problem_of()
    fa.verify(problem, Moment(), components=1, show=False, progress=watch)
    assert phases[0] == "solve"
    assert sum("Taylor" in p for p in phases) == 3
    assert sum("difference" in p for p in phases) == 1 + len(problem.parameters)


def test_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    problem = problem_of()
    outcome = fa.verify(problem, Moment(), components=2)
    printed = capsys.readouterr().out
    for text in (printed, str(outcome)):
        assert "Moment" in text
        assert "Taylor rate, all nodes" in text
        assert "Taylor rate, interior" in text
        assert "Taylor rate, boundary" in text
        assert f"of node {outcome.components[0].node}" in text
        assert "ok" in text
        assert "WRONG" not in text
    fa.verify(problem, Moment(), components=0, directions=0, show=False)
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------------- without a second derivative, without a first
def test_linear_response_passes() -> None:
    problem = problem_of()
    outcome = fa.verify(problem, fa.Volume(), show=False)
    rates = {t.name: t.rate for t in outcome.taylor}
    assert rates["interior"] is None  # the area does not depend on the interior nodes
    assert rates["all nodes"] == pytest.approx(2, abs=RATE_TOLERANCE)
    assert "linear (rounding only)" in str(outcome)


def test_cubic_remainder_passes() -> None:
    test = TaylorTest("x", (0.1, 0.05), (1e-3, 1.25e-4), 1e-16, 3.0, 1.0, 1.0, 0.0)
    assert test.passed
    assert not replace(test, rate=2.5).passed
    assert not replace(test, rate=1.0).passed
    assert not replace(test, rate=0.0).passed
    assert not replace(test, rate=1.94).passed
    assert not replace(test, rate=2.0, error=2e-7).passed


@dataclass(frozen=True)
class Constant:
    """A response that depends on nothing."""

    value: float

    def evaluate(self, solution: fa.Solution) -> fa.Evaluation:
        return fa.Evaluation(self.value, state=np.zeros_like(solution.u), points=np.zeros_like(solution.points))


@pytest.mark.parametrize("value", [1.7, 0.0])
def test_zero_gradient_passes(value: float) -> None:
    outcome = fa.verify(problem_of(), Constant(value), show=False)
    assert outcome.largest == 0.0
    assert [t.rate for t in outcome.taylor] == [None, None, None]


def test_response_that_is_always_zero_passes() -> None:
    mesh = box_mesh("triangle", (3, 2), distortion=0.1)
    problem = fa.LinearStatic(mesh, fa.Elasticity(1.0, 0.3), [fa.Fixed("left")], [fa.BodyForce((0.0, -1.0))])
    assert fa.verify(problem, fa.Displacement("left", "y"), show=False).passed


def test_mesh_without_interior_nodes() -> None:
    problem = problem_of("quad", (2, 1))
    outcome = fa.verify(problem, Moment(), show=False)
    assert [t.name for t in outcome.taylor] == ["all nodes", "boundary"]


def test_slender_cells_are_no_obstacle() -> None:
    """Steps that are small against the edges turn flat cells inside out; they must be left out."""
    mesh = fa.Mesh(
        [[0, 0], [1, 0], [2, 0], [0, 1], [1, 0.985], [2, 1.0]],
        {"triangle": [[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4], [3, 4, 5]]},
        node_groups={"held": [0, 3]},
    )
    assert mesh.quality().min() < 0.05
    problem = fa.LinearStatic(mesh, fa.Diffusion(), [fa.Fixed("held")], [fa.Source(1.0)])
    assert fa.verify(problem, fa.FieldNorm(), show=False).passed


# ---------------------------------------------------------------------- wrong gradients
def one_node(rank: float) -> Callable[[fa.Solution, fa.Evaluation], fa.Evaluation]:
    """One node's part by the points off by 1e-4, the node given by the rank of its part."""

    def spoil(_: fa.Solution, e: fa.Evaluation) -> fa.Evaluation:
        assert e.points is not None
        points = e.points.copy()
        order = np.argsort(np.abs(points).max(axis=1))
        points[order[round(rank * (len(order) - 1))]] *= 1 + 1e-4
        return replace(e, points=points)

    return spoil


def only_boundary(solution: fa.Solution, e: fa.Evaluation) -> fa.Evaluation:
    """The interior nodes forgotten."""
    assert e.points is not None
    return replace(e, points=np.where(interior(solution.problem.mesh)[:, None], 0.0, e.points))


def only_interior(solution: fa.Solution, e: fa.Evaluation) -> fa.Evaluation:
    """The boundary nodes forgotten."""
    assert e.points is not None
    return replace(e, points=np.where(interior(solution.problem.mesh)[:, None], e.points, 0.0))


def part(state: float, points: float) -> Callable[[fa.Solution, fa.Evaluation], fa.Evaluation]:
    """Scaled parts."""

    def spoil(_: fa.Solution, e: fa.Evaluation) -> fa.Evaluation:
        assert e.state is not None
        assert e.points is not None
        return replace(e, state=state * e.state, points=points * e.points)

    return spoil


def swapped(_: fa.Solution, e: fa.Evaluation) -> fa.Evaluation:
    """Axes mixed up."""
    assert e.points is not None
    return replace(e, points=np.ascontiguousarray(e.points[:, ::-1]))


WRONG = {
    "one node, the largest": one_node(1.0),
    "one node, a large one": one_node(0.8),
    "one node, a middling one": one_node(0.6),
    "sign of the points part": part(1.0, -1.0),
    "no points part": lambda _, e: replace(e, points=None),
    "no state part": lambda _, e: replace(e, state=None),
    "boundary only": only_boundary,
    "interior only": only_interior,
    "state part scaled": part(1.001, 1.0),
    "points part scaled": part(1.0, 0.999),
    "half of everything": part(0.5, 0.5),
    "axes swapped": swapped,
    "nothing at all": lambda _, e: replace(e, points=None, state=None),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_wrong_gradient_is_found(spoil: Callable[[fa.Solution, fa.Evaluation], fa.Evaluation]) -> None:
    problem = problem_of()
    outcome = fa.verify(problem, Moment(spoil), seed=1, show=False, check=False)
    assert not outcome.passed
    with pytest.raises(fa.VerificationError, match=r"Moment[\s\S]*WRONG"):
        outcome.raise_if_wrong()
    outcome = fa.verify(problem, Moment(spoil), seed=1, components=0, show=False, check=False)
    assert not outcome.passed  # without luck in the choice of components


def test_wrong_interior_is_found_at_the_interior() -> None:
    outcome = fa.verify(problem_of(), Moment(only_boundary), show=False, check=False)
    passed = {t.name: t.passed for t in outcome.taylor}
    assert passed == {"all nodes": False, "interior": False, "boundary": True}
    outcome = fa.verify(problem_of(), Moment(only_interior), show=False, check=False)
    passed = {t.name: t.passed for t in outcome.taylor}
    assert passed == {"all nodes": False, "interior": True, "boundary": False}


def test_wrong_gradient_of_a_tiny_or_huge_response_is_found() -> None:
    for scale in (1e-18, 1e18):

        def spoil(_: fa.Solution, e: fa.Evaluation, scale: float = scale) -> fa.Evaluation:
            assert e.state is not None
            assert e.points is not None
            return fa.Evaluation(scale * e.value, state=scale * e.state, points=scale * e.points)

        assert fa.verify(problem_of(), Moment(spoil), show=False).passed

        def worse(s: fa.Solution, e: fa.Evaluation, spoil: Callable[..., fa.Evaluation] = spoil) -> fa.Evaluation:
            return part(1.001, 1.0)(s, spoil(s, e))

        assert not fa.verify(problem_of(), Moment(worse), show=False, check=False).passed


def test_component_off_by_more_than_the_tolerance_fails() -> None:
    test = ComponentTest(0, 1, 0, 1.0, 1.0 + 2e-7, 2e-7)
    assert not test.passed
    assert replace(test, error=0.5e-7).passed
    assert not replace(test, error=float("nan")).passed
    assert not TaylorTest("x", (0.1, 0.05), (1e-3, 1e-3), 1e-16, float("nan"), 1.0, 1.0, 0.0).passed


def test_printed_table_names_the_failure(capsys: pytest.CaptureFixture[str]) -> None:
    fa.verify(problem_of(), Moment(part(-1.0, 1.0)), check=False)
    assert "WRONG" in capsys.readouterr().out


# ---------------------------------------------------------------------- steps
@pytest.mark.parametrize("cell", ["quad", "quad8"])
def test_local_sizes_of_right_angled_cells_are_their_shortest_edges(cell: str) -> None:
    mesh = box_mesh(cell, (2, 4), lengths=(2.0, 1.0))
    quadratic = 0.5 if cell == "quad8" else 1.0
    assert local_sizes(mesh) == pytest.approx(np.full(mesh.n_nodes, 0.25 * quadratic))


def test_local_size_of_a_slender_triangle_is_about_its_height() -> None:
    mesh = fa.Mesh([[0, 0], [1, 0], [0.4, 0.01]], {"triangle": [[0, 1, 2]]})
    assert (local_sizes(mesh) < 0.012).all()
