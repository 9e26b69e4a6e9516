"""Shapes of a run as a series of VTU files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from femadj.base.arguments import whole_number
from femadj.base.arrays import FloatArray
from femadj.errors import ProblemError
from femadj.io import write_vtu
from femadj.io.pvd import write_pvd
from femadj.mesh import Mesh
from femadj.optimisation.history import Record
from femadj.optimisation.model import Solved
from femadj.problems import AnyGradient
from femadj.problems.gradient import Metric
from femadj.results import write_results


def chosen(designs: Any, records: Sequence[Record], improving: Sequence[int]) -> tuple[int, ...]:
    """Numbers of designs: ``"improving"``, ``"all"``, every k-th, or as they are given; ProblemError for others."""
    if designs == "improving":
        return tuple(improving)
    answered = tuple(record.number for record in records if record.failure is None)
    if designs == "all":
        return answered
    if isinstance(designs, (int, np.integer)):
        whole_number(designs, 1, "designs", ProblemError)
        return tuple(number for number in answered if number % designs == 0)
    if isinstance(designs, str) or not isinstance(designs, Sequence):
        raise ProblemError(
            f"designs must be 'improving', 'all', a number k for every k-th, or a list of numbers, not {designs!r}"
        )
    for number in designs:
        whole_number(number, 0, "the number of a design", ProblemError)
        if number >= len(records):
            raise ProblemError(f"there is no design {number}: the history has {len(records)}, counted from 0")
    return tuple(dict.fromkeys(int(number) for number in designs))


def write_series(target: Path, numbers: Sequence[int], write: Callable[[int, Path], Path]) -> Path:
    """A PVD file and beside it a folder of its name with a VTU file for each design; the number is the time."""
    folder = target.with_suffix("")
    files = {float(number): write(number, folder / f"design_{number:05d}.vtu") for number in numbers}
    return write_pvd(target, files)


def write_shape(path: Path, mesh: Mesh, points: FloatArray) -> Path:
    """Where the nodes are, how far they have moved, and the quality of the cells."""
    nodal = {"movement": points - mesh.points, "node_id": mesh.node_ids}
    return write_vtu(path, mesh, points, nodal, {"quality": mesh.quality(points)})


def write_solved(path: Path, mesh: Mesh, solved: Solved, names: Sequence[str], metric: Metric | None) -> Path:
    """The same with the field, and the raw gradients of all responses, beside filtered ones where there is a metric."""
    gradients: Mapping[str, AnyGradient] = dict(zip(names, solved.gradients(), strict=True))
    movement = {"movement": solved.placed.points - mesh.points}
    return write_results(path, solved.solution, gradients, metric=metric, point_data=movement)
