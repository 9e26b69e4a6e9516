"""A run as a short table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

WIDTH = 100
"""Characters to a line where there is no terminal."""


def run_table(data: Mapping[str, Any]) -> RenderableType:
    """What ``summary`` returns, for printing with rich in 80 columns or more.

    Of every response: value, norm of the node gradient, length of its largest vector and the node (as the input file
    numbers it) that has it, and adjoint solves.
    """
    mesh = data["mesh"]
    cells = ", ".join(f"{count:,} {name}" for name, count in mesh["cells"].items())
    size = "volume" if mesh["dim"] == 3 else "area"
    head = Text.assemble(
        (data["name"], "bold"),
        f"\n{mesh['nodes']:,} nodes, {cells}, {size} {mesh['volume']:.6g}, worst quality {mesh['worst quality']:.2f}"
        f"\n{data['unknowns']:,} unknowns, {data['prescribed']:,} of them prescribed, solver {data['solver']}",
    )
    responses = _table(
        "response", ("value", "right"), ("unit", "left"), ("|dJ/dX|", "right"), ("largest", "right"),
        ("at node", "right"), ("solves", "right"),
    )  # fmt: skip
    for name, entry in data["responses"].items():
        responses.add_row(
            name, f"{entry['value']:.7g}", entry["unit"], f"{entry['gradient norm']:.4g}",
            f"{math.hypot(*entry['largest']):.4g}", str(entry["largest at node"]), str(entry["adjoint solves"]),
        )  # fmt: skip
    parts: list[RenderableType] = [head, responses]
    if data["figures"]:
        parts.append(Text("\n".join(f"{name}: {value:.6g}" for name, value in data["figures"].items())))
    seconds = data["seconds"]
    times = _table("phase", ("seconds", "right"))
    for name, value in seconds.items():
        times.add_row(name, f"{value:.3f}")
    times.add_section()
    times.add_row("sum", f"{sum(seconds.values()):.3f}")
    parts.append(times)
    counts = data["counts"]
    adjoints = sum(entry["adjoint solves"] for entry in data["responses"].values())
    parts.append(
        Text(
            f"{_count(counts['analyses'], 'symbolic analysis', 'symbolic analyses')}, "
            f"{_count(counts['factorisations'], 'factorisation', 'factorisations')}, "
            f"{_count(adjoints, 'adjoint solve', 'adjoint solves')} for "
            f"{_count(len(data['responses']), 'gradient', 'gradients')}"
        )
    )
    return Group(*parts)


def print_table(data: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what ``summary`` returns; on standard output when no console is given."""
    (console or results_console()).print(run_table(data))


def results_console() -> Console:
    """Standard output; ``WIDTH`` characters wide where it is a file or a pipe, which has no width of its own."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _table(first: str, *columns: tuple[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column(first)
    for name, justify in columns:
        table.add_column(name, justify=justify)
    return table
