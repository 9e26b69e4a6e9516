"""A problem solved at a design. It owns its factor, and with it its adjoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from femadj.algebra.implicit import Implicit, Seed, adjoint_of
from femadj.algebra.linear_system import Counts, LinearSolution
from femadj.algebra.residual import State, Weights
from femadj.algebra.second import Motion, Moving
from femadj.base.arguments import mapping_of, real_array, sequence_of
from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import as_array
from femadj.base.design import Cotangent, Design
from femadj.base.display import measured, shown
from femadj.base.pickling import SolvedAnew
from femadj.conditions.supports import Prescribed, unknown_name
from femadj.errors import ParameterError, ProblemError, ResponseError
from femadj.mesh import Mesh
from femadj.physics import Physics
from femadj.problems.fem import FemAtDesign
from femadj.problems.gradient import Gradient, OnDemand, Partials, all_partials
from femadj.problems.movable import Linked
from femadj.progress import Phases, Progress
from femadj.solvers.factor import Factor
from femadj.space.parameters import Parameters


class StaticProblem(Protocol):
    """What a solution tells of the problem that it solves."""

    @property
    def mesh(self) -> Mesh:
        """Topology and reference coordinates."""
        ...

    @property
    def physics(self) -> Physics:
        """The physics."""
        ...

    @property
    def solver_name(self) -> str:
        """Name of the sparse direct solver in use."""
        ...

    @property
    def parameters(self) -> Parameters:
        """Declared parameters with their values."""
        ...

    @property
    def counts(self) -> Counts:
        """Analyses and factorisations so far."""
        ...

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds of building the problem, by phase."""
        ...

    @property
    def progress(self) -> Progress | None:
        """Who is notified of phases."""
        ...


def require_solution(value: Any, taker: str) -> None:
    """ProblemError for what is no solution of a problem, handed to ``taker``."""
    if hasattr(value, "stages") and callable(getattr(value, "pullback", None)):
        return
    advice = ""
    if callable(getattr(getattr(value, "system", None), taker, None)):
        advice = f": solutions of a LinearSystem go to its own method, system.{taker}(solution, ...)"
    elif callable(getattr(value, "solve", None)):
        advice = f": solve it first, {taker}(problem.solve(), ...)"
    raise ProblemError(f"{taker} takes a solution of a problem, not {type(value).__name__}{advice}")


class Solution(SolvedAnew):
    """A solved problem at fixed node coordinates.

    Attributes
    ----------
    problem : LinearStatic or NonlinearStatic
    at : FemAtDesign
        The residual at the design, with its products.
    seconds : mapping of phase to seconds
    """

    problem: StaticProblem
    at: FemAtDesign
    seconds: Mapping[str, float]

    @property
    def implicit(self) -> Implicit:
        """Residual, state and factor: what derivatives are made of."""
        raise NotImplementedError

    @property
    def points(self) -> FloatArray:
        """Node coordinates, ``(n_nodes, dim)``."""
        return self.at.points

    @property
    def parameters(self) -> Parameters:
        """Parameters with their values here."""
        return self.at.parameters

    @property
    def u(self) -> FloatArray:
        """The field, ``(n_nodes, nc)``: displacement [length] or scalar, in input node order."""
        return self._field(self.implicit.state.u[0])

    @property
    def load(self) -> FloatArray:
        """Nodal forces of the loads, ``(n_nodes, nc)``."""
        return self.at.load

    @property
    def prescribed(self) -> Prescribed:
        """Values of the supports."""
        return self.at.prescribed

    @property
    def factor(self) -> Factor:
        """The factorised stiffness, supports eliminated."""
        return self.implicit.factor

    @property
    def stages(self) -> Mapping[str, Solution]:
        """Itself, under no name: a chain of one stage."""
        return {"": self}

    def _again(self) -> tuple[Any, FloatArray, Mapping[str, Any], Mapping[str, Any]]:
        return self.problem, self.points, self.parameters.known, {}

    @property
    def linked(self) -> Linked:
        """Itself, alone."""
        return Linked({"": self}, {"": ()}, {"": ""})

    @property
    def state(self) -> State:
        """The unknowns, flat."""
        return self.implicit.state

    def shifted(self, at: FemAtDesign, state: State) -> Solution:
        """The same with another design and state, for what looks at these alone: responses."""
        raise NotImplementedError

    def moving(self, direction: Design, partials: Partials) -> Moving:
        """Itself along a direction of the design, whatever the response."""
        return Motion.along(self.implicit, direction)

    def require_twice(self, partials: Partials, evaluate: Callable[[Any], Partials]) -> None:
        """Any response has second derivatives here that has them as a function of the state and the design."""

    def weigh(self, seed: Seed, phases: Phases) -> Weights:
        """What derivatives of the residual are paired with, for a response: an adjoint solve where it takes one."""
        (weights,) = self.implicit.weights([seed], phases)
        return weights

    def __repr__(self) -> str:
        space, mesh = self.at.space, self.problem.mesh
        where = partial(unknown_name, space, self.problem.physics.components(mesh.dim))
        return shown(
            f"{self._name}({space.n_dofs} unknowns on {mesh.n_nodes} nodes, solver {self.problem.solver_name})",
            u=measured(self.u, where),
            load=measured(self.load, where),
            factor=repr(self.factor),
            **self._told(),
            parameters=", ".join(self.parameters),
            seconds=", ".join(f"{phase} {time:.3f}" for phase, time in self.seconds.items()),
        )

    _name = "Solution"

    def _told(self) -> dict[str, str]:
        """What else ``repr`` tells."""
        return {}

    def stage(self, name: str | None) -> Solution:
        """Itself; ResponseError for the name of a stage, which only chains have."""
        require_no_stage(name)
        return self

    # ------------------------------------------------------------------ what it looks like
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
        return self.at.space.part(self._part_name(name), self.u, self.points)

    def _part_name(self, name: str | None) -> str:
        names = self.at.space.part_names
        if name is None and len(names) > 1:
            raise ProblemError(f"name one of the parts: {', '.join(names)}")
        return names[0] if name is None else name

    def nodal(self, name: str | None = None) -> FloatArray:
        """Values of a part of the state at the mesh nodes, ``(n_nodes, nc)``; where cells differ, their mean."""
        return self.at.space.nodal_values(self._part_name(name), self.u, self.points)

    def nodal_fields(self, stage: str) -> dict[str, FloatArray]:
        """Nodal values of the state, by the names that they have in a result file."""
        own = "displacement" if self.problem.physics.quantity == "displacement" else "field"
        return nodal_fields(self.at, self.u, stage, own)

    def reactions(self) -> FloatArray:
        """Forces that the supports exert on the body, ``K u - f``; zero at free unknowns, shape ``(n_nodes, nc)``."""
        return self._field(self.at.reactions(self.implicit.state)[0])

    def internal_forces(self) -> FloatArray:
        """Internal forces (``K u``) over all unknowns: the loads plus the reactions."""
        return self.load + self.reactions()

    # ------------------------------------------------------------------ derivatives
    def solve_adjoint(self, rhs: FloatArray) -> FloatArray:
        """Solve ``K_FF^T lam_F = rhs_F`` with ``lam = 0`` at supports, on the same factor.

        Parameters
        ----------
        rhs : (n_nodes, nc) or (k, n_nodes, nc)

        Returns
        -------
        lam : same shape
        """
        block = real_array(rhs, "rhs", ProblemError)
        if block.shape[-2:] != self.u.shape or block.ndim not in (2, 3) or not np.isfinite(block).all():
            raise ProblemError(f"rhs must be finite and of shape {self.u.shape} or (k, *{self.u.shape})")
        return self.implicit.adjoint(block.reshape(-1, self.u.size)).reshape(block.shape)

    def pullback(self, partials: Sequence[Partials]) -> tuple[Gradient, ...]:
        """Total derivatives of responses from their partial ones: one transposed solve each, as one block.

        Raises
        ------
        ResponseError
            For partial derivatives that are not finite arrays in the shape of the unknowns or of the points.
        """
        phases = Phases(self.problem.progress)
        for each in all_partials(partials):
            self.stage(each.stage)
            self._check(each)
        seeds = [self.seed(each) for each in partials]
        weights = self.implicit.weights(seeds, phases)
        solved = any(seed.solves for seed in seeds)
        errors = [self.implicit.error, self.factor.statistics.forward_error if solved else None]
        error = max((each for each in errors if each is not None), default=None)
        return tuple(replace(each, forward_error=error) for each in self.paired(partials, seeds, weights, phases))

    def paired(
        self, partials: Sequence[Partials], seeds: Sequence[Seed], weights: Sequence[Weights], phases: Phases
    ) -> tuple[Gradient, ...]:
        """Total derivatives of responses whose adjoint states are known: the contractions."""
        into = [Cotangent(np.zeros_like(self.points)) for _ in partials]
        wanted = [number for number, seed in enumerate(seeds) if seed.depends]
        self.implicit.pullback([weights[n] for n in wanted], [into[n] for n in wanted], phases)
        return tuple(self._gradient(*each) for each in zip(partials, seeds, weights, into, strict=True))

    def pushforward(self, directions: Sequence[Design]) -> tuple[FloatArray, ...]:
        """``du`` along directions of the design, one solve each; arrays in the shape of ``u``."""
        require_directions(directions, self.points, self.parameters)
        return tuple(self._field(rates[0]) for rates in self.implicit.pushforward(directions))

    def _field(self, flat: FloatArray) -> FloatArray:
        return flat.reshape(self.at.space.shape)

    def seed(self, partials: Partials) -> Seed:
        """Partial derivatives of a response, flat."""
        given = (partials.state, partials.internal_weight, partials.external_weight, partials.adjoint)
        return Seed(*(None if array is None else np.asarray(array).reshape(1, -1) for array in given))

    def _gradient(self, partials: Partials, seed: Seed, weights: Weights, into: Cotangent) -> Gradient:
        points = into.points
        assert points is not None
        if partials.points is not None:
            points += partials.points
        supports = np.zeros_like(self.u) if weights.prescribed is None else self._field(weights.prescribed[0])
        slopes = by_parameters(self.at, self.implicit.state, weights if seed.depends else None, partials)
        return Gradient(points, self._field(weights.external[0]), supports, seed.solves, slopes)

    def _check(self, partials: Partials) -> None:
        checked_partials(partials, self.u.shape, self.points.shape)


def require_no_stage(name: str | None) -> None:
    """ResponseError for the name of a stage, which only chains have."""
    if name is not None:
        raise ResponseError(
            f"the response of stage {name!r} is one of a chain, and the solution is that of a single problem"
        )


def require_directions(directions: Any, points: FloatArray, parameters: Parameters) -> None:
    """ProblemError and ParameterError for what are no directions of a design."""
    for direction in sequence_of(directions, "directions", ProblemError):
        if not isinstance(direction, Design):
            raise ProblemError(f"directions must be a list of Design, not of {type(direction).__name__}")
        if direction.points is not None:
            as_array(direction.points, points.shape, "points of a direction", ProblemError)
        for name, rates in mapping_of(direction.parameters, "parameters of a direction", ParameterError).items():
            as_array(rates, np.shape(parameters.value(name)), f"rates of {name!r}", ParameterError)


def nodal_fields(at: FemAtDesign, u: FloatArray, stage: str, own: str = "field") -> dict[str, FloatArray]:
    """Nodal values of the parts of a field: by their own name where they are the unknowns, or by that of a stage."""
    space = at.space
    if space.nodal:
        return {stage or own: u}
    prefix = f"{stage}." if stage else ""
    return {f"{prefix}{part}": space.nodal_values(part, u, at.points) for part in space.part_names}


def by_parameters(at: FemAtDesign, state: State, weights: Weights | None, partials: Partials) -> OnDemand:
    """Derivatives by all parameters of a problem and of a response; without weights the problem does not matter."""

    def by(name: str, shape: tuple[int, ...]) -> FloatArray:
        slope = np.zeros(shape)
        if weights is not None:
            at.pullback(state, [weights], [Cotangent(None, {name: slope})])
        return slope + own_slope(partials, name, shape) if name in partials.parameters else slope

    sources = {name: partial(by, name, entry.shape) for name, entry in at.parameters.entries.items()}
    own = {name: partial(own_slope, partials, name) for name in partials.parameters if name not in sources}
    return OnDemand(sources | own)


@dataclass(frozen=True, eq=False, repr=False)
class LinearStaticSolution(Solution):
    """A solved linear problem at fixed node coordinates.

    Attributes
    ----------
    problem : LinearStatic
    at : FemAtDesign
        The residual at the design, with its products.
    linear : LinearSolution
        The same as a linear system: matrix, factor and right-hand side.
    seconds : mapping of phase to seconds
    """

    problem: StaticProblem
    at: FemAtDesign
    linear: LinearSolution
    seconds: Mapping[str, float]

    @property
    def implicit(self) -> Implicit:
        """Residual, state and factor: what derivatives are made of."""
        return self.linear.implicit

    @property
    def u(self) -> FloatArray:
        """The field, ``(n_nodes, nc)``: displacement [length] or scalar, in input node order."""
        return self._field(self.linear.x)

    def _gradient(self, partials: Partials, seed: Seed, weights: Weights, into: Cotangent) -> Gradient:
        gradient = super()._gradient(partials, seed, weights, into)
        if self.factor.statistics.preconditioner is None:
            return gradient
        error = inner(adjoint_of(weights, seed).reshape(self.implicit.left.shape), self.implicit.left)
        return replace(gradient, value_error=error)

    def shifted(self, at: FemAtDesign, state: State) -> LinearStaticSolution:
        """The same with another design and state, for what looks at these alone: responses."""
        implicit = replace(self.implicit, at=at, state=state)
        return replace(self, at=at, linear=replace(self.linear, implicit=implicit, x=state.u[0]))


def checked_partials(partials: Partials, field: tuple[int, ...], points: tuple[int, ...]) -> None:
    """ResponseError for partial derivatives that are not finite arrays in the shapes of unknowns and points."""
    mapping_of(partials.parameters, f"{partials.name}: parameters", ResponseError)
    for what, shape in (
        ("state", field),
        ("points", points),
        ("internal_weight", field),
        ("external_weight", field),
        ("adjoint", field),
    ):
        array: Any = getattr(partials, what)
        if array is None:
            continue
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != np.float64:
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ResponseError(
                f"{partials.name}: the partial derivative {what!r} must be a float64 array of shape {shape}, not "
                f"{found}"
            )
        if not np.isfinite(array).all():
            raise ResponseError(f"{partials.name}: the partial derivative {what!r} has NaN or infinite entries")
    if partials.adjoint is not None and partials.state is None:
        raise ResponseError(f"{partials.name}: an adjoint state without the derivative 'state' that it belongs to")


def own_slope(partials: Partials, name: str, shape: tuple[int, ...] | None = None) -> FloatArray:
    """The partial derivative of a response by a parameter, checked when it is read."""
    array = real_array(partials.parameters[name], f"{partials.name}: the derivative by {name!r}", ResponseError)
    if (shape is not None and array.shape != shape) or not np.isfinite(array).all():
        raise ResponseError(f"{partials.name}: the derivative by {name!r} must be finite and have shape {shape}")
    return array
