"""Problems: what is solved, and the solutions, which know their derivatives."""

from femadj.algebra.linear_system import Counts
from femadj.problems.chain import Chain, ChainSolution
from femadj.problems.gradient import ChainGradient, Gradient, Partials
from femadj.problems.history import HistorySlope, HistorySolution, Moment, TransientGradient
from femadj.problems.linear_static import LinearStatic
from femadj.problems.solution import Solution, require_solution
from femadj.problems.times import Times
from femadj.problems.transient import Transient

__all__ = [
    "Chain",
    "ChainGradient",
    "ChainSolution",
    "Counts",
    "Gradient",
    "HistorySlope",
    "HistorySolution",
    "LinearStatic",
    "Moment",
    "Partials",
    "Solution",
    "Times",
    "Transient",
    "TransientGradient",
    "require_solution",
]
