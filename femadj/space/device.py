"""Passes over domains on a CUDA device.

What depends on the topology is uploaded once for a domain; node coordinates once for a design, as long as it is the
same read-only array that is handed over; fields with every call. Results are added to arrays of the host.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from femadj.base.cuda import DeviceArrays, device_arrays
from femadj.errors import SolverUnavailableError
from femadj.kernels import entity, graph
from femadj.kernels.compile import Sizes
from femadj.space.engine import HOST, Engine, Host
from femadj.space.nodal import Tensor
from femadj.space.pattern import MatrixEntries, Pattern
from femadj.space.region import Domain, in_threads

AnyArray = npt.NDArray[Any]

DEVICE_ENTITIES = 20_000
"""Domains with fewer entities are left to the host: what is moved and started takes longer than their passes."""

STAGED = 1 << 23
"""Values of a matrix that come back from the device at a time, by way of page-locked memory."""

LOWS = 1 << 16
"""Threads that look for the smallest determinant."""

_MISSING = "kernels on the device need numba-cuda: pip install 'femadj[gpu13]', or 'femadj[gpu12]'"


class Launch(Protocol):
    """Starts kernels; ``femadj.kernels.device.Launch``, but for tests."""

    def __call__(self, s: Sizes, name: str, n: int, *arguments: Any) -> None:
        """Start the kernel of some sizes by its name, for ``n`` items."""
        ...


def engine_on(device: str) -> Engine:
    """What passes of a problem run on whose solver is on a device."""
    if device != "cuda":
        return HOST
    return Host(_MISSING) if find_spec("numba_cuda") is None else CudaEngine(_connected, DEVICE_ENTITIES)


def cuda_engine(smallest: int) -> CudaEngine:
    """Passes over all domains of so many entities on the current device.

    Raises
    ------
    SolverUnavailableError
        Without a device, CuPy or numba-cuda.
    """
    if find_spec("numba_cuda") is None:
        raise SolverUnavailableError(_MISSING)
    connected = _connected()
    return CudaEngine(lambda: connected, smallest)


def _connected() -> tuple[DeviceArrays, Launch]:
    from femadj.kernels.device import Launch as OnDevice  # imports numba-cuda, which takes a while

    arrays = device_arrays()
    return arrays, OnDevice(arrays.stream)


class CudaEngine:
    """Passes of one problem on a CUDA device.

    Parameters
    ----------
    connect : callable
        Gives arrays and what starts kernels; called when the first domain has its passes here.
    smallest : int
        Entities that a domain must have for that.
    """

    def __init__(self, connect: Callable[[], tuple[DeviceArrays, Launch]], smallest: int) -> None:
        self._connect, self.smallest = connect, smallest
        self._points, self._rows = Latest(), Latest()

    @cached_property
    def _connected(self) -> tuple[DeviceArrays, Launch]:
        return self._connect()

    @property
    def arrays(self) -> DeviceArrays:
        """Where arrays on the device come from."""
        return self._connected[0]

    @property
    def launch(self) -> Launch:
        """What starts kernels."""
        return self._connected[1]

    @property
    def name(self) -> str:
        """Where that is."""
        return "CUDA device"

    def refusal(self, domain: Domain) -> str:
        """Why passes over a domain run on the host."""
        if domain.is_facet:
            return "facets, of which there are few"
        return f"fewer than {self.smallest} cells" if len(domain) < self.smallest else ""

    def passes(self, domain: Domain) -> CudaPasses:
        """Passes over a domain, for which its topology is uploaded."""
        return CudaPasses(domain, self)

    def points(self, points: AnyArray) -> Any:
        """Node coordinates on the device; those that were uploaded last where it is the same array, and read-only."""
        if points.flags.writeable or points.base is not None:  # what it is a view of could be written to
            return self.upload(points)
        return self._points(points, lambda: self.upload(points))

    def rows(self, pattern: Pattern) -> Any:
        """Structure of a matrix on the device; what was uploaded last where it is the same pattern."""
        return self._rows(pattern, lambda: self._uploaded_rows(pattern))

    def _uploaded_rows(self, pattern: Pattern) -> Any:
        start, column = pattern.node_rows()
        upper = int(pattern.csr.triangle == "upper")
        return entity.NodeRows(self.arrays.upload(start), self.arrays.upload(column), upper)

    def add(self, a: Any, into: AnyArray, threads: int) -> None:
        """Add a flat array on the device to one of the host, in so many threads."""
        for first in range(0, len(into), STAGED):
            part = into[first : first + STAGED]
            found = self._staging[: len(part)]
            self.arrays.read(a, first, found)
            ends = np.linspace(0, len(part), threads + 1).astype(int)
            in_threads(partial(_add, part, found), [slice(*pair) for pair in pairwise(ends)])

    @cached_property
    def _staging(self) -> AnyArray:
        return self.arrays.page_locked(STAGED)

    def upload(self, values: AnyArray) -> Any:
        """Real numbers on the device."""
        return self.arrays.upload(np.ascontiguousarray(values, np.float64))


def _add(into: AnyArray, values: AnyArray, part: slice) -> None:
    into[part] += values[part]


class Latest:
    """What was made last, and what of: made anew for everything else."""

    def __init__(self) -> None:
        self._known: tuple[Any, Any] = (None, None)

    def __call__(self, source: Any, make: Callable[[], Any]) -> Any:
        """What is made of a source."""
        known, value = self._known
        if known is not source:
            value = make()
            self._known = (source, value)
        return value


class CudaPasses:
    """Passes over one domain on a CUDA device; see ``femadj.space.engine.Passes``."""

    def __init__(self, domain: Domain, engine: CudaEngine) -> None:
        self._domain, self._engine, self._upload = domain, engine, engine.arrays.upload

    @property
    def _same(self) -> bool:
        """Whether field and geometry have the same nodes."""
        return self._domain.field is self._domain.nodes

    @cached_property
    def _geometry(self) -> entity.Geometry:
        """The entities, less node coordinates."""
        upload, domain = self._upload, self._domain
        nodes, cell = upload(domain.nodes), upload(domain.cell)
        field = nodes if self._same else upload(domain.field)
        return entity.Geometry(None, nodes, field, cell, upload(domain.local), upload(domain.orientation))

    @cached_property
    def _tables(self) -> entity.Tables:
        return entity.Tables(*map(self._upload, self._domain.tables))

    @cached_property
    def _around_nodes(self) -> Any:
        return self._around(self._domain.nodes)

    @cached_property
    def _around_field(self) -> Any:
        return self._around_nodes if self._same else self._around(self._domain.field)

    def _around(self, nodes: AnyArray) -> Any:
        """Entities around every node."""
        of_entities = np.ascontiguousarray(nodes[self._domain.cell])
        m, k = of_entities.shape
        start, items = np.zeros(len(self._domain.owner) + 1, np.int64), np.empty(m * k, np.int32)
        graph.node_cells(np.arange(0, m * k + 1, k, dtype=np.int64), of_entities.ravel(), start, items)
        return entity.Around(self._upload(start), self._upload(items))

    def _data(self, points: AnyArray, c: Tensor) -> tuple[Sizes, Any, Any, Any]:
        """Sizes, geometry, tables and coefficients, as kernels take them."""
        sizes = self._domain.sizes(c.n_components, c.lo, c.hi)
        geometry = self._geometry._replace(points=self._engine.points(points))
        tensor = entity.Tensor(self._engine.upload(c.coefficient), self._upload(c.region))
        return sizes, geometry, self._tables, tensor

    def assemble(self, points: AnyArray, c: Tensor, entries: MatrixEntries) -> float:
        """Add the matrix to the entries of the pattern; returns the smallest Jacobian determinant."""
        engine = self._engine
        sizes, geometry, tables, tensor = self._data(points, c)
        data = engine.arrays.empty(entries.data.shape, np.float64)
        lows = engine.arrays.empty((min(len(self._domain), LOWS),), np.float64)
        engine.launch(sizes, "low", lows.shape[0], geometry, tables, lows)
        rows = engine.rows(entries.pattern)
        engine.launch(
            sizes, "assemble", len(self._domain.owner), geometry, tables, tensor, self._around_field, rows, data
        )
        engine.add(data, entries.data, len(self._domain.parts))
        return float(engine.arrays.download(lows).min())

    def apply(self, points: AnyArray, c: Tensor, x: AnyArray, y: AnyArray) -> None:
        """Add ``K x`` to ``y``."""
        self._of_cells("apply", points, c, (x,), y)

    def contract(self, points: AnyArray, c: Tensor, u: AnyArray, v: AnyArray, gradient: AnyArray, scale: float) -> None:
        """Add ``scale * d/dX (v^T K u)`` at fixed u and v to ``gradient``."""
        self._of_cells("contract", points, c, (u, v, float(scale)), gradient)

    def tangent(self, points: AnyArray, c: Tensor, velocity: AnyArray, u: AnyArray, y: AnyArray) -> None:
        """Add ``(dK/dX velocity) u`` to ``y``."""
        self._of_cells("tangent", points, c, (velocity, u), y)

    def _of_cells(
        self, name: str, points: AnyArray, c: Tensor, given: tuple[AnyArray | float, ...], y: AnyArray
    ) -> None:
        """Start a kernel of one thread a cell, and add up what cells give to their nodes."""
        engine = self._engine
        sizes, geometry, tables, tensor = self._data(points, c)
        on_geometry = name == "contract"
        nodes = geometry.nodes if on_geometry else geometry.field
        values = engine.arrays.empty((len(self._domain), nodes.shape[1], y.shape[1]), np.float64)
        there = (x if isinstance(x, float) else engine.upload(x) for x in given)
        engine.launch(sizes, name, len(self._domain), geometry, tables, tensor, *there, values)
        sums = engine.arrays.empty(y.shape, np.float64)
        around = self._around_nodes if on_geometry else self._around_field
        engine.launch(sizes, "sum_nodes", sums.shape[0] * sums.shape[1], nodes, geometry.cell, around, values, sums)
        y += engine.arrays.download(sums)
