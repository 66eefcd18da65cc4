"""What psycopg raises, and what it means; see `specprod.database.complaints`."""

from __future__ import annotations

import re
import sys
from typing import Any

__all__ = ["column", "is_constraint", "is_lost_connection", "is_own", "is_transient", "message"]

# Deadlock, serialization failure, a lock that was not got in time, a session ended because it idled, too many of them,
# server shutting down, crashed or starting, and the class of connection failures.
_TRANSIENT_STATES = ("40001", "40P01", "55P03", "25P03", "53300", "57P01", "57P02", "57P03", "57P05", "08")
# When a connection is refused, there is no state, only text. What the server says is for good (password, database, role
# that is none), but for these; of a name that is not known, the resolver says whether it may be.
_REFUSED = ("FATAL:", "Name or service not known", "could not translate host name")
_REFUSED_FOR_NOW = (
    "starting up",
    "shutting down",
    "in recovery mode",
    "accepting connections",
    "too many clients",
    "connection slots",
    "Temporary failure in name resolution",
)
#: What a server says of a value that it cannot take.
_COLUMN_OF_COPY = re.compile(r"COPY \S+, line \d+, column (\w+)")


def is_own(error: BaseException) -> bool:
    """Whether psycopg raised it; where psycopg was never imported, it did not."""
    driver: Any = sys.modules.get("psycopg")
    return driver is not None and isinstance(error, driver.Error)


def is_transient(error: Any) -> bool:
    """Whether it may pass by itself."""
    if error.sqlstate is not None:
        return str(error.sqlstate).startswith(_TRANSIENT_STATES)
    text = str(error)
    refused = any(words in text for words in _REFUSED) and not any(words in text for words in _REFUSED_FOR_NOW)
    return is_lost_connection(error) and not refused


def is_constraint(error: Any) -> bool:
    """Whether a key or a reference is violated."""
    import psycopg

    return isinstance(error, psycopg.IntegrityError)


def is_lost_connection(error: Any) -> bool:
    """Whether the connection was lost, or not made: without a state it was not the server that complained."""
    import psycopg

    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None


def message(error: Any) -> str:
    """Give what the server says, with its detail; else what the driver says."""
    text = error.diag.message_primary or str(error)
    return f"{text} ({error.diag.message_detail})" if error.diag.message_detail else text


def column(error: Any) -> str | None:
    """Name the column whose value COPY does not take."""
    found = _COLUMN_OF_COPY.search(str(error.diag.context or ""))
    return found.group(1) if found else None
