"""Outcome of a verification: what was compared, whether it agrees, and a table that says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from rich.console import Console
from rich.table import Table

from femadj.base.display import html_of
from femadj.errors import VerificationError
from femadj.sensitivity.line import Rounding

RATE_TOLERANCE = 0.05
"""How far a fitted Taylor rate may be from 2."""

TOLERANCE = 1e-7
"""How far a component may be from its difference quotient, relative to the largest one."""

ALONG = 2e-8
"""How far a derivative along a direction may be from its difference quotient, relative to the norm of the products."""

RESOLUTION = 0.1
"""How large the uncertainty of a difference may be, relative to the same, before it tells nothing."""


class Compared:
    """A derivative against a difference: the one verdict of all tests."""

    tolerance: ClassVar[float] = ALONG
    error: float
    resolution: float
    trouble: str

    @property
    def passed(self) -> bool:
        """Whether the two agree, and the difference is sharp enough to tell."""
        return self.error <= self.tolerance and self.resolution <= RESOLUTION

    @property
    def verdict(self) -> str:
        """The same in words."""
        if not self.resolution <= RESOLUTION:
            return f"CANNOT TELL: {self.trouble or 'rounding hides the difference'}"
        if not self.error <= self.tolerance:
            return f"WRONG, off by {self.error:.1e}"
        return f"ok, to {self.resolution:.0e}"


@dataclass(frozen=True)
class TaylorTest(Compared):
    """Remainders ``|J(X + h V) - J(X) - h G.V|`` of one direction, the mean of both sides.

    Attributes
    ----------
    name : str
        What moves.
    steps, remainders : tuple of float
        ``h`` as a fraction of the size of the cells, where remainders stand clear of rounding.
    noise : float
        Rounding of the value.
    rate : float or None
        Fitted order; ``None`` when rounding leaves none to be seen (the response is linear along the direction).
    derivative, difference : float
        ``G.V``, and the limit of central differences along V.
    error : float
        Their distance, relative to the norm of ``G_i V_i`` and beyond the uncertainty of the difference.
    resolution : float
        That uncertainty, relative to the same.
    trouble : str
        Why steps were left out.
    """

    name: str
    steps: tuple[float, ...]
    remainders: tuple[float, ...]
    noise: float
    rate: float | None
    derivative: float
    difference: float
    error: float
    resolution: float = 0.0
    trouble: str = ""

    @property
    def orderly(self) -> bool:
        """Whether the remainder vanishes to second order, or to a higher one where a second derivative vanishes."""
        if self.rate is None:
            return True
        higher = self.rate > 2.9 and abs(self.rate - round(self.rate)) <= 2 * RATE_TOLERANCE
        return abs(self.rate - 2.0) <= RATE_TOLERANCE or higher

    @property
    def passed(self) -> bool:
        """Whether the order is right, and the derivative the limit of the differences."""
        return self.orderly and super().passed


@dataclass(frozen=True)
class ComponentTest(Compared):
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
        Their distance, relative to the largest component of the gradient and beyond the uncertainty of the difference.
    resolution, trouble
        As in ``TaylorTest``.
    """

    tolerance = TOLERANCE
    node: int
    node_id: int
    axis: int
    gradient: float
    difference: float
    error: float
    resolution: float = 0.0
    trouble: str = ""


@dataclass(frozen=True)
class ParameterTest(Compared):
    """The derivative by one parameter, along a random direction, against a difference quotient.

    Attributes
    ----------
    name : str
        ``"stage.name"`` in a chain.
    derivative, difference : float
    error : float
        Their distance, relative to the norm of the products and beyond the uncertainty of the difference.
    resolution, trouble
        As in ``TaylorTest``.
    """

    name: str
    derivative: float
    difference: float
    error: float
    resolution: float = 0.0
    trouble: str = ""


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
    rounding : Rounding
        Noise of the value, and whether it jumps at the design.
    left_out : tuple of str
        What was not tested.
    """

    response: str
    value: float
    largest: float
    taylor: tuple[TaylorTest, ...]
    components: tuple[ComponentTest, ...]
    solves: int
    parameters: tuple[ParameterTest, ...] = ()
    rounding: Rounding = field(default_factory=Rounding)
    left_out: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.rounding.passed and all(t.passed for t in (*self.taylor, *self.components, *self.parameters))

    def raise_if_wrong(self) -> None:
        """Raise VerificationError when any test failed."""
        if not self.passed:
            raise VerificationError(f"the gradient of {self.response} is wrong, or could not be verified:\n{self}")

    def table(self) -> Table:
        """The outcome as a rich table."""
        left_out = f"not tested: {', '.join(self.left_out)}" if self.left_out else None
        title = f"{self.response} = {self.value:.9g}, largest |dJ/dX| = {self.largest:.4g}"
        table = Table(title=title, caption=left_out)
        for column, justify in (("test", "left"), ("result", "right"), ("expected", "right"), ("", "left")):
            table.add_column(column, justify=justify)  # type: ignore[arg-type]
        steady = "ok" if self.rounding.passed else "WRONG: the value jumps at the design"
        table.add_row("jump of the value", f"{self.rounding.jump:.1e}", f"rounding, {self.rounding.noise:.0e}", steady)
        for t in self.taylor:
            unseen = "not settled" if t.steps else "linear (rounding only)"
            rate = unseen if t.rate is None else f"{t.rate:.3f}"
            order = "ok" if t.orderly else "WRONG: not the order of a right gradient"
            told = "no whole order to be seen" if t.rate is None and t.steps else order
            table.add_row(f"Taylor rate, {t.name}", rate, f"2 ± {RATE_TOLERANCE:g}", told)
            table.add_row(f"dJ along it, {t.name}", f"{t.derivative:.9g}", f"{t.difference:.9g}", t.verdict)
        for c in self.components:
            name = f"dJ/d{'xyz'[c.axis]} of node {c.node_id}"
            table.add_row(name, f"{c.gradient:.9g}", f"{c.difference:.9g}", c.verdict)
        for p in self.parameters:
            table.add_row(f"dJ along {p.name}", f"{p.derivative:.9g}", f"{p.difference:.9g}", p.verdict)
        return table

    def _repr_html_(self) -> str:
        return html_of(self.table())

    def __str__(self) -> str:
        console = Console(width=100, color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get()
