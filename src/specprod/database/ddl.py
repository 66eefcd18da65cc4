"""The SQL that makes tables, keys, indexes and comments out of the declarations.

A full load makes a table without keys, fills it, and adds keys and indexes when the rows are there: building an index
at once takes a fraction of the time of keeping it up to date row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy import Column, ForeignKeyConstraint, Integer, Table, UniqueConstraint

from specprod.model import SchemaMixin, table_of
from specprod.model.base import Int128

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = [
    "analyze",
    "comments",
    "create_table",
    "foreign_keys",
    "index_name",
    "inline_key",
    "plain_indexes",
    "primary_key",
    "sky_index",
]


def _names(database: Database, columns: list[Column[object]] | list[str]) -> str:
    return ", ".join(database.quote(item if isinstance(item, str) else item.name) for item in columns)


def inline_key(database: Database, table: Table) -> bool:
    """Whether the primary key is part of CREATE TABLE: in SQLite, where an integer key is the table's own order."""
    (key,) = table.primary_key.columns
    return not database.is_postgresql and isinstance(key.type, Integer)


def create_table(database: Database, cls: type[SchemaMixin]) -> str:
    """Make the statement that creates a table without its keys and indexes; SQLite's references are part of it."""
    table = table_of(cls)
    dialect = database.engine.dialect
    inline = inline_key(database, table)
    parts = []
    for item in table.columns:
        # SQLite takes a key for the row's own number only under this very type name.
        is_key = inline and item.primary_key
        kind = "INTEGER" if is_key else item.type.compile(dialect)
        parts.append(f"{database.quote(item.name)} {kind} NOT NULL" + (" PRIMARY KEY" if is_key else ""))
    if not database.is_postgresql:
        parts += [_reference(database, key) for key in _foreign_keys(table)]
    return f"CREATE TABLE {database.name(cls)} (\n  " + ",\n  ".join(parts) + "\n)"


def _foreign_keys(table: Table) -> list[ForeignKeyConstraint]:
    return sorted(table.foreign_key_constraints, key=lambda key: str(key.name))


def _reference(database: Database, key: ForeignKeyConstraint) -> str:
    (element,) = key.elements
    parent = database.name(element.column.table.name)
    return (
        f"CONSTRAINT {database.quote(str(key.name))} FOREIGN KEY ({_names(database, list(key.columns))}) "
        f"REFERENCES {parent} ({_names(database, [element.column.name])})"
    )


def primary_key(database: Database, cls: type[SchemaMixin]) -> tuple[str, str] | None:
    """Name and statement of the primary key, None where CREATE TABLE has it already."""
    table = table_of(cls)
    if inline_key(database, table):
        return None
    name = str(table.primary_key.name)
    columns = _names(database, list(table.primary_key.columns))
    if database.is_postgresql:
        return name, f"ALTER TABLE {database.name(cls)} ADD CONSTRAINT {database.quote(name)} PRIMARY KEY ({columns})"
    # A key of text is an index like any other to SQLite, and other tables may refer to it as well.
    return name, f"CREATE UNIQUE INDEX {database.name(name)} ON {database.quote(table.name)} ({columns})"


def plain_indexes(database: Database, cls: type[SchemaMixin]) -> Iterator[tuple[str, str]]:
    """Names and statements of the unique constraints and of all indexes but the one of the sky."""
    table = table_of(cls)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            name, columns = str(constraint.name), _names(database, list(constraint.columns))
            if database.is_postgresql:
                yield (
                    name,
                    f"ALTER TABLE {database.name(cls)} ADD CONSTRAINT {database.quote(name)} UNIQUE ({columns})",
                )
            else:
                yield name, f"CREATE UNIQUE INDEX {database.name(name)} ON {database.quote(table.name)} ({columns})"
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        name = str(index.name)
        unique = "UNIQUE " if index.unique else ""
        target = database.quote(name) if database.is_postgresql else database.name(name)
        on = database.name(cls) if database.is_postgresql else database.quote(table.name)
        yield name, f"CREATE {unique}INDEX {target} ON {on} ({_names(database, list(index.columns))})"


def index_name(cls: type[SchemaMixin]) -> str:
    """Name of the index of the sky in PostgreSQL."""
    return f"ix_{table_of(cls).name}_q3c_ang2ipix"


def sky_index(database: Database, cls: type[SchemaMixin]) -> tuple[str, str] | None:
    """Name and statement of the index of positions, None for tables that have none, or servers without q3c."""
    if cls.__sky__ is None:
        return None
    ra, dec = (database.quote(name) for name in cls.__sky__)
    if not database.is_postgresql:
        name = f"ix_{table_of(cls).name}_sky"
        return name, f"CREATE INDEX {database.name(name)} ON {database.quote(table_of(cls).name)} ({dec}, {ra})"
    if not database.has_q3c:
        return None
    name = index_name(cls)
    return name, f"CREATE INDEX {database.quote(name)} ON {database.name(cls)} (q3c_ang2ipix({ra}, {dec}))"


def foreign_keys(database: Database, cls: type[SchemaMixin]) -> Iterator[tuple[str, str, str, str]]:
    """Name, referenced table, and the two statements (add, validate) of each reference, for PostgreSQL.

    Validated in a step of its own, a reference is checked beside others of the same parent; added at once, it locks it.
    """
    table = table_of(cls)
    for key in _foreign_keys(table):
        (element,) = key.elements
        name = str(key.name)
        yield (
            name,
            element.column.table.name,
            f"ALTER TABLE {database.name(cls)} ADD {_reference(database, key)} NOT VALID",
            f"ALTER TABLE {database.name(cls)} VALIDATE CONSTRAINT {database.quote(name)}",
        )


def analyze(database: Database, cls: type[SchemaMixin]) -> str:
    """Make the statement that gathers statistics of the columns that have indexes.

    Those are the ones by which plans are chosen. Statistics of all 100 columns of a wide table take longer than loading
    it does; PostgreSQL gathers them in the background in its own time. So it does for keys of 128 bits, which are slow
    to compare: that they are unique, it knows from their index, and nobody asks for a range of them.
    """
    if not database.is_postgresql:
        return f"ANALYZE {database.name(cls)}"
    table = table_of(cls)
    indexed = {item.name for index in table.indexes for item in index.columns}
    indexed |= {item.name for item in table.primary_key.columns if not (indexed and isinstance(item.type, Int128))}
    indexed |= set(cls.__sky__ or ())
    return f"ANALYZE {database.name(cls)} ({_names(database, sorted(indexed))})"


def comments(database: Database, cls: type[SchemaMixin]) -> Iterator[str]:
    """Statements that describe a table and its columns, units included."""
    table = table_of(cls)
    summary = " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
    yield f"COMMENT ON TABLE {database.name(cls)} IS {_literal(summary)}"
    for item in table.columns:
        yield f"COMMENT ON COLUMN {database.name(cls)}.{database.quote(item.name)} IS {_literal(item.comment or '')}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
