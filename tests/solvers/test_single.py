"""Factors in single precision, and in double precision, as preconditioners."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from femadj.errors import (
    ApproximationError,
    IndefiniteSystemError,
    SingularSystemError,
    SolverError,
    SolverMemoryError,
)
from femadj.solvers import MatrixKind, available_solvers, get_solver
from femadj.solvers import mkl as driver
from femadj.solvers.exact import Exact
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.preconditioner import Approximation, Preconditioner
from femadj.solvers.single import SinglePrecision
from femadj.solvers.statistics import SMALL_PIVOT
from tests.solvers.conformance import (
    REGULAR,
    SINGULAR,
    advection_diffusion,
    factorise,
    handed_over,
    laplacian,
    saddle_point,
    shifted,
    vectors,
)

pytestmark = pytest.mark.skipif("pardiso" not in available_solvers(), reason="pypardiso or MKL is missing")

WORK_SPACE = 20_000_000
"""That PARDISO counts among what a factorisation needs beforehand, and not afterwards."""

KINDS: dict[MatrixKind, Callable[[], sp.csr_array]] = {
    "spd": lambda: laplacian(15),
    "symmetric": lambda: shifted(15, 0.5),
    "general": lambda: advection_diffusion(15, 2.0),
}


def on(structure: Structure, matrix: sp.sparray) -> Matrix:
    return Matrix(structure, handed_over(matrix, structure.kind)[1], 1e-16)


def single(matrix: sp.sparray, kind: MatrixKind) -> tuple[SinglePrecision, Matrix]:
    structure = Structure(handed_over(matrix, kind)[0], kind)
    return SinglePrecision(structure, threads=2), on(structure, matrix)


def left(matrix: sp.sparray, values: Matrix, x: np.ndarray, b: np.ndarray, *, transposed: bool) -> np.ndarray:
    """Residuals of every column relative to its right-hand side, equations in their scale."""
    scale = (values.columns if transposed else values.rows)[:, None]
    off = b - (matrix.T if transposed else matrix) @ x
    return np.abs(scale * off).max(axis=0) / np.abs(scale * b).max(axis=0)


# --------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("name", REGULAR)
def test_residuals_fall(name: str) -> None:
    """By a factor of a thousand and more with every application, which refinement proves: also transposed."""
    make, kind = REGULAR[name]
    matrix = make()
    approximation, values = single(matrix, kind)
    preconditioner = approximation.make(values)
    b = vectors(matrix.shape[0], 3) / values.rows[:, None]
    for transposed in (False, True):
        x = preconditioner.apply(b, transposed=transposed)
        assert left(matrix, values, x, b, transposed=transposed).max() < 1e-3
        for _ in range(4):
            off = b - (matrix.T if transposed else matrix) @ x
            x += preconditioner.apply(off, transposed=transposed)
        assert left(matrix, values, x, b, transposed=transposed).max() < 1e-13


@pytest.mark.parametrize("kind", KINDS)
def test_columns(kind: MatrixKind) -> None:
    matrix = KINDS[kind]()
    approximation, values = single(matrix, kind)
    preconditioner = approximation.make(values)
    r = vectors(225, 7) * np.logspace(-200, 200, 7)
    r[:, 3] = 0.0
    before = r.copy()
    for transposed in (False, True):
        x = preconditioner.apply(r, transposed=transposed)
        assert x.shape == r.shape
        assert x.dtype == np.float64
        assert x.flags.c_contiguous
        assert np.array_equal(r, before)
        assert np.array_equal(x, preconditioner.apply(r, transposed=transposed))  # same bits
        assert not x[:, 3].any()
        for j in range(7):
            alone = preconditioner.apply(np.ascontiguousarray(r[:, [j]]), transposed=transposed)
            np.testing.assert_allclose(x[:, [j]], alone, rtol=0, atol=1e-4 * np.abs(alone).max())
        assert preconditioner.apply(r[:, :0], transposed=transposed).shape == (225, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_transposed_pairs(kind: MatrixKind) -> None:
    """``s . A^-1 r = r . A^-T s`` to single precision."""
    matrix = KINDS[kind]()
    approximation, values = single(matrix, kind)
    preconditioner = approximation.make(values)
    r, s = vectors(225, 1, seed=1), vectors(225, 1, seed=2)
    x, y = preconditioner.apply(r, transposed=False), preconditioner.apply(s, transposed=True)
    size = np.linalg.norm(s) * np.linalg.norm(x)
    assert abs((s * x).sum() - (r * y).sum()) < 1e-5 * size
    other = preconditioner.apply(s, transposed=False)
    assert (np.abs(other - y).max() < 1e-3 * np.abs(y).max()) == (kind != "general")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", [1e-35, 1e35])
def test_units(kind: MatrixKind, unit: float) -> None:
    matrix = sp.csr_array(KINDS[kind]() * unit)
    approximation, values = single(matrix, kind)
    r = vectors(225, 2)
    x = approximation.make(values).apply(r, transposed=False)
    assert left(matrix, values, x, r, transposed=False).max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_units_of_every_unknown(kind: MatrixKind) -> None:
    """Seventy decades apart."""
    scale = 10.0 ** np.random.default_rng(1).uniform(-35, 35, 225)
    matrix = sp.csr_array(sp.diags_array(scale) @ KINDS[kind]() @ sp.diags_array(scale))
    approximation, values = single(matrix, kind)
    preconditioner = approximation.make(values)
    known = vectors(225, 2) / scale[:, None]
    x = preconditioner.apply(matrix @ known, transposed=False)
    np.testing.assert_allclose(x * scale[:, None], known * scale[:, None], atol=1e-2)


# -------------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_matrices_raise_doubts(name: str) -> None:
    """Never a verdict: there is no such factor, or its pivots are small."""
    make, kind = SINGULAR[name]
    approximation, values = single(make(), kind)
    try:
        smallest = approximation.make(values).smallest_pivot_ratio
    except ApproximationError:
        smallest = 0.0
    assert smallest is not None
    assert smallest < SMALL_PIVOT


@pytest.mark.parametrize("name", [name for name, (_, kind) in REGULAR.items() if kind == "spd"])
def test_smallest_pivot(name: str) -> None:
    """As the factor in double precision has it."""
    matrix = REGULAR[name][0]()
    approximation, values = single(matrix, "spd")
    smallest = approximation.make(values).smallest_pivot_ratio
    expected = factorise(get_solver("pardiso"), matrix, "spd").statistics.smallest_pivot_ratio
    assert smallest == pytest.approx(expected, rel=1e-3)
    assert smallest > SMALL_PIVOT


def test_failures_leave_no_trace(allocated: Callable[[], int]) -> None:
    approximation, values = single(laplacian(30), "spd")
    structure = values.structure
    overflowing = laplacian(30).tolil()
    overflowing[0, 0] = overflowing[1, 1] = 1e-300
    overflowing[0, 1] = overflowing[1, 0] = -1e20
    start = allocated()
    for wrong, words in [
        (shifted(30, 0.5), "pivot"),
        (shifted(30, 5.0), "diagonal entry 0 is not positive"),
        (sp.csr_array(overflowing), "inf"),
    ]:
        for _ in range(driver.FACTORS_PER_ANALYSIS + 1):
            with pytest.raises(ApproximationError, match=words):
                approximation.make(on(structure, wrong))
    assert allocated() - start < 2**17
    r = vectors(900, 1)
    x = approximation.make(values).apply(r, transposed=False)
    assert left(laplacian(30), values, x, r, transposed=False).max() < 1e-4
    assert (approximation.analyses, approximation.factorisations) == (1, driver.FACTORS_PER_ANALYSIS + 2)


@pytest.mark.parametrize("kind", ["symmetric", "general"])
def test_saddle_points_are_analysed_with_their_values_once(kind: MatrixKind) -> None:
    matrix = saddle_point(16)
    approximation, values = single(matrix, kind)
    approximation.make(values)
    assert (approximation.analyses, approximation.factorisations) == (2, 2)
    other = saddle_point(16)
    other.data *= np.random.default_rng(2).uniform(0.9, 1.1)
    approximation.make(on(values.structure, other)).close()
    assert (approximation.analyses, approximation.factorisations) == (2, 3)


def test_small_pivots_cost_one_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the help of the values, which does away with them here; where it does not, they are reported."""
    approximation, values = single(advection_diffusion(40, 1e4), "general")
    assert approximation.make(values).smallest_pivot_ratio > 0.1
    assert (approximation.analyses, approximation.factorisations) == (2, 2)
    approximation, values = single(advection_diffusion(15, 2.0), "general")
    monkeypatch.setattr(driver.Native, "pivots", lambda *_: (np.logspace(-8, 0, 225), np.ones(225)))
    for made in (2, 3):
        assert approximation.make(values).smallest_pivot_ratio == pytest.approx(1e-8)
        assert (approximation.analyses, approximation.factorisations) == (2, made)


# ---------------------------------------------------------------------------------------------------- memory


def test_half_the_memory_and_told_beforehand(allocated: Callable[[], int]) -> None:
    matrix = laplacian(22, 3)
    start = allocated()
    approximation, values = single(matrix, "spd")
    needed, analysis = approximation.needed_bytes, allocated()
    preconditioner: Preconditioner = approximation.make(values)
    size = allocated() - analysis
    assert preconditioner.nbytes <= needed <= 1.1 * preconditioner.nbytes + WORK_SPACE
    assert 0.5 * (size + analysis - start) < preconditioner.nbytes < 1.5 * (size + analysis - start)
    for _ in range(2):  # a loop that closes one before it makes the next holds one
        preconditioner.close()
        assert allocated() - analysis < 0.2 * size  # the first one brings some work space
        preconditioner = approximation.make(values)
        assert allocated() - analysis < 1.1 * size
    del preconditioner
    assert allocated() - analysis < 0.2 * size
    pattern, entries = handed_over(matrix, "spd")
    symbolic = get_solver("pardiso", threads=2).analyse(pattern, "spd")
    analysis = allocated()
    factor = symbolic.factor(entries)
    assert allocated() - analysis == pytest.approx(2.0 * size, rel=0.1)
    known = factor.statistics.factor_bytes
    assert known is not None
    assert known <= symbolic.needed_bytes <= 1.1 * known + WORK_SPACE
    assert get_solver("superlu").analyse(pattern, "spd").needed_bytes is None
    factor.close()
    del symbolic, factor
    approximation.close()
    assert allocated() - start < 0.1 * size


@pytest.mark.parametrize("phase", [driver.ANALYSE, driver.FACTORISE])
def test_out_of_memory(monkeypatch: pytest.MonkeyPatch, phase: int) -> None:
    """A handle that ran out of memory is given up."""
    call = driver.Native.call
    full = True

    def starved(self: driver.Native, number: int, *arguments: Any, **named: Any) -> None:
        if full and number == phase:
            raise driver.PardisoFailureError(-2, number, -1, 3_000_000_000)
        call(self, number, *arguments, **named)

    structure = Structure(handed_over(laplacian(10), "spd")[0], "spd")
    approximation = SinglePrecision(structure) if phase == driver.FACTORISE else None
    monkeypatch.setattr(driver.Native, "call", starved)
    with pytest.raises(SolverMemoryError, match="3 GB") as info:
        (approximation or SinglePrecision(structure)).make(on(structure, laplacian(10)))
    assert info.value.needed_bytes == 3_000_000_000
    full = False
    if approximation is not None:
        approximation.make(on(structure, laplacian(10)))
        assert (approximation.analyses, approximation.factorisations) == (2, 2)


@pytest.mark.parametrize("phase", [driver.ANALYSE, driver.FACTORISE])
def test_change_to_wide_integers(monkeypatch: pytest.MonkeyPatch, phase: int) -> None:
    """As if the factor had more entries than 32 bits count; its pivots cannot be read then."""
    call = driver.Native.call

    def overflowing(self: driver.Native, number: int, *arguments: Any, **named: Any) -> None:
        if number == phase and not self.options.wide:
            raise driver.PardisoFailureError(-8, number, -1)
        call(self, number, *arguments, **named)

    monkeypatch.setattr(driver.Native, "call", overflowing)
    for kind, make in KINDS.items():
        approximation, values = single(make(), kind)
        preconditioner = approximation.make(values)
        assert preconditioner.smallest_pivot_ratio is None
        r = vectors(225, 2)
        x = preconditioner.apply(r, transposed=True)
        assert left(make(), values, x, r, transposed=True).max() < 1e-3


# --------------------------------------------------------------------------------------------------- lifetime


def test_several_are_alive_and_outlive_the_analysis() -> None:
    matrices = [sp.csr_array(laplacian(8) + k * sp.eye_array(64)) for k in range(driver.FACTORS_PER_ANALYSIS + 1)]
    approximation, values = single(matrices[0], "spd")
    made = [approximation.make(on(values.structure, matrix)) for matrix in matrices]
    assert approximation.analyses == 2
    approximation.close()
    with pytest.raises(SolverError, match="closed"):
        approximation.make(values)
    del approximation
    b = vectors(64, 1)
    for matrix, preconditioner in zip(matrices, made, strict=True):
        assert left(matrix, values, preconditioner.apply(b, transposed=False), b, transposed=False).max() < 1e-5
        preconditioner.close()
        preconditioner.close()
        with pytest.raises(SolverError, match="closed"):
            preconditioner.apply(b, transposed=False)


def test_from_several_python_threads() -> None:
    approximation, values = single(laplacian(20), "spd")

    def work(k: int) -> None:
        matrix = sp.csr_array(laplacian(20) + k * sp.eye_array(400))
        preconditioner = approximation.make(on(values.structure, matrix))
        b = vectors(400, 2, seed=k)
        assert left(matrix, values, preconditioner.apply(b, transposed=False), b, transposed=False).max() < 1e-4

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(16)))
    assert (approximation.analyses, approximation.factorisations) == (1, 16)


# ----------------------------------------------------------------------------------------- double precision


@pytest.mark.parametrize("solver", available_solvers())
@pytest.mark.parametrize("name", ["blocks", "Helmholtz", "scales, symmetric", "small numbers, general", "advection"])
def test_double_precision(solver: str, name: str) -> None:
    make, kind = REGULAR[name]
    matrix = make()
    pattern, entries = handed_over(matrix, kind)
    symbolic = get_solver(solver).analyse(pattern, kind)
    approximation: Approximation = Exact(symbolic)
    preconditioner = Exact(symbolic).make(Matrix(Structure(pattern, kind), entries, 1e-16))
    b = vectors(matrix.shape[0], 2)
    for transposed, solve in ((False, preconditioner.factor.solve), (True, preconditioner.factor.T.solve)):
        x = preconditioner.apply(b, transposed=transposed)
        assert x.flags.c_contiguous
        np.testing.assert_allclose(x, solve(b), rtol=0, atol=1e-9 * np.abs(x).max())
    assert preconditioner.nbytes > 0
    assert preconditioner.seconds > 0.0
    assert preconditioner.apply(b[:, :0], transposed=False).shape == (matrix.shape[0], 0)
    preconditioner.close()
    with pytest.raises(SolverError, match="closed"):
        preconditioner.apply(b, transposed=False)
    approximation.close()
    with pytest.raises(SolverError, match="closed"):
        approximation.make(Matrix(Structure(pattern, kind), entries, 1e-16))


def test_only_double_precision_gives_a_verdict() -> None:
    make, kind = SINGULAR["part held nowhere"]
    pattern, entries = handed_over(make(), kind)
    with pytest.raises(SingularSystemError):
        Exact(get_solver().analyse(pattern, kind)).make(Matrix(Structure(pattern, kind), entries, 1e-16))


# ------------------------------------------------------------------------------------------- one takes over


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["single", "double"])
def test_giving_way(precision: str, kind: MatrixKind, allocated: Callable[[], int]) -> None:
    """The next one factorises in the memory of the last: same bits, no more memory, and the last is closed."""
    make = KINDS[kind]
    pattern, _ = handed_over(make(), kind)
    structure = Structure(pattern, kind)
    first, second = make(), sp.csr_array(make() + 0.01 * sp.eye_array(225))
    symbolic = get_solver("pardiso", threads=2).analyse(pattern, kind)
    approximation: Approximation = SinglePrecision(structure, 2) if precision == "single" else Exact(symbolic)
    r = vectors(225, 3)
    expected = approximation.make(on(structure, second)).apply(r, transposed=True)
    last = approximation.make(on(structure, first))
    used = allocated()
    last.give_way()
    live = approximation.make(on(structure, second))
    assert allocated() <= used
    last.give_way()
    last.close()  # which does not free what was left to another
    with pytest.raises(SolverError, match="closed"):
        last.apply(r, transposed=True)
    assert np.array_equal(live.apply(r, transposed=True), expected)
    live.close()
    with pytest.raises(SolverError, match="closed"):
        live.apply(r, transposed=True)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_giving_way_to_one_that_fails(precision: str, allocated: Callable[[], int]) -> None:
    matrix = laplacian(60)
    pattern, _ = handed_over(matrix, "spd")
    structure = Structure(pattern, "spd")
    symbolic = get_solver("pardiso", threads=2).analyse(pattern, "spd")
    approximation: Approximation = SinglePrecision(structure, 2) if precision == "single" else Exact(symbolic)
    approximation.make(on(structure, matrix)).close()
    start = allocated()
    live = approximation.make(on(structure, matrix))
    live.give_way()
    with pytest.raises((ApproximationError, IndefiniteSystemError)):
        approximation.make(on(structure, shifted(60, 0.5)))
    with pytest.raises(SolverError, match="closed"):
        live.apply(vectors(3600, 1), transposed=False)
    assert allocated() - start < 2**17
    other = Exact(get_solver("superlu").analyse(pattern, "spd")).make(on(structure, matrix))
    other.give_way()
    assert other.factor.closed
