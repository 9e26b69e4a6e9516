"""cuSOLVER over what stands in for its library, and on a device where there is one."""

from __future__ import annotations

import gc
import os
import sys
import threading

import numpy as np
import pytest
import scipy.sparse as sp

import femadj as fa
from femadj.errors import SingularSystemError, SolverError, SolverMemoryError, SolverUnavailableError
from femadj.solvers import SOLVERS, LiveSolver, Solver, get_solver
from femadj.solvers.cusolver import CusolverSolver
from femadj.solvers.cusolver_library import SIGNATURES, Library
from femadj.solvers.cusolver_refactor import pivoting
from femadj.solvers.matrix import Matrix, MatrixKind, Structure
from femadj.solvers.ordering import arranged
from femadj.solvers.superlu import SuperLUSolver, SuperLUSymbolic
from tests.meshes import box_mesh
from tests.solvers.conformance import (
    SolverConformance,
    advection_diffusion,
    assert_solves,
    factorise,
    free_chain,
    handed_over,
    laplacian,
    saddle_point,
    shifted,
    vectors,
    with_diagonal,
)
from tests.solvers.cusolver_stand_in import NO_MEMORY, DefaultStream, StandIn


def made(**options: object) -> tuple[CusolverSolver, StandIn, DefaultStream]:
    arrays = DefaultStream()
    library = StandIn(arrays)
    return CusolverSolver(library=Library(library, library), arrays=arrays, **options), library, arrays


class TestConformance(SolverConformance):
    @pytest.fixture
    def solver(self) -> Solver:
        return made()[0]


@pytest.fixture(scope="module")
def on_device() -> Solver:
    try:
        return CusolverSolver()
    except SolverUnavailableError as why:
        if os.environ.get("FEMADJ_REQUIRE_GPU", "0") not in ("", "0"):
            raise
        pytest.skip(str(why))


@pytest.mark.gpu
class TestOnDevice(SolverConformance):
    @pytest.fixture
    def solver(self, on_device: Solver) -> Solver:
        return on_device

    @pytest.mark.parametrize("kind", ["spd", "symmetric", "general"])
    def test_as_on_the_host(self, solver: Solver, kind: MatrixKind) -> None:
        matrix = {"spd": laplacian(20, 3), "symmetric": shifted(60, 0.5), "general": advection_diffusion(60, 3.0)}[kind]
        b = vectors(matrix.shape[0], 3)
        for make in (lambda factor: factor.solve(b), lambda factor: factor.T.solve(b)):
            ours, theirs = (make(factorise(which, matrix, kind)) for which in (solver, SuperLUSolver()))
            assert np.abs(ours - theirs).max() <= 1e-10 * np.abs(theirs).max()

    def test_values_and_gradients(self, solver: Solver) -> None:
        assert_gradients_agree(solver)


# ------------------------------------------------------------------------------------------- what runs where


def test_pivots_are_chosen_once() -> None:
    """By SuperLU for the first matrix; those that follow are factorised on the device."""
    solver, library, _ = made()
    base = advection_diffusion(12, 2.0)
    symbolic = solver.analyse(handed_over(base, "general")[0], "general")
    assert symbolic.needed_bytes is None
    factor = None
    for k in range(3):
        if factor is not None:
            factor.give_way()
        matrix = sp.csr_array(base + 0.3 * k * sp.eye_array(144))
        factor = symbolic.factor(handed_over(matrix, "general")[1])
        assert_solves(factor, matrix)
    assert (symbolic.pivotings, symbolic.factorisations, symbolic.analyses) == (1, 3, 1)
    assert library.calls.count("cusolverRfRefactor") == 3
    assert library.calls.count("cusolverRfSetupHost") == 1  # factors that give way leave their place
    assert symbolic.needed_bytes == factor.statistics.factor_bytes == 12 * factor.statistics.fill_nnz


@pytest.mark.parametrize(("small", "pivotings"), [(0.0, 2), (1e-17, 2), (1e-3, 1)])
def test_pivots_are_chosen_again_where_they_do_not_serve(small: float, pivotings: int) -> None:
    """A pivot that vanishes, one so small that the factors are not accurate, and one that still does."""
    solver = made()[0]
    pattern = handed_over(with_diagonal(sp.csr_array([[1.0, 1.0], [1.0, 0.0]])), "symmetric")[0]
    symbolic = solver.analyse(pattern, "symmetric")
    symbolic.factor(np.array([2.0, 1.0, 3.0]))
    matrix = sp.csr_array(np.array([[small, 1.0], [1.0, small]]))
    assert_solves(symbolic.factor(np.array([small, 1.0, small])), matrix, tolerance=1e-12)
    assert symbolic.pivotings == pivotings
    assert symbolic.factorisations == 1 + pivotings


def test_places_with_former_pivots_are_not_used() -> None:
    solver, library, _ = made()
    pattern = handed_over(with_diagonal(sp.csr_array([[1.0, 1.0], [1.0, 0.0]])), "symmetric")[0]
    with solver.analyse(pattern, "symmetric") as symbolic:
        former = symbolic.factor(np.array([2.0, 1.0, 3.0]))
        symbolic.factor(np.array([0.0, 1.0, 0.0])).close()
        former.give_way()
        factor = symbolic.factor(np.array([0.0, 2.0, 0.0]))
        assert_solves(factor, sp.csr_array([[0.0, 2.0], [2.0, 0.0]]))
        assert symbolic.pivotings == 2
        assert library.kept.count("rf") == 1


def test_a_singular_matrix_after_a_regular_one() -> None:
    for kind in ("spd", "symmetric", "general"):
        solver = made()[0]
        held = sp.csr_array(free_chain(30) + 0.5 * sp.eye_array(30))
        symbolic = solver.analyse(handed_over(held, kind)[0], kind)
        symbolic.factor(handed_over(held, kind)[1])
        with pytest.raises(SingularSystemError, match="singular"):
            symbolic.factor(handed_over(free_chain(30), kind)[1])
        assert_solves(symbolic.factor(handed_over(held, kind)[1]), held)


@pytest.mark.parametrize("which", ["saddle point", "advection", "cancellation"])
def test_fill_is_that_of_any_values(which: str) -> None:
    """Also where entries of the factors of the first matrix cancel: against elimination entry by entry."""
    matrix = {
        "saddle point": lambda: with_diagonal(saddle_point(4)),
        "advection": lambda: advection_diffusion(6, 1e4),
        "cancellation": lambda: sp.csr_array([[2.0, 1, 1, 0], [2, 3, 1, 1], [1, 0.5, 2, 3], [0, 1, 1, 5]]),
    }[which]()
    pattern, values = handed_over(matrix, "general")
    structure = Structure(pattern, "general")
    rows, columns = SuperLUSymbolic(SuperLUSolver(), structure).pivots(Matrix(structure, values, 2.0**-53))
    found = pivoting(arranged(structure, None), rows, columns)
    entries = matrix.astype(bool).toarray() | (matrix.toarray() != 0.0)
    stored = sp.csr_array((np.ones(pattern.nnz), pattern.indices, pattern.indptr), shape=matrix.shape).toarray() != 0.0
    filled = (entries | stored)[found.rows][:, found.columns]
    n = len(filled)
    np.fill_diagonal(filled, True)
    for k in range(n):
        filled[k + 1 :, k + 1 :] |= np.outer(filled[k + 1 :, k], filled[k, k + 1 :])
    assert np.array_equal(found.lower.toarray() != 0.0, np.tril(filled))
    assert np.array_equal(found.upper.toarray() != 0.0, np.triu(filled))
    assert found.fill == filled.sum()
    assert sorted(zip(found.rows, found.columns, strict=True)) == sorted(zip(rows, columns, strict=True))


def test_ordered_by_the_library_without_pymetis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymetis", None)
    solver, library, _ = made()
    for matrix, kind in (
        (laplacian(6), "spd"),
        (shifted(6, 0.5), "symmetric"),
        (advection_diffusion(6, 2.0), "general"),
    ):
        assert_solves(factorise(solver, matrix, kind), matrix)
    assert library.calls.count("cusolverSpXcsrmetisndHost") == 3
    assert_solves(factorise(solver, sp.csr_array(np.diag([1.0, 2.0])), "spd"), sp.csr_array(np.diag([1.0, 2.0])))
    assert library.calls.count("cusolverSpXcsrmetisndHost") == 3  # no edges, nothing to order


def test_transposed_factors_are_analysed_once() -> None:
    """For a factor and a number of right-hand sides, both triangles."""
    solver, library, _ = made()
    factor = factorise(solver, advection_diffusion(8, 2.0), "general")
    block = vectors(64, 3).T.copy()
    factor.approximate(block, transposed=True)
    before = library.calls.count("cusparseSpSM_analysis")
    factor.approximate(2.0 * block, transposed=True)
    assert library.calls.count("cusparseSpSM_analysis") == before
    factor.approximate(block[:1], transposed=True)
    assert library.calls.count("cusparseSpSM_analysis") == before + 2


def assert_gradients_agree(solver: Solver) -> None:
    """Value and gradient of an elastic and of an advection problem at two designs, with those by the CPU."""
    mesh = box_mesh("triangle", (5, 4))
    nudge = 0.01 * np.random.default_rng(3).uniform(-1, 1, mesh.points.shape)
    supports = [fa.Fixed("left")]
    for physics in (fa.Elasticity(1.0, 0.3), fa.AdvectionDiffusion(0.3, [1.0, 2.0], source=1.0)):
        loads = [fa.BodyForce((0.3, 1.0))] if isinstance(physics, fa.Elasticity) else []
        ours, theirs = (fa.LinearStatic(mesh, physics, supports, loads, solver=s) for s in (solver, "superlu"))
        for points in (mesh.points, mesh.points + nudge):
            (value, gradient), (expected, right) = (
                fa.value_and_gradient(problem.solve(points), fa.FieldNorm()) for problem in (ours, theirs)
            )
            assert value == pytest.approx(expected, rel=1e-10)
            assert np.abs(gradient.points - right.points).max() <= 1e-10 * np.abs(right.points).max()


def test_values_and_gradients() -> None:
    solver, library, _ = made()
    assert_gradients_agree(solver)
    assert library.calls.count("cusolverSpDcsrcholFactor") == 2
    assert library.calls.count("cusolverRfRefactor") == 2
    assert library.calls.count("cusolverRfSetupHost") == 1


# -------------------------------------------------------------------------------------------------- memory


def test_everything_is_given_back() -> None:
    solver, library, arrays = made()
    empty = library.kept
    for kind in ("spd", "general"):
        pattern, values = handed_over(laplacian(6), kind)
        with solver.analyse(pattern, kind) as symbolic:
            first, second = symbolic.factor(values), symbolic.factor(values)
            first.T.solve(np.ones(36))
            first.give_way()
            first.close()
            second.close()
            dropped = symbolic.factor(values)
            del dropped
            late = symbolic.factor(values)
        assert_solves(late, laplacian(6))
        late.give_way()  # to an analysis that has been closed
        with pytest.raises(SolverError, match="closed"):
            late.solve(np.ones(36))
        del first, second, symbolic, late
        gc.collect()
        assert library.kept == empty
        assert arrays.bytes_alive == 0
    del solver
    gc.collect()
    assert library.kept == []


def test_memory_is_asked_for_before() -> None:
    solver, _, arrays = made()
    pattern, values = handed_over(laplacian(10), "spd")
    symbolic = solver.analyse(pattern, "spd")
    assert symbolic.needed_bytes > 100 * pattern.nnz
    kept = symbolic.factor(values)
    arrays.free = arrays.bytes_alive + 1000
    with pytest.raises(SolverMemoryError, match="on the device") as info:
        symbolic.factor(values)
    assert info.value.needed_bytes > 1000
    assert_solves(kept, laplacian(10))
    arrays.free = 2**30
    assert_solves(symbolic.factor(values), laplacian(10))


@pytest.mark.parametrize(
    ("kind", "function"),
    [("spd", "cusolverSpDcsrcholFactor"), ("general", "cusolverRfSetupHost"), ("general", "cusolverRfRefactor")],
)
def test_a_failure_leaves_no_trace(kind: MatrixKind, function: str) -> None:
    solver, library, _ = made()
    pattern, values = handed_over(laplacian(6), kind)
    symbolic = solver.analyse(pattern, kind)
    for status, error in ((NO_MEMORY, SolverMemoryError), (6, SolverError)):
        library.fail[function] = status
        with pytest.raises(error, match=f"{function} failed"):
            symbolic.factor(values)
        library.fail.clear()
        assert_solves(symbolic.factor(values), laplacian(6))


def test_arrays_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    solver, _, arrays = made()

    def refuse(a: np.ndarray) -> None:
        raise MemoryError("4 GB")

    monkeypatch.setattr(arrays, "upload", refuse)
    with pytest.raises(SolverMemoryError, match="do not fit on the device"):
        factorise(solver, laplacian(6), "spd")


def test_threads_share_a_solver() -> None:
    solver = made()[0]
    matrices = [sp.csr_array(advection_diffusion(8, 2.0) + k * sp.eye_array(64)) for k in range(4)]
    symbolic = solver.analyse(handed_over(matrices[0], "general")[0], "general")
    symbolic.factor(handed_over(matrices[0], "general")[1])
    failures: list[BaseException] = []

    def work(matrix: sp.csr_array) -> None:
        try:
            for _ in range(3):
                assert_solves(symbolic.factor(handed_over(matrix, "general")[1]), matrix)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(matrix,)) for matrix in matrices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# ---------------------------------------------------------------------------------------------- availability


def test_only_by_name() -> None:
    assert "cusolver" in SOLVERS
    assert get_solver().name != "cusolver"
    solver = made()[0]
    for word in ("cuda", "12.4.1", "Cholesky", "pivots from the CPU", "deprecated", "cuDSS"):
        assert word in repr(solver)
    assert solver.capabilities.device == "cuda"


def test_design_after_design() -> None:
    """The live solver passes the place on the device from design to design."""
    solver, library, _ = made()
    with LiveSolver(solver).analyse(handed_over(laplacian(8), "spd")[0], "spd") as symbolic:
        for k in range(4):
            matrix = sp.csr_array(laplacian(8) + k * sp.eye_array(64))
            assert_solves(symbolic.factor(handed_over(matrix, "spd")[1]), matrix)
    assert library.calls.count("cusolverSpXcsrcholAnalysis") == 1


@pytest.mark.parametrize("name", ["cusolverSpDcsrcholFactor", "cusparseSpSM_solve"])
def test_a_function_that_is_gone(name: str) -> None:
    library = StandIn(DefaultStream(), missing=(name,))
    with pytest.raises(SolverUnavailableError, match=rf"12\.4\.1.* has no {name}.*cuDSS"):
        Library(library, library)


def test_another_stream() -> None:
    solver, _, arrays = made()
    factor = factorise(solver, laplacian(6), "spd")
    arrays.current = 7
    with pytest.raises(SolverError, match="default CUDA stream"):
        factor.solve(np.ones(36))
    with pytest.raises(SolverError, match="default CUDA stream"):
        factorise(solver, laplacian(6), "general")


def test_a_library_that_computes_something_else() -> None:
    """Factors that are not those of the matrix are not handed out, and their place is given up."""
    solver, library, _ = made()
    library.off = 2.0
    with pytest.raises(SolverError, match="not those of the matrix"):
        factorise(solver, advection_diffusion(6, 2.0), "general")
    assert "rf" not in library.kept


def test_without_cupy_or_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    from femadj.base.cuda import device_arrays

    device_arrays.cache_clear()
    with pytest.raises(SolverUnavailableError, match="CuPy"):
        get_solver("cusolver")
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(SolverUnavailableError, match="cuda-pathfinder"):
        Library.found()


def test_installed_libraries() -> None:
    """They have every function, and say that there is no device where there is none."""
    pytest.importorskip("cuda.pathfinder")
    try:
        library = Library.found()
    except SolverUnavailableError as why:
        pytest.skip(str(why))
    assert int(library.version.split(".")[0]) >= 11
    assert len(SIGNATURES) == 35
