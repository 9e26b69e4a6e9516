"""A small software renderer: triangles to pixels with a depth buffer.

Pictures then look the same everywhere and need neither a display nor a graphics driver.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.kernels.compile import compiled, read, write

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Raster:
    """What is visible in each pixel.

    Attributes
    ----------
    depth : (height, width)
        Distance towards the viewer [pixels]; minus infinity where nothing is.
    value : (height, width)
        Field, interpolated linearly in each triangle.
    normal : (height, width, 3)
        Interpolated normal, in view axes (right, up, towards the viewer); not normalised.
    edge : (height, width, 3)
        Distance [pixels] to the nearest side of the visible triangle of each kind; infinity where there is none.
    """

    depth: Float32Array
    value: Float32Array
    normal: Float32Array
    edge: Float32Array


def rasterise(
    corners: FloatArray, values: FloatArray, normals: FloatArray, sides: npt.NDArray[np.int64], height: int, width: int
) -> Raster:
    """Draw triangles that face the viewer.

    Parameters
    ----------
    corners : (n, 3, 3)
        Corners of every triangle in pixels: right, down, towards the viewer.
    values : (n, 3)
    normals : (n, 3, 3)
    sides : (n, 3) int64
        Kind 0, 1 or 2 of the side opposite to each corner.
    height, width : int
    """
    depth = np.full((height, width), -np.inf, dtype=np.float32)
    value = np.zeros((height, width), dtype=np.float32)
    normal = np.zeros((height, width, 3), dtype=np.float32)
    edge = np.full((height, width, 3), np.inf, dtype=np.float32)
    _draw(corners, values, normals, sides, depth, value, normal, edge)
    return Raster(depth, value, normal, edge)


# compiled when first called, not on import, so that it happens while the progress display says "picture"
@compiled(
    read("float64", 3), read("float64", 2), read("float64", 3), read("int64", 2), write("float32", 2),
    write("float32", 2), write("float32", 3), write("float32", 3),
)  # fmt: skip
def _draw(  # type: ignore[no-untyped-def]
    corners, values, normals, sides, depth, value, normal, edge
):  # pragma: no cover - compiled
    height, width = depth.shape
    for t in range(len(corners)):
        x0, y0, z0 = corners[t, 0]
        x1, y1, z1 = corners[t, 1]
        x2, y2, z2 = corners[t, 2]
        # pixel rows run downwards, so triangles that are anticlockwise for the viewer have a negative area
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if not area < 0.0:
            continue
        left = max(0, int(np.floor(min(x0, x1, x2) - 0.5)))
        right = min(width - 1, int(np.ceil(max(x0, x1, x2) - 0.5)))
        top = max(0, int(np.floor(min(y0, y1, y2) - 0.5)))
        bottom = min(height - 1, int(np.ceil(max(y0, y1, y2) - 0.5)))
        h0 = -area / np.sqrt((x2 - x1) ** 2 + (y2 - y1) ** 2)
        h1 = -area / np.sqrt((x0 - x2) ** 2 + (y0 - y2) ** 2)
        h2 = -area / np.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2)
        for row in range(top, bottom + 1):
            y = row + 0.5
            for column in range(left, right + 1):
                x = column + 0.5
                b0 = ((x1 - x) * (y2 - y) - (x2 - x) * (y1 - y)) / area
                b1 = ((x2 - x) * (y0 - y) - (x0 - x) * (y2 - y)) / area
                b2 = 1.0 - b0 - b1
                if b0 < -1e-9 or b1 < -1e-9 or b2 < -1e-9:
                    continue
                z = b0 * z0 + b1 * z1 + b2 * z2
                if z <= depth[row, column]:
                    continue
                depth[row, column] = z
                value[row, column] = b0 * values[t, 0] + b1 * values[t, 1] + b2 * values[t, 2]
                for k in range(3):
                    normal[row, column, k] = b0 * normals[t, 0, k] + b1 * normals[t, 1, k] + b2 * normals[t, 2, k]
                    edge[row, column, k] = np.inf
                edge[row, column, sides[t, 0]] = b0 * h0
                edge[row, column, sides[t, 1]] = min(edge[row, column, sides[t, 1]], b1 * h1)
                edge[row, column, sides[t, 2]] = min(edge[row, column, sides[t, 2]], b2 * h2)
