"""The equations of a nonlinear problem over time: ``M u'' + C u' + r(u) = F(t)``, ``M u' + r(u) = F(t)``.

All that is linear in the time derivatives, loads included, is a ``Motion`` without stiffness; here is ``r``, in the
fields of all unknowns: ``r(q + z(t) g)`` for the free ones and their supports.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from femadj.algebra.constraints import Condensed, Selection
from femadj.algebra.newton import Forces, Newton, balanced
from femadj.algebra.residual import State, Weights
from femadj.algebra.stepping import Accumulator, Change, Stages, StepMatrix, along
from femadj.base.arrays import FloatArray
from femadj.base.design import Design
from femadj.errors import ConvergenceError, ProblemError
from femadj.problems.motion import Motion, Sums
from femadj.problems.nonlinear_fem import NonlinearAtDesign
from femadj.progress import Phases
from femadj.solvers.factor import Factor
from femadj.solvers.structure import CsrPattern

_PROBE = 1e-3
"""How far from the initial field, of its size or that of the cells, nonlinear forces are looked at for a checksum."""


@dataclass(frozen=True, eq=False)
class NonlinearMotion(Motion):
    """Equations at a design; ``at`` has the terms of time derivatives alone.

    Attributes
    ----------
    static : NonlinearAtDesign
        The other terms, and supports.
    newton : Newton
    latest : list
        Number, free field and ``r'`` where derivatives were taken last, as many as a step has stages: products of all
        directions and responses share the matrix.
    """

    static: NonlinearAtDesign
    newton: Newton
    latest: list[tuple[int, FloatArray, Condensed]] = field(default_factory=list)

    def stages(self, weights: tuple[float, ...]) -> Stages:
        """The equations of stages: a tangent for each."""
        return TangentStages(self, weights)

    @property
    def numbers(self) -> list[FloatArray]:
        """Those of the linear part, forces and tangents about the initial field, and how steps are solved."""
        start, n = self.field_at(0, self.initial[0]), self.at.space.n_dofs
        cell = float(np.ptp(self.at.points, axis=0).max()) / max(1, len(self.at.points))
        aside = (
            _PROBE
            * (float(np.abs(start).max()) or cell)
            * self.at.constraints.restrict(np.abs(np.sin(np.arange(n) + 1.0)))
        )
        found = super().numbers
        for u in (start, start + aside):
            found += [self.static.forces(u, 1.0).internal, self.static.tangent(u, 1.0).values]
        return [*found, np.array([self.newton.tolerance, self.newton.max_iterations, self.newton.line_search])]

    def require_linear_at(self, u: FloatArray) -> None:
        """FormError for forms that are not what they are said to be at a solution."""
        super().require_linear_at(u)
        self.static.require_linear_at(u)

    # ------------------------------------------------------------------ fields with their supports
    @cached_property
    def _followed(self) -> list[tuple[int, int]]:
        """Row of the coefficients, and group, of the values that supports prescribe."""
        rows = enumerate(self._driven, start=len(self.loads))
        return [(row, group) for row, (group, rate) in rows if rate == 0]

    def field_at(self, number: int, free: FloatArray) -> FloatArray:
        """All unknowns at the time of that number, ``(n,)``, from the free ones."""
        u = free
        for row, group in self._followed:
            u = u + self.coefficients[row, number] * self.prescribed[group]
        return u

    def internal(self, number: int, free: FloatArray) -> FloatArray:
        """``r`` at all unknowns, ``(n,)``."""
        return self.static.forces(self.field_at(number, free), 1.0).internal

    def combined(self, stiffness: Condensed, weights: tuple[float, ...]) -> Condensed:
        """``weights[0] r' + sum_(r > 0) weights[r] A_r``, supports applied, from ``r'``."""
        rates = enumerate(self.weighted(weights)[1:], start=1)
        parts = [(weight, self.at.operator(rate)) for rate, weight in rates if weight]
        return self.at.constraints.combined([(weights[0], stiffness), *parts])

    @property
    def n_stages(self) -> int:
        """Of a step."""
        return (len(self.times) - 1) // (len(self.grid) - 1)

    def stiffness(self, number: int, free: FloatArray) -> Condensed:
        """``r'`` where derivatives are taken."""
        for known, then, matrix in self.latest:
            if known == number and np.array_equal(then, free):
                return matrix
        made = self.static.tangent(self.field_at(number, free), 1.0)
        self.latest[:] = [(number, free, made), *self.latest[: self.n_stages - 1]]
        return made

    def by_state(self, number: int, free: FloatArray, x: FloatArray, *, transpose: bool = False) -> FloatArray:
        """``r' x`` or ``r'^T x`` at all unknowns, for the rows of ``x``."""
        matrix = self.stiffness(number, free)
        return matrix.times(self.at.structure, self.at.constraints, x, transpose=transpose)

    def transposed_at(self, number: int, free: FloatArray, lam: FloatArray) -> tuple[FloatArray, ...]:
        """``r'^T lam`` and ``A_r^T lam`` at free unknowns."""
        _, *others = self.transposed(lam)
        return self.at.constraints.restrict(self.by_state(number, free, lam, transpose=True)), *others

    # ------------------------------------------------------------------ gradients
    def collect(
        self,
        number: int,
        fields: tuple[FloatArray, ...],
        lam: FloatArray,
        products: tuple[FloatArray, ...],
        into: Accumulator,
    ) -> None:
        """Add ``lam^T (dF(t) - dr - sum_(r > 0) dA_r fields[r])``, what supports do included."""
        assert isinstance(into, Sums)
        super().collect(number, fields, lam, products, into)
        state = State(self.field_at(number, fields[0])[None])
        self.static.pullback(state, [Weights(row[None], row[None]) for row in lam], into.into)
        if not self._followed:
            return
        by_state = -self.by_state(number, fields[0], lam, transpose=True)
        for row, group in self._followed:
            into.held[...] += np.where(self.held[group], self.coefficients[row, number] * by_state, 0.0)
            into.coefficients[row, :, number] += along(by_state, self.prescribed[group])

    def along(self, direction: Design, damping: FloatArray, stretch: float) -> Change:
        """What a direction makes of the equations."""
        linear, held = super().along(direction, damping, stretch), self.prescribed_rates(direction.points)

        def change(number: int, fields: tuple[FloatArray, ...]) -> FloatArray:
            state = State(self.field_at(number, fields[0])[None])
            total = self.static.pushforward(state, [direction])[0][0, 0]
            moved = np.zeros_like(total)
            for row, group in self._followed:
                moved += self.coefficients[row, number] * held[group]
                if stretch:
                    moved += stretch * self.stretched[row, number] * self.prescribed[group]
            if moved.any():
                total = total + self.by_state(number, fields[0], moved)
            return linear(number, fields) - self.at.constraints.restrict(total)

        return change


@dataclass(frozen=True, eq=False)
class TangentStages:
    """``r(q) + sum_(r > 0) A_r (fields_r + weights_r x) = F(t)`` with ``q = fields_0 + weights_0 x``.

    Iterations are those of the field ``q``. Where it does not depend on ``x``, there is one matrix for all.

    Attributes
    ----------
    motion : NonlinearMotion
    weights : tuple of float
    latest : list
        Number, field and matrix of the last tangents that derivatives were taken with, as many as a step has stages:
        all directions of a step share them.
    """

    motion: NonlinearMotion
    weights: tuple[float, ...]
    latest: list[tuple[int, FloatArray, StepMatrix]] = field(default_factory=list)

    @property
    def factor(self) -> Factor:
        """None serves for all steps."""
        raise ProblemError(
            "every step of a nonlinear problem has a tangent of its own: there is no factor of the steps"
        )

    @cached_property
    def _constant(self) -> StepMatrix:
        """The matrix where ``q`` is given."""
        return self.motion.matrix(self.weights)

    def _matrix(self, number: int, free: FloatArray) -> StepMatrix:
        """The factorised tangent of a stage."""
        if not self.weights[0]:
            return self._constant
        for known, field_then, matrix in self.latest:
            if known == number and np.array_equal(field_then, free):
                return matrix
        motion = self.motion
        made = motion.factorised(motion.combined(motion.stiffness(number, free), self.weights))
        self.latest[:] = [(number, free, made), *self.latest[: motion.n_stages - 1]]
        return made

    def solve(self, number: int, fields: tuple[FloatArray | None, ...], near: FloatArray) -> FloatArray:
        """``x`` of a stage."""
        motion = self.motion
        base = np.zeros_like(near) if fields[0] is None else fields[0]
        if not self.weights[0]:
            known = motion.internal(number, base) + motion.products((None, *fields[1:]))
            return self._constant.solve(motion.load(number) - known)
        stage = _Stage(motion, number, self.weights, (base, *fields[1:]))
        try:
            found = balanced(stage, motion.newton, stage.factorise, Phases(), near).u
        except ConvergenceError as error:
            raise ConvergenceError(self._told(number, error)) from error
        return (found - base) / self.weights[0]

    def _told(self, number: int, error: ConvergenceError) -> str:
        motion = self.motion
        steps, step = len(motion.grid) - 1, 1 + (number - 1) // motion.n_stages
        return (
            f"Newton's method finds no solution in step {step} of {steps}, at time {motion.times[number]:.6g}; it "
            f"ended: {error}. Take shorter steps (Times(final, steps)), look at loads and material there, or allow for "
            "more: solve(newton=Newton(max_iterations=...)). What was found before is in error.u and error.path"
        )

    def forward(
        self, number: int, fields: tuple[FloatArray, ...], moved: tuple[FloatArray | None, ...], change: Change
    ) -> FloatArray:
        """The rate of ``x``."""
        rest = change(number, fields) - self.motion.forces((None, *moved[1:]))
        if moved[0] is not None and moved[0].any():
            by_state = self.motion.by_state(number, fields[0], moved[0])
            rest = rest - self.motion.at.constraints.restrict(by_state)
        return self._matrix(number, fields[0]).solve(rest)

    def adjoint(
        self, number: int, fields: tuple[FloatArray, ...], bar: FloatArray
    ) -> tuple[FloatArray, tuple[FloatArray, ...]]:
        """The adjoint state, by the tangent at the solution, and its products."""
        lam = self._matrix(number, fields[0]).adjoint(bar)
        return lam, self.motion.transposed_at(number, fields[0], lam)


@dataclass(frozen=True, eq=False)
class _Stage:
    """The forces of a stage as a function of the free field, for Newton's method: a ``Balance``.

    Those of inertia and damping count as loads, which tells how small the residual must become where there are none.
    """

    motion: NonlinearMotion
    number: int
    weights: tuple[float, ...]
    given: tuple[FloatArray | None, ...]

    @property
    def structure(self) -> CsrPattern:
        return self.motion.at.structure

    @property
    def constraints(self) -> Selection:
        return self.motion.at.constraints

    @cached_property
    def lifting(self) -> FloatArray:
        return np.zeros((1, self.motion.at.space.n_dofs))

    @cached_property
    def _load(self) -> FloatArray:
        return self.motion.load(self.number)

    @cached_property
    def _relative(self) -> tuple[float, ...]:
        return tuple(weight / self.weights[0] for weight in self.weights)

    def forces(self, u: FloatArray, level: float) -> Forces:
        base = self.given[0]
        assert base is not None
        rates = [
            weight * (u - base) if given is None else given + weight * (u - base)
            for weight, given in zip(self._relative[1:], self.given[1:], strict=True)
        ]
        return Forces(self.motion.internal(self.number, u), self._load - self.motion.products((None, *rates)))

    def tangent(self, u: FloatArray, level: float) -> Condensed:
        stiffness = self.motion.static.tangent(self.motion.field_at(self.number, u), 1.0)
        return self.motion.combined(stiffness, self._relative)

    def factorise(self, values: FloatArray) -> Factor:
        return self.motion.symbolic.factor(values, rounding=self.motion.at.problem.rounding)
