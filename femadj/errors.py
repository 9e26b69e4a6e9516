"""Errors of femadj. Every one says what is wrong, where (cells, nodes, group names) and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class FemadjError(Exception):
    """Base of every error that femadj raises on purpose."""


class InvalidMeshError(FemadjError, ValueError):
    """A mesh whose arrays do not describe a valid mesh (shapes, indices, coordinates, orphans, duplicates)."""


class UnsupportedCellError(InvalidMeshError):
    """A cell type that femadj does not integrate."""


class TangledMeshError(FemadjError, ValueError):
    """Cells with a vanishing or flipped Jacobian at a quadrature point.

    Attributes
    ----------
    cells : tuple of int
        Global ids (zero-based, cells counted through the blocks in order) of the tangled cells.
    """

    def __init__(self, message: str, cells: Sequence[int]) -> None:
        super().__init__(message)
        self.cells = tuple(int(c) for c in cells)


class UnknownGroupError(FemadjError, KeyError):
    """A group name that the mesh does not have; the message lists those it has."""

    def __init__(self, name: str, kind: str, known: Iterable[str]) -> None:
        names = ", ".join(repr(k) for k in known) or "none at all"
        self.name = name
        super().__init__(f"there is no {kind} group {name!r}; the mesh has: {names}")

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0])


class MeshFileError(FemadjError, OSError):
    """A mesh file that cannot be read or written."""


class MaterialError(FemadjError, ValueError):
    """A material constant outside its physical range, or a material that does not cover the mesh."""


class SupportError(FemadjError, ValueError):
    """Supports that are missing, contradictory or given on components that do not exist."""


class LoadError(FemadjError, ValueError):
    """A load that does not fit the physics, the mesh or the dimension."""


class ProblemError(FemadjError, ValueError):
    """A problem put together from parts that do not fit, or with a setting out of range."""


class FormError(FemadjError, ValueError):
    """A user-defined form or functional that cannot be evaluated, is not linear, or cannot be differentiated."""


class ParameterError(FemadjError, ValueError):
    """A parameter of a form, load or functional that is unknown, missing or of the wrong shape."""


class ComplexStepError(FemadjError, TypeError):
    """An operation without a rule for complex steps, inside a function that is being differentiated."""


class LinearSystemError(FemadjError, ValueError):
    """A parametric linear system whose parts do not fit, or whose functions fail or return something unusable."""


class ResponseError(FemadjError, ValueError):
    """A response that cannot be evaluated on the given solution."""


class SolverError(FemadjError, RuntimeError):
    """A sparse direct solver that failed; the base of the numerical failures below."""


class SolverUnavailableError(SolverError):
    """A solver that was asked for by name and is not installed here."""


class NonFiniteError(SolverError):
    """NaN or infinity in a matrix or right-hand side.

    Attributes
    ----------
    equations : tuple of int
        The first equations (rows) concerned.
    """

    def __init__(self, message: str, equations: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.equations = tuple(int(e) for e in equations)


class SingularSystemError(SolverError):
    """A matrix that is singular to working precision.

    Attributes
    ----------
    equation : int or None
        The equation (row of the matrix) at which elimination broke down, or the unknown that moves most in a vector
        that the matrix maps to zero; where the solver tells.
    unknowns : tuple of int
        The first few unknowns of such a vector, largest first.
    """

    def __init__(self, message: str, equation: int | None = None, unknowns: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.equation = equation
        self.unknowns = tuple(int(number) for number in unknowns)


class IndefiniteSystemError(SolverError):
    """A matrix declared symmetric positive definite that is not.

    Attributes
    ----------
    equation : int or None
        The equation (row of the matrix) with the first non-positive pivot, where the solver tells.
    """

    def __init__(self, message: str, equation: int | None = None) -> None:
        super().__init__(message)
        self.equation = equation


class ResidualError(SolverError):
    """A solve whose residual is too large: the answer would be wrong.

    Attributes
    ----------
    relative_residual : float
        Largest ``|b - A x| / (|A| |x| + |b|)``, row by row.
    """

    def __init__(self, message: str, relative_residual: float) -> None:
        super().__init__(message)
        self.relative_residual = relative_residual


class IllConditionedError(SolverError):
    """A solution that rounding alone may have made wrong, because the matrix amplifies it.

    Attributes
    ----------
    forward_error : float
        Bound of the relative error.
    equation : int or None
        The unknown with the largest error.
    """

    def __init__(self, message: str, forward_error: float = float("nan"), equation: int | None = None) -> None:
        super().__init__(message)
        self.forward_error = forward_error
        self.equation = equation


class IllConditionedWarning(UserWarning):
    """A solution of which rounding may have taken more than a few digits; the message bounds its error."""


class SolverMemoryError(SolverError, MemoryError):
    """Not enough memory for a factorisation; the message says how much was needed where the solver tells.

    Attributes
    ----------
    needed_bytes : int or None
    """

    def __init__(self, message: str, needed_bytes: int | None = None) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes


class VerificationError(FemadjError, AssertionError):
    """A derivative that disagrees with differences of independently rebuilt problems."""


class MissingExtraError(FemadjError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {library}, which is not installed: pip install 'femadj[{extra}]'",
        )
