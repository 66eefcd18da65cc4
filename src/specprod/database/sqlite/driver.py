"""The connection of sqlite3 behind one of SQLAlchemy."""

from __future__ import annotations

import sqlite3

from sqlalchemy import Connection

__all__ = ["sqlite_connection"]


def sqlite_connection(connection: Connection) -> sqlite3.Connection:
    """Give the driver's connection, for what SQLAlchemy has no words for.

    Raises
    ------
    TypeError
        If it is that of another driver, or closed.
    """
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError("expected a connection of sqlite3")
    return driver
