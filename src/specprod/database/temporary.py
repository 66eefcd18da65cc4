"""Values of ours as a temporary table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from sqlalchemy import Connection

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["add_values", "temporary_values"]

#: Values that are sent to the database at a time.
_BATCH = 50000


@contextlib.contextmanager
def temporary_values(
    database: Database, connection: Connection, name: str, **columns: npt.NDArray[Any]
) -> Iterator[str]:
    """Make a temporary table of values, until the end of the block.

    Parameters
    ----------
    database : Database
    connection : sqlalchemy.Connection
        In a transaction.
    name : str
    **columns : numpy.ndarray, each of shape (n,)
        Integers, `INT128`, or what `specprod.survey.identifiers.comparable` makes of these; n may be 0.

    Yields
    ------
    str
        Name of the table, quoted.
    """
    table = database.quote(name)
    database.create_temporary(connection, table, columns)
    add_values(database, connection, name, **columns)
    yield table
    # After an error the whole transaction is rolled back, and the table with it.
    connection.exec_driver_sql(f"DROP TABLE {table}")


def add_values(database: Database, connection: Connection, name: str, **columns: npt.NDArray[Any]) -> None:
    """Add rows to a temporary table of values."""
    size = len(next(iter(columns.values())))
    for start in range(0, size, _BATCH):
        part = {column: values[start : start + _BATCH] for column, values in columns.items()}
        database.insert_values(connection, database.quote(name), part)
