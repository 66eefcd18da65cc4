"""Tables of PostgreSQL as columns: binary COPY, the reverse of the writer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from specprod.database.naming import Names
from specprod.database.postgresql.driver import psycopg_connection
from specprod.database.postgresql.values import array_literal
from specprod.errors import DatabaseError
from specprod.model import SchemaMixin, table_of
from specprod.model.casting import Array, cast
from specprod.model.converting import Columns, database_dtype
from specprod.survey.identifiers import INT128

__all__ = ["fetch"]

_BATCH = 20000
_EPOCH = np.datetime64("2000-01-01", "us")
#: Length at which text of a column without a limit is compared.
_UNLIMITED = 64


def fetch(
    names_of: Names, connection: Connection, cls: type[SchemaMixin], keys: npt.NDArray[Any] | None
) -> Iterator[Columns]:
    """Yield all rows of a table, or those of some keys, as `specprod.database.interface.Database.fetch` does.

    Text is padded by the server, so that all rows have one length and numpy can parse them.
    """
    table = table_of(cls)
    expressions, fields, names = [], [("fields", ">i2")], []
    for item in table.columns:
        name, dtype = names_of.quote(item.name), database_dtype(item)
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
    source = f"SELECT {', '.join(expressions)} FROM {names_of.name(cls)}"
    if keys is not None:
        (key,) = table.primary_key.columns
        # COPY takes no parameters.
        source += f" WHERE {names_of.quote(key.name)} = ANY('{array_literal(keys)}')"
    with (
        psycopg_connection(connection).cursor() as cursor,
        cursor.copy(f"COPY ({source}) TO STDOUT (FORMAT BINARY)".encode()) as copy,
    ):
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
