"""The mesh: frozen arrays, groups, facets, measures, and the way to scikit-fem and back."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from itertools import product
from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skfem

import femadj as fa
from femadj.mesh.reference import CELL_TYPES, CellType, cell_table, facet_table, quadrature, shape_functions
from tests.meshes import CELLS, MESHES, SIDES, box_mesh, dim_of, is_quadratic, rotation

FloatArray = npt.NDArray[np.float64]


def groups(mesh: fa.Mesh) -> dict[str, Any]:
    """Everything a mesh names, as plain lists."""
    return {
        **{f"node {n}": g.tolist() for n, g in mesh.node_groups.items()},
        **{f"cell {n}": g.tolist() for n, g in mesh.cell_groups.items()},
        **{f"facet {n}": sorted(zip(g.cells, g.local, strict=True)) for n, g in mesh.facet_groups.items()},
    }


# ------------------------------------------------------------------ frozen
def held_arrays(mesh: fa.Mesh) -> list[npt.NDArray[Any]]:
    return [
        mesh.points,
        mesh.node_ids,
        mesh.orientation,
        *(b.nodes for b in mesh.blocks),
        *mesh.node_groups.values(),
        *mesh.cell_groups.values(),
        *(a for f in mesh.facet_groups.values() for a in (f.cells, f.local, f.interior)),
    ]


def test_everything_is_read_only() -> None:
    mesh = box_mesh("hexahedron+wedge")
    for m in (mesh, mesh.with_points(2 * mesh.points)):
        assert not any(array.flags.writeable for array in held_arrays(m))
    with pytest.raises(ValueError, match="read-only"):
        mesh.points[0] = 0
    for name in ("points", "blocks", "node_groups", "facet_groups", "cell_groups", "orientation"):
        with pytest.raises(FrozenInstanceError):
            setattr(mesh, name, None)
    for mapping in (mesh.node_groups, mesh.facet_groups, mesh.cell_groups):
        with pytest.raises(TypeError):
            mapping["new"] = None  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        mesh.blocks[0].nodes = mesh.blocks[1].nodes  # type: ignore[misc]


def test_groups_by_functions_are_read_only() -> None:
    mesh = box_mesh("hexahedron+wedge").with_groups(
        node_groups={"some": lambda x: x[0] > 0.5, "list": [0, 1]},
        facet_groups={"end": lambda x: x[0] > 0.9, "given": [[0, 1, 4, 3]]},
        cell_groups={"half": lambda x: x[0] > 0.5},
    )
    assert not any(array.flags.writeable for array in held_arrays(mesh))


@pytest.mark.parametrize("view", [False, True], ids=["own array", "read-only view"])
def test_arrays_of_the_caller_are_not_shared(view: bool) -> None:
    points = np.array([[0.0, 0.0], [1, 0], [1, 1], [0, 1]])
    cells = np.array([[0, 1, 2, 3]], dtype=np.int32)
    nodes, members, ids = np.array([0, 3]), np.array([0]), np.array([10, 20, 30, 40])
    moved = 2 * points
    owned: tuple[npt.NDArray[Any], ...] = (points, cells, nodes, members, ids, moved)

    def given(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if not view:
            return array
        result = array.view()
        result.setflags(write=False)
        return result

    mesh = fa.Mesh(
        given(points),
        {"quad": given(cells)},
        node_groups={"left": given(nodes)},
        cell_groups={"all": given(members)},
        node_ids=given(ids),
    )
    other = mesh.with_points(given(moved))
    before = [a.copy() for a in (*held_arrays(mesh), other.points)]
    for array in owned:
        array[...] = 1
        assert array.flags.writeable
    for now, then in zip((*held_arrays(mesh), other.points), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_solution_does_not_share_the_points_of_the_caller() -> None:
    mesh = box_mesh("quad")
    problem = fa.LinearStatic(mesh, fa.Diffusion(), [fa.Fixed("left")])
    points = np.array(mesh.points)
    solution = problem.solve(points)
    points += 1
    np.testing.assert_array_equal(solution.points, mesh.points)
    assert not solution.points.flags.writeable


def test_with_points_keeps_everything_else() -> None:
    mesh = box_mesh("quad8+triangle6", distortion=0.1)
    before = np.array(mesh.points)
    moved = mesh.with_points((2 * mesh.points + 5).tolist())
    np.testing.assert_array_equal(mesh.points, before)
    np.testing.assert_array_equal(moved.points, 2 * before + 5)
    assert groups(moved) == groups(mesh)
    assert [b.type for b in moved.blocks] == ["quad8", "triangle6"]
    assert moved.volume() == pytest.approx(4 * mesh.volume())


# ------------------------------------------------------------------ groups
@pytest.mark.parametrize("cell", MESHES)
def test_groups_hold_what_they_say(cell: str) -> None:
    mesh = box_mesh(cell)
    dim, x = mesh.dim, mesh.points
    for side, (axis, end) in SIDES[dim].items():
        np.testing.assert_array_equal(mesh.nodes_of(side), np.flatnonzero(x[:, axis] == end))
        assert not mesh.facets(side).interior.any()
    assert mesh.facets("middle").interior.all()
    np.testing.assert_array_equal(mesh.nodes_of("middle"), np.flatnonzero(x[:, 0] == 0.5))
    np.testing.assert_array_equal(mesh.nodes_of("low"), np.flatnonzero(x[:, 0] <= 0.5))
    np.testing.assert_array_equal(mesh.nodes_of("high"), np.flatnonzero(x[:, 0] >= 0.5))
    assert sum(len(mesh.cells_of(g)) for g in ("low", "high")) == mesh.n_cells
    # where two cells share a facet, the lower one owns it
    assert (mesh.facets("middle").cells < mesh.n_cells).all()


def test_names_are_looked_up_as_nodes_then_facets_then_cells() -> None:
    mesh = box_mesh("quad").with_groups(
        node_groups={"left": [3], "both": [5]}, facet_groups={"low": lambda x: x[1] == 0}, cell_groups={"both": [0]}
    )
    assert mesh.nodes_of("left").tolist() == [3]
    assert mesh.nodes_of("both").tolist() == [5]
    np.testing.assert_array_equal(mesh.nodes_of("low"), mesh.nodes_of("bottom"))
    assert len(mesh.facets("left")) == 3
    assert mesh.cells_of("both").tolist() == [0]


@pytest.mark.parametrize("cell", MESHES)
def test_with_groups(cell: str) -> None:
    mesh = box_mesh(cell, distortion=0.1, flat=True)
    n = mesh.n_nodes
    new = mesh.with_groups(
        node_groups={"n list": [5, 2, 2, 0], "n mask": np.arange(n) % 2 == 0, "n where": lambda x: x[0] == 0},
        facet_groups={"f where": lambda x: x[0] > 1 - 1e-9, "f given": mesh.facet_cells(mesh.facets("top"))[0][1]},
        cell_groups={"c where": lambda x: x[0] > 0.5, "c mask": np.arange(mesh.n_cells) < 2, "low": [1]},
    )
    assert new.nodes_of("n list").tolist() == [0, 2, 5]
    np.testing.assert_array_equal(new.nodes_of("n mask"), np.arange(0, n, 2))
    np.testing.assert_array_equal(new.nodes_of("n where"), mesh.nodes_of("left"))
    assert groups(new)["facet f where"] == groups(mesh)["facet right"]
    assert set(new.nodes_of("f given")) <= set(mesh.nodes_of("top"))
    np.testing.assert_array_equal(new.cells_of("c where"), mesh.cells_of("high"))
    assert new.cells_of("c mask").tolist() == [0, 1]
    assert new.cells_of("low").tolist() == [1]  # replaced
    assert len(mesh.cells_of("low")) != 1
    assert "n list" not in mesh.node_groups
    assert groups(new)["facet left"] == groups(mesh)["facet left"]


@pytest.mark.parametrize("cell", MESHES)
def test_facets_are_found_by_their_corners_in_any_order(cell: str) -> None:
    mesh = box_mesh(cell)
    corners = []
    for kind, nodes in mesh.facet_cells(mesh.facets("boundary")):
        corner = nodes[:, : CELL_TYPES[kind].n_corners]
        corners += [corner[:, ::-1], np.roll(corner, 1, axis=1)]  # and every facet twice
    again = mesh.with_groups(facet_groups={"again": corners})
    assert groups(again)["facet again"] == groups(mesh)["facet boundary"]


# ------------------------------------------------------------------ boundary and outward facets
def area_vectors(mesh: fa.Mesh, facets: fa.FacetSet) -> tuple[FloatArray, FloatArray]:
    """Area vectors by the order of the corners, and centres, of straight facets."""
    vectors, centres = [], []
    for kind, nodes in mesh.facet_cells(facets):
        x = mesh.points[nodes[:, : CELL_TYPES[kind].n_corners]]
        if mesh.dim == 2:
            t = x[:, 1] - x[:, 0]
            vectors.append(np.stack([t[:, 1], -t[:, 0]], axis=1))
        else:  # half the product of the diagonals (of two edges in a triangle)
            vectors.append(0.5 * np.cross(x[:, 2] - x[:, 0], x[:, -1] - x[:, 1]))
        centres.append(x.mean(axis=1))
    return np.vstack(vectors), np.vstack(centres)


def mirrored(mesh: fa.Mesh) -> fa.Mesh:
    """The mirror image, with the numbering of every cell as it was: all Jacobians are negative."""
    points = np.array(mesh.points)
    points[:, 0] *= -1
    sides = {n: [c for _, c in mesh.facet_cells(f)] for n, f in mesh.facet_groups.items()}
    return fa.Mesh(points, mesh.blocks, facet_groups=sides, cell_groups=mesh.cell_groups)


@pytest.mark.parametrize("cell", MESHES)
def test_the_boundary_is_all_sides(cell: str) -> None:
    mesh = box_mesh(cell)
    boundary = mesh.boundary()
    assert sorted(zip(boundary.cells, boundary.local, strict=True)) == groups(mesh)["facet boundary"]
    assert not boundary.interior.any()


@pytest.mark.parametrize("cell", MESHES)
def test_facets_run_outwards(cell: str) -> None:
    mesh = box_mesh(cell, lengths=(1.6, 0.8, 0.5)[: dim_of(cell)], linear_map=rotation(dim_of(cell)))
    vectors, centres = area_vectors(mesh, mesh.boundary())
    assert ((vectors * (centres - mesh.points.mean(axis=0))).sum(axis=1) > 0).all()
    np.testing.assert_allclose(vectors.sum(axis=0), 0, atol=1e-12)
    # divergence theorem: flat facets, hence exact
    assert np.sum(vectors * centres) == pytest.approx(mesh.dim * mesh.volume(), rel=1e-12)


def test_facets_run_outwards_from_cells_numbered_the_other_way() -> None:
    wrong = []
    for cell in MESHES:
        mesh = mirrored(box_mesh(cell))
        vectors, centres = area_vectors(mesh, mesh.boundary())
        if not ((vectors * (centres - mesh.points.mean(axis=0))).sum(axis=1) > 0).all():
            wrong.append(cell)
    assert not wrong, f"corners run inwards: {wrong}"


@pytest.mark.parametrize("cell", MESHES)
def test_facets_of_a_single_cell_close_it(cell: str) -> None:
    # also the area vectors and quadrature of the reference tables
    for name in cell.split("+"):
        kind = CELL_TYPES[name]
        mesh = fa.Mesh(kind.nodes, {name: np.arange(kind.n_nodes)[None]})
        vectors, centres = area_vectors(mesh, mesh.boundary())
        assert np.sum(vectors * centres) == pytest.approx(kind.dim * mesh.volume(), rel=1e-13)
        table = facet_table(name)
        flow = 0.0
        for number in range(len(kind.facets)):
            x = table.values[number] @ kind.nodes
            flow += table.weights[number] @ (x @ table.normals[number])
        assert flow == pytest.approx(kind.dim * mesh.volume(), rel=1e-13)


@pytest.mark.parametrize("cell", [c for c in MESHES if is_quadratic(c)])
def test_facets_carry_their_mid_side_nodes(cell: str) -> None:
    mesh = box_mesh(cell, linear_map=rotation(dim_of(cell)))
    for kind, nodes in mesh.facet_cells(mesh.boundary()):
        facet = CELL_TYPES[kind]
        weights, _ = shape_functions(facet.shape, facet.nodes)
        expected = np.einsum("ac,ecd->ead", weights, mesh.points[nodes[:, : facet.n_corners]])
        np.testing.assert_allclose(mesh.points[nodes], expected, atol=1e-13)


# ------------------------------------------------------------------ volumes and quality
@pytest.mark.parametrize("cell", MESHES)
def test_volumes(cell: str) -> None:
    mesh = box_mesh(cell, lengths=(1.6, 0.8, 0.5)[: dim_of(cell)])
    exact = float(np.prod((1.6, 0.8, 0.5)[: mesh.dim]))
    volumes = mesh.cell_volumes()
    assert volumes.shape == (mesh.n_cells,)
    assert volumes.min() > 0
    assert mesh.volume() == pytest.approx(exact, rel=1e-13)
    # a linear map multiplies every volume by its determinant
    linear = rotation(mesh.dim) @ np.diag([2.0, 0.5, 3.0][: mesh.dim])
    np.testing.assert_allclose(
        mesh.cell_volumes(mesh.points @ linear.T + 7), abs(np.linalg.det(linear)) * volumes, rtol=1e-12
    )
    assert mirrored(mesh).volume() == pytest.approx(exact, rel=1e-13)


IDEAL = {
    "triangle": [[0, 0], [1, 0], [0.5, np.sqrt(0.75)]],
    "quad": [[0, 0], [1, 0], [1, 1], [0, 1]],
    "tetra": [[0, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1]],
    "hexahedron": CELL_TYPES["hexahedron"].nodes,
    "wedge": [[x, y, z] for z in (0, 1) for x, y in ((0, 0), (1, 0), (0.5, np.sqrt(0.75)))],
}


@pytest.mark.parametrize("cell", CELLS)
def test_quality(cell: str) -> None:
    kind = CELL_TYPES[cell]
    weights, _ = shape_functions(kind.shape, kind.nodes)
    ideal = weights @ np.array(IDEAL[kind.shape], dtype=float)
    mesh = fa.Mesh(ideal, {cell: np.arange(kind.n_nodes)[None]})
    for scale in (1e-6, 1.0, 1e6):
        turned = scale * ideal @ rotation(kind.dim).T + 3 * scale
        assert mesh.quality(turned) == pytest.approx(1.0, abs=1e-9)
    mirror = ideal * [-1, *[1] * (kind.dim - 1)]
    assert mesh.quality(mirror) == pytest.approx(-1.0, abs=1e-12)
    assert fa.Mesh(mirror, {cell: np.arange(kind.n_nodes)[None]}).quality() == pytest.approx(1.0, abs=1e-12)
    flat = ideal * [*[1] * (kind.dim - 1), 0]
    assert abs(mesh.quality(flat)[0]) < 1e-12
    point = np.zeros_like(ideal)
    assert abs(mesh.quality(point)[0]) < 1e-12
    # the first corner pulled through the cell
    pulled = ideal.copy()
    centre = ideal[: kind.n_corners].mean(axis=0)
    pulled[0] += 3 * (centre - pulled[0])
    middle = weights[kind.n_corners :] @ pulled[: kind.n_corners]
    pulled[kind.n_corners :] = middle
    assert mesh.quality(pulled)[0] <= 0
    # worse the flatter
    squeezed = [mesh.quality(ideal * [1, *[1] * (kind.dim - 2), s])[0] for s in (1.0, 0.5, 0.1)]
    if kind.shape in ("triangle", "tetra"):
        assert squeezed[0] > squeezed[1] > squeezed[2] > 0


# ------------------------------------------------------------------ orientation
def test_mixed_orientations_of_sorted_triangles() -> None:
    sorted_mesh = skfem.MeshTri().refined(2)
    mesh = fa.Mesh.from_skfem(sorted_mesh).with_groups(
        facet_groups={"left": lambda x: x[0] == 0, "right": lambda x: x[0] == 1, "all": lambda x: x[0] == x[0]}
    )
    assert set(mesh.orientation) == {-1.0, 1.0}
    assert mesh.cell_volumes().min() > 0
    assert mesh.volume() == pytest.approx(1.0)
    assert mesh.quality().min() > 0
    nodes = np.array(mesh.blocks[0].nodes)
    turned = mesh.orientation < 0
    nodes[turned] = nodes[turned][:, [0, 2, 1]]
    sides = {n: [c for _, c in mesh.facet_cells(f)] for n, f in mesh.facet_groups.items()}
    aligned = fa.Mesh(mesh.points, {"triangle": nodes}, facet_groups=sides)
    assert set(aligned.orientation) == {1.0}
    moved = mesh.points + 0.02 * np.sin(9 * mesh.points[:, ::-1])  # worst corners, however the nodes are counted
    np.testing.assert_allclose(mesh.quality(moved), aligned.quality(moved), rtol=1e-12)
    results = []
    for m in (mesh, aligned):
        loads = [fa.Pressure("right", 0.3), fa.Traction("all", (0.1, 0.4)), fa.BodyForce((0.2, -1.0))]
        solution = fa.LinearStatic(m, fa.Elasticity(E=2.0, nu=0.3), [fa.Fixed("left")], loads).solve()
        results.append((solution.u, fa.value_and_gradient(solution, fa.Compliance())[1].points))
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-12 * np.abs(two).max())


@pytest.mark.parametrize("cell", MESHES)
def test_a_mirrored_mesh_has_mirrored_results(cell: str) -> None:
    mesh = box_mesh(cell, distortion=0.1)
    image = mirrored(mesh)
    assert set(image.orientation) == {-1.0}
    sign = np.array([-1, *[1] * (mesh.dim - 1)])
    results = []
    for m in (mesh, image):
        loads = [fa.Pressure("boundary", 0.3), fa.Pressure("right", lambda x: 1 + x[1])]
        solution = fa.LinearStatic(m, fa.Elasticity(E=2.0, nu=0.3), [fa.Fixed("left")], loads).solve()
        results.append((solution.u, fa.value_and_gradient(solution, fa.Compliance())[1].points))
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two * sign, rtol=0, atol=1e-11 * np.abs(two).max())


# ------------------------------------------------------------------ scikit-fem
SKFEM_CELLS = [c for c in CELLS if c not in ("quad8", "hexahedron20")]


@pytest.mark.parametrize("cell", SKFEM_CELLS)
def test_round_trip_through_scikit_fem(cell: str) -> None:
    mesh = box_mesh(cell, distortion=0.15, origin=(3.0, -2.0, 5.0)[: dim_of(cell)])
    there = mesh.to_skfem()
    back = fa.Mesh.from_skfem(there)
    assert back.blocks[0].type == cell
    assert back.n_nodes == mesh.n_nodes
    np.testing.assert_allclose(back.cell_volumes(), mesh.cell_volumes(), rtol=1e-13)
    # same nodes at the same places of the same cells
    np.testing.assert_array_equal(back.points[back.blocks[0].nodes], mesh.points[mesh.blocks[0].nodes])
    assert {n: len(f) for n, f in back.facet_groups.items()} == {n: len(f) for n, f in mesh.facet_groups.items()}
    for name in mesh.facet_groups:
        ours, theirs = mesh.points[mesh.nodes_of(name)], back.points[back.nodes_of(name)]
        np.testing.assert_array_equal(np.unique(ours, axis=0), np.unique(theirs, axis=0))
    for name in mesh.cell_groups:
        np.testing.assert_array_equal(back.cells_of(name), mesh.cells_of(name))


@pytest.mark.parametrize("cell", [c for c in SKFEM_CELLS if c != "wedge"])
def test_scikit_fem_measures_the_same(cell: str) -> None:
    mesh = box_mesh(cell, distortion=0.15)
    there = mesh.to_skfem()
    volume = skfem.Basis(there, there.elem(), intorder=6).dx.sum()
    assert volume == pytest.approx(mesh.volume(), rel=1e-12)
    side = skfem.FacetBasis(there, there.elem(), facets="right", intorder=8).dx.sum()
    scalar = fa.LinearStatic(mesh, fa.Diffusion(), [fa.Fixed("left")], [fa.Flux("right", 1.0)])
    # sides that are not flat have measures that no rule integrates exactly
    assert scalar.solve().load.sum() == pytest.approx(side, rel=1e-4)


def test_scikit_fem_has_no_such_mesh() -> None:
    for cell in ("quad8", "hexahedron20", "quad+triangle"):
        with pytest.raises(fa.UnsupportedCellError, match=cell.split("+", maxsplit=1)[0]):
            box_mesh(cell).to_skfem()
    with pytest.raises(fa.UnsupportedCellError, match="MeshLine1"):
        fa.Mesh.from_skfem(skfem.MeshLine())


# ------------------------------------------------------------------ reference cells
# node orders as VTK draws them, which meshio follows: mid-edge nodes by their two corners, centres by those around
VTK_NODES: dict[str, list[tuple[int, ...]]] = {
    "triangle6": [(0, 1), (1, 2), (2, 0)],
    "quad8": [(0, 1), (1, 2), (2, 3), (3, 0)],
    "quad9": [(0, 1), (1, 2), (2, 3), (3, 0), (0, 1, 2, 3)],
    "tetra10": [(0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3)],
}
VTK_NODES["hexahedron20"] = [
    *((0, 1), (1, 2), (2, 3), (0, 3)),
    *((4, 5), (5, 6), (6, 7), (4, 7)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
]
VTK_NODES["hexahedron27"] = [
    *VTK_NODES["hexahedron20"],
    *((0, 3, 4, 7), (1, 2, 5, 6), (0, 1, 4, 5), (2, 3, 6, 7), (0, 1, 2, 3), (4, 5, 6, 7)),
    tuple(range(8)),
]


@pytest.mark.parametrize("cell", VTK_NODES)
def test_node_order(cell: str) -> None:
    kind = CELL_TYPES[cell]
    expected = [kind.nodes[list(corners)].mean(axis=0) for corners in VTK_NODES[cell]]
    np.testing.assert_array_equal(kind.nodes[kind.n_corners :], expected)


@pytest.mark.parametrize("cell", CELLS)
def test_shape_functions(cell: str) -> None:
    kind = CELL_TYPES[cell]
    at_nodes, _ = shape_functions(cell, kind.nodes)
    np.testing.assert_allclose(at_nodes, np.eye(kind.n_nodes), atol=1e-13)
    points, _ = quadrature(kind.shape, 4)
    values, gradients = shape_functions(cell, points)
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-13)
    np.testing.assert_allclose(values @ kind.nodes, points, atol=1e-13)
    step = 1e-6
    for j in range(kind.dim):
        move = step * np.eye(kind.dim)[j]
        difference = (shape_functions(cell, points + move)[0] - shape_functions(cell, points - move)[0]) / (2 * step)
        np.testing.assert_allclose(gradients[:, :, j], difference, atol=1e-8)


def exact_integral(shape: str, powers: tuple[int, ...]) -> float:
    """Integral of a monomial over a reference cell."""
    if shape in ("triangle", "tetra"):
        return float(np.prod([factorial(p) for p in powers])) / factorial(sum(powers) + len(powers))
    if shape == "wedge":
        return exact_integral("triangle", powers[:2]) / (powers[2] + 1)
    return float(np.prod([1 / (p + 1) for p in powers]))


RULES = sorted(
    {(kind.shape, order) for kind in CELL_TYPES.values() for order in (kind.stiffness_order, kind.mass_order)}
)


@pytest.mark.parametrize(("shape", "order"), RULES)
def test_quadrature_is_as_exact_as_it_says(shape: str, order: int) -> None:
    points, weights = quadrature(shape, order)
    dim = points.shape[1]
    for powers in product(range(order + 1), repeat=dim):
        if sum(powers) <= order:
            found = weights @ np.prod(points ** np.array(powers), axis=1)
            assert found == pytest.approx(exact_integral(shape, powers), rel=1e-11), powers


@pytest.mark.parametrize("cell", CELLS)
def test_tables_measure_the_reference_cell(cell: str) -> None:
    kind = CELL_TYPES[cell]
    for order in (kind.stiffness_order, kind.mass_order):
        table = cell_table(cell, order)
        assert table.weights.sum() == pytest.approx(exact_integral(kind.shape, (0,) * kind.dim), rel=1e-13)


def test_a_cell_folded_over_its_neighbour_is_found_among_cells_of_mixed_numbering() -> None:
    points = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 1.6]], dtype=float)
    fan = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    with pytest.raises(fa.TangledMeshError, match="same side of a facet") as caught:
        fa.Mesh(points, {"triangle": fan})
    assert 2 in caught.value.cells
    points[4] = 0.5, 0.6
    turned = fan.copy()
    turned[1] = turned[1][::-1]
    assert np.isclose(fa.Mesh(points, {"triangle": turned}).volume(), 1.0)


@pytest.mark.parametrize("cell", MESHES)
def test_cells_numbered_either_way_do_not_count_as_folded(cell: str) -> None:
    mesh = box_mesh(cell)
    blocks = []
    for block in mesh.blocks:
        nodes = block.nodes.copy()
        # the other numbering of the same cell: its reference cell mirrored in x
        mirror = np.abs(block.reference.nodes[:, None] - _mirrored(block.reference)[None]).max(axis=2).argmin(axis=1)
        nodes[::2] = nodes[::2][:, mirror]
        blocks.append((block.type, nodes))
    turned = fa.Mesh(mesh.points, blocks)
    assert set(turned.orientation) == {-1.0, 1.0}
    assert np.isclose(turned.volume(), mesh.volume())


def _mirrored(cell: CellType) -> np.ndarray:
    """Reference nodes with the first two coordinates exchanged, a symmetry of every reference cell."""
    return cell.nodes[:, [1, 0, *range(2, cell.dim)]]


def test_meshes_can_be_pickled() -> None:
    mesh = box_mesh("hexahedron+wedge", distortion=0.1)
    copy = pickle.loads(pickle.dumps(mesh))
    assert (copy.points == mesh.points).all()
    assert dict(copy.cell_groups).keys() == mesh.cell_groups.keys()
    assert [b.type for b in copy.blocks] == [b.type for b in mesh.blocks]
    with pytest.raises(TypeError):
        copy.node_groups["new"] = np.arange(2)
