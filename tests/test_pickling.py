"""Problems and solutions that are sent elsewhere: made and solved anew there, with the same numbers."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import femadj as fa
from tests.meshes import box_mesh
from tests.test_display import chain, elastic, stokes

MESH = box_mesh("quad", (3, 2), distortion=0.1, origin=(3.0, -2.0), seed=3)
POINTS = MESH.points + 0.03 * np.sin(3 * MESH.points)
LEFT = [fa.Fixed("left")]


def pull(x: Any) -> Any:
    return [0.1 * x[1], -0.2 + x[0] * 0]


def elastic_here(**options: Any) -> fa.LinearStatic:
    return fa.LinearStatic(MESH, fa.Elasticity(2.0, 0.3), LEFT, [fa.BodyForce(pull)], **options)


def bent() -> fa.NonlinearStatic:
    rubber = fa.Hyperelastic(2.0, 0.3)
    return fa.NonlinearStatic(MESH, rubber, LEFT, [fa.Traction("right", (0.0, -0.02))], newton=fa.Newton(load_steps=2))


def modes() -> fa.Modal:
    return fa.Modal(MESH, fa.Elasticity(2.0, 0.3, density=1.5), LEFT, count=2)


def strut() -> fa.Buckling:
    pushed = fa.LinearStatic(MESH, fa.Elasticity(2.0, 0.3), LEFT, [fa.Traction("right", (-1.0, 0.1))])
    return fa.Buckling(pushed, 2)


def fields(solution: Any) -> list[np.ndarray]:
    if hasattr(solution, "vectors"):
        return [solution.values, solution.vectors]
    return [stage.u for stage in solution.stages.values()]


CASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "linear": (elastic_here, {"E": 3.0}),
    "nonlinear": (bent, None),
    "modal": (modes, {"density": 2.0}),
    "buckling": (strut, None),
    "chain": (chain, {"body.E": 2.0}),
}


@pytest.mark.parametrize("name", CASES)
def test_made_and_solved_anew(name: str) -> None:
    make, parameters = CASES[name]
    problem = make()
    points = problem.mesh.points + 0.02 * np.sin(3 * problem.mesh.points)
    solution = problem.solve(points, parameters)
    for send in (lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy):
        again = send(problem)
        assert (again.counts.factorisations, again.progress) == (0, None)
        found = [again.solve(points, parameters), send(solution)]
        for each in found:
            assert each.problem is not problem
            np.testing.assert_array_equal(each.points, points)
            for a, b in zip(fields(each), fields(solution), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12 * np.abs(b).max())
    assert problem.counts.factorisations == solution.problem.counts.factorisations


def test_settings_go_along() -> None:
    problem = elastic_here(solver="superlu", threads=1, quadrature_order=3, keep_factor=True)
    again = pickle.loads(pickle.dumps(problem))
    names = ("solver", "threads", "quadrature_order", "keep_factor")
    assert [again.arguments[name] for name in names] == ["superlu", 1, 3, True]
    for one, other in zip(elastic().loads, pickle.loads(pickle.dumps(elastic())).loads, strict=True):
        assert repr(one) == repr(other)


def test_problems_over_time() -> None:
    make = {"scheme": fa.SDIRK2(), "times": fa.Times(1.0, 3), "initial": 0.5}
    problem = fa.Transient(MESH, fa.Diffusion(1.0, density=2.0), LEFT, [fa.Source(1.0)], **make)  # type: ignore[arg-type]
    again = pickle.loads(pickle.dumps(problem))
    np.testing.assert_array_equal(again.solve().u, problem.solve().u)
    with pytest.raises(fa.ProblemError, match=r"HistorySolution cannot be pickled.*Pickle the mesh"):
        pickle.dumps(problem.solve())


def test_a_solution_keeps_its_branch() -> None:
    """An equilibrium that was found from a state near by is found from itself, in no iteration to speak of."""
    solution = bent().solve(POINTS)
    again = pickle.loads(pickle.dumps(solution))
    assert again.iterations < solution.iterations
    value, gradient = fa.value_and_gradient(again, fa.FieldNorm())
    true, slopes = fa.value_and_gradient(solution, fa.FieldNorm())
    assert abs(value - true) < 1e-12 * true
    np.testing.assert_allclose(gradient.points, slopes.points, atol=1e-9 * np.abs(slopes.points).max())


def test_what_cannot_be_sent_says_why() -> None:
    problem = fa.LinearStatic(MESH, fa.Elasticity(2.0, 0.3), LEFT, [fa.BodyForce(lambda x: [x[0], x[1]])])
    with pytest.raises(fa.ProblemError, match="LinearStatic cannot be pickled: its argument 'loads' holds BodyForce"):
        pickle.dumps(problem)
    with pytest.raises(fa.ProblemError, match=r"'physics' holds Form.*def at the top of a module"):
        pickle.dumps(stokes().solve())
    assert copy.deepcopy(problem).solve().u.tolist() == problem.solve().u.tolist()  # within a process it can be


ERRORS: list[fa.FemadjError] = [
    fa.TangledMeshError("cells", [3, 4]),
    fa.UnknownGroupError("lef", "facet", ["left"]),
    fa.UnknownParameterError("e", ["E"]),
    fa.MeshFileError("file"),
    fa.SingularSystemError("singular", 3, [1, 2]),
    fa.ResidualError("rough", 1e-3),
    fa.ConvergenceError("lost", 0.5, None, [1]),
    fa.SolverMemoryError("full", 10),
    fa.MissingExtraError("library", "extra", "a picture"),
    fa.RunError("run"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_come_back_from_workers(error: fa.FemadjError) -> None:
    """An exception that cannot be unpickled stops a pool for good."""
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_worker_gets_problems_and_solutions() -> None:
    """Both ways, through a process that shares nothing."""
    problem = elastic_here()
    solution = problem.solve(POINTS)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        value, gradient = pool.apply(fa.value_and_gradient, (solution, fa.Compliance()))
        there = pool.apply(fa.LinearStatic.solve, (problem, POINTS))
    true, slopes = fa.value_and_gradient(solution, fa.Compliance())
    assert abs(value - true) <= 1e-12 * abs(true)
    np.testing.assert_allclose(gradient.points, slopes.points, atol=1e-12 * np.abs(slopes.points).max())
    np.testing.assert_allclose(there.u, solution.u, atol=1e-12 * np.abs(solution.u).max())
