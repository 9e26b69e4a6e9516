"""Pictures of curves: values over time and the like, by matplotlib."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from femadj.report.drawing import blank_figure, save_figure, write_words

COLOURS = ("#1f5fa8", "#c0392b", "#3b7f4c", "#8e5fa8", "#50647c")


@dataclass(frozen=True, eq=False)
class Panel:
    """Curves over one axis.

    Attributes
    ----------
    x : (n,)
    curves : mapping of name to (n,)
    label : str
        Of the values.
    marks : mapping of name to (x, y), optional
        Single points.
    """

    x: npt.ArrayLike
    curves: Mapping[str, npt.ArrayLike]
    label: str
    marks: Mapping[str, tuple[float, float]] | None = None


def curves(
    path: str | os.PathLike[str], panels: Sequence[Panel], title: str, explanation: str = "", x_label: str = "t"
) -> Path:
    """Draw panels of curves under each other, over a common axis.

    Parameters
    ----------
    path : path
        PNG file; missing folders are made.
    panels : sequence of Panel
    title, explanation, x_label : str

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    FemadjError
        Where the file cannot be written.
    """
    height = 1.4 + 2.7 * len(panels)
    figure = blank_figure(height=height)
    write_words(figure, title, explanation)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.09, right=0.97, bottom=0.62 / height, top=1 - 1.15 / height, hspace=0.12)
    for panel, ax in zip(panels, axes, strict=True):
        for number, (name, values) in enumerate(panel.curves.items()):
            colour = COLOURS[number % len(COLOURS)]
            ax.plot(panel.x, np.asarray(values), color=colour, linewidth=1.4, label=name)
        for name, (x, y) in (panel.marks or {}).items():
            ax.plot([x], [y], "o", color="#202020", markersize=5, label=name)
        ax.set_ylabel(panel.label, fontsize=10.5)
        ax.axhline(0.0, color="#a0a0a0", linewidth=0.6, zorder=0)
        ax.grid(color="#e4e4e4", linewidth=0.6)
        ax.set_axisbelow(True)
        if len(panel.curves) + len(panel.marks or {}) > 1:
            ax.legend(fontsize=9.5, frameon=False, loc="best")
    axes[-1].set_xlabel(x_label, fontsize=10.5)
    axes[-1].margins(x=0.01)
    return save_figure(figure, path)
