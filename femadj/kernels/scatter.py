"""Compiled kernels that add entity matrices and vectors to a system: any number of unknowns in an entity."""

from __future__ import annotations

import numpy as np
from numba import types

from femadj.kernels.compile import compiled, read, write
from femadj.kernels.graph import SKIPPED


@compiled(
    read("int32", 2),
    types.int64,
    read("float64", 3),
    read("uint16", 3),
    read("int64", 1),
    read("int64", 1),
    types.boolean,
    write("float64", 1),
)
def scatter_matrices(  # type: ignore[no-untyped-def]
    rows, nc, matrices, position, at, indptr, upper, data
):
    """Add ``matrices[e, a * nc + i, b * nc + k]`` at unknowns ``rows[e, a] * nc + i`` and ``rows[e, b] * nc + k``.

    ``position[at[e]]`` says where row b lies in row a.
    """
    for e in range(rows.shape[0]):
        p = at[e]
        for a in range(rows.shape[1]):
            for i in range(nc):
                row = nc * np.int64(rows[e, a]) + i
                start = indptr[row]
                for b in range(rows.shape[1]):
                    place = position[p, a, b]
                    for k in range(nc):
                        if place == SKIPPED or (upper and nc * np.int64(rows[e, b]) + k < row):
                            continue
                        offset = nc * np.int64(place) + k
                        if upper:
                            offset -= i
                        data[start + offset] += matrices[e, a * nc + i, b * nc + k]


@compiled(read("int32", 2), types.int64, read("float64", 2), write("float64", 1))
def scatter_vectors(rows, nc, vectors, y):  # type: ignore[no-untyped-def]
    """Add ``vectors[e, a * nc + i]`` to ``y[rows[e, a] * nc + i]``."""
    for e in range(rows.shape[0]):
        for a in range(rows.shape[1]):
            for i in range(nc):
                y[nc * np.int64(rows[e, a]) + i] += vectors[e, a * nc + i]
