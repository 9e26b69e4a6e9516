"""The fixed sparsity pattern of a topology, and where the entries of each cell lie in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.errors import InvalidMeshError
from femadj.kernels import graph
from femadj.solvers.structure import CsrPattern


@dataclass(frozen=True, eq=False)
class Pattern:
    """Fixed matrix structure of a topology, and the way from element entries into it.

    Attributes
    ----------
    csr : CsrPattern
        Over degrees of freedom, numbered ``node * n_components + component``.
    n_components : int
    positions : tuple of (n_cells, k, k) uint16
        Per block: where node b lies in the node row of node a (``SKIPPED`` where the symmetric matrix does not
        store the entry).
    """

    csr: CsrPattern
    n_components: int
    positions: tuple[npt.NDArray[np.uint16], ...]

    @classmethod
    def from_cells(
        cls, blocks: Sequence[npt.NDArray[np.int32]], n_nodes: int, n_components: int, *, symmetric: bool
    ) -> Pattern:
        """Build from the node lists of the cells of every block; ``symmetric`` stores the upper triangle only."""
        cell_nodes = np.concatenate([b.ravel() for b in blocks])
        widths = np.concatenate([np.full(len(b), b.shape[1], dtype=np.int64) for b in blocks])
        cell_start = np.concatenate([[0], np.cumsum(widths)])
        start = np.zeros(n_nodes + 1, dtype=np.int64)
        cells = np.empty(len(cell_nodes), dtype=np.int32)
        graph.node_cells(cell_start, cell_nodes, start, cells)
        row_start = np.zeros(n_nodes + 1, dtype=np.int64)
        mark = np.full(n_nodes, -1, dtype=np.int32)
        nothing = np.empty(0, dtype=np.int32)
        graph.neighbours(cell_start, cell_nodes, start, cells, symmetric, False, mark, row_start, nothing)
        widest = int(row_start.max())
        if widest >= graph.SKIPPED:
            raise InvalidMeshError(f"a node shares cells with {widest} others; at most 65534 are supported")
        np.cumsum(row_start, out=row_start)
        columns = np.empty(row_start[-1], dtype=np.int32)
        mark.fill(-1)
        graph.neighbours(cell_start, cell_nodes, start, cells, symmetric, True, mark, row_start, columns)
        positions = []
        for block in blocks:
            position = np.empty((*block.shape, block.shape[1]), dtype=np.uint16)
            graph.locate(block, row_start, columns, symmetric, position)
            positions.append(position)
        n = n_components
        n_diagonal = n_nodes * (n * (n - 1)) // 2 if symmetric else 0
        indptr = np.empty(n * n_nodes + 1, dtype=np.int64)
        indices = np.empty(n * n * len(columns) - n_diagonal, dtype=np.int32)
        graph.expand(row_start, columns, n, symmetric, indptr, indices)
        csr = CsrPattern(indptr, indices, "upper" if symmetric else "full")
        return cls(csr, n, tuple(positions))

    def node_rows(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """The same by nodes: where the row of each begins, ``(n_nodes + 1,)``, and the nodes in it."""
        n, indptr = self.n_components, self.csr.indptr
        first, width = indptr[:-1:n], (indptr[1::n] - indptr[:-1:n]) // n
        start = np.concatenate([[0], np.cumsum(width)])
        at = np.arange(start[-1]) - np.repeat(start[:-1], width)
        return start, self.csr.indices[np.repeat(first, width) + n * at] // np.int32(n)


class MatrixEntries(NamedTuple):
    """The matrix that terms add to.

    Attributes
    ----------
    pattern : Pattern
    data : (nnz,)
        Values in the order of the pattern.
    """

    pattern: Pattern
    data: FloatArray
