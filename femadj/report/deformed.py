"""Pictures of bodies that have moved: modes of vibration and of buckling, displacements."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import real_array
from femadj.base.arrays import FloatArray
from femadj.errors import ResponseError
from femadj.mesh import Mesh
from femadj.report.caption import Caption
from femadj.report.drawing import blank_figure, save_figure, write_words
from femadj.report.facets import boundary_facets
from femadj.report.plane import LINES, cut_cells
from femadj.report.solid import View, draw_solid
from femadj.report.surface import boundary_triangles, cell_edges

LARGEST = 0.12
"""Of the size of the body: the largest movement that is shown."""

COLOURS = "viridis"


def deformed_picture(
    path: str | os.PathLike[str],
    mesh: Mesh,
    points: FloatArray,
    movement: npt.ArrayLike,
    heading: str,
    explanation: str = "",
    *,
    length_unit: str = "unit",
    view: View | None = None,
) -> Path:
    """Draw a body moved by a field whose size does not matter; colours show how far, the largest movement being one.

    Parameters
    ----------
    path : path
        PNG file; missing folders are made.
    mesh : Mesh
    points : (n_nodes, dim)
        Where the body is at rest; the outline of a plane one is shown there too.
    movement : (n_nodes, dim)
    heading, explanation : str
        The words above.
    length_unit : str
        Of the coordinates.
    view : View, optional
        Of a solid.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    FemadjError
        For arrays that do not fit, and where the file cannot be written.
    """
    field = real_array(movement, "the movement", ResponseError)
    if field.shape != mesh.points.shape or not np.isfinite(field).all():
        raise ResponseError(f"the movement must be finite and of shape {mesh.points.shape}, not {field.shape}")
    distance = np.linalg.norm(field, axis=1)
    far = float(distance.max(initial=0.0)) or 1.0
    moved = points + LARGEST * float(np.ptp(points, axis=0).max()) / far * field
    figure, mappable = blank_figure(), _mappable()
    if mesh.dim == 3:
        facets = boundary_facets(mesh, moved)
        values = [distance[block.nodes] / far for block in facets]
        triangles = boundary_triangles(facets, values, moved)
        draw_solid(figure, mesh, moved, triangles, mappable, Caption(length_unit=length_unit), view)
    else:
        _draw_plane(figure, mesh, points, moved, distance / far, mappable, length_unit)
    write_words(figure, heading, explanation)
    bar = figure.colorbar(mappable, cax=figure.add_axes((0.895, 0.16, 0.017, 0.62)))
    bar.set_label("movement, the largest being 1", fontsize=10.5)
    bar.outline.set_linewidth(0.5)
    return save_figure(figure, path)


def _mappable() -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(0.0, 1.0), COLOURS)


def _draw_plane(
    figure: Any, mesh: Mesh, points: FloatArray, moved: FloatArray, values: FloatArray, mappable: Any, unit: str
) -> None:
    from matplotlib.collections import LineCollection

    both = np.concatenate([points, moved])
    low, high = both.min(axis=0), both.max(axis=0)
    flatness = float((high - low)[1] / (high - low)[0])
    height = min(7.6, 0.79 * 11.5 * max(flatness, 0.15) + 2.4)
    figure.set_size_inches(11.5, height)
    axes = figure.add_axes((0.06, 0.65 / height, 0.79, 1 - 1.7 / height))
    at_rest: Any = cell_edges(mesh, points).points
    axes.add_collection(LineCollection(at_rest, colors="#d8dce0", linewidths=0.5))
    places, here, triangles = cut_cells(mesh, moved, values)
    axes.tripcolor(*places.T, triangles, here, shading="gouraud", cmap=mappable.cmap, norm=mappable.norm, zorder=2)
    edges: Any = cell_edges(mesh, moved).points
    axes.add_collection(LineCollection(edges, colors=LINES, linewidths=0.4, zorder=3))
    margin = 0.05 * float((high - low).max())
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
    axes.set_aspect("equal")
    axes.tick_params(labelsize=9)
    axes.set_xlabel(f"x [{unit}]", fontsize=10.5)
    axes.set_ylabel(f"y [{unit}]", fontsize=10.5)
    for spine in axes.spines.values():
        spine.set_color("#909090")
