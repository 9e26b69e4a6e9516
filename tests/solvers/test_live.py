"""One live inverse for several matrices: renewals, age and precision show in counts and never in answers."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp

import femadj as fa
from femadj.errors import (
    ApproximationError,
    IndefiniteSystemError,
    SingularSystemError,
    SolverError,
    SolverUnavailableError,
)
from femadj.solvers import ITERATED, LiveSolver, available_solvers, get_solver, linear_solver
from femadj.solvers.inverse import Rung
from femadj.solvers.krylov import conjugate_gradients, gmres
from femadj.solvers.live import LiveSymbolic
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.recent import projected
from femadj.solvers.rows import BlockLayout
from femadj.solvers.unknowns import Unknowns
from tests.solvers.conformance import (
    advection_diffusion,
    block_spd,
    free_chain,
    handed_over,
    laplacian,
    saddle_point,
    shifted,
    two_material_chain,
    vectors,
)

EXACT = get_solver(available_solvers()[0])


def works(name: str) -> bool:
    try:
        get_solver(name)
    except SolverUnavailableError:
        return False
    return True


NAMES = [name for name in ITERATED if works(name)]


# ---------------------------------------------------------------------- products and iterations
@pytest.mark.parametrize("kind", ["spd", "general"])
@pytest.mark.parametrize("components", [1, 2, 3, 4])
@pytest.mark.parametrize("threads", [1, 3])
def test_products_by_rows_of_blocks(kind: str, components: int, threads: int) -> None:
    matrix = block_spd(7, components)
    if kind == "general":
        matrix = sp.csr_array(matrix * (1.0 + np.arange(matrix.shape[0]))[:, None])
    pattern, values = handed_over(matrix, kind)  # type: ignore[arg-type]
    rows = BlockLayout(pattern, components, threads).filled(values)
    assert rows.blocks.shape[1:] == (components, components)
    x = vectors(matrix.shape[0], 6)
    np.testing.assert_allclose(rows.times(x), matrix @ x, rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(rows.times(x, transposed=True), matrix.T @ x, rtol=1e-13, atol=1e-12)
    for k in range(6):
        assert np.array_equal(rows.times(np.ascontiguousarray(x[:, k : k + 1]))[:, 0], rows.times(x)[:, k])
    one = BlockLayout(pattern, components, 1).filled(values)
    assert np.array_equal(one.times(x), rows.times(x))


def test_patterns_without_blocks_are_taken_by_entries() -> None:
    for matrix in (laplacian(6), sp.csr_array(sp.eye_array(36))):
        pattern, values = handed_over(matrix, "spd")
        rows = BlockLayout(pattern, 3, 1).filled(values)
        assert rows.blocks.shape[1:] == (1, 1)
        x = vectors(36, 1)
        np.testing.assert_allclose(rows.times(x), matrix @ x)


def test_conjugate_gradients() -> None:
    matrix = laplacian(12)
    b = np.column_stack([vectors(144, 3), np.zeros(144)])
    diagonal = matrix.diagonal()[:, None]
    solve = partial(conjugate_gradients, lambda p: matrix @ p, lambda r: r / diagonal, tolerance=1e-12, most=100)
    found = solve(b)
    exact = sp.linalg.spsolve(sp.csc_array(matrix), b)
    np.testing.assert_allclose(found.x, exact, rtol=1e-9, atol=1e-11)
    assert found.counts[3] == 0
    assert not found.x[:, 3].any()
    for k in range(3):
        alone = solve(np.ascontiguousarray(b[:, k : k + 1]))
        assert alone.counts[0] == found.counts[k]
        np.testing.assert_allclose(alone.x[:, 0], found.x[:, k], rtol=1e-13)
    guess = projected(lambda p: matrix @ p, np.ascontiguousarray(exact[:, :2].T), b)
    assert (solve(b, guess).counts[:2] == 0).all()
    with pytest.raises(ApproximationError, match="5 iterations"):
        solve(b, most=5)
    with pytest.raises(ApproximationError, match=r"20 iterations leave .* more than 25 may take"):
        solve(b, most=25)
    with pytest.raises(ApproximationError, match="matrix is not positive"):
        conjugate_gradients(lambda p: shifted(12, 0.5) @ p, lambda r: r, b, tolerance=1e-12, most=100)
    with pytest.raises(ApproximationError, match="preconditioner is not positive"):
        conjugate_gradients(lambda p: matrix @ p, lambda r: -r, b, tolerance=1e-12, most=100)


def test_gmres() -> None:
    matrix = advection_diffusion(12, 3.0)
    b = np.column_stack([vectors(144, 2), np.zeros(144)])
    found = gmres(lambda p: matrix @ p, lambda r: r / 4.0, b, tolerance=1e-13, most=144)
    np.testing.assert_allclose(found.x, sp.linalg.spsolve(sp.csc_array(matrix), b), rtol=1e-9, atol=1e-11)
    with pytest.raises(ApproximationError, match="5 iterations"):
        gmres(lambda p: matrix @ p, lambda r: r, b, tolerance=1e-13, most=5)
    with pytest.raises(ApproximationError, match="break down"):
        gmres(lambda p: 0.0 * p, lambda r: r, b, tolerance=1e-13, most=5)


# ---------------------------------------------------------------------- one live inverse
def designs(kind: str, count: int = 5, step: float = 0.02) -> list[sp.csr_array]:
    """Matrices on one pattern along a smooth path."""
    base = {"spd": laplacian(24), "symmetric": saddle_point(12), "general": advection_diffusion(20, 3.0)}[kind]
    n = base.shape[0]
    shape = np.sin(np.arange(n) / n * 3.0)
    paths = []
    for k in range(count):
        scale = sp.diags_array(1.0 + k * step * shape)
        paths.append(sp.csr_array(scale @ base @ scale))
    return paths


@pytest.mark.parametrize("kind", ["spd", "symmetric", "general"])
@pytest.mark.parametrize("name", [*NAMES, "live"])
def test_path_of_designs(kind: str, name: str) -> None:
    """Every design has its own answer, also when asked again after others were factorised."""
    solver = LiveSolver(EXACT) if name == "live" else get_solver(name)
    matrices = designs(kind)
    symbolic = solver.analyse(handed_over(matrices[0], kind)[0], kind)  # type: ignore[arg-type]
    known = vectors(matrices[0].shape[0], 2)
    factors = []
    for matrix in matrices:
        factor = symbolic.factor(handed_over(matrix, kind)[1])  # type: ignore[arg-type]
        factors.append(factor)
        np.testing.assert_allclose(factor.solve(matrix @ known), known, rtol=0, atol=1e-9)
        np.testing.assert_allclose(factor.T.solve(matrix.T @ known), known, rtol=0, atol=1e-9)
    made = symbolic.factorisations
    assert made <= len(matrices) if solver.capabilities.lags else made == len(matrices)
    for factor, matrix in zip(factors, matrices, strict=True):
        np.testing.assert_allclose(factor.solve(matrix @ known), known, rtol=0, atol=1e-9)
        np.testing.assert_allclose(factor.T.solve(matrix.T @ known), known, rtol=0, atol=1e-9)
    assert symbolic.analyses >= 1
    symbolic.close()
    np.testing.assert_allclose(factors[0].solve(matrices[0] @ known), known, rtol=0, atol=1e-9)


class Scripted:
    """A preconditioner by script: exact for the matrix it was made of, and counted."""

    name, nbytes = "scripted", 8

    def __init__(self, matrix: Matrix, log: list[str], seconds: float) -> None:
        self.seconds = seconds
        self._log = log
        self._factor = (
            get_solver("superlu").analyse(matrix.structure.pattern, matrix.structure.kind).factor(matrix.values)
        )

    def apply(self, r: np.ndarray, *, transposed: bool) -> np.ndarray:
        return np.ascontiguousarray((self._factor.T if transposed else self._factor).correct(r))

    def close(self) -> None:
        self._log.append("closed")

    def give_way(self) -> None:
        """It is closed afterwards all the same."""


class Script:
    """An approximation whose preconditioners take a time that is made up, or cannot be made."""

    log: list[str]
    seconds = 1e9
    refuses = False

    def __init__(self, structure: Structure, threads: int | None) -> None:
        self.log.append("analysed")

    def make(self, matrix: Matrix) -> Scripted:
        if self.refuses:
            raise ApproximationError("by script")
        self.log.append("made")
        return Scripted(matrix, self.log, self.seconds)

    def close(self) -> None:
        self.log.append("given up")


def scripted(log: list[str], seconds: float = 1e9, refuses: bool = False) -> type[Script]:
    return type("Scripted", (Script,), {"log": log, "seconds": seconds, "refuses": refuses})


def analysed(matrix: sp.csr_array, *rungs: Rung, lag: bool = True) -> LiveSymbolic:
    symbolic = LiveSolver(EXACT, rungs, lag=lag).analyse(handed_over(matrix, "spd")[0], "spd")
    assert isinstance(symbolic, LiveSymbolic)
    return symbolic


def test_a_preconditioner_is_renewed_when_iterations_have_cost_as_much() -> None:
    matrices = designs("spd", 6)
    for seconds in (1e9, 0.0):
        log: list[str] = []
        symbolic = analysed(matrices[0], Rung(scripted(log, seconds), 25))
        ages = []
        for matrix in matrices:
            factor = symbolic.factor(handed_over(matrix, "spd")[1])
            factor.solve(np.ones(576))
            found = factor.statistics
            ages.append(found.age)
            assert found.preconditioner == "scripted"
            assert found.iterations >= 1
            assert found.forward_error is not None
            assert found.forward_error <= 1e-10
        # the design after one with iterations on a stale one gets a fresh one
        assert ages == [0, 1, 2, 3, 4, 5] if seconds else ages == [0, 1, 0, 1, 0, 1]
        assert symbolic.factorisations == log.count("made") == (1 if seconds else 3)
        assert log.count("closed") == log.count("made") - 1  # one is alive at any time


def test_what_does_not_serve_is_followed_by_a_factor() -> None:
    matrix = laplacian(24)
    values = handed_over(matrix, "spd")[1]
    b = vectors(576)
    for rung in (Rung(scripted([], refuses=True), 25), Rung(scripted([]), 0)):
        symbolic = analysed(matrix, rung)
        x = symbolic.factor(values).solve(b)
        assert np.array_equal(x, EXACT.analyse(handed_over(matrix, "spd")[0], "spd").factor(values).solve(b))
    log: list[str] = []
    symbolic = analysed(matrix, Rung(scripted(log), 25))
    first = symbolic.factor(values)
    first.solve(b)
    far = sp.csr_array(laplacian(24) + 1e6 * sp.diags_array(np.arange(576) % 2.0))  # no iteration gets there
    np.testing.assert_allclose(far @ symbolic.factor(handed_over(far, "spd")[1]).solve(b), b, atol=1e-9)
    assert log.count("made") == 2


def test_a_preconditioner_that_does_not_see_all_is_found_out_by_backward_errors() -> None:
    """Iterations converge in its half of the space; a factor in double precision takes over."""

    class Blind(scripted([])):  # type: ignore[misc]
        def make(self, matrix: Matrix) -> Scripted:
            made = super().make(matrix)
            whole = made.apply

            def half(r: np.ndarray, *, transposed: bool) -> np.ndarray:
                seen = np.arange(len(r))[:, None] < len(r) // 2
                return np.where(seen, whole(np.where(seen, r, 0.0), transposed=transposed), 0.0)

            made.apply = half  # type: ignore[method-assign]
            return made

    matrix, b = laplacian(24), vectors(576)
    symbolic = analysed(matrix, Rung(Blind, 300))
    factor = symbolic.factor(handed_over(matrix, "spd")[1])
    np.testing.assert_allclose(matrix @ factor.solve(b), b, atol=1e-10)
    assert factor.statistics.preconditioner is None
    assert symbolic.factorisations == 2


def test_only_double_precision_calls_a_matrix_singular_or_indefinite() -> None:
    chain = free_chain(2000)
    for name in NAMES:
        symbolic = get_solver(name).analyse(handed_over(chain, "spd")[0], "spd")
        with pytest.raises(SingularSystemError):
            symbolic.factor(handed_over(chain, "spd")[1])
    # a design that becomes singular, or indefinite, while an old factor is live
    held = chain.tolil()
    held[0, 0] = 2.0
    for name in NAMES:
        symbolic = get_solver(name).analyse(handed_over(chain, "spd")[0], "spd")
        x = symbolic.factor(handed_over(sp.csr_array(held), "spd")[1]).solve(np.ones(2000))
        np.testing.assert_allclose(held @ x, 1.0, atol=1e-7)
        balanced = np.zeros(2000)
        balanced[[0, -1]] = 1.0, -1.0  # has solutions all the same
        with pytest.raises(SingularSystemError):
            symbolic.factor(handed_over(chain, "spd")[1]).solve(balanced)
    grid = laplacian(30)
    for name in NAMES:
        symbolic = get_solver(name).analyse(handed_over(grid, "spd")[0], "spd")
        symbolic.factor(handed_over(grid, "spd")[1]).solve(np.ones(900))
        with pytest.raises(IndefiniteSystemError):
            symbolic.factor(handed_over(shifted(30, 0.5), "spd")[1]).solve(np.ones(900))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", [1.0, 0.3])
def test_a_small_part_that_is_held_nowhere_is_found_beside_a_large_one(name: str, unit: float) -> None:
    """At the first design, and when it comes loose later; the load is none on it, so that there are solutions."""
    large, free = laplacian(12, 3), sp.csr_array(free_chain(8) * unit)
    held = free.tolil()
    held[0, 0] *= 2.0
    fixed, loose = (sp.csr_array(sp.block_diag([large, part])) for part in (sp.csr_array(held), free))
    b = np.append(np.ones(12**3), np.zeros(8))
    pattern, values = handed_over(loose, "spd")
    with pytest.raises(SingularSystemError):
        get_solver(name).analyse(pattern, "spd").factor(values).solve(b)
    symbolic = get_solver(name).analyse(pattern, "spd")
    np.testing.assert_allclose(fixed @ symbolic.factor(handed_over(fixed, "spd")[1]).solve(b), b, atol=1e-10)
    with pytest.raises(SingularSystemError):
        symbolic.factor(values).solve(b)


@pytest.mark.parametrize("name", NAMES)
def test_large_conditions_are_left_to_double_precision(name: str) -> None:
    matrix = two_material_chain(3000, 1e6)
    pattern, values = handed_over(matrix, "spd")
    b = vectors(3000)
    ours = get_solver(name).analyse(pattern, "spd").factor(values)
    with pytest.warns(fa.IllConditionedWarning):
        x = ours.solve(b)
    exact = EXACT.analyse(pattern, "spd").factor(values)
    with pytest.warns(fa.IllConditionedWarning):
        assert np.array_equal(x, exact.solve(b))
    assert ours.statistics.preconditioner is None


def test_registry_of_linear_solvers() -> None:
    assert isinstance(linear_solver(), LiveSolver)
    assert isinstance(linear_solver("superlu"), LiveSolver)
    assert linear_solver("superlu", keep_factor=True).name == "superlu"
    assert linear_solver("lagged").name == "lagged"
    with pytest.raises(SolverError, match="no factor to keep"):
        linear_solver("lagged", keep_factor=True)


# ---------------------------------------------------------------------- memory
def test_one_factor_is_alive() -> None:
    """Whatever solutions are kept, and 200 solves leave nothing behind."""
    matrices = designs("spd", 3)
    symbolic = analysed(matrices[0], lag=False)
    alive: list[weakref.ref[object]] = []
    kept = []
    for k in range(200):
        factor = symbolic.factor(handed_over(matrices[k % 3], "spd")[1])
        factor.solve(np.ones(576))
        alive.append(weakref.ref(symbolic._live._factor))
        if k % 50 == 0:
            kept.append(factor)
    closed = [found for ref in alive if (found := ref()) is not None and not found.closed]  # type: ignore[attr-defined]
    assert len({id(each) for each in closed}) == 1
    del factor
    gc.collect()
    assert sum(ref() is not None for ref in alive) <= len(kept) + 1
    last = symbolic.factor(handed_over(matrices[0], "spd")[1])
    last.close()
    assert symbolic._live._current is None
    with pytest.raises(SolverError, match="closed"):
        last.solve(np.ones(576))


def test_matrices_written_to_are_noticed() -> None:
    matrix = designs("spd", 2)
    symbolic = analysed(matrix[0], Rung(scripted([]), 25))
    symbolic.factor(handed_over(matrix[0], "spd")[1]).solve(np.ones(576))
    values = handed_over(matrix[1], "spd")[1]
    factor = symbolic.factor(values)
    factor.solve(np.ones(576))
    values *= 2.0
    with pytest.raises(SolverError, match="were changed"):
        factor.solve(np.ones(576))


def test_unknowns_of_blocks() -> None:
    """What a problem tells of its unknowns reaches the products."""
    matrix = block_spd(6)
    pattern, values = handed_over(matrix, "spd")
    symbolic = LiveSolver(EXACT, lag=True).analyse(pattern, "spd", unknowns=Unknowns(components=3, dim=3))
    assert symbolic._structure.layout.components == 3
    first = symbolic.factor(values)
    second = symbolic.factor(values * (1.0 + 1e-3 * np.sin(values)))
    assert first.solve(np.ones(108)) is not None
    assert second.statistics.age == 1
