"""Pictures of solids, by femadj's own renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.mesh import Mesh
from femadj.report.caption import Caption, annotate
from femadj.report.raster import Raster, rasterise
from femadj.report.surface import Triangles

SAMPLES = 2
"""Samples per pixel and direction."""

LIGHT = np.array([-0.28, 0.50, 0.82])
"""Where the light comes from: right, up, from the eye."""

ELEVATION = 24.0


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


def draw_solid(
    figure: Any, mesh: Mesh, points: FloatArray, triangles: Triangles, mappable: Any, words: Caption, view: View | None
) -> None:
    axes3 = (view or _best_view(triangles)).axes()
    place = (0.03, 0.04, 0.83, 0.83)
    width = int(figure.get_figwidth() * place[2] * figure.dpi)
    height = int(figure.get_figheight() * place[3] * figure.dpi)
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
    cell_size = np.sqrt(_projected_area(pixels(seen)) / max(1, len(mesh.boundary())))
    image = _shaded(raster, mappable, cell_size)
    axes = figure.add_axes(place)
    axes.imshow(image, extent=(0, width, height, 0), interpolation="none")
    axes.set_axis_off()
    _triad(axes, axes3, 0.06 * width, 0.88 * height, 0.05 * height)
    _scale_bar(axes, scale, width, height, words.length_unit)
    taken = np.isfinite(raster.depth[::SAMPLES, ::SAMPLES])
    taken[int(0.75 * height) :, : int(0.30 * width)] = True  # axes and scale
    for name, text in (words.labels or {}).items():
        at = pixels(points[mesh.nodes_of(name)] @ axes3.T)
        visible = _visible(at, raster)
        _label(axes, at[visible] if visible.any() else at, text, taken)


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
    light = 0.81 + 0.23 * np.clip(normal @ (LIGHT / np.linalg.norm(LIGHT)).astype(np.float32), 0, None)
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


def _label(axes: Any, at: FloatArray, text: str, taken: npt.NDArray[np.bool_]) -> None:
    """Write a text as near to a group as there is room beside the body; marks that room as taken."""
    target = at[np.argmin(np.linalg.norm(at[:, :2] - at[:, :2].mean(axis=0), axis=1)), :2]
    height, width = taken.shape
    half = np.array([11.5 * len(text) + 26.0, 42.0]) / 2  # of a character and a line at this size
    place = target
    rings = [
        target + radius * np.array([np.cos(angle), np.sin(angle)])
        for radius in np.arange(0.06, 0.9, 0.03) * height
        for angle in np.radians(np.arange(0, 360, 15))
    ]
    for candidate in rings:
        left, top = (candidate - half).astype(int)
        right, bottom = (candidate + half).astype(int)
        if left < 0 or top < 0 or right >= width or bottom >= height or taken[top:bottom, left:right].any():
            continue
        place = candidate
        taken[top:bottom, left:right] = True
        break
    annotate(axes, text, target, place)


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
