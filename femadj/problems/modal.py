"""Vibration modes: ``K phi = lam M phi``, one factorisation for each set of node coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.algebra.eigen import Pencil, Symmetric, eigenpairs
from femadj.algebra.spectral import Spectral
from femadj.base.arguments import real_array, whole_number
from femadj.base.design import Design
from femadj.base.display import shown
from femadj.conditions.supports import Fixed, Supports
from femadj.errors import (
    IllConditionedError,
    IndefiniteSystemError,
    MaterialError,
    ProblemError,
    SingularSystemError,
    SupportError,
)
from femadj.mesh import Mesh
from femadj.physics import Physics
from femadj.physics.base import BoundPhysics
from femadj.physics.inertia import inertia_terms
from femadj.problems.fem import FemAtDesign, FemResidual
from femadj.problems.modes import ModalSolution
from femadj.problems.problem import MeshProblem, Settings, parameters_of, supports_of
from femadj.progress import Phases, Progress
from femadj.solvers.base import Solver
from femadj.solvers.factor import Factor
from femadj.space.discretisation import Discretisation
from femadj.space.parameters import Parameters


class Modal(MeshProblem):
    """``K(X) phi = lam M(X) phi`` with supports, for node coordinates ``X`` of a fixed topology.

    The mass is that of the material's ``density`` (of a scalar physics its capacity), or the forms with ``rate=2`` of a
    ``Form``. Modes are mass-normalised, ``phi_i^T M phi_j = delta_ij``; their sign is arbitrary but the same in every
    run: the sum of the components times fixed random numbers is positive.

    Parameters
    ----------
    mesh : Mesh
        Topology, groups and reference coordinates.
    physics : Physics
        Symmetric; ``Elasticity(..., density=...)``, ``Diffusion(..., density=...)``, a ``Form``.
    supports : sequence of Fixed
        Values must be zero. They may leave the body free to move where the shift is negative.
    count : int
        How many eigenvalues: those nearest to the shift. Where the last one coincides with others these come with it.
    shift : float
        [1/time^2] Zero for the smallest ones of a supported body. A body that can move needs a negative one, of the
        size of the eigenvalues of interest; the matrix is then ``K - shift M``.
    solver : str or Solver
        ``"auto"``, a name of ``available_solvers()``, or a solver object.
    threads : int, optional
        Threads of the element kernels, and of a solver given by name; all cores when left out.
    quadrature_order : int, optional
        Degree of the quadrature of the stiffness; the cell type's own when left out.
    progress : Progress, optional
        Notified of every phase, here and in ``solve``.

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
        *,
        count: int,
        shift: float = 0.0,
        solver: str | Solver = "auto",
        threads: int | None = None,
        quadrature_order: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._set(mesh, physics, Settings(solver, threads, quadrature_order, progress))
        whole_number(count, 1, "count", ProblemError)
        self._supports = supports_of(supports)
        self._count, self._shift = int(count), _shift(shift)
        phases = Phases(progress)
        with phases("bind"):
            self._residual = self._bound(parameters_of(mesh, physics, ()))
        with phases("prepare kernels"):
            self._residual.prepare()
        with phases("analyse"):
            residual = self._residual
            self._symbolic = self._solver.analyse(residual.structure, residual.kind, unknowns=self._unknowns)
        self._seconds = phases.seconds

    def _bound(self, parameters: Parameters) -> FemResidual:
        """Physics, inertia and supports on the mesh."""
        physics, order = self._physics, self._settings.quadrature_order
        space = replace(physics.discretise(self._mesh, self._settings.threads), stiffness_order=order)
        bound = _with_inertia(space, physics, physics.bind(space, parameters, order))
        bound = replace(bound, definite=bound.definite and self._shift <= 0)
        residual = FemResidual.of(space, bound, (), self._held(space), parameters)
        if not residual.supports.prescribed(self._mesh.points).homogeneous:
            raise SupportError("supports of modes hold still: leave out their values, which do not change the modes")
        return residual

    def _held(self, space: Discretisation) -> Supports:
        supports = Supports.resolved(space, self._physics, self._supports)
        if self._shift == 0:
            try:
                supports.require_held(self._physics)
            except SupportError as error:
                raise SupportError(
                    f"{error}; or let it float and find its modes with Modal(..., shift=-...)"
                ) from error
        return supports

    # ------------------------------------------------------------------ what it consists of
    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was made from, by the names of the arguments; all but who is notified of phases."""
        return {**super().arguments, "supports": self._supports, "count": self._count, "shift": self._shift}

    @property
    def supports(self) -> tuple[Fixed, ...]:
        """The supports."""
        return self._supports

    @property
    def count(self) -> int:
        """How many eigenvalues are computed, at least."""
        return self._count

    @property
    def shift(self) -> float:
        """The eigenvalues nearest to it are computed."""
        return self._shift

    def rebuilt(self, points: npt.ArrayLike) -> Modal:
        """The same problem built anew, from scratch, on a mesh with other reference coordinates."""
        return Modal(**{**self.arguments, "mesh": self._mesh.with_points(points)})

    def __repr__(self) -> str:
        supports, counts = self._residual.supports, self.counts
        return shown(
            f"Modal({self.n_unknowns} unknowns, {int(supports.fixed.sum())} prescribed, count {self._count}, shift "
            f"{self._shift:g}, solver {self.solver_name}, analyses: {counts.analyses}, factorisations: "
            f"{counts.factorisations})",
            mesh=repr(self._mesh),
            physics=repr(self._physics),
            supports="; ".join(map(supports.described, self._supports)),
            parameters=", ".join(self.parameters),
        )

    # ------------------------------------------------------------------ solving
    def solve(
        self, points: npt.ArrayLike | None = None, parameters: Mapping[str, npt.ArrayLike] | None = None
    ) -> ModalSolution:
        """Assemble, factorise and find the modes at the given node coordinates (the mesh's own when left out).

        Parameters
        ----------
        points : (n_nodes, dim), optional
        parameters : mapping of name to values, optional
            Values that differ from the declared ones.

        Returns
        -------
        ModalSolution

        Raises
        ------
        InvalidMeshError, TangledMeshError
            For unusable coordinates.
        EigenvalueError
            When there are not so many eigenvalues, or when they are not certain.
        SingularSystemError, IndefiniteSystemError
            For a body that can move, without a shift, and for a shift that is an eigenvalue.
        """
        phases = Phases(self.progress)
        with phases("assemble"):
            at = self._residual.at(Design(self._placed(points), self.parameters.given(parameters)))
            at.assemble()
            mass = at.operator(2)
        try:
            with phases("factorise"):
                factor = self._factor(at)
            with phases("find modes"):
                pencil = Pencil(
                    Symmetric(at.structure, at.condensed.values), Symmetric(at.structure, mass.values), factor,
                    self._shift, ~at.constraints.constrained,
                )  # fmt: skip
                pairs = eigenpairs(pencil, self._count)
        except (SingularSystemError, IllConditionedError) as error:
            raise SingularSystemError(f"{error}. {self._cause()}") from error
        except IndefiniteSystemError as error:
            raise IndefiniteSystemError(f"K - shift M is not positive definite: {error}. {self._cause()}") from error
        solution = ModalSolution(self, at, Spectral(at, pairs), phases.seconds)
        at.require_linear_at(solution.vectors[0])
        return solution

    def _factor(self, at: FemAtDesign) -> Factor:
        matrix = at.combined((1.0, 0.0, -self._shift)) if self._shift else at.condensed
        return self._symbolic.factor(matrix.values, rounding=self._residual.rounding)

    def _cause(self) -> str:
        if self._shift == 0:
            return (
                "K is singular where a part of the body can move: hold it by Fixed(...), or give a negative shift, of "
                "the size of the eigenvalues of interest"
            )
        if self._shift > 0:
            return f"The shift {self._shift:g} may be an eigenvalue: choose one between those of interest"
        return f"The shift {self._shift:g} may be too small to hold what can move: choose a larger negative one"


def _with_inertia(space: Discretisation, physics: Physics, bound: BoundPhysics) -> BoundPhysics:
    """The physics with a mass: its own forms of that rate, or the density of the material."""
    if not bound.symmetric:
        raise ProblemError(f"modes need a symmetric physics, which {type(physics).__name__} is not here")
    if bound.external:
        raise ProblemError("modes have no loads: leave out the linear forms, which do not change the modes")
    rates = {term.rate for term in bound.internal}
    if 1 in rates:
        raise ProblemError("modes are undamped: leave out the forms with rate=1")
    if 2 in rates:
        return bound
    try:
        inertia = inertia_terms(space, physics, 2)
    except MaterialError as error:
        raise ProblemError(
            f"modes need a mass, but {error}: give the material a density, or the Form a mass, Integral(form, rate=2)"
        ) from error
    return replace(bound, internal=(*bound.internal, *inertia))


def _shift(value: Any) -> float:
    number = real_array(value, "shift", ProblemError, "a number")
    if number.shape != () or not np.isfinite(number):
        raise ProblemError(f"shift must be one finite number, not {value!r}")
    return float(number)
