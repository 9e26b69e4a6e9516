"""Figures of matplotlib, without a display, and files of them."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

from femadj.base.arguments import path_of
from femadj.errors import FemadjError, MissingExtraError
from femadj.io.atomic import complete_file

DPI = 130

LINE = 140
"""Characters that fit beside each other under the title."""


def blank_figure(width: float = 11.5, height: float = 7.6) -> Any:
    """An empty ``matplotlib.figure.Figure``, sizes in inches.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "a picture") from error
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)  # not pyplot: no window system, no state shared with the caller's own figures
    return figure


def save_figure(figure: Any, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, whole or not at all; missing folders are made."""
    target = path_of(path, "path", FemadjError)
    with complete_file(target, FemadjError) as partial:
        figure.savefig(partial, dpi=DPI, facecolor="white", format="png")
    return target


def write_words(figure: Any, heading: str, explanation: str) -> None:
    """A heading, and lines below it."""
    left, height = 0.03, figure.get_size_inches()[1]
    figure.text(left, 1 - 0.29 / height, heading, fontsize=15, fontweight="bold", va="top", color="#202020")
    lines = "\n".join(textwrap.fill(line, LINE) for line in explanation.splitlines())
    figure.text(left, 1 - 0.63 / height, lines, fontsize=10.5, va="top", color="#404040")
