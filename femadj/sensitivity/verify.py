"""Check a gradient against independently rebuilt problems: Taylor remainders and central differences.

What can be seen: every difference comes with an uncertainty that is taken from the values themselves, from their
changes between steps and from their rounding, and the table tells it. Beyond it a derivative along a direction may be
off by 2e-8 of the norm of the products ``G_i V_i``. Nodes move by up to the size of their cells, less where a node
changes the response more than nine tenths of all do, so that a wrong or missing term of 1e-5 of the gradient shows.
Among the interior and the boundary nodes alone all but the tenth that matters least count alike: with ``n`` of them a
single node that is off by a part ``p`` of its own derivative leaves ``p / sqrt(n)``, so that 1e-3 shows among a
million. What cannot be seen: less than these parts, less than the uncertainty (thin bodies have values with few
digits), a node whose derivative is thousands of times smaller than those of nearly all others, and what the problem
itself ignores (a closure that stands for a parameter).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from rich.console import Console

from femadj.base.arrays import FloatArray, inner
from femadj.base.design import Design
from femadj.errors import ProblemError
from femadj.problems import AnyGradient, AnyProblem, AnySolution
from femadj.progress import Phases, Progress
from femadj.responses import OnStage, Response
from femadj.responses.base import value_of
from femadj.sensitivity.adjoint import value_and_gradient
from femadj.sensitivity.line import NOISE, STEPS, TINY_STEP, Samples, clear, order, rounding, sampled
from femadj.sensitivity.sizes import local_sizes
from femadj.sensitivity.verification import (
    RATE_TOLERANCE,
    TOLERANCE,
    ComponentTest,
    ParameterTest,
    TaylorTest,
    Verification,
)

__all__ = ["RATE_TOLERANCE", "TOLERANCE", "ComponentTest", "TaylorTest", "Verification", "local_sizes", "verify"]

BRIEF = 20_000
"""Unknowns from which one direction stands for all tests that are not asked for."""

_MOST, _FEW = 0.9, 0.1
_SHARP = 1e10
"""Times the rounding of the value that all nodes together should change it by."""

_MANY = 6
"""Steps after which a sharp difference may contradict a derivative."""

_SMALL, _NOTABLE = 1e-6, 1e-2
"""Derivatives that are smaller than the first part of the value, or of what all nodes can change it by, are judged by
that; below the second they need not be told from zero more sharply than those at it."""


def verify(
    problem: AnyProblem,
    response: Response | OnStage,
    *,
    points: npt.ArrayLike | None = None,
    directions: int | None = None,
    components: int | None = None,
    seed: int = 0,
    thorough: bool = False,
    show: bool = True,
    check: bool = True,
    progress: Progress | None = None,
) -> Verification:
    """Check the gradient of a response at every node and by every parameter against problems rebuilt from scratch.

    Each perturbed mesh gets a problem of its own (pattern, assembly, factorisation); nothing is shared with the
    gradient but the input. Random directions move all nodes, the interior or the boundary nodes alone, by fractions of
    the size of their own cells. Along each, the derivative is compared with the limit of central differences and the
    order of the Taylor remainder is fitted; components (half of them the largest, half of them random) and derivatives
    by parameters are compared with differences too. The head of this module says what can be seen in this way.

    Parameters
    ----------
    problem : LinearStatic, NonlinearStatic, Chain, Modal, Buckling or Transient
        Nonlinear ones built anew are solved from the solution on; a transient one needs ``Transient(..., times=...)``.
    response : Response
    points : (n_nodes, dim), optional
        Where; the mesh's own coordinates when left out.
    directions : int, optional
        Random directions of each of the three kinds, 1 when left out. From 20 000 unknowns on one direction of all
        nodes and parameters together stands for what is left out, here and in ``components``.
    components : int, optional
        Components compared with differences, 4 when left out; 0 skips them.
    seed : int
    thorough : bool
        Test everything, however large the problem.
    show : bool
        Print the table.
    check : bool
        Raise VerificationError when a test fails.
    progress : Progress, optional
        Notified of what is going on.

    Returns
    -------
    Verification
        ``left_out`` says what was not tested.
    """
    if not callable(getattr(problem, "rebuilt", None)):
        raise ProblemError(f"verify takes a problem, which it builds anew and solves, not {type(problem).__name__}")
    phases = Phases(progress)
    rng = np.random.default_rng(seed)
    base = problem if points is None else problem.rebuilt(points)
    with phases("solve"):
        solution = base.solve()
        value, gradient = value_and_gradient(solution, response)
    brief = directions is None and not thorough and base.n_unknowns >= BRIEF
    rebuilt = _Rebuilt(base, solution, response, value, gradient, phases, rng, brief)
    left_out = ["interior and boundary by themselves", "each parameter by itself"] if brief else []
    left_out += ["components"] if brief and components is None else []
    taylor = (rebuilt.everything(),) if brief else rebuilt.taylor(1 if directions is None else directions)
    parameters = () if brief else rebuilt.parameters()
    left_out += [f"parameter {name!r} of the response" for name in gradient.parameters if name not in base.parameters]
    few = 0 if brief else 4
    outcome = Verification(
        repr(response),
        value,
        float(np.abs(gradient.points).max(initial=0.0)),
        taylor,
        rebuilt.components(few if components is None else components),
        parameters=parameters,
        solves=rebuilt.solves,
        rounding=rebuilt.rounding,
        left_out=tuple(left_out),
    )
    if show:
        Console().print(outcome.table())
    if check:
        outcome.raise_if_wrong()
    return outcome


class _Rebuilt:
    """The tests of one gradient, each on problems rebuilt from scratch, which are counted."""

    def __init__(
        self,
        problem: AnyProblem,
        solution: AnySolution,
        response: Response | OnStage,
        value: float,
        gradient: AnyGradient,
        phases: Phases,
        rng: np.random.Generator,
        brief: bool,
    ) -> None:
        self.problem, self.response, self.gradient, self.phases = problem, response, gradient, phases
        self.value, self.rng = value, rng
        self.again = getattr(solution, "again", None)  # where a search from rest may end at another solution
        self.sizes = local_sizes(problem.mesh)
        self.solves = 0
        self.parts = np.linalg.norm(gradient.points, axis=1) * self.sizes
        self.reference = max(float(np.linalg.norm(self.parts)), abs(value))
        with phases("rounding"):
            everywhere = Design(self.random(1.0))
            slope, _ = self.products(everywhere)
            grain = np.finfo(float).eps * float((np.abs(problem.mesh.points).max(axis=1) / self.sizes).max())
            tiny = max(TINY_STEP, 8 * grain)  # coordinates far from the origin must change at all
            self.rounding = rounding(lambda t: self.value_at(everywhere, t), value, slope, tiny, 2 if brief else 4)

    def value_at(self, direction: Design, t: float) -> float:
        """The response of a problem built at a design ``t`` further along a direction."""
        self.solves += 1
        points, values = self.problem.mesh.points, self.problem.parameters
        there = points if direction.points is None else points + t * direction.points
        moved = {name: values.value(name) + t * rate for name, rate in direction.parameters.items()}
        if self.again is not None:
            return value_of(self.response, self.again(there, moved))
        return value_of(self.response, self.problem.rebuilt(there).solve(parameters=moved))

    def random(self, factors: FloatArray | float) -> FloatArray:
        """Random moves of the nodes, a half to one of the sizes of their cells times some factors."""
        shape = self.gradient.points.shape
        vectors = self.rng.normal(size=shape)
        lengths = self.rng.uniform(0.5, 1, shape[0]) * self.sizes * factors
        return vectors * (lengths / np.linalg.norm(vectors, axis=1))[:, None]

    def factors(self, moving: npt.NDArray[np.bool_], quantile: float) -> FloatArray:
        """Factors of the moves of some nodes, zero for the others, shape ``(n_nodes,)``.

        Nodes that change the response by more than a level move less, down to that level: a quantile of these changes,
        and no less than what rounding leaves to be seen.
        """
        parts = self.parts[moving & (self.parts > 0)]
        level = _SHARP * self.rounding.noise / max(float(moving.sum()), 1.0) ** 0.5
        level = max(level, float(np.quantile(parts, quantile)) if len(parts) else 0.0)
        return moving * (level / np.maximum(self.parts, level) if level > 0 else 1.0)

    def taylor(self, directions: int) -> tuple[TaylorTest, ...]:
        """Taylor remainders along random directions of all nodes, the interior ones and those of the boundary."""
        mesh = self.problem.mesh
        boundary = np.zeros(mesh.n_nodes, dtype=bool)
        boundary[mesh.facet_nodes(mesh.boundary())] = True
        kinds = {
            "all nodes": self.factors(np.ones_like(boundary), _MOST),
            "interior": self.factors(~boundary, _FEW),
            "boundary": self.factors(boundary, _FEW),
        }
        tests = []
        for name, factors in kinds.items():
            for number in range(directions if factors.any() else 0):
                label = name if directions == 1 else f"{name} {number + 1}"
                direction = Design(self.random(factors))
                tests.append(self.along(label, direction, STEPS, 4))
        return tuple(tests)

    def everything(self) -> TaylorTest:
        """One direction of all nodes and parameters together, each with a part that can be seen beside the others."""
        all_nodes = np.ones(self.problem.mesh.n_nodes, dtype=bool)
        points = self.random(self.factors(all_nodes, _FEW))
        level = float(np.linalg.norm(self.gradient.points * points)) + _SHARP * self.rounding.noise
        rates = {}
        for name in self.problem.parameters:
            rate = self.parameter_rate(name)
            part = float(np.linalg.norm(self.gradient.parameters[name] * rate))
            rates[name] = rate * (level / max(part, level) if level > 0 else 1.0)
        label = ", ".join(["all nodes", *rates])
        return self.along(f"{label} together" if rates else label, Design(points, rates), STEPS[1:], 3)

    def along(self, name: str, direction: Design, steps: tuple[float, ...], fewest: int) -> TaylorTest:
        """Remainders and differences along one direction, of a few steps at least where rounding allows."""
        noise = self.rounding.noise
        slope, scale = self.products(direction)

        def enough(samples: Samples) -> bool:
            seen = clear(samples.steps, samples.remainders(slope), noise)
            ordered = len(seen) < len(samples.steps) or (len(seen) >= fewest and order(seen) is not None)
            return ordered and self.sharp(samples, slope, scale)

        with self.phases(f"Taylor test, {name}"):
            samples = sampled(lambda t: self.value_at(direction, t), self.value, steps, enough)
        seen = clear(samples.steps, samples.remainders(slope), noise)
        return TaylorTest(
            name,
            tuple(h for h, _ in seen),
            tuple(r for _, r in seen),
            noise,
            order(seen),
            slope,
            *self.compared(samples, slope, scale),
            samples.trouble,
        )

    def components(self, count: int) -> tuple[ComponentTest, ...]:
        """Components of the gradient against differences, half of them the largest, half of them random."""
        mesh, g = self.problem.mesh, self.gradient.points
        largest = float(np.abs(g).max(initial=0.0))
        tests = []
        for node, axis in _chosen(g, count, self.rng):
            number = int(mesh.node_ids[node])
            size = float(self.sizes[node])
            direction = np.zeros_like(g)
            direction[node, axis] = size
            exact, scale = float(g[node, axis]), largest * size
            samples = self.differences(f"difference at node {number}", Design(direction), exact * size, scale)
            difference, error, resolution = self.compared(samples, exact * size, scale)
            quotient = difference / size
            tests.append(ComponentTest(node, number, axis, exact, quotient, error, resolution, samples.trouble))
        return tuple(tests)

    def parameters(self) -> tuple[ParameterTest, ...]:
        """Derivatives by every parameter along a random direction against differences."""
        tests = []
        for name in self.problem.parameters:
            direction = Design(parameters={name: self.parameter_rate(name)})
            exact, scale = self.products(direction)
            samples = self.differences(f"difference by {name}", direction, exact, scale)
            tests.append(ParameterTest(name, exact, *self.compared(samples, exact, scale), samples.trouble))
        return tuple(tests)

    def parameter_rate(self, name: str) -> FloatArray:
        """A random direction of the values of a parameter, of their size."""
        values = self.problem.parameters.value(name)
        size = np.abs(values) + 0.01 * (float(np.abs(values).max(initial=0.0)) or 1.0)
        return size * self.rng.uniform(0.5, 1, values.shape) * self.rng.choice([-1.0, 1.0], values.shape)

    def products(self, direction: Design) -> tuple[float, float]:
        """Derivative along a direction, and the norm of the products that it is the sum of."""
        g, points = self.gradient, direction.points
        pairs = [(np.asarray(g.parameters[name]), rate) for name, rate in direction.parameters.items()]
        pairs += [] if points is None else [(g.points, points)]
        return sum(inner(a, b) for a, b in pairs), float(np.linalg.norm([np.linalg.norm(a * b) for a, b in pairs]))

    def differences(self, phase: str, direction: Design, exact: float, scale: float) -> Samples:
        """Values along a direction, as many as a sharp difference takes."""
        with self.phases(phase):
            return sampled(
                lambda t: self.value_at(direction, t),
                self.value,
                STEPS,
                lambda samples: self.sharp(samples, exact, scale),
            )

    def sharp(self, samples: Samples, exact: float, scale: float) -> bool:
        """Whether the difference is certain enough, or rounding hides what smaller steps would say.

        Where it disagrees with the derivative it is certain after many more steps, or when smaller ones could not tell
        the two from each other: values may look smooth at steps that are too large to see the derivative.
        """
        noise = 4 * NOISE * self.rounding.noise / samples.steps[-1]
        difference, doubt = samples.difference(self.rounding.noise)
        distance, enough = abs(difference - exact), TOLERANCE * max(scale, abs(difference), _SMALL * self.reference)
        fewest = 2 if distance <= enough + doubt or distance <= noise else _MANY
        return len(samples.steps) > fewest and doubt <= max(0.3 * enough, noise)

    def compared(self, samples: Samples, exact: float, scale: float) -> tuple[float, float, float]:
        """Difference, distance of the derivative from it beyond its uncertainty, and the uncertainty, both relative."""
        difference, doubt = samples.difference(self.rounding.noise)
        size = max(scale, abs(difference), _SMALL * self.reference)
        if size == 0:
            return difference, float(exact != difference), 0.0 if samples.steps else np.inf
        beyond = max(abs(exact - difference) - doubt, 0.0)
        return difference, float(beyond / size), float(doubt / max(size, _NOTABLE * self.reference))


def _chosen(g: FloatArray, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Half the largest components, half random ones."""
    count = min(count, g.size)
    largest = np.argsort(-np.abs(g).ravel(), kind="stable")[: (count + 1) // 2]
    rest = np.setdiff1d(np.arange(g.size), largest)
    random = rng.choice(rest, count - len(largest), replace=False)
    return [divmod(int(i), g.shape[1]) for i in (*largest, *random)]
