"""An SQLite file that holds a production."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.engine import URL, Connection, Engine

from specprod.database import cone
from specprod.database.catalogue import Keys
from specprod.database.complaints import Complaints
from specprod.database.interface import Database
from specprod.database.misfits import Misfits
from specprod.database.sqlite import failures, fetching, locking, opening, references, swapping, values
from specprod.database.sqlite.ddl import SqliteStatements
from specprod.database.sqlite.driver import sqlite_connection
from specprod.database.sqlite.matching import PageMatcher
from specprod.database.sqlite.sizes import SIZES
from specprod.database.sqlite.writer import PageWriter
from specprod.errors import ConfigurationError
from specprod.model import SchemaMixin, table_of
from specprod.model.converting import Columns

__all__ = ["SqliteDatabase"]

#: Seconds that a statement waits for another writer of the same file.
_TIMEOUT = 30
# Numbers that SQLite gives as one text.
_AT_ONCE = 100_000
#: Option of a connection that is about to write.
_WRITES = "specprod_writes"


class SqliteDatabase(Database):
    """An SQLite file; see `Database`."""

    kind = "sqlite"
    sizes = SIZES
    complaints: ClassVar[Complaints] = failures
    one_writer = True
    numbered_rows = True
    insert: ClassVar[Any] = staticmethod(sqlite.insert)
    dialect = SQLiteDialect

    def __init__(self, url: URL, schema: str | None = None, *, create: bool = False, readonly: bool = False) -> None:
        # There are no schemas in a file.
        super().__init__(url, create=create, readonly=readonly)
        # The transaction of the one writer cannot end while others read.
        self.turn = threading.RLock()

    @classmethod
    def claims(cls, url: URL) -> bool:
        """Whether a URL is one of SQLite."""
        return url.get_backend_name() == "sqlite"

    @classmethod
    def url_of(cls, path: str | Path) -> URL:
        """Make the URL of a file."""
        return URL.create("sqlite+pysqlite", database=str(path))

    @classmethod
    def completed(cls, url: URL, username: str | None, hostname: str | None) -> URL:
        """Complete a URL; a file has no user and no host.

        Raises
        ------
        ConfigurationError
            If it names no file, but a database in memory.
        """
        if not url.database or ":memory:" in url.database or url.query.get("mode") == "memory":
            raise ConfigurationError("a database in memory ends with its connection; expected the name of a file")
        return url.set(drivername="sqlite+pysqlite")

    def _make_engine(self, url: URL) -> Engine:
        engine = sa.create_engine(url if "timeout" in url.query else url.update_query_dict({"timeout": str(_TIMEOUT)}))
        opener = opening.Opener(Path(str(url.database)).absolute(), create=self.create, readonly=self.readonly)
        sa.event.listen(engine, "do_connect", opener)
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "checkout", _check_references)
        sa.event.listen(engine, "begin", _begin)
        return engine

    def _make_statements(self) -> SqliteStatements:
        return SqliteStatements(self.names, self.engine.dialect)

    def check(self) -> None:
        """Make sure that the file is there and is a database; see `Database.check`."""
        opening.check_file(Path(str(self.url.database)), create=self.create)
        super().check()

    def _before_transaction(self, connection: Connection, check_references: bool) -> None:
        sqlite_connection(connection).execute(f"PRAGMA foreign_keys = {'ON' if check_references else 'OFF'}")
        connection.execution_options(**{_WRITES: True})

    def _lock(self, shared: bool) -> contextlib.AbstractContextManager[None]:
        return locking.locked(self, shared)

    def is_locked(self) -> bool:
        """Whether there is a lock file; one that was killed leaves it behind."""
        return locking.lock_file(self).exists()

    def writable(self) -> bool:
        """Whether this user can write to the file, and make others beside it."""
        path = Path(os.path.realpath(str(self.url.database)))
        allowed = os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))
        return allowed and not self.readonly

    def is_there(self) -> bool:
        """Whether there is the file."""
        return swapping.real_path(self).exists()

    def loading(self) -> SqliteDatabase:
        """Give the file of this name and ``.loading``; whatever links lead to it, it is beside the file itself."""
        return type(self)(self.url.set(database=f"{swapping.real_path(self)}.loading"), create=True)

    def kept(self) -> str:
        """Name the file of this name and ``.old``."""
        return f"{swapping.real_path(self)}.old"

    def dependents(self) -> list[str]:
        """Say what keeps the file from being replaced."""
        return swapping.obstacles(swapping.real_path(self))

    def replace_by(self, loading: Database, *, keep_old: bool) -> None:
        """Rename files; see `Database.replace_by`."""
        loading.close()
        self.close()
        swapping.replace(swapping.real_path(self), swapping.real_path(loading), self.kept() if keep_old else None)

    def free_bytes(self) -> int | None:
        """Tell how much room the file system of the file has."""
        directory = Path(os.path.realpath(str(self.url.database))).parent
        return shutil.disk_usage(directory).free if directory.is_dir() else None

    def row_place(self, table: str) -> sa.ColumnElement[Any]:
        """Give the number of the row."""
        return sa.literal_column(f"{self.quote(table)}.rowid")

    def writer(self, cls: type[SchemaMixin]) -> PageWriter:
        """Make the bulk writer of a table."""
        return PageWriter(self.names, cls, self.statements.inline_key(table_of(cls)))

    def fetch(
        self,
        connection: Connection,
        cls: type[SchemaMixin],
        keys: npt.NDArray[Any] | None = None,
        *,
        names: Sequence[str] | None = None,
        misfits: Misfits | None = None,
        batch: int | None = None,
    ) -> Iterator[Columns]:
        """Yield rows as columns; see `Database.fetch`."""
        return fetching.fetch(self.names, connection, cls, keys, names, misfits, batch or fetching.BATCH)

    def matcher(self, connection: Connection, cls: type[SchemaMixin], names: Sequence[str]) -> PageMatcher | None:
        """Make what compares rows in SQLite, if the table has the index of its key; see `Database.matcher`."""
        key = self.statements.primary_key(cls)
        there = key is None or key[0] in self.keys(connection).names
        return PageMatcher(self.writer(cls), connection, names) if there else None

    def fetch_integers(self, connection: Connection, cls: type[SchemaMixin], column: str) -> npt.NDArray[np.int64]:
        """Read one column of integers, many as one text of JSON: a row each would take ten times as long."""
        table, name = self.name(cls), self.quote(column)
        numbers = np.empty(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one(), dtype=np.int64)
        query = (
            f"SELECT json_group_array({name}) FROM "
            f"(SELECT {name} FROM {table} WHERE {name} > ? ORDER BY {name} LIMIT {_AT_ONCE})"
        )
        read, last = 0, -(1 << 63)
        while read < numbers.size:
            part = json.loads(connection.exec_driver_sql(query, (last,)).scalar_one())
            numbers[read : read + len(part)] = part
            read, last = read + len(part), part[-1]
        return numbers

    def as_rows(self, values_: npt.NDArray[Any]) -> tuple[str, tuple[str]]:
        """Make rows of values; see `Database.as_rows`."""
        return values.as_rows(values_)

    def create_temporary(self, connection: Connection, table: str, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Create an empty temporary table; see `Database.create_temporary`."""
        first, *others = (self.quote(name) for name in columns)
        connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {table} ({', '.join([f'{first} UNIQUE', *others])})")

    def insert_values(self, connection: Connection, table: str, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Insert columns of integers into a temporary table, row by row: so few columns need no faster way."""
        places = ", ".join("?" * len(columns))
        rows = zip(*(values.stored(column).tolist() for column in columns.values()), strict=True)
        sqlite_connection(connection).executemany(f"INSERT INTO temp.{table} VALUES ({places})", rows)

    def keys(self, connection: Connection) -> Keys:
        """Ask the catalogue which indexes and references there are."""
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'index'").scalars()
        return Keys(frozenset(names) | references.names(connection))

    def declare_references(self, connection: Connection, cls: type[SchemaMixin], names: Collection[str]) -> None:
        """Make references part of a table; see `Database.declare_references`."""
        wanted = set(names) - references.names(connection)
        clauses = [text for name, _, text in self.statements.inline_references(cls) if name in wanted]
        if clauses:
            references.declare(connection, table_of(cls).name, clauses)

    def _within(self, table: type[SchemaMixin], circle: cone.Circle) -> sa.ColumnElement[bool]:
        """Make the condition of a cone, which the index of declination and right ascension serves."""
        return cone.within(table, circle)


def _prepare(connection: sqlite3.Connection, _: object) -> None:
    """Give transactions to SQLAlchemy, and settings that keep the file safe from the end of a process."""
    connection.isolation_level = None
    # Of a file that is made now: rows are wide, and pages of this size are written a sixth faster than the usual ones.
    connection.execute("PRAGMA page_size = 32768")
    connection.execute("PRAGMA cache_size = -24576")
    connection.execute("PRAGMA temp_store = FILE")


def _check_references(connection: sqlite3.Connection, *_: object) -> None:
    # Whoever had the connection before may have done without.
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    # The driver's own BEGIN comes too late: it would leave DDL outside of the transaction. Who writes waits for other
    # writers here: a transaction that reads first and cannot write then is not let wait, but refused.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
