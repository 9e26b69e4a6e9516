"""Problems: what is solved, and the solutions."""

from femadj.problems.chain import Chain, ChainSolution
from femadj.problems.linear_static import Counts, LinearStatic, Solution

__all__ = ["Chain", "ChainSolution", "Counts", "LinearStatic", "Solution"]
