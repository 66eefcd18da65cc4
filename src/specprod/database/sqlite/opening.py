"""Opening a file: made only if that is wanted, and read where nothing can be written."""

from __future__ import annotations

import difflib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from specprod.errors import ConnectionFailedError

__all__ = ["Opener", "check_file"]


#: Bytes with which every database begins.
_HEADER = 100


def check_file(path: Path, *, create: bool) -> None:
    """Make sure that a file is there, if it is not to be made, and may be a database.

    Raises
    ------
    ConnectionFailedError
        If it is not there, the message names databases of a similar name.
    """
    if path.is_file():
        # SQLite itself takes a few bytes for nothing, and writes over them.
        if 0 < path.stat().st_size < _HEADER:
            raise ConnectionFailedError("file is not a database", file=path)
        return
    if create or path.exists():
        return
    if not path.parent.is_dir():
        raise ConnectionFailedError(f"there is no directory {path.parent}", file=path)
    beside = {item.stem: item.name for item in sorted(path.parent.glob("*.db"))}
    near = difflib.get_close_matches(path.stem, beside) or list(beside)[:3]
    hint = f"; beside it: {', '.join(beside[stem] for stem in near)}" if near else ""
    raise ConnectionFailedError(f"there is no such database{hint}", file=path)


@dataclass(frozen=True)
class Opener:
    """Connects to a file; an event handler ``do_connect`` of SQLAlchemy.

    Attributes
    ----------
    path : pathlib.Path
        Absolute: the process may go elsewhere.
    create, readonly : bool
        See `specprod.database.interface.Database`.
    """

    path: Path
    create: bool
    readonly: bool

    def __call__(self, _dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> sqlite3.Connection:
        """Connect, with the options of the URL and of the engine."""
        mode = "ro" if self.readonly else "rwc" if self.create else "rw"
        options = {**options, "uri": True}
        place = f"file:{quote(os.fsencode(self.path))}"
        connection: sqlite3.Connection = sqlite3.connect(f"{place}?mode={mode}", **options)
        if self.create:
            return connection
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            refused = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if not refused or not self._lies_still():
                raise
            # Even for reading, a file with a log ahead of it wants another one beside it.
            connection = sqlite3.connect(f"{place}?immutable=1&mode=ro", **options)
        return connection

    def _lies_still(self) -> bool:
        """Whether nobody can be writing: the directory is closed, and no log of a writer is left in it."""
        logs = (Path(f"{self.path}{suffix}") for suffix in ("-wal", "-journal"))
        return not os.access(self.path.parent, os.W_OK) and not any(log.exists() and log.stat().st_size for log in logs)
