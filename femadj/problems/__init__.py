"""Problems: what is solved, and the solutions, which know their derivatives."""

from femadj.algebra.linear_system import Counts
from femadj.problems.chain import Chain, ChainSolution
from femadj.problems.gradient import ChainGradient, Gradient, HistorySlope, Partials, TransientGradient
from femadj.problems.history import HistorySolution
from femadj.problems.linear_static import LinearStatic
from femadj.problems.moment import Moment
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
