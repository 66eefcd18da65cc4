"""What sqlite3 raises, and what it means; see `specprod.database.complaints`."""

from __future__ import annotations

import sqlite3
from typing import Any

__all__ = ["column", "is_constraint", "is_lost_connection", "is_own", "is_transient", "message"]


def is_own(error: BaseException) -> bool:
    """Whether sqlite3 raised it."""
    return isinstance(error, sqlite3.Error)


def is_transient(error: Any) -> bool:
    """Whether it may pass by itself: another process writes to the file."""
    # What the module itself complains of, such as a wrong number of parameters, has no code.
    code = getattr(error, "sqlite_errorcode", None)
    busy = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return isinstance(error, sqlite3.OperationalError) and code is not None and code & 0xFF in busy


def is_constraint(error: Any) -> bool:
    """Whether a key or a reference is violated."""
    return isinstance(error, sqlite3.IntegrityError)


def is_lost_connection(error: Any) -> bool:
    """Whether the connection was lost, which that to a file is not."""
    return False


def message(error: Any) -> str:
    """Give what the driver says."""
    return str(error)


def column(error: Any) -> str | None:
    """Name the column whose value it does not take, which SQLite does not say."""
    return None
