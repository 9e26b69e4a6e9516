"""Compiled kernels for integrals given by pointwise coefficients, over cells and facets of every type.

A field ``u`` with ``nc`` components enters an integrand through its generalised gradient

    u^[i, s] = u_i (s = 0),  du_i/dx_s (s = 1 .. dim),

of which a kernel uses the slots ``lo <= s < hi``: values only (0, 1), gradients only (1, dim + 1), or both. A bilinear
form is ``int v^ : C : u^ dx`` with a coefficient ``C[i, s, k, t]``, a linear form ``int v^ : (F + p n) + c dx`` with
coefficients ``F[i, s]``, ``p`` (times the outward normal, on facets) and a constant ``c``; ``dx`` is ``ds`` on facets.
Node by node, with the velocity field ``V = sum_a V_a N_a`` of the mesh,

    d(du_i/dx_j) = -(du_i/dx_k)(dV_k/dx_j),   d(dx) = (div V) dx,   d(x) = V,
    d(n ds) = (div V I - (grad V)^T) n ds,    d(ds) = (div V - n . (grad V) n) ds,

so that every derivative with respect to the mesh nodes is one more pass over the same tables (docs/theory.md).

Kernels are written once, for any sizes. For large domains they are compiled for their very sizes (``Sizes``), which the
compiler unrolls, two to four times as fast; small domains share one compiled kernel that takes its sizes at run time,
so that small problems do not wait for a compiler. Kernels are serial, release the interpreter lock, and write only to
rows of nodes that belong to ``part``: callers run one call for each part in as many threads. Every row sums its cells
in ascending order, so results do not depend on the number of parts, bit by bit. All of them stand in this one file
because the cache of compiled kernels on disk watches a kernel's own file only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types

from femadj.kernels.compile import read, write
from femadj.kernels.graph import SKIPPED

Kernel = Callable[..., Any]

# Sums may be re-ordered and contracted at compile time; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_OPTIONS: Any = MappingProxyType({"cache": True, "nogil": True, "fastmath": _FAST, "error_model": "numpy"})


class Sizes(NamedTuple):
    """Compile-time sizes of a kernel."""

    geometry_nodes: int
    field_nodes: int
    dim: int
    components: int
    points: int
    lo: int
    hi: int
    facet: bool
    isoparametric: bool
    symmetric: bool = False
    varies: bool = False


@cache
def _for_any_sizes(function: Any, signature: Any) -> Kernel:
    """Compile a kernel that takes its sizes at run time, in front of its other arguments."""
    sizes = (types.int64,) * 7 + (types.boolean,) * 4
    kernel: Kernel = njit(signature.return_type(*sizes, *signature.args), **_OPTIONS)(function.py_func)
    return kernel


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _jacobian(Xe, dN, la, q, ng, dim, Ji):  # type: ignore[no-untyped-def]
    """Fill the inverse Jacobian at a point and return the determinant."""
    if dim == 2:
        a = b = c = d = 0.0
        for n in range(ng):
            x = Xe[n, 0]
            y = Xe[n, 1]
            r = dN[la, q, n, 0]
            s = dN[la, q, n, 1]
            a += x * r
            b += x * s
            c += y * r
            d += y * s
        det = a * d - b * c
        w = 1.0 / det
        Ji[0, 0] = d * w
        Ji[0, 1] = -b * w
        Ji[1, 0] = -c * w
        Ji[1, 1] = a * w
        return det
    j00 = j01 = j02 = j10 = j11 = j12 = j20 = j21 = j22 = 0.0
    for n in range(ng):
        x = Xe[n, 0]
        y = Xe[n, 1]
        z = Xe[n, 2]
        r = dN[la, q, n, 0]
        s = dN[la, q, n, 1]
        t = dN[la, q, n, 2]
        j00 += x * r
        j01 += x * s
        j02 += x * t
        j10 += y * r
        j11 += y * s
        j12 += y * t
        j20 += z * r
        j21 += z * s
        j22 += z * t
    c00 = j11 * j22 - j12 * j21
    c01 = j12 * j20 - j10 * j22
    c02 = j10 * j21 - j11 * j20
    det = j00 * c00 + j01 * c01 + j02 * c02
    w = 1.0 / det
    Ji[0, 0] = c00 * w
    Ji[1, 0] = c01 * w
    Ji[2, 0] = c02 * w
    Ji[0, 1] = (j02 * j21 - j01 * j22) * w
    Ji[1, 1] = (j00 * j22 - j02 * j20) * w
    Ji[2, 1] = (j01 * j20 - j00 * j21) * w
    Ji[0, 2] = (j01 * j12 - j02 * j11) * w
    Ji[1, 2] = (j02 * j10 - j00 * j12) * w
    Ji[2, 2] = (j00 * j11 - j01 * j10) * w
    return det


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _measure(det, sign, Ji, weight, normals, la, dim, facet, n):  # type: ignore[no-untyped-def]
    """Volume or area element at a point; on a facet also fill the unit outward normal."""
    if not facet:
        return det * sign * weight
    length = 0.0
    for j in range(dim):
        s = 0.0
        for k in range(dim):
            s += Ji[k, j] * normals[la, k]
        n[j] = s
        length += s * s
    length = np.sqrt(length)
    for j in range(dim):
        n[j] /= length
    return length * det * sign * weight


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _push(dN, la, q, nf, dim, Ji, g):  # type: ignore[no-untyped-def]
    """Fill the physical gradients of the shape functions."""
    for a in range(nf):
        for j in range(dim):
            s = 0.0
            for k in range(dim):
                s += dN[la, q, a, k] * Ji[k, j]
            g[a, j] = s


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _generalise(N, la, q, g, nf, lo, hi, h):  # type: ignore[no-untyped-def]
    """Fill the generalised gradients of the shape functions: value in slot 0, derivatives behind it."""
    for a in range(nf):
        for s in range(lo, hi):
            h[a, s - lo] = N[la, q, a] if s == 0 else g[a, s - 1]


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _evaluate(u, h, nf, nc, ns, out):  # type: ignore[no-untyped-def]
    """Fill the generalised gradient of a field from its cell values."""
    for i in range(nc):
        for s in range(ns):
            t = 0.0
            for a in range(nf):
                t += u[a, i] * h[a, s]
            out[i, s] = t


_DOMAIN: tuple[Any, ...] = (
    read("float64", 2),  # points
    read("int32", 2),  # nodes: geometry nodes of the block's cells
    read("int32", 2),  # field: field nodes of the block's cells
    read("int32", 1),  # items: which entries of (cell, local) this call takes
    read("int32", 1),  # cell of every entity
    read("int32", 1),  # local facet of every entity (zero for cells)
    read("float64", 1),  # orientation of the block's cells
    read("float64", 3),  # geometry shape functions
    read("float64", 4),  # and reference gradients
    read("float64", 3),  # field shape functions
    read("float64", 4),  # and reference gradients
    read("float64", 2),  # weights
    read("float64", 2),  # reference normals
)


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _assemble(  # type: ignore[no-untyped-def]
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
    points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, coefficient,
    region, position, indptr, upper, owner, part, data,
):  # fmt: skip
    ns = hi - lo
    Xe = np.empty((ng, dim))
    Ji = np.empty((dim, dim))
    n = np.empty(dim)
    g = np.empty((nf, dim))
    h = np.empty((nf, ns))
    T = np.empty((nc, ns, nc))
    Ke = np.empty((nf, nf, nc, nc))
    worst = np.inf
    varies = coefficient.shape[1] > 1
    det = 0.0
    for m in range(items.shape[0]):
        item = items[m]
        e = cell[item]
        la = local[item]
        sign = orientation[e]
        material = region[item]
        for a in range(ng):
            for j in range(dim):
                Xe[a, j] = points[nodes[e, a], j]
        for a in range(nf):
            for b in range(nf):
                for i in range(nc):
                    for k in range(nc):
                        Ke[a, b, i, k] = 0.0
        for q in range(nq):
            bent = q == 0 or ng > dim + 1  # the geometry of a straight simplex is constant
            if bent:
                det = _jacobian(Xe, gdN, la, q, ng, dim, Ji)
            worst = min(worst, det * sign)
            d = _measure(det, sign, Ji, weights[la, q], normals, la, dim, facet, n)
            if bent or nf > dim + 1:
                _push(fdN, la, q, nf, dim, Ji, g)
            _generalise(fN, la, q, g, nf, lo, hi, h)
            cq = q if varies else 0
            for b in range(nf):
                for i in range(nc):
                    for s in range(ns):
                        for k in range(nc):
                            t = 0.0
                            for r in range(ns):
                                t += coefficient[material, cq, i, s, k, r] * h[b, r]
                            T[i, s, k] = t * d
                for a in range(b + 1 if symmetric else nf):
                    for i in range(nc):
                        for k in range(nc):
                            t = 0.0
                            for s in range(ns):
                                t += h[a, s] * T[i, s, k]
                            Ke[a, b, i, k] += t
        if symmetric:
            for a in range(nf):
                for b in range(a):
                    for i in range(nc):
                        for k in range(nc):
                            Ke[a, b, i, k] = Ke[b, a, k, i]
        for a in range(nf):
            row_node = field[e, a]
            if owner[row_node] != part:
                continue
            for i in range(nc):
                row = nc * row_node + i
                start = indptr[row]
                for b in range(nf):
                    place = position[e, a, b]
                    for k in range(nc):
                        if place == SKIPPED or (upper and nc * field[e, b] + k < row):
                            continue
                        offset = nc * np.int64(place) + k
                        if upper:
                            offset -= i
                        data[start + offset] += Ke[a, b, i, k]
    return worst


_ASSEMBLE = types.float64(
    *_DOMAIN,
    read("float64", 6),  # coefficient
    read("int32", 1),  # region
    read("uint16", 3),  # position
    read("int64", 1),  # indptr
    types.boolean,  # upper
    read("int32", 1),  # owner
    types.int64,  # part
    write("float64", 1),  # data
)


@cache
def assemble(sizes: Sizes, specialise: bool = True) -> Kernel:
    """Kernel ``data += matrix`` straight into the CSR values.

    Returns the smallest Jacobian determinant (relative to its orientation).
    """
    if not specialise:
        return partial(_for_any_sizes(_assemble, _ASSEMBLE), *sizes)
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep = sizes

    @njit(_ASSEMBLE, **_OPTIONS)
    def kernel(  # type: ignore[no-untyped-def]
        points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals,
        coefficient, region, position, indptr, upper, owner, part, data,
    ):  # fmt: skip
        return _assemble(
            ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
            points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals,
            coefficient, region, position, indptr, upper, owner, part, data,
        )  # fmt: skip

    return kernel


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _apply(  # type: ignore[no-untyped-def]
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
    points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, coefficient,
    region, owner, part, x, y,
):  # fmt: skip
    ns = hi - lo
    Xe = np.empty((ng, dim))
    xe = np.empty((nf, nc))
    ye = np.empty((nf, nc))
    Ji = np.empty((dim, dim))
    n = np.empty(dim)
    g = np.empty((nf, dim))
    h = np.empty((nf, ns))
    xh = np.empty((nc, ns))
    varies = coefficient.shape[1] > 1
    det = 0.0
    for m in range(items.shape[0]):
        item = items[m]
        e = cell[item]
        la = local[item]
        material = region[item]
        for a in range(ng):
            for j in range(dim):
                Xe[a, j] = points[nodes[e, a], j]
        for a in range(nf):
            for i in range(nc):
                xe[a, i] = x[field[e, a], i]
                ye[a, i] = 0.0
        for q in range(nq):
            bent = q == 0 or ng > dim + 1  # the geometry of a straight simplex is constant
            if bent:
                det = _jacobian(Xe, gdN, la, q, ng, dim, Ji)
            d = _measure(det, orientation[e], Ji, weights[la, q], normals, la, dim, facet, n)
            if bent or nf > dim + 1:
                _push(fdN, la, q, nf, dim, Ji, g)
            _generalise(fN, la, q, g, nf, lo, hi, h)
            _evaluate(xe, h, nf, nc, ns, xh)
            cq = q if varies else 0
            for i in range(nc):
                for s in range(ns):
                    t = 0.0
                    for k in range(nc):
                        for r in range(ns):
                            t += coefficient[material, cq, i, s, k, r] * xh[k, r]
                    t *= d
                    for a in range(nf):
                        ye[a, i] += h[a, s] * t
        for a in range(nf):
            node = field[e, a]
            if owner[node] == part:
                for i in range(nc):
                    y[node, i] += ye[a, i]


_APPLY = types.void(
    *_DOMAIN,
    read("float64", 6),  # coefficient
    read("int32", 1),  # region
    read("int32", 1),  # owner
    types.int64,  # part
    read("float64", 2),  # x
    write("float64", 2),  # y
)


@cache
def apply(sizes: Sizes, specialise: bool = True) -> Kernel:
    """Kernel ``y += K x`` without a matrix, over any subset of cells."""
    if not specialise:
        return partial(_for_any_sizes(_apply, _APPLY), *sizes)
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep = sizes

    @njit(_APPLY, **_OPTIONS)
    def kernel(  # type: ignore[no-untyped-def]
        points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals,
        coefficient, region, owner, part, x, y,
    ):  # fmt: skip
        return _apply(
            ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
            points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals,
            coefficient, region, owner, part, x, y,
        )  # fmt: skip

    return kernel


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _contract(  # type: ignore[no-untyped-def]
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
    points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, coefficient,
    region, owner, part, u, v, scale, G,
):  # fmt: skip
    ns = hi - lo
    Xe = np.empty((ng, dim))
    ue = np.empty((nf, nc))
    ve = np.empty((nf, nc))
    Ge = np.empty((ng, dim))
    Ji = np.empty((dim, dim))
    n = np.empty(dim)
    g = np.empty((nf, dim))
    gg = np.empty((ng, dim))
    h = np.empty((nf, ns))
    uh = np.empty((nc, ns))
    vh = np.empty((nc, ns))
    P = np.empty((nc, ns))
    R = np.empty((nc, ns))
    varies = coefficient.shape[1] > 1
    det = 0.0
    for m in range(items.shape[0]):
        item = items[m]
        e = cell[item]
        la = local[item]
        material = region[item]
        for a in range(ng):
            for j in range(dim):
                Xe[a, j] = points[nodes[e, a], j]
                Ge[a, j] = 0.0
        for a in range(nf):
            for i in range(nc):
                ue[a, i] = u[field[e, a], i]
                ve[a, i] = v[field[e, a], i]
        for q in range(nq):
            bent = q == 0 or ng > dim + 1  # the geometry of a straight simplex is constant
            if bent:
                det = _jacobian(Xe, gdN, la, q, ng, dim, Ji)
            d = scale * _measure(det, orientation[e], Ji, weights[la, q], normals, la, dim, facet, n)
            if bent or nf > dim + 1:
                _push(fdN, la, q, nf, dim, Ji, g)
            _generalise(fN, la, q, g, nf, lo, hi, h)
            _evaluate(ue, h, nf, nc, ns, uh)
            _evaluate(ve, h, nf, nc, ns, vh)
            cq = q if varies else 0
            for k in range(nc):
                for r in range(ns):
                    P[k, r] = 0.0
                    R[k, r] = 0.0
            for i in range(nc):
                for s in range(ns):
                    for k in range(nc):
                        for r in range(ns):
                            c = coefficient[material, cq, i, s, k, r]
                            P[i, s] += c * uh[k, r]
                            R[k, r] += c * vh[i, s]
            phi = 0.0
            for i in range(nc):
                for s in range(ns):
                    phi += P[i, s] * vh[i, s]
            if bent and not iso:
                _push(gdN, la, q, ng, dim, Ji, gg)
            for j in range(dim):
                for k in range(dim):
                    if hi <= 1 and not facet and j != k:
                        continue  # values alone see the volume change only
                    S = phi if j == k else 0.0
                    if facet:
                        S -= phi * n[j] * n[k]
                    if hi > 1:
                        for i in range(nc):
                            S -= vh[i, j + 1 - lo] * P[i, k + 1 - lo] + uh[i, j + 1 - lo] * R[i, k + 1 - lo]
                    S *= d
                    for a in range(ng):
                        Ge[a, j] += S * (g[a, k] if iso else gg[a, k])
        for a in range(ng):
            node = nodes[e, a]
            if owner[node] == part:
                for j in range(dim):
                    G[node, j] += Ge[a, j]


_CONTRACT = types.void(
    *_DOMAIN,
    read("float64", 6),  # coefficient
    read("int32", 1),  # region
    read("int32", 1),  # owner
    types.int64,  # part
    read("float64", 2),  # u
    read("float64", 2),  # v
    types.float64,  # scale
    write("float64", 2),  # G
)


@cache
def contract(sizes: Sizes, specialise: bool = True) -> Kernel:
    """Kernel ``G += scale * d/dX (v^T K u)`` with the nodal values of u and v held fixed.

    ``G_a = int S grad N_a dx`` with ``S[j, k] = phi m[j, k] - v_i,j P[i, k] - u_i,j R[i, k]``, where
    ``phi = v^ : C : u^``, ``P = C : u^``, ``R = v^ : C`` and ``m`` is the derivative of the measure by ``grad V``: the
    identity for cells, ``I - n n`` for facets.
    """
    if not specialise:
        return partial(_for_any_sizes(_contract, _CONTRACT), *sizes)
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep = sizes

    @njit(_CONTRACT, **_OPTIONS)
    def kernel(  # type: ignore[no-untyped-def]
        points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals,
        coefficient, region, owner, part, u, v, scale, G,
    ):  # fmt: skip
        return _contract(
            ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
            points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals,
            coefficient, region, owner, part, u, v, scale, G,
        )  # fmt: skip

    return kernel


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _tangent(  # type: ignore[no-untyped-def]
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
    points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, coefficient,
    region, owner, part, velocity, u, y,
):  # fmt: skip
    ns = hi - lo
    Xe = np.empty((ng, dim))
    ue = np.empty((nf, nc))
    ye = np.empty((nf, nc))
    Ji = np.empty((dim, dim))
    n = np.empty(dim)
    g = np.empty((nf, dim))
    gg = np.empty((ng, dim))
    h = np.empty((nf, ns))
    uh = np.empty((nc, ns))
    du = np.empty((nc, ns))
    P = np.empty((nc, ns))
    dP = np.empty((nc, ns))
    W = np.empty((dim, dim))
    varies = coefficient.shape[1] > 1
    det = 0.0
    for m in range(items.shape[0]):
        item = items[m]
        e = cell[item]
        la = local[item]
        material = region[item]
        for a in range(ng):
            for j in range(dim):
                Xe[a, j] = points[nodes[e, a], j]
        for a in range(nf):
            for i in range(nc):
                ue[a, i] = u[field[e, a], i]
                ye[a, i] = 0.0
        for q in range(nq):
            bent = q == 0 or ng > dim + 1  # the geometry of a straight simplex is constant
            if bent:
                det = _jacobian(Xe, gdN, la, q, ng, dim, Ji)
            d = _measure(det, orientation[e], Ji, weights[la, q], normals, la, dim, facet, n)
            if bent or nf > dim + 1:
                _push(fdN, la, q, nf, dim, Ji, g)
            if bent:
                _push(gdN, la, q, ng, dim, Ji, gg)
            _generalise(fN, la, q, g, nf, lo, hi, h)
            _evaluate(ue, h, nf, nc, ns, uh)
            rate = 0.0
            for j in range(dim):
                for k in range(dim):
                    t = 0.0
                    for a in range(ng):
                        t += velocity[nodes[e, a], j] * gg[a, k]
                    W[j, k] = t
                    if j == k:
                        rate += t
                    if facet:
                        rate -= n[j] * n[k] * t
            for i in range(nc):
                for s in range(lo, hi):
                    t = 0.0
                    if s > 0:
                        for j in range(dim):
                            t -= uh[i, j + 1 - lo] * W[j, s - 1]
                    du[i, s - lo] = t
            cq = q if varies else 0
            for i in range(nc):
                for s in range(ns):
                    p = 0.0
                    t = 0.0
                    for k in range(nc):
                        for r in range(ns):
                            c = coefficient[material, cq, i, s, k, r]
                            p += c * uh[k, r]
                            t += c * du[k, r]
                    P[i, s] = p
                    dP[i, s] = t + p * rate
            for i in range(nc):
                for s in range(lo, hi):
                    t = dP[i, s - lo]
                    if s > 0:
                        for k in range(dim):
                            t -= W[s - 1, k] * P[i, k + 1 - lo]
                    t *= d
                    for a in range(nf):
                        ye[a, i] += h[a, s - lo] * t
        for a in range(nf):
            node = field[e, a]
            if owner[node] == part:
                for i in range(nc):
                    y[node, i] += ye[a, i]


_TANGENT = types.void(
    *_DOMAIN,
    read("float64", 6),  # coefficient
    read("int32", 1),  # region
    read("int32", 1),  # owner
    types.int64,  # part
    read("float64", 2),  # velocity
    read("float64", 2),  # u
    write("float64", 2),  # y
)


@cache
def tangent(sizes: Sizes, specialise: bool = True) -> Kernel:
    """Kernel ``y += (dK/dX V) u`` for a node velocity V with the nodal values of u held fixed."""
    if not specialise:
        return partial(_for_any_sizes(_tangent, _TANGENT), *sizes)
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep = sizes

    @njit(_TANGENT, **_OPTIONS)
    def kernel(  # type: ignore[no-untyped-def]
        points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals,
        coefficient, region, owner, part, velocity, u, y,
    ):  # fmt: skip
        return _tangent(
            ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
            points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals,
            coefficient, region, owner, part, velocity, u, y,
        )  # fmt: skip

    return kernel


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _load(  # type: ignore[no-untyped-def]
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
    points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, force, pressure,
    region, owner, part, f,
):  # fmt: skip
    ns = hi - lo
    Xe = np.empty((ng, dim))
    fe = np.empty((nf, nc))
    Ji = np.empty((dim, dim))
    n = np.empty(dim)
    g = np.empty((nf, dim))
    h = np.empty((nf, ns))
    worst = np.inf
    varies = force.shape[1] > 1
    det = 0.0
    for m in range(items.shape[0]):
        item = items[m]
        e = cell[item]
        la = local[item]
        material = region[item]
        for a in range(ng):
            for j in range(dim):
                Xe[a, j] = points[nodes[e, a], j]
        for a in range(nf):
            for i in range(nc):
                fe[a, i] = 0.0
        for q in range(nq):
            bent = q == 0 or ng > dim + 1  # the geometry of a straight simplex is constant
            if bent:
                det = _jacobian(Xe, gdN, la, q, ng, dim, Ji)
            worst = min(worst, det * orientation[e])
            d = _measure(det, orientation[e], Ji, weights[la, q], normals, la, dim, facet, n)
            if hi > 1:
                _push(fdN, la, q, nf, dim, Ji, g)
            _generalise(fN, la, q, g, nf, lo, hi, h)
            cq = q if varies else 0
            for i in range(nc):
                for s in range(ns):
                    t = force[material, cq, i, s]
                    if facet and s + lo == 0 and nc == dim:
                        t += pressure[material, cq] * n[i]
                    t *= d
                    for a in range(nf):
                        fe[a, i] += h[a, s] * t
        for a in range(nf):
            node = field[e, a]
            if owner[node] == part:
                for i in range(nc):
                    f[node, i] += fe[a, i]
    return worst


_LOAD = types.float64(
    *_DOMAIN,
    read("float64", 4),  # force F
    read("float64", 2),  # pressure p
    read("int32", 1),  # region
    read("int32", 1),  # owner
    types.int64,  # part
    write("float64", 2),  # f
)


@cache
def load(sizes: Sizes, specialise: bool = True) -> Kernel:
    """Kernel ``f += d/dv int v^ : (F + p n)``, the nodal forces. Returns the smallest Jacobian determinant.

    ``p`` counts on facets of a field with as many components as dimensions and values among its slots.
    """
    if not specialise:
        return partial(_for_any_sizes(_load, _LOAD), *sizes)
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep = sizes

    @njit(_LOAD, **_OPTIONS)
    def kernel(  # type: ignore[no-untyped-def]
        points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, force,
        pressure, region, owner, part, f,
    ):  # fmt: skip
        return _load(
            ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
            points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals,
            force, pressure, region, owner, part, f,
        )  # fmt: skip

    return kernel


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _load_contract(  # type: ignore[no-untyped-def]
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
    points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, force, pressure,
    constant, force_x, pressure_x, region, owner, part, v, scale, value, G,
):  # fmt: skip
    ns = hi - lo
    Xe = np.empty((ng, dim))
    ve = np.empty((nf, nc))
    Ge = np.empty((ng, dim))
    Ji = np.empty((dim, dim))
    n = np.empty(dim)
    b = np.empty(dim)
    g = np.empty((nf, dim))
    gg = np.empty((ng, dim))
    h = np.empty((nf, ns))
    vh = np.empty((nc, ns))
    varies = force.shape[1] > 1
    det = 0.0
    for m in range(items.shape[0]):
        item = items[m]
        e = cell[item]
        la = local[item]
        material = region[item]
        for a in range(ng):
            for j in range(dim):
                Xe[a, j] = points[nodes[e, a], j]
                Ge[a, j] = 0.0
        if ns > 0:
            for a in range(nf):
                for i in range(nc):
                    ve[a, i] = v[field[e, a], i]
        total = 0.0
        for q in range(nq):
            bent = q == 0 or ng > dim + 1  # the geometry of a straight simplex is constant
            if bent:
                det = _jacobian(Xe, gdN, la, q, ng, dim, Ji)
            d = scale * _measure(det, orientation[e], Ji, weights[la, q], normals, la, dim, facet, n)
            if bent:
                _push(gdN, la, q, ng, dim, Ji, gg)
            if hi > 1 and not iso:
                _push(fdN, la, q, nf, dim, Ji, g)
            _generalise(fN, la, q, gg if iso else g, nf, lo, hi, h)
            _evaluate(ve, h, nf, nc, ns, vh)
            cq = q if varies else 0
            phi = constant[material]
            bn = 0.0
            for j in range(dim):
                b[j] = 0.0
            for i in range(nc):
                for s in range(ns):
                    phi += force[material, cq, i, s] * vh[i, s]
            if facet and lo == 0 and hi > 0 and nc == dim:
                for i in range(nc):
                    b[i] = pressure[material, cq] * vh[i, 0]
                    bn += b[i] * n[i]
                phi += bn
            total += phi * d
            for j in range(dim):
                for k in range(dim):
                    if hi <= 1 and not facet and j != k:
                        continue  # values alone see the volume change only
                    S = phi if j == k else 0.0
                    if facet:
                        S += (bn - phi) * n[j] * n[k] - n[j] * b[k]
                    if hi > 1:
                        for i in range(nc):
                            S -= vh[i, j + 1 - lo] * force[material, cq, i, k + 1 - lo]
                    S *= d
                    for a in range(ng):
                        Ge[a, j] += S * gg[a, k]
            if xdep:
                for j in range(dim):
                    t = 0.0
                    for i in range(nc):
                        for s in range(ns):
                            t += force_x[material, cq, i, s, j] * vh[i, s]
                    if facet and lo == 0 and hi > 0 and nc == dim:
                        for i in range(nc):
                            t += pressure_x[material, cq, j] * n[i] * vh[i, 0]
                    t *= d
                    for a in range(ng):
                        Ge[a, j] += t * gN[la, q, a]
        if owner[nodes[e, 0]] == part:
            value[item] = total
        for a in range(ng):
            node = nodes[e, a]
            if owner[node] == part:
                for j in range(dim):
                    G[node, j] += Ge[a, j]


_LOAD_CONTRACT = types.void(
    *_DOMAIN,
    read("float64", 4),  # force F
    read("float64", 2),  # pressure p
    read("float64", 1),  # constant c
    read("float64", 5),  # force_x
    read("float64", 3),  # pressure_x
    read("int32", 1),  # region
    read("int32", 1),  # owner
    types.int64,  # part
    read("float64", 2),  # v
    types.float64,  # scale
    write("float64", 1),  # value
    write("float64", 2),  # G
)


@cache
def load_contract(sizes: Sizes, specialise: bool = True) -> Kernel:
    """Kernel ``G += scale * d/dX int v^ : (F + p n) + c dx`` with the nodal values of v held fixed.

    With ``phi`` the integrand, ``b_i = p v_i`` its derivative by the normal and ``R = F``,
    ``S[j, k] = phi (delta[j, k] - n[j] n[k]) + (b . n) n[j] n[k] - n[j] b[k] - v_i,j R[i, k]`` (the terms in n on
    facets only), and ``G_a += int phi,x N_a`` where the coefficients vary with x (``force_x``, ``pressure_x``).
    Also fills ``value[item]``, the integral over each entity.
    """
    if not specialise:
        return partial(_for_any_sizes(_load_contract, _LOAD_CONTRACT), *sizes)
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep = sizes

    @njit(_LOAD_CONTRACT, **_OPTIONS)
    def kernel(  # type: ignore[no-untyped-def]
        points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, force,
        pressure, constant, force_x, pressure_x, region, owner, part, v, scale, value, G,
    ):  # fmt: skip
        return _load_contract(
            ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
            points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals,
            force, pressure, constant, force_x, pressure_x, region, owner, part, v, scale, value, G,
        )  # fmt: skip

    return kernel


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _load_tangent(  # type: ignore[no-untyped-def]
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
    points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, force, pressure,
    force_x, pressure_x, region, owner, part, velocity, y,
):  # fmt: skip
    ns = hi - lo
    Xe = np.empty((ng, dim))
    ye = np.empty((nf, nc))
    Ji = np.empty((dim, dim))
    n = np.empty(dim)
    g = np.empty((nf, dim))
    gg = np.empty((ng, dim))
    h = np.empty((nf, ns))
    W = np.empty((dim, dim))
    V = np.empty(dim)
    dF = np.empty((nc, ns))
    varies = force.shape[1] > 1
    det = 0.0
    for m in range(items.shape[0]):
        item = items[m]
        e = cell[item]
        la = local[item]
        material = region[item]
        for a in range(ng):
            for j in range(dim):
                Xe[a, j] = points[nodes[e, a], j]
        for a in range(nf):
            for i in range(nc):
                ye[a, i] = 0.0
        for q in range(nq):
            bent = q == 0 or ng > dim + 1  # the geometry of a straight simplex is constant
            if bent:
                det = _jacobian(Xe, gdN, la, q, ng, dim, Ji)
            d = _measure(det, orientation[e], Ji, weights[la, q], normals, la, dim, facet, n)
            if bent or nf > dim + 1:
                _push(fdN, la, q, nf, dim, Ji, g)
            if bent:
                _push(gdN, la, q, ng, dim, Ji, gg)
            _generalise(fN, la, q, g, nf, lo, hi, h)
            divergence = 0.0
            stretch = 0.0
            for j in range(dim):
                t = 0.0
                for a in range(ng):
                    t += velocity[nodes[e, a], j] * gN[la, q, a]
                V[j] = t
                for k in range(dim):
                    t = 0.0
                    for a in range(ng):
                        t += velocity[nodes[e, a], j] * gg[a, k]
                    W[j, k] = t
                    if j == k:
                        divergence += t
                    if facet:
                        stretch += n[j] * n[k] * t
            rate = divergence - stretch
            cq = q if varies else 0
            for i in range(nc):
                for s in range(ns):
                    t = force[material, cq, i, s] * rate
                    if s + lo > 0:
                        for k in range(dim):
                            t -= W[s + lo - 1, k] * force[material, cq, i, k + 1 - lo]
                    if xdep:
                        for j in range(dim):
                            t += force_x[material, cq, i, s, j] * V[j]
                    dF[i, s] = t
            if facet and lo == 0 and hi > 0 and nc == dim:
                p = pressure[material, cq]
                dp = 0.0
                if xdep:
                    for j in range(dim):
                        dp += pressure_x[material, cq, j] * V[j]
                for i in range(nc):
                    t = (p * divergence + dp) * n[i]
                    for j in range(dim):
                        t -= p * W[j, i] * n[j]
                    dF[i, 0] += t
            for i in range(nc):
                for s in range(ns):
                    t = dF[i, s] * d
                    for a in range(nf):
                        ye[a, i] += h[a, s] * t
        for a in range(nf):
            node = field[e, a]
            if owner[node] == part:
                for i in range(nc):
                    y[node, i] += ye[a, i]


_LOAD_TANGENT = types.void(
    *_DOMAIN,
    read("float64", 4),  # force F
    read("float64", 2),  # pressure p
    read("float64", 5),  # force_x
    read("float64", 3),  # pressure_x
    read("int32", 1),  # region
    read("int32", 1),  # owner
    types.int64,  # part
    read("float64", 2),  # velocity
    write("float64", 2),  # y
)


@cache
def load_tangent(sizes: Sizes, specialise: bool = True) -> Kernel:
    """Kernel ``y += d/dX (int v^ : (F + p n) dx) V`` for a node velocity V."""
    if not specialise:
        return partial(_for_any_sizes(_load_tangent, _LOAD_TANGENT), *sizes)
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep = sizes

    @njit(_LOAD_TANGENT, **_OPTIONS)
    def kernel(  # type: ignore[no-untyped-def]
        points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, force,
        pressure, force_x, pressure_x, region, owner, part, velocity, y,
    ):  # fmt: skip
        return _load_tangent(
            ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
            points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, force,
            pressure, force_x, pressure_x, region, owner, part, velocity, y,
        )  # fmt: skip

    return kernel


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _frame(  # type: ignore[no-untyped-def]
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
    points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, x, measure, normal, size,
):  # fmt: skip
    Xe = np.empty((ng, dim))
    Ji = np.empty((dim, dim))
    n = np.empty(dim)
    det = 0.0
    for m in range(items.shape[0]):
        item = items[m]
        e = cell[item]
        la = local[item]
        for a in range(ng):
            for j in range(dim):
                Xe[a, j] = points[nodes[e, a], j]
        for q in range(nq):
            if q == 0 or ng > dim + 1:  # the geometry of a straight simplex is constant
                det = _jacobian(Xe, gdN, la, q, ng, dim, Ji)
            d = _measure(det, orientation[e], Ji, 1.0, normals, la, dim, facet, n)
            measure[item, q] = d * weights[la, q]
            if facet:
                size[item, q] = d if dim == 2 else np.sqrt(d)
            else:
                size[item, q] = np.sqrt(d) if dim == 2 else np.cbrt(d)
            for j in range(dim):
                t = 0.0
                for a in range(ng):
                    t += Xe[a, j] * gN[la, q, a]
                x[j, item, q] = t
                if facet:
                    normal[j, item, q] = n[j]


_FRAME = types.void(
    *_DOMAIN,
    write("float64", 3),  # x
    write("float64", 2),  # measure
    write("float64", 3),  # normal
    write("float64", 2),  # size
)


def frame(sizes: Sizes) -> Kernel:
    """Kernel that fills coordinates ``(dim, m, nq)``, measure and size ``(m, nq)`` and normals ``(dim, m, nq)``.

    The measure includes the quadrature weight. The size is that of scikit-fem's ``w.h``: the root of the Jacobian
    determinant of the cell, or of the facet, of the order of its dimension.
    """
    return partial(_for_any_sizes(_frame, _FRAME), *sizes)


@njit(fastmath=_FAST, error_model="numpy", forceinline=True)
def _interpolate(  # type: ignore[no-untyped-def]
    ng, nf, dim, nc, nq, lo, hi, facet, iso, symmetric, xdep,
    points, nodes, field, items, cell, local, orientation, gN, gdN, fN, fdN, weights, normals, u, value, gradient,
):  # fmt: skip
    Xe = np.empty((ng, dim))
    ue = np.empty((nf, nc))
    Ji = np.empty((dim, dim))
    g = np.empty((nf, dim))
    for m in range(items.shape[0]):
        item = items[m]
        e = cell[item]
        la = local[item]
        for a in range(nf):
            for i in range(nc):
                ue[a, i] = u[field[e, a], i]
        if hi > 1:
            for a in range(ng):
                for j in range(dim):
                    Xe[a, j] = points[nodes[e, a], j]
        for q in range(nq):
            if lo == 0:
                for i in range(nc):
                    t = 0.0
                    for a in range(nf):
                        t += ue[a, i] * fN[la, q, a]
                    value[i, item, q] = t
            if hi > 1:
                if q == 0 or ng > dim + 1:
                    _jacobian(Xe, gdN, la, q, ng, dim, Ji)
                _push(fdN, la, q, nf, dim, Ji, g)
                for i in range(nc):
                    for j in range(dim):
                        t = 0.0
                        for a in range(nf):
                            t += ue[a, i] * g[a, j]
                        gradient[i, j, item, q] = t


_INTERPOLATE = types.void(
    *_DOMAIN,
    read("float64", 2),  # u
    write("float64", 3),  # value
    write("float64", 4),  # gradient
)


def interpolate(sizes: Sizes) -> Kernel:
    """Kernel that fills values ``(nc, m, nq)`` and gradients ``(nc, dim, m, nq)`` of a field, by its slots."""
    return partial(_for_any_sizes(_interpolate, _INTERPOLATE), *sizes)
