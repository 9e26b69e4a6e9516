"""SuperLU in the order of METIS, and without it."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import scipy.sparse as sp

from femadj.errors import IndefiniteSystemError
from femadj.solvers import Factor, MatrixKind, SuperLUSolver
from femadj.solvers.matrix import Structure
from femadj.solvers.ordering import arranged, nested_dissection
from femadj.solvers.superlu import SuperLUFactor
from femadj.solvers.unknowns import Unknowns
from tests.solvers.conformance import (
    advection_diffusion,
    assert_solves,
    block_spd,
    factorise,
    handed_over,
    laplacian,
    saddle_point,
    shifted,
)


@pytest.fixture
def pymetis() -> ModuleType:
    return pytest.importorskip("pymetis")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> SuperLUSolver:
    """As where pymetis is not installed."""
    with monkeypatch.context() as hidden:
        hidden.setitem(sys.modules, "pymetis", None)
        return SuperLUSolver()


def fill(factor: Factor) -> int:
    found = factor.statistics.fill_nnz
    assert found is not None
    return found


def test_without_pymetis(plain: SuperLUSolver) -> None:
    assert not plain.capabilities.reuses_analysis
    assert "pymetis" in repr(plain)
    for kind in ("spd", "symmetric", "general"):
        assert_solves(factorise(plain, laplacian(12), kind), laplacian(12))
    matrix = advection_diffusion(12, 3.0)
    assert_solves(factorise(plain, matrix, "general"), matrix)


def test_orders_once(pymetis: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    ordering = pymetis.nested_dissection
    monkeypatch.setattr(pymetis, "nested_dissection", lambda graph: (calls.append(graph), ordering(graph))[1])
    solver = SuperLUSolver()
    assert solver.capabilities.reuses_analysis
    assert "METIS" in repr(solver)
    pattern, values = handed_over(block_spd(12), "spd")
    symbolic = solver.analyse(pattern, "spd", unknowns=Unknowns(components=3, dim=2))
    for factor in (1.0, 2.0):
        assert_solves(symbolic.factor(factor * values), factor * block_spd(12))
    (graph,) = calls
    assert len(graph.adj_starts) == 12 * 12 + 1  # of nodes
    assert len(graph.adjacent) == 4 * 12 * 11


@pytest.mark.usefixtures("pymetis")
@pytest.mark.parametrize(("components", "unsymmetric"), [(1, False), (3, False), (1, True)])
def test_arrangement(components: int, unsymmetric: bool) -> None:
    matrix = block_spd(9)
    kind: MatrixKind = "spd"
    if unsymmetric:
        matrix, kind = sp.csr_array(matrix - sp.triu(matrix, 40)), "general"
    pattern, values = handed_over(matrix, kind)
    structure = Structure(pattern, kind, Unknowns(components=components))
    before = structure.indptr.copy(), structure.indices.copy()
    order = nested_dissection(structure)
    n = structure.n
    assert np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(structure.indptr, before[0])
    assert np.array_equal(structure.indices, before[1])
    assert np.array_equal(order, nested_dissection(structure))
    nodes = order.reshape(-1, components)
    assert (nodes // components == nodes[:, :1] // components).all()
    for wanted in (order, None):
        places = arranged(structure, wanted)
        found = sp.csr_array((values[places.slots], places.indices, places.indptr), shape=(n, n))
        dense = matrix.toarray()
        assert np.array_equal(found.toarray(), dense if wanted is None else dense[np.ix_(wanted, wanted)])


@pytest.mark.usefixtures("pymetis")
def test_fills_less(plain: SuperLUSolver) -> None:
    """Also for general matrices; where their pivots are far from the diagonal, columns are ordered for any pivots."""
    cases: dict[MatrixKind, sp.csr_array] = {
        "spd": laplacian(14, 3),
        "symmetric": saddle_point(30),
        "general": sp.csr_array(laplacian(14, 3) + sp.diags_array(np.full(14**3 - 1, 0.3), offsets=1)),
    }
    for kind, matrix in cases.items():
        ordered = factorise(SuperLUSolver(), matrix, kind)
        assert fill(ordered) < 0.8 * fill(factorise(plain, matrix, kind)), kind
        assert_solves(ordered, matrix)
    strong = advection_diffusion(40, 1e4)
    ordered = factorise(SuperLUSolver(), strong, "general")
    assert fill(ordered) < 1.3 * fill(factorise(plain, strong, "general"))
    assert_solves(ordered, strong)


def test_copies_that_pivots_are_read_from_do_not_stay() -> None:
    factor = factorise(SuperLUSolver(), laplacian(12), "spd")
    assert isinstance(factor, SuperLUFactor)
    assert factor._lu is not None
    assert len(factor._lu.L.data) == len(factor._lu.U.indices) == 0
    assert_solves(factor, laplacian(12))
    assert factor.statistics.smallest_pivot_ratio > 0.1


def test_indefinite_parts_are_named_in_the_numbers_of_the_caller() -> None:
    """Behind and before parts that are definite, so that their places in the elimination differ."""
    part = sp.csr_array([[1.0, 2.0], [2.0, 1.0]])
    for first, last in ((20, 15), (15, 20)):
        matrix = sp.csr_array(sp.block_diag([laplacian(first), part, laplacian(last)]))
        with pytest.raises(IndefiniteSystemError) as info:
            factorise(SuperLUSolver(), matrix, "spd")
        assert info.value.equation in (first**2, first**2 + 1)


@pytest.mark.parametrize("kind", ["symmetric", "general"])
def test_blocks_of_right_hand_sides(kind: MatrixKind) -> None:
    matrix = shifted(20, 0.5)
    factor = factorise(SuperLUSolver(), matrix, kind)
    known = np.random.default_rng(0).standard_normal((400, 5))
    for form in (known, np.asfortranarray(known)):
        assert np.abs(factor.solve(matrix @ form) - known).max() < 1e-10
