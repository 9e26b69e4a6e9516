"""Eigenpairs of matrices without a mesh: against dense ones, repeated, indefinite, and not to be had."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp

import femadj as fa
from femadj.algebra import eigen
from femadj.algebra.eigen import Eigenpairs, Pencil, Symmetric, eigenpairs
from femadj.base.blas import combination, one_thread, products, scipy_threads
from femadj.solvers import get_solver
from femadj.solvers.structure import CsrPattern


def pencil_of(stiffness: Any, mass: Any, shift: float = 0.0, positive: Any = "mass") -> Pencil:
    """A pencil of dense symmetric matrices."""
    n = len(stiffness)
    upper = sp.csr_array(np.triu(np.ones((n, n))))
    pattern = CsrPattern(upper.indptr.astype(np.int64), upper.indices.astype(np.int32), "upper")
    values = [np.ascontiguousarray(m[np.triu_indices(n)]) for m in (stiffness, mass, stiffness - shift * mass)]
    factor = get_solver("auto", threads=1).analyse(pattern, "symmetric").factor(values[2])
    free = np.ones(n, dtype=bool)
    return Pencil(Symmetric(pattern, values[0]), Symmetric(pattern, values[1]), factor, shift, free, positive)


def random(n: int, seed: int, low: float = 0.1) -> Any:
    """A symmetric matrix with eigenvalues between a bound and one."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return q @ np.diag(np.linspace(low, 1, n)) @ q.T


def check(pairs: Eigenpairs, stiffness: Any, mass: Any) -> None:
    """Residuals and orthonormality."""
    x = pairs.vectors
    np.testing.assert_allclose(x @ mass @ x.T, np.eye(len(x)), rtol=0, atol=1e-12)
    residual = x @ stiffness - pairs.values[:, None] * (x @ mass)
    assert np.abs(residual[pairs.chosen]).max() < 1e-13 * np.abs(x).max() * np.linalg.norm(stiffness)


@pytest.mark.parametrize(("low", "shift"), [(0.1, 0.0), (0.1, -0.5), (-1.0, -0.4), (0.1, 0.77)])
def test_nearest_to_a_shift(low: float, shift: float) -> None:
    stiffness, mass = random(30, 1, low), random(30, 2)
    pairs = eigenpairs(pencil_of(stiffness, mass, shift), 5)
    values = scipy.linalg.eigvalsh(stiffness, mass)
    expected = np.sort(values[np.argsort(np.abs(values - shift))[:5]])
    np.testing.assert_allclose(pairs.values[pairs.chosen], expected, rtol=1e-12, atol=1e-14)
    check(pairs, stiffness, mass)


def test_all_copies_of_repeated_eigenvalues() -> None:
    """Five equal blocks: each eigenvalue five times, of which one Lanczos iteration finds what rounding gives it."""
    one, own = random(6, 3), random(6, 4)
    stiffness, mass = (np.kron(np.eye(5), block) for block in (one, own))
    expected = np.repeat(scipy.linalg.eigvalsh(one, own), 5)
    for count in (1, 3, 5, 6):
        pairs = eigenpairs(pencil_of(stiffness, mass), count)
        whole = 5 if count <= 5 else 10
        assert len(pairs.chosen) == whole
        np.testing.assert_allclose(pairs.values[pairs.chosen], expected[:whole], rtol=1e-12)
        assert pairs.clusters == tuple(tuple(range(i, i + 5)) for i in range(0, whole, 5))
        check(pairs, stiffness, mass)


def test_positive_eigenvalues_where_the_stiffness_measures() -> None:
    stiffness, mass = random(30, 5), random(30, 6, low=-1.0)
    pairs = eigenpairs(pencil_of(stiffness, mass, positive="stiffness"), 4)
    mu = scipy.linalg.eigvalsh(mass, stiffness)[::-1]
    np.testing.assert_allclose(pairs.values[pairs.chosen], 1 / mu[:4], rtol=1e-12)
    check(pairs, stiffness, mass)
    with pytest.raises(fa.EigenvalueError, match="finite positive eigenvalues"):
        eigenpairs(pencil_of(stiffness, mass, positive="stiffness"), int((mu > 0).sum()) + 1)


def test_vector_operations_beside_a_solver() -> None:
    rows, x = np.random.default_rng(0).standard_normal((2, 3, 1000))
    np.testing.assert_allclose(products(rows, x[0]), rows @ x[0], rtol=1e-12)
    np.testing.assert_allclose(combination(x[0, :3], rows), x[0, :3] @ rows, rtol=1e-12)


def test_the_number_of_threads_comes_back_whatever_happens() -> None:
    threads = scipy_threads()
    if threads is None:
        pytest.skip("SciPy's BLAS is not an OpenBLAS")
    at_first = threads.get()
    threads.set(2)  # the tests themselves run with one
    before = threads.get()
    with one_thread():
        assert threads.get() == 1
    assert threads.get() == before

    @one_thread()
    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert threads.get() == before
    threads.set(at_first)


def test_what_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stiffness, mass = random(12, 7), random(12, 8)
    with pytest.raises(fa.EigenvalueError, match="at most 11"):
        eigenpairs(pencil_of(stiffness, mass), 12)
    assert len(eigenpairs(pencil_of(stiffness, mass), 11).values) == 11
    with pytest.raises(fa.EigenvalueError, match="not positive"):
        eigenpairs(pencil_of(stiffness, random(12, 8, low=-1.0)), 2)
    monkeypatch.setattr(eigen, "MOST", 3)
    with pytest.raises(fa.EigenvalueError, match="more than 3 eigenvalues coincide"):
        eigenpairs(pencil_of(np.diag(np.linspace(1, 1 + 1e-9, 20)), np.eye(20)), 1)
    flat = np.zeros((12, 12))
    flat[:4, :4] = 1.0  # of rank one
    with pytest.raises(fa.EigenvalueError, match=r"have not been found|only 1 finite|known to"):
        eigenpairs(pencil_of(stiffness, flat), 2)
