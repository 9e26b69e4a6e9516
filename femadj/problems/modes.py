"""Eigenpairs of a problem at a design, which know their derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, Self

import numpy as np

from femadj.algebra.implicit import Seed
from femadj.algebra.residual import Weights
from femadj.algebra.second import Moving, in_motion, rate, stepped
from femadj.algebra.spectral import EigenState, ModeSeed, Spectral, turning
from femadj.algebra.turning import Turning, require_alike
from femadj.base.arguments import mapping_of, real_array
from femadj.base.arrays import FloatArray
from femadj.base.complex_step import guarded, plain, steps_kept
from femadj.base.design import Cotangent, Design
from femadj.base.display import shown
from femadj.base.pickling import SolvedAnew
from femadj.conditions.supports import Prescribed
from femadj.errors import ProblemError, ResponseError
from femadj.problems.fem import FemAtDesign
from femadj.problems.gradient import Gradient, Partials, all_partials
from femadj.problems.movable import Linked
from femadj.problems.solution import StaticProblem, by_parameters, nodal_fields, require_directions, require_no_stage
from femadj.progress import Phases
from femadj.solvers.factor import Factor
from femadj.space.parameters import Parameters


@dataclass(frozen=True, eq=False)
class ModePartials(Partials):
    """Value and partial derivatives of a response of modes. What is None is zero.

    Attributes
    ----------
    value, points, parameters, stage, name
        See ``Partials``; the other fields of these stay None.
    values : (k,) or None
        ``dJ/dlam`` by every eigenvalue of the solution.
    vectors : mapping of number to (n_nodes, nc)
        ``dJ/dphi`` by the eigenvectors that matter.
    """

    values: FloatArray | None = None
    vectors: Mapping[int, FloatArray] = field(default_factory=dict)

    def named(self, name: str, stage: str | None) -> ModePartials:
        """The same as those of a response of some name and stage."""
        return replace(self, name=name, stage=stage)


@dataclass(frozen=True, eq=False)
class ModeField:
    """A mode as a field, for responses that are functions of one.

    Attributes
    ----------
    problem : Modal or Buckling
    at : FemAtDesign
    parameters : Parameters
        With their values here.
    u : (n_nodes, nc)
    """

    problem: StaticProblem
    at: FemAtDesign
    parameters: Parameters
    u: FloatArray

    @property
    def points(self) -> FloatArray:
        """Node coordinates."""
        return guarded(self.at.points)

    @property
    def prescribed(self) -> Prescribed:
        """Values of the supports."""
        return self.at.prescribed

    def stage(self, name: str | None) -> ModeField:
        """Itself."""
        require_no_stage(name)
        return self

    @property
    def load(self) -> NoReturn:
        """A mode has none."""
        raise ResponseError("a mode is no state of equilibrium: it has neither loads nor reactions")

    reactions = internal_forces = implicit = property(lambda self: self.load)


@dataclass(frozen=True, eq=False)
class Modes(SolvedAnew):
    """Eigenpairs of a problem at fixed node coordinates.

    Attributes
    ----------
    problem : Modal or Buckling
    at : FemAtDesign
        The residual at the design, with its products.
    spectral : Spectral
        Eigenpairs and factor: what derivatives are made of.
    seconds : mapping of phase to seconds
    """

    problem: StaticProblem
    at: FemAtDesign
    spectral: Spectral
    seconds: Mapping[str, float]

    def _again(self) -> tuple[Any, FloatArray, Mapping[str, Any], Mapping[str, Any]]:
        return self.problem, self.points, self.parameters.known, {}

    @property
    def points(self) -> FloatArray:
        """Node coordinates, ``(n_nodes, dim)``."""
        return self.at.points

    @property
    def parameters(self) -> Parameters:
        """Parameters with their values here."""
        return self.at.parameters

    @property
    def values(self) -> FloatArray:
        """Eigenvalues ``(k,)``, ascending: as many as were asked for, and the rest of the last one's cluster."""
        return guarded(self.spectral.values)

    @property
    def vectors(self) -> FloatArray:
        """Eigenvectors ``(k, n_nodes, nc)``, ``phi^T M phi = 1``; see ``Modal`` and ``Buckling``."""
        return guarded(self.spectral.vectors.reshape(-1, *self.at.space.shape))

    @property
    def clusters(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of all eigenvalues, those together that coincide."""
        return self.spectral.pairs.clusters

    @property
    def factor(self) -> Factor:
        """The factorised matrix."""
        return self.spectral.pairs.pencil.factor

    @property
    def stages(self) -> Mapping[str, Any]:
        """Itself, under no name: a chain of one stage."""
        return {"": self}

    def stage(self, name: str | None) -> Any:
        """Itself; ResponseError for the name of a stage, which only chains have."""
        require_no_stage(name)
        return self

    @property
    def u(self) -> NoReturn:
        """There is no one field."""
        raise ResponseError(
            f"{type(self).__name__} has several fields, not one: ModeShape(number, response) is a response of one mode"
        )

    load = prescribed = property(lambda self: self.u)

    def mode(self, number: int) -> ModeField:
        """A mode as a field; ResponseError where there is none of that number."""
        return ModeField(self.problem, self.at, self.parameters, self.vectors[self.require_number(number, "mode")])

    def require_number(self, number: Any, what: str) -> int:
        """ResponseError for what is no number of a mode."""
        k = len(self.values)
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not 0 <= number < k:
            raise ResponseError(
                f"{what}: the modes have the numbers 0 to {k - 1}, and none is {number!r}; more are computed with a "
                "larger count"
            )
        return int(number)

    def overlap(self, other: Modes) -> FloatArray:
        """``|phi_i^T M psi_j|`` with the modes of another design ``(k, k_other)``, ``M`` being that of this one.

        The largest entry of a row tells which of the others is the continuation of a mode, where they change places.
        """
        if not callable(getattr(other, "overlap", None)) or other.at.space.shape != self.at.space.shape:
            raise ProblemError(f"overlap takes a solution with modes of the same unknowns, not {type(other).__name__}")
        return np.asarray(np.abs(self.spectral.vectors @ (self.spectral.pairs.pencil.mass @ other.spectral.vectors.T)))

    def nodal_fields(self, stage: str) -> dict[str, FloatArray]:
        """All modes, by the names that they have in a result file."""
        prefix = f"{stage} " if stage else ""
        fields = [nodal_fields(self.at, u, "") for u in self.vectors]
        single = len(self.at.space.part_names) == 1
        return {
            f"{prefix}mode {i}" + ("" if single else f" {name}"): values
            for i, each in enumerate(fields)
            for name, values in each.items()
        }

    def __repr__(self) -> str:
        space, mesh = self.at.space, self.problem.mesh
        return shown(
            f"{type(self).__name__}({len(self.values)} modes of {space.n_dofs} unknowns on {mesh.n_nodes} nodes, "
            f"solver {self.problem.solver_name})",
            values=", ".join(f"{value:.6g}" for value in self.values),
            clusters=", ".join(str(cluster) for cluster in self.clusters if len(cluster) > 1),
            factor=repr(self.factor),
            parameters=", ".join(self.problem.parameters),
            seconds=", ".join(f"{phase} {time:.3f}" for phase, time in self.seconds.items()),
        )

    # ------------------------------------------------------------------ derivatives
    def pullback(self, partials: Sequence[Partials]) -> tuple[Gradient, ...]:
        """Total derivatives of responses from their partial ones.

        Those by eigenvalues take no solve; those by an eigenvector a few on the same factor.

        Raises
        ------
        EigenvalueError
            For functions that do not treat coinciding eigenvalues alike, and for eigenvectors of these.
        ResponseError
            For partial derivatives that are not finite arrays of the right shape, and by a field.
        """
        phases = Phases(self.problem.progress)
        seeds = []
        for each in all_partials(partials):
            self.stage(each.stage)
            seeds.append(self._seed(each))
        return tuple(self._gradient(each, seed, phases) for each, seed in zip(partials, seeds, strict=True))

    def pushforward(self, directions: Sequence[Design]) -> FloatArray:
        """Derivatives of all eigenvalues along directions of the design, ``(n_directions, k)``.

        Those of eigenvalues that coincide are one-sided and ascending: each direction parts them in its own way.
        """
        require_directions(directions, self.points, self.problem.parameters)
        return self.spectral.pushforward([self._complete(each) for each in directions])

    def _complete(self, direction: Design) -> Design:
        """A direction with what the problem itself adds."""
        return direction

    def _seed(self, partials: Partials) -> ModeSeed:
        name, k = partials.name, len(self.values)
        for what in ("state", "internal_weight", "external_weight", "adjoint"):
            if getattr(partials, what) is not None:
                raise ResponseError(
                    f"{name} is a response of a field, of which {type(self).__name__} has several: "
                    "ModeShape(number, response) is one of a mode"
                )
        mapping_of(partials.parameters, f"{name}: parameters", ResponseError)
        if partials.points is not None:
            _checked(partials.points, self.points.shape, name, "points")
        values = getattr(partials, "values", None)
        if values is not None:
            values = _checked(values, (k,), name, "values")
        given: Any = getattr(partials, "vectors", {})
        if not isinstance(given, Mapping):
            raise ResponseError(f"{name}: vectors must be a mapping of numbers of modes to arrays")
        for number, slope in given.items():
            self.require_number(number, name)
            _checked(slope, self.at.space.shape, name, "vectors")
        return ModeSeed(values, self._by_vectors(partials))

    def _by_vectors(self, partials: Partials) -> FloatArray | None:
        """Derivatives by all eigenvectors, ``(k, n)``; None where there are none."""
        given: Mapping[int, FloatArray] = getattr(partials, "vectors", {})
        if not given:
            return None
        vectors = np.zeros((len(self.values), self.at.space.n_dofs), self.points.dtype)
        for number, slope in given.items():
            vectors[number] = plain(slope).ravel()
        return vectors

    def _gradient(self, partials: Partials, given: ModeSeed, phases: Phases) -> Gradient:
        if given.values is not None:
            self.spectral.require_alike(given.values)
        with phases("solve adjoint"):
            seed = self.spectral.seed(given)
            state, weights, solves = self.spectral.state, self.spectral.weights(seed), len(turning(seed))
        points = np.zeros_like(self.points) if partials.points is None else np.array(partials.points)
        into = Cotangent(points, {name: np.zeros(self.at.parameters.entries[name].shape) for name in self.fed})
        with phases("contract"):
            self.at.pullback(state, [weights], [into])
        nothing = np.zeros(self.at.space.shape)
        slopes = by_parameters(self.at, state, weights if seed.depends else None, partials)
        return self._total(Gradient(points, nothing, nothing.copy(), solves, slopes), into)

    @property
    def fed(self) -> tuple[str, ...]:
        """Parameters of the residual that the problem itself supplies."""
        return ()

    def _total(self, gradient: Gradient, into: Cotangent) -> Gradient:
        """The gradient with what comes through the parameters that are fed, from the derivatives by them."""
        return gradient

    # ------------------------------------------------------------------ second derivatives
    @property
    def linked(self) -> Linked:
        """Itself, alone."""
        return Linked({"": self}, {"": ()}, {"": ""})

    @property
    def state(self) -> EigenState:
        """All eigenpairs."""
        return self.spectral.state

    def shifted(self, at: FemAtDesign, state: EigenState) -> Self:
        """The same with another design and eigenpairs, for what looks at these alone: responses."""
        return replace(self, at=at, spectral=self.spectral.shifted(at, state))

    def seed(self, partials: Partials) -> Seed:
        """Partial derivatives of a response by what the residual has at the eigenpairs."""
        slopes: Any = getattr(partials, "values", None)
        return self.spectral.seed(ModeSeed(None if slopes is None else plain(slopes), self._by_vectors(partials)))

    def weigh(self, seed: Seed, phases: Phases) -> Weights:
        """A system for each eigenvector that the response depends on."""
        with phases("solve adjoint"):
            return self.spectral.weights(seed)

    def moving(self, direction: Design, partials: Partials) -> Moving:
        """Itself along a direction of the design: all eigenvalues, and the eigenvectors that matter."""
        slopes: Any = getattr(partials, "values", None)
        numbers = set(getattr(partials, "vectors", {}))
        numbers |= set() if slopes is None else set(np.flatnonzero(slopes).tolist())
        return Turning.along(self.spectral, direction, sorted(numbers))

    def require_twice(self, partials: Partials, evaluate: Callable[[Any], Partials]) -> None:
        """EigenvalueError for what does not treat coinciding eigenvalues alike, and for eigenvectors of these."""
        seed = self._seed(partials)
        for number in getattr(partials, "vectors", {}):
            self.spectral.require_simple(number)
        if seed.values is None:
            return
        at: Any = in_motion(self.at, Design())

        def curved(rates: FloatArray) -> FloatArray:
            state = EigenState.of(stepped(self.values, rates), stepped(self.spectral.vectors, 0.0))
            found: Any = evaluate(self.shifted(at, state))
            return rate(plain(found.values))

        with steps_kept():
            require_alike(self.spectral, seed.values, curved)


def _checked(array: Any, shape: tuple[int, ...], name: str, what: str) -> FloatArray:
    """A partial derivative; ResponseError for what is none."""
    found = real_array(array, f"{name}: the partial derivative {what!r}", ResponseError)
    if found.shape != shape or not np.isfinite(found).all():
        raise ResponseError(f"{name}: the partial derivative {what!r} must be finite and of shape {shape}")
    return found


@dataclass(frozen=True, eq=False, repr=False)
class ModalSolution(Modes):
    """Vibration modes of a problem at fixed node coordinates.

    Attributes
    ----------
    problem : Modal
    at : FemAtDesign
        The residual at the design, with its products.
    spectral : Spectral
        Eigenpairs and factor: what derivatives are made of.
    seconds : mapping of phase to seconds
    """

    @property
    def frequencies(self) -> FloatArray:
        """``sqrt(lam) / (2 pi)`` [Hz where the units are consistent with seconds], zero for rigid motions."""
        return np.asanyarray(np.sqrt(np.maximum(self.values, 0.0)) / (2 * np.pi))
