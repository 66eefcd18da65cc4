"""The connection of psycopg behind one of SQLAlchemy."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection

__all__ = ["is_connection_string", "psycopg_connection"]


def psycopg_connection(connection: Connection) -> psycopg.Connection[Any]:
    """Give the driver's connection, for what SQLAlchemy has no words for.

    Raises
    ------
    TypeError
        If it is that of another driver, or closed.
    """
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("expected a connection of psycopg")
    return driver


def is_connection_string(text: str) -> bool:
    """Whether libpq would take a text for parameters of a connection, such as ``host=… dbname=…``."""
    try:
        return "=" in text and bool(conninfo_to_dict(text))
    except psycopg.ProgrammingError:
        return False
