"""The writer for PostgreSQL: binary COPY, into the table itself, or into a temporary one and from there on conflict."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, TypeAlias

from sqlalchemy import Connection

from specprod.database.naming import Names
from specprod.database.postgresql.copying import BinaryPacker
from specprod.database.postgresql.driver import psycopg_connection
from specprod.database.writing import Counts, Writer
from specprod.model import SchemaMixin
from specprod.model.converting import Columns

__all__ = ["CopyWriter"]

#: Numbers of rows, and their pieces of the stream.
Prepared: TypeAlias = Sequence[tuple[int, list[memoryview]]]


class CopyWriter(Writer):
    """Writes columns by binary COPY; see `specprod.database.postgresql.copying`."""

    differs: ClassVar[str] = "IS DISTINCT FROM"

    def __init__(self, names: Names, cls: type[SchemaMixin]) -> None:
        super().__init__(names, cls)
        self._packer = BinaryPacker(self.table)
        self._names = names.columns(self._packer.columns)
        self._staging = names.quote(f"specprod_{self.table.name}")

    def prepare(self, columns: Columns) -> tuple[int, list[memoryview]]:
        """Pack columns for COPY."""
        return len(next(iter(columns.values()))), self._packer.pack(columns)

    def append(self, connection: Connection, prepared: Prepared) -> int:
        """Insert rows and return their number."""
        return self._copy(connection, self.names.name(self.cls), prepared)

    def _copy(self, connection: Connection, name: str, prepared: Prepared) -> int:
        with (
            psycopg_connection(connection).cursor() as cursor,
            cursor.copy(f"COPY {name} ({self._names}) FROM STDIN (FORMAT BINARY)".encode()) as copy,
        ):
            for piece in self._packer.stream(piece for _, pieces in prepared for piece in pieces):
                copy.write(piece)
        return sum(rows for rows, _ in prepared)

    def _stage(self, connection: Connection, prepared: Prepared) -> tuple[int, str]:
        """Copy rows into a temporary table, which lives as long as the session and is emptied by each commit."""
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {self._staging} (LIKE {self.names.name(self.cls)}) "
            "ON COMMIT DELETE ROWS"
        )
        connection.exec_driver_sql(f"TRUNCATE {self._staging}")
        rows = self._copy(connection, self._staging, prepared)
        # In the order of the keys, so that two transactions with rows in common cannot wait for each other.
        key = self.names.columns(self.key)
        statement = f"INSERT INTO {self.names.name(self.cls)} ({self._names}) SELECT {self._names} "
        return rows, f"{statement} FROM {self._staging} ORDER BY {key} "

    def insert_new(self, connection: Connection, prepared: Prepared) -> Counts:
        """Insert the rows whose key is not there yet."""
        rows, insert = self._stage(connection, prepared)
        inserted = connection.exec_driver_sql(insert + self.conflict(False, self._packer.columns)).rowcount
        return Counts(inserted=inserted, unchanged=rows - inserted)

    def upsert(self, connection: Connection, prepared: Prepared, keep: Collection[str] = ()) -> Counts:
        """Insert new rows, update those that differ."""
        rows, insert = self._stage(connection, prepared)
        # xmax is 0 in a row that was inserted, and the number of our transaction in one that was updated.
        result = connection.exec_driver_sql(
            f"WITH done AS ({insert} {self.conflict(True, self._packer.columns, keep)} RETURNING xmax = 0 AS new) "
            "SELECT count(*) FILTER (WHERE new), count(*) FILTER (WHERE NOT new) FROM done"
        ).one()
        return Counts(result[0], result[1], rows - result[0] - result[1])
