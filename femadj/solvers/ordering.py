"""Elimination orders by nested dissection, for solvers that have none of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from femadj.solvers.matrix import Structure

_ONE_AT_A_TIME = threading.Lock()  # METIS draws from the random numbers of the process: the same order every time


class Arrangement(NamedTuple):
    """The whole matrix of a structure, rows and columns in the order in which they are to be eliminated.

    Attributes
    ----------
    order : (n,) or None
        Equation at every place; None where the equations stay where they are.
    indptr, indices : (n + 1,), (nnz,) int32
        Compressed rows, both triangles.
    slots : (nnz,)
        Where the value of each entry is in the array of values.
    """

    order: npt.NDArray[np.integer] | None
    indptr: npt.NDArray[np.int32]
    indices: npt.NDArray[np.int32]
    slots: npt.NDArray[np.integer]


Order = Callable[[Structure], npt.NDArray[np.integer]]
"""Equations of a structure in the order in which they are to be eliminated, (n,)."""


def by_metis() -> Order | None:
    """:func:`nested_dissection`, None where pymetis is not installed."""
    try:
        import pymetis
    except ImportError:
        return None
    return nested_dissection if hasattr(pymetis, "CSRAdjacency") else None


def nested_dissection(structure: Structure) -> npt.NDArray[np.integer]:
    """Equations in the order that METIS eliminates them in, (n,).

    The graph is that of nodes: unknowns of a node have the same neighbours, and stay together (Karypis and Kumar, A
    fast and high quality multilevel scheme for partitioning irregular graphs, 1998). Of a matrix whose pattern is not
    symmetric it is that of ``A + A^T``.
    """
    import pymetis

    layout = structure.layout
    components, nodes = layout.components, len(layout.start) - 1
    graph = sp.csr_array((np.ones(len(layout.columns), np.bool_), layout.columns, layout.start), shape=(nodes, nodes))
    if not structure.upper:
        graph = sp.csr_array(graph + graph.T)
    rows = np.repeat(np.arange(nodes), np.diff(graph.indptr))
    off = graph.indices != rows
    wanted = pymetis.zero_copy_dtype()
    start = np.zeros(nodes + 1, wanted)
    np.cumsum(np.bincount(rows[off], minlength=nodes), out=start[1:])
    neighbours = graph.indices[off].astype(wanted)
    with _ONE_AT_A_TIME:
        order = np.asarray(pymetis.nested_dissection(pymetis.CSRAdjacency(start, neighbours))[0])
    return (order[:, None] * components + np.arange(components)).ravel()


def arranged(structure: Structure, order: npt.NDArray[np.integer] | None) -> Arrangement:
    """Entries of the whole matrix with its equations in this order."""
    full, slots = structure.whole if structure.upper else (structure, np.arange(len(structure.indices)))
    whole = sp.csr_array((slots, full.indices, full.indptr), shape=(structure.n, structure.n))
    if order is not None:
        whole = whole[order][:, order]
        whole.sort_indices()
    return Arrangement(order, whole.indptr.astype(np.int32), whole.indices.astype(np.int32), whole.data)
