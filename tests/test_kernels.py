"""The compiled integrals against dense reference integrals, differentiated by complex step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skfem
from scipy.sparse import csr_array
from skfem.helpers import dot
from skfem.models.elasticity import linear_elasticity

import femadj as fa
from femadj.kernels import compile, passes
from femadj.mesh.reference import (
    CELL_TYPES,
    Table,
    cell_table,
    facet_table,
    quadrature,
    skfem_element,
    skfem_node_order,
)
from femadj.space import nodal, region
from femadj.space.discretisation import Discretisation
from femadj.space.nodal import Force, Tensor
from femadj.space.pattern import MatrixEntries, Pattern
from femadj.space.region import Domain
from tests.integrals import BilinearIntegral, LinearIntegral
from tests.meshes import CELLS, box_mesh, dim_of, is_quadratic
from tests.products import Products
from tests.reference_assembly import STEP, AnyArray, FloatArray, LinearData, Reference, along, turned

TOLERANCE = 1e-11
ORIGIN = (3.0, -2.0, 5.0)
TYPICAL = ("triangle", "quad8", "tetra", "hexahedron", "wedge")
"""Cell types on which even unusual forms are tried every time; on the others these tests are marked slow."""


def close(actual: AnyArray, expected: AnyArray, what: str = "") -> None:
    """Agreement to ``TOLERANCE`` of the largest entry, which must not vanish."""
    assert actual.shape == expected.shape, what
    assert np.isfinite(actual).all(), what
    largest = np.abs(expected).max()
    assert largest > 0, what
    assert np.abs(actual - expected).max() <= TOLERANCE * largest, what


def distorted(cell: str, seed: int = 1) -> fa.Mesh:
    """Two boxes' worth of bent cells of both orientations, away from the origin."""
    dim = dim_of(cell)
    mesh = box_mesh(cell, (2, 1, 1)[:dim], distortion=0.12, origin=ORIGIN[:dim], seed=seed)
    return turned(mesh)


# ---------------------------------------------------------------------- where to integrate
@dataclass(frozen=True)
class Place:
    """A domain made by hand, its independent counterpart and the cell types of geometry and field."""

    mesh: fa.Mesh
    domain: Domain
    reference: Reference


def splits(cell: str) -> list[tuple[str, str]]:
    """Geometry and field types whose nodes are all among those of ``cell``."""
    linear = CELL_TYPES[cell].shape
    return [(linear, cell), (cell, linear)] if is_quadratic(cell) else [(cell, cell)]


def place(
    cell: str, *, facet: bool, split: tuple[str, str] | None = None, threads: int = 1, mesh: fa.Mesh | None = None
) -> Place:
    """Domain of all cells, or of all boundary facets, of a distorted mesh of one cell type."""
    mesh = distorted(cell) if mesh is None else mesh
    space = Discretisation.of(mesh, 1, threads)
    kind = CELL_TYPES[cell]
    order = None if facet and split is None else kind.mass_order
    whole = space.facets(mesh.facets("boundary"), order) if facet else space.cells("mass", order=order)
    (domain,) = whole
    geometry, shape = split or (cell, cell)
    if split is not None:
        nodes = mesh.blocks[0].nodes

        def table(name: str) -> Table:
            return facet_table(name, order) if facet else cell_table(name, kind.mass_order)

        domain = replace(
            domain,
            nodes=np.ascontiguousarray(nodes[:, : CELL_TYPES[geometry].n_nodes]),
            field=np.ascontiguousarray(nodes[:, : CELL_TYPES[shape].n_nodes]),
            geometry=table(geometry),
            shape=table(shape),
        )
        assert not domain.sizes(1, 0, 1).isoparametric
    else:
        assert domain.sizes(1, 0, 1).isoparametric
    return Place(mesh, domain, Reference(domain, geometry, shape, order))


# ---------------------------------------------------------------------- bilinear forms
@dataclass(frozen=True)
class Form:
    """A kind of bilinear form: components (0: as many as dimensions), slots and coefficient."""

    name: str
    components: int
    slots: str
    symmetric: bool = False
    varies: bool = False
    split: bool = False
    facet: bool = False

    def range(self, dim: int) -> tuple[int, int]:
        return {"gradients": (1, dim + 1), "values": (0, 1), "both": (0, dim + 1)}[self.slots]


ELASTIC = Form("elastic", 0, "gradients", symmetric=True)
FLOW = Form("flow", 1, "gradients")
MASS = Form("mass", 1, "values", symmetric=True, varies=True)
GENERAL = Form("general", 2, "both", varies=True, split=True)
SPRINGS = Form("springs", 0, "values", symmetric=True, facet=True)
FACET_GENERAL = Form("facet general", 2, "both", varies=True, facet=True)
FACET_SPLIT = Form("facet split", 2, "both", split=True, facet=True)

BILINEAR = [
    pytest.param(form, cell, marks=[] if usual or cell in TYPICAL else [pytest.mark.slow], id=f"{form.name}-{cell}")
    for form, usual in (
        (ELASTIC, True),
        (FLOW, True),
        (MASS, True),
        (GENERAL, False),
        (SPRINGS, False),
        (FACET_GENERAL, False),
        (FACET_SPLIT, False),
    )
    for cell in CELLS
]


@dataclass(frozen=True)
class Bilinear:
    """An integral with its reference and random fields."""

    mesh: fa.Mesh
    integral: BilinearIntegral
    reference: Reference
    u: FloatArray
    v: FloatArray
    velocity: FloatArray

    @property
    def data(self) -> tuple[FloatArray, npt.NDArray[np.int32], int, int]:
        """Coefficient, region and slots."""
        c = self.integral.tensor
        return c.coefficient, c.region, c.lo, c.hi

    @property
    def points(self) -> FloatArray:
        """Node coordinates."""
        return self.mesh.points

    def forces(self, X: AnyArray) -> AnyArray:
        """``K u`` of the reference."""
        return np.einsum("aibk,bk->ai", self.reference.matrix(X, *self.data), self.u)


def bilinear(form: Form, cell: str, threads: int = 1, mesh: fa.Mesh | None = None) -> list[Bilinear]:
    """All domains that a form is tried on."""
    found = []
    for split in splits(cell) if form.split else [None]:
        at = place(cell, facet=form.facet, split=split, threads=threads, mesh=mesh)
        rng = np.random.default_rng(7)
        dim = at.mesh.dim
        nc = form.components or dim
        lo, hi = form.range(dim)
        n_points = at.domain.geometry.n_points if form.varies else 1
        C = rng.uniform(-1, 1, (2, n_points, nc, hi - lo, nc, hi - lo))
        if form.symmetric:
            C = np.ascontiguousarray(C + C.transpose(0, 1, 4, 5, 2, 3))
        region = rng.integers(0, 2, len(at.domain)).astype(np.int32)
        integral = BilinearIntegral(at.domain, Tensor(C, region, lo, hi, form.symmetric))
        u, v = rng.uniform(-1, 1, (2, at.mesh.n_nodes, nc))
        velocity = rng.uniform(-1, 1, at.mesh.points.shape)
        found.append(Bilinear(at.mesh, integral, at.reference, u, v, velocity))
    return found


def assembled(b: Bilinear, *, upper: bool) -> tuple[FloatArray, float]:
    """Dense matrix from the sparse one, and the smallest determinant."""
    nc = b.integral.n_components
    pattern = Pattern.from_cells([b.integral.domain.field], b.mesh.n_nodes, nc, symmetric=upper)
    csr = pattern.csr
    values = np.zeros(csr.nnz)
    worst = b.integral.assemble(b.points, MatrixEntries(pattern, values))
    dense = np.zeros((csr.n, csr.n))
    dense[np.repeat(np.arange(csr.n), np.diff(csr.indptr)), csr.indices] = values
    return dense, worst


@pytest.mark.parametrize(("form", "cell"), BILINEAR)
def test_assembly(form: Form, cell: str) -> None:
    for b in bilinear(form, cell):
        n = b.u.size
        K = b.reference.matrix(b.points, *b.data).reshape(n, n)
        for upper in (True, False) if form.symmetric else (False,):
            clip = np.triu if upper else np.asarray
            matrix, worst = assembled(b, upper=upper)
            close(matrix, clip(K))
            assert worst == pytest.approx(smallest_determinant(b), rel=1e-12)


def smallest_determinant(b: Bilinear) -> float:
    """Over all quadrature points, in the orientation of the cell."""
    d = b.integral.domain
    J = np.einsum("eai,eqaj->eqij", b.points[d.nodes[d.cell]], d.geometry.gradients[d.local])
    return float((np.linalg.det(J) * d.orientation[d.cell][:, None]).min())


@pytest.mark.parametrize(("form", "cell"), BILINEAR)
def test_application(form: Form, cell: str) -> None:
    for b in bilinear(form, cell):
        K = b.reference.matrix(b.points, *b.data)
        y = b.v.copy()
        b.integral.apply(b.points, b.u, y)
        close(y - b.v, b.forces(b.points))
        y = b.v.copy()
        b.integral.transposed().apply(b.points, b.u, y)
        close(y - b.v, np.einsum("bkai,bk->ai", K, b.u), "transposed")


@pytest.mark.parametrize(("form", "cell"), BILINEAR)
def test_contraction_and_tangent(form: Form, cell: str) -> None:
    for b in bilinear(form, cell):
        C, region, lo, hi = b.data
        G = b.velocity.copy()
        b.integral.contract(b.points, b.u, b.v, G, -1.7)
        exact = b.reference.gradient(b.points, b.reference.form(C, region, lo, hi, b.u, b.v))
        close(G - b.velocity, -1.7 * exact, "contract")

        y = b.u.copy()
        b.integral.tangent(b.points, b.velocity, b.u, y)
        y -= b.u
        close(y, along(b.forces, b.points, b.velocity), "tangent")

        left, right = np.vdot(b.v, y), np.vdot(exact, b.velocity)
        assert abs(left - right) <= 1e-13 * (np.abs(b.v * y).sum() + np.abs(exact * b.velocity).sum())


@pytest.mark.parametrize("cell", CELLS)
def test_rigid_motion_changes_no_energy(cell: str) -> None:
    (b,) = bilinear(FLOW, cell)
    for field_u, field_v in ((b.u, b.v), (b.v, b.u)):
        G = np.zeros_like(b.points)
        b.integral.contract(b.points, field_u, field_v, G)
        assert np.abs(G.sum(axis=0)).max() <= 1e-12 * np.abs(G).sum()


# ---------------------------------------------------------------------- linear forms
@dataclass(frozen=True)
class Load:
    """A kind of linear form: components (0: as many as dimensions), slots, and whether its data depend on x."""

    name: str
    components: int
    slots: str
    varies: bool = False
    split: bool = False
    facet: bool = False
    pressure: bool = False

    def range(self, dim: int) -> tuple[int, int]:
        return {"gradients": (1, dim + 1), "values": (0, 1), "both": (0, dim + 1), "none": (0, 0)}[self.slots]


BODY = Load("body", 0, "values")
BODY_OF_X = Load("body of x", 0, "values", varies=True)
STRESS = Load("stress", 0, "gradients")
LOAD_GENERAL = Load("general", 2, "both", varies=True, split=True)
VOLUME = Load("volume", 1, "none")
PRESSURE = Load("pressure", 0, "values", facet=True, pressure=True)
PRESSURE_OF_X = Load("pressure of x", 0, "values", varies=True, facet=True, pressure=True)
FLUX_OF_X = Load("flux of x", 1, "values", varies=True, facet=True)
AREA = Load("area", 1, "none", facet=True)
FACET_LOAD = Load("facet general", 0, "both", varies=True, facet=True, pressure=True)
FACET_LOAD_SPLIT = Load("facet split", 0, "both", varies=True, split=True, facet=True, pressure=True)

LINEAR = [
    pytest.param(load, cell, marks=[] if usual or cell in TYPICAL else [pytest.mark.slow], id=f"{load.name}-{cell}")
    for load, usual in (
        (BODY, True),
        (BODY_OF_X, True),
        (STRESS, False),
        (LOAD_GENERAL, False),
        (VOLUME, True),
        (PRESSURE, True),
        (PRESSURE_OF_X, True),
        (FLUX_OF_X, False),
        (AREA, True),
        (FACET_LOAD, False),
        (FACET_LOAD_SPLIT, False),
    )
    for cell in CELLS
]


@dataclass(frozen=True)
class Linear:
    """A linear integral, its reference and random fields."""

    mesh: fa.Mesh
    integral: LinearIntegral
    reference: Reference
    data: LinearData
    v: FloatArray
    velocity: FloatArray

    @property
    def slots(self) -> tuple[int, int, int]:
        """Components and range."""
        return self.integral.n_components, self.integral.lo, self.integral.hi

    def forces(self, X: AnyArray) -> AnyArray:
        """Nodal forces of the reference."""
        return self.reference.vector(X, self.data, *self.slots)


def slope(function: Callable[[AnyArray], AnyArray], x: FloatArray) -> FloatArray:
    """Derivative of a function of position by complex step, a last axis more."""
    steps = np.eye(x.shape[-1]) * 1j * STEP
    return np.stack([function(x + step).imag / STEP for step in steps], axis=-1)


def linear(load: Load, cell: str, threads: int = 1, mesh: fa.Mesh | None = None) -> list[Linear]:
    """All domains that a linear form is tried on."""
    found = []
    for split in splits(cell) if load.split else [None]:
        at = place(cell, facet=load.facet, split=split, threads=threads, mesh=mesh)
        rng = np.random.default_rng(11)
        dim = at.mesh.dim
        nc = load.components or dim
        lo, hi = load.range(dim)
        F, waves = rng.uniform(-1, 1, (2, nc, hi - lo)), rng.uniform(-1, 1, (dim, nc, hi - lo))
        p, wave = rng.uniform(0.5, 1, 2) * load.pressure, rng.uniform(-1, 1, dim)
        c = rng.uniform(-1, 1, 2)
        region = rng.integers(0, 2, len(at.domain)).astype(np.int32)
        v = rng.uniform(-1, 1, (at.mesh.n_nodes, nc))
        velocity = rng.uniform(-1, 1, at.mesh.points.shape)
        integral, data = _bound(load, at.domain, (F, waves), (p, wave), c, region, nc, lo, hi)
        found.append(Linear(at.mesh, integral, at.reference, data, v, velocity))
    return found


def _bound(
    load: Load,
    domain: Domain,
    force: tuple[FloatArray, FloatArray],
    pressure: tuple[FloatArray, FloatArray],
    c: FloatArray,
    region: npt.NDArray[np.int32],
    nc: int,
    lo: int,
    hi: int,
) -> tuple[LinearIntegral, LinearData]:
    (F, waves), (p, wave) = force, pressure
    if not load.varies:
        coefficients = Force(np.ascontiguousarray(F[:, None]), p[:, None], c, region, lo, hi)
        integral = LinearIntegral(domain, lambda _: coefficients, nc, lo, hi)
        return integral, LinearData(
            force=lambda item, x: np.broadcast_to(F[region[item]], (*x.shape[:-1], nc, hi - lo)),
            pressure=(lambda item, x: np.broadcast_to(p[region[item]], x.shape[:-1])) if load.pressure else None,
            constant=lambda item: float(c[region[item]]),
        )

    def f(x: AnyArray) -> AnyArray:
        return F[0] + np.sin(np.einsum("...j,jis->...is", x, waves))

    def pressure_at(x: AnyArray) -> AnyArray:
        return p[0] * (1 + 0.5 * np.cos(x @ wave))

    def at(points: FloatArray) -> Force:
        x = domain.quadrature_points(points)
        return Force(
            np.ascontiguousarray(f(x)),
            np.ascontiguousarray(pressure_at(x)),
            np.zeros(len(domain)),
            np.arange(len(domain), dtype=np.int32),
            lo,
            hi,
            np.ascontiguousarray(slope(f, x)),
            np.ascontiguousarray(slope(pressure_at, x)),
        )

    data = LinearData(lambda _, x: f(x), (lambda _, x: pressure_at(x)) if load.pressure else None)
    return LinearIntegral(domain, at, nc, lo, hi, varies=True), data


@pytest.mark.parametrize(("load", "cell"), LINEAR)
def test_load(load: Load, cell: str) -> None:
    for b in linear(load, cell):
        X = b.mesh.points
        nc, lo, hi = b.slots
        functional = b.reference.functional(b.data, nc, lo, hi, b.v)
        value = float(b.reference.total(X, functional))
        G = b.velocity.copy()
        assert b.integral.contract(X, b.v, G, -0.6) == pytest.approx(-0.6 * value, rel=1e-12, abs=1e-13)
        exact = b.reference.gradient(X, functional)
        close(G - b.velocity, -0.6 * exact, "contract")
        if hi == lo:
            continue

        f = b.v.copy()
        b.integral.add(X, f)
        close(f - b.v, b.forces(X), "load")
        y = b.v.copy()
        b.integral.tangent(X, b.velocity, y)
        y -= b.v
        close(y, along(b.forces, X, b.velocity), "tangent")
        if not load.varies:  # the constant is in the functional alone
            data = replace(b.data, constant=lambda _: 0.0)
            exact = b.reference.gradient(X, b.reference.functional(data, nc, lo, hi, b.v))
        left, right = np.vdot(b.v, y), np.vdot(exact, b.velocity)
        assert abs(left - right) <= 1e-13 * (np.abs(b.v * y).sum() + np.abs(exact * b.velocity).sum())


@pytest.mark.parametrize("cell", CELLS)
def test_normals_of_a_closed_surface_add_up_to_nothing(cell: str) -> None:
    at = place(cell, facet=True)
    domain, dim = at.domain, at.mesh.dim
    one = Force(np.zeros((1, 1, dim, 1)), np.ones((1, 1)), np.zeros(1), np.zeros(len(domain), np.int32), 0, 1)
    integral = LinearIntegral(domain, lambda _: one, dim, 0, 1)
    f = np.zeros_like(at.mesh.points)
    integral.add(at.mesh.points, f)
    assert np.abs(f.sum(axis=0)).max() <= 1e-13 * np.abs(f).sum()
    # int x . n ds = dim * volume, where the rule is exact
    volume = np.vdot(f, at.mesh.points) / dim
    assert volume == pytest.approx(at.mesh.volume(), rel=1e-12 if not is_quadratic(cell) or dim == 2 else 1e-3)


# ---------------------------------------------------------------------- complex numbers
COMPLEX = [
    pytest.param(form, cell, id=f"{form.name}-{cell}") for form in (ELASTIC, GENERAL, FACET_GENERAL) for cell in TYPICAL
]


@pytest.mark.parametrize(("form", "cell"), COMPLEX)
def test_bilinear_kernels_in_complex_numbers(form: Form, cell: str) -> None:
    """The imaginary part of every kernel is its derivative by coordinates, fields and coefficients, by its step."""
    for b in bilinear(form, cell):
        domain, C, X = b.integral.domain, b.integral.tensor, b.points
        rng = np.random.default_rng(3)
        du, dv = rng.uniform(-1, 1, (2, *b.u.shape))
        dC = rng.uniform(-1, 1, C.coefficient.shape)
        if form.symmetric:
            dC = dC + dC.transpose(0, 1, 4, 5, 2, 3)

        def stepped(x: FloatArray, dx: FloatArray) -> AnyArray:
            return x + 1j * STEP * dx

        def rate(out: AnyArray) -> AnyArray:
            return out.imag / STEP

        tensor = C._replace(coefficient=stepped(C.coefficient, dC))
        forces = rate(b.reference.matrix(stepped(X, b.velocity), *b.data)).reshape(b.u.size, -1) @ b.u.ravel()
        forces += b.reference.matrix(X, *b.data).reshape(b.u.size, -1) @ du.ravel()
        forces += b.reference.matrix(X, dC, *b.data[1:]).reshape(b.u.size, -1) @ b.u.ravel()

        y = np.zeros(b.u.shape, complex)
        nodal.apply(domain, stepped(X, b.velocity), tensor, stepped(b.u, du), y)
        close(rate(y).ravel(), forces, "apply")
        close(y.real, b.forces(X), "apply, real part")

        pattern = Pattern.from_cells([domain.field], b.mesh.n_nodes, b.u.shape[1], symmetric=False)
        data = np.zeros(pattern.csr.nnz, complex)
        nodal.assemble(domain, stepped(X, b.velocity), tensor, MatrixEntries(pattern, data))
        matrix = csr_array((data, pattern.csr.indices, pattern.csr.indptr))
        close(rate(matrix @ stepped(b.u, du).ravel()), forces, "assemble")

        G = np.zeros(X.shape, complex)
        nodal.contract(domain, stepped(X, b.velocity), tensor, stepped(b.u, du), stepped(b.v, dv), G, 0.7)
        close(G.real, node_gradient(b, X, b.u, b.v, C.coefficient), "contract, real part")
        h = 1e-4
        at = ((X, b.velocity), (b.u, du), (b.v, dv), (C.coefficient, dC))
        near(rate(G), fourth_order([node_gradient(b, *(x + k * h * dx for x, dx in at)) for k in (-2, -1, 1, 2)], h))
        close(gradient_along(b, V := rng.uniform(-1, 1, X.shape), b.velocity), gradient_along(b, b.velocity, V))

        z = np.zeros(b.u.shape, complex)
        nodal.tangent(domain, stepped(X, V), C, b.velocity, b.u, z)
        # d/dX of v . (dK/dX V) u along W is that of G . V, where G is the node gradient
        close(np.vdot(b.v, rate(z))[None], gradient_along(b, V, b.velocity), "tangent")


def node_gradient(b: Bilinear, X: FloatArray, u: FloatArray, v: FloatArray, C: FloatArray) -> FloatArray:
    """``d/dX (v^T K u)`` in real numbers, for other coordinates, fields and coefficients."""
    G = np.zeros_like(X)
    tensor = b.integral.tensor._replace(coefficient=np.ascontiguousarray(C))
    nodal.contract(b.integral.domain, X, tensor, u, v, G, 0.7)
    return G


def gradient_along(b: Bilinear, first: FloatArray, second: FloatArray) -> FloatArray:
    """Second derivative of ``v^T K u`` by the nodes along two directions, shape (1,)."""
    G = np.zeros(b.points.shape, complex)
    nodal.contract(b.integral.domain, b.points + 1j * STEP * first, b.integral.tensor, b.u, b.v, G, 1.0)
    return np.array([np.vdot(G.imag / STEP, second)])


def fourth_order(values: list[FloatArray], h: float) -> FloatArray:
    """Derivative from values at -2h, -h, h and 2h."""
    far_below, below, above, far_above = values
    return (8 * (above - below) - (far_above - far_below)) / (12 * h)


def near(actual: AnyArray, expected: AnyArray) -> None:
    """Agreement as far as differences go."""
    assert np.abs(actual - expected).max() <= 1e-7 * np.abs(expected).max() > 0


COMPLEX_LOADS = [
    pytest.param(load, cell, id=f"{load.name}-{cell}")
    for load in (Load("both", 0, "both"), Load("facet", 0, "both", facet=True, pressure=True), VOLUME)
    for cell in TYPICAL
]


@pytest.mark.parametrize(("load", "cell"), COMPLEX_LOADS)
def test_linear_kernels_in_complex_numbers(load: Load, cell: str) -> None:
    (b,) = linear(load, cell)
    domain, X = b.integral.domain, b.mesh.points
    c = b.integral.force(X)
    if load is not VOLUME:  # the constant is in the functional alone
        c = c._replace(constant=np.zeros(2))
    moved = X + 1j * STEP * b.velocity
    gradient, G = np.zeros(X.shape), np.zeros(X.shape, complex)
    value = nodal.load_contract(domain, moved, c, b.v, G, 0.7)
    assert value.real == pytest.approx(nodal.load_contract(domain, X, c, b.v, gradient, 0.7), rel=1e-12)
    assert value.imag / STEP == pytest.approx(np.vdot(gradient, b.velocity), rel=1e-10)
    close(G.real, gradient, "real part")
    h, found = 1e-4, []
    for k in (-2, -1, 1, 2):
        found.append(np.zeros(X.shape))
        nodal.load_contract(domain, X + k * h * b.velocity, c, b.v, found[-1], 0.7)
    near(G.imag / STEP, fourth_order(found, h))
    if b.integral.hi > b.integral.lo:
        f = np.zeros(b.v.shape, complex)
        nodal.load(domain, moved, c, f)
        close(f.imag / STEP, along(b.forces, X, b.velocity), "load")
        y = np.zeros(b.v.shape, complex)
        nodal.load_tangent(domain, moved, c, b.velocity, y)
        close(y.real, along(b.forces, X, b.velocity), "tangent, real part")
        second = np.vdot(G.imag / STEP, b.velocity) / 0.7
        assert np.vdot(b.v, y.imag / STEP) == pytest.approx(second, rel=1e-9, abs=1e-9)


def test_specialised_kernels_in_complex_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def results() -> list[AnyArray]:
        (b,) = bilinear(FACET_GENERAL, "tetra")
        y, G = np.zeros(b.u.shape, complex), np.zeros(b.points.shape, complex)
        moved = b.points + 0.01j * b.velocity
        nodal.apply(b.integral.domain, moved, b.integral.tensor, b.u, y)
        nodal.contract(b.integral.domain, moved, b.integral.tensor, b.u, b.v, G, 1.0)
        return [y, G]

    general = results()
    monkeypatch.setattr(nodal, "_specialised", lambda *_: True)
    for a, b in zip(results(), general, strict=True):
        close(a, b)


# ---------------------------------------------------------------------- moments
MOMENTS = [
    pytest.param(form, cell, id=f"{form.name}-{cell}")
    for form in (ELASTIC, FLOW, Form("both", 2, "both", split=True), SPRINGS, FACET_SPLIT)
    for cell in TYPICAL
]


@pytest.mark.parametrize(("form", "cell"), MOMENTS)
def test_moments(form: Form, cell: str) -> None:
    """The derivative by a coefficient that is constant in regions, against dense integrals and differences."""
    for b in bilinear(form, cell):
        C, region_of, lo, hi = b.data
        domain = b.integral.domain
        M = nodal.moments(domain, b.points, region_of, 3, lo, hi, b.u, b.v)
        expected = np.zeros((3, *C.shape[2:]))
        one_by_one = []
        for item, nodes, places in b.reference.items():
            at = b.reference.at(item, b.points[nodes])
            uh, vh = (np.einsum("qas,ai->qis", at.h[..., lo:hi], x[places]) for x in (b.u, b.v))
            one_by_one.append(np.einsum("q,qis,qkt->iskt", at.measure, vh, uh))
            expected[region_of[item]] += one_by_one[-1]
        close(M, expected)
        assert not M[2].any()

        def value(c: FloatArray, b: Bilinear = b) -> float:
            y = np.zeros_like(b.u)
            nodal.apply(b.integral.domain, b.points, b.integral.tensor._replace(coefficient=c), b.u, y)
            return float(np.vdot(b.v, y))

        dC = np.random.default_rng(2).uniform(-1, 1, C.shape)
        assert np.vdot(M[:2], dC[:, 0]) == pytest.approx((value(C + dC) - value(C - dC)) / 2, rel=1e-10, abs=1e-12)
        m = len(domain)
        each = nodal.moments(domain, b.points, np.arange(m, dtype=np.int32), m, lo, hi, b.u, b.v)
        close(each, np.array(one_by_one), "of every entity")


@pytest.mark.parametrize("cell", TYPICAL)
@pytest.mark.parametrize("load", [BODY, STRESS, VOLUME, Load("facet", 0, "both", facet=True, pressure=True)])
def test_load_moments(load: Load, cell: str) -> None:
    (b,) = linear(load, cell)
    X, c = b.mesh.points, b.integral.force(b.mesh.points)
    _, lo, hi = b.slots
    found = nodal.load_moments(b.integral.domain, X, c.region, 2, lo, hi, b.v)
    force, pressure, constant = np.zeros(c.force[:, 0].shape), np.zeros(2), np.zeros(2)
    for item, nodes, places in b.reference.items():
        at = b.reference.at(item, X[nodes])
        vh = np.einsum("qas,ai->qis", at.h[..., lo:hi], b.v[places])
        force[c.region[item]] += np.einsum("q,qis->is", at.measure, vh)
        constant[c.region[item]] += at.measure.sum()
        if load.pressure:
            pressure[c.region[item]] += np.einsum("q,qi,qi", at.measure, vh[..., 0], at.normal)
    if hi > lo:
        close(found.force, force)
    close(found.constant, constant)
    assert found.pressure == pytest.approx(pressure, rel=1e-11, abs=1e-13)
    value = np.vdot(found.force, c.force[:, 0]) + found.constant @ c.constant + found.pressure @ c.pressure[:, 0]
    assert nodal.load_contract(b.integral.domain, X, c, b.v, np.zeros_like(X), 1.0) == pytest.approx(value, rel=1e-11)


def test_moments_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodal, "RUN", 3)
    results = []
    for threads in (1, 2, 3):
        (b,) = bilinear(ELASTIC, "tetra", threads, larger("tetra"))
        _, regions, lo, hi = b.data
        domain = b.integral.domain
        assert len(domain) > 30
        M = nodal.moments(domain, b.points, regions, 2, lo, hi, b.u, b.v)
        loads = nodal.load_moments(domain, b.points, regions, 2, lo, hi, b.v)
        results.append([M, *loads])
    for again in results[1:]:
        for a, b in zip(results[0], again, strict=True):
            assert np.array_equal(a, b)


def test_moments_refuse_regions_that_are_not_there() -> None:
    (b,) = bilinear(FLOW, "triangle")
    with pytest.raises(ValueError, match="only 1 regions"):
        nodal.moments(b.integral.domain, b.points, np.ones(len(b.integral.domain), np.int32), 1, 1, 3, b.u, b.v)


# ---------------------------------------------------------------------- scratch space and cache
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("components", [1, 2, 3])
def test_scratch_space_is_large_enough_and_its_arrays_are_apart(cell: str, components: int) -> None:
    for facet in (False, True):
        for split in [None, *splits(cell)]:
            domain = place(cell, facet=facet, split=split).domain
            for lo, hi in ((0, 0), (0, 1), (1, domain.dim + 1), (0, domain.dim + 1)):
                s = domain.sizes(components, lo, hi)
                scratch = np.zeros(s.scratch)
                work, end = passes.new_work(s, scratch)
                shared = {"gg"} if s.isoparametric else set()
                for name, array in work._asdict().items():
                    if name not in shared:
                        np.add(array, 1, out=array)
                assert scratch[:end].max() == 1
                ns = hi - lo
                assert end + components * ns * components + (s.field_nodes * components) ** 2 <= s.scratch


def test_kernels_on_disk_are_those_of_the_sources(tmp_path: Path) -> None:
    """The file of a compiled kernel is named after a checksum of the sources that it is compiled from."""
    folder = Path(passes.__file__).parent
    for path in folder.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    of = compile.checksum.__wrapped__
    assert of(passes.__name__, tmp_path) == compile.checksum(passes.__name__, folder)
    for name, matters in (("compile.py", True), ("entity.py", True), ("graph.py", True), ("sparse.py", False)):
        before = of(passes.__name__, tmp_path)
        with (tmp_path / name).open("a") as source:
            source.write("# changed\n")
        assert (of(passes.__name__, tmp_path) != before) is matters
    kernel = passes.apply(place("triangle", facet=False).domain.sizes(1, 0, 1), False)
    assert compile.checksum(passes.__name__) in kernel.args[0].py_func.__qualname__  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- threads
def larger(cell: str) -> fa.Mesh:
    dim = dim_of(cell)
    return turned(box_mesh(cell, (4, 3, 2)[:dim], distortion=0.1, origin=ORIGIN[:dim], seed=5))


def everything(
    cell: str,
    threads: int,
    forms: Sequence[Form] = (ELASTIC, GENERAL, FACET_GENERAL),
    loads: Sequence[Any] = (BODY, BODY_OF_X, LOAD_GENERAL, VOLUME, PRESSURE_OF_X, AREA),
) -> list[AnyArray]:
    """What every kernel gives for a choice of forms."""
    mesh = larger(cell)
    out: list[AnyArray] = []
    for form in forms:
        for b in bilinear(form, cell, threads, mesh):
            assert len(b.integral.domain.parts) == threads
            matrix, worst = assembled(b, upper=form.symmetric)
            y, z, G = np.zeros_like(b.u), np.zeros_like(b.u), np.zeros_like(b.points)
            b.integral.apply(b.points, b.u, y)
            b.integral.tangent(b.points, b.velocity, b.u, z)
            b.integral.contract(b.points, b.u, b.v, G)
            out += [matrix, np.array(worst), y, z, G]
    for kind in loads:
        for a in linear(kind, cell, threads, mesh):
            X = a.mesh.points
            f, y, G = np.zeros_like(a.v), np.zeros_like(a.v), np.zeros_like(X)
            if a.integral.hi > a.integral.lo:
                a.integral.add(X, f)
                a.integral.tangent(X, a.velocity, y)
                out += [f, y]
            value = a.integral.contract(X, a.v, G)
            out += [G, np.array(value)]
    return out


@pytest.mark.parametrize("cell", TYPICAL)
def test_threads_do_not_change_a_bit(cell: str) -> None:
    first = everything(cell, 1)
    for threads in (1, 2, 3):
        again = everything(cell, threads)
        assert len(again) == len(first)
        for number, (a, b) in enumerate(zip(first, again, strict=True)):
            assert np.array_equal(a, b), (threads, number)


def test_specialised_kernels_do_what_the_general_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large meshes get kernels of their own sizes, small ones those that take sizes at run time.

    Forms and loads with the most to do: over cells and facets, with and without position.
    """
    chosen = (ELASTIC, FACET_GENERAL), (BODY_OF_X, PRESSURE_OF_X, AREA)
    assert not place("triangle", facet=False, mesh=larger("triangle")).domain.specialised
    general = everything("triangle", 1, *chosen)
    monkeypatch.setattr(region, "SPECIALISED_ENTITIES", 0)
    assert place("triangle", facet=False, mesh=larger("triangle")).domain.specialised
    specialised = everything("triangle", 1, *chosen)
    for a, b in zip(specialised, general, strict=True):
        close(a, b)
    for a, b in zip(specialised, everything("triangle", 3, *chosen), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("cell", ["triangle6", "tetra10", "hexahedron", "wedge"])
def test_specialised_kernels_of_the_main_job(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elasticity under a body force, as a large mesh would run it.

    The body is the same for all; each size takes seconds to compile.
    """

    def results() -> list[AnyArray]:
        out: list[AnyArray] = []
        for b in bilinear(ELASTIC, cell, 1, larger(cell)):
            matrix, _ = assembled(b, upper=True)
            G = np.zeros_like(b.points)
            b.integral.contract(b.points, b.u, b.v, G)
            out += [matrix, G]
        for a in linear(BODY, cell, 1, larger(cell)):
            f, G = np.zeros_like(a.v), np.zeros_like(a.mesh.points)
            a.integral.add(a.mesh.points, f)
            a.integral.contract(a.mesh.points, a.v, G)
            out += [f, G]
        return out

    general = results()
    monkeypatch.setattr(region, "SPECIALISED_ENTITIES", 0)
    for a, b in zip(results(), general, strict=True):
        close(a, b)


def test_kernels_are_made_once_for_equal_sizes() -> None:
    at = place("triangle", facet=False)
    assert passes.contract(at.domain.sizes(1, 1, 3)) is passes.contract(at.domain.sizes(1, 1, 3))


def test_separate_tables_that_are_equal_give_the_isoparametric_result() -> None:
    for cell in ("quad8", "tetra"):
        (b,) = bilinear(ELASTIC, cell)
        domain = b.integral.domain
        copied = replace(domain, shape=replace(domain.shape))
        assert not copied.sizes(1, 0, 1).isoparametric
        G, H = np.zeros_like(b.points), np.zeros_like(b.points)
        b.integral.contract(b.points, b.u, b.v, G)
        replace(b.integral, domain=copied).contract(b.points, b.u, b.v, H)
        close(H, G)


# ---------------------------------------------------------------------- scikit-fem's own assembly
SKFEM_CELLS = tuple(c for c in CELLS if c not in ("quad8", "hexahedron20"))


@dataclass(frozen=True)
class Bridge:
    """A mesh in femadj and scikit-fem, with our unknown of every scikit-fem unknown."""

    mesh: fa.Mesh
    basis: skfem.CellBasis
    unknown: npt.NDArray[np.int64]

    def matrix(self, form: skfem.BilinearForm, **data: Any) -> FloatArray:
        K = form.assemble(self.basis, **data).toarray()
        dense = np.zeros_like(K)
        dense[np.ix_(self.unknown, self.unknown)] = K
        return dense

    def vector(self, form: skfem.LinearForm, basis: skfem.CellBasis | None = None) -> FloatArray:
        f = np.zeros(len(self.unknown))
        f[self.unknown] = form.assemble(self.basis if basis is None else basis)
        return f


def bridge(cell: str, nc: int, order: int) -> Bridge:
    """scikit-fem's basis on a straight distorted mesh, with the quadrature that femadj uses."""
    dim = dim_of(cell)
    mesh = box_mesh(cell, (2, 2, 1)[:dim], distortion=0.12, curved=False, origin=ORIGIN[:dim], seed=2)
    points, weights = quadrature(CELL_TYPES[cell].shape, order)
    element = skfem_element(cell) if nc == 1 else skfem.ElementVector(skfem_element(cell), nc)
    basis = skfem.CellBasis(mesh.to_skfem(), element, quadrature=(points.T, weights))
    unknown = np.full(mesh.n_nodes * nc, -1, dtype=np.int64)
    nodes = mesh.blocks[0].nodes
    for a, source in enumerate(skfem_node_order(cell)):
        for i in range(nc):
            unknown[basis.element_dofs[nc * source + i]] = nc * nodes[:, a] + i
    assert sorted(unknown) == list(range(mesh.n_nodes * nc))
    return Bridge(mesh, basis, unknown)


def dense_stiffness(problem: fa.LinearStatic) -> FloatArray:
    """Columns of K, supports not eliminated."""
    n = problem.residual.space.n_dofs
    shape = (problem.mesh.n_nodes, problem.residual.space.n_components)
    return np.array(
        [Products(problem).stiffness_times(problem.mesh.points, e.reshape(shape)).ravel() for e in np.eye(n)]
    ).T  # fmt: skip


@pytest.mark.parametrize("cell", SKFEM_CELLS)
def test_elasticity_is_that_of_scikit_fem(cell: str) -> None:
    dim = dim_of(cell)
    E, nu = 210.0, 0.3
    b = bridge(cell, dim, CELL_TYPES[cell].stiffness_order)
    lame, mu = E * nu / ((1 + nu) * (1 - 2 * nu)), E / (2 * (1 + nu))
    force = np.array([1.0, -2.0, 0.5])[:dim]
    problem = fa.LinearStatic(b.mesh, fa.Elasticity(E, nu), [fa.Fixed("left")], [fa.BodyForce(force)], threads=1)
    K = b.matrix(linear_elasticity(lame, mu))
    close(dense_stiffness(problem), K)

    mass = bridge(cell, dim, CELL_TYPES[cell].mass_order)
    f = mass.vector(skfem.LinearForm(lambda v, _: sum(c * v[i] for i, c in enumerate(force))))
    close(problem.solve().load.ravel(), f)

    free = ~problem.residual.supports.fixed.ravel()
    u = np.zeros(len(f))
    u[free] = np.linalg.solve(K[np.ix_(free, free)], f[free])
    assert problem.solve().u.ravel() == pytest.approx(u, rel=1e-9, abs=1e-9 * np.abs(u).max())


@pytest.mark.parametrize("cell", SKFEM_CELLS)
def test_diffusion_is_that_of_scikit_fem(cell: str) -> None:
    dim = dim_of(cell)
    k = np.array([[2.0, 0.7, 0.1], [-0.3, 1.5, 0.4], [0.2, -0.1, 3.0]])[:dim, :dim]
    b = bridge(cell, 1, CELL_TYPES[cell].stiffness_order)
    problem = fa.LinearStatic(
        b.mesh, fa.Diffusion(k), [fa.Fixed("left")], [fa.Source(lambda x: np.sin(x[0]) * x[1])], threads=1
    )

    def form(u: Any, v: Any, _: Any) -> Any:
        return sum(k[i, j] * v.grad[i] * u.grad[j] for i in range(dim) for j in range(dim))

    close(dense_stiffness(problem), b.matrix(skfem.BilinearForm(form)))
    transposed = np.array(
        [
            Products(problem).stiffness_times(b.mesh.points, e[:, None], transpose=True).ravel()
            for e in np.eye(b.mesh.n_nodes)
        ]
    )
    close(transposed, dense_stiffness(problem))

    mass = bridge(cell, 1, CELL_TYPES[cell].mass_order)
    f = mass.vector(skfem.LinearForm(lambda v, w: np.sin(w.x[0]) * w.x[1] * v))
    close(problem.solve().load.ravel(), f)


@pytest.mark.parametrize("cell", ["triangle", "triangle6", "quad", "quad9", "tetra", "tetra10"])
def test_surface_loads_are_those_of_scikit_fem(cell: str) -> None:
    dim = dim_of(cell)
    b = bridge(cell, dim, 1)
    traction = np.array([1.0, -2.0, 0.5])[:dim]
    problem = fa.LinearStatic(
        b.mesh, fa.Elasticity(1.0, 0.3), [fa.Fixed("left")], [fa.Traction("top", traction), fa.Pressure("right", 3.0)]
    )
    element = skfem.ElementVector(skfem_element(cell), dim)
    facets = {name: skfem.FacetBasis(b.basis.mesh, element, facets=name, intorder=6) for name in ("top", "right")}
    f = b.vector(skfem.LinearForm(lambda v, _: sum(t * v[i] for i, t in enumerate(traction))), facets["top"])
    f += b.vector(skfem.LinearForm(lambda v, w: -3.0 * dot(w.n, v)), facets["right"])
    close(problem.solve().load.ravel(), f)
