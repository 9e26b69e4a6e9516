"""Pointwise coefficients as tensors: contractions, symmetry, and rows that span the others; sizes slot by slot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.linalg

from femadj.base.arrays import FloatArray

_RANK = 1e-11


def spread(weight: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Slots ``(n, m, nq)`` from weights that are the same at all points, or not."""
    return np.broadcast_to(weight if weight.ndim == 3 else weight[:, None, None], (len(weight), *shape))


def contracted(values: FloatArray, basis: FloatArray, weights: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """A form with given arguments from its coefficients ``(r, m, nq)``, and the size of the terms that are added."""
    shape = values.shape[1:]
    if all(weight.ndim == 1 for weight in weights):
        factors = basis
        for weight in reversed(weights):
            factors = factors @ weight
        found, size = np.zeros(shape), np.zeros(shape)
        for factor, value in zip(factors.tolist(), values, strict=True):  # few: threads of BLAS would cost more
            term = factor * value
            found += term
            size += np.abs(term, out=term)
        return found, size
    everywhere = [spread(weight, shape) for weight in weights]
    found, size = np.zeros(shape), np.zeros(shape)
    for value, tensor in zip(values, basis, strict=True):
        for entry in np.argwhere(tensor):
            term = tensor[tuple(entry)] * value
            for weight, index in zip(everywhere, entry, strict=True):
                term = term * weight[index]
            found += term
            size += np.abs(term)
    return found, size


def all_entries(n: int, arity: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Every entry of a tensor ``(n,) * arity``, and the basis in which each stands for itself."""
    return np.argwhere(np.ones((n,) * arity, dtype=bool)), np.eye(n**arity).reshape(-1, *(n,) * arity)


def asymmetric(tensors: FloatArray, tolerance: float = 1e-13) -> bool:
    """Whether some of the matrices ``(k, n, n)`` are not symmetric, relative to each row and column."""
    size, other = np.abs(tensors), np.abs(tensors).transpose(0, 2, 1)
    gap = np.abs(tensors - tensors.transpose(0, 2, 1))
    of_slot = np.sqrt(np.maximum(size.max(axis=2, initial=0.0), size.max(axis=1, initial=0.0)))
    together = of_slot[:, :, None] * of_slot[:, None, :]
    return bool(((gap > 10 * tolerance * np.maximum(size, other)) & (gap > tolerance * together)).any())


def indefinite(tensors: FloatArray) -> bool:
    """Whether some of the matrices ``(k, n, n)``, made symmetric, have a negative eigenvalue beyond rounding."""
    size = np.abs(tensors)
    of_slot = np.sqrt(np.maximum(size.max(axis=2, initial=0.0), size.max(axis=1, initial=0.0)))
    of_slot = np.where(of_slot > 0, of_slot, 1.0)
    scaled = 0.5 * (tensors + tensors.transpose(0, 2, 1)) / (of_slot[:, :, None] * of_slot[:, None, :])
    return bool(np.linalg.eigvalsh(scaled).min(initial=0.0) < -1e-12)


def independent(table: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Rows of a table that span the others, and the combinations: ``table = factors.T @ table[pivots]``.

    Rows and columns are scaled first. A row that the combinations miss somewhere, by its size there, stands for itself.
    """
    scale = np.abs(table).max(axis=1, initial=0.0)
    used = np.flatnonzero(scale > 0)
    if len(used) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros((0, len(table)))
    normal = table[used] / scale[used, None]
    column = np.abs(normal).max(axis=0)
    normal = normal[:, column > 0] / column[column > 0]
    r, order = scipy.linalg.qr(normal.T, mode="r", pivoting=True)
    size = np.abs(np.diag(r))
    rank = int((size > _RANK * size[0]).sum())
    pivots = used[order[:rank]]
    combine = scipy.linalg.solve_triangular(r[:rank, :rank], r[:rank])
    combine[np.abs(combine) < 1e-14] = 0.0
    factors = np.zeros((rank, len(table)))
    factors[:, used[order]] = combine * scale[used[order]] / scale[pivots][:, None]
    factors = _tidy(factors)
    terms = np.abs(factors.T) @ np.abs(table[pivots])
    missed = np.abs(table - factors.T @ table[pivots]) > 1e-11 * (terms + np.abs(table))
    alone = np.flatnonzero(missed.any(axis=1))
    factors[:, alone] = 0.0
    return np.concatenate([pivots, alone]), np.vstack([factors, np.eye(len(table))[alone]])


def _tidy(factors: FloatArray) -> FloatArray:
    """Replace factors within rounding of a ratio of equal or opposite entries by that ratio."""
    near = np.abs(np.abs(factors) - 1.0) < 1e-12
    return np.where(near, np.sign(factors), factors)
