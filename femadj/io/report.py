"""What an import read, renamed and left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from femadj.base.display import html_of
from femadj.base.pickling import Picklable


class MeshFileWarning(UserWarning):
    """Something that a mesh file says and its mesh does not, or the other way round."""


@dataclass(frozen=True)
class GroupRecord:
    """A named group of an imported mesh.

    Attributes
    ----------
    name : str
        Its name in the mesh.
    kind : str
        ``"node"``, ``"facet"`` or ``"cell"``.
    size : int
        How many of them it holds.
    origin : str
        What it was in the file.
    """

    name: str
    kind: str
    size: int
    origin: str


@dataclass(frozen=True)
class ImportReport(Picklable):
    """What was read from a mesh file; ``print(report)`` shows it.

    Attributes
    ----------
    path : Path
    format : str
        Format and version.
    dim : int
        Space dimension of the mesh.
    n_nodes : int
    n_cells : mapping of str to int
        Cells of the mesh by type.
    extent : tuple of (float, float)
        Smallest and largest coordinate per direction, in the unit of the file.
    groups : tuple of GroupRecord
    renamed : tuple of str
        Groups whose name in the mesh differs from that in the file.
    dropped : tuple of str
        What was left out, how many and why.
    node_ids : str
        Where ``Mesh.node_ids`` come from.
    warnings : tuple of str
        What may make the mesh another than the one meant.
    remarks : tuple of str
        What else is good to know.
    """

    path: Path
    format: str
    dim: int
    n_nodes: int
    n_cells: Mapping[str, int]
    extent: tuple[tuple[float, float], ...]
    groups: tuple[GroupRecord, ...]
    renamed: tuple[str, ...]
    dropped: tuple[str, ...]
    node_ids: str
    warnings: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def _items(self) -> list[tuple[str, str]]:
        """What is told beside the groups, with its title."""
        told = (("renamed", self.renamed), ("dropped", self.dropped), ("warning", self.warnings),
                ("remark", self.remarks))  # fmt: skip
        return [(title, item) for title, items in told for item in items]

    def _repr_html_(self) -> str:
        table = Table("", "name", "size", "in the file", title=f"{self.path} ({self.format}): {self.n_nodes} nodes")
        for name, count in self.n_cells.items():
            table.add_row("cells", name, str(count))
        for g in self.groups:
            table.add_row(f"{g.kind} group", g.name, str(g.size), g.origin)
        for title, item in self._items:
            table.add_row(title, item)
        return html_of(table)

    def __str__(self) -> str:
        cells = ", ".join(f"{count} {name}" for name, count in self.n_cells.items())
        box = "  ".join(
            f"{axis} {low:.6g} .. {high:.6g}" for axis, (low, high) in zip("xyz", self.extent, strict=False)
        )
        lines = [
            f"{self.path} ({self.format})",
            f"  {self.n_nodes} nodes, {cells}, {self.dim}-D",
            f"  extent: {box}",
            f"  node ids: {self.node_ids}",
        ]
        lines += [f"  {g.kind} group {g.name!r}: {g.size} ({g.origin})" for g in self.groups]
        lines += [f"  {title}: {item}" for title, item in self._items]
        return "\n".join(lines)
