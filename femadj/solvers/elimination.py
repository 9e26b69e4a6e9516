"""Matrices as SciPy's SuperLU wants them, in an order of elimination."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from femadj.base.arrays import FloatArray
from femadj.errors import SolverError, SolverMemoryError
from femadj.solvers.matrix import MatrixKind, Structure
from femadj.solvers.ordering import Order, arranged

_EXACTLY_SINGULAR = "singular"  # in the message of SuperLU's RuntimeError, which has no type of its own
_AS_IT_IS, _BY_COLUMNS = "NATURAL", "COLAMD"
_ORDERING: dict[MatrixKind, str] = {"spd": "MMD_AT_PLUS_A", "symmetric": "MMD_AT_PLUS_A", "general": _BY_COLUMNS}
_PIVOT_THRESHOLD: dict[MatrixKind, float] = {"spd": 0.0, "symmetric": 0.1, "general": 1.0}
_HEAVY, _MOST = 0.5, 2 / 3  # size of a diagonal entry that is likely to be the pivot; part of them that is to be heavy


class Elimination:
    """A structure as SuperLU wants it: compressed columns of the whole matrix, in the order of elimination.

    Attributes
    ----------
    order : (n,) or None
        Equation at every place; None where the equations stay where they are.
    threshold : float
        Size of a diagonal entry, beside the largest in its column, from which it is the pivot; by default what suits
        the kind of the matrix.
    """

    def __init__(self, structure: Structure, order: Order | None, threshold: float | None = None) -> None:
        self.structure = structure
        self.threshold = _PIVOT_THRESHOLD[structure.kind] if threshold is None else threshold
        # The rows of A are the columns of its transpose: that is what is factorised, without a conversion.
        self._places = arranged(structure, None if order is None else order(structure))
        self.order = self._places.order

    def factors(self, values: npt.NDArray[np.floating]) -> spla.SuperLU | None:
        """The factors in the precision of the values, or None where a pivot and all that could replace it are zero."""
        kind, n, places = self.structure.kind, self.structure.n, self._places
        columns = sp.csc_array((values[places.slots], places.indices, places.indptr), shape=(n, n), copy=False)
        try:
            return spla.splu(
                columns,
                permc_spec=self._permutation(columns.data),
                diag_pivot_thresh=self.threshold,
                options={"SymmetricMode": kind == "spd"},
            )
        except MemoryError as error:
            raise SolverMemoryError(
                f"SuperLU ran out of memory with {n} equations. Close or drop factors and solutions that are no longer "
                "used, use a coarser mesh, or what fills less: pip install pypardiso where there is MKL, else pymetis"
            ) from error
        except (RuntimeError, ValueError, SystemError) as error:
            if _EXACTLY_SINGULAR not in str(error):
                raise SolverError(f"SuperLU failed: {error}") from error
            return None

    def _permutation(self, values: npt.NDArray[np.floating]) -> str:
        """How SuperLU is to permute the columns.

        An order for pivots on the diagonal serves those of a general matrix only where most of them are found there.
        """
        places, kind = self._places, self.structure.kind
        if places.order is None:
            return _ORDERING[kind]
        if kind != "general":
            return _AS_IT_IS
        n, sizes = self.structure.n, np.abs(values)
        rows = np.repeat(np.arange(n), np.diff(places.indptr))
        on, diagonal = places.indices == rows, np.zeros(n)
        diagonal[rows[on]] = sizes[on]
        heavy = diagonal >= _HEAVY * np.maximum.reduceat(sizes, places.indptr[:-1])
        return _AS_IT_IS if heavy.mean() >= _MOST else _BY_COLUMNS

    def pivots(self, lu: spla.SuperLU) -> tuple[FloatArray, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Pivots, and the equations they belong to, (n,) in the order of elimination; equations that changed places."""
        order = np.empty(self.structure.n, np.intp)
        order[lu.perm_c] = np.arange(self.structure.n) if self.order is None else self.order
        lower, upper = lu.L, lu.U  # copies of all, which the object keeps for who asks again: it keeps them empty
        pivots = upper.diagonal()
        for copy in (lower, upper):
            copy.data, copy.indices = copy.data[:0].copy(), copy.indices[:0].copy()
        return pivots, order, order[lu.perm_c[lu.perm_r != lu.perm_c]]

    def solve(self, lu: spla.SuperLU, block: npt.NDArray[Any], trans: str) -> npt.NDArray[Any]:
        """Solve for the rows of a C-contiguous (k, n) block; a new one like it."""
        if self.order is None:
            return np.ascontiguousarray(lu.solve(block.T, trans).T)
        x = np.empty_like(block)
        x[:, self.order] = lu.solve(block[:, self.order].T, trans).T
        return x
