"""Settings of a PostgreSQL session that a piece of work runs better with."""

from __future__ import annotations

from sqlalchemy import Connection

__all__ = ["raise_memory"]


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
