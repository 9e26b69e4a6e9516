"""Gradients through stages, last one first, at solutions as they are, near by, or of complex numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from femadj.algebra.implicit import Seed
from femadj.algebra.residual import Weights
from femadj.base.arrays import FloatArray
from femadj.base.design import Cotangent, Design
from femadj.problems import Partials
from femadj.problems.movable import Movable
from femadj.sensitivity.sizes import local_sizes

POINTS = "points"
"""The node coordinates among the variables of a design."""

Variables = dict[str, FloatArray]
"""Arrays by ``"points"`` and names of parameters: a direction, or derivatives."""

Weigh = Callable[[str, Seed], Weights]
"""From a stage and the partial derivatives of a response there: the weights of its residual."""


@dataclass(frozen=True, eq=False)
class Backwards:
    """Stages of a chain; a single problem is one of them, without a name.

    Attributes
    ----------
    stages : mapping of name to Movable
        In the order of solution.
    links : mapping of name to names
        For every stage, the earlier ones whose solutions it reads.
    prefixes : mapping of name to str
        What goes before the names of parameters of a stage.
    """

    stages: Mapping[str, Movable]
    links: Mapping[str, tuple[str, ...]]
    prefixes: Mapping[str, str]

    def name(self, stage: str, parameter: str) -> str:
        """Of a parameter of a stage."""
        return self.prefixes[stage] + parameter

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all variables: ``"points"``, and parameters, those of a stage as ``"stage.name"``."""
        first = next(iter(self.stages.values()))
        found = {POINTS: first.points.shape}
        for stage, solution in self.stages.items():
            for name, entry in solution.at.parameters.entries.items():
                if name not in self.links[stage]:
                    found[self.name(stage, name)] = entry.shape
        return found

    @property
    def values(self) -> Variables:
        """Values of all parameters that have some."""
        return {
            self.name(stage, name): entry.values
            for stage, solution in self.stages.items()
            for name, entry in solution.at.parameters.entries.items()
            if name not in self.links[stage] and entry.values is not None
        }

    @property
    def sizes(self) -> FloatArray:
        """Extent of the cells at every node."""
        first = next(iter(self.stages.values()))
        return local_sizes(first.at.space.mesh.with_points(first.points))

    def direction(self, stage: str, along: Variables, fed: Mapping[str, FloatArray]) -> Design:
        """What a direction means for a stage; ``fed`` has the rates of the states that feed it."""
        entries = self.stages[stage].at.parameters.entries
        own = {name: along[self.name(stage, name)] for name in entries if self.name(stage, name) in along}
        return Design(along.get(POINTS), own | {name: rate.reshape(entries[name].shape) for name, rate in fed.items()})

    def gradient(self, stage: str, partials: Partials, weigh: Weigh, wanted: Collection[str]) -> Variables:
        """Derivatives of a response of a stage by some variables; ``weigh`` is called once a stage that matters."""
        dtype = self.stages[stage].points.dtype
        total = {name: np.zeros(shape, dtype) for name, shape in self.shapes.items() if name in wanted}
        fed: dict[str, FloatArray] = {}
        for name in reversed(list(self.stages)):
            here = self.stages[name]
            if name == stage:
                for source in self.links[name]:
                    if source in partials.parameters:
                        fed[source] = np.asarray(partials.parameters[source]).reshape(1, -1)
            seed = here.seed(partials) if name == stage else Seed(state=fed.get(name))
            if not seed.depends:
                continue
            into = {p: total[self.name(name, p)] for p in here.at.parameters if self.name(name, p) in total}
            into |= {source: np.zeros(here.at.parameters.entries[source].shape, dtype) for source in self.links[name]}
            cotangent = Cotangent(total.get(POINTS), into)
            here.at.pullback(here.state, [weigh(name, seed)], [cotangent])
            for source in self.links[name]:
                fed[source] = fed.get(source, 0.0) + into[source].reshape(1, -1)
        prefix = self.prefixes[stage]
        for name in total:
            own = partials.points if name == POINTS else partials.parameters.get(name.removeprefix(prefix))
            if own is not None:
                total[name] += np.asarray(own)
        return total
