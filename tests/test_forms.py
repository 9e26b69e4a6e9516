"""Forms of one's own: what they assemble, their gradients by nodes and parameters, and what is found out about them.

All nodes move, on bent meshes of both cell orientations away from the origin. Matrices are compared with scikit-fem's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skfem
from skfem.helpers import ddot, div, dot, eye, grad, mul, sym_grad, trace

import femadj as fa
from femadj.forms.probing import SAMPLED_ENTITIES, sample_of
from femadj.mesh.reference import cell_type, quadrature, skfem_element
from femadj.physics import Physics
from femadj.space.discretisation import Discretisation
from tests.meshes import box_mesh, dim_of
from tests.products import Products
from tests.reference_assembly import turned
from tests.test_gradients import (
    ORIGIN,
    TOLERANCE,
    assert_exact,
    assert_second_order,
    differences,
    direction_of,
    loads_of,
    mesh_of,
    responses_of,
    supports_of,
)

FloatArray = npt.NDArray[np.float64]

CELLS = (
    "triangle", "triangle6", "quad", "quad8", "quad9", "tetra", "tetra10", "hexahedron", "hexahedron27", "wedge",
    "quad+triangle", "hexahedron+wedge",
)  # fmt: skip
TYPICAL = ("triangle6", "quad", "tetra", "wedge", "quad+triangle")
"""Cells on which every form is tried every time; on the others most of these tests are marked slow."""

MATERIAL: Any = {"E": 3.0, "nu": 0.3}


# ---------------------------------------------------------------------- what is combined
def wave(x: Any) -> Any:
    return 2.5 + np.sin(x[0] + 2 * x[1])


def lame(E: Any, nu: float) -> tuple[Any, Any]:
    return E * nu / ((1 + nu) * (1 - 2 * nu)), E / (2 * (1 + nu))


def stress(gradient: Any, E: Any, nu: float = 0.3) -> Any:
    """Isotropic stress of a displacement gradient."""
    lam, mu = lame(E, nu)
    strain = 0.5 * (gradient + np.swapaxes(gradient, 0, 1))
    return lam * np.einsum("ij,...->ij...", np.eye(len(gradient)), trace(strain)) + 2 * mu * strain


def laplacian(u: Any, v: Any, w: Any) -> Any:
    return dot(grad(u), grad(v))


def forms_of(mesh: fa.Mesh) -> dict[str, fa.Form]:
    """Forms that read everything that forms can read."""
    dim, n, m = mesh.dim, mesh.n_nodes, mesh.n_cells
    rng = np.random.default_rng(11)
    root = rng.uniform(-1, 1, (dim, dim))
    skew = np.triu(rng.uniform(0.2, 0.5, (dim, dim)), 1)
    tensor = root @ root.T + np.eye(dim) + skew - skew.T
    speed = rng.uniform(0.3, 1.0, dim)
    coupling = rng.uniform(-0.5, 0.5, (3, 3)) + 3 * np.eye(3)
    nodal = fa.NodalField(rng.uniform(1.5, 2.5, n))
    vectors = fa.NodalField(rng.uniform(-0.5, 0.5, (n, dim)))
    cell = fa.CellField(rng.uniform(1.0, 2.0, m))
    pairs = fa.CellField(rng.uniform(0.5, 1.0, (m, 2)))
    on = fa.Integral
    return {
        "coefficient of x": fa.Form(
            lambda u, v, w: wave(w.x) * dot(grad(u), grad(v)),
            lambda v, w: np.exp(0.3 * w.x[-1]) * v + np.cos(w.x[0]) * grad(v)[1],
        ),
        "normal": fa.Form(
            [
                laplacian,
                on(lambda u, v, w: (2 + dot(w.n, w.x) ** 2) * u * v, "boundary"),
                on(lambda u, v, w: 0.1 * w.n[0] * u * dot(w.n, grad(v)), "top"),
            ],
            on(lambda v, w: (w.n[1] + w.x[0] * w.n[0] ** 2) * v + 0.1 * dot(w.n, grad(v)), "boundary"),
        ),
        "Nitsche": fa.Form(
            [
                laplacian,
                on(lambda u, v, w: 20 / w.h * u * v - dot(w.n, grad(u)) * v - dot(w.n, grad(v)) * u, "top"),
            ],
            on(lambda v, w: w.x[0] * (20 / w.h * v - dot(w.n, grad(v))), "top"),
        ),
        "mesh size": fa.Form(
            [
                lambda u, v, w: (1 + w.h) * dot(grad(u), grad(v)) + mul(w.c[None], grad(u))[0] * (v + w.h * grad(v)[0]),
                on(lambda u, v, w: u * v / w.h, "boundary"),
            ],
            lambda v, w: w.h**2 * w.x[0] * v,
            parameters={"c": speed},
        ),
        "nodal fields": fa.Form(
            lambda u, v, w: w.k**2 * dot(grad(u), grad(v)) + dot(w.b, grad(u)) * v + u * v,
            [lambda v, w: (1 + w.k) * v, on(lambda v, w: dot(w.b, w.n) * v, "top")],
            parameters={"k": nodal, "b": vectors},
        ),
        "gradients of nodal fields": fa.Form(
            [
                lambda u, v, w: (
                    (1 + dot(grad(w.k), grad(w.k))) * dot(grad(u), grad(v))
                    + 0.1 * dot(grad(w.k), grad(u)) * v
                    + 0.1 * (5 + trace(grad(w.b))) * u * v
                ),
                on(lambda u, v, w: (3 + dot(grad(w.k), w.n)) * u * v, "boundary"),
            ],
            lambda v, w: dot(grad(w.k), grad(v)) + w.b.grad[0, 1] * v,
            parameters={"k": nodal, "b": vectors},
        ),
        "cell fields": fa.Form(
            [
                lambda u, v, w: w.k * dot(grad(u), grad(v)),
                lambda u, v, w: w.p[0] * u * v * w.x[1] ** 2 + 0.1 * w.p[1] ** 2 * grad(u)[1] * v,
                on(lambda u, v, w: w.k * u * v, "top"),
            ],
            [lambda v, w: w.p[0] * w.p[1] * v, on(lambda v, w: w.k * w.x[0] * v, "boundary")],
            parameters={"k": cell, "p": pairs},
        ),
        "Robin": fa.Form(
            [laplacian, on(lambda u, v, w: w.alpha * u * v, "top"), on(lambda u, v, w: wave(w.x) * u * v, "right")],
            [on(lambda v, w: w.alpha * w.ambient * v, "top"), on(lambda v, w: wave(w.x) * v, "right")],
            parameters={"alpha": 1.7, "ambient": -0.6},
        ),
        "cell groups": fa.Form(
            [
                on(lambda u, v, w: 2 * dot(grad(u), grad(v)), "low"),
                on(lambda u, v, w: w.k * wave(w.x) * dot(grad(u), grad(v)), "high"),
                on(lambda u, v, w: u * v, "high"),
            ],
            [on(lambda v, w: 1.3 * v, "low"), on(lambda v, w: w.x[1] * v, "high")],
            parameters={"k": 0.7},
        ),
        "anisotropic reaction": fa.Form(
            lambda u, v, w: dot(mul(w.D, grad(u)), grad(v)) + w.r * u * v,
            lambda v, w: w.r**2 * v,
            parameters={"D": tensor, "r": 1.4},
        ),
        "advection": fa.Form(
            lambda u, v, w: dot(grad(u), grad(v)) + 0.3 * (w.x[1] * grad(u)[0] - w.x[0] * grad(u)[1]) * v,
            lambda v, w: np.cos(w.x[0]) * v,
        ),
        "inner facets": fa.Form(
            [laplacian, on(lambda u, v, w: w.x[0] * u * v, "middle")], on(lambda v, w: w.x[1] ** 2 * v, "middle")
        ),
        "elasticity": fa.Form(
            lambda u, v, w: ddot(stress(grad(u), w.E * wave(w.x)), sym_grad(v)),
            lambda v, w: w.x[1] * v[0] - dot(w.g, v),
            element="vector",
            parameters={"E": 2.0, "g": speed},
        ),
        "pressure and springs": fa.Form(
            [
                lambda u, v, w: ddot(stress(grad(u), 2.0), sym_grad(v)),
                on(lambda u, v, w: wave(w.x) * dot(u, w.n) * dot(v, w.n), "boundary"),
            ],
            [on(lambda v, w: w.x[0] * dot(v, w.n), "boundary"), on(lambda v, w: w.h * div(v), "top")],
            element="vector",
        ),
        "reaction system": fa.Form(
            lambda u, v, w: (
                w.d[0] * dot(grad(u)[0], grad(v)[0])
                + w.d[1] * dot(grad(u)[1], grad(v)[1])
                + (2 * u[0] - 0.7 * u[1]) * v[0]
                + (wave(w.x) * u[1] - 0.4 * u[0]) * v[1]
            ),
            lambda v, w: v[0] + w.x[0] * v[1],
            element=2,
            parameters={"d": np.array([1.0, 0.3])},
        ),
        "three fields": fa.Form(
            lambda u, v, w: ddot(grad(u), grad(v)) + dot(mul(w.C, u), v),
            lambda v, w: w.x[0] * v[0] + v[1] - w.x[1] * v[2],
            element=3,
            parameters={"C": coupling},
        ),
    }


FORMS = tuple(forms_of(mesh_of("quad")))
WITH_PARAMETERS = tuple(name for name, form in forms_of(mesh_of("quad")).items() if form.parameters)


def components_of(form: Physics, mesh: fa.Mesh) -> int:
    return len(form.components(mesh.dim))


def problem_from(mesh: fa.Mesh, form: fa.Form, supports: str = "moving", **options: Any) -> fa.LinearStatic:
    return fa.LinearStatic(mesh, form, supports_of(supports, mesh, components_of(form, mesh)), (), threads=1, **options)


def kind_of(problem: fa.LinearStatic) -> str:
    """Kind of the matrix, for the solver."""
    return repr(problem.linear_system).split(", ")[1]


@cache
def problem_of(cell: str, form: str) -> fa.LinearStatic:
    mesh = mesh_of(cell)
    return problem_from(mesh, forms_of(mesh)[form])


def functionals_of(mesh: fa.Mesh, nc: int, own: Mapping[str, Any] | None = None) -> dict[str, fa.Response]:
    """Functionals that read everything that functionals can read; ``own``: other values of their parameters."""
    dim = mesh.dim

    def u1(w: Any) -> Any:
        return w.u if nc == 1 else w.u[0]

    def du1(w: Any) -> Any:
        return grad(w.u) if nc == 1 else grad(w.u)[0]

    def square(w: Any) -> Any:
        return w.u**2 if nc == 1 else dot(w.u, w.u)

    def slope(w: Any) -> Any:
        return dot(grad(w.u), grad(w.u)) if nc == 1 else ddot(grad(w.u), grad(w.u))

    def tracking(w: Any) -> Any:
        mismatch = (u1(w) - w.target) ** 2 * w.each * w.weight[0]
        return mismatch + w.weight[1] * dot(grad(w.target), du1(w)) ** 2

    parameters = own_parameters(mesh) | dict(own or {})
    found: dict[str, fa.Response] = {
        "fourth power": fa.Functional(lambda w: square(w) ** 2),
        "gradient to 2.5": fa.Functional(lambda w: slope(w) ** 1.25),
        "flux": fa.Functional(fa.Integral(lambda w: wave(w.x) * dot(du1(w), w.n), "top")),
        "over facets": fa.Functional(fa.Integral(lambda w: u1(w) * w.x[1], "right")),
        "over inner facets": fa.Functional(fa.Integral(lambda w: square(w) * w.x[0], "middle")),
        "in a group": fa.Functional(fa.Integral(lambda w: np.exp(-square(w)) * w.x[1], "low", order=3)),
        "norm of several": fa.Functional(
            [lambda w: square(w) ** 3 + 0.1 * w.x[0], fa.Integral(square, "boundary")], power=1 / 6
        ),
        "normal and size": fa.Functional(
            fa.Integral(lambda w: np.exp(-square(w)) * w.n[0] ** 2 * w.h + w.n[1] * w.x[1], "boundary")
        ),
        "size of cells": fa.Functional(lambda w: w.h**2 * slope(w) + np.sqrt(w.h), power=2),
        "tracking": fa.Functional(tracking, power=1.5, parameters=parameters),
    }
    if nc == dim:

        def mises(w: Any) -> Any:
            sigma = stress(grad(w.u), 2.0)
            part = sigma - np.einsum("ij,...->ij...", np.eye(dim) / 3, trace(sigma))
            return 1.5 * ddot(part, part)

        found["von Mises"] = fa.Functional(lambda w: mises(w) ** 4, power=1 / 8)
        found["work of a pressure"] = fa.Functional(fa.Integral(lambda w: w.x[0] * dot(w.u, w.n), "boundary"))
    return found


def own_parameters(mesh: fa.Mesh) -> dict[str, Any]:
    """Parameters of the functional ``tracking``."""
    rng = np.random.default_rng(12)
    return {
        "weight": np.array([0.7, 0.2]),
        "target": fa.NodalField(rng.uniform(-1, 1, mesh.n_nodes)),
        "each": fa.CellField(rng.uniform(0.5, 1.5, mesh.n_cells)),
    }


def some(responses: dict[str, fa.Response], number: int, count: int = 2) -> dict[str, fa.Response]:
    """A few of the responses, others for every number."""
    names = list(responses)
    return {names[i]: responses[names[i]] for i in {(number * count + k) % len(names) for k in range(count)}}


def every(cells: Sequence[str], forms: Sequence[str]) -> list[Any]:
    """All combinations, with a number; but for half of those of typical cells, a third of the others, marked slow."""
    return [
        pytest.param(
            cell,
            form,
            number + shift,
            marks=[] if (number + shift) % (2 if cell in TYPICAL else 3) == 0 else [pytest.mark.slow],
            id=f"{cell}-{form}",
        )
        for shift, cell in enumerate(cells)
        for number, form in enumerate(forms)
    ]


# ---------------------------------------------------------------------- gradients
@pytest.mark.parametrize(("cell", "form", "number"), every(CELLS, FORMS))
def test_gradient_by_nodes(cell: str, form: str, number: int) -> None:
    problem = problem_of(cell, form)
    responses = some(functionals_of(problem.mesh, components_of(problem.physics, problem.mesh)), number)
    assert_exact(problem, responses)
    assert_second_order(problem, responses)


@pytest.mark.parametrize(("cell", "form", "number"), every(["triangle6", "hexahedron"], FORMS))
def test_gradient_of_every_functional(cell: str, form: str, number: int) -> None:
    problem = problem_of(cell, form)
    responses = functionals_of(problem.mesh, components_of(problem.physics, problem.mesh))
    assert_exact(problem, responses, seed=number)


@pytest.mark.parametrize("cell", ["quad8", "wedge"])
@pytest.mark.parametrize("form", FORMS)
def test_built_in_responses(cell: str, form: str) -> None:
    problem = problem_of(cell, form)
    nc = components_of(problem.physics, problem.mesh)
    named = nc in (1, problem.mesh.dim)  # the mean asks for a component by its name
    usable = {n: r for n, r in responses_of(nc).items() if "mass" not in n and (named or n != "mean")}
    assert_exact(problem, usable, seed=2)


@pytest.mark.parametrize("cell", ["quad9", "tetra"])
def test_built_in_loads_on_forms(cell: str) -> None:
    mesh = mesh_of(cell)
    for form, like in (("nodal fields", fa.Diffusion(1.0)), ("elasticity", fa.Elasticity(1.0, 0.3))):
        physics = forms_of(mesh)[form]
        nc = components_of(physics, mesh)
        loads = [load for name, load in loads_of(like, mesh.dim).items() if "gravity" not in name]
        problem = fa.LinearStatic(mesh, physics, supports_of("moving", mesh, nc), loads, threads=1)
        assert_exact(problem, some(functionals_of(mesh, nc), 0) | {"compliance": fa.Compliance()})


@pytest.mark.parametrize("supports", ["zero", "values", "node by node", "some components moving"])
def test_supports_on_forms(supports: str) -> None:
    for cell, form in (("triangle", "advection"), ("hexahedron", "elasticity"), ("quad8", "cell fields")):
        mesh = mesh_of(cell)
        problem = problem_from(mesh, forms_of(mesh)[form], supports)
        nc = components_of(problem.physics, mesh)
        responses = functionals_of(mesh, nc) | {"over supports": responses_of(nc)["sum over supports"]}
        assert_exact(problem, responses)


def test_other_quadrature() -> None:
    mesh = mesh_of("quad9")
    form = forms_of(mesh)["nodal fields"]
    values = []
    for order in (2, 6, 9):
        problem = problem_from(mesh, form, quadrature_order=order)
        assert_exact(problem, some(functionals_of(mesh, 1), 1))
        values.append(problem.solve().u)
    assert np.abs(values[0] - values[2]).max() > 1e-6
    assert np.abs(values[1] - values[2]).max() < 0.1 * np.abs(values[0] - values[2]).max()
    own = fa.Form(fa.Integral(laplacian, order=7), fa.Integral(lambda v, w: w.x[0] ** 3 * v, order=7))
    assert_exact(problem_from(mesh, own), some(functionals_of(mesh, 1), 2))
    domains = [problem_from(mesh, own, quadrature_order=2).residual.internal[0].domains[0]]
    assert domains[0].geometry.n_points == len(quadrature("quad", 7)[1])


@pytest.mark.parametrize(("cell", "form", "number"), every(["quad+triangle", "tetra10"], WITH_PARAMETERS))
def test_gradient_by_parameters(cell: str, form: str, number: int) -> None:
    problem = problem_of(cell, form)
    mesh, nc = problem.mesh, components_of(problem.physics, problem.mesh)
    builtin = responses_of(nc)
    others = {name: builtin[name] for name in ("compliance", "strain energy", "sum over supports", "field norm")}

    def responses(own: Mapping[str, Any] | None = None) -> dict[str, fa.Response]:
        functionals = functionals_of(mesh, nc, own)
        return some(functionals, number) | {"tracking": functionals["tracking"]} | others

    solution = problem.solve()
    at_rest, gradients = fa.values_and_gradients(solution, list(responses().values()))
    rng = np.random.default_rng(4)
    for name in problem.parameters:
        given = problem.parameters.value(name)
        step = rng.uniform(-1, 1, given.shape)

        def values(t: float, name: str = name, given: FloatArray = given, step: FloatArray = step) -> FloatArray:
            moved = problem.solve(parameters={name: given + t * step})
            return np.array([r.evaluate(moved).value for r in responses().values()])

        assert all(g.parameters[name].shape == given.shape for g in gradients)
        compare([g.parameters[name] * step for g in gradients], values, at_rest, list(responses()))
    place = list(responses()).index("tracking")
    for name, declared in own_parameters(mesh).items():
        given = np.asarray(getattr(declared, "values", declared), dtype=float)
        step = rng.uniform(-1, 1, given.shape)

        def tracking(t: float, name: str = name, given: FloatArray = given, step: FloatArray = step) -> FloatArray:
            kind: Any = type(own_parameters(mesh)[name])
            moved: Any = given + t * step
            own = {name: kind(moved) if kind in (fa.NodalField, fa.CellField) else moved}
            return np.array([responses(own)["tracking"].evaluate(solution).value])

        for k, g in enumerate(gradients):
            assert (name in g.parameters) == (k == place)
        term = gradients[place].parameters[name] * step
        assert np.abs(term).max() > 0
        compare([term], tracking, at_rest[[place]], ["tracking"])


def compare(
    terms: list[FloatArray], values: Callable[[float], FloatArray], at_rest: FloatArray, names: list[str]
) -> None:
    """Sums of the terms against differences of the values."""
    exact = np.array([t.sum() for t in terms])
    scale = np.array([np.abs(t).max() for t in terms])
    assert scale.max() > 0
    error = np.min([np.abs(differences(values, h) - exact) for h in (4e-3, 1e-3)], axis=0)
    allowed = TOLERANCE * scale + 1e-11 * np.abs(at_rest)
    wrong = {n: (e, d) for n, e, d, s, a in zip(names, exact, error, scale, allowed, strict=True) if not d <= a}
    assert not wrong, wrong


@pytest.mark.parametrize("form", WITH_PARAMETERS)
def test_solving_with_parameters_is_solving_with_them_declared(form: str) -> None:
    mesh = mesh_of("quad+triangle")
    problem = problem_of("quad+triangle", form)
    physics = forms_of(mesh)[form]
    other = {name: 1.1 * problem.parameters.value(name) + 0.05 for name in problem.parameters}
    kinds: dict[str, Any] = {name: type(value) for name, value in physics.parameters.items()}
    declared = {n: kinds[n](v) if kinds[n] in (fa.NodalField, fa.CellField) else v for n, v in other.items()}
    rebuilt = fa.Form(list(physics._bilinear), list(physics._linear), element=physics._element, parameters=declared)
    here = problem.solve(parameters=other)
    there = problem_from(mesh, rebuilt).solve()
    before = problem.solve()  # later designs start from the declared values again
    assert np.abs(here.u - there.u).max() <= 1e-12 * np.abs(there.u).max()
    assert np.abs(here.u - before.u).max() > 1e-4 * np.abs(before.u).max()
    responses = list(functionals_of(mesh, here.u.shape[1]).values())
    values, gradients = fa.values_and_gradients(here, responses)
    others, expected = fa.values_and_gradients(there, responses)
    assert values == pytest.approx(others, rel=1e-11)
    for g, e in zip(gradients, expected, strict=True):
        assert np.abs(g.points - e.points).max() <= 1e-10 * np.abs(e.points).max()
        for name in problem.parameters:
            assert g.parameters[name] == pytest.approx(e.parameters[name], rel=1e-9, abs=1e-12)


def test_a_zero_among_the_parameters_hides_no_term() -> None:
    mesh = mesh_of("quad")

    def form(b: Any) -> fa.Form:
        return fa.Form(
            [lambda u, v, w: dot(grad(u), grad(v)) + w.b * grad(u)[0] * v, lambda u, v, w: w.b * w.x[0] * u * v],
            [lambda v, w: v, lambda v, w: w.b * grad(v)[1]],
            parameters={"b": b},
        )

    for kind, n in ((float, ()), (fa.NodalField, mesh.n_nodes), (fa.CellField, mesh.n_cells)):
        zero, one = (kind(value * np.ones(n)) if n else value for value in (0.0, 1.0))
        problem, declared = problem_from(mesh, form(zero)), problem_from(mesh, form(one))
        assert kind_of(problem) == kind_of(declared) == "general"
        here, there = problem.solve(parameters={"b": np.ones(n)}), declared.solve()
        assert np.abs(here.u - there.u).max() <= 1e-12 * np.abs(there.u).max()
        assert np.abs(here.u - problem.solve().u).max() > 1e-3 * np.abs(there.u).max()
        response = functionals_of(mesh, 1)["fourth power"]
        at_zero, at_one = (fa.value_and_gradient(p.solve(), response)[1].parameters["b"] for p in (problem, declared))
        later = fa.value_and_gradient(here, response)[1].parameters["b"]
        assert np.abs(later - at_one).max() <= 1e-11 * np.abs(at_one).max()
        assert np.abs(at_zero).max() > 0


def test_parameters_without_values_until_solving() -> None:
    mesh = mesh_of("triangle6")
    form = forms_of(mesh)["gradients of nodal fields"]
    values = {name: np.asarray(field.values) for name, field in form.parameters.items()}  # type: ignore[union-attr]
    later = fa.Form(
        list(form._bilinear),
        list(form._linear),
        parameters={"k": fa.NodalField(), "b": fa.NodalField(components=2)},
    )
    problem = problem_from(mesh, later)
    here, there = problem.solve(parameters=values), problem_of("triangle6", "gradients of nodal fields").solve()
    assert np.array_equal(here.u, there.u)
    with pytest.raises(fa.ParameterError, match="has no values yet"):
        problem.solve(parameters={"k": values["k"]})


def test_verify_agrees() -> None:
    problem = problem_of("triangle", "gradients of nodal fields")
    assert fa.verify(problem, functionals_of(problem.mesh, 1)["tracking"], components=1, show=False).passed


# ---------------------------------------------------------------------- products
@pytest.mark.parametrize(("cell", "form", "number"), every(CELLS, FORMS))
def test_tangent_is_the_transpose_of_the_contraction(cell: str, form: str, number: int) -> None:
    problem = problem_of(cell, form)
    system, x = Products(problem), problem.mesh.points
    nc = components_of(problem.physics, problem.mesh)
    rng = np.random.default_rng(number)
    u, lam = rng.uniform(-1, 1, (2, problem.mesh.n_nodes, nc))
    V = rng.uniform(-1, 1, x.shape)
    forward, backward = lam * system.tangent(x, V, u), system.contract(x, u, lam, lam) * V
    assert abs(forward.sum() + backward.sum()) <= 1e-12 * (np.abs(forward).sum() + np.abs(backward).sum())
    parameters = problem.parameters
    rates = {name: rng.uniform(-1, 1, np.shape(array)) for name, array in parameters.zeros().items()}
    for term in (*problem.residual.internal, *problem.residual.external):
        at = term.at(x, parameters)
        one, other = np.zeros_like(u), np.zeros_like(u)
        at.jvp(u, u, one)
        at.vjp(u, lam, other)
        size = np.abs(lam * one).sum()
        assert abs((lam * one).sum() - (u * other).sum()) <= 1e-12 * size
        for direction in (fa.Design(V), fa.Design(None, rates), fa.Design(V, rates)):
            rate = np.zeros_like(u)
            at.pushforward(u, direction, rate)
            into = fa.Cotangent(np.zeros_like(x), parameters.zeros())
            at.pullback(u, lam, into)
            assert into.points is not None
            back = 0.0 if direction.points is None else (into.points * V).sum()
            back += sum((into.parameters[name] * r).sum() for name, r in direction.parameters.items())
            scale = np.abs(lam * rate).sum() + np.abs(into.points * V).sum()
            assert (
                abs((lam * rate).sum() - back) <= 1e-12 * scale + 1e-14
            )  # what is constant has rates of rounding alone


@pytest.mark.parametrize(
    ("cell", "form"),
    [
        ("quad+triangle", "mesh size"),
        ("wedge", "gradients of nodal fields"),
        ("triangle6", "cell fields"),
        ("quad", "pressure and springs"),
        ("tetra", "cell groups"),
    ],
)
def test_chunks_and_threads_do_not_matter(cell: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = turned(box_mesh(cell, (4, 3, 1)[: dim_of(cell)], distortion=0.1, origin=ORIGIN[: dim_of(cell)], seed=6))
    physics = forms_of(mesh)[form]
    nc = components_of(physics, mesh)
    functionals = functionals_of(mesh, nc)
    responses = [functionals[name] for name in ("tracking", "normal and size", "flux")]
    results = []
    for threads, points in ((1, 16_384), (1, 70), (3, 45)):
        monkeypatch.setattr("femadj.space.maps.CHUNK_POINTS", points)
        problem = fa.LinearStatic(mesh, physics, supports_of("moving", mesh, nc), (), threads=threads)
        assert problem.residual.space.n_parts == threads
        solution = problem.solve()
        values, gradients = fa.values_and_gradients(solution, responses)
        tangent = Products(problem).tangent(mesh.points, direction_of(mesh), solution.u)
        results.append((solution.u, values, tangent, gradients))
    u, values, tangent, gradients = results[0]
    for other_u, other_values, other_tangent, others in results[1:]:
        assert np.abs(other_u - u).max() <= 1e-12 * np.abs(u).max()
        assert other_values == pytest.approx(values, rel=1e-11)
        assert np.abs(other_tangent - tangent).max() <= 1e-11 * np.abs(tangent).max()
        for g, h in zip(gradients, others, strict=True):
            assert np.abs(g.points - h.points).max() <= 1e-10 * np.abs(g.points).max()
            for name, slope in g.parameters.items():
                assert np.abs(slope - h.parameters[name]).max() <= 1e-10 * np.abs(slope).max() + 1e-14


# ---------------------------------------------------------------------- the same as built in
def plane_stress(u: Any, v: Any, w: Any) -> Any:
    lam, mu = lame(MATERIAL["E"], MATERIAL["nu"])
    reduced = 2 * lam * mu / (lam + 2 * mu)
    return reduced * trace(grad(u)) * trace(grad(v)) + 2 * mu * ddot(sym_grad(u), sym_grad(v))


def strain_with_eye(u: Any, v: Any, w: Any) -> Any:
    lam, mu = lame(MATERIAL["E"], MATERIAL["nu"])
    e = sym_grad(u)
    return ddot(eye(lam * trace(e), len(e)) + 2 * mu * e, sym_grad(v))


def built_in_pairs(dim: int) -> dict[str, tuple[Any, fa.Form]]:
    """Built-in physics with the same written as a form."""
    rng = np.random.default_rng(7)
    root = rng.uniform(-1, 1, (dim, dim))
    spd = root @ root.T + np.eye(dim)
    general = spd + np.triu(root, 1) - np.triu(root, 1).T

    def conduction(k: Any) -> Callable[..., Any]:
        return lambda u, v, w: dot(mul(np.asarray(k)[..., None, None], grad(u)), grad(v))

    def isotropic(E: float, nu: float) -> Callable[..., Any]:
        return lambda u, v, w: ddot(stress(grad(u), E, nu), sym_grad(v))

    regional = fa.Diffusion({"low": 0.7, "high": 2.5})
    pairs: dict[str, tuple[Any, fa.Form]] = {
        "solid": (fa.Elasticity(**MATERIAL), fa.Form(strain_with_eye, element="vector")),
        "two solids": (
            fa.Elasticity(E={"low": 2.0, "high": 5.0}, nu={"low": 0.1, "high": 0.4}),
            fa.Form(
                [fa.Integral(isotropic(2.0, 0.1), "low"), fa.Integral(isotropic(5.0, 0.4), "high")], element="vector"
            ),
        ),
        "scalar": (fa.Diffusion(2.0), fa.Form(lambda u, v, w: 2 * dot(grad(u), grad(v)))),
        "parameter": (fa.Diffusion(2.0), fa.Form(lambda u, v, w: w.k * laplacian(u, v, w), parameters={"k": 2.0})),
        "tensor": (fa.Diffusion(spd), fa.Form(conduction(spd))),
        "nonsymmetric": (fa.Diffusion(general), fa.Form(conduction(general))),
        "by groups": (
            regional,
            fa.Form([fa.Integral(conduction(k * np.eye(dim)), g) for g, k in {"low": 0.7, "high": 2.5}.items()]),
        ),
    }
    if dim == 2:
        pairs["plane stress"] = (fa.Elasticity(**MATERIAL, plane="stress"), fa.Form(plane_stress, element="vector"))
    return pairs


def by_cell_pair(mesh: fa.Mesh) -> tuple[Any, fa.Form]:
    values = np.empty(mesh.n_cells)
    for group, value in {"low": 0.7, "high": 2.5}.items():
        values[mesh.cells_of(group)] = value
    form = fa.Form(lambda u, v, w: w.k * dot(grad(u), grad(v)), parameters={"k": fa.CellField(values)})
    return fa.Diffusion({"low": 0.7, "high": 2.5}), form


def loads_as_forms(dim: int, vector: bool) -> tuple[list[Any], list[fa.Integral]]:
    """Built-in loads with the same written as forms."""
    force = np.array([0.7, -1.1, 0.4])[:dim]
    if vector:
        return (
            [fa.BodyForce(force), fa.Traction("top", force), fa.Pressure("right", lambda x: 1.0 + x[1] ** 2)],
            [
                fa.Integral(lambda v, w: dot(force[:, None, None], v)),
                fa.Integral(lambda v, w: dot(force[:, None, None], v), "top"),
                fa.Integral(lambda v, w: -(1.0 + w.x[1] ** 2) * dot(w.n, v), "right"),
            ],
        )
    return (
        [fa.Source(wave), fa.Flux("top", -0.8)],
        [fa.Integral(lambda v, w: wave(w.x) * v), fa.Integral(lambda v, w: -0.8 * v, "top")],
    )


@pytest.mark.parametrize("cell", CELLS)
def test_forms_equal_built_in_physics(cell: str) -> None:
    mesh = mesh_of(cell)
    pairs = built_in_pairs(mesh.dim) | {"by cells": by_cell_pair(mesh)}
    shift = CELLS.index(cell)
    for number, (name, (physics, form)) in enumerate(pairs.items()):
        if cell not in TYPICAL and (number + shift) % 3:
            continue
        nc = len(physics.components(mesh.dim))
        loads, linear = loads_as_forms(mesh.dim, nc > 1)
        own = fa.Form(list(form._bilinear), linear, element=form._element, parameters=form.parameters)
        supports = supports_of("moving", mesh, nc)
        built_in = fa.LinearStatic(mesh, physics, supports, loads, threads=1)
        problem = fa.LinearStatic(mesh, own, supports, (), threads=1)
        kind = "general" if name == "nonsymmetric" else "spd"
        assert kind_of(problem) == kind_of(built_in) == kind, name
        assert problem.physics.components(mesh.dim) == built_in.physics.components(mesh.dim)
        for design in range(2):
            x = mesh.points + 0.05 * design * direction_of(mesh)
            expected, actual = Products(built_in).assemble(x), Products(problem).assemble(x)
            for a, e in (
                (actual.values, expected.values), (actual.rhs, expected.rhs), (actual.load, expected.load)
            ):  # fmt: skip
                assert np.abs(a - e).max() <= 1e-13 * np.abs(e).max(), name
            solution, there = problem.solve(x), built_in.solve(x)
            assert problem.counts.factorisations == built_in.counts.factorisations == design + 1
            functionals = functionals_of(mesh, nc)
            responses: list[fa.Response] = [fa.Compliance(), fa.FieldNorm(), functionals["flux"]]
            values, gradients = fa.values_and_gradients(solution, responses)
            others, theirs = fa.values_and_gradients(there, responses)
            assert problem.counts.factorisations == design + 1
            assert values == pytest.approx(others, rel=1e-12), name
            for g, h in zip(gradients, theirs, strict=True):
                # roundings of the matrix are multiplied by its condition
                assert np.abs(g.points - h.points).max() <= 1e-11 * np.abs(h.points).max(), name
            u, lam = np.random.default_rng(1).uniform(-1, 1, (2, *solution.u.shape))
            g1, g2 = (Products(p).contract(x, u, lam, lam) for p in (problem, built_in))
            assert np.abs(g1 - g2).max() <= 1e-13 * np.abs(g2).max(), name


def test_kind_of_the_matrix() -> None:
    mesh = mesh_of("quad")
    kinds = {
        "spd": (laplacian, lambda u, v, w: wave(w.x) * u * v),
        "symmetric": (laplacian, lambda u, v, w: -30.0 * u * v),
        "general": (laplacian, lambda u, v, w: w.x[0] * grad(u)[0] * v),
    }
    for kind, bilinear in kinds.items():
        problem = problem_from(mesh, fa.Form(bilinear, lambda v, w: v))
        assert kind_of(problem) == kind
        assert problem.residual.pattern.csr.triangle == ("full" if kind == "general" else "upper")
        assert_exact(problem, some(functionals_of(mesh, 1), 0))
        problem.solve()
    # positive only together: said by hand
    mixed = (laplacian, lambda u, v, w: -0.5 * u * v)
    assert kind_of(problem_from(mesh, fa.Form(mixed))) == "symmetric"
    declared = problem_from(mesh, fa.Form(mixed, lambda v, w: v, definite=True))
    assert kind_of(declared) == "spd"
    plain = problem_from(mesh, fa.Form(mixed, lambda v, w: v)).solve()
    assert np.abs(declared.solve().u - plain.u).max() <= 1e-12 * np.abs(plain.u).max()
    assert kind_of(problem_from(mesh, fa.Form(laplacian, definite=False))) == "symmetric"
    wrong = problem_from(mesh, fa.Form([laplacian, lambda u, v, w: -300.0 * u * v], definite=True))
    with pytest.raises(fa.IndefiniteSystemError):
        wrong.solve()


# ---------------------------------------------------------------------- the same as scikit-fem
def skfem_dofs(mesh: fa.Mesh, basis: Any, nc: int) -> npt.NDArray[np.int64]:
    """scikit-fem's number of every unknown ``node * nc + component``."""
    distance = np.abs(basis.doflocs.T[None] - mesh.points[:, None]).sum(axis=2)
    node, dof = np.nonzero(distance < 1e-9)
    assert np.array_equal(node, np.repeat(np.arange(mesh.n_nodes), nc))
    return dof


def skfem_basis(mesh: fa.Mesh, nc: int, order: int, facets: str | None = None) -> Any:
    name = mesh.blocks[0].type
    element = skfem_element(name)
    if nc > 1:
        element = skfem.ElementVector(element, nc)
    theirs = mesh.to_skfem()
    if facets is None:
        points, weights = quadrature(cell_type(name).shape, order)
        return skfem.Basis(theirs, element, quadrature=(np.ascontiguousarray(points.T), weights))
    return skfem.FacetBasis(theirs, element, facets=facets, intorder=order)


def fields_for(mesh: fa.Mesh, basis: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as scikit-fem takes them."""
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        values = np.asarray(getattr(value, "values", value), dtype=float)
        if isinstance(value, fa.NodalField):
            nc = 1 if values.ndim == 1 else values.shape[1]
            element = skfem_element(mesh.blocks[0].type)
            own = basis.with_element(element if nc == 1 else skfem.ElementVector(element, nc))
            vector = np.empty(own.N)
            vector[skfem_dofs(mesh, own, nc)] = values.ravel()
            found[name] = own.interpolate(vector)
        elif isinstance(value, fa.CellField):
            cells = basis.tind if getattr(basis, "tind", None) is not None else slice(None)
            found[name] = np.moveaxis(values[cells], 0, -1)[..., None] * np.ones(basis.dx.shape)
        else:
            found[name] = values[..., None, None] * np.ones(basis.dx.shape) if values.ndim else float(values)
    return found


def expected_system(mesh: fa.Mesh, form: fa.Form, order: int, facet_order: int) -> tuple[FloatArray, FloatArray]:
    """Matrix and load vector by scikit-fem, in our numbering."""
    nc = components_of(form, mesh)
    K = f = None
    for integrals, bilinear in ((form._bilinear, True), (form._linear, False)):
        for integral in integrals:
            place = integral.place(mesh)
            group = integral.group
            basis = skfem_basis(
                mesh, nc, order if place == "cells" else facet_order, None if place == "cells" else group
            )
            if place == "cells" and group is not None:
                name = mesh.blocks[0].type
                points, weights = quadrature(cell_type(name).shape, order)
                basis = skfem.Basis(
                    basis.mesh, basis.elem, quadrature=(np.ascontiguousarray(points.T), weights), elements=group
                )
            extra = fields_for(mesh, basis, form.parameters)
            dofs = skfem_dofs(mesh, basis, nc)
            if bilinear:
                part = skfem.BilinearForm(integral.form).assemble(basis, **extra).toarray()[np.ix_(dofs, dofs)]
                K = part if K is None else K + part
            else:
                part = np.asarray(skfem.LinearForm(integral.form).assemble(basis, **extra))[dofs]
                f = part if f is None else f + part
    assert K is not None
    return K, np.zeros(len(K)) if f is None else f


def dense(problem: fa.LinearStatic, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Assembled matrix, supported rows and columns excepted, and load vector."""
    assembled, csr = Products(problem).assemble(x), problem.residual.pattern.csr
    K = np.zeros((csr.n, csr.n))
    rows = np.repeat(np.arange(csr.n), np.diff(csr.indptr))
    K[rows, csr.indices] = assembled.values
    if csr.triangle == "upper":
        K[csr.indices, rows] = assembled.values
    return K, assembled.load.ravel()


def multiplied(problem: fa.LinearStatic, x: FloatArray) -> FloatArray:
    """The matrix without supports, column by column."""
    n, nc = problem.mesh.n_nodes, problem.residual.space.n_components
    columns = [Products(problem).stiffness_times(x, e.reshape(n, nc)).ravel() for e in np.eye(n * nc)]
    return np.array(columns).T


def assert_assembled(problem: fa.LinearStatic, expected: tuple[FloatArray, FloatArray]) -> None:
    """Compare what a problem assembles with a matrix and a load vector."""
    K, f = expected
    x = problem.mesh.points
    free = ~problem.residual.supports.fixed.ravel()
    ours, load = dense(problem, x)
    inner = np.ix_(free, free)
    assert np.abs(ours[inner] - K[inner]).max() <= 1e-12 * np.abs(K).max()
    assert np.abs(multiplied(problem, x) - K).max() <= 1e-12 * np.abs(K).max()
    assert np.abs(load - f).max() <= 1e-12 * max(np.abs(f).max(), 1e-300)


SKFEM_CELLS = ("triangle", "quad", "quad9", "tetra", "hexahedron")
CURVED_CELLS = ("triangle6", "tetra10", "hexahedron27", "wedge")


def ordered(form: fa.Form, mesh: fa.Mesh, order: int, facet_order: int) -> fa.Form:
    """The form with the same quadrature everywhere."""

    def with_order(integral: fa.Integral) -> fa.Integral:
        chosen = order if integral.place(mesh) == "cells" else facet_order
        return fa.Integral(integral.form, integral.group, order=chosen)

    return fa.Form(
        [with_order(i) for i in form._bilinear],
        [with_order(i) for i in form._linear],
        element=form._element,
        parameters=form.parameters,
    )


@pytest.mark.parametrize("cell", [c for c in (*SKFEM_CELLS, *CURVED_CELLS) if c != "hexahedron27"])  # slow
def test_matrices_equal_those_of_scikit_fem(cell: str) -> None:
    mesh = mesh_of(cell)
    for form in forms_of(mesh).values():
        on_facets = any(i.place(mesh) == "facets" for i in (*form._bilinear, *form._linear))
        if on_facets and cell not in ("triangle", "quad", "quad9", "hexahedron", "triangle6"):
            continue  # rules on triangular facets start at another corner; wedges have none
        if dim_of(cell) == 3 and components_of(form, mesh) == 2 and cell not in SKFEM_CELLS:
            continue  # scikit-fem has no vectors of two on the edges of solids
        same = ordered(form, mesh, 6, 5)
        assert_assembled(problem_from(mesh, same), expected_system(mesh, same, 6, 5))


def test_mesh_size_and_normal_are_those_of_scikit_fem() -> None:
    for cell in ("triangle", "quad9", "hexahedron"):
        mesh = mesh_of(cell)
        form = ordered(
            fa.Form(
                [lambda u, v, w: w.h * u * v, fa.Integral(lambda u, v, w: w.h**2 * w.n[0] * u * grad(v)[1], "top")],
                [fa.Integral(lambda v, w: (w.h + w.n[1]) * v * w.x[0], "boundary"), lambda v, w: w.h**2 * v],
            ),
            mesh, 4, 5,
        )  # fmt: skip
        assert_assembled(problem_from(mesh, form), expected_system(mesh, form, 4, 5))


# ---------------------------------------------------------------------- what probing finds out
class Counted:
    """A form that counts how often it is called."""

    def __init__(self, form: Callable[..., Any]) -> None:
        self.form = form
        self.calls = 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        return self.form(*arguments)


def test_constant_forms_are_evaluated_at_one_point_of_a_design() -> None:
    """Few times, on single points, whatever the mesh: that what they refer to has not changed."""
    mesh = mesh_of("quad8")
    shapes = []

    def reaction(u: Any, v: Any, w: Any) -> Any:
        shapes.append(np.shape(u))
        return u * v

    bilinear = [Counted(laplacian), Counted(reaction)]
    linear = Counted(lambda v, w: 2.0 * v)
    problem = problem_from(mesh, fa.Form([bilinear[0], fa.Integral(bilinear[1], "boundary")], linear))
    for number in range(3):
        before = [form.calls for form in (*bilinear, linear)]
        shapes.clear()
        solution = problem.solve(mesh.points + 0.01 * number * direction_of(mesh))
        fa.value_and_gradient(solution, fa.Compliance())
        Products(problem).tangent(solution.points, direction_of(mesh), solution.u)
        calls = [form.calls - n for form, n in zip((*bilinear, linear), before, strict=True)]
        assert all(1 <= n <= 30 for n in calls), calls
        assert sum(m * nq for m, nq in shapes) <= 30 + 6 * SAMPLED_ENTITIES * 9  # looked at once at the solution
    assert problem.counts.factorisations == 3


def test_forms_of_parameters_are_evaluated_at_one_point() -> None:
    mesh = mesh_of("quad8")
    shapes = set()

    def conduction(u: Any, v: Any, w: Any) -> Any:
        shapes.add(np.shape(u))
        return w.k * dot(grad(u), grad(v))

    problem = problem_from(mesh, fa.Form(conduction, lambda v, w: v, parameters={"k": 2.0}))
    shapes.clear()
    problem.solve(parameters={"k": 3.0})
    assert {m for m, _ in shapes} <= {1, mesh.n_cells}  # one point, and the look at the solution
    by_cell = fa.Form(conduction, lambda v, w: v, parameters={"k": fa.CellField(np.ones(mesh.n_cells))})
    problem = problem_from(mesh, by_cell)
    shapes.clear()
    problem.solve()
    assert (mesh.n_cells, 1) in shapes


def test_forms_of_x_are_evaluated_for_every_design() -> None:
    mesh = mesh_of("quad8")
    seen = []

    def conduction(u: Any, v: Any, w: Any) -> Any:
        if not np.iscomplexobj(w.x) and np.shape(w.x)[1:] == (mesh.n_cells, 9):  # leaves the few points out
            seen.append(float(np.mean(w.x[0])))
        return wave(w.x) * dot(grad(u), grad(v))

    problem = problem_from(mesh, fa.Form(conduction, lambda v, w: v))
    for shift in (0.0, 1.0, -2.0):
        seen.clear()
        Products(problem).assemble(mesh.points + shift)
        assert len(seen) == 2  # one independent coefficient, and the check
        assert seen == pytest.approx([3.5 + shift] * 2, abs=0.2)
    general = problem_from(mesh, fa.Form(lambda u, v, w: conduction(u, v, w) + np.cos(w.x[1]) * u * v))
    seen.clear()
    Products(general).assemble(mesh.points)
    assert len(seen) == 3


def large_mesh() -> tuple[fa.Mesh, FloatArray]:
    """A mesh with more cells than are sampled, and a point far from the sampled cells."""
    mesh = turned(box_mesh("quad", (8, 8), distortion=0.1, origin=ORIGIN[:2], seed=1))
    (domain,) = Discretisation.of(mesh, 1, 1).cells("mass")
    sampled = sample_of(domain)
    assert len(sampled) == SAMPLED_ENTITIES < mesh.n_cells
    taken = mesh.points[np.unique(mesh.blocks[0].nodes[sampled.cell])]
    centres = mesh.points[mesh.blocks[0].nodes].mean(axis=1)
    distance = np.linalg.norm(centres[:, None] - taken, axis=2).min(axis=1)
    distance[np.abs(centres - centres.mean(axis=0)).max(axis=1) > 0.4] = 0.0  # not at supports
    assert distance.max() > 0.055
    return mesh, centres[distance.argmax()]


MISSED: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "the same": (
        lambda u, v, w, there: wave(w.x) * (1 + 3 * there) * dot(grad(u), grad(v)),
        lambda v, w, there: (1 + there) * w.x[0] * v,
    ),
    "another rank": (
        lambda u, v, w, there: wave(w.x) * dot(grad(u), grad(v)) + 5 * there * grad(u)[0] * grad(v)[0],
        lambda v, w, there: v + 50 * there * grad(v)[1],
    ),
    "values beside gradients": (
        lambda u, v, w, there: wave(w.x) * dot(grad(u), grad(v)) + 100 * there * u * v,
        lambda v, w, there: grad(v)[0] + 50 * there * v,
    ),
    "gradients beside values": (
        lambda u, v, w, there: wave(w.x) * u * v + there * dot(grad(u), grad(v)),
        lambda v, w, there: v * w.x[0],
    ),
    "gradients alone": (
        lambda u, v, w, there: there * dot(grad(u), grad(v)), lambda v, w, there: there * grad(v)[0]
    ),
    "values alone": (lambda u, v, w, there: there * u * v, lambda v, w, there: there * v),
}  # fmt: skip
"""Forms of a coefficient that vanishes on all entities that are sampled."""


def spot(centre: FloatArray) -> Callable[[Any], Any]:
    """A function of ``w`` that vanishes but near a point."""

    def there(w: Any) -> Any:
        return np.where((w.x[0] - centre[0]) ** 2 + (w.x[1] - centre[1]) ** 2 < 0.05**2, 1.0 + w.x[1] ** 2, 0.0)

    return there


@pytest.mark.parametrize("name", MISSED)
def test_coefficients_that_differ_off_the_sample(name: str) -> None:
    mesh, centre = large_mesh()
    bilinear, linear = MISSED[name]
    there = spot(centre)
    form = fa.Form(
        [laplacian, lambda u, v, w: bilinear(u, v, w, there(w))], [lambda v, w: linear(v, w, there(w))]
    )  # fmt: skip
    own = ordered(form, mesh, 4, 4)
    K, f = expected_system(mesh, own, 4, 4)
    without = fa.Form(
        [laplacian, lambda u, v, w: bilinear(u, v, w, 0.0)], lambda v, w: linear(v, w, 0.0) + 0.0 * v
    )  # fmt: skip
    other_K, other_f = expected_system(mesh, ordered(without, mesh, 4, 4), 4, 4)
    assert np.abs(K - other_K).max() > 1e-3
    assert (np.abs(f - other_f).max() > 1e-4) == (name != "gradients beside values")
    problem = problem_from(mesh, own)
    assert_assembled(problem, (K, f))
    functionals = functionals_of(mesh, 1)
    assert_exact(problem, {name: functionals[name] for name in ("fourth power", "tracking")})


def test_asymmetry_off_the_sample_is_found() -> None:
    mesh, centre = large_mesh()
    there = spot(centre)
    form = fa.Form(
        lambda u, v, w: dot(grad(u), grad(v)) + u * v + 30 * there(w) * grad(u)[0] * v, lambda v, w: v
    )  # fmt: skip
    own = ordered(form, mesh, 4, 4)
    K, f = expected_system(mesh, own, 4, 4)
    assert np.abs(K - K.T).max() > 1e-2
    problem = problem_from(mesh, own)
    if problem.residual.symmetric:
        with pytest.raises(fa.FormError, match=r"<lambda>.*symmetric"):
            problem.solve()
    else:
        assert_assembled(problem, (K, f))


@pytest.mark.parametrize("zero", ["bilinear", "linear", "x"])
def test_forms_that_vanish(zero: str) -> None:
    mesh = mesh_of("quad")
    forms: dict[str, tuple[Any, Any]] = {
        "bilinear": ([laplacian, lambda u, v, w: 0.0 * u * v], lambda v, w: v),
        "linear": (laplacian, [lambda v, w: v, lambda v, w: 0.0 * v]),
        "x": ([laplacian, lambda u, v, w: np.where(w.x[0] > 99, 1.0, 0.0) * u * v], lambda v, w: v),
    }
    problem = problem_from(mesh, fa.Form(*forms[zero]))
    plain = problem_from(mesh, fa.Form(laplacian, lambda v, w: v))
    assert np.abs(problem.solve().u - plain.solve().u).max() <= 1e-13
    assert_exact(problem, some(functionals_of(mesh, 1), 0))


def test_explanations_name_route_and_reasons() -> None:
    mesh = mesh_of("quad+triangle")

    def conduction(u: Any, v: Any, w: Any) -> Any:
        return 2.0 * dot(grad(u), grad(v))

    def robin(u: Any, v: Any, w: Any) -> Any:
        return w.alpha * u * v

    def reaction(u: Any, v: Any, w: Any) -> Any:
        return np.sin(w.x[0]) * u * v + np.exp(w.x[1]) * dot(grad(u), grad(v))

    def by_cell(u: Any, v: Any, w: Any) -> Any:
        return w.k * u * v

    def source(v: Any, w: Any) -> Any:
        return dot(w.n, grad(w.T)) * v

    form = fa.Form(
        [conduction, fa.Integral(robin, "top"), fa.Integral(reaction, "high"), by_cell],
        fa.Integral(source, "boundary"),
        parameters={
            "alpha": 2.0,
            "T": fa.NodalField(np.ones(mesh.n_nodes)),
            "k": fa.CellField(np.ones(mesh.n_cells)),
        },
    )
    lines = form.explain(mesh).splitlines()
    assert all("compiled kernels" in line for line in lines)

    def line(*words: str) -> str:
        (found,) = [text for text in lines if all(word in text for word in words)]
        return found

    constant = line("bilinear form 'conduction'", "over cells (all, quad")
    assert "gradients; reads nothing; constant coefficients, evaluated once" in constant
    assert "triangle" in line("'conduction'", "(all, triangle")
    text = line("'robin'", "over facets (top, triangle")
    assert "values; reads alpha; constant coefficients, evaluated once at every design" in text
    text = line("'reaction'", "over cells (high")
    assert "values and gradients; reads x; 2 independent coefficients" in text
    assert "at every quadrature point of every design" in text
    text = line("'by_cell'", "(all, quad")
    assert "values; reads k; 1 independent coefficient, evaluated once in every cell of every design" in text
    for text in [text for text in lines if "linear form 'source'" in text]:
        assert "bilinear" not in text
        assert "reads T, T.grad, n" in text
    assert repr(form) == "Form(conduction, robin, reaction, by_cell, source; element=1)"


def test_scikit_fem_forms_are_taken_as_they_are() -> None:
    mesh = mesh_of("triangle6")

    @skfem.BilinearForm
    def conduction(u: Any, v: Any, w: Any) -> Any:
        return wave(w.x) * dot(grad(u), grad(v))

    @skfem.LinearForm
    def source(v: Any, w: Any) -> Any:
        return w.x[0] * v

    decorated = problem_from(mesh, fa.Form(conduction, source))
    plain = problem_from(mesh, fa.Form(conduction.form, source.form))
    assert np.array_equal(decorated.solve().u, plain.solve().u)
    assert "conduction" in repr(decorated.physics)
    squared = fa.Functional(skfem.Functional(lambda w: w.u**2))
    expected = fa.FieldNorm().evaluate(plain.solve()).value
    assert squared.evaluate(plain.solve()).value == pytest.approx(expected, rel=1e-13)


def test_what_a_form_is() -> None:
    mesh = mesh_of("tetra")
    scalar, system = fa.Form(laplacian), fa.Form(laplacian, element=2)
    vector = fa.Form(laplacian, element="vector")
    assert scalar.components(3) == scalar.components(2) == ("u",)
    assert system.components(3) == ("u0", "u1")
    assert vector.components(3) == ("x", "y", "z")
    assert (scalar.quantity, system.quantity, vector.quantity) == ("scalar", "displacement", "displacement")
    assert scalar.thickness_in(2) == 1.0
    with pytest.raises(fa.ResponseError, match="Mass: a Form has no density"):
        fa.Mass().evaluate(problem_from(mesh, fa.Form(laplacian, lambda v, w: v)).solve())
    with pytest.raises(fa.FemadjError, match="no density"):
        fa.LinearStatic(mesh, forms_of(mesh)["elasticity"], [fa.Fixed("left")], [fa.Gravity((0, 0, -1.0))])
