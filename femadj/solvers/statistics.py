"""What is known about a solver, a factor and its solves: data, and the tolerances that they are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from femadj.solvers.matrix import MatrixKind, Structure

RESIDUAL_TOLERANCE = 1e-8
"""Largest componentwise backward error, ``|b - A x| / (|A| |x| + |b|)`` row by row, that a solve may return."""

REFINEMENT_THRESHOLD = 1e-13
"""Backward error above which a solve is refined until it no longer improves; a sound solve stays below it."""

PIVOT_TOLERANCE = 1e-12
"""Relative size below which a pivot of a positive definite matrix means that it is singular to working precision."""

FORWARD_TOLERANCE = 1e-2
"""Largest bound of the relative error that a solution may be returned with."""

FORWARD_WARNING = 1e-6
"""Bound of the relative error above which a solution is returned with a warning."""

SMALL_PIVOT = 1e-4
"""Pivot ratio below which a matrix may be ill-conditioned, so that the condition is estimated. Those of matrices that
are not definite are spread by chance, the smallest of ``n`` like ``1 / n``: a tenth of that times ``100 / n`` for them.
"""


@dataclass(frozen=True)
class Capabilities:
    """What a solver can do, as data that callers can read before they ask.

    Attributes
    ----------
    kinds : frozenset of MatrixKind
        Matrix kinds that are accepted.
    transpose : bool
        ``factor.T.solve`` works on the same factor.
    many_right_hand_sides : bool
        A block of right-hand sides costs less than solving one by one.
    reuses_analysis : bool
        The ordering is computed once per structure and not once per factorisation.
    factors_per_analysis : int or None
        How many factors can be alive on one analysis; a further one costs a new analysis. None: no limit.
    values_in_place : bool
        The solver keeps reading the array of values it was given; False: it works on a copy of its own.
    inertia : bool
        The numbers of positive and negative eigenvalues are reported for symmetric matrices.
    device : "cpu" or "cuda"
        Where the factor lives, and with it the passes over large meshes that need not run on the host.
    lags : bool
        A factor, or another preconditioner, may serve several matrices.
    """

    kinds: frozenset[MatrixKind]
    transpose: bool
    many_right_hand_sides: bool
    reuses_analysis: bool
    factors_per_analysis: int | None
    values_in_place: bool
    inertia: bool
    device: Literal["cpu", "cuda"]
    lags: bool = False


@dataclass(frozen=True)
class FactorStatistics:
    """What is known about a factor; None where the solver does not tell.

    Attributes
    ----------
    n, nnz : int
        Number of equations and of stored matrix entries.
    fill_nnz : int or None
        Number of stored entries of the factor (one triangle or both, as the solver keeps it).
    factor_bytes : int or None
        Memory held by the factor and the analysis it stands on [bytes].
    peak_bytes : int or None
        Largest memory needed while analysing and factorising [bytes].
    perturbed_pivots : int or None
        Pivots that were too small and have been replaced.
    inertia : (int, int) or None
        Numbers of positive and negative eigenvalues; meaningful where no pivot was perturbed.
    smallest_pivot_ratio, largest_pivot_ratio : float or None
        For ``"spd"`` each pivot is compared with its own diagonal entry before elimination, which does not
        depend on the scaling of the matrix. For the other kinds the smallest pivot is compared with the
        largest.
    solves : int
        Right-hand sides solved so far, transposed ones included.
    refinements : int
        Right-hand sides for which iterative refinement was tried.
    extra_solves : int
        Right-hand sides solved beyond those, to refine and to estimate errors.
    relative_residual : float or None
        Largest componentwise backward error of the last solve (Arioli, Demmel and Duff 1989).
    condition : float or None
        Skeel's condition number ``max |A^-1| |A|`` of the equilibrated matrix; None where nothing asked for it.
    preconditioner : str or None
        What iterations are preconditioned with; None where solves are those of an exact factor.
    age : int
        Designs since the factor, or the preconditioner, was made; 0 where it is that of this very matrix.
    iterations : int
        Iterations of all solves of this matrix so far, one for each right-hand side.
    forward_error : float or None
        Bound of the relative error of the last solve in the scale of each unknown: the condition times backward error
        and rounding of the entries. Without a sign of a large condition, the estimate of iterations in the energy norm,
        and None for factors.
    """

    n: int
    nnz: int
    fill_nnz: int | None = None
    factor_bytes: int | None = None
    peak_bytes: int | None = None
    perturbed_pivots: int | None = None
    inertia: tuple[int, int] | None = None
    smallest_pivot_ratio: float | None = None
    largest_pivot_ratio: float | None = None
    solves: int = 0
    refinements: int = 0
    extra_solves: int = 0
    relative_residual: float | None = None
    condition: float | None = None
    forward_error: float | None = None
    preconditioner: str | None = None
    age: int = 0
    iterations: int = 0


class Tolerances(NamedTuple):
    """Limits of the checks, see the constants above."""

    residual: float = RESIDUAL_TOLERANCE
    refinement: float = REFINEMENT_THRESHOLD
    pivot: float = PIVOT_TOLERANCE
    forward: float = FORWARD_TOLERANCE


class PivotReport(NamedTuple):
    """What a factorisation tells about itself; the solver's part of :class:`FactorStatistics`.

    ``replacement`` is the size of the pivots that stand for those that were too small, relative to the matrix.
    """

    fill_nnz: int | None = None
    factor_bytes: int | None = None
    peak_bytes: int | None = None
    perturbed: int | None = None
    replacement: float = 0.0
    inertia: tuple[int, int] | None = None
    smallest_ratio: float | None = None
    largest_ratio: float | None = None

    def doubtful(self, structure: Structure) -> bool:
        """Whether pivots were replaced, or are small or unknown."""
        least = SMALL_PIVOT if structure.kind == "spd" else min(SMALL_PIVOT, 0.1 * SMALL_PIVOT * 100 / structure.n)
        return bool(self.perturbed) or self.smallest_ratio is None or not self.smallest_ratio >= least


class Verdict(NamedTuple):
    """Verdict on a factor whose pivots raise doubts, see :meth:`Factor.examine`; unknowns of a null vector."""

    verdict: Literal["regular", "inaccurate", "singular"]
    unknowns: npt.NDArray[np.int64]
