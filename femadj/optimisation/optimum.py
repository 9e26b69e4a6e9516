"""What an optimiser found, whichever it was."""

from __future__ import annotations

from dataclasses import dataclass

from femadj.base.arrays import FloatArray
from femadj.base.display import shown
from femadj.base.pickling import Picklable


@dataclass(frozen=True, eq=False)
class FoundDesign(Picklable):
    """A design of a run.

    Attributes
    ----------
    number : int
        In the history of the run.
    variables : (n,)
        Of the parametrisation.
    points : (n_nodes, dim)
        Where the nodes are.
    values : (1 + m,)
        Objective and constraints, as the responses give them.
    violation : float
        By how much a constraint is missed at most, in the scale of each; zero within all limits.
    """

    number: int
    variables: FloatArray
    points: FloatArray
    values: FloatArray
    violation: float


@dataclass(frozen=True, eq=False)
class Optimum(Picklable):
    """The outcome of a run.

    Attributes
    ----------
    optimiser : str
        Library and algorithm.
    converged : bool
        Whether the optimiser says so, of a design within all limits, and no design without an answer kept it from more.
    message : str
        The optimiser's own words, and what is to be said of them.
    designs : int
        How many designs were asked for, those that were answered from an earlier run as well.
    imbalance : float
        What is left of the objective's gradient at the final design when limits and bounds push back as well as they
        can, times the way from the start, in parts of the objective; zero at an optimum. NaN where gradients are not at
        hand.
    names : tuple of str
        Of objective and constraints.
    final : FoundDesign
        Where the optimiser ended; the best design where it was stopped, or lost its way.
    best : FoundDesign
        Of all designs of the history that are within all limits, the one with the smallest objective; where there is
        none, the one that misses least.
    """

    optimiser: str
    converged: bool
    message: str
    designs: int
    imbalance: float
    names: tuple[str, ...]
    final: FoundDesign
    best: FoundDesign

    @property
    def variables(self) -> FloatArray:
        """Of the final design, ``(n,)``."""
        return self.final.variables

    @property
    def points(self) -> FloatArray:
        """Node coordinates of the final design, ``(n_nodes, dim)``."""
        return self.final.points

    @property
    def values(self) -> FloatArray:
        """Objective and constraints of the final design, ``(1 + m,)``."""
        return self.final.values

    def __repr__(self) -> str:
        values = zip(self.names, self.values.tolist(), strict=True)
        return shown(
            f"Optimum({self.optimiser}, {'converged' if self.converged else 'not converged'}, {self.designs} designs)",
            message=self.message,
            final=f"design {self.final.number}: " + ", ".join(f"{name} {value:.8g}" for name, value in values),
            best=f"design {self.best.number}: {self.names[0]} {self.best.values[0]:.8g}",
        )
