"""How objects show themselves: a few lines with their sizes and largest values, tables as HTML."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

WIDTH = 110
LINES = 10
"""Columns and lines of a ``repr``, at most."""


def one_line(value: Any, width: int = WIDTH) -> str:
    """The ``repr`` of a value (a text as it is) on one line, cut where it is longer."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= width else f"{text[: width - 4]} ..."


def shown(head: str, /, **entries: str) -> str:
    """A head and a line for every entry that is not empty, at most ten in all."""
    lines = [f"  {name}: {one_line(text)}" for name, text in entries.items() if text]
    if len(lines) >= LINES:
        lines = [*lines[: LINES - 2], f"  ... ({len(lines)} lines in all)"]
    return "\n".join([one_line(head), *lines])


def measured(array: npt.NDArray[Any], where: Callable[[int], str] | None = None) -> str:
    """Norm of an array, its largest entry and ``where(flat index)`` that is."""
    flat = np.asarray(array).ravel()
    if not flat.size:
        return "empty"
    if not flat.any():
        return f"zero, shape {array.shape}"
    largest = int(np.abs(flat).argmax())
    place = where(largest) if where else _place(np.unravel_index(largest, array.shape))
    return f"norm {np.linalg.norm(flat):.6g}, largest {flat[largest]:.6g} at {place}"


def _place(index: tuple[Any, ...]) -> str:
    """A row of an array, and the axis of one of nodes."""
    row, *column = map(int, index) if index else (0,)
    return f"row {row}" + "".join(f", column {number}" for number in column)


def at_node(shape: tuple[int, ...], axes: str = "xyz") -> Callable[[int], str]:
    """Say which node and axis an entry of an array ``(n_nodes, dim)`` belongs to."""
    return lambda flat: f"node row {flat // shape[1]}, {axes[flat % shape[1]]}"


def html_of(table: Table) -> str:
    """A table for notebooks."""
    head = "".join(f"<th>{escape(str(column.header))}</th>" for column in table.columns)
    rows = zip(*(column.cells for column in table.columns), strict=True)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(str(table.title or ''))}</caption><tr>{head}</tr>{body}</table>"
