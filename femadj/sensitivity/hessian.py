"""Second derivatives of a response: products of its Hessian with directions of the design.

    H V = dG along (V, du, dlam)

with the gradient ``G(d, u, lam)`` at a fixed state and adjoint state (``femadj.algebra.second``): one forward and one
transposed solve on the factor that the solution owns, and no factorisation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from femadj.algebra.implicit import Seed, adjoint_of
from femadj.algebra.residual import Weights
from femadj.algebra.second import Moving, rate
from femadj.base.arguments import flag, mapping_of
from femadj.base.arrays import FloatArray, inner
from femadj.base.calls import as_array
from femadj.base.complex_step import Guarded, steps_kept
from femadj.base.design import Design
from femadj.base.display import shown
from femadj.base.pickling import HoldsSolver
from femadj.errors import ParameterError, ProblemError, SecondOrderError, UnknownParameterError
from femadj.problems import ChainSolution, Modes, Solution, require_solution
from femadj.problems.gradient import OnDemand, Partials
from femadj.problems.movable import Movable
from femadj.progress import Phases
from femadj.responses.base import AnyResponse, OnStage, partials_in_motion, partials_of
from femadj.sensitivity.backwards import POINTS, Backwards, Variables
from femadj.sensitivity.neighbours import Neighbours

Direction = npt.ArrayLike | Design | Mapping[str, npt.ArrayLike]
TwiceSolution = Solution | ChainSolution | Modes


def hessian(solution: TwiceSolution, response: AnyResponse, *, check: bool = True) -> Hessian:
    """The second derivatives of a response at a solution.

    Parameters
    ----------
    solution : Solution, ChainSolution, ModalSolution or BucklingSolution
    response : Response, or OnStage for a chain
        One of one's own is evaluated on complex numbers that carry rates (``femadj.base.complex_step``).
    check : bool
        Compare the first product with a difference of first derivatives along its direction, without a solve: two
        assemblies.

    Returns
    -------
    Hessian

    Raises
    ------
    ResponseError
        When the response does not fit the problem.
    SecondOrderError
        Where something has no second derivatives, or differences do not confirm them.
    EigenvalueError
        For functions that do not treat coinciding eigenvalues alike.
    """
    require_solution(solution, "hessian")
    flag(check, "check", ProblemError)
    if not hasattr(solution, "linked"):
        raise SecondOrderError(f"a {type(solution).__name__} does not tell its second derivatives")
    return Hessian(solution, response, check=check)


class Hessian(HoldsSolver):
    """Second derivatives of a response by node coordinates and parameters, as products; made by ``hessian``.

    ``hessian @ V`` takes node velocities ``(n_nodes, dim)``, a ``Design``, or a mapping of ``"points"`` and names of
    parameters to arrays, and gives back the same: the rate of the gradient by these variables along the direction.

    Attributes
    ----------
    solution : Solution, ChainSolution, ModalSolution or BucklingSolution
    response : Response
    value : float
        Of the response.
    gradient : mapping of name to array
        Derivatives by ``"points"`` and all parameters; those by parameters are computed when they are first read.
    products : int
        Products so far.
    """

    def __init__(self, solution: TwiceSolution, response: AnyResponse, *, check: bool) -> None:
        self.solution, self.response = solution, response
        partials = partials_of(response, solution)
        self.value = float(partials.value)
        self._here = Backwards(*solution.linked)
        self._stage = partials.stage or list(self._here.stages)[-1]
        self._here.stages[self._stage].require_twice(partials, self._in_motion)
        if POINTS in self._here.values:
            raise ParameterError(f"a parameter is called {POINTS!r}, as the node coordinates are: give it another name")
        self._adjoint: dict[str, FloatArray] = {}
        known: dict[str, Weights] = {}
        phases = Phases(solution.problem.progress)

        def weigh(stage: str, seed: Seed) -> Weights:
            if stage not in known:
                known[stage] = self._here.stages[stage].weigh(seed, phases)
                self._adjoint[stage] = adjoint_of(known[stage], seed)
            return known[stage]

        def by(name: str) -> FloatArray:
            return self._here.gradient(self._stage, partials, weigh, [name])[name]

        self.gradient = OnDemand({name: partial(by, name) for name in self._here.shapes})
        _ = self.gradient[POINTS]  # with it the adjoint states
        self._partials, self._check = partials, check
        self.products = 0

    def __repr__(self) -> str:
        return shown(
            f"Hessian({type(self._plain).__name__}, products: {self.products})", variables=", ".join(self.gradient)
        )

    @property
    def _plain(self) -> Any:
        return self.response.response if isinstance(self.response, OnStage) else self.response

    # ------------------------------------------------------------------ products
    def __matmul__(self, direction: Direction) -> Any:
        """Rate of the gradient along a direction, in the shape of the direction: two solves, no factorisation."""
        given = self._variables(direction)
        found = self._product(given)
        if isinstance(direction, Design):
            return Design(found.get(POINTS), {name: array for name, array in found.items() if name != POINTS})
        return found if isinstance(direction, Mapping) else found[POINTS]

    def as_operator(self, variables: Sequence[str] = (POINTS,)) -> LinearOperator:
        """For SciPy: on vectors that hold the chosen variables one after the other, flattened.

        Parameters
        ----------
        variables : sequence of str
            ``"points"`` and names of parameters.
        """
        shapes = self._here.shapes
        for name in variables:
            if name not in shapes:
                raise UnknownParameterError(name, shapes, "the problem")
        ends = np.cumsum([int(np.prod(shapes[name])) for name in variables])

        def product(vector: FloatArray) -> FloatArray:
            parts = np.split(np.asarray(vector, dtype=float).ravel(), ends[:-1])
            given = {name: part.reshape(shapes[name]) for name, part in zip(variables, parts, strict=True)}
            return np.concatenate([array.ravel() for array in self._product(given).values()])

        n = int(ends[-1])
        return LinearOperator((n, n), matvec=product, rmatvec=product, dtype=np.float64)

    def symmetry_error(self, one: Direction | None = None, other: Direction | None = None) -> float:
        """``|W . H V - V . H W|``, relative to the sum of the absolute terms of both products; two products.

        The Hessian is symmetric, which nothing in its products knows of: a free check of all of them. Directions that
        are left out are random ones of all variables that have a derivative, nodes by the size of their cells.
        """
        rng = np.random.default_rng(0)
        v, w = (self._random(rng) if each is None else self._variables(each) for each in (one, other))
        hv, hw = self._product(v, w), self._product(w, v)
        pairs = [(w[name], hv[name]) for name in w], [(v[name], hw[name]) for name in v]
        sums = [sum(inner(a, b) for a, b in each) for each in pairs]
        size = sum(float(np.abs(a * b).sum()) for each in pairs for a, b in each)
        return abs(sums[0] - sums[1]) / size if size > 0 else 0.0

    def _random(self, rng: np.random.Generator) -> Variables:
        result = {POINTS: rng.uniform(-1, 1, self.solution.points.shape) * self._here.sizes[:, None]}
        for name, values in self._here.values.items():
            result[name] = rng.uniform(-1, 1, values.shape) * np.where(values == 0, 1.0, values)
        return result

    # ------------------------------------------------------------------ directions
    def _variables(self, direction: Any) -> Variables:
        shapes = self._here.shapes
        if isinstance(direction, Design):
            given = dict(mapping_of(direction.parameters, "parameters of a direction", ParameterError))
            if direction.points is not None:
                given[POINTS] = direction.points
        elif isinstance(direction, Mapping):
            given = dict(direction)
        else:
            given = {POINTS: direction}
        if not given:
            raise ProblemError("the direction has neither points nor parameters")
        for name in given:
            if name not in shapes:
                raise UnknownParameterError(name, shapes, "the problem")
        what = {name: "node velocities" if name == POINTS else f"rates of {name!r}" for name in given}
        return {
            name: np.asarray(as_array(array, shapes[name], what[name], ProblemError), order="C")
            for name, array in given.items()
        }

    # ------------------------------------------------------------------ one product
    def _in_motion(self, moved: Movable) -> Partials:
        """Partial derivatives of the response at a solution of complex numbers."""
        seen: Any = Seen(moved)
        return partials_in_motion(self._plain, seen)

    def _product(self, along: Variables, wanted: Collection[str] | None = None) -> Variables:
        with steps_kept():
            motions = self._motions(along)
            stages = {name: _moved(self._here.stages[name], motion) for name, motion in motions.items()}
            partials = self._in_motion(stages[self._stage])
            adjoint: dict[str, FloatArray] = {}

            def weigh(stage: str, seed: Seed) -> Weights:
                weights = motions[stage].weights(seed, self._adjoint[stage])
                adjoint[stage] = adjoint_of(weights, seed)
                return weights

            chosen = tuple(along) if wanted is None else tuple(wanted)
            found = replace(self._here, stages=stages).gradient(self._stage, partials, weigh, chosen)
        self.products += 1
        result = {name: rate(found[name]) for name in chosen}
        if self._check:
            neighbours = Neighbours(
                self._here, self._plain, self._stage, along, self.value, self.gradient, self._adjoint,
                {name: rate(lam) for name, lam in adjoint.items()}, motions,
            )  # fmt: skip
            neighbours.require(result)
            self._check = False
        return result

    def _motions(self, along: Variables) -> dict[str, Moving]:
        """All stages along a direction: what is solved first moves what it feeds."""
        motions: dict[str, Moving] = {}
        for stage, solution in self._here.stages.items():
            fed = {source: motions[source].state.u for source in self._here.links[stage]}
            rates = {name: rate(u) for name, u in fed.items()}
            motions[stage] = solution.moving(self._here.direction(stage, along, rates), self._partials)
        return motions


def _moved(solution: Movable, motion: Moving) -> Movable:
    """A solution of complex numbers, along a direction."""
    at: Any = motion.at
    return solution.shifted(at, motion.state)


class Seen:
    """A solution of complex numbers as a response sees it: where it is and its field are guarded.

    Parameters
    ----------
    solution : Movable
    """

    def __init__(self, solution: Any) -> None:
        self._solution = solution

    @property
    def points(self) -> FloatArray:
        """Node coordinates."""
        return self._solution.points.view(Guarded)

    @property
    def u(self) -> FloatArray:
        """The field."""
        return self._solution.u.view(Guarded)

    def stage(self, name: str | None) -> Seen:
        """Itself."""
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._solution, name)
