"""Pictures of a sensitivity on the boundary."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from femadj.errors import FemadjError, MissingExtraError
from femadj.mesh import Mesh
from femadj.problems import Solution
from femadj.report.raster import Raster, rasterise
from femadj.report.surface import Triangles, boundary_curves, boundary_triangles, cell_edges
from femadj.results import boundary_density
from femadj.sensitivity import Gradient

FloatArray = npt.NDArray[np.float64]

PERCENTILE = 98.0
"""Share of the boundary nodes whose value the colours resolve; the rest, often at corners, saturate."""

SAMPLES = 2
"""Samples per pixel and direction."""

DPI = 130
COLOURS = "RdBu_r"
LIGHT = np.array([-0.45, 0.55, 0.70])
ELEVATION = 24.0

ZOOM_BELOW = 0.45
"""A plane body gets a second panel when what is sensitive in it fits into this part of its size."""


@dataclass(frozen=True)
class View:
    """Direction from which a solid is seen, in parallel projection.

    Attributes
    ----------
    azimuth, elevation : float
        [degrees] The eye, as turned about ``up`` and raised above the horizon. Azimuth 0 looks from the axis that
        follows ``up`` in the cycle x, y, z, x, ...
    up : "x", "y" or "z"
        Axis that points up in the picture.
    """

    azimuth: float
    elevation: float = ELEVATION
    up: Literal["x", "y", "z"] = "z"

    def axes(self) -> FloatArray:
        """Directions right, up and towards the eye as rows, shape ``(3, 3)``."""
        k = "xyz".index(self.up)
        up, first, second = np.eye(3)[[k, (k + 1) % 3, (k + 2) % 3]]
        a, e = np.radians([self.azimuth, self.elevation])
        eye = np.cos(e) * (np.cos(a) * first + np.sin(a) * second) + np.sin(e) * up
        right = np.cross(up, eye)
        right /= np.linalg.norm(right)
        return np.array([right, np.cross(eye, right), eye])


@dataclass(frozen=True)
class Caption:
    """Words of a picture.

    Attributes
    ----------
    response : str
        What is differentiated.
    unit : str
        Unit of the response.
    length_unit : str
        Unit of the coordinates.
    title : str
        What body it is.
    labels : mapping of group name to text
        Written beside those groups.
    """

    response: str = "response"
    unit: str = ""
    length_unit: str = "unit"
    title: str = ""
    labels: Mapping[str, str] | None = None

    def heading(self) -> str:
        """First line."""
        what = f"{self.title}: " if self.title else ""
        return f"{what}sensitivity of the {self.response} to the shape of the surface"

    def explanation(self, dim: int) -> str:
        """Second line, with the sign convention."""
        piece = f"{self.length_unit}²" if dim == 3 else self.length_unit
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"Moving 1 {piece} of the {'surface' if dim == 3 else 'boundary'} outward by 1 {self.length_unit} changes "
            f"the {self.response} by the value shown{' [' + self.unit + ']' if unit else ''}. "
            "Red: it grows, blue: it shrinks."
        )

    def scale(self, dim: int) -> str:
        """Label of the colour bar."""
        piece = f"{self.length_unit}²" if dim == 3 else self.length_unit
        return f"{self.unit or 'change'} per {self.length_unit} outward, per {piece}"


def picture(
    path: str | os.PathLike[str],
    solution: Solution,
    gradient: Gradient,
    caption: Caption | None = None,
    *,
    view: View | None = None,
) -> Path:
    """Draw the sensitivity of a response to outward movements of the boundary (see ``boundary_density``).

    Solids are drawn by femadj's own renderer, plane bodies by matplotlib; neither needs a display. The undeformed body
    is shown; colours are centred at zero and resolve all but the most extreme 2 % of the boundary nodes.

    Parameters
    ----------
    path : path
        PNG file; missing folders are made.
    solution : Solution
    gradient : Gradient
    caption : Caption, optional
    view : View, optional
        Of a solid; by default, from where most of the sensitivity is seen.

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
    density = boundary_density(mesh, gradient.points, x)
    figure = _figure()
    words = caption or Caption()
    limit = _limit(density[mesh.facet_nodes(mesh.boundary())])
    if mesh.dim == 3:
        drawn = _draw_solid(figure, mesh, x, density, limit, words, view)
    else:
        drawn = _draw_plane(figure, mesh, x, density, limit, words)
    left = 0.03
    figure.text(left, 0.962, words.heading(), fontsize=15, fontweight="bold", va="top", color="#202020")
    figure.text(left, 0.917, words.explanation(mesh.dim), fontsize=10.5, va="top", color="#404040")
    axes = figure.add_axes((0.895, 0.16, 0.017, 0.62))
    bar = figure.colorbar(drawn, cax=axes, extend="both")
    bar.set_label(words.scale(mesh.dim), fontsize=10.5)
    bar.outline.set_linewidth(0.5)
    bar.formatter.set_powerlimits((-3, 4))
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=DPI, facecolor="white", format="png")
    except OSError as error:
        raise FemadjError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


def _figure() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "a picture") from error
    figure = Figure(figsize=(11.5, 7.6))
    FigureCanvasAgg(figure)  # not pyplot: no window system, no state shared with the caller's own figures
    return figure


def _limit(values: FloatArray) -> float:
    size = np.abs(values)
    return float(np.percentile(size, PERCENTILE)) or float(size.max(initial=0.0)) or 1.0


def _mappable(limit: float) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(-limit, limit), COLOURS)


# ------------------------------------------------------------------ solids
def _draw_solid(
    figure: Any, mesh: Mesh, points: FloatArray, density: FloatArray, limit: float, words: Caption, view: View | None
) -> Any:
    triangles = boundary_triangles(mesh, points, density)
    axes3 = (view or _best_view(triangles)).axes()
    place = (0.03, 0.04, 0.83, 0.83)
    width = int(figure.get_figwidth() * place[2] * DPI)
    height = int(figure.get_figheight() * place[3] * DPI)
    seen = triangles.corners @ axes3.T
    low, high = seen.min(axis=(0, 1)), seen.max(axis=(0, 1))
    scale = 0.90 * min(width / (high[0] - low[0]), height / (high[1] - low[1]))
    middle = (low + high) / 2

    def pixels(view_coordinates: FloatArray) -> FloatArray:
        """Pixels right, down and towards the eye."""
        p = (view_coordinates - middle) * scale
        return np.stack([width / 2 + p[..., 0], height / 2 - p[..., 1], p[..., 2]], axis=-1)

    raster = rasterise(
        np.ascontiguousarray(pixels(seen) * SAMPLES),
        np.ascontiguousarray(triangles.values),
        np.ascontiguousarray(triangles.normals @ axes3.T),
        np.ascontiguousarray(triangles.sides),
        height * SAMPLES,
        width * SAMPLES,
    )
    mappable = _mappable(limit)
    cell_size = np.sqrt(_projected_area(pixels(seen)) / max(1, len(mesh.boundary())))
    image = _shaded(raster, mappable, cell_size)
    axes = figure.add_axes(place)
    axes.imshow(image, extent=(0, width, height, 0), interpolation="none")
    axes.set_axis_off()
    _triad(axes, axes3, 0.06 * width, 0.88 * height, 0.05 * height)
    _scale_bar(axes, scale, width, height, words.length_unit)
    for name, text in (words.labels or {}).items():
        nodes = mesh.nodes_of(name)
        at = pixels(points[nodes] @ axes3.T)
        visible = _visible(at, raster)
        _label(axes, at[visible] if visible.any() else at, text, np.array([width / 2, height / 2]), width, height)
    return mappable


def _best_view(triangles: Triangles) -> View:
    """Of eight directions from above, the one that faces most of the sensitivity."""
    area = np.cross(
        triangles.corners[:, 1] - triangles.corners[:, 0], triangles.corners[:, 2] - triangles.corners[:, 0]
    )
    weight = area * np.abs(triangles.values).mean(axis=1, keepdims=True)
    views = [View(azimuth) for azimuth in (-60, -30, 30, 60, 120, 150, -150, -120)]
    return max(views, key=lambda view: float(np.maximum(weight @ view.axes()[2], 0).sum()))


def _projected_area(corners: FloatArray) -> float:
    a, b = corners[:, 1, :2] - corners[:, 0, :2], corners[:, 2, :2] - corners[:, 0, :2]
    return float(np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2)


def _shaded(raster: Raster, mappable: Any, cell_size: float) -> npt.NDArray[np.uint8]:
    """Colours with light, edges and outlines, averaged over the samples of each pixel; uint8 ``(h, w, 3)``."""
    body = np.isfinite(raster.depth)
    normal = raster.normal / np.maximum(np.linalg.norm(raster.normal, axis=2, keepdims=True), 1e-12)
    light = 0.70 + 0.36 * np.clip(normal @ (LIGHT / np.linalg.norm(LIGHT)).astype(np.float32), 0, None)
    colour = mappable.to_rgba(raster.value)[..., :3].astype(np.float32) * light[..., None]
    # edges of cells fade where cells are only a few pixels large
    strength = 0.30 * np.clip((cell_size - 3.0) / 9.0, 0, 1)
    line = np.clip(1.0 - raster.edge[..., 1] / (0.5 * SAMPLES), 0, 1) * strength
    sharp = np.clip(1.5 - raster.edge[..., 2] / (0.5 * SAMPLES), 0, 1) * 0.75
    jump = np.zeros_like(body)
    depth = np.where(body, raster.depth, -1e9)
    threshold = 8.0 * SAMPLES
    for axis in (0, 1):
        step = np.abs(np.diff(depth, axis=axis)) > threshold
        ahead, behind = [(slice(1, None), slice(None)), (slice(None, -1), slice(None))]
        jump[ahead if axis == 0 else ahead[::-1]] |= step
        jump[behind if axis == 0 else behind[::-1]] |= step
    ink = np.maximum(np.maximum(line, sharp), 0.75 * jump)
    colour = colour * (1 - ink[..., None]) + 0.15 * ink[..., None]
    colour = np.where((body | jump)[..., None], np.clip(colour, 0, 1), 1.0)
    colour[~body & jump] = 0.45
    h, w = body.shape
    mean = colour.reshape(h // SAMPLES, SAMPLES, w // SAMPLES, SAMPLES, 3).mean(axis=(1, 3))
    return (255 * mean + 0.5).astype(np.uint8)


def _visible(pixels: FloatArray, raster: Raster) -> npt.NDArray[np.bool_]:
    height, width = raster.depth.shape
    column = np.clip((pixels[:, 0] * SAMPLES).astype(int), 0, width - 1)
    row = np.clip((pixels[:, 1] * SAMPLES).astype(int), 0, height - 1)
    return np.asarray(pixels[:, 2] * SAMPLES >= raster.depth[row, column] - 3.0 * SAMPLES)


def _label(axes: Any, at: FloatArray, text: str, centre: FloatArray, width: float, height: float) -> None:
    """Text beside a group, on the side away from the middle of the picture."""
    target = at[np.argmin(np.linalg.norm(at[:, :2] - at[:, :2].mean(axis=0), axis=1)), :2]
    away = target - centre
    away = away / (np.linalg.norm(away) or 1.0)
    place = target + away * 0.16 * height
    place = np.clip(place, [0.08 * width, 0.05 * height], [0.90 * width, 0.93 * height])
    axes.annotate(
        text, target, place, fontsize=10.5, color="#202020", ha="center", va="center",
        bbox={"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "#909090", "linewidth": 0.6},
        arrowprops={"arrowstyle": "-|>", "color": "#404040", "linewidth": 0.9, "shrinkB": 1.0},
    )  # fmt: skip


def _triad(axes: Any, view_axes: FloatArray, x: float, y: float, size: float) -> None:
    for k, name in enumerate("xyz"):
        right, up, _ = view_axes[:, k]
        if np.hypot(right, up) < 0.1:
            continue
        tip = (x + size * right, y - size * up)
        axes.annotate("", tip, (x, y), arrowprops={"arrowstyle": "-|>", "color": "#606060", "linewidth": 1.1})
        axes.text(
            x + 1.25 * size * right, y - 1.25 * size * up, name, fontsize=10, color="#404040", ha="center", va="center"
        )


def _scale_bar(axes: Any, scale: float, width: float, height: float, unit: str) -> None:
    length = _round_number(0.14 * width / scale)
    x, y = 0.14 * width, 0.955 * height
    axes.plot([x, x + length * scale], [y, y], color="#404040", linewidth=2.2, solid_capstyle="butt")
    axes.text(x + length * scale / 2, y - 0.012 * height, f"{length:g} {unit}", fontsize=10, color="#404040",
              ha="center", va="bottom")  # fmt: skip


def _round_number(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not larger."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(power * max(m for m in (1, 2, 5) if m * power <= value * (1 + 1e-12)))


# ------------------------------------------------------------------ plane bodies
def _draw_plane(
    figure: Any, mesh: Mesh, points: FloatArray, density: FloatArray, limit: float, words: Caption
) -> Any:
    curves = boundary_curves(mesh, points, density)
    low, high = points.min(axis=0), points.max(axis=0)
    focus = _focus(curves.points, curves.values, float((high - low).max()))
    mappable = _mappable(limit)
    places = [(0.06, 0.07, 0.80, 0.79)] if focus is None else [(0.06, 0.09, 0.37, 0.74), (0.485, 0.09, 0.37, 0.74)]
    windows = [(low, high)] if focus is None else [(low, high), focus]
    for number, (place, (start, stop)) in enumerate(zip(places, windows, strict=True)):
        axes = figure.add_axes(place)
        _draw_window(axes, mesh, points, curves.points, curves.values, mappable, start, stop, whole=number == 0)
        axes.set_xlabel(f"x [{words.length_unit}]", fontsize=10.5)
        axes.set_ylabel(f"y [{words.length_unit}]", fontsize=10.5)
        if number == 0 and focus is not None:
            corner, size = focus[0], focus[1] - focus[0]
            from matplotlib.patches import Rectangle

            axes.add_patch(Rectangle(tuple(corner), *size, fill=False, edgecolor="#202020", linewidth=1.0, zorder=5))
            axes.annotate("enlarged", corner + size * (1.0, 1.0), corner + size * 1.0 + 0.04 * (high - low),
                          fontsize=9.5, color="#202020")  # fmt: skip
        if number == 0:
            middle = (low + high) / 2
            for name, text in (words.labels or {}).items():
                at = points[mesh.nodes_of(name)]
                target = at[np.argmin(np.linalg.norm(at - at.mean(axis=0), axis=1))]
                inward = middle - target
                place_of = target + inward / (np.linalg.norm(inward) or 1.0) * 0.13 * float((high - low).max())
                axes.annotate(text, target, place_of, fontsize=9.5, ha="center", va="center", color="#202020",
                              bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "#a0a0a0",
                                    "linewidth": 0.6},
                              arrowprops={"arrowstyle": "-|>", "color": "#505050", "linewidth": 0.8},
                              zorder=6)  # fmt: skip
    return mappable


def _focus(curves: FloatArray, values: FloatArray, size: float) -> tuple[FloatArray, FloatArray] | None:
    """Box around what is most sensitive, when that is a small part of the body."""
    hot = curves[np.abs(values) > 0.15 * np.percentile(np.abs(values), 99)]
    low, high = hot.min(axis=0), hot.max(axis=0)
    extent = float((high - low).max())
    if extent > ZOOM_BELOW * size:
        return None
    middle, half = (low + high) / 2, 0.75 * extent
    return middle - half, middle + half


def _draw_window(
    axes: Any, mesh: Mesh, points: FloatArray, curves: FloatArray, values: FloatArray, mappable: Any,
    low: FloatArray, high: FloatArray, *, whole: bool,
) -> None:  # fmt: skip
    from matplotlib.collections import LineCollection, PolyCollection

    edges = cell_edges(mesh, points).points
    body = []
    for block in mesh.blocks:
        cell = block.reference
        ring = [n for facet in cell.facets for n in (facet[0], *facet[2:])]
        body.append(points[block.nodes[:, ring]])
    for polygons in body:
        axes.add_collection(PolyCollection(polygons, facecolor="#eef0f2", edgecolor="none", antialiased=False))
    axes.add_collection(LineCollection(edges, colors="#c9ced3", linewidths=0.35 if whole else 0.6))
    segments = np.stack([curves[:, :-1], curves[:, 1:]], axis=2).reshape(-1, 2, 2)
    colours = (values[:, :-1] + values[:, 1:]).ravel() / 2
    margin = 0.05 * float((high - low).max())
    axes.add_collection(LineCollection(segments, colors="#303030", linewidths=5.2, capstyle="round"))
    axes.add_collection(
        LineCollection(segments, array=colours, cmap=mappable.cmap, norm=mappable.norm, linewidths=4.2,
                       capstyle="round")
    )  # fmt: skip
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
