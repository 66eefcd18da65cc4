"""A database with a production in it: which one, how to reach it, and what it can do."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.orm import Session

from specprod.errors import ConfigurationError, ConnectionFailedError

if TYPE_CHECKING:
    from specprod.model import SchemaMixin

__all__ = ["Database", "connect", "database_url"]

logger = logging.getLogger(__name__)

#: Seconds that a statement waits for another writer of the same SQLite file.
_SQLITE_TIMEOUT = 30


def database_url(target: str | Path | URL, *, username: str | None = None, hostname: str | None = None) -> URL:
    """Turn what a person writes into a URL.

    Parameters
    ----------
    target : str, path or URL
        A PostgreSQL URL, or the name of an SQLite file.
    username, hostname : str, optional
        Used where the URL of a server does not have them. Passwords, services and the rest are for libpq to find:
        ``~/.pgpass``, ``PGSERVICE``, ``PGPASSFILE``, ``PGHOST`` ….

    Raises
    ------
    ConfigurationError
        If the URL is of another kind of database, or malformed.
    """
    if isinstance(target, URL):
        url = target
    elif "://" in str(target):
        try:
            url = make_url(str(target))
        except (sa.exc.ArgumentError, ValueError) as error:
            raise ConfigurationError("the database URL cannot be parsed") from error
    else:
        url = URL.create("sqlite", database=str(target))
    backend = url.get_backend_name()
    if backend in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
        url = url if url.username or not username else url.set(username=username)
        return url if url.host or not hostname else url.set(host=hostname)
    if backend == "sqlite":
        return url.set(drivername="sqlite+pysqlite")
    raise ConfigurationError(f"database {backend!r} is not supported; expected postgresql://… or an SQLite file")


class Database:
    """A PostgreSQL schema or an SQLite file that holds a production.

    Parameters
    ----------
    url : sqlalchemy.engine.URL
        After `database_url`.
    schema : str, optional
        Schema in PostgreSQL, ``public`` by default; SQLite has none.

    Attributes
    ----------
    engine : sqlalchemy.engine.Engine
        Statements on the tables of `specprod.model` go to the schema of this database.
    turn : context manager
        What threads of a load hold while they use the database. SQLite has one writer, whose transaction cannot end
        while others read, so that there they take turns; in PostgreSQL this does nothing.
    """

    def __init__(self, url: URL, schema: str | None = None) -> None:
        self.url = url
        self.is_postgresql = url.get_backend_name() == "postgresql"
        self.schema = (schema or "public") if self.is_postgresql else None
        self.turn: contextlib.AbstractContextManager[Any] = (
            contextlib.nullcontext() if self.is_postgresql else threading.RLock()
        )
        options: dict[str, Any] = {}
        if self.is_postgresql:
            options["connect_args"] = {"application_name": "specprod"}
            options["pool_size"] = 8
            options["pool_pre_ping"] = True
        else:
            options["connect_args"] = {"timeout": _SQLITE_TIMEOUT}
        engine = sa.create_engine(url, **options)
        if not self.is_postgresql:
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        self.engine: Engine = engine.execution_options(schema_translate_map={None: self.schema})

    def __repr__(self) -> str:
        return f"Database({self.url.render_as_string(hide_password=True)!r}, schema={self.schema!r})"

    @property
    def classes(self) -> SimpleNamespace:
        """The classes of the tables, by name."""
        from specprod import model

        return SimpleNamespace(**{mapper.class_.__name__: mapper.class_ for mapper in model.Base.registry.mappers})

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """Connect, for statements that are committed by the caller.

        Raises
        ------
        ConnectionFailedError
            If the server cannot be reached or refuses, or the file cannot be opened.
        """
        try:
            connection = self.engine.connect()
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            reason = " ".join(str(getattr(error, "orig", error)).split())
            raise ConnectionFailedError(
                f"cannot open {self.url.render_as_string(hide_password=True)}: {reason}"
            ) from error
        with connection:
            yield connection

    @contextlib.contextmanager
    def begin(self, *, check_references: bool = True) -> Iterator[Connection]:
        """Connect and begin a transaction, which is committed at the end, or rolled back by an error.

        Parameters
        ----------
        check_references : bool
            Whether SQLite checks each row as it comes. PostgreSQL does so as soon as there is a reference.
        """
        with self.connect() as connection:
            if not self.is_postgresql:
                # SQLite takes this only outside of a transaction.
                driver: Any = connection.connection.driver_connection
                driver.execute(f"PRAGMA foreign_keys = {'ON' if check_references else 'OFF'}")
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session for queries and objects."""
        with self.connect() as connection, Session(connection) as session:
            yield session

    def name(self, table: type[SchemaMixin] | str) -> str:
        """Full name of a table or index of this schema, quoted for SQL."""
        if not isinstance(table, str):
            from specprod.model import table_of

            table = table_of(table).name
        return ".".join(self.quote(part) for part in (self.schema, table) if part)

    def quote(self, identifier: str) -> str:
        """Quote an identifier for SQL."""
        return self.engine.dialect.identifier_preparer.quote_identifier(identifier)

    @cached_property
    def has_q3c(self) -> bool:
        """Whether the server has the extension q3c, installed in this database."""
        if not self.is_postgresql:
            return False
        with self.connect() as connection:
            return connection.scalar(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'q3c'")) is not None

    def within(self, table: type[SchemaMixin], ra: float, dec: float, radius: float) -> sa.ColumnElement[bool]:
        """Make the condition that an object lies within a circle on the sky; see `specprod.database.cone.within`."""
        from specprod.database.cone import within

        return within(table, ra, dec, radius, q3c=self.has_q3c)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    """Give transactions to SQLAlchemy, and settings that keep the file safe from the end of a process."""
    connection.isolation_level = None
    # Of a file that is made now: rows are wide, and pages of this size are written a sixth faster than the usual ones.
    connection.execute("PRAGMA page_size = 32768")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -24576")
    connection.execute("PRAGMA temp_store = FILE")


def _begin_sqlite(connection: Connection) -> None:
    # The driver's own BEGIN comes too late: it would leave DDL outside of the transaction.
    connection.exec_driver_sql("BEGIN")


def connect(
    target: str | Path | URL | None = None,
    *,
    schema: str | None = None,
    username: str | None = None,
    hostname: str | None = None,
) -> Database:
    """Connect to a loaded production.

    Parameters
    ----------
    target : str, path or URL, optional
        A PostgreSQL URL or the name of an SQLite file. By default the environment variable ``SPECPROD_DATABASE``, else
        the configuration, else ``specprod.db`` in the current directory.
    schema : str, optional
        Schema of the production in PostgreSQL.
    username, hostname : str, optional
        See `database_url`.

    Returns
    -------
    Database

    Raises
    ------
    ConfigurationError, ConnectionFailedError

    Examples
    --------
    >>> from sqlalchemy import select
    >>> db = connect("specprod.db")                                             # doctest: +SKIP
    >>> with db.session() as session:                                           # doctest: +SKIP
    ...     session.scalars(select(db.classes.Zpix).limit(3)).all()
    """
    if target is None:
        from specprod.configuration import load_configuration

        configuration = load_configuration(environ=os.environ)
        target = configuration.get("database.url") or "specprod.db"
        schema = schema or configuration.get("database.schema")
    database = Database(database_url(target, username=username, hostname=hostname), schema)
    with database.connect():
        return database
