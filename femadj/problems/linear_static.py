"""Linear static problems: one factorisation for each set of node coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.algebra.linear_system import Counts, LinearSolution, LinearSystem
from femadj.base.arrays import FloatArray
from femadj.conditions.loads import Load
from femadj.conditions.supports import Constraints, Fixed, Prescribed, unknown_name
from femadj.errors import IndefiniteSystemError, LoadError, ProblemError, SingularSystemError, SupportError
from femadj.mesh import Mesh, checked_points
from femadj.physics import Form, Physics
from femadj.problems.fem import Assembled, System
from femadj.problems.static_system import StaticSystem
from femadj.progress import Phases, Progress
from femadj.solvers import get_solver
from femadj.solvers.base import Factor, MatrixKind, Solver
from femadj.space.parameters import Parameters


class LinearStatic:
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
        Threads of the solver and of the element kernels; all cores when left out.
    quadrature_order : int, optional
        Degree of the quadrature of the stiffness; the cell type's own when left out.
    progress : Progress, optional
        Told about every phase, here and in ``solve``.

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
        solver: str | Solver = "auto",
        threads: int | None = None,
        quadrature_order: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not isinstance(mesh, Mesh):
            raise ProblemError(f"mesh must be a Mesh, not {type(mesh).__name__}")
        if not callable(getattr(physics, "bind", None)) or isinstance(physics, type):
            raise ProblemError(
                "physics must be Elasticity(...), Diffusion(...), AdvectionDiffusion(...) or Form(...), not "
                f"{physics!r}"
            )
        if quadrature_order is not None and (not isinstance(quadrature_order, int) or quadrature_order < 1):
            raise ProblemError(f"quadrature_order must be a whole number of at least 1, not {quadrature_order!r}")
        self._mesh = mesh
        self._physics = physics
        self._supports = _sequence(supports, Fixed, "supports", SupportError)
        self._loads = _sequence(loads, None, "loads", LoadError)
        self._solver_choice = solver
        self._solver = get_solver(solver, threads=threads)
        self._threads = threads
        self._quadrature_order = quadrature_order
        self._progress = progress
        phases = Phases(progress)
        with phases("bind"):
            parameters = Parameters.of(mesh, physics.parameters, type(physics).__name__)
            for load in self._loads:
                declared = getattr(load, "parameters", {})
                parameters = parameters.merged(Parameters.of(mesh, declared, type(load).__name__))
            self._parameters = parameters
            space = replace(physics.discretise(mesh, threads), stiffness_order=quadrature_order)
            if self._loads and not space.nodal:
                raise LoadError(
                    f"{type(self._loads[0]).__name__} loads fields with values at the mesh nodes, which the unknown of "
                    f"{physics!r} has not: write it as a linear form of the Form"
                )
            bound = physics.bind(space, parameters, quadrature_order)
            constraints = Constraints.of(space, physics, self._supports)
            terms = [term.with_parameters(parameters) for load in self._loads for term in load.bind(space, physics)]
            self._system = System.of(space, bound, terms, constraints)
        with phases("prepare kernels"):
            self._system.prepare()
        with phases("analyse"):
            kind: MatrixKind = "general" if not bound.symmetric else "spd" if bound.definite else "symmetric"
            self._static = StaticSystem(mesh, self._system, kind)
            self._linear = LinearSystem.of(self._static, solver=self._solver)
        self._seconds = phases.seconds

    # ------------------------------------------------------------------ what it consists of
    @property
    def mesh(self) -> Mesh:
        """Topology and reference coordinates."""
        return self._mesh

    @property
    def physics(self) -> Physics:
        """The physics."""
        return self._physics

    @property
    def supports(self) -> tuple[Fixed, ...]:
        """The supports."""
        return self._supports

    @property
    def loads(self) -> tuple[Load, ...]:
        """The loads."""
        return self._loads

    @property
    def parameters(self) -> Parameters:
        """Declared parameters with their values."""
        return self._parameters

    @property
    def system(self) -> System:
        """The discrete system and its products, with the declared values of the parameters."""
        return self._system

    @property
    def linear_system(self) -> LinearSystem[Assembled]:
        """The problem as ``A(X) x = b(X)``, at the declared values of the parameters.

        It gives what the adjoint of responses does not need: tangents, derivatives by the matrix entries, and
        responses that are plain functions of the unknowns. ``x`` is the field, flattened.
        """
        return self._linear

    @property
    def solver_name(self) -> str:
        """Name of the sparse direct solver in use."""
        return self._solver.name

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds of building the problem, by phase."""
        return self._seconds

    @property
    def progress(self) -> Progress | None:
        """Who is told about phases."""
        return self._progress

    @property
    def counts(self) -> Counts:
        """Analyses and factorisations so far."""
        return self._linear.counts

    def rebuilt(self, points: npt.ArrayLike) -> LinearStatic:
        """The same problem built anew, from scratch, on a mesh with other reference coordinates."""
        mesh = self._mesh.with_points(points)
        return LinearStatic(
            mesh,
            self._physics,
            self._supports,
            self._loads,
            solver=self._solver_choice,
            threads=self._threads,
            quadrature_order=self._quadrature_order,
        )

    def __repr__(self) -> str:
        return (
            f"LinearStatic({self._mesh!r}, {self._physics!r}, {self._system.space.n_dofs} unknowns, "
            f"{int(self._system.constraints.fixed.sum())} prescribed, solver {self.solver_name})"
        )

    # ------------------------------------------------------------------ solving
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
        SingularSystemError, IndefiniteSystemError, ResidualError, NonFiniteError
            When the system has no trustworthy solution; the message names node and component where known.
        """
        mesh = self._mesh
        x = mesh.points if points is None else checked_points(points, mesh.points.shape)
        if points is not None:
            x = x.copy()
            x.setflags(write=False)
        phases = Phases(self._progress)
        values = self._parameters.updated(parameters)
        static, linear = self._static, self._linear
        if parameters:
            static = replace(static, system=self._system.with_parameters(values))
            linear = linear.on_same_pattern(static)
        with phases("assemble"):
            assembled = static.assemble(x)
        try:
            solved = linear.solve_assembled(x, assembled, phases)
        except (SingularSystemError, IndefiniteSystemError) as error:
            raise self._located(error) from error
        shape = assembled.load.shape
        return Solution(
            problem=self,
            system=static.system,
            parameters=values,
            points=x,
            u=solved.x.reshape(shape),
            load=_read_only(assembled.load),
            prescribed=assembled.prescribed,
            linear=solved,
            seconds=phases.seconds,
        )

    def _located(
        self, error: SingularSystemError | IndefiniteSystemError
    ) -> SingularSystemError | IndefiniteSystemError:
        if error.equation is None:
            return error
        names = self._physics.components(self._mesh.dim)
        where = unknown_name(self._system.space, names, error.equation)
        causes = (
            "a part of the mesh that hangs on too few nodes (a hinge), supports that leave a motion free there, or "
            "material constants that differ by too many orders of magnitude"
        )
        if isinstance(error, IndefiniteSystemError) and isinstance(self._physics, Form):
            causes = (
                "a form that is not positive definite at these parameters, which Form(..., definite=False) allows for, "
                + causes
            )
        return type(error)(f"{error}: {where}. Likely causes: {causes}", error.equation)


@dataclass(frozen=True, eq=False)
class Solution:
    """A solved problem at fixed node coordinates.

    Attributes
    ----------
    problem : LinearStatic
    system : System
        The discrete system at the values of the parameters.
    parameters : Parameters
    points : (n_nodes, dim)
    u : (n_nodes, nc)
        The field: displacement [length] or scalar, in input node order.
    load : (n_nodes, nc)
        Nodal forces of the loads.
    prescribed : Prescribed
    linear : LinearSolution
        Matrix, factor and right-hand side.
    seconds : mapping of phase to seconds
    """

    problem: LinearStatic
    system: System
    parameters: Parameters
    points: FloatArray
    u: FloatArray
    load: FloatArray
    prescribed: Prescribed
    linear: LinearSolution[Assembled]
    seconds: Mapping[str, float]

    @property
    def factor(self) -> Factor:
        """The factorised stiffness, supports eliminated."""
        return self.linear.factor

    def part(self, name: str | None = None) -> tuple[FloatArray, FloatArray]:
        """Unknowns of a part of the state, and where they live.

        Parameters
        ----------
        name : str, optional
            A name that the Form gives its parts (``"u"``, ``"p"``, ...); may be left out where there is one part.

        Returns
        -------
        values : (n, nc)
        places : (n, dim)
            NaN for unknowns without a place.
        """
        return self.system.space.part(self._part_name(name), self.u, self.points)

    def _part_name(self, name: str | None) -> str:
        names = self.system.space.part_names
        if name is None and len(names) > 1:
            raise ProblemError(f"name one of the parts: {', '.join(names)}")
        return names[0] if name is None else name

    def nodal(self, name: str | None = None) -> FloatArray:
        """Values of a part of the state at the mesh nodes, ``(n_nodes, nc)``; where cells differ, their mean."""
        return self.system.space.nodal_values(self._part_name(name), self.u, self.points)

    def reactions(self) -> FloatArray:
        """Forces that the supports exert on the body, ``K u - f``; zero at free unknowns, shape ``(n_nodes, nc)``."""
        system = self.system
        internal = system.stiffness_times_at_supports(self.points, self.u)
        return np.where(system.constraints.fixed, internal - self.load, 0.0)

    def internal_forces(self) -> FloatArray:
        """``K u`` over all unknowns: the loads plus the reactions."""
        return self.load + self.reactions()

    def solve_adjoint(self, rhs: FloatArray) -> FloatArray:
        """Solve ``K_FF^T lam_F = rhs_F`` with ``lam = 0`` at supports, on the same factor.

        Parameters
        ----------
        rhs : (n_nodes, nc) or (k, n_nodes, nc)

        Returns
        -------
        lam : same shape
        """
        fixed = self.system.constraints.fixed
        masked = np.where(fixed, 0.0, rhs)
        if rhs.ndim == 2:
            return self.factor.T.solve(masked.ravel()).reshape(rhs.shape)
        block = self.factor.T.solve(masked.reshape(len(rhs), -1).T)
        return np.ascontiguousarray(block.T).reshape(rhs.shape)


def _read_only(array: FloatArray) -> FloatArray:
    array.setflags(write=False)
    return array


def _sequence(value: Any, kind: type | None, what: str, error: type[Exception]) -> tuple[Any, ...]:
    if kind is not None and isinstance(value, kind):
        value = (value,)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise error(f"{what} must be a list, not {type(value).__name__}")
    for item in value:
        fits = isinstance(item, kind) if kind is not None else hasattr(item, "bind")
        if not fits:
            raise error(f"{what} holds {item!r}, which is not one")
    return tuple(value)
