"""A file of SQLite put in the place of another, at once and for good."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from specprod.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specprod.database.interface import Database

__all__ = ["obstacles", "real_path", "replace"]

#: Seconds to wait for another writer of the file.
_TIMEOUT = 60.0


def real_path(database: Database) -> Path:
    """Give the file itself, whatever links lead to it."""
    return Path(os.path.realpath(str(database.url.database)))


def obstacles(path: Path) -> list[str]:
    """Say what keeps a file from being replaced.

    A log of changes (WAL) belongs to a file by its name only: SQLite would take the one of the old file for the new.
    """
    if not path.exists():
        return []
    with _opened(path) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return ["its log of changes (WAL); PRAGMA journal_mode = DELETE turns it off"] if mode == "wal" else []


def replace(path: Path, new: Path, old: str | None) -> None:
    """Rename a file to the name of another.

    Whoever has the former file open keeps it, and reads it as it was. Nobody can be in the middle of a transaction that
    changes it: its journal, which has its place by the name of the file as well, would be applied to the new one.

    Parameters
    ----------
    path : path
        The name.
    new : path
    old : str or None
        Under which name the former file is kept.

    Raises
    ------
    SchemaError
        If the former file holds what the new one does not, or is in WAL mode.
    """
    with contextlib.ExitStack() as stack:
        # What a process that was killed left in a journal is undone first.
        with _opened(new) as connection:
            there = _things(connection)
        _synchronize(new)
        if path.exists():
            former = stack.enter_context(_opened(path))
            former.execute("BEGIN IMMEDIATE")
            lost = [*obstacles(path), *sorted(_things(former) - there)]
            if lost:
                raise SchemaError(f"{path} has what {new} has not: {'; '.join(lost)}; make it there, or drop it here")
            status = path.stat()
            new.chmod(status.st_mode & 0o7777)
            with contextlib.suppress(PermissionError):
                os.chown(new, status.st_uid, status.st_gid)
            if old is not None:
                _link(path, Path(old))
        os.replace(new, path)
        _synchronize(path.parent)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file that is there."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_TIMEOUT, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def _things(connection: sqlite3.Connection) -> set[str]:
    """Name the tables, indexes, views and triggers of a file."""
    # To read them is to look for a journal first.
    found = connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    return {f"{kind} {name}" for kind, name in found}


def _link(path: Path, old: Path) -> None:
    """Give a file a second name, in the place of what has that name."""
    between = old.with_name(f"{old.name}.new")
    between.unlink(missing_ok=True)
    os.link(path, between)
    os.replace(between, old)
    # Where both are the same file, renaming does nothing.
    between.unlink(missing_ok=True)


def _synchronize(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
