"""The kinds of databases."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from specprod.database.postgresql.database import PostgresqlDatabase
from specprod.database.sqlite.database import SqliteDatabase

__all__ = ["KINDS", "PostgresqlDatabase", "SqliteDatabase", "insert_of"]

KINDS: Final = (PostgresqlDatabase, SqliteDatabase)


def insert_of(connection: sa.Connection, table: sa.Table) -> Any:
    """Make an INSERT that takes ON CONFLICT, for the kind of database that a connection leads to."""
    for kind in KINDS:
        if kind.claims(connection.engine.url):
            return kind.insert(table)
    raise TypeError(f"no kind of database for {connection.engine.url.get_backend_name()}")
