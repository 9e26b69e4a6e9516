"""What problems on a mesh share: their settings, the checks of their input, and errors that name nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from femadj.algebra.linear_system import Counts
from femadj.base.arguments import flag, notified, sequence_of, whole_number
from femadj.base.arrays import FloatArray, frozen
from femadj.base.pickling import MadeAnew
from femadj.conditions.loads import Load
from femadj.conditions.supports import Fixed, unknown_name
from femadj.errors import (
    FemadjError,
    IllConditionedError,
    IndefiniteSystemError,
    LoadError,
    ProblemError,
    SingularSystemError,
    SupportError,
)
from femadj.mesh import Mesh, checked_points, require_mesh
from femadj.physics import Form, Physics
from femadj.problems.fem import FemResidual
from femadj.progress import Progress
from femadj.solvers import get_solver, linear_solver
from femadj.solvers.base import Solver, Symbolic
from femadj.solvers.unknowns import Unknowns
from femadj.space.discretisation import Discretisation
from femadj.space.parameters import Parameters


@dataclass(frozen=True)
class Settings:
    """How a problem is discretised and solved.

    Attributes
    ----------
    solver : str or Solver
        ``"auto"``, a name of ``available_solvers()``, or a solver object.
    threads : int or None
        Of the element kernels, and of a solver given by name; all cores for None.
    quadrature_order : int or None
        Degree of the quadrature of the stiffness; the cell type's own for None.
    progress : Progress or None
        Notified of every phase.
    keep_factor : bool
        Whether every solution keeps a factor of its own.
    """

    solver: str | Solver = "auto"
    threads: int | None = None
    quadrature_order: int | None = None
    progress: Progress | None = None
    keep_factor: bool = False

    def __post_init__(self) -> None:
        notified(self.progress, ProblemError)
        flag(self.keep_factor, "keep_factor", ProblemError)
        for value, what in ((self.quadrature_order, "quadrature_order"), (self.threads, "threads")):
            if value is not None:
                whole_number(value, 1, what, ProblemError)

    def direct_solver(self) -> Solver:
        """What makes a factor for every matrix."""
        return get_solver(self.solver, threads=self._solver_threads)

    def linear_solver(self) -> Solver:
        """What solves linear problems, design after design."""
        return linear_solver(self.solver, threads=self._solver_threads, keep_factor=self.keep_factor)

    @property
    def _solver_threads(self) -> int | None:
        return self.threads if isinstance(self.solver, str) else None


class MeshProblem(MadeAnew):
    """A physics on a mesh: what it consists of."""

    _residual: FemResidual
    _seconds: Mapping[str, float]
    _symbolic: Symbolic

    def _set(self, mesh: Mesh, physics: Physics, settings: Settings) -> None:
        """ProblemError for what is no mesh or physics."""
        require_mesh(mesh, ProblemError)
        _require_physics(physics)
        self._mesh, self._physics, self._settings = mesh, physics, settings
        self._solver = self._solver_of(settings)

    def _solver_of(self, settings: Settings) -> Solver:
        return settings.direct_solver()

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was made from, by the names of the arguments; all but who is notified of phases."""
        settings = self._settings
        return {
            "mesh": self._mesh,
            "physics": self._physics,
            "solver": settings.solver,
            "threads": settings.threads,
            "quadrature_order": settings.quadrature_order,
        }

    @property
    def mesh(self) -> Mesh:
        """Topology and reference coordinates."""
        return self._mesh

    @property
    def physics(self) -> Physics:
        """The physics."""
        return self._physics

    @property
    def parameters(self) -> Parameters:
        """Declared parameters with their values."""
        return self._residual.parameters

    @property
    def residual(self) -> FemResidual:
        """The discrete residual: put at a design it knows matrices, loads and all products of their derivatives."""
        return self._residual

    @property
    def n_unknowns(self) -> int:
        """Number of unknowns, prescribed ones included."""
        return self._residual.space.n_dofs

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
        """Who is notified of phases."""
        return self._settings.progress

    @property
    def counts(self) -> Counts:
        """Analyses and factorisations so far."""
        return Counts(self._symbolic.analyses, self._symbolic.factorisations)

    def _placed(self, points: npt.ArrayLike | None) -> FloatArray:
        """Node coordinates to solve at, checked and read-only; those of the mesh for None."""
        mesh = self._mesh
        return mesh.points if points is None else frozen(checked_points(points, mesh.points.shape))

    @property
    def _unknowns(self) -> Unknowns:
        """What the solver may know of the unknowns."""
        space = self._residual.space
        return Unknowns(self._name_of, space.n_components, self._mesh.dim) if space.nodal else Unknowns(self._name_of)

    def _name_of(self, unknown: int) -> str:
        """Location and component of an unknown."""
        return unknown_name(self._residual.space, self._physics.components(self._mesh.dim), unknown)


def located(
    error: SingularSystemError | IndefiniteSystemError | IllConditionedError, space: Discretisation, physics: Physics
) -> SingularSystemError | IndefiniteSystemError | IllConditionedError:
    """The same error with likely causes, and with nodes and components for numbers of unknowns."""
    if error.equation is None:
        return error
    unknowns = error.unknowns if isinstance(error, SingularSystemError) and error.unknowns else [error.equation]
    names = "; ".join(unknown_name(space, physics.components(space.mesh.dim), unknown) for unknown in unknowns)
    where = "" if isinstance(error, IllConditionedError) else f": {names}"  # which names its unknown itself
    causes = (
        "a part of the mesh that hangs on too few nodes (a hinge), supports that leave a motion free there, or "
        "material constants that differ by too many orders of magnitude"
    )
    if isinstance(error, IndefiniteSystemError) and isinstance(physics, Form):
        causes = (
            "a form that is not positive definite at these parameters, which Form(..., definite=False) allows for, "
            + causes
        )
    named = copy(error)
    named.args = (f"{str(error).removesuffix('.')}{where}. Likely causes: {causes}",)
    return named


def _require_physics(physics: Any) -> None:
    """ProblemError for what is no physics."""
    if not callable(getattr(physics, "discretise", None)) or isinstance(physics, type):
        advice = ": write Form(function)" if callable(physics) and not isinstance(physics, type) else ""
        raise ProblemError(
            "physics must be Elasticity(...), Diffusion(...), AdvectionDiffusion(...) or Form(...), not "
            f"{physics!r}{advice}"
        )


def supports_of(given: Any) -> tuple[Fixed, ...]:
    """Supports as given, one alone too; SupportError for what is none."""
    several = (given,) if isinstance(given, Fixed) else given
    supports: tuple[Fixed, ...] = conditions_of(several, is_support, "supports", "Fixed('name')", SupportError)
    return supports


def loads_of(given: Any) -> tuple[Load, ...]:
    """Loads as given; LoadError for what is none."""
    loads: tuple[Load, ...] = conditions_of(given, is_load, "loads", "Traction('name', value)", LoadError)
    return loads


def conditions_of(value: Any, fits: Callable[[Any], bool], what: str, example: str, error: type[FemadjError]) -> Any:
    """Supports or loads as given."""
    items = sequence_of(value, what, error, f": write [{example}]")
    for item in items:
        if not fits(item):
            raise error(f"{what} holds {item!r}, which is none: write {example}")
    return items


def is_support(item: Any) -> bool:
    """Whether something is a support."""
    return isinstance(item, Fixed)


def is_load(item: Any) -> bool:
    """Whether something is a load."""
    return callable(getattr(item, "bind", None)) and not isinstance(item, type)


def parameters_of(mesh: Mesh, physics: Physics, loads: Sequence[Load]) -> Parameters:
    """What physics and loads declare, together."""
    parameters = Parameters.of(mesh, physics.parameters_on(mesh), type(physics).__name__)
    for load in loads:
        declared = getattr(load, "parameters", {})
        parameters = parameters.merged(Parameters.of(mesh, declared, type(load).__name__))
    return parameters
