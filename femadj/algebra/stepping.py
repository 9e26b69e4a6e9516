"""What goes step by step, and back again: protocols of equations in time, of schemes, and of their steps.

Steps are discretised first and differentiated then, so that gradients are those of the numbers that come out.

A state of a scheme is one array ``(rows, n)``: the unknowns, their time derivatives up to the order of the equations,
what else the next step depends on, and what else the scheme needs to run backwards. Cotangents of states are
``(carried, k, n)`` for ``k`` responses and the rows that steps depend on.
Equations number the times at which they are loaded: 0 is the start, ``1 + k s + i`` stage ``i`` of ``s`` in step ``k``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.solvers.factor import Factor


class StepMatrix(Protocol):
    """A factorised sum of the matrices of equations; zero is solved for where unknowns are not free."""

    @property
    def factor(self) -> Factor:
        """The factorised matrix."""
        ...

    def solve(self, rhs: FloatArray) -> FloatArray:
        """Solve for ``(n,)``."""
        ...

    def adjoint(self, rhs: FloatArray) -> FloatArray:
        """Solve the transposed equations for the rows of ``(k, n)``."""
        ...


class Accumulator(Protocol):
    """What gradients are collected in, one row for each response; arrays are added to in place."""

    @property
    def step(self) -> FloatArray:
        """By the length of a step, at fixed forces, ``(k,)``."""
        ...

    @property
    def initial(self) -> FloatArray:
        """By the initial values, ``(order, k, n)``."""
        ...


Change = Callable[[int, tuple[FloatArray, ...]], FloatArray]
"""What a direction makes of the equations: ``dF - sum_r dA_r fields[r]`` at the time of a number, ``(n,)``."""


class Stages(Protocol):
    """What a scheme solves: ``x`` with ``sum_r A_r (fields_r + weights_r x) = F(t)``, and that differentiated.

    ``A_0`` may be nonlinear; its tangent takes its place in derivatives. Weights are those it was made with.
    """

    @property
    def factor(self) -> Factor:
        """The factorised ``sum_r weights_r A_r``, where it is the same for all steps; ProblemError where it is not."""
        ...

    def solve(self, number: int, fields: tuple[FloatArray | None, ...], near: FloatArray) -> FloatArray:
        """``x`` at the time of that number, ``(n,)``; None is zero. Iterations begin where the unknowns are ``near``.

        ConvergenceError where iterations find nothing.
        """
        ...

    def forward(
        self, number: int, fields: tuple[FloatArray, ...], moved: tuple[FloatArray | None, ...], change: Change
    ) -> FloatArray:
        """The rate of ``x``, from the solved fields and the rates of what was given of them."""
        ...

    def adjoint(
        self, number: int, fields: tuple[FloatArray, ...], bar: FloatArray
    ) -> tuple[FloatArray, tuple[FloatArray, ...]]:
        """``lam`` of the transposed equations at solved fields, and ``A_r^T lam`` by ``r``; for the rows of ``bar``."""
        ...


class Equations(Protocol):
    """``sum_r A_r d^r u / dt^r = F(t)`` at a design. Arrays are zero where unknowns are not free."""

    @property
    def order(self) -> int:
        """Of the highest time derivative."""
        ...

    @property
    def initial(self) -> FloatArray:
        """Initial values of the unknowns and of the derivatives below the highest, ``(order, n)``."""
        ...

    def stages(self, weights: tuple[float, ...]) -> Stages:
        """The equations of stages with such weights."""
        ...

    def collect(
        self,
        number: int,
        fields: tuple[FloatArray, ...],
        lam: FloatArray,
        products: tuple[FloatArray, ...],
        into: Accumulator,
    ) -> None:
        """Add ``lam^T (dF(t) - sum_r dA_r fields[r])`` by all that the equations depend on but the times.

        ``lam`` and ``products`` are what ``Stages.adjoint`` gives.
        """
        ...


class LinearEquations(Equations, Protocol):
    """Equations whose matrices are the same in all states."""

    def matrix(self, weights: tuple[float, ...]) -> StepMatrix:
        """``sum_r weights[r] A_r``, factorised."""
        ...

    def forces(self, fields: tuple[FloatArray | None, ...]) -> FloatArray:
        """``sum_r A_r fields[r]``, ``(n,)``; None is zero."""
        ...

    def transposed(self, lam: FloatArray) -> tuple[FloatArray, ...]:
        """``A_r^T lam`` by ``r`` for the rows of ``(k, n)``."""
        ...

    def load(self, number: int) -> FloatArray:
        """``F`` at the time of that number, ``(n,)``."""
        ...


class Stepper(Protocol):
    """Something that goes step by step, and back again."""

    def first(self) -> FloatArray:
        """The state at the start."""
        ...

    def step(self, y: FloatArray, k: int) -> FloatArray:
        """The state after step ``k``, from the one before it."""
        ...

    def back(self, y: FloatArray, new: FloatArray, k: int, bar: FloatArray, into: Accumulator) -> FloatArray:
        """The cotangent of ``y`` from that of ``new = step(y, k)``; adds to the gradients."""
        ...

    def back_first(self, y: FloatArray, bar: FloatArray, into: Accumulator) -> None:
        """Add what depends on the state at the start."""
        ...


class SchemeStepper(Stepper, Protocol):
    """A scheme on equations, which also goes along directions."""

    @property
    def stages(self) -> Stages:
        """What is solved in the steps."""
        ...

    def forward_first(self, y: FloatArray, initial: FloatArray, change: Change) -> FloatArray:
        """The rate of the state at the start along a direction, from that of the initial values."""
        ...

    def forward(self, y: FloatArray, new: FloatArray, k: int, dy: FloatArray, dt: float, change: Change) -> FloatArray:
        """The rate of ``new = step(y, k)`` from those of ``y`` and of the length of a step."""
        ...


class Scheme(Protocol):
    """How a step is taken."""

    @property
    def order(self) -> int:
        """Order of the time derivative in the equations that it solves."""
        ...

    @property
    def abscissae(self) -> tuple[float, ...]:
        """Where in a step the equations are loaded, as fractions of it."""
        ...

    @property
    def means(self) -> tuple[tuple[float, float], ...] | None:
        """By order of the derivative, what the equations take of a field at the start and at the end of a step.

        None where they take it at the abscissae.
        """
        ...

    @property
    def rows(self) -> int:
        """Rows of a state."""
        ...

    @property
    def carried(self) -> int:
        """Rows of a state that the next step depends on; the first ones."""
        ...

    def stepper(self, equations: Equations, dt: float) -> SchemeStepper:
        """The scheme on equations, with a step length."""
        ...


def along(rows: FloatArray, x: FloatArray) -> FloatArray:
    """Inner products of the rows of ``(..., n)`` with ``(n,)``, summed without BLAS (see ``base.arrays.inner``)."""
    return np.asarray((rows * x).sum(axis=-1))
