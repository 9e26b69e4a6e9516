"""The slips that users make get a sentence that says what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pytest
import skfem
from skfem.helpers import dot, grad, jump

import femadj as fa
from femadj.errors import LISTED, choices
from tests.meshes import box_mesh

PLATE = box_mesh("quad", (3, 2))
TRIANGLES = box_mesh("triangle", (3, 2))
CELLS = PLATE.blocks[0].nodes
ELASTIC = fa.Elasticity(E=1.0, nu=0.3, density=1.0)
PROBLEM = fa.LinearStatic(PLATE, ELASTIC, [fa.Fixed("left")], [fa.Traction("right", (0.0, 1.0))])
SOLUTION = PROBLEM.solve()
SYSTEM = fa.LinearSystem(lambda t: np.diag([2.0 + t, 1.0]), lambda t: np.ones(2))
SKFEM = skfem.MeshTri().refined(1)
SMOOTH = fa.Compliance()


def laplace(u: Any, v: Any, w: Any) -> Any:
    return dot(grad(u), grad(v))


def scaled(u: Any, v: Any, w: Any) -> Any:
    return w.k * dot(grad(u), grad(v))


def static(physics: Any = ELASTIC, supports: Any = None, loads: Any = (), mesh: Any = PLATE, **options: Any) -> Any:
    return fa.LinearStatic(mesh, physics, [fa.Fixed("left")] if supports is None else supports, loads, **options)


def gradient(response: Any) -> Any:
    return fa.value_and_gradient(SOLUTION, response)


def dg(u1: Any, u2: Any, v1: Any, v2: Any, w: Any) -> Any:
    return (u1 - u2) * (v1 - v2) / w.h


def one_sided_jump(u: Any, v: Any, w: Any) -> Any:
    return dot(jump(w, w.n), grad(u)) * v


BROKEN = skfem.ElementTriDG(skfem.ElementTriP1())
NODAL = {"k": np.ones(PLATE.n_nodes)}
CELLWISE = {"k": np.ones(PLATE.n_cells)}

Slip = tuple[Callable[[], Any], type[fa.FemadjError], str]

SLIPS: dict[str, Slip] = {
    # what a solution, a problem, a response and a list of them is
    "no solve": (lambda: fa.value_and_gradient(PROBLEM, SMOOTH), fa.ProblemError, "value_and_gradient(problem.solve()"),
    "no solve, several": (lambda: fa.values_and_gradients(PROBLEM, [SMOOTH]), fa.ProblemError, "(problem.solve()"),
    "no solve, files": (lambda: fa.write_results("x.vtu", PROBLEM), fa.ProblemError, "write_results(problem.solve()"),
    "solution of a system": (
        lambda: fa.value_and_gradient(SYSTEM.solve(1.0), SMOOTH),
        fa.ProblemError,
        "system.value_and_gradient(solution",
    ),
    "swapped": (lambda: fa.value_and_gradient(SMOOTH, SOLUTION), fa.ProblemError, "not Compliance"),
    "verify a solution": (lambda: fa.verify(SOLUTION, SMOOTH), fa.ProblemError, "takes a problem"),
    "one response": (lambda: fa.values_and_gradients(SOLUTION, SMOOTH), fa.ResponseError, "[response]"),
    "named responses": (lambda: fa.values_and_gradients(SOLUTION, {"c": SMOOTH}), fa.ResponseError, "not dict"),
    "several responses": (lambda: gradient([SMOOTH]), fa.ResponseError, "values_and_gradients"),
    "class of responses": (lambda: gradient(fa.Compliance), fa.ResponseError, "Compliance(...)"),
    "bare functional": (lambda: gradient(lambda w: w.u[0]), fa.ResponseError, "Functional(function)"),
    "one function": (
        lambda: SYSTEM.values_and_gradients(1.0, lambda x, t: x[0]),
        fa.ResponseError,
        "must be a list, not function",
    ),
    "bare form": (lambda: static(laplace), fa.ProblemError, "Form(function)"),
    "class of physics": (lambda: static(fa.Elasticity), fa.ProblemError, "Elasticity(...)"),
    "gradient is a solution": (
        lambda: fa.write_results("x.vtu", SOLUTION, SOLUTION),
        fa.ResponseError,
        "gradient must be a mapping",
    ),
    # lists and mappings
    "node groups": (
        lambda: PLATE.with_groups(node_groups=[1, 2]),
        fa.InvalidMeshError,
        "node_groups must be a mapping",
    ),
    "facet groups": (
        lambda: fa.Mesh(PLATE.points, {"quad": CELLS}, facet_groups=[[0, 1]]),
        fa.InvalidMeshError,
        "facet_groups must be a mapping",
    ),
    "cells alone": (lambda: fa.Mesh(PLATE.points, CELLS), fa.InvalidMeshError, "{'type': array"),
    "list of cells": (lambda: fa.Mesh(PLATE.points, [CELLS]), fa.InvalidMeshError, "(type, array)"),
    "parameters": (lambda: PROBLEM.solve(parameters=[1.0]), fa.ParameterError, "mapping of names"),
    "parameter array": (lambda: PROBLEM.solve(None, np.ones(2)), fa.ParameterError, "not ndarray"),
    "form parameters": (lambda: fa.Form(scaled, parameters=[1.0]), fa.ParameterError, "mapping of names"),
    "stages": (lambda: fa.Chain([PROBLEM, PROBLEM]), fa.ProblemError, "mapping"),
    "support names": (lambda: static(supports=["left"]), fa.SupportError, "Fixed('name')"),
    "support mapping": (lambda: static(supports={"left": 0.0}), fa.SupportError, "[Fixed('name')]"),
    "class of loads": (lambda: static(loads=[fa.Traction]), fa.LoadError, "Traction('name', value)"),
    "point data": (lambda: fa.write_vtu("x.vtu", PLATE, point_data=[1.0]), fa.InvalidMeshError, "point_data must be a"),
    # groups by numbers, and by functions
    "dofs": (lambda: static(supports=[fa.Fixed(np.arange(3))]), fa.UnknownGroupError, "with_groups(node_groups="),
    "list of dofs": (lambda: static(supports=[fa.Fixed([0, 1])]), fa.UnknownGroupError, "by its name, not by list"),
    "one dof": (lambda: static(supports=[fa.Fixed(0)]), fa.UnknownGroupError, "not by int"),
    "function of x": (lambda: static(supports=[fa.Fixed(lambda x: x[0] < 1)]), fa.UnknownGroupError, "by function"),
    "load on nodes": (lambda: static(loads=[fa.TotalForce([1], (0, 1.0))]), fa.UnknownGroupError, "not by list"),
    "integral of nodes": (lambda: fa.Integral(laplace, [0, 1]), fa.FormError, "must be the name"),
    # meshes of others, and paths
    "scikit-fem": (lambda: static(mesh=SKFEM), fa.ProblemError, "Mesh.from_skfem(mesh)"),
    "meshio": (
        lambda: static(mesh=meshio.Mesh(SKFEM.p.T, [("triangle", SKFEM.t.T)])),
        fa.ProblemError,
        "mesh.cells_dict",
    ),
    "path": (lambda: static(mesh="plate.msh"), fa.ProblemError, "read_mesh(path)"),
    "mesh as scikit-fem's": (lambda: fa.Mesh.from_skfem(PLATE), fa.InvalidMeshError, "takes a mesh of scikit-fem"),
    "no path": (lambda: fa.read_mesh(PLATE), fa.MeshFileError, "must be a path, not Mesh"),
    "explain": (lambda: fa.Form(laplace).explain(SKFEM), fa.InvalidMeshError, "from_skfem"),
    # transposed
    "points": (lambda: PROBLEM.solve(PLATE.points.T), fa.InvalidMeshError, "points.T"),
    "points of scikit-fem": (lambda: fa.Mesh(SKFEM.p, {"triangle": SKFEM.t.T}), fa.InvalidMeshError, "points.T"),
    "cells of scikit-fem": (lambda: fa.Mesh(SKFEM.p.T, {"triangle": SKFEM.t}), fa.InvalidMeshError, "transposed"),
    # fields as plain arrays
    "nodal": (lambda: static(fa.Form(scaled, parameters=NODAL)), fa.FormError, "NodalField(k)"),
    "cellwise": (lambda: static(fa.Form(scaled, parameters=CELLWISE)), fa.FormError, "CellField(k)"),
    "nodal, functional": (
        lambda: gradient(fa.Functional(lambda w: w.k * w.u[0], parameters=NODAL)),
        fa.FormError,
        "NodalField(k)",
    ),
    "nodal, value": (
        lambda: fa.Functional(lambda w: w.k * w.u[0], parameters=NODAL).value(SOLUTION),
        fa.FormError,
        "NodalField(k)",
    ),
    "material": (lambda: fa.Elasticity(E=np.ones(6), nu=0.3), fa.MaterialError, "CellField(values)"),
    "conductivity": (lambda: fa.Diffusion(np.ones(12)), fa.MaterialError, "CellField(values)"),
    "nodal material": (lambda: fa.Elasticity(fa.NodalField(np.ones(12)), 0.3), fa.MaterialError, "CellField(values)"),
    # names that differ in case or by a letter
    "group, case": (lambda: static(supports=[fa.Fixed("Left")]), fa.UnknownGroupError, "did you mean 'left'?"),
    "group, letter": (lambda: static(supports=[fa.Fixed("lefft")]), fa.UnknownGroupError, "did you mean 'left'?"),
    "facets": (lambda: static(loads=[fa.Pressure("rihgt", 1.0)]), fa.UnknownGroupError, "did you mean 'right'?"),
    "facets by cells": (lambda: static(loads=[fa.Pressure("low", 1.0)]), fa.UnknownGroupError, "'low' is a cell group"),
    "cells": (lambda: gradient(fa.Volume("hihg")), fa.UnknownGroupError, "did you mean 'high'?"),
    "parameter": (lambda: PROBLEM.solve(parameters={"e": 1.0}), fa.UnknownParameterError, "did you mean 'E'?"),
    "slope": (lambda: gradient(SMOOTH)[1].parameters["Density"], fa.UnknownParameterError, "did you mean 'density'?"),
    "value": (lambda: SOLUTION.parameters.value("n"), fa.UnknownParameterError, "did you mean 'nu'?"),
    "name in a form": (lambda: static(fa.Form(scaled, parameters={"K": 1.0})), fa.FormError, "did you mean 'K'?"),
    "state in a functional": (lambda: gradient(fa.Functional(lambda w: w.U[0])), fa.FormError, "did you mean 'u'?"),
    "part": (lambda: SOLUTION.part("U"), fa.ProblemError, "did you mean 'u'?"),
    "direction": (lambda: gradient(fa.Displacement("right", "X")), fa.ResponseError, "did you mean 'x'?"),
    "reduce": (lambda: gradient(fa.Displacement("right", "x", "Mean")), fa.ResponseError, "did you mean 'mean'?"),
    "solver": (lambda: static(solver="SuperLu"), fa.SolverError, "did you mean 'superlu'?"),
    "plane": (lambda: fa.Elasticity(1.0, 0.3, plane="Stress"), fa.MaterialError, "did you mean 'stress'?"),
    "over": (lambda: fa.Integral(laplace, over="facet"), fa.FormError, "did you mean 'facets'?"),
    "mode": (
        lambda: SYSTEM.value_and_gradient(1.0, lambda x, t: x[0], mode="Adjoint"),
        fa.LinearSystemError,
        "did you mean 'adjoint'?",
    ),
    "cell": (lambda: fa.Mesh(PLATE.points, {"Quad": CELLS}), fa.UnsupportedCellError, "did you mean 'quad'?"),
    "short cell": (
        lambda: fa.Mesh(PLATE.points, {"hex": CELLS}),
        fa.UnsupportedCellError,
        "did you mean 'hexahedron'?",
    ),
    # components
    "from one": (lambda: static(supports=[fa.Fixed("left", 2)]), fa.SupportError, "numbers count from 0, which is 'x'"),
    "reaction": (lambda: gradient(fa.Reaction("left", 2)), fa.ResponseError, "numbers count from 0"),
    "case": (lambda: static(supports=[fa.Fixed("left", "X")]), fa.SupportError, "did you mean 'x'?"),
    "ux": (
        lambda: static(supports=[fa.Fixed("left", "ux")]),
        fa.SupportError,
        "no component 'u' of 'ux'; there are: 'x', 'y' (did you mean 'x'?)",
    ),
    "value as component": (lambda: static(supports=[fa.Fixed("left", 0.0)]), fa.SupportError, "value=..."),
    # degrees of quadrature
    "order": (
        lambda: static(fa.Form(fa.Integral(laplace, order=20)), mesh=TRIANGLES),
        fa.FormError,
        "form 'laplace': there is no quadrature rule of degree 20 for cells of shape 'triangle': the highest is 19",
    ),
    "order of a functional": (
        lambda: fa.Functional(fa.Integral(lambda w: w.u[0], order=10**9)).value(SOLUTION),
        fa.FormError,
        "the highest is 99",
    ),
    "order of a problem": (lambda: static(quadrature_order=20, mesh=TRIANGLES), fa.ProblemError, "the highest is 19"),
    "order of tetrahedra": (
        lambda: static(quadrature_order=9, mesh=box_mesh("tetra", (1, 1, 1))),
        fa.ProblemError,
        "the highest is 8",
    ),
    # ways of other libraries
    "two sides": (
        lambda: static(fa.Form([laplace, fa.Integral(dg, over="interior facets")], element=BROKEN), (), mesh=TRIANGLES),
        fa.FormError,
        "jump(w, u, v)",
    ),
    "one side": (
        lambda: static(
            fa.Form([laplace, fa.Integral(one_sided_jump, over="facets")], element=BROKEN), (), mesh=TRIANGLES
        ),
        fa.FormError,
        "over='interior facets'",
    ),
    "linear as bilinear": (lambda: static(fa.Form(lambda v, w: v)), fa.FormError, "f(u, v, w)"),
    "functional of u": (lambda: gradient(fa.Functional(lambda u, w: u[0])), fa.FormError, "a functional as f(w)"),
    "single precision": (
        lambda: gradient(fa.Functional(lambda w: np.asarray(w.u[0] ** 2).astype(np.complex64))),
        fa.ComplexStepError,
        "jax_enable_x64",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_slips(slip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, error, words = SLIPS[slip]
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value), caught.value


def test_a_name_that_is_probably_meant() -> None:
    assert choices("Top", ["top", "bottom"]) == "'top', 'bottom' (did you mean 'top'?)"
    assert choices("wing", ["top", "bottom"]) == "'top', 'bottom'"
    assert choices("x", []) == "none at all"
    many = choices("n77", [f"n{i}" for i in range(100)])
    assert many.count(",") == LISTED
    assert many.endswith("(100 in all) (did you mean 'n77'?)")


def test_geometry_needs_no_field_at_the_nodes() -> None:
    """Volumes of problems whose unknown is of another element than the mesh; of the unit square, and by its nodes."""
    mesh = fa.Mesh.from_skfem(skfem.MeshTri().refined(2)).with_groups(
        node_groups={"all": lambda x: x[0] < 1e-9}, cell_groups={"half": lambda x: x[0] < 0.5}
    )
    for element in (skfem.ElementTriP2(), skfem.ElementTriDG(skfem.ElementTriP1())):
        mass = fa.Form(lambda u, v, w: dot(grad(u), grad(v)) + u * v, lambda v, w: v, element=element)
        solution = fa.LinearStatic(mesh, mass).solve()
        value, by_nodes = fa.value_and_gradient(solution, fa.Volume())
        assert value == pytest.approx(1.0, rel=1e-14)
        assert (by_nodes.points * mesh.points).sum() == pytest.approx(2.0, rel=1e-13)  # homogeneous of degree two
        assert abs(by_nodes.points.sum(axis=0)).max() < 1e-14  # a shift changes nothing
        assert fa.value_and_gradient(solution, fa.Volume("half"))[0] == pytest.approx(0.5, rel=1e-14)
        assert fa.value_and_gradient(solution, fa.Functional(lambda w: 1 + 0 * w.x[0]))[0] == pytest.approx(1.0)
