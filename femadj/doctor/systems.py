"""Small linear systems that a solver must solve, and those that it must refuse."""

from __future__ import annotations

from functools import partial

import numpy as np
import scipy.sparse as sp

from femadj.base.arrays import FloatArray
from femadj.doctor.checks import Examination, must_raise, within
from femadj.errors import IndefiniteSystemError, NonFiniteError, SingularSystemError
from femadj.solvers.base import Solver
from femadj.solvers.matrix import MatrixKind
from femadj.solvers.structure import CsrPattern

SIDE = 14
"""Points a side of the grid that larger systems live on."""

EXACT = 1e-10

SMALL = sp.csr_array(np.array([[4.0, 1.0, 0.0], [2.0, 5.0, 1.0], [0.0, 3.0, 6.0]]))
"""Nonsymmetric, so that a library that does not transpose is found out."""


def stored(matrix: sp.sparray, kind: MatrixKind) -> tuple[CsrPattern, FloatArray]:
    """Structure and values in the triangle that the kind asks for, the diagonal of an upper one complete."""
    found = sp.csr_array(matrix)
    if kind != "general":
        kept = sp.coo_array(sp.triu(found))
        every = np.arange(found.shape[0])
        where = (np.concatenate([kept.row, every]), np.concatenate([kept.col, every]))
        found = sp.csr_array((np.concatenate([kept.data, np.zeros(len(every))]), where), shape=found.shape)
    found.sort_indices()
    triangle = "full" if kind == "general" else "upper"
    pattern = CsrPattern(found.indptr.astype(np.int64), found.indices.astype(np.int32), triangle)  # type: ignore[arg-type]
    return pattern, np.ascontiguousarray(found.data, np.float64)


def systems() -> dict[str, tuple[sp.csr_array, MatrixKind]]:
    """Regular matrices of every kind: held springs in a grid, a Helmholtz operator, a saddle point, advection."""
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(SIDE, SIDE))
    one = sp.eye_array(SIDE)
    laplacian = sp.csr_array(sp.kron(line, one) + sp.kron(one, line))
    n = laplacian.shape[0]
    slope = sp.diags_array([-0.5, 0.5], offsets=[-1, 1], shape=(SIDE, SIDE))
    rows = sp.eye_array(n // 4, n, k=3) + 0.5 * sp.eye_array(n // 4, n, k=40)
    block = np.array([[2.0, 0.5, 0.1], [0.5, 3.0, 0.2], [0.1, 0.2, 1.0]])
    return {
        "three equations": (SMALL, "general"),
        "positive definite": (laplacian, "spd"),
        "three unknowns a node": (sp.csr_array(sp.kron(laplacian, block)), "spd"),
        "indefinite": (sp.csr_array(laplacian - 0.5 * sp.eye_array(n)), "symmetric"),
        "saddle point": (sp.csr_array(sp.block_array([[laplacian, rows.T], [rows, None]])), "symmetric"),
        "advection": (sp.csr_array(laplacian + 6.0 * sp.kron(slope, one)), "general"),
    }


def _error(x: FloatArray, known: FloatArray) -> float:
    return float(np.abs(x - known).max() / np.abs(known).max())


def solves(solver: Solver, matrix: sp.csr_array, kind: MatrixKind) -> str:
    """Recover three known vectors at once, with the matrix and its transpose, and again after new values."""
    known = np.random.default_rng(0).standard_normal((matrix.shape[0], 3))
    pattern, values = stored(matrix, kind)
    worst = 0.0
    with solver.analyse(pattern, kind) as symbolic:
        for scale in (1.0, -0.5 if kind != "spd" else 0.5):
            with symbolic.factor(scale * values) as factor:
                worst = max(worst, _error(factor.solve(scale * (matrix @ known)), known))
                worst = max(worst, _error(factor.T.solve(scale * (matrix.T @ known)), known))
        if symbolic.analyses != 1:
            raise AssertionError(f"the structure was analysed {symbolic.analyses} times")
    return within(worst, EXACT, "error")


def transposes(solver: Solver) -> str:
    """The transposed solve of a nonsymmetric matrix is that, and not the plain one."""
    b = np.array([1.0, -2.0, 0.5])
    pattern, values = stored(SMALL, "general")
    with solver.analyse(pattern, "general") as symbolic, symbolic.factor(values) as factor:
        found = factor.T.solve(b)
    expected = np.linalg.solve(SMALL.toarray().T, b)
    return within(_error(found, expected), EXACT, "error")


def keeps_two(solver: Solver) -> str:
    """Two factors on one analysis, used in turn."""
    matrix, kind = systems()["advection"]
    pattern, values = stored(matrix, kind)
    known, worst = np.random.default_rng(1).standard_normal(matrix.shape[0]), 0.0
    with (
        solver.analyse(pattern, kind) as symbolic,
        symbolic.factor(values) as first,
        symbolic.factor(3.0 * values) as second,
    ):
        for _ in range(2):
            worst = max(worst, _error(first.solve(matrix @ known), known))
            worst = max(worst, _error(second.solve(3.0 * (matrix @ known)), known))
    return within(worst, EXACT, "error")


def refuses(solver: Solver, matrix: sp.csr_array, kind: MatrixKind, error: type[Exception]) -> str:
    """A matrix that has no solution, or is not of this kind, is refused; the analysis is as good as before."""
    pattern, values = stored(matrix, kind)
    with solver.analyse(pattern, kind) as symbolic:
        said = must_raise(error, lambda: symbolic.factor(values).solve(np.ones(matrix.shape[0])))
        good = np.where(pattern.rows == pattern.indices, 10.0, 0.01)
        with symbolic.factor(good) as factor:
            factor.solve(np.ones(matrix.shape[0]))  # which is checked by its residual
    return said


def chain(n: int = 60) -> sp.csr_array:
    """Springs in a row, held nowhere: singular."""
    matrix = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tolil()
    matrix[0, 0] = matrix[n - 1, n - 1] = 1.0
    return sp.csr_array(matrix)


def check_solver(examination: Examination, area: str, solver: Solver) -> None:
    """All of it."""
    check = partial(examination.check, area)
    for name, (matrix, kind) in systems().items():
        check(name, partial(solves, solver, matrix, kind))
    check("transposed solve", partial(transposes, solver))
    check("two factors at a time", partial(keeps_two, solver))
    kinds: tuple[MatrixKind, ...] = ("spd", "symmetric", "general")
    for kind in kinds:
        check(f"singular, {kind}", partial(refuses, solver, chain(), kind, SingularSystemError))
    indefinite = systems()["indefinite"][0]
    check("indefinite, spd", partial(refuses, solver, indefinite, "spd", IndefiniteSystemError))
    for kind in kinds:
        spoilt = systems()["positive definite"][0]
        spoilt.setdiag(np.nan, 0)
        check(f"not a number, {kind}", partial(refuses, solver, spoilt, kind, NonFiniteError))
