"""Linear buckling: ``(K + lam K_g(u)) phi = 0`` with the stress of ``K u = f``, on the one factor of ``K``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from femadj.algebra.eigen import Pencil, Symmetric, eigenpairs
from femadj.algebra.linear_system import Counts
from femadj.algebra.spectral import Spectral
from femadj.base.arguments import whole_number
from femadj.base.arrays import FloatArray
from femadj.base.design import Cotangent, Design
from femadj.base.pickling import MadeAnew
from femadj.errors import EigenvalueError, ProblemError
from femadj.mesh import Mesh
from femadj.physics import Physics
from femadj.physics.prestress import geometric_terms
from femadj.problems.fem import FemResidual
from femadj.problems.gradient import Gradient, OnDemand, Partials
from femadj.problems.linear_static import LinearStatic
from femadj.problems.modes import Modes
from femadj.problems.movable import Linked
from femadj.problems.solution import Solution
from femadj.progress import Phases, Progress
from femadj.space.parameters import NodalField, Parameters

PRESTRESS = "prestress"
"""Name of the parameter through which the displacement enters the geometric stiffness."""


class Buckling(MadeAnew):
    """Factors by which the loads of a linear static problem have to grow until the body buckles.

    The geometric stiffness is that of the stress of its solution. Loads keep their directions (a pressure does not
    turn with the surface), and displacements before buckling are small. Only positive factors are computed: loads that
    would buckle the body the other way round are those of a problem with loads of the opposite sign. Modes are
    normalised to ``phi^T K_g phi = -1``, so that ``phi^T K phi = lam``.

    Parameters
    ----------
    problem : LinearStatic
        Elastic; the loads may act on displacements alone (a thermal strain is a stress of its own).
    count : int
        How many factors, the smallest ones. Where the last one coincides with others these come with it.

    Raises
    ------
    ProblemError
        For problems without a stress, or with loads that are stresses themselves.
    """

    def __init__(self, problem: LinearStatic, count: int = 1) -> None:
        if not isinstance(problem, LinearStatic):
            raise ProblemError(f"Buckling takes a LinearStatic, not {type(problem).__name__}")
        whole_number(count, 1, "count", ProblemError)
        self._problem, self._count = problem, int(count)
        phases = Phases(problem.progress)
        with phases("bind"):
            self._residual = _stressed(problem)
        with phases("prepare kernels"):
            self._residual.prepare()
        self._seconds = MappingProxyType({**problem.seconds, **phases.seconds})

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was made from, by the names of the arguments."""
        return {"problem": self._problem, "count": self._count}

    @property
    def static(self) -> LinearStatic:
        """The problem whose loads are scaled."""
        return self._problem

    @property
    def count(self) -> int:
        """How many factors are computed, at least."""
        return self._count

    @property
    def mesh(self) -> Mesh:
        """Topology and reference coordinates."""
        return self._problem.mesh

    @property
    def physics(self) -> Physics:
        """The physics."""
        return self._problem.physics

    @property
    def parameters(self) -> Parameters:
        """Declared parameters with their values."""
        return self._problem.parameters

    @property
    def n_unknowns(self) -> int:
        """Number of unknowns, prescribed ones included."""
        return self._problem.n_unknowns

    @property
    def solver_name(self) -> str:
        """Name of the sparse direct solver in use."""
        return self._problem.solver_name

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds of building the problem, by phase."""
        return self._seconds

    @property
    def progress(self) -> Progress | None:
        """Who is notified of phases."""
        return self._problem.progress

    @property
    def counts(self) -> Counts:
        """Analyses and factorisations so far: those of the static problem, one factorisation for a design."""
        return self._problem.counts

    def rebuilt(self, points: npt.ArrayLike) -> Buckling:
        """The same problem built anew, from scratch, on a mesh with other reference coordinates."""
        return Buckling(self._problem.rebuilt(points), self._count)

    def __repr__(self) -> str:
        head, _, rest = repr(self._problem).partition("\n")
        return f"Buckling(count {self._count}) of {head}" + (f"\n{rest}" if rest else "")

    def solve(
        self, points: npt.ArrayLike | None = None, parameters: Mapping[str, npt.ArrayLike] | None = None
    ) -> BucklingSolution:
        """Solve the static problem at the given node coordinates (the mesh's own when left out), then find the modes.

        Parameters
        ----------
        points : (n_nodes, dim), optional
        parameters : mapping of name to values, optional
            Values that differ from the declared ones.

        Returns
        -------
        BucklingSolution

        Raises
        ------
        EigenvalueError
            When there are not so many positive factors.
        FemadjError
            As ``LinearStatic.solve`` does.
        """
        static = self._problem.solve(points, parameters)
        phases = Phases(self.progress)
        with phases("assemble"):
            at = self._residual.at(Design(static.points, {**static.at.design.parameters, PRESTRESS: static.u}))
            geometric = at.operator(2)
        if not geometric.values.any():
            raise EigenvalueError("the loads cause no stress, so that nothing can buckle")
        with phases("find modes"):
            stiffness, mass = (Symmetric(at.structure, m.values) for m in (static.at.condensed, geometric))
            free = ~at.constraints.constrained
            pencil = Pencil(stiffness, mass, static.factor, 0.0, free, positive="stiffness")
            spectral = Spectral(at, eigenpairs(pencil, self._count))
        return BucklingSolution(self, at, spectral, {**static.seconds, **phases.seconds}, static)


@dataclass(frozen=True, eq=False, repr=False)
class BucklingSolution(Modes):
    """Buckling modes of a problem at fixed node coordinates.

    Attributes
    ----------
    problem : Buckling
    at : FemAtDesign
        The residual at the design, with its products.
    spectral : Spectral
        Eigenpairs and factor: what derivatives are made of.
    seconds : mapping of phase to seconds
    static : Solution
        Whose stress it is, at the loads as given.
    """

    static: Solution

    @property
    def load_factors(self) -> FloatArray:
        """The eigenvalues, ascending: the body buckles at so many times the loads."""
        return self.values

    @property
    def parameters(self) -> Parameters:
        """Parameters with their values here."""
        entries = self.at.parameters.entries
        return Parameters(MappingProxyType({name: entry for name, entry in entries.items() if name != PRESTRESS}))

    @property
    def fed(self) -> tuple[str, ...]:
        """The displacement."""
        return (PRESTRESS,)

    @property
    def linked(self) -> Linked:
        """The static problem, and itself with the parameters of that."""
        return Linked({PRESTRESS: self.static, "": self}, {PRESTRESS: (), "": (PRESTRESS,)}, {PRESTRESS: "", "": ""})

    def _complete(self, direction: Design) -> Design:
        """A direction with the rate of the displacement."""
        (rate,) = self.static.pushforward([direction])
        return replace(direction, parameters={**direction.parameters, PRESTRESS: rate})

    def _total(self, gradient: Gradient, into: Cotangent) -> Gradient:
        """With what comes through the displacement: one adjoint solve."""
        by_displacement = into.parameters[PRESTRESS]
        state = by_displacement if by_displacement.any() else None
        (static,) = self.static.pullback([Partials(0.0, state=state)])
        names = [name for name in gradient.parameters if name != PRESTRESS]

        def both(name: str) -> FloatArray:
            own = gradient.parameters[name]
            return own + static.parameters[name] if name in static.parameters else own

        slopes: dict[str, Any] = {name: _deferred(both, name) for name in names}
        solves = gradient.adjoint_solves + static.adjoint_solves
        points = gradient.points + static.points
        return Gradient(points, static.loads, static.supports, solves, OnDemand(slopes), static.forward_error)


def _deferred(function: Any, name: str) -> Any:
    return lambda: function(name)


def _stressed(problem: LinearStatic) -> FemResidual:
    """The stiffness of the problem, with the geometric one in the place of a mass."""
    static = problem.residual
    if static.kind != "spd":
        raise ProblemError("buckling needs a symmetric, positive definite problem")
    if PRESTRESS in static.parameters:
        raise ProblemError(
            f"{PRESTRESS!r} is the name of a parameter that Buckling adds: give the problem's another one"
        )
    for term in static.external:
        law = getattr(term, "law", None)
        if law is not None and law.slots[1] > 1:
            raise ProblemError(
                f"the load {law.name!r} acts on gradients of the displacement: it is a stress of its own, which the "
                "geometric stiffness does not contain. Write the loads as forces or prescribed displacements"
            )
    geometric = geometric_terms(static.space, problem.physics, PRESTRESS)
    displacement = {PRESTRESS: NodalField(components=problem.mesh.dim)}
    parameters = static.parameters.merged(Parameters.of(problem.mesh, displacement, "Buckling"))
    return replace(static, internal=(*static.internal, *geometric), external=(), parameters=parameters)
