"""cuSOLVER over a stand-in for the library, and on a device where there is one."""

from __future__ import annotations

import pytest

from femadj.solvers import Solver
from femadj.solvers.cusolver import CusolverSolver
from femadj.solvers.cusolver_library import Library
from tests.solvers.conformance import SolverConformance
from tests.solvers.cusolver_stand_in import HostMemory, StandIn


def stood_in(**options: object) -> tuple[CusolverSolver, StandIn, HostMemory]:
    memory = HostMemory()
    library = StandIn(memory)
    return CusolverSolver(library=Library(library, library), arrays=memory, **options), library, memory


class TestConformance(SolverConformance):
    @pytest.fixture
    def solver(self) -> Solver:
        return stood_in()[0]
