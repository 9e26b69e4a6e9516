"""Forms on unknowns of any scikit-fem element: matrices, exact derivatives, supports, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skfem
from scipy.sparse import csr_array
from skfem import BilinearForm, CellBasis, FacetBasis, InteriorFacetBasis, LinearForm, asm
from skfem.helpers import curl, ddot, div, dot, grad, inner, jump

import femadj as fa
from femadj.conditions.supports import Supports
from femadj.forms.differentiation import ComplexStep
from femadj.forms.functional import PointFunctional
from femadj.forms.integrand import Integrand
from femadj.mesh.reference import cell_type, quadrature
from femadj.problems import Solution
from femadj.problems.fem import FemResidual
from femadj.space.element import ElementSpace
from femadj.space.parameters import Parameters
from tests.meshes import box_mesh
from tests.products import Products

FloatArray = npt.NDArray[np.float64]


def mesh_of(cell: str, counts: tuple[int, ...] | None = None) -> fa.Mesh:
    """A distorted box away from the origin."""
    dim = cell_type(cell).dim
    return box_mesh(cell, counts or (3, 2, 1)[:dim], distortion=0.15, origin=(1.0, 2.0, 0.5)[:dim], seed=3)


@dataclass(frozen=True, eq=False)
class Weighted:
    """``c . u`` over all unknowns."""

    weights: FloatArray

    @classmethod
    def of(cls, solution: Solution) -> Weighted:
        return cls(np.random.default_rng(7).uniform(-1, 1, solution.u.shape))

    def evaluate(self, solution: Solution) -> fa.Evaluation:
        return fa.Evaluation(float((self.weights * solution.u).sum()), state=self.weights)


def check_gradient(problem: fa.LinearStatic, scale: float = 0.02) -> FloatArray:
    """Taylor order two and five-point differences, with every node moving; returns the gradient."""
    solution = problem.solve()
    response = Weighted.of(solution)
    x = problem.mesh.points
    value, gradient = fa.value_and_gradient(solution, response)
    direction = scale * np.random.default_rng(11).uniform(-1, 1, x.shape)
    slope = float((gradient.points * direction).sum())

    def at(step: float) -> float:
        return response.evaluate(problem.solve(x + step * direction)).value

    differences = []
    for h in (0.1, 0.05, 0.025):
        differences.append((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h))
    size = float(np.linalg.norm(gradient.points * direction))
    assert min(abs(d - slope) for d in differences) <= 1e-7 * size
    steps = np.array([0.1, 0.05, 0.025])
    remainders = [abs(at(h) - value - h * slope) for h in steps]
    rate = np.polyfit(np.log(steps), np.log(remainders), 1)[0]
    if abs(rate - 2.0) > 0.05:  # a second derivative that happens to be small: shorter steps
        steps = np.array([0.01, 0.005, 0.0025])
        remainders = [abs(at(h) - value - h * slope) for h in steps]
        rate = np.polyfit(np.log(steps), np.log(remainders), 1)[0]
    assert abs(rate - 2.0) <= 0.05
    return gradient.points


def system_of(form: fa.Form, mesh: fa.Mesh) -> FemResidual:
    """The residual without supports."""
    space, parameters = form.discretise(mesh, 1), Parameters.of(mesh, form.parameters, "Form")
    bound = form.bind(space, parameters, None)
    return FemResidual.of(space, bound, (), Supports.of(space, form, ()), parameters)


def matrix_of(system: FemResidual, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Dense matrix and load vector."""
    assembled = Products(system).assemble(points)
    csr = system.pattern.csr
    k = csr_array((assembled.values, csr.indices, csr.indptr), shape=(csr.n, csr.n)).toarray()
    if csr.triangle == "upper":
        k = k + np.triu(k, 1).T
    return k, assembled.load.ravel()


# ------------------------------------------------------------------ matrices and load vectors
def slots_of(field: Any) -> list[Any]:
    """Everything a field is made of, as a list of scalars."""
    found: list[Any] = []
    for array in (np.asarray(field), field.grad, field.div, field.curl):
        if array is not None:
            found += list(np.asarray(array).reshape(-1, *np.shape(array)[-2:]))
    return found


def general_bilinear(*arguments: Any) -> Any:
    """A form in which everything meets everything."""
    *fields, w = arguments
    half = len(fields) // 2
    u = [s for f in fields[:half] for s in slots_of(f)]
    v = [s for f in fields[half:] for s in slots_of(f)]
    total = 0.0
    for i, a in enumerate(u):
        for k, b in enumerate(v):
            total = total + (np.sin(1.0 + 3 * i + 2 * k) + np.cos(i * k) * w.x[0] ** 2 + 0.1 * w.h) * a * b
    if "idx" in w:
        total = total * (1.0 + w.idx[0] + 3 * w.idx[1])
    return total * (w.n[0] + 2.0) if "n" in w else total


def general_linear(*arguments: Any) -> Any:
    """A form in which everything counts."""
    *fields, w = arguments
    v = [s for f in fields for s in slots_of(f)]
    total = sum((np.sin(1.0 + k) + w.x[1] ** 2) * b for k, b in enumerate(v))
    if "idx" in w:
        total = total * (1.0 + w.idx[0])
    return total * (w.n[1] + 2.0) if "n" in w else total


TRI_P2, TET_P2 = skfem.ElementTriP2(), skfem.ElementTetP2()
TAYLOR_HOOD = skfem.ElementVector(TRI_P2) * skfem.ElementTriP1()
TAYLOR_HOOD_3D = skfem.ElementVector(TET_P2) * skfem.ElementTetP1()
MINI = skfem.ElementVector(skfem.ElementTriP1B()) * skfem.ElementTriP1()
MIXED = skfem.ElementTriRT0() * skfem.ElementTriP0()

ELEMENTS = [
    ("triangle", TRI_P2),
    ("triangle", skfem.ElementTriP3()),
    ("triangle6", skfem.ElementTriP1()),
    ("triangle", skfem.ElementVector(TRI_P2)),
    ("triangle", TAYLOR_HOOD),
    ("triangle6", TAYLOR_HOOD),
    ("triangle", MINI),
    ("triangle", MIXED),
    ("triangle6", skfem.ElementTriRT2()),
    ("triangle6", skfem.ElementTriBDM1()),
    ("triangle6", skfem.ElementTriN1()),
    ("triangle", skfem.ElementTriN2()),
    ("triangle", skfem.ElementTriCR()),
    ("triangle", skfem.ElementTriP1DG()),
    ("triangle6", skfem.ElementDG(TRI_P2)),
    ("quad", skfem.ElementQuad2()),
    ("quad9", skfem.ElementQuadRT1()),
    ("quad9", skfem.ElementQuadN1()),
    ("tetra", TET_P2),
    ("tetra", skfem.ElementTetRT0()),
    ("tetra10", skfem.ElementTetN0()),
    ("tetra10", skfem.ElementTetP1()),
    ("hexahedron", skfem.ElementHex2()),
    ("hexahedron27", skfem.ElementHex1()),
]


def element_id(value: Any) -> str | None:
    return type(value).__name__ if isinstance(value, skfem.Element) else None


@pytest.mark.parametrize(("cell", "element"), ELEMENTS, ids=element_id)
@pytest.mark.parametrize("over", ["cells", "facets", "interior facets"])
def test_matrices_and_loads_are_those_of_scikit_fem(cell: str, element: Any, over: Any) -> None:
    mesh = mesh_of(cell, (2, 2) if cell_type(cell).dim == 2 else (1, 1, 1) if cell != "hexahedron27" else (2, 1, 1))
    order = 3
    group = "left" if over == "facets" else None
    if cell == "hexahedron" and over == "interior facets":
        mesh = mesh_of(cell, (2, 1, 1))
    form = fa.Form(
        fa.Integral(general_bilinear, group, order, over),
        fa.Integral(general_linear, group, order, over),
        element=element,
    )
    k, f = matrix_of(system_of(form, mesh), mesh.points)
    space = form.discretise(mesh, 1)
    assert isinstance(space, ElementSpace)
    theirs = space.skfem_mesh(mesh.points)
    kind = cell_type(cell).shape
    if over != "cells":
        kind = {2: "line", 3: "triangle", 4: "quad"}[theirs.facets.shape[0]]
    points, weights = quadrature(kind, order)
    rule = (np.ascontiguousarray(points.T), weights)
    bases: Any
    if over == "cells":
        bases = CellBasis(theirs, element, quadrature=rule)
    elif over == "facets":
        bases = FacetBasis(theirs, element, quadrature=rule, facets=space.facet_numbers(mesh.facets("left")))
    else:
        bases = [InteriorFacetBasis(theirs, element, quadrature=rule, side=side) for side in (0, 1)]
    expected = asm(BilinearForm(general_bilinear), bases, bases).toarray()
    load = asm(LinearForm(general_linear), bases)
    assert np.abs(k - expected).max() <= 1e-12 * np.abs(expected).max()
    assert np.abs(f - load).max() <= 1e-12 * np.abs(load).max()


# ------------------------------------------------------------------ gradients
def stokes(u: Any, p: Any, v: Any, q: Any, w: Any) -> Any:
    return w.nu * (1.0 + 0.2 * w.x[0]) * ddot(grad(u), grad(v)) - p * div(v) - q * div(u)


def stokes_load(v: Any, q: Any, w: Any) -> Any:
    return w.x[1] ** 2 * v[0] - v[1] + 0.3 * q


def inflow(x: Any) -> Any:
    return [np.sin(x[1])] + [0.2 * x[0] * x[1]] * (len(x) - 1)


def stokes_problem(cell: str) -> fa.LinearStatic:
    mesh = mesh_of(cell, (1, 1, 1) if cell == "tetra10" else None)
    form = fa.Form(
        stokes,
        stokes_load,
        element=TAYLOR_HOOD_3D if cell == "tetra10" else TAYLOR_HOOD,
        parameters={"nu": 0.7},
    )
    supports = [
        fa.Fixed("left", "u", value=inflow),
        fa.Fixed("top", "u.x", value=lambda x: np.sin(x[1])),
        fa.Fixed("corner", ["p"], value=0.3),
    ]
    return fa.LinearStatic(mesh, form, supports)


def mixed_bilinear(s: Any, u: Any, t: Any, v: Any, w: Any) -> Any:
    return dot(s, t) / w.k + div(s) * v + div(t) * u


def mixed_load(t: Any, v: Any, w: Any) -> Any:
    return -(w.x[0] ** 2) * v


def boundary_value(t: Any, v: Any, w: Any) -> Any:
    return np.sin(w.x[1]) * dot(t, w.n)


def mixed_problem(cell: str) -> fa.LinearStatic:
    mesh = mesh_of(cell)
    k = fa.NodalField(1.0 + 0.3 * np.cos(mesh.points[:, 0]))
    form = fa.Form(
        mixed_bilinear,
        [mixed_load, fa.Integral(boundary_value, "right")],
        element=MIXED,
        parameters={"k": k},
        names=("flux", "pressure"),
    )
    return fa.LinearStatic(mesh, form, [fa.Fixed("bottom", "flux")])


def maxwell(e: Any, v: Any, w: Any) -> Any:
    product = dot(curl(e), curl(v)) if w.x.shape[0] == 3 else curl(e) * curl(v)
    return product / w.mu + (1.0 + w.x[0]) * dot(e, v)


def current(v: Any, w: Any) -> Any:
    return w.x[1] * v[0] + v[1]


def maxwell_problem(cell: str) -> fa.LinearStatic:
    mesh = mesh_of(cell, (2, 1, 1) if cell == "tetra" else None)
    element = skfem.ElementTetN0() if cell == "tetra" else skfem.ElementTriN1()
    form = fa.Form(maxwell, current, element=element, parameters={"mu": 2.0}, definite=True, names=("E",))
    return fa.LinearStatic(mesh, form, [fa.Fixed("left", "E")])


def conduction(u: Any, v: Any, w: Any) -> Any:
    return dot(grad(u), grad(v))


def heating(v: Any, w: Any) -> Any:
    return (1.0 + w.x[0] * w.x[1]) * v


def penalty(u: Any, v: Any, w: Any) -> Any:
    ju, jv = jump(w, u, v)
    mean_u, mean_v = 0.5 * dot(grad(u), w.n), 0.5 * dot(grad(v), w.n)
    return w.s / w.h * ju * jv - mean_u * jv - mean_v * ju


def boundary_penalty(u: Any, v: Any, w: Any) -> Any:
    return w.s / w.h * u * v - dot(grad(u), w.n) * v - dot(grad(v), w.n) * u


def boundary_data(v: Any, w: Any) -> Any:
    return np.cos(w.x[0]) * (w.s / w.h * v - dot(grad(v), w.n))


def dg_problem(cell: str) -> fa.LinearStatic:
    element = skfem.ElementTriP1DG() if cell.startswith("tri") else skfem.ElementDG(skfem.ElementTetP1())
    form = fa.Form(
        [
            conduction,
            fa.Integral(penalty, over="interior facets"),
            fa.Integral(boundary_penalty, over="facets"),
        ],
        [heating, fa.Integral(boundary_data, over="facets")],
        element=element,
        parameters={"s": 20.0},
        definite=True,
    )
    return fa.LinearStatic(mesh_of(cell, (1, 1, 1) if cell == "tetra" else None), form, [])


def advection(u: Any, v: Any, w: Any) -> Any:
    return 0.1 * dot(grad(u), grad(v)) + (w.x[1] * grad(u)[0] + 0.5 * grad(u)[1]) * v


def gradient_jump(u: Any, v: Any, w: Any) -> Any:
    ju, jv = jump(w, dot(grad(u), w.n), dot(grad(v), w.n))
    return w.gamma * w.h**2 * ju * jv


def cip_problem(cell: str) -> fa.LinearStatic:
    form = fa.Form(
        [advection, fa.Integral(gradient_jump, over="interior facets")],
        heating,
        parameters={"gamma": fa.NodalField(np.linspace(0.5, 1.0, mesh_of(cell).n_nodes))},
    )
    return fa.LinearStatic(mesh_of(cell), form, [fa.Fixed("left", "u", value=lambda x: np.sin(x[1]))])


def quadratic_problem(cell: str) -> fa.LinearStatic:
    form = fa.Form(conduction, heating, element=TRI_P2, definite=True, names=("T",))
    return fa.LinearStatic(mesh_of(cell), form, [fa.Fixed("left", "T", value=lambda x: x[0] * np.sin(3 * x[1]))])


PROBLEMS: list[tuple[Callable[[str], fa.LinearStatic], str]] = [
    (stokes_problem, "triangle6"),
    (stokes_problem, "tetra10"),
    (mixed_problem, "triangle"),
    (mixed_problem, "triangle6"),
    (maxwell_problem, "triangle6"),
    (maxwell_problem, "tetra"),
    (dg_problem, "triangle"),
    (dg_problem, "tetra"),
    (cip_problem, "triangle"),
    (cip_problem, "triangle6"),
    (quadratic_problem, "triangle"),
]


@pytest.mark.parametrize(("make", "cell"), PROBLEMS)
def test_gradients_are_exact(make: Callable[[str], fa.LinearStatic], cell: str) -> None:
    problem = make(cell)
    check_gradient(problem)
    check_parameters(problem)
    check_products(problem)


def check_parameters(problem: fa.LinearStatic) -> None:
    """Gradients by the parameters against differences."""
    solution = problem.solve()
    response = Weighted.of(solution)
    _, gradient = fa.value_and_gradient(solution, response)
    rng = np.random.default_rng(2)
    for name in problem.parameters:
        base = problem.parameters.value(name)
        direction = rng.uniform(-1, 1, base.shape) * np.abs(base)

        def at(step: float, name: str = name, base: FloatArray = base, direction: FloatArray = direction) -> float:
            return response.evaluate(problem.solve(parameters={name: base + step * direction})).value

        slope = float((gradient.parameters[name] * direction).sum())
        h = 0.01
        difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        assert abs(difference - slope) <= 1e-7 * abs(slope)


def check_products(problem: fa.LinearStatic) -> None:
    """``v . (dK/dX V) u`` by the tangent and by the contraction."""
    system, x = Products(problem), problem.mesh.points
    rng = np.random.default_rng(3)
    u, v = rng.uniform(-1, 1, (2, *problem.residual.space.shape))
    velocity = rng.uniform(-1, 1, x.shape)
    forward = float((v * system.tangent(x, velocity, u)).sum())
    backward = -float((system.contract(x, u, v, v) * velocity).sum())
    size = float(np.linalg.norm(system.contract(x, u, v, v)) * np.linalg.norm(velocity))
    assert abs(forward - backward) <= 1e-13 * size
    for term in problem.residual.internal:
        at, y, z = term.at(x, problem.parameters), np.zeros_like(u), np.zeros_like(u)
        at.jvp(u, u, y)
        at.vjp(u, v, z)
        assert abs((y * v).sum() - (z * u).sum()) <= 1e-13 * np.linalg.norm(y) * np.linalg.norm(v) * 10


def form_of(problem: fa.LinearStatic) -> fa.Form:
    assert isinstance(problem.physics, fa.Form)
    return problem.physics


@dataclass(frozen=True, eq=False)
class OwnFunctional:
    """A nonlinear functional of all parts."""

    integrand: Any
    over: str

    def evaluate(self, solution: Solution) -> fa.Evaluation:
        group = None if self.over == "cells" else "right"
        (fields,) = solution.at.space.maps(self.over, group, 4)  # type: ignore[arg-type]
        way, parameters = ComplexStep(Integrand.of(self.integrand)), solution.parameters
        integral = PointFunctional(way, fields, solution.points, parameters, solution.u)
        state, nodes, slopes = np.zeros_like(solution.u), np.zeros_like(solution.points), parameters.zeros()
        value = integral.add_partials(state, nodes, slopes)
        assert integral.value() == pytest.approx(value, rel=1e-14)
        return fa.Evaluation(value, state=state, points=nodes, parameters=slopes)


def dissipation(u: Any, p: Any, w: Any) -> Any:
    return w.nu * ddot(grad(u), grad(u)) * (1.0 + 0.1 * np.sqrt(1.0 + p**2)) + w.x[0] * div(u) ** 2


def force(u: Any, p: Any, w: Any) -> Any:
    return p**2 * w.n[0] - w.nu * np.abs(dot(grad(u)[0], w.n)) + w.h


def flow(s: Any, u: Any, w: Any) -> Any:
    total = div(s) ** 2 * u + dot(s, s) * w.k
    return total + dot(s, w.n) ** 2 if "n" in w else total


def energy(e: Any, w: Any) -> Any:
    return dot(e, e) ** 2 + (dot(curl(e), curl(e)) if w.x.shape[0] == 3 else curl(e) ** 2) * w.mu


STEPS = (-4e-4, -2e-4, 2e-4, 4e-4)


@pytest.mark.parametrize(
    ("make", "cell", "function", "over"),
    [
        (stokes_problem, "triangle6", dissipation, "cells"),
        (stokes_problem, "triangle6", force, "facets"),
        (mixed_problem, "triangle6", flow, "cells"),
        (mixed_problem, "triangle", flow, "facets"),
        (maxwell_problem, "tetra", energy, "cells"),
        (maxwell_problem, "triangle6", energy, "cells"),
    ],
)
def test_functionals_of_parts(make: Callable[[str], fa.LinearStatic], cell: str, function: Any, over: str) -> None:
    problem = make(cell)
    response = OwnFunctional(function, over)
    x = problem.mesh.points
    _, gradient = fa.value_and_gradient(problem.solve(), response)
    direction = np.random.default_rng(1).uniform(-1, 1, x.shape)
    at = [response.evaluate(problem.solve(x + h * direction)).value for h in STEPS]
    difference = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * STEPS[2])
    assert difference == pytest.approx((gradient.points * direction).sum(), rel=2e-8)
    for name in problem.parameters:
        base = problem.parameters.value(name)
        at = [response.evaluate(problem.solve(parameters={name: base * (1 + h)})).value for h in STEPS]
        difference = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * STEPS[2])
        assert difference == pytest.approx((gradient.parameters[name] * base).sum(), rel=1e-7)


def test_functionals_that_are_refused() -> None:
    solution = stokes_problem("triangle6").solve()

    def strips(u: Any, p: Any, w: Any) -> Any:
        return np.abs(np.array([p]))[0]

    with pytest.raises(fa.FormError, match="the state 'p' disagrees with differences"):
        OwnFunctional(strips, "cells").evaluate(solution)


def test_routes_are_explained() -> None:
    text = form_of(dg_problem("triangle")).explain(mesh_of("triangle"))
    assert "'penalty' over interior facets" in text
    assert "it joins the fields of two cells" in text
    assert "ElementTriP1DG" in text
    text = form_of(cip_problem("triangle")).explain(mesh_of("triangle"))
    assert "'advection' over cells (all, triangle, 3 points): compiled kernels" in text
    assert "'gradient_jump' over interior facets (all, 2 points): transported fields" in text
    own = fa.Form(conduction, heating, element=TRI_P2)
    assert "compiled kernels" in own.explain(mesh_of("triangle6"))
    assert "not values at the nodes of triangle cells" in own.explain(mesh_of("triangle"))


# ------------------------------------------------------------------ parts, supports, names
def test_parts_and_nodal_values() -> None:
    problem = stokes_problem("triangle6")
    solution = problem.solve()
    mesh = problem.mesh
    velocity, places = solution.part("u")
    pressure, corners = solution.part("p")
    assert velocity.shape == (mesh.n_nodes, 2)
    assert pressure.shape == (len(corners), 1)
    assert velocity.size + pressure.size == solution.u.size
    # on the mesh's own cells the velocity lives at the nodes
    order = np.abs(places[:, None] - mesh.points[None]).sum(axis=2).argmin(axis=1)
    assert np.abs(places - mesh.points[order]).max() < 1e-12
    assert np.abs(solution.nodal("u")[order] - velocity).max() < 1e-12
    at = np.abs(corners[:, None] - mesh.points[None]).sum(axis=2).argmin(axis=1)
    assert np.abs(solution.nodal("p")[at] - pressure).max() < 1e-12
    left = mesh.nodes_of("left")
    assert np.abs(solution.nodal("u")[left] - np.array(inflow(mesh.points[left].T)).T).max() < 1e-12
    with pytest.raises(fa.ProblemError, match="u, p"):
        solution.nodal()
    with pytest.raises(fa.ProblemError, match=r"no part 'q'.*u, p"):
        solution.part("q")


def test_parts_of_nodal_fields() -> None:
    solution = cip_problem("triangle").solve()
    assert solution.u.shape == (solution.problem.mesh.n_nodes, 1)
    assert np.shares_memory(solution.nodal(), solution.u)
    assert solution.part("u")[1] is solution.points
    mesh = mesh_of("triangle")
    form = fa.Form(conduction, heating, names=("T",))
    plain = fa.LinearStatic(mesh, form, [fa.Fixed("left", "T")]).solve()
    assert np.shares_memory(plain.nodal("T"), plain.u)


def test_nodal_values_of_other_elements() -> None:
    """Functions that the elements hold exactly come back at the nodes."""
    mesh = mesh_of("triangle6")
    x = mesh.points

    def load(v: Any, w: Any) -> Any:
        return (2.0 + w.x[0]) * v[0] - w.x[1] * v[1] if v.ndim == 3 else (2.0 + w.x[0]) * v

    def mass(u: Any, v: Any, w: Any) -> Any:
        return inner(u, v)

    expected = np.column_stack([2.0 + x[:, 0], -x[:, 1]])
    for element in (skfem.ElementDG(TRI_P2), TRI_P2):
        form = fa.Form(mass, load, element=element, definite=True)
        assert np.abs(fa.LinearStatic(mesh, form, []).solve().nodal() - expected[:, :1]).max() < 1e-11
    straight = mesh_of("triangle")
    form = fa.Form(mass, load, element=skfem.ElementTriBDM1(), definite=True)
    solution = fa.LinearStatic(straight, form, []).solve()
    expected = np.column_stack([2.0 + straight.points[:, 0], -straight.points[:, 1]])
    assert np.abs(solution.nodal("u") - expected).max() < 1e-11


def test_interior_facets_keep_the_nodes_of_the_mesh() -> None:
    """The unknown stays nodal: built-in loads and responses fit."""
    mesh = mesh_of("triangle")
    form = fa.Form([conduction, fa.Integral(gradient_jump, over="interior facets")], parameters={"gamma": 0.1})
    problem = fa.LinearStatic(mesh, form, [fa.Fixed("left")], [fa.Source(1.0), fa.PointLoad("opposite", 2.0)])
    for response in (fa.FieldNorm(), fa.Displacement("right")):
        _, gradient = fa.value_and_gradient(problem.solve(), response)
        direction = np.random.default_rng(1).uniform(-1, 1, mesh.points.shape)
        at = [response.evaluate(problem.solve(mesh.points + h * direction)).value for h in (-2e-3, -1e-3, 1e-3, 2e-3)]
        difference = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / 12e-3
        assert difference == pytest.approx((gradient.points * direction).sum(), rel=1e-7)


def test_supports_hold_what_lies_on_their_group() -> None:
    mesh = mesh_of("triangle")
    space = ElementSpace.on(mesh, TAYLOR_HOOD)
    form = fa.Form(stokes, element=TAYLOR_HOOD, parameters={"nu": 1.0})
    points = space.numbering().location @ mesh.points
    numbering = space.numbering()
    left = mesh.points[mesh.nodes_of("left")]
    # the left side is bent by the distortion: unknowns on it are its corners and the middles between them
    for components, wanted in (("u.y", (0, 1)), ("p", (1, 0)), (("u.x", "p"), None), (None, None), ("u", None)):
        fixed = Supports.of(space, form, [fa.Fixed("left", components)]).fixed.ravel()
        n = len(left)
        count = {"u.y": 2 * n - 1, "p": n, "u": 4 * n - 2, ("u.x", "p"): 3 * n - 1, None: 5 * n - 2}[components]
        assert fixed.sum() == count
        if wanted is not None:
            assert set(zip(numbering.part[fixed], numbering.component[fixed], strict=True)) == {wanted}
    corner = Supports.of(space, form, [fa.Fixed("corner")]).fixed.ravel()
    assert corner.sum() == 3
    assert np.abs(points[corner] - mesh.points[mesh.nodes_of("corner")]).max() < 1e-14
    low = Supports.of(space, form, [fa.Fixed("low", "p")]).fixed.ravel()
    assert low.sum() == len(mesh.nodes_of("low"))


def test_no_support_is_needed() -> None:
    """Boundary conditions may be part of the forms."""
    assert not dg_problem("triangle").residual.supports.fixed.any()


def test_the_unknown_without_support_is_named() -> None:
    mesh = mesh_of("triangle")
    form = fa.Form(stokes, stokes_load, element=TAYLOR_HOOD, parameters={"nu": 1.0}, names=("velocity", "pressure"))
    problem = fa.LinearStatic(mesh, form, [fa.Fixed("boundary", "velocity")])
    with pytest.raises(fa.SolverError, match=r"unknown \d+ at \(.*\), pressure"):
        problem.solve()


# ------------------------------------------------------------------ what is refused
def second_derivatives(u: Any, v: Any, w: Any) -> Any:
    return ddot(u.hess, v.hess)


def plain(u: Any, v: Any, w: Any) -> Any:
    return inner(u, v)


@pytest.mark.parametrize(
    ("element", "cell", "message"),
    [
        (skfem.ElementTriMorley(), "triangle", "ElementTriMorley.*second derivatives"),
        (skfem.ElementTriArgyris(), "triangle", "ElementTriArgyris"),
        (skfem.ElementTriHermite(), "triangle", "ElementTriHermite"),
        (skfem.ElementTriN3(), "triangle", "ElementTriN3.*neither functions nor vectors"),
        (skfem.ElementTriHHJ0(), "triangle", "ElementTriHHJ0"),
        (skfem.ElementQuad2(), "triangle", "quadrilateral cells, .* triangle cells"),
        (skfem.ElementTetP2(), "triangle", "triangle cells"),
        (skfem.ElementQuadP(3), "quad", "several unknowns on a facet"),
        (skfem.ElementTriP2, "triangle", r"ElementTriP2\(\)"),
        ("P2", "triangle", "scikit-fem element"),
        (skfem.ElementVector(skfem.ElementTriRT0()), "triangle", "vectors of two or more H1"),
        (skfem.ElementTriP2(), "quad8", "one block of"),
        (skfem.ElementTriP2(), "quad+triangle", "one block of"),
    ],
)
def test_elements_that_are_refused(element: Any, cell: str, message: str) -> None:
    mesh = box_mesh(cell)
    with pytest.raises((fa.FormError, fa.UnsupportedCellError), match=message):
        fa.LinearStatic(mesh, fa.Form(plain, element=element), [])


class Doubled(skfem.ElementDG):
    """An element with shape functions of its own."""

    def gbasis(self, *args: Any, **kwargs: Any) -> Any:
        (field,) = super().gbasis(*args, **kwargs)
        return (skfem.element.DiscreteField(2.0 * field, grad=field.grad),)


def test_shape_functions_are_compared_with_those_of_scikit_fem() -> None:
    with pytest.raises(fa.FormError, match="Doubled are not those of a H1 element"):
        fa.LinearStatic(mesh_of("triangle"), fa.Form(plain, element=Doubled(TRI_P2)), [])


def test_fields_have_only_the_derivatives_of_their_space() -> None:
    def turned(u: Any, v: Any, w: Any) -> Any:
        return curl(u) * div(v)

    with pytest.raises(fa.FormError, match="failed"):
        fa.LinearStatic(mesh_of("triangle"), fa.Form(turned, element=skfem.ElementTriRT0()), [])


@pytest.mark.parametrize("names", [("u",), ("u", "u"), ("u", "a b"), ("u", "p", "q")])
def test_names_must_fit(names: tuple[str, ...]) -> None:
    with pytest.raises(fa.FormError, match="names must be 2 different"):
        fa.Form(stokes, element=TAYLOR_HOOD, names=names)


@pytest.mark.parametrize("names", [("u", "v"), "u", ("1",)])
def test_a_field_has_one_name(names: Any) -> None:
    with pytest.raises(fa.FormError, match="one name"):
        fa.Form(plain, names=names)


def nonlinear(u: Any, v: Any, w: Any) -> Any:
    return u**2 * v


def mixes_points(u: Any, v: Any, w: Any) -> Any:
    return u * np.asarray(v)[..., ::-1]


def reads_cell_field(u: Any, v: Any, w: Any) -> Any:
    return w.c * u * v


def reads_gradient(u: Any, v: Any, w: Any) -> Any:
    return w.t.grad[0] * u * v


def reads_nothing_known(u: Any, v: Any, w: Any) -> Any:
    return w.nothing * u * v


def strips_the_step(u: Any, v: Any, w: Any) -> Any:
    return np.abs(np.array([w.x[0] - 1.5]))[0] * u * v


def too_many(u: Any, v: Any, w: Any) -> Any:
    return grad(u) * v


def not_a_number(u: Any, v: Any, w: Any) -> Any:
    return np.log(w.x[0] - 10.0) * u * v


@pytest.mark.parametrize(
    ("form", "over", "message"),
    [
        (second_derivatives, "cells", "second and higher derivatives"),
        (second_derivatives, "interior facets", "second and higher derivatives"),
        (nonlinear, "cells", "linear"),
        (mixes_points, "cells", "mixes points"),
        (reads_cell_field, "interior facets", "w.c, which has two values"),
        (reads_gradient, "interior facets", "w.t.grad, which has two values"),
        (reads_nothing_known, "interior facets", "over interior facets there are only: .*'idx'"),
        (strips_the_step, "cells", "w.x disagrees with differences"),
        (too_many, "cells", "one number at every quadrature point"),
        (not_a_number, "cells", "NaN"),
        (stokes, "cells", "missing 2 required"),
    ],
)
def test_forms_that_are_refused(form: Any, over: Any, message: str) -> None:
    mesh = mesh_of("triangle")
    parameters: dict[str, Any] = {
        "c": fa.CellField(np.ones(mesh.n_cells)),
        "t": fa.NodalField(np.ones(mesh.n_nodes)),
        "nu": 1.0,
    }
    physics = fa.Form(fa.Integral(form, over=over), element=TRI_P2, parameters=parameters)
    with pytest.raises(fa.FormError, match=message):
        fa.LinearStatic(mesh, physics, [])


def test_facets_between_cells_have_two_sides() -> None:
    mesh = box_mesh("triangle", (2, 2))
    form = fa.Form([conduction, fa.Integral(plain, "middle")], element=skfem.ElementTriP1DG())
    with pytest.raises(fa.FormError, match=r"lie between two cells.*w.idx"):
        fa.LinearStatic(mesh, form, [])
    form = fa.Form([conduction, fa.Integral(plain, "left", over="interior facets")])
    with pytest.raises(fa.FormError, match="2 facets on the boundary"):
        fa.LinearStatic(mesh, form, [])
    one = fa.Mesh([[0, 0], [1, 0], [0, 1]], {"triangle": [[0, 1, 2]]})
    with pytest.raises(fa.FormError, match="no facets between two cells"):
        fa.LinearStatic(one, fa.Form([plain, fa.Integral(plain, over="interior facets")]), [])


def test_a_group_of_interior_facets() -> None:
    """One side of an interface, chosen by its index."""
    mesh = box_mesh("triangle", (2, 3), distortion=0.1)

    def first_side(v: Any, w: Any) -> Any:
        return (1.0 - w.idx[0]) * v

    form = fa.Form(plain, fa.Integral(first_side, "middle", over="interior facets"), element=skfem.ElementTriP1DG())
    load = fa.LinearStatic(mesh, form, []).solve().load
    middle = mesh.points[mesh.nodes_of("middle")]
    middle = middle[np.argsort(middle[:, 1])]
    assert load.sum() == pytest.approx(np.linalg.norm(np.diff(middle, axis=0), axis=1).sum(), rel=1e-13)
    within = fa.Form([plain, fa.Integral(penalty, "low", over="interior facets")], element=skfem.ElementTriP1DG(),
                     parameters={"s": 1.0})  # fmt: skip
    space = within.discretise(mesh, 1)
    assert isinstance(space, ElementSpace)
    assert 0 < len(space.interior) < len(space.interior_facets(None))


@pytest.mark.parametrize(
    ("support", "message"),
    [
        (fa.Fixed("left", "x"), "no component 'x', only u, u.x, u.y, p"),
        (fa.Fixed("left", 0), "components must be names"),
        (fa.Fixed("left", ("u.x", "u")), "repeat one"),
        (fa.Fixed("left", value=1.0), "needs the name of one part"),
        (fa.Fixed("left", "u", value=np.ones((3, 2))), "no order that an array of locations"),
        (fa.Fixed("left", "u", value=(1.0, 2.0, 3.0)), "must be a number or have shape"),
        (fa.Fixed("left", "u", value=np.nan), "finite"),
        (fa.Fixed("left", "u", value=lambda x: x[0]), "must return shape"),
        (fa.Fixed("nowhere", "u"), "nowhere"),
    ],
)
def test_supports_that_are_refused(support: fa.Fixed, message: str) -> None:
    form = fa.Form(stokes, element=TAYLOR_HOOD, parameters={"nu": 1.0})
    with pytest.raises(fa.FemadjError, match=message):
        fa.LinearStatic(mesh_of("triangle"), form, [support, fa.Fixed("corner", "p")]).solve()


def test_supports_of_unknowns_that_are_not_values() -> None:
    form = fa.Form(mixed_bilinear, element=MIXED, parameters={"k": 1.0})
    mesh = mesh_of("triangle")
    with pytest.raises(fa.SupportError, match="ElementTriRT1 are no values at points there"):
        fa.LinearStatic(mesh, form, [fa.Fixed("left", "u", value=1.0)])
    with pytest.raises(fa.SupportError, match=r"'p'.*no unknowns there"):
        fa.LinearStatic(mesh, form, [fa.Fixed("left", "p")])
    with pytest.raises(fa.SupportError, match="no unknowns there"):
        fa.LinearStatic(mesh, fa.Form(plain, element=skfem.ElementTriP1DG()), [fa.Fixed("left")])
    fa.LinearStatic(mesh, form, [fa.Fixed("low", "p"), fa.Fixed("left")])


def test_contradictory_supports_name_part_component_and_place() -> None:
    mesh = mesh_of("triangle")
    form = fa.Form(stokes, element=TAYLOR_HOOD, parameters={"nu": 1.0})
    supports = [fa.Fixed("left", "u", value=1.0), fa.Fixed("bottom", "u.y", value=2.0), fa.Fixed("corner", "p")]
    with pytest.raises(fa.SupportError, match=r"'left' and 'bottom' contradict.*at \(.*\), u\.y: 1 and 2"):
        fa.LinearStatic(mesh, form, supports).solve()


def test_loads_and_responses_at_nodes_do_not_fit_other_elements() -> None:
    mesh = mesh_of("triangle")
    form = fa.Form(conduction, heating, element=TRI_P2)
    with pytest.raises(fa.LoadError, match=r"Source.*linear form"):
        fa.LinearStatic(mesh, form, [fa.Fixed("left")], [fa.Source(1.0)])
    solution = fa.LinearStatic(mesh, form, [fa.Fixed("left")]).solve()
    for response in (fa.FieldNorm(), fa.Displacement("right")):
        with pytest.raises(fa.FemadjError, match=r"element|nodes"):
            fa.value_and_gradient(solution, response)


def test_compliance_of_an_element() -> None:
    problem = fa.LinearStatic(
        mesh_of("triangle"), fa.Form(conduction, heating, element=TRI_P2, definite=True), [fa.Fixed("left")]
    )
    solution = problem.solve()
    value, gradient = fa.value_and_gradient(solution, fa.Compliance())
    assert value == pytest.approx((solution.load * solution.u).sum(), rel=1e-12)
    direction = np.random.default_rng(1).uniform(-1, 1, problem.mesh.points.shape)
    at = [
        fa.Compliance().evaluate(problem.solve(problem.mesh.points + h * direction)).value
        for h in (-2e-3, -1e-3, 1e-3, 2e-3)
    ]
    difference = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / 12e-3
    assert difference == pytest.approx((gradient.points * direction).sum(), rel=1e-7)
    assert solution.reactions().sum() == pytest.approx(-solution.load.sum(), rel=1e-10)


def test_tangled_cells_are_found() -> None:
    problem = quadratic_problem("triangle")
    points = problem.mesh.points.copy()
    inside = int(problem.mesh.node_groups["opposite"][0])
    points[inside] = points.mean(axis=0) - 2.0
    with pytest.raises(fa.TangledMeshError, match="inside out"):
        Products(problem).assemble(points)


def test_symmetry() -> None:
    mesh = mesh_of("triangle")

    def with_matrix(u: Any, v: Any, w: Any) -> Any:
        return dot(np.einsum("ij...,j...->i...", w.a, grad(u)), grad(v)) + u * v

    form = fa.Form(with_matrix, heating, element=TRI_P2, parameters={"a": np.eye(2)})
    assert not fa.LinearStatic(mesh, form, []).residual.symmetric
    assert dg_problem("triangle").residual.symmetric

    def late(u: Any, v: Any, w: Any) -> Any:
        return u * v + np.where(w.x[0] + w.x[1] < 0.3, 1.0, 0.0) * grad(u)[0] * v

    fine = box_mesh("triangle", (40, 40), origin=(0.0, 0.0), lengths=(4.0, 4.0))
    form = fa.Form(late, heating, element=TRI_P2)
    problem = fa.LinearStatic(fine, form, [])
    assert problem.residual.symmetric  # on the sampled cells
    with pytest.raises(fa.FormError, match="symmetric=False"):
        problem.solve()
    fa.LinearStatic(fine, fa.Form(late, heating, element=TRI_P2, symmetric=False), []).solve()
    with pytest.raises(fa.FormError, match="not symmetric in u and v are: 'advection'"):
        fa.LinearStatic(mesh, fa.Form(advection, element=TRI_P2, symmetric=True), [])


def test_terms_that_the_sample_does_not_show() -> None:
    """Coefficients that vanish on the sampled entities, and are not proportional elsewhere."""
    mesh = box_mesh("triangle", (30, 30), origin=(0.0, 0.0), lengths=(3.0, 3.0))

    def local(u: Any, v: Any, w: Any) -> Any:
        k = 1.0 + np.where(w.x[0] > 2.95, 2.0, 0.0)
        return k * grad(u)[0] * grad(v)[0] + grad(u)[1] * grad(v)[1] + u * v

    def spot(v: Any, w: Any) -> Any:
        return np.where(w.x[0] > 2.95, 1.0, 0.0) * v

    form = fa.Form(local, spot, element=TRI_P2)
    system = system_of(form, mesh)
    k, f = matrix_of(system, mesh.points)
    space = form.discretise(mesh, 1)
    assert isinstance(space, ElementSpace)
    basis = CellBasis(space.skfem_mesh(mesh.points), TRI_P2)
    expected = asm(BilinearForm(local), basis).toarray()
    assert np.abs(k - expected).max() <= 1e-12 * np.abs(expected).max()
    load = asm(LinearForm(spot), basis)
    assert np.abs(f - load).max() <= 1e-12 * np.abs(load).max()
