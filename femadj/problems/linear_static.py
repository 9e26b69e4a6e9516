"""Linear static problems: one factorisation for each set of node coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from femadj.algebra.linear_system import POINTS, Counts, LinearSystem
from femadj.base.design import Design
from femadj.base.display import one_line, shown
from femadj.conditions.loads import Load
from femadj.conditions.supports import Fixed, Supports
from femadj.errors import (
    IllConditionedError,
    IndefiniteSystemError,
    LoadError,
    ProblemError,
    SingularSystemError,
)
from femadj.forms.term import Term
from femadj.mesh import Mesh
from femadj.physics import BoundPhysics, Physics
from femadj.problems.fem import FemAtDesign, FemResidual
from femadj.problems.problem import MeshProblem, Settings, loads_of, located, parameters_of, supports_of
from femadj.problems.solution import LinearStaticSolution, Solution
from femadj.progress import Phases, Progress
from femadj.solvers.base import Solver
from femadj.solvers.rehearsal import RehearsalSolver
from femadj.space.discretisation import Discretisation
from femadj.space.parameters import Parameters


class Static(MeshProblem):
    """What static problems share: input and its checks, binding, and errors that name nodes; see ``LinearStatic``."""

    def rebuilt(self, points: npt.ArrayLike) -> Static:
        """The same problem built anew, from scratch, on a mesh with other reference coordinates."""
        raise NotImplementedError

    def solve(
        self, points: npt.ArrayLike | None = None, parameters: Mapping[str, npt.ArrayLike] | None = None
    ) -> Solution:
        """Solve at the given node coordinates (the mesh's own when left out)."""
        raise NotImplementedError

    def __init__(
        self,
        mesh: Mesh,
        physics: Physics,
        supports: Sequence[Fixed] = (),
        loads: Sequence[Load] = (),
        *,
        solver: str | Solver = "auto",
        threads: int | None = None,
        quadrature_order: int | None = None,
        progress: Progress | None = None,
        keep_factor: bool = False,
    ) -> None:
        self._set(mesh, physics, Settings(solver, threads, quadrature_order, progress, keep_factor))
        self._supports = supports_of(supports)
        self._loads = loads_of(loads)
        phases = Phases(progress)
        with phases("bind"):
            self._residual = self._bound(parameters_of(mesh, physics, self._loads))
        with phases("prepare kernels"):
            self._residual.prepare()
        with phases("analyse"):
            self._analyse()
        self._seconds = phases.seconds

    def _analyse(self) -> None:
        """Analyse the structure of the matrix."""
        raise NotImplementedError

    def _bound(self, parameters: Parameters) -> FemResidual:
        """Physics, loads and supports on the mesh."""
        mesh, physics, order = self._mesh, self._physics, self._settings.quadrature_order
        space = replace(physics.discretise(mesh, self._settings.threads), stiffness_order=order)
        if self._loads and not space.nodal:
            raise LoadError(
                f"{type(self._loads[0]).__name__} loads fields with values at the mesh nodes, which the unknown of "
                f"{physics!r} has not: write it as a linear form of the Form"
            )
        bound = physics.bind(space, parameters, order)
        if any(term.rate for term in bound.internal):
            raise ProblemError("a form with a rate multiplies a time derivative, which a static problem does not have")
        supports = Supports.of(space, physics, self._supports)
        terms = [term for load in self._loads for term in load.bind(space, physics)]
        return self._residual_of(space, bound, terms, supports, parameters)

    def _residual_of(
        self,
        space: Discretisation,
        physics: BoundPhysics,
        loads: Sequence[Term],
        supports: Supports,
        parameters: Parameters,
    ) -> FemResidual:
        """The residual that the terms make; ProblemError where they do not suit the problem."""
        raise NotImplementedError

    # ------------------------------------------------------------------ what it consists of
    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was made from, by the names of the arguments; all but who is notified of phases."""
        return {**super().arguments, "supports": self._supports, "loads": self._loads}

    @property
    def supports(self) -> tuple[Fixed, ...]:
        """The supports."""
        return self._supports

    @property
    def loads(self) -> tuple[Load, ...]:
        """The loads."""
        return self._loads

    def __repr__(self) -> str:
        supports, counts = self._residual.supports, self.counts
        return shown(
            f"{type(self).__name__}({self._residual.space.n_dofs} unknowns, {int(supports.fixed.sum())} prescribed, "
            f"solver {self.solver_name}, analyses: {counts.analyses}, factorisations: {counts.factorisations})",
            mesh=repr(self._mesh),
            physics=repr(self._physics),
            supports="; ".join(map(supports.described, self._supports)),
            loads="; ".join(one_line(load, 50) for load in self._loads),
            parameters=", ".join(self.parameters),
        )

    def _put(
        self, points: npt.ArrayLike | None, parameters: Mapping[str, npt.ArrayLike] | None, phases: Phases
    ) -> FemAtDesign:
        """Put the problem at node coordinates and parameters, and assemble what does not depend on the state."""
        x = self._placed(points)
        with phases("assemble"):
            at = self._residual.at(Design(x, self.parameters.given(parameters)))
            at.assemble()
        return at


class LinearStatic(Static):
    """``K(X) u = f(X)`` with supports, for node coordinates ``X`` of a fixed topology.

    Building the problem resolves groups, checks materials, supports and loads, compiles the kernels and analyses the
    sparsity pattern; ``solve`` may then be called any number of times.

    Parameters
    ----------
    mesh : Mesh
        Topology, groups and reference coordinates.
    physics : Physics
        ``Elasticity``, ``Diffusion``.
    supports : sequence of Fixed
        May be left out where the physics holds the body itself (a Robin boundary, a reaction).
    loads : sequence of loads
    solver : str or Solver
        ``"auto"``, a name of ``available_solvers()``, or a solver object.
    threads : int, optional
        Threads of the element kernels, and of a solver given by name (a solver object has its own); all cores when
        left out.
    quadrature_order : int, optional
        Degree of the quadrature of the stiffness; the cell type's own when left out.
    progress : Progress, optional
        Notified of every phase, here and in ``solve``.
    keep_factor : bool
        Whether every solution keeps the factor of its own matrix. Otherwise the problem has one, that of the last
        solution or an earlier one, and former solutions iterate with it on their own matrix.

    Raises
    ------
    FemadjError
        Whatever is wrong with the input, before anything is computed.
    """

    def _solver_of(self, settings: Settings) -> Solver:
        return settings.linear_solver()

    def _analyse(self) -> None:
        self._linear = LinearSystem.over(self._residual, POINTS, self._solver, unknowns=self._unknowns)

    def _residual_of(
        self,
        space: Discretisation,
        physics: BoundPhysics,
        loads: Sequence[Term],
        supports: Supports,
        parameters: Parameters,
    ) -> FemResidual:
        residual = FemResidual.of(space, physics, loads, supports, parameters)
        if not residual.is_linear:
            what = "a load follows the displacement" if all(t.linear for t in physics.internal) else repr(self._physics)
            raise ProblemError(f"{what}, which makes the problem nonlinear: NonlinearStatic(mesh, physics, ...)")
        return residual

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was made from, by the names of the arguments; all but who is notified of phases."""
        return {**super().arguments, "keep_factor": self._settings.keep_factor}

    @property
    def linear_system(self) -> LinearSystem:
        """The problem as ``A(X) x = b(X)``.

        It gives tangents, derivatives by the matrix entries, and responses that are plain functions of the unknowns;
        ``solution.linear`` is a solution of it. ``x`` is the field, flattened.
        """
        return self._linear

    @property
    def counts(self) -> Counts:
        """Analyses and factorisations so far."""
        return self._linear.counts

    @property
    def solver_name(self) -> str:
        """Name of the solver in use."""
        return self._linear.solver_name

    def rebuilt(self, points: npt.ArrayLike) -> LinearStatic:
        """The same problem built anew, from scratch, on a mesh with other reference coordinates."""
        return LinearStatic(**{**self.arguments, "mesh": self._mesh.with_points(points)})

    # ------------------------------------------------------------------ solving
    def rehearse(self, parameters: Mapping[str, npt.ArrayLike] | None = None) -> Solution:
        """A solution that solves nothing, made without a factorisation: for kernels to be compiled; see ``warm_up``."""
        self._solver.prepare(self._residual.kind)
        phases = Phases(self.progress)
        at = self._put(None, parameters, phases)
        modes = at.modes()
        self._linear.prepare(0 if modes is None else modes.shape[1])
        system = LinearSystem.over(self._residual, POINTS, RehearsalSolver(), unknowns=self._unknowns)
        return LinearStaticSolution(self, at, system.solve_at(at, phases), phases.seconds)

    def solve(
        self, points: npt.ArrayLike | None = None, parameters: Mapping[str, npt.ArrayLike] | None = None
    ) -> Solution:
        """Assemble, factorise and solve at the given node coordinates (the mesh's own when left out).

        Parameters
        ----------
        points : (n_nodes, dim), optional
        parameters : mapping of name to values, optional
            Values that differ from the declared ones.

        Returns
        -------
        Solution
            Owns the factor; adjoint solves reuse it.

        Raises
        ------
        InvalidMeshError, TangledMeshError
            For unusable coordinates.
        SingularSystemError, IndefiniteSystemError, IllConditionedError, ResidualError, NonFiniteError
            When the system has no trustworthy solution; the message names node and component where known.
        """
        phases = Phases(self.progress)
        at = self._put(points, parameters, phases)
        try:
            solved = self._linear.solve_at(at, phases)
        except (SingularSystemError, IndefiniteSystemError, IllConditionedError) as error:
            raise located(error, self._residual.space, self._physics) from error
        solution = LinearStaticSolution(self, at, solved, phases.seconds)
        at.require_linear_at(solution.u)
        return solution
