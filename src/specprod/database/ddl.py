"""The SQL that makes tables, keys, indexes and comments out of the declarations.

A full load makes a table without keys, fills it, and adds keys and indexes when the rows are there: building an index
at once takes a fraction of the time of keeping it up to date row by row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator

from sqlalchemy import Column, Dialect, ForeignKeyConstraint, Table, UniqueConstraint

from specprod.database.naming import Names
from specprod.model import SchemaMixin, table_of

__all__ = ["Reference", "Statements", "literal"]

#: Name of a reference, the table to which it leads, and the statements that add it and that validate it.
Reference = tuple[str, str, str, str]


class Statements(ABC):
    """The statements of one kind of database.

    Parameters
    ----------
    names : Names
    dialect : sqlalchemy.Dialect
    """

    #: Whether an existing table can be given references; else they are part of CREATE TABLE.
    adds_references: bool

    def __init__(self, names: Names, dialect: Dialect) -> None:
        self.names = names
        self._dialect = dialect

    def create_table(self, cls: type[SchemaMixin], parents: Collection[str]) -> str:
        """Make the statement that creates a table without the keys and indexes that are built after the rows.

        Parameters
        ----------
        cls : class
        parents : collection of str
            Names of the tables that are there. To others it gets no reference: with one, no row could be inserted.
        """
        parts = [self._column(item) for item in table_of(cls).columns]
        parts += [clause for _, parent, clause in self.inline_references(cls) if parent in parents]
        return f"CREATE TABLE {self.names.name(cls)} (\n  " + ",\n  ".join(parts) + "\n)"

    def _column(self, item: Column[object]) -> str:
        return f"{self.names.quote(item.name)} {item.type.compile(self._dialect)} NOT NULL"

    def _reference(self, key: ForeignKeyConstraint) -> str:
        (element,) = key.elements
        child = self.names.columns([item.name for item in key.columns])
        return (
            f"CONSTRAINT {self.names.quote(str(key.name))} FOREIGN KEY ({child}) "
            f"REFERENCES {self.names.name(element.column.table.name)} ({self.names.quote(element.column.name)})"
        )

    def inline_references(self, cls: type[SchemaMixin]) -> Iterator[tuple[str, str, str]]:
        """Give the references that are part of CREATE TABLE: name, table to which it leads, and clause."""
        for key in () if self.adds_references else _foreign_keys(table_of(cls)):
            yield str(key.name), key.referred_table.name, self._reference(key)

    @abstractmethod
    def inline_key(self, table: Table) -> str | None:
        """Give the key that is part of CREATE TABLE, where it is the order of the table itself."""

    @abstractmethod
    def _unique(self, cls: type[SchemaMixin], name: str, columns: list[str], kind: str) -> str:
        """Make the statement that adds a primary key or another unique one."""

    @abstractmethod
    def _index(self, cls: type[SchemaMixin], name: str, columns: str, *, unique: bool = False) -> str:
        """Make the statement that adds an index."""

    def primary_key(self, cls: type[SchemaMixin]) -> tuple[str, str] | None:
        """Name and statement of the primary key, None where CREATE TABLE has it already."""
        table = table_of(cls)
        if self.inline_key(table):
            return None
        name = str(table.primary_key.name)
        return name, self._unique(cls, name, [item.name for item in table.primary_key.columns], "PRIMARY KEY")

    def plain_indexes(self, cls: type[SchemaMixin]) -> Iterator[tuple[str, str]]:
        """Names and statements of the unique constraints and of all indexes but the one of the sky."""
        table = table_of(cls)
        for constraint in table.constraints:
            if isinstance(constraint, UniqueConstraint):
                name = str(constraint.name)
                yield name, self._unique(cls, name, [item.name for item in constraint.columns], "UNIQUE")
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            name = str(index.name)
            columns = self.names.columns([item.name for item in index.columns])
            yield name, self._index(cls, name, columns, unique=bool(index.unique))

    @abstractmethod
    def sky_index(self, cls: type[SchemaMixin]) -> tuple[str, str] | None:
        """Name and statement of the index of positions, None where there is none."""

    def references(self, cls: type[SchemaMixin]) -> Iterator[Reference]:
        """Give the references of a table that are added when the rows are there.

        Validated in a step of its own, a reference is checked beside others of the same parent; added at once, it locks
        it.
        """
        for key in _foreign_keys(table_of(cls)) if self.adds_references else ():
            (element,) = key.elements
            name = str(key.name)
            yield (
                name,
                element.column.table.name,
                f"ALTER TABLE {self.names.name(cls)} ADD {self._reference(key)} NOT VALID",
                f"ALTER TABLE {self.names.name(cls)} VALIDATE CONSTRAINT {self.names.quote(name)}",
            )

    @abstractmethod
    def analyze(self, cls: type[SchemaMixin]) -> list[str]:
        """Make the statements that gather statistics of the columns by which plans are chosen."""

    def describe(self, cls: type[SchemaMixin]) -> list[str]:
        """Make the statements that describe a table and its columns, units included, where there are comments."""
        return []


def literal(text: str) -> str:
    """Write a text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def _foreign_keys(table: Table) -> list[ForeignKeyConstraint]:
    return sorted(table.foreign_key_constraints, key=lambda key: str(key.name))
