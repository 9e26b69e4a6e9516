"""The equations of a transient problem at a design: ``M u'' + C u' + K u = F(t)`` for the free unknowns.

Supported unknowns follow ``z(t) g(X)`` exactly, with their rates. What they do to the free ones is part of ``F``: a sum
of fixed vectors with coefficients in time, of the loads ``s(t) f`` and of the supports ``-z K g - z' C g - z'' M g``,
where a scheme that takes means over a step takes them of ``z``, ``z'`` and ``z''`` as well.
Damping is that of forms and ``c_M M + c_K K`` besides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from femadj.algebra.constraints import Condensed
from femadj.algebra.implicit import Implicit
from femadj.algebra.residual import State, Weights
from femadj.algebra.stages import LinearStages
from femadj.algebra.stepping import Accumulator, Change, Stages, StepMatrix, along
from femadj.base.arrays import FloatArray
from femadj.base.design import Cotangent, Design
from femadj.conditions.history import Course
from femadj.conditions.supports import unknown_name
from femadj.errors import LoadError, ProblemError
from femadj.problems.fem import FemAtDesign
from femadj.solvers.base import Symbolic
from femadj.solvers.factor import Factor


@dataclass(frozen=True, eq=False)
class Sums:
    """What gradients are collected in on the way back, one row for each of ``k`` responses.

    Attributes
    ----------
    step : (k,)
    initial : (order, k, n)
    damping : (k, 2)
    loads : (n_vectors, k, n)
        By the vectors that ``F`` consists of.
    coefficients : (n_vectors, k, n_times)
        By their coefficients.
    held : (k, n)
        By the values ``g`` of supports, as far as responses read them.
    final : (k,)
        By the final time, as far as responses read it.
    into : list of Cotangent
        By the nodes, or by parameters.
    """

    step: FloatArray
    initial: FloatArray
    damping: FloatArray
    loads: FloatArray
    coefficients: FloatArray
    held: FloatArray
    final: FloatArray
    into: list[Cotangent]

    def arrays(self) -> dict[str, FloatArray]:
        """All of them by name."""
        own = {name: value for name, value in vars(self).items() if name != "into"}
        for number, cotangent in enumerate(self.into):
            own |= {f"{number}:{name}": array for name, array in cotangent.parameters.items()}
            own |= {} if cotangent.points is None else {f"{number}:": cotangent.points}
        return own

    def take(self, arrays: dict[str, FloatArray]) -> None:
        """Go on from arrays that have been kept."""
        for name, array in self.arrays().items():
            array[...] = arrays[name]


@dataclass(frozen=True, eq=False)
class _Inverse:
    """A factorised sum of matrices, at free unknowns."""

    implicit: Implicit

    @property
    def factor(self) -> Factor:
        return self.implicit.factor

    def solve(self, rhs: FloatArray) -> FloatArray:
        constraints = self.implicit.at.constraints
        return constraints.expand(self.implicit.factor.solve(constraints.restrict(rhs)))

    def adjoint(self, rhs: FloatArray) -> FloatArray:
        return self.implicit.adjoint(rhs)


@dataclass(frozen=True, eq=False)
class Motion:
    """Equations at a design, with the times at which they are loaded.

    Attributes
    ----------
    at : FemAtDesign
        Internal terms and supports, without loads.
    order : int
    damping : (2,)
        ``c_M, c_K``.
    damped : bool
        Whether there are forms of damping.
    loads : tuple of FemAtDesign
        Loads with a history in common, without internal terms.
    load_courses : tuple of Course
    held : (n_groups, n) bool
        Unknowns whose supports have a history in common.
    held_courses : tuple of Course
    times : (n_times,)
        By their numbers, see ``algebra.stepping``.
    grid : (n_steps + 1,)
    means : pairs of float, by order of the derivative, or None
        What the scheme takes of fields at the ends of a step, which goes for supported unknowns, too.
    initial : (order, n)
    initial_slopes : tuple of arrays or None
        By position, ``(n_nodes, nc, dim)``.
    symbolic : Symbolic
    """

    at: FemAtDesign
    order: int
    damping: FloatArray
    damped: bool
    loads: tuple[FemAtDesign, ...]
    load_courses: tuple[Course, ...]
    held: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    held_courses: tuple[Course, ...]
    times: FloatArray
    grid: FloatArray
    means: tuple[tuple[float, float], ...] | None
    initial: FloatArray
    initial_slopes: tuple[FloatArray | None, ...]
    symbolic: Symbolic

    # ------------------------------------------------------------------ matrices
    def require_inertia(self) -> None:
        """ProblemError for free unknowns whose highest time derivative no term multiplies."""
        pattern, free = self.at.structure, ~self.at.constraints.constrained
        values = np.abs(self.at.operator(self.order).values)
        sizes = np.bincount(pattern.rows, values, pattern.n) + np.bincount(pattern.indices, values, pattern.n)
        without = np.flatnonzero(free & (sizes == 0))
        if len(without):
            supports = self.at.problem.supports
            where = unknown_name(supports.space, supports.names, int(without[0]))
            raise ProblemError(
                f"{len(without)} unknowns have no inertia, the first is {where}: every part of the unknown needs a "
                f"density, or a form with rate={self.order}. Constraints without inertia (incompressibility) are not "
                "integrated in time"
            )

    def stages(self, weights: tuple[float, ...]) -> Stages:
        """The equations of stages: one matrix."""
        return LinearStages.of(self, weights)

    def matrix(self, weights: tuple[float, ...]) -> StepMatrix:
        """``sum_r weights[r] A_r``, factorised."""
        return self.factorised(self.at.combined(self.weighted(weights)))

    def weighted(self, weights: tuple[float, ...]) -> tuple[float, ...]:
        """Weights of the matrices of forms, from those of the equations, by Rayleigh's damping."""
        if self.order == 1:
            return weights
        of_k, of_c, of_m = weights
        by_mass, by_stiffness = self.damping
        return of_k + by_stiffness * of_c, of_c if self.damped else 0.0, of_m + by_mass * of_c

    def factorised(self, condensed: Condensed) -> StepMatrix:
        """A factor of a matrix."""
        factor = self.symbolic.factor(condensed.values, rounding=self.at.problem.rounding)
        return _Inverse(Implicit(self.at, State(self.at.lifting), factor))

    @property
    def numbers(self) -> list[FloatArray]:
        """What the equations are made of, loads apart: for a checksum."""
        return [self.at.operator(rate).values for rate in range(self.order + 1)]

    def require_linear_at(self, u: FloatArray) -> None:
        """FormError for forms that are not what they are said to be at a solution ``(n_nodes, nc)``."""
        self.at.require_linear_at(u)

    def state(self, fields: Sequence[FloatArray | None]) -> State:
        """The state whose internal forces are ``sum_r A_r fields[r]``, damping by the other matrices included."""
        zero = np.zeros((1, self.at.space.n_dofs))
        rows = [zero if field is None else np.asarray(field).reshape(1, -1) for field in fields]
        if self.order == 2:
            by_mass, by_stiffness = self.damping
            return State(rows[0] + by_stiffness * rows[1], (rows[1], rows[2] + by_mass * rows[1]))
        return State(rows[0], (rows[1],))

    def products(self, fields: Sequence[FloatArray | None]) -> FloatArray:
        """``sum_r A_r fields[r]`` at all unknowns, ``(n,)``."""
        state = self.state(fields)
        result = np.zeros(self.at.space.n_dofs)
        for rate in self._rates:
            derivative = state.derivative(rate)
            if derivative is not None and derivative.any():
                result += self.at.jvp(state, derivative, rate)[0]
        return result

    def forces(self, fields: tuple[FloatArray | None, ...]) -> FloatArray:
        """The same at free unknowns."""
        return self.at.constraints.restrict(self.products(fields))

    @property
    def _rates(self) -> tuple[int, ...]:
        return (0, 1) if self.order == 1 else (0, 1, 2) if self.damped else (0, 2)

    def whole_transposed(self, lam: FloatArray) -> tuple[FloatArray, ...]:
        """``A_r^T lam`` by ``r`` at all unknowns, for the rows of ``lam``."""
        state = State(self.at.lifting)
        found = {rate: self.at.vjp(state, lam, rate) for rate in self._rates}
        if self.order == 1:
            return found[0], found[1]
        of_c = self.damping[0] * found[2] + self.damping[1] * found[0]
        return found[0], of_c + found[1] if self.damped else of_c, found[2]

    def transposed(self, lam: FloatArray) -> tuple[FloatArray, ...]:
        """The same at free unknowns."""
        return tuple(self.at.constraints.restrict(each) for each in self.whole_transposed(lam))

    # ------------------------------------------------------------------ what drives the motion
    @cached_property
    def prescribed(self) -> FloatArray:
        """Values ``g`` of supports, ``(n_groups, n)``; no groups where all are zero, wherever the nodes are."""
        values = self.at.prescribed
        if values.homogeneous and not values.moves:
            return np.zeros((0, self.at.space.n_dofs))
        return np.where(self.held, values.values.ravel(), 0.0)

    def prescribed_rates(self, velocity: FloatArray | None) -> FloatArray:
        """Rates of these values along node velocities."""
        found = np.zeros_like(self.prescribed)
        if velocity is not None and len(found):
            found[...] = np.where(self.held, self.at.prescribed.pushforward(velocity).ravel(), 0.0)
        return found

    @cached_property
    def _driven(self) -> list[tuple[int, int]]:
        """Group and order of the derivative of its history, of every vector that comes from supports."""
        return [
            (group, rate)
            for group in range(len(self.prescribed))
            for rate in range(1 if self.held_courses[group].constant else self.order + 1)
        ]

    @cached_property
    def vectors(self) -> FloatArray:
        """What ``F`` consists of, ``(n_vectors, n)``: loads first, then what supports do."""
        rows = [load.load.ravel() for load in self.loads]
        for group, rate in self._driven:
            rows.append(-self.products([self.prescribed[group] if r == rate else None for r in range(self.order + 1)]))
        return self.at.constraints.restrict(np.array(rows).reshape(len(rows), self.at.space.n_dofs))

    @cached_property
    def coefficients(self) -> FloatArray:
        """Their coefficients at all times, ``(n_vectors, n_times)``."""
        return self._in_time(lambda course, times, rate: course.at(times, rate))

    @cached_property
    def stretched(self) -> FloatArray:
        """Rates of the coefficients as all times are stretched; LoadError where a history is not what it was."""
        if not np.array_equal(self._in_time(lambda course, times, rate: course.at(times, rate)), self.coefficients):
            raise LoadError(
                "a history gives other values than when the problem was solved: something that it refers to has been "
                "changed since. Solve again after a change"
            )
        return self._in_time(lambda course, times, rate: times * course.at(times, rate + 1))

    def _in_time(self, read: Callable[[Course, FloatArray, int], FloatArray]) -> FloatArray:
        rows = [read(course, self.times, 0) for course in self.load_courses]
        for group, rate in self._driven:
            course = self.held_courses[group]
            if self.means is None:
                rows.append(read(course, self.times, rate))
                continue
            found, (start, end) = read(course, self.grid, rate), self.means[rate]
            rows.append(np.concatenate([found[:1], start * found[:-1] + end * found[1:]]))
        return np.array(rows).reshape(len(rows), len(self.times))

    def load(self, number: int) -> FloatArray:
        """``F`` at the time of that number."""
        total = np.zeros(self.at.space.n_dofs)
        for coefficient, vector in zip(self.coefficients[:, number], self.vectors, strict=True):
            total += coefficient * vector
        return total

    def held_at(self, times: FloatArray, rate: int) -> FloatArray:
        """Coefficients of the values of supports at other times, ``(n_groups, n)``."""
        groups = range(len(self.prescribed))
        return np.array([self.held_courses[g].at(times, rate) for g in groups]).reshape(len(groups), len(times))

    # ------------------------------------------------------------------ gradients
    def sums(self, responses: int, into: list[Cotangent]) -> Sums:
        """Zeros."""
        n, k, vectors = self.at.space.n_dofs, responses, len(self.vectors)
        return Sums(
            np.zeros(k), np.zeros((self.order, k, n)), np.zeros((k, 2)), np.zeros((vectors, k, n)),
            np.zeros((vectors, k, len(self.times))), np.zeros((k, n)), np.zeros(k), into,
        )  # fmt: skip

    def collect(
        self,
        number: int,
        fields: tuple[FloatArray, ...],
        lam: FloatArray,
        products: tuple[FloatArray, ...],
        into: Accumulator,
    ) -> None:
        """Add ``lam^T (dF(t) - sum_r dA_r fields[r])``."""
        assert isinstance(into, Sums)
        self._contract(fields, lam, into.into)
        if self.order == 2:
            into.damping[:, 0] -= along(products[2], fields[1])
            into.damping[:, 1] -= along(products[0], fields[1])
        for vector, row in enumerate(self.vectors):
            into.loads[vector] += self.coefficients[vector, number] * lam
            into.coefficients[vector, :, number] += along(lam, row)

    def _contract(self, fields: Sequence[FloatArray | None], lam: FloatArray, into: Sequence[Cotangent]) -> None:
        self.at.pullback(self.state(fields), [Weights(row[None], row[None]) for row in lam], into)

    def along(self, direction: Design, damping: FloatArray, stretch: float) -> Change:
        """What a direction makes of the equations.

        Parameters
        ----------
        direction : Design
            Node velocities, rates of the parameters of physics and loads.
        damping : (2,)
            Rates of the constants of damping.
        stretch : float
            Relative rate of all times.
        """
        held = self.prescribed_rates(direction.points)

        def internal(fields: Sequence[FloatArray | None]) -> FloatArray:
            rates = self.at.pushforward(self.state(fields), [direction])[0][0, 0]
            if self.order == 2 and damping.any() and fields[1] is not None:
                rates = rates + self.products((damping[1] * fields[1], None, damping[0] * fields[1]))
            return np.asarray(rates)

        nothing = State(np.zeros((1, self.at.space.n_dofs)))
        rows = [-load.pushforward(nothing, [direction])[0][0, 0] for load in self.loads]
        for group, rate in self._driven:
            value, moved = (
                [row if r == rate else None for r in range(self.order + 1)]
                for row in (self.prescribed[group], held[group])
            )
            rows.append(-internal(value) - self.products(moved))
        vectors = np.array(rows).reshape(len(rows), self.at.space.n_dofs)

        def change(number: int, fields: tuple[FloatArray, ...]) -> FloatArray:
            total = -internal(fields)
            for vector, row in enumerate(vectors):
                total += self.coefficients[vector, number] * row
                if stretch:
                    total += stretch * self.stretched[vector, number] * self.vectors[vector]
            return self.at.constraints.restrict(total)

        return change

    def finish(self, sums: Sums) -> None:
        """Add what depends on the design through the vectors of ``F``, supports and initial values."""
        nothing = State(np.zeros((1, self.at.space.n_dofs)))
        for load, lam in zip(self.loads, sums.loads, strict=False):
            load.pullback(nothing, [Weights(row[None], row[None]) for row in lam], sums.into)
        by_values = sums.held
        for (group, rate), lam in zip(self._driven, sums.loads[len(self.loads) :], strict=True):
            fields = [self.prescribed[group] if r == rate else None for r in range(self.order + 1)]
            self._contract(fields, lam, sums.into)
            whole = self.whole_transposed(lam)
            by_values = by_values - np.where(self.held[group], whole[rate], 0.0)
            if self.order == 2 and rate == 1:
                sums.damping[:, 0] -= along(whole[2], self.prescribed[group])
                sums.damping[:, 1] -= along(whole[0], self.prescribed[group])
        shape = self.at.space.shape
        for number, cotangent in enumerate(sums.into):
            if cotangent.points is None:
                continue
            if self.at.prescribed.moves:
                cotangent.points[...] += self.at.prescribed.pullback(by_values[number].reshape(shape))
            for bars, slopes in zip(sums.initial, self.initial_slopes, strict=True):
                if slopes is not None:
                    bar = self.at.constraints.restrict(bars[number]).reshape(shape)
                    cotangent.points[...] += np.einsum("ai,aij->aj", bar, slopes)
