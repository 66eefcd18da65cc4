"""The schema of a production: making it, recognising it, dropping it, granting access to it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection

from specprod.database.failures import translated
from specprod.errors import SchemaError
from specprod.model import (
    TABLES,
    SchemaMixin,
    table_of,
)

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["create_tables", "drop_tables", "existing_tables"]

logger = logging.getLogger(__name__)


def existing_tables(
    database: Database, connection: Connection, classes: Iterable[type[SchemaMixin]] = TABLES
) -> list[type[SchemaMixin]]:
    """Find which tables are there.

    Raises
    ------
    SchemaError
        If a table has one of our names but is not ours: it lacks some of our columns.
    """
    inspector = sa.inspect(connection)
    names = set(inspector.get_table_names(schema=database.schema))
    views = set(inspector.get_view_names(schema=database.schema))
    ours = [table_of(cls).name for cls in classes if table_of(cls).name in names]
    columns = inspector.get_multi_columns(schema=database.schema, filter_names=ours) if ours else {}
    found = []
    for cls in classes:
        table = table_of(cls)
        where = database.place
        if table.name in views:
            raise SchemaError(f"{where} holds a view named {table.name}, which is not ours")
        if table.name not in names:
            continue
        there = {item["name"] for item in columns[database.schema, table.name]}
        missing = [item.name for item in table.columns if item.name not in there]
        if missing:
            raise SchemaError(
                f"{where} holds a table {table.name} that is not of this package: it has no column "
                f"{', '.join(missing[:3])}{'…' if len(missing) > 3 else ''}; choose another schema or file"
            )
        found.append(cls)
    return found


def create_tables(
    database: Database, connection: Connection, classes: Iterable[type[SchemaMixin]] = TABLES
) -> list[type[SchemaMixin]]:
    """Create the schema and the tables that are not there yet, without keys and indexes.

    Returns
    -------
    list
        The tables that were created.
    """
    database.create_schema(connection)
    there = existing_tables(database, connection, classes)
    made = [cls for cls in classes if cls not in there]
    names = {*sa.inspect(connection).get_table_names(schema=database.schema), *(table_of(cls).name for cls in made)}
    for cls in made:
        connection.exec_driver_sql(database.statements.create_table(cls, names))
        # In one message to the server instead of a hundred.
        if comments := ";\n".join(database.statements.describe(cls)):
            connection.exec_driver_sql(comments, execution_options={"no_parameters": True})
    return made


def drop_tables(
    database: Database, connection: Connection, classes: Sequence[type[SchemaMixin]] = TABLES
) -> list[type[SchemaMixin]]:
    """Drop our tables, and nothing else that the schema holds.

    Raises
    ------
    SchemaError
        If a table is not ours, or something of somebody else's depends on one of ours.
    """
    there = existing_tables(database, connection, classes)
    for cls in reversed(there):
        try:
            with translated():
                connection.exec_driver_sql(f"DROP TABLE {database.name(cls)}")
        except Exception as error:
            raise SchemaError(f"table {table_of(cls).name} cannot be dropped: {error}") from error
    return there
