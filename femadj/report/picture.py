"""Pictures of a sensitivity on the boundary."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import path_of
from femadj.base.arrays import FloatArray
from femadj.errors import FemadjError, MissingExtraError
from femadj.io.atomic import complete_file
from femadj.problems import ChainGradient, ChainSolution, Gradient, HistorySolution, Solution, TransientGradient
from femadj.report.caption import Caption
from femadj.report.facets import boundary_facets, facet_densities
from femadj.report.plane import draw_plane
from femadj.report.solid import View, draw_solid
from femadj.report.surface import boundary_curves, boundary_triangles

PERCENTILE = 99.0
"""Share of the nodal values that the colours resolve; the rest, often at corners, saturate."""

DPI = 130

LINE = 140
"""Characters that fit beside each other under the title."""

COLOURS = "RdBu_r"


def picture(
    path: str | os.PathLike[str],
    solution: Solution | ChainSolution | HistorySolution,
    gradient: Gradient | ChainGradient | TransientGradient,
    caption: Caption | None = None,
    *,
    view: View | None = None,
    field: npt.ArrayLike | None = None,
) -> Path:
    """Draw the sensitivity of a response to outward movements of the boundary.

    That is the density ``dJ / (movement x area)``, see ``femadj.results.boundary_density``; at sharp edges each face
    shows its own.

    Solids are drawn by femadj's own renderer, plane bodies by matplotlib; neither needs a display. The undeformed body
    is shown; colours are centred at zero and resolve all but the most extreme 1 % of the nodal values.

    Parameters
    ----------
    path : path
        PNG file; missing folders are made.
    solution : Solution or ChainSolution
    gradient : Gradient or ChainGradient
    caption : Caption, optional
    view : View, optional
        Of a solid; by default, from where most of the sensitivity is seen.
    field : (n_nodes,), optional
        Of a plane body: its contour lines are drawn.

    Returns
    -------
    Path

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    FemadjError
        Where the file cannot be written.
    """
    mesh, x = solution.problem.mesh, solution.points
    figure = empty_figure()
    words = caption or Caption()
    facets = boundary_facets(mesh, x)
    densities = facet_densities(facets, x, gradient.points)
    mappable = _mappable(_limit(np.concatenate([d.ravel() for d in densities])))
    if mesh.dim == 3:
        draw_solid(figure, mesh, x, boundary_triangles(facets, densities, x), mappable, words, view)
    else:
        draw_plane(figure, mesh, x, boundary_curves(facets, densities, x), mappable, words,
                   None if field is None else np.asarray(field, dtype=float))  # fmt: skip
    left, height = 0.03, figure.get_size_inches()[1]
    figure.text(left, 1 - 0.29 / height, words.heading(), fontsize=15, fontweight="bold", va="top", color="#202020")
    explanation = "\n".join(textwrap.fill(line, LINE) for line in words.explanation(mesh.dim).splitlines())
    figure.text(left, 1 - 0.63 / height, explanation, fontsize=10.5, va="top", color="#404040")
    axes = figure.add_axes((0.895, 0.16, 0.017, 0.62))
    bar = figure.colorbar(mappable, cax=axes, extend="both")
    bar.set_label(words.scale(mesh.dim), fontsize=10.5)
    bar.outline.set_linewidth(0.5)
    bar.formatter.set_powerlimits((-3, 4))
    target = path_of(path, "path", FemadjError)
    with complete_file(target, FemadjError) as partial:
        figure.savefig(partial, dpi=DPI, facecolor="white", format="png")
    return target


def empty_figure() -> Any:
    """A figure of matplotlib without a display; MissingExtraError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "a picture") from error
    figure = Figure(figsize=(11.5, 7.6), dpi=DPI)
    FigureCanvasAgg(figure)  # not pyplot: no window system, no state shared with the caller's own figures
    return figure


def _limit(values: FloatArray) -> float:
    size = np.abs(values)
    return float(np.percentile(size, PERCENTILE)) or float(size.max(initial=0.0)) or 1.0


def _mappable(limit: float) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(-limit, limit), COLOURS)
