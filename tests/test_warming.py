"""After warming up nothing is left to be compiled, and nothing else has happened."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import femadj as fa
from femadj.solvers.rehearsal import RehearsalSolver
from tests.meshes import box_mesh
from tests.solvers.conformance import handed_over

ROOT = Path(__file__).resolve().parent.parent

IN_A_NEW_PROCESS = """
import numpy as np
import skfem
import femadj as fa
from femadj.kernels import compile

made, real = [], compile._compile


def counted(*arguments, **options):
    made.append(arguments[2])
    return real(*arguments, **options)


compile._compile = counted
ends = {"left": lambda x: x[0] < 1e-9, "right": lambda x: x[0] > 1 - 1e-9}
mesh = fa.Mesh.from_skfem(skfem.MeshTri().refined(2)).with_groups(facet_groups=ends)
loads = [fa.BodyForce((0.0, -1.0)), fa.Traction("right", (1.0, 0.0))]
problem = fa.LinearStatic(mesh, fa.Elasticity(E=1.0, nu=0.3, density=2.0), [fa.Fixed("left")], loads)
responses = [fa.FieldNorm(), fa.Compliance(), fa.Mass(), fa.Reaction("left", "x"), fa.Functional(lambda w: w.u[0] ** 2)]
built = set(made)
seconds = fa.warm_up(problem, responses)
warm = len(made)
assert problem.counts.factorisations == 0
for points in (None, mesh.points + np.random.default_rng(0).uniform(-0.01, 0.01, mesh.points.shape)):
    _, gradients = fa.values_and_gradients(problem.solve(points), responses)
    assert all(np.isfinite(gradient.parameters["E"]) for gradient in gradients)
print(*sorted(set(made[:warm]) - built))
print(*made[warm:])
print(*seconds)
"""


def test_a_solution_and_its_gradients_compile_nothing_more() -> None:
    """Counted in a process that has no kernels: those that are on disk are loaded, which goes the same way."""
    command = [sys.executable, "-W", "error", "-c", IN_A_NEW_PROCESS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    by_warming, afterwards, phases = done.stdout.split("\n")[:3]
    assert {"subtract", "judge", "apply_float64", "moments_float64", "interpolate_float64"} <= set(by_warming.split())
    assert afterwards == ""
    assert phases == "rehearse gradients parameters"


@cache
def heated() -> fa.LinearStatic:
    return fa.LinearStatic(box_mesh("quad", (3, 2)), fa.Diffusion(2.0), [fa.Fixed("left", value=1.0)], [fa.Source(1.0)])


def test_it_leaves_the_problem_as_it_was() -> None:
    problem, seen = heated(), list[str]()
    before, counts = problem.solve(), problem.counts

    def progress(name: str) -> AbstractContextManager[object]:
        seen.append(name)
        return nullcontext()

    seconds = fa.warm_up(problem, [fa.FieldNorm()], progress=progress)
    assert list(seconds) == seen == ["rehearse", "gradients", "parameters"]
    assert min(seconds.values()) >= 0
    assert problem.counts == counts
    assert np.array_equal(problem.solve().u, before.u)


def test_a_response_without_a_value_at_any_state() -> None:
    problem = heated()
    warm = fa.Functional(lambda w: np.log(w.u - 0.9))  # of temperatures above one, which solutions have
    assert fa.value_and_gradient(problem.solve(), warm)[0] < 0
    with pytest.raises(fa.ProblemError, match=r"without solving anything: .*solve=True"):
        fa.warm_up(problem, [warm])
    before = problem.counts.factorisations
    assert list(fa.warm_up(problem, [warm], solve=True)) == ["solve", "gradients", "parameters"]
    assert problem.counts.factorisations == before + 1
    with pytest.raises(fa.ResponseError):
        fa.warm_up(problem, [fa.Displacement("left", direction="x")], solve=True)


def test_other_problems_are_solved() -> None:
    mesh, elastic = box_mesh("quad", (3, 2)), fa.Elasticity(E=1.0, nu=0.3, density=1.0)
    body = fa.LinearStatic(mesh, elastic, [fa.Fixed("left")], [fa.ThermalStrain(1e-3, name="heat")])
    chain = fa.Chain({"heat": heated(), "body": body})
    modal = fa.Modal(mesh, elastic, [fa.Fixed("left")], count=2)
    for problem, response in ((chain, fa.FieldNorm()), (modal, fa.Eigenvalue(0))):
        before = problem.counts.factorisations
        assert list(fa.warm_up(problem, [response])) == ["solve", "gradients", "parameters"]
        assert list(fa.warm_up(problem)) == ["solve", "gradients", "parameters"]
        assert problem.counts.factorisations >= before + 2
    with pytest.raises(fa.ProblemError, match="warm_up takes a problem"):
        fa.warm_up(modal.solve())


@pytest.mark.parametrize("kind", ["spd", "general"])
def test_the_rehearsal_divides_by_the_diagonal(kind: str) -> None:
    matrix = np.array([[4.0, 1.0, 0.0], [1.0, 2.0, -1.0], [0.0, -1.0, 5.0]])
    if kind == "general":
        matrix[1] = 0.0, 0.0, 3.0  # a zero on the diagonal stands for a one
    pattern, values = handed_over(np.array(matrix), kind)
    factor = RehearsalSolver().analyse(pattern, kind).factor(values)  # type: ignore[arg-type]
    rhs = np.arange(6.0).reshape(3, 2)
    expected = rhs / np.array([[4.0], [2.0 if kind == "spd" else 1.0], [5.0]])
    assert np.array_equal(factor.solve(rhs), expected)
    assert np.array_equal(factor.T.solve(rhs[:, 1]), expected[:, 1])
    assert factor.correct(rhs[:, 0]).tolist() == expected[:, 0].tolist()
