"""Problems: what is solved, and the solutions, which know their derivatives."""

from femadj.algebra.linear_system import Counts
from femadj.problems.buckling import Buckling, BucklingSolution
from femadj.problems.chain import Chain, ChainSolution
from femadj.problems.gradient import ChainGradient, Gradient, HistorySlope, Partials, TransientGradient
from femadj.problems.history import HistorySolution
from femadj.problems.linear_static import LinearStatic, Static
from femadj.problems.modal import Modal
from femadj.problems.modes import ModalSolution, ModePartials, Modes
from femadj.problems.moment import Moment
from femadj.problems.nonlinear_static import NonlinearSolution, NonlinearStatic
from femadj.problems.solution import Solution, require_solution
from femadj.problems.times import Times
from femadj.problems.transient import Transient

AnyProblem = Static | Chain | Modal | Buckling | Transient
AnySolution = Solution | ChainSolution | Modes | HistorySolution
AnyGradient = Gradient | ChainGradient | TransientGradient

__all__ = [
    "AnyGradient",
    "AnyProblem",
    "AnySolution",
    "Buckling",
    "BucklingSolution",
    "Chain",
    "ChainGradient",
    "ChainSolution",
    "Counts",
    "Gradient",
    "HistorySlope",
    "HistorySolution",
    "LinearStatic",
    "Modal",
    "ModalSolution",
    "ModePartials",
    "Modes",
    "Moment",
    "NonlinearSolution",
    "NonlinearStatic",
    "Partials",
    "Solution",
    "Static",
    "Times",
    "Transient",
    "TransientGradient",
    "require_solution",
]
