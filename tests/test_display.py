"""What objects show of themselves, and which of them can be pickled."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skfem
from skfem.helpers import ddot, div, grad

import femadj as fa
from femadj.base.display import LINES, WIDTH, measured, one_line, shown
from tests.meshes import box_mesh

PLATE = box_mesh("quad", (3, 2)).with_groups(node_groups={f"bolt {i}": [i] for i in range(12)})
SUPPORTS = [fa.Fixed("left"), fa.Fixed("bottom", 1), fa.Fixed("right", ("x",), value=0.25)]


def elastic(**options: Any) -> fa.LinearStatic:
    material = fa.Elasticity(E=fa.CellField(np.arange(1.0, 7.0)), nu=0.3, density=2.0)
    return fa.LinearStatic(PLATE, material, SUPPORTS, [fa.Traction("top", (0.0, 1.0))] * 20, **options)


def chain() -> fa.Chain:
    heat = fa.LinearStatic(PLATE, fa.Diffusion(), [fa.Fixed("left")], [fa.Source(1.0)])
    body = fa.LinearStatic(PLATE, fa.Elasticity(1.0, 0.3), [fa.Fixed("left")], [fa.ThermalStrain(1e-3, name="heat")])
    return fa.Chain({"heat": heat, "body": body})


def stokes() -> fa.LinearStatic:
    mesh = fa.Mesh.from_skfem(skfem.MeshTri().refined(2)).with_groups(facet_groups={"wall": lambda x: x[0] < 1e-9})
    element = skfem.ElementVector(skfem.ElementTriP2()) * skfem.ElementTriP1()

    def flow(u: Any, p: Any, v: Any, q: Any, w: Any) -> Any:
        return ddot(grad(u), grad(v)) - p * div(v) - q * div(u) - 1e-2 * p * q

    form = fa.Form(flow, lambda v, q, w: v[0], element=element)
    return fa.LinearStatic(mesh, form, [fa.Fixed("wall", ("u.x", "u.y"))])


SYSTEM = fa.LinearSystem(lambda t: np.diag([2.0 + t, 1.0]), lambda t: np.array([1.0, 5.0]))

SHOWN: dict[str, Callable[[], Any]] = {
    "mesh": lambda: PLATE,
    "problem": elastic,
    "solution": lambda: elastic().solve(),
    "factor": lambda: elastic().solve().factor,
    "gradient": lambda: fa.value_and_gradient(elastic().solve(), fa.Compliance())[1],
    "parameters": lambda: elastic().parameters,
    "chain": chain,
    "chain solution": lambda: chain().solve(),
    "chain gradient": lambda: fa.value_and_gradient(chain().solve(), fa.FieldNorm())[1],
    "system": lambda: SYSTEM,
    "system solution": lambda: SYSTEM.solve(1.0),
    "system gradient": lambda: SYSTEM.value_and_gradient(1.0, lambda x, t: x[0])[1],
    "flow": stokes,
    "flow solution": lambda: stokes().solve(),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_few_lines(name: str) -> None:
    lines = repr(SHOWN[name]()).splitlines()
    assert 1 <= len(lines) <= LINES
    assert all(len(line) <= 4 * WIDTH for line in lines)
    assert "array(" not in lines[0]


def test_what_a_problem_tells() -> None:
    problem = elastic()
    text = repr(problem)
    fixed = len({*PLATE.nodes_of("left"), *PLATE.nodes_of("right")}) + len(PLATE.nodes_of("left"))
    fixed += len(set(PLATE.nodes_of("bottom")) - set(PLATE.nodes_of("left")))
    assert f"{2 * PLATE.n_nodes} unknowns, {fixed} prescribed" in text
    assert "factorisations: 0" in text
    problem.solve()
    assert "factorisations: 1" in repr(problem)
    assert "supports: 'left' x, y; 'bottom' y; 'right' x = 0.25" in text  # which component 1 is
    assert "E, nu, density, thickness" in text
    assert "'wall' u.x, u.y" in repr(stokes())


def test_what_a_solution_and_a_gradient_tell() -> None:
    solution = elastic().solve()
    row, axis = np.unravel_index(np.abs(solution.u).argmax(), solution.u.shape)
    line = next(line for line in repr(solution).splitlines() if line.startswith("  u:"))
    assert f"norm {np.linalg.norm(solution.u):.6g}" in line
    assert f"largest {solution.u[row, axis]:.6g} at node {PLATE.node_ids[row]} at (" in line
    assert line.endswith(f"component {'xy'[axis]}")
    gradient = fa.value_and_gradient(solution, fa.Displacement("top", "y"))[1]
    row, axis = np.unravel_index(np.abs(gradient.points).argmax(), gradient.points.shape)
    assert f"largest {gradient.points[row, axis]:.6g} at node row {row}, {'xy'[axis]}" in repr(gradient)
    assert "adjoint solves: 1" in repr(gradient)
    assert gradient.parameters._known == {}  # nothing is computed to be shown


def test_measures() -> None:
    assert measured(np.array([[3.0, -4.0]])) == "norm 5, largest -4 at row 0, column 1"
    assert measured(np.array(-2.0)) == "norm 2, largest -2 at row 0"
    assert measured(np.zeros((4, 2))) == "zero, shape (4, 2)"
    assert measured(np.zeros(0)) == "empty"
    assert one_line("a\n  b", 20) == "a b"
    assert len(one_line("x" * 500)) == WIDTH
    assert len(shown("head", **{f"n{i}": "text" for i in range(50)}).splitlines()) == LINES


def test_tables_for_notebooks(tmp_path: Path) -> None:
    problem = fa.LinearStatic(box_mesh("triangle", (2, 1)), fa.Diffusion(), [fa.Fixed("left")], [fa.Source(1.0)])
    outcome = fa.verify(problem, fa.Compliance(), components=1, show=False)
    html = outcome._repr_html_()
    assert html.startswith("<table><caption>Compliance() = ")
    rows = 1 + 2 * len(outcome.taylor) + len(outcome.components) + len(outcome.parameters)
    assert html.count("<tr>") == html.count("</tr>") == rows + 1
    assert len(re.findall("<td>", html)) == 4 * rows
    fa.write_vtu(tmp_path / "a<b.vtu", PLATE)
    _, report = fa.read_mesh_with_report(tmp_path / "a<b.vtu")
    assert "a&lt;b.vtu" in report._repr_html_()
    assert "<td>quad</td><td>6</td>" in report._repr_html_()


# ---------------------------------------------------------------------- pickling
def again(value: Any) -> tuple[Any, Any]:
    return pickle.loads(pickle.dumps(value)), copy.deepcopy(value)


@pytest.mark.parametrize("cell", ["triangle6", "hexahedron+wedge"])
def test_meshes(cell: str) -> None:
    mesh = box_mesh(cell, distortion=0.1)
    shuffled = mesh.with_groups(node_groups={"path": [3, 1, 2]})
    for found in again(shuffled):
        assert repr(found) == repr(shuffled)
        arrays = lambda m: [m.points, m.node_ids, m.orientation, *(b.nodes for b in m.blocks), *m.node_groups.values()]  # noqa: E731
        facets = lambda m: [a for f in m.facet_groups.values() for a in (f.cells, f.local, f.interior)]  # noqa: E731
        for a, b in zip(arrays(found) + facets(found), arrays(shuffled) + facets(shuffled), strict=True):
            np.testing.assert_array_equal(a, b)
            assert not a.flags.writeable
        assert found.node_order["path"].tolist() == shuffled.node_order["path"].tolist()
        with pytest.raises(TypeError):
            found.cell_groups["new"] = np.arange(2)
        assert found.with_points(mesh.points).volume() == mesh.volume()


def test_gradients() -> None:
    """Derivatives by parameters, which are computed on demand, are computed before they go."""
    gradient = fa.value_and_gradient(elastic().solve(), fa.Compliance())[1]
    through = fa.value_and_gradient(chain().solve(), fa.FieldNorm())[1]
    for before in (gradient, through):
        for found in again(before):
            np.testing.assert_array_equal(found.points, before.points)
            assert list(found.parameters) == list(before.parameters)
            for name in before.parameters:
                np.testing.assert_array_equal(found.parameters[name], before.parameters[name])
            with pytest.raises(fa.UnknownParameterError, match="did you mean"):
                found.parameters[next(iter(before.parameters)).swapcase()]
    for found in again(through):
        np.testing.assert_array_equal(found.stages["heat"].loads, through.stages["heat"].loads)
    of_system = SYSTEM.value_and_gradient(1.0, lambda x, t: x[0])[1]
    for found in again(of_system):
        assert found.theta == of_system.theta
        np.testing.assert_array_equal(found.matrix.toarray(), of_system.matrix.toarray())


def test_other_results(tmp_path: Path) -> None:
    solution = elastic().solve()
    partials = fa.Compliance().partials(solution)
    evaluation = fa.Evaluation(2.0, parameters={"a": np.ones(3)})
    for before in (partials, evaluation):
        for found in again(before):
            assert found.value == before.value
            assert {n: a.tolist() for n, a in found.parameters.items()} == {
                n: a.tolist() for n, a in before.parameters.items()
            }
    for found in again(solution.parameters):
        assert found.value("E").tolist() == solution.parameters.value("E").tolist()
        assert not found.value("E").flags.writeable
    design = fa.Design(np.ones((2, 2)))
    for found in again(design):
        assert found.points.tolist() == design.points.tolist()
        assert dict(found.parameters) == {}
    fa.write_vtu(tmp_path / "plate.vtu", PLATE)
    _, report = fa.read_mesh_with_report(tmp_path / "plate.vtu")
    for found in again(report):
        assert str(found) == str(report)
    problem = fa.LinearStatic(box_mesh("triangle", (2, 1)), fa.Diffusion(), [fa.Fixed("left")], [fa.Source(1.0)])
    outcome = fa.verify(problem, fa.Compliance(), components=1, show=False)
    for found in again(outcome):
        assert found == outcome


@pytest.mark.parametrize("name", ["factor", "system", "system solution"])
def test_what_holds_a_solver_says_what_to_pickle_instead(name: str) -> None:
    holder = SHOWN[name]()
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(fa.FemadjError, match=f"{type(holder).__name__} cannot be pickled.*Pickle the mesh"):
            attempt(holder)
