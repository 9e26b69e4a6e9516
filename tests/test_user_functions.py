"""Users' functions are never silently wrong: whole kinds of functions that cannot be differentiated, or that mean
something else than they say, are refused with what to write instead; the others have the derivative of differences."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skfem
from skfem.helpers import dot, grad, jump

import femadj as fa
from femadj.base.arrays import FloatArray
from femadj.base.complex_step import seed, steps_kept
from femadj.forms.probing import SAMPLED_ENTITIES, sampled
from tests.meshes import box_mesh
from tests.reference_assembly import turned

STEP = 1e-4


def plain(u: Any, v: Any, w: Any) -> Any:
    return dot(grad(u), grad(v))


def source(v: Any, w: Any) -> Any:
    return 1.0 * v


def grid(n: int = 14) -> fa.Mesh:
    return turned(box_mesh("quad", (n, n), lengths=(1.0, 1.0), distortion=0.2, seed=4))


MESH = grid()


def solved(bilinear: Any, linear: Any = source, mesh: fa.Mesh = MESH, **options: Any) -> fa.Solution:
    return problem_of(bilinear, linear, mesh, **options).solve()


def problem_of(bilinear: Any, linear: Any = source, mesh: fa.Mesh = MESH, **options: Any) -> fa.LinearStatic:
    return fa.LinearStatic(mesh, fa.Form(bilinear, linear, **options), [fa.Fixed("left")], threads=1)


def blind_spot(mesh: fa.Mesh = MESH) -> tuple[FloatArray, float]:
    """The cell furthest away from those on which forms are tried when the problem is built, and how far."""
    centres = mesh.cell_centres()
    keep = sampled(mesh.n_cells)
    assert keep.sum() == SAMPLED_ENTITIES
    distance = ((centres[:, None] - centres[keep][None]) ** 2).sum(axis=2).min(axis=1)
    return centres[distance.argmax()], 0.35 * float(distance.max())


CENTRE, RADIUS = blind_spot()


def in_spot(x: Any) -> Any:
    return (x[0] - CENTRE[0]) ** 2 + (x[1] - CENTRE[1]) ** 2 < RADIUS


def five_point(value: Callable[[float], float], h: float = STEP) -> float:
    return (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)


# ---------------------------------------------------------------------- points that see each other
MIXING: dict[str, Callable[[Any], Any]] = {
    "mean of x": lambda w: 1 + (w.x[0] - w.x[0].mean()) ** 2,
    "share of the largest": lambda w: 1 + w.c / w.c.max(),
    "nodal field less its smallest": lambda w: 1 + w.t - np.min(w.t),
    "norm without axis": lambda w: 1 + w.x[0] / np.linalg.norm(w.x),
    "running sum": lambda w: 1 + np.cumsum(w.x[0], axis=0),
    "mean over a cell": lambda w: w.x[0].mean(axis=-1, keepdims=True),
    "number of cells": lambda w: 1 + w.x[0] / len(w.x[0]),
    "first point": lambda w: 1 + w.x[0] * w.x[1][0, 0],
    "size of the cells": lambda w: w.h / w.h.max(),
}


@pytest.mark.parametrize("kind", ["bilinear", "linear", "facets", "element", "functional"])
@pytest.mark.parametrize("name", MIXING)
def test_functions_that_mix_points(name: str, kind: str) -> None:
    mesh = grid(4)
    k = MIXING[name]
    parameters: dict[str, Any] = {
        "c": fa.CellField(np.linspace(1, 2, mesh.n_cells)),
        "t": fa.NodalField(np.linspace(1, 2, mesh.n_nodes)),
    }
    mixing = (
        fa.Integral(lambda v, w: k(w) * v, name="mine")
        if kind == "linear"
        else fa.Integral(lambda w: k(w) * w.u, name="mine")
        if kind == "functional"
        else fa.Integral(lambda u, v, w: k(w) * u * v, over="facets" if kind == "facets" else "cells", name="mine")
    )
    element = skfem.ElementQuad2() if kind == "element" else 1

    def run() -> None:
        if kind == "linear":
            solved(plain, mixing, mesh, parameters=parameters)
        elif kind == "functional":
            fa.value_and_gradient(solved(plain, mesh=mesh, parameters=parameters), fa.Functional(mixing))
        else:
            solved([plain, mixing], mesh=mesh, parameters=parameters, element=element)

    with pytest.raises(fa.FormError, match=r"form 'mine' mixes points.*axis=0.*power=.*parameter"):
        run()


def test_functions_that_mix_points_in_a_spot_alone() -> None:
    """What the sample of a mesh does not show is seen where the form is evaluated."""

    def mixing(u: Any, v: Any, w: Any) -> Any:
        k, spot = 1.0 + w.x[0], in_spot(w.x)
        return (k * (1 + np.sum(spot))) * dot(grad(u), grad(v))

    with pytest.raises(fa.FormError, match="mixes points"):
        solved(fa.Integral(mixing))


def test_reductions_over_components_are_fine() -> None:
    def stretched(u: Any, v: Any, w: Any) -> Any:
        return (1 + np.linalg.norm(w.x, axis=0) + w.x.max(axis=0)) * dot(grad(u), grad(v))

    value = fa.value_and_gradient(solved(stretched), fa.Functional(lambda w: w.u.grad.max(axis=0) ** 2))[0]
    assert np.isfinite(value)


# ---------------------------------------------------------------------- what is read, when
@pytest.mark.parametrize("what", ["p", "c", "t", "t.grad", "h"])
@pytest.mark.parametrize("where", ["bilinear", "linear", "element"])
def test_what_is_read_in_a_branch_alone(what: str, where: str) -> None:
    parameters: dict[str, Any] = {
        "p": 3.0, "c": fa.CellField(np.ones(MESH.n_cells)), "t": fa.NodalField(np.ones(MESH.n_nodes)),
    }  # fmt: skip

    def coefficient(w: Any) -> Any:
        k, spot = 1.0 + w.x[0], in_spot(w.x)
        if spot.any():
            k = k + np.where(spot, w.t.grad[0] if what == "t.grad" else w[what], 0.0)
        return k

    linear = (lambda v, w: coefficient(w) * v) if where == "linear" else source
    bilinear = plain if where == "linear" else lambda u, v, w: coefficient(w) * dot(grad(u), grad(v))
    problem = problem_of(
        bilinear, linear, parameters=parameters, element=skfem.ElementQuad2() if where == "element" else 1
    )
    with pytest.raises(
        fa.FormError, match=rf"reads w\.{what.split('.', maxsplit=1)[0]}.*Read it before any `if`.*np.where"
    ):
        problem.solve(parameters={"p": 30.0})


def test_what_a_functional_reads_in_a_branch_is_differentiated() -> None:
    solution = solved(plain, parameters={"p": 2.0, "t": fa.NodalField(np.linspace(1, 2, MESH.n_nodes))})

    def extra(w: Any) -> Any:
        return w.p * dot(grad(w.u), grad(w.u)) * w.t.grad[0] * w.h

    def branching(w: Any) -> Any:
        value, spot = w.u**2 * w.x[1], in_spot(w.x)
        return value + np.where(spot, extra(w), 0.0) if spot.any() else value

    def always(w: Any) -> Any:
        return w.u**2 * w.x[1] + np.where(in_spot(w.x), extra(w), 0.0)

    values, gradients = fa.values_and_gradients(solution, [fa.Functional(branching), fa.Functional(always)])
    assert values[0] == pytest.approx(values[1], rel=1e-14)
    assert np.abs(gradients[0].points - gradients[1].points).max() <= 1e-13 * np.abs(gradients[1].points).max()
    for name in ("p", "t"):
        np.testing.assert_allclose(gradients[0].parameters[name], gradients[1].parameters[name], atol=1e-15)


def test_a_parameter_that_another_parameter_switches_on() -> None:
    def form(u: Any, v: Any, w: Any) -> Any:
        return (w.k + (w.q if w.k > 5 else 0.0)) * dot(grad(u), grad(v))

    problem = problem_of(form, parameters={"k": 1.0, "q": 2.0})
    problem.solve()
    with pytest.raises(fa.FormError, match=r"reads w\.q here"):
        problem.solve(parameters={"k": 6.0})


# ---------------------------------------------------------------------- 1 beside 1e12
def reference(form: Any, load: Any, order: int = 4, mesh: fa.Mesh = MESH) -> FloatArray:
    basis = skfem.Basis(mesh.to_skfem(), skfem.ElementQuad1(), intorder=order)
    K, f = skfem.BilinearForm(form).assemble(basis), skfem.LinearForm(load).assemble(basis)
    solution: FloatArray = skfem.solve(*skfem.condense(K, f, D=mesh.nodes_of("left")))
    return solution


@pytest.mark.parametrize("contrast", [1e6, 1e11, 1e13])
@pytest.mark.parametrize("name", ["anisotropic", "advected", "in a blind spot"])
def test_contrast_between_regions(name: str, contrast: float) -> None:
    def form(u: Any, v: Any, w: Any) -> Any:
        stiff = contrast * dot(grad(u), grad(v))
        if name == "anisotropic":
            soft = (2 + w.x[1]) * u.grad[0] * v.grad[0] + 5.0 * u.grad[1] * v.grad[1]
        elif name == "advected":
            soft = dot(grad(u), grad(v)) + 3.0 * u.grad[1] * v
        else:
            soft = dot(grad(u), grad(v)) + np.where(in_spot(w.x), 30.0, 0.0) * u * v
        return np.where(w.x[0] < 0.4, stiff, soft)

    def load(v: Any, w: Any) -> Any:
        return np.where(w.x[0] < 0.4, contrast, 1.0) * v

    u = solved(fa.Integral(form, order=4), fa.Integral(load, order=4)).u[:, 0]
    expected = reference(form, load)
    assert np.abs(u - expected).max() <= 1e-7 * np.abs(expected).max()


@pytest.mark.parametrize("element", [2, skfem.ElementQuad1() * skfem.ElementQuad1()], ids=["nodal", "element"])
def test_one_way_coupling_of_a_stiff_and_a_soft_field(element: Any) -> None:
    stiff, soft, coupling = 1.5e12, 4e-3, 2e-2

    def nodal(u: Any, v: Any, w: Any) -> Any:
        return (
            stiff * dot(grad(u)[0], grad(v)[0]) + soft * dot(grad(u)[1], grad(v)[1]) - coupling * u[0] * v[1]
        )  # fmt: skip

    def parts(a: Any, b: Any, c: Any, d: Any, w: Any) -> Any:
        return stiff * dot(grad(a), grad(c)) + soft * dot(grad(b), grad(d)) - coupling * a * d

    form = (
        fa.Form(fa.Integral(nodal, order=4), fa.Integral(lambda v, w: stiff * v[0], order=4), element=2)
        if element == 2
        else fa.Form(
            fa.Integral(parts, order=4),
            fa.Integral(lambda c, d, w: stiff * c, order=4),
            element=element,
            names=("a", "b"),
        )
    )
    problem = fa.LinearStatic(MESH, form, [fa.Fixed("left")], threads=1)
    assert problem.residual.kind == "general"
    solution = problem.solve()
    first = reference(plain, source)
    basis = skfem.Basis(MESH.to_skfem(), skfem.ElementQuad1(), intorder=4)
    mass = skfem.BilinearForm(lambda u, v, w: u * v).assemble(basis)
    stiffness = soft * skfem.BilinearForm(plain).assemble(basis)
    second = skfem.solve(*skfem.condense(stiffness, coupling * mass @ first, D=MESH.nodes_of("left")))
    found = solution.u[:, 1] if element == 2 else solution.nodal("b")[:, 0]
    assert np.abs(found - second).max() <= 1e-9 * np.abs(second).max()


def test_small_unsymmetric_block_of_a_linear_system() -> None:
    for big in (1e9, 1e14):
        matrix = np.array([[big, 2.0, 0], [2.0, 3.0, 0.5], [0, 0, 3.0]])
        with pytest.raises(fa.LinearSystemError, match=r"not symmetric.*entry \(1, 2\) is 0.5"):
            fa.LinearSystem(lambda t, m=matrix: m * t, np.ones(3), kind="symmetric").solve(1.0)
        balanced = (
            matrix + np.array([[0, 0, 0], [0, 0, 0], [0, 0.5, 0]]) + [[0, 1e-15 * big**0.5, 0], [0, 0, 0], [0, 0, 0]]
        )
        fa.LinearSystem(lambda t, m=balanced: m * t, np.ones(3), kind="symmetric").solve(1.0)


def test_wrong_derivative_of_a_small_entry_beside_a_large_one() -> None:
    def matrix(t: float) -> FloatArray:
        return np.array([[1e13, 2 + t**2], [0.0, 1.0]])

    system = fa.LinearSystem(matrix, np.ones(2), derivatives=lambda t: [(np.array([[0, 3 * t], [0, 0.0]]), None)])
    with pytest.raises(fa.VerificationError, match="derivative of matrix"):
        system.value_and_gradient(0.7, lambda x, t: x[0])


# ---------------------------------------------------------------------- linear for all u
NONLINEAR: dict[str, Callable[[Any], Any]] = {
    "contact": lambda u: 50 * np.maximum(u - 7.0, 0),
    "between bounds": lambda u: np.clip(u, -4, 4),
    "from a temperature on": lambda u: np.where(u > 250, 1e-3 * u**2, 0),
    "small values cut off": lambda u: np.where(abs(u) < 1e-4, 0.0, u),
    "of the gradient": lambda u: np.minimum(u.grad[0], 30.0),
}


@pytest.mark.parametrize("element", [1, skfem.ElementQuad2()], ids=["nodal", "element"])
@pytest.mark.parametrize("name", NONLINEAR)
def test_forms_that_are_not_linear_at_other_sizes(name: str, element: Any) -> None:
    term = NONLINEAR[name]
    with pytest.raises(fa.FormError, match="not linear in u"):
        problem_of([plain, lambda u, v, w: term(u) * v], element=element)
    with pytest.raises(fa.FormError, match="not linear in v"):
        problem_of([plain, lambda u, v, w: u * term(v)], element=element)
    with pytest.raises(fa.FormError, match="not linear in v"):
        problem_of(plain, lambda v, w: term(v) + v, element=element)


@pytest.mark.parametrize("element", [1, skfem.ElementQuad2()], ids=["nodal", "element"])
def test_forms_that_are_not_linear_at_the_solution(element: Any) -> None:
    """A window that powers of two step over is found at the largest values of the solution."""
    load = 1e5
    largest = float(np.abs(solved(plain, lambda v, w: load * v, element=element).u).max())
    low, high = 0.9 * largest, 1.1 * largest
    problem = problem_of(
        [plain, lambda u, v, w: np.where((abs(u) > low) & (abs(u) < high), 1e-11 * u**2, 0.0) * v],
        lambda v, w: load * v, element=element,
    )  # fmt: skip
    with pytest.raises(fa.FormError, match=r"not linear in u at the solution.*NonlinearForm"):
        problem.solve()


# ---------------------------------------------------------------------- derivatives elsewhere and later
def stripped(a: Any) -> Any:
    """The absolute value, by an array that NumPy puts together without the guard of the complex step."""
    return np.abs(np.array([a, a]))[0]


def test_steps_that_are_dropped_at_a_later_design() -> None:
    def form(u: Any, v: Any, w: Any) -> Any:
        return (1 + w.x[0] + np.where(w.x[0] > 1.3, stripped(w.x[0]) - 1.3, 0.0)) * dot(grad(u), grad(v))

    problem = problem_of(form)
    fa.value_and_gradient(problem.solve(), fa.FieldNorm())
    with pytest.raises(fa.FormError, match=r"w\.x disagrees with differences"):
        problem.solve(MESH.points * [3.0, 1.0])


def test_steps_that_are_dropped_at_other_parameters() -> None:
    def form(u: Any, v: Any, w: Any) -> Any:
        return (1 + (w.k if w.k < 2 else stripped(w.k))) * dot(grad(u), grad(v))

    problem = problem_of(form, parameters={"k": 1.0})
    problem.solve()
    with pytest.raises(fa.FormError, match="parameter 'k' disagrees with differences"):
        problem.solve(parameters={"k": 2.5})


def test_steps_that_are_dropped_off_the_sample() -> None:
    def spotted(a: Any, x: Any, value: Any) -> Any:
        return np.where(in_spot(x), value(a), 0.0)

    with pytest.raises(fa.FormError, match=r"w\.x disagrees with differences"):
        solved(lambda u, v, w: (1 + 4 * spotted(w.x[0], w.x, stripped)) * dot(grad(u), grad(v)))
    solution = solved(plain)
    with pytest.raises(fa.FormError, match="the state disagrees with differences"):
        fa.value_and_gradient(solution, fa.Functional(lambda w: w.u**2 + 4 * spotted(w.u, w.x, stripped)))
    fa.value_and_gradient(solution, fa.Functional(lambda w: w.u**2 + 4 * spotted(w.u, w.x, abs)))


def test_steps_that_are_dropped_beyond_placeholder_values() -> None:
    heat = problem_of(plain, lambda v, w: 30.0 * v)
    body = problem_of(
        lambda u, v, w: (1 + np.where(w.heat > 4, stripped(w.heat), 1.0)) * dot(grad(u), grad(v)),
        parameters={"heat": fa.NodalField()},
    )
    with pytest.raises(fa.FormError, match="parameter 'heat' disagrees with differences"):
        fa.Chain({"heat": heat, "body": body}).solve()


def test_digits_that_a_smooth_function_loses_are_no_fault() -> None:
    for steep in (5.0, 10.0, 20.0):
        for small in (1e-3, 0.0):
            solution = solved(
                [plain, lambda u, v, w, s=steep, e=small: (e + 1 + np.tanh(s * (w.x[0] - 0.5))) * u * v],
                lambda v, w, s=steep: (1 - np.tanh(s * (w.x[1] - 0.5)) ** 2) * v,
            )
            assert np.isfinite(fa.value_and_gradient(solution, fa.FieldNorm())[1].points).all()


def test_steps_that_are_dropped_at_a_second_theta() -> None:
    def matrix(t: Any) -> Any:
        return np.array([[3.0 + (t[0] if t[0] < 2 else stripped(t[0])), 1.0], [0.5, 4.0]])

    system = fa.LinearSystem(matrix, np.array([1.0, 2.0]))
    system.value_and_gradient([1.0], lambda x, t: x[0])
    for _ in range(2):
        with pytest.raises(fa.VerificationError, match=r"matrix\(theta\) by complex step is wrong"):
            system.value_and_gradient([2.5], lambda x, t: x[0])

    def response(x: Any, t: Any) -> Any:
        return x[0] if x[0] < 0.5 else stripped(x[0])

    system = fa.LinearSystem(lambda t: t[0] * np.eye(2), np.array([1.0, 2.0]))
    system.value_and_gradient([4.0], response)
    with pytest.raises(fa.VerificationError, match="derivative of response 0"):
        system.value_and_gradient([1.5], response)


# ---------------------------------------------------------------------- kinks, jumps, tables, frozen values
@pytest.mark.parametrize(
    "function",
    [abs, lambda p: np.maximum(p, 0), lambda p: np.where(p > 0, p, 0.995 * p), lambda p: p + 1e-3 * abs(p)],
    ids=["abs", "maximum", "half a per cent", "a thousandth"],
)
def test_kinks_exactly_at_a_parameter(function: Any) -> None:
    aside = {"constant": 1e-3, "by cell": np.full(MESH.n_cells, 1e-3)}
    for kind, zero in (("constant", 0.0), ("by cell", fa.CellField(np.zeros(MESH.n_cells)))):
        problem = problem_of(lambda u, v, w: plain(u, v, w) + (2 + function(w.p)) * u * v, parameters={"p": zero})
        solution = problem.solve()  # which does not need the derivative
        _, gradient = fa.value_and_gradient(solution, fa.FieldNorm())
        assert np.isfinite(gradient.points).all()
        with pytest.raises(fa.FormError, match="no derivative by parameter 'p' here: there is a kink or a jump"):
            _ = gradient.parameters["p"]
        _, gradient = fa.value_and_gradient(problem.solve(parameters={"p": aside[kind]}), fa.FieldNorm())
        assert np.isfinite(gradient.parameters["p"]).all()


def test_kinks_exactly_at_theta() -> None:
    system = fa.LinearSystem(lambda t: np.array([[2 + abs(t[0]), 1.0], [0.0, 3.0]]), np.ones(2))
    with pytest.raises(fa.VerificationError, match=r"does not exist.*kink or a jump"):
        system.value_and_gradient([0.0], lambda x, t: x[0])
    _, gradient = system.value_and_gradient([-0.1], lambda x, t: x[0])
    assert np.isfinite(gradient.theta).all()


def test_equality_of_coordinates() -> None:
    flat = box_mesh("quad", (4, 4), lengths=(1.0, 1.0))
    for where in (lambda x: x[0] == 1.0, lambda x: 1.0 * (abs(x[0] - 1) < 1e-12), lambda x: x[1] == 0.0):
        with pytest.raises(fa.FormError, match=r"w\.x disagrees with differences.*w\.x\[0\] == 1\.0"):
            solved(plain, fa.Integral(lambda v, w, where=where: v * where(w.x), over="facets"), flat)
        load = fa.Flux("boundary", lambda x, where=where: 1.0 * where(x))
        solution = fa.LinearStatic(flat, fa.Diffusion(1.0), [fa.Fixed("left")], [load], threads=1).solve()
        with pytest.raises(fa.LoadError, match="equality of coordinates"):
            fa.value_and_gradient(solution, fa.FieldNorm())
    # one side of a jump: it can be solved, and has no derivative
    solution = solved(plain, fa.Integral(lambda v, w: v * (w.x[0] >= 1.0), over="facets"), flat)
    with pytest.raises(fa.FormError, match=r"no derivative by w\.x here"):
        fa.value_and_gradient(solution, fa.FieldNorm())


@pytest.mark.parametrize("power", [99, 100, 101, 300, np.float64(151.0)])
def test_large_powers_of_negative_numbers(power: Any) -> None:
    solution = solved(plain, lambda v, w: -1.0 * v)
    peak = float(np.abs(solution.u).max())
    both = [
        fa.value_and_gradient(solution, fa.Functional(function))[1].points
        for function in (
            lambda w: (w.u / peak) ** power,
            lambda w: np.where(power % 2, -1, 1) * abs(w.u / peak) ** power,
        )
    ]
    assert np.abs(both[0] - both[1]).max() <= 1e-12 * np.abs(both[1]).max()


def test_changes_in_place_are_refused_by_name() -> None:
    def shifted(u: Any, v: Any, w: Any) -> Any:
        x = w.x
        x -= 0.1
        return (1 + x[0] ** 2) * dot(grad(u), grad(v))

    def scaled(w: Any) -> Any:
        w.u.grad[0] *= 2
        return dot(w.u.grad, w.u.grad)

    def growing(u: Any, v: Any, w: Any) -> Any:
        p = w.p
        p *= 2
        return p[0] * u * v

    with pytest.raises(fa.FormError, match=r"changes its arguments in place.*x = x - 1"):
        solved(shifted)
    with pytest.raises(fa.FormError, match="changes its arguments in place"):
        solved([plain, growing], parameters={"p": [1.0, 2.0]})
    with pytest.raises(fa.FormError, match="changes its arguments in place"):
        fa.value_and_gradient(solved(plain), fa.Functional(scaled))


@pytest.mark.parametrize("form", ["constant", "of x", "of a parameter", "of a cell field", "element"])
def test_what_forms_refer_to_is_read_at_every_design(form: str) -> None:
    k, norm = [1.0], fa.Functional(lambda w: w.u**2)
    forms: dict[str, Any] = {
        "constant": lambda u, v, w: k[0] * plain(u, v, w),
        "of x": lambda u, v, w: k[0] * (1 + 0 * w.x[0]) * plain(u, v, w),
        "of a parameter": lambda u, v, w: k[0] * w.p * plain(u, v, w),
        "of a cell field": lambda u, v, w: k[0] * w.c * plain(u, v, w),
        "element": lambda u, v, w: k[0] * plain(u, v, w),
    }
    parameters: dict[str, Any] = {"p": 1.0, "c": fa.CellField(np.ones(MESH.n_cells))}
    problem = problem_of(forms[form], parameters=parameters, element=skfem.ElementQuad2() if form == "element" else 1)
    old = problem.solve()
    _, expected = fa.value_and_gradient(problem.solve(), norm)
    k[0] = 4.0
    refused = pytest.raises(
        fa.FormError, match=r"other values than when the problem was put at this design.*parameters="
    )
    if form == "of x":
        with refused:
            fa.value_and_gradient(old, norm)
    else:  # coefficients were kept, and are those of the old design
        _, gradient = fa.value_and_gradient(old, norm)
        np.testing.assert_allclose(gradient.points, expected.points, rtol=1e-11, atol=1e-13)
        read = {"of a parameter": ("p", np.array(2.0)), "of a cell field": ("c", np.ones(MESH.n_cells))}
        if form in read:
            name, rate = read[form]
            with refused:
                gradient.parameters[name]
            with refused:
                old.pushforward([fa.Design(None, {name: rate})])
    new = problem.solve()
    assert np.abs(4 * new.u - old.u).max() <= 1e-12 * np.abs(old.u).max()
    fa.value_and_gradient(new, norm)


def test_functions_of_position_that_change_are_not_mixed() -> None:
    k = [1.0]
    for load in (fa.Source(lambda x: k[0] * x[0] ** 2), fa.Flux("right", lambda x: k[0] * x[1])):
        k[0] = 1.0
        problem = fa.LinearStatic(MESH, fa.Diffusion(1.0), [fa.Fixed("left")], [load], threads=1)
        old = problem.solve()
        k[0] = 4.0
        with pytest.raises(fa.LoadError, match="other values than when the problem was put at this design"):
            fa.value_and_gradient(old, fa.FieldNorm())
        fa.value_and_gradient(problem.solve(), fa.FieldNorm())


# ---------------------------------------------------------------------- one text, one operator
def test_forms_over_interior_facets_mean_what_scikit_fem_means() -> None:
    m = skfem.MeshTri().refined(1)
    m = m.with_boundaries({"all": m.boundary_facets()})
    element = skfem.ElementTriP1DG() * skfem.ElementTriSkeletonP1()

    def inside(u: Any, ut: Any, v: Any, vt: Any, w: Any) -> Any:
        return dot(grad(u), grad(v)) + 2.0 * u * v

    def across(n: Any, u: Any, ut: Any, v: Any, vt: Any, w: Any) -> Any:
        return dot(n, grad(u)) * (vt - v) + dot(n, grad(v)) * (ut - u) + 7.0 / w.h * (ut - u) * (vt - v)

    def between(u: Any, ut: Any, v: Any, vt: Any, w: Any) -> Any:
        return across(jump(w, w.n), u, ut, v, vt, w)

    def outside(u: Any, ut: Any, v: Any, vt: Any, w: Any) -> Any:
        return across(w.n, u, ut, v, vt, w)

    def load(v: Any, vt: Any, w: Any) -> Any:
        return (1.0 + w.x[0]) * v

    basis = skfem.Basis(m, element)
    sides = [skfem.InteriorFacetBasis(m, element, side=s) for s in (0, 1)]
    K = skfem.asm(skfem.BilinearForm(inside), basis)
    K = K + skfem.asm(skfem.BilinearForm(between), sides)
    K = K + skfem.asm(skfem.BilinearForm(outside), skfem.FacetBasis(m, element))
    f = skfem.asm(skfem.LinearForm(load), basis)
    expected = f @ skfem.solve(*skfem.condense(K, f, D=basis.get_dofs()))

    def problem(**how: Any) -> fa.LinearStatic:
        form = fa.Form(
            [inside, fa.Integral(between, over="interior facets", **how), fa.Integral(outside, over="facets")],
            load, element=element, names=("u", "t"),
        )  # fmt: skip
        return fa.LinearStatic(fa.Mesh.from_skfem(m), form, [fa.Fixed("all")], threads=1)

    with pytest.raises(fa.FormError, match=r"two operators.*sides='each'.*sides='pairs'.*jump\(w, u, v\)"):
        problem()
    solution = problem(sides="each").solve()
    value, gradient = fa.value_and_gradient(solution, fa.Compliance())
    assert value == pytest.approx(expected, rel=1e-12)
    velocity = np.random.default_rng(0).uniform(-1, 1, solution.points.shape)
    moved = problem(sides="each")

    def at(t: float) -> float:
        return fa.value_and_gradient(moved.solve(solution.points + t * velocity), fa.Compliance())[0]

    assert (gradient.points * velocity).sum() == pytest.approx(five_point(at, 1e-3), rel=1e-8)
    other = fa.value_and_gradient(problem(sides="pairs").solve(), fa.Compliance())[0]
    assert abs(other - expected) > 1e-3 * expected
    with pytest.raises(fa.FormError, match="sides must be"):
        fa.Integral(between, over="interior facets", sides="both")  # type: ignore[arg-type]


# ---------------------------------------------------------------------- threads
def test_dropping_steps_is_an_error_in_the_thread_that_differentiates() -> None:
    started, done = threading.Event(), threading.Event()
    seen: list[object] = []

    def other() -> None:
        started.wait(5)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            np.zeros(1)[:] = np.array([1j])
        seen.append([w.category for w in caught])
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with steps_kept():
        started.set()
        assert done.wait(5)
        with pytest.raises(np.exceptions.ComplexWarning):
            np.zeros(1)[:] = np.asarray(seed([1.0], [1.0]))
    thread.join()
    assert seen == [[np.exceptions.ComplexWarning]]
    before = list(warnings.filters)
    generator = (steps_kept() for _ in range(1))
    with next(generator):
        pass
    assert warnings.filters == before
