"""The writer for SQLite: ready tuples, many at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sqlalchemy import Connection

from specprod.database.writers import Counts, Writer
from specprod.identifiers import INT128, as_decimal_text
from specprod.model import SchemaMixin
from specprod.model.casting import Array
from specprod.model.converting import Columns

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["TupleWriter", "sqlite_values"]

Prepared: TypeAlias = Sequence[Columns]

#: Rows that are Python objects at a time; few enough to stay in the caches of the processor.
_ROWS = 2000


def sqlite_values(values: Array) -> list[Any]:
    """Turn a column into the Python values that the sqlite3 module takes: int, float, str."""
    if values.dtype == INT128:
        return list(as_decimal_text(values).astype("U39").tolist())
    if values.dtype.kind == "M":
        text = np.char.replace(np.datetime_as_string(values, unit="us"), "T", " ")
        return list(text.tolist())
    if values.dtype.kind == "S":
        # Texts repeat; each distinct one becomes a Python object once.
        if values.dtype.itemsize <= 8:
            codes, inverse = np.unique(values.astype("S8").view(np.uint64), return_inverse=True)
            distinct = np.array([text.decode("utf-8") for text in codes.view("S8").tolist()], dtype=object)
            return list(distinct[inverse.ravel()].tolist())
        return [text.decode("utf-8") for text in values.tolist()]
    return list(values.tolist())


class TupleWriter(Writer):
    """Writes columns by ``executemany``."""

    def __init__(self, database: Database, cls: type[SchemaMixin]) -> None:
        super().__init__(database, cls)
        names = [item.name for item in self.table.columns]
        quoted = ", ".join(database.quote(name) for name in names)
        self._insert = f"INSERT INTO {database.name(cls)} ({quoted}) VALUES ({', '.join('?' * len(names))})"
        self._names = names

    def prepare(self, columns: Columns) -> Columns:
        """Do nothing yet: as Python objects the values take ten times as much memory as they do in arrays."""
        return columns

    def _rows(self, prepared: Prepared) -> Iterator[tuple[Any, ...]]:
        """Yield the rows as tuples, made some at a time."""
        for columns in prepared:
            for start in range(0, _size([columns]), _ROWS):
                lists = (sqlite_values(columns[name][start : start + _ROWS]) for name in self._names)
                yield from zip(*lists, strict=True)

    def _many(self, connection: Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> int:
        driver = connection.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            raise TypeError("expected a connection of sqlite3")
        before = driver.total_changes
        driver.executemany(statement, rows)
        return driver.total_changes - before

    def append(self, connection: Connection, prepared: Prepared) -> int:
        """Insert rows and return their number."""
        return self._many(connection, self._insert, self._rows(prepared))

    def insert_new(self, connection: Connection, prepared: Prepared) -> Counts:
        """Insert the rows whose key is not there yet."""
        statement = f"{self._insert} {self.conflict(False, self._names)}"
        inserted = self._many(connection, statement, self._rows(prepared))
        return Counts(inserted=inserted, unchanged=_size(prepared) - inserted)

    def upsert(self, connection: Connection, prepared: Prepared, keep: Collection[str] = ()) -> Counts:
        """Insert new rows, update those that differ."""
        (key,) = self.key
        # One parameter holds all keys, however many they are.
        there = connection.exec_driver_sql(
            f"SELECT count(*) FROM {self.database.name(self.cls)} "
            f"WHERE {self.database.quote(key)} IN (SELECT value FROM json_each(?))",
            (json.dumps([value for columns in prepared for value in sqlite_values(columns[key])]),),
        ).scalar_one()
        statement = f"{self._insert} {self.conflict(True, self._names, keep)}"
        changed = self._many(connection, statement, self._rows(prepared))
        total = _size(prepared)
        return Counts(total - int(there), changed - total + int(there), total - changed)


def _size(prepared: Prepared) -> int:
    return sum(len(next(iter(columns.values()))) for columns in prepared)
