"""What a check finds: passed, failed, or not checked and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["passed", "failed", "not checked"]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes
    ----------
    area : str
        What was looked at: a solver, kernels, a problem.
    name : str
    outcome : "passed", "failed" or "not checked"
    detail : str
        Why it failed or was not checked; figures that the verdict rests on.
    """

    area: str
    name: str
    outcome: Outcome
    detail: str = ""


@dataclass
class Examination:
    """Checks in the order in which they were made.

    Attributes
    ----------
    checks : list of Check
    told : callable, optional
        Called with every check as it is made.
    """

    checks: list[Check] = field(default_factory=list)
    told: Callable[[Check], None] = lambda check: None

    def check(self, area: str, name: str, call: Callable[[], str | None]) -> bool:
        """Make a check: ``call`` raises where it fails, and may return figures. Returns whether it passed."""
        try:
            detail = call() or ""
        except Exception as error:  # to be told, whatever it is: that is what a doctor is for
            return self._add(Check(area, name, "failed", f"{type(error).__name__}: {error}"))
        return self._add(Check(area, name, "passed", detail))

    def lack(self, area: str, reason: str, *, required: bool) -> None:
        """Say what is not here; it fails where it is required."""
        self._add(Check(area, "is here", "failed" if required else "not checked", reason))

    def _add(self, check: Check) -> bool:
        self.checks.append(check)
        self.told(check)
        return check.outcome == "passed"

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many checks had each outcome."""
        outcomes: tuple[Outcome, ...] = ("passed", "failed", "not checked")
        return {each: sum(check.outcome == each for check in self.checks) for each in outcomes}


def within(found: Any, limit: float, what: str) -> str:
    """Figures of a check that passes where a number is at most its limit; AssertionError otherwise, NaN included."""
    text = f"{what} {float(found):.1e}"
    if not found <= limit:
        raise AssertionError(f"{text} > {limit:.0e}")
    return text


def must_raise(kinds: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Any]) -> str:
    """The words of an error that must come; AssertionError where none does."""
    try:
        call()
    except kinds as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("there was no error")
