"""The two field maps against each other on nodal elements, and laws of every kind on both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skfem
from scipy.sparse import csr_array
from skfem.helpers import grad, inner

import femadj as fa
from femadj.base.complex_step import STEP
from femadj.forms import term as terms
from femadj.forms.differentiation import ComplexStep
from femadj.forms.functional import PointFunctional
from femadj.forms.integral import IntegralTerm
from femadj.forms.integrand import Integrand
from femadj.forms.integrand_law import FluxLaw
from femadj.forms.law import Law, LoadLaw, PositionData, TensorLaw
from femadj.forms.probed import form_term
from femadj.forms.regional import RegionalTensor
from femadj.forms.term import TermAt
from femadj.mesh.reference import cell_type
from femadj.space.discretisation import Discretisation
from femadj.space.element import ElementSpace
from femadj.space.maps import FieldMap, Over
from femadj.space.parameters import Parameters
from femadj.space.pattern import MatrixEntries
from tests.meshes import box_mesh

FloatArray = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]

ORDER = 4
P1, P2 = skfem.ElementTriP1(), skfem.ElementTriP2()
ELEMENTS = [
    ("triangle", P1),
    ("triangle", skfem.ElementVector(P1)),
    ("triangle6", P2),
    ("quad", skfem.ElementVector(skfem.ElementQuad1())),
    ("quad9", skfem.ElementQuad2()),
    ("tetra", skfem.ElementVector(skfem.ElementTetP1())),
    ("tetra10", skfem.ElementTetP2()),
    ("hexahedron", skfem.ElementHex1()),
]
REGIONS: tuple[Over, ...] = ("cells", "facets")


def element_id(value: Any) -> str | None:
    return type(value).__name__ if isinstance(value, skfem.Element) else None


@dataclass(frozen=True, eq=False)
class Both:
    """A field on a mesh, with a nodal and an element field map on a region.

    ``order[k]`` is the unknown of the element that entry ``k`` of the flat nodal field is.
    """

    mesh: fa.Mesh
    nodal: Discretisation
    element: ElementSpace
    maps: tuple[FieldMap, FieldMap]
    order: npt.NDArray[np.int64]
    parameters: Parameters

    @classmethod
    def on(cls, cell: str, element: Any, over: Over) -> Both:
        dim = cell_type(cell).dim
        counts = {"tetra10": (1, 1, 1), "hexahedron": (2, 1, 1)}.get(cell, (3, 2, 1)[:dim])
        mesh = box_mesh(cell, counts, distortion=0.15, origin=(1.0, 2.0, 0.5)[:dim], seed=3)
        nc = element.dim if isinstance(element, skfem.ElementVector) else 1
        nodal, space = Discretisation.of(mesh, nc, 1), ElementSpace.on(mesh, element)
        (here,) = nodal.maps(over, None, ORDER)
        there = space.element_map(over, None, ORDER)
        numbering = space.numbering()
        order = np.empty(space.shape[0], dtype=np.int64)
        order[nc * numbering.location.indices + numbering.component] = np.arange(space.shape[0])
        rng = np.random.default_rng(5)
        parameters = {
            "a": 1.7,
            "b": rng.uniform(0.5, 1.5, dim),
            "t": fa.NodalField(rng.uniform(0.5, 1.5, mesh.n_nodes)),
            "c": fa.CellField(rng.uniform(0.5, 1.5, mesh.n_cells)),
        }
        return cls(mesh, nodal, space, (here, there), order, Parameters.of(mesh, parameters, "test"))

    def to_element(self, field: FloatArray) -> FloatArray:
        result = np.empty((field.size, 1))
        result[self.order, 0] = field.ravel()
        return result

    def terms(self, kind: str, over: Over) -> tuple[IntegralTerm, IntegralTerm]:
        """The same law on both maps."""
        first, second = (law_of(kind, self, fields, over) for fields in self.maps)
        return first, second


def law_of(kind: str, both: Both, fields: FieldMap, over: Over) -> IntegralTerm:
    """A term of a kind on a field map."""
    x, parameters = both.mesh.points, both.parameters
    if kind in FORMS:
        form, arity = FORMS[kind]
        return form_term(Integrand.of(form), fields, x, parameters, arity)
    n, nc, dim = fields.parts[-1].slots.stop, both.nodal.n_components, both.mesh.dim
    rng = np.random.default_rng(2)
    region = rng.integers(0, 2, both.mesh.n_cells).astype(np.int32)
    law: Law
    if kind == "tensors":
        law = TensorLaw(regional(rng.uniform(-1, 1, (2, n, n)), region, dim), 0, dim + 1, symmetric=False)
    elif kind == "nonlinear":
        law = FluxLaw(
            Integrand.of(nonlinear), fields.parts, 2, frozenset({"x", "a", "t", "t.grad", "c", "h", *normal(over)})
        )
    else:
        pressed = kind.startswith("pressure")
        given = rng.uniform(-1, 1, (2, nc + 1))
        given[:, slice(0, nc) if pressed else -1] = 0.0
        waves = rng.uniform(-1, 1, (1 if pressed else nc, dim))
        position = PositionData(lambda x: np.sin(x @ waves.T), lambda x, _: np.cos(x @ waves.T)[..., None] * waves)
        law = LoadLaw(regional(given, region, dim), nc, pressed, position if kind.endswith("of x") else None)
    return IntegralTerm.of(fields, law)


def regional(values: FloatArray, region: npt.NDArray[np.int32], dim: int) -> RegionalTensor:
    """Two tensors that are functions of the parameters a and b."""

    def function(a: Any, b: Any) -> Any:
        factor = np.sin(a[0]) * (1.0 + b[0, 0] * b[0, 1])
        return np.array([values[0] * factor, values[1] * a[0] ** 2])

    nothing = np.zeros(2, dtype=np.int64)
    return RegionalTensor(function, ("a", "b"), ((), (dim,)), region, (nothing, nothing), 2)


def normal(over: Over) -> set[str]:
    return {"n"} if over == "facets" else set()


def rich_bilinear(u: Any, v: Any, w: Any) -> Any:
    k = w.a * (1.0 + w.x[0] ** 2) + w.t + w.c * w.h
    flow = w.x[1] * w.t.grad[0] + 0.3
    total = k * inner(grad(u), grad(v)) + flow * inner(grad(u)[..., 0, :, :], v) + w.t**2 * inner(u, v)
    return total * (1.0 + w.n[0] * w.n[1]) if "n" in w else total


def rich_linear(v: Any, w: Any) -> Any:
    total = w.a * inner(grad(v), grad(v) * 0 + 1.0) + (w.t * w.x[0] + w.c) * inner(v, v * 0 + 1.0) * w.h
    return total * w.n[0] if "n" in w else total


def constant_bilinear(u: Any, v: Any, w: Any) -> Any:
    return (1.0 + w.a**2) * inner(grad(u), grad(v)) + w.b[0] * w.b[1] * inner(u, v)


def constant_linear(v: Any, w: Any) -> Any:
    return w.a * w.b[1] * inner(v, v * 0 + 1.0) + np.sin(w.a) * inner(grad(v), grad(v) * 0 + 0.5)


def by_cell(u: Any, v: Any, w: Any) -> Any:
    return w.c**2 * inner(grad(u), grad(v)) + inner(u, v)


def plain(u: Any, v: Any, w: Any) -> Any:
    return 3.0 * inner(u, v) + inner(grad(u), grad(v))


def nonlinear(u: Any, v: Any, w: Any) -> Any:
    k = (1.0 + inner(u, u)) * (w.a + w.x[0] * w.t) + w.h * w.t.grad[0]
    total = k * inner(grad(u), grad(v)) + w.c * inner(u, u) * inner(u, v)
    return total * (2.0 + w.n[1]) if "n" in w else total


FORMS: dict[str, tuple[Callable[..., Any], int]] = {
    "form": (rich_bilinear, 2),
    "form of constants": (constant_bilinear, 2),
    "form by cells": (by_cell, 2),
    "form without parameters": (plain, 2),
    "linear form": (rich_linear, 1),
    "linear form of constants": (constant_linear, 1),
}
LAWS = [*FORMS, "tensors", "nonlinear", "force", "force of x"]
PRESSURES = ["pressure", "pressure of x"]


def kinds(element: Any, over: Over) -> list[str]:
    return LAWS + (PRESSURES if over == "facets" and isinstance(element, skfem.ElementVector) else [])


CASES = [
    (cell, element, over, kind)
    for cell, element in ELEMENTS
    for over in REGIONS
    for kind in kinds(element, over)
]  # fmt: skip


def close(a: FloatArray | float, b: FloatArray | float, tolerance: float = 1e-12) -> None:
    assert np.abs(np.asarray(a) - b).max() <= tolerance * max(float(np.abs(b).max()), 1e-3)


def dense(at: TermAt, space: Discretisation, u: FloatArray) -> FloatArray:
    """``dr/du`` from the entries of a full pattern."""
    pattern = space.pattern(symmetric=False)
    entries = MatrixEntries(pattern, np.zeros(pattern.csr.nnz))
    at.jacobian(u, entries)
    return csr_array((entries.data, pattern.csr.indices, pattern.csr.indptr), shape=(u.size, u.size)).toarray()


def residual(at: TermAt, u: FloatArray) -> FloatArray:
    r = np.zeros_like(u)
    at.residual(u, r)
    return r


def directions(both: Both) -> list[fa.Design]:
    rng = np.random.default_rng(8)
    velocity = rng.uniform(-1, 1, both.mesh.points.shape)
    rates = {name: rng.uniform(-1, 1, np.shape(zeros)) for name, zeros in both.parameters.zeros().items()}
    return [fa.Design(velocity), fa.Design(None, rates), fa.Design(velocity, rates)]


def pulled(at: TermAt, both: Both, u: FloatArray, v: FloatArray) -> tuple[FloatArray, Mapping[str, FloatArray]]:
    into = fa.Cotangent(np.zeros_like(both.mesh.points), both.parameters.zeros())
    at.pullback(u, v, into, -0.7)
    assert into.points is not None
    return into.points, into.parameters


@pytest.mark.parametrize(("cell", "element", "over", "kind"), CASES, ids=element_id)
def test_both_field_maps_agree(cell: str, element: Any, over: Over, kind: str) -> None:
    both = Both.on(cell, element, over)
    rng = np.random.default_rng(9)
    u, v = rng.uniform(-1, 1, (2, *both.nodal.shape))
    eu, ev = both.to_element(u), both.to_element(v)
    nodal, tables = (term.at(both.mesh.points, both.parameters) for term in both.terms(kind, over))
    close(residual(tables, eu), both.to_element(residual(nodal, u)))
    mine = dense(tables, both.element, eu)[np.ix_(both.order, both.order)]
    close(mine, dense(nodal, both.nodal, u))
    for product in ("jvp", "vjp"):
        y, ey = np.zeros_like(u), np.zeros_like(eu)
        getattr(nodal, product)(u, v, y)
        getattr(tables, product)(eu, ev, ey)
        close(ey, both.to_element(y))
    (g, slopes), (eg, eslopes) = pulled(nodal, both, u, v), pulled(tables, both, eu, ev)
    close(eg, g)
    for name, slope in slopes.items():
        close(eslopes[name], slope)
    for direction in directions(both):
        y, ey = np.zeros_like(u), np.zeros_like(eu)
        nodal.pushforward(u, direction, y)
        tables.pushforward(eu, direction, ey)
        close(ey, both.to_element(y))


MOVING = [
    *(("cells", kind) for kind in ("form", "linear form", "nonlinear", "tensors", "force of x")),
    *(("facets", kind) for kind in ("nonlinear", "pressure of x")),
]


@pytest.mark.parametrize(("over", "kind"), MOVING)
def test_terms_in_motion_carry_their_rates(over: Over, kind: str) -> None:
    """All products of a term at a complex design, against sixth-order differences of the same at real ones."""
    both = Both.on("quad", skfem.ElementVector(skfem.ElementQuad1()), over)
    _, _, along = directions(both)
    rng, h = np.random.default_rng(9), 1e-3
    given = rng.uniform(-1, 1, (4, *both.nodal.shape))
    assert along.points is not None

    def products(at: TermAt, u: AnyArray, v: AnyArray) -> list[AnyArray]:
        residual, jvp, vjp = (np.zeros(u.shape, u.dtype) for _ in range(3))
        into = {name: zeros.astype(u.dtype) for name, zeros in both.parameters.zeros().items()}
        points = np.zeros(both.mesh.points.shape, u.dtype)
        at.residual(u, residual)
        at.jvp(u, v, jvp)
        at.vjp(u, v, vjp)
        at.pullback(u, v, fa.Cotangent(points, into), -0.7)
        return [residual, jvp, vjp, points, *into.values()]

    for term, fields in zip(both.terms(kind, over), (given, [both.to_element(x) for x in given]), strict=True):
        u, v, du, dv = fields

        def real(t: float, term: Any = term, u: Any = u, v: Any = v, du: Any = du, dv: Any = dv) -> list[AnyArray]:
            moved = {name: both.parameters.value(name) + t * rate for name, rate in along.parameters.items()}
            at = term.at(both.mesh.points + t * along.points, both.parameters.updated(moved))
            return products(at, u + t * du, v + t * dv)

        values = {k: real(k * h) for k in (-3, -2, -1, 1, 2, 3)}
        points = both.mesh.points + 1j * STEP * along.points
        moving = term.in_motion(points, both.parameters.in_motion(along.parameters))
        found = products(moving, u + 1j * STEP * du, v + 1j * STEP * dv)
        for number, (carried, expected) in enumerate(zip(found, real(0.0), strict=True)):
            close(carried.real, expected)
            a = {k: value[number] for k, value in values.items()}
            rate = (45 * (a[1] - a[-1]) - 9 * (a[2] - a[-2]) + (a[3] - a[-3])) / (60 * h)
            close(carried.imag / STEP, rate, 1e-9)


@pytest.mark.parametrize("over", REGIONS)
@pytest.mark.parametrize(("cell", "element"), ELEMENTS, ids=element_id)
def test_functionals_agree(cell: str, element: Any, over: Over) -> None:
    def function(u: Any, w: Any) -> Any:
        total = (w.a + inner(grad(u), grad(u))) * (1 + inner(u, u)) * w.x[0] + w.h * w.t.grad[0] * w.c
        return total * w.n[0] + w.n[1] ** 2 if "n" in w else total

    both = Both.on(cell, element, over)
    u = np.random.default_rng(9).uniform(-1, 1, both.nodal.shape)
    found = []
    for fields, field in zip(both.maps, (u, both.to_element(u)), strict=True):
        integral = PointFunctional(
            ComplexStep(Integrand.of(function)), fields, both.mesh.points, both.parameters, field
        )
        state, nodes, slopes = np.zeros_like(field), np.zeros_like(both.mesh.points), both.parameters.zeros()
        value = integral.add_partials(state, nodes, slopes)
        assert integral.value() == pytest.approx(value, rel=1e-13)
        found.append((value, state, nodes, slopes))
    (value, state, nodes, slopes), (other, other_state, other_nodes, other_slopes) = found
    assert other == pytest.approx(value, rel=1e-13)
    close(other_state, both.to_element(state))
    close(other_nodes, nodes)
    for name, slope in slopes.items():
        close(other_slopes[name], slope)


# ---------------------------------------------------------------------- derivatives
def difference(function: Callable[[float], FloatArray], h: float) -> FloatArray:
    """Of sixth order, at zero."""
    return sum(
        weight * (function(k * h) - function(-k * h)) for k, weight in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))
    ) / h  # fmt: skip


NONLINEAR = [("triangle6", P2), ("quad", skfem.ElementVector(skfem.ElementQuad1())), ("tetra", skfem.ElementTetP1())]


@pytest.mark.parametrize("number", [0, 1], ids=["nodal", "tables"])
@pytest.mark.parametrize("kind", ["nonlinear", "form", "force of x", "pressure of x"])
@pytest.mark.parametrize("over", REGIONS)
@pytest.mark.parametrize(("cell", "element"), NONLINEAR, ids=element_id)
def test_derivatives_against_differences(cell: str, element: Any, over: Over, kind: str, number: int) -> None:
    if kind not in kinds(element, over):
        return
    both = Both.on(cell, element, over)
    term, x = both.terms(kind, over)[number], both.mesh.points
    space = (both.nodal, both.element)[number]
    rng = np.random.default_rng(4)
    u, du, v = rng.uniform(-1, 1, (3, *space.shape))
    at = term.at(x, both.parameters)
    expected = difference(lambda s: residual(at, u + s * du), 1e-2)
    y, z = np.zeros_like(u), np.zeros_like(u)
    at.jvp(u, du, y)
    at.vjp(u, v, z)
    scale = float(np.abs(residual(at, u)).max())
    assert np.abs(y - expected).max() <= 1e-10 * scale
    assert (z * du).sum() == pytest.approx((v * y).sum(), rel=1e-12, abs=1e-13 * scale)
    close(dense(at, space, u) @ du.ravel(), y.ravel(), 1e-11)
    g, slopes = pulled(at, both, u, v)
    for direction in directions(both):

        def moved(s: float, direction: fa.Design = direction) -> FloatArray:
            points = x if direction.points is None else x + s * direction.points
            values = {n: both.parameters.value(n) + s * rate for n, rate in direction.parameters.items()}
            return residual(term.at(points, both.parameters.updated(values)), u)

        expected = difference(moved, 4e-4)
        rate = np.zeros_like(u)
        at.pushforward(u, direction, rate)
        assert np.abs(rate - expected).max() <= 1e-8 * max(float(np.abs(expected).max()), scale)
        backward = 0.0 if direction.points is None else float((g * direction.points).sum())
        backward += sum(float((slopes[name] * r).sum()) for name, r in direction.parameters.items())
        assert backward == pytest.approx(-0.7 * (v * rate).sum(), rel=1e-11, abs=1e-12 * scale)


# ---------------------------------------------------------------------- what is computed how often
FEW = 400
"""More points than are looked at alone."""


class Counted:
    """A function that counts its calls on whole regions, real ones and those with complex steps.

    Looks at a few points (whether points are mixed, whether derivatives agree with differences) do not count.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.real, self.complex = function, 0, 0

    def __call__(self, *arguments: Any) -> Any:
        x = getattr(arguments[-1], "x", arguments[-1])
        if x[0].size > FEW:
            self.real += not np.iscomplexobj(x)
            self.complex += np.iscomplexobj(x)
        return self.function(*arguments)

    def since(self) -> tuple[int, int]:
        """Real and complex calls since the last time."""
        found = self.real, self.complex
        self.real = self.complex = 0
        return found


def conduction(u: Any, v: Any, w: Any) -> Any:
    return (1 + w.x[0] ** 2) * inner(grad(u), grad(v)) + np.exp(-w.x[1]) * u * v


@pytest.mark.parametrize("element", [1, P2], ids=["nodal", "tables"])
def test_coefficients_are_evaluated_once_a_design(element: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = box_mesh("triangle", (16, 12), distortion=0.1, origin=(1.0, 2.0), seed=1)
    form, load = Counted(conduction), Counted(lambda v, w: w.x[0] * v)
    problem = fa.LinearStatic(mesh, fa.Form(form, load, element=element), [fa.Fixed("left")], [])
    solution = problem.solve(mesh.points + 0.01)
    form.since(), load.since()
    solution = problem.solve(mesh.points)
    assert form.since() == (3, 0)  # two independent coefficients, and the check
    assert load.since() == (2, 0)
    fa.value_and_gradient(solution, fa.Functional(lambda w: w.u**2))
    assert form.since() == (0, 2)  # one step for each coordinate
    assert load.since() == (0, 2)
    fa.values_and_gradients(solution, [fa.Functional(lambda w: w.u**3)])
    fa.value_and_gradient(solution, fa.Functional(lambda w: w.u**4))
    assert form.since() == (0, 4)
    monkeypatch.setattr(terms, "COEFFICIENT_BYTES", 0)  # nothing is kept
    solution = problem.solve(mesh.points)
    form.since()
    fa.value_and_gradient(solution, fa.Functional(lambda w: w.u**2))
    assert form.since() == (2, 2)  # evaluated again, and compared with what was found before


def test_loads_of_position_are_evaluated_once_a_design() -> None:
    mesh = box_mesh("quad", (16, 12), distortion=0.1, origin=(1.0, 2.0), seed=1)
    source = Counted(lambda x: np.sin(x[0]))
    problem = fa.LinearStatic(mesh, fa.Diffusion(1.0), [fa.Fixed("left")], [fa.Source(source)])
    source.since()
    solution = problem.solve(mesh.points + 0.01)
    assert source.since() == (1, 0)
    fa.value_and_gradient(solution, fa.FieldNorm())
    assert source.since() == (0, 2)
    fa.value_and_gradient(solution, fa.Functional(lambda w: w.u**2))
    assert source.since() == (0, 0)


def test_values_of_functionals_need_no_derivatives() -> None:
    mesh = box_mesh("triangle", (16, 12), distortion=0.1, origin=(1.0, 2.0), seed=1)
    function = Counted(lambda w: w.u**2 * w.x[0])
    solution = fa.LinearStatic(mesh, fa.Diffusion(1.0), [fa.Fixed("left")], [fa.Source(1.0)]).solve()
    functional = fa.Functional(function)
    value = functional.value(solution)
    assert function.since() == (1, 0)
    partials = functional.partials(solution)
    assert partials.value == pytest.approx(value, rel=1e-14)
    assert function.since() == (2, 2)  # value, step of the state, steps of the coordinates
