"""Systems ``A(theta) x = b(theta)`` of plain functions of theta, called and differentiated with checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from femadj.algebra.growing import GrowingPattern, require_size, rows_of
from femadj.algebra.taylor import ADVICE, as_complex
from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import as_argument, as_array, called, key_of, samples
from femadj.base.complex_step import derivative, seed
from femadj.base.differences import compare
from femadj.errors import LinearSystemError, NonFiniteError, VerificationError
from femadj.solvers import MatrixKind
from femadj.solvers.structure import CsrPattern

MatrixLike = Callable[[Any], Any] | Any
"""A function of theta, or, where it does not depend on theta, what the function would return."""

_ADVICE = (
    "Write it with NumPy operations on theta (np.cos, not math.cos; arrays with dtype=np.result_type(theta, float), "
    "filled before they become sparse), or give derivatives= or contraction="
)


@dataclass(frozen=True, eq=False)
class MatrixAndRhs:
    """What plain callables returned at one theta.

    Attributes
    ----------
    values : (nnz,)
        On the pattern; the upper triangle of symmetric matrices.
    rhs : (n,)
    """

    values: FloatArray
    rhs: FloatArray


class CallableSystem:
    """A parametric system of plain functions of theta.

    Parameters
    ----------
    matrix : callable, sparse matrix or (n, n) array
    rhs : callable or (n,) array
    contraction : callable, optional
        ``contraction(theta, x, lam)``: ``lam^T (dA/dtheta x - db/dtheta)`` in the shape of theta.
    derivatives : callable, sequence or mapping, optional
        ``derivatives(theta)``: pairs ``(dA_i, db_i)``, one for each entry of theta in C order, or a mapping from flat
        index to pair. ``None`` in a pair, and an index that is missing, are zero.
    kind : MatrixKind
    check : bool
        Compare derivatives with differences of the callables, at every theta at which they are asked for.

    Raises
    ------
    LinearSystemError
        For arguments of the wrong kind.
    """

    def __init__(
        self, matrix: MatrixLike, rhs: MatrixLike, contraction: Any, derivatives: Any, kind: MatrixKind, check: bool
    ) -> None:
        if not isinstance(kind, str) or kind not in get_args(MatrixKind):
            raise LinearSystemError(f"unknown matrix kind {kind!r}; there are {', '.join(get_args(MatrixKind))}")
        if contraction is not None and not callable(contraction):
            raise LinearSystemError(f"contraction must be a function of (theta, x, lam), not {contraction!r}")
        self._matrix = matrix
        self._rhs = rhs
        self._contraction = contraction
        self._derivatives = derivatives
        self._kind: MatrixKind = kind
        self._entries = GrowingPattern(kind, "matrix(theta)")
        self._check = check
        self._checked: dict[str, bytes] = {}

    @property
    def kind(self) -> MatrixKind:
        """What the matrix is said to be."""
        return self._kind

    @property
    def pattern(self) -> CsrPattern | None:
        """All entries that were nonzero at any theta so far; None before the first."""
        return self._entries.pattern

    @property
    def prefers_adjoint(self) -> bool:
        """True with a contraction alone: the tangent would rely on complex steps, which was not asked for."""
        return self._contraction is not None and self._derivatives is None

    def assemble(self, theta: FloatArray) -> MatrixAndRhs:
        """Matrix on the pattern, which grows where the matrix has new entries, and right-hand side."""
        matrix, rhs = self._matrix_at(theta), self._rhs_at(theta)
        n = matrix.shape[0]
        if len(rhs) != n:
            raise LinearSystemError(f"rhs(theta) has {len(rhs)} entries, matrix(theta) has {n} rows")
        for name, values, rows in (("matrix(theta)", matrix.data, rows_of(matrix)), ("rhs(theta)", rhs, np.arange(n))):
            wrong = ~np.isfinite(values)
            if wrong.any():
                equations = np.unique(rows[wrong])
                raise NonFiniteError(
                    f"{name} has NaN or infinite entries in row {equations[0]} at {described(theta)}",
                    equations[:5].tolist(),
                )
        return MatrixAndRhs(self._entries.values(matrix), rhs)

    def pullback(self, theta: FloatArray, x: FloatArray, lam: FloatArray) -> FloatArray:
        """``lam^T (db/dtheta - dA/dtheta x)`` for every row of ``lam``; VerificationError as in ``pushforward``."""
        if self._contraction is not None:
            self._once(self._check_contraction, theta, x)
            return -np.stack([self._real_contraction(theta, x, row) for row in lam])
        self._once(self._check_rates, theta, x)
        result = np.empty((len(lam), theta.size))
        for number, rate in enumerate(self._rates(theta, x)):
            result[:, number] = (lam * rate).sum(axis=1)
        return result.reshape(len(lam), *theta.shape)

    def pushforward(self, theta: FloatArray, directions: FloatArray, x: FloatArray) -> FloatArray:
        """``db - dA x`` along every direction.

        Raises
        ------
        VerificationError
            When the derivatives disagree with differences of the callables (looked at once for every theta).
        ComplexStepError
            When they are not given and the callables cannot be differentiated.
        """
        self._once(self._check_rates, theta, x)
        return self._pushforward(theta, directions, x)

    # ------------------------------------------------------------------ at complex theta
    def matrix_at(self, theta: Any) -> sp.csr_array:
        """``A`` at a complex theta, where it need not be finite."""
        return as_matrix(called(self._matrix, "matrix(theta)", theta, advice=ADVICE), "matrix(theta)")

    def rhs_at(self, theta: Any) -> npt.NDArray[Any]:
        """``b`` at a complex theta."""
        return _as_vector(called(self._rhs, "rhs(theta)", theta, advice=ADVICE), "rhs(theta)")

    def contraction_at(self, theta: Any, x: npt.NDArray[Any], lam: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``lam^T (dA/dtheta x - db/dtheta)`` at complex arguments."""
        name = "contraction(theta, x, lam)"
        if self._contraction is None:
            raise LinearSystemError(f"the series of a gradient needs contraction=, a function {name}")
        return as_complex(called(self._contraction, name, theta, x, lam, advice=ADVICE), np.shape(theta), name)

    # ------------------------------------------------------------------ derivatives
    def _pushforward(self, theta: FloatArray, directions: FloatArray, x: FloatArray) -> FloatArray:
        if self._derivatives is None:
            steps = [self._complex_step(theta, direction, x) for direction in directions]
            return np.stack([of_rhs - of_product for of_product, of_rhs in steps])
        result = np.zeros((len(directions), len(x)))
        for rate, amounts in zip(self._rates(theta, x), directions.reshape(len(directions), -1).T, strict=True):
            moved = np.flatnonzero(amounts)
            result[moved] += amounts[moved, None] * rate
        return result

    def _rates(self, theta: FloatArray, x: FloatArray) -> Iterator[FloatArray]:
        """``db_i - dA_i x`` for every entry of theta, (n,) each."""
        if self._derivatives is None:
            for number in range(theta.size):
                of_product, of_rhs = self._complex_step(theta, unit(theta, number), x)
                yield of_rhs - of_product
        else:
            for matrix, rhs in self._pairs(theta, len(x)):
                rate = np.zeros(len(x)) if rhs is None else rhs
                yield rate if matrix is None else rate - matrix @ x

    def _complex_step(self, theta: FloatArray, direction: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``dA x`` and ``db`` along a direction."""
        argument = seed(theta, direction)
        of_product, of_rhs = np.zeros(len(x)), np.zeros(len(x))
        if callable(self._matrix):
            matrix = as_matrix(called(self._matrix, "matrix(theta)", argument, advice=_ADVICE), "matrix(theta)")
            require_size(matrix.shape[0], len(x))
            slopes = sp.csr_array((derivative(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape)
            of_product = slopes @ x
        if callable(self._rhs):
            rhs = _as_vector(called(self._rhs, "rhs(theta)", argument, advice=_ADVICE), "rhs(theta)")
            require_size(len(rhs), len(x))
            of_rhs = derivative(rhs)
        return of_product, of_rhs

    def _pairs(self, theta: FloatArray, n: int) -> list[tuple[sp.csr_array | None, FloatArray | None]]:
        """The user's derivatives, checked."""
        raw = called(self._derivatives, "derivatives(theta)", as_argument(theta))
        size = theta.size
        if isinstance(raw, Mapping):
            strange = [key for key in raw if not isinstance(key, (int, np.integer)) or not 0 <= key < size]
            if strange:
                raise LinearSystemError(
                    f"derivatives(theta) has the key {strange[0]!r}; keys are flat indices of theta, 0 to {size - 1}"
                )
            raw = [raw.get(number) for number in range(size)]
        if not isinstance(raw, Sequence) or len(raw) != size:
            found = f"{len(raw)} items" if isinstance(raw, Sequence) else type(raw).__name__
            raise LinearSystemError(
                f"derivatives(theta) must return a list of {size} pairs (dA, db), one for each entry of theta, or a "
                f"mapping from flat index to pair, not {found}"
            )
        pairs: list[tuple[sp.csr_array | None, FloatArray | None]] = []
        for number, given in enumerate(raw):
            name = f"derivatives(theta)[{number}]"
            item = (None, None) if given is None else given
            if not isinstance(item, (tuple, list)) or len(item) != 2:
                raise LinearSystemError(f"{name} must be a pair (dA, db), not {type(item).__name__}")
            matrix = None if item[0] is None else real_matrix(item[0], f"dA of {name}")
            rhs = None if item[1] is None else _real_vector(item[1], f"db of {name}")
            for part in (matrix, rhs):
                if part is not None and part.shape[0] != n:
                    raise LinearSystemError(f"{name} has {part.shape[0]} rows, the system has {n}")
            pairs.append((matrix, rhs))
        return pairs

    def _real_contraction(self, theta: FloatArray, x: FloatArray, lam: FloatArray) -> FloatArray:
        name = "contraction(theta, x, lam)"
        raw = called(self._contraction, name, as_argument(theta), x, lam)
        return as_array(raw, theta.shape, name, LinearSystemError)

    # ------------------------------------------------------------------ checks against differences
    def _check_rates(self, theta: FloatArray, x: FloatArray) -> None:
        """Compare derivatives of matrix and right-hand side, along a random direction, row by row."""
        rng = samples(key_of(theta))
        matrix = abs(self._matrix_at(theta))
        direction, weights = random_like(theta, rng), _balanced(matrix, rng)
        if self._derivatives is None:
            origin, advice = "complex step", _ADVICE
            of_product, of_rhs = self._complex_step(theta, direction, weights)
        else:
            origin, advice = "derivatives(theta)", "Correct it (the pair is dA_i, db_i, both triangles of dA_i)"
            both = [self._pushforward(theta, direction[None], w)[0] for w in (weights, np.zeros_like(weights))]
            of_product, of_rhs = both[1] - both[0], both[1]
        sizes = matrix @ np.abs(weights)
        require_derivative(
            lambda t: self._matrix_at(theta + t * direction) @ weights,
            of_product, sizes, f"the derivative of matrix(theta) by {origin}", advice,
        )  # fmt: skip
        require_derivative(
            lambda t: self._rhs_at(theta + t * direction),
            of_rhs, np.abs(self._rhs_at(theta)), f"the derivative of rhs(theta) by {origin}", advice,
        )  # fmt: skip

    def _once(self, check: Callable[[FloatArray, FloatArray], None], theta: FloatArray, x: FloatArray) -> None:
        """Make a check at every theta that differs from the last."""
        here = theta.tobytes()
        if self._check and self._checked.get(check.__name__) != here:
            check(theta, x)
            self._checked[check.__name__] = here

    def _check_contraction(self, theta: FloatArray, x: FloatArray) -> None:
        rng = samples(key_of(theta))
        direction, weights, lam = random_like(theta, rng), random_like(x, rng), rng.uniform(-1, 1, len(x))

        def product(t: float) -> FloatArray:
            at = theta + t * direction
            return np.array([inner(lam, self._matrix_at(at) @ weights - self._rhs_at(at))])

        size = inner(np.abs(lam), abs(self._matrix_at(theta)) @ np.abs(weights) + np.abs(self._rhs_at(theta)))
        require_derivative(
            product,
            np.array([inner(self._real_contraction(theta, weights, lam), direction)]),
            np.array([size]),
            "contraction(theta, x, lam)",
            "It must be lam^T (dA/dtheta x - db/dtheta) for any x and lam",
        )

    # ------------------------------------------------------------------ evaluation
    def _matrix_at(self, theta: FloatArray) -> sp.csr_array:
        return real_matrix(called(self._matrix, "matrix(theta)", as_argument(theta)), "matrix(theta)")

    def _rhs_at(self, theta: FloatArray) -> FloatArray:
        return _real_vector(called(self._rhs, "rhs(theta)", as_argument(theta)), "rhs(theta)")


# ---------------------------------------------------------------------- results of callables
def as_matrix(raw: Any, name: str) -> sp.csr_array:
    """A user's square matrix as a sorted CSR copy without repeated entries, real or complex, or LinearSystemError."""
    if sp.issparse(raw):
        matrix = sp.csr_array(raw, copy=True) if raw.ndim == 2 else raw
    else:
        dense = _dense(raw, name)
        if dense.dtype.kind not in "fiubc" or dense.ndim != 2:
            raise LinearSystemError(
                f"{name} must be a sparse matrix or a two-dimensional array, not {type(raw).__name__} with "
                f"{dense.dtype} entries of shape {dense.shape}"
            )
        matrix = sp.csr_array(dense)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] < 1:
        raise LinearSystemError(f"{name} must be square, not of shape {matrix.shape}")
    matrix.sum_duplicates()
    return matrix if matrix.dtype.kind == "c" else matrix.astype(np.float64, copy=False)


def _dense(raw: Any, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(raw)
    except ValueError as cause:
        raise LinearSystemError(f"{name} must be an array, not {type(raw).__name__} ({cause})") from cause


def _as_vector(raw: Any, name: str) -> npt.NDArray[Any]:
    vector = _dense(raw, name)
    if vector.dtype.kind not in "fiubc" or vector.ndim != 1:
        raise LinearSystemError(f"{name} must be an array of shape (n,), not {vector.dtype} of shape {vector.shape}")
    return vector


def real_matrix(raw: Any, name: str) -> sp.csr_array:
    matrix = as_matrix(raw, name)
    if matrix.dtype.kind == "c":
        raise LinearSystemError(f"{name} is complex; systems are real: split it into real and imaginary parts")
    return matrix


def _real_vector(raw: Any, name: str) -> FloatArray:
    vector = _as_vector(raw, name)
    if vector.dtype.kind == "c":
        raise LinearSystemError(f"{name} is complex; systems are real: split it into real and imaginary parts")
    return vector.astype(np.float64)


def described(theta: FloatArray) -> str:
    """Theta in a message."""
    return f"theta = {theta.tolist()}" if theta.size <= 8 else f"this theta of shape {theta.shape}"


# ---------------------------------------------------------------------- directions and differences
def unit(like: FloatArray, number: int) -> FloatArray:
    """One at a flat index, zero elsewhere."""
    direction = np.zeros(like.shape)
    direction.flat[number] = 1.0
    return direction


def random_like(value: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Random numbers of the size of every entry; entries near zero get the size of the smallest that is not."""
    sizes = np.abs(value)
    near_zero = sizes <= 1e-12 * sizes.max()
    sizes = np.where(near_zero, sizes[~near_zero].min(initial=np.inf), sizes)
    sizes[~np.isfinite(sizes)] = 1.0
    return np.asarray(rng.uniform(0.5, 1.0, value.shape) * rng.choice([-1.0, 1.0], value.shape) * sizes)


def _balanced(magnitude: sp.csr_array, rng: np.random.Generator) -> FloatArray:
    """Random weights of the columns of a matrix, so that small columns count beside large ones."""
    size = magnitude.max(axis=0).toarray().ravel()
    size = np.where(size > 0, size, float(size.max(initial=0.0)) or 1.0)
    return np.asarray(rng.uniform(0.5, 1.0, len(size)) * rng.choice([-1.0, 1.0], len(size)) / size)


def require_derivative(
    function: Callable[[float], FloatArray], exact: FloatArray, sizes: FloatArray, what: str, advice: str
) -> None:
    """Compare a derivative at 0 with differences, component by component.

    Parameters
    ----------
    function : callable of a real step, returns (m,)
    exact : (m,)
    sizes : (m,)
        Size of the terms that the function adds up, which its rounding is proportional to.
    what, advice : str
        For the message.

    Raises
    ------
    VerificationError
        When it disagrees with differences to either side: it is wrong, or there is a kink at 0.
    """
    found = compare(function, exact, magnitude=sizes)
    if found.right.all():
        return
    k = int(np.argmin(found.right))
    place = f" in row {k}" if len(exact) > 1 else ""
    if found.one_sided[k]:
        raise VerificationError(
            f"{what} does not exist{place}: there is a kink or a jump exactly at this theta (or x), where the "
            "derivatives to both sides differ. Move away from it, or smooth the function. check=False skips this "
            "comparison, and gives the derivative of one side"
        )
    raise VerificationError(
        f"{what} is wrong: along a random direction it gives {exact[k]:.9g}{place}, differences give "
        f"{found.difference[k]:.9g}. {advice}. check=False skips this comparison"
    )
