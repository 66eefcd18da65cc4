"""The default storage: four tables beside those of the production, so that rows and records commit together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy import BigInteger, DateTime, ForeignKey, Integer, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from specprod.database.failures import Retries
from specprod.database.kinds import KINDS
from specprod.errors import DatabaseError
from specprod.results.base import PipelineStorage, Record, State, utc

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["OrmPipelineResultsStorage", "ResultsBase"]

R = TypeVar("R", bound=Record)
T = TypeVar("T")

_DONE = sa.text("state = 'done'")


class ResultsBase(DeclarativeBase):
    """Base of the tables of the storage."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )


class _Common:
    id: Mapped[int] = mapped_column(Integer, primary_key=True, sort_order=-9, comment="Number of the record")
    name: Mapped[str] = mapped_column(Text, sort_order=-7, comment="The pipeline, the object or the task")
    state: Mapped[str] = mapped_column(Text, sort_order=-6, comment="pending, running, done, failed or cancelled")
    message: Mapped[str] = mapped_column(Text, sort_order=-5, comment="Kind of error and its text, after a failure")
    started: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), sort_order=-4, comment="Start, UTC")
    completed: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), sort_order=-3, comment="End, UTC")
    input_data: Mapped[Any] = mapped_column(sa.JSON, sort_order=-2, comment="What the work was begun with")


class PipelineExecution(_Common, ResultsBase):
    """Runs of commands."""

    __tablename__ = "pipeline_execution"
    __table_args__ = ({"comment": "Runs of commands"},)

    parent_id: Mapped[int | None] = mapped_column(Integer, sort_order=-8, comment="The run of which it is a part")
    command: Mapped[str] = mapped_column(Text, comment="Words of the command")
    versions: Mapped[Any] = mapped_column(sa.JSON, comment="Versions of packages")
    host: Mapped[str] = mapped_column(Text, comment="Machine")
    user: Mapped[str] = mapped_column(Text, comment="User on that machine")
    pid: Mapped[int | None] = mapped_column(Integer, comment="Number of the process")


class PipelineResult(_Common, ResultsBase):
    """What a run did for a stage or a tile."""

    __tablename__ = "pipeline_result"
    __table_args__ = ({"comment": "What a run did for a stage or a tile"},)

    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("pipeline_execution.id"), index=True, sort_order=-8, comment="The run"
    )


class TaskExecution(_Common, ResultsBase):
    """What a run did for a table."""

    __tablename__ = "task_execution"
    __table_args__ = ({"comment": "What a run did for a table"},)

    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("pipeline_result.id"), index=True, sort_order=-8, comment="The stage or tile of the run"
    )


_only_done: dict[str, Any] = {f"{kind.kind}_where": _DONE for kind in KINDS}


class TaskResult(_Common, ResultsBase):
    """Ranges of rows of files that were loaded."""

    __tablename__ = "task_result"
    __table_args__ = (
        sa.Index("ix_task_result_file", "table_name", "file", "first_row"),
        # Two loaders cannot load the same rows, whatever becomes of their locks: the second one's record is refused.
        # What failed or was cancelled may be there as often as it was tried.
        sa.Index(
            "ix_task_result_unique",
            "table_name",
            "file",
            "first_row",
            unique=True,
            **_only_done,
        ),
        {"comment": "Ranges of rows of files that were loaded, each written with its rows"},
    )

    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("task_execution.id"), index=True, sort_order=-8, comment="The table of the run"
    )
    table_name: Mapped[str | None] = mapped_column(Text, comment="Table")
    file: Mapped[str | None] = mapped_column(Text, comment="File, below the root of the production")
    hdu: Mapped[str | None] = mapped_column(Text, comment="HDU")
    first_row: Mapped[int | None] = mapped_column(BigInteger, comment="First row in the file")
    last_row: Mapped[int | None] = mapped_column(BigInteger, comment="Row after the last")
    file_rows: Mapped[int | None] = mapped_column(BigInteger, comment="Number of rows of the file")
    rows: Mapped[int | None] = mapped_column(BigInteger, comment="Rows written")
    rejected: Mapped[int | None] = mapped_column(BigInteger, comment="Rows that violate a rule, left out")
    size: Mapped[int | None] = mapped_column(BigInteger, comment="Size of the file [byte]")
    mtime_ns: Mapped[int | None] = mapped_column(BigInteger, comment="Time of modification of the file [ns]")
    datasum: Mapped[int | None] = mapped_column(BigInteger, comment="Checksum of the rows, by the rule of DATASUM")
    options: Mapped[str | None] = mapped_column(Text, comment="Arguments that change the result")


_TABLES: dict[str, sa.Table] = {table.name: table for table in ResultsBase.metadata.sorted_tables}
_INSERTS = {name: sa.insert(table).returning(table.c.id) for name, table in _TABLES.items()}


class OrmPipelineResultsStorage(PipelineStorage):
    """Stores records in the schema of a production.

    Parameters
    ----------
    database : Database
    connection : sqlalchemy.Connection, optional
        In whose transaction to write; by default each write is one of its own, tried again as `retries` says.
    retries : Retries, optional
    """

    transactional = True

    def __init__(
        self, database: Database, connection: sa.Connection | None = None, retries: Retries | None = None
    ) -> None:
        self.database = database
        self._connection = connection
        self._retries = retries or Retries()

    def _run(self, work: Callable[[sa.Connection], T]) -> T:
        if self._connection is not None:
            return work(self._connection)

        def transaction() -> T:
            with self.database.turn, self.database.begin() as connection:
                return work(connection)

        return self._retries.run(transaction, "record of results")

    def exists(self) -> bool:
        """Whether the tables are there."""
        names = self._read(lambda connection: sa.inspect(connection).get_table_names(schema=self.database.schema))
        return set(names).issuperset(_TABLES)

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        if self._connection is not None:
            return work(self._connection)

        def question() -> T:
            # It neither waits for those who write, nor needs the right to.
            with self.database.turn, self.database.connect() as connection:
                return work(connection)

        return self._retries.run(question, "record of results")

    def create(self) -> None:
        """Create the tables that are not there."""
        self._run(ResultsBase.metadata.create_all)

    def drop(self) -> None:
        """Drop the tables, and with them all that is known of loads."""
        self._run(ResultsBase.metadata.drop_all)

    def bound(self, connection: sa.Connection) -> Self:
        """Give a storage that writes in the transaction of a connection."""
        return type(self)(self.database, connection)

    def insert(self, record: Record) -> None:
        """Store a new record and set its number, by one statement."""
        values = record.values()
        statement = _INSERTS[record.kind]
        record.set_id(self._run(lambda connection: connection.execute(statement, values).scalar_one()))

    def save(self, record: Record) -> None:
        """Store the present values of a record.

        Raises
        ------
        ValueError
            If it was never stored.
        DatabaseError
            If it is not there any more.
        """
        table = _TABLES[record.kind]
        statement = sa.update(table).where(table.c.id == record.number()).values(record.values())
        if not self._run(lambda connection: connection.execute(statement).rowcount):
            raise DatabaseError(f"{record.kind} {record.id} ({record.name!r}) is not in the database any more")

    def select(self, cls: type[R], **filters: Any) -> Iterator[R]:
        """Yield the records of a kind whose values equal those given."""
        cls.check_filters(filters)
        table = _TABLES[cls.kind]
        query = sa.select(table).filter_by(**filters).order_by(table.c.id)
        return (_record(cls, row) for row in self._read(lambda connection: connection.execute(query).mappings().all()))

    def delete(self, cls: type[Record], **filters: Any) -> int:
        """Delete the records of a kind whose values equal those given."""
        cls.check_filters(filters)
        table = _TABLES[cls.kind]
        conditions = [table.c[name] == value for name, value in filters.items()]
        statement = sa.delete(table).where(*conditions)
        return self._run(lambda connection: int(connection.execute(statement).rowcount))


def _record(cls: type[R], row: Mapping[Any, Any]) -> R:
    values = {str(name): value for name, value in row.items()}
    for name in ("started", "completed"):
        # SQLite keeps no zone, and PostgreSQL gives that of the session.
        values[name] = None if values[name] is None else utc(values[name])
    return cls(**{**values, "state": State(values["state"])})
