"""Progress on a terminal, or as plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from types import MappingProxyType

from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

HINTS: Mapping[str, str] = MappingProxyType(
    {"prepare kernels": "prepare kernels (compiled on the first run, then kept on disk)"}
)
"""What is shown for phases whose own name does not say enough to a newcomer."""


class ProgressDisplay:
    """Shows the phase at work and how long it takes; an implementation of ``femadj.progress.Progress``.

    On a terminal the running phase has a spinner and a clock, and leaves a line with its seconds when it took long
    enough to be noticed. Elsewhere (a log file, a pipe) there is one plain line for every phase.

    Parameters
    ----------
    console : rich.console.Console, optional
        Standard error when left out, so that standard output holds results only.
    shortest : float
        Phases shorter than this many seconds leave no line on a terminal.
    """

    def __init__(self, console: Console | None = None, *, shortest: float = 0.2) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._shortest = shortest
        self._open_line = False
        self._live_now = False

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Show phase ``name`` while the block runs."""
        shown = HINTS.get(name, name)
        if self._live_now:  # a phase inside a phase: the outer one stays on show
            yield
            return
        show = self._live if self._console.is_terminal else self._plain
        with show(shown):
            yield

    @contextmanager
    def _live(self, shown: str) -> Iterator[None]:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        start = perf_counter()
        self._live_now = True
        try:
            with RichProgress(*columns, console=self._console, transient=True) as bar:
                bar.add_task(shown, total=None)
                yield
        finally:
            self._live_now = False
        seconds = perf_counter() - start
        if seconds >= self._shortest:
            self._console.print(f"  [dim]{shown}  {seconds:.1f} s[/dim]", highlight=False)

    @contextmanager
    def _plain(self, shown: str) -> Iterator[None]:
        # the name appears before the work, so that a reader of a log knows what is going on
        start = perf_counter()
        if self._open_line:
            self._write("\n")
        self._write(f"{shown} ... ")
        self._open_line = True
        try:
            yield
        finally:
            if not self._open_line:  # another phase ran inside
                self._write(f"{shown}: ")
            self._write(f"{perf_counter() - start:.2f} s\n")
            self._open_line = False

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()
