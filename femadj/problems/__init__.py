"""Problems: what is solved, and the solutions, which know their derivatives."""

from femadj.algebra.linear_system import Counts
from femadj.problems.chain import Chain, ChainSolution
from femadj.problems.gradient import ChainGradient, Gradient, Partials
from femadj.problems.linear_static import LinearStatic, Static
from femadj.problems.nonlinear_static import NonlinearSolution, NonlinearStatic
from femadj.problems.solution import Solution, require_solution

__all__ = [
    "Chain",
    "ChainGradient",
    "ChainSolution",
    "Counts",
    "Gradient",
    "LinearStatic",
    "NonlinearSolution",
    "NonlinearStatic",
    "Partials",
    "Solution",
    "Static",
    "require_solution",
]
