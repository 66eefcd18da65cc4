"""The database: connection, tables, keys, and the writers that fill it."""

from specprod.database.connection import Database, connect, database_url

__all__ = ["Database", "connect", "database_url"]
