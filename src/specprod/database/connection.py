"""Which database: from what a person writes to a connection."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from specprod.configuration.passwords import mask_password
from specprod.database.failures import Retries
from specprod.database.interface import Database
from specprod.database.kinds import KINDS, PostgresqlDatabase, SqliteDatabase
from specprod.database.postgresql.driver import is_connection_string
from specprod.errors import ConfigurationError

__all__ = ["Database", "connect", "database_url", "open_url"]


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
    if isinstance(target, str):
        _refuse_other_names(target)
    if isinstance(target, URL):
        url = target
    elif "://" in str(target):
        try:
            url = make_url(str(target))
        except (sa.exc.ArgumentError, ValueError) as error:
            raise ConfigurationError("the database URL cannot be parsed") from error
    else:
        url = SqliteDatabase.url_of(target)
    return _kind(url).completed(url, username, hostname)


def _kind(url: URL) -> type[PostgresqlDatabase] | type[SqliteDatabase]:
    for kind in KINDS:
        if kind.claims(url):
            return kind
    raise ConfigurationError(
        f"database {url.get_backend_name()!r} is not supported; expected postgresql://… or an SQLite file"
    )


def open_url(url: URL, schema: str | None = None, *, create: bool = False, readonly: bool = False) -> Database:
    """Give the database of a URL, after `database_url`; nothing is connected yet."""
    return _kind(url)(url, schema, create=create, readonly=readonly)


def _refuse_other_names(name: str) -> None:
    """Raise if what stands for a database is none, or a server without ``postgresql://``; it may hold a password."""
    if not name.strip():
        raise ConfigurationError("expected postgresql://user@host/name or the name of an SQLite file, got nothing")
    if "\0" in name:
        raise ConfigurationError("the name of a database cannot hold a zero byte")
    if "://" not in name and (is_connection_string(name) or mask_password(name) != name):
        raise ConfigurationError(
            "this looks like a server, but does not begin with postgresql://; expected postgresql://user@host/name, "
            "or for a file of such a name ./ before it"
        )


def connect(
    target: str | Path | URL | None = None,
    *,
    schema: str | None = None,
    username: str | None = None,
    hostname: str | None = None,
    create: bool = False,
    readonly: bool = False,
    retries: Retries | None = None,
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
    create : bool
        Make an SQLite file that does not exist; else it is an error, which names those that are near.
    readonly : bool
        Let nothing be written, whatever is asked for.
    retries : Retries, optional
        How often a server that is down, or starting, is tried again. By default it is an error at once.

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
    url = database_url(target, username=username, hostname=hostname)
    database = open_url(url, schema, create=create, readonly=readonly)
    if retries is None:
        database.check()
    else:
        retries.run(database.check, "connection")
    return database
