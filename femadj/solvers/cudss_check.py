"""What a library of cuDSS does on this device, found out by small systems before it is trusted with others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, get_args

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import SolverUnavailableError
from femadj.solvers.cudss_system import Context, Options, Pattern, System
from femadj.solvers.matrix import MatrixKind, Structure
from femadj.solvers.structure import CsrPattern

_UNSYMMETRIC = np.array([[4.0, 1.0, 0.0], [2.0, 5.0, 1.0], [0.0, 3.0, 6.0]])
_INDEFINITE = np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
_SQUARES = np.array([4.0, 9.0, 25.0])
_ACCURACY = 1e-12


class Findings(NamedTuple):
    """What is not documented.

    Attributes
    ----------
    pivots : mapping
        By kind of matrix: the power of its diagonal of the factor that pivots are; 0 where the library tells none, or
        in another order than that of the equations.
    definite : MatrixKind
        As what positive definite matrices are factorised: as they are where one that is not is told, by a number or by
        pivots; else as symmetric ones, whose inertia tells.
    """

    pivots: Mapping[MatrixKind, int]
    definite: MatrixKind


def checked(context: Context) -> Findings:
    """Solve small systems.

    Raises
    ------
    SolverUnavailableError
        If solutions are wrong: transposed ones, those of a second factor on the same analysis, or any; or if nothing
        tells that a matrix is not positive definite.
    """
    _require_solves(context)
    pivots = {kind: _power(context, kind) for kind in get_args(MatrixKind)}
    return Findings(pivots, _definite(context, pivots))


def _definite(context: Context, pivots: Mapping[MatrixKind, int]) -> MatrixKind:
    system, values = _system(context, _INDEFINITE, "spd")
    if system.factorise(context.arrays.upload(values), 2.0):
        return "spd"
    diagonal = system.diagonal() if pivots["spd"] else None
    if diagonal is not None and not diagonal.min() > 0.0:
        return "spd"
    system, values = _system(context, _INDEFINITE, "symmetric")
    if system.factorise(context.arrays.upload(values), 2.0) or system.inertia() != (2, 1):
        raise SolverUnavailableError(
            f"cuDSS {'.'.join(map(str, context.api.version))} does not tell whether a matrix is positive definite; "
            "install another version"
        )
    return "symmetric"


def _require_solves(context: Context) -> None:
    """Plain and transposed solves, for many right-hand sides, of factors made anew, again and on a given order."""
    block = np.arange(1.0, 13.0).reshape(4, 3) ** 2
    first, values = _system(context, _UNSYMMETRIC, "general")
    second, _ = _system(context, _UNSYMMETRIC, "general", first.order)
    for scale, system, what in (
        (1.0, first, "first"),
        (2.0, first, "second"),
        (3.0, second, "first on a given order"),
        (1.0, first, "third"),
    ):
        matrix = scale * _UNSYMMETRIC
        system.factorise(context.arrays.upload(scale * values), float(matrix.max()))
        for transposed in (False, True, False):
            x = system.solve(system.number, block, transposed=transposed)
            exact, other = (np.linalg.solve(a, block.T).T for a in ((matrix.T, matrix)[:: 1 if transposed else -1]))
            if _far(x, exact):
                ignored = ": it accepts the option and ignores it" if transposed and not _far(x, other) else ""
                raise SolverUnavailableError(
                    f"cuDSS {'.'.join(map(str, context.api.version))} solves a small system with its {what} factor "
                    f"{'transposed' if transposed else 'plainly'} and is wrong{ignored}; install another version"
                )


def _far(x: FloatArray, y: FloatArray) -> bool:
    return not np.abs(x - y).max() <= _ACCURACY * np.abs(y).max()


def _power(context: Context, kind: MatrixKind) -> int:
    system, values = _system(context, np.diag(_SQUARES), kind, np.array([2, 1, 0], np.int32))
    info = system.factorise(context.arrays.upload(values), float(_SQUARES.max()))
    diagonal = None if info else system.diagonal()
    for power in (1, 2):
        if diagonal is not None and not _far(diagonal.astype(np.float64) ** power, _SQUARES):
            return power
    return 0


def _system(
    context: Context, matrix: FloatArray, kind: MatrixKind, order: np.ndarray | None = None
) -> tuple[System, FloatArray]:
    """A small system in the triangle that its kind asks for, and its entries; the diagonal is always stored."""
    mask = (matrix != 0.0) | np.eye(len(matrix), dtype=bool)
    if kind != "general":
        mask = np.triu(mask)
    rows, columns = np.nonzero(mask)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(matrix)))])
    pattern = CsrPattern(indptr.astype(np.int64), columns.astype(np.int32), "full" if kind == "general" else "upper")
    return System(Pattern(context, Structure(pattern, kind)), Options(kind, threads=1), order), matrix[mask]
