"""Loops over cells or facets: gather, call the mathematics of one entity, add to owned rows.

Every kernel takes its sizes last and is compiled in two ways (``femadj.kernels.compile``): large domains have kernels
of their very sizes, two to six times as fast; small ones share a kernel that takes its sizes at run time, so that
small problems do not wait for a compiler. Kernels are serial, release the interpreter lock, and write only to rows of
nodes that belong to ``share.part``: callers run one call for each part in as many threads. Every row sums its cells in
ascending order, so results do not depend on the number of parts, bit by bit. Names are those of
``femadj.kernels.entity``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from femadj.kernels import entity
from femadj.kernels.compile import carve, fixed, option, read, record, specialise, write
from femadj.kernels.entity import (
    Work,
    clear,
    element_force,
    element_force_rate,
    element_load,
    element_load_moment,
    element_load_rate,
    element_load_shape_force,
    element_matrix,
    element_moment,
    element_shape_force,
    evaluate,
    gather,
    place,
    shape_field,
    size,
)
from femadj.kernels.graph import SKIPPED


# ------------------------------------------------------------------ types of arguments
def geometry_type(x: str) -> Any:
    """Of ``entity.Geometry``."""
    ints = read("int32", 2), read("int32", 2), read("int32", 1), read("int32", 1)
    return record(entity.Geometry, read(x, 2), *ints, read("float64", 1))


TABLES = record(entity.Tables, *(read("float64", n) for n in (3, 4, 3, 4, 2, 2)))
SHARE = record(entity.Share, read("int32", 1), read("int32", 1), types.int64)
ENTRIES = record(entity.MatrixEntries, read("uint16", 3), read("int64", 1), types.boolean)


def tensor_type(x: str) -> Any:
    """Of ``entity.Tensor``."""
    return record(entity.Tensor, read(x, 6), read("int32", 1))


def force_type(x: str) -> Any:
    """Of ``entity.Force``."""
    return record(entity.Force, *(read(x, n) for n in (4, 2, 1, 5, 3)), read("int32", 1))


# ------------------------------------------------------------------ scratch space and rows
def new_work(s, scratch):  # type: ignore[no-untyped-def]
    """Scratch space for one entity; returns also where the rest of the buffer begins."""
    ng, nf, dim, nc, ns = s.geometry_nodes, s.field_nodes, s.dim, s.components, s.hi - s.lo
    place, field, flux, square = ng * dim, nf * nc, nc * ns, dim * dim
    u = 3 * place
    gg = u + 3 * field
    g = gg if s.isoparametric else gg + place
    h = g + nf * dim
    uh = h + nf * ns
    J = uh + 4 * flux
    n = J + 3 * square
    w = Work(
        X=carve(scratch, 0, (ng, dim)),
        V=carve(scratch, place, (ng, dim)),
        G=carve(scratch, 2 * place, (ng, dim)),
        u=carve(scratch, u, (nf, nc)),
        v=carve(scratch, u + field, (nf, nc)),
        y=carve(scratch, u + 2 * field, (nf, nc)),
        g=carve(scratch, g, (nf, dim)),
        gg=carve(scratch, gg, (ng, dim)),
        h=carve(scratch, h, (nf, ns)),
        uh=carve(scratch, uh, (nc, ns)),
        vh=carve(scratch, uh + flux, (nc, ns)),
        P=carve(scratch, uh + 2 * flux, (nc, ns)),
        R=carve(scratch, uh + 3 * flux, (nc, ns)),
        J=carve(scratch, J, (dim, dim)),
        Ji=carve(scratch, J + square, (dim, dim)),
        W=carve(scratch, J + 2 * square, (dim, dim)),
        n=carve(scratch, n, (dim,)),
        b=carve(scratch, n + dim, (dim,)),
        det=carve(scratch, n + 2 * dim, (1,)),
    )
    return w, n + 2 * dim + 1


def add_nodes(share, nodes, e, values, scale, y):  # type: ignore[no-untyped-def]
    """Add nodal values of a cell to rows of this part."""
    for a in range(values.shape[0]):
        node = nodes[e, a]
        if share.owner[node] == share.part:
            for i in range(values.shape[1]):
                y[node, i] += scale * values[a, i]


def add_entries(s, share, entries, field, e, Ke, data):  # type: ignore[no-untyped-def]
    """Add the matrix of a cell to rows of this part."""
    nf, nc = s.field_nodes, s.components
    for a in range(nf):
        row_node = field[e, a]
        if share.owner[row_node] != share.part:
            continue
        for i in range(nc):
            row = nc * row_node + i
            start = entries.indptr[row]
            for b in range(nf):
                position = entries.position[e, a, b]
                for k in range(nc):
                    if position == SKIPPED or (entries.upper and nc * field[e, b] + k < row):
                        continue
                    offset = nc * np.int64(position) + k
                    if entries.upper:
                        offset -= i
                    data[start + offset] += Ke[a, b, i, k]


# ------------------------------------------------------------------ bilinear forms
@specialise(
    lambda x: types.float64(
        geometry_type(x), TABLES, tensor_type(x), SHARE, ENTRIES, write(x, 1)
    )
)  # fmt: skip
def assemble(geometry, tables, tensor, share, entries, data, scratch, s):  # type: ignore[no-untyped-def]
    """Add the matrix to CSR values; returns the smallest Jacobian determinant, relative to its orientation."""
    symmetric = option(s).symmetric
    s = fixed(s)
    nf, nc, ns = s.field_nodes, s.components, s.hi - s.lo
    w, at = new_work(s, scratch)
    T = carve(scratch, at, (nc, ns, nc))
    Ke = carve(scratch, at + nc * ns * nc, (nf, nf, nc, nc))
    worst = np.inf
    for m in range(share.items.shape[0]):
        item = share.items[m]
        e = geometry.cell[item]
        sign = geometry.orientation[e]
        gather(geometry.points, geometry.nodes, e, w.X)
        det = element_matrix(s, tables, tensor.C, tensor.region[item], sign, geometry.local[item], symmetric, w, T, Ke)
        worst = min(worst, det)
        add_entries(s, share, entries, geometry.field, e, Ke, data)
    return worst


@specialise(lambda x: types.void(geometry_type(x), TABLES, tensor_type(x), SHARE, read(x, 2), write(x, 2)))
def apply(geometry, tables, tensor, share, x, y, scratch, s):  # type: ignore[no-untyped-def]
    """Add ``K x`` to ``y``, over any subset of cells."""
    s = fixed(s)
    w, _ = new_work(s, scratch)
    for m in range(share.items.shape[0]):
        item = share.items[m]
        e = geometry.cell[item]
        gather(geometry.points, geometry.nodes, e, w.X)
        gather(x, geometry.field, e, w.u)
        clear(w.y)
        sign, la = geometry.orientation[e], geometry.local[item]
        element_force(s, tables, tensor.C, tensor.region[item], sign, la, w)
        add_nodes(share, geometry.field, e, w.y, 1.0, y)


@specialise(
    lambda x: types.void(
        geometry_type(x), TABLES, tensor_type(x), SHARE, read(x, 2), read(x, 2), types.float64, write(x, 2)
    )
)
def contract(geometry, tables, tensor, share, u, v, scale, G, scratch, s):  # type: ignore[no-untyped-def]
    """Add ``scale * d/dX (v^T K u)`` with the nodal values of u and v held fixed."""
    s = fixed(s)
    w, _ = new_work(s, scratch)
    for m in range(share.items.shape[0]):
        item = share.items[m]
        e = geometry.cell[item]
        gather(geometry.points, geometry.nodes, e, w.X)
        gather(u, geometry.field, e, w.u)
        gather(v, geometry.field, e, w.v)
        clear(w.G)
        sign, la = geometry.orientation[e] * scale, geometry.local[item]
        element_shape_force(s, tables, tensor.C, tensor.region[item], sign, la, w)
        add_nodes(share, geometry.nodes, e, w.G, 1.0, G)


@specialise(lambda x: types.void(geometry_type(x), TABLES, tensor_type(x), SHARE, read(x, 2), read(x, 2), write(x, 2)))
def tangent(geometry, tables, tensor, share, velocity, u, y, scratch, s):  # type: ignore[no-untyped-def]
    """Add ``(dK/dX V) u`` for a node velocity V with the nodal values of u held fixed."""
    s = fixed(s)
    w, _ = new_work(s, scratch)
    for m in range(share.items.shape[0]):
        item = share.items[m]
        e = geometry.cell[item]
        gather(geometry.points, geometry.nodes, e, w.X)
        gather(velocity, geometry.nodes, e, w.V)
        gather(u, geometry.field, e, w.u)
        clear(w.y)
        sign, la = geometry.orientation[e], geometry.local[item]
        element_force_rate(s, tables, tensor.C, tensor.region[item], sign, la, w)
        add_nodes(share, geometry.field, e, w.y, 1.0, y)


@specialise(
    lambda x: types.void(
        geometry_type(x), TABLES, read("int32", 1), read("int64", 1), read(x, 2), read(x, 2), write(x, 5)
    )
)
def moments(geometry, tables, items, start, u, v, M, scratch, s):  # type: ignore[no-untyped-def]
    """Add ``int v^ (x) u^`` over the entities ``items[start[i] : start[i + 1]]`` to ``M[i]``."""
    s = fixed(s)
    w, _ = new_work(s, scratch)
    for i in range(M.shape[0]):
        for m in range(start[i], start[i + 1]):
            item = items[m]
            e = geometry.cell[item]
            gather(geometry.points, geometry.nodes, e, w.X)
            gather(u, geometry.field, e, w.u)
            gather(v, geometry.field, e, w.v)
            element_moment(s, tables, geometry.orientation[e], geometry.local[item], w, M[i])


# ------------------------------------------------------------------ linear forms
@specialise(lambda x: types.float64(geometry_type(x), TABLES, force_type(x), SHARE, write(x, 2)))
def load(geometry, tables, force, share, f, scratch, s):  # type: ignore[no-untyped-def]
    """Add the nodal forces ``d/dv int v^ : (F + p n)``; returns the smallest Jacobian determinant.

    ``p`` counts on facets of a field with as many components as dimensions and values among its slots.
    """
    s = fixed(s)
    w, _ = new_work(s, scratch)
    worst = np.inf
    for m in range(share.items.shape[0]):
        item = share.items[m]
        e = geometry.cell[item]
        gather(geometry.points, geometry.nodes, e, w.X)
        clear(w.y)
        sign, la = geometry.orientation[e], geometry.local[item]
        worst = min(worst, element_load(s, tables, force, force.region[item], sign, la, w))
        add_nodes(share, geometry.field, e, w.y, 1.0, f)
    return worst


@specialise(
    lambda x: types.void(
        geometry_type(x), TABLES, force_type(x), SHARE, read(x, 2), types.float64, write(x, 1), write(x, 2)
    )
)
def load_contract(geometry, tables, force, share, v, scale, value, G, scratch, s):  # type: ignore[no-untyped-def]
    """Add ``scale * d/dX int v^ : (F + p n) + c`` with the nodal values of v held fixed.

    Fills ``value`` with ``scale`` times the integral over each entity whose first node belongs to this part.
    """
    of_x = option(s).varies
    s = fixed(s)
    w, _ = new_work(s, scratch)
    for m in range(share.items.shape[0]):
        item = share.items[m]
        e = geometry.cell[item]
        gather(geometry.points, geometry.nodes, e, w.X)
        if s.hi > s.lo:
            gather(v, geometry.field, e, w.v)
        clear(w.G)
        sign, la = geometry.orientation[e] * scale, geometry.local[item]
        total = element_load_shape_force(s, tables, force, force.region[item], sign, la, of_x, w)
        if share.owner[geometry.nodes[e, 0]] == share.part:
            value[item] = total
        add_nodes(share, geometry.nodes, e, w.G, 1.0, G)


@specialise(lambda x: types.void(geometry_type(x), TABLES, force_type(x), SHARE, read(x, 2), write(x, 2)))
def load_tangent(geometry, tables, force, share, velocity, y, scratch, s):  # type: ignore[no-untyped-def]
    """Add the rate of the nodal forces ``int v^ : (F + p n)`` under a node velocity."""
    of_x = option(s).varies
    s = fixed(s)
    w, _ = new_work(s, scratch)
    for m in range(share.items.shape[0]):
        item = share.items[m]
        e = geometry.cell[item]
        gather(geometry.points, geometry.nodes, e, w.X)
        gather(velocity, geometry.nodes, e, w.V)
        clear(w.y)
        sign, la = geometry.orientation[e], geometry.local[item]
        element_load_rate(s, tables, force, force.region[item], sign, la, of_x, w)
        add_nodes(share, geometry.field, e, w.y, 1.0, y)


@specialise(
    lambda x: types.void(
        geometry_type(x), TABLES, read("int32", 1), read("int64", 1), read(x, 2), write(x, 3), write(x, 1), write(x, 1)
    )
)
def load_moments(geometry, tables, items, start, v, M, press, total, scratch, s):  # type: ignore[no-untyped-def]
    """Add ``int v^``, ``int v . n`` and ``int 1`` over ``items[start[i] : start[i + 1]]`` to entry ``i``."""
    s = fixed(s)
    w, _ = new_work(s, scratch)
    for i in range(M.shape[0]):
        for m in range(start[i], start[i + 1]):
            item = items[m]
            e = geometry.cell[item]
            gather(geometry.points, geometry.nodes, e, w.X)
            if s.hi > s.lo:
                gather(v, geometry.field, e, w.v)
            sign, la = geometry.orientation[e], geometry.local[item]
            p, one = element_load_moment(s, tables, sign, la, w, M[i])
            press[i] += p
            total[i] += one


# ------------------------------------------------------------------ at quadrature points
@specialise(lambda x: types.void(geometry_type(x), TABLES, write(x, 3), write(x, 2), write(x, 3), write(x, 2)))
def frame(geometry, tables, x, measure, normal, length, scratch, s):  # type: ignore[no-untyped-def]
    """Fill coordinates ``(dim, m, nq)``, measure and size ``(m, nq)`` and normals ``(dim, m, nq)`` of all entities.

    The measure includes the quadrature weight. The size is that of scikit-fem's ``w.h``: the root of the Jacobian
    determinant of the cell, or of the facet, of the order of its dimension.
    """
    s = fixed(s)
    w, _ = new_work(s, scratch)
    for item in range(geometry.cell.shape[0]):
        e, la = geometry.cell[item], geometry.local[item]
        gather(geometry.points, geometry.nodes, e, w.X)
        for q in range(s.points):
            d = place(s, tables, la, q, geometry.orientation[e], w)
            measure[item, q] = d * tables.weights[la, q]
            length[item, q] = size(s, d)
            for j in range(s.dim):
                t = 0.0
                for a in range(s.geometry_nodes):
                    t += w.X[a, j] * tables.geometry[la, q, a]
                x[j, item, q] = t
                if s.facet:
                    normal[j, item, q] = w.n[j]


@specialise(lambda x: types.void(geometry_type(x), TABLES, read(x, 2), write(x, 3), write(x, 4)))
def interpolate(geometry, tables, u, value, gradient, scratch, s):  # type: ignore[no-untyped-def]
    """Fill values ``(nc, m, nq)`` and gradients ``(nc, dim, m, nq)`` of a field at all entities, by its slots."""
    s = fixed(s)
    nc = s.components
    w, _ = new_work(s, scratch)
    for item in range(geometry.cell.shape[0]):
        e, la = geometry.cell[item], geometry.local[item]
        gather(geometry.points, geometry.nodes, e, w.X)
        gather(u, geometry.field, e, w.u)
        for q in range(s.points):
            if s.hi > 1:
                place(s, tables, la, q, 1.0, w)
            shape_field(s, tables.field, tables.field_slopes, la, q, w.Ji, w.g, w.h)
            evaluate(s, w.u, w.h, w.uh)
            for i in range(nc):
                if s.lo == 0:
                    value[i, item, q] = w.uh[i, 0]
                for m in range(max(s.lo, 1), s.hi):
                    gradient[i, m - 1, item, q] = w.uh[i, m - s.lo]
