"""The connection of psycopg behind one of SQLAlchemy.

psycopg is imported when it is needed: whoever loads into a file does without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

if TYPE_CHECKING:
    import psycopg

__all__ = ["is_connection_string", "psycopg_connection"]


def psycopg_connection(connection: Connection) -> psycopg.Connection[Any]:
    """Give the driver's connection, for what SQLAlchemy has no words for.

    Raises
    ------
    TypeError
        If it is that of another driver, or closed.
    """
    import psycopg

    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("expected a connection of psycopg")
    return driver


def is_connection_string(text: str) -> bool:
    """Whether libpq would take a text for parameters of a connection, such as ``host=… dbname=…``."""
    if "=" not in text:
        return False
    import psycopg.conninfo

    try:
        return bool(psycopg.conninfo.conninfo_to_dict(text))
    except psycopg.ProgrammingError:
        return False
