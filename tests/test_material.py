"""Materials as functions of named constants: regions, tensors, and derivatives by every constant."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import femadj as fa
from femadj.base.design import Cotangent
from femadj.physics.material import (
    anisotropic_stiffness,
    isotropic_conductivity,
    isotropic_stiffness,
    parameter_of,
    regional_tensor,
)
from femadj.space.parameters import Parameters
from tests.meshes import box_mesh

FloatArray = npt.NDArray[np.float64]


def mesh_of(cell: str) -> fa.Mesh:
    mesh = box_mesh(cell, (3, 2, 2)[: 2 if cell in ("triangle", "quad") else 3])
    middle = mesh.points[:, 0].mean()
    centre = np.concatenate([mesh.points[b.nodes, 0].mean(axis=1) for b in mesh.blocks])
    return mesh.with_groups(cell_groups={"a": np.flatnonzero(centre < middle), "b": np.flatnonzero(centre >= middle)})


def spd(rng: np.random.Generator, size: int, shift: float = 4.0) -> FloatArray:
    root = rng.uniform(-1, 1, (size, size))
    return root @ root.T + shift * np.eye(size)


def cases() -> list[Any]:
    rng = np.random.default_rng(0)
    found = []
    for cell, dim in (("tetra", 3), ("quad", 2)):
        mesh = mesh_of(cell)
        for plane in ("strain",) if dim == 3 else ("strain", "stress"):
            iso = partial(isotropic_stiffness, dim=dim, plane=plane)
            each = fa.CellField(rng.uniform(1, 2, mesh.n_cells))
            for label, E, nu in (
                ("numbers", 2.0, 0.3),
                ("groups", {"a": 1.5, "b": 4.0}, {"b": 0.2, "a": -0.1}),
                ("cells", each, {"a": 0.25, "b": 0.4}),
            ):
                found.append(pytest.param(mesh, iso, {"E": E, "nu": nu}, None, id=f"{cell}-{plane}-{label}"))
            for size in (6,) if dim == 3 else (3, 6):
                aniso = partial(anisotropic_stiffness, dim=dim, plane=plane)
                both = {"a": spd(rng, size), "b": spd(rng, size)}
                for label, C in (("one", spd(rng, size)), ("groups", both)):
                    found.append(
                        pytest.param(
                            mesh,
                            aniso,
                            {"stiffness": C},
                            {"stiffness": (size, size)},
                            id=f"{cell}-{plane}-{size}x{size}-{label}",
                        )
                    )
        found.append(
            pytest.param(
                mesh, partial(isotropic_conductivity, dim=dim), {"k": {"a": 1.0, "b": 3.0}}, None, id=f"k-{dim}"
            )
        )
    return found


def declared(mesh: fa.Mesh, constants: dict[str, Any]) -> Parameters:
    return Parameters.of(mesh, {name: parameter_of(value) for name, value in constants.items()}, "material")


@pytest.mark.parametrize(("mesh", "function", "constants", "shapes"), cases())
def test_derivatives_by_every_constant(mesh: fa.Mesh, function: Any, constants: dict[str, Any], shapes: Any) -> None:
    tensor = regional_tensor(mesh, function, constants, shapes)
    parameters = declared(mesh, constants)
    rng = np.random.default_rng(1)
    C = tensor.at(parameters)
    weights = rng.uniform(-1, 1, C.shape)
    into = Cotangent(parameters=parameters.zeros())
    tensor.pullback(parameters, weights, into.parameters, 2.0)
    for name in parameters:
        value = parameters.value(name)
        direction = rng.uniform(-1, 1, value.shape)
        h = 2e-4

        def work(t: float, name: str = name, value: FloatArray = value, d: FloatArray = direction) -> float:
            return float((weights * tensor.at(parameters.updated({name: value + t * d}))).sum())

        difference = (8 * (work(h) - work(-h)) - (work(2 * h) - work(-2 * h))) / (12 * h)
        exact = float((into.parameters[name] * direction).sum())
        assert exact == pytest.approx(2 * difference, rel=1e-8)
        rate = tensor.pushforward(parameters, {name: direction})
        assert (weights * rate).sum() == pytest.approx(exact / 2, rel=1e-12)


def test_what_is_not_wanted_is_left_alone() -> None:
    mesh = mesh_of("quad")
    constants: dict[str, Any] = {"E": 2.0, "nu": 0.3}
    tensor = regional_tensor(mesh, partial(isotropic_stiffness, dim=2, plane="strain"), constants)
    into = {"nu": np.zeros(())}
    tensor.pullback(declared(mesh, constants), np.ones((1, 2, 2, 2, 2)), into)
    assert into["nu"] != 0
    assert not tensor.pushforward(declared(mesh, constants), {}).any()


def test_cells_with_the_same_values_share_a_region() -> None:
    mesh = mesh_of("tetra")
    function = partial(isotropic_stiffness, dim=3, plane="strain")
    one = regional_tensor(mesh, function, {"E": 1.0, "nu": 0.3})
    assert one.n_regions == 1
    both = regional_tensor(mesh, function, {"E": {"a": 1.0, "b": 2.0}, "nu": {"b": 0.1, "a": 0.2}})
    assert both.n_regions == 2
    for group, values in (("a", (1.0, 0.2)), ("b", (2.0, 0.1))):
        (region,) = np.unique(both.region[mesh.cells_of(group)])
        C = both.at(declared(mesh, {"E": {"a": 1.0, "b": 2.0}, "nu": {"b": 0.1, "a": 0.2}}))[region]
        lame, mu = values[0] * values[1] / ((1 + values[1]) * (1 - 2 * values[1])), values[0] / (2 * (1 + values[1]))
        assert C[0, 0, 0, 0] == pytest.approx(lame + 2 * mu, rel=1e-14)
        assert C[0, 0, 1, 1] == pytest.approx(lame, rel=1e-14)
        assert C[0, 1, 1, 0] == pytest.approx(mu, rel=1e-14)
    each = regional_tensor(mesh, function, {"E": fa.CellField(np.ones(mesh.n_cells)), "nu": 0.3})
    assert each.n_regions == mesh.n_cells


# ---------------------------------------------------------------------- problems
def bodies(mesh: fa.Mesh) -> dict[str, Any]:
    """Materials with constants of every kind."""
    rng = np.random.default_rng(2)
    size = 6 if mesh.dim == 3 else 3
    each = fa.CellField(rng.uniform(1, 2, mesh.n_cells))
    plane: dict[str, Any] = {"thickness": 0.4} if mesh.dim == 2 else {}
    return {
        "groups": fa.Elasticity({"a": 2.0, "b": 3.0}, 0.3, density=1.5, **plane),
        "plane stress": fa.Elasticity(2.0, {"b": 0.2, "a": 0.1}, density={"a": 1.0, "b": 2.0}, plane="stress", **plane),
        "anisotropic": fa.Elasticity(stiffness={"a": spd(rng, size), "b": spd(rng, size)}, density=2.0, **plane),
        "six by six": fa.Elasticity(stiffness=spd(rng, 6), density=2.0, plane="stress", **plane),
        "cells": fa.Elasticity(each, {"b": 0.2, "a": 0.1}, density=each, **plane),
        "diffusion": fa.Diffusion({"a": 1.0, "b": np.diag([2.0] * mesh.dim) + 0.3}, density=1.2, **plane),
        "conducting cells": fa.Diffusion(each, density=1.2, **plane),
        "advection": fa.AdvectionDiffusion({"a": 0.5, "b": 0.9}, [1.0] * mesh.dim, supg=True, density=1.2, **plane),
    }


def loads_of(mesh: fa.Mesh, physics: Any) -> list[Any]:
    dim = mesh.dim
    if physics.quantity == "scalar":
        return [fa.Source(lambda x: 1.0 + x[0] ** 2), fa.Flux("right", 0.7)]
    warm = fa.NodalField(np.sin(3 * mesh.points[:, 0]))
    return [
        fa.Gravity([0.1, -1.0, 0.2][:dim]),
        fa.BodyForce([0.3] * dim),
        fa.Traction("right", lambda x: [x[0] * c for c in (1.0, -0.5, 0.2)[:dim]]),
        fa.Pressure("top", lambda x: 1.0 + x[0]),
        fa.Pressure("right", 0.4),
        fa.TotalForce("right", [0.0, -0.3, 0.1][:dim]),
        fa.ThermalStrain({"a": 0.1, "b": 0.2}, temperature=warm, reference=0.1),
    ]


def weighted(w: Any) -> Any:
    """Reads the density, whichever way it is given."""
    density = w.density if np.ndim(w.density) < 3 else w.density[0]
    return density * (w.u**2 if w.u.ndim < 3 else w.u[0] * w.u[1])


RESPONSES: dict[str, Any] = {
    "compliance": fa.Compliance(), "energy": fa.StrainEnergy(), "norm": fa.FieldNorm(), "mass": fa.Mass("b"),
    "volume": fa.Volume(), "reads": fa.Functional(weighted),
}  # fmt: skip


@pytest.mark.parametrize("name", bodies(mesh_of("quad")))
@pytest.mark.parametrize("cell", ["quad", "tetra"])
def test_gradients_by_every_constant(cell: str, name: str) -> None:
    mesh = mesh_of(cell)
    if mesh.dim == 2 and name in ("anisotropic", "six by six"):
        mesh = mesh_of("triangle")
    physics = bodies(mesh)[name]
    loads = loads_of(mesh, physics)
    if name == "anisotropic" and mesh.dim == 2:
        loads = loads[:-1]  # expansion across the plane needs the (6, 6) stiffness
    nc = len(physics.components(mesh.dim))
    supports = [fa.Fixed("left", value=lambda x: [0.1 * x[0] + 0.05] * nc)]
    problem = fa.LinearStatic(mesh, physics, supports, loads, threads=1)
    declared = {*physics.constants, *({"thickness"} if mesh.dim == 2 else ())}
    assert declared <= set(problem.parameters)
    responses = RESPONSES
    _, gradients = fa.values_and_gradients(problem.solve(), list(responses.values()))
    rng = np.random.default_rng(3)
    for parameter in sorted(declared):
        value = problem.parameters.value(parameter)
        direction = rng.uniform(-1, 1, value.shape) * np.abs(value).max() * 0.1

        def at(t: float, p: str = parameter, x: FloatArray = value, d: FloatArray = direction) -> FloatArray:
            solution = problem.solve(parameters={p: x + t * d})
            return np.array([r.value(solution) for r in responses.values()])

        h = 0.02
        differences = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        exact = np.array([(g.parameters[parameter] * direction).sum() for g in gradients])
        assert np.abs(exact - differences).max() <= 1e-7 * max(np.abs(exact).max(), 1e-3), parameter
        # and forwards: how the state changes
        (du,) = problem.solve().pushforward([fa.Design(None, {parameter: direction})])
        moved = [problem.solve(parameters={parameter: value + t * direction}).u for t in (-h, h, -2 * h, 2 * h)]
        expected = (8 * (moved[1] - moved[0]) - (moved[3] - moved[2])) / (12 * h)
        assert np.abs(du - expected).max() <= 1e-7 * max(np.abs(du).max(), 1e-3), parameter


def test_values_of_constants_are_checked_at_every_solve() -> None:
    mesh = mesh_of("quad")
    body = fa.LinearStatic(mesh, fa.Elasticity(2.0, 0.3, density=1.0), [fa.Fixed("left")], [fa.Gravity((0, -1))])
    for name, value, message in (
        ("E", -1.0, "E must be positive, not -1"),
        ("nu", 0.5, "nu must lie between -1 and 0.5"),
        ("density", 0.0, "density must be positive, not 0"),
        ("thickness", -2.0, "thickness must be positive, not -2"),
    ):
        with pytest.raises(fa.MaterialError, match=message):
            body.solve(parameters={name: value})
    bar = fa.LinearStatic(mesh, fa.Elasticity(stiffness=np.eye(3)), [fa.Fixed("left")], [fa.Traction("right", (1, 0))])
    with pytest.raises(fa.MaterialError, match="stiffness is not positive definite"):
        bar.solve(parameters={"stiffness": np.diag([1.0, -1.0, 1.0])})
    plate = fa.LinearStatic(mesh, fa.Diffusion(2.0), [fa.Fixed("left")], [fa.Source(1.0)])
    with pytest.raises(fa.MaterialError, match="conductivity must be positive, not -3"):
        plate.solve(parameters={"conductivity": -3.0})
