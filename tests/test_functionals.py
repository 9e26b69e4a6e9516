"""Functionals of one's own: values, derivatives, powers, parameters, and integrands that NumPy users write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skfem
from skfem.helpers import cross, ddot, det, div, dot, eye, grad, identity, inv, mul, prod, sym_grad, trace, transpose

import femadj as fa
from femadj.sensitivity.verify import local_sizes
from tests.meshes import box_mesh
from tests.products import Products
from tests.test_forms import (
    CELLS,
    assert_exact,
    differences,
    direction_of,
    functionals_of,
    laplacian,
    mesh_of,
    problem_from,
    problem_of,
    skfem_basis,
    skfem_dofs,
    stress,
    wave,
)

FloatArray = npt.NDArray[np.float64]


def solved(cell: str, form: str) -> fa.Solution:
    return problem_of(cell, form).solve()


# ---------------------------------------------------------------------- values
@pytest.mark.parametrize("cell", CELLS)
def test_values_of_known_integrals(cell: str) -> None:
    solution = solved(cell, "elasticity")
    mesh = solution.problem.mesh
    c = mesh.points[:, 0].mean()
    low = mesh.cell_volumes()[mesh.cells_of("low")].sum()
    side = fa.Functional(fa.Integral(lambda w: w.n[0] * (w.x[0] - c), "boundary")).evaluate(solution).value
    known = {
        "volume": (fa.Functional(lambda w: 1.0), mesh.volume()),
        "of a group": (fa.Functional(fa.Integral(lambda w: 1.0, "low")), low),
        "square": (fa.Functional(lambda w: dot(w.u, w.u)), fa.FieldNorm().evaluate(solution).value),
        "root": (fa.Functional(lambda w: dot(w.u, w.u), power=0.5), fa.FieldNorm().evaluate(solution).value ** 0.5),
        "reciprocal": (fa.Functional(lambda w: 1.0, power=-1), 1 / mesh.volume()),
        "normals of a closed surface": (fa.Functional(fa.Integral(lambda w: w.n[1], "boundary")), 0.0),
        "divergence theorem": (
            fa.Functional([lambda w: div(w.u), fa.Integral(lambda w: -dot(w.u, w.n), "boundary")]), 0.0
        ),
    }  # fmt: skip
    curved_sides = cell in ("tetra10", "hexahedron27")  # area elements there are no polynomials
    for name, (functional, value) in known.items():
        if curved_sides and name in ("normals of a closed surface", "divergence theorem"):
            continue
        scale = max(abs(value), mesh.volume())
        assert abs(functional.evaluate(solution).value - value) <= 1e-12 * scale, name
    assert side == pytest.approx(mesh.volume(), rel=1e-3 if curved_sides else 1e-11)


@pytest.mark.parametrize("cell", ["triangle", "quad9", "hexahedron"])
def test_values_equal_those_of_scikit_fem(cell: str) -> None:
    solution = solved(cell, "elasticity")
    mesh, u = solution.problem.mesh, solution.u

    def density(w: Any) -> Any:
        return ddot(stress(grad(w.u), wave(w.x)), sym_grad(w.u)) ** 2 + w.h * dot(w.u, w.u)

    def flux(w: Any) -> Any:
        return w.x[1] * dot(mul(stress(grad(w.u), 2.0), w.n), w.u) * w.h

    for form, group in ((density, None), (flux, "top")):
        basis = skfem_basis(mesh, mesh.dim, 4, group)
        vector = np.empty(basis.N)
        vector[skfem_dofs(mesh, basis, mesh.dim)] = u.ravel()
        expected = float(skfem.Functional(form).assemble(basis, u=basis.interpolate(vector)))
        ours = fa.Functional(fa.Integral(form, group, order=4)).evaluate(solution).value
        assert ours == pytest.approx(expected, rel=1e-11)


def test_several_integrals_are_summed_before_the_power() -> None:
    solution = solved("quad", "advection")
    parts: list[Any] = [lambda w: w.u**2, fa.Integral(lambda w: w.x[0] ** 2, "top"), fa.Integral(lambda w: 3.0, "low")]
    values = [fa.Functional(part).evaluate(solution) for part in parts]
    together = fa.Functional(parts, power=0.5).evaluate(solution)
    total = sum(v.value for v in values)
    assert together.value == pytest.approx(total**0.5, rel=1e-13)
    for name in ("state", "points"):
        summed = sum(getattr(v, name) for v in values)
        assert np.abs(getattr(together, name) - 0.5 * total**-0.5 * summed).max() <= 1e-13 * np.abs(summed).max()


def test_functionals_read_the_parameters_of_the_problem() -> None:
    problem = problem_of("triangle6", "nodal fields")
    functional = fa.Functional(
        [lambda w: w.k * dot(grad(w.u), grad(w.u)), fa.Integral(lambda w: dot(w.b, w.n) * w.u * w.c, "top")],
        parameters={"c": 0.7},
    )
    assert_exact(problem, {"energy": functional})
    solution = problem.solve()
    value, gradient = fa.value_and_gradient(solution, functional)
    assert set(gradient.parameters) == {"k", "b", "c"}
    flux = fa.Functional(fa.Integral(lambda w: dot(w.b, w.n) * w.u, "top")).evaluate(solution).value
    assert gradient.parameters["c"] == pytest.approx(flux, rel=1e-12)
    k = np.asarray(problem.parameters.value("k"))
    step = np.random.default_rng(1).uniform(-1, 1, k.shape)

    def values(t: float) -> FloatArray:
        return np.array(functional.evaluate(problem.solve(parameters={"k": k + t * step})).value)

    exact = float((gradient.parameters["k"] * step).sum())
    assert abs(differences(values, 1e-3) - exact) <= 1e-8 * np.abs(gradient.parameters["k"]).sum()
    assert value == functional.evaluate(solution).value


def test_functionals_of_built_in_physics() -> None:
    mesh = mesh_of("wedge")
    problem = fa.LinearStatic(
        mesh, fa.Elasticity(3.0, 0.3), [fa.Fixed("left")], [fa.Pressure("right", 1.0), fa.BodyForce((0, -1.0, 0.3))]
    )
    assert_exact(problem, functionals_of(mesh, 3))
    value, gradient = fa.value_and_gradient(problem.solve(), functionals_of(mesh, 3)["tracking"])
    assert set(gradient.parameters) == {"weight", "target", "each", "E", "nu"}
    assert value > 0


def test_functionals_of_nothing_but_the_mesh() -> None:
    problem = problem_of("tetra", "coefficient of x")
    mesh = problem.mesh
    for group in (None, "low"):
        own, built_in = fa.Functional(fa.Integral(lambda w: 1.0, group)), fa.Volume(group)
        value, gradient = fa.value_and_gradient(problem.solve(), own)
        expected, exact = fa.value_and_gradient(problem.solve(), built_in)
        assert value == pytest.approx(expected, rel=1e-13), group
        assert np.abs(gradient.points - exact.points).max() <= 1e-12 * np.abs(exact.points).max()
        assert not gradient.supports.any()
    area = fa.Functional(fa.Integral(lambda w: 1.0, "top"))
    assert_exact(problem, {"area": area, "moment": fa.Functional(lambda w: w.x[0] * w.x[1])})
    still = np.ones(mesh.points.shape)
    gradient = fa.value_and_gradient(problem.solve(), area)[1]
    assert abs((gradient.points * still).sum()) <= 1e-12 * np.abs(gradient.points).sum()


# ---------------------------------------------------------------------- integrands as NumPy users write them
def matrix_of(w: Any) -> Any:
    """A well-conditioned matrix that depends on the gradient of the state."""
    return identity(grad(w.u)) + 0.1 * grad(w.u)


OF_X: dict[str, Callable[[Any], Any]] = {
    "abs": lambda w: np.abs(w.x[0] - 3.4),
    "builtin abs": lambda w: abs(w.x[1]) * w.x[0],
    "maximum": lambda w: np.maximum(w.x[0], 3.5) ** 2,
    "minimum": lambda w: np.minimum(w.x[1] * w.x[0], -5.0),
    "where": lambda w: np.where(w.x[0] > 3.45, w.x[0] ** 2, 3 + w.x[1]),
    "norm": lambda w: np.linalg.norm(w.x, axis=0),
    "hypot": lambda w: np.hypot(w.x[0], w.x[1]),
    "arctan2": lambda w: np.arctan2(w.x[1], w.x[0]),
    "clip": lambda w: np.clip(w.x[0], 3.2, 3.6) * w.x[1],
    "clip method": lambda w: w.x[0].clip(3.2, 3.6) * w.x[1],
    "sign": lambda w: np.sign(w.x[0] - 3.43) * w.x[1],
    "heaviside": lambda w: np.heaviside(w.x[0] - 3.43, 0.5) * w.x[1],
    "array of entries": lambda w: dot(np.array([w.x[1], -w.x[0]]), np.array([w.x[0], w.x[0] * w.x[1]])),
    "stack": lambda w: np.stack([w.x[1], w.x[0] ** 2]).sum(axis=0),
    "cross": lambda w: cross(np.stack([w.x[0], w.x[1]]), np.stack([w.x[1] ** 2, w.x[0]])),
    "power of x": lambda w: w.x[0] ** w.x[1],
    "fractional power": lambda w: (w.x[0] - 2) ** 1.7,
    "integer power of a negative": lambda w: w.x[1] ** 3,
    "roots": lambda w: np.sqrt(w.x[0]) + np.cbrt(w.x[1]),
    "logarithms": lambda w: np.log(w.x[0]) * np.log10(w.x[0]) + np.log1p(w.x[0]) + np.log2(w.x[0]),
    "hyperbolic": lambda w: np.tanh(w.x[0]) + np.sinh(w.x[1]) + np.cosh(w.x[1]),
    "inverse": lambda w: np.arctan(w.x[0]) + np.arcsin(w.x[0] / 9) * np.arccos(w.x[1] / 9) + np.arcsinh(w.x[1]),
    "max over axis": lambda w: np.max(w.x, axis=0),
    "min method": lambda w: w.x.min(axis=0) ** 2,
    "sum and prod": lambda w: np.prod(w.x, axis=0) + w.x.sum(axis=0) + w.x.prod(axis=0),
    "mean": lambda w: w.x.mean(axis=0) * np.mean(w.x, axis=0),
    "matmul": lambda w: (np.moveaxis(w.x, 0, -1) @ np.arange(1.0, 1 + len(w.x))) ** 2,
    "polyval": lambda w: np.polyval([0.3, -1.0, 2.0], w.x[0]),
    "in place": lambda w: in_place(w.x),
    "conj and copy": lambda w: np.conj(w.x[0]) * w.x[1].copy(),
    "piecewise by masks": lambda w: (w.x[0] > 3.43) * w.x[0] + (w.x[0] <= 3.43) * w.x[1],
    "real by hand": lambda w: w.x[0] * (w.x[1] < 0).astype(float),
    "einsum": lambda w: np.einsum("i...,j...,ij->...", w.x, w.x, np.arange(len(w.x) ** 2.0).reshape(len(w.x), -1)),
    "interp": lambda w: np.interp(w.x[0], [0.0, 3.2, 3.5, 9.0], [0.0, 1.0, 5.0, 7.0]),
    "select": lambda w: np.select([w.x[0] < 3.3, w.x[0] >= 3.3], [w.x[0], w.x[1]]),
    "piecewise": lambda w: np.piecewise(w.x[0], [w.x[0] < 3.3, w.x[0] >= 3.3], [lambda x: x**2, lambda x: -x]),
    "norm of an array": lambda w: np.linalg.norm(np.array([w.x[0], w.x[1]]), axis=0) + w.x[0],
    "abs of an array": lambda w: np.abs(np.array([w.x[0] - 9.0, w.x[1]]))[0] + w.x[0],
    "maximum of an array": lambda w: np.maximum(np.array([w.x[0], w.x[1]]), 0.1)[0] * w.x[1],
    "modulo": lambda w: w.x[0] % 0.7,
    "floor division": lambda w: w.x[0] // 0.7 + w.x[0],
    "round": lambda w: np.round(w.x[0], 1) + w.x[0],
    "std": lambda w: np.std(w.x, axis=0),
    "var method": lambda w: w.x.var(axis=0),
    "sort": lambda w: np.sort(w.x, axis=0)[0],
    "logaddexp": lambda w: np.logaddexp(w.x[0], w.x[1]),
    "exponentials": lambda w: np.exp(-w.x[0]) + np.expm1(w.x[1]) + np.exp2(w.x[1]),
    "ptp": lambda w: np.ptp(w.x, axis=0),
    "nan to num": lambda w: np.nan_to_num(w.x[0]) * w.x[0],
    "gradient": lambda w: np.diff(w.x, axis=0)[0],
    "float power": lambda w: np.float_power(w.x[0], 2.2),
    "sinc": lambda w: np.sinc(w.x[0] / 4),
    "vectorised": lambda w: np.vectorize(lambda t: float(t) ** 2)(w.x[0]),
    "tolist": lambda w: np.array(w.x[0].tolist()) ** 2,
    "item by item": lambda w: np.reshape([t.item() for t in np.ravel(w.x[0])], w.x[0].shape) ** 2,
    "dot method": lambda w: w.x.reshape(len(w.x), -1).T.dot(np.arange(1.0, 1 + len(w.x))).reshape(w.x[0].shape) ** 2,
    "absolute square": lambda w: (w.x * w.x.conj()).sum(axis=0),
    "argmax": lambda w: np.take_along_axis(w.x, np.argmax(w.x, axis=0)[None], axis=0)[0] ** 2,
    "argmax method": lambda w: np.take_along_axis(w.x, w.x.argmax(axis=0)[None], axis=0)[0] ** 2,
    "any": lambda w: w.x[0] ** 2 if np.any(w.x[0] > 0) else w.x[1],
    "choose": lambda w: np.choose((w.x[0] > 3.43).astype(int), [w.x[0], w.x[1]]),
    "view": lambda w: w.x[0].view(np.ndarray) ** 2,
    "asarray abs": lambda w: np.abs(np.asarray(w.x[1])) * w.x[0],
    "small part lost": lambda w: w.x[0] + 0.005 * np.abs(np.array([w.x[0], w.x[1]]))[0],
}

OF_THE_STATE: dict[str, Callable[[Any], Any]] = {
    "abs": lambda w: np.abs(w.u[0] - 0.1),
    "norm": lambda w: np.linalg.norm(w.u, axis=0),
    "norm of the gradient": lambda w: np.linalg.norm(grad(w.u), axis=(0, 1)),
    "frobenius": lambda w: np.linalg.norm(grad(w.u), "fro", axis=(0, 1)),
    "maximum": lambda w: np.maximum(w.u[0], 0.0) ** 2,
    "principal": lambda w: principal(sym_grad(w.u)),
    "det": lambda w: det(matrix_of(w)),
    "inv": lambda w: trace(inv(matrix_of(w))),
    "helpers": lambda w: trace(prod(w.u, w.u)) + ddot(transpose(grad(w.u)), grad(w.u)) * div(w.u),
    "eye": lambda w: ddot(eye(w.u[0] ** 2, len(w.u)), grad(w.u)),
    "identity": lambda w: ddot(identity(grad(w.u)) + grad(w.u), grad(w.u)),
    "numpy det": lambda w: np.linalg.det(np.moveaxis(matrix_of(w), (0, 1), (-2, -1))),
    "numpy inv": lambda w: np.trace(np.linalg.inv(np.moveaxis(matrix_of(w), (0, 1), (-2, -1))), axis1=-2, axis2=-1),
    "numpy solve": lambda w: np.linalg.solve(
        np.moveaxis(matrix_of(w), (0, 1), (-2, -1)), np.moveaxis(w.u, 0, -1)[..., None]
    )[..., 0, 0],
    "eigenvalues": lambda w: np.linalg.eigvalsh(np.moveaxis(sym_grad(w.u), (0, 1), (-2, -1)))[..., 0],
    "general eigenvalues": lambda w: np.abs(np.linalg.eigvals(np.moveaxis(grad(w.u), (0, 1), (-2, -1)))[..., 0]),
    "array": lambda w: np.array([w.u[0], w.u[1]])[1] ** 2,
    "array of gradients": lambda w: np.array([grad(w.u)[0, 0], grad(w.u)[1, 1]]).sum(axis=0) ** 2,
    "abs of an array": lambda w: np.abs(np.array([w.u[0], w.u[1]]))[1] + w.u[0],
    "norm of an array": lambda w: np.linalg.norm(np.array([w.u[0], w.u[1]]), axis=0) + w.u[0],
    "norm of an array of gradients": lambda w: np.linalg.norm(np.array([grad(w.u)[0, 0], w.u[1]]), axis=0),
    "small part lost": lambda w: w.u[0] + 0.005 * np.abs(np.array([w.u[0], w.u[1]]))[0],
    "loop": lambda w: sum(grad(w.u)[i, i] for i in range(len(w.u))) ** 2,
    "assigned": lambda w: assigned(w.u),
    "ramp": lambda w: np.where(trace(grad(w.u)) > 0, trace(grad(w.u)), 0.0) ** 2,
    "log of exp": lambda w: np.log(np.exp(w.u).sum(axis=0)),
    "max of components": lambda w: np.max(w.u, axis=0),
    "item access": lambda w: w["u"][1] * w["x"][0],
    "mixed": lambda w: np.exp(-dot(w.u, w.u)) * np.abs(w.x[0]) * w.h,
    "float32": lambda w: w.u[0].astype(np.float32) ** 2,
    "real": lambda w: np.real(w.u[0]) ** 2,
    "real attribute": lambda w: w.u[0].real ** 2,
    "empty": lambda w: filled(w.u),
}


def named(functions: dict[str, Callable[[Any], Any]]) -> list[Any]:
    return [pytest.param(name) for name in functions]


def in_place(x: Any) -> Any:
    total = np.zeros_like(x[0])
    for row in x:
        total += row**2
    return total


def filled(u: Any) -> Any:
    result = np.empty(u.shape)
    for i, part in enumerate(u):
        result[i] = part**2
    return result.sum(axis=0)


def assigned(u: Any) -> Any:
    result = np.zeros_like(u)
    result[0] = u[1] ** 2
    return result.sum(axis=0)


def principal(strain: Any) -> Any:
    mean, half = 0.5 * (strain[0, 0] + strain[1, 1]), 0.5 * (strain[0, 0] - strain[1, 1])
    return mean + np.sqrt(half**2 + strain[0, 1] ** 2)


MUST_WORK_OF_X = (
    "abs", "builtin abs", "maximum", "minimum", "where", "norm", "hypot", "arctan2", "clip", "clip method", "sign",
    "heaviside", "array of entries", "stack", "cross", "power of x", "fractional power", "integer power of a negative",
    "roots", "logarithms", "hyperbolic", "inverse", "max over axis", "min method", "sum and prod", "mean", "matmul",
    "in place", "conj and copy", "piecewise by masks", "real by hand", "einsum", "exponentials", "absolute square",
    "argmax", "any", "float power",
)  # fmt: skip
MUST_WORK_OF_THE_STATE = (
    "abs", "norm", "norm of the gradient", "frobenius", "maximum", "principal", "det", "inv", "helpers", "eye",
    "identity", "numpy det", "numpy inv", "numpy solve", "array", "array of gradients", "loop", "ramp",
    "log of exp", "max of components", "item access", "mixed",
)  # fmt: skip


def right_or_refused(problem: fa.LinearStatic, name: str, integrand: Callable[[Any], Any], required: bool) -> None:
    """Gradients agree with differences, or there is an error that names the function; nothing in between."""

    functional = fa.Functional(fa.Integral(integrand, name=f"my {name}"))
    x = problem.mesh.points
    refusal = ""
    try:
        value, gradient = fa.value_and_gradient(problem.solve(), functional)
    except fa.FemadjError as error:
        refusal = str(error)
    if refusal:
        assert f"'my {name}'" in refusal
        assert not required, refusal
        return
    # few directions and a short step: integrands have kinks
    for seed in range(2):
        velocity = direction_of(problem.mesh, seed) if seed else local_sizes(problem.mesh)[:, None] * np.sin(x)

        def values(t: float, velocity: FloatArray = velocity) -> FloatArray:
            return np.array(functional.evaluate(problem.solve(x + t * velocity)).value)

        terms = gradient.points * velocity
        found = min(abs(differences(values, h) - terms.sum()) for h in (1e-3, 3e-4, 1e-4, 3e-5))
        assert found <= 1e-7 * np.abs(terms).max() + 1e-11 * abs(value) / 1e-2, name


@pytest.mark.parametrize("name", named(OF_X))
def test_functions_of_position(name: str) -> None:
    right_or_refused(problem_of("triangle", "advection"), name, OF_X[name], name in MUST_WORK_OF_X)


@pytest.mark.parametrize("name", named(OF_THE_STATE))
def test_functions_of_the_state(name: str) -> None:
    required = name in MUST_WORK_OF_THE_STATE
    right_or_refused(problem_of("triangle6", "elasticity"), name, OF_THE_STATE[name], required)


@pytest.mark.parametrize("name", named(OF_X))
def test_coefficients_of_position(name: str) -> None:
    """The same functions, as coefficients of a form."""
    mesh = mesh_of("quad9")
    integrand = OF_X[name]

    def form(u: Any, v: Any, w: Any) -> Any:
        return (30 + integrand(w)) * dot(grad(u), grad(v))

    refusal = ""
    try:
        problem = problem_from(mesh, fa.Form(fa.Integral(form, name=f"my {name}"), lambda v, w: v))
        problem.solve()
    except fa.FemadjError as error:
        refusal = str(error)
    if refusal:
        assert f"'my {name}'" in refusal
        assert name not in MUST_WORK_OF_X, refusal
        return
    x = mesh.points
    u, lam = np.random.default_rng(2).uniform(-1, 1, (2, mesh.n_nodes, 1))
    velocity = direction_of(mesh)
    terms = Products(problem).contract(x, u, lam, lam * 0) * velocity

    def values(t: float) -> FloatArray:
        return -np.asarray((lam * Products(problem).stiffness_times(x + t * velocity, u)).sum())

    found = min(abs(differences(values, h) - terms.sum()) for h in (1e-3, 3e-4, 1e-4, 3e-5))
    assert found <= 1e-7 * np.abs(terms).max(), name


@pytest.mark.parametrize(
    "strip",
    [
        np.real,
        lambda x: x.real,
        lambda x: x.astype(float),
        lambda x: x.astype(np.float32),
        lambda x: float(x.ravel()[0]) + 0 * x,
        lambda x: x.imag,
        np.imag,
        np.real_if_close,
        lambda x: np.asarray(x, dtype=float),
        lambda x: np.array(x).real,
    ],
)
def test_dropping_the_derivative_is_refused(strip: Callable[[Any], Any]) -> None:
    problem = problem_of("quad", "elasticity")
    solution = problem.solve()
    places: dict[str, Callable[[Any], Any]] = {
        "w.x": lambda w: strip(w.x[0]) ** 2,
        "the state": lambda w: strip(w.u[0]) ** 2,
        "the gradient": lambda w: strip(grad(w.u)[0, 0]) ** 2,
        "w.h": lambda w: strip(w.h) ** 2,
    }
    for place, function in places.items():
        with pytest.raises(fa.FemadjError, match=f"form 'in {place}'"):
            fa.value_and_gradient(solution, fa.Functional(fa.Integral(function, name=f"in {place}")))
    with pytest.raises(fa.FemadjError, match="form 'on facets'"):
        fa.value_and_gradient(
            solution, fa.Functional(fa.Integral(lambda w: strip(w.n[0]) ** 2, "top", name="on facets"))
        )
    for kind in (fa.NodalField(np.ones(9) + np.arange(9)), fa.CellField(np.arange(1.0, 5.0)), 2.0):
        own = fa.Functional(fa.Integral(lambda w: strip(w.p + 0 * w.x[0]) ** 2, name="of p"), parameters={"p": kind})
        with pytest.raises(fa.FemadjError, match="form 'of p'"):
            fa.value_and_gradient(solution, own)


def test_functions_with_a_kink_in_the_mesh() -> None:
    """Differences see a kink that crosses no quadrature point as smooth."""
    problem = problem_of("quad9", "coefficient of x")
    u = problem.solve().u
    middle = float(np.median(u))
    functionals: dict[str, fa.Response] = {
        "abs": fa.Functional(lambda w: np.abs(w.u - middle) ** 3),
        "ramp": fa.Functional(lambda w: np.maximum(w.u - middle, 0.0) ** 4),
        "smooth max": fa.Functional(lambda w: np.where(w.u > middle, w.u, middle) ** 8, power=1 / 8),
    }
    x, velocity = problem.mesh.points, direction_of(problem.mesh)
    for name, functional in functionals.items():
        value, gradient = fa.value_and_gradient(problem.solve(), functional)

        def values(t: float, functional: fa.Response = functional) -> FloatArray:
            return np.array(functional.evaluate(problem.solve(x + t * velocity)).value)

        terms = gradient.points * velocity
        found = min(abs(differences(values, h) - terms.sum()) for h in (1e-3, 1e-4, 3e-5))
        assert found <= 1e-6 * np.abs(terms).max() + 1e-9 * value, name


# ---------------------------------------------------------------------- exactly at a kink
def test_at_a_kink_there_is_no_derivative() -> None:
    mesh = box_mesh("quad", (2, 2))
    problem = fa.LinearStatic(mesh, fa.Diffusion(1.0), [fa.Fixed("boundary")], [])
    solution = problem.solve()  # zero everywhere
    for function in (lambda w: np.abs(w.u), lambda w: np.maximum(w.u, 0.0), lambda w: np.where(w.u > 0, w.u, 2 * w.u)):
        with pytest.raises(fa.FormError, match="has no derivative by the state here: there is a kink or a jump"):
            fa.Functional(function).evaluate(solution)
    for function in (lambda w: np.abs(w.u) ** 2, lambda w: np.maximum(w.u + 1e-5, 0.0)):
        assert np.isfinite(fa.Functional(function).evaluate(solution).value)


def test_laplacian_is_a_form_of_values_as_well() -> None:
    """A form of a functional's integrand gives its derivative: the energy is half of the work."""
    mesh = mesh_of("quad8")
    problem = problem_from(mesh, fa.Form(laplacian, lambda v, w: v))
    solution = problem.solve()
    energy = fa.Functional(lambda w: 0.5 * dot(grad(w.u), grad(w.u)))
    own, built_in = energy.evaluate(solution), fa.StrainEnergy().evaluate(solution)
    assert own.value == pytest.approx(built_in.value, rel=1e-3)  # two quadratures
    assert own.state is not None
    order = mesh.blocks[0].reference.stiffness_order
    exact = fa.Functional(fa.Integral(lambda w: 0.5 * dot(grad(w.u), grad(w.u)), order=order))
    assert exact.evaluate(solution).value == pytest.approx(built_in.value, rel=1e-12)
    a, b = fa.value_and_gradient(solution, exact)[1], fa.value_and_gradient(solution, fa.StrainEnergy())[1]
    assert np.abs(a.points - b.points).max() <= 1e-10 * np.abs(b.points).max()


# ---------------------------------------------------------------------- means and reactions
@pytest.mark.parametrize("cell", ["triangle6", "quad8", "tetra", "hexahedron"])
def test_means_over_moving_places(cell: str) -> None:
    mesh = mesh_of(cell)
    problem = fa.LinearStatic(mesh, fa.Diffusion(2.0), [fa.Fixed("left")], [fa.Source(1.3)], threads=1)
    inside = fa.Functional(lambda w: w.u**2 + w.x[0], mean=True, power=0.5)
    edge = fa.Functional(fa.Integral(lambda w: w.u * w.n[0] + w.x[1] ** 2, "top"), mean=True)
    for response in (inside, edge):
        fa.verify(problem, response, components=2, show=False)
    assert fa.Functional(lambda w: 3.0, mean=True).evaluate(problem.solve()).value == pytest.approx(3.0, rel=1e-14)


def test_reactions_of_supports() -> None:
    mesh = mesh_of("quad8")
    moving = fa.Fixed("left", value=lambda x: [0.1 * x[1] ** 2, 0.05 * x[0]])
    solid = fa.LinearStatic(mesh, fa.Elasticity(2.0, 0.3), [moving], [fa.Pressure("right", 0.3)], threads=1)
    fa.verify(solid, fa.Reaction("left", "y"), components=2, show=False)
    solution = solid.solve()
    force = fa.Reaction("left", "x").evaluate(solution).value
    assert force == pytest.approx(-solution.load[:, 0].sum(), rel=1e-11)
    assert fa.Reaction("left", "x", factor=-2.0).evaluate(solution).value == pytest.approx(-2 * force, rel=1e-13)
    flow = fa.AdvectionDiffusion(0.2, (1.0, 0.3))
    heat = fa.LinearStatic(mesh, flow, [fa.Fixed("left", value=2.0)], [fa.Source(1.0)], threads=1)
    fa.verify(heat, fa.Reaction("left"), components=2, show=False)


def test_reactions_that_are_refused() -> None:
    mesh = mesh_of("quad8")
    solution = fa.LinearStatic(mesh, fa.Elasticity(2.0, 0.3), [fa.Fixed("left")], [fa.Pressure("right", 0.3)]).solve()
    for response, message in (
        (fa.Reaction("left"), "say which component: x, y"),
        (fa.Reaction("left", "z"), "no component 'z'"),
        (fa.Reaction("boundary", "x"), "are not prescribed"),
    ):
        with pytest.raises(fa.ResponseError, match=message):
            response.evaluate(solution)
    with pytest.raises(fa.UnknownGroupError):
        fa.Reaction("nowhere", "x").evaluate(solution)
