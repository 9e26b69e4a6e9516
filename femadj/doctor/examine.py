"""A whole examination: every solver that is there, kernels of devices, gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from femadj.doctor.checks import Check, Examination
from femadj.doctor.problems import bodies, check_gradients, check_kernels, shipped
from femadj.doctor.systems import check_solver
from femadj.errors import SolverUnavailableError
from femadj.solvers import SOLVERS, get_solver


def examined(
    required: Sequence[str] = (), meshes: Path | None = None, told: Callable[[Check], None] = lambda check: None
) -> Examination:
    """Look at everything but times.

    Parameters
    ----------
    required : sequence of str
        Solvers that must be there: what is missing fails, and is not just not checked.
    meshes : path, optional
        Folder of mesh files for the kernels, beside the bodies that are made here.
    told : callable, optional
        Called with every check as it is made.
    """
    examination = Examination(told=told)
    present = []
    for name in SOLVERS:
        try:
            solver = get_solver(name)
        except SolverUnavailableError as error:
            examination.lack(f"solver {name}", str(error), required=name in required)
            continue
        present.append(name)
        check_solver(examination, f"solver {name}", solver)
    check_kernels(examination, {**bodies(), **(shipped(meshes) if meshes else {})})
    check_gradients(examination, present)
    return examination
