"""The mathematics of one cell or facet, for integrals given by pointwise coefficients.

A field ``u`` with ``nc`` components enters an integrand through its generalised gradient

    u^[i, s] = u_i (s = 0),  du_i/dx_s (s = 1 .. dim),

of which the slots ``lo <= s < hi`` are used: values only (0, 1), gradients only (1, dim + 1), or both. A bilinear form
is ``int v^ : C : u^ dx`` with a coefficient ``C[i, s, k, t]``, a linear form ``int v^ : (F + p n) + c dx`` with
coefficients ``F[i, s]``, ``p`` (times the outward normal, on facets) and a constant ``c``; ``dx`` is ``ds`` on facets.
With the velocity field ``V = sum_a V_a N_a`` of the mesh, nodal values held fixed,

    d(du_i/dx_j) = -(du_i/dx_k)(dV_k/dx_j),   d(dx) = (div V) dx,   d(x) = V,
    d(n ds) = (div V I - (grad V)^T) n ds,    d(ds) = (div V - n . (grad V) n) ds,

so that every derivative by the mesh nodes is one more pass over the same tables (docs/theory.md). These rules stand in
``measure_rule``, ``normal_rule`` and ``carried`` and nowhere else in the kernels.

Everything here is a plain function on small arrays that the caller owns: no loop over entities, no allocation, real or
complex numbers. Compilers of kernels bind them (``femadj.kernels.compile.bind``); functions named ``element_`` are what
kernels call for a whole entity.

Names
-----
s : Sizes
    Written out: ``ng``, ``nf`` nodes of geometry and field, ``nc`` components, ``ns = hi - lo`` slots.
t : Tables
    Of shape functions at quadrature points.
w : Work
    Scratch space.
X : (ng, dim)
    Node coordinates of the cell.
la, q : int
    Local facet of the cell (0 for cells), quadrature point.
J, Ji : (dim, dim)
    ``J[j, k] = dx_j/dxi_k`` and its inverse.
n : (dim,)
    Unit outward normal.
d : number
    Measure times weight times ``sign``; ``sign`` makes the measure positive and may contain a factor.
g, gg : (nf, dim), (ng, dim)
    Gradients of the shape functions of field and geometry; one array where these are the same.
h : (nf, ns)
    Generalised gradients of the shape functions of the field.
u, v, V : (nf, nc), (nf, nc), (ng, dim)
    Nodal values of a cell, and velocities of its nodes.
uh, vh : (nc, ns)
    Generalised gradients ``u^``, ``v^``.
C, F, p, c; r
    Coefficients, and the region whose coefficients count; ``cq`` is the point among them, 0 where they do not vary.
P, R : (nc, ns)
    Fluxes ``C : u^`` and ``v^ : C``.
b, det : (dim,), (1,)
    A vector at a point, the determinant of ``J``.
phi : number
    The integrand.
W : (dim, dim)
    Velocity gradient ``dV_j/dx_k``.
y, G, Ke : (nf, nc), (ng, dim), (nf, nf, nc, nc)
    Nodal forces, node gradient and matrix of an entity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = Any

root = np.sqrt
"""Of real and complex numbers; compilers that do not know NumPy's put their own in its place."""


class Geometry(NamedTuple):
    """Where entities lie.

    Attributes
    ----------
    points : (n_nodes, dim)
    nodes, field : (n_cells, ng), (n_cells, nf) int32
        Geometry and field nodes of the cells.
    cell, local : (n_entities,) int32
        Cell of every entity, and which of its facets it is (0 for cells).
    orientation : (n_cells,)
        Sign of the Jacobian determinant.
    """

    points: Array
    nodes: Array
    field: Array
    cell: Array
    local: Array
    orientation: Array


class Tables(NamedTuple):
    """Shape functions at quadrature points; first axis: local facet.

    Attributes
    ----------
    geometry, geometry_slopes : (n, nq, ng), (n, nq, ng, dim)
        Shape functions of the geometry and their reference gradients.
    field, field_slopes : (n, nq, nf), (n, nq, nf, dim)
        Those of the field.
    weights : (n, nq)
    normals : (n, dim)
        Of the reference cell.
    """

    geometry: Array
    geometry_slopes: Array
    field: Array
    field_slopes: Array
    weights: Array
    normals: Array


class Tensor(NamedTuple):
    """Coefficients ``C`` ``(n_regions, 1 or nq, nc, ns, nc, ns)`` and the region of every entity."""

    C: Array
    region: Array


class Force(NamedTuple):
    """Coefficients of a linear form.

    Attributes
    ----------
    F, p, c : (n_regions, 1 or nq, nc, ns), (n_regions, 1 or nq), (n_regions,)
    F_x, p_x : (n_regions, nq, nc, ns, dim), (n_regions, nq, dim)
        Derivatives by position; empty where the coefficients do not vary.
    region : (n_entities,) int32
    """

    F: Array
    p: Array
    c: Array
    F_x: Array
    p_x: Array
    region: Array


class MatrixEntries(NamedTuple):
    """Where the entries of cells lie among the values of a CSR matrix.

    Attributes
    ----------
    position : (n_cells, nf, nf) uint16
        Where node b lies in the row of node a.
    indptr : (n_rows + 1,)
    upper : bool
        Only the upper triangle is stored.
    """

    position: Array
    indptr: Array
    upper: bool


class Around(NamedTuple):
    """Entities around every node, ascending: ``item[start[n] : start[n + 1]]``."""

    start: Array
    item: Array


class NodeRows(NamedTuple):
    """Structure of a matrix by nodes: those that share a cell with each, in the order of the matrix.

    Attributes
    ----------
    start : (n_nodes + 1,) int64
    column : (start[-1],) int32
        Ascending for each node; where only the upper triangle is stored, the node itself and those behind it.
    upper : int
        1 where only the upper triangle is stored, else 0.
    """

    start: Array
    column: Array
    upper: int


class Share(NamedTuple):
    """What one thread does: the entities ``items``, the rows of nodes whose ``owner`` is ``part``."""

    items: Array
    owner: Array
    part: int


class Work(NamedTuple):
    """Scratch space of an entity, and what it is given and gives; see the names above."""

    X: Array
    V: Array
    G: Array
    u: Array
    v: Array
    y: Array
    g: Array
    gg: Array
    h: Array
    uh: Array
    vh: Array
    P: Array
    R: Array
    J: Array
    Ji: Array
    W: Array
    n: Array
    b: Array
    det: Array


# ------------------------------------------------------------------ nodal values
def gather(values, nodes, e, into):  # type: ignore[no-untyped-def]
    """Fetch nodal values of a cell."""
    for a in range(into.shape[0]):
        for i in range(into.shape[1]):
            into[a, i] = values[nodes[e, a], i]


def clear(values):  # type: ignore[no-untyped-def]
    """Fill a table with zeros."""
    for a in range(values.shape[0]):
        for i in range(values.shape[1]):
            values[a, i] = 0.0


# ------------------------------------------------------------------ geometry
def jacobian(ng, dim, X, dN, la, q, J):  # type: ignore[no-untyped-def]
    """Fill the Jacobian at a point."""
    if dim == 2:
        a = b = c = d = 0.0
        for n in range(ng):
            x, y = X[n, 0], X[n, 1]
            r, s = dN[la, q, n, 0], dN[la, q, n, 1]
            a += x * r
            b += x * s
            c += y * r
            d += y * s
        J[0, 0], J[0, 1], J[1, 0], J[1, 1] = a, b, c, d
        return
    j00 = j01 = j02 = j10 = j11 = j12 = j20 = j21 = j22 = 0.0
    for n in range(ng):
        x, y, z = X[n, 0], X[n, 1], X[n, 2]
        r, s, t = dN[la, q, n, 0], dN[la, q, n, 1], dN[la, q, n, 2]
        j00 += x * r
        j01 += x * s
        j02 += x * t
        j10 += y * r
        j11 += y * s
        j12 += y * t
        j20 += z * r
        j21 += z * s
        j22 += z * t
    J[0, 0], J[0, 1], J[0, 2] = j00, j01, j02
    J[1, 0], J[1, 1], J[1, 2] = j10, j11, j12
    J[2, 0], J[2, 1], J[2, 2] = j20, j21, j22


def determinant(dim, J):  # type: ignore[no-untyped-def]
    """Of the Jacobian."""
    if dim == 2:
        return J[0, 0] * J[1, 1] - J[0, 1] * J[1, 0]
    return (
        J[0, 0] * (J[1, 1] * J[2, 2] - J[1, 2] * J[2, 1])
        + J[0, 1] * (J[1, 2] * J[2, 0] - J[1, 0] * J[2, 2])
        + J[0, 2] * (J[1, 0] * J[2, 1] - J[1, 1] * J[2, 0])
    )


def invert(dim, J, Ji):  # type: ignore[no-untyped-def]
    """Fill the inverse Jacobian and return the determinant."""
    if dim == 2:
        a, b, c, d = J[0, 0], J[0, 1], J[1, 0], J[1, 1]
        det = a * d - b * c
        w = 1.0 / det
        Ji[0, 0], Ji[0, 1], Ji[1, 0], Ji[1, 1] = d * w, -b * w, -c * w, a * w
        return det
    a, b, c = J[0, 0], J[0, 1], J[0, 2]
    d, e, f = J[1, 0], J[1, 1], J[1, 2]
    g, h, i = J[2, 0], J[2, 1], J[2, 2]
    c0, c1, c2 = e * i - f * h, f * g - d * i, d * h - e * g
    det = a * c0 + b * c1 + c * c2
    w = 1.0 / det
    Ji[0, 0], Ji[1, 0], Ji[2, 0] = c0 * w, c1 * w, c2 * w
    Ji[0, 1], Ji[1, 1], Ji[2, 1] = (c * h - b * i) * w, (a * i - c * g) * w, (b * g - a * h) * w
    Ji[0, 2], Ji[1, 2], Ji[2, 2] = (b * f - c * e) * w, (c * d - a * f) * w, (a * e - b * d) * w
    return det


def scaled_determinant(dim, J):  # type: ignore[no-untyped-def]
    """Determinant divided by the lengths of the columns, within [-1, 1]; zero where a column is zero."""
    scale = 1.0
    for k in range(dim):
        square = 0.0
        for j in range(dim):
            square += J[j, k] * J[j, k]
        scale *= root(square)
    return determinant(dim, J) / scale if scale > 0.0 else 0.0


def push(nf, dim, dN, la, q, Ji, g):  # type: ignore[no-untyped-def]
    """Fill the gradients of shape functions from their reference gradients."""
    a, b, c, d = Ji[0, 0], Ji[0, 1], Ji[1, 0], Ji[1, 1]
    if dim == 2:
        for m in range(nf):
            x, y = dN[la, q, m, 0], dN[la, q, m, 1]
            g[m, 0], g[m, 1] = x * a + y * c, x * b + y * d
        return
    e, f, h, i, j = Ji[0, 2], Ji[1, 2], Ji[2, 0], Ji[2, 1], Ji[2, 2]
    for m in range(nf):
        x, y, z = dN[la, q, m, 0], dN[la, q, m, 1], dN[la, q, m, 2]
        g[m, 0], g[m, 1], g[m, 2] = x * a + y * c + z * h, x * b + y * d + z * i, x * e + y * f + z * j


def measure(s, normals, la, det, Ji, n):  # type: ignore[no-untyped-def]
    """Volume or area element at a point, with the sign of the Jacobian; on a facet fill the unit normal."""
    if not s.facet:
        return det
    square = 0.0
    for j in range(s.dim):
        x = 0.0
        for k in range(s.dim):
            x += Ji[k, j] * normals[la, k]
        n[j] = x
        square += x * x
    length = root(square)
    for j in range(s.dim):
        n[j] /= length
    return length * det


def bends(s, q):  # type: ignore[no-untyped-def]
    """Whether the Jacobian may differ from that at the point before: never on a straight simplex."""
    return q == 0 or s.geometry_nodes > s.dim + 1


def place(s, t, la, q, sign, w):  # type: ignore[no-untyped-def]
    """Fill Jacobian, inverse and determinant, the normal of a facet; return the measure times ``sign``."""
    if bends(s, q):
        jacobian(s.geometry_nodes, s.dim, w.X, t.geometry_slopes, la, q, w.J)
        w.det[0] = invert(s.dim, w.J, w.Ji)
    return measure(s, t.normals, la, w.det[0], w.Ji, w.n) * sign


def shape_field(s, values, slopes, la, q, Ji, g, h):  # type: ignore[no-untyped-def]
    """Fill gradients and generalised gradients of the shape functions of the field."""
    if s.hi > 1 and (bends(s, q) or s.field_nodes > s.dim + 1):
        push(s.field_nodes, s.dim, slopes, la, q, Ji, g)
    for a in range(s.field_nodes):
        for m in range(s.lo, s.hi):
            h[a, m - s.lo] = values[la, q, a] if m == 0 else g[a, m - 1]


def shape_geometry(s, slopes, la, q, Ji, gg):  # type: ignore[no-untyped-def]
    """Fill gradients of the shape functions of the geometry, where those of the field are not the same."""
    if bends(s, q) and not (s.isoparametric and s.hi > 1):
        push(s.geometry_nodes, s.dim, slopes, la, q, Ji, gg)


def evaluate(s, u, h, uh):  # type: ignore[no-untyped-def]
    """Fill the generalised gradient of a field from its nodal values."""
    for i in range(s.components):
        for m in range(s.hi - s.lo):
            x = 0.0
            for a in range(s.field_nodes):
                x += u[a, i] * h[a, m]
            uh[i, m] = x


def size(s, d):  # type: ignore[no-untyped-def]
    """Length of a cell or facet from its measure without weight."""
    order = s.dim - 1 if s.facet else s.dim
    if order == 1:
        return d
    return root(d) if order == 2 else np.cbrt(d)


# ------------------------------------------------------------------ shape rules
def measure_rule(s, n, j, k):  # type: ignore[no-untyped-def]
    """Derivative of the measure by ``dV_j/dx_k``, as a part of the measure."""
    x = 1.0 if j == k else 0.0
    return x - n[j] * n[k] if s.facet else x


def normal_rule(b, along, n, j, k):  # type: ignore[no-untyped-def]
    """Derivative of ``b . n`` by ``dV_j/dx_k`` at a fixed vector ``b``; ``along`` is ``b . n``."""
    return n[j] * (along * n[k] - b[k])


def carried(s, uh, P, j, k):  # type: ignore[no-untyped-def]
    """Derivative of ``grad u : P`` by ``dV_j/dx_k`` at a fixed flux ``P``."""
    x = 0.0
    if s.hi > 1:
        for i in range(s.components):
            x -= uh[i, j + 1 - s.lo] * P[i, k + 1 - s.lo]
    return x


def velocity_gradient(s, V, gg, W):  # type: ignore[no-untyped-def]
    """Fill the velocity gradient from node velocities ``V`` ``(ng, dim)``."""
    for j in range(s.dim):
        for k in range(s.dim):
            x = 0.0
            for a in range(s.geometry_nodes):
                x += V[a, j] * gg[a, k]
            W[j, k] = x


def measure_rate(s, n, W):  # type: ignore[no-untyped-def]
    """Rate of the measure under a velocity gradient, as a part of the measure."""
    x = 0.0
    for j in range(s.dim):
        for k in range(s.dim):
            x += measure_rule(s, n, j, k) * W[j, k]
    return x


def normal_rate(s, n, W, i):  # type: ignore[no-untyped-def]
    """Rate of one component of the normal under a velocity gradient."""
    x = 0.0
    for j in range(s.dim):
        for k in range(s.dim):
            x += n[j] * (n[i] * n[k] - (1.0 if i == k else 0.0)) * W[j, k]
    return x


def carry(s, uh, W, du):  # type: ignore[no-untyped-def]
    """Fill the rate ``-(grad u) W`` of a generalised gradient; values stay."""
    for i in range(s.components):
        for m in range(s.lo, s.hi):
            x = 0.0
            if m > 0:
                for j in range(s.dim):
                    x -= uh[i, j + 1 - s.lo] * W[j, m - 1]
            du[i, m - s.lo] = x


def carry_flux(s, P, W, i, m):  # type: ignore[no-untyped-def]
    """Rate of a nodal force's flux: ``-P W^T``, slot ``m`` counted from ``lo``."""
    x = 0.0
    if m + s.lo > 0:
        for k in range(s.dim):
            x -= W[m + s.lo - 1, k] * P[i, k + 1 - s.lo]
    return x


def spread(s, h, d, i, m, flux, y):  # type: ignore[no-untyped-def]
    """Add ``d`` times one entry of a flux to the nodal forces."""
    x = flux * d
    for a in range(s.field_nodes):
        y[a, i] += h[a, m] * x


# ------------------------------------------------------------------ bilinear forms
def element_matrix(s, t, C, r, sign, la, symmetric, w, T, Ke):  # type: ignore[no-untyped-def]
    """Fill the matrix of an entity; returns the smallest ``det * sign``. ``T`` ``(nc, ns, nc)`` is scratch space."""
    nf, nc = s.field_nodes, s.components
    for a in range(nf):
        for b in range(nf):
            for i in range(nc):
                for k in range(nc):
                    Ke[a, b, i, k] = 0.0
    worst = np.inf
    varies = C.shape[1] > 1
    for q in range(s.points):
        d = place(s, t, la, q, sign, w) * t.weights[la, q]
        worst = min(worst, (w.det[0] * sign).real)
        shape_field(s, t.field, t.field_slopes, la, q, w.Ji, w.g, w.h)
        add_matrix(s, C, r, q if varies else 0, d, symmetric, w.h, T, Ke)
    if symmetric:
        for a in range(nf):
            for b in range(a):
                for i in range(nc):
                    for k in range(nc):
                        Ke[a, b, i, k] = Ke[b, a, k, i]
    return worst


def add_matrix(s, C, r, cq, d, symmetric, h, T, Ke):  # type: ignore[no-untyped-def]
    """Add ``d h : C : h`` at one point to the matrix; blocks ``a <= b`` alone where it is symmetric."""
    nf, nc, ns = s.field_nodes, s.components, s.hi - s.lo
    for b in range(nf):
        for i in range(nc):
            for m in range(ns):
                for k in range(nc):
                    T[i, m, k] = row_times(s, C, r, cq, i, m, k, h, b) * d
        for a in range(b + 1 if symmetric else nf):
            for i in range(nc):
                for k in range(nc):
                    x = 0.0
                    for m in range(ns):
                        x += h[a, m] * T[i, m, k]
                    Ke[a, b, i, k] += x


def row_times(s, C, r, cq, i, m, k, h, b):  # type: ignore[no-untyped-def]
    """``sum_o C[i, m, k, o] h[b, o]``: what node b does to one slot by one of its components."""
    x = 0.0
    for o in range(s.hi - s.lo):
        x += C[r, cq, i, m, k, o] * h[b, o]
    return x


def element_block(s, one, t, C, r, sign, la, a, b, w, K):  # type: ignore[no-untyped-def]
    """Add the block ``(nc, nc)`` of the nodes a and b of the matrix of an entity; ``one`` is ``s.of_one_node``."""
    varies = C.shape[1] > 1
    for q in range(s.points):
        d = place(s, t, la, q, sign, w) * t.weights[la, q]
        shape_field(one, t.field[:, :, a : a + 1], t.field_slopes[:, :, a : a + 1], la, q, w.Ji, w.g[:1], w.h[:1])
        shape_field(one, t.field[:, :, b : b + 1], t.field_slopes[:, :, b : b + 1], la, q, w.Ji, w.g[1:], w.h[1:])
        cq = q if varies else 0
        for i in range(s.components):
            for k in range(s.components):
                x = 0.0
                for m in range(s.hi - s.lo):
                    x += w.h[0, m] * row_times(s, C, r, cq, i, m, k, w.h, 1)
                K[i, k] += x * d


def element_low(s, t, sign, la, w):  # type: ignore[no-untyped-def]
    """Smallest ``det * sign`` of an entity."""
    worst = np.inf
    for q in range(s.points):
        place(s, t, la, q, 1.0, w)
        worst = min(worst, (w.det[0] * sign).real)
    return worst


def element_force(s, t, C, r, sign, la, w):  # type: ignore[no-untyped-def]
    """Add the nodal forces ``int v^ : C : u^``."""
    nc, ns = s.components, s.hi - s.lo
    varies = C.shape[1] > 1
    for q in range(s.points):
        d = place(s, t, la, q, sign, w) * t.weights[la, q]
        shape_field(s, t.field, t.field_slopes, la, q, w.Ji, w.g, w.h)
        evaluate(s, w.u, w.h, w.uh)
        flux(s, C, r, q if varies else 0, w.uh, w.P)
        for i in range(nc):
            for m in range(ns):
                spread(s, w.h, d, i, m, w.P[i, m], w.y)


def flux(s, C, r, cq, uh, P):  # type: ignore[no-untyped-def]
    """Fill ``P = C : u^``."""
    nc, ns = s.components, s.hi - s.lo
    for i in range(nc):
        for m in range(ns):
            x = 0.0
            for k in range(nc):
                for o in range(ns):
                    x += C[r, cq, i, m, k, o] * uh[k, o]
            P[i, m] = x


def fluxes(s, C, r, cq, uh, vh, P, R):  # type: ignore[no-untyped-def]
    """Fill ``P = C : u^`` and ``R = v^ : C``; return ``v^ : C : u^``."""
    nc, ns = s.components, s.hi - s.lo
    for i in range(nc):
        for m in range(ns):
            R[i, m] = 0.0
    phi = 0.0
    for i in range(nc):
        for m in range(ns):
            x = 0.0
            y = vh[i, m]
            for k in range(nc):
                for o in range(ns):
                    c = C[r, cq, i, m, k, o]
                    x += c * uh[k, o]
                    R[k, o] += c * y
            P[i, m] = x
            phi += x * y
    return phi


def element_shape_force(s, t, C, r, sign, la, w):  # type: ignore[no-untyped-def]
    """Add ``d/dX int v^ : C : u^``.

    ``G_a = int S grad N_a dx`` with ``S[j, k] = phi m[j, k] - v_i,j P[i, k] - u_i,j R[i, k]`` and ``m`` the rule of the
    measure.
    """
    dim = s.dim
    varies = C.shape[1] > 1
    for q in range(s.points):
        d = place(s, t, la, q, sign, w) * t.weights[la, q]
        shape_field(s, t.field, t.field_slopes, la, q, w.Ji, w.g, w.h)
        shape_geometry(s, t.geometry_slopes, la, q, w.Ji, w.gg)
        evaluate(s, w.u, w.h, w.uh)
        evaluate(s, w.v, w.h, w.vh)
        phi = fluxes(s, C, r, q if varies else 0, w.uh, w.vh, w.P, w.R)
        for j in range(dim):
            for k in range(dim):
                if s.hi <= 1 and not s.facet and j != k:
                    continue  # values alone see the volume change only
                S = phi * measure_rule(s, w.n, j, k) + carried(s, w.vh, w.P, j, k) + carried(s, w.uh, w.R, j, k)
                S *= d
                for a in range(s.geometry_nodes):
                    w.G[a, j] += S * w.gg[a, k]


def element_force_rate(s, t, C, r, sign, la, w):  # type: ignore[no-untyped-def]
    """Add the rate of the nodal forces ``int v^ : C : u^`` under node velocities."""
    nc, ns = s.components, s.hi - s.lo
    varies = C.shape[1] > 1
    for q in range(s.points):
        d = place(s, t, la, q, sign, w) * t.weights[la, q]
        shape_field(s, t.field, t.field_slopes, la, q, w.Ji, w.g, w.h)
        shape_geometry(s, t.geometry_slopes, la, q, w.Ji, w.gg)
        evaluate(s, w.u, w.h, w.uh)
        velocity_gradient(s, w.V, w.gg, w.W)
        rate = measure_rate(s, w.n, w.W)
        carry(s, w.uh, w.W, w.vh)
        cq = q if varies else 0
        for i in range(nc):
            for m in range(ns):
                x = 0.0
                dx = 0.0
                for k in range(nc):
                    for o in range(ns):
                        c = C[r, cq, i, m, k, o]
                        x += c * w.uh[k, o]
                        dx += c * w.vh[k, o]
                w.P[i, m] = x
                w.R[i, m] = dx + x * rate
        for i in range(nc):
            for m in range(ns):
                spread(s, w.h, d, i, m, w.R[i, m] + carry_flux(s, w.P, w.W, i, m), w.y)


def element_moment(s, t, sign, la, w, M):  # type: ignore[no-untyped-def]
    """Add ``int v^ (x) u^``, the derivative by ``C``, to ``M`` ``(nc, ns, nc, ns)``."""
    nc, ns = s.components, s.hi - s.lo
    for q in range(s.points):
        d = place(s, t, la, q, sign, w) * t.weights[la, q]
        shape_field(s, t.field, t.field_slopes, la, q, w.Ji, w.g, w.h)
        evaluate(s, w.u, w.h, w.uh)
        evaluate(s, w.v, w.h, w.vh)
        for i in range(nc):
            for m in range(ns):
                x = w.vh[i, m] * d
                for k in range(nc):
                    for o in range(ns):
                        M[i, m, k, o] += x * w.uh[k, o]


# ------------------------------------------------------------------ linear forms
def presses(s):  # type: ignore[no-untyped-def]
    """Whether a pressure counts: on facets of a field with as many components as dimensions, and its value."""
    return s.facet and s.lo == 0 and s.hi > 0 and s.components == s.dim


def element_load(s, t, force, r, sign, la, w):  # type: ignore[no-untyped-def]
    """Add the nodal forces ``int v^ : (F + p n)``; returns the smallest ``det * sign``."""
    worst = np.inf
    varies = force.F.shape[1] > 1
    for q in range(s.points):
        d = place(s, t, la, q, sign, w) * t.weights[la, q]
        worst = min(worst, (w.det[0] * sign).real)
        shape_field(s, t.field, t.field_slopes, la, q, w.Ji, w.g, w.h)
        cq = q if varies else 0
        for i in range(s.components):
            for m in range(s.hi - s.lo):
                x = force.F[r, cq, i, m]
                if m == 0 and presses(s):
                    x += force.p[r, cq] * w.n[i]
                spread(s, w.h, d, i, m, x, w.y)
    return worst


def element_load_shape_force(s, t, force, r, sign, la, of_x, w):  # type: ignore[no-untyped-def]
    """Add ``d/dX int v^ : (F + p n) + c`` and return the integral.

    With ``phi`` the integrand and ``b_i = p v_i`` its derivative by the normal, ``S[j, k] = phi m[j, k] + (rule of the
    normal) - v_i,j F[i, k]``, and ``G_a += int phi,x N_a`` where the coefficients vary with x.
    """
    dim, nc = s.dim, s.components
    varies = force.F.shape[1] > 1
    total = 0.0
    for q in range(s.points):
        d = place(s, t, la, q, sign, w) * t.weights[la, q]
        shape_field(s, t.field, t.field_slopes, la, q, w.Ji, w.g, w.h)
        shape_geometry(s, t.geometry_slopes, la, q, w.Ji, w.gg)
        evaluate(s, w.v, w.h, w.vh)
        cq = q if varies else 0
        phi = force.c[r]
        for i in range(nc):
            for m in range(s.hi - s.lo):
                w.P[i, m] = force.F[r, cq, i, m]
                phi += w.P[i, m] * w.vh[i, m]
        along = 0.0
        if presses(s):
            for i in range(nc):
                w.b[i] = force.p[r, cq] * w.vh[i, 0]
                along += w.b[i] * w.n[i]
            phi += along
        total += phi * d
        for j in range(dim):
            for k in range(dim):
                if s.hi <= 1 and not s.facet and j != k:
                    continue  # values alone see the volume change only
                S = phi * measure_rule(s, w.n, j, k) + carried(s, w.vh, w.P, j, k)
                if presses(s):
                    S += normal_rule(w.b, along, w.n, j, k)
                S *= d
                for a in range(s.geometry_nodes):
                    w.G[a, j] += S * w.gg[a, k]
        if of_x:
            element_position_force(s, t, force, r, cq, la, q, d, w)
    return total


def element_position_force(s, t, force, r, cq, la, q, d, w):  # type: ignore[no-untyped-def]
    """Add what a linear form contributes to the node gradient through coefficients that vary with position."""
    for j in range(s.dim):
        x = 0.0
        for i in range(s.components):
            for m in range(s.hi - s.lo):
                x += force.F_x[r, cq, i, m, j] * w.vh[i, m]
        if presses(s):
            for i in range(s.components):
                x += force.p_x[r, cq, j] * w.n[i] * w.vh[i, 0]
        x *= d
        for a in range(s.geometry_nodes):
            w.G[a, j] += x * t.geometry[la, q, a]


def element_load_rate(s, t, force, r, sign, la, of_x, w):  # type: ignore[no-untyped-def]
    """Add the rate of the nodal forces ``int v^ : (F + p n)`` under node velocities."""
    dim, nc = s.dim, s.components
    varies = force.F.shape[1] > 1
    for q in range(s.points):
        d = place(s, t, la, q, sign, w) * t.weights[la, q]
        shape_field(s, t.field, t.field_slopes, la, q, w.Ji, w.g, w.h)
        shape_geometry(s, t.geometry_slopes, la, q, w.Ji, w.gg)
        velocity_gradient(s, w.V, w.gg, w.W)
        for j in range(dim):
            x = 0.0
            for a in range(s.geometry_nodes):
                x += w.V[a, j] * t.geometry[la, q, a]
            w.b[j] = x
        rate = measure_rate(s, w.n, w.W)
        cq = q if varies else 0
        for i in range(nc):
            for m in range(s.hi - s.lo):
                w.P[i, m] = force.F[r, cq, i, m]
        for i in range(nc):
            for m in range(s.hi - s.lo):
                x = w.P[i, m] * rate + carry_flux(s, w.P, w.W, i, m)
                if of_x:
                    for j in range(dim):
                        x += force.F_x[r, cq, i, m, j] * w.b[j]
                if m == 0 and presses(s):
                    p = force.p[r, cq]
                    change = p * rate
                    if of_x:
                        for j in range(dim):
                            change += force.p_x[r, cq, j] * w.b[j]
                    x += change * w.n[i] + p * normal_rate(s, w.n, w.W, i)
                spread(s, w.h, d, i, m, x, w.y)


def element_load_moment(s, t, sign, la, w, M):  # type: ignore[no-untyped-def]
    """Add ``int v^``, the derivative by ``F``, to ``M`` ``(nc, ns)``; returns ``int v . n`` and ``int 1``."""
    press = 0.0
    total = 0.0
    for q in range(s.points):
        d = place(s, t, la, q, sign, w) * t.weights[la, q]
        shape_field(s, t.field, t.field_slopes, la, q, w.Ji, w.g, w.h)
        evaluate(s, w.v, w.h, w.vh)
        for i in range(s.components):
            for m in range(s.hi - s.lo):
                M[i, m] += w.vh[i, m] * d
            if presses(s):
                press += w.vh[i, 0] * w.n[i] * d
        total += d
    return press, total
