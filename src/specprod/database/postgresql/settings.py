"""Settings of a PostgreSQL session that a piece of work runs better with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

if TYPE_CHECKING:
    import psycopg

__all__ = ["raise_memory", "settle_session"]

# What a role or a database may have otherwise, and what changes values on their way: the shortest text that stands for
# a number exactly, dates that psycopg reads, backslashes that are backslashes. The functions of q3c call each other by
# bare names, so that their schema must be on the path.
_SETTLE = """
SELECT set_config('datestyle', 'ISO', false), set_config('intervalstyle', 'postgres', false),
       set_config('extra_float_digits', '1', false), set_config('standard_conforming_strings', 'on', false),
       (SELECT set_config('search_path',
                          concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(nspname)), false)
        FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE extname = 'q3c' AND NOT nspname = ANY (current_schemas(true))
              AND has_schema_privilege(n.oid, 'USAGE'))
"""


def settle_session(connection: psycopg.Connection[Any], _: object, *, readonly: bool) -> None:
    """Give a new session the settings on which values depend; an event handler ``connect`` of SQLAlchemy.

    Parameters
    ----------
    connection : psycopg.Connection
    readonly : bool
        Whether the transactions of the session cannot write.
    """
    # In a transaction they would end with it, if it is rolled back.
    connection.autocommit = True
    connection.execute(_SETTLE)
    if readonly:
        connection.execute("SET default_transaction_read_only = on")
    connection.autocommit = False


def raise_memory(connection: Connection, setting: str, *, local: bool) -> None:
    """Give a session 256 MB for sorting; a larger setting of the server's own stays.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        To PostgreSQL.
    setting : str
        ``work_mem``, for queries, or ``maintenance_work_mem``, for indexes.
    local : bool
        Whether it ends with the transaction, not with the session.
    """
    connection.exec_driver_sql(
        "SELECT set_config(%(setting)s, greatest(pg_size_bytes(current_setting(%(setting)s)), "
        "pg_size_bytes('256MB')) / 1024 || 'kB', %(local)s)",
        {"setting": setting, "local": local},
    )
