"""Problems on meshes: matrices, values and gradients by every solver, against the processor and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import skfem

from femadj.base.arrays import FloatArray
from femadj.base.design import Cotangent
from femadj.conditions import BodyForce, Fixed, Source
from femadj.doctor.checks import Examination, within
from femadj.errors import SolverUnavailableError
from femadj.io import read_mesh
from femadj.mesh import Mesh
from femadj.physics import AdvectionDiffusion, Diffusion, Elasticity, Physics
from femadj.problems import LinearStatic
from femadj.responses import FieldNorm
from femadj.sensitivity.adjoint import value_and_gradient
from femadj.space.device import cuda_engine
from femadj.space.engine import HOST, Engine
from femadj.space.parameters import Parameters
from femadj.space.pattern import MatrixEntries

SAME_KERNEL, SAME, DIFFERENCES = 1e-12, 1e-10, 1e-6
STEP = 1e-5

ALWAYS = ("elasticity",)
"""Kernels that are looked at on every mesh, those of other physics on one of each dimension."""


def bodies() -> dict[str, Mesh]:
    """A square or cube of every cell type that scikit-fem makes, its inner nodes moved a little."""
    made = {
        "triangle": skfem.MeshTri().refined(4),
        "quad": skfem.MeshQuad().refined(4),
        "tetra": skfem.MeshTet().refined(2),
        "hexahedron": skfem.MeshHex().refined(3),
        "triangle6": skfem.MeshTri2.from_mesh(skfem.MeshTri().refined(3)),
        "tetra10": skfem.MeshTet2.from_mesh(skfem.MeshTet().refined(2)),
    }
    return {name: _moved(Mesh.from_skfem(mesh)) for name, mesh in made.items()}


def shipped(folder: Path) -> dict[str, Mesh]:
    """Mesh files of a folder."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".msh", ".inp"))
    return {path.name: read_mesh(path) for path in files}


def _moved(mesh: Mesh) -> Mesh:
    """With nodes off their places, and away from the origin."""
    size = np.ptp(mesh.points, axis=0).max() / len(mesh.points) ** (1.0 / mesh.dim)
    away = 0.05 * size * np.random.default_rng(0).uniform(-1.0, 1.0, mesh.points.shape)
    return mesh.with_points(mesh.points + away + 0.3)


def physics_of(dim: int) -> dict[str, Physics]:
    """What is assembled: symmetric and not, one unknown a node and several."""
    wind = (1.0, -0.5, 0.25)[:dim]
    return {
        "elasticity": Elasticity(E=1.0, nu=0.3),
        "diffusion": Diffusion(1.0),
        "advection": AdvectionDiffusion(1.0, wind),
    }


def problem(mesh: Mesh, physics: Physics, solver: str) -> LinearStatic:
    """A load on all of a body that is held where x is smallest."""
    low, high = mesh.points[:, 0].min(), mesh.points[:, 0].max()
    held = mesh.with_groups(node_groups={"held": np.flatnonzero(mesh.points[:, 0] < low + 0.1 * (high - low))})
    nc = len(physics.components(mesh.dim))
    load = Source(1.0) if nc == 1 else BodyForce((0.0,) * (mesh.dim - 1) + (-1.0,))
    return LinearStatic(held, physics, [Fixed("held")], [load], solver=solver)


# ------------------------------------------------------------------ kernels
def passes(mesh: Mesh, physics: Physics, engine: Engine) -> dict[str, FloatArray]:
    """Matrix entries, and products and a contraction with random fields, of a physics on a mesh."""
    space = replace(physics.discretise(mesh, None), engine=engine)
    parameters = Parameters.of(mesh, physics.parameters_on(mesh), type(physics).__name__)
    bound = physics.bind(space, parameters, None)
    pattern = space.pattern(symmetric=bound.symmetric)
    entries = MatrixEntries(pattern, np.zeros(pattern.csr.nnz))
    u, v = np.random.default_rng(0).standard_normal((2, *space.shape))
    product, gradient = np.zeros(space.shape), np.zeros_like(mesh.points)
    for term in bound.internal:
        at = term.at(mesh.points, parameters)
        at.jacobian(u, entries)
        at.jvp(u, v, product)
        at.pullback(u, v, Cotangent(gradient, {}))
    return {"assembly": entries.data, "product": product, "contraction": gradient}


def same_passes(mesh: Mesh, physics: Physics, engine: Engine) -> str:
    """Kernels of a device against those of the processor, and the same bits when they are called again."""
    found, expected = passes(mesh, physics, engine), passes(mesh, physics, HOST)
    for name, again in passes(mesh, physics, engine).items():
        if not np.array_equal(again, found[name]):
            raise AssertionError(f"{name} did not repeat its bits")
    worst = {name: float(np.abs(found[name] - right).max() / np.abs(right).max()) for name, right in expected.items()}
    return ", ".join(within(error, SAME_KERNEL, name) for name, error in worst.items())


# ------------------------------------------------------------------ gradients
@cache
def _reference(kind: str, dim: int, solver: str) -> tuple[LinearStatic, float, FloatArray]:
    built = problem(bodies()["tetra" if dim == 3 else "triangle"], physics_of(dim)[kind], solver)
    value, gradient = value_and_gradient(built.solve(), FieldNorm())
    return built, float(value), np.asarray(gradient.points)


def same_gradient(kind: str, dim: int, solver: str, reference: str) -> str:
    """Value and gradient against those of another solver, and along a random direction against differences."""
    _, expected, right = _reference(kind, dim, reference)
    built, value, gradient = _reference(kind, dim, solver)
    points = built.mesh.points
    direction = np.random.default_rng(2).standard_normal(points.shape)
    direction *= 1.0 / np.abs(direction).max()
    ends = [float(value_and_gradient(built.solve(points + s * STEP * direction), FieldNorm())[0]) for s in (1.0, -1.0)]
    slope, along = (ends[0] - ends[1]) / (2.0 * STEP), float((gradient * direction).sum())
    return ", ".join(
        (
            within(abs(value - expected) / abs(expected), SAME, "value"),
            within(np.abs(gradient - right).max() / np.abs(right).max(), SAME, "gradient"),
            within(abs(along - slope) / abs(slope), DIFFERENCES, "differences"),
        )
    )


def check_kernels(examination: Examination, meshes: Mapping[str, Mesh]) -> None:
    """The kernels of the device on every mesh, see :data:`ALWAYS`."""
    area = "kernels of the device"
    try:
        engine = cuda_engine(smallest=1)
    except SolverUnavailableError as error:
        examination.lack(area, str(error), required=False)
        return
    seen = set()
    for name, mesh in meshes.items():
        for kind, physics in physics_of(mesh.dim).items():
            if kind in ALWAYS or (mesh.dim, kind) not in seen:  # kernels take some ten seconds to compile
                seen.add((mesh.dim, kind))
                examination.check(area, f"{kind} on {name}", partial(same_passes, mesh, physics, engine))


def check_gradients(examination: Examination, solvers: Sequence[str]) -> None:
    """Value and gradient of an elastic and an advection problem by every solver, beside those of the first."""
    for solver in solvers:
        for kind, dim in (("elasticity", 3), ("advection", 2)):
            call = partial(same_gradient, kind, dim, solver, solvers[0])
            examination.check(f"gradients by {solver}", f"{kind} in {dim}-D", call)
