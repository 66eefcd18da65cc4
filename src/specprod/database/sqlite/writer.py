"""The writer for SQLite: rows made into a database in memory, and copied from there by SQLite itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar, TypeAlias

from sqlalchemy import Connection

from specprod.database.naming import Names
from specprod.database.sqlite.driver import sqlite_connection
from specprod.database.sqlite.pages import PagePacker
from specprod.database.writing import Counts, Writer
from specprod.model import SchemaMixin
from specprod.model.converting import Columns

__all__ = ["PageWriter"]

#: Numbers of rows, and the databases that hold them.
Prepared: TypeAlias = Sequence[tuple[int, list[memoryview]]]

_PIECE = "specprod_piece"


class PageWriter(Writer):
    """Writes columns by INSERT from a database in memory; see `specprod.database.sqlite.pages`."""

    differs: ClassVar[str] = "IS NOT"

    def __init__(self, names: Names, cls: type[SchemaMixin], inline_key: str | None) -> None:
        super().__init__(names, cls)
        self._packer = PagePacker(self.table, inline_key)
        self._columns = [item.name for item in self.table.columns]
        columns = names.columns(self._columns)
        self._insert = f"INSERT INTO {names.name(cls)} ({columns}) SELECT {columns} FROM {_PIECE}.piece"

    def prepare(self, columns: Columns) -> tuple[int, list[memoryview]]:
        """Pack columns into databases."""
        return len(next(iter(columns.values()))), self._packer.pack(columns)

    def _pieces(self, connection: Connection, prepared: Prepared) -> Iterator[sqlite3.Connection]:
        """Put one database after the other in its place beside the file, and give the connection."""
        driver = sqlite_connection(connection)
        if not any(name == _PIECE for _, name, _ in driver.execute("PRAGMA database_list")):
            driver.execute(f"ATTACH ':memory:' AS {_PIECE}")
        for _, images in prepared:
            for image in images:
                driver.deserialize(image, name=_PIECE)
                yield driver
        # The memory of the last one is given back; the place itself cannot be left before the transaction ends.
        driver.deserialize(self._packer.empty, name=_PIECE)

    def query(self, connection: Connection, prepared: Prepared, statement: str) -> Iterator[tuple[int, ...]]:
        """Yield the row that a query gives for each database of rows, which it names ``{piece}``."""
        for driver in self._pieces(connection, prepared):
            yield driver.execute(statement.format(piece=f"{_PIECE}.piece")).fetchone()

    def append(self, connection: Connection, prepared: Prepared) -> int:
        """Insert rows and return their number."""
        table = self.names.name(self.cls)
        there = [row[1] for row in connection.exec_driver_sql(f"PRAGMA main.table_info({table})")]
        # Rows whose columns have the same order are copied as they are, but only by this very statement.
        same = f"INSERT INTO main.{table} SELECT * FROM {_PIECE}.piece"
        insert = same if there == self._columns else self._insert
        return sum(driver.execute(insert).rowcount for driver in self._pieces(connection, prepared))

    def insert_new(self, connection: Connection, prepared: Prepared) -> Counts:
        """Insert the rows whose key is not there yet."""
        inserted = 0
        # Without a condition, ON would belong to the SELECT.
        statement = f"{self._insert} WHERE true {self.conflict(False, self._columns)}"
        for driver in self._pieces(connection, prepared):
            inserted += driver.execute(statement).rowcount
        return Counts(inserted=inserted, unchanged=_size(prepared) - inserted)

    def upsert(self, connection: Connection, prepared: Prepared, keep: Collection[str] = ()) -> Counts:
        """Insert new rows, update those that differ."""
        there = changed = 0
        key = self.names.quote(self.key[0])
        count = (
            f"SELECT count(*) FROM main.{self.names.name(self.cls)} WHERE {key} IN (SELECT {key} FROM {_PIECE}.piece)"
        )
        statement = f"{self._insert} WHERE true {self.conflict(True, self._columns, keep)}"
        for driver in self._pieces(connection, prepared):
            there += driver.execute(count).fetchone()[0]
            changed += driver.execute(statement).rowcount
        total = _size(prepared)
        return Counts(total - there, changed - total + there, total - changed)


def _size(prepared: Prepared) -> int:
    return sum(rows for rows, _ in prepared)
