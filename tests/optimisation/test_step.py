"""The largest step: exact against tangling, on every cell type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import femadj as fa
from femadj.mesh.reference import cell_table, watched_gradients
from tests.meshes import MESHES, box_mesh, dim_of
from tests.reference_assembly import turned


@pytest.mark.parametrize("cell", MESHES)
def test_valid_just_before_and_tangled_just_behind(cell: str) -> None:
    """Random velocities of all nodes, both orientations of the cells; by companion matrices, too."""
    mesh = turned(box_mesh(cell, distortion=0.12, origin=(7.0, -3.0, 2.0)[: dim_of(cell)]))
    for seed in range(3):
        v = np.random.default_rng(seed).uniform(-1, 1, mesh.points.shape)
        t = fa.largest_step(mesh, mesh.points, v, keep=0.0, most=3.0)
        assert 0 < t < 3
        mesh.require_untangled(mesh.points + 0.999 * t * v)
        assert len(mesh.tangled_cells(mesh.points + 1.001 * t * v))
    assert fa.largest_step(mesh, mesh.points, v, most=3.0) == pytest.approx(by_roots(mesh, v, 0.1, 3.0), rel=1e-9)


def by_roots(mesh: fa.Mesh, v: Any, keep: float, most: float) -> float:
    """The same from determinants at a few steps and the roots of the polynomials through them."""
    smallest = most
    times = np.linspace(0, 0.1, mesh.dim + 1)
    for block in mesh.blocks:
        gradients = watched_gradients(block.type)
        det = [np.linalg.det(np.einsum("eai,qaj->eqij", (mesh.points + t * v)[block.nodes], gradients)) for t in times]
        polynomials = np.linalg.solve(np.vander(times, increasing=True), np.reshape(det, (len(times), -1)))
        polynomials[0] *= 1 - keep
        for each in polynomials.T:
            roots = np.polynomial.polynomial.polyroots(each)
            real = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0)]
            smallest = min([smallest, *real])
    return smallest


def test_steps_of_known_length() -> None:
    mesh = box_mesh("hexahedron", (1, 1, 1), origin=(5.0, 5.0, 5.0))
    shrink = 5.5 - mesh.points  # det = (1 - t)^3
    assert fa.largest_step(mesh, mesh.points, shrink, keep=0.0, most=9) == pytest.approx(1.0, abs=1e-5)
    assert fa.largest_step(mesh, mesh.points, shrink, keep=0.125) == pytest.approx(0.5, rel=1e-14)
    flat = shrink * [1, 0, 0]  # det = 1 - t
    assert fa.largest_step(mesh, mesh.points, flat, keep=0.0, most=9) == pytest.approx(1.0, rel=1e-14)
    assert fa.largest_step(mesh, mesh.points, flat, keep=0.3, most=1e9) == pytest.approx(0.7, rel=1e-14)
    assert fa.largest_step(mesh, mesh.points, -shrink, most=1e6) == 1e6
    assert fa.largest_step(mesh, mesh.points, 0 * shrink) == 1.0
    turning = (mesh.points - 5.5) @ [[0, 1, 0], [-1, 0, 0], [0, 0, 0]]  # det = 1 + t^2
    assert fa.largest_step(mesh, mesh.points, turning, most=50.0) == 50.0


def test_further_orders_of_quadrature_count() -> None:
    """Points nearer to a corner tangle first when that corner moves in."""
    mesh = box_mesh("quad", (1, 1))
    v = np.zeros((4, 2))
    v[np.argmin(mesh.points.sum(axis=1))] = 1.0
    steps = [fa.largest_step(mesh, mesh.points, v, keep=0.0, most=9.0, orders=o) for o in ((), (8,))]
    table = cell_table("quad", 8)
    jacobians = np.einsum("ai,qaj->qij", (mesh.points + steps[1] * v)[mesh.blocks[0].nodes[0]], table.gradients[0])
    assert steps[1] < steps[0]
    assert np.linalg.det(jacobians).min() == pytest.approx(0.0, abs=1e-12)


M = box_mesh("quad", (1, 1))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((M, M.points, [1.0]), fa.ParametrisationError, "the direction must have shape"),
        ((M, M.points, np.full((4, 2), np.nan)), fa.ParametrisationError, "finite"),
        ((M, M.points[:2], M.points), fa.InvalidMeshError, "the mesh has"),
        ((M, -M.points[::-1] * [1, -1], M.points), fa.TangledMeshError, "turned inside out"),
        (("m", M.points, M.points), fa.InvalidMeshError, "must be a Mesh"),
    ],
)
def test_what_is_refused(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fa.largest_step(*arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep": 1.0}, "keep must be a number from 0 to less than 1"),
        ({"keep": -0.1}, "keep"),
        ({"most": np.inf}, "most must be a positive finite number"),
        ({"most": 0}, "most"),
        ({"orders": [-1]}, "order of quadrature"),
        ({"orders": 3}, "orders must be a list"),
    ],
)
def test_options_out_of_range(options: Any, words: str) -> None:
    with pytest.raises(fa.ParametrisationError, match=words):
        fa.largest_step(M, M.points, M.points, **options)
