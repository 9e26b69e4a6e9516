"""First guesses from solutions of designs before: their combination that is best for the matrix and load of today."""

from __future__ import annotations

from collections import deque

import numpy as np

from femadj.base.arrays import FloatArray, inner
from femadj.solvers.krylov import Operator, columns_inner

DESIGNS, COLUMNS = 4, 16
"""How many designs, and at most how many solutions, are kept."""

_INDEPENDENT = 1e-10  # part of a solution that earlier ones must leave for it to count


class Recent:
    """Solutions of the last designs.

    The guess is the Galerkin projection onto their span (Fischer, Projection techniques for iterative solution of
    Ax = b with successive right-hand sides, 1998): along a smooth path of designs it extrapolates.
    """

    def __init__(self) -> None:
        self._designs: deque[list[FloatArray]] = deque(maxlen=DESIGNS)

    def begin(self) -> None:
        """A new design: what follows belongs to it."""
        self._designs.appendleft([])

    def add(self, x: FloatArray) -> None:
        """Keep the columns of solutions ``(n, k)``."""
        if self._designs:
            self._designs[0].extend(np.ascontiguousarray(x.T))

    def guess(self, product: Operator, b: FloatArray) -> FloatArray | None:
        """The combination of what is kept that is projected, ``(n, k)``; None without any."""
        return projected(product, self._basis(), b)

    def _basis(self) -> FloatArray:
        """An orthonormal basis of the span, newest first, ``(m, n)``."""
        basis: list[FloatArray] = []
        for x in [x for design in self._designs for x in design][:COLUMNS]:
            size, rest = np.sqrt(inner(x, x)), x.copy()
            for _ in range(2):
                for q in basis:
                    rest -= inner(q, rest) * q
            left = np.sqrt(inner(rest, rest))
            if left > _INDEPENDENT * size:
                basis.append(rest / left)
        return np.array(basis)


def projected(product: Operator, basis: FloatArray, b: FloatArray) -> FloatArray | None:
    """The combinations of vectors ``(m, n)`` with the least error in the energy norm, one a column of ``b`` (n, k)."""
    if not len(basis):
        return None
    q = np.ascontiguousarray(basis.T)
    try:
        weights = np.linalg.solve(columns_inner(q, product(q)), columns_inner(q, b))
    except np.linalg.LinAlgError:  # scales are too far apart for the energies to be told from zero
        return None
    guess = np.zeros_like(b)
    for k in range(b.shape[1]):
        for direction, weight in zip(basis, weights[:, k], strict=True):
            guess[:, k] += weight * direction
    return guess
