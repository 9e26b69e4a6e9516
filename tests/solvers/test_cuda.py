"""Solver "cuda": the binding of cuDSS over what stands in for its library, and that library where it is installed.

On a GPU, ``test_conformance.py`` runs the whole suite.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

import femadj as fa
from femadj import solvers
from femadj.base.cuda import CuPyArrays, device_arrays
from femadj.errors import (
    IndefiniteSystemError,
    SingularSystemError,
    SolverError,
    SolverMemoryError,
    SolverUnavailableError,
)
from femadj.solvers import ITERATED, SOLVERS, CudaSolver, cudss, get_solver, linear_solver, prefer
from femadj.solvers.choice import MULTIGRID_FROM, chosen
from femadj.solvers.cudss import Config, CudssError, Library
from femadj.solvers.cudss_system import Context, Pattern
from femadj.solvers.device_matrix import SOURCE
from femadj.solvers.matrix import UNIT_ROUNDOFF, Matrix, Structure
from femadj.solvers.preference import VARIABLE, set_preferred
from femadj.solvers.unknowns import Unknowns
from tests.gpu import gpu, skip
from tests.host_arrays import HostArrays
from tests.meshes import box_mesh
from tests.solvers.conformance import (
    SolverConformance,
    advection_diffusion,
    assert_solves,
    factorise,
    free_chain,
    handed_over,
    laplacian,
    shifted,
)
from tests.solvers.cudss_stand_in import StandIn


def residual(
    n: np.int32, start: Ints, columns: Ints, slots: Ints, values: Floats, b: Floats, x: Floats, into: Floats
) -> None:
    """The kernel of this name in ``device_matrix.py``."""
    assert {a.dtype for a in (start, columns, slots)} == {np.dtype(np.int32)}
    assert {a.dtype for a in (values, b, x, into)} == {np.dtype(np.float64)}
    assert len(start) - 1 == n
    products = values[slots] * x[columns]
    into[0] = b - np.add.reduceat(products, start[:-1])
    into[1] = np.add.reduceat(np.abs(products), start[:-1])


def made(options: dict[str, Any] | None = None, **of_solver: Any) -> tuple[CudaSolver, StandIn, HostArrays]:
    """A solver on a stand-in with these options, whose log starts after the check of the library."""
    arrays = HostArrays(kernels={"residual": residual})
    library = StandIn(arrays, **(options or {}))
    solver = CudaSolver(library=Library(library), arrays=arrays, **of_solver)
    solver.ready()
    library.log.clear()
    return solver, library, arrays


Floats, Ints = npt.NDArray[np.float64], npt.NDArray[np.int32]

UNDOCUMENTED = {
    "silent, NaN, roots": {"broken": "silent", "singular": "nan", "diagonal": "roots"},
    "NaN, numbers": {"broken": "nan", "singular": "flag"},
    "numbers, NaN, no pivots": {"singular": "nan", "diagonal": None},
    "numbers, replaced, no pivots": {"diagonal": None},
    "silent, replaced, no pivots": {"broken": "silent", "diagonal": None},
}
"""What a library may do with matrices that have no factor, besides what stands in for it does."""


@cache
def behaving(name: str) -> CudaSolver:
    """One solver for all tests of the suite: a library is checked once."""
    return made(UNDOCUMENTED.get(name))[0]


@pytest.fixture
def solver() -> CudaSolver:
    return behaving("")


class TestConformance(SolverConformance):
    """What all solvers pass."""


class TestUndocumented:
    """The same errors, whatever the library does with matrices that have no factor."""

    @pytest.fixture(params=UNDOCUMENTED)
    def solver(self, request: pytest.FixtureRequest) -> CudaSolver:
        return behaving(request.param)

    test_singular = SolverConformance.test_singular
    test_singular_equation_is_named = SolverConformance.test_singular_equation_is_named
    test_indefinite = SolverConformance.test_indefinite
    test_values_far_from_the_first_ones = SolverConformance.test_values_far_from_the_first_ones
    test_rescaled_saddle_points = SolverConformance.test_rescaled_saddle_points
    test_high_contrast_is_not_singular = SolverConformance.test_high_contrast_is_not_singular


# ------------------------------------------------------------------------------------------------ calls
def test_one_order_for_all_factors_of_a_structure() -> None:
    solver, library, _ = made()
    pattern, values = handed_over(laplacian(10), "spd")
    symbolic = solver.analyse(pattern, "spd")
    for k in range(3):
        with symbolic.factor((1.0 + k) * values) as factor:
            assert factor.statistics.inertia == (100, 0)
    assert library.log == ["analysed", "factorised", "again", "again"]
    first, second = symbolic.factor(values), symbolic.factor(2.0 * values)
    assert library.log[4:] == ["again", "order given", "factorised"]
    assert_solves(first, laplacian(10))
    assert_solves(second, sp.csr_array(2.0 * laplacian(10)))
    assert symbolic.analyses == 1


def test_right_hand_sides_of_a_block_are_solved_in_one_call() -> None:
    solver, library, arrays = made()
    factor = factorise(solver, advection_diffusion(8, 2.0), "general")
    library.log.clear()
    x = factor.approximate(np.eye(64))
    assert library.log == ["solved 64"]
    np.testing.assert_allclose(x.T, np.linalg.inv(advection_diffusion(8, 2.0).toarray()), atol=1e-12)
    assert library.streams == {arrays.stream()}


def test_deterministic_solves_are_for_one_right_hand_side() -> None:
    solver, library, _ = made(deterministic=True)
    factor = factorise(solver, laplacian(8), "spd")
    library.log.clear()
    factor.approximate(np.ones((3, 64)))
    assert library.log == ["solved 1"] * 3


@pytest.mark.parametrize(
    ("careless", "kind", "calls", "orders"),
    [
        ("again", "general", ["again", "factorised"], 1),
        ("again", "symmetric", ["again", "factorised"], 1),
        ("unmatched", "symmetric", ["again", "factorised", "matched", "factorised"], 2),
        ("unmatched", "general", ["again", "factorised", "matched", "factorised"], 2),
        ("symmetric", "symmetric", ["again", "factorised", *["matched", "factorised"] * 2], 3),
    ],
)
def test_more_care_where_a_factor_is_none(careless: str, kind: Any, calls: list[str], orders: int) -> None:
    """Afresh, then with large entries on the diagonal, then without symmetry; later values start with what served."""
    solver, library, _ = made({"diagonal": None})
    matrix = shifted(12, 0.5)
    pattern, values = handed_over(matrix, kind)
    symbolic = solver.analyse(pattern, kind)
    symbolic.factor(values).close()
    library.careless = careless
    library.log.clear()
    factor = symbolic.factor(values)
    assert [each for each in library.log if not each.startswith("solved")] == calls
    assert symbolic.analyses == orders
    assert_solves(factor, matrix)
    if orders > 1:
        factor.close()
        library.log.clear()
        assert_solves(symbolic.factor(2.0 * values), sp.csr_array(2.0 * matrix))
        assert [each for each in library.log if not each.startswith("solved")] == ["again"]


@pytest.mark.parametrize("deterministic", [False, True])
def test_solves_with_replaced_pivots_are_refined(deterministic: bool) -> None:
    """By the library, which repeats no bits then, or by femadj."""
    solver, library, _ = made(deterministic=deterministic)
    matrix = sp.csr_array([[1e-17, -1.0, 0.0], [1.0, 1e-17, 0.0], [0.0, 0.0, 1.0]])
    factor = factorise(solver, matrix, "general")
    assert factor.statistics.perturbed_pivots == 1
    assert_solves(factor, matrix, tolerance=1e-12)
    steps = {each["items"][Config.REFINEMENTS] for each in library.objects.values() if each["kind"] == "config"}
    assert max(steps) == (0 if deterministic else 2)


def test_what_a_failure_leaves_is_factorised_afresh() -> None:
    solver, library, _ = made()
    pattern, values = handed_over(laplacian(10), "spd")
    symbolic = solver.analyse(pattern, "spd")
    symbolic.factor(values).close()
    with pytest.raises(IndefiniteSystemError, match="the pivot of equation"):
        symbolic.factor(handed_over(shifted(10, 0.5), "spd")[1])
    library.log.clear()
    assert_solves(symbolic.factor(values), laplacian(10))
    assert [each for each in library.log if not each.startswith("solved")] == ["order given", "factorised"]
    assert symbolic.analyses == 1


# ---------------------------------------------------------------------------------- products on the device
@pytest.mark.parametrize("kind", ["spd", "general"])
@pytest.mark.parametrize("transposed", [False, True])
def test_residuals_are_those_of_the_host(kind: Any, transposed: bool) -> None:
    assert_the_residuals_of_the_host(made()[0], kind, transposed)


def assert_the_residuals_of_the_host(solver: CudaSolver, kind: Any, transposed: bool) -> None:
    """To rounding, and with the same bits again."""
    pattern, values = handed_over(advection_diffusion(30, 3.0) if kind == "general" else laplacian(30), kind)
    structure = Structure(pattern, kind)
    here = Matrix(structure, values, UNIT_ROUNDOFF)
    there = solver.matrices(structure)(structure, values, UNIT_ROUNDOFF, None)
    b, x = np.random.default_rng(0).standard_normal((2, 900))
    exact, found = (each.residual(b, x, transposed=transposed) for each in (here, there))
    assert np.abs(found - exact).max() <= 8 * UNIT_ROUNDOFF * exact[1].max()
    assert np.array_equal(found, there.residual(b, x, transposed=transposed))
    np.testing.assert_allclose(here.sums, there.sums, rtol=1e-15)
    assert not there.changed()
    values *= 2.0
    assert there.changed()
    assert np.array_equal(*(each.residual(b, x, transposed=transposed) for each in (here, there)))


def test_values_are_on_the_device_once_for_factors_and_checks() -> None:
    solver, library, arrays = made()
    pattern, values = handed_over(laplacian(60), "spd")
    symbolic = solver.analyse(pattern, "spd")
    symbolic.factor(values).solve(np.ones(3600))
    gc.collect()
    before, swept = arrays.bytes_alive, arrays.launched.total()
    factor = symbolic.factor(2.0 * values)
    assert arrays.bytes_alive == before
    x = factor.solve(np.ones(3600))
    assert arrays.launched.total() == swept + 3  # sums of rows, sizes of equations, and one solve
    np.testing.assert_allclose(2.0 * (laplacian(60) @ x), 1.0)
    assert library.log == ["analysed", "factorised", "solved 1", "again", "solved 1"]


@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_the_kernel_compiles(architecture: int) -> None:
    nvrtc = pytest.importorskip("cupy", reason="CuPy is not installed").cuda.nvrtc
    program = nvrtc.createProgram(SOURCE, "residual.cu", [], [])
    nvrtc.compileProgram(program, [f"--gpu-architecture=sm_{architecture}"])
    assert len(nvrtc.getCUBIN(program)) > 1000


# ------------------------------------------------------------------------------------------------ memory
def test_solves_and_factors_leave_nothing() -> None:
    solver, library, arrays = made()
    pattern, values = handed_over(laplacian(2), "spd")
    symbolic = solver.analyse(pattern, "spd")
    symbolic.factor(values).solve(np.ones(4))
    gc.collect()
    objects, size = library.alive(), arrays.bytes_alive
    for k in range(200):
        factor = symbolic.factor((1.0 + k) * values)
        factor.solve(np.ones((4, 2)))
        if k % 2:
            factor.close()  # and the others are dropped
    del factor
    gc.collect()
    assert library.alive() == objects
    assert arrays.bytes_alive == size
    with pytest.raises(SingularSystemError):
        solver.analyse(*handed_over(free_chain(9), "spd")[:1], "spd").factor(handed_over(free_chain(9), "spd")[1])
    with pytest.raises(SolverError):
        symbolic.factor(values[:-1])
    gc.collect()
    assert library.alive() == objects
    symbolic.close()
    del symbolic
    gc.collect()
    assert library.alive() == {"handle": 1}
    del solver
    gc.collect()
    assert not library.alive()
    assert arrays.bytes_alive == 0


def test_factors_that_will_not_fit_are_refused_before() -> None:
    solver, library, arrays = made()
    pattern, values = handed_over(laplacian(30), "spd")
    symbolic = solver.analyse(pattern, "spd")
    assert symbolic.needed_bytes == 40 * pattern.nnz
    arrays.free = arrays.bytes_alive + symbolic.needed_bytes
    with pytest.raises(SolverMemoryError, match=r"too little memory for the factor: about .* GB are needed") as info:
        symbolic.factor(values)
    assert info.value.needed_bytes == symbolic.needed_bytes
    assert arrays.released == 1
    assert "factorised" not in library.log
    arrays.free *= 10
    factor = symbolic.factor(values)
    assert factor.statistics.factor_bytes == 20 * pattern.nnz
    assert factor.statistics.peak_bytes == 40 * pattern.nnz
    factor.give_way()
    arrays.free = arrays.bytes_alive + 8 * pattern.nnz  # the next one takes the memory that it left
    assert_solves(symbolic.factor(2.0 * values), sp.csr_array(2.0 * laplacian(30)))


def test_memory_that_runs_out_all_the_same() -> None:
    solver, library, _ = made()
    pattern, values = handed_over(laplacian(10), "spd")
    symbolic = solver.analyse(pattern, "spd")
    library.capacity = 0
    with pytest.raises(SolverMemoryError, match=r"alloc failed.* GB of the device are free"):
        symbolic.factor(values)
    library.capacity = None
    assert_solves(symbolic.factor(values), laplacian(10))


def test_entries_are_counted_by_32_bits(solver: CudaSolver) -> None:
    many = SimpleNamespace(n=10, indices=range(2**31), upper=True)
    with pytest.raises(SolverError, match="2147483648 stored entries"):
        Pattern(solver.ready()[0], many)  # type: ignore[arg-type]


def test_the_host_cannot_touch_the_device_nor_the_library_the_host() -> None:
    arrays = HostArrays()
    a = arrays.upload(np.ones(3))
    for touch in (lambda: a + 1, lambda: np.asarray(a), lambda: a[0], lambda: np.ones(3) @ a, lambda: list(a)):
        with pytest.raises(TypeError):
            touch()
    assert arrays.at(arrays.pointer(a) + 8, 2, np.float64).tolist() == [1.0, 1.0]
    for wrong in (np.ones(3).ctypes.data, arrays.pointer(a) + 16, None):
        with pytest.raises(AssertionError):
            arrays.at(wrong, 2, np.float64)
    with pytest.raises(AssertionError, match="not on the device"):
        arrays.download(np.ones(3))


# -------------------------------------------------------------------------------------- what is missing
def test_libraries_that_are_too_old_are_refused() -> None:
    with pytest.raises(SolverUnavailableError, match=r"cuDSS 0\.8\.1 is too old: before 1\.0 .* solves untransposed"):
        Library(StandIn(HostArrays(), (0, 8, 1)))
    with pytest.raises(SolverUnavailableError, match="is no cuDSS"):
        Library(SimpleNamespace())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ignores_mode": True}, "accepts the option and ignores it"),
        ({"forgets_order": True}, "first on a given order factor plainly"),
        (
            {"broken": "silent", "diagonal": None, "inertia": False},
            "does not tell whether a matrix is positive definite",
        ),
    ],
)
def test_libraries_that_fail_a_check_are_refused(options: dict[str, Any], said: str) -> None:
    arrays = HostArrays()
    refused = CudaSolver(library=Library(StandIn(arrays, **options)), arrays=arrays)
    with pytest.raises(SolverUnavailableError, match=said):
        factorise(refused, laplacian(3), "spd")


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(SolverUnavailableError, match=r"CuPy, which cannot be imported.*femadj\[gpu13\]"):
        CuPyArrays()


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A CuPy without a device."""

    def fail() -> int:
        raise RuntimeError("cudaErrorNoDevice")

    module = ModuleType("cupy")
    module.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    module.cuda = SimpleNamespace(runtime=SimpleNamespace(getDevice=fail))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch, cupy: ModuleType) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(SolverUnavailableError, match=r"no NVIDIA driver: .*cuda"):
        CuPyArrays()


def test_without_a_device(monkeypatch: pytest.MonkeyPatch, cupy: ModuleType) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    with pytest.raises(SolverUnavailableError, match=r"no CUDA device that CuPy can use .*cudaErrorNoDevice"):
        CuPyArrays()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setattr(cudss, "_wheels", list)
    monkeypatch.delenv(cudss.LIBRARY, raising=False)
    cudss._found.cache_clear()
    with pytest.raises(SolverUnavailableError, match=r"cuDSS was not found .*femadj\[gpu13\].*FEMADJ_CUDSS"):
        CudaSolver(arrays=HostArrays())
    monkeypatch.setenv(cudss.LIBRARY, "/nowhere/libcudss.so.1")
    with pytest.raises(SolverUnavailableError, match=r"cannot be loaded .*nowhere"):
        CudaSolver(arrays=HostArrays())


# ------------------------------------------------------------------------------------------------ choice
@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stand-in where "cuda" is asked for, and no preference before and after."""
    monkeypatch.setattr(solvers, "SOLVERS", {**SOLVERS, "cuda": lambda threads=None: made(threads=threads)[0]})
    monkeypatch.delenv(VARIABLE, raising=False)
    set_preferred(None, "")
    yield
    set_preferred(None, "")


@pytest.mark.usefixtures("available")
def test_auto_is_the_gpu_only_where_it_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    best = get_solver().name
    assert best != "cuda"
    assert "cuda" in solvers.available_solvers()
    prefer("cuda")
    assert get_solver().name == linear_solver().name == get_solver(threads=2).name == "cuda"
    assert get_solver("refined").exact.name == "cuda"  # type: ignore[attr-defined]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(get_solver).result().name == "cuda"
    prefer("auto")
    monkeypatch.setenv(VARIABLE, "cuda")
    assert get_solver().name == best
    prefer(None)
    assert get_solver().name == "cuda"
    monkeypatch.setenv(VARIABLE, "superlu")
    assert get_solver().name == "superlu"
    monkeypatch.setenv(VARIABLE, "cude")
    with pytest.raises(
        SolverError, match="no solver 'cude', which is preferred by the environment variable FEMADJ_SOLV"
    ):
        get_solver()
    for wrong in ("refined", 3):
        with pytest.raises(SolverError):
            prefer(wrong)  # type: ignore[arg-type]


@pytest.mark.usefixtures("available")
def test_what_is_preferred_and_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(threads: int | None = None) -> None:
        raise SolverUnavailableError("no device")

    monkeypatch.setattr(solvers, "SOLVERS", {**SOLVERS, "cuda": missing})
    best = get_solver().name
    with pytest.raises(
        SolverUnavailableError, match=r"preferred by femadj\.prefer\('cuda'\), does not work here: no dev"
    ):
        prefer("cuda")
    assert get_solver().name == best
    monkeypatch.setenv(VARIABLE, "cuda")
    with pytest.raises(SolverUnavailableError, match="preferred by the environment variable FEMADJ_SOLVER, does not"):
        fa.LinearStatic(box_mesh("tetra"), fa.Diffusion(1.0), [fa.Fixed("left")], [fa.Source(1.0)])


def test_a_gpu_factorises_what_multigrid_would_solve_on_the_cpu(solver: CudaSolver) -> None:
    structure = SimpleNamespace(kind="spd", n=2 * MULTIGRID_FROM, unknowns=Unknowns(components=3, dim=3))
    assert chosen(structure, get_solver("superlu")).name == "amg"  # type: ignore[arg-type]
    assert chosen(structure, solver).name == "cuda"  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- problems
def elastic(solver: Any) -> fa.LinearStatic:
    physics, load = fa.Elasticity(E=3.0, nu=0.3), fa.BodyForce((0.1, 0.0, -1.0))
    return fa.LinearStatic(box_mesh("tetra"), physics, [fa.Fixed("left")], [load], solver=solver)


def drifting(solver: Any) -> fa.LinearStatic:
    physics = fa.AdvectionDiffusion(0.7, [1.0, 2.0, -0.5])
    return fa.LinearStatic(box_mesh("tetra"), physics, [fa.Fixed("left")], [fa.Source(1.0)], solver=solver)


def assert_the_same_on_the_cpu(problem: Callable[[Any], fa.LinearStatic], solver: Any) -> None:
    """Value and gradient, and those of a second design, to 1e-10 of the largest."""
    here, there = problem(solver), problem("superlu")
    points = np.asarray(here.mesh.points)
    for moved in (points, points + 0.03 * np.sin(7.0 * points[:, ::-1])):
        value, gradient = fa.value_and_gradient(here.solve(moved), fa.FieldNorm())
        expected, exact = fa.value_and_gradient(there.solve(moved), fa.FieldNorm())
        assert value == pytest.approx(expected, rel=1e-10)
        assert np.abs(gradient.points - exact.points).max() <= 1e-10 * np.abs(exact.points).max()


@pytest.mark.parametrize("problem", [elastic, drifting])
def test_value_and_gradient(problem: Callable[[Any], fa.LinearStatic]) -> None:
    solver, library, _ = made()
    assert_the_same_on_the_cpu(problem, solver)
    built = problem(solver)
    assert built.solver_name == "cuda"
    assert "solver cuda" in repr(built)
    assert repr(solver) == "<CudaSolver 'cuda' by cuDSS 1.0.0>"
    assert library.log.count("analysed") == 2


@pytest.mark.parametrize("way", ["refined", "lagged"])
@pytest.mark.parametrize("problem", [elastic, drifting])
def test_factors_in_single_precision(way: str, problem: Callable[[Any], fa.LinearStatic]) -> None:
    solver, library, _ = made()
    assert_the_same_on_the_cpu(problem, ITERATED[way](solver))
    precisions = {each["number"] for each in library.objects.values() if each["kind"] == "data"}
    assert np.float32 in precisions
    solution = problem(ITERATED[way](solver)).solve()
    statistics = solution.factor.statistics
    assert statistics.preconditioner == "float32 factor on the GPU"
    assert statistics.iterations > 0


@pytest.mark.parametrize("kind", ["symmetric", "general"])
def test_single_precision_refuses_and_goes_on_in_double(kind: Any) -> None:
    """Pivots of 1e-9 are replaced in single precision."""
    solver, _, _ = made()
    matrix = sp.csr_array(sp.diags_array(np.concatenate([np.ones(30), [1e-9, 1e-9]])) + 1e-12 * laplacian(32, 1))
    matrix = sp.csr_array(matrix + sp.diags_array([0.5], offsets=[0], shape=(32, 32)) * 0.0)
    with factorise(ITERATED["refined"](solver), matrix, kind) as factor:
        assert_solves(factor, matrix, tolerance=1e-6)


# ------------------------------------------------------------------------------------ the library itself
@pytest.fixture(scope="module")
def real() -> Library:
    try:
        return cudss.installed()
    except SolverUnavailableError as reason:
        pytest.skip(str(reason))


def test_the_library_answers(real: Library) -> None:
    """Versions, settings and objects of the host need no device."""
    assert real.version >= cudss.OLDEST
    config, got, written = ctypes.c_void_p(), ctypes.c_int(-7), ctypes.c_size_t()
    real.call("cudssConfigCreate", ctypes.byref(config))
    for name, value in (
        (Config.MATCHING, cudss.Matching.NONE),
        (Config.MATCHING, cudss.Matching.LARGEST_PRODUCT),
        (Config.SOLVE_MODE, 1),
        (Config.REFINEMENTS, 0),
        (Config.HOST_THREADS, 4),
        (Config.DETERMINISTIC, 1),
    ):
        real.call("cudssConfigSet", config, name, ctypes.byref(ctypes.c_int(value)), 4)
        real.call("cudssConfigGet", config, name, ctypes.byref(got), 4, ctypes.byref(written))
        assert (got.value, written.value) == (value, 4)
    real.call("cudssConfigSet", config, Config.PIVOT_EPSILON, ctypes.byref(ctypes.c_double(1e-13)), 8)
    with pytest.raises(CudssError, match=r"cudssConfigSet: invalid value \(3\)"):
        real.call("cudssConfigSet", config, Config.PIVOT_EPSILON, ctypes.byref(got), 2)
    assert not real.answers("cudssConfigSet", config, Config.SOLVE_MODE, ctypes.byref(ctypes.c_int(7)), 4)
    matrix = ctypes.c_void_p()
    real.call("cudssMatrixCreateCsr", ctypes.byref(matrix), 3, 3, 5, 512, None, 1024, 2048, 10, 10, 1, 3, 2, 0)
    real.call("cudssMatrixSetValues", matrix, 4096)
    real.call("cudssMatrixDestroy", matrix)
    real.call("cudssMatrixCreateDn", ctypes.byref(matrix), 3, 2, 3, 512, 1, 0)
    real.call("cudssMatrixDestroy", matrix)
    real.call("cudssConfigDestroy", config)


def test_the_library_without_a_device(real: Library) -> None:
    try:
        device_arrays()
    except SolverUnavailableError:
        with pytest.raises(SolverUnavailableError, match=r"cuDSS does not work on this device: .*cudssCreate"):
            Context(real, HostArrays())
    else:
        pytest.skip("there is a device")


# ------------------------------------------------------------------------------------------ on a device
@pytest.fixture
def on_device() -> CudaSolver:
    try:
        return CudaSolver()
    except SolverUnavailableError as reason:
        skip(str(reason))
        raise


@gpu
@pytest.mark.parametrize("problem", [elastic, drifting])
@pytest.mark.parametrize("way", ["cuda", "refined", "lagged"])
def test_problems_on_a_device(on_device: CudaSolver, way: str, problem: Callable[[Any], fa.LinearStatic]) -> None:
    assert_the_same_on_the_cpu(problem, on_device if way == "cuda" else ITERATED[way](on_device))


@gpu
@pytest.mark.parametrize("kind", ["spd", "general"])
@pytest.mark.parametrize("transposed", [False, True])
def test_residuals_on_a_device(on_device: CudaSolver, kind: Any, transposed: bool) -> None:
    assert_the_residuals_of_the_host(on_device, kind, transposed)


@gpu
def test_deterministic_solves_on_a_device(on_device: CudaSolver) -> None:
    solver = CudaSolver(deterministic=True)
    pattern, values = handed_over(laplacian(12, 3), "spd")
    b = np.random.default_rng(0).standard_normal((12**3, 3))
    with solver.analyse(pattern, "spd") as symbolic:
        found = []
        for _ in range(3):
            with symbolic.factor(values) as factor:
                found.append(factor.solve(b))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@gpu
def test_device_memory_comes_back(on_device: CudaSolver) -> None:
    if os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") != "1":
        pytest.skip("other tests take memory of the device at the same time: run it with -n 0")
    pattern, values = handed_over(laplacian(20, 3), "spd")

    def cycle(count: int) -> int:
        for _ in range(count):
            with on_device.analyse(pattern, "spd") as symbolic, symbolic.factor(values) as factor:
                factor.solve(np.ones(20**3))
                assert factor.statistics.factor_bytes
        gc.collect()
        on_device.arrays.release()
        return on_device.arrays.memory().free

    before = cycle(3)
    assert before - cycle(20) <= 2**22
    with on_device.analyse(pattern, "spd") as symbolic:
        for k in range(200):
            symbolic.factor((1.0 + k) * values).solve(np.ones(20**3))
    assert before - cycle(1) <= 2**22


@gpu
def test_too_large_a_factor_on_a_device(on_device: CudaSolver, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern, values = handed_over(laplacian(20, 3), "spd")
    symbolic = on_device.analyse(pattern, "spd")
    assert symbolic.needed_bytes > 8 * pattern.nnz
    memory = on_device.arrays.memory()._replace(free=1000)
    monkeypatch.setattr(on_device.arrays, "memory", lambda: memory)
    with pytest.raises(SolverMemoryError, match="too little memory"):
        symbolic.factor(values)
