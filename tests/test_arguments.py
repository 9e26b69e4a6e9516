"""Whatever is handed to the public names: what comes out is a FemadjError with a sentence."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skfem

import femadj as fa
from femadj.errors import KernelCacheWarning
from femadj.results import boundary_density
from tests.meshes import box_mesh

ALONE, TOGETHER = 20, 5
"""Wrong values tried for each argument, and calls with several; all that there are (68 and 300) pass as well."""

PLATE = box_mesh("quad", (3, 2))
ELASTIC = fa.Elasticity(E=1.0, nu=0.3, density=1.0)
PROBLEM = fa.LinearStatic(PLATE, ELASTIC, [fa.Fixed("left")], [fa.Traction("right", (0.0, 1.0))])
SOLUTION = PROBLEM.solve()
GRADIENT = fa.value_and_gradient(SOLUTION, fa.Compliance())[1]
CHAIN = fa.Chain(
    {
        "heat": fa.LinearStatic(PLATE, fa.Diffusion(), [fa.Fixed("left")], [fa.Source(1.0)]),
        "body": fa.LinearStatic(PLATE, ELASTIC, [fa.Fixed("left")], [fa.ThermalStrain(1e-3, name="heat")]),
    }
)
CHAINED = CHAIN.solve()
MODES = fa.Modal(PLATE, ELASTIC, [fa.Fixed("left")], count=2).solve()
BUCKLED = fa.Buckling(PROBLEM, 2).solve()
SYSTEM = fa.LinearSystem(lambda t: np.diag([2.0 + t, 1.0]), lambda t: np.ones(2))
SOLVED = SYSTEM.solve(1.0)

ODE = fa.odeint(lambda t, y, p: -np.sin(p) * y, [1.0, 2.0], [0.0, 0.5, 1.0], 0.7, rtol=1e-3)
IMPLICIT = fa.ImplicitSystem(lambda x, t: (2 + np.sin(t)) * x - 1, lambda t: np.full(2, 1 / (2 + np.sin(t))))


class Odd:
    """No array, no number, no function, no mesh."""


WRONG: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2, 10**12, -3.5, np.nan, np.inf, 1j, "", "left", "x", "nowhere", b"left", (), [], {}, set(),
    object(), Odd(), Odd, int, lambda *_: 1.0, lambda *_: None, lambda *_: "x", np.zeros(0), np.ones(3),
    np.ones((12, 2)), np.ones((2, 12)), np.full((12, 2), np.nan), np.array(["a"]), np.array([None]),
    np.ones((2, 2), complex), np.ones((3, 3, 3)), np.ones(12, dtype=bool), np.arange(12), [1, [2, 3]],
    ["left", "right"], {"left": 1.0}, {1: 2}, {"E": None}, {"E": [1, 2]}, {"a": np.nan}, range(3), iter(()),
    np.datetime64("2020-01-01"), slice(None), Ellipsis, PLATE, PROBLEM, SOLUTION, GRADIENT, ELASTIC, SYSTEM, SOLVED,
    fa.Compliance(), fa.Fixed("left"), fa.Traction("right", (0, 1.0)), fa.NodalField(), fa.CellField(np.ones(6)),
    fa.NodalField("a"), fa.CellField([None]), skfem.MeshTri(), skfem.ElementTriP1(), fa.Form, ValueError("x"),
)  # fmt: skip


def solve(physics: Any = ELASTIC, loads: Any = (), extra: Any = (), **options: Any) -> Any:
    return fa.LinearStatic(PLATE, physics, [fa.Fixed("left"), *extra], loads, **options).solve()


def loaded(load: Callable[..., Any], physics: Any = ELASTIC) -> Callable[..., Any]:
    return lambda *a, **k: solve(physics, [load(*a, **k)])


def valued(response: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *a, **k: fa.value_and_gradient(SOLUTION, response(*a, **k))


def of_modes(response: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *a, **k: fa.value_and_gradient(MODES, response(*a, **k))


def made_of(physics: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *a, **k: solve(physics(*a, **k))


def with_field(field: Callable[..., Any]) -> Callable[..., Any]:
    form = lambda u, v, w: w.k * u * v  # noqa: E731
    return lambda *a: solve(fa.Form(form, parameters={"k": field(*a)}))


def first(x: Any, t: Any) -> Any:
    return x[0]


def product(u: Any, v: Any, w: Any) -> Any:
    return u * v


Entry = tuple[Callable[..., Any], tuple[Any, ...], str]

ENTRIES: dict[str, Entry] = {  # what is called, right arguments, and further ones by name
    "Mesh": (
        fa.Mesh,
        (PLATE.points, {"quad": PLATE.blocks[0].nodes}),
        "node_groups facet_groups cell_groups node_ids cell_ids",
    ),
    "from_skfem": (fa.Mesh.from_skfem, (skfem.MeshTri(),), ""),
    "with_groups": (PLATE.with_groups, (), "node_groups facet_groups cell_groups"),
    "with_points": (PLATE.with_points, (PLATE.points,), ""),
    "nodes_of": (PLATE.nodes_of, ("left",), ""),
    "facets": (PLATE.facets, ("left",), ""),
    "cells_of": (PLATE.cells_of, ("low",), ""),
    "quality": (PLATE.quality, (PLATE.points,), ""),
    "cell_volumes": (PLATE.cell_volumes, (PLATE.points,), ""),
    "read_mesh": (fa.read_mesh, ("x.msh",), ""),
    "write_vtu": (fa.write_vtu, ("x.vtu", PLATE), "points point_data cell_data"),
    "write_results": (fa.write_results, ("x.vtu", SOLUTION, GRADIENT), "point_data cell_data"),
    "boundary_density": (boundary_density, (PLATE, GRADIENT.points), "points"),
    "Elasticity": (made_of(fa.Elasticity), (1.0, 0.3), "density stiffness plane thickness"),
    "Diffusion": (made_of(fa.Diffusion), (1.0,), "thickness density"),
    "AdvectionDiffusion": (made_of(fa.AdvectionDiffusion), (1.0, (1.0, 0.0)), "supg source thickness density"),
    "Form": (made_of(fa.Form), (product, lambda v, w: v), "element parameters definite symmetric names"),
    "Integral": (lambda *a, **k: solve(fa.Form(fa.Integral(*a, **k))), (product,), "group order over name sides"),
    "NodalField": (with_field(fa.NodalField), (np.ones(12), 1), ""),
    "CellField": (with_field(fa.CellField), (np.ones(6), 1), ""),
    "CellField of E": (lambda *a: solve(fa.Elasticity(fa.CellField(*a), 0.3)), (np.ones(6), 1), ""),
    "Fixed": (lambda *a, **k: solve(extra=[fa.Fixed(*a, **k)]), ("right", "x"), "value overrides"),
    "BodyForce": (loaded(fa.BodyForce), ((0, 1.0), "low"), ""),
    "Gravity": (loaded(fa.Gravity), ((0, 1.0), "low"), ""),
    "Traction": (loaded(fa.Traction), ("right", (0, 1.0)), ""),
    "Pressure": (loaded(fa.Pressure), ("right", 1.0), ""),
    "PointLoad": (loaded(fa.PointLoad), ("right", (0, 1.0)), ""),
    "TotalForce": (loaded(fa.TotalForce), ("right", (0, 1.0)), ""),
    "Source": (loaded(fa.Source, fa.Diffusion()), (1.0, "low"), ""),
    "Flux": (loaded(fa.Flux, fa.Diffusion()), ("right", 1.0), ""),
    "ThermalStrain": (loaded(fa.ThermalStrain), (1e-5, 1.0), "reference name"),
    "LinearStatic": (
        lambda *a, **k: fa.LinearStatic(*a, **k).solve(),
        (PLATE, ELASTIC, [fa.Fixed("left")], [fa.Traction("right", (0, 1.0))]),
        "solver threads quadrature_order",
    ),
    "Modal": (
        lambda *a, **k: fa.Modal(PLATE, *a, **{"count": 1, **k}).solve(),
        (ELASTIC, [fa.Fixed("left")]),
        "count shift solver threads quadrature_order",
    ),
    "Modal of a mesh": (lambda mesh: fa.Modal(mesh, ELASTIC, [fa.Fixed("left")], count=1), (PLATE,), ""),
    "modal.solve": (MODES.problem.solve, (PLATE.points, {"E": 2.0}), ""),
    "modal.pullback": (MODES.pullback, ([fa.ModePartials(1.0)],), ""),
    "modal.pushforward": (MODES.pushforward, ([fa.Design(np.ones((12, 2)))],), ""),
    "modal.mode": (MODES.mode, (1,), ""),
    "modal.overlap": (MODES.overlap, (MODES,), ""),
    "ModePartials": (
        lambda *a, **k: MODES.pullback([fa.ModePartials(*a, **k)])[0].parameters["E"],
        (1.0,),
        "state points parameters adjoint values vectors",
    ),
    "Buckling": (lambda *a: fa.Buckling(*a).solve(), (PROBLEM, 1), ""),
    "buckling.solve": (BUCKLED.problem.solve, (PLATE.points, {"E": 2.0}), ""),
    "buckling.pullback": (BUCKLED.pullback, ([fa.ModePartials(1.0)],), ""),
    "buckling.pushforward": (BUCKLED.pushforward, ([fa.Design(np.ones((12, 2)))],), ""),
    "Eigenvalue": (of_modes(fa.Eigenvalue), (1,), ""),
    "Frequency": (of_modes(fa.Frequency), (1,), ""),
    "MeanEigenvalue": (of_modes(fa.MeanEigenvalue), ([0, 1],), ""),
    "KSEigenvalue": (of_modes(fa.KSEigenvalue), ([0, 1], 0.1), ""),
    "ModeShape": (of_modes(fa.ModeShape), (1, fa.FieldNorm()), ""),
    "solve": (PROBLEM.solve, (PLATE.points, {"E": 2.0}), ""),
    "rebuilt": (PROBLEM.rebuilt, (PLATE.points,), ""),
    "Chain": (lambda *a: fa.Chain(*a).solve(), ({"a": PROBLEM, "b": PROBLEM},), ""),
    "chain.solve": (CHAIN.solve, (PLATE.points, {"body.E": 2.0}), ""),
    "chain.pullback": (CHAINED.pullback, ([fa.Partials(1.0)],), ""),
    "chain stage": (CHAINED.__getitem__, ("heat",), ""),
    "chain.value_and_gradient": (fa.value_and_gradient, (CHAINED, fa.OnStage("heat", fa.Compliance())), ""),
    "value_and_gradient": (fa.value_and_gradient, (SOLUTION, fa.Compliance()), ""),
    "values_and_gradients": (fa.values_and_gradients, (SOLUTION, [fa.Compliance()]), ""),
    "verify": (fa.verify, (SOLUTION, fa.Compliance()), "points"),
    "solve_error": (fa.solve_error, (SOLUTION, fa.Compliance()), ""),
    "warm_up": (fa.warm_up, (PROBLEM, [fa.Compliance()]), "parameters solve progress"),
    "part": (SOLUTION.part, ("u",), ""),
    "nodal": (SOLUTION.nodal, ("u",), ""),
    "solve_adjoint": (SOLUTION.solve_adjoint, (np.ones((12, 2)),), ""),
    "pullback": (SOLUTION.pullback, ([fa.Partials(1.0)],), ""),
    "pushforward": (SOLUTION.pushforward, ([fa.Design(np.ones((12, 2)))],), ""),
    "Design": (lambda *a: SOLUTION.pushforward([fa.Design(*a)]), (np.ones((12, 2)), {"E": np.array(1.0)}), ""),
    "Partials": (
        lambda *a, **k: SOLUTION.pullback([fa.Partials(*a, **k)])[0].parameters["E"],
        (1.0,),
        "state points parameters internal_weight external_weight adjoint stage name",
    ),
    "Evaluation": (
        lambda *a, **k: SOLUTION.pullback([fa.Evaluation(*a, **k)])[0].parameters["E"],
        (1.0,),
        "state points parameters load_weight stiffness_weight",
    ),
    "Displacement": (valued(fa.Displacement), ("right", "x", "mean"), ""),
    "Volume": (valued(fa.Volume), ("low",), ""),
    "Mass": (valued(fa.Mass), ("low",), ""),
    "FieldNorm": (valued(fa.FieldNorm), ("low",), ""),
    "Reaction": (valued(fa.Reaction), ("left", "x", 1.0), ""),
    "OnStage": (valued(fa.OnStage), ("a", fa.Compliance()), ""),
    "Functional": (valued(fa.Functional), (lambda w: w.u[0] ** 2,), "power mean parameters differentiation"),
    "LinearSystem": (
        lambda *a, **k: fa.LinearSystem(*a, **k).value_and_gradient(1.0, first),
        (lambda t: np.diag([2.0 + t, 1.0]), lambda t: np.ones(2)),
        "contraction derivatives kind solver threads check progress",
    ),
    "system.solve": (SYSTEM.solve, (1.0,), ""),
    "system.value_and_gradient": (SYSTEM.value_and_gradient, (1.0, first), "mode"),
    "system.values_and_gradients": (SYSTEM.values_and_gradients, (1.0, [first]), ""),
    "ResponseEvaluation": (
        lambda *a: SYSTEM.value_and_gradient(1.0, lambda x, t: fa.ResponseEvaluation(*a)),
        (1.0, None, None),
        "",
    ),
    "solution.solve": (SOLVED.solve, (np.ones(2),), ""),
    "solution.solve_adjoint": (SOLVED.solve_adjoint, (np.ones(2),), ""),
    "solution.pullback": (SOLVED.pullback, (np.ones(2),), ""),
    "solution.pushforward": (SOLVED.pushforward, (1.0,), ""),
    "solution.tangent": (SOLVED.tangent, (1.0,), ""),
    "solution.taylor": (SOLVED.taylor, (1.0, 2), ""),
    "odeint": (
        lambda *a, **k: fa.odeint(*a, **k).pullback(np.ones((3, 2))),
        (lambda t, y, p: -np.sin(p) * y, [1.0, 2.0], [0.0, 0.5, 1.0], 0.7),
        "rtol atol adjoint vjp vectorised max_steps check",
    ),
    "ode.pullback": (ODE.pullback, (np.ones((3, 2)),), ""),
    "ode.pushforward": (ODE.pushforward, (), "theta y0 times"),
    "ode.replayed": (ODE.replayed, (), "theta y0 times"),
    "ode.interpolated": (ODE.interpolated, ([0.2, 0.3],), ""),
    "ode.value_and_gradient": (ODE.value_and_gradient, (lambda y, p: y[1, 0],), ""),
    "ImplicitSystem": (
        lambda *a, **k: fa.ImplicitSystem(*a, **k).value_and_gradient(1.0, first),
        (lambda x, t: (2 + np.sin(t)) * x - 1, lambda t: np.full(2, 1 / (2 + np.sin(t)))),
        "jacobian contraction kind tolerance solver threads check progress",
    ),
    "implicit.solve": (IMPLICIT.solve, (1.0,), ""),
    "implicit.at": (IMPLICIT.at, (1.0, np.full(2, 1 / (2 + np.sin(1.0)))), ""),
    "implicit.values_and_gradients": (IMPLICIT.values_and_gradients, (1.0, [first]), ""),
    "implicit.pullback": (IMPLICIT.solve(1.0).pullback, (np.ones(2),), ""),
    "implicit.pushforward": (IMPLICIT.solve(1.0).pushforward, (1.0,), ""),
    "get_solver": (fa.get_solver, ("auto",), "threads"),
}


def calls(entry: str) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Every argument wrong in many ways, one at a time, and some of them together; the same in every run."""
    _, right, names = ENTRIES[entry]
    chance = random.Random(entry)
    for place in range(len(right)):
        for wrong in chance.sample(WRONG, ALONE):
            yield f"argument {place} = {type(wrong).__name__}", (*right[:place], wrong, *right[place + 1 :]), {}
    for name in names.split():
        for wrong in chance.sample(WRONG, ALONE):
            if not (name == "progress" and callable(wrong)):  # functions may do as they like
                yield f"{name} = {type(wrong).__name__}", right, {name: wrong}
    for _ in range(TOGETHER):
        arguments = tuple(chance.choice((each, chance.choice(WRONG))) for each in right)
        named = {name: chance.choice(WRONG) for name in names.split() if name != "progress" and chance.random() < 0.3}
        yield f"{arguments}, {named}", arguments, named


@pytest.mark.parametrize("entry", ENTRIES)
def test_wrong_arguments(entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    function, failed = ENTRIES[entry][0], []
    for what, arguments, named in calls(entry):
        try:
            function(*arguments, **named)
        except fa.FemadjError as error:
            if len(re.findall(r"\w+", str(error))) < 4:
                failed.append(f"{what}: no sentence: {error}")
        except KernelCacheWarning:
            raise
        except Exception as error:
            failed.append(f"{what}: {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)


def test_right_arguments_are_right() -> None:
    """Or the test above would say nothing of the others."""
    for entry, (function, right, _) in ENTRIES.items():
        if entry not in ("read_mesh", "write_vtu", "write_results", "Chain", "verify", "OnStage", "Design"):
            function(*right)


def test_a_load_without_a_group_is_not_one_on_the_whole_boundary() -> None:
    for load, physics in ((fa.Traction(None, (0, 1.0)), ELASTIC), (fa.Flux(None, 1.0), fa.Diffusion())):
        with pytest.raises(fa.UnknownGroupError, match="by its name, not by NoneType"):
            solve(physics, [load])


def test_wrong_derivatives_by_parameters_are_found_when_they_are_read() -> None:
    for wrong in (np.ones(3), np.array(np.nan), "a", None):
        (found,) = SOLUTION.pullback([fa.Partials(1.0, parameters={"E": wrong, "own": wrong})])
        with pytest.raises(fa.ResponseError, match="derivative by 'E'"):
            found.parameters["E"]
    (found,) = SOLUTION.pullback([fa.Partials(1.0, parameters={"E": np.array(2.0), "own": np.ones(3)})])
    assert found.parameters["E"] == 2.0
    assert found.parameters["own"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "name", ["Mesh", "Elasticity", "Diffusion", "Form", "Fixed", "Traction", "LinearStatic", "Functional", "Volume"]
)
def test_wrong_names_of_arguments(name: str) -> None:
    with pytest.raises(TypeError, match="argument 'wrong'"):
        getattr(fa, name)(wrong=1)
