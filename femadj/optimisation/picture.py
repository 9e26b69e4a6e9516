"""The history of a run as a picture: responses, steps, mesh quality and effort over the designs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray, IntArray
from femadj.optimisation.constraint import Constraint, Objective
from femadj.optimisation.history import Record
from femadj.report.curves import COLOURS
from femadj.report.drawing import blank_figure, save_figure, write_words

LEGEND_MOST = 8
"""Constraints that are told apart by name in the picture."""


def draw_history(
    path: str | os.PathLike[str],
    records: Sequence[Record],
    objective: Objective,
    constraints: Sequence[Constraint],
    improving: Sequence[int],
    quality_limit: float,
) -> Path:
    """Draw objective, how far beyond its limit each constraint is, step, mesh quality, factorisations and iterations.

    A constraint within its limits is below zero, in its scale.

    Designs without an answer are grey lines from top to bottom; those that were the best one so far are dots.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    answered = [r for r in records if r.failure is None]
    numbers = np.array([r.number for r in answered])
    values = np.array([r.values for r in answered]).reshape(len(answered), 1 + len(constraints))
    panels: list[Callable[[Any], None]] = [
        lambda ax: _objective(ax, numbers, values[:, 0], objective, improving),
        *([lambda ax: _constraints(ax, numbers, values[:, 1:], constraints)] if constraints else []),
        lambda ax: _steps(ax, records),
        lambda ax: _quality(ax, numbers, [r.quality for r in answered], quality_limit),
        lambda ax: _effort(ax, records, "factorisations"),
    ]
    if any(r.iterations for r in records):
        panels.append(lambda ax: _effort(ax, records, "iterations"))
    height = 1.5 + 1.9 * len(panels)
    figure = blank_figure(height=height)
    write_words(figure, f"Optimisation of {objective.name}", _words(records, objective, constraints, improving))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.1, right=0.97, bottom=0.62 / height, top=1 - 1.25 / height, hspace=0.13)
    failed = [r.number for r in records if r.failure is not None]
    for draw, ax in zip(panels, axes, strict=True):
        for number in failed:
            ax.axvline(number, color="#c8c8c8", linewidth=1.0, zorder=0)
        draw(ax)
        ax.grid(color="#e4e4e4", linewidth=0.6)
        ax.set_axisbelow(True)
    axes[-1].set_xlabel("design", fontsize=10.5)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].margins(x=0.015)
    return save_figure(figure, path)


def _words(
    records: Sequence[Record], objective: Objective, constraints: Sequence[Constraint], improving: Sequence[int]
) -> str:
    failed = sum(r.failure is not None for r in records)
    told = [f"{len(records)} designs" + (f", {failed} of them without an answer (grey)" if failed else "")]
    if improving:
        first, best = records[improving[0]], records[improving[-1]]
        missed = max((c.violation(v) for c, v in zip(constraints, best.values[1:], strict=True)), default=0.0)
        within = "" if not constraints else ", within all limits" if missed <= 0 else f", limits missed by {missed:.1g}"
        told.append(
            f"{objective.name} {first.values[0]:.6g} at design {first.number}, {best.values[0]:.6g} at design "
            f"{best.number}, the best one{within}"
        )
    told.append(f"{sum(r.factorisations for r in records)} factorisations, {sum(r.seconds for r in records):.3g} s")
    return "\n".join(told[:2]) + f"; {told[-1]}" if len(told) > 2 else "; ".join(told)


def _objective(ax: Any, numbers: IntArray, values: FloatArray, objective: Objective, improving: Sequence[int]) -> None:
    ax.plot(numbers, values, color=COLOURS[0], linewidth=1.4)
    best = np.isin(numbers, list(improving))
    ax.plot(numbers[best], values[best], "o", color=COLOURS[0], markersize=4, label="best so far")
    ax.set_ylabel(objective.name, fontsize=10.5)
    ax.legend(fontsize=9.5, frameon=False, loc="best")


def _constraints(ax: Any, numbers: IntArray, values: FloatArray, constraints: Sequence[Constraint]) -> None:
    for k, constraint in enumerate(constraints):
        colour = COLOURS[(k + 1) % len(COLOURS)]
        name = constraint.name if k < LEGEND_MOST else None
        beyond = np.maximum(constraint.lower - values[:, k], values[:, k] - constraint.upper) / constraint.size
        ax.plot(numbers, beyond, color=colour, linewidth=1.4, label=name)
    ax.axhline(0.0, color="#606060", linewidth=0.9, linestyle="--")
    ax.set_ylabel("beyond limits\n(dashed: on them)", fontsize=10.5)
    ax.legend(fontsize=9.5, frameon=False, loc="best")


def _steps(ax: Any, records: Sequence[Record]) -> None:
    moved = [r for r in records if np.isfinite(r.step) and r.step > 0]
    ax.plot(
        [r.number for r in moved], [r.step for r in moved], color=COLOURS[4], linewidth=1.2, marker=".", markersize=4
    )
    if moved:
        ax.set_yscale("log")
    ax.set_ylabel("step", fontsize=10.5)


def _quality(ax: Any, numbers: IntArray, quality: Sequence[float], limit: float) -> None:
    ax.plot(numbers, quality, color=COLOURS[2], linewidth=1.4)
    ax.axhline(limit, color=COLOURS[1], linewidth=0.9, linestyle="--")
    ax.set_ylabel("mesh quality\n(dashed: limit)", fontsize=10.5)


def _effort(ax: Any, records: Sequence[Record], name: str) -> None:
    counted = [getattr(r, name) for r in records]
    ax.vlines(np.arange(len(records)), 0, counted, color=COLOURS[4], linewidth=2.0)
    ax.set_ylim(0, 1.1 * max([1, *counted]))
    ax.set_ylabel(name, fontsize=10.5)
    ax.yaxis.get_major_locator().set_params(integer=True)
