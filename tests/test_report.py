"""Progress, table, summary and pictures."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

import femadj as fa
from femadj.report import (
    Caption,
    Outcome,
    ProgressDisplay,
    View,
    deformed_picture,
    picture,
    run_table,
    summary,
    write_summary,
)
from femadj.report.raster import rasterise
from femadj.report.surface import split_facet
from tests.meshes import box_mesh
from tests.reference_assembly import turned

FACETS = ("triangle", "triangle6", "quad", "quad8", "quad9")


def solved(cell: str = "tetra10", lengths: Sequence[float] | None = None) -> fa.Solution:
    """A few cells under gravity."""
    mesh = turned(box_mesh(cell, lengths=lengths, distortion=0.05, flat=True))
    physics = fa.Elasticity(E=10.0, nu=0.3, density=2.0)
    load = fa.Gravity(np.eye(mesh.dim)[-1] * -9.81)
    return fa.LinearStatic(mesh, physics, [fa.Fixed("left")], [load]).solve()


def outcomes_of(solution: fa.Solution) -> dict[str, Outcome]:
    """Two responses."""
    responses = {"compliance": (fa.Compliance(), "N mm"), "lift": (fa.Displacement("right", "y"), "mm")}
    values, gradients = fa.values_and_gradients(solution, [r for r, _ in responses.values()])
    return {
        name: Outcome(float(value), unit, gradient)
        for (name, (_, unit)), value, gradient in zip(responses.items(), values, gradients, strict=True)
    }


# ---------------------------------------------------------------------- progress
def test_plain_progress_names_each_phase_once() -> None:
    stream = io.StringIO()
    display = ProgressDisplay(Console(file=stream))
    with display("assemble"):
        assert stream.getvalue() == "assemble ... "
    with display("outer"), display("inner"):
        pass
    with pytest.raises(ZeroDivisionError), display("fails"):
        _ = 1 / 0
    lines = stream.getvalue().splitlines()
    assert [line.split()[0].rstrip(":") for line in lines] == ["assemble", "outer", "inner", "outer", "fails"]
    assert all(line.endswith(" s") for line in lines if line != "outer ... ")


def test_progress_says_what_a_first_run_compiles() -> None:
    stream = io.StringIO()
    with ProgressDisplay(Console(file=stream))("prepare kernels"):
        pass
    assert "compiled on the first run" in stream.getvalue()


def test_live_progress_shows_phases_and_keeps_the_long_ones() -> None:
    stream = io.StringIO()
    display = ProgressDisplay(Console(file=stream, force_terminal=True, width=100), shortest=0.0)
    with display("factorise"), display("inner"):
        pass
    assert "factorise" in stream.getvalue()
    assert "inner" not in stream.getvalue()
    stream.truncate(0)
    display = ProgressDisplay(Console(file=stream, force_terminal=True, width=100), shortest=60.0)
    with display("solve"):
        pass
    assert " s\x1b" not in stream.getvalue()


def test_progress_follows_a_problem() -> None:
    stream = io.StringIO()
    mesh = box_mesh("quad")
    problem = fa.LinearStatic(
        mesh, fa.Diffusion(), [fa.Fixed("left")], [fa.Source(1.0)], progress=ProgressDisplay(Console(file=stream))
    )
    fa.value_and_gradient(problem.solve(), fa.FieldNorm())
    for phase in ("bind", "prepare kernels", "analyse", "assemble", "factorise", "solve", "solve adjoint", "contract"):
        assert f"\n{phase}" in "\n" + stream.getvalue()


# ---------------------------------------------------------------------- summary and table
def test_summary_is_plain_and_ordered(tmp_path: Path) -> None:
    solution = solved("hexahedron")
    outcomes = outcomes_of(solution)
    data = summary("beam", solution, outcomes, figures={"factor": 3.0})
    assert list(data) == [
        "name", "mesh", "unknowns", "prescribed", "solver", "factor", "responses", "figures", "counts", "seconds",
        "versions",
    ]  # fmt: skip
    assert data["mesh"]["cells"] == {"hexahedron": 8}
    assert data["unknowns"] == 3 * data["mesh"]["nodes"]
    assert data["counts"] == {"analyses": 1, "factorisations": 1}
    entry = data["responses"]["lift"]
    gradient = outcomes["lift"].gradient.points
    assert entry["adjoint solves"] == 1
    assert data["responses"]["compliance"]["adjoint solves"] == 0
    assert entry["gradient norm"] == pytest.approx(np.linalg.norm(gradient))
    assert np.linalg.norm(entry["largest"]) == pytest.approx(np.linalg.norm(gradient, axis=1).max())
    path = write_summary(tmp_path / "new" / "summary.json", data)
    assert json.loads(path.read_text(encoding="utf-8")) == data
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(fa.FemadjError, match="cannot be written"):
        write_summary(blocked / "summary.json", data)


def test_table_reads_well() -> None:
    solution = solved("hexahedron")
    data = summary("beam", solution, outcomes_of(solution), figures={"stress concentration": 3.0214})
    stream = io.StringIO()
    Console(file=stream, width=80).print(run_table(data))
    text = stream.getvalue()
    for words in (
        "beam\n", "27 nodes, 8 hexahedron, volume 1", "81 unknowns, 27 of them prescribed", "compliance", "N mm",
        "stress concentration: 3.0214", "factorise", "sum",
        "1 symbolic analysis, 1 factorisation, 1 adjoint solve for 2 gradients",
    ):  # fmt: skip
        assert words in text
    assert "…" not in text


# ---------------------------------------------------------------------- renderer
def triangle(*corners: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Corners of one triangle."""
    return np.array([corners], dtype=float)


def test_nearer_triangles_hide_others_and_backs_are_not_drawn() -> None:
    far = triangle((0, 0, 0), (0, 20, 0), (20, 0, 0))
    near = triangle((0, 0, 5), (0, 10, 5), (10, 0, 5))
    back = far[:, ::-1] + [0, 0, 9]
    corners = np.concatenate([near, far, back])
    values = np.repeat([[2.0], [1.0], [3.0]], 3, axis=1)
    normals = np.tile([0.0, 0.0, 1.0], (3, 3, 1))
    sides = np.tile(np.array([0, 1, 2]), (3, 1))
    raster = rasterise(corners, values, normals, sides, 24, 24)
    assert raster.value[1, 1] == 2
    assert raster.depth[1, 1] == 5
    assert raster.value[12, 2] == 1
    assert np.isinf(raster.depth[23, 23])
    assert not (raster.value == 3).any()
    # the side opposite to corner 1 runs along the top, that opposite to corner 2 along the left
    assert raster.edge[3, 8, 2] == pytest.approx(8.5)
    assert raster.edge[3, 1, 1] == pytest.approx(3.5)


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_views_are_right_handed(up: str) -> None:
    axes = View(azimuth=-50, elevation=20, up=up).axes()  # type: ignore[arg-type]
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-15)
    assert np.linalg.det(axes) == pytest.approx(1)
    k = "xyz".index(up)
    assert axes[0, k] == pytest.approx(0)
    assert axes[1, k] > 0.9


@pytest.mark.parametrize("name", FACETS)
def test_split_facets_cover_the_facet(name: str) -> None:
    split = split_facet(name)
    a, b, c = (split.points[split.triangles[:, k]] for k in range(3))
    areas = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    assert (areas > 0).all()
    assert areas.sum() == pytest.approx(0.5 if name.startswith("triangle") else 1.0)
    pieces = round(1 / np.ptp(np.unique(split.points[:, 0])[:2]))
    assert (split.edge >= 0).sum() == pieces * (3 if name.startswith("triangle") else 4)


# ---------------------------------------------------------------------- pictures
def pixels(path: Path) -> npt.NDArray[np.float64]:
    """Colours of a PNG, shape ``(height, width, 3)``."""
    image = pytest.importorskip("matplotlib.image")
    return np.asarray(image.imread(path))[..., :3]


@pytest.mark.parametrize("cell", ["tetra", "hexahedron20", "hexahedron+wedge", "quad8+triangle6"])
def test_pictures_show_growth_in_red(cell: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    solution = solved(cell)
    _, gradient = fa.value_and_gradient(solution, fa.Volume())
    labels = {"left": "fixed"}
    path = picture(tmp_path / "new" / "p.png", solution, gradient, Caption("volume", "mm³", "mm", "Box", labels))
    red = pixels(path)
    body = (red[..., 0] > red[..., 2] + 0.15)[:, : int(0.85 * red.shape[1])]
    assert body.mean() > (0.15 if solution.problem.mesh.dim == 3 else 0.003)
    blue = (red[..., 2] > red[..., 0] + 0.15)[:, : int(0.85 * red.shape[1])]
    assert blue.mean() < 0.001


def test_picture_enlarges_a_small_region(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    mesh = box_mesh("quad", (40, 40))
    solution = fa.LinearStatic(mesh, fa.Diffusion(), [fa.Fixed("left")], [fa.PointLoad("opposite", 1.0)]).solve()
    _, gradient = fa.value_and_gradient(solution, fa.Compliance())
    narrow = pixels(picture(tmp_path / "p.png", solution, gradient, Caption(labels={"left": "zero"})))
    assert narrow.shape[0] / narrow.shape[1] < 0.6


@pytest.mark.parametrize("cell", ["triangle", "triangle6", "quad", "quad8", "quad8+triangle6"])
def test_picture_shows_contour_lines(cell: str, tmp_path: Path) -> None:
    """Eleven lines across the body where a field grows along it, none where it is constant."""
    pytest.importorskip("matplotlib")
    mesh = box_mesh(cell, (5, 5), distortion=0.0)  # no line falls on an edge of a cell
    solution = fa.LinearStatic(mesh, fa.Diffusion(), [fa.Fixed("left")], []).solve()
    gradient = fa.Gradient(np.zeros_like(solution.points), solution.u, solution.u, 0)

    def dark(name: str, field: npt.NDArray[np.float64] | None) -> int:
        """Runs of dark pixels along a line through the body, at a third of its height."""
        image = pixels(picture(tmp_path / name, solution, gradient, Caption(), field=field))
        row = image[int(0.4 * image.shape[0]), : int(0.85 * image.shape[1])].mean(axis=1) < 0.6
        return int(np.diff(row.astype(int)).clip(0).sum())

    plain = dark("plain.png", None)
    assert dark("lines.png", solution.points[:, 0]) == plain + 11
    assert dark("constant.png", np.ones(mesh.n_nodes)) == plain


def test_wide_bodies_have_low_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    mesh = box_mesh("quad", (12, 2), lengths=(12.0, 1.0))
    solution = fa.LinearStatic(mesh, fa.Diffusion(), [fa.Fixed("left")], [fa.Source(1.0)]).solve()
    _, gradient = fa.value_and_gradient(solution, fa.Volume())
    words = Caption("mean temperature of the outlet behind the strip of the wall", "mW", "mm", field="heat")
    image = pixels(picture(tmp_path / "p.png", solution, gradient, words, field=solution.u[:, 0]))
    assert image.shape[0] / image.shape[1] < 0.4
    assert (image[:, -8:] == 1).all()  # nothing runs out of it


def test_picture_of_nothing_and_of_a_lost_folder(tmp_path: Path) -> None:
    """A gradient of zero has a picture too; a file in the place of a folder is reported."""
    pytest.importorskip("matplotlib")
    solution = solved("tetra")
    gradient = fa.Gradient(np.zeros_like(solution.points), solution.u, solution.u, 0)
    assert pixels(picture(tmp_path / "p.png", solution, gradient, view=View(30))).min() < 0.7
    (tmp_path / "file").write_text("")
    with pytest.raises(fa.FemadjError, match="cannot be written"):
        picture(tmp_path / "file" / "p.png", solution, gradient)


@pytest.mark.parametrize("cell", ["tetra10", "quad8+triangle6"])
def test_pictures_of_moved_bodies(cell: str, tmp_path: Path) -> None:
    """The half that moves is bright, and its picture does not depend on the size of the movement."""
    pytest.importorskip("matplotlib")
    mesh = box_mesh(cell)
    far = np.zeros_like(mesh.points)
    far[:, 1] = mesh.points[:, 0] ** 2
    images = [
        pixels(deformed_picture(tmp_path / f"{i}.png", mesh, mesh.points, f * far, "Moved", view=View(-60)))
        for i, f in enumerate((1.0,) if cell == "tetra10" else (1.0, 1e6))
    ]
    np.testing.assert_array_equal(images[0], images[-1])
    body = images[0][:, : int(0.85 * images[0].shape[1])]
    yellow = (body[..., 0] > body[..., 2] + 0.4).sum(axis=0)
    assert yellow.sum() > 1000
    assert np.flatnonzero(yellow).mean() > 0.55 * body.shape[1]
    with pytest.raises(fa.ResponseError, match="movement must be finite and of shape"):
        deformed_picture(tmp_path / "p.png", mesh, mesh.points, far[1:], "Moved")


def test_pictures_need_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solution = solved("tetra")
    _, gradient = fa.value_and_gradient(solution, fa.Volume())
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(fa.MissingExtraError, match=r"femadj\[plot\]"):
        picture(tmp_path / "p.png", solution, gradient)


def test_captions_say_units_and_signs() -> None:
    caption = Caption("compliance", "N mm", "mm", "L-bracket")
    assert caption.heading() == "L-bracket: sensitivity of the compliance to the shape"
    assert "1 mm² of the surface outward by 1 mm" in caption.explanation(3)
    assert "[N mm]" in caption.explanation(3)
    assert "1 mm of the boundary outward by 1 mm" in caption.explanation(2)
    assert "Lines: speed." in Caption(field="speed").explanation(2)
    assert caption.scale(3) == "N mm per mm outward, per mm²"
    assert Caption().scale(2) == "change per unit outward, per unit"
