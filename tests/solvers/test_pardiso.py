"""Traps of PARDISO that the driver has to step around."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp

from femadj.base.memory import available_bytes
from femadj.errors import (
    IllConditionedError,
    IllConditionedWarning,
    IndefiniteSystemError,
    SingularSystemError,
    SolverError,
    SolverMemoryError,
    SolverUnavailableError,
)
from femadj.solvers import mkl as driver
from femadj.solvers.factor import Factor
from femadj.solvers.pardiso import FACTORS_PER_ANALYSIS, PardisoSolver, PardisoSymbolic
from tests.solvers.conformance import (
    REGULAR,
    SINGULAR,
    advection_diffusion,
    assert_solves,
    factorise,
    free_chain,
    handed_over,
    laplacian,
    saddle_point,
    shifted,
    vectors,
)

MIB = 2**20


def what_is_missing() -> str:
    try:
        PardisoSolver()
    except SolverUnavailableError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing() or "nothing is missing")


@pytest.fixture
def solver() -> PardisoSolver:
    return PardisoSolver()


def analysed(solver: PardisoSolver, matrix: sp.sparray, kind: str = "spd") -> tuple[PardisoSymbolic, np.ndarray]:
    pattern, values = handed_over(matrix, kind)
    symbolic = solver.analyse(pattern, kind)
    assert isinstance(symbolic, PardisoSymbolic)
    return symbolic, values


# ------------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("kind", ["spd", "symmetric", "general"])
def test_threads_are_pinned(mkl: ctypes.CDLL, kind: str) -> None:
    """Fewer threads at the factorisation than at the analysis give wrong numbers unless they are pinned."""
    before = mkl.MKL_Get_Max_Threads()
    matrix = laplacian(100)
    symbolic, values = analysed(PardisoSolver(threads=2), matrix, kind)
    try:
        mkl.MKL_Set_Num_Threads(1)
        factor = symbolic.factor(values)
        mkl.MKL_Set_Num_Threads(2)
        assert_solves(factor, matrix)
        mkl.MKL_Set_Num_Threads(1)
        assert_solves(symbolic.factor(values), matrix)
        assert mkl.MKL_Get_Max_Threads() == 1  # and the caller's own number is left alone
    finally:
        mkl.MKL_Set_Num_Threads(before)
    assert symbolic.threads == 2


def test_default_threads_are_those_at_the_analysis(mkl: ctypes.CDLL, solver: PardisoSolver) -> None:
    before = mkl.MKL_Get_Max_Threads()
    assert analysed(solver, laplacian(50))[0].threads == 1  # few entries
    symbolic, values = analysed(solver, laplacian(120))
    assert symbolic.threads == before
    previous = mkl.MKL_Set_Num_Threads_Local(1)
    try:
        assert_solves(symbolic.factor(values), laplacian(120))
        assert mkl.MKL_Get_Max_Threads() == 1
    finally:
        mkl.MKL_Set_Num_Threads_Local(previous)


def test_from_several_python_threads(solver: PardisoSolver) -> None:
    """Factors are made, used and dropped at once on one analysis; calls take turns."""
    symbolic, _ = analysed(solver, laplacian(30))

    def work(k: int) -> None:
        matrix = sp.csr_array(laplacian(30) + k * sp.eye_array(900))
        factor = symbolic.factor(handed_over(matrix, "spd")[1])
        for seed in range(3):
            assert_solves(factor, matrix, seed=seed)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(24)))
    assert symbolic.factorisations == 24
    assert symbolic.analyses == 1


def test_one_factor_from_several_python_threads(solver: PardisoSolver) -> None:
    matrix = advection_diffusion(30, 2.0)
    factor = factorise(solver, matrix, "general")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: assert_solves(factor, matrix, seed=seed), range(16)))
    assert factor.statistics.solves == 32


def test_dropped_while_the_handle_is_busy(solver: PardisoSolver) -> None:
    """A finalizer must not wait for the call it interrupts; the place is given back afterwards."""
    symbolic, values = analysed(solver, laplacian(10))
    factor = symbolic.factor(values)
    (handle,) = symbolic._handles
    with handle._lock:
        done = threading.Thread(target=factor.close)
        done.start()
        done.join(timeout=5.0)
        assert not done.is_alive()
        assert len(handle._vacant) == FACTORS_PER_ANALYSIS - 1
    factors = [symbolic.factor(values) for _ in range(FACTORS_PER_ANALYSIS)]
    assert symbolic.analyses == 1
    assert_solves(factors[-1], laplacian(10))


# -------------------------------------------------------------------------------------------------- memory


def test_memory_is_taken_late_and_given_back(solver: PardisoSolver, allocated: Callable[[], int]) -> None:
    start = allocated()
    symbolic, values = analysed(solver, laplacian(22, 3))
    analysis = allocated()
    factor: Factor | None = symbolic.factor(values)
    one = allocated()
    second: Factor | None = symbolic.factor(values)
    two = allocated()
    size = one - analysis
    assert size > 5 * MIB
    assert analysis - start < size  # places for further factors cost nothing yet
    assert two - one == pytest.approx(size, rel=0.3)  # the first one brings some work space
    assert factor is not None
    assert 0.5 * (one - start) < factor.statistics.factor_bytes < 1.5 * (one - start)
    assert factor.statistics.peak_bytes >= factor.statistics.factor_bytes
    del factor
    assert allocated() - one < 0.1 * size
    assert second is not None
    assert_solves(second, laplacian(22, 3))
    for _ in range(5):
        symbolic.factor(values)
    assert allocated() - one < 0.1 * size
    del symbolic
    assert_solves(second, laplacian(22, 3))
    del second
    assert allocated() - start < 0.1 * size


def test_failures_leave_no_memory(solver: PardisoSolver, allocated: Callable[[], int]) -> None:
    symbolic, _ = analysed(solver, laplacian(60))
    indefinite = handed_over(shifted(60, 0.5), "spd")[1]
    with pytest.raises(IndefiniteSystemError):
        symbolic.factor(indefinite)
    before = allocated()
    for _ in range(3 * FACTORS_PER_ANALYSIS):
        with pytest.raises(IndefiniteSystemError):
            symbolic.factor(indefinite)
    assert allocated() - before < 0.1 * MIB
    assert symbolic.analyses == 1


def test_exit_with_live_factors() -> None:
    """Nothing is called in a library that is being unloaded."""
    code = (
        "from tests.solvers.conformance import *\n"
        "from femadj.solvers import PardisoSolver\n"
        "factor = factorise(PardisoSolver(), laplacian(10), 'spd')\n"
        "factor.cycle = factor\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


# -------------------------------------------------------------------------------------------------- counts


def test_further_factors_take_a_further_analysis(solver: PardisoSolver) -> None:
    symbolic, values = analysed(solver, laplacian(10))
    factors = [symbolic.factor(values) for _ in range(FACTORS_PER_ANALYSIS)]
    assert symbolic.analyses == 1
    factors.append(symbolic.factor(values))
    assert symbolic.analyses == 2
    del factors[0]
    factors.append(symbolic.factor(values))
    assert symbolic.analyses == 2
    for factor in factors:
        assert_solves(factor, laplacian(10))


def test_saddle_point_is_analysed_with_its_values_once(solver: PardisoSolver) -> None:
    """Without matching the general factorisation replaces pivots and is wrong; then it is reused."""
    symbolic, values = analysed(solver, saddle_point(30), "general")
    old = symbolic.factor(values)
    analyses = symbolic.analyses
    assert analyses <= 2
    for k in range(1, 5):
        matrix = sp.csr_array(saddle_point(30) * (1.0 + k))
        assert_solves(symbolic.factor(handed_over(matrix, "general")[1]), matrix)
    assert symbolic.analyses == analyses
    assert_solves(old, saddle_point(30))


def test_replaced_pivots_are_reported(solver: PardisoSolver) -> None:
    """They do no harm here, which a few solves prove: no further analysis or factorisation."""
    symbolic, values = analysed(solver, saddle_point(30), "symmetric")
    factor = symbolic.factor(values)
    assert (symbolic.analyses, symbolic.factorisations) == (1, 1)
    assert factor.statistics.perturbed_pivots > 0
    assert factor.statistics.inertia == (900, 225)
    assert factor.statistics.extra_solves <= 20
    assert_solves(factor, saddle_point(30))


def test_unsymmetric_pivots_where_symmetric_ones_do_not_do(solver: PardisoSolver) -> None:
    """Diagonals too small to pivot with; then the structure keeps to what has worked."""
    rng = np.random.default_rng(7)
    pairs = rng.permutation(60).reshape(2, -1)
    dense = 0.05 * rng.normal(size=(60, 60)) * (rng.random((60, 60)) < 0.05)
    dense = dense + dense.T
    dense[pairs[0], pairs[1]] = dense[pairs[1], pairs[0]] = 1.0
    np.fill_diagonal(dense, 1e-15)
    symbolic, values = analysed(solver, sp.csr_array(dense), "symmetric")
    assert_solves(symbolic.factor(values), sp.csr_array(dense), tolerance=1e-12)
    counts = symbolic.analyses, symbolic.factorisations
    assert counts <= (3, 3)
    assert_solves(symbolic.factor(2.0 * values), sp.csr_array(2.0 * dense), tolerance=1e-12)
    assert (symbolic.analyses, symbolic.factorisations) == (counts[0], counts[1] + 1)


# ------------------------------------------------------------------------------------------------ integers


@pytest.mark.parametrize("name", REGULAR)
def test_wide_integers(name: str) -> None:
    make, kind = REGULAR[name]
    matrix = make()
    assert_solves(factorise(PardisoSolver(index_width=64), matrix, kind), matrix)


@pytest.mark.parametrize("name", SINGULAR)
def test_wide_integers_singular(name: str) -> None:
    make, kind = SINGULAR[name]
    with pytest.raises(SingularSystemError):
        factorise(PardisoSolver(index_width=64), make(), kind)


def test_wide_integers_indefinite() -> None:
    with pytest.raises(IndefiniteSystemError):
        factorise(PardisoSolver(index_width=64), shifted(30, 0.5), "spd")


@pytest.mark.parametrize("phase", [driver.ANALYSE, driver.FACTORISE])
def test_change_to_wide_integers(monkeypatch: pytest.MonkeyPatch, solver: PardisoSolver, phase: int) -> None:
    """As if the factor had more entries than 32 bits count."""
    call = driver.Native.call

    def overflowing(self: driver.Native, number: int, *arguments: object, **named: object) -> None:
        if number == phase and not self.options.wide:
            raise driver.PardisoFailureError(-8, number, -1)
        call(self, number, *arguments, **named)

    matrix = laplacian(20)
    pattern, values = handed_over(matrix, "spd")
    live = solver.analyse(pattern, "spd").factor(values)
    monkeypatch.setattr(driver.Native, "call", overflowing)
    symbolic = solver.analyse(pattern, "spd")
    assert isinstance(symbolic, PardisoSymbolic)
    assert_solves(symbolic.factor(values), matrix)
    assert symbolic.index_width == 64
    assert symbolic.analyses == (1 if phase == driver.ANALYSE else 2)
    assert_solves(live, matrix)
    with pytest.raises(SolverError, match="overflow"):
        PardisoSolver(index_width=32).analyse(pattern, "spd").factor(values)


def test_unknown_integer_width() -> None:
    with pytest.raises(SolverError, match="index_width"):
        PardisoSolver(index_width=16)


# -------------------------------------------------------------------------------------------------- pivots


@pytest.mark.parametrize("n", [2, 3, 50, 2000])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_singular_chain(solver: PardisoSolver, n: int, scale: float) -> None:
    """PARDISO itself factorises this positive definite or not, as rounding wants it, and reports nothing."""
    with pytest.raises(SingularSystemError) as info:
        factorise(solver, sp.csr_array(free_chain(n) * scale), "spd")
    assert info.value.equation is not None
    assert 0 <= info.value.equation < n


def test_singular_by_rounding_is_not_called_indefinite(solver: PardisoSolver) -> None:
    """Random springs: the last pivot is zero up to rounding of either sign."""
    rng = np.random.default_rng(0)
    for n in range(20, 60):
        difference = sp.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n))
        matrix = difference.T @ sp.diags_array(rng.uniform(0.1, 10.0, n - 1)) @ difference
        with pytest.raises(SingularSystemError):
            factorise(solver, sp.csr_array(matrix), "spd")


def test_pivot_tolerance_is_the_callers(solver: PardisoSolver) -> None:
    held = free_chain(20).tolil()
    held[0, 0] += 1e-13
    with pytest.raises(SingularSystemError):
        factorise(solver, sp.csr_array(held), "spd")
    tolerant = PardisoSolver(pivot_tolerance=1e-15)
    factor = factorise(tolerant, sp.csr_array(held), "spd")
    assert 1e-15 < factor.statistics.smallest_pivot_ratio < 1e-12
    with pytest.raises(IllConditionedError):
        factor.solve(vectors(20))
    with pytest.warns(IllConditionedWarning):
        factorise(PardisoSolver(pivot_tolerance=1e-15, forward_tolerance=np.inf), sp.csr_array(held), "spd").solve(
            vectors(20)
        )


def test_pivots_are_reported(solver: PardisoSolver) -> None:
    statistics = factorise(solver, laplacian(1, 1), "spd").statistics
    assert statistics.smallest_pivot_ratio == statistics.largest_pivot_ratio == pytest.approx(1.0)
    statistics = factorise(solver, laplacian(30), "spd").statistics
    assert 0.1 < statistics.smallest_pivot_ratio < statistics.largest_pivot_ratio < 1.0 + 1e-12
    assert statistics.perturbed_pivots == 0
    assert statistics.fill_nnz > statistics.nnz


def test_a_factor_that_will_not_fit_is_refused_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    """With figures, before the machine runs out of memory; later factors are made."""
    from femadj.solvers import handle

    pattern, values = handed_over(laplacian(30), "spd")
    symbolic = PardisoSolver().analyse(pattern, "spd")
    needed = symbolic.needed_bytes
    assert needed is not None
    monkeypatch.setattr(handle, "_CERTAIN", 0)
    monkeypatch.setattr(handle, "available_bytes", lambda: needed // 8)
    with pytest.raises(SolverMemoryError, match=r"double precision takes about .* GB, and there are"):
        symbolic.factor(values)
    monkeypatch.setattr(handle, "available_bytes", lambda: 2 * needed)
    np.testing.assert_allclose(laplacian(30) @ symbolic.factor(values).solve(np.ones(900)), 1.0)


def test_available_memory() -> None:
    found = available_bytes()
    assert found is None or 2**20 < found < 2**50
