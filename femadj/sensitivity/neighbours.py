"""Products of a Hessian against differences of first derivatives, at designs near by and without a solve.

States and adjoint states are carried there by their rates. What is compared is all that is differentiated a second time
(forms, loads, supports, the response), and both solves by the residuals that they leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from femadj.algebra.implicit import Seed, weights_of
from femadj.algebra.residual import Weights
from femadj.algebra.second import Moving, rate
from femadj.base.arrays import FloatArray
from femadj.errors import SecondOrderError
from femadj.problems.movable import Movable
from femadj.responses.base import Response, partials_of
from femadj.sensitivity.backwards import POINTS, Backwards, Variables

STEP = 1e-4
"""How far designs are away: nodes as a part of their cells, parameters as a part of their largest value."""

CHANGE = 1e-3
"""How far states may change on the way, as a part of themselves; the way is not made shorter than by that, either."""

TOLERANCE = 1e-4
"""How far a rate may be from a difference, relative to either."""

NOISE = 1e-10
"""Rounding of what differences are taken of, as a part of its norm."""


class Near(NamedTuple):
    """First derivatives at a design near by.

    Attributes
    ----------
    gradient : mapping of variable to array
    state, adjoint : mapping of stage to (n_cases, n)
        What is left of the equations for the state and for the adjoint state.
    """

    gradient: Variables
    state: Mapping[str, FloatArray]
    adjoint: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A product of a Hessian, to be compared.

    Attributes
    ----------
    here : Backwards
    response : Response
    stage : str
        Of the response.
    along : mapping of variable to array
        Direction.
    value : float
    gradient : mapping of variable to array
        Of the response.
    adjoint, dlam : mapping of stage to (n_cases, n)
        Adjoint states and their rates.
    motions : mapping of stage to Moving
        How the states move.
    """

    here: Backwards
    response: Response
    stage: str
    along: Variables
    value: float
    gradient: Mapping[str, FloatArray]
    adjoint: Mapping[str, FloatArray]
    dlam: Mapping[str, FloatArray]
    motions: Mapping[str, Moving]

    def require(self, product: Variables) -> None:
        """SecondOrderError where the product, or the state or adjoint state that it took, is not right."""
        t = self._step()
        if t == 0:
            return
        before, after = self._near(-t, product), self._near(t, product)
        for stage, solution in self.here.stages.items():
            at, state = solution.at, solution.state
            where = f" of stage {stage!r}" if stage else ""
            nothing, pair = np.zeros_like(state.u), (before.state[stage], after.state[stage])
            sizes = at.jvp(state, self._du[stage]), at.jvp(state, state.u)
            _compare(f"the state{where}", nothing, pair, t, sizes)
            if stage in after.adjoint:
                pair = before.adjoint[stage], after.adjoint[stage]
                sizes = at.vjp(state, self.dlam[stage]), at.vjp(state, self.adjoint[stage])
                _compare(f"the adjoint state{where}", nothing, pair, t, sizes)
        read = (POINTS, *product)
        energies = (np.abs(self.gradient[name] * self._large[name]).max(initial=0.0) for name in read)
        energy = float(max(abs(self.value), *energies)) * (1 + min(t * self._change, CHANGE) ** 3 / NOISE)
        for name, found in product.items():
            pair = before.gradient[name], after.gradient[name]
            noise = energy / self._large[name] * np.ones(found.shape)
            _compare(f"the product by {name}", found, pair, t, (found, noise))

    @cached_property
    def _change(self) -> float:
        """Largest relative rate of a state or adjoint state; straight lines leave out a third power of changes."""
        found = [0.0]
        for stage, solution in self.here.stages.items():
            for size, change in ((solution.state.u, self._du[stage]), (self.adjoint.get(stage), self.dlam.get(stage))):
                if size is not None and change is not None:
                    sizes, changes = (np.linalg.norm(each, axis=1) for each in (size, change))
                    found += (changes[sizes > 0] / sizes[sizes > 0]).tolist()
        return max(found)

    @cached_property
    def _large(self) -> Mapping[str, FloatArray | float]:
        """What is a large change of a variable."""
        values = self.here.values.items()
        scales = {name: float(np.abs(array).max(initial=0.0)) or 1.0 for name, array in values}
        return {POINTS: self.here.sizes[:, None], **scales}

    @cached_property
    def _du(self) -> Mapping[str, FloatArray]:
        """Rates of the states."""
        return {stage: rate(motion.state.u) for stage, motion in self.motions.items()}

    def _step(self) -> float:
        """Of the direction; zero for one that moves nothing."""
        speed = max(float(np.abs(rates / self._large[name]).max(initial=0.0)) for name, rates in self.along.items())
        if speed == 0:
            return 0.0
        return STEP / speed * min(1.0, max(CHANGE * speed / (STEP * self._change or 1.0), CHANGE))

    def _near(self, t: float, wanted: Variables) -> Near:
        """Derivatives at the design, states and adjoint states at ``t`` along the direction."""
        stages: dict[str, Movable] = {}
        state, adjoint = {}, {}
        for stage, solution in self.here.stages.items():
            fed = {source: self._du[source] for source in self.here.links[stage]}
            moved = solution.at.shifted(self.here.direction(stage, self.along, fed), t)
            stages[stage] = solution.shifted(moved, self.motions[stage].near(t))
            state[stage] = self.motions[stage].left(moved, stages[stage].state)

        def weigh(stage: str, seed: Seed) -> Weights:
            at, lam = stages[stage].at, self.adjoint[stage] + t * self.dlam[stage]
            if seed.state is None:
                return weights_of(seed, lam, None)
            left = self.motions[stage].adjoint_left(at, stages[stage].state, seed, lam)
            adjoint[stage] = at.constraints.restrict(left)
            return weights_of(seed, lam, left - adjoint[stage])

        there: Any = stages[self.stage]
        partials = partials_of(self.response, there)
        return Near(replace(self.here, stages=stages).gradient(self.stage, partials, weigh, wanted), state, adjoint)


def _compare(
    what: str, found: FloatArray, pair: tuple[FloatArray, FloatArray], t: float, sizes: tuple[FloatArray, FloatArray]
) -> None:
    """A rate with a central difference; ``sizes`` are those of rates and of what differences are taken of."""
    difference = (pair[1] - pair[0]) / (2 * t)
    gap, scale = float(np.linalg.norm(found - difference)), float(np.linalg.norm(sizes[0]))
    noise = NOISE * float(np.linalg.norm(sizes[1])) / t
    scale = max(scale, float(np.linalg.norm(difference)))
    if not gap <= TOLERANCE * scale + noise:
        raise SecondOrderError(
            f"second derivatives: {what} is {gap / (scale or 1.0):.1e} (relative) away from a difference of first "
            "derivatives. Somewhere a function is evaluated on complex numbers that is not smooth, or "
            "that reads something which has changed; where a function has a kink close by, hessian(..., check=False) "
            "does not look"
        )
