"""Systems ``A(theta) x = b(theta)``: what one has to offer to be differentiated, and one made of plain callables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from femadj.algebra.constraints import Condensed, Unconstrained
from femadj.algebra.residual import State, Weights
from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import as_argument, as_array, called, key_of, samples
from femadj.base.complex_step import derivative, seed
from femadj.base.design import Cotangent, Design
from femadj.base.differences import compare
from femadj.errors import LinearSystemError, NonFiniteError, VerificationError
from femadj.solvers import UNIT_ROUNDOFF, MatrixKind
from femadj.solvers.structure import CsrPattern

MatrixLike = Callable[[Any], Any] | Any
"""A function of theta, or, where it does not depend on theta, what the function would return."""

SYMMETRY_TOLERANCE = 1e-12
"""Largest ``|A_ij - A_ji|`` of a symmetric matrix, relative to the largest entries of the two rows and columns."""

_ADVICE = (
    "Write it with NumPy operations on theta (np.cos, not math.cos; arrays with dtype=np.result_type(theta, float), "
    "filled before they become sparse), or give derivatives= or contraction="
)


class Assembled(Protocol):
    """Matrix and right-hand side at one theta."""

    @property
    def values(self) -> FloatArray:
        """Matrix entries on the pattern, (nnz,)."""
        ...

    @property
    def rhs(self) -> FloatArray:
        """Right-hand side, (n,)."""
        ...


class ParametricSystem(Protocol):
    """A system ``A(theta) x = b(theta)`` and the products with its derivatives by theta.

    ``theta`` is a float64 array of any shape (0-d for a single number) that must not be written to.
    """

    @property
    def kind(self) -> MatrixKind:
        """What the matrix is."""
        ...

    @property
    def pattern(self) -> CsrPattern | None:
        """Structure of the values assembled last; None where it is known only then. A new object: a new structure."""
        ...

    @property
    def prefers_adjoint(self) -> bool:
        """Whether ``mode="auto"`` must not pick the tangent, because ``pushforward`` is expensive or uncertain."""
        ...

    def assemble(self, theta: FloatArray) -> Assembled:
        """Matrix and right-hand side."""
        ...

    def pullback(self, theta: FloatArray, x: FloatArray, lam: FloatArray) -> FloatArray:
        """``lam^T (db/dtheta - dA/dtheta x)`` for ``lam`` (k, n): shape ``(k, *theta.shape)``."""
        ...

    def pushforward(self, theta: FloatArray, directions: FloatArray, x: FloatArray) -> FloatArray:
        """``db - dA x`` along ``directions`` ``(k, *theta.shape)``: shape (k, n)."""
        ...


THETA = "theta"
"""Name of the parameter that a system of plain functions depends on."""


@dataclass(frozen=True, eq=False)
class PlainResidual:
    """``R(x; theta) = A(theta) x - b(theta)`` without a mesh: the design is the one parameter ``theta``.

    Attributes
    ----------
    system : ParametricSystem
    """

    system: ParametricSystem

    @property
    def kind(self) -> MatrixKind:
        """What the matrix is."""
        return self.system.kind

    @property
    def structure(self) -> CsrPattern | None:
        """Structure of the matrix that was assembled last."""
        return self.system.pattern

    @property
    def prefers_adjoint(self) -> bool:
        """Whether the tangent is expensive or uncertain."""
        return self.system.prefers_adjoint

    @property
    def rounding(self) -> float:
        """Entries are taken as they are given: rounded once."""
        return UNIT_ROUNDOFF

    def at(self, design: Design) -> PlainAtDesign:
        """Assemble at theta."""
        theta = design.parameters[THETA]
        assembled = self.system.assemble(theta)
        pattern = self.system.pattern
        if pattern is None:
            raise LinearSystemError(f"{type(self.system).__name__} has no pattern after assemble(theta)")
        return PlainAtDesign(self.system, design, pattern, assembled)


@dataclass(frozen=True, eq=False)
class PlainAtDesign:
    """``A x - b`` at one theta.

    Attributes
    ----------
    system : ParametricSystem
    design : Design
    structure : CsrPattern
    assembled : Assembled
    """

    system: ParametricSystem
    design: Design
    structure: CsrPattern
    assembled: Assembled

    @property
    def constraints(self) -> Unconstrained:
        """All unknowns are free."""
        return Unconstrained(self.structure.n)

    @property
    def lifting(self) -> FloatArray:
        """Zero."""
        return np.zeros((1, self.structure.n))

    def residual(self, state: State) -> FloatArray:
        """``A x - b``."""
        return self.jvp(state, state.u) - self.assembled.rhs

    def jacobian(self, state: State) -> Condensed:
        """``A``."""
        return self.constraints.condense(self.assembled.values)

    def jvp(self, state: State, du: FloatArray) -> FloatArray:
        """``A du``."""
        return self.jacobian(state).times(self.structure, self.constraints, du)

    def vjp(self, state: State, lam: FloatArray) -> FloatArray:
        """``A^T lam``."""
        return self.jacobian(state).times(self.structure, self.constraints, lam, transpose=True)

    def pullback(self, state: State, weights: Sequence[Weights], into: Sequence[Cotangent]) -> None:
        """Add ``lam^T (db - dA x)``; internal and external weights must be the same adjoint state."""
        theta = self.design.parameters[THETA]
        lam = np.concatenate([weight.internal for weight in weights])
        raw = self.system.pullback(theta, state.u[0], lam)
        what = "the derivative of matrix and right-hand side (pullback)"
        for row, cotangent in zip(as_array(raw, (len(lam), *theta.shape), what, LinearSystemError), into, strict=True):
            cotangent.parameters[THETA][...] += row

    def pushforward(self, state: State, directions: Sequence[Design]) -> tuple[FloatArray, FloatArray]:
        """``dA x - db`` along directions of theta; nothing is prescribed."""
        theta, x = self.design.parameters[THETA], state.u[0]
        along = np.stack([direction.parameters[THETA] for direction in directions])
        raw = self.system.pushforward(theta, along, x)
        what = "the derivative of matrix and right-hand side (pushforward)"
        rates = as_array(raw, (len(along), len(x)), what, LinearSystemError)
        return -rates[:, None], np.zeros((len(along), 1, len(x)))


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
        if kind not in get_args(MatrixKind):
            raise LinearSystemError(f"unknown matrix kind {kind!r}; there are {', '.join(get_args(MatrixKind))}")
        if contraction is not None and not callable(contraction):
            raise LinearSystemError(f"contraction must be a function of (theta, x, lam), not {contraction!r}")
        self._matrix = matrix
        self._rhs = rhs
        self._contraction = contraction
        self._derivatives = derivatives
        self._kind: MatrixKind = kind
        self._pattern: CsrPattern | None = None
        self._keys = np.empty(0, dtype=np.int64)
        self._check = check
        self._checked: dict[str, bytes] = {}

    @property
    def kind(self) -> MatrixKind:
        """What the matrix is said to be."""
        return self._kind

    @property
    def pattern(self) -> CsrPattern | None:
        """All entries that were nonzero at any theta so far; None before the first."""
        return self._pattern

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
        for name, values, rows in (("matrix(theta)", matrix.data, _rows(matrix)), ("rhs(theta)", rhs, np.arange(n))):
            wrong = ~np.isfinite(values)
            if wrong.any():
                equations = np.unique(rows[wrong])
                raise NonFiniteError(
                    f"{name} has NaN or infinite entries in row {equations[0]} at {described(theta)}",
                    equations[:5].tolist(),
                )
        return MatrixAndRhs(self._on_pattern(matrix), rhs)

    def pullback(self, theta: FloatArray, x: FloatArray, lam: FloatArray) -> FloatArray:
        """``lam^T (db/dtheta - dA/dtheta x)`` for every row of ``lam``; VerificationError as in ``pushforward``."""
        if self._contraction is not None:
            self._once(self._check_contraction, theta, x)
            return -np.stack([self._contraction_at(theta, x, row) for row in lam])
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
            self._same_size(matrix.shape[0], len(x))
            slopes = sp.csr_array((derivative(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape)
            of_product = slopes @ x
        if callable(self._rhs):
            rhs = _as_vector(called(self._rhs, "rhs(theta)", argument, advice=_ADVICE), "rhs(theta)")
            self._same_size(len(rhs), len(x))
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
            matrix = None if item[0] is None else _real_matrix(item[0], f"dA of {name}")
            rhs = None if item[1] is None else _real_vector(item[1], f"db of {name}")
            for part in (matrix, rhs):
                if part is not None and part.shape[0] != n:
                    raise LinearSystemError(f"{name} has {part.shape[0]} rows, the system has {n}")
            pairs.append((matrix, rhs))
        return pairs

    def _contraction_at(self, theta: FloatArray, x: FloatArray, lam: FloatArray) -> FloatArray:
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
            np.array([inner(self._contraction_at(theta, weights, lam), direction)]),
            np.array([size]),
            "contraction(theta, x, lam)",
            "It must be lam^T (dA/dtheta x - db/dtheta) for any x and lam",
        )

    # ------------------------------------------------------------------ evaluation
    def _matrix_at(self, theta: FloatArray) -> sp.csr_array:
        return _real_matrix(called(self._matrix, "matrix(theta)", as_argument(theta)), "matrix(theta)")

    def _rhs_at(self, theta: FloatArray) -> FloatArray:
        return _real_vector(called(self._rhs, "rhs(theta)", as_argument(theta)), "rhs(theta)")

    def _same_size(self, found: int, n: int) -> None:
        if found != n:
            raise LinearSystemError(f"the number of equations changed from {n} to {found} between calls")

    def _on_pattern(self, matrix: sp.csr_array) -> FloatArray:
        """Values in the order of the pattern, which is made or grown where it has to be."""
        n = matrix.shape[0]
        if self._pattern is not None:
            self._same_size(n, self._pattern.n)
        rows = _rows(matrix)
        keys, values = rows * n + matrix.indices, matrix.data
        if self._kind != "general":
            _require_symmetric(matrix, self._kind)
            upper = matrix.indices >= rows
            keys, values = keys[upper], values[upper]
        if self._pattern is None:
            diagonal = np.arange(n, dtype=np.int64) * (n + 1)
            self._set_pattern(keys if self._kind == "general" else np.union1d(keys, diagonal), n)
        if np.array_equal(keys, self._keys):
            return values
        slots = np.searchsorted(self._keys, keys)
        if not np.array_equal(self._keys[np.minimum(slots, len(self._keys) - 1)], keys):
            self._set_pattern(np.union1d(self._keys, keys), n)
            slots = np.searchsorted(self._keys, keys)
        result = np.zeros(len(self._keys))
        result[slots] = values
        return result

    def _set_pattern(self, keys: npt.NDArray[np.int64], n: int) -> None:
        indptr = np.searchsorted(keys, np.arange(n + 1, dtype=np.int64) * n).astype(np.int64)
        self._keys = keys
        self._pattern = CsrPattern(indptr, (keys % n).astype(np.int32), "full" if self._kind == "general" else "upper")


# ---------------------------------------------------------------------- results of callables
def as_matrix(raw: Any, name: str) -> sp.csr_array:
    """A user's square matrix as a sorted CSR copy without repeated entries, real or complex, or LinearSystemError."""
    if sp.issparse(raw):
        matrix = sp.csr_array(raw, copy=True) if raw.ndim == 2 else raw
    else:
        dense = np.asarray(raw)
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


def _as_vector(raw: Any, name: str) -> npt.NDArray[Any]:
    vector = np.asarray(raw)
    if vector.dtype.kind not in "fiubc" or vector.ndim != 1:
        raise LinearSystemError(f"{name} must be an array of shape (n,), not {vector.dtype} of shape {vector.shape}")
    return vector


def _real_matrix(raw: Any, name: str) -> sp.csr_array:
    matrix = as_matrix(raw, name)
    if matrix.dtype.kind == "c":
        raise LinearSystemError(f"{name} is complex; systems are real: split it into real and imaginary parts")
    return matrix


def _real_vector(raw: Any, name: str) -> FloatArray:
    vector = _as_vector(raw, name)
    if vector.dtype.kind == "c":
        raise LinearSystemError(f"{name} is complex; systems are real: split it into real and imaginary parts")
    return vector.astype(np.float64)


def _rows(matrix: sp.csr_array) -> npt.NDArray[np.int64]:
    """Row of every stored entry."""
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))


def _require_symmetric(matrix: sp.csr_array, kind: MatrixKind) -> None:
    """Compare with the transpose; every difference is judged by the sizes of the two rows and columns it lies in."""
    difference = sp.coo_array(matrix - matrix.T)
    if not difference.nnz:
        return
    magnitude = abs(matrix)
    size = np.maximum(magnitude.max(axis=0).toarray().ravel(), magnitude.max(axis=1).toarray().ravel())
    rows, columns = difference.coords
    excess = np.abs(difference.data) - SYMMETRY_TOLERANCE * np.sqrt(size[rows]) * np.sqrt(size[columns])
    worst = int(np.argmax(excess))
    if excess[worst] > 0:
        i, j = int(rows[worst]), int(columns[worst])
        raise LinearSystemError(
            f"matrix(theta) is not symmetric, as kind={kind!r} says: entry ({i}, {j}) is {matrix[i, j]:.9g}, entry "
            f"({j}, {i}) is {matrix[j, i]:.9g}. Return both triangles, or use kind='general'"
        )


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
