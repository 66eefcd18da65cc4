"""Columns into tables: the bulk writers, one for each kind of database, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from specprod.model import SchemaMixin, table_of
from specprod.model.converting import Columns

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["Counts", "Writer", "writer_for"]


@dataclass(frozen=True)
class Counts:
    """What became of rows.

    Attributes
    ----------
    inserted, updated, unchanged : int
        Numbers of rows.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.inserted + other.inserted, self.updated + other.updated, self.unchanged + other.unchanged)


class Writer(ABC):
    """Writes columns into one table, in the transaction of a connection.

    What the methods write is a sequence of what `prepare` made.

    Parameters
    ----------
    database : Database
    cls : class
        The table.
    """

    def __init__(self, database: Database, cls: type[SchemaMixin]) -> None:
        self.database = database
        self.cls = cls
        self.table = table_of(cls)
        self.key = [item.name for item in self.table.primary_key.columns]
        self.others = [item.name for item in self.table.columns if not item.primary_key]

    @abstractmethod
    def prepare(self, columns: Columns) -> Any:
        """Bring columns into the form that the driver takes; needs no connection, so that it can run beside a write."""

    @abstractmethod
    def append(self, connection: Connection, prepared: Sequence[Any]) -> int:
        """Insert rows and return their number; a row that is there already is an error."""

    @abstractmethod
    def insert_new(self, connection: Connection, prepared: Sequence[Any]) -> Counts:
        """Insert the rows whose key is not there yet, and leave the others alone."""

    @abstractmethod
    def upsert(self, connection: Connection, prepared: Sequence[Any], keep: Collection[str] = ()) -> Counts:
        """Insert the rows whose key is not there yet, and update those that differ in other columns than `keep`."""

    def conflict(self, update: bool, columns: Sequence[str], keep: Collection[str] = ()) -> str:
        """Make the clause ON CONFLICT of an INSERT."""
        quote = self.database.quote
        key = ", ".join(quote(name) for name in self.key)
        if not update:
            return f"ON CONFLICT ({key}) DO NOTHING"
        names = [quote(name) for name in columns if name not in self.key and name not in keep]
        settings = ", ".join(f"{name} = excluded.{name}" for name in names)
        # Rows that are as they should be are not written: that would cost as much as a change.
        test = " OR ".join(
            f"{quote(self.table.name)}.{name} {'IS DISTINCT FROM' if self.database.is_postgresql else 'IS NOT'} "
            f"excluded.{name}"
            for name in names
        )
        return f"ON CONFLICT ({key}) DO UPDATE SET {settings} WHERE {test}"


def writer_for(database: Database, cls: type[SchemaMixin]) -> Writer:
    """Make the writer of a table for the kind of its database."""
    if database.is_postgresql:
        from specprod.database.postgresql import CopyWriter

        return CopyWriter(database, cls)
    from specprod.database.sqlite import PageWriter

    return PageWriter(database, cls)
