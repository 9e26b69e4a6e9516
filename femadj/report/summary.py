"""A run as plain data, for ``summary.json``."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import path_of
from femadj.errors import FemadjError
from femadj.io.atomic import complete_file
from femadj.problems import AnyGradient, AnySolution

LIBRARIES = ("femadj", "numpy", "scipy", "scikit-fem", "meshio", "numba", "pypardiso")


@dataclass(frozen=True, eq=False)
class Outcome:
    """A response at a solution.

    Attributes
    ----------
    value : float
    unit : str
        Unit of the value.
    gradient : Gradient
    """

    value: float
    unit: str
    gradient: AnyGradient

    @property
    def norm(self) -> float:
        """Euclidean norm of the node gradient."""
        return float(np.linalg.norm(self.gradient.points))

    @property
    def largest_node(self) -> int:
        """Index of the node whose gradient vector is longest."""
        return int(np.argmax((self.gradient.points**2).sum(axis=1)))

    @property
    def largest_vector(self) -> npt.NDArray[np.float64]:
        """Gradient at that node, shape ``(dim,)``."""
        vector: npt.NDArray[np.float64] = self.gradient.points[self.largest_node]
        return vector


def summary(
    name: str,
    solution: AnySolution,
    outcomes: Mapping[str, Outcome],
    seconds: Mapping[str, float] | None = None,
    figures: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Sizes, responses, gradient norms, seconds, counts and versions of a run; keys always in the same order.

    Parameters
    ----------
    name : str
    solution : Solution or ChainSolution
        Of a chain the solver and factor are those of the last stage; unknowns are counted over all stages.
    outcomes : mapping of response name to Outcome
    seconds : mapping of phase to seconds, optional
        Those of the problem and the solution when left out.
    figures : mapping of name to number, optional
        Further results.
    """
    problem = solution.problem
    mesh = problem.mesh
    stages: list[Any] = list(solution.stages.values())
    statistics = stages[-1].factor.statistics
    spent: dict[str, float] = {}
    for part in (each.seconds for stage in stages for each in (stage.problem, stage)):
        for phase, time in part.items():
            spent[phase] = spent.get(phase, 0.0) + time
    return {
        "name": name,
        "mesh": {
            "dim": mesh.dim,
            "nodes": mesh.n_nodes,
            "cells": {block.type: len(block) for block in mesh.blocks},
            "volume": float(mesh.cell_volumes(solution.points).sum()),
            "worst quality": float(mesh.quality(solution.points).min()),
        },
        "unknowns": sum(stage.at.space.n_dofs for stage in stages),
        "prescribed": sum(int(stage.at.constraints.constrained.sum()) for stage in stages),
        "solver": stages[-1].problem.solver_name,
        "factor": {
            "matrix entries": statistics.nnz,
            "factor entries": statistics.fill_nnz,
            "bytes": statistics.factor_bytes,
            "solves": statistics.solves,
            "residual": statistics.relative_residual,
            "forward error": statistics.forward_error,
        },
        "responses": {
            key: {
                "value": outcome.value,
                "unit": outcome.unit,
                "gradient norm": outcome.norm,
                "largest at node": int(mesh.node_ids[outcome.largest_node]),
                "largest at": solution.points[outcome.largest_node].tolist(),
                "largest": outcome.largest_vector.tolist(),
                "adjoint solves": outcome.gradient.adjoint_solves,
            }
            for key, outcome in outcomes.items()
        },
        "figures": dict(figures or {}),
        "counts": {"analyses": problem.counts.analyses, "factorisations": problem.counts.factorisations},
        "seconds": dict(seconds if seconds is not None else spent),
        "versions": {"python": platform.python_version(), **{lib: _version(lib) for lib in LIBRARIES}},
    }


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None  # pypardiso exists for some processors only


def write_summary(path: str | os.PathLike[str], data: Mapping[str, Any]) -> Path:
    """Write what ``summary`` returns as JSON; FemadjError where the file cannot be written."""
    target = path_of(path, "path", FemadjError)
    text = json.dumps(data, indent=2, allow_nan=False) + "\n"
    with complete_file(target, FemadjError) as partial:
        partial.write_text(text, encoding="utf-8")
    return target
