"""What every solver must do. A new back end joins in the fixture of ``test_conformance.py``."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import scipy.sparse as sp

from femadj.errors import (
    IllConditionedWarning,
    IndefiniteSystemError,
    NonFiniteError,
    ResidualError,
    SingularSystemError,
    SolverError,
)
from femadj.solvers import Factor, MatrixKind, Solver, Symbolic
from femadj.solvers.structure import CsrPattern

# ------------------------------------------------------------------------------------------------ matrices


def laplacian(n: int, dim: int = 2) -> sp.csr_array:
    """Finite difference Laplacian with fixed ends, n points a side."""
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    matrix = line
    for _ in range(dim - 1):
        matrix = sp.kron(matrix, sp.eye_array(n)) + sp.kron(sp.eye_array(matrix.shape[0]), line)
    return sp.csr_array(matrix)


def free_chain(n: int) -> sp.csr_array:
    """Springs in a row, held nowhere: singular, the constant vector is its null vector."""
    matrix = laplacian(n, 1).tolil()
    matrix[0, 0] = matrix[n - 1, n - 1] = 1.0
    return sp.csr_array(matrix)


def two_material_chain(n: int, contrast: float) -> sp.csr_array:
    """Springs in a row, held at one end, the outer half stiffer by the contrast."""
    k = np.where(np.arange(n) < n // 2, 1.0, contrast)
    return sp.csr_array(sp.diags_array([k + np.append(k[1:], 0.0), -k[1:], -k[1:]], offsets=[0, 1, -1], shape=(n, n)))


def block_spd(n: int, components: int = 3) -> sp.csr_array:
    """Several unknowns a node, coupled within the node: the block structure of elasticity."""
    rng = np.random.default_rng(7)
    block = rng.standard_normal((components, components))
    return sp.csr_array(sp.kron(laplacian(n), block @ block.T + components * np.eye(components)))


def shifted(n: int, shift: float) -> sp.csr_array:
    """Helmholtz operator, indefinite once the shift exceeds the smallest eigenvalue."""
    return sp.csr_array(laplacian(n) - shift * sp.eye_array(n * n))


def saddle_point(n: int, *, singular: bool = False, seed: int = 3) -> sp.csr_array:
    """Laplacian with constraints: zero diagonal block, symmetric and indefinite."""
    stiffness = laplacian(n)
    size, m = n * n, n * n // 4
    rng = np.random.default_rng(seed)
    where = (np.repeat(np.arange(m), 6), rng.integers(0, size, 6 * m))
    constraints = sp.coo_array((rng.random(6 * m), where), shape=(m, size))
    constraints = sp.csr_array(constraints + sp.eye_array(m, size, k=5))
    if singular:
        constraints = sp.vstack([constraints[:-1], constraints[:1]], format="csr")
    return sp.csr_array(sp.block_array([[stiffness, constraints.T], [constraints, None]]))


def advection_diffusion(n: int, speed: float) -> sp.csr_array:
    """Central differences; nonsymmetric values on a symmetric pattern."""
    slope = sp.diags_array([-0.5, 0.5], offsets=[-1, 1], shape=(n, n))
    return sp.csr_array(laplacian(n) + speed * sp.kron(slope, sp.eye_array(n)))


def with_diagonal(matrix: sp.sparray) -> sp.csr_array:
    """The same matrix with every diagonal entry stored, zeros included."""
    matrix = sp.coo_array(matrix)
    every = np.arange(matrix.shape[0])
    data = np.concatenate([matrix.data, np.zeros(len(every))])
    row, column = np.concatenate([matrix.row, every]), np.concatenate([matrix.col, every])
    return sp.csr_array(sp.coo_array((data, (row, column)), shape=matrix.shape))


def handed_over(matrix: sp.sparray, kind: MatrixKind) -> tuple[CsrPattern, np.ndarray]:
    """Pattern and values in the triangle that the kind asks for."""
    stored = sp.csr_array(matrix)
    if kind != "general":
        stored = sp.csr_array(sp.triu(with_diagonal(stored)))
    stored.sort_indices()
    pattern = CsrPattern(
        stored.indptr.astype(np.int64),
        stored.indices.astype(np.int32),
        "full" if kind == "general" else "upper",
    )
    return pattern, stored.data.astype(np.float64)


def factorise(solver: Solver, matrix: sp.sparray, kind: MatrixKind) -> Factor:
    pattern, values = handed_over(matrix, kind)
    return solver.analyse(pattern, kind).factor(values)


def vectors(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *shape))


def assert_solves(factor: Factor, matrix: sp.sparray, *, tolerance: float = 1e-9, seed: int = 1) -> None:
    """Recover a known vector with the matrix and with its transpose."""
    known = vectors(matrix.shape[0], seed=seed)
    size = np.abs(known).max()
    assert np.abs(factor.solve(matrix @ known) - known).max() <= tolerance * size
    assert np.abs(factor.T.solve(matrix.T @ known) - known).max() <= tolerance * size


REGULAR: dict[str, tuple[Callable[[], sp.csr_array], MatrixKind]] = {
    "one equation": (lambda: sp.csr_array([[3.0]]), "spd"),
    "one equation, negative": (lambda: sp.csr_array([[-3.0]]), "symmetric"),
    "one equation, general": (lambda: sp.csr_array([[-3.0]]), "general"),
    "two equations": (lambda: sp.csr_array([[2.0, 1.0], [1.0, 2.0]]), "spd"),
    "swap": (lambda: sp.csr_array([[0.0, 1.0], [1.0, 0.0]]), "symmetric"),
    "Laplacian": (lambda: laplacian(140), "spd"),
    "Laplacian in 3-D": (lambda: laplacian(17, 3), "spd"),
    "Laplacian as symmetric": (lambda: laplacian(40), "symmetric"),
    "Laplacian as general": (lambda: laplacian(40), "general"),
    "blocks": (lambda: block_spd(30), "spd"),
    "scales": (lambda: sp.csr_array(sp.diags_array(np.logspace(-12, 12, 49))), "spd"),
    "scales, symmetric": (lambda: sp.csr_array(sp.diags_array(np.logspace(-12, 12, 49))), "symmetric"),
    "scales, general": (lambda: sp.csr_array(sp.diags_array(np.logspace(-12, 12, 49))), "general"),
    "Helmholtz": (lambda: shifted(60, 0.5), "symmetric"),
    "small numbers": (lambda: sp.csr_array(laplacian(20) * 1e-12), "spd"),
    "small numbers, symmetric": (lambda: sp.csr_array(shifted(20, 0.5) * 1e-12), "symmetric"),
    "small numbers, general": (lambda: sp.csr_array(advection_diffusion(20, 2.0) * 1e-12), "general"),
    "large numbers": (lambda: sp.csr_array(laplacian(20) * 1e12), "spd"),
    "large numbers, symmetric": (lambda: sp.csr_array(shifted(20, 0.5) * 1e12), "symmetric"),
    "large numbers, general": (lambda: sp.csr_array(advection_diffusion(20, 2.0) * 1e12), "general"),
    "saddle point": (lambda: saddle_point(30), "symmetric"),
    "saddle point, general": (lambda: saddle_point(30), "general"),
    "advection": (lambda: advection_diffusion(60, 10.0), "general"),
    "strong advection": (lambda: advection_diffusion(40, 1e4), "general"),
    "cycle without diagonal": (lambda: sp.csr_array(np.roll(np.eye(50), 1, axis=0)), "general"),
}

SINGULAR: dict[str, tuple[Callable[[], sp.csr_array], MatrixKind]] = {
    "zero": (lambda: sp.csr_array(with_diagonal(sp.csr_array((1, 1)))), "spd"),
    "zero row": (lambda: with_diagonal(sp.csr_array(np.diag([1.0, 0.0, 2.0]))), "symmetric"),
    "zero column": (
        lambda: with_diagonal(sp.csr_array([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 2.0]])),
        "general",
    ),
    "free chain": (lambda: free_chain(50), "spd"),
    "long free chain": (lambda: free_chain(2000), "spd"),
    "free chain, symmetric": (lambda: free_chain(50), "symmetric"),
    "free chain, general": (lambda: free_chain(50), "general"),
    "scaled free chain": (lambda: sp.csr_array(free_chain(50) * 1e-9), "spd"),
    "large free chain, symmetric": (lambda: sp.csr_array(free_chain(50) * 1e12), "symmetric"),
    "large free chain, general": (lambda: sp.csr_array(free_chain(50) * 1e12), "general"),
    "part held nowhere": (lambda: sp.csr_array(sp.block_diag([laplacian(20), free_chain(30)])), "spd"),
    "repeated constraint": (lambda: saddle_point(20, singular=True), "symmetric"),
    "repeated constraint, general": (lambda: saddle_point(20, singular=True), "general"),
}


# --------------------------------------------------------------------------------------------------- suite


class SolverConformance:
    """Derive from this with a fixture ``solver`` in scope."""

    @pytest.mark.parametrize("name", REGULAR)
    def test_solves(self, solver: Solver, name: str) -> None:
        make, kind = REGULAR[name]
        matrix = make()
        with factorise(solver, matrix, kind) as factor:
            assert_solves(factor, matrix)
            assert factor.statistics.n == matrix.shape[0]
            assert factor.statistics.solves == 2
            assert factor.statistics.relative_residual <= 1e-12

    def test_high_contrast_is_not_singular(self, solver: Solver) -> None:
        matrix = two_material_chain(200, 1e8)
        for kind in ("spd", "symmetric", "general"):
            with pytest.warns(IllConditionedWarning):
                assert_solves(factorise(solver, matrix, kind), matrix, tolerance=1e-3)

    def test_same_pattern_new_values(self, solver: Solver) -> None:
        pattern, _ = handed_over(laplacian(30), "spd")
        symbolic = solver.analyse(pattern, "spd")
        for k in range(4):
            matrix = laplacian(30) + sp.csr_array(10.0**k * sp.eye_array(900))
            assert_solves(symbolic.factor(handed_over(matrix, "spd")[1]), matrix)
        assert symbolic.analyses == 1
        assert symbolic.factorisations == 4 or (solver.capabilities.lags and symbolic.factorisations < 4)
        assert symbolic.pattern is pattern
        assert symbolic.kind == "spd"

    def test_values_far_from_the_first_ones(self, solver: Solver) -> None:
        """Large entries off the diagonal, then on it, and a diagonal that vanishes half way."""
        base = with_diagonal(advection_diffusion(20, 1.0))
        pattern, _ = handed_over(base, "general")
        symbolic = solver.analyse(pattern, "general")
        rng = np.random.default_rng(4)
        for trial, spread in enumerate((0.0, 1.0, 2.0, 1.0)):
            matrix = base.copy()
            matrix.data = rng.standard_normal(matrix.nnz) * 10.0 ** rng.uniform(-spread, spread, matrix.nnz)
            if trial % 2:
                diagonal = matrix.diagonal()
                diagonal[::3] = 0.0
                matrix.setdiag(diagonal)
            assert_solves(symbolic.factor(matrix.data), matrix, tolerance=1e-7)
        assert symbolic.factorisations >= 4

    @pytest.mark.parametrize("kind", ["symmetric", "general"])
    def test_rescaled_saddle_points(self, solver: Solver, kind: MatrixKind) -> None:
        base = saddle_point(16)
        n = base.shape[0]
        symbolic = solver.analyse(handed_over(base, kind)[0], kind)
        rng = np.random.default_rng(5)
        for spread in (0.0, 1.0, 2.0):
            scale = sp.diags_array(10.0 ** rng.uniform(-spread, spread, n))
            matrix = sp.csr_array(scale @ base @ scale)
            assert_solves(symbolic.factor(handed_over(matrix, kind)[1]), matrix, tolerance=1e-5)

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("k", [0, 1, 3, 17])
    def test_many_right_hand_sides(self, solver: Solver, k: int, order: str) -> None:
        matrix = advection_diffusion(15, 2.0)
        factor = factorise(solver, matrix, "general")
        b = np.array(vectors(225, k), order=order)
        before = b.copy()
        x, y = factor.solve(b), factor.T.solve(b)
        assert x.shape == y.shape == (225, k)
        assert np.array_equal(b, before)
        for j in range(k):
            np.testing.assert_allclose(x[:, j], factor.solve(b[:, j]), rtol=1e-11, atol=1e-13)
            np.testing.assert_allclose(y[:, j], factor.T.solve(b[:, j]), rtol=1e-11, atol=1e-13)

    def test_zero_right_hand_side(self, solver: Solver) -> None:
        factor = factorise(solver, laplacian(5), "spd")
        assert not factor.solve(np.zeros(25)).any()
        b = np.stack([np.zeros(25), np.ones(25)], axis=1)
        assert not factor.solve(b)[:, 0].any()

    def test_transposed_against_a_fresh_factor(self, solver: Solver) -> None:
        matrix = advection_diffusion(40, 3.0)
        b = vectors(1600)
        ours = factorise(solver, matrix, "general").T.solve(b)
        fresh = factorise(solver, sp.csr_array(matrix.T), "general").solve(b)
        np.testing.assert_allclose(ours, fresh, rtol=1e-10, atol=1e-12)
        assert np.abs(ours - factorise(solver, matrix, "general").solve(b)).max() > 1e-3

    @pytest.mark.parametrize(("name", "kind"), [("Helmholtz", "symmetric"), ("advection", "general")])
    def test_dot_product_identity(self, solver: Solver, name: str, kind: MatrixKind) -> None:
        factor = factorise(solver, REGULAR[name][0](), kind)
        b, g = vectors(3600, seed=1), vectors(3600, seed=2)
        u, lam = factor.solve(b), factor.T.solve(g)
        assert lam @ b == pytest.approx(g @ u, rel=1e-10)

    def test_transposed_view(self, solver: Solver) -> None:
        for kind in ("spd", "symmetric"):
            factor = factorise(solver, laplacian(4), kind)
            assert factor.T is factor
        factor = factorise(solver, advection_diffusion(4, 1.0), "general")
        assert factor.T is not factor
        assert factor.T.T is factor
        factor.T.solve(np.ones(16))
        assert factor.T.statistics.solves == factor.statistics.solves == 1

    @pytest.mark.parametrize("name", SINGULAR)
    def test_singular(self, solver: Solver, name: str) -> None:
        make, kind = SINGULAR[name]
        with pytest.raises(SingularSystemError, match="singular"):
            factorise(solver, make(), kind)

    def test_singular_equation_is_named(self, solver: Solver) -> None:
        held, free = laplacian(20), free_chain(30)
        matrix = sp.csr_array(sp.block_diag([held, free, held]))
        for kind in ("spd", "general"):
            with pytest.raises(SingularSystemError) as info:
                factorise(solver, matrix, kind)
            assert info.value.equation is None or 400 <= info.value.equation < 430

    @pytest.mark.parametrize("equation", [0, 137, 399])
    def test_negative_diagonal_is_named(self, solver: Solver, equation: int) -> None:
        matrix = laplacian(20).tolil()
        matrix[equation, equation] = -1.0
        with pytest.raises(IndefiniteSystemError) as info:
            factorise(solver, sp.csr_array(matrix), "spd")
        assert info.value.equation == equation

    def test_indefinite(self, solver: Solver) -> None:
        pattern, values = handed_over(laplacian(30), "spd")
        symbolic = solver.analyse(pattern, "spd")
        with pytest.raises(IndefiniteSystemError) as info:
            symbolic.factor(handed_over(shifted(30, 0.5), "spd")[1])
        assert info.value.equation is None or 0 <= info.value.equation < 900
        assert_solves(symbolic.factor(values), laplacian(30))  # a failure leaves no trace

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, solver: Solver, bad: float) -> None:
        for kind in ("spd", "symmetric", "general"):
            pattern, values = handed_over(laplacian(10), kind)
            symbolic = solver.analyse(pattern, kind)
            spoilt = values.copy()
            spoilt[pattern.indptr[7]] = bad
            with pytest.raises(NonFiniteError) as in_matrix:
                symbolic.factor(spoilt)
            assert 7 in in_matrix.value.equations
            factor = symbolic.factor(values)
            b = np.ones((100, 2))
            b[[3, 50], 1] = bad
            with pytest.raises(NonFiniteError) as in_load:
                factor.solve(b)
            assert in_load.value.equations == (3, 50)
            with pytest.raises(NonFiniteError):
                factor.T.solve(b[:, 1])
            assert_solves(factor, laplacian(10))

    def test_wrong_input(self, solver: Solver) -> None:
        pattern, values = handed_over(laplacian(4), "spd")
        symbolic = solver.analyse(pattern, "spd")
        for wrong in (values[:-1], values[None], values.astype(np.float32), values + 0j, values.tolist()):
            with pytest.raises(SolverError):
                symbolic.factor(wrong)
        factor = symbolic.factor(values)
        b = np.ones(16)
        for wrong in (b[:-1], b[None], np.ones((16, 1, 1)), np.float64(1.0), b.astype(int), b + 0j):
            with pytest.raises(SolverError):
                factor.solve(wrong)
        assert symbolic.factorisations == 1

    def test_wrong_patterns(self, solver: Solver) -> None:
        upper, _ = handed_over(laplacian(4), "spd")
        full, _ = handed_over(laplacian(4), "general")
        reversed_rows = CsrPattern(full.indptr, full.indices[::-1].copy(), "full")
        lower = CsrPattern(full.indptr, full.indices, "upper")
        out_of_range = CsrPattern(full.indptr, full.indices + np.int32(1), "full")
        repeated = CsrPattern(np.array([0, 2, 3]), np.array([0, 0, 1], np.int32), "full")
        short = CsrPattern(full.indptr - 1, full.indices, "full")
        nothing = CsrPattern(np.zeros(1, np.int64), np.zeros(0, np.int32), "full")
        for pattern, kind in [
            (upper, "general"),
            (full, "spd"),
            (full, "symmetric"),
            (reversed_rows, "general"),
            (lower, "spd"),
            (out_of_range, "general"),
            (repeated, "general"),
            (short, "general"),
            (nothing, "general"),
            (full, "hermitian"),
        ]:
            with pytest.raises(SolverError):
                solver.analyse(pattern, kind)
        with pytest.raises(SolverError):
            solver.analyse(full, "general", threads=0)
        for indptr, indices in [([0, 1, 1], [0]), ([0, 1, 2], [0, 0])]:
            empty = CsrPattern(np.array(indptr, np.int64), np.array(indices, np.int32), "full")
            with pytest.raises(SingularSystemError) as info:
                solver.analyse(empty, "general")
            assert info.value.equation == 1

    @pytest.mark.parametrize("kind", ["spd", "symmetric", "general"])
    def test_two_live_factors(self, solver: Solver, kind: MatrixKind) -> None:
        first, second = laplacian(25), sp.csr_array(laplacian(25) + 3.0 * sp.eye_array(625))
        symbolic = solver.analyse(handed_over(first, kind)[0], kind)
        f1 = symbolic.factor(handed_over(first, kind)[1])
        f2 = symbolic.factor(handed_over(second, kind)[1])
        for _ in range(2):
            assert_solves(f1, first)
            assert_solves(f2, second)
        f1.close()
        assert_solves(f2, second)
        assert symbolic.analyses == 1

    def test_design_loop_analyses_once(self, solver: Solver) -> None:
        """The old factor is alive while the new one is made."""
        symbolic = solver.analyse(handed_over(laplacian(15), "spd")[0], "spd")
        factor = None
        for k in range(30):
            matrix = sp.csr_array(laplacian(15) + 0.1 * k * sp.eye_array(225))
            factor = symbolic.factor(handed_over(matrix, "spd")[1])
            assert_solves(factor, matrix)
        assert symbolic.analyses == 1
        assert symbolic.factorisations == 30 or (solver.capabilities.lags and symbolic.factorisations < 30)

    def test_many_live_factors(self, solver: Solver) -> None:
        symbolic = solver.analyse(handed_over(laplacian(8), "spd")[0], "spd")
        matrices = [sp.csr_array(laplacian(8) + k * sp.eye_array(64)) for k in range(20)]
        factors = [symbolic.factor(handed_over(m, "spd")[1]) for m in matrices]
        for factor, matrix in zip(factors, matrices, strict=True):
            assert_solves(factor, matrix)
        limit = solver.capabilities.factors_per_analysis
        assert symbolic.analyses == (1 if limit is None else -(-20 // limit))

    def test_factor_outlives_its_analysis(self, solver: Solver) -> None:
        pattern, values = handed_over(laplacian(12), "spd")
        symbolic = solver.analyse(pattern, "spd")
        factor = symbolic.factor(values)
        symbolic.close()
        symbolic.close()
        with pytest.raises(SolverError, match="closed"):
            symbolic.factor(values)
        del symbolic
        gc.collect()
        assert_solves(factor, laplacian(12))

    def test_after_close(self, solver: Solver) -> None:
        factor = factorise(solver, advection_diffusion(5, 1.0), "general")
        view = factor.T
        with factor:
            view.solve(np.ones(25))
        factor.close()
        assert factor.closed
        assert view.closed
        for closed in (factor, view):
            with pytest.raises(SolverError, match="closed"):
                closed.solve(np.ones(25))
        assert factor.statistics.solves == 1

    def test_symbolic_as_context(self, solver: Solver) -> None:
        pattern, values = handed_over(laplacian(5), "spd")
        with solver.analyse(pattern, "spd") as symbolic:
            assert isinstance(symbolic, Symbolic)
            assert_solves(symbolic.factor(values), laplacian(5))
        with pytest.raises(SolverError, match="closed"):
            symbolic.factor(values)

    @pytest.mark.parametrize("kind", ["spd", "symmetric", "general"])
    def test_threads_agree(self, solver: Solver, kind: MatrixKind) -> None:
        matrix = shifted(50, 0.5) if kind != "spd" else laplacian(50)
        pattern, values = handed_over(matrix, kind)
        b = vectors(2500, 3)
        one = solver.analyse(pattern, kind, threads=1).factor(values).solve(b)
        two = solver.analyse(pattern, kind, threads=2).factor(values).solve(b)
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-10 * np.abs(one).max())

    def test_overwritten_values_are_noticed(self, solver: Solver) -> None:
        pattern, values = handed_over(laplacian(6), "spd")
        factor = solver.analyse(pattern, "spd").factor(values)
        values *= 2.0
        with pytest.raises(ResidualError, match="changed") as info:
            factor.solve(np.ones(36))
        assert info.value.relative_residual > 1e-3

    def test_statistics(self, solver: Solver) -> None:
        factor = factorise(solver, laplacian(20), "spd")
        assert factor.statistics.solves == 0
        assert factor.statistics.relative_residual is None
        factor.solve(np.ones((400, 3)))
        factor.solve(np.ones(400))
        statistics = factor.statistics
        assert statistics.solves == 4
        assert statistics.refinements == 0
        assert statistics.fill_nnz is None or statistics.fill_nnz >= statistics.nnz
        assert statistics.factor_bytes is None or statistics.factor_bytes > 0
        assert statistics.inertia in (None, (400, 0))
        with pytest.raises(FrozenInstanceError):
            statistics.solves = 0

    def test_inertia(self, solver: Solver) -> None:
        if not solver.capabilities.inertia:
            pytest.skip("not reported by this solver")
        matrix = shifted(20, 0.5)
        eigenvalues = np.linalg.eigvalsh(matrix.toarray())
        expected = (int((eigenvalues > 0).sum()), int((eigenvalues < 0).sum()))
        assert factorise(solver, matrix, "symmetric").statistics.inertia == expected
