"""One loader at a time for a schema of PostgreSQL, by an advisory lock; loads of single tiles may share it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from specprod.errors import LockedError

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["holders", "locked"]

#: The first of the two numbers of the advisory lock; the second stands for the schema.
_CLASS = 0x53504543


@contextlib.contextmanager
def locked(database: Database, shared: bool) -> Iterator[None]:
    """Hold the lock of a schema, as `specprod.database.interface.Database.locked` does."""
    suffix = "_shared" if shared else ""
    with database.connect() as connection, connection.execution_options(isolation_level="AUTOCOMMIT"):
        key = {"class": _CLASS, "schema": database.schema}
        got = connection.scalar(sa.text(f"SELECT pg_try_advisory_lock{suffix}(:class, hashtext(:schema))"), key)
        if not got:
            found = holders(connection, database.schema or "")
            who = "; ".join(
                f"server process {pid} of user {user} from {where} since {since:%Y-%m-%d %H:%M:%S}"
                for pid, user, where, since in found
            )
            raise LockedError(f"schema {database.schema} is being loaded by another process: {who or 'it just ended'}")
        try:
            yield
        finally:
            # A connection that is lost has lost its lock too.
            with contextlib.suppress(sa.exc.DBAPIError):
                connection.execute(sa.text(f"SELECT pg_advisory_unlock{suffix}(:class, hashtext(:schema))"), key)


def holders(connection: sa.Connection, schema: str) -> list[tuple[int, str, str, datetime]]:
    """Give the server processes that hold the lock of a schema: number, user, address, start."""
    query = sa.text(
        "SELECT a.pid, a.usename, coalesce(a.client_addr::text, 'this machine'), a.backend_start "
        "FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' "
        "AND l.classid::bigint = :class AND l.objid::bigint = (hashtext(:schema)::bigint & 4294967295) "
        "AND l.granted AND a.pid <> pg_backend_pid()"
    )
    return [tuple(row) for row in connection.execute(query, {"class": _CLASS, "schema": schema})]
