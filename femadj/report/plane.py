"""Pictures of plane bodies, by matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.mesh import Mesh
from femadj.mesh.reference import shape_functions
from femadj.report.caption import Caption, annotate
from femadj.report.surface import Curves, cell_edges, split_facet

ZOOM_BELOW = 0.2
"""A body gets a second panel when what is sensitive in it fits into this part of its size: larger would not help."""

LEVELS = 13
"""Contour lines of a field, the extremes counted."""

LINES = "#50647c"

MOST_CELLS = 40_000
"""Cells are drawn in meshes of up to this many; in finer ones they could not be told apart."""


def draw_plane(
    figure: Any, mesh: Mesh, points: FloatArray, curves: Curves, mappable: Any, words: Caption,
    field: FloatArray | None = None,
) -> None:  # fmt: skip
    from matplotlib.patches import ConnectionPatch, Rectangle

    low, high = points.min(axis=0), points.max(axis=0)
    size = float((high - low).max())
    focus = _focus(curves, low, high)
    if focus is None:
        width, flatness = 11.5, float((high - low)[1] / (high - low)[0])
        height = min(7.6, 0.79 * width * max(flatness, 0.15) + 2.4)
        figure.set_size_inches(width, height)
        windows = [((0.06, 0.65 / height, 0.79, 1 - 1.7 / height), low, high)]
    else:
        figure.set_size_inches(11.5, 6.4)
        windows = [((0.06, 0.09, 0.375, 0.76), low, high), ((0.50, 0.09, 0.375, 0.76), *focus)]
    panels = []
    for number, (place, start, stop) in enumerate(windows):
        axes = figure.add_axes(place)
        _draw_window(axes, mesh, points, curves, mappable, start, stop, scale=1.0 + 0.8 * number)
        if field is not None:
            _draw_lines(axes, *cut_cells(mesh, points, field), width=0.7 * (1.0 + 0.8 * number))
        axes.set_xlabel(f"x [{words.length_unit}]", fontsize=10.5)
        axes.set_ylabel(f"y [{words.length_unit}]", fontsize=10.5)
        panels.append(axes)
    if focus is not None:
        whole, detail = panels
        corner, extent = focus[0], focus[1] - focus[0]
        whole.add_patch(Rectangle(tuple(corner), *extent, fill=False, edgecolor="#202020", linewidth=1.0, zorder=5))
        for upper in (0, 1):
            figure.add_artist(
                ConnectionPatch(
                    tuple(corner + extent * (1, upper)), (0, upper), "data", "axes fraction", axesA=whole,
                    axesB=detail, color="#a0a0a0", linewidth=0.7, linestyle=(0, (4, 3)), zorder=4,
                )
            )  # fmt: skip
    middle = (low + high) / 2
    reach = min(0.2 * size, 0.33 * float((high - low).min()))
    for name, text in (words.labels or {}).items():
        at = points[mesh.nodes_of(name)]
        target = at[np.argmin(np.linalg.norm(at - (at.min(axis=0) + at.max(axis=0)) / 2, axis=1))]
        inward = middle - target
        annotate(panels[0], text, target, target + inward / (float(np.linalg.norm(inward)) or 1.0) * reach)


def _focus(curves: Curves, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Square around what is most sensitive, when that is a small part of the body."""
    size = np.abs(curves.values)
    hot = curves.points[size > 0.3 * size.max(initial=0.0)]
    if len(hot) == 0:
        return None
    extent = float(np.ptp(hot, axis=0).max())
    if extent > ZOOM_BELOW * float((high - low).max()):
        return None
    side = np.minimum(2.3 * extent, high - low)
    start = np.clip((hot.min(axis=0) + hot.max(axis=0) - side) / 2, low - 0.08 * side, high - 0.92 * side)
    return start, start + side


def _draw_lines(
    axes: Any, places: FloatArray, values: FloatArray, triangles: npt.NDArray[np.int64], *, width: float
) -> None:
    low, high = values.min(), values.max()
    if high - low > 1e-12 * max(abs(low), abs(high)):  # a constant has no lines
        levels = np.linspace(low, high, LEVELS)[1:-1]
        axes.tricontour(*places.T, triangles, values, levels=levels, colors=LINES, linewidths=width, zorder=2.5)


def cut_cells(
    mesh: Mesh, points: FloatArray, field: FloatArray
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """All cells cut into triangles: coordinates and values at their corners, and the corners of each."""
    places, values, triangles, n = [], [], [], 0
    for block in mesh.blocks:
        split = split_facet(block.type)
        shape, _ = shape_functions(block.type, split.points)
        places.append(np.einsum("pa,cad->cpd", shape, points[block.nodes]).reshape(-1, 2))
        values.append((field[block.nodes] @ shape.T).ravel())
        first = n + len(split.points) * np.arange(len(block))
        triangles.append((first[:, None, None] + split.triangles).reshape(-1, 3))
        n += len(places[-1])
    return np.vstack(places), np.concatenate(values), np.vstack(triangles)


def _outline(curves: Curves) -> Any:
    """The boundary as closed loops: outer ones anticlockwise, holes clockwise."""
    from matplotlib.path import Path

    starts: dict[int, list[int]] = {}
    for edge, (start, _) in enumerate(curves.ends.tolist()):
        starts.setdefault(start, []).append(edge)
    vertices, codes = [], []
    while starts:
        node = first = next(iter(starts))
        loop = []
        while node in starts:
            edge = starts[node].pop()
            if not starts[node]:
                del starts[node]
            loop.append(curves.points[edge, :-1])
            node = int(curves.ends[edge, 1])
            if node == first:
                break
        corners = np.vstack([*loop, loop[0][:1]])
        vertices.append(corners)
        codes += [Path.MOVETO] + [Path.LINETO] * (len(corners) - 2) + [Path.CLOSEPOLY]
    return Path(np.vstack(vertices), codes)


def _draw_window(
    axes: Any, mesh: Mesh, points: FloatArray, curves: Curves, mappable: Any, low: FloatArray, high: FloatArray,
    *, scale: float,
) -> None:  # fmt: skip
    from matplotlib.collections import LineCollection
    from matplotlib.patches import PathPatch

    axes.add_patch(PathPatch(_outline(curves), facecolor="#eef0f2", edgecolor="none"))
    if mesh.n_cells <= MOST_CELLS:
        edges: Any = cell_edges(mesh, points).points
        axes.add_collection(LineCollection(edges, colors="#c4cad0", linewidths=0.35 * scale))
    segments: Any = np.stack([curves.points[:, :-1], curves.points[:, 1:]], axis=2).reshape(-1, 2, 2)
    colours = (curves.values[:, :-1] + curves.values[:, 1:]).ravel() / 2
    width = 4.0 * scale
    axes.add_collection(
        LineCollection(segments, colors="#303030", linewidths=width + 1.2, capstyle="projecting", zorder=3)
    )
    axes.add_collection(
        LineCollection(segments, array=colours, cmap=mappable.cmap, norm=mappable.norm, linewidths=width,
                       capstyle="projecting", zorder=3)
    )  # fmt: skip
    margin = 0.05 * float((high - low).max())
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
    axes.set_aspect("equal")
    axes.tick_params(labelsize=9)
    for spine in axes.spines.values():
        spine.set_color("#909090")
