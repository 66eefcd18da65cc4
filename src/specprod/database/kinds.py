"""The kinds of databases."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from specprod.database.postgresql.database import PostgresqlDatabase
from specprod.database.sqlite.database import SqliteDatabase

__all__ = ["KINDS", "PostgresqlDatabase", "SqliteDatabase", "insert_of"]

KINDS: Final = (PostgresqlDatabase, SqliteDatabase)


def insert_of(dialect: sa.Dialect, table: sa.Table) -> Any:
    """Make an INSERT that takes ON CONFLICT, for the kind of database that speaks a dialect."""
    for kind in KINDS:
        if isinstance(dialect, kind.dialect):
            return kind.insert(table)
    raise TypeError(f"no kind of database for {type(dialect).__name__}")
