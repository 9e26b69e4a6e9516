"""Parametrisations and motions: their values by independent means, and every derivative against differences."""

from __future__ import annotations

import pickle
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skfem
from scipy.sparse import csr_array
from scipy.sparse.linalg import spsolve
from skfem.models.poisson import laplace, mass

import femadj as fa
from femadj.mesh.reference import cell_type
from femadj.optimisation.free_form import faces_across
from tests.meshes import box_mesh

FloatArray = npt.NDArray[np.float64]
ORIGIN = (3.0, -5.0, 2.0)


@cache
def body(cell: str) -> fa.Mesh:
    """Distorted, and away from the origin; all of its sides are groups."""
    dim = 2 if cell.startswith("quad") else 3
    return box_mesh(cell, distortion=0.1, flat=True, origin=ORIGIN[:dim])


@cache
def elastic(cell: str) -> fa.ElasticMotion:
    """The whole boundary moves, the top slides in its plane."""
    return fa.ElasticMotion(body(cell), ["left", "right", "bottom", fa.Fixed("top", "xyz"[body(cell).dim - 1])])


@cache
def smooth(cell: str) -> fa.HelmholtzFilter:
    """Held at the left, plane at the top."""
    return fa.HelmholtzFilter(body(cell), 0.3, fixed=["left", fa.Fixed("top", "xyz"[body(cell).dim - 1])])


@cache
def box(cell: str) -> fa.FreeFormBox:
    """Around the whole body."""
    mesh = body(cell)
    return fa.FreeFormBox(mesh, (3, 2, 2)[: mesh.dim], fixed=[fa.Fixed("bottom", "xyz"[mesh.dim - 1])])


@cache
def parametrisation(cell: str, kind: str) -> fa.Parametrisation:
    """One of each kind, and compositions."""
    mesh = body(cell)
    if kind == "nodes":
        return fa.FreeNodes(mesh, ["right", "top"], fixed=fa.Fixed("top", "xyz"[mesh.dim - 1]))
    if kind == "directions":
        return fa.Directions(mesh, np.random.default_rng(1).uniform(-1, 1, (*mesh.points.shape, 3)), fixed="left")
    move, filtered = elastic(cell), smooth(cell)
    kinds: dict[str, Any] = {
        "box": lambda: box(cell),
        "box >> motion": lambda: box(cell) >> move,
        "nodes >> filter": lambda: parametrisation(cell, "nodes") >> filtered,
        "nodes >> filter >> motion": lambda: parametrisation(cell, "nodes") >> filtered >> move,
        "box >> (filter >> motion)": lambda: box(cell) >> (filtered >> move),
        "two motions": lambda: (box(cell) >> move) + (box(cell) >> move),
        "box + filter + motion": lambda: box(cell) + (box(cell) >> filtered) + (box(cell) >> filtered >> move),
    }
    made: fa.Parametrisation = kinds[kind]()
    return made


LINEAR = ("nodes", "directions", "box", "box >> motion", "nodes >> filter", "nodes >> filter >> motion",
          "box >> (filter >> motion)")  # fmt: skip
CURVED = ("two motions", "box + filter + motion")
CELLS = ("quad8+triangle6", "tetra")


def central(f: Any, h: float = 0.02) -> Any:
    """Derivative at zero by central differences with three steps, of the sixth order."""
    coarse, middle, fine = ((f(s) - f(-s)) / (2 * s) for s in (h, h / 2, h / 4))
    return (16 * (4 * fine - middle) / 3 - (4 * middle - coarse) / 3) / 15


def random_case(p: fa.Parametrisation, seed: int = 0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Variables, a direction, and a node gradient."""
    rng = np.random.default_rng(seed)
    q = 0.04 * rng.uniform(-1, 1, p.n)
    return q, rng.uniform(-1, 1, p.n), rng.uniform(-1, 1, p.points.shape)


# ---------------------------------------------------------------------- derivatives
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", [*LINEAR, *CURVED])
def test_products_agree_with_each_other_and_with_differences(cell: str, kind: str) -> None:
    p = parametrisation(cell, kind)
    q, d, g = random_case(p)
    at = p.at(q)
    forward, backward = (g * at.pushforward(d)).sum(), at.pullback(g) @ d
    size = np.abs(at.pullback(g) * d).sum()
    assert abs(forward - backward) < 1e-12 * size
    assert abs(central(lambda t: (g * p.forward(q + t * d)).sum()) - backward) < 1e-10 * size
    # the same from anew; of moved coordinates a solution goes on by iterations with the factor of the next one
    np.testing.assert_allclose(p.pullback(q, g), at.pullback(g), atol=1e-11 * size)
    np.testing.assert_allclose(p.pushforward(q, d), at.pushforward(d), atol=1e-11 * np.abs(d).sum())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", LINEAR)
def test_linear_maps_are_linear(cell: str, kind: str) -> None:
    p = parametrisation(cell, kind)
    q, d, g = random_case(p, 1)
    assert p.linear
    np.testing.assert_allclose(p.forward(q + 0.3 * d), p.forward(q) + 0.3 * p.pushforward(q, d), atol=1e-13)
    assert not p.at(q).curvature(g, d).any()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", CURVED)
def test_motions_in_a_row_have_remainders_of_second_order(cell: str, kind: str) -> None:
    """The second motion runs on the mesh that the first one leaves: no linear map, and exact all the same."""
    p = parametrisation(cell, kind)
    q, d, g = random_case(p, 2)
    at = p.at(q)
    assert not p.linear
    steps = 0.02 * 0.5 ** np.arange(4)
    value = (g * at.points).sum()
    remainders = [abs((g * p.forward(q + t * d)).sum() - value - t * at.pullback(g) @ d) for t in steps]
    orders = np.log2(np.array(remainders[:-1]) / remainders[1:])
    np.testing.assert_allclose(orders[1:], 2.0, atol=0.05)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", CURVED)
def test_curvature_is_the_rate_of_the_pullback(cell: str, kind: str) -> None:
    p = parametrisation(cell, kind)
    q, d, g = random_case(p, 3)
    bent = p.at(q).curvature(g, d)
    np.testing.assert_allclose(bent, central(lambda t: p.pullback(q + t * d, g)), atol=1e-8 * np.abs(bent).max())
    other = np.random.default_rng(9).uniform(-1, 1, p.n)
    assert other @ bent == pytest.approx(d @ p.at(q).curvature(g, other), rel=1e-9)  # the second derivative of g . X


@pytest.mark.parametrize("motion", [elastic, smooth])
def test_derivatives_by_the_origin(motion: Any) -> None:
    """Of a motion by itself, from moved coordinates, with all nodes moving."""
    m = motion("quad")
    rng = np.random.default_rng(4)
    start = m.points + 0.02 * rng.uniform(-1, 1, m.points.shape)
    target = start + 0.03 * rng.uniform(-1, 1, m.points.shape)
    v, w, g = (rng.uniform(-1, 1, m.points.shape) for _ in range(3))
    at = m.at_points(target, start)
    by_target, by_start = at.pull(g)
    exact = (by_target * v + by_start * w).sum()
    assert exact == pytest.approx((g * at.push(v, w)).sum(), rel=1e-12)
    found = central(lambda t: (g * m.at_points(target + t * v, start + t * w).points).sum(), 0.005)
    assert found == pytest.approx(exact, rel=1e-9)
    # with the coordinates of the mesh given as the origin it is the map without one
    np.testing.assert_allclose(m.at_points(target, m.points).points, m.at_points(target).points, atol=1e-13)
    np.testing.assert_allclose(m.at_points(target, m.points).pullback(g), m.at_points(target).pullback(g), atol=1e-12)


@pytest.mark.parametrize("kind", ["box >> motion", "two motions"])
def test_derivatives_of_a_compliance_through_boxes_and_motions(kind: str) -> None:
    """The first against differences of values, the second against differences of gradients."""
    mesh, p = body("quad"), parametrisation("quad", kind)
    problem = fa.LinearStatic(
        mesh, fa.Elasticity(10.0, 0.3), [fa.Fixed("left")],
        [fa.Traction("right", (0.1, -1.0)), fa.Pressure("top", 0.4)],
    )  # fmt: skip
    q, d, _ = random_case(p, 5)

    def slope(t: float) -> FloatArray:
        at = p.at(q + t * d)
        return at.pullback(fa.value_and_gradient(problem.solve(at.points), fa.Compliance())[1].points)

    value = central(lambda t: fa.Compliance().value(problem.solve(p.forward(q + t * d))), 0.01)
    assert value == pytest.approx(slope(0.0) @ d, rel=1e-9)
    at = p.at(q)
    twice = fa.hessian(problem.solve(at.points), fa.Compliance())
    bent = at.pullback(twice @ at.pushforward(d)) + at.curvature(twice.gradient["points"], d)
    np.testing.assert_allclose(bent, central(slope, 0.01), atol=1e-7 * np.abs(bent).max())


# ---------------------------------------------------------------------- counts
def test_one_factorisation_in_all_or_one_a_motion_and_design() -> None:
    mesh = body("quad")
    move = fa.ElasticMotion(mesh, "boundary")
    one = box("quad") >> move
    for seed in range(3):
        q, d, g = random_case(one, seed)
        at = one.at(q)
        _ = at.pullback(g), at.pushforward(d), at.curvature(g, d), at.points
    assert move.counts == fa.Counts(1, 1)
    two = one + one
    q, d, g = random_case(two)
    at = two.at(q)
    assert move.counts == fa.Counts(2, 2)  # a structure, and its analysis, for the mesh itself and one for moved ones
    _ = at.pullback(g), at.pushforward(d), at.curvature(g, d), two.at(np.zeros(two.n))
    assert move.counts == fa.Counts(2, 3)


# ---------------------------------------------------------------------- values
@pytest.mark.parametrize("cell", [*CELLS, "quad"])
def test_elastic_motion_is_that_of_an_elastic_body(cell: str) -> None:
    """By the built-in elasticity on the moved mesh, with prescribed displacements."""
    mesh, rng = body(cell), np.random.default_rng(6)
    start = mesh.points + 0.01 * rng.uniform(-1, 1, mesh.points.shape)
    told = 0.02 * rng.uniform(-1, 1, mesh.points.shape)
    nodes, volumes = mesh.nodes_of("boundary"), mesh.cell_volumes()
    physics = fa.Elasticity(fa.CellField((volumes.mean() / volumes) ** 0.7), 0.0)
    given = mesh.with_groups(node_groups={"moved": nodes})
    order = max(block.reference.stiffness_order for block in mesh.blocks)
    held = [fa.Fixed("moved", value=told[nodes])]
    u = fa.LinearStatic(given, physics, held, quadrature_order=order).solve(start).u
    found = fa.ElasticMotion(mesh, stiffening=0.7).at_points(start + told, start).points
    np.testing.assert_allclose(found, start + u, atol=1e-12)
    np.testing.assert_array_equal(found[nodes], (start + told)[nodes])


def test_an_elastic_body_follows_an_affine_movement() -> None:
    mesh = body("tetra")
    target = mesh.points @ (np.eye(3) + 0.1 * np.random.default_rng(7).uniform(-1, 1, (3, 3))) + 0.3
    told = np.where(np.isin(np.arange(mesh.n_nodes), mesh.nodes_of("boundary"))[:, None], target, np.pi)
    np.testing.assert_allclose(fa.ElasticMotion(mesh, stiffening=0).at_points(told).points, target, atol=1e-12)


def assembled(mesh: fa.Mesh, radius: float) -> tuple[csr_array, csr_array]:
    """``M - r^2 L`` and ``M`` of a scalar, by scikit-fem, in the order of the nodes."""
    sk = mesh.to_skfem()
    basis = skfem.Basis(sk, skfem.ElementQuad1(), intorder=cell_type("quad").mass_order)
    at = basis.nodal_dofs[0]
    matrices = [csr_array(form.assemble(basis))[at][:, at] for form in (laplace, mass)]
    order = np.array([np.argmin(((sk.p.T - x) ** 2).sum(axis=1)) for x in mesh.points])
    laplacian, inertia = (m[order][:, order] for m in matrices)
    return csr_array(inertia + radius**2 * laplacian), csr_array(inertia)


def test_the_filter_solves_its_equation() -> None:
    mesh, radius = body("quad"), 0.4
    matrix, inertia = assembled(mesh, radius)
    told = np.random.default_rng(8).uniform(-1, 1, mesh.points.shape)
    free = fa.HelmholtzFilter(mesh, radius)
    np.testing.assert_allclose(
        free.at_points(mesh.points + told).points - mesh.points, spsolve(matrix.tocsc(), inertia @ told), atol=1e-12
    )
    np.testing.assert_allclose(free.at_points(mesh.points + 0.7).points, mesh.points + 0.7, atol=1e-12)
    held = np.zeros(mesh.points.shape, dtype=bool)
    held[mesh.nodes_of("left")] = True
    held[mesh.nodes_of("top"), 1] = True
    moved = fa.HelmholtzFilter(mesh, radius, fixed=["left", fa.Fixed("top", "y")]).at_points(mesh.points + told)
    movement = moved.points - mesh.points
    assert not movement[held].any()
    left = matrix @ movement - inertia @ told
    assert np.abs(left[~held]).max() < 1e-14


def test_riesz_representatives() -> None:
    """``(M - r^2 L) g = G``, and through the filter the gradient is ``M g``."""
    mesh, radius = body("quad"), 0.4
    matrix, inertia = assembled(mesh, radius)
    gradient = np.random.default_rng(8).uniform(-1, 1, mesh.points.shape)
    free = fa.HelmholtzFilter(mesh, radius)
    g = free.riesz(gradient)
    np.testing.assert_allclose(matrix @ g, gradient, atol=1e-12)
    np.testing.assert_allclose(free.at_points(mesh.points).pullback(gradient), inertia @ g, atol=1e-13)
    assert not smooth("quad").riesz(gradient)[mesh.nodes_of("left")].any()


def test_boxes_interpolate_and_leave_what_lies_outside() -> None:
    """Of degree one they are bilinear; a movement of all control points moves the inside as a whole."""
    mesh = box_mesh("quad", (6, 4), origin=(3.0, -5.0))
    p = fa.FreeFormBox(mesh, (2, 2), box=((3.0, -5.0), (3.5, -4.0)), held=())
    assert p.names[:2] == ("control point (0, 0) x", "control point (0, 0) y")
    q = np.random.default_rng(0).uniform(-1, 1, 8)
    corners = q.reshape(2, 2, 2)
    s = (mesh.points - [3.0, -5.0]) / [0.5, 1.0]
    expected = sum(
        ((1 - s[:, 0]) if i == 0 else s[:, 0])[:, None]
        * ((1 - s[:, 1]) if j == 0 else s[:, 1])[:, None]
        * corners[i, j]
        for i in (0, 1)
        for j in (0, 1)
    )
    inside = s[:, 0] <= 1 + 1e-9
    assert 0 < inside.sum() < mesh.n_nodes
    np.testing.assert_allclose(p.forward(q), mesh.points + np.where(inside[:, None], expected, 0.0), atol=1e-14)
    np.testing.assert_allclose(p.moved_controls(q), p.controls + corners, atol=1e-15)
    high = fa.FreeFormBox(mesh, (5, 4))
    np.testing.assert_allclose(high.forward(np.full(high.n, 0.3)), mesh.points + 0.3, atol=1e-14)


def test_boxes_hold_the_faces_across_which_the_mesh_goes_on() -> None:
    """With k layers held, the movement starts with the power k of the distance to the face."""
    mesh = box_mesh("quad", (32, 2), lengths=(2.0, 1.0))
    for layers in (1, 2):
        p = fa.FreeFormBox(mesh, (5, 2), box=((-0.1, -0.1), (1.0, 1.1)), layers=layers)
        assert p.n == (5 - layers) * 4
        movement = p.forward(np.ones(p.n)) - mesh.points
        gap = 1.0 - mesh.points[:, 0]
        assert not movement[gap <= 1e-9].any()
        near = [np.abs(movement[np.abs(gap - d) < 1e-9]).max() for d in (0.125, 0.0625)]
        assert np.log2(near[0] / near[1]) == pytest.approx(layers, abs=0.35)
    one = fa.FreeFormBox(mesh, (3, 2), box=((-0.1, -0.1), (1.0, 1.1)), held="x-", components="y")
    assert one.n == 4
    middle = (mesh.points - [0.5, -0.1]) / [1.0, 1.2]
    inside = ((middle >= 0) & (middle <= 1)).all(axis=1)
    assert faces_across(mesh, middle, inside) == ["x-", "x+"]


def test_masks_choose_control_points() -> None:
    mesh = box_mesh("quad", (2, 2))
    mask = np.zeros((3, 2), dtype=bool)
    mask[1, 1] = True
    assert fa.FreeFormBox(mesh, (3, 2), movable=mask).names == ("control point (1, 1) x", "control point (1, 1) y")
    only = fa.FreeFormBox(mesh, (3, 2), movable=np.stack([mask, ~mask], axis=-1))
    assert only.names[2] == "control point (1, 0) y"
    assert only.n == 6
    p = fa.FreeFormBox(mesh, (3, 2), movable=mask, components="y")
    x = mesh.points
    lifted = 0.5 * 2 * x[:, 0] * (1 - x[:, 0]) * x[:, 1]
    np.testing.assert_allclose(p.forward([0.5]), x + np.stack([0 * lifted, lifted], axis=1), atol=1e-15)


@pytest.mark.parametrize("made", ["nodes", "box", "filtered"])
def test_symmetric_parts_stay_symmetric_and_planes_plane(made: str) -> None:
    mesh = box_mesh("quad", (4, 4), origin=(3.0, -5.0))
    planes, top = {"x": 3.5, "y": -4.5}, [fa.Fixed("top", "y"), fa.Fixed("bottom", "y")]
    if made == "box":
        p: fa.Parametrisation = fa.FreeFormBox(mesh, (4, 5), symmetry=planes, fixed=top)
        assert p.n == 2 * 2 + 2 * 3  # of a quarter of the lattice; x moves off the plane x = 3.5, y off y = -4.5
    else:
        p = fa.FreeNodes(mesh, "boundary", symmetry=planes, fixed=top)
        if made == "filtered":
            p = p >> fa.HelmholtzFilter(mesh, 0.2, fixed=top)
    x = p.forward(np.random.default_rng(0).uniform(-0.05, 0.05, p.n))
    assert np.abs(x - mesh.points).max() > 0.01
    for axis, place in ((0, 3.5), (1, -4.5)):
        across = mesh.points.copy()
        across[:, axis] = 2 * place - across[:, axis]
        partner = np.array([np.argmin(((mesh.points - c) ** 2).sum(axis=1)) for c in across])
        image = x[partner].copy()
        image[:, axis] = 2 * place - image[:, axis]
        np.testing.assert_allclose(image, x, atol=1e-13)
    np.testing.assert_array_equal(x[mesh.nodes_of("top"), 1], -4.0)


def test_free_nodes_name_their_variables_and_bounds() -> None:
    mesh = box_mesh("quad", (2, 2))
    p = fa.FreeNodes(mesh, [8, 2, 8], "y", bounds=(-0.1, [0.2, 0.3]))
    assert p.names == ("node 2 y", "node 8 y")
    assert p.n == 2
    np.testing.assert_array_equal(p.bounds, [[-0.1, -0.1], [0.2, 0.3]])
    x = p.forward([0.1, 0.2]) - mesh.points
    assert x[2, 1] == pytest.approx(0.1)
    assert x[8, 1] == pytest.approx(0.2)
    assert np.count_nonzero(x) == 2
    both = p + fa.FreeNodes(mesh, "inside")
    assert both.names == ("1: node 2 y", "1: node 8 y", *(f"2: node {n} {c}" for n in mesh.nodes_of("inside")
                                                          for c in "xy"))  # fmt: skip
    assert both.bounds[0][:3].tolist() == [-0.1, -0.1, -np.inf]
    assert both.linear
    np.testing.assert_array_equal(both.forward(both.start), mesh.points)


def test_directions_in_all_their_forms_are_the_same() -> None:
    mesh, rng = body("quad"), np.random.default_rng(0)
    fields = rng.uniform(-1, 1, (*mesh.points.shape, 2))
    matrix = fields.reshape(-1, 2)
    made = [
        fa.Directions(mesh, each)
        for each in (fields, matrix, csr_array(matrix), {"taper": fields[..., 0], "bend": fields[..., 1]})
    ]
    assert made[-1].names == ("taper", "bend")
    for each in made:
        np.testing.assert_allclose(each.forward([0.1, -0.2]), mesh.points + fields @ [0.1, -0.2], atol=1e-15)


def test_maps_can_be_sent_elsewhere() -> None:
    """A motion makes its factor again where it arrives."""
    p = parametrisation("quad", "two motions")
    q, _, g = random_case(p)
    other = pickle.loads(pickle.dumps(p))
    np.testing.assert_allclose(other.forward(q), p.forward(q), atol=1e-14)
    np.testing.assert_allclose(other.pullback(q, g), p.pullback(q, g), rtol=1e-10)


class Swollen(fa.Motion):
    """A user's own motion, not linear, without second derivatives."""

    def __init__(self, mesh: fa.Mesh) -> None:
        self.points = mesh.points

    def place(self, points: FloatArray, origin: FloatArray | None) -> fa.Placed:
        return PlacedSwollen(points, self.points if origin is None else origin)


class PlacedSwollen(fa.Placed):
    """``X = S + (Y - S)^2``."""

    def __init__(self, points: FloatArray, origin: FloatArray) -> None:
        self.s = points - origin
        self.points = origin + self.s**2

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.points.shape

    def pull(self, gradient: FloatArray) -> tuple[FloatArray, FloatArray]:
        told = 2 * self.s * gradient
        return told, gradient - told

    def push(self, direction: FloatArray, origin: FloatArray | None) -> FloatArray:
        start = np.zeros_like(direction) if origin is None else origin
        return start + 2 * self.s * (direction - start)


def test_motions_of_ones_own() -> None:
    p = (box("quad") >> Swollen(body("quad"))) + (box("quad") >> elastic("quad"))
    q, d, g = random_case(p)
    at = p.at(q)
    assert (g * at.pushforward(d)).sum() == pytest.approx(at.pullback(g) @ d, rel=1e-12)
    assert central(lambda t: (g * p.forward(q + t * d)).sum()) == pytest.approx(at.pullback(g) @ d, rel=1e-9)
    with pytest.raises(fa.SecondOrderError, match="PlacedSwollen does not tell its second derivatives"):
        at.curvature(g, d)


# ---------------------------------------------------------------------- what is refused
def two_parts() -> fa.Mesh:
    """Two squares that do not touch, of which one has a group."""
    points = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [3, 0], [4, 0], [4, 1], [3, 1]], dtype=float)
    return fa.Mesh(points, {"quad": [[0, 1, 2, 3], [4, 5, 6, 7]]}, node_groups={"first": [0, 1, 2, 3]})


M = box_mesh("quad", (2, 2))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: fa.FreeNodes(M, "lefft"), fa.UnknownGroupError, "did you mean 'left'"),
        (lambda: fa.FreeNodes(M, "left", fixed="left"), fa.ParametrisationError, "no component of any node is free"),
        (lambda: fa.FreeNodes(M, "left", "z"), fa.ParametrisationError, "components must be some of x, y"),
        (lambda: fa.FreeNodes(M, "left", symmetry={"x": 0.5}), fa.ParametrisationError, "3 have no mirror image"),
        (lambda: fa.FreeNodes(M, "left", symmetry={"r": 0.5}), fa.ParametrisationError, "no axis 'r'"),
        (lambda: fa.FreeNodes(M, "left", symmetry={"x": np.nan}), fa.ParametrisationError, "finite number"),
        (lambda: fa.FreeNodes(M, [99]), fa.ParametrisationError, "no nodes 99: numbers run from 0 to 8"),
        (lambda: fa.FreeNodes(M, []), fa.ParametrisationError, "names of groups or a list of node numbers"),
        (lambda: fa.FreeNodes(M, "left", bounds=(0.1, 0.2)), fa.ParametrisationError, "as it is"),
        (lambda: fa.FreeNodes(M, "left", bounds=([0, 0], 0.2)), fa.ParametrisationError, "shape"),
        (lambda: fa.FreeNodes(M, "left", bounds=3), fa.ParametrisationError, "pair"),
        (lambda: fa.FreeNodes(M, "left", fixed=fa.Fixed("top", "y", 1.0)), fa.ParametrisationError, "has a value"),
        (lambda: fa.FreeNodes(M, "left", fixed=fa.Fixed("top", "z")), fa.SupportError, "no component 'z'"),
        (lambda: fa.Directions(M, np.zeros((9, 2, 1))), fa.ParametrisationError, "directions 0 move no node"),
        (lambda: fa.Directions(M, np.zeros((9, 2, 0))), fa.ParametrisationError, "there are no directions"),
        (lambda: fa.Directions(M, np.ones((9, 3, 1))), fa.ParametrisationError, r"shape \(9, 2, 1\)"),
        (lambda: fa.Directions(M, csr_array(np.ones((9, 1)))), fa.ParametrisationError, "must have 18 rows"),
        (lambda: fa.Directions(M, {"a": np.full((9, 2), np.nan)}), fa.ParametrisationError, "'a' must be finite"),
        (lambda: fa.FreeFormBox(M, (2, 2), box=((3, 3), (4, 4))), fa.ParametrisationError, "holds no node"),
        (lambda: fa.FreeFormBox(M, (2, 2), box=((0, 1), (1, 1))), fa.ParametrisationError, "has no volume"),
        (lambda: fa.FreeFormBox(M, (2, 2), box=((0, 1),)), fa.ParametrisationError, "lowest and its highest corner"),
        (lambda: fa.FreeFormBox(M, (2, 1)), fa.ParametrisationError, "at least 2"),
        (lambda: fa.FreeFormBox(M, (2, 2, 2)), fa.ParametrisationError, "2 numbers of control points"),
                (lambda: fa.FreeFormBox(M, (2, 2), held=["z-"]), fa.ParametrisationError, "no face 'z-' of the box"),
        (lambda: fa.FreeFormBox(M, (2, 2), held=["x-", "x+"]), fa.ParametrisationError, "no control point can move"),
        (lambda: fa.FreeFormBox(M, (2, 2), movable=[True]), fa.ParametrisationError, r"shape \(2, 2\)"),
        (lambda: fa.FreeFormBox(M, (2, 2), symmetry={"x": 0.4}), fa.ParametrisationError, "not symmetric about x"),
        (lambda: fa.FreeFormBox(M, (2, 2), layers=0), fa.ParametrisationError, "layers"),
        (lambda: fa.HelmholtzFilter(M, 0.0), fa.ParametrisationError, "radius must be a positive length, not 0.0"),
        (lambda: fa.HelmholtzFilter(M, np.inf), fa.ParametrisationError, "positive length"),
        (lambda: fa.HelmholtzFilter(M, "r"), fa.ParametrisationError, "radius"),
        (lambda: fa.ElasticMotion(M, "hole"), fa.UnknownGroupError, "no node, facet or cell group 'hole'"),
        (lambda: fa.ElasticMotion(M, fa.Fixed("left", "x")), fa.ParametrisationError, "translation along y"),
        (lambda: fa.ElasticMotion(M, stiffening=np.nan), fa.ParametrisationError, "stiffening must be a finite"),
        (lambda: fa.ElasticMotion(two_parts(), "first"), fa.ParametrisationError, r"part with node 4 \(4 nodes"),
        (lambda: fa.FreeNodes(M, "left") >> fa.HelmholtzFilter(body("quad"), 1), fa.ParametrisationError, "different"),
        (lambda: fa.FreeNodes(M, "left") + box("quad"), fa.ParametrisationError, "made for different meshes"),
        (lambda: fa.FreeNodes(M, "left") >> fa.FreeNodes(M, "left"), TypeError, "unsupported operand"),
        (lambda: fa.FreeNodes(M, "left").at([1.0]), fa.ParametrisationError, r"shape \(6,\), not \(1,\)"),
        (lambda: fa.FreeNodes(M, "left").at([np.inf] * 6), fa.ParametrisationError, "variables must be finite"),
        (lambda: fa.FreeNodes(M, "left").at(["a"] * 6), fa.ParametrisationError, "design variables must be an array"),
        (lambda: fa.FreeNodes(M, "left").at([0] * 6, [[0, 0]]), fa.InvalidMeshError, "the mesh has"),
        (lambda: fa.FreeNodes(M, "left").at([0] * 6).pullback([1.0]), fa.ParametrisationError, "the node gradient"),
        (lambda: fa.FreeNodes(M, "left").at([0] * 6).pushforward([1.0]), fa.ParametrisationError, "the direction"),
    ],
)  # fmt: skip
def test_what_is_refused(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
