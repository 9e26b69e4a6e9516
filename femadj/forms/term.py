"""What a term of a residual is.

A residual is a sum of terms, ``R(u; d) = sum_internal r_t(u; d) - sum_external r_t(u; d)``. A term is bound to its
region once for a topology; put at a design it owns what it computes there, and knows its value and all products of its
derivatives. A load is an external term that does not depend on ``u``.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Protocol

from femadj.base.arrays import FloatArray
from femadj.base.design import Cotangent, Design
from femadj.space.parameters import Parameters
from femadj.space.pattern import MatrixEntries
from femadj.space.region import Domain

COEFFICIENT_BYTES = 512 * 2**20
"""Memory for coefficients and shape functions that a problem keeps at a design; what does not fit is computed again in
every pass over the mesh."""


class Budget:
    """Memory that the terms of a problem share at a design."""

    def __init__(self, n_bytes: int | None = None) -> None:
        self._left = COEFFICIENT_BYTES if n_bytes is None else n_bytes
        self._lock = Lock()

    def take(self, n_bytes: int) -> bool:
        """Whether so many bytes are left; they are then taken."""
        with self._lock:
            if n_bytes > self._left:
                return False
            self._left -= n_bytes
            return True


class Kept:
    """What a term has computed at a design: arrays, and objects that say how large they are (``nbytes``)."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._known: dict[Any, Any] = {}

    def __call__(self, key: Any, compute: Callable[[], Any]) -> Any:
        """What ``compute`` gives, or gave at an earlier call, if there was memory to keep it. May run in threads."""
        found = self._known.get(key)
        if found is None:
            found = compute()
            if self._budget.take(found.nbytes):
                self._known[key] = found
        return found


class TermAt(Protocol):
    """A term at a design; frozen. Fields ``u``, ``v``, ... are ``(n, nc)`` arrays in the shape of the unknowns.

    Coefficients that are functions of position or parameters are computed once, when they are first needed, and kept
    within a budget of memory. External terms ignore ``u``.
    """

    def residual(self, u: FloatArray, into: FloatArray) -> float:
        """Add ``r(u)``; returns the smallest Jacobian determinant met (inf where nothing is integrated)."""
        ...

    def jacobian(self, u: FloatArray, into: MatrixEntries) -> float:
        """Add ``dr/du``; returns the smallest Jacobian determinant met (inf where nothing is integrated)."""
        ...

    def jvp(self, u: FloatArray, du: FloatArray, into: FloatArray) -> None:
        """Add ``(dr/du) du``."""
        ...

    def vjp(self, u: FloatArray, v: FloatArray, into: FloatArray) -> None:
        """Add ``(dr/du)^T v``."""
        ...

    def require_linear_at(self, u: FloatArray) -> None:
        """FormError where the term is said to be linear and turns out not to be at ``u``; looks at a few entities."""
        ...

    def pullback(self, u: FloatArray, v: FloatArray, into: Cotangent, scale: float = 1.0) -> None:
        """Add ``scale * v^T dr/dd`` at fixed fields, for the points and parameters that ``into`` holds."""
        ...

    def pushforward(self, u: FloatArray, direction: Design, into: FloatArray) -> None:
        """Add ``(dr/dd) direction`` at a fixed field, along node velocities and rates of parameters."""
        ...


class Term(Protocol):
    """One contribution to the residual, bound to a topology."""

    @property
    def rate(self) -> int:
        """Order of the time derivative that it acts on: 0 stiffness, 1 damping, 2 mass."""
        ...

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Where it integrates."""
        ...

    @property
    def symmetric(self) -> bool:
        """Whether its derivative by the unknowns is symmetric."""
        ...

    @property
    def parameter_names(self) -> frozenset[str]:
        """Parameters that it reads."""
        ...

    def prepare(self) -> None:
        """Compile the kernels."""
        ...

    def at(self, points: FloatArray, parameters: Parameters, budget: Budget | None = None) -> TermAt:
        """Put the term at a design; ``budget`` is the memory that it may share with others, its own when left out."""
        ...


class MovingTerm(Term, Protocol):
    """A term that also knows its second derivatives."""

    def in_motion(self, points: FloatArray, parameters: Parameters, budget: Budget | None = None) -> TermAt:
        """Put the term at a design that carries a complex step, ``d + i STEP (rate of d)``.

        What is returned takes complex fields and adds to complex arrays, and everything that it adds carries its rate
        in the imaginary part. Only ``residual``, ``jvp``, ``vjp`` and ``pullback`` are called.
        """
        ...
