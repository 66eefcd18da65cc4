"""What commands print: tables for people, JSON for programs, progress for those who wait."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from specprod.cli.logs import log_held

if TYPE_CHECKING:
    from specprod.loading.interfaces import Progress
    from specprod.loading.pieces import FileLoad

__all__ = ["print_json", "print_table", "progress_bars"]


# Seconds between two drawings of the bars.
_PAUSE = 0.1


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
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rows(ProgressColumn):
        """Rows that are done, of all; nothing for work that has no rows."""

        def render(self, task: Task) -> Text:
            return Text("" if task.total is None else f"{task.completed:,.0f} of {task.total:,.0f} rows")

    class Left(TimeRemainingColumn):
        """Time that is left, as far as the rows tell."""

        def render(self, task: Task) -> Text:
            return Text("") if task.total is None else super().render(task).append(" left")

    class Bars(RichProgress):
        """Bars that are drawn between two lines of the log: rich itself can draw them into one of another thread."""

        def refresh(self) -> None:
            with log_held():
                super().refresh()

    stopped = threading.Event()
    with Bars(
        TextColumn("{task.description:12}"),
        BarColumn(),
        Rows(),
        TimeElapsedColumn(),
        Left(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
    ) as bars:

        def draw() -> None:
            while not stopped.wait(_PAUSE):
                bars.refresh()

        drawing = threading.Thread(target=draw, name="bars", daemon=True)
        drawing.start()
        try:
            yield _Bars(bars)
        finally:
            stopped.set()
            drawing.join()


class _Bars:
    """One bar a table, with the rows of all its files that are known, and a line for work that has no rows."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}
        self._totals: dict[str, int] = {}
        self._expected: dict[tuple[str, str, object], int] = {}
        self._lock = threading.Lock()

    def _add(self, load: FileLoad, rows: int) -> None:
        name = load.table.__name__
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name.lower(), total=0)
        self._totals[name] = self._totals.get(name, 0) + rows
        self._bars.update(self._tasks[name], total=self._totals[name])

    def expect(self, load: FileLoad, rows: int) -> None:
        """Add the rows of a file to the bar of its table, before it is begun."""
        with self._lock:
            self._expected[_key(load)] = rows
            self._add(load, rows)

    def start(self, load: FileLoad, rows: int) -> None:
        """Have the rows of a file that are left in the bar of its table."""
        with self._lock:
            self._add(load, rows - self._expected.pop(_key(load), 0))

    def advance(self, load: FileLoad, rows: int) -> None:
        """Move the bar."""
        self._bars.advance(self._tasks[load.table.__name__], rows)

    @contextlib.contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Show a line as long as something lasts."""
        task = self._bars.add_task(what, total=None)
        try:
            yield
        finally:
            self._bars.remove_task(task)


def _key(load: FileLoad) -> tuple[str, str, object]:
    return load.table.__name__, str(load.path), load.hdu
