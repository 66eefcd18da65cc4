"""Connections to a database, transactions, and the lock of those who load, whatever kind of database it is."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.orm import Session

from specprod.configuration.passwords import mask_password
from specprod.database.complaints import Complaints
from specprod.database.parameters import accept_numpy
from specprod.errors import ConnectionFailedError

__all__ = ["Connections"]


class Connections(ABC):
    """The part of `specprod.database.interface.Database` that connects."""

    kind: ClassVar[str]  #: Name of the kind: postgresql, sqlite.
    complaints: ClassVar[Complaints]  #: What the errors of its driver mean.

    def __init__(self, url: URL, schema: str | None = None, *, create: bool = False, readonly: bool = False) -> None:
        self.url = url
        self.schema = schema
        self.create = create
        self.readonly = readonly
        engine = self._make_engine(url)
        accept_numpy(engine)
        self.engine: Engine = engine.execution_options(schema_translate_map={None: schema})
        # How this object, or one beside it, holds the lock: alone, shared.
        self._held: list[str] = []
        self.turn: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown!r}, schema={self.schema!r})"

    @abstractmethod
    def _make_engine(self, url: URL) -> Engine:
        """Make the engine, with the settings of a session."""

    @property
    def shown(self) -> str:
        """The URL, for messages: without passwords."""
        return mask_password(self.url.render_as_string(hide_password=False))

    @property
    def place(self) -> str:
        """What holds the tables, for messages: the schema, or the file."""
        return f"schema {self.schema}" if self.schema else str(self.url.database)

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
        except Exception as error:
            if not isinstance(error, sa.exc.DBAPIError) and not self.complaints.is_own(error):
                raise
            reason = " ".join(str(getattr(error, "orig", error)).split())
            raise ConnectionFailedError(f"cannot open {self.shown}: {reason}") from error
        with connection:
            yield connection

    def check(self) -> None:
        """Make sure that the database is there and can be opened.

        Raises
        ------
        ConnectionFailedError
        """
        with self.connect():
            pass

    @contextlib.contextmanager
    def begin(self, *, check_references: bool = True, durable: bool = False) -> Iterator[Connection]:
        """Connect and begin a transaction that writes; it is committed at the end, or rolled back by an error.

        Parameters
        ----------
        check_references : bool
            Whether each row is checked as it comes, where that can be chosen.
        durable : bool
            Whether the end of the transaction waits for the disk, whatever the default of the server is: what is
            reported as done must not be lost in a crash.
        """
        with self.connect() as connection:
            self._before_transaction(connection, check_references)
            with connection.begin():
                if durable:
                    self._make_durable(connection)
                yield connection

    def _before_transaction(self, connection: Connection, check_references: bool) -> None:
        """Set what cannot be set within a transaction."""

    def _make_durable(self, connection: Connection) -> None:
        """Let the end of this transaction wait for the disk."""

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session for queries and objects."""
        with self.connect() as connection, Session(connection) as session:
            yield session

    @contextlib.contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Hold the schema, or the file, until the end of the block or of the process, however that ends.

        Who holds it already may do so again.

        Parameters
        ----------
        shared : bool
            Whether others may hold it too, if they share it as well.

        Raises
        ------
        LockedError
            If another process holds it; the message says which.
        """
        if "alone" in self._held or (shared and self._held):
            yield
            return
        with self._lock(shared):
            self._held.append("shared" if shared else "alone")
            try:
                yield
            finally:
                self._held.pop()

    @abstractmethod
    def _lock(self, shared: bool) -> contextlib.AbstractContextManager[None]:
        """Hold the lock until the end of the block."""

    @abstractmethod
    def is_locked(self) -> bool:
        """Whether any process, on whatever machine, holds the schema or the file at this moment."""

    @abstractmethod
    def writable(self) -> bool:
        """Whether this user can change what the schema, or the file, holds."""

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
