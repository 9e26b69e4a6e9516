"""Problems and their solutions."""

from femadj.problems.linear_static import Counts, LinearStatic, Solution

__all__ = ["Counts", "LinearStatic", "Solution"]
