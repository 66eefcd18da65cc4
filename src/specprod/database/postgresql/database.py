"""A PostgreSQL schema that holds a production."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine import URL, Connection, Engine

from specprod.database import cone
from specprod.database.catalogue import Keys
from specprod.database.complaints import Complaints
from specprod.database.interface import Database
from specprod.database.misfits import Misfits
from specprod.database.postgresql import failures, fetching, locking, swapping, values
from specprod.database.postgresql.ddl import PostgresqlStatements
from specprod.database.postgresql.driver import psycopg_connection
from specprod.database.postgresql.settings import raise_memory, settle_session
from specprod.database.postgresql.sizes import SIZES
from specprod.database.postgresql.writer import CopyWriter
from specprod.errors import ConfigurationError, SchemaError
from specprod.model import SchemaMixin
from specprod.model.converting import Columns

__all__ = ["PostgresqlDatabase"]

#: Bytes of an identifier; more are cut with no more than a notice.
_LONGEST_NAME = 63
#: Some times the size of a pixel of q3c, 90 / 2**30 degrees.
_PIXEL = 1e-6


class PostgresqlDatabase(Database):
    """A schema of PostgreSQL, ``public`` by default; see `Database`."""

    kind = "postgresql"
    sizes = SIZES
    complaints: ClassVar[Complaints] = failures
    one_writer = False
    numbered_rows = False
    clusters = True
    insert: ClassVar[Any] = staticmethod(postgresql.insert)
    dialect = PGDialect

    def __init__(self, url: URL, schema: str | None = None, *, create: bool = False, readonly: bool = False) -> None:
        super().__init__(url, _checked(schema or "public"), create=create, readonly=readonly)

    @classmethod
    def claims(cls, url: URL) -> bool:
        """Whether a URL is one of PostgreSQL."""
        return url.get_backend_name() in ("postgresql", "postgres")

    @classmethod
    def server_url(cls, hostname: str, username: str | None = None) -> URL:
        """Make the URL of a server; the name of the database is libpq's to find."""
        return URL.create("postgresql+psycopg", username=username, host=hostname)

    @classmethod
    def completed(cls, url: URL, username: str | None, hostname: str | None) -> URL:
        """Fill in user and server where a URL does not have them."""
        url = url.set(drivername="postgresql+psycopg")
        url = url if url.username or not username else url.set(username=username)
        return url if url.host or not hostname else url.set(host=hostname)

    def _make_engine(self, url: URL) -> Engine:
        # Without an encoding of ours, psycopg would give bytes for the text of a database of SQL_ASCII.
        options = {"application_name": "specprod", "client_encoding": "utf8"}
        engine = sa.create_engine(url, connect_args=options, pool_size=8, pool_pre_ping=True)
        sa.event.listen(engine, "connect", partial(settle_session, readonly=self.readonly))
        return engine

    def _make_statements(self) -> PostgresqlStatements:
        return PostgresqlStatements(self.names, self.engine.dialect, lambda: self.has_q3c)

    @cached_property
    def has_q3c(self) -> bool:
        """Whether the server has the extension q3c, installed in this database."""
        with self.connect() as connection:
            usable = "SELECT has_schema_privilege(extnamespace, 'USAGE') FROM pg_extension WHERE extname = 'q3c'"
            return bool(connection.scalar(sa.text(usable)))

    def missing_extension(self) -> str | None:
        """Say that q3c is missing, and what follows."""
        if self.has_q3c:
            return None
        return (
            f"the extension q3c is not installed in database {self.url.database}: tables get no index of the sky and "
            "are not clustered; after CREATE EXTENSION q3c, specprod-load index --cluster makes up for it"
        )

    def _make_durable(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL synchronous_commit = on")

    def _lock(self, shared: bool) -> contextlib.AbstractContextManager[None]:
        return locking.locked(self, shared)

    def is_locked(self) -> bool:
        """Whether any process holds the schema; see `Database.is_locked`."""
        with self.connect() as connection:
            return bool(locking.holders(connection, self.schema or ""))

    def loading(self) -> PostgresqlDatabase:
        """Give the schema of this name and ``_loading``."""
        return type(self)(self.url, f"{self.schema}_loading")

    def kept(self) -> str:
        """Name the schema of this name and ``_old``."""
        return _checked(f"{self.schema}_old")

    def dependents(self) -> list[str]:
        """Name what is in other schemas and depends on this one."""
        with self.connect() as connection:
            return swapping.dependents(connection, self.schema or "")

    def replace_by(self, loading: Database, *, keep_old: bool) -> None:
        """Rename schemas, in one transaction; see `Database.replace_by`."""
        swapping.replace(self, loading.schema or "", self.kept(), keep_old=keep_old)

    def writable(self) -> bool:
        """Whether this user can create tables in the schema, on a server that is no standby."""
        query = sa.text(
            "SELECT current_setting('transaction_read_only') = 'off' AND "
            "coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = :schema), true)"
        )
        with self.connect() as connection:
            return bool(connection.scalar(query, {"schema": self.schema}))

    def hold_tables(self, connection: Connection, writing: Sequence[str], reading: Sequence[str] = ()) -> None:
        """Let nobody else write to some tables until the end of the transaction."""
        for table in writing:
            connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        for table in reading:
            connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE MODE")

    def prepare_for_queries(self, connection: Connection) -> None:
        """Let sorts and joins of this transaction have memory: some million rows take half the time."""
        raise_memory(connection, "work_mem", local=True)

    def prepare_for_builds(self, connection: Connection) -> None:
        """Give a session the memory that sorting for an index takes, and no more processes than there are cores for.

        Two tables are built at a time; where the server is on this machine, helpers of each are as many as there are
        cores left. Others know best themselves.
        """
        raise_memory(connection, "maintenance_work_mem", local=False)
        address = psycopg_connection(connection).info.hostaddr
        if not address or ipaddress.ip_address(address).is_loopback:
            connection.exec_driver_sql(
                "SELECT set_config('max_parallel_maintenance_workers', "
                "least(current_setting('max_parallel_maintenance_workers')::integer, %s)::text, false)",
                (max(0, (os.cpu_count() or 2) // 2 - 1),),
            )

    def row_place(self, table: str) -> sa.ColumnElement[Any]:
        """Give the place of the row in the table, which changes when the row does."""
        return sa.literal_column(f"{self.quote(table)}.ctid")

    def writer(self, cls: type[SchemaMixin]) -> CopyWriter:
        """Make the bulk writer of a table."""
        return CopyWriter(self.names, cls)

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

    def fetch_integers(self, connection: Connection, cls: type[SchemaMixin], column: str) -> npt.NDArray[np.int64]:
        """Read one column of integers, all as one value: a row each would take ten times as long."""
        query = f"SELECT string_agg(int8send({self.quote(column)}), ''::bytea) FROM {self.name(cls)}"
        numbers = np.frombuffer(connection.exec_driver_sql(query).scalar() or b"", dtype=">i8").astype(np.int64)
        numbers.sort()
        return numbers

    def as_rows(self, values_: npt.NDArray[Any]) -> tuple[str, tuple[str]]:
        """Make rows of values; see `Database.as_rows`."""
        return values.as_rows(values_)

    def create_temporary(self, connection: Connection, table: str, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Create an empty temporary table; see `Database.create_temporary`."""
        kinds = [f"{self.quote(name)} {values.integer_type(column)}" for name, column in columns.items()]
        connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {table} ({', '.join(kinds)})")
        connection.exec_driver_sql(f"CREATE UNIQUE INDEX ON {table} ({self.quote(next(iter(columns)))})")

    def insert_values(self, connection: Connection, table: str, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Insert columns of integers into a temporary table, each as one array."""
        arrays = ", ".join(f"CAST(%s AS {values.integer_type(column)}[])" for column in columns.values())
        literals = tuple(values.array_literal(column) for column in columns.values())
        connection.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM unnest({arrays})", literals)

    def keys(self, connection: Connection) -> Keys:
        """Ask the catalogue which keys and indexes there are."""
        schema = {"schema": self.schema}
        indexes = connection.execute(
            sa.text(
                "SELECT c.relname, i.indisclustered FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND i.indisvalid"
            ),
            schema,
        ).all()
        constraints = connection.execute(
            sa.text(
                "SELECT k.conname, k.convalidated FROM pg_constraint k "
                "JOIN pg_namespace n ON n.oid = k.connamespace WHERE n.nspname = :schema"
            ),
            schema,
        ).all()
        return Keys(
            frozenset(name for name, _ in [*indexes, *constraints]),
            frozenset(name for name, valid in constraints if not valid),
            frozenset(name for name, clustered in indexes if clustered),
        )

    def create_schema(self, connection: Connection) -> None:
        """Create the schema if it is not there."""
        exists = sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
        if connection.scalar(exists, {"name": self.schema}) is None:
            connection.exec_driver_sql(f"CREATE SCHEMA {self.quote(self.schema or '')}")

    def check_roles(self, connection: Connection, roles: Sequence[str]) -> None:
        """Make sure that roles exist; see `Database.check_roles`."""
        for role in roles:
            if connection.scalar(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": role}) is None:
                raise SchemaError(f"role {role!r} does not exist on the server")

    def grant(self, connection: Connection, roles: Sequence[str], tables: Sequence[str]) -> None:
        """Let roles read some tables of the schema; others that it holds, such as the ledger, are nobody else's."""
        self.check_roles(connection, roles)
        schema = self.quote(self.schema or "")
        for role in roles:
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {self.quote(role)}")
            names = ", ".join(self.name(table) for table in tables)
            connection.exec_driver_sql(f"GRANT SELECT ON TABLE {names} TO {self.quote(role)}")

    def cluster(self, connection: Connection, cls: type[SchemaMixin], index: str) -> None:
        """Rewrite a table in the order of an index."""
        # To sort by an index of an expression, PostgreSQL computes the expression anew for each comparison of two rows.
        # The index has the order already, and as long as the table is in memory, rows are fetched by it in less time.
        connection.exec_driver_sql(
            "SELECT set_config('enable_sort', 'off', true) "
            "WHERE pg_table_size(%s::regclass) < pg_size_bytes(current_setting('effective_cache_size'))",
            (self.name(cls),),
        )
        connection.exec_driver_sql(f"CLUSTER {self.name(cls)} USING {self.quote(index)}")

    def _within(self, table: type[SchemaMixin], circle: cone.Circle) -> sa.ColumnElement[bool]:
        """Make the condition of a cone; its index of the sky serves it where the server has q3c.

        q3c leaves out the edge of a circle, and what is nearer to its centre than the size of a pixel; so a wider one
        is cut out by it. Half of the sky and more is no matter of an index.
        """
        if not self.has_q3c or circle.radius >= 90:
            return cone.within(table, circle)
        column_ra, column_dec = cone.positions(table)
        cut = sa.func.q3c_radial_query(
            column_ra, column_dec, circle.ra, circle.dec, circle.radius + _PIXEL, type_=sa.Boolean()
        )
        return sa.and_(cut, cone.inside(table, circle))


def _checked(schema: str) -> str:
    """Refuse a name that the server would cut, or that cannot stand in all statements."""
    size = len(schema.encode(errors="surrogateescape"))
    if size > _LONGEST_NAME:
        raise ConfigurationError(
            f"schema {schema!r} has {size} bytes; PostgreSQL takes names of {_LONGEST_NAME} at most"
        )
    # The driver takes % for the beginning of a parameter, in some statements and not in others.
    if "%" in schema or "\0" in schema:
        raise ConfigurationError(f"schema {schema!r}: expected a name without % and zero bytes")
    return schema
