"""A factor on a CUDA device by cuDSS, and what its pivots tell."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import SolverError
from femadj.solvers.cudss_check import Findings
from femadj.solvers.cudss_pool import Pool
from femadj.solvers.cudss_system import REPLACEMENT, System
from femadj.solvers.device_matrix import DeviceMatrix
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import Matrix, Structure
from femadj.solvers.statistics import PivotReport, Tolerances

_SHIFT = 10 * REPLACEMENT["float64"]  # relative to the largest entry, or to each entry

_REFINEMENTS_IF_PERTURBED = 2


class CudaFactor(Factor):
    """A factor in a system of a pool, to which the system goes back.

    Attributes
    ----------
    again : bool
        Whether the system had a factor before, of which this one took over what it could.
    broken : bool
        Whether elimination broke down: solves are of no use.
    equation : int or None
        That of the smallest pivot of a positive definite matrix, or of the one where elimination broke down.
    """

    def __init__(
        self,
        pool: Pool,
        system: System,
        matrix: Matrix,
        tolerances: Tolerances,
        findings: Findings,
        *,
        info: int,
        again: bool,
        shifted: bool,
    ) -> None:
        self.again, self.broken = again, bool(info)
        report, self.equation = _report(system, matrix, findings)
        if shifted:
            report = report._replace(
                perturbed=max(report.perturbed or 0, 1), replacement=_SHIFT, smallest_ratio=None, largest_ratio=None
            )
        if info:
            order = system.order
            self.equation = int(order[info - 1]) if order is not None and 0 < info <= len(order) else None
        super().__init__(matrix, report, tolerances)
        self._system: System | None = system
        self._number = system.number
        # Holds the pool, so that this factor outlives the analysis it came from.
        self._finalizer = weakref.finalize(self, pool.give_back, system)
        self._finalizer.atexit = False

    @property
    def report(self) -> PivotReport:
        """What the factorisation tells about itself."""
        return self._report

    def useless(self) -> bool:
        """Whether solves are no numbers, as those of an examination have told."""
        return self.broken or not np.isfinite(self._conditions.get(False, 0.0))

    def _solve(self, block: FloatArray, *, transposed: bool) -> FloatArray:
        system = self._system
        if system is None:
            raise SolverError("this factor has been closed")
        refinements = _REFINEMENTS_IF_PERTURBED if self._report.perturbed else 0
        return system.solve(self._number, block, transposed=transposed, refinements=refinements)

    def _free(self) -> None:
        self._system = None
        self._finalizer()


def factorised(
    pool: Pool,
    matrix: Matrix,
    tolerances: Tolerances,
    findings: Findings,
    *,
    afresh: bool = False,
    shifted: bool = False,
) -> CudaFactor:
    """Factorise a matrix in a system of the pool.

    Parameters
    ----------
    afresh : bool
        Without what the factor before in this system is good for.
    shifted : bool
        With other entries in the last digits, larger ones on the diagonal of a symmetric matrix, so that one without a
        factor can be examined.

    Raises
    ------
    SolverMemoryError
        Where it does not fit; the next one starts with a new system.
    """
    both = pool.pattern.upper != matrix.structure.upper
    values = arranged(matrix, both=both)
    largest = max(float(values.max()), -float(values.min()))
    if shifted:
        values = _shifted(matrix.structure, values, largest, both=both)
    if isinstance(matrix, DeviceMatrix) and values is matrix.values:
        device = matrix.on_device
    else:
        device = pool.pattern.context.arrays.upload(values)
    system = pool.take(device)
    again = system.factorised and not afresh
    # The smallest of a positive definite matrix, whose rows are not brought to the same size.
    size = float(values[matrix.structure.indptr[:-1]].min()) if matrix.structure.kind == "spd" else largest
    info = pool.factorise(system, device, size, afresh=afresh)
    return CudaFactor(pool, system, matrix, tolerances, findings, info=info, again=again, shifted=shifted)


def arranged(matrix: Matrix, *, both: bool) -> FloatArray:
    """Entries as cuDSS takes them: equilibrated, and those of both triangles of a symmetric matrix where asked for."""
    values = matrix.equilibrated()
    return values[matrix.structure.whole[1]] if both else values


def _shifted(structure: Structure, values: FloatArray, largest: float, *, both: bool) -> FloatArray:
    """Entries of a regular matrix near by; of both triangles by chance, for those need not store a diagonal."""
    if both or not structure.upper:
        return values * (1.0 + _SHIFT * np.random.default_rng(0).choice([-1.0, 1.0], len(values)))
    moved = values.copy()
    moved[structure.indptr[:-1]] += _SHIFT * largest
    return moved


def _report(system: System, matrix: Matrix, findings: Findings) -> tuple[PivotReport, int | None]:
    """What a system tells about its factor, and the equation of the smallest pivot of a positive definite matrix."""
    structure, options = matrix.structure, system.options
    report = PivotReport(
        fill_nnz=system.fill(),
        factor_bytes=system.memory.kept,
        peak_bytes=system.memory.peak,
        perturbed=system.replaced(),
        replacement=REPLACEMENT[options.number.name],
        inertia=_inertia(system, matrix),
    )
    power = findings.pivots[options.kind]
    diagonal = system.diagonal() if power and not options.matched and system.factorised else None
    if diagonal is None:
        return report, None
    pivots: FloatArray = diagonal.astype(np.float64) ** power
    if structure.kind == "spd":
        pivots /= matrix.values[structure.indptr[:-1]]
        smallest = int(np.argmin(pivots))  # the first NaN, if there is one
        ratio = float(pivots[smallest])
        return report._replace(smallest_ratio=ratio, largest_ratio=float(pivots.max())), smallest
    sizes = np.abs(pivots)
    largest = float(sizes.max())
    ratio = float(sizes.min()) / largest if 0.0 < largest < np.inf else float("nan")
    return report._replace(smallest_ratio=ratio, largest_ratio=1.0), None


def _inertia(system: System, matrix: Matrix) -> Any:
    if system.options.kind == "spd":
        return (matrix.structure.n, 0) if system.factorised else None
    return system.inertia() if system.options.kind == "symmetric" else None
