"""Passes over cells on a CUDA device, around the mathematics of ``femadj.kernels.entity``, compiled by numba-cuda.

Kernels are compiled for constant sizes, real numbers and cells. Nothing is added up by atomic operations, so that
results are the same bit by bit at every call:

- What cells give to their nodes (forces, node gradients): one thread a cell fills the values of its nodes, then one
  thread a node and component sums those of the cells around it, in ascending order.
- Matrices: ``LANES`` threads a node take its pairs with other nodes in turn, and sum the block of each over the cells
  that have both, in ascending order.

Node values of a cell lie in shared memory, a column for each thread, which leaves the registers to what is worked on.

``cuda`` is a global of this module, whose place numba-cuda's simulator takes (``NUMBA_ENABLE_CUDASIM=1``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numba import float64

from femadj.kernels import entity
from femadj.kernels.compile import Sizes, bind
from femadj.kernels.entity import Work

cuda: Any = import_module("numba.cuda")

LANES = 8
"""Threads that share the row of a node."""

SHARED_BYTES = 48 * 1024
"""Shared memory that a block of threads may have on any device."""


class Kernel(NamedTuple):
    """A kernel, not compiled, the threads of a block that it is written for, and how many threads share an item."""

    body: Any
    threads: int
    lanes: int = 1


def threads_for(n_bytes: int, most: int) -> int:
    """Threads of a block of which each takes so much shared memory: a power of two."""
    threads = most
    while threads > 1 and threads * n_bytes > SHARED_BYTES:
        threads //= 2
    return threads


def bodies(s: Sizes, within: Callable[[Any], Any], f: Any) -> dict[str, Kernel]:
    """The kernels for these sizes; ``within`` compiles what they call, ``f`` has the functions of ``entity``, compiled.

    - ``contract(geometry, tables, tensor, u, v, scale, values)``: node gradients of every entity, ``(m, ng, dim)``;
    - ``apply(geometry, tables, tensor, x, values)``: nodal forces ``K x``, ``(m, nf, nc)``;
    - ``tangent(geometry, tables, tensor, velocity, u, values)``: their rates;
    - ``sum_nodes(nodes, cell, around, values, y)``: fill ``y`` with the sums over the entities around every node;
    - ``assemble(geometry, tables, tensor, around, rows, data)``: fill the values of a matrix, zeros where no entity is;
    - ``low(geometry, tables, lows)``: smallest determinants of shares of the entities.
    """
    of_cells = _bodies_of_cells(s, within, f)
    return {**of_cells, "assemble": _assembly(s, within, f), "low": _lowest(s, within, f), "sum_nodes": _sums(within)}


def _scratch(s: Sizes, within: Callable[[Any], Any]) -> Any:
    """The function that makes the scratch space of an entity around its node values."""
    ng, nf, dim, nc, ns, same = s.geometry_nodes, s.field_nodes, s.dim, s.components, s.hi - s.lo, s.isoparametric

    @within
    def work(X, V, G, u, v, y):  # type: ignore[no-untyped-def]
        g = cuda.local.array((nf, dim), float64)
        gg = g if same else cuda.local.array((ng, dim), float64)
        h = cuda.local.array((nf, ns), float64)
        uh, vh = cuda.local.array((nc, ns), float64), cuda.local.array((nc, ns), float64)
        P, R = cuda.local.array((nc, ns), float64), cuda.local.array((nc, ns), float64)
        J, Ji = cuda.local.array((dim, dim), float64), cuda.local.array((dim, dim), float64)
        W = cuda.local.array((dim, dim), float64)
        n, b, det = cuda.local.array(dim, float64), cuda.local.array(dim, float64), cuda.local.array(1, float64)
        return Work(X, V, G, u, v, y, g, gg, h, uh, vh, P, R, J, Ji, W, n, b, det)

    return work


def _bodies_of_cells(s: Sizes, within: Callable[[Any], Any], f: Any) -> dict[str, Kernel]:
    """Kernels of one thread a cell."""
    ng, nf, dim, nc = s.geometry_nodes, s.field_nodes, s.dim, s.components
    gather, clear, put = f.gather, f.clear, within(_put)
    element_force, element_force_rate, element_shape_force = (
        f.element_force,
        f.element_force_rate,
        f.element_shape_force,
    )
    threads = threads_for(16 * (ng * dim + nf * nc), 64)
    work = _scratch(s, within)

    def contract(geometry, tables, tensor, u, v, scale, values):  # type: ignore[no-untyped-def]
        m = cuda.grid(1)
        if m < geometry.cell.shape[0]:
            X = cuda.shared.array((ng, dim, threads), float64)[:, :, cuda.threadIdx.x]
            G = cuda.shared.array((ng, dim, threads), float64)[:, :, cuda.threadIdx.x]
            at_u = cuda.shared.array((nf, nc, threads), float64)[:, :, cuda.threadIdx.x]
            at_v = cuda.shared.array((nf, nc, threads), float64)[:, :, cuda.threadIdx.x]
            w = work(X, X, G, at_u, at_v, at_u)
            e = geometry.cell[m]
            gather(geometry.points, geometry.nodes, e, X)
            gather(u, geometry.field, e, at_u)
            gather(v, geometry.field, e, at_v)
            clear(G)
            element_shape_force(s, tables, tensor.C, tensor.region[m], geometry.orientation[e] * scale, 0, w)
            put(G, m, values)

    def apply(geometry, tables, tensor, x, values):  # type: ignore[no-untyped-def]
        m = cuda.grid(1)
        if m < geometry.cell.shape[0]:
            X = cuda.shared.array((ng, dim, threads), float64)[:, :, cuda.threadIdx.x]
            at_x = cuda.shared.array((nf, nc, threads), float64)[:, :, cuda.threadIdx.x]
            y = cuda.shared.array((nf, nc, threads), float64)[:, :, cuda.threadIdx.x]
            w = work(X, X, X, at_x, at_x, y)
            e = geometry.cell[m]
            gather(geometry.points, geometry.nodes, e, X)
            gather(x, geometry.field, e, at_x)
            clear(y)
            element_force(s, tables, tensor.C, tensor.region[m], geometry.orientation[e], 0, w)
            put(y, m, values)

    def tangent(geometry, tables, tensor, velocity, u, values):  # type: ignore[no-untyped-def]
        m = cuda.grid(1)
        if m < geometry.cell.shape[0]:
            X = cuda.shared.array((ng, dim, threads), float64)[:, :, cuda.threadIdx.x]
            V = cuda.shared.array((ng, dim, threads), float64)[:, :, cuda.threadIdx.x]
            at_u = cuda.shared.array((nf, nc, threads), float64)[:, :, cuda.threadIdx.x]
            y = cuda.shared.array((nf, nc, threads), float64)[:, :, cuda.threadIdx.x]
            w = work(X, V, X, at_u, at_u, y)
            e = geometry.cell[m]
            gather(geometry.points, geometry.nodes, e, X)
            gather(velocity, geometry.nodes, e, V)
            gather(u, geometry.field, e, at_u)
            clear(y)
            element_force_rate(s, tables, tensor.C, tensor.region[m], geometry.orientation[e], 0, w)
            put(y, m, values)

    of_cells = {"contract": contract, "apply": apply, "tangent": tangent}
    return {name: Kernel(body, threads) for name, body in of_cells.items()}


def _put(of_cell, m, values):  # type: ignore[no-untyped-def]
    """Store the node values of an entity."""
    for a in range(of_cell.shape[0]):
        for i in range(of_cell.shape[1]):
            values[m, a, i] = of_cell[a, i]


def _find(nodes, e, node):  # type: ignore[no-untyped-def]
    """Which node of a cell a node is; -1 where it is none."""
    found = -1
    for a in range(nodes.shape[1]):
        if nodes[e, a] == node:
            found = a
    return found


def _sums(within: Callable[[Any], Any]) -> Kernel:
    """Sums of node values of entities."""
    find = within(_find)

    def sum_nodes(nodes, cell, around, values, y):  # type: ignore[no-untyped-def]
        thread = cuda.grid(1)
        node, i = thread // y.shape[1], thread % y.shape[1]
        if node < y.shape[0]:
            x = 0.0
            for p in range(around.start[node], around.start[node + 1]):
                m = around.item[p]
                x += values[m, find(nodes, cell[m], node), i]
            y[node, i] = x

    return Kernel(sum_nodes, 128)


def _assembly(s: Sizes, within: Callable[[Any], Any], f: Any) -> Kernel:
    """Assembly, by pairs of nodes."""
    ng, dim, nc, one = s.geometry_nodes, s.dim, s.components, s.of_one_node
    gather, clear, element_block, find = f.gather, f.clear, f.element_block, within(_find)
    threads = threads_for(8 * ng * dim, 128)
    work = _scratch(s, within)

    def assemble(geometry, tables, tensor, around, rows, data):  # type: ignore[no-untyped-def]
        thread = cuda.grid(1)
        node, lane = thread // LANES, thread % LANES
        if node >= around.start.shape[0] - 1:
            return
        begin, end = around.start[node], around.start[node + 1]
        first = rows.start[node]
        width = rows.start[node + 1] - first
        row = nc * nc * first - rows.upper * node * (nc * (nc - 1) // 2)
        X = cuda.shared.array((ng, dim, threads), float64)[:, :, cuda.threadIdx.x]
        w = work(X, X, X, X, X, X)
        K = cuda.local.array((nc, nc), float64)
        for p in range(lane, width, LANES):
            other = rows.column[first + p]
            clear(K)
            at = begin
            while at < end:
                b = -1
                m = 0
                while at < end and b < 0:  # all threads look for their next cell before all work on one
                    m = around.item[at]
                    b = find(geometry.field, geometry.cell[m], other)
                    at += 1
                if b >= 0:
                    e = geometry.cell[m]
                    a = find(geometry.field, e, node)
                    gather(geometry.points, geometry.nodes, e, X)
                    element_block(s, one, tables, tensor.C, tensor.region[m], geometry.orientation[e], 0, a, b, w, K)
            for i in range(nc):
                start = row + nc * (i * width + p) - rows.upper * (i * (i + 1) // 2)
                for k in range(nc):
                    if k >= i or rows.upper == 0 or other > node:
                        data[start + k] = K[i, k]

    return Kernel(assemble, threads, LANES)


def _lowest(s: Sizes, within: Callable[[Any], Any], f: Any) -> Kernel:
    """Smallest determinants."""
    ng, dim = s.geometry_nodes, s.dim
    gather, element_low = f.gather, f.element_low
    threads = threads_for(8 * ng * dim, 128)
    work = _scratch(s, within)

    def low(geometry, tables, lows):  # type: ignore[no-untyped-def]
        thread = cuda.grid(1)
        if thread < lows.shape[0]:
            X = cuda.shared.array((ng, dim, threads), float64)[:, :, cuda.threadIdx.x]
            w = work(X, X, X, X, X, X)
            worst = np.inf
            for m in range(thread, geometry.cell.shape[0], lows.shape[0]):
                e = geometry.cell[m]
                gather(geometry.points, geometry.nodes, e, X)
                worst = min(worst, element_low(s, tables, geometry.orientation[e], 0, w))
            lows[thread] = worst

    return Kernel(low, threads)


# ------------------------------------------------------------------ compilation
def within(function: Any) -> Any:
    """Compile a function into kernels; as source, without which compilation would ask for a driver."""
    return cuda.jit(device=True, inline="always")(function)


@cache
def functions() -> SimpleNamespace:
    """Those of ``entity``, compiled into kernels."""
    return SimpleNamespace(**bind(entity, within, root=math.sqrt))


@cache
def kernels(s: Sizes) -> dict[str, Kernel]:
    """Kernels for these sizes, which are compiled when they are first called."""
    plain = bodies(s, within, functions())
    return {name: kernel._replace(body=cuda.jit(kernel.body)) for name, kernel in plain.items()}


class Launch:
    """Starts kernels on arrays of the device, in the order of calls, on the stream that ``stream`` tells."""

    def __init__(self, stream: Callable[[], int]) -> None:
        self._stream = stream

    def __call__(self, s: Sizes, name: str, n: int, *arguments: Any) -> None:
        """Start the kernel of some sizes by its name, for ``n`` items."""
        kernel, threads, lanes = kernels(s)[name]
        stream = self._stream()
        on = cuda.external_stream(stream) if stream else 0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*Grid size")  # of small domains
            configured = kernel[-(-n * lanes // threads), threads, on]
        configured(*map(_seen, arguments))


def _seen(value: Any) -> Any:
    """An argument as numba-cuda takes it; tuples of arrays, too."""
    if isinstance(value, tuple):
        return type(value)(*map(_seen, value))
    return cuda.as_cuda_array(value, sync=False) if hasattr(value, "__cuda_array_interface__") else value
