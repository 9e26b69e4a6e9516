"""Bad input gets a femadj error that names the culprit. Unreadable files are tested with the readers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import femadj as fa
from tests.meshes import CELLS, MESHES, PLANE_CELLS, box_mesh, dim_of

ELASTIC = fa.Elasticity(E=1.0, nu=0.3)
SQUARE = np.array([[0.0, 0.0], [1, 0], [1, 1], [0, 1]])
TWO_TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])
CUBE = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])


def mentions(*words: object) -> str:
    """Regular expression that asks for all the words, in any order."""
    return "(?s)" + "".join(rf"(?=.*(?<!\w){re.escape(str(w))}(?!\w))" for w in words)


def arrays(mesh: fa.Mesh) -> tuple[npt.NDArray[np.float64], list[tuple[str, npt.NDArray[np.int32]]]]:
    """Writable points and the cells of a mesh."""
    return np.array(mesh.points), [(b.type, np.array(b.nodes)) for b in mesh.blocks]


def static(mesh: fa.Mesh, *loads: Any, physics: Any = None, supports: Any = None, **options: Any) -> fa.LinearStatic:
    return fa.LinearStatic(
        mesh, physics or ELASTIC, [fa.Fixed("left")] if supports is None else supports, loads, **options
    )


@pytest.fixture(scope="module")
def plate() -> fa.Mesh:
    return box_mesh("quad", (4, 3), distortion=0.1)


@pytest.fixture(scope="module")
def block() -> fa.Mesh:
    return box_mesh("hexahedron", (2, 2, 2), distortion=0.1)


# ------------------------------------------------------------------ coordinates
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_coordinates_that_are_not_finite(plate: fa.Mesh, bad: float) -> None:
    points, cells = arrays(plate)
    points[[7, 11], [0, 1]] = bad
    problem = static(plate)
    checks: tuple[Callable[[], Any], ...] = (
        lambda: fa.Mesh(points, cells),
        lambda: plate.with_points(points),
        lambda: problem.solve(points),
        lambda: problem.rebuilt(points),
        lambda: plate.quality(points),
    )
    for check in checks:
        with pytest.raises(fa.InvalidMeshError, match=mentions(7, 11)):
            check()


def test_many_bad_nodes_are_counted_not_listed(plate: fa.Mesh) -> None:
    points, cells = arrays(plate)
    points[:15] = np.nan
    with pytest.raises(fa.InvalidMeshError, match="15") as caught:
        fa.Mesh(points, cells)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (SQUARE[:, 0], ["(4,)"]),
        (SQUARE[:, :1], ["(4, 1)"]),
        (np.hstack([SQUARE, SQUARE]), ["(4, 4)"]),
        (SQUARE.astype(complex), ["complex128"]),
        (SQUARE.astype(str), ["dtype"]),
        (SQUARE.astype(object), ["object"]),
        (SQUARE.astype(bool), ["bool"]),
        (np.empty((0, 2)), []),
        ("points", ["dtype"]),
        (None, ["object"]),
    ],
)
def test_points_of_wrong_shape_or_type(points: Any, words: list[str]) -> None:
    with pytest.raises(fa.InvalidMeshError) as caught:
        fa.Mesh(points, {"triangle": TWO_TRIANGLES})
    assert all(w in str(caught.value) for w in words), caught.value


def test_ragged_lists() -> None:
    with pytest.raises(fa.InvalidMeshError, match="points"):
        fa.Mesh([[0.0, 0.0], [1.0], [1.0, 1.0], [0.0, 1.0]], {"triangle": TWO_TRIANGLES})
    with pytest.raises(fa.InvalidMeshError, match="triangle"):
        fa.Mesh(SQUARE, {"triangle": [[0, 1, 2], [0, 2]]})


def test_new_points_of_wrong_shape_or_type(plate: fa.Mesh) -> None:
    problem = static(plate)
    for points in (plate.points[:-1], np.c_[plate.points, plate.points[:, :1]], plate.points.ravel()):
        for check in (plate.with_points, problem.solve):
            with pytest.raises(fa.InvalidMeshError, match=re.escape(str(points.shape))):
                check(points)
    with pytest.raises(fa.InvalidMeshError, match="complex"):
        problem.solve(plate.points + 0j)


# ------------------------------------------------------------------ cells
@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"triangle": TWO_TRIANGLES.astype(float)}, ["triangle", "float64"]),
        ({"triangle": TWO_TRIANGLES.ravel()}, ["triangle", "(6,)"]),
        ({"triangle": np.array([[0, 1, 2, 3]])}, ["triangle", "(1, 4)"]),
        ({"triangle": TWO_TRIANGLES + 1}, ["triangle", "0..3"]),
        ({"triangle": TWO_TRIANGLES - 1}, ["triangle", "0..3"]),
        ({"triangle": np.empty((0, 3), dtype=int)}, ["no cells"]),
        ({}, ["no cells"]),
        ([], ["no cells"]),
    ],
)
def test_cells_of_wrong_shape_or_type(cells: Any, words: list[str]) -> None:
    with pytest.raises(fa.InvalidMeshError) as caught:
        fa.Mesh(SQUARE, cells)
    assert all(w in str(caught.value) for w in words), caught.value


def test_index_beyond_32_bits() -> None:
    # must not wrap around to a valid index
    cells = np.array([[0, 1, 2], [0, 2, 3 + 2**32]])
    with pytest.raises(fa.InvalidMeshError, match=mentions("triangle", 1)):
        fa.Mesh(SQUARE, {"triangle": cells})


@pytest.mark.parametrize("name", ["pyramid", "tetra20", "wedge15", "vertex", "polygon5", "QUAD", ""])
def test_unsupported_cells(name: str) -> None:
    with pytest.raises(fa.UnsupportedCellError, match="hexahedron27") as caught:
        fa.Mesh(SQUARE, {name: TWO_TRIANGLES})
    assert repr(name) in str(caught.value)
    assert all(supported in str(caught.value) for supported in CELLS)


@pytest.mark.parametrize("name", ["line", "line3"])
def test_lines_are_facets_not_cells(name: str) -> None:
    with pytest.raises(fa.UnsupportedCellError, match=mentions("facet_groups")):
        fa.Mesh(SQUARE, {name: TWO_TRIANGLES})


def test_plane_and_solid_cells_together() -> None:
    with pytest.raises(fa.InvalidMeshError, match="plane and solid"):
        fa.Mesh(CUBE, {"hexahedron": np.arange(8)[None], "quad": np.array([[0, 1, 2, 3]])})


def test_orphan_nodes() -> None:
    points = np.insert(SQUARE, 2, [5.0, 5.0], axis=0)
    with pytest.raises(fa.InvalidMeshError, match=mentions("orphan", 2)):
        fa.Mesh(points, {"triangle": np.array([[0, 1, 3], [0, 3, 4]])})


@pytest.mark.parametrize("cell", MESHES)
def test_duplicated_cells(cell: str) -> None:
    points, cells = arrays(box_mesh(cell))
    name, nodes = cells[-1]
    copy = nodes[-1].copy()
    n = sum(len(c) for _, c in cells)
    # in the same block and in a block of its own; also with its nodes named in another order
    for again in (copy, np.roll(copy, 1)):
        for doubled in ([*cells[:-1], (name, np.vstack([nodes, again]))], [*cells, (name, again[None])]):
            with pytest.raises(fa.InvalidMeshError, match=mentions(n - 1, n)):
                fa.Mesh(points, doubled)


def test_a_node_named_twice_by_a_cell() -> None:
    with pytest.raises(fa.FemadjError, match=mentions(1)):
        fa.Mesh(SQUARE, {"triangle": np.array([[0, 1, 2], [0, 3, 3]])})


# ------------------------------------------------------------------ tangled and flat cells
def tangled(mesh: fa.Mesh) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Push the first corner of the last cell right through it, which turns that cell inside out."""
    points = np.array(mesh.points)
    cell = mesh.blocks[-1].nodes[-1]
    n_corners = mesh.blocks[-1].reference.n_corners
    node = cell[0]
    points[node] += 2.5 * (points[cell[:n_corners]].mean(axis=0) - points[node])
    offset = mesh.block_offsets[-2]
    touched = [offset + int(e) for e in np.flatnonzero((mesh.blocks[-1].nodes == node).any(axis=1))]
    return points, touched


@pytest.mark.parametrize("cell", MESHES)
def test_tangled_cells(cell: str) -> None:
    mesh = box_mesh(cell, distortion=0.05)
    points, touched = tangled(mesh)
    last = mesh.n_cells - 1
    with pytest.raises(fa.TangledMeshError) as caught:
        mesh.with_points(points)
    assert last in caught.value.cells
    with pytest.raises(fa.TangledMeshError) as caught:
        mesh.require_untangled(points)
    assert last in caught.value.cells
    with pytest.raises(fa.TangledMeshError) as caught:
        static(mesh).solve(points)
    assert last in caught.value.cells
    assert len(touched) > 0
    assert any(str(c) in str(caught.value) for c in caught.value.cells)


@pytest.mark.parametrize("cell", [c for c in CELLS if c not in ("triangle", "tetra")])
def test_tangled_cells_at_construction(cell: str) -> None:
    # The Jacobian changes its sign inside the cell. A straight simplex has one sign only, which a file may choose.
    mesh = box_mesh(cell, distortion=0.05)
    points, cells = arrays(mesh)
    name, nodes = cells[0]
    kind, last = mesh.blocks[0].reference, nodes[-1]
    if kind.n_nodes == kind.n_corners:
        points[last[0]] += 0.9 * (points[last[kind.n_corners - 2]] - points[last[0]])
    else:
        points[last[kind.n_corners]] += points[last[2]] - points[last[0]]
    with pytest.raises(fa.TangledMeshError) as caught:
        fa.Mesh(points, [(name, nodes)])
    assert mesh.n_cells - 1 in caught.value.cells
    assert isinstance(caught.value, fa.FemadjError)


@pytest.mark.parametrize("cell", MESHES)
def test_cells_without_volume(cell: str) -> None:
    mesh = box_mesh(cell, distortion=0.05)
    points, cells = arrays(mesh)
    corners = mesh.blocks[0].nodes[0]
    flat = points.copy()
    flat[corners, 0] = flat[corners[0], 0]
    for check in (lambda: fa.Mesh(flat, cells), lambda: mesh.with_points(flat), lambda: static(mesh).solve(flat)):
        with pytest.raises(fa.TangledMeshError) as caught:
            check()
        assert 0 in caught.value.cells
    # nearly flat in coordinates of any unit
    for scale in (1e-9, 1.0, 1e9):
        squeezed = points.copy()
        squeezed[:, 0] *= 1e-13
        with pytest.raises(fa.TangledMeshError):
            mesh.with_points(scale * squeezed)
        assert mesh.with_points(scale * points).volume() > 0


@pytest.mark.parametrize("cell", CELLS)
def test_a_mirrored_mesh_is_tangled_as_points_and_fine_as_a_mesh(cell: str) -> None:
    mesh = box_mesh(cell, distortion=0.05)
    mirrored, cells = arrays(mesh)
    mirrored[:, 0] *= -1
    with pytest.raises(fa.TangledMeshError) as caught:
        mesh.with_points(mirrored)
    assert caught.value.cells == tuple(range(mesh.n_cells))
    assert fa.Mesh(mirrored, cells).volume() == pytest.approx(mesh.volume())


# ------------------------------------------------------------------ groups
def test_unknown_groups_list_those_there_are(plate: fa.Mesh) -> None:
    mesh = plate.with_groups(node_groups={"bolts": [0, 1]})
    everything = ("bolts", "left", "right", "low", "high")
    facets = ("left", "right", "bottom", "top")
    cells = ("low", "high")
    density = fa.Elasticity(E=1.0, nu=0.3, density=1.0)
    solution = static(mesh, physics=density).solve()
    checks: list[tuple[Callable[[], Any], tuple[str, ...]]] = [
        (lambda: mesh.nodes_of("nowhere"), everything),
        (lambda: mesh.facets("nowhere"), facets),
        (lambda: mesh.cells_of("nowhere"), cells),
        (lambda: static(mesh, supports=[fa.Fixed("nowhere")]), everything),
        (lambda: static(mesh, fa.Traction("nowhere", (1, 0))), facets),
        (lambda: static(mesh, fa.Traction("bolts", (1, 0))), facets),
        (lambda: static(mesh, fa.Pressure("nowhere", 1)), facets),
        (lambda: static(mesh, fa.PointLoad("nowhere", (1, 0))), everything),
        (lambda: static(mesh, fa.TotalForce("nowhere", (1, 0))), everything),
        (lambda: static(mesh, fa.BodyForce((1, 0), "nowhere")), cells),
        (lambda: static(mesh, fa.Gravity((1, 0), "nowhere"), physics=density), cells),
        (lambda: static(mesh, fa.Flux("nowhere", 1.0), physics=fa.Diffusion()), facets),
        (lambda: static(mesh, fa.Source(1.0, "nowhere"), physics=fa.Diffusion()), cells),
        (lambda: static(mesh, physics=fa.Elasticity(E={"nowhere": 1.0}, nu=0.3)), cells),
        (lambda: static(mesh, physics=fa.Diffusion({"nowhere": 1.0})), cells),
    ]
    checks += [
        (lambda r=r: fa.value_and_gradient(solution, r), names)
        for r, names in (
            (fa.Displacement("nowhere", "x"), everything),
            (fa.Volume("nowhere"), cells),
            (fa.Mass("nowhere"), cells),
            (fa.FieldNorm("nowhere"), cells),
        )
    ]
    for number, (check, names) in enumerate(checks):
        with pytest.raises(fa.UnknownGroupError) as caught:
            check()
        message = str(caught.value)
        assert all(repr(n) in message for n in names), (number, message)
        assert caught.value.name in message
        assert isinstance(caught.value, KeyError)


def test_a_mesh_without_groups_says_so() -> None:
    mesh = fa.Mesh(SQUARE, {"triangle": TWO_TRIANGLES})
    with pytest.raises(fa.UnknownGroupError, match="none"):
        mesh.nodes_of("left")


def test_empty_groups(plate: fa.Mesh) -> None:
    mesh = plate.with_groups(node_groups={"void": []}, facet_groups={"gap": []}, cell_groups={"hole": []})
    checks: tuple[tuple[Callable[[], Any], str], ...] = (
        (lambda: mesh.nodes_of("void"), "void"),
        (lambda: mesh.nodes_of("gap"), "gap"),
        (lambda: mesh.nodes_of("hole"), "hole"),
        (lambda: mesh.facets("gap"), "gap"),
        (lambda: mesh.cells_of("hole"), "hole"),
        (lambda: static(mesh, supports=[fa.Fixed("left"), fa.Fixed("void")]), "void"),
        (lambda: static(mesh, fa.Pressure("gap", 1.0)), "gap"),
        (lambda: static(mesh, fa.TotalForce("gap", (1.0, 0.0))), "gap"),
        (lambda: static(mesh, fa.PointLoad("void", (1.0, 0.0))), "void"),
        (lambda: static(mesh, fa.BodyForce((1.0, 0.0), "hole")), "hole"),
        (lambda: static(mesh, physics=fa.Elasticity(E={"low": 1.0, "high": 1.0, "hole": 2.0}, nu=0.0)), "hole"),
    )
    for check, name in checks:
        with pytest.raises(fa.InvalidMeshError, match=f"'{name}' is empty"):
            check()


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"node_groups": {"bolts": [0, 99]}}, ["bolts", "99", "node"]),
        ({"node_groups": {"bolts": [-1]}}, ["bolts", "node"]),
        ({"node_groups": {"bolts": [0.0, 1.0]}}, ["bolts", "float64"]),
        ({"node_groups": {"bolts": [[0, 1]]}}, ["bolts", "(1, 2)"]),
        ({"node_groups": {"bolts": np.ones(3, dtype=bool)}}, ["bolts", "bool"]),
        ({"cell_groups": {"core": [12]}}, ["core", "cell"]),
        ({"facet_groups": {"skin": [[0, 99]]}}, ["skin"]),
        ({"facet_groups": {"skin": [[0, 1, 2, 3]]}}, ["skin", "(1, 4)"]),
        ({"facet_groups": {"skin": [[0.0, 1.0]]}}, ["skin", "float64"]),
        ({"facet_groups": {"skin": [[0, 19]]}}, ["skin", "0, 19"]),
        ({"facet_groups": {"skin": [0, 1]}}, ["skin", "(2,)"]),
    ],
)
def test_malformed_groups(plate: fa.Mesh, groups: Any, words: list[str]) -> None:
    points, cells = arrays(plate)
    for make in (lambda: fa.Mesh(points, cells, **groups), lambda: plate.with_groups(**groups)):
        with pytest.raises(fa.InvalidMeshError) as caught:
            make()
        assert all(w in str(caught.value) for w in words[:1]), caught.value


@pytest.mark.parametrize("kind", ["node_groups", "facet_groups", "cell_groups"])
@pytest.mark.parametrize("answer", [True, np.array([True]), np.ones((2, 20), dtype=bool)], ids=["one", "few", "many"])
def test_selectors_that_answer_with_a_wrong_shape(plate: fa.Mesh, kind: str, answer: Any) -> None:
    # "all of them" must not silently become the first one
    with pytest.raises(fa.InvalidMeshError, match="chosen"):
        plate.with_groups(**{kind: {"chosen": lambda x: answer}})


def test_malformed_node_ids(plate: fa.Mesh) -> None:
    points, cells = arrays(plate)
    for ids in (np.arange(3), np.arange(20.0), np.arange(20)[None]):
        with pytest.raises(fa.InvalidMeshError, match="node_ids"):
            fa.Mesh(points, cells, node_ids=ids)


# ------------------------------------------------------------------ plane meshes with a third coordinate
@pytest.mark.parametrize("cell", PLANE_CELLS)
def test_planar_meshes_stored_with_z(cell: str) -> None:
    mesh = box_mesh(cell, distortion=0.1, origin=(300.0, -50.0))
    _, cells = arrays(mesh)
    for z in (0.0, 7.5, -1e6):
        lifted = fa.Mesh(np.c_[mesh.points, np.full(mesh.n_nodes, z)], cells)
        assert lifted.dim == 2
        np.testing.assert_array_equal(lifted.points, mesh.points)
    z = np.zeros(mesh.n_nodes)
    z[3] = 1e-3
    with pytest.raises(fa.InvalidMeshError, match=r"z between 0 and 0\.001"):
        fa.Mesh(np.c_[mesh.points, z], cells)


def test_solid_cells_with_two_coordinates() -> None:
    with pytest.raises(fa.InvalidMeshError, match="three coordinates"):
        fa.Mesh(CUBE[:, :2], {"hexahedron": np.arange(8)[None]})


# ------------------------------------------------------------------ supports
def test_no_supports(plate: fa.Mesh, block: fa.Mesh) -> None:
    plane = ("translation along x", "translation along y", "rotation about z")
    for mesh, names in ((plate, plane), (block, (*plane, "translation along z", "rotation about x"))):
        with pytest.raises(fa.SupportError) as caught:
            static(mesh, supports=[])
        assert all(n in str(caught.value) for n in names), caught.value
    with pytest.raises(fa.SupportError, match="constant"):
        static(plate, physics=fa.Diffusion(), supports=[])


@pytest.mark.parametrize(
    ("supports", "free", "stopped"),
    [
        ([("left", "x")], ["translation along y"], ["translation along x", "rotation"]),
        ([("corner", None)], ["rotation about z"], ["translation"]),
        ([("corner", "x"), ("opposite", "x")], ["translation along y"], ["rotation", "along x"]),
        ([("bottom", "y"), ("top", "y")], ["translation along x"], ["rotation", "along y"]),
    ],
)
def test_too_few_supports_in_the_plane(
    supports: list[tuple[str, str | None]], free: list[str], stopped: list[str]
) -> None:
    mesh = box_mesh("quad", (4, 3))
    with pytest.raises(fa.SupportError, match="rigid") as caught:
        static(mesh, supports=[fa.Fixed(g, c) for g, c in supports])
    named = str(caught.value).split(" (rotations")[0]
    assert all(n in named for n in free), caught.value
    assert not any(n in named for n in stopped), caught.value


@pytest.mark.parametrize(
    ("supports", "free", "stopped"),
    [
        ([("left", "x")], ["along y", "along z", "about x"], ["along x", "about y", "about z"]),
        ([("left", "xy")], ["along z"], ["along x", "along y", "about"]),
        ([("corner", None)], ["about x", "about y", "about z"], ["along"]),
        ([("left", "x"), ("front", "y")], ["along z"], ["along x", "along y", "about"]),
    ],
)
def test_too_few_supports_in_space(supports: list[tuple[str, str | None]], free: list[str], stopped: list[str]) -> None:
    mesh = box_mesh("hexahedron", (2, 2, 2))
    with pytest.raises(fa.SupportError, match="rigid") as caught:
        static(mesh, supports=[fa.Fixed(g, c) for g, c in supports])
    named = str(caught.value).split(" (rotations")[0]
    assert all(n in named for n in free), caught.value
    assert not any(n in named for n in stopped), caught.value


def test_a_line_of_supports_is_an_axis(block: fa.Mesh) -> None:
    mesh = box_mesh("hexahedron", (2, 2, 2)).with_groups(
        node_groups={"edge": lambda x: (x[0] == 0) & (x[1] == 0), "tip": lambda x: (x == 1).all(axis=0)}
    )
    with pytest.raises(fa.SupportError, match=r"1 rigid motion.*rotation about z"):
        static(mesh, supports=[fa.Fixed("edge")])
    # one more component away from the axis stops it
    static(mesh, supports=[fa.Fixed("edge"), fa.Fixed("tip", "x")])


def apart(cell: str) -> fa.Mesh:
    """Two boxes that do not touch; the groups of the first are a_*, of the second b_*."""
    one, two = box_mesh(cell), box_mesh(cell, origin=(5.0, 0.0, 0.0)[: dim_of(cell)])
    n = one.n_nodes
    (name, nodes), *_ = arrays(one)[1]
    return fa.Mesh(
        np.vstack([one.points, two.points]),
        {name: np.vstack([nodes, nodes + n])},
        node_groups={"a_left": one.nodes_of("left"), "b_left": two.nodes_of("left") + n},
        node_ids=np.arange(2 * n) + 1000,
    )


@pytest.mark.parametrize("cell", CELLS)
def test_two_bodies_that_are_not_connected(cell: str) -> None:
    mesh = apart(cell)
    first_of_second = 1000 + mesh.n_nodes // 2
    with pytest.raises(fa.SupportError, match=mentions(first_of_second, "2 parts")):
        static(mesh, supports=[fa.Fixed("a_left")])
    with pytest.raises(fa.SupportError, match=mentions(first_of_second, "2 parts", "translation along y")):
        static(mesh, supports=[fa.Fixed("a_left"), fa.Fixed("b_left", "x")])
    static(mesh, fa.PointLoad("b_left", (1.0, 2.0, 3.0)[: mesh.dim]), supports=[fa.Fixed("a_left"), fa.Fixed("b_left")])


def joined(cell: str, shared: str, *, solver: str) -> fa.LinearStatic:
    """Two boxes that share one node or one edge only; the first is held, the second hangs on it and is loaded."""
    dim = dim_of(cell)
    one = box_mesh(cell)
    # the second box lies diagonally: it touches at the opposite corner, or along the edge x = y = 1
    shift = np.array([1.0, 1.0, 1.0 if shared == "node" else 0.0][:dim])
    two = box_mesh(cell, origin=shift)
    n = one.n_nodes
    where = {tuple(p): i for i, p in enumerate(one.points.round(9).tolist())}
    new = np.full(two.n_nodes, -1)
    extra = []
    for i, p in enumerate(two.points.round(9).tolist()):
        new[i] = where.get(tuple(p), n + len(extra))
        if new[i] == n + len(extra):
            extra.append(i)
    (name, nodes), *_ = arrays(one)[1]
    mesh = fa.Mesh(
        np.vstack([one.points, two.points[extra]]),
        {name: np.vstack([nodes, new[two.blocks[0].nodes]])},
        node_groups={"left": one.nodes_of("left"), "tip": new[two.node_groups["opposite"]]},
    )
    assert len(extra) < two.n_nodes
    load = fa.PointLoad("tip", (1.0, 0.0, 0.0)[:dim])
    return fa.LinearStatic(mesh, ELASTIC, [fa.Fixed("left")], [load], solver=solver)


@pytest.mark.parametrize("solver", fa.available_solvers())
@pytest.mark.parametrize(
    ("cell", "shared"),
    [
        *((c, "node") for c in CELLS),
        *((c, "edge") for c in ("tetra", "tetra10", "hexahedron", "hexahedron20", "hexahedron27", "wedge")),
    ],
)
def test_a_mechanism(cell: str, shared: str, solver: str) -> None:
    problem = joined(cell, shared, solver=solver)
    with pytest.raises(fa.SingularSystemError, match=r"node \d+ at \(.*\), component [xyz]") as caught:
        problem.solve()
    assert caught.value.equation is not None
    assert "hinge" in str(caught.value)
    # the motion is that of the second box, beyond the node it hangs on
    node = caught.value.equation // problem.mesh.dim
    assert (problem.mesh.points[node] >= 1 - 1e-9).sum() >= 2, caught.value


def test_components_that_do_not_exist(plate: fa.Mesh) -> None:
    for components, word in (
        ("z", "'z'"),
        ("xz", "'z'"),
        (2, "2"),
        (-1, "-1"),
        ((0, 5), "5"),
        ("xx", "repeat"),
        ((0, "x"), "repeat"),
        ("", "empty"),
        ((), "empty"),
        ((0.5,), "0.5"),
        ((True,), "True"),
    ):
        with pytest.raises(fa.SupportError, match=re.escape(word)) as caught:
            static(plate, supports=[fa.Fixed("left"), fa.Fixed("right", components)])
        assert "right" in str(caught.value)
    with pytest.raises(fa.SupportError, match=mentions("left", "'x'")):
        static(plate, physics=fa.Diffusion(), supports=[fa.Fixed("left", "x")])


@pytest.mark.parametrize("components", [1.0, True, int])
def test_components_of_wrong_type(plate: fa.Mesh, components: Any) -> None:
    with pytest.raises(fa.SupportError, match="right"):
        static(plate, supports=[fa.Fixed("left"), fa.Fixed("right", components)])


def test_contradictory_supports(plate: fa.Mesh) -> None:
    corner = int(np.intersect1d(plate.nodes_of("left"), plate.nodes_of("bottom"))[0])
    for first, second, component in (
        (0.0, 0.1, "x"),
        (0.1, lambda x: [0.2 + 0 * x[0], 0.1 + 0 * x[0]], "x"),
        # equal in value, different in how they change when the node moves
        (0.0, lambda x: [x[0] - plate.points[corner, 0], 0 * x[0]], "x"),
    ):
        supports = [fa.Fixed("left", value=first), fa.Fixed("bottom", value=second)]
        with pytest.raises(fa.SupportError, match=mentions("'left'", "'bottom'", corner, component)):
            static(plate, supports=supports).solve()
    # agreeing supports, and different components, are fine
    static(plate, supports=[fa.Fixed("left", value=0.1), fa.Fixed("bottom", value=0.1)]).solve()
    static(plate, supports=[fa.Fixed("left", "x", 0.1), fa.Fixed("bottom", "y", 0.2)]).solve()


def test_contradictory_supports_are_named_by_file_ids(plate: fa.Mesh) -> None:
    points, cells = arrays(plate)
    corner = int(plate.node_groups["corner"][0])
    groups = {"a": plate.nodes_of("left"), "b": [corner]}
    mesh = fa.Mesh(points, cells, node_groups=groups, node_ids=np.arange(20) + 5000)
    with pytest.raises(fa.SupportError, match=mentions("'a'", "'b'", 5000 + corner)):
        static(mesh, supports=[fa.Fixed("a"), fa.Fixed("b", value=1.0)]).solve()


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, (1.0, np.nan), "a", None, (1.0, 2.0, 3.0), np.zeros((3, 2)), np.zeros((2, 4))]
)
def test_prescribed_values_of_wrong_shape_or_not_finite(plate: fa.Mesh, value: Any) -> None:
    with pytest.raises(fa.SupportError, match="'left'"):
        static(plate, supports=[fa.Fixed("left", value=value)]).solve()


@pytest.mark.parametrize("supports", ["left", fa.Traction("left", (1, 0)), [fa.Traction("left", (1, 0))], None, [None]])
def test_supports_that_are_none(plate: fa.Mesh, supports: Any) -> None:
    with pytest.raises(fa.SupportError, match="supports"):
        fa.LinearStatic(plate, ELASTIC, supports)


# ------------------------------------------------------------------ functions of position
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: np.real(x[0]) ** 2, ["np.real has no rule"]),
        (lambda x: x[0].astype(float) if x.dtype == float else np.array(x[0].real), ["real part", "derivative"]),
        (lambda x: x[0] == x[0, 0], ["depend"]),
        (lambda x: np.nan * x[0], ["NaN"]),
        (lambda x: np.where(x[0].real >= 0, np.inf, 1.0) + 0 * x[0].real, ["infinite"]),
        (lambda x: x[0][:-1], ["shape"]),
        (lambda x: np.zeros((5, x.shape[1])), ["shape"]),
        (lambda x: x[7], ["failed"]),
        (lambda x: [x[0], "text"], []),
        (lambda x: None, []),
        (lambda x: float(x[0, 0].real) / 0, ["failed"]),
    ],
)
def test_functions_that_cannot_be_used(plate: fa.Mesh, function: Any, words: list[str]) -> None:
    scalar = fa.Diffusion()
    cases: tuple[tuple[Any, type[Exception], str], ...] = (
        (lambda: static(plate, physics=scalar, supports=[fa.Fixed("left", value=function)]), fa.SupportError, "left"),
        (lambda: static(plate, fa.Flux("right", function), physics=scalar), fa.LoadError, "right"),
        (lambda: static(plate, fa.Source(function, "low"), physics=scalar), fa.LoadError, "low"),
        (lambda: static(plate, fa.Pressure("right", function)), fa.LoadError, "right"),
    )
    for make, error, name in cases:
        with pytest.raises(error, match=name) as caught:
            fa.value_and_gradient(make().solve(), fa.FieldNorm())  # derivatives are looked at when they are asked for
        assert all(w in str(caught.value) for w in words), caught.value


@pytest.mark.parametrize(
    "function", [lambda x: np.abs(x[0] - 0.3), lambda x: np.linalg.norm(x, axis=0), lambda x: np.conj(x[0]) ** 2]
)
def test_real_functions_that_are_not_analytic_have_a_derivative(plate: fa.Mesh, function: Any) -> None:
    problem = static(plate, fa.Source(function), physics=fa.Diffusion())
    assert fa.verify(problem, fa.FieldNorm(), components=2, show=False).passed


def test_vector_functions_of_wrong_shape(plate: fa.Mesh) -> None:
    for function in (lambda x: x[0], lambda x: [x[0], x[1], x[0]]):
        with pytest.raises(fa.LoadError, match="right"):
            static(plate, fa.Traction("right", function)).solve()
        with pytest.raises(fa.LoadError, match="BodyForce"):
            static(plate, fa.BodyForce(function)).solve()
        with pytest.raises(fa.SupportError, match="left"):
            static(plate, supports=[fa.Fixed("left", value=function)]).solve()


def test_kinks_that_no_node_sees_are_accepted(plate: fa.Mesh) -> None:
    # |x| written analytically on one side is the user's right
    static(plate, fa.BodyForce(lambda x: [np.sqrt((x[0] + 2) ** 2), np.sin(x[1])])).solve()


# ------------------------------------------------------------------ materials
def test_elastic_constants_out_of_range() -> None:
    for E in (0.0, -1.0, np.nan, np.inf, "steel", None, [1.0, 2.0], {"low": 1.0, "high": -2.0}, {}):
        with pytest.raises(fa.MaterialError, match="E"):
            fa.Elasticity(E=E, nu=0.3)
    for nu in (0.5, 0.6, -1.0, -1.5, np.nan, "a", {"low": 0.3, "high": 0.5}):
        with pytest.raises(fa.MaterialError, match="nu"):
            fa.Elasticity(E=1.0, nu=nu)
    with pytest.raises(fa.MaterialError, match="high"):
        fa.Elasticity(E={"low": 1.0, "high": -2.0}, nu=0.3)
    for nu in (-0.999, 0.0, 0.4999):
        fa.Elasticity(E=1.0, nu=nu)
    for density in (0.0, -1.0, np.nan):
        with pytest.raises(fa.MaterialError, match="density"):
            fa.Elasticity(E=1.0, nu=0.3, density=density)
        with pytest.raises(fa.MaterialError, match="density"):
            fa.Diffusion(density=density)
    for thickness in (0.0, -1.0, np.nan, None):
        with pytest.raises(fa.MaterialError, match="thickness"):
            fa.Elasticity(E=1.0, nu=0.3, thickness=thickness)
        with pytest.raises(fa.MaterialError, match="thickness"):
            fa.Diffusion(thickness=thickness)
    with pytest.raises(fa.MaterialError, match="plane"):
        fa.Elasticity(E=1.0, nu=0.3, plane="sideways")  # type: ignore[arg-type]


def test_stiffness_matrices() -> None:
    good = np.diag([3.0, 3, 3, 1, 1, 1]) + 0.5
    skew = good.copy()
    skew[0, 1] += 0.1
    indefinite = np.diag([1.0, 1, 1, 1, 1, -1])
    singular = np.diag([1.0, 1, 1, 1, 1, 0])
    broken = np.where(np.eye(6) > 0, np.nan, good)
    for matrix, word in (
        (skew, "symmetric"),
        (indefinite, "positive definite"),
        (singular, "positive definite"),
        (broken, "finite"),
        (np.eye(4), r"\(4, 4\)"),
        (1.0, "stiffness"),
        ("steel", "stiffness"),
        ({"low": good, "high": skew}, "high"),
    ):
        with pytest.raises(fa.MaterialError, match=word):
            fa.Elasticity(stiffness=matrix)
    with pytest.raises(fa.MaterialError, match="not both"):
        fa.Elasticity(E=1.0, nu=0.3, stiffness=good)
    for kwargs in ({"E": 1.0}, {"nu": 0.3}, {}):
        with pytest.raises(fa.MaterialError, match="E and nu"):
            fa.Elasticity(**kwargs)


def test_a_plane_stiffness_for_a_solid(block: fa.Mesh) -> None:
    with pytest.raises(fa.MaterialError, match=r"\(6, 6\)"):
        static(block, physics=fa.Elasticity(stiffness=np.eye(3)))


def test_conductivities(plate: fa.Mesh, block: fa.Mesh) -> None:
    for k, word in (
        (0.0, "positive"),
        (-1.0, "positive"),
        (np.nan, "finite"),
        (np.array([[1.0, 5.0], [0.0, 1.0]]), "positive definite"),
        (np.zeros((2, 2)), "positive definite"),
        (np.full((2, 2), np.nan), "finite"),
        (np.ones(3), r"\(3,\)"),
        (np.ones((2, 3)), r"\(2, 3\)"),
        ("copper", "conductivity"),
        ({"low": 1.0, "high": -1.0}, "high"),
    ):
        with pytest.raises(fa.MaterialError, match=word):
            fa.Diffusion(k)
    with pytest.raises(fa.MaterialError, match=r"\(3, 3\)"):
        static(plate, physics=fa.Diffusion(np.eye(3)))
    with pytest.raises(fa.MaterialError, match=r"\(2, 2\)"):
        static(block, physics=fa.Diffusion(np.eye(2)))


def test_materials_that_leave_cells_out_or_overlap(plate: fa.Mesh) -> None:
    mesh = plate.with_groups(cell_groups={"all": np.arange(12), "some": [0, 7]})
    for make in (
        lambda m: fa.Elasticity(E=m, nu=0.3),
        lambda m: fa.Elasticity(E=1.0, nu=dict.fromkeys(m, 0.3)),
        lambda m: fa.Elasticity(stiffness={name: np.eye(3) for name in m}),
        fa.Diffusion,
    ):
        with pytest.raises(fa.MaterialError, match=mentions("not given", "some")) as caught:
            static(mesh, physics=make({"some": 1.0}))
        assert "1, 2, 3" in str(caught.value)
        with pytest.raises(fa.MaterialError, match=mentions("'all'", "'some'", 0, 7)):
            static(mesh, physics=make({"all": 1.0, "some": 2.0}))
    partial = fa.Elasticity(E=1.0, nu=0.3, density={"low": 1.0})
    with pytest.raises(fa.FemadjError, match=mentions("density", "low")):
        static(mesh, fa.Gravity((0.0, -1.0)), physics=partial)


def test_thickness_of_a_solid(block: fa.Mesh) -> None:
    for physics in (fa.Elasticity(E=1.0, nu=0.3, thickness=2.0), fa.Diffusion(thickness=2.0)):
        with pytest.raises(fa.MaterialError, match="thickness"):
            static(block, physics=physics)


def test_missing_density(plate: fa.Mesh) -> None:
    with pytest.raises(fa.LoadError, match=mentions("Gravity", "density")):
        static(plate, fa.Gravity((0.0, -9.81)))
    with pytest.raises(fa.ResponseError, match=mentions("Mass", "density")):
        fa.value_and_gradient(static(plate).solve(), fa.Mass())
    scalar = static(plate, physics=fa.Diffusion()).solve()
    with pytest.raises(fa.ResponseError, match=mentions("Mass", "density")):
        fa.value_and_gradient(scalar, fa.Mass())


# ------------------------------------------------------------------ loads
def test_loads_of_the_wrong_physics(plate: fa.Mesh) -> None:
    for load in (fa.Source(1.0), fa.Flux("right", 1.0)):
        with pytest.raises(fa.LoadError, match=mentions(type(load).__name__, "Elasticity")):
            static(plate, load)
    for load in (
        fa.BodyForce((1.0, 0.0)),
        fa.Gravity((1.0, 0.0)),
        fa.Traction("right", (1.0, 0.0)),
        fa.Pressure("right", 1.0),
    ):
        with pytest.raises(fa.LoadError, match=mentions(type(load).__name__, "Diffusion")):
            static(plate, load, physics=fa.Diffusion(density=1.0))


def test_loads_of_the_wrong_dimension(plate: fa.Mesh, block: fa.Mesh) -> None:
    physics = fa.Elasticity(E=1.0, nu=0.3, density=1.0)
    for mesh, wrong in ((plate, (1.0, 0.0, 0.0)), (block, (1.0, 0.0)), (plate, 1.0), (plate, [[1.0, 0.0]])):
        for load in (
            fa.BodyForce(wrong),
            fa.Gravity(wrong),
            fa.Traction("right", wrong),
            fa.PointLoad("right", wrong),
            fa.TotalForce("right", wrong),
            fa.TotalForce("inside", wrong),
        ):
            with pytest.raises(fa.LoadError, match=mentions(type(load).__name__)):
                static(mesh, load, physics=physics)
    for load in (fa.Pressure("right", (1.0, 0.0)), fa.Pressure("right", [[1.0]])):
        with pytest.raises(fa.LoadError, match=mentions("Pressure", "right")):
            static(plate, load)
    for load in (fa.Source((1.0, 0.0)), fa.Flux("right", (1.0, 0.0)), fa.PointLoad("right", (1.0, 0.0))):
        with pytest.raises(fa.LoadError, match=mentions(type(load).__name__)):
            static(plate, load, physics=fa.Diffusion())


def test_loads_that_are_not_finite(plate: fa.Mesh) -> None:
    physics = fa.Elasticity(E=1.0, nu=0.3, density=1.0)
    for bad in (np.nan, np.inf):
        for load in (
            fa.BodyForce((bad, 0.0)),
            fa.Gravity((bad, 0.0)),
            fa.Traction("right", (bad, 0.0)),
            fa.Pressure("right", bad),
            fa.PointLoad("right", (bad, 0.0)),
            fa.TotalForce("right", (bad, 0.0)),
        ):
            with pytest.raises(fa.LoadError, match=mentions(type(load).__name__)):
                static(plate, load, physics=physics)
    with pytest.raises(fa.LoadError, match="Pressure"):
        static(plate, fa.Pressure("right", "high"))  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", MESHES)
def test_pressure_on_interior_facets(cell: str) -> None:
    mesh = box_mesh(cell)
    with pytest.raises(fa.LoadError, match=mentions("Pressure", "'middle'", len(mesh.facet_groups["middle"]))):
        static(mesh, fa.Pressure("middle", 1.0))


def test_loads_that_are_none(plate: fa.Mesh) -> None:
    for loads in ("right", fa.Pressure("right", 1.0), [fa.Fixed("right")], [None], [1.0], None):
        with pytest.raises(fa.LoadError, match="loads"):
            fa.LinearStatic(plate, ELASTIC, [fa.Fixed("left")], loads)  # type: ignore[arg-type]


# ------------------------------------------------------------------ responses
def test_directions_of_displacement(plate: fa.Mesh) -> None:
    solution = static(plate, fa.Pressure("right", 1.0)).solve()
    for direction, reduce in (
        (None, "mean"),
        (None, "sum"),
        ("z", "mean"),
        ("xy", "mean"),
        ((1.0,), "sum"),
        ((1.0, 0.0, 0.0), "sum"),
        ((0.0, 0.0), "mean"),
        ((np.nan, 1.0), "mean"),
        ("z", "squared_norm"),
    ):
        with pytest.raises(fa.ResponseError, match=mentions("right", "direction")):
            fa.value_and_gradient(solution, fa.Displacement("right", direction, reduce))  # type: ignore[arg-type]
    with pytest.raises(fa.ResponseError, match=mentions("reduce", "'max'")):
        fa.value_and_gradient(solution, fa.Displacement("right", "x", "max"))  # type: ignore[arg-type]
    scalar = static(plate, physics=fa.Diffusion()).solve()
    with pytest.raises(fa.ResponseError, match="direction"):
        fa.value_and_gradient(scalar, fa.Displacement("right", "x"))


@dataclass(frozen=True)
class Custom:
    """Returns whatever it is given."""

    result: Any

    def evaluate(self, solution: fa.Solution) -> Any:
        return self.result


@pytest.mark.parametrize("part", ["state", "points", "external_weight", "internal_weight", "adjoint"])
def test_responses_with_unusable_derivatives(plate: fa.Mesh, part: str) -> None:
    solution = static(plate, fa.Pressure("right", 1.0)).solve()
    good = np.zeros((20, 2))
    bad = (good[:-1], good.T, good.ravel(), good.astype(np.float32), good.astype(int), good + 0j, good + np.nan)
    for array in (*bad, np.where(np.arange(40).reshape(20, 2) == 7, np.inf, 0.0)):
        with pytest.raises(fa.ResponseError, match=mentions("Custom", f"'{part}'")):
            fa.value_and_gradient(solution, Custom(fa.Evaluation(1.0, **{part: array})))


@pytest.mark.parametrize("part", ["state", "points", "external_weight", "internal_weight", "adjoint"])
def test_responses_with_derivatives_that_are_no_arrays(plate: fa.Mesh, part: str) -> None:
    solution = static(plate, fa.Pressure("right", 1.0)).solve()
    for array in (np.zeros((20, 2)).tolist(), 0.0, "zero"):
        with pytest.raises(fa.ResponseError, match=mentions("Custom", f"'{part}'")):
            fa.value_and_gradient(solution, Custom(fa.Evaluation(1.0, **{part: array})))  # type: ignore[arg-type]


def test_responses_with_unusable_values(plate: fa.Mesh) -> None:
    solution = static(plate, fa.Pressure("right", 1.0)).solve()
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(fa.ResponseError, match=f"Custom.*{value}"):
            fa.value_and_gradient(solution, Custom(fa.Evaluation(value)))


def test_responses_that_return_no_scalar(plate: fa.Mesh) -> None:
    solution = static(plate, fa.Pressure("right", 1.0)).solve()
    for result in (1.0, None, fa.Evaluation(np.zeros(3)), fa.Evaluation(1 + 2j), fa.Evaluation("a")):  # type: ignore[arg-type]
        with pytest.raises(fa.ResponseError, match="Custom"):
            fa.value_and_gradient(solution, Custom(result))


def test_things_that_are_no_response(plate: fa.Mesh) -> None:
    solution = static(plate, fa.Pressure("right", 1.0)).solve()
    for thing in (None, "compliance", fa.Compliance):
        with pytest.raises(fa.ResponseError):
            fa.value_and_gradient(solution, thing)  # type: ignore[arg-type]


# ------------------------------------------------------------------ solvers
def test_unknown_solver(plate: fa.Mesh) -> None:
    with pytest.raises(fa.SolverError, match=mentions("'mumps'", "'superlu'", "'pardiso'")):
        static(plate, solver="mumps")
    with pytest.raises(fa.SolverError, match="mumps"):
        fa.get_solver("mumps")


def test_every_error_is_a_femadj_error() -> None:
    kinds = [v for v in vars(fa).values() if isinstance(v, type) and issubclass(v, BaseException)]
    assert len(kinds) > 15
    assert all(issubclass(k, (fa.FemadjError, UserWarning)) for k in kinds)


@pytest.mark.parametrize("thing", [None, "mesh", fa.Elasticity])
def test_problems_of_parts_that_are_none(plate: fa.Mesh, thing: Any) -> None:
    with pytest.raises(fa.ProblemError, match="mesh must be"):
        fa.LinearStatic(thing, fa.Elasticity(E=1.0, nu=0.3), [fa.Fixed("left")])
    with pytest.raises(fa.ProblemError, match="physics must be"):
        fa.LinearStatic(plate, thing, [fa.Fixed("left")])


@pytest.mark.parametrize("order", [0, -1, 2.5])
def test_quadrature_orders_out_of_range(plate: fa.Mesh, order: Any) -> None:
    with pytest.raises(fa.ProblemError, match="quadrature_order"):
        fa.LinearStatic(plate, fa.Elasticity(E=1.0, nu=0.3), [fa.Fixed("left")], quadrature_order=order)


def test_node_ids_that_repeat(plate: fa.Mesh) -> None:
    points, cells = arrays(plate)
    with pytest.raises(fa.InvalidMeshError, match="repeat"):
        fa.Mesh(points, cells, node_ids=np.zeros(len(points), dtype=int))


def test_adjoint_without_the_state_derivative_it_belongs_to(plate: fa.Mesh) -> None:
    solution = static(plate, fa.Pressure("right", 1.0)).solve()
    with pytest.raises(fa.ResponseError, match="without the derivative 'state'"):
        fa.value_and_gradient(solution, Custom(fa.Evaluation(1.0, adjoint=np.zeros((20, 2)))))
