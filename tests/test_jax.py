"""Functionals differentiated by JAX: the same values and derivatives as by complex step, and clear errors.

Meshes are bent, of both cell orientations and away from the origin; the state is that of a problem whose parameters
the functionals read, too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import skfem
import skfem.helpers
from skfem.helpers import ddot, dot, grad, sym_grad, trace

import femadj as fa
from femadj.forms.differentiation import differentiable
from femadj.forms.functional import PointFunctional
from femadj.forms.integrand import Integrand
from femadj.space import maps
from femadj.space.element import ElementSpace
from femadj.space.parameters import Parameters
from tests.meshes import box_mesh
from tests.test_gradients import assert_exact, mesh_of, supports_of

CELLS = ("triangle6", "tetra", "hexahedron")
TOLERANCE = 1e-12


class Dialect(NamedTuple):
    """What an integrand is written with."""

    xp: Any
    helpers: Any


NUMPY = Dialect(np, skfem.helpers)


@pytest.fixture(scope="module")
def jax() -> ModuleType:
    """JAX, whose global precision the tests leave as it is."""
    return pytest.importorskip("jax", reason="JAX is not installed: pip install 'femadj[jax]'")


@pytest.fixture(scope="module")
def dialect(jax: ModuleType) -> Any:
    """``jax.numpy`` and scikit-fem's helpers for it, which switch JAX to double precision when they are imported."""
    import jax.numpy as jnp

    before = jax.config.jax_enable_x64
    from skfem.autodiff import helpers

    jax.config.update("jax_enable_x64", before)
    return Dialect(jnp, helpers)


# ---------------------------------------------------------------------- what is compared
@cache
def solution_of(cell: str, nc: int) -> fa.Solution:
    """A problem with a nodal, a cell and a constant parameter."""
    mesh = mesh_of(cell)
    rng = np.random.default_rng(4)
    parameters = {
        "k": fa.NodalField(rng.uniform(1, 2, mesh.n_nodes)),
        "c": fa.CellField(rng.uniform(1, 2, mesh.n_cells)),
        "r": 0.8,
    }
    if nc == 1:
        form = fa.Form(
            lambda u, v, w: w.k * w.c * dot(grad(u), grad(v)) + w.r * u * v,
            lambda v, w: np.sin(w.x[0]) * v,
            parameters=parameters,
        )
    else:
        form = fa.Form(
            lambda u, v, w: w.k * w.c * ddot(sym_grad(u), sym_grad(v)) + w.r * dot(u, v),
            lambda v, w: np.sin(w.x[0]) * v[0],
            element="vector",
            parameters=parameters,
        )
    return fa.LinearStatic(mesh, form, supports_of("moving", mesh, nc), threads=1).solve()


def fields(mesh: fa.Mesh) -> dict[str, Any]:
    """Parameters of every kind."""
    rng = np.random.default_rng(5)
    return {
        "target": fa.NodalField(rng.uniform(-1, 1, mesh.n_nodes)),
        "flow": fa.NodalField(rng.uniform(-1, 1, (mesh.n_nodes, 2))),
        "each": fa.CellField(rng.uniform(0.5, 1.5, mesh.n_cells)),
        "pair": fa.CellField(rng.uniform(0.5, 1.5, (mesh.n_cells, 2))),
        "scale": 1.3,
        "weight": np.array([0.7, 0.2]),
        "tensor": rng.uniform(-1, 1, (mesh.dim, mesh.dim)),
    }


def scalars(mesh: fa.Mesh, dialect: Dialect) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Integrals of a scalar state, and options."""
    xp, h = dialect
    everything = {"parameters": fields(mesh)}

    def tracking(w: Any) -> Any:
        mismatch = (w.u - w.target) ** 2 * w.each * w.weight[0]
        along = h.dot(w.target.grad, h.grad(w.u)) ** 2 + h.dot(w.flow, w.flow) + w.flow.grad[1, 0] ** 2
        return w.scale * mismatch + w.weight[1] * along * w.pair[1] / w.pair[0] + xp.exp(-w.u) * w.r

    def tensor(w: Any) -> Any:
        return h.dot(h.mul(w.tensor, w.u.grad), w.x) * w.c + (w.k - w.u) ** 2

    return {
        "fourth power": (lambda w: w.u**4, {}),
        "gradient to 2.5": (lambda w: h.dot(w.u.grad, w.u.grad) ** 1.25, {}),
        "flux": (fa.Integral(lambda w: xp.sin(w.x[0]) * h.dot(h.grad(w.u), w.n), "top"), {}),
        "inner facets": (fa.Integral(lambda w: xp.exp(-w.u) * w.x[0] * w.k, "middle"), {}),
        "normal and size": (
            fa.Integral(lambda w: xp.exp(-(w.u**2)) * w.n[0] ** 2 * w.h + w.n[1] * w.x[1] * w.each, "boundary"),
            everything,
        ),
        "fields on facets": (
            fa.Integral(lambda w: h.dot(w.k.grad, w.n) * w.u + w.flow[0] * w.r, "boundary"),
            everything,
        ),
        "size of cells": (lambda w: w.h**2 * h.dot(w.u.grad, w.u.grad) + xp.sqrt(w.h), {"power": 2}),
        "tracking": (tracking, everything),
        "tensor": (tensor, everything),
        "several": ([lambda w: abs(w.u) ** 3 + 0.1, fa.Integral(lambda w: 2 / (3 + w.u), "top")], {"power": 1 / 3}),
        "kinks": (lambda w: xp.where(w.u > 0.1, w.u, 0.1 * w.u) + xp.maximum(-w.u, 0.05) + 0 * w.x[0], {}),
        "nothing read": (lambda w: 2.0, {}),
        "order": (fa.Integral(lambda w: -w.u * w.x[1] + w.u / 7, "low", order=4), {}),
    }


def vectors(mesh: fa.Mesh, dialect: Dialect) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Integrals of a vector state, and options."""
    xp, h = dialect
    identity = np.eye(mesh.dim)

    def mises(w: Any) -> Any:
        strain = h.sym_grad(w.u)
        stress = 2 * (w.scale + w.k) * strain + w.k * xp.einsum("ij,...->ij...", identity, h.trace(strain))
        part = stress - xp.einsum("ij,...->ij...", identity / mesh.dim, h.trace(stress))
        return 1.5 * h.ddot(part, part)

    return {
        "von Mises": (lambda w: mises(w) ** 4, {"power": 1 / 8, "parameters": {"scale": 1.3}}),
        "fourth power": (lambda w: h.dot(w.u, w.u) ** 2, {}),
        "gradient to 2.5": (lambda w: h.ddot(w.u.grad, w.u.grad) ** 1.25, {}),
        "work of a pressure": (fa.Integral(lambda w: w.x[0] * h.dot(w.u, w.n) * w.c, "boundary"), {}),
        "divergence on facets": (fa.Integral(lambda w: (h.div(w.u) + w.u[1]) ** 2 / w.h, "boundary"), {}),
        "norm": (lambda w: xp.linalg.norm(w.u, axis=0) * w.x[1] + w.u.sum(axis=0), {}),
    }


SCALARS = tuple(scalars(mesh_of("triangle6"), NUMPY))
VECTORS = tuple(vectors(mesh_of("triangle6"), NUMPY))
CASES = [(1, name) for name in SCALARS] + [(0, name) for name in VECTORS]
"""Components (0: as many as dimensions) and names."""


def evaluations(cell: str, nc: int, name: str, dialect: Dialect) -> tuple[fa.Evaluation, fa.Evaluation]:
    """By complex step and by JAX."""
    mesh = mesh_of(cell)
    of: Callable[..., Any] = scalars if nc == 1 else vectors
    solution = solution_of(cell, nc or mesh.dim)
    (first, options), (second, _) = of(mesh, NUMPY)[name], of(mesh, dialect)[name]
    return (
        fa.Functional(first, **options).evaluate(solution),
        fa.Functional(second, **options, differentiation="jax").evaluate(solution),
    )


def assert_same(a: fa.Evaluation, b: fa.Evaluation) -> None:
    assert b.value == pytest.approx(a.value, rel=TOLERANCE)
    assert set(a.parameters) == set(b.parameters)
    pairs = [(a.state, b.state), (a.points, b.points), *((a.parameters[n], b.parameters[n]) for n in a.parameters)]
    for x, y in pairs:
        assert x is not None
        assert y is not None
        np.testing.assert_allclose(y, x, rtol=0, atol=TOLERANCE * np.abs(x).max())


# ---------------------------------------------------------------------- agreement
@pytest.mark.parametrize(("nc", "name"), CASES)
@pytest.mark.parametrize("cell", CELLS)
def test_both_ways_agree(cell: str, nc: int, name: str, dialect: Dialect) -> None:
    assert_same(*evaluations(cell, nc, name, dialect))


@pytest.mark.parametrize("over", ["cells", "facets"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_both_ways_agree_on_other_elements(number: int, over: Any, jax: ModuleType) -> None:
    """H1, H(div) and H(curl) fields, by tables of shape functions."""
    mesh = mesh_of("triangle6")
    p1, p2, rt, ned = skfem.ElementTriP1(), skfem.ElementTriP2(), skfem.ElementTriRT1(), skfem.ElementTriN1()
    element = (skfem.ElementVector(p2) * p1, rt * skfem.ElementTriP0(), ned)[number]
    rng = np.random.default_rng(1)
    space = ElementSpace.on(mesh, element)
    u = rng.uniform(-1, 1, space.shape)
    parameters = Parameters.of(mesh, {"k": 1.3, "t": fa.NodalField(rng.uniform(1, 2, mesh.n_nodes))}, "test")

    def function(*arguments: Any) -> Any:
        *fields, w = arguments
        total = w.k * w.x[0] + w.t.grad[1] + w.h
        for field in fields:
            for array in (field, field.grad, field.div, field.curl):
                if array is not None:
                    flat = array.reshape(-1, *array.shape[-2:])
                    total = total * (1.0 + 0.1 * (flat**2).sum(0))
        return total * (2.0 + w.n[0]) if over == "facets" else total

    found = []
    for way in ("complex step", "jax"):
        (fields,) = space.maps(over, "right" if over == "facets" else None, 3)
        state, nodes, slopes = np.zeros_like(u), np.zeros_like(mesh.points), parameters.zeros()
        integral = PointFunctional(differentiable(Integrand.of(function), way), fields, mesh.points, parameters, u)
        value = integral.add_partials(state, nodes, slopes)
        assert integral.value() == pytest.approx(value, rel=1e-14)
        found.append(fa.Evaluation(value, state=state, points=nodes, parameters=slopes))
    assert_same(*found)


@pytest.mark.parametrize("cell", CELLS)
def test_whole_gradients_against_differences(cell: str, dialect: Dialect) -> None:
    solution = solution_of(cell, 1)
    chosen = scalars(solution.problem.mesh, dialect)
    functionals = {
        name: fa.Functional(chosen[name][0], **chosen[name][1], differentiation="jax")
        for name in ("gradient to 2.5", "normal and size", "tracking")
    }
    assert_exact(solution.problem, functionals)


def test_products_of_hessians_agree(jax: ModuleType) -> None:
    """Forward over reverse sweeps, and dual numbers over complex steps."""
    mesh = mesh_of("quad")
    problem = fa.LinearStatic(mesh, fa.Elasticity(2.0, 0.3), [fa.Fixed("left")], [fa.Traction("top", (0.3, -1.0))])
    solution, field = problem.solve(), {"q": fa.NodalField(mesh.points[:, 0] ** 2)}

    def integrand(np: Any, w: Any) -> Any:
        return np.exp(w.u[0]) * w.u.grad[0, 1] ** 2 * w.E**2 + np.sin(w.u[1] * w.x[0]) * w.q.grad[0] ** 2 / w.h

    along = {"points": 0.1 * mesh.points, "E": np.array(0.7)}
    by_step = fa.hessian(solution, fa.Functional(lambda w: integrand(np, w), parameters=field)) @ along
    automatic = fa.Functional(lambda w: integrand(jax.numpy, w), parameters=field, differentiation="jax")
    by_sweeps = fa.hessian(solution, automatic) @ along
    for name, expected in by_step.items():
        np.testing.assert_allclose(by_sweeps[name], expected, rtol=1e-11, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("threads", [1, 2])
def test_many_chunks(threads: int, dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "CHUNK_POINTS", 50)
    mesh = box_mesh("quad+triangle", (9, 8), distortion=0.1)
    problem = fa.LinearStatic(mesh, fa.Diffusion(1.0), [fa.Fixed("left")], [fa.Source(1.0)], threads=threads)
    solution = problem.solve()
    h = dialect.helpers
    a = fa.Functional(lambda w: dot(w.u.grad, w.u.grad) * w.x[0] + w.u**3)
    b = fa.Functional(lambda w: h.dot(w.u.grad, w.u.grad) * w.x[0] + w.u**3, differentiation="jax")
    assert_same(a.evaluate(solution), b.evaluate(solution))


def test_integrands_of_operators_alone_fit_both_ways(jax: ModuleType) -> None:
    solution = solution_of("tetra", 1)

    def f(w: Any) -> Any:
        return (1 - np.float64(2) * w.u + np.ones((1, 1)) * w.u / 3) ** 2 * abs(-w.k) + 2 ** (+w.u) * (w.u > 0)

    both = [fa.Functional(f, differentiation=way).evaluate(solution) for way in ("complex step", "jax")]
    assert_same(*both)


def test_compiled_and_branching_integrands(jax: ModuleType) -> None:
    """Fields pass through compiled functions and branches of JAX with their gradients."""
    solution = solution_of("tetra", 1)

    @jax.jit
    def slope(field: Any) -> Any:
        return field.grad[0] * field

    def f(w: Any) -> Any:
        value = jax.lax.exp(w.u.value)
        return jax.lax.cond((w.u > 0).reshape(()), lambda v: 2 * v, lambda v: v**2, value) * slope(w.k)

    def g(w: Any) -> Any:
        value = np.exp(w.u)
        return np.where(w.u > 0, 2 * value, value**2) * w.k.grad[0] * w.k

    assert_same(fa.Functional(g).evaluate(solution), fa.Functional(f, differentiation="jax").evaluate(solution))


# ---------------------------------------------------------------------- compilation and precision
def test_compiled_once_for_every_shape(dialect: Dialect) -> None:
    traced = []

    def f(w: Any) -> Any:
        if w.u.shape == (1, 1):  # that of compilation, point by point
            traced.append(w.u.shape)
        return dialect.xp.sin(w.u) * w.x[0] * w.k

    functional = fa.Functional(f, differentiation="jax")
    problem = solution_of("triangle6", 1).problem
    first = functional.evaluate(problem.solve())
    count = len(traced)
    moved = problem.mesh.points * 1.01
    second = functional.evaluate(problem.solve(points=moved))
    assert len(traced) == count
    assert count > 0
    again = functional.evaluate(problem.solve())
    assert again.value == first.value != second.value
    np.testing.assert_array_equal(again.parameters["k"], first.parameters["k"])


@pytest.mark.parametrize("double", [False, True])
def test_global_precision_stays_as_it_is(double: bool, jax: ModuleType) -> None:
    import jax.numpy as jnp

    before = jax.config.jax_enable_x64
    solution = solution_of("triangle6", 1)
    try:
        jax.config.update("jax_enable_x64", double)
        by_jax = fa.Functional(lambda w: jnp.exp(w.u) * w.x[0], differentiation="jax").evaluate(solution)
        assert jax.config.jax_enable_x64 is double
        assert jnp.ones(2).dtype == (jnp.float64 if double else jnp.float32)
    finally:
        jax.config.update("jax_enable_x64", before)
    assert_same(fa.Functional(lambda w: np.exp(w.u) * w.x[0]).evaluate(solution), by_jax)


# ---------------------------------------------------------------------- errors
NUMPY_CALLS: dict[str, Callable[[Any], Any]] = {
    "array function": lambda w: np.einsum("i...,i...", w.u.grad, w.u.grad),
    "array function of a field": lambda w: np.linalg.norm(w.x, axis=0),
    "ufunc": lambda w: np.sin(w.u + 1),
    "ufunc of a field": lambda w: np.sin(w.u),
    "array of entries": lambda w: np.array([w.u.grad[0], w.u.grad[1]])[0],
    "helpers for NumPy": lambda w: dot(w.u.grad, w.x) + trace(w.k.grad[None]),
}


@pytest.mark.parametrize("name", NUMPY_CALLS)
def test_numpy_calls_are_explained(name: str, jax: ModuleType) -> None:
    functional = fa.Functional(fa.Integral(NUMPY_CALLS[name], name="mine"), differentiation="jax")
    with pytest.raises(fa.FormError, match=r"'mine'.*use jax\.numpy.*skfem\.autodiff\.helpers"):
        functional.evaluate(solution_of("triangle6", 1))


WRONG: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "branch": (lambda w, jax: w.u if w.u > 0 else -w.u, r"value of an argument.*jax\.numpy\.where"),
    "float": (lambda w, jax: w.u * float(w.r), "value of an argument"),
    "lax": (lambda w, jax: jax.lax.sin(w.u), r"w\.u\.value for w\.u"),
    "unknown name": (lambda w, jax: w.u * w.nothing, "it reads w.nothing, but over cells there are only"),
    "unknown entry": (lambda w, jax: w.u * w["nothing"], "there are only"),
    "normal of cells": (lambda w, jax: w.u * w.n[0], "it reads w.n, but over cells"),
    "no gradient": (lambda w, jax: w.c.grad[0], "TypeError"),
    "vector": (lambda w, jax: w.u.grad, r"one number at every quadrature point.*\(2, 1, 1\)"),
    "wrong index": (lambda w, jax: w.x["a"], "failed"),
    "complex": (lambda w, jax: w.u * 1j, "real numbers in double precision"),
    "single": (lambda w, jax: w.u.astype("float32"), "real numbers in double precision, not float32"),
    "nothing": (lambda w, jax: None, "failed"),
    "text": (lambda w, jax: "text", "failed"),
    "NaN": (lambda w, jax: jax.numpy.sqrt(-1 - w.u**2), "is NaN or infinite"),
    "infinite derivative": (lambda w, jax: jax.numpy.sqrt(0 * w.u), "is NaN or infinite"),
    "kept state": (lambda w, jax: jax.lax.stop_gradient(w.u**2) + w.u, "disagrees with differences"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_differentiated_is_named(name: str, jax: ModuleType) -> None:
    function, message = WRONG[name]
    functional = fa.Functional(fa.Integral(lambda w: function(w, jax), name="mine"), differentiation="jax")
    with pytest.raises(fa.FormError, match=f"form 'mine'.*{message}"):
        functional.evaluate(solution_of("triangle6", 1))


def test_wrong_derivatives_of_its_own_are_found(jax: ModuleType) -> None:
    @jax.custom_vjp
    def cube(x: Any) -> Any:
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, slope: (2 * x**2 * slope,))
    with pytest.raises(fa.FormError, match="disagrees with differences"):
        fa.Functional(lambda w: cube(w.u.value), differentiation="jax").evaluate(solution_of("tetra", 1))


def test_nan_far_from_the_sample_is_found(jax: ModuleType) -> None:
    mesh = box_mesh("quad", (20, 20))
    problem = fa.LinearStatic(mesh, fa.Diffusion(1.0), [fa.Fixed("left")], [fa.Source(1.0)], threads=1)
    functional = fa.Functional(lambda w: jax.numpy.sqrt(w.x[0] - 0.02) * (w.u + 1), differentiation="jax")
    with pytest.raises(fa.FormError, match="is NaN or infinite"):
        functional.evaluate(problem.solve())


def test_normal_and_gradient_have_two_sides(jax: ModuleType) -> None:
    functional = fa.Functional(fa.Integral(lambda w: w.n[0] * w.u.grad[0], "middle"), differentiation="jax")
    with pytest.raises(fa.ResponseError, match="reads the normal and the gradient of the state"):
        functional.evaluate(solution_of("quad8", 1))
    functional = fa.Functional(fa.Integral(lambda w: w.n[0] * w.u, "middle"), differentiation="jax")
    for _ in range(2):  # what is read is known when compiled code is used again
        with pytest.raises(fa.ResponseError, match="reads the normal on"):
            functional.evaluate(solution_of("quad8", 1))


def test_unknown_way() -> None:
    with pytest.raises(fa.FormError, match="'complex step' or 'jax', not 'magic'"):
        fa.Functional(lambda w: w.u, differentiation="magic")  # type: ignore[arg-type]


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(fa.MissingExtraError, match=r"pip install 'femadj\[jax\]'"):
        fa.Functional(lambda w: w.u, differentiation="jax")
    fa.Functional(lambda w: w.u)


def test_jax_is_imported_only_when_asked_for() -> None:
    code = "import sys, femadj as fa; fa.Functional(lambda w: w.u); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------------- points that see each other, frozen values
MIXING: dict[str, Callable[[Any, Any], Any]] = {
    "largest": lambda w, np: (w.u / w.u.value.max()) ** 4,
    "mean": lambda w, np: (w.x[0] - np.mean(w.x[0])) ** 2 * w.u,
    "norm without axis": lambda w, np: w.u * np.linalg.norm(w.u.grad),
    "sum of a parameter": lambda w, np: w.u * w.k.value / np.sum(w.k.value),
    "order": lambda w, np: np.sort(w.u.value, axis=0),
    "number of points": lambda w, np: w.u / w.x[0].size,
}


@pytest.mark.parametrize("name", MIXING)
def test_reductions_over_points_are_refused(name: str, jax: ModuleType) -> None:
    import jax.numpy as jnp

    functional = fa.Functional(fa.Integral(lambda w: MIXING[name](w, jnp), name="mine"), differentiation="jax")
    for _ in range(2):
        with pytest.raises(fa.FormError, match=r"form 'mine' mixes points.*axis=0"):
            functional.evaluate(solution_of("triangle6", 1))


def test_reductions_over_components_are_not(dialect: Dialect) -> None:
    solution = solution_of("triangle6", 2)
    xp = dialect.xp
    functions = [
        fa.Functional(lambda w: np.max(w.x, axis=0) * np.sum(w.u.grad, axis=(0, 1))),
        fa.Functional(lambda w: xp.max(w.x.value, axis=0) * xp.sum(w.u.grad, axis=(0, 1)), differentiation="jax"),
    ]
    assert_same(*(functional.evaluate(solution) for functional in functions))


def test_values_that_functions_refer_to_are_the_present_ones(jax: ModuleType) -> None:
    solution = solution_of("triangle6", 1)
    factor = [1.0]
    functional = fa.Functional(lambda w: factor[0] * w.u**2 * w.k, differentiation="jax")
    first = functional.evaluate(solution)
    factor[0] = 2.5
    second = functional.evaluate(solution)
    assert second.value == pytest.approx(2.5 * first.value, rel=1e-14)
    np.testing.assert_allclose(second.state, 2.5 * first.state, rtol=1e-13)
    np.testing.assert_allclose(second.parameters["k"], 2.5 * first.parameters["k"], rtol=1e-13)
