"""Tables of SQLite as columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from specprod.database.naming import Names
from specprod.database.sqlite.driver import sqlite_connection
from specprod.database.sqlite.values import as_rows
from specprod.model import SchemaMixin, table_of
from specprod.model.casting import cast
from specprod.model.converting import Columns, database_dtype
from specprod.survey.identifiers import INT128

__all__ = ["fetch"]

_BATCH = 20000


def fetch(
    names_of: Names, connection: Connection, cls: type[SchemaMixin], keys: npt.NDArray[Any] | None
) -> Iterator[Columns]:
    """Yield all rows of a table, or those of some keys, as `specprod.database.interface.Database.fetch` does."""
    table = table_of(cls)
    names = [item.name for item in table.columns]
    source = f"SELECT {names_of.columns(names)} FROM {names_of.name(cls)}"
    parameters: tuple[str, ...] = ()
    if keys is not None:
        (key,) = table.primary_key.columns
        rows_of_keys, parameters = as_rows(keys)
        source += f" WHERE {names_of.quote(key.name)} IN (SELECT value FROM {rows_of_keys})"
    cursor = sqlite_connection(connection).cursor()
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
