"""Multigrid cycles by smoothed aggregation: what an approximate inverse must be, and how well it does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp

import femadj as fa
from femadj.algebra.residual import State
from femadj.errors import ApproximationError, SolverMemoryError
from femadj.solvers import coarsening
from femadj.solvers.aggregation import AggregationCycle, SmoothedAggregation
from femadj.solvers.krylov import conjugate_gradients
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.rows import BlockRows
from femadj.solvers.team import Team
from femadj.solvers.unknowns import Unknowns
from tests.meshes import box_mesh
from tests.solvers.conformance import advection_diffusion, handed_over, laplacian, shifted, vectors

FloatArray = np.ndarray

COUNTS = {2: (24, 12), 3: (12, 6, 6)}
FINER = {2: (48, 24), 3: (24, 12, 12)}

KINDS = ("elasticity 3", "elasticity 2", "diffusion 3", "diffusion 2")


@cache
def system(kind: str, finer: bool = False, cell: str = "") -> Matrix:
    """Matrix of a problem on a distorted box that is held at one side; of a body on rollers besides."""
    name, dim = kind[:-2], int(kind[-1])
    counts = (FINER if finer else COUNTS)[dim]
    mesh = box_mesh(cell or ("triangle", "tetra")[dim - 2], counts, lengths=[2.0, 1.0, 1.0][:dim], distortion=0.1)
    elastic = name == "elasticity"
    physics = (
        fa.Elasticity(E=1.0, nu=0.3, **({"plane": "strain"} if dim == 2 else {})) if elastic else fa.Diffusion(1.0)
    )
    supports = [fa.Fixed("left")]
    if elastic:
        supports.append(fa.Fixed("bottom", "xyz"[dim - 1]))
    at = fa.LinearStatic(mesh, physics, supports, [])._residual.at(fa.Design(mesh.points))
    values = at.jacobian(State(at.lifting)).values
    unknowns = Unknowns(components=dim if elastic else 1, dim=dim)
    return Matrix(Structure(at.structure, "spd", unknowns), values, 1e-16, at.modes)


@cache
def cycle(kind: str, finer: bool = False) -> AggregationCycle:
    return SmoothedAggregation(system(kind, finer).structure).make(system(kind, finer))


def plain(matrix: sp.sparray, modes: FloatArray | None = None, components: int = 1) -> Matrix:
    pattern, values = handed_over(matrix, "spd")
    told = None if modes is None else (lambda: modes)
    return Matrix(Structure(pattern, "spd", Unknowns(components=components)), values, 1e-16, told)


def applied(cycle: AggregationCycle, r: FloatArray) -> FloatArray:
    return cycle.apply(r, transposed=False)


def iterations(matrix: Matrix, cycle: AggregationCycle, most: int = 60) -> int:
    """That conjugate gradients take to 1e-12 for a rough right-hand side; the solution is looked at."""
    known = vectors(matrix.structure.n, 1, seed=2)
    b = matrix.blocks.times(known)
    found = conjugate_gradients(matrix.blocks.times, lambda r: applied(cycle, r), b, tolerance=1e-12, most=most)
    off = found.x - known
    energy = float((off * matrix.blocks.times(off)).sum() / (known * b).sum())
    assert energy <= (1e-11) ** 2
    return int(found.counts[0])


@pytest.mark.parametrize("kind", KINDS)
def test_iterations_are_few_and_do_not_grow(kind: str) -> None:
    coarse, fine = (iterations(system(kind, finer), cycle(kind, finer)) for finer in (False, True))
    assert system(kind, True).structure.n > 3.5 * system(kind).structure.n
    assert coarse <= 24
    assert fine <= min(24, coarse + 5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cycle_is_symmetric_and_positive(kind: str) -> None:
    n, c = system(kind).structure.n, cycle(kind)
    # in the scale of the matrix, in which float32 rounds
    scale = 1.0 / c._scale[:, None]
    x, y = scale * vectors(n, 6, seed=3), scale * vectors(n, 6, seed=4)
    one, other = x.T @ applied(c, y), applied(c, x).T @ y
    assert np.abs(one - other).max() <= 2e-6 * np.abs(np.diag(x.T @ applied(c, x))).max()
    assert (np.diag(x.T @ applied(c, x)) > 0.0).all()
    assert np.array_equal(c.apply(x, transposed=True), applied(c, x))


def test_a_cycle_is_linear() -> None:
    n, c = system("elasticity 3").structure.n, cycle("elasticity 3")
    x = vectors(n, 2, seed=5)
    combined = applied(c, x @ np.array([[2.0], [-3.0]]))
    parts = applied(c, x) @ np.array([[2.0], [-3.0]])
    assert np.abs(combined - parts).max() <= 2e-6 * np.abs(parts).max()
    assert np.array_equal(applied(c, 2.0**70 * x), 2.0**70 * applied(c, x))


def test_the_whole_cycle_is_that_of_the_formulas() -> None:
    """Against the same cycle written with dense matrices in double precision."""
    c = cycle("elasticity 2")
    assert c.hierarchy is not None
    (level,) = c.hierarchy.levels
    A, R, P, C = (whole(blocks) for blocks in (level.matrix, level.down, level.up, c.hierarchy.coarsest))
    rows = {"start": np.arange(level.matrix.n + 1), "columns": np.arange(level.matrix.n)}
    D = whole(level.matrix._replace(values=level.inverse, **rows))
    assert np.array_equal(R, P.T)
    S = smoother(D @ A, D, level.largest)
    n = len(A)
    M = S + P @ -C @ R @ (np.eye(n) - A @ S)
    M += S @ (np.eye(n) - A @ M)
    r = np.where(c._cycled[:, None] > 0.0, vectors(n, 3, seed=6), 0.0)
    expected = c._scale[:, None] * (M @ (c._scale[:, None] * r))
    assert np.abs(applied(c, r) - expected).max() <= 1e-5 * np.abs(expected).max()
    # the levels: D^-1, A_c, its inverse
    b = level.matrix.shape[0]
    blocks = A.reshape(n // b, b, n // b, b)[np.arange(n // b), :, np.arange(n // b)]
    assert np.abs(level.inverse.reshape(-1, b, b) @ blocks - np.eye(b)).max() <= 1e-5
    coarse = P.T @ A @ P
    assert np.abs(coarse @ -C @ coarse - coarse).max() <= 1e-4 * np.abs(coarse).max()


def whole(blocks: coarsening.Blocks) -> FloatArray:
    b, m = blocks.shape
    values = blocks.values.astype(float).reshape(-1, b, m)
    return sp.bsr_array((values, blocks.columns, blocks.start)).toarray()


def smoother(DA: FloatArray, D: FloatArray, largest: float) -> FloatArray:
    """Two Chebyshev steps from zero as a matrix: ``1 - x p(x)`` vanishes at the Chebyshev points of the interval."""
    one, two = largest * (0.55 + 0.45 * np.cos(np.pi * np.array([1, 3]) / 4))
    return ((one + two) * np.eye(len(D)) - DA) @ D / (one * two)


@pytest.mark.parametrize("kind", ["elasticity 3", "diffusion 2"])
def test_columns_do_not_know_of_one_another(kind: str) -> None:
    n, c = system(kind).structure.n, cycle(kind)
    many = vectors(n, 19, seed=7) * 10.0 ** np.linspace(-150, 150, 19)
    many[:, 4] = 0.0
    together = applied(c, many)
    assert not together[:, 4].any()
    assert np.isfinite(together).all()
    assert np.array_equal(applied(c, many[:, :17].copy()), together[:, :17])
    for k in (0, 4, 15, 16, 18):
        assert np.array_equal(applied(c, many[:, k : k + 1].copy())[:, 0], together[:, k])
    assert np.array_equal(applied(c, many[:, 3:8].copy()), together[:, 3:8])


@pytest.mark.parametrize("kind", KINDS)
def test_products_with_the_matrix(kind: str) -> None:
    matrix = system(kind)
    pattern = matrix.structure.pattern
    upper = sp.csr_array((matrix.values, pattern.indices, pattern.indptr))
    whole = upper + sp.triu(upper, 1).T
    x = vectors(pattern.n, 15, seed=11)
    together = matrix.blocks.times(x)
    assert np.abs(together - whole @ x).max() <= 1e-14 * np.abs(abs(whole) @ abs(x)).max()
    for k in (0, 7, 8, 11, 12, 14):
        assert np.array_equal(matrix.blocks.times(x[:, k : k + 1])[:, 0], together[:, k])
    assert np.array_equal(in_threads(matrix, 3)[0].blocks.times(x), together)


def in_threads(matrix: Matrix, threads: int) -> tuple[Matrix, Team]:
    team = Team(threads)
    rows = matrix.blocks
    same = Matrix(matrix.structure, matrix.values, matrix.rounding, matrix.modes)
    same.__dict__["blocks"] = BlockRows(*rows[:3], team, team.shares(rows.start))
    return same, team


@pytest.mark.parametrize("kind", ["elasticity 3", "diffusion 2"])
def test_threads_change_no_bit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarsening, "_FEW", 0)
    matrix = system(kind)
    r = vectors(matrix.structure.n, 2, seed=8)
    found = []
    for threads in (1, 2, 3):
        same, team = in_threads(matrix, threads)
        c = SmoothedAggregation(same.structure).make(same)
        found.append((applied(c, r), applied(c, r[:, :1].copy())))
        team.close()
        assert np.array_equal(applied(c, r), found[-1][0])
    for other in found[1:]:
        assert all(map(np.array_equal, found[0], other))
    assert np.array_equal(applied(cycle(kind), r), found[0][0])


def test_several_callers_at_once() -> None:
    c = cycle("elasticity 3", True)
    blocks = [vectors(c.sizes[0], k, seed=k) for k in (1, 3, 1, 9, 1, 3)]
    expected = [applied(c, r) for r in blocks]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda r: applied(c, r), blocks * 3))
    assert all(np.array_equal(one, other) for one, other in zip(found, expected * 3, strict=True))


@pytest.mark.parametrize("kind", ["elasticity 3", "elasticity 2"])
def test_supported_unknowns_are_exact(kind: str) -> None:
    matrix, c = system(kind), cycle(kind)
    diagonal = matrix.values[matrix.structure.indptr[:-1]]
    modes = matrix.modes()
    held = np.flatnonzero(~modes.any(axis=1))
    b = matrix.structure.unknowns.components
    assert np.bincount(held // b).tolist().count(1) > 10  # rollers
    assert np.bincount(held // b).tolist().count(b) > 10
    r = vectors(len(diagonal), 2, seed=9)
    z = applied(c, r)
    assert np.array_equal(z[held], r[held] / diagonal[held, None])
    r[held] = 7.0
    free = np.setdiff1d(np.arange(len(diagonal)), held)
    assert np.array_equal(applied(c, r)[free], z[free])


@pytest.mark.parametrize("factor", [1e12, 1e-12, 1e100])
def test_units_change_nothing(factor: float) -> None:
    """Of forces, and of single unknowns: pressures beside temperatures, say."""
    matrix = system("elasticity 3")
    power = 4.0 ** round(np.log2(factor) / 2)
    scaled = Matrix(matrix.structure, matrix.values * power, 1e-16, matrix.modes)
    r = vectors(matrix.structure.n, 2, seed=10)
    assert np.array_equal(
        applied(SmoothedAggregation(scaled.structure).make(scaled), r) * power, applied(cycle("elasticity 3"), r)
    )
    scaled = Matrix(matrix.structure, matrix.values * factor, 1e-16, matrix.modes)
    assert iterations(scaled, SmoothedAggregation(scaled.structure).make(scaled)) <= 24


def test_jumps_of_coefficients() -> None:
    n = 60
    line = np.where(np.arange(n + 1) // 10 % 2 == 0, 1.0, 1e4)
    stiffness = sp.diags_array([line[:-1] + line[1:], -line[1:-1], -line[1:-1]], offsets=[0, 1, -1], shape=(n, n))
    matrix = plain(sp.kron(stiffness, sp.eye_array(n)) + sp.kron(sp.diags_array(line[1:]), laplacian(n, 1)))
    assert iterations(matrix, SmoothedAggregation(matrix.structure).make(matrix)) <= 20


@pytest.mark.parametrize("cell", ["hexahedron", "tetra10"])
def test_other_cells(cell: str) -> None:
    matrix = system("elasticity 3", cell=cell)
    assert iterations(matrix, SmoothedAggregation(matrix.structure).make(matrix)) <= (
        22 if cell == "hexahedron" else 45
    )


def test_constants_stand_for_modes_that_are_not_known() -> None:
    n, block = 12, np.array([[2.0, 1.0], [1.0, 3.0]])
    matrix = plain(sp.kron(laplacian(n, 3), block), components=2)
    c = SmoothedAggregation(matrix.structure).make(matrix)
    assert c.hierarchy is not None
    assert c.hierarchy.levels[0].up.shape == (2, 2)
    assert iterations(matrix, c) <= 16


def test_small_systems_are_solved_at_once() -> None:
    matrix = plain(laplacian(10))
    c = SmoothedAggregation(matrix.structure).make(matrix)
    assert c.sizes == (100,)
    known = vectors(100, 2)
    assert np.abs(applied(c, matrix.blocks.times(known)) - known).max() <= 1e-4
    assert iterations(matrix, c) <= 4


def test_interpolation_reproduces_the_modes() -> None:
    c, matrix = cycle("elasticity 3"), system("elasticity 3")
    assert c.hierarchy is not None
    modes = matrix.modes() / c._scale[:, None]
    level = c.hierarchy.levels[0]
    P = -whole(level.up)
    inside = np.linalg.lstsq(P, modes, rcond=None)[0]
    # smoothing moves them where they are no null vectors of the matrix: at neighbours of supports
    far = np.flatnonzero(np.abs(whole(level.matrix) @ modes).max(axis=1) < 1e-5)
    assert len(far) > 300
    assert np.abs((P @ inside - modes)[far]).max() <= 0.2 * np.abs(modes).max()


def test_eigenvalues_are_bounded() -> None:
    for kind in KINDS:
        c = cycle(kind)
        assert c.hierarchy is not None
        level = c.hierarchy.levels[0]
        b = level.matrix.shape[0]
        D = sp.block_diag(np.linalg.inv(level.inverse.astype(float).reshape(-1, b, b)), format="csc")
        A = sp.csc_array(whole(level.matrix))
        most = sp.linalg.eigsh(A, 1, D, which="LA", return_eigenvectors=False, v0=np.ones(A.shape[0]))[0]
        assert most <= level.largest <= 1.11 * most


def test_a_cycle_tells_what_it_is() -> None:
    c = SmoothedAggregation(system("elasticity 3").structure).make(system("elasticity 3"))
    assert c.name == "smoothed aggregation"
    assert repr(c).startswith(f"<smoothed aggregation: unknowns {c.sizes[0]} > {c.sizes[1]} > ")
    assert 0.0 < c.seconds < 60.0
    before = c.nbytes
    assert before > 4 * c.hierarchy.levels[0].matrix.values.size
    applied(c, vectors(c.sizes[0], 3))
    assert c.nbytes >= before + 4 * 4 * 8 * c.sizes[0]
    c.close()
    c.close()
    assert c.nbytes < 40 * c.sizes[0]
    with pytest.raises(ApproximationError, match="closed"):
        applied(c, vectors(c.sizes[0], 1))


def test_what_has_no_hierarchy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(matrix: Matrix) -> AggregationCycle:
        return SmoothedAggregation(matrix.structure).make(matrix)

    for matrix, kind in ((shifted(15, 0.5), "symmetric"), (advection_diffusion(15, 2.0), "general")):
        pattern, values = handed_over(matrix, kind)
        with pytest.raises(ApproximationError, match=f"not '{kind}'"):
            make(Matrix(Structure(pattern, kind), values, 1e-16))
    negative = laplacian(10).tolil()
    negative[3, 3] = -1.0
    with pytest.raises(ApproximationError, match="unknown 3 is -1, which is not positive"):
        make(plain(negative))
    with pytest.raises(ApproximationError, match=r"\(100, m\), not one of shape \(99, 1\)"):
        make(plain(laplacian(10), np.ones((99, 1))))
    with pytest.raises(ApproximationError, match="finite"):
        make(plain(laplacian(10), np.full((100, 1), np.nan)))
    with pytest.raises(ApproximationError, match="does not coarsen"):
        make(plain(sp.eye_array(3000)))
    with pytest.raises(ApproximationError, match="does not coarsen"):
        make(plain(laplacian(15, 3), vectors(3375, 40)))
    monkeypatch.setattr(coarsening, "COMPLEXITY", 1.01)
    with pytest.raises(ApproximationError, match=r"more than 1\.01 times its entries"):
        make(system("elasticity 3"))
    monkeypatch.setattr(coarsening, "_MANY", 1)
    monkeypatch.setattr(coarsening, "COMPLEXITY", 3.0)
    with pytest.raises(ApproximationError, match=r"after 1 levels there are still \d+ unknowns"):
        make(system("elasticity 3"))


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(coarsening, "_product", none_left)
    with pytest.raises(SolverMemoryError, match="1911 unknowns do not fit into memory: close"):
        SmoothedAggregation(system("elasticity 3").structure).make(system("elasticity 3"))
