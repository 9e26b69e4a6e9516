"""Words of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from femadj.base.arrays import FloatArray


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
    field : str
        What the contour lines of a plane body show.
    filtered : bool
        Whether the filtered gradient is shown, and not the raw one.
    """

    response: str = "response"
    unit: str = ""
    length_unit: str = "unit"
    title: str = ""
    labels: Mapping[str, str] | None = None
    field: str = ""
    filtered: bool = False

    def heading(self) -> str:
        """First line."""
        what = f"{self.title}: " if self.title else ""
        return f"{what}{'filtered ' if self.filtered else ''}sensitivity of the {self.response} to the shape"

    def explanation(self, dim: int) -> str:
        """The lines below it, with the sign convention."""
        piece = f"{self.length_unit}²" if dim == 3 else self.length_unit
        unit = f" {self.unit}" if self.unit else ""
        lines = f"\nLines: {self.field}." if self.field else ""
        if self.filtered:
            return (
                f"Moving the {'surface' if dim == 3 else 'boundary'} outward in proportion to the value shown changes "
                f"the {self.response} most, as the filter measures. Red: it grows outward, blue: inward.{lines}"
            )
        return (
            f"Moving 1 {piece} of the {'surface' if dim == 3 else 'boundary'} outward by 1 {self.length_unit} changes "
            f"the {self.response} by the value shown{' [' + self.unit + ']' if unit else ''}. "
            f"Red: it grows, blue: it shrinks.{lines}"
        )

    def scale(self, dim: int) -> str:
        """Label of the colour bar."""
        power = dim if self.filtered else dim - 1
        piece = f"{self.length_unit}{('', '²', '³')[power - 1]}"
        return f"{self.unit or 'change'} per {self.length_unit} outward, per {piece}"


def annotate(axes: Any, text: str, target: FloatArray, place: FloatArray) -> None:
    """Write a text at ``place`` with an arrow to ``target``, both in data coordinates ``(2,)``."""
    axes.annotate(
        text, target, place, fontsize=10.5, color="#202020", ha="center", va="center", zorder=6,
        bbox={"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "#909090", "linewidth": 0.6},
        arrowprops={"arrowstyle": "-|>", "color": "#404040", "linewidth": 0.9, "shrinkB": 1.0},
    )  # fmt: skip
