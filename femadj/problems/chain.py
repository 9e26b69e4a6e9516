"""Chains of problems: the solution of one is a coefficient field of the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.algebra.linear_system import Counts
from femadj.base.arguments import mapping_of
from femadj.base.arrays import FloatArray
from femadj.base.display import shown
from femadj.base.pickling import MadeAnew, SolvedAnew
from femadj.errors import ParameterError, ProblemError, ResponseError, UnknownParameterError, choices
from femadj.mesh import Mesh
from femadj.problems.gradient import ChainGradient, Gradient, OnDemand, Partials, all_partials
from femadj.problems.linear_static import Static
from femadj.problems.movable import Linked
from femadj.problems.solution import Solution
from femadj.progress import Progress
from femadj.space.parameters import Parameters


class Chain(MadeAnew):
    """Problems on one mesh, solved one after the other.

    A nodal parameter of a later stage that has the name of an earlier stage receives that stage's solution: a load
    ``ThermalStrain(alpha, name="heat")`` or a form that reads ``w.heat`` follows the stage ``"heat"``. Gradients run
    backwards through the stages, with one factorisation and at most one adjoint solve (for each response) of every
    stage, and collect the node gradient of all of them.

    Parameters
    ----------
    stages : mapping of name to LinearStatic or NonlinearStatic
        In the order in which they are solved; all on the same nodes.

    Raises
    ------
    ProblemError
        For stages on different meshes, a stage that feeds nothing, and fields that do not fit the parameter they feed.
    """

    def __init__(self, stages: Mapping[str, Static]) -> None:
        if not isinstance(stages, Mapping) or len(stages) < 2:
            raise ProblemError("a chain needs a mapping of at least two names to problems, in the order of solution")
        for name, problem in stages.items():
            if not isinstance(problem, Static):
                raise ProblemError(
                    f"stage {name!r} must be a LinearStatic or NonlinearStatic, not {type(problem).__name__}"
                )
            if not isinstance(name, str) or not name.isidentifier():
                raise ProblemError(f"a stage must have the name of a Python variable, not {name!r}")
        first = next(iter(stages.values()))
        for name, problem in list(stages.items())[1:]:
            if not _same_nodes(problem.mesh, first.mesh):
                raise ProblemError(
                    f"stage {name!r} has another mesh than stage {next(iter(stages))!r}: all stages must have the same "
                    "nodes, in the same order and at the same places"
                )
        self._stages = MappingProxyType(dict(stages))
        self._links = MappingProxyType({name: self._links_of(name) for name in stages})
        fed = {source for sources in self._links.values() for source in sources}
        for name in list(stages)[:-1]:
            if name not in fed:
                raise ProblemError(
                    f"stage {name!r} feeds nothing: no later stage has a nodal parameter called {name!r} (a stage has "
                    "the name of the parameter that it feeds)"
                )

    def _links_of(self, stage: str) -> tuple[str, ...]:
        """Earlier stages that feed a stage."""
        found = []
        entries = self._stages[stage].parameters.entries
        for source, problem in self._stages.items():
            if source == stage:
                break
            if source not in entries:
                continue
            if not problem.residual.space.nodal:
                raise ProblemError(
                    f"stage {source!r} cannot feed {source!r} of stage {stage!r}: its unknown is of another element "
                    "than the mesh and has no values at the nodes"
                )
            entry = entries[source]
            shape = _field_shape(problem)
            if entry.kind != "nodal" or entry.shape != shape:
                raise ProblemError(
                    f"stage {source!r} yields a nodal field of shape {shape}, but parameter {source!r} of stage "
                    f"{stage!r} is {entry.kind} with shape {entry.shape}; declare it as "
                    f"NodalField(components={1 if len(shape) == 1 else shape[1]})"
                )
            found.append(source)
        return tuple(found)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was made from, by the names of the arguments."""
        return {"stages": dict(self._stages)}

    @property
    def stages(self) -> Mapping[str, Static]:
        """The problems by name, in the order of solution."""
        return self._stages

    @property
    def links(self) -> Mapping[str, tuple[str, ...]]:
        """For every stage, the earlier stages whose solutions it reads."""
        return self._links

    @property
    def mesh(self) -> Mesh:
        """Topology and reference coordinates."""
        return next(iter(self._stages.values())).mesh

    @property
    def n_unknowns(self) -> int:
        """Number of unknowns of all stages, prescribed ones included."""
        return sum(problem.n_unknowns for problem in self._stages.values())

    @property
    def counts(self) -> Counts:
        """Analyses and factorisations of all stages so far."""
        counts = [problem.counts for problem in self._stages.values()]
        return Counts(sum(c.analyses for c in counts), sum(c.factorisations for c in counts))

    @property
    def parameters(self) -> Parameters:
        """Parameters of all stages as ``"stage.name"``, those that a stage feeds excepted."""
        entries = {
            f"{stage}.{name}": entry
            for stage, problem in self._stages.items()
            for name, entry in problem.parameters.entries.items()
            if name not in self._links[stage]
        }
        return Parameters(MappingProxyType(entries))

    @property
    def progress(self) -> Progress | None:
        """Who is notified of phases."""
        return next(iter(self._stages.values())).progress

    def rebuilt(self, points: npt.ArrayLike) -> Chain:
        """The same chain built anew, from scratch, on a mesh with other reference coordinates."""
        return Chain({name: problem.rebuilt(points) for name, problem in self._stages.items()})

    def solve(
        self, points: npt.ArrayLike | None = None, parameters: Mapping[str, npt.ArrayLike] | None = None
    ) -> ChainSolution:
        """Solve all stages at the given node coordinates (the mesh's own when left out).

        Parameters
        ----------
        points : (n_nodes, dim), optional
        parameters : mapping of ``"stage.name"`` to values, optional
            Values that differ from the declared ones.

        Returns
        -------
        ChainSolution
        """
        given = self._by_stage(mapping_of(parameters, "parameters", ParameterError))
        solutions: dict[str, Solution] = {}
        for name, problem in self._stages.items():
            fed = {source: _as_parameter(solutions[source].u) for source in self._links[name]}
            solutions[name] = problem.solve(points, {**given[name], **fed})
        return ChainSolution(self, MappingProxyType(solutions))

    def _by_stage(self, parameters: Mapping[str, npt.ArrayLike]) -> dict[str, dict[str, npt.ArrayLike]]:
        result: dict[str, dict[str, npt.ArrayLike]] = {name: {} for name in self._stages}
        for name, value in parameters.items():
            stage, _, parameter = name.partition(".")
            if stage not in result or not parameter:
                raise UnknownParameterError(name, self.parameters, "the chain")
            if parameter in self._links[stage]:
                raise ParameterError(f"parameter {name!r} is the solution of stage {parameter!r}; it cannot be given")
            result[stage][parameter] = value
        return result

    def __repr__(self) -> str:
        (first, problem), *others = self._stages.items()
        return shown(f"Chain({first}: {_head(problem)}", **{name: _head(each) for name, each in others}) + ")"


@dataclass(frozen=True, eq=False)
class ChainSolution(SolvedAnew):
    """A solved chain at fixed node coordinates.

    Attributes
    ----------
    problem : Chain
    stages : mapping of name to Solution
    """

    problem: Chain
    stages: Mapping[str, Solution]

    def _again(self) -> tuple[Chain, FloatArray, Mapping[str, Any], Mapping[str, Any]]:
        links = self.problem.links
        values = {
            f"{stage}.{name}": value
            for stage, solution in self.stages.items()
            for name, value in solution.parameters.known.items()
            if name not in links[stage]
        }
        return self.problem, self.points, values, {}

    @property
    def last(self) -> Solution:
        """Solution of the last stage."""
        return self.stages[list(self.stages)[-1]]

    @property
    def points(self) -> FloatArray:
        """Node coordinates."""
        return self.last.points

    @property
    def linked(self) -> Linked:
        """All stages."""
        return Linked(self.stages, self.problem.links, {name: f"{name}." for name in self.stages})

    def __repr__(self) -> str:
        return shown(f"ChainSolution({len(self.stages)} stages)", **{n: _head(s) for n, s in self.stages.items()})

    def __getitem__(self, stage: str) -> Solution:
        return self.stage(stage)

    def stage(self, name: str | None) -> Solution:
        """Solution of a stage, of the last one when None; ResponseError for one that there is not."""
        if name is None:
            return self.last
        if not isinstance(name, str) or name not in self.stages:
            raise ResponseError(f"the chain has no stage {name!r}; it has: {choices(name, self.stages)}")
        return self.stages[name]

    def pullback(self, partials: Sequence[Partials]) -> tuple[ChainGradient, ...]:
        """Total derivatives, backwards through the stages.

        What feeds a stage gets the gradient by it as the derivative by its state: one factor, and at most one
        transposed solve for each response, of every stage.
        """
        last = list(self.stages)[-1]
        partials = all_partials(partials)
        fed: list[dict[str, FloatArray]] = [{} for _ in partials]
        found: list[dict[str, Gradient]] = [{} for _ in partials]
        for each in partials:
            self.stage(each.stage)
        for stage in reversed(list(self.stages)):
            here = self.stages[stage]
            wanted = {}
            for number, each in enumerate(partials):
                if (each.stage or last) == stage:
                    wanted[number] = replace(each, stage=None)
                elif stage in fed[number]:
                    wanted[number] = Partials(0.0, state=fed[number][stage])
            if not wanted:
                continue
            for number, gradient in zip(wanted, here.pullback(list(wanted.values())), strict=True):
                found[number][stage] = gradient
                for source in self.problem.links[stage]:
                    slope = gradient.parameters[source].reshape(self.stages[source].u.shape)
                    known = fed[number].get(source)
                    fed[number][source] = slope if known is None else known + slope
        return tuple(self._collected(parts) for parts in found)

    def _collected(self, parts: Mapping[str, Gradient]) -> ChainGradient:
        points = np.zeros_like(self.points)
        sources: dict[str, Callable[[], FloatArray]] = {}
        for stage, problem in self.problem.stages.items():
            links = self.problem.links[stage]
            slopes: Mapping[str, FloatArray] = problem.parameters.zeros()
            if stage in parts:
                points += parts[stage].points
                slopes = parts[stage].parameters
            sources |= {f"{stage}.{name}": _read(slopes, name) for name in slopes if name not in links}
        return ChainGradient(
            points,
            OnDemand(sources),
            MappingProxyType({stage: parts[stage] for stage in self.stages if stage in parts}),
            sum(gradient.adjoint_solves for gradient in parts.values()),
        )


def _head(stage: Static | Solution) -> str:
    return repr(stage).partition("\n")[0]


def _read(arrays: Mapping[str, FloatArray], name: str) -> Callable[[], FloatArray]:
    return lambda: arrays[name]


def _same_nodes(a: Mesh, b: Mesh) -> bool:
    return a is b or (a.points.shape == b.points.shape and bool(np.array_equal(a.points, b.points)))


def _field_shape(problem: Static) -> tuple[int, ...]:
    n, nc = problem.residual.space.mesh.n_nodes, problem.residual.space.n_components
    return (n,) if nc == 1 else (n, nc)


def _as_parameter(u: FloatArray) -> FloatArray:
    return u[:, 0] if u.shape[1] == 1 else u
