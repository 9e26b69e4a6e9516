"""Solutions that are known in closed form, and balances that hold to rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import femadj as fa
from femadj.mesh.reference import CELL_TYPES, shape_functions
from tests.meshes import CELLS, MESHES, PLANE_CELLS, SOLID_CELLS, box_mesh, dim_of, is_quadratic, rotation
from tests.products import Products

FloatArray = npt.NDArray[np.float64]

PLANE_MESHES = [c for c in MESHES if dim_of(c) == 2]
SOLID_MESHES = [c for c in MESHES if dim_of(c) == 3]
SHEAR = np.array([[1.0, 0.3, -0.1], [0.2, 0.9, 0.15], [-0.05, 0.1, 1.1]])
ORIGIN = np.array([3.0, -5.0, 2.0])
SLOPES = np.array([[0.7, -0.4, 0.2], [0.5, 1.1, -0.3], [-0.2, 0.6, -0.8]])
OFFSET = np.array([0.3, -1.2, 0.8])
TENSOR = np.array([[3.0, 0.9, -0.4], [-0.5, 2.0, 0.7], [0.1, -0.6, 1.5]])
"""A conductivity with a positive definite symmetric part that is not symmetric."""


def skewed_mesh(cell: str, *, curved: bool = True, seed: int = 1) -> fa.Mesh:
    """Distorted, sheared and far from the origin; no side is flat and no cell right-angled."""
    dim = dim_of(cell)
    return box_mesh(
        cell,
        distortion=0.15,
        curved=curved,
        origin=ORIGIN[:dim],
        seed=seed,
        linear_map=rotation(dim) @ SHEAR[:dim, :dim],
    )


def closest(actual: npt.ArrayLike, expected: npt.ArrayLike, relative: float) -> None:
    """Compare relative to the largest expected entry."""
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * scale)


# ------------------------------------------------------------------ patch tests
# An isoparametric cell represents every linear field exactly, curved or not. The residual of such a field vanishes at
# nodes inside where the quadrature integrates cof(J) grad N exactly. At the default orders that holds for all curved
# cells but one: a curved tetra10 has an integrand of degree 3 under its rule of degree 2, and passes with degree 3.


def patch_orders(cell: str) -> list[tuple[bool, int | None]]:
    if cell == "tetra10":
        return [(False, None), (True, 3)]
    return [(False, None), (True, None)] if is_quadratic(cell) else [(False, None)]


PATCHES = [(cell, curved, order) for cell in MESHES for curved, order in patch_orders(cell)]


@pytest.mark.parametrize(("cell", "curved", "order"), PATCHES)
def test_patch_of_elasticity(cell: str, curved: bool, order: int | None) -> None:
    mesh = skewed_mesh(cell, curved=curved)
    dim = mesh.dim
    A, b = SLOPES[:dim, :dim], OFFSET[:dim]
    problem = fa.LinearStatic(
        mesh,
        fa.Elasticity(E=7.0, nu=0.3),
        [fa.Fixed("boundary", value=lambda x: A @ x + b[:, None])],
        quadrature_order=order,
    )
    solution = problem.solve()
    assert len(mesh.node_groups["inside"]) > 0
    closest(solution.u, mesh.points @ A.T + b, 1e-11)
    # no forces inside, and none in all
    internal = Products(problem).stiffness_times(solution.points, solution.u)
    scale = np.abs(internal).max()
    assert np.abs(internal[mesh.node_groups["inside"]]).max() < 1e-12 * scale
    assert np.abs(internal.sum(axis=0)).max() < 1e-12 * scale


@pytest.mark.parametrize(("cell", "curved", "order"), PATCHES)
def test_patch_of_diffusion_with_a_nonsymmetric_tensor(cell: str, curved: bool, order: int | None) -> None:
    mesh = skewed_mesh(cell, curved=curved)
    dim = mesh.dim
    slope, k = SLOPES[0, :dim], TENSOR[:dim, :dim]
    problem = fa.LinearStatic(
        mesh,
        fa.Diffusion(k),
        [fa.Fixed("boundary", value=lambda x: slope @ x + 2.0)],
        quadrature_order=order,
    )
    assert not problem.residual.symmetric
    closest(problem.solve().u[:, 0], mesh.points @ slope + 2.0, 1e-11)


@pytest.mark.parametrize("cell", MESHES)
def test_energy_of_a_patch(cell: str) -> None:
    # straight-sided: the rule of the stiffness then integrates the volume exactly as well
    mesh = skewed_mesh(cell, curved=False)
    dim = mesh.dim
    A = SLOPES[:dim, :dim]
    E, nu = 7.0, 0.3
    solution = fa.LinearStatic(mesh, fa.Elasticity(E=E, nu=nu), [fa.Fixed("boundary", value=lambda x: A @ x)]).solve()
    value, gradient = fa.value_and_gradient(solution, fa.StrainEnergy())
    strain = 0.5 * (A + A.T)
    lame, mu = E * nu / ((1 + nu) * (1 - 2 * nu)), E / (2 * (1 + nu))
    density = 0.5 * lame * np.trace(strain) ** 2 + mu * np.sum(strain**2)
    assert value == pytest.approx(density * mesh.volume(), rel=1e-11)
    # J = density * volume: moving a node inside changes nothing, and growing by x -> s x gives d J
    inside = mesh.node_groups["inside"]
    assert np.abs(gradient.points[inside]).max() < 1e-11 * np.abs(gradient.points).max()
    assert np.vdot(gradient.points, mesh.points) == pytest.approx(dim * value, rel=1e-11)


# ------------------------------------------------------------------ a bar in tension
LENGTHS = (3.0, 0.8, 0.5)


@pytest.mark.parametrize("load", ["traction", "total force"])
@pytest.mark.parametrize(
    ("cell", "plane"),
    [(c, "strain") for c in SOLID_MESHES] + [(c, plane) for c in PLANE_MESHES for plane in ("stress", "strain")],
)
def test_bar_in_tension(cell: str, plane: Any, load: str) -> None:
    E, nu, p, thickness = 210.0, 0.3, 1.7, 0.35
    dim = dim_of(cell)
    length, width = LENGTHS[:2]
    area = width * (thickness if dim == 2 else LENGTHS[2])
    modulus = E / (1 - nu**2) if dim == 2 and plane == "strain" else E
    mesh = box_mesh(cell, lengths=LENGTHS[:dim], distortion=0.15, flat=True, seed=2)
    direction = np.eye(dim)[0]
    problem = fa.LinearStatic(
        mesh,
        fa.Elasticity(E=E, nu=nu, plane=plane, thickness=thickness if dim == 2 else 1.0),
        [
            fa.Fixed("left", "x"),
            fa.Fixed("bottom" if dim == 2 else "front", "y"),
            *([fa.Fixed("bottom", "z")] if dim == 3 else []),
        ],
        [fa.Traction("right", p * direction) if load == "traction" else fa.TotalForce("right", p * area * direction)],
        quadrature_order=3 if cell == "tetra10" else None,
    )
    solution = problem.solve()
    force = p * area
    elongation = force * length / (modulus * area)
    closest(solution.u[:, 0], mesh.points[:, 0] / length * elongation, 1e-11)

    (compliance, energy, mean), gradients = fa.values_and_gradients(
        solution, [fa.Compliance(), fa.StrainEnergy(), fa.Displacement("right", "x")]
    )
    assert compliance == pytest.approx(force**2 * length / (modulus * area), rel=1e-11)
    assert energy == pytest.approx(compliance / 2, rel=1e-11)
    assert mean == pytest.approx(elongation, rel=1e-11)

    by_length = np.zeros_like(mesh.points)
    by_length[:, 0] = mesh.points[:, 0] / length
    by_width = np.zeros_like(mesh.points)
    by_width[:, 1] = mesh.points[:, 1] / width
    # fixed traction: the force grows with the width; fixed force: the stress falls with it
    widening = compliance / width if load == "traction" else -compliance / width
    stretching = 0.0 if load == "traction" else -elongation / width
    for gradient, d_length, d_width in (
        (gradients[0], compliance / length, widening),
        (gradients[1], energy / length, widening / 2),
        (gradients[2], elongation / length, stretching),
    ):
        scale = abs(d_length) + abs(d_width)
        assert np.vdot(gradient.points, by_length) == pytest.approx(d_length, abs=1e-10 * scale)
        assert np.vdot(gradient.points, by_width) == pytest.approx(d_width, abs=1e-10 * scale)
        # nodes inside carry no sensitivity of an exact solution
        inside = mesh.node_groups["inside"]
        assert np.abs(gradient.points[inside]).max() < 1e-10 * np.abs(gradient.points).max()


# ------------------------------------------------------------------ Lamé's thick cylinder
@dataclass(frozen=True)
class RadialDisplacement:
    """Mean of ``u . x / |x|`` over the nodes of a group: a response of one's own, which depends on x explicitly."""

    group: str

    def evaluate(self, solution: fa.Solution) -> fa.Evaluation:
        nodes = solution.problem.mesh.nodes_of(self.group)
        x, u = solution.points[nodes], solution.u[nodes]
        radius = np.linalg.norm(x, axis=1, keepdims=True)
        normal = x / radius
        radial = (u * normal).sum(axis=1, keepdims=True)
        state, points = np.zeros_like(solution.u), np.zeros_like(solution.points)
        state[nodes] = normal / len(nodes)
        points[nodes] = (u - radial * normal) / radius / len(nodes)
        return fa.Evaluation(float(radial.mean()), state=state, points=points)


def quarter_annulus(cell: str, counts: tuple[int, int], radius: Callable[[FloatArray], FloatArray]) -> fa.Mesh:
    """Quarter ring; ``radius`` maps 0..1 to the radius. left: bore, right: outside, bottom: y = 0, top: x = 0."""
    box = box_mesh(cell, counts)
    r, angle = radius(box.points[:, 0]), 0.5 * np.pi * box.points[:, 1]
    return box.with_points(np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1))


LAME = {
    "quad": ((8, 16, 32), (2, 2, 2)),
    "triangle": ((8, 16, 32), (2, 2, 2)),
    "quad8": ((4, 8, 16), (4, 4, 4)),
    "quad9": ((4, 8, 16), (4, 4, 4)),
    "triangle6": ((8, 16, 32), (4, 3, 3)),
    "quad8+triangle6": ((4, 8, 16), (4, 4, 4)),
}
"""Refinements and orders of three measures of the bore displacement, each with its derivative by the bore radius: the
mean over the bore (from the compliance), the mean over its nodes, the node on the axis. Values at nodes gain a full
order from the symmetry of quadrilaterals; on the diagonal pattern of triangles they do not, and at the end of the
bore, where cells lie on one side only, they come near their order slowly."""


@pytest.mark.parametrize("cell", LAME)
def test_thick_cylinder(cell: str) -> None:
    a, b, E, nu, p = 1.0, 2.5, 100.0, 0.3, 2.0
    # u(a) = (1 + nu) p a / (E (b^2 - a^2)) ((1 - 2 nu) a^2 + b^2) and its derivative by a
    top, d_top = (1 - 2 * nu) * a**3 + a * b**2, 3 * (1 - 2 * nu) * a**2 + b**2
    bottom, d_bottom = b**2 - a**2, -2 * a
    exact = (1 + nu) * p / E * top / bottom
    slope = (1 + nu) * p / E * (d_top * bottom - top * d_bottom) / bottom**2
    # the compliance is p times the arc times the displacement
    arc = 0.5 * np.pi * a
    exact_values = np.array([p * arc * exact, exact, exact])
    exact_slopes = np.array([p * (arc * slope + 0.5 * np.pi * exact), slope, slope])

    refinements, orders = LAME[cell]
    errors = []
    for n in refinements:
        mesh = quarter_annulus(cell, (n, n), lambda s: a + (b - a) * s)
        problem = fa.LinearStatic(
            mesh,
            fa.Elasticity(E=E, nu=nu, plane="strain"),
            [fa.Fixed("bottom", "y"), fa.Fixed("top", "x")],
            [fa.Pressure("left", p)],
        )
        responses = [fa.Compliance(), RadialDisplacement("left"), fa.Displacement("corner", "x")]
        values, gradients = fa.values_and_gradients(problem.solve(), responses)
        assert problem.counts == fa.Counts(1, 1)
        r = np.linalg.norm(mesh.points, axis=1, keepdims=True)
        velocity = mesh.points / r * (b - r) / (b - a)
        slopes = np.array([np.vdot(g.points, velocity) for g in gradients])
        errors.append([np.abs(values / exact_values - 1), np.abs(slopes / exact_slopes - 1)])
    size = np.array(errors)
    rates = np.log2(size[-2] / size[-1])
    at_node = 0.35 if "triangle" in cell else 0.15
    assert (rates > np.array(orders) - [0.15, 0.15, at_node]).all(), (size, rates)
    assert np.abs(rates[:, 0] - orders[0]).max() < 0.2, rates
    largest = 1.2e-4 if is_quadratic(cell) else 7e-3
    assert size[-1].max() < largest, size


# ------------------------------------------------------------------ Kirsch's plate with a hole
def nodal_gradient(solution: fa.Solution, node: int) -> FloatArray:
    """Displacement gradient at a corner node, the mean over its cells."""
    found = []
    for block in solution.problem.mesh.blocks:
        for corner in range(block.reference.n_corners):
            _, gradients = shape_functions(block.type, block.reference.nodes[[corner]])
            for nodes in block.nodes[block.nodes[:, corner] == node]:
                jacobian = solution.points[nodes].T @ gradients[0]
                found.append(solution.u[nodes].T @ gradients[0] @ np.linalg.inv(jacobian))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("cell", ["quad8", "quad9"])
def test_kirsch_factor(cell: str) -> None:
    E, nu, stress, far = 70.0, 0.33, 1.5, 40.0
    mesh = quarter_annulus(cell, (24, 16), lambda s: far**s)
    solution = fa.LinearStatic(
        mesh,
        fa.Elasticity(E=E, nu=nu, plane="stress"),
        [fa.Fixed("bottom", "y"), fa.Fixed("top", "x")],
        [fa.Traction("right", lambda x: [stress * x[0] / far, 0 * x[1]])],
    ).solve()

    def stresses(x: float, y: float) -> FloatArray:
        node = int(np.argmin(np.hypot(mesh.points[:, 0] - x, mesh.points[:, 1] - y)))
        G = nodal_gradient(solution, node)
        strain = 0.5 * (G + G.T)
        return E / (1 - nu**2) * ((1 - nu) * strain + nu * np.trace(strain) * np.eye(2))

    assert stresses(0.0, 1.0)[0, 0] / stress == pytest.approx(3.0, rel=0.015)
    assert stresses(1.0, 0.0)[1, 1] / stress == pytest.approx(-1.0, rel=0.015)
    # u_r = S a / E (1 + 2 cos 2t) at the hole in plane stress
    assert solution.u[mesh.node_groups["corner"][0], 0] == pytest.approx(3 * stress / E, rel=0.005)


# ------------------------------------------------------------------ rigid motions, invariance and scaling
@pytest.mark.parametrize("cell", MESHES)
@pytest.mark.parametrize("thing", ["isotropic", "anisotropic", "diffusion"])
def test_rigid_motions_cause_no_forces(cell: str, thing: str) -> None:
    mesh = skewed_mesh(cell)
    dim = mesh.dim
    if thing == "diffusion":
        physics: Any = fa.Diffusion(TENSOR[:dim, :dim])
        supports = [fa.Fixed("corner")]
    else:
        size = 3 if dim == 2 else 6
        roots = np.random.default_rng(3).normal(size=(size, size))
        stiffness = roots @ roots.T + size * np.eye(size)
        physics = fa.Elasticity(E=3.0, nu=-0.2) if thing == "isotropic" else fa.Elasticity(stiffness=stiffness)
        supports = [fa.Fixed("left")]
    system = Products(fa.LinearStatic(mesh, physics, supports))
    rng = np.random.default_rng(0)
    shape = (mesh.n_nodes, len(physics.components(dim)))
    scale = np.abs(system.stiffness_times(mesh.points, rng.uniform(-1, 1, shape))).max()
    modes = physics.null_modes(mesh.points)
    assert len(modes.fields) == {"diffusion": 1}.get(thing, 3 if dim == 2 else 6)
    for name, field in zip(modes.names, modes.fields, strict=True):
        for transpose in (False, True):
            forces = system.stiffness_times(mesh.points, np.ascontiguousarray(field), transpose=transpose)
            assert np.abs(forces).max() < 1e-12 * scale, name


def relative_sum(gradient: FloatArray, field: FloatArray) -> float:
    return abs(np.vdot(gradient, field)) / np.abs(gradient * field).sum()


@pytest.mark.parametrize("cell", MESHES)
def test_translation_changes_nothing(cell: str) -> None:
    mesh = skewed_mesh(cell)
    dim = mesh.dim
    solution = fa.LinearStatic(
        mesh,
        fa.Elasticity(E=3.0, nu=0.3, density=2.0),
        [fa.Fixed("left")],
        [
            fa.BodyForce(OFFSET[:dim]),
            fa.Traction("top", SLOPES[0, :dim]),
            fa.Pressure("right", 0.4),
            fa.TotalForce("bottom", SLOPES[1, :dim]),
            fa.PointLoad("opposite", SLOPES[2, :dim]),
        ],
    ).solve()
    responses = [
        fa.Compliance(),
        fa.StrainEnergy(),
        fa.FieldNorm(),
        fa.Displacement("right", "x", "sum"),
        fa.Displacement("top", reduce="squared_norm"),
        fa.Volume(),
        fa.Mass("high"),
    ]
    _, gradients = fa.values_and_gradients(solution, responses)
    for response, gradient in zip(responses, gradients, strict=True):
        for axis in np.eye(dim):
            assert relative_sum(gradient.points, np.tile(axis, (mesh.n_nodes, 1))) < 1e-12, response


@pytest.mark.parametrize("cell", MESHES)
def test_rotation_changes_nothing_under_pressure(cell: str) -> None:
    mesh = skewed_mesh(cell)
    elasticity = fa.Elasticity(E=3.0, nu=0.3)
    solution = fa.LinearStatic(mesh, elasticity, [fa.Fixed("left")], [fa.Pressure("boundary", 0.4)]).solve()
    responses = [fa.Compliance(), fa.StrainEnergy(), fa.FieldNorm(), fa.Volume()]
    _, gradients = fa.values_and_gradients(solution, responses)
    for response, gradient in zip(responses, gradients, strict=True):
        for field in elasticity.null_modes(mesh.points).fields:
            assert relative_sum(gradient.points, field) < 1e-11, response
    # the same body turned by hand
    turned = mesh.with_points(mesh.points @ rotation(mesh.dim, 1.1).T)
    again = fa.LinearStatic(turned, elasticity, [fa.Fixed("left")], [fa.Pressure("boundary", 0.4)]).solve()
    assert np.vdot(again.load, again.u) == pytest.approx(np.vdot(solution.load, solution.u), rel=1e-10)


@pytest.mark.parametrize("cell", MESHES)
def test_euler_homogeneity_of_compliance(cell: str) -> None:
    # under x -> s x a stress p grows to work s^d, a body force to s^(d + 2), a dead force to s^(2 - d)
    mesh = skewed_mesh(cell)
    dim = mesh.dim
    direction = OFFSET[:dim]
    elastic = [
        (fa.Pressure("right", 0.4), dim),
        (fa.Traction("right", direction), dim),
        (fa.BodyForce(direction), dim + 2),
        (fa.Gravity(direction), dim + 2),
        (fa.TotalForce("right", direction), 2 - dim),
        (fa.PointLoad("opposite", direction), 2 - dim),
    ]
    scalar = [
        (fa.Flux("right", 0.4), dim),
        (fa.Source(0.4), dim + 2),
        (fa.TotalForce("right", 0.4), 2 - dim),
    ]
    for physics, cases in (
        (fa.Elasticity(E=3.0, nu=0.3, density=2.0), elastic),
        (fa.Diffusion(TENSOR[:dim, :dim]), scalar),
    ):
        for load, degree in cases:
            solution = fa.LinearStatic(mesh, physics, [fa.Fixed("left")], [load]).solve()
            value, gradient = fa.value_and_gradient(solution, fa.Compliance())
            scale = np.abs(gradient.points * mesh.points).sum()
            growth = np.vdot(gradient.points, mesh.points)
            assert growth == pytest.approx(degree * value, abs=1e-12 * scale), load


# ------------------------------------------------------------------ diffusion
@pytest.mark.parametrize("cell", MESHES)
def test_slab_of_two_materials_in_series(cell: str) -> None:
    dim = dim_of(cell)
    k1, k2, cold, hot = 2.0, 0.5, 20.0, 90.0
    lengths = (1.6, 0.8, 0.5)[:dim]
    box = box_mesh(cell, lengths=lengths, distortion=0.15, flat=True, seed=3)
    total, s = lengths[0], 0.6
    # move the interface from the middle to s
    points = np.array(box.points)
    x = points[:, 0]
    points[:, 0] = np.where(x <= total / 2, x * 2 * s / total, s + (x - total / 2) * 2 * (total - s) / total)
    mesh = box.with_points(points)
    x = mesh.points[:, 0]
    area = float(np.prod(lengths[1:]))
    solution = fa.LinearStatic(
        mesh,
        fa.Diffusion({"low": k1, "high": k2}),
        [fa.Fixed("left", value=cold), fa.Fixed("right", value=hot)],
        quadrature_order=3 if cell == "tetra10" else None,
    ).solve()
    flux = (hot - cold) / (s / k1 + (total - s) / k2)
    expected = cold + flux * np.where(x <= s, x / k1, s / k1 + (x - s) / k2)
    closest(solution.u[:, 0], expected, 1e-11)

    reactions = solution.reactions()[:, 0]
    assert reactions[mesh.nodes_of("right")].sum() == pytest.approx(flux * area, rel=1e-11)
    assert reactions[mesh.nodes_of("left")].sum() == pytest.approx(-flux * area, rel=1e-11)

    velocity = np.zeros_like(mesh.points)
    velocity[:, 0] = np.where(x <= s, x / s, (total - x) / (total - s))
    value, gradient = fa.value_and_gradient(solution, fa.StrainEnergy())
    assert value == pytest.approx(0.5 * flux * area * (hot - cold), rel=1e-11)
    slope = -0.5 * area * flux**2 * (1 / k1 - 1 / k2)
    assert np.vdot(gradient.points, velocity) == pytest.approx(slope, rel=1e-10)
    # by the prescribed temperature of a side: the flux that enters there
    for side, sign in (("right", 1), ("left", -1)):
        entering = gradient.supports[mesh.nodes_of(side)].sum()
        assert entering == pytest.approx(sign * flux * area, rel=1e-10)

    value, gradient = fa.value_and_gradient(solution, fa.Displacement("middle"))
    at_interface = cold + flux * s / k1
    d_flux = -(flux**2) / (hot - cold) * (1 / k1 - 1 / k2)
    assert value == pytest.approx(at_interface, rel=1e-11)
    assert np.vdot(gradient.points, velocity) == pytest.approx((d_flux * s + flux) / k1, rel=1e-10)


@pytest.mark.parametrize("cell", MESHES)
def test_nonsymmetric_conductivity_with_fluxes(cell: str) -> None:
    dim = dim_of(cell)
    lengths = (1.6, 0.8, 0.5)[:dim]
    mesh = box_mesh(cell, lengths=lengths, distortion=0.15, flat=True, seed=4)
    k, slope = TENSOR[:dim, :dim], SLOPES[1, :dim]
    q = k @ slope  # inflow through a side is n . q
    sides = {"right": q[0], "top": q[-1], "bottom": -q[-1]}
    if dim == 3:
        sides |= {"front": -q[1], "back": q[1]}
    solution = fa.LinearStatic(
        mesh,
        fa.Diffusion(k),
        [fa.Fixed("left", value=lambda x: slope @ x)],
        [fa.Flux(side, value) for side, value in sides.items()],
        quadrature_order=3 if cell == "tetra10" else None,
    ).solve()
    closest(solution.u[:, 0], mesh.points @ slope, 1e-11)
    assert solution.reactions().sum() == pytest.approx(-q[0] * np.prod(lengths[1:]), rel=1e-10)
    # stretch along x: the field at the right end is slope . x of the moved nodes
    value, gradient = fa.value_and_gradient(solution, fa.Displacement("right"))
    velocity = np.zeros_like(mesh.points)
    velocity[:, 0] = mesh.points[:, 0] / lengths[0]
    assert value == pytest.approx((mesh.points[mesh.nodes_of("right")] @ slope).mean(), rel=1e-10)
    assert np.vdot(gradient.points, velocity) == pytest.approx(slope[0], rel=1e-10)


# ------------------------------------------------------------------ balance of loads and reactions
THICKNESS = 0.4


def balance(mesh: fa.Mesh, physics: Any, load: Any) -> tuple[fa.Solution, FloatArray]:
    """Solve, check that the reactions balance the load (forces and moments), return the resultant."""
    solution = fa.LinearStatic(mesh, physics, [fa.Fixed("left")], [load]).solve()
    resultant = solution.load.sum(axis=0)
    all_forces = solution.load + solution.reactions()
    scale = np.abs(all_forces).sum()
    for mode in physics.null_modes(mesh.points).fields:
        assert abs(np.vdot(mode, all_forces)) < 1e-11 * scale
    return solution, resultant


@pytest.mark.parametrize("cell", MESHES)
def test_reactions_balance_loads_of_elasticity(cell: str) -> None:
    mesh = skewed_mesh(cell)
    dim = mesh.dim
    t = THICKNESS if dim == 2 else 1.0
    physics = fa.Elasticity(E=3.0, nu=0.3, density={"low": 2.0, "high": 5.0}, thickness=t)
    direction = OFFSET[:dim]
    volumes = mesh.cell_volumes()
    volume = volumes.sum()
    low, high = (volumes[mesh.cell_groups[g]].sum() for g in ("low", "high"))
    n_right = len(mesh.nodes_of("right"))
    for load, resultant in (
        (fa.BodyForce(direction), t * volume * direction),
        (fa.BodyForce(direction, "high"), t * high * direction),
        (fa.Gravity(direction), t * (2 * low + 5 * high) * direction),
        (fa.Gravity(direction, "high"), t * 5 * high * direction),
        (fa.PointLoad("right", direction), n_right * direction),
        (fa.TotalForce("right", direction), direction),
        (fa.TotalForce("inside", direction), direction),
        (fa.TotalForce("middle", direction), direction),
    ):
        _, found = balance(mesh, physics, load)
        closest(found, resultant, 1e-12)
    # a pressure on the whole boundary has no resultant and no moment; its work on x is -p d V
    solution, found = balance(mesh, physics, fa.Pressure("boundary", 0.7))
    scale = np.abs(solution.load).sum()
    for mode in physics.null_modes(mesh.points).fields:
        assert abs(np.vdot(mode, solution.load)) < 1e-12 * scale
    work = np.vdot(solution.load, mesh.points)
    assert work == pytest.approx(-0.7 * t * dim * volume, abs=1e-12 * np.abs(solution.load * mesh.points).sum())


@pytest.mark.parametrize("cell", MESHES)
def test_resultants_on_flat_sides(cell: str) -> None:
    dim = dim_of(cell)
    lengths = (1.6, 0.8, 0.5)[:dim]
    mesh = box_mesh(cell, lengths=lengths, distortion=0.15, flat=True, curved=False, seed=5)
    t = THICKNESS if dim == 2 else 1.0
    elastic = fa.Elasticity(E=3.0, nu=0.3, thickness=t)
    area = t * float(np.prod(lengths[1:]))
    volume = t * float(np.prod(lengths))
    direction = OFFSET[:dim]
    x_axis = np.eye(dim)[0]
    assert t * mesh.volume() == pytest.approx(volume, rel=1e-13)
    for load, resultant in (
        (fa.Traction("right", direction), area * direction),
        (fa.Traction("middle", direction), area * direction),
        (fa.Pressure("right", 0.7), -0.7 * area * x_axis),
        # linear in x: the mean value acts; the rules integrate it exactly on straight-sided cells
        (fa.Traction("right", lambda x: [x[1], *(0 * x[1:])]), area * lengths[1] / 2 * x_axis),
        (fa.Pressure("right", lambda x: 3 * x[1] + x[0]), -area * (1.5 * lengths[1] + lengths[0]) * x_axis),
        (fa.BodyForce(lambda x: [x[0] + 2 * x[1], *(0 * x[1:])]), volume * (lengths[0] / 2 + lengths[1]) * x_axis),
    ):
        _, found = balance(mesh, elastic, load)
        closest(found, resultant, 1e-12)
    scalar = fa.Diffusion(TENSOR[:dim, :dim], thickness=t)
    for load, total in (
        (fa.Flux("right", 0.7), 0.7 * area),
        (fa.Flux("middle", 0.7), 0.7 * area),
        (fa.Flux("right", lambda x: 2 * x[1]), area * lengths[1]),
        (fa.Source(0.7), 0.7 * volume),
        (fa.Source(0.7, "low"), 0.7 * volume / 2),
        (fa.Source(lambda x: x[0]), volume * lengths[0] / 2),
        (fa.TotalForce("right", 0.7), 0.7),
        (fa.PointLoad("opposite", 0.7), 0.7),
    ):
        _, found = balance(mesh, scalar, load)
        assert found[0] == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("cell", PLANE_MESHES)
def test_thickness(cell: str) -> None:
    mesh = skewed_mesh(cell)
    t = 0.25

    def solve(load: Any, thickness: float) -> fa.Solution:
        scalar = isinstance(load, (fa.Source, fa.Flux))
        physics: Any = (
            fa.Diffusion(2.0, thickness=thickness)
            if scalar
            else fa.Elasticity(E=3.0, nu=0.3, plane="stress", thickness=thickness, density=1.5)
        )
        return fa.LinearStatic(mesh, physics, [fa.Fixed("left")], [load]).solve()

    distributed = (
        fa.BodyForce((0.3, -1.0)),
        fa.Gravity((0.3, -1.0)),
        fa.Traction("right", (0.3, -1.0)),
        fa.Pressure("right", 0.3),
        fa.Source(0.3),
        fa.Flux("right", 0.3),
    )
    for load in distributed:
        # forces and stiffness grow alike
        one, thin = solve(load, 1.0), solve(load, t)
        closest(thin.u, one.u, 1e-12)
        closest(thin.load, t * one.load, 1e-13)
        closest(thin.reactions(), t * one.reactions(), 1e-11)
    for load in (fa.PointLoad("opposite", (0.3, -1.0)), fa.TotalForce("right", (0.3, -1.0))):
        one, thin = solve(load, 1.0), solve(load, t)
        closest(thin.u, one.u / t, 1e-11)
        closest(thin.load, one.load, 1e-13)
    responses = [fa.Volume(), fa.Mass(), fa.FieldNorm()]
    (volume, mass, norm), gradients = fa.values_and_gradients(thin, responses)
    assert volume == pytest.approx(t * mesh.volume(), rel=1e-13)
    assert mass == pytest.approx(1.5 * volume, rel=1e-13)
    (volume_1, _, norm_1), gradients_1 = fa.values_and_gradients(one, responses)
    closest(gradients[0].points, t * gradients_1[0].points, 1e-13)
    assert volume_1 == pytest.approx(volume / t, rel=1e-13)
    # u grows by 1 / t, hence |u|^2 t by 1 / t
    assert norm == pytest.approx(norm_1 / t, rel=1e-11)


# ------------------------------------------------------------------ volume and mass
@pytest.mark.parametrize("cell", MESHES)
def test_volume_and_mass_by_the_divergence_theorem(cell: str) -> None:
    mesh = skewed_mesh(cell)
    dim = mesh.dim
    t = THICKNESS if dim == 2 else 1.0
    physics = fa.Elasticity(E=1.0, nu=0.0, density={"low": 2.0, "high": 5.0}, thickness=t)
    solution = fa.LinearStatic(mesh, physics, [fa.Fixed("left")]).solve()
    assert not solution.u.any()
    responses = [fa.Volume(), fa.Volume("low"), fa.Volume("high"), fa.Mass(), fa.Mass("high")]
    values, gradients = fa.values_and_gradients(solution, responses)
    volume, low, high, mass, mass_high = values
    assert volume == pytest.approx(t * mesh.volume(), rel=1e-13)
    assert low + high == pytest.approx(volume, rel=1e-13)
    assert mass == pytest.approx(2 * low + 5 * high, rel=1e-13)
    assert mass_high == pytest.approx(5 * high, rel=1e-13)
    # dV/dX: zero inside, and x . dV/dx = d V
    gradient = gradients[0].points
    assert np.abs(gradient[mesh.node_groups["inside"]]).max() < 1e-13 * np.abs(gradient).max()
    for value, g in zip(values, gradients, strict=True):
        assert g.adjoint_solves == 0
        scale = np.abs(g.points * mesh.points).sum()
        assert np.vdot(g.points, mesh.points) == pytest.approx(dim * value, abs=1e-13 * scale)


@pytest.mark.parametrize("cell", CELLS)
def test_volume_of_a_ring_converges(cell: str) -> None:
    # a quarter ring (or a quarter of a tube, one unit long): straight cells order 2, curved ones order 4
    a, b = 1.0, 2.0
    exact = 0.25 * np.pi * (b**2 - a**2)
    errors = []
    for n in (2, 4, 8):
        box = box_mesh(cell, (1, n) if dim_of(cell) == 2 else (1, n, 1))
        r, angle = a + (b - a) * box.points[:, 0], 0.5 * np.pi * box.points[:, 1]
        mesh = box.with_points(np.column_stack([r * np.cos(angle), r * np.sin(angle), box.points[:, 2:]]))
        errors.append(abs(mesh.volume() / exact - 1))
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    assert rates[-1] > (3.9 if is_quadratic(cell) else 1.95), (errors, rates)
    assert errors[-1] < (1e-5 if is_quadratic(cell) else 1e-2)


def test_every_cell_type_is_covered() -> None:
    assert {*PLANE_CELLS, *SOLID_CELLS} == {name for name, kind in CELL_TYPES.items() if kind.dim > 1}
