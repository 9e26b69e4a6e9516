"""What the verification catches and accepts where differences are hard, and what it says of rough values."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skfem

import femadj as fa
from femadj.sensitivity.line import STEPS, Samples, clear, order, rounding, sampled
from femadj.sensitivity.sizes import local_sizes
from tests.meshes import box_mesh

FloatArray = npt.NDArray[np.float64]
SCRIPT = Path(__file__).resolve().parent.parent / "bench" / "verify_power.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_power", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["verify_power"] = module
    spec.loader.exec_module(module)
    return module


power = _script()


# ---------------------------------------------------------------------- a small part of the matrix
@pytest.mark.filterwarnings("ignore::femadj.errors.IllConditionedWarning")  # thin bodies amplify rounding
@pytest.mark.parametrize("problem", power.PROBLEMS)
def test_right_gradients_are_accepted(problem: str) -> None:
    for seed in (1000, 1001):
        outcome = power.outcome_of(problem, "none", seed)
        assert outcome.passed, str(outcome)
        assert max(t.resolution for t in outcome.taylor) < (1e-2 if problem in power.DULL else 1e-4)


@pytest.mark.parametrize("fault", [f for f in power.FAULTS if f != "none"])
@pytest.mark.parametrize("problem", [p for p in power.PROBLEMS if p not in power.DULL])
def test_wrong_gradients_are_caught(problem: str, fault: str) -> None:
    outcome = power.outcome_of(problem, fault, 1000)
    assert not outcome.passed
    assert "WRONG" in str(outcome)


def test_brief_verification_catches_the_same(brief: None) -> None:
    for fault in power.FAULTS:
        outcome = power.outcome_of("triangles", fault, 1000)
        assert outcome.passed is (fault == "none"), str(outcome)
        assert len(outcome.taylor) == 1
        assert not outcome.components
        assert not outcome.parameters


# ---------------------------------------------------------------------- large problems
@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem counts as a large one."""
    monkeypatch.setattr(importlib.import_module("femadj.sensitivity.verify"), "BRIEF", 0)


def smooth_problem() -> fa.LinearStatic:
    """A body that differs well."""
    mesh = box_mesh("triangle", (4, 3), distortion=0.12, seed=3)
    return fa.LinearStatic(mesh, fa.Elasticity(3.0, 0.3), [fa.Fixed("left")], [fa.BodyForce((0.3, -1.0))], threads=1)


def test_brief_verification_takes_few_solves_and_says_what_it_leaves_out(brief: None) -> None:
    problem = smooth_problem()
    outcome = fa.verify(problem, fa.FieldNorm(), show=False)
    assert outcome.solves <= 14
    assert [t.name for t in outcome.taylor] == [f"all nodes, {', '.join(problem.parameters)} together"]
    assert outcome.left_out == ("interior and boundary by themselves", "each parameter by itself", "components")
    assert all(words in str(outcome) for words in ("not tested", "interior and boundary", "components"))
    more = fa.verify(problem, fa.FieldNorm(), components=2, show=False)
    assert len(more.components) == 2
    assert "components" not in more.left_out
    for all_of_it in (
        fa.verify(problem, fa.FieldNorm(), thorough=True, show=False),
        fa.verify(problem, fa.FieldNorm(), directions=1, components=4, show=False),
    ):
        assert [t.name for t in all_of_it.taylor] == ["all nodes", "interior", "boundary"]
        assert len(all_of_it.parameters) == len(problem.parameters)
    assert not fa.verify(problem, fa.FieldNorm(), thorough=True, show=False).left_out


def test_unknowns_decide_what_is_large() -> None:
    problem = smooth_problem()
    assert problem.n_unknowns == problem.mesh.points.size
    outcome = fa.verify(problem, fa.FieldNorm(), show=False)
    assert not outcome.left_out
    assert "not tested" not in str(outcome)


def test_parameters_of_a_response_are_said_to_be_left_out() -> None:
    response = fa.Functional(lambda w: w.a * (w.u[0] ** 2 + w.u[1] ** 2), parameters={"a": 2.0})
    outcome = fa.verify(smooth_problem(), response, components=0, show=False)
    assert outcome.left_out == ("parameter 'a' of the response",)


# ---------------------------------------------------------------------- values that are not smooth
@dataclass(frozen=True)
class Rough:
    """``sum |u|^2`` and a function of how far the nodes have moved from where they were, of no derivative."""

    origin: FloatArray
    rough: Callable[[FloatArray], float]
    factor: float = 1.0

    def value(self, solution: fa.Solution) -> float:
        """The value."""
        return float((solution.u**2).sum()) + self.rough(solution.points - self.origin)

    def partials(self, solution: fa.Solution) -> fa.Partials:
        """Derivatives of the smooth part."""
        return fa.Partials(self.value(solution), state=2 * self.factor * solution.u)


def outcome_with(rough: Callable[[FloatArray], float], factor: float = 1.0, **options: Any) -> fa.Verification:
    """Verify a rough response."""
    problem = smooth_problem()
    response = Rough(problem.mesh.points, rough, factor)
    return fa.verify(problem, response, show=False, check=False, **options)


def rows(outcome: fa.Verification, label: str) -> list[str]:
    """Lines of the table with some words."""
    return [line for line in str(outcome).splitlines() if label in line]


@pytest.mark.parametrize(
    "jump",
    [
        lambda moved: 0.3 * bool(moved.any()),
        lambda moved: 1e-6 * bool(moved.any()),
        lambda moved: 0.3 * (moved[0, 0] > 0),
        lambda moved: -0.3 * (moved[0, 0] < 0),
    ],
    ids=["at the design", "small", "to one side", "to the other"],
)
@pytest.mark.parametrize("seed", range(3))
def test_jump_is_no_rounding(jump: Callable[[FloatArray], float], seed: int) -> None:
    outcome = outcome_with(jump, seed=seed)
    assert not outcome.passed
    assert not outcome.rounding.passed
    assert outcome.rounding.noise < 1e-12
    assert "WRONG" in rows(outcome, "jump of the value")[0]


def test_value_that_contradicts_its_partials_is_found() -> None:
    problem = smooth_problem()

    class Twofold(Rough):
        def partials(self, solution: fa.Solution) -> fa.Partials:
            return replace(super().partials(solution), value=1.001 * self.value(solution))

    outcome = fa.verify(problem, Twofold(problem.mesh.points, lambda moved: 0.0), show=False, check=False)
    assert not outcome.rounding.passed
    with pytest.raises(fa.VerificationError, match="WRONG"):
        outcome.raise_if_wrong()


def test_kink_with_the_mean_of_its_slopes_is_wrong_in_the_row_of_its_order() -> None:
    outcome = outcome_with(lambda moved: float(np.abs(moved[:, 0]).sum()))
    assert outcome.taylor[0].rate == pytest.approx(1.0, abs=0.05)
    assert "WRONG" in rows(outcome, "Taylor rate, all")[0]
    assert "ok" not in rows(outcome, "Taylor rate, all")[0]


def noise(size: float) -> Callable[[FloatArray], float]:
    """Noise that is the same whenever the nodes are, and anything else when one of them moves by a hair."""

    def rough(moved: FloatArray) -> float:
        return size * float(np.random.default_rng(np.frombuffer(moved.tobytes(), np.uint32)).normal())

    return rough


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_measured_and_judged_by(seed: int) -> None:
    value = outcome_with(lambda moved: 0.0, components=0).value
    right = outcome_with(noise(1e-9 * value), seed=seed)
    assert right.passed, str(right)
    assert 0.2e-9 < right.rounding.noise / value < 3e-9
    assert 1e-8 < max(t.resolution for t in right.taylor) < 1e-2
    wrong = outcome_with(noise(1e-9 * value), 1.01, seed=seed)
    assert not wrong.passed
    assert "WRONG" in str(wrong)


def test_what_noise_hides_is_not_called_right() -> None:
    value = outcome_with(lambda moved: 0.0, components=0).value
    outcome = outcome_with(noise(0.03 * value))
    assert not outcome.passed
    assert "CANNOT TELL" in str(outcome)
    assert "rounding hides" in " ".join(str(outcome).split())


def test_steps_that_cannot_be_taken_are_told() -> None:
    calls = iter(range(1000))

    def narrow(moved: FloatArray) -> float:
        if next(calls) > 8:  # after the value itself and those that tell its rounding
            raise fa.ResponseError("too far from home")
        return 0.0

    outcome = outcome_with(narrow, components=0)
    assert not outcome.passed
    assert not outcome.taylor[0].steps
    assert "CANNOT TELL: too far from home" in " ".join(str(outcome).replace("│", " ").split())
    with pytest.raises(fa.VerificationError, match="CANNOT TELL"):
        outcome.raise_if_wrong()


def test_large_steps_that_cannot_be_taken_do_no_harm() -> None:
    def narrow(moved: FloatArray) -> float:
        if np.abs(moved).max() > 1e-3:
            raise fa.ResponseError("too far from home")
        return 0.0

    outcome = outcome_with(narrow, components=0)
    assert outcome.passed, str(outcome)
    assert max(outcome.taylor[0].steps) < 0.02


# ---------------------------------------------------------------------- thin and collapsed
@pytest.mark.filterwarnings("ignore::femadj.errors.IllConditionedWarning")  # thin bodies amplify rounding
@pytest.mark.parametrize("thickness", [0.1, 0.035])
@pytest.mark.parametrize("seed", range(3))
def test_thin_plates_are_accepted(thickness: float, seed: int) -> None:
    problem = power.solid(power.plate(np.random.default_rng(seed), thickness))
    outcome = fa.verify(problem, fa.FieldNorm(), seed=seed, components=2, show=False)
    assert outcome.passed


def test_size_at_a_collapsed_corner() -> None:
    points = np.array([[0, 1], [1, 1], [3, 1], [0, 0], [1, 0], [3, 0], [4, 0.5]])
    mesh = fa.Mesh(points, {"quad": [[0, 1, 4, 3], [1, 2, 5, 4], [2, 5, 6, 6]]})
    sizes = local_sizes(mesh)
    assert (sizes > 0.3).all()
    assert (sizes <= 1.0).all()


def test_sizes_are_those_of_the_own_cells() -> None:
    """Columns of cells that get thinner: nodes inside of each have its width."""
    x = np.concatenate([[0.0], np.cumsum(4.0 ** -np.arange(4))])
    mesh = fa.Mesh.from_skfem(skfem.MeshQuad.init_tensor(x, np.linspace(0, 1, 3)))
    sizes = local_sizes(mesh)
    assert sizes[np.isclose(mesh.points[:, 0], 0)] == pytest.approx(0.5)  # the height of the cells
    assert sizes[np.isclose(mesh.points[:, 0], x[-1])] == pytest.approx(4.0**-3)
    scaled = mesh.with_points(1e-3 * mesh.points)
    np.testing.assert_allclose(local_sizes(scaled), 1e-3 * sizes, rtol=1e-12)


def test_far_from_the_origin() -> None:
    """Where coordinates are 1e9 times the cells, verification says what is left to be seen."""
    mesh = box_mesh("triangle", (4, 3), distortion=0.12, seed=3)
    mesh = mesh.with_points(mesh.points + 1e8)
    problem = fa.LinearStatic(mesh, fa.Diffusion(1.0), [fa.Fixed("left")], [fa.Source(1.0)], threads=1)
    outcome = fa.verify(problem, fa.FieldNorm(), components=0, show=False)
    assert outcome.rounding.noise > 1e-11 * outcome.value
    assert 1e-9 < outcome.taylor[0].resolution < 1e-2


# ---------------------------------------------------------------------- lines
def line(function: Callable[[float], float], steps: tuple[float, ...] = STEPS[:6]) -> Samples:
    """Values of a function along a line."""
    return sampled(function, function(0.0), steps, lambda samples: False)


@pytest.mark.parametrize(
    ("function", "slope"),
    [(np.sin, 1.0), (np.exp, 1.0), (lambda t: 1 / (1.5 - t), 1 / 2.25), (lambda t: np.cos(3 * t), 0.0)],
)
def test_limit_of_differences_lies_within_its_uncertainty(function: Callable[[float], float], slope: float) -> None:
    difference, doubt = line(function).difference(2e-16)
    assert abs(difference - slope) <= doubt < 1e-11


def test_smaller_steps_overrule_larger_ones() -> None:
    """A function that looks linear at large steps, with a sharp bend inside of the small ones."""
    function = lambda t: 2.0 * t + 1e-5 * np.tanh(1e6 * t)  # noqa: E731
    far, _ = line(function, STEPS[:5]).difference(1e-16)
    near, doubt = line(function, STEPS).difference(1e-16)
    assert far == pytest.approx(2.0, abs=0.1)
    assert abs(near - 12.0) <= doubt < 0.01


def test_one_step_is_not_enough_to_tell() -> None:
    assert line(np.sin, STEPS[:1]).difference(0.0)[1] == np.inf
    assert line(np.sin, ()).difference(0.0) == (0.0, np.inf)


def test_remainders_and_orders() -> None:
    for power_, slope, expected in ((2, 0.0, 2), (3, 0.0, 3), (2, 0.1, 1)):
        samples = line(lambda t, p=power_: t**p + 0.1 * t, STEPS[:6])
        remainders = samples.remainders(0.1 - slope)
        assert order(clear(samples.steps, remainders, 1e-16)) == pytest.approx(expected, abs=0.02)
    assert order([(0.1, 1e-2), (0.05, 2.5e-3)]) is None
    assert order([(0.4, 1.0), (0.1, 0.1), (0.025, 1e-3)]) is None  # not settled
    assert order([(0.4, 8.0), (0.1, 1.0), (0.025, 0.125)]) is None  # settled, to no whole order
    assert clear((0.1, 0.05), (1e-3, 1e-9), 1e-10) == [(0.1, 1e-3)]


def test_rounding_is_the_spread_and_not_the_jump() -> None:
    rng = np.random.default_rng(0)
    found = [rounding(lambda t: 5 + 3 * t + 1e-9 * rng.normal(), 5.0, 3.0, 1e-8, 4) for _ in range(50)]
    assert np.mean([f.noise for f in found]) == pytest.approx(1e-9, rel=0.15)
    assert all(f.passed for f in found)
    found = [rounding(lambda t: 5 + (t > 0) + 1e-9 * rng.normal(), 5.0, 0.0, 1e-8, 4) for _ in range(50)]
    assert np.mean([f.noise for f in found]) == pytest.approx(1e-9, rel=0.15)
    assert not any(f.passed for f in found)
