"""Check a gradient against independently rebuilt problems: Taylor remainders and central differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from femadj.errors import TangledMeshError, VerificationError
from femadj.mesh import Mesh
from femadj.problems import LinearStatic
from femadj.progress import Phases, Progress
from femadj.responses import Response
from femadj.sensitivity import value_and_gradient

FloatArray = npt.NDArray[np.float64]

RATE_TOLERANCE = 0.05
"""How far a fitted Taylor rate may be from 2."""

COMPONENT_TOLERANCE = 1e-7
"""How far a component may be from its difference quotient, relative to the largest component of the gradient."""

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
        ``h`` as a fraction of the local edge length.
    noise : float
        Remainder that rounding alone leaves, measured at a step too small for anything else.
    rate : float or None
        Fitted order; ``None`` when every remainder is rounding (the response is linear along the direction).
    """

    name: str
    steps: tuple[float, ...]
    remainders: tuple[float, ...]
    noise: float
    rate: float | None

    @property
    def passed(self) -> bool:
        """Whether the remainder vanishes to second order."""
        return self.rate is None or abs(self.rate - 2.0) <= RATE_TOLERANCE or self._higher

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
        Relative to the largest component of the gradient.
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
        return self.error <= COMPONENT_TOLERANCE


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
    """

    response: str
    value: float
    largest: float
    taylor: tuple[TaylorTest, ...]
    components: tuple[ComponentTest, ...]
    solves: int

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return all(t.passed for t in self.taylor) and all(c.passed for c in self.components)

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
            table.add_row(f"Taylor rate, {t.name}", rate, f"2 ± {RATE_TOLERANCE:g}", _mark(t.passed))
        for c in self.components:
            axis = "xyz"[c.axis]
            name = f"dJ/d{axis} of node {c.node_id}"
            table.add_row(name, f"{c.gradient:.9g}", f"{c.difference:.9g}", f"{_mark(c.passed)} ({c.error:.1e})")
        return table

    def __str__(self) -> str:
        console = Console(width=100, color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get()


def verify(
    problem: LinearStatic,
    response: Response,
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
    fractions of the local edge length, and the order of the Taylor remainder is fitted to the smallest steps of a sweep
    that rounding (measured as well) does not reach. Components, half of them the largest, half of them random, are
    compared with five-point central differences over several steps.

    Parameters
    ----------
    problem : LinearStatic
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
        Told about what is going on.

    Returns
    -------
    Verification
    """
    phases = Phases(progress)
    rng = np.random.default_rng(seed)
    base = problem if points is None else problem.rebuilt(points)
    x = base.mesh.points
    with phases("solve"):
        value, gradient = value_and_gradient(base.solve(), response)
    g = gradient.points
    largest = float(np.abs(g).max(initial=0.0))
    edge = local_edge_lengths(base.mesh)
    solves = 0

    def rebuilt_value(points: FloatArray) -> float:
        nonlocal solves
        solves += 1
        return response.evaluate(base.rebuilt(points).solve()).value

    taylor = []
    boundary = np.zeros(len(x), dtype=bool)
    boundary[base.mesh.facet_nodes(base.mesh.boundary())] = True
    for name, moving in (("all nodes", np.ones(len(x), bool)), ("interior", ~boundary), ("boundary", boundary)):
        if not moving.any():
            continue
        for number in range(directions):
            label = name if directions == 1 else f"{name} {number + 1}"
            direction = rng.uniform(-1, 1, x.shape) * edge[:, None] * moving[:, None]
            with phases(f"Taylor test, {label}"):
                taylor.append(_taylor(label, rebuilt_value, x, direction, value, float(np.vdot(g, direction))))
    tests = []
    for node, axis in _chosen(g, components, rng):
        with phases(f"difference at node {node}"):
            direction = np.zeros_like(x)
            direction[node, axis] = edge[node]
            quotient = _difference(rebuilt_value, x, direction, largest * edge[node]) / edge[node]
        exact = float(g[node, axis])
        error = abs(exact - quotient) / largest if largest > 0 else abs(exact - quotient)
        tests.append(ComponentTest(node, int(base.mesh.node_ids[node]), axis, exact, quotient, error))
    outcome = Verification(repr(response), value, largest, tuple(taylor), tuple(tests), solves)
    if show:
        Console().print(outcome.table())
    if check:
        outcome.raise_if_wrong()
    return outcome


def local_edge_lengths(mesh: Mesh) -> FloatArray:
    """Length of the shortest cell edge, or half edge of a quadratic cell, at every node; shape ``(n_nodes,)``."""
    shortest = np.full(mesh.n_nodes, np.inf)
    for block in mesh.blocks:
        cell = block.reference
        quadratic = cell.n_nodes > cell.n_corners
        for a, b in cell.edges:
            ends = mesh.points[block.nodes[:, [a, b]]]
            length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) * (0.5 if quadratic else 1.0)
            for local in range(cell.n_nodes) if quadratic else (a, b):
                np.minimum.at(shortest, block.nodes[:, local], length)
    return shortest


def _taylor(
    name: str,
    value_at: Callable[[FloatArray], float],
    x: FloatArray,
    direction: FloatArray,
    value: float,
    slope: float,
) -> TaylorTest:
    tiny = [abs(value_at(x + s * _TINY_STEP * direction) - value - s * _TINY_STEP * slope) for s in (-1, 2)]
    noise = max(*tiny, 4e-16 * abs(value))
    steps, remainders = [], []
    for step in _STEPS:
        try:
            remainder = abs(value_at(x + step * direction) - value - step * slope)
        except TangledMeshError:
            continue  # a step too large for the mesh says nothing about the derivative
        if remainder < 50 * noise:
            break
        steps.append(step)
        remainders.append(remainder)
    return TaylorTest(name, tuple(steps), tuple(remainders), noise, _rate(steps, remainders))


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
    best, change = 0.0, np.inf
    for h in _DIFFERENCE_STEPS:
        central.append((value_at(x + h * direction) - value_at(x - h * direction)) / (2 * h))
        if len(central) > 1:
            quotients.append((4 * central[-1] - central[-2]) / 3)
        if len(quotients) > 1 and abs(quotients[-1] - quotients[-2]) < change:
            best, change = quotients[-1], abs(quotients[-1] - quotients[-2])
        if change <= 0.01 * COMPONENT_TOLERANCE * scale:
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
