"""Nonlinear static problems: Newton's method forward, one transposed solve on its last factor for each gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from femadj.algebra.implicit import Implicit, Iterated, Seed
from femadj.algebra.newton import Equilibrium, LoadStep, Newton, equilibrium
from femadj.algebra.residual import State, Weights
from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import as_array
from femadj.base.design import Cotangent
from femadj.conditions.loads import Load
from femadj.conditions.supports import Fixed, Supports
from femadj.errors import (
    ConvergenceError,
    IllConditionedError,
    IndefiniteSystemError,
    ProblemError,
    SingularSystemError,
)
from femadj.forms.term import Term
from femadj.mesh import Mesh
from femadj.physics import BoundPhysics, Physics
from femadj.problems.fem import FemAtDesign, FemResidual
from femadj.problems.gradient import Gradient, Partials
from femadj.problems.linear_static import Static
from femadj.problems.nonlinear_fem import NonlinearAtDesign, NonlinearResidual
from femadj.problems.problem import located
from femadj.problems.solution import Solution
from femadj.progress import Phases, Progress
from femadj.solvers.base import Solver
from femadj.solvers.factor import Factor
from femadj.space.discretisation import Discretisation
from femadj.space.parameters import Parameters


class NonlinearStatic(Static):
    """``R(u; X) = 0`` with supports: internal forces that are nonlinear in u, loads that may follow it.

    Solved by Newton's method with load steps, one factorisation an iteration. Gradients take one transposed solve on
    the last factor, refined with the tangent at the solution; no factorisation.

    Parameters
    ----------
    mesh, physics, supports, loads, solver, threads, quadrature_order, progress
        As of ``LinearStatic``; the physics is a ``Hyperelastic``, a ``NonlinearForm`` or any linear one, and a
        ``Pressure`` may be ``follower=True``.
    newton : Newton, optional
        How it is solved.

    Raises
    ------
    FemadjError
        Whatever is wrong with the input, before anything is computed.
    """

    def __init__(
        self,
        mesh: Mesh,
        physics: Physics,
        supports: Sequence[Fixed] = (),
        loads: Sequence[Load] = (),
        *,
        newton: Newton | None = None,
        solver: str | Solver = "auto",
        threads: int | None = None,
        quadrature_order: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        if newton is not None and not isinstance(newton, Newton):
            raise ProblemError(f"newton must be Newton(...), not {newton!r}")
        self._newton = newton or Newton()
        super().__init__(
            mesh, physics, supports, loads, solver=solver, threads=threads, quadrature_order=quadrature_order,
            progress=progress,
        )  # fmt: skip

    def _analyse(self) -> None:
        self._symbolic = self._solver.analyse(self._residual.structure, self._residual.kind, unknowns=self._unknowns)

    def _residual_of(
        self,
        space: Discretisation,
        physics: BoundPhysics,
        loads: Sequence[Term],
        supports: Supports,
        parameters: Parameters,
    ) -> FemResidual:
        follows = any(not term.linear for term in loads)
        bound = replace(physics, symmetric=False, definite=False) if follows else physics
        return NonlinearResidual.of(space, bound, loads, supports, parameters)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was made from, by the names of the arguments; all but who is notified of phases."""
        return {**super().arguments, "newton": self._newton}

    @property
    def newton(self) -> Newton:
        """How it is solved."""
        return self._newton

    def rebuilt(self, points: npt.ArrayLike) -> NonlinearStatic:
        """The same problem built anew, from scratch, on a mesh with other reference coordinates."""
        return NonlinearStatic(**{**self.arguments, "mesh": self._mesh.with_points(points)})

    def solve(
        self,
        points: npt.ArrayLike | None = None,
        parameters: Mapping[str, npt.ArrayLike] | None = None,
        *,
        start: Solution | npt.ArrayLike | None = None,
    ) -> NonlinearSolution:
        """Find an equilibrium at the given node coordinates (the mesh's own when left out).

        Parameters
        ----------
        points : (n_nodes, dim), optional
        parameters : mapping of name to values, optional
            Values that differ from the declared ones.
        start : solution or (n_nodes, nc) array, optional
            A state near by, of the design before for instance. The whole loads act at once; the equilibrium is the one
            on the same branch. From rest when left out, in load steps.

        Returns
        -------
        NonlinearSolution
            Owns the last factor; adjoint solves reuse it.

        Raises
        ------
        ConvergenceError
            Where no equilibrium is found; its ``level``, ``u`` and ``path`` are what was found on the way.
        SingularSystemError, IndefiniteSystemError
            Where the tangent at rest has no factor; the message names node and component where known.
        FormError, InvalidMeshError, TangledMeshError
            For forms without a value at rest, forms that are not linear in v, and unusable coordinates.
        """
        outer, phases = Phases(self.progress), Phases()
        put = self._put(points, parameters, outer)
        assert isinstance(put, NonlinearAtDesign)
        shape = put.space.shape
        begin = None if start is None else _state(start, shape).ravel()
        try:
            with outer("iterate"):  # shown as one phase, measured as three
                found = equilibrium(put, self._newton, self._factor, phases, begin)
        except (SingularSystemError, IndefiniteSystemError, IllConditionedError) as error:
            raise located(error, put.space, self._physics) from error
        except ConvergenceError as error:
            u = None if error.u is None else error.u.reshape(shape)
            path = [replace(step, u=step.u.reshape(shape)) for step in error.path]
            raise ConvergenceError(str(error), error.level, u, path) from error
        spent = {name: seconds + outer.seconds.get(name, 0.0) for name, seconds in phases.seconds.items()}
        solution = NonlinearSolution.of(self, put, found, spent)
        put.require_linear_at(solution.u)
        return solution

    def _factor(self, values: FloatArray) -> Factor:
        return self._symbolic.factor(values, rounding=self._residual.rounding)


def _state(start: Any, shape: tuple[int, ...]) -> FloatArray:
    """The state that a solve begins at."""
    return as_array(start.u if isinstance(start, Solution) else start, shape, "start", ProblemError)


@dataclass(frozen=True, eq=False, repr=False)
class NonlinearSolution(Solution):
    """An equilibrium at fixed node coordinates.

    Attributes
    ----------
    problem : NonlinearStatic
    at : NonlinearAtDesign
        The residual at the design, with its products.
    iterated : Iterated
        Residual, state and last factor.
    left : (n_nodes, nc)
        What the iterations left of the residual at free unknowns.
    iterations : int
        Factorisations that it took, those of load steps that failed included.
    path : tuple of LoadStep
        The equilibria on the way, the last one being this, each with its residuals.
    seconds : mapping of phase to seconds
    """

    problem: NonlinearStatic
    at: NonlinearAtDesign
    iterated: Iterated
    left: FloatArray
    iterations: int
    path: tuple[LoadStep, ...]
    seconds: Mapping[str, float]

    _name = "NonlinearSolution"

    @classmethod
    def of(
        cls, problem: NonlinearStatic, at: NonlinearAtDesign, found: Equilibrium, seconds: Mapping[str, float]
    ) -> NonlinearSolution:
        """What Newton's method has found."""
        shape = at.space.shape
        for array in (found.residual, *(step.u for step in found.path)):
            array.setflags(write=False)
        path = tuple(replace(step, u=step.u.reshape(shape)) for step in found.path)
        iterated = Iterated(at, State(found.u[None]), found.factor, found.error)
        return cls(problem, at, iterated, found.residual.reshape(shape), found.iterations, path, seconds)

    @property
    def implicit(self) -> Implicit:
        """Residual, state and factor: what derivatives are made of."""
        return self.iterated

    def shifted(self, at: FemAtDesign, state: State) -> NonlinearSolution:
        """The same with another design and state, for what looks at these alone: responses."""
        moved: Any = at
        return replace(self, at=moved, iterated=replace(self.iterated, at=at, state=state))

    @property
    def load(self) -> FloatArray:
        """Nodal forces of the loads at the solution, ``(n_nodes, nc)``."""
        return self.at.load + self.at.following(self.u)

    @property
    def residuals(self) -> tuple[float, ...]:
        """Residuals of the last load step, before the first iteration and after each, relative to the loads."""
        return self.path[-1].residuals

    def again(
        self, points: npt.ArrayLike | None = None, parameters: Mapping[str, npt.ArrayLike] | None = None
    ) -> NonlinearSolution:
        """The problem built anew at other node coordinates and solved from here on: the equilibrium on this branch."""
        there = self.points if points is None else points
        return self.problem.rebuilt(there).solve(parameters=parameters, start=self)

    def _again(self) -> tuple[Any, FloatArray, Mapping[str, Any], Mapping[str, Any]]:
        """Solved again from where it is, so that it is on the same branch."""
        problem, points, parameters, _ = super()._again()
        return problem, points, parameters, {"start": self.u}

    def _told(self) -> dict[str, str]:
        negative = self.path[-1].negative
        inertia = "" if negative is None else f", {negative} negative eigenvalues"
        steps = f"{len(self.path)} load step(s), {self.iterations} iterations"
        return {"newton": f"{steps}, residual {self.residuals[-1]:.0e} of the loads{inertia}"}

    def _gradient(self, partials: Partials, seed: Seed, weights: Weights, into: Cotangent) -> Gradient:
        lam = weights.internal if seed.internal is None else weights.internal + seed.internal
        error = inner(lam.reshape(self.left.shape), self.left)
        return replace(super()._gradient(partials, seed, weights, into), value_error=error)
