"""Solver "cuda": the binding of cuDSS over what stands in for its library, and that library where it is installed."""

from __future__ import annotations

import pytest

from femadj.solvers.cuda import CudaSolver
from femadj.solvers.cudss import Library
from tests.host_arrays import HostArrays
from tests.solvers.conformance import SolverConformance
from tests.solvers.cudss_stand_in import StandIn


def made(**options: object) -> tuple[CudaSolver, StandIn, HostArrays]:
    arrays = HostArrays()
    library = StandIn(arrays, **options)
    return CudaSolver(library=Library(library), arrays=arrays), library, arrays


@pytest.fixture
def solver() -> CudaSolver:
    return made()[0]


class TestConformance(SolverConformance):
    """What all solvers pass."""
