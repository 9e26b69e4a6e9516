"""Kernels of CUDA devices: in plain Python and in numba-cuda's simulator against the CPU's, compiled without a device,
and, marked ``gpu``, on a device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba import types

import femadj as fa
from femadj.base import cuda
from femadj.base.cuda import device_arrays
from femadj.base.design import Design
from femadj.kernels import device, entity
from femadj.kernels.compile import Sizes
from femadj.mesh.reference import cell_table
from femadj.problems import problem as problems
from femadj.problems.fem import FemAtDesign
from femadj.solvers import SuperLUSolver
from femadj.space import device as space_device
from femadj.space import nodal
from femadj.space.device import CudaEngine, engine_on
from femadj.space.engine import HOST
from femadj.space.pattern import MatrixEntries
from tests.cuda_stand_in import CountedArrays, PlainLaunch
from tests.device_passes import FORMS, Sample, order_of, simulated_mesh
from tests.gpu import gpu, require_gpu, skip
from tests.meshes import CELLS, box_mesh, dim_of

ROOT = Path(__file__).parents[1]
MANY_NODES = {"tetra10", "hexahedron20", "hexahedron27"}
PLAIN = [
    pytest.param(cell, form, marks=[pytest.mark.slow] if cell in MANY_NODES and form not in marked else [])
    for cell in CELLS
    for marked in [{"elasticity"} if cell == "hexahedron27" else {"elasticity", "diffusion"}]
    for form in FORMS
]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> CudaEngine:
    """Passes in plain Python on arrays that the host must not touch."""
    arrays, launch = CountedArrays(), PlainLaunch(monkeypatch)
    return CudaEngine(lambda: (arrays, launch), smallest=1)


# ---------------------------------------------------------------------- the mathematics, without a device
@pytest.mark.parametrize(("cell", "form"), PLAIN)
def test_passes_agree_with_those_of_the_host(cell: str, form: str, engine: CudaEngine) -> None:
    errors = Sample(simulated_mesh(cell), form, order_of(cell)).errors(engine)
    assert max(errors.values()) < 1e-13, errors


def test_passes_over_a_group_leave_the_rest_alone(engine: CudaEngine) -> None:
    mesh = box_mesh("quad", (2, 2), distortion=0.1)
    assert max(Sample(mesh, "advection", group="low").errors(engine).values()) < 1e-13


def test_other_shape_functions_for_field_and_geometry(engine: CudaEngine) -> None:
    sample = Sample(simulated_mesh("triangle6"), "advection", 2)
    corners = np.ascontiguousarray(sample.domain.nodes[:, :3])
    sample.domain = replace(sample.domain, nodes=corners, geometry=cell_table("triangle", 2))
    assert not sample.domain.sizes(1, 0, 1).isoparametric
    assert max(sample.errors(engine).values()) < 1e-13


def test_simulator() -> None:
    """numba-cuda's own simulator compiles nothing, but has its semantics of grids, shared and local memory."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.simulated"]
    run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 2


# ---------------------------------------------------------------------- what is moved, and what stays on the host
def test_topology_is_moved_once_and_points_once_a_design(engine: CudaEngine) -> None:
    arrays, sample = engine.arrays, Sample(simulated_mesh("quad"), "diffusion")
    assert isinstance(arrays, CountedArrays)
    there = sample.on(engine)
    assert not arrays.uploads
    sample.passes(there)
    arrays.uploads.clear()
    sample.passes(there)
    coefficients = 4 * [sample.c.coefficient.nbytes, sample.c.region.nbytes]
    fields = [sample.u.nbytes, sample.u.nbytes, sample.v.nbytes, sample.velocity.nbytes, sample.u.nbytes]
    assert not sample.points.flags.writeable
    assert sorted(arrays.uploads) == sorted(coefficients + fields)  # no nodes, no points
    arrays.uploads.clear()
    sample.points = sample.points.copy()
    sample.passes(there)  # an array that may be written to is moved every time
    assert sorted(arrays.uploads) == sorted(coefficients + fields + 4 * [sample.points.nbytes])


def test_large_matrices_come_back_in_parts(engine: CudaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_device, "STAGED", 7)
    arrays, sample = engine.arrays, Sample(simulated_mesh("triangle"), "diffusion")
    assert isinstance(arrays, CountedArrays)
    sample.domain = replace(sample.domain, parts=3 * sample.domain.parts)  # threads that add
    there, entries = sample.on(engine), MatrixEntries(sample.pattern, np.ones(sample.pattern.csr.nnz))
    nodal.assemble(there, sample.points, sample.c, entries)
    assert sum(arrays.downloads[:-1]) == entries.data.nbytes
    assert max(arrays.downloads[:-1]) == 7 * 8
    expected = MatrixEntries(sample.pattern, np.ones(sample.pattern.csr.nnz))
    one = replace(sample.domain, parts=sample.domain.parts[:1])
    nodal.assemble(one, sample.points, sample.c, expected)
    assert np.abs(entries.data - expected.data).max() <= 1e-13 * np.abs(expected.data).max()


def test_what_stays_on_the_host(engine: CudaEngine) -> None:
    mesh = simulated_mesh("quad")
    space = replace(Sample(mesh, "diffusion").space, engine=engine)
    (cells,), (facets,) = space.cells("stiffness"), space.facets(mesh.facets("boundary"))
    assert cells.elsewhere is not None
    assert facets.elsewhere is None
    assert "facets" in engine.refusal(facets)
    assert cells.chunk(0, 1).elsewhere is None
    assert "piece by piece" in cells.chunk(0, 1).engine.refusal(cells)
    few = CudaEngine(lambda: (engine.arrays, engine.launch), smallest=1000)
    assert "fewer than 1000 cells" in few.refusal(cells)
    assert replace(cells, engine=few).elsewhere is None
    assert isinstance(engine.launch, PlainLaunch)
    sample = Sample(mesh, "diffusion")
    u = sample.u + 1j
    y = np.zeros(u.shape, complex)
    nodal.apply(sample.on(engine), sample.points, sample.c, u, y)
    assert not engine.launch.started  # complex numbers
    assert np.abs(y).max() > 0


class OnDevice(SuperLUSolver):
    """A solver that says that it lives on a device."""

    capabilities = replace(SuperLUSolver.capabilities, device="cuda")


def static(physics: Any, solver: Any = "superlu", n: int = 2) -> fa.LinearStatic:
    mesh = box_mesh("tetra", (n, 1, 1), distortion=0.1)
    load = fa.Traction("right", (1.0, 2.0, -0.5)) if isinstance(physics, fa.Elasticity) else fa.Flux("right", 1.0)
    return fa.LinearStatic(mesh, physics, [fa.Fixed("left")], [load], solver=solver)


PHYSICS = {
    "elasticity": (fa.Elasticity(1.0, 0.3), fa.Compliance()),
    "advection": (fa.AdvectionDiffusion(1.0, (3.0, 1.0, 0.5)), fa.FieldNorm()),
}


@pytest.mark.parametrize("name", PHYSICS)
def test_value_and_gradient_of_problems(name: str, engine: CudaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    physics, response = PHYSICS[name]
    asked: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(problems, "engine_on", lambda where: (asked.append(where), engine)[1])
        there = static(physics, OnDevice())
    assert asked == ["cuda"]
    assert_same(there, static(physics), response)
    assert isinstance(engine.launch, PlainLaunch)
    counts = Counter(engine.launch.started)
    assert counts["assemble"] == counts["low"] == 1
    assert counts["contract"] == (1 if name == "elasticity" else 2)  # FieldNorm takes one itself
    lines = there.explain().splitlines()
    assert lines[0].endswith(": cuda")
    assert lines[1].endswith("over 12 cells: CUDA device")
    assert lines[2].endswith("over 2 facets: host (linear forms)")


def assert_same(problem: fa.LinearStatic, by_host: fa.LinearStatic, response: Any) -> None:
    """Values and gradients at coordinates that are not the mesh's own, to 1e-10 of the largest component."""
    points = by_host.mesh.points + 0.01 * np.sin(7 * by_host.mesh.points)
    value, gradient = fa.value_and_gradient(problem.solve(points), response)
    expected, wanted = fa.value_and_gradient(by_host.solve(points), response)
    assert abs(value - expected) <= 1e-10 * abs(expected)
    assert np.abs(gradient.points - wanted.points).max() <= 1e-10 * np.abs(wanted.points).max()


class FarAway:
    """An array on a device, by its interface."""

    def __init__(self, values: Any) -> None:
        self.there = values
        self.__cuda_array_interface__ = {"shape": values.shape, "typestr": "<f8", "data": (1, False), "version": 3}


def test_points_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = static(fa.Elasticity(1.0, 0.3))
    points = problem.mesh.points + 0.01
    arrays = SimpleNamespace(download=lambda a: a.there)
    monkeypatch.setattr(cuda, "device_arrays", lambda: arrays)
    given: Any = FarAway(points)
    np.testing.assert_allclose(problem.solve(given).u, problem.solve(points).u, rtol=0, atol=1e-10)
    with pytest.raises(fa.InvalidMeshError, match="shape"):
        problem.solve(FarAway(points[1:]))  # type: ignore[arg-type]


def test_a_full_device_is_told() -> None:
    class OutOfMemoryError(Exception):
        pass

    def full(*arguments: Any, **options: Any) -> Any:
        raise OutOfMemoryError("Out of memory allocating 8,000,000 bytes")

    arrays = cuda.CuPyArrays.__new__(cuda.CuPyArrays)  # whose constructor asks for a device
    runtime = SimpleNamespace(memGetInfo=lambda: (3_000_000, 80_000_000_000))
    library = SimpleNamespace(memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError), runtime=runtime)
    arrays._cupy = SimpleNamespace(empty=full, asarray=full, cuda=library)
    for ask in (lambda: arrays.empty((1000, 1000), np.float64), lambda: arrays.upload(np.zeros((1000, 1000)))):
        with pytest.raises(
            fa.SolverMemoryError, match=r"no memory left for 0\.008 GB \(0\.003 GB are free\)"
        ) as caught:
            ask()
        assert caught.value.needed_bytes == 8_000_000


def test_tangled_meshes_are_refused(engine: CudaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = box_mesh("quad", (2, 2))
    monkeypatch.setattr(problems, "engine_on", lambda where: engine)
    problem = fa.LinearStatic(mesh, fa.Diffusion(1.0), [fa.Fixed("left")], [fa.Source(1.0)], solver=OnDevice())
    design = Design(mesh.points + 0.8 * np.isin(np.arange(mesh.n_nodes), mesh.node_groups["inside"])[:, None], {})
    at = FemAtDesign(problem.residual, design, design.points, problem.parameters)  # past what looks at the mesh before
    assert isinstance(engine.launch, PlainLaunch)
    with pytest.raises(fa.TangledMeshError, match="turned inside out"):
        _ = at.condensed
    assert "low" in engine.launch.started


def test_the_solver_says_where() -> None:
    assert engine_on("cpu") is HOST
    problem = static(fa.Elasticity(1.0, 0.3))
    assert problem.explain().splitlines()[1].endswith("over 12 cells: host (the solver runs on the host)")


def test_solvers_on_a_device_have_passes_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_device, "find_spec", lambda name: object() if name == "numba_cuda" else None)
    monkeypatch.setattr(space_device, "device_arrays", lambda: pytest.fail("nothing is asked of the device"))
    engine = engine_on("cuda")
    assert isinstance(engine, CudaEngine)
    assert engine.smallest == space_device.DEVICE_ENTITIES
    assert engine.name == "CUDA device"
    problem = static(fa.Elasticity(1.0, 0.3), OnDevice())  # all of it small, so that nothing is uploaded
    assert "fewer than" in problem.explain()
    fa.value_and_gradient(problem.solve(), fa.Compliance())


@pytest.mark.skipif(find_spec("numba_cuda") is not None, reason="numba-cuda is installed")
def test_without_numba_cuda_passes_run_on_the_host() -> None:
    assert "pip install 'femadj[gpu13]'" in engine_on("cuda").refusal(None)


# ---------------------------------------------------------------------- compiled, without a device
f8, i4, i8 = types.float64, types.int32, types.int64


def _array(kind: Any, ndim: int) -> Any:
    return types.Array(kind, ndim, "C")


def _tuple(kind: Any, *members: Any) -> Any:
    return types.NamedTuple(members, kind)


GEOMETRY = _tuple(entity.Geometry, *(_array(*a) for a in ((f8, 2), (i4, 2), (i4, 2), (i4, 1), (i4, 1), (f8, 1))))
TABLES = _tuple(entity.Tables, *(_array(f8, n) for n in (3, 4, 3, 4, 2, 2)))
TENSOR = _tuple(entity.Tensor, _array(f8, 6), _array(i4, 1))
AROUND = _tuple(entity.Around, _array(i8, 1), _array(i4, 1))
NODE_ROWS = _tuple(entity.NodeRows, _array(i8, 1), _array(i4, 1), i8)
SIGNATURES = {
    "contract": (GEOMETRY, TABLES, TENSOR, _array(f8, 2), _array(f8, 2), f8, _array(f8, 3)),
    "apply": (GEOMETRY, TABLES, TENSOR, _array(f8, 2), _array(f8, 3)),
    "tangent": (GEOMETRY, TABLES, TENSOR, _array(f8, 2), _array(f8, 2), _array(f8, 3)),
    "assemble": (GEOMETRY, TABLES, TENSOR, AROUND, NODE_ROWS, _array(f8, 1)),
    "low": (GEOMETRY, TABLES, _array(f8, 1)),
    "sum_nodes": (_array(i4, 2), _array(i4, 1), AROUND, _array(f8, 3), _array(f8, 2)),
}
SPILLED_BYTES = {"hexahedron27": 1024}
"""Stored, and loaded, by a thread of cells that are too large for its registers; 128 for all others."""
ARCHITECTURES = (80, 90, 100)
"""Of devices that PTX of the first of them is assembled for: code of PTX runs on newer ones."""
COMPILED = [
    *(pytest.param(cell, name, 80, marks=pytest.mark.slow) for cell in CELLS for name in SIGNATURES),
    *((cell, name, 90) for cell in ("tetra", "hexahedron") for name in ("contract", "assemble")),
]
"""Cells, kernels, and the architecture that PTX is made for."""


def elastic_sizes(cell: str) -> Sizes:
    """Of the kernels of elasticity."""
    mesh = box_mesh(cell, (1, 1, 1)[: dim_of(cell)])
    (domain,) = fa.Elasticity(1.0, 0.3).discretise(mesh, 1).cells("stiffness")
    return domain.sizes(mesh.dim, 1, mesh.dim + 1)


@pytest.mark.parametrize(("cell", "name", "cc"), COMPILED)
def test_kernels_compile_and_spill_little(cell: str, name: str, cc: int, tmp_path: Path) -> None:
    if find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed: pip install 'femadj[gpu13]'")
    kernel = device.bodies(elastic_sizes(cell), device.within, device.functions())[name]
    ptx, _ = device.cuda.compile_ptx(kernel.body, SIGNATURES[name], cc=divmod(cc, 10))
    assert f".target sm_{cc}" in ptx
    ptxas = next(Path(sysconfig.get_paths()["purelib"]).glob("nvidia/**/bin/ptxas"), None)
    if ptxas is None:
        pytest.skip("compiled to PTX; ptxas, which tells registers and spills, is not installed: nvidia-cuda-nvcc")
    source = tmp_path / "kernel.ptx"
    source.write_text(ptx)
    for architecture in (each for each in ARCHITECTURES if each >= cc):
        command = [ptxas, "-v", f"-arch=sm_{architecture}", source, "-o", tmp_path / "kernel.cubin"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        said = run.stdout + run.stderr
        (registers,) = re.findall(r"Used (\d+) registers", said)
        ((stack, stores, loads),) = re.findall(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill lo", said
        )
        shared = int((re.findall(r"(\d+) bytes smem", said) or ["0"])[0])
        print(
            f"{cell} {name} sm_{architecture}: {registers} registers, {stack} bytes of stack, {stores} + {loads} bytes "
            f"spilled, {shared} bytes shared by {kernel.threads} threads"
        )
        assert int(stores) <= SPILLED_BYTES.get(cell, 128)
        assert int(loads) <= SPILLED_BYTES.get(cell, 128)
        assert shared <= device.SHARED_BYTES


# ---------------------------------------------------------------------- on a device
@pytest.fixture
def on_device() -> CudaEngine:
    """Passes on the device, of which there must be one."""
    require_gpu()
    if find_spec("numba_cuda") is None:
        skip("numba-cuda is not installed: pip install 'femadj[gpu13]'")
    arrays = device_arrays()
    return CudaEngine(lambda: (arrays, device.Launch(arrays.stream)), smallest=1)


GPU_FORMS = {"elasticity": CELLS, "diffusion": ("hexahedron",), "advection": ("triangle",), "reaction": ("tetra",)}


@gpu
@pytest.mark.parametrize(
    ("cell", "form"), [*((cell, form) for form, cells in GPU_FORMS.items() for cell in cells), ("wedge", "system")]
)
def test_passes_on_a_device(cell: str, form: str, on_device: CudaEngine) -> None:
    counts = (9, 7, 6)[: dim_of(cell)]
    errors = Sample(box_mesh(cell, counts, distortion=0.12), form).errors(on_device)
    print(cell, form, errors)
    assert max(errors.values()) < 1e-12, errors


@gpu
@pytest.mark.parametrize("name", PHYSICS)
def test_problems_on_a_device(name: str, on_device: CudaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    physics, response = PHYSICS[name]
    with monkeypatch.context() as patch:
        patch.setattr(problems, "engine_on", lambda where: on_device)
        there = static(physics, OnDevice(), 12)
    assert "CUDA device" in there.explain()
    by_cupy = import_module("cupy").asarray(there.mesh.points)
    np.testing.assert_allclose(there.solve(by_cupy).u, there.solve(there.mesh.points).u, rtol=0, atol=1e-9)
    assert_same(there, static(physics, n=12), response)
