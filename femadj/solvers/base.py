"""What every sparse solver shares: the protocol, and the checks of what it is handed.

A back end derives from :class:`Solver`, :class:`Symbolic` and :class:`Factor` and fills in the methods whose
names start with an underscore. Structure, values and right-hand sides are always handed over as host arrays;
nothing is global, so a back end on another device only has to move them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import get_args

import numpy as np

from femadj.base.arguments import whole_number
from femadj.base.arrays import FloatArray
from femadj.errors import IndefiniteSystemError, SingularSystemError, SolverError
from femadj.solvers.checks import as_float_array, non_finite
from femadj.solvers.closing import Closing
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import UNIT_ROUNDOFF, Matrix, MatrixKind, Structure
from femadj.solvers.preconditioner import Approximation
from femadj.solvers.statistics import (
    FORWARD_TOLERANCE,
    PIVOT_TOLERANCE,
    REFINEMENT_THRESHOLD,
    RESIDUAL_TOLERANCE,
    Capabilities,
    Tolerances,
)
from femadj.solvers.structure import CsrPattern
from femadj.solvers.unknowns import PLAIN, Unknowns

MatrixMaker = Callable[[Structure, FloatArray, float, Callable[[], FloatArray | None] | None], Matrix]
"""Called with the arguments of :class:`Matrix`."""

SERIAL_ENTRIES = 30_000
"""Structures with fewer stored entries, which are factorised in some milliseconds, are so by one thread where nobody
asks for more: waking others costs as much as they save, and many times that on processors that are busy."""


class Solver(ABC):
    """A sparse direct solver.

    Parameters
    ----------
    threads : int, optional
        Threads for the analyses, factorisations and solves; by default one for fewer than :data:`SERIAL_ENTRIES`
        entries, and else what the library would use.
    residual_tolerance : float
        Largest backward error that a solve may return, see :data:`RESIDUAL_TOLERANCE`.
    refinement_threshold : float
        Backward error above which a solve is refined, see :data:`REFINEMENT_THRESHOLD`.
    pivot_tolerance : float
        Relative pivot size that counts as singular, see :data:`PIVOT_TOLERANCE`.
    forward_tolerance : float
        Largest bound of the relative error that a solution may have, see :data:`FORWARD_TOLERANCE`.
    """

    name: str
    capabilities: Capabilities
    in_single_precision: Callable[[Structure, int | None], Approximation] | None = None
    """Its factors in single precision, on a structure; None where it has none."""

    def __init__(
        self,
        *,
        threads: int | None = None,
        residual_tolerance: float = RESIDUAL_TOLERANCE,
        refinement_threshold: float = REFINEMENT_THRESHOLD,
        pivot_tolerance: float = PIVOT_TOLERANCE,
        forward_tolerance: float = FORWARD_TOLERANCE,
    ) -> None:
        _check_threads(threads)
        self.threads = threads
        self.tolerances = Tolerances(residual_tolerance, refinement_threshold, pivot_tolerance, forward_tolerance)

    def analyse(
        self,
        pattern: CsrPattern,
        kind: MatrixKind,
        *,
        threads: int | None = None,
        unknowns: Unknowns = PLAIN,
    ) -> Symbolic:
        """Order and analyse a structure, once for all matrices on it.

        Parameters
        ----------
        pattern : CsrPattern
            Triangle ``"upper"`` for ``"spd"`` and ``"symmetric"``, ``"full"`` for ``"general"``.
        kind : MatrixKind
            What the matrices on this structure are.
        threads : int, optional
            Overrides the solver's own number of threads; fixed for everything that follows on this structure.
        unknowns : Unknowns, optional
            What is known of the unknowns.

        Raises
        ------
        SolverError
            If the kind is not supported or the pattern is not a valid one for it.
        SingularSystemError
            If a row or a column is empty.
        """
        if kind not in get_args(MatrixKind):
            raise SolverError(f"unknown matrix kind {kind!r}; there are {', '.join(get_args(MatrixKind))}")
        if kind not in self.capabilities.kinds:
            raise SolverError(f"{self.name} does not solve {kind!r} matrices")
        _check_threads(threads)
        chosen = self.threads if threads is None else threads
        if chosen is None and pattern.nnz < SERIAL_ENTRIES:
            chosen = 1
        return self._analyse(Structure(pattern, kind, unknowns, chosen), chosen)

    @abstractmethod
    def _analyse(self, structure: Structure, threads: int | None) -> Symbolic:
        """Analyse a checked structure."""

    def matrices(self, structure: Structure) -> MatrixMaker:
        """What makes matrices on a structure: :class:`Matrix`, or a kind that multiplies where its solver works."""
        del structure
        return Matrix

    def prepare(self, kind: MatrixKind) -> None:
        """Load the library, and compile the kernels that factors of such matrices and their solves take.

        Two equations are solved for that; a solver with further kernels adds them.
        """
        indptr, indices = np.array([0, 2, 3]), np.array([0, 1, 1], np.int32)
        pattern = CsrPattern(indptr, indices, "full" if kind == "general" else "upper")
        values = np.array([2.0, 1.0, 2.0])
        with self.analyse(pattern, kind) as symbolic, symbolic.factor(values) as factor:
            x = factor.T.solve(factor.solve(np.ones(2)))
        matrix = Matrix(Structure(pattern, kind), values, UNIT_ROUNDOFF)
        matrix.equilibrated(always=True)
        matrix.residual(np.ones(2), x, transposed=False, precise=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} on {self.capabilities.device}>"


def _check_threads(threads: int | None) -> None:
    if threads is not None:
        whole_number(threads, 1, "the number of threads", SolverError)


class Symbolic(Closing):
    """An analysed structure: makes a factor from every new set of values.

    Factors that are alive when it is closed keep what they need and stay usable.

    Attributes
    ----------
    factorisations : int
        Numeric factorisations made so far.
    analyses : int
        Symbolic analyses made so far; stays 1 unless the solver had to analyse again.
    name : str
        Of what was chosen for the structure; empty where the solver has no choice.
    """

    factorisations: int = 0
    analyses: int = 0
    name: str = ""

    def __init__(self, structure: Structure, tolerances: Tolerances, matrices: MatrixMaker = Matrix) -> None:
        self._structure = structure
        self.tolerances = tolerances
        self._matrices = matrices

    @property
    def pattern(self) -> CsrPattern:
        """Structure of the matrices."""
        return self._structure.pattern

    @property
    def kind(self) -> MatrixKind:
        """Kind of the matrices."""
        return self._structure.kind

    @property
    def needed_bytes(self) -> int | None:
        """Memory that the analysis and one factor take, estimated before there is one; None where that is not known."""
        return None

    def prepare(self, n_modes: int) -> None:
        """Compile the kernels of what was chosen for the structure, beyond those of :meth:`Solver.prepare`.

        ``n_modes``: how many fields ``modes()`` of the matrices will give.
        """
        del n_modes  # of use where multigrid may have been chosen

    def factor(
        self,
        values: FloatArray,
        *,
        rounding: float = UNIT_ROUNDOFF,
        modes: Callable[[], FloatArray | None] | None = None,
    ) -> Factor:
        """Factorise the matrix with these values.

        Parameters
        ----------
        values : (nnz,) float64
            In the order of the pattern. Referenced by the factor, for the residuals of its solves: do not
            write to the array while the factor is in use.
        rounding : float
            Relative error of the values, which bounds of the error of solutions account for.
        modes : callable, optional
            Fields ``(n, n_modes)`` that the matrix without supports maps to zero, see :class:`Matrix`.

        Raises
        ------
        SolverError
            On wrong shape or type, after :meth:`close`, or if the solver fails.
        NonFiniteError
            If a value is not finite.
        SingularSystemError
            If the matrix is singular to working precision.
        IndefiniteSystemError
            If the kind is ``"spd"`` and the matrix is not.
        """
        if self._closed:
            raise SolverError("this analysis has been closed")
        structure = self._structure
        values = as_float_array(values, "values")
        if values.shape != (len(structure.indices),):
            raise SolverError(f"expected {len(structure.indices)} values, got shape {values.shape}")
        values = np.ascontiguousarray(values)
        # Extremes are NaN or infinite if any entry is; they allocate nothing.
        if not (np.isfinite(values.min()) and np.isfinite(values.max())):
            entries = np.flatnonzero(~np.isfinite(values))
            concerned = structure.rows()[entries]
            if structure.upper:
                concerned = np.concatenate([concerned, structure.indices[entries]])
            raise non_finite("the matrix", np.unique(concerned))
        matrix = self._matrices(structure, values, rounding, modes)
        rows, columns = matrix.sums
        if not np.isfinite(rows).all():
            raise non_finite("the sum of absolute values", np.flatnonzero(~np.isfinite(rows)))
        for sums, what in ((rows, "row"), (columns, "column")):
            if not sums.all():
                k = int(np.argmin(sums))
                raise SingularSystemError(f"{what} {k} of the matrix is zero: the matrix is singular", k)
        if structure.kind == "spd":
            diagonal = values[structure.indptr[:-1]]
            if diagonal.min() <= 0.0:
                k = int(np.argmax(diagonal <= 0.0))
                raise IndefiniteSystemError(
                    f"the matrix is not positive definite: diagonal entry {k} is {diagonal[k]:.3g}", k
                )
        return self.factor_of(matrix)

    def factor_of(self, matrix: Matrix) -> Factor:
        """Factorise a matrix on this structure that was checked as :meth:`factor` does it; errors as there."""
        if self._closed:
            raise SolverError("this analysis has been closed")
        return self._factor(matrix)

    @abstractmethod
    def _factor(self, matrix: Matrix) -> Factor:
        """Factorise a checked matrix: its :meth:`~Matrix.equilibrated` values."""
