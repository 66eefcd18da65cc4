"""Columns into tables: what the bulk writers of all databases have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import Connection

from specprod.database.naming import Names
from specprod.model import SchemaMixin, table_of
from specprod.model.converting import Columns

__all__ = ["Counts", "Writer"]


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
    names : Names
    cls : class
        The table.
    """

    #: Operator that compares two values of which either may be NULL.
    differs: ClassVar[str]

    def __init__(self, names: Names, cls: type[SchemaMixin]) -> None:
        self.names = names
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
        quote = self.names.quote
        key = ", ".join(quote(name) for name in self.key)
        if not update:
            return f"ON CONFLICT ({key}) DO NOTHING"
        names = [quote(name) for name in columns if name not in self.key and name not in keep]
        settings = ", ".join(f"{name} = excluded.{name}" for name in names)
        # Rows that are as they should be are not written: that would cost as much as a change.
        test = " OR ".join(f"{quote(self.table.name)}.{name} {self.differs} excluded.{name}" for name in names)
        return f"ON CONFLICT ({key}) DO UPDATE SET {settings} WHERE {test}"
