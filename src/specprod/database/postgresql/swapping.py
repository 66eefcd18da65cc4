"""A schema of PostgreSQL put in the place of another, in one transaction."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from specprod.errors import LockedError, SchemaError

if TYPE_CHECKING:
    from specprod.database.interface import Database

__all__ = ["dependents", "replace"]

#: How long all is tried, and the pause between two attempts, in seconds.
_PATIENCE, _PAUSE = 600.0, 1.0
#: An attempt ends before PostgreSQL looks for deadlocks: a reader that has one table and wants another that is locked
#: already waits so long at the most, and never fails.
_MOST_WAIT = 400
#: Codes of a statement that was cancelled because of its time, and of a deadlock.
_GAVE_UP = ("57014", "40P01")

# What stands in a schema: tables, indexes, views, sequences; functions; triggers; types that are no rows of a table.
_THINGS = """
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
       WHEN 'i' THEN 'index' WHEN 'c' THEN 'type' ELSE 'table' END || ' ' || c.relname
FROM pg_class c WHERE c.relnamespace = to_regnamespace(:schema)
UNION SELECT 'function ' || p.proname FROM pg_proc p WHERE p.pronamespace = to_regnamespace(:schema)
UNION SELECT 'trigger ' || t.tgname || ' of ' || c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = to_regnamespace(:schema) AND NOT t.tgisinternal
UNION SELECT 'type ' || y.typname FROM pg_type y
WHERE y.typnamespace = to_regnamespace(:schema) AND y.typtype IN ('d', 'e', 'r')
"""

# What depends on tables, types or functions of a schema and stands in no table, and so on, of that schema itself.
_DEPENDENTS = """
SELECT DISTINCT CASE WHEN r.oid IS NULL THEN pg_describe_object(d.classid, d.objid, d.objsubid)
       ELSE pg_describe_object('pg_class'::regclass, r.ev_class, 0) END
FROM pg_depend d
LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
LEFT JOIN pg_attrdef a ON d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid
LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
LEFT JOIN pg_class c ON c.oid = coalesce(r.ev_class, k.conrelid, a.adrelid, t.tgrelid,
                                         CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid END)
LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
LEFT JOIN pg_type y ON d.classid = 'pg_type'::regclass AND y.oid = d.objid
WHERE d.deptype IN ('n', 'a')
AND coalesce(c.relnamespace, p.pronamespace, y.typnamespace) IS DISTINCT FROM to_regnamespace(:schema)
AND (d.refclassid, d.refobjid) IN (
    SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relnamespace = to_regnamespace(:schema)
    UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace = to_regnamespace(:schema)
    UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = to_regnamespace(:schema))
ORDER BY 1
"""

# The rights of others to a schema, its tables and their columns, as statements for what has the same name in another.
_RIGHTS = """
SELECT format('GRANT %s%s ON %s TO %s%s', x.privilege_type, o.columns, o.target,
              CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
              CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM (
    SELECT format('SCHEMA %I', CAST(:other AS text)) AS target, '' AS columns, nspacl AS acl, nspowner AS owner
    FROM pg_namespace WHERE nspname = :schema
    UNION ALL
    SELECT format('%s %I.%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                  CAST(:other AS text), c.relname), '', c.relacl, c.relowner
    FROM pg_class c WHERE c.relnamespace = to_regnamespace(quote_ident(:schema)) AND c.relkind IN ('r', 'v', 'm', 'S')
    UNION ALL
    SELECT format('TABLE %I.%I', CAST(:other AS text), c.relname), format(' (%I)', a.attname), a.attacl, c.relowner
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = to_regnamespace(quote_ident(:schema)) AND a.attnum > 0 AND NOT a.attisdropped
) AS o, aclexplode(o.acl) AS x WHERE x.grantee <> o.owner
"""

_HOLDERS = """
SELECT DISTINCT a.pid, a.usename, a.state, a.xact_start FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
JOIN pg_class c ON c.oid = l.relation
WHERE c.relnamespace = to_regnamespace(:schema) AND l.granted AND a.pid <> pg_backend_pid() ORDER BY a.xact_start
"""


def dependents(connection: sa.Connection, schema: str) -> list[str]:
    """Describe what stands elsewhere and depends on things of a schema: views, references, functions."""
    # PostgreSQL leaves out the schema of what is in the search path; all our own statements name it.
    connection.execute(sa.text("SELECT set_config('search_path', '', true)"))
    return list(connection.scalars(sa.text(_DEPENDENTS), {"schema": _quoted(connection, schema)}))


def replace(database: Database, new: str, old: str, *, keep_old: bool) -> None:
    """Rename a schema to the name of that of a database.

    Nobody reads the former tables at that moment, and whoever waits for one of them finds the new one under its name.

    Parameters
    ----------
    database : Database
    new, old : str
        Schema that comes, and name under which the one that goes is kept.
    keep_old : bool

    Raises
    ------
    SchemaError
        If things of others would be lost.
    LockedError
        If somebody uses the tables for longer than ten minutes; the message says who.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            with database.begin(durable=True) as connection:
                _replace(database, connection, new, old, keep_old=keep_old)
            return
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _GAVE_UP:
                raise
            if time.monotonic() > end:
                raise LockedError(_in_use(database, new)) from error
        time.sleep(_PAUSE)


def _replace(database: Database, connection: sa.Connection, new: str, old: str, *, keep_old: bool) -> None:
    present, new_name, old_name = database.schema or "", database.quote(new), database.quote(old)
    if _exists(connection, present):
        _hold(database, connection)
        _check(connection, present, new)
        for statement in connection.scalars(sa.text(_RIGHTS), {"schema": present, "other": new}).all():
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        if keep_old and _exists(connection, old):
            _check(connection, old, present)
            connection.exec_driver_sql(f"DROP SCHEMA {old_name} CASCADE")
        # All that stands there stands in the new schema too, and nothing elsewhere depends on it.
        change = f"RENAME TO {old_name}" if keep_old else ""
        name = database.quote(present)
        connection.exec_driver_sql(f"ALTER SCHEMA {name} {change}" if change else f"DROP SCHEMA {name} CASCADE")
    connection.exec_driver_sql(f"ALTER SCHEMA {new_name} RENAME TO {database.quote(present)}")


def _hold(database: Database, connection: sa.Connection) -> None:
    """Lock all tables of a schema, so that nobody reads them, or give up soon."""
    query = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(:schema) AND relkind = 'r' ORDER BY 1"
    schema = _quoted(connection, database.schema or "")
    tables = connection.scalars(sa.text(query), {"schema": schema}).all()
    before = connection.scalar(sa.text("SELECT current_setting('statement_timeout')"))
    setting = sa.text("SELECT set_config('statement_timeout', :value, true)")
    deadlock = connection.scalar(sa.text("SELECT setting::integer FROM pg_settings WHERE name = 'deadlock_timeout'"))
    connection.execute(setting, {"value": str(max(1, min(_MOST_WAIT, (deadlock or 1) // 2)))})
    if tables:
        names = ", ".join(database.name(table) for table in tables)
        connection.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
    connection.execute(setting, {"value": before})


def _check(connection: sa.Connection, schema: str, other: str) -> None:
    """Make sure that nothing is lost with a schema but what another has under the same name.

    Raises
    ------
    SchemaError
    """
    here, there = (
        set(connection.scalars(sa.text(_THINGS), {"schema": _quoted(connection, name)})) for name in (schema, other)
    )
    if lost := sorted(here - there):
        raise SchemaError(
            f"schema {schema} has what schema {other} has not: {_few(lost)}; make it there, or drop it here"
        )
    if outside := dependents(connection, schema):
        raise SchemaError(f"on schema {schema} depend {_few(outside)}; drop these first, and make them anew afterwards")


def _few(names: list[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _exists(connection: sa.Connection, schema: str) -> bool:
    query = sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :schema")
    return connection.scalar(query, {"schema": schema}) is not None


def _quoted(connection: sa.Connection, schema: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(schema)


def _in_use(database: Database, new: str) -> str:
    with database.connect() as connection:
        found = connection.execute(sa.text(_HOLDERS), {"schema": _quoted(connection, database.schema or "")}).all()
    who = "; ".join(
        f"server process {pid} of user {user} ({state}, since {since:%Y-%m-%d %H:%M:%S})"
        for pid, user, state, since in found
    )
    return (
        f"the tables of {database.place} are in use: {who or 'by many in turn'}; all is loaded in schema {new}: give "
        "the command again"
    )
