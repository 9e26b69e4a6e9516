"""A problem solved over time. It owns its factors and what it keeps of its states, and with them its adjoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from femadj.algebra.checkpoint import Folder, Snapshots, Visit, pairs, reverse
from femadj.algebra.stepping import Change, Scheme, SchemeStepper, along
from femadj.base.arguments import mapping_of, sequence_of
from femadj.base.arrays import FloatArray
from femadj.base.calls import as_array
from femadj.base.design import Cotangent, Design
from femadj.base.display import measured, shown
from femadj.base.pickling import HoldsSolver
from femadj.errors import ConvergenceError, ParameterError, ProblemError, ResponseError, UnknownParameterError
from femadj.problems.fem import FemAtDesign
from femadj.problems.gradient import HistorySlope, OnDemand, Partials, TransientGradient, all_partials
from femadj.problems.initial import NAMES
from femadj.problems.moment import Moment, TransientProblem, unstaged
from femadj.problems.motion import Motion, Sums
from femadj.problems.solution import checked_partials, nodal_fields, own_slope
from femadj.problems.times import Observation, Reading, TimePartials, Times, reading
from femadj.progress import Phases
from femadj.solvers.factor import Factor
from femadj.space.parameters import Parameters

SAVED = 50
"""How often, at least, the way back is saved to a folder."""


@dataclass(frozen=True, eq=False)
class _Placed:
    """An observation of a response, placed in the steps.

    Attributes
    ----------
    response, number : int
        Which observation of which response.
    observation : Observation
    reading : Reading
    held : (n_groups,)
        Coefficients of what supports prescribe.
    """

    response: int
    number: int
    observation: Observation
    reading: Reading
    held: FloatArray


@dataclass(frozen=True, eq=False)
class _Tangent:
    """A direction.

    Attributes
    ----------
    change : Change
    initial : (order, n)
    held : (n_groups, n)
        Rates of the values of supports.
    final, step : float
        Rates of the final time and of the length of a step.
    """

    change: Change
    initial: FloatArray
    held: FloatArray
    final: float
    step: float


@dataclass(frozen=True, eq=False)
class HistorySolution(HoldsSolver):
    """A transient problem solved at a design.

    For static responses it is the field at the final time; ``AtTime`` and ``TimeIntegral`` observe others.

    Attributes
    ----------
    problem : Transient
    motion : Motion
        The equations at the design.
    stepper : SchemeStepper
        The scheme on them; owns the factors.
    times : Times
    snapshots : Snapshots
        The states that are kept.
    seconds : mapping of phase to seconds
    watched : list of response and values
        What has been observed on the way.
    """

    problem: TransientProblem
    motion: Motion
    stepper: SchemeStepper
    times: Times
    snapshots: Snapshots
    seconds: Mapping[str, float]
    watched: list[tuple[Any, FloatArray]] = field(default_factory=list)

    @property
    def at(self) -> FemAtDesign:
        """The residual at the design, without loads; of a nonlinear problem its terms of time derivatives."""
        return self.motion.at

    @property
    def points(self) -> FloatArray:
        """Node coordinates, ``(n_nodes, dim)``."""
        return self.at.points

    @property
    def parameters(self) -> Parameters:
        """Parameters of physics and loads with their values here."""
        return self.at.parameters

    @property
    def u(self) -> FloatArray:
        """The field at the final time, ``(n_nodes, nc)``."""
        return self.moment().u

    @property
    def factor(self) -> Factor:
        """The factorised matrix of the steps; ProblemError for nonlinear problems, which have one for each step."""
        return self.stepper.stages.factor

    def nodal_fields(self, stage: str) -> dict[str, FloatArray]:
        """Nodal values at the final time, by the names that they have in a result file."""
        own = "displacement" if self.problem.physics.quantity == "displacement" else "field"
        return nodal_fields(self.at, self.u, stage, own)

    def nodal(self, name: str) -> FloatArray:
        """Values of a part of the field at the final time at the mesh nodes, ``(n_nodes, nc)``."""
        return self.at.space.nodal_values(name, self.u, self.points)

    @property
    def stages(self) -> Mapping[str, HistorySolution]:
        """Itself, under no name."""
        return {"": self}

    def stage(self, name: str | None) -> HistorySolution:
        """Itself; ResponseError for the name of a stage."""
        return self if name is None else unstaged(self, name)

    __getattr__ = Moment.__getattr__

    def __repr__(self) -> str:
        return shown(
            f"HistorySolution({self.at.space.n_dofs} unknowns, {self.times.steps} steps to {self.times.final:g}, "
            f"{type(self.problem.scheme).__name__}, solver {self.problem.solver_name})",
            memory=str(self.snapshots.schedule),
            u=measured(self.u),
            seconds=", ".join(f"{phase} {time:.3f}" for phase, time in self.seconds.items()),
        )

    # ------------------------------------------------------------------ reading the history
    def moment(self, time: float | None = None, of: int = 0) -> Moment:
        """The field (0), its rate (1) or acceleration (2) at a time, at the final one when left out."""
        seen = Observation(float(self.times.final if time is None else time), 0, 1, 0, of, _nothing, _nothing)
        ((_, moment),) = self.moments([seen])
        return moment

    def moments(self, observations: Sequence[Observation]) -> Iterator[tuple[int, Moment]]:
        """Numbers of observations and what they see, in the order of the steps; states are not kept."""
        placed = self._placed([observations])
        for k, y, new in pairs(self.stepper, self.snapshots, set(placed)):
            for each in placed[k]:
                yield each.number, self._moment(each, y, new)

    def watching(self, responses: Sequence[Any]) -> Visit:
        """What looks at the steps for responses, so that their values need no further sweep."""
        groups = [tuple(each.observations(self.times)) for each in responses]
        placed = self._placed(groups)
        self.watched[:] = [(each, np.full(len(group), np.nan)) for each, group in zip(responses, groups, strict=True)]

        def visit(k: int, y: FloatArray, new: FloatArray) -> None:
            for each in placed.get(k, ()):
                self.watched[each.response][1][each.number] = each.observation.value(self._moment(each, y, new))

        return visit

    def collected(self, observations: Sequence[Observation], response: Any = None) -> FloatArray:
        """Values of responses at times, one for each observation; those of a response that has been watched are known.

        What a run that went on from a folder has not seen is read again.
        """
        for known, values in self.watched:
            if known is response and not np.isnan(values).any():
                return values
        values = np.zeros(len(observations))
        for number, moment in self.moments(observations):
            values[number] = observations[number].value(moment)
        return values

    def _placed(self, groups: Sequence[Sequence[Observation]]) -> dict[int, list[_Placed]]:
        """Observations of several responses by the step they fall into."""
        found: dict[int, list[_Placed]] = {}
        for response, observations in enumerate(groups):
            readings = [reading(each, self.times, self.motion.order) for each in observations]
            coefficients = self._held(observations, 0)
            for number, (each, read) in enumerate(zip(observations, readings, strict=True)):
                placed = _Placed(response, number, each, read, coefficients[number])
                found.setdefault(read.step, []).append(placed)
        return found

    def _held(self, observations: Sequence[Observation], rate: int) -> FloatArray:
        """Coefficients of what supports prescribe where it is observed, or their rates, ``(n, n_groups)``."""
        found = np.zeros((len(observations), len(self.motion.prescribed)))
        for of in {each.of for each in observations}:
            wanted = [n for n, each in enumerate(observations) if each.of == of and (each.time_rate or not rate)]
            if wanted:
                times = np.array([observations[n].time for n in wanted])
                found[wanted] = self.motion.held_at(times, of + rate).T
        return found

    def _moment(self, placed: _Placed, y: FloatArray, new: FloatArray) -> Moment:
        weights, rows = placed.reading.weights, self.motion.order + 1
        field = _combined(weights[0], y[:rows]) + _combined(weights[1], new[:rows])
        field = field + _combined(placed.held, self.motion.prescribed)
        return Moment(self.problem, self.at, placed.observation.time, field.reshape(self.at.space.shape))

    def at_step(self, k: int, y: FloatArray) -> Moment:
        """The field of a state."""
        time = np.asarray(self.motion.grid)[k : k + 1]
        field = y[0] + _combined(self.motion.held_at(time, 0)[:, 0], self.motion.prescribed)
        return Moment(self.problem, self.at, float(time[0]), field.reshape(self.at.space.shape))

    # ------------------------------------------------------------------ derivatives
    def pullback(self, partials: Sequence[Partials]) -> tuple[TransientGradient, ...]:
        """Total derivatives of responses: one sweep back, with all adjoint states of a step as one block.

        Partial derivatives that are not those of observations belong to the field at the final time.
        """
        given = all_partials(partials)
        if not given:
            return ()
        for each in given:
            self.stage(each.stage)
        observed = [self._observations(each) for each in given]
        phases = Phases(self.problem.progress)
        with phases("adjoint time steps"):
            sums, own = self._swept(observed, [Cotangent(np.zeros_like(self.points)) for _ in given], "points")

        @cache
        def by_parameters() -> list[Cotangent]:
            into = [Cotangent(None, {name: np.zeros(e.shape) for name, e in self.parameters.entries.items()} | more)
                    for more in own]  # fmt: skip
            with phases("adjoint time steps, parameters"):
                return self._swept(observed, into, "parameters")[0].into

        return tuple(self._gradient(n, sums, own[n], by_parameters) for n in range(len(given)))

    def pushforward(self, directions: Sequence[Design]) -> tuple[FloatArray, ...]:
        """Rates of the field at the final time along directions: one sweep forward, with the solves of a step for each.

        Parameters of a direction may be all those of the problem: ``final_time``, ``damping`` and initial values, too.
        """
        tangents = [self._tangent(each) for each in sequence_of(directions, "directions", ProblemError)]
        with Phases(self.problem.progress)("tangent time steps"):
            start = self.snapshots.states[0]
            rates = [self.stepper.forward_first(start, each.initial, each.change) for each in tangents]
            for k, y, new in pairs(self.stepper, self.snapshots, set(range(self.times.steps))):
                for number, each in enumerate(tangents):
                    rates[number] = self.stepper.forward(y, new, k, rates[number], each.step, each.change)
        end = np.array([float(self.times.final)])
        found = []
        for rate, each in zip(rates, tangents, strict=True):
            field = rate[0] + _combined(self.motion.held_at(end, 0)[:, 0], each.held)
            if each.final:
                field = field + _combined(each.final * self.motion.held_at(end, 1)[:, 0], self.motion.prescribed)
            found.append(field.reshape(self.at.space.shape))
        return tuple(found)

    def _tangent(self, direction: Any) -> _Tangent:
        """A direction, checked and taken apart."""
        if not isinstance(direction, Design):
            raise ProblemError(f"directions must be a list of Design, not of {type(direction).__name__}")
        known, motion, shape = self.problem.parameters, self.motion, self.at.space.shape
        points = direction.points
        if points is not None:
            points = as_array(points, self.points.shape, "points of a direction", ProblemError)
        rates = {}
        for name, value in mapping_of(direction.parameters, "parameters of a direction", ParameterError).items():
            if name not in known:
                raise UnknownParameterError(name, known)
            rates[name] = as_array(value, known.entries[name].shape, f"rates of {name!r}", ParameterError)
        final = float(rates.pop("final_time", 0.0))
        damping = two_constants(rates.pop("damping", np.zeros(2)))
        initial = np.zeros_like(motion.initial)
        for order, slopes in enumerate(motion.initial_slopes):
            initial[order] = rates.pop(NAMES[order], np.zeros(shape)).ravel()
            if slopes is not None and points is not None:
                initial[order] += np.einsum("aij,aj->ai", slopes, points).ravel()
        change = motion.along(Design(points, rates), damping, final / float(self.times.final))
        held, initial = motion.prescribed_rates(points), motion.at.constraints.restrict(initial)
        return _Tangent(change, initial, held, final, final / self.times.steps)

    def _observations(self, partials: Partials) -> tuple[Observation, ...]:
        if isinstance(partials, TimePartials):
            return partials.observations
        final = float(self.times.final)
        return (Observation(final, 1.0, 1.0, 0.0, 0, _nothing, lambda moment: partials),)

    def _swept(
        self, observed: Sequence[Sequence[Observation]], into: list[Cotangent], name: str
    ) -> tuple[Sums, list[dict[str, FloatArray]]]:
        """One sweep back; also returns zeros for the parameters of the responses' own."""
        placed, count, n = self._placed(observed), len(observed), self.at.space.n_dofs
        sums, read = self.motion.sums(count, into), self.motion.order + 1
        own: list[dict[str, FloatArray]] = [{} for _ in observed]
        held_rates = [self._held(observations, 1) for observations in observed]
        bar = np.zeros((self.problem.scheme.carried, count, n))
        folder = self.snapshots.folder
        saved, end = "", self.times.steps
        if folder is not None:
            saved = f"back-{name}-{self._key(observed)}"
            kept = folder.read(saved)
            if kept is not None:
                end = int(kept.pop("end"))
                bar = kept.pop("bar")
                sums.take(kept)
                for index, partials in self._last(observed):
                    own[index] = self._own(partials)

        def visit(k: int, y: FloatArray, new: FloatArray) -> None:
            nonlocal bar
            before = np.zeros_like(bar)
            for each in placed.get(k, ()):
                partials, seed = self._observed(each, y, new, sums)
                own[each.response] |= self._own(partials)
                if seed is not None:
                    self._seed(each, seed, held_rates[each.response][each.number], sums)
                    free = self.at.constraints.restrict(seed)
                    sums.final[each.response] += along(free, self._by_final(each, y, new))
                    bar[:read, each.response] += each.reading.weights[1][:, None] * free
                    before[:read, each.response] += each.reading.weights[0][:, None] * free
            bar = self.stepper.back(y, new, k, bar, sums) + before
            if folder is not None and k % max(1, self.times.steps // SAVED) == 0:
                folder.write(saved, end=np.array(k), bar=bar, **sums.arrays())

        reverse(self.stepper, self.snapshots, end, visit)
        self.stepper.back_first(self.snapshots.states[0], bar, sums)
        self.motion.finish(sums)
        return sums, own

    def _observed(
        self, placed: _Placed, y: FloatArray, new: FloatArray, sums: Sums
    ) -> tuple[Partials, FloatArray | None]:
        """Partial derivatives of an observation, of which its own are added, and that by the field, ``(n,)``."""
        seen, i = placed.observation, placed.response
        partials = seen.partials(self._moment(placed, y, new))
        checked_partials(partials, self.at.space.shape, self.points.shape)
        if partials.internal_weight is not None or partials.external_weight is not None:
            raise ResponseError(f"{partials.name} contains forces: a history takes responses of field and design alone")
        sums.final[i] += seen.weight_rate * partials.value
        cotangent = sums.into[i]
        if cotangent.points is not None and partials.points is not None:
            cotangent.points[...] += seen.weight * partials.points
        for name, slope in cotangent.parameters.items():
            if name in partials.parameters:
                slope[...] += seen.weight * own_slope(partials, name, slope.shape)
        return partials, None if partials.state is None else seen.weight * partials.state.ravel()

    def _seed(self, placed: _Placed, seed: FloatArray, held_rate: FloatArray, sums: Sums) -> None:
        """Add what an observation says of supported unknowns."""
        i, motion = placed.response, self.motion
        for group, (factor, rate) in enumerate(zip(placed.held, held_rate, strict=True)):
            sums.held[i] += np.where(motion.held[group], factor * seed, 0.0)
            sums.final[i] += placed.observation.time_rate * rate * along(seed, motion.prescribed[group])

    def _by_final(self, placed: _Placed, y: FloatArray, new: FloatArray) -> FloatArray:
        """Derivative of the field that is read by the final time, at fixed states."""
        by_final, rows = placed.reading.by_final, self.motion.order + 1
        return _combined(by_final[0], y[:rows]) + _combined(by_final[1], new[:rows])

    def _own(self, partials: Partials) -> dict[str, FloatArray]:
        """Zeros for the parameters of a response's own."""
        names = [name for name in partials.parameters if name not in self.parameters]
        return {name: np.zeros(np.shape(partials.parameters[name])) for name in names}

    def _last(self, observed: Sequence[Sequence[Observation]]) -> list[tuple[int, Partials]]:
        """Partial derivatives of responses at the last of their observations."""
        last = [max(each, key=lambda o: o.time) for each in observed]
        return [(index, last[index].partials(moment)) for index, moment in self.moments(last)]

    def _key(self, observed: Sequence[Sequence[Observation]]) -> str:
        """Checksum of what is observed, with the derivatives at the last observations."""
        sha = hashlib.sha256()
        for each in observed:
            sha.update(np.array([(o.time, o.time_rate, o.weight, o.weight_rate, o.of) for o in each]).tobytes())
        for index, partials in sorted(self._last(observed), key=lambda found: found[0]):
            sha.update(f"{index} {partials.name} {partials.value!r}".encode())
            for array in (partials.state, partials.points):
                sha.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()[:16]

    def _gradient(
        self, i: int, sums: Sums, own: Mapping[str, FloatArray], by_parameters: Callable[[], list[Cotangent]]
    ) -> TransientGradient:
        motion, shape, points = self.motion, self.at.space.shape, sums.into[i].points
        assert points is not None
        initial = tuple(motion.at.constraints.restrict(bars[i]).reshape(shape) for bars in sums.initial)
        sources: dict[str, Callable[[], FloatArray]] = {
            name: partial(_read, by_parameters, i, name) for name in (*self.parameters, *own)
        }
        sources["final_time"] = partial(self._by_final_time, i, sums)
        if motion.order == 2:
            (constants,) = self.problem.parameters.entries["damping"].shape
            sources["damping"] = partial(np.asarray, sums.damping[i, :constants])
        for name, array, slopes in zip(NAMES, initial, motion.initial_slopes, strict=False):
            if slopes is None:
                sources[name] = partial(np.asarray, array)
        groups = self.problem.histories
        histories = tuple(HistorySlope(motion.times, sums.coefficients[group, i]) for group in groups)
        stages = len(self.problem.scheme.abscissae)
        return TransientGradient(points, OnDemand(sources), initial, histories, stages * self.times.steps + 1)

    def _by_final_time(self, i: int, sums: Sums) -> FloatArray:
        """Through the length of steps, the times of loads, and those of observations."""
        through_times = float((sums.coefficients[:, i] * self.motion.stretched).sum()) / float(self.times.final)
        return np.array(sums.step[i] / self.times.steps + sums.final[i] + through_times)


@dataclass(eq=False)
class Reached:
    """How far a run has come: for the error that ends it.

    Attributes
    ----------
    solution : HistorySolution
    steps : int
    state : array or None
        The last state; None before the first step.
    """

    solution: HistorySolution
    steps: int = 0
    state: FloatArray | None = None

    def then(self, visit: Visit) -> Visit:
        """Take note of steps before they are looked at."""

        def noted(k: int, y: FloatArray, new: FloatArray) -> None:
            self.steps, self.state = k + 1, new
            visit(k, y, new)

        return noted

    def kept(self, error: ConvergenceError) -> ConvergenceError:
        """The error with what was found before it."""
        states = dict(self.solution.snapshots.states)
        if self.state is None and states:
            self.steps, self.state = max(states.items())
        if self.state is not None:
            states[self.steps] = self.state
        path = [self.solution.at_step(k, y) for k, y in sorted(states.items())]
        u = path[-1].u if path else None
        return ConvergenceError(str(error), self.steps / self.solution.times.steps, u, path)


def two_constants(damping: FloatArray) -> FloatArray:
    """Those of Rayleigh's damping; the second is zero where it is left out."""
    return np.pad(damping, (0, 2 - len(damping)))


def _read(by_parameters: Callable[[], list[Cotangent]], i: int, name: str) -> FloatArray:
    return by_parameters()[i].parameters[name]


def _combined(weights: FloatArray, rows: FloatArray) -> FloatArray:
    """Weighted sum of rows; a row without weight does not count."""
    total = np.zeros(rows.shape[1:])
    for weight, row in zip(weights, rows, strict=True):
        if weight:
            total += weight * row
    return total


def _nothing(moment: Any) -> Any:
    raise AssertionError("only the field is read")


def folder_of(path: Any, motion: Motion, scheme: Scheme, times: Times) -> Folder:
    """The folder of a run: its key is a checksum of all numbers that the states depend on."""
    sha = hashlib.sha256(f"{scheme!r} {times.steps} {times.final!r} {motion.order}".encode())
    for numbers in motion.numbers:
        sha.update(numbers.tobytes())
    design = (motion.at.points, *(motion.at.design.parameters[name] for name in sorted(motion.at.design.parameters)))
    driven = (motion.vectors, motion.coefficients, motion.initial, motion.damping, motion.prescribed, motion.held)
    for array in (*design, *driven):
        sha.update(np.ascontiguousarray(array).tobytes())
    return Folder(path, sha.hexdigest())
