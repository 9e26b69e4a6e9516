"""Check a gradient against independently rebuilt problems: Taylor remainders and central differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from femadj.base.arrays import FloatArray, inner
from femadj.base.display import html_of
from femadj.errors import ProblemError, TangledMeshError, VerificationError
from femadj.mesh import Mesh
from femadj.problems import Chain, ChainGradient, Gradient, LinearStatic
from femadj.progress import Phases, Progress
from femadj.responses import OnStage, Response
from femadj.responses.base import value_of
from femadj.sensitivity.adjoint import value_and_gradient

RATE_TOLERANCE = 0.05
"""How far a fitted Taylor rate may be from 2."""

TOLERANCE = 1e-7
"""How far a derivative may be from its difference quotient, relative to the size of the gradient."""

_ROUNDING = 2000.0
"""Factor from the rounding of a value to that of a difference quotient in units of the step."""

_DRAWS = 3
"""Directions drawn while the derivative is right but the order is not two: the second derivative along a direction may
happen to be so small that the third one shows. A wrong gradient is wrong along all of them."""

_TINY_STEP = 1e-9
_STEPS = tuple(0.1 * 4.0**-k for k in range(8))
_WINDOW = 4
_DIFFERENCE_STEPS = tuple(4e-2 * 2.0**-k for k in range(7))


@dataclass(frozen=True)
class TaylorTest:
    """Remainders ``|J(X + h V) - J(X) - h G.V|`` of one direction.

    Attributes
    ----------
    name : str
        Which nodes move.
    steps, remainders : tuple of float
        ``h`` as a fraction of the local cell size.
    noise : float
        Remainder that rounding alone leaves, measured at a step too small for anything else.
    rate : float or None
        Fitted order; ``None`` when every remainder is rounding (the response is linear along the direction).
    derivative, difference : float
        ``G.V``, and the central difference along V.
    error : float
        Their distance, relative to the norm of ``G_i V_i`` and beyond rounding.
    """

    name: str
    steps: tuple[float, ...]
    remainders: tuple[float, ...]
    noise: float
    rate: float | None
    derivative: float
    difference: float
    error: float

    @property
    def passed(self) -> bool:
        """Whether the remainder vanishes to second order, and the derivative is the limit of the differences."""
        order = self.rate is None or abs(self.rate - 2.0) <= RATE_TOLERANCE or self._higher
        return order and self.error <= TOLERANCE

    @property
    def _higher(self) -> bool:
        """A second derivative that happens to vanish: the order is above two and near a whole number."""
        return self.rate is not None and self.rate > 2.9 and abs(self.rate - round(self.rate)) <= 2 * RATE_TOLERANCE


@dataclass(frozen=True)
class ComponentTest:
    """One component of the gradient against a difference quotient.

    Attributes
    ----------
    node : int
        Row of ``Gradient.points``.
    node_id : int
        Id of the node in the input file.
    axis : int
    gradient, difference : float
    error : float
        Their distance, relative to the largest component of the gradient and beyond rounding.
    """

    node: int
    node_id: int
    axis: int
    gradient: float
    difference: float
    error: float

    @property
    def passed(self) -> bool:
        """Whether the two agree."""
        return self.error <= TOLERANCE


@dataclass(frozen=True)
class ParameterTest:
    """The derivative by one parameter, along a random direction, against a difference quotient.

    Attributes
    ----------
    name : str
        ``"stage.name"`` in a chain.
    derivative, difference : float
    error : float
        Their distance, relative to the norm of the products and beyond rounding.
    """

    name: str
    derivative: float
    difference: float
    error: float

    @property
    def passed(self) -> bool:
        """Whether the two agree."""
        return self.error <= TOLERANCE


@dataclass(frozen=True)
class Verification:
    """Outcome of ``verify``.

    Attributes
    ----------
    response : str
    value : float
    largest : float
        Largest component of the gradient.
    taylor : tuple of TaylorTest
    components : tuple of ComponentTest
    solves : int
        Problems rebuilt and solved for it.
    parameters : tuple of ParameterTest
        One for every parameter of the problem.
    """

    response: str
    value: float
    largest: float
    taylor: tuple[TaylorTest, ...]
    components: tuple[ComponentTest, ...]
    solves: int
    parameters: tuple[ParameterTest, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        nodes = all(t.passed for t in self.taylor) and all(c.passed for c in self.components)
        return nodes and all(p.passed for p in self.parameters)

    def raise_if_wrong(self) -> None:
        """Raise VerificationError when any test failed."""
        if not self.passed:
            raise VerificationError(f"the gradient of {self.response} is wrong:\n{self}")

    def table(self) -> Table:
        """The outcome as a rich table."""
        table = Table(title=f"{self.response} = {self.value:.9g}, largest |dJ/dX| = {self.largest:.4g}")
        for column, justify in (("test", "left"), ("result", "right"), ("expected", "right"), ("", "left")):
            table.add_column(column, justify=justify)  # type: ignore[arg-type]
        for t in self.taylor:
            rate = "linear (rounding only)" if t.rate is None else f"{t.rate:.3f}"
            good = t.passed or t.error > TOLERANCE
            table.add_row(f"Taylor rate, {t.name}", rate, f"2 ± {RATE_TOLERANCE:g}", _mark(good))
            numbers = f"{t.derivative:.9g}", f"{t.difference:.9g}"
            table.add_row(f"dJ along it, {t.name}", *numbers, _verdict(t.error))
        for c in self.components:
            axis = "xyz"[c.axis]
            name = f"dJ/d{axis} of node {c.node_id}"
            table.add_row(name, f"{c.gradient:.9g}", f"{c.difference:.9g}", _verdict(c.error))
        for p in self.parameters:
            table.add_row(f"dJ along {p.name}", f"{p.derivative:.9g}", f"{p.difference:.9g}", _verdict(p.error))
        return table

    def _repr_html_(self) -> str:
        return html_of(self.table())

    def __str__(self) -> str:
        console = Console(width=100, color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get()


def verify(
    problem: LinearStatic | Chain,
    response: Response | OnStage,
    *,
    points: npt.ArrayLike | None = None,
    directions: int = 1,
    components: int = 4,
    seed: int = 0,
    show: bool = True,
    check: bool = True,
    progress: Progress | None = None,
) -> Verification:
    """Check the gradient of a response at every node against problems rebuilt from scratch.

    Each perturbed mesh gets a problem of its own (pattern, assembly, factorisation); nothing is shared with the
    gradient but the input. Random directions move all nodes, the interior nodes, or the boundary nodes alone, by
    fractions of the local cell size. The order of the Taylor remainder is fitted to the smallest steps of a sweep that
    rounding (measured as well) does not reach, and the derivative along the direction is compared with five-point
    central differences over several steps; so are components, half of them the largest, half of them random, and the
    derivatives by the parameters of the problem along random directions.

    Parameters
    ----------
    problem : LinearStatic or Chain
    response : Response
    points : (n_nodes, dim), optional
        Where; the mesh's own coordinates when left out.
    directions : int
        Random directions of each of the three kinds.
    components : int
        Components compared with differences; 0 skips them.
    seed : int
    show : bool
        Print the table.
    check : bool
        Raise VerificationError when a test fails.
    progress : Progress, optional
        Notified of what is going on.

    Returns
    -------
    Verification
    """
    if not callable(getattr(problem, "rebuilt", None)):
        raise ProblemError(f"verify takes a problem, which it builds anew and solves, not {type(problem).__name__}")
    phases = Phases(progress)
    rng = np.random.default_rng(seed)
    base = problem if points is None else problem.rebuilt(points)
    with phases("solve"):
        value, gradient = value_and_gradient(base.solve(), response)
    rebuilt = _Rebuilt(base, response, value, gradient, phases)
    taylor = rebuilt.taylor(directions, rng)
    noise = max((t.noise for t in taylor), default=0.0)
    outcome = Verification(
        repr(response),
        value,
        float(np.abs(gradient.points).max(initial=0.0)),
        taylor,
        rebuilt.components(components, noise, rng),
        parameters=rebuilt.parameters(noise, rng),
        solves=rebuilt.solves,
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
        problem: LinearStatic | Chain,
        response: Response | OnStage,
        value: float,
        gradient: Gradient | ChainGradient,
        phases: Phases,
    ) -> None:
        self.problem, self.response, self.gradient, self.phases = problem, response, gradient, phases
        self.value = value
        self.size = local_sizes(problem.mesh)
        self.solves = 0

    def value_at(self, points: FloatArray) -> float:
        """The response of a problem built at other node coordinates."""
        self.solves += 1
        return value_of(self.response, self.problem.rebuilt(points).solve())

    def taylor(self, directions: int, rng: np.random.Generator) -> tuple[TaylorTest, ...]:
        """Taylor remainders along random directions of all nodes, the interior ones and those of the boundary."""
        mesh, g = self.problem.mesh, self.gradient.points
        tests = []
        boundary = np.zeros(mesh.n_nodes, dtype=bool)
        boundary[mesh.facet_nodes(mesh.boundary())] = True
        for name, moving in (("all nodes", np.ones_like(boundary)), ("interior", ~boundary), ("boundary", boundary)):
            if not moving.any():
                continue
            for number in range(directions):
                label = name if directions == 1 else f"{name} {number + 1}"
                with self.phases(f"Taylor test, {label}"):
                    for _ in range(_DRAWS):
                        direction = rng.uniform(-1, 1, g.shape) * self.size[:, None] * moving[:, None]
                        test = _taylor(label, self.value_at, mesh.points, direction, self.value, g)
                        if test.passed or test.error > TOLERANCE:
                            break
                tests.append(test)
        return tuple(tests)

    def components(self, count: int, noise: float, rng: np.random.Generator) -> tuple[ComponentTest, ...]:
        """Components of the gradient against differences, half of them the largest, half of them random."""
        mesh, g, size = self.problem.mesh, self.gradient.points, self.size
        largest = float(np.abs(g).max(initial=0.0))
        tests = []
        for node, axis in _chosen(g, count, rng):
            number = int(mesh.node_ids[node])
            with self.phases(f"difference at node {number}"):
                direction = np.zeros_like(g)
                direction[node, axis] = size[node]
                along = _difference(self.value_at, mesh.points, direction, largest * size[node])
            quotient, exact = along / size[node], float(g[node, axis])
            error = _error(exact, quotient, largest, noise / size[node])
            tests.append(ComponentTest(node, number, axis, exact, quotient, error))
        return tuple(tests)

    def parameters(self, noise: float, rng: np.random.Generator) -> tuple[ParameterTest, ...]:
        """Derivatives by every parameter along a random direction against differences."""
        tests = []
        for name in self.problem.parameters:
            values = self.problem.parameters.value(name)

            def value_with(moved: FloatArray, name: str = name) -> float:
                self.solves += 1
                rebuilt = self.problem.rebuilt(self.problem.mesh.points)
                return value_of(self.response, rebuilt.solve(parameters={name: moved}))

            with self.phases(f"difference by {name}"):
                size = np.abs(values) + 0.01 * (float(np.abs(values).max(initial=0.0)) or 1.0)
                direction = rng.uniform(-1, 1, values.shape) * size
                slopes = self.gradient.parameters[name]
                tests.append(_parameter_test(name, value_with, values, direction, self.value, slopes, noise))
        return tuple(tests)


def _parameter_test(
    name: str,
    value_with: Callable[[FloatArray], float],
    values: FloatArray,
    direction: FloatArray,
    value: float,
    slopes: FloatArray,
    noise: float,
) -> ParameterTest:
    exact = inner(np.asarray(slopes), direction)
    noise = max(noise, _noise(value_with, values, direction, value, exact))
    scale = float(np.linalg.norm(slopes * direction))
    quotient = _difference(value_with, values, direction, scale)
    return ParameterTest(name, exact, quotient, _error(exact, quotient, max(scale, abs(quotient)), noise))


def local_sizes(mesh: Mesh) -> FloatArray:
    """Size of the smallest or flattest cell at every node, shape ``(n_nodes,)``.

    The shortest edge (half of it in quadratic cells) times the quality of the cell: about the height of a slender one.
    """
    smallest = np.full(mesh.n_nodes, np.inf)
    quality = np.clip(mesh.quality(), 1e-3, 1.0)
    for start, block in zip(mesh.block_offsets, mesh.blocks, strict=False):
        cell = block.reference
        edges = mesh.points[block.nodes[:, np.array(cell.edges)]]
        size = np.linalg.norm(edges[:, :, 1] - edges[:, :, 0], axis=2).min(axis=1)
        size *= quality[start : start + len(block)] * (0.5 if cell.n_nodes > cell.n_corners else 1.0)
        np.minimum.at(smallest, block.nodes, size[:, None])
    return smallest


def _taylor(
    name: str,
    value_at: Callable[[FloatArray], float],
    x: FloatArray,
    direction: FloatArray,
    value: float,
    g: FloatArray,
) -> TaylorTest:
    slope = inner(g, direction)
    noise = _noise(value_at, x, direction, value, slope)
    steps, remainders = [], []
    for step in _STEPS:
        try:
            remainder = abs(value_at(x + step * direction) - value - step * slope)
        except TangledMeshError:
            continue  # a step too large for the mesh says nothing about the derivative
        if remainder <= 50 * noise:
            break
        steps.append(step)
        remainders.append(remainder)
    scale = float(np.linalg.norm(g * direction))
    difference = _difference(value_at, x, direction, scale)
    error = _error(slope, difference, max(scale, abs(difference)), noise)
    rate = _rate(steps, remainders)
    return TaylorTest(name, tuple(steps), tuple(remainders), noise, rate, slope, difference, error)


def _noise(
    value_at: Callable[[FloatArray], float], x: FloatArray, direction: FloatArray, value: float, slope: float
) -> float:
    """What rounding does to a value: remainders at steps too small for anything else."""
    tiny = [abs(value_at(x + s * _TINY_STEP * direction) - value - s * _TINY_STEP * slope) for s in (-1, 2)]
    return max(*tiny, 4e-16 * abs(value))


def _error(derivative: float, difference: float, scale: float, noise: float) -> float:
    """Relative distance, less what rounding can do to a difference quotient; NaN counts as infinitely far."""
    excess = abs(derivative - difference) - _ROUNDING * noise
    if np.isnan(excess):
        return np.inf
    return max(excess, 0.0) / scale if scale > 0 else float(excess > 0)


def _rate(steps: list[float], remainders: list[float]) -> float | None:
    """Slope over the smallest steps that are above rounding."""
    if len(steps) < 2:
        return None
    h, r = np.log(steps[-_WINDOW:]), np.log(remainders[-_WINDOW:])
    return float(np.polyfit(h, r, 1)[0])


def _difference(value_at: Callable[[FloatArray], float], x: FloatArray, direction: FloatArray, scale: float) -> float:
    """Five-point central difference over halved steps, until two of them agree or else the two that agree best."""
    central: list[float] = []
    quotients: list[float] = []
    best, change = np.nan, np.inf
    for h in _DIFFERENCE_STEPS:
        try:
            central.append((value_at(x + h * direction) - value_at(x - h * direction)) / (2 * h))
        except TangledMeshError:
            continue  # a step too large for the mesh; the next is half as long
        if len(central) > 1:
            quotients.append((4 * central[-1] - central[-2]) / 3)
        if len(quotients) > 1 and abs(quotients[-1] - quotients[-2]) < change:
            best, change = quotients[-1], abs(quotients[-1] - quotients[-2])
        if change <= 0.01 * TOLERANCE * scale:
            break
    return best


def _chosen(g: FloatArray, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Half the largest components, half random ones."""
    count = min(count, g.size)
    largest = np.argsort(-np.abs(g).ravel(), kind="stable")[: (count + 1) // 2]
    rest = np.setdiff1d(np.arange(g.size), largest)
    random = rng.choice(rest, count - len(largest), replace=False)
    return [divmod(int(i), g.shape[1]) for i in (*largest, *random)]


def _mark(passed: bool) -> str:
    return "ok" if passed else "WRONG"


def _verdict(error: float) -> str:
    """A comparison with a difference in words."""
    return "ok, to rounding" if error == 0 else f"{_mark(error <= TOLERANCE)} ({error:.1e})"
