"""Whether a table is as it is declared: columns, types, keys, indexes, references, comments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection

from specprod.database.keys import missing_keys, orphans
from specprod.model import TABLES, SchemaMixin, table_of

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["existing_columns", "missing_parts", "wrong_columns"]


def existing_columns(database: Database, connection: Connection, cls: type[SchemaMixin]) -> list[str] | None:
    """Names of those of our columns that a table has; None if there is no such table."""
    inspector = sa.inspect(connection)
    table = table_of(cls)
    if not inspector.has_table(table.name, schema=database.schema):
        return None
    there = {item["name"] for item in inspector.get_columns(table.name, schema=database.schema)}
    return [item.name for item in table.columns if item.name in there]


def wrong_columns(database: Database, connection: Connection, cls: type[SchemaMixin]) -> Iterator[tuple[str, str]]:
    """Name the columns that are missing or have another type, each with what is wrong."""
    inspector, table, dialect = sa.inspect(connection), table_of(cls), database.engine.dialect
    there = {item["name"]: item for item in inspector.get_columns(table.name, schema=database.schema)}
    inline = database.statements.inline_key(table)
    for item in table.columns:
        if item.name not in there:
            yield item.name, f"column {item.name} is missing"
            continue
        found = there[item.name]["type"].compile(dialect)
        expected = item.type.compile(dialect) if item.name != inline else "INTEGER"
        if _same_type(found) != _same_type(expected):
            yield item.name, f"column {item.name} has type {found}, expected {expected}"


def _same_type(name: str) -> str:
    """Give one of the names of a type: databases have several for some."""
    return {"DOUBLE_PRECISION": "DOUBLE PRECISION", "DOUBLE": "DOUBLE PRECISION"}.get(name, name)


def missing_parts(database: Database, connection: Connection, cls: type[SchemaMixin]) -> Iterator[str]:
    """Describe what a table lacks, and the rows that refer to none."""
    inspector, table = sa.inspect(connection), table_of(cls)
    inline = [name for name, *_ in database.statements.inline_references(cls)]
    for name in missing_keys(database, connection, cls):
        yield f"{'reference' if name in inline else 'index or key'} {name} is missing"
    columns = {item["name"]: item for item in inspector.get_columns(table.name, schema=database.schema)}
    for item in table.columns:
        if item.name in columns and columns[item.name]["nullable"]:
            yield f"column {item.name} may be NULL"
    if database.statements.describe(cls):
        if not inspector.get_table_comment(table.name, schema=database.schema)["text"]:
            yield "the comment of the table is missing"
        for item in table.columns:
            if item.name in columns and columns[item.name].get("comment") != item.comment:
                yield f"the comment of column {item.name} is missing or another"
    if all(key.parent.name in columns for key in table.foreign_keys):
        # A load of some tables makes no others.
        parents = {str(key.name): key.elements[0].column for key in table.foreign_key_constraints}
        names = [name for name, parent in parents.items() if _has_column(database, connection, parent)]
        yield from orphans(database, connection, cls, names)


def _has_column(database: Database, connection: Connection, column: sa.Column[object]) -> bool:
    (cls,) = (cls for cls in TABLES if table_of(cls) is column.table)
    return column.name in (existing_columns(database, connection, cls) or ())
