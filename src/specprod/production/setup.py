"""The tables of a production, made or made anew, and the versions of what is in them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from specprod.configuration.core import LONGEST_VERSION
from specprod.database.connection import Database, connect
from specprod.database.failures import Retries, translated
from specprod.database.kinds import PostgresqlDatabase
from specprod.database.schema import create_tables, drop_tables, existing_tables
from specprod.errors import ValueRejectedError
from specprod.model import TABLES, SchemaMixin, Version, table_of
from specprod.results.orm import OrmPipelineResultsStorage
from specprod.stages import TABLE_NAMES

__all__ = [
    "DEFAULT_PUBLIC_ROLE",
    "DEFAULT_ROLES",
    "data_versions",
    "kept_version",
    "load_versions",
    "recorded_versions",
    "setup_db",
]

logger = logging.getLogger(__name__)

#: Packages whose versions are kept, and their names in table version: the package and the production that it loads have
#: one name in the field; there, the production is the data set.
_PACKAGES = {"astropy": "astropy", "numpy": "numpy", "sqlalchemy": "sqlalchemy", "specprod": "specprod-load"}

DEFAULT_ROLES = ("desi",)
DEFAULT_PUBLIC_ROLE = "desi_public"


def setup_db(
    dbfile: str | Path = "specprod.db",
    hostname: str | None = None,
    username: str = "desi_admin",
    schema: str | None = None,
    overwrite: bool = False,
    public: bool = False,
    verbose: bool = False,
    *,
    database: Database | None = None,
    roles: Sequence[str] = DEFAULT_ROLES,
    public_role: str = DEFAULT_PUBLIC_ROLE,
    keys: bool = True,
    retries: Retries | None = None,
    tables: Collection[str] = TABLE_NAMES,
) -> Database:
    """Connect to a database and create the schema and the tables that are not there yet.

    Parameters
    ----------
    dbfile : str or path
        An SQLite file; used where there is no `hostname`.
    hostname : str, optional
        A PostgreSQL server. The name of the database is libpq's to find (``PGDATABASE``, else the user's name).
    username : str
        User on the server.
    schema : str, optional
        Schema for the tables.
    overwrite : bool
        Drop tables of ours that are there, and the ledger; others are left alone.
    public : bool
        Let the public role read the tables as well.
    verbose : bool
        Log all SQL.
    database : Database, optional
        A database that is connected already, in the place of the first three arguments.
    roles : sequence of str
        Roles of the collaboration that may read the tables, if `public` is set.
    public_role : str
        The public role.
    keys : bool
        Give new tables their primary keys at once, as `specprod.load.upsert` needs them. A load of a whole production
        builds them after the rows.
    retries : Retries, optional
        How often to try again what may pass, such as a file that another process writes to.
    tables : collection of str
        Some of `specprod.stages.TABLE_NAMES`; only these are created, and table version.

    Returns
    -------
    Database
        Its attribute `kind` says which kind it is, ``postgresql`` or ``sqlite``.

    Raises
    ------
    ConfigurationError, ConnectionFailedError, SchemaError
    """
    if database is None:
        target: Any = dbfile if hostname is None else PostgresqlDatabase.server_url(hostname, username)
        database = connect(target, schema=schema, username=username, create=True)
    if verbose:
        logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO)
    readers = (*roles, public_role) if public else ()
    classes = [cls for cls in TABLES if cls is Version or table_of(cls).name in tables]
    work = partial(_set_up, database, classes, overwrite=overwrite, readers=readers, keys=keys)
    (retries or Retries()).run(work, "setup")
    return database


def _set_up(
    database: Database, classes: Sequence[type[SchemaMixin]], *, overwrite: bool, readers: Sequence[str], keys: bool
) -> None:
    with database.turn, database.begin() as connection:
        database.check_roles(connection, readers)
        if overwrite:
            drop_tables(database, connection)
            OrmPipelineResultsStorage(database, connection).drop()
        made = create_tables(database, connection, classes)
        for step in map(database.statements.primary_key, made if keys else ()):
            if step is not None:
                connection.exec_driver_sql(step[1])
        there = [table_of(cls).name for cls in existing_tables(database, connection)]
        database.grant(connection, readers, there)


def load_versions(
    photometry: str,
    redshift: str,
    release: str,
    specprod: str,
    tiles: str,
    *,
    database: Database,
    connection: sa.Connection | None = None,
) -> None:
    """Record the versions of packages and data; those that are there already are updated.

    Parameters
    ----------
    photometry, redshift, release, specprod, tiles : str
        Versions of the data; see `specprod.configuration.Production`.
    database : Database
    connection : sqlalchemy.Connection, optional
        Whose transaction to join.

    Raises
    ------
    ValueRejectedError
        If a version is longer than the table can hold.
    """
    if connection is None:
        with translated(), database.begin() as own:
            load_versions(photometry, redshift, release, specprod, tiles, database=database, connection=own)
        return
    packages = {row: kept_version(name, package_version(name)) for name, row in _PACKAGES.items()}
    versions = packages | data_versions(photometry, redshift, release, specprod, tiles)
    table = table_of(Version)
    for package, value in versions.items():
        if len(value) > LONGEST_VERSION:
            message = f"version {value!r} of {package} has {len(value)} characters, expected at most {LONGEST_VERSION}"
            raise ValueRejectedError(message, column="VERSION")
    there = {row.package: row for row in connection.execute(sa.select(table))}
    number = max((row.id for row in there.values()), default=0)
    for package, value in sorted(versions.items()):
        if package not in there:
            number += 1
            connection.execute(sa.insert(table).values(id=number, package=package, version=value))
        elif there[package].version != value:
            connection.execute(sa.update(table).where(table.c.package == package).values(version=value))


def data_versions(photometry: str, redshift: str, release: str, specprod: str, tiles: str) -> dict[str, str]:
    """Versions of the data, by their names in table version."""
    return {
        "lsd9-photometry": photometry,
        "redshift": redshift,
        "release": release,
        "specprod": specprod,
        "tiles": tiles,
    }


def recorded_versions(packages: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Versions of packages as the ledger has them, by their names in table version; none where it does not say."""
    return {row: {version[:LONGEST_VERSION] for version in packages.get(name, ())} for name, row in _PACKAGES.items()}


def kept_version(package: str, version: str) -> str:
    """Cut the version of a package that is under development, and say so; a load does not fail for it."""
    if len(version) > LONGEST_VERSION:
        logger.warning("version %s of %s is kept as %s", version, package, version[:LONGEST_VERSION])
    return version[:LONGEST_VERSION]
