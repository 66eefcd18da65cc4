"""One loader at a time for a schema; loads of single tiles may share it."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from specprod.errors import ConnectionFailedError, LockedError

if TYPE_CHECKING:
    from specprod.database.connection import Database

__all__ = ["locked"]

#: The first of the two numbers of the advisory lock; the second stands for the schema.
_CLASS = 0x53504543


@contextlib.contextmanager
def locked(database: Database, *, shared: bool = False) -> Iterator[None]:
    """Hold the schema of a database, or its file, until the end of the block or of the process, however that ends.

    Parameters
    ----------
    database : Database
    shared : bool
        Whether others may hold it too, if they share it as well.

    Raises
    ------
    LockedError
        If another process holds it; the message says which.
    """
    with _postgresql(database, shared) if database.is_postgresql else _sqlite(database, shared):
        yield


@contextlib.contextmanager
def _postgresql(database: Database, shared: bool) -> Iterator[None]:
    suffix = "_shared" if shared else ""
    with database.connect() as connection, connection.execution_options(isolation_level="AUTOCOMMIT"):
        key = {"class": _CLASS, "schema": database.schema}
        got = connection.scalar(sa.text(f"SELECT pg_try_advisory_lock{suffix}(:class, hashtext(:schema))"), key)
        if not got:
            holders = connection.execute(
                sa.text(
                    "SELECT a.pid, a.usename, coalesce(a.client_addr::text, 'this machine'), a.backend_start "
                    "FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' "
                    "AND l.classid::bigint = :class AND l.objid::bigint = (hashtext(:schema)::bigint & 4294967295) "
                    "AND l.granted AND a.pid <> pg_backend_pid()"
                ),
                key,
            ).all()
            who = "; ".join(
                f"server process {pid} of user {user} from {where} since {since:%Y-%m-%d %H:%M:%S}"
                for pid, user, where, since in holders
            )
            raise LockedError(f"schema {database.schema} is being loaded by another process: {who or 'it just ended'}")
        try:
            yield
        finally:
            # A connection that is lost has lost its lock too.
            with contextlib.suppress(sa.exc.DBAPIError):
                connection.execute(sa.text(f"SELECT pg_advisory_unlock{suffix}(:class, hashtext(:schema))"), key)


@contextlib.contextmanager
def _sqlite(database: Database, shared: bool) -> Iterator[None]:
    path = Path(f"{database.url.database}.lock")
    try:
        stream = path.open("a+")
    except OSError as error:
        raise ConnectionFailedError(f"cannot be written: {error.strerror}", file=path) from error
    with stream:
        try:
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise LockedError(
                f"{database.url.database} is being loaded by another process: {stream.read().strip() or 'unknown'}"
            ) from error
        stream.seek(0)
        stream.truncate()
        stream.write(f"process {os.getpid()} of user {getpass.getuser()} on {platform.node()}\n")
        stream.flush()
        try:
            yield
        finally:
            if not shared:
                path.unlink(missing_ok=True)
