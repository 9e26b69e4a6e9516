"""Problems: what is solved, and the solutions, which know their derivatives."""

from femadj.algebra.linear_system import Counts
from femadj.problems.buckling import Buckling, BucklingSolution
from femadj.problems.chain import Chain, ChainSolution
from femadj.problems.gradient import ChainGradient, Gradient, Partials
from femadj.problems.linear_static import LinearStatic, Static
from femadj.problems.modal import Modal
from femadj.problems.modes import ModalSolution, ModePartials, Modes
from femadj.problems.nonlinear_static import NonlinearSolution, NonlinearStatic
from femadj.problems.solution import Solution, require_solution

AnyProblem = Static | Chain | Modal | Buckling
AnySolution = Solution | ChainSolution | Modes

__all__ = [
    "AnyProblem",
    "AnySolution",
    "Buckling",
    "BucklingSolution",
    "Chain",
    "ChainGradient",
    "ChainSolution",
    "Counts",
    "Gradient",
    "LinearStatic",
    "Modal",
    "ModalSolution",
    "ModePartials",
    "Modes",
    "NonlinearSolution",
    "NonlinearStatic",
    "Partials",
    "Solution",
    "Static",
    "require_solution",
]
