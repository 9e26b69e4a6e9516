"""The filtered gradient, named beside the raw one: in result files and in pictures."""

from __future__ import annotations

from pathlib import Path

import meshio
import numpy as np
import pytest

import femadj as fa
from femadj.report import Caption, picture
from femadj.report.facets import boundary_facets, outward
from tests.meshes import box_mesh
from tests.reference_assembly import turned


def solved() -> tuple[fa.Solution, fa.Gradient, fa.HelmholtzFilter]:
    mesh = box_mesh("quad", origin=(3.0, -5.0))
    problem = fa.LinearStatic(mesh, fa.Elasticity(10.0, 0.3), [fa.Fixed("left")], [fa.BodyForce((0.0, -1.0))])
    solution = problem.solve()
    return solution, fa.value_and_gradient(solution, fa.Compliance())[1], fa.HelmholtzFilter(mesh, 0.2, fixed="left")


def test_result_files_have_both(tmp_path: Path) -> None:
    solution, gradient, smooth = solved()
    data = meshio.read(fa.write_results(tmp_path / "one.vtu", solution, gradient, metric=smooth)).point_data
    np.testing.assert_array_equal(data["dJ/dX"][:, :2], gradient.points)
    np.testing.assert_array_equal(data["dJ/dX riesz"][:, :2], smooth.riesz(gradient))
    assert (data["dJ/dX riesz"][:, :2] * gradient.points).sum() > 0  # the direction in which the response grows
    named = {"mass": gradient, "work": gradient}
    data = meshio.read(fa.write_results(tmp_path / "two.vtu", solution, named, metric=smooth)).point_data
    assert {"d(mass)/dX riesz", "d(work)/dX riesz"} <= set(data)
    assert "dJ/dX riesz" not in meshio.read(fa.write_results(tmp_path / "raw.vtu", solution, gradient)).point_data


def test_pictures_show_the_filtered_gradient(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    solution, gradient, smooth = solved()
    words = Caption("compliance", "N mm", "mm")
    raw = picture(tmp_path / "raw.png", solution, gradient, words).read_bytes()
    assert picture(tmp_path / "filtered.png", solution, gradient, words, metric=smooth).read_bytes() != raw


@pytest.mark.parametrize("cell", ["quad8+triangle6", "tetra", "hexahedron20", "wedge"])
def test_outward_components(cell: str) -> None:
    """Of the position in a box, from its centre."""
    mesh = turned(box_mesh(cell))
    facets = boundary_facets(mesh, mesh.points)
    for block, values in zip(facets, outward(facets, mesh.points, mesh.points - 0.5), strict=True):
        assert block.nodes.shape == values.shape
        np.testing.assert_allclose(values, 0.5, atol=1e-14)


def test_words_of_filtered_pictures() -> None:
    words = Caption("compliance", "N mm", "mm", filtered=True)
    assert words.heading() == "filtered sensitivity of the compliance to the shape"
    assert "as the filter measures" in words.explanation(2)
    assert words.scale(3) == "N mm per mm outward, per mm³"
    assert words.scale(2) == "N mm per mm outward, per mm²"
