"""Solutions are right, bounded, or refused: scales, condition, contrast, null vectors, memory."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import textwrap
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import skfem
from skfem.helpers import ddot, sym_grad

import femadj as fa
from femadj.errors import IllConditionedError, IllConditionedWarning, ResidualError, SingularSystemError, SolverError
from femadj.solvers import SOLVERS, MatrixKind, PardisoSolver, Solver, available_solvers, get_solver, mkl
from femadj.solvers.condition import STEPS, largest
from femadj.solvers.matrix import UNIT_ROUNDOFF, Matrix, Structure
from tests.gpu import marked
from tests.meshes import box_mesh
from tests.solvers import random_systems
from tests.solvers.conformance import (
    advection_diffusion,
    assert_solves,
    factorise,
    handed_over,
    laplacian,
    saddle_point,
    two_material_chain,
    vectors,
)

FloatArray = npt.NDArray[np.float64]
needs_pardiso = pytest.mark.skipif("pardiso" not in available_solvers(), reason="pypardiso or MKL is missing")


@pytest.fixture(params=marked(SOLVERS))
def solver(request: pytest.FixtureRequest) -> Solver:
    if request.param not in available_solvers():
        pytest.skip(f"{request.param} does not work here")
    return get_solver(request.param)


def matrix_of(dense: npt.ArrayLike, kind: MatrixKind = "general", rounding: float = UNIT_ROUNDOFF) -> Matrix:
    pattern, values = handed_over(sp.csr_array(np.asarray(dense, dtype=float)), kind)
    return Matrix(Structure(pattern, kind), values, rounding)


# ----------------------------------------------------------------------------------------------- products
@pytest.mark.parametrize(("kind", "transposed"), [("general", False), ("general", True), ("symmetric", False)])
def test_precise_residuals_against_fractions(kind: MatrixKind, transposed: bool) -> None:
    rng = np.random.default_rng(1)
    n = 12
    dense = rng.normal(size=(n, n)) * 10.0 ** rng.integers(-8, 8, (n, n)) * (rng.random((n, n)) < 0.7) + np.eye(n)
    dense = dense + dense.T if kind == "symmetric" else dense
    x = rng.normal(size=n) * 10.0 ** rng.integers(-3, 3, n)
    b = (dense.T if transposed else dense) @ x  # all that is left of it is rounding
    parts = matrix_of(dense, kind).residual(b, x, transposed=transposed, precise=True)
    plain, sizes = matrix_of(dense, kind).residual(b, x, transposed=transposed)
    for i, row in enumerate(dense.T if transposed else dense):
        products = [Fraction(a) * Fraction(c) for a, c in zip(row, x, strict=True)]
        exact, size = Fraction(b[i]) - sum(products), sum(map(abs, products)) + abs(Fraction(b[i]))
        assert abs(sum(map(Fraction, parts[:, i])) - exact) <= 2.0**-98 * size
        assert abs(Fraction(plain[i]) - exact) <= (n + 1) * 2.0**-52 * size
        assert sizes[i] == pytest.approx(float(sum(map(abs, products))), rel=1e-14)


def omegas(dense: FloatArray, b: FloatArray, x: FloatArray, unknowns: FloatArray) -> float:
    """The sum of both backward errors, from their definition."""
    n, first, second = len(b), 0.0, 0.0
    for i in range(n):
        off, product = abs(b[i] - dense[i] @ x), np.abs(dense[i]) @ np.abs(x)
        norm = (np.abs(dense[i]) @ unknowns) * np.abs(x / unknowns).max()
        if product + abs(b[i]) > 1000 * n * 2.0**-52 * (norm + abs(b[i])):
            first = max(first, off / (product + abs(b[i])))
        else:
            second = max(second, off / (product + norm))
    return first + second


@pytest.mark.parametrize("transposed", [False, True])
def test_backward_errors_are_those_of_their_definition(transposed: bool) -> None:
    rng = np.random.default_rng(2)
    dense = rng.normal(size=(8, 8)) * (rng.random((8, 8)) < 0.5) + np.diag(10.0 ** rng.uniform(-6, 6, 8))
    x, b = rng.normal(size=8), rng.normal(size=8)
    if not transposed:  # a row of zeros of x and b: the second kind of denominators
        x[dense[3] != 0.0], b[3] = 0.0, 0.0
        x[np.flatnonzero(dense[3])[0]] = 1e-30
    matrix = matrix_of(dense)
    used = dense.T if transposed else dense
    expected = omegas(used, b, x, matrix.rows if transposed else matrix.columns)
    found = matrix.judged(b, x, transposed=transposed)
    assert found.backward_error == pytest.approx(expected, rel=1e-10)
    size = matrix.size(transposed=transposed)
    np.testing.assert_allclose(size.equations, np.abs(used) @ size.unknowns)
    norm = np.abs(x / size.unknowns).max()
    disturbed = np.abs(b - used @ x) + UNIT_ROUNDOFF * (np.abs(used) @ np.abs(x) + np.abs(b))
    assert found.disturbance == pytest.approx((disturbed / (size.equations * norm)).max(), rel=1e-10)
    assert math.isnan(matrix.judged(b, np.full(8, np.inf), transposed=transposed).backward_error)


@pytest.mark.parametrize("kind", ["general", "symmetric"])
def test_equilibration(kind: MatrixKind) -> None:
    rng = np.random.default_rng(3)
    n = 60
    dense = random_systems.base(rng, "general", n)
    dense = dense + dense.T if kind == "symmetric" else dense
    rows = 10.0 ** rng.uniform(-9, 9, n)
    dense = dense * rows[:, None] * (rows if kind == "symmetric" else 10.0 ** rng.uniform(-9, 9, n))
    matrix = matrix_of(dense, kind)
    assert matrix.scaled
    for scale in (matrix.rows, matrix.columns):
        assert np.array_equal(np.frexp(scale)[0], np.full(n, 0.5))  # powers of two
    even = matrix.rows[:, None] * dense * matrix.columns
    for sums in (np.abs(even).sum(axis=0), np.abs(even).sum(axis=1)):
        assert sums.max() <= 20 * sums.min()
    assert np.array_equal(matrix.rows, matrix.columns) == (kind == "symmetric")
    whole = even if kind == "general" else np.triu(even)
    np.testing.assert_array_equal(
        np.sort(matrix.equilibrated()[matrix.equilibrated() != 0]), np.sort(whole[whole != 0])
    )


def test_even_matrices_are_not_copied() -> None:
    for kind in ("spd", "symmetric", "general"):
        matrix = matrix_of(laplacian(9).toarray() * 1e9, kind)
        assert not matrix.scaled
        assert matrix.equilibrated() is matrix.values


# ------------------------------------------------------------------------------------------- estimates
def test_condition_estimates() -> None:
    """A lower bound, rarely far off, for at most five solves."""
    ratios = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        dense = rng.normal(size=(30, 30)) * 10.0 ** rng.uniform(-3, 3, 30)
        inverse, v, scale = np.linalg.inv(dense), rng.uniform(0, 1, 30), 10.0 ** rng.uniform(-2, 2, 30)
        solves = 0

        def solve(b: FloatArray, transposed: bool, inverse: FloatArray = inverse) -> FloatArray:
            nonlocal solves
            solves += 1
            return (inverse.T if transposed else inverse) @ b

        for transposed in (False, True):
            exact = (np.abs(inverse.T if transposed else inverse) @ v / scale).max()
            solves = 0
            estimate = largest(solve, v, scale, transposed=transposed)
            assert solves <= 1 + 2 * STEPS
            assert np.abs(estimate.vector / scale).max() <= estimate.size * (1 + 1e-12)
            ratios.append(estimate.size / exact)
    assert max(ratios) <= 1 + 1e-10
    assert min(ratios) > 0.3
    assert np.median(ratios) > 0.95


# ------------------------------------------------------------------------------------ scales and verdicts
@pytest.mark.filterwarnings("ignore::femadj.errors.IllConditionedWarning")
@pytest.mark.parametrize("family", range(len(random_systems.FAMILIES)))
def test_random_systems(solver: Solver, family: int) -> None:
    """A part of the thousand that ``python -m tests.solvers.random_systems`` goes through."""
    verdicts = []
    for seed in range(20_000 + family, 20_160 + family, len(random_systems.FAMILIES)):
        system = random_systems.random_system(seed)
        outcome = random_systems.judge(solver, system)
        assert outcome.verdict in ("right", "refused"), (system.name, f"{system.condition:.1e}", outcome)
        verdicts.append(outcome.verdict)
    assert 16 < verdicts.count("right") < len(verdicts)


@pytest.mark.parametrize("kind", ["symmetric", "general"])
@pytest.mark.parametrize("decades", [-15, -9, 9])
def test_blocks_of_different_units(solver: Solver, kind: MatrixKind, decades: int) -> None:
    """Mixed formulations: the block of the second field is small or large, whatever the units."""
    base, n = saddle_point(12), 144
    scale = np.where(np.arange(base.shape[0]) < n, 10.0**decades, 10.0**-decades)
    scaled = sp.csr_array(sp.diags_array(scale) @ base @ sp.diags_array(scale))
    known = vectors(base.shape[0], seed=4)
    factor = factorise(solver, scaled, kind)
    x = factor.solve((base @ known) * scale) * scale
    assert np.abs(x - known).max() <= 1e-9
    assert factor.statistics.relative_residual <= 1e-14
    lam = factor.T.solve((base.T @ known) * scale) * scale
    assert np.abs(lam - known).max() <= 1e-9


@pytest.mark.parametrize("tiny", [1e-5, 1e-9, 1e-15, 1e-30, 0.0])
def test_tiny_diagonals(solver: Solver, tiny: float) -> None:
    """Pairs of unknowns that exchange forces: well-conditioned, and nothing on the diagonal to pivot with."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        n = 40
        pairs = rng.permutation(n).reshape(2, -1)
        dense = sparse_symmetric(rng, n, 0.05)
        dense[pairs[0], pairs[1]] = dense[pairs[1], pairs[0]] = rng.uniform(0.5, 2.0, n // 2)
        np.fill_diagonal(dense, tiny)
        assert np.linalg.cond(dense) < 1e3
        assert_solves(factorise(solver, sp.csr_array(dense), "symmetric"), sp.csr_array(dense), tolerance=1e-10)


def sparse_symmetric(rng: np.random.Generator, n: int, size: float) -> FloatArray:
    dense = size * rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.1)
    return dense + dense.T


def test_rows_of_different_sizes_and_their_gradient(solver: Solver) -> None:
    """By hand: ``x = (2, 1, -1) / theta``."""
    scale = np.array([1e-17, 1e-17, 1e4])
    M = np.array([[1.0, -1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 3.0, 1.0]]) * scale[:, None]
    system = fa.LinearSystem(lambda t: t * M, M @ [2.0, 1.0, -1.0], solver=solver)
    solution = system.solve(2.0)
    np.testing.assert_allclose(solution.x, [1.0, 0.5, -0.5], rtol=1e-14)
    _, gradient = system.value_and_gradient(solution, lambda x, theta: x[0] * x[2])
    assert gradient.theta == pytest.approx(2 * 2.0 / 8.0, rel=1e-12)  # of -2 / theta^2
    assert system.counts.factorisations == 1


# ---------------------------------------------------------------------------------------- null vectors
@pytest.mark.parametrize("kind", ["symmetric", "general"])
@pytest.mark.parametrize("factor", [1.0, -0.5, 3.0])
def test_dependent_constraints_are_named(kind: MatrixKind, factor: float) -> None:
    """The multipliers of two constraints, one a multiple of the other, are free: ``(factor, -1)``."""
    n, pair = 81, (83, 89)
    for seed in range(8):
        dense = saddle_point(9, seed=seed).toarray()
        dense[pair[1]], dense[:, pair[1]] = factor * dense[pair[0]], factor * dense[:, pair[0]]
        assert np.linalg.matrix_rank(dense) == n + n // 4 - 1
        for name in available_solvers():
            with pytest.raises(SingularSystemError, match=r"free to move together|at equation") as info:
                factorise(get_solver(name), sp.csr_array(dense), kind)
            assert set(info.value.unknowns) <= set(pair)
            assert info.value.unknowns[0] == info.value.equation


def test_scaled_floating_parts(solver: Solver) -> None:
    """Diagonal scaling hides neither that a part is free nor which."""
    rng = np.random.default_rng(5)
    stiff = sp.csr_array(laplacian(6) - 0.0 * sp.eye_array(36))
    floating = sp.csr_array(sp.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(14, 15)))
    matrix = sp.block_diag([stiff, floating.T @ floating, stiff])
    for _ in range(10):
        scale = sp.diags_array(2.0 ** rng.integers(-20, 20, matrix.shape[0]))
        for kind in ("spd", "symmetric", "general"):
            with pytest.raises(SingularSystemError) as info:
                factorise(solver, sp.csr_array(scale @ matrix @ scale), kind)
            assert info.value.unknowns
            assert all(36 <= number < 51 for number in info.value.unknowns)


def strip(n: int, **groups: Any) -> fa.Mesh:
    mesh = skfem.MeshQuad.init_tensor(np.linspace(0, 4, 4 * n + 1), np.linspace(0, 1, n + 1))
    return fa.Mesh.from_skfem(mesh).with_groups(
        facet_groups={"left": lambda x: x[0] < 1e-9, "right": lambda x: x[0] > 4 - 1e-9}, **groups
    )


def test_null_vectors_are_told_by_node_and_component(solver: Solver) -> None:
    """Two bodies, one of which only ``x = 0`` holds: the supports as a whole leave no motion free."""
    left = skfem.MeshQuad.init_tensor(np.linspace(0, 1, 4), np.linspace(0, 1, 4))
    right = skfem.MeshQuad.init_tensor(np.linspace(3, 4, 3), np.linspace(0, 1, 3))
    mesh = fa.Mesh.from_skfem(joined(left, right))
    mesh = mesh.with_groups(facet_groups={"a": lambda x: x[0] < 1e-9, "b": lambda x: x[0] > 4 - 1e-9})
    supports = [fa.Fixed("a"), fa.Fixed("b", "x")]
    form = fa.Form(lambda u, v, w: ddot(sym_grad(u), sym_grad(v)), lambda v, w: v[0], element="vector")
    problem = fa.LinearStatic(mesh, form, supports, solver=solver)
    with pytest.raises(SingularSystemError, match=r"node \d+ at \(.*\), component y; node") as info:
        problem.solve()
    assert "component x" not in str(info.value)
    n_left = left.p.shape[1]
    assert all(number % 2 == 1 and number // 2 >= n_left for number in info.value.unknowns)


def joined(left: skfem.MeshQuad, right: skfem.MeshQuad) -> skfem.MeshQuad:
    return skfem.MeshQuad(np.hstack([left.p, right.p]), np.hstack([left.t, right.t + left.p.shape[1]]))


# ------------------------------------------------------------------------------------------- contrast
def extension(n: int, contrast: float) -> FloatArray:
    """Displacements of the chain of two materials pulled at its end, from the series of springs."""
    k = np.where(np.arange(n) < n // 2, 1.0, contrast)
    return np.array([float(sum(Fraction(1) / Fraction(float(each)) for each in k[: i + 1])) for i in range(n)])


@pytest.mark.parametrize("kind", ["spd", "symmetric", "general"])
@pytest.mark.parametrize("contrast", [1.0, 1e4, 1e8, 1e10, 1e13])
def test_bounds_of_the_error_hold(solver: Solver, kind: MatrixKind, contrast: float) -> None:
    n = 60
    load = np.zeros(n)
    load[-1] = 1.0
    exact = extension(n, contrast)
    matrix = two_material_chain(n, contrast)
    if contrast == 1e13:
        with pytest.raises((IllConditionedError, SingularSystemError)):
            factorise(solver, matrix, kind).solve(load)
        return
    factor = factorise(solver, matrix, kind)
    if contrast >= 1e8:
        with pytest.warns(IllConditionedWarning, match="wrong by") as caught:
            x = factor.solve(load)
        assert caught[0].filename == __file__
    else:
        x = factor.solve(load)
    statistics = factor.statistics
    error = np.abs(x - exact).max() / exact.max()
    assert error <= statistics.forward_error <= 1e-2
    assert 0.3 * skeel(matrix) <= statistics.condition <= 3 * skeel(matrix)
    assert statistics.extra_solves <= 20


def skeel(matrix: sp.csr_array) -> float:
    dense = matrix.toarray()
    scale = 1.0 / np.sqrt(dense.diagonal())
    even = dense * scale[:, None] * scale
    return float((np.abs(np.linalg.inv(even)) @ np.abs(even)).sum(axis=1).max())


def test_the_limit_is_the_callers() -> None:
    load = vectors(60)
    matrix = two_material_chain(60, 1e10)
    with pytest.raises(IllConditionedError, match="condition number") as info:
        factorise(get_solver("superlu").__class__(forward_tolerance=1e-5), matrix, "spd").solve(load)
    assert info.value.forward_error > 1e-5
    assert 0 <= info.value.equation < 60
    with pytest.warns(IllConditionedWarning):
        factorise(get_solver("superlu").__class__(forward_tolerance=1.0), matrix, "spd").solve(load)


def test_well_conditioned_solves_cost_nothing_extra(solver: Solver) -> None:
    for matrix, kind in ((laplacian(60), "spd"), (laplacian(12, 3), "spd"), (advection_diffusion(40, 3.0), "general")):
        factor = factorise(solver, matrix, kind)
        before = factor.statistics.extra_solves  # SuperLU looks at general matrices after every factorisation
        factor.solve(vectors(matrix.shape[0], 3))
        factor.T.solve(vectors(matrix.shape[0]))
        assert factor.statistics.extra_solves == before <= (0 if solver.name == "pardiso" else 6) * (kind != "spd")
        assert factor.statistics.refinements == 0


@pytest.mark.parametrize("solver_name", available_solvers())
def test_contrast_of_materials(solver_name: str) -> None:
    """Between a ratio of 1e6 and a rigid part the compliance may change by 1e-6."""

    def problem(ratio: float) -> fa.LinearStatic:
        mesh = strip(4, cell_groups={"soft": lambda x: x[0] < 2, "hard": lambda x: x[0] > 2})
        physics = fa.Elasticity(E={"soft": 1.0, "hard": ratio}, nu=0.3)
        load = fa.Traction("right", (0.0, -1.0))
        return fa.LinearStatic(mesh, physics, [fa.Fixed("left")], [load], solver=solver_name)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        value, gradient = fa.value_and_gradient(problem(1e6).solve(), fa.Compliance())
    refused, accepted = [], []
    for ratio in (1e8, 1e9, 1e10, 1e11, 1e12):
        built = problem(ratio)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                solution = built.solve()
            except (IllConditionedError, SingularSystemError) as error:
                refused.append((ratio, str(error)))
                continue
            compliance, slope = fa.value_and_gradient(solution, fa.Compliance())
            bound = solution.factor.statistics.forward_error
            assert slope.forward_error == bound  # self-adjoint
            _, slope_of_norm = fa.value_and_gradient(solution, fa.FieldNorm())  # with an adjoint state of its own
            assert slope_of_norm.forward_error == max(bound, solution.factor.statistics.forward_error)
        assert [each.category for each in caught] == 2 * [IllConditionedWarning]
        assert caught[0].filename == __file__
        assert max(abs(compliance / value - 1), largest_difference(slope.points, gradient.points)) <= bound + 1e-6
        assert 1e-6 < bound < 1e-2
        assert built.counts.factorisations == 1
        assert solution.factor.statistics.extra_solves <= 30
        accepted.append(ratio)
    assert accepted[0] == 1e8
    assert [ratio for ratio, _ in refused][-3:] == [1e10, 1e11, 1e12]
    for _, said in refused:
        assert "node" in said
        assert "component" in said


def largest_difference(a: FloatArray, b: FloatArray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


# ------------------------------------------------------------------------------------------- breakdowns
def test_overwritten_values_are_noticed_in_scaled_matrices(solver: Solver) -> None:
    pattern, values = handed_over(
        sp.csr_array(advection_diffusion(6, 2.0) * np.logspace(-6, 6, 36)[:, None]), "general"
    )
    factor = solver.analyse(pattern, "general").factor(values)
    values *= 2.0
    with pytest.raises(ResidualError, match="changed"):
        factor.solve(np.ones(36))


@needs_pardiso
@pytest.mark.parametrize("phase", [mkl.ANALYSE, mkl.FACTORISE])
def test_out_of_memory_once(monkeypatch: pytest.MonkeyPatch, phase: int) -> None:
    """The handle that ran out of memory is given up; factors that are alive on it keep working."""
    call = mkl.Native.call
    broken: set[int] = set()
    full = True

    def starved(self: mkl.Native, number: int, *arguments: Any, **named: Any) -> None:
        if (full and number == phase) or (id(self) in broken and number == mkl.FACTORISE):
            broken.add(id(self))
            self.iparm[15], self.iparm[16] = 1_500_000, 500_000
            raise mkl.PardisoFailureError(-2, number, -1, self.needed_bytes())
        call(self, number, *arguments, **named)

    matrix = laplacian(20)
    pattern, values = handed_over(matrix, "spd")
    symbolic = PardisoSolver().analyse(pattern, "spd")
    live = symbolic.factor(values)
    monkeypatch.setattr(mkl.Native, "call", starved)
    for _ in range(2):
        with pytest.raises(fa.SolverMemoryError, match=r"about 2 GB are needed\. Close or drop") as info:
            (PardisoSolver().analyse(pattern, "spd") if phase == mkl.ANALYSE else symbolic).factor(values)
        assert isinstance(info.value, (MemoryError, fa.FemadjError))
        assert info.value.needed_bytes == 1024 * 2_000_000
    full = False
    assert_solves(symbolic.factor(values), matrix)
    assert_solves(live, matrix)


@needs_pardiso
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set in the way of Linux")
def test_recovers_from_a_limit_of_memory() -> None:
    code = """
    import resource
    import numpy as np
    import femadj as fa
    from femadj.solvers import PardisoSolver
    from tests.solvers.conformance import handed_over, laplacian, assert_solves
    matrix = laplacian(32, 3)
    pattern, values = handed_over(matrix, "spd")
    assert_solves(PardisoSolver(threads=1).analyse(*[handed_over(laplacian(4), "spd")[0], "spd"]).factor(
        handed_over(laplacian(4), "spd")[1]), laplacian(4))
    symbolic = PardisoSolver(threads=1).analyse(pattern, "spd")
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 40 * 2**20, resource.RLIM_INFINITY))
    said = None
    try:
        symbolic.factor(values)
    except fa.SolverMemoryError as error:
        said = str(error)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    assert said is not None and "GB are needed" in said, said
    assert_solves(symbolic.factor(values), matrix)
    print("recovered")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.stdout == "recovered\n", done.stderr


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (MemoryError(), fa.SolverMemoryError),
        (RuntimeError("Not enough memory"), SolverError),
        (SystemError("gstrf was called with invalid arguments"), SolverError),
    ],
)
def test_exceptions_of_superlu_do_not_come_out_raw(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[Exception]
) -> None:
    def failing(*arguments: Any, **named: Any) -> Any:
        raise raised

    monkeypatch.setattr(spla, "splu", failing)
    with pytest.raises(expected, match="SuperLU") as info:
        factorise(get_solver("superlu"), laplacian(5), "spd")
    assert info.value.__cause__ is raised


@pytest.mark.parametrize(("contrast", "refused"), [(1e9, False), (2e11, True)])
def test_the_unknown_with_the_largest_error_is_named(contrast: float, refused: bool) -> None:
    mesh = box_mesh("quad", distortion=0.1)
    body = fa.LinearStatic(
        mesh,
        fa.Elasticity({"low": 1.0, "high": contrast}, 0.3),
        [fa.Fixed("left")],
        [fa.Traction("right", (1.0, 0.0))],
    )
    with pytest.raises(fa.IllConditionedError) if refused else pytest.warns(fa.IllConditionedWarning) as caught:
        body.solve()
    said = str(caught.value if refused else caught[0].message)
    assert re.search(r"most of all in node \d+ at \(.*\), component [xy]", said), said
    assert said.count("component") == 1, said
