"""References of tables of SQLite, which are part of CREATE TABLE."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from specprod.errors import SchemaError
from specprod.model import Base

__all__ = ["declare", "names"]


def names(connection: Connection) -> frozenset[str]:
    """Names of the references of all tables; SQLite itself does not tell names, but tables and columns."""
    rule = str(Base.metadata.naming_convention["fk"])
    found = connection.exec_driver_sql(
        "SELECT m.name, k.\"from\" FROM sqlite_master AS m, pragma_foreign_key_list(m.name) AS k WHERE m.type = 'table'"
    )
    return frozenset(rule % {"table_name": table, "column_0_name": column} for table, column in found)


def declare(connection: Connection, table: str, clauses: Sequence[str]) -> None:
    """Add references to the declaration of a table, in the transaction of a connection.

    A reference changes nothing in the rows, so that the text of the declaration is all there is to change. The way is
    that of SQLite's own documentation (Making Other Kinds Of Table Schema Changes, in lang_altertable.html): other
    connections see by the number of the schema that it is another one.

    Raises
    ------
    SchemaError
        If the table was not created by this package: its declaration does not end as ours do.
    """
    place = {"type": "table", "name": table}
    query = "SELECT sql FROM sqlite_master WHERE type = :type AND name = :name"
    text = str(connection.exec_driver_sql(query, place).scalar_one()).rstrip()
    if not text.endswith(")"):
        raise SchemaError(f"table {table} was not created by this package; references cannot be added to it")
    new = ",\n  ".join([text[:-1].rstrip(), *clauses]) + "\n)"
    number = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    try:
        statement = "UPDATE sqlite_master SET sql = :sql WHERE type = :type AND name = :name"
        connection.exec_driver_sql(statement, {"sql": new, **place})
        connection.exec_driver_sql(f"PRAGMA schema_version = {number + 1:d}")
    finally:
        # Also reads the declarations anew, for this connection.
        connection.exec_driver_sql("PRAGMA writable_schema = RESET")
