"""Keys and indexes, built after the rows, on several connections at once."""

from __future__ import annotations

import ipaddress
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Connection

from specprod.database import ddl
from specprod.database.failures import Retries, translated
from specprod.database.settings import raise_memory
from specprod.errors import ConfigurationError, ConstraintError
from specprod.model import TABLES, SchemaMixin, table_of

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["add_foreign_keys", "build_indexes", "build_key", "build_sky_index", "missing_keys", "prepare_for_builds"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keys:
    """Which keys and indexes there are.

    Attributes
    ----------
    names : frozenset of str
        Indexes and constraints.
    invalid : frozenset of str
        References that were added but not validated.
    clustered : frozenset of str
        Indexes on which their tables are clustered.
    """

    names: frozenset[str]
    invalid: frozenset[str]
    clustered: frozenset[str]

    @classmethod
    def of(cls, database: Database, connection: Connection) -> Keys:
        """Ask the catalogue of the database."""
        if not database.is_postgresql:
            names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'index'").scalars()
            return cls(frozenset(names), frozenset(), frozenset())
        schema = {"schema": database.schema}
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
        return cls(
            frozenset(name for name, _ in [*indexes, *constraints]),
            frozenset(name for name, valid in constraints if not valid),
            frozenset(name for name, clustered in indexes if clustered),
        )


def prepare_for_builds(database: Database, connection: Connection) -> None:
    """Give a session the memory that sorting for an index takes, and no more processes than the machine has cores for.

    Two tables are built at a time; where the server is on this machine, helpers of each are as many as there are cores
    left. Others know best themselves.
    """
    if not database.is_postgresql:
        return
    raise_memory(connection, "maintenance_work_mem", local=False)
    driver: Any = connection.connection.driver_connection
    address = driver.info.hostaddr
    if not address or ipaddress.ip_address(address).is_loopback:
        connection.exec_driver_sql(
            "SELECT set_config('max_parallel_maintenance_workers', "
            "least(current_setting('max_parallel_maintenance_workers')::integer, %s)::text, false)",
            (max(0, (os.cpu_count() or 2) // 2 - 1),),
        )


def build_key(database: Database, cls: type[SchemaMixin], retries: Retries | None = None) -> None:
    """Build the primary key of a table, if it is not there.

    Raises
    ------
    ConstraintError
        If a key occurs twice.
    """
    step = ddl.primary_key(database, cls)
    if step is not None:
        _build(database, [step], retries or Retries())


def build_indexes(
    database: Database, cls: type[SchemaMixin], *, cluster: bool | None = None, retries: Retries | None = None
) -> None:
    """Cluster a table in the order of the sky, and build its key and indexes, as far as they are not there.

    Clustering comes first: it rewrites the table and all indexes that it has.

    Parameters
    ----------
    database : Database
    cls : class
        The table.
    cluster : bool, optional
        Whether to rewrite the table in the order of its sky index; by default if it never was. PostgreSQL only.
    retries : Retries, optional

    Raises
    ------
    ConstraintError
        If a key occurs twice.
    """
    retries = retries or Retries()
    _build_sky_index(database, cls, cluster, retries)
    key = ddl.primary_key(database, cls)
    _build(database, [*([key] if key else []), *ddl.plain_indexes(database, cls)], retries)
    retries.run(lambda: _analyze(database, cls), f"statistics of {table_of(cls).name}")


def _analyze(database: Database, cls: type[SchemaMixin]) -> None:
    with database.turn, database.begin() as connection:
        if not database.is_postgresql:
            # Some hundred rows of each index are enough to choose plans by.
            connection.exec_driver_sql("PRAGMA analysis_limit = 1000")
        connection.exec_driver_sql(ddl.analyze(database, cls))


def warn_without_q3c(database: Database) -> None:
    """Log a warning if the indexes of the sky cannot be built."""
    if database.is_postgresql and not database.has_q3c:
        logger.warning(
            "the extension q3c is not installed in database %s: tables get no index of the sky and are not clustered; "
            "after CREATE EXTENSION q3c, specprod-load index --cluster makes up for it",
            database.url.database,
        )


def build_sky_index(database: Database, table: str, ra: str, retries: Retries | None = None) -> None:
    """Build the index of the sky of a table and cluster the table on it.

    Parameters
    ----------
    database : Database
    table : str
        Name of the table.
    ra : str
        Its column of right ascension.
    retries : Retries, optional

    Raises
    ------
    ConfigurationError
        If the table has no such positions.
    """
    cls = next((cls for cls in TABLES if table_of(cls).name == table), None)
    if cls is None or cls.__sky__ is None or cls.__sky__[0] != ra:
        raise ConfigurationError(f"table {table} has no positions with a right ascension {ra}")
    _build_sky_index(database, cls, True, retries or Retries())


def _build_sky_index(database: Database, cls: type[SchemaMixin], cluster: bool | None, retries: Retries) -> None:
    sky = ddl.sky_index(database, cls)
    if sky is None:
        return
    _build(database, [sky], retries)
    if cluster is not False and database.is_postgresql:
        retries.run(lambda: _cluster(database, cls, sky[0], again=bool(cluster)), f"cluster of {table_of(cls).name}")


def _cluster(database: Database, cls: type[SchemaMixin], index: str, *, again: bool) -> None:
    with database.begin() as connection:
        if not again and index in Keys.of(database, connection).clustered:
            return
        prepare_for_builds(database, connection)
        # To sort by an index of an expression, PostgreSQL computes the expression anew for each comparison of two rows.
        # The index has the order already, and as long as the table is in memory, rows are fetched by it in less time.
        connection.exec_driver_sql(
            "SELECT set_config('enable_sort', 'off', true) "
            "WHERE pg_table_size(%s::regclass) < pg_size_bytes(current_setting('effective_cache_size'))",
            (database.name(cls),),
        )
        connection.exec_driver_sql(f"CLUSTER {database.name(cls)} USING {database.quote(index)}")


def _build(
    database: Database, steps: Sequence[tuple[str, str]], retries: Retries, *, what: str = "index", valid: bool = False
) -> None:
    """Build what is not there or, of references, validate what is not valid yet, each in a transaction of its own."""
    keys: Keys | None = None

    def build(name: str, statement: str) -> None:
        nonlocal keys
        with database.turn, database.begin() as connection:
            known = keys or Keys.of(database, connection)
            # After a failure it is not known what became of the transaction: the catalogue is asked again.
            keys = None
            if name in known.invalid if valid else name not in known.names:
                prepare_for_builds(database, connection)
                start = time.monotonic()
                connection.exec_driver_sql(statement)
                logger.debug("%s %s in %.2f s", name, "validated" if valid else "built", time.monotonic() - start)
        keys = known

    for name, statement in steps:
        retries.run(partial(build, name, statement), f"{what} {name}")


def add_foreign_keys(database: Database, cls: type[SchemaMixin], retries: Retries | None = None) -> None:
    """Add the references of a table, if they are not there; in SQLite, where they are part of the table, check them.

    Raises
    ------
    ConstraintError
        If a row refers to one that is not there; the message counts them and gives one.
    """
    retries = retries or Retries()
    try:
        if database.is_postgresql:
            references = list(ddl.foreign_keys(database, cls))
            _build(database, [(name, add) for name, _, add, _ in references], retries, what="reference")
            _build(database, [(name, test) for name, _, _, test in references], retries, what="reference", valid=True)
    except ConstraintError as error:
        with database.turn, database.connect() as connection:
            raise ConstraintError(next(orphans(database, connection, cls), str(error))) from error
    if not database.is_postgresql:
        with database.turn, database.connect() as connection, translated():
            for message in orphans(database, connection, cls):
                raise ConstraintError(message)


def orphans(database: Database, connection: Connection, cls: type[SchemaMixin]) -> Iterator[str]:
    """Describe, reference by reference, the rows that refer to one that is not there."""
    table = table_of(cls)
    for key in sorted(table.foreign_key_constraints, key=lambda key: str(key.name)):
        (element,) = key.elements
        parent, (child,) = element.column, list(key.columns)
        query = (
            sa.select(sa.func.count(), sa.func.min(child))
            .select_from(table)
            .where(~sa.exists().where(parent == child).correlate(table))
        )
        count, example = connection.execute(query).one()
        if count:
            yield (
                f"{count} rows of {table.name} refer to a {parent.table.name}.{parent.name} that is not there, "
                f"for example {example}"
            )


def missing_key(database: Database, connection: Connection, cls: type[SchemaMixin]) -> bool:
    """Whether a table has no primary key yet."""
    step = ddl.primary_key(database, cls)
    return step is not None and step[0] not in Keys.of(database, connection).names


def missing_keys(database: Database, connection: Connection, cls: type[SchemaMixin]) -> list[str]:
    """Names of the keys, indexes and references that a table should have and has not, or not valid."""
    keys = Keys.of(database, connection)
    expected = [name for name, _ in ddl.plain_indexes(database, cls)]
    expected += [step[0] for step in (ddl.primary_key(database, cls), ddl.sky_index(database, cls)) if step]
    if database.is_postgresql:
        expected += [name for name, *_ in ddl.foreign_keys(database, cls)]
    return [name for name in expected if name not in keys.names or name in keys.invalid]
