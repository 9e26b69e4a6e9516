"""Compiled kernels on connectivity: node graph, its sorted rows, and where each cell entry lies in them."""

from __future__ import annotations

import numpy as np
from numba import types

from femadj.kernels.compile import compiled, read, write

SKIPPED = 65535
"""Position of a cell entry that is not stored (lower triangle of a symmetric matrix)."""


@compiled(read("int64", 1), read("int32", 1), write("int64", 1), write("int32", 1))
def node_cells(cell_start, cell_nodes, start, cells):  # type: ignore[no-untyped-def]
    """Cells around every node, ascending: fills ``start`` (n_nodes + 1, zero on entry) and ``cells``."""
    for p in range(cell_nodes.shape[0]):
        start[cell_nodes[p] + 1] += 1
    for i in range(start.shape[0] - 1):
        start[i + 1] += start[i]
    for e in range(cell_start.shape[0] - 1):
        for p in range(cell_start[e], cell_start[e + 1]):
            i = cell_nodes[p]
            cells[start[i]] = e
            start[i] += 1
    for i in range(start.shape[0] - 1, 0, -1):
        start[i] = start[i - 1]
    start[0] = 0


@compiled(
    read("int64", 1),
    read("int32", 1),
    read("int64", 1),
    read("int32", 1),
    types.boolean,
    types.boolean,
    write("int32", 1),
    write("int64", 1),
    write("int32", 1),
)
def neighbours(  # type: ignore[no-untyped-def]
    cell_start, cell_nodes, start, cells, upper, fill, mark, row_start, columns
):
    """Rows of the node graph: nodes that share a cell with node i, itself included (those >= i when ``upper``).

    First call (``fill`` false): puts the row lengths into ``row_start[1:]``. Second call: fills ``columns``, sorted,
    from the accumulated ``row_start``. ``mark`` (n_nodes) must hold -1.
    """
    for i in range(start.shape[0] - 1):
        c = 0
        first = row_start[i] if fill else 0
        for q in range(start[i], start[i + 1]):
            e = cells[q]
            for p in range(cell_start[e], cell_start[e + 1]):
                j = cell_nodes[p]
                if mark[j] == i or (upper and j < i):
                    continue
                mark[j] = i
                if fill:
                    r = first + c
                    while r > first and columns[r - 1] > j:
                        columns[r] = columns[r - 1]
                        r -= 1
                    columns[r] = j
                c += 1
        if not fill:
            row_start[i + 1] = c


@compiled(read("int32", 2), read("int64", 1), read("int32", 1), types.boolean, write("uint16", 3))
def locate(nodes, row_start, columns, upper, position):  # type: ignore[no-untyped-def]
    """Position of local node b in the row of local node a, for every cell: fills ``position[e, a, b]``."""
    n_cells, k = nodes.shape
    for e in range(n_cells):
        for a in range(k):
            i = nodes[e, a]
            low0 = row_start[i]
            high0 = row_start[i + 1]
            for b in range(k):
                j = nodes[e, b]
                if upper and j < i:
                    position[e, a, b] = SKIPPED
                    continue
                low = low0
                high = high0
                while low < high:
                    mid = (low + high) // 2
                    if columns[mid] < j:
                        low = mid + 1
                    else:
                        high = mid
                position[e, a, b] = low - low0


@compiled(read("int64", 1), read("int32", 1), types.int64, types.boolean, write("int64", 1), write("int32", 1))
def expand(row_start, columns, n_components, upper, indptr, indices):  # type: ignore[no-untyped-def]
    """Degree-of-freedom CSR of a node graph with ``n_components`` unknowns a node (dof = node * n + component).

    The columns of the node graph are overwritten nowhere; ``upper`` keeps columns >= row, the diagonal first.
    """
    n = row_start.shape[0] - 1
    indptr[0] = 0
    p = 0
    for i in range(n):
        for c in range(n_components):
            for q in range(row_start[i], row_start[i + 1]):
                for d in range(n_components):
                    column = n_components * columns[q] + d
                    if upper and column < n_components * i + c:
                        continue
                    indices[p] = column
                    p += 1
            indptr[n_components * i + c + 1] = p


def bisect(points: np.ndarray, n_parts: int) -> np.ndarray:
    """Split nodes into ``n_parts`` compact parts of nearly equal size by recursive coordinate bisection.

    Returns the part number of every node, shape ``(n_nodes,)`` int32.
    """
    owner = np.zeros(len(points), dtype=np.int32)
    stack = [(np.arange(len(points)), 0, n_parts)]
    while stack:
        nodes, first, parts = stack.pop()
        if parts == 1:
            owner[nodes] = first
            continue
        left = parts // 2
        axis = int(np.ptp(points[nodes], axis=0).argmax())
        cut = len(nodes) * left // parts
        order = np.argpartition(points[nodes, axis], cut)
        stack.append((nodes[order[:cut]], first, left))
        stack.append((nodes[order[cut:]], first + left, parts - left))
    return owner
