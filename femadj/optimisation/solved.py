"""Motions that solve a linear static problem: how the rest of the mesh follows what some of it, or all, is told to do.

With the movement ``s`` that the nodes are told, from the origin ``S``, and ``P`` for the components that take it over,

    X = S + P s + w,      K(S) w = f(s, S),

where ``s`` is a nodal parameter of the problem. So the derivatives of a motion are those of a solution: by a parameter,
and from another origin by the node coordinates as well. From the coordinates of the mesh itself the motion is linear:
one matrix is factorised, once. The loads are a matrix, too, ``f = D(S) s``: the mass matrix of a filter, less the
stiffness of an elastic body. Both matrices are symmetric, so that the motion and its transposed are ``P + K^-1 D`` and
``P + D K^-1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from skfem.helpers import ddot, dot, grad, sym_grad

from femadj.algebra.linear_system import Counts
from femadj.algebra.residual import State
from femadj.base.arguments import real_array
from femadj.base.arrays import FloatArray, frozen
from femadj.base.design import Design
from femadj.base.display import shown
from femadj.base.pickling import MadeAnew
from femadj.conditions.supports import Fixed
from femadj.errors import ParametrisationError, SupportError
from femadj.mesh import Mesh, require_mesh
from femadj.optimisation.choice import AXES, Groups, chosen_components
from femadj.optimisation.parametrisation import Motion, Placed, Pulled, finite_array
from femadj.physics import Form
from femadj.physics.base import NullModes, rigid_motions
from femadj.problems import Gradient, LinearStatic, Partials, Solution
from femadj.problems.fem import FemAtDesign
from femadj.responses.base import CompleteResponse
from femadj.sensitivity.hessian import hessian
from femadj.solvers import get_solver
from femadj.solvers.base import Solver
from femadj.space.parameters import CellField, NodalField

TOLD = "told"
"""Name of the parameter that has the movement."""


@dataclass(frozen=True, eq=False)
class Pairing(CompleteResponse):
    """``sum g * u`` with fixed numbers ``g`` ``(n_nodes, dim)``."""

    weights: FloatArray

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        return Partials((self.weights * solution.u).sum(), state=self.weights, name="a motion")


class SolvedMotion(MadeAnew, Motion):
    """A motion by a linear static problem with the movement as a nodal parameter; see the top of the module.

    Parameters
    ----------
    mesh : Mesh
    problem : LinearStatic
        At the coordinates of the mesh, where its factor stays.
    taken : (n_nodes, dim) bool
        Components that take the movement over as it is, ``P``.
    felt : (n_nodes, dim) bool
        Components of the movement that count.
    arguments : mapping
        What it is made with beside the mesh, its ``solver`` among it, to be made again elsewhere.
    """

    linear = True
    shifts = False

    def __init__(
        self,
        mesh: Mesh,
        problem: LinearStatic,
        taken: npt.NDArray[np.bool_],
        felt: npt.NDArray[np.bool_],
        arguments: Mapping[str, Any],
    ) -> None:
        self.points = mesh.points
        self._mesh, self._problem, self.taken, self.felt = mesh, problem, frozen(taken), frozen(felt)
        self._arguments = dict(arguments)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was made from, by the names of the arguments."""
        return {"mesh": self._mesh, **self._arguments}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments.items())
        return shown(f"{type(self).__name__}({self._mesh.n_nodes} nodes, {arguments})")

    @property
    def counts(self) -> Counts:
        """Analyses and factorisations so far."""
        home, moved = self._problem.counts, self._moving.counts if "_moving" in vars(self) else Counts(0, 0)
        return Counts(home.analyses + moved.analyses, home.factorisations + moved.factorisations)

    @cached_property
    def home(self) -> Solution:
        """The problem solved at the coordinates of the mesh, without a movement: its products are the motion."""
        return self._problem.solve(None, {TOLD: np.zeros(self.points.shape)})

    @cached_property
    def _moving(self) -> LinearStatic:
        """The problem for moved coordinates: these share a live factor, which is not that of the mesh itself."""
        return self._problem.rebuilt(self.points)

    def place(self, points: FloatArray, origin: FloatArray | None) -> Placed:
        """Put at node coordinates."""
        if origin is None:
            return AtHome(self, frozen(self.points + self.along(points - self.points)))
        told = self.felt * (points - origin)
        solution = self._moving.solve(origin, {TOLD: told})
        return FromOrigin(self, solution, frozen(origin + self.taken * told + solution.u))

    @property
    def sign(self) -> float:
        """``f`` is the matrix of the driver times ``s``, times this."""
        raise NotImplementedError

    def driver(self, at: FemAtDesign) -> FemAtDesign:
        """Where the matrix is taken that drives the motion, for the problem at its design."""
        raise NotImplementedError

    def driven(self, at: FemAtDesign, field: FloatArray) -> FloatArray:
        """``f`` for a movement ``(n_nodes, dim)`` that counts as it is; at the same time the transposed of that."""
        return self.sign * at.jvp(State(field.reshape(1, -1)), field.reshape(1, -1)).reshape(field.shape)

    @cached_property
    def _home_driver(self) -> FemAtDesign:
        return self.driver(self.home.at)

    def along(self, told: FloatArray) -> FloatArray:
        """Movements of the nodes for those that they are told, from the mesh itself."""
        load = self.driven(self._home_driver, self.felt * told)
        return np.asarray(self.taken * told + self.home.solve_adjoint(load))  # the matrix is symmetric

    def back(self, gradient: FloatArray) -> FloatArray:
        """The transposed of ``along``."""
        return self.by_told(gradient, self._home_driver, self.home.solve_adjoint(gradient))

    def by_told(self, gradient: FloatArray, driver: FemAtDesign, adjoint: FloatArray) -> FloatArray:
        """Derivative of ``gradient . (P s + w)`` by ``s``, for its adjoint state."""
        return np.asarray(self.taken * gradient + self.felt * self.driven(driver, adjoint))

    def direction(self, points: FloatArray | None, told: FloatArray) -> Design:
        """A direction of the design of the problem."""
        return Design(points, {TOLD: self.felt * told})


@dataclass(frozen=True, eq=False)
class AtHome(Placed):
    """A solved motion from the coordinates of the mesh, where it is linear."""

    motion: SolvedMotion
    points: FloatArray

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Node coordinates."""
        return self.points.shape

    def pull(self, gradient: FloatArray) -> Pulled:
        """Derivative by the coordinates that it was given; the mesh does not move."""
        return self.motion.back(gradient), None

    def push(self, direction: FloatArray, origin: FloatArray | None) -> FloatArray:
        """Velocities of the nodes."""
        return self.motion.along(direction)

    def bend(self, gradient: FloatArray, direction: FloatArray, origin: FloatArray | None) -> Pulled:
        """Zero."""
        return np.zeros(self.points.shape), None


@dataclass(frozen=True, eq=False)
class FromOrigin(Placed):
    """A solved motion from moved coordinates, on which its matrix depends."""

    motion: SolvedMotion
    solution: Solution
    points: FloatArray

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Node coordinates."""
        return self.points.shape

    def pull(self, gradient: FloatArray) -> Pulled:
        """Derivatives by the coordinates that it was given and by the origin."""
        (slope,) = self.solution.pullback([Partials(0.0, state=gradient)])
        told = self.motion.by_told(gradient, self.motion.driver(self.solution.at), slope.loads)
        return told, gradient + slope.points - told

    def push(self, direction: FloatArray, origin: FloatArray | None) -> FloatArray:
        """Velocities of the nodes."""
        at = np.zeros(self.points.shape) if origin is None else origin
        told = direction - at
        (followed,) = self.solution.pushforward([self.motion.direction(at, told)])
        return np.asarray(at + self.motion.taken * told + followed)

    def bend(self, gradient: FloatArray, direction: FloatArray, origin: FloatArray | None) -> Pulled:
        """Rates of both derivatives, by second derivatives of the solution."""
        at = np.zeros(self.points.shape) if origin is None else origin
        along = self.motion.direction(at, direction - at)
        bent = hessian(self.solution, Pairing(gradient), check=False) @ along
        told = self.motion.felt * bent.parameters[TOLD]
        return told, bent.points - told


def _lasting(solver: str | Solver) -> str | Solver:
    """The solver of a matrix that many right-hand sides come to: the best that makes factors, unless one is named."""
    return get_solver() if isinstance(solver, str) and solver == "auto" else solver


# ---------------------------------------------------------------------- the filter
def _smooth(u: Any, v: Any, w: Any) -> Any:
    return dot(u, v) + w.radius**2 * ddot(grad(u), grad(v))


def _told(v: Any, w: Any) -> Any:
    return dot(w.told, v)


class HelmholtzFilter(SolvedMotion):
    """Smooth movements: ``(M - r^2 L) x = M s`` for the movement ``s`` that nodes are told, component by component.

    ``M`` is the mass matrix, ``L`` the Laplacian with free boundaries; the movement is averaged over lengths of about
    ``r``, and what is shorter dies out (B. S. Lazarov, O. Sigmund, "Filters in topology optimization based on
    Helmholtz-type differential equations", Int. J. Numer. Meth. Engng 86 (2011); their filter of radius ``R`` has
    ``r = R / (2 sqrt(3))``). Constants pass as they are where nothing is fixed.

    Parameters
    ----------
    mesh : Mesh
    radius : float
        ``r``, a length.
    fixed : group names or Fixed, optional
        Nodes, or components of them, that stay where they are: ``"left"``, or ``Fixed("top", "y")`` for a surface that
        stays in its plane.
    solver : str or Solver
        ``"auto"``: a factor in double precision, which serves all designs; in space, ``"amg"`` takes less memory.

    Raises
    ------
    ParametrisationError
        For a radius that is not positive.
    UnknownGroupError, SupportError
        For groups and components that there are not.
    """

    def __init__(self, mesh: Mesh, radius: float, *, fixed: Groups = (), solver: str | Solver = "auto") -> None:
        require_mesh(mesh)
        length = real_array(radius, "radius", ParametrisationError, "a length")
        if length.ndim or not np.isfinite(length) or length <= 0:
            raise ParametrisationError(f"radius must be a positive length, not {radius!r}")
        held = chosen_components(mesh, fixed, "fixed")
        form = Form(
            _smooth, _told, element="vector", definite=True,
            parameters={"radius": float(length), TOLD: NodalField(components=mesh.dim)},
        )  # fmt: skip
        problem = LinearStatic(*_held(mesh, form, held), solver=_lasting(solver))
        self._radius = float(length)
        arguments = {"radius": float(length), "fixed": fixed, "solver": solver}
        super().__init__(mesh, problem, np.zeros_like(held), np.ones_like(held), arguments)

    @property
    def sign(self) -> float:
        """``f = M s``."""
        return 1.0

    def driver(self, at: FemAtDesign) -> FemAtDesign:
        """With a radius of zero the matrix is ``M``."""
        return at.shifted(Design(None, {"radius": np.array(-self._radius)}), 1.0)

    def riesz(self, gradient: Gradient | npt.ArrayLike) -> FloatArray:
        """The movement that stands for a node gradient in the metric of the filter, ``(n_nodes, dim)``.

        ``(M - r^2 L) g = G``: of all movements ``v`` with ``v^T (M - r^2 L) v`` as large, ``g`` changes the response
        most, at the rate ``G . v``. Unlike the raw gradient it does not depend on the size of the cells, and nodes
        inside follow the boundary. It is zero where nodes are fixed. Its unit is [J]/[length] a volume (an area in
        2-D).

        Parameters
        ----------
        gradient : Gradient, or (n_nodes, dim)
        """
        raw = getattr(gradient, "points", gradient)
        return self.home.solve_adjoint(finite_array(raw, self.points.shape, "the node gradient"))


# ---------------------------------------------------------------------- elastic motion
def _stretched(u: Any, v: Any, w: Any) -> Any:
    return w.stiffness * ddot(sym_grad(u), sym_grad(v))


def _pulled(v: Any, w: Any) -> Any:
    return -w.stiffness * ddot(sym_grad(w.told), sym_grad(v))


class _ElasticForm(Form):
    """Forms whose null vectors are the rigid motions."""

    def null_modes(self, points: FloatArray) -> NullModes:
        """Translations and infinitesimal rotations."""
        return rigid_motions(points)


class ElasticMotion(SolvedMotion):
    """Some nodes go where they are told, the others follow as those of an elastic body.

    The body has no Poisson's ratio, and small cells are stiffer than large ones.

    Parameters
    ----------
    mesh : Mesh
    boundary : group names or Fixed, optional
        What goes where it is told: nodes, or components of them. ``Fixed("bottom", "y")`` has the nodes of a plane y =
        const stay in it and slide along. All nodes on the boundary of the mesh when left out. What other nodes are told
        does not matter.
    stiffening : float
        The stiffness of a cell of volume ``V`` is ``(mean V / V) ** stiffening``, of the mesh as it is.
    solver : str or Solver
        ``"auto"``: a factor in double precision, which serves all designs; in space, ``"amg"`` takes less memory.

    Raises
    ------
    UnknownGroupError, SupportError
        For groups and components that there are not.
    ParametrisationError
        Where some part of the mesh is free to move as a rigid body.
    """

    def __init__(
        self,
        mesh: Mesh,
        boundary: Groups | None = None,
        *,
        stiffening: float = 1.0,
        solver: str | Solver = "auto",
    ) -> None:
        require_mesh(mesh)
        power = real_array(stiffening, "stiffening", ParametrisationError, "a number")
        if power.ndim or not np.isfinite(power):
            raise ParametrisationError(f"stiffening must be a finite number, not {stiffening!r}")
        if boundary is None:
            taken = np.zeros(mesh.points.shape, dtype=bool)
            taken[mesh.facet_nodes(mesh.boundary())] = True
        else:
            taken = chosen_components(mesh, boundary, "boundary")
        volumes = mesh.cell_volumes()
        stiffness = (volumes.mean() / volumes) ** float(power)
        form = _ElasticForm(
            _stretched, _pulled, element="vector", definite=True,
            parameters={"stiffness": CellField(stiffness), TOLD: NodalField(components=mesh.dim)},
        )  # fmt: skip
        arguments = {"boundary": boundary, "stiffening": float(power), "solver": solver}
        # one rule for both forms, or f would not be -K s
        order = max(block.reference.stiffness_order for block in mesh.blocks)
        try:
            problem = LinearStatic(*_held(mesh, form, taken), solver=_lasting(solver), quadrature_order=order)
        except SupportError as error:
            raise ParametrisationError(
                f"the boundary {boundary!r} does not tell all of the mesh where to go; name more groups: {error}"
            ) from error
        super().__init__(mesh, problem, taken, taken, arguments)

    @property
    def sign(self) -> float:
        """``f = -K s``: what the nodes that go where they are told pull at."""
        return -1.0

    def driver(self, at: FemAtDesign) -> FemAtDesign:
        """The problem itself."""
        return at


# ---------------------------------------------------------------------- shared
def _held(mesh: Mesh, form: Form, held: npt.NDArray[np.bool_]) -> tuple[Mesh, Form, list[Fixed]]:
    """Mesh, physics and supports of a problem whose unknowns are held at some components of nodes."""
    groups = {f"held along {axis}": np.flatnonzero(held[:, number]) for number, axis in enumerate(AXES[: mesh.dim])}
    groups = {name: nodes for name, nodes in groups.items() if len(nodes)}
    return mesh.with_groups(groups), form, [Fixed(name, name[-1]) for name in groups]
