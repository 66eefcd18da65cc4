"""Tables back into columns: the reverse of the writers, for comparing a database with files."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from sqlalchemy import Connection

from specprod.errors import DatabaseError
from specprod.model import SchemaMixin, table_of
from specprod.model.casting import Array, cast
from specprod.model.converting import Columns, database_dtype
from specprod.survey.identifiers import INT128

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["fetch_columns"]

_BATCH = 20000
_EPOCH = np.datetime64("2000-01-01", "us")
#: Length at which text of a column without a limit is compared.
_UNLIMITED = 64


def fetch_columns(
    database: Database, connection: Connection, cls: type[SchemaMixin], keys: Sequence[int] | None = None
) -> Iterator[Columns]:
    """Yield all rows of a table, or those of some keys, as columns; 128-bit ids as 39 digits of text.

    Parameters
    ----------
    database : Database
    connection : sqlalchemy.Connection
    cls : class
        The table.
    keys : sequence of int, optional
        Values of the primary key.

    Yields
    ------
    dict of str to numpy.ndarray
        Some thousand rows each, in no particular order.
    """
    fetch = _postgresql if database.is_postgresql else _sqlite
    yield from fetch(database, connection, cls, keys)


def _postgresql(
    database: Database, connection: Connection, cls: type[SchemaMixin], keys: Sequence[int] | None
) -> Iterator[Columns]:
    """Read binary COPY; text is padded by the server, so that all rows have one length and numpy can parse them."""
    table = table_of(cls)
    expressions, fields, names = [], [("fields", ">i2")], []
    for item in table.columns:
        name, dtype = database.quote(item.name), database_dtype(item)
        if dtype == INT128:
            expressions.append(f"lpad({name}::text, 39, '0')")
            kind = "S39"
        elif dtype.kind == "S":
            width = getattr(item.type, "length", None) or _UNLIMITED
            expressions.append(f"rpad({name}, {width})")
            kind = f"S{width}"
        else:
            expressions.append(name)
            kind = {"M": ">i8", "b": "?"}.get(dtype.kind, dtype.newbyteorder(">").str)
        fields += [(f"length {item.name}", ">i4"), (item.name, kind)]
        names.append(item.name)
    row = np.dtype(fields)
    source = f"SELECT {', '.join(expressions)} FROM {database.name(cls)}"
    if keys is not None:
        (key,) = table.primary_key.columns
        # Integers only: they need no quotes, and COPY takes no parameters.
        source += f" WHERE {database.quote(key.name)} = ANY('{{{','.join(str(int(value)) for value in keys)}}}')"
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("COPY needs a connection of psycopg")
    with driver.cursor() as cursor, cursor.copy(f"COPY ({source}) TO STDOUT (FORMAT BINARY)".encode()) as copy:
        stream = iter(copy)
        header = bytes(next(stream))
        # The signature comes with the first row, or with the trailer of an empty table.
        rest = header[19:] if len(header) > 19 else b""
        while True:
            block = rest + b"".join(bytes(piece) for piece in islice(stream, _BATCH))
            rest = b""
            ended = block.endswith(struct.pack(">h", -1)) and len(block) % row.itemsize == 2
            block = block[:-2] if ended else block
            if len(block) % row.itemsize:
                raise DatabaseError(f"table {table.name} holds text that is not ASCII; its rows cannot be compared")
            if block:
                yield _from_rows(np.frombuffer(block, dtype=row), names, table)
            if ended or not block:
                return


def _from_rows(rows: Array, names: list[str], table: Any) -> Columns:
    columns: Columns = {}
    for name in names:
        dtype = database_dtype(table.columns[name])
        values = rows[name]
        if dtype == INT128:
            columns[name] = np.ascontiguousarray(values)
        elif dtype.kind == "M":
            columns[name] = _EPOCH + values.astype("timedelta64[us]")
        elif dtype.kind == "S":
            columns[name] = cast(values, dtype, None, None, False).values
        else:
            columns[name] = values.astype(dtype)
    return columns


def _sqlite(
    database: Database, connection: Connection, cls: type[SchemaMixin], keys: Sequence[int] | None
) -> Iterator[Columns]:
    table = table_of(cls)
    names = [item.name for item in table.columns]
    source = f"SELECT {', '.join(database.quote(name) for name in names)} FROM {database.name(cls)}"
    parameters: tuple[str, ...] = ()
    if keys is not None:
        (key,) = table.primary_key.columns
        wide = database_dtype(key) == INT128
        source += f" WHERE {database.quote(key.name)} IN (SELECT value FROM json_each(?))"
        shown = (f'"{int(value):039d}"' if wide else str(int(value)) for value in keys)
        parameters = (f"[{','.join(shown)}]",)
    driver = connection.connection.driver_connection
    if driver is None:
        raise TypeError("the connection is closed")
    cursor = driver.cursor()
    cursor.execute(source, parameters)
    while rows := cursor.fetchmany(_BATCH):
        columns: Columns = {}
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            dtype = database_dtype(table.columns[name])
            if dtype == INT128:
                columns[name] = np.array(values, dtype="S39")
            elif dtype.kind == "S":
                columns[name] = cast(np.array(values), dtype, None, None, False).values
            else:
                columns[name] = np.array(values, dtype=dtype)
        yield columns
