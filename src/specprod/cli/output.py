"""What commands print: tables for people, JSON for programs, progress for those who wait."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from specprod.loading.interfaces import Progress
    from specprod.loading.pieces import FileLoad

__all__ = ["print_json", "print_table", "progress_bars"]


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[Any]], *, total: Sequence[Any] | None = None) -> None:
    """Print rows in aligned columns; numbers to the right, with separators of thousands."""
    cells = [[_shown(value) for value in row] for row in [*rows, *([total] if total else [])]]
    numeric = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(titles))]
    widths = [max(len(title), *(len(row[i]) for row in cells), 0) for i, title in enumerate(titles)]

    def line(row: Sequence[str]) -> str:
        pairs = zip(row, widths, numeric, strict=True)
        return "  ".join(text.rjust(width) if right else text.ljust(width) for text, width, right in pairs).rstrip()

    click.echo(line(titles))
    click.echo("  ".join("-" * width for width in widths))
    for row in cells[: len(rows)]:
        click.echo(line(row))
    if total:
        click.echo("  ".join("-" * width for width in widths))
        click.echo(line(cells[-1]))


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


@contextlib.contextmanager
def progress_bars(wanted: bool) -> Iterator[Progress | None]:
    """Show a bar for each table on stderr, if that is a terminal; the value is for a loader."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    with RichProgress(
        TextColumn("{task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        yield _Bars(bars)


class _Bars:
    """One bar a table: its total grows with each file that is begun."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}
        self._lock = threading.Lock()

    def start(self, load: FileLoad, rows: int) -> None:
        """Add the rows of a file to the bar of its table."""
        name = load.table.__name__
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name.lower(), total=0)
            task = self._tasks[name]
            self._bars.update(task, total=self._bars.tasks[task].total + rows)

    def advance(self, load: FileLoad, rows: int) -> None:
        """Move the bar."""
        self._bars.advance(self._tasks[load.table.__name__], rows)
