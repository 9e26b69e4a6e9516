"""Bad forms, functionals and parameters get an error that names the form and says what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skfem
from skfem.helpers import dd, ddot, dot, grad

import femadj as fa
from tests.meshes import box_mesh
from tests.test_bad_input import mentions
from tests.test_gradients import mesh_of

Builder = Callable[[], Any]

MESH = mesh_of("quad")


def laplacian(u: Any, v: Any, w: Any) -> Any:
    return dot(grad(u), grad(v))


def problem_of(bilinear: Any = laplacian, linear: Any = (), mesh: fa.Mesh = MESH, **options: Any) -> fa.LinearStatic:
    return fa.LinearStatic(mesh, fa.Form(bilinear, linear, **options), [fa.Fixed("left", value=1.0)], threads=1)


def solved(**options: Any) -> fa.Solution:
    return problem_of(linear=lambda v, w: v, **options).solve()


def raising(*_: Any) -> Any:
    raise RuntimeError("of the user's own")


def foreign_field() -> Any:
    """A field on another mesh, as a closure might hold."""
    basis = skfem.Basis(box_mesh("quad", (5, 4)).to_skfem(), skfem.ElementQuad1())
    return basis.interpolate(basis.zeros() + 1.0)


FIELD = foreign_field()


# ---------------------------------------------------------------------- forms that fail when the problem is built
BILINEAR: dict[str, tuple[Callable[..., Any], str]] = {
    "index left over": (lambda u, v, w: u.grad * v, mentions("contracted", "(2, 4, 4)")),
    "two indices left over": (lambda u, v, w: u.grad[:, None] * v.grad[None], mentions("contracted")),
    "sum over the points": (lambda u, v, w: (u * v)[..., :2], mentions("one number at every quadrature point")),
    "square of v": (lambda u, v, w: u * v**2, mentions("not linear in v")),
    "square of u": (lambda u, v, w: u**2 * v, mentions("not linear in u")),
    "cube of u": (lambda u, v, w: u**3 * v, mentions("not linear in u")),
    "abs of v": (lambda u, v, w: u * abs(v), mentions("not linear")),
    "no v": (lambda u, v, w: 2 * u, mentions("not linear in v")),
    "no u": (lambda u, v, w: 2 * v, mentions("not linear in u")),
    "load beside": (lambda u, v, w: u * v + v, mentions("not linear in u")),
    "constant": (lambda u, v, w: 1.0, mentions("not linear in v")),
    "mean over the points": (lambda u, v, w: (u * v).mean(axis=1, keepdims=True), mentions("mixes points", "axis=0")),
    "neighbouring cells": (lambda u, v, w: u[::-1] * v, mentions("mixes points", "axis=0")),
    "random": (
        lambda u, v, w: np.random.default_rng().uniform() * u * v,
        mentions("other values for the same", "random"),
    ),
    "division by zero": (lambda u, v, w: 1 / 0, mentions("ZeroDivisionError", "division by zero")),
    "own exception": (raising, mentions("RuntimeError", "of the user's own")),
    "logarithm": (lambda u, v, w: np.log(-w.x[0]) * u * v, mentions("NaN or infinite", "entity 0", "point 0")),
    "infinite": (lambda u, v, w: u * v / (0 * w.x[0]), mentions("NaN or infinite")),
    "unknown field": (lambda u, v, w: w.k * u * v, mentions("w.k", "'x'", "'h'")),
    "unknown item": (lambda u, v, w: w["k"] * u * v, mentions("k", "'x'", "'h'")),
    "normal on cells": (lambda u, v, w: w.n[0] * u * v, mentions("w.n", "over cells")),
    "second derivatives": (lambda u, v, w: u.hess[0, 0] * v, mentions("'hess'", "second and higher derivatives")),
    "dd": (lambda u, v, w: ddot(dd(u), dd(v)), mentions("'hess'")),
    "third derivatives": (lambda u, v, w: u.grad3[0, 0, 0] * v, mentions("'grad3'")),
    "other mesh": (lambda u, v, w: FIELD * u * v, mentions("failed", "shapes")),
    "other array": (lambda u, v, w: np.ones((50, 9)) * u * v, mentions("failed", "shapes")),
    "two arguments": (lambda u, v: u * v, mentions("TypeError", "arguments")),
    "four arguments": (lambda u, v, w, x: u * v, mentions("TypeError", "argument")),
    "None": (lambda u, v, w: None, mentions("NoneType")),
    "text": (lambda u, v, w: "u", mentions("must return", "str")),
    "list": (lambda u, v, w: [u * v, u * v], mentions("one number")),
    "math": (lambda u, v, w: math.sin(w.x[0]) * u * v, mentions("failed", "TypeError")),
    "float of a parameter": (lambda u, v, w: float(w.p) * u * v, mentions("float")),
    "wrong component": (lambda u, v, w: u.grad[2] * v, mentions("IndexError")),
    "misspelt attribute": (lambda u, v, w: u.gard * v, mentions("AttributeError", "gard")),
    "misspelt parameter": (lambda u, v, w: w.pp * u * v, mentions("w.pp", "'p'")),
    "modulo": (lambda u, v, w: (w.x[0] % 0.3) * u * v, mentions("rule for complex steps")),
    "real part": (lambda u, v, w: w.x[0].real * u * v, mentions("real part", "drops its derivative")),
}


@pytest.mark.parametrize("name", BILINEAR)
def test_bilinear_forms(name: str) -> None:
    form, message = BILINEAR[name]
    with pytest.raises(fa.FemadjError, match=rf"(?s)form 'my form'.*{message[4:]}"):
        problem_of([laplacian, fa.Integral(form, name="my form")], parameters={"p": 2.0})


LINEAR: dict[str, tuple[Callable[..., Any], str]] = {
    "index left over": (lambda v, w: v.grad, mentions("contracted")),
    "square": (lambda v, w: v**2, mentions("not linear in v")),
    "constant": (lambda v, w: 1.0, mentions("not linear in v", "terms without v belong nowhere")),
    "source without v": (lambda v, w: w.x[0], mentions("not linear in v")),
    "constant beside": (lambda v, w: v + 1, mentions("not linear in v")),
    "bilinear": (laplacian, mentions("TypeError", "argument")),
    "second derivatives": (lambda v, w: v.hess[0, 0], mentions("'hess'")),
    "logarithm": (lambda v, w: np.log(w.x[1]) * v, mentions("NaN or infinite")),
    "own exception": (raising, mentions("RuntimeError", "of the user's own")),
    "round": (lambda v, w: np.round(w.x[0], 1) * v, mentions("np.round", "no rule")),
    "abs of an array": (lambda v, w: np.abs(np.array([w.x[0], w.x[1]]))[0] * v, mentions("disagrees with differences")),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_forms(name: str) -> None:
    form, message = LINEAR[name]
    with pytest.raises(fa.FemadjError, match=rf"(?s)form 'my form'.*{message[4:]}"):
        problem_of(linear=[lambda v, w: v, fa.Integral(form, name="my form")])


def test_names_in_messages() -> None:
    """The function's own name; that of a class for objects."""

    def robin(u: Any, v: Any, w: Any) -> Any:
        return w.alpha * u * v

    class Reaction:
        def __call__(self, u: Any, v: Any, w: Any) -> Any:
            return u * v * v

    with pytest.raises(fa.FormError, match="form 'robin'"):
        problem_of(robin)
    with pytest.raises(fa.FormError, match="form 'Reaction'"):
        problem_of(Reaction())
    with pytest.raises(fa.FormError, match="form 'robin'"):
        problem_of(skfem.BilinearForm(robin))
    with pytest.raises(fa.FormError, match="form 'mean'"):
        fa.Functional(fa.Integral(lambda w: w.alpha, name="mean")).evaluate(solved())


def test_causes_are_kept() -> None:
    with pytest.raises(fa.FormError) as caught:
        problem_of(raising)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("form", ["bilinear", "linear", "boundary"])
def test_complex_coefficients(form: str) -> None:
    def build() -> None:
        if form == "bilinear":
            problem_of(fa.Integral(lambda u, v, w: (1 + 1j) * dot(grad(u), grad(v)), name="my form"))
        elif form == "linear":
            problem_of(linear=fa.Integral(lambda v, w: (1 + 1j) * v, name="my form"))
        else:
            problem_of([laplacian, fa.Integral(lambda u, v, w: 1j * u * v, "top", name="my form")])

    with pytest.raises(fa.FormError, match="my form"):
        build()


def test_complex_functionals() -> None:
    for function in (lambda w: 1j * w.u, lambda w: np.exp(1j * w.x[0]) * w.u):
        with pytest.raises(fa.FormError, match="form '<lambda>'"):
            fa.Functional(function).evaluate(solved())


# ---------------------------------------------------------------------- what is no form
def test_things_that_are_no_form() -> None:
    for thing in ("laplacian", None, 3.0, [laplacian, None], [[laplacian]]):
        with pytest.raises(fa.FormError, match="must be"):
            fa.Form(thing)
        with pytest.raises(fa.FormError, match="must be"):
            fa.Form(laplacian, thing)
        with pytest.raises(fa.FormError, match="must be"):
            fa.Functional(thing)
    for kind in (int, fa.Form, skfem.BilinearForm):
        with pytest.raises(fa.FormError, match="must be a function"):
            fa.Form(kind)
    nothing: Any
    for nothing in ([], ()):
        with pytest.raises(fa.FormError, match="at least one bilinear form"):
            fa.Form(nothing)
        with pytest.raises(fa.ResponseError, match="at least one function"):
            fa.Functional(nothing)


def test_elements_that_are_none() -> None:
    element: Any
    for element in (0, -1, 1.5, True, "scalar", None, skfem.ElementQuad1):
        with pytest.raises(fa.FemadjError, match="element"):
            fa.Form(laplacian, element=element)


def test_integrals_out_of_range() -> None:
    for order in (-1, 2.5, "high"):
        with pytest.raises(fa.FormError, match="order must be a whole number"):
            fa.Integral(laplacian, order=order)  # type: ignore[arg-type]
    for over in ("nodes", "boundary", 3):
        with pytest.raises(fa.FormError, match="over must be"):
            fa.Integral(laplacian, over=over)  # type: ignore[arg-type]
    with pytest.raises(fa.FormError, match="must be a function"):
        fa.Integral("laplacian")


# ---------------------------------------------------------------------- groups
def test_unknown_groups() -> None:
    with pytest.raises(fa.UnknownGroupError, match=mentions("'nowhere'", "'low'", "'high'")):
        problem_of([laplacian, fa.Integral(laplacian, "nowhere")])
    with pytest.raises(fa.UnknownGroupError, match=mentions("'nowhere'", "'left'", "'top'")):
        problem_of([laplacian, fa.Integral(laplacian, "nowhere", over="facets")])
    with pytest.raises(fa.UnknownGroupError, match="no facet group 'low'"):
        problem_of([laplacian, fa.Integral(laplacian, "low", over="facets")])
    with pytest.raises(fa.UnknownGroupError, match="no cell group 'top'"):
        problem_of([laplacian, fa.Integral(laplacian, "top", over="cells")])
    with pytest.raises(fa.UnknownGroupError, match="nowhere"):
        fa.Functional(fa.Integral(lambda w: w.u, "nowhere")).evaluate(solved())


def test_groups_of_cells_and_facets() -> None:
    mesh = MESH.with_groups(cell_groups={"top": [0]})
    with pytest.raises(fa.FormError, match=mentions("'robin'", "'top'", "over='cells'", "over='facets'")):
        problem_of([laplacian, fa.Integral(lambda u, v, w: u * v, "top", name="robin")], mesh=mesh)
    by_cells = problem_of([laplacian, fa.Integral(lambda u, v, w: u * v, "top", over="cells")], mesh=mesh)
    by_facets = problem_of([laplacian, fa.Integral(lambda u, v, w: u * v, "top", over="facets")], mesh=mesh)
    assert [len(p.residual.internal[1].domains[0]) for p in (by_cells, by_facets)] == [1, 2]
    assert not by_cells.residual.internal[1].domains[0].is_facet
    solution = by_cells.solve()
    with pytest.raises(fa.FormError, match=mentions("'mean'", "'top'")):
        fa.Functional(fa.Integral(lambda w: w.u, "top", name="mean")).evaluate(solution)


def test_one_side_of_facets_between_cells() -> None:
    solution = solved()
    for words, function in (
        (("normal",), lambda w: w.n[0] * w.u),
        (("gradient",), lambda w: w.u.grad[0]),
        (("normal", "gradient"), lambda w: dot(w.n, w.u.grad)),
    ):
        with pytest.raises(fa.ResponseError, match=mentions("'flux'", "'middle'", "2", *words)):
            fa.Functional(fa.Integral(function, "middle", name="flux")).evaluate(solution)
    fa.Functional(fa.Integral(lambda w: w.u, "middle")).evaluate(solution)
    fa.Functional(fa.Integral(lambda w: dot(w.n, w.u.grad), "top")).evaluate(solution)


def test_forms_with_two_sides() -> None:
    forms: tuple[Callable[..., Any], ...] = (
        lambda u, v, w: w.n[0] * u * v,
        lambda u, v, w: grad(u)[0] * v,
    )
    for form in forms:
        with pytest.raises(fa.FemadjError, match=mentions("'jump'", "'middle'")):
            problem_of([laplacian, fa.Integral(form, "middle", name="jump")])
    with pytest.raises(fa.FemadjError, match=mentions("'jump'", "'middle'")):
        problem_of(linear=fa.Integral(lambda v, w: w.n[0] * v, "middle", name="jump"))


def test_interior_facets_are_not_the_boundary() -> None:
    """Either they are integrated over, or there is an error."""
    solution = solved()
    inside = fa.Functional(fa.Integral(lambda w: 1.0, over="interior facets"))
    outside = fa.Functional(fa.Integral(lambda w: 1.0, over="facets")).evaluate(solution).value
    found = None
    try:
        found = inside.evaluate(solution).value
    except fa.FemadjError as error:
        message = str(error)
    if found is None:
        assert "interior" in message
    else:
        mesh = MESH
        middle = fa.Functional(fa.Integral(lambda w: 1.0, "middle")).evaluate(solution).value
        assert middle < found < outside
        assert mesh.n_cells == 4


# ---------------------------------------------------------------------- parameters
PARAMETERS: dict[str, tuple[Any, str]] = {
    "nodal of another length": (fa.NodalField([1.0, 2.0]), mentions("'k'", "9", "nodes", "(2,)")),
    "cells of another length": (fa.CellField(np.ones(9)), mentions("'k'", "4", "cells", "(9,)")),
    "nodal matrices": (fa.NodalField(np.ones((9, 2, 2))), mentions("'k'", "(9, 2, 2)")),
    "one number by nodes": (fa.NodalField(3.0), mentions("'k'", "nodes")),
    "text": ("two", mentions("'k'", "must be numbers")),
    "text by nodes": (fa.NodalField(["a"] * 9), mentions("'k'", "must be numbers")),
    "None": (None, mentions("'k'")),
    "NaN": (np.nan, mentions("'k'", "finite")),
    "NaN in a cell": (fa.CellField([1.0, 2.0, np.nan, 1.0]), mentions("'k'", "finite")),
    "infinite": (fa.NodalField(np.full(9, np.inf)), mentions("'k'", "finite")),
    "three indices": (np.ones((2, 2, 2)), mentions("'k'", "(2, 2, 2)")),
    "complex": (1 + 1j, mentions("'k'")),
    "ragged": ([[1.0], [1.0, 2.0]], mentions("'k'")),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    value, message = PARAMETERS[name]
    with pytest.raises(fa.ParameterError, match=message):
        problem_of(lambda u, v, w: w.k * u * v, parameters={"k": value})
    with pytest.raises(fa.ParameterError, match=message):
        fa.Functional(lambda w: w.k * w.u, parameters={"k": value}).evaluate(solved())


@pytest.mark.parametrize("name", ["x", "n", "h", "idx", "two words", "1k", 3, "a-b"])
def test_names_of_parameters(name: Any) -> None:
    with pytest.raises(fa.ParameterError, match=str(name)):
        problem_of(parameters={name: 1.0})
    with pytest.raises(fa.ParameterError, match=str(name)):
        fa.Functional(lambda w: w.u, parameters={name: 1.0}).evaluate(solved())


def test_parameters_declared_twice() -> None:
    solution = solved(parameters={"k": 2.0})
    with pytest.raises(fa.ResponseError, match=mentions("'k'", "parameter of the problem")):
        fa.Functional(lambda w: w.k * w.u, parameters={"k": 2.0}).evaluate(solution)
    with pytest.raises(fa.ResponseError, match="'u' is that of the state"):
        fa.Functional(lambda w: w.u, parameters={"u": 2.0}).evaluate(solution)


def test_parameters_without_values() -> None:
    def conduction(u: Any, v: Any, w: Any) -> Any:
        return (w.k if np.ndim(w.k) < 3 else w.k[0]) * dot(grad(u), grad(v))

    for field in (fa.NodalField(), fa.CellField(), fa.NodalField(components=2)):
        problem = problem_of(conduction, parameters={"k": field})
        with pytest.raises(fa.ParameterError, match=mentions("'k'", "no values yet", "solve")):
            problem.solve()
        with pytest.raises(fa.ParameterError, match=mentions("'k'", "(3,)")):
            problem.solve(parameters={"k": np.ones(3)})
    solution = solved()
    with pytest.raises(fa.ParameterError, match=mentions("'t'", "no values yet")):
        fa.Functional(lambda w: w.t * w.u, parameters={"t": fa.NodalField()}).evaluate(solution)


def test_values_of_parameters_when_solving() -> None:
    problem = problem_of(lambda u, v, w: w.k * dot(grad(u), grad(v)), parameters={"k": 2.0})
    values: Any
    for values, words in (
        ({"kk": 1.0}, ("'kk'", "'k'")),
        ({"k": [1.0, 2.0]}, ("'k'", "(2,)")),
        ({"k": "two"}, ("'k'", "numbers")),
        ({"k": np.nan}, ("'k'", "finite")),
    ):
        with pytest.raises(fa.ParameterError, match=mentions(*words)):
            problem.solve(parameters=values)
    with pytest.raises(fa.ParameterError, match=mentions("'k'", "none at all")):
        problem_of().solve(parameters={"k": 1.0})
    assert np.isfinite(problem.solve(parameters={"k": 3.0}).u).all()


def test_parameters_that_spoil_a_form() -> None:
    """Values that come later may be worse than those that a form was tried with."""
    problem = problem_of(lambda u, v, w: np.log(w.k) * dot(grad(u), grad(v)), parameters={"k": 2.0})
    with pytest.raises(fa.FormError, match="NaN or infinite"):
        problem.solve(parameters={"k": -1.0})
    shrinking = problem_of(lambda u, v, w: np.log(w.x[0]) * dot(grad(u), grad(v)))
    with pytest.raises(fa.FormError, match=mentions("NaN or infinite", "entity")):
        shrinking.solve(MESH.points - np.array([9.0, 0.0]))


def test_parameter_with_the_name_of_the_state() -> None:
    def build() -> None:
        problem = problem_of(lambda u, v, w: w.u * dot(grad(u), grad(v)), lambda v, w: v, parameters={"u": 2.0})
        fa.value_and_gradient(problem.solve(), fa.Functional(lambda w: dot(grad(w.u), grad(w.u))))

    with pytest.raises(fa.FemadjError, match="'u'"):
        build()


@pytest.mark.parametrize("name", ["values", "items", "get", "keys", "copy"])
def test_parameters_with_the_names_of_methods(name: str) -> None:
    """They work, or the name is refused."""
    message = ""
    try:
        problem_of(lambda u, v, w: getattr(w, name) * u * v, parameters={name: 2.0})
    except fa.FemadjError as error:
        message = str(error)
    assert not message or (name in message and "cannot name a parameter" in message)


def test_components_of_fields_without_values() -> None:
    for components in (-1, 0):
        for kind in (fa.NodalField, fa.CellField):
            with pytest.raises(fa.FemadjError, match="components"):
                problem_of(parameters={"k": kind(components=components)})


def test_one_column_of_values_is_a_number_at_a_point() -> None:
    for field in (fa.NodalField(np.ones((9, 1))), fa.CellField(np.ones((4, 1)))):
        problem_of(lambda u, v, w: w.k * u * v, parameters={"k": field})


# ---------------------------------------------------------------------- functionals
FUNCTIONALS: dict[str, tuple[Callable[..., Any], str]] = {
    "index left over": (lambda w: w.u.grad, mentions("contracted")),
    "two arguments": (lambda w, x: w.u, mentions("TypeError", "argument")),
    "unknown field": (lambda w: w.k * w.u, mentions("w.k", "'x'", "'h'")),
    "normal on cells": (lambda w: w.n[0] * w.u, mentions("w.n", "over cells")),
    "second derivatives": (lambda w: w.u.hess[0, 0], mentions("'hess'")),
    "logarithm": (lambda w: np.log(-np.abs(w.u)), mentions("NaN or infinite")),
    "own exception": (raising, mentions("RuntimeError", "of the user's own")),
    "text": (lambda w: "u", mentions("must return")),
    "None": (lambda w: None, mentions("NoneType")),
    "float": (lambda w: np.array([[float(a) for a in row] for row in w.u]) * w.x[0], mentions("float", "derivative")),
    "sort": (lambda w: np.sort(np.stack([w.u, 0.3 * w.x[0]]), axis=0)[0], mentions("np.sort", "no rule")),
    "one of the values": (lambda w: w.u[0, 0] * w.x[0], mentions("mixes points", "axis=0")),
    "sort over the points": (lambda w: np.sort(w.u, axis=0), mentions("mixes points")),
    "largest of all": (lambda w: (w.u / w.u.max()) ** 8, mentions("mixes points", "power=")),
    "next point": (lambda w: np.roll(w.x[0], 1, axis=-1), mentions("mixes points")),
    "mean of a cell": (lambda w: w.u - w.u.mean(axis=-1, keepdims=True), mentions("mixes points")),
    "norm without axis": (lambda w: np.linalg.norm(w.u.grad) * w.u, mentions("mixes points")),
    "share of the points": (lambda w: w.u / w.u.size, mentions("mixes points")),
    "random": (lambda w: np.random.default_rng().uniform() * w.u, mentions("other values for the same", "random")),
    "abs of an array": (lambda w: np.abs(np.array([w.u, w.u]))[0], mentions("disagrees with differences")),
    "norm of an array": (
        lambda w: np.linalg.norm(np.array([w.u.grad[0], w.u.grad[1]]), axis=0), mentions("disagrees with differences")
    ),
    "other mesh": (lambda w: FIELD * w.u, mentions("failed", "shapes")),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONALS)
def test_functionals(name: str) -> None:
    function, message = FUNCTIONALS[name]
    functional = fa.Functional(fa.Integral(function, name="my function"))
    with pytest.raises(fa.FemadjError, match=rf"(?s)form 'my function'.*{message[4:]}"):
        fa.value_and_gradient(solved(), functional)


def test_powers_out_of_range() -> None:
    for power in (0, np.nan, np.inf, "two", None):
        with pytest.raises(fa.ResponseError, match="power"):
            fa.Functional(lambda w: w.u, power=power)  # type: ignore[arg-type]
    solution = solved()
    for function in (lambda w: -(w.u**2), lambda w: 0.0 * w.u):
        with pytest.raises(fa.ResponseError, match=mentions("<lambda>", "0.5", "integral")):
            fa.Functional(function, power=0.5).evaluate(solution)
    assert fa.Functional(lambda w: -(w.u**2)).evaluate(solution).value < 0


def test_integrals_over_nothing() -> None:
    mesh = MESH.with_groups(cell_groups={"none": np.zeros(0, dtype=int)})
    with pytest.raises(fa.InvalidMeshError, match="'none' is empty"):
        problem_of([laplacian, fa.Integral(laplacian, "none")], mesh=mesh)
    with pytest.raises(fa.InvalidMeshError, match="'none' is empty"):
        fa.Functional(fa.Integral(lambda w: w.u, "none")).evaluate(problem_of(mesh=mesh).solve())


def test_asking_for_what_is_not_there_does_not_fail() -> None:
    asked = []

    def curious(u: Any, v: Any, w: Any) -> Any:
        asked.append(("k" in w, "n" in w, w.get("k", 3.0), hasattr(w, "n"), hasattr(w, "k")))
        return u * v

    problem_of(curious)
    assert set(asked) == {(False, False, 3.0, False, False)}
