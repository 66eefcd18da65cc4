"""Keys and indexes, built after the rows, on several connections at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection

from specprod.database.catalogue import Keys
from specprod.database.failures import Retries, translated
from specprod.database.schema import existing_tables
from specprod.errors import ConfigurationError, ConstraintError
from specprod.model import TABLES, SchemaMixin, table_of

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = [
    "add_foreign_keys",
    "add_loaded_references",
    "build_indexes",
    "build_key",
    "build_sky_index",
    "complete_tables",
    "finished_tables",
    "missing_key",
    "missing_keys",
    "orphans",
    "parents_of",
    "possible_references",
    "refresh_sky_index",
    "table_with_positions",
    "warn_without_sky_index",
]

logger = logging.getLogger(__name__)


def build_key(database: Database, cls: type[SchemaMixin], retries: Retries | None = None) -> None:
    """Build the primary key of a table, if it is not there.

    Raises
    ------
    ConstraintError
        If a key occurs twice.
    """
    step = database.statements.primary_key(cls)
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
    key = database.statements.primary_key(cls)
    _build(database, [*([key] if key else []), *database.statements.plain_indexes(cls)], retries)
    retries.run(lambda: _analyze(database, cls), f"statistics of {table_of(cls).name}")


def refresh_sky_index(
    database: Database, cls: type[SchemaMixin], *, cluster: bool = False, retries: Retries | None = None
) -> None:
    """Build the index of the sky of a table if it is not there, and gather statistics.

    Parameters
    ----------
    database : Database
    cls : class
        The table.
    cluster : bool
        Also rewrite a table that is kept in that order.
    retries : Retries, optional
    """
    retries = retries or Retries()
    _build_sky_index(database, cls, cluster, retries)
    retries.run(lambda: _analyze(database, cls), f"statistics of {table_of(cls).name}")


def _analyze(database: Database, cls: type[SchemaMixin]) -> None:
    with database.turn, database.begin() as connection:
        for statement in database.statements.analyze(cls):
            connection.exec_driver_sql(statement)


def warn_without_sky_index(database: Database) -> None:
    """Log a warning if the indexes of the sky cannot be built."""
    warning = database.missing_extension()
    if warning:
        logger.warning("%s", warning)


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
    _build_sky_index(database, table_with_positions(table, ra), True, retries or Retries())


def table_with_positions(table: str, ra: str) -> type[SchemaMixin]:
    """Find the table of a name, and make sure that it has positions.

    Parameters
    ----------
    table : str
        Name of the table.
    ra : str
        Its column of right ascension.

    Raises
    ------
    ConfigurationError
        If the table has no such positions.
    """
    cls = next((cls for cls in TABLES if table_of(cls).name == table), None)
    if cls is None or cls.__sky__ is None or cls.__sky__[0] != ra:
        raise ConfigurationError(f"table {table} has no positions with a right ascension {ra}")
    return cls


def _build_sky_index(database: Database, cls: type[SchemaMixin], cluster: bool | None, retries: Retries) -> None:
    sky = database.statements.sky_index(cls)
    if sky is None:
        return
    _build(database, [sky], retries)
    if cluster is not False and database.clusters and cls.__in_order__:
        retries.run(lambda: _cluster(database, cls, sky[0], again=bool(cluster)), f"cluster of {table_of(cls).name}")


def _cluster(database: Database, cls: type[SchemaMixin], index: str, *, again: bool) -> None:
    with database.begin() as connection:
        if not again and index in database.keys(connection).clustered:
            return
        database.prepare_for_builds(connection)
        database.cluster(connection, cls, index)


def _build(
    database: Database, steps: Sequence[tuple[str, str]], retries: Retries, *, what: str = "index", valid: bool = False
) -> None:
    """Build what is not there or, of references, validate what is not valid yet, each in a transaction of its own."""
    keys: Keys | None = None

    def build(name: str, statement: str) -> None:
        nonlocal keys
        with database.turn, database.begin() as connection:
            known = keys or database.keys(connection)
            # After a failure it is not known what became of the transaction: the catalogue is asked again.
            keys = None
            if name in known.invalid if valid else name not in known.names:
                database.prepare_for_builds(connection)
                start = time.monotonic()
                connection.exec_driver_sql(statement)
                logger.debug("%s %s in %.2f s", name, "validated" if valid else "built", time.monotonic() - start)
        keys = known

    for name, statement in steps:
        retries.run(partial(build, name, statement), f"{what} {name}")


def add_foreign_keys(
    database: Database,
    cls: type[SchemaMixin],
    retries: Retries | None = None,
    names: Collection[str] | None = None,
) -> None:
    """Add the references of a table, if they are not there, once its rows are checked.

    Parameters
    ----------
    database : Database
    cls : class
        The table.
    retries : Retries, optional
    names : collection of str, optional
        Only these references. By default all that lead to tables that are there.

    Raises
    ------
    ConstraintError
        If a row refers to one that is not there; the message counts them and gives one.
    """
    retries = retries or Retries()
    if names is None:
        with database.turn, database.connect() as connection:
            names = [name for name, _ in possible_references(connection, database, cls)]
    try:
        references = [item for item in database.statements.references(cls) if item[0] in names]
        _build(database, [(name, add) for name, _, add, _ in references], retries, what="reference")
        _build(database, [(name, test) for name, _, _, test in references], retries, what="reference", valid=True)
    except ConstraintError as error:
        with database.turn, database.connect() as connection:
            raise ConstraintError(next(orphans(database, connection, cls, names), str(error))) from error
    if not database.statements.adds_references:
        with database.turn, database.connect() as connection, translated():
            for message in orphans(database, connection, cls, names):
                raise ConstraintError(message)
        with database.turn, database.begin() as connection:
            database.declare_references(connection, cls, names)


def complete_tables(database: Database, classes: Sequence[type[SchemaMixin]], retries: Retries | None = None) -> None:
    """Build what tables lack of keys, indexes and references, one after the other.

    Raises
    ------
    ConstraintError
        If a key occurs twice, or a row refers to one that is not there.
    """
    for cls in classes:
        build_indexes(database, cls, cluster=False, retries=retries)
    for cls in classes:
        add_foreign_keys(database, cls, retries)


def add_loaded_references(database: Database, cls: type[SchemaMixin], retries: Retries | None = None) -> None:
    """Add or check the references between a table and those that have rows, as `add_foreign_keys` does.

    Those of other tables to this one are added if nothing is missing: its rows may come from several files.

    Raises
    ------
    ConstraintError
        If a row of the table refers to one that is not there; nothing is added then.
    """
    table = table_of(cls)
    with database.turn, database.connect() as connection, translated():
        valid = database.keys(connection)
        # SQLite declares references, but does not check the rows of a load by them.
        done = valid.names - valid.invalid if database.statements.adds_references else frozenset()
        there = existing_tables(database, connection)
        filled = {table_of(item).name for item in there if connection.scalar(_has_rows(item))}
        ours = [name for name, parent in parents_of(cls) if parent in filled and name not in done]
        for message in orphans(database, connection, cls, ours):
            raise ConstraintError(message)
        wanted = [(cls, ours)]
        for child in there:
            names = [name for name, parent in parents_of(child) if parent == table.name and name not in done]
            if table_of(child).name in filled and not any(orphans(database, connection, child, names)):
                wanted.append((child, names))
    for child, names in wanted:
        add_foreign_keys(database, child, retries, names)


def _has_rows(cls: type[SchemaMixin]) -> sa.Select[tuple[bool]]:
    return sa.select(sa.exists(sa.select(sa.literal(1)).select_from(table_of(cls))))


def parents_of(cls: type[SchemaMixin]) -> list[tuple[str, str]]:
    """Name the references of a table, each with the table to which it leads."""
    return sorted((str(key.name), key.referred_table.name) for key in table_of(cls).foreign_key_constraints)


def possible_references(connection: Connection, database: Database, cls: type[SchemaMixin]) -> list[tuple[str, str]]:
    """Name the references of a table that lead to tables that are there."""
    there = sa.inspect(connection).get_table_names(schema=database.schema)
    return [(name, parent) for name, parent in parents_of(cls) if parent in there]


def orphans(
    database: Database, connection: Connection, cls: type[SchemaMixin], names: Collection[str] | None = None
) -> Iterator[str]:
    """Describe, reference by reference, the rows that refer to one that is not there.

    Parameters
    ----------
    database : Database
    connection : sqlalchemy.Connection
    cls : class
        The table.
    names : collection of str, optional
        Only these references. By default all that lead to tables that are there.
    """
    table = table_of(cls)
    if names is None:
        names = [name for name, _ in possible_references(connection, database, cls)]
    for key in sorted(table.foreign_key_constraints, key=lambda key: str(key.name)):
        if key.name not in names:
            continue
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
    step = database.statements.primary_key(cls)
    return step is not None and step[0] not in database.keys(connection).names


def missing_keys(database: Database, connection: Connection, cls: type[SchemaMixin]) -> list[str]:
    """Names of the keys, indexes and references that a table should have and has not, or not valid.

    References to tables that are not there are not missing: part of a production can be loaded.
    """
    keys = database.keys(connection)
    expected = _indexes(database, cls) + [name for name, _ in possible_references(connection, database, cls)]
    return [name for name in expected if name not in keys.names or name in keys.invalid]


def finished_tables(database: Database, connection: Connection) -> list[type[SchemaMixin]]:
    """Find the tables that have rows, and the indexes that are built after these."""
    names = database.keys(connection).names
    there = [cls for cls in existing_tables(database, connection) if names.issuperset(_indexes(database, cls))]
    return [cls for cls in there if connection.scalar(_has_rows(cls))]


def _indexes(database: Database, cls: type[SchemaMixin]) -> list[str]:
    """Names of the keys and indexes of a table."""
    expected = [name for name, _ in database.statements.plain_indexes(cls)]
    expected += [step[0] for step in (database.statements.primary_key(cls), database.statements.sky_index(cls)) if step]
    return expected
