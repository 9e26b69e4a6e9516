"""Pictures of a sensitivity on the boundary."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.problems import AnyGradient, AnySolution
from femadj.problems.gradient import Metric
from femadj.report.caption import Caption
from femadj.report.drawing import blank_figure, save_figure, write_words
from femadj.report.facets import boundary_facets, facet_densities, outward
from femadj.report.plane import draw_plane
from femadj.report.solid import View, draw_solid
from femadj.report.surface import boundary_curves, boundary_triangles

PERCENTILE = 99.0
"""Share of the nodal values that the colours resolve; the rest, often at corners, saturate."""

COLOURS = "RdBu_r"


def picture(
    path: str | os.PathLike[str],
    solution: AnySolution,
    gradient: AnyGradient,
    caption: Caption | None = None,
    *,
    view: View | None = None,
    field: npt.ArrayLike | None = None,
    metric: Metric | None = None,
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
    metric : HelmholtzFilter, or anything with a method ``riesz(gradient)``, optional
        The filtered gradient is drawn: the outward component of the movement that stands for the raw one.

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
    figure = blank_figure()
    words = caption or Caption()
    facets = boundary_facets(mesh, x)
    if metric is None:
        densities = facet_densities(facets, x, gradient.points)
    else:
        densities, words = outward(facets, x, metric.riesz(gradient.points)), replace(words, filtered=True)
    mappable = _mappable(_limit(np.concatenate([d.ravel() for d in densities])))
    if mesh.dim == 3:
        draw_solid(figure, mesh, x, boundary_triangles(facets, densities, x), mappable, words, view)
    else:
        draw_plane(figure, mesh, x, boundary_curves(facets, densities, x), mappable, words,
                   None if field is None else np.asarray(field, dtype=float))  # fmt: skip
    write_words(figure, words.heading(), words.explanation(mesh.dim))
    axes = figure.add_axes((0.895, 0.16, 0.017, 0.62))
    bar = figure.colorbar(mappable, cax=axes, extend="both")
    bar.set_label(words.scale(mesh.dim), fontsize=10.5)
    bar.outline.set_linewidth(0.5)
    bar.formatter.set_powerlimits((-3, 4))
    return save_figure(figure, path)


def _limit(values: FloatArray) -> float:
    size = np.abs(values)
    return float(np.percentile(size, PERCENTILE)) or float(size.max(initial=0.0)) or 1.0


def _mappable(limit: float) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(-limit, limit), COLOURS)
