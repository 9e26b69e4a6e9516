"""Errors of femadj. Every one says what is wrong, where (cells, nodes, group names) and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

LISTED = 40
"""How many names a message lists."""


def choices(name: object, known: Iterable[object]) -> str:
    """The names that there are, for a message about one that there is not, and the one that was probably meant."""
    names = [str(k) for k in known]
    text = ", ".join(map(repr, names[:LISTED])) or "none at all"
    if len(names) > LISTED:
        text += f", ... ({len(names)} in all)"
    return text + meant(name, names)


def meant(name: object, known: Iterable[str]) -> str:
    """The name that was probably meant by one that there is not, in brackets; empty where none comes near."""
    if not isinstance(name, str) or not name:
        return ""
    alike = {k.casefold(): k for k in reversed(list(known))}
    beginning = sorted((k for k in alike if k.startswith(name.casefold())), key=len)
    found = get_close_matches(name.casefold(), alike, 1) or beginning
    return f" (did you mean {alike[found[0]]!r}?)" if found else ""


class FemadjError(Exception):
    """Base of every error that femadj raises on purpose; it can be pickled, and so reach the caller of a process."""

    def __reduce__(self) -> Any:
        return again, (type(self), self.args, vars(self))


def again(kind: type[FemadjError], arguments: tuple[object, ...], told: Mapping[str, object]) -> FemadjError:
    """An error from its kind, its words and its attributes, whatever its constructor takes."""
    error = kind.__new__(kind)
    error.args = arguments
    vars(error).update(told)
    return error


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
    """A group name that the mesh does not have; the message lists those it has.

    Attributes
    ----------
    name : str
        What was given.
    """

    def __init__(self, name: str, kind: str, known: Iterable[str], elsewhere: Sequence[str] = ()) -> None:
        self.name = name
        if isinstance(name, str):
            text = f"there is no {kind} group {name!r}; the mesh has: {choices(name, known)}"
        else:
            text = (
                f"a {kind} group is given by its name, not by {type(name).__name__}: name nodes, facets or cells with "
                f"mesh.with_groups(node_groups={{'name': node numbers}}); the mesh has: {choices(name, known)}"
            )
        super().__init__(text + (f"; {name!r} is a {' and a '.join(elsewhere)} group" if elsewhere else ""))

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


class EigenvalueError(FemadjError, ArithmeticError):
    """Eigenvalues that are missing, not found or not certain, and derivatives that they do not have."""


class FormError(FemadjError, ValueError):
    """A user-defined form or functional that cannot be evaluated, is not linear, or cannot be differentiated."""


class ParameterError(FemadjError, ValueError):
    """A parameter of a form, load or functional that is unknown, missing or of the wrong shape."""


class UnknownParameterError(ParameterError, KeyError):
    """A parameter name that there is not; the message lists those there are."""

    def __init__(self, name: object, known: Iterable[str], whose: str = "the problem") -> None:
        super().__init__(f"there is no parameter {name!r}; {whose} has: {choices(name, known)}")

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0])


class ComplexStepError(FemadjError, TypeError):
    """An operation without a rule for complex steps, inside a function that is being differentiated."""


class SecondOrderError(FemadjError, TypeError):
    """Second derivatives of something that does not tell them, or that differences do not confirm."""


class ParametrisationError(FemadjError, ValueError):
    """Design variables, or a map from them to node coordinates, that do not fit the mesh or have no meaning."""


class LinearSystemError(FemadjError, ValueError):
    """A parametric linear system whose parts do not fit, or whose functions fail or return something unusable."""


class OdeError(FemadjError, ValueError):
    """An ordinary differential equation whose function fails, or that cannot be integrated or differentiated."""


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


class ApproximationError(SolverError):
    """A matrix that has no preconditioner of some kind, or iterations that do not converge with it.

    That is no verdict on the matrix; femadj goes on with a factor in double precision.
    """


class ConvergenceError(FemadjError, RuntimeError):
    """Iterations that did not reach their tolerance. What was found until then is kept.

    Attributes
    ----------
    level : float
        Part of the loads and prescribed values at the last equilibrium that was found, 0 to 1.
    u : array or None
        The state there; None where there is none.
    path : tuple of LoadStep
        All equilibria that were found on the way.
    """

    def __init__(self, message: str, level: float = 0.0, u: Any = None, path: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.level = level
        self.u = u
        self.path = tuple(path)


class RunError(FemadjError, OSError):
    """The folder of an optimisation run that is in use, damaged, or of something else than what is given."""


class OptimiserError(FemadjError, RuntimeError):
    """An optimiser that reports success where there is none."""


class QualityWarning(UserWarning):
    """A design whose cells are so distorted that results lose accuracy."""


class CheckpointError(FemadjError, OSError):
    """States of a run over time that do not fit into memory or onto the disk, or files of another run."""


class VerificationError(FemadjError, AssertionError):
    """A derivative that disagrees with differences of independently rebuilt problems."""


class KernelCacheWarning(UserWarning):
    """Compiled kernels that cannot be read from or kept on disk: results are the same, the wait is longer."""


class MissingExtraError(FemadjError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {library}, which is not installed: pip install 'femadj[{extra}]'",
        )
